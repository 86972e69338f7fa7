"""Which pools are at rest, and what that spares the engine's loop (engine_loop.py; what a rest is: core/rest.py)."""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.model.events import AgentReported, CollectorProbed
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.rest import Outcome, Rest, goes_on, rest_of, taken_in
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.agents.roster import Roster


class Rests:
    """The rest of each pool that has one. ``behind``: how late the step is that would be taken, ms."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._rests: dict[PoolId, tuple[Pool, Rest]] = {}  # each holds for that very pool
        self._under: dict[str, Any] = {}  # the collector's condition, the same for all of them

    def keep(self) -> None:
        """Only while the collector's own condition, of which every step is told (``Site``), is what it was."""
        condition = self._roster.condition()
        if condition != self._under:
            self._rests.clear()
            self._under = condition

    def forget(self, uuid: PoolId) -> None:
        """This pool is not on the roster any more."""
        self._rests.pop(uuid, None)
        self.keep()

    def surely_at_rest(self, uuid: PoolId, pool: Pool, now: Ms, behind: Ms) -> bool:
        """Also where all that has come of this pool has been read by now; to be asked after ``keep``."""
        known = self._rests.get(uuid)
        return self.at_rest(uuid, pool, now, behind) and known is not None and now < known[1].heard_until

    def at_rest(self, uuid: PoolId, pool: Pool, now: Ms, behind: Ms) -> bool:
        """As far as is known; to be asked after ``keep``."""
        known = self._rests.get(uuid)
        return known is not None and known[0] is pool and known[1].holds(now, behind)

    def ticked(self, uuid: PoolId, pool: Pool, now: Ms, behind: Ms) -> bool:
        """Would this tick's step do nothing? Then it is not taken, and the next one at the pool's deadline."""
        self.keep()
        if self.at_rest(uuid, pool, now, behind):
            return True
        known = self._rests.get(uuid)
        if known is not None and known[0] is pool:
            return False  # a deadline is here: the step that may do something costs less than the question
        rest = rest_of(pool, now, self._roster.site(uuid, behind))
        if rest is None:
            return False
        self._rests[uuid] = (pool, rest)
        return True

    def taken_in(self, uuid: PoolId, event: AgentReported | CollectorProbed, now: Ms, behind: Ms) -> Pool | None:
        """The pool with it, where it brings other numbers alone and they end no rest; None: its step is to be taken."""
        self.keep()
        pool = self._roster.pools[uuid]
        if not self.at_rest(uuid, pool, now, behind):
            return None
        rest = self._rests[uuid][1]
        after = taken_in(rest, pool, event, now, self._roster.site(uuid, behind))
        if after is not None:
            self._rests[uuid] = (after, rest)
        return after

    def stepped(self, uuid: PoolId, before: Pool, outcome: Outcome, now: Ms, behind: Ms) -> None:
        """The rest of before this step goes on where it holds for what the step has made; it is forgotten otherwise."""
        self.keep()
        known = self._rests.pop(uuid, None)
        if known is None or known[0] is not before:
            return
        if goes_on(known[1], before, outcome, now, self._roster.site(uuid, behind)):
            self._rests[uuid] = (outcome.pool, known[1])
