"""Alerts of pools that no collector can guard. They are of no pool's journal: nobody may write there.

Rules
-----
* That a pool has no owner for ``ALONE_AFTER_MS`` is told by the assigner; that hosts obey none of the collectors by
  whoever owns their pool. They are written into the own journal and go out from there, each under one key, so that a
  channel that hears of it from two collectors knows that it is one matter.
* Over is the first when anybody owns the pool, the second when its owner says so no more. What was open at the start
  is let stand for ``SETTLES_MS``: until then this collector knows too little.
* An alert that the journal does not take is raised again with the next round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from poolwarden_collector.core.catalogue.ownership import GENERATION_TOO_LOW, POOL_WITHOUT_COLLECTOR
from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell.cluster.rounds import Round
from poolwarden_collector.shell.loop.own_alerts import OwnAlerts
from poolwarden_collector.shell.loop.ownerships import GenerationTooLow, Ownerships
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.store.journal import Journal, JournalError

SETTLES_MS: Ms = 60_000

_log = logging.getLogger(__name__)
_SAYS = {
    POOL_WITHOUT_COLLECTOR.id: "a collector owns the pool",
    GENERATION_TOO_LOW.id: "a collector owns the pool with an epoch that its hosts obey",
}


class OwnershipAlerts:
    """Those of one collector."""

    def __init__(self, ownerships: Ownerships, service: SharedService, journal: Journal) -> None:
        self._ownerships, self._service = ownerships, service
        self._alerts = OwnAlerts(service, journal, (POOL_WITHOUT_COLLECTOR, GENERATION_TOO_LOW))
        self._since: Ms | None = None
        self._working: asyncio.Task[None] | None = None
        ownerships.on_round(self.round)

    def round(self, found: Round) -> None:
        """Tell what this round has found, unless the last one's is still being written."""
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._tell(found))

    async def settled(self) -> None:
        """Until what the last round has found is written."""
        if self._working is not None:
            await self._working

    async def _tell(self, found: Round) -> None:
        try:
            known = await self._alerts.read()
            if self._since is None:
                self._since = self._service.roster.now()
            wanted = {each.key: each for each in (*self._alone(found), *self._too_low())}
            raised = [alert for key, alert in wanted.items() if key not in known]
            over = [AlertResolved(key, _SAYS[message]) for key, message in known.items() if self._over(key, found)]
            await self._alerts.write([*raised, *over])
        except JournalError as error:
            _log.error("an alert of pools that nobody can guard was not recorded: %s", error)
        except Exception:
            _log.exception("what a round found was not told")

    # -------------------------------------------------------------------------------------------- what is told

    def _alone(self, found: Round) -> list[AlertRaised]:
        return [self._raised(POOL_WITHOUT_COLLECTOR.id, pool, waits // 1000) for pool, waits in found.alone.items()]

    def _too_low(self) -> list[AlertRaised]:
        return [self._raised(GENERATION_TOO_LOW.id, pool, low) for pool, low in self._ownerships.too_low.items()]

    def _raised(self, message: str, pool: PoolId, about: int | GenerationTooLow) -> AlertRaised:
        words = {"pool": self._label(pool)}
        if isinstance(about, GenerationTooLow):
            words |= {"obeyed": epoch.name(about.obeyed), "generation": str(about.generation)}
            told = GENERATION_TOO_LOW.told(words)
        else:
            why = self._ownerships.unreadable.get(pool)
            said = (
                f"collector {self._ownerships.membership.collector} cannot read it: {why}" if why else "nobody took it"
            )
            told = POOL_WITHOUT_COLLECTOR.told(words | {"seconds": str(about), "why": said})
        body = told.body("Who the collectors are and what each owns: poolwarden collectors.")
        return AlertRaised(_key(message, pool), told.severity, told.title, body, {"message": told.id, "pool": pool})

    def _label(self, pool: PoolId) -> str:
        """What a pool is called, also one that is not guarded here."""
        roster = self._service.roster
        settings = roster.config.pools.get(pool)
        return roster.pool_label(pool) or (settings.name if settings is not None else "") or pool

    def _over(self, key: str, found: Round) -> bool:
        owned: Mapping[str, PoolId] = {_key(POOL_WITHOUT_COLLECTOR.id, pool): pool for pool in found.seen.owners}
        low = {_key(GENERATION_TOO_LOW.id, pool): pool for pool in found.seen.owners}
        if key in owned:
            return True
        settled = self._since is not None and self._service.roster.now() - self._since >= SETTLES_MS
        return key in low and low[key] not in self._ownerships.too_low and (settled or not self._ours(low[key]))

    def _ours(self, pool: PoolId) -> bool:
        return self._service.roster.owns(pool)


def _key(message: str, pool: PoolId) -> str:
    return f"{message}/{pool}"
