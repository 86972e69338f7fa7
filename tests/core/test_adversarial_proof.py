"""Attacks on the proof and the last look: what is fresh and says "alive" stands against a promotion or a shot."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import POOL, QUIET, Guarded, Host, address, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import PowerOff
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import ClaimOutcome, OrderOutcome, Placement, PlacementView
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power, PowerReading
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.state.failover_record import Step


def until(g: Guarded, kind: Kind, limit: int = 300_000) -> None:
    end = g.now + limit
    while not g.has(kind):
        assert g.now < end, f"{kind.value} never came; verdict {g.verdict}"
        g.run(250)


def alive_probe(g: Guarded, n: int) -> Probe:
    return Probe(uuid(n), address(n), ProbeOutcome.ANSWERED, g.now, g.now)


def confirmed(g: Guarded) -> None:
    """The BMC is dead as well, and alice says that host-1 is safe."""
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    until(g, Kind.BLOCKED)
    g.run(1_000)
    said = g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    assert said is not None and said.accepted


def lose(g: Guarded, kind: str) -> None:
    """Orders of this kind are sent and vanish."""

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        return None if order.kind_name == kind else g.default(host, order)

    g.on_order = answer


def test_a_last_look_that_is_answered_by_the_old_master_vetoes_a_human_proof() -> None:
    """Alice confirms the wrong cord. The last look's own fresh probe is answered by the old master's xapi."""
    g = Guarded()
    awake = False

    def look(host: Host, order: Order) -> OrderOutcome | None:
        done = g.default(host, order)
        if order.kind_name == "probe_now" and done is not None and awake:
            return replace(done, probes=(alive_probe(g, 1),))
        return done

    g.on_order = look
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    until(g, Kind.BLOCKED)
    g.run(1_000)
    awake = True
    g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    g.run(30_000)
    assert g.promoted() == []


def test_a_shot_is_vetoed_by_the_fresh_probe_that_the_old_master_answers() -> None:
    """Dom0 stalled for 100 s and wakes in this very second: the nonce's own probe is answered. It runs VMs."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))

    def look(host: Host, order: Order) -> OrderOutcome | None:
        done = g.default(host, order)
        if order.kind_name == "probe_now" and done is not None:
            return replace(done, probes=(alive_probe(g, 1),))
        return done

    g.on_order = look
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(130_000)
    assert not [e for e in g.effects if isinstance(e, PowerOff)]


def test_a_machine_that_reads_on_after_the_confirmation_contradicts_it() -> None:
    """The BMC was cut off, alice confirmed, the BMC comes back and reads ON: she did not say "despite power on"."""
    g = Guarded()
    slow = True

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        return None if slow and order.kind_name == "probe_now" else g.default(host, order)

    g.on_order = answer
    confirmed(g)
    g.host(1).power = Power.ON
    g.run(20_000)
    assert g.pool.live.power["bmc-1"].readings[-1].power is Power.ON
    slow = False
    g.run(30_000)
    assert g.promoted() == []


def test_a_human_promotion_is_not_sent_again_while_members_reach_the_old_master() -> None:
    """The intent is stored, the order is lost; the old master's xapi comes back without its agent. Then the resend."""
    g = Guarded()
    lose(g, "promote")
    confirmed(g)
    until(g, Kind.PROMOTE_INTENT)
    sent = len(g.promoted())
    g.host(1).answers = True
    g.run(60_000)
    assert len(g.promoted()) == sent


def test_after_a_restart_one_off_reading_does_not_send_the_promotion_again() -> None:
    """The collector is back two hours after the intent. The old master's power is not readable at first, then it reads
    OFF once: half of a proof, and the pair in the journal is two hours old."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    sent = len(g.promoted())
    g.host(1).power = Power.UNKNOWN
    g.restart_collector(after=7_200_000)
    g.run(QUIET + 3_000)
    assert len(g.promoted()) == sent
    g.host(1).power = Power.OFF
    while not any(r.power is Power.OFF for r in g.pool.live.power["bmc-1"].readings):
        g.run(250)
    assert len(g.promoted()) == sent


def test_the_probe_that_was_answered_after_the_off_reading_counts_though_a_newer_one_was_not() -> None:
    """Two probes between two reports: answered after the first OFF reading, then the master is stopped again. The
    report says "no answer", and, in the same record, when it was last answered."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    first = g.pool.live.power["bmc-1"].readings[-1]
    assert first.power is Power.OFF
    g.now += 500
    witness = g.host(2)
    facts = g.facts(witness)
    seen = next(p for p in facts.probes if p.target == uuid(1))
    again = replace(seen, probed_at=g.now, answered_at=first.ended_at + 200, unanswered_since=first.ended_at + 300)
    others = tuple(p for p in facts.probes if p.target != uuid(1))
    g.feed(ev.AgentReported(uuid(2), witness.stream, replace(facts, probes=(*others, again))))
    assert g.has(Kind.CONTRARY)


