"""How long an unanswered look is waited for before it is asked anew on another connection.

A thread of xapi's that hangs does not end when its client goes away, and there is a limit to how many it may have
(xapi: ocaml/xapi/xapi_globs.ml). So a look waits on for the answer that is under way; but an answer can also be lost
while xapi recovers, and to wait for that one without end would report a healthy xapi as hung. Between the two: a
minute, then twice that, up to an hour. A xapi that hangs for 24 h has given some thirty of its thousand threads to this
agent.
"""

from typing import Callable

FIRST_S = 60.0
LONGEST_S = 3600.0


class Patience(object):
    """One look's patience; ``clock`` gives seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wait_s = FIRST_S
        self._since_s = clock()
        self._asked = self._lost = ""

    def begin(self, what: str = "") -> None:
        """This is asked now."""
        self._since_s, self._asked = self._clock(), what

    @property
    def waited_s(self) -> float:
        """For how long this look has been under way."""
        return self._clock() - self._since_s

    def over(self) -> bool:
        """Is it time to ask anew? From then on there is twice the patience."""
        if self.waited_s < self._wait_s:
            return False
        self._wait_s, self._lost = min(self._wait_s * 2, LONGEST_S), self._asked
        return True

    def answered(self) -> None:
        """It was. If that was what had been given up, the next one begins with a minute again.

        Other questions say nothing: a xapi may answer one call and hang over the next, again and again.
        """
        if self._asked == self._lost:
            self.fresh()

    def fresh(self) -> None:
        """It is another xapi now."""
        self._wait_s, self._lost = FIRST_S, self._asked
