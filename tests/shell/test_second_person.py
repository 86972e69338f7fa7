"""What takes two persons, attacked from outside: the same certificate twice, root twice, another pool's operator."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.drill_record import Drill, DrillStep, Part
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.shell.config.operators import Role
from poolwarden_collector.shell.operators import access, second_person
from poolwarden_collector.shell.operators.access import Call, Caller, Rights, Rule, Scope
from poolwarden_collector.shell.store.audit import Waiting

from .rig import HOSTS, ME, POOL, Rig, until, write_config
from .test_operator_access import GROUP, OTHER, ROLES, command, ended, two_pools
from .test_operator_tls import SERVED, caller, operator

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

TWO = 'second_person = ["confirm-fenced", "approve --shoot", "fence off"]'
CONFIRM = command("confirm_fenced")


@contextlib.asynccontextmanager
async def silent_host(folder: Path) -> AsyncIterator[Rig]:
    """Two pools; the agent of the first one's host is gone."""
    async with two_pools(folder, ROLES, TWO) as rig:
        await rig.agents[0].close()
        await until(lambda: not rig.parts.service.roster.pools[POOL].live.agents[HOSTS[0]].connected)
        yield rig


@contextlib.asynccontextmanager
async def local(rig: Rig) -> AsyncIterator[Any]:
    """The interface as root, or whoever runs these tests, has it on the socket."""
    async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
        yield rpc.OperatorStub(channel)


def second(wanted: str, typed: str = "host-1", **more: Any) -> pb.CommandRequest:
    return pb.CommandRequest(second=pb.Second(id=wanted, typed_name=typed, **more))


async def waiting(stub: Any) -> list[pb.Seconded]:
    [pool] = (await stub.Status(pb.StatusRequest(pool="gold"))).pools
    return list(pool.seconded)


async def test_two_persons_confirm_and_the_journal_names_both(tmp_path: Path) -> None:
    async with silent_host(tmp_path) as rig, caller(rig, operator(rig, "olga")) as olga:
        reply = await olga.Command(CONFIRM)
        assert (reply.accepted, reply.code) == (False, "second-person")
        [waits] = await waiting(olga)
        assert (waits.what, waits.by) == ("confirm-fenced host-1", "olga") and reply.next_step.endswith(waits.command)
        assert 14 * 60_000 < waits.left_ms <= 15 * 60_000
        assert [each.id for each in (await olga.Explain(pb.ExplainRequest(pool="gold"))).seconded] == [waits.id]
        assert "host-confirmed-off" not in [row.kind for row in rig.parts.journal.history(POOL)]
        assert (await olga.Command(CONFIRM)).next_step.endswith(waits.command), "asked twice it waits once"

        for claim in ("", "ada"):  # the same certificate, whoever it says it is
            request = second(waits.id)
            request.actor = claim
            assert (await olga.Command(request)).code == "same-person"
        async with caller(rig, operator(rig, "vera")) as viewer:
            assert "needs the role operator" in (await ended(viewer.Command(second(waits.id)))).details()
        async with local(rig) as root:
            mistyped = await ended(root.Command(second(waits.id, "host-2")))
            assert mistyped.code() is grpc.StatusCode.INVALID_ARGUMENT and "type it exactly" in mistyped.details()
            sudo = second(waits.id)
            sudo.actor = "Olga"  # olga by sudo
            assert (await root.Command(sudo)).code == "same-person"
            done = await root.Command(second(waits.id))
            assert done.accepted and done.text.startswith("confirmed"), done.text
            gone = await ended(root.Command(second(waits.id)))
            assert gone.code() is grpc.StatusCode.NOT_FOUND
        assert not await waiting(olga)
        rows = {row.kind: row for row in rig.parts.journal.history(POOL)}
        assert rows["host-confirmed-off"].actor == f"olga and {ME}"
        assert (rows["second-awaited"].actor, rows["second-over"].actor) == ("olga", ME)
        results = [(row["actor"], row["method"], row["result"][:8]) for row in rig.parts.journal.calls(None, "", "", 0)]
        assert ("olga", "confirm-fenced", "refused ") in results and (ME, "second", "done: co") in results


