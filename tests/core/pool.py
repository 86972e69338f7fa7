"""A pool in words, for tests of the core: three hosts, a device each, time by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, Self

from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Effect, HandOver, ReadPower, Reply, SendChallenge, SendOrder
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import (
    AssumptionSeen,
    AssumptionsSeen,
    BootGate,
    DatabaseFacts,
    Disk,
    Finding,
    Freshness,
    HostFacts,
    Liveness,
    Machine,
    PoolHost,
    PoolView,
    Probe,
    ProbeOutcome,
    RoleFacts,
    Tombstone,
    ToolstackHold,
    XapiFacts,
)
from poolwarden_collector.core.model.order_results import (
    ClaimOutcome,
    OrderOutcome,
    Placement,
    PlacementView,
    RoleAnswer,
    RoleClaim,
)
from poolwarden_collector.core.model.order_results import Outcome as OrderEnd
from poolwarden_collector.core.model.orders import KIND_NAMES, Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.values import ProcessId, Role, Tri
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold

POOL = "aaaaaaaa-0000-4000-8000-000000000000"
CAPABLE = frozenset(KIND_NAMES.values())
QUIET = 3_000
P = ParamSpec("P")


def uuid(n: int) -> str:
    return f"{n:08d}-0000-4000-8000-00000000000{n % 10}"


def address(n: int) -> str:
    return f"10.0.0.{n}"


class Host:
    """One host's truth; the harness turns it into reports."""

    def __init__(self, n: int, master: bool) -> None:
        self.n = n
        self.uuid = uuid(n)
        self.boot = f"boot-{n}-1"
        self.pool_conf = Role.MASTER if master else Role.MEMBER
        self.master_address = "" if master else address(1)
        self.running = self.pool_conf
        self.serves = master
        self.liveness = Liveness.ANSWERS
        self.socket = Liveness.ANSWERS
        self.unwell_since: int | None = None
        self.process = ProcessId(100 + n, 1000 + n)
        self.unasked_starts = 0  # of its xapi, in ten minutes
        self.ended_at: int | None = None
        self.generation = 50
        self.sound = Tri.YES
        self.ha = Tri.NO
        self.emergency = ""  # xapi's code; empty: not in emergency mode
        self.domains: tuple[str, ...] | None = ()
        self.free = 10 * 2**30
        self.answers = True  # its xapi over the network
        self.untold = False  # it is there, and tells no role on any port
        self.shows = ""  # the certificate that it shows to whoever asks for its role
        self.filtered: tuple[int, ...] = ()  # ports that its firewall drops; 0: TCP 443
        self.agent = True
        self.power = Power.ON
        self.stream = 1
        self.orders: list[Order] = []
        self.tombstone: Tombstone | None = None
        self.placements: PlacementView | None = PlacementView(True, 50, "state.db")
        self.unanswered_since: dict[str, int] = {}
        self.hold: ToolstackHold | None = None
        self.gate: BootGate | None = None
        self.closed = False  # its ports refuse
        self.placed = 0  # generation of a placed database
        self.gc_term = 0  # the promotion since which storage's garbage collection is held
        self.machine = f"dmi-{n}"
        self.shown: dict[str, tuple[Finding, int | None]] | None = None  # assumptions, and when they were looked at
        self.xapi_version = "26.1.3"
        self.release = "XCP-ng 8.3, xapi 26.1.3"  # under which it has seen them
        self.says: DeviceIdentity | None = None  # what its device says of its machine; None: the truth

    def of_machine(self) -> Machine:
        return Machine(self.machine, self.machine)

    def assumptions(self) -> AssumptionsSeen | None:
        """What it has shown, under its present release; None: its agent tells nothing of them."""
        if self.shown is None:
            return None
        told = [AssumptionSeen(id, how, "seen", self.release, at) for id, (how, at) in self.shown.items()]
        return AssumptionsSeen(tuple(told))

    def shows_assumption(self, id: str, how: Finding | None, at: int | None = None) -> None:
        """From now on; None: it tells nothing of this one."""
        self.shown = {other: seen for other, seen in (self.shown or {}).items() if other != id}
        if how is not None:
            self.shown[id] = (how, at)

    def read(self, effect: ReadPower, now: int, power: Power | None = None) -> PowerReading:
        """A reading of this host's device, at once."""
        said = self.says if self.says is not None else DeviceIdentity(serials=(self.machine,))
        answer = said if effect.identify else None
        return PowerReading(power or self.power, effect.device, now, now + 1, "fake", answer)


