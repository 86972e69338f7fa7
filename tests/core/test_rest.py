"""A pool at rest: every step before its deadline would have done nothing, and no deadline is missed."""

from __future__ import annotations

import ast
import operator
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector import core
from poolwarden_collector.core import rest
from poolwarden_collector.core.decision.database_age import REMEMBERED
from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.host_facts import (
    BootGate,
    Freshness,
    GateState,
    HostFacts,
    Liveness,
    ProbeOutcome,
    ToolstackHold,
)
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import ProcessId
from poolwarden_collector.core.rest import Late, Noted, Number, Rest, Restless, goes_on, rest_of, taken_in
from poolwarden_collector.core.state.live_slices import DatabaseAge

from .pool import Guarded

COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
FAR = 60


def _clock(now: int = 100, late: int = 0) -> tuple[Any, Noted]:
    noted = Noted(now, late)
    return Number(now, 1, noted), noted


def _flips_at(noted: Noted) -> int:
    return Rest(noted).until


def _first(rest: Rest) -> int:
    """When it ends where all that has come has been read."""
    return min(rest.until, rest.heard_until)


# ------------------------------------------------------------------------------------------------ numbers


def _drawn(chance: random.Random) -> Callable[[Any, Any], Any]:
    """A value made from the clock and a told instant, as the core makes them: ages, what is left, the later of two."""
    a, b, kind = chance.randrange(-20, 40), chance.randrange(-20, 40), chance.randrange(10)
    return (
        lambda now, told: now - a,
        lambda now, told: a - now,
        lambda now, told: now + a,
        lambda now, told: max(0, now - a),
        lambda now, told: min(now, a) - b,
        lambda now, told: max(now - a, a - b),
        lambda now, told: -(now - a) + b,
        lambda now, told: now - told,
        lambda now, told: min(now - told, now - a),
        lambda now, told: told + a - now,
    )[kind]


