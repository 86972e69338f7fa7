"""The outbox: delivers alerts from the journal, however often it takes and however often the collector dies meanwhile.

Rules
-----
* An alert is in the outbox because it was committed with the step that raised it; it leaves only when its sink has
  taken it, and that is journaled in one transaction with the mark. A crash between the two delivers again, with the
  same key.
* Retries come after 1, 2, 4 .. s, at most 5 min; attempts and the next try are durable.
* Per sink and alert the oldest parcel goes first: its end is never told before its beginning.
* A sink that hangs holds up nothing but itself. One whose delivery cannot be noted, for whatever reason, pauses as long
  as one that refuses: the same alert is never delivered again and again without a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.sinks import Sink, SinkError
from poolwarden_collector.shell.store.journal import Journal, JournalError, Parcel, Row

FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 300_000
_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)

Write = Callable[..., Awaitable[Any]]  # runs a journal call in the one writer thread


def retry_after_ms(attempts: int) -> int:
    """How long a parcel that has been tried so often before waits for its next try, ms."""
    return min(LAST_RETRY_MS, FIRST_RETRY_MS << min(attempts, 16))


class Outbox:
    """Delivers what ``journal`` holds to ``sinks``; ``committed`` is told the rows of each delivery."""

    def __init__(
        self, journal: Journal, sinks: tuple[Sink, ...], write: Write, committed: Callable[[list[Row]], None]
    ) -> None:
        self._journal = journal
        self._sinks = {sink.name: sink for sink in sinks}
        self._write = write
        self._committed = committed
        self._threads = {sink.name: ThreadPoolExecutor(1, f"sink-{sink.name}") for sink in sinks}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, int] = {}  # deliveries in a row that could not be noted
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Deliver nothing more; what is under way is given up and tried again at the next start."""
        tasks = [*self._busy.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def nudge(self) -> None:
        """There is something new."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except JournalError as error:
                _log.error("alerts wait: %s", error)
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _look(self) -> None:
        now = clock.wall_ms()
        for parcel in await self._write(self._journal.parcels):
            # A wall clock that was set back must not postpone an alert beyond the longest retry.
            due = parcel.next_try_ms <= now or parcel.next_try_ms > now + LAST_RETRY_MS
            if due and parcel.sink in self._sinks and parcel.sink not in self._busy:
                task = asyncio.ensure_future(self._deliver(parcel))
                self._busy[parcel.sink] = task
                task.add_done_callback(lambda _, sink=parcel.sink: self._freed(sink))  # type: ignore[misc]

    def _freed(self, sink: str) -> None:
        self._busy.pop(sink, None)
        self._wake.set()

    async def _deliver(self, parcel: Parcel) -> None:
        sink = self._sinks[parcel.sink]
        loop = asyncio.get_running_loop()
        try:
            try:
                await loop.run_in_executor(self._threads[parcel.sink], sink.deliver, parcel)
            except SinkError as error:
                await self._postpone(parcel, str(error))
            else:
                self._committed(await self._write(self._journal.delivered, parcel, _entry(parcel)))
            self._failed.pop(parcel.sink, None)
        except Exception as error:
            failed = self._failed.get(parcel.sink, 0)
            self._failed[parcel.sink] = failed + 1
            wait = retry_after_ms(failed)
            _log.error("alert %s: what came of it cannot be noted: %s; again in %d s", parcel.key, error, wait / 1000)
            await asyncio.sleep(wait / 1000)

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
