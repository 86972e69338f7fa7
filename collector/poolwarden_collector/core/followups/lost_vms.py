"""The VMs that were lost with a dead host: starting them at an operator's word, or by policy.

Rules
-----
* Nothing is started by itself but by the policy start_lost, which has rules of its own (policy_starts.py).
  ``start-lost`` queues the VMs. Each start is journaled before it is ordered, through the verified master's xapi,
  which alone knows what runs in its pool. One at a time: its agent has no two under way either, and an order that
  waits there for another start expires.
* A VM is started only if its host was proven off and declared dead, or (at a word alone) has come back in another boot
  as a member: then its domains are gone. In between that host's power is read anew before every start: an old master
  that was switched on outside the pool may start its VMs from its old database.
* Never a VM that is running on any host that is heard, be it of another pool.
* Who can start where is asked of xapi (vm_places.py); the host with the fewest VMs is taken.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.devices.power_view import tries
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.proof import Proof
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups import policy_starts, vm_places
from poolwarden_collector.core.followups.declare_dead import PENDING_MS, attached_again, proven_off
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import KIND_NAMES, Preconditions, StartVm
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.followup_record import LostVm
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, answer_of
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ANSWER_MS: Ms = 300_000
LEARN_MS: Ms = 60_000
STARTS = KIND_NAMES[StartVm]
OVER = ("started", "running")
WAITING = ("lost", "failed")


# ------------------------------------------------------------------------------------------------ at a word


def command_start_lost(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``start-lost POOL``: say where each lost VM can start (``dry_run``), forget them (``forget``), or start them."""
    lost = [vm for vm in tx.record.after.lost.values() if vm.state not in OVER]
    if not lost:
        return Refused("nothing-lost", "no VM of this pool is on record as lost with a dead host")
    if said.arg("forget"):
        return _forget(tx, said, len(lost))
    left, lost = [vm for vm in lost if _left(tx, vm)], [vm for vm in lost if not _left(tx, vm)]
    no = _refusal(tx, lost, verdict) if lost else _of_hosts_that_left(tx, left)
    if no is not None and said.arg("dry_run"):
        lost = lost or left
        names = ", ".join(sorted(vm.name for vm in lost))
        step = f". First: {no.next_step}" if no.next_step else ""
        return f"{len(lost)} lost VMs: {names}; none can be started now: {no.why}{step}"
    if no is not None:
        return no
    if not vm_places.located(tx, [vm.vm for vm in lost]):
        waiting_commands.wait(tx, said, PENDING_MS)
        return ""
    waiting = [vm for vm in lost if _waits(vm)]
    ready = [vm for vm in waiting if vm_places.possible(tx, vm.vm)]
    if said.arg("dry_run"):
        return f"{len(ready)} of {len(lost)} lost VMs could start now" + ("; nothing was started" if ready else "")
    if not ready:
        if not waiting:
            return f"{len(lost)} VMs are being started already"
        return Refused(
            "nowhere", f"none of the {len(waiting)} lost VMs can start: {vm_places.why_not(tx, waiting[0].vm)}"
        )
    for vm in ready:
        text = f"{said.actor} has {vm.name} started, which was lost with {tx.name(vm.host)}"
        tx.note(Kind.START_INTENT, text, said.actor, vm=vm.vm, state="queued")
    return f"starting {len(ready)} of {len(lost)} lost VMs; poolwarden status POOL shows how far they are"


def _waits(vm: LostVm) -> bool:
    """May a person's word start it? Also one that the policy has queued, whatever holds it there."""
    return vm.state in WAITING or (vm.state == "queued" and vm.by_policy)


def too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """The master did not tell in time where the VMs can start."""
    return Refused(
        "no-evidence", "the master has not told in time where the lost VMs can start", "Try again in a minute."
    )


def _refusal(pool: Snapshot, lost: list[LostVm], verdict: Verdict) -> Refused | None:
    master = verified(pool)
    agent = pool.heard(master) if master else None
    name = pool.record.display_name
    if pool.failover is not None:
        why = f"the failover of {pool.name(pool.failover.old_master)} is under way, and VMs start after its end"
        return Refused("no-master", why, f"poolwarden watch {name} shows how far it is")
    if agent is None:
        why = f"the pool is {verdict.word}: no verified master that could start a VM"
        return Refused("no-master", why, f"poolwarden explain {name}")
    if "start_vm" not in agent.hello.capabilities:
        why = f"the agent {agent.hello.agent_version} of {pool.name(master)} cannot start VMs"
        return Refused("too-old", why, f"poolwarden pool upgrade {name}")
    return _held(pool, verdict) or _not_declared(pool, lost)


