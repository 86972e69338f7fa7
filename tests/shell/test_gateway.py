"""Agents' streams over real mutual TLS: who is let in, what replaces what, what reaches the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.signed import implausible
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.epoch import LOT_BITS, of_ownership
from poolwarden_collector.core.model.orders import Order, Preconditions, Promote, ReadDatabase
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.state.live import AgentState, Pool
from poolwarden_collector.core.state.pool_record import HostRecord, PoolRecord
from poolwarden_collector.shell.agents import port
from poolwarden_collector.shell.agents.trust import warnings
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.loop.performer import order_sender
from poolwarden_collector.shell.operators.names import Names

from .rig import HOSTS, POOL, PlayedAgent, Rig, mono_ms, running, until, write_config

pytestmark = pytest.mark.asyncio


def agent_state(rig: Rig, host: str) -> AgentState | None:
    pool = rig.parts.service.roster.pools.get(POOL)
    return pool.live.agents.get(host) if pool is not None else None


async def state_of(rig: Rig, host: str, wanted: Any) -> AgentState:
    """The engine's view of an agent, once ``wanted`` of it is true."""
    state = await until(lambda: (s := agent_state(rig, host)) is not None and wanted(s) and s)
    assert isinstance(state, AgentState)
    return state


async def test_an_agent_is_welcomed_told_what_to_probe_and_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        first = await rig.agent(HOSTS[0])
        await first.expect("settings")
        second = await rig.agent(HOSTS[1])
        told = await second.expect("settings")
        assert [t.address for t in told.probe_targets] == ["192.0.2.1"]
        assert (told.report_interval_ms, told.probe_interval_ms, told.probe_timeout_ms) == (2000, 2000, 1500)
        await first.send(report=pb.Report(full=True, role=pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER)))
        state = await state_of(rig, HOSTS[0], lambda s: s.reported)
        assert state.facts.role.pool_conf is Role.MASTER


async def test_welcome_carries_the_durable_epoch(tmp_path: Path) -> None:
    for epoch in (1, 2):
        async with running(tmp_path) as rig:
            agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
            rig.agents.append(agent)
            await agent.attach()
            assert (await agent.expect("welcome")).epoch >> LOT_BITS == epoch


async def test_a_hello_for_another_host_is_refused_and_said(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        liar = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[1])
        rig.agents.append(liar)
        ended = await liar.refused()
        assert ended.code() is grpc.StatusCode.PERMISSION_DENIED
        assert HOSTS[0] in str(ended.details()) and HOSTS[1] in str(ended.details())
        assert any(HOSTS[1] in warning for warning in rig.parts.service.roster.warnings())
        assert POOL not in rig.parts.service.roster.pools


async def test_a_certificate_of_no_host_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        bundle = certificates.issue_collector(tmp_path / "ca", "spy", (), tmp_path / "spy")
        spy = PlayedAgent(rig.parts.gateway.port, bundle, "")
        rig.agents.append(spy)
        # Refused by TLS already (no client certificate by its usage) or by the gateway: never let in.
        assert (await spy.refused()).code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE)
        assert not rig.parts.service.roster.pools


async def test_without_a_certificate_there_is_no_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        nobody = PlayedAgent(rig.parts.gateway.port, None, HOSTS[0], tmp_path / "tls/ca.pem")
        rig.agents.append(nobody)
        assert (await nobody.refused()).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        certificates.create_ca(tmp_path / "other")
        bundle = certificates.issue_host(tmp_path / "other", HOSTS[0], tmp_path / "forged")
        forged = certificates.Bundle(tmp_path / "tls/ca.pem", bundle.cert, bundle.key)
        agent = PlayedAgent(rig.parts.gateway.port, forged, HOSTS[0])
        rig.agents.append(agent)
        assert (await agent.refused()).code() is grpc.StatusCode.UNAVAILABLE


