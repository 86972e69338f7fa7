"""Evidence capsules of this host: when one is kept, and handing them over to a collector that is there.

Nothing here waits but ``make``, ``piece`` and ``taken``, which ask disks: they are called from threads of their own.
What is offered and asked for is history, for people (contract: CapsuleOffer).
"""

import threading
from typing import Optional, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.capsule import BIGGEST_PIECE, Capsule
from poolwarden_agent.core.suspicion import COLLECTOR, LONGEST_TEXT, ORDER, Reason, Signs, Suspicion
from poolwarden_agent.host.observer import Observer
from poolwarden_agent.host.report import Sections
from poolwarden_agent.host_port import HostPort

OFFER_EVERY_MS = 30 * 60 * 1000
STARTING = ("promote", "toolstack_fence")  # orders that say something is wrong


class Evidence(object):
    """One host's capsules; a port that keeps none makes all of this do nothing."""

    def __init__(self, port: HostPort, observer: Observer, sections: Sections) -> None:
        self._port = port
        self._observer = observer
        self._sections = sections
        self._folder = port.capsules()
        self._suspicion = Suspicion()
        self._lock = threading.Lock()
        self._loaded = self._folder is None
        self._offered: Optional[Tuple[str, ...]] = None  # what was offered last on this stream
        self._offered_ms = 0

    @property
    def kept_here(self) -> bool:
        """Does this host keep capsules at all?"""
        return self._folder is not None

    def load(self) -> None:
        """Look what an earlier agent has kept; before that nothing is kept and nothing offered."""
        if self._folder is not None:
            self._folder.load()
            boot = self._port.identity().boot_id
            with self._lock:
                for capsule in self._folder.held:
                    if capsule.boot == boot:
                        self._suspicion.begun(capsule.mono_ms)
        self._loaded = True

    def look(self, held: bool) -> Optional[Reason]:
        """Why a capsule is to be kept now, after a look at this host; ``held``: its toolstack is held stopped."""
        seen = self._observer.seen
        if self._folder is None or not self._loaded or not seen.at_ms:
            return None
        signs = Signs(seen.process, seen.health.word, held, self._observer.orphaned()[0], self._observer.host.master)
        with self._lock:
            return self._suspicion.look(signs, self._port.mono_ms())

    def ordered(self, kind: str) -> Optional[Reason]:
        """An order of this kind has come."""
        return (
            self._told(Reason(ORDER, "the collector orders %s" % kind.replace("_", " "))) if kind in STARTING else None
        )

    def asked(self, asked: pb.KeepEvidence) -> Optional[Reason]:
        """A collector suspects something."""
        return self._told(Reason(COLLECTOR, "the collector says: %s" % asked.text[:LONGEST_TEXT]))

    def _told(self, reason: Reason) -> Optional[Reason]:
        if self._folder is None or not self._loaded:
            return None
        with self._lock:
            return self._suspicion.told(reason, self._port.mono_ms())

    def make(self, reason: Reason) -> str:
        """Keep a capsule now; why there is none in words, empty: there is one. Takes seconds to minutes."""
        if self._folder is None:
            return ""
        facts = pb.Report(full=True, wall_ms=self._port.wall_ms())
        self._sections.tell_freshness(facts.freshness)
        for name, _, section in self._sections.all():
            getattr(facts, name).CopyFrom(section())
        from google.protobuf import text_format  # most hosts never need it

        # As UTF-8: whoever looks for a name finds it as it is written.
        told = text_format.MessageToString(facts, as_utf8=True)
        return str(self._folder.keep(reason, told, self._port.mono_ms(), self._port.wall_ms()))

    # ------------------------------------------------------------------------------------------ handing over

    def stream_up(self) -> None:
        """Another stream: nothing is offered on it yet."""
        self._offered = None

    def offer(self) -> Optional[pb.CapsuleOffer]:
        """What is to be told now of the capsules that no collector has; None: nothing. Asks no disk."""
        if self._folder is None or not self._loaded or not self._port.hands_over():
            return None
        now = self._port.mono_ms()
        left = tuple(capsule for capsule in self._folder.held if not capsule.taken)
        known = tuple(capsule.id for capsule in left)
        if not left or (self._offered == known and now - self._offered_ms < OFFER_EVERY_MS):
            return None
        self._offered, self._offered_ms = known, now
        boot = self._port.identity().boot_id
        return pb.CapsuleOffer(capsules=[_info(capsule, boot, now) for capsule in left])

    def piece(self, asked: pb.CapsuleRequest) -> pb.CapsulePiece:
        """The answer to a request."""
        piece = pb.CapsulePiece(id=asked.id[:64], offset=asked.offset)
        if self._folder is None or not self._port.hands_over():
            piece.text = "this host hands no capsules over"
            return piece
        try:
            piece.chunk = self._folder.read(asked.id, asked.offset, min(asked.limit, BIGGEST_PIECE))
            piece.text = "" if piece.chunk else "it ends before that"
        except (OSError, OverflowError) as error:
            piece.text = ("%s" % error)[:LONGEST_TEXT]
        return piece

    def taken(self, said: pb.CapsuleTaken) -> None:
        """A collector has this one whole."""
        if self._folder is not None:
            self._folder.taken(said.id, said.sha256)


def _info(capsule: Capsule, boot: str, now_ms: int) -> pb.CapsuleInfo:
    return pb.CapsuleInfo(
        id=capsule.id,
        trigger=capsule.trigger,
        text=capsule.text,
        boot_id=capsule.boot,
        mono_ms=capsule.mono_ms,
        wall_ms=capsule.wall_ms,
        age_ms=max(1, now_ms - capsule.mono_ms) if capsule.boot == boot else 0,
        total_bytes=capsule.size,
        sha256=capsule.sha256,
    )
