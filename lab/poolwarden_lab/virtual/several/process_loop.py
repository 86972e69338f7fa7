"""The event loop of one simulated process: asyncio on the world's clock, so that production's own coroutines run in it.

What is ready runs in one event of the world; a timer is an event of the world. While the process stands still nothing
runs and what came is run when it goes on; once it has ended nothing runs any more. Between any two callbacks, so at
every ``await`` of every coroutine, ``at_await`` is called: the process may be stopped or killed right there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

At = Callable[[int, Callable[[], None]], None]  # an instant, ms, and what to do then


class ProcessGone(SystemExit):
    """The process died in the middle of what it did: no handler of it catches this."""


class ProcessLoop(asyncio.AbstractEventLoop):
    """See the module's words. ``now`` and ``at`` are the world's clock, ``clock`` the process' monotonic one."""

    def __init__(self, now: Callable[[], int], at: At, clock: Callable[[], int]) -> None:
        self.at_await: Callable[[], None] = lambda: None
        self.awaits = 0
        self._now, self._at, self._clock = now, at, clock
        self._late: list[asyncio.TimerHandle] = []  # due while it stood still
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._due = False
        self._stands = False
        self._over = False
        self._error: BaseException | None = None

    # ------------------------------------------------------------------------------------------ the process's life

    def stand_still(self) -> None:
        """From here on nothing runs."""
        self._stands = True

    def go_on(self) -> None:
        """What is ready runs."""
        self._stands = False
        late, self._late = self._late, []
        for handle in late:
            self._fire(handle)
        self._wake()

    def end(self) -> None:
        """Nothing runs any more; coroutines are closed in an event of their own."""
        self._over = True
        self._ready.clear()
        self._at(self._now(), self.close_all)

    def close_all(self) -> None:
        """Close what waits still."""
        self._over = True
        self._ready.clear()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            coroutine = task.get_coro()
            if not task.done() and coroutine is not None:
                # Whatever its cleaning up would wait for belongs to a process that is no more.
                with contextlib.suppress(RuntimeError, ProcessGone), _running(self):
                    coroutine.close()
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def fail(self, error: BaseException) -> ProcessGone:
        """An error that ends the run, whoever would catch it here: raise what is returned."""
        self._error = self._error or error
        return ProcessGone(str(error))

    # ------------------------------------------------------------------------------------------ running

    def _wake(self) -> None:
        if not self._due and self._ready and not self._stands and not self._over:
            self._due = True
            self._at(self._now(), self._run)

    def _run(self) -> None:
        self._due = False
        while self._ready and not self._stands and not self._over:
            self.awaits += 1
            self.at_await()
            if self._stands or self._over:
                break
            handle = self._ready.popleft()
            if not handle.cancelled():
                with contextlib.suppress(ProcessGone), _running(self):
                    handle._run()
            self._raise()
        self._wake()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A callback or a task that nobody waits for has failed: a fault of the code under test."""
        error = context.get("exception")
        if not self._over and error is not None:
            self._error = self._error or error

    # ------------------------------------------------------------------------------------------ what asyncio asks of it

    def time(self) -> float:
        return self._clock() / 1000

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._over

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            self._ready.append(handle)
            self._wake()
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._due_later(handle)
        return handle

    def _due_later(self, handle: asyncio.TimerHandle) -> None:
        left = max(0, round(handle.when() * 1000) - self._clock())
        self._at(self._now() + left, lambda: self._fire(handle))

    def _fire(self, handle: asyncio.TimerHandle) -> None:
        if handle.cancelled() or self._over:
            return
        if self._stands:
            self._late.append(handle)
        elif self._clock() < round(handle.when() * 1000):
            self._due_later(handle)
        else:
            self._ready.append(handle)
            self._wake()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when it is due."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > 64:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def own(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends with the process alone: its error ends the run."""
        task = self.create_task(coro)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ProcessGone):
            self._error = self._error or error


class _running:
    """Within it asyncio takes this loop for the one that runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._before = asyncio._get_running_loop()
        asyncio._set_running_loop(self._loop)

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(self._before)
