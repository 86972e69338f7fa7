"""Another policy and other fence devices for a pool that goes on being guarded: the configuration was read again.

Rules
-----
* From this instant on the pool is judged as after a restart with the new configuration, also in the middle of a
  failover; what was heard of the hosts stays heard, for it is no matter of settings.
* What was read of a device says nothing of another one. A device that is configured otherwise in any way, or is gone,
  has no readings, no identity and no reading under way any more; its bond, attestation and quarantine are of its block,
  as at a restart (devices/device_binding.py).
* A power switch keeps the device that it was begun with: while one is under way or may still land, a configuration that
  changes or removes its device is refused. Else the name would stand for another machine when the switch has its turn,
  and its hard limit, for which it is waited, for another time.
* The entry is journaled before anything of it holds. It changes nothing that is durable: a restart reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from poolwarden_collector.core import intake
from poolwarden_collector.core.devices import device_health, device_states
from poolwarden_collector.core.engine import StepResult
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.transaction import Transaction

DevicesOf = Mapping[HostId, tuple[FenceDevice, ...]]


def changed_devices(before: DevicesOf, after: DevicesOf) -> frozenset[str]:
    """The devices of ``before`` that are another one in ``after``, or none, by name."""
    kept = {device for devices in after.values() for device in devices}
    return frozenset(device.name for devices in before.values() for device in devices if device not in kept)


def switching(pool: Pool) -> dict[str, HostId]:
    """The devices of which a power switch is under way, or may still land, each with the host that it switches."""
    record = pool.record
    found = {name: host for host, switch in record.after.switches.items() for name in (switch.device, *switch.left)}
    if record.failover is not None and record.failover.fencing.pending is not None:
        found[record.failover.fencing.pending[0]] = record.failover.old_master
    return found


def reconfigured(
    pool: Pool,
    policy: Policy,
    devices: dict[HostId, tuple[FenceDevice, ...]],
    now: Ms,
    site: Site,
    *,
    text: str = "",
    actor: str = "poolwarden",
    data: Mapping[str, Any] | None = None,
) -> StepResult:
    """The pool with these, and the entry that says so; no entry where ``text`` is empty. ``switching`` was asked."""
    changed = changed_devices(pool.devices, devices)
    tx = Transaction(replace(pool, policy=policy, devices=devices), now, site)
    # safety: a reading of the machine that this name stood for before must never count for the one it stands for now.
    device_states.forget(tx, changed)
    if not policy.collector_probe:
        intake.forget_own_probe(tx)
    device_health.judge_soon(tx)
    if text:
        tx.note(Kind.CONFIGURED, text, actor, **(data or {}))
    return StepResult(tx.pool, tuple(tx.entries))
