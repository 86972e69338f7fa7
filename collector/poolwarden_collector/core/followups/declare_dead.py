"""Telling xapi that a host is dead: host.declare_dead, as owed work after a failover or at an operator's word.

Theory: nothing else marks a dead host's VMs as halted, and its locks on disks outlive it (xapi:
ocaml/xapi/xapi_host.ml, scripts/10resetvdis). Whoever declares a living host dead has its VMs started twice.

Rules
-----
* Only on a power proof, made anew right before each order: two fresh OFF readings of devices bound to that very boot.
  Never after a mere toolstack fence, whose VMs run on; after a human proof only where the power reads OFF all the same.
* The VMs that the master's database places there are put on record first: afterwards it says that they are halted.
* xapi tries to reach the host once, and once for each VM, while it still has it live: it is told at once only if that
  stays under a minute, else when it has it dead itself, after ten minutes. An operator may have it sooner.
* A closed failover does not wait for this, and the cool-down does not hold it.
"""

from __future__ import annotations

from typing import Any

from poolwarden.assumptions import FOLLOWUPS, POWER
from poolwarden_collector.core.catalogue.lost_vms import LOST_VMS, LOST_VMS_BY_POLICY, NOT_DECLARED_DEAD
from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.decision.database_contents import placements_of
from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.decision.start_places import start_places
from poolwarden_collector.core.devices.power_view import tries, view
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import follows, master_view
from poolwarden_collector.core.evidence.proof import NoProof, Proof, lived_until, verify_power
from poolwarden_collector.core.evidence.signs import fresh_probe
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.order_results import Outcome, Placement, PlacementView
from poolwarden_collector.core.model.orders import DeclareHostDead, Preconditions
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.followup_record import DeadHost, LostVm
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, answer_of
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

AGAIN_MS: Ms = 600_000
ANSWER_MS: Ms = 300_000
LEARN_MS: Ms = 60_000
PENDING_MS: Ms = 8_000
COST_LIMIT_MS: Ms = 60_000
# What one attempt to connect to a dead host takes: no route is told at once, silence by the kernel's SYN retries.
CONNECT_MS = {ProbeOutcome.UNREACHABLE: 4_000, ProbeOutcome.REFUSED: 1_000}
# A list of domains is the last one of a host that gave no sign of life so much later.
TOLD_LATE_MS: Ms = 30_000
SILENT_CONNECT_MS: Ms = 127_000


def advance(tx: Transaction) -> None:
    """Owe it after a failover with a power proof; do what is due for every host to which it is owed."""
    _owe_after_failover(tx)
    for item in tx.record.owed:
        if item.what is OwedWork.DECLARE_DEAD and item.host in tx.record.after.dead:
            _advance_one(tx, tx.record.after.dead[item.host])


def wants_reading(pool: Snapshot, host: HostId) -> bool:
    """Is this host's power to be read now, for a declaration or for a VM's start?"""
    if any(said.verb == "declare-dead" and said.host == host for said, _ in pool.live.pending):
        return True
    lost = pool.record.after.lost.values()
    queued = any(vm.host == host and vm.state == "queued" and not vm.by_policy for vm in lost)
    if host in pool.live.policy_starts.reading:
        return True
    if queued and not attached_again(pool, host):
        return True
    dead = pool.record.after.dead.get(host)
    owed = any(item.host == host and item.what is OwedWork.DECLARE_DEAD for item in pool.record.owed)
    if dead is None or not owed or not dead.listed or dead.order or pool.record.paused is not None:
        return False
    # The new master's members come first: each connection to the dead host would keep its xapi busy.
    return (
        pool.failover is None
        and not pool.quiet
        and not _too_early(pool, dead)
        and pool.now >= pool.live.dead_again.get(host, 0)
    )


def proven_off(pool: Snapshot, host: HostId, boot: str) -> Proof | NoProof:
    """The power proof by readings of now: what was read for an earlier question is no answer to this one."""
    newest = view(pool, host).newest_at
    if newest and pool.now - newest > pool.policy.reading_fresh:
        return NoProof("STALE", f"the power of {pool.name(host)} is being read")
    return verify_power(pool, host, boot)


def attached_again(pool: Snapshot, host: HostId) -> bool:
    """Has this host come back, in another boot, as a member of the master?"""
    master = verified(pool)
    return bool(master) and not _same_boot(pool, host) and not follows(pool, host, master)


def _same_boot(pool: Snapshot, host: HostId) -> bool:
    known, dead = pool.record.hosts.get(host), pool.record.after.dead.get(host)
    return known is not None and dead is not None and known.boot_id == dead.boot_id


