"""The verdict: one named state of a pool, a total function of the signs that the evidence shows.

Theory
------
``Signs`` has few values each. ``judge`` asks the layers of ``LAYERS`` in turn, from the most forbidding to the most
harmless, and takes the first word that one of them says; the last layer always says one. Each layer declares which
signs it reads and reads no other (a test gives it only those), so the whole table is tested layer by layer although
its product has tens of millions of rows.

Rules
-----
* Silence alone leads no further than to reading the power.
* A verdict that permits action lists the facts that it requires; a test holds each of them against the whole table.
* What follows from a verdict stands in its own row (``Entails``); a held master may lose its power too, so that
  ``MasterVanished`` carries a failover by a toolstack fence as well.
* A verdict says what may be done at most; what is then done is decided elsewhere (steps.py, master_restart.py), with
  checks of its own.
* A pause is no verdict: it is shown beside the true one and refuses everything, so that an operator sees what he holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.catalogue.verdicts import BY_WORD
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.state.failover_record import Path


class Permit(Enum):
    """What a verdict permits at most."""

    NOTHING = "nothing"
    OBSERVE = "gather more evidence"
    ALERT = "hold and alert"
    RESTART = "restart the master's xapi, where that is safe"
    ROLES = "promote the newest database, if every host on record says that it is no master"
    SUCCEED = "read the power, prove, promote"


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that an action needs: in words, and as the test of the signs."""

    text: str
    holds: Callable[[Signs], bool]


UNDISPUTED = (
    Fact("every host UUID belongs to one machine", lambda s: not s.identity),
    Fact("xapi's HA is not seen armed", lambda s: s.ha is not Tri.YES),
    Fact("at most one host serves as master", lambda s: not s.several_serve),
    Fact("no witness contradicts another", lambda s: not s.conflict),
    Fact("no life was seen after an OFF reading", lambda s: not s.disputed),
    Fact("no upgrade, change of master or announced outage is under way", lambda s: s.hold is AnnouncedHold.NONE),
    Fact("the collector is not blind", lambda s: not s.blind),
    Fact("somebody of the pool is heard", lambda s: s.anyone_heard),
    Fact("the master is known", lambda s: s.master_known),
)
TO_RESTART = (
    *UNDISPUTED,
    Fact("the master's agent is heard", lambda s: s.agent is Agent.HEARD),
    Fact("it sees its xapi down or hung for its whole limit", lambda s: s.xapi in (Xapi.DOWN, Xapi.HUNG)),
)
TO_ROLES = (
    *UNDISPUTED,
    Fact("the agent of the master on record is heard", lambda s: s.agent is Agent.HEARD),
    Fact("it does not serve as master for its whole limit", lambda s: s.xapi is Xapi.NOT_SERVING),
)
TO_SUCCEED = (
    *UNDISPUTED,
    Fact("the master's agent is silent for its limit", lambda s: s.agent in (Agent.SILENT, Agent.MUTE)),
    Fact("no member's probe of its xapi is answered", lambda s: s.witness is not Witness.ANSWERED),
    Fact("nor is the collector's own", lambda s: s.own is not CollectorWitness.ANSWERED),
    Fact(
        "a witness with standing has two unanswered probes, or the power read OFF twice",
        lambda s: s.witness is Witness.UNANSWERED or s.off_twice,
    ),
)


class Settling(Enum):
    """How long a verdict has to last before an alert tells it."""

    NONE = "told at once"
    BRIEF = "the policy's vanished_after: a master's restart or a boot shows it for a moment"
    START = "the policy's xapi_down_after: a xapi that starts shows it"


@dataclass(frozen=True, slots=True)
class Entails:
    """What follows from a verdict where nothing else stands against it; elsewhere nobody lists verdicts for these."""

    settling: Settling = Settling.NONE
    next_step: str = ""  # what a person can do: {master} and {member} are hosts
    told_when_covered: bool = False  # has an alert of its own even where an announcement covers it (COVERED)
    master_is_lost: bool = False  # nobody serves as master, or nobody could tell
    undecided: bool = False  # too little is heard: what is under way is neither continued nor given up
    carries: tuple[Path, ...] = ()  # the failovers that it carries, by how the old master is made harmless
    keeps_question: bool = False  # what was asked about the master under such a verdict may still be answered
    permits_repair: bool = False  # a member may be repaired: the master is fine, and nothing was announced


