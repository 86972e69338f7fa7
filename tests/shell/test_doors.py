"""The door: whatever one host claims, with its own certificate over real TLS, stops no other pool and no restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.agents.messages import bounds
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.store import telemetry
from poolwarden_collector.shell.store.journal import Journal, JournalError, Unwritable

from .rig import HOSTS, POOL, PlayedAgent, Rig, hosts_of, running, until
from .test_service import World

OTHER = POOL[:-1] + "2"
HUGE = (2**63, 2**64 - 1, 2**63 - 1, 1 << 62)


def slowly(cases: Sequence[Any]) -> list[Any]:
    """The same rule at other numbers and places."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


@contextlib.asynccontextmanager
async def two_pools(folder: Path) -> AsyncIterator[tuple[Rig, PlayedAgent]]:
    """A collector past its quiet time; a host of another pool reports to it."""
    async with running(folder) as rig:
        bystander = await rig.agent(HOSTS[1], pool_uuid=OTHER)
        await until(lambda: hosts_of(rig.parts.service.roster, OTHER))
        first = await rig.agent(HOSTS[0])
        await until(lambda: hosts_of(rig.parts.service.roster, POOL))
        await first.close()
        roster = rig.parts.service.roster
        roster.started_at -= 100_000  # its quiet time is over
        roster._quiet_from -= 100_000
        yield rig, bystander


async def unharmed(rig: Rig, bystander: PlayedAgent) -> None:
    """The other pool is judged and written as ever, nothing stands still, and a restart would begin."""
    roster = rig.parts.service.roster
    before = len(rig.parts.journal.history(OTHER))
    await bystander.send(goodbye=pb.Goodbye(reason=pb.Goodbye.HOST_REBOOT))
    await until(lambda: roster.pools[OTHER].live.agents[HOSTS[1]].goodbye)
    await rig.parts.service.write(rig.parts.journal.commit, OTHER, [Entry(Kind.ASKED, "written", {})])
    assert len(rig.parts.journal.history(OTHER)) > before
    assert not roster.stalled and not roster.site(OTHER).deposed
    assert not any("internal error" in text for text in roster.warnings())
    assert roster.pools[OTHER].live.journal_gap.quiet_until == 0


def starts_again(folder: Path) -> None:
    """The files that are left are good for another start."""

    async def start() -> None:
        async with running(folder) as rig:
            assert POOL in rig.parts.service.roster.pools

    asyncio.run(start())


def claim(folder: Path, **hello: Any) -> tuple[str, list[str]]:
    """One host says Hello with this; how it was refused, and what its pool's journal says of it."""

    async def play() -> tuple[str, list[str]]:
        async with two_pools(folder) as (rig, bystander):
            liar = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
            rig.agents.append(liar)
            for _ in range(2):
                refusal = await liar.refused(**hello)
                assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
                liar = PlayedAgent(rig.parts.gateway.port, rig.bundle(HOSTS[0]), HOSTS[0])
                rig.agents.append(liar)
            kinds = lambda: [row.kind for row in rig.parts.journal.history(POOL)]  # noqa: E731
            await until(lambda: "host-refused" in kinds())
            await unharmed(rig, bystander)
            told = [alert["key"].split("/")[1].partition("-")[0] for alert in rig.parts.journal.alerts(POOL)]
            return str(refusal.details()), [*kinds(), *(f"alert: {word}" for word in told)]

    return asyncio.run(play())


@pytest.mark.parametrize("number", [HUGE[0], *slowly(HUGE[1:])])
@pytest.mark.parametrize("field", ["highest_epoch", "highest_term"])
def test_a_hello_with_a_number_that_cannot_be_is_refused_and_told_once(tmp_path: Path, field: str, number: int) -> None:
    said, kinds = claim(tmp_path, **{field: number})
    assert field in said and str(number) in said
    assert kinds.count("host-refused") == 1 == kinds.count("alert: refused") and "journal-restored" not in kinds
    starts_again(tmp_path)


@pytest.mark.parametrize(
    "hello",
    [
        {"tombstone": pb.Tombstone(term=2**63)},
        *slowly(
            [
                {"hold": pb.HoldFacts(term=2**64 - 1)},
                {"hold": pb.HoldFacts(term=1, gc_term=2**60)},
                {"boot_gate": pb.BootGateFacts(term=2**63)},
                {"last_results": [pb.OrderResult(order_id="x", term=2**63)]},
                {"last_results": [pb.OrderResult(order_id="x", epoch=2**64 - 1)]},
            ]
        ),
    ],
)
def test_wherever_it_stands_in_a_hello(tmp_path: Path, hello: dict[str, Any]) -> None:
    claim(tmp_path, **hello)


def test_an_epoch_one_above_our_own_stands_this_collector_down_in_that_hosts_pool_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with two_pools(tmp_path) as (rig, bystander):
            roster = rig.parts.service.roster
            await rig.agent(HOSTS[0], highest_epoch=roster.epoch + 1)
            await until(lambda: roster.site(POOL).deposed)
            await unharmed(rig, bystander)

    asyncio.run(play())
    starts_again(tmp_path)


