"""Every act waits for several facts at once: each of them changed alone, and the act that is not begun then.

A pool is brought, by events, to the step in which the act is done. That step is made once more with one fact changed
before it; in each test the act is done where nothing is changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.failover.test_reversals import intended
from tests.core.failover.test_toolstack import hung, until
from tests.core.known import (
    Change,
    Moment,
    both,
    did,
    facts,
    hello,
    live,
    look,
    moment_of,
    of_failover,
    of_role,
    of_xapi,
    record,
    sends,
    silent,
)
from tests.core.pool import QUIET, Guarded, Host, uuid
from tests.core.recovery.test_unheard_at_boot import Booting

from poolwarden_collector.core.engine import StepResult
from poolwarden_collector.core.failover.last_look import SHOT_VALID_MS
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import AnswerGate, Effect, PowerOff, ReadPower, SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome, PlacementView
from poolwarden_collector.core.model.order_results import Outcome as OrderEnd
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.model.values import Ms, ProcessId, Role
from poolwarden_collector.core.state.failover_record import (
    REVERSIBLE,
    Failover,
    Fencing,
    HeldMaster,
    Promotion,
    Standstill,
    Step,
)
from poolwarden_collector.core.state.live import Pool, PowerState
from poolwarden_collector.core.state.live_slices import Backoff, ClaimRound, FencedHosts, LastLook, Phases, PowerOffRun
from poolwarden_collector.core.state.pool_record import Owed, OwedWork


def kinds(outcome: StepResult) -> list[Kind]:
    return [entry.kind for entry in outcome.entries]


# ------------------------------------------------------------------------------------------------ promotion


@pytest.fixture(scope="module")
def sent_again() -> Moment:
    """A promotion that had no answer is due again; everything is made anew."""
    return moment_of(sends("promote"), lambda: intended().run(60_000), nth=2)


def test_a_promotion_is_not_sent_again_once_the_pools_term_is_a_higher_one(sent_again: Moment) -> None:
    """Another collector, or a person's command, has ended this succession; this one's order is of a lower term."""
    term = sent_again.pool.record.term
    assert did(sent_again.again(), sends("promote"))
    overtaken = sent_again.again(record(term=term + 1))
    assert not overtaken.effects
    assert overtaken.pool.record.failover is not None
    assert overtaken.pool.record.failover.standstill.blocker == "BLOCKED_TERM_PASSED"


def claim_of(n: int, **changes: Any) -> Change:
    def change(pool: Pool) -> Pool:
        return live(
            ClaimRound,
            answers={**pool.live.claims.answers, uuid(n): replace(pool.live.claims.answers[uuid(n)], **changes)},
        )(pool)

    return change


def test_a_promotion_is_sent_again_only_on_what_is_made_anew(sent_again: Moment) -> None:
    moment, promotes = sent_again, sends("promote")
    assert did(moment.again(), promotes)
    assert not did(moment.again(quiet_until=moment.now + 1), promotes)
    assert not did(moment.again(behind_ms=60_000), promotes)
    assert not did(moment.again(silent(2)), promotes)
    without = {host: claim for host, claim in moment.pool.live.claims.answers.items() if host != uuid(2)}
    assert not did(moment.again(live(ClaimRound, answers=without)), promotes)
    assert not did(moment.again(live(LastLook, round=None)), promotes)
    unread = {name: replace(state, readings=()) for name, state in moment.pool.live.power.items()}
    assert not did(moment.again(live(power=unread)), promotes)
    assert not did(moment.again(of_role(3, pool_conf=Role.MASTER)), promotes)
    assert not did(moment.again(record(paused="work on the racks")), promotes)


def test_what_it_stood_on_and_does_not_any_more_keeps_it_back(sent_again: Moment) -> None:
    moment, promotes = sent_again, sends("promote")
    assert not did(moment.again(claim_of(3, veto="its xapi answered me")), promotes)
    newer = claim_of(3, placements=PlacementView(True, 51, "state.db"))
    copy = facts(3, lambda f: replace(f, database=replace(f.database, generation=51)))
    assert not did(moment.again(both(newer, copy)), promotes)
    handed = of_failover(HeldMaster, handed_over={"ok": True, "generation": 50})
    assert did(moment.again(both(newer, copy, handed)), promotes)  # what was handed over is newer than every copy
    hosts = moment.pool.record.hosts
    booted = {**hosts, uuid(1): replace(hosts[uuid(1)], boot_id="boot-1-2")}
    assert not did(moment.again(record(hosts=booted)), promotes)
    runs = facts(3, lambda f: replace(f, domains=("vm-7",), observed=replace(f.observed, host=moment.now)))
    assert not did(moment.again(runs), promotes)  # its xapi would kill a VM that no copy places there


def test_it_is_not_sent_again_before_the_order_under_way_has_expired(sent_again: Moment) -> None:
    moment, promotes = sent_again, sends("promote")
    failover = moment.pool.record.failover
    assert failover is not None
    order = moment.pool.live.sent[failover.promotion.order]

    def sent(**changes: Any) -> Change:
        return live(sent={**moment.pool.live.sent, order.order_id: replace(order, **changes)})

    assert did(moment.again(sent(at=moment.now - 20_000)), promotes)
    assert not did(moment.again(sent(at=moment.now - 19_999)), promotes)
    assert did(moment.again(sent(at=moment.now - 19_999, stream=order.stream - 1)), promotes)  # that stream is gone
    forgotten = {key: each for key, each in moment.pool.live.sent.items() if key != order.order_id}
    assert did(moment.again(live(sent=forgotten)), promotes)  # as after a restart


def test_where_another_host_serves_it_ends_if_its_order_took_no_effect_and_not_before(sent_again: Moment) -> None:
    moment = sent_again
    other = of_role(3, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    anew = of_xapi(2, process=ProcessId(9, 9))
    long = live(Phases, step_since=moment.now - moment.pool.policy.promote_budget)
    young = live(Phases, step_since=moment.now)

    def ended(*changes: Change) -> bool:
        return Kind.SUPERSEDED in kinds(moment.again(both(*changes)))

    assert ended(other) and not ended()
    for result in ("unknown", "done"):
        assert not ended(
            other, young, of_failover(Promotion, result=result)
        )  # the candidate may be on its way to be one, too
        assert ended(
            other, of_failover(Promotion, result=result), long
        )  # only on paper: it is a member's process still
        assert not ended(other, of_failover(Promotion, result=result), long, anew)
    undone = moment.again(both(other, of_failover(Promotion, result="done"), long))
    assert Kind.OWED in kinds(undone) and [item.host for item in undone.pool.record.owed] == [uuid(2)]
    itself = of_role(2, pool_conf=Role.MASTER, serves_as_master=True)
    assert not ended(itself) and not ended(long, itself)


def unanswered(moment: Moment) -> Change:
    """The stream on which the order went out just now is gone: it is due this instant."""
    failover = moment.pool.record.failover
    assert failover is not None
    order = replace(moment.pool.live.sent[failover.promotion.order], at=moment.now - 100, stream=0)
    return both(live(sent={**moment.pool.live.sent, order.order_id: order}), live(Phases, step_since=moment.now - 100))


def test_an_order_that_was_lost_with_its_stream_is_sent_again_at_once(sent_again: Moment) -> None:
    moment, promotes = sent_again, sends("promote")
    assert did(moment.again(unanswered(moment)), promotes)


def test_what_the_candidates_agent_says_of_it_is_learnt_before_it_is_sent_again(sent_again: Moment) -> None:
    moment = sent_again
    failover = moment.pool.record.failover
    assert failover is not None
    done = OrderOutcome(failover.promotion.order, "promote", OrderEnd.DONE)
    assert not did(moment.again(both(unanswered(moment), hello(2, last_results=(done,)))), sends("promote"))


def test_it_is_not_sent_again_beside_a_member_that_is_alive_and_not_heard(sent_again: Moment) -> None:
    """Another collector may hear it, and have promoted it."""
    moment, promotes = sent_again, sends("promote")
    unprobed = facts(2, lambda f: replace(f, probes=()))
    told = both(silent(3), unprobed, look(asked={uuid(3): moment.now}, told=(uuid(3),)))
    assert did(moment.again(told), promotes)
    outcome = moment.again(both(told, live(FencedHosts, voices={uuid(3): (moment.now, "its xapi told its role")})))
    assert not did(outcome, promotes)
    assert blocked(outcome) == Blocker.UNHEARD_MEMBER


def test_why_it_is_not_sent_again_goes_before_what_is_waited_for(sent_again: Moment) -> None:
    """Its answer is unknown, and long ago: both are so, and two blockers that take turns are none."""
    moment = sent_again
    failover = moment.pool.record.failover
    assert failover is not None
    unknown = both(of_failover(Promotion, result="unknown"), of_failover(Standstill, blocker=None, topic=""))
    order = replace(moment.pool.live.sent[failover.promotion.order], at=1)
    long = both(live(Phases, step_since=1), live(sent={order.order_id: order}))

    for change, blocker in (
        (of_role(3, pool_conf=Role.MASTER), Blocker.PROOF_NOT_RENEWED),
        (of_role(2, pool_conf=Role.BROKEN), Blocker.UNVERIFIED),
    ):
        assert blocked(moment.again(both(unknown, long, change))) == blocker


# ------------------------------------------------------------------------------------------------ power-offs


def is_off(effect: Effect) -> bool:
    return isinstance(effect, PowerOff)


@pytest.fixture(scope="module")
def shot_at() -> Moment:
    """A master that is silent for its patience, reads ON, and is switched off by policy."""

    def shoots() -> None:
        g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
        g.cut_power()
        g.host(1).power = Power.ON
        g.run(130_000)

    return moment_of(is_off, shoots)


def device(**changes: Any) -> Change:
    def change(pool: Pool) -> Pool:
        return live(power={**pool.live.power, "bmc-1": replace(pool.live.power["bmc-1"], **changes)})(pool)

    return change


def test_a_host_is_switched_off_only_on_all_of_its_grounds(shot_at: Moment) -> None:
    moment = shot_at
    assert did(moment.again(), is_off)
    heard = replace(moment.pool.live.agents[uuid(1)], last_heard=moment.now - 15_000 + 1)
    agents = {**moment.pool.live.agents, uuid(1): heard}
    for change in (
        live(Backoff, grace_until=moment.now + 1),
        live(agents=agents),
        live(PowerOffRun, ended_at=moment.now),  # the last one has not been read back
        device(running="run-9", started_at=moment.now - 1),
        of_failover(Fencing, attempts=(("bmc-1", 1), ("bmc-1", 2))),
        of_failover(Fencing, unbegun=(("bmc-1", "busy"),) * 3),
        record(devices=replace(moment.pool.record.devices, bonds={})),
        live(LastLook, round=None),
        record(paused="work on the racks"),
        silent(2, 3),
    ):
        assert not did(moment.again(change), is_off), change


def test_what_is_of_another_device_or_long_over_holds_no_power_off_up(shot_at: Moment) -> None:
    moment = shot_at
    for change in (
        of_failover(Fencing, attempts=(("bmc-1", 1), ("pdu-1", 1), ("pdu-1", 2))),
        of_failover(Fencing, unbegun=(("bmc-1", "busy"),) * 2 + (("pdu-1", "busy"),) * 3),
        device(running="run-9", started_at=moment.now - 600_000),
        live(PowerOffRun, ended_at=1),
    ):
        assert did(moment.again(change), is_off), change


def test_no_power_off_is_ordered_on_testimony_that_is_too_old_to_be_acted_on_in_time(shot_at: Moment) -> None:
    moment = replace(shot_at, event=ev.Tick())
    answered = look(answered=(uuid(2), uuid(3)), seen_at=moment.now)
    assert did(moment.again(answered), is_off)
    old = both(answered, look(seen_at=moment.now - SHOT_VALID_MS))
    outcome = moment.again(old)
    assert not did(outcome, is_off) and blocked(outcome) != Blocker.NO_WITNESS
    outcome = moment.again(both(old, live(PowerOffRun, unwitnessed_since=moment.now - 60_000)))
    assert not did(outcome, is_off) and blocked(outcome) == Blocker.NO_WITNESS


def test_who_is_heard_when_a_host_is_switched_off_is_kept_with_the_intent(shot_at: Moment) -> None:
    """If one of them falls silent with it, the device may have switched that one's machine."""

    def beside(*changes: Change) -> set[str]:
        outcome = replace(shot_at, event=ev.Tick()).again(
            both(look(answered=(uuid(2),), seen_at=shot_at.now), *changes)
        )
        (entry,) = [entry for entry in outcome.entries if entry.kind is Kind.FENCE_INTENT]
        return set(entry.data["beside"])

    of_master = facts(2, lambda f: replace(f, probes=tuple(each for each in f.probes if each.target == uuid(1))))
    assert beside() == {uuid(2), uuid(3)} and beside(silent(3), of_master) == {uuid(2)}


