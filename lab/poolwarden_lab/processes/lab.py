"""The lab world: a pool of simulated hosts with their BMCs, a switch, a webhook receiver and the real collector, or
several of them on a real etcd.

Rules
-----
* Agents and collector are the shipped programs, started as they are shipped; faults come from outside only.
* Everything is a child of this process and dies with it: by order in `stop`, by the kernel (`launch`) if it is killed.
* The operator's socket is a file, so it can be reached from outside the namespaces; nothing else can.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolwarden_lab.processes import certificates, configuration
from poolwarden_lab.processes.bmc import fronts
from poolwarden_lab.processes.bmc.board import PORT as BMC_PORT
from poolwarden_lab.processes.bmc.board import Bmc
from poolwarden_lab.processes.collectors import (
    CollectorMachine,
    CollectorPlace,
    EtcdMembers,
    collector_places,
    collector_program,
    set_up_command,
    store_of,
)
from poolwarden_lab.processes.faults import heal, inflict
from poolwarden_lab.processes.host import HostSettings, SimulatedHost
from poolwarden_lab.processes.lab_policy import headline, policy_settings
from poolwarden_lab.processes.network import (
    COLLECTOR,
    GATEWAY_PORT,
    Loopback,
    Namespaces,
    endpoint,
    low_ports_allowed,
)
from poolwarden_lab.processes.places import Places, base_environment, code_path, make_places, unprivileged_user
from poolwarden_lab.processes.supervisor import Program
from poolwarden_lab.processes.webhook import PORT as WEBHOOK_PORT
from poolwarden_lab.processes.webhook import Webhook
from poolwarden_lab.xapi.trees import HostTree, VmSpec, make_pool_disks

if TYPE_CHECKING:
    from poolwarden_lab.processes.network import Network

PAGE_PORT = 7446
FRONT_PORT = 9630  # of a real BMC program in front of a board, where machines share one network
POOL_NAME = "lab"
ETCD_ANSWERS_WITHIN_S = 30.0
HOPELESS_RESTARTS = 8  # of one program since it was last asked to start; a xapi may restart a few times on its way
_FENCE_AGENT = Path(__file__).with_name("fence_lab.py")


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What a user chooses. ``refused``: why there are no namespaces; "" if this process is inside its own."""

    hosts: int = 3
    home: Path | None = None
    time_factor: float = 10.0
    agent_python: str = sys.executable
    collector_code: str = ""  # PYTHONPATH of another release's collector; empty: this one
    policy: dict[str, int | bool | str] = field(default_factory=dict)
    vms_per_host: int = 2
    refused: str = ""
    bmc: str = "lab"  # or ipmi, redfish: a real BMC program stands in front of each board (`bmc_fronts`)
    via_members: bool = False  # the members' agents run the real fence agent, and the collector does not
    ipv6: bool = False  # every address is one of IPv6; in namespaces alone
    https_only: bool = False  # the hosts' firewalls drop TCP 80 from other hosts
    page: bool = False  # the collector serves its page
    collectors: int = 1  # more than one: on a real etcd of three members


@dataclass(frozen=True, slots=True)
class Machine:
    """A host with its BMC."""

    host: SimulatedHost
    bmc: Bmc
    bmc_node: str


