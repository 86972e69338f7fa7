"""Policy start_lost: what must be seen before a lost VM starts by itself, each missing in turn; and what ends it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.followups.test_lost_vms import ABLE, World, back, restart
from tests.core.pool import QUIET, Guarded, Host, uuid

from poolwarden_collector.core.followups import policy_starts
from poolwarden_collector.core.followups.declare_dead import wants_reading
from poolwarden_collector.core.followups.policy_starts import CAPABILITY
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OrderAnswered
from poolwarden_collector.core.model.host_facts import Finding, HostFacts, Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, StartWish, VmPlace
from poolwarden_collector.core.model.orders import LocateVms, Order, StartVm
from poolwarden_collector.core.model.policy import Policy, PolicyError
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.report.journal_view import JournalView
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.followup_record import fold_followups
from poolwarden_collector.core.state.snapshot import Snapshot

pytestmark = pytest.mark.slow  # minutes of a pool's life in each

TAGGED = Policy(quiet_time=QUIET, start_lost="tagged")
ALL_ABLE = ABLE | {CAPABILITY}


class Wishing(World):
    """A pool whose owners wish some VMs to be started: by default all."""

    def __init__(self, vms: int = 2, policy: Policy = TAGGED, able: frozenset[str] = ALL_ABLE, hosts: int = 3) -> None:
        self.wishes: dict[str, StartWish | None] = {}
        self.power_state = "Halted"
        self.slow = False
        self.asked: list[tuple[str, ...]] = []
        super().__init__(hosts, vms, policy=policy)
        for host in self.g.hosts:
            self.g.connect(host, capabilities=able)
        self.g.run(10_000)

    def answer(self, host: Host, order: Order) -> OrderOutcome | None:
        if not isinstance(order.kind, LocateVms):
            return super().answer(host, order)
        self.asked.append(order.kind.vms)
        hosts = ((uuid(2), self.refusal), (uuid(3), self.refusal))
        places = (VmPlace(vm, vm, self.power_state, hosts, "", self.wish(vm)) for vm in order.kind.vms)
        return OrderOutcome(order.order_id, order.kind_name, Outcome.DONE, vm_places=tuple(places))

    def wish(self, vm: str) -> StartWish | None:
        return self.wishes.get(vm, StartWish(True))

    def dies(self) -> None:
        """Until the dead master is declared dead."""
        self.g.cut_power()
        self.until(lambda: self.g.has(Kind.DECLARED_DEAD), 120_000)

    def until(self, so: Callable[[], bool], limit: int) -> None:
        """Time passes until it is so."""
        end = self.g.now + limit
        while not so():
            assert self.g.now < end, self.g.journal[-1].text
            self.g.run(500)

    def starts_all(self) -> bool:
        self.g.run(30_000)
        return sorted(vm for vm, _ in self.started) == ["vm-1", "vm-2"]

    def alerts(self) -> str:
        return "\n".join(
            str(e.data["body"]) for e in self.g.journal if e.kind is Kind.ALERT and "not started" in e.text
        )

    def holds(self, *words: str) -> None:
        """Nothing starts, and within a minute an alert says why."""
        self.g.run(60_000)
        assert self.started == []
        for word in words:
            assert word in self.alerts(), self.alerts()


def test_what_its_owner_wishes_starts_and_the_others_wait_for_a_word() -> None:
    w = Wishing(vms=3)
    w.wishes["vm-3"] = StartWish(False)
    w.dies()
    assert w.starts_all()
    assert w.states() == {"vm-1": "started", "vm-2": "started", "vm-3": "lost"} and not w.alerts()
    starts = w.told("start_vm")
    assert all(isinstance(order.kind, StartVm) and order.kind.only_if_wished for order in starts)
    assert all(order.valid_for_ms <= policy_starts.VALID_MS and order.preconditions.ha_off for order in starts)
    w.g.say("start-lost")
    w.g.run(20_000)
    assert w.told("start_vm")[-1].kind == StartVm("vm-3", w.started[-1][1]), "at a word, whatever its owner wishes"


def test_by_default_nothing_starts() -> None:
    w = Wishing(policy=Policy(quiet_time=QUIET))
    w.dies()
    w.g.run(120_000)
    assert w.started == [] and w.states() == {"vm-1": "lost", "vm-2": "lost"} and not w.alerts()


@pytest.mark.parametrize("wrong", [{"start_lost": "always"}, {"start_lost": "tagged", "declare_dead": False}])
def test_a_policy_that_could_not_be_kept_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match="start_lost"):
        Policy(**wrong)  # type: ignore[arg-type]


def test_both_readings_begin_after_the_declaration() -> None:
    w = Wishing()
    w.dies()
    told = w.g.pool.live.policy_starts.declared[uuid(1)]
    w.until(lambda: bool(w.started), 30_000)
    readings = w.g.pool.live.power["bmc-1"].readings
    since = [each for each in readings if each.started_at > told and each.power is Power.OFF]
    assert len(since) >= 2 and since[-1].started_at - since[0].ended_at >= w.g.pool.policy.reading_gap
    assert w.g.now - since[-1].ended_at <= w.g.pool.policy.reading_fresh


def test_the_wish_is_asked_for_anew_for_each_start() -> None:
    w = Wishing()
    w.dies()
    assert w.starts_all()
    assert w.asked.count(("vm-1",)) >= 1 and w.asked.count(("vm-2",)) >= 1


def test_a_slow_xapi_is_asked_once_and_its_late_answer_counts() -> None:
    """A hundred VMs, a xapi that has just started: it takes longer than an order is valid."""
    w = Wishing()
    w.g.cut_power()
    answers: list[tuple[Host, OrderOutcome]] = []
    w.slow = True

    def late(host: Host, order: Order) -> OrderOutcome | None:
        told = w.answer(host, order)
        if isinstance(order.kind, LocateVms) and w.slow and told is not None:
            answers.append((host, told))
            return None
        return told

    w.g.on_order = late
    w.until(lambda: bool(answers), 120_000)
    w.g.run(50_000)
    assert len(answers) == 1 and w.started == []
    w.slow = False
    w.g.feed(OrderAnswered(answers[0][0].uuid, answers[0][0].stream, answers[0][1]))
    assert w.starts_all()


# ------------------------------------------------------------------------------------------------ what holds it


def paused(w: Wishing) -> None:
    w.g.say("pause", reason="look first")


def cut(w: Wishing) -> None:
    w.g.host(3).agent = False


def without_domains(w: Wishing) -> None:
    w.g.host(3).domains = None


def armed(w: Wishing) -> None:
    w.g.host(3).ha = Tri.YES


def not_halted(w: Wishing) -> None:
    w.power_state = "Suspended"


def has_it_running(w: Wishing) -> None:
    w.power_state = "Running"


def against(w: Wishing) -> None:
    w.wishes = dict.fromkeys(("vm-1", "vm-2"), StartWish(True, "its start is blocked"))


def nowhere(w: Wishing) -> None:
    w.refusal = "VM_REQUIRES_SR shared"


def unlisted(w: Wishing) -> None:
    def more(told: HostFacts) -> HostFacts:
        if told.pool_view is None:
            return told
        other = replace(told.pool_view.hosts[0], host=uuid(9), name="host-9")
        return replace(told, pool_view=replace(told.pool_view, hosts=(*told.pool_view.hosts, other)))

    told_otherwise(w.g, more)


def without_a_list(w: Wishing) -> None:
    told_otherwise(w.g, lambda told: replace(told, pool_view=None))


def told_long_ago(w: Wishing) -> None:
    at = w.g.now - 60_000
    told_otherwise(w.g, lambda told: replace(told, observed=replace(told.observed, host=at)), 3)


def told_otherwise(g: Guarded, change: Callable[[HostFacts], HostFacts], n: int = 2) -> None:
    honest = g.facts

    def facts(host: Host) -> HostFacts:
        told = honest(host)
        return change(told) if host.n == n else told

    g.facts = facts  # type: ignore[method-assign]


def refused_connection(w: Wishing) -> None:
    probed(w, ProbeOutcome.REFUSED)


def probed(w: Wishing, outcome: ProbeOutcome) -> None:
    honest = w.g.probe

    def probe(host: Host, target: Host) -> Probe:
        found = honest(host, target)
        return replace(found, outcome=outcome) if target.n == 1 else found

    w.g.probe = probe  # type: ignore[method-assign]


def device_failed(w: Wishing) -> None:
    w.g.host(2).shows_assumption("declare-dead", Finding.FAILS, w.g.now)


HELD = [
    (paused, ()),
    (cut, ("host-3 is not heard",)),
    (without_domains, ("which VMs run on host-3 cannot be read",)),
    (armed, ("HA is armed on host-3",)),
    (not_halted, ()),
    (has_it_running, ("the master's database has it running",)),
    (against, ("its start is blocked",)),
    (nowhere, ("VM_REQUIRES_SR shared",)),
    (unlisted, ("host-9 is not heard",)),
    (without_a_list, ()),
    (told_long_ago, ("what host-3 runs was told too long ago",)),
    (refused_connection, ("something lives at the address of host-1",)),
]


@pytest.mark.parametrize(("harm", "words"), HELD, ids=lambda each: getattr(each, "__name__", ""))
def test_nothing_starts_while_anything_is_unseen(harm: Callable[[Wishing], None], words: tuple[str, ...]) -> None:
    w = Wishing()
    w.dies()
    harm(w)
    w.holds(*words)


@pytest.mark.parametrize("mode", ["ask", "observe"])
def test_only_in_the_mode_auto(mode: str) -> None:
    w = Wishing()
    w.dies()
    w.g.pool = replace(w.g.pool, policy=replace(w.g.pool.policy, mode=mode))
    w.holds("mode is " + mode)


def test_an_older_agent_of_the_new_master_is_asked_for_nothing_by_itself() -> None:
    w = Wishing(able=ABLE)
    w.dies()
    w.g.run(60_000)
    assert w.started == []


def test_a_host_that_reads_on_again_ends_it_until_a_person_says_so() -> None:
    w = Wishing()
    w.dies()
    w.g.host(1).power = Power.ON
    w.holds("is not proven off any more")
    assert w.states() == {"vm-1": "failed", "vm-2": "failed"}
    w.g.host(1).power = Power.OFF
    w.g.run(120_000)
    assert w.started == []
    w.g.say("start-lost")
    assert w.starts_all()


def test_a_host_that_is_back_ends_it_until_a_person_says_so() -> None:
    w = Wishing()
    w.dies()
    back(w)
    w.holds("is back: its VMs start at a person's word alone")
    w.g.say("start-lost")
    assert w.starts_all()


def test_what_its_own_host_did_not_run_at_the_end_is_a_persons_to_judge() -> None:
    """A database copy is minutes old; its owner had shut vm-2 down."""
    w = Wishing()
    w.g.host(1).domains = ("vm-1",)
    w.g.run(10_000)
    w.dies()
    w.g.run(60_000)
    assert [vm for vm, _ in w.started] == ["vm-1"]
    assert "did not have it running when it was last heard" in w.alerts()


def test_what_a_host_ran_long_before_its_end_is_not_what_it_ran_at_its_end() -> None:
    """Its agent was silent for ten minutes while its xapi served: its owner may have shut a VM down meanwhile."""
    w = Wishing()
    w.g.host(1).agent = False
    w.g.run(600_000)
    w.dies()
    w.holds("what ran there at the end is not known any more")
    w.g.say("start-lost")
    assert w.starts_all()


def test_a_person_who_declares_a_member_dead_starts_its_vms_himself() -> None:
    w = Wishing()
    w.g.host(1).domains, w.g.host(3).domains = (), ("vm-1", "vm-2")
    for host in w.g.hosts:
        placed = host.placements.placements if host.placements else ()
        here = tuple(replace(item, host=uuid(3)) for item in placed)
        host.placements = replace(host.placements, placements=here) if host.placements else None
    w.g.run(10_000)
    w.g.cut_power(3)
    w.g.run(30_000)
    w.g.say("declare-dead", 3, typed_name="host-3")
    w.g.run(60_000)
    assert w.g.has(Kind.DECLARED_DEAD) and w.states() == {"vm-1": "lost", "vm-2": "lost"} and w.started == []


def test_after_a_persons_word_about_the_master_a_declaration_at_a_word_starts_nothing() -> None:
    """No power proof was behind the failover; that its devices read OFF later is what a person goes by."""
    w = Wishing()
    w.g.cut_power()
    w.g.host(1).power = Power.UNKNOWN
    w.g.run(30_000)
    w.g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    w.until(lambda: w.g.has(Kind.CLOSED), 200_000)
    w.g.host(1).power = Power.OFF
    w.g.run(20_000)
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.until(lambda: w.g.has(Kind.DECLARED_DEAD), 30_000)
    w.g.run(60_000)
    assert w.states() == {"vm-1": "lost", "vm-2": "lost"} and w.started == []


def test_a_vm_that_runs_anywhere_is_never_started() -> None:
    w = Wishing()
    w.dies()
    w.g.host(3).domains = ("vm-1",)
    w.g.run(60_000)
    assert [vm for vm, _ in w.started] == ["vm-2"]


# ------------------------------------------------------------------------------------------------ order, ends


def test_lower_orders_first_and_their_delays_after_them() -> None:
    w = Wishing()
    w.wishes = {"vm-1": StartWish(True, order=5), "vm-2": StartWish(True, order=1, delay=40_000)}
    w.dies()
    w.g.run(30_000)
    assert [vm for vm, _ in w.started] == ["vm-2"]
    first = w.g.now
    w.until(lambda: len(w.started) == 2, 60_000)
    assert [vm for vm, _ in w.started] == ["vm-2", "vm-1"] and w.g.now - first >= 10_000


@pytest.mark.parametrize("end", [Outcome.FAILED, Outcome.UNKNOWN, Outcome.REFUSED, None])
def test_a_start_that_failed_or_is_not_known_is_asked_about_and_never_repeated(end: Outcome | None) -> None:
    w = Wishing(vms=1)
    w.start_answer = end
    w.dies()
    w.g.run(360_000)
    assert len(w.started) == 1 and w.states() == {"vm-1": "failed"} and "web1" in w.alerts()
    w.g.run(700_000)
    assert len(w.started) == 1
    w.start_answer = Outcome.DONE
    w.g.say("start-lost")
    w.g.run(20_000)
    assert len(w.started) == 2 and w.states() == {}


def test_one_that_failed_holds_no_other() -> None:
    w = Wishing()
    w.start_answer = Outcome.FAILED
    w.wishes = {"vm-1": StartWish(True, order=0, delay=600_000), "vm-2": StartWish(True, order=1)}
    w.dies()
    w.g.run(60_000)
    assert [vm for vm, _ in w.started] == ["vm-1", "vm-2"]


def test_a_wish_that_is_taken_back_takes_it_off_the_queue() -> None:
    w = Wishing()
    w.wishes = {"vm-1": StartWish(True, order=0, delay=60_000), "vm-2": StartWish(True, order=1)}
    w.dies()
    w.until(lambda: len(w.started) == 1, 60_000)
    w.wishes["vm-2"] = StartWish(False)
    w.g.run(120_000)
    assert w.states() == {"vm-1": "started", "vm-2": "lost"} and len(w.started) == 1


@pytest.mark.parametrize("word", ["never", "forget"])
def test_a_policy_that_is_switched_off_and_a_list_that_is_forgotten_end_the_queue(word: str) -> None:
    w = Wishing()
    w.wishes = {"vm-1": StartWish(True, order=0, delay=60_000), "vm-2": StartWish(True, order=1)}
    w.dies()
    w.until(lambda: len(w.started) == 1, 60_000)
    if word == "never":
        w.g.pool = replace(w.g.pool, policy=replace(w.g.pool.policy, start_lost="never"))
    else:
        w.g.say("start-lost", forget="yes")
    w.g.run(180_000)
    assert len(w.started) == 1 and w.states().get("vm-2", "lost") == "lost"
    assert not wants_reading(Snapshot(w.g.pool, w.g.now, w.g.site), uuid(1))


def test_what_was_said_of_a_list_that_is_forgotten_is_over() -> None:
    """The alert itself names this command."""
    w = Wishing()
    w.dies()
    nowhere(w)
    w.holds("VM_REQUIRES_SR shared")
    w.g.say("start-lost", forget="yes")
    w.g.run(120_000)
    assert not [key for key in w.g.pool.record.open_alerts if "not-started" in key]


def test_over_a_restart_of_the_collector_delays_begin_anew_and_an_unknown_start_is_not_repeated() -> None:
    w = Wishing(vms=3)
    w.wishes = {
        "vm-1": StartWish(True, order=0, delay=40_000),
        "vm-2": StartWish(True, order=1),
        "vm-3": StartWish(True, order=2),
    }
    w.dies()
    w.until(lambda: len(w.started) == 1, 60_000)
    w.g.run(35_000)
    w.start_answer = None
    for host in w.g.hosts:
        host.agent = host.n != 1
    restart_able(w)
    again = w.g.now
    w.until(lambda: len(w.started) == 2, 120_000)
    assert w.started[1][0] == "vm-2" and w.g.now - again >= 40_000
    restart_able(w)
    w.g.run(200_000)
    assert [vm for vm, _ in w.started].count("vm-2") == 1 and w.states()["vm-2"] == "failed"


def restart_able(w: Wishing) -> None:
    restart(w)
    for host in w.g.hosts:
        if host.agent:
            w.g.connect(host, capabilities=ALL_ABLE)


# ------------------------------------------------------------------------------------------------ readiness


def told(w: Wishing) -> str:
    found = readiness(Snapshot(w.g.pool, w.g.now, w.g.site), JournalView())
    return "; ".join(each.sentence for each in found if each.code == "start-lost")


def test_readiness_announces_the_first_start_until_there_was_one() -> None:
    assert told(Wishing(policy=Policy(quiet_time=QUIET))) == ""
    assert "do not tell which VMs their owners wish" in told(Wishing(able=ABLE))
    w = Wishing()
    assert "none has been started so in this pool yet" in told(w)
    w.dies()
    assert w.starts_all()
    assert told(w) == ""


# ------------------------------------------------------------------------------------------------ its host leaves


def left(w: Wishing) -> None:
    """The master's list of hosts has the dead one no more: xe host-forget."""

    def less(told: HostFacts) -> HostFacts:
        if told.pool_view is None:
            return told
        hosts = tuple(item for item in told.pool_view.hosts if item.host != uuid(1))
        return replace(told, pool_view=replace(told.pool_view, hosts=hosts))

    told_otherwise(w.g, less)


