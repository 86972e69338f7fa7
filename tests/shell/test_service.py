"""The loop: durable before done, nothing at all while nothing can be written, and the collector's own absences."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import effects, orders
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.loop import engine_loop
from poolwarden_collector.shell.loop import service as module
from poolwarden_collector.shell.loop.engine_loop import AWAY_MS, LATE_MS, RETRY_MS
from poolwarden_collector.shell.loop.service import Service
from poolwarden_collector.shell.queue.backlog import Backlog
from poolwarden_collector.shell.queue.happening import Happening
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

from .rig import HOSTS, POOL, mono_ms, until, write_config

pytestmark = pytest.mark.asyncio

HELLO = Hello(HOSTS[0], POOL, "boot-1", "host-1", "192.0.2.1", "0.1.0", frozenset())
CONNECTED = ev.AgentConnected(1, HELLO)


class Told:
    """A journal that can be made to fail, and effects, in one list in the order in which they came."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.log: list[Any] = []
        self.full = False

    def commit(
        self,
        pool: PoolId,
        entries: Iterable[Entry],
        alerts: Iterable[Any] = (),
        name: str = "",
        occasions: Iterable[Any] = (),
    ) -> list[Row]:
        entries = list(entries)
        self._write()
        rows = self.journal.commit(pool, entries, alerts, name, occasions)
        self.log += [entry.kind for entry in entries]
        return rows

    def check(self) -> None:
        self._write()

    def begin_epoch(self, above: int = 0) -> int:
        self._write()
        return self.journal.begin_epoch(above)

    def _write(self) -> None:
        if self.full:
            raise JournalError("journal.db: database or disk is full")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    def perform(self, pool: PoolId, effect: effects.Effect) -> None:
        self.log.append(effect)

    def heard(self, pool: PoolId, event: ev.Event) -> None:
        pass

    def effects(self) -> list[effects.Effect]:
        return [item for item in self.log if not isinstance(item, Kind)]