def test_an_off_reading_that_is_told_after_a_younger_answer_is_void() -> None:
    """The queue was late: the report with an answered probe is taken first, the older OFF reading next."""
    g = Guarded()
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(10_000)
    g.report(g.host(2))  # h1's xapi answers it now
    run_id = "late"
    state = g.pool.live.power["bmc-1"]
    g.pool = replace(g.pool, live=replace(g.pool.live, power={"bmc-1": replace(state, running=run_id)}))
    g.feed(ev.PowerRead(uuid(1), run_id, PowerReading(Power.OFF, "bmc-1", g.now - 500, g.now - 100)))
    assert g.has(Kind.CONTRARY)


def test_a_device_is_not_bound_by_a_reading_that_began_before_this_boot_was_heard() -> None:
    """The run began under the old boot and ended after the new one's first report: nothing ties it to this boot."""
    g = Guarded()
    host = g.host(1)
    host.power = Power.UNKNOWN  # the device gives no other reading meanwhile
    host.boot = "boot-1-2"
    g.connect(host)
    g.report(host)
    state = g.pool.live.power["bmc-1"]
    power = {**g.pool.live.power, "bmc-1": replace(state, running="slow", started_at=g.now - 20_000)}
    g.pool = replace(g.pool, live=replace(g.pool.live, power=power))
    g.feed(ev.PowerRead(uuid(1), "slow", PowerReading(Power.ON, "bmc-1", g.now - 20_000, g.now)))
    assert g.pool.record.devices.bonds["bmc-1"].boot_id != "boot-1-2"


def test_an_old_master_that_is_switched_on_again_later_does_not_convict_its_device() -> None:
    """The failover is long closed. The old master is powered on; its xapi answers before its agent is up. Its BMC told
    the truth and must not be quarantined for ever."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.CLOSED)
    g.run(120_000)
    old = g.host(1)
    old.power, old.answers, old.boot = Power.ON, True, "boot-1-2"
    g.run(6_000)
    assert "bmc-1" not in g.pool.record.devices.quarantined
    assert "FenceDisputed" not in [e.data.get("verdict") for e in g.journal if e.kind is Kind.VERDICT]


def test_a_pending_power_off_is_given_its_own_time() -> None:
    """The step is old when the shot is fired (the BMC was unreadable for minutes): the run must not be called overdue
    in the next pass, and no second one started beside it."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    g.run(240_000)
    g.host(1).power = Power.ON
    until(g, Kind.FENCE_INTENT)
    g.run(20_000)  # hard limit 40 s
    assert not g.has(Kind.FENCE_RESULT)
    assert len([e for e in g.effects if isinstance(e, PowerOff)]) == 1