async def test_root_is_one_person(tmp_path: Path) -> None:
    async with silent_host(tmp_path) as rig, local(rig) as first, local(rig) as again:
        await first.Command(CONFIRM)
        [waits] = await waiting(first)
        request = second(waits.id)
        request.actor = "ben"  # a claim makes nobody another
        assert (await again.Command(request)).code == "same-person"
        assert (await again.Command(second(waits.id, withdraw=True))).accepted
        assert not await waiting(first)
        assert any("is withdrawn by" in row.text for row in rig.parts.journal.history(POOL))


async def test_a_first_word_ends_with_the_role_of_who_said_it(tmp_path: Path) -> None:
    async with silent_host(tmp_path) as rig, caller(rig, operator(rig, "olga")) as olga, local(rig) as root:
        await olga.Command(CONFIRM)
        [waits] = await waiting(olga)
        without = ROLES.replace("{group}", GROUP).replace("olga", "dora")
        file = write_config(tmp_path, without, collector=f"{SERVED}\n{TWO}")
        assert (await root.Reload(pb.ReloadRequest(file=str(file)))).accepted
        reply = await root.Command(second(waits.id))
        assert reply.code == "too-late" and "olga" in reply.text and "any more" in reply.text
        assert (await root.Command(second(waits.id, withdraw=True))).accepted


async def test_it_is_checked_again_when_it_is_done(tmp_path: Path) -> None:
    async with two_pools(tmp_path, ROLES, TWO) as rig, caller(rig, operator(rig, "olga")) as olga:
        await olga.Command(CONFIRM)  # its agent lives
        [waits] = await waiting(olga)
        async with local(rig) as root:
            assert (await root.Command(second(waits.id))).code == "agent-alive"
        refused = [row for row in rig.parts.journal.history(POOL) if row.kind == "operator-refused"]
        assert [row.actor for row in refused] == [f"olga and {ME}"] and not await waiting(olga)


async def test_another_pools_operator_finds_nothing(tmp_path: Path) -> None:
    async with silent_host(tmp_path) as rig, local(rig) as root:
        gold = rig.parts.service.roster.pools[OTHER].record
        far = next(iter(gold.hosts.values()))
        request = command("fence", host=far.host, typed_name=far.name)
        assert (await root.Command(request)).code == "second-person"
        [pool] = (await root.Status(pb.StatusRequest(pool=OTHER))).pools
        [waits] = pool.seconded
        async with caller(rig, operator(rig, "carl")) as carl:
            error = await ended(carl.Command(second(waits.id, far.name)))
            assert error.code() is grpc.StatusCode.NOT_FOUND and far.name not in error.details()
            assert error.details().endswith("there is: nothing")


async def test_it_outlasts_a_restart_and_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_pools(tmp_path, ROLES, TWO) as rig, local(rig) as root:
        await root.Command(CONFIRM)
        [before] = await waiting(root)
    monkeypatch.setattr(second_person, "_LOOK_S", 0.02)
    async with two_pools(tmp_path, ROLES, TWO) as rig, local(rig) as root:
        [after] = await waiting(root)
        assert (after.id, after.what, after.by) == (before.id, before.what, before.by)
        seconds = rig.parts.operators._seconds
        kept = seconds._waiting[after.id]
        seconds._waiting[after.id] = replace(kept, expires_ms=kept.asked_ms)
        await until(lambda: not seconds._waiting)
        assert rig.parts.journal.history(POOL)[-1].text.endswith("found no second person")
        assert (await ended(root.Command(second(after.id)))).code() is grpc.StatusCode.NOT_FOUND
        assert not rig.parts.journal.seconded()
    row = Waiting("a", POOL, "w", "", "olga", "certificate olga", "", 0, 1 << 60, "another boot")
    assert row.left_ms(second_person.Clock(1)) == 0, "nothing tells how long it has waited"


async def test_a_shot_waits_for_the_question_that_was_asked(tmp_path: Path) -> None:
    async with silent_host(tmp_path) as rig, caller(rig, operator(rig, "olga")) as olga, local(rig) as root:
        assert (await olga.Command(command("approve"))).code == "nothing-asked"
        pools = rig.parts.service.roster.pools
        needs = Needs(shoot=True)
        question = Question(f"{POOL[:8]}-q7", 7, Ask.SHOOT, HOSTS[0], "may host-1 be powered off?", (), needs, "shoot")
        record = pools[POOL].record
        pools[POOL] = replace(pools[POOL], record=replace(record, asked=replace(record.asked, open=question)))
        wrong = command("approve", id="gold", typed_name="host-2")
        assert (await ended(olga.Command(wrong))).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await olga.Command(command("approve", id="gold"))).code == "second-person"
        [waits] = await waiting(root)
        assert waits.what == "approve --shoot host-1"
        later = replace(question, id=f"{POOL[:8]}-q8")
        pools[POOL] = replace(pools[POOL], record=replace(record, asked=replace(record.asked, open=later)))
        assert (await root.Command(second(waits.id))).code == "too-late"


