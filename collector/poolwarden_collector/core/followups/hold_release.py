"""Undoing what a toolstack fence did: the hold is lifted, and a database that was placed for nothing is removed.

Rules
-----
* The old master starts as master again only while it is the master on record and nobody else serves, or is set to by
  its pool.conf or its process; otherwise it is released as a member of whoever does. It is released also where its xapi
  never ended and serves: the next end of that process would leave the pool without a master.
* Released counts only when no order can hold that host any more: it has stored the term at which its failover ended,
  and is seen not held after that. Until then it may be slow, and obey what it was told before.
* Either start reads a database: it is asked first whether that would kill a running VM, and then a person decides.
* A placed database that no promotion has used would roll the pool back at a later start as master: it is removed
  wherever it may lie. On a held master, for whose restart in place it was, that goes before the release: only then its
  own file is what is read and started with.
* A host that we hold and cannot release is named by an alert for as long as that is so, whatever the verdict: nobody
  else knows why systemd starts no xapi there.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import HELD
from poolwarden_collector.core.decision import restart_files
from poolwarden_collector.core.decision.database_contents import (
    WAITING,
    forget_placements,
    killing,
    placements_of,
    unreadable,
)
from poolwarden_collector.core.decision.kill_forecast import kills_on
from poolwarden_collector.core.decision.repoint_check import may_be_pointed
from poolwarden_collector.core.evidence.signs import configured_masters, serving
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups.owed_work import owed_id, withheld
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import NEVER_BEGUN, Outcome
from poolwarden_collector.core.model.orders import Claim, PlaceDatabase, Target, ToolstackRelease
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, due, pursue
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ATTEMPTS_BEFORE_ALERT = 2


def owed_releases(tx: Transaction) -> None:
    """Pay every release and removal that is owed to a host that is heard."""
    for item in tx.record.owed:
        agent = tx.heard(item.host)
        if agent is None:
            continue
        if item.what is OwedWork.RELEASE:
            _release(tx, item, agent)
        elif item.what is OwedWork.REMOVE_DATABASE:
            _remove(tx, item, agent)


def _release(tx: Transaction, item: Owed, agent: AgentState) -> None:
    name = tx.name(item.host)
    if agent.facts.hold is None:
        if not _beyond_reach(tx, item, agent):
            return
        tx.note(Kind.RELEASED, f"the toolstack of {name} is held no more", host=item.host)
        tx.note(Kind.OWED_DONE, f"{name} is released", host=item.host, what=OwedWork.RELEASE.value)
        return
    if _decided_elsewhere(tx, item.host) or _littered(tx, item.host, agent):
        return
    by_word = item.successor == item.host and not tx.record.master
    if tx.record.master == item.host or by_word:
        if not _other_masters(tx, item.host) and not own_file_refusal(tx, item.host):
            _order(tx, item, agent, ToolstackRelease(as_master=True), "as master")
        return
    master = tx.heard(tx.record.master)
    served = master is not None and master.facts.role.serves_as_master
    if (served or _of_a_member(item, agent)) and may_be_pointed(tx, item.host):
        address = tx.record.address_of(tx.record.master)
        kind = ToolstackRelease(as_master=False, master_address=address, master=tx.record.master)
        _order(tx, item, agent, kind, f"as a member of {tx.name(tx.record.master)} at {address}")


def _of_a_member(item: Owed, agent: AgentState) -> bool:
    """Is this a drill's hold of a plain member? It is let go beside a lost master too: it may be the last candidate."""
    # safety: its own pool.conf says member and nobody has superseded it, so its xapi cannot come up as a master.
    return not item.successor and agent.facts.role.pool_conf is Role.MEMBER and agent.facts.tombstone is None


def _other_masters(pool: Snapshot, host: HostId) -> tuple[HostId, ...]:
    """Other heard hosts that serve as master, or will at their next start: nobody is started as master beside them."""
    return tuple(other for other in sorted({*serving(pool), *configured_masters(pool)}) if other != host)


def _littered(pool: Snapshot, host: HostId, agent: AgentState) -> bool:
    """May a database still lie on this held master that its xapi would start with?"""
    # safety: the release's forecast is of what would be loaded; it must be of the file that is left.
    owed = any((item.host, item.what) == (host, OwedWork.REMOVE_DATABASE) for item in pool.record.owed)
    return owed and agent.facts.hold is not None and agent.facts.role.pool_conf is Role.MASTER


