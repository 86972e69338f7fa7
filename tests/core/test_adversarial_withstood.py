"""Attacks that the engine withstands, kept so that it goes on doing so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import POOL, QUIET, Guarded, Host, address, uuid
from tests.core.test_adversarial_proof import lose, until

from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import PowerOff, RaiseEpoch, ReadPower, SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.state.failover_record import Step

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


class Twice(Guarded):
    """Everything is delivered twice, the second time at once after the first."""

    def feed(self, event: ev.Event) -> StepResult:
        first = super().feed(event)
        if not isinstance(event, ev.OperatorSaid):
            super().feed(event)
        return first


def returns(g: Guarded, boot: str = "boot-1-2", serves: bool = True) -> None:
    old = g.host(1)
    old.agent, old.answers, old.power, old.boot, old.serves = True, True, Power.ON, boot, serves
    g.connect(old)


def test_everything_delivered_twice_changes_nothing() -> None:
    """I14: each report, reading, answer and stream event comes twice: one failover, one candidate, one order id."""
    g = Twice()
    g.cut_power()
    g.run(40_000)
    orders = {o.order_id for h in g.hosts for o in h.orders if o.kind_name == "promote"}
    assert len(orders) == 1 and set(g.promoted()) == {uuid(2)}
    assert g.pool.record.failovers == 1
    assert g.pool.record.failover is not None and g.pool.record.failover.step is Step.CLOSED
    assert g.kinds().count("promote-intent") == g.kinds().count("promoted") == g.kinds().count("closed") == 1


def test_a_step_whose_commit_failed_is_taken_again_and_gives_the_same() -> None:
    """The commit of the intent fails: nothing was sent, the pool is as it was, and the same step gives the same ids."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    seen = False
    for _ in range(40):
        g.now += 250
        before = g.pool
        once, again = (step(before, ev.Tick(), g.now, g.site) for _ in range(2))
        assert once == again and g.pool is before
        seen = seen or any(e.kind is Kind.PROMOTE_INTENT for e in once.entries)
        g.feed(ev.Tick())
        if g.now % 2_000 == 0:
            for host in g.hosts[1:]:
                g.report(host)
    assert g.has(Kind.PROMOTE_INTENT)


def test_the_intent_and_its_proof_are_in_the_same_commit_as_the_order_or_before_it() -> None:
    """I6: no promote order leaves in a step before its PROOF and PROMOTE_INTENT are entries."""
    g = Guarded()
    known: set[Kind] = set()
    plain = g.feed

    def watch(event: ev.Event) -> StepResult:
        before = {entry.kind for entry in g.journal}
        outcome = plain(event)
        known.update(before, (entry.kind for entry in outcome.entries))
        for effect in outcome.effects:
            if isinstance(effect, SendOrder) and effect.order.kind_name == "promote":
                assert {Kind.DECIDED, Kind.CLAIMED, Kind.PROOF, Kind.PROMOTE_INTENT} <= known
        return outcome

    g.feed = watch  # type: ignore[method-assign]
    g.cut_power()
    g.run(30_000)
    assert set(g.promoted()) == {uuid(2)}


def test_off_on_off_is_not_two_off_readings() -> None:
    """A device that wavers: the pair must have nothing but OFF between."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    for n in range(20):
        g.host(1).power = Power.ON if n % 2 == 0 else Power.OFF
        until_next = len(g.pool.live.power["bmc-1"].readings)
        while len(g.pool.live.power["bmc-1"].readings) == until_next and g.now < 200_000:
            g.run(250)
    assert g.promoted() == []


def test_two_power_supplies_need_both_to_be_off() -> None:
    """The BMC reads OFF, the PDU's outlet reads ON."""
    g = Guarded()
    pdu = FenceDevice("pdu-1", uuid(1))
    g.pool = replace(g.pool, devices={**g.pool.devices, uuid(1): (*g.pool.devices[uuid(1)], pdu)})
    g.run(30_000)
    assert g.pool.record.devices.bonds["pdu-1"].boot_id == "boot-1-1"
    plain = g._perform

    def perform(effect: object) -> None:
        if isinstance(effect, ReadPower) and effect.device == "pdu-1":
            reading = PowerReading(Power.ON, "pdu-1", g.now, g.now + 1)
            g.feed(ev.PowerRead(effect.host, effect.run_id, reading))
        else:
            plain(effect)  # type: ignore[arg-type]

    g._perform = perform  # type: ignore[method-assign]
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == []


