"""Faults of the network: cuts, partitions, flapping, delay, loss, duplicates, overtaking, half-open streams."""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_agent.host_port import TLS_PORT
from poolwarden_lab.virtual.world.ground import Ground, HostName
from poolwarden_lab.virtual.world.network import COLLECTOR
from poolwarden_lab.xapi.actions import Door


class LinkFaults(Ground):
    """Nodes are hosts, collectors and fence devices."""

    def cut(self, source: str, target: str) -> None:
        """Cut one direction."""
        self.network.cut_links.add((source, target))
        self.watch(source)
        self.watch(target)

    def cut_both(self, one: str, other: str) -> None:
        self.cut(one, other)
        self.cut(other, one)

    def heal(self, one: str, other: str) -> None:
        """Heal both directions; what waited arrives."""
        for pool in self.pools.values():
            if one in pool.pool.hosts or other in pool.pool.hosts:
                pool.pool.heal(one, other)
                pool.pool.heal(other, one)
        self.network.cut_links.discard((one, other))
        self.network.cut_links.discard((other, one))
        for stream in self.streams():
            stream.healed()

    def heal_all(self) -> None:
        """Every link is whole, and nothing is delayed, lost, doubled or shuffled."""
        for source, target in sorted(self.network.cut_links):
            self.heal(source, target)
        self.network.heal_all()

    def set_port(self, host: HostName, number: int, how: str, sources: Iterable[str] | None = None) -> None:
        """TCP 80 or 443 of a host, from these other hosts (None: all): open, closed or filtered."""
        place = self.find(host)
        door: Door = "tls" if number == TLS_PORT else "tcp"
        names = ("*",) if sources is None else tuple(self.find(source).name for source in sources)
        place.pool.pool.set_port(place.name, door, how, names)

    def isolate(self, host: HostName) -> None:
        """Cut a host off from everything but its fence devices."""
        for name, other in self._pairs(host):
            self.cut_both(name, other)

    def rejoin(self, host: HostName) -> None:
        for name, other in self._pairs(host):
            self.heal(name, other)

    def _pairs(self, host: HostName) -> list[tuple[str, str]]:
        place = self.find(host)
        return [(place.name, other) for other in [*place.pool.names, *self.stations] if other != place.name]

    def partition(self, *groups: Iterable[str]) -> None:
        """Nodes of different groups do not reach each other; within a group nothing changes."""
        sides = [list(group) for group in groups]
        for at, side in enumerate(sides):
            for other in sides[at + 1 :]:
                for one in side:
                    for node in other:
                        self.cut_both(one, node)

    def heal_partition(self, *groups: Iterable[str]) -> None:
        sides = [list(group) for group in groups]
        for at, side in enumerate(sides):
            for other in sides[at + 1 :]:
                for one in side:
                    for node in other:
                        self.heal(one, node)

    def flap(self, one: str, other: str, up_ms: int, down_ms: int, for_ms: int) -> None:
        """The link goes down, up, down ... and is up at the end."""
        ends = self.now + for_ms

        def down() -> None:
            if self.now < ends:
                self.cut_both(one, other)
                self.later(min(down_ms, max(1, ends - self.now)), up)

        def up() -> None:
            self.heal(one, other)
            self.later(up_ms, down)

        down()

    def delay(self, one: str, other: str, ms: int, both: bool = True) -> None:
        """What goes from one to the other (and back) takes so much longer; 0 takes it away. At most 120 s."""
        for link in self._ways(one, other, both):
            self._set(self.network.delays, link, min(ms, 120_000))

    def duplicate(self, one: str, other: str, on: bool = True) -> None:
        """Every order and every answer between them arrives twice."""
        for link in self._ways(one, other, True):
            self.network.doubled.add(link) if on else self.network.doubled.discard(link)

    def reorder(self, one: str, other: str, spread_ms: int = 3_000) -> None:
        """Orders and answers arrive up to so much later, each by itself: later ones overtake; 0 takes it away."""
        for link in self._ways(one, other, True):
            self._set(self.network.shuffled, link, spread_ms)

    def loss(self, one: str, other: str, percent: int) -> None:
        """This share of the probes between them is lost (streams retransmit); 0 takes it away."""
        for link in self._ways(one, other, True):
            self._set(self.network.lossy, link, percent)

    def half_open(self, host: HostName, collector: str = COLLECTOR, on: bool = True) -> None:
        """The host's stream stands, its pings are answered, and nothing of what it says arrives."""
        link = (self.find(host).name, collector)
        self.network.half_open.add(link) if on else self.network.half_open.discard(link)

    def cut_uplink(self, collector: str = COLLECTOR) -> None:
        """A collector's uplink dies: it reaches no host, no fence device and no anchor."""
        for node in self.nodes():
            self.cut_both(collector, node)
        self.anchors(False, collector)

    def heal_uplink(self, collector: str = COLLECTOR) -> None:
        for node in self.nodes():
            self.heal(collector, node)
        self.anchors(True, collector)

    def nodes(self) -> list[str]:
        """Every host and every fence device."""
        devices = [device for pool in self.pools.values() for device in pool.bmcs]
        return [*self.hosts(), *devices]

    def anchors(self, answer: bool, collector: str = COLLECTOR) -> None:
        """Do a collector's two network anchors answer?"""
        station = self.stations[collector]
        station.anchors = (answer, answer)
        if station.shell is not None:
            station.shell.anchors = station.anchors

    @staticmethod
    def _ways(one: str, other: str, both: bool) -> list[tuple[str, str]]:
        return [(one, other), (other, one)] if both else [(one, other)]

    @staticmethod
    def _set(table: dict[tuple[str, str], int], link: tuple[str, str], value: int) -> None:
        if value:
            table[link] = value
        else:
            table.pop(link, None)
