"""Power switched outside of a failover: an operator's `on` and `off`, and the waking of a master that was powered off.

Rules
-----
* Intent before, result after, one device at a time, every device of the host's first level. A run that was cut off may
  still land: nothing more is switched on that host before its hard limit and 10 s have passed.
* While a switch of a host has no result, its power proves nothing (proof.py).
* An operator's `off` without force ends before its next device where the host has come alive, and a member that runs it
  probes it once more; with force the operator has decided.
* I7: `off` of a host that lives, of a device that is not bound to it, or under an armed HA needs the operator's force,
  and always the host's name typed out. What a failover decides about is not switched beside it.
* A drill's `off` needs a bound device and a host on which nothing runs (operator/drill_checks.py): asked in the pass of
  the order, and by the agent's word again before each further device. Its host is owed its waking, whatever the policy.
* Waking is owed only if the policy says so, only for a master that Poolwarden itself powered off, after xapi was told
  that it is dead (where that is owed), and never while any `off` has no certain result. It boots into its gate: its
  tombstone is owed as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from poolwarden.assumptions import POWER
from poolwarden_collector.core.catalogue.hosts import ASLEEP
from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.devices.device_runner import VALID_MS, as_data, landed_after, named, phrase, runner
from poolwarden_collector.core.devices.power_view import is_bound, levels, view, why_unbound
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.signs import silence_of
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover.power_off import LIVE_REPORT_MS
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.effects import PowerOff, PowerOn, Unable
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import FenceEnded, OperatorSaid
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.drill_record import Phase, reads
from poolwarden_collector.core.state.failover_record import Failover, Step
from poolwarden_collector.core.state.live_slices import PowerSwitches
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

WAKE_AGAIN_MS: Ms = 600_000
WAKE_TRIES = 3
_ENDING_MS: Ms = 4_000  # how long after its hard limit a run has ended at the latest (shell/fencing/agent_run.py)
TEST_MS: Ms = 8_000  # a reading that is this young when it is asked for is an answer


def advance(tx: Transaction) -> None:
    """Switch the next device, and let go of runs whose result never came."""
    for topic in tx.open_topics:
        if topic.matter is Matter.ASLEEP and (topic.host not in tx.record.hosts or tx.heard(topic.host) is not None):
            tx.resolve_alert(topic, f"{tx.name(topic.host)} is heard again, or is no host of the pool any more")
    for host, switch in tx.record.after.switches.items():
        if switch.run and tx.now >= _landed_at(tx, host, switch.device, switch.run):
            text = f"the power-{switch.word} of {tx.name(host)} by {switch.device} has no certain result"
            _result(tx, host, text, claim=False, certain=False)
        elif not switch.run:
            if not switch.on and not switch.forced and (why := _lives(tx, host)):
                # safety: nobody has said that it may be switched off while it lives; it did not when this was begun.
                _result(
                    tx, host, f"powering {tx.name(host)} off ends here: {why}", claim=False, certain=True, over=True
                )
                continue
            if not switch.on and (why := _filled(tx, host)):
                _result(
                    tx, host, f"powering {tx.name(host)} off ends here: {why}", claim=False, certain=True, over=True
                )
                continue
            _begin(tx, host, switch.on, switch.by, switch.left, switch.forced)


def power_on_fenced(tx: Transaction) -> None:
    """Owe it after a failover; do what is owed, to a drill's host as well, when nothing stands against it."""
    failover = tx.record.failover
    if failover is not None and failover.open:
        return
    if failover is not None and _wakes(tx, failover):
        host = failover.old_master
        text = f"{tx.name(host)} was powered off by Poolwarden and is to be powered on again (policy wake_fenced)"
        tx.note(
            Kind.OWED,
            text,
            host=host,
            what=OwedWork.WAKE.value,
            successor=failover.candidate,
            boot_id=failover.old_boot,
        )
    for item in tx.record.owed:
        if item.what is OwedWork.WAKE:
            _wake(tx, item.host)


def _wake(tx: Transaction, host: HostId) -> None:
    """Whatever failover it is owed after: a newer one takes nothing of it away."""
    power = view(tx, host).power
    if tx.heard(host) is not None or (power is Power.ON and not _unresolved(tx, host)):
        tx.note(Kind.OWED_DONE, f"{tx.name(host)} has power: it need not be woken", host=host, what=OwedWork.WAKE.value)
    elif assumptions.refusal(tx, host, POWER) is not None:
        return  # an operator has it switched on: poolwarden host on; that it is owed for long is told (overdue_work.py)
    elif _wake_due(tx, host) and power is Power.OFF and _fresh(tx, host):
        tx.change(PowerSwitches, wake_again={**tx.live.power_switches.wake_again, host: tx.now + WAKE_AGAIN_MS})
        if tx.record.after.woken.get(host, ("", 0))[1] >= WAKE_TRIES:
            _give_up(tx, host)
        else:
            # safety: two levels of "off" may be unresolved, an operator's and a failover's: wants_reading asked both.
            _begin(tx, host, True, "poolwarden", _first_level(tx, host))