def test_a_reading_of_a_run_that_was_given_up_does_not_count() -> None:
    """A status run far over its hard limit ends at last: its run id is not the current one any more."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    count = len(g.pool.live.power["bmc-1"].readings)
    g.feed(ev.PowerRead(uuid(1), "aaaaaaaa/status/0.0", PowerReading(Power.OFF, "bmc-1", g.now - 1, g.now)))
    assert len(g.pool.live.power["bmc-1"].readings) == count


def test_a_device_bound_to_an_earlier_boot_proves_nothing_about_this_one() -> None:
    """The host rebooted, its device has not read ON since (unreadable), and now it reads OFF."""
    g = Guarded()
    host = g.host(1)
    host.power, host.boot = Power.UNKNOWN, "boot-1-2"
    g.connect(host)
    g.run(20_000)
    assert g.verdict == "Healthy"
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == []
    failover = g.pool.record.failover
    assert failover is not None and "not bound" in failover.standstill.why


def test_readings_of_an_earlier_run_of_the_collector_do_not_count() -> None:
    """One OFF before the restart and one after it are not a pair."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    assert g.pool.live.power["bmc-1"].readings[-1].power is Power.OFF
    g.restart_collector()
    g.run(QUIET + 250)
    readings = g.pool.live.power["bmc-1"].readings
    g.run(1_000)
    assert len([r for r in readings if r.power is Power.OFF]) <= 2
    while not g.has(Kind.PROMOTE_INTENT):
        g.run(250)
    facts = g.entry(Kind.PROOF).data["facts"]["readings"][0]
    assert facts["first"]["ended_ms"] > g.site.started_at
    assert facts["second"]["ended_ms"] - facts["first"]["ended_ms"] >= 3_000


def test_the_old_master_boots_again_after_the_intent_and_before_the_order_arrives() -> None:
    """The order was lost; the old master is powered on and serves: superseded, never sent again."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    sent = len(g.promoted())
    returns(g)
    g.run(60_000)
    assert len(g.promoted()) == sent
    assert g.has(Kind.SUPERSEDED)
    assert g.pool.record.master == uuid(1)


@pytest.mark.parametrize("what", ["pause", "ha"])
def test_pause_and_armed_ha_stop_the_re_send_after_the_intent(what: str) -> None:
    """I8: HA or a pause arrive between the intent and a re-send."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    if what == "pause":
        g.say("pause", reason="stop")
    else:
        g.host(3).ha = Tri.YES
        g.run(2_000)
    sent = len(g.promoted())
    g.run(60_000)
    assert len(g.promoted()) == sent


def test_a_candidate_whose_agent_dies_after_the_intent_is_not_replaced() -> None:
    """I4: host-2 may be promoting itself right now; host-3 is never asked."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    g.host(2).agent = False
    g.feed(ev.AgentGone(uuid(2), g.host(2).stream))
    g.run(300_000)
    assert set(g.promoted()) == {uuid(2)}
    failover = g.pool.record.failover
    assert (
        failover is not None and failover.step is Step.PROMOTING and failover.standstill.blocker == "BLOCKED_UNVERIFIED"
    )


def test_a_candidate_that_restarted_by_itself_is_not_taken_for_promoted() -> None:
    """Its xapi restarts for another reason after the intent: a new process, pool.conf still a member."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    host = g.host(2)
    host.process = replace(host.process, pid=host.process.pid + 7, start_ticks=99_999)
    g.run(10_000)
    assert not g.has(Kind.PROMOTED)


def test_two_masters_are_frozen_and_given_no_order() -> None:
    """host-3 is promoted by hand while host-1 serves on."""
    g = Guarded()
    third = g.host(3)
    third.pool_conf = third.running = Role.MASTER
    third.serves = True
    g.run(60_000)
    assert g.verdict == "TwoMasters"
    assert not [o for h in g.hosts for o in h.orders]
    assert g.pool.record.master == uuid(1)


def test_a_member_promoted_by_hand_is_adopted_with_a_new_term() -> None:
    """S79: the old master is switched off, somebody promotes host-3 with xe while the collector is down."""
    g = Guarded()
    g.cut_power()
    third, second = g.host(3), g.host(2)
    third.pool_conf = third.running = Role.MASTER
    third.serves = True
    second.master_address = address(3)
    before = g.pool.record.term
    g.restart_collector(after=600_000)
    g.run(20_000)
    assert g.pool.record.master == uuid(3)
    assert g.pool.record.term > before
    assert g.promoted() == []


