"""After a promotion: every member brought to the new master, verified, and the failover closed.

Rules
-----
* A member is repointed by its own agent, to the address that the new master's agent reports now, never to the
  database's.
* It is back when its pool.conf names that address, a new xapi process answers, its own probe of the master is answered
  and the new master has it live, enabled unless it was disabled before, and with the storage plugged that it had
  plugged before. Whoever is not back in time is owed, for days if need be.
* ``repoint_parallel`` members are under way at a time: told, and not back yet, for as long as a xapi takes at most to
  start (``member_restart_after``, from that member's own order). An answer ends nothing: a member that has accepted is
  about to restart its xapi. Each has its time from its own order on, and whoever waits for its turn is not late.
* "Before" is the old master's last word, journaled first. A member that was enabled and stays disabled for a minute is
  enabled once; what is missing after that is named, in the journal and in the last alert, and holds nobody up.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.decision.repoint_check import may_be_pointed
from poolwarden_collector.core.evidence.membership import entry_of, follows, listed
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import PoolHost
from poolwarden_collector.core.model.orders import EnableHost, Preconditions, Repoint, RestartXapi
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.order_delivery import ATTEMPT_MS, ORDER_VALID_MS, due, pursue
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

NOT_CONNECTED_MS: Ms = 10_000
ENABLE_PATIENCE_MS: Ms = 60_000
STORAGE_PATIENCE_MS: Ms = 120_000


def advance_members(d: Transaction, failover: Failover) -> None:
    """Step PROMOTED: repoint every survivor, then close."""
    if failover.before is None:
        _note_before(d, failover)
    survivors = [h for h in sorted(d.record.hosts, key=d.name) if h not in (failover.old_master, failover.candidate)]
    for host in survivors:
        current = d.failover
        if current is not None and host not in current.back and not _is_owed(d, host):
            _one_member(d, current, host)
    current = d.failover
    if current is not None and judge(signs(d)).entails.master_is_lost:
        _lost_again(d, current, survivors)
        return
    successor = d.heard(failover.candidate)
    if successor is None or not successor.facts.role.serves_as_master:
        return
    if current is not None and all(host in current.back or _is_owed(d, host) for host in survivors):
        _close(d, current, survivors)


def _lost_again(d: Transaction, failover: Failover, survivors: list[HostId]) -> None:
    """The new master is gone before its members were back: owe them all and close, so that its own loss is judged."""
    for host in survivors:
        if host not in failover.back and not _is_owed(d, host):
            _owe(d, host, failover.candidate, f"the new master is lost again ({d.live.verdict})")
    current = d.failover
    if current is not None:
        _close(d, current, survivors)


def _is_owed(d: Snapshot, host: HostId) -> bool:
    return any(item.host == host and item.what is OwedWork.REPOINT for item in d.record.owed)


def _one_member(d: Transaction, failover: Failover, host: HostId) -> None:
    age = d.now - d.live.step_since
    agent = d.agent(host)
    if (agent is None or not agent.connected) and age >= NOT_CONNECTED_MS and host not in failover.repointing:
        _owe(d, host, failover.candidate, "its agent is not connected")
        return
    why = follows(d, host, failover.candidate) or _replaced(d, failover, host)
    if not why:
        item = entry_of(d, host, failover.candidate)
        why = item if isinstance(item, str) else "" if item.live else "the new master does not have it live"
        if isinstance(item, PoolHost) and item.live:
            if (remark := _missing(d, failover, item)) is not None:
                _is_back(d, host, remark)
            return
    if d.now - _begun(d, failover, host) >= d.policy.member_budget and _its_turn(d, failover, host):
        _owe(d, host, failover.candidate, why)
        return
    reachable = agent is not None and agent.connected and agent.reported
    if agent is not None and reachable and (host in failover.claimed or may_be_pointed(d, host)):
        _repoint(d, failover, host, agent)


def _note_before(d: Transaction, failover: Failover) -> None:
    """The old master's last view of the pool, as far as this run has heard it."""
    agent = d.agent(failover.old_master)
    view = agent.facts.pool_view if agent is not None else None
    known = view.hosts if view is not None and view.master == failover.old_master else ()
    hosts = {item.host: {"enabled": item.enabled, "unplugged": list(item.unplugged_srs)} for item in known}
    odd = [f"{item.name} disabled" for item in known if not item.enabled]
    odd += [f"{item.name} without {', '.join(item.unplugged_srs)}" for item in known if item.unplugged_srs]
    word = f"as the old master saw it: {'; '.join(odd) or 'every host enabled, all storage plugged'}"
    d.note(Kind.MEMBERS_BEFORE, word if known else "how the hosts stood before is not known", hosts=hosts)


