"""A journal's log that is gone, or shorter than it was: what was durable is missed at the start."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell.store import log_damage, running_mark
from poolwarden_collector.shell.store.backup import back_up
from poolwarden_collector.shell.store.journal import FILE, Journal, JournalError

from .rig import POOL
from .test_damaged_journal import OTHER, entries, lines, opened, pages, zeroed

RUNNING = f"{FILE}{running_mark.RUNNING}"


def ended(folder: Path, how: str = "killed") -> tuple[Path, int]:
    """The files of a collector that was killed, or (``power``) whose machine lost its power; and its last entry."""
    source = folder / how
    journal = Journal(source)
    journal.begin_epoch()
    journal.commit(POOL, entries(0, 40))
    with journal._reading() as db:
        db.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
    last = journal.commit(POOL, [Entry(Kind.PAUSED, "paused", {"reason": "work"})])[-1].seq
    copy = folder / f"{how}-copy"
    copy.mkdir()
    for name in (FILE, f"{FILE}-wal", RUNNING):
        shutil.copy(source / name, copy / name)
    if how == "power":
        number = (copy / RUNNING).read_text().partition(" ")[0]
        assert int(number) == last
        (copy / RUNNING).write_text(f"{0:020d} another-boot\n")  # a number that was not synced
    journal.close()
    assert not (source / RUNNING).exists(), "a stop leaves no mark"
    return copy, last


@pytest.mark.parametrize("how", ["killed", "power"])
@pytest.mark.parametrize("log", ["away", "empty", "header"])
def test_a_log_that_is_not_there_is_a_loss(tmp_path: Path, how: str, log: str) -> None:
    folder, last = ended(tmp_path, how)
    wal = folder / f"{FILE}-wal"
    if log == "away":
        wal.unlink()
    else:
        os.truncate(wal, 32 if log == "header" else 0)
    journal = opened(folder)
    assert journal.epoch == 0 and journal.folds_over_a_hole() and journal.record(POOL).paused is None
    assert "what was written last is missing" in journal.damage and "\n" not in journal.damage
    assert (f"entries up to {last} were durable, and it ends at {last - 1}" in journal.damage) == (how == "killed")
    journal.begin_epoch()
    journal.close()
    journal = opened(folder)
    assert journal.epoch == 0, "as long as the pool's hosts have not said that it is not the newest"
    journal.close()


def test_a_log_that_ends_earlier_at_a_whole_transaction_is_a_loss(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin_epoch()
    sizes = []
    for number in range(4):
        last = journal.commit(POOL, entries(number, 1))[-1].seq
        sizes.append((tmp_path / f"{FILE}-wal").stat().st_size)
    folder = tmp_path / "cut"
    folder.mkdir()
    for name in (FILE, f"{FILE}-wal", RUNNING):
        shutil.copy(tmp_path / name, folder / name)
    journal.close()
    os.truncate(folder / f"{FILE}-wal", sizes[1])
    assert log_damage.found(folder / FILE) == ""
    journal = opened(folder)
    assert journal.epoch == 0 and f"up to {last} were durable, and it ends at {last - 2}" in journal.damage
    journal.close()


def test_an_earlier_file_in_the_place_of_a_killed_one_is_a_loss(tmp_path: Path) -> None:
    folder, _ = ended(tmp_path)
    Journal(tmp_path / "early").close()
    (folder / f"{FILE}-wal").unlink()
    shutil.copy(tmp_path / "early" / FILE, folder / FILE)
    journal = opened(folder)
    assert journal.epoch == 0 and "it ends at 0" in journal.damage
    journal.close()


@pytest.mark.parametrize("how", ["killed", "power"])
def test_a_kill_and_a_power_cut_lose_nothing(tmp_path: Path, how: str) -> None:
    folder, _ = ended(tmp_path, how)
    journal = opened(folder)
    assert not journal.damage and journal.epoch >> LOT_BITS == 1 and journal.record(POOL).paused == "work"
    journal.close()


def test_a_log_that_another_program_has_folded_into_the_file_is_no_loss(tmp_path: Path) -> None:
    """The sqlite3 shell, opened after a kill, closes the file as its last user."""
    folder, _ = ended(tmp_path)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as db:
        db.execute("SELECT count(*) FROM entries").fetchall()
    assert not (folder / f"{FILE}-wal").exists()
    journal = opened(folder)
    assert not journal.damage and journal.record(POOL).paused == "work"
    journal.close()


def test_a_page_and_the_log_of_a_killed_journal_are_lost(tmp_path: Path) -> None:
    folder, _ = ended(tmp_path)
    (folder / f"{FILE}-wal").unlink()
    zeroed(folder / FILE, pages(folder / FILE, "entries")[0])
    journal = opened(folder)
    assert journal.epoch == 0 and "what was written last" in journal.damage
    journal.close()
    journal = opened(folder)
    assert len(lines(journal)) == 1, "it was rescued once"
    journal.close()


def test_what_was_rolled_back_is_no_loss(tmp_path: Path) -> None:
    """The mark has what is durable and no more, and a copy of the file has none."""
    journal = Journal(tmp_path)
    journal.begin_epoch()
    bad = Entry(Kind.POOL_NAMED, "", {"name": {1, 2}})
    done = journal.commit_together([(POOL, entries(0, 2), (), "", ()), (OTHER, [bad], (), "", ())])
    with pytest.raises(JournalError):
        journal.commit(POOL, [*entries(0, 2), bad])
    assert len(done[0]) == 2 and int((tmp_path / RUNNING).read_text().partition(" ")[0]) == 2  # type: ignore[arg-type]
    assert RUNNING not in {path.name for path in back_up(tmp_path, tmp_path / "copy")}
    assert not (tmp_path / "copy" / RUNNING).exists()
    journal.close()


@pytest.mark.parametrize("text", ["", "7", "x" * 20 + " boot\n", "\0" * 60])
def test_a_mark_that_says_nothing_claims_nothing(tmp_path: Path, text: str) -> None:
    folder, _ = ended(tmp_path)
    (folder / f"{FILE}-wal").unlink()
    (folder / RUNNING).write_text(text)
    journal = opened(folder)
    assert not journal.damage
    journal.close()


def test_a_log_that_a_reader_keeps_from_being_folded_keeps_its_mark(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin_epoch()
    journal.commit(POOL, entries(0, 3))
    journal._db.execute("PRAGMA busy_timeout = 1")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchall()
        journal.commit(POOL, [Entry(Kind.PAUSED, "paused", {"reason": "work"})])
        journal.close()
        assert (tmp_path / RUNNING).exists()
    journal = opened(tmp_path)
    assert not journal.damage and journal.record(POOL).paused == "work"
    journal.close()
