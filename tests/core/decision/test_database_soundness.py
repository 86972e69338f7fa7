"""Copies on which no xapi comes up: ranked last, asked about, handed to nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, Host, played_once, uuid

from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts, Liveness
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Tri


@played_once
def pool(**sound: Tri) -> Guarded:
    g = Guarded(policy=Policy(quiet_time=QUIET))
    for name, value in sound.items():
        g.host(int(name[1:])).sound = value
    g.run(4_000)
    return g


@pytest.mark.parametrize("other", [Tri.YES, Tri.UNKNOWN])
def test_the_newest_copy_is_passed_over_where_it_is_not_sound(other: Tri) -> None:
    g = pool(h2=Tri.NO, h3=other)
    g.host(2).generation = 60
    g.run(4_000)
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(3)]


def test_one_that_was_not_read_is_as_good_as_any() -> None:
    g = pool(h2=Tri.UNKNOWN)
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(2)]


def test_where_none_is_sound_it_is_asked_by_host_and_generation() -> None:
    g = pool(h2=Tri.NO, h3=Tri.NO)
    g.cut_power()
    g.run(60_000)
    question = g.pool.record.question
    assert not g.promoted() and question is not None
    assert (question.kind, question.host, question.generation) == (Ask.UNSOUND, uuid(2), 50)
    reply = g.say("approve", id=question.id)
    assert reply is not None and reply.accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_copy_that_turns_out_not_to_be_sound_is_changed_for_one_that_is() -> None:
    g = pool()
    g.cut_power()
    while not g.has(Kind.CANDIDATE):
        g.run(250)
    g.host(2).sound = Tri.NO
    g.run(60_000)
    assert g.promoted() == [uuid(3)]


@pytest.mark.slow
@pytest.mark.parametrize("sound, handed", [(Tri.NO, False), (Tri.UNKNOWN, True), (Tri.YES, True)])
def test_an_unsound_database_is_handed_to_nobody(sound: Tri, handed: bool) -> None:
    g = pool(h1=sound)
    master = g.host(1)
    master.generation, master.liveness, master.socket = 60, Liveness.SILENT, Liveness.SILENT
    master.serves, master.answers, master.free, master.unwell_since = False, False, 0, g.now
    g.run(400_000)
    assert g.promoted() == [uuid(2)]
    assert g.has(Kind.HANDOVER_INTENT) is handed


@pytest.mark.parametrize(("lag_ms", "asked_ms"), [(0, 0), (1_000, 2_000), (60_000, 5_000)])
def test_a_word_from_before_the_claim_is_not_asked_about_until_the_next_report(lag_ms: int, asked_ms: int) -> None:
    """The file may have been mended meanwhile, with the same generation. A report that does not come is not awaited."""
    g, claimed = claimed_with_reports_that_lag(lag_ms)
    while g.pool.record.question is None:
        g.run(250)
    assert g.now - claimed == asked_ms and g.pool.record.question.kind is Ask.UNSOUND


def test_a_copy_that_was_mended_before_its_claim_is_promoted_unasked() -> None:
    g, _ = claimed_with_reports_that_lag(1_000)
    g.host(2).sound = Tri.YES
    while not g.promoted():
        assert g.pool.record.question is None
        g.run(250)
    assert g.promoted() == [uuid(2)]


def claimed_with_reports_that_lag(lag_ms: int) -> tuple[Guarded, int]:
    """Right after the claims of copies none of which is sound; from a moment before on, what is reported is so old."""
    g = pool(h2=Tri.NO, h3=Tri.NO)
    g.cut_power()
    g.run(5_000)
    began, truth = g.now, g.facts

    def facts(host: Host) -> HostFacts:
        said = truth(host)
        return replace(said, observed=replace(said.observed, host=max(began, g.now - lag_ms)))

    g.facts = facts  # type: ignore[method-assign]
    while not g.has(Kind.CLAIM_SENT):
        g.run(250)
    return g, g.now


@pytest.mark.parametrize("told", [Tri.NO, Tri.UNKNOWN])
def test_a_master_is_not_restarted_before_it_is_told_whether_its_file_loads(told: Tri) -> None:
    """A file that was written anew is judged when it is read: the report of that comes after the reading's answer."""
    g = pool(h1=Tri.UNKNOWN)
    master = g.host(1)
    master.liveness = master.socket = Liveness.SILENT
    master.serves, master.answers, master.unwell_since = False, False, g.now
    while not any(order.kind_name == "collect_evidence" for order in master.orders):
        assert not g.has(Kind.RESTART_INTENT)
        g.run(250)
    assert not g.has(Kind.RESTART_INTENT)
    master.sound = told
    g.run(8_000)
    if told is Tri.NO:
        assert not g.has(Kind.RESTART_INTENT) and g.has(Kind.DECIDED)
    else:
        assert g.has(Kind.RESTART_INTENT), "what its agent cannot tell is not waited for"


def test_an_operators_restart_of_a_master_waits_for_that_as_well() -> None:
    g = pool(h1=Tri.UNKNOWN)
    g.say("restart-xapi", 1)
    while not any(order.kind_name == "collect_evidence" for order in g.host(1).orders):
        g.run(250)
    g.host(1).sound = Tri.NO
    g.run(4_000)
    assert not g.has(Kind.RESTART_INTENT)
    said = [effect for effect in g.effects if isinstance(effect, Reply)]
    assert said and not said[-1].accepted and "would keep its xapi down" in said[-1].text
