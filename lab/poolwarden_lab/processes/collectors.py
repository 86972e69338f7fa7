"""The lab's collectors, one or several: the shipped program each, with a state, a certificate and a network of its own.

Rules
-----
* One collector is at the node ``collector``. Several are at ``c1``.., each a machine of its own that can lose its power
  and its way to etcd; their operator, and whoever receives alerts, is at ``collector``.
* Several share an etcd of three members, real ones (``EtcdMembers``), each at a node of its own, reached by mutual TLS.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from poolwarden_lab.processes import certificates, configuration
from poolwarden_lab.processes.network import COLLECTOR, collector_nodes, endpoint, etcd_nodes
from poolwarden_lab.processes.places import base_environment
from poolwarden_lab.processes.supervisor import Program

if TYPE_CHECKING:
    from poolwarden_collector.shell.config.certificates import Bundle
    from poolwarden_lab.processes.network import Network
    from poolwarden_lab.processes.places import Places

COLLECTOR_PORT = 8443
OPERATOR_PORT = 8444
CLIENT_PORT, PEER_PORT = 2379, 2380
RESTART_DELAY_S = 0.5


@dataclass(frozen=True, slots=True)
class CollectorPlace:
    """Where one collector is, and what it has."""

    node: str
    name: str  # as its configuration has it
    address: str
    home: Path
    socket: Path

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.home / "collector.toml"

    @property
    def agents(self) -> str:
        """HOST:PORT for agents."""
        return endpoint(self.address, COLLECTOR_PORT)

    @property
    def operators(self) -> str:
        """HOST:PORT for operators and the other collectors."""
        return endpoint(self.address, OPERATOR_PORT)


def collector_places(places: Places, network: Network, count: int) -> list[CollectorPlace]:
    """Of every collector; one alone is where the lab is."""
    if count == 1:
        address = network.address(COLLECTOR)
        return [CollectorPlace(COLLECTOR, certificates.LAB, address, places.home, places.collector_socket)]
    return [
        CollectorPlace(node, node, network.address(node), places.home / node, places.home / f"{node}.sock")
        for node in collector_nodes(count)
    ]


def lacking() -> str:
    """What is missing here for several collectors, and how it is had; empty: nothing is."""
    if _etcd() is not None:
        return ""
    return (
        "several collectors need etcd, which is not installed here: apt-get install etcd-server (or: dnf install etcd)"
    )


def _etcd() -> str | None:
    return shutil.which("etcd")


class EtcdMembers:
    """Three real members of one etcd."""

    def __init__(self, places: Places, network: Network, collectors: list[CollectorPlace]) -> None:
        self._places, self._network = places, network
        self.nodes = etcd_nodes(len(collectors))
        addresses = {node: network.address(node) for node in self.nodes}
        self._files = certificates.issue_etcd(
            places.home / "tls" / "etcd", addresses, [each.name for each in collectors]
        )
        self.programs: dict[str, Program] = {}

    def file_of(self, name: str) -> Bundle:
        """The certificate of a member or a collector."""
        return self._files[name]

    @property
    def endpoints(self) -> list[str]:
        """Where clients reach it."""
        return [self._url(node, CLIENT_PORT) for node in self.nodes]

    def _url(self, node: str, port: int) -> str:
        return f"https://{endpoint(self._network.address(node), port)}"

    async def start(self) -> None:
        """Start all of them; they answer as soon as two have found each other."""
        for node in self.nodes:
            self.programs[node] = program = Program(
                [*self._network.launcher(node), *self._command(node)],
                self._places.logs / f"{node}-etcd.log",
                environment=base_environment("", own_python=False),
                restart_delay_s=RESTART_DELAY_S,
                stop_limit_s=2.0,
            )
            await program.start()

    def _command(self, node: str) -> list[str]:
        etcd, files = _etcd(), self._files[node]
        assert etcd is not None
        here, peer = self._url(node, CLIENT_PORT), self._url(node, PEER_PORT)
        members = ",".join(f"{each}={self._url(each, PEER_PORT)}" for each in self.nodes)
        data = self._places.home / "etcd" / node
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [etcd, f"--name={node}", f"--data-dir={data}", "--logger=zap", "--log-level=warn"]
        command += [f"--listen-client-urls={here}", f"--advertise-client-urls={here}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster={members}", "--initial-cluster-token=lab"]
        command += ["--auto-compaction-mode=periodic", "--auto-compaction-retention=1h"]
        for side in ("", "peer-"):
            command += [f"--{side}cert-file={files.cert}", f"--{side}key-file={files.key}"]
            command += [f"--{side}client-cert-auth", f"--{side}trusted-ca-file={files.ca}"]
        return command

    async def stop(self) -> None:
        """End all of them."""
        for program in self.programs.values():
            await program.kill()  # one that is asked to go waits for the others


def store_of(place: CollectorPlace, etcd: EtcdMembers) -> configuration.StoreEntry:
    """What the collector's configuration says of its etcd."""
    files = etcd.file_of(place.name)
    return configuration.StoreEntry(etcd.endpoints, files.ca, files.cert, files.key, place.agents, place.operators)


