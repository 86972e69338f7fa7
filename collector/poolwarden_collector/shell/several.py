"""What one of several collectors has besides: its way to etcd, the ownership of its pools, and the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.elsewhere import OwnerOf
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.cluster.etcd_client import EtcdClient
from poolwarden_collector.shell.cluster.etcd_store import EtcdStore
from poolwarden_collector.shell.cluster.membership import Membership
from poolwarden_collector.shell.config.store import StoreSettings
from poolwarden_collector.shell.loop.neighbourhood import Neighbourhood
from poolwarden_collector.shell.loop.ownership_alerts import OwnershipAlerts
from poolwarden_collector.shell.loop.ownerships import Ownerships
from poolwarden_collector.shell.loop.right_alerts import RightAlerts
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.loop.site_watch import SiteWatch
from poolwarden_collector.shell.operators.api import OperatorApi
from poolwarden_collector.shell.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Several:
    """One of several collectors; ``ownerships`` is to be left, ``sites`` stopped, ``etcd`` closed after all else."""

    etcd: EtcdClient
    service: SharedService
    ownerships: Ownerships
    neighbours: Neighbourhood
    sites: SiteWatch
    sessions: Sessions

    def start(self) -> None:
        """Become a member, own pools, and count their agents for the others."""
        self.ownerships.start()
        self.sites.start()

    def among(self) -> tuple[int, int, int, bool]:
        """For metrics: how many members there are, how many pools without an owner, its right's rest, its lease."""
        newest, member = self.ownerships.newest, self.ownerships.membership
        members, alone = (len(newest.seen.members), len(newest.alone)) if newest is not None else (0, 0)
        right = member.right(now := clock.awake_or_not_ms())
        return members, alone, 0 if right.why_not else right.until - now, member.standing is not None

    def tells(self, journal: Journal) -> None:
        """Pools that no collector can guard, or that nobody may act in, are told from now on; ``journal``: its own."""
        OwnershipAlerts(self.ownerships, self.service, journal)
        RightAlerts(self.ownerships, self.service, journal, self.sessions)

    def joined(self, operators: OperatorApi) -> OwnerOf:
        """The operators' interface knows the others from now on; who has which pool."""
        operators.join(self.neighbours)
        return self.ownerships.owner_of


def one_of(
    name: str, store: StoreSettings, driver: Callable[[EtcdStore], SharedService], sessions: Sessions
) -> Several:
    """Not begun yet. ``driver`` makes the service around what is durable in etcd."""
    etcd, names, agents = EtcdClient(store.etcd), store.names, sessions.__len__
    service = driver(EtcdStore(etcd, names))
    # The one clock of rights, which goes on while the machine sleeps.
    membership = Membership(names, name, store.agents, clock.awake_or_not_ms, operators=store.operators)
    ownerships = Ownerships(etcd, names, membership, service, agents, sessions=sessions)
    right = lambda: membership.right(clock.awake_or_not_ms()).why_not  # noqa: E731
    sites = SiteWatch(etcd, names, membership, service.silence, clock.mono_ms, right)
    service.judge_by(sites.braked)
    neighbours = Neighbourhood(etcd, names, ownerships, service, agents, sites.last_sign_ms)
    return Several(etcd, service, ownerships, neighbours, sites, sessions)