class Verdict(Enum):
    """Each member: its word, what it means, what it permits at most, which facts that requires, and what it entails."""

    IDENTITY_CONFLICT = (
        "IdentityConflict",
        "a host's UUID is used by two machines or in two pools: frozen, nothing is ordered",
        Permit.ALERT,
        (),
        Entails(
            next_step="switch the second machine off, or give it its own identity; then wait ten minutes",
        ),
    )
    HA_MANAGED = (
        "HaManaged",
        "xapi's own HA is armed: hands off, observe only",
        Permit.ALERT,
        (),
        Entails(
            next_step="xapi's HA is in charge; Poolwarden only observes this pool",
        ),
    )
    TWO_MASTERS = (
        "TwoMasters",
        "two hosts serve as master: frozen, nobody is picked silently",
        Permit.ALERT,
        (),
        Entails(
            next_step="decide which master is right; on the other host: xe pool-emergency-reset-master "
            "master-address=ADDRESS",
        ),
    )
    EVIDENCE_CONFLICT = (
        "EvidenceConflict",
        "witnesses contradict each other about the master's xapi: hold, believe neither",
        Permit.ALERT,
        (),
        Entails(
            next_step="look who has the master's address and what runs there; nothing is done meanwhile",
        ),
    )
    FENCE_DISPUTED = (
        "FenceDisputed",
        "life was seen after a fence device read off: its word does not count",
        Permit.ALERT,
        (),
        Entails(
            next_step="check the wiring and address of the quarantined fence device before it is used again",
        ),
    )
    UPGRADING = (
        "Upgrading",
        "a rolling upgrade is under way: hold",
        Permit.ALERT,
        (),
        Entails(
            next_step="finish the upgrade; a flag that was left behind: pool.other_config rolling_upgrade_in_progress",
        ),
    )
    TRANSITION = (
        "OperatorTransition",
        "the master is being changed, or was just now, by order: hold",
        Permit.ALERT,
        (),
        Entails(
            next_step="nothing: it ends by itself when the pool has settled",
        ),
    )
    PLANNED_DOWN = (
        "PlannedDown",
        "the master said goodbye for a shutdown or a reboot: hold",
        Permit.ALERT,
        (),
        Entails(
            next_step="wait for the host; if it will not come back: poolwarden confirm-fenced {master}",
        ),
    )
    COLLECTOR_BLIND = (
        "CollectorBlind",
        "the collector's own view is broken: no new automatic action",
        Permit.ALERT,
        (),
        Entails(
            undecided=True,
            next_step="check the collector's own network",
        ),
    )
    POOL_DARK = (
        "PoolDark",
        "no agent of the pool is heard: hold",
        Permit.ALERT,
        (),
        Entails(
            undecided=True,
            next_step="check the site's power and network; nothing is done until agents are heard again",
        ),
    )
    NO_MASTER = (
        "NoMaster",
        "hosts are heard, the host on record as master does not serve as one",
        Permit.ROLES,
        TO_ROLES,
        Entails(
            told_when_covered=True,
            master_is_lost=True,
            carries=(Path.ROLES,),
            keeps_question=True,
            next_step="look at pool.conf and xapi of every host; promote the newest database by hand: xe "
            "pool-emergency-transition-to-master",
        ),
    )
    LEARNING = (
        "Learning",
        "no host has been seen serving as this pool's master yet",
        Permit.OBSERVE,
        (),
        Entails(
            undecided=True,
        ),
    )
    XAPI_HUNG = (
        "MasterXapiHung",
        "the master's agent lives, its xapi accepts and never answers",
        Permit.RESTART,
        TO_RESTART,
        Entails(
            told_when_covered=True,
            carries=(Path.TOOLSTACK,),
            keeps_question=True,
        ),
    )
    XAPI_SLOW = (
        "MasterXapiSlow",
        "the master serves, its xapi takes seconds for an answer: that is no loss, nothing is decided on it",
        Permit.ALERT,
        (),
        Entails(
            settling=Settling.START,
        ),
    )
    XAPI_DOWN = (
        "MasterXapiDown",
        "the master's agent lives, its xapi is down",
        Permit.RESTART,
        TO_RESTART,
        Entails(
            settling=Settling.START,
            told_when_covered=True,
            carries=(Path.TOOLSTACK,),
            keeps_question=True,
        ),
    )
    POOL_SPLIT = (
        "PoolSplit",
        "the master lives, but no member reaches it",
        Permit.ALERT,
        (),
        Entails(
            settling=Settling.BRIEF,
            keeps_question=True,
            next_step="check the network between the master and its members",
        ),
    )
    UNREACHABLE = (
        "MasterUnreachableFromCollector",
        "members still reach the master's xapi, the collector reaches neither its agent nor its xapi",
        Permit.ALERT,
        (),
        Entails(
            next_step="check the network between the collector and the master",
        ),
    )
    VANISHED = (
        "MasterVanished",
        "the master's agent is silent and nobody who could reach its xapi does",
        Permit.SUCCEED,
        TO_SUCCEED,
        Entails(
            told_when_covered=True,
            master_is_lost=True,
            carries=(Path.POWER, Path.TOOLSTACK),
            keeps_question=True,
        ),
    )
    UNWITNESSED = (
        "MasterUnwitnessed",
        "the master's agent is silent for long, and nobody is left who could tell whether its xapi lives",
        Permit.ALERT,
        (),
        Entails(
            told_when_covered=True,
            master_is_lost=True,
            next_step="make sure that {master} is off, then: poolwarden confirm-fenced {master}",
        ),
    )
    AGENT_LOST = (
        "AgentLost",
        "an agent is silent, but its host's xapi is still reached",
        Permit.ALERT,
        (),
        Entails(
            permits_repair=True,
            next_step="on that host: systemctl status poolwarden-agent",
        ),
    )
    ROLE_BROKEN = (
        "RoleBroken",
        "the master is fine, a member's pool.conf says broken (a change of master failed half-way)",
        Permit.ALERT,
        (),
        Entails(
            permits_repair=True,
            next_step="look at that member's pool.conf; poolwarden host show {member} tells more",
        ),
    )
    MEMBER_VANISHED = (
        "MemberVanished",
        "a member's agent is silent and its xapi is not reached",
        Permit.ALERT,
        (),
        Entails(
            settling=Settling.BRIEF,
            permits_repair=True,
            next_step="look at that member: its agent is silent and its xapi is not reached",
        ),
    )
    MEMBER_EMERGENCY = (
        "MemberEmergency",
        "the master is fine, a member's xapi is in emergency mode",
        Permit.ALERT,
        (),
        Entails(
            settling=Settling.BRIEF,
            permits_repair=True,
            next_step="poolwarden host show {member} tells the reason and the command that helps",
        ),
    )
    MEMBER_ORPHANED = (
        "MemberOrphaned",
        "the master is fine, a member is not attached to it",
        Permit.ALERT,
        (),
        Entails(
            settling=Settling.BRIEF,
            permits_repair=True,
            next_step="check that member's network; then: poolwarden restart-xapi {member}",
        ),
    )
    MEMBER_XAPI_DOWN = (
        "MemberXapiDown",
        "the master is fine, a member's xapi does not answer",
        Permit.ALERT,
        (),
        Entails(
            settling=Settling.START,
            permits_repair=True,
            next_step="look at that member's xapi; poolwarden restart-xapi {member} often helps",
        ),
    )
    SUSPECT = (
        "Suspect",
        "something is silent or unwell, not long enough or not corroborated",
        Permit.OBSERVE,
        (),
        Entails(
            undecided=True,
            keeps_question=True,
        ),
    )
    HEALTHY = (
        "Healthy",
        "the master's agent and xapi answer, members are attached",
        Permit.NOTHING,
        (),
        Entails(
            permits_repair=True,
        ),
    )

    def __init__(
        self,
        word: str,
        meaning: str,
        permits: Permit,
        requires: tuple[Fact, ...] = (),
        entails: Entails = Entails(),  # noqa: B008 (frozen)
    ) -> None:
        self.word = word
        self.meaning = meaning
        self.permits = permits
        self.requires = requires
        self.entails = entails

    @property
    def message(self) -> Message:
        """What its alert says, and how grave that is. Raises KeyError for a verdict that has no alert."""
        return BY_WORD[self.word]


