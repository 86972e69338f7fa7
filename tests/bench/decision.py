"""The collector's part of a decision in a big pool: last evidence to the promote order, 64 hosts, through everything.

The shipped collector as a process of its own (gRPC, mutual TLS, engine, SQLite with synchronous=FULL), a fence agent
that it runs, a simulated BMC, and 64 `played` agents. A round is one collector and one pool from their first to their
last minute: nothing of an earlier failover is left. Both stamps are made in this process, so they are one clock's; its
own work for 63 streams lies between them too and counts against the collector.

Twice: as it is with real agents, whose looks at the dead master all end at the same limit, so that 63 answers come at
once and the last of them waits for the others to be taken; and with the last answer coming alone, a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, Stopped, reproduce
from played import PROBE_LIMIT_S, PlayedAgent, Scene, mono_ms, uuid
from settings import Settings, progress

from poolwarden_lab.processes import certificates, configuration
from poolwarden_lab.processes.bmc.board import Bmc
from poolwarden_lab.processes.lab_policy import headline, policy_settings
from poolwarden_lab.processes.network import COLLECTOR, Loopback
from poolwarden_lab.processes.operator_link import OperatorLink, wait_healthy
from poolwarden_lab.processes.places import Places, base_environment, code_path, make_places
from poolwarden_lab.processes.supervisor import Program

NAME = "decision"
HOSTS = 64
BUDGET_MS = 1_000.0
# When the last host's answer leaves it, s after it was asked.
WAYS = {"all answer at once": PROBE_LIMIT_S, "the last answer comes alone": PROBE_LIMIT_S + 1.0}
LISTENING_LIMIT_S = 20.0
HEALTHY_LIMIT_S = 60.0
DECISION_LIMIT_S = 60.0
_FENCE_AGENT = Path(configuration.__file__).with_name("fence_lab.py")


@dataclass
class Master:
    """What the BMC switches; only its reading matters here."""

    powered: bool = True

    async def power_off(self) -> None:
        self.powered = False

    async def power_on(self) -> None:
        self.powered = True


async def run(settings: Settings) -> list[Figure]:
    if not settings.refused:  # in namespaces of our own, where nobody has done it yet
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    policy = policy_settings({"collector_probe": False})
    places = make_places(None)
    samples: dict[str, list[float]] = {}
    try:
        issued = certificates.issue(places.home / "tls", [uuid(n + 1) for n in range(HOSTS)], {"lab": "127.0.0.1"})
        field = Field(places, policy, issued)
        for way, last_look_s in WAYS.items():
            found = samples.setdefault(way, [])
            for number in range(settings.rounds):
                found.append(await _round(field, Scene(HOSTS, last_look_s=last_look_s)))
                progress(f"{way}, round {number + 1} of {settings.rounds}: {found[-1]:.1f} ms")
    except (TimeoutError, OSError) as failure:
        raise Stopped(failure, _figures(samples, settings, policy)) from failure
    finally:
        places.clean(keep_home=False)
    return _figures(samples, settings, policy)


def _figures(samples: dict[str, list[float]], settings: Settings, policy: dict[str, int | bool | str]) -> list[Figure]:
    notes = (
        f"from the last answer to the last look to the order's arrival; {HOSTS} played agents over TLS",
        f"there is no xapi in it, so no time factor; {headline(policy, 1)}",
        reproduce(NAME, settings.rounds),
    )
    what = f"last evidence to the order's arrival at the candidate's agent ({HOSTS} hosts"
    return [
        Figure(NAME, f"{what}, {way})", "ms", tuple(found), BUDGET_MS, notes) for way, found in samples.items() if found
    ]


@dataclass(frozen=True, slots=True)
class Field:
    """What all rounds share."""

    places: Places
    policy: dict[str, int | bool | str]
    issued: dict[str, dict[str, bytes]]


async def _round(field: Field, scene: Scene) -> float:
    """Milliseconds from the last evidence to the order."""
    master = Master()
    async with _collector(field, master) as port:
        link = OperatorLink(f"unix:{field.places.collector_socket}")
        agents = [PlayedAgent(scene, n + 1, port, field.issued[uuid(n + 1)]) for n in range(scene.hosts)]
        try:
            await _listening(port, field.places.logs)
            for agent in agents:
                await agent.start()
            await wait_healthy(link, scene.hosts, HEALTHY_LIMIT_S)
            master.powered, scene.cut_ms = False, mono_ms()
            await agents[0].stop()
            await _promoted(scene, link)
        finally:
            await asyncio.gather(*(agent.stop() for agent in agents))
            await link.close()
    return scene.order_arrived - scene.last_evidence


async def _promoted(scene: Scene, link: OperatorLink) -> None:
    """Raises TimeoutError with where the failover stands."""
    try:
        await asyncio.wait_for(scene.promoted.wait(), DECISION_LIMIT_S)
    except TimeoutError:
        pool = await link.pool()
        why = f"{pool.verdict}: {pool.sentence} {pool.failover.blocker}" if pool else "the collector is silent"
        raise TimeoutError(f"no promote order within {DECISION_LIMIT_S:.0f} s: {why}") from None


@contextlib.asynccontextmanager
async def _collector(field: Field, master: Master) -> AsyncIterator[int]:
    """A collector with an empty journal, and its agents' port; gone at the end."""
    places, home, port, listener = field.places, field.places.home, _free_port(), _listener()
    bmc = Bmc(master, configuration.BMC_USER, configuration.BMC_PASSWORD)
    bmc_port = listener.getsockname()[1]
    await bmc.start(listener)
    text = configuration.collector_config(
        home=home,
        tls=home / "tls" / certificates.COLLECTOR_DIRECTORY,
        listen=f"127.0.0.1:{port}",
        socket=places.collector_socket,
        anchors=[],
        policy=field.policy,
        fences=[configuration.FenceEntry(uuid(1), "bmc-1", configuration.lab_parameters("127.0.0.1", bmc_port))],
        fence_agent=configuration.write_fence_agent(home, _FENCE_AGENT),
        webhook="http://127.0.0.1:9/nobody-listens",
    )
    places.collector_config.write_text(text)
    command = [sys.executable, "-m", "poolwarden_collector.shell.main", "--config", str(places.collector_config)]
    program = Program(
        [*Loopback(1, "").launcher(COLLECTOR), *command],
        places.logs / "collector.log",
        environment=base_environment(code_path("poolwarden_collector", "poolwarden", "poolwarden_lab")),
    )
    await program.start()
    try:
        yield port
    finally:
        await program.stop()
        await bmc.stop()
        shutil.rmtree(home / "state")


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def _listening(port: int, logs: Path) -> None:
    """A collector that listens takes agents at once; gRPC would wait a second after a first refusal.

    Raises TimeoutError with the collector's last words.
    """
    deadline = time.monotonic() + LISTENING_LIMIT_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                lines = (logs / "collector.log").read_text(errors="replace").strip().splitlines()
                raise TimeoutError(f"the collector does not listen: {lines[-1] if lines else '-'}") from None
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


def main(settings: Settings) -> list[Figure]:
    return asyncio.run(run(settings))