def _held(pool: Snapshot, verdict: Verdict) -> Refused | None:
    if verdict is Verdict.HA_MANAGED:
        return Refused("held", "xapi's HA is armed", "It starts VMs itself, where they are protected by it.")
    if pool.record.paused is not None:
        why = f"the pool is paused: {pool.record.paused}"
        return Refused("held", why, f"poolwarden resume {pool.record.display_name}")
    return Refused("held", takeover.quiet(pool), "Try again when it is over.") if pool.quiet else None


def _not_declared(pool: Snapshot, lost: list[LostVm]) -> Refused | None:
    for host in sorted({vm.host for vm in lost}, key=pool.name):
        if not _startable(pool, host):
            name = pool.name(host)
            why = f"{name} is not declared dead yet, so its VMs may still be locked or even run"
            return Refused(
                "not-declared", why, f"poolwarden declare-dead {name}; poolwarden alerts tells what holds it"
            )
    return None


def _left(pool: Snapshot, vm: LostVm) -> bool:
    """Is its host no host of the pool any more (xe host-forget, pool-eject)? Then nothing reads whether it is off."""
    return vm.host not in pool.record.after.dead


def _of_hosts_that_left(pool: Snapshot, left: list[LostVm]) -> Refused:
    names = ", ".join(sorted({pool.name(vm.host) for vm in left}))
    why = f"{names} has left the pool: whether it is off is not read any more"
    step = f"poolwarden start-lost {pool.record.display_name} --forget; then xe vm-start for each, if it is off"
    return Refused("host-left", why, step)


def _startable(pool: Snapshot, host: HostId) -> bool:
    """Are this host's domains gone for certain: declared dead on a power proof, or back in another boot?"""
    dead = pool.record.after.dead.get(host)
    return dead is not None and (dead.declared or attached_again(pool, host))


def _forget(tx: Transaction, said: OperatorSaid, count: int) -> str:
    for host in sorted({vm.host for vm in tx.record.after.lost.values()}, key=tx.name):
        _clear(tx, host, f"{said.actor} takes the VMs that were lost with {tx.name(host)} off the list", said.actor)
    return f"{count} lost VMs were taken off the list; nothing was started"


def _clear(tx: Transaction, host: HostId, text: str, actor: str = "poolwarden") -> None:
    tx.note(Kind.LOST_VMS, text, actor, host=host, vms=[], over=True)
    tx.resolve_alerts(Matter.LOST, host, text)


# ------------------------------------------------------------------------------------------------ starting


def start_queued(tx: Transaction, verdict: Verdict) -> None:
    """See what runs, learn what was started, start the next of the queue; ask once where the others could start."""
    lost = tx.record.after.lost
    if not lost:
        policy_starts.nothing_lost(tx)
    if not lost or not verified(tx) or tx.failover is not None:
        return
    vm_places.learn(tx)
    _note_running(tx)
    for vm in list(lost.values()):
        if vm.state == "starting":
            _learn_start(tx, vm)
    policy_starts.advance(tx, verdict)
    # A planned switchover restarts every xapi, and with them what it is starting.
    under_way = _under_way(tx) or tx.record.after.designation is not None
    for vm in sorted(tx.record.after.lost.values(), key=lambda each: each.name):
        if vm.state == "queued" and not under_way:
            under_way = _start(tx, vm, verdict)
    waiting = [vm for vm in tx.record.after.lost.values() if vm.state == "lost" and _startable(tx, vm.host)]
    if any(vm_places.told_place(tx, vm.vm) is None for vm in waiting):
        vm_places.located(tx, [vm.vm for vm in waiting])
    _all_over(tx)


def _under_way(pool: Snapshot) -> bool:
    """Is a start under way at the master's agent? A domain that is there already is no answer; that nobody knows is."""
    if any(vm.state == "starting" and pool.sent(vm.order) is None for vm in pool.record.after.lost.values()):
        return True
    starts = (sent for sent in pool.live.sent.values() if sent.kind == STARTS and sent.host == verified(pool))
    return any(answer_of(pool, sent.host, sent.order_id) is None and pool.now - sent.at < ANSWER_MS for sent in starts)


def _running_on(pool: Snapshot, vm: str) -> HostId:
    for host in sorted(pool.live.agents):
        agent = pool.heard(host)
        if agent is not None and vm in (agent.facts.domains or ()):
            return host
    return ""


def _note_running(tx: Transaction) -> None:
    for vm in list(tx.record.after.lost.values()):
        host = _running_on(tx, vm.vm) if vm.state not in OVER else ""
        if host:
            _result(tx, vm, "running" if vm.state in WAITING else "started", "", host)


