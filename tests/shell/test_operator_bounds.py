"""What one operator may take of the collector's time, memory and disk, attacked from outside over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.operators import admission, journal_reader

from .rig import POOL
from .test_operator_access import command, ended, two_pools
from .test_operator_tls import caller, operator


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_name_without_an_end_holds_nobody_up_and_fills_no_record(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "olga")) as stub:
        before = asyncio.get_running_loop().time()
        for length, code in ((60_000, grpc.StatusCode.NOT_FOUND), (70_000, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            name = "go\x01" * (length // 3)
            for call in (stub.Status(pb.StatusRequest(pool=name)), stub.Command(command("pause", pool=name))):
                error = await ended(call)
                assert error.code() in (code, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert asyncio.get_running_loop().time() - before < 5.0
        recorded = rig.parts.journal.calls(None, "", "", 0)
        assert recorded and max(len(str(row)) for row in recorded) < 12_000


@pytest.mark.slow
@pytest.mark.asyncio
async def test_one_person_has_so_many_calls_open_and_another_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "AT_ONCE", 4)
    async with two_pools(tmp_path) as rig, contextlib.AsyncExitStack() as stack:
        vera, olga = operator(rig, "vera"), operator(rig, "olga")
        one, another, stub = [await stack.enter_async_context(caller(rig, each)) for each in (vera, vera, olga)]
        held = [of.Follow(pb.HistoryRequest(), timeout=60) for of in (one, another) for _ in range(2)]
        for call in held:
            await call.read()
        for call in (one.Status(pb.StatusRequest()), another.Command(command("pause"))):
            error = await ended(call)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "vera has 4 calls open" in error.details()
        assert "vera has 4 calls open" in rig.parts.journal.calls(None, "", "", 0)[-1]["result"]
        await stub.Status(pb.StatusRequest())
        held[0].cancel()
        await asyncio.sleep(0.5)
        await one.Status(pb.StatusRequest())


@pytest.mark.slow
@pytest.mark.asyncio
async def test_who_rules_no_collector_changes_so_much_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CHANGES", 3)
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "olga")) as stub:
        codes = [await ended(stub.Command(command("restart_xapi", host="nobody"))) for _ in range(5)]
        assert [error.code().name for error in codes] == ["NOT_FOUND"] * 3 + ["RESOURCE_EXHAUSTED"] * 2
        await stub.Status(pb.StatusRequest())
        assert len(rig.parts.journal.calls(None, "", "", 0)) == 5, "each of them is recorded"
        async with caller(rig, operator(rig, "ada")) as admin:
            for _ in range(5):
                assert (await ended(admin.Command(command("restart_xapi", host="nobody")))).code().name == "NOT_FOUND"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_is_stored_is_followed_part_by_part_whole_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "MOST_ROWS", 3)
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "carl")) as stub:
        entries = [Entry(Kind.HOOK_RAN, str(number), {}) for number in range(20)]
        rig.parts.service.publish(await rig.parts.service.write(rig.parts.journal.commit, POOL, entries, [], "gold"))
        for limit in (2, 3, 4, 6, 11, 1000):
            following, texts = stub.Follow(pb.HistoryRequest(limit=limit), timeout=20), []
            while not texts or texts[-1] != "19":
                texts.append((await following.read()).text)
            numbers = [text for text in texts if text.isdigit()]
            assert numbers == [str(number) for number in range(20)][-limit:] and len(texts) <= limit
            following.cancel()
