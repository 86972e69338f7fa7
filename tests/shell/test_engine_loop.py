"""The engine's loop as its driver sees it: no socket, no thread, no clock; each answer is looked at by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from poolwarden_collector.core import engine
from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.decision.storm_brake import Blind
from poolwarden_collector.core.model import effects, orders
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.rest import Noted, Number, Rest
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import Config, Tls
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.behind import TELL_BEHIND_MS
from poolwarden_collector.shell.loop.effect_table import EffectTable
from poolwarden_collector.shell.loop.engine_loop import (
    AWAY_MS,
    LATE_MS,
    RETRY_MS,
    TICK_MS,
    EngineLoop,
)
from poolwarden_collector.shell.queue.happening import Happening

POOL, OTHER = "pool-1", "pool-2"
HELLO = Hello("h1", POOL, "boot-1", "host-1", "192.0.2.1", "0.1.0", frozenset())
CONNECTED = ev.AgentConnected(1, HELLO)
PAUSE = ev.OperatorSaid("r-1", "anna", "pause", "", (("reason", "work"),))
NOTED = (Entry(Kind.ASKED, "x", {}),)
ORDER = effects.SendOrder(orders.Order("o", "h1", "b", 1, orders.Promote(), 15_000))
OFF = effects.PowerOff("h1", "dev", "run-1")
READ = effects.ReadPower("h1", "dev", "run-2")
HIGHER = 41 << LOT_BITS


class Played:
    """A loop, its two clocks in ms, and a step that gives back what a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nowhere = Path("/nonexistent")
        tls = Tls(nowhere, nowhere, nowhere)
        config = Config(nowhere, "collector", "", nowhere, nowhere, tls, policy=Policy())
        self.now, self.asleep = 1_000_000, 0
        self.roster = Roster(config, 1 << LOT_BITS, lambda: self.now)
        self.loop = EngineLoop(self.roster, {}, *self.clocks)
        self._monkeypatch = monkeypatch

    @property
    def clocks(self) -> tuple[int, int]:
        return self.now, self.now + self.asleep

    def steps(self, step: Callable[[Pool, ev.Event, int, Site], engine.StepResult]) -> None:
        self._monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)

    def gives(self, *wanted: effects.Effect, entries: tuple[Entry, ...] = NOTED) -> None:
        """Every step gives these effects."""
        self.steps(lambda pool, event, now, site: engine.StepResult(pool, entries, (), wanted))

    def take(self, event: ev.Event, pool: str = POOL, at: int | None = None) -> on.Ready:
        return self.loop.take(Happening(pool, event, at), *self.clocks)

    def committed(self, begun: int = 0) -> on.Ready:
        return self.loop.committed(*self.clocks, begun)

    def failed(self) -> on.Ready:
        return self.loop.failed("the disk is full", *self.clocks)

    def through(self, event: ev.Event, pool: str = POOL, at: int | None = None) -> list[on.Act]:
        """One event on a disk that takes everything at once."""
        ready = self.take(event, pool, at)
        acts = list(ready.acts)
        while ready.write is not None:
            above = ready.write.above if isinstance(ready.write, on.BeginEpoch) else 0
            ready = self.committed(above + 1)
            acts += ready.acts
        return acts


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def of(kind: type[Any], acts: Any) -> list[Any]:
    return [act for act in acts if isinstance(act, kind)]


# ------------------------------------------------------------------------------------------------ durable first


def test_effects_come_after_the_commit_of_their_step(played: Played) -> None:
    adopted = played.take(CONNECTED)
    assert isinstance(adopted.write, on.Commit) and [e.kind for e in adopted.write.entries] == [Kind.POOL_SEEN]
    stepped = played.committed()
    assert isinstance(stepped.write, on.Commit) and Kind.HOST_SEEN in [e.kind for e in stepped.write.entries]
    assert of(on.Begin, stepped.acts) == [] and "h1" not in played.roster.pools[POOL].record.hosts
    done = played.committed()
    assert done.write is None and of(on.Begin, done.acts) and "h1" in played.roster.pools[POOL].record.hosts
    assert done.acts[-1] == on.Stepped(Happening(POOL, CONNECTED))


def test_a_step_without_entries_waits_for_the_clocks_alone(played: Played) -> None:
    played.through(CONNECTED)
    played.gives(READ, entries=())
    assert played.take(ev.Tick()).write == on.Nothing()
    assert of(on.Begin, played.committed().acts) == [on.Begin(POOL, READ)]


