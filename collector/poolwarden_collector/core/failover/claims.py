"""Claims: every reachable agent stores the failover's term, looks at the old master once more, and tells its database.

Rules
-----
* An answer counts in its own round, and only while it is of the file that the host would load now; a host that is asked
  again because its file has changed is waited for as long as in a new round.
* Up to the promote intent a veto or a higher term ends the failover. After it the claims are made anew before every
  send (``renewed``): there a veto only keeps the order from being sent.
* Of a master that loops a look may meet a moment of service; before its toolstack is held that is no veto.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.standstill import block
from poolwarden_collector.core.failover import claim_round
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.order_results import ClaimOutcome
from poolwarden_collector.core.model.orders import Claim, Target
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Path
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
READ_AGAIN_MS: Ms = 10_000  # how soon a database that could not be used is read again


def claims_ready(tx: Transaction, failover: Failover) -> bool:
    """Ask every heard agent to store the term and look once more; True when all, or all that answer, have done so."""
    asked = [host for host in tx.record.hosts if host != failover.old_master and tx.heard(host)]
    if tx.live.claims.since is None:
        claim_round.begin(tx)
        if failover.step in REVERSIBLE:
            names = ", ".join(sorted(tx.name(host) for host in asked)) or "nobody"
            text = f"asking {names} to store term {failover.term} and look once more"
            tx.note(Kind.CLAIM_SENT, text, hosts=asked)
    for host in asked:
        _claim_one(tx, failover, host)
        if tx.failover is None:
            return False
    if failover.step in REVERSIBLE and (said := vetoes(tx)):
        abort(tx, f"vetoed by {said}")
        return False
    since = tx.live.claims.since if tx.live.claims.since is not None else tx.now
    missing = [host for host in asked if host not in tx.live.claims.answers]
    if failover.step in REVERSIBLE and not tx.live.claims.answers and tx.now - since >= 2 * tx.policy.claim_wait:
        why = "; ".join(_claim_refusal(tx, host) for host in asked) or "no member is heard"
        block(tx, failover, Blocker.NO_CLAIM, asked, f"no member has stored term {failover.term}: {why}")
    # safety: a host whose copy has just changed is asked about the new one, and a lesser copy is not chosen meanwhile.
    again = [tx.live.claims.asked_again[host] for host in missing if host in tx.live.claims.asked_again]
    young = any(tx.now - at < tx.policy.claim_wait for at in again)
    return bool(tx.live.claims.answers) and (not missing or (tx.now - since >= tx.policy.claim_wait and not young))


def vetoes(pool: Snapshot) -> str:
    """Who has seen the old master alive in this round, and how; empty: nobody."""
    passed = moments(pool)
    return "; ".join(
        f"{pool.name(host)}: {claim.veto}"
        for host, claim in sorted(pool.live.claims.answers.items())
        if claim.veto and host not in passed
    )


def moments(pool: Snapshot) -> tuple[HostId, ...]:
    """Whose look has met a moment of service of an old master that loops: that is what the failover was decided on.

    Its toolstack is held before anybody is promoted, and what is seen of it after that is no moment.
    """
    failover = pool.failover
    if failover is None or not failover.loops or failover.path is not Path.TOOLSTACK:
        return ()
    held = pool.live.phases.marks.get("fence-intent") if failover.hold.order else pool.now + 1
    return tuple(
        host
        for host, claim in sorted(pool.live.claims.answers.items())
        # safety: a host that acts as master itself vetoes by its own role, whatever its look has found.
        if claim.veto and held is not None and _looked_before(pool, claim, held) and _is_member(pool, host)
    )


def _looked_before(pool: Snapshot, claim: ClaimOutcome, held: Ms) -> bool:
    look = claim.last_look
    return look is not None and look.outcome is ProbeOutcome.ANSWERED and look.probed_at <= held


def _is_member(pool: Snapshot, host: HostId) -> bool:
    agent = pool.heard(host)
    if agent is None or agent.facts.role.serves_as_master:
        return False
    return agent.facts.role.pool_conf is Role.MEMBER and agent.facts.role.running is not Role.MASTER


def renewed(tx: Transaction, failover: Failover) -> bool:
    """After the intent: a round of claims at most ``reading_fresh`` old, from every member that is heard."""
    since = tx.live.claims.since
    if since is not None and tx.now - since > tx.policy.reading_fresh:
        # safety: copies, running VMs and looks of an earlier round are what the old master may have changed since.
        claim_round.expire(tx)
    return claims_ready(tx, failover)


def _claim_one(tx: Transaction, failover: Failover, host: HostId) -> None:
    """Ask one host, again under a new id when an answer was lost, refused, or is of another database file than now."""
    agent, claim = tx.agent(host), tx.live.claims.answers.get(host)
    assert agent is not None
    if claim is not None and claim.placements is not None and claim.placements.readable:
        if claim.placements.generation == agent.facts.database.generation:
            return
        # safety: the forecast must be of the file that would be loaded now, not of the one that was there at the claim.
        claim_round.ask_again(tx, host)
    elif claim is not None and (claim.placements is None or claim.placements.readable):
        return
    base = f"{claim_base(tx)}.{host}"
    mine = [sent for order_id, sent in tx.live.sent.items() if order_ids.is_attempt(order_id, base)]
    last = max(mine, key=lambda sent: sent.at, default=None)
    if claim is not None and last is not None and tx.now - last.at < READ_AGAIN_MS:
        return  # a file that cannot be used may be mended by hand; what was claimed stands meanwhile
    higher = last is not None and last.result is not None and last.result.term > tx.record.term
    if last is not None and last.result is not None and higher and failover.step in REVERSIBLE:
        abort(tx, f"{tx.name(host)} has seen term {last.result.term}")
        return
    wait = RESEND_AFTER_MS if last is not None and last.result is not None else tx.policy.claim_wait
    if last is None or last.stream != agent.stream or tx.now - last.at >= wait:
        target = Target(failover.old_master, tx.record.address_of(failover.old_master))
        tx.send(order_ids.OrderId(base, tx.serial()).text, host, Claim(target), ORDER_VALID_MS, term=failover.term)


def _claim_refusal(pool: Snapshot, host: HostId) -> str:
    base = f"{claim_base(pool)}.{host}"
    answers = [
        s.result
        for order_id, s in pool.live.sent.items()
        if s.result is not None and order_ids.is_attempt(order_id, base)
    ]
    said = (answers[-1].text or answers[-1].reason) if answers else "no answer"
    return f"{pool.name(host)}: {said}"


def answered_at(pool: Snapshot, host: HostId) -> Ms | None:
    """When this host has last answered a claim of the present round; None: not yet."""
    base = f"{claim_base(pool)}.{host}"
    times = [sent.answered_at for name, sent in pool.live.sent.items() if order_ids.is_attempt(name, base)]
    return max((at for at in times if at is not None), default=None)


def claim_base(pool: Snapshot) -> str:
    """How the ids of the present round's claims begin; a host follows, and a number."""
    failover = pool.failover
    return f"{failover.id}/claim/{pool.site.epoch}.{pool.live.claims.number}" if failover is not None else "none"
