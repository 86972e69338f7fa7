"""Which entries must be in etcd: every kind is judged; what stays behind changes no record."""

from __future__ import annotations

from collections import Counter

import pytest

from poolwarden_collector.core.model.entries import NOTES, Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster.consensus import OWN, SHARED, Own, shared
from poolwarden_collector.shell.store.retention import KEPT, Keeping

from .stories import SCENARIOS, compared


def test_every_kind_is_one_of_both() -> None:
    assert set(OWN) | SHARED == set(Kind)
    assert not set(OWN) & SHARED


def test_whatever_a_record_is_folded_from_is_shared() -> None:
    assert [kind for kind in OWN if KEPT[kind] is Keeping.RECORD] == []
    assert set(OWN) >= NOTES


def test_nothing_that_was_intended_is_kept_back() -> None:
    for kind in Kind:
        if kind.name.endswith("_INTENT") or kind.name.endswith("_RESULT") or kind is Kind.DECIDED:
            assert kind in SHARED, kind


def test_acts_are_shared_but_what_concerns_one_collector() -> None:
    acts = {kind for kind, keeping in KEPT.items() if keeping is Keeping.ACT}
    kept_back = {kind for kind in acts & set(OWN) if OWN[kind] is not Own.OF_THIS_ONE}
    assert kept_back == {Kind.POWER_READING}, "which is told again by the next reading, and proves nothing until then"


@pytest.mark.parametrize("kind", sorted(OWN, key=lambda kind: kind.value), ids=lambda kind: kind.value)
def test_of_a_failover_everything_is_shared(kind: Kind) -> None:
    assert not shared(Entry(kind, "text", {"verdict": "Suspect"}))
    assert shared(Entry(kind, "text", {"verdict": "Suspect"}, failover="f1"))


@pytest.mark.parametrize(
    ("data", "goes"),
    [
        ({"verdict": "MasterSilent"}, False),
        ({}, False),
        ({"verdict": "Healthy"}, True),
        ({"verdict": "MasterSilent", "over": True}, True),
        ({"verdict": "MasterSilent", "over": False}, False),
    ],
)
def test_a_verdict_goes_where_it_changes_a_record(data: dict[str, object], goes: bool) -> None:
    assert shared(Entry(Kind.VERDICT, "text", data)) == goes


def test_a_verdict_that_is_kept_back_changes_no_record() -> None:
    """Whatever its data: what it may change is the end of an incident."""
    busy = fold(PoolRecord("p"), (Entry(Kind.RESTART_INTENT, "t", {"host": "h", "order": "o", "remedy": True}),))
    for data in ({}, {"verdict": "MasterSilent"}, {"verdict": "MasterXapiDown", "over": False, "host": "h"}):
        entry = Entry(Kind.VERDICT, "t", data)
        assert not shared(entry) and fold(busy, (entry,)) == busy
    over = Entry(Kind.VERDICT, "t", {"over": True})
    assert shared(over) and fold(busy, (over,)) != busy


@pytest.mark.slow
@pytest.mark.parametrize("story", ["designate-in-each-mode", "s72"])
def test_a_taker_knows_of_a_storys_pool_what_its_owner_knew(story: str) -> None:
    found = compared(SCENARIOS / f"{story}.txt")
    assert found.differs == {}
    assert isinstance(found.shared, Counter) and found.shared[True] and found.shared[False]
