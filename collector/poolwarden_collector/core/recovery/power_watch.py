"""Which fence device is read when: seldom by day, at once where a reading can decide something."""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.devices import device_health, device_runner, device_states
from poolwarden_collector.core.devices.power_view import counting, of_last_owner
from poolwarden_collector.core.evidence import fenced_hosts
from poolwarden_collector.core.evidence.announcements import shutdown_overdue
from poolwarden_collector.core.evidence.signs import silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover.power_off import aimed_at
from poolwarden_collector.core.followups import declare_dead, gc_release, power_switch
from poolwarden_collector.core.model.effects import Hasten, ReadPower, Through, Urgency
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.recovery.boot_gate import waited_for
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Step
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

UNKNOWN_RETRY_MS: Ms = 15_000


STEADY_READING_MS: Ms = 4_000


def watch_power(tx: Transaction, verdict: Verdict) -> None:
    """Start the readings that are due: a suspect's often, a living host's now and then (which binds the device)."""
    master = suspected(tx)
    matters, gated = _power_matters(tx, verdict, master), waited_for(tx)
    overdue = shutdown_overdue(tx)
    for host in tx.record.hosts:  # the configuration's devices are those of all pools
        # A silent member's VMs count in the forecast unless its power reads OFF: that is read as well.
        urgent = matters and (host == master or (tx.failover is not None and tx.heard(host) is None))
        urgent = urgent or declare_dead.wants_reading(tx, host) or power_switch.wants_reading(tx, host)
        urgent = urgent or gc_release.wants_reading(tx, host) or fenced_hosts.wants_reading(tx, host)
        # Is a shutdown that was ordered over?
        urgent = urgent or host == overdue
        # A booting master's gate waits for it: two OFF readings end that.
        urgent = urgent or (tx.heard(host) is None and host in gated)
        for device in tx.all_devices(host):
            state = tx.live.power.get(device.name, PowerState())
            # A quarantined device's word counts nowhere; by day and for a test it is read on, to see if it is mended.
            pressing = urgent and (device.name not in tx.record.devices.quarantined or power_switch.tested(tx, host))
            urgency = _urgency(tx, host, device, master) if pressing else Urgency.ROUTINE
            if state.running and tx.now - state.started_at < device_runner.landed_after(device):
                _hasten(tx, device, state, urgency)
                continue
            if aimed_at(tx, device):
                continue
            due = _next_reading(tx, host, device, state, pressing)
            if due is not None and tx.now >= due:
                run = tx.fresh_id("status")
                by = device_runner.runner(tx, device)
                whose = by.host if isinstance(by, Through) else ""
                started = replace(state, running=run, started_at=tx.now, device=device.name, by=whose, urgency=urgency)
                device_states.put(tx, device.name, started)
                ask = device_health.identify(tx, host, device.name, state)
                tx.do(ReadPower(host, device.name, run, ask, not pressing, by, urgency))


def _hasten(tx: Transaction, device: FenceDevice, state: PowerState, urgency: Urgency) -> None:
    """A reading that waits for its turn may have been ordered when nobody waited for it."""
    if urgency < state.urgency:
        device_states.put(tx, device.name, replace(state, urgency=urgency))
        tx.do(Hasten(state.running, urgency))


def _urgency(pool: Snapshot, host: HostId, device: FenceDevice, master: HostId) -> Urgency:
    """What waits for this reading. A proof does, where the device has read OFF once, or was just switched off."""
    readings, failover = counting(pool, device.name), pool.failover
    if host == master or (failover is not None and host == failover.old_master):
        last = [reading.power is Power.OFF for reading in readings if reading.power is not Power.UNKNOWN][-2:]
        once = last in ([True], [False, True])
        unread = not any(reading.started_at >= pool.live.power_off.ended_at for reading in readings)
        if once or (failover is not None and pool.live.power_off.ended_at and unread):
            return Urgency.PROOF
    return Urgency.SUSPICION if failover is None else Urgency.FAILOVER


def _power_matters(pool: Snapshot, verdict: Verdict, master: HostId) -> bool:
    if verdict in (Verdict.HA_MANAGED, Verdict.COLLECTOR_BLIND, Verdict.POOL_DARK, Verdict.TWO_MASTERS):
        return False
    failover = pool.failover
    if failover is not None and (failover.step in REVERSIBLE or failover.step is Step.PROMOTING):
        return True
    silent = pool.heard(master) is None and silence_of(pool, master) >= pool.policy.vanished_after
    return silent and verdict in (Verdict.VANISHED, Verdict.UNWITNESSED, Verdict.SUSPECT)


def _next_reading(pool: Snapshot, host: HostId, device: FenceDevice, state: PowerState, urgent: bool) -> Ms | None:
    """When this device is to be read next; None: not at all."""
    if not urgent:
        return device_health.next_reading(pool, host, device.name, state)
    readings = counting(pool, device.name)
    if not readings and state.newest is not None and of_last_owner(pool, state.newest.started_at):
        # It proves nothing, and shows people how the power is; what proves something begins when it may.
        assert pool.site.takeover is not None
        return min(state.newest.ended_at + pool.policy.reading_retry, pool.site.takeover.power_over)
    if not readings:
        return 0
    last = readings[-1]
    if last.started_at < pool.live.power_off.ended_at:
        return 0
    if last.power is Power.OFF:
        off = sum(1 for reading in readings if reading.power is Power.OFF)
        return last.ended_at + (pool.policy.reading_gap if off < 2 else STEADY_READING_MS)
    if last.power is Power.ON:
        return last.ended_at + pool.policy.reading_retry
    known = len(readings) >= pool.policy.unknown_readings and not device_runner.untried(pool, device)
    return last.ended_at + (UNKNOWN_RETRY_MS if known else 1_000)
