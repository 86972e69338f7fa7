"""Faults of agents, of their durable slots and of clocks.

NTP steps and skewed wall clocks have no effect by construction: no decision of agent or collector reads a wall clock,
and there is none in this world to set. What can go wrong with a clock is its rate (``drift``), how long the host has
been up (``offset``), and a collector that was not there for a while (``collector_gap``).
"""

from __future__ import annotations

from poolwarden_lab.virtual.agent.agent import RESTART_MS
from poolwarden_lab.virtual.agent.slot import SlotFault
from poolwarden_lab.virtual.world.ground import Ground, HostName


class AgentFaults(Ground):
    """What befalls agents."""

    def crash_agent(self, host: HostName, restart_after_ms: int = RESTART_MS) -> None:
        """kill -9 of the whole unit; systemd starts it again."""
        place = self.find(host)
        place.pool.agents[place.name].crash(restart_after_ms)

    def hang_agent(self, host: HostName) -> None:
        """SIGSTOP of the agent alone; xapi goes on."""
        place = self.find(host)
        place.pool.agents[place.name].stopped = True
        self.watch(place.name)

    def resume_agent(self, host: HostName) -> None:
        """It goes on: it reads what had arrived and does what is overdue."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.stopped = False
        agent.thawed()

    def stop_agent(self, host: HostName) -> None:
        """systemctl stop poolwarden-agent: it says goodbye, and stays away until it is started or the host boots."""
        place = self.find(host)
        place.pool.agents[place.name].stop()

    def start_agent(self, host: HostName) -> None:
        place = self.find(host)
        place.pool.agents[place.name].start()

    def upgrade_agent(self, host: HostName, version: str = "0.2.0", takes_ms: int = RESTART_MS) -> None:
        """Its RPM is upgraded: it says goodbye and comes back with another version, and all capabilities."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.missing = frozenset()
        agent.upgrade(version, takes_ms)

    def old_version(self, host: HostName, missing: tuple[str, ...], version: str = "0.0.9") -> None:
        """An older agent, that cannot do these orders (their names as in the contract), takes its place."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.missing = frozenset(missing)
        agent.upgrade(version)

    def absent(self, host: HostName) -> None:
        """The agent is uninstalled, without a word."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.absent = True
        agent.crash()

    def wrong_pool(self, host: HostName, pool: str) -> None:
        """The agent says that its host belongs to another pool (its uuid, or the name of one of this world's)."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.claims_pool = self.pools[pool].uuid if pool in self.pools else pool
        agent.move()

    def right_pool(self, host: HostName) -> None:
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.claims_pool = ""
        agent.move()

    # ------------------------------------------------------------------------------------------ what it sees

    def show(self, host: HostName, id: str, finding: str, evidence: str = "") -> None:
        """Its agent sees this of what is assumed of its host: fails or holds; unseen: it tells nothing of it."""
        place = self.find(host)
        place.pool.agents[place.name].shows(id, finding, evidence)

    def update(self, host: HostName, release: str) -> None:
        """Its software is updated: from its agent's next start, which is now, it reports another release."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.release = release
        agent.upgrade(agent.version)

    # ------------------------------------------------------------------------------------------ slots

    def slot_fault(self, host: HostName, fault: SlotFault | str) -> None:
        """How the agent's durable slot behaves from now on: none, enospc, eio, read-only, torn (the next write)."""
        place = self.find(host)
        place.pool.agents[place.name].slot.fault = SlotFault(fault)

    def snapshot_slot(self, host: HostName) -> None:
        """A backup of the slot is taken."""
        place = self.find(host)
        place.pool.agents[place.name].slot.snapshot()

    def restore_slot(self, host: HostName) -> None:
        """The slot is rolled back to its last backup; the agent starts anew on it."""
        place = self.find(host)
        agent = place.pool.agents[place.name]
        agent.slot.roll_back()
        place.pool.invariants.forget_numbers(place.name)
        agent.crash()

    # ------------------------------------------------------------------------------------------ clocks

    def drift(self, host: HostName, ppm: int) -> None:
        """The host's clock runs so many millionths too fast (negative: too slow)."""
        place = self.find(host)
        place.pool.agents[place.name].set_drift(ppm)

    def offset(self, host: HostName, ms: int) -> None:
        """From its next boot on the host's uptime begins there: a monotonic clock does not jump within a boot."""
        place = self.find(host)
        place.pool.agents[place.name].offset_ms = ms
