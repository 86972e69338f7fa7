"""Streams between agents and a collector, as TCP under gRPC's keepalive behaves.

* Messages of one direction arrive in order, after the latency. Into a cut link they wait, as TCP retransmits. A stream
  neither doubles nor shuffles them; but an order or an answer can be told again or be held up by itself (a retry, a
  buffer, another stream), and this is what ``doubled`` and ``shuffled`` links do to them. Reports keep their order.
* A cut link, a frozen or a powerless end is noticed ``KEEPALIVE_MS`` after it began (2 s ping, 1 s limit: 1.6 s on
  average); then the stream is over at both ends, and what waited is lost.
* A process that dies resets its streams at once. One that says goodbye ends its stream behind its last word. What had
  arrived at a frozen process is read when it thaws.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_lab.virtual.world.network import COLLECTOR, Network

__all__ = ["COLLECTOR", "KEEPALIVE_MS", "Ends", "Network", "Pipe", "Stream"]

KEEPALIVE_MS = 1_600

Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Ends:
    """Both ends of a stream: their nodes, whether the host has power, and whether both processes answer a ping."""

    host: str
    collector: str
    powered: Callable[[], bool]
    answer: Callable[[], bool]


@dataclass(slots=True, eq=False)
class Parcel:
    """One message under way; ``sent`` is when it was given to the stream."""

    raw: bytes
    due: int
    sent: int


class Pipe:
    """One direction of a stream. ``sent_at`` is when the message that is being delivered was sent."""

    def __init__(self, network: Network, source: str, target: str, powered: Callable[[], bool], sink: Sink) -> None:
        self._network = network
        self._ends = (source, target)
        self._powered = powered
        self._sink = sink
        self._under_way: deque[Parcel] = deque()
        self._loose: list[Parcel] = []  # on a shuffled link
        self._last = 0
        self.sent_at = 0
        self.closed = False

    def send(self, message: bytes, *, apart: bool = False) -> None:
        """``apart``: an order, an answer: it may be doubled or shuffled; what tells deltas never is."""
        network = self._network
        for _ in range(2 if apart and self._ends in network.doubled else 1):
            late = network.late_by(*self._ends) if apart else None
            arrival = network.arrival(*self._ends)
            if late is not None:
                self._loose.append(Parcel(message, arrival + late, network.clock.now))
                network.clock.at(arrival + late, self.flush)
                continue
            self._last = max(self._last, arrival)
            self._under_way.append(Parcel(message, self._last, network.clock.now))
            network.clock.at(self._last, self.flush)

    @property
    def emptied_at(self) -> int:
        """When everything that was sent will have arrived, if nothing holds it up."""
        return max([self._last, *(parcel.due for parcel in self._loose)])

    def flush(self) -> None:
        """Deliver what may arrive now."""
        now = self._network.clock.now
        while self._open() and self._under_way and self._under_way[0].due <= now:
            self._deliver(self._under_way.popleft())
        for parcel in [parcel for parcel in self._loose if parcel.due <= now]:
            if self._open():
                self._loose.remove(parcel)
                self._deliver(parcel)

    def _open(self) -> bool:
        return not self.closed and self._network.passes(*self._ends) and self._powered()

    def _deliver(self, parcel: Parcel) -> None:
        if self._ends not in self._network.half_open:
            self.sent_at = parcel.sent
            self._sink(parcel.raw)


class Stream:
    """One agent's stream. ``number`` grows with each connection that a collector accepts."""

    def __init__(self, network: Network, ends: Ends, number: int) -> None:
        self.network = network
        self.ends = ends
        self.host = ends.host
        self.number = number
        self.up: Pipe | None = None
        self.down: Pipe | None = None
        self.open = True
        self._abandoned = False
        self._on_end: list[Callable[[], None]] = []

    def connect(self, to_collector: Sink, to_agent: Sink, on_end: list[Callable[[], None]]) -> None:
        """Wire both ends; ``on_end`` hears once when the stream is over."""
        ends = self.ends
        self.up = Pipe(self.network, ends.host, ends.collector, lambda: True, to_collector)
        self.down = Pipe(self.network, ends.collector, ends.host, ends.powered, to_agent)
        self._on_end = on_end

    def watch(self) -> None:
        """Something on the way may have broken: look again when keepalive would notice it."""
        clock = self.network.clock
        clock.at(clock.now + KEEPALIVE_MS, self._keepalive)

    def abandon(self) -> None:
        """The agent's machine is gone without a word; it will not answer a ping on this stream again."""
        self._abandoned = True
        self.watch()

    def _keepalive(self) -> None:
        ends = self.ends
        whole = self.network.both_ways(ends.host, ends.collector)
        if self.open and (self._abandoned or not ends.powered() or not ends.answer() or not whole):
            self.end()

    def healed(self) -> None:
        """The way is whole again: what waited arrives."""
        for pipe in (self.up, self.down):
            if pipe is not None and self.open:
                pipe.flush()

    def finish(self) -> None:
        """The agent has said its last word: the stream ends when that has arrived."""
        if self.up is not None:
            self.network.clock.at(self.up.emptied_at, self.end)

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
