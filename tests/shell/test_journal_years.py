"""The journal over years: snapshots, what is removed and what never is, questions by index."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord, apply, fold
from poolwarden_collector.core.state.record_text import BadRecord, from_text, to_text
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.config_changes import changes, unchangeable
from poolwarden_collector.shell.config.journal import DAY_MS, JournalSettings
from poolwarden_collector.shell.config.toml_table import ConfigError
from poolwarden_collector.shell.loop.journal_upkeep import JournalUpkeep
from poolwarden_collector.shell.store import journal_records, retention, snapshots
from poolwarden_collector.shell.store.journal import FILE, Journal
from poolwarden_collector.shell.store.journal_questions import _history_query
from poolwarden_collector.shell.store.journal_rows import DECISION
from poolwarden_collector.shell.store.retention import KEPT, Keeping, changes_nothing

from .rig import POOL
from .test_config import read
from .test_schemas import EARLIER, laid_down

KEPT_MS = JournalSettings()
LONG_AGO = "2021-03-04T05:06:07.008Z"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """What the release before wrote, brought up to date: drills, failovers, pauses, questions."""
    opened = Journal(laid_down(tmp_path / "s", EARLIER[-1]))
    opened.begin_epoch()
    yield opened
    opened.close()


def whole(journal: Journal, pool: str) -> PoolRecord:
    return fold(PoolRecord(pool), journal.replay(pool))


def tampered(journal: Journal, script: str, *values: object) -> None:
    with journal._transaction("a test") as db:
        db.execute(script, values)


def taken(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> int:
    """A snapshot of every pool, however short its tail; how many."""
    monkeypatch.setattr(journal_records, "SNAPSHOT_EVERY", 1)
    due = journal.snapshots_of(journal.long_tails()[0])
    journal.keep_snapshots(due)
    return len(due)


def read_of(journal: Journal, monkeypatch: pytest.MonkeyPatch, pool: str) -> int:
    """How many entries its record takes to be read."""
    seen = []
    real = journal_records.entry_of
    monkeypatch.setattr(journal_records, "entry_of", lambda *given: (seen.append(1), real(*given))[1])
    journal.record(pool)
    monkeypatch.setattr(journal_records, "entry_of", real)
    return len(seen)


# ------------------------------------------------------------------------------------------------ snapshots


def test_a_record_from_a_snapshot_and_its_tail_is_the_whole_fold_at_each_entry(journal: Journal) -> None:
    kinds = set()
    for pool in journal.pools():
        record = PoolRecord(pool)
        for entry in journal.replay(pool):
            kinds.add(entry.kind)
            record = apply(record, entry)
            assert from_text(to_text(record)) == record
    assert {Kind.DRILL_PHASE, Kind.OWED, Kind.PAUSED, Kind.HOST_CONFIRMED_OFF, Kind.IN_PLACE_INTENT} <= kinds


def test_a_start_reads_the_tail_alone(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = journal.pools()
    before = {pool: whole(journal, pool) for pool in pools}
    assert taken(journal, monkeypatch) == len(pools) and taken(journal, monkeypatch) == 0
    assert {pool: journal.record(pool) for pool in pools} == before
    assert [read_of(journal, monkeypatch, pool) for pool in pools] == [0] * len(pools)
    journal.commit(pools[0], [Entry(Kind.PAUSED, "paused", {"reason": "work"})])
    assert read_of(journal, monkeypatch, pools[0]) == 1 and journal.record(pools[0]).paused == "work"


def test_the_two_newest_are_kept_and_the_older_one_serves(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        journal.commit(POOL, [Entry(Kind.POOL_NAMED, "named", {"name": name})])
        taken(journal, monkeypatch)
    with journal._reading() as db:
        kept = [row["seq"] for row in db.query("SELECT seq FROM snapshots WHERE pool = ? ORDER BY seq", [POOL])]
    assert len(kept) == snapshots.KEPT
    tampered(journal, "UPDATE snapshots SET record = x'00' WHERE pool = ? AND seq = ?", POOL, kept[-1])
    assert read_of(journal, monkeypatch, POOL) == 1 and journal.record(POOL).name == "c"


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "UPDATE snapshots SET checked = 'x'",
        "UPDATE snapshots SET fold = 'another release'",
        "UPDATE snapshots SET fold = ''",
        "UPDATE snapshots SET record = x'00'",
        "UPDATE snapshots SET record = ''",
        "UPDATE snapshots SET record = substr(record, 1, 40)",
        "UPDATE snapshots SET seq = seq + 100000",
        "UPDATE snapshots SET pool = 'another'",
        "UPDATE snapshots SET record = (SELECT record FROM snapshots LIMIT 1 OFFSET 3) WHERE rowid > 5",
        "DROP TABLE snapshots",
    ],
)
def test_a_snapshot_that_cannot_be_trusted_is_passed_over(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    before = {pool: whole(journal, pool) for pool in journal.pools()}
    taken(journal, monkeypatch)
    tampered(journal, script)
    assert {pool: journal.record(pool) for pool in journal.pools()} == before


def test_what_other_code_has_folded_is_folded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(tmp_path)
    opened.commit(POOL, [Entry(Kind.POOL_NAMED, "named", {"name": "lab"})])
    with monkeypatch.context() as before:
        before.setattr(snapshots, "fold_code", lambda: "the release before")
        wrong = snapshots.made(PoolRecord(POOL, "it knew no names"), 1)
        assert wrong is not None
        opened.keep_snapshots([wrong])
        assert opened.record(POOL).name == "it knew no names"
    assert opened.record(POOL).name == "lab"
    opened.close()


def test_a_record_of_other_code_is_not_read() -> None:
    text = to_text(PoolRecord(POOL, "lab"))
    for wrong in (
        text.replace("PoolRecord", "Popen"),
        text[:-2] + ",1]",
        "[]",
        "{",
        '["C"]',
        '["S",1]',
        "7",
        "[" * 99_999,
    ):
        with pytest.raises(BadRecord):
            from_text(wrong)
    with pytest.raises(BadRecord, match="no value of a record"):
        to_text(PoolRecord(POOL, name=b"x"))  # type: ignore[arg-type]


def test_a_long_tail_gets_a_snapshot_and_a_short_one_none(tmp_path: Path) -> None:
    opened = Journal(tmp_path)
    named = [Entry(Kind.POOL_NAMED, "named", {"name": str(n)}) for n in range(journal_records.SNAPSHOT_EVERY)]
    opened.commit(POOL, named[:-1])
    assert opened.snapshots_of(opened.long_tails()[0]) == []
    opened.commit(POOL, named[-1:])
    assert [each.seq for each in opened.snapshots_of(opened.long_tails()[0])] == [len(named)]
    opened.close()


# ------------------------------------------------------------------------------------------------ what goes


def test_each_kind_says_why_it_stays() -> None:
    assert set(KEPT) == set(Kind)
    went_once = {
        "verdict",
        "agent-silent",
        "agent-back",
        "stranger",
        "host-refused",
        "alert-delivered",
        "hook-ran",
        "folded",
    }
    # Journals have lost entries of these since: none of them is ever folded again. More may be added, none taken away.
    assert went_once <= {kind.value for kind, keeping in KEPT.items() if keeping is Keeping.HISTORY}


_DATA = (
    {},
    {"host": "h"},
    {"verdict": "MasterLost"},
    {"verdict": "Healthy"},
    {"over": True},
    {"verdict": "Healthy", "over": True},
)


def test_nothing_that_may_go_changes_any_record(journal: Journal) -> None:
    records = [whole(journal, pool) for pool in journal.pools()]
    records += [fold(PoolRecord(POOL), list(journal.replay(pool))[:n]) for pool in journal.pools() for n in (9, 20, 30)]
    gone = 0
    for kind in Kind:
        for data in _DATA:
            if not changes_nothing(kind.value, "", json.dumps(data)):
                continue
            gone += 1
            for record in records:
                assert apply(record, Entry(kind, "", dict(data))) == record, kind
    assert gone > 20 and not changes_nothing("verdict", "f-1", "{}") and not changes_nothing("verdict", "", "{")
    assert not changes_nothing("verdict", "", "[]") and not changes_nothing("leapfrogged", "", "{}")


def test_what_is_left_folds_to_the_same_records(journal: Journal) -> None:
    pools = journal.pools()
    before = {pool: whole(journal, pool) for pool in pools}
    tampered(journal, "UPDATE entries SET at = ?", LONG_AGO)
    rows = len(journal.history(limit=10_000))
    assert removed(journal, last_kept=0) > 30
    assert len(journal.history(limit=10_000)) < rows
    assert journal.pools() == pools and {pool: whole(journal, pool) for pool in pools} == before


def removed(journal: Journal, last_kept: int, most: int = 100_000) -> int:
    """Remove all that is old; how many entries and inputs."""
    found = 0
    before, retention.LAST_KEPT = retention.LAST_KEPT, last_kept
    try:
        while (cut := journal.old(KEPT_MS.keep_history, KEPT_MS.keep_decisions, most)).moved:
            for part in retention.parts(cut):
                assert len(part.entries) + len(part.inputs) <= 100, "the connection that writes is soon free again"
                journal.remove(part)
            found += len(cut.entries) + len(cut.inputs)
    finally:
        retention.LAST_KEPT = before
    return found


def silences(journal: Journal, count: int, at: str) -> None:
    journal.commit(POOL, [Entry(Kind.AGENT_SILENT, f"silent {n}", {"host": "h"}) for n in range(count)])
    tampered(journal, "UPDATE entries SET at = ? WHERE seq > (SELECT max(seq) FROM entries) - ?", at, count)


def test_the_last_ones_stay_and_so_do_young_ones_and_those_from_the_future(tmp_path: Path) -> None:
    opened = Journal(tmp_path)
    silences(opened, 10, LONG_AGO)
    silences(opened, 5, "2999-01-01T00:00:00.000Z")  # a clock was wrong
    silences(opened, 10, LONG_AGO)
    silences(opened, 5, clock.text_of(clock.wall_ms() - 399 * DAY_MS))
    silences(opened, 5, LONG_AGO)
    assert removed(opened, last_kept=1_000) == 0
    assert removed(opened, last_kept=0) == 20
    assert len(opened.history(limit=1_000)) == 15
    [row] = opened.commit(POOL, [Entry(Kind.AGENT_BACK, "back")])
    assert row.seq == 36, "no number is given twice"
    opened.close()


def test_the_entry_stays_up_to_which_a_snapshot_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(tmp_path)
    silences(opened, 9, LONG_AGO)
    assert taken(opened, monkeypatch) == 1
    assert removed(opened, last_kept=0) == 8
    assert read_of(opened, monkeypatch, POOL) == 0 and [row.seq for row in opened.history()] == [9]
    opened.close()


def test_a_clock_that_is_wrong_for_a_while_empties_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(tmp_path)
    silences(opened, 300, clock.text_of(clock.wall_ms()))
    monkeypatch.setattr(clock, "wall_ms", lambda: 4_000_000_000_000)
    monkeypatch.setattr(retention, "LAST_KEPT", 0)
    assert len(opened.old(KEPT_MS.keep_history, KEPT_MS.keep_decisions, 70).entries) == 70
    opened.close()


def test_the_input_of_a_decision_goes_after_its_time_and_the_decision_stays(tmp_path: Path) -> None:
    opened = Journal(tmp_path)
    data = {"old_master": "h1", "old_boot": "b", "input": "packed", "step": ["decided: x"]}
    for days in (740, 700):
        opened.commit(POOL, [Entry(Kind.DECIDED, "decided", data, f"f-{days}", 1)])
        at = clock.text_of(clock.wall_ms() - days * DAY_MS)
        tampered(opened, "UPDATE entries SET at = ? WHERE failover = ?", at, f"f-{days}")
    before = opened.record(POOL)
    assert removed(opened, last_kept=0) == 1
    assert opened.decision("f-740") is None and opened.decision("1") is None and opened.decision("f-700") is not None
    assert [json.loads(row.data).get("old_master") for row in opened.history(POOL)] == ["h1", "h1"]
    assert opened.record(POOL) == before and before.failovers == 2
    opened.close()


@pytest.mark.asyncio
async def test_one_round_takes_snapshots_and_removes_what_is_old(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_records, "SNAPSHOT_EVERY", 1)
    monkeypatch.setattr(retention, "LAST_KEPT", 0)
    monkeypatch.setattr("poolwarden_collector.shell.loop.journal_upkeep._BETWEEN_S", 0)
    silences(journal, 250, LONG_AGO)
    tampered(journal, "UPDATE entries SET at = ?", LONG_AGO)
    rows, calls = len(journal.history(limit=10_000)), []

    async def write(call: Callable[..., Any], *given: Any) -> Any:
        calls.append(call.__name__)
        return call(*given)

    upkeep = JournalUpkeep(journal, write, JournalSettings)
    await upkeep.look_after(old=False)
    assert set(calls) == {"keep_snapshots"} and len(journal.history(limit=10_000)) == rows
    await upkeep.look_after(old=True)
    assert calls.count("remove") >= 3 and len(journal.history(limit=10_000)) <= rows - 250
    count = len(calls)
    await upkeep.look_after(old=True)
    assert len(calls) == count, "nothing is done twice"


# ------------------------------------------------------------------------------------------------ questions by index

_ASKED: list[dict[str, Any]] = [
    {},
    {"after": 5},
    {"before": 9},
    {"pool": POOL},
    {"pool": POOL, "since": LONG_AGO},
    {"pool": POOL, "failover": "f"},
    {"failover": "f"},
    {"failover": "f", "until": LONG_AGO},
    {"since": LONG_AGO},
    {"until": LONG_AGO},
    {"since": LONG_AGO, "until": LONG_AGO, "before": 9},
    {"among": "[]"},
    {"among": "[]", "since": LONG_AGO},
    {"among": "[]", "failover": "f"},
]


@pytest.mark.slow
@pytest.mark.parametrize("asked", _ASKED, ids=str)
def test_history_is_found_by_an_index(journal: Journal, asked: dict[str, Any]) -> None:
    values = {"after": 0, "pool": "", "failover": "", "limit": 9, "since": "", "until": "", "before": 0, **asked}
    plan = planned(journal, _history_query(values, of_some="among" in asked), values)
    assert not [line for line in plan if "SCAN entries" in line], plan
    if set(asked) - {"after", "before"}:
        assert any("entries_" in line for line in plan), plan


def test_a_decision_kinds_and_pools_are_found_by_an_index(journal: Journal) -> None:
    of_kinds = "SELECT * FROM entries WHERE pool = :pool AND kind IN (:a, :b) ORDER BY seq DESC LIMIT 9"
    asked: list[tuple[str, dict[str, Any]]] = [
        (DECISION, {"seq": 1, "failover": "f"}),
        (of_kinds, {"pool": "", "a": "", "b": ""}),
        (journal_records._ROWS.replace("?", ":n"), {"n": 1}),
        (journal_records._POOLS, {}),
    ]
    for query, values in asked:
        plan = planned(journal, query, values)
        assert not [line for line in plan if "SCAN entries" in line and "COVERING" not in line], plan
        assert any("entries" in line for line in plan), plan


def planned(journal: Journal, query: str, values: dict[str, Any]) -> list[str]:
    with sqlite3.connect(journal.path) as db:
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values)]


def test_what_is_found_is_what_is_asked_for(journal: Journal) -> None:
    everything = journal.history(limit=10_000)
    times = sorted({row.at for row in everything})
    since, until = times[len(times) // 4], times[len(times) // 2]
    pools = frozenset(journal.pools()[:3])
    which = next(row.failover for row in reversed(everything) if row.failover)

    def those(of: Callable[[Any], bool], last: int = 10_000) -> list[Any]:
        return [row for row in everything if of(row)][-last:]

    history = journal.history
    assert history(limit=10_000, since=since, until=until) == those(lambda row: since <= row.at <= until)
    assert history(limit=10_000, among=pools) == those(lambda row: row.pool in pools)
    assert history(limit=7, among=pools, until=until) == those(lambda row: row.pool in pools and row.at <= until, 7)
    assert history(limit=10_000, failover=which) == those(lambda row: row.failover == which)
    assert history(limit=3, before_seq=50, until=until) == those(lambda row: row.seq < 50 and row.at <= until, 3)


def test_the_file_is_smaller_afterwards_or_its_room_is_used_again(tmp_path: Path) -> None:
    opened = Journal(tmp_path)
    silences(opened, 2_000, LONG_AGO)
    opened.close()
    opened = Journal(tmp_path)
    size = (tmp_path / FILE).stat().st_size
    assert removed(opened, last_kept=0) == 2_000
    silences(opened, 1_500, LONG_AGO)
    opened.close()
    assert (tmp_path / FILE).stat().st_size <= size * 1.05


# ------------------------------------------------------------------------------------------------ [journal]


def test_how_long_is_configured(tmp_path: Path) -> None:
    assert read(tmp_path).journal == JournalSettings(400 * DAY_MS, 731 * DAY_MS)
    config = read(tmp_path, '[journal]\nkeep_history = "92d"\nkeep_decisions = "3660 d"')
    assert config.journal == JournalSettings(92 * DAY_MS, 3_660 * DAY_MS)
    assert changes(read(tmp_path), config) == ("journal: keep_history", "journal: keep_decisions")
    assert unchangeable(read(tmp_path), config) == ()


@pytest.mark.parametrize(
    "line",
    [
        'keep_history = "91d"',
        'keep_decisions = "3661d"',
        'keep_history = "2y"',
        'keep_history = "-400d"',
        'keep_history = ""',
        "keep_decisions = 731",
        'keep_everything = "400d"',
    ],
)
def test_a_mistake_in_it_is_one_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=line.split(" ")[0]) as error:
        read(tmp_path, f"[journal]\n{line}")
    assert "\n" not in str(error.value)
