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
import contextlib
import logging
import syslog
from collections.abc import Callable
from dataclasses import dataclass, field

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.outbox import retry_after_ms
from poolwarden_collector.shell.alerts.sinks import Sink, SinkError
from poolwarden_collector.shell.store.journal import Parcel

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


@dataclass(slots=True)
class Episode:
    """One time that nothing can be recorded; ``occurrence``: its begin, s since 1970."""

    occurrence: int
    raised_at: str
    text: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Diskless:
    """Told by the service whenever the journal could not be written, and when it can be again."""

    def __init__(
        self,
        sinks: tuple[Sink, ...],
        collector: str,
        say: Callable[[str], None] = to_syslog,
        after_s: float = TELL_AFTER_S,
        key: str = KEY,
    ) -> None:
        """``say``: writes one line to syslog; ``after_s``: for how long before the channels are told; ``key``: of the
        alert, of one of several its own.
        """
        self._key = key
        self._sinks = sinks
        self._collector = collector
        self._say = say
        self._after_s = after_s
        self._since: float | None = None
        self._episode: Episode | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def replace_sinks(self, sinks: tuple[Sink, ...]) -> None:
        """From now on these are told of a next time."""
        self._sinks = sinks

    def stalled(self, why: str) -> None:
        """The journal cannot be written (again): ``why`` in one clause. Called at each attempt."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
            self._say(f"poolwarden: {self._title()}: {why}")
        if self._episode is None and now - self._since >= self._after_s:
            self._episode = Episode(clock.wall_ms() // 1000, clock.wall_text())
            for sink in self._sinks:
                task = asyncio.ensure_future(self._tell(sink, self._episode, f"{why}. {_NEXT_STEP}"))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def over(self) -> None:
        """It can be written again."""
        if self._since is None:
            return
        text = f"the journal can be written again, after {asyncio.get_running_loop().time() - self._since:.0f} s"
        self._say(f"poolwarden: {self._collector}: {text}")
        if self._episode is not None:
            self._episode.text = text
            self._episode.over.set()
        self._since = self._episode = None

    async def stop(self) -> None:
        """Tell nothing more."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _title(self) -> str:
        return f"{self._collector}: NOTHING IS DECIDED OR DONE: the collector cannot record anything"

    async def _tell(self, sink: Sink, episode: Episode, body: str) -> None:
        """One channel's beginning, and after it, never before, its end."""
        if not await self._deliver(sink, episode, "firing", body, while_it_lasts=True):
            return
        await episode.over.wait()
        await self._deliver(sink, episode, "resolved", episode.text, while_it_lasts=False)

    async def _deliver(self, sink: Sink, episode: Episode, state: str, body: str, while_it_lasts: bool) -> bool:
        """Has the channel taken it? Tried again until it has, or until what it says is over."""
        attempts = 0
        while not (while_it_lasts and episode.over.is_set()):
            try:
                await asyncio.to_thread(sink.deliver, self._parcel(sink.name, episode, state, body, attempts))
            except SinkError as error:
                wait = retry_after_ms(attempts) / 1000
                _log.warning("alert %s to %s: %s; again in %.0f s", self._key, sink.name, error, wait)
                attempts += 1
                await self._pause(episode, wait, while_it_lasts)
            else:
                return True
        return False

    async def _pause(self, episode: Episode, wait: float, while_it_lasts: bool) -> None:
        if not while_it_lasts:
            await asyncio.sleep(wait)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await episode.over.wait()

    def _parcel(self, sink: str, episode: Episode, state: str, body: str, attempts: int) -> Parcel:
        payload = {
            "key": self._key,
            "occurrence": episode.occurrence,
            "state": state,
            "severity": "critical",
            "title": self._title(),
            "body": body,
            "pool": {"uuid": "", "name": ""},
            "collector": self._collector,
            "raised_at": episode.raised_at,
            "resolved_at": clock.wall_text() if state == "resolved" else "",
            "data": {},
        }
        return Parcel(0, self._key, episode.occurrence, state, sink, "", payload, attempts, 0)
