"""Status of very many pools: pages, the overview, what narrows them, and turns for the engine in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden import typed_names
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.report import pool_line, status
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.operators import api, names, turns
from poolwarden_collector.shell.operators.turns import MOST_TURNS, Turns
from poolwarden_collector.shell.operators.wire import LONG, in_bytes
from poolwarden_collector.shell.parts import Parts
from poolwarden_collector.shell.store.journal import Journal

from .many import called, host_of, pools, served, uuid_of

pytestmark = pytest.mark.asyncio
COUNT = 60  # of each 20 one has lost its master, one has a silent member, one is paused


@contextlib.asynccontextmanager
async def operated(folder: Path, named: Any = called, extra: str = "") -> AsyncIterator[tuple[Parts, Any]]:
    made = (
        replace(pool, policy=replace(pool.policy, site="south" if number % 2 else ""))
        for number, pool in enumerate(pools(COUNT, 3, named))
    )
    async with (
        served(folder, made, extra) as parts,
        grpc.aio.insecure_channel(f"unix:{parts.service.roster.config.operator_socket}") as channel,
    ):
        yield parts, rpc.OperatorStub(channel)


def numbers(reply: Any) -> list[int]:
    return [int(pool.pool_uuid[:8]) for pool in reply.pools]


async def test_pages_neither_repeat_nor_hide_pools_when_others_come_and_go(tmp_path: Path) -> None:
    async with operated(tmp_path) as (parts, stub):
        roster, seen, after = parts.service.roster, [], ""
        for number in (0, 30):  # they came last, and stand where their UUIDs do
            pool = roster.pools[uuid_of(number)]
            del roster.pools[uuid_of(number)]
            roster.pools[uuid_of(number)] = pool
        for round_ in range(10):
            page = await stub.Status(pb.StatusRequest(limit=25, after=after))
            assert len(page.pools) <= 25
            seen += numbers(page)
            if not page.next:
                break
            after = page.next
            if not round_:
                del roster.pools[after]  # the very one that the next page comes after
            late = roster.pools[uuid_of(59)]
            roster.pools[uuid_of(70 + round_)] = replace(late, record=replace(late.record, pool=uuid_of(70 + round_)))
        assert seen == [*range(60), 70, 71]
        whole = await stub.Status(pb.StatusRequest())
        assert not whole.next and not whole.HasField("overview") and len(whole.pools) == len(roster.pools)


async def test_the_overview_counts_all_and_tells_the_worst(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        reply = await stub.Status(pb.StatusRequest(overview=True, few=30, limit=5))
        assert not reply.pools
        together = reply.overview
        assert (together.pools, together.hosts, together.hosts_heard, together.waiting) == (60, 180, 174, 3)
        assert {each.word: each.count for each in together.levels} == {"critical": 3, "warning": 6, "good": 51}
        assert {each.word: each.count for each in together.verdicts} == {
            "Healthy": 54,
            "MasterVanished": 3,
            "MemberVanished": 3,
        }
        assert [line.name for line in together.lines[:4]] == ["pool-0000", "pool-0020", "pool-0040", "pool-0001"]
        assert together.lines[0].waiting and together.lines[0].hosts_heard == 2
        assert len(together.lines) == 5
        few = await stub.Status(pb.StatusRequest(overview=True, few=60))
        assert len(few.pools) == len(few.overview.lines) == 60
        whole = {pool.pool_uuid: pool for pool in few.pools}
        for line in few.overview.lines:
            now = whole[line.pool_uuid].situation
            assert (line.headline, line.level, line.verdict) == (now.headline, now.level, whole[line.pool_uuid].verdict)


@pytest.mark.slow
async def test_what_narrows_the_pools(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):

        async def asked(**words: Any) -> list[int]:
            return numbers(await stub.Status(pb.StatusRequest(**words)))

        assert await asked(name="OOL-003", limit=100) == list(range(30, 40))
        assert await asked(verdicts=["mastervanished", "MemberVanished"]) == [0, 1, 20, 21, 40, 41]
        assert await asked(site="south", verdicts=["MemberVanished"]) == [1, 21, 41]
        assert await asked(site="south", verdicts=["MasterVanished"]) == []
        assert await asked(host=host_of(7, 2)) == [7] and len(await asked(host="host-2")) == 60
        assert await asked(pool="pool-0003", host="host-9") == []
        both = await stub.Status(pb.StatusRequest(overview=True, site="south"))
        assert both.overview.pools == 30
        for words, said in (({"verdicts": ["Healty"]}, "did you mean Healthy"), ({"verdicts": ["x"] * 65}, "at most")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asked(**words)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT and said in str(refused.value.details())


async def test_each_pool_is_looked_at_once_and_the_journal_as_often_as_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, reads = [0], [0]

    class Counted(Snapshot):
        def __init__(self, *given: Any) -> None:
            looks[0] += 1
            super().__init__(*given)

    for module in (pool_line, status):
        monkeypatch.setattr(module, "Snapshot", Counted)
    beside = Journal._beside
    monkeypatch.setattr(Journal, "_beside", lambda self: (reads.__setitem__(0, reads[0] + 1), beside(self))[1])
    async with operated(tmp_path) as (parts, stub):
        found = {}
        for name, request in (
            ("one", pb.StatusRequest(pool=uuid_of(3))),
            ("overview", pb.StatusRequest(overview=True)),
            ("page", pb.StatusRequest(limit=20)),
            ("whole", pb.StatusRequest()),
        ):
            looks[0] = reads[0] = 0
            await stub.Status(request)
            found[name] = (looks[0], reads[0])
        assert {name: count for name, (count, _) in found.items()} == {
            "one": 1,
            "overview": 60,
            "page": 20,
            "whole": 60,
        }
        assert max(count for _, count in found.values()) == found["one"][1] < 6


@pytest.mark.slow
async def test_the_engine_has_its_turn_after_each_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    since, most, looks = 0, 0, 0

    class Counted(Snapshot):
        def __init__(self, *given: Any) -> None:
            nonlocal since, most, looks
            since, looks = since + 1, looks + 1
            most = max(most, since)
            super().__init__(*given)

    async def engine() -> None:
        nonlocal since
        while True:
            await asyncio.sleep(0)
            since = 0

    for module in (pool_line, status, api):
        monkeypatch.setattr(module, "Snapshot", Counted)
    async with operated(tmp_path) as (_, stub):
        spinning = asyncio.ensure_future(engine())
        for method, request in (
            (stub.Status, pb.StatusRequest(overview=True)),
            (stub.Status, pb.StatusRequest()),
            (stub.Readiness, pb.ReadinessRequest()),
        ):
            most = looks = 0
            await method(request)
            assert (looks, most) == (COUNT, 1), request
        spinning.cancel()


async def test_a_name_among_thousands_of_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_LOOKED_AT", 100)
    async with operated(tmp_path) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Late(pb.LateRequest(host="hots-2"))
        said = "there is no host 'hots-2', did you mean host-2?; there are 180 hosts in 60 pools: poolwarden hosts POOL"
        assert refused.value.details() == said
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Late(pb.LateRequest(host="host-2"))
        assert "is the name of 60 hosts; use one of: pool-0000/host-2" in str(refused.value.details())


async def test_turns_come_after_a_slice_and_are_more_while_events_wait() -> None:
    at, waiting, ran = [0.0], [0], [0]

    async def others() -> None:
        while True:
            ran[0] += 1
            waiting[0] = max(0, waiting[0] - 1)
            await asyncio.sleep(0)

    spinning = asyncio.ensure_future(others())
    rests = Turns(lambda: waiting[0], lambda: at[0])
    await rests.rest()
    assert ran[0] == 0  # its slice is not over
    for queued, most in ((0, 1), (3, 3), (100, MOST_TURNS)):
        at[0], waiting[0], ran[0] = at[0] + 1, queued, 0
        await rests.rest()
        assert ran[0] == most, queued
        await rests.rest()
        assert ran[0] == most
    spinning.cancel()


@pytest.mark.slow
async def test_names_are_quoted_pool_by_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text is held against its own pool's names: against all of them it would take time by the square of them."""
    held: list[int] = []
    real = typed_names.quoted

    def quoted(text: str, names: Any) -> str:
        held.append(len(names))
        return real(text, names)

    monkeypatch.setattr(typed_names, "quoted", quoted)
    async with operated(tmp_path, lambda n: f"pool {n:04d}") as (_, stub):
        reply = await stub.Status(pb.StatusRequest())
        todo = [text for pool in reply.pools for text in pool.situation.todo]
        assert "poolwarden resume 'pool 0002'" in todo and len(todo) >= 6
        assert held and sum(count > 1 for count in held) < 20
        one = await stub.Explain(pb.ExplainRequest(pool=uuid_of(2)))
        assert any("'pool 0002'" in text for text in (*one.refused, *one.not_ready, one.next_step))


async def test_a_long_reply_is_the_same_in_parts() -> None:
    for count in (LONG - 1, LONG, 300):
        reply = pb.StatusReply(collector_name="a", epoch=1 << 63, next="n", warnings=["w"] * 100)
        for number in range(count):
            reply.pools.add(name=f"p{number}", hosts=[pb.HostStatus(name="h" * number)])
        before = pb.StatusReply()
        before.CopyFrom(reply)
        written = await in_bytes(reply, Turns(lambda: 0))
        assert isinstance(written, bytes) is (count >= LONG)
        assert (pb.StatusReply.FromString(written) if isinstance(written, bytes) else written) == before
