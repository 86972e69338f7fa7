"""A pool comes and goes in a running loop: nothing of an earlier ownership is left, everything waits as at a start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.core.pool import POOL, Guarded, uuid

from poolwarden_collector.core.engine import StepResult
from poolwarden_collector.core.model import effects as fx
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import HIGHEST, of_ownership
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config import Config, Tls
from poolwarden_collector.shell.loop import ready as on
from poolwarden_collector.shell.loop.engine_loop import EngineLoop
from poolwarden_collector.shell.queue.happening import Happening

OTHER = "bbbbbbbb-0000-4000-8000-000000000000"
PAUSE = ev.OperatorSaid("r-1", "anna", "pause", "", (("reason", "work"),))
OWN = 5 << 20  # the process's own, which nobody hears of
FIRST, SECOND, THIRD = (of_ownership(1, revision, 7) for revision in (10, 11, 12))


class Looped(Guarded):
    """A pool that is stepped by the loop of one of several, on a disk that takes everything at once."""

    def __init__(self) -> None:
        self.devices = {uuid(n): (FenceDevice(f"bmc-{n}", uuid(n)),) for n in (1, 2, 3)}
        self.alerts: list[fx.AlertRaised | fx.AlertResolved] = []
        self.acts: list[on.Act] = []
        self.loop: Any = None
        super().__init__(policy=Policy(quiet_time=3_000, auto_fence_running=True))

    def begin(self) -> None:
        self.new_loop(OWN)
        self.adopt(FIRST)
        super().begin()
        self.run(30_000)  # its devices are bound

    def new_loop(self, epoch: int, several: bool = True) -> None:
        nowhere = Path("/nonexistent")
        tls = Tls(nowhere, nowhere, nowhere)
        config = Config(nowhere, "collector", "", nowhere, nowhere, tls, policy=self.policy)
        self.roster = Roster(config, epoch, lambda: self.now, "boot-1", several)
        self.loop = EngineLoop(self.roster, self.devices, self.now, self.now)

    def through(self, ready: on.Ready) -> list[on.Act]:
        acts = list(ready.acts)
        while ready.write is not None:
            if isinstance(ready.write, on.Commit):
                self.journal += ready.write.entries
                self.alerts += ready.write.alerts
            ready = self.loop.committed(self.now, self.now)
            acts += ready.acts
        self.acts += acts
        return acts

    def adopt(self, epoch: int) -> list[on.Act]:
        return self.through(self.loop.adopt(fold(PoolRecord(POOL), self.journal), epoch, self.now, self.now))

    def restart(self, epoch: int) -> list[on.Act]:
        """As a single collector's next run would begin."""
        self.new_loop(epoch, several=False)
        return self.through(self.loop.start([fold(PoolRecord(POOL), self.journal)], self.now, self.now))

    def release(self) -> list[on.Act]:
        return self.through(self.loop.release(POOL, "it is another one's"))

    def feed(self, event: ev.Event) -> StepResult:
        before = len(self.journal)
        acts = self.through(self.loop.take(Happening(POOL, event, self.now), self.now, self.now))
        begun = tuple(act.effect for act in acts if isinstance(act, on.Begin))
        self.effects += begun
        if POOL in self.roster.pools:
            self.pool = self.roster.pools[POOL]
        for effect in begun:
            self._perform(effect)
        return StepResult(self.pool, tuple(self.journal[before:]), (), begun)

    def _perform(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.PowerOff):
            return  # it runs, and nobody knows how it ends
        super()._perform(effect)

    def connect_all(self) -> None:
        for host in self.hosts:
            if host.agent:
                self.connect(host)

    def until(self, kind: Kind) -> None:
        end = self.now + 300_000
        while not self.has(kind):
            assert self.now < end, f"no {kind.value}: {[e.text for e in self.journal][-8:]}"
            self.run(250)

    def ids(self, since: int = 0, to: int | None = None) -> list[str]:
        """Of what was ordered and run."""
        done = self.effects[since:to]
        found = [each.order.order_id for each in done if isinstance(each, fx.SendOrder)]
        return found + [each.run_id for each in done if isinstance(each, fx.ReadPower | fx.PowerOff)]


