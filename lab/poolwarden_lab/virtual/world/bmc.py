"""Simulated fence devices, wired to a machine's power, and wrong in the ways in which such devices are wrong.

A request takes ``ANSWER_MS`` (``slow_ms`` where the device is slow); the power is looked at, or switched, in the middle
of it. A device that is not reached costs the fence agent's own login limit. A run that has not ended at the device's
hard limit is killed by the collector's fencer: its reading is UNKNOWN, its ``off`` uncertain, and what it had asked for
may still happen ``LANDS_WITHIN_MS`` later. ``log`` keeps what was asked, so that a test can show that nobody was shot.

A BMC reads and switches the board and lives on the machine's standby power. An outlet of a PDU reads and switches
itself; two of them, one per feed, are two devices of one level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from poolwarden_collector.core.model.power import DeviceIdentity, Power, Trouble

ANSWER_MS = 100
UNREACHED_MS = 5_000
HANGS_MS = 3_600_000
NEVER = -1
LANDS_WITHIN_MS = 8_000  # what a killed run had asked for may still happen so long after it


class BmcMode(Enum):
    """How this device behaves."""

    TRUE = "true"
    UNREACHABLE = "unreachable"  # no answer to anything
    LIES_OFF = "lies-off"  # reads OFF whatever the power is
    LIES_ON = "lies-on"  # reads ON whatever the power is
    STUCK = "stuck"  # acknowledges `off` and does not do it
    SLOW = "slow"  # right, after slow_ms
    WRONG_CREDENTIALS = "wrong-credentials"  # it lets nobody in
    MISSING_AGENT = "missing-agent"  # the fence agent is not installed on the collector
    HANGS = "hangs"  # takes the connection and never answers: ends at the hard limit
    WRONG_HOST = "wrong-host"  # right, but of another host's machine


_FAILS = {
    BmcMode.UNREACHABLE: "Connection timed out",
    BmcMode.WRONG_CREDENTIALS: "Unable to connect/login to fencing device",
    BmcMode.MISSING_AGENT: "the fence agent cannot be started: No such file or directory",
}


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of a fence agent will go: when it acts, when it ends, after its begin; ``killed``: at the limit."""

    acts_ms: int
    ends_ms: int
    killed: bool = False


@dataclass
class SimBmc:
    """One device. ``powered`` and ``cut`` are its machine's (its outlet's) own; ``lives``: has it power?"""

    device: str
    powered: Callable[[], bool]
    cut: Callable[[int], None]  # with the instant until which this could have been recalled
    lives: Callable[[], bool] = lambda: True
    light: Callable[[], None] = lambda: None  # power on
    mode: BmcMode = BmcMode.TRUE
    slow_ms: int = 0
    other: SimBmc | None = None  # whom it reads and switches in mode WRONG_HOST
    machine: str = ""  # the system UUID that it tells; empty: an outlet, which knows nothing of its machine
    mute: bool = False  # it does not tell any more
    log: list[tuple[int, str, str]] = field(default_factory=list)

    def run(self, reached: bool, limit_ms: int) -> Run:
        """How a request that begins now will go, if its agent is killed after ``limit_ms``."""
        took = self._takes(reached)
        if took > limit_ms:
            return Run(min(took // 2, limit_ms + LANDS_WITHIN_MS), limit_ms, True)
        return Run(took // 2, took)

    def _takes(self, reached: bool) -> int:
        if self.mode is BmcMode.MISSING_AGENT:
            return 0
        if not reached or not self.lives() or self.mode is BmcMode.UNREACHABLE:
            return UNREACHED_MS
        if self.mode is BmcMode.HANGS:
            return HANGS_MS
        return self.slow_ms if self.mode is BmcMode.SLOW else ANSWER_MS

    def _failure(self, reached: bool) -> str:
        if self.mode is not BmcMode.MISSING_AGENT and (not reached or not self.lives()):
            return _FAILS[BmcMode.UNREACHABLE]
        return _FAILS.get(self.mode, "")

    def status(self, now: int, reached: bool) -> tuple[Power, str]:
        """What it reads, with the fence agent's text."""
        answer = self._reading(reached)
        self.log.append((now, "status", answer[0].value))
        return answer

    def identity(self, reached: bool) -> DeviceIdentity:
        """What it says of the machine that it switches."""
        if failure := self._failure(reached):
            return DeviceIdentity(text=failure)
        source = self.other if self.mode is BmcMode.WRONG_HOST and self.other is not None else self
        told = source.machine and not self.mute
        return DeviceIdentity((source.machine,)) if told else DeviceIdentity(text="it cannot tell")

    def trouble(self, reached: bool) -> Trouble:
        """Why it gives no reading, if it gives none."""
        if self.mode is BmcMode.MISSING_AGENT:
            return Trouble.AGENT
        if not reached or not self.lives() or self.mode is BmcMode.UNREACHABLE:
            return Trouble.UNREACHABLE
        return Trouble.PASSWORD if self.mode is BmcMode.WRONG_CREDENTIALS else Trouble.NONE

    def _reading(self, reached: bool) -> tuple[Power, str]:
        if failure := self._failure(reached):
            return Power.UNKNOWN, failure
        if self.mode is BmcMode.LIES_OFF:
            return Power.OFF, "Status: OFF"
        if self.mode is BmcMode.LIES_ON:
            return Power.ON, "Status: ON"
        source = self.other if self.mode is BmcMode.WRONG_HOST and self.other is not None else self
        return (Power.ON, "Status: ON") if source.powered() else (Power.OFF, "Status: OFF")

    def on(self, now: int, reached: bool) -> tuple[bool, str]:
        """Power on: its claim of success, with the fence agent's text."""
        failure = self._failure(reached)
        target = self.other if self.mode is BmcMode.WRONG_HOST and self.other is not None else self
        if not failure and self.mode not in (BmcMode.STUCK, BmcMode.HANGS) and not target.powered():
            target.light()
        self.log.append((now, "on", "timeout" if failure else "ok"))
        return not failure, failure or "Success: Powered ON"

    def off(self, now: int, reached: bool, recallable: int = NEVER) -> tuple[bool, str]:
        """Power off: its claim of success, with the fence agent's text.

        recallable: until when whoever ordered it could have kept it from happening, ms.
        """
        failure = self._failure(reached)
        acts = not failure and self.mode not in (BmcMode.STUCK, BmcMode.HANGS)
        target = self.other if self.mode is BmcMode.WRONG_HOST and self.other is not None else self
        if acts and target.powered():
            target.cut(recallable if target is self else NEVER)
        self.log.append((now, "off", "timeout" if failure else "ok"))
        return not failure, failure or "Success: Powered OFF"