def test_no_power_off_is_ordered_that_no_member_can_run(shot_at: Moment) -> None:
    def members_only(pool: Pool) -> Pool:
        return replace(pool, devices={**pool.devices, uuid(1): (FenceDevice("bmc-1", uuid(1), via_members=True),)})

    outcome = shot_at.again(members_only)
    assert not did(outcome, is_off) and blocked(outcome) == Blocker.NO_MEMBER


def blocked(outcome: StepResult) -> str:
    failover = outcome.pool.record.failover
    return str(failover.standstill.blocker or "") if failover is not None else ""


def test_a_feed_that_reads_off_already_is_not_switched_off_once_more(shot_at: Moment) -> None:
    moment = shot_at
    two = {uuid(1): (FenceDevice("bmc-1", uuid(1)), FenceDevice("pdu-1", uuid(1)))}
    state, bond = moment.pool.live.power["bmc-1"], moment.pool.record.devices.bonds["bmc-1"]

    def feeds(first: Power, second: Power) -> Change:
        def change(pool: Pool) -> Pool:
            def read(power: Power, name: str) -> PowerState:
                return replace(state, readings=tuple(replace(r, power=power, device=name) for r in state.readings))

            power = {**pool.live.power, "bmc-1": read(first, "bmc-1"), "pdu-1": read(second, "pdu-1")}
            bonds = {**pool.record.devices.bonds, "pdu-1": bond}
            devices = replace(pool.record.devices, bonds=bonds)
            return both(live(power=power), record(devices=devices))(replace(pool, devices=two))

        return change

    def switched(*powers: Power) -> list[str]:
        return [e.device for e in moment.again(feeds(*powers)).effects if isinstance(e, PowerOff)]

    assert switched(Power.ON, Power.ON) == ["bmc-1"] and switched(Power.OFF, Power.ON) == ["pdu-1"]


