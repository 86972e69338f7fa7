"""Power switched outside of a failover: an operator's `on` and `off`, and the waking of a master that was powered off.

Rules
-----
* Intent before, result after, one device at a time, every device of the host's first level. A run that was cut off may
  still land: nothing more is switched on that host before its hard limit and 10 s have passed.
* While a switch of a host has no result, its power proves nothing (proof.py).
* An operator's `off` without force ends before its next device where the host has come alive, and a member that runs it
  probes it once more; with force it is his to say.
* I7: `off` of a host that lives, of a device that is not bound to it, or under an armed HA needs the operator's force,
  and always the host's name typed out. What a failover decides about is not switched beside it.
* Waking is owed only if the policy says so, only for a master that Poolwarden itself powered off, after xapi was told
  that it is dead (where that is owed), and never while any `off` has no certain result. It boots into its gate: its
  tombstone is owed as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.devices.device_runner import VALID_MS, as_data, landed_after, named, phrase, runner
from poolwarden_collector.core.devices.power_view import is_bound, levels, view, why_unbound
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
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover, Step
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

WAKE_AGAIN_MS: Ms = 600_000
WAKE_TRIES = 3
_ENDING_MS: Ms = 4_000  # how long after its hard limit a run has ended at the latest (shell/fencing/agent_run.py)
TEST_MS: Ms = 8_000  # a reading that is this young when it is asked for is an answer


def advance(d: Transaction) -> None:
    """Switch the next device, and let go of runs whose result never came."""
    for host, switch in d.record.after.switches.items():
        if switch.run and d.now >= _landed_at(d, host, switch.device, switch.run):
            text = f"the power-{switch.word} of {d.name(host)} by {switch.device} has no certain result"
            _result(d, host, text, claim=False, certain=False)
        elif not switch.run:
            if not switch.on and not switch.forced and (why := _lives(d, host)):
                # safety: nobody has said that it may be switched off while it lives; it did not when this was begun.
                _result(d, host, f"powering {d.name(host)} off ends here: {why}", claim=False, certain=True, over=True)
                continue
            _begin(d, host, switch.on, switch.by, switch.left, switch.forced)


def power_on_fenced(d: Transaction) -> None:
    """Owe it after a failover; do it when nothing stands against it."""
    failover = d.record.failover
    if failover is None or failover.open:
        return
    if _wakes(d, failover):
        host = failover.old_master
        text = f"{d.name(host)} was powered off by Poolwarden and is to be powered on again (policy wake_fenced)"
        d.note(
            Kind.OWED,
            text,
            host=host,
            what=OwedWork.WAKE.value,
            successor=failover.candidate,
            boot_id=failover.old_boot,
        )
    for item in d.record.owed:
        if item.what is OwedWork.WAKE:
            _wake(d, item.host)


def _wake(d: Transaction, host: HostId) -> None:
    """Whatever failover it is owed after: a newer one takes nothing of it away."""
    power = view(d, host).power
    if d.heard(host) is not None or (power is Power.ON and not _unresolved(d, host)):
        d.note(Kind.OWED_DONE, f"{d.name(host)} has power: it need not be woken", host=host, what=OwedWork.WAKE.value)
    elif wants_reading(d, host) and power is Power.OFF and _fresh(d, host):
        d.change(wake_again={**d.live.wake_again, host: d.now + WAKE_AGAIN_MS})
        if d.record.after.woken.get(host, ("", 0))[1] >= WAKE_TRIES:
            _give_up(d, host)
        else:
            # safety: two levels of "off" may be unresolved, an operator's and a failover's: wants_reading asked both.
            _begin(d, host, True, "poolwarden", _first_level(d, host))


def wants_reading(d: Snapshot, host: HostId) -> bool:
    """Is this host's power to be read now, for its waking or for an operator's test?"""
    if tested(d, host):
        return True
    owed = any(item.what is OwedWork.WAKE and item.host == host for item in d.record.owed)
    if not owed or d.failover is not None or d.record.paused is not None or d.quiet or _unresolved(d, host):
        return False
    return host not in d.record.after.switches and d.now >= d.live.wake_again.get(host, 0)


def tested(d: Snapshot, host: HostId) -> bool:
    """Does an operator wait for a reading of this host's devices?"""
    return any(said.verb == "fence-test" and said.host == host for said, _ in d.live.pending)


def ended(d: Transaction, event: FenceEnded) -> bool:
    """A run of the fencer ended: is it one of these? An uncertain end is no result; it is waited out."""
    switch = d.record.after.switches.get(event.host)
    if switch is None or switch.run != event.run_id:
        return False
    if event.certain:
        word = "claims success" if event.claim else "failed" if event.begun else "did not happen"
        text = f"the power-{switch.word} of {d.name(event.host)} by {switch.device} {word}: {event.text}"
        _result(d, event.host, text, claim=event.claim, certain=True)
    return True


