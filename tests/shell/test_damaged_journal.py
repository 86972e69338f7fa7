"""A damaged journal: what is readable goes on, the damaged file stays, and a record with a hole is not the newest."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell.store import journal_file, journal_records, log_damage, salvage
from poolwarden_collector.shell.store.enrolment_tables import Change, Denied, Token
from poolwarden_collector.shell.store.journal import FILE, Journal, JournalError, Row

from .rig import POOL
from .test_schemas import EARLIER, laid_down

OTHER = "4c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a10"
PAGE = 4_096


def entries(first: int, count: int) -> list[Entry]:
    return [Entry(Kind.POOL_NAMED, f"{n}", {"name": f"{n}", "x": "y" * 400}) for n in range(first, first + count)]


def made(folder: Path, count: int = 300) -> list[Row]:
    """A journal of two pools, closed; its rows."""
    journal = Journal(folder)
    journal.begin_epoch()
    journal.begin_epoch()
    for first in range(0, count, 50):
        journal.commit(POOL, entries(first, 40))
        journal.commit(OTHER, entries(first + 40, 10))
    rows = journal.history(limit=10_000)
    journal.close()
    return rows


def pages(path: Path, table: str) -> list[int]:
    """The leaves of a table's tree in the order of its rows, by their number from 0."""
    with sqlite3.connect(path) as db:
        try:
            found = db.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", [table])
            return [number - 1 for (number,) in found]
        except sqlite3.OperationalError:
            root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()[0]
    data = path.read_bytes()
    page = data[(root - 1) * PAGE : root * PAGE]
    assert page[0] == 5, "an inner page of a table"
    cells = int.from_bytes(page[3:5], "big")
    at = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(cells)]
    children = [int.from_bytes(page[place : place + 4], "big") for place in at]
    return [number - 1 for number in (*children, int.from_bytes(page[8:12], "big"))]


def zeroed(path: Path, *numbers: int) -> None:
    with path.open("r+b") as file:
        for number in numbers:
            file.seek(number * PAGE)
            file.write(b"\0" * PAGE)


def damaged_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{FILE}.damaged-*") if not path.name.endswith(("-wal", "-shm"))]


def lines(journal: Journal) -> list[str]:
    with journal._reading() as db:
        return salvage.standing(db.conn)


def opened(folder: Path) -> Journal:
    journal = Journal(folder)
    with journal._reading() as db:
        assert next(iter(db.execute("PRAGMA integrity_check")))[0] == "ok"
        assert next(iter(db.execute("PRAGMA journal_mode")))[0] == "wal"
    return journal


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 7, -1])
def test_a_page_of_zeros_takes_its_rows_alone(tmp_path: Path, which: int) -> None:
    rows = made(tmp_path)
    zeroed(tmp_path / FILE, pages(tmp_path / FILE, "entries")[which])
    before = (tmp_path / FILE).read_bytes()
    journal = opened(tmp_path)
    left = journal.history(limit=10_000)
    assert len(rows) - 12 < len(left) < len(rows) and set(left) <= set(rows)
    [kept] = damaged_files(tmp_path)
    assert kept.read_bytes() == before and kept.stat().st_mode == (tmp_path / FILE).stat().st_mode
    assert "\n" not in journal.damage and kept.name in journal.damage and "some of entries" in journal.damage
    assert journal.epoch == 0, "as with a lost journal: each pool's hosts say that it is not the newest"
    assert journal.begin_epoch() >> LOT_BITS == 1
    again = journal.commit(POOL, entries(900, 1))
    assert again[0].seq > max(row.seq for row in left)
    journal.close()


def test_several_pages_and_what_stands_between_them(tmp_path: Path) -> None:
    rows = made(tmp_path, 1_500)
    leaves = pages(tmp_path / FILE, "entries")
    zeroed(tmp_path / FILE, *leaves[3:9], *leaves[10:14:2], leaves[-2])
    journal = opened(tmp_path)
    left = {row.seq for row in journal.history(limit=10_000)}
    assert len(rows) - 9 * 12 < len(left) < len(rows)
    gaps = [n for n in range(1, len(rows)) if (n in left) and (n + 1 not in left)]
    assert 3 <= len(gaps) <= 4, "each hole is as wide as its pages"
    journal.close()


