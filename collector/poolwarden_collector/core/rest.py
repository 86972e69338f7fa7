"""Until when a pool needs no step: one is taken on numbers that note when a comparison would turn out otherwise.

Theory: a step is a function of the pool, the event, the instant and the site. Where a tick's step gives back nothing
and leaves the pool as it was, a later one can do otherwise only if a comparison turns out otherwise: with the clock, or
with a number that an agent has told anew. Nobody keeps a list of deadlines, which would lack one: ``Number`` is what
such a step reads as its instant and as the numbers of the agents' facts, and each value that is made from one is a
``Number``, too. A comparison gives what it gives for plain numbers, and is noted: a ``Rest`` is the list of them.

Rules
-----
* The pool, but for the numbers in its agents' facts, and the site must be the same: who keeps a ``Rest`` drops it when
  one of them is another. How late the collector is (``Site.behind_ms``) only moves ``asof``, forward alone. What goes
  with ``asof`` has a deadline on that clock: a collector that is late would else have more to do for each pool.
* A report at rest is taken in by ``intake`` as any other. It is only that (``taken_in``) where this changes numbers of
  that agent's facts and nothing else, and every comparison of the rest turns out with them as it did.
* A whole step that was due and has changed numbers alone again (``goes_on``) leaves a pool for which the same rest
  holds, with other deadlines.
* What ``Number`` has no rule for (a text with an age in it, a quotient of an age, a key of a dict) raises ``Restless``:
  the pool does not rest. With what was only told all is allowed, and that number may not change then. So a new line in
  the core may cost steps, and never loses a deadline.
* Nothing of such a step is kept but its comparisons: no ``Number`` is ever stored.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, cast

from poolwarden_collector.core.engine import StepResult, only_taken_in, step
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model import host_facts as of
from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.events import AgentReported, CollectorProbed, Tick
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.live import AgentState, Pool, PoolLive, Site
from poolwarden_collector.core.state.live_slices import CollectorProbe, CollectorProbes, DatabaseAge

_NEVER: Ms = 1 << 62

_LIVE = tuple(item.name for item in fields(PoolLive))


def _reader(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """All of these fields at once, a tuple also of one."""
    read = operator.attrgetter(*names)
    return read if len(names) > 1 else lambda value: (read(value),)


_read_live = _reader(_LIVE)

# The numbers that an idle agent tells anew again and again, and where they are; anything else that changes is news.
_TOLD: dict[type, tuple[str, ...]] = {
    AgentState: ("last_heard",),
    of.HostFacts: ("memory_available",),
    of.Freshness: ("host", "xapi", "probes", "pool_view"),
    of.XapiFacts: ("liveness_since", "socket_since"),
    of.DatabaseFacts: ("generation", "changed_at"),
    of.Probe: ("probed_at", "answered_at"),
    of.Disk: ("free_bytes", "free_inodes"),
    of.HostEnvironment: ("swap_free", "database_written_at", "clock_offset_ms"),
    CollectorProbes: (),
    CollectorProbe: ("at", "answered_at"),
}
_NAMES = {kind: tuple(item.name for item in fields(kind)) for kind in _TOLD}
_READ = {kind: _reader(names) for kind, names in _NAMES.items()}
_INTO = {
    AgentState: ("facts",),
    of.HostFacts: ("observed", "xapi", "database", "disks", "probes", "around"),
    CollectorProbes: ("newest",),
}

Outcome = StepResult  # of the step that was taken
Place = tuple[str | int, ...]  # host or one of these words, then attributes and positions
_OWN, _NEWEST, _EARLIER = "own probe", "newest generation", "earlier generations"
_DUE = "devices due"
# What of the live state changes where an event is only taken in, and where a step that was due found nothing.
_TAKEN_IN = ("agents", "own_probe", "database_age")
_LOOKED_AT = (*_TAKEN_IN, "devices_due")


class Restless(Exception):
    """This step depends on the clock in a way that no deadline describes."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A comparison that was made: is ``slope * clock + sum of told numbers + constant`` below zero?

    ``told``: numbers by their place in ``Noted.numbers``, negative where it is subtracted. ``heard``: the clock is
    ``asof``, which is behind ``now`` or equal to it, and never goes back.
    """

    slope: int
    heard: bool
    told: tuple[int, ...]
    constant: int
    below: bool

    def steady(self, numbers: list[int]) -> int:
        """What does not go with the clock."""
        found = self.constant
        for at in self.told:
            found += numbers[at] if at > 0 else -numbers[-at]
        return found

    def flips_at(self, steady: int) -> Ms:
        """From which instant of its clock on it turns out otherwise."""
        if self.below and self.slope == 1:
            return -steady
        if not self.below and self.slope == -1:
            return steady + 1
        return _NEVER

    def holds(self, steady: int, now: Ms, late: Ms) -> bool:
        """Does it turn out as it did, on its own clock? ``late``: how far ``asof`` is behind."""
        return (self.slope * (now - late if self.heard else now) + steady < 0) is self.below


class Noted:
    """All comparisons of one step, the told numbers that it read, and between which lags it holds."""

    def __init__(self, now: Ms, late: Ms) -> None:
        self._now, self._asof = now, now - late
        self.numbers: list[int] = [0]
        self.places: dict[Place, int] = {}
        self.bounds: dict[Bound, None] = {}
        self.pinned: set[int] = set()  # told numbers that may not change
        self.least_late: Ms = 0
        self.most_late: Ms = _NEVER

    def told(self, value: int, place: Place) -> Number:
        """A number that an agent has told."""
        self.numbers.append(value)
        at = self.places[place] = len(self.numbers) - 1
        return Number(value, 0, self, told=(at,))

    def below(self, apart: Number, limit: int) -> bool:
        """Is a difference below this limit? It is noted."""
        clock = self._asof if apart.heard else self._now
        told = sum(self.numbers[at] if at > 0 else -self.numbers[-at] for at in apart.told)
        found = apart.value < limit
        constant = apart.value - apart.slope * clock - told - limit
        self.bounds[Bound(apart.slope, apart.heard, apart.told, constant, found)] = None
        return found

    def compared_late(self, within: bool, limit: Ms) -> None:
        """It was compared with how late the collector is, which is ``within`` this limit or beyond it."""
        if within:
            self.most_late = min(self.most_late, limit)
        else:
            self.least_late = max(self.least_late, limit + 1)


def _restless(*_: Any) -> NoReturn:
    raise Restless


def _of_plain(use: Callable[..., Any]) -> Callable[..., Any]:
    """What is done with plain numbers, where none of them goes with the clock."""

    def used(*given: Any) -> Any:
        return use(*(each.plain() if isinstance(each, Number) else each for each in given))

    return used


def _reversed(use: Callable[..., Any]) -> Callable[..., Any]:
    return _of_plain(lambda self, other: use(other, self))


class Number:
    """The clock, a number that an agent has told, or a sum of such.

    ``slope``: how it goes with the clock: 1 an instant or an age, -1 what is left until an instant, 0 what was told.
    ``heard``: with the clock of what has been heard (``asof``), which may stand still and catch up.
    """

    __slots__ = ("heard", "noted", "slope", "told", "value")

    def __init__(self, value: int, slope: int, noted: Noted, heard: bool = False, told: tuple[int, ...] = ()) -> None:
        self.value, self.slope, self.noted, self.heard, self.told = value, slope, noted, heard, told

    def plain(self) -> int:
        """Its value, which holds as long as nothing of it is told anew."""
        if self.slope:
            raise Restless
        self.noted.pinned.update(abs(at) for at in self.told)
        return self.value

    # -------------------------------------------------------------------------------------------- arithmetic

    def __neg__(self) -> Number:
        return Number(-self.value, -self.slope, self.noted, self.heard, tuple(-at for at in self.told))

    def __add__(self, other: object) -> Any:
        if type(other) is int:
            return Number(self.value + other, self.slope, self.noted, self.heard, self.told)
        if isinstance(other, Number):
            return self._plus(other)
        if type(other) is float:
            return self.plain() + other
        raise Restless

    __radd__ = __add__

    def _plus(self, other: Number) -> Any:
        slope, told = self.slope + other.slope, list(self.told)
        if (self.slope and other.slope and self.heard != other.heard) or abs(slope) > 1:
            raise Restless
        for at in other.told:
            if -at in told:
                told.remove(-at)
            else:
                told.append(at)
        value = self.value + other.value
        if not slope and not told:
            return value
        return Number(value, slope, self.noted, self.heard if self.slope else other.heard, tuple(sorted(told)))

    def __sub__(self, other: object) -> Any:
        if isinstance(other, Late):
            if self.slope != 1 or self.heard or self.told:
                raise Restless
            return Number(self.value - other.ms, 1, self.noted, True)
        if isinstance(other, int | float | Number):
            return self + (-other)
        raise Restless

    def __rsub__(self, other: object) -> Any:
        return -self + other

    # -------------------------------------------------------------------------------------------- comparisons

    def _below(self, other: object, by: int) -> bool:
        """Is (self - other) below this? As numbers are whole ones, all comparisons are made of that."""
        if isinstance(other, float):
            raise Restless
        apart = self - other
        return self.noted.below(apart, by) if isinstance(apart, Number) else bool(apart < by)

    def __lt__(self, other: object) -> bool:
        return self._below(other, 0)

    def __le__(self, other: object) -> bool:
        return self._below(other, 1)

    def __gt__(self, other: object) -> bool:
        return not self <= other

    def __ge__(self, other: object) -> bool:
        return not self < other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, int | float | Number):
            return False
        less, equal = self < other, self <= other  # both are noted: it may become another one on either side
        return equal and not less

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return self != 0

    # -------------------------------------------------------------------------------------------- everything else

    __hash__ = _restless  # safety: what is a key of a cache would be given to steps that are taken
    __mul__, __rmul__ = _of_plain(operator.mul), _reversed(operator.mul)
    __truediv__, __rtruediv__ = _of_plain(operator.truediv), _reversed(operator.truediv)
    __floordiv__, __rfloordiv__ = _of_plain(operator.floordiv), _reversed(operator.floordiv)
    __mod__, __rmod__ = _of_plain(operator.mod), _reversed(operator.mod)
    __divmod__, __rdivmod__ = _of_plain(divmod), _reversed(divmod)
    __abs__, __int__, __float__, __round__ = _of_plain(abs), _of_plain(int), _of_plain(float), _of_plain(round)
    __index__, __str__, __repr__, __format__ = (
        _of_plain(operator.index),
        _of_plain(str),
        _of_plain(repr),
        _of_plain(format),
    )


class Earlier:
    """A generation that the master's database had before the present one, and when: noted is whether anybody asks."""

    __slots__ = ("_entry", "_pin")

    def __init__(self, entry: tuple[int, Ms], pin: Callable[[], object]) -> None:
        self._entry, self._pin = entry, pin

    def _read(self) -> tuple[int, Ms]:
        self._pin()
        return self._entry

    def __iter__(self) -> Iterator[int]:
        return iter(self._read())

    def __getitem__(self, at: int) -> int:
        return self._read()[at]

    def __eq__(self, other: object) -> bool:
        return self._read() == other

    __hash__ = _restless


