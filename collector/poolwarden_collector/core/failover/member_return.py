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
* A new master whose xapi ends and begins again is no success, although each process serves for a moment: it is not
  closed as one. After the time of the slowest start the failover ends without being called done.
* A member on which something failed that its way rests on is owed it at once, and asked about afterwards.
* "Before" is the old master's last word, journaled first. A member that was enabled and stays disabled for a minute is
  enabled once; what is missing after that is named, in the journal and in the last alert, and holds nobody up.
"""

from __future__ import annotations

from typing import Any

from poolwarden.assumptions import RESTART
from poolwarden_collector.core.decision import backoff
from poolwarden_collector.core.decision.repoint_check import may_be_pointed, rests_on_failed
from poolwarden_collector.core.decision.standstill import block, resolve_blocks, unblock
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.membership import entry_of, follows
from poolwarden_collector.core.evidence.signs import looping, loops_on, signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.failover.final_alert import of_new_master, tell_end
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import PoolHost
from poolwarden_collector.core.model.orders import EnableHost, Preconditions, Repoint, RestartXapi
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state import phases
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import AgentState, PoolLive
from poolwarden_collector.core.state.order_delivery import ATTEMPT_MS, ORDER_VALID_MS, due, pursue
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

NOT_CONNECTED_MS: Ms = 10_000
ENABLE_PATIENCE_MS: Ms = 60_000
STORAGE_PATIENCE_MS: Ms = 120_000


def advance_members(tx: Transaction, failover: Failover) -> None:
    """Step PROMOTED: repoint every survivor, then close."""
    if failover.members.before is None:
        _note_before(tx, failover)
    survivors = _survivors(tx, failover)
    for host in survivors:
        current = tx.failover
        if current is not None and host not in current.members.back and not _is_owed(tx, host):
            _one_member(tx, current, host)
    current = tx.failover
    if current is not None and judge(signs(tx)).entails.master_is_lost:
        _lost_again(tx, current, survivors)
        return
    if current is not None and loops_on(tx, current.candidate):
        _never_stayed(tx, current, survivors)
        return
    if current is not None and looping(tx, current.candidate):
        _says_that_it_loops(tx, current)
        return
    if current is not None and current.standstill.blocker is Blocker.NEW_MASTER_LOOPS:
        unblock(tx)
    successor = tx.heard(failover.candidate)
    if successor is None or not successor.facts.role.serves_as_master:
        return
    if current is not None and all(host in current.members.back or _is_owed(tx, host) for host in survivors):
        _close(tx, current, survivors)


def _lost_again(tx: Transaction, failover: Failover, survivors: list[HostId]) -> None:
    """The new master is gone before its members were back: owe them all and close, so that its own loss is judged."""
    for host in survivors:
        if host not in failover.members.back and not _is_owed(tx, host):
            _owe(tx, host, failover.candidate, f"the new master is lost again ({tx.live.verdict.word})")
    current = tx.failover
    if current is not None:
        _close(tx, current, survivors)


def _says_that_it_loops(tx: Transaction, failover: Failover) -> None:
    """A new master whose xapi ends and begins again is no success: the failover waits until it stays, and says so."""
    name, agent = tx.name(failover.candidate), tx.heard(failover.candidate)
    starts = agent.facts.xapi.unasked_starts if agent is not None else 0
    why = f"the xapi of {name} has begun {starts} times in ten minutes without being told to"
    minutes = tx.policy.xapi_starting_limit / 60_000
    step = f"See the end of /var/log/xensource.log on {name}. If it goes on for {minutes:.0f} min, {name} is "
    step += "judged as a master whose xapi is down"
    block(tx, failover, Blocker.NEW_MASTER_LOOPS, (failover.candidate,), why, step)


def ends_without_success(tx: Transaction, failover: Failover) -> None:
    """The new master never came to serve: its members are owed their way to whoever is master then."""
    _never_stayed(tx, failover, _survivors(tx, failover))


def _survivors(pool: Snapshot, failover: Failover) -> list[HostId]:
    return [h for h in sorted(pool.record.hosts, key=pool.name) if h not in (failover.old_master, failover.candidate)]


def _never_stayed(tx: Transaction, failover: Failover, survivors: list[HostId]) -> None:
    """It has looped for as long as a xapi may start: end without calling it done, so that it is judged as a master."""
    name = tx.name(failover.candidate)
    for host in survivors:
        if host not in failover.members.back and not _is_owed(tx, host):
            _owe(tx, host, failover.candidate, f"the xapi of {name} does not stay")
    resolve_blocks(tx, failover, f"failover {failover.id} has ended; {name} is judged as a master", final=True)
    old = tx.name(failover.old_master)
    text = f"failover {failover.id} ended without success: {name} took the role over from {old}, and its xapi does not "
    text += "stay: it ends and begins again"
    data = {"new_master": failover.candidate, "address": tx.record.address_of(failover.candidate), "lasted": False}
    owed = [tx.name(host) for host in survivors if host not in failover.members.back]
    proof = failover.proof.kind.word if failover.proof is not None else ""
    more = {"proof": proof, "durations_ms": {}, "owed": owed}
    tx.write(Entry(Kind.CLOSED, text, {**data, **more}, failover.id, tx.record.term))
    backoff.cool_down(tx, tx.now)


def _is_owed(pool: Snapshot, host: HostId) -> bool:
    return any(item.host == host and item.what is OwedWork.REPOINT for item in pool.record.owed)


def _one_member(tx: Transaction, failover: Failover, host: HostId) -> None:
    age = tx.now - tx.live.phases.step_since
    agent = tx.agent(host)
    if (agent is None or not agent.connected) and age >= NOT_CONNECTED_MS and host not in failover.members.repointing:
        _owe(tx, host, failover.candidate, "its agent is not connected")
        return
    why = follows(tx, host, failover.candidate) or _replaced(tx, failover, host)
    if not why:
        item = entry_of(tx, host, failover.candidate)
        why = item if isinstance(item, str) else "" if item.live else "the new master does not have it live"
        if isinstance(item, PoolHost) and item.live:
            if (remark := _missing(tx, failover, item)) is not None:
                _is_back(tx, host, remark)
            return
    if tx.now - _begun(tx, failover, host) >= tx.policy.member_budget and _its_turn(tx, failover, host):
        _owe(tx, host, failover.candidate, why)
        return
    reachable = agent is not None and agent.connected and agent.reported
    unsure = rests_on_failed(tx, agent) if agent is not None and host not in failover.members.repointing else None
    if reachable and unsure is not None:
        # Its xapi goes on under the master that was, and its VMs with it: an operator is asked once this has closed.
        _owe(tx, host, failover.candidate, f"it is asked about, not pointed there by itself: {unsure}")
        return
    if agent is not None and reachable and (host in failover.claimed or may_be_pointed(tx, host)):
        _repoint(tx, failover, host, agent)


def _note_before(tx: Transaction, failover: Failover) -> None:
    """The old master's last view of the pool, as far as this run has heard it."""
    agent = tx.agent(failover.old_master)
    view = agent.facts.pool_view if agent is not None else None
    known = view.hosts if view is not None and view.master == failover.old_master else ()
    hosts = {item.host: {"enabled": item.enabled, "unplugged": list(item.unplugged_srs)} for item in known}
    odd = [f"{item.name} disabled" for item in known if not item.enabled]
    odd += [f"{item.name} without {', '.join(item.unplugged_srs)}" for item in known if item.unplugged_srs]
    word = f"as the old master saw it: {'; '.join(odd) or 'every host enabled, all storage plugged'}"
    tx.note(Kind.MEMBERS_BEFORE, word if known else "how the hosts stood before is not known", hosts=hosts)