async def test_the_first_message_must_be_hello(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        await agent.send(report=pb.Report(full=True))
        assert (await agent.ended()).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_silence_instead_of_hello_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.agents.gateway.HELLO_WITHIN_S", 0.2)
    async with running(tmp_path) as rig:
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        assert (await agent.ended()).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_second_hello_ends_the_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await agent.attach(boot_id="another")
        assert (await agent.ended()).code() is grpc.StatusCode.ABORTED


async def test_a_host_that_changes_its_pool_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await state_of(rig, HOSTS[0], lambda s: s.connected)
        await agent.close()
        moved = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(moved)
        assert (await moved.refused(pool_uuid=POOL.replace("1", "2"))).code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_orphan_that_forgot_its_pool_is_known_by_the_record(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        stranger = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[1]), HOSTS[1])
        rig.agents.append(stranger)
        assert (await stranger.refused(pool_uuid="")).code() is grpc.StatusCode.FAILED_PRECONDITION
        known = await rig.agent(HOSTS[1])
        await state_of(rig, HOSTS[1], lambda s: s.connected)
        await known.close()
        await rig.agent(HOSTS[1], pool_uuid="")


async def test_a_newer_stream_replaces_the_older_one(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        older = await rig.agent(HOSTS[0])
        newer = await rig.agent(HOSTS[0])
        nonce = (await newer.expect("challenge")).nonce
        await newer.send(challenge_answer=pb.ChallengeAnswer(nonce=nonce, boot_id="boot-1"))
        ended = await older.ended()
        assert ended.code() is grpc.StatusCode.ABORTED and "newer stream" in str(ended.details())
        await newer.send(report=pb.Report(full=True))
        state = await state_of(rig, HOSTS[0], lambda s: s.reported)
        assert state.connected and state.stream == 2


async def test_a_lost_connection_is_no_goodbye_and_a_goodbye_is(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        lost = await rig.agent(HOSTS[0])
        polite = await rig.agent(HOSTS[1])
        await state_of(rig, HOSTS[1], lambda s: s.connected)
        await lost.close()
        await polite.send(goodbye=pb.Goodbye(reason=pb.Goodbye.HOST_SHUTDOWN))
        await polite.stream.done_writing()
        assert (await state_of(rig, HOSTS[0], lambda s: not s.connected)).goodbye == ""
        assert (await state_of(rig, HOSTS[1], lambda s: not s.connected)).goodbye == "host_shutdown"


async def test_deltas_are_merged_and_stamps_are_the_collectors(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        boot = mono_ms() - 5_000  # this agent's clock started 5 s ago
        agent = await rig.agent(HOSTS[0], born=boot)
        full = pb.Report(
            full=True, database=pb.DatabaseFacts(generation=7), role=pb.RoleFacts(pool_conf=pb.RoleFacts.MEMBER)
        )
        await agent.send(report=full)
        probe = pb.Probe(host_uuid=HOSTS[1], outcome=pb.Probe.ANSWERED, probed_mono_ms=4_000, answered_mono_ms=4_000)
        await agent.send(report=pb.Report(probes=pb.ProbeList(probes=[probe])))
        state = await state_of(rig, HOSTS[0], lambda s: s.facts.probes)
        assert (state.facts.database.generation, state.facts.role.pool_conf) == (7, Role.MEMBER)
        assert abs(state.facts.probes[0].probed_at - (boot + 4_000)) < 500


async def test_a_gap_asks_for_a_full_report(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await agent.send(report=pb.Report(full=True))
        await agent.send(report=pb.Report(), sequence=9)
        await agent.expect("full_report_request")


async def test_an_order_reaches_its_host_with_epoch_pool_and_echo(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        stamp = await agent.send(report=pb.Report(full=True))
        await state_of(rig, HOSTS[0], lambda s: s.reported)
        given = Order("o-1", HOSTS[0], "boot-1", 3, Promote(), 15_000, Preconditions((Role.MEMBER,), ha_off=True))
        rig.parts.service._effects.perform(POOL, SendOrder(given))
        order = await agent.expect("order")
        assert (order.order_id, order.epoch >> LOT_BITS, order.term, order.pool_uuid) == ("o-1", 1, 3, POOL)
        assert (order.echo_mono_ms, order.valid_for_ms, order.WhichOneof("kind")) == (stamp, 15_000, "promote")
        assert list(order.preconditions.pool_conf_in) == [pb.RoleFacts.MEMBER] and order.preconditions.ha_off


async def test_a_message_over_the_limit_ends_the_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        names = [str(n) * 1024 for n in range(4_000)]
        await agent.send(report=pb.Report(full=True, domains=pb.DomainList(readable=True, vm_uuids=names)))
        assert (await agent.ended()).code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.agent(HOSTS[0])
        for name in ("ca", "tls"):
            (tmp_path / name).rename(tmp_path / f"old-{name}")
        certificates.create_ca(tmp_path / "ca")
        certificates.issue_collector(tmp_path / "ca", "test", ("127.0.0.1",), tmp_path / "tls")
        await rig.agent(HOSTS[1])  # its bundle is of the new authority: neither side would accept the old one


async def test_a_host_without_a_boot_has_not_spoken(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        ended = await agent.refused(boot_id="")
        assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT and "boot_id is empty" in str(ended.details())
        assert rig.parts.gateway._sessions.of(HOSTS[0]) is None


async def test_a_host_speaks_in_no_second_pool_by_a_stream_that_came_before_it_spoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = POOL.replace("1", "2")
    async with running(tmp_path) as rig:
        roster = rig.parts.service.roster
        await rig.agent(HOSTS[0])
        await until(lambda: roster.spoke_in(HOSTS[0]) == POOL)
        with monkeypatch.context() as patch:
            patch.setattr(roster, "spoke_in", lambda host: "")
            second = await rig.agent(HOSTS[0], pool_uuid=other)
        nonce = (await second.expect("challenge")).nonce
        await second.send(challenge_answer=pb.ChallengeAnswer(nonce=nonce, boot_id="boot-1"))
        assert "has spoken in pool" in str((await second.ended()).details())
        assert other not in roster.pools


async def test_no_pools_engine_reaches_a_host_of_another_pool(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.agent(HOSTS[0])
        roster, sessions = rig.parts.service.roster, rig.parts.gateway._sessions
        send = order_sender(roster, sessions)
        order = Order("o", HOSTS[0], "boot-1", 1, ReadDatabase(0, 1), 1_000)
        assert send(POOL, order) and not send(POOL.replace("1", "2"), order)


async def test_what_a_host_is_called_makes_no_other_warning(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        roster = rig.parts.service.roster
        roster.warn("something else")
        for number in range(50):
            said = pb.Hello(host_uuid=HOSTS[0], host_name=f"h{number}", order_key_id="k", local_trouble="t")
            for text, about in warnings(said, "m"):
                roster.warn(text, about)
        assert any("something else" in text for text in roster.warnings())


async def test_a_host_without_an_order_key_refuses_several_collectors_and_that_is_told() -> None:
    bare, pins = pb.Hello(host_uuid=HOSTS[0], host_name="h1"), pb.Hello(host_uuid=HOSTS[0], order_key_ids=["m", "k"])
    assert not [*warnings(bare, "m")] and not [*warnings(pins, "m", {})]
    [(text, _)] = warnings(bare, "m", {})
    assert "no order key" in text
    assert implausible(0, 0, of_ownership(1, 1, 0), 0, signed=False), "the least of an ownership's epochs"
    assert not implausible(0, 0, of_ownership(1, 1, 0), 0, signed=True)


async def test_a_host_that_two_pools_list_is_of_the_one_in_which_it_has_spoken() -> None:
    other, host = POOL.replace("1", "2"), HOSTS[0]
    lists = Pool(PoolRecord(other, "lists", hosts={host: HostRecord(host, "web-1")}), Policy())
    spoken = Pool(PoolRecord(POOL, "has", hosts={host: HostRecord(host, "web-1", boot_id="b")}), Policy())
    assert Names({other: lists, POOL: spoken}, {}).host(host) == (POOL, host)
    assert Names({other: lists}, {}).host(host) == (other, host)


RARE = 'report_interval = "5s"\nsuspect_after = "10s"\nvanished_after = "20s"'


@pytest.mark.parametrize(
    ("policy", "keepalive_ms"),
    [
        ("", 2_000),
        ('report_interval = "1s"', 2_000),
        (RARE, 6_000),
        (f'{RARE}\n[pools."{POOL}".policy]\nreport_interval = "2s"', 2_000),
    ],
)
async def test_no_ping_goes_out_where_reports_come_as_they_shall(
    tmp_path: Path, policy: str, keepalive_ms: int
) -> None:
    options = dict(port.options(load(write_config(tmp_path, f"[policy]\n{policy}"))))
    assert options["grpc.keepalive_time_ms"] == keepalive_ms and options["grpc.keepalive_timeout_ms"] == 1_000
    assert dict(port.OPTIONS) | {"grpc.keepalive_time_ms": keepalive_ms} == options
