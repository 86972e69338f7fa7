"""dom0's memory: levels with a way out, a decline that is foreseen, who uses it, and what a report tells of it."""

import os

import psutil
import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import memory
from poolwarden_agent.core.disks import CRITICAL, NEVER, OK, WARNING
from poolwarden_agent.dom0.system import memory_users, procfs
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host.memory_guard import AGAIN_MS, MemoryGuard
from poolwarden_agent.messages import reports

from .fake_port import FakePort

GIB, MIB = 1 << 30, 1 << 20
MINUTE = 60 * 1000


def use(available_mib, swap_free_mib=0, total=4 * GIB, swap_total=0):
    return memory.Use(total, available_mib * MIB, swap_total or swap_free_mib * MIB, swap_free_mib * MIB)


def after(uses, every_ms=30000, before=None):
    """The standing after these looks."""
    standing, start = before, before.samples[-1][0] + every_ms if before is not None else 1000
    for number, one in enumerate(uses):
        standing = memory.look(standing, one, start + number * every_ms)
    return standing


def levels(uses, every_ms=10**9):
    seen, standing = [], None
    for number, one in enumerate(uses):
        standing = memory.look(standing, one, 1000 + number * every_ms)
        seen.append(standing.level)
    return seen


def test_levels_begin_lower_than_they_end():
    amounts = (2000, 410, 409, 500, 570, 574, 205, 204, 280, 287, 574, 3000)
    assert levels([use(mib) for mib in amounts]) == [
        OK, OK, WARNING, WARNING, WARNING, OK, WARNING, CRITICAL, CRITICAL, WARNING, OK, OK,
    ]  # fmt: skip


def test_one_process_more_or_less_is_no_news():
    assert set(levels([use(400 + 100 * (number % 2)) for number in range(50)])) == {WARNING}
    assert set(levels([use(190 + 80 * (number % 2)) for number in range(50)])) == {CRITICAL}


def test_free_swap_keeps_it_from_being_critical_and_from_nothing_else():
    assert levels([use(50, 1000)]) == [WARNING] and levels([use(50, 100)]) == [CRITICAL]
    assert levels([use(50, 0, swap_total=GIB)]) == [CRITICAL], "used up"


def test_a_large_dom0_may_have_a_small_share_left():
    assert levels([use(600, total=32 * GIB)]) == [OK] and levels([use(500, total=32 * GIB)]) == [WARNING]
    assert levels([use(100, total=1 * GIB)]) == [WARNING] and levels([use(110, total=1 * GIB)]) == [OK]


def test_a_leak_is_foreseen():
    leak = after([use(1600 - 20 * number) for number in range(12)])
    assert leak.level == WARNING and leak.soon, "40 MiB a minute"
    assert 30 * MINUTE < leak.empty_in_ms < 36 * MINUTE
    young = after([use(3900 - 20 * number) for number in range(12)])
    assert young.empty_in_ms and young.level == OK, "half of it is still there"


def test_what_is_taken_once_or_given_back_is_no_leak():
    assert after([use(1600)] * 120 + [use(900)] * 121).empty_in_ms == NEVER
    assert after([use(800 + 10 * number) for number in range(40)]).empty_in_ms == NEVER


def test_what_cannot_be_read_is_no_level():
    assert memory.look(None, memory.Use(0, 0, 0, 0), 1) is None
    guard = MemoryGuard(FakePort())
    guard.look((0, 0), (0, 0), 1)
    assert guard.standing is None and guard.users == ()
    assert reports.memory((0, 0), None, None, ()).level == pb.Disk.LEVEL_UNSPECIFIED


class Counting(FakePort):
    """Counts how often somebody looks who uses memory."""

    looked = 0

    def memory_users(self):
        self.looked += 1
        return (memory.User("xapi", 7, 3 * GIB),)


