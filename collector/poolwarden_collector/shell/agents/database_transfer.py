"""Moving a database from one host to another, piece by piece, without sockets or a clock: the service and the
simulation drive it.

Rules
-----
* One piece at a time: read it, place it, go on. An answer that does not come is asked for again under the same order
  id; the agents' gates are idempotent, and a piece overwrites itself.
* Path, generation, size and checksum are those of the first piece; whatever differs later ends the transfer. The
  target's agent verifies size and checksum of the whole before the file takes its name.
* It ends by itself: done, refused, or ``limit_ms`` over. Nothing that ended places anything any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.events import DatabaseTransferred, Event, OrderAnswered
from poolwarden_collector.core.model.order_results import NEVER_BEGUN, DatabasePiece, OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import Order, OrderKind, PlaceDatabase, ReadDatabase
from poolwarden_collector.core.model.values import HostId, Ms, PoolId

PIECE_BYTES = 1 << 20
ORDER_VALID_MS: Ms = 15_000
AGAIN_MS: Ms = 5_000
TRIES = 3

Send = Callable[[Order], object]
Tell = Callable[[DatabaseTransferred], object]


@dataclass
class _Transfer:
    """One handover: what it is, the first piece's facts, and the one order that is out."""

    given: HandOver
    began: Ms
    first: DatabasePiece | None = None
    moved: int = 0
    order: Order | None = None
    sent_at: Ms = 0
    tries: int = 0


class Handovers:
    """Every handover under way in one pool's service. ``send`` gives an order to a host's stream, if there is one."""

    def __init__(self, send: Send, tell: Tell) -> None:
        self._send = send
        self._tell = tell
        self._open: dict[str, _Transfer] = {}

    def begin(self, given: HandOver, now: Ms) -> None:
        """Start one; its end is told as an event, once."""
        transfer = _Transfer(given, now)
        self._open[given.transfer_id] = transfer
        self._read(transfer, now)

    def tick(self, now: Ms) -> None:
        """Ask again for what was not answered; end what takes too long."""
        for transfer in list(self._open.values()):
            if now - transfer.began >= transfer.given.limit_ms:
                self._end(transfer, False, f"it took longer than {transfer.given.limit_ms / 1000:.0f} s")
            elif now - transfer.sent_at >= AGAIN_MS and transfer.order is not None:
                if transfer.tries >= TRIES:
                    self._end(transfer, False, f"no answer to {transfer.order.kind_name} after {TRIES} attempts")
                else:
                    self._again(transfer, now)

    def answered(self, host: HostId, result: OrderOutcome, now: Ms) -> None:
        """An agent's answer to any order; those of no transfer are not looked at."""
        transfer = next((t for t in self._open.values() if t.order and t.order.order_id == result.order_id), None)
        if transfer is None or transfer.order is None or transfer.order.host != host:
            return
        placing = isinstance(transfer.order.kind, PlaceDatabase)
        if result.outcome is Outcome.REFUSED and result.reason in NEVER_BEGUN:
            return  # asked again by tick
        if result.outcome is not Outcome.DONE:
            self._end(transfer, False, f"{transfer.order.kind_name}: {result.text or result.reason}")
        elif placing:
            self._placed(transfer, now)
        elif result.database is None:
            self._end(transfer, False, "read_database: the answer holds no piece")
        else:
            self._piece(transfer, result.database, now)

    # ------------------------------------------------------------------------------------------------ pieces

    def _piece(self, transfer: _Transfer, piece: DatabasePiece, now: Ms) -> None:
        given, first = transfer.given, transfer.first or piece
        transfer.first = first
        same = (piece.path, piece.generation, piece.total_bytes, piece.sha256) == (
            first.path, first.generation, first.total_bytes, first.sha256,
        )  # fmt: skip
        if not same or piece.offset != transfer.moved:
            self._end(transfer, False, f"{first.path} changed while it was read")
        elif piece.generation <= given.above:
            self._end(transfer, False, f"its generation {piece.generation} is not newer than {given.above}")
        elif piece.total_bytes > given.max_bytes:
            self._end(transfer, False, f"its {piece.total_bytes} bytes are more than {given.max_bytes}")
        elif not piece.chunk or transfer.moved + len(piece.chunk) > piece.total_bytes:
            self._end(transfer, False, f"{first.path} ended after {transfer.moved} of {piece.total_bytes} bytes")
        else:
            place = PlaceDatabase(
                piece.generation,
                piece.total_bytes,
                transfer.moved,
                piece.chunk,
                piece.sha256,
                held_master=given.held_master,
            )
            transfer.moved += len(piece.chunk)
            self._order(transfer, given.target, given.target_boot, place, now)

    def _placed(self, transfer: _Transfer, now: Ms) -> None:
        assert transfer.first is not None
        if transfer.moved < transfer.first.total_bytes:
            self._read(transfer, now)
        else:
            self._end(transfer, True, "")

    def _read(self, transfer: _Transfer, now: Ms) -> None:
        path = transfer.first.path if transfer.first is not None else ""
        read = ReadDatabase(transfer.moved, min(PIECE_BYTES, transfer.given.max_bytes), path)
        self._order(transfer, transfer.given.source, transfer.given.source_boot, read, now)

    def _order(self, transfer: _Transfer, host: HostId, boot: str, kind: OrderKind, now: Ms) -> None:
        what = "place" if isinstance(kind, PlaceDatabase) else "read"
        order_id = f"{transfer.given.transfer_id}/{what}/{transfer.moved}"
        word = transfer.given.approval if isinstance(kind, PlaceDatabase) else None
        transfer.order = Order(order_id, host, boot, transfer.given.term, kind, ORDER_VALID_MS, approval=word)
        transfer.tries = 0
        self._again(transfer, now)

    def _again(self, transfer: _Transfer, now: Ms) -> None:
        assert transfer.order is not None
        transfer.tries, transfer.sent_at = transfer.tries + 1, now
        self._send(transfer.order)

    def _end(self, transfer: _Transfer, placed: bool, text: str) -> None:
        given, first = transfer.given, transfer.first
        del self._open[given.transfer_id]
        generation, size, sha256 = (first.generation, first.total_bytes, first.sha256) if first else (0, 0, "")
        self._tell(
            DatabaseTransferred(
                given.transfer_id, given.source, given.target, placed, generation, size, sha256, text or "placed"
            )
        )


class PoolHandovers:
    """The handovers of every pool. ``send`` gives an order to its host, ``post`` queues an event."""

    def __init__(
        self, send: Callable[[PoolId, Order], object], post: Callable[[PoolId, DatabaseTransferred], object]
    ) -> None:
        self._send = send
        self._post = post
        self._of: dict[PoolId, Handovers] = {}

    def begin(self, pool: PoolId, given: HandOver, now: Ms) -> None:
        """Start one; its end is posted, once."""
        if pool not in self._of:
            self._of[pool] = Handovers(lambda order: self._send(pool, order), lambda event: self._post(pool, event))
        self._of[pool].begin(given, now)

    def forget(self, pool: PoolId) -> None:
        """What is under way in this pool is asked for no more, and its end is not told."""
        self._of.pop(pool, None)

    def heard(self, pool: PoolId, event: Event, now: Ms) -> None:
        """An event of this pool was stepped: an answer may belong to a handover, time ends one."""
        if (handovers := self._of.get(pool)) is None:
            return
        if isinstance(event, OrderAnswered):
            handovers.answered(event.host, event.result, now)
        handovers.tick(now)
