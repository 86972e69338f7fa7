"""When it is looked at why xapi does not start: once for each process that has ended, and for a start that takes long.

Rules
-----
* Never on a xapi that is well, and never periodically: a look belongs to an end, a start, or a question.
* Two looks are ``GAP_MS`` apart at least, whatever xapi does: a crash loop is looked at each half minute.
* A look waits ``SETTLE_MS`` after an end: what a process said last comes to its log a moment later.
* What was found holds until the same xapi has answered for a minute.
* A xapi that is held stopped by a toolstack fence, or that waits for its boot gate, has no trouble of its own.
"""

from typing import Callable, NamedTuple, Optional

from poolwarden.xapi_causes import NO_TROUBLE, Trouble
from poolwarden_agent.core.health import EMERGENCY, SLOW
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.probe_rules import ANSWERS, DOWN, STARTING
from poolwarden_agent.host_port import HostPort

SETTLE_MS = 2000
GAP_MS = 30000
WELL_MS = 60000
LONG_MS = (120000, 600000)  # a start, or a xapi that is there and not up, is looked at when it has lasted so long
ABSENT_MS = 30000  # no process since the agent began, or since before it

Known = NamedTuple("Known", [("trouble", Trouble), ("at_ms", int), ("ended_ms", int)])
NOTHING_KNOWN = Known(NO_TROUBLE, 0, 0)
_UP = (ANSWERS, SLOW)
_NOT_UP = (STARTING, DOWN, EMERGENCY)


class TroubleWatch(object):
    """One host's xapi over time. ``known`` is replaced as a whole: any thread may read it."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self.waits: Callable[[], bool] = lambda: False  # does xapi wait for its boot gate?
        self.known = NOTHING_KNOWN
        self._process = NO_PROCESS
        self._since_ms = 0  # since when it is as it is: this process, and this word of its health
        self._word = ""
        self._looks = 0  # at the present state
        self._ended_pid = 0
        self._ended_ms = 0
        self._due_ms = 0  # when an end is looked at; 0: no end is to be looked at
        self._last_ms: Optional[int] = None

    def look(self, process: Process, word: str, held: bool, now_ms: int) -> None:
        """xapi as it was seen last; to be called for each look at the host."""
        if held or (process == NO_PROCESS and self.waits()):
            self.known, self._due_ms, self._process, self._word = NOTHING_KNOWN, 0, process, ""
            self._since_ms, self._looks = now_ms, 0
            return
        self._note(process, word, now_ms)
        if word in _UP and process != NO_PROCESS and now_ms - self._since_ms >= WELL_MS:
            self.known, self._due_ms = NOTHING_KNOWN, 0
        elif self._due(now_ms):
            self._take(process, now_ms)

    def _note(self, process: Process, word: str, now_ms: int) -> None:
        if process != self._process and self._process != NO_PROCESS:
            self._ended_pid, self._ended_ms = self._process.pid, now_ms
            self._due_ms = self._due_ms or now_ms + SETTLE_MS  # a loop that is quicker than that is looked at, too
        up = word in _UP
        if process != self._process or up != (self._word in _UP):
            self._since_ms, self._looks = now_ms, 0
        self._process, self._word = process, word

    def _due(self, now_ms: int) -> bool:
        if self._last_ms is not None and now_ms - self._last_ms < GAP_MS:
            return False
        if self._due_ms:
            return now_ms >= self._due_ms
        if self._word not in _NOT_UP or self._looks >= len(LONG_MS):
            return False
        limits = (ABSENT_MS, *LONG_MS[1:]) if self._process == NO_PROCESS else LONG_MS
        return now_ms - self._since_ms >= limits[self._looks]

    def _take(self, process: Process, now_ms: int) -> None:
        ended = bool(self._due_ms) or process == NO_PROCESS
        found = self._port.xapi_trouble(self._ended_pid, not ended)
        self._due_ms, self._last_ms = 0, now_ms
        self._looks += 1
        if found is not None:
            at = self._port.mono_ms()
            self.known = Known(found, at, self._ended_ms if ended else 0) if found.cause else NOTHING_KNOWN

    def ask(self) -> Known:
        """A look now, because somebody asks."""
        found = self._port.xapi_trouble(self._ended_pid, self._process != NO_PROCESS)
        there = self._process != NO_PROCESS
        return Known(found or NO_TROUBLE, self._port.mono_ms(), 0 if there else self._ended_ms)
