"""Steps of several pools in one transaction: each pool's effects after its own rows, nothing half.

The journal's thread is held by a gate, so that what happens "while it is busy" is decided here and not by a clock.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import effects, orders
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.shell.loop import service as module
from poolwarden_collector.shell.loop.engine_loop import LATE_MS, RETRY_MS
from poolwarden_collector.shell.loop.service import STEP_WITHIN_MS
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row, Step, Unwritable

from .rig import POOL, until
from .test_service import World

POOLS = tuple(f"{POOL[:-2]}{n:02d}" for n in range(10, 16))
A, B, C, D = POOLS[:4]
READ = effects.ReadPower("host", "bmc", "r")
SEND = effects.SendOrder(orders.Order("o", "host", "b", 1, orders.Promote(), 15_000))  # it must not be begun late


class Gated:
    """The world of test_service with a journal's thread that can be held, and steps that are counted by pool."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(folder)
        self.service = self.world.service
        self.gate = threading.Event()
        self.gate.set()
        self.log: list[tuple[str, str]] = []  # what became durable, what was begun, each with its pool
        self.groups: list[tuple[str, ...]] = []  # of which pools each transaction was
        self.steps: list[str] = []
        self.unwritable: set[str] = set()
        self.effect: effects.Effect = READ
        self.full = False
        told: Any = self.world.told
        told.commit, told.commit_together = self._commit, self._commit_together
        told.perform = lambda pool, effect: self.log.append(("begun", pool))
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", self._step)

    def _step(self, pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:  # noqa: ARG002
        uuid = pool.record.pool
        self.steps.append(uuid)
        number = 1 << 70 if uuid in self.unwritable else 1
        entry = Entry(Kind.ASKED, f"step {self.steps.count(uuid)}", {}, "", number)
        record = replace(pool.record, term=pool.record.term + 1)
        return engine.StepResult(replace(pool, record=record), (entry,), (), (self.effect,))

    def _commit(self, *step: Any) -> list[Row]:
        self._hold((step[0],))
        return self._noted(self.world.journal.commit(*step))

    def _commit_together(self, steps: list[Step]) -> list[Any]:
        self._hold(tuple(step[0] for step in steps))
        done = self.world.journal.commit_together(steps)
        return [self._noted(rows) if isinstance(rows, list) else rows for rows in done]

    def _hold(self, pools: tuple[str, ...]) -> None:
        assert self.gate.wait(20)
        self.groups.append(pools)
        if self.full:
            raise JournalError("journal.db: database or disk is full")

    def _noted(self, rows: list[Row]) -> list[Row]:
        self.log += [("durable", row.pool) for row in rows]
        return rows

    async def known(self, pools: Iterable[str] = POOLS) -> None:
        """Have these pools be known already; then nothing is on its way."""
        for pool in pools:
            await self.take(pool)
        await self.service.settled()
        for each in (self.log, self.groups, self.steps):
            each.clear()

    async def take(self, pool: str, event: ev.Event | None = None) -> None:
        await self.service.take(Happening(pool, event or ev.Tick()))
        await asyncio.sleep(0)  # as between any two events

    async def all_taken(self, *pools: str) -> None:
        """Take an event of each while the journal's thread is held, then let it go."""
        self.gate.clear()
        for pool in pools:
            await self.take(pool)
        await self.end()

    async def end(self) -> None:
        self.gate.set()
        await self.service.settled()

    def texts(self, pool: str) -> list[str]:
        return [row.text for row in self.world.journal.history(pool) if row.kind == Kind.ASKED.value]


@pytest_asyncio.fixture
async def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gated]:
    made = Gated(tmp_path, monkeypatch)
    await made.known()
    yield made
    await made.end()


# ------------------------------------------------------------------------------------------------ together


