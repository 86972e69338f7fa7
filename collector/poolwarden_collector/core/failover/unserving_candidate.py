"""A promoted host that is not seen serving yet: its time, one restart, what is said of it, and when it is in vain.

Rules
-----
* Its new xapi is restarted once; after that it is named what it does not come up on: host, file, generation.
* One that has taken the role, and whose xapis end before they serve for as long as one may take to start, is the master
  on record: nobody else is. The failover ends without success, and it is judged as any master whose xapi is down.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.standstill import block
from poolwarden_collector.core.evidence import fenced_hosts, xapi_troubles
from poolwarden_collector.core.evidence.signs import looping
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.orders import Preconditions, RestartXapi
from poolwarden_collector.core.model.values import Ms, Role
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
NEW_XAPI_TIME_MS: Ms = 60_000  # a new process is given before it is restarted


def sent_at(pool: Snapshot, failover: Failover) -> Ms:
    """When the order was sent last in this run: a candidate's new xapi has its time from then, not from the intent."""
    sent = pool.sent(failover.promotion.order) if failover.promotion.order else None
    return max(pool.live.phases.step_since, sent.at if sent is not None else 0)


def await_new_master(tx: Transaction, failover: Failover) -> None:
    seen = tx.heard(failover.candidate)
    if seen is not None and seen.facts.xapi.process and seen.facts.xapi.process != failover.promotion.process:
        tx.mark("new-xapi")
    if tx.now - sent_at(tx, failover) < tx.policy.promote_budget or _restart_once(tx, failover):
        return
    agent, name = tx.heard(failover.candidate), tx.name(failover.candidate)
    if agent is None:
        seen_as, why = "not heard", f"{name} was promoted and is not heard"
    elif agent.facts.role.pool_conf is not Role.MASTER:
        seen_as = "pool.conf"
        why = f"{name} answered the promotion with {failover.promotion.result}, but its pool.conf does not say master"
    elif agent.facts.xapi.process == failover.promotion.process:
        seen_as, why = "old process", f"{name} accepted the promotion, but its xapi has not restarted"
    else:
        seen_as = "new process"
        why = f"{name}'s new xapi does not serve as master yet (TCP {agent.facts.xapi.liveness.value})"
        why += xapi_troubles.known_cause(tx, failover.candidate)
    step = f"Nobody else is promoted. Look at {name}'s xapi; poolwarden restart-xapi {name}"
    if seen_as == "new process":
        why += f"; {its_database(tx, failover)}"
        # A restart is refused where the database is known not to be sound: it would only end the same way.
        unsound = unsound_reason(tx, failover.candidate) is not None
        step = f"Nobody else is promoted. Its database may be one that xapi cannot load: see xensource.log on {name}, "
        step += "and put another member's state.db in its place, xapi stopped. "
        step += f"What keeps it: poolwarden host why {name}" if unsound else f"Else: poolwarden restart-xapi {name}"
    step = of_a_silent_candidate(tx, failover) if agent is None else step
    block(tx, failover, Blocker.UNVERIFIED, (failover.candidate, seen_as), why, step)


def _restart_once(tx: Transaction, failover: Failover) -> bool:
    """A new xapi that was to be master and does not come up is restarted, once; True while that has its time."""
    agent, order_id = tx.heard(failover.candidate), f"{failover.orders}/restart/{failover.candidate}"
    if failover.candidate in failover.members.restarted:
        return tx.now - tx.live.phases.marks.get("restart-new", sent_at(tx, failover)) < tx.policy.promote_budget
    if agent is None or agent.facts.role.pool_conf is not Role.MASTER:
        return False
    process = agent.facts.xapi.process
    if process and process == failover.promotion.process:
        return False  # the old process has not ended: it is still the member that it was
    if process and tx.now - tx.live.phases.marks.get("new-xapi", tx.now) < NEW_XAPI_TIME_MS:
        return True  # somebody has restarted it just now
    text = f"restarting the xapi of {tx.name(failover.candidate)}: it was promoted and does not come up"
    tx.note(Kind.RESTART_INTENT, text, host=failover.candidate, order=order_id)
    tx.mark("restart-new")
    pre = Preconditions(ha_off=True, process=process, pool_conf_in=(Role.MASTER,))
    tx.send(order_id, failover.candidate, RestartXapi(as_master_ok=True), ORDER_VALID_MS, pre, failover.term)
    return True


def took_it_in_vain(tx: Snapshot, failover: Failover) -> bool:
    """Has the candidate taken the role, and does each of its xapis end before it serves, for as long as one may take to
    start? Then it is the master on record, for nobody else is, and is judged as any master whose xapi is down.
    """
    agent, host = tx.heard(failover.candidate), failover.candidate
    if agent is None or tx.now - sent_at(tx, failover) < tx.policy.xapi_starting_limit or not looping(tx, host):
        return False
    role, process = agent.facts.role, agent.facts.xapi.process
    # safety: set to be master, and running as one in another process than the member's that was asked.
    took = role.pool_conf is Role.MASTER and role.running is Role.MASTER and process != failover.promotion.process
    return took and bool(process) and tx.record.term <= failover.term


def its_database(pool: Snapshot, failover: Failover) -> str:
    """Which database its new xapi starts with, by host, file and generation; in a sentence without a full stop."""
    host = failover.candidate
    agent, given = pool.agent(host), failover.hold.handed_over or {}
    said = agent.facts.database if agent is not None else None
    which = f"its database is /{said.loaded_from} (generation {said.generation})" if said is not None else ""
    if given.get("target") == host and given.get("placed"):
        which += f", which was handed over from {pool.name(failover.old_master)}"
    if (unsound := unsound_reason(pool, host)) is not None:
        which += f", and not sound: {unsound}"
    return which or "which database it starts with is not known"


def of_a_silent_candidate(pool: Snapshot, failover: Failover) -> str:
    """It goes on by itself once the candidate is heard, and with another one once it is off."""
    name = pool.name(failover.candidate)
    return f"Start its agent again. Or switch {name} off: {fenced_hosts.next_step(pool, (failover.candidate,))}"
