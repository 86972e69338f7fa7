"""One pool at one instant, to be read: its record, its live state, its policy, and the collector's own condition.

What status, explanation, readiness, evidence, ranking and permission take. A step's ``Transaction`` is one, too.
"""

from __future__ import annotations

from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import alert_book
from poolwarden_collector.core.state.alert_topic import AlertTopic
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import AgentState, Pool, PoolLive, Sent, Site
from poolwarden_collector.core.state.pool_record import PoolRecord


class Snapshot:
    """One pool at ``now`` (ms on the collector's monotonic clock)."""

    def __init__(self, pool: Pool, now: Ms, site: Site) -> None:
        self.pool = pool
        self.now = now
        self.site = site

    @property
    def record(self) -> PoolRecord:
        return self.pool.record

    @property
    def live(self) -> PoolLive:
        return self.pool.live

    @property
    def policy(self) -> Policy:
        return self.pool.policy

    @property
    def failover(self) -> Failover | None:
        """The open failover, if there is one."""
        failover = self.record.failover
        return failover if failover is not None and failover.open else None

    @property
    def asof(self) -> Ms:
        """Up to when everything that arrived has been taken in. Who has been silent is judged as of then: what still
        waits in this collector is no silence of anybody's.
        """
        return self.now - self.site.behind_ms

    @property
    def quiet(self) -> bool:
        """Is this the start-up quiet time, in which nothing new may begin?"""
        return self.now < self.quiet_until

    @property
    def quiet_until(self) -> Ms:
        """When the quiet time ends: the collector's, or this pool's own after a restored journal."""
        return max(self.site.quiet_until, self.live.quiet_until)

    def agent(self, host: HostId) -> AgentState | None:
        return self.live.agents.get(host)

    def heard(self, host: HostId) -> AgentState | None:
        """The host's agent, if its stream is open, it has reported, and its last message is not overdue."""
        pool = self.pool  # asked a hundred times in each step
        agent = pool.live.agents.get(host)
        if agent is None or not agent.connected or not agent.reported:
            return None
        return agent if self.asof - agent.last_heard < pool.policy.suspect_after else None

    def devices(self, host: HostId) -> tuple[FenceDevice, ...]:
        """The host's fence devices that are not quarantined."""
        return tuple(d for d in self.pool.devices.get(host, ()) if d.name not in self.record.devices.quarantined)

    def sent(self, order_id: str) -> Sent | None:
        return self.live.sent.get(order_id)

    @property
    def open_topics(self) -> tuple[AlertTopic, ...]:
        """What all alerts are about whose matter stands, told or not yet."""
        return alert_book.open_topics(self)

    def name(self, host: HostId) -> str:
        return self.record.name_of(host)