@pytest.mark.parametrize("seed", range(40))
def test_a_comparison_is_as_between_numbers_and_turns_out_the_same_until_it_is_said_to_flip(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        at, limit, told = chance.randrange(0, 20), chance.randrange(-20, 40), chance.randrange(-20, 40)
        made, compare = _drawn(chance), chance.choice(COMPARISONS)
        now, noted = _clock(at)
        found = compare(made(now, noted.told(told, ("h",))), limit)
        course = [compare(made(at + later, told), limit) for later in range(FAR)]
        first = next((at + later for later, each in enumerate(course) if each is not found), at + FAR)
        assert found is course[0]
        assert at < _flips_at(noted) <= first or first == at + FAR, (seed, at, limit, compare)


@pytest.mark.parametrize("seed", range(40))
def test_a_rest_goes_on_with_another_number_only_where_everything_turns_out_as_it_did(seed: int) -> None:
    """And then until the comparison would flip with that number."""
    chance = random.Random(seed)
    for _ in range(50):
        at, limit, told = chance.randrange(0, 20), chance.randrange(-20, 40), chance.randrange(-20, 40)
        made, compare = _drawn(chance), chance.choice(COMPARISONS)
        now, noted = _clock(at)
        found = compare(made(now, noted.told(told, ("h",))), limit)
        rest, later, anew = Rest(noted), at + chance.randrange(0, 15), chance.randrange(-20, 40)
        if not rest.holds(later, 0) or not rest.takes([(("h",), anew)], later, 0):
            continue
        course = [compare(made(each, anew), limit) for each in range(later, later + FAR)]
        first = next((later + n for n, each in enumerate(course) if each is not found), later + FAR)
        assert later < rest.until and (rest.until <= first or first == later + FAR), (
            seed,
            at,
            later,
            told,
            anew,
            limit,
        )


def test_a_number_that_moves_its_deadline_moves_the_rest() -> None:
    now, noted = _clock(1_000)
    assert now - noted.told(900, ("h",)) < 500
    rest = Rest(noted)
    assert rest.until == 1_400 and rest.takes([(("h",), 1_100)], 1_100, 0)
    assert rest.holds(1_399, 0) and rest.holds(1_400, 0) and rest.until == 1_600
    assert rest.takes([(("h",), 1_050)], 1_200, 0) and not rest.holds(1_550, 0)
    assert not rest.takes([(("h",), 600)], 1_200, 0) and rest.until == 1_550


def test_a_number_in_a_text_or_a_quotient_may_not_change() -> None:
    for use in (
        str,
        "{:.1f}".format,
        lambda told: 100.0 * told / 7,
        lambda told: told // 60,
        lambda told: divmod(told, 7),
    ):
        _, noted = _clock()
        assert use(noted.told(250, ("h",))) == use(250)
        assert not Rest(noted).takes([(("h",), 251)], 100, 0)


def test_two_values_that_go_alike_differ_by_a_number_for_ever() -> None:
    now, noted = _clock()
    told = noted.told(7, ("h",))
    assert now - (now - 30) == 30 and now > now - 1 and told - told == 0 and not noted.bounds


def test_what_goes_otherwise_is_not_compared() -> None:
    """An age with what is left of it; the clock with the clock of what has been heard, which may stand still."""
    now, noted = _clock(late=5)
    heard = now - Late(5, noted)
    for made in (lambda: now > 3 - now, lambda: now - heard, lambda: heard < now, lambda: now + now):
        with pytest.raises(Restless):
            made()


# Of an int's methods: what an object has anyway, and what makes no value out of it.
_NO_VALUE = {"__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getnewargs__", "__getstate__"}
_NO_VALUE |= {"__init__", "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__sizeof__"}
_NO_VALUE |= {"__subclasshook__"}


@pytest.mark.parametrize("kind", [Number, Late])
def test_whatever_a_number_can_do_has_a_rule_or_ends_the_rest(kind: type) -> None:
    """Also what a later Python gives to numbers: what is not there at all raises by itself, as 3 << clock does."""
    inherited = {name for name in dir(int) if name.startswith("__")} - _NO_VALUE
    for name in inherited & set(dir(object)):
        assert name in vars(kind), name
    value: Any = _clock(1_000)[0] if kind is Number else Late(1_000, Noted(0, 0))
    uses: list[Callable[[Any], Any]] = [hash, str, repr, int, float, round, range, abs, "{:.1f}".format, "%d".__mod__]
    uses += [lambda x: f"{x / 1000:.1f} s", lambda x: f"{x}", lambda x: x > 1.5, lambda x: x // 60, lambda x: 3 * x]
    uses += [lambda x: x % 7, lambda x: divmod(x, 7), lambda x: x << 1, lambda x: x + 0.5, lambda x: {x: 1}, sum]
    for use in uses:
        with pytest.raises((Restless, TypeError)):
            use(value)


def test_a_told_number_is_no_key_either() -> None:
    """What a cache keeps under it would be given to steps that are taken."""
    with pytest.raises(Restless):
        hash(Noted(0, 0).told(1, ("h",)))


def test_nothing_in_the_core_asks_whether_an_instant_is_a_number() -> None:
    """``Number`` is none: what asks would go another way than the step that is taken. Those that do never see it."""
    known = {"model/policy.py", "state/decision_input.py", "state/record_text.py", "rest.py", "state/transaction.py"}
    folder = Path(core.__file__).parent
    found = set()
    for path in folder.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if re.search(r"\b(int|float)\b", text) else ():
            asks = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("isinstance", "type")
            )
            if asks and any(isinstance(x, ast.Name) and x.id in ("int", "float") for x in ast.walk(node)):
                found.add(str(path.relative_to(folder)))
            if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name) and node.cls.id in ("int", "float"):
                found.add(str(path.relative_to(folder)))
    # rest.py compares `type(x) is int`, which is the rule itself.
    assert found <= known, found - known


# ------------------------------------------------------------------------------------------------ a pool


def _rest(pool: Guarded, late: int = 0) -> Rest:
    found = rest_of(pool.pool, pool.now, replace(pool.site, behind_ms=late))
    assert found is not None
    return found


def _does_nothing(pool: Guarded, done: StepResult) -> bool:
    return done.pool == pool.pool and not (done.entries or done.alerts or done.effects)


def _settled(hosts: int = 3) -> Guarded:
    """A pool that is Healthy for a while, just after a report, at no deadline."""
    pool = Guarded(hosts=hosts)
    pool.run(40_000)
    pool.now += 50
    return pool


def test_before_the_deadline_of_a_rest_no_tick_does_anything() -> None:
    pool = _settled()
    found = _rest(pool)
    assert _first(found) > pool.now + 1_000
    for now in range(pool.now, _first(found), 50):
        assert _does_nothing(pool, step(pool.pool, ev.Tick(), now, pool.site)), now


def test_a_rest_ends_at_the_instant_at_which_an_agent_is_silent_for_too_long() -> None:
    pool = _settled()
    heard = min(agent.last_heard for agent in pool.pool.live.agents.values())
    until = _first(_rest(pool))
    assert until == heard + pool.policy.suspect_after
    done = step(pool.pool, ev.Tick(), until, pool.site)
    assert [entry.kind.value for entry in done.entries][0] == "agent-silent"


