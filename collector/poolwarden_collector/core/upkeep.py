"""What is done for a pool beside its failovers, in the order in which it is thought of at each step.

Rule: owed work, the dead and their VMs are held only by a pause, an armed HA, a higher epoch and the quiet time; the
rest asks for its own permission. What is found done by facts is written down whenever it is seen.
"""

from __future__ import annotations

from poolwarden_collector.core import (
    agentless,
    collecting,
    dead,
    designate,
    holds,
    lost,
    overdue,
    owed,
    release,
    repair,
    shot,
    switching,
    sync,
)
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.permission import deposed
from poolwarden_collector.core.verdict import Verdict


def look_after(d: Draft, verdict: Verdict) -> None:
    """Everything that may be due now."""
    frozen = verdict in (Verdict.HA_MANAGED, Verdict.IDENTITY_CONFLICT)
    if verdict is not Verdict.IDENTITY_CONFLICT and not deposed(d):
        owed.find_done(d)
    if d.record.paused is None and not frozen and not d.quiet and not deposed(d):
        owed.owed_work(d)
        agentless.look_after(d)
        holds.claim(d)
        release.owed_releases(d)
        collecting.let_collect(d)
        dead.bury(d)
        lost.start_queued(d)
        switching.wake(d)
    switching.go_on(d)
    release.say_held(d, verdict)
    holds.say_unowned(d)
    collecting.say_waiting(d)
    overdue.say(d)
    shot.settle_landed(d)
    repair.repair(d, verdict)
    sync.keep_pushed(d, verdict)
    designate.go_on(d)
