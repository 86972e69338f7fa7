"""What hangs of a host's storage: file systems that do not answer, processes that wait, and the last errors then."""

import threading

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.storage import Mount, Stalled, Storage, Waiting, Waits, errors, named, where
from poolwarden_agent.dom0.system.storage_mounts import MOST_MOUNTS, StorageLook, mounted, waiting
from poolwarden_agent.messages import storage as messages

UUID = "0f0e0d0c-0000-1111-2222-333344445555"
MOUNTS = (
    "sysfs /sys sysfs rw 0 0\n"
    "/dev/sda1 / ext3 rw 0 0\n"
    "10.0.0.9:/vms/%(uuid)s /run/sr-mount/%(uuid)s nfs rw,soft,timeo=200 0 0\n"
    "10.0.0.9:/vms/%(uuid)s /var/run/sr-mount/%(uuid)s nfs rw,soft,timeo=200 0 0\n"
    "//10.0.0.8/iso\\040images /run/sr-mount/iso cifs rw,user=root,password=x 0 0\n"
    "/dev/mapper/XSLocalEXT /run/sr-mount/local ext4 rw 0 0\n"
    "10.0.0.7:/home /home nfs rw 0 0\n"
) % {"uuid": UUID}
NFS = "10.0.0.9:/vms/%s on /run/sr-mount/%s" % (UUID, UUID)


class Server(object):
    """File systems: what hangs is not answered until it is let go."""

    def __init__(self):
        self.asked = []
        self.gone = set()
        self.back = threading.Event()
        self.answered = threading.Semaphore(0)

    def __call__(self, path):
        self.asked.append(path)
        if path in self.gone:
            assert self.back.wait(60)
        self.answered.release()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.back.set()


def test_only_network_file_systems_of_repositories_are_asked(tree):
    tree.put("proc/self/mounts", MOUNTS)
    found = mounted(str(tree.root))
    assert [(mount.source, mount.type) for mount in found] == [
        ("10.0.0.9:/vms/" + UUID, "nfs"),
        ("//10.0.0.8/iso images", "cifs"),
    ]


def test_one_that_hangs_is_told_and_never_asked_beside_itself(tree, server):
    tree.put("proc/self/mounts", MOUNTS)
    tree.put(
        "var/log/SMlog", "Jan  8 20:26:10 h1 SM: [23615] ***** NFS VHD: EXCEPTION <class 'SR.SROSError'>, timed out\n"
    )
    point = "/var/run/sr-mount/" + UUID
    look = StorageLook(str(tree.root), server)
    server.gone = {point, point.replace("/var", "")}
    seen = look.look(1000)
    assert seen.stalled == () and server.answered.acquire(timeout=30)
    assert look.look(5000).stalled == ()
    for now in range(6000, 600000, 2000):
        seen = look.look(now)
    assert len([path for path in server.asked if path in server.gone]) == 1
    assert len(server.asked) > 10  # the other one goes on
    assert (
        len(seen.stalled) == 1 and seen.stalled[0].since_ms == 1000 and seen.stalled[0].what.startswith("10.0.0.9:/vms")
    )
    assert len(seen.errors) == 1 and "NFS VHD: EXCEPTION" in seen.errors[0]
    server.back.set()
    question = look._questions[seen.stalled[0].what]
    while not question.answered:
        pass
    over = look.look(600001)
    assert over.stalled == () and over.errors == ()


def test_one_that_is_taken_from_the_table_while_it_hangs_still_hangs(tree, server):
    tree.put("proc/self/mounts", MOUNTS)
    look = StorageLook(str(tree.root), server)
    server.gone = {"/var/run/sr-mount/" + UUID, "/run/sr-mount/" + UUID}
    look.look(1000)
    tree.put("proc/self/mounts", "")
    assert len(look.look(20000).stalled) == 1


def test_mounts_that_come_and_hang_without_end_take_a_bounded_number_of_threads(tree, server):
    look = StorageLook(str(tree.root), server)
    for turn in range(2 * MOST_MOUNTS):
        point = "/run/sr-mount/%d" % turn
        server.gone.add(point)
        tree.put("proc/self/mounts", "10.0.0.9:/%d %s nfs rw 0 0\n" % (turn, point))
        look.look(turn * 10000)
    assert len(server.asked) <= MOST_MOUNTS


