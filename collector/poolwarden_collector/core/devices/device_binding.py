"""Which machine a fence device switches: never taken from the configuration, always from the device and its host.

Theory
------
A device is *bound* to a boot of a host when two things came together: it read ON while that boot's agent lived, and it
is known to be this machine's. The second has two sources only: what the device itself says of its machine is what the
host's agent says of it, or a named operator attested it. A device that tells nothing (a switched outlet), or something
that cannot be compared, therefore stays unbound until somebody attests it; unbound devices serve no automatic fencing.

Rules
-----
* One UUID in common is enough; one serial is, where not both tell UUIDs: other UUIDs are other machines, whatever
  they share. An enclosure's serial names no machine: every blade and node in it has the same.
* Which UUIDs are the same in another order of their bytes, and which words name no machine, is the rule of
  poolwarden/machine_identity.py.
* A device that says the same as another host's device, and it is neither's machine, is one device for both (a chassis
  manager without the right plug): it is never bound, whoever attests it.
* What a device said when it was bound it has to say ever after. Another word, read at any time, also while the host is
  dead, ends the bond and the attestation: an address now belongs to another machine.
* A device that says it is another known host's is never bound, whoever attests it. Where no other device is bound, the
  question about that host's power says so, and a yes to a shot is refused: there is nothing that could carry it out.
* Another block in the configuration is another device: bond, attestation and quarantine are of the block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from poolwarden.machine_identity import serial, uuid_forms
from poolwarden_collector.core.devices import device_states
from poolwarden_collector.core.devices.power_view import is_bound
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Machine
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, PowerReading
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.device_record import as_data
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def in_common(one: DeviceIdentity, other: DeviceIdentity) -> str:
    """What both say, for people; empty if they have nothing in common."""
    for each in one.uuids:
        if any(uuid_forms(each) & uuid_forms(its) for its in other.uuids):
            return f"UUID {each}"
    if any(uuid_forms(each) for each in one.uuids) and any(uuid_forms(each) for each in other.uuids):
        # safety: nodes of one enclosure share serials; machines that both tell their UUID are told apart by it alone.
        return ""
    serials = {serial(each) for each in other.serials} - {""}
    return next((f"serial {each}" for each in one.serials if serial(each) in serials), "")


def contradict(before: DeviceIdentity, now: DeviceIdentity) -> bool:
    """Do these name different machines? What only one of them tells contradicts nothing: a part may be unreadable."""
    comparable = (before.uuids and now.uuids) or (before.serials and now.serials)
    return bool(comparable) and not in_common(before, now)


def of_machine(machine: Machine) -> DeviceIdentity:
    """What a host's agent says of its own machine, in a device's words."""
    uuids = tuple(each for each in (machine.system_uuid, machine.bmc_guid) if uuid_forms(each))
    serials = (machine.system_serial, machine.board_serial)
    return DeviceIdentity(uuids, tuple(dict.fromkeys(each for each in serials if serial(each))))


def show(said: DeviceIdentity) -> str:
    """An identity in a few words."""
    words = [f"UUID {each}" for each in said.uuids] + [f"serial {each}" for each in said.serials]
    return ", ".join(words) or said.text or "nothing"


def unusable(pool: Snapshot, host: HostId) -> Reason | None:
    """Why nothing that is configured for this host could switch it off, because a device says that it is another
    host's, or both are one; None: none says so, or another device is bound.
    """
    devices = pool.devices(host)
    told = {each.name: pool.live.power[each.name].said for each in devices if each.name in pool.live.power}
    foreign = {
        name: f"says that it is {other}'s"
        for name, said in told.items()
        if (other := another_machine(pool, host, said))
    }
    both = {
        name: f"says the same as {it}" for name, said in told.items() if (it := shared_with(pool, host, name, said))
    }
    foreign |= both
    # safety: a yes is taken only where it can be carried out on that very machine, and on no other.
    if not foreign or any(is_bound(pool, each.name, host) for each in devices):
        return None
    said = " and ".join(f"{name} {what}" for name, what in sorted(foreign.items()))
    alone = " alone" if both else ""
    why = f"{said}: nothing that is configured for {pool.name(host)} could switch it off{alone}"
    return Reason(Cause.IDENTITY, why, (host, *sorted(foreign)))


# ------------------------------------------------------------------------------------------------ a reading


def hold_to_its_word(tx: Transaction, host: HostId, reading: PowerReading) -> None:
    """End the bond of a device that says now what it did not say when it was bound."""
    said, device = reading.identity, reading.device
    if said is None or not said:
        return
    bond, word = tx.record.devices.bonds.get(device), tx.record.devices.attested.get(device)
    before = next((each.said for each in (bond, word) if each is not None), None)
    if before is None:
        return
    other = another_machine(tx, host, said)
    if not other and not contradict(before or _known(tx, host), said):
        return
    is_now = f"it says now that it is {other}'s" if other else f"it says now: {show(said)}"
    why = f"{is_now}; when it was bound it said: {show(before)}"
    text = f"fence device {device} is not {tx.name(host)}'s any more: {why}"
    # safety: from here its OFF counts for nothing, in the very step in which it gave itself away.
    tx.note(Kind.DEVICE_UNBOUND, text, device=device, host=host, why=why)


def bind(tx: Transaction, host: HostId, boot: str, reading: PowerReading) -> None:
    """Bind a device that has just read ON while the agent of this boot lives, if it is known to be this machine's."""
    device = next((each for each in tx.devices(host) if each.name == reading.device), None)
    if device is None or reading.identity is None:
        return
    how = _grounds(tx, host, device, reading.identity)
    state = tx.live.power.get(device.name, PowerState())
    if isinstance(how, Refused):
        device_states.put(tx, device.name, _refused(state, how.why))
        return
    device_states.put(tx, device.name, _refused(state, ""))
    if is_bound(tx, device.name, host):
        return
    text = f"fence device {device.name} reads ON while {tx.name(host)} is seen alive, and is bound to this boot: {how}"
    facts: dict[str, Any] = {"device": device.name, "host": host, "boot_id": boot, "block": device.block, "by": how}
    tx.note(Kind.DEVICE_BOUND, text, **facts, said=as_data(reading.identity))