def test_one_event_at_a_time(played: Played) -> None:
    with pytest.raises(RuntimeError, match="no write to answer"):
        played.committed()
    played.take(CONNECTED)
    with pytest.raises(RuntimeError, match="one event at a time"):
        played.take(ev.Tick())


def test_a_pool_is_adopted_with_its_entry_or_not_at_all(played: Played) -> None:
    played.take(CONNECTED)
    assert of(on.Stalled, played.failed().acts) and played.roster.pools == {}


# ------------------------------------------------------------------------------------------------ the disk


def test_a_failed_commit_has_not_happened_and_its_event_comes_again_first(played: Played) -> None:
    played.through(ev.Tick())
    before = played.roster.pools[POOL]
    played.take(CONNECTED)
    stalled = played.failed()
    assert stalled.write is None and of(on.Begin, stalled.acts) == [] and of(on.Stalled, stalled.acts)
    assert played.roster.pools[POOL] is before and played.roster.stalled == "the disk is full"
    played.now += RETRY_MS - 1
    report = ev.AgentReported("h1", 1, HostFacts())
    assert played.take(report) == on.Ready()
    played.now += 1
    assert played.take(ev.Tick()).write == on.Check()
    over = played.committed()
    assert [each.event for each in over.again] == [CONNECTED, report] and of(on.Resumed, over.acts)
    # What was silent meanwhile was the collector.
    assert not played.roster.stalled and played.roster.quiet_until(POOL) == played.now + Policy().quiet_time


def test_a_disk_that_is_still_full_is_asked_again_a_second_later(played: Played) -> None:
    played.through(ev.Tick())
    played.take(CONNECTED)
    played.failed()
    for _ in range(3):
        played.now += RETRY_MS
        assert played.take(ev.Tick()).write == on.Check()
        assert of(on.Stalled, played.failed().acts) == [on.Stalled("the disk is full")]
        assert played.take(ev.Tick()).write is None


def test_a_command_is_refused_while_nothing_can_be_recorded(played: Played) -> None:
    played.through(ev.Tick())
    for ready in (played.take(PAUSE), played.failed(), played.take(PAUSE)):
        replies = [each.reply for each in of(on.Refuse, ready.acts)]
        assert [(r.request_id, r.accepted, r.code) for r in replies] in ([], [("r-1", False, "journal")])
    assert replies  # the last one, at once


@pytest.mark.parametrize("slept", [False, True])
def test_an_effect_whose_record_took_too_long_is_not_begun(played: Played, slept: bool) -> None:
    """Also on the clock that counts the machine's sleep, when the other one has stood still."""
    played.through(ev.Tick())
    played.gives(ORDER, OFF, READ)

    def took(ms: int) -> on.Ready:
        played.take(ev.Tick())
        played.asleep, played.now = (played.asleep + ms, played.now) if slept else (played.asleep, played.now + ms)
        return played.committed()

    assert [each.effect for each in of(on.Begin, took(LATE_MS).acts)] == [ORDER, OFF, READ]
    late = took(LATE_MS + 1)
    assert [each.effect for each in of(on.Begin, late.acts)] == [READ]
    assert [each.effect for each in of(on.Drop, late.acts)] == [ORDER, OFF]
    assert all("2.0 s old when its record was durable" in each.why for each in of(on.Drop, late.acts))
    assert any("disk is slow" in text for text in played.roster.warnings())


def test_of_a_switch_that_was_dropped_it_is_certain_that_it_never_began(played: Played) -> None:
    switches = (OFF, effects.PowerOn("h1", "dev", "run-2"))
    played.through(ev.Tick())
    played.gives(ORDER, *switches, effects.Recall("h1", "run-1"))
    played.take(ev.Tick())
    played.now += LATE_MS + 1
    acts = played.committed().acts
    [why] = {each.why for each in of(on.Drop, acts)}
    ended = [ev.FenceEnded("h1", each.run_id, False, True, why, played.now, begun=False) for each in switches]
    assert of(on.Post, acts) == [on.Post(POOL, each) for each in ended]


# ------------------------------------------------------------------------------------------------ errors


