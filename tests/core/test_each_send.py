"""The order to promote: what its answer is taken for, and what it is sent again for. As in ``test_each_step.py``."""

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
    record,
)
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.failover import promotion, unserving_candidate
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, PlacementView
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.state.failover_record import HeldMaster, Promotion, Standstill
from poolwarden_collector.core.state.live import Pool, Sent
from poolwarden_collector.core.state.live_slices import ClaimRound, Phases
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.transaction import Transaction


@pytest.fixture(scope="module")
def g() -> Guarded:
    """A promotion that is intended; its order has no answer, and everything that it stands on is young."""
    pool = intended()
    pool.run(30_000)
    return pool


def draft(g: Guarded, *changes: Change) -> Transaction:
    d = after(g, both(*changes))
    assert d.failover is not None
    return d


def kinds(tx: Transaction) -> list[Kind]:
    return [entry.kind for entry in tx.entries]


def orders(tx: Transaction, kind: str) -> int:
    return sum(isinstance(e, SendOrder) and e.order.kind_name == kind for e in tx.effects)


def did(g: Guarded, function: Any, *changes: Change, args: tuple[Any, ...] = ()) -> Transaction:
    """The draft after this function was asked of the open failover."""
    d = draft(g, *changes)
    function(d, d.failover, *args)
    return d


# ------------------------------------------------------------------------------------------------ the answer


def kept(outcome: Outcome, order: str = "", reason: str = "") -> Change:
    """The candidate's agent has come back and says what it made of an order; here nothing is known of it."""

    def change(pool: Pool) -> Pool:
        failover = pool.record.failover
        assert failover is not None
        result = OrderOutcome(order or failover.promotion.order, "promote", outcome, reason)
        return both(live(sent={}), hello(2, last_results=(result,)))(pool)

    return change


def answer(outcome: Outcome, reason: str = "", ago: int = 1_000) -> Change:
    """The candidate answered its order so long ago."""

    def change(pool: Pool) -> Pool:
        failover = pool.record.failover
        assert failover is not None
        at, order = max(agent.last_heard for agent in pool.live.agents.values()), failover.promotion.order
        sent = Sent(order, "promote", uuid(2), 1, at - ago, OrderOutcome(order, "promote", outcome, reason), at - ago)
        return live(sent={**pool.live.sent, order: sent})(pool)

    return change


def test_only_an_answer_to_this_order_is_learnt_and_only_once(g: Guarded) -> None:
    learn = promotion._learn_answer
    for outcome in (Outcome.DONE, Outcome.FAILED, Outcome.UNKNOWN):
        assert kinds(did(g, learn, kept(outcome))) == [Kind.PROMOTE_ANSWER]
        assert not kinds(did(g, learn, kept(outcome), of_failover(Promotion, result=outcome.value)))
    assert not kinds(did(g, learn, kept(Outcome.DONE, "of another failover")))
    nameless = hello(2, last_results=(OrderOutcome("", "promote", Outcome.DONE),))
    assert not kinds(did(g, learn, live(sent={}), nameless, of_failover(Promotion, order="")))
    assert Kind.PROMOTE_ANSWER not in kinds(did(g, learn, kept(Outcome.REFUSED)))
    assert not kinds(did(g, learn, live(sent={}, agents={})))


def test_when_an_answer_came_is_the_beginning_of_the_step_where_none_is_known(g: Guarded) -> None:
    since = g.pool.live.phases.step_since
    for change in (live(sent={}), of_failover(Promotion, order="")):
        d = draft(g, change)
        assert d.failover is not None and promotion._answered_at(d, d.failover) == since
    d = draft(g, answer(Outcome.DONE))
    sent = d.sent(failover_of(g).promotion.order)
    assert sent is not None and promotion._answered_at(d, failover_of(g)) == sent.answered_at != since


def refused(g: Guarded, reason: str, *changes: Change) -> str:
    """The blocker after the candidate has refused for this reason; empty: none of it."""
    d = did(
        g,
        promotion._learn_answer,
        of_failover(Standstill, blocker=None, topic=""),
        answer(Outcome.REFUSED, reason),
        *changes,
    )
    assert d.failover is not None
    return str(d.failover.standstill.blocker or "") if d.entries else ""


def test_a_refusal_is_told_once_unless_it_is_one_of_time(g: Guarded) -> None:
    assert refused(g, "term") == Blocker.PROMOTE_REFUSED
    for reason in ("expired", "busy"):
        assert refused(g, reason) == ""
    d = draft(g, answer(Outcome.REFUSED, "term"))
    told = live(refusal_taken=promotion._answered_at(d, failover_of(g)))
    assert refused(g, "term", told) == ""
    assert refused(g, "term", of_failover(Standstill, blocker=Blocker.PROOF_NOT_RENEWED)) == ""


