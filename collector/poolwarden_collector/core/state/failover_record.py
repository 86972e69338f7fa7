"""One failover as it is remembered: its step, its path, and everything that was recorded of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import HostId, ProcessId


class Step(Enum):
    """The steps of a failover, in order. The comment of each says what is durable once it is reached."""

    DECIDED = "DECIDED"  # old master, its boot, the term
    CLAIMED = "CLAIMED"  # which hosts stored the term and saw no master
    CANDIDATE = "CANDIDATE"  # whom, with a reason for each host
    FENCED = "FENCED"  # the old master was stopped (or found off), and whatever it could hand over was handed over
    PROVED = "PROVED"  # the proof and its facts
    PROMOTING = "PROMOTING"  # the order's id: from here only this candidate
    PROMOTED = "PROMOTED"  # the candidate was verified as serving master
    CLOSED = "CLOSED"
    ABORTED = "ABORTED"
    SUPERSEDED = "SUPERSEDED"


REVERSIBLE = (Step.DECIDED, Step.CLAIMED, Step.CANDIDATE, Step.FENCED, Step.PROVED)


OPEN_STEPS = (*REVERSIBLE, Step.PROMOTING, Step.PROMOTED)


class Path(Enum):
    """How the old master is made harmless: switched off, its toolstack held, or there is none at all."""

    POWER = "power"
    TOOLSTACK = "toolstack"
    ROLES = "roles"


@dataclass(frozen=True, slots=True)
class RecordedProof:
    """A proof as it was journaled. Re-verification never trusts it alone (see proof.py)."""

    kind: ProofKind
    old_master: HostId
    boot_id: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fencing:
    """Powering the old master off: what was tried, and what is under way."""

    attempts: tuple[tuple[str, int], ...] = ()  # device, number of the attempt
    unbegun: tuple[tuple[str, str], ...] = ()  # devices whose `off` never began, and why; no attempts
    pending: tuple[str, str] | None = None  # device, run id of an `off` without a result
    beside: dict[HostId, str] = field(default_factory=dict)  # who was heard at the first `off`, in which boot


@dataclass(frozen=True, slots=True)
class HeldMaster:
    """Holding the old master's toolstack, and handing its database over."""

    order: str = ""  # the toolstack fence's order: from here on the old master may be held
    transfer: str = ""  # the database handover under way or ended
    handed_over: dict[str, Any] | None = None  # how it ended
    placed_on: tuple[HostId, ...] = ()  # hosts to which a database was handed, whatever came of it


@dataclass(frozen=True, slots=True)
class Promotion:
    """Making the candidate master."""

    order: str = ""
    result: str = ""
    process: ProcessId = ProcessId(0, 0)  # the candidate's xapi before it
    copy_age_ms: int | None = None  # of the database that it loads; None: not known
    copy_text: str = ""  # the same in words
    attempt: int = 1  # one that undid itself is tried again under another order id, with another proof


@dataclass(frozen=True, slots=True)
class MemberReturn:
    """Bringing the members to the new master."""

    repointing: dict[HostId, str] = field(default_factory=dict)
    restarted: tuple[HostId, ...] = ()
    back: tuple[HostId, ...] = ()
    remarks: dict[HostId, str] = field(default_factory=dict)  # what is missing at members that are back
    before: dict[HostId, dict[str, Any]] | None = None  # how the old master saw each host: enabled, unplugged SRs


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why it does not go on."""

    blocker: Blocker | None = None
    why: str = ""  # the sentence to it, for people
    next_step: str = ""  # what a person can do about it
    told: bool = True  # has it an alert of its own? Else a question has, or its time has to pass first
    topic: str = ""  # the blocker with its subjects: what tells it from another one of the same code


@dataclass(frozen=True, slots=True)
class Failover:
    """One journaled succession, folded from its entries by failover_fold.py."""

    id: str
    old_master: HostId
    old_boot: str
    term: int
    step: Step = Step.DECIDED
    candidate: HostId = ""
    claimed: tuple[HostId, ...] = ()
    proof: RecordedProof | None = None
    human: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None  # what an operator said yes to; it counts in one run only (questions.py)
    path: Path = Path.POWER
    epoch: int = 0  # of the collector that decided it; part of its orders' ids
    old_machine: str = ""  # DMI system UUID of the old master, to know it again in another boot
    restless: bool = False  # its xapi started again and again without coming to serve: its database may not load
    loops: bool = False  # its xapi ended and began again and again, and came to serve in between: it loads its database
    fencing: Fencing = Fencing()
    hold: HeldMaster = HeldMaster()
    promotion: Promotion = Promotion()
    members: MemberReturn = MemberReturn()
    standstill: Standstill = Standstill()

    @property
    def open(self) -> bool:
        return self.step in OPEN_STEPS

    @property
    def orders(self) -> str:
        """How the ids of its orders begin. Two collectors may mint the same failover id; never the same order id."""
        return f"{self.id}/{self.epoch}"
