"""What a host may cost: budgets refuse by name, before anything is parsed, and never make the host itself silent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.shell.agents import budgets, gateway
from poolwarden_collector.shell.agents.budgets import Account, Accounts, OverBudget
from poolwarden_collector.shell.agents.messages.wire import Envelope

from .rig import HOSTS, POOL, PlayedAgent, Rig, running, until

PLAIN = Envelope("report", 100)


def spent(account: Account, message: Envelope, now: int = 0, most: int = 10_000) -> tuple[int, str]:
    """How many of these an account pays for at once, and the word of what then refuses."""
    for count in range(most):
        try:
            account.message(message, now)
        except OverBudget as refusal:
            return count, refusal.word
    return most, ""


@pytest.mark.parametrize(
    "message, burst, word",
    [
        (PLAIN, 600, "messages"),
        (Envelope("order_result", 100), 300, "answers"),
        (Envelope("challenge_answer", 100), 300, "answers"),
        (Envelope("report", 1 << 20), 8, "bytes"),
        (Envelope("order_result", 1 << 20, 1 << 20), 64, "pieces"),
        (Envelope("report", (1 << 20) + 1), 0, "length"),
        (Envelope("", 20_000), 0, "length"),
    ],
)
def test_so_many_at_once_and_the_refusal_names_the_budget(message: Envelope, burst: int, word: str) -> None:
    assert spent(Account(0), message) == (burst, word)


@pytest.mark.parametrize("per_s, message", [(100, PLAIN), (40, Envelope("gate_question", 10))])
def test_an_account_fills_again(per_s: int, message: Envelope) -> None:
    account = Account(0)
    spent(account, message)
    assert spent(account, message, 1_000)[0] == per_s
    assert spent(account, message, 500)[0] == 0, "a clock that goes back brings nothing"
    assert spent(account, message, 3_600_000) == spent(Account(0), message)


def test_streams_have_a_budget_of_their_own_and_a_new_one_brings_no_new_account() -> None:
    now = [0]
    accounts = Accounts(lambda: now[0])

    def streams(host: str, peer: str) -> int:
        count = 0
        try:
            while True:
                accounts.of(host, peer).stream(now[0])
                count += 1
        except OverBudget as refusal:
            assert refusal.word == "hellos"
            return count

    assert streams("h", "ipv4:10.0.0.1:999") == 10 and streams("h", "ipv4:10.0.0.1:998") == 0
    assert streams("h", "ipv4:10.0.0.2:999") == 10, "a copied certificate elsewhere spends none of its owner's"
    now[0] = 3_000
    assert streams("h", "ipv4:10.0.0.1:997") == 3
    spread = [streams("h", f"ipv4:10.0.1.{n}:999") for n in range(200)]
    assert sum(spread) == 10, "whoever takes many addresses has one account for all of them"
    assert streams("i", "ipv4:10.0.0.1:999") == 10
    now[0] += budgets.UNUSED_MS
    assert streams("h", "ipv4:10.0.2.1:999") == 10, "a host may get another address"


def test_the_accounts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MOST_HOSTS", 3)
    accounts = Accounts(lambda: 0)
    first = accounts.of("a")
    for name in ("b", "c", "a", "d"):
        accounts.of(name)
    assert accounts.of("a") is first and len(accounts._of) == 3
    for n in range(1_000):
        accounts.of("a", f"ipv4:10.0.{n % 256}.{n // 256}:1")
    assert len(accounts._of["a"]) == budgets.ADDRESSES + 1


def test_what_changes_the_record_has_a_budget() -> None:
    account, told = Account(0), 0
    host = pb.PoolHost(host_uuid="h")
    with pytest.raises(OverBudget, match="pool's hosts"):
        for told in range(100):
            account.report(pb.Report(pool_view=pb.PoolView(pool_name=str(told), hosts=[host])), 0)
    assert told == 21  # the first word is no change
    same = pb.Report(management_address="10.0.0.1", pool_view=pb.PoolView(pool_name="20", hosts=[host]))
    for _ in range(100):
        account.report(same, 0)


@pytest.mark.parametrize(
    "back, forth", [({"generation": 1}, {"generation": 2**40}), ({"ha_armed": 1}, {"ha_armed": 2})]
)
def test_what_its_database_says_changes_the_record_seldom(back: Any, forth: Any) -> None:
    account = Account(0)
    with pytest.raises(OverBudget, match="its database"):
        for _ in range(20):
            account.report(pb.Report(database=pb.DatabaseFacts(**back)), 0)
            account.report(pb.Report(database=pb.DatabaseFacts(**forth)), 0)
    leaping = Account(0)
    with pytest.raises(OverBudget, match="its database"):
        for number in range(100):
            leaping.report(pb.Report(database=pb.DatabaseFacts(generation=number * (budgets.LEAP - 1))), 0)
    writing = Account(0)
    for number in range(10_000):  # a thousand times a second
        writing.report(pb.Report(database=pb.DatabaseFacts(generation=5_000_000 + number * 2_000)), number * 2_000)


class Refused:
    """A call that is refused."""

    def peer(self) -> str:
        return "ipv4:10.0.0.1:1"

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        pass


@pytest.mark.asyncio
async def test_the_more_streams_too_many_there_are_the_later_each_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    door, waits, real = gateway.Gateway.__new__(gateway.Gateway), [], asyncio.sleep
    door._late = 0

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(gateway.asyncio, "sleep", sleep)
    code, flooded, alone = grpc.StatusCode.RESOURCE_EXHAUSTED, Account(0), Account(0)
    await asyncio.gather(*(door._refuse_late(Refused(), flooded, code, "x") for _ in range(80)))
    await door._refuse_late(Refused(), alone, code, "x")
    assert waits[0] == waits[7] == 1 and waits[79] == 10 and waits[80] == 1
    assert (flooded.late, alone.late, door._late) == (0, 0, 0)


# ------------------------------------------------------------------------------------------------ over real TLS


def known(rig: Rig, host: str) -> Any:
    """What the engine knows of that host's agent; None: nothing yet."""
    pool = rig.parts.service.roster.pools.get(POOL)
    return pool and pool.live.agents.get(host)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_flood_is_ended_by_name_counted_and_told_and_its_host_counts_as_alive(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await agent.send(report=pb.Report(full=True))
        await until(lambda: (s := known(rig, HOSTS[0])) and s.reported)
        (account,) = rig.parts.gateway._accounts._of[HOSTS[0]].values()
        account._left[budgets.MESSAGES.word] = -1_000.0
        await agent.send(report=pb.Report())
        ended = await agent.ended()
        assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "100 messages a second" in str(ended.details())
        roster = rig.parts.service.roster
        assert roster.tally.refused["messages"] == 1 and any("over its budget" in each for each in roster.warnings())
        await until(lambda: "host-refused" in [row.kind for row in rig.parts.journal.history(POOL)])
        body = rig.parts.journal.alerts(POOL)[0]["body"]
        assert "100 messages a second" in body and "epoch_above" not in body
        assert roster.now() - known(rig, HOSTS[0]).last_heard < 3_000
        account._left[budgets.MESSAGES.word] = 10.0
        await rig.agent(HOSTS[0])  # it is let in again, with what its account has by then


@pytest.mark.slow
@pytest.mark.asyncio
async def test_streams_too_many_are_refused_late_and_the_host_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "LATE_S", 0.05)
    async with running(tmp_path) as rig:
        owner = await rig.agent(HOSTS[0])
        for _ in range(40):
            other = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
            rig.agents.append(other)
            await other.stream.write(pb.AgentMessage(goodbye=pb.Goodbye()))
            ended = await other.ended()
            if ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                break
        assert "1 stream a second" in str(ended.details())
        assert rig.parts.service.roster.tally.refused["hellos"] >= 1
        await owner.send(report=pb.Report(full=True))
        await until(lambda: (s := known(rig, HOSTS[0])) and s.reported)


