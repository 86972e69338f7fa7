"""Pools, their agents, fence devices, network and collectors in one virtual time, with faults to order and a log.

``World`` owns the clock and every simulated process. What can befall it stands in the modules of its base classes, one
noun each: machines, toolstacks, administrators, agency (agents, slots, clocks), links, fences, collectors. All
invariants of every pool that may have changed are checked after every event; the first violation ends the run with the
story so far. ``Simulation`` is a world of one pool with hosts h1 (the master at first), h2 ...
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_lab.virtual.agent.agent import SimAgent
from poolwarden_lab.virtual.checks.invariants import Invariants
from poolwarden_lab.virtual.checks.ownership_rules import OwnershipRules
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.outbox import Webhook
from poolwarden_lab.virtual.collector.station import Station
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings
from poolwarden_lab.virtual.faults.agents import AgentFaults
from poolwarden_lab.virtual.faults.collectors import CollectorFaults
from poolwarden_lab.virtual.faults.databases import FileFaults
from poolwarden_lab.virtual.faults.devices import FenceFaults
from poolwarden_lab.virtual.faults.links import LinkFaults
from poolwarden_lab.virtual.faults.local_root import LocalRoot
from poolwarden_lab.virtual.faults.machines import HostFaults
from poolwarden_lab.virtual.faults.several import SeveralFaults
from poolwarden_lab.virtual.faults.toolstacks import ToolstackFaults
from poolwarden_lab.virtual.several.cluster import Cluster
from poolwarden_lab.virtual.several.shared_shell import SharedShell
from poolwarden_lab.virtual.world.administrators import Administrators
from poolwarden_lab.virtual.world.ground import HostName, NoSuchThing
from poolwarden_lab.virtual.world.guarded import GuardedPool
from poolwarden_lab.virtual.world.network import COLLECTOR, Network
from poolwarden_lab.virtual.world.spec import BMC, QUIET_MS, PoolSpec
from poolwarden_lab.virtual.world.streams import KEEPALIVE_MS, Ends, Stream
from poolwarden_lab.virtual.world.tapped import TappedPool, WatchedClock
from poolwarden_lab.virtual.world.worldlog import Line, read_log
from poolwarden_lab.xapi.trees import VmSpec
from poolwarden_lab.xapi.virtual import VirtualHost

BOOT_MS = 30_000


class World(
    HostFaults,
    ToolstackFaults,
    FileFaults,
    LocalRoot,
    Administrators,
    AgentFaults,
    LinkFaults,
    FenceFaults,
    CollectorFaults,
    SeveralFaults,
    Surroundings,
):
    """See the module's words."""

    def __init__(
        self,
        pools: Sequence[PoolSpec] = (PoolSpec(),),
        seed: int = 0,
        policy: Policy | None = None,
        collectors: int = 0,
    ) -> None:
        """``collectors``: so many over etcd, c1, c2 ...; 0: one alone, ``collector``."""
        self.random = random.Random(seed)
        self._lots = random.Random(f"{seed}/lots")
        self.clock = WatchedClock()
        self.network = Network(self.clock, random.Random(f"{seed}/network"))
        self.happenings: list[tuple[int, str, str]] = []
        self.backups: dict[str, tuple[bytes, ...]] = {}  # of state.db, by host
        self.counters = Counters()
        self.kills_of_collector = 0
        self.may_break: set[PoolId] = set()  # pools of whose steps an error is meant
        self.events = 0
        self.replied: list[tuple[int, str, effects.Reply]] = []
        self._requests = 0
        self._connections = 0
        self._asked: list[tuple[str, str]] = []  # node and request of commands without an answer yet
        self.cluster = Cluster(self, collectors) if collectors else None
        nodes = self.cluster.nodes if self.cluster is not None else [COLLECTOR]
        self.stations: dict[str, Station] = {node: Station(node) for node in nodes}
        self.delivered: list[tuple[int, int, str]] = []  # when, at which attempt, its title and body
        self.webhook = Webhook(
            lambda ms, do: self.at(self.now + ms, do),
            lambda attempts, said: self.delivered.append((self.now, attempts, said)),
        )
        self.pools: dict[str, GuardedPool] = {}
        for number, spec in enumerate(pools):
            prefix = f"{spec.name}/" if len(pools) > 1 else ""
            self.pools[spec.name] = GuardedPool(self, spec, prefix, number)
        self.policy = policy or pools[0].rules
        devices = {host: fences for pool in self.pools.values() for host, fences in pool.fence().items()}
        own = {pool.uuid: pool.spec.rules for pool in self.pools.values()}
        self.settings = Settings(self.policy, devices, pools=own)
        self._by_uuid = {pool.uuid: pool for pool in self.pools.values()}
        self.clock.after_event = self.check
        self.ownership = OwnershipRules(self, self.cluster) if self.cluster is not None else None

    def check(self) -> None:
        """After every event: the invariants of every pool that may have changed."""
        self.events += 1
        for pool in self.pools.values():
            if pool.pool.dirty:
                pool.pool.dirty = False
                pool.invariants.check()
        if self._asked:
            self._take_replies()
        if self.ownership is not None:
            self.ownership.check()

    # ------------------------------------------------------------------------------------------ time

    def run(self, ms: int) -> None:
        ends = self.now + ms
        while (due := self.clock.next_due) is not None and due <= ends:
            self.clock.step()
        self.clock.now = max(self.now, ends)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 600_000) -> None:
        """Run until the condition holds. Raises AssertionError, with the story, if it does not within the limit."""
        ends = self.now + limit_ms
        while not condition():
            due = self.clock.next_due
            if due is None or due > ends:
                raise AssertionError(f"not within {limit_ms} ms\n{self.story()}")
            self.clock.step()

    def begin(self, settle: bool = True) -> World:
        """Power on, start the collector, and wait until every pool is watched: Healthy and every device bound."""
        for pool in self.pools.values():
            for name in pool.names:
                pool.boot(name)
        for node in self.stations:
            self.start_collector(node)
        for pool in self.pools.values():
            pool.pool.boot_ms = BOOT_MS  # from here on a host that is powered on has to boot first
        if settle:
            self._attest_outlets()
            self.run_until(self.settled, 180_000)
        return self

    def _attest_outlets(self) -> None:
        """An outlet cannot tell which machine it feeds: whoever set the pool up has attested each one."""
        for pool in self.pools.values():
            for name, device in pool.outlets():
                self.run_until(partial(pool.reads_unbound, device), 120_000)
                host = pool.pool.hosts[name].uuid
                typed, how = pool.record.name_of(host), "switched it off and saw that power supply go dark"
                self.say("fence-bind", name, typed_name=typed, device=device, how=how)

    def settled(self) -> bool:
        """Is every pool Healthy, with nothing owed, and the collector out of its quiet time?"""
        return all(pool.settled() for pool in self.pools.values())

    # ------------------------------------------------------------------------------------------ surroundings

    def surroundings(self) -> Surroundings:
        return self

    def lot(self) -> int:
        return self._lots.getrandbits(LOT_BITS)

    def new_process(self, station: Station) -> SimCollector:
        return self.cluster.shell(station) if self.cluster is not None else super().new_process(station)

    def guardian(self, pool: PoolId) -> SimCollector | None:
        """The collector that guards this pool; None: none does."""
        return self.cluster.guardian(pool) if self.cluster is not None else self.shell

    def journal(self) -> Ledger:
        """What is durable: one collector's own, several ones' in etcd."""
        return self.cluster.ledger if self.cluster is not None else self.ledger

    def dial(self, name: str, node: str = "") -> Stream | None:
        """An agent's connection attempt, to this collector or to its own; None: refused or lost."""
        place = self.find(name)
        station = self.stations[node or place.pool.collector_of.get(name, COLLECTOR)]
        shell = station.shell
        lost = not self.network.both_ways(name, station.node) or place.pool.pool.deaf(name)
        if shell is None or not shell.alive or shell.frozen or lost:
            return None
        self._connections += 1
        host, agent = place.pool.pool.hosts[name], place.pool.agents[name]

        def answer() -> bool:
            return not agent.asleep and not shell.frozen

        stream = Stream(self.network, Ends(name, station.node, lambda: host.power, answer), self._connections)
        receive = shell.sessions.accept(stream)
        stream.connect(receive, agent.arrived, [lambda: shell.stream_ended(stream), lambda: agent.stream_ended(stream)])
        station.streams = [each for each in station.streams if each.open] + [stream]
        return stream

    def reaches(self, shell: SimCollector, node: str) -> bool:
        return self.network.both_ways(shell.node, node)

    def probe(self, shell: SimCollector, pool: PoolId, address: str, timeout_ms: int) -> ProbeOutcome:
        known = self._by_uuid.get(pool)
        if known is None:  # a host that was set apart: the pool that it makes by itself
            known = next((each for each in self.pools.values() if each.host_at(address) is not None), self.of())
        return known.probe(address, timeout_ms, shell.node)

    def collector_killed(self, shell: SimCollector) -> None:
        self.kills_of_collector += 1
        station = self.stations[shell.node]
        if station.restart_after_ms is not None:
            self.later(station.restart_after_ms, lambda: None if station.runs else self.start_collector(shell.node))

    def step_broke(self, shell: SimCollector, pool: PoolId, error: Exception) -> None:
        """Production drops such a step and goes on; here it is a fault of the engine, unless a test has made it."""
        if pool not in self.may_break:
            raise error

    def performed(self, shell: SimCollector, pool: PoolId, effect: effects.Effect) -> None:
        if pool in self._by_uuid:
            self._by_uuid[pool].invariants.on_effect(shell, effect)
            if self.ownership is not None and isinstance(shell, SharedShell):
                self.ownership.on_effect(shell, pool, effect)

    def decided_by(self, pool: PoolId) -> int:
        return self.ownership.decided_by(pool) if self.ownership is not None else 0

    def obeyed(self, name: str, epoch: int, kind: str, decided_by: int) -> None:
        if self.ownership is not None:
            self.ownership.obeyed(name, epoch, kind, decided_by)

    def switch_begun(self, shell: SimCollector, pool: PoolId, run: str) -> None:
        if self.ownership is not None:
            self.ownership.off_begun(shell, pool, run)

    def power_goes(self, pool: PoolId, epoch: int) -> None:
        if self.ownership is not None:
            self.ownership.power_goes(pool, epoch)

    def committed(self, shell: SimCollector, commit: Commit) -> None:
        if commit.pool in self._by_uuid:
            self._by_uuid[commit.pool].invariants.on_commit(shell, commit)
        if commit.alerts or any(entry.kind is Kind.COLLECTOR_STARTED for entry in commit.entries):
            self.webhook.nudge(shell.ledger, lambda: shell.alive)

    def heard(self, shell: SimCollector, host: HostId, sent_at: int) -> None:
        for pool in self.pools.values():
            if (name := pool.name_of(host)) in pool.pool.hosts:
                pool.invariants.on_heard(name, sent_at)
                return

    # ------------------------------------------------------------------------------------------ operators

    def say(
        self, verb: str, host: HostName = "", pool: str = "", node: str = COLLECTOR, **args: str
    ) -> effects.Reply | None:
        """An operator's command, answered at once or later (then None; see ``replied``).

        host: what it is about (0 or empty: a pool). pool: where it is about a pool and there are several.
        """
        shell = self.stations[node].shell
        if shell is None:
            raise NoSuchThing(f"{node} does not run")
        self._requests += 1
        request = f"request-{self._requests}"
        place = self.find(host) if host else None
        about = place.pool.uuid if place is not None else self.pools[pool].uuid if pool else ""
        self._asked.append((node, request))
        if verb == "approve" and "shoot" in args and "typed_name" not in args:
            args["typed_name"] = self._to_be_shot(shell.pools.get(about or self.of().uuid))
        said = OperatorSaid(request, "alice", verb, place.uuid if place else "", tuple(sorted(args.items())))
        shell.say(said, about)
        self._take_replies()
        return shell.replies.get(request)

    def _to_be_shot(self, pool: Pool | None) -> str:
        """The name that is typed where an old master is to be powered off; empty: nothing is asked."""
        if pool is None or pool.record.question is None:
            return ""
        failover = pool.record.failover
        old = failover.old_master if failover is not None and failover.open else pool.record.question.host
        return pool.record.name_of(old)

    def _take_replies(self) -> None:
        for node, request in list(self._asked):
            shell = self.stations[node].shell
            reply = shell.replies.get(request) if shell is not None else None
            if reply is not None:
                self._asked.remove((node, request))
                self.replied.append((self.now, node, reply))

    def confirm_fenced(self, host: HostName, how: str = "power cord pulled", **more: str) -> effects.Reply | None:
        place = self.find(host)
        return self.say("confirm-fenced", host, typed_name=place.pool.record.name_of(place.uuid), how=how, **more)

    # ------------------------------------------------------------------------------------------ looking

    def log(self) -> list[Line]:
        """Everything that happened, in order: (ms, source, text)."""
        return read_log(self)

    def story(self) -> str:
        """The log for people."""
        return "\n".join(f"{line.ms / 1000:9.3f} {line.source:<14} {line.text}" for line in self.log())

    def close(self) -> None:
        """Nothing of it goes on."""
        if self.cluster is not None:
            self.cluster.close()

    def finish(self) -> None:
        """The end of a run: what must hold of the whole of it. Raises InvariantBroken."""
        for pool in self.pools.values():
            pool.invariants.finish()


