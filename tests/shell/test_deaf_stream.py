"""A stream whose other end takes nothing in: it ends when the collector says so, and is not heard after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.shell.agents.messages.orders import full_report
from poolwarden_collector.shell.enrolment.decisions import By

from .deaf import Deaf
from .rig import HOSTS, POOL, Rig, running, until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]


def agent_of(rig: Rig, host: str) -> AgentState | None:
    pool = rig.parts.gateway._roster.pools.get(POOL)
    return pool.live.agents.get(host) if pool is not None else None


async def come(rig: Rig) -> Deaf:
    deaf = Deaf(rig.bundle(HOSTS[0]))
    await deaf.connect(rig.parts.gateway.port)
    await deaf.send(hello=pb.Hello(host_uuid=HOSTS[0], pool_uuid=POOL, boot_id="deaf", protocol_version=1))
    await deaf.send(report=pb.Report(full=True))
    await until(lambda: (agent := agent_of(rig, HOSTS[0])) is not None and agent.reported)
    return deaf


async def test_a_denied_certificate_is_not_heard_any_more_although_nothing_is_taken_in(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        deaf = await come(rig)
        await rig.parts.enrolments.decisions.deny(By("anna", "stolen"), "", HOSTS[0])
        before = agent_of(rig, HOSTS[0])
        await deaf.send(report=pb.Report(full=True))
        await deaf.ended()
        await until(lambda: (agent := agent_of(rig, HOSTS[0])) is not None and not agent.connected)
        after = agent_of(rig, HOSTS[0])
        assert before is not None and after is not None and after.last_heard == before.last_heard
        assert rig.parts.gateway._sessions.of(HOSTS[0]) is None
        await deaf.close()


async def test_what_is_never_read_ends_its_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        deaf = await come(rig)
        session = rig.parts.gateway._sessions.of(HOSTS[0])
        assert session is not None
        while session.closing is None:  # as many as the engine may ever have for it
            session.send(full_report())
        await deaf.ended()
        await until(lambda: rig.parts.gateway._sessions.of(HOSTS[0]) is None)
        await deaf.close()
