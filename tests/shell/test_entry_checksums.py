"""A bit of an entry that is another one now: no page is damaged for SQLite, and nobody decides by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.store.entry_checksum import sound
from poolwarden_collector.shell.store.journal import FILE, Journal, JournalError
from poolwarden_collector.shell.store.retention import Cut

from .rig import POOL
from .test_damaged_journal import OTHER, entries, made, opened
from .test_schemas import EARLIER, laid_down


def changed(folder: Path, before: bytes, after: bytes) -> None:
    """A bit of the file that is another one now, within what an entry holds: no page is damaged for SQLite."""
    data = (folder / FILE).read_bytes()
    assert len(before) == len(after) and data.count(before) == 1
    (folder / FILE).write_bytes(data.replace(before, after))


def test_an_entry_that_does_not_match_its_checksum_is_left_out_and_told(tmp_path: Path) -> None:
    made(tmp_path)
    journal = Journal(tmp_path)
    lost = journal.commit(POOL, [Entry(Kind.PAUSED, "", {"reason": "work of today"})])[-1].seq
    journal.commit(POOL, entries(900, 3))
    journal.close()
    changed(tmp_path, b"work of today", b"wosk of today")
    journal = Journal(tmp_path)
    said = f"entry {lost} of pool {POOL} .* does not match its checksum; restart"
    with pytest.raises(JournalError, match=said) as error:
        journal.record(POOL)
    assert "\n" not in str(error.value)
    journal.close()
    journal = opened(tmp_path)
    assert f"entry {lost} of pool {POOL} does not match its checksum" in journal.damage
    assert journal.epoch == 0 and journal.short() and journal.record(POOL).paused is None
    assert lost not in {row.seq for row in journal.history(POOL, limit=10_000)}
    assert journal.record(POOL).name == "902", "what came after it goes on"
    journal.close()


@pytest.mark.parametrize("column", ["epoch", "term", "pool", "failover", "actor", "text", "kind", "data"])
def test_each_column_that_decides_is_in_the_checksum(tmp_path: Path, column: str) -> None:
    journal = Journal(tmp_path)
    journal.commit(POOL, entries(0, 3))
    other = {"pool": OTHER, "kind": "resumed", "data": '{"name": "x"}', "epoch": 7, "term": 7}.get(column, "x")
    with journal._transaction("test") as db:
        db.execute(f"UPDATE entries SET {column} = ?", [other])
    with pytest.raises(JournalError, match="checksum"):
        journal.record(OTHER if column == "pool" else POOL)
    journal.close()


def test_an_entry_of_an_earlier_release_has_no_checksum_and_is_taken(tmp_path: Path) -> None:
    folder = laid_down(tmp_path / "s", EARLIER[-1])
    journal = Journal(folder)
    with journal._reading() as db:
        assert next(iter(db.execute("SELECT count(*) FROM entries WHERE checked IS NOT NULL")))[0] == 0
    pool = journal.pools()[0]
    journal.commit(pool, entries(0, 1))
    assert journal.record(pool).name == "0"
    journal.close()


def test_what_is_removed_of_a_decision_keeps_its_checksum_and_hides_no_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    rows = journal.commit(POOL, [Entry(Kind.POOL_NAMED, "", {"name": f"{n}", "input": "z"}) for n in range(2)])
    with journal._transaction("test") as db:
        db.execute("UPDATE entries SET text = 'other' WHERE seq = ?", [rows[1].seq])
    journal.remove(Cut(inputs=tuple(row.seq for row in rows)))
    with journal._reading() as db:
        first, second = list(db.query("SELECT * FROM entries ORDER BY seq"))
    assert sound(first) and "input" not in first["data"]
    assert not sound(second) and "input" in second["data"]
    journal.close()
