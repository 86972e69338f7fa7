"""What doctor says of the etcd of several collectors."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cluster.clusters import RealCluster, on_real_members
from tests.cluster.contract import Collector

from poolwarden_collector.shell.cluster.etcd import Denied, EtcdError, EtcdMember, Found, Get, Health, Unavailable
from poolwarden_collector.shell.cluster.etcd_client import Access
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.config.store import StoreSettings
from poolwarden_collector.shell.doctor import etcd_checks as checks
from poolwarden_collector.shell.doctor import etcd_files
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING

HEALTH = Health("https://etcd1:2379", 1, 1, "3.5.21", 20 << 20, (), 4 << 20)
AWAY = Unavailable("https://etcd2:2379: no answer")


NO = Denied("INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password")
SETTINGS = StoreSettings(Access(("http://127.0.0.1:9",)), Names("t"), "127.0.0.1:1", "127.0.0.1:2")


class Answers:
    """An etcd that answers as it is told; what it was asked."""

    def __init__(self, health: list[Any], read: EtcdError | None, members: EtcdError | None) -> None:
        self._health, self._read, self._members = health, read, members
        self.asked: list[object] = []

    async def health(self) -> list[Any]:
        return self._health

    async def ask(self, request: Get) -> Any:
        self.asked.append(request)
        if self._read is not None:
            raise self._read
        return Found((), 1)

    async def members(self) -> list[EtcdMember]:
        self.asked.append("members")
        if self._members is not None:
            raise self._members
        return [EtcdMember(name, ()) for name in "abc"]

    async def close(self) -> None:
        pass


def levels(found: object) -> list[str]:
    return [each.level for each in found]  # type: ignore[attr-defined]


def test_a_majority() -> None:
    assert levels(checks.majority([HEALTH, HEALTH])) == [OK]
    (found,) = checks.majority([HEALTH, AWAY])
    assert found.level == WARNING and "1 of 2" in found.text and "etcd2" in found.text
    for health in (
        [AWAY, AWAY],
        [HEALTH, AWAY, AWAY],
        [Health("e", 1, 0, "3.5.21", 0), AWAY],
        [Health("e", 1, 0, "3.5.21", 0)],
    ):
        (found,) = checks.majority(health)
        assert found.level == FAULT and found.next_step


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("3.4.23", WARNING), ("3.4.30", WARNING), ("3.4.31", OK), ("3.5.0", FAULT), ("3.5.2", FAULT),
        ("3.5.3", WARNING), ("3.5.12", WARNING), ("3.5.13", OK), ("3.6.0", OK), ("3.3.27", FAULT),
        ("2.3.8", FAULT), ("4.0.0-rc.1", OK), ("", UNCHECKED), ("newest", UNCHECKED),
    ],
)  # fmt: skip
def test_releases(version: str, level: str) -> None:
    (found,) = checks._releases([Health("e", 1, 1, version, 0)])
    assert found.level == level and bool(found.next_step) is (level != OK)


def test_releases_that_differ() -> None:
    found = list(checks._releases([HEALTH, Health("e", 1, 1, "3.5.20", 0)]))
    assert levels(found) == [OK, OK, WARNING] and "3.5.20, 3.5.21" in found[-1].text


def test_room_and_alarms() -> None:
    for mib, level in ((0, OK), (1_023, OK), (1_024, WARNING), (1_638, WARNING), (1_640, FAULT), (3_000, FAULT)):
        assert checks.room(Health("e", 1, 1, "3.5.21", mib << 20)).level == level, mib
    full = Health("e", 1, 1, "3.5.21", 1, ("memberID:1 alarm:NOSPACE ",))
    found = list(checks.of_members([HEALTH, full, AWAY]))
    assert levels(found) == [FAULT, OK, OK] and "NOSPACE" in found[0].text and "disarm" in found[0].next_step
    assert "20 MiB" in found[1].text, "the largest counts"


@pytest.mark.asyncio
async def test_a_user_that_etcd_does_not_let_in_is_a_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its members are well then, and whoever looks at them finds nothing."""
    monkeypatch.setattr(checks, "EtcdClient", lambda _: Answers([HEALTH], NO, NO))
    found = {each.name: each for each in await checks.etcd_checks(SETTINGS, "a", {}) if each.level == FAULT}
    assert "t/" in found["etcd"].text and "password" in found["etcd"].text
    assert "[store]" in found["etcd"].next_step and "restart" in found["etcd"].next_step
    # Who may read below the prefix and not ask for members is told all the rest.
    monkeypatch.setattr(checks, "EtcdClient", lambda _: Answers([HEALTH], None, NO))
    told = {each.name: each.level for each in await checks.etcd_checks(SETTINGS, "a", {})}
    assert told["etcd's members"] == UNCHECKED and told["collectors"] == FAULT and told["etcd"] == OK
    # And who cannot be asked is no matter of the user.
    monkeypatch.setattr(checks, "EtcdClient", lambda _: Answers([HEALTH], AWAY, AWAY))
    assert FAULT not in levels(await checks.etcd_checks(SETTINGS, "a", {}))


