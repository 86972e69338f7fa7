"""What a message of an agent is and how big, read off its bytes before anything is parsed.

A serialized message is a row of fields, each a tag and a value; a value that is a text or a message begins with its
length (protobuf.dev, "Encoding"). So the row is walked by its lengths, without looking into any value: some
microseconds, however long the message is. Of an answer to an order one level more is walked, for the piece of a
database that it may hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poolwarden.v1 import agent_link_pb2 as pb

MOST_FIELDS = 32  # of a message, of an answer besides its lists
_MOST_WALKED = 4_096  # fields of an answer, its lists included
_VARINT, _WIDE, _BYTES, _NARROW = 0, 1, 2, 5
_NAMES = {field.number: field.name for field in pb.AgentMessage.DESCRIPTOR.oneofs_by_name["body"].fields}
_PIECE = pb.OrderResult.DESCRIPTOR.fields_by_name["database"].number


class NoMessage(ValueError):
    """Bytes that are no message of the contract; one sentence."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """``body``: its name in the contract, "" of a later version's; ``piece``: bytes of it that are of a database."""

    body: str
    size: int
    piece: int = 0


def envelope(raw: bytes) -> Envelope:
    """What this message is. Raises NoMessage."""
    body, start, end = "", 0, 0
    for count, (number, kind, begin, stop) in enumerate(_fields(raw, 0, len(raw)), 1):
        if count > MOST_FIELDS:
            raise NoMessage(f"a message of more than {MOST_FIELDS} fields")
        if kind == _BYTES and number in _NAMES:
            if body:
                raise NoMessage(f"a message with two bodies, {body} and {_NAMES[number]}")
            body, start, end = _NAMES[number], begin, stop
    piece = _piece(raw, start, end) if body == "order_result" else 0
    return Envelope(body, len(raw), piece)


def _piece(raw: bytes, start: int, end: int) -> int:
    found = 0
    for count, (number, _, begin, stop) in enumerate(_fields(raw, start, end), 1):
        if count > _MOST_WALKED:
            raise NoMessage(f"an answer of more than {_MOST_WALKED} fields")
        if number == _PIECE:
            found += stop - begin
    return found


def _fields(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field: its number, its wire type, where its value begins and ends."""
    while at < end:
        tag, at = _varint(raw, at, end)
        kind = tag & 7
        if kind == _VARINT:
            stop = _varint(raw, at, end)[1]
        elif kind == _BYTES:
            length, at = _varint(raw, at, end)
            stop = at + length
        elif kind in (_WIDE, _NARROW):
            stop = at + (8 if kind == _WIDE else 4)
        else:
            raise NoMessage("bytes that are no message of the contract")
        if stop > end:
            raise NoMessage("a message that ends too early")
        yield tag >> 3, kind, at, stop
        at = stop


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NoMessage("a message that ends within a number")
