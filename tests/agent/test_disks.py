"""The disk guard: levels with hysteresis, trends, what fills a disk and what could go, within bounds."""

import os
import time

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.commands import disk as diskcommand
from poolwarden_agent.core import disks
from poolwarden_agent.core.disk_fillers import UNSEEN, UNSEEN_LEAST, Found, Result, command_list, rule_for
from poolwarden_agent.dom0.system import disk_usage
from poolwarden_agent.dom0.system.disk_usage import Filling
from poolwarden_agent.host.disk_guard import AGAIN_MS, DiskGuard
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import Disk
from poolwarden_agent.messages import disks as wire_disks

from .fake_port import FakePort

GIB = 1 << 30
MINUTE = 60 * 1000


def use(percent, inodes=10.0, total=100 * GIB):
    return disks.Use("/", total, int(total * (100 - percent) / 100), 1000, int(10 * (100 - inodes)))


def after(uses, every_ms=30000, before=None):
    """The standing after these looks."""
    standing = before
    start = standing.samples[-1][0] + every_ms if standing is not None else 1000
    for number, one in enumerate(uses):
        standing = disks.look(standing, one, start + number * every_ms)
    return standing


def test_levels_begin_higher_than_they_end():
    seen = []
    standing = None
    for percent in (84.9, 85, 83, 82, 81.9, 95, 94, 93, 92.9, 99, 98, 97.9, 82, 10):
        standing = after([use(percent)], before=standing)
        seen.append(standing.level)
    assert seen == [
        "ok", "warning", "warning", "warning", "ok", "critical", "critical", "critical", "warning", "full", "full",
        "critical", "warning", "ok",
    ]  # fmt: skip


def test_inodes_count_as_space_does():
    assert after([use(10, inodes=96)]).level == "critical"
    assert disks.look(None, disks.Use("/", 10, 9, 0, 0), 1).level == "ok", "a file system without inodes has no lack"


def test_since_is_when_the_level_began():
    standing = after([use(10), use(96), use(96)])
    assert (standing.level, standing.since_ms) == ("critical", 31000)


def test_a_flood_is_told_within_minutes():
    flood = after([use(60 + minute * 0.5) for minute in range(10)])
    assert flood.level == "warning" and flood.soon, "1 % a minute: 36 min left, although it is not 85 % full"
    assert abs(flood.growth - 60 * GIB) < GIB
    assert 30 * MINUTE < flood.full_in_ms < 40 * MINUTE


def test_a_slow_leak_is_a_trend_and_a_copied_file_is_none():
    leak = after([use(20 + number * 0.01) for number in range(241)])
    assert 1 * GIB < leak.growth < 1.3 * GIB and leak.level == "ok"
    copied = after([use(20)] * 120 + [use(60)] * 121)
    assert (copied.growth, copied.full_in_ms) == (0, disks.NEVER)


def test_what_shrinks_does_not_grow():
    assert after([use(80 - number) for number in range(20)]).growth == 0


def test_a_full_one_soon_needs_half_a_disk():
    young = after([use(1 + minute * 0.5) for minute in range(10)])
    assert young.full_in_ms and not young.soon and young.level == "ok"


def test_inodes_that_run_out_are_foreseen():
    standing = after([use(10, inodes=60 + number) for number in range(10)])
    assert standing.soon and standing.full_in_ms <= 20 * MINUTE and standing.growth == 0


def test_samples_are_bounded_and_a_clock_that_stands_divides_by_nothing():
    standing = after([use(50)] * 1000, every_ms=30000)
    assert len(standing.samples) == disks.KEPT
    assert disks.look(standing, use(51), standing.samples[-1][0]).growth == 0


def test_a_mount_that_is_gone_is_forgotten():
    before = disks.watched({}, [use(96)], 1)
    assert disks.crossed({}, before) == ["/"] and disks.worst(before) == "critical"
    assert disks.watched(before, [], 2) == {} and disks.worst({}) == "ok"
    assert disks.crossed(before, disks.watched(before, [use(90)], 2)) == []


# ------------------------------------------------------------------------------------------ what fills it


def put(root, path, size, age_days=0):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"x" * size)
    then = time.time() - age_days * 86400
    os.utime(str(target), (then, then))


def filled(tmp_path):
    put(tmp_path, "var/log/xensource.log", 300000)
    put(tmp_path, "var/log/xensource.log.1", 200000)
    put(tmp_path, "var/log/audit/audit.log.2.gz", 100000)
    put(tmp_path, "var/crash/20260101/dom0.log", 80000, age_days=30)
    put(tmp_path, "var/crash/20260830/dom0.log", 70000)
    put(tmp_path, "var/update/x/y.rpm", 60000)
    put(tmp_path, "var/lib/xcp/state.db", 50000)
    put(tmp_path, "var/lib/xcp/blobs/messages/1", 40000)
    put(tmp_path, "etc/the-systems-own", 900000)
    return tmp_path