# ------------------------------------------------------------------------------------------------ gates


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


def answered(outcome: StepResult) -> str:
    (word,) = [e for e in outcome.effects if isinstance(e, AnswerGate)]
    return f"{word.decision}: {word.reason}"


def a_failover(moment: Moment, **more: Any) -> Change:
    return record(failover=Failover("f-1", uuid(1), "boot-1-1", moment.pool.record.term, **more))


def test_no_gate_opens_while_a_power_off_of_that_host_may_still_land(asked: Moment) -> None:
    def pending(old: int, step: Step = Step.ABORTED) -> Change:
        run = (f"bmc-{old}", "aaaaaaaa/off/1.7")
        return both(a_failover(asked, step=step, fencing=Fencing(pending=run)), of_failover(old_master=uuid(old)))

    assert answered(asked.again()).startswith("open")
    for step in (Step.ABORTED, Step.DECIDED, Step.CANDIDATE):
        word = answered(asked.again(pending(1, step)))
        assert word == "wait: a power-off of this host may still be under way"
    assert answered(asked.again(pending(2))).startswith("open")  # of another host


def test_a_gate_that_opens_ends_a_failover_that_can_still_be_undone(asked: Moment) -> None:
    """It was decided while that host was away; now it may start as master, and nobody may succeed it any more."""
    for step in REVERSIBLE:
        outcome = asked.again(a_failover(asked, step=step))
        assert answered(outcome).startswith("open") and Kind.ABORTED in kinds(outcome), step
        failover = outcome.pool.record.failover
        assert failover is not None and failover.step is Step.ABORTED
        assert outcome.pool.record.term > asked.pool.record.term  # whatever was sent for it is refused from now on


