"""``host enable HOST``: a host that is disabled takes VMs again, by xapi's host.enable on the serving master.

Rules
-----
* Only of a host that the verified master has live, and whose toolstack nothing holds: no VM is to be put on a disabled
  host that is on its way out or back.
* A host that was superseded as master is enabled once it is attached again, and not before.
* It is an operator's own act, as ``restart-xapi`` is: the mode and a pause do not stand against it.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import entry_of, follows
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.orders import EnableHost, Preconditions
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Role
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def command_enable(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """Have the verified master enable this host, or say why not."""
    host, name, master = said.host, tx.name(said.host), verified(tx)
    no = refusal(tx, verdict, host, master)
    if no is not None:
        return no
    order(tx, host, master, said.actor)
    return f"{name} is being enabled; poolwarden host show {name} tells when it is"


def order(tx: Transaction, host: HostId, master: HostId, actor: str) -> None:
    """Have the verified master enable this host, of which nothing was found against it in this pass."""
    order_id = tx.fresh_id("enable")
    text = f"{actor} has {tx.name(host)} enabled, which {tx.name(master)} has live and disabled"
    tx.note(Kind.ENABLE_INTENT, text, actor, host=host, order=order_id)
    tx.send(order_id, master, EnableHost(host), ORDER_VALID_MS, Preconditions(pool_conf_in=(Role.MASTER,)))


def refusal(pool: Snapshot, verdict: Verdict, host: HostId, master: HostId) -> Refused | None:
    """Why this host is not enabled now."""
    return _of_pool(pool, verdict, host, master) or _of_host(pool, host, master)


def _of_pool(pool: Snapshot, verdict: Verdict, host: HostId, master: HostId) -> Refused | None:
    """Why no host of this pool is enabled now."""
    by_hand = f"xe host-enable uuid={host}"
    name = pool.record.display_name
    if (held := deposed(pool)) is not None:
        return Refused("held", held.text, f"poolwarden explain {name}")
    agent = pool.heard(master) if master else None
    if agent is None:
        why = f"the pool is {verdict.word}: no verified master that could enable a host"
        return Refused("no-master", why, f"poolwarden explain {name}")
    if (failover := pool.failover) is not None:
        return Refused("held", f"failover {failover.id} is open: it enables hosts itself", f"poolwarden status {name}")
    if verdict is Verdict.HA_MANAGED:
        return Refused("ha-armed", "xapi's HA is armed: it is in charge of its hosts", f"On the master: {by_hand}")
    if "enable_host" not in agent.hello.capabilities:
        old = f"the agent {agent.hello.agent_version} of {pool.name(master)} cannot have a host enabled"
        return Refused("too-old", old, f"On the master: {by_hand}")
    return None


def _of_host(pool: Snapshot, host: HostId, master: HostId) -> Refused | None:
    """Why this host is not enabled."""
    name, agent = pool.name(host), pool.heard(host)
    step, whole = f"poolwarden host show {name}", f"poolwarden status {pool.record.display_name}"
    if host not in pool.record.hosts:
        return Refused("unknown-host", f"{name} is no host of this pool", whole)
    if agent is None:
        return Refused("agent-silent", f"the agent of {name} is not heard: what is wrong with it is not known", step)
    # safety: its VMs may run, its xapi may not start, and its role is not decided.
    if agent.facts.hold is not None:
        return Refused("held", f"the toolstack of {name} is held", f"{whole} shows by what")
    if any(item.host == host and item.what is OwedWork.TOMBSTONE for item in pool.record.owed):
        why = f"{name} was succeeded as master and is not attached again yet"
        return Refused("not-attached", why, whole)
    if host != master and (why_not := follows(pool, host, master)):
        return Refused("not-attached", f"{name} is not attached to {pool.name(master)}: {why_not}", step)
    entry = entry_of(pool, host, master)
    if isinstance(entry, str):
        return Refused("no-evidence", f"{name}: {entry}", "Try again in half a minute.")
    if not entry.live:
        return Refused("not-attached", f"{pool.name(master)} does not have {name} live: xapi would refuse", step)
    return Refused("enabled", f"{name} is enabled already", step) if entry.enabled else None
