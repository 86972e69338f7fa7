"""What the engine's loop tells its driver: what to do now, and what to make durable next (engine_loop.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.events import Event
from poolwarden_collector.core.model.occasion import Occasion
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.queue.happening import Happening

WARNING, ERROR, CRITICAL = 30, 40, 50  # as the logging module counts them


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing has to be durable: answer ``committed`` at once, with the clocks read anew."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction. ``pool`` empty: the collector's own; ``name``: the pool's, for people; ``occasions``: hooks'."""

    pool: PoolId
    entries: tuple[Entry, ...]
    alerts: tuple[effects.AlertRaised | effects.AlertResolved, ...] = ()
    name: str = ""
    occasions: tuple[Occasion, ...] = ()


@dataclass(frozen=True, slots=True)
class BeginEpoch:
    """A new epoch above this one; ``committed`` is told which."""

    above: int


@dataclass(frozen=True, slots=True)
class Check:
    """Whether anything can be made durable again."""


@dataclass(frozen=True, slots=True)
class Reconfiguration:
    """A configuration that was read and found good. ``devices``: those of all hosts, as the core knows them.

    ``changes``: what is other in it, for people; empty: nothing that anybody has to be told.
    """

    config: Config
    devices: dict[HostId, tuple[FenceDevice, ...]]
    actor: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """One transaction: what changes for the collector and for each pool; alerts go to the new channels from it on."""

    change: Reconfiguration
    commits: tuple[Commit, ...]


class NotDurable(Exception):
    """The disk: nothing of the write is durable."""


class NotOwned(Exception):
    """The pool is another collector's."""


Write = Nothing | Commit | BeginEpoch | Check | Reconfigure


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin an effect, whose step is durable. An error of one is that effect's alone."""

    pool: PoolId
    effect: effects.Effect


def stamped(effect: effects.Effect, boottime: Ms) -> effects.Effect:
    """A power switch knows when its step was made: it is begun soon after, or not at all."""
    return replace(effect, decided_at=boottime) if isinstance(effect, effects.PowerOff | effects.PowerOn) else effect


@dataclass(frozen=True, slots=True)
class Drop:
    """An effect is not begun, for this reason. An unanswered order is asked for again by the engine."""

    pool: PoolId
    effect: effects.Effect
    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer an operator's command that was not stepped."""

    pool: PoolId
    reply: effects.Reply


@dataclass(frozen=True, slots=True)
class Post:
    """Put an event into the queue."""

    pool: PoolId
    event: Event


@dataclass(frozen=True, slots=True)
class CutOff:
    """End every power-off that runs (in this pool; empty: in all), at once."""

    pool: PoolId


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A pool of one of several has hosts that have obeyed an epoch above this ownership's: it can act there no more.

    Nothing is begun in it from here on. It is to be released; ``above``: the epoch that was obeyed.
    """

    pool: PoolId
    why: str
    above: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """A pool is another collector's from now on: nothing of it is to go on here, and its agents are sent on."""

    pool: PoolId
    why: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """The step of this event is over: whoever waits for answers or for time may look at it."""

    happening: Happening


@dataclass(frozen=True, slots=True)
class Broke:
    """The step of this event was dropped: an error that is no trouble of the disk."""

    happening: Happening
    error: Exception


@dataclass(frozen=True, slots=True)
class Stalled:
    """Nothing can be made durable; told at each attempt."""

    why: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """It can be again."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration is another one now, in every pool; what the driver runs follows it before anything else."""


@dataclass(frozen=True, slots=True)
class NotReconfigured:
    """The configuration is as it was; ``why`` in one sentence, ``next_step``: what to do about it."""

    why: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the log."""

    severity: int
    text: str


Act = (
    Begin
    | Drop
    | Refuse
    | Post
    | CutOff
    | GiveUp
    | Released
    | Stepped
    | Broke
    | Stalled
    | Resumed
    | Reconfigured
    | NotReconfigured
    | Say
)


@dataclass(frozen=True, slots=True)
class Ready:
    """What the driver does next: ``acts``, then ``write`` (None: the event is over), then ``again`` before all else."""

    acts: tuple[Act, ...] = ()
    write: Write | None = None
    again: tuple[Happening, ...] = ()
