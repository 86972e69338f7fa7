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
from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.rest import LONGEST_MS, Flips, Late, Moving, Rest, Restless, rest_of

from .pool import Guarded

COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
FAR = 60


# ------------------------------------------------------------------------------------------------ the clock


def _drawn(chance: random.Random) -> Callable[[Any], Any]:
    """A value made from the clock, as the core makes them: ages, what is left, the later of two, a sum."""
    a, b, kind = chance.randrange(-20, 40), chance.randrange(-20, 40), chance.randrange(7)
    return (
        lambda now: now - a,
        lambda now: a - now,
        lambda now: now + a,
        lambda now: max(0, now - a),
        lambda now: min(now, a) - b,
        lambda now: max(now - a, a - b),
        lambda now: -(now - a) + b,
    )[kind]


@pytest.mark.parametrize("seed", range(40))
def test_a_comparison_is_as_between_numbers_and_turns_out_the_same_until_it_is_said_to_flip(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        now, limit = chance.randrange(0, 20), chance.randrange(-20, 40)
        made, compare = _drawn(chance), chance.choice(COMPARISONS)
        flips = Flips()
        found = compare(made(Moving(now, 1, flips)), limit)
        course = [compare(made(now + later), limit) for later in range(FAR)]
        first = next((later for later, each in enumerate(course) if each is not found), FAR)
        assert found is course[0]
        assert 1 <= flips.first <= first or first == FAR, (seed, now, limit, compare)


def test_two_values_that_go_alike_differ_by_a_number_for_ever() -> None:
    flips = Flips()
    now = Moving(100, 1, flips)
    assert now - (now - 30) == 30 and now > now - 1 and flips.first == LONGEST_MS


def test_what_goes_otherwise_is_not_compared() -> None:
    """An age with what is left of it; the clock with the clock of what has been heard, which may stand still."""
    now = Moving(100, 1, Flips())
    heard = now - Late(5, Flips())  # type: ignore[operator]
    for made in (lambda: now > 3 - now, lambda: now - heard, lambda: heard < now, lambda: now + now):
        with pytest.raises(Restless):
            made()


# Of an int's methods: what an object has anyway, and what makes no value out of it.
_NO_VALUE = {"__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getnewargs__", "__getstate__"}
_NO_VALUE |= {"__init__", "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__sizeof__"}
_NO_VALUE |= {"__subclasshook__"}


@pytest.mark.parametrize("kind", [Moving, Late])
def test_whatever_a_number_can_do_has_a_rule_or_ends_the_rest(kind: type) -> None:
    """Also what a later Python gives to numbers: what is not there at all raises by itself, as 3 << clock does."""
    inherited = {name for name in dir(int) if name.startswith("__")} - _NO_VALUE
    for name in inherited & set(dir(object)):
        assert name in vars(kind), name
    value = Moving(1_000, 1, Flips()) if kind is Moving else Late(1_000, Flips())
    for use in (
        hash,
        str,
        repr,
        int,
        float,
        round,
        range,
        lambda x: f"{x / 1000:.1f} s",
        lambda x: f"{x}",
        "%d".__mod__,
    ):
        with pytest.raises((Restless, TypeError)):
            use(value)  # type: ignore[operator]
    for use in (lambda x: x > 1.5, lambda x: x // 60, lambda x: 3 * x, lambda x: x % 7, lambda x: divmod(x, 7), sum):
        with pytest.raises((Restless, TypeError)):
            use(value)


def test_nothing_in_the_core_asks_whether_an_instant_is_a_number() -> None:
    """``Moving`` is none: what asks would go another way than the step that is taken. Those that do never see it."""
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
    assert found.until > pool.now + 1_000
    for now in range(pool.now, found.until, 50):
        assert _does_nothing(pool, step(pool.pool, ev.Tick(), now, pool.site)), now


def test_a_rest_ends_at_the_instant_at_which_an_agent_is_silent_for_too_long() -> None:
    pool = _settled()
    heard = min(agent.last_heard for agent in pool.pool.live.agents.values())
    until = _rest(pool).until
    assert until == heard + pool.policy.suspect_after
    done = step(pool.pool, ev.Tick(), until, pool.site)
    assert [entry.kind.value for entry in done.entries][0] == "agent-silent"


@pytest.mark.parametrize("late", [0, 40, 700])
def test_a_collector_that_is_late_and_catches_up_misses_nothing(late: int) -> None:
    """Silence is judged as of what has been heard: that may be up to date at once."""
    pool = _settled()
    heard = min(agent.last_heard for agent in pool.pool.live.agents.values())
    assert _rest(pool, late).until <= heard + pool.policy.suspect_after


def test_a_rest_holds_between_the_lags_with_which_its_step_compared() -> None:
    flips = Flips()
    assert Late(40, flips) <= BEHIND_MS and Late(40, flips) > 30  # type: ignore[operator]
    found = Rest(1_000, flips.least_late, flips.most_late)
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
    for _ in range(1_000):
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
    for _ in range(240):
        pool.now += 250
        found = rest_of(pool.pool, pool.now, pool.site)
        done = step(pool.pool, ev.Tick(), pool.now, pool.site)
        assert found is None or _does_nothing(pool, done)
        pool.feed(ev.Tick())


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