def _missing(d: Transaction, failover: Failover, item: PoolHost) -> str | None:
    """What this live and attached member lacks, in words; None while there is still time for it to come."""
    before = (failover.before or {}).get(item.host)
    age = d.now - d.live.step_since
    lacking: list[str] = []
    if not item.enabled and before is not None and not before["enabled"]:
        lacking.append("disabled, as it was before")
    elif not item.enabled:
        if age < ENABLE_PATIENCE_MS or (before is not None and _enabling(d, failover, item.host)):
            return None
        unknown = "" if before is not None else "; whether it was so before is not known"
        lacking.append(f"the new master has it disabled{unknown}")
    gone = unplugged(item, before)
    if gone and age < STORAGE_PATIENCE_MS:
        return None
    if gone:
        lacking.append(f"storage not plugged there: {', '.join(gone)}")
    return "; ".join(lacking)


def unplugged(item: PoolHost, before: dict[str, Any] | None) -> list[str]:
    """SRs that this host lacks now and did not lack before."""
    had_not = before["unplugged"] if before is not None else []
    return [name for name in item.unplugged_srs if name not in had_not]


def _enabling(d: Transaction, failover: Failover, host: HostId) -> bool:
    """Have this host enabled, once; True while that has its time."""
    agent = d.heard(failover.candidate)
    if agent is None or "enable_host" not in agent.hello.capabilities:
        return False
    order_id = f"{failover.id}/enable/{host}"
    sent = d.sent(order_id)
    if sent is None:
        text = f"enabling {d.name(host)}: it was enabled before, is live and stays disabled"
        d.note(Kind.ENABLE_INTENT, text, host=host, order=order_id)
    if sent is None or (sent.result is None and due(d, order_id, agent)):
        pre = Preconditions(pool_conf_in=(Role.MASTER,))
        d.send(order_id, failover.candidate, EnableHost(host), ORDER_VALID_MS, pre)
        return True
    return d.now - sent.at < ATTEMPT_MS


def _replaced(d: Snapshot, failover: Failover, host: HostId) -> str:
    return "" if host in failover.repointing else "it has not been repointed"


def _is_back(d: Transaction, host: HostId, remark: str) -> None:
    text = f"{d.name(host)} is back: attached to the new master" + (f" ({remark})" if remark else ", live and enabled")
    d.note(Kind.MEMBER_BACK, text, host=host, remark=remark)
    d.mark(f"back {d.name(host)}")


def _repoint(d: Transaction, failover: Failover, host: HostId, agent: AgentState) -> None:
    base = f"{failover.orders}/repoint/{host}"
    address = d.record.address_of(failover.candidate)
    if not _its_turn(d, failover, host):
        return
    right = agent.facts.role.pool_conf is Role.MEMBER and agent.facts.role.master_address == address
    if right and agent.facts.role.running is Role.MEMBER and host in failover.repointing:
        _restart_rung(d, failover, host)
        return
    text = f"repointing {d.name(host)} to {d.name(failover.candidate)} at {address}"
    pursue(d, base, agent, Repoint(address), Kind.REPOINT_INTENT, text, address=address)


