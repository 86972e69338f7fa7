"""The VMs that were lost with a dead host: where each can start now, and starting them at an operator's word.

Rules
-----
* Nothing is started by itself. ``start-lost`` queues the VMs; each start is journaled before it is ordered, two at a
  time, through the verified master's xapi, which alone knows what runs in its pool.
* A VM is started only if its host was proven off and declared dead, or has come back in another boot as a member: then
  its domains are gone. In between that host's power is read anew before every start: an old master that was switched on
  outside the pool may start its VMs from its old database.
* Never a VM that is running on any host that is heard.
* Who can start where is asked of xapi (VM.get_possible_hosts, VM.assert_can_boot_here), never guessed; the host with
  the fewest VMs is taken.
"""

from __future__ import annotations

from poolwarden_collector.core.devices.power_view import tries
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.proof import Proof
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups.declare_dead import PENDING_MS, attached_again, proven_off
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.order_results import Outcome, VmPlace
from poolwarden_collector.core.model.orders import LocateVms, Preconditions, StartVm
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.followup_record import LostVm
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS, answer_of
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

PARALLEL = 2
PER_ORDER = 100
PLACES_FRESH_MS: Ms = 60_000
ANSWER_MS: Ms = 300_000
LEARN_MS: Ms = 60_000
OVER = ("started", "running")
WAITING = ("lost", "failed")


# ------------------------------------------------------------------------------------------------ at a word


