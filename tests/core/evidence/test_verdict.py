"""The verdict table, exhaustively: exactly one verdict for every combination of signs, and action needs its facts.

The product of all signs has ten million rows, so it is shown layer by layer. That this is the whole table is itself a
test: each layer is given only the signs that it declares, and would fail on any other.
"""

import itertools
import typing
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden_collector.core.evidence import verdict as module
from poolwarden_collector.core.evidence.verdict import (
    LAYERS,
    TO_RESTART,
    TO_ROLES,
    TO_SUCCEED,
    UNDISPUTED,
    Agent,
    AnnouncedHold,
    CollectorWitness,
    Member,
    Permit,
    Signs,
    Verdict,
    Witness,
    Xapi,
    judge,
    without_hold,
)
from poolwarden_collector.core.model.values import Tri

TYPES = typing.get_type_hints(Signs)
VALUES: dict[str, tuple[Any, ...]] = {
    f.name: (False, True) if TYPES[f.name] is bool else tuple(TYPES[f.name]) for f in fields(Signs)
}
CLEAR = Signs(
    identity=False,
    ha=Tri.NO,
    several_serve=False,
    conflict=False,
    disputed=False,
    hold=AnnouncedHold.NONE,
    blind=False,
    anyone_heard=True,
    master_known=True,
    agent=Agent.HEARD,
    xapi=Xapi.ANSWERS,
    witness=Witness.ANSWERED,
    own=CollectorWitness.ANSWERED,
    off_twice=False,
    member=Member.FINE,
)
LAST = LAYERS[-1]
ACTS = (Permit.RESTART, Permit.ROLES, Permit.SUCCEED)


def rows(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every combination of these signs."""
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*(VALUES[name] for name in names))]


MASTER_ROWS = [replace(CLEAR, **row) for row in rows(LAST.reads)]


def test_each_layer_reads_only_what_it_declares() -> None:
    for layer in LAYERS:
        for row in rows(layer.reads):
            layer.says(SimpleNamespace(**row))  # type: ignore[arg-type]  # any other sign is an AttributeError


def test_the_layers_read_every_sign_once() -> None:
    read = [name for layer in LAYERS for name in layer.reads]
    assert sorted(read) == sorted(VALUES)


def test_the_table_is_total() -> None:
    assert all(isinstance(LAST.says(s), Verdict) for s in MASTER_ROWS)


def test_the_front_layers_take_precedence_in_their_order() -> None:
    """Every combination of the front signs: the first layer that speaks decides, whatever is behind it."""
    front = LAYERS[:-1]
    names = tuple(name for layer in front for name in layer.reads)
    for row in rows(names):
        spoken = [v for layer in front if (v := layer.says(SimpleNamespace(**row))) is not None]  # type: ignore[arg-type]
        assert judge(replace(CLEAR, **row)) is (spoken[0] if spoken else Verdict.HEALTHY)


def test_every_verdict_is_reached() -> None:
    front = {layer.says(replace(CLEAR, **row)) for layer in LAYERS[:-1] for row in rows(layer.reads)}
    assert (front | {judge(s) for s in MASTER_ROWS}) - {None} == set(Verdict)


def test_precedence_is_the_designs() -> None:
    words = []
    for layer in LAYERS[:-1]:
        words += [v.word for row in rows(layer.reads) if (v := layer.says(replace(CLEAR, **row))) is not None]
    assert words == [
        *("IdentityConflict", "HaManaged", "TwoMasters", "EvidenceConflict", "FenceDisputed"),
        *("Upgrading", "OperatorTransition", "PlannedDown", "CollectorBlind", "PoolDark", "Learning"),
    ]


@pytest.mark.slow
def test_action_needs_every_fact_that_its_verdict_lists() -> None:
    """With nothing in front, over the whole last layer; and with any single front sign set there is no action."""
    for s in MASTER_ROWS:
        assert all(fact.holds(s) for fact in judge(s).requires), (judge(s), s)
    acting = [s for s in MASTER_ROWS if judge(s).permits in ACTS]
    assert acting
    for s in acting:
        for layer in LAYERS[:-1]:
            for row in rows(layer.reads):
                changed = judge(replace(s, **row))
                spoken = layer.says(replace(s, **row))
                assert changed is (spoken or judge(s)) and all(
                    fact.holds(replace(s, **row)) for fact in changed.requires
                )


@pytest.mark.parametrize("fact", [*TO_RESTART, *TO_ROLES, *TO_SUCCEED], ids=lambda fact: fact.text)
def test_no_required_fact_is_empty(fact: module.Fact) -> None:
    """Each can be false, so listing it says something."""
    single = [replace(s, **{name: value}) for s in MASTER_ROWS[:1] for name in VALUES for value in VALUES[name]]
    assert any(not fact.holds(s) for s in [*single, *MASTER_ROWS])


def test_only_verdicts_that_act_require_facts_and_all_of_them_do() -> None:
    for verdict in Verdict:
        acts = verdict.permits in ACTS
        assert bool(verdict.requires) == acts
        assert not acts or verdict.requires[: len(UNDISPUTED)] == UNDISPUTED


def test_succession_needs_a_silent_master_and_more_than_silence() -> None:
    for s in MASTER_ROWS:
        if judge(s).permits is Permit.SUCCEED:
            assert s.agent in (Agent.SILENT, Agent.MUTE)
            assert s.witness is Witness.UNANSWERED or s.off_twice
            assert s.witness is not Witness.ANSWERED
            assert s.own is not CollectorWitness.ANSWERED


def test_a_restart_needs_a_living_agent_that_sees_its_xapi_down_or_hung() -> None:
    for s in MASTER_ROWS:
        if judge(s).permits is Permit.RESTART:
            assert s.agent is Agent.HEARD and s.xapi in (Xapi.DOWN, Xapi.HUNG)


def test_healthy_means_that_everybody_is_fine() -> None:
    for s in MASTER_ROWS:
        if judge(s) is Verdict.HEALTHY:
            assert (s.agent, s.xapi, s.member) == (Agent.HEARD, Xapi.ANSWERS, Member.FINE)
            assert s.witness is not Witness.UNANSWERED


def test_a_hold_covers_and_does_not_hide() -> None:
    for s in MASTER_ROWS:
        for hold in AnnouncedHold:
            held = replace(s, hold=hold)
            assert without_hold(held) is judge(s)
            assert hold is AnnouncedHold.NONE or judge(held).permits is Permit.ALERT


def test_each_verdict_has_a_word_and_a_meaning() -> None:
    assert len({v.word for v in Verdict}) == len(Verdict)
    assert all(v.meaning and not v.meaning.endswith(".") for v in Verdict)