def wants_reading(pool: Snapshot, host: HostId) -> bool:
    """Is this host's power to be read now, for its waking, a drill or an operator's test?"""
    return tested(pool, host) or reads(pool.record.drill) == host or _wake_due(pool, host)


def _wake_due(pool: Snapshot, host: HostId) -> bool:
    """Is it to be woken now, if it reads OFF?"""
    owed = any(item.what is OwedWork.WAKE and item.host == host for item in pool.record.owed)
    if not owed or pool.failover is not None or pool.record.paused is not None or pool.quiet or _unresolved(pool, host):
        return False
    return host not in pool.record.after.switches and pool.now >= pool.live.power_switches.wake_again.get(host, 0)


def tested(pool: Snapshot, host: HostId) -> bool:
    """Does an operator wait for a reading of this host's devices?"""
    return any(said.verb == "fence-test" and said.host == host for said, _ in pool.live.pending)


def ended(tx: Transaction, event: FenceEnded) -> bool:
    """A run of the fencer ended: is it one of these? An uncertain end is no result; it is waited out."""
    switch = tx.record.after.switches.get(event.host)
    if switch is None or switch.run != event.run_id:
        return False
    if event.certain:
        word = "claims success" if event.claim else "failed" if event.begun else "did not happen"
        text = f"the power-{switch.word} of {tx.name(event.host)} by {switch.device} {word}: {event.text}"
        _result(tx, event.host, text, claim=event.claim, certain=True)
    return True


# ------------------------------------------------------------------------------------------------ one switch


def _begin(tx: Transaction, host: HostId, on: bool, by: str, devices: tuple[str, ...], forced: bool = False) -> None:
    device, left = devices[0], devices[1:]
    word = "on" if on else "off"
    run = tx.fresh_id(word)
    block = named(tx, host, device)
    ran = runner(tx, block) if block is not None else None
    asked = "" if by == "poolwarden" else f", asked by {by}"
    text = f"powering {tx.name(host)} {word} by {device}{phrase(tx, ran)}{asked}"
    boot = tx.record.hosts[host].boot_id if host in tx.record.hosts else ""
    facts = {"host": host, "device": device, "run": run, "on": on, "by": by, "left": list(left), "boot_id": boot}
    facts["forced"] = forced
    facts |= as_data(ran)
    tx.note(Kind.SWITCH_INTENT, text, by, **facts)
    tx.change(PowerSwitches, switched_at={**tx.live.power_switches.switched_at, run: tx.now})
    forget(tx, host)
    # safety: the intent is durable first; `off` only after the operator's name and force were judged in this pass.
    address = "" if forced else tx.record.address_of(host)
    tx.do(PowerOn(host, device, run, ran) if on else PowerOff(host, device, run, ran, address=address))


def _result(tx: Transaction, host: HostId, text: str, *, claim: bool, certain: bool, over: bool = False) -> None:
    """``over``: the devices that are left are not switched any more."""
    switch = tx.record.after.switches[host]
    facts = {"host": host, "device": switch.device, "on": switch.on, "claim": claim, "certain": certain, "over": over}
    tx.note(Kind.SWITCH_RESULT, text, **facts)
    forget(tx, host)  # what was read before the switch is another power
    if switch.on and claim and not switch.left:
        _woken(tx, host)


def _woken(tx: Transaction, host: HostId) -> None:
    if any(item.what is OwedWork.WAKE and item.host == host for item in tx.record.owed):
        text = f"{tx.name(host)} was powered on again: it boots into its gate"
        tx.note(Kind.OWED_DONE, text, host=host, what=OwedWork.WAKE.value)


def _landed_at(pool: Snapshot, host: HostId, device: str, run: str) -> Ms:
    """When nothing of this run can land any more; after a restart counted from the start, as nothing is known."""
    return pool.live.power_switches.switched_at.get(run, pool.site.started_at) + landed_after(named(pool, host, device))


def _first_level(pool: Snapshot, host: HostId) -> tuple[str, ...]:
    """The devices to switch: all of the lowest level in which none is quarantined."""
    for level in levels(pool, host):
        if not any(device.name in pool.record.devices.quarantined for device in level):
            return tuple(device.name for device in level)
    return ()


# ------------------------------------------------------------------------------------------------ waking