def test_who_uses_it_is_looked_at_only_while_a_level_is_crossed():
    port = Counting()
    guard = MemoryGuard(port)
    for number in range(20):
        guard.look((4 * GIB, 2 * GIB), (0, 0), 1000 + 2000 * number)
    assert port.looked == 0 and guard.users == ()
    guard.look((4 * GIB, 300 * MIB), (0, 0), 50000)
    guard.look((4 * GIB, 300 * MIB), (0, 0), 52000)
    assert port.looked == 1 and guard.users[0].name == "xapi"
    guard.look((4 * GIB, 100 * MIB), (0, 0), 54000)
    guard.look((4 * GIB, 100 * MIB), (0, 0), 54000 + AGAIN_MS)
    assert port.looked == 3
    guard.look((4 * GIB, 2 * GIB), (0, 0), 90000)
    assert port.looked == 3 and guard.users == ()


def test_a_report_tells_it():
    port = Counting()
    port.memory = lambda: (4 * GIB, 100 * MIB)
    side = HostSide(port)
    side.observer.look_at_host()
    told = next(make() for name, _, make in side.conversation._sections.all() if name == "memory")
    assert (told.total_bytes, told.level, told.empty_in_ms) == (4 * GIB, pb.Disk.CRITICAL, 0)
    assert [(user.name, user.pid, user.bytes) for user in told.biggest] == [("xapi", 7, 3 * GIB)]


# ------------------------------------------------------------------------------------------ who uses it


def process(tree, pid, pages, *words, **more):
    tree.put("proc/%d/statm" % pid, "%d %d 1 1 0 1 0\n" % (pages * 4, pages))
    tree.put("proc/%d/cmdline" % pid, "\0".join(words) + "\0" if words else "")
    tree.put("proc/%d/comm" % pid, more.get("comm", "x") + "\n")


def test_the_biggest_processes_by_the_names_that_people_know(tree):
    page = os.sysconf("SC_PAGE_SIZE")
    process(tree, 10, 500, "/opt/xensource/bin/xapi", "-writereadyfile")
    process(tree, 11, 900, "/usr/bin/python3.6", "-u", "/opt/backup/run.py", "--all")
    process(tree, 12, 700, "qemu-dm-7", "-machine", "pc")
    process(tree, 13, 600, comm="oxenstored")
    process(tree, 14, 0, comm="kworker/0:1")
    process(tree, 15, 550, "\x1b[31mred")
    process(tree, 16, 540, "xapi-storage-script", comm="xapi-storage-sc")
    tree.put("proc/16/stat", "16 (xapi-storage-sc) D 1 1 1")  # its command line would keep whoever reads it
    for pid in range(20, 40):
        process(tree, pid, 1, "sleep")
    assert [tuple(user) for user in memory_users.biggest(str(tree.root))] == [
        ("python3.6 run.py", 11, 900 * page),
        ("qemu-dm-7", 12, 700 * page),
        ("oxenstored", 13, 600 * page),
        ("?[31mred", 15, 550 * page),
        ("xapi-storage-sc", 16, 540 * page),
    ]


@pytest.mark.parametrize("statm", ["", "x", "1", "1 -5 2", "1 " + "9" * 40, "\0\0\0"])
def test_what_is_not_as_the_kernel_writes_it_is_left_out(tree, statm):
    tree.put("proc/10/statm", statm)
    tree.put("proc/12x/statm", "1 1 1")
    assert memory_users.biggest(str(tree.root)) == ()
    assert memory_users.biggest(tree.path("nowhere")) == ()


def test_this_very_machine_can_be_looked_at():
    found = memory_users.biggest("/")
    assert 1 <= len(found) <= memory_users.MOST and all(user.name and user.bytes > 0 for user in found)


def test_a_look_below_another_root_leaves_psutil_as_it_was(tmp_path):
    (tmp_path / "proc").mkdir()
    assert procfs.memory(str(tmp_path)) == (0, 0)
    assert psutil.PROCFS_PATH == "/proc" and procfs.memory("/")[0] > 0