def _beyond_reach(tx: Transaction, item: Owed, agent: AgentState) -> bool:
    """Can no order of the ended failover hold this host any more? Its agent must have stored the newer term, and have
    looked at its host since: what had arrived before is obeyed before that. Else it is told the term.
    """
    seen, since = agent.facts.observed.host, None
    if agent.hello.highest_term >= item.term and agent.hello.hold is None:
        since = -1
    for sent in tx.live.sent.values():
        known = sent.host == item.host and sent.result is not None and sent.result.term >= item.term
        if known and sent.answered_at is not None:
            since = sent.answered_at if since is None else min(since, sent.answered_at)
    if since is not None:
        return seen is not None and seen > since
    order_id = f"{owed_id(item, 'term', agent)}.1"
    if due(tx, order_id, agent):
        if tx.sent(order_id) is None:
            name = tx.name(item.host)
            text = f"telling {name} term {item.term}: an order that is still under way may hold it until then"
            tx.note(Kind.CLAIM_SENT, text, hosts=[item.host])
        # safety: its gate refuses the lower term of the order that would hold it from here on.
        tx.send(order_id, item.host, Claim(Target("", ""), want_placements=False), ORDER_VALID_MS)
    return False


def _decided_elsewhere(pool: Snapshot, host: HostId) -> bool:
    """Is a new failover of the same master open? It decides itself what becomes of the hold, until it has promoted."""
    failover = pool.failover
    return failover is not None and failover.old_master == host and failover.step is not Step.PROMOTED


def _order(tx: Transaction, item: Owed, agent: AgentState, kind: ToolstackRelease, how: str) -> None:
    base = owed_id(item, "release", agent)
    pursue(tx, base, agent, kind, Kind.RELEASE_INTENT, f"releasing the toolstack of {tx.name(item.host)} {how}")


def own_file_refusal(tx: Transaction, host: HostId) -> Reason | None:
    """Its xapi would start with its own file, as before the hold: why must it not? None: none of its VMs is at stake.

    Asked of one that still serves as well: it may end between the release and its start.
    """
    loads = placements_of(tx, host)
    if loads is None:
        return WAITING
    kills = kills_on(tx, host, loads) if loads.readable else unreadable("its database", loads, host)
    if not kills:
        return None
    start = "its xapi would start with its own database, and "
    if isinstance(kills, Reason):
        return kills.within(f"{start}{kills}")
    return killing(kills, f"{start}kill " + ", ".join(f"{kill.name} ({kill.why})" for kill in kills))


# ------------------------------------------------------------------------------------------------ said


def say_held(tx: Transaction, verdict: Verdict) -> None:
    """An alert for each host that is held after its failover and cannot be released, by name and with the reason."""
    if tx.quiet:
        return
    held = [item for item in tx.record.owed if item.what is OwedWork.RELEASE]
    for topic in tx.open_topics:
        if topic.matter is Matter.RELEASE and not any(item.host == topic.host for item in held):
            tx.resolve_alert(topic, f"the toolstack of {tx.name(topic.host)} is held no more")
    for item in held:
        agent = tx.heard(item.host)
        if agent is not None and agent.facts.hold is not None:
            why = _obstacle(tx, item, agent, verdict)
            if why != WAITING:
                _say(tx, item.host, why)


def _say(tx: Transaction, host: HostId, why: Reason | None) -> None:
    """One alert per host and reason; none while its release is under way."""
    topic = AlertTopic(Matter.RELEASE, host, why.key) if why else None
    name = tx.name(host)
    tx.resolve_alerts(Matter.RELEASE, host, f"what kept the toolstack of {name} held is gone", but=topic)
    if why and topic:
        serves = "it serves as master all the same, until its xapi ends" if host in serving(tx) else _who_serves(tx)
        text = (
            f"the toolstack of {name} is held by Poolwarden, nothing else starts xapi there; {serves}. Not released: "
        )
        # Whoever follows this at night is told what it costs: nothing on the host itself asks what would be killed.
        cost = ", which kills them" if why.code is Cause.KILLS else ""
        by_hand = f". By hand, on {name} itself{cost}: poolwarden-agent gate release"
        words = {"name": name, "serves": serves, "why": why.text, "cost": cost}
        tx.raise_alert(topic, HELD, f"{text}{why}{by_hand}", words)


