"""What is owed to hosts that could not be reached: tombstones and repointing, kept until done, over days if need be.

Rules
-----
* A superseded master that shows up gets its tombstone first, is then repointed, and loses the tombstone (same term)
  once it is attached. The host that is master now is never given one.
* A host that an open failover may make master, or has told to become it, is given nothing that is owed to an older
  change of master: the tombstone of that change would be of the failover's own term, and would make it a member again.
  What it is owed as a superseded host ends when it is the master.
* A host whose xapi has only just begun to act as master, or is given that role now, is not told to follow the master on
  record before that one has served beside it for ten seconds: it may have stepped back a moment ago, and then nobody
  would serve.
* A tombstone that stands on the verified master is of a lower term: it is cleared, or that host's next boot would find
  its gate shut.
* A member on which something failed that pointing it at a master rests on is asked about first; a superseded master is
  made a member all the same.
* Owed work goes on during cool-down; only pause, an armed HA and the quiet time hold it.
* Facts decide what is due, not memory: what somebody else has done meanwhile is simply found done, during a pause too.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import NOT_BACK
from poolwarden_collector.core.decision.repoint_check import may_be_pointed, rests_on_failed
from poolwarden_collector.core.evidence import xapi_troubles
from poolwarden_collector.core.evidence.membership import follows
from poolwarden_collector.core.evidence.signs import member_state, serving, settled
from poolwarden_collector.core.evidence.verdict import Member
from poolwarden_collector.core.followups import displaced_master
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import Repoint, RestartXapi, SetTombstone
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Step
from poolwarden_collector.core.state.live import AgentState, Sent
from poolwarden_collector.core.state.order_delivery import pursue
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

RESTART_FROM_ATTEMPT = 3
BESIDE_MS: Ms = 10_000


def withheld(pool: Snapshot, host: HostId) -> str:
    """Why this host is given nothing now that an older change of master owes it; empty if it may be.

    Until the candidate is chosen it may be any host but the old master; from then on it is that one.
    """
    failover = pool.failover
    if failover is None or host == failover.old_master:
        return ""
    if failover.candidate == host:
        return f"it is the candidate of failover {failover.id}"
    return f"failover {failover.id} may promote it" if failover.step in REVERSIBLE else ""


def find_done(tx: Transaction) -> None:
    """What is found done by facts alone is no longer owed. Nothing is ordered by that: a pause does not hold it."""
    for item in tx.record.owed:
        if item.what not in (OwedWork.TOMBSTONE, OwedWork.REPOINT) or tx.heard(item.host) is None:
            continue
        name, master = tx.name(item.host), tx.name(tx.record.master)
        if item.host == tx.record.master:
            done = f"{name} is the master itself"
            done = done if tx.heard(item.host) and item.host in serving(tx) else ""
        elif follows(tx, item.host, tx.record.master) or _marked(tx, item):
            done = ""
        elif item.what is OwedWork.TOMBSTONE:
            done = f"{name} is attached to {master} as a member, without a tombstone"
        else:
            done = f"{name} follows {master} now"
        if done:
            tx.note(Kind.OWED_DONE, done, host=item.host, what=item.what.value)


def _marked(pool: Snapshot, item: Owed) -> bool:
    """Does it carry the tombstone that is to be cleared before it is owed no more?"""
    agent = pool.agent(item.host)
    return item.what is OwedWork.TOMBSTONE and agent is not None and agent.facts.tombstone is not None


def _unmark_master(tx: Transaction) -> None:
    """The verified master carries a tombstone: it was overruled by a higher term, and is cleared."""
    host = tx.record.master
    agent = tx.heard(host)
    if agent is None or agent.facts.tombstone is None or serving(tx) != (host,) or tx.failover is not None:
        return
    term, name = agent.facts.tombstone.term, tx.name(host)
    text = f"clearing the tombstone of {name}: it serves as master, and the tombstone is of term {term}"
    # safety: nobody else serves, and the record's term is that of this master: its promotion or its adoption.
    base = f"unmark/{tx.record.term}/{term}/{host}/{agent.hello.boot_id}"
    pursue(tx, base, agent, SetTombstone(host, "", clear=True), Kind.TOMBSTONE_INTENT, text, clear=True)


def owed_work(tx: Transaction) -> None:
    """Pay what is owed to every host that is heard again, towards a master that serves."""
    _unmark_master(tx)
    for topic in tx.open_topics:
        if topic.matter is Matter.OWED and not any(item.host == topic.host for item in tx.record.owed):
            tx.resolve_alert(topic, f"{tx.name(topic.host)} is back")
    master = tx.heard(tx.record.master)
    served = master is not None and master.facts.role.serves_as_master
    for item in tx.record.owed:
        agent = tx.agent(item.host)
        if agent is None or not agent.connected or not agent.reported or item.host == tx.record.master:
            continue
        # safety: the order to promote may be sent in this very pass: nothing may contradict it.
        if withheld(tx, item.host):
            continue
        if item.what is OwedWork.TOMBSTONE:
            _tombstone(tx, item, agent, served)
        elif item.what is OwedWork.REPOINT and served and rests_on_failed(tx, agent) is None:
            _owed_repoint(tx, item, agent)


def owed_id(item: Owed, what: str, agent: AgentState) -> str:
    """The beginning of the ids of this owed work's orders: the same over restarts, another in another boot."""
    return f"owed/{item.term}/{what}/{item.host}/{agent.hello.boot_id}"


