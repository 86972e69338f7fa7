"""One xapi process of one host, as a state machine without clock, socket or file.

An `XapiModel` is one *process*: made by a supervisor, started, fed with calls, and gone with its `Exit`. What outlives
it (disk, running domains, boot id) belongs to the driver. Theory, from xapi's source (HEAD of 2026-08):

* pool.conf is read once per process, at its start (ocaml/xapi/pool_role.ml). A transition rewrites the file and lights
  a fuse, once per process: about 10 s later the process exits with code 123 and its supervisor starts another
  (ocaml/xapi/xapi_fuse.ml). Until then the process keeps its old role and answers as before.
* A running member whose master dies does *not* enter emergency mode (db_globs.ml master_connection_retry_timeout = -1):
  its flag stays false and everything that touches the database blocks, for ever if need be (`membership.DbLink`).
* No transition asks anybody for permission. Only the local ``ha.armed`` flag refuses it (xapi_pool.ml:2203-2238).

The parts: `calls` (gate, routing, sessions), `verbs` (what the messages do), `startup` (both start sequences),
`mastering` and `membership` (what a running master or member does by itself), `records` (getters), `database` (files).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from poolwarden_lab.statedb import BadDatabase
from poolwarden_lab.xapi import calls, mastering, startup
from poolwarden_lab.xapi.actions import (
    RESTART_CODE,
    Action,
    Answer,
    Disk,
    Door,
    EmergencyRefusal,
    Event,
    Exit,
    Fault,
    HangForever,
    HttpError,
    HttpFailure,
    Hypervisor,
    Listen,
    PeerLost,
    PeerResult,
    Reply,
    XapiFault,
)
from poolwarden_lab.xapi.database import read_local, write_local
from poolwarden_lab.xapi.events import Events
from poolwarden_lab.xapi.messages import Messages
from poolwarden_lab.xapi.pool_conf import POOL_CONF, Role, read_role
from poolwarden_lab.xapi.sessions import Sessions
from poolwarden_lab.xapi.startup import INIT_COOKIE, STARTUP_COOKIE
from poolwarden_lab.xapi.tasks import Engine, Signal, Sleep, Task
from poolwarden_lab.xapi.times import Times

if TYPE_CHECKING:
    from poolwarden_lab.xapi.database import Database
    from poolwarden_lab.xapi.membership import DbLink

INVENTORY = "etc/xensource-inventory"
PTOKEN = "etc/xensource/ptoken"
HOSTNAME = "etc/hostname"
PID_FILE = "var/run/xapi.pid"
BOOT_ID = "proc/sys/kernel/random/boot_id"

WALL_ZERO_MS = 1_767_225_600_000
"""Of a driver without a wall clock: 2026-01-01, 00:00 UTC."""

Variant = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a driver decides about one process."""

    address: str  # the host's management address, as its peers reach it
    pid: int
    times: Times = field(default_factory=Times)
    variant: Variant = "A"  # what a member does that starts while its master is dead: A blocks, B has a true flag
    root_password: str = "xenroot"
    unix_limit: int = 1024  # connections on the Unix socket, xapi_globs.ml:1086
    full_stops: bool = False  # a flush that fails ends a start and holds a stop up, as it really does
    wall_zero_ms: int = WALL_ZERO_MS  # the wall clock at the driver's instant 0, ms since 1970


