"""What is durable about fence devices: which machine each is bound to and why, attestations, quarantines.

Invariant: ``follow`` is total and pure, as ``record.apply`` is, of which it is a part. What is decided from this stands
in ``device_binding.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import DeviceIdentity
from poolwarden_collector.core.model.values import HostId


@dataclass(frozen=True, slots=True)
class Bond:
    """A device that read ON while this boot's agent lived, and ``by`` what it is known to be that machine's."""

    host: HostId
    boot_id: str
    block: str = ""
    by: str = ""
    said: DeviceIdentity = DeviceIdentity()


@dataclass(frozen=True, slots=True)
class Attested:
    """An operator's recorded word that a device switches this very machine."""

    host: HostId
    system_uuid: str
    block: str
    by: str
    how: str
    said: DeviceIdentity = DeviceIdentity()


@dataclass(frozen=True, slots=True)
class Devices:
    """Fence devices by name."""

    bonds: dict[str, Bond] = field(default_factory=dict)
    attested: dict[str, Attested] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)  # why
    quarantined_as: dict[str, str] = field(default_factory=dict)  # the block that was configured then


def as_data(said: DeviceIdentity) -> dict[str, Any]:
    """An identity as a journal entry keeps it."""
    return {"uuids": list(said.uuids), "serials": list(said.serials)}


def _said(data: dict[str, Any]) -> DeviceIdentity:
    kept = data.get("said", {})
    return DeviceIdentity(tuple(kept.get("uuids", ())), tuple(kept.get("serials", ())))


def fold_devices(devices: Devices, entry: Entry) -> Devices:
    """The state after an entry; entries of other kinds change nothing."""
    data = entry.data
    if entry.kind is Kind.DEVICE_BOUND:
        bond = Bond(data.get("host", ""), data["boot_id"], data.get("block", ""), data.get("by", ""), _said(data))
        return replace(devices, bonds={**devices.bonds, data["device"]: bond})
    if entry.kind is Kind.DEVICE_UNBOUND:
        return _without(devices, data["device"], attested=True)
    if entry.kind is Kind.DEVICE_ATTESTED:
        word = Attested(data["host"], data["system_uuid"], data["block"], data["by"], data["how"], _said(data))
        freed = _without(devices, data["device"], quarantine=True)
        return replace(freed, attested={**freed.attested, data["device"]: word})
    if entry.kind is Kind.DEVICE_CLEARED:
        return _without(devices, data["device"], attested=True, quarantine=True)
    if entry.kind is Kind.DEVICE_QUARANTINED:
        bare = _without(devices, data["device"], attested=True)
        why = {**bare.quarantined, data["device"]: data["why"]}
        return replace(
            bare, quarantined=why, quarantined_as={**bare.quarantined_as, data["device"]: data.get("block", "")}
        )
    return devices


def _without(devices: Devices, name: str, *, attested: bool = False, quarantine: bool = False) -> Devices:
    """Without the device's bond, and without its attestation and its quarantine where that is asked."""

    def kept(of: dict[str, Any], drop: bool = True) -> dict[str, Any]:
        return {each: value for each, value in of.items() if not drop or each != name}

    return Devices(
        kept(devices.bonds),
        kept(devices.attested, attested),
        kept(devices.quarantined, quarantine),
        kept(devices.quarantined_as, quarantine),
    )