def command_start_lost(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``start-lost POOL``: say where each lost VM can start (``dry_run``), forget them (``forget``), or start them."""
    lost = [vm for vm in d.record.after.lost.values() if vm.state not in OVER]
    if not lost:
        return Refused("nothing-lost", "no VM of this pool is on record as lost with a dead host")
    if said.arg("forget"):
        return _forget(d, said, len(lost))
    no = _refusal(d, lost, verdict)
    if no is not None and said.arg("dry_run"):
        names = ", ".join(sorted(vm.name for vm in lost))
        return f"{len(lost)} lost VMs: {names}; none can be started now: {no.why}"
    if no is not None:
        return no
    if not _located(d, lost):
        d.change(pending=(*d.live.pending, (said, d.now + PENDING_MS)))
        return ""
    ready = [vm for vm in lost if vm.state in WAITING and possible(d, vm.vm)]
    if said.arg("dry_run"):
        return f"{len(ready)} of {len(lost)} lost VMs could start now" + ("; nothing was started" if ready else "")
    if not ready:
        waiting = [vm for vm in lost if vm.state in WAITING]
        if not waiting:
            return f"{len(lost)} VMs are being started already"
        return Refused("nowhere", f"none of the {len(waiting)} lost VMs can start: {why_not(d, waiting[0].vm)}")
    for vm in ready:
        text = f"{said.actor} has {vm.name} started, which was lost with {d.name(vm.host)}"
        d.note(Kind.START_INTENT, text, said.actor, vm=vm.vm, state="queued")
    return f"starting {len(ready)} of {len(lost)} lost VMs; poolwarden status POOL shows how far they are"


def too_late(d: Snapshot, said: OperatorSaid) -> Refused:
    """The master did not tell in time where the VMs can start."""
    return Refused(
        "no-evidence", "the master has not told in time where the lost VMs can start", "Try again in a minute."
    )


def _refusal(d: Snapshot, lost: list[LostVm], verdict: Verdict) -> Refused | None:
    master = verified(d)
    agent = d.heard(master) if master else None
    if agent is None or d.failover is not None:
        return Refused("no-master", f"the pool is {verdict.word}: no verified master that could start a VM")
    if "start_vm" not in agent.hello.capabilities:
        return Refused("too-old", f"the agent {agent.hello.agent_version} of {d.name(master)} cannot start VMs")
    if d.record.paused is not None or d.quiet or verdict is Verdict.HA_MANAGED:
        why = f"the pool is paused: {d.record.paused}" if d.record.paused is not None else "start-up quiet time"
        return Refused("held", "xapi's HA is armed" if verdict is Verdict.HA_MANAGED else why)
    for host in sorted({vm.host for vm in lost}, key=d.name):
        if not _startable(d, host):
            name = d.name(host)
            why = f"{name} is not declared dead yet, so its VMs may still be locked or even run"
            return Refused(
                "not-declared", why, f"poolwarden declare-dead {name}; poolwarden alerts tells what holds it"
            )
    return None


def _startable(d: Snapshot, host: HostId) -> bool:
    """Are this host's domains gone for certain: declared dead on a power proof, or back in another boot?"""
    dead = d.record.after.dead.get(host)
    return dead is not None and (dead.declared or attached_again(d, host))


def _forget(d: Transaction, said: OperatorSaid, count: int) -> str:
    for host in sorted({vm.host for vm in d.record.after.lost.values()}, key=d.name):
        _clear(d, host, f"{said.actor} takes the VMs that were lost with {d.name(host)} off the list", said.actor)
    return f"{count} lost VMs were taken off the list; nothing was started"


def _clear(d: Transaction, host: HostId, text: str, actor: str = "poolwarden") -> None:
    d.note(Kind.LOST_VMS, text, actor, host=host, vms=[])
    d.resolve_alerts(Matter.LOST, host, text)


# ------------------------------------------------------------------------------------------------ where


def possible(d: Snapshot, vm: str) -> tuple[HostId, ...]:
    """Hosts on which this VM can start by the master's newest word."""
    place, _ = d.live.places.get(vm, (VmPlace(vm), 0))
    return tuple(host for host, refusal in place.hosts if not refusal)


def why_not(d: Snapshot, vm: str) -> str:
    """Why this VM can start nowhere, in one sentence; empty where it can, or where it is not known yet."""
    known = d.live.places.get(vm)
    if known is None or possible(d, vm):
        return ""
    place = known[0]
    if place.text:
        return place.text
    each = "; ".join(f"{d.name(host)}: {refusal}" for host, refusal in place.hosts)
    return each or "no host of the pool can take it"


def _located(d: Transaction, lost: list[LostVm]) -> bool:
    """Is it known, by an answer of the last minute, where these VMs can start? If not, ask."""
    _learn_places(d)
    wanted = [vm.vm for vm in lost if vm.vm not in d.live.places or _old(d, vm.vm)]
    if wanted and not d.live.locating:
        master = verified(d)
        orders = []
        for start in range(0, len(wanted), PER_ORDER):
            order_id = d.fresh_id("locate")
            d.send(order_id, master, LocateVms(tuple(wanted[start : start + PER_ORDER])), ORDER_VALID_MS)
            orders.append(order_id)
        d.change(locating=tuple(orders))
        _learn_places(d)
    return not wanted


def _old(d: Snapshot, vm: str) -> bool:
    return d.now - d.live.places[vm][1] > PLACES_FRESH_MS


def _learn_places(d: Transaction) -> None:
    still = []
    for order_id in d.live.locating:
        sent = d.sent(order_id)
        if sent is not None and sent.result is not None:
            found = {place.vm: (place, d.now) for place in sent.result.vm_places}
            d.change(places={**d.live.places, **found})
        elif sent is not None and d.now - sent.at < ORDER_VALID_MS:
            still.append(order_id)
    if tuple(still) != d.live.locating:
        d.change(locating=tuple(still))


# ------------------------------------------------------------------------------------------------ starting


def start_queued(d: Transaction) -> None:
    """See what runs, learn what was started, start the next of the queue; ask once where the others could start."""
    lost = d.record.after.lost
    if not lost or not verified(d) or d.failover is not None:
        return
    _note_running(d)
    for vm in list(lost.values()):
        if vm.state == "starting":
            _learn_start(d, vm)
    under_way = sum(1 for vm in d.record.after.lost.values() if vm.state == "starting")
    for vm in sorted(d.record.after.lost.values(), key=lambda each: each.name):
        if vm.state == "queued" and under_way < PARALLEL and _start(d, vm):
            under_way += 1
    waiting = [vm for vm in d.record.after.lost.values() if vm.state == "lost" and _startable(d, vm.host)]
    _learn_places(d)
    if any(vm.vm not in d.live.places for vm in waiting):
        _located(d, waiting)
    _all_over(d)


def _running_on(d: Snapshot, vm: str) -> HostId:
    for host in sorted(d.live.agents):
        agent = d.heard(host)
        if agent is not None and vm in (agent.facts.domains or ()):
            return host
    return ""


def _note_running(d: Transaction) -> None:
    for vm in list(d.record.after.lost.values()):
        host = _running_on(d, vm.vm) if vm.state not in OVER else ""
        if host:
            _result(d, vm, "running" if vm.state in WAITING else "started", "", host)


def _result(d: Transaction, vm: LostVm, state: str, why: str, on: HostId = "") -> None:
    said = {"started": f"is started on {d.name(on)}", "running": f"runs on {d.name(on)}", "failed": "was not started"}
    text = f"{vm.name} {said[state]}" + (f": {why}" if why else "")
    d.note(Kind.START_RESULT, text, vm=vm.vm, state=state, why=why, on=on)


def _start(d: Transaction, vm: LostVm) -> bool:
    """Order this VM's start if nothing stands against it; True if it was ordered."""
    if not _startable(d, vm.host) or not _gone_for_certain(d, vm) or not _located(d, [vm]):
        return False
    if d.record.after.lost[vm.vm].state != "queued":
        return False
    hosts = possible(d, vm.vm)
    if not hosts:
        _result(d, vm, "failed", why_not(d, vm.vm))
        return False
    target = min(hosts, key=lambda host: (_load(d, host), d.name(host)))
    order_id = d.fresh_id("start")
    text = f"starting {vm.name} on {d.name(target)}"
    d.note(Kind.START_INTENT, text, vm=vm.vm, state="starting", on=target, order=order_id)
    # safety: its host was proven off in this very pass, or is back in another boot; xapi itself refuses a running VM.
    d.send(order_id, verified(d), StartVm(vm.vm, target), ORDER_VALID_MS, Preconditions(ha_off=True))
    return True


def _load(d: Snapshot, host: HostId) -> int:
    agent = d.heard(host)
    running = len(agent.facts.domains or ()) if agent is not None else 0
    coming = sum(1 for vm in d.record.after.lost.values() if vm.on == host and vm.state in ("starting", "started"))
    return running + coming


def _gone_for_certain(d: Transaction, vm: LostVm) -> bool:
    """Is its host still off (two fresh readings), or back as a member? A reading that contradicts ends the start."""
    if attached_again(d, vm.host):
        return True
    dead = d.record.after.dead[vm.host]
    proof = proven_off(d, vm.host, dead.boot_id)
    if isinstance(proof, Proof) and d.heard(vm.host) is None:
        return True
    known = d.record.hosts.get(vm.host)
    back = known is not None and known.boot_id != dead.boot_id
    unreadable = not isinstance(proof, Proof) and proof.code == "POWER_UNKNOWN"
    waited = tries(d, vm.host) >= d.policy.unknown_readings or not d.devices(vm.host)
    if not isinstance(proof, Proof) and (proof.code in ("POWER_ON", "UNBOUND") or (unreadable and waited)) and not back:
        _result(d, vm, "failed", f"{d.name(vm.host)} is not proven off any more: {proof.why}")
    return False


def _learn_start(d: Transaction, vm: LostVm) -> None:
    sent = d.sent(vm.order)
    answer = answer_of(d, sent.host if sent is not None else verified(d), vm.order)
    if answer is not None and answer.outcome is Outcome.DONE:
        _result(d, vm, "started", "", vm.on)
    elif answer is not None and answer.outcome is not Outcome.UNKNOWN:
        _result(d, vm, "failed", answer.text or answer.reason)
    elif d.now - (sent.at if sent is not None else d.site.started_at) >= (ANSWER_MS if sent is not None else LEARN_MS):
        _result(d, vm, "failed", "whether it was started is not known; start-lost asks again")


def _all_over(d: Transaction) -> None:
    for host in sorted({vm.host for vm in d.record.after.lost.values()}, key=d.name):
        mine = [vm for vm in d.record.after.lost.values() if vm.host == host]
        if all(vm.state in OVER for vm in mine):
            _clear(d, host, f"every VM that was lost with {d.name(host)} runs again")
