"""After a promotion: every member brought to the new master, the old master marked, and what is owed kept until done.

Rules
-----
* A member is repointed by its own agent, to the address that the new master's agent reports now, never to the
  database's.
* It is back when its pool.conf names that address, a new xapi process answers, its own probe of the master is answered
  and the new master has it live and enabled. Whoever is not back in time is owed, for days if need be.
* A superseded master that shows up gets its tombstone first, is then repointed, and loses the tombstone (same term)
  once it is attached. The host that is master now is never given one.
* Owed work goes on during cool-down; only pause, an armed HA and the quiet time hold it.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import reason_key
from poolwarden_collector.core.evidence import answered, fresh_probe, signs
from poolwarden_collector.core.facts import HostId, Liveness, Ms, Outcome, Role, Tri
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.live import AgentState, Sent
from poolwarden_collector.core.orders import OrderKind, Preconditions, Repoint, RestartXapi, SetTombstone
from poolwarden_collector.core.placements import WAITING, repoint_refusal
from poolwarden_collector.core.record import Failover, Owed
from poolwarden_collector.core.verdict import Verdict, judge

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
ATTEMPT_MS: Ms = 30_000
RESTART_FROM_ATTEMPT = 3
VIEW_FRESH_MS: Ms = 30_000
LOST_AGAIN = (Verdict.VANISHED, Verdict.UNWITNESSED, Verdict.NO_MASTER)
NOT_CONNECTED_MS: Ms = 10_000
ENABLE_PATIENCE_MS: Ms = 60_000


def follows(d: Draft, host: HostId, master: HostId) -> str:
    """Why this host is not (yet) an attached member of ``master``; empty if it is."""
    agent = d.heard(host)
    if agent is None:
        return "its agent is not heard"
    f, address = agent.facts, d.record.address_of(master)
    if f.role.pool_conf is not Role.MEMBER or f.role.master_address != address:
        return f"its pool.conf does not name {address}"
    if f.role.running is not Role.MEMBER or f.role.running_master_address not in ("", address):
        return "its xapi has not restarted yet"
    if f.xapi.liveness is not Liveness.ANSWERS:
        return f"its xapi does not answer ({f.xapi.liveness.value})"
    if f.xapi.emergency is Tri.YES:
        return f"its xapi is in emergency mode: {f.xapi.emergency_text or f.xapi.emergency_code}"
    probe = fresh_probe(d, host, master)
    if probe is None or not answered(probe):
        return "it does not reach the new master's xapi"
    return ""


def listed(d: Draft, host: HostId, master: HostId) -> str:
    """Why the new master does not have this host live and enabled; empty if it has."""
    agent = d.heard(master)
    seen = agent.facts.pool_view if agent is not None and agent.facts.role.serves_as_master else None
    at = agent.facts.observed.pool_view if agent is not None else None
    # A section that is gone stays in merged deltas: only its age tells.
    if seen is None or seen.master != master or at is None or d.now - at > VIEW_FRESH_MS:
        return "the new master has not told its view of the pool"
    item = next((entry for entry in seen.hosts if entry.host == host), None)
    if item is None:
        return "the new master's database does not know it"
    if not item.live:
        return "the new master does not have it live"
    return "" if item.enabled else "the new master has it disabled"


def bring_back(d: Draft, failover: Failover) -> None:
    """Step PROMOTED: repoint every survivor, then close."""
    survivors = [h for h in sorted(d.record.hosts, key=d.name) if h not in (failover.old_master, failover.candidate)]
    for host in survivors:
        current = d.failover
        if current is not None and host not in current.back and not _is_owed(d, host):
            _one_member(d, current, host)
    current = d.failover
    if current is not None and judge(signs(d)) in LOST_AGAIN:
        _lost_again(d, current, survivors)
        return
    successor = d.heard(failover.candidate)
    if successor is None or not successor.facts.role.serves_as_master:
        return
    if current is not None and all(host in current.back or _is_owed(d, host) for host in survivors):
        _close(d, current, survivors)


def _lost_again(d: Draft, failover: Failover, survivors: list[HostId]) -> None:
    """The new master is gone before its members were back: owe them all and close, so that its own loss is judged."""
    for host in survivors:
        if host not in failover.back and not _is_owed(d, host):
            _owe(d, host, failover.candidate, f"the new master is lost again ({d.live.verdict})")
    current = d.failover
    if current is not None:
        _close(d, current, survivors)


def _is_owed(d: Draft, host: HostId) -> bool:
    return any(item.host == host and item.what == "repoint" for item in d.record.owed)


def _one_member(d: Draft, failover: Failover, host: HostId) -> None:
    age = d.now - d.live.step_since
    agent = d.agent(host)
    if (agent is None or not agent.connected) and age >= NOT_CONNECTED_MS and host not in failover.repointing:
        _owe(d, host, failover.candidate, "its agent is not connected")
        return
    why = follows(d, host, failover.candidate) or _replaced(d, failover, host)
    if not why:
        unlisted = listed(d, host, failover.candidate)
        disabled_long = unlisted.endswith("disabled") and age >= ENABLE_PATIENCE_MS
        if not unlisted or disabled_long:
            _is_back(d, host, unlisted)
            return
        why = unlisted
    if age >= d.policy.member_budget:
        _owe(d, host, failover.candidate, why)
        return
    reachable = agent is not None and agent.connected and agent.reported
    if agent is not None and reachable and (host in failover.claimed or may_be_pointed(d, host)):
        _repoint(d, failover, host, agent)


def _replaced(d: Draft, failover: Failover, host: HostId) -> str:
    return "" if host in failover.repointing else "it has not been repointed"


def _is_back(d: Draft, host: HostId, remark: str) -> None:
    text = f"{d.name(host)} is back: attached to the new master" + (f" ({remark})" if remark else ", live and enabled")
    d.note(Kind.MEMBER_BACK, text, host=host, remark=remark)
    d.mark(f"back {d.name(host)}")


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


def _repoint(d: Draft, failover: Failover, host: HostId, agent: AgentState) -> None:
    base = f"{failover.id}/repoint/{host}"
    address = d.record.address_of(failover.candidate)
    if host not in failover.repointing:
        in_flight = [h for h in failover.repointing if h not in failover.back and _unconfirmed(d, h, address)]
        if len(in_flight) >= d.policy.repoint_parallel:
            return
    right = agent.facts.role.pool_conf is Role.MEMBER and agent.facts.role.master_address == address
    if right and agent.facts.role.running is Role.MEMBER and host in failover.repointing:
        _restart_rung(d, failover, host)
        return
    text = f"repointing {d.name(host)} to {d.name(failover.candidate)} at {address}"
    pursue(d, base, agent, Repoint(address), Kind.REPOINT_INTENT, text, address=address)


def _unconfirmed(d: Draft, host: HostId, address: str) -> bool:
    agent = d.heard(host)
    return agent is None or agent.facts.role.master_address != address


def _restart_rung(d: Draft, failover: Failover, host: HostId) -> None:
    """The member runs as one of the new master's and is not back: after a while restart its xapi, once."""
    agent = d.heard(host)
    if agent is None or d.now - d.live.step_since < d.policy.member_restart_after:
        return
    order_id = f"{failover.id}/restart/{host}"
    if host not in failover.restarted:
        text = f"restarting the xapi of {d.name(host)}: it was repointed and did not come back"
        d.note(Kind.RESTART_INTENT, text, host=host, order=order_id)
    if _due(d, order_id, agent):
        _send(d, order_id, host, RestartXapi(), Preconditions(ha_off=True, pool_conf_in=(Role.MEMBER,)))


