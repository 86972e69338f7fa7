"""Which machine a fence device switches: what binds it, what ends that, and what an operator's word can do."""

from __future__ import annotations

import uuid as uuids
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.pool import Guarded, played_once, uuid

from poolwarden import machine_identity
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.model.effects import ReadPower
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Machine
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, Power
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.transaction import Transaction

MACHINE = "4c4c4544-0051-3310-8052-b4c04f4d4e32"


def silent(text: str = "an outlet cannot tell") -> DeviceIdentity:
    return DeviceIdentity(text=text)


@played_once
def pool(says: DeviceIdentity) -> Guarded:
    """A pool in which the master's device says this from the first."""
    return Guarded(says={1: says})


def bound(g: Guarded, device: str = "bmc-1") -> bool:
    return device in g.pool.record.devices.bonds


def attest(g: Guarded, n: int = 1, **more: str) -> object:
    args = {"typed_name": f"host-{n}", "how": "switched it off and saw the host go dark", **more}
    return g.say("fence-bind", n, **args)


# ------------------------------------------------------------------------------------------------ likeness


@given(st.uuids().filter(lambda value: len(set(value.bytes)) > 1))
def test_a_uuid_is_the_same_in_every_order_in_which_a_bmc_may_tell_it(value: uuids.UUID) -> None:
    orders = (value.bytes, value.bytes_le, value.bytes[::-1], value.bytes_le[::-1])
    plain = DeviceIdentity((str(value),))
    for order in orders:
        assert device_binding.in_common(DeviceIdentity((str(uuids.UUID(bytes=order)),)), plain)


@given(st.uuids(), st.uuids())
def test_other_uuids_are_others(one: uuids.UUID, other: uuids.UUID) -> None:
    same = bool(machine_identity.uuid_forms(str(one)) & machine_identity.uuid_forms(str(other)))
    orders = (other.bytes, other.bytes_le, other.bytes[::-1], other.bytes_le[::-1])
    assert same == (one.bytes in orders and len(set(one.bytes)) > 1 and bool(machine_identity.uuid_forms(str(one))))


@pytest.mark.parametrize(
    "text", ["", "x", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
             "03000200-0400-0500-0006-000700080009", "03d40274-0435-05dc-8506-010700080009",
             "00010203-0405-0607-0809-0a0b0c0d0e0f", "03020100-0504-0706-0809-0a0b0c0d0e0f",
             "12345678-1234-5678-90ab-cddeefaabbcc", "deadbeef-dead-beef-dead-beefdeadbeef",
             "4c4c4544-0000-2010-8020-80c04f202020", "10000000-0000-8000-0040-000000000000",
             "fefefefe-fefe-fefe-fefe-fefefefefefe", "58585858-5858-5858-5858-585858585858",
             "12345678-1234-1234-1234-123456789abc", "00020003-0004-0005-0006-000700080009"],
)  # fmt: skip
def test_a_uuid_that_vendors_leave_in_place_names_no_machine(text: str) -> None:
    assert not machine_identity.uuid_forms(text)


@pytest.mark.parametrize(
    "text",
    ["To Be Filled By O.E.M.", "0123456789", "Default string", "N/A", "abc", "0000000", " ", "12345678", "1234567"]
    + ["0123456789ABCDEF", "Not Available", "INVALID", "Serial Number", "SerialNumber", "Standard", "Not Settable"]
    + [
        "System Serial Number",
        "Base Board Serial Number",
        "Chassis Serial Number",
        "Default_string",
        "Empty",
        "SN",
        "NA",
    ]
    + [
        "Unspecified",
        "TBFBOEM",
        "Type1ProductSerial",
        "TBD by O.E.M.",
        "XXXXXXXXXX",
        "..........",
        "To be filled by O.E.M. ",
        "Filled By OEM",
        "Not Specified",
        "None",
        "1234567890",
    ]
    + ["01234567890123456789", "SSN12345678901234567", "BSS-0123456789", "MB-1234567890", "NB-1234567890", "VMware-56"]
    + ["<OUT OF SPEC>", "<BAD INDEX>", "No Asset Information", "Serial No.", "Type2 - Board Serial Number", "O.E.M."],
)
def test_a_serial_that_vendors_leave_in_place_names_no_machine(text: str) -> None:
    both = DeviceIdentity(serials=(text,))
    assert not device_binding.in_common(both, both)
    assert not device_binding.of_machine(Machine("", text)) and machine_identity.names_no_machine(text)


