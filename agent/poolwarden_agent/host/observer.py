"""What the host side has observed: cheap facts read for each report, xapi's behaviour and probes kept from observers.

Rules
-----
* A normal login is made only where pool.conf says master *and* the running xapi started after that was written *and* it
  answers: on a member whose master is gone a login hangs for ever and keeps a server thread.
* The dummy login that asks a member for its master goes only to a settled member, and seldom.
* Every kept observation carries the instant at which it ended; nothing here assumes that an old one still holds.
* An answer that comes late is an answer: xapi is slow then, and neither silent nor, as a master, out of its role.
* The database file can be large: it is parsed when it has changed and not often, for its pool row alone.
"""

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from poolwarden_agent.core import memory, xapi_starts
from poolwarden_agent.core.addresses import is_address, same
from poolwarden_agent.core.health import Health, Look, plain_words
from poolwarden_agent.core.health import judge as judge_health
from poolwarden_agent.core.host_now import MASTER, MEMBER, NO_PROCESS, Process
from poolwarden_agent.core.host_records import HostRecords
from poolwarden_agent.core.probe_rules import (
    ANSWERED,
    ANSWERS,
    IN_TIME,
    NO_ANSWER,
    REFUSED,
    SILENT,
    UNKNOWN,
    Watch,
    lateness,
    liveness,
    orphaned,
    watched,
)
from poolwarden_agent.core.storage import Storage
from poolwarden_agent.dom0.xapi.database import View
from poolwarden_agent.host.disk_guard import DiskGuard
from poolwarden_agent.host.memory_guard import MemoryGuard
from poolwarden_agent.host.trouble_watch import TroubleWatch
from poolwarden_agent.host_port import TLS_PORT, Emergency, HostPort, PoolView, Toolstack

LOCAL_LIMIT_MS = 1000
SOCKET_LIMIT_MS = 3000
VIEW_LIMIT_MS = 5000
ASK_MEMBER_EVERY_MS = 10000
ASK_MEMBER_SELDOM_MS = 3600000  # at most, where it does not say
AROUND_EVERY_MS = 30000
PARSE_EVERY_MS = 300000
PARSE_AGAIN_MS = 60000  # where the pool is not known yet
OWN_MASTER = "@"  # the watch of pool.conf's master where the collector names no target with that address
MOST_LEFT = 64

HostSeen = NamedTuple(
    "HostSeen",
    [
        ("at_ms", int),
        ("role", str),
        ("master", str),
        ("source", str),
        ("generation", int),
        ("generation_since_ms", int),
        ("ha_armed", Optional[bool]),
        ("disks", List[Any]),
        ("memory", Tuple[int, int]),
        ("domains", Optional[List[str]]),
        ("address", str),
        ("pool", str),
        ("rolling_upgrade", Optional[bool]),
        ("member_since_ms", int),
        ("toolstack", Optional[Toolstack]),  # None: not held, or not looked at yet
        ("written_s", int),  # when the database file was written, by the wall clock; 0: not known
        ("sound", Optional[bool]),  # could xapi load that very file; None: it has not been read to its end
        ("unsound", str),
    ],
)
HOST_NOT_SEEN = HostSeen(0, "", "", "", 0, 0, None, [], (0, 0), None, "", "", None, 0, None, 0, None, "")

XapiSeen = NamedTuple(
    "XapiSeen",
    [
        ("at_ms", int),
        ("tcp", str),
        ("tcp_since_ms", int),
        ("socket", str),
        ("socket_since_ms", int),
        ("process", Process),
        ("emergency", Optional[bool]),
        ("code", str),
        ("text", str),
        ("startup_cookie", bool),
        ("running", str),
        ("running_master", str),
        ("serves", bool),
        ("health", Health),
        ("health_since_ms", int),
        ("slow_ms", int),  # how long the last late answer took, of either door; 0: answers come in time
        ("unasked_starts", int),  # in the last ten minutes
        ("ended_ms", int),  # when a process was last found gone; 0: never
    ],
)
NO_HEALTH = Health(UNKNOWN, "", "")
NOT_SEEN = XapiSeen(
    0, UNKNOWN, 0, UNKNOWN, 0, NO_PROCESS, None, "", "", False, "", "", False, NO_HEALTH, 0, 0, 0, 0
)  # fmt: skip


