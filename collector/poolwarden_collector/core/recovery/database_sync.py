"""Pushing the master's database to every member (pool.sync_database): what bounds the loss of a promotion.

Theory: a master copies its database to its members one after the other, each every (hosts - 1) x 5 minutes (xapi:
ocaml/xapi/pool_db_backup.ml). A push on top of that, hourly and before planned work, makes all copies as new as they
can be at that moment.

Rules
-----
* Never during a failover, a rolling upgrade or a pause, nor in mode observe. Exports and migrations do not hold it: it
  changes nothing but the copies, and what they change is worth copying.
* xapi refuses it while a host is offline (HOST_OFFLINE): then it is not tried, and that is a readiness reason.
* A push that failed is a readiness reason until one succeeds; it is tried again after ten minutes.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.permission import command_refusal
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import Preconditions, SyncDatabase
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.state.live_slices import DatabaseSync
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, answer_of
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

RETRY_MS: Ms = 600_000
ANSWER_MS: Ms = 720_000  # the agent gives xapi ten minutes
LEARN_MS: Ms = 60_000


def push_when_due(tx: Transaction, verdict: Verdict) -> None:
    """Learn how the last push ended; make the next one when it is due."""
    if tx.record.after.sync_order:
        _learn(tx)
        return
    due = _due(tx)
    skipped = refusal(tx, verdict) if due else ""
    if skipped != tx.live.database_sync.skipped:
        tx.change(DatabaseSync, skipped=skipped)
    if due and not skipped:
        begin(tx, "scheduled")


def _due(pool: Snapshot) -> bool:
    interval = pool.policy.sync_interval
    if not interval or pool.policy.mode == "observe":
        return False
    if pool.live.database_sync.pushed_at is None:
        return pool.now - pool.site.started_at >= interval
    wait = min(RETRY_MS, interval) if pool.record.after.sync_failure else interval
    return pool.now - pool.live.database_sync.pushed_at >= wait


def refusal(pool: Snapshot, verdict: Verdict) -> str:
    """Why the database is not to be pushed now; empty if it may be."""
    if standing := command_refusal(pool):
        return standing.text
    if pool.failover is not None:
        return f"failover {pool.failover.id} is open"
    if pool.record.after.designation is not None:
        return "the role is being handed over"
    if verdict not in (Verdict.HEALTHY, Verdict.AGENT_LOST):
        return f"the pool is {verdict.word}"
    master = verified(pool)
    agent, view = pool.heard(master), master_view(pool, master)
    if agent is None or view is None:
        return "the master has not told its view of the pool"
    if "sync_database" not in agent.hello.capabilities:
        return f"the agent {agent.hello.agent_version} of {pool.name(master)} cannot do it"
    if view.rolling_upgrade is not Tri.NO:
        return "a rolling upgrade is under way, or whether one is cannot be read"
    offline = [host.name for host in view.hosts if not host.live]
    return f"{', '.join(offline)} {'is' if len(offline) == 1 else 'are'} offline" if offline else ""


def begin(tx: Transaction, why: str, actor: str = "poolwarden") -> str:
    """Journal and order a push on the verified master; the order's id. The caller has asked ``refusal``."""
    master = verified(tx)
    order_id = tx.fresh_id("sync")
    text = f"pushing the database of {tx.name(master)} to every member ({why})"
    tx.note(Kind.SYNC_INTENT, text, actor, order=order_id, host=master)
    tx.change(DatabaseSync, pushed_at=tx.now)
    tx.send(order_id, master, SyncDatabase(), ORDER_VALID_MS, Preconditions(ha_off=True))
    return order_id


def _learn(tx: Transaction) -> None:
    order_id = tx.record.after.sync_order
    sent = tx.sent(order_id)
    host: HostId = sent.host if sent is not None else tx.record.master
    answer = answer_of(tx, host, order_id)
    if answer is not None:
        done = answer.outcome is Outcome.DONE
        _ended(tx, "done" if done else answer.outcome.value, answer.text or answer.reason)
    elif sent is None and tx.now - tx.site.started_at >= LEARN_MS:
        _ended(tx, "unknown", "this collector was restarted meanwhile")
    elif sent is not None and tx.now - sent.at >= (ANSWER_MS if tx.heard(host) else LEARN_MS):
        _ended(tx, "unknown", f"{tx.name(host)} has not answered")


def _ended(tx: Transaction, outcome: str, why: str) -> None:
    done = outcome == "done"
    text = "every member has the master's database" if done else f"the database was not pushed ({outcome}): {why}"
    order_id = tx.record.after.sync_order
    tx.note(Kind.SYNC_RESULT, text, order=order_id, outcome=outcome, why=why or outcome)


def not_pushed(pool: Snapshot) -> list[str]:
    """Readiness reasons: a push that failed, or one that is due and cannot be made."""
    reasons = []
    if pool.record.after.sync_failure:
        reasons.append(f"the last push of the database to the members failed: {pool.record.after.sync_failure}")
    held_anyway = pool.record.paused is not None or pool.failover is not None or pool.site.blind
    if pool.live.database_sync.skipped and not held_anyway:
        reasons.append(f"the database is not pushed to the members: {pool.live.database_sync.skipped}")
    return reasons