def test_a_host_in_post_after_a_site_outage_is_given_its_boot_grace() -> None:
    """S28 with auto_fence_running: the whole site was dark; members boot first, the master is in POST and reads ON. Its
    silence is as long as the outage: it must not be shot at once."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    for n in (1, 2, 3):
        g.cut_power(n)
    g.run(600_000)
    assert g.verdict == "PoolDark"
    for n in (2, 3):
        host = g.host(n)
        host.agent, host.answers, host.power, host.boot = True, True, Power.ON, f"boot-{n}-2"
        g.connect(host)
    g.host(1).power = Power.ON
    g.run(60_000)
    assert not [e for e in g.effects if isinstance(e, PowerOff)]


def test_a_stored_look_of_an_ended_failover_does_not_count_as_a_claim_of_the_next() -> None:
    """Failover 1 is vetoed; host-3's answer to its claim is delayed and arrives in failover 2, whose claim host-3 has
    not answered: its look and its forecast are old."""
    g = Guarded()
    held: list[OrderOutcome] = []
    vetoed = False

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        nonlocal vetoed
        done = g.default(host, order)
        if order.kind_name != "claim" or done is None:
            return done
        if host.n == 3:
            held.append(done)
            return None
        if not vetoed:
            vetoed = True
            return replace(done, claim=ClaimOutcome(None, None, "the old master answers me"))
        return done

    g.on_order = answer
    g.cut_power()
    until(g, Kind.ABORTED)
    while g.pool.record.failovers < 2:
        g.run(250)
    g.feed(ev.OrderAnswered(uuid(3), g.host(3).stream, held[0]))
    assert uuid(3) not in g.pool.live.claims.answers


def test_the_forecast_is_of_the_file_that_would_be_loaded() -> None:
    """The claim read generation 50. Then a last copy arrives (the old master lives on the other network): generation
    51 places vm-1 elsewhere. Nothing is promoted on the forecast of a file that is not loaded any more."""
    g = Guarded()
    g.host(3).domains = ("vm-1",)
    at_home = PlacementView(True, 50, "state.db", (Placement("vm-1", uuid(3), "web"),))
    g.host(2).placements = g.host(3).placements = at_home
    g.run(2_000)
    g.cut_power()
    until(g, Kind.CLAIMED)
    moved = PlacementView(True, 51, "state.db", (Placement("vm-1", uuid(2), "web"),))
    for n in (2, 3):
        g.host(n).generation, g.host(n).placements = 51, moved
    g.run(60_000)
    assert g.promoted() == []


def test_the_vms_of_a_survivor_whose_agent_is_silent_are_forecast_too() -> None:
    """host-3's agent has stopped, its xapi and vm-1 run on. The candidate's file places vm-1 on host-2: when host-3 is
    brought to the new master its xapi kills vm-1. Nobody was asked."""
    g = Guarded()
    g.host(3).domains = ("vm-1",)
    view = PlacementView(True, 50, "state.db", (Placement("vm-1", uuid(2), "web"),))
    g.host(2).placements = g.host(3).placements = view
    g.run(4_000)
    g.host(3).agent = False
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    g.run(10_000)
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == []


def test_ha_that_was_seen_armed_is_not_forgotten_because_those_who_said_so_are_silent() -> None:
    """xHA is armed; host-2 was disabled when it was enabled, so its own flag says no. The master dies and with it
    host-3's agent. The only voice left says "no HA", while xHA on host-3 elects a master."""
    g = Guarded()
    g.host(1).ha = g.host(3).ha = Tri.YES
    g.run(6_000)
    assert g.verdict == "HaManaged"
    g.host(3).agent = False
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == []


def test_a_member_of_another_living_master_is_no_candidate() -> None:
    """Designated to host-3 by hand while host-3's agent was down; the record still names host-1, which is then powered
    off for repair. host-2 is a contented member of host-3: promoting it makes two masters."""
    g = Guarded()
    g.host(3).agent = False
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    g.run(10_000)
    third, second, first = g.host(3), g.host(2), g.host(1)
    third.pool_conf = third.running = Role.MASTER
    third.serves = True
    for host in (first, second):
        host.pool_conf = host.running = Role.MEMBER
        host.serves, host.master_address = False, address(3)
    g.run(20_000)
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == []


def test_a_higher_term_that_shows_up_ends_a_failover_of_a_lower_one() -> None:
    """A journal restored from an old backup: failover at term 2 is at PROMOTING, its old master scrapped and OFF. A
    host says Hello with term 9: the pool has had other masters since. The order must not go out under that number."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    sent = len(g.promoted())
    g.connect(g.host(3), highest_term=9)
    g.run(60_000)
    assert len(g.promoted()) == sent


def test_superseding_raises_the_term_so_that_the_order_under_way_is_refused() -> None:
    """S37: the promote order is in a buffer while the old master is seen serving again: SUPERSEDED. A late copy must
    meet a higher term at the gate."""
    g = Guarded()
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    old = g.host(1)
    old.agent = old.answers = True
    old.boot, old.power = "boot-1-2", Power.ON
    g.connect(old)
    g.run(4_000)
    assert g.has(Kind.SUPERSEDED)
    failover = g.pool.record.failover
    assert failover is not None and failover.step is Step.SUPERSEDED
    assert g.pool.record.term > failover.term


def test_an_answer_kept_from_an_earlier_life_of_the_journal_is_no_answer() -> None:
    """The collector was installed anew. The agents keep their last results, and the first failover of the new journal
    makes the same ids: a promotion of long ago must not be taken for this one's."""
    g = Guarded()
    ancient = OrderOutcome(f"{POOL[:8]}-1/promote/{uuid(2)[:8]}", "promote", End.DONE, term=7, replayed=True)
    g.connect(g.host(2), last_results=(ancient,), highest_term=7)
    g.report(g.host(2))
    g.connect(g.host(3), highest_term=7)  # it knows of that past as well
    g.report(g.host(3))
    lose(g, "promote")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    g.run(5_000)
    assert g.pool.record.failover is not None and g.pool.record.failover.candidate == uuid(2)
    assert not g.has(Kind.PROMOTE_ANSWER)
