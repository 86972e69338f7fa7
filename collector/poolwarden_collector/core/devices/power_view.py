"""What a host's fence devices say together, and which of their readings count.

Rules
-----
* A device counts only if it is *bound* (device_binding.py): it read ON while this boot's agent lived and is known to be
  this machine's. An unbound or quarantined device's OFF may be another machine's.
* Devices of one level feed one host together: ON if any reads ON, OFF only if every one reads OFF, otherwise unknown
  (the truth table of redundant power supplies).
* Levels are asked in order: a higher one (a switched outlet) has a say only while no lower one (the BMC) can tell. An
  outlet that reads ON does not contradict a BMC that reads OFF: a machine can be off at a live outlet.
* A sign of life voids every reading that ended before it.
* A reading that began while a power switch of the pool's last owner could still land counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.devices.device_runner import untried
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class PowerView:
    """A host's power in one value, with the reason where it is not known."""

    power: Power
    why: str
    readings: tuple[PowerReading, ...] = ()
    subjects: tuple[str, ...] = ()  # of an UNKNOWN: the cause in a word, and the devices

    @property
    def newest_at(self) -> Ms:
        return max((reading.ended_at for reading in self.readings), default=0)


def boot_of(pool: Snapshot, host: HostId) -> str:
    """The boot id under which this host was last known."""
    known = pool.record.hosts.get(host)
    return known.boot_id if known else ""


def is_bound(pool: Snapshot, device: str, host: HostId) -> bool:
    """Did it, as configured now, read ON while the agent of this host's last boot lived, and is it its machine's?"""
    boot, bond = boot_of(pool, host), pool.record.devices.bonds.get(device)
    block = block_of(pool, device, host)
    if not boot or bond is None or not bond.by:
        return False
    return (bond.host, bond.boot_id, bond.block) == (host, boot, block)


def block_of(pool: Snapshot, device: str, host: HostId) -> str | None:
    """The digest of the device's present configuration; None: this host has no such device."""
    return next((each.block for each in pool.all_devices(host) if each.name == device), None)


def why_unbound(pool: Snapshot, device: str, host: HostId) -> str:
    """Why a device does not count, in one clause."""
    state = pool.live.power.get(device)
    never = f"{device} never read ON while {pool.name(host)} was seen alive"
    return f"{(state.unbound if state is not None else '') or never}: not bound"


def counting(pool: Snapshot, device: str) -> tuple[PowerReading, ...]:
    """This run's readings of a device that no later sign of life has voided."""
    state = pool.live.power.get(device)
    if state is None:
        return ()
    voided = voided_at(pool, device)
    return tuple(
        each for each in state.readings if each.started_at > voided and not of_last_owner(pool, each.started_at)
    )


def of_last_owner(pool: Snapshot, began: Ms) -> bool:
    """May a power switch of the collector that had this pool before have landed after this instant?"""
    taken = pool.site.takeover
    # safety: of an OFF that began before, the machine may have been off for a moment only, or an off is still to come.
    return taken is not None and began < taken.power_over


def voided_at(pool: Snapshot, device: str) -> Ms:
    """The instant up to which this device's readings are void, because its host was seen alive; -1: none are."""
    if pool.live.contrary is None:
        return -1
    at, _, host = pool.live.contrary
    return at if any(item.name == device for item in pool.all_devices(host)) else -1


def levels(pool: Snapshot, host: HostId) -> tuple[tuple[FenceDevice, ...], ...]:
    """The host's configured devices by level, the lowest first; quarantined ones are among them."""
    configured = pool.all_devices(host)
    numbers = sorted({device.level for device in configured})
    return tuple(tuple(x for x in configured if x.level == number) for number in numbers)


def view(pool: Snapshot, host: HostId) -> PowerView:
    """The host's power now: the word of the lowest level that can give one."""
    if not pool.all_devices(host):
        return PowerView(Power.UNKNOWN, f"{pool.name(host)} has no fence device", subjects=("no device",))
    unknown = [seen for _, seen in _views(pool, host)]
    return next((seen for seen in unknown if seen.power is not Power.UNKNOWN), _worst(unknown))


def deciding(pool: Snapshot, host: HostId) -> tuple[FenceDevice, ...]:
    """The devices of the level that ``view`` speaks for; empty while none gives a word."""
    return next((level for level, seen in _views(pool, host) if seen.power is not Power.UNKNOWN), ())


def _worst(seen: list[PowerView]) -> PowerView:
    """Nobody knows: every level's reason, in order."""
    why = "; ".join(dict.fromkeys(item.why for item in seen))
    readings = tuple(reading for item in seen for reading in item.readings)
    return PowerView(Power.UNKNOWN, why, readings, tuple(word for item in seen for word in item.subjects))


def _views(pool: Snapshot, host: HostId) -> list[tuple[tuple[FenceDevice, ...], PowerView]]:
    """Level by level up to the first that has not been read yet: a higher one may not speak before it."""
    found: list[tuple[tuple[FenceDevice, ...], PowerView]] = []
    for level in levels(pool, host):
        seen = _level_view(pool, host, level)
        found.append((level, seen))
        if seen.power is Power.UNKNOWN and not seen.readings and not _lost(pool, level):
            break
    return found


def _lost(pool: Snapshot, level: tuple[FenceDevice, ...]) -> bool:
    return any(device.name in pool.record.devices.quarantined for device in level)


def _level_view(pool: Snapshot, host: HostId, level: tuple[FenceDevice, ...]) -> PowerView:
    """One level: ON if any device reads ON, OFF only if every one is bound and reads OFF."""
    if _lost(pool, level):
        lost = [x.name for x in level if x.name in pool.record.devices.quarantined]
        why = f"fence device {', '.join(lost)} of {pool.name(host)} is quarantined"
        return PowerView(Power.UNKNOWN, why, subjects=("quarantined", *lost))
    newest: list[PowerReading] = []
    for device in level:
        readings = counting(pool, device.name)
        if not readings:
            why = f"fence device {device.name} has not been read yet"
            return PowerView(Power.UNKNOWN, why, subjects=("unread", device.name))
        newest.append(readings[-1])
    if any(reading.power is Power.ON for reading in newest):
        return PowerView(Power.ON, f"power of {pool.name(host)} reads ON", tuple(newest))
    for reading, device in zip(newest, level, strict=True):
        if reading.power is Power.UNKNOWN:
            why = f"fence device {device.name} of {pool.name(host)} gave no reading: {reading.text}"
            return PowerView(Power.UNKNOWN, why, tuple(newest), (reading.trouble.value or "no reading", device.name))
        if not is_bound(pool, device.name, host):
            why = f"{device.name} reads OFF, but {why_unbound(pool, device.name, host)}"
            return PowerView(Power.UNKNOWN, why, tuple(newest), ("unbound", device.name))
    return PowerView(Power.OFF, f"power of {pool.name(host)} reads OFF", tuple(newest))


def tries(pool: Snapshot, host: HostId) -> int:
    """How often the host's least-read device was read in this run since the last sign of life; 0 where a member that
    could read it has not been asked yet."""
    return min((_tries(pool, device) for device in pool.devices(host)), default=0)


def _tries(pool: Snapshot, device: FenceDevice) -> int:
    readings = counting(pool, device.name)
    failed = bool(readings) and readings[-1].power is Power.UNKNOWN
    return 0 if failed and untried(pool, device) else len(readings)
