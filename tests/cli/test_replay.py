"""`poolwarden replay` on a journal's file: offline, with the same verdict, and an honest no where it differs."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.core.pool import POOL, Guarded

from poolwarden_collector.cli.main import run
from poolwarden_collector.shell.store.journal import FILE, Journal

from .test_json import held_against


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    g = Guarded()
    g.cut_power()
    g.run(60_000)
    folder = tmp_path_factory.mktemp("state")
    kept = Journal(folder)
    kept.commit(POOL, g.journal)
    kept.close()
    return folder / FILE


def numbers(path: Path) -> list[int]:
    with sqlite3.connect(path) as db:
        return [row[0] for row in db.execute("""SELECT seq FROM entries WHERE data LIKE '%"input":%'""")]


def test_a_decision_is_made_again_offline(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(numbers(journal)[0]), "--journal", str(journal)]) == 0
    out = capsys.readouterr().out
    assert "decided: failover" in out and "verdict: MasterVanished" in out
    assert "the same, to the last word" in out


def test_as_json_and_by_the_failovers_id(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", f"{POOL[:8]}-1.2", "--journal", str(journal), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differs"] == [] and told["entries"] and told["plan"]
    held_against("replay", told)


def test_one_that_was_tampered_with_is_no(journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "journal.db"
    copy.write_bytes(journal.read_bytes())
    with sqlite3.connect(copy) as db:
        [data] = db.execute("SELECT data FROM entries WHERE seq = ?", [numbers(journal)[0]]).fetchone()
        changed = json.dumps({**json.loads(data), "step": ["decided: something else"]})
        db.execute("UPDATE entries SET data = ? WHERE seq = ?", [changed, numbers(journal)[0]])
    assert run(["replay", str(numbers(journal)[0]), "--journal", str(copy)]) == 1
    told = capsys.readouterr()
    assert "not made again: decided: something else" in told.out and "not made again as it was recorded" in told.err


def test_an_unknown_decision_and_a_file_that_is_no_journal(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", "999999", "--journal", str(journal)]) == 2
    assert "no decision '999999'" in capsys.readouterr().err
    other = tmp_path / "x"
    other.write_text("no journal")
    assert run(["replay", "1", "--journal", str(other)]) == 2
    assert "cannot be read as a journal" in capsys.readouterr().err
