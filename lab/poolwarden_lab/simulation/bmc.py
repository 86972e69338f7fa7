"""A simulated BMC: wired to one machine's power, and wrong in the ways in which BMCs are wrong.

A request takes ``ANSWER_MS``; the power is looked at, or switched, in the middle of it. A BMC that is not reached costs
the fence agent's own login limit. ``log`` keeps what was asked, so that a test can show that nobody was shot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from poolwarden_collector.core.facts import Power

ANSWER_MS = 100
UNREACHED_MS = 5_000


class BmcMode(Enum):
    """How this BMC behaves."""

    TRUE = "true"
    UNREACHABLE = "unreachable"  # no answer to anything
    LIES_OFF = "lies-off"  # reads OFF whatever the power is
    LIES_ON = "lies-on"  # reads ON whatever the power is
    STUCK = "stuck"  # acknowledges `off` and does not do it


@dataclass
class SimBmc:
    """One BMC. ``powered`` and ``cut`` are the machine's own."""

    device: str
    powered: Callable[[], bool]
    cut: Callable[[], None]
    mode: BmcMode = BmcMode.TRUE
    log: list[tuple[int, str, str]] = field(default_factory=list)

    def took(self, reached: bool) -> int:
        """How long a request takes, ms."""
        return ANSWER_MS if reached and self.mode is not BmcMode.UNREACHABLE else UNREACHED_MS

    def status(self, now: int, reached: bool) -> tuple[Power, str]:
        """What it reads, with the fence agent's text."""
        if not reached or self.mode is BmcMode.UNREACHABLE:
            answer = (Power.UNKNOWN, "Connection timed out")
        elif self.mode is BmcMode.LIES_OFF:
            answer = (Power.OFF, "Status: OFF")
        elif self.mode is BmcMode.LIES_ON or self.powered():
            answer = (Power.ON, "Status: ON")
        else:
            answer = (Power.OFF, "Status: OFF")
        self.log.append((now, "status", answer[0].value))
        return answer

    def off(self, now: int, reached: bool) -> tuple[bool, str]:
        """Power off: its claim of success, with the fence agent's text."""
        done = reached and self.mode is not BmcMode.UNREACHABLE
        if done and self.mode is not BmcMode.STUCK and self.powered():
            self.cut()
        self.log.append((now, "off", "ok" if done else "timeout"))
        return done, "Success: Powered OFF" if done else "Connection timed out"