def _result(tx: Transaction, vm: LostVm, state: str, why: str, on: HostId = "") -> None:
    said = {"started": f"is started on {tx.name(on)}", "running": f"runs on {tx.name(on)}", "failed": "was not started"}
    text = f"{vm.name} {said[state]}" + (f": {why}" if why else "")
    tx.note(Kind.START_RESULT, text, vm=vm.vm, state=state, why=why, on=on)


def _start(tx: Transaction, vm: LostVm, verdict: Verdict) -> bool:
    """Order this VM's start if nothing stands against it; True if it was ordered."""
    if _left(tx, vm):
        _result(tx, vm, "failed", _of_hosts_that_left(tx, [vm]).why)
        return False
    if vm.vm in tx.site.elsewhere:
        # safety: whoever brought it there may have given it the same disks.
        _result(tx, vm, "failed", "a host of another pool has a domain of it")
        return False
    if vm.by_policy and not policy_starts.its_turn(tx, vm, verdict):
        return False
    if not _startable(tx, vm.host) or not _gone_for_certain(tx, vm) or not vm_places.located(tx, [vm.vm]):
        return False
    if vm.by_policy and policy_starts.not_yet(tx, vm):
        return False
    if tx.record.after.lost[vm.vm].state != "queued":
        return False
    hosts = vm_places.possible(tx, vm.vm)
    if not hosts:
        _result(tx, vm, "failed", vm_places.why_not(tx, vm.vm))
        return False
    target = min(hosts, key=lambda host: (_load(tx, host), tx.name(host)))
    order_id = tx.fresh_id("start")
    text = f"starting {vm.name} on {tx.name(target)}"
    tx.note(Kind.START_INTENT, text, vm=vm.vm, state="starting", on=target, order=order_id)
    # safety: its host was proven off in this very pass, or is back in another boot; xapi itself refuses a running VM.
    order = StartVm(vm.vm, target, only_if_wished=vm.by_policy)
    valid = policy_starts.VALID_MS if vm.by_policy else ORDER_VALID_MS
    tx.send(order_id, verified(tx), order, valid, Preconditions(ha_off=True, pool_conf_in=(Role.MASTER,)))
    return True


def _load(pool: Snapshot, host: HostId) -> int:
    agent = pool.heard(host)
    running = len(agent.facts.domains or ()) if agent is not None else 0
    coming = sum(1 for vm in pool.record.after.lost.values() if vm.on == host and vm.state in ("starting", "started"))
    return running + coming


def _gone_for_certain(tx: Transaction, vm: LostVm) -> bool:
    """Is its host still off (two fresh readings), or back as a member? A reading that contradicts ends the start."""
    if attached_again(tx, vm.host):
        return not vm.by_policy
    dead = tx.record.after.dead[vm.host]
    proof = proven_off(tx, vm.host, dead.boot_id)
    if isinstance(proof, Proof) and tx.heard(vm.host) is None:
        return True
    known = tx.record.hosts.get(vm.host)
    back = known is not None and known.boot_id != dead.boot_id
    unreadable = not isinstance(proof, Proof) and proof.code == "POWER_UNKNOWN"
    waited = tries(tx, vm.host) >= tx.policy.unknown_readings or not tx.devices(vm.host)
    if not isinstance(proof, Proof) and (proof.code in ("POWER_ON", "UNBOUND") or (unreadable and waited)) and not back:
        _result(tx, vm, "failed", f"{tx.name(vm.host)} is not proven off any more: {proof.why}")
    return False


def _learn_start(tx: Transaction, vm: LostVm) -> None:
    sent = tx.sent(vm.order)
    answer = answer_of(tx, sent.host if sent is not None else verified(tx), vm.order)
    if answer is not None and answer.outcome is Outcome.DONE:
        _result(tx, vm, "started", "", vm.on)
    elif answer is not None and answer.outcome is not Outcome.UNKNOWN:
        _result(tx, vm, "failed", answer.text or answer.reason)
    elif tx.now - (sent.at if sent is not None else tx.site.started_at) >= (
        ANSWER_MS if sent is not None else LEARN_MS
    ):
        _result(tx, vm, "failed", "whether it was started is not known; start-lost asks again")


def _all_over(tx: Transaction) -> None:
    for host in sorted({vm.host for vm in tx.record.after.lost.values()}, key=tx.name):
        mine = [vm for vm in tx.record.after.lost.values() if vm.host == host]
        if all(vm.state in OVER for vm in mine):
            _clear(tx, host, f"every VM that was lost with {tx.name(host)} runs again")
