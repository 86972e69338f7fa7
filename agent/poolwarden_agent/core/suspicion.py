"""When a host keeps an evidence capsule: at the first sign that something is wrong, and once more some minutes later.

Rules
-----
* What counts is a change: the master begins to leave this member without an answer, xapi's process ends, xapi begins to
  hang or reports an emergency, an order to promote or to hold arrives, a collector says that it suspects something.
* The first sign counts. What follows belongs to it and is named in the capsule that is kept ``AFTER_MS`` later, which
  holds what the logs said meanwhile.
* After a first sign there is none for ``GAP_MS``, and for twice as long each time that one follows within a day, up to
  ``LONGEST_GAP_MS``: neither a link that flaps nor a xapi that dies every minute keeps this host busy.
* A toolstack that is held stopped is no sign, nor is whatever was so when the agent began to look.

Pure; nothing decides by it.
"""

from typing import List, NamedTuple, Optional

from poolwarden_agent.core.health import EMERGENCY, HUNG, ORPHANED, SLOW, WEDGED
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.probe_rules import ANSWERS

GAP_MS = 600000
LONGEST_GAP_MS = 4 * 3600000
AFTER_MS = 300000
DAY_MS = 24 * 3600000
MOST_NAMED = 5
LONGEST_TEXT = 200
MASTER_SILENT, XAPI_ENDED, XAPI_HANGS = "master-silent", "xapi-ended", "xapi-hangs"
ORDER, COLLECTOR, AFTERWARDS = "order", "collector", "afterwards"
_HANGS = (WEDGED, HUNG, EMERGENCY)
_WAS_UP = (ANSWERS, SLOW, ORPHANED)  # while it starts it reports an emergency of its own: that it is still booting


class Reason(NamedTuple):
    """Why a capsule is kept: a stable word, and one sentence."""

    word: str
    text: str


class Signs(NamedTuple):
    """What is looked at; ``word``: xapi's health."""

    process: Process
    word: str
    held: bool
    orphaned: bool
    master: str = ""


class Suspicion(object):
    """One host over time; one thread at a time."""

    def __init__(self) -> None:
        self._before: Optional[Signs] = None
        self._last_ms: Optional[int] = None
        self._gap_ms = GAP_MS
        self._after_ms: Optional[int] = None
        self._first = Reason("", "")
        self._also: List[str] = []

    def begun(self, at_ms: int) -> None:
        """A capsule was begun then, by an agent of this boot that has ended since."""
        self._last_ms = at_ms if self._last_ms is None else max(self._last_ms, at_ms)

    def look(self, signs: Signs, now_ms: int) -> Optional[Reason]:
        """Why a capsule is to be kept now; None: it is not."""
        before, self._before = self._before, signs
        found = _change(before, signs) if before is not None else None
        reason = self.told(found, now_ms) if found is not None else None
        if reason is None and self._after_ms is not None and now_ms >= self._after_ms:
            self._after_ms = None
            also = "; then %s" % "; ".join(self._also) if self._also else ""
            return Reason(AFTERWARDS, "%d min after: %s%s" % (AFTER_MS // 60000, self._first.text, also))
        return reason

    def told(self, reason: Reason, now_ms: int) -> Optional[Reason]:
        """A sign that no look shows: the reason if a capsule is to be kept for it now."""
        last = self._last_ms
        if last is not None and now_ms - last < self._gap_ms:
            if reason.text not in self._also and len(self._also) < MOST_NAMED:
                self._also.append(reason.text)
            return None
        again = last is not None and now_ms - last < DAY_MS
        self._gap_ms = min(self._gap_ms * 2, LONGEST_GAP_MS) if again else GAP_MS
        self._last_ms, self._after_ms = now_ms, now_ms + AFTER_MS
        self._first, self._also = reason, []
        return reason


def _change(before: Signs, now: Signs) -> Optional[Reason]:
    if now.orphaned and not before.orphaned:
        return Reason(MASTER_SILENT, "the master %s does not answer this member" % now.master)
    if now.held:
        return None
    if before.process not in (NO_PROCESS, now.process):
        return Reason(XAPI_ENDED, "xapi's process %d has ended" % before.process.pid)
    if now.word in _HANGS and before.word in _WAS_UP:
        return Reason(XAPI_HANGS, "xapi is %s" % now.word)
    return None