@pytest.mark.parametrize(
    "text",
    [
        "CZJ1234567",
        "5ABC123",
        "S123456X7890123",
        "VMware-56 4d 8a 1c 2e 3f 40 51-62 73 84 95 a6 b7 c8 d9",
        "1234",
        "12345A",
    ]
    + ["12345A", "SGH234XYZ1", "0123999", "ZM16AS012345"],
)
def test_a_serial_that_begins_like_one_of_those_is_one(text: str) -> None:
    assert machine_identity.serial(text)


def test_one_serial_of_several_is_enough_however_it_is_written() -> None:
    machine = device_binding.of_machine(Machine(MACHINE, "", board_serial="CN7016 - 3310"))
    assert device_binding.in_common(DeviceIdentity(serials=("XYZ", "cn70163310")), machine) == "serial cn70163310"


# ------------------------------------------------------------------------------------------------ bound, and not


def test_a_device_that_says_another_machine_is_never_bound_and_that_is_told() -> None:
    g = pool(DeviceIdentity(serials=("SERIAL-OF-NOBODY",)))
    g.run(40_000)
    assert not bound(g) and bound(g, "bmc-2")
    assert any(key.endswith("fence-bmc-1-unbound") for key in g.pool.record.open_alerts)
    assert any("SERIAL-OF-NOBODY" in why for why in not_ready(Transaction(g.pool, g.now, g.site)))


def test_its_off_proves_nothing() -> None:
    """The device of the master is the device of a machine that happens to be off."""
    g = pool(DeviceIdentity(serials=("SERIAL-OF-NOBODY",)))
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == []


@pytest.mark.slow
def test_two_swapped_bmcs_are_both_unbound_by_the_name_of_the_other() -> None:
    g = pool(DeviceIdentity(serials=("dmi-2",)))
    g.host(2).says = DeviceIdentity(serials=("dmi-1",))
    g.run(120_000)
    assert not bound(g)
    state = g.pool.live.power["bmc-1"]
    assert state.unbound == "bmc-1 is configured for host-1 and says that it is host-2's"
    refused = attest(g)
    assert refused is not None and not refused.accepted and "host-2" in refused.text  # type: ignore[attr-defined]


def test_what_two_hosts_have_in_common_names_neither() -> None:
    """Boards whose vendor has written one and the same serial into all of them."""
    g = Guarded(machine="dmi-same")
    assert not bound(g) and "names no machine" in g.pool.live.power["bmc-1"].unbound


@pytest.mark.slow
def test_a_device_that_names_another_machine_later_is_bound_no_more() -> None:
    """S43's cousin: a BMC's address went to another machine, by DHCP or by hand, while the host lives."""
    g = Guarded()
    assert bound(g)
    g.host(1).says = DeviceIdentity(serials=("SERIAL-OF-NOBODY",))
    g.run(700_000)
    assert g.has(Kind.DEVICE_UNBOUND) and not bound(g)


def test_a_device_that_names_another_machine_once_its_host_is_dead_proves_nothing() -> None:
    g = Guarded()
    g.run(70_000)
    g.host(1).says = DeviceIdentity(serials=("SERIAL-OF-NOBODY",))
    g.cut_power()
    g.run(120_000)
    assert g.has(Kind.DEVICE_UNBOUND)
    assert g.promoted() == []


