"""One host's agent in virtual time: the production host side, driven by a loop, and its end of the stream.

The driving protocol is host_side.py's. What blocks in production takes its time here too: an unanswered probe is known
at its limit, orders are carried out one after the other. A stopped (frozen) agent does nothing until it is thawed; what
had arrived is read then, and its timers fire late. A crash loses everything but the durable slot.

Its clock is its host's monotonic one: it starts anew with each boot, and may run too fast or too slow (``drift_ppm``).
There is no wall clock here, in the agent's core or in the collector's: a step of NTP has no effect by construction.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate_state, orders
from poolwarden_agent.core.collector_turns import Address, Turns, first_of, parsed
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.authority import Authority, Heard
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host.observer import LOCAL_LIMIT_MS, SOCKET_LIMIT_MS
from poolwarden_lab.virtual.agent.member_fences import MemberFences
from poolwarden_lab.virtual.agent.port import AgentKilled, SimPort
from poolwarden_lab.virtual.agent.slot import Slot
from poolwarden_lab.virtual.agent.slow import SlowOrders
from poolwarden_lab.virtual.checks.kills import Kills
from poolwarden_lab.virtual.world.streams import Stream
from poolwarden_lab.virtual.world.tapped import TappedPool

APART = ("order_result", "challenge_answer", "gate_question")  # what may be told twice, or overtake
FIRST_WAIT_MS = 200
GATE_MS = 2_000
LONGEST_WAIT_MS = 5_000
AFTER_BOOT_MS = 8_000  # how long after the kernel's start the agent starts
RESTART_MS = 1_000  # systemd's pause before it starts a crashed agent again


def nobody_dies(_point: str) -> bool:
    return False


class Watch(Protocol):
    """The invariants of the pool, as far as an agent tells them something."""

    kills: Kills

    def on_numbers(self, name: str, epoch: int, term: int) -> None: ...


class AgentsPool(Protocol):
    """The pool whose host an agent runs on."""

    pool: TappedPool
    gated: bool
    ungated: set[str]

    @property
    def now(self) -> int: ...
    @property
    def random(self) -> random.Random: ...
    @property
    def invariants(self) -> Watch: ...
    def at(self, ms: int, act: Callable[[], None]) -> None: ...
    def dial(self, name: str, node: str = "") -> Stream | None: ...
    def fences_of(self, name: str) -> MemberFences | None: ...
    def decided_by(self) -> int: ...
    def obeyed(self, name: str, epoch: int, kind: str, decided_by: int) -> None: ...


class _Signed(Authority):
    """Every message of several collectors counts as signed with a pinned order key, without the work of it: a host that
    has counted epochs obeys the first one of an ownership only so.
    """

    def open(self, message: pb.CollectorMessage) -> Heard:
        return super().open(message)._replace(signed=True)


class SimAgent:
    """The agent of one host over all its boots. ``dies`` is asked at each step of an order's durable write."""

    def __init__(self, world: AgentsPool, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.slot = Slot()
        self.stream: Stream | None = None
        self.side: HostSide | None = None
        self.port: SimPort | None = None
        self.dies: Callable[[str], bool] = nobody_dies
        self.crashes = 0
        self.results: list[pb.OrderResult] = []
        self.absent = False  # this host has no agent
        self.stopped = False  # SIGSTOP of the agent alone
        self.down = False  # systemctl stop: away until it is started, or the host boots
        self.version = ""  # what it says of its version; empty: the present one
        self.missing: frozenset[str] = frozenset()  # capabilities that an older version does not have
        self.claims_host = ""  # the uuid of another host, where this one was cloned from it
        self.claims_pool = ""  # another pool's uuid
        self.shown: dict[str, pb.AssumptionResult] = {}  # what it is said to have seen of what is assumed of its host
        self.release = ""  # its software's version; empty: that of its disk
        self._seen: dict[str, pb.AssumptionResult] = {}  # what its own report said of that last
        self.listed: tuple[str, ...] = ()  # several collectors, HOST:PORT, as its agent.conf has them; empty: one
        self._turns: Turns | None = None
        self._dialled: Address | None = None  # which of several the stream goes to
        self.drift_ppm = 0
        self.offset_ms = 0  # added to its uptime from its next boot on
        self._life = 0  # grows with each start and each death: what was planned before is void
        self._booted_at = 0
        self._up_before = 1_000_000 * number  # its clock at the story's start: no two hosts' agree
        self._wait = FIRST_WAIT_MS
        self._inbox: deque[bytes] = deque()
        self._late: list[Callable[[], None]] = []
        self._work: deque[orders.Order] = deque()
        self._busy = False
        self._slow = SlowOrders(self._later, self._carried_out, self._answer, self.crash)
        self._probing: set[str] = set()
        self._due: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------ life

    def mono(self) -> int:
        """This boot's monotonic clock, ms."""
        up = self.world.now - self._booted_at
        return up + up * self.drift_ppm // 1_000_000 + self._up_before

    def set_drift(self, ppm: int) -> None:
        """Its oscillator runs so much too fast (or too slow) from now on."""
        up = self.world.now - self._booted_at
        self._up_before += up * (self.drift_ppm - ppm) // 1_000_000
        self.drift_ppm = ppm

    def boot(self, takes_ms: int) -> None:
        """The host has been switched on; its kernel and services need so long until xapi starts."""
        if takes_ms:
            self._up_before = self.offset_ms
        self._booted_at = self.world.now
        self.stopped = self.down = False
        self._life += 1
        self._start_in(min(takes_ms, AFTER_BOOT_MS))

    def _start_in(self, ms: int) -> None:
        life = self._life
        self.world.at(self.world.now + ms, lambda: self._start(life))

    def _start(self, life: int) -> None:
        if life != self._life or self.absent or self.down or not self.world.pool.hosts[self.name].power:
            return
        self.port = SimPort(self.world.pool, self.name, self.mono, self.slot, self._dies, self._gated())
        self.port.pretend(self.missing, self.claims_host)
        self.port.wait_for = self._slow.wait_for
        self.port.fences = self.world.fences_of(self.name)
        self.port.listed = self.listed
        if self.listed:
            addresses = [each for each in map(parsed, self.listed) if each is not None]
            self._turns = Turns(addresses, first_of(self.world.pool.hosts[self.name].uuid, len(addresses)))
        self.side = HostSide(self.port, "3.6.8", background=True)
        if self.listed:
            self.side.conversation._authority = _Signed(self.port, self.side.executor.pool)
        self._inbox.clear()
        self._late.clear()
        self._work.clear()
        self._probing.clear()
        self._due.clear()
        self._busy = False
        self._wait = FIRST_WAIT_MS
        self._look_at_host()
        try:
            self.side.executor.remember()
        except AgentKilled:
            self.crash()
            return
        self._look_at_xapi()
        self._dial()
        self._watch_gate()

    def _gated(self) -> bool:
        """Has this boot a gate? The first one of a story has none: it begins with a pool that runs."""
        return self.world.gated and self.world.pool.hosts[self.name].boot > 1

    def may_start(self) -> bool:
        """The boot gate's answer to systemd; shut while the agent is not up."""
        if not self._gated() or self.absent or self.name in self.world.ungated:
            return True
        return self._opened() or (self.side is not None and self.side.boot.allows())

    def _opened(self) -> bool:
        """Has local root opened the gate in this boot? A hold and a tombstone stand before that."""
        if self.world.pool.hosts[self.name].opened != self.world.pool.hosts[self.name].boot:
            return False
        state = self.stored()
        return state is not None and state.hold is None and state.tombstone is None

    def stored(self) -> gate_state.GateState | None:
        """What is durable, as another program of this host reads it; None: it cannot be read."""
        try:
            payload = self.slot.load()
            return gate_state.decode(payload) if payload else gate_state.EMPTY
        except (SlotError, ValueError):
            return None

    def _watch_gate(self) -> None:
        """Ask and decide, each two seconds, until xapi may start."""
        side = self.side
        if side is None or not side.boot.watching:
            return
        connected = self.stream is not None
        if connected:
            self._send(side.conversation.gate_question())
        if side.boot.look_due():
            side.boot.look()
        self._settle_gate()
        self._later(GATE_MS, self._watch_gate)

    def _settle_gate(self) -> None:
        side = self.side
        if side is None or not side.boot.watching:
            return
        before = side.boot.decision
        try:
            side.boot.settle(self.stream is not None)
        except AgentKilled:
            self.crash()
            return
        if side.boot.decision.state != before.state and self.stream is not None:
            side.observer.look_at_host()
            self._send(side.conversation.report())

    def _dies(self, point: str) -> bool:
        return self.dies(point)

    def unplugged(self) -> None:
        """The power went: nothing runs on; the stream is silent until keepalive notices."""
        self._life += 1
        self._slow.end()
        self.side = self.port = None
        if self.stream is not None:
            self.stream.abandon()
            self.stream = None

    def crash(self, restart_after_ms: int = RESTART_MS) -> None:
        """kill -9 of the whole unit; systemd starts it again."""
        self.crashes += 1
        if self.stream is not None:
            self.stream.end()
        self.unplugged()
        self.stopped = False
        self._start_in(restart_after_ms)

    def say_goodbye(self, reason: pb.Goodbye.Reason.ValueType) -> None:
        """Leave with a word (an agent that stands still says none); nothing runs on."""
        stream = self.stream
        if self.side is not None and stream is not None and not self.asleep:
            self._send(self.side.conversation.goodbye(reason))
            stream.finish()
            self.stream = None
        self.unplugged()

    def stop(self) -> None:
        """systemctl stop."""
        self.say_goodbye(pb.Goodbye.AGENT_STOP)
        self.down = True

    def start(self) -> None:
        """systemctl start, where it was stopped (or where there was none)."""
        if self.side is None:
            self.absent = self.down = False
            self._life += 1
            self._start_in(0)

    def upgrade(self, version: str, takes_ms: int = RESTART_MS) -> None:
        """It goes with a word and comes back with another version."""
        self.say_goodbye(pb.Goodbye.AGENT_UPGRADE)
        self.version = version
        self._start_in(takes_ms)

    def move(self) -> None:
        """It is to attach to another collector: its stream ends, and it dials anew."""
        if self.stream is not None:
            self.stream.end()

    @property
    def asleep(self) -> bool:
        """Does its process stand still?"""
        return self.stopped or self.world.pool.hosts[self.name].frozen

    def thawed(self) -> None:
        """Read what had arrived, then do what is overdue."""
        if self.asleep:
            return
        while self._inbox:
            self._hear(self._inbox.popleft())
        late, self._late = self._late, []
        for act in late:
            act()

    def _later(self, delay: int, act: Callable[[], None]) -> None:
        """A timer of this process: void after its death, late while it is stopped."""
        life = self._life

        def fire() -> None:
            if life != self._life:
                return
            if self.asleep:
                self._late.append(fire)
            else:
                act()

        self.world.at(self.world.now + delay, fire)

    # ------------------------------------------------------------------------------------------ stream

    def _dial(self) -> None:
        if self.stream is not None or self.side is None:
            return
        if self._turns is not None:
            self._dial_in_turn(self._turns)
            return
        stream = self.world.dial(self.name)
        if stream is None:
            self._wait = min(self._wait * 2, LONGEST_WAIT_MS)
            self._redial()
            return
        self._open(stream)

    def _dial_in_turn(self, turns: Turns) -> None:
        """One of several collectors, as the link side chooses it."""
        address = turns.next(self.mono() / 1000).address
        stream = self.world.dial(self.name, address[0])
        if stream is None:
            turns.failed(address, self.mono() / 1000, self._share())
            self._later(self._pause(turns), self._dial)
            return
        self._dialled = address
        self._open(stream)

    def _share(self) -> float:
        return 0.5 + self.world.random.random()

    def _pause(self, turns: Turns) -> int:
        return max(1, int(turns.next(self.mono() / 1000).wait_s * 1000))

    def _open(self, stream: Stream) -> None:
        if self.side is None:
            return
        self.stream = stream
        self._wait = FIRST_WAIT_MS
        for message in self.side.conversation.link_up():
            self._send(message)
        self._later(self.side.conversation.settings.report_interval_ms, lambda: self._report(stream))

    def _redial(self) -> None:
        jitter = 0.5 + self.world.random.random()
        self._later(int(self._wait * jitter), self._dial)

    def stream_ended(self, stream: Stream) -> None:
        if self.stream is stream:
            self.stream = None
            if self._turns is not None and self._dialled is not None:
                self._leave(self._turns, self._dialled, None)
            elif self.side is not None:
                self._redial()

    def _leave(self, turns: Turns, address: Address, go: str | None) -> None:
        """Its stream to one of several collectors is over; ``go``: where that one sends it, empty: to any other."""
        self._dialled = None
        if self.side is None:
            return
        now, to = self.mono() / 1000, parsed(go) if go else None
        if to is not None:
            turns.sent(address, to, now)
        elif go is None and self.side.conversation.obeyed:
            turns.ended(address, now, self._share())
        else:
            turns.failed(address, now, self._share())
        self._later(self._pause(turns), self._dial)

    def _follow_word(self, turns: Turns, address: Address) -> None:
        """What became of the stream by the last message: it is welcomed, or given up for another collector's."""
        side, stream = self.side, self.stream
        if side is None or stream is None:
            return
        if side.conversation.take_welcomed() is not None:
            turns.welcomed(address, self.mono() / 1000)
        go = side.conversation.take_elsewhere()
        if go is not None:
            self.stream = None
            self._leave(turns, address, go)
            stream.end()

    def _send(self, message: pb.AgentMessage) -> None:
        if self.stream is None or self.stream.up is None:
            return
        body = message.WhichOneof("body")
        if body == "hello":
            hello = message.hello
            self._pretend(hello)
            self.world.invariants.on_numbers(self.name, hello.highest_epoch, hello.highest_term)
        elif body == "report":
            self._pretend_seen(message.report)
        elif body == "order_result":
            self.results.append(message.order_result)
            result = message.order_result
            self.world.invariants.on_numbers(self.name, result.epoch, result.term)
        self.stream.up.send(message.SerializeToString(), apart=body in APART)

    def _pretend(self, hello: pb.Hello) -> None:
        """A fault's version and pool instead of the true ones."""
        if self.version:
            hello.agent_version = self.version
        if self.claims_pool:
            hello.pool_uuid = self.claims_pool

    def shows(self, id: str, finding: str, evidence: str) -> None:
        """It has just seen this of what is assumed of its host: fails, holds; or it tells nothing of it (unseen)."""
        self.shown.pop(id, None)
        if finding != "unseen":
            word = pb.AssumptionResult.HOLDS if finding == "holds" else pb.AssumptionResult.FAILS
            boot = str(self.world.pool.hosts[self.name].boot)
            self.shown[id] = pb.AssumptionResult(id=id, finding=word, evidence=evidence, boot_id=boot)
            self.shown[id].release = self.release or "8.3.0"
            self.shown[id].seen_mono_ms = self.mono()

    def mend(self) -> None:
        """Everything that it has seen to fail it sees to hold now."""
        for id in tuple(self.shown):
            self.shows(id, "holds", "as it should be")

    def _pretend_seen(self, report: pb.Report) -> None:
        """What a story says that it has seen, beside what it has; and a release that its disk does not have."""
        if report.HasField("assumptions"):
            self._seen = {each.id: each for each in report.assumptions.results}
        if self.shown or self._seen:
            del report.assumptions.results[:]
            report.assumptions.results.extend({**self._seen, **self.shown}.values())
        if self.release and report.HasField("software"):
            report.software.product_version = report.software.xapi_version = self.release

    def arrived(self, raw: bytes) -> None:
        """A message of the collector is in this host's socket buffer."""
        if self.asleep:
            self._inbox.append(raw)
        else:
            self._hear(raw)

    def _hear(self, raw: bytes) -> None:
        if self.side is None:
            return
        message = pb.CollectorMessage.FromString(raw)
        try:
            answers, work = self.side.conversation.receive(message)
        except AgentKilled:
            self.crash()
            return
        for answer in answers:
            self._send(answer)
        if self._turns is not None and self._dialled is not None:
            self._follow_word(self._turns, self._dialled)
        if message.WhichOneof("body") == "gate_answer":
            self._settle_gate()
        if work is not None:
            self._take(work)
        self._start_probes()

    # ------------------------------------------------------------------------------------------ saying

    def _report(self, stream: Stream) -> None:
        if self.side is None or self.stream is not stream:
            return
        self._send(self.side.conversation.report())
        self._later(self.side.conversation.settings.report_interval_ms, lambda: self._report(stream))

    def _look_at_xapi(self) -> None:
        """One look at the own xapi, ended when production's would have ended; then the next."""
        if self.side is None or self.port is None:
            return
        blocks = self.port.xapi_blocks_ms(LOCAL_LIMIT_MS + SOCKET_LIMIT_MS)
        self._later(blocks, lambda: self._looked(blocks))

    def _looked(self, took: int) -> None:
        side = self.side
        if side is None:
            return
        settings = side.conversation.settings
        side.observer.look_at_xapi(settings.view_wanted, settings.view_interval_ms)
        self._later(max(100, settings.report_interval_ms - took), self._look_at_xapi)

    def _look_at_host(self) -> None:
        if self.side is None:
            return
        self.side.observer.look_at_host()
        try:
            self.side.executor.tidy()
        except AgentKilled:
            self.crash()
            return
        self._start_probes()
        self._later(self.side.conversation.settings.report_interval_ms, self._look_at_host)

    def _start_probes(self) -> None:
        """Start what is due, never two probes of one target at once (the rules of probers.py)."""
        side, port = self.side, self.port
        if side is None or port is None:
            return
        targets, settings = side.observer.to_probe(), side.conversation.settings
        limit, interval = settings.probe_timeout_ms, settings.probe_interval_ms
        self._due = {target: due for target, due in self._due.items() if target in targets}
        for target, address in sorted(targets.items()):
            if target not in self._probing and self.mono() >= self._due.get(target, 0):
                self._due[target] = self.mono() + interval
                self._probing.add(target)
                self._later(port.peer_blocks_ms(address, limit), partial(self._probed, target, address))
                self._later(interval, self._start_probes)

    def _probed(self, target: str, address: str) -> None:
        if self.side is not None:
            self._probing.discard(target)
            self.side.observer.look_at_peer(target, address, self.side.conversation.settings.probe_timeout_ms)
            self._start_probes()

    # ------------------------------------------------------------------------------------------ obeying

    def _take(self, order: orders.Order) -> None:
        lane = self.side.executor.lane(order) if self.side is not None else ""
        if lane:
            if not self._slow.give(order, lane) and self.side is not None:
                self._send(self.side.conversation.wrap(self.side.executor.too_busy(order)))
            return
        self._work.append(order)
        if not self._busy:
            self._next_work()

    def _next_work(self) -> None:
        self._busy = bool(self._work)
        if self._busy and self.port is not None:
            order = self._work.popleft()
            self._later(self.port.order_blocks_ms(order), lambda: self._carry_out(order))

    def _carry_out(self, order: orders.Order) -> None:
        try:
            result = self._carried_out(order)
        except AgentKilled:
            self.crash()
            return
        self._answer(result)
        self._next_work()

    def _carried_out(self, order: orders.Order) -> pb.OrderResult:
        """The production code's answer. Raises AgentKilled: it died on the way."""
        if self.side is None:
            raise AgentKilled("gone before it began")
        kills = self.world.invariants.kills
        kills.carries_out(self.name, order.kind)
        decided_by = self.world.decided_by()
        result = self.side.executor.carry_out(order, self.side.conversation.settings.probe_timeout_ms)
        if result.outcome == pb.OrderResult.REFUSED:
            kills.carries_out(self.name, order.kind, refused=True)
        else:
            self.world.obeyed(self.name, order.epoch, order.kind, decided_by)
        if self._dies("before answer"):
            raise AgentKilled("before answer")
        return result

    def _answer(self, result: pb.OrderResult) -> None:
        if self.side is None:
            return
        self._send(self.side.conversation.wrap(result))
        self.side.observer.look_at_host()
        # What the act changed is told at once, as the production runner does.
        self._send(self.side.conversation.report())