class World:
    """A service with a real journal, a clock that stands still, and no network."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.config = load(write_config(folder, extra))
        self.journal = Journal(self.config.state_dir, "test", ("log",))
        self.told = Told(self.journal)
        self.time = 1_000_000
        roster = Roster(self.config, self.journal.begin_epoch(), lambda: self.time)
        self.inbox = Inbox()
        told: Any = self.told
        self.service = Service(roster, self.inbox, told, told)

    async def take(self, event: ev.Event, pool: str = POOL) -> None:
        await self.service.take(Happening(pool, event))
        await self.service.settled()

    @property
    def pool(self) -> Pool:
        return self.service.roster.pools[POOL]

    def kinds(self) -> list[str]:
        return [row.kind for row in self.journal.history(limit=10_000)]


async def test_entries_are_durable_before_any_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    await world.take(CONNECTED)
    log = world.told.log
    assert log[0] is Kind.POOL_SEEN and Kind.HOST_SEEN in log
    effects = [n for n, item in enumerate(log) if not isinstance(item, Kind)]
    assert effects and min(effects) > log.index(Kind.HOST_SEEN)


async def test_a_failed_commit_has_not_happened(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(ev.Tick())
    before, kinds = world.pool, world.kinds()
    world.told.full = True
    done = len(world.told.effects())
    await world.take(CONNECTED)
    assert world.pool is before and world.kinds() == kinds
    assert len(world.told.effects()) == done
    assert "disk is full" in world.service.roster.stalled


async def test_nothing_is_done_while_stalled_and_everything_after(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(ev.Tick())
    world.told.full = True
    await world.take(CONNECTED)
    began, done = world.time, len(world.told.effects())
    for _ in range(10):
        world.time += 200
        await world.take(ev.AgentReported(HOSTS[0], 1, HostFacts(address="192.0.2.1")))
        await world.take(ev.Tick())
    assert len(world.told.effects()) == done and world.service.roster.shown_at() == began
    world.told.full = False
    world.time += RETRY_MS
    await world.take(ev.Tick())
    roster = world.service.roster
    assert not roster.stalled and roster.shown_at() == world.time
    state = world.pool.live.agents[HOSTS[0]]
    assert state.connected and state.reported  # the connection first, the newest report after it
    # What was silent meanwhile was the collector: quiet time again.
    assert roster.quiet_until(POOL) == world.time + world.config.policy.quiet_time


async def test_a_journal_that_fails_again_stalls_again_and_keeps_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(ev.Tick())
    world.told.full = True
    await world.take(CONNECTED)
    world.told.check = lambda: None  # type: ignore[method-assign]  # a small write fits, the next commit does not
    world.time += RETRY_MS
    await world.take(ev.AgentReported(HOSTS[0], 1, HostFacts()))
    assert world.service.roster.stalled and HOSTS[0] not in world.pool.live.agents
    world.told.full = False
    world.time += RETRY_MS
    await world.take(ev.Tick())
    assert world.pool.live.agents[HOSTS[0]].reported


async def test_a_command_while_stalled_is_refused_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(ev.Tick())
    world.told.full = True
    await world.take(ev.OperatorSaid("r-1", "anna", "pause"))
    await world.take(ev.OperatorSaid("r-2", "anna", "pause"))
    replies = [item for item in world.told.effects() if isinstance(item, effects.Reply)]
    assert [(r.request_id, r.accepted, r.code) for r in replies] == [
        ("r-1", False, "journal"),
        ("r-2", False, "journal"),
    ]
    world.told.full = False
    world.time += RETRY_MS
    await world.take(ev.Tick())
    assert world.pool.record.paused is None  # refused is refused


async def test_a_pool_is_not_adopted_without_its_entry(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.told.full = True
    await world.take(CONNECTED)
    assert world.service.roster.pools == {}
    world.told.full = False
    world.time += RETRY_MS
    await world.take(ev.Tick())
    assert HOSTS[0] in world.pool.record.hosts


async def test_a_restart_stands_where_the_journal_ends(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(CONNECTED)
    await world.take(ev.OperatorSaid("r", "anna", "pause", "", (("reason", "work"),)))
    record = world.pool.record
    assert record.paused == "work"
    world.journal.close()
    again = World(tmp_path)
    await again.service.begin()
    assert again.pool.record == record and again.pool.live.agents == {}
    assert again.kinds()[-1] == "collector-started" and again.service.roster.epoch >> LOT_BITS == 2


async def test_an_engines_error_stops_that_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    await world.take(CONNECTED)
    before = world.pool

    def broken(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        raise AssertionError("one candidate per term")

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", broken)
    await world.take(ev.Tick())
    await world.take(ev.OperatorSaid("r", "anna", "pause"))
    assert world.pool is before and not world.service.roster.stalled
    assert any("one candidate per term" in text for text in world.service.roster.warnings())
    assert world.told.effects()[-1].code == "internal-error"  # type: ignore[union-attr]
    monkeypatch.undo()
    await world.take(ev.OperatorSaid("r", "anna", "pause"))
    assert world.pool.record.paused is not None


async def test_an_effects_error_is_said_and_the_next_one_done(tmp_path: Path) -> None:
    world = World(tmp_path)
    seen = []

    def perform(pool: PoolId, effect: effects.Effect) -> None:
        seen.append(effect)
        raise RuntimeError("no such thing")

    world.told.perform = perform  # type: ignore[method-assign]
    await world.take(CONNECTED)
    await world.take(ev.OperatorSaid("r", "anna", "pause"))
    assert len(seen) > 1 and world.pool.record.paused is not None
    assert any("effect failed" in text for text in world.service.roster.warnings())


async def test_what_was_decided_on_old_evidence_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes its time over the commit; meanwhile the old master may have come back."""
    world = World(tmp_path)
    await world.take(ev.Tick())
    order = orders.Order("o", HOSTS[0], "b", 1, orders.Promote(), 15_000)
    asked = (
        effects.SendOrder(order),
        effects.PowerOff(HOSTS[0], "dev", "run-1"),
        effects.ReadPower(HOSTS[0], "dev", "run-2"),
    )

    def decide(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        return engine.StepResult(
            pool, (Entry(Kind.PROMOTE_INTENT, "x", {"order": "o", "pid": 1, "start_ticks": 1}),), (), asked
        )

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", decide)
    write = world.told._write
    for takes, done in ((LATE_MS, list(asked)), (LATE_MS + 1, [asked[2]])):
        world.told.log.clear()

        def slow(takes: int = takes) -> None:
            world.time += takes
            write()

        world.told._write = slow  # type: ignore[method-assign]
        await world.take(ev.Tick())
        assert world.told.effects() == done
    told = await world.inbox.next()
    assert told is not None and isinstance(told.event, ev.FenceEnded)
    assert (told.event.run_id, told.event.claim, told.event.certain) == ("run-1", False, True)
    assert any("disk is slow" in text for text in world.service.roster.warnings())


async def test_an_absence_of_its_own_makes_it_quiet_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(CONNECTED)
    quiet = world.service.roster.quiet_until(POOL)
    world.time += AWAY_MS
    await world.take(ev.Tick())
    assert world.service.roster.quiet_until(POOL) == quiet
    world.time += AWAY_MS + 1
    await world.take(ev.Tick())
    assert world.service.roster.quiet_until(POOL) == world.time + world.config.policy.quiet_time


async def test_a_suspended_machine_is_an_absence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    await world.take(CONNECTED)
    quiet = world.service.roster.quiet_until(POOL)
    world.time += 10
    asleep = 3_600_000 + world.service.loop._last_boottime
    monkeypatch.setattr("poolwarden_collector.shell.loop.service.clock.awake_or_not_ms", lambda: asleep)
    await world.take(ev.Tick())
    assert world.service.roster.quiet_until(POOL) == quiet + 10


async def test_a_higher_epoch_is_made_durable_and_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    await world.take(ev.Tick())
    world.told.full = True

    def decide(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        return engine.StepResult(pool, (), (), (effects.RaiseEpoch(41 << LOT_BITS),))

    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", decide)
    await world.take(ev.Tick())
    monkeypatch.undo()
    assert world.service.roster.epoch >> LOT_BITS == 1 and world.service.roster.stalled
    world.told.full = False
    world.time += RETRY_MS
    await world.take(ev.Tick())
    assert world.service.roster.epoch >> LOT_BITS == 42 and world.service.roster.epoch == world.journal.epoch


async def test_a_follower_that_fails_keeps_no_other_one_from_hearing(tmp_path: Path) -> None:
    world, heard = World(tmp_path), []

    def fails(rows: list[Row]) -> None:
        raise KeyError("a fault of its own")

    world.service.follow(fails)
    world.service.follow(heard.extend)
    world.service.follow(fails)
    await world.take(CONNECTED)
    assert heard == world.journal.history(limit=10_000) != []


async def test_followers_hear_what_is_durable_in_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    heard: list[Row] = []
    stop = world.service.follow(heard.extend)
    await world.take(CONNECTED)
    await world.take(ev.OperatorSaid("r", "anna", "pause"))
    stop()
    await world.take(ev.OperatorSaid("r", "anna", "resume"))
    stored = world.journal.history(limit=10_000)
    assert heard == stored[: len(heard)] and [row.kind for row in stored[len(heard) :]] == ["resumed"]


async def test_the_storm_brake_sees_all_pools(tmp_path: Path) -> None:
    world = World(tmp_path)
    for n in range(5):
        pool = POOL[:-1] + str(n)
        hello = Hello(f"h{n}", pool, "b", f"h{n}", f"192.0.2.{n}", "0.1.0", frozenset())
        await world.take(ev.AgentConnected(1, hello), pool)
    world.time += 4_500
    world.service._judge_sites()
    assert "5 of 5 agents in 5 pools" in world.service.roster.site(POOL).blind
    for n in range(5):
        pool = POOL[:-1] + str(n)
        await world.take(ev.AgentReported(f"h{n}", 1, HostFacts()), pool)
    world.service._judge_sites()
    assert world.service.roster.blind == ""


@pytest.mark.slow
async def test_the_loop_ticks_and_ends(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.take(CONNECTED)
    assert world.service.loop.due(world.time) == ()  # a step just now looked at the clock already
    began = mono_ms() - world.time
    world.service.roster.now = lambda: mono_ms() - began
    ticks: list[int] = []
    original: Callable[..., Any] = world.service.take

    async def take(happening: Happening) -> None:
        ticks.append(1)
        await original(happening)
        if len(ticks) == 3:
            world.inbox.end()

    world.service.take = take  # type: ignore[method-assign]
    await asyncio.wait_for(world.service.run(), 5)
    assert len(ticks) == 3


async def test_one_tick_of_a_pool_waits_at_a_time() -> None:
    inbox = Inbox()
    for _ in range(3):
        inbox.post("a", ev.Tick())
    inbox.post("b", ev.Tick())
    assert len(inbox) == 2
    await inbox.next()
    inbox.post("a", ev.Tick())
    assert len(inbox) == 2


async def test_a_newer_report_replaces_the_one_that_waits() -> None:
    inbox = Inbox()
    for n in range(3):
        inbox.post("a", ev.AgentReported(HOSTS[0], 1, HostFacts(memory_total=n)))
        inbox.post("a", ev.AgentReported(HOSTS[0], 2, HostFacts(memory_total=n + 10)))
    inbox.post("a", CONNECTED)
    assert len(inbox) == 3
    taken = [happening.event for happening in [await inbox.next() for _ in range(3)] if happening is not None]
    assert [e.facts.memory_total for e in taken if isinstance(e, ev.AgentReported)] == [2, 12] and taken[2] == CONNECTED
    inbox.post("a", ev.AgentReported(HOSTS[0], 1, HostFacts(memory_total=9)))
    again = await inbox.next()
    assert again is not None and again.event == ev.AgentReported(HOSTS[0], 1, HostFacts(memory_total=9))


async def test_the_backlog_is_small_and_in_order() -> None:
    backlog = Backlog()
    gone = ev.AgentGone(HOSTS[0], 1)
    for n in range(1_000):
        backlog.keep(Happening(POOL, ev.AgentReported(HOSTS[0], 1, HostFacts(memory_total=n))))
        backlog.keep(Happening(POOL, ev.Tick()))
    backlog.keep(Happening(POOL, CONNECTED))
    backlog.keep(Happening(POOL, ev.AgentReported(HOSTS[0], 2, HostFacts())))
    backlog.keep(Happening(POOL, gone))
    events = [kept.event for kept in backlog.take_all()]
    assert events[0] == ev.AgentReported(HOSTS[0], 1, HostFacts(memory_total=999))
    assert events[1:] == [CONNECTED, ev.AgentReported(HOSTS[0], 2, HostFacts()), gone]
    assert len(backlog) == 0


async def test_the_inbox_tells_how_long_its_oldest_event_has_waited() -> None:
    """A report that takes an older one's place waits since that one came."""
    clock = [100]
    inbox = Inbox(lambda: clock[0])
    inbox.post("a", ev.AgentReported(HOSTS[0], 1, HostFacts()))
    clock[0] = 200
    inbox.post("a", ev.Tick())
    clock[0] = 1_000
    inbox.post("a", ev.AgentReported(HOSTS[0], 1, HostFacts(memory_total=1)))
    clock[0] = 1_500
    assert (inbox.age(), len(inbox)) == (1_400, 2)
    await inbox.next()
    assert (inbox.age(), len(inbox)) == (1_300, 1)
    inbox.post("b", ev.Tick())
    inbox.hold("a")  # its tick waits on, behind the other pool's
    await inbox.next()
    assert (inbox.age(), len(inbox)) == (1_300, 1)
    inbox.let_go("a")
    await inbox.next()
    assert (inbox.age(), len(inbox)) == (0, 0)
    inbox.end()
    assert inbox.age() == 0
    without = Inbox()
    without.post("a", ev.Tick())
    assert without.age() == 0


async def test_who_is_told_of_a_step_and_fails_stops_neither_its_effects_nor_another_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    service, other = world.service, POOL[:-1] + "2"

    def fails(*_: object) -> None:
        raise RuntimeError("no")

    def decide(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        entry = Entry(Kind.ASKED, "x", {})
        alert = effects.AlertRaised(f"{pool.record.pool}/x", "warning", "t", "b", {})
        return engine.StepResult(pool, (entry,), (alert,), (effects.ReadPower(HOSTS[0], "bmc", pool.record.pool),))

    monkeypatch.setattr(engine_loop, "step", decide)
    service.on_commit(fails)
    service.on_alert(fails)
    service.on_occasion(fails)
    world.told.heard = fails  # type: ignore[method-assign]
    for each in (POOL, other, POOL):
        await world.take(ev.Tick(), each)
    begun = [effect.run_id for effect in world.told.effects() if isinstance(effect, effects.ReadPower)]
    assert begun == [POOL, other, POOL]
    assert any("failed over what it was told" in text for text in service.roster.warnings())
    for tell in (service.on_stall, service.on_absence, service.on_stand_down):
        tell(fails, fails) if tell == service.on_stall else tell(fails)  # type: ignore[operator,call-arg]
    world.told.full = True
    await world.take(ev.Tick())
    assert service.roster.stalled
    world.told.full = False
    world.time += 2_000
    await world.take(ev.Tick())
    assert not service.roster.stalled


async def test_a_timer_goes_on_where_what_it_asks_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    asked: list[str] = []

    def fails(name: str) -> Any:
        def failing() -> Any:
            asked.append(name)
            raise RuntimeError("no")

        return failing

    world.service._anchors = fails("anchors")
    world.service.on_read(fails("read"), fails("lag"))
    monkeypatch.setattr(module, "BEAT_MS", 1)
    monkeypatch.setattr(module, "TICK_MS", 1)
    monkeypatch.setattr(module, "SHORT_MS", -1)
    running = asyncio.ensure_future(world.service.run())
    await until(lambda: min(asked.count(name) for name in ("anchors", "read", "lag")) > 3)
    world.inbox.end()
    await running


async def test_what_waits_for_the_disk_before_any_pool_is_known_has_it_tried_again(tmp_path: Path) -> None:
    """An agent that waits for its welcome says nothing more, so nothing else would."""
    world = World(tmp_path)
    world.told.full = True
    await world.take(CONNECTED)
    loop = world.service.loop
    assert world.service.roster.stalled and not world.service.roster.pools
    world.told.full = False
    world.time += 1_000
    assert loop.due(world.time) == (POOL,)
    for pool in loop.due(world.time):
        await world.take(ev.Tick(), pool)
    assert not world.service.roster.stalled and world.pool.record.hosts
