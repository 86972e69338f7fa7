"""The faults of the lab, one table: what each does to a host, in the words that ``poolwarden lab fault`` takes."""

from __future__ import annotations

import inspect
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poolwarden_lab.processes.bmc.board import BmcFault
from poolwarden_lab.processes.network import COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from poolwarden_lab.processes.lab import Machine, World


class UnknownFault(ValueError):
    """No such fault; the text lists those that exist."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What it does, in one sentence, and the act."""

    meaning: str
    act: Callable[[World, Machine], Awaitable[None] | None]


def _pull_bmc(world: World, machine: Machine) -> None:
    world.network.set_link(machine.bmc_node, False)
    machine.bmc.faults.add(BmcFault.MUTE)  # where there are no cables it accepts connections and says nothing


def _isolate(world: World, machine: Machine) -> None:
    world.network.set_link(machine.host.node, False)
    machine.host.plug(False)


def _partition(world: World, machine: Machine) -> None:
    world.network.block(COLLECTOR, machine.host.node)
    world.network.block(machine.host.node, COLLECTOR)


FAULTS: dict[str, Fault] = {
    "power": Fault("power is cut: silence, then nothing runs; the BMC lives on", lambda w, m: m.host.power_off()),
    "power-on": Fault("power comes back and the host boots", lambda w, m: m.host.power_on()),
    "reads-on": Fault("dom0 is dead and silent, the power stays on", lambda w, m: m.host.lose_dom0()),
    "freeze": Fault("dom0 hangs: xapi and the agent are stopped, ports still accept", lambda w, m: m.host.freeze()),
    "thaw": Fault("a frozen dom0 runs on", lambda w, m: m.host.thaw()),
    "isolate": Fault("the host's cable is pulled", _isolate),
    "partition-collector": Fault("the collector and this host lose each other; nobody else does", _partition),
    "xapi-hang": Fault("xapi accepts and never answers", lambda w, m: _signal(m.host.xapi.send(signal.SIGUSR1))),
    "xapi-wedge": Fault(
        "xapi hangs and obeys no signal but SIGKILL: what it has in memory alone will be lost",
        lambda w, m: _signal(m.host.xapi.send(signal.SIGSTOP)),
    ),
    "xapi-kill": Fault(
        "xapi is killed; its supervisor restarts it", lambda w, m: _signal(m.host.xapi.send(signal.SIGKILL))
    ),
    "agent-kill": Fault(
        "the agent is killed; its supervisor restarts it", lambda w, m: _signal(m.host.agent.send(signal.SIGKILL))
    ),
    "disk-full": Fault("dom0's root file system is filled to the last byte", lambda w, m: m.host.fill_disk()),
    "bmc-unreachable": Fault("the BMC's cable is pulled", _pull_bmc),
    "bmc-lies": Fault("the BMC reads off, whatever the power is", lambda w, m: m.bmc.faults.add(BmcFault.LIES_OFF)),
    "bmc-lies-on": Fault("the BMC reads on, whatever the power is", lambda w, m: m.bmc.faults.add(BmcFault.LIES_ON)),
    "bmc-stuck": Fault(
        "the BMC acknowledges off and on, and does neither", lambda w, m: m.bmc.faults.add(BmcFault.STUCK)
    ),
    "bmc-slow": Fault("every answer of the BMC takes 3 s", lambda w, m: m.bmc.faults.add(BmcFault.SLOW)),
}


def _signal(sent: bool) -> None:
    if not sent:
        raise ProcessLookupError("it does not run")


async def inflict(world: World, machine: Machine, kind: str) -> None:
    """Do it. Raises UnknownFault, OSError, NetworkError."""
    fault = FAULTS.get(kind)
    if fault is None:
        raise UnknownFault(f"unknown fault {kind!r}; there are: {', '.join(FAULTS)}")
    result = fault.act(world, machine)
    if inspect.isawaitable(result):
        await result


async def heal(world: World, machine: Machine) -> None:
    """Undo everything: cables, partitions, BMC, disk, hang; a host without power or dom0 boots."""
    machine.bmc.faults.clear()
    world.network.set_link(machine.bmc_node, True)
    for source, target in world.network.blocked():
        if machine.host.node in (source, target):
            world.network.unblock(source, target)
    machine.host.empty_disk()
    if machine.host.frozen:
        machine.host.thaw()
    machine.host.xapi.send(signal.SIGCONT)
    machine.host.xapi.send(signal.SIGUSR2)
    machine.host.plug(True)
    if machine.host.alive:
        world.network.set_link(machine.host.node, True)
    else:
        await machine.host.power_on()
