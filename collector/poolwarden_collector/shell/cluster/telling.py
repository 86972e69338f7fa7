"""What channels and hooks are still to be told of a pool, and what people have said of its alerts: for the next owner.

Rules
-----
* It is made of the commits, as the record is, and folded with it. An open alert stands in ``PoolTail.alerts``; here are
  the ends of alerts, the occasions of hooks, silences, acknowledgements, and what waits for a second person.
* The owner writes now and then up to which commit each channel, and the hooks, have been told all (``Told``). What is
  up to there is told by nobody again; what is after it is told by the next owner as well, under the same key. A channel
  that takes nothing holds up its own number alone.
* What nobody could be told for long is bounded: the newest ``MOST`` of each are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.shell.cluster.etcd import Kept

MOST = 64


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is open, with all that its channels are told."""

    key: str
    severity: str
    title: str
    body: str
    data: dict[str, Any]
    raised_at: str
    occurrence: int  # the number of the commit that raised it: the same for every owner, and growing with each time


@dataclass(frozen=True, slots=True)
class Ended:
    """An alert that is over since commit ``number``; ``text``: how, ``at``: when (wall time)."""

    alert: OpenAlert
    text: str
    at: str
    number: int


@dataclass(frozen=True, slots=True)
class Happened:
    """An occasion for hooks; ``number``: its own one of its pool's journal, the ``id`` that each run is given."""

    number: int
    at: str
    event: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What a person has said: an entry of ``MARKS``, and when (wall time)."""

    kind: str
    text: str
    data: dict[str, Any]
    actor: str
    at: str


@dataclass(frozen=True, slots=True)
class Told:
    """Up to which commit all is told: ``alerts`` to these ``channels``, and ``hooks``; ``by_channel``: to each alone.

    An earlier release reads and writes all but the last one.
    """

    alerts: int = 0
    channels: tuple[str, ...] = ()
    hooks: int = 0
    by_channel: dict[str, int] = field(default_factory=dict)

    def each(self) -> dict[str, int]:
        """What is known of each channel."""
        together = dict.fromkeys(self.channels, self.alerts)
        return together | {name: max(number, together.get(name, 0)) for name, number in self.by_channel.items()}

    def later(self, number: int, free: Iterable[str], channels: tuple[str, ...], *, hooks: bool) -> Told:
        """As it is when of these ``channels`` the ``free`` ones, and ``hooks``, have been told all up to ``number``."""
        before, free = self.each(), set(free)
        by_channel = {name: number if name in free else before.get(name, 0) for name in channels}
        lowest = min(by_channel.values(), default=number)
        alerts, of = (lowest, channels) if lowest >= self.alerts else (self.alerts, self.channels)
        return Told(alerts, of, number if hooks else self.hooks, by_channel)


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told, the oldest first; ``said`` by what each is about."""

    ended: tuple[Ended, ...] = ()
    happened: tuple[Happened, ...] = ()
    said: dict[str, Said] = field(default_factory=dict)
    told: Told = Told()

    def without(self, told: Told) -> Telling:
        """As it is once that is told."""
        ended = tuple(each for each in self.ended if each.number > told.alerts)
        happened = tuple(each for each in self.happened if each.number > told.hooks)
        return replace(self, ended=ended, happened=happened, told=told)


MARKS = (
    Kind.ALERT_SILENCED,
    Kind.ALERT_UNSILENCED,
    Kind.ALERT_ACKNOWLEDGED,
    Kind.SECOND_AWAITED,
    Kind.SECOND_OVER,
)
_OVER = {Kind.ALERT_UNSILENCED: Kind.ALERT_SILENCED, Kind.SECOND_OVER: Kind.SECOND_AWAITED}


