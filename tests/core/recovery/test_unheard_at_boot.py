"""A booting master's gate while hosts on record are not heard: asked, excused, dark, or waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import POOL, QUIET, Guarded, address, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import AnswerGate
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import OrderOutcome, RoleAnswer, RoleClaim
from poolwarden_collector.core.model.order_results import Outcome as OrderEnd
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import ProcessId, Role
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.transaction import Transaction

pytestmark = pytest.mark.slow  # minutes of virtual or many kills of real time in each


class Booting(Guarded):
    """A pool whose master reboots; what silent hosts say of their role is said by hand."""

    def __init__(self, hosts: int = 3, devices: bool = False) -> None:
        self.says_of: dict[str, RoleAnswer] = {}
        super().__init__(hosts, devices)
        self.run(4_000)

    def role_told(self, asked: str) -> RoleAnswer:
        return self.says_of.get(asked) or super().role_told(asked)

    def say_of(self, n: int, said: RoleClaim, follows: str = "", answers: bool = False) -> None:
        self.says_of[uuid(n)] = RoleAnswer(uuid(n), said, follows, answers)

    def silence(self, *numbers: int) -> None:
        for n in numbers:
            host = self.host(n)
            host.agent = host.answers = False
            self.feed(ev.AgentGone(host.uuid, host.stream))
        self.run(20_000)

    def reboot(self, n: int = 1) -> None:
        host = self.host(n)
        self.feed(ev.AgentGone(host.uuid, host.stream))
        host.boot = f"boot-{n}-2"
        host.running, host.serves, host.answers = Role.UNKNOWN, False, False
        host.process, host.liveness, host.socket = ProcessId(0, 0), Liveness.DOWN, Liveness.DOWN
        self.connect(host)
        self.report(host)

    def gate(self, ms: int, n: int = 1) -> AnswerGate:
        """Its gate asks each two seconds for so long; the last answer."""
        host, last = self.host(n), None
        for _ in range(0, max(ms, 2_000), 2_000):
            self.run(2_000)
            asked = self.feed(ev.GateAsked(host.uuid, host.stream, host.boot, Role.MASTER))
            last = next(e for e in asked.effects if isinstance(e, AnswerGate))
        assert last is not None
        return last

    def open_alerts(self, text: str) -> list[str]:
        return [key for key in self.pool.record.open_alerts if text in key]


def test_everybody_heard_opens_at_once() -> None:
    g = Booting()
    g.reboot()
    assert g.gate(2_000).decision == "open"


def test_a_silent_host_is_named_with_everything_that_ends_the_wait() -> None:
    g = Booting()
    g.silence(3)
    g.reboot()
    answer = g.gate(40_000)
    assert answer.decision == "wait" and "host-3 is not heard" in answer.reason
    for way in ("is heard or reads OFF", "poolwarden confirm-fenced host-3", "poolwarden-agent gate open"):
        assert way in answer.reason
    assert len(answer.reason) <= 200, "the agent keeps no more of it"
    assert g.open_alerts("gate-") and "waits at its boot gate" in g.entry(Kind.ALERT).text
    g.connect(g.host(3))
    g.host(3).agent = True
    assert g.gate(4_000).decision == "open" and not g.open_alerts("gate-")


def test_acting_as_master_shuts_it_by_anybodys_word() -> None:
    g = Booting()
    g.silence(3)
    g.say_of(3, RoleClaim.ACTS)
    g.reboot()
    answer = g.gate(4_000)
    assert answer.decision == "shut" and "host-3, whose agent is silent, acts as master" in answer.reason
    assert not answer.successor, "nobody has verified him: no pool.conf names him"


def test_following_somebody_else_keeps_it_waiting_whether_that_one_answers_or_not() -> None:
    for answers in (True, False):
        g = Booting()
        g.silence(3)
        g.say_of(3, RoleClaim.FOLLOWS, address(2), answers)
        g.reboot()
        assert g.gate(700_000).decision == "wait"
        assert f"follows {address(2)}" in g.entry(Kind.GATE_ANSWER).text


def test_following_it_is_as_good_as_heard_once_a_fuse_is_over() -> None:
    g = Booting()
    g.silence(2, 3)
    for n in (2, 3):
        g.say_of(n, RoleClaim.FOLLOWS, address(1))
    g.reboot()
    assert g.gate(8_000).decision == "wait"
    assert g.gate(12_000).decision == "open"


def test_a_host_that_stops_following_is_waited_for_again() -> None:
    g = Booting()
    g.silence(2, 3)
    g.say_of(2, RoleClaim.FOLLOWS, address(1))
    g.say_of(3, RoleClaim.FOLLOWS, address(1))
    g.reboot()
    g.gate(8_000)
    g.say_of(3, RoleClaim.SILENT)  # it was told to become master, and its xapi restarts
    assert g.gate(30_000).decision == "wait"
    g.say_of(3, RoleClaim.ACTS)
    assert g.gate(6_000).decision == "shut"


def test_a_dead_member_whose_power_can_be_read_opens_it_after_two_readings() -> None:
    g = Booting(devices=True)
    g.cut_power(3)
    g.run(20_000)
    g.reboot()
    assert g.gate(2_000).decision == "wait"
    assert g.gate(6_000).decision == "open"


def test_one_that_reads_on_is_waited_for() -> None:
    g = Booting(2, devices=True)
    g.silence(2)
    g.reboot()
    answer = g.gate(700_000)
    assert answer.decision == "wait"
    assert any(r.power is Power.ON for r in g.pool.live.power["bmc-2"].readings)


def test_dark_for_ten_minutes_beside_a_follower_opens_it_loudly() -> None:
    g = Booting()
    g.silence(3)
    g.reboot()
    assert g.gate(590_000).decision == "wait"
    answer = g.gate(20_000)
    assert answer.decision == "open" and "host-3 stayed dark" in answer.reason
    assert g.open_alerts("gate-dark/")
    g.host(3).agent = True
    g.connect(g.host(3))
    g.run(4_000)
    assert not g.open_alerts("gate-dark/")


def test_a_follower_whose_agent_is_away_will_do() -> None:
    g = Booting()
    g.silence(2, 3)
    g.say_of(2, RoleClaim.FOLLOWS, address(1))
    g.reboot()
    assert g.gate(620_000).decision == "open"


def test_nobody_follows_and_all_are_dark_waits_for_ever() -> None:
    g = Booting()
    g.silence(2, 3)
    g.reboot()
    assert g.gate(1_400_000).decision == "wait"


def test_a_host_that_is_alive_and_tells_no_role_is_never_dark() -> None:
    g = Booting()
    g.silence(3)
    g.say_of(3, RoleClaim.UNTOLD)
    g.reboot()
    assert g.gate(1_400_000).decision == "wait"
    assert g.open_alerts("gate-")


def test_one_sign_of_life_in_ten_minutes_counts_them_anew() -> None:
    g = Booting()
    g.silence(3)
    g.reboot()
    g.gate(400_000)
    g.say_of(3, RoleClaim.UNTOLD)
    g.gate(6_000)
    g.say_of(3, RoleClaim.SILENT)
    assert g.gate(400_000).decision == "wait"
    assert g.gate(250_000).decision == "open"


def test_a_restarted_collector_counts_the_ten_minutes_anew() -> None:
    g = Booting()
    g.silence(3)
    g.reboot()
    g.gate(500_000)
    g.restart_collector()
    assert g.gate(560_000).decision == "wait"
    assert g.gate(80_000).decision == "open"


def test_the_alert_of_a_gate_that_does_not_ask_any_more_ends() -> None:
    g = Booting()
    g.silence(3)
    g.reboot()
    g.gate(40_000)
    assert g.open_alerts("gate-")
    g.run(40_000)
    assert not g.open_alerts("gate-")


def test_an_agent_that_does_not_answer_such_questions_opens_nothing() -> None:
    g = Booting()
    g.silence(3)
    g.on_order = lambda host, order: OrderOutcome(order.order_id, order.kind_name, OrderEnd.DONE)
    g.reboot()
    assert g.gate(1_400_000).decision == "wait", "silence that nobody was asked about is no darkness"


def test_what_the_booting_host_alone_has_asked_is_no_darkness() -> None:
    """Its follower cannot ask: between the booting host and the silent one there may just be a cut link."""
    g = Booting()
    g.silence(3)
    mute = OrderEnd.DONE
    g.on_order = lambda host, order: (
        OrderOutcome(order.order_id, order.kind_name, mute) if host.uuid == uuid(2) else g.default(host, order)
    )
    g.reboot()
    assert g.gate(1_400_000).decision == "wait"


def test_a_heard_host_whose_agent_does_not_tell_its_pool_conf_is_asked_as_well() -> None:
    g = Booting()
    g.host(3).pool_conf = Role.UNKNOWN
    g.say_of(3, RoleClaim.ACTS)
    g.run(4_000)
    g.reboot()
    assert g.gate(6_000).decision == "shut"


def test_a_journal_that_no_master_has_listed_hosts_in_opens_nothing() -> None:
    g = Booting()
    g.reboot()
    g.now += 1_000
    g.site = Site(2, g.now, g.now + QUIET)
    g.journal, g.folded = [], PoolRecord(POOL)
    g.pool = Pool(PoolRecord(POOL), g.policy, {})
    for host in g.hosts:
        g.connect(host)
    answer = g.gate(1_400_000)
    assert answer.decision == "wait" and "which hosts the pool has" in answer.reason
    g.host(2).pool_conf, g.host(2).running, g.host(2).serves = Role.MASTER, Role.MASTER, True
    assert g.gate(6_000).decision == "shut"


def test_a_host_that_was_ejected_is_not_waited_for() -> None:
    g = Booting()
    g.silence(3)
    gone = g.hosts.pop()
    g.run(70_000)
    assert gone.uuid not in g.pool.record.hosts and g.pool.record.listed == {uuid(1), uuid(2)}
    g.reboot()
    assert g.gate(2_000).decision == "open"


def test_each_agent_asks_two_hosts_at_a_time_and_all_get_their_turn() -> None:
    g = Booting(6)
    g.silence(3, 4, 5, 6)
    g.reboot()
    g.gate(20_000)
    for n in (1, 2):
        asked = [o.kind.ask_role for o in g.host(n).orders if "/gate/" in o.order_id]  # type: ignore[union-attr]
        assert all(1 <= len(targets) <= 2 for targets in asked)
        assert {target.host for targets in asked for target in targets} == {uuid(k) for k in (3, 4, 5, 6)}
    g.gate(640_000)
    assert g.gate(2_000).decision == "open"


def test_readiness_names_whom_the_gate_would_wait_for() -> None:
    g = Booting()
    assert not [why for why in not_ready(Transaction(g.pool, g.now, g.site)) if "gate" in why]
    g.silence(3)
    found = [why for why in not_ready(Transaction(g.pool, g.now, g.site)) if "gate" in why]
    assert len(found) == 1 and found[0].startswith("host-3 is not heard and not proven off")


def test_a_late_answer_to_an_earlier_question_changes_nothing() -> None:
    g = Booting()
    g.silence(3)
    g.reboot()
    g.gate(20_000)
    first = next(o for o in g.host(2).orders if "/gate/" in o.order_id)
    before = g.pool.live.unheard.told
    late = OrderOutcome(first.order_id, "probe_now", OrderEnd.DONE, roles=(RoleAnswer(uuid(3), RoleClaim.ACTS),))
    g.feed(ev.OrderAnswered(uuid(2), g.host(2).stream, late))
    assert g.pool.live.unheard.told == before
    assert replace(late).roles
