"""What is done for a pool beside its failovers, in the order in which it is thought of at each step.

Rule: owed work, the dead and their VMs are held only by a pause, an armed HA, a higher epoch and the quiet time; the
rest asks for its own permission. What is found done by facts is written down whenever it is seen.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import power_off
from poolwarden_collector.core.followups import (
    declare_dead,
    gc_release,
    hold_release,
    lost_vms,
    overdue_work,
    owed_work,
    power_switch,
)
from poolwarden_collector.core.recovery import adopted_holds, database_sync, member_repair, recover_members, switchover
from poolwarden_collector.core.state.transaction import Transaction


def advance_followups(d: Transaction, verdict: Verdict) -> None:
    """Everything that may be due now."""
    frozen = verdict in (Verdict.HA_MANAGED, Verdict.IDENTITY_CONFLICT)
    if verdict is not Verdict.IDENTITY_CONFLICT and not deposed(d):
        owed_work.find_done(d)
    if d.record.paused is None and not frozen and not d.quiet and not deposed(d):
        owed_work.owed_work(d)
        recover_members.advance(d)
        adopted_holds.claim(d)
        hold_release.owed_releases(d)
        gc_release.release_where_due(d)
        declare_dead.advance(d)
        lost_vms.start_queued(d)
        power_switch.power_on_fenced(d)
    power_switch.advance(d)
    hold_release.say_held(d, verdict)
    adopted_holds.say_unowned(d)
    gc_release.alert_waiting(d)
    overdue_work.say(d)
    power_off.settle_landed(d)
    member_repair.repair(d, verdict)
    database_sync.push_when_due(d, verdict)
    switchover.advance(d)