def test_a_term_above_the_journals_makes_that_hosts_pool_quiet_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with two_pools(tmp_path) as (rig, bystander):
            pools = rig.parts.service.roster.pools
            await rig.agent(HOSTS[0], highest_term=bounds.TERM_LEAP)
            await until(lambda: pools[POOL].live.journal_gap.quiet_until)
            assert pools[POOL].record.term == bounds.TERM_LEAP + 1
            await unharmed(rig, bystander)

    asyncio.run(play())
    starts_again(tmp_path)


def test_a_host_that_knows_of_nothing_is_heard(tmp_path: Path) -> None:
    async def play() -> None:
        async with two_pools(tmp_path) as (rig, _):
            await rig.agent(HOSTS[0], highest_epoch=0, highest_term=0)

    asyncio.run(play())


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        {"order_result": pb.OrderResult(order_id="x", reason="stale-term", outcome=pb.OrderResult.REFUSED, term=2**63)},
        {
            "order_result": pb.OrderResult(
                order_id="x", reason="stale-epoch", outcome=pb.OrderResult.REFUSED, epoch=2**63
            )
        },
        {"report": pb.Report(full=True, database=pb.DatabaseFacts(generation=2**64 - 1))},
        {"report": pb.Report(full=True, hold=pb.HoldFacts(term=2**63))},
    ],
)
def test_a_message_of_an_open_stream_that_claims_what_cannot_be_ends_it(tmp_path: Path, body: dict[str, Any]) -> None:
    async def play() -> None:
        async with two_pools(tmp_path) as (rig, bystander):
            liar = await rig.agent(HOSTS[0])
            await liar.send(**body)
            ended = await liar.ended()
            assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT and "cannot be" in str(ended.details())
            await unharmed(rig, bystander)

    asyncio.run(play())
    starts_again(tmp_path)


def test_a_clock_that_cannot_be_ends_the_stream() -> None:
    with pytest.raises(bounds.Implausible):
        StreamState(1, POOL).on_message(pb.AgentMessage(sequence=1, mono_ms=2**63, hello=pb.Hello()), 5)


