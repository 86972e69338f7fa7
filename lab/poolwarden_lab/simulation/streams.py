"""Streams between agents and the collector, as TCP under gRPC's keepalive behaves.

* Messages of one direction arrive in order, after the latency. Into a cut link they wait, as TCP retransmits.
* A cut link, a frozen or a powerless end is noticed ``KEEPALIVE_MS`` after it began (2 s ping, 1 s limit: 1.6 s on
  average); then the stream is over at both ends, and what waited is lost.
* A process that dies resets its streams at once. What had arrived at a frozen process is read when it thaws.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from poolwarden_lab.xapi.virtual import VirtualPool

KEEPALIVE_MS = 1_600
COLLECTOR = "collector"

Sink = Callable[[bytes], None]


class Network:
    """The links between hosts and the collector, and extra delay on each. Cuts are shared with xapi's own links."""

    def __init__(self, pool: VirtualPool) -> None:
        self.pool = pool
        self.delays: dict[tuple[str, str], int] = {}
        self.duplicate_down = False  # every message to an agent arrives twice

    def passes(self, source: str, target: str) -> bool:
        return (source, target) not in self.pool.cut_links

    def both_ways(self, one: str, other: str) -> bool:
        return self.passes(one, other) and self.passes(other, one)

    def arrival(self, source: str, target: str) -> int:
        return self.pool.now + self.pool.latency_ms + self.delays.get((source, target), 0)


class Pipe:
    """One direction of a stream."""

    def __init__(self, network: Network, source: str, target: str, sink: Sink) -> None:
        self._network = network
        self._ends = (source, target)
        self._sink = sink
        self._under_way: deque[bytes] = deque()
        self._last = 0
        self.closed = False

    def send(self, message: bytes) -> None:
        self._under_way.append(message)
        self._last = max(self._last, self._network.arrival(*self._ends))
        self._network.pool.at(self._last, self.flush)

    def flush(self) -> None:
        """Deliver what may arrive now."""
        pool = self._network.pool
        while self._under_way and not self.closed and self._network.passes(*self._ends):
            host = pool.hosts.get(self._ends[1])
            if host is not None and not host.power:
                return
            self._sink(self._under_way.popleft())


class Stream:
    """One agent's stream. ``number`` grows with each connection that the collector accepts."""

    def __init__(self, network: Network, host: str, number: int) -> None:
        self.network = network
        self.host = host
        self.number = number
        self.up: Pipe | None = None
        self.down: Pipe | None = None
        self.open = True
        self._abandoned = False
        self._on_end: list[Callable[[], None]] = []

    def connect(self, to_collector: Sink, to_agent: Sink, on_end: list[Callable[[], None]]) -> None:
        """Wire both ends; ``on_end`` hears once when the stream is over."""
        self.up = Pipe(self.network, self.host, COLLECTOR, to_collector)
        self.down = Pipe(self.network, COLLECTOR, self.host, to_agent)
        self._on_end = on_end

    def watch(self) -> None:
        """Something on the way may have broken: look again when keepalive would notice it."""
        pool = self.network.pool
        began = pool.now
        pool.at(began + KEEPALIVE_MS, self._keepalive)

    def abandon(self) -> None:
        """The agent's machine is gone without a word; it will not answer a ping on this stream again."""
        self._abandoned = True
        self.watch()

    def _keepalive(self) -> None:
        host = self.network.pool.hosts[self.host]
        if self.open and (
            self._abandoned or host.frozen or not host.power or not self.network.both_ways(self.host, COLLECTOR)
        ):
            self.end()

    def healed(self) -> None:
        """The way is whole again: what waited arrives."""
        for pipe in (self.up, self.down):
            if pipe is not None and self.open:
                pipe.flush()

    def end(self) -> None:
        """Over, at both ends, with everything that was under way."""
        if not self.open:
            return
        self.open = False
        for pipe in (self.up, self.down):
            if pipe is not None:
                pipe.closed = True
        for hear in self._on_end:
            hear()