def lost_power(g: Looped) -> None:
    g.cut_power()


def does_not_answer(g: Looped) -> None:
    """Its agent and xapi are gone, and it stays on: it is shot."""
    host = g.host(1)
    host.agent = host.answers = False
    g.feed(ev.AgentGone(host.uuid, host.stream))
    g.run(60_000)
    g.say("approve", shoot="yes")


def nobody_answers(g: Looped) -> None:
    g.cut_power()
    g.auto_answer = False


# ------------------------------------------------------------------------------------------------ as at a start

MOMENTS: list[tuple[Callable[[Looped], None], Kind]] = [
    (lost_power, Kind.DECIDED),
    (nobody_answers, Kind.DECIDED),
    (lost_power, Kind.CANDIDATE),
    (lost_power, Kind.PROMOTE_INTENT),
    (lost_power, Kind.PROMOTED),
    (lost_power, Kind.CLOSED),
]


def told(entries: list[Entry], skip: int) -> list[tuple[str, str]]:
    return [(e.kind.value, e.text) for e in entries[skip:] if e.kind is not Kind.COLLECTOR_STARTED]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "kind"), MOMENTS)
def test_a_pool_that_is_adopted_is_taken_up_as_by_a_collector_that_was_started(
    fault: Callable[[Looped], None], kind: Kind
) -> None:
    """One is released and adopted again in the same loop, the other's collector starts anew: they do the same."""
    ends: list[Any] = []
    for again in (Looped.adopt, Looped.restart):
        g = Looped()
        fault(g)
        g.until(kind)
        opened = {each.key for each in g.alerts if isinstance(each, fx.AlertRaised)}
        opened -= {each.key for each in g.alerts if isinstance(each, fx.AlertResolved)}
        assert opened, "no alert is open: the test shows nothing of them"
        before, alerts, ordered = len(g.journal), len(g.alerts), len(g.effects)
        g.release()
        g.now += 7_000  # somebody else owns it, or nobody
        again(g, SECOND)
        assert g.roster.site(POOL).started_at == g.now and g.roster.pools[POOL].live == PoolLive()
        assert g.roster.quiet_until(POOL) == g.now + g.policy.quiet_time
        g.auto_answer = True
        g.connect_all()
        g.run(120_000)
        assert [each.key for each in g.alerts[alerts:] if isinstance(each, fx.AlertRaised) if each.key in opened] == []
        assert g.ids(ordered) and not set(g.ids(ordered)) & set(g.ids(0, ordered))
        ends.append((told(g.journal, before), g.alerts[alerts:], g.ids(ordered), g.pool.record))
    assert ends[0] == ends[1]
    assert len(ends[0][0]) > 3 and ends[0][3].failover is not None and not ends[0][3].failover.open


def test_a_shot_of_the_last_owner_is_waited_for_from_the_adoption_on() -> None:
    g = Looped()
    does_not_answer(g)
    g.until(Kind.FENCE_INTENT)
    failover = g.pool.record.failover
    assert failover is not None and failover.fencing.pending is not None
    g.now += 500_000 - g.now % 250  # much longer than any device's limit, as this process counts
    g.release()
    g.adopt(SECOND)
    g.connect_all()
    adopted, limit = g.now, g.devices[uuid(1)][0].hard_limit_ms
    g.run(limit)
    pending = g.pool.record.failover
    assert pending is not None and pending.fencing.pending == failover.fencing.pending
    g.until(Kind.FENCE_RESULT)
    assert g.now - adopted >= limit + 10_000


# ------------------------------------------------------------------------------------------------ nothing is left


def traces(value: Any, of: str, path: str = "", seen: frozenset[int] = frozenset()) -> list[str]:
    """Where this text is found in what an object holds."""
    if id(value) in seen or isinstance(value, Config | type) or callable(value):
        return []
    seen = seen | {id(value)}
    if isinstance(value, str):
        return [path] if value == of else []
    if isinstance(value, dict):
        parts = [(f"{path}[]", each) for pair in value.items() for each in pair]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [(f"{path}[]", each) for each in value]
    elif dataclasses.is_dataclass(value):
        parts = [(f"{path}.{item.name}", getattr(value, item.name)) for item in dataclasses.fields(value)]
    else:
        parts = [(f"{path}.{name}", each) for name, each in getattr(value, "__dict__", {}).items()]
    return [found for name, each in parts for found in traces(each, of, name, seen)]


