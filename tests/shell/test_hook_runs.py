"""A hook that an operator has run again: for what, who asked, and what is refused; and its alert in `status`."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.catalogue.hosts import HOOK_FAILED
from poolwarden_collector.core.model.effects import AlertRaised

from .rig import ME, POOL, until
from .test_hooks import CLOSED, PROMOTED, program
from .test_operator_api import OTHER, operated

pytestmark = pytest.mark.asyncio


def asked(hook: str, pool: str = "gold") -> pb.CommandRequest:
    return pb.CommandRequest(actor="anna", run_hook=pb.RunHook(hook=hook, pool=pool))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hooks.d"
    made.mkdir(mode=0o755)
    return made


@pytest.mark.slow
async def test_it_runs_again_for_the_newest_event_alone(tmp_path: Path, folder: Path) -> None:
    for name in ("10-dns", "20-other"):
        program(folder, name, f"cat >>{tmp_path}/{name}; echo >>{tmp_path}/{name}")

    def lines(name: str) -> list[str]:
        return (tmp_path / name).read_text().splitlines() if (tmp_path / name).exists() else []

    async with operated(tmp_path, f'[hooks]\ndirectory = "{folder}"') as (rig, stub):
        journal, service = rig.parts.journal, rig.parts.service
        reply = await stub.Command(asked("10-dns", OTHER))
        assert (reply.accepted, reply.code) == (False, "no-occasion") and "its master changes" in reply.text
        await service.write(journal.commit, POOL, [], [], "gold", [PROMOTED, CLOSED])
        service.run_hooks()
        await until(lambda: '"closed"' in "".join(lines("20-other")) and not journal.hook_events())
        before = {name: lines(name) for name in ("10-dns", "20-other")}
        reply = await stub.Command(asked("10-dns"))
        assert reply.accepted and reply.text.startswith("hook 10-dns runs again for closed of "), reply.text
        await until(lambda: lines("10-dns") != before["10-dns"] and not journal.hook_events())
        assert lines("10-dns") == [*before["10-dns"], before["10-dns"][-1]], "the same id, attempt and facts"
        assert lines("20-other") == before["20-other"]
        [row] = [row for row in journal.history(POOL) if row.kind == "hook-asked"]
        assert row.actor == ME and "hook 10-dns is to run again for closed of " in row.text


@pytest.mark.slow
async def test_what_is_given_up_or_waits_is_due_at_once(tmp_path: Path, folder: Path) -> None:
    program(folder, "10-fails", f"[ -e {tmp_path}/mended ] || exit 1; cat >>{tmp_path}/read; echo >>{tmp_path}/read")
    async with operated(tmp_path, f'[hooks]\ndirectory = "{folder}"') as (rig, stub):
        journal, service = rig.parts.journal, rig.parts.service
        await service.write(journal.commit, POOL, [], [], "gold", [PROMOTED])
        service.run_hooks()
        await until(lambda: [run for event in journal.hook_events() for run in event.runs.values() if run.attempts])
        with journal._transaction("a test") as db:
            db.execute("UPDATE hook_runs SET next_try_ms = next_try_ms + 200000")
        (tmp_path / "mended").touch()
        assert (await stub.Command(asked("10-fails", POOL))).accepted
        await until(lambda: (tmp_path / "read").exists() and not journal.hook_events())


@pytest.mark.slow
async def test_what_cannot_be_run_is_refused_with_what_there_is(tmp_path: Path, folder: Path) -> None:
    program(folder, "10-dns", "true")
    program(folder, "20-open", "true", mode=0o777)
    async with operated(tmp_path, f'[hooks]\ndirectory = "{folder}"') as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Command(asked("10-dms"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND and "10-dns" in str(error.value.details())
        reply = await stub.Command(asked("20-open"))
        assert (reply.accepted, reply.code) == (False, "hook-refused") and reply.next_step
    async with operated(tmp_path / "b") as (_, stub):
        assert (await stub.Command(asked("10-dns"))).code == "no-hooks"


async def test_the_alert_of_a_hook_counts_in_status(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        before = (await stub.Status(pb.StatusRequest(pool="gold"))).pools[0]
        facts = {"message": HOOK_FAILED.id, "hook": "10-dns"}
        raised = AlertRaised(f"{POOL}/hook-10-dns", "warning", "gold: hook 10-dns fails", "b", facts)
        await rig.parts.service.write(rig.parts.journal.commit, POOL, [], [raised], "gold")
        for wanted in ("gold", ""):
            reply = await stub.Status(pb.StatusRequest(pool=wanted))
            told = {pool.name: [alert.title for alert in pool.alerts] for pool in reply.pools}
            assert told["gold"] == [*(alert.title for alert in before.alerts), "gold: hook 10-dns fails"]
            assert not any("hook" in title for name, titles in told.items() if name != "gold" for title in titles)
