"""What is written is bounded for each pool, in lines that nothing from elsewhere begins, and read beside the writer."""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.cli import collector as cli
from poolwarden_collector.cli.settings import Settings
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import NOTES, Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord, apply
from poolwarden_collector.shell import log_lines
from poolwarden_collector.shell.operators import journal_reader
from poolwarden_collector.shell.store import journal as module
from poolwarden_collector.shell.store import journal_quota, telemetry
from poolwarden_collector.shell.store.journal import Journal, TooLong
from poolwarden_collector.shell.store.journal_quota import HOUR_MS, TELL_EVERY_MS, Quota

from .rig import HOSTS, POOL, hosts_of, running, until

FORGED = "ha\n2026-11-29 00:00:00,000 ERROR poolwarden: all is lost\r\x1b[2J\u2028\u202e"
NOTE = Entry(Kind.VERDICT, "Healthy: all is well", {"verdict": "Healthy", "evidence": ["x" * 1_000]})
SAFE = Entry(Kind.TERM_OBSERVED, "term 7", {}, "", 7)


# ------------------------------------------------------------------------------------------------ the journal's quota


@pytest.mark.parametrize("kind", sorted(NOTES, key=lambda kind: kind.value))
def test_what_may_be_folded_changes_nothing_that_is_durable(kind: Kind) -> None:
    before = PoolRecord(POOL)
    assert apply(before, Entry(kind, "x", {"verdict": "Healthy", "host": HOSTS[0], "why": "y"})) == before
    assert not Entry(kind, "x", {}, "f-1").informs, "a failover's own entries are all kept"
    assert not Entry(Kind.VERDICT, "x", {"over": True}).informs


def filled(quota: Quota, now: int = 0) -> int:
    """Write notes until some are folded; how many were written."""
    count = 0
    while quota.taken([(NOTE, 1_000)], now)[1] == 0:
        count += 1
    return count


def test_above_its_quota_what_informs_is_counted_and_everything_else_is_written() -> None:
    quota = Quota()
    assert 6_000 < filled(quota) < 9_000
    assert quota.taken([(NOTE, 1_000), (SAFE, 2), (NOTE, 1_000)], 0)[0][0] == SAFE
    (told,) = [each for each in quota.taken([(SAFE, 2)], TELL_EVERY_MS)[0] if each.kind is Kind.FOLDED] or [None]
    assert told is None, "nothing was folded since it was told"
    kept, folded = quota.taken([(NOTE, 1_000)], HOUR_MS)
    assert kept == [NOTE] and folded == 0, "an hour later there is room again"


def test_how_many_were_folded_is_told_at_most_every_ten_minutes() -> None:
    quota = Quota()
    filled(quota)
    quota.taken([(NOTE, 9)] * 4, 0)
    told = quota.taken([(SAFE, 2)], 0)[0][-1]
    assert (told.kind, told.data) == (Kind.FOLDED, {"entries": 5, "kinds": ["verdict"]}) and "5 that only" in told.text
    quota.left = -1e9
    quota.taken([(NOTE, 9)], 1)
    assert quota.taken([(SAFE, 2)], 2)[0] == [SAFE]
    assert quota.taken([(SAFE, 2)], TELL_EVERY_MS)[0][-1].data["entries"] == 1


def test_a_pool_that_writes_too_much_takes_nothing_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_quota, "MOST_BYTES", 5_000)
    journal, other = Journal(tmp_path), POOL[:-1] + "2"
    journal._quotas = {POOL: Quota(5_000.0), other: Quota(5_000.0)}
    for _ in range(20):
        journal.commit(POOL, [NOTE, SAFE])
    kinds = [row.kind for row in journal.history(POOL)]
    assert kinds.count("term-observed") == 20 and 3 <= kinds.count("verdict") <= 6 and kinds.count("folded") == 1
    assert journal.tally.entries == 20 - kinds.count("verdict")
    journal.commit(other, [NOTE])
    assert [row.kind for row in journal.history(other)] == ["verdict"]
    journal.close()
    again = Journal(tmp_path)
    assert again.record(POOL).term == 7
    again.close()


