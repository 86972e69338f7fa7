"""Journals of every schema that was ever in use, newer ones, damaged ones, and what a crash leaves of each.

``schemas/N.sql`` is a journal as the release with schema N left it, ``schemas/N.json`` what it folded to there. Neither
is ever changed: whoever raises the schema adds a pair.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.decision_input import _into_slices, _plain
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.pool_record import BadEntry, PoolRecord, apply, fold
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import journal_file
from poolwarden_collector.shell.store.journal import FILE, Journal, JournalError
from poolwarden_collector.shell.store.journal_file import SCHEMA, copy_of

from .rig import POOL

SCHEMAS = Path(__file__).parent / "schemas"
EARLIER = sorted(int(path.stem) for path in SCHEMAS.glob("*.sql"))


def laid_down(folder: Path, schema: int) -> Path:
    """A journal of that schema in a new state directory."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / FILE) as db:
        db.executescript((SCHEMAS / f"{schema}.sql").read_text())
    db.close()
    return folder


def folded(folder: Path) -> dict[str, Any]:
    journal = Journal(folder)
    try:
        return {pool: _plain(journal.record(pool)) for pool in journal.pools()}
    finally:
        journal.close()


def within(frozen: Any, found: Any) -> bool:
    """Is what was known then the same now? What later releases know besides is their own."""
    if isinstance(frozen, dict) and isinstance(found, dict):
        return all(key in found and within(value, found[key]) for key, value in frozen.items())
    if isinstance(frozen, list) and isinstance(found, list) and len(frozen) == len(found):
        return all(within(one, other) for one, other in zip(frozen, found, strict=True))
    if isinstance(frozen, str) and isinstance(found, list) and found[:1] == ["E"]:
        found = str(found[2]).lower().replace("_", "-")  # a word then, a type of its own now
    nothing = ("", None)
    return bool(frozen == found) or (frozen in nothing and found in nothing)  # however it is spelled


def test_each_earlier_schema_is_kept_and_has_a_way_to_the_next_one() -> None:
    assert list(range(1, SCHEMA)) == EARLIER == sorted(journal_file.MIGRATIONS)


@pytest.mark.slow
@pytest.mark.parametrize("schema", EARLIER)
def test_an_earlier_journal_opens_and_folds_to_the_same_record(tmp_path: Path, schema: int) -> None:
    state = laid_down(tmp_path / "s", schema)
    frozen, found = json.loads((SCHEMAS / f"{schema}.json").read_text()), folded(state)
    assert set(frozen) == set(found) and len(frozen) > 10
    if schema < 3:
        for record in frozen.values():
            _into_slices(Failover, record[2]["failover"])  # flat then
    different = [pool for pool in frozen if not within(frozen[pool], found[pool])]
    assert different == []
    with sqlite3.connect(copy_of(state / FILE, schema)) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (str(schema),)
        assert db.execute("SELECT count(*) FROM entries").fetchone()[0] > 500
    copy_of(state / FILE, schema).unlink()
    assert folded(state) == found and not copy_of(state / FILE, schema).exists(), "once is enough"


def test_a_migrated_journal_is_as_a_new_one(tmp_path: Path) -> None:
    def tables(folder: Path) -> list[Any]:
        Journal(folder).close()
        with sqlite3.connect(folder / FILE) as db:
            return db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()

    made = [
        [" ".join(str(part).replace("IF NOT EXISTS ", "").split()) for part in row] for row in tables(tmp_path / "new")
    ]
    for schema in EARLIER:
        found = tables(laid_down(tmp_path / str(schema), schema))
        assert [[" ".join(str(part).split()) for part in row] for row in found] == made


