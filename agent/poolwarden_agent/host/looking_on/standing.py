"""What stands there at a look, and what comes by itself: the link, names, the pool's view, a member's copies."""

from typing import List

from poolwarden_agent.core import addresses
from poolwarden_agent.core.findings import fails, holds, private
from poolwarden_agent.core.host_now import MEMBER
from poolwarden_agent.host.looking_on.instant import Learned, Now, seconds

COPY_MS = 5400000


class Facts(object):
    """What one look shows by itself."""

    def look(self, _before: Now, now: Now) -> List[Learned]:
        found: List[Learned] = []
        if now.connected:
            found.append(("agent-link", holds("a stream is up")))
        if now.running == MEMBER and now.running_master:
            found.append(("member-names-master", holds("it named %s" % private(now.running_master))))
        return found + self._of_view(now)

    def _of_view(self, now: Now) -> List[Learned]:
        view = now.view
        if view is None or not now.serves:
            return []
        found: List[Learned] = [("pool-view-in-time", holds("%d hosts" % len(view.hosts)))]
        own = [host.address for host in view.hosts if host.host == now.own[0]]
        if own and own[0] and now.own[1]:
            same = addresses.same(own[0], now.own[1])
            said = "xapi has %s, the kernel %s" % (private(own[0]), private(now.own[1]))
            found.append(("management-address", holds(said) if same else fails(said)))
        if view.busy:
            found.append(("tasks-named", holds("%d tasks" % len(view.busy))))
        if any(host.guidances for host in view.hosts):
            found.append(("guidances-told", holds("a host has some")))
        if view.rolling_upgrade:
            found.append(("rolling-upgrade-marked", holds("it is set")))
        return found


class Copies(object):
    """A member's copy of the database, from one generation to the next."""

    def __init__(self) -> None:
        self._renewed_ms = 0

    def look(self, before: Now, now: Now) -> List[Learned]:
        if now.conf != MEMBER or before.conf != MEMBER or now.source != before.source:
            self._renewed_ms = 0
            return []
        if now.generation <= before.generation:
            return []
        last, self._renewed_ms = self._renewed_ms, now.ms
        if not last or now.ms - last > COPY_MS:
            return []
        return [("copies-renewed", holds("%s after the time before" % seconds(now.ms - last)))]
