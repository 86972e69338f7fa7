"""What is concluded after a promote intent, before a power-off, of a silent host: each ground alone.

As in ``test_each_condition.py``; the small predicates of ``promotion.py``, ``power_off.py`` and ``fenced_hosts.py`` are
asked themselves, because several of them stand behind one another on every way that a story goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.failover.test_reversals import intended
from tests.core.known import (
    Change,
    after,
    both,
    facts,
    failover_of,
    hello,
    live,
    of_failover,
    of_role,
    of_xapi,
    record,
    same,
    silent,
)
from tests.core.pool import Guarded, address, uuid

from poolwarden_collector.core.devices.device_runner import landed_after
from poolwarden_collector.core.evidence import fenced_hosts
from poolwarden_collector.core.evidence.proof import Proof, find_proof
from poolwarden_collector.core.failover import power_off, promotion, unserving_candidate
from poolwarden_collector.core.failover.last_look import SHOT_EVIDENCE_MS
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import Recall
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness, Probe, ProbeOutcome, Tombstone
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import Ms, ProcessId, Role
from poolwarden_collector.core.state.failover_record import (
    REVERSIBLE,
    Fencing,
    MemberReturn,
    Promotion,
    RecordedProof,
    Standstill,
    Step,
)
from poolwarden_collector.core.state.live import Pool, PowerState, Sent
from poolwarden_collector.core.state.live_slices import (
    CollectorProbe,
    CollectorProbes,
    FencedHosts,
    LastLook,
    Look,
    Phases,
    PowerOffRun,
)
from poolwarden_collector.core.state.pool_record import Confirmed
from poolwarden_collector.core.state.transaction import Transaction


@pytest.fixture(scope="module")
def g() -> Guarded:
    """A promotion that is intended; its order has no answer."""
    pool = intended()
    pool.run(30_000)
    return pool


def ask(predicate: Any, g: Guarded, *changes: Change, later: Ms = 0) -> Any:
    d = after(g, both(*changes), later)
    assert d.failover is not None
    return predicate(d, d.failover)


def answered(result: Outcome = Outcome.UNKNOWN, ago: Ms = 30_000, order: bool = True) -> Change:
    """The candidate answered its order so long ago, and was seen since."""

    def change(pool: Pool) -> Pool:
        at = max(agent.last_heard for agent in pool.live.agents.values())
        failover = pool.record.failover
        assert failover is not None
        known = OrderOutcome(failover.promotion.order, "promote", result)
        sent = Sent(failover.promotion.order, "promote", uuid(2), 1, at - ago, known, at - ago if order else None)
        saw = facts(2, lambda f: replace(f, observed=replace(f.observed, host=at, xapi=at)))
        of_order = live(sent={**pool.live.sent, failover.promotion.order: sent})
        return both(of_failover(Promotion, result=result.value), of_order, saw)(pool)

    return change


def unbegun(**changes: Any) -> Change:
    """The order was sent on an earlier stream, 30 s ago, and nothing was heard of it."""

    def change(pool: Pool) -> Pool:
        failover, at = pool.record.failover, max(agent.last_heard for agent in pool.live.agents.values())
        assert failover is not None
        stream = pool.live.agents[uuid(2)].stream
        given = {"stream": stream - 1, "at": at - 30_000, **changes}
        sent = Sent(failover.promotion.order, "promote", uuid(2), **given)
        return live(sent={**pool.live.sent, failover.promotion.order: sent})(pool)

    return change


# ------------------------------------------------------------------------------------------------ an unknown answer


def test_nothing_has_come_of_an_order_only_where_the_candidate_is_seen_since_as_the_member_that_it_was(
    g: Guarded,
) -> None:
    nothing = promotion._nothing_has_come_of_it
    for result in (Outcome.UNKNOWN, Outcome.FAILED):
        assert ask(nothing, g, answered(result)), result
    assert not ask(nothing, g, answered(Outcome.DONE))
    assert not ask(nothing, g, answered(), silent(2))
    assert not ask(nothing, g, answered(), of_failover(Standstill, blocker=Blocker.PROMOTE_REFUSED))
    old = facts(2, lambda f: replace(f, observed=replace(f.observed, xapi=g.now - 40_000)))
    assert not ask(nothing, g, answered(), old)
    for other in (of_role(2, pool_conf=Role.MASTER), of_role(2, running=Role.MASTER)):
        assert not ask(nothing, g, answered(), other)
    assert not ask(nothing, g, answered(), of_xapi(2, process=ProcessId(0, 0)))
    assert not ask(nothing, g, answered(), of_xapi(2, socket_liveness=Liveness.SILENT))


def test_a_call_that_may_be_at_work_is_given_its_time_and_longer_in_the_process_that_was_asked(g: Guarded) -> None:
    nothing, short = promotion._nothing_has_come_of_it, promotion.RESEND_AFTER_MS
    long = promotion.ORDER_VALID_MS + short
    late = g.now - max(agent.last_heard for agent in g.pool.live.agents.values())
    assert ask(nothing, g, answered(ago=long - late)) and not ask(nothing, g, answered(ago=long - late - 1))
    anew = of_xapi(2, process=ProcessId(9, 9))
    assert ask(nothing, g, answered(ago=short - late), anew)
    assert not ask(nothing, g, answered(ago=short - late - 1), anew)


def test_a_tombstone_that_holds_a_taken_role_back_is_released_by_the_same_order(g: Guarded) -> None:
    nothing = promotion._nothing_has_come_of_it
    stone = facts(2, lambda f: replace(f, tombstone=Tombstone(1)))
    assert ask(nothing, g, answered(), of_role(2, pool_conf=Role.MASTER), stone)
    assert not ask(nothing, g, answered(ago=0), stone)  # a member with one: the order's time is waited for


def test_an_order_never_took_effect_where_it_failed_and_left_a_member_or_has_no_answer(g: Guarded) -> None:
    never = promotion._never_took_effect
    assert ask(never, g)
    assert ask(never, g, answered(Outcome.FAILED))
    assert not ask(never, g, answered(Outcome.UNKNOWN)) and not ask(never, g, answered(Outcome.DONE))
    assert not ask(never, g, answered(Outcome.FAILED), silent(2))
    assert not ask(never, g, answered(Outcome.FAILED), of_role(2, pool_conf=Role.MASTER))


def test_it_is_a_member_still_only_after_the_time_of_a_promotion_in_the_same_process(g: Guarded) -> None:
    still, budget = promotion._member_still, g.policy.promote_budget
    assert ask(still, g, both(live(Phases, step_since=g.now - budget), live(sent={})))
    assert not ask(still, g, both(live(Phases, step_since=g.now - budget + 1), live(sent={})))
    long = both(live(Phases, step_since=0), live(sent={}))
    assert not ask(still, g, long, silent(2))
    assert not ask(still, g, long, of_xapi(2, process=ProcessId(9, 9)))
    assert not ask(still, g, long, of_role(2, running=Role.MASTER))


def test_an_order_never_began_where_nobody_can_obey_it_any_more(g: Guarded) -> None:
    never = promotion._never_began
    assert ask(never, g, unbegun())
    assert not ask(never, g, unbegun(), silent(2))
    assert not ask(never, g, unbegun(), of_failover(Promotion, result="unknown"))
    for other in ({"pool_conf": Role.MASTER}, {"running": Role.MASTER}, {"serves_as_master": True}):
        assert not ask(never, g, unbegun(), of_role(2, **other))
    assert not ask(never, g, unbegun(stream=g.pool.live.agents[uuid(2)].stream))
    assert not ask(never, g, unbegun(at=g.now - 19_999)) and ask(never, g, unbegun(at=g.now - 20_000))
    order = failover_of(g).promotion.order

    def said(outcome: Outcome) -> Change:
        return unbegun(result=OrderOutcome(order, "promote", outcome), stream=g.pool.live.agents[uuid(2)].stream)

    assert ask(never, g, said(Outcome.REFUSED)) and not ask(never, g, said(Outcome.UNKNOWN))
    forgotten = live(sent={})
    started = g.site.started_at + promotion.ORDER_VALID_MS + promotion.RESEND_AFTER_MS - g.now
    assert ask(never, g, forgotten, later=started) and not ask(never, g, forgotten, later=started - 1)


def test_nothing_is_intended_for_a_candidate_that_is_not_heard_or_on_the_proof_of_another_host(g: Guarded) -> None:
    proof = find_proof(after(g, same), failover_of(g))
    assert isinstance(proof, Proof)

    def intended_on(change: Change, host: str = "") -> bool:
        d, proof.host = after(g, change), host or uuid(1)
        promotion.intend(d, failover_of(g), proof)
        return bool(d.entries or d.effects)

    again = of_failover(step=Step.PROVED)
    assert intended_on(again) and not intended_on(both(again, silent(2))) and not intended_on(again, uuid(3))


# ------------------------------------------------------------------------------------------------ a candidate's end


def test_a_candidate_is_dead_only_by_its_power_or_a_word_of_this_run(g: Guarded) -> None:
    def dead(*changes: Change) -> bool:
        tx = after(g, both(silent(2), *changes))
        assert tx.failover is not None
        found = promotion._candidate_is_dead(tx, tx.failover)
        assert found == any(entry.kind is Kind.ABORTED for entry in tx.entries)
        return found

    word = Confirmed(uuid(2), "boot-2-1", "alice", "cord pulled")
    unread = live(power={**g.pool.live.power, "bmc-2": PowerState()})
    said = both(unread, record(confirmed={uuid(2): word}), live(FencedHosts, words_at={uuid(2): g.now}))
    said = both(record(confirmed={uuid(2): word}), lambda p: live(FencedHosts, words_at={uuid(2): g.now})(unread(p)))
    assert not dead() and dead(said)
    assert not dead(said, live(FencedHosts, words_at={}))  # of an earlier run
    heard = both(said, lambda p: live(agents=g.pool.live.agents)(p))
    assert not dead(heard)
    gone = {host: known for host, known in g.pool.record.hosts.items() if host != uuid(2)}
    assert not dead(said, record(hosts=gone))
    tx = Transaction(both(silent(2), said)(g.pool), g.now, replace(g.site, quiet_until=g.now + 1))
    assert not promotion._candidate_is_dead(tx, failover_of(g))


def met(**of_the_role: Any) -> Change:
    """It answered "done", and is a member of the old master again in another process."""
    given = {"pool_conf": Role.MEMBER, "serves_as_master": False, "master_address": address(1), **of_the_role}
    proof = RecordedProof(ProofKind.POWER, uuid(1), "boot-1-1", {"readings": [{"device": "bmc-1"}]})
    return both(
        answered(Outcome.DONE), of_failover(proof=proof), of_role(2, **given), of_xapi(2, process=ProcessId(9, 9))
    )


def undone(g: Guarded, *changes: Change) -> list[Kind]:
    d = after(g, both(*changes))
    assert d.failover is not None
    promotion._undid_itself(d, d.failover)
    return [entry.kind for entry in d.entries]


def test_a_candidate_has_met_another_master_only_where_every_fact_says_so(g: Guarded) -> None:
    assert Kind.DEVICE_QUARANTINED in undone(g, met()) and Kind.DEMOTED in undone(g, met())
    for result in (Outcome.UNKNOWN, Outcome.FAILED):
        assert not undone(g, met(), of_failover(Promotion, result=result.value))
    assert not undone(g, met(), silent(2)) and not undone(g, met(), of_failover(proof=None))
    assert not undone(g, met(pool_conf=Role.MASTER)) and not undone(g, met(serves_as_master=True))
    assert not undone(g, met(), of_xapi(2, process=ProcessId(0, 0)))
    assert not undone(g, met(), of_xapi(2, process=failover_of(g).promotion.process))
    before = facts(2, lambda f: replace(f, observed=replace(f.observed, xapi=g.now - 60_000)))
    assert not undone(g, met(), before)
    elsewhere = undone(g, met(master_address=address(3)))
    assert Kind.DEMOTED in elsewhere and Kind.DEVICE_QUARANTINED not in elsewhere
    forgotten = {host: agent for host, agent in g.pool.live.agents.items() if host != uuid(1)}
    after_a_restart = live(agents=forgotten)  # the old master was not heard in this run
    assert Kind.DEMOTED in undone(g, after_a_restart, met())
    again = undone(g, met(), hello(1, boot_id="boot-1-2"))
    assert Kind.DEMOTED in again and Kind.DEVICE_QUARANTINED not in again


def test_a_tombstone_of_this_term_ends_it_and_one_of_a_lower_term_does_not(g: Guarded) -> None:
    term = failover_of(g).term

    def stone(of: int) -> Change:
        return facts(2, lambda f: replace(f, tombstone=Tombstone(of)))

    assert Kind.ABORTED in undone(g, met(), stone(term)) and Kind.ABORTED in undone(g, met(), stone(term + 1))
    assert Kind.ABORTED not in undone(g, met(), stone(term - 1))


def test_whoever_was_met_alive_is_confirmed_off_no_more(g: Guarded) -> None:
    word = Confirmed(uuid(1), "boot-1-1", "alice", "cord pulled")
    said = both(record(confirmed={uuid(1): word}), live(FencedHosts, words_at={uuid(1): g.now - 1}))
    assert Kind.HOST_CONFIRMED_OVER in undone(g, said, met())


# ------------------------------------------------------------------------------------------------ a new master


def serves(**of_the_role: Any) -> Change:
    given = {"pool_conf": Role.MASTER, "running": Role.MASTER, "serves_as_master": True, **of_the_role}
    return both(of_role(2, **given), of_xapi(2, process=ProcessId(9, 9), liveness=Liveness.ANSWERS))


def test_a_new_master_is_verified_by_four_facts_of_a_heard_agent(g: Guarded) -> None:
    ask_it = promotion._serves
    assert ask(ask_it, g, serves())
    assert not ask(ask_it, g, serves(), silent(2))
    assert not ask(ask_it, g, serves(pool_conf=Role.MEMBER)) and not ask(ask_it, g, serves(serves_as_master=False))
    for other in (ProcessId(0, 0), failover_of(g).promotion.process):
        assert not ask(ask_it, g, serves(), of_xapi(2, process=other))
    assert not ask(ask_it, g, serves(), of_xapi(2, liveness=Liveness.STARTING))


def restarted(g: Guarded, *changes: Change) -> tuple[bool, bool]:
    """Is it waited for, and is its xapi restarted now?"""
    d = after(g, both(of_role(2, pool_conf=Role.MASTER), of_xapi(2, process=ProcessId(9, 9)), *changes))
    assert d.failover is not None
    waits = unserving_candidate._restart_once(d, d.failover)
    return waits, bool(d.effects)


def test_a_new_xapi_that_does_not_come_up_is_restarted_once_and_no_other_process_is(g: Guarded) -> None:
    long = live(Phases, marks={"new-xapi": g.now - unserving_candidate.NEW_XAPI_TIME_MS})
    assert restarted(g, long) == (True, True)
    assert restarted(g, live(Phases, marks={"new-xapi": g.now - unserving_candidate.NEW_XAPI_TIME_MS + 1})) == (
        True,
        False,
    )
    assert restarted(g, of_xapi(2, process=ProcessId(0, 0))) == (True, True)  # none runs: nothing is to be waited for
    assert restarted(g, long, silent(2)) == (False, False)
    assert restarted(g, long, of_role(2, pool_conf=Role.MEMBER)) == (False, False)
    assert restarted(g, long, of_xapi(2, process=failover_of(g).promotion.process)) == (False, False)
    once, budget = of_failover(MemberReturn, restarted=(uuid(2),)), g.policy.promote_budget
    assert restarted(g, once, live(Phases, marks={"restart-new": g.now - budget + 1})) == (True, False)
    assert restarted(g, once, live(Phases, marks={"restart-new": g.now - budget})) == (False, False)


def test_only_a_member_that_was_started_anew_is_noted_as_the_process_that_takes_the_role(g: Guarded) -> None:
    def noted(*changes: Change) -> bool:
        d = after(g, both(of_xapi(2, process=ProcessId(9, 9)), *changes))
        agent = d.agent(uuid(2))
        assert d.failover is not None and agent is not None
        promotion._note_process(d, d.failover, agent)
        return bool(d.entries)

    assert noted()
    assert not noted(of_role(2, pool_conf=Role.MASTER)) and not noted(of_role(2, running=Role.MASTER))
    assert not noted(of_xapi(2, process=ProcessId(0, 0)))
    assert not noted(of_xapi(2, process=failover_of(g).promotion.process))


# ------------------------------------------------------------------------------------------------ power-offs


def pending(g: Guarded, run: str, since: Ms, later: Ms = 0) -> bool:
    change = both(of_failover(Fencing, pending=("bmc-1", run)), live(PowerOffRun, begun_at=since))
    d = after(g, change, later)
    assert d.failover is not None
    return power_off.pending(d, d.failover)


def test_a_power_off_is_under_way_until_nothing_of_it_can_land(g: Guarded) -> None:
    limit, ours = 50_000, f"aaaaaaaa/off/{g.site.epoch}.7"
    assert not ask(power_off.pending, g)
    assert pending(g, ours, g.now - limit + 1) and not pending(g, ours, g.now - limit)
    started = g.site.started_at + limit - g.now  # of an earlier run: counted from this one's start
    assert pending(g, "aaaaaaaa/off/0.7", 1, started - 1) and not pending(g, "aaaaaaaa/off/0.7", 1, started)
    assert pending(g, ours, 0, started - 1) and not pending(g, ours, 0, started)


def life(g: Guarded, *changes: Change) -> str:
    d = after(g, both(live(PowerOffRun, begun_at=g.now - 5_000), live(LastLook, round=None), *changes))
    assert d.failover is not None
    return power_off._life(d, d.failover)


def test_what_shows_that_a_host_lives_while_its_power_off_is_under_way(g: Guarded) -> None:
    def agent(at: Ms, connected: bool = True) -> Change:
        def change(pool: Pool) -> Pool:
            known = replace(pool.live.agents[uuid(1)], connected=connected, last_heard=at)
            return live(agents={**pool.live.agents, uuid(1): known})(pool)

        return change

    assert not life(g)
    assert "agent" in life(g, agent(g.now - 1)) and not life(g, agent(g.now - 1, connected=False))
    assert not life(g, both(live(PowerOffRun, begun_at=g.now), agent(g.now)))  # heard before it was ordered
    young = both(live(PowerOffRun, begun_at=g.now - 2_000), agent(g.now - 2_000))
    assert not life(g, young)
    assert life(g, live(LastLook, round=replace(g.pool.live.look.round, alive="h3 was answered"))) == "h3 was answered"  # type: ignore[type-var]
    answer = Probe(uuid(1), address(1), ProbeOutcome.ANSWERED, g.now, g.now)
    assert "member" in life(g, facts(3, lambda f: replace(f, probes=(answer,))))
    own = CollectorProbe(uuid(1), ProbeOutcome.ANSWERED, g.now, g.now)
    assert "collector" in life(g, live(CollectorProbes, newest=own))
    assert "collector" in life(
        g, both(live(CollectorProbes, newest=own), live(LastLook, round=Look("n", g.now)))
    )  # nothing was found in that look
    assert not life(g, live(agents={}))  # as after a restart


def test_an_ended_power_off_is_recalled_once_and_members_that_may_run_it_hear_the_term(g: Guarded) -> None:
    agents = frozenset({"fence_x"})

    def recalled(via: bool, able: tuple[int, ...], *changes: Change) -> list[str]:
        pool = both(
            *(hello(n, fence_agents=agents) for n in able),
            of_failover(Fencing, pending=("bmc-1", "run-1")),
            of_failover(step=Step.ABORTED),
            record(term=failover_of(g).term + 1),
        )(g.pool)
        device = FenceDevice("bmc-1", uuid(1), agent="fence_x", via_members=via)
        pool = both(*changes)(replace(pool, devices={**pool.devices, uuid(1): (device,)}))
        tx = Transaction(pool, g.now, g.site)
        assert pool.record.failover is not None
        power_off._recall(tx, pool.record.failover, "its failover has ended")
        return [type(e).__name__ if not hasattr(e, "order") else e.order.host for e in tx.effects]

    assert recalled(False, (2, 3)) == ["Recall"]
    assert recalled(True, (2,)) == ["Recall", uuid(2)]
    assert recalled(True, (2, 3), silent(3)) == ["Recall", uuid(2)]
    assert recalled(True, (2,), record(term=failover_of(g).term)) == ["Recall"]
    assert recalled(True, (2,), lambda p: replace(p, devices={})) == ["Recall"]
    assert recalled(True, (2,), live(PowerOffRun, recalled="run-1")) == []
    late = max(agent.last_heard for agent in g.pool.live.agents.values())
    old = replace(g.pool.live.agents[uuid(1)], connected=True, last_heard=late)

    def back(pool: Pool) -> Pool:
        hers = replace(old, hello=replace(old.hello, fence_agents=agents))
        return live(agents={**pool.live.agents, uuid(1): hers})(pool)

    assert recalled(True, (2,), back) == ["Recall", uuid(2)]  # no host runs its own


BMC = FenceDevice("bmc-1", uuid(1))


def test_an_off_is_not_put_behind_a_reading_that_is_under_way(g: Guarded) -> None:
    def read(power: dict[str, PowerState]) -> bool:
        return power_off._is_read(after(g, live(power=power)), BMC)

    over = landed_after(BMC)
    assert read({"bmc-1": PowerState(running="run-9", started_at=g.now - over + 1)})
    assert not read({"bmc-1": PowerState(running="run-9", started_at=g.now - over)})
    assert not read({"bmc-1": PowerState(started_at=g.now)}) and not read({})


def test_a_device_that_is_to_switch_off_is_not_read_for_a_moment(g: Guarded) -> None:
    def aimed(name: str, ago: Ms) -> bool:
        return power_off.aimed_at(after(g, live(PowerOffRun, aimed=(name, g.now - ago))), BMC)

    assert aimed("bmc-1", SHOT_EVIDENCE_MS - 1)
    assert not aimed("bmc-1", SHOT_EVIDENCE_MS) and not aimed("bmc-2", 0)


def test_a_device_that_was_never_read_can_switch_off(g: Guarded) -> None:
    for power in ({}, {"bmc-1": PowerState()}):
        assert power_off._next_device(after(g, live(power=power)), failover_of(g)) == BMC


def recalls(g: Guarded, *changes: Change) -> tuple[bool, bool]:
    """Is the failover aborted, and is the power-off under way recalled?"""
    ours = of_failover(Fencing, pending=("bmc-1", f"aaaaaaaa/off/{g.site.epoch}.7"))
    d = after(g, both(ours, live(PowerOffRun, begun_at=g.now - 5_000), live(LastLook, round=None), *changes))
    power_off.recall(d)
    kinds = [entry.kind for entry in d.entries]
    recalled = any(isinstance(effect, Recall) for effect in d.effects)
    assert recalled == (Kind.FENCE_RECALLED in kinds)
    return Kind.ABORTED in kinds, recalled


def test_a_sign_of_life_ends_what_can_be_undone_and_recalls_its_power_off(g: Guarded) -> None:
    lives = live(CollectorProbes, newest=CollectorProbe(uuid(1), ProbeOutcome.ANSWERED, g.now, g.now))
    for step in REVERSIBLE:
        assert recalls(g, of_failover(step=step), lives) == (True, True), step
        assert recalls(g, of_failover(step=step)) == (False, False), step
    assert recalls(g, lives) == (False, False)  # after the intent nothing can be undone
    for change in (same, lives):
        assert recalls(g, of_failover(step=Step.ABORTED), change) == (False, True)  # once its failover has ended
    assert recalls(g, both(of_failover(step=Step.ABORTED), of_failover(Fencing, pending=None))) == (False, False)
    assert recalls(g, record(failover=None)) == (False, False)


def test_why_a_power_off_waits_for_testimony_is_told_after_a_while_and_as_what_it_is(g: Guarded) -> None:
    long = 3 * g.policy.look_wait + SHOT_EVIDENCE_MS

    def waits(ago: Ms | None, look: Look | None) -> str:
        since = g.now - ago if ago is not None else None
        d = after(
            g,
            both(
                of_failover(Standstill, blocker=None, topic=""),
                live(PowerOffRun, unwitnessed_since=since),
                live(LastLook, round=look),
            ),
        )
        power_off._say_unwitnessed(d, failover_of(g))
        assert d.failover is not None and d.live.power_off.unwitnessed_since is not None
        return f"{d.failover.standstill.topic} {d.failover.standstill.why}" if d.entries else ""

    young = Look("n", g.now)
    assert not waits(None, young) and not waits(long - 1, young)
    told = [
        waits(long, look)
        for look in (young, replace(young, answered=(uuid(2),)), replace(young, alive="h3 was answered"))
    ]
    words = ("no member answers", "come too late", "h3 was answered")
    assert all(word in said for word, said in zip(words, told, strict=True))
    assert len({said.split()[0] for said in told}) == 3  # three topics
    assert waits(long, None) == told[0]


# ------------------------------------------------------------------------------------------------ silent hosts


def test_what_counts_as_a_sign_of_life(g: Guarded) -> None:
    def lives(*changes: Change, later: Ms = 0) -> str:
        unprobed = facts(2, lambda f: replace(f, probes=()))
        return fenced_hosts.lives(after(g, both(silent(3), unprobed, *changes), later), uuid(3))

    assert not lives() and "agent" in fenced_hosts.lives(after(g, same), uuid(3))

    def probe(outcome: ProbeOutcome, certificate: str = "") -> Change:
        found = Probe(uuid(3), address(3), outcome, g.now, g.now, certificate=certificate)
        return facts(2, lambda f: replace(f, probes=(found,)))

    assert lives(probe(ProbeOutcome.ANSWERED)) and not lives(probe(ProbeOutcome.NO_ANSWER))
    master = both(record(master=uuid(3), standing={uuid(2): "aa"}), probe(ProbeOutcome.ANSWERED, "bb"))
    assert not lives(master)  # somebody else's xapi at its address
    own = CollectorProbe(uuid(3), ProbeOutcome.ANSWERED, g.now, g.now)
    assert lives(live(CollectorProbes, newest=own)) and not lives(
        live(CollectorProbes, newest=replace(own, host=uuid(1)))
    )
    told = live(FencedHosts, voices={uuid(3): (g.now - fenced_hosts.VOICE_FRESH_MS, "told its role")})
    assert lives(told) == "told its role" and not lives(told, later=1)


def test_when_a_silent_hosts_power_is_read(g: Guarded) -> None:
    def wants(*changes: Change) -> bool:
        return fenced_hosts.wants_reading(after(g, both(silent(3), *changes)), uuid(3))

    said, blocks = fenced_hosts.READ_AFTER_MS, fenced_hosts.AWAITED_MS
    assert not wants()
    assert wants(live(FencedHosts, words_at={uuid(3): g.now - said + 1})) and not wants(
        live(FencedHosts, words_at={uuid(3): g.now - said})
    )
    assert wants(live(FencedHosts, awaited={uuid(3): g.now - blocks + 1})) and not wants(
        live(FencedHosts, awaited={uuid(3): g.now - blocks})
    )
    heard = after(g, live(FencedHosts, words_at={uuid(3): g.now}, awaited={uuid(3): g.now}))
    assert not fenced_hosts.wants_reading(heard, uuid(3))


def test_nobody_is_excused_who_lives_or_is_no_host_of_the_pool(g: Guarded) -> None:
    word = Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled")
    unprobed = facts(2, lambda f: replace(f, probes=()))
    quiet = both(silent(3), unprobed, record(confirmed={uuid(3): word}))
    assert fenced_hosts.excused(after(g, quiet), uuid(3))
    told = live(FencedHosts, voices={uuid(3): (g.now, "told its role")})
    assert not fenced_hosts.excused(after(g, both(quiet, told)), uuid(3))
    gone = {host: known for host, known in g.pool.record.hosts.items() if host != uuid(3)}
    assert not fenced_hosts.excused(after(g, both(quiet, record(hosts=gone))), uuid(3))


def test_a_word_ends_with_a_later_sign_of_life_and_not_with_an_earlier_one(g: Guarded) -> None:
    word = Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled")

    def over(at: Ms, *changes: Change) -> bool:
        d = after(
            g, both(record(confirmed={uuid(3): word}), live(FencedHosts, words_at={uuid(3): g.now - 100}), *changes)
        )
        fenced_hosts.alive(d, uuid(3), at, "it answered")
        return bool(d.entries) and uuid(3) not in d.record.confirmed

    assert over(g.now - 100) and not over(g.now - 101)
    assert over(g.site.started_at, live(FencedHosts, words_at={})) and not over(
        g.site.started_at - 1, live(FencedHosts, words_at={})
    )
    assert not over(g.now, record(confirmed={}))


def test_what_blocks_is_remembered_from_second_to_second(g: Guarded) -> None:
    def awaited(before: dict[str, Ms]) -> dict[str, Ms]:
        d = after(g, live(FencedHosts, awaited=before))
        fenced_hosts.await_confirmation(d, [uuid(3)])
        return d.live.fenced.awaited

    assert awaited({}) == {uuid(3): g.now}
    assert awaited({uuid(3): g.now - 999}) == {uuid(3): g.now - 999}
    assert awaited({uuid(3): g.now - 1_000, uuid(2): 5}) == {uuid(3): g.now, uuid(2): 5}