def _wakes(pool: Snapshot, failover: Failover) -> bool:
    host, boot = failover.old_master, failover.old_boot
    if not pool.policy.wake_fenced or failover.step is not Step.CLOSED or not failover.fencing.attempts:
        return False
    if failover.proof is None or not failover.proof.kind.permits_declare_dead or pool.heard(host) is not None:
        return False
    known, dead = pool.record.hosts.get(host), pool.record.after.dead.get(host)
    told = not pool.policy.declare_dead or (dead is not None and dead.boot_id == boot and dead.declared)
    fresh = pool.record.after.woken.get(host, ("", 0))[0] != boot
    return known is not None and known.boot_id == boot and told and fresh and bool(_first_level(pool, host))


def _unresolved(pool: Snapshot, host: HostId) -> bool:
    """May an `off` of this host still land?"""
    if host in pool.record.after.switches:
        return True
    failover = pool.record.failover
    if failover is None or failover.old_master != host or failover.fencing.pending is None:
        return False
    name, run = failover.fencing.pending
    ours = order_ids.parse(run).made_for("off", pool.site.epoch) and pool.live.power_off.begun_at
    since = pool.live.power_off.begun_at if ours else pool.site.started_at
    return pool.now - since < landed_after(named(pool, host, name)) + pool.policy.reading_fresh


def _fresh(pool: Snapshot, host: HostId) -> bool:
    newest = view(pool, host).newest_at
    return bool(newest) and pool.now - newest <= pool.policy.reading_fresh


def _give_up(tx: Transaction, host: HostId) -> None:
    name = tx.name(host)
    text = f"{name} was powered on {WAKE_TRIES} times and still reads OFF"
    tx.note(Kind.OWED_DONE, text, host=host, what=OwedWork.WAKE.value)
    body = f"{text}. Look at it, then: poolwarden fence on {name}"
    tx.raise_alert(AlertTopic(Matter.ASLEEP, host), ASLEEP, body, {"name": name, "times": str(WAKE_TRIES)})


# ------------------------------------------------------------------------------------------------ at a word


