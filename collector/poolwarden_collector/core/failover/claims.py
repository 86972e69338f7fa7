"""Claims: every reachable agent stores the failover's term, looks at the old master once more, and tells its database.

Rules
-----
* An answer counts in its own round, and only while it is of the file that the host would load now; who is asked again
  because his file has changed is waited for as long as in a new round.
* Up to the promote intent a veto or a higher term ends the failover. After it the claims are made anew before every
  send (``renewed``): there a veto only keeps the order from being sent.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.standstill import block
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.orders import Claim, Target
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
READ_AGAIN_MS: Ms = 10_000  # how soon a database that could not be used is read again


def claims_ready(d: Transaction, failover: Failover) -> bool:
    """Ask every heard agent to store the term and look once more; True when all, or all that answer, have done so."""
    asked = [host for host in d.record.hosts if host != failover.old_master and d.heard(host)]
    if d.live.claims_since is None:
        d.change(claims_since=d.now, claims={}, claim_round=d.serial())
        if failover.step in REVERSIBLE:
            names = ", ".join(sorted(d.name(host) for host in asked)) or "nobody"
            text = f"asking {names} to store term {failover.term} and look once more"
            d.note(Kind.CLAIM_SENT, text, hosts=asked)
    for host in asked:
        _claim_one(d, failover, host)
        if d.failover is None:
            return False
    if failover.step in REVERSIBLE and (said := vetoes(d)):
        abort(d, f"vetoed by {said}")
        return False
    since = d.live.claims_since if d.live.claims_since is not None else d.now
    missing = [host for host in asked if host not in d.live.claims]
    if failover.step in REVERSIBLE and not d.live.claims and d.now - since >= 2 * d.policy.claim_wait:
        why = "; ".join(_claim_refusal(d, host) for host in asked) or "no member is heard"
        block(d, failover, Blocker.NO_CLAIM, asked, f"no member has stored term {failover.term}: {why}")
    # safety: a host whose copy has just changed is asked about the new one, and a lesser copy is not chosen meanwhile.
    again = [d.live.asked_again[host] for host in missing if host in d.live.asked_again]
    young = any(d.now - at < d.policy.claim_wait for at in again)
    return bool(d.live.claims) and (not missing or (d.now - since >= d.policy.claim_wait and not young))


def vetoes(d: Snapshot) -> str:
    """Who has seen the old master alive in this round, and how; empty: nobody."""
    return "; ".join(f"{d.name(host)}: {claim.veto}" for host, claim in sorted(d.live.claims.items()) if claim.veto)


def renewed(d: Transaction, failover: Failover) -> bool:
    """After the intent: a round of claims at most ``reading_fresh`` old, from every member that is heard."""
    since = d.live.claims_since
    if since is not None and d.now - since > d.policy.reading_fresh:
        # safety: copies, running VMs and looks of an earlier round are what the old master may have changed since.
        d.change(claims_since=None)
    return claims_ready(d, failover)


def _claim_one(d: Transaction, failover: Failover, host: HostId) -> None:
    """Ask one host, again under a new id when an answer was lost, refused, or is of another database file than now."""
    agent, claim = d.agent(host), d.live.claims.get(host)
    assert agent is not None
    if claim is not None and claim.placements is not None and claim.placements.readable:
        if claim.placements.generation == agent.facts.database.generation:
            return
        # safety: the forecast must be of the file that would be loaded now, not of the one that was there at the claim.
        claims = {h: c for h, c in d.live.claims.items() if h != host}
        d.change(claims=claims, asked_again={**d.live.asked_again, host: d.now})
    elif claim is not None and (claim.placements is None or claim.placements.readable):
        return
    base = f"{claim_base(d)}.{host}"
    mine = [sent for order_id, sent in d.live.sent.items() if order_ids.is_attempt(order_id, base)]
    last = max(mine, key=lambda sent: sent.at, default=None)
    if claim is not None and last is not None and d.now - last.at < READ_AGAIN_MS:
        return  # a file that cannot be used may be mended by hand; what was claimed stands meanwhile
    higher = last is not None and last.result is not None and last.result.term > d.record.term
    if last is not None and last.result is not None and higher and failover.step in REVERSIBLE:
        abort(d, f"{d.name(host)} has seen term {last.result.term}")
        return
    wait = RESEND_AFTER_MS if last is not None and last.result is not None else d.policy.claim_wait
    if last is None or last.stream != agent.stream or d.now - last.at >= wait:
        target = Target(failover.old_master, d.record.address_of(failover.old_master))
        d.send(order_ids.OrderId(base, d.serial()).text, host, Claim(target), ORDER_VALID_MS, term=failover.term)


def _claim_refusal(d: Snapshot, host: HostId) -> str:
    base = f"{claim_base(d)}.{host}"
    answers = [
        s.result for order_id, s in d.live.sent.items() if s.result is not None and order_ids.is_attempt(order_id, base)
    ]
    said = (answers[-1].text or answers[-1].reason) if answers else "no answer"
    return f"{d.name(host)}: {said}"


def claim_base(d: Snapshot) -> str:
    """How the ids of the present round's claims begin; a host follows, and a number."""
    failover = d.failover
    return f"{failover.id}/claim/{d.site.epoch}.{d.live.claim_round}" if failover is not None else "none"