@pytest.mark.parametrize("value", ["99", str(SCHEMA + 1)])
def test_a_newer_journal_is_refused_and_not_touched(tmp_path: Path, value: str) -> None:
    Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", [value])
    db.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(JournalError, match=f"has schema {value}.*install the newer one again") as error:
        Journal(tmp_path)
    assert "\n" not in str(error.value) and (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("script", ["CREATE TABLE other (x)", "UPDATE meta SET value = 'x'", "DELETE FROM meta"])
def test_what_is_no_journal_or_says_no_schema_is_refused(tmp_path: Path, script: str) -> None:
    if "meta" in script:
        Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(script)
    db.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(JournalError, match="no journal of Poolwarden's|restore the last backup"):
        Journal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def killed_at(path: Path, at: int) -> int:
    """Open the file in a child that dies at its n-th statement, sync or rename; how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        seen = 0
        connect, fsync, replace = sqlite3.connect, os.fsync, Path.replace

        def point(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

        def watched(*arguments: Any, **named: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **named)
            connection.set_trace_callback(point)
            return connection

        sqlite3.connect = watched
        os.fsync = lambda descriptor: (point(), fsync(descriptor), point())  # type: ignore[assignment]
        Path.replace = lambda *names: (point(), replace(*names), point())  # type: ignore[assignment]
        journal_file.open_file(path).conn.close()
    finally:
        os._exit(0)


@pytest.mark.slow
def test_a_kill_at_each_statement_of_a_migration_leaves_the_old_journal_or_the_new_one(memory: Path) -> None:
    whole = laid_down(memory / "whole", EARLIER[-1])
    with sqlite3.connect(whole / FILE) as db:
        db.execute("DELETE FROM entries WHERE seq > 40")
    db.close()
    schemas = set()
    for at in range(1, 60):
        state = memory / str(at)
        shutil.copytree(whole, state)
        ended = killed_at(state / FILE, at)
        with sqlite3.connect(state / FILE) as db:
            schemas.add((db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0], ended))
            assert db.execute("SELECT count(*) FROM entries").fetchone() == (40,)
        db.close()
        journal = Journal(state)
        assert len(journal.history(limit=1000)) == 40
        journal.begin_epoch()
        journal.close()
        if ended == 0:
            break
    assert ended == 0 and at > 8
    assert {(str(EARLIER[-1]), -signal.SIGKILL), (str(SCHEMA), 0)} <= schemas


# ------------------------------------------------------------------------------------------ entries


def spoiled(folder: Path, **columns: object) -> Journal:
    """A journal of two good entries and one that this version does not understand."""
    journal = Journal(folder)
    journal.begin_epoch()
    good = Entry(Kind.POOL_NAMED, "named", {"name": "north"})
    journal.commit(POOL, [good, good, Entry(Kind.PAUSED, "paused", {"reason": "work"})])
    with journal._transaction("a test") as db:
        names = ", ".join(f"{name} = ?" for name in columns)
        db.execute(f"UPDATE entries SET {names}, checked = NULL WHERE seq = 3", list(columns.values()))
    return journal


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"kind": "leapfrogged"}, "kind 'leapfrogged' is unknown"),
        ({"data": "{"}, "no JSON"),
        ({"data": "[]"}, "not of their types"),
        ({"data": b"\xff"}, "no JSON"),
        ({"data": "[" * 100_000}, "no JSON"),
        ({"term": "seven"}, "not of their types"),
        ({"data": "{}"}, "it has no 'reason'"),
        (
            {"kind": "asked", "data": json.dumps({"id": "q", "number": 1, "kind": "dance"})},
            "'dance' is not a valid Ask",
        ),
        (
            {"kind": "decided", "data": json.dumps({"old_master": "h", "old_boot": "b", "path": "lease"})},
            "'lease' is not a valid Path",
        ),
        ({"kind": "owed", "data": json.dumps({"host": "h"})}, "it has no 'what'"),
        ({"kind": "device-bound", "data": json.dumps({"device": "d", "boot_id": "b", "said": 3})}, "'int' object"),
        ({"kind": "lost-vms", "data": json.dumps({"host": "h", "vms": [1]})}, "'int' object"),
    ],
)
def test_an_entry_that_is_not_understood_is_named_with_its_pool_and_what_to_do(
    tmp_path: Path, columns: dict[str, object], said: str
) -> None:
    journal = spoiled(tmp_path, **columns)
    with pytest.raises(JournalError) as error:
        journal.record(POOL)
    text = str(error.value)
    assert said in text and f"entry 3 of pool {POOL}" in text and "\n" not in text
    assert "install the release that wrote it, or restore the last backup" in text
    journal.close()


def test_the_release_that_wrote_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.store.journal.release", lambda: "7.1")
    journal = spoiled(tmp_path, kind="leapfrogged")
    journal.close()
    monkeypatch.setattr("poolwarden_collector.shell.store.journal_rows.release", lambda: "6.9")
    journal = Journal(tmp_path)
    with pytest.raises(JournalError, match=r"written by Poolwarden 7\.1\).*install Poolwarden 7\.1 \(this is 6\.9\)"):
        journal.record(POOL)
    journal.close()


_VALUES = (None, 3, "x", [], {}, [1], {"a": 1}, "power", True)
_KEYS = (
    "host",
    "what",
    "kind",
    "id",
    "data",
    "hosts",
    "device",
    "vms",
    "vm",
    "path",
    "order",
    "facts",
    "reason",
    "said",
)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_a_malformed_entry_of_any_kind_is_a_bad_entry_and_no_other_error(kind: Kind) -> None:
    started = Entry(Kind.DECIDED, "", {"old_master": "h1", "old_boot": "b"}, "f", 1)
    for before in (PoolRecord(POOL), fold(PoolRecord(POOL), [started])):
        for value in _VALUES:
            for data in ({}, *({key: value} for key in _KEYS), dict.fromkeys(_KEYS, value)):
                try:
                    apply(before, Entry(kind, "", data, "f", 1))  # type: ignore[arg-type]
                except BadEntry as error:
                    assert str(error)


# ------------------------------------------------------------------------------------------ crashes


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: these tests sync hundreds of times."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else tmp_path))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def written(folder: Path, steps: int) -> tuple[bytes, bytes]:
    """The database and its log after so many commits, as a power cut would leave them."""
    journal = Journal(folder)
    journal.begin_epoch()
    for n in range(1, steps + 1):
        journal.commit(POOL, [Entry(Kind.VERDICT, f"{n} {part}", {"x": "y" * 700}) for part in ("first", "second")])
    files = (folder / FILE).read_bytes(), (folder / f"{FILE}-wal").read_bytes()
    journal.close()
    return files


def found(folder: Path, database: bytes, log: bytes) -> int:
    """How many steps a collector finds there; each of them is whole."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / FILE).write_bytes(database)
    (folder / f"{FILE}-wal").write_bytes(log)
    journal = Journal(folder)
    texts = [row.text for row in journal.history(limit=1000)]
    steps = len(texts) // 2
    assert texts == [f"{n} {part}" for n in range(1, steps + 1) for part in ("first", "second")]
    assert journal.epoch or journal.damage or not steps, "what may lack something begins its epochs anew"
    journal.commit(POOL, [Entry(Kind.VERDICT, "afterwards")])
    journal.close()
    return steps


@pytest.mark.slow
def test_a_log_torn_at_any_sector_is_a_prefix_of_whole_commits(memory: Path) -> None:
    database, log = written(memory / "s", 4)
    cuts = [*range(0, len(log), 512), len(log)]
    steps = [found(memory / "c", database, log[:cut]) for cut in cuts]
    assert steps == sorted(steps) and steps[-1] == 4 and set(steps) == {0, 1, 2, 3, 4}
    # The file has its length already, and one sector of it was never written.
    for cut in cuts[2:-1:7]:
        torn = log[:cut] + b"\0" * len(log[cut : cut + 512]) + log[cut + 512 :]
        assert found(memory / "c", database, torn) <= 4


@pytest.mark.slow
def test_a_checkpoint_that_breaks_off_anywhere_loses_nothing(memory: Path) -> None:
    database, log = written(memory / "s", 4)
    (page_size,) = struct.unpack(">I", log[8:12])
    frames = range(32, len(log), 24 + page_size)
    half = bytearray(database)
    for number, at in enumerate(frames):
        (page,) = struct.unpack(">I", log[at : at + 4])
        place = (page - 1) * page_size
        half.extend(b"\0" * max(0, place + page_size - len(half)))
        torn = bytearray(half)
        torn[place : place + page_size // 2] = log[at + 24 : at + 24 + page_size // 2]
        half[place : place + page_size] = log[at + 24 : at + 24 + page_size]
        if number % 3 == 0:
            assert found(memory / "c", bytes(torn), log) == found(memory / "c", bytes(half), log) == 4


FULL = """
    import sys
    from pathlib import Path
    from poolwarden_collector.core.model.entries import Entry, Kind
    from poolwarden_collector.shell.store.journal import Journal, JournalError
    where = Path(sys.argv[1])
    journal = Journal(where)
    journal.begin_epoch()
    done = 0
    try:
        while True:
            journal.commit("p", [Entry(Kind.VERDICT, "x", {"x": "y" * 9000})])
            done += 1
    except JournalError as error:
        print(error)
    assert len(journal.history(limit=10**6)) == done
    try:
        Journal(where / "other")
    except JournalError as error:
        print(error)
    journal.close()
"""
READ_ONLY = """
    import subprocess, sys
    from pathlib import Path
    from poolwarden_collector.shell.store.journal import Journal, JournalError
    where = Path(sys.argv[1])
    Journal(where).close()
    subprocess.run(["mount", "-o", "remount,ro", str(where)], check=True)
    try:
        Journal(where)
    except JournalError as error:
        print(error)
    subprocess.run(["mount", "-o", "remount,rw", str(where)], check=True)
    Journal(where).begin_epoch()
"""


@pytest.mark.slow
@pytest.mark.needs("namespaces", "unshare")
@pytest.mark.parametrize(("script", "said"), [(FULL, ("full", "full")), (READ_ONLY, ("Read-only file system",))])
def test_a_disk_that_is_full_or_read_only_is_one_line(tmp_path: Path, script: str, said: tuple[str, ...]) -> None:
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    enter = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    run = subprocess.run(
        ["unshare", *flags, "sh", "-c", enter, "sh", str(tmp_path), sys.executable, textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(said)
    assert all(word in line or "No space left" in line for word, line in zip(said, lines, strict=True)), lines


def test_a_wall_clock_that_jumps_changes_no_order_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    for year, name in (("2026", "one"), ("2099", "two"), ("1970", "three")):
        monkeypatch.setattr(clock, "wall_text", lambda year=year: f"{year}-01-01T00:00:00.000Z")
        journal.commit(POOL, [Entry(Kind.POOL_NAMED, name, {"name": name})])
    journal.close()
    again = Journal(tmp_path)
    assert [row.text for row in again.history(POOL)] == ["one", "two", "three"]
    assert again.record(POOL).name == "three"
    again.close()