def command_on(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence on HOST``: it boots into its gate."""
    no = _cannot(tx, said.host)
    if no is not None:
        return no
    if tx.failover is not None and tx.failover.old_master == said.host:
        return Refused("failover-open", f"failover {tx.failover.id} decides about {tx.name(said.host)}: it is left off")
    return _order(tx, said, on=True)


def command_off(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence off HOST``: kills whatever runs there."""
    host, name, typed = said.host, tx.name(said.host), said.arg("typed_name")
    if typed not in (name, host):
        return Refused("name-differs", f"typed {typed!r}, the host's name is {name!r}", "Type the host's name exactly.")
    no = _cannot(tx, host)
    if no is not None:
        return no
    if tx.failover is not None and tx.failover.old_master == host:
        step = f"poolwarden approve {tx.failover.id} --shoot"
        return Refused("failover-open", f"failover {tx.failover.id} decides about {name}", step)
    why = _against(tx, host, verdict)
    if why and said.arg("force") != "yes":
        return Refused("needs-force", why, f"If that is meant: poolwarden fence off {name} --force")
    return _order(tx, said, on=False, forced=said.arg("force") == "yes")


def _against(pool: Snapshot, host: HostId, verdict: Verdict) -> str:
    """What makes switching this host off so dangerous that it needs force; empty: nothing."""
    if lives := _lives(pool, host):
        return lives
    if verdict is Verdict.HA_MANAGED:
        return "xapi's HA is armed: it judges by itself which host is dead"
    unbound = [x for x in _first_level(pool, host) if not is_bound(pool, x, host)]
    if unbound:
        return f"{why_unbound(pool, unbound[0], host)}: it may switch another machine"
    return ""


def _lives(pool: Snapshot, host: HostId) -> str:
    agent = pool.heard(host)
    if agent is None and silence_of(pool, host) >= LIVE_REPORT_MS:
        return ""
    count = len(agent.facts.domains or ()) if agent is not None else 0
    return f"{pool.name(host)} lives: its agent streams" + (f" and {count} domains run there" if count else "")


def _filled(pool: Snapshot, host: HostId) -> str:
    """Why a drill does not switch the next device off: VMs run there by now, or nobody tells. Empty: nothing runs."""
    drill, agent = pool.record.drill, pool.heard(host)
    if drill is None or drill.in_phase(Phase.OFF) != host:
        return ""
    # safety: the word was for a host on which nothing runs. A silent one may have been filled since, at a long restart
    # of this collector: that is no sign that it is off, and its machine lives on by the device that is left.
    if agent is None or agent.facts.domains is None:
        return "what runs there is not told now"
    return f"{len(agent.facts.domains)} domains run there now" if agent.facts.domains else ""


def drill_refusal(pool: Snapshot, host: HostId) -> Refused | None:
    """Why a drill must not switch this host off by its devices; whether anything runs there is asked beside it."""
    no = _cannot(pool, host)
    if no is not None:
        return no
    if pool.failover is not None:
        return Refused("failover-open", f"failover {pool.failover.id} is open", "poolwarden explain POOL")
    # safety: an unbound device may switch another machine, on which VMs run.
    unbound = [device for device in _first_level(pool, host) if not is_bound(pool, device, host)]
    if unbound:
        why = f"{why_unbound(pool, unbound[0], host)}: it may switch another machine"
        return Refused("unbound", why, f"poolwarden fence status {pool.name(host)}")
    return None


def drill_off(tx: Transaction, host: HostId, by: str) -> None:
    """Switch a host off that lives, and on which nothing runs. The caller has asked ``drill_refusal`` in this pass."""
    _begin(tx, host, False, by, _first_level(tx, host), forced=True)


def drill_on(tx: Transaction, host: HostId, by: str, boot_id: str) -> None:
    """Switch a host on that a drill has switched off, now if that can be, and owe it until it has power."""
    name = tx.name(host)
    if tx.heard(host) is None and not any(item.host == host and item.what is OwedWork.WAKE for item in tx.record.owed):
        text = f"{name} was powered off by a drill and is to be powered on again"
        tx.note(Kind.OWED, text, host=host, what=OwedWork.WAKE.value, successor=tx.record.master, boot_id=boot_id)
    if tx.failover is None and _cannot(tx, host) is None:
        _begin(tx, host, True, by, _first_level(tx, host))


def _cannot(pool: Snapshot, host: HostId) -> Refused | None:
    name = pool.name(host)
    if not pool.all_devices(host):
        return Refused("no-device", f"{name} has no fence device", "Give it one in collector.toml, see docs/fencing.md")
    if not _first_level(pool, host):
        return Refused("quarantined", f"every level of {name} has a quarantined device", "Correct it in collector.toml")
    if host in pool.record.after.switches or _unresolved(pool, host):
        return Refused("busy", f"a switch of {name} has no certain result yet", f"poolwarden fence status {name}")
    if why := deposed(pool) or takeover.power_refusal(pool):
        return Refused("held", why.text, "" if deposed(pool) else "Order it again when that is over.")
    first = named(pool, host, _first_level(pool, host)[0])
    by = runner(pool, first) if first is not None else None
    return (
        Refused("no-member", by.why, "See docs/fencing.md, devices that members run")
        if isinstance(by, Unable)
        else None
    )


def _order(tx: Transaction, said: OperatorSaid, *, on: bool, forced: bool = False) -> str:
    name, devices = tx.name(said.host), _first_level(tx, said.host)
    _begin(tx, said.host, on, said.actor, devices, forced)
    word = "on" if on else "off"
    return f"powering {name} {word} by {', '.join(devices)}; poolwarden fence test {name} reads it back"


def test_limit(devices: Iterable[FenceDevice]) -> Ms:
    """How long ``fence test`` waits for these devices: as long as the slowest may take, run and hard end."""
    ends = (each.hard_limit_ms + _ENDING_MS + (VALID_MS if each.via_members else 0) for each in devices)
    return max([TEST_MS, *ends])


def command_test(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence test HOST``: read every device anew; empty while the readings are awaited."""
    host, name = said.host, tx.name(said.host)
    if not tx.all_devices(host):
        return _cannot(tx, host) or Refused("no-device", f"{name} has no fence device")
    texts = []
    for device in tx.all_devices(host):
        state = tx.live.power.get(device.name)
        newest = state.newest if state is not None else None
        asked_at = int(said.arg("asked_at") or tx.now)
        if newest is None or (state is not None and state.running) or newest.started_at < asked_at - TEST_MS:
            asked = said if said.arg("asked_at") else replace(said, args=(*said.args, ("asked_at", str(tx.now))))
            waiting_commands.wait(tx, asked, test_limit(tx.all_devices(host)))
            return ""
        took = (newest.status_ms or newest.ended_at - newest.started_at) / 1000
        held = device.name in tx.record.devices.quarantined
        bound = "quarantined" if held else "bound" if is_bound(tx, device.name, host) else "not bound"
        said_why = f" ({newest.text})" if newest.power is Power.UNKNOWN else ""
        texts.append(f"{device.name} reads {newest.power.value.upper()} in {took:.1f} s, {bound}{said_why}")
    return f"{name}: {'; '.join(texts)}"


def test_too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """The readings did not come in time."""
    within = test_limit(pool.all_devices(said.host)) // 1000
    step = f"poolwarden fence status {pool.name(said.host)}"
    return Refused("no-reading", f"the power of {pool.name(said.host)} was not read in {within} s", step)
