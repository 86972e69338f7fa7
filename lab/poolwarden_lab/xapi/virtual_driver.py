"""The machinery of a virtual pool: time, the network between its hosts, and the models on top of it.

A message takes `latency_ms`. Links are directed; a message into a cut link waits there until it is healed, as TCP's
retransmission would have it. A connect into a cut link ends after TCP's SYN retries (127 s), one into a host without
power after `dead_connect_ms` (3 s: EHOSTUNREACH on the same L2; set it to 127 s for a routed network). What is done to
hosts and their processes, and why, is in `virtual`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from poolwarden_lab.xapi.actions import (
    Action,
    Answer,
    CancelPeer,
    Door,
    Event,
    Exit,
    Fault,
    HangForever,
    HttpError,
    Listen,
    Lost,
    PeerCall,
    PeerResult,
    Reply,
    WakeAt,
)
from poolwarden_lab.xapi.clock import Clock
from poolwarden_lab.xapi.hypervisor import Domains
from poolwarden_lab.xapi.model import HostConfig, Variant, XapiModel
from poolwarden_lab.xapi.startup import INIT_COOKIE, STARTUP_COOKIE
from poolwarden_lab.xapi.times import scaled
from poolwarden_lab.xapi.trees import HostTree, MemoryDisk, VmSpec, make_pool_disks
from poolwarden_lab.xapi.virtual_host import LogEntry, OnReply, VirtualHost

TIMEOUT = Lost("timeout")
"""What `call_now` says when no answer was to be had without time passing."""


class PoolDriver:
    """Drives the models of n hosts. Everything starts powered off at time 0."""

    def __init__(
        self,
        n: int = 3,
        pool_name: str = "lab",
        vms: Sequence[VmSpec] = (),
        *,
        trees: Sequence[HostTree] | None = None,
        time_factor: float = 1.0,
        variant: Variant = "A",
        latency_ms: int = 1,
        boot_ms: int = 0,
        dead_connect_ms: int = 3_000,
        unix_limit: int = 1024,
        full_stops: bool = False,
        clock: Clock | None = None,
    ) -> None:
        trees = make_pool_disks(n, pool_name, vms) if trees is None else trees
        self.clock = Clock() if clock is None else clock
        self.boot_gate: Callable[[str], bool] | None = None  # may this host's xapi start in this boot? None: always
        self.log: list[LogEntry] = []
        self.doubles: list[tuple[int, str, str, str]] = []  # when, VM uuid, the host it ran on, the one it began on too
        self.xapi_logs: dict[str, list[str]] = {}  # by host: what a story has its xapi write at the end of its log
        self.mounts_hang: dict[str, bool] = {}  # by host: is the mount of the shared storage unanswered there?
        self.times = scaled(time_factor)
        self.latency_ms = latency_ms
        self.boot_ms = boot_ms
        self.dead_connect_ms = dead_connect_ms
        self.cut_links: set[tuple[str, str]] = set()
        self._variant: Variant = variant
        self._unix_limit = unix_limit
        self._full_stops = full_stops
        self._pool_name = pool_name
        self._connections = 0
        self._drift_ms = 0
        self._drifts = 0
        self._held: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._by_address: dict[str, VirtualHost] = {}
        self.hosts: dict[str, VirtualHost] = {}
        for tree in trees:
            domains = Domains(tree.control_domain_uuid, partial(self._domain_created, tree.name))
            for uuid, name in tree.vms.items():
                domains.create(uuid, name)
            disk = MemoryDisk(tree.files, now=lambda: self.now)
            self.hosts[tree.name] = VirtualHost(tree.name, tree.uuid, tree.address, disk, domains)

    def _domain_created(self, name: str, uuid: str) -> None:
        """Two domains of one VM corrupt its disks: nothing in a pool may ever come to that."""
        for other in self.hosts.values():
            if other.name != name and other.domains.runs(uuid):
                self.doubles.append((self.now, uuid, other.name, name))
                self._note(name, Event("runs-twice", {"vm": uuid, "also": other.name}))

    # -------------------------------------------------------------------------------- time

    @property
    def now(self) -> int:
        return self.clock.now

    def at(self, ms: int, act: Callable[[], None]) -> None:
        """Do something at a time, or now if that has passed. Things of one moment happen in the order of asking."""
        self.clock.at(ms, act)

    def run_until(self, ms: int) -> None:
        while (due := self.clock.next_due) is not None and due <= ms:
            self._step()
        self.clock.now = max(self.now, ms)

    def run_while(self, condition: Callable[[], bool], limit_ms: int) -> None:
        """Run as long as the condition holds. Raises TimeoutError when it still holds at `limit_ms`."""
        while condition():
            due = self.clock.next_due
            if due is None or due > limit_ms:
                raise TimeoutError(f"still waiting at {limit_ms} ms")
            self._step()

    def _step(self) -> None:
        self.clock.step()

    # -------------------------------------------------------------------------------- network

    def cut(self, source: str, target: str) -> None:
        """Cut one direction."""
        self.cut_links.add((source, target))

    def cut_both(self, one: str, other: str) -> None:
        self.cut(one, other)
        self.cut(other, one)

    def heal(self, source: str, target: str) -> None:
        self.cut_links.discard((source, target))
        for act in self._held.pop((source, target), []):
            self._send(source, target, act)

    def heal_all(self) -> None:
        for source, target in sorted(self.cut_links):
            self.heal(source, target)

    def _send(self, source: str, target: str, act: Callable[[], None]) -> None:
        """Carry one message; it acts at the target if that has power and the link is whole when it arrives."""

        def arrive() -> None:
            if (source, target) in self.cut_links:
                self._held.setdefault((source, target), []).append(act)
            elif self.hosts[target].power:
                self._when_awake(self.hosts[target], act)

        self.at(self.now + self.latency_ms, arrive)

    def _when_awake(self, host: VirtualHost, act: Callable[[], None]) -> None:
        if host.frozen:
            host.inbox.append(act)
        else:
            act()

    # -------------------------------------------------------------------------------- calls

    def call(
        self,
        name: str,
        door: Door,
        method: str,
        params: tuple[object, ...],
        on_reply: OnReply,
        source: str | None = None,
    ) -> None:
        """Call a host's xapi. `source`: the host that calls over the network (default: a process on the host itself).

        The reply may come now, later or never. HTTP errors come as Lost("http-500").
        """
        if source is None or source == name:
            host = self.hosts[name]
            if not host.power or (host.model is None and not host.frozen) or door not in host.doors:
                on_reply(Lost("refused"))
            else:
                self._when_awake(host, lambda: self._receive(host, door, method, params, None, on_reply))
        else:
            self._connect(source, self.hosts[name], door, method, params, on_reply)

    def call_now(
        self,
        name: str,
        door: Door,
        method: str,
        params: tuple[object, ...] = (),
        limit_ms: int = 0,
        source: str | None = None,
    ) -> PeerResult:
        """The answer that needs no time (and no latency), or TIMEOUT. An answer that comes later is dropped.

        limit_ms: the caller's patience; a failing connect that takes longer is a TIMEOUT too.
        """
        host = self.hosts[name]
        remote = source is not None and source != name
        if remote and (failure := self._connect_failure(str(source), host, door)) is not None:
            after_ms, why = failure
            return Lost(why) if after_ms <= limit_ms else TIMEOUT
        if host.frozen:
            return TIMEOUT
        replies: list[PeerResult] = []
        if remote:
            self._receive(host, door, method, params, None, replies.append)
        else:
            self.call(name, door, method, params, replies.append)
        return replies[0] if replies else TIMEOUT

    def local_session(self, name: str) -> str:
        """A local session on the host's Unix socket. Raises TimeoutError if its xapi does not answer."""
        result = self.call_now(name, "unix", "session.slave_local_login_with_password", ("root", ""))
        if not isinstance(result, Answer):
            raise TimeoutError(f"{name}: {result}")
        return str(result.value)

    def _connect_failure(self, source: str, host: VirtualHost, door: Door) -> tuple[int, str] | None:
        """Why a connection cannot be made: (after ms, why); None: it can."""
        if (source, host.name) in self.cut_links or (host.name, source) in self.cut_links:
            return self.times.connect_ms, "unreachable"
        if not host.power:
            return self.dead_connect_ms, "unreachable"
        ways = {(door, source), (door, "*")}
        if ways & host.filtered:
            return self.times.connect_ms, "unreachable"
        if ways & host.closed:
            return 2 * self.latency_ms, "refused"
        return (2 * self.latency_ms, "refused") if door not in host.doors else None

    def pings(self, source: str, name: str) -> bool:
        """Does this host's kernel answer an echo request of that host? It also does while all its processes hang."""
        host = self.hosts[name]
        cut = (source, name) in self.cut_links or (name, source) in self.cut_links
        return host.power and self.now >= host.up_at and not cut

    def _connect(
        self, source: str, host: VirtualHost, door: Door, method: str, params: tuple[object, ...], sink: OnReply
    ) -> None:
        if (failure := self._connect_failure(source, host, door)) is not None:
            after_ms, why = failure
            self.at(self.now + after_ms, lambda: sink(Lost(why)))
        else:
            self._send(source, host.name, lambda: self._receive(host, door, method, params, source, sink))

    def _receive(
        self,
        host: VirtualHost,
        door: Door,
        method: str,
        params: tuple[object, ...],
        caller: str | None,
        sink: OnReply,
    ) -> None:
        if host.model is None or door not in host.doors:
            self._reply(host, caller, sink, Lost("refused"))
            return
        self._connections += 1
        conn = self._connections
        host.conns[conn] = (caller, sink)
        self._act(host, host.model, host.model.on_call(conn, door, method, params, self.now))

    def _reply(self, host: VirtualHost, caller: str | None, sink: OnReply, result: PeerResult) -> None:
        if caller is None:
            sink(result)
        else:
            self._send(host.name, caller, lambda: sink(result))

    # -------------------------------------------------------------------------------- driving a model

    def _start(self, host: VirtualHost) -> None:
        if host.model is not None or not host.power or host.gated:
            return
        if host.held:
            self._note(host.name, Event("start-held"))
            return
        host.last_pid += 1
        host.pid, host.started_ms = host.last_pid, self.now
        limit, full_stops = self._unix_limit, self._full_stops
        config = HostConfig(host.address, host.pid, self.times, self._variant, unix_limit=limit, full_stops=full_stops)
        model = host.model = XapiModel(config, host.disk, host.domains)
        self._act(host, model, model.start(self.now))

    def _start_later(self, host: VirtualHost) -> None:
        boot = host.boot

        def start() -> None:
            if host.boot == boot and host.wanted:
                self._when_awake(host, lambda: self._start(host))

        self.at(self.now + self.times.restart_ms, start)

    def _forget_process(self, host: VirtualHost) -> None:
        host.model = host.late = None
        host.pid = 0
        host.doors.clear()

    def _ended(self, host: VirtualHost, model: XapiModel, code: int) -> None:
        if host.model is not model:
            return
        late = host.late is model
        self._forget_process(host)
        for cookie in (STARTUP_COOKIE, INIT_COOKIE):
            host.disk.remove(cookie)
        conns, host.conns = host.conns, {}
        for caller, sink in conns.values():
            self._reply(host, caller, sink, Lost("reset"))
        if code != 0 or late:
            self._start_later(host)

    def _act(self, host: VirtualHost, model: XapiModel, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Event():
                    self._note(host.name, action)
                case Reply(conn, result):
                    self._answer(host, conn, result)
                case HttpError(conn, status):
                    self._answer(host, conn, Lost(f"http-{status}"))
                case Listen(door):
                    host.doors.add(door)
                case PeerCall():
                    self._call_peer(host, model, action)
                case WakeAt(at_ms):
                    self._wake_at(host, model, at_ms)
                case Exit(code):
                    self._ended(host, model, code)
                case CancelPeer() | HangForever():
                    pass

    def _answer(self, host: VirtualHost, conn: int, result: Answer | Fault | Lost) -> None:
        caller, sink = host.conns.pop(conn, (None, None))
        if sink is not None:
            self._reply(host, caller, sink, result)

    def _call_peer(self, host: VirtualHost, model: XapiModel, call: PeerCall) -> None:
        def sink(result: PeerResult) -> None:
            if host.model is model:
                self._act(host, model, model.on_peer_reply(call.id, result, self.now))

        target = self.host_at(call.address)
        if target is None:
            self.at(self.now + self.dead_connect_ms, lambda: sink(Lost("unreachable")))
        elif target is host:
            self.at(self.now, lambda: self.call(host.name, "tls", call.method, call.params, sink))
        else:
            self._connect(host.name, target, "tls", call.method, call.params, sink)

    def host_at(self, address: str) -> VirtualHost | None:
        """The host that has this management address."""
        found = self._by_address.get(address)
        if found is None or found.address != address:
            self._by_address = {host.address: host for host in self.hosts.values()}
            found = self._by_address.get(address)
        return found

    def _wake_at(self, host: VirtualHost, model: XapiModel, at_ms: int) -> None:
        def wake() -> None:
            if host.model is model:
                self._when_awake(host, tick)

        def tick() -> None:
            if host.model is model:
                self._act(host, model, model.on_timer(self.now))

        self.at(at_ms, wake)

    def _note(self, name: str, event: Event) -> None:
        self.log.append(LogEntry(self.now, name, event))