# ------------------------------------------------------------------------------------------------ one switch


def _begin(d: Transaction, host: HostId, on: bool, by: str, devices: tuple[str, ...], forced: bool = False) -> None:
    device, left = devices[0], devices[1:]
    word = "on" if on else "off"
    run = d.fresh_id(word)
    block = named(d, host, device)
    ran = runner(d, block) if block is not None else None
    asked = "" if by == "poolwarden" else f", asked by {by}"
    text = f"powering {d.name(host)} {word} by {device}{phrase(d, ran)}{asked}"
    boot = d.record.hosts[host].boot_id if host in d.record.hosts else ""
    facts = {"host": host, "device": device, "run": run, "on": on, "by": by, "left": list(left), "boot_id": boot}
    facts["forced"] = forced
    facts |= as_data(ran)
    d.note(Kind.SWITCH_INTENT, text, by, **facts)
    d.change(switched_at={**d.live.switched_at, run: d.now})
    forget(d, host)
    # safety: the intent is durable first; `off` only after the operator's name and force were judged in this pass.
    address = "" if forced else d.record.address_of(host)
    d.do(PowerOn(host, device, run, ran) if on else PowerOff(host, device, run, ran, address=address))


def _result(d: Transaction, host: HostId, text: str, *, claim: bool, certain: bool, over: bool = False) -> None:
    """``over``: the devices that are left are not switched any more."""
    switch = d.record.after.switches[host]
    facts = {"host": host, "device": switch.device, "on": switch.on, "claim": claim, "certain": certain, "over": over}
    d.note(Kind.SWITCH_RESULT, text, **facts)
    forget(d, host)  # what was read before the switch is another power
    if switch.on and claim and not switch.left:
        _woken(d, host)


def _woken(d: Transaction, host: HostId) -> None:
    if any(item.what is OwedWork.WAKE and item.host == host for item in d.record.owed):
        text = f"{d.name(host)} was powered on again: it boots into its gate"
        d.note(Kind.OWED_DONE, text, host=host, what=OwedWork.WAKE.value)


def _landed_at(d: Snapshot, host: HostId, device: str, run: str) -> Ms:
    """When nothing of this run can land any more; after a restart counted from the start, as nothing is known."""
    return d.live.switched_at.get(run, d.site.started_at) + landed_after(named(d, host, device))


def _first_level(d: Snapshot, host: HostId) -> tuple[str, ...]:
    """The devices to switch: all of the lowest level in which none is quarantined."""
    for level in levels(d, host):
        if not any(device.name in d.record.devices.quarantined for device in level):
            return tuple(device.name for device in level)
    return ()


# ------------------------------------------------------------------------------------------------ waking


def _wakes(d: Snapshot, failover: Failover) -> bool:
    host, boot = failover.old_master, failover.old_boot
    if not d.policy.wake_fenced or failover.step is not Step.CLOSED or not failover.fence_attempts:
        return False
    if failover.proof is None or not failover.proof.kind.permits_declare_dead or d.heard(host) is not None:
        return False
    known, dead = d.record.hosts.get(host), d.record.after.dead.get(host)
    told = not d.policy.declare_dead or (dead is not None and dead.boot_id == boot and dead.declared)
    fresh = d.record.after.woken.get(host, ("", 0))[0] != boot
    return known is not None and known.boot_id == boot and told and fresh and bool(_first_level(d, host))


def _unresolved(d: Snapshot, host: HostId) -> bool:
    """May an `off` of this host still land?"""
    if host in d.record.after.switches:
        return True
    failover = d.record.failover
    if failover is None or failover.old_master != host or failover.fence_pending is None:
        return False
    name, run = failover.fence_pending
    ours = order_ids.parse(run).made_for("off", d.site.epoch) and d.live.fence_since
    since = d.live.fence_since if ours else d.site.started_at
    return d.now - since < landed_after(named(d, host, name)) + d.policy.reading_fresh


def _fresh(d: Snapshot, host: HostId) -> bool:
    newest = view(d, host).newest_at
    return bool(newest) and d.now - newest <= d.policy.reading_fresh


def _give_up(d: Transaction, host: HostId) -> None:
    name, pool = d.name(host), d.record.name or d.record.pool
    text = f"{name} was powered on {WAKE_TRIES} times and still reads OFF"
    d.note(Kind.OWED_DONE, text, host=host, what=OwedWork.WAKE.value)
    body = f"{text}. Look at it, then: poolwarden fence on {name}"
    d.raise_alert(AlertTopic(Matter.ASLEEP, host), "warning", f"{pool}: {name} does not come on", body)


# ------------------------------------------------------------------------------------------------ at a word