@pytest.mark.asyncio
async def test_a_method_that_is_none_of_the_contract_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "LATE_S", 0.05)
    async with running(tmp_path) as rig:
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await agent.channel.unary_unary("/poolwarden.v1.Operator/Status")(b"")
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.asyncio
async def test_bytes_that_are_no_message_end_the_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(agent)
        for raw in (b"\x22\x05abc", b"\x1a\x01\xff"):
            call = agent.channel.stream_stream(gateway.ATTACH)()
            await call.write(raw)
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_is_too_long_is_warned_of_and_its_host_is_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0], host_name="x" * 60_000)
        await agent.send(report=pb.Report(full=True, domains=pb.DomainList(readable=True, vm_uuids=["v"] * 5_000)))
        state = await until(lambda: (s := known(rig, HOSTS[0])) and s.reported and s)
        assert state.facts.domains is None and len(state.hello.name) == 254
        said = rig.parts.service.roster.warnings()
        assert [each for each in said if "report.domains" in each] and not [
            each for each in said if "host_name" in each
        ]
        assert rig.parts.service.roster.tally.cut >= 2


@pytest.mark.slow
@pytest.mark.asyncio
async def test_reports_in_quick_succession_are_folded_and_what_follows_comes_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        posted: list[Any] = []
        post = rig.parts.inbox.post
        monkeypatch.setattr(rig.parts.inbox, "post", lambda pool, event: posted.append(event) or post(pool, event))
        agent = await rig.agent(HOSTS[0])
        for number in range(100):
            await agent.send(report=pb.Report(full=True, database=pb.DatabaseFacts(generation=number)))
        await agent.send(goodbye=pb.Goodbye(reason=pb.Goodbye.AGENT_STOP))
        await until(lambda: [e for e in posted if type(e).__name__ == "AgentGone"])
        mine = [e for e in posted if type(e).__name__ == "AgentReported"]
        assert len(mine) < 30 and mine[-1].facts.database.generation == 99
        assert posted.index(mine[-1]) < next(n for n, e in enumerate(posted) if type(e).__name__ == "AgentGone")