def _tombstone(tx: Transaction, item: Owed, agent: AgentState, served: bool) -> None:
    """Mark, repoint, clear; facts decide what is due: is it a settled member, is it attached, is it marked?"""
    master = tx.record.master
    marked, member = agent.facts.tombstone is not None, settled(tx, agent, master)
    attached = not follows(tx, item.host, master)
    if attached and marked and displaced_master.keeps_its_mark(tx, item.host):
        return
    if attached or (not marked and not member):
        word = "clearing the tombstone of" if attached else "setting the tombstone of"
        base = owed_id(item, "clear" if attached else "tombstone", agent)
        kind = SetTombstone(master, tx.record.address_of(master), clear=attached)
        pursue(tx, base, agent, kind, Kind.TOMBSTONE_INTENT, f"{word} {tx.name(item.host)}", clear=attached)
    elif marked and served and agent.facts.hold is None and not _brought_back(tx, item.host):
        _owed_repoint(tx, item, agent)


def _brought_back(pool: Snapshot, host: HostId) -> bool:
    """Is this host one of the survivors whom the open failover itself repoints now?"""
    failover = pool.failover
    return failover is not None and failover.step is Step.PROMOTED and host in failover.members.repointing


def _owed_repoint(tx: Transaction, item: Owed, agent: AgentState) -> None:
    master = tx.record.master
    address = tx.record.address_of(master)
    if not follows(tx, item.host, master) or settled(tx, agent, master):
        return
    # safety: a right pool.conf is not enough. A tombstone writes it too, and until its process is replaced the xapi
    # that was started as master serves on; only a running member lets go of this.
    base = owed_id(item, "repoint", agent)
    if not may_be_pointed(tx, item.host):
        return
    if agent.facts.xapi.socket_liveness is Liveness.SILENT:
        # Repointing is a call to its own xapi: one that hangs has to be restarted instead.
        if member_state(tx, item.host, master) is Member.XAPI_DOWN:
            _owed_restart(tx, item, agent, "it hangs and cannot be repointed so")
        return
    if _may_have_taken_over(tx, agent):
        return
    text = f"repointing {tx.name(item.host)} to {tx.name(master)} at {address} (owed)"
    pursue(tx, base, agent, Repoint(address, master), Kind.REPOINT_INTENT, text, address=address)
    if tx.sent(order_ids.OrderId(base, RESTART_FROM_ATTEMPT).text) is not None:
        _owed_restart(tx, item, agent, "repointing it has not helped")


def _may_have_taken_over(pool: Snapshot, agent: AgentState) -> bool:
    """Does it act as master, or is about to, and has the master on record not been seen to serve long enough since?"""
    role, xapi, master = agent.facts.role, agent.facts.xapi, pool.agent(pool.record.master)
    if role.running is not Role.MASTER:
        return role.pool_conf is Role.MASTER and role.running is Role.MEMBER
    if xapi.liveness is not Liveness.ANSWERS or master is None:
        return True
    # safety: that it serves is as old as its last report; two that are told to follow each other leave nobody.
    return xapi.liveness_since is not None and master.last_heard < xapi.liveness_since + BESIDE_MS


def _owed_restart(tx: Transaction, item: Owed, agent: AgentState, why: str) -> None:
    """Restart its xapi, as a member that pool.conf makes it already."""
    if agent.facts.role.pool_conf is not Role.MEMBER:
        return
    base = owed_id(item, "restart", agent)
    done = [
        sent for order_id, sent in tx.live.sent.items() if order_ids.is_attempt(order_id, base) and _carried_out(sent)
    ]
    if len(done) < tx.policy.xapi_restarts:
        text = f"restarting the xapi of {tx.name(item.host)}: {why}"
        pursue(tx, base, agent, RestartXapi(), Kind.RESTART_INTENT, text)
    elif tx.now - max((sent.at for sent in done), default=0) >= tx.policy.xapi_restart_budget:
        name = tx.name(item.host)
        body = (
            f"{name} does not come back as a member of {tx.name(tx.record.master)}: its xapi was restarted {len(done)} "
        )
        body += "times and does not follow. Look at xapi there (/var/log/xensource.log, xe-toolstack-restart)"
        because = xapi_troubles.known_cause(tx, item.host)
        body += because
        words = {"name": name, "times": str(len(done)), "because": because}
        tx.raise_alert(AlertTopic(Matter.OWED, item.host), NOT_BACK, body, words)


def _carried_out(sent: Sent) -> bool:
    return sent.result is not None and sent.result.outcome is Outcome.DONE
