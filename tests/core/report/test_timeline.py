"""The journal's entries as a timeline: in order, without bookkeeping, with times since the first."""

from __future__ import annotations

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli.pages.journal import BOOKKEEPING as BY_THE_COMMAND
from poolwarden_collector.core.report.timeline import BOOKKEEPING, Timeline, since, timeline
from poolwarden_collector.shell.operators.replies import history_entry
from poolwarden_collector.shell.store.journal_rows import Row


def row(seq: int, kind: str, **other: object) -> Row:
    values: dict[str, object] = {
        "at": f"2026-01-31T12:00:0{seq}.250Z", "mono_ms": 5_000 + seq * 1_000, "epoch": 7, "term": 3, "pool": "p",
        "failover": "f1", "actor": "poolwarden", "text": f"{kind} happened", "data": "{}",
    }  # fmt: skip
    return Row(seq=seq, kind=kind, **{**values, **other})  # type: ignore[arg-type]


def test_moments_are_in_order_and_count_from_the_first() -> None:
    found = timeline([row(3, "closed"), row(1, "decided"), row(2, "claimed", actor="anna")])
    assert [(m.seq, m.day, m.time, m.since_ms, m.actor) for m in found.moments] == [
        (1, "2026-01-31", "12:00:01.250", 0, ""),
        (2, "2026-01-31", "12:00:02.250", 1_000, "anna"),
        (3, "2026-01-31", "12:00:03.250", 2_000, ""),
    ]
    assert found.took_ms == 2_000
    assert since(found.moments[2]) == "+2.0 s"


def test_what_another_activation_stamped_has_no_time_since_the_first() -> None:
    found = timeline([row(1, "decided"), row(2, "closed", epoch=8, mono_ms=10)])
    assert found.moments[1].since_ms is None
    assert since(found.moments[1]) == ""
    assert found.took_ms is None


def test_bookkeeping_is_counted_and_left_out_unless_all_is_asked_for() -> None:
    entries = [row(1, "decided"), row(2, "alert-delivered"), row(3, "closed")]
    assert (len(timeline(entries).moments), timeline(entries).folded) == (2, 1)
    assert (len(timeline(entries, everything=True).moments), timeline(entries, everything=True).folded) == (3, 0)


def test_the_command_and_the_timeline_leave_out_the_same() -> None:
    assert BOOKKEEPING == BY_THE_COMMAND


def test_a_decision_names_the_number_to_replay_it_by_from_the_store_and_from_the_interface() -> None:
    stored = row(4, "decided", data='{"input": "abc", "step": []}')
    said: pb.HistoryEntry = history_entry(stored, "p")
    assert [m.replay for m in timeline([stored]).moments] == [4]
    assert [m.replay for m in timeline([said]).moments] == [4]
    assert timeline([row(5, "decided")]).moments[0].replay is None


def test_nothing_is_a_timeline_too() -> None:
    assert timeline([]) == Timeline(())
    assert timeline([]).took_ms is None
