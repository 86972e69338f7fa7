"""A xapi that is wedged in every way it can be, for simulated hours: real sockets, the real client, an injected clock.

What must stay flat: the agent's descriptors and threads, and what it costs xapi. A hanging thread of xapi's does not
end when its client goes away, so each connection that was accepted and not answered counts. All of it is counted by the
kernel (/proc/self/fd, /proc/self/task, /proc/net), at every look of the hours and once more when they are over.
"""

import contextlib
import os
import socket

import pytest

from poolwarden_agent.config import load
from poolwarden_agent.core import probe_rules
from poolwarden_agent.dom0.dom0 import Dom0
from poolwarden_agent.dom0.xapi.look_pacing import FIRST_S, LONGEST_S, Patience
from poolwarden_agent.host import observer
from poolwarden_agent.host.host_side import HostSide

from .conftest import configure
from .fake_xapi import ALIVE, EMERGENCY, LOCAL_LOGIN, LOGIN, FakeXapi, fault, http, says
from .tree import until

HOURS = 6
ROUND_S = 60
ROUNDS = HOURS * 3600 // ROUND_S
LIMIT_MS = 2
MOST_COSTS = ROUNDS // 3  # after 1, 2, 4 ... minutes, then once an hour: a dozen; a busy machine gives up more of them
UNDER_WAY = 8  # descriptors or threads that looks under way may have, both ends, before the fake xapi counts its own
LOOKS = 4  # that may each keep one connection for an answer under way: one of each kind (local, full) at both doors
LISTENS = 0x10000  # among a Unix socket's flags
HAS_THREAD = ("01", "08")  # established, or closed by us only (CLOSE_WAIT): xapi's thread is still there


class Rig(object):
    """A dom0 with two doors of a xapi, looked at by the real observer on a clock moved by hand."""

    def __init__(self, tree, monkeypatch):
        self.now = 5000.0
        self.tree = tree
        self.unix = FakeXapi(tree.path("var/lib/xcp/xapi"))
        self.tcp = FakeXapi()
        for server in (self.unix, self.tcp):
            server.logs_in()
            server.asks_session(EMERGENCY, False)
        for name, limit in (("LOCAL_LIMIT_MS", 1), ("SOCKET_LIMIT_MS", 1), ("VIEW_LIMIT_MS", 5)):
            monkeypatch.setattr(observer, name, limit * LIMIT_MS)
        tree.xapi_runs(os.getpid())
        tree.put("var/run/xapi_startup.cookie", "")
        configure(tree, 1)
        config = load(tree.path("etc/poolwarden/agent.conf"), str(tree.root))
        config = config._replace(xapi_http=("127.0.0.1", self.tcp.port))
        self.port = Dom0(str(tree.root), config, lambda: self.now)
        self.side = HostSide(self.port)
        self.observer = self.side.observer
        self.observer.look_at_host()
        self.highest = (0, 0)  # descriptors and threads of ours at any look

    def settle(self):
        """All answers come, slowly though a loaded machine may be."""
        until(lambda: self.look().word == "answers", what="a xapi that answers")

    def look(self):
        self.now += ROUND_S
        self.observer.look_at_xapi(True, 5000)
        self.highest = tuple(max(pair) for pair in zip(self.highest, ours(self)))
        return self.observer.seen.health

    def hours(self):
        """The words of some hours of looking."""
        self.highest = (0, 0)
        return [self.look().word for _ in range(ROUNDS)]

    def costs(self):
        """Connections that either xapi ever took without giving an answer."""
        return len(self.unix.open) + len(self.tcp.open)

    def close(self):
        self.unix.close()
        self.tcp.close()


@pytest.fixture
def rig(tree, monkeypatch):
    made = Rig(tree, monkeypatch)
    yield made
    made.close()


def ours(rig):
    """Descriptors and threads of this process without those of the fake xapi's hung side."""
    return len(os.listdir("/proc/self/fd")) - rig.costs(), len(os.listdir("/proc/self/task")) - rig.costs()


def taken(door):
    """How many connections the kernel holds at a xapi's door, though we closed them long ago: a path or a port."""
    if isinstance(door, str):
        with open("/proc/net/unix") as file:
            rows = [row.split() for row in file]
        return sum(row[-1] == door and not int(row[3], 16) & LISTENS for row in rows[1:])
    with open("/proc/net/tcp") as file:
        rows = [row.split() for row in file]
    return sum(row[1].endswith(":%04X" % door) and row[3] in HAS_THREAD for row in rows[1:])


