"""The one alert that needs no disk: that nothing can be recorded, so that nothing is decided or done.

Rules
-----
* Every other alert is in the outbox because it was committed. While the journal's disk is full or broken nothing can be
  committed, and that is what a person has to know: it goes to syslog at once, and to every channel directly.
* It is told once the state has lasted ``TELL_AFTER_S``, once to each channel, tried again after 1, 2, 4 .. s, at most
  5 min, until the channel has taken it or the state is over. Its end is told to the channels that took its beginning.
* Nothing of it is durable: a collector that is restarted on a full disk does not start, and says so by its exit status.
"""

from __future__ import annotations

import asyncio
import logging
import syslog
from collections.abc import Callable

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.journal import Parcel
from poolwarden_collector.shell.outbox import retry_after_ms
from poolwarden_collector.shell.sinks import Sink, SinkError

KEY = "collector/journal"
TELL_AFTER_S = 10.0
_NEXT_STEP = (
    "No pool of this collector is guarded until then. Make room on the disk of its state directory, or mend it; it "
    "goes on by itself. poolwarden status shows what it saw last."
)

_log = logging.getLogger(__name__)


def to_syslog(text: str) -> None:
    """At priority daemon.crit; where no syslog listens nothing happens (syslog(3))."""
    syslog.syslog(syslog.LOG_DAEMON | syslog.LOG_CRIT, text)


class Diskless:
    """Told by the service whenever the journal could not be written, and when it can be again."""

    def __init__(
        self,
        sinks: tuple[Sink, ...],
        collector: str,
        say: Callable[[str], None] = to_syslog,
        after_s: float = TELL_AFTER_S,
    ) -> None:
        """``say``: writes one line to syslog; ``after_s``: for how long before the channels are told."""
        self._sinks = sinks
        self._collector = collector
        self._say = say
        self._after_s = after_s
        self._since: float | None = None
        self._occurrence = 0
        self._raised_at = ""
        self._told: set[str] = set()  # the channels that took the beginning
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling = False

    def stalled(self, why: str) -> None:
        """The journal cannot be written (again): ``why`` in one clause. Called at each attempt."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since, self._occurrence = now, clock.wall_ms() // 1000
            self._raised_at, self._telling = clock.wall_text(), False
            self._told.clear()
            self._say(f"poolwarden: {self._title()}: {why}")
        if not self._telling and now - self._since >= self._after_s:
            self._telling = True
            self._to_all("firing", f"{why}. {_NEXT_STEP}", self._sinks)

    def over(self) -> None:
        """It can be written again."""
        if self._since is None:
            return
        lasted = asyncio.get_running_loop().time() - self._since
        self._since = None
        self._cancel()
        text = f"the journal can be written again, after {lasted:.0f} s"
        self._say(f"poolwarden: {self._collector}: {text}")
        self._to_all("resolved", text, tuple(sink for sink in self._sinks if sink.name in self._told))

    async def stop(self) -> None:
        """Tell nothing more."""
        tasks = tuple(self._tasks)
        self._cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _title(self) -> str:
        return f"{self._collector}: NOTHING IS DECIDED OR DONE: the collector cannot record anything"

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _to_all(self, state: str, body: str, sinks: tuple[Sink, ...]) -> None:
        for sink in sinks:
            task = asyncio.ensure_future(self._deliver(sink, state, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, sink: Sink, state: str, body: str) -> None:
        attempts = 0
        while True:
            parcel = self._parcel(sink.name, state, body, attempts)
            try:
                await asyncio.to_thread(sink.deliver, parcel)
            except SinkError as error:
                wait = retry_after_ms(attempts) / 1000
                _log.warning("alert %s to %s: %s; again in %.0f s", KEY, sink.name, error, wait)
                attempts += 1
                await asyncio.sleep(wait)
            else:
                if state == "firing":
                    self._told.add(sink.name)
                return

    def _parcel(self, sink: str, state: str, body: str, attempts: int) -> Parcel:
        payload = {
            "key": KEY,
            "occurrence": self._occurrence,
            "state": state,
            "severity": "critical",
            "title": self._title(),
            "body": body,
            "pool": {"uuid": "", "name": ""},
            "collector": self._collector,
            "raised_at": self._raised_at,
            "resolved_at": clock.wall_text() if state == "resolved" else "",
            "data": {},
        }
        return Parcel(0, KEY, self._occurrence, state, sink, "", payload, attempts, 0)