def test_a_device_that_cannot_say_who_it_is_any_more_is_believed_as_before() -> None:
    """A BMC that lives from its host's power may be half dead: what it said by day stands."""
    g = Guarded()
    g.run(70_000)
    g.host(1).says = silent("the BMC is busy")
    g.cut_power()
    g.run(60_000)
    assert g.promoted() != []


def test_a_part_that_is_not_told_this_time_contradicts_nothing() -> None:
    one, other = DeviceIdentity((MACHINE,), ("A1B2C3",)), DeviceIdentity(serials=("A1B2C3",))
    assert not device_binding.contradict(one, other)
    assert not device_binding.contradict(DeviceIdentity((MACHINE,)), other)
    assert device_binding.contradict(one, DeviceIdentity(serials=("ZZZZZZ",)))


# ------------------------------------------------------------------------------------------------ an operator's word


def test_an_outlet_is_bound_by_an_operators_recorded_word() -> None:
    g = pool(silent())
    assert not bound(g)
    accepted = attest(g)
    assert accepted is not None and accepted.accepted  # type: ignore[attr-defined]
    g.run(20_000)
    bond = g.pool.record.devices.bonds["bmc-1"]
    assert bond.by == "attested by alice" and bond.boot_id == "boot-1-1"
    g.cut_power()
    g.run(60_000)
    assert g.promoted() != []


def test_the_word_is_of_the_machine_and_of_the_block() -> None:
    g = pool(silent())
    attest(g)
    g.run(20_000)
    devices = {**g.pool.devices, uuid(1): (FenceDevice("bmc-1", uuid(1), block="another"),)}
    g.pool = replace(g.pool, devices=devices)
    g.run(61_000)
    assert g.has(Kind.DEVICE_CLEARED) and not bound(g) and not g.pool.record.devices.attested


def test_the_word_needs_a_name_a_reason_a_living_host_and_a_device_that_reads_on() -> None:
    g = pool(silent())
    for args, code in (({"typed_name": "host-2"}, "name-differs"), ({"how": " "}, "no-reason")):
        reply = attest(g, **args)
        assert reply is not None and reply.code == code  # type: ignore[attr-defined]
    reply = attest(g, device="bmc-9")
    assert reply is not None and reply.code == "which-device"  # type: ignore[attr-defined]
    g.cut_power()
    g.run(10_000)
    reply = attest(g)
    assert reply is not None and reply.code == "agent-silent"  # type: ignore[attr-defined]
    assert not g.pool.record.devices.attested


@pytest.mark.slow
def test_the_word_takes_a_device_out_of_its_quarantine_once_it_reads_on_again() -> None:
    g = Guarded()
    g.host(2).power = Power.OFF
    g.run(620_000)
    assert "bmc-2" in g.pool.record.devices.quarantined
    reply = attest(g, 2)
    assert reply is not None and reply.code == "not-on"  # type: ignore[attr-defined]
    g.host(2).power = Power.ON
    g.run(1_000)
    g.say("fence-test", 2)
    g.run(9_000)
    reply = attest(g, 2)
    assert reply is not None and reply.accepted  # type: ignore[attr-defined]
    g.run(61_000)
    assert bound(g, "bmc-2") and not g.pool.record.open_alerts


@pytest.mark.slow
def test_a_quarantined_device_that_goes_on_to_read_off_is_told_once() -> None:
    g = Guarded()
    g.host(2).power = Power.OFF
    g.run(2_000_000)
    assert g.kinds().count(Kind.CONTRARY.value) == 1


def test_a_device_is_asked_who_it_is_once_a_minute_at_most_and_monitored_by_day_only() -> None:
    g = Guarded()
    g.effects.clear()
    g.cut_power()
    g.run(60_000)
    readings = [each for each in g.effects if isinstance(each, ReadPower) and each.device == "bmc-1"]
    assert len(readings) >= 2 and not any(each.monitor for each in readings)
    assert sum(each.identify for each in readings) <= 1
