"""Telemetry: thin, bounded, and never anybody's trouble."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.host_facts import DatabaseFacts, Disk, HostFacts, Probe, ProbeOutcome
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store import telemetry as module
from poolwarden_collector.shell.store.telemetry import HISTORY_EVERY_MS, LATEST_EVERY_MS, Telemetry

from .rig import HOSTS, POOL

FACTS = HostFacts(
    database=DatabaseFacts(generation=7), disks=(Disk("/", 100, 40, 0, 0, True),), memory_available=9, domains=("v",)
)


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "telemetry.db") as reader:
        found = reader.execute(query).fetchall()
    reader.close()
    return found


def test_facts_are_written_at_the_latest_when_it_stops(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    telemetry.start()
    telemetry.note(POOL, HOSTS[0], FACTS, 1_000)
    telemetry.stop()
    [(host, pool, facts)] = rows(tmp_path, "SELECT host, pool, facts FROM latest")
    assert (host, pool) == (HOSTS[0], POOL)
    told = json.loads(facts)
    assert told["database"]["generation"] == 7 and told["xapi"]["liveness"] == "unknown"
    line = rows(tmp_path, "SELECT host, generation, xapi, root_free, memory_available, vms FROM history")
    assert line == [(HOSTS[0], 7, "unknown", 40, 9, 1)]


def test_most_reports_are_not_kept(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    for now in range(0, HISTORY_EVERY_MS + 1, 2_000):
        telemetry.note(POOL, HOSTS[0], FACTS, now)
    assert len(telemetry._queue) == HISTORY_EVERY_MS // LATEST_EVERY_MS + 1
    assert sum(sample.history for sample in telemetry._queue) == 2


def test_of_ten_thousand_hosts_a_hundred_a_second_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUEUE", 1_000_000)
    telemetry = Telemetry(tmp_path)
    for host in range(10_000):
        telemetry.note(POOL, f"host-{host}", FACTS, 0)
    telemetry._queue.clear()
    noted = []
    for now in range(5_000, 205_000, 5_000):
        for host in range(0, 10_000, 100):
            telemetry.note(POOL, f"host-{host}", FACTS, now)
        noted.append(len(telemetry._queue))
    assert noted[-1] == 200, "each of these hundred hosts twice in two hundred seconds"


def test_what_is_written_is_what_the_facts_are(tmp_path: Path) -> None:
    facts = replace(FACTS, probes=(Probe("h", "192.0.2.1", ProbeOutcome.ANSWERED, 7, 7, None, "aa", ""),))
    written = module._latest(module._Sample(POOL, HOSTS[0], facts, 1, False))["facts"]
    plain = json.dumps(asdict(facts), default=lambda value: value.value if isinstance(value, Enum) else str(value))
    assert json.loads(written) == json.loads(plain)


def test_a_trend_is_a_hosts_own_and_as_old_as_it_is_asked_for(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    assert telemetry.trends(HOSTS, 0) == {}  # there is no file yet
    telemetry.start()
    for number, host in enumerate(HOSTS[:2]):
        free = replace(FACTS, disks=(Disk("/", 100, 40 + number, 0, 0, True),))
        telemetry.note(POOL, host, free, 0)
        telemetry.note(POOL, host, replace(free, disks=()), HISTORY_EVERY_MS)  # nothing is known of / then
    telemetry.stop()
    now = clock.wall_ms()
    found = telemetry.trends(HOSTS, now - 60_000)
    assert [[free for _, free in found[host]] for host in HOSTS] == [[40], [41], []]
    assert telemetry.trends(HOSTS[:1], now + 60_000) == {HOSTS[0]: []}


def test_the_queue_is_bounded_and_drops_the_oldest(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    for n in range(5_000):
        telemetry.note(POOL, f"host-{n}", FACTS, 0)
    assert len(telemetry._queue) == 4_096 and telemetry._queue[-1].host == "host-4999"


def test_a_file_that_cannot_be_written_is_said_once_and_nobodys_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_BATCH_S", 0.01)
    (tmp_path / "telemetry.db").mkdir()
    telemetry = Telemetry(tmp_path)
    with caplog.at_level(logging.WARNING):
        telemetry.start()
        deadline = time.monotonic() + 5
        while not caplog.records and time.monotonic() < deadline:
            telemetry.note(POOL, HOSTS[0], FACTS, time.monotonic_ns() // 1_000_000)
            time.sleep(0.01)
        began = time.monotonic()
        telemetry.stop()
    assert time.monotonic() - began < 8 and not telemetry._thread.is_alive()
    assert len(caplog.records) == 1 and "facts are lost, nothing else is" in caplog.text


def test_old_and_too_many_lines_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ROWS", 3)
    db = module._open(tmp_path / "telemetry.db")
    now = clock.wall_ms()
    old, kept = now - module.KEEP_MS - 1, [now + n for n in range(5)]
    with db.atomic():
        db["history"].insert_all([{"host": "h", "at_ms": at} for at in (old, *kept)])  # type: ignore[union-attr]
    module._prune(db)
    assert [row["at_ms"] for row in db.query("SELECT at_ms FROM history ORDER BY at_ms")] == kept[-3:]
    db.conn.close()


def test_no_pool_pushes_out_what_another_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_LATE", 5)
    db = module._open(tmp_path / "telemetry.db")
    now = clock.wall_ms()
    lines = [("quiet", 0), ("quiet", 1), *(("loud", n) for n in range(10))]
    with db.atomic():
        told = [
            {"host": pool, "pool": pool, "boot": "b", "mono_ms": n, "heard_ms": now, "kind": "k"} for pool, n in lines
        ]
        db["late"].insert_all(told)  # type: ignore[union-attr]
    module._prune(db)
    assert [(r["pool"], r["mono_ms"]) for r in db.query("SELECT * FROM late ORDER BY rowid")] == [
        ("quiet", 0), ("quiet", 1), ("loud", 7), ("loud", 8), ("loud", 9),
    ]  # fmt: skip
    db.conn.close()


def test_what_was_kept_while_nobody_listened_is_history_and_kept_once(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    telemetry.start()
    event = pb.Late(mono_ms=5, boot_id="b", age_ms=60_000, dropped=3)
    event.event.kind, event.event.text = "disk", "/ is full"
    sample = pb.Late(mono_ms=6, boot_id="b", age_ms=50_000)
    sample.sample.xapi, sample.sample.generation = "down", 9
    for told in (event, sample, event):
        telemetry.late(POOL, HOSTS[0], told)
    telemetry.stop()
    found = rows(tmp_path, "SELECT host, kind, text, dropped, heard_ms - at_ms FROM late ORDER BY mono_ms")
    assert found[0] == (HOSTS[0], "disk", "/ is full", 3, 60_000)
    assert json.loads(found[1][2])["xapi"] == "down" and len(found) == 2
    assert rows(tmp_path, "SELECT count(*) FROM latest") == [(0,)], "never taken for how the host is now"