def test_nothing_of_a_pool_is_left_in_the_loop_that_has_released_it() -> None:
    g = Looped()
    nobody_answers(g)
    g.until(Kind.DECIDED)
    g.loop._backlog.keep(Happening(POOL, ev.AgentGone(uuid(2), 3)))
    g.roster.stood_down[POOL] = "a host obeys another one"
    assert {".roster.pools[]", ".roster._charges[]", ".roster.stood_down[]"} <= set(traces(g.loop, POOL))
    assert g.release()[-2:] == [on.CutOff(POOL), on.Released(POOL, "it is another one's")]
    # Kept is how high its epochs were: none is used twice.
    assert set(traces(g.loop, POOL)) == {"._epochs[]"} and g.loop._epochs == {POOL: FIRST}
    assert g.roster.pools.of(uuid(2)) == () and g.loop.due(g.now + 1_000) == ()


def test_what_comes_for_a_pool_that_is_not_owned_is_not_heard() -> None:
    g = Looped()
    g.release()
    said = len(g.journal)
    for event in (ev.Tick(), ev.AgentGone(uuid(2), 3), ev.AgentReported(uuid(2), 3, g.facts(g.host(2)))):
        g.feed(event)
    [refused] = [act.reply for act in g.through(g.loop.take(Happening(POOL, PAUSE), g.now, g.now))]  # type: ignore[union-attr]
    assert (refused.accepted, refused.code) == (False, "stood-down") and "does not own" in refused.text
    assert POOL not in g.roster.pools and len(g.journal) == said


def test_what_an_earlier_ownership_had_under_way_changes_nothing_in_the_next_one() -> None:
    g = Looped()
    nobody_answers(g)
    g.until(Kind.DECIDED)
    claims = [each.order for each in g.effects if isinstance(each, fx.SendOrder)]
    runs = [each for each in g.effects if isinstance(each, fx.ReadPower)]
    streams = {host.uuid: host.stream for host in g.hosts}
    g.release()
    g.adopt(SECOND)
    fresh = g.roster.pools[POOL]
    off = PowerReading(Power.OFF, "bmc-1", g.now - 1, g.now, "")
    late: list[ev.Event] = [ev.PowerRead(each.host, each.run_id, off) for each in runs]
    late += [
        ev.OrderAnswered(each.host, streams[each.host], answer)
        for each in claims
        if (answer := g.default(g.by_uuid(each.host), each)) is not None and each.kind_name == "claim"
    ]
    for host in g.hosts[1:]:
        late += [ev.AgentReported(host.uuid, host.stream, g.facts(host)), ev.AgentGone(host.uuid, host.stream)]
        late += [ev.GateAsked(host.uuid, host.stream, host.boot, None)]  # type: ignore[arg-type]
    assert claims and runs
    for event in late:
        g.feed(event)
    live = g.roster.pools[POOL].live
    assert (live.agents, live.claims, live.gates.waiting) == ({}, fresh.live.claims, fresh.live.gates.waiting)
    assert not any(state.readings for state in live.power.values())


# ------------------------------------------------------------------------------------------------ epochs


def test_each_pool_has_the_epoch_and_the_start_of_its_own_ownership() -> None:
    g = Looped()
    begun = g.roster.site(POOL)
    g.now += 10_000
    g.through(g.loop.adopt(PoolRecord(OTHER), THIRD, g.now, g.now))
    site = g.roster.site(OTHER)
    assert (site.epoch, site.started_at, site.clock, site.raised) == (THIRD, g.now, "boot-1", ())
    assert g.roster.site(POOL) == begun and begun.epoch == FIRST
    assert {order_ids.parse(each).made_by(FIRST) for each in g.ids()} == {True}
    g.through(g.loop.release(OTHER, "x"))
    assert g.roster.charge(OTHER).epoch == 0 and "does not own" in g.roster.site(OTHER).deposed
    assert g.roster.site(POOL) == begun


