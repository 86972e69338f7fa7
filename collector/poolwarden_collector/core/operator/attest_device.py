"""``fence bind HOST``: an operator's attestation that a fence device switches this very machine."""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.devices.device_binding import another_machine, shared_with, show
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, Power
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.device_record import as_data
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def command_bind(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``fence bind HOST``: a recorded attestation that a device switches this very machine."""
    host, name = said.host, tx.name(said.host)
    device = _named(tx, host, said.arg("device"))
    if isinstance(device, Refused):
        return device
    if said.arg("typed_name") not in (name, host):
        typed = said.arg("typed_name")
        return Refused("name-differs", f"typed {typed!r}, the host's name is {name!r}", "Type the host's name exactly.")
    if not said.arg("how").strip():
        step = 'For example: --how "switched outlet 4 off, saw its PSU A go dark"'
        return Refused("no-reason", f"how it is known that {device.name} switches {name} is missing", step)
    agent = tx.heard(host)
    if agent is None:
        return Refused("agent-silent", f"the agent of {name} is not heard: which machine it is is not known now")
    state = tx.live.power.get(device.name)
    newest = state.newest if state is not None else None
    if newest is None or newest.power is not Power.ON:
        seen = newest.power.value.upper() if newest is not None else "nothing yet"
        step = f"poolwarden fence test {name}"
        return Refused("not-on", f"{device.name} does not read ON while {name} lives (it reads {seen})", step)
    told = state.said if state is not None else DeviceIdentity()
    if other := another_machine(tx, host, told):
        return Refused("other-machine", f"{device.name} says that it is {other}'s: its address is another machine's")
    if both := shared_with(tx, host, device.name, told):
        why = f"{device.name} says the same as {both} ({show(told)}): an off would take both machines"
        return Refused("shared", why, "Name the blade's own plug in both blocks, see docs/fencing.md")
    how = said.arg("how").strip()
    text = f"{said.actor} attests that fence device {device.name} switches {name}: {how}"
    facts: dict[str, Any] = {"device": device.name, "host": host, "system_uuid": agent.hello.machine.system_uuid}
    facts |= {"block": device.block, "by": said.actor, "how": how, "said": as_data(told)}
    tx.note(Kind.DEVICE_ATTESTED, text, said.actor, **facts)
    return f"recorded: {device.name} switches {name}; it is bound at its next reading"


def _named(pool: Snapshot, host: HostId, wanted: str) -> FenceDevice | Refused:
    devices, name = pool.all_devices(host), pool.name(host)
    if not devices:
        return Refused("no-device", f"{name} has no fence device", "Give it one in collector.toml, see docs/fencing.md")
    found = [each for each in devices if wanted in ("", each.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in devices)
    why = f"{name} has no fence device {wanted!r}" if wanted else f"{name} has several fence devices"
    return Refused("which-device", f"{why}: {names}", "Name one: --device NAME")
