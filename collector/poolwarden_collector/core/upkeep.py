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
    displaced_master,
    gc_release,
    hold_release,
    lost_vms,
    overdue_work,
    owed_work,
    power_switch,
)
from poolwarden_collector.core.operator import drill_walk
from poolwarden_collector.core.recovery import adopted_holds, database_sync, member_repair, recover_members, switchover
from poolwarden_collector.core.report import absent_hosts
from poolwarden_collector.core.state.transaction import Transaction


def advance_followups(tx: Transaction, verdict: Verdict) -> None:
    """Everything that may be due now."""
    frozen = verdict in (Verdict.HA_MANAGED, Verdict.IDENTITY_CONFLICT)
    if verdict is not Verdict.IDENTITY_CONFLICT and not deposed(tx):
        owed_work.find_done(tx)
        displaced_master.watch_displaced(tx)
    if tx.record.paused is None and not frozen and not tx.quiet and not deposed(tx):
        owed_work.owed_work(tx)
        recover_members.advance(tx)
        adopted_holds.claim(tx)
        hold_release.owed_releases(tx)
        gc_release.release_where_due(tx)
        declare_dead.advance(tx)
        lost_vms.start_queued(tx, verdict)
        power_switch.power_on_fenced(tx)
    power_switch.advance(tx)
    hold_release.say_held(tx, verdict)
    adopted_holds.say_unowned(tx)
    gc_release.alert_waiting(tx)
    overdue_work.say(tx)
    power_off.settle_landed(tx)
    absent_hosts.watch_absent(tx)
    member_repair.repair(tx, verdict)
    database_sync.push_when_due(tx, verdict)
    switchover.advance(tx)
    drill_walk.advance(tx, verdict)