def _refused(state: PowerState, why: str) -> PowerState:
    return state if state.unbound == why else replace(state, unbound=why)


def tells(pool: Snapshot, device: str, host: HostId) -> bool:
    """Does this device's own word, as it was bound, name this host's machine? Else an operator's word alone does."""
    bond = pool.record.devices.bonds.get(device)
    return bond is not None and bool(in_common(bond.said, _known(pool, host)))


def shared_with(pool: Snapshot, host: HostId, device: str, said: DeviceIdentity) -> str:
    """The device of another host that says the same, where that names neither's machine; empty: none does.

    A chassis manager asked without the right plug answers for its enclosure: one device, whose `off` takes both.
    """
    if any(in_common(said, _known(pool, each)) for each in pool.record.hosts):
        return ""
    for other in sorted(pool.record.hosts, key=pool.name):
        for each in pool.all_devices(other) if other != host else ():
            state = pool.live.power.get(each.name)
            if each.name != device and state is not None and in_common(said, state.said):
                return f"{each.name} of {pool.name(other)}"
    return ""


def _grounds(pool: Snapshot, host: HostId, device: FenceDevice, said: DeviceIdentity) -> str | Refused:
    """Why this device is this machine's, or why that is not known."""
    name, agent = pool.name(host), pool.heard(host)
    machine = of_machine(agent.hello.machine) if agent is not None else DeviceIdentity()
    if other := another_machine(pool, host, said):
        return Refused("other-machine", f"{device.name} is configured for {name} and says that it is {other}'s")
    if both := shared_with(pool, host, device.name, said):
        return Refused("shared", f"{device.name} says the same as {both} ({show(said)}): it would switch both machines")
    common = in_common(said, machine)
    twin = next(
        (pool.name(each) for each in pool.record.hosts if each != host and in_common(said, _known(pool, each))), ""
    )
    if common and not twin:
        return f"both say {common}"
    word = pool.record.devices.attested.get(device.name)
    here = agent.hello.machine.system_uuid if agent is not None else ""
    if word is not None and word.host == host and word.block == device.block and word.system_uuid == here:
        return f"attested by {word.by}"
    if common:
        return Refused("ambiguous", f"{device.name} says {common}, and so do {name} and {twin}: that names no machine")
    if not said:
        tells = f" ({said.text})" if said.text else ""
        return Refused("untold", f"{device.name} does not tell which machine it switches{tells}")
    if not machine:
        return Refused(
            "unknown-machine", f"{name}'s dom0 does not tell which machine it is; {device.name} says {show(said)}"
        )
    return Refused("unlike", f"{device.name} says {show(said)}, and {name}'s dom0 {show(machine)}")


def another_machine(pool: Snapshot, host: HostId, said: DeviceIdentity) -> str:
    """Another host of this pool that the device says it is, and that this host itself is not; empty: none."""
    mine = _known(pool, host)
    if in_common(said, mine):
        return ""
    return next(
        (pool.name(each) for each in pool.record.hosts if each != host and in_common(said, _known(pool, each))), ""
    )


def _known(pool: Snapshot, host: HostId) -> DeviceIdentity:
    agent, on_record = pool.agent(host), pool.record.hosts.get(host)
    if agent is not None:
        return of_machine(agent.hello.machine)
    return (
        DeviceIdentity((on_record.system_uuid,))
        if on_record is not None and on_record.system_uuid
        else DeviceIdentity()
    )


def clear_changed(tx: Transaction) -> None:
    """What was learnt of a device under another block of the configuration is forgotten, once."""
    kept = tx.record.devices
    for host in tx.record.hosts:
        for device in tx.all_devices(host):
            blocks = {
                "bound": kept.bonds[device.name].block if device.name in kept.bonds else device.block,
                "attested": kept.attested[device.name].block if device.name in kept.attested else device.block,
                # safety: a quarantine of which the block is not known is lifted by a person, not by a restart.
                "quarantined": kept.quarantined_as.get(device.name) or device.block,
            }
            if stale := [what for what, block in blocks.items() if block != device.block]:
                whose = f"fence device {device.name} of {tx.name(host)}"
                text = f"{whose} is configured otherwise than when it was {stale[0]}: it starts anew"
                tx.note(Kind.DEVICE_CLEARED, text, device=device.name, host=host)


# ------------------------------------------------------------------------------------------------ an operator's word