# ------------------------------------------------------------------------------------------------ releases


@pytest.fixture(scope="module")
def released_as_master() -> Moment:
    """A toolstack was held for a promotion that was given up: it starts as master again."""

    def undone() -> None:
        g = hung()

        def lies(host: Host, order: Order) -> OrderOutcome | None:
            answer = g.default(host, order)
            if order.kind_name == "toolstack_fence":
                g.host(1).answers, g.host(1).closed = True, False
            return answer

        g.on_order = lies
        until(g, Kind.ABORTED)
        g.run(30_000)

    return moment_of(sends("toolstack_release"), undone)


def test_a_held_host_is_not_released_as_a_second_master(released_as_master: Moment) -> None:
    released = sends("toolstack_release")
    assert did(released_as_master.again(), released)
    serves = of_role(2, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    assert not did(released_as_master.again(serves), released)
    assert not did(released_as_master.again(both(serves, owed_a_tombstone(2))), released)  # superseded, serves still


def owed_a_tombstone(n: int) -> Change:
    return lambda pool: record(owed=(*pool.record.owed, Owed(uuid(n), OwedWork.TOMBSTONE, uuid(1), 1)))(pool)


# ------------------------------------------------------------------------------------------------ members


def repoints(n: int) -> Any:
    return lambda e: isinstance(e, SendOrder) and e.order.kind_name == "repoint" and e.order.host == uuid(n)


@pytest.fixture(scope="module")
def repointed() -> Moment:
    """Host 3 has claimed, and is repointed to the new master."""

    def succeeded() -> None:
        g = Guarded()
        g.cut_power()
        g.run(60_000)

    return moment_of(repoints(3), succeeded)


def test_a_member_that_was_in_no_forecast_is_not_repointed_unasked(repointed: Moment) -> None:
    """Its answer to the claim said what its xapi's restart costs; without that it is asked first."""
    assert did(repointed.again(), repoints(3))
    runs = facts(3, lambda f: replace(f, domains=("vm-7",), observed=replace(f.observed, host=repointed.now)))
    assert did(repointed.again(runs), repoints(3))  # it has claimed: its VMs were in the forecast that was accepted
    unclaimed = repointed.again(both(runs, of_failover(claimed=(uuid(2),))))
    assert not did(unclaimed, repoints(3))
    assert did(repointed.again(of_failover(claimed=(uuid(2),))), repoints(3))  # nothing runs there


# ------------------------------------------------------------------------------------------------ bonds


def test_a_reading_from_before_its_host_was_connected_binds_nothing() -> None:
    """It may have read the machine of another time, which had this address."""
    g = Guarded()
    g.run(60_000)
    host, agent = g.host(1), g.pool.live.agents[uuid(1)]

    def read(began: Ms, boot: str = host.boot) -> StepResult:
        run = ReadPower(uuid(1), "bmc-1", "run-1", identify=True)
        reading = replace(host.read(run, began), ended_at=g.now)
        state = replace(g.pool.live.power["bmc-1"], running="run-1")
        unbound = both(
            record(devices=replace(g.pool.record.devices, bonds={})),
            live(power={**g.pool.live.power, "bmc-1": state}),
            hello(1, boot_id=boot),
        )
        return Moment(g.pool, ev.PowerRead(uuid(1), "run-1", reading), g.now, g.site).again(unbound)

    assert Kind.DEVICE_BOUND in kinds(read(agent.connected_at))
    assert Kind.DEVICE_BOUND not in kinds(read(agent.connected_at - 1))
    assert Kind.DEVICE_BOUND not in kinds(read(g.now, "boot-1-2"))  # of a boot that is not on record yet
