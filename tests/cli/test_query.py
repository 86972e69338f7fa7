"""`poolwarden query`: what it reads, and that it can neither write nor stay."""

import csv
import io
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.project.tree import ROOT
from tests.shell.rig import HOSTS, POOL, write_config

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.query.views import VIEWS
from poolwarden_collector.shell.store import telemetry
from poolwarden_collector.shell.store.journal import Journal

from .conftest import Said

Call = Callable[..., Said]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The files of a collector that runs: its journal stays open."""
    file = write_config(tmp_path)
    journal = Journal(tmp_path / "state", "test", ("log",))
    journal.begin_epoch()
    failover = {"failover": f"{POOL[:8]}-1.1"}
    journal.commit(
        POOL,
        [
            Entry(Kind.POOL_NAMED, "named", {"name": "old"}),
            Entry(Kind.POOL_NAMED, "named", {"name": "gold"}),
            Entry(Kind.HOST_SEEN, "h1", {"host": HOSTS[0], "name": "host-1", "address": "192.0.2.1", "boot_id": "b"}),
            Entry(Kind.DECIDED, "decided", {"why": "gone", "input": "x" * 100, "step": []}, **failover),
            Entry(Kind.CLOSED, "closed", {}, **failover),
            Entry(Kind.PAUSED, "paused by anna", {"reason": "racks"}, actor="anna"),
        ],
        [AlertRaised("k", "warning", "title", "body")],
        "gold",
    )
    beside = telemetry._open(tmp_path / "state" / telemetry.FILE)
    yield file
    beside.conn.close()
    journal.close()


@pytest.fixture
def ask(poolwarden: Call, state: Path) -> Call:
    return lambda *arguments: poolwarden("query", "--config", str(state), *arguments)


def rows(ask: Call, sql: str) -> list[list[object]]:
    said = ask(sql, "--json")
    assert said.status == 0, said.err
    found: list[list[object]] = said.json["rows"]
    return found


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_each_view_can_be_read_and_has_its_columns(ask: Call, view: object) -> None:
    name = view.name  # type: ignore[attr-defined]
    said = ask(f"SELECT * FROM {name}", "--json")
    assert said.status == 0, said.err
    assert said.json["columns"] == list(view.columns)  # type: ignore[attr-defined]


def test_what_they_say(ask: Call) -> None:
    assert rows(ask, "SELECT * FROM pools") == [[POOL, "gold"]]
    assert [row[:4] for row in rows(ask, "SELECT * FROM hosts")] == [[HOSTS[0], POOL, "host-1", "192.0.2.1"]]
    [failover] = rows(ask, "SELECT id, outcome, entries FROM failovers")
    assert failover == [f"{POOL[:8]}-1.1", "closed", 2]
    assert rows(ask, "SELECT actor, text FROM commands") == [["anna", "paused by anna"]]
    assert rows(ask, "SELECT data FROM entries WHERE kind = 'decided'") == [['{"why":"gone"}']]
    assert rows(ask, "SELECT title, resolved_at FROM alerts") == [["title", ""]]
    assert rows(ask, "SELECT sink, status FROM deliveries") == [["log", "pending"]]
    assert rows(ask, "SELECT count(*) FROM journal.entries WHERE data LIKE '%input%'") == [[1]]


def test_a_table_csv_and_what_is_left_out(ask: Call) -> None:
    said = ask("SELECT kind, text FROM entries ORDER BY seq", "--limit", "2")
    assert said.out.splitlines() == ["kind        text", "pool-named  named", "pool-named  named"]
    assert said.err == "there are more than 2 rows: --limit N shows more\n"
    said = ask("SELECT 'a,\"b', NULL, 1.5, x'ff'", "--csv")
    assert list(csv.reader(io.StringIO(said.out)))[1] == ['a,"b', "", "1.5", "ff"]
    assert ask("SELECT 1 WHERE 0").out == "no rows\n"
    assert ask("SELECT 1", "--csv", "--json").status == 2


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM journal.entries",
        "DELETE FROM entries",
        "UPDATE journal.meta SET value = '0'",
        "INSERT INTO journal.meta VALUES ('a', 'b')",
        "INSERT INTO journal.meta VALUES ('a', 'b') RETURNING key",
        "DROP TABLE journal.entries",
        "CREATE TABLE journal.mine (x)",
        "CREATE TEMP TABLE mine (x)",
        "ATTACH 'other.db' AS other",
        "DETACH journal",
        "VACUUM",
        "VACUUM journal INTO 'copy.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA journal.journal_mode = DELETE",
        "PRAGMA wal_checkpoint",
        "BEGIN IMMEDIATE",
        "REINDEX",
        "ANALYZE journal",
        "SELECT load_extension('x')",
    ],
)
def test_whatever_is_no_reading_is_refused_with_one_line(ask: Call, state: Path, sql: str) -> None:
    file = state.parent / "state/journal.db"
    before = sorted(state.parent.rglob("*"))
    said = ask(sql)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("poolwarden: ") and len(said.err.splitlines()) == 2
    assert sorted(state.parent.rglob("*")) == before
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (6,)


def test_two_statements_are_refused(ask: Call) -> None:
    assert "one query at a time" in ask("SELECT 1; DELETE FROM journal.entries").err


def test_a_mistake_is_told_as_sqlite_tells_it(ask: Call) -> None:
    said = ask("SELECT nowhere FROM entries")
    assert said.status == 2 and said.err.startswith("poolwarden: SQLite says: no such column: nowhere")
    assert ask("").status == 2


@pytest.mark.slow
def test_it_ends_after_its_time(ask: Call) -> None:
    began = time.monotonic()
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    said = ask(endless, "--timeout", "1s")
    assert said.status == 2 and "ended after 1 s" in said.err and time.monotonic() - began < 60
    assert ask("SELECT length(zeroblob(1000000000))").status == 2


def test_without_sql_it_lists_the_views(ask: Call) -> None:
    said = ask()
    assert said.status == 0 and all(f"{view.name}: {view.says}"[:40] in said.out for view in VIEWS)
    assert [view["name"] for view in ask("--json").json["views"]] == [view.name for view in VIEWS]


def test_where_no_journal_is(poolwarden: Call, tmp_path: Path) -> None:
    said = poolwarden("query", "SELECT 1", "--config", str(tmp_path / "none.toml"))
    assert said.status == 2 and "none.toml" in said.err
    said = poolwarden("query", "SELECT 1", "--state", str(tmp_path))
    assert said.status == 2 and "there is no journal.db" in said.err


def test_before_there_is_telemetry_that_is_said(ask: Call, state: Path) -> None:
    (state.parent / "state" / telemetry.FILE).unlink()
    assert ask("SELECT 1 FROM pools").status == 0
    assert "there is no telemetry.db yet" in ask("SELECT * FROM samples").err


def test_the_guide_lists_every_view_and_column() -> None:
    guide = (ROOT / "docs/commands.md").read_text()
    for view in VIEWS:
        assert f"| `{view.name}` | {view.says} | {', '.join(view.columns)} |" in guide, view.name