class Late:
    """How late the collector is, which varies from tick to tick: noted is between which values nothing differs."""

    __slots__ = ("ms", "noted")

    def __init__(self, ms: Ms, noted: Noted) -> None:
        self.ms, self.noted = ms, noted

    def __le__(self, other: object) -> bool:
        if type(other) is not int:
            raise Restless
        self.noted.compared_late(self.ms <= other, other)
        return self.ms <= other

    def __gt__(self, other: object) -> bool:
        return not self <= other

    __hash__ = __eq__ = __ne__ = __lt__ = __ge__ = __bool__ = _restless
    __repr__ = __str__ = __format__ = __int__ = __index__ = __float__ = _restless
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __floordiv__ = __mod__ = _restless


class Rest:
    """No step does anything while ``now`` is before ``until`` and ``asof`` before ``heard_until``, with the same pool
    and site, while the collector is as late as this.
    """

    def __init__(self, noted: Noted) -> None:
        self._numbers, self._pinned = noted.numbers, noted.pinned
        self._bounds = tuple(noted.bounds)
        self._of: dict[int, list[Bound]] = {}
        for bound in self._bounds:
            for at in bound.told:
                self._of.setdefault(abs(at), []).append(bound)
        # What was told and compared with nothing may be anything.
        used = self._of.keys() | self._pinned
        self._places = {place: at for place, at in noted.places.items() if at in used}
        self._least_late, self._most_late = noted.least_late, noted.most_late
        self.until, self.heard_until = self._first()

    def _first(self) -> tuple[Ms, Ms]:
        """The next deadlines on both clocks."""
        first, numbers = [_NEVER, _NEVER], self._numbers
        for bound in self._bounds:
            first[bound.heard] = min(first[bound.heard], bound.flips_at(bound.steady(numbers)))
        return first[False], first[True]

    def holds(self, now: Ms, late: Ms) -> bool:
        if now >= self.until or now - late >= self.heard_until:
            self.until, self.heard_until = self._first()  # what was told since has moved its deadlines
        in_time = now < self.until and now - late < self.heard_until
        return in_time and self._least_late <= late <= self._most_late

    def takes(self, told: list[tuple[Place, int]], now: Ms, late: Ms) -> bool:
        """These numbers are others now: is everything as it was with them? Then the rest goes on with them."""
        places = self._places
        changes = {places[place]: value for place, value in told if place in places}
        if not self._pinned.isdisjoint(changes):
            return False
        numbers = self._numbers
        before = {at: numbers[at] for at in changes}
        self._put(changes)
        deadlines = self._deadlines_with(changes, now, late)
        if deadlines is None:
            self._put(before)
            return False
        self.until, self.heard_until = deadlines
        return True

    def _put(self, values: dict[int, int]) -> None:
        for at, value in values.items():
            self._numbers[at] = value

    def _deadlines_with(self, changes: Iterable[int], now: Ms, late: Ms) -> tuple[Ms, Ms] | None:
        """Both with these numbers as they are now; None: one of their comparisons turns out otherwise."""
        first, numbers, seen = [self.until, self.heard_until], self._numbers, set()
        for at in changes:
            for bound in self._of.get(at, ()):
                if id(bound) not in seen:
                    seen.add(id(bound))
                    steady = bound.steady(numbers)
                    if not bound.holds(steady, now, late):
                        return None
                    first[bound.heard] = min(first[bound.heard], bound.flips_at(steady))
        return first[False], first[True]