def _owe_after_failover(tx: Transaction) -> None:
    failover = tx.record.failover
    if failover is None or failover.step not in (Step.PROMOTED, Step.CLOSED) or not tx.policy.declare_dead:
        return
    if failover.proof is None or not failover.proof.kind.permits_declare_dead:
        return
    host, boot = failover.old_master, failover.old_boot
    known, dead = tx.record.hosts.get(host), tx.record.after.dead.get(host)
    if known is None or known.boot_id != boot or tx.heard(host) is not None or (dead and dead.boot_id == boot):
        return
    _owe(tx, host, boot, "poolwarden", failover.candidate)


def _owe(tx: Transaction, host: HostId, boot: str, by: str, master: HostId) -> None:
    text = f"xapi is to be told that {tx.name(host)} is dead"
    tx.note(Kind.OWED, text, by, host=host, what=OwedWork.DECLARE_DEAD.value, successor=master, boot_id=boot, by=by)


# ------------------------------------------------------------------------------------------------ one host


def _advance_one(tx: Transaction, dead: DeadHost) -> None:
    master, host = verified(tx), dead.host
    if tx.heard(host) is not None or not _same_boot(tx, host):
        _no_longer(tx, dead, f"{tx.name(host)} is back")
    elif not master or tx.failover is not None and tx.failover.old_master != host:
        return
    elif dead.order:
        _learn(tx, dead)
    elif not dead.listed:
        _list(tx, dead, master)
    elif wants_reading(tx, host):
        own = assumptions.refusal(tx, master, FOLLOWUPS)
        unsure = assumptions.joined((own, assumptions.refusal(tx, host, POWER)))
        # safety: a device of which something failed may read another machine; nobody's VMs are given up for that.
        if unsure is not None and dead.by == "poolwarden":
            _put_off(tx, dead, unsure)
        else:
            _prove_and_order(tx, dead, master)


def _no_longer(tx: Transaction, dead: DeadHost, why: str) -> None:
    tx.note(Kind.OWED_DONE, f"{why}: it is not declared dead", host=dead.host, what=OwedWork.DECLARE_DEAD.value)
    tx.resolve_alerts(Matter.DEAD, dead.host, why)


def _list(tx: Transaction, dead: DeadHost, master: HostId) -> None:
    """Put on record what ran there, before the declaration makes it halted."""
    loads = placements_of(tx, master)
    if loads is None:
        return
    name, before = tx.name(dead.host), _listed_before(tx, dead)
    topic = AlertTopic(Matter.LOST, dead.host, dead.boot_id)
    if not loads.readable:
        text = f"which VMs ran on {name} is not known: {loads.text}"
        tx.note(Kind.LOST_VMS, text, host=dead.host, vms=[_entry(vm) for vm in before])
        tx.resolve_alerts(Matter.LOST, dead.host, "its VMs are listed anew", but=topic if before else None)
        return
    seen = _last_domains(tx, dead)
    ran = _ran_there(tx, dead.host, loads)
    lost = [{"vm": item.vm, "name": item.name or item.vm, **_seen(seen, item.vm)} for item in ran]
    placed = {item.vm for item in ran}
    lost += [_entry(vm) for vm in before if vm.vm not in placed]
    names = ", ".join(str(item["name"]) for item in lost)
    count = f"{len(lost)} VM{'s' if len(lost) != 1 else ''}"
    text = f"{count} ran on {name}: {names}" if lost else f"no VM ran on {name}"
    tx.note(Kind.LOST_VMS, text, host=dead.host, vms=lost, generation=loads.generation)
    tx.resolve_alerts(Matter.LOST, dead.host, "its VMs are listed anew", but=topic if lost else None)
    if lost:
        where = start_places(tx, master, dead.host)
        step = f"poolwarden start-lost {tx.record.display_name} --dry-run"
        body = f"{text}. Each can start on: {where}; xapi has the last word on each: {step}"
        words = {"name": name, "count": count, "names": names, "where": where}
        by_policy = tx.policy.start_lost != "never" and dead.own
        message = LOST_VMS_BY_POLICY if by_policy else LOST_VMS
        tx.raise_alert(topic, message, body, words, vms=[item["name"] for item in lost])


def _listed_before(pool: Snapshot, dead: DeadHost) -> list[LostVm]:
    """What is down since this very loss: a database in which the host was declared dead already has it halted."""
    mine = (vm for vm in pool.record.after.lost.values() if vm.host == dead.host and vm.boot_id == dead.boot_id)
    return [vm for vm in mine if vm.state not in ("started", "running")]


def _entry(vm: LostVm) -> dict[str, Any]:
    return {"vm": vm.vm, "name": vm.name} | ({} if vm.seen is None else {"seen": vm.seen})


def _seen(domains: tuple[str, ...] | None, vm: str) -> dict[str, bool]:
    return {} if domains is None else {"seen": vm in domains}


