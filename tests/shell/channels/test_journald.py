"""What systemd's journal gets by its native protocol, read by the rules of systemd.io/JOURNAL_NATIVE_PROTOCOL."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolwarden_collector.shell.alerts.channels.journald import JournaldSink
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Journald

from .peers import EVIL, HOST, KEY, POOL, WITHIN_S, parcel


def entry(datagram: bytes) -> dict[str, str]:
    """The fields of one datagram, by the protocol's own words. Names are capitals, digits and underscores."""
    fields: dict[str, str] = {}
    while datagram:
        first, _, rest = datagram.partition(b"\n")
        name, equals, value = first.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, end, datagram = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        else:
            datagram = rest
        assert name.decode().replace("_", "").isalnum() and name.isupper() and name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields


@contextlib.contextmanager
def journal(folder: Path) -> Iterator[tuple[Path, socket.socket]]:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(WITHIN_S)
        yield path, sock


def test_each_fact_is_a_field(tmp_path: Path) -> None:
    with journal(tmp_path) as (path, sock):
        sink = JournaldSink(Journald("local", path))
        sink.deliver(parcel())
        sink.deliver(parcel("resolved"))
        begin, end = entry(sock.recv(1 << 20)), entry(sock.recv(1 << 20))
    assert begin == {
        "MESSAGE": "[critical] lab: lab-h1 is down",
        "PRIORITY": "2",
        "SYSLOG_IDENTIFIER": "poolwarden",
        "DOCUMENTATION": "https://wiki.example.com/poolwarden/runbook.md#host-down",
        "POOLWARDEN_KEY": KEY,
        "POOLWARDEN_OCCURRENCE": "1",
        "POOLWARDEN_STATE": "firing",
        "POOLWARDEN_SEVERITY": "critical",
        "POOLWARDEN_MESSAGE": "host-down",
        "POOLWARDEN_POOL": "lab",
        "POOLWARDEN_POOL_UUID": POOL,
        "POOLWARDEN_HOST": HOST,
        "POOLWARDEN_COLLECTOR": "watch-1",
        "POOLWARDEN_RAISED_AT": "2026-01-31T20:00:00.000Z",
        "POOLWARDEN_BODY": "Died: lab-h1\nDid:  nothing\nYou:  look\nOpen: 3 VMs\n\ndetails",
    }
    assert (end["MESSAGE"], end["PRIORITY"], end["POOLWARDEN_STATE"]) == (
        "[resolved] lab: lab-h1 is down",
        "5",
        "resolved",
    )
    assert (end["POOLWARDEN_BODY"], end["POOLWARDEN_RESOLVED_AT"]) == ("it is back", "2026-01-31T20:10:00.000Z")


def test_nothing_from_outside_becomes_a_field(tmp_path: Path) -> None:
    evil = "x\nPRIORITY=0\n_UID=0\nMESSAGE\n" + EVIL
    told = parcel(title=evil, body=evil, collector=evil, pool={"uuid": evil, "name": evil}, runbook=evil, key=evil)
    with journal(tmp_path) as (path, sock):
        JournaldSink(Journald("local", path)).deliver(told)
        fields = entry(sock.recv(1 << 20))
    assert fields["PRIORITY"] == "2" and "_UID" not in fields
    assert [name for name, value in fields.items() if name != "POOLWARDEN_BODY" and not value.isprintable()] == []


@pytest.mark.parametrize(("severity", "priority"), [("critical", "2"), ("warning", "4"), ("info", "6"), ("?", "4")])
def test_severities_are_priorities(tmp_path: Path, severity: str, priority: str) -> None:
    with journal(tmp_path) as (path, sock):
        JournaldSink(Journald("local", path)).deliver(parcel(severity=severity))
        assert entry(sock.recv(1 << 20))["PRIORITY"] == priority


@pytest.mark.slow
def test_a_body_of_a_megabyte_is_cut_and_told(tmp_path: Path) -> None:
    with journal(tmp_path) as (path, sock):
        JournaldSink(Journald("local", path)).deliver(parcel(body="ä" * (1 << 20), title="ü" * (1 << 20)))
        fields = entry(sock.recv(1 << 20))
    assert fields["POOLWARDEN_BODY"].endswith("ä...") and len(fields["POOLWARDEN_BODY"].encode()) <= 32 * 1024
    assert fields["MESSAGE"].endswith("ü...")


def test_a_journal_that_is_not_there_or_hangs_ends_as_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="has not taken it: .*No such file"):
        JournaldSink(Journald("local", tmp_path / "nowhere")).deliver(parcel())
    with journal(tmp_path) as (path, _):
        sink = JournaldSink(Journald("local", path), 0.2)
        with pytest.raises(SinkError, match="has not taken it: timed out"):
            for _ in range(100_000):  # until its queue is full (net.unix.max_dgram_qlen)
                sink.deliver(parcel())
