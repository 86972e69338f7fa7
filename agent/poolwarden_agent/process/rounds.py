"""The looks of one round, one right after the other, each in a thread of its own.

A thread that wakes up after two seconds finds nothing of its own in the processor's caches any more; for a short look
that costs ten times what the look itself does. So the looks of a round follow each other at once, and what they have
seen is reported when the last of them has ended: cheaper, and the news is milliseconds old.

Rules
-----
* No look waits for one that hangs: each begins an interval after its last begin, called or not, once a twentieth of
  it later than that.
* A look that fails is said, and made again: an observer that ended would leave facts that never age.
"""

import threading
import time
from typing import Callable, List, Optional

from poolwarden_agent.process import log

GRACE = 0.05  # of an interval: for the call that is due at the same moment as the look's own time
LEAST_PAUSE_S = 0.1  # after a look that took longer than its interval


class Look(object):
    """One look's loop. ``call`` lets it begin; ``then`` is called when it has ended."""

    def __init__(self, what: str, look: Callable[[], object], interval_s: Callable[[], float]) -> None:
        self._what = what
        self._look = look
        self._interval_s = interval_s
        self._called = threading.Event()
        self.then: Optional[Callable[[], object]] = None

    def call(self) -> None:
        """Begin now, or as soon as the look under way has ended and its pause is over. From any thread."""
        self._called.set()

    def run(self) -> None:
        """For ever; in a thread of its own."""
        grace_s = 0.0
        while True:
            began = time.monotonic()
            self.once()
            interval_s = self._interval_s()
            left_s = interval_s - (time.monotonic() - began)
            if left_s <= 0:
                time.sleep(min(LEAST_PAUSE_S, interval_s))
                grace_s = 0.0
            else:
                # Once it was not called in time its own interval is enough: whoever should call it hangs.
                grace_s = GRACE * interval_s if self._called.wait(left_s + grace_s) else 0.0
            self._called.clear()

    def once(self) -> None:
        """One look, and the call of what follows."""
        self._called.clear()
        try:
            self._look()
        except Exception as error:
            log.say("looking at %s failed: %s: %s" % (self._what, type(error).__name__, error), "look at " + self._what)
        if self.then is not None:
            self.then()


class Rounds(object):
    """Looks in their order."""

    def __init__(self, looks: List[Look], ended: Callable[[], object]) -> None:
        """``ended`` is called when the last look of a round has ended."""
        self._looks = looks
        for look, following in zip(looks, looks[1:]):
            look.then = following.call
        looks[-1].then = ended

    def start(self) -> None:
        """Each in its thread; the first round begins at once."""
        for look in self._looks:
            thread = threading.Thread(target=look.run)
            thread.daemon = True
            thread.start()

    def begin(self) -> None:
        """Begin the next round. Never waits."""
        self._looks[0].call()