def pursue(d: Draft, base: str, agent: AgentState, kind: OrderKind, intent: Kind, text: str, **data: Any) -> None:
    """Have this order carried out, with a new id for every attempt that ended without its effect.

    The caller has seen by facts that the effect is not there. Each id is journaled before it is first sent.
    """
    number = 1
    while (sent := d.sent(f"{base}.{number}")) is not None and _spent(d, sent):
        number += 1
    order_id, host = f"{base}.{number}", agent.hello.host
    if not _due(d, order_id, agent):
        return
    failover = d.failover
    known = failover is not None and failover.repointing.get(host) == order_id
    if d.sent(order_id) is None and not known:
        again = f" (attempt {number})" if number > 1 else ""
        of = failover.id if failover is not None and base.startswith(f"{failover.id}/") else ""
        facts = {"host": host, "order": order_id, **data}
        d.write(Entry(intent, text + again, facts, of, d.record.term))
    member = (Role.MEMBER,) if isinstance(kind, RestartXapi) else ()
    pre = Preconditions(ha_off=not isinstance(kind, SetTombstone), pool_conf_in=member)
    _send(d, order_id, host, kind, pre)


def _spent(d: Draft, sent: Sent) -> bool:
    """Did this attempt end, long enough ago for its effect to show? A refusal does not use up the id."""
    ended = sent.result is not None and sent.result.outcome is not Outcome.REFUSED
    return ended and d.now - (sent.answered_at or sent.at) >= ATTEMPT_MS


def _send(d: Draft, order_id: str, host: HostId, kind: OrderKind, preconditions: Preconditions) -> None:
    d.send(order_id, host, kind, ORDER_VALID_MS, preconditions)


def _due(d: Draft, order_id: str, agent: AgentState) -> bool:
    """Is this order to be sent (again)? Never sent on this stream, refused a while ago, or unanswered for long."""
    sent = d.sent(order_id)
    if sent is None:
        return True
    if sent.result is None:
        return sent.stream != agent.stream or d.now - sent.at >= ORDER_VALID_MS + RESEND_AFTER_MS
    return sent.result.outcome is Outcome.REFUSED and d.now - (sent.answered_at or sent.at) >= RESEND_AFTER_MS


def _owe(d: Draft, host: HostId, successor: HostId, why: str) -> None:
    text = f"{d.name(host)} is owed its repointing to {d.name(successor)}: {why}"
    d.note(Kind.OWED, text, host=host, what="repoint", successor=successor, why=why)


