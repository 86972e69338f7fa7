"""An operator on the very host: what `poolwarden-agent gate ...` does there (agent/poolwarden_agent/commands/gate.py).

The same rules in the same order: a tombstone is ended by following a living master only, a hold is released by the
running agent alone, an open gate is of this boot. What is refused is told, as the program tells it.
"""

from __future__ import annotations

from poolwarden_agent.core import gate_state
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_lab.virtual.agent.agent import SimAgent
from poolwarden_lab.virtual.world.ground import Ground, HostName, NoSuchThing


class LocalRoot(Ground):
    """Root's shell on a host."""

    def gate_open(self, host: HostName) -> None:
        """``gate open``: xapi may start in this boot, whoever says otherwise."""
        agent, state = self._stored(host)
        if state.tombstone is not None:
            self._refused(agent, "it was superseded; as master it would be a second one")
        elif state.hold is not None:
            self._refused(agent, "the toolstack is held, not the gate shut")
        else:
            it = agent.world.pool.hosts[agent.name]
            it.opened = it.boot

    def gate_release(self, host: HostName) -> None:
        """``gate release``: a held toolstack starts as what pool.conf says."""
        agent, state = self._stored(host)
        if state.tombstone is not None:
            self._refused(agent, "it was superseded; as master it would be a second one")
        elif state.hold is None:
            self._refused(agent, "the toolstack is not held")
        else:
            self._by_agent(agent, None)

    def gate_follow(self, host: HostName, master: HostName) -> None:
        """``gate release --as-member``: a hold or tombstone ends, and the host follows that one."""
        agent, state = self._stored(host)
        if state.hold is None and state.tombstone is None:
            self._refused(agent, "the toolstack is neither held nor superseded")
        else:
            place = self.find(master)
            self._by_agent(agent, place.pool.pool.hosts[place.name].address)

    def _stored(self, host: HostName) -> tuple[SimAgent, gate_state.GateState]:
        place = self.find(host)
        it = place.pool.pool.hosts[place.name]
        if not it.power or it.frozen:
            raise NoSuchThing(f"nobody can log in on {place.name}")
        agent = place.pool.agents[place.name]
        state = agent.stored()
        if state is None:
            raise NoSuchThing(f"what is durable on {place.name} cannot be read")
        return agent, state

    def _by_agent(self, agent: SimAgent, address: str | None) -> None:
        side = agent.side
        if side is None or agent.asleep:
            self._refused(agent, "the agent alone may change that, and it does not run")
            return
        try:
            act = side.executor.release_hold() if address is None else side.executor.follow(address)
        except SlotError as error:
            self.happened("root", f"{agent.name}: the toolstack is still held: {error}")
            return
        self.happened("root", f"{agent.name}: {act.text}")

    def _refused(self, agent: SimAgent, why: str) -> None:
        self.happened("root", f"{agent.name}: refused: {why}")
