"""The collector's own condition: each check good and at fault, on real files and a real collector."""

from __future__ import annotations

import asyncio
import sqlite3
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.model.host_facts import Certificate, HostEnvironment, HostFacts
from poolwarden_collector.shell.agents.roster import LONG_WAIT_MS, Roster
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.config.page import PageSettings
from poolwarden_collector.shell.doctor import machine, running
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check, days
from poolwarden_collector.shell.store.journal import Journal

from . import rig as rigged
from .rig import HOSTS, write_config

SILENT = Urgency.SUSPICION


def levels(checks: Any) -> dict[str, str]:
    return {check.name: check.level for check in checks}


@pytest.mark.parametrize(("left", "level"), [(400, OK), (30, OK), (29, WARNING), (7, WARNING), (6, FAULT), (-1, FAULT)])
def test_days(left: int, level: str) -> None:
    check = days("certificate", left, "it", "renew it")
    assert check.level == level and bool(check.next_step) == (level != OK)


def test_a_sound_journal_and_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    assert machine.journal_file(path).level == UNCHECKED
    journal = Journal(tmp_path)
    assert machine.journal_file(path).level == OK  # beside a running collector
    journal.close()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE filler (x)")
        db.executemany("INSERT INTO filler VALUES (?)", [("y" * 500,) for _ in range(5_000)])
    db.close()
    assert machine.journal_file(path, limit_s=-1.0).level in (OK, UNCHECKED)
    pages = bytearray(path.read_bytes())
    pages[-40_000:-20_000] = b"\xa5" * 20_000
    path.write_bytes(pages)
    damaged = machine.journal_file(path)
    assert damaged.level == FAULT and "damaged" in damaged.text and "restore" in damaged.next_step
    path.write_bytes(b"no database at all" * 100)
    assert machine.journal_file(path).level == FAULT


def test_telemetry_is_nothing_to_stop_for(tmp_path: Path) -> None:
    assert machine.telemetry_file(tmp_path / "telemetry.db").level == OK
    (tmp_path / "telemetry.db").write_bytes(b"no database at all" * 100)
    assert machine.telemetry_file(tmp_path / "telemetry.db").level == WARNING


@pytest.mark.parametrize(
    ("free", "inodes", "level"),
    [(1 << 40, 0.5, OK), (1 << 29, 0.5, WARNING), (1 << 40, 0.01, WARNING), (1, 0.5, FAULT)],
)
def test_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, inodes: float, level: str) -> None:
    found = types.SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=1 << 41, f_files=1000, f_favail=1000 * inodes)
    monkeypatch.setattr("os.statvfs", lambda _: found)
    assert machine.disk(tmp_path).level == level


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert machine.disk(tmp_path / "none").level == FAULT


@pytest.mark.parametrize(("said", "level"), [(0, OK), (5, WARNING), (-1, UNCHECKED)])
def test_the_clock(monkeypatch: pytest.MonkeyPatch, said: int, level: str) -> None:
    libc = types.SimpleNamespace(adjtimex=lambda _: said)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: libc)
    assert machine.clock().level == level


def test_the_real_clock_is_asked() -> None:
    assert machine.clock().level in (OK, WARNING, UNCHECKED)


def test_certificates(tmp_path: Path) -> None:
    config = load(write_config(tmp_path))
    assert levels(machine.certificates(config.tls)) == {"certificate": OK, "authority": OK}
    certificates.create_ca(tmp_path / "other")
    foreign = certificates.issue_host(tmp_path / "other", HOSTS[0], tmp_path / "foreign")
    found = list(machine.certificates(replace(config.tls, cert=foreign.cert)))
    assert [check.level for check in found].count(FAULT) == 3  # another key, another authority, another name
    (tmp_path / "tls/cert.pem").write_text("-----BEGIN nothing")
    assert levels(machine.certificates(config.tls)) == {"certificate": FAULT}


def test_the_pages_certificate(tmp_path: Path) -> None:
    write_config(tmp_path)
    pair = (tmp_path / "tls/cert.pem", tmp_path / "tls/key.pem")
    page = PageSettings("127.0.0.1", 7446, *pair)
    assert levels(machine.page_certificate(page)) == {"page's certificate": OK}
    other = certificates.issue_collector(tmp_path / "ca", "other", (), tmp_path / "other")
    assert [each.level for each in machine.page_certificate(replace(page, cert=other.cert))] == [OK, FAULT]
    pair[0].write_text("-----BEGIN nothing")
    assert levels(machine.page_certificate(page)) == {"page's certificate": FAULT}