def _last_domains(pool: Snapshot, dead: DeadHost) -> tuple[str, ...] | None:
    """What ran there when its own agent was last heard, in the boot in which it was lost; None: not known any more."""
    agent = pool.agent(dead.host)
    if agent is None or not agent.reported or agent.hello.boot_id != dead.boot_id:
        return None
    told, (host, until) = agent.facts.observed.host, pool.live.database_age.answered_until
    lived = max(lived_until(pool, dead.host), until if host == dead.host else -1)
    if told is None or lived - told > TOLD_LATE_MS:
        # safety: it lived on without its agent, and an owner may have shut a VM down meanwhile.
        return None
    return agent.facts.domains


def _ran_there(pool: Snapshot, host: HostId, loads: PlacementView) -> list[Placement]:
    running = {vm for other in pool.live.agents if (a := pool.heard(other)) is not None for vm in a.facts.domains or ()}
    return [item for item in loads.placements if item.host == host and item.vm not in running]


def _too_early(pool: Snapshot, dead: DeadHost) -> bool:
    """Would the declaration still keep the new master busy with trying to reach the dead one?"""
    master = verified(pool)
    view = master_view(pool, master) if master else None
    item = next((each for each in view.hosts if each.host == dead.host), None) if view is not None else None
    if item is None:
        return True
    if not item.live or dead.by != "poolwarden":
        return False
    probe = fresh_probe(pool, master, dead.host)
    each = CONNECT_MS.get(probe.outcome, SILENT_CONNECT_MS) if probe is not None else SILENT_CONNECT_MS
    count = sum(1 for vm in pool.record.after.lost.values() if vm.host == dead.host)
    return (count + 1) * each > COST_LIMIT_MS


def waits_for(pool: Snapshot, host: HostId) -> str:
    """What the declaration of this host waits for, in words."""
    dead = pool.record.after.dead.get(host)
    if dead is None or not dead.listed:
        return "its VMs are to be put on record first"
    if dead.order:
        return f"{pool.name(dead.master)} is at it"
    if pool.failover is not None:
        return f"after failover {pool.failover.id}"
    if not verified(pool):
        return "no verified master to tell it to"
    if _too_early(pool, dead):
        return "until xapi itself has it dead: before, its trying to reach it would take long"
    again = pool.live.dead_again.get(host, 0) - pool.now
    return f"tried again in {span(again)}" if again > 0 else "its power is being read"


def _prove_and_order(tx: Transaction, dead: DeadHost, master: HostId) -> None:
    agent = tx.heard(master)
    if agent is None or "declare_host_dead" not in agent.hello.capabilities:
        _put_off(tx, dead, Reason(Cause.INCAPABLE, f"the agent of {tx.name(master)} cannot do it", (master,)))
        return
    proof = proven_off(tx, dead.host, dead.boot_id)
    if isinstance(proof, NoProof):
        if proof.code in ("ONE_READING", "STALE") or (proof.code == "POWER_UNKNOWN" and not _exhausted(tx, dead.host)):
            return
        _put_off(tx, dead, Reason(Cause.NO_PROOF, proof.why, (proof.code,)))
        return
    order_id = tx.fresh_id("declare-dead")
    text = f"{tx.name(master)} is to declare {tx.name(dead.host)} dead: its power read OFF twice just now"
    facts = {"host": dead.host, "order": order_id, "master": master, "proof": proof.facts}
    tx.note(Kind.DEAD_INTENT, text, dead.by, **facts)
    # safety: the power proof is of this very pass, for the boot in which the host was lost; xapi halts its VMs by this.
    pre = Preconditions(ha_off=True, pool_conf_in=(Role.MASTER,))
    tx.send(order_id, master, DeclareHostDead(dead.host), ORDER_VALID_MS, pre)


def _exhausted(pool: Snapshot, host: HostId) -> bool:
    return not pool.devices(host) or tries(pool, host) >= pool.policy.unknown_readings


def _learn(tx: Transaction, dead: DeadHost) -> None:
    answer, sent, name = answer_of(tx, dead.master, dead.order), tx.sent(dead.order), tx.name(dead.host)
    if answer is None:
        since = sent.at if sent is not None else tx.site.started_at
        if tx.now - since >= (ANSWER_MS if sent is not None else LEARN_MS):
            _failed(tx, dead, Reason(Cause.ANSWER, f"{tx.name(dead.master)} has not answered", (dead.master,)))
    elif answer.outcome is Outcome.DONE:
        text = f"{tx.name(dead.master)} has declared {name} dead: its VMs are halted, its locks on disks are cleared"
        tx.note(Kind.DECLARED_DEAD, text, host=dead.host, declared=True)
        tx.note(Kind.OWED_DONE, f"xapi knows that {name} is dead", host=dead.host, what=OwedWork.DECLARE_DEAD.value)
        tx.resolve_alerts(Matter.DEAD, dead.host, text)
    else:
        says = answer.text or answer.reason
        _failed(tx, dead, Reason(Cause.ANSWER, says, (dead.master, answer.outcome.value, answer.reason)))