def test_the_vms_of_a_host_that_leaves_the_pool_are_no_longer_queued() -> None:
    w = Wishing()
    w.wishes = {"vm-1": StartWish(True, order=0, delay=600_000), "vm-2": StartWish(True, order=1)}
    w.dies()
    w.until(lambda: len(w.started) == 1, 60_000)
    left(w)
    w.until(lambda: w.g.has(Kind.HOST_LEFT), 120_000)
    w.g.run(700_000)
    assert len(w.started) == 1 and w.states() == {"vm-1": "started", "vm-2": "failed"}
    assert "has left the pool" in w.alerts()
    no = w.g.say("start-lost")
    assert no is not None and no.code == "host-left" and "--forget" in no.next_step
    dry = w.g.say("start-lost", dry_run="yes")
    assert dry is not None and dry.accepted and "has left the pool" in dry.text
    w.g.say("start-lost", forget="yes")
    w.g.run(120_000)
    assert not w.states() and not [key for key in w.g.pool.record.open_alerts if "lost" in key or "not-start" in key]


# ------------------------------------------------------------------------------------------------ lost once more


def lost_with_one_started() -> Wishing:
    """vm-1 was started by policy, vm-2 still waits for a word."""
    w = Wishing()
    w.wishes["vm-2"] = StartWish(False)
    w.dies()
    w.until(lambda: w.states() == {"vm-1": "started", "vm-2": "lost"}, 60_000)
    return w


