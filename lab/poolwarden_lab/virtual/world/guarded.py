"""One pool of the world: its hosts with their xapis, machines, agents and fence devices, and its invariants.

Agents and invariants see the world through this. Hosts go by their node names here (``h1`` or ``A/h1``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_lab.statedb import parse_state
from poolwarden_lab.virtual.agent.agent import AFTER_BOOT_MS, SimAgent
from poolwarden_lab.virtual.agent.member_fences import FENCE_AGENT, MemberFences
from poolwarden_lab.virtual.checks.invariants import Invariants
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.collector.ledger import Ledger
from poolwarden_lab.virtual.collector.station import Station
from poolwarden_lab.virtual.collector.surroundings import Settings
from poolwarden_lab.virtual.world.bmc import NEVER, SimBmc
from poolwarden_lab.virtual.world.machine import Machine
from poolwarden_lab.virtual.world.network import COLLECTOR, Network
from poolwarden_lab.virtual.world.spec import PoolSpec
from poolwarden_lab.virtual.world.streams import Stream
from poolwarden_lab.virtual.world.tapped import TappedPool, WatchedClock
from poolwarden_lab.xapi.actions import Answer, Lost
from poolwarden_lab.xapi.database import Database
from poolwarden_lab.xapi.pool_conf import POOL_CONF
from poolwarden_lab.xapi.startup import INIT_COOKIE
from poolwarden_lab.xapi.trees import STATE_DB, HostTree, make_pool_disks, uuid_of
from poolwarden_lab.xapi.virtual import VirtualHost

KEPT = ("etc/xensource-inventory", "etc/hostname", "sys/class/dmi/id/product_uuid", "sys/class/dmi/id/product_serial")


def trees_of(spec: PoolSpec, prefix: str, number: int) -> list[HostTree]:
    """The first content of the pool's hosts, in a network of its own."""
    addresses = [f"10.99.{number}.{11 + host}" for host in range(spec.hosts)]
    made = make_pool_disks(
        spec.hosts,
        spec.name,
        spec.vms,
        addresses=addresses,
        ha_armed=spec.ha_armed,
        https_only=spec.https_only,
        guidances=spec.guidances,
    )
    return [replace(tree, name=prefix + tree.name) for tree in made]


class Around(Protocol):
    """What a pool finds around it: its world's clock, network and collectors."""

    clock: WatchedClock
    random: random.Random
    network: Network
    settings: Settings
    stations: dict[str, Station]

    def guardian(self, pool: str) -> SimCollector | None: ...
    def journal(self) -> Ledger: ...
    def dial(self, name: str, node: str = "") -> Stream | None: ...
    def decided_by(self, pool: str) -> int: ...
    def obeyed(self, name: str, epoch: int, kind: str, decided_by: int) -> None: ...
    def watch(self, name: str) -> None: ...
    def story(self) -> str: ...