@pytest.mark.parametrize("late", [0, 40, 700])
def test_a_collector_that_is_late_and_catches_up_misses_nothing(late: int) -> None:
    """Silence is judged as of what has been heard: that may be up to date at once."""
    pool = _settled()
    heard = min(agent.last_heard for agent in pool.pool.live.agents.values())
    found, end = _rest(pool, late), heard + pool.policy.suspect_after
    assert found.heard_until == end and not found.holds(end, 0)


def test_a_collector_that_is_further_behind_than_an_agent_may_be_silent_has_pools_at_rest() -> None:
    """It has not read for longer than that: nobody is silent, and no tick has anything to do for it."""
    pool = _settled()
    late = 2 * pool.policy.suspect_after
    heard = min(agent.last_heard for agent in pool.pool.live.agents.values())
    found, now = _rest(pool, BEHIND_MS + 1), pool.now + late
    assert (
        found.until > now and found.holds(now, late) and not found.holds(now, now - heard - pool.policy.suspect_after)
    )
    for at in range(pool.now + BEHIND_MS + 1, now, 250):
        site = replace(pool.site, behind_ms=at - pool.now)
        assert found.holds(at, at - pool.now)
        assert _does_nothing(pool, step(pool.pool, ev.Tick(), at, site)), at


def test_what_is_told_late_moves_the_deadline_on_the_clock_of_what_is_heard() -> None:
    """A report that is taken in 10 s late keeps a rest whose agent would be silent by the clock."""
    noted = Noted(20_000, 10_000)
    asof = Number(20_000, 1, noted) - Late(10_000, noted)
    assert asof - noted.told(9_000, ("h",)) < 4_000
    rest = Rest(noted)
    assert (rest.heard_until, rest.holds(22_999, 10_000), rest.holds(23_000, 10_000)) == (13_000, True, False)
    assert rest.takes([(("h",), 11_000)], 22_000, 10_000)
    assert rest.holds(24_999, 10_000) and not rest.holds(25_000, 10_000) and not rest.holds(22_000, 7_000)


def test_a_rest_holds_between_the_lags_with_which_its_step_compared() -> None:
    now, noted = _clock(0)
    assert now < 1_000 and Late(40, noted) <= BEHIND_MS and Late(40, noted) > 30
    found = Rest(noted)
    assert [late for late in (30, 31, BEHIND_MS, BEHIND_MS + 1) if found.holds(999, late)] == [31, BEHIND_MS]
    assert not found.holds(1_000, 31)


def test_pools_rest_also_where_the_collector_is_behind() -> None:
    """Its load must not grow with its lag: nothing that is done for a pool at rest is asked about the lag."""
    pool = _settled()
    assert _rest(pool, BEHIND_MS + 1).holds(pool.now - BEHIND_MS, 0) and _rest(pool).holds(pool.now, 10 * BEHIND_MS)


def test_each_deadline_of_a_long_rest_is_one_step() -> None:
    """Nobody falls silent here, so other deadlines come: whatever changes does so at the end of a rest."""
    pool = _settled()
    pool.now, changed = 60_000, 0
    for _ in range(280):
        pool.now += 250
        if pool.now % 2_000 == 0:
            for host in pool.hosts:
                pool.report(host)
        found = rest_of(pool.pool, pool.now, pool.site)
        done = step(pool.pool, ev.Tick(), pool.now, pool.site)
        assert found is None or _does_nothing(pool, done)
        changed += found is None
        pool.feed(ev.Tick())
    assert 0 < changed < 50


def _failing(pool: Guarded) -> None:
    pool.cut_power(1)


def _paused(pool: Guarded) -> None:
    pool.say("pause", reason="work")
    pool.run(1_000)


def _member_lost(pool: Guarded) -> None:
    pool.cut_power(2)


def _waiting_command(pool: Guarded) -> None:
    host = pool.host(2)
    host.power = Power.ON
    pool.say("fence_off", 2)


@pytest.mark.parametrize("happens", [_failing, _paused, _member_lost, _waiting_command], ids=lambda each: each.__name__)
def test_whatever_happens_then_a_tick_that_would_do_something_is_taken(happens: Callable[[Guarded], None]) -> None:
    """Through everything that follows, also where the pool rests in between."""
    pool = _settled()
    happens(pool)
    for _ in range(120):
        pool.now += 250
        found = rest_of(pool.pool, pool.now, pool.site)
        done = step(pool.pool, ev.Tick(), pool.now, pool.site)
        assert found is None or _does_nothing(pool, done)
        pool.feed(ev.Tick())


