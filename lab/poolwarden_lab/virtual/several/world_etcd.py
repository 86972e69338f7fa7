"""The model of etcd as the world has it: on its clock and behind its network, and whoever looks on sees each write.

Its node is ``etcd``: a collector that is cut from it asks in vain, and an answer that meets the cut on its way back is
never heard; then the request is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from poolwarden_collector.shell.cluster.etcd import EtcdError, InDoubt, Kept, Request
from poolwarden_lab.virtual.world.etcd_model import EtcdModel, Reply
from poolwarden_lab.virtual.world.network import Network

ETCD = "etcd"


class WorldEtcd(EtcdModel):
    """``on_put`` and ``on_gone`` are told each key that is written or goes, at that very instant."""

    def __init__(self, network: Network) -> None:
        clock = network.clock
        super().__init__(lambda: clock.now, lambda ms, call: clock.at(clock.now + ms, call))
        self.on_put: Callable[[Kept], None] = lambda _: None
        self.on_gone: Callable[[str], None] = lambda _: None
        self._network = network

    def submit(self, client: str, request: Request, reply: Reply) -> None:
        until = self._now() + self.deadline_ms

        def answered(answer: Any) -> None:
            if isinstance(answer, EtcdError) or self._network.both_ways(client, ETCD):
                reply(answer)
            else:
                self._later(max(0, until - self._now()), reply, InDoubt("DEADLINE_EXCEEDED: the answer did not come"))

        super().submit(client, request, answered)

    def _reaches(self, client: str, member: int) -> bool:
        return super()._reaches(client, member) and self._network.both_ways(client, ETCD)

    def _put(self, key: str, kept: Kept) -> None:
        super()._put(key, kept)
        self.on_put(kept)

    def _remove(self, key: str) -> None:
        super()._remove(key)
        self.on_gone(key)

    def value(self, key: str) -> Kept | None:
        """What stands there, for whoever looks on."""
        return self._kept.get(key)