def test_an_order_that_found_no_xapi_is_no_refusal_and_told_after_the_time_of_a_promotion(g: Guarded) -> None:
    budget = g.policy.promote_budget
    assert refused(g, promotion.NOT_ASKED, live(Phases, step_since=g.now - budget + 1)) == ""
    assert refused(g, promotion.NOT_ASKED, live(Phases, step_since=g.now - budget)) == Blocker.NOT_ASKED


# ------------------------------------------------------------------------------------------------ what it stood on


def outlived(g: Guarded, *changes: Change) -> str:
    d = draft(g, *changes)
    assert d.failover is not None
    reason = promotion._outlived(d, d.failover)
    return "" if reason is None else reason.code.name


def claim_of(n: int, **changes: Any) -> Change:
    def change(pool: Pool) -> Pool:
        known = pool.live.claims.answers[uuid(n)]
        return live(ClaimRound, answers={**pool.live.claims.answers, uuid(n): replace(known, **changes)})(pool)

    return change


def copy_of(n: int, generation: int) -> Change:
    """Host n's copy is of this generation, and it has claimed with it."""
    database = facts(n, lambda f: replace(f, database=replace(f.database, generation=generation)))
    return both(claim_of(n, placements=PlacementView(True, generation, "state.db")), database)


def test_what_a_promotion_stood_on_at_its_intent_is_looked_at_once_more(g: Guarded) -> None:
    assert outlived(g) == ""
    assert outlived(g, claim_of(3, veto="its xapi answered me")) == Cause.ALIVE.name
    without = {host: claim for host, claim in g.pool.live.claims.answers.items() if host != uuid(2)}
    assert outlived(g, live(ClaimRound, answers=without)) == Cause.NO_CLAIM.name
    assert outlived(g, facts(2, lambda f: replace(f, disks=()))) == Cause.NO_ROOM.name
    gone = {host: known for host, known in g.pool.record.hosts.items() if host != uuid(2)}
    assert outlived(g, record(hosts=gone)) == Cause.UNLISTED.name


def test_only_a_newer_copy_that_could_be_promoted_keeps_it_back(g: Guarded) -> None:
    newer = copy_of(3, 51)
    assert outlived(g, newer) == Cause.NEWER_COPY.name
    assert outlived(g, newer, facts(3, lambda f: replace(f, disks=()))) == ""
    assert outlived(g, newer, of_failover(HeldMaster, handed_over={"ok": True, "generation": 50})) == ""


def test_another_boot_of_an_unheard_old_master_keeps_it_back(g: Guarded) -> None:
    known = g.pool.record.hosts[uuid(1)]
    booted = record(hosts={**g.pool.record.hosts, uuid(1): replace(known, boot_id="boot-1-2")})
    assert outlived(g, booted) == Cause.BOOTED.name
    assert outlived(g, booted, heard(1)) == ""  # what it is in that boot is judged by its own word: the proof
    assert outlived(g, of_failover(old_master="", old_boot="")) == ""  # nobody was master
    gone = {host: each for host, each in g.pool.record.hosts.items() if host != uuid(1)}
    assert outlived(g, record(hosts=gone)) == ""


def heard(n: int) -> Change:
    def change(pool: Pool) -> Pool:
        at = max(agent.last_heard for agent in pool.live.agents.values())
        known = replace(pool.live.agents[uuid(n)], connected=True, last_heard=at)
        return live(agents={**pool.live.agents, uuid(n): known})(pool)

    return change


def runs_vm(n: int) -> Change:
    """A VM runs there that no copy of the database knows."""
    return facts(n, lambda f: replace(f, domains=("vm-7",)))


def not_again(g: Guarded, code: Cause, *changes: Change) -> tuple[str, bool]:
    """The blocker after this was found not to hold any more, and was the failover given up?"""
    args = (Reason(code, "it is so no more", (uuid(2),)),)
    d = did(g, promotion._not_again, of_failover(Standstill, blocker=None, topic=""), *changes, args=args)
    assert d.record.failover is not None
    gave_up = Kind.ABORTED in kinds(d)
    assert gave_up == bool(orders(d, "claim"))  # and the candidate is told of the higher term
    return str(d.record.failover.standstill.blocker or ""), gave_up