def rest_of(pool: Pool, now: Ms, site: Site) -> Rest | None:
    """The rest of this pool from ``now`` on; None: a tick may do something, it is to be taken."""
    if not _looks_restful(pool):
        return None
    noted = Noted(now, site.behind_ms)
    agents = {host: _seen(agent, (host,), noted) for host, agent in pool.live.agents.items()}
    own_probe, age = _seen(pool.live.own_probe, (_OWN,), noted), _seen_age(pool.live.database_age, noted)
    due = noted.told(pool.live.devices_due, (_DUE,))
    seen = changed(pool, live=changed(pool.live, agents=agents, own_probe=own_probe, database_age=age, devices_due=due))
    late = cast(Ms, Late(site.behind_ms, noted))
    try:
        done = step(seen, Tick(), cast(Ms, Number(now, 1, noted)), replace(site, behind_ms=late))
        if not _did_nothing(seen, done):
            return None
    except Exception:  # Restless, or an invariant that broke: the tick that is taken then tells it
        return None
    return Rest(noted)


def taken_in(rest: Rest, pool: Pool, event: AgentReported | CollectorProbed, now: Ms, site: Site) -> Pool | None:
    """The pool after this event, where the event's whole step would do no more than take it in; None: it may.

    ``rest`` holds at this instant; it is the rest of the pool that is given back.
    """
    done = only_taken_in(pool, event, now, site)
    told = _told_anew(pool, done, _TAKEN_IN)
    return done.pool if told is not None and rest.takes(told, now, site.behind_ms) else None


