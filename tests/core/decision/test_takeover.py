"""A pool that was another collector's until just now: what is waited for, for how long, and that nothing is begun."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwarden_collector.core.decision.permission import command_refusal, may_begin, quiet_time
from poolwarden_collector.core.decision.takeover import power_refusal, refusal
from poolwarden_collector.core.evidence.proof import NoProof, verify_power
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover.steps import hold_reason
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import AnswerGate, PowerOff, PowerOn, ReadPower
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.report.explain import explain
from poolwarden_collector.core.report.situation import in_short, situation
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.core.state.snapshot import Snapshot

from ..pool import POOL, Guarded, uuid

EPOCH = 2
ORDERS = 25_000
LEFT = LeftBehind(orders_ms=ORDERS)


class Taken(Guarded):
    """A pool that another collector takes over. ``hellos``: hosts whose agents come to it; ``acks``: and obey it."""

    def taken_over(
        self, left: LeftBehind = LEFT, hellos: tuple[int, ...] = (1, 2, 3), acks: tuple[int, ...] = (1, 2, 3)
    ) -> None:
        self.claimed = self.now
        until = self.now + self.policy.quiet_time
        self.site = Site(EPOCH, self.now, until, takeover=left.since(self.now))
        self.pool = Pool(fold(PoolRecord(POOL), self.journal), self.policy, self.pool.devices)
        self.effects.clear()
        for host in self.hosts:
            host.agent = host.agent and host.n in hellos
            if host.agent:
                self.connect(host)
                self.report(host)
        for n in acks:
            self.acknowledges(n)

    def acknowledges(self, n: int, epoch: int = EPOCH, stream: int | None = None) -> None:
        host = self.host(n)
        self.feed(ev.EpochAcknowledged(host.uuid, host.stream if stream is None else stream, epoch))

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(self.pool, self.now, self.site)

    @property
    def quiet_for(self) -> int:
        return self.snapshot.quiet_until - self.claimed

    @property
    def why(self) -> str:
        return str(refusal(self.snapshot) or "")


@pytest.fixture
def g() -> Taken:
    return Taken(policy=Policy(quiet_time=60_000))


# ------------------------------------------------------------------------------------------------ orders


def test_once_every_agent_has_acknowledged_the_quiet_time_ends_early(g: Taken) -> None:
    g.taken_over()
    assert g.quiet_for == 15_000 and not g.why
    assert quiet_time(g.snapshot).code is Cause.QUIET_TIME
    g.run(14_000)
    assert g.snapshot.quiet
    g.run(1_250)
    assert not g.snapshot.quiet and g.verdict == Verdict.HEALTHY.word


def test_a_host_that_has_not_come_costs_the_whole_quiet_time(g: Taken) -> None:
    g.taken_over(hellos=(1, 2), acks=(1, 2))
    assert g.quiet_for == 60_000
    assert g.why == "host-3 has not acknowledged this collector and may still obey the one before, 25 s left"


def test_who_is_heard_has_fifteen_seconds_to_acknowledge(g: Taken) -> None:
    g.taken_over(LeftBehind(), acks=(1,))
    assert g.why == "host-2, host-3 have not acknowledged this collector yet, 15 s left"
    g.acknowledges(2)
    assert g.why.startswith("host-3 has not")
    g.run(15_250)
    assert not g.why and not g.snapshot.quiet, "given up in order, nothing of the last owner is under way"


def test_who_is_heard_and_never_acknowledges_counts_as_one_that_nobody_reaches(g: Taken) -> None:
    g.taken_over(acks=(1, 2))
    g.run(16_000)
    assert g.snapshot.quiet and g.why.startswith("host-3 has not acknowledged this collector and may still obey")
    g.run(10_000)
    assert not g.snapshot.quiet


def test_whoever_has_acknowledged_and_falls_silent_is_waited_for_no_more(g: Taken) -> None:
    g.taken_over()
    g.host(3).agent = False
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    assert not g.why and g.quiet_for == 15_000


@pytest.mark.parametrize(("epoch", "stream"), [(EPOCH - 1, None), (EPOCH + 1, None), (EPOCH, 1)])
def test_only_this_ownership_on_this_stream_is_acknowledged(g: Taken, epoch: int, stream: int | None) -> None:
    g.taken_over(acks=(1, 2))
    g.acknowledges(3, epoch, stream)
    assert uuid(3) not in g.pool.live.acknowledged and g.why
    g.acknowledges(3)
    assert not g.why


def test_an_acknowledgement_of_a_host_that_has_said_no_hello_counts_for_nothing(g: Taken) -> None:
    g.taken_over(hellos=(1, 2), acks=(1, 2, 3))
    assert uuid(3) not in g.pool.live.acknowledged


def test_after_an_absence_of_this_collector_old_hellos_end_nothing_early(g: Taken) -> None:
    g.taken_over()
    g.site = replace(g.site, quiet_until=g.now + 5_000 + g.policy.quiet_time)
    assert g.quiet_for == 65_000


def test_one_collector_alone_waits_for_nobody(g: Taken) -> None:
    g.site = Site(EPOCH, g.now, g.now)
    assert not g.snapshot.quiet and not g.why and power_refusal(g.snapshot) is None


def test_nothing_is_begun_meanwhile_and_each_refusal_says_why(g: Taken) -> None:
    g.taken_over(hellos=(2, 3), acks=(2,))
    g.site = replace(g.site, quiet_until=g.now)
    g.host(1).answers, g.host(1).power = False, Power.OFF
    g.run(14_000)
    pool = g.snapshot
    assert g.verdict == Verdict.VANISHED.word and not g.has(Kind.DECIDED)
    refused = may_begin(pool, Verdict.VANISHED)
    assert refused is not None and refused.code is Cause.TAKEN_OVER
    assert refused.text == "host-3 has not acknowledged this collector yet, 1 s left"
    assert command_refusal(pool) == refused
    assert any("has not acknowledged" in text for text in explain(g.pool, g.now, g.site).refused)
    g.acknowledges(3)
    assert "host-1 has not acknowledged this collector and may still obey" in g.why
    g.run(10_000)
    assert not g.has(Kind.DECIDED)
    g.run(8_000)
    assert g.has(Kind.DECIDED), "the old owner's right and its longest order are over"


def test_the_screen_says_that_it_was_taken_over(g: Taken) -> None:
    g.taken_over(hellos=(), acks=())
    verdict = next(each for each in Verdict if each.word == g.verdict or each is Verdict.POOL_DARK)
    assert "has just taken this pool over" in situation(g.snapshot, verdict).headline


def test_a_failover_that_was_taken_over_says_what_it_waits_for(g: Taken) -> None:
    g.cut_power()
    while not g.has(Kind.DECIDED):
        g.run(500)
    assert not any("waits" in line for line in situation(g.snapshot, Verdict.VANISHED).lines)
    g.taken_over(LANDS, hellos=(2, 3), acks=(2, 3))
    g.run(12_000)
    assert g.verdict == Verdict.VANISHED.word and g.pool.record.failover is not None
    lines = situation(g.snapshot, Verdict.VANISHED).lines
    assert any(line.startswith("the failover waits: a power switch that the collector before") for line in lines), lines


# ------------------------------------------------------------------------------------------------ power

LANDS = LeftBehind(orders_ms=ORDERS, power_ms=52_000)


def test_a_power_switch_of_the_last_owner_is_waited_out(g: Taken) -> None:
    g.taken_over(LANDS)
    assert g.quiet_for == 52_000
    assert g.why == "a power switch that the collector before this one ordered may still land, 52 s left"


def test_a_reading_that_began_before_it_could_land_proves_nothing(g: Taken) -> None:
    g.taken_over(LANDS, hellos=(2, 3), acks=(2, 3))
    g.site = replace(g.site, quiet_until=g.now)
    g.host(1).answers, g.host(1).power = False, Power.OFF
    g.run(51_000)
    known = g.pool.record.hosts[uuid(1)].boot_id
    assert isinstance(verify_power(g.snapshot, uuid(1), known), NoProof) and not g.has(Kind.DECIDED)
    while not g.has(Kind.PROOF) and g.now < g.claimed + 70_000:
        g.run(250)
    assert g.has(Kind.PROOF) and g.now >= g.claimed + LANDS.power_ms + g.policy.reading_gap
    reads = [effect for effect in g.effects if isinstance(effect, ReadPower)]
    assert len(reads) < 40, "meanwhile it is read now and then"


def test_a_device_is_bound_by_no_reading_from_before(g: Taken) -> None:
    bound = [entry for entry in g.journal if entry.kind is not Kind.DEVICE_BOUND]
    g.journal[:] = bound
    g.taken_over(LANDS)
    g.say("fence-test", 1)
    assert any(isinstance(effect, ReadPower) for effect in g.effects)
    assert not g.pool.record.devices.bonds
    g.run(53_000)
    g.say("fence-test", 1)
    assert "bmc-1" in g.pool.record.devices.bonds


@pytest.mark.parametrize("on", [True, False])
def test_no_operators_switch_is_begun_before_it_has_landed(g: Taken, on: bool) -> None:
    g.taken_over(LANDS)
    args = {"typed_name": "host-1", "force": "yes"}
    said = g.say("fence-on" if on else "fence-off", 1, **args)
    assert said is not None and not said.accepted and "may still land" in said.text and said.next_step
    assert not any(isinstance(effect, PowerOff | PowerOn) for effect in g.effects)
    g.run(53_000)
    said = g.say("fence-on" if on else "fence-off", 1, **args)
    assert said is not None and said.accepted, said


def test_a_boot_gate_waits_until_it_has_landed(g: Taken) -> None:
    g.host(1).boot = "boot-1-2"
    g.taken_over(LANDS)
    g.feed(ev.GateAsked(uuid(1), g.host(1).stream, g.host(1).boot, Role.MASTER))
    answers = [effect for effect in g.effects if isinstance(effect, AnswerGate)]
    assert [each.decision for each in answers] == ["wait"]
    assert "has only just taken this pool over" in answers[0].reason


def test_an_open_failover_stands_still_and_says_why(g: Taken) -> None:
    g.cut_power()
    while g.pool.record.failover is None or not g.has(Kind.DECIDED):
        g.run(250)
        if g.has(Kind.DECIDED):
            break
    assert g.pool.record.failover is not None and g.pool.record.failover.open
    g.journal[:] = g.journal[: 1 + next(n for n, each in enumerate(g.journal) if each.kind is Kind.DECIDED)]
    g.taken_over(LANDS, hellos=(2, 3), acks=(2, 3))
    pool = g.snapshot
    assert pool.failover is not None
    assert "may still land" in hold_reason(pool, pool.failover, Verdict.VANISHED)


def test_an_off_without_a_result_is_not_called_over_before_it_has_landed(g: Taken) -> None:
    g.cut_power()
    for _ in range(200):
        if g.has(Kind.DECIDED):
            break
        g.run(250)
    decided = next(n for n, each in enumerate(g.journal) if each.kind is Kind.DECIDED)
    g.journal[:] = g.journal[: decided + 1]
    failover = g.journal[-1].failover
    facts = {"device": "bmc-1", "attempt": 1, "run": "aaaaaaaa/off/1.9"}
    g.journal.append(Entry(Kind.FENCE_INTENT, "powering host-1 off", facts, failover, g.journal[-1].term))
    g.taken_over(LANDS, hellos=(2, 3), acks=(2, 3))
    g.site = replace(g.site, quiet_until=g.now)
    # The device's own limit and its kill are over two seconds before the last owner's right to begin it was.
    g.run(50_500)
    assert not g.has(Kind.FENCE_RESULT)
    g.run(3_000)
    assert g.has(Kind.FENCE_RESULT) and g.entry(Kind.FENCE_RESULT).data["certain"] is False


def test_a_pool_of_which_nothing_can_be_recorded_says_that_and_not_that_its_site_is_dark() -> None:
    g = Guarded()
    for host in g.hosts:
        host.agent = False
    g.run(20_000)
    seen = Snapshot(g.pool, g.now, replace(g.site, stalled="no answer"))
    shown = situation(seen, Verdict.POOL_DARK)
    assert "NOTHING IS DECIDED OR DONE" in shown.headline and shown.level == "critical"
    assert "no answer" in shown.lines[0] and "look at etcd" in shown.todo[0]
    assert in_short(seen, Verdict.POOL_DARK).headline == shown.headline