@pytest.mark.parametrize("epoch", [FIRST - 1, FIRST])
def test_no_epoch_is_used_twice_for_a_pool(epoch: int) -> None:
    g = Looped()
    with pytest.raises(ValueError, match="cannot be adopted"):
        g.adopt(SECOND)  # it is owned
    g.release()
    with pytest.raises(ValueError, match="cannot be adopted"):
        g.adopt(epoch)
    g.adopt(SECOND)


def test_an_adoption_that_cannot_be_recorded_has_not_happened() -> None:
    g = Looped()
    g.release()
    g.loop.adopt(fold(PoolRecord(POOL), g.journal), SECOND, g.now, g.now)
    assert POOL not in g.roster.pools and not g.roster.owns(POOL)
    failed = g.loop.failed("the disk is full", g.now, g.now)
    assert failed.write is None and POOL not in g.roster.pools and not g.roster.owns(POOL)
    assert not g.roster.stalled and [act.text for act in failed.acts if isinstance(act, on.Say)]
    g.adopt(SECOND)
    assert g.roster.owns(POOL)


def test_while_an_event_is_open_nothing_is_released_or_adopted() -> None:
    g = Looped()
    g.host(2).agent = False
    opened = g.loop.take(Happening(POOL, ev.AgentGone(uuid(2), g.host(2).stream)), g.now, g.now)
    with pytest.raises(RuntimeError, match="has not been answered"):
        g.loop.release(POOL, "x")
    g.loop.adopt(PoolRecord(OTHER), SECOND, g.now, g.now)  # another pool's open event is nobody's business
    with pytest.raises(RuntimeError, match="has not been answered"):
        g.loop.release(OTHER, "x")
    assert opened.write is not None


@pytest.mark.parametrize(
    ("wanted", "above"), [(fx.RaiseEpoch(HIGHEST >> 1), HIGHEST >> 1), (fx.StandDown("h1 obeys another one"), 0)]
)
def test_a_host_that_has_obeyed_more_has_the_pool_given_up(
    wanted: fx.Effect, above: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No epoch is made by one of several: a new ownership has one. Until then nothing is begun."""
    g = Looped()
    off = fx.PowerOff(uuid(1), "bmc-1", "run-1")
    given: Callable[..., StepResult] = lambda pool, event, now, site: StepResult(pool, (), (), (wanted, off))  # noqa: E731
    monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", given)
    acts = g.through(g.loop.take(Happening(POOL, PAUSE), g.now, g.now))
    [up] = [act for act in acts if isinstance(act, on.GiveUp)]
    assert (up.pool, up.above) == (POOL, above) and up.why
    assert [act.effect for act in acts if isinstance(act, on.Drop)] == [off] and on.CutOff(POOL) in acts
    assert g.roster.epoch == OWN and g.roster.site(POOL).deposed == up.why
    again = g.through(g.loop.take(Happening(POOL, PAUSE), g.now, g.now))
    assert not [act for act in again if isinstance(act, on.GiveUp)]
    g.release()
    g.adopt(SECOND)
    assert g.roster.site(POOL).deposed == "" and g.roster.site(POOL).epoch == SECOND


def test_what_a_host_of_a_pool_may_claim() -> None:
    """Whoever obeys another collector is sent there: its numbers are none that could be too high here."""
    g = Looped()
    mine = g.roster.limits(POOL)
    assert FIRST < mine.epoch < HIGHEST and g.roster.limits(OTHER).epoch == HIGHEST == g.roster.limits(OTHER).term
    g.release()
    assert g.roster.limits(POOL).epoch == HIGHEST


def test_who_had_no_pool_for_a_while_was_not_away() -> None:
    a = Looped()
    a.release()
    a.now += 60_000
    a.adopt(SECOND)
    a.now += 100
    a.feed(ev.Tick())
    assert not [act for act in a.acts if isinstance(act, on.Say) and "was away" in act.text]
    a.now += 60_000
    a.feed(ev.Tick())
    assert [act for act in a.acts if isinstance(act, on.Say) and "was away for 60.0 s" in act.text]