@pytest.mark.slow
def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    made(tmp_path)
    size = (tmp_path / FILE).stat().st_size
    for part in (0.95, 0.8, 0.5, 0.3, 0.2):
        folder = tmp_path / str(part)
        folder.mkdir()
        shutil.copy(tmp_path / FILE, folder / FILE)
        os.truncate(folder / FILE, int(size * part) // PAGE * PAGE)
        try:
            journal = opened(folder)
        except JournalError as error:
            assert "restore the last backup" in str(error) and "\n" not in str(error)
            assert (folder / FILE).stat().st_size == int(size * part) // PAGE * PAGE
            continue
        assert journal.damage and journal.epoch == 0
        assert part < 0.8 or len(journal.history(limit=10_000)) > 50
        journal.close()


def test_a_damaged_index_loses_nothing(tmp_path: Path) -> None:
    rows = made(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as db:
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries_pool'").fetchall()
    zeroed(tmp_path / FILE, root - 1)
    journal = opened(tmp_path)
    assert journal.history(limit=10_000) == rows and "nothing is missing" in journal.damage
    assert journal.epoch >> LOT_BITS == 2, "no record has a hole"
    journal.close()


@pytest.mark.parametrize("folded_by_now", [True, False], ids=["snapshot-behind", "snapshot-before"])
def test_a_snapshot_behind_the_hole_makes_the_record_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded_by_now: bool
) -> None:
    made(tmp_path)
    monkeypatch.setattr(journal_records, "SNAPSHOT_EVERY", 1)
    journal = Journal(tmp_path)
    before = {pool: journal.record(pool) for pool in journal.pools()}
    journal.keep_snapshots(journal.snapshots_of(journal.long_tails()[0]))
    if not folded_by_now:
        journal.commit(POOL, entries(400, 200))
    journal.close()
    leaves = pages(tmp_path / FILE, "entries")
    zeroed(tmp_path / FILE, leaves[7 if folded_by_now else -3])
    journal = opened(tmp_path)
    assert journal.epoch == 0, "nobody knows of which pools nothing is left"
    assert journal.folds_over_a_hole() != folded_by_now
    if folded_by_now:
        assert {pool: journal.record(pool) for pool in journal.pools()} == before
        assert "no pool's state" not in journal.damage
    journal.close()
    if not folded_by_now:
        told = journal.damage
        # No snapshot hides the hole; it is over once both pools' hosts have said that the journal is not the newest.
        for pool in (POOL, OTHER):
            journal = Journal(tmp_path)
            assert journal.epoch == 0
            journal.begin_epoch()
            for each in (POOL, OTHER):
                journal.commit(each, entries(700, 1))
            due = [each.pool for each in journal.snapshots_of(journal.long_tails()[0])]
            assert pool not in due
            journal.commit(pool, [Entry(Kind.RESTORED, "", {"host": "h", "ended": 0})])
            assert pool in [each.pool for each in journal.snapshots_of(journal.long_tails()[0])]
            journal.close()
        journal = Journal(tmp_path)
        assert journal.epoch >> LOT_BITS == 1 and journal.damage == told, "it stands until somebody has taken note"
        journal.close()


def test_a_mark_has_the_next_start_look_at_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path)
    monkeypatch.setattr(salvage, "CHECKED_WHOLE", 0)
    zeroed(tmp_path / FILE, pages(tmp_path / FILE, "entries")[5])
    journal = Journal(tmp_path)
    assert not journal.damage, "not looked at"
    with pytest.raises(JournalError, match="restart the collector, which takes over what is readable") as error:
        for pool in journal.pools():
            journal.record(pool)
    assert "\n" not in str(error.value)
    journal.close()
    journal = opened(tmp_path)
    assert journal.record(POOL).name
    [told] = lines(journal)
    journal.close()
    journal = opened(tmp_path)
    assert lines(journal) == [told] and len(damaged_files(tmp_path)) == 1
    journal.close()


