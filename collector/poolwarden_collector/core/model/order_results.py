"""What an agent answers to an order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolwarden_collector.core.model.host_facts import Probe, ToolstackHold, XapiTrouble
from poolwarden_collector.core.model.values import HostId, Ms


@dataclass(frozen=True, slots=True)
class Placement:
    """A VM as a database file has it; ``host`` is empty where it is nowhere: halted, or on no host of that file."""

    vm: str
    host: HostId
    name: str = ""


@dataclass(frozen=True, slots=True)
class PlacementView:
    """Where the database that a host's xapi would load places running VMs."""

    readable: bool
    generation: int = 0
    source: str = ""
    placements: tuple[Placement, ...] = ()
    text: str = ""
    hosts: tuple[HostId, ...] = ()  # every host in that file; none where its agent does not tell them


class Outcome(Enum):
    """How an agent ended an order; DONE of promote and repoint means that xapi accepted the call, no more."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


NEVER_BEGUN = ("expired", "busy")
"""An agent's reasons for an order that it never began (agent: core/order_gate.py): it may be sent again."""
OWN_RULES = ("local-policy", "too-many", "unsigned", "bad-signature")
"""What a host refuses by its own administrator's word: its policy.conf, and the order key that it has pinned."""


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """What a host answered to a claim: its last look at the old master and its database's placements."""

    last_look: Probe | None = None
    placements: PlacementView | None = None
    veto: str = ""


@dataclass(frozen=True, slots=True)
class DatabasePiece:
    """A piece of a host's database file; ``sha256`` is of the whole file, an empty chunk is its end."""

    path: str
    generation: int
    total_bytes: int
    offset: int
    chunk: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class StartWish:
    """What a VM's own record says about its being started by itself (agent: core/start_wish.py).

    ``wished``: its owner wants it; ``against``: what forbids it all the same, in words; ``order``: the lower ones
    first; ``delay``: before VMs of a higher order follow, ms, at most an hour.
    """

    wished: bool
    against: str = ""
    order: int = 0
    delay: Ms = 0


@dataclass(frozen=True, slots=True)
class VmPlace:
    """Where a VM could start now by the serving master's word: host -> XenAPI's refusal, empty where it can."""

    vm: str
    name: str = ""
    power_state: str = ""
    hosts: tuple[tuple[HostId, str], ...] = ()
    text: str = ""
    wish: StartWish | None = None  # None: its agent does not tell


class RoleClaim(Enum):
    """What a xapi says of its own role to whoever asks without a session (xapi: ocaml/xapi/xapi_session.ml)."""

    SILENT = "silent"
    FOLLOWS = "follows"
    ACTS = "acts"
    UNTOLD = "untold"  # the host is alive, and tells no role on any port: it may be filtered, it is not silent


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """One host's answer, asked by an agent; ``followed_answers``: a xapi is alive at the address that it follows."""

    host: HostId
    said: RoleClaim
    follows: str = ""
    followed_answers: bool = False
    certificate: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """An agent's answer to an order."""

    order_id: str
    kind: str
    outcome: Outcome
    reason: str = ""
    text: str = ""
    replayed: bool = False
    epoch: int = 0
    term: int = 0
    claim: ClaimOutcome | None = None
    probes: tuple[Probe, ...] = ()
    nonce: str = ""
    placements: PlacementView | None = None
    database: DatabasePiece | None = None
    vm_places: tuple[VmPlace, ...] = ()
    hold: ToolstackHold | None = None
    roles: tuple[RoleAnswer, ...] = ()
    fence_run: FenceRun | None = None
    trouble: XapiTrouble | None = None
    looked: bool = False  # why its xapi is not up; ``trouble`` None: nothing keeps it from that


@dataclass(frozen=True, slots=True)
class FenceRun:
    """What a fence agent said that a member ran, without secret values; ``code`` counts only if the order is DONE."""

    code: int
    output: str
    errors: str
    text: str
