"""The door: which numbers of an agent's message are taken at all.

Rules
-----
* One host's agent is one voice. An epoch, a term, a database generation or a clock that no honest host can have come to
  is refused with the whole message, and its stream ends with that reason: raised above such a number, a collector would
  soon have none left to count with, and no store could hold it.
* Plausible is what lies within a leap of this collector's own number: 2**20 activations, 2**24 terms. A lost journal
  begins at nothing, and even then its agents are not that far ahead. Where they really are, its operator says so
  (``epoch_above``, ``term_above`` in the configuration).
* Every other number of 64 bits is only told to people; above 2**53 it is cut to that, in place, because neither JSON's
  readers nor SQLite hold more, and a file system's nonsense is no reason not to hear its host.
* Stamps are cut likewise; they never become later than the message that brings them (stream.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.epoch import LOT_BITS

EPOCH_LEAP = 1 << (LOT_BITS + 20)
TERM_LEAP = 1 << 24
MOST = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The highest numbers that a host of one pool may claim now."""

    epoch: int = EPOCH_LEAP
    term: int = TERM_LEAP

    @classmethod
    def beyond(cls, epoch: int, term: int) -> Limits:
        """What lies within a leap of a collector's own epoch and of the pool's term."""
        return cls(epoch + EPOCH_LEAP, term + TERM_LEAP)


class Implausible(ValueError):
    """A number that no honest host can have; one sentence that names the field, the number and the bound."""


class _Bound(Enum):
    EPOCH = "epoch"
    TERM = "term"
    MOST = "most"
    CUT = "cut"


_DECIDES = {
    "highest_epoch": _Bound.EPOCH,
    "epoch": _Bound.EPOCH,
    "highest_term": _Bound.TERM,
    "term": _Bound.TERM,
    "gc_term": _Bound.TERM,
    "generation": _Bound.MOST,
}
_WIDE = (FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_INT64)


@dataclass(slots=True)
class _Plan:
    """Where in a kind of message wide numbers are: its own fields, and the messages in it that have any."""

    numbers: dict[int, _Bound]
    inside: dict[int, _Plan]


def _plan(kind: Descriptor) -> _Plan:
    numbers, inside = {}, {}
    for field in kind.fields:
        if field.message_type is not None:
            found = _plan(field.message_type)
            if found.numbers or found.inside:
                inside[field.number] = found
        elif field.cpp_type in _WIDE:
            numbers[field.number] = _DECIDES.get(field.name, _Bound.CUT)
    return _Plan(numbers, inside)


_MESSAGE = _plan(pb.AgentMessage.DESCRIPTOR)
# The message's own stamp is its host's clock; history (Late) is nobody's number of today.
_MESSAGE.numbers[pb.AgentMessage.DESCRIPTOR.fields_by_name["mono_ms"].number] = _Bound.MOST
_LATE = _MESSAGE.inside[pb.AgentMessage.DESCRIPTOR.fields_by_name["late"].number]
_SAMPLE = _LATE.inside[pb.Late.DESCRIPTOR.fields_by_name["sample"].number]
_SAMPLE.numbers[pb.LateSample.DESCRIPTOR.fields_by_name["generation"].number] = _Bound.CUT


def admit(message: pb.AgentMessage, limits: Callable[[], Limits]) -> None:
    """Hold a message against the bounds; what is only told is cut in place. Raises Implausible."""
    _walk(message, _MESSAGE, limits, message.WhichOneof("body") or "message")


def _walk(message: Any, plan: _Plan, limits: Callable[[], Limits], path: str) -> None:
    for field, value in message.ListFields():
        bound = plan.numbers.get(field.number)
        if bound is not None:
            _number(message, field, value, bound, limits, path)
            continue
        deeper = plan.inside.get(field.number)
        if deeper is None:
            continue
        where = path if path == field.name else f"{path}.{field.name}"
        for one in (value,) if isinstance(value, Message) else value:
            _walk(one, deeper, limits, where)


def _number(
    message: Any, field: FieldDescriptor, value: int, bound: _Bound, limits: Callable[[], Limits], path: str
) -> None:
    if bound is _Bound.CUT:
        if value > MOST:
            setattr(message, field.name, MOST)
        return
    most = MOST if bound is _Bound.MOST else limits().epoch if bound is _Bound.EPOCH else limits().term
    if value > most:
        raise Implausible(f"{path}.{field.name} is {value}, which cannot be: at most {most} is taken")
