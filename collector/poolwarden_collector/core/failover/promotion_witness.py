"""The promoted host as others see it: a second word beside its own, where there is anybody to give one.

Theory
------
A host's own agent tells its pool.conf, its process and its own login. That is one word: an agent that is mistaken or
false would have every other member pointed at a host that serves nobody. Any other heard agent can ask that host's
xapi for its role over the network, as members will have to (the agent's dom0/xapi/roles.py: TCP 443 and 80).

Rules
-----
* Once the candidate says that it serves, other heard agents of the pool ask it for its role. One that was told "acts
  as master" is enough, and *promoted* is written; until then nobody is repointed and nothing is owed.
* It is asked where the last serving master had it: one that says that it is elsewhere is not believed at all, for any
  other pool's master says there that it acts as master.
* Other answers contradict it: it follows somebody, it is there and tells no role, or nothing comes from it. That the
  succeeded master reaches nothing there is none: that is often why it was succeeded. All are asked, three at a time,
  whoever was asked longest ago first. A xapi that has just started is given some time; then the failover stands still,
  says who was told what, and goes on by itself when one of them is told otherwise.
* Who cannot be asked, or whose agent never brings an answer, is no witness; where there is none, the host's own word
  stands, and the journal says that it stood alone.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.standstill import block
from poolwarden_collector.core.evidence.fenced_hosts import next_step
from poolwarden_collector.core.evidence.membership import moved
from poolwarden_collector.core.failover.last_look import ORDER_VALID_MS, PLAIN_PORT
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.order_results import RoleAnswer, RoleClaim
from poolwarden_collector.core.model.orders import ProbeNow, Target
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live_slices import PromotionWitnesses
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

MOST_ASKED = 3  # agents at a time: each costs the new master one login that fails
ASK_EVERY_MS: Ms = 4_000
STARTING_MS: Ms = 20_000  # TCP 443 of a xapi that has just begun to serve (stunnel) may come after its own login
UNANSWERED_MS: Ms = 30_000  # agents that bring no answer for so long are no witnesses
_SAYS = {
    RoleClaim.FOLLOWS: "follows another host",
    RoleClaim.UNTOLD: "is there and tells no role",
    RoleClaim.SILENT: "does not answer",
}


def stands(tx: Transaction, failover: Failover) -> str:
    """Does the candidate's word that it serves stand? How, in one clause; empty: not yet, or it is contradicted."""
    if why := moved(tx, failover.candidate, failover.old_master):
        name = tx.name(failover.candidate)
        step = f"Nobody is pointed at it. Correct management_address in agent.conf of {name}, or switch it off"
        block(tx, failover, Blocker.UNVERIFIED, (failover.candidate, "address"), f"{name} is moved: {why}", step)
        return ""
    asked = _askers(tx, failover)
    if not asked:
        # A collector that has only just started has not heard yet who is there.
        return "" if tx.quiet else "nobody else is there to ask it"
    if tx.live.promotion_witnesses.since is None:
        tx.change(PromotionWitnesses, since=tx.now)
    told = {host: answer for host in asked if (answer := _told(tx, failover, host)) is not None}
    # That nothing reaches it from the old master is often why that one was succeeded: only another answer counts.
    if (last := told.get(failover.old_master)) is not None and last.said is RoleClaim.SILENT:
        told.pop(failover.old_master)
    for host in sorted(told, key=tx.name):
        # safety: an answer to a question that was put after it said itself that it serves.
        if told[host].said is RoleClaim.ACTS:
            return f"{tx.name(host)} has asked its xapi, and it acts as master"
    for host in _in_turn(tx, asked):
        _ask(tx, failover, host)
    waited = tx.now - (tx.live.promotion_witnesses.since or tx.now)
    if not told and waited >= UNANSWERED_MS:
        return "nobody else could ask it"
    if told and waited >= STARTING_MS:
        _contradicted(tx, failover, told)
    return ""


def forget(tx: Transaction) -> None:
    """The candidate does not say that it serves, or its word stands: nobody is asked about it."""
    tx.change(PromotionWitnesses, asked={}, since=None)


def _askers(pool: Snapshot, failover: Failover) -> tuple[HostId, ...]:
    """Other heard agents that can ask; those that have a word first, then by name."""
    found = [
        host
        for host in pool.record.hosts
        if host != failover.candidate
        and (agent := pool.heard(host)) is not None
        and "probe_now" in agent.hello.capabilities
    ]
    return tuple(sorted(found, key=lambda host: (host == failover.old_master, pool.name(host))))


def _in_turn(pool: Snapshot, askers: tuple[HostId, ...]) -> tuple[HostId, ...]:
    """Those whose last question is the longest ago; no fourth one while three have just been asked."""

    def at(host: HostId) -> Ms:
        last = pool.sent(pool.live.promotion_witnesses.asked.get(host, ("", ""))[1])
        return last.at if last is not None else -1

    free = MOST_ASKED - sum(1 for host in askers if at(host) >= 0 and pool.now - at(host) < ASK_EVERY_MS)
    due = [host for host in askers if at(host) < 0 or pool.now - at(host) >= ASK_EVERY_MS]
    return tuple(sorted(due, key=at)[: max(0, free)])


def _told(pool: Snapshot, failover: Failover, asker: HostId) -> RoleAnswer | None:
    """What this agent was told of the candidate last; None: nothing yet, or its agent cannot ask for roles."""
    sent = pool.sent(pool.live.promotion_witnesses.asked.get(asker, ("", ""))[1])
    before = pool.sent(pool.live.promotion_witnesses.asked.get(asker, ("", ""))[0])
    for last in (sent, before):
        if last is not None and last.result is not None:
            return next((answer for answer in last.result.roles if answer.host == failover.candidate), None)
    return None


def _ask(tx: Transaction, failover: Failover, asker: HostId) -> None:
    agent, (_, last_id) = tx.agent(asker), tx.live.promotion_witnesses.asked.get(asker, ("", ""))
    last = tx.sent(last_id)
    if agent is None:
        return
    if last is not None and last.stream == agent.stream:
        wait = ASK_EVERY_MS if last.result is not None else ORDER_VALID_MS
        if tx.now - last.at < wait:
            return
    nonce = tx.fresh_id("witness")
    order_id, host = f"{nonce}/{asker}", failover.candidate
    tx.change(PromotionWitnesses, asked={**tx.live.promotion_witnesses.asked, asker: (last_id, order_id)})
    tx.send(
        order_id, asker, ProbeNow((), nonce, (Target(host, tx.record.address_of(host), PLAIN_PORT),)), ORDER_VALID_MS
    )


def _contradicted(tx: Transaction, failover: Failover, told: dict[HostId, RoleAnswer]) -> None:
    name = tx.name(failover.candidate)
    said = {host: _SAYS[answer.said] for host, answer in told.items() if answer.said in _SAYS}
    heard = "; ".join(f"asked by {tx.name(host)}, it {said[host]}" for host in sorted(said, key=tx.name))
    why = f"{name} says that it serves as master, and no other host is told so: {heard}"
    step = (
        f"Nobody is pointed at it, and nobody else is promoted. It goes on by itself when one of them is told: look at "
        f"xapi, TCP 443 and network of {name}. Or switch {name} off: {next_step(tx, (failover.candidate,))}"
    )
    subjects = (failover.candidate, "contradicted", *sorted(f"{host}/{word}" for host, word in said.items()))
    block(tx, failover, Blocker.UNVERIFIED, subjects, why, step)