def _missing(tx: Transaction, failover: Failover, item: PoolHost) -> str | None:
    """What this live and attached member lacks, in words; None while there is still time for it to come."""
    before = (failover.members.before or {}).get(item.host)
    age = tx.now - tx.live.phases.step_since
    lacking: list[str] = []
    if not item.enabled and before is not None and not before["enabled"]:
        lacking.append("disabled, as it was before")
    elif not item.enabled:
        if age < ENABLE_PATIENCE_MS or (before is not None and _enabling(tx, failover, item.host)):
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


def _enabling(tx: Transaction, failover: Failover, host: HostId) -> bool:
    """Have this host enabled, once; True while that has its time."""
    agent = tx.heard(failover.candidate)
    if agent is None or "enable_host" not in agent.hello.capabilities:
        return False
    order_id = f"{failover.id}/enable/{host}"
    sent = tx.sent(order_id)
    if sent is None:
        text = f"enabling {tx.name(host)}: it was enabled before, is live and stays disabled"
        tx.note(Kind.ENABLE_INTENT, text, host=host, order=order_id)
    if sent is None or (sent.result is None and due(tx, order_id, agent)):
        pre = Preconditions(pool_conf_in=(Role.MASTER,))
        tx.send(order_id, failover.candidate, EnableHost(host), ORDER_VALID_MS, pre)
        return True
    return tx.now - sent.at < ATTEMPT_MS


