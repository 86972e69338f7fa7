"""Evidence capsules: taken over piece by piece, bounded whatever a host does, shown to whom their pool is shown."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tarfile
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.agents import capsules as intake
from poolwarden_collector.shell.store import capsules as store
from poolwarden_collector.shell.store.capsules import Capsules, NoRoom, Offered
from poolwarden_collector.shell.store.journal_rows import Row

from .rig import HOSTS, POOL, PlayedAgent, running, until
from .test_operator_access import SECRET, ended, two_pools
from .test_operator_api import FAR, OTHER, operated
from .test_operator_tls import address, caller, operator, poolwarden

DATA = os.urandom(intake.PIECE) + b"the end of it"
ID = "0123456789abcdef" * 2
NOW = 1_900_000_000_000
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def quick_and_roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between pieces; a file system that has room."""
    monkeypatch.setattr(intake, "PER_S", 1 << 40)
    monkeypatch.setattr(intake, "PAUSE_MS", 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1 << 40, 0, 1 << 40))


def info(data: bytes = DATA, capsule: str = ID, **other: Any) -> link.CapsuleInfo:
    values: dict[str, Any] = {
        "trigger": "master-silent", "text": "its master does not answer", "boot_id": "b", "age_ms": 60_000,
        "total_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    return link.CapsuleInfo(id=capsule, **{**values, **other})


async def offer(agent: PlayedAgent, *infos: link.CapsuleInfo) -> None:
    await agent.send(capsule_offer=link.CapsuleOffer(capsules=infos or [info()]))


async def hand_over(agent: PlayedAgent, data: bytes = DATA, pieces: int = 99) -> int:
    """Answer requests until it is taken, or so many were answered; how many were."""
    count = 0
    while count < pieces:
        async with asyncio.timeout(5):
            message = await agent.stream.read()
        if message.WhichOneof("body") == "capsule_taken":
            assert message.capsule_taken.sha256 == hashlib.sha256(data).hexdigest()
            break
        if message.WhichOneof("body") == "capsule_request":
            asked = message.capsule_request
            chunk = data[asked.offset : asked.offset + asked.limit]
            await agent.send(capsule_piece=link.CapsulePiece(id=asked.id, offset=asked.offset, chunk=chunk))
            count += 1
    return count


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_capsule_is_handed_over_piece_by_piece_listed_and_read(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        before = rig.parts.service.roster.pools[POOL].live.agents[HOSTS[1]].facts
        await offer(rig.agents[1])
        assert await hand_over(rig.agents[1]) == 2
        [kept] = (await stub.ListCapsules(pb.ListCapsulesRequest(pool="gold"))).capsules
        assert (kept.id, kept.host_name, kept.pool_name) == (ID, "host-2", "gold")
        assert (kept.trigger, kept.size_bytes) == ("master-silent", len(DATA)) and kept.at < kept.taken_at
        pieces = [each.data async for each in stub.ReadCapsule(pb.ReadCapsuleRequest(host_uuid=HOSTS[1], id=ID))]
        assert b"".join(pieces) == DATA and max(map(len, pieces)) <= 65_536
        # It is history: nothing of it is a fact about the host, and it is asked for once.
        assert rig.parts.service.roster.pools[POOL].live.agents[HOSTS[1]].facts == before
        await offer(rig.agents[1])
        assert await hand_over(rig.agents[1]) == 0
        assert not (await stub.ListCapsules(pb.ListCapsulesRequest(until="2020-01-01T00:00:00Z"))).capsules
        assert len((await stub.ListCapsules(pb.ListCapsulesRequest(since="2020-01-01T00:00:00Z"))).capsules) == 1


@pytest.mark.asyncio
async def test_a_broken_transfer_goes_on_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await offer(agent)
        await hand_over(agent, pieces=1)
        second = await agent.expect("capsule_request")
        assert second.offset == intake.PIECE
        await agent.close()
        again = await rig.agent(HOSTS[0])
        await offer(again)
        assert await hand_over(again) == 1, "the first piece is not asked for again"
        found = rig.parts.capsules.store.find(HOSTS[0], ID)
        assert found is not None and found[1].read_bytes() == DATA


@pytest.mark.asyncio
async def test_who_is_slow_does_not_keep_the_others_from_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "AT_ONCE", 1)
    monkeypatch.setattr(intake, "TURN_MS", 0)
    async with running(tmp_path) as rig:
        slow, quick = await rig.agent(HOSTS[0]), await rig.agent(HOSTS[1])
        await offer(slow)
        assert (await slow.expect("capsule_request")).offset == 0
        await offer(quick)
        await until(lambda: HOSTS[1] in rig.parts.capsules._waiting)
        first = link.CapsulePiece(id=ID, offset=0, chunk=DATA[: intake.PIECE])
        await slow.send(capsule_piece=first)
        assert (await quick.expect("capsule_request")).offset == 0, "its turn comes before the slow one's end"
        await quick.send(capsule_piece=first)
        assert await asyncio.gather(hand_over(slow), hand_over(quick)) == [1, 1], "each goes on where it was"
        await until(lambda: len(rig.parts.capsules.store.listed(None, "", None, None, 9)) == 2)


@pytest.mark.asyncio
async def test_what_has_not_the_digest_that_was_offered_is_thrown_away_and_told(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await offer(agent, info(sha256="0" * 64))
        await hand_over(agent, pieces=2)
        await until(lambda: any("does not have the digest" in text for text in rig.parts.service.roster.warnings()))
        assert not list((tmp_path / "state/capsules").glob("*/*"))
        await until(lambda: not rig.parts.capsules._running)
        await offer(agent)  # whoever has just failed waits
        await agent.send(challenge_answer=link.ChallengeAnswer())
        await until(lambda: HOSTS[0] in rig.parts.capsules._waiting)
        assert not rig.parts.capsules._running


@pytest.mark.asyncio
async def test_only_the_piece_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        stray = link.CapsulePiece(id=ID, offset=0, chunk=b"x" * 100)
        await agent.send(capsule_piece=stray)  # nobody has asked
        await offer(agent)
        asked = await agent.expect("capsule_request")
        for wrong in (link.CapsulePiece(id="f" * 32, chunk=DATA[:65_536]), link.CapsulePiece(id=ID, offset=5)):
            await agent.send(capsule_piece=wrong)
        await agent.send(capsule_piece=stray)  # another size
        await until(lambda: not rig.parts.capsules._running)
        assert not rig.parts.capsules.store.listed(None, "", None, None, 9)
        part = next((tmp_path / "state/capsules").glob("*/*.part"))
        assert part.stat().st_size == 0 and asked.limit == intake.PIECE


@pytest.mark.asyncio
async def test_an_offer_that_no_host_can_mean_is_not_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await offer(
            agent,
            info(capsule="../../etc/passwd"),
            info(sha256="no digest"),
            info(total_bytes=store.BIGGEST + 1),
            info(total_bytes=0),
            info(b"good", "a" * 32),
        )
        assert (await agent.expect("capsule_request")).id == "a" * 32
        assert {path.name for path in (tmp_path / "state/capsules").iterdir()} == {HOSTS[0], "index.db"}


@pytest.mark.asyncio
async def test_a_host_hands_over_no_more_than_its_share_of_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "A_DAY", intake.PIECE + 5)
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await offer(agent)
        await hand_over(agent, pieces=1)
        await until(lambda: not rig.parts.capsules._running)
        assert rig.parts.capsules.store.listed(None, "", None, None, 9) == []


@pytest.mark.asyncio
async def test_hosts_are_asked_to_keep_a_capsule_where_something_is_suspected_once_in_a_while(tmp_path: Path) -> None:
    def row(kind: str, data: str = "{}", pool: str = POOL) -> Row:
        return Row(1, "", 0, 0, 0, pool, "", kind, "poolwarden", "MasterSilent: nobody hears it", data)

    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        follow = rig.parts.capsules.follow
        follow([row("verdict", '{"verdict": "Healthy"}'), row("verdict"), row("paused"), row("decided", pool=OTHER)])
        follow([row("verdict", '{"verdict": "PoolDark", "before": ""}')])  # a collector that begins to look
        follow([row("verdict", '{"verdict": "Suspect", "before": "Learning"}')])
        rig.parts.gateway._sessions.of(HOSTS[0]).send(link.CollectorMessage(challenge=link.Challenge(nonce="n")))  # type: ignore[union-attr]
        async with asyncio.timeout(5):
            while (message := await agent.stream.read()).WhichOneof("body") != "challenge":
                assert message.WhichOneof("body") != "keep_evidence", "nothing was suspected yet"
        follow([row("verdict", '{"verdict": "MasterSilent", "before": "Healthy"}'), row("decided")])
        assert (await agent.expect("keep_evidence")).text == "MasterSilent: nobody hears it"
        rig.parts.gateway._sessions.of(HOSTS[0]).send(link.CollectorMessage(challenge=link.Challenge(nonce="n")))  # type: ignore[union-attr]
        async with asyncio.timeout(5):
            while (message := await agent.stream.read()).WhichOneof("body") != "challenge":
                assert message.WhichOneof("body") != "keep_evidence", "asked twice"


@pytest.mark.asyncio
async def test_that_there_is_no_room_is_a_warning_and_the_host_is_asked_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1 << 40, 1 << 40, 5))
    async with running(tmp_path) as rig:
        await offer(await rig.agent(HOSTS[0]))
        await until(lambda: any("are not taken now" in text for text in rig.parts.service.roster.warnings()))
        await until(lambda: not rig.parts.capsules._running)
        assert HOSTS[0] in rig.parts.capsules._again


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_customer_is_shown_the_capsules_of_his_pool_alone(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig:
        for agent in rig.agents:
            await offer(agent)
            await hand_over(agent)
        async with caller(rig, operator(rig, "ada")) as admin:
            everything = (await admin.ListCapsules(pb.ListCapsulesRequest())).capsules
        assert {each.pool_uuid for each in everything} == {POOL, OTHER}
        async with caller(rig, operator(rig, "carl")) as stub:
            mine = (await stub.ListCapsules(pb.ListCapsulesRequest())).capsules
            assert {each.pool_uuid for each in mine} == {POOL}
            for each in everything:
                asked = stub.ReadCapsule(pb.ReadCapsuleRequest(host_uuid=each.host_uuid, id=each.id))
                if each.pool_uuid == POOL:
                    assert await asked.read() is not grpc.aio.EOF
                else:
                    theirs = await ended(asked)
                    assert theirs.code() is grpc.StatusCode.NOT_FOUND
            theirs = await ended(stub.ListCapsules(pb.ListCapsulesRequest(pool=OTHER)))
            assert theirs.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_customers_archive_holds_nothing_of_another_pool(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig:
        for agent in rig.agents:
            await offer(agent)
            await hand_over(agent)
        out = tmp_path / "mine.tar.gz"
        words = ("export", "--since", "2020-01-01", "--out", out)
        done = await poolwarden(address(rig), *words, tls=operator(rig, "carl"))
        assert done.status == 0, done.error
        with tarfile.open(out) as tar:
            whole = b"".join(m.name.encode() + tar.extractfile(m).read() for m in tar)  # type: ignore[union-attr]
        assert POOL.encode() in whole and ID.encode() in whole
        assert not [theirs for theirs in (SECRET, OTHER, FAR) if theirs.encode() in whole]
        refused = await poolwarden(address(rig), "export", "--since", "1h", "--pool", OTHER, "--out", tmp_path / "x",
                                   tls=operator(rig, "carl"))  # fmt: skip
        assert refused.status == 2 and not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------------------ the store alone


def keep(kept: Capsules, pool: str, host: str, number: int, size: int = 10) -> Offered:
    data = b"x" * size
    offered = Offered(f"{number:032x}", size, hashlib.sha256(data).hexdigest(), NOW - 1_000 + number, "order", "text")
    assert kept.begin(pool, host, offered) == 0
    kept.append(host, offered, 0, data)
    assert kept.finish(pool, host, offered)
    return offered


def ids(kept: Capsules) -> list[tuple[str, int]]:
    return [(each.host, int(each.id, 16)) for each in kept.listed(None, "", None, None, 999)]


def test_of_one_host_the_oldest_goes(tmp_path: Path) -> None:
    now = iter(range(NOW, NOW + 10_000))
    kept = Capsules(tmp_path, lambda: next(now))
    for number in range(store.OF_HOST + 2):
        keep(kept, POOL, HOSTS[0], number)
    assert [number for _, number in ids(kept)] == list(range(2, store.OF_HOST + 2))
    assert len(list((tmp_path / "capsules").glob("*/*"))) == store.OF_HOST


def test_who_has_most_gives_way_in_a_pool_and_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(NOW, NOW + 10_000))
    kept = Capsules(tmp_path, lambda: next(now))
    monkeypatch.setattr(store, "OF_POOL", 60)
    keep(kept, POOL, HOSTS[1], 1)
    for number in range(2, 7):
        keep(kept, POOL, HOSTS[0], number)
    keep(kept, POOL, HOSTS[0], 7)
    assert ids(kept) == [(HOSTS[1], 1), *((HOSTS[0], n) for n in (3, 4, 5, 6, 7))], "the flooder's own went"
    monkeypatch.setattr(store, "IN_ALL", 70)
    monkeypatch.setattr(store, "BIGGEST", 10)
    keep(kept, OTHER, HOSTS[2], 8)
    keep(kept, OTHER, HOSTS[2], 9)
    assert (HOSTS[1], 1) not in ids(kept) and {(HOSTS[2], 8), (HOSTS[2], 9)} <= set(ids(kept))


def test_what_is_begun_and_left_gives_way_first_and_a_host_has_two_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Capsules(tmp_path)
    for number in range(5):
        offered = Offered(f"{number:032x}", 100, "0" * 64, NOW, "order", "")
        assert kept.begin(POOL, HOSTS[0], offered) == 0
        kept.append(HOSTS[0], offered, 0, b"x" * 50)
    parts = list((tmp_path / "capsules").glob("*/*.part"))
    assert len(parts) == store.PARTS_OF_HOST
    whole = keep(kept, POOL, HOSTS[1], 9)
    for part in parts:
        os.utime(part, (time.time() - store.LEFT_MS / 1000 - 9,) * 2)
    monkeypatch.setattr(store, "IN_ALL", 40)
    keep(kept, OTHER, HOSTS[2], 1)
    assert not list((tmp_path / "capsules").glob("*/*.part")) and kept.find(HOSTS[1], whole.id) is not None
    old = Offered("e" * 32, 10, "0" * 64, NOW, "order", "")
    kept.begin(POOL, HOSTS[0], old)
    part = next((tmp_path / "capsules").glob("*/*.part"))
    os.utime(part, (time.time() - store.PART_MS / 1000 - 9,) * 2)
    kept.tidy()
    assert not part.exists()


def test_none_is_begun_where_the_file_system_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Capsules(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1 << 40, 1 << 40, store.LEAST_FREE + 5))
    with pytest.raises(NoRoom, match="stay free"):
        kept.begin(POOL, HOSTS[0], Offered(ID, 10, "0" * 64, NOW, "order", ""))
    assert not list((tmp_path / "capsules").glob("*/*.part"))


def test_what_is_too_old_or_lost_its_file_or_its_entry_goes(tmp_path: Path) -> None:
    clock = [NOW]
    kept = Capsules(tmp_path, lambda: clock[0])
    keep(kept, POOL, HOSTS[0], 1)
    clock[0] += store.KEEP_MS + 1
    young = keep(kept, POOL, HOSTS[0], 2)
    lost = keep(kept, POOL, HOSTS[0], 3)
    kept._path(HOSTS[0], lost.id).unlink()
    stray = tmp_path / "capsules" / HOSTS[0] / f"{'f' * 32}.tar"
    stray.write_bytes(b"named, and not in the index yet")
    kept.tidy()
    assert ids(kept) == [(HOSTS[0], 2)] and not stray.exists() and kept.find(HOSTS[0], young.id) is not None


def test_an_empty_store_is_looked_at_without_making_anything(tmp_path: Path) -> None:
    kept = Capsules(tmp_path)
    kept.tidy()
    assert kept.listed(None, "", None, None, 9) == [] and kept.find(HOSTS[0], ID) is None
    assert not list(tmp_path.iterdir())
