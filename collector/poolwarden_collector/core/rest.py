"""Until when a pool needs no tick: its step is taken on a clock that notes when a comparison would turn out otherwise.

Theory: a step is a function of the pool, the event, the instant and the site. Where a tick's step gives back nothing
and leaves the pool as it was, a later tick can do otherwise only if a comparison with the clock turns out otherwise.
Nobody keeps a list of deadlines, which would lack one: ``Moving`` is the instant that such a step reads, and each value
that is made from it is ``Moving``, too. A comparison gives what it gives for plain numbers, and notes when it flips.

Rules
-----
* The pool, the event and the site must be the same: who keeps a ``Rest`` drops it when one of them is another.
  How late the collector is (``Site.behind_ms``) is the one exception: it only moves ``asof``, forward alone.
* What ``Moving`` has no rule for (a text with an age in it, a quotient, a float, a key of a dict) raises ``Restless``:
  the pool does not rest. So a new line in the core may cost ticks, and never loses a deadline.
* Nothing of such a step is kept but its end: no ``Moving`` is ever stored.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, cast

from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.events import Tick
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.live import Pool, PoolLive, Site

LONGEST_MS: Ms = 600_000

_LIVE = tuple(item.name for item in fields(PoolLive))


class Restless(Exception):
    """This step depends on the clock in a way that no deadline describes."""


class Flips:
    """The earliest flip of all comparisons so far, ms from the step's instant on, and between which lags it holds."""

    __slots__ = ("first", "least_late", "most_late")

    def __init__(self) -> None:
        self.first: Ms = LONGEST_MS
        self.least_late: Ms = 0
        self.most_late: Ms = LONGEST_MS

    def note(self, after: Ms) -> None:
        if after < self.first:
            self.first = after

    def note_late(self, within: bool, limit: Ms) -> None:
        """It was compared with how late the collector is, which is ``within`` this limit or beyond it."""
        if within:
            self.most_late = min(self.most_late, limit)
        else:
            self.least_late = max(self.least_late, limit + 1)


def _restless(*_: Any) -> NoReturn:
    raise Restless


class Moving:
    """A number that goes with the clock: ``slope`` 1, an instant or an age; -1, what is left until an instant.

    ``heard``: with the clock of what has been heard (``asof``), which may stand still and catch up.
    """

    __slots__ = ("flips", "heard", "slope", "value")

    def __init__(self, value: int, slope: int, flips: Flips, heard: bool = False) -> None:
        self.value, self.slope, self.flips, self.heard = value, slope, flips, heard

    def _goes_as(self, other: Moving) -> bool:
        return other.slope == self.slope and other.heard == self.heard

    # -------------------------------------------------------------------------------------------- arithmetic

    def __add__(self, other: object) -> Moving:
        if type(other) is int:
            return Moving(self.value + other, self.slope, self.flips, self.heard)
        raise Restless

    __radd__ = __add__

    def __sub__(self, other: object) -> Any:
        if type(other) is int:
            return Moving(self.value - other, self.slope, self.flips, self.heard)
        if isinstance(other, Moving) and self._goes_as(other):
            return self.value - other.value
        if isinstance(other, Late):
            return Moving(self.value - other.ms, self.slope, self.flips, True)
        raise Restless

    def __rsub__(self, other: object) -> Moving:
        if type(other) is int:
            return Moving(other - self.value, -self.slope, self.flips, self.heard)
        raise Restless

    def __neg__(self) -> Moving:
        return Moving(-self.value, -self.slope, self.flips, self.heard)

    # -------------------------------------------------------------------------------------------- comparisons

    def _until(self, other: object) -> int:
        """How far it is from the other one on its way; negative: beyond it. Between two that go alike: no way."""
        if type(other) is int:
            return (other - self.value) * self.slope
        raise Restless

    def _reaches(self, other: object) -> int:
        """The sign of (self - other); noted when it is equal, if it will be."""
        if isinstance(other, Moving) and self._goes_as(other):
            return self.value - other.value
        left = self._until(other)
        if left > 0:
            self.flips.note(left)
        elif left == 0:
            self.flips.note(1)
        return -left * self.slope

    def __lt__(self, other: object) -> bool:
        return self._reaches(other) < 0

    def __le__(self, other: object) -> bool:
        return self._reaches(other) <= 0

    def __gt__(self, other: object) -> bool:
        return self._reaches(other) > 0

    def __ge__(self, other: object) -> bool:
        return self._reaches(other) >= 0

    def __eq__(self, other: object) -> bool:
        return other is not None and self._reaches(other) == 0

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return self._reaches(0) != 0

    __hash__ = _restless
    __repr__ = __str__ = __format__ = __int__ = __index__ = __float__ = __round__ = __abs__ = _restless
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _restless
    __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __pow__ = __rpow__ = _restless


class Late:
    """How late the collector is, which varies from tick to tick: noted is between which values nothing differs."""

    __slots__ = ("flips", "ms")

    def __init__(self, ms: Ms, flips: Flips) -> None:
        self.ms, self.flips = ms, flips

    def __le__(self, other: object) -> bool:
        if type(other) is not int:
            raise Restless
        self.flips.note_late(self.ms <= other, other)
        return self.ms <= other

    def __gt__(self, other: object) -> bool:
        return not self <= other

    __hash__ = __eq__ = __ne__ = __lt__ = __ge__ = __bool__ = _restless
    __repr__ = __str__ = __format__ = __int__ = __index__ = __float__ = _restless
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __floordiv__ = __mod__ = _restless


@dataclass(frozen=True, slots=True)
class Rest:
    """No tick does anything before ``until``, with the same pool and site, while the collector is as late as this."""

    until: Ms
    least_late: Ms
    most_late: Ms

    def holds(self, now: Ms, late: Ms) -> bool:
        return now < self.until and self.least_late <= late <= self.most_late


def rest_of(pool: Pool, now: Ms, site: Site) -> Rest | None:
    """The rest of this pool from ``now`` on; None: a tick may do something, it is to be taken."""
    if not _looks_restful(pool):
        return None
    flips = Flips()
    seen = replace(site, behind_ms=cast(Ms, Late(site.behind_ms, flips)))
    try:
        done = step(pool, Tick(), cast(Ms, Moving(now, 1, flips)), seen)
        if not _did_nothing(pool, done):
            return None
    except Exception:  # Restless, or an invariant that broke: the tick that is taken then tells it
        return None
    # What is judged as of an earlier instant may have caught up by then.
    return Rest(now + flips.first - site.behind_ms, flips.least_late, flips.most_late)


def _looks_restful(pool: Pool) -> bool:
    """Is it worth asking? Only what is Healthy rests; whatever is under way has its ticks."""
    record, live = pool.record, pool.live
    under_way = (record.failover is not None and record.failover.open) or live.pending
    return live.verdict.word == Verdict.HEALTHY.word and not under_way


def _did_nothing(before: Pool, done: StepResult) -> bool:
    after = done.pool
    if done.entries or done.alerts or done.effects or after.record is not before.record:
        return False
    return after.live is before.live or all(_same(before.live, after.live, name) for name in _LIVE)


def _same(before: PoolLive, after: PoolLive, name: str) -> bool:
    was, is_now = getattr(before, name), getattr(after, name)
    return is_now is was or bool(is_now == was)
