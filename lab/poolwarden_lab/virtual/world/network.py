"""Who reaches whom: one matrix of directed links for hosts, collectors and fence devices, with its faults.

Rules
-----
* A node is a name: a host (``h1``, or ``A/h1`` where there are several pools), a collector (``collector``), a fence
  device (``bmc-h1``, ``pdu-a-h1``). Management, the BMCs' network and each PDU's are different links, cut apart.
* A cut is shared with xapi's own links: what is sent into it waits, as TCP retransmits.
* ``delays`` (ms, one direction) are those of buffers on the way: keepalive, which is answered in between, does not see
  them. A probe whose two ways take longer than its limit is unanswered.
* ``doubled`` links deliver every order and every answer twice, ``shuffled`` ones each up to so many ms later, so that
  they overtake one another; ``lossy`` ones lose that percentage of the probes. Chance is drawn from the world's seed.
* ``half_open``: (host, collector) whose stream stands while nothing comes through it towards the collector.
"""

from __future__ import annotations

import random

from poolwarden_lab.xapi.clock import Clock

COLLECTOR = "collector"
LATENCY_MS = 1

Link = tuple[str, str]


class Network:
    """The matrix. ``cut_links`` is one set for everybody, the pools' models included."""

    def __init__(self, clock: Clock, chance: random.Random, latency_ms: int = LATENCY_MS) -> None:
        self.clock = clock
        self.latency_ms = latency_ms
        self.cut_links: set[Link] = set()
        self.delays: dict[Link, int] = {}
        self.doubled: set[Link] = set()
        self.shuffled: dict[Link, int] = {}
        self.lossy: dict[Link, int] = {}
        self.half_open: set[Link] = set()
        self._chance = chance

    def passes(self, source: str, target: str) -> bool:
        return (source, target) not in self.cut_links

    def both_ways(self, one: str, other: str) -> bool:
        return self.passes(one, other) and self.passes(other, one)

    def takes(self, source: str, target: str) -> int:
        """How long a message is under way, ms."""
        return self.latency_ms + self.delays.get((source, target), 0)

    def arrival(self, source: str, target: str) -> int:
        return self.clock.now + self.takes(source, target)

    def late_by(self, source: str, target: str) -> int | None:
        """How much later one message of a shuffled link arrives; None: this link keeps the order."""
        spread = self.shuffled.get((source, target))
        return None if spread is None else self._chance.randrange(spread + 1)

    def loses(self, one: str, other: str) -> bool:
        """Does this exchange fall to a lossy link, in either direction?"""
        percents = [self.lossy.get(link, 0) for link in ((one, other), (other, one))]
        return any(percent and self._chance.randrange(100) < percent for percent in percents)

    def too_slow(self, one: str, other: str, limit_ms: int) -> bool:
        """Would an exchange take longer than this?"""
        return bool(self.delays) and self.takes(one, other) + self.takes(other, one) > limit_ms + 2 * self.latency_ms

    def heal_all(self) -> None:
        """No fault but cuts is left (those are healed one by one: what waits in them has to arrive)."""
        for faults in (self.delays, self.doubled, self.shuffled, self.lossy, self.half_open):
            faults.clear()
