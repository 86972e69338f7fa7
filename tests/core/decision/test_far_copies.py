"""A copy that is far ahead of everything that was seen of the master's database is not promoted unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import POOL, QUIET, Guarded, played_once, uuid

from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.pool_record import PoolRecord, fold

pytestmark = pytest.mark.slow  # minutes of a pool's life in each

LEAP = Policy().generation_leap


@played_once
def claiming(generation: int, **policy: int) -> Guarded:
    """Host 2 claims this generation, and the master vanishes."""
    g = Guarded(policy=Policy(quiet_time=QUIET, **policy))
    g.host(2).generation = generation
    g.run(4_000)
    g.cut_power()
    g.run(60_000)
    return g


def test_what_a_pool_can_have_changed_is_believed() -> None:
    assert claiming(50 + LEAP).promoted() == [uuid(2)]


@pytest.mark.parametrize("generation", [51 + LEAP, 10**12])
def test_more_is_asked_with_its_numbers_and_a_yes_covers_it(generation: int) -> None:
    g = claiming(generation)
    question = g.pool.record.question
    assert not g.promoted() and question is not None
    assert (question.kind, question.host, question.generation) == (Ask.GENERATION, uuid(2), generation)
    assert f"generation {generation}" in question.what and "is 50" in question.what
    reply = g.say("approve", id=question.id)
    assert reply is not None and reply.accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_yes_to_one_generation_is_none_to_another() -> None:
    g = claiming(10**9)
    question = g.pool.record.question
    assert question is not None
    g.host(2).generation += 1
    g.report(g.host(2))
    reply = g.say("approve", id=question.id)
    assert reply is not None and not reply.accepted and reply.code == "wrong-question", reply
    g.run(30_000)
    assert not g.promoted() and g.pool.record.question is not None
    assert g.pool.record.question.generation == 10**9 + 1


def test_a_no_ends_it_and_without_that_agent_another_member_is_chosen() -> None:
    g = claiming(10**9)
    question = g.pool.record.question
    assert question is not None and "poolwarden-agent on host-2" in " ".join(question.stakes)
    reply = g.say("deny", id=question.id, reason="never seen such a number")
    assert reply is not None and reply.accepted
    g.host(2).agent = g.host(2).answers = False
    g.run(300_000)
    assert g.promoted() == [uuid(3)]


def test_the_bound_is_a_setting() -> None:
    assert not claiming(61, generation_leap=10).promoted()
    assert claiming(60, generation_leap=10).promoted() == [uuid(2)]


@pytest.mark.parametrize("leap", [LEAP, 2 * LEAP])
def test_what_was_known_is_durable(leap: int) -> None:
    """The collector starts anew when the master is gone already: what it held against copies is in its journal."""
    g = Guarded()
    g.cut_power()
    g.restart_collector()
    g.host(2).generation = 50 + leap
    for host in g.hosts[1:]:
        g.connect(host)
    g.run(120_000)
    if g.pool.record.question is not None and g.pool.record.question.kind is not Ask.GENERATION:
        # The master's file was not seen in this run, so the age of the copy is asked about.
        needs = g.pool.record.question.needs
        reply = g.say("approve", accept_stale=str(needs.stale_ms))
        assert reply is not None and reply.accepted
        g.run(60_000)
    assert g.promoted() == ([uuid(2)] if leap == LEAP else [])
    asked = g.pool.record.question
    assert (asked is not None and asked.kind is Ask.GENERATION) == (leap > LEAP)


def test_the_masters_count_is_written_when_it_has_moved_far_not_at_each_change() -> None:
    g = Guarded()
    assert g.pool.record.generation == 50
    g.host(1).generation += LEAP // 4 - 1
    g.run(4_000)
    assert g.kinds().count("pool-listed") == 1
    g.host(1).generation += 1
    g.run(4_000)
    assert g.kinds().count("pool-listed") == 2 and g.pool.record.generation == 50 + LEAP // 4


def test_where_no_count_is_known_the_other_copies_are_what_it_is_held_against() -> None:
    """A list from a journal that was written before counts were."""
    g = Guarded()
    for number, entry in enumerate(g.journal):
        if entry.kind is Kind.POOL_LISTED:
            without = {name: value for name, value in entry.data.items() if name != "generation"}
            g.journal[number] = replace(entry, data=without)
    g.pool = replace(g.pool, record=fold(PoolRecord(POOL), g.journal))
    g.cut_power()
    g.restart_collector()
    g.host(2).generation, g.host(3).generation = 10**9 + 5, 10**9
    for host in g.hosts[1:]:
        host.placements = PlacementView(True, host.generation, "state.db")
        g.connect(host)
    g.run(120_000)
    assert g.pool.record.question is None or g.pool.record.question.kind is not Ask.GENERATION
