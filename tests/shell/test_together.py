"""Answers of several collectors made into one: nothing twice, nothing lost, and the owner's word counts."""

from __future__ import annotations

import json
from pathlib import Path

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.operators import together
from poolwarden_collector.shell.operators.neighbours import Part
from poolwarden_collector.shell.store.journal import Journal

from .rig import POOL

OWNERS = {POOL: "b"}


def owner(pool: str) -> str:
    return OWNERS.get(pool, "")


def entry(at: str, text: str, seq: int, *, copied: bool = False, **data: object) -> pb.HistoryEntry:
    said = json.dumps(data)
    return pb.HistoryEntry(at=at, text=text, seq=seq, kind="paused", pool_uuid=POOL, copied=copied, data=said)


def told(a: list[pb.HistoryEntry], b: list[pb.HistoryEntry], **request: int) -> list[tuple[str, str]]:
    parts = [Part("a", pb.HistoryReply(entries=a)), Part("b", pb.HistoryReply(entries=b)), Part("c", None)]
    found = together.history(pb.HistoryRequest(**request), parts, owner).entries  # type: ignore[arg-type]
    return [(each.collector, each.text) for each in found]


def test_what_came_with_a_pool_is_told_once_and_what_happened_twice_twice() -> None:
    a = [entry("10:00", "one", 7, replay=7), entry("10:01", "two", 8)]
    b = [
        entry("11:00", "one", 3, copied=True, replay=3),
        entry("11:00", "two", 4, copied=True),
        entry("12:00", "two", 5),
    ]
    assert told(a, b) == [("a", "one"), ("a", "two"), ("b", "two")]
    # Where who recorded it first does not answer, the copy is what there is; of two copies one.
    assert told([], b) == [("b", "one"), ("b", "two")]
    assert told([entry("13:00", "one", 9, copied=True)], b[:1]) == [("b", "one")]
    assert told(a, b, limit=1) == [("b", "two")]


def test_entries_that_came_with_a_pool_are_remembered(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a", (), "", ())
    journal.begin_epoch()
    try:
        one = Entry(Kind.PAUSED, "one", {})
        journal.take_over(POOL, "gold", [(4, one), (5, one)], 5)
        journal.commit(POOL, [one])
        journal.take_over(POOL, "gold", [], 5)
        journal.take_over(POOL, "gold", [(9, one)], 9)
        rows = journal.history()
        reply = pb.HistoryReply(
            entries=[pb.HistoryEntry(seq=row.seq, pool_uuid=row.pool, kind=row.kind) for row in rows]
        )
        together.mark_copied(reply.entries, journal.copied())
        assert [(each.kind, each.copied) for each in reply.entries if each.pool_uuid] == [
            ("folded", False), ("paused", True), ("paused", True),
            ("paused", False), ("folded", False), ("paused", True),
        ]  # fmt: skip
    finally:
        journal.close()


def test_whether_an_alert_is_open_says_the_pools_owner() -> None:
    stale = pb.Alert(key="k", pool_uuid=POOL, raised_at="10:00")
    over = pb.Alert(key="k", pool_uuid=POOL, raised_at="10:00", resolved_at="11:00")
    own = pb.Alert(key="disk", raised_at="09:00")
    both = [Part("a", pb.AlertsReply(alerts=[stale, own])), Part("b", pb.AlertsReply(alerts=[over, own]))]
    found = together.alerts(pb.AlertsRequest(), both, owner).alerts
    assert [(each.key, each.resolved_at, each.collector) for each in found] == [
        ("k", "11:00", "b"), ("disk", "", "a"), ("disk", "", "b"),
    ]  # fmt: skip
    # While its owner does not answer what another one knows is better than nothing.
    silent = together.alerts(pb.AlertsRequest(), [both[0], Part("b", None)], owner).alerts
    assert [each.key for each in silent] == ["k", "disk"] and silent[0].collector == "a"


def test_pages_of_pools_leave_nobody_out() -> None:
    def page(*names: str, after: str = "") -> pb.StatusReply:
        return pb.StatusReply(pools=[pb.PoolStatus(pool_uuid=name) for name in names], next=after)

    request = pb.StatusRequest(limit=2)
    parts = [Part("a", page("1", "5", after="5")), Part("b", page("2", "3", after="3"))]
    first = together.status(request, parts, owner)
    assert ([pool.pool_uuid for pool in first.pools], first.next) == (["1", "2"], "2")
    parts = [Part("a", page("5", "7")), Part("b", page("3", "4", after="4"))]
    second = together.status(pb.StatusRequest(limit=2, after="2"), parts, owner)
    assert ([pool.pool_uuid for pool in second.pools], second.next) == (["3", "4"], "4")
    last = together.status(pb.StatusRequest(limit=2, after="4"), [Part("a", page("5", "7")), Part("b", page())], owner)
    assert ([pool.pool_uuid for pool in last.pools], last.next) == (["5", "7"], "")
