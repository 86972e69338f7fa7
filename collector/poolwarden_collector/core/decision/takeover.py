"""Why nothing is begun yet in a pool that was another collector's until just now, in a sentence each.

What is waited for, and the rules of it: state/taken_over.py.
"""

from __future__ import annotations

from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.taken_over import Left, Wait


def refusal(pool: Snapshot) -> Reason | None:
    """What of the last owner's may still happen; None: nothing, or this pool had none."""
    standing = next((wait for wait in pool.takeover_waits if pool.now < wait.until), None)
    return None if standing is None else Reason(Cause.TAKEN_OVER, _sentence(pool, standing))


def power_refusal(pool: Snapshot) -> Reason | None:
    """Why no power may be switched or concluded from yet; None: it may."""
    found = [wait for wait in pool.takeover_waits if wait.left is Left.POWER and pool.now < wait.until]
    return Reason(Cause.TAKEN_OVER, _sentence(pool, found[0])) if found else None


def no_right(pool: Snapshot) -> Reason | None:
    """One of several collectors may act nowhere now; None: it may."""
    if not pool.site.cut_off:
        return None
    return Reason(Cause.NO_RIGHT, "this collector may act nowhere until etcd has renewed its lease")


def quiet(pool: Snapshot) -> str:
    """Why nothing is begun in this quiet time."""
    return str(no_right(pool) or refusal(pool) or "start-up quiet time")


def just(pool: Snapshot) -> str:
    """Why this collector listens first: "... has only just ..."."""
    return "started" if pool.site.takeover is None else "taken this pool over"


def _sentence(pool: Snapshot, wait: Wait) -> str:
    left = f"{_seconds(wait.until - pool.now)} s left"
    if wait.left is Left.POWER:
        return f"a power switch that the collector before this one ordered may still land, {left}"
    names = _names(pool, wait.hosts)
    has = "has" if len(wait.hosts) == 1 else "have"
    if wait.left is Left.AGENTS:
        return f"{names} {has} not acknowledged this collector yet, {left}"
    return f"{names} {has} not acknowledged this collector and may still obey the one before, {left}"


def _names(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    names = sorted(pool.name(host) for host in hosts)
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _seconds(ms: Ms) -> int:
    return -(-ms // 1000)