def _failed(tx: Transaction, dead: DeadHost, why: Reason) -> None:
    tx.note(Kind.DECLARED_DEAD, f"{tx.name(dead.host)} was not declared dead: {why}", host=dead.host, declared=False)
    _put_off(tx, dead, why)


def _put_off(tx: Transaction, dead: DeadHost, why: Reason) -> None:
    """Not now: say why, try again in ten minutes."""
    tx.change(PoolLive, dead_again={**tx.live.dead_again, dead.host: tx.now + AGAIN_MS})
    name = tx.name(dead.host)
    topic = AlertTopic(Matter.DEAD, dead.host, why.key)
    tx.resolve_alerts(Matter.DEAD, dead.host, "the reason has changed", but=topic)
    body = f"{name} is not declared dead, so its VMs cannot be started elsewhere: {why}. It is tried again by itself"
    tx.raise_alert(topic, NOT_DECLARED_DEAD, body, {"name": name, "why": why.text})


# ------------------------------------------------------------------------------------------------ at a word


def command_declare_dead(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``declare-dead HOST``: read its power twice, then have xapi told; empty while the readings are awaited."""
    host, name = said.host, tx.name(said.host)
    no = _refusal(tx, said, verdict)
    if no is not None:
        return no
    dead = tx.record.after.dead.get(host)
    # A new master's database may be a copy from before another one was told.
    if dead is not None and dead.declared and _same_boot(tx, host) and dead.master in ("", verified(tx)):
        return f"{name} is declared dead already"
    boot = tx.record.hosts[host].boot_id
    proof = proven_off(tx, host, boot)
    if isinstance(proof, NoProof):
        if proof.code == "POWER_ON":
            step = f"If it is a wreck that still has power, switch it off first; poolwarden host show {name}"
            return Refused("power-on", f"{proof.why}: a host that has power is not declared dead", step)
        if proof.code == "UNBOUND" or not tx.devices(host):
            return Refused("no-proof", f"no proof that {name} is off: {proof.why}", _by_hand(tx, host))
        waiting_commands.wait(tx, said, PENDING_MS)
        return ""
    # What it was put off for was the engine's own trial; this is a person's.
    again = {other: at for other, at in tx.live.dead_again.items() if other != host}
    tx.change(PoolLive, dead_again=again)
    _owe(tx, host, boot, said.actor, verified(tx))
    return f"{name} reads OFF twice: xapi is told that it is dead; poolwarden start-lost POOL --dry-run lists its VMs"


def too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """The readings that a declaration waited for did not come in time."""
    host, name = said.host, pool.name(said.host)
    known = pool.record.hosts.get(host)
    proof = proven_off(pool, host, known.boot_id if known else "")
    why = proof.why if isinstance(proof, NoProof) else "its power was not read twice in time"
    return Refused("no-proof", f"no proof that {name} is off: {why}", "Try again: readings that have come still count.")


def _by_hand(pool: Snapshot, host: HostId) -> str:
    return f"If you know that it is off, on the master: xe host-declare-dead uuid={host} --force"


def _refusal(pool: Snapshot, said: OperatorSaid, verdict: Verdict) -> Refused | None:
    host, name, typed = said.host, pool.name(said.host), said.arg("typed_name")
    if typed not in (name, host):
        return Refused("name-differs", f"typed {typed!r}, the host's name is {name!r}", "Type the host's name exactly.")
    if pool.heard(host) is not None:
        return Refused("agent-alive", f"the agent of {name} answers: it is not dead", "poolwarden explain POOL")
    if pool.failover is not None:
        return Refused("failover-open", f"failover {pool.failover.id} is open: it is told by itself afterwards")
    master = verified(pool)
    if not master:
        return Refused("no-master", f"the pool is {verdict.word}: there is no verified master to tell it to")
    if host not in pool.record.hosts or host == master:
        return Refused("wrong-host", f"{name} is the master" if host == master else f"{name} is no host of this pool")
    if pool.record.paused is not None:
        return Refused("paused", f"the pool is paused: {pool.record.paused}", "poolwarden resume POOL")
    if pool.quiet or deposed(pool):
        held = deposed(pool)
        return Refused("held", held.text if held is not None else takeover.quiet(pool))
    if verdict is Verdict.HA_MANAGED:
        return Refused("ha-armed", "xapi's HA is armed: it declares its dead itself")
    if not pool.record.hosts[host].boot_id:
        return Refused(
            "never-heard", f"the agent of {name} was never heard: its power proves nothing", _by_hand(pool, host)
        )
    return None
