"""What the host side has observed: cheap facts read for each report, xapi's behaviour and probes kept from observers.

Rules
-----
* A normal login is made only where pool.conf says master *and* the running xapi started after that was written *and* it
  answers: on a member whose master is gone a login hangs for ever and keeps a server thread.
* The dummy login that asks a member for its master goes only to a settled member, and seldom.
* Every kept observation carries the instant at which it ended; nothing here guesses that an old one still holds.
"""

import threading
from typing import Dict, NamedTuple, Optional

from poolwarden_agent.core.gate import MASTER, MEMBER, NO_PROCESS, Process
from poolwarden_agent.core.judge import (
    ANSWERED,
    ANSWERS,
    NO_ANSWER,
    REFUSED,
    SILENT,
    UNKNOWN,
    Watch,
    liveness,
    plain_words,
    watched,
)
from poolwarden_agent.dom0.port import Emergency, HostPort, PoolView

LOCAL_LIMIT_MS = 1000
SOCKET_LIMIT_MS = 3000
VIEW_LIMIT_MS = 5000
ASK_MEMBER_EVERY_MS = 10000

XapiSeen = NamedTuple(
    "XapiSeen",
    [
        ("at_ms", int),
        ("tcp", str),
        ("tcp_since_ms", int),
        ("socket", str),
        ("socket_since_ms", int),
        ("process", Process),
        ("age_ms", int),
        ("emergency", Optional[bool]),
        ("code", str),
        ("text", str),
        ("startup_cookie", bool),
        ("init_cookie", bool),
        ("running", str),
        ("running_master", str),
        ("serves", bool),
        ("serves_since_ms", int),
    ],
)
NOT_SEEN = XapiSeen(0, UNKNOWN, 0, UNKNOWN, 0, NO_PROCESS, 0, None, "", "", False, False, "", "", False, 0)


class Observer(object):
    """Keeps observations; its ``look_*`` methods may run in threads of their own, the rest is read at any time."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.seen = NOT_SEEN
        self.watches: Dict[str, Watch] = {}
        self.probes_at_ms = 0
        self.view: Optional[PoolView] = None
        self.view_at_ms = 0
        self.member_since_ms = 0
        self._asked_member_ms: Optional[int] = None
        self._asked_process = NO_PROCESS

    def look_at_xapi(self, want_view: bool, view_interval_ms: int) -> None:
        """One round of looking at the own xapi: TCP, socket, role, and on a serving master its view of the pool."""
        port, before = self._port, self.seen
        process = port.process()
        age = port.process_age_ms()
        startup, init = port.cookies()
        tcp = liveness(port.alive_local(LOCAL_LIMIT_MS).outcome, age, startup)
        emergency = port.emergency(SOCKET_LIMIT_MS)
        sock = self._socket_liveness(emergency, age, startup)
        running, master = self._running_role(tcp, process, before)
        serves = self._serves(tcp, want_view, view_interval_ms, running, process)
        now = port.mono_ms()
        self.seen = XapiSeen(
            now,
            tcp,
            before.tcp_since_ms if before.tcp == tcp else now,
            sock,
            before.socket_since_ms if before.socket == sock else now,
            process,
            age or 0,
            emergency.flag,
            emergency.code if emergency.flag else "",
            plain_words(emergency.code) if emergency.flag else "",
            startup,
            init,
            running,
            master,
            serves,
            before.serves_since_ms if before.serves and serves else (now if serves else 0),
        )

    def _socket_liveness(self, emergency: Emergency, age: Optional[int], startup: bool) -> str:
        outcome = {ANSWERED: ANSWERED, NO_ANSWER: NO_ANSWER, REFUSED: REFUSED}[emergency.outcome]
        if outcome == NO_ANSWER and age is not None and startup:
            return SILENT
        return liveness(outcome, age, startup)

    def _running_role(self, tcp: str, process: Process, before: XapiSeen) -> tuple:
        kind, address = self._port.role()
        if process == NO_PROCESS or not self._port.role_settled():
            return "", ""
        if kind == MASTER:
            return MASTER, ""
        if kind != MEMBER or tcp != ANSWERS:
            return ("", "") if process != before.process else (before.running, before.running_master)
        now = self._port.mono_ms()
        due = self._asked_member_ms is None or now - self._asked_member_ms >= ASK_MEMBER_EVERY_MS
        if due or process != self._asked_process or before.running != MEMBER:
            self._asked_member_ms, self._asked_process = now, process
            named = self._port.running_master(LOCAL_LIMIT_MS)
            return (MEMBER, named) if named else ("", "")
        return MEMBER, before.running_master

    def _serves(self, tcp: str, want_view: bool, view_interval_ms: int, running: str, process: Process) -> bool:
        if running != MASTER or tcp != ANSWERS:
            self.view = None
            return False
        now = self._port.mono_ms()
        same = self.seen.serves and self.seen.process == process
        if same and self.view is not None and (not want_view or now - self.view_at_ms < view_interval_ms):
            return True
        view = self._port.pool_view(VIEW_LIMIT_MS)
        if view is not None:
            self.view, self.view_at_ms = view, self._port.mono_ms()
        elif same and self.view is not None and now - self.view_at_ms < 3 * max(view_interval_ms, VIEW_LIMIT_MS):
            return True
        else:
            self.view = None
        return self.view is not None and self.view.master == self._port.identity().host

    def look_at_peer(self, target: str, address: str, limit_ms: int) -> Watch:
        """Probe one peer and keep the result."""
        result = self._port.alive_peer(address, limit_ms)
        now = self._port.mono_ms()
        with self._lock:
            watch = watched(self.watches.get(target), target, address, result, now)
            self.watches[target] = watch
            self.probes_at_ms = now
        return watch

    def keep_only(self, targets: Dict[str, str]) -> None:
        """Forget watches of peers that are no longer to be probed."""
        with self._lock:
            self.watches = {host: watch for host, watch in self.watches.items() if host in targets}
