"""A disk's level becomes one alert and one end, whatever else happens to host, stream and collector."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.host_facts import Cleanable, Disk, DiskLevel, Filler, Filling


class Disks(Guarded):
    """A pool whose disks are set by hand; remembers alerts."""

    def __init__(self) -> None:
        self.disks: dict[int, tuple[Disk, ...]] = {}
        self.filling: Filling | None = None
        self.said: list[AlertRaised | AlertResolved] = []
        super().__init__()
        self.said.clear()

    def facts(self, host: Host):  # type: ignore[no-untyped-def]
        found = super().facts(host)
        return replace(found, disks=self.disks.get(host.n, found.disks), filling=self.filling)

    def feed(self, event):  # type: ignore[no-untyped-def]
        outcome = super().feed(event)
        self.said.extend(alert for alert in outcome.alerts if "/disk-" in alert.key)
        return outcome

    def says(self) -> list[str]:
        """What was said about disks since the last call: + raised, - over."""
        found = [
            ("+" if isinstance(a, AlertRaised) else "-") + a.key.rsplit("/disk-", 1)[1].split("/", 1)[1]
            for a in self.said
        ]
        self.said.clear()
        return found


def disk(level: DiskLevel, percent: int = 90, mount: str = "/", **more: object) -> Disk:
    total = 18 * 2**30
    return replace(Disk(mount, total, total * (100 - percent) // 100, 1000, 900, True, level), **more)  # type: ignore[arg-type]


@pytest.fixture
def pool() -> Disks:
    return Disks()


def test_a_crossed_level_is_told_once_and_its_end_once(pool: Disks) -> None:
    pool.disks[2] = (disk(DiskLevel.WARNING),)
    pool.run(30_000)
    assert pool.says() == ["+warning:/"]
    pool.disks[2] = (disk(DiskLevel.OK, 70),)
    pool.run(30_000)
    assert pool.says() == ["-warning:/"]


def test_a_level_that_rises_and_falls_is_one_alert_at_a_time(pool: Disks) -> None:
    for level in (DiskLevel.WARNING, DiskLevel.CRITICAL, DiskLevel.FULL, DiskLevel.CRITICAL, DiskLevel.OK):
        pool.disks[1] = (disk(level),)
        pool.run(5_000)
    assert pool.says() == [
        "+warning:/", "-warning:/", "+critical:/", "-critical:/", "+full:/", "-full:/",
    ], "critical was told less than a minute ago"  # fmt: skip
    assert not any("/disk-" in key for key in pool.pool.record.open_alerts)


def test_each_file_system_has_its_own(pool: Disks) -> None:
    pool.disks[1] = (disk(DiskLevel.FULL), disk(DiskLevel.WARNING, mount="/var/log"))
    pool.run(5_000)
    assert pool.says() == ["+full:/", "+warning:/var/log"]


def test_the_alert_says_where_how_much_and_what_fills_it(pool: Disks) -> None:
    pool.filling = Filling(
        (Filler("var/log", "logs", 9 * 2**30, 7, "/var/log/xensource.log", 2**30),),
        (Cleanable("var/log", "rotated logs", 2**30, 3, "find"),),
    )
    pool.disks[1] = (disk(DiskLevel.CRITICAL, 96, growth_per_hour=2**30, full_in_ms=50 * 60_000),)
    pool.run(5_000)
    alert = pool.said[0]
    assert isinstance(alert, AlertRaised) and alert.severity == "critical"
    assert "/ of" in alert.title and "96 % full" in alert.title
    for text in ("full in about 50 min", "growing by 1024 MiB an hour", "/var/log: 9216 MiB", "poolwarden disks"):
        assert text in alert.body


def test_inodes_are_named_where_they_are_the_lack(pool: Disks) -> None:
    pool.disks[1] = (disk(DiskLevel.FULL, 20, free_inodes=0),)
    pool.run(5_000)
    assert isinstance(pool.said[0], AlertRaised) and "100 % full (inodes)" in pool.said[0].title


def test_a_silent_hosts_alert_stays(pool: Disks) -> None:
    pool.disks[2] = (disk(DiskLevel.FULL),)
    pool.run(5_000)
    pool.host(2).agent = False
    pool.run(60_000)
    assert pool.says() == ["+full:/"]
    pool.host(2).agent = True
    pool.connect(pool.host(2))
    pool.run(10_000)
    assert pool.says() == []


def test_a_collectors_restart_tells_nothing_again_and_forgets_nothing(pool: Disks) -> None:
    pool.disks[2] = (disk(DiskLevel.FULL),)
    pool.run(5_000)
    pool.says()
    pool.restart_collector()
    pool.run(20_000)
    assert pool.says() == []
    pool.disks[2] = (disk(DiskLevel.OK),)
    pool.run(10_000)
    assert pool.says() == ["-full:/"]


def test_a_root_mounted_read_only_is_critical(pool: Disks) -> None:
    pool.disks[1] = (disk(DiskLevel.OK, 20, read_only=True), disk(DiskLevel.OK, 20, "/boot/efi", read_only=True))
    pool.run(5_000)
    assert isinstance(pool.said[0], AlertRaised) and "mounted read-only" in pool.said[0].title
    assert pool.says() == ["+read-only:/"]


def test_an_agent_that_does_not_judge_raises_nothing(pool: Disks) -> None:
    pool.disks[1] = (disk(DiskLevel.UNKNOWN, 100),)
    pool.run(5_000)
    assert pool.says() == []
