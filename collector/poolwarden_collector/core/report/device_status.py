"""A host's fence devices as an operator sees them: what each last read, by what it is bound, what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.devices.device_binding import show
from poolwarden_collector.core.devices.device_health import complaint
from poolwarden_collector.core.devices.power_view import is_bound
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One fence device. ``state``: bound, unbound or quarantined; ``grounds``: by what it is bound, if it is."""

    name: str
    level: int
    power: str
    read: bool  # was it read in this run of the collector?
    age_ms: int
    state: str
    grounds: str
    says: str
    trouble: str
    text: str
    step: str
    limit_ms: int


def devices(pool: Snapshot, host: HostId) -> tuple[DeviceStatus, ...]:
    """Every configured device of the host, the lowest level first."""
    return tuple(_device(pool, host, each) for each in pool.all_devices(host))


def _device(pool: Snapshot, host: HostId, device: FenceDevice) -> DeviceStatus:
    state, found = pool.live.power.get(device.name, PowerState()), complaint(pool, host, device)
    newest, bond = state.newest, pool.record.devices.bonds.get(device.name)
    held, bound = device.name in pool.record.devices.quarantined, is_bound(pool, device.name, host)
    return DeviceStatus(
        name=device.name,
        level=device.level,
        power=(newest.power if newest is not None else Power.UNKNOWN).value,
        read=newest is not None,
        age_ms=pool.now - newest.ended_at if newest is not None else 0,
        state="quarantined" if held else "bound" if bound else "unbound",
        grounds=bond.by if bond is not None and bound else "",
        says=show(state.said) if state.said else "",
        trouble=found.code if found is not None else "",
        text=found.why if found is not None else "",
        step=found.step if found is not None else "",
        limit_ms=device.hard_limit_ms,
    )