def test_a_master_elected_during_the_claim_supersedes_the_failover() -> None:
    """DECIDED, and somebody promotes host-3 by hand: host-2 is not promoted beside it."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    third = g.host(3)
    third.pool_conf = third.running = Role.MASTER
    third.serves = True
    g.report(third)
    g.run(60_000)
    assert g.has(Kind.SUPERSEDED)
    assert g.promoted() == []


def test_nothing_is_sent_in_the_quiet_time_after_a_restart() -> None:
    """PROMOTING is durable, the collector starts again: within the quiet time no promote order leaves."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    sent = len(g.promoted())
    g.restart_collector()
    g.run(QUIET - 500)
    assert len(g.promoted()) == sent


def test_a_jump_of_the_collectors_clock_silences_everybody_alike() -> None:
    """S55: an hour passes between two steps. Everybody is silent: dark, and nothing is done."""
    g = Guarded()
    g.now += 3_600_000
    g.feed(ev.Tick())
    assert g.verdict == "PoolDark"
    g.run(30_000)
    assert g.verdict == "Healthy"
    assert not g.has(Kind.DECIDED)


def test_an_agent_that_returns_after_the_confirmation_ends_the_failover() -> None:
    """Confirmed safe, and then its own agent says Hello in the same boot: aborted, with a new term."""
    g = Guarded()
    lose(g, "probe_now")
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    until(g, Kind.BLOCKED)
    g.run(1_000)
    g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    g.run(2_000)
    returns(g, "boot-1-1")
    g.on_order = None
    g.run(60_000)
    assert g.has(Kind.ABORTED)
    assert g.promoted() == []
    assert g.verdict == "Healthy"


def test_a_confirmation_is_not_carried_over_a_restart() -> None:
    """Its age is not known any more: it must be said again."""
    g = Guarded()
    lose(g, "probe_now")
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    until(g, Kind.BLOCKED)
    g.run(1_000)
    g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    g.run(1_000)
    g.on_order = None
    g.restart_collector()
    g.run(120_000)
    assert g.promoted() == []
    failover = g.pool.record.failover
    assert failover is not None and "restart" in failover.standstill.why


@pytest.mark.parametrize("outcome", [ProbeOutcome.REFUSED, ProbeOutcome.UNREACHABLE, ProbeOutcome.NOT_XAPI])
def test_refused_connections_and_unreachable_devices_are_no_proof(outcome: ProbeOutcome) -> None:
    """I3: the port is closed, the BMC is gone. Nobody is promoted, and the blocker is named."""
    g = Guarded()
    plain = g.probe

    def probe(host: Host, target: Host):  # type: ignore[no-untyped-def]
        seen = plain(host, target)
        return replace(seen, outcome=outcome) if not target.answers else seen

    g.probe = probe  # type: ignore[method-assign]
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    g.run(200_000)
    assert g.promoted() == []
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"


def test_a_link_that_flaps_every_eight_seconds_decides_nothing() -> None:
    """S25: four minutes of a flapping link to the master's agent."""
    g = Guarded()
    host = g.host(1)
    for _ in range(15):
        host.agent = False
        g.feed(ev.AgentGone(uuid(1), host.stream))
        g.run(8_000)
        host.agent = True
        g.connect(host)
        g.run(8_000)
    assert not g.has(Kind.DECIDED)
    assert not [o for h in g.hosts for o in h.orders]


def test_old_bytes_after_an_off_reading_only_start_a_challenge() -> None:
    """A report that was in the kernel's buffer when the power was cut is absorbed after the OFF reading."""
    g = Guarded()
    host = g.host(1)
    host.agent, host.answers, host.power = False, False, Power.OFF
    g.run(9_500)  # the stream has not ended yet, only silence
    assert any(r.power is Power.OFF for r in g.pool.live.power["bmc-1"].readings)
    stale = replace(g.facts(host), probes=())
    g.feed(ev.AgentReported(uuid(1), host.stream, stale))
    assert not g.has(Kind.CONTRARY) and not g.has(Kind.DEVICE_QUARANTINED)
    g.run(60_000)
    assert g.promoted() == [uuid(2)]


def test_a_report_on_an_old_stream_is_not_a_sign_of_life() -> None:
    """The agent has reconnected; a report of its earlier stream comes late and must not replace newer facts."""
    g = Guarded()
    host = g.host(1)
    old_stream = host.stream
    late = replace(g.facts(host), address="10.9.9.9")
    g.connect(host)
    g.report(host)
    g.feed(ev.AgentReported(uuid(1), old_stream, late))
    assert g.pool.record.address_of(uuid(1)) == address(1)
    g.feed(ev.AgentGone(uuid(1), old_stream))
    assert g.pool.live.agents[uuid(1)].connected