def take_alerts(
    opened: dict[str, OpenAlert], alerts: Iterable[AlertRaised | AlertResolved], at: str, number: int
) -> tuple[Ended, ...]:
    """What is open after these, and what has ended by them."""
    ended = []
    for alert in alerts:
        if isinstance(alert, AlertResolved):
            was = opened.pop(alert.key, None)
            if was is not None:
                ended.append(Ended(was, alert.text, at, number))
        elif alert.key not in opened:
            told = (alert.key, alert.severity, alert.title, alert.body, dict(alert.data))
            opened[alert.key] = OpenAlert(*told, at, number)
    return tuple(ended)


def after(
    telling: Telling,
    entries: Iterable[Entry],
    ended: Iterable[Ended],
    occasions: Iterable[Occasion],
    at: str,
    first: int,
) -> Telling:
    """What is to be told after one more commit, whose first number is ``first``."""
    ended = tuple(ended)
    said = dict(telling.said)
    for over in ended:
        said.pop(_about(Kind.ALERT_ACKNOWLEDGED, over.alert.key), None)
    for entry in entries:
        if entry.kind in MARKS:
            _take_said(said, entry, at)
    found = [Happened(first + n, at, each.event, each.facts) for n, each in enumerate(occasions)]
    return replace(
        telling,
        ended=(*telling.ended, *ended)[-MOST:],
        happened=(*telling.happened, *found)[-MOST:],
        said=dict(list(said.items())[-MOST:]),
    )


def _take_said(said: dict[str, Said], entry: Entry, at: str) -> None:
    kind = _OVER.get(entry.kind, entry.kind)
    which = about(kind.value, entry.data)
    said.pop(which, None)
    if entry.kind not in _OVER:
        said[which] = Said(entry.kind.value, entry.text, dict(entry.data), entry.actor, at)


def about(kind: str, data: Mapping[str, Any]) -> str:
    """What was said is about this; said again, it takes the place of what was said before."""
    name = "id" if kind == Kind.SECOND_AWAITED.value else "key"
    return f"{kind} {data.get(name, '')}"


def _about(kind: Kind, name: str) -> str:
    return f"{kind.value} {name}"


# ------------------------------------------------------------------------------------------------ as text


def text_of(telling: Telling) -> dict[str, Any]:
    """As it stands beside a record: JSON values, each by its own name."""
    return {
        "ended": [asdict(each) for each in telling.ended],
        "happened": [asdict(each) for each in telling.happened],
        "said": {about: asdict(each) for about, each in telling.said.items()},
    }


def telling_of(said: dict[str, Any]) -> Telling:
    """The same back; what a later release has added is left out. Raises KeyError, TypeError, ValueError."""
    ended = tuple(
        Ended(**{**_known(Ended, each), "alert": OpenAlert(**_known(OpenAlert, each["alert"]))})
        for each in said.get("ended", ())
    )
    happened = tuple(Happened(**_known(Happened, each)) for each in said.get("happened", ()))
    marks = {str(about): Said(**_known(Said, each)) for about, each in said.get("said", {}).items()}
    return Telling(ended, happened, marks)


def _known(kind: type[Any], said: dict[str, Any]) -> dict[str, Any]:
    return {each.name: said[each.name] for each in fields(kind)}


def occasions_text(occasions: Iterable[Occasion]) -> list[list[Any]]:
    """Those of a commit."""
    return [[each.event, each.facts] for each in occasions]


def occasions_of(said: dict[str, Any]) -> tuple[Occasion, ...]:
    """The same back. Raises TypeError, ValueError."""
    return tuple(Occasion(str(event), dict(facts)) for event, facts in said.get("occasions", ()))


def told_text(told: Told) -> bytes:
    """What the owner writes now and then."""
    return json.dumps(asdict(told)).encode()


def told_of(kept: Kept | None) -> Told:
    """The same back; what cannot be read says that nothing is told, so that it is told again."""
    try:
        said = json.loads(kept.value) if kept is not None else {}
        channels = tuple(str(each) for each in said.get("channels", ()))
        by_channel = {str(name): int(number) for name, number in said.get("by_channel", {}).items()}
        return Told(int(said.get("alerts", 0)), channels, int(said.get("hooks", 0)), by_channel)
    except (ValueError, TypeError, AttributeError):
        return Told()