class XapiModel:
    """One xapi process. Every input returns the actions it causes; after an `Exit` there are none."""

    def __init__(self, config: HostConfig, disk: Disk, hypervisor: Hypervisor) -> None:
        self.config = config
        self.times = config.times
        self.disk = disk
        self.hypervisor = hypervisor
        self.engine = Engine()
        self.role = Role("broken")
        self.host_uuid = ""
        self.secret = ""
        self.sessions = Sessions("")
        self.emergency: XapiFault | None = None
        self.database: Database | None = None
        self.link: DbLink | None = None
        self.heard: dict[str, int] = {}  # master: host uuid -> time of its last heartbeat, ms
        self.dirtied = Signal()
        self.startup_complete = False
        self.tasks_made = 0
        self.messages = Messages()
        self.events = Events()
        self.proposal = ("", 0)  # address agreed to by propose_new_master, and until when, ms
        self.designating = False
        self.refuses_commit = False
        self.fuse_lit = False
        self.exited = False
        self.slow_ms = 0
        self.wedged = False  # fault: the process stands still
        self._wet_fuse = False
        self._stop_hook_fails = False
        self._hung = False
        self._stopping = False
        self._held: list[calls.Call] = []
        self._unix_busy = 0

    # -------------------------------------------------------------------------------- inputs

    def start(self, now: int) -> list[Action]:
        """The process begins: it reads who it is and what role it has."""
        self.engine.now = now
        self._read_identity(now)
        for cookie in (STARTUP_COOKIE, INIT_COOKIE):
            self.disk.remove(cookie)
        self.note(PID_FILE, f"{self.config.pid}\n")
        self.engine.event("xapi-start", pid=self.config.pid)
        self.engine.event("role", role=self.role)
        self.engine.spawn("startup", startup.run(self), self._started)
        return self.engine.settle(now)

    def on_call(self, conn: int, door: Door, method: str, params: tuple[object, ...], now: int) -> list[Action]:
        """A call came in on a connection; it is answered once with this `conn`, now, later or never."""
        call = calls.Call(conn, door, method, params)
        if not self.answers:
            self._held.append(call)
        else:
            self._take(call)
        return self._settle(now)

    def on_timer(self, now: int) -> list[Action]:
        return self._settle(now)

    def on_peer_reply(self, number: int, result: PeerResult, now: int) -> list[Action]:
        self.engine.answered(number, result)
        return self._settle(now)

    def sigterm(self, now: int) -> list[Action]:
        """A clean stop: a master flushes its database first, a member leaves at once (xapi.ml:139-144).

        With ``full_stops`` a master that cannot flush goes on. Before 26.17.0 a pre-shutdown hook that fails skips the
        flush (xapi_host.ml shutdown_agent, CA-428532).
        """
        if self.wedged:
            return []
        self.engine.now = now
        if self._stop_hook_fails:
            self.engine.event("stop-hook-failed")
        if self._stop_hook_fails or not self.config.full_stops:
            self.exit(0, flush=not self._stop_hook_fails)
        elif not self._stopping:
            self._stopping = True
            self.engine.spawn("stop", mastering.stop_when_flushed(self))
        return self.engine.settle(now)

    def set_wedged(self) -> list[Action]:
        """Fault, for good: the process stands still as under SIGSTOP. Nothing runs, nothing is flushed."""
        self.wedged = True
        return [Event("wedged")]

    def set_hung(self, hung: bool, now: int) -> list[Action]:
        """Fault: connections are accepted and nothing is answered. Calls held meanwhile run when it ends."""
        self._hung = hung
        self.engine.event("hung" if hung else "unhung")
        if not (hung or self.wedged):
            held, self._held = self._held, []
            for call in held:
                self._take(call)
        return self._settle(now)

    def set_slow(self, delay_ms: int, now: int) -> list[Action]:
        """Fault: every call waits this long before it is looked at. Not divided by the time factor."""
        self.slow_ms = max(0, delay_ms)
        self.engine.event("slow", ms=self.slow_ms)
        return self._settle(now)

    def set_wet_fuse(self, wet: bool, now: int) -> list[Action]:
        """Fault: transitions answer OK and rewrite pool.conf, and this process never restarts. Not for a lit fuse."""
        self._wet_fuse = wet
        self.engine.event("wet-fuse", on=str(wet).lower())
        return self._settle(now)

    def set_stop_hook_fails(self, fails: bool, now: int) -> list[Action]:
        """Fault: a script below /etc/xapi.d/xapi-pre-shutdown fails, so that a clean stop flushes nothing."""
        self._stop_hook_fails = fails
        self.engine.event("stop-hook-fails", on=str(fails).lower())
        return self._settle(now)

    def set_refuses_commit(self, refuses: bool, now: int) -> list[Action]:
        """Fault: this process agrees to a new master and fails to follow it."""
        self.refuses_commit = refuses
        self.engine.event("refuses-commit", on=str(refuses).lower())
        return self._settle(now)

    def touch(self, now: int) -> list[Action]:
        """Something was written to the database that this process serves, if it serves one."""
        self.engine.now = max(self.engine.now, now)
        if self.database is not None and not self.wedged:
            self.database.touch()
        return self._settle(now)

    # -------------------------------------------------------------------------------- for the other parts

    def wrote(self) -> None:
        """Something in the database changed."""
        self.engine.fire(self.dirtied)
        self.engine.fire(self.events.changed)

    def listen(self, *doors: Door) -> None:
        for door in doors:
            self.engine.emit(Listen(door))
            self.engine.event("listening", door=door)

    def set_emergency(self, error: XapiFault | None) -> None:
        """Set or clear the emergency flag; its reason is what every gated call raises."""
        before = self.emergency.code if self.emergency else ""
        after = error.code if error else ""
        self.emergency = error
        if before != after:
            self.engine.event("emergency", flag="true" if error else "false", code=after or "-")

    def ha_armed(self) -> bool:
        return read_local(self.disk).get("ha.armed") == "true"

    def become(self, role: Role) -> None:
        """Rewrite pool.conf, remember it in local.db, light the fuse; the role in memory stays as it is.

        An error before the fuse leaves the new role on disk without a restart.
        Raises XapiFault HA_IS_ENABLED, OSError. Source: xapi_pool_transition.ml:25-33,83-89.
        """
        if self.ha_armed():
            raise XapiFault("HA_IS_ENABLED")
        self.set_role(role)
        self._light_fuse()

    def set_role(self, role: Role) -> None:
        """Rewrite pool.conf, then local.db; the role in memory stays as it is (xapi_pool_transition.ml:25-33).

        Raises OSError; between the two writes that leaves the new role on disk and nothing else.
        """
        self.disk.write(POOL_CONF, str(role).encode())
        self.engine.event("pool.conf", value=role)
        just_became = role.is_master and not self.role.is_master
        write_local(self.disk, this_node_just_became_master=str(just_became).lower())

    def note(self, path: str, text: str = "") -> None:
        """Write a small file below /run; a full file system there is no reason to stop."""
        try:
            self.disk.write(path, text.encode())
        except OSError as error:
            self.engine.event("note-failed", path=path, error=error.strerror or str(error))

    @property
    def answers(self) -> bool:
        """Does it answer anything?"""
        return not (self._hung or self.wedged)

    def flush(self) -> str | None:
        """Write the files of a database that has changed; what failed, or None."""
        if self.database is None or not self.database.dirty:
            return None
        try:
            self.database.flush(self.disk)
        except OSError as error:
            return error.strerror or str(error)
        self.engine.event("flushed", generation=self.database.generation)
        return None

    def exit(self, code: int, *, flush: bool) -> None:
        if flush and (error := self.flush()) is not None:
            self.engine.event("flush-failed", error=error)
        for cookie in (STARTUP_COOKIE, INIT_COOKIE):
            self.disk.remove(cookie)
        self.engine.emit(Event("exit", {"code": str(code)}))
        self.engine.emit(Exit(code))
        self.engine.stop()
        self.exited = True

    def boot_id(self) -> str:
        try:
            return self.disk.read(BOOT_ID).decode("ascii", "replace").strip()
        except OSError:
            return ""

    def host_name(self) -> str:
        try:
            return self.disk.read(HOSTNAME).decode("ascii", "replace").strip()
        except OSError:
            return ""

    # -------------------------------------------------------------------------------- inside

    def _settle(self, now: int) -> list[Action]:
        return [] if self.wedged else self.engine.settle(now)

    def _read_identity(self, now: int) -> None:
        inventory = self.disk.read(INVENTORY).decode("utf-8", "replace")
        found = re.search(r"^INSTALLATION_UUID='([^']*)'", inventory, re.MULTILINE)
        if found is None:
            raise ValueError(f"{INVENTORY} has no INSTALLATION_UUID")
        self.host_uuid = found.group(1)
        self.secret = self.disk.read(PTOKEN).decode("ascii", "replace").strip()
        self.role = read_role(self.disk)
        self.sessions = Sessions(f"{self.host_uuid}/{self.boot_id()}/{self.config.pid}/{now}")

    def _started(self, _value: object, error: Exception | None) -> None:
        if error is not None:
            # What xapi itself meets at its start has a name; anything else is a fault of this model.
            met = isinstance(error, OSError | XapiFault | HttpFailure | PeerLost | BadDatabase)
            self.engine.event("start-failed" if met else "model-fault", error=repr(error))
            self.exit(2, flush=False)

    def _light_fuse(self) -> None:
        if self.fuse_lit or self._wet_fuse:
            return
        self.fuse_lit = True
        self.engine.event("fuse", ms=self.times.fuse_ms)
        self.engine.spawn("fuse", self._fuse())

    def _fuse(self) -> Task[None]:
        yield Sleep(self.times.fuse_ms)
        self.exit(RESTART_CODE, flush=True)

    def _take(self, call: calls.Call) -> None:
        on_unix = call.door == "unix"
        if on_unix and self._unix_busy >= self.config.unix_limit:
            self.engine.emit(HangForever(call.conn))
            return
        self._unix_busy += on_unix

        def done(value: object, error: Exception | None) -> None:
            self._unix_busy -= on_unix
            self.engine.emit(_outcome(call.conn, value, error))

        self.engine.spawn(call.method, calls.serve(self, call), done)


def _outcome(conn: int, value: object, error: Exception | None) -> Reply | HttpError:
    if error is None:
        return Reply(conn, Answer(value))
    if isinstance(error, XapiFault):
        return Reply(conn, Fault(error.code, error.params, isinstance(error, EmergencyRefusal)))
    if isinstance(error, HttpFailure):
        return HttpError(conn, error.status)
    return Reply(conn, Fault("INTERNAL_ERROR", (f"{type(error).__name__}({error})",)))