def collector_program(
    place: CollectorPlace, network: Network, logs: Path, path: str, ended: Callable[[int], None] = lambda _: None
) -> Program:
    """The shipped collector, as its unit starts it."""
    command = [sys.executable, "-m", "poolwarden_collector.shell.main", "--config", str(place.config)]
    return Program(
        [*network.launcher(place.node), *command],
        logs / ("collector.log" if place.node == COLLECTOR else f"{place.node}.log"),
        environment=base_environment(path),
        restart_delay_s=RESTART_DELAY_S,
        stop_limit_s=20.0,
        ended=ended,
    )


def set_up_command(place: CollectorPlace, network: Network) -> list[str]:
    """What sets the first generation of an etcd that is empty; it fails until etcd answers."""
    words = ["generation", "raise", "--to", "1", "--yes", "--config", str(place.config)]
    return [*network.launcher(place.node), sys.executable, "-m", "poolwarden_collector.shell.main", *words]


# ------------------------------------------------------------------------------------------------ faults


FAULTS = {
    "kill": "the process is killed; its supervisor starts it again",
    "power": "its machine loses power: silence; it stays down until it is healed",
    "stop": "it is asked to end: systemctl stop",
    "freeze": "the process hangs",
    "thaw": "a frozen one runs on",
    "cut-etcd": "it and etcd lose each other; it still reaches the hosts",
}


@dataclass(frozen=True, slots=True)
class CollectorMachine:
    """One collector as something that can break. ``etcd``: the nodes of its etcd's members, if it has one."""

    place: CollectorPlace
    program: Program
    network: Network
    etcd: tuple[str, ...] = ()

    async def fault(self, kind: str) -> None:
        """Raises ValueError, ProcessLookupError, NetworkError."""
        acts = {
            "kill": lambda: self._signal(signal.SIGKILL),
            "freeze": lambda: self._signal(signal.SIGSTOP),
            "thaw": lambda: self._signal(signal.SIGCONT),
            "cut-etcd": self._cut_etcd,
        }
        if kind == "power":
            self.network.set_link(self.place.node, False)
            await self.program.kill()
        elif kind == "stop":
            await self.program.stop()
        elif kind in acts:
            acts[kind]()
        else:
            raise ValueError(
                f"unknown fault {kind!r} for a collector; there are: {', '.join((*acts, 'power', 'stop'))}"
            )

    async def heal(self) -> None:
        """It runs, and reaches everybody."""
        for node in self.etcd:
            self.network.unblock(self.place.node, node)
            self.network.unblock(node, self.place.node)
        self.network.set_link(self.place.node, True)
        self.program.send(signal.SIGCONT, family=False)
        await self.program.start()

    def _signal(self, number: signal.Signals) -> None:
        # Alone: a fence agent that it has started outlives it, and its power-off may still land.
        if not self.program.send(number, family=False):
            raise ProcessLookupError("the collector does not run")

    def _cut_etcd(self) -> None:
        if not self.etcd:
            raise ValueError("one collector alone has no etcd; start several: --collectors 3")
        for node in self.etcd:
            self.network.block(self.place.node, node)
            self.network.block(node, self.place.node)