def test_a_vm_that_went_home_and_is_lost_with_another_boot_of_its_host_is_down() -> None:
    w = lost_with_one_started()
    back(w)
    w.g.host(1).domains = ("vm-1",)
    w.g.run(20_000)
    w.g.cut_power()
    w.g.run(30_000)
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(60_000)
    assert w.states() == {"vm-1": "lost", "vm-2": "lost"}
    w.wishes["vm-2"] = StartWish(True)
    w.g.say("start-lost")
    assert w.g.run(30_000) is None and [vm for vm, _ in w.started].count("vm-1") == 2


def test_a_vm_that_was_started_and_is_listed_again_is_down_and_a_persons_to_start() -> None:
    """A newer master's copy of the database has it where it was before, and no host that is heard runs it."""
    w = lost_with_one_started()
    lost = [{"vm": vm, "name": vm, "seen": True} for vm in ("vm-1", "vm-2")]
    entry = replace(w.g.entry(Kind.LOST_VMS), data={"host": uuid(1), "vms": lost})
    found = fold_followups(w.g.pool.record.after, entry).lost
    assert {vm: item.state for vm, item in found.items()} == {"vm-1": "failed", "vm-2": "lost"}
    assert found["vm-1"].by_policy and "runs nowhere any more" in found["vm-1"].why
