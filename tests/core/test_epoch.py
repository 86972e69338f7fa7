"""Epochs of ownerships: they grow with etcd's revision and with the generation, and never past what can be said."""

from __future__ import annotations

import itertools

import pytest

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.epoch import HIGHEST, HIGHEST_GENERATION, LOT_BITS, REVISION_BITS, of_ownership

LOTS = (0, 1, (1 << LOT_BITS) - 1)
REVISIONS = (1, 2, 1_000, (1 << REVISION_BITS) - 1)


def test_they_grow_with_the_generation_and_then_with_the_revision_whatever_the_lot() -> None:
    order = list(itertools.product((1, 2, HIGHEST_GENERATION), REVISIONS))
    for before, after in itertools.pairwise(order):
        assert of_ownership(*before, LOTS[-1]) < of_ownership(*after, LOTS[0])
    assert of_ownership(*order[-1], LOTS[-1]) < HIGHEST
    assert len({of_ownership(1, 5, lot) for lot in LOTS}) == len(LOTS)
    assert of_ownership(1, 5, LOTS[-1] + 1) == of_ownership(1, 5, 0), "a lot has no more than its bits"


def test_the_first_one_is_above_every_epoch_that_was_counted() -> None:
    counted = epoch.after((1 << REVISION_BITS - 1) << LOT_BITS, LOTS[-1])
    assert of_ownership(1, 1, 0) > counted
    assert epoch.generation_above(counted) == 1


def test_a_generation_above_what_agents_have() -> None:
    for generation, revision in itertools.product((1, 7), REVISIONS):
        obeyed = of_ownership(generation, revision, LOTS[-1])
        above = epoch.generation_above(obeyed)
        assert above == generation + 1 and of_ownership(above, 1, 0) > obeyed
    with pytest.raises(OverflowError):
        epoch.generation_above(of_ownership(HIGHEST_GENERATION, 1, 0))
    with pytest.raises(OverflowError):
        epoch.generation_above(HIGHEST)


@pytest.mark.parametrize(
    ("generation", "revision"), [(0, 1), (-1, 1), (HIGHEST_GENERATION + 1, 1), (1, 0), (1, 1 << REVISION_BITS)]
)
def test_what_no_epoch_can_say(generation: int, revision: int) -> None:
    with pytest.raises(OverflowError):
        of_ownership(generation, revision, 0)
