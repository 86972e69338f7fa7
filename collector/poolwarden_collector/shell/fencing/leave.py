"""The leave to switch power, and until when a switch may be begun with it.

Rules
-----
* A switch is begun within a time of the step that decided it, while what it was decided on is young enough, and while
  this collector may act. The first of these ends is the instant until which its fence agent may be executed.
* That instant is on CLOCK_BOOTTIME, which goes on while the machine sleeps, so that a process that was started before a
  sleep can compare it afterwards.
* One of several collectors may act only until its right ends (shell/cluster/membership.py), and within
  ``INTENT_FRESH_MS`` of the step (shell/cluster/takeover.py): whoever takes a pool over counts on both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model.effects import PowerOff, PowerOn
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell import clock

ALWAYS: Ms = 1 << 62


@dataclass(frozen=True, slots=True)
class Ordered:
    """When a switch was ordered: on the fencer's clock, how long the machine had slept then, and on CLOCK_BOOTTIME when
    its step was made.
    """

    at: Ms
    slept: Ms
    decided_at: Ms


@dataclass(frozen=True, slots=True)
class Leave:
    """``why_not``: why this collector may not act in a pool now, empty: it may; ``right_until``: on CLOCK_BOOTTIME;
    ``within_ms``: from the step that decided a switch to its beginning, 0: as long as one collector alone may take.
    """

    why_not: Callable[[PoolId], str] = lambda _pool: ""
    right_until: Callable[[], Ms] = lambda: ALWAYS
    within_ms: Ms = 0
    boottime: Callable[[], Ms] = lambda: clock.awake_or_not_ms()

    def begin_by(self, effect: PowerOff | PowerOn, ordered: Ordered, now: Ms, within: Ms) -> Ms:
        """The instant of CLOCK_BOOTTIME at which it may not be begun any more. ``now``: on the fencer's clock, with
        what was slept since it was ordered.
        """
        until = min(ordered.decided_at + within, self.right_until())
        valid = effect.valid_until if isinstance(effect, PowerOff) else 0
        return min(until, self.boottime() + valid - now) if valid else until

    def why_no_switch(self, pool: PoolId, begin_by: Ms) -> str:
        """Why no process is made for it now; empty: one is."""
        if why := self.why_not(pool):
            return f"not begun: this collector may not act now: {why}"
        late = self.boottime() - begin_by
        return f"not begun: its time has been over for {late / 1000:.1f} s" if late >= 0 else ""