def test_what_holds_no_more_ends_it_where_nothing_began_and_may_be_otherwise_next_time(g: Guarded) -> None:
    for code in Cause:
        blocked, gave_up = not_again(g, code, unbegun())
        assert gave_up == (code in promotion._MAY_CHANGE), code
        assert not gave_up or not blocked
        assert not not_again(g, code)[1], code  # it is under way


def test_where_it_may_have_begun_what_a_yes_can_cover_is_asked_and_nothing_else(g: Guarded) -> None:
    assert not_again(g, Cause.KILLS, runs_vm(3))[0] == Blocker.KILL_FORECAST
    assert not_again(g, Cause.KILLS)[0] == Blocker.PROOF_NOT_RENEWED  # nothing is at stake just now
    assert not_again(g, Cause.NEWER_COPY, runs_vm(3))[0] == Blocker.PROOF_NOT_RENEWED  # nobody can say yes to that
    assert not_again(g, Cause.XAPI)[0] == Blocker.NOT_ASKED


def unbegun(**changes: Any) -> Change:
    """The order was sent on an earlier stream, 30 s ago, and nothing was heard of it."""

    def change(pool: Pool) -> Pool:
        failover, at = pool.record.failover, max(agent.last_heard for agent in pool.live.agents.values())
        assert failover is not None
        given = {"stream": pool.live.agents[uuid(2)].stream - 1, "at": at - 30_000, **changes}
        sent = Sent(failover.promotion.order, "promote", uuid(2), **given)
        return live(sent={**pool.live.sent, failover.promotion.order: sent})(pool)

    return change


def test_an_operators_no_ends_it_only_where_nothing_began(g: Guarded) -> None:
    for change, ends in ((unbegun(), True), (live(), False)):
        d = draft(g, change)
        assert promotion.denied(d, failover_of(g), "alice said no") is ends
        assert (Kind.ABORTED in kinds(d)) is ends


# ------------------------------------------------------------------------------------------------ the order itself


def sent_kind(g: Guarded, *changes: Change) -> bool:
    """Does the order hold storage's garbage collection?"""
    d = did(g, promotion._send_promote, *changes)
    (effect,) = [e for e in d.effects if isinstance(e, SendOrder)]
    return bool(effect.order.kind.hold_gc)  # type: ignore[union-attr]


def test_garbage_collection_is_held_where_a_host_that_was_left_behind_may_write(g: Guarded) -> None:
    assert not sent_kind(g)
    assert sent_kind(g, of_failover(HeldMaster, order="f-1/1/hold"))
    assert sent_kind(g, record(owed=(Owed(uuid(3), OwedWork.TOMBSTONE, uuid(2), 1),)))


def after_promotion(g: Guarded, *changes: Change) -> list[tuple[str, str]]:
    """Who is owed what once the candidate is verified."""
    d = did(g, promotion._promoted, *changes, args=("its own word",))
    assert Kind.PROMOTED in kinds(d)
    return [(item.host, item.what) for item in d.record.owed]


def test_the_old_master_is_owed_its_tombstone_and_nobody_one_for_itself(g: Guarded) -> None:
    assert after_promotion(g) == [(uuid(1), "tombstone")]
    assert after_promotion(g, of_failover(HeldMaster, order="f-1/1/hold")) == [
        (uuid(1), "tombstone"),
        (uuid(1), "release"),
    ]
    assert after_promotion(g, of_failover(old_master="")) == []
    assert after_promotion(g, both(of_failover(old_master=uuid(2)), of_failover(HeldMaster, order="f-1/1/hold"))) == []


# ------------------------------------------------------------------------------------------------ the new master


def awaited(g: Guarded, *changes: Change) -> str:
    d = did(g, unserving_candidate.await_new_master, of_failover(Standstill, blocker=None, topic=""), *changes)
    assert d.failover is not None
    return str(d.failover.standstill.blocker or "")


def test_a_new_master_has_its_time_from_the_last_sending_on(g: Guarded) -> None:
    budget = g.policy.promote_budget

    def sent(ago: int) -> Change:
        order = failover_of(g).promotion.order
        found = Sent(order, "promote", uuid(2), g.pool.live.agents[uuid(2)].stream, g.now - ago)
        return both(live(Phases, step_since=g.now - budget), live(sent={order: found}))

    assert awaited(g, sent(budget)) == Blocker.UNVERIFIED
    assert awaited(g, sent(budget - 1)) == ""
    assert awaited(g, both(live(Phases, step_since=g.now - budget + 1), live(sent={}))) == ""
