"""What is owed to hosts that could not be reached: tombstones and repointing, kept until done, over days if need be.

Rules
-----
* A superseded master that shows up gets its tombstone first, is then repointed, and loses the tombstone (same term)
  once it is attached. The host that is master now is never given one.
* Owed work goes on during cool-down; only pause, an armed HA and the quiet time hold it.
* Facts decide what is due, not memory: what somebody else has done meanwhile is simply found done.
"""

from __future__ import annotations

from poolwarden_collector.core.attached import follows
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import reason_key
from poolwarden_collector.core.evidence import member_state, settled
from poolwarden_collector.core.facts import HostId, Liveness, Outcome, Role
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.live import AgentState, Sent
from poolwarden_collector.core.orders import Repoint, RestartXapi, SetTombstone
from poolwarden_collector.core.placements import WAITING, repoint_refusal
from poolwarden_collector.core.pursuit import pursue
from poolwarden_collector.core.record import Owed
from poolwarden_collector.core.verdict import Member

RESTART_FROM_ATTEMPT = 3


def may_be_pointed(d: Draft, host: HostId) -> bool:
    """A host whose VMs were in no forecast: is any of them at stake? Then a person is asked, once per reason."""
    why = repoint_refusal(d, host)
    prefix = f"{d.record.pool}/repoint-{host}/"
    key = f"repoint-{host}/{reason_key(why)}"
    for old in d.record.open_alerts:
        if old.startswith(prefix) and (not why or old != f"{d.record.pool}/{key}"):
            d.resolve_alert(old, "the reason is gone" if not why else "the reason has changed")
    if why and why != WAITING:
        pool, name = d.record.name or d.record.pool, d.name(host)
        d.raise_alert(key, "critical", f"{pool}: {name} is not repointed to the new master", f"{name}: {why}")
    return not why


def owed_work(d: Draft) -> None:
    """Pay what is owed to every host that is heard again, towards a master that serves."""
    for key in d.record.open_alerts:
        host = key.removeprefix(f"{d.record.pool}/owed-")
        if host != key and not any(item.host == host for item in d.record.owed):
            d.resolve_alert(key, f"{d.name(host)} is back")
    master = d.heard(d.record.master)
    served = master is not None and master.facts.role.serves_as_master
    for item in d.record.owed:
        agent = d.agent(item.host)
        if agent is None or not agent.connected or not agent.reported or item.host == d.record.master:
            continue
        if item.what == "tombstone":
            _tombstone(d, item, agent, served)
        elif item.what == "repoint" and served:
            _owed_repoint(d, item, agent)


def owed_id(item: Owed, what: str, agent: AgentState) -> str:
    """The beginning of the ids of this owed work's orders: the same over restarts, another in another boot."""
    return f"owed/{item.term}/{what}/{item.host}/{agent.hello.boot_id}"


def _tombstone(d: Draft, item: Owed, agent: AgentState, served: bool) -> None:
    """Mark, repoint, clear; facts decide what is due: is it a settled member, is it attached, is it marked?"""
    master = d.record.master
    marked, member = agent.facts.tombstone is not None, settled(d, agent, master)
    attached = not follows(d, item.host, master)
    if attached and not marked:
        done = f"{d.name(item.host)} is attached to {d.name(master)} as a member, without a tombstone"
        d.note(Kind.OWED_DONE, done, host=item.host, what="tombstone")
    elif attached or (not marked and not member):
        word = "clearing the tombstone of" if attached else "setting the tombstone of"
        base = owed_id(item, "clear" if attached else "tombstone", agent)
        kind = SetTombstone(master, d.record.address_of(master), clear=attached)
        pursue(d, base, agent, kind, Kind.TOMBSTONE_INTENT, f"{word} {d.name(item.host)}", clear=attached)
    elif marked and served and agent.facts.hold is None:
        _owed_repoint(d, item, agent)


def _owed_repoint(d: Draft, item: Owed, agent: AgentState) -> None:
    master = d.record.master
    address = d.record.address_of(master)
    if not follows(d, item.host, master):
        if item.what == "repoint":
            d.note(Kind.OWED_DONE, f"{d.name(item.host)} follows {d.name(master)} now", host=item.host, what="repoint")
        return
    if settled(d, agent, master):
        return
    # safety: a right pool.conf is not enough. A tombstone writes it too, and until its process is replaced the xapi
    # that was started as master serves on; only a running member lets go of this.
    base = owed_id(item, "repoint", agent)
    if not may_be_pointed(d, item.host):
        return
    if agent.facts.xapi.socket_liveness is Liveness.SILENT:
        # Repointing is a call to its own xapi: one that hangs has to be restarted instead.
        if member_state(d, item.host, master) is Member.XAPI_DOWN:
            _owed_restart(d, item, agent, "it hangs and cannot be repointed so")
        return
    text = f"repointing {d.name(item.host)} to {d.name(master)} at {address} (owed)"
    pursue(d, base, agent, Repoint(address), Kind.REPOINT_INTENT, text, address=address)
    if d.sent(f"{base}.{RESTART_FROM_ATTEMPT}") is not None:
        _owed_restart(d, item, agent, "repointing it has not helped")


def _owed_restart(d: Draft, item: Owed, agent: AgentState, why: str) -> None:
    """Restart its xapi, as a member that pool.conf makes it already."""
    if agent.facts.role.pool_conf is not Role.MEMBER:
        return
    base = owed_id(item, "restart", agent)
    done = [sent for order_id, sent in d.live.sent.items() if order_id.startswith(f"{base}.") and _carried_out(sent)]
    if len(done) < d.policy.xapi_restarts:
        text = f"restarting the xapi of {d.name(item.host)}: {why}"
        pursue(d, base, agent, RestartXapi(), Kind.RESTART_INTENT, text)
    elif d.now - max((sent.at for sent in done), default=0) >= d.policy.xapi_restart_budget:
        name, pool = d.name(item.host), d.record.name or d.record.pool
        body = (
            f"{name} does not come back as a member of {d.name(d.record.master)}: its xapi was restarted {len(done)} "
        )
        body += "times and does not follow. Look at xapi there (/var/log/xensource.log, xe-toolstack-restart)"
        d.raise_alert(f"owed-{item.host}", "warning", f"{pool}: {name} is not back", body)


def _carried_out(sent: Sent) -> bool:
    return sent.result is not None and sent.result.outcome is Outcome.DONE
