"""What is told of a collector that does not keep up with what it hears."""

from __future__ import annotations

from collections.abc import Callable, Generator

from poolwarden_collector.core.catalogue.hosts import COLLECTOR_BEHIND
from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.loop.ready import WARNING, Act, Commit, Say, Write

CAUGHT_UP_MS: Ms = 500
TELL_BEHIND_MS: Ms = 5_000
KEY = "collector/behind"
CAUGHT_UP = AlertResolved(KEY, "it has kept up with what it hears for 5 s")
_BODY = (
    "Its machine or its disk is too slow. Nobody is taken for silent for that, and nothing is begun "
    "before it has caught up. Look at load and disk of the collector's machine."
)


def stays_behind(collector: str, by: Ms) -> AlertRaised:
    """It is so much behind, and stays so."""
    told = COLLECTOR_BEHIND.told({"pool": collector, "seconds": f"{by / 1000:.1f}"})
    return AlertRaised(KEY, told.severity, told.title, told.body(_BODY), {"message": told.id})


class BehindAlert:
    """One alert for a collector that stays behind, over when it has kept up for as long."""

    def __init__(self, roster: Roster, do: Callable[[Act], None]) -> None:
        self._roster, self._do = roster, do
        self._since: Ms | None = None
        self._caught_up_at: Ms = 0

    def tell(self, behind: Ms, now: Ms) -> Generator[Write, int, None]:
        """It is so much behind now."""
        if behind > BEHIND_MS:
            self._caught_up_at = now
            if self._since is None:
                self._since = now
                self._do(Say(WARNING, f"{behind / 1000:.1f} s behind what is heard: nothing is begun"))
            if now - self._since >= TELL_BEHIND_MS and not self._roster.told_behind:
                yield from self._told(True, stays_behind(self._roster.config.name, behind))
        elif behind <= CAUGHT_UP_MS and self._since is not None and now - self._caught_up_at >= TELL_BEHIND_MS:
            self._since = None
            if self._roster.told_behind:
                yield from self._told(False, CAUGHT_UP)

    def _told(self, told: bool, alert: AlertRaised | AlertResolved) -> Generator[Write, int, None]:
        """Once, also where other pools' events are taken while it is written; what no disk has taken is told again."""
        self._roster.told_behind = told
        try:
            yield Commit("", (), (alert,), self._roster.config.name)  # of the collector, of no pool
        except Exception:
            self._roster.told_behind = not told
            raise