@pytest.mark.parametrize("table", ["denied", "meta"])
def test_small_tables_are_always_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    made(tmp_path)
    monkeypatch.setattr(salvage, "CHECKED_WHOLE", 0)
    with sqlite3.connect(tmp_path / FILE) as db:
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchall()
    zeroed(tmp_path / FILE, root - 1)
    if table == "meta":  # without it nobody knows what the file is
        with pytest.raises(JournalError, match="restore the last backup"):
            Journal(tmp_path)
        assert not damaged_files(tmp_path)
    else:
        journal = opened(tmp_path)
        assert "some of denied could not be (certificates that were denied" in journal.damage
        journal.close()


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("table", ["denied", "tokens"])
def test_a_denial_that_an_index_alone_has_is_no_silent_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, size: str
) -> None:
    """The table's page is one of earlier days: it reads without an error, and says nothing of who was denied since."""
    journal = Journal(tmp_path)
    journal.begin_epoch()
    with journal._reading() as db:
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchall()
    journal.close()
    earlier = (tmp_path / FILE).read_bytes()[(root - 1) * PAGE : root * PAGE]
    journal = Journal(tmp_path)
    rows = (Denied("aa", "h", 1, "anna", "stolen"), Token("t", "h", POOL, "", 1, 0, 1, 2, "anna", 7))
    journal.enrol(Change(put=rows))
    journal.close()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek((root - 1) * PAGE)
        file.write(earlier)
    if size == "large":
        monkeypatch.setattr(salvage, "CHECKED_WHOLE", 0)
    journal = opened(tmp_path)
    assert f"some of {table} could not be" in journal.damage
    journal.close()


def test_a_journal_of_an_earlier_schema_is_rescued_and_then_brought_up(tmp_path: Path) -> None:
    folder = laid_down(tmp_path / "s", EARLIER[-1])
    with sqlite3.connect(folder / FILE) as db:
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries_pool'").fetchall()
        count = db.execute("SELECT count(*) FROM entries NOT INDEXED").fetchone()[0]
    zeroed(folder / FILE, root - 1)
    journal = opened(folder)
    assert len(journal.history(limit=10_000)) == count and "nothing is missing" in journal.damage
    journal.close()


def test_what_is_in_the_log_is_not_lost(tmp_path: Path) -> None:
    made(tmp_path)
    journal = Journal(tmp_path)
    journal.commit(POOL, [Entry(Kind.PAUSED, "paused", {"reason": "work"})])
    folder = tmp_path / "cut"
    folder.mkdir()
    for tail in ("", "-wal"):
        shutil.copy(tmp_path / f"{FILE}{tail}", folder / f"{FILE}{tail}")
    journal.close()
    zeroed(folder / FILE, pages(tmp_path / FILE, "entries")[3])
    journal = opened(folder)
    assert journal.damage and journal.record(POOL).paused == "work"
    journal.close()


@pytest.mark.slow
def test_a_kill_at_each_step_of_it_loses_nothing(tmp_path: Path) -> None:
    made(tmp_path / "whole", 100)
    zeroed(tmp_path / "whole" / FILE, pages(tmp_path / "whole" / FILE, "entries")[2])
    counts = set()
    for at in range(1, 40):
        state = tmp_path / str(at)
        shutil.copytree(tmp_path / "whole", state)
        ended = killed_at(state / FILE, at)
        journal = opened(state)
        counts.add(len(journal.history(limit=1_000)))
        assert journal.epoch == 0 and damaged_files(state)
        journal.close()
        if ended == 0:
            break
    assert ended == 0 and at > 4 and len(counts) == 1