def goes_on(rest: Rest, pool: Pool, done: StepResult, now: Ms, site: Site) -> bool:
    """Does this rest of ``pool``, which may be over, hold for what a whole step has made of it? If not, it is void."""
    told = _told_anew(pool, done, _LOOKED_AT)
    return told is not None and rest.takes(told, now, site.behind_ms) and rest.holds(now, site.behind_ms)


def _told_anew(pool: Pool, done: StepResult, where: tuple[str, ...]) -> list[tuple[Place, int]] | None:
    """The numbers that are others after this step; None: it has changed something else, or has something to do."""
    before, after = pool.live, done.pool.live
    if not _did_nothing(pool, done, where) or before.agents.keys() != after.agents.keys():
        return None
    told: list[tuple[Place, int]] = [((_DUE,), after.devices_due)] if after.devices_due != before.devices_due else []
    others = ((host, agent, after.agents[host]) for host, agent in before.agents.items())
    same = (
        _alike(before.own_probe, after.own_probe, (_OWN,), told)
        and all(is_now is was or _alike(was, is_now, (host,), told) for host, was, is_now in others)
        and _alike_ages(before.database_age, after.database_age, told)
    )
    return told if same else None


# ------------------------------------------------------------------------------------------------ facts and numbers


def _seen(value: Any, place: Place, noted: Noted) -> Any:
    """The same facts with numbers that note what they are compared with."""
    kind = type(value)
    changes: dict[str, Any] = {}
    for name in _TOLD[kind]:
        part = getattr(value, name)
        if type(part) is int:
            changes[name] = noted.told(part, (*place, name))
    for name in _INTO.get(kind, ()):
        part = getattr(value, name)
        if type(part) in _TOLD:
            changes[name] = _seen(part, (*place, name), noted)
        elif _several(part):
            changes[name] = tuple(_seen(each, (*place, name, at), noted) for at, each in enumerate(part))
    return changed(value, **changes) if changes else value


