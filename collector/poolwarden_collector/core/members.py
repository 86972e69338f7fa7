"""After a promotion: every member brought to the new master, verified, and the failover closed.

Rules
-----
* A member is repointed by its own agent, to the address that the new master's agent reports now, never to the
  database's.
* It is back when its pool.conf names that address, a new xapi process answers, its own probe of the master is answered
  and the new master has it live and enabled. Whoever is not back in time is owed, for days if need be.
"""

from __future__ import annotations

from poolwarden_collector.core.attached import follows, listed
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.evidence import signs
from poolwarden_collector.core.facts import HostId, Ms, Role
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.live import AgentState
from poolwarden_collector.core.orders import Preconditions, Repoint, RestartXapi
from poolwarden_collector.core.owed import may_be_pointed
from poolwarden_collector.core.pursuit import ORDER_VALID_MS, due, pursue
from poolwarden_collector.core.record import Failover
from poolwarden_collector.core.verdict import Verdict, judge

LOST_AGAIN = (Verdict.VANISHED, Verdict.UNWITNESSED, Verdict.NO_MASTER)
NOT_CONNECTED_MS: Ms = 10_000
ENABLE_PATIENCE_MS: Ms = 60_000


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
    if due(d, order_id, agent):
        pre = Preconditions(ha_off=True, pool_conf_in=(Role.MEMBER,))
        d.send(order_id, host, RestartXapi(), ORDER_VALID_MS, pre)


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
