"""Breadth-first exploration of a finite model: every reachable state once, the shortest way to each violation.

Rules
-----
* A model gives its initial state and, for a state, its steps: ``Step(label, after, broken, excused)``. States are
  hashable values; equal states are one state.
* ``broken`` names the property that a step breaks; the exploration ends there with the trace, which is a shortest one.
* ``excused`` names an exemption: the step is counted and not followed. Nothing else is ever left out.
* A run is *exhausted* when its frontier is empty. ``most`` bounds the states only so that a mistake cannot eat the
  machine: a run that meets the bound is not exhausted, and no test takes it for one.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)
MOST = 3_000_000


class Step(NamedTuple):
    """One move of a model."""

    label: str
    after: tuple
    broken: str = ""
    excused: str = ""


@dataclass(slots=True)
class Found:
    """What an exploration came to."""

    states: int = 0
    transitions: int = 0
    seconds: float = 0.0
    exhausted: bool = False
    depth: int = 0  # steps to the state that is farthest from the start
    broken: str = ""
    trace: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    trapped: list[str] = field(default_factory=list)  # the shortest way to a state that no longer reaches a goal

    def story(self) -> str:
        """The counterexample as numbered lines."""
        return "\n".join(f"{number:3}. {line}" for number, line in enumerate(self.trace, 1))


def explore(
    start: tuple,
    steps: Callable[[tuple], Iterable[Step]],
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    goal: Callable[[tuple], bool] | None = None,
    most: int = MOST,
) -> Found:
    """Explore from ``start``. A broken property that is not ``wanted`` is walked through as if it were none.

    With ``goal``, an exhausted exploration also looks for states from which no goal can be reached any more.
    """
    found, began = Found(), time.perf_counter()
    number, order = {start: 0}, [start]
    came_from, by, depth = array("l", [-1]), [""], array("l", [0])
    edges_from, edges_to = array("l"), array("l")
    frontier = deque([0])
    while frontier:
        here = frontier.popleft()
        for label, after, broken, excused in steps(order[here]):
            found.transitions += 1
            if broken and wanted(broken):
                found.broken, found.trace = broken, [*_way(came_from, by, here), label]
                return _closed(found, order, depth, began)
            if excused:
                found.excused[excused] += 1
                continue
            there = number.get(after)
            if there is None:
                there = number[after] = len(order)
                order.append(after)
                came_from.append(here)
                by.append(label)
                depth.append(depth[here] + 1)
                frontier.append(there)
            if goal is not None:
                edges_from.append(here)
                edges_to.append(there)
        if len(order) >= most:
            return _closed(found, order, depth, began)
    found.exhausted = True
    if goal is not None:
        trap = _trap(order, goal, edges_from, edges_to)
        found.trapped = _way(came_from, by, trap) if trap >= 0 else []
    return _closed(found, order, depth, began)


def _closed(found: Found, order: list[tuple], depth: array, began: float) -> Found:
    found.states, found.depth = len(order), max(depth)
    found.seconds = time.perf_counter() - began
    return found


def _way(came_from: array, by: list[str], here: int) -> list[str]:
    labels = []
    while came_from[here] >= 0:
        labels.append(by[here])
        here = came_from[here]
    return labels[::-1]


def _trap(order: list[tuple], goal: Callable[[tuple], bool], edges_from: array, edges_to: array) -> int:
    """The first state from which no goal is reachable; -1 if there is none. Backwards from all goals at once."""
    before: list[array | None] = [None] * len(order)
    for source, target in zip(edges_from, edges_to, strict=True):
        sources = before[target]
        if sources is None:
            sources = before[target] = array("l")
        sources.append(source)
    safe = bytearray(len(order))
    stack = [index for index, state in enumerate(order) if goal(state)]
    for index in stack:
        safe[index] = 1
    while stack:
        for source in before[stack.pop()] or ():
            if not safe[source]:
                safe[source] = 1
                stack.append(source)
    return safe.find(0)
