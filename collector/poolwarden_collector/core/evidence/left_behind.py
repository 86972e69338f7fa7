"""Hosts that earlier failovers left behind: their VMs may still write to the pool's storage."""

from __future__ import annotations

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.fenced_hosts import excused
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot

MAY_STILL_WRITE = (OwedWork.TOMBSTONE, OwedWork.RELEASE)


def writers(pool: Snapshot, spared: tuple[HostId, ...]) -> tuple[HostId, ...]:
    """Hosts whom earlier failovers left behind, not attached yet and not known to be off: their VMs may run on."""
    owed = {item.host for item in pool.record.owed if item.what in MAY_STILL_WRITE and item.host not in spared}
    return tuple(sorted(host for host in owed if not is_off(pool, host)))


def is_off(pool: Snapshot, host: HostId) -> bool:
    return view(pool, host).power is Power.OFF or bool(excused(pool, host))