async def test_no_more_than_so_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_person, "MOST", 1)
    async with two_pools(tmp_path, ROLES, TWO) as rig, local(rig) as root:
        await root.Command(CONFIRM)
        assert (await root.Command(command("fence"))).code == "too-many"


@pytest.mark.parametrize(
    ("name", "person", "claim", "same"),
    [
        ("olga", "certificate olga", "", True),
        ("OLGA", "uid 1000", "", True),
        ("root", "uid 0", "olga", True),
        ("root", "uid 0", "", False),
        ("ben", "certificate ben", "", False),
    ],
)
async def test_who_is_another_person(name: str, person: str, claim: str, same: bool) -> None:
    first = Waiting("a", POOL, "w", "", "olga", "certificate olga", "", 0, 1, "c")
    call = Call(Caller(name, person, ""), Rights(()), Rule(Role.OPERATOR, Scope.NAMED), "second", claim)
    assert (second_person._same_person(first, call) is not None) is same


@pytest.mark.parametrize(
    ("source", "name", "person", "same"),
    [
        ("socket, uid 0, pid 1; says it is 'anna'", "anna", "uid 1000", True),
        ("socket, uid 0, pid 1; says it is 'Anna'", "anna", "certificate anna", True),
        ("socket, uid 0, pid 1; says it is 'anna'", "ben", "uid 1001", False),
        ("socket, uid 0, pid 1", "anna", "uid 1000", False),
        ("socket, uid 0, pid 1", "user poolwarden", "uid 998", True),
    ],
)
async def test_who_was_root_first_is_no_second_under_his_own_name(
    source: str, name: str, person: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_person.os, "geteuid", lambda: 998)
    first = Waiting("a", POOL, "w", "", "root", "uid 0", source, 0, 1, "c")
    call = Call(Caller(name, person, ""), Rights(()), Rule(Role.OPERATOR, Scope.NAMED), "second")
    assert (second_person._same_person(first, call) is not None) is same


@pytest.mark.parametrize(
    ("uid", "person"), [(0, "uid 0"), (998, "uid 0"), (1000, "uid 1000"), (None, "certificate olga")]
)
async def test_whoever_runs_a_machine_is_kept_as_one_person_for_the_next_owner(
    uid: int | None, person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere the collector's own user has another number, or that number is somebody else's."""
    monkeypatch.setattr(access.os, "geteuid", lambda: 998)
    known = Caller("anybody", "certificate olga" if uid is None else f"uid {uid}", "", uid)
    assert second_person._person(known) == person


@pytest.mark.parametrize(
    ("verb", "args", "refused"),
    [
        ("drill-begin", (), True),
        ("drill-begin", (("restart", "yes"), ("hold", "yes")), False),
        ("drill-begin", (("restart", "yes"), ("power_loss", "yes")), True),
        ("drill-step", (("step", "1"),), False),
        ("drill-step", (("step", "2"),), True),
        ("drill-step", (("step", ""),), True),
        ("drill-step", (("step", "9"),), False),  # no such step: the engine says so
        ("drill-skip", (), False),
        ("drill-abandon", (), False),
    ],
)
async def test_a_drill_of_one_person_switches_no_host_off_where_that_takes_two(
    verb: str, args: tuple[tuple[str, str], ...], refused: bool
) -> None:
    steps = (DrillStep(Part.RESTART, HOSTS[0]), DrillStep(Part.FENCE, HOSTS[0]))
    record = PoolRecord(POOL, name="gold", drill=Drill("d", "olga", steps))
    said = OperatorSaid("r", "olga", verb, "", args)
    reply = second_person.drill_refusal(Pool(record, Policy()), said, frozenset({"fence off"}))
    assert (reply is not None) == refused
    assert reply is None or (reply.code == "second-person" and "drill gold --steps restart" in reply.next_step)
    assert second_person.drill_refusal(Pool(record, Policy()), said, frozenset({"confirm-fenced"})) is None