class World:
    """Start it, break it, heal it, stop it. `stop` may be called at any time and more than once."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        # Without namespaces xapi may have to listen elsewhere than on 443, where a collector's own probe looks for it.
        probing: dict[str, int | bool | str] = {"collector_probe": False} if settings.refused else {}
        self.policy = policy_settings({**probing, **settings.policy})
        self.places: Places = make_places(settings.home)
        try:
            self.network: Network = (
                Loopback(settings.hosts, settings.refused, settings.collectors)
                if settings.refused
                else Namespaces(settings.hosts, settings.ipv6, settings.collectors)
            )
        except BaseException:
            self.places.clean(keep_home=False)
            raise
        self.machines: list[Machine] = []
        self._fronts: dict[str, Program] = {}
        self.webhook = Webhook()
        self.collectors: dict[str, CollectorMachine] = {}  # by their nodes
        self.etcd: EtcdMembers | None = None
        self._gateway: asyncio.Server | None = None

    @property
    def headline(self) -> str:
        return headline(self.policy, self.settings.time_factor)

    @property
    def collector(self) -> Program | None:
        """The only one, or the first."""
        return next((each.program for each in self.collectors.values()), None)

    @property
    def operator_target(self) -> str:
        """For ``poolwarden --collector``; of several any will do."""
        return self.operator_targets[0]

    @property
    def operator_targets(self) -> list[str]:
        """Every collector's."""
        return [f"unix:{place.socket}" for place in self._places_of_collectors()]

    def _places_of_collectors(self) -> list[CollectorPlace]:
        return collector_places(self.places, self.network, self.settings.collectors)

    def machine(self, name: str) -> Machine:
        """By ``h2``, by name or by UUID. Raises LookupError with the hosts there are."""
        for machine in self.machines:
            if name in (machine.host.node, machine.host.name, machine.host.uuid):
                return machine
        several = f"; collectors: {', '.join(self.collectors)}" if len(self.collectors) > 1 else ""
        raise LookupError(f"no host {name!r}; there are: {', '.join(m.host.name for m in self.machines)}{several}")

    # -------------------------------------------------------------------------------- life

    async def start(self, *, keep_home: bool = False) -> None:
        """Build everything, start the collector, then boot the hosts. Leaves nothing behind if it fails."""
        try:
            await self._start()
        except BaseException:
            await self.stop(keep_home=keep_home)
            raise

    async def stop(self, *, keep_home: bool = False) -> None:
        # One alone ends in order; several would hand their pools to each other.
        ends = (
            each.program.stop if len(self.collectors) == 1 else each.program.kill for each in self.collectors.values()
        )
        await asyncio.gather(*(end() for end in ends))
        if self.etcd is not None:
            await self.etcd.stop()
        await asyncio.gather(*(machine.host.power_off() for machine in self.machines))
        for machine in self.machines:
            if (front := self._fronts.get(machine.bmc_node)) is not None:
                await front.stop()
            await machine.bmc.stop()
            machine.host.destroy()
        await self.webhook.stop()
        if self._gateway is not None:
            self._gateway.close()
        self.places.clean(keep_home=keep_home)

    async def _start(self) -> None:
        trees = make_pool_disks(
            self.settings.hosts,
            POOL_NAME,
            [
                VmSpec(f"vm-{n + 1}-{k + 1}", n)
                for n in range(self.settings.hosts)
                for k in range(self.settings.vms_per_host)
            ],
            addresses=[self.network.address(f"h{n + 1}") for n in range(self.settings.hosts)],
            https_only=[f"h{n + 1}" for n in range(self.settings.hosts)] if self.settings.https_only else (),
            devices=True,
        )
        hosts, places = [tree.uuid for tree in trees], self._places_of_collectors()
        issued = self._issue(hosts, places)
        for number, tree in enumerate(trees, 1):
            await self._add(number, tree, ", ".join(place.agents for place in places), issued[tree.uuid])
        await self.webhook.start(self.network.listen(COLLECTOR, WEBHOOK_PORT))
        anchors = await self._start_gateway()
        if len(places) > 1:
            self.etcd = EtcdMembers(self.places, self.network, places)
            await self.etcd.start()
        for place in places:
            self._configure(place, anchors)
        if self.etcd is not None:
            await self._set_up()
        await asyncio.gather(*(each.program.start() for each in self.collectors.values()))
        await asyncio.gather(*(machine.host.power_on() for machine in self.machines))

    def _issue(self, hosts: list[str], places: list[CollectorPlace]) -> dict[str, dict[str, bytes]]:
        for place in places:
            place.home.mkdir(exist_ok=True, mode=0o700)
        # A collector of another release may sign nothing, and a host that has pinned a key would not hear it.
        signs = not self.settings.collector_code
        keys = tuple(configuration.order_key(place.home) for place in places) if signs else ()
        return certificates.issue(
            self.places.home / "tls", hosts, {place.name: place.address for place in places}, keys
        )

    async def _add(self, number: int, tree: HostTree, collector: str, certificate: dict[str, bytes]) -> None:
        node, bmc_node = f"h{number}", f"b{number}"
        low = self.network.isolated or low_ports_allowed()
        own = self.settings.agent_python == sys.executable
        settings = HostSettings(
            root=self.places.tree(node),
            logs=self.places.logs,
            time_factor=self.settings.time_factor,
            collector=collector,
            bmc_address=self.network.address(bmc_node),
            fence_agent=fronts.agent(self.settings.bmc) if self.settings.via_members else None,
            agent_python=self.settings.agent_python,
            environment=base_environment(code_path("poolwarden_lab")),
            agent_environment={
                **base_environment(code_path("poolwarden_agent", "poolwarden"), own_python=own),
                "MALLOC_ARENA_MAX": "1",  # as its unit says
            },
            http_port=80 if low else 8080,
            tls_port=443 if low else 8443,
            https_only=self.settings.https_only,
            gated=True,
            link_user=unprivileged_user(self.settings.agent_python),
        )
        host = SimulatedHost(number, tree, self.network, settings)
        bmc = Bmc(host, configuration.BMC_USER, configuration.BMC_PASSWORD)
        self.machines.append(Machine(host, bmc, bmc_node))
        host.build(certificate)
        bmc.identity = self._dmi(host)
        await bmc.start(self.network.listen(bmc_node, BMC_PORT))
        if self.settings.bmc != "lab":
            await self._start_front(host, bmc_node)

    def _front(self, host: SimulatedHost, bmc_node: str) -> fronts.Front:
        address = self.network.address(bmc_node)
        port = fronts.PORTS[self.settings.bmc] if self.network.isolated else FRONT_PORT
        return fronts.Front(host.name, address, port, (address, BMC_PORT), self._dmi(host))

    def _dmi(self, host: SimulatedHost) -> str:
        """The machine's system UUID, as its BMC tells it."""
        return (self.places.tree(host.node) / "sys/class/dmi/id/product_uuid").read_text().strip()

    async def _start_front(self, host: SimulatedHost, bmc_node: str) -> None:
        """A real BMC program, in the BMC's own place of the network."""
        front, home = self._front(host, bmc_node), self.places.home / "fronts" / bmc_node
        command = [*self.network.launcher(bmc_node), *fronts.command(self.settings.bmc, front, home)]
        program = Program(
            command, self.places.logs / f"{bmc_node}-front.log", environment=base_environment("", own_python=False)
        )
        self._fronts[bmc_node] = program
        await program.start()

    def _fence_entry(self, machine: Machine) -> configuration.FenceEntry:
        name, address = f"bmc-{machine.host.name}", self.network.address(machine.bmc_node)
        if self.settings.bmc == "lab":
            return configuration.FenceEntry(machine.host.uuid, name, configuration.lab_parameters(address, BMC_PORT))
        given = fronts.parameters(self.settings.bmc, self._front(machine.host, machine.bmc_node))
        return configuration.FenceEntry(machine.host.uuid, name, {**given, "power_timeout": "5"})

    async def _start_gateway(self) -> list[str]:
        """A network anchor: the collector is blind if not even the gateway answers it."""
        if not isinstance(self.network, Namespaces):
            return []
        listener = self.network.listen("sw", GATEWAY_PORT)
        self._gateway = await asyncio.start_server(lambda reader, writer: writer.close(), sock=listener)
        return [endpoint(self.network.gateway, GATEWAY_PORT)]

    def _configure(self, place: CollectorPlace, anchors: list[str]) -> None:
        home = self.places.home
        if self.settings.bmc == "lab":
            fence_agent = configuration.write_fence_agent(home, _FENCE_AGENT)
        else:
            fence_agent = fronts.agent(self.settings.bmc)
        text = configuration.collector_config(
            home=place.home,
            tls=certificates.of_collector(home / "tls", place.name),
            listen=place.agents,
            socket=place.socket,
            anchors=anchors,
            policy=self.policy,
            fences=[self._fence_entry(machine) for machine in self.machines],
            fence_agent=fence_agent,
            via_members=self.settings.via_members,
            webhook=f"http://{endpoint(self.network.address(COLLECTOR), WEBHOOK_PORT)}/alerts",
            page=endpoint(place.address, PAGE_PORT) if self.settings.page else "",
            name=place.name,
            store=store_of(place, self.etcd) if self.etcd is not None else None,
        )
        place.config.write_text(text)
        program = collector_program(place, self.network, self.places.logs, self._collectors_code())
        etcd = tuple(self.etcd.nodes) if self.etcd is not None else ()
        self.collectors[place.node] = CollectorMachine(place, program, self.network, etcd)

    def _collectors_code(self) -> str:
        return self.settings.collector_code or code_path("poolwarden_collector", "poolwarden", "poolwarden_lab")

    async def _set_up(self) -> None:
        """As an administrator does once, as soon as etcd answers: set its first generation. Raises OSError."""
        place = next(iter(self.collectors.values())).place
        command = set_up_command(place, self.network)
        deadline, said = time.monotonic() + ETCD_ANSWERS_WITHIN_S, b""
        while time.monotonic() < deadline:
            done = await asyncio.create_subprocess_exec(
                *command, env=base_environment(self._collectors_code()), stdout=PIPE, stderr=STDOUT
            )
            said, _ = await done.communicate()
            if done.returncode == 0:
                return
            await asyncio.sleep(0.2)
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(
            f"etcd is not ready after {ETCD_ANSWERS_WITHIN_S:.0f} s: {last[0] if last else 'it says nothing'}"
        )

    def hopeless(self) -> str:
        """Which program keeps dying, with its last log line; "" if none does."""
        programs: list[tuple[str, Program | None, str]] = [
            ("the collector" if node == COLLECTOR else f"collector {node}", each.program, node)
            for node, each in self.collectors.items()
        ]
        members = self.etcd.programs if self.etcd is not None else {}
        programs += [(f"etcd's member {node}", program, f"{node}-etcd") for node, program in members.items()]
        programs += [(f"{m.host.name}'s agent", m.host.agent, f"{m.host.node}-agent") for m in self.machines]
        programs += [(f"{m.host.name}'s xapi", m.host.xapi, f"{m.host.node}-xapi") for m in self.machines]
        for name, program, log in programs:
            if program is not None and program.unasked >= HOPELESS_RESTARTS:
                lines = (self.places.logs / f"{log}.log").read_text(errors="replace").strip().splitlines()
                return f"{name} was restarted {program.unasked} times: {lines[-1] if lines else 'it says nothing'}"
        return ""

    # -------------------------------------------------------------------------------- what happens to it

    async def fault(self, name: str, kind: str) -> float:
        """Break a host or a collector (``collector``; of several ``c1``..); the instant, s of the monotonic clock."""
        at = time.monotonic()
        if name == COLLECTOR or name in self.collectors:
            await self._collector(name).fault(kind)
        else:
            await inflict(self, self.machine(name), kind)
        return at

    def _collector(self, name: str) -> CollectorMachine:
        """Raises LookupError."""
        found = self.collectors.get(name)
        if found is None:
            raise LookupError(f"no collector {name!r}; there are: {', '.join(self.collectors)}")
        return found

    async def heal(self, name: str = "") -> None:
        """Undo the faults of one host or collector, or of all."""
        if not name:
            for machine in self.machines:
                await heal(self, machine)
        elif name not in self.collectors:
            await heal(self, self.machine(name))
        for node, collector in self.collectors.items():
            if name in ("", node):
                await collector.heal()

    def command_on(self, name: str, command: list[str]) -> tuple[list[str], dict[str, str], str]:
        """How to run a command on a node: argument vector, environment and directory."""
        if name == COLLECTOR:
            environment = base_environment(code_path("poolwarden_collector", "poolwarden", "poolwarden_lab"))
            environment["POOLWARDEN_COLLECTOR"] = self.operator_target
            return [*self.network.launcher(COLLECTOR), *command], environment, str(self.places.home)
        host = self.machine(name).host
        return [*self.network.launcher(host.node), *command], host.environment(), str(host.root)

    def status(self) -> dict[str, Any]:
        """What the lab itself knows; the collector's view is ``poolwarden status``."""
        first = self.collector
        return {
            "home": str(self.places.home),
            "collector": {"pid": first.pid if first else 0, "starts": first.starts if first else 0},
            "collectors": [self._collector_status(each) for each in self.collectors.values()],
            "operator": self.operator_target,
            "policy": self.headline,
            "limitations": self.network.limitations(),
            "partitions": self.network.blocked(),
            "hosts": [self._host_status(machine) for machine in self.machines],
        }

    def _collector_status(self, collector: CollectorMachine) -> dict[str, Any]:
        place, program = collector.place, collector.program
        return {
            "node": place.node,
            "name": place.name,
            "address": place.address,
            "operator": f"unix:{place.socket}",
            "pid": program.pid,
            "starts": program.starts,
            "link": self.network.link_is_up(place.node),
        }

    def _host_status(self, machine: Machine) -> dict[str, Any]:
        host = machine.host
        pool_conf = ""
        with contextlib.suppress(OSError):
            pool_conf = (host.root / "etc/xensource/pool.conf").read_text().strip()
        return {
            "node": host.node,
            "name": host.name,
            "uuid": host.uuid,
            "address": host.address,
            "root": str(host.root),
            "bmc": self.network.address(machine.bmc_node),
            "power": "on" if host.powered else "off",
            "alive": host.alive,
            "frozen": host.frozen,
            "link": self.network.link_is_up(host.node),
            "bmc_link": self.network.link_is_up(machine.bmc_node),
            "bmc_faults": sorted(fault.value for fault in machine.bmc.faults),
            "pool_conf": pool_conf,
            "xapi": {"pid": host.xapi.pid, "starts": host.xapi.starts, "state": host.xapi.state},
            "agent": {"pid": host.agent.pid, "starts": host.agent.starts, "state": host.agent.state},
            "vms": sorted(host.running_vms.values()),
        }
