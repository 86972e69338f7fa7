"""A VirtualPool in a world of several: it knows the network's faults, and says when something may have changed.

What xapi's own model does not know is done here: delays, loss and shuffled order on the way, a machine whose kernel
stands still or has not come up yet (nobody refuses a connection there, it just is not answered), addresses that change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poolwarden_lab.virtual.world.machine import Machine
from poolwarden_lab.virtual.world.network import Network
from poolwarden_lab.xapi.actions import Action, Door, Event, Lost, PeerResult
from poolwarden_lab.xapi.clock import Clock
from poolwarden_lab.xapi.model import XapiModel
from poolwarden_lab.xapi.trees import HostTree
from poolwarden_lab.xapi.virtual import TIMEOUT, OnReply, VirtualHost, VirtualPool

LOCAL_LIMIT_MS = 5_000  # a local caller's patience with a slow xapi


class WatchedClock(Clock):
    """Tells after each due thing that it was done."""

    after_event: Callable[[], None] | None = None

    def step(self) -> None:
        super().step()
        if self.after_event is not None:
            self.after_event()


class TappedPool(VirtualPool):
    """See the module's words. ``dirty`` is set by whatever may have changed who serves, and read by the world."""

    def __init__(
        self,
        trees: Sequence[HostTree],
        name: str,
        clock: WatchedClock,
        network: Network,
        *,
        full_stops: bool = False,
    ) -> None:
        self.dirty = True
        self.network = network
        self.machines: dict[str, Machine] = {tree.name: Machine() for tree in trees}
        self.slow_ms: dict[str, int] = {}
        self.memory_left: dict[str, int] = {}  # MiB that are available in a host's dom0, where it is short of memory
        super().__init__(pool_name=name, trees=trees, clock=clock, latency_ms=network.latency_ms, full_stops=full_stops)
        self.cut_links = network.cut_links

    @property
    def after_event(self) -> Callable[[], None] | None:
        """What is called after each event of the whole world."""
        assert isinstance(self.clock, WatchedClock)
        return self.clock.after_event

    @after_event.setter
    def after_event(self, call: Callable[[], None] | None) -> None:
        assert isinstance(self.clock, WatchedClock)
        self.clock.after_event = call

    # ------------------------------------------------------------------------------------------ what may have changed

    def _note(self, name: str, event: Event) -> None:
        self.dirty = True
        super()._note(name, event)

    def _act(self, host: VirtualHost, model: XapiModel, actions: list[Action]) -> None:
        self.dirty = True
        super()._act(host, model, actions)

    def _forget_process(self, host: VirtualHost) -> None:
        self.dirty = True
        super()._forget_process(host)

    # ------------------------------------------------------------------------------------------ the way

    def deaf(self, name: str) -> bool:
        """Does this host's kernel answer nothing: does it stand still, or is it not up yet?"""
        machine = self.machines[name]
        return machine.hung or self.now < machine.network_at

    def _send(self, source: str, target: str, act: Callable[[], None]) -> None:
        def arrive() -> None:
            if (source, target) in self.cut_links:
                self._held.setdefault((source, target), []).append(act)
            elif self.hosts[target].power:
                self._when_awake(self.hosts[target], act)

        slow = self.slow_ms.get(source, 0)
        late = self.network.late_by(source, target) or 0
        self.at(self.network.arrival(source, target) + late + slow, arrive)

    def _connect_failure(self, source: str, host: VirtualHost, door: Door) -> tuple[int, str] | None:
        if host.power and self.deaf(host.name) and (source, host.name) not in self.cut_links:
            return self.times.connect_ms, "unreachable"
        return super()._connect_failure(source, host, door)

    def call(
        self,
        name: str,
        door: Door,
        method: str,
        params: tuple[object, ...],
        on_reply: OnReply,
        source: str | None = None,
    ) -> None:
        slow = self.slow_ms.get(name, 0)
        if slow and source in (None, name):
            super().call(name, door, method, params, lambda result: self.at(self.now + slow, lambda: on_reply(result)))
        else:
            super().call(name, door, method, params, on_reply, source)

    def call_now(
        self,
        name: str,
        door: Door,
        method: str,
        params: tuple[object, ...] = (),
        limit_ms: int = 0,
        source: str | None = None,
    ) -> PeerResult:
        if self.slow_ms.get(name, 0) > (limit_ms or LOCAL_LIMIT_MS):
            answer = super().call_now(name, door, method, params, limit_ms, source)
            return answer if isinstance(answer, Lost) else TIMEOUT
        remote = source is not None and source != name
        if remote and self._lost_on_the_way(str(source), name, limit_ms):
            return TIMEOUT
        held, self.slow_ms = self.slow_ms, {}
        try:
            return super().call_now(name, door, method, params, limit_ms, source)
        finally:
            self.slow_ms = held

    def _lost_on_the_way(self, source: str, name: str, limit_ms: int) -> bool:
        return self.network.too_slow(source, name, limit_ms) or self.network.loses(source, name)

    # ------------------------------------------------------------------------------------------ power

    def power_on(self, name: str) -> None:
        """A new boot, as long as this very machine needs for it."""
        machine, general = self.machines[name], self.boot_ms
        self.boot_ms = general if machine.boot_ms is None else machine.boot_ms
        try:
            super().power_on(name)
        finally:
            self.boot_ms = general
