"""The succession's protocol: whole state spaces without a violation, and no rule whose absence stays unnoticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .configurations import LONG, REMOVALS, SHORT, THREE_HAND, TWO, TWO_LIES, Removal
from .explorer import Found, Step, explore
from .model import run
from .world import Exempt, Left, Rule, Setting

_named = pytest.mark.parametrize


def _clean(found: Found) -> None:
    assert not found.broken, found.story()
    assert found.exhausted, "the frontier was cut off"
    assert not found.trapped, "a failover that can never end:\n" + "\n".join(found.trapped)


@_named("setting", SHORT, ids=lambda s: s.name)
def test_every_state_is_reached_and_none_is_bad(setting: Setting) -> None:
    _clean(run(setting, live=True, like=True))


@pytest.mark.long
@_named("setting", LONG, ids=lambda s: s.name)
def test_every_state_of_larger_bounds(setting: Setting) -> None:
    _clean(run(setting, like=True))


@_named("removal", REMOVALS, ids=lambda r: r.name)
def test_a_removed_rule_is_found(removal: Removal) -> None:
    found = run(removal.setting(), only=removal.only)
    assert (found.broken, bool(found.trace)) == (removal.breaks, True)


@_named("removal", [r for r in REMOVALS if r.two_masters_in], ids=lambda r: r.name)
def test_a_removed_rule_ends_in_two_masters(removal: Removal) -> None:
    assert removal.two_masters_in is not None
    found = run(replace(removal.two_masters_in, without=frozenset(removal.rules)), only="I1")
    assert found.broken == "I1"


@_named("removal", [r for r in REMOVALS if r.covered], ids=lambda r: r.name)
def test_of_rules_that_cover_each_other_one_is_enough(removal: Removal) -> None:
    for fewer in removal.covered:
        assert set(fewer) < set(removal.rules)
        _clean(run(removal.setting(*fewer), only=removal.only))


def test_every_rule_is_taken_away_somewhere() -> None:
    assert {rule for removal in REMOVALS for rule in removal.rules} == set(Rule)


WHERE_EXEMPT = {
    Exempt.GATE_ALONE: Setting("", 2, 1, Left(offs=1)),
    Exempt.SPLIT_COLLECTORS: Setting("", 2, 1, Left(offs=1), second=True),
    Exempt.BY_HAND: THREE_HAND,
    Exempt.LYING_DEVICE: TWO_LIES,
}


@_named("exemption", Exempt, ids=lambda e: e.name)
def test_an_exemption_is_one(exemption: Exempt) -> None:
    """Without it the unmodified protocol has two masters: it hides nothing that the rules prevent."""
    where = WHERE_EXEMPT[exemption]
    assert run(where).exhausted
    assert run(replace(where, exempt=frozenset(Exempt) - {exemption})).broken == "I1"


def test_nothing_is_exempt_but_what_is_named() -> None:
    """An undisturbed pair of hosts needs the gate's exemption alone."""
    assert set(run(TWO).excused) == {Exempt.GATE_ALONE.name}


def test_like_members_are_taken_for_one_without_loss() -> None:
    where = Setting("", 3, 1, Left(offs=1, crashes=1))
    apart, together = run(where), run(where, like=True)
    assert apart.exhausted and together.exhausted
    assert apart.states / 2 <= together.states < apart.states
    assert apart.depth == together.depth
    for rule in (Rule.REVERIFY, Rule.EXPIRY, Rule.BOOT_GATE):
        bad = replace(where, without=frozenset([rule]))
        assert len(run(bad).trace) == len(run(bad, like=True).trace)


# ------------------------------------------------------------------------------------------------ the explorer


def _counting(state: tuple) -> list[Step]:
    """0..9 by ones or twos; 7 is a trap; 5 is excused; a 9 is bad."""
    (n,) = state
    if n == 7:
        return [Step("stays", (7,))]
    grown = [
        Step(f"to {n + by}", (n + by,), "nine" if n + by == 9 else "", "five" if n + by == 5 else "") for by in (1, 2)
    ]
    return [step for step in grown if step.after[0] < 10]


def test_the_explorer_gives_the_shortest_way() -> None:
    found = explore((0,), _counting)
    assert (found.broken, found.trace) == ("nine", ["to 2", "to 4", "to 6", "to 8", "to 9"])
    assert found.excused == {"five": 2}
    assert found.story().splitlines()[1] == "  2. to 4"


def test_the_explorer_finds_traps_and_admits_a_bound() -> None:
    found = explore((0,), _counting, wanted=lambda name: False, goal=lambda state: state[0] >= 8)
    assert found.exhausted and found.trapped == ["to 2", "to 4", "to 6", "to 7"]
    assert not explore((0,), _counting, wanted=lambda name: False, most=3).exhausted