class Observer(object):
    """Keeps observations; its ``look_*`` methods may run in threads of their own, the rest is read at any time."""

    def __init__(self, port: HostPort, held: Callable[[], bool] = lambda: False) -> None:
        self._port = port
        self._held = held
        self._lock = threading.Lock()
        self.seen = NOT_SEEN
        self.host = HOST_NOT_SEEN
        self.watches: Dict[str, Watch] = {}
        self.probes_at_ms = 0
        self.view: Optional[PoolView] = None
        self.view_at_ms = 0
        self._wanted: Dict[str, str] = {}
        self._left: Dict[str, Watch] = {}  # by address, of peers that are watched no more and were reached
        self._parsed: Tuple[Optional[int], str, int, Process, int] = (None, "", 0, NO_PROCESS, 0)
        self._looking = threading.Lock()
        self.guard = DiskGuard(port)
        self.memory_guard = MemoryGuard(port)
        self.trouble = TroubleWatch(port)
        self.storage: Optional[Storage] = None  # what of it hangs
        self.around: Optional[Any] = None  # a surroundings.Surroundings
        self.records: Optional[HostRecords] = None  # this host's own, of the database that was read last
        self._around_ms = 0
        self._asked_member_ms: Optional[int] = None
        self._asked_process = NO_PROCESS
        self._ask_again_ms = ASK_MEMBER_EVERY_MS
        self._late = {"tcp": IN_TIME, "socket": IN_TIME}
        self._verified = NO_PROCESS  # the process whose own login has found it to be the pool's master
        self._view_tried_ms = 0  # since when a view is being put together; 0: none is
        self._starts = xapi_starts.NONE_SEEN
        self._read: Tuple[str, int, int, Optional[bool], str] = ("", 0, 0, None, "")  # the file, and what came of it

    def look_at_host(self) -> None:
        """One round of looking at files, disks and domains; xenstored and a big database file may take their time."""
        with self._looking:
            self.host = self._host_facts(self.host)
            self.guard.look(self.host.disks, self.host.at_ms)
            self.storage = self._port.storage()
            seen = self.seen
            if seen.at_ms:
                self.trouble.look(seen.process, seen.health.word, self._held(), self.host.at_ms)
            self._look_around()
            swap = self.around.swap if self.around is not None else (0, 0)
            self.memory_guard.look(self.host.memory, swap, self.host.at_ms)
            if self._parse_due(self.host):
                self.host = self._parse(self.host)

    def memory(self) -> Tuple[Optional[memory.Standing], Tuple[memory.User, ...]]:
        """The standing of dom0's memory without its samples, and who uses it where a level is crossed."""
        standing = self.memory_guard.standing
        return standing._replace(samples=()) if standing is not None else None, self.memory_guard.users

    def _look_around(self) -> None:
        """What changes seldom, seldom."""
        now = self.host.at_ms
        if self.around is None or now - self._around_ms >= AROUND_EVERY_MS:
            self._around_ms = now
            self.around = self._port.surroundings()

    def _host_facts(self, before: HostSeen) -> HostSeen:
        port = self._port
        role, master = port.role()
        source, generation = port.generation()
        armed, disks, memory = port.ha_armed(), port.disks(), port.memory()
        domains, address = port.domains(), port.management_address()
        toolstack = port.toolstack() if self._held() else None
        now = port.mono_ms()
        known = before.at_ms != 0 and (generation, source) == (before.generation, before.source)
        # What an agent finds when it starts may be of long ago: since when is not known until it changes.
        generation_since = before.generation_since_ms if known else (now if before.at_ms != 0 else 0)
        written_s = port.database_written_s()
        read = self._read
        # Of the very file that is there: another one, or one that was written anew, has not been read.
        sound, unsound = read[3:] if read[:3] == (source, generation, written_s) else (None, "")
        member_since = before.member_since_ms if before.role == role == MEMBER else (now if role == MEMBER else 0)
        return HostSeen(
            now, role, master, source, generation, generation_since, armed, disks, memory,
            domains, address, before.pool, before.rolling_upgrade, member_since, toolstack, written_s,
            sound, unsound,
        )  # fmt: skip

    def _parse_due(self, host: HostSeen) -> bool:
        parsed_ms, source, generation, process, written_s = self._parsed
        if parsed_ms is None:
            return True
        age = host.at_ms - parsed_ms
        if not host.pool:
            return age >= PARSE_AGAIN_MS
        if (source, generation, written_s) == (host.source, host.generation, host.written_s):
            return False
        return age >= PARSE_EVERY_MS or process != self._port.process()

    def _parse(self, host: HostSeen) -> HostSeen:
        """The pool and its upgrade mark; an unreadable file leaves the pool as it was known."""
        view = self._port.database()
        self._parsed = (self._port.mono_ms(), host.source, host.generation, self._port.process(), host.written_s)
        self.database_read(view, host.written_s)
        if self._read[:3] == (host.source, host.generation, host.written_s):
            host = host._replace(sound=view.sound, unsound=view.unsound)
        if not view.readable:
            return host._replace(rolling_upgrade=None)
        return host._replace(pool=view.pool or host.pool, rolling_upgrade=view.rolling_upgrade)

    def database_read(self, view: View, written_s: int) -> None:
        """The database was read, here or for an order; ``written_s``: when that file had been written, before that."""
        self._read = (view.source, view.generation, written_s, view.sound, view.unsound)
        self.records = view.records

    def look_at_xapi(self, want_view: bool, view_interval_ms: int) -> None:
        """One round of looking at the own xapi: TCP, socket, role, and on a serving master its view of the pool."""
        port, before = self._port, self.seen
        process = port.process()
        starts = self._note_start(process)
        age = port.process_age_ms()
        startup = port.startup_cookie()
        began = port.mono_ms()
        door = port.alive_local(LOCAL_LIMIT_MS)
        between = port.mono_ms()
        emergency = port.emergency(SOCKET_LIMIT_MS)
        took = between - began, port.mono_ms() - between
        slow_ms = self._slowness(door.late_ms, door.outcome, emergency.late_ms, emergency.outcome)
        tcp = self._unless_slow("tcp", liveness(door.outcome, age, startup))
        sock = self._unless_slow("socket", self._socket_liveness(emergency, age, startup))
        running, master = self._running_role(tcp, process, before)
        serves = self._serves(tcp, want_view, view_interval_ms, running, process)
        now = port.mono_ms()
        since = (
            before.tcp_since_ms if before.tcp == tcp else now,
            before.socket_since_ms if before.socket == sock else now,
        )
        accepts = door.accepted and emergency.accepted
        took = max(took[0], self._late["tcp"].took_ms), max(took[1], self._late["socket"].took_ms)
        health = self._health(tcp, sock, (now - since[0], now - since[1]), took, accepts, age, emergency)
        self.seen = XapiSeen(
            now,
            tcp,
            since[0],
            sock,
            since[1],
            process,
            emergency.flag,
            emergency.code if emergency.flag else "",
            plain_words(emergency.code) if emergency.flag else "",
            startup,
            running,
            master,
            serves,
            health,
            before.health_since_ms if before.health.word == health.word else now,
            slow_ms,
            len(starts.began),
            starts.ended_ms,
        )

    def start_asked(self) -> None:
        """An order, or an operator on this host, has xapi started, stopped or take another role."""
        with self._lock:
            self._starts = xapi_starts.asked(self._starts, self._port.mono_ms())

    def _note_start(self, process: Process) -> xapi_starts.Starts:
        role = self._port.role()
        with self._lock:
            self._starts = xapi_starts.looked(self._starts, process, role, self._port.mono_ms())
            return self._starts

    def _slowness(self, tcp_ms: int, tcp: str, socket_ms: int, socket: str) -> int:
        """Note late answers of both doors; how long the last one took."""
        now = self._port.mono_ms()
        self._late = {
            "tcp": lateness(self._late["tcp"], tcp, tcp_ms, now),
            "socket": lateness(self._late["socket"], socket, socket_ms, now),
        }
        return max(late.took_ms for late in self._late.values())

    def _unless_slow(self, door: str, seen: str) -> str:
        return ANSWERS if seen == SILENT and self._late[door].took_ms else seen

    def _health(
        self,
        tcp: str,
        sock: str,
        silent: Tuple[int, int],
        took: Tuple[int, int],
        accepts: bool,
        age: Optional[int],
        emergency: Emergency,
    ) -> Health:
        orphaned, flag = self.orphaned()[0], emergency.flag is True
        look = Look(
            tcp,
            silent[0],
            took[0],
            sock,
            silent[1],
            took[1],
            accepts,
            age,
            flag,
            emergency.code,
            orphaned,
            self._held(),
        )
        return judge_health(look)

    def orphaned(self) -> Tuple[bool, int]:
        """Does this member's master leave it without an answer, and since when did it not answer?"""
        host = self.host
        if host.role != MEMBER:
            return False, 0
        watch = next((w for w in self.watches.values() if same(w.address, host.master)), None)
        since = watch.unanswered_since_ms if watch is not None else 0
        return orphaned(watch, host.member_since_ms, self._port.mono_ms()), since

    def _socket_liveness(self, emergency: Emergency, age: Optional[int], startup: bool) -> str:
        outcome = {ANSWERED: ANSWERED, NO_ANSWER: NO_ANSWER, REFUSED: REFUSED}[emergency.outcome]
        if outcome == NO_ANSWER and age is not None and startup:
            return SILENT
        return liveness(outcome, age, startup)

    def _running_role(self, tcp: str, process: Process, before: XapiSeen) -> Tuple[str, str]:
        """The role in the running process's memory: read at its start, it never changes while that process lives."""
        kind, _ = self._port.role()
        if process != NO_PROCESS and process == before.process and before.running == MASTER:
            return MASTER, ""  # whatever pool.conf says by now, this process still serves
        if process == NO_PROCESS or not self._port.role_settled():
            return (before.running, before.running_master) if process == before.process else ("", "")
        if kind == MASTER:
            return MASTER, ""
        if kind != MEMBER or tcp != ANSWERS:
            return ("", "") if process != before.process else (before.running, before.running_master)
        now = self._port.mono_ms()
        if process != self._asked_process:
            self._asked_member_ms, self._ask_again_ms = None, ASK_MEMBER_EVERY_MS
        if self._asked_member_ms is None or now - self._asked_member_ms >= self._ask_again_ms:
            self._asked_member_ms, self._asked_process = now, process
            named = self._port.running_master(LOCAL_LIMIT_MS)
            # Each that is not answered may cost xapi a thread: ask ever more seldom.
            longer = min(self._ask_again_ms * 2, ASK_MEMBER_SELDOM_MS)
            self._ask_again_ms = ASK_MEMBER_EVERY_MS if named else longer
            return (MEMBER, named) if named else ("", "")
        return (MEMBER, before.running_master) if before.running == MEMBER else ("", "")

    def _serves(self, tcp: str, want_view: bool, view_interval_ms: int, running: str, process: Process) -> bool:
        if running != MASTER or tcp != ANSWERS:
            self.view = None
            return False
        now = self._port.mono_ms()
        same = self.seen.serves and self.seen.process == process
        if same and self.view is not None and (not want_view or now - self.view_at_ms < view_interval_ms):
            return True
        self._view_tried_ms = self._view_tried_ms or now
        view = self._port.pool_view(VIEW_LIMIT_MS)
        if view is not None:
            in_one = self._port.mono_ms() if self._view_tried_ms == now else self._view_tried_ms
            self.view, self.view_at_ms, self._view_tried_ms = view, in_one, 0
        elif self._verified == process and any(late.took_ms for late in self._late.values()):
            return True  # a login that is slow is none that failed, and a running process never changes its role
        elif same and self.view is not None and now - self.view_at_ms < 3 * max(view_interval_ms, VIEW_LIMIT_MS):
            return True
        else:
            self.view = None
        serves = self.view is not None and self.view.master == self._port.identity().host
        self._verified = process if serves else NO_PROCESS
        return serves

    def look_at_peer(self, target: str, address: str, limit_ms: int, port: int = TLS_PORT) -> Watch:
        """Probe one peer; the result is kept if that peer is one to be watched at that address (over TLS)."""
        result = self._port.alive_peer(address, limit_ms, port)
        if port != TLS_PORT:  # another door: its answers are no part of what is known of the first one
            return watched(None, target, address, result, self._port.mono_ms())
        with self._lock:
            now = self._port.mono_ms()
            watch = watched(self.watches.get(target), target, address, result, now)
            if self._wanted.get(target) == address:
                self.watches = dict(self.watches, **{target: watch})
                self.probes_at_ms = now
        return watch

    def keep_only(self, targets: Dict[str, str]) -> None:
        """Watch these peers from now on, by host; forget those that are no longer to be probed."""
        with self._lock:
            own, known = self._wanted.get(OWN_MASTER), self.watches.get(OWN_MASTER)
            self._wanted = dict(targets, **({OWN_MASTER: own} if own else {}))
            self._remember({host: watch for host, watch in self.watches.items() if host not in self._wanted})
            self.watches = {host: watch for host, watch in self.watches.items() if host in self._wanted}
            for host, address in targets.items():
                if known is not None and known.address == address and host not in self.watches:
                    self.watches[host] = known._replace(target=host)
                elif host not in self.watches and address in self._left:
                    self.watches[host] = self._left[address]._replace(target=host)

    def _remember(self, dropped: Dict[str, Watch]) -> None:
        """What was reached of a peer is kept by its address.

        A collector that is new to the pool learns its hosts one by one: its first lists are short.
        """
        kept = dict(self._left, **{watch.address: watch for watch in dropped.values() if watch.answered_ms})
        newest = sorted(kept.values(), key=lambda watch: watch.answered_ms)[-MOST_LEFT:]
        self._left = {watch.address: watch for watch in newest}

    def to_probe(self) -> Dict[str, str]:
        """Peers to probe: host -> address; the wanted ones, and pool.conf's master where that is none of them."""
        host = self.host
        with self._lock:
            targets = {target: address for target, address in self._wanted.items() if target != OWN_MASTER}
            named = any(same(address, host.master) for address in targets.values())
            own = host.master if host.role == MEMBER and is_address(host.master) and not named else ""
            if own != self._wanted.get(OWN_MASTER, ""):
                self._watch_own_master(targets, own)
            return dict(self._wanted)

    def _watch_own_master(self, targets: Dict[str, str], address: str) -> None:
        """Watch pool.conf's master beside these targets; empty: no more. The lock is held."""
        self._wanted = dict(targets, **({OWN_MASTER: address} if address else {}))
        if address in self._left:
            self.watches = dict(self.watches, **{OWN_MASTER: self._left[address]._replace(target=OWN_MASTER)})
        self.watches = {host: watch for host, watch in self.watches.items() if host in self._wanted}
