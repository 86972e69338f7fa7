"""A booting master's gate and the collector's word on it: each ground alone. As in ``test_each_act.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.failover.test_reversals import intended
from tests.core.known import Change, Moment, both, facts, live, moment_of, of_role, record, silent
from tests.core.pool import uuid
from tests.core.recovery.test_unheard_at_boot import Booting

from poolwarden_collector.core.engine import StepResult
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import AlertRaised, AnswerGate, Effect
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import RoleClaim
from poolwarden_collector.core.model.values import ProcessId, Role
from poolwarden_collector.core.recovery import boot_gate, unheard_at_boot
from poolwarden_collector.core.state.failover_record import Failover, Path, Step
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.live_slices import (
    BootGates,
    FencedHosts,
    LastLook,
    Told,
    UnheardHosts,
    WaitingGate,
)
from poolwarden_collector.core.state.pool_record import Confirmed, Owed, OwedWork
from poolwarden_collector.core.state.transaction import Transaction


def opens(effect: Effect) -> bool:
    return isinstance(effect, AnswerGate) and effect.decision == "open"


@pytest.fixture(scope="module")
def asked() -> Moment:
    """The master has rebooted, everybody is heard and follows it: its gate is opened."""

    def reboots() -> None:
        g = Booting()
        g.reboot()
        g.gate(2_000)

    return moment_of(opens, reboots)


def word(outcome: StepResult) -> AnswerGate:
    (found,) = [effect for effect in outcome.effects if isinstance(effect, AnswerGate)]
    return found


def decision(moment: Moment, *changes: Change) -> str:
    return word(moment.again(both(*changes))).decision


def a_failover(step: Step, old: int = 1, candidate: int = 2, **more: Any) -> Change:
    """A failover of the present term at this step."""

    def change(pool: Pool) -> Pool:
        found = Failover("f-1", uuid(old) if old else "", "boot-1-1", pool.record.term, step, uuid(candidate), **more)
        return record(failover=found)(pool)

    return change


def owes(n: int, what: OwedWork = OwedWork.TOMBSTONE, successor: int = 2) -> Change:
    return record(owed=(Owed(uuid(n), what, uuid(successor), 1),))


def test_it_opens_where_nothing_stands_against_it(asked: Moment) -> None:
    assert decision(asked) == "open"


def test_a_collector_that_another_one_has_replaced_says_nothing(asked: Moment) -> None:
    assert not asked.again(record(stale_epoch=asked.site.epoch + 1)).effects
    assert decision(asked, record(stale_epoch=asked.site.epoch)) == "open"


def test_in_quiet_time_it_waits(asked: Moment) -> None:
    assert word(asked.again(quiet_until=asked.now + 1)).decision == "wait"
    assert word(asked.again(quiet_until=asked.now)).decision == "open"


@pytest.mark.parametrize("step", [Step.PROMOTING, Step.PROMOTED])
def test_the_old_master_of_a_promotion_is_shut_and_told_its_successor_once_he_is_verified(
    asked: Moment, step: Step
) -> None:
    said = word(asked.again(a_failover(step)))
    assert said.decision == "shut" and said.successor == ""
    serves = of_role(2, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    said = word(asked.again(both(a_failover(step), serves)))
    # Seen serving by its own word, it is verified in this very step only where nobody else is there to ask it.
    assert (said.decision, said.successor) == ("shut", "" if step is Step.PROMOTING else uuid(2))
    on_record = word(asked.again(both(a_failover(step), record(master=uuid(2)))))
    assert on_record.successor == (uuid(2) if step is Step.PROMOTED else "")


def test_a_failover_of_somebody_else_that_is_promoting_shuts_nobody(asked: Moment) -> None:
    assert decision(asked, a_failover(Step.PROMOTING, old=3)) == "open"


def test_one_that_has_ended_shuts_nobody(asked: Moment) -> None:
    for step in (Step.CLOSED, Step.ABORTED, Step.SUPERSEDED):
        assert decision(asked, a_failover(step)) == "open", step


def test_where_nobody_was_master_everybody_but_the_candidate_is_shut(asked: Moment) -> None:
    roles = {"old": 0, "path": Path.ROLES}
    assert decision(asked, a_failover(Step.PROMOTING, **roles)) == "shut"
    candidate = word(asked.again(a_failover(Step.PROMOTING, candidate=1, **roles)))
    assert candidate.decision == "wait" and "not proven" in candidate.reason
    assert decision(asked, a_failover(Step.PROMOTED, candidate=1, **roles)) == "open"  # it has served since
    assert decision(asked, a_failover(Step.PROMOTING, old=3, candidate=2)) == "open"  # another path, another master


def test_who_is_owed_a_tombstone_is_shut_unless_it_is_the_master_on_record(asked: Moment) -> None:
    succeeded = record(master=uuid(2))
    said = word(asked.again(both(succeeded, owes(1))))
    assert (said.decision, said.successor) == ("shut", uuid(2))
    assert decision(asked, owes(1)) == "open"
    for other in (owes(3), owes(1, OwedWork.REPOINT)):
        assert decision(asked, succeeded, other) == "open"  # that one is heard, and is no master any more
        assert decision(asked, succeeded, silent(2), other) == "wait"


def test_beside_one_that_serves_it_is_shut(asked: Moment) -> None:
    said = word(asked.again(of_role(2, serves_as_master=True)))
    assert (said.decision, said.successor) == ("shut", uuid(2))
    assert decision(asked, of_role(1, serves_as_master=True)) == "open"


def test_beside_one_that_is_set_to_be_master_it_waits(asked: Moment) -> None:
    for other in ({"pool_conf": Role.MASTER}, {"running": Role.MASTER}):
        assert decision(asked, of_role(2, **other)) == "wait"


def test_while_a_heard_member_follows_somebody_else_it_waits(asked: Moment) -> None:
    follows = of_role(2, master_address="10.0.0.9")
    assert decision(asked, follows) == "wait"
    unknown = replace(asked.pool.record.hosts[uuid(1)], address="")
    hosts = {**asked.pool.record.hosts, uuid(1): unknown}
    assert "follows" not in word(asked.again(both(follows, record(hosts=hosts)))).reason  # nothing to compare it with


def test_where_somebody_else_was_master_it_waits(asked: Moment) -> None:
    assert decision(asked, record(master=uuid(3)), silent(3)) == "wait"
    assert decision(asked, record(master=uuid(3))) == "open"  # it is heard, and follows
    assert decision(asked, record(master="")) == "open"


def test_the_last_master_is_waited_for_however_long_it_is_dark_unless_it_is_off(asked: Moment) -> None:
    """Any other host that everybody finds dark for ten minutes, while another one follows, is waited for no longer."""
    at, long = asked.now, asked.now - unheard_at_boot.DARK_MS
    nothing = Told(RoleClaim.SILENT, at, long)
    dark = both(
        silent(3),
        *(facts(n, lambda f: replace(f, probes=())) for n in (1, 2)),
        live(UnheardHosts, dark={uuid(3): (long, at)}, told={uuid(3): {uuid(1): nothing, uuid(2): nothing}}),
        live(BootGates, waiting={uuid(1): WaitingGate("boot-1-2", long, at)}),
    )
    assert decision(asked, dark) == "open"
    assert decision(asked, dark, record(master=uuid(3))) == "wait"
    word = Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled")
    assert decision(asked, dark, record(master=uuid(3), confirmed={uuid(3): word})) == "open"


def test_one_without_a_readable_pool_conf_follows_nobody_else(asked: Moment) -> None:
    assert decision(asked, of_role(3, pool_conf=Role.BROKEN, master_address="")) == "open"


def test_a_host_that_speaks_for_itself_is_not_to_be_confirmed_off(asked: Moment) -> None:
    def body(ground: str, spoken: bool = False) -> str:
        d = after_asking(asked)
        answer = boot_gate.Answer("wait", "so it is", ground=ground, waits=(uuid(3),), spoken=spoken)
        boot_gate._alert(d, uuid(1), answer)
        (alert,) = d.alerts
        assert isinstance(alert, AlertRaised)
        return alert.body

    assert "poolwarden confirm-fenced host-3" in body(f"unheard/{uuid(3)}")
    for ground in ("acts", "follows"):
        assert "confirm-fenced" not in body(f"{ground}/{uuid(3)}", spoken=True)


def after_asking(asked: Moment) -> Transaction:
    return Transaction(asked.pool, asked.now, asked.site)


# ------------------------------------------------------------------------------------------------ a candidate's gate


@pytest.fixture(scope="module")
def of_candidate() -> Moment:
    """The candidate rebooted on its way; the old master's power still reads OFF: its gate opens as its order would."""

    def reboots() -> None:
        g = intended()
        host = g.host(2)
        g.run(1_000)
        host.boot, host.pool_conf, host.running = "boot-2-2", Role.MASTER, Role.UNKNOWN
        host.process, host.liveness, host.socket = ProcessId(0, 0), Liveness.DOWN, Liveness.DOWN
        g.connect(host)
        for _ in range(20):
            g.report(host)
            g.feed(ev.GateAsked(host.uuid, host.stream, host.boot, Role.MASTER))
            g.run(1_000)

    return moment_of(opens, reboots)