def test_a_file_systems_nonsense_is_cut_and_its_host_is_heard(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as rig:
            odd = await rig.agent(HOSTS[0])
            most = 2**64 - 1
            disk = pb.Disk(mount="/", total_bytes=most, free_bytes=most, total_inodes=most, full_in_ms=most)
            await odd.send(report=pb.Report(full=True, disks=pb.DiskList(disks=[disk])))
            pools = rig.parts.service.roster.pools
            agent = await until(
                lambda: POOL in pools and (a := pools[POOL].live.agents.get(HOSTS[0])) and a.reported and a
            )
            assert agent.facts.disks[0].total_bytes == bounds.MOST
            telemetry.Telemetry._write(rig.parts.telemetry, telemetry._open(rig.config.state_dir / telemetry.FILE))

    asyncio.run(play())


# ------------------------------------------------------------------------------------------------ anything at all

NUMBERS = st.one_of(st.sampled_from([0, 1, 2**31, 2**53, *HUGE]), st.integers(0, 2**64 - 1))


def messages(kind: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of this kind with anything in every number, and now and then in everything else."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.DESCRIPTOR.fields:
        if field.message_type is not None:
            if depth > 4 or field.message_type.GetOptions().map_entry:
                continue
            inner = messages(field.message_type._concrete_class, depth + 1)
            many = field.default_value == []
            fields[field.name] = st.lists(inner, max_size=2) if many else inner
            continue
        one: st.SearchStrategy[Any] = {
            field.CPPTYPE_UINT64: NUMBERS,
            field.CPPTYPE_UINT32: NUMBERS.map(lambda n: n % 2**32),
            field.CPPTYPE_INT32: NUMBERS.map(lambda n: n % 2**32 - 2**31),
            field.CPPTYPE_BOOL: st.booleans(),
            field.CPPTYPE_ENUM: st.sampled_from([v.number for v in field.enum_type.values] if field.enum_type else [0]),
            field.CPPTYPE_STRING: st.binary(max_size=4)
            if field.type == field.TYPE_BYTES
            else st.sampled_from(
                ["", "/", "x@99999999999999999999", "²", HOSTS[0], HOSTS[1], POOL, "a-1.99999999999/promote/x"]
            ),
        }[field.cpp_type]
        fields[field.name] = st.lists(one, max_size=2) if field.default_value == [] else one
    wanted = st.fixed_dictionaries({}, optional=fields)

    def make(values: dict[str, Any]) -> Any:
        made = kind()
        for name, value in values.items():
            target = getattr(made, name)
            if hasattr(target, "extend") and not isinstance(value, str | bytes):
                target.extend(value)
            elif hasattr(value, "DESCRIPTOR"):
                target.CopyFrom(value)
            else:
                setattr(made, name, value)
        return made

    return wanted.map(make)


BODIES = (
    "report",
    "order_result",
    "challenge_answer",
    "goodbye",
    "gate_question",
    "late",
    "capsule_offer",
    "capsule_piece",
)
ANY = st.lists(
    st.sampled_from(BODIES).flatmap(
        lambda name: messages(pb.AgentMessage.DESCRIPTOR.fields_by_name[name].message_type._concrete_class).map(
            lambda body: (name, body)
        )
    ),
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(hello=messages(pb.Hello), rest=ANY, stamps=st.lists(NUMBERS, min_size=5, max_size=5))
def test_nothing_that_a_host_says_breaks_a_step_a_store_or_a_restart(
    hello: pb.Hello, rest: list[tuple[str, Any]], stamps: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("door")
    hello.host_uuid, hello.pool_uuid = HOSTS[0], POOL
    said = [
        pb.AgentMessage(sequence=n + 1, mono_ms=stamps[n], **{name: body}) for n, (name, body) in enumerate(rest, 1)
    ]
    said.insert(0, pb.AgentMessage(sequence=1, mono_ms=stamps[0], hello=hello))

    async def play() -> None:
        world = World(folder)
        roster = world.service.roster
        state = StreamState(1, POOL, 1_500, lambda: roster.limits(POOL))
        await world.take(ev.Tick())
        for message in said:
            try:
                events = state.on_message(message, world.time)
            except bounds.Implausible as refusal:
                events = [ev.HostRefused(HOSTS[0], str(refusal))]
            for event in events:
                await world.service.take(Happening(POOL, event))
            world.time += 1_000
            await world.take(ev.Tick())
            await world.take(ev.Tick(), OTHER)
        assert not roster.stalled and not [text for text in roster.warnings() if "internal error" in text]
        assert not roster.site(OTHER).deposed
        world.journal.close()
        again = World(folder)
        await again.service.begin()
        assert again.pool.record == world.pool.record
        again.journal.close()

    asyncio.run(play())


# ------------------------------------------------------------------------------------------------ files of long ago


def test_a_journal_that_holds_an_epoch_from_beyond_the_contract_begins_above_its_entries(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    epoch = journal.begin_epoch()
    journal.commit(POOL, [Entry(Kind.ASKED, "x", {})])
    for written in (str(2**64), str(2**64 - 1), str(10**40), "9" * 5_000, "-4", "abc"):
        with journal._transaction("what an older version left") as db:
            db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", [written])
        journal.close()
        journal = Journal(tmp_path)
        before, epoch = epoch, journal.begin_epoch()
        assert before < epoch < 2**40
        journal.commit(POOL, [Entry(Kind.ASKED, "x", {})])
    journal.close()


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**63 + 2**40, 2**64 - 2**22])
def test_a_journal_that_an_agent_had_raised_beyond_sqlites_numbers_goes_on_above_that(
    tmp_path: Path, number: int
) -> None:
    journal = Journal(tmp_path)
    epoch = journal.begin_epoch(above=number)
    assert epoch > number
    term = min(number, 2**64 - 1)
    rows = journal.commit(POOL, [Entry(Kind.TERM_OBSERVED, "x", {}, "", term)])
    journal.close()
    again = Journal(tmp_path)
    assert again.epoch == epoch < again.begin_epoch()
    assert [entry.term for entry in again.replay(POOL)] == [term] and again.history(POOL) == rows
    again.close()


def test_what_no_journal_can_hold_is_one_of_its_errors_and_stalls_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    for bad in (
        Entry(Kind.ASKED, "x", {}, "", 2**64),
        Entry(Kind.ASKED, "x", {"y": object()}),
        Entry(Kind.ASKED, "x", {"y": "\ud800"}),
    ):
        with pytest.raises(Unwritable):
            journal.commit(POOL, [bad])
    with pytest.raises(JournalError):
        journal.begin_epoch(above=2**64)
    journal.commit(POOL, [Entry(Kind.ASKED, "x", {})])
    assert len(journal.history(POOL)) == 1
    journal.close()


@pytest.mark.asyncio
async def test_a_step_that_no_journal_can_hold_is_dropped_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poolwarden_collector.core import engine

    world = World(tmp_path)
    await world.take(ev.Tick())
    real = engine.step

    def broken(pool: Any, event: Any, now: int, site: Any) -> Any:
        if pool.record.pool == POOL:
            return engine.StepResult(pool, (Entry(Kind.ASKED, "x", {}, "", 2**64),))
        return real(pool, event, now, site)

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", broken)
    await world.take(ev.Tick())
    assert not world.service.roster.stalled and "internal error" in world.service.roster.warnings()[-1]
    await world.take(ev.Tick(), OTHER)
    assert OTHER in world.service.roster.pools