def _seen_age(age: DatabaseAge, noted: Noted) -> DatabaseAge:
    """The same with the master's newest generation and when it was seen last as told numbers, the others unread."""
    host, seen = age.generations
    if not seen:
        return age
    noted.told(0, (_EARLIER,))
    list_of_them = noted.places[(_EARLIER,)]
    earlier = [cast(tuple[int, Ms], Earlier(entry, lambda: noted.pinned.add(list_of_them))) for entry in seen[:-1]]
    newest = tuple(noted.told(value, (_NEWEST, at)) for at, value in enumerate(seen[-1]))
    return replace(age, generations=(host, (*earlier, cast(tuple[int, Ms], newest))))


def _alike_ages(was: DatabaseAge, is_now: DatabaseAge, told: list[tuple[Place, int]]) -> bool:
    """Is this the same master's, whose database has gone on from where it was?"""
    (host, before), (master, after) = was.generations, is_now.generations
    if was is is_now or not before or not after:
        return was == is_now
    if host != master or was.answered_until != is_now.answered_until or after[-1][0] < before[-1][0]:
        return False
    told += [((_NEWEST, at), value) for at, value in enumerate(after[-1]) if value != before[-1][at]]
    if before[:-1] != after[:-1]:
        told.append(((_EARLIER,), 1))
    return True


def _several(part: Any) -> bool:
    return type(part) is tuple and bool(part) and all(type(each) in _TOLD for each in part)


def _alike(was: Any, is_now: Any, place: Place, told: list[tuple[Place, int]]) -> bool:
    """Are these equal but for the numbers of _TOLD? Those that are others go into ``told``."""
    if is_now is was:
        return True
    kind = type(was)
    if kind is not type(is_now):
        return False
    if kind in _TOLD:
        numbers, into = _TOLD[kind], _INTO.get(kind, ())
        read = _READ[kind]
        for name, before, after in zip(_NAMES[kind], read(was), read(is_now), strict=True):
            if after is before:
                continue
            if name in numbers and type(before) is int and type(after) is int:
                if before != after:
                    told.append(((*place, name), after))
            elif not (_alike(before, after, (*place, name), told) if name in into else before == after):
                return False
        return True
    if kind is tuple and len(was) == len(is_now):
        for at, (before, after) in enumerate(zip(was, is_now, strict=True)):
            if after is not before and not _alike(before, after, (*place, at), told):
                return False
        return True
    return bool(was == is_now)


# ------------------------------------------------------------------------------------------------ did it do anything?


def _looks_restful(pool: Pool) -> bool:
    """Is it worth asking? Only what is Healthy rests; whatever is under way has its ticks."""
    record, live = pool.record, pool.live
    under_way = (record.failover is not None and record.failover.open) or live.pending
    return live.verdict.word == Verdict.HEALTHY.word and not under_way


def _did_nothing(before: Pool, done: StepResult, but: tuple[str, ...] = ()) -> bool:
    after = done.pool
    if done.entries or done.alerts or done.effects or after.record is not before.record:
        return False
    if after.live is before.live:
        return True
    parts = zip(_LIVE, _read_live(before.live), _read_live(after.live), strict=True)
    return all(is_now is was or name in but or is_now == was for name, was, is_now in parts)
