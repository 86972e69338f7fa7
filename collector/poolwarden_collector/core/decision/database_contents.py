"""What a host's own database file says about running VMs, asked of its agent when it is needed.

An answer counts for 10 s. Until it has come nothing is known, which is not the same as "no VM would be killed". Nor is
anything known while the agent has too many such orders or takes one too late: it has not looked, and is asked again.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.decision.kill_forecast import Kill, kills_on
from poolwarden_collector.core.model.order_results import NEVER_BEGUN, OrderOutcome, Outcome, PlacementView
from poolwarden_collector.core.model.orders import CollectEvidence
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.state import sent_orders
from poolwarden_collector.core.state.live import Sent
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

EVIDENCE = "collect_evidence"
FRESH_MS: Ms = 10_000
TOLD_MS: Ms = 5_000  # two reports, and a moment
_FOREIGN = "it is another pool's, or from before the host joined"
WAITING = Reason(Cause.WAITING, "the database of its new master has not been read yet")


def placements_of(tx: Transaction, host: HostId) -> PlacementView | None:
    """The placements of the host's file, at most 10 s old; None until the agent has been asked and has answered."""
    for sent in tx.live.sent.values():
        if sent.host == host and sent.kind == EVIDENCE and tx.now - sent.at <= FRESH_MS:
            return _answer(sent)
    if tx.heard(host):
        tx.send(tx.fresh_id("evidence"), host, CollectEvidence(), FRESH_MS)
    return None


def soundness_awaited(pool: Snapshot, host: HostId) -> bool:
    """Has its file just been read, and is whether xapi could load it still to be told, with the next report?

    One that does not come, or does not tell, is not waited for.
    """
    agent = pool.heard(host)
    read = [sent.answered_at for sent in pool.live.sent.values() if sent.host == host and sent.kind == EVIDENCE]
    at = max((each for each in read if each is not None), default=None)
    if agent is None or at is None or agent.facts.database.sound is not Tri.UNKNOWN:
        return False
    seen = agent.facts.observed.host
    return (seen is None or seen <= at) and pool.now - at < TOLD_MS


def forget_placements(tx: Transaction, host: HostId) -> None:
    """The host's files have changed, or may have: what was read of them, or is being read, counts no more."""
    sent_orders.forget(tx, host, EVIDENCE)


def _answer(sent: Sent) -> PlacementView | None:
    """What the answer says; an agent that refused or failed to read says so instead, None while it has not answered."""
    if sent.result is None or sent.result.reason in NEVER_BEGUN:
        return None
    if sent.result.outcome is not Outcome.DONE or sent.result.placements is None:
        return PlacementView(False, text=f"its agent did not read it: {sent.result.text or sent.result.reason}")
    return sent.result.placements


# What a person can do about VMs that a restart of xapi would kill.
SPARE_THEM = "Shut these VMs down from inside, or migrate them to where the database has them; then again."


def at_stake(tx: Transaction, host: HostId) -> tuple[Kill, ...] | Reason | None:
    """VMs that a restart of this member's xapi would terminate, or why that is not known; None: it is being asked.

    Its xapi terminates every running VM that the master's database does not place there.
    """
    agent = tx.heard(host)
    if agent is not None and agent.facts.domains == ():
        return ()
    loads = placements_of(tx, tx.record.master)
    if loads is None:
        return None
    return kills_on(tx, host, loads) if loads.readable else unreadable("the master's database", loads, tx.record.master)


def of_this_pool(result: OrderOutcome, host: HostId) -> OrderOutcome:
    """An agent's answer; a database of that host in it which does not list the host counts as one that cannot be read.

    Another pool's database is loaded like any other: xapi would make the host that pool's master, enter it there, and
    kill what that database does not know (xapi: ocaml/xapi/dbsync_slave.ml, create_localhost). One from before the host
    joined would do the same. Where the agent does not tell the hosts, nothing is known against the file.
    """
    claim = result.claim
    if claim is not None and claim.placements is not None:
        claim = replace(claim, placements=_own(claim.placements, host))
    placements = result.placements if result.placements is None else _own(result.placements, host)
    return replace(result, placements=placements, claim=claim)


def _own(view: PlacementView, host: HostId) -> PlacementView:
    if not view.readable or not view.hosts or host in view.hosts:
        return view
    # safety: nothing is promoted, restarted or released on the database of another pool.
    return PlacementView(False, view.generation, view.source, text=f"{view.source} does not list this host: {_FOREIGN}")


def unreadable(what: str, loads: PlacementView, host: HostId) -> Reason:
    """The file cannot be read, so nothing is known of the VMs."""
    return Reason(Cause.UNREADABLE, f"{what} cannot be read: {loads.text}", (host,))


def killing(kills: tuple[Kill, ...], text: str) -> Reason:
    """These VMs would be killed."""
    return Reason(Cause.KILLS, text, tuple(sorted(kill.vm for kill in kills)))
