"""Whom the policy prefers and never promotes, and what ranks lower."""

from __future__ import annotations

from tests.core.pool import Guarded, played_once, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy


@played_once
def lost(**policy: object) -> Guarded:
    g = Guarded(policy=Policy(quiet_time=3_000, **policy))  # type: ignore[arg-type]
    g.cut_power()
    g.run(30_000)
    return g


def test_the_preferred_host_is_promoted_among_equally_new_ones() -> None:
    assert lost().promoted() == [uuid(2)]
    assert lost(prefer=("host-3", "host-2")).promoted() == [uuid(3)]
    assert lost(prefer=(uuid(3),)).promoted() == [uuid(3)]


def test_a_newer_database_comes_before_every_preference() -> None:
    g = Guarded(policy=Policy(quiet_time=3_000, prefer=("host-3",)))
    g.host(2).generation = 51
    g.run(2_000)
    g.cut_power()
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_who_is_never_promoted_is_not_even_if_nobody_else_is_there() -> None:
    assert lost(never_promote=("host-2",)).promoted() == [uuid(3)]
    g = lost(never_promote=("host-2", uuid(3)))
    assert not g.promoted() and "the policy never promotes it" in g.entry(Kind.BLOCKED).text
