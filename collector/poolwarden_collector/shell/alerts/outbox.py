"""The outbox: delivers alerts from the journal, however often it takes and however often the collector dies meanwhile.

Rules
-----
* An alert is in the outbox because it was committed with the step that raised it; it leaves only when its sink has
  taken it, and that is journaled in one transaction with the mark. A crash between the two delivers again, with the
  same key.
* Retries come after 1, 2, 4 .. s, at most 5 min; attempts and the next try are durable.
* Per sink and alert the oldest parcel goes first: its end is never told before its beginning. However many wait, the
  next one is found by an index; all of them are looked at once a second at most.
* An alert that is silenced waits as ``held`` and is no parcel meanwhile; when silences end is looked at here, as are
  storms, reminders and what is over before it was told (store/parcels.py and its neighbours).
* Whoever must be told again and again what is open (``Refreshing``) is, in its own thread, between two deliveries.
* A sink that hangs holds up nothing but itself. One whose delivery cannot be noted, for whatever reason, pauses as long
  as one that refuses: the same alert is never delivered again and again without a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.sinks import Refreshing, Sink, SinkError
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.queue.lookout import Lookout, Pauses
from poolwarden_collector.shell.store.journal import Journal, JournalError, Parcel, Row

FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 300_000

_log = logging.getLogger(__name__)

Write = Callable[..., Awaitable[Any]]  # runs a journal call in the one writer thread


def retry_after_ms(attempts: int) -> int:
    """How long a parcel that has been tried so often before waits for its next try, ms."""
    return min(LAST_RETRY_MS, FIRST_RETRY_MS << min(attempts, 16))


class Outbox:
    """Delivers what ``journal`` holds to ``sinks``; ``committed`` is told the rows of each delivery."""

    def __init__(
        self,
        journal: Journal,
        sinks: tuple[Sink, ...],
        write: Write,
        committed: Callable[[list[Row]], None],
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """``alive``: does the collector do its work? For the dead man's alert of those that have one."""
        self._journal = journal
        self._alive = alive
        self._sinks = {sink.name: sink for sink in sinks}
        self._write = write
        self._committed = committed
        self._threads = {sink.name: ThreadPoolExecutor(1, f"sink-{sink.name}") for sink in sinks}
        self._lookout = Lookout("alerts", self._look, JournalError)
        self._tidy = True  # it could be brought up to date
        self._tidy_at = 0.0  # when it is again
        self._telling: dict[str, str] = {}  # the key of what each busy sink is told
        self._refreshing = {sink.name: sink for sink in sinks if isinstance(sink, Refreshing)}
        self._refresh_at = dict.fromkeys(self._refreshing, 0.0)
        self._refused: dict[str, str] = {}  # why the last refresh was not taken
        self._pauses = Pauses(FIRST_RETRY_MS / 1000, LAST_RETRY_MS / 1000)  # after deliveries that could not be noted

    def start(self) -> None:
        self._lookout.start()

    async def stop(self) -> None:
        """Deliver nothing more; what is under way is given up and tried again at the next start."""
        await self._lookout.stop()
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of all."""
        return tuple(self._sinks)

    async def send(self, parcel: Parcel) -> None:
        """Deliver this parcel, which is in no journal, once. Raises SinkError if it is not taken."""
        thread = self._threads[parcel.sink]
        await asyncio.get_running_loop().run_in_executor(thread, self._sinks[parcel.sink].deliver, parcel)

    def replace_sinks(self, sinks: tuple[Sink, ...]) -> None:
        """From now on these are the sinks; a delivery that is under way ends as it began."""
        self._sinks = {sink.name: sink for sink in sinks}
        for name in self._threads.keys() - self._sinks.keys():
            self._threads.pop(name).shutdown(wait=False)
            self._pauses.over(name)
            self._refused.pop(name, None)
        for name in self._sinks.keys() - self._threads.keys():
            self._threads[name] = ThreadPoolExecutor(1, f"sink-{name}")
        self._refreshing = {sink.name: sink for sink in sinks if isinstance(sink, Refreshing)}
        self._refresh_at = {name: self._refresh_at.get(name, 0.0) for name in self._refreshing}
        self._lookout.nudge()

    def nudge(self) -> None:
        """There is something new."""
        self._lookout.nudge()

    async def _look(self) -> bool:
        now = clock.wall_ms()
        await self._bring_up_to_date(now)
        self._refresh_all()
        for sink in [name for name in self._sinks if name not in self._lookout.busy]:
            # One by one: between two of them the engine's commits have their turn.
            for parcel in await self._write(self._journal.due, (sink,), now, self._tidy):
                if sink not in self._sinks:
                    continue  # it was removed meanwhile
                self._telling[sink] = parcel.key
                # Begun here, not when the task has its first turn: until then the sink may have been replaced.
                call = asyncio.get_running_loop().run_in_executor(
                    self._threads[sink], self._sinks[sink].deliver, parcel
                )
                self._occupy(sink, self._deliver(parcel, call))
        return True

    async def _bring_up_to_date(self, now: Ms) -> None:
        """Not after each delivery: it looks at all that waits, and nothing of it is due within less than a second."""
        if asyncio.get_running_loop().time() < self._tidy_at:
            return
        try:
            self._committed(await self._write(self._journal.end_silences))
            while await self._write(self._journal.tidy, dict(self._telling), now):
                pass  # bit by bit: between two of them the engine's commits have their turn
            self._tidy = True
        except JournalError as error:
            # What can be told is told, one by one: a storm cannot be made of it now.
            self._tidy = False
            _log.error("alerts are not brought up to date: %s", error)
        self._tidy_at = asyncio.get_running_loop().time() + lookout.LOOK_EVERY_S

    def _occupy(self, sink: str, call: Coroutine[Any, Any, None]) -> None:
        """Run what one sink does; it is busy until then."""
        self._lookout.begin(sink, call, lambda: self._telling.pop(sink, None))

    def _refresh_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for name, sink in self._refreshing.items():
            if name not in self._lookout.busy and now >= self._refresh_at[name]:
                self._refresh_at[name] = now + sink.refresh_every_s
                self._occupy(name, self._refresh(sink, self._threads[name]))

    async def _refresh(self, sink: Refreshing, thread: ThreadPoolExecutor) -> None:
        try:
            taken = await self._write(self._journal.taken, sink.name)
            call = partial(sink.refresh, taken, self._alive())
            await asyncio.get_running_loop().run_in_executor(thread, call)
        except Exception as error:
            if self._refused.get(sink.name) != str(error):
                _log.warning("open alerts are not refreshed at %s: %s", sink.name, error)
            self._refused[sink.name] = str(error)
        else:
            self._refused.pop(sink.name, None)

    async def _deliver(self, parcel: Parcel, call: Awaitable[None]) -> None:
        try:
            try:
                await call
            except SinkError as error:
                await self._postpone(parcel, str(error))
            else:
                self._committed(await self._write(self._journal.delivered, parcel, _entry(parcel)))
            self._pauses.over(parcel.sink)
        except Exception as error:
            pause = self._pauses.next_s(parcel.sink)
            _log.error("alert %s: what came of it cannot be noted: %s; again in %d s", parcel.key, error, pause)
            await asyncio.sleep(pause)

    async def _postpone(self, parcel: Parcel, error: str) -> None:
        wait = retry_after_ms(parcel.attempts)
        _log.warning("alert %s to %s: %s; again in %.0f s", parcel.key, parcel.sink, error, wait / 1000)
        await self._write(self._journal.undelivered, parcel, error, clock.wall_ms() + wait)


def _entry(parcel: Parcel) -> Entry:
    attempts = parcel.attempts + 1
    often = f" at attempt {attempts}" if attempts > 1 else ""
    text = f"alert ({parcel.state}) delivered to {parcel.sink}{often}: {parcel.payload.get('title', '')}"
    data = {"key": parcel.key, "sink": parcel.sink, "state": parcel.state, "attempts": attempts}
    return Entry(Kind.ALERT_DELIVERED, text, data)
