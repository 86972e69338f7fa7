"""What a damaged journal has lost: told until somebody has taken note, and no pool makes each start quiet for ever."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell.store import salvage
from poolwarden_collector.shell.store.damage_calls import KEY
from poolwarden_collector.shell.store.journal import FILE, Journal
from poolwarden_collector.shell.store.silences import Asked

from .rig import POOL, running, until
from .test_damaged_journal import entries, made, pages, zeroed
from .test_service import World

pytestmark = pytest.mark.asyncio


def damaged(folder: Path) -> Path:
    """The state of a collector of two pools, some entries of which cannot be read."""
    folder.mkdir()
    made(folder)
    zeroed(folder / FILE, pages(folder / FILE, "entries")[4])
    return folder


async def test_it_is_told_until_somebody_has_taken_note(tmp_path: Path) -> None:
    damaged(tmp_path / "state")
    for run in range(2):
        async with running(tmp_path) as rig, grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
            stub = rpc.OperatorStub(channel)
            alerts = (await stub.Alerts(pb.AlertsRequest(open_only=True))).alerts
            [alert] = [each for each in alerts if each.key == KEY]
            line = rig.parts.journal.damage
            assert line in alert.body and "poolwarden alerts ack journal-damaged" in alert.body
            [warning] = [text for text in rig.parts.service.roster.warnings() if line in text]
            assert "poolwarden alerts ack journal-damaged" in warning
            [check] = [each for each in (await stub.Doctor(pb.DoctorRequest())).checks if line in each.text]
            assert (check.level, check.next_step) == ("fault", "then: poolwarden alerts ack journal-damaged")
            if run:
                ack = pb.AcknowledgeAlert(topic="journal-damaged", reason="looked at the disk")
                done = await stub.Command(pb.CommandRequest(actor="anna", acknowledge_alert=ack))
                assert done.accepted and "over" in done.text
                assert not any(line in text for text in rig.parts.service.roster.warnings())
                left = (await stub.Alerts(pb.AlertsRequest(open_only=True))).alerts
                assert KEY not in {each.key for each in left}
    journal = Journal(tmp_path / "state")
    assert not journal.damage
    journal.close()


async def test_a_pool_that_is_never_heard_is_ended_by_a_person(tmp_path: Path) -> None:
    damaged(tmp_path / "state")
    async with running(tmp_path) as rig, grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
        pools = rig.parts.service.roster.pools
        assert len(pools) == 2 and all(pool.record.short for pool in pools.values())
        stub = rpc.OperatorStub(channel)
        for uuid, pool in list(pools.items()):
            ask = pb.CommandRequest(actor="anna", acknowledge=pb.Acknowledge(pool=uuid))
            done = await stub.Command(ask)
            assert done.accepted and "lost" in done.text, pool
            await until(lambda uuid=uuid: not pools[uuid].record.short)
            refused = await stub.Command(ask)
            assert not refused.accepted
    journal = Journal(tmp_path / "state")
    assert not journal.short() and not journal.folds_over_a_hole() and journal.epoch >> LOT_BITS
    assert journal.history(POOL)[-1].kind in ("acknowledged", "operator-refused")
    journal.close()


@pytest.mark.parametrize("more", [Kind.RESTORED, Kind.JOURNAL_SHORT_OVER], ids=["a-host", "a-person"])
async def test_only_what_is_said_after_the_loss_ends_it(tmp_path: Path, more: Kind) -> None:
    """Also of a second loss: what was said of the first one is in the past."""
    journal = Journal(tmp_path)
    journal.begin_epoch()
    journal.commit(POOL, entries(0, 4))
    said = Entry(more, "", {"host": "h", "ended": 0} if more is Kind.RESTORED else {})

    def lost() -> None:
        with journal._transaction("test") as db:
            db.execute("INSERT OR REPLACE INTO meta SELECT ?, max(seq) FROM entries", [salvage.LOST])

    for _ in range(2):
        lost()
        assert journal.short() == {POOL}
        journal.commit(POOL, [said])
        assert not journal.short()
    journal.close()


async def test_a_start_writes_it_once(tmp_path: Path) -> None:
    damaged(tmp_path / "state")
    for _ in range(2):
        world = World(tmp_path)
        await world.service.begin()
        assert world.kinds().count("journal-short") == 2 and world.pool.record.short
        world.journal.close()


async def test_more_damage_is_told_anew(tmp_path: Path) -> None:
    damaged(tmp_path / "state")
    lines = []
    for _ in range(2):
        journal = Journal(tmp_path / "state")
        for _ in range(2):
            journal.tell_damage("c")  # told once
        [alert] = journal.alerts(open_only=True)
        lines.append(json.loads(alert["data"])["why"])
        journal.close()
        zeroed(tmp_path / "state" / FILE, pages(tmp_path / "state" / FILE, "entries")[7])
    assert lines[0] in lines[1] and lines[0] != lines[1]
    journal = Journal(tmp_path / "state")
    assert [alert["resolved_at"] != "" for alert in journal.alerts()] == [False, True]
    [alert] = journal.alerts(open_only=True)
    journal.note_damage(alert, Asked("anna"), "c")
    assert not journal.damage and not journal.alerts(open_only=True)
    journal.close()
