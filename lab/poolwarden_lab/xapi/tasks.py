"""Cooperative tasks: how the model waits without a clock, a thread or a socket.

xapi is threads that block: on time, on a peer, on each other. Here each of them is a generator that yields what it
waits for (`Sleep`, `Ask`, `Until`) and is resumed by the engine when that has come. The engine itself never waits: its
driver tells it the time and the peers' replies, and takes the actions that have piled up.

Rules: a task is resumed only from `settle`, in the order in which it became ready, so that one input's consequences are
deterministic; a stale timer or reply (the task went on by another way) is recognised by its token and ignored; after
`stop` nothing runs any more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from poolwarden_lab.xapi.actions import (
    Action,
    Answer,
    CancelPeer,
    Event,
    Fault,
    HttpFailure,
    Lost,
    PeerCall,
    PeerLost,
    PeerResult,
    WakeAt,
    XapiFault,
)

T = TypeVar("T")


@dataclass(eq=False)
class Signal:
    """Something that happens now and then; `fire` resumes everybody who waits for it at that moment."""

    waiters: list[tuple[Running, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sleep:
    ms: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One call to a peer; resumed with a PeerResult."""

    address: str
    method: str
    params: tuple[object, ...]
    limit_ms: int | None


@dataclass(frozen=True, slots=True)
class Until:
    """Wait for a signal; resumed with True, or with False when the limit passed first."""

    signal: Signal
    limit_ms: int | None = None


Wait = Sleep | Ask | Until
Task = Generator[Wait, Any, T]
Done = Callable[[object, Exception | None], None]


@dataclass(eq=False)
class Running:
    name: str
    task: Task[object]
    done: Done | None
    token: int = 0
    asked: int | None = None


def ask(address: str, method: str, *params: object, limit_ms: int | None = None) -> Task[object]:
    """Call a peer. Raises XapiFault, HttpFailure or PeerLost."""
    result: PeerResult = yield Ask(address, method, params, limit_ms)
    if isinstance(result, Answer):
        return result.value
    if isinstance(result, Fault):
        raise XapiFault(result.code, *result.params)
    if result.why.startswith("http-"):
        raise HttpFailure(int(result.why[5:]))
    raise PeerLost(result.why)


class Engine:
    """Runs tasks. `now` is the time of the input that is being handled, ms."""

    def __init__(self) -> None:
        self.now = 0
        self._out: list[Action] = []
        self._timers: list[tuple[int, int, Running, int]] = []
        self._ready: deque[tuple[Running, object]] = deque()
        self._asks: dict[int, tuple[Running, int]] = {}
        self._numbers = 0
        self._stopped = False
        self._told: int | None = None  # the last WakeAt

    # -------------------------------------------------------------------------------- for the model

    def emit(self, action: Action) -> None:
        if not self._stopped:
            self._out.append(action)

    def event(self, name: str, **facts: object) -> None:
        self.emit(Event(name, {key: str(value) for key, value in facts.items()}))

    def spawn(self, name: str, task: Task[Any], done: Done | None = None) -> None:
        """Start a task. `done` gets its value, or the exception that ended it; without `done` that is an event."""
        self._ready.append((Running(name, task, done), None))

    def fire(self, signal: Signal) -> None:
        waiters, signal.waiters = signal.waiters, []
        for running, token in waiters:
            self._resume(running, token, True)

    def stop(self) -> None:
        """Nothing runs or is emitted any more: the process is gone."""
        self._stopped = True
        self._ready.clear()

    # -------------------------------------------------------------------------------- for the driver, by the model

    def settle(self, now: int) -> list[Action]:
        """Run everything that is due or ready at `now`; the actions since the last call."""
        self.now = max(self.now, now)
        while not self._stopped and (self._ready or (self._timers and self._timers[0][0] <= self.now)):
            while self._timers and self._timers[0][0] <= self.now:
                _, _, running, token = heapq.heappop(self._timers)
                self._time_out(running, token)
            if self._ready:
                self._advance(*self._ready.popleft())
        if self._timers and not self._stopped:
            self._wake_at(self._timers[0][0])
        out, self._out = self._out, []
        return out

    @property
    def next_due(self) -> int | None:
        """When the next timer is due, ms; None: nothing waits for time."""
        return self._timers[0][0] if self._timers and not self._stopped else None

    def answered(self, number: int, result: PeerResult) -> None:
        running, token = self._asks.pop(number, (None, 0))
        if running is not None:
            running.asked = None
            self._resume(running, token, result)

    # -------------------------------------------------------------------------------- inside

    def _wake_at(self, at_ms: int) -> None:
        """Say it once: the driver keeps every wake-up it was told of until that has passed."""
        if self._told is None or self._told <= self.now or at_ms < self._told:
            self._told = at_ms
            self._out.append(WakeAt(at_ms))

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _resume(self, running: Running, token: int, value: object) -> None:
        if running.token == token:
            running.token += 1
            self._ready.append((running, value))

    def _time_out(self, running: Running, token: int) -> None:
        if running.token != token:
            return
        value: object = False
        if running.asked is not None:
            self._asks.pop(running.asked, None)
            self.emit(CancelPeer(running.asked))
            running.asked = None
            value = Lost("timeout")
        self._resume(running, token, value)

    def _advance(self, running: Running, value: object) -> None:
        try:
            wait = running.task.send(value)
        except StopIteration as stop:
            self._finish(running, stop.value, None)
        except (XapiFault, HttpFailure, PeerLost, OSError, ValueError) as error:
            self._finish(running, None, error)
        except Exception as error:
            if running.done is None:
                raise
            self._finish(running, None, error)  # e.g. a caller's parameters of a wrong type: INTERNAL_ERROR for it
        else:
            self._wait(running, wait)

    def _finish(self, running: Running, value: object, error: Exception | None) -> None:
        if running.done is not None:
            running.done(value, error)
        elif error is not None:
            self.event("task-failed", task=running.name, error=repr(error))

    def _wait(self, running: Running, wait: Wait) -> None:
        limit = wait.ms if isinstance(wait, Sleep) else wait.limit_ms
        if isinstance(wait, Ask):
            running.asked = self._number()
            self._asks[running.asked] = (running, running.token)
            self.emit(PeerCall(running.asked, wait.address, wait.method, wait.params))
        elif isinstance(wait, Until):
            waiters = [waiter for waiter in wait.signal.waiters if waiter[0].token == waiter[1]]
            wait.signal.waiters = [*waiters, (running, running.token)]
        if limit is not None:
            heapq.heappush(self._timers, (self.now + limit, self._number(), running, running.token))