@pytest.mark.asyncio
async def test_where_there_is_no_majority_nothing_is_asked_that_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness is asked of every collector, with a time limit: one that waits for etcd would seem to be gone."""
    etcd = Answers([HEALTH, AWAY, AWAY], None, None)
    monkeypatch.setattr(checks, "EtcdClient", lambda _: etcd)
    assert (await checks.etcd_checks(SETTINGS, "a", {}))[0].level == FAULT and not etcd.asked


def test_members_of_etcd() -> None:
    def members(*names: str) -> list[EtcdMember]:
        return [EtcdMember(name, ()) for name in names]

    for names, endpoints, level, said in (
        ("a", 1, WARNING, "the loss of 0"),
        ("ab", 2, WARNING, "the loss of 0"),
        ("abc", 3, OK, "the loss of 1"),
        ("abc", 2, WARNING, "names 2 of 3"),
        ("abcd", 4, WARNING, "the loss of 1"),
        ("abcde", 5, OK, "the loss of 2"),
    ):
        (found,) = checks.count(members(*names), ("x",) * endpoints)
        assert (found.level, said in found.text) == (level, True), names
    found = list(checks.count([*members("a", "b"), EtcdMember("", ())], ("x",) * 3))[0]
    assert found.level == WARNING and "never started" in found.text


def test_a_collector_that_is_no_member() -> None:
    assert levels(checks.collectors(["a", "b"], "a")) == [OK]
    assert levels(checks.collectors(["a"], "a")) == [WARNING]
    (found,) = checks.collectors(["b", "c"], "a")
    assert found.level == FAULT and "a is no member" in found.text and found.next_step


def test_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_files, "data_directory", lambda: Path("/var/lib/etcd"))
    monkeypatch.setattr(etcd_files, "network_storage", lambda _: "network storage (nfs4 at /var)")
    hosts = {"192.0.2.7": "lab/h1"}
    found = list(checks.places(["https://192.0.2.7:2379", "https://127.0.0.1:2379", "https://192.0.2.9:2379"], hosts))
    assert levels(found) == [FAULT, WARNING, UNCHECKED]
    assert "lab/h1" in found[0].text and "nfs4" in found[1].text and "192.0.2.9" in found[2].text
    monkeypatch.setattr(etcd_files, "network_storage", lambda _: "")
    assert levels(checks.places(["https://[::1]:2379"], hosts)) == [OK]
    monkeypatch.setattr(etcd_files, "data_directory", lambda: None)
    assert levels(checks.places(["https://127.0.0.1:2379", "https://nobody.invalid:1"], hosts)) == [UNCHECKED]


# ------------------------------------------------------------------------------------------------ its files


def process(proc: Path, number: int, *words: str) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))


def test_a_data_directory(tmp_path: Path) -> None:
    proc, defaults, unit = tmp_path / "proc", tmp_path / "etcd", tmp_path / "unit"
    look = lambda: etcd_files.data_directory(proc, defaults, unit)  # noqa: E731
    assert look() is None
    unit.mkdir()
    assert look() == unit
    defaults.write_text('# x\nETCD_NAME="e1"\nETCD_DATA_DIR="/srv/etcd"\n')
    assert look() == Path("/srv/etcd")
    process(proc, 1, "/sbin/init")
    process(proc, 7, "/usr/bin/etcd", "--name", "m1")
    process(proc, 8, "/usr/bin/vi", "--data-dir=/no")
    assert look() == Path("/srv/etcd")
    for number, words in enumerate((("--data-dir=/a",), ("--data-dir", "/a"), ("-data-dir", "/a", "--name=x"))):
        there = tmp_path / f"proc{number}"
        process(there, 9, "/usr/bin/etcd", *words)
        assert etcd_files.data_directory(there, defaults, unit) == Path("/a")
    there = tmp_path / "relative"
    process(there, 9, "etcd", "--data-dir=d")
    (there / "9" / "cwd").symlink_to("/var/lib")
    assert etcd_files.data_directory(there, defaults, unit) == Path("/var/lib/d")


def test_on_what_it_lies(tmp_path: Path) -> None:
    mounts, sysfs, numbers = tmp_path / "mountinfo", tmp_path / "sys", itertools.count(1)

    def lies(kind: str, device: str = "8:1", at: str = "/var/lib") -> str:
        number = next(numbers)
        lines = ["1 0 8:1 / / rw - ext4 /dev/sda1 rw", f"{number} 1 {device} / {at} rw,relatime shared:1 - {kind} x rw"]
        mounts.write_text("\n".join(lines))
        return etcd_files.network_storage(Path("/var/lib/etcd"), mounts, sysfs)

    assert "nfs4 at /var/lib" in lies("nfs4") and "cifs" in lies("cifs") and "fuse.sshfs" in lies("fuse.sshfs")
    assert "memory" in lies("tmpfs") and lies("ext4") == "" and lies("nfs4", at="/var/library") == ""
    blocks = sysfs / "dev" / "block"
    blocks.mkdir(parents=True)
    disks = {
        "8:2": "platform/host3/session1/target/sdb/sdb1",
        "8:3": "pci/host4/rport-4:0-1/sdc",
        "8:4": "pci/ata1/sdd",
    }
    for number, where in disks.items():
        (sysfs / where).mkdir(parents=True)
        (blocks / number).symlink_to(sysfs / where)
    (sysfs / "virtual/dm-0/slaves").mkdir(parents=True)
    (sysfs / "virtual/dm-0/slaves/sdb1").symlink_to(sysfs / disks["8:2"])
    (blocks / "254:0").symlink_to(sysfs / "virtual/dm-0")
    assert [bool(lies("xfs", each)) for each in ("8:2", "8:3", "8:4", "254:0", "9:9")] == [
        True,
        True,
        False,
        True,
        False,
    ]


# ------------------------------------------------------------------------------------------------ a real one


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_three_real_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_real_members(tmp_path, lambda cluster: real(cluster, monkeypatch))


async def real(cluster: RealCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names("t")
    settings = StoreSettings(cluster.access(), names, "127.0.0.1:1", "127.0.0.1:2")
    for name in ("a", "b"):
        await Collector(cluster, name, names).joined()
    monkeypatch.setattr(checks, "KEPT_REVISIONS", 1)
    client = cluster.client("x")
    for _ in range(3):
        await Collector(cluster, f"c{(await client.ask(Get('k'))).revision}", names).joined()
    found = {each.name: each for each in await checks.etcd_checks(settings, "a", {})}
    told = {name: each.level for name, each in found.items()}
    assert told["etcd"] == told["etcd's size"] == told["etcd's members"] == told["collectors"] == OK, found
    assert told["etcd's compaction"] == WARNING and "etcd's disk" in told
    assert "m0, m1, m2" in found["etcd's members"].text
    cluster.kill(0)
    cluster.kill(1)
    assert (await checks.etcd_checks(settings, "a", {}))[0].level == FAULT
    roster: Any = SimpleNamespace(config=SimpleNamespace(store=settings, name="a"), pools={})
    ((said, step),) = await checks.etcd_weaknesses(roster)
    assert "no majority" in said and step
    roster.config.store = None
    assert await checks.etcd_weaknesses(roster) == ()
    assert await checks.etcd_checks(None, "a", {}) == []
    nobody = StoreSettings(Access(("http://127.0.0.1:9",)), names, "", "")
    assert levels(await checks.etcd_checks(nobody, "a", {})) == [FAULT]
