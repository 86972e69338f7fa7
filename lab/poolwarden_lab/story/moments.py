"""Commands at any moment: by the clock, or when something happens.

``at +5s power on h1`` and ``at 90s ...`` go by the log's clock. ``after MOMENT: COMMAND`` and ``before MOMENT:
COMMAND`` are done when something happens for the first time from here on (``2nd``, ``3rd`` ...: for that time;
``every``: each time). Before and after a journal entry or an effect of the collector are exact places in its run,
between one durable step and the next; there commands that are marked *exact* happen in that very place (killing the
collector is one), every other command at the same millisecond, right after the collector's step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.story.grammar import Lexicon
from poolwarden_lab.story.signs import Query
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.virtual.collector.points import Point

MOMENTS = Lexicon("moment", "Moments")

Place = Callable[[Point], bool]


class AtPoint:
    """A moment inside of the collector: a commit or an effect."""

    def __init__(self, what: str, matches: Callable[[str], bool]) -> None:
        self.what = what
        self.matches = matches

    def comes(self, point: Point, when: str) -> bool:
        return point.what == self.what and point.when == when and self.matches(point.names)


class AtEvent:
    """A moment of the world: something is written in the models' log."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host


class AtSign:
    """The moment in which a sign becomes true."""

    def __init__(self, query: Query) -> None:
        self.query = query


@MOMENTS.form("journal KIND", "A journal entry of this kind is made durable (before: it is lost with the collector).")
def journal(stage: Stage | None, kind: Kind) -> AtPoint:
    return AtPoint("commit", lambda names: kind.value in names.split(", "))


@MOMENTS.form("order WORD [to HOST]", "The collector sends this order (claim, promote, repoint ...).")
def order(stage: Stage, kind: str, host: str | None) -> AtPoint:
    start = f"order {kind.replace('-', '_')} to "
    uuid = stage.world.find(host).uuid[:8] if host else ""
    return AtPoint("effect", lambda names: names.startswith(start) and names.endswith(uuid))


@MOMENTS.form("effect WORD", "The collector performs this effect (ReadPower, PowerOff, SendChallenge ...).")
def effect(stage: Stage, name: str) -> AtPoint:
    return AtPoint("effect", lambda names: names == name)


@MOMENTS.form(
    "event WORD on HOST", "This host's xapi writes this event (promote-call, xapi-start, db-loaded, exit ...)."
)
def event(stage: Stage, name: str, host: str) -> AtEvent:
    return AtEvent(name, host)


def arm(stage: Stage, moment: Any, when: str, nth: int | None, act: Callable[[], None], exact: bool) -> None:
    """Do ``act`` at the moment's nth time from here on (None: at each)."""
    times = 0

    def come(do: Callable[[], None]) -> bool:
        """Whether it is over with this moment."""
        nonlocal times
        times += 1
        if nth is None or times == nth:
            do()
        return nth is not None and times >= nth

    if isinstance(moment, AtPoint):
        _arm_point(stage, moment, when, come, act, exact)
    elif isinstance(moment, AtEvent):
        _arm_event(stage, moment, come, act)
    elif isinstance(moment, AtSign):
        _arm_sign(stage, moment, come, act)


def _arm_point(
    stage: Stage,
    moment: AtPoint,
    when: str,
    come: Callable[[Callable[[], None]], bool],
    act: Callable[[], None],
    exact: bool,
) -> None:
    def look(point: Point) -> bool:
        if moment.comes(point, when) and come(act if exact else lambda: stage.later(0, act)):
            stage.points.remove(look)
        return False

    stage.points.append(look)


def _arm_event(
    stage: Stage, moment: AtEvent, come: Callable[[Callable[[], None]], bool], act: Callable[[], None]
) -> None:
    models = stage.world.find(moment.host).pool.pool
    seen = len(models.log)

    def look() -> None:
        nonlocal seen
        log = models.log
        news, seen = log[seen:], len(log)
        for entry in news:
            it_is = entry.event.name == moment.name and moment.host == entry.host
            if it_is and look in stage.after_each and come(lambda: stage.later(0, act)):
                stage.after_each.remove(look)

    stage.after_each.append(look)


def _arm_sign(
    stage: Stage, moment: AtSign, come: Callable[[Callable[[], None]], bool], act: Callable[[], None]
) -> None:
    before = False

    def look() -> None:
        nonlocal before
        now = moment.query.ask(stage).so
        if now and not before and come(lambda: stage.later(0, act)):
            stage.after_each.remove(look)
        before = now

    stage.after_each.append(look)