def test_known_places_are_added_up_and_rotated_files_could_go(tmp_path):
    result = disk_usage.look(str(filled(tmp_path)), 10)
    sizes = {item.path: (item.files, item.bytes // 10000) for item in result.found}
    assert sizes["var/log"][0] == 3 and sizes["var/log"][1] >= 60
    assert sizes["var/lib/xcp"][0] == 1 and sizes["var/lib/xcp/blobs"][0] == 1, "nothing is counted twice"
    assert not result.partial and sizes[""][0] == 1 and result.found[-1].biggest == "/etc/the-systems-own"
    assert result.found[0].biggest == "/var/log/xensource.log"
    could = {item.path: item.files for item in result.cleanable}
    assert could == {"var/log": 2, "var/crash": 1, "var/update": 1}
    assert len(command_list(result.cleanable)) == 3 and all(os.path.exists(str(tmp_path / p)) for p in could)


def test_what_has_no_name_is_told_as_that(tmp_path, monkeypatch):
    """Files below a mount point, and deleted ones that are still open, are used and found by nobody."""
    put(tmp_path, "opt/iso/a.iso", 3 << 20)
    os.link(str(tmp_path / "opt/iso/a.iso"), str(tmp_path / "opt/iso/b.iso"))
    seen = {}
    for used in (0, 3 << 20, (3 << 20) + UNSEEN_LEAST, 2 << 30):
        monkeypatch.setattr(Filling, "_used", lambda self, used=used: used)
        found = disk_usage.look(str(tmp_path), 10).found
        seen[used] = [item.bytes >> 20 for item in found if item.what == UNSEEN]
    assert list(seen.values()) == [[], [], [UNSEEN_LEAST >> 20], [2045]]
    monkeypatch.undo()
    assert Filling("/")._used() > 0 and Filling(str(tmp_path))._used() == 0, "a directory has no file system's sum"


def test_what_is_in_use_or_xapis_is_never_named():
    for path, name in (
        ("var/log", "xensource.log"),
        ("var/lib/xcp", "state.db"),
        ("var/lib/xcp/blobs", "1.gz"),
        ("root", "backup.xva"),
        ("boot", "vmlinuz.old"),
        ("tmp", "x.1"),
    ):
        assert rule_for(path, name, 10**9) is None, path
    assert rule_for("var/crash", "dom0.log", 3600) is None, "a fresh dump is what support asks for"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("opt/var/iso_repository/debian.iso", "opt"),
        ("ISO/w.iso", "ISO"),
        ("var/opt/xen/ISO_Store/a.iso", "var/opt/xen"),
        ("nfsmount/backup/web.xva", "nfsmount"),
        ("mnt/backup/db.xva", "mnt"),
        ("srv/x.img", "srv"),
        ("home/admin/a.tgz", "home"),
        ("usr/local/old.tar", "usr/local"),
        ("var/www/x", ""),
        ("usr/share/x", ""),
    ],
)
def test_what_lies_in_no_known_place_is_counted_and_named(tmp_path, path, place):
    put(tmp_path, "var/log/xensource.log", 300000)
    put(tmp_path, path, 500000)
    found = {item.path: (item.files, item.biggest) for item in disk_usage.look(str(tmp_path), 10).found}
    assert found == {"var/log": (1, "/var/log/xensource.log"), place: (1, "/" + path)}


def test_links_are_not_followed(tmp_path):
    put(tmp_path, "usr/big", 500000)
    put(tmp_path, "var/log/small", 10)
    os.symlink(str(tmp_path / "usr"), str(tmp_path / "var/log/link"))
    os.symlink(str(tmp_path / "usr"), str(tmp_path / "shortcut"))
    os.symlink("loop", str(tmp_path / "var/log/loop"))
    found = {item.path: item.files for item in disk_usage.look(str(tmp_path), 10).found}
    assert found == {"var/log": 1, "": 1}


def test_files_that_lie_at_the_top_are_found(tmp_path):
    (tmp_path / "backup.xva").write_bytes(b"x" * 3000000)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to(tmp_path / "srv" / "a")
    found = {item.path: item for item in disk_usage.look(str(tmp_path), 10).found}
    assert set(found) == {"", "srv"}
    assert (found[""].biggest, found[""].files) == ("/backup.xva", 1) and found[""].bytes >= 3000000


