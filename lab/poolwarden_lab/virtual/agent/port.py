"""The agent's HostPort on a modelled host: no files, no sockets, every call returns at once.

A call that would wait is a call that fails at its limit (``VirtualPool.call_now``); ``blocks_ms`` says beforehand how
long an order would wait, so that its driver can let that time pass first. ``SimPort`` can be killed with its agent at
every step of the durable write: the saboteur is asked before and after each save and each act.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from poolwarden_agent.core import boot_gate, host_now, order_kinds, orders, probe_rules
from poolwarden_agent.core.memory import User
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.dom0.xapi import database as statedb
from poolwarden_agent.dom0.xapi import session_calls
from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiRefused, XapiTimeout, XapiUnreachable
from poolwarden_agent.dom0.xapi.pool_view import PoolLook
from poolwarden_agent.host.executor import SECOND_PORT_LIMIT_MS
from poolwarden_agent.host.observer import LOCAL_LIMIT_MS, SOCKET_LIMIT_MS
from poolwarden_agent.host.order_acts import ACT_LIMIT_MS
from poolwarden_agent.host_port import (
    HTTP_PORT,
    TLS_PORT,
    Act,
    BootFacts,
    DatabasePiece,
    Disk,
    Emergency,
    FenceRun,
    Identity,
    PoolView,
    Toolstack,
    VmPlace,
)
from poolwarden_lab.statedb import BadDatabase, StateDb, parse_local, parse_map, parse_state
from poolwarden_lab.virtual.agent import troubles
from poolwarden_lab.virtual.agent.database_view import faults, placements
from poolwarden_lab.virtual.agent.member_fences import MemberFences
from poolwarden_lab.virtual.agent.slot import Slot, TornWrite
from poolwarden_lab.xapi.actions import Answer, Door, Fault, Lost, PeerResult
from poolwarden_lab.xapi.database import LOCAL_DB, RESTORE_DB, choose, generation_on_disk
from poolwarden_lab.xapi.model import BOOT_ID, INVENTORY, PID_FILE, WALL_ZERO_MS
from poolwarden_lab.xapi.pool_conf import POOL_CONF
from poolwarden_lab.xapi.startup import STARTUP_COOKIE
from poolwarden_lab.xapi.virtual import TIMEOUT, OnReply, VirtualHost, VirtualPool

RESTART_TAKES_MS = 500
COLLECTOR = "collector"
ROOT_BYTES = 18 << 30
_DOORS: tuple[tuple[int, Door], ...] = ((TLS_PORT, "tls"), (HTTP_PORT, "tcp"))
HALF_PLACED = RESTORE_DB + ".poolwarden"


class AgentKilled(Exception):
    """The simulated agent died between two steps of an order."""


def at_once(begin: Callable[[OnReply], None], _limit_ms: int) -> PeerResult:
    """The reply that needs no time."""
    replies: list[PeerResult] = []
    begin(replies.append)
    return replies[0] if replies else TIMEOUT


class SimPort(troubles.Storied):
    """One host as its agent sees it."""

    def __init__(
        self,
        pool: VirtualPool,
        name: str,
        mono: Callable[[], int],
        slot: Slot,
        dies: Callable[[str], bool],
        gated: bool = False,
    ) -> None:
        self._pool = pool
        self._host: VirtualHost = pool.hosts[name]
        self._mono = mono
        self._slot = slot
        self._dies = dies
        self.wait_for: Callable[[Callable[[OnReply], None], int], PeerResult] = at_once  # for slow orders
        self._local: tuple[int, str] = (0, "")  # pid of xapi, local session
        self._full: tuple[int, str] = (0, "")
        self._parsed: tuple[bytes, StateDb | None] = (b"", None)
        self._look = PoolLook()
        self._read: tuple[str, int] = ("", 0)  # path and generation of the database that is being read
        self._identity = self._read_identity()
        self._gated = gated
        self._found = self.role()
        self._missing: frozenset[str] = frozenset()
        self._due: dict[tuple[object, ...], int] = {}  # looks at a slow xapi that are under way: when each is answered
        self._late_ms = 0  # how long the last late answer of the present look took
        self._mount_since = 0
        self.fences: MemberFences | None = None  # the fence agents that this host may run
        self.listed: tuple[str, ...] = ()  # collectors, as agent.conf has them

    def collectors(self) -> tuple[str, ...]:
        return self.listed

    def _point(self, name: str) -> None:
        if self._dies(name):
            raise AgentKilled(name)

    # ------------------------------------------------------------------------------------------ state and identity

    def mono_ms(self) -> int:
        return self._mono()

    def identity(self) -> Identity:
        return self._identity

    def _read_identity(self) -> Identity:
        lines = self._text(INVENTORY).splitlines()
        inventory = dict(line.replace("'", "").split("=", 1) for line in lines)
        return Identity(
            inventory["INSTALLATION_UUID"],
            self._text("etc/hostname"),
            self._text(BOOT_ID),
            self._text("sys/class/dmi/id/product_uuid"),
            self._text("sys/class/dmi/id/product_serial"),
            "",
            inventory["PRODUCT_BRAND"],
            inventory["PRODUCT_VERSION"],
            inventory["PRODUCT_VERSION"],
            "",
            "",
            "",
            "",
            "",
        )

    def _text(self, path: str) -> str:
        return self._host.disk.read(path).decode().strip()

    def capabilities(self) -> tuple[str, ...]:
        able = (kind for kind in order_kinds.KNOWN if kind != order_kinds.FENCE_PROXY or self.fence_agents())
        beside = (order_kinds.IN_PLACE, order_kinds.OWN_FILE, order_kinds.ELSEWHERE, order_kinds.START_WISHES)
        return tuple(kind for kind in (*able, *beside) if kind not in self._missing)

    def pretend(self, missing: frozenset[str], host: str) -> None:
        """Faults: an older version without these capabilities; a clone that says it is another host."""
        self._missing = missing
        if host:
            # The host's name stands on the same disk.
            of = next((each for each in self._pool.hosts.values() if each.uuid == host), None)
            name = self._identity.name if of is None else of.disk.read("etc/hostname").decode().strip()
            self._identity = self._identity._replace(host=host, name=name)

    def fence_agents(self) -> tuple[str, ...]:
        return self.fences.there() if self.fences is not None else ()

    def run_fence(self, name: str, given: bytes, limit_ms: int, secrets: Sequence[str]) -> FenceRun:
        assert self.fences is not None
        return self.fences.run(given, limit_ms, self.wait_for)

    def identify_device(
        self, name: str, parameters: dict[str, str], limit_ms: int, thorough: bool, secrets: Sequence[str]
    ) -> FenceRun:
        assert self.fences is not None
        return self.fences.identity(parameters["plug"])

    def load_state(self) -> bytes:
        return self._slot.load()

    def save_state(self, payload: bytes) -> None:
        self._point("before save")
        try:
            self._slot.save(payload)
        except TornWrite as torn:
            raise AgentKilled(str(torn)) from None
        self._point("after save")

    # ------------------------------------------------------------------------------------------ files

    def role(self) -> tuple[str, str]:
        try:
            text = self._host.disk.read(POOL_CONF).decode("utf-8", "replace").strip()
        except OSError:
            return host_now.BROKEN, ""  # it is not there
        if text.startswith("slave:"):
            return host_now.MEMBER, text.removeprefix("slave:").strip()
        return (host_now.MASTER if text == "master" else host_now.BROKEN), ""

    def role_settled(self) -> bool:
        changed = self._host.disk.changed
        return PID_FILE in changed and changed[PID_FILE] >= changed.get(POOL_CONF, 0)

    def ha_armed(self) -> bool | None:
        try:
            return parse_local(self._host.disk.read(LOCAL_DB)).get("ha.armed", "false") != "false"
        except (OSError, BadDatabase):
            return None

    def process(self) -> host_now.Process:
        host = self._host
        if not host.pid:
            return host_now.NO_PROCESS
        return host_now.Process(host.pid, 1 + (self._mono() - (self._pool.now - host.started_ms)) // 10)

    def process_age_ms(self) -> int | None:
        return self._pool.now - self._host.started_ms if self._host.pid else None

    def startup_cookie(self) -> bool:
        return self._host.disk.exists(STARTUP_COOKIE)

    def generation(self) -> tuple[str, int]:
        path = choose(self._host.disk)
        return (path, generation_on_disk(self._host.disk, path)) if path else ("", 0)

    def database_written_s(self) -> int:
        path = choose(self._host.disk)
        return self._host.disk.changed.get(path, 0) // 1000 if path else 0

    def database(self) -> statedb.View:
        path, generation = self.generation()
        if not path:
            return statedb.View(False, 0, "", (), "", False, "there is no database file")
        try:
            state = self._parse(self._host.disk.read(path))
        except BadDatabase as error:
            return statedb.View(False, generation, path, (), "", False, str(error), (), False, str(error))
        pool = next(iter(state.tables.get("pool", {}).values()), {})
        upgrade = "rolling_upgrade_in_progress" in parse_map(pool.get("other_config") or "()")
        listed = tuple(row["uuid"] for row in state.tables.get("host", {}).values())
        unsound = "; ".join(faults(state))
        placed, uuid = placements(state), pool.get("uuid", "")
        return statedb.View(True, generation, path, placed, uuid, upgrade, "", listed, not unsound, unsound)

    def _parse(self, content: bytes) -> StateDb:
        if self._parsed[0] is not content or self._parsed[1] is None:
            self._parsed = (content, parse_state(content))
        assert self._parsed[1] is not None
        return self._parsed[1]

    def disks(self) -> list[Disk]:
        free = 0 if self._host.disk.full else 10 << 30
        return [Disk("/", ROOT_BYTES, free, 1_000_000, 900_000, True)]

    def memory(self) -> tuple[int, int]:
        left = getattr(self._pool, "memory_left", {}).get(self._host.name, 2048)
        return 4 << 30, left << 20

    def memory_users(self) -> tuple[User, ...]:
        return (User("xapi", self._host.pid or 1, (4 << 30) - self.memory()[1] - (1 << 30)),)

    def domains(self) -> list[str] | None:
        return list(self._host.domains.domains())

    def management_address(self) -> str:
        return self._host.address

    # ------------------------------------------------------------------------------------------ xapi

    def _call(self, door: Door, method: str, *params: object, limit_ms: int = 0) -> PeerResult:
        """A look, or with a limit an order. A slow xapi answers a later look what an earlier one has asked, as it does
        in production (local_port.py, transport.py); an order waits itself."""
        limit = limit_ms or (LOCAL_LIMIT_MS if door == "tcp" else SOCKET_LIMIT_MS)
        answer = self._pool.call_now(self._host.name, door, method, params, limit)
        slow = getattr(self._pool, "slow_ms", {}).get(self._host.name, 0)
        key = (self._host.pid, door, method, params)
        if answer != TIMEOUT or slow <= limit or limit_ms:
            self._due.pop(key, None)
            return answer
        due = self._due.setdefault(key, self._mono() + slow)
        if self._mono() < due:
            return TIMEOUT
        answer = self._pool.call_now(self._host.name, door, method, params, slow)
        if answer != TIMEOUT:
            del self._due[key]
            self._late_ms = max(self._late_ms, self._mono() - (due - slow))
        return answer

    def alive_local(self, limit_ms: int) -> probe_rules.ProbeResult:
        self._late_ms = 0
        answer = self._call("tcp", "system.isAlive:poolwarden", "poolwarden")
        return _probed(answer, self._host.uuid, limit_ms)._replace(late_ms=self._late_ms)

    def alive_peer(self, address: str, limit_ms: int, port: int = TLS_PORT) -> probe_rules.ProbeResult:
        peer = next((host for host in self._pool.hosts.values() if host.address == address), None)
        if peer is None:
            return probe_rules.ProbeResult(probe_rules.NO_ANSWER, "", f"connect: timed out after {limit_ms} ms")
        call = ("system.isAlive:poolwarden", ("poolwarden",), limit_ms, self._host.name)
        door: Door = "tcp" if port == HTTP_PORT else "tls"
        return _probed(self._pool.call_now(peer.name, door, *call), peer.uuid, limit_ms)

    def boot_facts(self) -> BootFacts | None:
        if not self._gated:
            return None
        host, pool = self._host, self._pool
        try:
            state = self._parse(host.disk.read(path)) if (path := choose(host.disk)) else None
        except BadDatabase:
            state = None
        rows = list(state.tables.get("host", {}).values()) if state is not None else []
        others = [row["address"] for row in rows if row.get("uuid") != host.uuid]
        whole = len(others) < len(rows)  # a file without this host is no whole pool
        collectors = [each.rpartition(":")[0] for each in self.listed] or [COLLECTOR]
        nodes = [name for name in [*pool.hosts, *collectors] if name != host.name]
        near = any(
            (host.name, name) not in pool.cut_links and (name, host.name) not in pool.cut_links for name in nodes
        )
        return BootFacts(*self._found, not host.gated, tuple(others), whole, True, near, False)

    def let_wait(self) -> str:
        boot, why = self._host.let_wait
        return why if boot == self._host.boot else ""

    def note_let_wait(self, why: str) -> None:
        self._host.let_wait = (self._host.boot, why)

    def ask_role(self, address: str, limit_ms: int) -> boot_gate.Told:
        peer = self._pool.host_at(address)
        if peer is None:
            return boot_gate.Told(boot_gate.SILENT, text="nobody has this address")
        me, doors, tried = self._host.name, _DOORS, []
        for number, door in doors:
            call = ("system.isAlive:poolwarden", ("poolwarden",), limit_ms, me)
            alive = self._pool.call_now(peer.name, door, *call)
            if isinstance(alive, Answer):
                return self._told(peer, door, number, limit_ms)
            if isinstance(alive, Fault):
                return boot_gate.Told(boot_gate.SILENT, text=f"port {number}: answered: {alive.code}")
            tried.append(f"port {number}: {alive.why}")
        there = self._pool.pings(me, peer.name)
        tried.append("answers ping" if there else "no answer to a ping")
        return boot_gate.Told(boot_gate.UNTOLD if there else boot_gate.SILENT, text="; ".join(tried))

    def _told(self, peer: VirtualHost, door: Door, number: int, limit_ms: int) -> boot_gate.Told:
        login = ("session.login_with_password", ("x", "x", "1.0", "poolwarden"), limit_ms, self._host.name)
        answer = self._pool.call_now(peer.name, door, *login)
        shown = peer.uuid if door == "tls" else ""
        if isinstance(answer, Fault) and answer.code == "HOST_IS_SLAVE":
            text = f"port {number}: follows {answer.params[0]}"
            return boot_gate.Told(boot_gate.FOLLOWS, str(answer.params[0]), shown, text)
        return boot_gate.Told(boot_gate.ACTS, "", shown, f"port {number}: serves, and follows nobody")

    def running_master(self, limit_ms: int) -> str:
        answer = self._call("tcp", "session.login_with_password", "x", "x", "1.0", "poolwarden")
        if isinstance(answer, Fault) and answer.code == "HOST_IS_SLAVE":
            return answer.params[0]
        return ""

    def _in_local_session(self, method: str, *params: object, limit_ms: int = 0) -> PeerResult:
        if self._local[0] != self._host.pid or not self._local[1]:
            opened = self._call("unix", "session.slave_local_login_with_password", "root", "", limit_ms=limit_ms)
            if not isinstance(opened, Answer):
                return opened
            self._local = (self._host.pid, str(opened.value))
        return self._call("unix", method, self._local[1], *params, limit_ms=limit_ms)

    def emergency(self, limit_ms: int) -> Emergency:
        self._late_ms = 0
        return self._emergency()._replace(late_ms=self._late_ms)

    def _emergency(self) -> Emergency:
        answer = self._in_local_session("host.is_in_emergency_mode")
        if answer == Lost("refused"):
            return Emergency(probe_rules.REFUSED, None, "")
        if isinstance(answer, Lost):
            return Emergency(probe_rules.NO_ANSWER, None, "")
        if isinstance(answer, Fault):
            return Emergency(probe_rules.ANSWERED, None, answer.code)
        if not answer.value:
            return Emergency(probe_rules.ANSWERED, False, "")
        why = self._in_local_session("host.local_assert_healthy")
        return Emergency(probe_rules.ANSWERED, True, why.code if isinstance(why, Fault) else "")

    def _full_session(self) -> PeerResult:
        """The ordinary session, as an Answer, or why there is none."""
        if self._full[0] != self._host.pid or not self._full[1]:
            opened = self._call("unix", "session.login_with_password", "root", "", "1.0", "poolwarden")
            if not isinstance(opened, Answer):
                return opened
            self._full = (self._host.pid, str(opened.value))
            self._look.forget()
        return Answer(self._full[1])

    def pool_view(self, limit_ms: int) -> PoolView | None:
        try:
            return self._look.look(self._asking(0))
        except XapiTimeout:
            return None
        except (XapiError, LookupError):
            self._full = (0, "")
            return None

    # ------------------------------------------------------------------------------------------ acts

    def promote(self, limit_ms: int) -> Act:
        return self._act(limit_ms, "pool.emergency_transition_to_master")

    def repoint(self, address: str, limit_ms: int) -> Act:
        return self._act(limit_ms, "pool.emergency_reset_master", address)

    def _act(self, limit_ms: int, method: str, *params: object) -> Act:
        self._point("before act")
        began, answer = self._begun(method, *params, limit_ms=limit_ms)
        self._point("after act")
        if not began:
            return Act(orders.REFUSED, f"xapi could not be asked for {method}: {answer}")
        if isinstance(answer, Answer):
            return Act(orders.DONE, f"xapi accepted {method}")
        if isinstance(answer, Fault):
            return Act(orders.FAILED, f"xapi refused {method}: {answer.code}")
        return Act(orders.UNKNOWN, f"{method}: {answer.why}")

    def _begun(self, method: str, *params: object, limit_ms: int) -> tuple[bool, PeerResult]:
        """Did xapi get this call, and what came of it? Without a session, or refused, it did not."""
        before = self._local
        answer = self._in_local_session(method, *params, limit_ms=limit_ms)
        session = self._local[0] == self._host.pid or self._local != before
        return session and answer != Lost("refused"), answer

    def restart_xapi(self, limit_ms: int) -> Act:
        self._point("before act")
        self._pool.restart_xapi(self._host.name)
        self._point("after act")
        return Act(orders.DONE, "systemctl restart xapi.service")

    def write_member_conf(self, address: str) -> str:
        self._point("before act")
        try:
            self._host.disk.write(POOL_CONF, f"slave:{address}".encode())
        except OSError as error:
            return f"pool.conf cannot be written: {error}"
        self._point("after act")
        return ""

    def stop_toolstack(self, limit_ms: int) -> Act:
        self._point("before act")
        self._pool.hold(self._host.name)
        self._pool.stop_toolstack(self._host.name)
        self._point("after act")
        return Act(orders.DONE, "the toolstack was told to stop")

    def start_toolstack(self, limit_ms: int) -> Act:
        self._point("before act")
        self._pool.release(self._host.name)
        self._pool.start_xapi(self._host.name)
        self._point("after act")
        if self.process() == host_now.NO_PROCESS:
            return Act(orders.UNKNOWN, "no xapi process is there yet")
        return Act(orders.DONE, "the toolstack runs again")

    def hold_gc(self, limit_ms: int) -> Act:
        self._point("before act")
        self._point("after act")
        return Act(orders.DONE, "no garbage collection of storage runs or begins here")

    def release_gc(self, limit_ms: int) -> Act:
        self._point("before act")
        self._point("after act")
        return Act(orders.DONE, "garbage collection of storage may begin again")

    def toolstack(self) -> Toolstack:
        running = self._host.model is not None
        listening = sorted(self._host.doors - {"unix"})
        text = [*(["xapi runs"] if running else []), *(f"{door} is not closed" for door in listening)]
        return Toolstack(not running, not listening, "; ".join(text))

    # ------------------------------------------------------------------------------------------ databases

    def read_database(self, path: str, offset: int, limit: int) -> DatabasePiece:
        disk, path = self._host.disk, path or choose(self._host.disk) or ""
        if not disk.exists(path):
            return DatabasePiece(path, 0, 0, 0, b"", "", "there is no database file")
        content, generation = disk.read(path), generation_on_disk(disk, path)
        if offset and (path, generation) != self._read:
            return DatabasePiece(path, generation, 0, 0, b"", "", f"{path} is another file than at its first piece")
        self._read = (path, generation)
        chunk, digest = content[offset : offset + limit], hashlib.sha256(content).hexdigest()
        return DatabasePiece(path, generation, len(content), offset, chunk, digest, "")

    def restore_generation(self) -> int | None:
        disk = self._host.disk
        return generation_on_disk(disk, RESTORE_DB) if disk.exists(RESTORE_DB) else None

    def place_piece(self, piece: Piece, chunk: bytes, pool: str) -> Act:
        self._point("before act")
        try:
            act = self._place(piece, chunk)
        except OSError as error:
            return Act(orders.FAILED, f"the database cannot be placed: {error.strerror}")
        self._point("after act")
        return act

    def _place(self, piece: Piece, chunk: bytes) -> Act:
        disk = self._host.disk
        if piece.offset == 0:
            self._clear()
        come = disk.read(HALF_PLACED) if piece.offset else b""
        if len(come) < piece.offset:
            return Act(orders.FAILED, f"a piece is missing: {len(come)} bytes have come")
        come = come[: piece.offset] + chunk
        disk.write(HALF_PLACED, come)
        if not piece.last:
            return Act(orders.DONE, f"{len(come)} of {piece.total_bytes} bytes")
        if (len(come), hashlib.sha256(come).hexdigest()) != (piece.total_bytes, piece.sha256):
            self._clear()
            return Act(orders.FAILED, "what has come is not what was sent")
        disk.write(RESTORE_DB + ".generation", f"{piece.generation}".encode())
        self._point("half placed")
        disk.write(RESTORE_DB, come)
        disk.remove(HALF_PLACED)
        return Act(orders.DONE, f"{len(come)} bytes of generation {piece.generation} are in place")

    def remove_placed(self) -> Act:
        self._point("before act")
        self._clear()
        self._point("after act")
        return Act(orders.DONE, "no database is placed any more")

    def _clear(self) -> None:
        for path in (RESTORE_DB, RESTORE_DB + ".generation", HALF_PLACED):
            self._host.disk.remove(path)

    # ------------------------------------------------------------------------------------------ serving

    def serve(self, order: orders.Order, limit_ms: int, late: Callable[[], str]) -> Act:
        self._point("before act")
        act = session_calls.serve(self._asking(limit_ms), order, late)
        self._point("after act")
        return act

    def show_message(self, order: orders.Order, look: bool, limit_ms: int) -> Act:
        self._point("before act")
        act = session_calls.show(self._asking(limit_ms), order, WALL_ZERO_MS + self._pool.now if look else 0)
        self._point("after act")
        return act

    def locate_vms(self, vms: list[str], limit_ms: int) -> list[VmPlace]:
        return session_calls.locate(self._asking(limit_ms), vms)

    def _asking(self, limit_ms: int) -> session_calls.Ask:
        deadline = self._pool.now + limit_ms

        def ask(method: str, *params: object) -> object:
            answer = self._full_session()
            if isinstance(answer, Answer):
                host, given = self._host.name, (answer.value, *params)
                left = deadline - self._pool.now
                if not limit_ms:
                    answer = self._call("unix", method, *given)
                else:
                    answer = self.wait_for(lambda sink: self._pool.call(host, "unix", method, given, sink), left)
            if isinstance(answer, Answer):
                return answer.value
            if isinstance(answer, Fault):
                raise XapiFault(answer.code, answer.params)
            if answer == TIMEOUT:
                raise XapiTimeout("no answer within the limit")
            raise (XapiRefused if answer == Lost("refused") else XapiUnreachable)(answer.why)

        return ask

    # ------------------------------------------------------------------------------------------ for the driver

    def peer_blocks_ms(self, address: str, limit_ms: int, port: int = TLS_PORT) -> int:
        """How long a probe of this peer would take: its limit if nothing answers."""
        return limit_ms if self.alive_peer(address, limit_ms, port).outcome == probe_rules.NO_ANSWER else 0

    def _probes_block_ms(self, targets: Sequence[orders.Target], limit_ms: int) -> int:
        """The same of several probes, one after the other; a second port of a host has less time."""
        total, seen = 0, set()
        for target in targets:
            limit = min(limit_ms, SECOND_PORT_LIMIT_MS) if target.address in seen else limit_ms
            total += self.peer_blocks_ms(target.address, limit, target.port or TLS_PORT)
            seen.add(target.address)
        return total

    def xapi_blocks_ms(self, limit_ms: int) -> int:
        """How long a call on the local socket would take."""
        return limit_ms if self.emergency(limit_ms).outcome == probe_rules.NO_ANSWER else 0

    def order_blocks_ms(self, order: orders.Order) -> int:
        """How long carrying out this order would take."""
        body = order.body
        if isinstance(body, orders.Claim):
            return self.peer_blocks_ms(body.old_master.address, body.probe_timeout_ms)
        if isinstance(body, orders.ProbeNow):
            return self._probes_block_ms(body.targets, body.probe_timeout_ms)
        if isinstance(body, (orders.Promote, orders.Repoint)):
            return self.xapi_blocks_ms(ACT_LIMIT_MS)
        restarts = isinstance(body, (orders.RestartXapi, orders.ToolstackFence, orders.ToolstackRelease))
        return RESTART_TAKES_MS if restarts else 0


def _probed(answer: PeerResult, uuid: str, limit_ms: int) -> probe_rules.ProbeResult:
    if isinstance(answer, Answer):
        return probe_rules.ProbeResult(probe_rules.ANSWERED, hashlib.sha256(uuid.encode()).hexdigest(), "answered")
    if answer == TIMEOUT:
        return probe_rules.ProbeResult(probe_rules.NO_ANSWER, "", f"timed out after {limit_ms} ms")
    if answer == Lost("refused"):
        return probe_rules.ProbeResult(probe_rules.REFUSED, "", "connect: refused")
    if answer == Lost("unreachable"):
        return probe_rules.ProbeResult(probe_rules.UNREACHABLE, "", "connect: no route to host")
    return probe_rules.ProbeResult(probe_rules.NOT_XAPI, "", str(answer))