def test_the_gate_of_a_candidate_opens_on_what_its_order_would_be_sent_on(of_candidate: Moment) -> None:
    assert decision(of_candidate) == "open"
    unread = {name: replace(state, readings=()) for name, state in of_candidate.pool.live.power.items()}
    said = word(of_candidate.again(live(power=unread)))
    assert said.decision == "wait" and "not proven" in said.reason
    said = word(of_candidate.again(live(LastLook, round=None)))
    assert said.decision == "wait" and "looked at once more" in said.reason
    said = word(of_candidate.again(of_role(3, pool_conf=Role.MASTER)))
    assert said.decision == "wait" and "not let go on" in said.reason


# ------------------------------------------------------------------------------------------------ while it waits


def test_a_gate_in_another_boot_has_waited_for_no_time_yet(asked: Moment) -> None:
    known = asked.pool.live.gates.waiting.get(uuid(1)) or WaitingGate("boot-1-2", 7, asked.now)
    boot = asked.pool.live.agents[uuid(1)].hello.boot_id

    def since(of: str) -> int:
        gates = {uuid(1): replace(known, boot=of, since=7, at=asked.now)}
        return asked.again(live(BootGates, waiting=gates)).pool.live.gates.waiting[uuid(1)].since

    assert since(boot) == 7 and since("boot-1-1") == asked.now