def test_a_look_is_bounded_step_by_step(tmp_path, monkeypatch):
    for number in range(60):
        put(tmp_path, "var/log/%d" % number, 1)
    monkeypatch.setattr(disk_usage, "STEP_ENTRIES", 10)
    look, steps = Filling(str(tmp_path)), 1
    while look.step(5) is None:
        steps += 1
    assert 6 <= steps <= 8
    monkeypatch.setattr(disk_usage, "MOST_ENTRIES", 25)
    look, results = Filling(str(tmp_path)), []
    while not results or results[-1] is None:
        results.append(look.step(5))
    assert len(results) == 3 and results[-1].partial and results[-1].found[0].files == 24
    monkeypatch.setattr(disk_usage, "MOST_ENTRIES", 1000)
    monkeypatch.setattr(disk_usage, "MOST_STEPS", 2)
    look = Filling(str(tmp_path))
    assert look.step(5) is None and look.step(5).partial


def test_directories_that_cannot_be_read_are_left_out(tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var/log").write_text("no directory")
    assert disk_usage.look(str(tmp_path), 5).found == ()
    assert disk_usage.look(str(tmp_path / "nowhere"), 5).found == ()


# ------------------------------------------------------------------------------------------ the guard


class Looks(object):
    """Counts looks; each needs two steps."""

    def __init__(self, port):
        self.port = port
        self.steps = 0

    def step(self, now_ms):
        self.steps += 1
        if self.steps < 2:
            return None
        return Result(now_ms, False, (), ())


class Port(FakePort):
    def __init__(self):
        super(Port, self).__init__()
        self.looks = 0

    def look_for_fillers(self):
        self.looks += 1
        return Looks(self)


def disk(percent, mount="/", own=True):
    return Disk(mount, 1000, int(10 * (100 - percent)), 100, 90, own)


def test_fillers_are_looked_for_only_when_a_level_is_crossed():
    port = Port()
    guard = DiskGuard(port)
    for second in range(100):
        guard.look([disk(50)], second * 1000)
    assert port.looks == 0 and guard.result is None
    guard.look([disk(90)], 200000)
    guard.look([disk(90)], 202000)
    assert port.looks == 1 and guard.result is not None
    for second in range(100):
        guard.look([disk(90)], 204000 + second * 1000)
    assert port.looks == 1
    guard.look([disk(96)], 400000)
    assert port.looks == 2, "it rose"
    guard.look([disk(96)], 402000)
    guard.look([disk(96)], 402000 + AGAIN_MS)
    assert port.looks == 3, "it lasts"
    guard.look([disk(50)], 403000 + AGAIN_MS)
    assert guard.result is None


def test_a_place_that_is_no_mount_is_not_judged_twice():
    guard = DiskGuard(Port())
    guard.look([disk(96), disk(96, "/var/log", own=False)], 1000)
    assert list(guard.standings) == ["/"]


def test_the_report_carries_level_and_fillers(tmp_path):
    port = FakePort()
    port.look_for_fillers = lambda: Filling(str(filled(tmp_path)))
    side = HostSide(port)
    port.free = 3 * 10**8
    section = side.conversation.report(full=True).report.disks
    assert section.disks[0].level == pb.Disk.CRITICAL and section.disks[0].level_since_mono_ms == port.now
    assert section.fillers[0].path == "var/log" and section.cleanable[0].command.startswith("find /var/log")
    port.free = 9 * 10**9
    section = side.conversation.report().report.disks
    assert section.disks[0].level == pb.Disk.OK and not section.fillers and not section.looked_mono_ms


def test_lists_on_the_wire_are_bounded():
    guard = DiskGuard(FakePort())
    one = Found("var/log", "logs", 1, 1, "/var/log/x", 1)
    guard.result = Result(1, True, (one,) * 50, ())
    section = wire_disks.disks([], guard.standings, guard.result)
    assert section.partial and len(section.fillers) == wire_disks.MOST


def test_the_local_command(tmp_path, capsys):
    root = str(filled(tmp_path))
    status = diskcommand.main(["--root", root])
    said = capsys.readouterr().out
    assert status in (0, 1) and "/var/log" in said and "find /var/crash" in said and "nothing has been deleted" in said
    assert "not a mount of its own" in said
    assert diskcommand.main(["--root", root + "/nowhere"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert [diskcommand.size(n) for n in (0, 1023, 1024, 1536 * 1024, 5 * 10**12)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 MiB", "4.5 TiB",
    ]  # fmt: skip
