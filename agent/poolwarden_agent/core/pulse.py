"""Does the collector that has welcomed this host still work through what it is told? Pure.

Rules
-----
* Whatever is heard is an answer. Where nothing was heard for 10 s it is asked (Ping), where the answer does not come
  within 20 s either its stream is given up for the next address. Each time later, up to 320 s, until an answer comes:
  a collector that is late is made later by whoever comes again.
* Asked is only where that helps: of several addresses, and a collector that says that it answers.
"""

from typing import Optional

ASK_AFTER_MS = 10000
FIRST_LIMIT_MS = 20000
LONGEST_LIMIT_MS = 320000


class Pulse(object):
    """Of one stream after the other. Instants are this host's monotonic clock, ms."""

    def __init__(self) -> None:
        self._heard_ms = 0
        self._asked_ms: Optional[int] = None
        self._given_up = 0  # streams in succession
        self._asks = False
        self._number = 0

    def begin(self) -> None:
        """Another stream is up: nothing is asked before it is welcomed."""
        self._asks, self._asked_ms = False, None

    def welcomed(self, now_ms: int, answers: bool) -> None:
        """It is welcomed, by a collector that answers or does not know the question."""
        self._asks, self._asked_ms, self._heard_ms = answers, None, now_ms

    def heard(self, now_ms: int) -> None:
        """Something came from the collector."""
        if self._asked_ms is not None:
            self._given_up = 0
        self._heard_ms, self._asked_ms = now_ms, None

    def due(self, now_ms: int) -> int:
        """The number of the question to be asked now; 0: none."""
        if not self._asks or self._asked_ms is not None or now_ms - self._heard_ms < ASK_AFTER_MS:
            return 0
        self._asked_ms = now_ms
        self._number += 1
        return self._number

    def gone(self, now_ms: int) -> bool:
        """Is the stream to be given up? Told once for each."""
        if self._asked_ms is None or now_ms - self._asked_ms < self.limit_ms():
            return False
        self._given_up += 1
        self.begin()
        return True

    def limit_ms(self) -> int:
        """How long an answer may take now."""
        return min(LONGEST_LIMIT_MS, FIRST_LIMIT_MS << min(self._given_up, 5))