def alerts(asked: Moment, key: str, *changes: Change, **of_site: Any) -> bool:
    """Is this alert over after a moment?"""
    full = f"{asked.pool.record.pool}/{key}"
    opened = both(record(open_alerts=(full,)), *changes)
    return full not in replace(asked, event=ev.Tick()).again(opened, **of_site).pool.record.open_alerts


def test_the_alert_of_a_gate_ends_when_it_asks_no_more_and_quiet_time_is_long_over(asked: Moment) -> None:
    asked = replace(asked, now=asked.now + 60_000)
    gone, at = boot_gate.GONE_MS, asked.now
    waits = {uuid(1): WaitingGate("boot-1-2", at, at)}
    early = {"quiet_until": at - gone + 1}
    long = {"quiet_until": at - gone}
    assert alerts(asked, f"gate-{uuid(1)}/unheard", live(BootGates, waiting={}), **long)
    assert not alerts(asked, f"gate-{uuid(1)}/unheard", live(BootGates, waiting={}), **early)
    assert not alerts(asked, f"gate-{uuid(1)}/unheard", live(BootGates, waiting=waits), **long)
    late = {uuid(1): WaitingGate("boot-1-2", 0, at - gone)}
    assert alerts(asked, f"gate-{uuid(1)}/unheard", live(BootGates, waiting=late), **long)


def test_the_alert_of_a_dark_host_ends_when_it_is_heard_excused_or_no_host_any_more(asked: Moment) -> None:
    hosts = {host: known for host, known in asked.pool.record.hosts.items() if host != uuid(3)}
    dark = both(silent(3), facts(2, lambda f: replace(f, probes=())))
    assert alerts(asked, f"gate-dark/{uuid(3)}")
    assert not alerts(asked, f"gate-dark/{uuid(3)}", dark)
    assert alerts(asked, f"gate-dark/{uuid(3)}", dark, record(hosts=hosts))


# ------------------------------------------------------------------------------------------------ who is not heard

LONG = unheard_at_boot.DARK_MS


def judged(asked: Moment, *changes: Change, since: int = LONG) -> str:
    """What the silent hosts come to, by its ground; empty: it may open. Host 3 is silent, nothing is known of it."""
    quiet = both(silent(3), *(facts(n, lambda f: replace(f, probes=())) for n in (1, 2)))
    tx = Transaction(both(quiet, *changes)(asked.pool), asked.now, asked.site)
    return unheard_at_boot.judge(tx, uuid(1), asked.now - since).ground.partition("/")[0]


def told(
    asked: Moment, said: RoleClaim, follows: str = "", *, by: tuple[int, ...] = (1, 2), over: int = LONG
) -> Change:
    """Host 3's xapi has told this to these agents, over so long, and is dark for ten minutes if it told nothing."""
    word = Told(said, asked.now, asked.now - over, follows)
    known = live(UnheardHosts, told={uuid(3): {uuid(n): word for n in by}})
    return both(known, dark(asked)) if said is RoleClaim.SILENT else known


