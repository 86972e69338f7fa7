"""What is counted over restarts comes from the journal, each row once, and a restart changes no number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.metrics.histogram import Histogram
from poolwarden_collector.shell.metrics.ledger import Ledger, read_past
from poolwarden_collector.shell.metrics.of_collector import waiting_by_channel
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

from .looked import Written, configured, look_at
from .rig import POOL

TOOK = {"silent to decided": 8_000, "decided to claimed": 1_500, "claimed to candidate": 0, "candidate to proof": 3_000,
        "proof to promote-intent": 300, "promote-intent to promoted": 12_000}  # fmt: skip


def failover(journal: Journal, number: int, end: Kind = Kind.CLOSED, pool: str = POOL) -> list[Row]:
    name = f"f-{number}"
    rows = journal.commit(pool, [Entry(Kind.DECIDED, "decided", {"input": "x" * 100}, name, number)])
    data = {"durations_ms": TOOK} if end is Kind.CLOSED else {"why": "so"}
    return rows + journal.commit(pool, [Entry(end, "over", data, name, number)])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path, "test", ("log", "webhook:chat"))
    journal.begin_epoch()
    return journal


def test_a_histogram_counts_up_to_each_bound() -> None:
    found = Histogram.empty((1.0, 5.0))
    for value in (0.5, 1.0, 3.0, 60.0):
        found = found.with_value(value)
    assert list(found.buckets()) == [("1.0", 2), ("5.0", 3), ("+Inf", 4)] and found.total == 64.5


def test_failovers_and_their_phases_are_counted(journal: Journal) -> None:
    for number, end in enumerate((Kind.CLOSED, Kind.CLOSED, Kind.ABORTED, Kind.SUPERSEDED)):
        failover(journal, number, end)
    counts = read_past(journal.path).counts
    assert dict(counts.ended) == {(POOL, "closed"): 2, (POOL, "aborted"): 1, (POOL, "superseded"): 1}
    assert counts.lasted[POOL].counts[0] == 2  # both within a second: this test is fast
    totals = {phase: found.total for (_, phase), found in counts.phases.items()}
    assert totals == {"silence": 16.0, "claim": 3.0, "proof": 6.6, "promotion": 24.0}  # of its members it says nothing
    assert [row.kind for row in counts.changes[POOL]] == ["closed", "closed"]


def test_a_failover_over_a_restart_takes_what_the_wall_clock_says(journal: Journal) -> None:
    begun = journal.commit(POOL, [Entry(Kind.DECIDED, "decided", {}, "f", 1)])
    journal.begin_epoch()
    (ended,) = journal.commit(POOL, [Entry(Kind.CLOSED, "over", {}, "f", 1)])
    ledger = Ledger()
    ledger.count([*begun, replace(ended, at="2126-01-01T00:00:00.000Z")])
    assert ledger.counts.lasted[POOL].total > 10**9 and ledger.counts.phases == {}


def test_a_run_that_began_in_the_past_goes_on(journal: Journal) -> None:
    """Its epoch is beyond what SQLite's numbers hold without a sign."""
    journal.begin_epoch(1 << 63)
    journal.commit(POOL, [Entry(Kind.DECIDED, "decided", {}, "f", 1)])
    ledger = Ledger()
    ledger.begin(read_past(journal.path))
    (ended,) = journal.commit(POOL, [Entry(Kind.CLOSED, "over", {}, "f", 1)])
    ledger.follow([replace(ended, at="2126-01-01T00:00:00.000Z")])
    assert ledger.counts.lasted[POOL].total < 60


def test_alerts_and_deliveries_are_counted(journal: Journal) -> None:
    journal.commit(POOL, [Entry(Kind.ALERT, "alert", {"severity": "critical", "key": "a"})])
    journal.commit(POOL, [Entry(Kind.ALERT_DELIVERED, "delivered", {"sink": "log"})] * 2)
    counts = read_past(journal.path).counts
    assert (counts.raised["critical"], counts.delivered["log"]) == (1, 2)


