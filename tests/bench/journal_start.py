"""The journal after years: a start on 10^6 entries, questions to it, and how long its upkeep holds the writer.

The journal is generated: 200 pools of 16 hosts, each with its hosts, and then verdicts, silences, alerts and their
deliveries, a failover in every thousand entries of a pool. A start is a process of its own that opens the journal and
reads every pool's record; the file is in the page cache. Once with the snapshots that a collector has taken meanwhile,
and once without any, as the first start of another release.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figures import Figure, reproduce
from settings import Settings

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.loop.journal_upkeep import SNAPSHOTS_AT_ONCE
from poolwarden_collector.shell.store import retention
from poolwarden_collector.shell.store.journal import FILE, Journal

NAME = "journal"
ROWS, POOLS, HOSTS = 1_000_000, 200, 16
START_BUDGET_MS, QUESTION_BUDGET_MS, HELD_BUDGET_MS = 1_000.0, 250.0, 20.0
DAY_MS = 86_400_000
_START = """
import json, resource, sys, time
from pathlib import Path
began = time.perf_counter()
from poolwarden_collector.shell.store.journal import Journal
loaded = time.perf_counter()
journal = Journal(Path(sys.argv[1]))
opened = time.perf_counter()
records = [journal.record(pool) for pool in journal.pools()]
ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([(opened - loaded) * 1000, (ended - loaded) * 1000, peak, len(records)]))
"""


def main(settings: Settings) -> list[Figure]:
    rounds = min(settings.rounds, 10)
    again = reproduce(NAME, rounds)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        state = Path(folder)
        _generate(state)
        size = (state / FILE).stat().st_size >> 20
        made = f"{ROWS} entries, {POOLS} pools of {HOSTS} hosts, {size} MiB"
        whole = _starts(state, 1)
        journal = Journal(state)
        held = _snapshots(journal)
        journal.commit(_pools()[0], [Entry(Kind.AGENT_BACK, "back", {"host": "h"})] * 90)
        questions = [_questions(journal, rounds)]
        held += _old(journal)
        journal.close()
        starts = _starts(state, rounds)
    return [
        Figure(NAME, "start with 10^6 entries: every record", "ms", _of(starts, 1), START_BUDGET_MS, (made, again)),
        Figure(NAME, "... of it opening and checking the file", "ms", _of(starts, 0), None, (again,)),
        Figure(NAME, "... its memory", "MiB", _of(starts, 2), None, (again,)),
        Figure(
            NAME, "start without a snapshot (the first one of another release)", "ms", _of(whole, 1), None, (again,)
        ),
        Figure(NAME, "... its memory", "MiB", _of(whole, 2), None, (again,)),
        Figure(NAME, "slowest question: history, decision", "ms", tuple(questions[0]), QUESTION_BUDGET_MS, (again,)),
        Figure(NAME, "upkeep holds the writer for", "ms", tuple(held), HELD_BUDGET_MS, (again,)),
    ]


def _of(starts: list[list[float]], place: int) -> tuple[float, ...]:
    return tuple(start[place] for start in starts)


def _starts(state: Path, rounds: int) -> list[list[float]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", _START, str(state)], env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
        assert found[-1][3] == POOLS
    return found


def _snapshots(journal: Journal) -> list[float]:
    held, (due, _) = [], journal.long_tails()
    for at in range(0, len(due), SNAPSHOTS_AT_ONCE):
        held.append(_timed(journal.keep_snapshots, journal.snapshots_of(due[at : at + SNAPSHOTS_AT_ONCE])))
    return held


def _old(journal: Journal) -> list[float]:
    """One hour's worth of what is removed; a commit of one pool's step is of the same size."""
    cut = journal.old(400 * DAY_MS, 731 * DAY_MS, retention.MOST_AN_HOUR)
    return [_timed(journal.remove, part) for part in retention.parts(cut)]


def _questions(journal: Journal, rounds: int) -> list[float]:
    pools = _pools()
    rows = journal.history(limit=1)
    asked: list[Callable[[], Any]] = [
        lambda: journal.history(pools[7], limit=100),
        lambda: journal.history(failover="nowhere"),
        lambda: journal.history(since=rows[0].at, limit=100),
        lambda: journal.history(since="2023-03-01", until="2023-03-02", limit=100),
        lambda: journal.history(among=frozenset(pools[:3]), limit=100),
        lambda: journal.newest(pools[7], (Kind.DRILL_ENDED.value,), 9),
        lambda: journal.decision("nowhere"),
        lambda: journal.decision("77"),
    ]
    return [max(_timed(each) for each in asked) for _ in range(rounds)]


def _timed(call: Callable[..., Any], *given: Any) -> float:
    began = time.perf_counter()
    call(*given)
    return (time.perf_counter() - began) * 1000


# ------------------------------------------------------------------------------------------------ what is generated


def _pools() -> list[str]:
    return [str(uuid.UUID(int=number + 1)) for number in range(POOLS)]


def _generate(state: Path) -> None:
    journal = Journal(state)
    journal.begin_epoch()
    pools = _pools()
    for pool in pools:
        journal.commit(pool, [Entry(Kind.POOL_SEEN, "seen"), *_hosts(pool)])
    epoch = journal.history(limit=1)[0].epoch
    first = journal.history(limit=1)[0].seq + 1
    journal.close()
    with sqlite3.connect(state / FILE) as db:
        db.execute("PRAGMA synchronous = OFF")
        # The last column: no checksum, as of entries from before there were any.
        insert = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
        db.executemany(insert, _rows(first, epoch, pools))
        # What was written just now is as old as the rest: the look for what is old ends at the first young entry.
        db.execute("UPDATE entries SET at = (SELECT min(at) FROM entries) WHERE seq < ?", [first])
    db.close()


def _hosts(pool: str) -> list[Entry]:
    hosts = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{pool} {number}")) for number in range(HOSTS)]
    seen = [
        Entry(Kind.HOST_SEEN, "seen", {"host": host, "name": f"host-{n}", "address": f"192.0.2.{n}", "boot_id": host})
        for n, host in enumerate(hosts, 1)
    ]
    listed = Entry(Kind.POOL_LISTED, "listed", {"hosts": hosts})
    standing = [Entry(Kind.STANDING, "standing", {"host": host, "certificate": "c" * 64}) for host in hosts]
    return [*seen, listed, Entry(Kind.MASTER_OBSERVED, "master", {"host": hosts[0]}, term=1), *standing]


def _rows(first: int, epoch: int, pools: list[str]) -> Iterator[tuple[Any, ...]]:
    """A long time ago, evenly over three years."""
    began, apart = time.time() - 3 * 365 * 86_400, 3 * 365 * 86_400 / ROWS
    for number in range(first, ROWS + 1):
        pool, turn = pools[number % POOLS], number // POOLS
        kind, text, data, failover = _row(pool, turn)
        instant = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began + number * apart))
        yield (number, f"{instant}.000Z", number, epoch, 1, pool, failover, kind.value, "poolwarden", text, data)


def _row(pool: str, turn: int) -> tuple[Kind, str, str, str]:
    key = f"{pool}/incident-{turn // 8}/MasterVanished"
    alert = {
        "key": key,
        "title": "vanished",
        "severity": "critical",
        "facts": {"incident": turn // 8},
        "body": "x" * 400,
    }
    steps: list[tuple[Kind, dict[str, Any]]] = [
        (Kind.AGENT_SILENT, {"host": "h", "ms": 4_000}),
        (Kind.VERDICT, {"verdict": "MasterVanished", "evidence": "x" * 300}),
        (Kind.ALERT, alert),
        (Kind.ALERT_DELIVERED, {"key": key, "sink": "log"}),
        (Kind.AGENT_BACK, {"host": "h"}),
        (Kind.VERDICT, {"verdict": "Healthy", "over": True}),
        (Kind.ALERT_RESOLVED, {"key": key}),
        (Kind.ALERT_DELIVERED, {"key": key, "sink": "log"}),
    ]
    if turn % 1_000 < 2:
        failover = f"{pool[:8]}-{turn // 1_000}"
        decided = {"old_master": "h", "old_boot": "b", "input": "i" * 20_000, "step": []}
        kind, data = (Kind.ABORTED, {"why": "x"}) if turn % 1_000 else (Kind.DECIDED, decided)
        return kind, "a failover", json.dumps(data), failover
    kind, data = steps[turn % 8]
    return kind, "something was seen", json.dumps(data), ""