def _close(d: Draft, failover: Failover, survivors: list[HostId]) -> None:
    d.mark("closed")
    durations = _durations(d)
    name, address = d.name(failover.candidate), d.record.address_of(failover.candidate)
    old = d.name(failover.old_master)
    proof = failover.proof.kind if failover.proof is not None else ""
    owed = [d.name(host) for host in survivors if host not in failover.back]
    took = ", ".join(f"{phase} {ms / 1000:.1f} s" for phase, ms in durations.items())
    took = took or "durations not known"
    text = f"failover {failover.id} closed: {name} ({address}) succeeded {old}; proof: {proof}; {took}"
    data = {
        "new_master": failover.candidate,
        "address": address,
        "proof": proof,
        "durations_ms": durations,
        "owed": owed,
    }
    d.write(Entry(Kind.CLOSED, text, data, failover.id, d.record.term))
    left = "" if survivors else " There is no other host left: no redundancy."
    still = f" Still owed: {', '.join(owed)}." if owed else ""
    remark = listed(d, failover.candidate, failover.candidate)
    # xapi enables a new master only after it has tried every other host once, the dead one up to its connect timeout.
    passes = f", which passes once it has given up on {old}" if remark.endswith("disabled") else ""
    still += f" {name} itself: {remark}{passes}." if remark else ""
    lost = judge(signs(d)) in LOST_AGAIN
    became = "became the master and is lost again" if lost else "is the new master"
    d.raise_alert(
        f"{failover.id}/done",
        "critical" if lost else "warning",
        f"{d.record.name or d.record.pool}: {name} {became} at {address}",
        f"{old} was succeeded by {name} ({address}); proof: {proof}. {took}.{still}{left}",
        old_master=old,
        new_master=name,
        address=address,
        proof=proof,
        durations_ms=durations,
    )
    d.change(cooldown_until=d.now + d.policy.cooldown)


def _durations(d: Draft) -> dict[str, Ms]:
    """Phase by phase, from this run's marks; a collector that was restarted in between has fewer."""
    marks = d.live.marks
    phases: dict[str, Ms] = {}
    order = ["silent", "decided", "claimed", "candidate", "proof", "promote-intent", "promoted", "closed"]
    known = [phase for phase in order if phase in marks]
    for before, after in zip(known, known[1:], strict=False):
        phases[f"{before} to {after}"] = marks[after] - marks[before]
    return phases


# ------------------------------------------------------------------------------------------------ owed work


def owed_work(d: Draft) -> None:
    """Pay what is owed to every host that is heard again, towards a master that serves."""
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
    marked, settled = agent.facts.tombstone is not None, _settled(d, agent, master)
    attached = not follows(d, item.host, master)
    if attached and not marked:
        done = f"{d.name(item.host)} is attached to {d.name(master)} as a member, without a tombstone"
        d.note(Kind.OWED_DONE, done, host=item.host, what="tombstone")
    elif attached or (not marked and not settled):
        word = "clearing the tombstone of" if attached else "setting the tombstone of"
        base = owed_id(item, "clear" if attached else "tombstone", agent)
        kind = SetTombstone(master, d.record.address_of(master), clear=attached)
        pursue(d, base, agent, kind, Kind.TOMBSTONE_INTENT, f"{word} {d.name(item.host)}", clear=attached)
    elif marked and served and agent.facts.hold is None:
        _owed_repoint(d, item, agent)


def _settled(d: Draft, agent: AgentState, master: HostId) -> bool:
    """Do pool.conf and the running process agree that this host is a member of ``master``?"""
    role, address = agent.facts.role, d.record.address_of(master)
    conf = role.pool_conf is Role.MEMBER and role.master_address == address
    return conf and role.running is Role.MEMBER and role.running_master_address == address


def _owed_repoint(d: Draft, item: Owed, agent: AgentState) -> None:
    master = d.record.master
    address = d.record.address_of(master)
    if not follows(d, item.host, master):
        if item.what == "repoint":
            d.note(Kind.OWED_DONE, f"{d.name(item.host)} follows {d.name(master)} now", host=item.host, what="repoint")
        return
    if _settled(d, agent, master):
        return
    # safety: a right pool.conf is not enough. A tombstone writes it too, and until its process is replaced the xapi
    # that
    # was started as master serves on; only a running member lets go of this.
    base = owed_id(item, "repoint", agent)
    if not may_be_pointed(d, item.host):
        return
    text = f"repointing {d.name(item.host)} to {d.name(master)} at {address} (owed)"
    pursue(d, base, agent, Repoint(address), Kind.REPOINT_INTENT, text, address=address)
    if d.sent(f"{base}.{RESTART_FROM_ATTEMPT}") is not None:
        _owed_restart(d, item, agent)


def _owed_restart(d: Draft, item: Owed, agent: AgentState) -> None:
    """Repointing has not helped: its xapi may hang. Restart it, as a member that pool.conf makes it already."""
    if agent.facts.role.pool_conf is not Role.MEMBER:
        return
    base = owed_id(item, "restart", agent)
    text = f"restarting the xapi of {d.name(item.host)}: repointing it has not helped"
    pursue(d, base, agent, RestartXapi(), Kind.RESTART_INTENT, text)