class Agent(Enum):
    """The master's agent: heard; late (silent for less than the limit); silent; mute (silent beyond all patience)."""

    HEARD = "heard"
    LATE = "late"
    SILENT = "silent"
    MUTE = "mute"


class Xapi(Enum):
    """The master's xapi, as its own agent sees it."""

    ANSWERS = "answers"
    SLOW = "slow"
    UNWELL = "unwell"
    DOWN = "down"
    HUNG = "hung"
    NOT_SERVING = "not serving"
    UNKNOWN = "unknown"


class Witness(Enum):
    """What the members' own probes of the master's xapi say together.

    ANSWERED: at least one was answered. UNANSWERED: every reporting member's last two were not, and at least one of
    them has standing (it has reached that xapi since its master took the role). UNCOUNTED: unanswered, nobody has
    standing. NONE: no fresh probe that tells anything (one answered by another certificate tells nothing).
    """

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    UNCOUNTED = "uncounted"
    NONE = "none"


class CollectorWitness(Enum):
    """The collector's own probe of the master's xapi; OFF where it does not probe, or has no standing to testify."""

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    OFF = "off"


class Member(Enum):
    """The worst state of any member."""

    FINE = "fine"
    LATE = "late"
    XAPI_DOWN = "xapi down"
    LOST = "lost"  # agent silent, xapi reached
    VANISHED = "vanished"  # agent silent, xapi not reached
    EMERGENCY = "emergency"
    ORPHANED = "orphaned"
    BROKEN = "broken"  # its pool.conf says so