@pytest.mark.asyncio
async def test_other_pools_go_on_while_the_journal_is_busy_and_are_written_together(gated: Gated) -> None:
    gated.gate.clear()
    for pool in (A, B, C, D):
        await gated.take(pool)
    assert gated.steps == [A, B, C, D] and gated.log == [], "all are stepped, and nothing is begun"
    await gated.end()
    assert gated.groups == [(A,), (B, C, D)]
    assert gated.log == [
        ("durable", A), ("begun", A), *(("durable", pool) for pool in (B, C, D)), *(("begun", p) for p in (B, C, D)),
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_no_pool_has_two_steps_on_their_way_and_its_events_keep_their_order(gated: Gated) -> None:
    inbox = gated.service._inbox
    gated.gate.clear()
    running = asyncio.ensure_future(gated.service.run())
    try:
        for number in range(3):
            for pool in (A, B):
                inbox.post(pool, ev.OperatorSaid(f"{pool}-{number}", "anna", "pause"))
        await until(lambda: gated.steps.count(B) == 1)
        assert gated.steps.count(A) == 1, "the second one waits for the first one's commit"
        gated.gate.set()
        await until(lambda: len(gated.texts(A)) >= 4 and len(gated.texts(B)) >= 4)
    finally:
        gated.gate.set()
        inbox.end()
        await running
    for pool in (A, B):
        told = gated.texts(pool)[1:]  # without the one that made it known
        assert told == [f"step {n}" for n in range(1, len(told) + 1)]
        assert [what for what, of in gated.log if of == pool] == ["durable", "begun"] * len(told), "after its own rows"


@pytest.mark.asyncio
async def test_a_transaction_is_bounded(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOGETHER", 2)
    await gated.all_taken(*POOLS)
    assert [len(group) for group in gated.groups] == [1, 2, 2, 1]


@pytest.mark.asyncio
async def test_a_second_event_of_a_pool_waits_for_the_first_ones_commit(gated: Gated) -> None:
    gated.gate.clear()
    await gated.take(A)
    second = asyncio.ensure_future(gated.take(A))
    await asyncio.sleep(0)
    assert gated.steps == [A]
    gated.gate.set()
    await second
    await gated.end()
    assert gated.steps == [A, A] and gated.log == [("durable", A), ("begun", A)] * 2


# ------------------------------------------------------------------------------------------------ what fails


@pytest.mark.asyncio
async def test_what_no_journal_could_hold_fails_alone(gated: Gated) -> None:
    gated.unwritable = {C}
    before = gated.service.roster.pools[C]
    await gated.all_taken(A, B, C, D)
    assert gated.groups == [(A,), (B, C, D)]
    assert {pool for what, pool in gated.log if what == "begun"} == {A, B, D}
    assert gated.service.roster.pools[C] is before and not gated.service.roster.stalled
    assert len(gated.texts(C)) == 1 and all(len(gated.texts(pool)) == 2 for pool in (A, B, D))
    gated.unwritable = set()
    await gated.take(C)
    await gated.end()
    assert len(gated.texts(C)) == 2, "and its next step is taken"


@pytest.mark.asyncio
async def test_a_full_disk_fails_every_step_that_waits_and_nothing_of_them_is_done(gated: Gated) -> None:
    roster = gated.service.roster
    before = {pool: roster.pools[pool] for pool in POOLS}
    gated.full = True
    await gated.all_taken(A, B, C)
    assert gated.groups == [(A,)], "what waits behind is not tried"
    assert gated.log == [] and "disk is full" in roster.stalled
    assert all(roster.pools[pool] is before[pool] for pool in POOLS)
    await gated.take(D)
    assert D not in gated.steps, "nothing is stepped"
    gated.full = False
    gated.world.time += RETRY_MS
    await gated.take(B, ev.OperatorSaid("r", "anna", "pause"))
    await gated.end()
    assert not roster.stalled and not gated.service._open


@pytest.mark.asyncio
async def test_a_disk_that_fills_up_in_the_middle_leaves_nothing_of_the_transaction(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, count = gated.world.journal._put, 0

    def full(*args: Any) -> list[Row]:
        nonlocal count
        count += 1
        if count == 4:  # the third one of B, C, D
            raise sqlite3.OperationalError("database or disk is full")
        return put(*args)

    monkeypatch.setattr(gated.world.journal, "_put", full)
    await gated.all_taken(A, B, C, D)
    assert gated.log == [("durable", A), ("begun", A)] and gated.service.roster.stalled
    assert [len(gated.texts(pool)) for pool in (A, B, C, D)] == [2, 1, 1, 1]


@pytest.mark.asyncio
async def test_an_order_whose_commit_took_too_long_is_not_begun_and_that_is_by_pool(gated: Gated) -> None:
    gated.effect = SEND
    gated.gate.clear()
    await gated.take(A)
    await gated.take(B)
    gated.world.time += LATE_MS + 1
    await gated.take(C)
    await gated.end()
    assert {pool for what, pool in gated.log if what == "durable"} == {A, B, C}
    assert [pool for what, pool in gated.log if what == "begun"] == [C]


@pytest.mark.asyncio
async def test_a_disk_that_hangs_is_no_life(gated: Gated) -> None:
    gated.gate.clear()
    await gated.take(A)
    assert gated.service.alive()
    gated.world.time += STEP_WITHIN_MS + 1
    gated.effect = READ
    gated.service._stepped_at = gated.world.time  # other pools' steps, which have nothing to write, go on
    assert not gated.service.alive()
    await gated.end()
    assert gated.service.alive()


# ------------------------------------------------------------------------------------------------ what concerns all


@pytest.mark.asyncio
async def test_an_epoch_begins_while_no_step_waits(gated: Gated) -> None:
    begun: list[list[str]] = []
    begin = gated.world.journal.begin_epoch
    told: Any = gated.world.told
    told.begin_epoch = lambda above: (
        begun.append([pool for what, pool in gated.log if what == "begun"]),
        begin(above),
    )[1]
    gated.effect = effects.RaiseEpoch(gated.service.roster.epoch + 7)
    gated.gate.clear()
    await gated.take(A)
    gated.effect = READ
    await gated.take(B)
    await gated.take(C)
    await gated.end()
    assert begun == [[B, C]], "the steps that stood on the epoch before are over"
    assert gated.service.roster.epoch > 7 and not gated.service._alone


@pytest.mark.asyncio
async def test_who_waits_for_a_commit_is_not_silent(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    asof: list[int] = []
    monkeypatch.setattr(
        "poolwarden_collector.shell.loop.engine_loop.judge_sites",
        lambda pools, anchors, at, *_: asof.append(at) or {},
    )
    began = gated.world.time
    gated.gate.clear()
    await gated.service.take(Happening(A, ev.Tick(), began - 100))
    await asyncio.sleep(0)
    gated.world.time += 5_000
    await gated.take(B)
    gated.service._judge_sites()
    assert asof == [began - 100], "nothing of that pool has been taken in since"
    inbox = gated.service._inbox
    inbox.post(A, ev.GateAsked("h", 1, "b", Role.MASTER, ""), began + 50)
    inbox.post(C, ev.Tick(), began + 5_000)
    happening = await inbox.next()
    assert happening is not None and happening.pool == C and inbox.overtaken() == began + 50
    await gated.end()
    gated.service._judge_sites()
    assert asof[-1] == began + 50, "and it was let go, and is still to be taken"


# ------------------------------------------------------------------------------------------------ the inbox


@pytest.mark.asyncio
async def test_events_of_a_held_pool_wait_in_order_and_come_first_when_it_is_let_go() -> None:
    inbox = Inbox(lambda: 5)
    inbox.hold(A)
    said = [ev.OperatorSaid(f"r{n}", "anna", "pause") for n in range(2)]
    for event in said:
        inbox.post(A, event)
    inbox.post(B, ev.Tick())
    inbox.post(C, ev.Tick())
    first = await inbox.next()
    assert first is not None and first.pool == B and len(inbox) == 3
    inbox.let_go(A)
    found = [await inbox.next() for _ in range(3)]
    assert [each.event if each.pool == A else each.pool for each in found if each is not None] == [*said, C]
    assert len(inbox) == 0 and inbox.overtaken() is None


@pytest.mark.asyncio
async def test_the_end_comes_after_what_is_held() -> None:
    inbox = Inbox()
    inbox.hold(A)
    inbox.post(A, ev.Tick())
    inbox.end()
    waiting = asyncio.ensure_future(inbox.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.let_go(A)
    found = await waiting
    assert found is not None and found.pool == A and await inbox.next() is None


# ------------------------------------------------------------------------------------------------ the journal


def test_steps_together_are_in_order_and_one_that_cannot_be_held_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "c", ("log",))
    journal.begin_epoch()
    alert = effects.AlertRaised("k", "info", "t", "b")
    good, bad = Entry(Kind.ASKED, "good", {}), Entry(Kind.ASKED, "bad", {}, "", 1 << 70)
    steps: list[Step] = [
        (A, (good,), (), "a", ()),
        (B, (good, bad), (alert,), "b", ()),
        (C, (good,), (alert,), "c", ()),
    ]
    first, second, third = journal.commit_together(steps)
    assert isinstance(first, list) and isinstance(third, list) and third[0].seq == first[0].seq + 1
    assert isinstance(second, Unwritable) and "an entry of pool b" in str(second)
    assert [row.pool for row in journal.history()] == [A, C]
    assert [each["pool"] for each in journal.alerts()] == [C]
    journal.close()


def test_a_kill_in_the_middle_leaves_nothing_half(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from poolwarden_collector.core.model.entries import Entry, Kind
        from poolwarden_collector.shell.store.journal import Journal

        journal, put, count = Journal(Path(sys.argv[1]), "c"), Journal._put, 0

        def killed(*given):
            global count
            count += 1
            if count == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return put(*given)

        Journal._put = killed
        journal.begin_epoch()
        journal.commit("a", [Entry(Kind.ASKED, "before", {})])
        journal.commit_together([(pool, [Entry(Kind.ASKED, "half", {})], (), pool, ()) for pool in "abc"])
        """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False)
    assert ran.returncode == -signal.SIGKILL
    journal = Journal(tmp_path, "c")
    assert [(row.pool, row.text) for row in journal.history()] == [("a", "before")]
    journal.close()
