"""The door: which numbers, how many items and how long texts of an agent's message are taken at all.

Rules
-----
* One host's agent counts as one host. An epoch, a term, a database generation or a clock that no host can have reached
  is refused with the whole message, and its stream ends with that reason: raised above such a number, a collector would
  soon have none left to count with, and no store could hold it.
* Plausible is what lies within a leap of this collector's own number: 2**20 activations, 2**24 terms. A lost journal
  begins at nothing, and even then its agents are not that far ahead. Where they really are, its operator says so
  (``epoch_above``, ``term_above`` in the configuration).
* Every other number of 64 bits is only told to people; above 2**53 it is cut to that, in place, because neither JSON's
  readers nor SQLite hold more, and a file system's nonsense is no reason not to hear its host.
* Stamps are cut likewise; they never become later than the message that brings them (stream.py).
* Every list and every text has a bound (``LISTS``, ``TEXTS``; a test holds them against the contract). A list in which
  it matters that these are *all* is not known as a whole where it is longer: too many domains, and too many places of
  VMs, are "not readable", a view with too many hosts is no view. Of any other list the first items are kept.
* One address has many spellings, in brackets or not, and hosts tell what somebody has typed (pool.conf keeps what was
  given to pool-join). Every address (``ADDRESSES``) is put into the one form of RFC 5952 here, in place: behind this
  door addresses are compared as texts.
* A text that is longer is cut and ends with "…", so it equals nothing; what is not printable in it is escaped
  (plain_text.py). Who is speaking, of which boot, answering what (``EXACT``) is never cut: the message is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell import plain_text

EPOCH_LEAP = 1 << (LOT_BITS + 20)
TERM_LEAP = 1 << 24
MOST = (1 << 53) - 1

MOST_HOSTS = 64  # of a pool
MOST_DOMAINS = 4_096  # that run on a host
MOST_DISKS = 256
MOST_PLACED = 16_384  # VMs in a pool's database; an agent tells 3 MiB of them at most
LONGEST_NAME = 256  # bytes of UTF-8, as everywhere here
LONGEST_TEXT = 1_024  # a sentence; an agent's own have 240 characters
LONGEST_OUTPUT = 16 << 10  # of a fence agent; an agent tells 4,096 characters
LONGEST_CSR = 16 << 10
LONGEST_PIECE = 1 << 20  # as in shell/agents/database_transfer.py
LONGEST_OF_CAPSULE = 1 << 16  # as in shell/agents/capsules.py

# The most items of a list. In its place stands what it is where there are more: an agent's own bounds are in brackets.
LISTS = {
    "Hello.capabilities": 128,
    "Hello.last_results": 64,
    "Hello.fence_agents": 256,
    "Hello.order_key_ids": 64,  # [16]
    "Report.marks": 64,
    "DiskList.disks": MOST_DISKS,
    "DiskList.fillers": 64,  # [12]
    "DiskList.cleanable": 64,  # [12]
    "DomainList.vm_uuids": MOST_DOMAINS,
    "ProbeList.probes": 128,  # [128]
    "PoolView.hosts": MOST_HOSTS,
    "PoolView.busy_tasks": 64,  # [50]
    "PoolHost.unplugged_srs": 64,  # [50]
    "PoolHost.pending_guidances": 64,
    "ServiceFacts.services": 64,
    "NetworkFacts.nics": 64,  # [64]
    "CertificateList.certificates": 64,
    "MultipathFacts.maps": 1_024,
    "OrderResult.vm_places": 128,  # [100]
    "OrderResult.roles": 128,  # [64]
    "VmPlace.hosts": MOST_HOSTS,
    "PlacementView.placements": MOST_PLACED,
    "PlacementView.host_uuids": 2 * MOST_HOSTS,
    "AssumptionList.results": 256,
    "MemoryFacts.biggest": 16,  # [5]
    "StorageFacts.srs": 256,
    "StorageFacts.sm_errors": 16,  # [5]
    "StorageFacts.stalled": 64,
    "StorageRepository.links": MOST_HOSTS,
    "HostAdapters.fc_ports": 64,  # [64]
    "HostAdapters.iscsi_targets": 64,  # [64]
    "HostAdapters.root_disks": 64,  # [64]
    "HostAdapters.nics": 64,  # [64]
    "HostRecords.pifs": 64,  # [64]
    "HostRecords.repositories": 64,  # [32]
    "LocalRepository.running_vms": 16,  # [8]
    "LocalRepository.other_vms": 16,  # [8]
    "XapiTrouble.lines": 16,  # [5]
    "CapsuleOffer.capsules": 16,  # [4]
}
# The longest texts, where they are not names of at most LONGEST_NAME bytes.
TEXTS = {
    "AssumptionResult.evidence": LONGEST_TEXT,
    "BootGateFacts.reason": LONGEST_TEXT,
    "CapsuleInfo.text": LONGEST_TEXT,
    "CapsulePiece.text": LONGEST_TEXT,
    "Certificate.text": LONGEST_TEXT,
    "ClaimResult.veto_text": LONGEST_TEXT,
    "Cleanable.command": LONGEST_TEXT,
    "Cleanable.what": LONGEST_TEXT,
    "DatabaseFacts.unsound_text": LONGEST_TEXT,
    "FenceRun.errors": LONGEST_OUTPUT,
    "FenceRun.output": LONGEST_OUTPUT,
    "FenceRun.text": 2 * LONGEST_TEXT,  # [500 characters]
    "Filler.what": LONGEST_TEXT,
    "HoldFacts.text": LONGEST_TEXT,
    "LateEvent.text": LONGEST_TEXT,
    "OrderResult.text": LONGEST_TEXT,
    "PlacementView.text": LONGEST_TEXT,
    "Probe.text": LONGEST_TEXT,
    "RoleAnswer.text": LONGEST_TEXT,
    "StalledMount.what": LONGEST_TEXT,
    "StorageFacts.sm_errors": LONGEST_TEXT,
    "StorageLink.where": LONGEST_TEXT,
    "StartWish.against": LONGEST_TEXT,
    "VmHost.refusal": LONGEST_TEXT,
    "VmPlace.text": LONGEST_TEXT,
    "XapiFacts.emergency_text": LONGEST_TEXT,
    "XapiFacts.health_help": LONGEST_TEXT,
    "XapiFacts.health_text": LONGEST_TEXT,
    "XapiTrouble.help": LONGEST_TEXT,
    "XapiTrouble.lines": LONGEST_TEXT,
    "XapiTrouble.sentence": LONGEST_TEXT,
}
# What is never cut: where it is longer, or holds what cannot be printed, the whole message is refused.
EXACT = {
    "Hello.host_uuid": 64,
    "Hello.pool_uuid": 64,
    "Hello.boot_id": 64,
    "OrderResult.order_id": LONGEST_NAME,
    "OrderResult.nonce": LONGEST_NAME,
    "ChallengeAnswer.nonce": LONGEST_NAME,
    "ChallengeAnswer.boot_id": 64,
    "EpochAck.boot_id": 64,
    "GateQuestion.boot_id": 64,
    "Late.boot_id": 64,
    "DatabasePiece.path": LONGEST_NAME,
    "DatabasePiece.chunk": LONGEST_PIECE,
    "DatabasePiece.sha256": 64,
    "RenewalRequest.csr_pem": LONGEST_CSR,
    "RenewalRequest.signature": 1_024,
    "CapsuleInfo.id": 64,
    "CapsuleInfo.sha256": 64,
    "CapsulePiece.id": 64,
    "CapsulePiece.chunk": LONGEST_OF_CAPSULE,
}
# Texts that are IP literals wherever they are known.
ADDRESSES = frozenset(
    (
        "Hello.management_address",
        "NetworkFacts.management_address",
        "PoolHost.address",
        "Probe.address",
        "Report.management_address",
        "RoleAnswer.address",
        "RoleAnswer.follows",
        "RoleFacts.master_address",
        "RoleFacts.running_master_address",
        "GateQuestion.master_address",
        "Tombstone.successor_address",
    )
)
_OF_LINES = ("FenceRun.output", "FenceRun.errors", "RenewalRequest.csr_pem")


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
    """What no host can have come to or measured; one sentence that names the field and the bound."""


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
    """What is looked at in a kind of message: its numbers, its texts, its lists, and the messages in it."""

    numbers: dict[int, _Bound] = field(default_factory=dict)
    texts: dict[int, int] = field(default_factory=dict)  # the longest
    exact: dict[int, int] = field(default_factory=dict)
    lists: dict[int, int] = field(default_factory=dict)  # the most items
    lines: set[int] = field(default_factory=set)
    addresses: set[int] = field(default_factory=set)
    inside: dict[int, _Plan] = field(default_factory=dict)
    looked_at: frozenset[int] = frozenset()  # every field that is in one of these; most numbers are in none
    quick: Callable[[Any], bool] = lambda _: False  # surely nothing of such a message is cut or refused


def _plan(kind: Descriptor) -> _Plan:
    plan = _Plan()
    for each in kind.fields:
        name, number = f"{kind.name}.{each.name}", each.number
        if each.is_repeated:
            plan.lists[number] = LISTS[name]
        if each.message_type is not None:
            plan.inside[number] = _plan(each.message_type)
        elif each.cpp_type in _WIDE:
            plan.numbers[number] = _DECIDES.get(each.name, _Bound.CUT)
        elif name in EXACT:
            plan.exact[number] = EXACT[name]
        elif each.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            plan.texts[number] = TEXTS.get(name, LONGEST_NAME)
        if name in _OF_LINES:
            plan.lines.add(number)
        if name in ADDRESSES:
            plan.addresses.add(number)
    _look(plan)
    plan.quick = _quick(plan, kind)
    return plan


def _look(plan: _Plan) -> None:
    """Note which fields are looked at: of messages only those in which anything is."""
    inside = {number for number, each in plan.inside.items() if each.looked_at}
    plan.looked_at = frozenset({*plan.numbers, *plan.texts, *plan.exact, *plan.lists, *inside})


def _quick(plan: _Plan, kind: Descriptor) -> Callable[[Any], bool]:
    """Of a message of texts and numbers alone all of them are looked at together: a report has a probe of each host."""
    names = {each.number: each.name for each in kind.fields}
    bounds = set(plan.numbers.values())
    if plan.exact or plan.lists or plan.inside or not bounds <= {_Bound.CUT, _Bound.MOST}:
        return lambda _: False
    texts, least = _all_of([names[number] for number in plan.texts]), min(plan.texts.values(), default=0)
    numbers = _all_of([names[number] for number in plan.numbers])

    def quick(message: Any) -> bool:
        said = "".join(texts(message))
        plain = _plain(said, least) and ":" not in said  # of an address with one the spelling is looked at
        return plain and max(numbers(message), default=0) <= MOST

    return quick


def _all_of(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


_MESSAGE = _plan(pb.AgentMessage.DESCRIPTOR)
# The message's own stamp is its host's clock; history (Late) is nobody's number of today.
_MESSAGE.numbers[pb.AgentMessage.DESCRIPTOR.fields_by_name["mono_ms"].number] = _Bound.MOST
_LATE = _MESSAGE.inside[pb.AgentMessage.DESCRIPTOR.fields_by_name["late"].number]
_SAMPLE = _LATE.inside[pb.Late.DESCRIPTOR.fields_by_name["sample"].number]
_SAMPLE.numbers[pb.LateSample.DESCRIPTOR.fields_by_name["generation"].number] = _Bound.CUT


def admit(message: pb.AgentMessage, limits: Callable[[], Limits]) -> tuple[str, ...]:
    """Hold a message against the bounds, cutting in place what may be cut; a sentence for each field that was.

    Raises Implausible.
    """
    walk = _Walk(limits)
    walk.through(message, _MESSAGE, message.WhichOneof("body") or "message")
    return tuple(dict.fromkeys(walk.cut))


class _Walk:
    """One message on its way through the door."""

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self.cut: list[str] = []

    def through(self, message: Any, plan: _Plan, path: str) -> None:
        for each, value in message.ListFields():
            number = each.number
            if number not in plan.looked_at:
                continue
            if number in plan.lists:
                most = plan.lists[number]
                if len(value) > most:
                    self.cut.append(f"{path}.{each.name} has more than {most} items")
                    if _shorten(message, each, most):
                        return
                    value = getattr(message, each.name)
            if number in plan.numbers:
                self._number(message, each, value, plan.numbers[number], path)
            elif number in plan.texts:
                self._text(message, each, value, plan.texts[number], number in plan.lines, path)
                if number in plan.addresses and ":" in value:
                    setattr(message, each.name, one_form(value))
            elif number in plan.exact:
                _exact(each, value, plan.exact[number], number in plan.lines, path)
            elif (inside := plan.inside[number]).looked_at:
                where = path if path == each.name else f"{path}.{each.name}"
                for one in (value,) if isinstance(value, Message) else value:
                    if not inside.quick(one):
                        self.through(one, inside, where)

    def _number(self, message: Any, each: FieldDescriptor, value: int, bound: _Bound, path: str) -> None:
        if bound is _Bound.CUT:
            if value > MOST:
                setattr(message, each.name, MOST)
            return
        most = MOST if bound is _Bound.MOST else self._limits().epoch
        if bound is _Bound.TERM:
            most = self._limits().term
        if value > most:
            raise Implausible(f"{path}.{each.name} is {value}, which cannot be: at most {most} is taken")

    def _text(self, message: Any, each: FieldDescriptor, value: Any, most: int, lines: bool, path: str) -> None:
        if isinstance(value, str):
            if not _plain(value, most):
                setattr(message, each.name, self._shown(value, most, lines, f"{path}.{each.name}"))
            return
        for at, one in enumerate(value):
            if not _plain(one, most):
                value[at] = self._shown(one, most, lines, f"{path}.{each.name}")

    def _shown(self, value: str, most: int, lines: bool, where: str) -> str:
        shown = plain_text.printable(value[:most], plain_text.LINE_FEEDS if lines else "")
        if len(value.encode("utf-8", "replace")) > most:
            self.cut.append(f"{where} is longer than {most} bytes")
            shown += plain_text.MARK
        return plain_text.cut(shown, most)


def one_form(address: str) -> str:
    """An IPv6 literal as RFC 5952 writes it, without brackets; any other text as it is."""
    bare = address.strip()
    bare = bare[1:-1] if bare.startswith("[") and bare.endswith("]") else bare
    try:
        return str(ipaddress.IPv6Address(bare))
    except ValueError:
        return address


def _plain(value: str, most: int) -> bool:
    return len(value) <= most and value.isascii() and value.isprintable()


def _exact(each: FieldDescriptor, value: str | bytes, most: int, lines: bool, path: str) -> None:
    held = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if len(held) > most:
        raise Implausible(f"{path}.{each.name} has {len(held)} bytes, which cannot be: at most {most} are taken")
    if isinstance(value, str) and plain_text.printable(value, plain_text.LINE_FEEDS if lines else "") != value:
        raise Implausible(f"{path}.{each.name} holds what cannot be printed")


def _shorten(message: Any, each: FieldDescriptor, most: int) -> bool:
    """Keep what may be kept of a list that is too long; true: it leaves nothing of the whole message."""
    # safety: the first so many are never told as all there are.
    if isinstance(message, pb.DomainList):
        message.Clear()  # not readable
        return True
    if isinstance(message, pb.PoolView) and each.name == "hosts":
        message.Clear()  # no view
        return True
    if isinstance(message, pb.PlacementView):
        message.Clear()
        message.text = f"it names more than {most} {'VMs' if each.name == 'placements' else 'hosts'}"
        return True
    del getattr(message, each.name)[most:]
    return False