class GuardedPool:
    """See the module's words."""

    def __init__(self, world: Around, spec: PoolSpec, prefix: str, number: int) -> None:
        self.world = world
        self.spec = spec
        self.name = spec.name
        self.number = number
        self.prefix = prefix
        self.uuid = uuid_of(spec.name, "pool", spec.name)
        trees = trees_of(spec, prefix, number)
        self.pool = TappedPool(trees, spec.name, world.clock, world.network, full_stops=spec.full_stops)
        self.names = list(self.pool.hosts)
        self.gated = spec.gated
        self.outcasts: set[str] = set()  # hosts that were ejected: they are none of the pool's
        self.collector_of: dict[str, str] = {}  # agents that attach to another collector than the first
        self.ungated: set[str] = set()  # hosts whose gate a story has taken away
        self._share_outlets()
        self.bmcs = {device: bmc for name in self.names for device, bmc in self._make_devices(name)}
        self.agents = {name: SimAgent(self, name, at + 1) for at, name in enumerate(self.names)}
        self.pool.boot_gate = lambda name: self.agents[name].may_start()
        for name, agent in self.agents.items():
            agent.slot.read_only = self._read_only(name)
        for name in spec.absent:
            self.agents[prefix + name].absent = True
        for name, ids in spec.failed.items():
            for id in ids:
                self.agents[prefix + name].shows(id, "fails", "seen before")
        for name in spec.https_only:
            self.pool.set_port(prefix + name, "tcp", "filtered")
        self.invariants = Invariants(self)

    # ------------------------------------------------------------------------------------------ the world's

    @property
    def now(self) -> int:
        return self.world.clock.now

    @property
    def random(self) -> random.Random:
        return self.world.random

    @property
    def network(self) -> Network:
        return self.world.network

    @property
    def shell(self) -> SimCollector | None:
        return self.world.guardian(self.uuid)

    @property
    def ledger(self) -> Ledger:
        return self.world.journal()

    @property
    def settings(self) -> Settings:
        return self.world.settings

    def at(self, ms: int, act: Callable[[], None]) -> None:
        self.world.clock.at(ms, act)

    def dial(self, name: str, node: str = "") -> Stream | None:
        return self.world.dial(name, node)

    def decided_by(self) -> int:
        """With which epoch something new was decided here last, where there are several collectors; 0: with none."""
        return self.world.decided_by(self.uuid)

    def obeyed(self, name: str, epoch: int, kind: str, decided_by: int) -> None:
        """An agent has carried out an order."""
        self.world.obeyed(name, epoch, kind, decided_by)

    def entries_of(self, node: str) -> Iterator[Entry]:
        """This collector's journal of this pool; of a name that is none of theirs: what they have in common."""
        station = self.world.stations.get(node)
        return (station.ledger if station is not None else self.ledger).entries(self.uuid)

    def bmc(self, device: str) -> SimBmc:
        return self.bmcs[device]

    def fences_of(self, name: str) -> MemberFences | None:
        """The fence agents that this host's own configuration allows."""
        allowed = name in [self.prefix + each for each in self.spec.runners or ()]
        return MemberFences(self, name) if allowed else None

    def reaches_device(self, name: str, device: str) -> bool:
        return self.world.network.both_ways(name, device)

    def has_power(self, name: str) -> bool:
        return self.pool.hosts[name].power

    def story(self) -> str:
        return self.world.story()

    # ------------------------------------------------------------------------------------------ machines

    def machine(self, name: str) -> Machine:
        return self.pool.machines[name]

    def _make_devices(self, name: str) -> list[tuple[str, SimBmc]]:
        """A BMC is always there, configured or not; outlets of a PDU where the pool has them."""
        found = [(f"bmc-{name}", self._make_bmc(name))]
        for device, _, feed in self.spec.device_names(name):
            if feed:
                found.append((device, self._make_outlet(device, name, feed)))
        return found

    def together(self, name: str, groups: Sequence[Sequence[str]]) -> list[str]:
        """This host, and those that stand in one of these groups with it."""
        with_it = [self.prefix + each for group in groups if name in map(self.prefix.__add__, group) for each in group]
        return [name, *(each for each in dict.fromkeys(with_it) if each != name)]

    def _share_outlets(self) -> None:
        for name in self.names:
            for other in self.together(name, self.spec.enclosures):
                self.machine(other).outlets = self.machine(name).outlets

    def _make_bmc(self, name: str) -> SimBmc:
        machine, switched = self.machine(name), self.together(name, self.spec.managers)

        def cut(recallable: int) -> None:
            for each in switched:
                self.invariants.power_goes(each, recallable if each == name else NEVER)
                self.machine(each).board = False
                self.settle_power(each)

        def light() -> None:
            for each in switched:
                self.machine(each).board = True
                self.settle_power(each)

        def runs() -> bool:
            return any(self.machine(each).runs for each in switched)

        bmc = SimBmc(f"bmc-{name}", runs, cut, lambda: machine.standby, light)
        if len(switched) > 1:
            bmc.machine = uuid_of(self.spec.name, "enclosure", " ".join(sorted(switched)))
        elif name not in map(self.prefix.__add__, self.spec.mute):
            bmc.machine = self.pool.hosts[name].disk.read("sys/class/dmi/id/product_uuid").decode().strip()
        return bmc

    def _make_outlet(self, device: str, name: str, feed: str) -> SimBmc:
        machine = self.machine(name)

        def cut(recallable: int) -> None:
            if sum(machine.outlets.values()) == 1:
                self.invariants.power_goes(name, recallable)
            machine.outlets[feed] = False
            self.settle_outlets(name)

        def light() -> None:
            machine.outlets[feed] = True
            self.settle_outlets(name)

        return SimBmc(device, lambda: machine.outlets[feed], cut, light=light)

    def fence(self) -> dict[str, tuple[FenceDevice, ...]]:
        """The devices that the collector's configuration names, by host."""
        found = {}
        for name, host in self.pool.hosts.items():
            devices = [
                FenceDevice(
                    device,
                    host.uuid,
                    level,
                    self.spec.hard_limit_ms,
                    agent=FENCE_AGENT,
                    via_members=self.spec.runners is not None,
                )
                for device, level, _ in self.spec.device_names(name)
            ]
            if devices:
                found[host.uuid] = tuple(devices)
        return found

    def outlets(self) -> list[tuple[str, str]]:
        """Host and device of everything in the collector's configuration that cannot tell which machine it switches."""
        mute = [self.prefix + each for each in self.spec.mute]
        devices = [(name, *each) for name in self.names for each in self.spec.device_names(name)]
        return [(name, device) for name, device, _, feed in devices if feed or name in mute]

    def reads_unbound(self, device: str) -> bool:
        """Has the collector read this device and not known whose it is?"""
        shell = self.shell
        state = self.core.live.power.get(device) if shell is not None and self.uuid in shell.pools else None
        return state is not None and bool(state.unbound)

    def settle_power(self, name: str) -> None:
        """The machine's switches or feeds have changed: does it run now?"""
        machine, host = self.machine(name), self.pool.hosts[name]
        if host.power and not machine.runs:
            self.unplugged(name)
        elif not host.power and machine.runs and machine.autostart:
            self.boot(name)

    def settle_outlets(self, name: str) -> None:
        """An outlet of this host has changed, and with it that of whoever shares it."""
        for each in self.together(name, self.spec.enclosures):
            self.settle_power(each)

    def unplugged(self, name: str) -> None:
        """Everything on this machine has stopped at once."""
        self.pool.power_off(name)
        self.machine(name).hung = False
        self.agents[name].unplugged()
        self.world.watch(name)

    def boot(self, name: str) -> None:
        """The kernel starts."""
        machine = self.machine(name)
        takes = self.pool.boot_ms if machine.boot_ms is None else machine.boot_ms
        machine.network_at = self.now + min(takes, AFTER_BOOT_MS)
        machine.hung = self.pool.hosts[name].frozen = False  # whatever stood still before, a new kernel runs
        self.pool.power_on(name)
        self.agents[name].boot(takes)

    def _read_only(self, name: str) -> Callable[[], bool]:
        disk = self.pool.hosts[name].disk
        return lambda: disk.read_only

    # ------------------------------------------------------------------------------------------ members come and go

    def set_apart(self, name: str) -> None:
        """An ejected host's disk is that of a pool of its own, and the host boots."""
        host = self.pool.hosts[name]
        alone = make_pool_disks(1, f"{self.name}-{name.rsplit('/', 1)[-1]}", addresses=[host.address])[0]
        # The database of the new pool is made by the host itself: its rows are of this very installation.
        alone.files[STATE_DB] = alone.files[STATE_DB].replace(alone.uuid.encode(), host.uuid.encode())
        identity = {path: host.disk.read(path) for path in KEPT}
        host.disk.files.clear()
        host.disk.files.update({**alone.files, **identity})
        self.unplugged(name)
        self.boot(name)

    def take_back(self, name: str, database: Database) -> None:
        """A host joins (again): the master's database gets its rows, its disk follows the master, and it boots."""
        host, master = self.pool.hosts[name], self.masters()[0]
        tree = next(tree for tree in trees_of(self.spec, self.prefix, self.number) if tree.name == name)
        rows = parse_state(tree.files[STATE_DB]).tables
        ref = next(ref for ref, row in rows["host"].items() if row["uuid"] == host.uuid)
        metrics, control = rows["host"][ref]["metrics"], rows["host"][ref]["control_domain"]
        wanted = {"host": [ref], "host_metrics": [metrics], "VM": [control]}
        wanted["PBD"] = [pbd for pbd, row in rows["PBD"].items() if row["host"] == ref]
        for kind, refs in wanted.items():
            for each in refs:
                database.table(kind)[each] = dict(rows[kind][each])
        database.set("host", ref, "address", host.address)
        database.touch()
        kept = {path: host.disk.read(path) for path in KEPT}
        host.disk.files.clear()
        host.disk.files.update({**tree.files, **kept})
        host.disk.files["etc/xensource/ptoken"] = self.pool.hosts[master].disk.read("etc/xensource/ptoken")
        host.disk.files[POOL_CONF] = f"slave:{self.pool.hosts[master].address}".encode()
        self.outcasts.discard(name)
        self.unplugged(name)
        self.boot(name)

    # ------------------------------------------------------------------------------------------ looking

    @property
    def core(self) -> Pool:
        """The engine's state of this pool."""
        assert self.shell is not None
        return self.shell.pools[self.uuid]

    @property
    def watched(self) -> bool:
        """Does the collector know this pool?"""
        return self.shell is not None and self.uuid in self.shell.pools

    @property
    def record(self) -> PoolRecord:
        """What is durable of the pool."""
        return self.core.record if self.watched else PoolRecord("")

    @property
    def verdict(self) -> str:
        return self.core.live.verdict.word if self.watched else ""

    def has(self, kind: Kind) -> bool:
        return any(entry.kind is kind for entry in self.ledger.entries(self.uuid))

    def name_of(self, uuid: str) -> str:
        """The node name for a host's uuid."""
        return next((host.name for host in self.pool.hosts.values() if host.uuid == uuid), uuid)

    def host_at(self, address: str) -> VirtualHost | None:
        return next((host for host in self.pool.hosts.values() if host.address == address), None)

    def masters(self) -> list[str]:
        """Hosts whose xapi runs as master and serves."""
        return self.pool.acting_masters()

    def promote_calls(self) -> list[str]:
        """Hosts whose xapi was told to become master, in order."""
        return [entry.host for entry in self.pool.events("promote-call")]

    def vms_killed(self) -> list[str]:
        """Names of domains that a xapi terminated."""
        return [kill.name for host in self.pool.hosts.values() for kill in host.domains.kills]

    def shots(self) -> list[str]:
        """Devices that were asked to switch off, in order."""
        return [bmc.device for bmc in self.bmcs.values() for _, verb, _ in bmc.log if verb == "off"]

    def initialised(self) -> bool:
        """Has every powered host's xapi finished its start?"""
        return all(host.disk.exists(INIT_COOKIE) for host in self.pool.hosts.values() if host.power)

    def settled(self) -> bool:
        """Healthy, nothing owed, out of quiet time, devices bound, and every member live and enabled."""
        shell = self.shell
        if shell is None or self.verdict != "Healthy" or self.now < shell.site(self.uuid).quiet_until:
            return False
        record = self.record
        shared = {f"bmc-{self.prefix}{name}" for group in self.spec.managers for name in group}
        devices = [device for each in self.fence().values() for device in each if device.name not in shared]
        bound = all(device.name in record.devices.bonds for device in devices)
        return (
            bound and self._told() and self._listed() and self._everybody() and not record.owed and self.initialised()
        )

    def _told(self) -> bool:
        """Has the collector taken over what has failed from the beginning?"""
        failed = {self.pool.hosts[self.prefix + name].uuid: set(ids) for name, ids in self.spec.failed.items()}
        return all({each.id for each in self.record.assumptions.get(host, ())} >= ids for host, ids in failed.items())

    def _listed(self) -> bool:
        master = self.core.live.agents.get(self.record.master)
        view = master.facts.pool_view if master is not None else None
        return view is not None and len(view.hosts) == len(self.names) and all(h.live and h.enabled for h in view.hosts)

    def _everybody(self) -> bool:
        return all(agent.stream is not None for agent in self.agents.values() if not agent.absent)

    def healed(self, master: str) -> bool:
        """One master, this one; everybody with power follows it; the failover is closed."""
        record = self.record
        closed = record.failover is not None and not record.failover.open
        return closed and self.follow(master) and self.masters() == [master] and self.initialised()

    def follow(self, master: str) -> bool:
        """Does every other host with power name this one as its master in pool.conf?"""
        address = self.pool.hosts[master].address
        others = [host for host in self.pool.hosts.values() if host.power and host.name != master]
        return all(self.pool.pool_conf(host.name) == f"slave:{address}" for host in others)

    def probe(self, address: str, timeout_ms: int, source: str = COLLECTOR) -> ProbeOutcome:
        """What a collector's own probe of an address of this pool finds."""
        host = self.host_at(address)
        if host is None:
            return ProbeOutcome.UNREACHABLE
        answer = self.pool.call_now(host.name, "tls", "system.isAlive:poolwarden", ("poolwarden",), timeout_ms, source)
        if isinstance(answer, Answer):
            return ProbeOutcome.ANSWERED
        refused = isinstance(answer, Lost) and answer.why == "refused"
        return ProbeOutcome.REFUSED if refused else ProbeOutcome.NO_ANSWER