def _its_turn(d: Transaction, failover: Failover, host: HostId) -> bool:
    """Has this member been told already, or are fewer under way than may be?"""
    if host in failover.repointing:
        return True
    # safety: by what has come of it, not by the answer; else a whole pool restarts its xapis within seconds.
    under_way = [
        other
        for other in failover.repointing
        if other not in failover.back
        and not _is_owed(d, other)
        and d.now - _begun(d, failover, other) < d.policy.member_restart_after
    ]
    return len(under_way) < d.policy.repoint_parallel


def _begun(d: Transaction, failover: Failover, host: HostId) -> Ms:
    """When this run first told the member; the beginning of the step where it has not, or an earlier run did.

    A refused order is sent again under its own id: the first time counts, or its budget would never end.
    """
    known = d.live.repoint_begun.get(host)
    if known is None or known[0] != failover.orders:
        first = d.sent(f"{failover.orders}/repoint/{host}.1")
        if first is None:
            return d.live.step_since
        known = (failover.orders, first.at)
        d.change(repoint_begun={**d.live.repoint_begun, host: known})
    return max(known[1], d.live.step_since)


def _restart_rung(d: Transaction, failover: Failover, host: HostId) -> None:
    """The member runs as one of the new master's and is not back: after a while restart its xapi, once."""
    agent = d.heard(host)
    if agent is None or d.now - _begun(d, failover, host) < d.policy.member_restart_after:
        return
    order_id = f"{failover.orders}/restart/{host}"
    if host not in failover.restarted:
        text = f"restarting the xapi of {d.name(host)}: it was repointed and did not come back"
        d.note(Kind.RESTART_INTENT, text, host=host, order=order_id)
    if due(d, order_id, agent):
        pre = Preconditions(ha_off=True, pool_conf_in=(Role.MEMBER,))
        d.send(order_id, host, RestartXapi(), ORDER_VALID_MS, pre)


def _owe(d: Transaction, host: HostId, successor: HostId, why: str) -> None:
    text = f"{d.name(host)} is owed its repointing to {d.name(successor)}: {why}"
    d.note(Kind.OWED, text, host=host, what=OwedWork.REPOINT.value, successor=successor, why=why)


def _close(d: Transaction, failover: Failover, survivors: list[HostId]) -> None:
    d.mark("closed")
    durations = _durations(d)
    name, address = d.name(failover.candidate), d.record.address_of(failover.candidate)
    old = d.name(failover.old_master)
    proof = failover.proof.kind.word if failover.proof is not None else ""
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
    still += "".join(f" {d.name(host)}: {remark}." for host, remark in sorted(failover.remarks.items()))
    remark = listed(d, failover.candidate, failover.candidate)
    item = entry_of(d, failover.candidate, failover.candidate)
    disabled = isinstance(item, PoolHost) and item.live and not item.enabled
    gone = unplugged(item, (failover.before or {}).get(failover.candidate)) if isinstance(item, PoolHost) else []
    still += f" {name} itself: storage not plugged there: {', '.join(gone)}." if gone else ""
    # xapi enables a new master only after it has tried every other host once, the dead one up to its connect timeout.
    passes = f", which passes once it has given up on {old}" if disabled else ""
    still += f" {name} itself: {remark}{passes}." if remark else ""
    lost = judge(signs(d)).entails.master_is_lost
    became = "became the master and is lost again" if lost else "is the new master"
    d.raise_alert(
        AlertTopic(Matter.DONE, number=failover.id),
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


def _durations(d: Snapshot) -> dict[str, Ms]:
    """Phase by phase, from this run's marks; a collector that was restarted in between has fewer."""
    marks = d.live.marks
    phases: dict[str, Ms] = {}
    order = ["silent", "decided", "claimed", "candidate", "proof", "promote-intent", "promoted", "closed"]
    known = [phase for phase in order if phase in marks]
    for before, after in zip(known, known[1:], strict=False):
        phases[f"{before} to {after}"] = marks[after] - marks[before]
    return phases
