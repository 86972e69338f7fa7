"""Two collectors with a journal of their own each, on one etcd, whose steps are made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.clusters import ModelCluster
from tests.cluster.contract import Collector, generation, names

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import effects as fx
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import fold
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commits import PoolTail
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.loop import shared_service
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

from .rig import HOSTS, POOL, write_config

OTHER = "bbbbbbbb-0000-4000-8000-000000000002"
ORDER = fx.SendOrder(orders.Order("o", HOSTS[0], "b", 1, orders.Promote(), 15_000))
PAUSE = ev.OperatorSaid("r-1", "anna", "pause", "", (("reason", "work"),))
AGAIN_S = 0.02


class Archive:
    """A journal whose disk may be full."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.full = False
        self.error: type[JournalError] = JournalError

    def commit(self, *args: Any) -> list[Row]:
        if self.full:
            raise self.error("journal.db: database or disk is full")
        return self.journal.commit(*args)

    def commit_together(self, steps: Iterable[Any]) -> Any:
        return [self.commit(*step) for step in steps]

    def take_over(self, *args: Any) -> list[Row]:
        if self.full:
            raise JournalError("journal.db: database or disk is full")
        return self.journal.take_over(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)


class One:
    """One collector with a real journal of its own, on the model of etcd; what it does is only noted."""

    def __init__(self, folder: Path, cluster: ModelCluster, name: str, at: Names) -> None:
        folder.mkdir()
        self.config = load(write_config(folder))
        self.collector = Collector(cluster, name, at)
        self.archive = Archive(Journal(self.config.state_dir, name))
        self.archive.journal.begin_epoch()
        self.time = 1_000_000
        self.roster = Roster(self.config, self.archive.journal.epoch, lambda: self.time, one_of_several=True)
        self.inbox = Inbox()
        self.begun: list[fx.Effect] = []
        self.forgotten: list[str] = []
        self.lost: list[str] = []
        self.store = EtcdStore(self.collector.to, at, lambda: self.time)
        told: Any = self
        self.service = SharedService(self.roster, self.inbox, told.archive, told, self.store)
        self.service.on_loss(lambda pool, _why: self.lost.append(pool))

    def perform(self, pool: str, effect: fx.Effect) -> None:
        self.begun.append(effect)

    def heard(self, pool: str, event: ev.Event) -> None:
        pass

    def forget(self, pool: str, why: str) -> None:
        self.forgotten.append(pool)

    async def owns(self, pool: str = POOL) -> PoolTail:
        """Claim it and take it over, as etcd has it."""
        owned = await self.collector.claim(pool)
        assert isinstance(owned, Ownership), owned
        tail = await carry_out(self.collector.to, commits.read(self.collector.names, pool, owned))
        assert isinstance(tail, PoolTail) and await self.service.take_over(owned, tail)
        return tail

    async def take(self, event: ev.Event, pool: str = POOL) -> None:
        async with asyncio.timeout(10):
            await self.service.take(Happening(pool, event))
            await self.service.settled()

    async def tail(self, pool: str = POOL) -> PoolTail:
        found = await carry_out(self.collector.to, commits.read(self.collector.names, pool))
        assert isinstance(found, PoolTail)
        return found

    def replies(self) -> list[tuple[bool, str]]:
        return [(each.accepted, each.code) for each in self.begun if isinstance(each, fx.Reply)]

    def archived(self, pool: str = POOL) -> list[str]:
        return [row.text for row in self.archive.journal.history(limit=1_000) if row.pool == pool]


class Two:
    """Two of them, and their etcd."""

    def __init__(self, folder: Path, cluster: Any = None) -> None:
        self.folder, self.cluster, self.at = folder, cluster or ModelCluster(), names()
        self.all: list[One] = []

    async def another(self, name: str) -> One:
        made = One(self.folder / f"{name}{len(self.all)}", self.cluster, name, self.at)
        self.all.append(made)
        await made.collector.joined()
        return made


@asynccontextmanager
async def two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any = None
) -> AsyncIterator[tuple[One, One, Any]]:
    monkeypatch.setattr(shared_service, "AGAIN_S", AGAIN_S)
    made = Two(folder, cluster)
    await generation(made.cluster, made.at)
    a, b = await made.another("a"), await made.another("b")
    try:
        yield a, b, made.cluster
    finally:
        for each in made.all:
            each.archive.journal.close()


def gives(monkeypatch: pytest.MonkeyPatch, *wanted: fx.Effect, alerts: tuple[Any, ...] = ()) -> None:
    """Each event is a host that is seen, whose number grows; and these effects."""
    seen = iter(range(1, 10_000))

    def step(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        number = next(seen)
        data = {"host": f"h{number}", "name": f"host {number}", "address": "192.0.2.1"}
        entry = Entry(Kind.HOST_SEEN, f"host {number} was seen", data)
        own = Entry(Kind.AGENT_SILENT, f"silence {number}", {"host": "h1", "silent_ms": 1})
        record = fold(pool.record, (entry,))
        return engine.StepResult(replace(pool, record=record), (own, entry), alerts, wanted)

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)


def quiet(one: One, pool: str = POOL) -> int:
    return one.roster.quiet_until(pool) - Policy().quiet_time


class Unanswered:
    """Of this pool etcd says nothing until that is over."""

    def __init__(self, one: One, monkeypatch: pytest.MonkeyPatch, pool: str = POOL) -> None:
        self.on, self.asked = True, 0
        attempt = one.store.attempt

        async def asked(of: str) -> commits.Outcome:
            if of == pool and self.on:
                self.asked += 1
                return commits.Undecided("no answer")
            return await attempt(of)

        monkeypatch.setattr(one.store, "attempt", asked)
