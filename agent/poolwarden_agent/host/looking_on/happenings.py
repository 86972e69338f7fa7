"""All learners, one look after the other."""

from typing import Any, List, Optional, Tuple

from poolwarden_agent.host.looking_on.after_orders import Hold, NewProcess, Orders, Restored
from poolwarden_agent.host.looking_on.instant import Learned, Now
from poolwarden_agent.host.looking_on.standing import Copies, Facts
from poolwarden_agent.host.looking_on.unordered import Ends, Gate, Orphan, Switchover

# What these can learn, by their ids.
LEARNED = (
    "agent-link", "management-address", "promote-pool-conf", "promote-exit-123", "promote-no-old-flush",
    "exit-status-123", "new-master-serves", "new-master-disables-hosts", "role-settles", "repoint-pool-conf",
    "repoint-restarts", "orphan-flag-false", "orphan-notices-late", "orphan-answers", "orphan-started",
    "member-names-master", "restart-helps", "restart-keeps-domains", "stop-flushes", "stop-time", "restore-db-once",
    "designate-conf-first", "copies-renewed", "crash-leaves", "gate-waits", "hold-stops", "hold-stays",
    "hold-keeps-domains", "release-serves", "pool-view-in-time", "tasks-named", "guidances-told",
    "rolling-upgrade-marked", "sync-database", "declare-dead", "start-vm", "designate-serves",
)  # fmt: skip


class Happenings(object):
    """All of them."""

    def __init__(self) -> None:
        self._before: Optional[Now] = None
        self._orders = Orders()
        self._learners: Tuple[Any, ...] = (
            self._orders,
            Facts(),
            Copies(),
            NewProcess(self._orders),
            Restored(),
            Hold(),
            Orphan(),
            Ends(self._orders),
            Switchover(self._orders),
            Gate(),
        )

    def look(self, now: Now) -> List[Learned]:
        """What this look shows, with the one before."""
        before, self._before = self._before, now
        if before is None:
            return []
        found: List[Learned] = []
        for learner in self._learners:
            found += learner.look(before, now)
        return found + self._orders.served(now)