def flat(rig, before):
    """Neither while the hours passed nor after them had we more than at their begin and what looks may keep."""
    for most, at_first in zip(rig.highest, before):
        assert most <= at_first + UNDER_WAY, (rig.highest, before)

    def over():
        descriptors, threads = ours(rig)
        return descriptors <= before[0] + LOOKS and threads <= before[1]

    until(over, what="flat: %s" % (before,))


def quiet(rig):
    """What there is of ours while nothing is under way."""
    return until(lambda: rig.costs() == 0 and ours(rig), what="a moment of quiet")


HANGS = {
    "both doors": ([ALIVE], [EMERGENCY, LOCAL_LOGIN]),
    "only TCP": ([ALIVE], []),
    "only the local socket": ([], [EMERGENCY]),
    "the local login": ([], [LOCAL_LOGIN]),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", sorted(HANGS))
def test_a_xapi_that_hangs_for_hours_costs_next_to_nothing(rig, how):
    rig.settle()
    before = quiet(rig)
    tcp, unix = HANGS[how]
    for method in tcp:
        rig.tcp.behaviours[method] = rig.tcp.hangs
    for method in unix:
        rig.unix.behaviours[method] = rig.unix.hangs
    if LOCAL_LOGIN in unix:
        del rig.unix.sessions[:]
    words = rig.hours()
    assert words[0] in ("slow", "answers") and set(words[3:]) == {"hung"}, words[:5]
    assert "does not answer" in rig.observer.seen.health.text and "restart-xapi" in rig.observer.seen.health.help
    doors = bool(tcp) + bool(unix)
    doors_taken = taken(rig.tcp.port), taken(rig.tree.path("var/lib/xcp/xapi"))
    assert max(doors_taken) <= MOST_COSTS and bool(doors_taken[0]) >= bool(tcp) and bool(doors_taken[1]) >= bool(unix)
    assert rig.costs() <= doors * MOST_COSTS
    flat(rig, before)


@pytest.mark.slow
def test_a_master_whose_view_hangs_in_the_middle(rig):
    """The session works, the second call never ends: no new connection each time a view is due."""
    rig.tree.put("etc/xensource/pool.conf", "master")
    rig.tree.put("var/run/xapi.pid", "%d\n" % os.getpid())
    rig.unix.logs_in(LOGIN)
    rig.unix.asks_session("pool.get_all", ["OpaqueRef:p"])
    rig.observer.look_at_host()
    rig.settle()
    before = quiet(rig)
    rig.unix.behaviours["pool.get_record"] = rig.unix.hangs
    until(lambda: rig.look() and "pool.get_record" in rig.unix.methods())
    rig.hours()
    assert 0 < rig.costs() <= MOST_COSTS and rig.observer.view is None
    assert 0 < taken(rig.tree.path("var/lib/xcp/xapi")) <= MOST_COSTS
    flat(rig, before)


def takes_its_time(monkeypatch):
    """Where every door answers or refuses at once, a generous limit costs nothing; a busy machine changes no word."""
    for name in ("LOCAL_LIMIT_MS", "SOCKET_LIMIT_MS"):
        monkeypatch.setattr(observer, name, 1000)


def full(listener):
    """Connections that fill a listener's queue."""
    held = []
    for _ in range(600):
        one = socket.socket(listener.family, socket.SOCK_STREAM)
        one.setblocking(False)
        held.append(one)
        try:
            one.connect(listener.getsockname())
        except BlockingIOError:
            if listener.family == socket.AF_UNIX:
                return held
        except OSError:
            return held
    return held


@pytest.mark.slow
def test_a_xapi_whose_queue_is_full_is_wedged(rig, monkeypatch):
    """Its threads are used up: nobody calls accept any more, and the kernel takes no more connections."""
    for name in ("LOCAL_LIMIT_MS", "SOCKET_LIMIT_MS"):
        monkeypatch.setattr(
            observer, name, 1000
        )  # one door refuses at once and the other answers: nothing takes as long
    rig.settle()
    before = quiet(rig)
    path = rig.tree.path("var/lib/xcp/xapi")
    os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    held = full(listener)
    try:
        waiting, before = taken(path), (ours(rig)[0], before[1])
        words = rig.hours()
        assert set(words[10:]) == {"wedged"}, words
        assert "accepts no connection on" in rig.observer.seen.health.text
        assert taken(path) <= waiting + 1, "its queue has room for no more, and nobody of ours waits for room"
        flat(rig, before)
    finally:
        for one in held + [listener]:
            one.close()


@pytest.mark.slow
def test_a_stopped_xapi_whose_kernel_still_accepts_is_hung(rig):
    """As by SIGSTOP: connections are taken by the kernel, and nobody reads them."""
    rig.settle()
    before = quiet(rig)
    path = rig.tree.path("var/lib/xcp/xapi")
    os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    before = (before[0] + 1, before[1])
    try:
        assert set(rig.hours()[3:]) == {"hung"}
        assert 0 < taken(path) <= MOST_COSTS
        flat(rig, before)
        waiting = 0
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()
                waiting += 1
        assert waiting <= MOST_COSTS
    finally:
        listener.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closes", "500", "garbage", "dribbles"])
def test_a_xapi_that_answers_nonsense_is_no_leak(rig, how):
    rig.settle()
    before = quiet(rig)

    def dribbles(connection, _params):
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            rig.unix.release.wait(0.05)

    what = {
        "closes": says(b""),
        "500": says(http("<html>error</html>", "500 Internal Error")),
        "garbage": says(b"\0" * 70000),
        "dribbles": dribbles,
    }
    for server in (rig.unix, rig.tcp):
        server.behaviours[EMERGENCY] = server.behaviours[ALIVE] = what[how]
    for _ in range(ROUNDS // 4):
        rig.look()
    assert rig.observer.seen.health.word in ("hung", "slow")
    until(lambda: rig.costs() == 0, what="every connection closed by both ends")
    flat(rig, before)


def test_it_is_seen_again_as_soon_as_it_answers(rig):
    rig.settle()
    rig.tcp.behaviours[ALIVE] = rig.tcp.hangs
    rig.unix.behaviours[EMERGENCY] = rig.unix.hangs
    for _ in range(30):
        rig.look()
    assert rig.observer.seen.health.word == "hung"
    rig.tcp.behaviours[ALIVE] = FakeXapi().behaviours[ALIVE]
    rig.unix.asks_session(EMERGENCY, False)
    until(lambda: rig.look().word == "answers", what="an answer again")


def test_a_xapi_that_is_gone_is_down_and_a_young_one_starts(rig):
    rig.settle()
    rig.close()
    os.unlink(rig.tree.path("var/lib/xcp/xapi"))
    assert rig.look().word == "down" and "listens nowhere" in rig.observer.seen.health.text
    os.unlink(rig.tree.path("var/run/xapi.pid"))
    assert rig.look().text == "xapi does not run"


def test_emergency_says_why_and_what_helps(rig):
    rig.settle()
    rig.unix.asks_session(EMERGENCY, True)
    rig.unix.behaviours["host.local_assert_healthy"] = fault("SESSION_AUTHENTICATION_FAILED", "x", "y")
    health = until(lambda: rig.look().word == "emergency" and rig.observer.seen.code and rig.observer.seen.health)
    assert "pool secret" in health.text and "SESSION_AUTHENTICATION_FAILED" in health.text and "ptoken" in health.help


@pytest.mark.slow
def test_an_orphan_is_told_from_its_flag(rig, monkeypatch):
    takes_its_time(monkeypatch)
    rig.settle()
    rig.observer.keep_only({"m": "127.0.9.9"})
    master = probe_rules.ProbeResult(probe_rules.NO_ANSWER, "", "silent")
    rig.port.alive_peer = lambda address, limit_ms, port=443: master
    for _ in range(4):
        rig.observer.look_at_peer("m", "127.0.9.9", 10)
        rig.now += 10
    until(lambda: rig.look().word == "orphaned")
    before = quiet(rig)
    assert set(rig.hours()) == {"orphaned"}
    assert LOGIN not in rig.unix.methods(), "no login that hangs on an orphan"
    flat(rig, before)


def test_patience_doubles_up_to_an_hour_and_an_answer_resets_it():
    now = [0.0]
    patience, asked = Patience(lambda: now[0]), []
    patience.begin()
    while now[0] < 24 * 3600:
        now[0] += 30
        if patience.over():
            asked.append(now[0])
            patience.begin()
    gaps = [later - earlier for earlier, later in zip([0.0] + asked, asked)]
    assert gaps[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S] and max(gaps) == LONGEST_S
    assert len(gaps) < 30
    patience.answered()
    patience.begin()
    now[0] += FIRST_S
    assert patience.over()