def test_what_is_told_afterwards_is_bounded_for_each_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "LATE_BYTES", 2_000)
    store = telemetry.Telemetry(tmp_path)
    for number in range(30):
        store.late(POOL, HOSTS[0], link.Late(mono_ms=number, event=link.LateEvent(kind="disk", text="x" * 300)))
    assert len(store._late) == 4 and store._tally.telemetry == 26
    store.late("another", HOSTS[1], link.Late(mono_ms=1, event=link.LateEvent(kind="disk", text="x" * 300)))
    assert len(store._late) == 5
    store._room[POOL] = (2_000.0, store._room[POOL][1])
    store.late(POOL, HOSTS[0], link.Late(mono_ms=99, dropped=2, event=link.LateEvent(kind="disk", text="x")))
    assert store._late[-1][-1] == 28, "what was left out is told with the next line"


# ------------------------------------------------------------------------------------------------ one line each


def test_a_log_message_is_one_line_whatever_is_in_it() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_lines.LogLines(log_lines.FORM))
    log = logging.Logger("test")
    log.addHandler(handler)
    log.warning("refused: %s", FORGED)
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable() and "\\nERROR" not in line and "\\n2026" in line
    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception("it broke", stack_info=True)
    first, *below = stream.getvalue().splitlines()[1:]
    assert first.endswith("it broke") and all(
        each.startswith(log_lines.INDENT) and each.isprintable() for each in below
    )


def test_the_journal_keeps_no_text_that_makes_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    alert = AlertRaised("k", "warning", FORGED, f"one\ntwo {FORGED}", {})
    journal.commit(POOL, [Entry(Kind.ASKED, FORGED, {}, actor=FORGED)], [alert])
    (row,) = journal.history(POOL)
    assert row.text.isprintable() and row.actor.isprintable()
    (held,) = journal.alerts(POOL)
    assert held["title"].isprintable() and all(part.isprintable() for part in held["body"].split("\n"))
    assert held["body"].startswith("one\ntwo ") and "\x1b" not in str(journal.parcels()[0].payload)
    journal.close()


# ------------------------------------------------------------------------------------------------ questions


def many(journal: Journal, count: int) -> None:
    journal.commit(POOL, [Entry(Kind.ASKED, f"entry {n}", {}, "many") for n in range(1, count + 1)])


def test_a_question_that_takes_too_long_is_ended_and_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    many(journal, 3_000)
    monkeypatch.setattr(module, "ASKED_WITHIN_S", 0.0)
    with pytest.raises(TooLong, match="too much"):
        journal.history()
    monkeypatch.undo()
    assert journal.history(limit=1)[0].text == "entry 3000"
    with journal._beside() as db, pytest.raises(sqlite3.OperationalError):
        db.execute("DELETE FROM entries")
    journal.close()


def test_a_page_ends_before_a_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    many(journal, 9)
    assert [row.seq for row in journal.history(limit=3, before_seq=7)] == [4, 5, 6]
    assert [row.seq for row in journal.history(after_seq=4, before_seq=7)] == [5, 6]
    journal.close()


@pytest.mark.asyncio
async def test_history_is_answered_while_the_writer_is_busy_and_in_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "MOST_ROWS", 10)
    monkeypatch.setattr(cli, "PAGE", 10)
    async with running(tmp_path) as rig:
        await rig.agent(HOSTS[0])
        await until(lambda: hosts_of(rig.parts.service.roster, POOL))
        await rig.parts.service.write(many, rig.parts.journal, 25)
        held = threading.Event()
        busy = asyncio.ensure_future(rig.parts.service.write(held.wait, 30))
        try:
            async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
                stub: Any = rpc.OperatorStub(channel)
                page = await stub.History(pb.HistoryRequest(limit=1_000, failover="many"), timeout=10)
                assert len(page.entries) == 10 and page.entries[-1].text == "entry 25"
                for call in (stub.Alerts(pb.AlertsRequest()), stub.Status(pb.StatusRequest())):
                    await asyncio.wait_for(call, 10)
                follow = stub.Follow(pb.HistoryRequest(limit=23, failover="many"))
                told = [(await asyncio.wait_for(follow.read(), 10)).text for _ in range(23)]
                assert told == [f"entry {n}" for n in range(3, 26)]
                follow.cancel()

            def ask() -> list[str]:
                with cli.Collector(Settings(f"unix:{rig.config.operator_socket}")) as asked:
                    return [entry.text for entry in asked.history(pb.HistoryRequest(limit=23, failover="many")).entries]

            assert await asyncio.to_thread(ask) == told
        finally:
            held.set()
            await busy