def test_an_error_is_an_answer(tree):
    def stale(_path):
        raise OSError(116, "Stale file handle")

    tree.put("proc/self/mounts", MOUNTS)
    look = StorageLook(str(tree.root), stale)
    look.look(1000)
    for question in look._questions.values():
        while not question.answered:
            pass
    assert look.look(9000).stalled == ()


def put_process(tree, pid, state, name="tapdisk", start=500):
    rest = " ".join(["1"] * 18)
    tree.put("proc/%d/stat" % pid, "%d (%s) %s %s %d 0 0\n" % (pid, name, state, rest, start))
    tree.put("proc/%d/wchan" % pid, "rpc_wait_bit_killable")


def test_processes_that_wait(tree):
    put_process(tree, 11, "D")
    put_process(tree, 12, "S")
    put_process(tree, 13, "D", "odd ) D (name")
    found = sorted(waiting(str(tree.root)))
    assert found == [
        Waiting(11, 500, "tapdisk", "rpc_wait_bit_killable"),
        Waiting(13, 500, "odd ) D (name", "rpc_wait_bit_killable"),
    ]


def test_a_process_waits_when_it_did_at_two_looks():
    waits, one = Waits(), Waiting(11, 500, "tapdisk", "")
    assert waits.seen([one], 0) == () and waits.seen([one], 10000) == ()
    assert waits.seen([one], 20000) == (Stalled("process tapdisk (pid 11) waits for its disk", 0),)
    assert waits.seen([one._replace(start=501)], 30000) == ()
    assert waits.seen([], 40000) == () and waits.seen([one], 50000) == ()


def test_last_errors_once_each():
    lines = ["Jan  8 20:26:10 h1 SM: [1] lock: opening lock file /var/lock/sm/x/sr"]
    lines += [
        "Jan  8 20:26:%02d h1 kernel: [1.1] nfs: server 10.0.0.9 not responding, still trying" % n for n in range(30)
    ]
    lines += [
        "Jan  8 20:27:%02d h1 SM: [%d] Raising exception [47, The SR is not available]" % (n, n) for n in range(9)
    ]
    found = errors(lines)
    assert len(found) == 5 and found[-1].endswith("SR is not available]")
    assert len([line for line in errors(lines[:31]) if "not responding" in line]) == 1
    secret = "Jan  8 20:26:10 h1 SM: [1] FAILED in util.pread: (rc 32) mount.cifs -o username=root,password=hunter2"
    assert "hunter2" not in errors([secret])[0]


@pytest.mark.parametrize(
    "config, told",
    [
        ({"server": "10.0.0.9", "serverpath": "/vms", "options": ""}, "10.0.0.9:/vms"),
        (
            {"target": "10.0.0.5", "targetIQN": "iqn.2026:x", "chapuser": "u", "chappassword": "hunter2"},
            "10.0.0.5 iqn.2026:x",
        ),
        ({"server": "\\\\10.0.0.8\\vms", "username": "u", "password": "hunter2"}, "\\\\10.0.0.8\\vms"),
        ({"SCSIid": "36001405"}, "SCSI id 36001405"),
        ({"device": "/dev/disk/by-id/x"}, ""),
        ({"location": "/dev/xapi/block", "type": "block"}, ""),
        ({"location": "10.0.0.8:/iso", "type": "nfs_iso"}, "10.0.0.8:/iso"),
        ({"location": "//user:hunter2@10.0.0.8/iso"}, "//...@10.0.0.8/iso"),
        ({}, ""),
    ],
)
def test_where_storage_is(config, told):
    assert where(config) == told


def test_the_section():
    hangs = Storage(9000, (Stalled(NFS, 1000),), ("an error",))
    facts = messages.storage((), hangs)
    assert facts.stalled[0].what == NFS and facts.looked_mono_ms == 9000 and list(facts.sm_errors) == ["an error"]
    assert messages.storage((), Storage(9000)) == pb.StorageFacts()
    assert named(Mount("a\nb", "/run/sr-mount/x", "nfs")) == "a\\x0ab on /run/sr-mount/x"