def _reports(pool: Guarded) -> list[ev.Event]:
    return [ev.AgentReported(host.uuid, host.stream, pool.facts(host)) for host in pool.hosts]


def test_reports_that_say_nothing_new_are_taken_in_and_the_rest_goes_on() -> None:
    """What comes of it is what comes of the whole step, again and again; the deadline goes with what is heard."""
    pool = _settled()
    found, began, taken = _rest(pool), pool.now, 0
    for _ in range(8):
        pool.now += 2_000
        if not found.holds(pool.now, 0):  # the devices are looked at, each half minute
            pool.feed(ev.Tick())
            found = _rest(pool)
        for event in _reports(pool):
            whole = step(pool.pool, event, pool.now, pool.site)
            after = taken_in(found, pool.pool, event, pool.now, pool.site)  # type: ignore[arg-type]
            if after is not None:
                assert after == whole.pool and not (whole.entries or whole.alerts or whole.effects)
                taken += 1
            else:
                pool.feed(event)
                pool.feed(ev.Tick())
                found = _rest(pool)
                continue
            pool.pool = after
    assert taken > 16 and found.until > began + 16_000


def test_a_step_that_was_due_and_found_nothing_leaves_the_same_rest() -> None:
    """Minutes of reports and ticks: what comes of it is what comes of whole steps, and few rests are asked for."""
    pool = _settled()
    found, began, steps, asked = _rest(pool), pool.now, 0, 1
    while pool.now < began + 180_000:
        pool.now += 250
        due: list[ev.Event] = _reports(pool) if (pool.now - began) % 2_000 == 0 else []
        for event in (*due, ev.Tick()):
            whole = step(pool.pool, event, pool.now, pool.site)
            if isinstance(event, ev.AgentReported) and found.holds(pool.now, 0) and _taken(pool, found, event):
                continue
            if isinstance(event, ev.Tick) and found.holds(pool.now, 0):
                assert _does_nothing(pool, whole), pool.now
                continue
            steps += 1
            on = goes_on(found, pool.pool, whole, pool.now, pool.site)
            pool.feed(event)
            if not on:
                found, asked = _rest(pool), asked + 1
    assert 3 < steps < 20 and asked <= 4


def test_a_step_that_did_something_or_left_a_deadline_behind_it_ends_the_rest() -> None:
    pool = _settled()
    found = _rest(pool)
    pool.now = _first(found)  # an agent is silent for too long
    assert not goes_on(found, pool.pool, step(pool.pool, ev.Tick(), pool.now, pool.site), pool.now, pool.site)
    pool = _settled()
    found = _rest(pool)
    assert goes_on(found, pool.pool, StepResult(pool.pool), pool.now, pool.site)
    assert not goes_on(found, pool.pool, StepResult(pool.pool), _first(found), pool.site)
    for news in ({"silent": frozenset({pool.hosts[1].uuid})}, {"agents": {}}):
        pool = _settled()
        other = replace(pool.pool, live=replace(pool.pool.live, **news))  # type: ignore[arg-type]
        assert not goes_on(_rest(pool), pool.pool, StepResult(other), pool.now, pool.site)


def _with_generation(facts: HostFacts, generation: int) -> HostFacts:
    return replace(facts, database=replace(facts.database, generation=generation))


def _taken(pool: Guarded, found: Rest, event: ev.AgentReported) -> bool:
    """Is it only taken in? Then the whole step would have done no more; the pool goes on with it."""
    whole = step(pool.pool, event, pool.now, pool.site)
    after = taken_in(found, pool.pool, event, pool.now, pool.site)
    if after is None:
        return False
    assert after == whole.pool and not (whole.entries or whole.alerts or whole.effects)
    pool.pool = after
    return True


def test_a_master_that_writes_its_database_rests_on() -> None:
    """Also where older generations are forgotten meanwhile; a member's copy follows, newer or older than it was."""
    pool = _settled()
    found, first = _rest(pool), pool.hosts[0].generation
    for count in range(1, REMEMBERED * 2):
        for host in pool.hosts[:2]:
            pool.now += 1
            if not found.holds(pool.now, 0):
                found = _rest(pool)
            facts = _with_generation(pool.facts(host), first + count - count % 7 * (host is not pool.hosts[0]))
            assert _taken(pool, found, ev.AgentReported(host.uuid, host.stream, facts)), count
    assert pool.pool.live.database_age.generations[1][-1][0] == first + count