def _replaced(pool: Snapshot, failover: Failover, host: HostId) -> str:
    return "" if host in failover.members.repointing else "it has not been repointed"


def _is_back(tx: Transaction, host: HostId, remark: str) -> None:
    text = f"{tx.name(host)} is back: attached to the new master" + (f" ({remark})" if remark else ", live and enabled")
    tx.note(Kind.MEMBER_BACK, text, host=host, remark=remark)
    tx.mark(f"back {tx.name(host)}")


def _repoint(tx: Transaction, failover: Failover, host: HostId, agent: AgentState) -> None:
    base = f"{failover.orders}/repoint/{host}"
    address = tx.record.address_of(failover.candidate)
    if not _its_turn(tx, failover, host):
        return
    right = agent.facts.role.pool_conf is Role.MEMBER and agent.facts.role.master_address == address
    if right and agent.facts.role.running is Role.MEMBER and host in failover.members.repointing:
        _restart_rung(tx, failover, host)
        return
    text = f"repointing {tx.name(host)} to {tx.name(failover.candidate)} at {address}"
    pursue(tx, base, agent, Repoint(address, failover.candidate), Kind.REPOINT_INTENT, text, address=address)


def _its_turn(tx: Transaction, failover: Failover, host: HostId) -> bool:
    """Has this member been told already, or are fewer under way than may be?"""
    if host in failover.members.repointing:
        return True
    # safety: by what has come of it, not by the answer; else a whole pool restarts its xapis within seconds.
    under_way = [
        other
        for other in failover.members.repointing
        if other not in failover.members.back
        and not _is_owed(tx, other)
        and tx.now - _begun(tx, failover, other) < tx.policy.member_restart_after
    ]
    return len(under_way) < tx.policy.repoint_parallel


def _begun(tx: Transaction, failover: Failover, host: HostId) -> Ms:
    """When this run first told the member; the beginning of the step where it has not, or an earlier run did.

    A refused order is sent again under its own id: the first time counts, or its budget would never end.
    """
    known = tx.live.repoint_begun.get(host)
    if known is None or known[0] != failover.orders:
        first = tx.sent(f"{failover.orders}/repoint/{host}.1")
        if first is None:
            return tx.live.phases.step_since
        known = (failover.orders, first.at)
        tx.change(PoolLive, repoint_begun={**tx.live.repoint_begun, host: known})
    return max(known[1], tx.live.phases.step_since)


def _restart_rung(tx: Transaction, failover: Failover, host: HostId) -> None:
    """The member runs as one of the new master's and is not back: after a while restart its xapi, once."""
    agent = tx.heard(host)
    if agent is None or tx.now - _begun(tx, failover, host) < tx.policy.member_restart_after:
        return
    if assumptions.refusal(tx, host, RESTART) is not None:
        return  # it is owed its way back when its time is over, and asked about
    order_id = f"{failover.orders}/restart/{host}"
    if host not in failover.members.restarted:
        text = f"restarting the xapi of {tx.name(host)}: it was repointed and did not come back"
        tx.note(Kind.RESTART_INTENT, text, host=host, order=order_id)
    if due(tx, order_id, agent):
        pre = Preconditions(ha_off=True, pool_conf_in=(Role.MEMBER,))
        tx.send(order_id, host, RestartXapi(), ORDER_VALID_MS, pre)


def _owe(tx: Transaction, host: HostId, successor: HostId, why: str) -> None:
    text = f"{tx.name(host)} is owed its repointing to {tx.name(successor)}: {why}"
    tx.note(Kind.OWED, text, host=host, what=OwedWork.REPOINT.value, successor=successor, why=why)


def _close(tx: Transaction, failover: Failover, survivors: list[HostId]) -> None:
    tx.mark("closed")
    spans = phases.spans(tx)
    durations = {f"{begin} to {end}": ms for begin, end, ms in spans}
    name, address = tx.name(failover.candidate), tx.record.address_of(failover.candidate)
    old = tx.name(failover.old_master)
    proof = failover.proof.kind.word if failover.proof is not None else ""
    owed = [tx.name(host) for host in survivors if host not in failover.members.back]
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
    tx.write(Entry(Kind.CLOSED, text, data, failover.id, tx.record.term))
    item = entry_of(tx, failover.candidate, failover.candidate)
    before = (failover.members.before or {}).get(failover.candidate)
    gone = unplugged(item, before) if isinstance(item, PoolHost) else []
    tell_end(tx, failover, survivors, of_new_master(tx, failover, gone))
    backoff.cool_down(tx, tx.now)