def test_what_becomes_durable_meanwhile_is_counted_once(journal: Journal) -> None:
    ledger = Ledger()
    ledger.follow(failover(journal, 1))  # followed already, and in the past as well
    past = read_past(journal.path)
    ledger.follow(failover(journal, 2))  # followed, and not in the past
    assert not ledger.ready and not ledger.counts.ended
    ledger.begin(past)
    ledger.follow(rows := failover(journal, 3))
    ledger.follow(rows)
    assert ledger.counts.ended[POOL, "closed"] == 3


def test_a_restart_changes_no_number(journal: Journal) -> None:
    for number in range(10):
        failover(journal, number)
    ledger = Ledger()
    ledger.begin(read_past(journal.path))
    ledger.follow(failover(journal, 10))
    again = read_past(journal.path)
    assert (again.counts.ended, again.counts.phases) == (ledger.counts.ended, ledger.counts.phases)
    assert [row.seq for row in again.counts.changes[POOL]] == [row.seq for row in ledger.counts.changes[POOL]]
    assert len(again.counts.changes[POOL]) == 10


def test_counts_that_were_taken_stay_as_they_were(journal: Journal) -> None:
    ledger = Ledger()
    ledger.begin(read_past(journal.path))
    taken = ledger.counts.copy()
    ledger.follow(failover(journal, 1))
    assert not taken.ended and not taken.phases and not taken.changes


def test_damaged_data_ends_nothing(journal: Journal) -> None:
    rows = failover(journal, 1)
    ledger = Ledger()
    for data in ("{", "[]", '{"durations_ms":"x"}'):
        ledger.count([replace(rows[1], data=data, seq=ledger._seq + 1)])
    assert ledger.counts.ended[POOL, "closed"] == 3 and not ledger.counts.phases


@pytest.mark.slow
def test_a_long_past_is_not_read_to_its_end_by_a_collector_that_stops(journal: Journal) -> None:
    journal.commit(POOL, [Entry(Kind.ALERT, "alert", {"severity": "info"})] * 20_000)
    with pytest.raises(JournalError, match="interrupted"):
        read_past(journal.path, lambda: True)
    assert read_past(journal.path, lambda: False).counts.raised["info"] == 20_000


def test_a_journal_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        read_past(tmp_path / "none.db")


def test_what_waits_is_told_by_channel(journal: Journal) -> None:
    journal.commit(POOL, [], [AlertRaised(key, "warning", "title", "body", {}) for key in ("k", "l")])
    for parcel in (parcel for parcel in journal.parcels() if parcel.key == "k"):
        if parcel.sink == "webhook:chat":
            journal.undelivered(parcel, "no answer", 1)
        else:
            journal.delivered(parcel, Entry(Kind.ALERT_DELIVERED, "delivered", {"sink": parcel.sink}))
    found = waiting_by_channel(journal.path)
    assert {name: (each.count, each.tries) for name, each in found.items()} == {"log": (1, 0), "webhook:chat": (2, 1)}


def test_waiting_alerts_are_written_with_their_age(tmp_path: Path) -> None:
    config = configured(tmp_path)
    journal = Journal(config.state_dir, config.name, ("log", "webhook:gone"))
    journal.begin_epoch()
    journal.commit(POOL, [], [AlertRaised("k", "warning", "title", "body", {})])
    since = journal.alerts()[0]["raised_at"]
    journal.close()
    said = Written(look_at(config, wall_ms=(clock.ms_of(since) or 0) + 90_000))
    assert said.of_label("alert_deliveries_pending", "channel") == ["log", "webhook:gone"]
    assert said.value("alert_delivery_pending_age_seconds", channel="log") == 90
    assert said.value("alert_deliveries_total", channel="log") == 0


def test_a_channel_that_has_nothing_to_take_is_told_with_zeros(tmp_path: Path) -> None:
    said = Written(look_at(configured(tmp_path)))
    names = ("alert_deliveries_pending", "alert_delivery_pending_age_seconds", "alert_delivery_failed_attempts")
    assert [said.value(name, channel="log") for name in names] == [0, 0, 0]