def killed_at(path: Path, at: int) -> int:
    """Open the file in a child that dies at its n-th link, removal, sync or rename; how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        seen = 0

        def watched(call: Callable[..., Any]) -> Callable[..., Any]:
            def instead(*given: Any, **named: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*given, **named)

            return instead

        os.fsync, os.link = watched(os.fsync), watched(os.link)  # type: ignore[assignment]
        Path.replace, Path.unlink = watched(Path.replace), watched(Path.unlink)  # type: ignore[assignment]
        journal_file.open_file(path).conn.close()
    finally:
        os._exit(0)


def test_a_sound_file_is_left_as_it_is(tmp_path: Path) -> None:
    made(tmp_path)
    journal = opened(tmp_path)
    assert not journal.damage and not damaged_files(tmp_path) and not journal.folds_over_a_hole()
    assert journal.epoch >> LOT_BITS == 2
    journal.close()


def killed(folder: Path) -> Path:
    """The files of a journal that nobody closed, a pause and some entries more in its log."""
    made(folder)
    journal = Journal(folder)
    journal.begin_epoch()
    for number in range(10):
        journal.commit(POOL, entries(1_000 + number, 1))
    journal.commit(POOL, [Entry(Kind.PAUSED, "paused", {"reason": "work"})])
    journal.commit(POOL, entries(2_000, 1))
    copy = folder / "killed"
    copy.mkdir()
    for tail in ("", "-wal"):
        shutil.copy(folder / f"{FILE}{tail}", copy / f"{FILE}{tail}")
    journal.close()
    return copy


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["first", "middle", "before-the-last", "header", "salt"])
def test_a_log_that_is_damaged_before_its_end_is_not_taken_for_the_newest(tmp_path: Path, part: str) -> None:
    folder = killed(tmp_path)
    log = folder / f"{FILE}-wal"
    count = (log.stat().st_size - 32) // (PAGE + 24)
    frame = {"first": 0, "middle": count // 2, "before-the-last": count - 10, "salt": count // 2}.get(part)
    flipped(log, 17 if frame is None else 32 + frame * (PAGE + 24) + (9 if part == "salt" else 900))
    before = log.read_bytes()
    journal = opened(folder)
    assert journal.epoch == 0 and "what was written last" in journal.damage and "\n" not in journal.damage
    [kept] = damaged_files(folder)
    assert kept.with_name(kept.name + "-wal").read_bytes() == before
    journal.close()


def test_a_torn_end_of_the_log_is_no_damage(tmp_path: Path) -> None:
    """A power cut within the last transaction: that was promised to nobody."""
    folder = killed(tmp_path)
    log = folder / f"{FILE}-wal"
    whole = log.read_bytes()
    for cut in (len(whole) - 700, len(whole) - PAGE - 24 - 5, 32 + 10, 32, 0):
        log.write_bytes(whole[:cut])
        assert log_damage.found(folder / FILE) == ""
    log.write_bytes(whole)
    flipped(log, len(whole) - 700)
    assert log_damage.found(folder / FILE) == ""
    journal = opened(folder)
    assert not journal.damage and journal.record(POOL).paused == "work" and journal.epoch >> LOT_BITS == 3
    journal.close()


def test_a_log_that_was_begun_anew_is_no_damage(tmp_path: Path) -> None:
    """Frames of the log before stand behind the end of today's."""
    made(tmp_path)
    journal = Journal(tmp_path)
    for number in range(20):
        journal.commit(POOL, entries(1_000 + number, 1))
    with journal._reading() as db:
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    for number in range(3):
        journal.commit(POOL, entries(1_100 + number, 1))
    assert log_damage.found(tmp_path / FILE) == ""
    journal.close()


def test_a_page_of_earlier_days_hides_nothing(tmp_path: Path) -> None:
    """It reads without an error; what stood behind it is in the indexes."""
    made(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries'").fetchall()
    earlier = (tmp_path / FILE).read_bytes()[(root - 1) * PAGE : root * PAGE]
    journal = Journal(tmp_path)
    journal.commit(POOL, entries(1_000, 100))
    journal.commit(POOL, [Entry(Kind.PAUSED, "paused", {"reason": "work"})])
    journal.close()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek((root - 1) * PAGE)
        file.write(earlier)
    journal = opened(tmp_path)
    assert journal.record(POOL).paused is None and "some of entries" in journal.damage
    assert journal.epoch == 0 and journal.folds_over_a_hole()
    journal.close()


def test_a_pool_of_which_no_entry_is_left_is_judged_too(tmp_path: Path) -> None:
    """The others have snapshots from behind the hole."""
    third = "4c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a99"
    journal = Journal(tmp_path)
    journal.begin_epoch()
    journal.commit(POOL, entries(0, 60))
    journal.commit(third, [Entry(Kind.PAUSED, "paused", {"reason": "away"})])
    for pool in (POOL, OTHER):
        journal.commit(pool, entries(60, 200))
    journal.keep_snapshots(journal.snapshots_of(journal.long_tails()[0]))
    journal.close()
    data = (tmp_path / FILE).read_bytes()
    leaves = pages(tmp_path / FILE, "entries")
    zeroed(tmp_path / FILE, *(number for number in leaves if b'"away"' in data[number * PAGE : (number + 1) * PAGE]))
    journal = opened(tmp_path)
    assert third not in journal.pools() and not journal.folds_over_a_hole() and journal.epoch == 0
    journal.close()
