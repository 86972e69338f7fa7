"""Ownership over etcd: whole state spaces without a violation, and no rule whose absence stays unnoticed."""

from __future__ import annotations

import pytest

from .explorer import Found
from .ownership import LONG, REMOVALS, SHORT, Removal, Rule, Setting, run


def _clean(found: Found) -> None:
    assert not found.broken, f"{found.broken}:\n{found.story()}"
    assert found.exhausted, "the frontier was cut off"


@pytest.mark.parametrize("setting", SHORT, ids=lambda s: s.name)
def test_every_state_is_reached_and_none_is_bad(setting: Setting) -> None:
    _clean(run(setting))


@pytest.mark.long
@pytest.mark.parametrize("setting", LONG, ids=lambda s: s.name)
def test_every_state_of_larger_bounds(setting: Setting) -> None:
    _clean(run(setting))


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda r: r.name)
def test_a_removed_rule_is_found(removal: Removal) -> None:
    found = run(removal.setting())
    assert (found.broken, bool(found.trace)) == (removal.breaks, True), found.story()


@pytest.mark.parametrize("removal", [r for r in REMOVALS if r.covered], ids=lambda r: r.name)
def test_of_rules_that_cover_each_other_one_is_enough(removal: Removal) -> None:
    for fewer in removal.covered:
        assert set(fewer) < set(removal.rules)
        _clean(run(removal.setting(*fewer)))


def test_every_rule_is_taken_away_somewhere() -> None:
    assert {rule for removal in REMOVALS for rule in removal.rules} == set(Rule)


def test_everything_that_must_hold_is_broken_by_some_removal() -> None:
    assert {removal.breaks for removal in REMOVALS} == {"E1", "E2", "E3", "E4", "E5", "E6"}