# ------------------------------------------------------------------------------------------------ one stream a host


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_stream_that_answers_no_nonce_mutes_nobody_and_takes_the_place_of_one_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "ANSWER_WITHIN_S", 1.0)
    async with running(tmp_path) as rig:
        owner = await rig.agent(HOSTS[0])
        await owner.send(report=pb.Report(full=True, database=pb.DatabaseFacts(generation=1)))
        await until(lambda: (s := known(rig, HOSTS[0])) and s.reported)
        copied = await rig.agent(HOSTS[0], boot_id="another")
        await copied.expect("challenge")
        await copied.send(challenge_answer=pb.ChallengeAnswer(nonce="guessed", boot_id="another"))
        await copied.send(report=pb.Report(full=True, database=pb.DatabaseFacts(generation=666)))
        assert "not answered a nonce" in str((await copied.ended()).details())
        await owner.send(report=pb.Report(database=pb.DatabaseFacts(generation=2)))
        await until(lambda: known(rig, HOSTS[0]).facts.database.generation == 2)
        assert (known(rig, HOSTS[0]).hello.boot_id, known(rig, HOSTS[0]).stream) == ("boot-1", 1)

        monkeypatch.setattr(gateway, "ANSWER_WITHIN_S", 60.0)
        heir = await rig.agent(HOSTS[0])
        await heir.expect("challenge")
        await heir.send(report=pb.Report(full=True, database=pb.DatabaseFacts(generation=3)))
        await owner.close()
        await until(lambda: known(rig, HOSTS[0]).facts.database.generation == 3 and known(rig, HOSTS[0]).connected)
        waiting = [await rig.agent(HOSTS[0]) for _ in range(4)]
        last = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
        rig.agents.append(last)
        assert "wait already" in str((await last.refused()).details())
        assert waiting and known(rig, HOSTS[0]).facts.database.generation == 3