def test_fence_agents(tmp_path: Path) -> None:
    config = load(write_config(tmp_path))
    assert levels(machine.fence_agents(config)) == {"fence agent": WARNING}
    program = tmp_path / "fence_x"
    device = Fence(HOSTS[0], program, "bmc-1", 1, 30_000)
    [lacking] = machine.fence_agents(replace(config, fence=(device,)))
    assert lacking.level == FAULT and "does not exist" in lacking.text and "bmc-1" in lacking.text
    program.touch()
    [lacking] = machine.fence_agents(replace(config, fence=(device,)))
    assert lacking.level == FAULT and "is not executable" in lacking.text
    [by_members] = machine.fence_agents(replace(config, fence=(replace(device, via_members=True),)))
    program.chmod(0o755)
    [there] = machine.fence_agents(replace(config, fence=(device,)))
    assert by_members.level == there.level == OK


def test_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    file = write_config(tmp_path, "[unknown]\n")
    check, config = machine.configuration(file)
    assert (check.level, config) == (FAULT, None) and "unknown" in check.text and "check-config" in check.next_step


def facts(offset: int | None, *left: int | None) -> HostFacts:
    found = tuple(Certificate("agent's", each, "why") for each in left)
    return HostFacts(around=HostEnvironment(clock_offset_ms=offset, certificates=found))


@pytest.mark.parametrize(
    ("offsets", "level", "word"),
    [
        ((None, None), UNCHECKED, "told its clock"),
        ((100, -200), OK, "2 hosts' clocks are within 0.2 s"),
        ((100, 90_000, 0), WARNING, "h1"),
        ((95_000, 90_000, 0), FAULT, "this machine's clock is off"),
        ((95_000,), WARNING, "h0"),
    ],
)
def test_clocks_of_hosts(offsets: tuple[int | None, ...], level: str, word: str) -> None:
    check = running._skew({f"h{n}": facts(offset) for n, offset in enumerate(offsets)})
    assert check.level == level and word in check.text


@pytest.mark.parametrize(
    ("left", "found"),
    [((), [UNCHECKED]), ((100, 200), [OK]), ((100, 29), [WARNING, OK]), ((6,), [FAULT]), ((None,), [UNCHECKED])],
)
def test_certificates_of_hosts(left: tuple[int | None, ...], found: list[str]) -> None:
    assert [check.level for check in running._host_certificates({"gold/h1": facts(0, *left)})] == found


@pytest.mark.asyncio
async def test_ports() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await running._port("p", f"0.0.0.0:{port}")).level == OK
    server.close()
    assert (await running._port("p", f"127.0.0.1:{port}")).level == FAULT
    assert (await running._port("p", "127.0.0.1:0")).level == UNCHECKED


async def asked(rig: rigged.Rig) -> list[Check]:
    async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
        reply = await rpc.OperatorStub(channel).Doctor(pb.DoctorRequest())
    return [Check(each.name, each.level, each.text, each.next_step) for each in reply.checks]


@pytest.mark.asyncio
async def test_a_running_collector_tells_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rigged.running(tmp_path) as rig:
        found = levels(await asked(rig))
        assert {"clock", "disk", "telemetry", "authority", "clocks of hosts", "where it runs"} <= set(found)
        assert found["alerts"] == WARNING, "there is a log only"
        good = ("collector", "configuration", "journal", "certificate")
        assert [found[name] for name in good] == [OK] * len(good)
        write_config(tmp_path, '[policy]\nmode = "ask"\n')
        assert levels(await asked(rig))["configuration"] == WARNING  # changed, and not in use
        roster = rig.parts.service.roster
        roster.fence_waits = lambda: {Urgency.ROUTINE: (9, 60_000), Urgency.PROOF: (2, LONG_WAIT_MS)}
        assert "fence runs" not in levels(await asked(rig)) and not roster.long_waits()[0]
        roster.fence_waits = lambda: {Urgency.ROUTINE: (9, 60_000), Urgency.PROOF: (2, 1_000), SILENT: (3, 7_000)}
        assert roster.long_waits() == (5, 7_000)
        assert "5 fence runs wait for their turn, the longest for 7 s: poolwarden doctor" in roster.warnings()
        roster.stood_down["some-pool"] = "h1 obeys another"
        monkeypatch.setattr(running, "guards_its_own_host", lambda _: ["this collector runs as a VM on h1"])
        found = levels(await asked(rig))
        assert found["collector"] == found["where it runs"] == FAULT


@pytest.mark.parametrize(("wait", "level"), [(LONG_WAIT_MS, OK), (LONG_WAIT_MS + 1, WARNING)])
def test_fence_runs_that_wait_for_their_turn(tmp_path: Path, wait: int, level: str) -> None:
    block = f'[[fence]]\nhost = "{HOSTS[0]}"\nname = "bmc"\nagent = "/bin/true"\n'
    roster = Roster(load(write_config(tmp_path, block)), 1, lambda: 0)
    roster.fence_waits = lambda: {Urgency.PROOF: (2, wait)}
    (check,) = running._fencing(roster)
    assert check.level == level and bool(check.next_step) == (level != OK)
