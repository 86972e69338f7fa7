"""Which machine a real BMC says that it switches, and what is told of one by day when something is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.pool import Guarded

from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.model.power import DeviceIdentity, Power, Trouble
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_lab.processes.bmc import chassis, fronts

from .rig import SYSTEM, Ears, running

OTHER = "b7654321-98ba-4edc-8321-fedcba987654"
KINDS = [
    pytest.param("ipmi", marks=pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool")),
    pytest.param("redfish", marks=pytest.mark.needs("sushy-emulator", "fence_redfish", "openssl")),
]
pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("kind", KINDS)
async def test_a_real_bmc_says_which_machine_it_switches(kind: str, tmp_path: Path) -> None:
    """ipmitool shows what ipmi_sim sends in IPMI's order of bytes, all backwards; Redfish as DMI has it."""
    async with running(kind, tmp_path / "bmc") as peer:
        reading = (await Ears(peer.device()).status(thorough=True)).reading
    assert reading.power is Power.ON and reading.monitor == "" and reading.identity is not None
    assert device_binding.in_common(reading.identity, DeviceIdentity((SYSTEM,)))
    assert not device_binding.in_common(reading.identity, DeviceIdentity((OTHER,)))


@pytest.mark.parametrize("kind", KINDS)
async def test_two_swapped_addresses_bind_neither_device(kind: str, tmp_path: Path) -> None:
    """Each host's device block names the other one's BMC: right passwords, right readings, the wrong machines."""
    async with running(kind, tmp_path / "a") as a, running(kind, tmp_path / "b", OTHER) as b:
        of_b = (await Ears(b.device()).status(thorough=True)).reading.identity
        of_a = (await Ears(a.device()).status(thorough=True)).reading.identity
    assert of_a is not None and of_b is not None
    g = Guarded(says={1: of_b, 2: of_a}, uuids={1: SYSTEM, 2: OTHER})
    g.run(20_000)
    assert set(g.pool.record.devices.bonds) == {"bmc-3"}
    assert g.pool.live.power["bmc-1"].unbound == "bmc-1 is configured for host-1 and says that it is host-2's"
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["password", "port", "frozen", "agent"])
async def test_what_is_wrong_with_a_bmc_is_told_apart(kind: str, fault: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path / "bmc") as peer:
        device = peer.device(limit_ms=5_000, power_timeout="2")
        changes = {"password": {"password": "wrong"}, "port": {"ipport": "1"}}.get(fault, {})
        device = replace(device, parameters={**device.parameters, **changes})
        if fault == "agent":
            device = replace(device, agent=tmp_path / device.agent.name)
        if fault == "frozen":
            peer.freeze()
        reading = (await Ears(device).status(thorough=True)).reading
    silent = (Trouble.HUNG, Trouble.UNREACHABLE)  # over UDP nobody can tell a hanging firmware from a cut cable
    expected = {"password": (Trouble.PASSWORD,), "port": silent, "frozen": silent, "agent": (Trouble.AGENT,)}
    assert reading.power is Power.UNKNOWN and reading.trouble in expected[fault]
    assert chassis.PASSWORD not in f"{reading.text} {reading.identity}"


@pytest.mark.needs("fence_dummy")
async def test_the_agent_that_lies_proves_nothing_even_where_it_is_let_in(tmp_path: Path) -> None:
    """fence_dummy says OFF of a machine that it has never seen; it cannot say which one, and never reads ON."""
    agent = fronts.program("fence_dummy")
    assert agent is not None
    liar = Fence("h", agent, "bmc", 1, 10_000, {"type": "file", "status_file": str(tmp_path / "none")})
    ears = Ears(liar)
    reading, claim = (await ears.status(thorough=True)).reading, await ears.off()
    assert reading.power is Power.OFF and claim.claim and not reading.identity
    g = Guarded(says={1: reading.identity or DeviceIdentity()})
    g.host(1).power = Power.OFF
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == []
