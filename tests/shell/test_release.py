"""One of several collectors, whole: agents are welcomed in adopted pools alone, and sent on when those are released."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import HandOver, PowerOff, ReadPower
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.epoch import HIGHEST, of_ownership
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.agents import gateway
from poolwarden_collector.shell.enrolment.identity import identity_of
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.queue.happening import Happening

from .rig import HOSTS, POOL, PlayedAgent, Rig, running, until
from .test_fencer import script

pytestmark = pytest.mark.asyncio

OTHER = "bbbbbbbb-0000-4000-8000-000000000002"
FIRST, SECOND = of_ownership(1, 10, 3), of_ownership(1, 12, 3)
ABLE = ["promote", "elsewhere"]


async def calls(rig: Rig, host: str = HOSTS[0], **hello: Any) -> PlayedAgent:
    agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(host), host)
    rig.agents.append(agent)
    await agent.attach(**{"capabilities": ABLE, "highest_epoch": FIRST + 10**9, **hello})
    return agent


def hosts(rig: Rig) -> set[str]:
    pool = rig.parts.service.roster.pools.get(POOL)
    return {host for host, agent in pool.live.agents.items() if agent.connected} if pool is not None else set()


async def test_agents_are_welcomed_in_a_pool_that_is_owned_and_with_its_epoch(tmp_path: Path) -> None:
    async with running(tmp_path, one_of_several=True) as rig:
        service = rig.parts.service
        early = await calls(rig)
        told = await early.stream.read()
        assert told.WhichOneof("body") == "elsewhere" and not told.elsewhere.address
        early.stream.cancel()
        assert await service.adopt(PoolRecord(POOL), FIRST)
        agent = await calls(rig, highest_epoch=0)
        assert (await agent.expect("welcome")).epoch == FIRST
        await agent.send(report=pb.Report(full=True))
        await until(lambda: hosts(rig) == {HOSTS[0]})
        assert rig.parts.journal.epoch != FIRST and service.alive()
        rows = [row for row in rig.parts.journal.history(limit=100) if row.pool == POOL]
        assert rows[0].kind == Kind.COLLECTOR_STARTED.value and "owns this pool" in rows[0].text


def posted(rig: Rig) -> list[Any]:
    """What comes into the queue from now on."""
    found: list[Any] = []
    post = rig.parts.inbox.post

    def take(pool: str, event: Any, at: int | None = None) -> bool:
        found.append(event)
        return post(pool, event, at)

    rig.parts.inbox.post = take  # type: ignore[method-assign]
    return found


async def test_a_released_pool_is_neither_heard_nor_spoken_to_and_begins_anew(tmp_path: Path) -> None:
    async with running(tmp_path, one_of_several=True) as rig:
        service, sessions = rig.parts.service, rig.parts.gateway._sessions
        for pool in (POOL, OTHER):
            assert await service.adopt(PoolRecord(pool), FIRST)
        agent, beside = await calls(rig, highest_epoch=0), await calls(rig, HOSTS[1], pool_uuid=OTHER, highest_epoch=0)
        await agent.expect("welcome")
        await until(lambda: hosts(rig) == {HOSTS[0]})
        given: list[on.GiveUp] = []
        service.on_give_up(given.append)
        waits = await calls(rig, highest_epoch=0)
        await waits.expect("challenge")
        for _ in range(2):  # of reports that come soon after each other the last one waits
            await agent.send(report=pb.Report(full=True))
        await until(lambda: (session := sessions.of(HOSTS[0])) is not None and session.folded is not None)
        old, record = sessions._all(), service.roster.pools[POOL].record
        streams = {session.state.stream for session in old if session.pool == POOL}
        events = posted(rig)
        await service.release(POOL, "it was moved")
        assert (await agent.expect("elsewhere")).reason == (await waits.expect("elsewhere")).reason == "it was moved"
        # It says more before it goes, and the pool is here again meanwhile.
        assert await service.adopt(record, SECOND) and len(streams) == 2
        await agent.send(report=pb.Report(full=True))
        await agent.send(order_result=pb.OrderResult(order_id="claim-1"))
        again = await calls(rig, highest_epoch=FIRST)
        nonce = (await again.expect("challenge")).nonce
        await again.send(challenge_answer=pb.ChallengeAnswer(nonce=nonce, boot_id="boot-1"))
        await until(lambda: hosts(rig) == {HOSTS[0]})
        now = sessions.of(HOSTS[0])
        assert now is not None and now.state.stream not in streams and not given
        assert service.roster.pools[POOL].live.agents[HOSTS[0]].stream == now.state.stream
        await beside.send(report=pb.Report(full=True))
        await until(lambda: service.roster.pools[OTHER].live.agents[HOSTS[1]].reported)
        for each in (agent, waits):
            await each.close()
        await until(lambda: len(sessions._all()) == 2 and not rig.parts.gateway._folding)
        assert not [event for event in events if getattr(event, "stream", 0) in streams]


@pytest.mark.parametrize("says", [POOL, ""])
async def test_what_a_host_of_an_owned_pool_claims_has_its_bound(
    tmp_path: Path, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its certificate alone says of which pool it is; of a pool that is not owned nothing is concluded."""
    async with running(tmp_path, one_of_several=True) as rig:
        assert await rig.parts.service.adopt(PoolRecord(POOL), FIRST)
        # Its certificate is of that pool.
        monkeypatch.setattr(gateway, "identity_of", lambda context: replace(identity_of(context), pool=POOL))
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        error = await agent.refused(pool_uuid=says, highest_epoch=HIGHEST)
        assert "highest_epoch" in (error.details() or "")


async def test_a_waiting_stream_does_not_follow_the_one_that_is_sent_on(tmp_path: Path) -> None:
    async with running(tmp_path, one_of_several=True) as rig:
        service, sessions = rig.parts.service, rig.parts.gateway._sessions
        assert await service.adopt(PoolRecord(POOL), FIRST)
        first = await calls(rig, highest_epoch=0)
        await first.expect("welcome")
        await until(lambda: hosts(rig))
        waits = await calls(rig, highest_epoch=0)
        await waits.expect("challenge")
        events = posted(rig)
        await service.release(POOL, "it was moved")
        await first.close()
        await until(lambda: len(sessions._all()) == 1)
        assert sessions.of(HOSTS[0]) is None and not events


async def test_one_of_several_begins_with_no_pool_whatever_its_archive_holds(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.agent(HOSTS[0])
        await until(lambda: hosts(rig))
    async with running(tmp_path, one_of_several=True) as rig:
        assert rig.parts.journal.pools() == [POOL] and not rig.parts.service.roster.pools


async def test_what_waits_for_a_released_pool_is_not_heard_and_a_command_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, one_of_several=True) as rig:
        service, inbox = rig.parts.service, rig.parts.inbox
        assert await service.adopt(PoolRecord(POOL), FIRST)
        async with service._between_events:  # nothing is taken meanwhile
            leaving = asyncio.ensure_future(service.release(POOL, "it was moved"))
            await asyncio.sleep(0)
            asked = rig.parts.operators._commands._replies.expect("r-9")
            inbox.post(POOL, ev.AgentGone(HOSTS[0], 4))
            inbox.post(POOL, ev.OperatorSaid("r-9", "anna", "pause", "", (("reason", "work"),)))
            inbox.post(OTHER, ev.Tick())
        await leaving
        reply = await asyncio.wait_for(asked, 5)
        assert (reply.accepted, reply.code) == (False, "stood-down")
        assert POOL not in service.roster.pools
        assert await service.adopt(PoolRecord(POOL), SECOND)
        async with service._between_events:
            inbox.post(POOL, ev.AgentGone(HOSTS[0], 4))
            inbox.post(OTHER, ev.AgentGone(HOSTS[1], 5))
            service._again.append(Happening(POOL, ev.AgentGone(HOSTS[0], 6)))
            service._release(POOL, "it was moved")
            left = {happening.pool for happening in service._again} | {each.pool for each in inbox.forget(OTHER)}
            assert POOL not in left and not inbox.forget(POOL)


async def test_nothing_goes_on_for_a_released_pool(tmp_path: Path) -> None:
    """Its switches and readings end, its xapi is probed no more, no database is handed over for it."""
    hang = script(tmp_path, "cat >/dev/null; sleep 60")
    extra = "".join(
        f'[[fence]]\nhost = "{host}"\nagent = "{hang}"\nname = "{name}"\n[fence.parameters]\nip = "192.0.2.{n}"\n'
        for n, (host, name) in enumerate([(HOSTS[0], "a"), (HOSTS[1], "b"), (HOSTS[2], "c")])
    )
    async with running(tmp_path, extra, one_of_several=True) as rig:
        service, perform = rig.parts.service, rig.parts.service._effects.perform
        fencer = rig.parts.fencer
        for pool in (POOL, OTHER):
            assert await service.adopt(PoolRecord(pool), FIRST)
        perform(POOL, PowerOff(HOSTS[0], "a", "run-1"))
        perform(POOL, ReadPower(HOSTS[1], "b", "run-2"))
        perform(OTHER, ReadPower(HOSTS[2], "c", "run-3"))
        perform(POOL, HandOver("t-1", HOSTS[0], "b", HOSTS[1], "b", 1, 1, 1 << 20, 60_000))
        await until(lambda: len(fencer._begun) == 1 and len(fencer._tasks) == 3)
        rig.parts.prober.aim(POOL, Target(HOSTS[0], "127.0.0.1"))  # last: the pool's own steps aim it at nobody
        assert POOL in rig.parts.prober._tasks
        await service.release(POOL, "it was moved")
        await until(lambda: len(fencer._tasks) == 1)
        assert [*fencer._reads] == ["run-3"] and POOL not in rig.parts.prober._tasks
        assert not service._effects._handovers._of  # type: ignore[attr-defined]