def test_a_higher_epoch_at_a_host_stops_this_collector() -> None:
    """S57: another collector was activated; this one loses its master's host and must leave the pool alone."""
    g = Guarded()
    g.connect(g.host(3), highest_epoch=9)
    g.run(4_000)
    g.cut_power()
    g.run(60_000)
    assert g.has(Kind.STALE_EPOCH)
    assert g.promoted() == [] and not g.has(Kind.DECIDED)


def test_a_higher_epoch_in_the_quiet_time_is_exceeded_and_nothing_decided_before() -> None:
    """A journal that lost its last epochs: the collector raises its own while it is quiet."""
    g = Guarded()
    g.restart_collector()
    outcome = g.feed(ev.AgentConnected(99, replace(g.pool.live.agents[uuid(3)].hello, highest_epoch=40)))
    assert [e.above for e in outcome.effects if isinstance(e, RaiseEpoch)] == [40]


def test_a_shot_that_was_under_way_at_a_restart_is_not_fired_again_at_once() -> None:
    """Killed between the off and its result: its hard limit and ten seconds pass before anything else is shot."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.ON
    until(g, Kind.FENCE_INTENT)
    shots = len([e for e in g.effects if isinstance(e, PowerOff)])
    g.restart_collector()
    g.run(40_000)
    assert len([e for e in g.effects if isinstance(e, PowerOff)]) == shots


def test_an_off_that_claims_success_and_reads_on_promotes_nobody() -> None:
    """S43: the BMC says done, the machine reads ON: one more try, then a person."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.ON
    answered: set[str] = set()
    for _ in range(1_200):
        for shot in [e for e in g.effects if isinstance(e, PowerOff) and e.run_id not in answered]:
            answered.add(shot.run_id)
            g.feed(ev.FenceEnded(shot.host, shot.run_id, True, True, "Success: Powered OFF", g.now))
        g.run(250)
    assert len([e for e in g.effects if isinstance(e, PowerOff)]) == 2
    assert g.promoted() == []
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_POWER_ON"


def test_the_old_master_returns_while_its_successor_starts_and_is_marked() -> None:
    """S40: it serves again between the candidate's DONE and its verification: in the end one is marked."""
    g = Guarded()

    def slow(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "promote":
            return OrderOutcome(order.order_id, "promote", End.DONE, term=order.term)
        return g.default(host, order)

    g.on_order = slow
    g.cut_power()
    until(g, Kind.PROMOTE_ANSWER)
    returns(g)
    g.run(4_000)
    second = g.host(2)
    second.pool_conf = second.running = Role.MASTER
    second.serves = True
    second.process = replace(second.process, pid=4711, start_ticks=4711)
    g.run(60_000)
    assert [h.n for h in g.hosts if h.serves] == [2]
    assert "set_tombstone" in [o.kind_name for o in g.host(1).orders]
    assert g.pool.record.master == uuid(2)


def test_orders_name_the_boot_and_the_term_that_they_are_for() -> None:
    """I16: every order of a whole failover carries this boot and a term that never falls."""
    g = Guarded()
    g.cut_power()
    g.run(40_000)
    orders = [e.order for e in g.effects if isinstance(e, SendOrder)]
    assert {o.kind_name for o in orders} >= {"claim", "probe_now", "promote", "repoint"}
    for order in orders:
        assert order.boot_id == g.by_uuid(order.host).boot
        assert 0 < order.valid_for_ms <= 15_000
    terms = [o.term for o in orders]
    assert terms == sorted(terms) and min(terms) == 2


def test_a_second_failover_does_not_begin_during_the_cool_down() -> None:
    """S58: the new master dies minutes later: asked, not done, also after a restart of the collector."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.CLOSED)
    g.run(200_000)
    g.cut_power(2)
    g.run(20_000)
    g.restart_collector()
    g.run(60_000)
    assert set(g.promoted()) == {uuid(2)}
    assert g.has(Kind.ASKED)


def test_silence_of_everybody_is_dark_and_read_by_nobody() -> None:
    """S22: the collector hears nobody of this pool, the BMC answers: no reading, no decision."""
    g = Guarded()
    for n in (1, 2, 3):
        g.host(n).agent = False
        g.feed(ev.AgentGone(uuid(n), g.host(n).stream))
    before = len(g.effects)
    g.run(300_000)
    assert g.verdict == "PoolDark"
    assert not [e for e in g.effects[before:] if isinstance(e, ReadPower)]
    assert g.pool.record.pool == POOL and not g.has(Kind.DECIDED)