def dark(asked: Moment, since: int = LONG, last: int = 0) -> Change:
    return live(UnheardHosts, dark={uuid(3): (asked.now - since, asked.now - last)})


def test_a_silent_host_that_speaks_against_the_booting_one_is_heeded(asked: Moment) -> None:
    assert judged(asked, told(asked, RoleClaim.ACTS)) == "acts"
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.9")) == "follows"
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.1")) == ""
    nameless = replace(asked.pool.record.hosts[uuid(1)], address="")
    hosts = record(hosts={**asked.pool.record.hosts, uuid(1): nameless})
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.1"), hosts) == "follows"  # nothing to compare it with
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, ""), hosts) == "follows"
    assert judged(asked, told(asked, RoleClaim.UNTOLD, "10.0.0.9")) == "unheard"
    assert judged(asked, record(listed=frozenset())) == "unlisted"


def test_one_follows_only_if_it_has_said_so_over_a_fuse_since_the_gate_asks(asked: Moment) -> None:
    fuse = unheard_at_boot.FUSE_MS
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.1", over=fuse)) == ""
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.1", over=fuse - 1)) == "unheard"
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.1"), since=fuse) == ""
    assert judged(asked, told(asked, RoleClaim.FOLLOWS, "10.0.0.1"), since=fuse - 1) == "unheard"
    assert judged(asked, told(asked, RoleClaim.UNTOLD, "", over=LONG)) == "unheard"


def test_one_that_is_dark_is_let_be_dark_only_on_every_ground(asked: Moment) -> None:
    nothing = told(asked, RoleClaim.SILENT)
    assert judged(asked, nothing) == ""
    assert judged(asked) == "unheard"
    assert judged(asked, nothing, dark(asked, LONG - 1)) == "unheard"
    assert judged(asked, nothing, dark(asked, last=unheard_at_boot.DARK_GAP_MS)) == ""
    assert judged(asked, nothing, dark(asked, last=unheard_at_boot.DARK_GAP_MS + 1)) == "unheard"
    assert judged(asked, nothing, since=LONG - 1) == "unheard"
    for by in ((1,), (2,)):  # to the booting host and to each that follows it
        assert judged(asked, both(told(asked, RoleClaim.SILENT, by=by), dark(asked))) == "unheard"
    assert judged(asked, told(asked, RoleClaim.SILENT, by=(1,)), of_role(2, pool_conf=Role.BROKEN)) == "unheard"
    for other in ({"master_address": "10.0.0.9"}, {"pool_conf": Role.MASTER}):  # nobody follows it
        assert judged(asked, nothing, of_role(2, **other)) == "unheard"


def test_beside_a_silent_host_that_follows_another_one_may_be_dark(asked: Moment) -> None:
    """All agents but the booting host's are silent: host 2's own xapi says that it follows."""
    follows = Told(RoleClaim.FOLLOWS, asked.now, asked.now - LONG, "10.0.0.1")
    nothing = Told(RoleClaim.SILENT, asked.now, asked.now - LONG)
    said = live(UnheardHosts, told={uuid(2): {uuid(1): follows}, uuid(3): {uuid(1): nothing}})
    alone = live(UnheardHosts, told={uuid(2): {uuid(1): nothing}, uuid(3): {uuid(1): nothing}})
    both_dark = live(UnheardHosts, dark={uuid(n): (asked.now - LONG, asked.now) for n in (2, 3)})
    assert judged(asked, silent(2), said, both_dark) == ""
    assert judged(asked, silent(2), alone, both_dark) == "unheard"  # silence would be the whole proof
    one_is_not = live(UnheardHosts, dark={uuid(3): (asked.now - LONG, asked.now)})
    four = replace(asked.pool.record.hosts[uuid(3)], host=uuid(4), name="host-4")
    another = record(hosts={**asked.pool.record.hosts, uuid(4): four})
    assert judged(asked, silent(2), said, another, one_is_not) == "unheard"


def test_whoever_gave_a_sign_of_life_begins_anew_to_be_dark(asked: Moment) -> None:
    def left(*changes: Change) -> bool:
        unprobed = [facts(n, lambda f: replace(f, probes=())) for n in (1, 2)]
        tx = Transaction(both(silent(3), *unprobed, dark(asked), *changes)(asked.pool), asked.now, asked.site)
        unheard_at_boot.ask(tx, uuid(1))
        return uuid(3) in tx.live.unheard.dark

    assert left() and not left(live(FencedHosts, voices={uuid(3): (asked.now, "told its role")}))
