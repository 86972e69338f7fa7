"""A member's agent at a real BMC: it runs the fence agent, and is told the same as the collector would be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from poolwarden_agent.core.fence_order import stdin_of
from poolwarden_agent.dom0.fencing.agent_run import FenceAgents
from poolwarden_collector.shell.fencing.agent_run import AgentRun
from poolwarden_collector.shell.fencing.device_identity import _lines, ask
from poolwarden_lab.processes.bmc import chassis

from .rig import Peer, running

KINDS = [
    pytest.param("ipmi", marks=pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool")),
    pytest.param("redfish", marks=pytest.mark.needs("sushy-emulator", "fence_redfish", "openssl")),
]
pytestmark = pytest.mark.asyncio


class Member:
    """A host whose agent.conf names this peer's fence agent."""

    def __init__(self, peer: Peer) -> None:
        self.device = peer.device(power_timeout="5")
        self.given = dict(self.device.parameters)
        self.agents = FenceAgents([str(self.device.agent)], "")
        self.name = self.device.agent.name

    async def run(self, action: str, limit_ms: int = 20_000) -> tuple[int | None, str]:
        run = await asyncio.to_thread(self.agents.run, self.name, stdin_of(self.given, action), limit_ms)
        assert chassis.PASSWORD not in run.text
        return run.code, run.text

    async def identity(self, **changes: str) -> AgentRun:
        given = {**self.given, **changes}
        run = await asyncio.to_thread(self.agents.identify, self.name, given, 10_000, False)
        return AgentRun(run.code, run.started, run.output, run.errors, run.text)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_member_reads_and_switches_a_real_bmc(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path / "bmc") as peer:
        member = Member(peer)
        assert (await member.run("status"))[0] == 0
        assert (await member.run("off"))[0] == 0 and not peer.machine.powered
        assert (await member.run("status"))[0] == 2
        assert (await member.run("on"))[0] == 0 and peer.machine.powered
        peer.freeze()
        assert (await member.run("status", limit_ms=2_000))[0] is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_member_is_told_the_same_identity_as_the_collector(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path / "bmc") as peer:
        member = Member(peer)
        own = await ask(member.device, 10, False)
        assert own.said.uuids and _lines(await member.identity()).said == own.said
        refused = await member.identity(password="wrong")
    assert refused.code == 3 and chassis.PASSWORD not in refused.text
