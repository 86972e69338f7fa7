"""Attacks on what a fence device is bound by, and on which of its readings make a proof."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.evidence.proof import NoProof, verify_power
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Machine, ProbeOutcome
from poolwarden_collector.core.model.power import DeviceIdentity, Power, PowerReading
from poolwarden_collector.core.state.device_record import Devices, fold_devices
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.transaction import Transaction

ENCLOSURE = "CZ3-ENCLOSURE-1"
MINE, OTHERS = "4c4c4544-0051-3310-8052-b4c04f4d4e32", "4c4c4544-0051-3310-8052-b4c04f4d4e99"


# ------------------------------------------------------------------------------------------------ one enclosure


def blade(system_uuid: str, serial: str = "") -> Machine:
    return Machine(system_uuid, serial, chassis_serial=ENCLOSURE)


def test_the_serial_of_an_enclosure_does_not_make_another_blades_bmc_this_ones() -> None:
    """The configured address is the next blade's, of another pool: whenever that one is off, this one would be dead."""
    says = DeviceIdentity((OTHERS,), (ENCLOSURE,))
    assert not device_binding.in_common(says, device_binding.of_machine(blade(MINE)))
    assert not device_binding.in_common(says, device_binding.of_machine(blade(MINE, ENCLOSURE))), (
        "some vendors put it there as well"
    )


def test_a_bmc_that_tells_no_uuid_is_not_bound_by_an_enclosures_serial() -> None:
    assert not device_binding.in_common(DeviceIdentity(serials=(ENCLOSURE,)), device_binding.of_machine(blade(MINE)))


def test_another_blade_in_the_slot_of_a_bound_one_is_another_machine() -> None:
    """An enclosure gives its addresses to slots."""
    before, now = DeviceIdentity((MINE,), (ENCLOSURE,)), DeviceIdentity((OTHERS,), (ENCLOSURE,))
    assert device_binding.contradict(before, now)


def test_a_serial_still_binds_what_tells_no_uuid() -> None:
    machine = device_binding.of_machine(Machine(MINE, "CN70163310"))
    assert device_binding.in_common(DeviceIdentity(serials=("CN70163310",)), machine)
    sample = DeviceIdentity(("03000200-0400-0500-0006-000700080009",), ("CN70163310",))
    assert device_binding.in_common(sample, machine), "a UUID that names no machine is none"


def test_a_pool_in_one_enclosure_binds_no_device_of_the_neighbour() -> None:
    g = Guarded(says={1: DeviceIdentity((OTHERS,), (ENCLOSURE,))})
    host = g.host(1)
    g.connect(host, machine=blade(MINE, ENCLOSURE))
    g.report(host)
    g.run(120_000)
    assert "bmc-1" not in g.pool.record.devices.bonds


# ------------------------------------------------------------------------------------------------ quarantine


def test_a_quarantine_of_which_the_block_is_not_known_outlives_a_restart() -> None:
    g = Guarded()
    held = fold_devices(Devices(), Entry(Kind.DEVICE_QUARANTINED, "", {"device": "bmc-1", "why": "it lied"}))
    blocks = {host: tuple(replace(x, block="b1") for x in them) for host, them in g.pool.devices.items()}
    pool = replace(g.pool, devices=blocks, record=replace(g.pool.record, devices=held))
    tx = Transaction(pool, g.now, g.site)
    device_binding.clear_changed(tx)
    assert "bmc-1" in tx.record.devices.quarantined


# ------------------------------------------------------------------------------------------------ life and readings


def off(started: int, ended: int, through: int = 0) -> PowerReading:
    return PowerReading(Power.OFF, "bmc-1", started, ended, through=uuid(through) if through else "")


def told(g: Guarded, *readings: PowerReading) -> Transaction:
    """What the engine knows with these readings and nothing else."""
    power = {**g.pool.live.power, "bmc-1": PowerState(readings)}
    return Transaction(replace(g.pool, live=replace(g.pool.live, power=power)), g.now, g.site)


def proven(tx: Transaction) -> bool:
    return not isinstance(verify_power(tx, uuid(1), tx.record.hosts[uuid(1)].boot_id), NoProof)


def silenced() -> tuple[Guarded, int]:
    """A master that has vanished, and when it was last heard."""
    g = Guarded(devices=True)
    g.run(70_000)
    at = g.pool.live.agents[uuid(1)].last_heard
    host = g.host(1)
    host.agent, host.answers = False, False
    g.now = at + 20_000
    return g, at


def test_a_reading_that_began_before_the_last_report_is_none_of_the_two() -> None:
    """Asked by day, of a slow BMC: what it read may be from before the machine's last word."""
    g, at = silenced()
    assert proven(told(g, off(at + 1, at + 2_000), off(at + 10_000, at + 12_000)))
    assert not proven(told(g, off(at - 30_000, at + 5_000), off(at + 10_000, at + 12_000)))


def test_a_members_reading_that_was_ordered_before_a_probe_was_answered_is_none_of_the_two() -> None:
    g, at = silenced()
    host = g.host(2)
    seen = g.pool.live.agents[host.uuid]
    answered = {"outcome": ProbeOutcome.NO_ANSWER, "answered_at": at + 4_000}
    probes = tuple(replace(x, **answered) if x.target == uuid(1) else x for x in seen.facts.probes)  # type: ignore[arg-type]
    agents = {**g.pool.live.agents, host.uuid: replace(seen, facts=replace(seen.facts, probes=probes))}
    g.pool = replace(g.pool, live=replace(g.pool.live, agents=agents))
    assert proven(told(g, off(at + 5_000, at + 6_000), off(at + 10_000, at + 12_000)))
    assert not proven(told(g, off(at + 2_000, at + 6_000, 2), off(at + 12_000, at + 13_000, 3)))


def test_such_a_reading_costs_nothing_but_another_one() -> None:
    g = Guarded()
    g.run(70_000)
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == [uuid(2)]
