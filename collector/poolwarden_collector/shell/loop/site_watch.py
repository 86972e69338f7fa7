"""The storm brake of one of several collectors: it counts its own pools for the others, and judges by all counts.

Rules
-----
* Once a second its counts are told, under its lease, and everybody's are read. It tells of every site that it or any
  other one knows, so that no count is missed for long after another configuration.
* A member's count of a site is missed where it says nothing fresh, once it has been a member, and the site has been
  known, for ``GRACE_MS``. Members and counts are read as of one revision: who is gone is missed by nobody.
* Where the counts cannot be read, nothing is known of the others: that brakes while this collector has the right to
  act. Without that right nothing is done anyway, and pools are judged by what is heard here, so that what happens while
  etcd is away is told as what it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from poolwarden_collector.core.decision.storm_brake import Braked, Silence
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.cluster import site_sums
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, carry_out
from poolwarden_collector.shell.cluster.membership import Membership
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.site_sums import EVERY_MS, STALE_AFTER_MS, SiteCount, Sums

GRACE_MS: Ms = 5_000

_log = logging.getLogger(__name__)


class SiteWatch:
    """``silence``: what is counted here; ``now``: any own clock; ``right``: why it may not act now, empty: it may."""

    def __init__(
        self,
        etcd: Etcd,
        names: Names,
        membership: Membership,
        silence: Callable[[], Mapping[str, Silence]],
        now: Callable[[], Ms],
        right: Callable[[], str],
    ) -> None:
        self._etcd, self._names, self._membership = etcd, names, membership
        self._silence, self._now, self._right = silence, now, right
        self._sums = Sums()
        self._sites: dict[str, Ms] = {}  # since when each is known
        self._since: dict[str, Ms] = {}  # since when each is a member
        self._read_at: Ms = now()
        self._number = 0
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Count from now on."""
        self._running = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Count no more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.once()
            except EtcdError as error:
                _log.debug("the sites' agents are not counted together: %s", error)
            except Exception:
                _log.exception("the sites' agents are not counted together")
            await asyncio.sleep(EVERY_MS / 1000)

    async def once(self) -> None:
        """Tell and read the counts. Raises EtcdError."""
        standing = self._membership.standing
        if standing is None:
            return
        self._number += 1
        here = self._silence()
        self._know(here)
        counts = {site: _count(here.get(site, Silence()), self._number) for site in self._sites}
        await carry_out(self._etcd, site_sums.tell(self._names, standing, counts))
        members, found = await carry_out(self._etcd, site_sums.read_all(self._names))
        self._know(found)
        self._read_at = now = self._now()
        self._since = {name: self._since.get(name, now) for name in members}
        self._sums.take(found, now)

    def _know(self, sites: Iterable[str]) -> None:
        now = self._now()
        for site in sites:
            self._sites.setdefault(site, now)

    def last_sign_ms(self, collector: str) -> Ms:
        """How long ago that collector's newest sign was seen in etcd; 0: there is none."""
        return self._sums.age(collector, self._now()) or 0

    def braked(self) -> dict[str, Braked]:
        """The sites towards which all collectors together are blind, and why."""
        now = self._now()
        if now - self._read_at > STALE_AFTER_MS:
            if self._right():
                return {}
            why = "the counts of the other collectors' agents cannot be read from etcd"
            return dict.fromkeys(self._sites, Braked(why, silent=False))
        known = {name for name, since in self._since.items() if now - since > GRACE_MS}
        found = {}
        for site, since in self._sites.items():
            expected = self._sums.who(site) | (known if now - since > GRACE_MS else set())
            told = self._sums.of(site, expected, now)
            if why := told.why_blind:
                found[site] = Braked(why, told.silent, told.young)
        return found


def _count(here: Silence, number: int) -> SiteCount:
    return SiteCount(
        here.pools,
        here.young,
        here.agents,
        here.silent,
        here.silent_pools,
        here.storm_pools,
        here.storm_percent,
        number,
    )