def _who_serves(pool: Snapshot) -> str:
    masters = serving(pool)
    return f"{pool.name(masters[0])} serves as master" if masters else "no host of the pool serves as master"


def _obstacle(tx: Transaction, item: Owed, agent: AgentState, verdict: Verdict) -> Reason | None:
    """What keeps this release from being carried out, and what a person can do; None: nothing; WAITING: not known."""
    name, pool = tx.name(item.host), tx.record.display_name
    if _decided_elsewhere(tx, item.host):
        return None
    if verdict is Verdict.HA_MANAGED:
        step = "xe pool-ha-disable, or without any master xe host-emergency-ha-disable on each host"
        off = f"xapi's HA is armed, and Poolwarden keeps its hands off. Once it is off ({step}), {name} is released"
        return Reason(Cause.HA, off)
    if verdict is Verdict.IDENTITY_CONFLICT:
        frozen = f"the pool is frozen: {verdict.meaning}. Once that is settled, {name} is released"
        return Reason(Cause.IDENTITY, frozen)
    if tx.record.paused is not None:
        stopped = f"the pool is paused ({tx.record.paused}). poolwarden resume {pool}, then it is released"
        return Reason(Cause.PAUSED, stopped)
    if item.host in (tx.record.master, item.successor):
        if others := _other_masters(tx, item.host):
            poised = f"{tx.name(others[0])} serves as master, or is set to: {name} is not started as one beside it"
            return Reason(Cause.SET_AS_MASTER, poised, others)
        why = own_file_refusal(tx, item.host)
        if why is not None and why.code is Cause.KILLS:
            return why.within(f"{why}. Once these VMs run there no more (shut down from inside), it is released")
        if why is not None:
            return why
    return _failed(tx, item, agent)


def _failed(pool: Snapshot, item: Owed, agent: AgentState) -> Reason | None:
    """The agent was told and did not do it: what it says; once is not enough where another attempt may help."""
    what = "remove" if _littered(pool, item.host, agent) else "release"
    base = owed_id(item, what, agent)
    told = [sent for order_id, sent in pool.live.sent.items() if order_ids.is_attempt(order_id, base)]
    if not told:
        return None
    result = max(told, key=lambda sent: sent.at).result
    if result is None or result.reason in NEVER_BEGUN:
        return WAITING
    once = result.outcome is not Outcome.REFUSED and len(told) < ATTEMPTS_BEFORE_ALERT
    if result.outcome is Outcome.DONE or once:
        return None
    says = f"its agent was told to, and says: {result.text or result.reason}. Look at xapi there"
    return Reason(Cause.ANSWER, says, (result.outcome.value, result.reason))


# ------------------------------------------------------------------------------------------------ databases


def _remove(tx: Transaction, item: Owed, agent: AgentState) -> None:
    """Remove a placed database, unless this host has been promoted since: then its xapi has used it up."""
    name, base = tx.name(item.host), owed_id(item, "remove", agent)
    done = any(
        sent.result is not None and sent.result.outcome is Outcome.DONE
        for order_id, sent in tx.live.sent.items()
        if order_ids.is_attempt(order_id, base)
    )
    if withheld(tx, item.host):
        return  # safety: what is there now may be the open failover's own, placed for its promotion
    # A held master has not started since it was placed; its own release removes it, too (agent: placed_database.py).
    held = _littered(tx, item.host, agent) and restart_files.CAPABILITY in agent.hello.capabilities
    if done or (agent.facts.role.pool_conf is Role.MASTER and not held):
        forget_placements(tx, item.host)
        text = f"{name} holds no database that was placed there"
        tx.note(Kind.OWED_DONE, text, host=item.host, what=OwedWork.REMOVE_DATABASE.value)
        return
    ended = "its restart in place was given up" if held else "its failover ended without its promotion"
    text = f"removing the database that was placed on {name}: {ended}"
    pursue(tx, base, agent, PlaceDatabase(remove=True), Kind.REMOVE_INTENT, text)