def broken(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
    raise AssertionError("one candidate per term")


def test_an_error_in_one_pools_step_ends_that_step_alone(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.through(CONNECTED)
    before = played.roster.pools[POOL]
    played.steps(broken)
    acts = played.through(PAUSE)
    [broke], [refused] = of(on.Broke, acts), of(on.Refuse, acts)
    assert str(broke.error) == "one candidate per term" and refused.reply.code == "internal-error"
    assert played.roster.pools[POOL] is before and not played.roster.stalled
    assert any("one candidate per term" in text for text in played.roster.warnings())
    monkeypatch.undo()
    assert of(on.Stepped, played.through(ev.Tick(), OTHER))


def test_what_no_store_can_hold_is_dropped_with_its_event(played: Played) -> None:
    played.through(ev.Tick())
    before = played.roster.pools[POOL]
    played.gives(READ)
    played.take(ev.Tick())
    refused = played.loop.refused(OverflowError("a number of 65 bits"))
    assert refused.write is None and of(on.Begin, refused.acts) == [] and of(on.Broke, refused.acts)
    assert played.roster.pools[POOL] is before and not played.roster.stalled


def test_an_error_of_the_driver_ends_that_event_alone(played: Played) -> None:
    played.through(ev.Tick())
    played.take(PAUSE)
    assert of(on.Refuse, played.loop.broken(ValueError("a follower")).acts)
    assert of(on.Stepped, played.through(ev.Tick()))


# ------------------------------------------------------------------------------------------------ in charge, or not


def test_standing_down_cuts_off_once_and_concerns_one_pool(played: Played) -> None:
    for pool in (POOL, OTHER):
        played.through(ev.Tick(), pool)
    played.gives(effects.StandDown("h1 obeys another one"), ORDER, OFF, READ)
    acts = played.through(ev.Tick())
    assert of(on.CutOff, acts) == [on.CutOff(POOL)] and [each.effect for each in of(on.Begin, acts)] == [READ]
    assert [each.effect for each in of(on.Drop, acts)] == [ORDER, OFF]
    assert of(on.CutOff, played.through(ev.Tick())) == []
    played.gives(ORDER)
    assert of(on.Begin, played.through(ev.Tick(), OTHER)) == [on.Begin(OTHER, ORDER)]


def test_a_higher_epoch_is_durable_before_the_effects_that_carry_it(played: Played) -> None:
    played.through(ev.Tick())
    played.roster.stood_down[POOL] = "h1 obeys another one"
    played.gives(READ, effects.RaiseEpoch(HIGHER), ORDER)
    played.take(ev.Tick())
    raising = played.committed()
    assert of(on.Begin, raising.acts) == [on.Begin(POOL, READ)] and raising.write == on.BeginEpoch(HIGHER)
    raised = played.committed(HIGHER + 1)
    assert of(on.Begin, raised.acts) == [on.Begin(POOL, ORDER)] and played.roster.site(OTHER).raised[-1] == HIGHER + 1
    assert played.through(ev.Tick())[-1] == on.Stepped(Happening(POOL, ev.Tick()))  # not raised twice


def test_an_epoch_that_no_disk_takes_is_raised_once_it_can_be(played: Played) -> None:
    played.through(ev.Tick())
    played.gives(effects.RaiseEpoch(HIGHER), READ)
    played.take(ev.Tick())
    played.committed()
    assert of(on.Begin, played.failed().acts) == [on.Begin(POOL, READ)] and played.roster.stalled
    played.now += RETRY_MS
    played.take(ev.Tick())
    assert played.committed().write == on.BeginEpoch(HIGHER)
    played.committed(HIGHER + 1)
    assert played.roster.epoch == HIGHER + 1 and not played.roster.stalled


def test_an_epoch_above_all_numbers_is_given_up(played: Played) -> None:
    played.through(ev.Tick())
    played.gives(effects.RaiseEpoch(2**64))
    played.take(ev.Tick())
    played.committed()
    assert played.loop.refused(OverflowError("no epoch is above it")).write is None
    assert played.roster.epoch == 1 << LOT_BITS and "no epoch is above it" in played.roster.warnings()
    played.gives(effects.RaiseEpoch(HIGHER))
    played.through(ev.Tick())
    assert played.roster.epoch == HIGHER + 1


def test_a_start_is_above_whoever_it_had_stood_down_for(played: Played) -> None:
    records = [PoolRecord(POOL, stale_epoch=HIGHER), PoolRecord(OTHER)]
    ready = played.loop.start(records, *played.clocks)
    assert ready.write == on.BeginEpoch(HIGHER)
    noted = []
    ready = played.committed(HIGHER + 1)
    while ready.write is not None:
        assert isinstance(ready.write, on.Commit)
        noted += [(ready.write.pool, entry.kind, entry.data["epoch"]) for entry in ready.write.entries]
        ready = played.committed()
    assert noted == [(uuid, Kind.COLLECTOR_STARTED, HIGHER + 1) for uuid in (POOL, OTHER)]


# ------------------------------------------------------------------------------------------------ time


@pytest.mark.parametrize("slept", [False, True])
def test_its_own_absence_begins_the_quiet_time_anew_and_cuts_off(played: Played, slept: bool) -> None:
    played.through(CONNECTED)
    for ms, cut in ((AWAY_MS, []), (AWAY_MS + 1, [on.CutOff("")])):
        played.now += 0 if slept else ms
        played.asleep += ms if slept else 0
        assert of(on.CutOff, played.through(ev.Tick())) == cut
    assert played.roster.quiet_until(POOL) == played.now + Policy().quiet_time


def test_a_pool_is_due_when_nothing_has_happened_to_it(played: Played) -> None:
    played.through(ev.Tick())
    played.now += TICK_MS // 2 - 1
    played.through(ev.Tick(), OTHER)
    assert played.loop.due(played.now) == ()
    assert played.loop.due(played.now + 1) == (POOL,)


RESTS_MS = 10_000


def resting(played: Played, monkeypatch: pytest.MonkeyPatch, *pools: str) -> list[str]:
    """Both pools, of which these rest from now on; the list says which were stepped since."""
    stepped: list[str] = []

    def step(pool: Pool, event: ev.Event, now: int, site: Site) -> engine.StepResult:
        stepped.append(pool.record.pool)
        return engine.StepResult(pool)

    def rest_of(pool: Pool, now: int, site: Site) -> Rest | None:
        noted = Noted(now, 0)
        noted.compared_late(True, BEHIND_MS)
        assert Number(now, 1, noted) < now + RESTS_MS
        return Rest(noted) if pool.record.pool in pools else None

    played.steps(step)
    monkeypatch.setattr("poolwarden_collector.shell.loop.rests.rest_of", rest_of)
    for uuid in (POOL, OTHER):
        played.through(ev.Tick(), uuid)
    stepped.clear()
    return stepped


def test_a_pool_at_rest_is_due_at_its_deadline(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    resting(played, monkeypatch, OTHER)
    began = played.now
    for later, due in ((TICK_MS, (POOL,)), (RESTS_MS - 1, (POOL,)), (RESTS_MS, (POOL, OTHER))):
        played.now = began + later
        assert played.loop.due(played.now) == due


def test_a_tick_of_a_pool_at_rest_is_no_step(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one that was posted before the pool rested, or that which shows that the collector was not away."""
    stepped = resting(played, monkeypatch, POOL)
    played.now += TICK_MS
    assert of(on.Stepped, played.through(ev.Tick())) and stepped == []
    played.now += RESTS_MS
    played.through(ev.Tick())  # which begins the next rest
    played.now += 1
    played.through(ev.OperatorSaid("r", "anna", "why"))
    assert stepped == [POOL]


def test_where_all_rest_one_tick_shows_that_the_collector_is_there(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped, quiet_until = resting(played, monkeypatch, POOL, OTHER), played.roster.quiet_until(POOL)
    for _ in range(2 * AWAY_MS // TICK_MS - 1):
        played.now += TICK_MS
        (beat,) = played.loop.due(played.now)
        assert of(on.CutOff, played.through(ev.Tick(), beat)) == []
    assert played.roster.quiet_until(POOL) == quiet_until and not stepped


def _becomes_quiet(played: Played) -> None:
    played.roster.be_quiet_again(played.now)


def _sees_no_site(played: Played) -> None:
    played.roster.judged({"": Blind("none of its 2 network anchors answers", 0)}, played.now)


def _stands_down(played: Played) -> None:
    played.roster.stood_down[OTHER] = "another one is obeyed"


def _raises_its_epoch(played: Played) -> None:
    played.roster.epoch += 1


def _is_reloaded(played: Played) -> None:
    config = dataclasses.replace(played.roster.config, name="another")
    change = on.Reconfiguration(config, {}, "SIGHUP", ())
    ready = played.loop.reconfigure(change, *played.clocks)
    while ready.write is not None:
        ready = played.committed()


@pytest.mark.parametrize(
    "happens",
    [_becomes_quiet, _sees_no_site, _stands_down, _raises_its_epoch, _is_reloaded],
    ids=lambda each: each.__name__,
)
def test_what_changes_for_the_collector_itself_ends_every_rest(
    played: Played, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Played], None]
) -> None:
    resting(played, monkeypatch, POOL, OTHER)
    played.now += TICK_MS
    happens(played)
    assert set(played.loop.due(played.now)) == {POOL, OTHER}


def test_what_changes_for_a_pool_ends_its_rest(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever put another state there: a rest is of one value of the pool."""
    resting(played, monkeypatch, POOL, OTHER)
    played.roster.pools[OTHER] = dataclasses.replace(played.roster.pools[OTHER], policy=Policy(mode="ask"))
    played.now += TICK_MS
    played.through(ev.Tick())
    assert played.loop.due(played.now) == (OTHER,)


def test_a_rest_is_not_kept_where_the_collector_is_later_than_it_was_made_for(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting(played, monkeypatch, POOL, OTHER)
    played.roster.behind_ms = BEHIND_MS + 1
    for later, due in ((TICK_MS, set()), (8 * TICK_MS, {POOL, OTHER})):
        assert set(played.loop.due(played.now + later)) == due


def test_the_later_a_collector_is_the_less_often_it_looks_at_the_clock(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else pools without a master, which never rest, would keep it behind for good."""
    resting(played, monkeypatch, POOL, OTHER)
    monkeypatch.setattr(played.loop._rests, "surely_at_rest", lambda *_: False)
    for behind, at_last in ((0, TICK_MS // 2), (TICK_MS, TICK_MS // 2), (600, 1_200), (5_000, 2_000)):
        played.roster.behind_ms = behind
        assert set(played.loop.due(played.now + at_last)) == {POOL, OTHER}
        assert not {POOL, OTHER} <= set(played.loop.due(played.now + at_last - 1))


def test_a_collector_that_stays_behind_says_so_once_and_begins_nothing(played: Played) -> None:
    played.through(ev.Tick())
    played.gives(ORDER)
    alerts = []
    for _ in range(3):
        played.now += TELL_BEHIND_MS
        ready = played.take(ev.Tick(), at=played.now - BEHIND_MS - 1)
        while ready.write is not None:
            alerts += ready.write.alerts if isinstance(ready.write, on.Commit) else ()
            ready = played.committed()
        assert of(on.Begin, ready.acts) == [] and played.roster.behind_ms == BEHIND_MS + 1
    assert [type(each) for each in alerts] == [effects.AlertRaised] and played.roster.told_behind
    played.now += TELL_BEHIND_MS
    assert of(on.Begin, played.through(ev.Tick(), at=played.now)) and not played.roster.told_behind


def test_what_came_before_a_sleep_counts_once_it_has_been_read(played: Played) -> None:
    played.through(ev.Tick())
    played.loop.streams_read(played.now)
    played.now += 1_000
    played.through(ev.Tick(), at=played.now)
    assert played.roster.behind_ms == 1_000
    played.loop.streams_read(played.now)
    played.through(ev.Tick(), at=played.now)
    assert played.roster.behind_ms == 0


def test_each_effect_has_a_performer_but_for_the_two_of_the_loop_itself() -> None:
    begun: list[str] = []
    names = [field.name for field in dataclasses.fields(EffectTable)]
    table = EffectTable(**{name: lambda _, __, name=name: begun.append(name) for name in names})
    own = (effects.StandDown, effects.RaiseEpoch)
    for kind in get_args(effects.Effect):
        if kind in own:
            with pytest.raises(TypeError, match=kind.__name__):
                table.perform(POOL, object.__new__(kind))
        else:
            table.perform(POOL, object.__new__(kind))
    assert sorted(begun) == sorted(names)


# ------------------------------------------------------------------------------------------------ another configuration


def another(played: Played, devices: dict[str, tuple[FenceDevice, ...]] | None = None, **policy: Any) -> on.Ready:
    """Replace the configuration by one with another policy, or other devices."""
    before = played.roster.config
    config = dataclasses.replace(before, policy=dataclasses.replace(before.policy, **policy))
    change = on.Reconfiguration(config, devices or {}, "anna", ("policy: x",))
    return played.loop.reconfigure(change, *played.clocks)


def test_another_configuration_holds_once_it_is_durable_and_in_every_pool(played: Played) -> None:
    for uuid in (POOL, OTHER):
        played.through(CONNECTED, uuid)
    asked = another(played, mode="observe")
    assert isinstance(asked.write, on.Reconfigure)
    assert [(c.pool, [e.kind for e in c.entries], c.entries[0].actor) for c in asked.write.commits] == [
        (pool, [Kind.CONFIGURED], "anna") for pool in ("", POOL, OTHER)
    ]
    assert {pool.policy.mode for pool in played.roster.pools.values()} == {"auto"} == {played.roster.config.policy.mode}
    done = played.committed()
    assert done.acts == (on.Reconfigured(),) and done.write is None
    assert {pool.policy.mode for pool in played.roster.pools.values()} == {"observe"}
    assert played.roster.config.policy.mode == "observe"
    played.through(CONNECTED, "pool-3")
    assert played.roster.pools["pool-3"].policy.mode == "observe"


def test_a_configuration_that_cannot_be_recorded_does_not_hold(played: Played) -> None:
    played.through(CONNECTED)
    another(played, mode="observe")
    failed = played.failed()
    assert of(on.Stalled, failed.acts) and of(on.NotReconfigured, failed.acts) and not of(on.Reconfigured, failed.acts)
    assert played.roster.pools[POOL].policy.mode == "auto" == played.roster.config.policy.mode
    refused = another(played, mode="observe")  # nothing is written while nothing can be
    assert refused.write is None and "nothing can be recorded" in of(on.NotReconfigured, refused.acts)[0].why
    played.now += RETRY_MS
    played.through(ev.Tick())
    another(played, mode="observe")
    assert of(on.Reconfigured, played.committed().acts)


def test_one_that_no_store_could_hold_does_not_hold(played: Played) -> None:
    played.through(CONNECTED)
    another(played, mode="observe")
    refused = played.loop.refused(ValueError("too big"))
    assert "too big" in of(on.NotReconfigured, refused.acts)[0].why and not played.roster.stalled
    assert played.roster.config.policy.mode == "auto"


def test_it_waits_for_no_event_and_no_event_for_it(played: Played) -> None:
    played.take(CONNECTED)
    with pytest.raises(RuntimeError, match="one event at a time"):
        another(played)


def test_a_device_that_may_be_switching_a_host_is_not_exchanged(played: Played) -> None:
    played.through(CONNECTED)
    device = FenceDevice("dev", "h1")
    assert another(played, {"h1": (device,)}).write is not None
    played.committed()
    intent = Entry(
        Kind.SWITCH_INTENT, "x", {"host": "h1", "device": "dev", "on": False, "run": "r", "left": [], "by": "anna"}
    )
    known = played.roster.pools[POOL]
    played.roster.pools[POOL] = dataclasses.replace(known, record=fold(known.record, [intent]))
    for devices in ({}, {"h1": (dataclasses.replace(device, hard_limit_ms=5_000),)}):
        refused = another(played, devices, mode="observe")
        assert refused.write is None and "fence device dev" in of(on.NotReconfigured, refused.acts)[0].why
    assert played.roster.config.policy.mode == "auto"
    assert another(played, {"h1": (device,)}, mode="observe").write is not None


def test_a_pool_whose_agents_are_to_speak_at_other_times_is_quiet_anew(played: Played) -> None:
    played.through(CONNECTED)
    played.now += 100_000
    calm = played.roster.quiet_until(POOL)
    another(played, patience=200_000)
    played.committed()
    assert played.roster.quiet_until(POOL) == calm < played.now
    another(played, report_interval=1_000)
    played.committed()
    assert played.roster.quiet_until(POOL) == played.now + Policy().quiet_time


def test_a_site_that_is_not_seen_is_not_seen_under_another_name(played: Played) -> None:
    played.through(CONNECTED)
    played.roster.sites = {"": Blind("a storm", 7)}
    another(played, site="west")
    played.committed()
    assert played.roster.site(POOL).blind == "a storm" and played.roster.quiet_until(POOL) > played.now
