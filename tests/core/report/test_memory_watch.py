"""A level of dom0's memory becomes one alert and one end; what helps is said by who uses the memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.host_facts import DiskLevel, HostEnvironment, HostFacts, MemoryUser
from poolwarden_collector.core.report import memory_alerts
from poolwarden_collector.core.report.host_environment import MEMORY_LINE, lines
from poolwarden_collector.core.report.journal_view import JournalView
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.snapshot import Snapshot

MIB = 1 << 20
XAPI = MemoryUser("xapi", 77, 3000 * MIB)


def facts(level: DiskLevel, available: int = 300, *users: MemoryUser, empty_in_ms: int = 0) -> dict[str, object]:
    return {
        "memory_total": 4096 * MIB,
        "memory_available": available * MIB,
        "memory_level": level,
        "memory_empty_in_ms": empty_in_ms,
        "memory_users": users,
    }


class Memories(Guarded):
    """A pool whose dom0s' memory is set by hand; remembers alerts."""

    def __init__(self) -> None:
        self.memory: dict[int, dict[str, object]] = {}
        self.said: list[AlertRaised | AlertResolved] = []
        super().__init__()

    def facts(self, host: Host) -> HostFacts:
        return replace(super().facts(host), **self.memory.get(host.n, {}))  # type: ignore[arg-type]

    def feed(self, event):  # type: ignore[no-untyped-def]
        outcome = super().feed(event)
        self.said.extend(alert for alert in outcome.alerts if "/memory-" in alert.key)
        return outcome

    def says(self) -> list[str]:
        found = [("+" if isinstance(a, AlertRaised) else "-") + a.key.rsplit("/", 1)[1] for a in self.said]
        self.said.clear()
        return found


def test_a_level_that_lasts_is_told_once_and_so_is_its_end() -> None:
    pool = Memories()
    pool.memory[2] = facts(DiskLevel.WARNING, 300, XAPI, empty_in_ms=40 * 60_000)
    pool.run(20_000)
    pool.memory[2] = facts(DiskLevel.OK, 2000)
    pool.run(60_000)
    assert pool.says() == []
    pool.memory[2] = facts(DiskLevel.WARNING, 300, XAPI, empty_in_ms=40 * 60_000)
    pool.run(120_000)
    (raised,) = pool.said
    assert isinstance(raised, AlertRaised) and raised.severity == "warning"
    assert "300 of 4096 MiB are available, no swap, empty in about 40 min" in raised.body
    assert "xapi (3000 MiB, pid 77)" in raised.body and "poolwarden restart-xapi" in raised.body
    assert "dom0_mem=8192M,max:8192M" in raised.body
    assert pool.says() == ["+warning"]
    pool.memory[2] = facts(DiskLevel.CRITICAL, 90, XAPI)
    pool.run(120_000)
    assert sorted(pool.says()) == ["+critical", "-warning"]
    pool.memory[2] = facts(DiskLevel.OK, 2000)
    pool.run(120_000)
    assert pool.says() == ["-critical"]


def test_a_silent_host_ends_no_alert_and_one_that_left_does() -> None:
    pool = Memories()
    pool.memory[3] = facts(DiskLevel.CRITICAL, 90)
    pool.run(60_000)
    assert pool.says() == ["+critical"]
    pool.host(3).agent = False
    pool.run(60_000)
    assert pool.says() == []


def test_host_show_and_readiness_tell_it() -> None:
    pool = Memories()
    pool.memory[2] = facts(DiskLevel.CRITICAL, 90, XAPI)
    pool.run(10_000)
    state = Snapshot(pool.pool, pool.now, pool.site)
    (reason,) = [each for each in readiness(state, JournalView()) if each.code == "memory"]
    assert reason.fix.startswith("poolwarden restart-xapi") and "90 of 4096 MiB" in reason.sentence


@pytest.mark.parametrize(
    ("level", "available", "told"),
    [
        (DiskLevel.OK, 100, ""),
        (DiskLevel.UNKNOWN, 100, "warning"),
        (DiskLevel.WARNING, 3000, "warning"),
        (DiskLevel.CRITICAL, 100, "critical"),
    ],
)
def test_the_line_of_a_host_is_as_its_agent_judges_it(level: DiskLevel, available: int, told: str) -> None:
    swap = HostEnvironment(swap_total=512 * MIB, swap_free=500 * MIB)
    host = replace(HostFacts(around=swap), **facts(level, available, XAPI))  # type: ignore[arg-type]
    (line,) = [line for line in lines(host, 0) if line.name == MEMORY_LINE]
    assert line.level == told and ("xapi (3000" in line.text) == (level in memory_alerts.CROSSED)


@pytest.mark.parametrize(
    ("name", "help_"),
    [
        ("xapi", "poolwarden restart-xapi h1"),
        ("xcp-rrdd", "xe-toolstack-restart"),
        ("oxenstored", "reboot"),
        ("qemu-dm-7", "xe vm-migrate"),
        ("tapdisk", "xe vm-migrate"),
        ("python3.6 backup.py", "systemctl status 77"),
    ],
)
def test_what_helps_is_said_by_who_uses_the_memory(name: str, help_: str) -> None:
    assert help_ in memory_alerts.help_for("h1", MemoryUser(name, 77, 1))
    assert "ps aux" in memory_alerts.help_for("h1", None)
