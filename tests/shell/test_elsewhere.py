"""A pool that another collector has: its agents are sent there and not heard; who has acknowledged an epoch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.epoch import of_ownership
from poolwarden_collector.core.model.takeover import LeftBehind
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.agents import elsewhere
from poolwarden_collector.shell.agents.elsewhere import Elsewhere
from poolwarden_collector.shell.agents.order_key import load_or_make

from .rig import HOSTS, POOL, PlayedAgent, Rig, running, until
from .test_signing import opened

pytestmark = pytest.mark.asyncio

OTHER = Elsewhere("192.0.2.9:7443", "c2", "it took the pool over")
ABLE = ["promote", "elsewhere"]


def send_elsewhere(rig: Rig) -> None:
    rig.parts.gateway._owner_of = lambda pool: OTHER if pool == POOL else None


async def attached(rig: Rig, host: str = HOSTS[0], **hello: Any) -> PlayedAgent:
    agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(host), host)
    rig.agents.append(agent)
    await agent.attach(**hello)
    return agent


async def test_an_agent_is_sent_on_and_not_welcomed_and_not_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        send_elsewhere(rig)
        agent = await attached(rig, capabilities=ABLE)
        first = await agent.stream.read()
        assert first.WhichOneof("body") == "elsewhere"
        assert (first.elsewhere.address, first.elsewhere.collector) == ("192.0.2.9:7443", "c2")
        await agent.send(report=pb.Report(full=True))
        agent.stream.cancel()
        await until(lambda: not rig.parts.gateway._sessions._all())
        assert POOL not in rig.parts.service.roster.pools


async def test_one_that_can_verify_gets_it_signed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        send_elsewhere(rig)
        agent = await attached(rig, capabilities=[*ABLE, "signed_orders"])
        content = opened(rig, await agent.expect("signed"))
        assert content.elsewhere.address == "192.0.2.9:7443" and content.host_uuid == HOSTS[0]
        assert content.boot_id == "boot-1" and content.echo_mono_ms > 0 and content.valid_for_ms > 0


async def test_one_that_does_not_go_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "FOLLOWS_WITHIN_S", 0.2)
    async with running(tmp_path) as rig:
        send_elsewhere(rig)
        agent = await attached(rig, capabilities=ABLE)
        error = await agent.ended()
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and "said who has" in (error.details() or "")


async def test_one_that_cannot_follow_is_told_where_its_pool_is(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        send_elsewhere(rig)
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        error = await agent.refused(capabilities=["promote"])
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "c2 at 192.0.2.9:7443" in (error.details() or "") and "too old" in (error.details() or "")


async def test_hosts_of_other_pools_are_welcomed_as_ever(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        send_elsewhere(rig)
        await rig.agent(HOSTS[1], pool_uuid="aaaaaaaa-0000-4000-8000-000000000002")


async def test_a_copied_certificate_moves_no_stream_that_is_there(tmp_path: Path) -> None:
    """Sending on concerns the stream that asks; the host's own goes on."""
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0], capabilities=ABLE)
        await agent.send(report=pb.Report(full=True))
        send_elsewhere(rig)
        await (await attached(rig, capabilities=ABLE)).expect("elsewhere")
        session = rig.parts.gateway._sessions.of(HOSTS[0])
        assert session is not None and session.closing is None


async def test_a_pool_that_is_given_away_is_told_on_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.agents.sessions.FOLLOWS_WITHIN_S", 0.2)
    async with running(tmp_path) as rig:
        able = await rig.agent(HOSTS[0], capabilities=ABLE)
        old = await rig.agent(HOSTS[1])
        other = await rig.agent(HOSTS[2], pool_uuid="aaaaaaaa-0000-4000-8000-000000000002", capabilities=ABLE)
        rig.parts.gateway._sessions.send_on(POOL, OTHER)
        assert (await able.expect("elsewhere")).collector == "c2"
        errors = await asyncio.gather(able.ended(), old.ended())
        assert "another collector's" in (errors[0].details() or "")
        assert errors[1].code() == grpc.StatusCode.FAILED_PRECONDITION
        assert rig.parts.gateway._sessions.of(HOSTS[2]) is not None
        await other.send(report=pb.Report(full=True))


async def test_the_engine_of_one_of_several_hears_who_obeys_its_epoch(tmp_path: Path) -> None:
    async with running(tmp_path, one_of_several=True) as rig:
        epoch = of_ownership(1, 5, 7)
        service = rig.parts.service
        assert await service.adopt(PoolRecord(POOL), epoch, LeftBehind())
        agents = [await rig.agent(host, capabilities=ABLE) for host in HOSTS[:2]]

        def acknowledged() -> frozenset[str]:
            return service.roster.pools[POOL].live.acknowledged

        for agent in agents:
            await agent.send(report=pb.Report(full=True))
        await until(lambda: service.roster.pools[POOL].live.agents.keys() == {*HOSTS[:2]})
        await agents[0].send(epoch_ack=pb.EpochAck(epoch=epoch, boot_id="boot-1"))
        await agents[1].send(epoch_ack=pb.EpochAck(epoch=epoch, boot_id="another boot"))
        await agents[1].send(epoch_ack=pb.EpochAck(epoch=epoch - 1, boot_id="boot-2"))
        await until(lambda: acknowledged() == {HOSTS[0]})
        await agents[1].send(epoch_ack=pb.EpochAck(epoch=epoch, boot_id="boot-2"))
        await until(lambda: acknowledged() == {*HOSTS[:2]})


async def test_a_ping_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await attached(rig, capabilities=ABLE)
        assert (await agent.expect("welcome")).pongs
        await agent.send(ping=pb.Ping(number=7))
        assert (await agent.expect("pong")).number == 7


async def test_a_host_that_has_pinned_several_keys_is_named_only_if_none_of_them_is_this_collectors(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as rig:
        mine = load_or_make(rig.config.state_dir).key_id
        for host, keys in ((HOSTS[0], ["f" * 16, mine]), (HOSTS[1], ["e" * 16, "f" * 16])):
            await (await attached(rig, host, order_key_id=keys[0], order_key_ids=keys)).expect("welcome")
        warnings = [each for each in rig.parts.service.roster.warnings() if "order key" in each]
        assert len(warnings) == 1 and HOSTS[1] in warnings[0] and "e" * 16 in warnings[0] and "trust-key" in warnings[0]
