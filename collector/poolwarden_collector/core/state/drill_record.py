"""A fire drill as the journal has it: its steps in order, the phase that is under way, what each took and came to.

Invariant: ``fold_drill`` is total and pure, as ``record.apply`` is, of which it is a part. There is one field for a
drill, so a pool has one open drill at the most. What it holds or has switched off is read from here: after a restart of
the collector, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId, Ms


class Part(StrEnum):
    """What a step tries; the value is the word for it on the command line and in the journal."""

    FENCE = "fence"  # a member's power off and on again
    RESTART = "restart"  # a member's xapi
    HOLD = "hold"  # a member's toolstack is held, and released
    SWITCHOVER = "switchover"  # the role goes to the member and back
    POWER_LOSS = "power-loss"  # the master's power off: a whole failover


POWER = frozenset({Part.FENCE, Part.POWER_LOSS})
"""Steps that switch a machine off."""


class Phase(StrEnum):
    """What is awaited in a step; the value is the word for it in the journal."""

    OFF = "off"  # the run of each fence device ends
    READS_OFF = "reads-off"  # each reads OFF, twice
    FAILOVER = "failover"  # another member is master, and the failover is closed
    READS_ON = "reads-on"  # it is switched on, and reads ON
    HEARD = "heard"  # its agent is heard, in another boot
    ANSWERS = "answers"  # a new xapi process answers there
    HELD = "held"  # its agent says that xapi is stopped and its ports are closed
    REFUSED = "refused"  # another member gets a refused connection there
    RELEASED = "released"  # the hold is lifted
    HANDED = "handed"  # the member serves as master, and every host follows it
    HEALTHY = "healthy"  # the pool is healthy under that master
    HANDED_BACK = "handed-back"  # the master of before serves again
    BACK = "back"  # it is an attached member that its master has live
    ENABLED = "enabled"  # and enabled


class StepState(StrEnum):
    """How far a step is; the value is the word for it in ``status``."""

    PLANNED = "planned"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class DrillStep:
    """One step; ``why``: what went wrong in it, which it may still be on its way back from."""

    part: Part
    host: HostId
    state: StepState = StepState.PLANNED
    phase: Phase | None = None
    took: tuple[tuple[Phase, Ms | None], ...] = ()  # phases that are over; None: the collector was restarted meanwhile
    why: str = ""
    by: str = ""
    before: str = ""  # of its host as the step began: its boot, its xapi's process, or the master of then
    order: str = ""  # the order of the phase that is awaited
    enabled: bool = False  # was its host enabled as the step began?


@dataclass(frozen=True, slots=True)
class Drill:
    """An open drill. ``abandoned``: by whom; the step that runs is brought to its safe end first."""

    id: str
    by: str
    steps: tuple[DrillStep, ...]
    abandoned: str = ""

    @property
    def running(self) -> int | None:
        """Which step runs, from 0."""
        return next((n for n, step in enumerate(self.steps) if step.state is StepState.RUNNING), None)

    @property
    def next(self) -> int | None:
        """Which step comes next, from 0."""
        return next((n for n, step in enumerate(self.steps) if step.state is StepState.PLANNED), None)

    def in_phase(self, *phases: Phase) -> HostId:
        """The host of the step that runs, where it is in one of these phases; empty otherwise."""
        number = self.running
        step = self.steps[number] if number is not None else None
        return step.host if step is not None and step.phase in phases else ""


def held_by(drill: Drill | None) -> HostId:
    """The host whose toolstack a drill holds, or has ordered to be held, and has not let go; empty: none."""
    return drill.in_phase(Phase.HELD, Phase.REFUSED) if drill is not None else ""


def reads(drill: Drill | None) -> HostId:
    """The host whose power a drill wants read now; empty: none."""
    return drill.in_phase(Phase.READS_OFF, Phase.READS_ON) if drill is not None else ""


def fold_drill(drill: Drill | None, entry: Entry) -> Drill | None:
    """The open drill after one entry."""
    change = _CHANGES.get(entry.kind)
    return change(drill, entry) if change is not None else drill


def _begun(_: Drill | None, entry: Entry) -> Drill:
    data = entry.data
    steps = tuple(DrillStep(Part(each["part"]), each["host"]) for each in data["steps"])
    return Drill(data["drill"], data["by"], steps)


def _phase(drill: Drill | None, entry: Entry) -> Drill | None:
    data = entry.data
    step = _step(drill, entry)
    if drill is None or step is None:
        return drill
    over = ((step.phase, data["took"]),) if step.phase is not None else ()
    changed = replace(
        step,
        state=StepState.RUNNING,
        phase=Phase(data["phase"]),
        took=(*step.took, *over),
        why=data["why"],
        by=data.get("by", step.by),
        before=data.get("before", step.before),
        order=data.get("order", ""),
        enabled=data.get("enabled", step.enabled),
    )
    return _with(drill, data["step"], changed)


def _result(drill: Drill | None, entry: Entry) -> Drill | None:
    data = entry.data
    step = _step(drill, entry)
    if drill is None or step is None:
        return drill
    over = ((step.phase, data["took"]),) if step.phase is not None and data["outcome"] != StepState.SKIPPED else ()
    state = StepState(data["outcome"])
    return _with(drill, data["step"], replace(step, state=state, phase=None, took=(*step.took, *over), why=data["why"]))


def _step(drill: Drill | None, entry: Entry) -> DrillStep | None:
    of = drill is not None and drill.id == entry.data["drill"]
    return drill.steps[entry.data["step"]] if drill is not None and of else None


def _with(drill: Drill, number: int, step: DrillStep) -> Drill:
    return replace(drill, steps=(*drill.steps[:number], step, *drill.steps[number + 1 :]))


def _abandoned(drill: Drill | None, entry: Entry) -> Drill | None:
    return replace(drill, abandoned=entry.data["by"]) if drill is not None else None


_CHANGES: dict[Kind, Callable[[Drill | None, Entry], Drill | None]] = {
    Kind.DRILL_BEGUN: _begun,
    Kind.DRILL_PHASE: _phase,
    Kind.DRILL_RESULT: _result,
    Kind.DRILL_ABANDONED: _abandoned,
    Kind.DRILL_ENDED: lambda _, __: None,
}