def command_on(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence on HOST``: it boots into its gate."""
    no = _cannot(d, said.host)
    if no is not None:
        return no
    if d.failover is not None and d.failover.old_master == said.host:
        return Refused("failover-open", f"failover {d.failover.id} decides about {d.name(said.host)}: it is left off")
    return _order(d, said, on=True)


def command_off(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence off HOST``: kills whatever runs there."""
    host, name, typed = said.host, d.name(said.host), said.arg("typed_name")
    if typed not in (name, host):
        return Refused("name-differs", f"typed {typed!r}, the host's name is {name!r}", "Type the host's name exactly.")
    no = _cannot(d, host)
    if no is not None:
        return no
    if d.failover is not None and d.failover.old_master == host:
        step = f"poolwarden approve {d.failover.id} --shoot"
        return Refused("failover-open", f"failover {d.failover.id} decides about {name}", step)
    why = _against(d, host, verdict)
    if why and said.arg("force") != "yes":
        return Refused("needs-force", why, f"If that is meant: poolwarden fence off {name} --force")
    return _order(d, said, on=False, forced=said.arg("force") == "yes")


def _against(d: Snapshot, host: HostId, verdict: Verdict) -> str:
    """What makes switching this host off so dangerous that it needs force; empty: nothing."""
    if lives := _lives(d, host):
        return lives
    if verdict is Verdict.HA_MANAGED:
        return "xapi's HA is armed: it judges by itself which host is dead"
    unbound = [x for x in _first_level(d, host) if not is_bound(d, x, host)]
    if unbound:
        return f"{why_unbound(d, unbound[0], host)}: it may switch another machine"
    return ""


def _lives(d: Snapshot, host: HostId) -> str:
    agent = d.heard(host)
    if agent is None and silence_of(d, host) >= LIVE_REPORT_MS:
        return ""
    count = len(agent.facts.domains or ()) if agent is not None else 0
    return f"{d.name(host)} lives: its agent streams" + (f" and {count} domains run there" if count else "")


def _cannot(d: Snapshot, host: HostId) -> Refused | None:
    name = d.name(host)
    if not d.pool.devices.get(host):
        return Refused("no-device", f"{name} has no fence device", "Give it one in collector.toml, see docs/fencing.md")
    if not _first_level(d, host):
        return Refused("quarantined", f"every level of {name} has a quarantined device", "Correct it in collector.toml")
    if host in d.record.after.switches or _unresolved(d, host):
        return Refused("busy", f"a switch of {name} has no certain result yet", f"poolwarden fence status {name}")
    if why := deposed(d):
        return Refused("held", why.text)
    first = named(d, host, _first_level(d, host)[0])
    by = runner(d, first) if first is not None else None
    return (
        Refused("no-member", by.why, "See docs/fencing.md, devices that members run")
        if isinstance(by, Unable)
        else None
    )


def _order(d: Transaction, said: OperatorSaid, *, on: bool, forced: bool = False) -> str:
    name, devices = d.name(said.host), _first_level(d, said.host)
    _begin(d, said.host, on, said.actor, devices, forced)
    word = "on" if on else "off"
    return f"powering {name} {word} by {', '.join(devices)}; poolwarden fence test {name} reads it back"


def test_limit(devices: Iterable[FenceDevice]) -> Ms:
    """How long ``fence test`` waits for these devices: as long as the slowest may take, run and hard end."""
    ends = (each.hard_limit_ms + _ENDING_MS + (VALID_MS if each.via_members else 0) for each in devices)
    return max([TEST_MS, *ends])


def command_test(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence test HOST``: read every device anew; empty while the readings are awaited."""
    host, name = said.host, d.name(said.host)
    if not d.pool.devices.get(host):
        return _cannot(d, host) or Refused("no-device", f"{name} has no fence device")
    texts = []
    for device in d.pool.devices.get(host, ()):
        state = d.live.power.get(device.name)
        newest = state.newest if state is not None else None
        asked_at = int(said.arg("asked_at") or d.now)
        if newest is None or (state is not None and state.running) or newest.started_at < asked_at - TEST_MS:
            asked = said if said.arg("asked_at") else replace(said, args=(*said.args, ("asked_at", str(d.now))))
            d.change(pending=(*d.live.pending, (asked, d.now + test_limit(d.pool.devices[host]))))
            return ""
        took = (newest.status_ms or newest.ended_at - newest.started_at) / 1000
        held = device.name in d.record.devices.quarantined
        bound = "quarantined" if held else "bound" if is_bound(d, device.name, host) else "not bound"
        said_why = f" ({newest.text})" if newest.power is Power.UNKNOWN else ""
        texts.append(f"{device.name} reads {newest.power.value.upper()} in {took:.1f} s, {bound}{said_why}")
    return f"{name}: {'; '.join(texts)}"


def test_too_late(d: Snapshot, said: OperatorSaid) -> Refused:
    """The readings did not come in time."""
    within = test_limit(d.pool.devices.get(said.host, ())) // 1000
    step = f"poolwarden fence status {d.name(said.host)}"
    return Refused("no-reading", f"the power of {d.name(said.host)} was not read in {within} s", step)
