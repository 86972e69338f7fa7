"""What happens on this host while no collector is connected: events and samples for the spool, and their way back.

An event is a change of something that an operator would ask about afterwards: xapi's health, the role, a disk's level,
the agent itself, the link. A sample is taken each half minute. Nothing of it is ever evidence: a report says how the
host is, this says how it was (contract: Late).
"""

import threading
from typing import Any, Dict, List, Optional

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.host_now import MASTER, MEMBER
from poolwarden_agent.core.spool import EVENT, Item, Spool
from poolwarden_agent.host.observer import Observer

SAMPLE_EVERY_MS = 30000
AWAY_MS = 10000  # a stream that is back before is nothing to tell of


class Offline(object):
    """Keeps while no stream is up (``keep``), tells once one is (``tell``).

    A stream that ends before it is told anything, as one does whose collector sends this host on, ends no absence.
    """

    def __init__(self, observer: Observer, boot_id: str) -> None:
        self._observer = observer
        self._boot = boot_id
        self._before: Dict[str, str] = {}
        self._sampled_ms = 0
        self._alone_ms: Optional[int] = None  # since when no stream is up
        self._away = False
        self._up_ms: Optional[int] = None  # since when a stream is up to which nothing was told yet
        self._lock = threading.Lock()
        self.spool = Spool()

    def keep(self, now_ms: int, why: str = "") -> None:
        """No stream is up: note what has changed; to be called each report interval."""
        with self._lock:
            self._up_ms = None
            if self._alone_ms is None:
                self._alone_ms = now_ms
            if now_ms - self._alone_ms >= AWAY_MS:
                self._keep(now_ms, why)

    def _keep(self, now_ms: int, why: str) -> None:
        if not self._away:
            self._away = True
            self.spool.again()
            self.spool.event(now_ms, "link", "the collector is out of reach%s" % (": " + why if why else ""))
            self._before = self._state()
        now = self._state()
        for kind, words in sorted(now.items()):
            if self._before.get(kind) != words:
                self.spool.event(now_ms, kind.split(" ")[0], words)
        for kind in sorted(set(self._before) - set(now)):
            self.spool.event(now_ms, kind.split(" ")[0], "%s is not seen any more" % kind)
        self._before = now
        if now_ms - self._sampled_ms >= SAMPLE_EVERY_MS:
            self._sampled_ms = now_ms
            self.spool.sample(now_ms, self._sample().SerializeToString())

    def note(self, now_ms: int, kind: str, text: str) -> None:
        """Something that no fact shows, an order's result for one."""
        with self._lock:
            if self._away and self._up_ms is None:
                self.spool.event(now_ms, kind, text)

    def up(self, now_ms: int) -> None:
        """A stream is up again."""
        with self._lock:
            self._up_ms = now_ms
            self.spool.again()

    def tell(self, now_ms: int) -> List[pb.Late]:
        """The next batch; what was told before it has arrived, because the stream is still up."""
        with self._lock:
            if self._up_ms is not None:
                if self._away:
                    self.spool.event(self._up_ms, "link", "the collector is reached again")
                self._alone_ms, self._away, self._up_ms = None, False, None
            return [self._late(item, now_ms) for item in self.spool.batch()]

    def _late(self, item: Item, now_ms: int) -> pb.Late:
        late = pb.Late(mono_ms=item.at_ms, boot_id=self._boot, age_ms=max(0, now_ms - item.at_ms), dropped=item.dropped)
        if item.what == EVENT:
            late.event.kind, late.event.text = item.kind, item.payload.decode("utf-8", "replace")
        else:
            late.sample.ParseFromString(item.payload)
        return late

    def _state(self) -> Dict[str, str]:
        """What an event is made of where it changes: kind and object -> words."""
        host, seen = self._observer.host, self._observer.seen
        found = {"xapi": "xapi: %s" % seen.health.word}
        if host.at_ms:
            role = {MASTER: "master", MEMBER: "member of %s" % host.master}.get(host.role, host.role or "not readable")
            found["role"] = "pool.conf says %s" % role
        for mount, standing in self._observer.guard.standings.items():
            found["disk " + mount] = "%s is %s" % (mount, standing.level)
        return found

    def _sample(self) -> pb.LateSample:
        host, seen = self._observer.host, self._observer.seen
        free: Dict[str, Any] = {disk.mount: disk.free_bytes for disk in host.disks}
        return pb.LateSample(
            generation=host.generation,
            xapi=seen.health.word,
            root_free_bytes=free.get("/", 0),
            log_free_bytes=free.get("/var/log", 0),
            memory_available_bytes=host.memory[1],
            running_vms=len(host.domains or ()),
            running_vms_known=host.domains is not None,
        )
