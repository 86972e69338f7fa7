"""The verdict: one named state of a pool, a total function of the signs that the evidence shows.

Theory: ``Signs`` has few values each, so that the whole table can be tested; ``judge`` reads it from the most
forbidding sign to the most harmless one. Silence alone leads no further than to reading the power. A verdict says
what it permits; what is then done is decided elsewhere (failover.py, remedies.py, restart.py), with its own checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poolwarden_collector.core.facts import Tri


class Permit(Enum):
    """What a verdict permits at most."""

    NOTHING = "nothing"
    OBSERVE = "gather more evidence"
    ALERT = "hold and alert"
    RESTART = "restart the master's xapi, where that is safe"
    ROLES = "promote the newest database, if every host on record says that it is no master"
    SUCCEED = "read the power, prove, promote"


class Verdict(Enum):
    """Each member: its word, what it means, what it permits."""

    HA_MANAGED = ("HaManaged", "xapi's own HA is armed: hands off, observe only", Permit.ALERT)
    TWO_MASTERS = ("TwoMasters", "two hosts serve as master: frozen, nobody is picked silently", Permit.ALERT)
    FENCE_DISPUTED = (
        "FenceDisputed",
        "life was seen after a fence device read off: its word does not count",
        Permit.ALERT,
    )
    COLLECTOR_BLIND = ("CollectorBlind", "the collector's own view is broken: no new automatic action", Permit.ALERT)
    POOL_DARK = ("PoolDark", "no agent of the pool is heard: hold", Permit.ALERT)
    NO_MASTER = ("NoMaster", "hosts are heard, the host on record as master does not serve as one", Permit.ROLES)
    LEARNING = ("Learning", "no host has been seen serving as this pool's master yet", Permit.OBSERVE)
    XAPI_HUNG = ("MasterXapiHung", "the master's agent lives, its xapi accepts and never answers", Permit.RESTART)
    XAPI_DOWN = ("MasterXapiDown", "the master's agent lives, its xapi is down", Permit.RESTART)
    POOL_SPLIT = ("PoolSplit", "the master lives, but no member reaches it", Permit.ALERT)
    UNREACHABLE = (
        "MasterUnreachableFromCollector",
        "members still reach the master's xapi, the collector reaches neither its agent nor its xapi",
        Permit.ALERT,
    )
    VANISHED = (
        "MasterVanished",
        "the master's agent is silent and nobody who could reach its xapi does",
        Permit.SUCCEED,
    )
    UNWITNESSED = (
        "MasterUnwitnessed",
        "the master's agent is silent for long, and nobody is left who could tell whether its xapi lives",
        Permit.ALERT,
    )
    AGENT_LOST = ("AgentLost", "an agent is silent, but its host's xapi is still reached", Permit.ALERT)
    MEMBER_VANISHED = ("MemberVanished", "a member's agent is silent and its xapi is not reached", Permit.ALERT)
    MEMBER_EMERGENCY = ("MemberEmergency", "the master is fine, a member's xapi is in emergency mode", Permit.ALERT)
    MEMBER_ORPHANED = ("MemberOrphaned", "the master is fine, a member does not reach it", Permit.ALERT)
    MEMBER_XAPI_DOWN = ("MemberXapiDown", "the master is fine, a member's xapi does not answer", Permit.ALERT)
    SUSPECT = ("Suspect", "something is silent or unwell, not long enough or not corroborated", Permit.OBSERVE)
    HEALTHY = ("Healthy", "the master's agent and xapi answer, members are attached", Permit.NOTHING)

    def __init__(self, word: str, meaning: str, permits: Permit) -> None:
        self.word = word
        self.meaning = meaning
        self.permits = permits


class Agent(Enum):
    """The master's agent: heard; late (silent for less than the limit); silent; mute (silent beyond all patience)."""

    HEARD = "heard"
    LATE = "late"
    SILENT = "silent"
    MUTE = "mute"


class Xapi(Enum):
    """The master's xapi, as its own agent sees it."""

    ANSWERS = "answers"
    UNWELL = "unwell"
    DOWN = "down"
    HUNG = "hung"
    NOT_SERVING = "not serving"
    UNKNOWN = "unknown"


class Witness(Enum):
    """What the members' own probes of the master's xapi say together.

    ANSWERED: at least one was answered. UNANSWERED: every reporting member's last two were not, and at least one of
    them has standing (it has reached that xapi since its master took the role). UNCOUNTED: unanswered, nobody has
    standing. NONE: no fresh probe.
    """

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    UNCOUNTED = "uncounted"
    NONE = "none"


class OwnProbe(Enum):
    """The collector's own probe of the master's xapi; OFF where it does not probe or cannot know."""

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


@dataclass(frozen=True, slots=True)
class Signs:
    """Everything that the verdict depends on, in few values each."""

    ha: Tri
    several_serve: bool
    disputed: bool
    blind: bool
    anyone_heard: bool
    master_known: bool
    agent: Agent
    xapi: Xapi
    witness: Witness
    own: OwnProbe
    off_twice: bool
    member: Member


def judge(s: Signs) -> Verdict:
    """The one verdict of these signs; total."""
    if s.ha is Tri.YES:
        return Verdict.HA_MANAGED
    if s.several_serve:
        return Verdict.TWO_MASTERS
    if s.disputed:
        return Verdict.FENCE_DISPUTED
    if s.blind:
        return Verdict.COLLECTOR_BLIND
    if not s.anyone_heard:
        return Verdict.POOL_DARK
    if not s.master_known:
        return Verdict.LEARNING
    return _MASTER[s.agent](s)


def _heard(s: Signs) -> Verdict:
    if s.xapi is Xapi.HUNG:
        return Verdict.XAPI_HUNG
    if s.xapi is Xapi.DOWN:
        return Verdict.XAPI_DOWN
    if s.xapi is Xapi.NOT_SERVING:
        return Verdict.NO_MASTER
    if s.xapi is not Xapi.ANSWERS:
        return Verdict.SUSPECT
    if s.witness is Witness.UNANSWERED:
        return Verdict.POOL_SPLIT
    return _MEMBER[s.member]


def _late(s: Signs) -> Verdict:
    return Verdict.SUSPECT


def _silent(s: Signs) -> Verdict:
    if s.witness is Witness.ANSWERED:
        return Verdict.UNREACHABLE if s.own is OwnProbe.UNANSWERED else Verdict.AGENT_LOST
    if s.own is OwnProbe.ANSWERED:
        return Verdict.POOL_SPLIT if s.witness is Witness.UNANSWERED else Verdict.AGENT_LOST
    # safety: without a witness who could have seen it, silence stays a suspicion until two OFF readings stand in.
    if s.witness is Witness.UNANSWERED or s.off_twice:
        return Verdict.VANISHED
    return Verdict.UNWITNESSED if s.agent is Agent.MUTE else Verdict.SUSPECT


_MASTER = {Agent.HEARD: _heard, Agent.LATE: _late, Agent.SILENT: _silent, Agent.MUTE: _silent}
_MEMBER = {
    Member.FINE: Verdict.HEALTHY,
    Member.LATE: Verdict.SUSPECT,
    Member.XAPI_DOWN: Verdict.MEMBER_XAPI_DOWN,
    Member.LOST: Verdict.AGENT_LOST,
    Member.VANISHED: Verdict.MEMBER_VANISHED,
    Member.EMERGENCY: Verdict.MEMBER_EMERGENCY,
    Member.ORPHANED: Verdict.MEMBER_ORPHANED,
}