class Simulation(World):
    """A world of one pool; what is asked of the world is asked of that pool."""

    def __init__(
        self,
        hosts: int = 3,
        seed: int = 0,
        policy: Policy | None = None,
        devices: bool = True,
        vms: Sequence[VmSpec] = (),
        ha_armed: bool = False,
        boot_gate: bool = True,
    ) -> None:
        kinds = (BMC,) if devices else ()
        spec = PoolSpec("lab", hosts, vms, policy, devices=kinds, ha_armed=ha_armed, gated=boot_gate)
        super().__init__([spec], seed)

    def begin(self, settle: bool = True) -> Simulation:
        super().begin(settle)
        return self

    @property
    def lab(self) -> GuardedPool:
        return self.of()

    @property
    def pool(self) -> TappedPool:
        return self.lab.pool

    @property
    def names(self) -> list[str]:
        return self.lab.names

    @property
    def agents(self) -> dict[str, SimAgent]:
        return self.lab.agents

    @property
    def invariants(self) -> Invariants:
        return self.lab.invariants

    @property
    def ungated(self) -> set[str]:
        return self.lab.ungated

    @property
    def core(self) -> Pool:
        """The engine's state of the pool."""
        return self.lab.core

    @property
    def record(self) -> PoolRecord:
        """What is durable of the pool."""
        return self.lab.record

    @property
    def verdict(self) -> str:
        return self.lab.verdict

    def host(self, i: int) -> VirtualHost:
        return self.pool.hosts[self.names[i - 1]]

    def uuid(self, i: int) -> str:
        return self.host(i).uuid

    def name_of(self, uuid: str) -> str:
        """h1.. for a host's uuid."""
        return self.lab.name_of(uuid)

    def agent(self, i: int) -> SimAgent:
        return self.agents[self.names[i - 1]]

    def has(self, kind: Kind) -> bool:
        return self.lab.has(kind)

    def verdicts(self) -> list[str]:
        return [entry.data["verdict"] for entry in self.ledger.of(Kind.VERDICT)]

    def promote_calls(self) -> list[str]:
        """Hosts whose xapi was told to become master, in order."""
        return self.lab.promote_calls()

    def masters(self) -> list[str]:
        """Hosts whose xapi runs as master and serves."""
        return self.lab.masters()

    def vms_killed(self) -> list[str]:
        """Names of domains that a xapi terminated."""
        return self.lab.vms_killed()

    def initialised(self) -> bool:
        return self.lab.initialised()

    def healed(self, master: str) -> bool:
        """One master, this one; everybody with power follows it; the failover is closed."""
        return self.lab.healed(master)


__all__ = ["KEEPALIVE_MS", "QUIET_MS", "PoolSpec", "Simulation", "World"]
