"""A master that is gone: read its power, then decide or ask.

Reading the power harms nobody and is done before anything is decided. OFF needs no patience; ON asks a person. Where
nobody is master by every host's word, the newest database is promoted. A master that its members do not reach is left
alone, unless the policy has it relocated by a toolstack fence.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core import failover as machine
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import reason_key
from poolwarden_collector.core.evidence import silence_of, suspected
from poolwarden_collector.core.facts import HostId, Ms, Power
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.live import PowerState
from poolwarden_collector.core.orders import ReadPower
from poolwarden_collector.core.permission import (
    boot_grace,
    hold_refusal,
    may_begin,
    may_begin_again,
    own_standing,
    patience,
    standing_refusal,
)
from poolwarden_collector.core.power import counting, view
from poolwarden_collector.core.record import REVERSIBLE, Path, Step
from poolwarden_collector.core.verdict import Verdict

HEALTH_READING_MS: Ms = 600_000
UNKNOWN_RETRY_MS: Ms = 15_000
STEADY_READING_MS: Ms = 4_000


# ------------------------------------------------------------------------------------------------ power


def watch_power(d: Draft, verdict: Verdict) -> None:
    """Start the readings that are due: a suspect's often, a living host's now and then (which binds the device)."""
    master = suspected(d)
    for host in d.pool.devices:
        matters = _power_matters(d, verdict, master)
        # A silent member's VMs count in the forecast unless its power reads OFF: that is read as well.
        urgent = matters and (host == master or (d.failover is not None and d.heard(host) is None))
        for device in d.devices(host):
            state = d.live.power.get(device.name, PowerState())
            if state.running and d.now - state.started_at < device.hard_limit_ms + 10_000:
                continue
            due = _next_reading(d, host, device.name, state, urgent)
            if due is not None and d.now >= due:
                run = d.fresh_id("status")
                started = replace(state, running=run, started_at=d.now, device=device.name)
                d.change(power={**d.live.power, device.name: started})
                d.do(ReadPower(host, device.name, run))


def _power_matters(d: Draft, verdict: Verdict, master: HostId) -> bool:
    if verdict in (Verdict.HA_MANAGED, Verdict.COLLECTOR_BLIND, Verdict.POOL_DARK, Verdict.TWO_MASTERS):
        return False
    failover = d.failover
    if failover is not None and (failover.step in REVERSIBLE or failover.step is Step.PROMOTING):
        return True
    silent = d.heard(master) is None and silence_of(d, master) >= d.policy.vanished_after
    return silent and verdict in (Verdict.VANISHED, Verdict.UNWITNESSED, Verdict.SUSPECT)


def _next_reading(d: Draft, host: HostId, device: str, state: PowerState, urgent: bool) -> Ms | None:
    """When this device is to be read next; None: not at all."""
    if not urgent:
        return _next_health(d, host, device, state)
    readings = counting(d, device)
    if not readings:
        return 0
    last = readings[-1]
    if last.started_at < d.live.fenced_at:
        return 0
    if last.power is Power.OFF:
        off = sum(1 for reading in readings if reading.power is Power.OFF)
        return last.ended_at + (d.policy.reading_gap if off < 2 else STEADY_READING_MS)
    if last.power is Power.ON:
        return last.ended_at + d.policy.reading_retry
    known = len(readings) >= d.policy.unknown_readings
    return last.ended_at + (UNKNOWN_RETRY_MS if known else 1_000)


def _next_health(d: Draft, host: HostId, device: str, state: PowerState) -> Ms | None:
    agent = d.heard(host)
    if agent is None:
        return None
    last = state.newest
    bound = d.record.bound.get(device) == agent.hello.boot_id
    if last is None:
        return 0
    return last.ended_at + (HEALTH_READING_MS if bound else UNKNOWN_RETRY_MS)


# ------------------------------------------------------------------------------------------------ decide or ask


def succeed(d: Draft, verdict: Verdict) -> None:
    """MasterVanished: decide at once on OFF, when no reading can be had, or after patience by policy; else ask."""
    if d.failover is not None or verdict is not Verdict.VANISHED:
        _withdraw(d, verdict)
        return
    if d.quiet:
        return
    refusal = may_begin(d, verdict)
    if refusal:
        _ask(d, f"no failover: {refusal}", refused=True)
        return
    master = suspected(d)
    power = view(d, master)
    if power.power is Power.OFF:
        machine.decide(d, power.why)
    elif grace := boot_grace(d):
        _ask(d, f"no failover: {grace}; {power.why}", refused=True)
    elif power.power is Power.UNKNOWN:
        if machine.exhausted(d, master):
            machine.decide(d, power.why)
    elif silence_of(d, master) >= patience(d, master):
        if d.policy.auto_fence_running:
            machine.decide(d, f"{power.why}, and patience is over")
        else:
            _ask(d, f"{power.why}: {running_vms(d, master)}; nobody is shot by default", refused=False)


def without_master(d: Draft, verdict: Verdict) -> None:
    """NoMaster: promote the newest database, once every host on record is heard; else say who is missing."""
    if d.failover is not None or verdict is not Verdict.NO_MASTER or d.quiet:
        return
    refusal = standing_refusal(d)
    missing = [d.name(host) for host in sorted(d.record.hosts, key=d.name) if not d.heard(host)]
    if not refusal and missing:
        refusal = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not heard and may be the master"
    if refusal:
        title = f"{d.record.name or d.record.pool}: no host serves as master, and none is promoted"
        question(d, "refused", refusal, f"no host serves as master, and none is promoted: {refusal}", title)
    elif not may_begin_again(d):
        machine.decide(d, "all hosts of the pool are heard and none is master", Path.ROLES)


def relocate(d: Draft, verdict: Verdict) -> None:
    """PoolSplit: by policy, hold the toolstack of the master that its members do not reach, and promote one of them."""
    if d.failover is not None or verdict is not Verdict.POOL_SPLIT or d.quiet or not d.policy.relocate_split:
        return
    if d.now - d.live.verdict_since < patience(d, suspected(d)):
        return
    refusal = hold_refusal(d, verdict)
    if not refusal and not own_standing(d):
        refusal = "the collector's own probe has not reached its xapi: nobody could see its port closed"
    if refusal:
        name = d.name(suspected(d))
        title = f"{d.record.name or d.record.pool}: master {name} is cut off from its members and is not relocated"
        question(d, "refused", refusal, f"{name} is cut off from its members and is not relocated: {refusal}", title)
    else:
        machine.decide(d, "its members do not reach it, and the policy has it relocated", Path.TOOLSTACK)


def running_vms(d: Draft, host: HostId) -> str:
    """How many VMs were last seen running there, in words."""
    agent = d.agent(host)
    if agent is None or agent.facts.domains is None:
        return "how many VMs run there is not known"
    count = len(agent.facts.domains)
    return f"{count} VM{'s' if count != 1 else ''} {'were' if count != 1 else 'was'} last seen running there"


def _ask(d: Draft, what: str, refused: bool) -> None:
    name = d.name(suspected(d))
    step = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}"
    title = f"{d.record.name or d.record.pool}: master {name} has vanished, and nothing is promoted"
    question(d, "refused" if refused else "question", what, f"{name}: {what}. {step}", title)


def question(d: Draft, topic: str, what: str, text: str, title: str) -> None:
    """Ask once per reason; a new reason takes the place of the old one, in the journal and in the alerts."""
    asked = f"{topic}/{reason_key(what)}"
    if d.live.asked == asked:
        return
    _no_longer_asked(d, "the reason has changed")
    d.change(asked=asked)
    d.note(Kind.ASKED, text, host=suspected(d), what=what)
    old = d.name(suspected(d))
    d.raise_alert(f"incident-{d.record.incidents}/{asked}", "critical", title, text, old_master=old)


def _no_longer_asked(d: Draft, text: str) -> None:
    for topic in ("refused", "question", "restart"):
        for key in d.record.open_alerts:
            if f"/incident-{d.record.incidents}/{topic}/" in key:
                d.resolve_alert(key, text)


def _withdraw(d: Draft, verdict: Verdict) -> None:
    """The verdict that the question was asked for is over."""
    restart = d.live.asked.startswith("restart/")
    still = (Verdict.XAPI_HUNG, Verdict.XAPI_DOWN) if restart else (Verdict.VANISHED,)
    if not d.live.asked or verdict in (*still, Verdict.SUSPECT, Verdict.NO_MASTER, Verdict.POOL_SPLIT):
        return
    d.change(asked="")
    _no_longer_asked(d, f"the pool is {verdict.word} now")
    if d.failover is None:
        d.note(Kind.WITHDRAWN, f"the question is withdrawn: the pool is {verdict.word} now")
