"""The journal: a commit is all or nothing, durable when it returns, and one collector's alone."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell.store.journal import Journal, JournalError, Unwritable

from .rig import POOL

RAISED = AlertRaised(f"{POOL}/x", "critical", "title", "body", {"old_master": "host-1"})


def entry(n: int) -> Entry:
    return Entry(Kind.VERDICT, f"entry {n}", {"n": n, "list": [1, None, "ä"]}, "f-1", n, "anna")


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin_epoch()
    rows = journal.commit(POOL, [entry(1), entry(2)])
    assert [row.seq for row in rows] == [1, 2] and rows[0].epoch >> LOT_BITS == 1
    journal.close()
    again = Journal(tmp_path)
    assert list(again.replay(POOL)) == [entry(1), entry(2)]
    assert again.pools() == [POOL]
    assert again.history(POOL) == rows
    again.close()


def test_epochs_never_repeat(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        journal = Journal(tmp_path)
        seen.append(journal.begin_epoch())
        journal.close()
    assert [epoch >> LOT_BITS for epoch in seen] == [1, 2, 3]
    journal = Journal(tmp_path)
    later = (journal.begin_epoch(above=9 << LOT_BITS | 5), journal.begin_epoch())
    assert [epoch >> LOT_BITS for epoch in later] == [10, 11] and later[0] > 9 << LOT_BITS | 5
    journal.close()


def test_two_collectors_with_the_same_past_do_not_hold_the_same_epoch(tmp_path: Path) -> None:
    journals = [Journal(tmp_path / name) for name in ("one", "other")]
    assert journals[0].begin_epoch() != journals[1].begin_epoch()
    for journal in journals:
        journal.close()


def test_a_second_collector_is_refused_and_the_lock_ends_with_the_first(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(JournalError, match="another collector"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_every_commit_is_synced(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal._reading() as db:
        assert next(iter(db.execute("PRAGMA synchronous")))[0] == 2
        assert next(iter(db.execute("PRAGMA journal_mode")))[0] == "wal"
    journal.close()


def test_a_step_with_an_alert_is_one_transaction(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log", "webhook:a"))
    journal.commit(POOL, [entry(1)], [RAISED], "pool-1")
    with journal._reading() as db:
        # A row in the way of the second alert's outbox: everything before it in that step must vanish too.
        db.execute(
            "CREATE TRIGGER wall BEFORE INSERT ON outbox WHEN NEW.key LIKE '%/y' BEGIN SELECT RAISE(FAIL,'no'); END"
        )
    other = AlertRaised(f"{POOL}/y", "info", "t", "b")
    with pytest.raises(JournalError):
        journal.commit(POOL, [entry(2), entry(3)], [AlertResolved(RAISED.key, "over"), other])
    assert [row.text for row in journal.history()] == ["entry 1"]
    assert [alert["resolved_at"] for alert in journal.alerts()] == [""]
    assert {p.sink for p in journal.parcels()} == {"log", "webhook:a"} and journal.pending() == 2
    journal.close()


def test_an_alert_opens_once_ends_once_and_may_come_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    for alert in (RAISED, RAISED, AlertResolved(RAISED.key, "over"), AlertResolved(RAISED.key, "over"), RAISED):
        journal.commit(POOL, [], [alert], "pool-1")
    assert [(a["occurrence"], bool(a["resolved_at"])) for a in journal.alerts()] == [(2, False), (1, True)]
    assert [a["key"] for a in journal.alerts(open_only=True)] == [RAISED.key]
    keys = []
    while parcels := journal.parcels():
        assert len(parcels) == 1
        keys.append(parcels[0].delivery_key)
        journal.delivered(parcels[0], entry(1))
    assert keys == [f"{RAISED.key}/1/firing", f"{RAISED.key}/1/resolved", f"{RAISED.key}/2/firing"]
    journal.close()


def test_the_payload_names_everything(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "collector-7", ("log",))
    journal.commit(POOL, [], [RAISED], "pool-1")
    payload = journal.parcels()[0].payload
    assert payload["pool"] == {"uuid": POOL, "name": "pool-1"} and payload["collector"] == "collector-7"
    assert (payload["key"], payload["state"], payload["data"]) == (RAISED.key, "firing", {"old_master": "host-1"})
    journal.close()


def test_a_delivery_and_its_entry_are_one_transaction(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    journal.commit(POOL, [], [RAISED])
    with journal._reading() as db:
        db.execute("CREATE TRIGGER wall BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, 'no'); END")
    with pytest.raises(JournalError):
        journal.delivered(journal.parcels()[0], entry(1))
    assert journal.pending() == 1
    journal.close()


def test_history_is_the_newest_in_order_and_filtered(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.commit(POOL, [entry(n) for n in range(5)])
    journal.commit("other", [Entry(Kind.PAUSED, "x", {"reason": ""})])
    assert [r.text for r in journal.history(POOL, limit=2)] == ["entry 3", "entry 4"]
    assert [r.seq for r in journal.history(after_seq=4)] == [5, 6]
    assert len(journal.history(failover="f-1")) == 5
    journal.close()


def test_a_newer_entry_or_schema_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.commit(POOL, [entry(1)])
    with journal._transaction("a test") as db:
        db.execute("UPDATE entries SET kind = 'leapfrogged'")
    with pytest.raises(JournalError, match="kind 'leapfrogged' is unknown; install the release that wrote it"):
        list(journal.replay(POOL))
    with journal._transaction("a test") as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    journal.close()
    with pytest.raises(JournalError, match="schema 99"):
        Journal(tmp_path)


def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"precious" * 1000)
    with pytest.raises(JournalError):
        Journal(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == b"precious" * 1000
    (tmp_path / "journal.db").unlink()
    Journal(tmp_path).close()  # and the lock was let go


WRITER = """
    import sys
    from pathlib import Path
    from poolwarden_collector.core.model.entries import Entry, Kind
    from poolwarden_collector.core.model.effects import AlertRaised
    from poolwarden_collector.shell.store.journal import Journal
    journal = Journal(Path(sys.argv[1]), "c", ("log",))
    journal.begin_epoch()
    for n in range(1, 100_000):
        pair = [Entry(Kind.VERDICT, f"{n} first", {}), Entry(Kind.VERDICT, f"{n} second", {"x": "y" * 500})]
        journal.commit("p", pair, [AlertRaised(f"p/{n}", "info", "t", "b")])
        print(n, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_kill_keeps_a_whole_prefix(tmp_path: Path, after: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert writer.stdout is not None
    for _ in range(after):
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    told = max([told, *(int(line) for line in writer.stdout.read().split())])
    writer.wait()
    journal = Journal(tmp_path, "c", ("log",))
    texts = [row.text for row in journal.history(limit=1_000_000)]
    steps = len(texts) // 2
    # Everything that was told is there, at most the step under way besides, and no half of any.
    assert told <= steps <= told + 1
    assert texts == [f"{n} {part}" for n in range(1, steps + 1) for part in ("first", "second")]
    assert len(journal.alerts(limit=1_000_000)) == journal.pending() == steps
    journal.close()


@pytest.mark.slow
def test_a_full_disk_is_an_error_without_a_trace_and_ends_with_it(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: writes beyond it fail. In a process of its own, because it stays limited."""
    script = """
        import resource, sys
        from pathlib import Path
        from poolwarden_collector.core.model.entries import Entry, Kind
        from poolwarden_collector.core.model.effects import AlertRaised
        from poolwarden_collector.shell.store.journal import Journal, JournalError
        journal = Journal(Path(sys.argv[1]), "c", ("log",))
        journal.begin_epoch()
        def commit(n):
            journal.commit("p", [Entry(Kind.VERDICT, f"{n} a", {}), Entry(Kind.VERDICT, f"{n} b", {"x": "y" * 3000})],
                           [AlertRaised(f"p/{n}", "info", "t", "b")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, resource.RLIM_INFINITY))
        done = 0
        try:
            while True:
                commit(done + 1)
                done += 1
        except JournalError as error:
            print(error)
        for _ in range(3):
            try:
                commit(done + 1)
                print("WRITTEN")
            except JournalError:
                pass
        assert len(journal.history(limit=10**6)) == 2 * done == 2 * journal.pending(), done
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.check()
        commit(done + 1)
        assert [r.text for r in journal.history(limit=2)] == [f"{done + 1} a", f"{done + 1} b"]
        print("good", done)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert "cannot be written" in lines[0] and lines[-1].startswith("good") and int(lines[-1].split()[1]) > 5
    assert "WRITTEN" not in run.stdout


def test_no_directory_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="state directory") as error:
        Journal(tmp_path / "file" / "state")
    assert "\n" not in str(error.value)


def test_the_files_are_plain_sqlite(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.commit(POOL, [entry(1)])
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as reader:
        assert reader.execute("SELECT kind, text FROM entries").fetchall() == [("verdict", "entry 1")]
    reader.close()


def test_a_disk_that_becomes_read_only_under_an_open_journal_is_such_an_error_too(tmp_path: Path) -> None:
    """What ext4's errors=remount-ro does to open files comes as SQLITE_READONLY; query_only brings that very code."""
    journal = Journal(tmp_path, "c", ("log",))
    journal.begin_epoch()

    def commit(n: int) -> None:
        entries = [Entry(Kind.VERDICT, f"{n} a", {}), Entry(Kind.VERDICT, f"{n} b", {})]
        journal.commit("p", entries, [AlertRaised(f"p/{n}", "info", "t", "b")])

    commit(1)
    connection = journal._db.conn
    assert connection is not None
    connection.execute("PRAGMA query_only = ON")
    for attempt in (lambda: commit(2), journal.check, journal.begin_epoch):
        with pytest.raises(JournalError, match="cannot be written: .*readonly") as error:
            attempt()
        assert not isinstance(error.value, Unwritable), "the disk is to blame, not what was to be written"
    assert [row.text for row in journal.history(limit=10)] == ["1 a", "1 b"] and journal.pending() == 1
    connection.execute("PRAGMA query_only = OFF")
    journal.check()
    commit(2)
    assert [row.text for row in journal.history(limit=10)] == ["1 a", "1 b", "2 a", "2 b"]
    journal.close()
