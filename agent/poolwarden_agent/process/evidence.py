"""Threads for evidence capsules: one while a capsule is made, one while pieces are handed over, none otherwise."""

import queue
from typing import Any, Callable, Dict, List, Optional

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.suspicion import Reason
from poolwarden_agent.host.evidence import Evidence
from poolwarden_agent.process import log
from poolwarden_agent.process.workers import Workers

MAKE, HAND_OVER = "make", "hand over"
LOAD = Reason("", "")


class EvidenceWork(object):
    """Between the loop, which never waits, and the disks."""

    def __init__(self, evidence: Evidence, held: Callable[[], bool], wake: Callable[[], None]) -> None:
        self._evidence = evidence
        self._held = held
        self._wake = wake
        self._workers = Workers(self._one)
        self._answers = queue.Queue()  # type: queue.Queue

    def start(self) -> None:
        """Look what is there already."""
        if self._evidence.kept_here:
            self._workers.give(MAKE, LOAD)

    def look(self) -> None:
        """After a look at this host."""
        self._begin(self._evidence.look(self._held()))

    def ordered(self, kind: str) -> None:
        """An order has come."""
        self._begin(self._evidence.ordered(kind))

    def heard(self, messages: List[pb.CollectorMessage]) -> None:
        """What a collector has said about capsules; more than a few at a time is not listened to."""
        for message in messages:
            if message.HasField("keep_evidence"):
                self._begin(self._evidence.asked(message.keep_evidence))
            else:
                self._workers.give(HAND_OVER, message)

    def bodies(self) -> List[Dict[str, Any]]:
        """Bodies of messages that are to be sent now."""
        found = []
        while not self._answers.empty():
            found.append({"capsule_piece": self._answers.get()})
        return found

    def offer(self) -> Optional[pb.CapsuleOffer]:
        """What is to be offered now."""
        return self._evidence.offer()

    def _begin(self, reason: Optional[Reason]) -> None:
        if reason is not None:
            log.say("an evidence capsule is kept: %s" % reason.text, "evidence")
            self._workers.give(MAKE, reason)

    def _one(self, work: Any) -> None:
        try:
            if work is LOAD:
                self._evidence.load()
            elif isinstance(work, Reason):
                said = self._evidence.make(work)
                if said:
                    log.say(said, "evidence")
            elif work.HasField("capsule_taken"):
                self._evidence.taken(work.capsule_taken)
            else:
                self._answers.put(self._evidence.piece(work.capsule_request))
                self._wake()
        except Exception as error:  # the next one is tried all the same
            log.say("an evidence capsule failed: %s: %s" % (type(error).__name__, error), "evidence")
