"""One pool at one instant, to be read: its record, its live state, its policy, and the collector's own condition.

What status, explanation, readiness, evidence, ranking and permission take. A step's ``Transaction`` is one, too.
"""

from __future__ import annotations

from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import alert_book, taken_over
from poolwarden_collector.core.state.alert_topic import AlertTopic
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import AgentState, Pool, PoolLive, Sent, Site
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.taken_over import Wait


class Snapshot:
    """One pool at ``now`` (ms on the collector's monotonic clock)."""

    def __init__(self, pool: Pool, now: Ms, site: Site) -> None:
        self.now = now
        self.site = site
        self._see(pool)

    def _see(self, pool: Pool) -> None:
        """Show this pool; its parts are plain attributes because each step reads them hundreds of times."""
        self.pool = pool
        self.record: PoolRecord = pool.record
        self.live: PoolLive = pool.live
        self.policy: Policy = pool.policy
        # Asked a hundred times in each step, and made when it is asked for first.
        self._heard: dict[HostId, AgentState] | None = None
        self._topics: tuple[AlertTopic, ...] | None = None

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
        """Is this the start-up quiet time, or is there no right to act, so that nothing new may begin?"""
        # safety: what is decided without the right could not be recorded: the pool would stand still and hear nobody.
        return self.site.cut_off or self.now < self.quiet_until

    @property
    def quiet_until(self) -> Ms:
        """When the quiet time ends: the collector's, or this pool's own after a restored journal or a takeover."""
        taken, own = self.site.takeover, self.site.quiet_until
        if taken is not None:
            greeted = self.record.hosts.keys() <= self.live.agents.keys()
            own = taken_over.quiet_ends(taken, own, self.policy.quiet_time, greeted)
            own = max(own, *(wait.until for wait in self.takeover_waits))
        return max(own, self.live.journal_gap.quiet_until)

    @property
    def takeover_waits(self) -> tuple[Wait, ...]:
        """For what of this pool's last owner is waited, also what is over by now."""
        return taken_over.waits(self.site.takeover, self.record.hosts.keys(), self.live.acknowledged, self.heard)

    def agent(self, host: HostId) -> AgentState | None:
        return self.live.agents.get(host)

    def heard(self, host: HostId) -> AgentState | None:
        """The host's agent, if its stream is open, it has reported, and its last message is not overdue.

        One that this collector has itself sent away to look counts as it was, until its time to come back is over.
        """
        if self._heard is None:
            self._heard = {of: agent for of, agent in self.live.agents.items() if self._hears(agent)}
        return self._heard.get(host)

    def _hears(self, agent: AgentState) -> bool:
        if not agent.connected or not agent.reported:
            return False
        in_time = self.asof - agent.last_heard < self.policy.suspect_after
        # safety: a scout counts as heard only while this collector may act nowhere (Roster.site).
        return in_time or agent.hello.host in self.site.scouts

    def all_devices(self, host: HostId) -> tuple[FenceDevice, ...]:
        """The host's fence devices, those in quarantine too; none before its own agent has spoken in this pool."""
        # safety: the configuration's devices are those of all pools, and any master may list another pool's host.
        known = self.record.hosts.get(host)
        return self.pool.devices.get(host, ()) if known is not None and known.boot_id else ()

    def devices(self, host: HostId) -> tuple[FenceDevice, ...]:
        """The host's fence devices that are not quarantined."""
        devices, quarantined = self.all_devices(host), self.record.devices.quarantined
        return tuple(device for device in devices if device.name not in quarantined) if quarantined else devices

    def sent(self, order_id: str) -> Sent | None:
        return self.live.sent.get(order_id)

    @property
    def open_topics(self) -> tuple[AlertTopic, ...]:
        """What all alerts are about whose matter stands, told or not yet."""
        if self._topics is None:
            self._topics = alert_book.open_topics(self)
        return self._topics

    def name(self, host: HostId) -> str:
        return self.record.name_of(host)