def test_what_was_told_before_the_newest_generation_may_be_other_only_where_nobody_has_asked_for_it() -> None:
    noted = Noted(0, 0)
    age = rest._seen_age(DatabaseAge(generations=("h", ((1, 10), (2, 20), (3, 30)))), noted)
    earlier, newest = age.generations[1][:-1], age.generations[1][-1]
    assert newest[0] > 2 and Rest(noted).takes([((rest._EARLIER,), 1)], 0, 0)
    for asks in (list, lambda each: each[0], lambda each: each == (1, 10)):
        noted.pinned.clear()
        assert asks(earlier[0]) == asks((1, 10)) and not Rest(noted).takes([((rest._EARLIER,), 1)], 0, 0)


def test_a_report_that_is_a_moment_younger_than_what_silence_is_judged_as_of_ends_no_rest() -> None:
    """Every report is: how far the streams are read is known some ms later."""
    pool = _settled()
    site = replace(pool.site, behind_ms=60)
    found = rest_of(pool.pool, pool.now, site)
    assert found is not None
    for host in pool.hosts:
        event = ev.AgentReported(host.uuid, host.stream, pool.facts(host), pool.now)
        after = taken_in(found, pool.pool, event, pool.now, site)
        assert after is not None
        pool.pool = after
    assert found.holds(pool.now + 70, 60)


Change = Callable[[HostFacts], HostFacts]
NEWS: dict[str, Change] = {
    "address": lambda f: replace(f, address="10.0.0.99"),
    "xapi": lambda f: replace(f, xapi=replace(f.xapi, liveness=Liveness.SILENT, liveness_since=1)),
    "process": lambda f: replace(f, xapi=replace(f.xapi, process=ProcessId(7, 7))),
    "domains": lambda f: replace(f, domains=("vm",)),
    "a leap of the generation": lambda f: _with_generation(f, f.database.generation + 200_000),
    "an older generation": lambda f: _with_generation(f, f.database.generation - 1),
    "no generation": lambda f: _with_generation(f, 0),
    "role": lambda f: replace(f, role=replace(f.role, serves_as_master=False)),
    "gate": lambda f: replace(f, boot_gate=BootGate(GateState.ASKING)),
    "hold": lambda f: replace(f, hold=ToolstackHold(3)),
    "a probe less": lambda f: replace(f, probes=f.probes[1:]),
    "a probe unanswered": lambda f: replace(
        f, probes=tuple(replace(p, outcome=ProbeOutcome.NO_ANSWER) for p in f.probes)
    ),
    "old probes": lambda f: replace(f, probes=tuple(replace(p, probed_at=p.probed_at - 30_000) for p in f.probes)),
    "old facts": lambda f: replace(f, observed=replace(f.observed, xapi=1_000, pool_view=1_000)),
    "never observed": lambda f: replace(f, observed=Freshness()),
}


@pytest.mark.parametrize("what", NEWS)
def test_a_report_with_news_is_a_whole_step(what: str) -> None:
    """Or its whole step would do nothing either, as where a member serves as little as before."""
    for number in (0, 1):
        pool = _settled()
        host, found = pool.hosts[number], _rest(pool)
        event = ev.AgentReported(host.uuid, host.stream, NEWS[what](pool.facts(host)))
        after, whole = (
            taken_in(found, pool.pool, event, pool.now, pool.site),
            step(pool.pool, event, pool.now, pool.site),
        )
        assert after is None or (after == whole.pool and not (whole.entries or whole.alerts or whole.effects))
        assert after is None or (what, number) in (("old probes", 0), ("role", 1)) or (number and "generation" in what)


def test_a_report_of_another_stream_or_host_is_a_whole_step() -> None:
    pool = _settled()
    found, host = _rest(pool), pool.hosts[1]
    for who, stream in ((host.uuid, host.stream + 1), ("elsewhere", 1)):
        event = ev.AgentReported(who, stream, pool.facts(host))
        after = taken_in(found, pool.pool, event, pool.now, pool.site)
        assert after is None or after == step(pool.pool, event, pool.now, pool.site).pool


def test_a_pool_that_is_not_healthy_never_rests() -> None:
    pool = _settled()
    pool.cut_power(1)
    assert rest_of(pool.pool, pool.now, pool.site) is None


def test_a_broken_invariant_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _settled()

    def broken(*_: Any) -> StepResult:
        raise AssertionError("broken")

    monkeypatch.setattr(rest, "step", broken)
    assert rest_of(pool.pool, pool.now, pool.site) is None
