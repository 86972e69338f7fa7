"""The collectors on one etcd as this one knows them: what its operators' interface asks (operators/neighbours.py)."""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster import assignment
from poolwarden_collector.shell.cluster.assignment import Overview
from poolwarden_collector.shell.cluster.etcd import Etcd, EtcdError, Health, carry_out
from poolwarden_collector.shell.cluster.handover import Released
from poolwarden_collector.shell.cluster.membership import Right
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.loop.ownerships import Ownerships
from poolwarden_collector.shell.loop.shared_service import SharedService


class Neighbourhood:
    """What is known, and what is asked of this collector's own pools."""

    def __init__(
        self,
        etcd: Etcd,
        names: Names,
        ownerships: Ownerships,
        service: SharedService,
        agents: Callable[[], int],
        last_sign: Callable[[str], Ms],
    ) -> None:
        """``last_sign``: how long ago a collector's newest sign was seen in etcd."""
        self.me = ownerships.membership.collector
        self._etcd, self._names, self._ownerships, self._service = etcd, names, ownerships, service
        self.agents = agents
        self._last_sign = last_sign
        self._looked: tuple[Overview, Ms] | None = None  # by an operator, and when

    def overview(self) -> Overview | None:
        """The newest look, a round's or an operator's."""
        newest = self._newest()
        return newest[0] if newest is not None else None

    def looked_age_ms(self) -> Ms:
        """How old it is; 0: there was none."""
        newest = self._newest()
        return clock.awake_or_not_ms() - newest[1] if newest is not None else 0

    def told_age_ms(self, collector: str) -> Ms:
        """How old what etcd has of another one is: since its last sign there, or since etcd was read last."""
        return max(self._last_sign(collector), self.looked_age_ms())

    def _newest(self) -> tuple[Overview, Ms] | None:
        found, at = self._ownerships.newest, self._ownerships.looked_at
        of_round = (found.seen, at) if found is not None else None
        return max((each for each in (of_round, self._looked) if each is not None), key=lambda e: e[1], default=None)

    async def look(self) -> Overview:
        """Now. Raises EtcdError."""
        seen = await carry_out(self._etcd, assignment.look(self._names))
        self._looked = seen, clock.awake_or_not_ms()
        return seen

    def assigner(self) -> str:
        """Who writes the advice, as of the newest round; empty: it is not known."""
        return self._ownerships.assigner

    def right(self) -> Right:
        """May this collector act now?"""
        return self._ownerships.membership.right(clock.awake_or_not_ms())

    def right_left_ms(self) -> Ms:
        """Until that ends, unless its lease is renewed."""
        now = clock.awake_or_not_ms()
        return max(0, self._ownerships.membership.right(now).until - now)

    def why_stays(self, pool: PoolId) -> str:
        """Why a pool of its own stays; empty: nothing stands against a move."""
        return self._service.why_stays(pool)

    async def give(self, pool: PoolId, to: str) -> str:
        """Give it up to this member; why not, empty: it is done."""
        done = await self._ownerships.hand_over(pool, to)
        return "" if isinstance(done, Released) else done.why

    def drain(self, leaving: bool) -> None:
        """Give every pool up and take none, as soon as each may be moved; False: take pools again."""
        self._ownerships.membership.draining = leaving

    async def health(self) -> list[Health | EtcdError]:
        """Each endpoint of etcd by itself."""
        return await self._etcd.health()
