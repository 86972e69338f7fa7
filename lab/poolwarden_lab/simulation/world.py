"""A pool, its agents, BMCs, network and collector in one virtual time, with faults to order and a story to read.

``Simulation`` owns the clock (VirtualPool's heap) and every simulated process. Hosts are numbered from 1; host 1 is the
master at first. All invariants are checked after every event; the first violation ends the run with the story so far.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from poolwarden_collector.core import orders as out
from poolwarden_collector.core.events import OperatorSaid
from poolwarden_collector.core.facts import FenceDevice, ProbeOutcome
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.live import Pool
from poolwarden_collector.core.policy import Policy
from poolwarden_collector.core.record import PoolRecord
from poolwarden_lab.simulation.agent import SimAgent
from poolwarden_lab.simulation.bmc import BmcMode, SimBmc
from poolwarden_lab.simulation.invariants import Invariants
from poolwarden_lab.simulation.ledger import Commit, Ledger
from poolwarden_lab.simulation.points import Saboteur, nobody
from poolwarden_lab.simulation.shell import Counters, Settings, SimShell
from poolwarden_lab.simulation.streams import COLLECTOR, KEEPALIVE_MS, Network, Stream
from poolwarden_lab.xapi.actions import Answer, Lost
from poolwarden_lab.xapi.trees import VmSpec, make_pool_disks
from poolwarden_lab.xapi.virtual import VirtualHost, VirtualPool

QUIET_MS = 3_000


class WatchedPool(VirtualPool):
    """A VirtualPool that tells when something has happened."""

    after_event: Callable[[], None] | None = None

    def _step(self) -> None:
        super()._step()
        if self.after_event is not None:
            self.after_event()


class Simulation:
    """See the module's words. Everything public is a fault, a question, or time."""

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
        trees = make_pool_disks(hosts, "lab", vms, ha_armed=ha_armed)
        self.random = random.Random(seed)
        self.pool = WatchedPool(trees=trees)
        self.network = Network(self.pool)
        self.names = list(self.pool.hosts)
        self.policy = policy or Policy(quiet_time=QUIET_MS)
        self.ledger = Ledger()
        self.counters = Counters()
        self.saboteur: Saboteur = nobody
        self.restart_after_ms: int | None = None  # how long a killed collector stays away; None: for good
        self.shell: SimShell | None = None
        self.kills_of_collector = 0
        self._streams: list[Stream] = []
        self._requests = 0
        self._bmcs = {f"bmc-{name}": self._make_bmc(name) for name in self.names}
        fence: dict[str, tuple[FenceDevice, ...]] = {}
        if devices:
            fence = {host.uuid: (FenceDevice(f"bmc-{host.name}", host.uuid),) for host in self.pool.hosts.values()}
        self.settings = Settings(self.policy, fence)
        self.gated = boot_gate
        self.ungated: set[str] = set()  # hosts whose gate a story has taken away
        self.agents = {name: SimAgent(self, name) for name in self.names}
        self.pool.boot_gate = lambda name: self.agents[name].may_start()
        self.invariants = Invariants(self)
        self.pool.after_event = self.invariants.check

    def _make_bmc(self, name: str) -> SimBmc:
        return SimBmc(f"bmc-{name}", lambda: self.pool.hosts[name].power, lambda: self._unplug(name))

    # ------------------------------------------------------------------------------------------ time

    @property
    def now(self) -> int:
        return self.pool.now

    def at(self, ms: int, act: Callable[[], None]) -> None:
        self.pool.at(ms, act)

    def run(self, ms: int) -> None:
        self.pool.run_until(self.now + ms)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 600_000) -> None:
        """Run until the condition holds. Raises AssertionError, with the story, if it does not within the limit."""
        try:
            self.pool.run_while(lambda: not condition(), self.now + limit_ms)
        except TimeoutError:
            raise AssertionError(f"not within {limit_ms} ms\n{self.story()}") from None

    def begin(self, settle: bool = True) -> Simulation:
        """Power on, start the collector, and wait until the pool is watched: Healthy and every device bound."""
        self.pool.power_on_all()
        for agent in self.agents.values():
            agent.boot()
        self.start_collector()
        self.pool.boot_ms = 30_000  # from here on a host that is powered on has to boot first
        if settle:
            self.run_until(self.settled, 180_000)
        return self

    def settled(self) -> bool:
        """Healthy, nothing owed, out of quiet time, devices bound, and every member live and enabled."""
        record, shell = self.record, self.shell
        if shell is None or self.verdict != "Healthy" or self.now < shell.site().quiet_until:
            return False
        bound = all(device.name in record.bound for each in self.settings.devices.values() for device in each)
        master = self.core.live.agents.get(record.master)
        view = master.facts.pool_view if master is not None else None
        listed = (
            view is not None and len(view.hosts) == len(self.names) and all(h.live and h.enabled for h in view.hosts)
        )
        everybody = all(agent.stream is not None for agent in self.agents.values())
        return bound and listed and everybody and not record.owed and self.initialised()

    def initialised(self) -> bool:
        """Has every powered host's xapi finished its start?"""
        cookie = "var/run/xapi_init_complete.cookie"
        return all(host.disk.exists(cookie) for host in self.pool.hosts.values() if host.power)

    # ------------------------------------------------------------------------------------------ hosts

    def host(self, i: int) -> VirtualHost:
        return self.pool.hosts[self.names[i - 1]]

    def uuid(self, i: int) -> str:
        return self.host(i).uuid

    def name_of(self, uuid: str) -> str:
        """h1.. for a host's uuid."""
        return next((host.name for host in self.pool.hosts.values() if host.uuid == uuid), uuid)

    def agent(self, i: int) -> SimAgent:
        return self.agents[self.names[i - 1]]

    def power_off(self, i: int) -> None:
        """Pull the plug."""
        self._unplug(self.names[i - 1])

    def _unplug(self, name: str) -> None:
        self.pool.power_off(name)
        self.agents[name].unplugged()
        self._watch(name)

    def power_on(self, i: int) -> None:
        name = self.names[i - 1]
        if not self.pool.hosts[name].power:
            self.pool.power_on(name)
            self.agents[name].boot()

    def freeze(self, i: int) -> None:
        """SIGSTOP of xapi and agent: dom0 stands still, its VMs and its power do not."""
        name = self.names[i - 1]
        self.pool.freeze(name)
        self._watch(name)

    def thaw(self, i: int) -> None:
        name = self.names[i - 1]
        self.pool.thaw(name)
        self.agents[name].thawed()

    def hang_xapi(self, i: int, hung: bool = True) -> None:
        self.pool.hang_xapi(self.names[i - 1], hung)

    def crash_xapi(self, i: int) -> None:
        self.pool.kill_xapi(self.names[i - 1])

    def crash_agent(self, i: int, restart_after_ms: int = 1_000) -> None:
        self.agent(i).crash(restart_after_ms)

    # ------------------------------------------------------------------------------------------ network

    def cut(self, source: str, target: str) -> None:
        """Cut one direction between hosts (h1..), "collector", and "bmc-h1".."""
        self.pool.cut(source, target)
        for name in (source, target):
            if name in self.agents:
                self._watch(name)

    def cut_both(self, one: str, other: str) -> None:
        self.cut(one, other)
        self.cut(other, one)

    def heal(self, one: str, other: str) -> None:
        """Heal both directions."""
        self.pool.heal(one, other)
        self.pool.heal(other, one)
        for stream in self._streams:
            stream.healed()

    def isolate(self, i: int) -> None:
        """Cut a host off from everything but its BMC."""
        name = self.names[i - 1]
        for other in [*self.names, COLLECTOR]:
            if other != name:
                self.cut_both(name, other)

    def rejoin(self, i: int) -> None:
        name = self.names[i - 1]
        for other in [*self.names, COLLECTOR]:
            if other != name:
                self.heal(name, other)

    def _watch(self, name: str) -> None:
        for stream in self._streams:
            if stream.host == name:
                stream.watch()

    def dial(self, name: str) -> Stream | None:
        """An agent's connection attempt; None: refused or lost."""
        shell = self.shell
        if shell is None or not shell.alive or not self.network.both_ways(name, COLLECTOR):
            return None
        self._requests += 1
        stream = Stream(self.network, name, self._requests)
        agent = self.agents[name]
        receive = shell.accept(stream)
        stream.connect(receive, agent.arrived, [lambda: shell.stream_ended(stream), lambda: agent.stream_ended(stream)])
        self._streams = [each for each in self._streams if each.open] + [stream]
        return stream

    def probe_from_collector(self, address: str, timeout_ms: int) -> ProbeOutcome:
        name = next((host.name for host in self.pool.hosts.values() if host.address == address), "")
        if not name:
            return ProbeOutcome.UNREACHABLE
        answer = self.pool.call_now(name, "tls", "system.isAlive:poolwarden", ("poolwarden",), timeout_ms, COLLECTOR)
        if isinstance(answer, Answer):
            return ProbeOutcome.ANSWERED
        refused = isinstance(answer, Lost) and answer.why == "refused"
        return ProbeOutcome.REFUSED if refused else ProbeOutcome.NO_ANSWER

    # ------------------------------------------------------------------------------------------ power

    def bmc(self, device: str | int) -> SimBmc:
        return self._bmcs[device if isinstance(device, str) else f"bmc-{self.names[device - 1]}"]

    def set_bmc(self, i: int, mode: BmcMode) -> None:
        self.bmc(i).mode = mode

    def bmc_reached(self, device: str) -> bool:
        return self.network.both_ways(COLLECTOR, device)

    def shots(self) -> list[str]:
        """Devices that were asked to switch off, in order."""
        return [bmc.device for bmc in self._bmcs.values() for _, verb, _ in bmc.log if verb == "off"]

    # ------------------------------------------------------------------------------------------ collector

    def start_collector(self) -> None:
        self.shell = SimShell(self, self.ledger, self.settings, self.counters, self.saboteur)
        self.shell.start()

    def kill_collector(self, restart_after_ms: int | None = None) -> None:
        """SIGKILL now; None: it stays away."""
        self.restart_after_ms = restart_after_ms
        if self.shell is not None:
            self.shell.die()

    def lose_journal(self) -> None:
        """The collector's disk is replaced by an empty one (kill it first)."""
        self.ledger.epoch = 0
        self.ledger.commits.clear()
        self.ledger.outbox.clear()
        self.invariants.forget()

    def collector_killed(self, shell: SimShell) -> None:
        self.kills_of_collector += 1
        if self.restart_after_ms is not None:
            self.at(self.now + self.restart_after_ms, self.start_collector)

    def performed(self, shell: SimShell, pool: str, effect: out.Effect) -> None:
        self.invariants.on_effect(pool, effect)

    def committed(self, shell: SimShell, commit: Commit) -> None:
        self.invariants.on_commit(commit)

    def say(self, verb: str, i: int = 0, **args: str) -> out.Reply | None:
        """An operator's command, answered at once or later (then None; see ``shell.replies``)."""
        assert self.shell is not None
        self._requests += 1
        request = f"request-{self._requests}"
        host = self.uuid(i) if i else ""
        self.shell.say(OperatorSaid(request, "alice", verb, host, tuple(sorted(args.items()))))
        return self.shell.replies.get(request)

    def confirm_fenced(self, i: int, how: str = "power cord pulled", **more: str) -> out.Reply | None:
        return self.say("confirm-fenced", i, typed_name=self.record.name_of(self.uuid(i)), how=how, **more)

    # ------------------------------------------------------------------------------------------ looking

    @property
    def core(self) -> Pool:
        """The engine's state of the one pool."""
        assert self.shell is not None
        return next(iter(self.shell.pools.values()))

    @property
    def record(self) -> PoolRecord:
        """What is durable of the pool."""
        if self.shell is None or not self.shell.pools:
            return PoolRecord("")
        return self.core.record

    @property
    def verdict(self) -> str:
        return self.core.live.verdict if self.shell is not None and self.shell.pools else ""

    def has(self, kind: Kind) -> bool:
        return any(entry.kind is kind for entry in self.ledger.entries())

    def verdicts(self) -> list[str]:
        return [entry.data["verdict"] for entry in self.ledger.of(Kind.VERDICT)]

    def promote_calls(self) -> list[str]:
        """Hosts whose xapi was told to become master, in order."""
        return [entry.host for entry in self.pool.events("promote-call")]

    def masters(self) -> list[str]:
        """Hosts whose xapi runs as master and serves."""
        return self.pool.acting_masters()

    def vms_killed(self) -> list[str]:
        """Names of domains that a xapi terminated."""
        return [kill.name for host in self.pool.hosts.values() for kill in host.domains.kills]

    def healed(self, master: str) -> bool:
        """One master, this one; everybody with power follows it; the failover is closed."""
        record = self.record
        closed = record.failover is not None and not record.failover.open
        address = self.pool.hosts[master].address
        others = [host for host in self.pool.hosts.values() if host.power and host.name != master]
        follow = all(self.pool.pool_conf(host.name) == f"slave:{address}" for host in others)
        return closed and follow and self.masters() == [master] and self.initialised()

    def story(self) -> str:
        """Journal and model events in one list, for people."""
        lines = [(c.ms, f"* {e.kind.value}: {e.text}") for c in self.ledger.commits for e in c.entries]
        lines += [(entry.ms, f"  {entry.host} {entry.event}") for entry in self.pool.log]
        return "\n".join(f"{ms / 1000:9.3f} {text}" for ms, text in sorted(lines, key=lambda line: line[0]))


__all__ = ["KEEPALIVE_MS", "QUIET_MS", "Simulation"]
