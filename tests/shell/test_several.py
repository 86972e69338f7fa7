"""Operators with several collectors: whichever is asked answers for all, and a pool's owner obeys, once."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import enrolment_pb2 as enrolment
from poolwarden.v1 import enrolment_pb2_grpc as enrolment_rpc
from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.cluster.etcd import Denied
from poolwarden_collector.shell.operators import several
from poolwarden_collector.shell.operators.neighbours import Links, NotAnswered

from .rig import HOSTS
from .several import POOLS, Hall, halls
from .test_operator_api import refused

pytestmark = pytest.mark.asyncio


def pause(pool: str, **more: Any) -> pb.CommandRequest:
    return pb.CommandRequest(actor="anna", pause=pb.Pause(pool=pool, reason="racks"), **more)


def gives_up(hall: Hall) -> None:
    """It has silver no more, and does not see it again."""
    roster = hall.rig.parts.service.roster
    roster.one_of_several = True
    del roster.pools[POOLS[1]]


def paused(hall: Hall, pool: str) -> bool:
    return hall.rig.parts.service.roster.pools[pool].record.paused is not None


@pytest.mark.slow
async def test_whatever_collector_is_asked_answers_for_all(tmp_path: Path) -> None:
    async with halls(tmp_path, 3) as (_, [a, b, c]):
        for hall, name in ((a, "hall-a"), (b, "hall-b"), (c, "hall-c")):
            reply = await hall.stub.Status(pb.StatusRequest())
            assert reply.collector_name == name
            told = {pool.name: pool.collector for pool in reply.pools}
            assert told == {"gold": "hall-a", "silver": "hall-b", "copper": "hall-c"}
            assert sorted((each.collector, each.answered, each.pools) for each in reply.asked) == [
                ("hall-a", True, 1), ("hall-b", True, 1), ("hall-c", True, 1),
            ]  # fmt: skip
        together = (await a.stub.Status(pb.StatusRequest(overview=True, few=10))).overview
        assert (together.pools, together.hosts, together.matching) == (3, 3, 3)
        assert {line.name for line in together.lines} == {"copper", "gold", "silver"}
        some = await a.stub.Status(pb.StatusRequest(overview=True, limit=1, skip=1))
        assert len(some.overview.lines) == 1 and some.overview.matching == 3 and not some.pools
        assert {pool.name for pool in (await b.stub.Readiness(pb.ReadinessRequest())).pools} == {
            "gold", "silver", "copper",
        }  # fmt: skip
        pages, after = [], ""
        while True:
            page = await c.stub.Status(pb.StatusRequest(limit=2, after=after))
            pages.append([pool.pool_uuid for pool in page.pools])
            if not page.next:
                break
            after = page.next
        assert pages == [list(POOLS[:2]), [POOLS[2]]]
        checks = (await a.stub.Doctor(pb.DoctorRequest())).checks
        assert {check.collector for check in checks} == {"hall-a", "hall-b", "hall-c"}


@pytest.mark.slow
async def test_a_pool_is_told_by_its_owner_whoever_is_asked(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        for name in ("silver", POOLS[1]):
            [silver] = (await a.stub.Status(pb.StatusRequest(pool=name))).pools
            assert (silver.pool_uuid, silver.collector) == (POOLS[1], "hall-b")
            assert (await a.stub.Explain(pb.ExplainRequest(pool=name))).pool_name == "silver"
            assert (await a.stub.Plan(pb.PlanRequest(pool=name))).pool_uuid == POOLS[1]
            [ready] = (await a.stub.Readiness(pb.ReadinessRequest(pool=name))).pools
            assert ready.pool_uuid == POOLS[1]
        unknown = await refused(a.stub.Explain(pb.ExplainRequest(pool="sliver")))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND
        assert unknown.details() == "there is no pool 'sliver', did you mean silver?; there is: gold, silver"
        assert (await b.stub.Advise(pb.AdviseRequest(host="gold/host-1"))).host_uuid == HOSTS[0]


@pytest.mark.slow
async def test_a_name_that_two_collectors_have_is_no_name(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        restart = pb.CommandRequest(actor="anna", restart_xapi=pb.RestartXapiCommand(host="host-1"))
        error = await refused(a.stub.Command(restart))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert all(
            f"{host} (at {hall})" in error.details() for host, hall in ((HOSTS[0], "hall-a"), (HOSTS[1], "hall-b"))
        )
        for hall in (a, b):
            reply = await hall.stub.Command(
                pb.CommandRequest(actor="anna", restart_xapi=pb.RestartXapiCommand(host=HOSTS[1]))
            )
            assert reply.collector == "hall-b"


@pytest.mark.slow
async def test_a_command_goes_to_the_owner_in_the_operators_name(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        reply = await a.stub.Command(pause("silver"))
        assert reply.accepted and reply.collector == "hall-b"
        assert paused(b, POOLS[1]) and not paused(a, POOLS[0])
        for name in ("silver", POOLS[1]):
            answer = await a.stub.Command(pb.CommandRequest(actor="anna", approve=pb.Approve(id=name)))
            assert (answer.code, answer.collector) == ("nothing-asked", "hall-b")
        told = (await b.stub.Audit(pb.AuditRequest(pool=POOLS[1]))).entries[0]
        assert told.method == "pause" and "by way of collector hall-a" in told.source and told.collector == "hall-b"
        assert told.actor == (await a.stub.Audit(pb.AuditRequest())).entries[-1].actor
        entries = (await a.stub.History(pb.HistoryRequest(pool="silver"))).entries
        assert "paused" in [entry.kind for entry in entries if entry.collector == "hall-b"]


@pytest.mark.slow
async def test_a_command_is_obeyed_once_under_its_id(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        wanted = str(uuid.uuid4())
        first = await a.stub.Command(pause("silver", id=wanted))
        again = await a.stub.Command(pause("silver", id=wanted))
        assert first == again and first.accepted
        kinds = [entry.kind for entry in (await b.stub.History(pb.HistoryRequest(pool="silver"))).entries]
        assert kinds.count("paused") == 1
        for hall in (a, b):  # also whoever was not given it
            outcome = await hall.stub.Outcome(pb.OutcomeRequest(id=wanted))
            assert outcome.state == "done" and outcome.reply.accepted
        late = str(uuid.uuid4())
        assert (await a.stub.Outcome(pb.OutcomeRequest(id=late))).state == "unknown"
        refusal = await a.stub.Command(pause("gold", id=late))
        assert (refusal.code, paused(a, POOLS[0])) == ("asked-before", False)
        assert (await refused(a.stub.Command(pause("gold", id="1")))).code() is grpc.StatusCode.INVALID_ARGUMENT


class Losing:
    """Links that lose the answer to a command, or the command itself; ``outcomes``: and what comes of it."""

    def __init__(self, links: Any, *, arrives: bool, outcomes: bool = True) -> None:
        self._links, self._arrives, self._outcomes, self.given = links, arrives, outcomes, 0

    async def ask(self, member: Any, method: str, request: Any, metadata: Any, limit_s: float) -> Any:
        if method == "Outcome" and not self._outcomes:
            raise NotAnswered(grpc.StatusCode.UNAVAILABLE, "nobody answers")
        if method != "Command":
            return await self._links.ask(member, method, request, metadata, limit_s)
        self.given += 1
        if self._arrives:
            await self._links.ask(member, method, request, metadata, limit_s)
        raise NotAnswered(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer within 12 s")

    async def close(self) -> None:
        await self._links.close()


def loses(hall: Hall, **how: bool) -> Losing:
    own: Any = hall.rig.parts.operators._several
    own._links = losing = Losing(own._links, **how)
    return losing


@pytest.mark.slow
async def test_an_answer_that_was_lost_is_asked_for_and_the_command_not_repeated(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        losing = loses(a, arrives=True)
        reply = await a.stub.Command(pause("silver"))
        assert reply.accepted and paused(b, POOLS[1]) and losing.given == 1


@pytest.mark.slow
async def test_a_command_that_was_lost_is_known_not_to_be_obeyed(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        losing = loses(a, arrives=False)
        reply = await a.stub.Command(pause("silver"))
        assert (reply.code, losing.given) == ("not-reached", 1) and not paused(b, POOLS[1])
        assert reply.text.startswith("nothing was done: collector hall-b has not had the command")


@pytest.mark.slow
async def test_what_stays_lost_is_said_to_be_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "LOST_S", 0.2)
    monkeypatch.setattr(several, "ASK_AGAIN_S", 0.05)
    async with halls(tmp_path) as (_, [a, b]):
        losing = loses(a, arrives=True, outcomes=False)
        reply = await a.stub.Command(pause("silver"))
        assert (reply.accepted, reply.code, losing.given) == (False, "no-answer", 1) and paused(b, POOLS[1])
        assert "whether it has obeyed is not known" in reply.text and reply.next_step


@pytest.mark.slow
async def test_an_owner_that_was_started_again_meanwhile_does_not_say_that_nothing_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "LOST_S", 0.2)
    async with halls(tmp_path) as (_, [a, b]):
        loses(a, arrives=False)
        outcomes: Any = b.rig.parts.operators._outcomes
        outcomes._since += 60_000  # it remembers nothing of before
        assert (await a.stub.Command(pause("silver"))).code == "no-answer"


@pytest.mark.slow
async def test_a_pool_that_has_gone_elsewhere_meanwhile_is_refused_with_who_owns_it(tmp_path: Path) -> None:
    async with halls(tmp_path, 3) as (etcd, [a, b, _]):
        several_of_a: Any = a.rig.parts.operators._several
        links = several_of_a._links

        class Moving(Links):
            async def ask(self, member: Any, method: str, *args: Any) -> Any:
                if method == "Command":
                    gives_up(b)
                    etcd.owners[POOLS[1]] = "hall-c"
                return await links.ask(member, method, *args)

        several_of_a._links = Moving(lambda: a.rig.config.tls)
        reply = await a.stub.Command(pause("silver"))
        await links.close()
        assert (reply.accepted, reply.code) == (False, "moved")
        assert reply.text == "nothing was done: silver is not collector hall-b's any more, collector hall-c owns it now"
        assert reply.next_step == several.AGAIN


@pytest.mark.slow
async def test_who_does_not_answer_is_named_with_what_is_missing(tmp_path: Path) -> None:
    async with halls(tmp_path, 3) as (etcd, [a, b, c]):
        etcd.elsewhere["hall-c"] = "127.0.0.1:1"
        reply = await a.stub.Status(pb.StatusRequest())
        assert {pool.name for pool in reply.pools} == {"gold", "silver"}
        [silent] = [each for each in reply.asked if not each.answered]
        assert (silent.collector, silent.pools, silent.why_not) == ("hall-c", 1, "nobody answers at 127.0.0.1:1")
        for call in (a.stub.Readiness(pb.ReadinessRequest()), a.stub.Alerts(pb.AlertsRequest())):
            assert [each.collector for each in (await call).asked if not each.answered] == ["hall-c"]
        # A name may be the silent one's as well: what changes something needs what no other can have.
        error = await refused_with_step(a.stub.Command(pause("silver")))
        assert error.code() is grpc.StatusCode.ABORTED and not paused(b, POOLS[1])
        assert "done: there may be another 'silver', for collector hall-c does not answer" in error.details()
        assert error.details().endswith(f"name it by what no other has: {POOLS[1]}")
        assert (await a.stub.Command(pause(POOLS[1]))).accepted and paused(b, POOLS[1])
        assert (await a.stub.Explain(pb.ExplainRequest(pool="silver"))).pool_name == "silver"
        error = await refused_with_step(a.stub.Explain(pb.ExplainRequest(pool="copper")))
        assert error.code() is grpc.StatusCode.ABORTED and "hall-c does not answer" in error.details()
        # After its lease nobody is in charge of its pool until another one takes it.
        etcd.gone.add("hall-c")
        etcd.advised[POOLS[2]] = "hall-a"
        reply = await a.stub.Status(pb.StatusRequest())
        assert [(each.collector, each.pools) for each in reply.asked if not each.answered] == [("", 1)]
        error = await refused_with_step(a.stub.Explain(pb.ExplainRequest(pool="copper")))
        assert "'copper' is known to no collector that answers: of 1 pool nobody is in charge" in error.details()
        etcd.gone.clear()
        # Its own pools need nobody else.
        assert (await c.stub.Command(pause(POOLS[2]))).accepted


async def test_that_etcd_lets_nobody_in_is_no_matter_of_its_members(tmp_path: Path) -> None:
    async with halls(tmp_path, 1) as (etcd, [a]):
        etcd.away = True
        said = await a.stub.Collectors(pb.CollectorsRequest())
        assert "etcd cannot be looked at" in said.text and "etcdctl endpoint status" in said.next_step

        async def refuses() -> Any:
            raise Denied("PERMISSION_DENIED: etcdserver: permission denied")

        a.neighbours.look = refuses  # type: ignore[method-assign]
        said = await a.stub.Collectors(pb.CollectorsRequest())
        assert "permission denied" in said.text and "endpoint status" not in said.next_step
        assert "[store]" in said.next_step and "restart" in said.next_step


async def refused_with_step(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


@pytest.mark.slow
async def test_the_history_of_all_and_what_comes_of_it(tmp_path: Path) -> None:
    async with halls(tmp_path) as (_, [a, b]):
        told = (await a.stub.History(pb.HistoryRequest())).entries
        assert {entry.collector for entry in told} == {"hall-a", "hall-b"}
        assert [entry.at for entry in told] == sorted(entry.at for entry in told)
        newest = (await a.stub.History(pb.HistoryRequest(limit=3))).entries
        assert list(newest) == list(told)[-3:]
        ends = {entry.collector: entry.seq for entry in reversed(newest)}
        before = [pb.Position(collector=name, seq=seq) for name, seq in ends.items()]
        older = (await a.stub.History(pb.HistoryRequest(before=before))).entries
        assert list(older) == list(told)[:-3]
        follow = a.stub.Follow(pb.HistoryRequest())
        stored = [await follow.read() for _ in told]
        assert stored == list(told)
        await b.stub.Command(pause("silver"))
        await a.stub.Command(pause("gold"))
        live = {(entry.kind, entry.collector) for entry in [await asyncio.wait_for(follow.read(), 5) for _ in range(2)]}
        assert live == {("paused", "hall-a"), ("paused", "hall-b")}
        # What comes with a pool is told as what its owner before has recorded, live as well.
        healthy = Entry(Kind.VERDICT, "Healthy: as it was", {})
        parts = a.rig.parts
        parts.service.publish(parts.journal.take_over(POOLS[2], "copper", [(1, healthy)], 1))
        came = await asyncio.wait_for(follow.read(), 5)
        assert (came.text, came.collector, came.copied) == ("Healthy: as it was", "hall-a", True)
        assert [entry.copied for entry in (await a.stub.History(pb.HistoryRequest())).entries][-1]
        follow.cancel()


@pytest.mark.slow
async def test_the_past_of_a_pool_is_told_by_everyone_who_had_it(tmp_path: Path) -> None:
    async with halls(tmp_path) as (etcd, [a, b]):
        await b.stub.Command(pause("silver"))
        gives_up(b)
        etcd.advised[POOLS[1]] = "hall-a"  # which has not taken it yet
        for hall in (a, b):
            told = (await hall.stub.History(pb.HistoryRequest(pool=POOLS[1]))).entries
            assert "paused" in [entry.kind for entry in told] and {entry.collector for entry in told} == {"hall-b"}


async def test_a_collector_that_knows_no_others_yet_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with halls(tmp_path, 1) as (_, [a]):
        monkeypatch.setattr(a.neighbours, "overview", lambda: None)
        [_, others] = (await a.stub.Status(pb.StatusRequest())).asked
        assert (others.answered, others.why_not) == (False, several.UNKNOWN_OTHERS)
        error = await refused_with_step(a.stub.Command(pause("gold")))
        assert error.code() is grpc.StatusCode.ABORTED and not paused(a, POOLS[0])
        assert (await a.stub.Command(pause(POOLS[0]))).accepted


@pytest.mark.slow
async def test_what_came_of_a_command_is_known_to_its_owner_where_who_was_asked_is_gone(tmp_path: Path) -> None:
    async with halls(tmp_path, 3) as (etcd, [a, b, c]):
        wanted = str(uuid.uuid4())
        assert (await a.stub.Command(pause("silver", id=wanted))).accepted and paused(b, POOLS[1])
        etcd.gone.add("hall-a")
        outcome = await c.stub.Outcome(pb.OutcomeRequest(id=wanted))
        assert (outcome.state, outcome.collector) == ("done", "hall-b")


@pytest.mark.slow
async def test_a_host_of_another_collector_is_denied_by_its_name_wherever_that_is_asked(tmp_path: Path) -> None:
    """Its name may be all of hex digits, and is no serial number for that."""
    async with halls(tmp_path) as (etcd, [a, b]):
        record = b.rig.parts.service.roster.pools[POOLS[1]].record
        record.hosts[HOSTS[1]] = replace(record.hosts[HOSTS[1]], name="db01")
        async with grpc.aio.insecure_channel(f"unix:{a.rig.config.operator_socket}") as channel:
            said = enrolment_rpc.EnrolmentsStub(channel)

            def deny(given: str) -> Any:
                return said.DenyCertificate(enrolment.DenyCertificateRequest(serial=given, actor="anna"))

            reply = await deny("db01")
            assert not reply.accepted and "stream is at collector hall-b" in reply.text
            assert not a.rig.parts.enrolments.registry.ledger.denied
            assert (await said.ListKeys(enrolment.ListKeysRequest(pool="silver"))).keys == []
            unheard = await refused(said.ListKeys(enrolment.ListKeysRequest(pool="lead")))
            assert unheard.code() is grpc.StatusCode.NOT_FOUND
            etcd.elsewhere["hall-b"] = "127.0.0.1:1"
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await deny("db01")
            away = error.value
            assert away.code() is grpc.StatusCode.ABORTED and "does not answer" in str(away.details())
            assert (await deny("4f" * 10)).text == "denied: 1 certificate, of no host that is known here"


async def test_who_names_no_collector_is_told_where_they_stand(tmp_path: Path) -> None:
    async with halls(tmp_path, 1) as (_, [a]):
        for command in ({"drain": pb.Drain(collector="hall-x")}, {"move": pb.Move(pool="gold", collector="hall-x")}):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await a.stub.Command(pb.CommandRequest(**command))
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
            assert str(error.value.details()).endswith("there is: hall-a\n\npoolwarden collectors")
