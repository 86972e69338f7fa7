"""The operator's interface over its real socket: names, mistakes, commands, history as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell.loop.self_check import guards_its_own_host

from .rig import HOSTS, ME, POOL, Rig, running, until

pytestmark = pytest.mark.asyncio

OTHER = POOL[:-1] + "2"
FAR = HOSTS[0][:-1] + "9"


@contextlib.asynccontextmanager
async def operated(folder: Path, extra: str = "", collector: str = "") -> AsyncIterator[tuple[Rig, Any]]:
    """A collector with two pools: host-1 and host-2 in one, another host-1 in the other."""
    async with running(folder, extra, collector=collector) as rig:
        hosts: tuple[tuple[str, dict[str, Any]], ...] = (
            (HOSTS[0], {}),
            (HOSTS[1], {}),
            (FAR, {"pool_uuid": OTHER, "host_name": "host-1"}),
        )
        for host, hello in hosts:
            agent = await rig.agent(host, **hello)
            await agent.send(report=link.Report(full=True, management_address="192.0.2.1"))
        view = link.PoolView(pool_uuid=POOL, pool_name="gold", master_uuid=HOSTS[0])
        role = link.RoleFacts(pool_conf=link.RoleFacts.MASTER, serves_as_master=True)
        await rig.agents[0].send(report=link.Report(pool_view=view, role=role))
        pools = rig.parts.service.roster.pools
        await until(lambda: len(pools) == 2 and pools[POOL].record.name and pools[POOL].record.master)
        async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
            yield rig, rpc.OperatorStub(channel)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert "\n" not in str(error.value.details())
    return error.value


async def test_the_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        mode = rig.config.operator_socket.stat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660


async def test_status_tells_pools_hosts_and_the_collector_itself(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        reply = await stub.Status(pb.StatusRequest())
        assert (reply.collector_name, reply.epoch >> LOT_BITS, len(reply.pools)) == ("test", 1, 2)
        assert 0 < reply.quiet_ms <= 60_000
        gold = next(p for p in reply.pools if p.name == "gold")
        assert (gold.pool_uuid, gold.master_uuid, gold.master_name) == (POOL, HOSTS[0], "host-1")
        assert [h.name for h in gold.hosts] == ["host-1", "host-2"]
        assert gold.hosts[0].role == "master" and gold.hosts[0].agent_connected
        for name in ("gold", POOL):
            assert [p.pool_uuid for p in (await stub.Status(pb.StatusRequest(pool=name))).pools] == [POOL]


async def test_an_unknown_pool_is_told_what_there_is(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        for call in (
            stub.Status(pb.StatusRequest(pool="silver")),
            stub.Explain(pb.ExplainRequest(pool="silver")),
            stub.History(pb.HistoryRequest(pool="silver")),
            stub.Alerts(pb.AlertsRequest(pool="silver")),
            stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool="silver"))),
            stub.Command(pb.CommandRequest(actor="anna", dry_run=pb.DryRun(pool="silver"))),
            stub.Follow(pb.HistoryRequest(pool="silver")).read(),
        ):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert "'silver'" in str(error.details()) and "gold" in str(error.details())


@pytest.mark.slow
async def test_a_mistyped_name_is_told_the_nearest(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        for call, said in (
            (stub.Status(pb.StatusRequest(pool="gild")), "there is no pool 'gild', did you mean gold?; there is:"),
            (stub.Command(restart("hsot-2")), "there is no host 'hsot-2', did you mean host-2"),
            (stub.Command(restart("gold/hosst-2")), "there is no host 'gold/hosst-2', did you mean gold/host-2?"),
            (stub.Command(restart("gold/host-3")), "there is no host 'gold/host-3'; there is:"),
            (
                stub.Command(pb.CommandRequest(actor="anna", failover_to=pb.FailoverTo(pool="gold", host="hst-2"))),
                "gold has no host 'hst-2', did you mean host-2",
            ),
        ):
            assert said in str((await refused(call)).details())
        silver = await refused(stub.Status(pb.StatusRequest(pool="silver")))
        assert "did you mean" not in str(silver.details())


@pytest.mark.slow
async def test_a_pause_with_a_time(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        wrong = pb.Pause(pool="gold", for_ms=40 * 86_400_000)
        assert "31 days" in str((await refused(stub.Command(pb.CommandRequest(actor="anna", pause=wrong)))).details())
        command = pb.Pause(pool="gold", reason="racks", for_ms=7_200_000)
        reply = await stub.Command(pb.CommandRequest(actor="anna", pause=command))
        assert reply.accepted and "paused for 2 h, until about 2" in reply.text and "UTC" in reply.text
        [gold] = (await stub.Status(pb.StatusRequest(pool="gold"))).pools
        assert 7_100_000 < gold.pause_left_ms <= 7_200_000 and gold.pause_until.endswith("Z")
        end = rig.parts.service.roster.pools[POOL].record.pause_end
        assert end is not None and end.clock == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        short = pb.Pause(pool="gold", for_ms=500)
        assert (await stub.Command(pb.CommandRequest(actor="bert", pause=short))).code == "already-paused"
        assert (await stub.Command(pb.CommandRequest(actor="bert", resume=pb.Resume(pool="gold")))).accepted
        assert (await stub.Command(pb.CommandRequest(actor="bert", pause=short))).accepted
        await until(lambda: rig.parts.service.roster.pools[POOL].record.paused is None)
        told = (await stub.History(pb.HistoryRequest(pool="gold"))).entries[-1]
        assert (told.kind, told.actor) == ("resumed", "poolwarden")


async def test_history_between_two_instants(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        told = list((await stub.History(pb.HistoryRequest())).entries)
        at = told[len(told) // 2].at
        later = (await stub.History(pb.HistoryRequest(since=at))).entries
        earlier = (await stub.History(pb.HistoryRequest(until=at))).entries
        both = (await stub.History(pb.HistoryRequest(since=at, until=at))).entries
        assert [e.seq for e in later] == [e.seq for e in told if e.at >= at]
        assert [e.seq for e in earlier] == [e.seq for e in told if e.at <= at]
        assert [e.seq for e in both] == [e.seq for e in told if e.at == at] != []
        elsewhere = at.replace("Z", "+00:00")
        assert (await stub.History(pb.HistoryRequest(since=elsewhere))).entries == later
        for wrong in ("yesterday", "2026-01-31T20:00"):
            for request in (pb.HistoryRequest(since=wrong), pb.HistoryRequest(until=wrong)):
                error = await refused(stub.History(request))
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and wrong in str(error.details())
        assert "no end" in str((await refused(stub.Follow(pb.HistoryRequest(until=at)).read())).details())


def restart(host: str) -> pb.CommandRequest:
    return pb.CommandRequest(actor="anna", restart_xapi=pb.RestartXapiCommand(host=host))


async def test_an_ambiguous_host_lists_the_candidates(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        error = await refused(stub.Command(restart("host-1")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "gold/host-1" in str(error.details()) and f"{OTHER}/host-1" in str(error.details())


@pytest.mark.slow
@pytest.mark.parametrize("text", ["host-7", "gold/host-7", "", "/"])
async def test_an_unknown_host_is_told_what_there_is(tmp_path: Path, text: str) -> None:
    async with operated(tmp_path) as (_, stub):
        error = await refused(stub.Command(restart(text)))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "gold/host-2" in str(error.details()) or "gold" in str(error.details())


@pytest.mark.slow
@pytest.mark.parametrize("text", [HOSTS[1], "host-2", "gold/host-2", f"{POOL}/host-2", f"gold/{HOSTS[1]}"])
async def test_a_host_by_each_of_its_names_reaches_the_engine(tmp_path: Path, text: str) -> None:
    async with operated(tmp_path) as (rig, stub):
        reply = await stub.Command(restart(text))
        # Its HA flag was never reported, so the engine refuses; what matters is which host it has judged.
        assert not reply.accepted and reply.code == "ha-armed" and "host-2" in reply.text
        [row] = [r for r in rig.parts.journal.history() if r.kind == "operator-refused"]
        assert row.actor == ME


@pytest.mark.slow
async def test_pause_and_resume_are_journaled_with_their_actor(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        reply = await stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold", reason="new disks")))
        assert reply.accepted
        [gold] = (await stub.Status(pb.StatusRequest(pool="gold"))).pools
        assert gold.paused and gold.pause_reason == "new disks"
        again = await stub.Command(pb.CommandRequest(actor="bert", pause=pb.Pause(pool="gold")))
        assert not again.accepted and again.code == "already-paused" and again.next_step
        assert (await stub.Command(pb.CommandRequest(actor="bert", resume=pb.Resume(pool="gold")))).accepted
        entries = (await stub.History(pb.HistoryRequest(pool="gold"))).entries
        assert [(e.kind, e.actor) for e in entries[-3:]] == [
            ("paused", ME),  # who connected; the requests said anna and bert
            ("operator-refused", ME),
            ("resumed", ME),
        ]
        assert entries[-3].pool_name == "gold" and entries[-3].data == '{"reason":"new disks"}'


@pytest.mark.slow
async def test_mistakes_in_a_command_are_one_sentence(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        for request, expected in (
            (pb.CommandRequest(actor="anna"), "no command"),
            (pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold", reason="x" * 3000)), "3000 characters"),
            (
                pb.CommandRequest(
                    actor="anna", confirm_fenced=pb.ConfirmFenced(host="gold/host-1", typed_name="host-2")
                ),
                "typed 'host-2', the host's name is 'host-1'",
            ),
        ):
            error = await refused(stub.Command(request))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and expected in str(error.details())


@pytest.mark.slow
async def test_confirming_a_living_host_is_refused_by_the_engine(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        command = pb.ConfirmFenced(host="gold/host-1", typed_name="host-1", how="cord pulled")
        reply = await stub.Command(pb.CommandRequest(actor="anna", confirm_fenced=command))
        assert (reply.accepted, reply.code) == (False, "agent-alive")


async def test_a_dry_run_plans_and_changes_nothing(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        before = rig.parts.journal.history()
        reply = await stub.Command(pb.CommandRequest(actor="anna", dry_run=pb.DryRun(pool="gold")))
        assert reply.accepted and reply.plan.pool_name == "gold" and reply.plan.plan
        explained = await stub.Explain(pb.ExplainRequest(pool="gold"))
        assert explained.verdict == reply.plan.verdict and explained.evidence and explained.meaning
        assert [r for r in rig.parts.journal.history() if r.kind.startswith(("decided", "operator"))] == [
            r for r in before if r.kind.startswith(("decided", "operator"))
        ]


@pytest.mark.slow
async def test_follow_tells_the_stored_then_the_live_each_once(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        stored = (await stub.History(pb.HistoryRequest(pool="gold"))).entries
        following = stub.Follow(pb.HistoryRequest(pool="gold", after_seq=stored[-2].seq))
        first = await asyncio.wait_for(following.read(), 5)
        assert first.seq == stored[-1].seq
        await stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool=OTHER)))
        await stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold")))
        seen = [first]
        while seen[-1].kind != "paused":
            seen.append(await asyncio.wait_for(following.read(), 5))
        following.cancel()
        numbers = [entry.seq for entry in seen]
        assert numbers == sorted(set(numbers)) and {entry.pool_name for entry in seen} == {"gold"}


@pytest.mark.slow
async def test_what_happens_between_subscribing_and_reading_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operated(tmp_path) as (rig, stub):
        read, journal = rig.parts.operators._journals.search, rig.parts.journal

        async def late(call: Any, *args: Any) -> Any:
            if call == journal.history:
                monkeypatch.setattr(rig.parts.operators._journals, "search", read)
                pause = pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold"))
                assert (await stub.Command(pause)).accepted
            return await read(call, *args)

        monkeypatch.setattr(rig.parts.operators._journals, "search", late)
        following = stub.Follow(pb.HistoryRequest(pool="gold"))
        seen = [await asyncio.wait_for(following.read(), 5)]
        while seen[-1].kind != "paused":
            seen.append(await asyncio.wait_for(following.read(), 5))
        await stub.Command(pb.CommandRequest(actor="anna", resume=pb.Resume(pool="gold")))
        while seen[-1].kind != "resumed":
            seen.append(await asyncio.wait_for(following.read(), 5))
        following.cancel()
        assert [entry.kind for entry in seen].count("paused") == 1


@pytest.mark.slow
async def test_a_journal_that_cannot_be_written_is_a_warning_and_a_refusal(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        with rig.parts.journal._reading() as db:
            db.execute("PRAGMA query_only = 1")
        reply = await stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold")))
        assert not reply.accepted and reply.code == "journal" and "nothing is done" in reply.text and reply.next_step
        status = await stub.Status(pb.StatusRequest())
        assert any("nothing is decided or done" in warning for warning in status.warnings)
        assert not status.pools[0].paused
        [told] = (await stub.Readiness(pb.ReadinessRequest(pool="gold"))).pools
        assert "nothing of the pool can be recorded" in str(told.reasons) and not told.ready
        assert (await stub.Plan(pb.PlanRequest(pool="gold"))).outcome == "stands still"
        with rig.parts.journal._reading() as db:
            db.execute("PRAGMA query_only = 0")
        await until(lambda: not rig.parts.service.roster.stalled)
        assert (await stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold")))).accepted


@pytest.mark.slow
async def test_alerts_are_listed_with_their_deliveries(tmp_path: Path) -> None:
    async with operated(tmp_path, "[alerts]\nlog = 'alerts.log'") as (rig, stub):
        await rig.parts.service.write(rig.parts.journal.commit, POOL, [], [AlertRaised("k", "info", "t", "b")], "gold")
        rig.parts.outbox.nudge()
        await until(lambda: rig.parts.journal.pending() == 0)
        alerts = (await stub.Alerts(pb.AlertsRequest(pool="gold", open_only=True))).alerts
        mine = next(a for a in alerts if a.key == "k")
        assert (mine.title, mine.pool_name, mine.resolved_at) == ("t", "gold", "")
        assert [(d.sink, d.state, d.attempts) for d in mine.deliveries] == [("log", "sent", 1)]


@pytest.mark.slow
async def test_a_command_without_an_answer_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.operators.command_call.ANSWER_WITHIN_S", 0.2)
    async with operated(tmp_path) as (rig, stub):
        monkeypatch.setattr(rig.parts.service._effects, "perform", lambda pool, effect: None)
        reply = await stub.Command(pb.CommandRequest(actor="anna", pause=pb.Pause(pool="gold")))
        assert (reply.accepted, reply.code) == (False, "no-answer") and "history" in reply.text


async def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "c.sock"))
    left.close()
    async with running(tmp_path) as rig:
        with pytest.raises(OSError, match="another collector serves"):
            await rig.parts.operators.start(rig.config.operator_socket)
    (tmp_path / "plain").write_text("")
    with pytest.raises(OSError, match="no socket"):
        await rig.parts.operators.start(tmp_path / "plain")


async def test_a_configured_name_of_a_pool_works_too(tmp_path: Path) -> None:
    async with operated(tmp_path, f'[pools."{OTHER}"]\nname = "silver"') as (_, stub):
        assert (await stub.Status(pb.StatusRequest(pool="silver"))).pools[0].pool_uuid == OTHER
        reply = await stub.Command(restart("silver/host-1"))
        assert reply.code == "ha-armed"


@pytest.mark.slow
async def test_a_collector_that_guards_its_own_host_says_so(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, _):
        own = "01020304-0506-0708-090a-0b0c0d0e0f10"
        swapped = "04030201-0605-0807-090a-0b0c0d0e0f10"
        roster = rig.parts.service.roster

        def domains() -> tuple[str, ...] | None:
            return roster.pools[POOL].live.agents[HOSTS[1]].facts.domains

        for vm in (own, swapped):
            listed = link.DomainList(readable=True, vm_uuids=[vm])
            await rig.agents[1].send(report=link.Report(domains=listed))
            await until(lambda vm=vm: domains() == (vm,))
            [warning] = guards_its_own_host([roster.pools[POOL]], own)
            assert "host-2 of pool gold" in warning
        pools = [roster.pools[POOL]]
        assert guards_its_own_host(pools, FAR) == [] == guards_its_own_host(pools, "")


async def test_what_is_asked_is_named_by_its_id_or_its_pool(tmp_path: Path) -> None:
    from poolwarden_collector.core.model.asks import Ask
    from poolwarden_collector.core.model.policy import Policy
    from poolwarden_collector.core.state.live import Pool
    from poolwarden_collector.core.state.pool_record import PoolRecord
    from poolwarden_collector.core.state.question_record import Asked, Needs, Question
    from poolwarden_collector.shell.operators.names import Names, Unknown
    from poolwarden_collector.shell.operators.requests import VERBS

    needs = Needs(2, 0, True)
    question = Question(
        f"{POOL[:8]}-q1", 1, Ask.SHOOT, HOSTS[0], "power it off?", ("3 VMs",), needs, "g", f"{POOL[:8]}-1.2"
    )
    names = Names({POOL: Pool(PoolRecord(POOL, "gold", asked=Asked(question)), Policy())}, {})
    yes = pb.Approve(accept_kill=2, accept_stale_ms=60_000, shoot=True, typed_name=" host-1 ")
    for wanted, told in ((question.id, question.id), (question.failover, question.failover), ("gold", ""), (POOL, "")):
        pool, said = VERBS["approve"](
            names, "r", "anna", pb.Approve(id=wanted) if not wanted else _with_id(yes, wanted)
        )
        assert (pool, said.verb, said.arg("id")) == (POOL, "approve", told)
        assert (said.arg("accept_kill"), said.arg("accept_stale"), said.arg("shoot")) == ("2", "60000", "yes")
        assert said.arg("typed_name") == "host-1"
    with pytest.raises(Unknown, match="what is asked now: .*-q1"):
        VERBS["deny"](names, "r", "anna", pb.Deny(id="silver"))


def _with_id(yes: pb.Approve, wanted: str) -> pb.Approve:
    made = pb.Approve()
    made.CopyFrom(yes)
    made.id = wanted
    return made


@pytest.mark.slow
async def test_what_a_host_tells_late_is_history_and_never_how_it_is(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        rig.parts.telemetry.start()
        late = link.Late(mono_ms=5, boot_id="b", age_ms=60_000, dropped=2)
        late.event.kind, late.event.text = "disk", "/ is full"
        sample = link.Late(mono_ms=6, boot_id="b", age_ms=50_000)
        sample.sample.generation = 10**9
        before = rig.parts.service.roster.pools[POOL].live.agents[HOSTS[1]].facts
        for told in (late, sample):
            await rig.agents[1].send(late=told)

        async def entries(samples: bool) -> list[pb.LateEntry]:
            return list((await stub.Late(pb.LateRequest(host="gold/host-2", samples=samples))).entries)

        async with asyncio.timeout(10):
            while len(await entries(True)) < 2:
                await asyncio.sleep(0.05)
        [event] = await entries(False)
        assert (event.kind, event.text, event.dropped) == ("disk", "/ is full", 2) and event.at < event.heard
        assert rig.parts.service.roster.pools[POOL].live.agents[HOSTS[1]].facts == before
        assert (await refused(stub.Late(pb.LateRequest(host="nobody")))).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.slow
async def test_readiness_gives_reasons_with_fixes_and_a_plan_says_what_would_happen(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        reply = await stub.Readiness(pb.ReadinessRequest())
        assert {pool.name or pool.pool_uuid for pool in reply.pools} == {"gold", OTHER}
        [gold] = (await stub.Readiness(pb.ReadinessRequest(pool="gold"))).pools
        found = {reason.code: reason for reason in reversed(gold.reasons)}
        assert not gold.ready and found["no-device"].fix == "poolwarden fence setup host-1"
        assert "no drill is on record" in found["drill"].sentence and found["drill"].fix.endswith(
            "poolwarden drill gold"
        )
        plan = await stub.Plan(pb.PlanRequest(pool="gold"))
        assert (plan.master_name, plan.outcome) == ("host-1", "stands still")
        assert [phase.name for phase in plan.phases] == ["silence", "claim", "proof", "promotion", "members"]
        assert plan.expected_ms == sum(phase.expected_ms for phase in plan.phases) > 0


@pytest.mark.slow
async def test_past_changes_come_from_the_journal(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        durations = {"promote-intent to promoted": 44_000}
        done = Entry(Kind.CLOSED, "closed", {"new_master": HOSTS[0], "durations_ms": durations}, "fo-1", 2)
        failed = Entry(Kind.DESIGNATE_RESULT, "failed", {"outcome": "failed"}, "", 2)
        await rig.parts.service.write(rig.parts.journal.commit, POOL, [done, failed])
        plan = await stub.Plan(pb.PlanRequest(pool="gold"))
        assert plan.expected_from == "from the last failover of this pool"
        assert {phase.name: phase.expected_ms for phase in plan.phases}["promotion"] == 44_000
        [gold] = (await stub.Readiness(pb.ReadinessRequest(pool="gold"))).pools
        assert "the last change of master was" in next(r.sentence for r in gold.reasons if r.code == "drill")
        step = {"part": "restart", "host": HOSTS[0], "name": "host-1", "state": "passed", "phases": [], "why": ""}
        drilled = Entry(Kind.DRILL_ENDED, "over", {"drill": "d", "by": "anna", "outcome": "passed", "steps": [step]})
        await rig.parts.service.write(rig.parts.journal.commit, POOL, [drilled])
        [gold] = (await stub.Readiness(pb.ReadinessRequest(pool="gold"))).pools
        assert "drill" not in {reason.code for reason in gold.reasons}
        asked = pb.HistoryRequest(pool="gold", kinds=["drill-ended"])
        assert [entry.kind for entry in (await stub.History(asked)).entries] == ["drill-ended"]
        for wrong in (pb.HistoryRequest(kinds=["closed"]), pb.HistoryRequest(pool="gold", kinds=["closed"] * 21)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.History(wrong)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_drill_is_planned_and_refused_over_the_interface(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, stub):
        drill = pb.DrillCommand(pool="gold", action="plan", steps=["restart", "power-loss"])
        reply = await stub.Command(pb.CommandRequest(actor="anna", drill=drill))
        assert reply.accepted and [step.part for step in reply.drill.steps] == ["restart", "power-loss"]
        assert [step.power for step in reply.drill.steps] == [False, True] and all(s.does for s in reply.drill.steps)
        assert reply.drill.steps[0].why, "the pool has only just begun to be heard"
        drill.action = "begin"
        assert not (await stub.Command(pb.CommandRequest(actor="anna", drill=drill))).accepted
        for wrong in (
            {"action": "dance"},
            {"action": "begin", "steps": ["dance"]},
            {"action": "plan", "host": "nobody"},
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Command(pb.CommandRequest(actor="anna", drill=pb.DrillCommand(pool="gold", **wrong)))