class AnnouncedHold(Enum):
    """What a person or the hosts themselves have announced; the first that holds is named."""

    NONE = "none"
    UPGRADING = "upgrading"
    TRANSITION = "transition"
    PLANNED = "planned down"


@dataclass(frozen=True, slots=True)
class Signs:
    """Everything that the verdict depends on, in few values each."""

    identity: bool
    ha: Tri
    several_serve: bool
    conflict: bool
    disputed: bool
    hold: AnnouncedHold
    blind: bool
    anyone_heard: bool
    master_known: bool
    agent: Agent
    xapi: Xapi
    witness: Witness
    own: CollectorWitness
    off_twice: bool
    member: Member


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of the precedence: the signs that it reads, and its word; None: it has nothing to say."""

    reads: tuple[str, ...]
    says: Callable[[Signs], Verdict | None]


def judge(s: Signs) -> Verdict:
    """The one verdict of these signs; total."""
    for layer in LAYERS:
        verdict = layer.says(s)
        if verdict is not None:
            return verdict
    raise AssertionError("the last layer says nothing")


def without_hold(s: Signs) -> Verdict:
    """What the verdict would be if nothing were announced: an operator must see what a hold covers."""
    return judge(replace(s, hold=AnnouncedHold.NONE))


_HELD = {
    AnnouncedHold.UPGRADING: Verdict.UPGRADING,
    AnnouncedHold.TRANSITION: Verdict.TRANSITION,
    AnnouncedHold.PLANNED: Verdict.PLANNED_DOWN,
}


def _of_master(s: Signs) -> Verdict:
    verdict: Verdict = _MASTER[s.agent](s)
    return verdict


def _heard(s: Signs) -> Verdict:
    if s.xapi is Xapi.HUNG:
        return Verdict.XAPI_HUNG
    if s.xapi is Xapi.DOWN:
        return Verdict.XAPI_DOWN
    if s.xapi is Xapi.SLOW:
        return Verdict.XAPI_SLOW
    if s.xapi is Xapi.NOT_SERVING:
        return Verdict.NO_MASTER
    if s.xapi is not Xapi.ANSWERS:
        return Verdict.SUSPECT
    if s.witness is Witness.UNANSWERED:
        return Verdict.POOL_SPLIT
    return OF_MEMBER[s.member]


def _late(s: Signs) -> Verdict:
    return Verdict.SUSPECT


def _silent(s: Signs) -> Verdict:
    if s.witness is Witness.ANSWERED:
        return Verdict.UNREACHABLE if s.own is CollectorWitness.UNANSWERED else Verdict.AGENT_LOST
    if s.own is CollectorWitness.ANSWERED:
        return Verdict.POOL_SPLIT if s.witness is Witness.UNANSWERED else Verdict.AGENT_LOST
    # safety: without a witness who could have seen it, silence stays a suspicion until two OFF readings stand in.
    if s.witness is Witness.UNANSWERED or s.off_twice:
        return Verdict.VANISHED
    return Verdict.UNWITNESSED if s.agent is Agent.MUTE else Verdict.SUSPECT


_MASTER = {Agent.HEARD: _heard, Agent.LATE: _late, Agent.SILENT: _silent, Agent.MUTE: _silent}
OF_MEMBER = {
    Member.FINE: Verdict.HEALTHY,
    Member.LATE: Verdict.SUSPECT,
    Member.XAPI_DOWN: Verdict.MEMBER_XAPI_DOWN,
    Member.LOST: Verdict.AGENT_LOST,
    Member.VANISHED: Verdict.MEMBER_VANISHED,
    Member.EMERGENCY: Verdict.MEMBER_EMERGENCY,
    Member.ORPHANED: Verdict.MEMBER_ORPHANED,
    Member.BROKEN: Verdict.ROLE_BROKEN,
}

LAYERS: tuple[Layer, ...] = (
    Layer(("identity",), lambda s: Verdict.IDENTITY_CONFLICT if s.identity else None),
    Layer(("ha",), lambda s: Verdict.HA_MANAGED if s.ha is Tri.YES else None),
    Layer(("several_serve",), lambda s: Verdict.TWO_MASTERS if s.several_serve else None),
    Layer(("conflict",), lambda s: Verdict.EVIDENCE_CONFLICT if s.conflict else None),
    Layer(("disputed",), lambda s: Verdict.FENCE_DISPUTED if s.disputed else None),
    Layer(("hold",), lambda s: _HELD.get(s.hold)),
    Layer(("blind",), lambda s: Verdict.COLLECTOR_BLIND if s.blind else None),
    Layer(("anyone_heard",), lambda s: None if s.anyone_heard else Verdict.POOL_DARK),
    Layer(("master_known",), lambda s: None if s.master_known else Verdict.LEARNING),
    Layer(("agent", "xapi", "witness", "own", "off_twice", "member"), _of_master),
)