_begun: dict[str, Guarded] = {}  # what a pool was made with -> it, Healthy


def played_once(make: Callable[P, Guarded]) -> Callable[P, Guarded]:
    """A maker of pools that plays each once per process, and gives a copy each time. For a maker that asks nothing of
    the test around it: what it makes hangs on its arguments alone."""
    made: dict[str, Guarded] = {}

    @wraps(make)
    def copy_of(*args: P.args, **named: P.kwargs) -> Guarded:
        given = repr((args, named))
        if given not in made:
            made[given] = make(*args, **named)
        return made[given].copy()

    return copy_of


class Guarded:
    """A pool under the engine, with every effect recorded and time moved by hand."""

    def __init__(
        self,
        hosts: int = 3,
        devices: bool = True,
        policy: Policy | None = None,
        says: dict[int, DeviceIdentity] | None = None,
        machine: str = "",
        uuids: dict[int, str] | None = None,
    ) -> None:
        """says: what hosts' devices say of their machine, not the truth; machine: what all hosts say they are."""
        self.now = 1_000
        self.hosts = [Host(n, n == 1) for n in range(1, hosts + 1)]
        for host in self.hosts:
            host.says, host.machine = (says or {}).get(host.n), machine or (uuids or {}).get(host.n, host.machine)
        wanted = {h.uuid: (FenceDevice(f"bmc-{h.n}", h.uuid),) for h in self.hosts} if devices else {}
        self.policy = policy or Policy(quiet_time=QUIET)
        self.site = Site(1, self.now, self.now + QUIET)
        self.pool = Pool(PoolRecord(POOL), self.policy, wanted)
        self.journal: list[Entry] = []
        self.folded = PoolRecord(POOL)
        self.effects: list[Effect] = []
        self.auto_answer = True
        self.on_order: Callable[[Host, Order], OrderOutcome | None] | None = None
        if type(self) is not Guarded:
            self.begin()
            return
        given = repr((hosts, devices, self.policy, says, machine, uuids))
        if given not in _begun:
            self.begin()
            _begun[given] = self.copy()
        self.__dict__.update(_begun[given].copy().__dict__)

    def begin(self) -> None:
        """Every agent connects and reports, until the pool is Healthy. A plain pool's is played once per process."""
        for host in self.hosts:
            self.connect(host)
        self.run(12_000)

    def copy(self) -> Self:
        """The same pool at the same moment: what is changed of the one is not of the other, but for the data of an
        entry, which all of them share: a test replaces the entry.
        """
        other = copy.copy(self)
        other.hosts = copy.deepcopy(self.hosts)
        other.journal, other.effects = [*self.journal], [*self.effects]
        return other

    # ---- doing

    def feed(self, event: ev.Event) -> StepResult:
        # A test may have written into record or journal by hand.
        before = self.folded if self.folded == self.pool.record else fold(PoolRecord(POOL), self.journal)
        outcome = step(self.pool, event, self.now, self.site)
        self.pool = outcome.pool
        self.journal.extend(outcome.entries)
        self.effects.extend(outcome.effects)
        self.folded = fold(before, outcome.entries)
        assert self.folded == self.pool.record, "the record is not the fold of its journal"
        for effect in outcome.effects:
            self._perform(effect)
        return outcome

    def host(self, n: int) -> Host:
        return self.hosts[n - 1]

    def by_uuid(self, wanted: str) -> Host:
        return next(h for h in self.hosts if h.uuid == wanted)

    def connect(self, host: Host, **changes: Any) -> None:
        host.stream += 1
        hello = Hello(
            host.uuid, POOL, host.boot, f"host-{host.n}", address(host.n), "0.1.0", CAPABLE, host.of_machine()
        )
        self.feed(ev.AgentConnected(host.stream, replace(hello, **changes)))

    def report(self, host: Host) -> None:
        self.feed(ev.AgentReported(host.uuid, host.stream, self.facts(host)))

    def run(self, ms: int, tick: int | None = None) -> None:
        """Let time pass: reports each 2 s, a tick each 250 ms as a collector's, after five seconds each second."""
        begin = self.now
        while self.now < begin + ms:
            step = tick or (250 if self.now - begin < 5_000 else 1_000)
            self.now += step if self.now % step == 0 else 250
            if self.now % 2_000 == 0:
                for host in self.hosts:
                    if host.agent:
                        self.report(host)
            self.feed(ev.Tick())

    def say(self, verb: str, host: int | None = None, **args: str) -> Reply | None:
        if verb == "approve" and "shoot" in args:
            args = {"typed_name": self.to_be_shot(), **args}
        given = tuple(sorted(args.items()))
        outcome = self.feed(ev.OperatorSaid("r1", "alice", verb, uuid(host) if host else "", given))
        return next((e for e in outcome.effects if isinstance(e, Reply)), None)

    def to_be_shot(self) -> str:
        """The name of the host that a yes to a shot is about; empty: nothing is asked."""
        record = self.pool.record
        if record.question is None:
            return ""
        open_one = record.failover is not None and record.failover.open
        return record.name_of(record.failover.old_master if open_one and record.failover else record.question.host)

    def cut_power(self, n: int = 1) -> None:
        host = self.host(n)
        host.agent, host.answers, host.power = False, False, Power.OFF
        self.feed(ev.AgentGone(host.uuid, host.stream))

    # ---- what the world answers

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPower):
            host = self.by_uuid(effect.host)
            reading = host.read(effect, self.now)
            self.feed(ev.PowerRead(effect.host, effect.run_id, reading))
        elif isinstance(effect, SendOrder):
            host = self.by_uuid(effect.order.host)
            host.orders.append(effect.order)
            if self.auto_answer and host.agent:
                result = self.on_order(host, effect.order) if self.on_order else self.default(host, effect.order)
                if result is not None:
                    self.feed(ev.OrderAnswered(host.uuid, host.stream, result))
        elif isinstance(effect, HandOver) and self.auto_answer:
            self.feed(self.hand_over(effect))
        elif isinstance(effect, SendChallenge):
            host = self.by_uuid(effect.host)
            if host.agent:
                self.feed(ev.ChallengeAnswered(host.uuid, effect.nonce, host.boot))

    def hand_over(self, effect: HandOver) -> ev.DatabaseTransferred:
        """The source's file, with its placements, becomes what the target would load."""
        source, target = self.by_uuid(effect.source), self.by_uuid(effect.target)
        target.placed = target.generation = source.generation
        target.placements = source.placements
        end = (effect.transfer_id, effect.source, effect.target, True, source.generation, 1_000, "00ff", "placed")
        return ev.DatabaseTransferred(*end)

    def default(self, host: Host, order: Order) -> OrderOutcome | None:
        done = OrderOutcome(order.order_id, order.kind_name, OrderEnd.DONE, term=order.term)
        old = next((h for h in self.hosts if h.n == 1), None)
        assert old is not None
        if order.kind_name == "claim":
            placed = replace(host.placements, generation=host.generation) if host.placements is not None else None
            look = self.probe(host, old) if order.kind.old_master.host else None  # type: ignore[union-attr]
            return replace(done, claim=ClaimOutcome(look, placed))
        if order.kind_name == "probe_now":
            ports = [each.port for each in order.kind.targets]  # type: ignore[union-attr]
            probes = tuple(self.probe(host, old, port) if port else self.probe(host, old) for port in ports)
            roles = tuple(self.role_told(target.host) for target in order.kind.ask_role)  # type: ignore[union-attr]
            return replace(done, probes=probes, nonce=order.kind.nonce, roles=roles)  # type: ignore[union-attr]
        if order.kind_name == "collect_evidence":
            return replace(done, placements=host.placements)
        if order.kind_name == "release_gc":
            host.gc_term = 0
        if order.kind_name == "promote":
            host.gc_term = order.term if order.kind.hold_gc else host.gc_term  # type: ignore[union-attr]
            host.pool_conf, host.running, host.serves = Role.MASTER, Role.MASTER, True
            host.process = ProcessId(host.process.pid + 1000, host.process.start_ticks + 1000)
        if order.kind_name == "repoint":
            host.pool_conf, host.running = Role.MEMBER, Role.MEMBER
            host.master_address = order.kind.master_address  # type: ignore[union-attr]
            host.serves = False
            host.answers = True
            host.process = ProcessId(host.process.pid + 1000, host.process.start_ticks + 1000)
        if order.kind_name == "toolstack_fence":
            self.hold_toolstack(host, order.term)
            return replace(done, hold=host.hold)
        if order.kind_name == "toolstack_release":
            host.hold, host.closed, host.answers = None, False, True
            host.liveness = host.socket = Liveness.ANSWERS
            if not order.kind.as_master:  # type: ignore[union-attr]
                host.pool_conf = host.running = Role.MEMBER
                host.master_address = order.kind.master_address  # type: ignore[union-attr]
            host.serves = order.kind.as_master  # type: ignore[union-attr]
            host.process = ProcessId(host.process.pid + 1000, host.process.start_ticks + 1000)
        if order.kind_name == "place_database":
            host.placed = 0
        if order.kind_name == "set_tombstone":
            kind = order.kind
            host.tombstone = None if kind.clear else Tombstone(order.term, kind.successor)  # type: ignore[union-attr]
        return done

    def role_told(self, asked: str) -> RoleAnswer:
        host = self.by_uuid(asked)
        if host.untold:
            return RoleAnswer(asked, RoleClaim.UNTOLD, certificate=host.shows, text="port 443: no answer; answers ping")
        if not host.answers or host.power is Power.OFF:
            return RoleAnswer(asked, RoleClaim.SILENT)
        if host.serves:
            return RoleAnswer(asked, RoleClaim.ACTS)
        there = any(address(h.n) == host.master_address and h.answers for h in self.hosts)
        return RoleAnswer(asked, RoleClaim.FOLLOWS, host.master_address, there)

    def hold_toolstack(self, host: Host, term: int) -> None:
        host.hold = ToolstackHold(term, True, True, self.now)
        host.closed, host.answers, host.serves = True, False, False
        host.liveness = host.socket = Liveness.DOWN
        host.process = ProcessId(0, 0)

    def probe(self, host: Host, target: Host, port: int = 0) -> Probe:
        ok = target.answers
        if ok:
            host.unanswered_since.pop(target.uuid, None)
        else:
            host.unanswered_since.setdefault(target.uuid, self.now)
        silent = ProbeOutcome.REFUSED if target.closed and port not in target.filtered else ProbeOutcome.NO_ANSWER
        outcome = ProbeOutcome.ANSWERED if ok else silent
        since = host.unanswered_since.get(target.uuid)
        return Probe(target.uuid, address(target.n), outcome, self.now, self.now if ok else None, since)

    def facts(self, host: Host) -> HostFacts:
        masters = [h for h in self.hosts if address(h.n) == host.master_address]
        orphaned = host.pool_conf is Role.MEMBER and not any(h.answers and h.serves for h in masters)
        view = None
        if host.serves:
            members = tuple(PoolHost(h.uuid, f"host-{h.n}", address(h.n), True, True) for h in self.hosts)
            view = PoolView(POOL, "lab", host.uuid, members, Tri.NO, Tri.NO)
        unwell = host.liveness is not Liveness.ANSWERS
        since = host.unwell_since if host.unwell_since is not None else (self.now if unwell else 0)
        return HostFacts(
            Freshness(self.now, self.now, self.now, self.now if host.serves else None),
            RoleFacts(host.pool_conf, host.master_address, host.running, host.master_address, host.serves),
            XapiFacts(
                host.liveness,
                since,
                host.socket,
                since,
                host.process,
                Tri.YES if host.emergency else Tri.NO,
                host.emergency,
                orphaned=orphaned,
                startup_cookie=True,
                unasked_starts=host.unasked_starts,
                ended_at=host.ended_at,
            ),
            DatabaseFacts(
                host.generation, "state.db", 0, host.ha, Tri.NO, host.sound, "a row is missing" * (host.sound is Tri.NO)
            ),
            (Disk("/", 18 * 2**30, host.free, 1000, 900, True),),
            2**32,
            2**31,
            host.domains,
            tuple(self.probe(host, other) for other in self.hosts if other is not host),
            view,
            host.tombstone,
            address(host.n),
            "XCP-ng 8.3",
            host.xapi_version,
            host.hold,
            host.gate,
            gc_term=host.gc_term,
            assumptions=host.assumptions(),
        )

    # ---- asking

    @property
    def verdict(self) -> str:
        return self.pool.live.verdict.word

    def kinds(self) -> list[str]:
        return [entry.kind.value for entry in self.journal]

    def entry(self, kind: Kind) -> Entry:
        return next(entry for entry in reversed(self.journal) if entry.kind is kind)

    def has(self, kind: Kind) -> bool:
        return any(entry.kind is kind for entry in self.journal)

    def promoted(self) -> list[str]:
        return [o.host for h in self.hosts for o in h.orders if o.kind_name == "promote"]

    def restart_collector(self, after: int = 1_000) -> None:
        """Forget everything that is not in the journal, and start again with the next epoch."""
        self.now += after
        self.site = Site(self.site.epoch + 1, self.now, self.now + QUIET)
        self.pool = Pool(fold(PoolRecord(POOL), self.journal), self.policy, self.pool.devices)
        for host in self.hosts:
            if host.agent:
                self.connect(host)


def running(vm: str, where: str, name: str = "") -> Placement:
    return Placement(vm, where, name)
