"""Fence agents that a modelled host runs for others: one run each, on the same devices as the collector's own.

The fence agent is a process of its own: it goes on if the agent that started it dies, and ends with its host's power.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from poolwarden_agent.host_port import FenceRun
from poolwarden_collector.core.failover.last_look import SHOT_VALID_MS
from poolwarden_collector.core.model.power import Power
from poolwarden_lab.virtual.world.bmc import SimBmc
from poolwarden_lab.xapi.actions import Answer, PeerResult
from poolwarden_lab.xapi.virtual import OnReply

_CODES = {Power.ON: 0, Power.OFF: 2, Power.UNKNOWN: 1}
Wait = Callable[[Callable[[OnReply], None], int], PeerResult]
FENCE_AGENT = "fence_ipmilan"


class Where(Protocol):
    """What a host's fence agents need of the world around it."""

    @property
    def now(self) -> int: ...
    def at(self, ms: int, act: Callable[[], None]) -> None: ...
    def bmc(self, device: str) -> SimBmc: ...
    def reaches_device(self, name: str, device: str) -> bool: ...
    def has_power(self, name: str) -> bool: ...


class MemberFences:
    """The fence agents of one host."""

    def __init__(self, where: Where, name: str) -> None:
        self._where = where
        self._name = name

    def there(self) -> tuple[str, ...]:
        return (FENCE_AGENT,)

    def run(self, given: bytes, limit_ms: int, wait_for: Wait) -> FenceRun:
        """Run one; its device is what it is given as ``plug``."""
        told = dict(line.split("=", 1) for line in given.decode().splitlines())
        device, action, where = told["plug"], told["action"], self._where
        bmc, found = where.bmc(device), list[tuple[int, str]]()
        run, began = bmc.run(where.reaches_device(self._name, device), limit_ms), where.now

        def act() -> None:
            if where.has_power(self._name):
                found.append(self._act(bmc, action, where.reaches_device(self._name, device), began))

        def begin(reply: OnReply) -> None:
            where.at(where.now + run.acts_ms, act)
            where.at(where.now + run.ends_ms, lambda: reply(Answer("ended")))

        wait_for(begin, run.ends_ms + 1_000)
        if run.killed or not found:
            return FenceRun(True, None, "", "", f"no result within {limit_ms / 1000:g} s, killed")
        code, text = found[0]
        return FenceRun(True, code, text, "", text)

    def _act(self, bmc: SimBmc, action: str, reached: bool, began: int) -> tuple[int, str]:
        now = self._where.now
        if action in ("status", "monitor"):
            power, text = bmc.status(now, reached)
            return (_CODES[power] if action == "status" else int(power is Power.UNKNOWN)), text
        claim, text = bmc.on(now, reached) if action == "on" else bmc.off(now, reached, began - SHOT_VALID_MS)
        return int(not claim), text

    def identity(self, device: str) -> FenceRun:
        """What the device says of the machine that it switches."""
        said = self._where.bmc(device).identity(self._where.reaches_device(self._name, device))
        if said.uuids:
            return FenceRun(True, 0, "".join(f"uuid={each}\n" for each in said.uuids), "", "")
        return FenceRun(True, 1, "", said.text, said.text)
