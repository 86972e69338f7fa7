"""`poolwarden disks`: levels and trends of every host, what fills them, and an exit status for monitoring."""

import json
from collections.abc import Callable

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import FakeCollector

Call = Callable[..., Said]


def fill(fake: FakeCollector) -> None:
    """host-2's /var/log is nearly full, and it is known with what."""
    host = fake.status.pools[0].hosts[1]
    host.disks.add(
        mount="/var/log",
        total_bytes=4 << 30,
        free_bytes=100 << 20,
        used_percent=97.6,
        inodes_used_percent=3,
        level="critical",
        level_age_ms=600_000,
        growth_bytes_per_hour=50 << 20,
        full_in_ms=7_200_000,
    )
    host.fillers.add(
        path="var/log", what="logs", bytes=3 << 30, files=40, biggest="/var/log/SMlog", biggest_bytes=1 << 30
    )
    host.cleanable.add(path="var/log", what="rotated logs", bytes=2 << 30, files=30, command="find /var/log -delete")


def test_disks_of_a_pool(fake: FakeCollector, poolwarden: Call) -> None:
    fill(fake)
    said = poolwarden("disks", "demo")
    flat = " ".join(said.out.split())
    assert said.status == 0
    for phrase in (
        "HOST DISK LEVEL USED FREE OF INODES GROWS FULL IN",
        "host-1 / ? 50% 9.0 GiB 18.0 GiB 0% - -",
        "critical 98% 100 MiB 4.0 GiB 3%",
        "50.0 MiB/h 2 h",
        "host-2: what takes the room",
        "3.0 GiB /var/log logs; biggest: /var/log/SMlog (1.0 GiB)",
        "2.0 GiB rotated logs: find /var/log -delete",
        "nothing has been deleted",
    ):
        assert phrase in flat, (phrase, flat)
    assert max(len(line) for line in said.out.splitlines()) <= 80


def test_status_names_a_disk_that_fills_up(fake: FakeCollector, poolwarden: Call) -> None:
    fill(fake)
    flat = " ".join(poolwarden("status").out.split())
    assert "host-2: /var/log is critical (98 % used), full in about 2 h: poolwarden disks" in flat


def test_disks_check_is_for_monitoring(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("disks", "--check").status == 0
    fill(fake)
    said = poolwarden("disks", "--check")
    assert said.status == 1 and "/var/log of host-2 is critical" in said.err


def test_disks_as_json(fake: FakeCollector, poolwarden: Call) -> None:
    fill(fake)
    found = json.loads(poolwarden("disks", "--json").out)["hosts"][1]
    assert found["name"] == "host-2" and found["disks"][1]["level"] == "critical"
    assert found["cleanable"][0]["command"] == "find /var/log -delete"


def test_no_disks_are_known(fake: FakeCollector, poolwarden: Call) -> None:
    for host in fake.status.pools[0].hosts:
        del host.disks[:]
    assert "no host has told of its disks yet" in poolwarden("disks").out
    assert isinstance(fake.asked[-1], api.StatusRequest)
