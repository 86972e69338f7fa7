"""A long reply as the bytes that go over the wire, made part by part, so that the engine has its turns in between.

Theory: the bytes of a protobuf message are those of its fields one after the other, and an element of a repeated
message field is its tag, its length and its own bytes, wherever it stands (protobuf.dev, Encoding).
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.shell.operators.turns import Turns

LONG = 50  # elements of a field, from which on they are written one by one
_LENGTH_DELIMITED = 2


async def in_bytes(reply: Any, turns: Turns) -> Any:
    """The reply, or its bytes where it has a long list of messages."""
    long = [
        (field, list(value))
        for field, value in reply.ListFields()
        if field.cpp_type == field.CPPTYPE_MESSAGE and not hasattr(value, "ListFields")
        and not field.message_type.GetOptions().map_entry and len(value) >= LONG
    ]  # fmt: skip
    if not long:
        return reply
    parts: list[bytes] = []
    for field, elements in long:
        tag = _varint(field.number << 3 | _LENGTH_DELIMITED)
        for each in elements:
            data = each.SerializeToString()
            parts += (tag, _varint(len(data)), data)
            await turns.rest()
        reply.ClearField(field.name)
    return b"".join([reply.SerializeToString(), *parts])


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
