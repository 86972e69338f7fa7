"""The slices of a pool's live state (live.py), each a frozen value, and the values of which they are made.

A slice holds one matter, is changed by one module alone (``live.PoolLive`` says by which), and is read by whoever
needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.order_results import ClaimOutcome, RoleAnswer, RoleClaim, VmPlace
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.values import HostId, Ms, ProcessId, Role


@dataclass(frozen=True, slots=True)
class Starts:
    """Starts of one xapi that were seen: the last process, and how many there have been."""

    last: ProcessId = ProcessId(0, 0)
    count: int = 0
    seen_at: Ms = 0  # when the last process was seen first

    def other(self, process: ProcessId) -> bool:
        """Is this another process than the last one? None at all is none."""
        return process not in (self.last, ProcessId(0, 0))

    def plus(self, process: ProcessId, now: Ms) -> Starts:
        return Starts(process, self.count + 1, now)


@dataclass(frozen=True, slots=True)
class CollectorProbe:
    """The collector's own probe of a host."""

    host: HostId
    outcome: ProbeOutcome
    at: Ms
    answered_at: Ms | None = None
    unanswered_since: Ms | None = None
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A round of fresh looks at the old master under one nonce (design: last look)."""

    nonce: str
    at: Ms
    answered: tuple[HostId, ...] = ()
    alive: str = ""  # who found the old master's xapi alive in this round; empty: nobody
    seen_at: Ms = 0  # when the newest probe of this round ended that found the old master's xapi silent
    refused: tuple[HostId, ...] = ()  # whose connection to it was refused in this round
    elsewhere: str = ""  # a host whose agent is silent acts as master, or follows another one that is alive
    mute: dict[HostId, Ms] = field(default_factory=dict)  # since when such a host's xapi is silent too, over all looks
    told: tuple[HostId, ...] = ()  # such hosts that have told their role in this round
    # (such a host, who asked it): what came, where that host is alive and told no role; over all looks
    untold: dict[tuple[HostId, HostId], RoleAnswer] = field(default_factory=dict)
    untold_since: Ms | None = None
    asked: dict[HostId, Ms] = field(default_factory=dict)  # when somebody last had any word about it, over all looks


@dataclass(frozen=True, slots=True)
class Told:
    """What the xapi of a host whose agent is silent said of its role to one agent, asked at ``at``.

    ``since``: when that agent was first told so, and nothing else since.
    """

    said: RoleClaim
    at: Ms
    since: Ms
    follows: str = ""
    followed_answers: bool = False


@dataclass(frozen=True, slots=True)
class WaitingGate:
    """A boot gate that was told to wait: since when this run hears it ask, when it asked last, for whom it waits."""

    boot: str
    since: Ms
    at: Ms
    waits: tuple[HostId, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An alert that is not raised yet (alert_book.py): its state has not lasted; ``gone_at``: since when it is over."""

    key: str
    severity: str
    title: str
    body: str
    facts: dict[str, Any]
    since: Ms
    gone_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """How an agent was heard in one step.

    ``excused``: it said goodbye before it fell silent, or this collector was cut off.
    """

    boot: str
    stream: int
    heard: bool
    excused: bool


# ------------------------------------------------------------------------------------------------ told to people


@dataclass(frozen=True, slots=True)
class Alerts:
    """What is about to be told to people or to be over, and what was told a moment ago."""

    unsettled: dict[str, Unsettled] = field(default_factory=dict)  # by topic: alerts whose state has not lasted yet
    closing: dict[str, tuple[Ms, str]] = field(default_factory=dict)  # open alerts that are over then, and why
    told: dict[str, Ms] = field(default_factory=dict)  # when each topic was told last, within the last minute


@dataclass(frozen=True, slots=True)
class ToldVerdict:
    """The verdict as it was journaled last, since when it stands, and its sentence as of the last step."""

    word: str = ""
    since: Ms = 0
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Questions:
    """The times of the open question and of its answer, and why nothing is begun."""

    told: str = ""  # the reason for which nothing is begun, as it was told last
    told_seen: Ms = 0  # when that reason was last found to stand
    asked_at: Ms | None = None  # when this run put the open question, or found it after a restart
    asked_seen: Ms = 0  # when its ground was last found to stand
    approved_at: Ms | None = None  # when this run heard the open failover's approval


# ------------------------------------------------------------------------------------------------ evidence


@dataclass(frozen=True, slots=True)
class Mastership:
    """Since when the master on record is one, and with which settings each agent watches it."""

    since: Ms = 0  # when this run saw the present master take its role; 0: before this run
    settings: dict[HostId, tuple[int, str]] = field(default_factory=dict)  # stream and fingerprint of what was sent


@dataclass(frozen=True, slots=True)
class Service:
    """How long a heard master has not been seen serving, how long the pool is not steady, and its starts meanwhile."""

    unserved_since: Ms | None = None  # since when the heard master on record has not been seen serving
    unserved_starts: Starts = Starts()  # of its xapi since then
    unsteady_since: Ms | None = None  # since when the pool has not been Healthy for a minute; None: it is steady
    unsteady_starts: Starts = Starts()  # since it was steady last
    looping: tuple[HostId, Ms] | None = None  # the master on record, since when its xapi ends and begins again


@dataclass(frozen=True, slots=True)
class CollectorProbes:
    """What the collector's own probe of the master has found."""

    newest: CollectorProbe | None = None
    standing: tuple[HostId, str] | None = None  # whose xapi the collector itself has reached, and its certificate


@dataclass(frozen=True, slots=True)
class FencedHosts:
    """Operators' words that a host is off, and what speaks against them or waits for one."""

    words_at: dict[HostId, Ms] = field(default_factory=dict)  # when this run heard the word that a host is off
    word_used: Ms | None = None  # when the word was said that is the open failover's proof; None: none is
    awaited: dict[HostId, Ms] = field(default_factory=dict)  # hosts whose silence blocks something, and since when last
    voices: dict[HostId, tuple[Ms, str]] = field(default_factory=dict)  # when a silent host's xapi last told its role


@dataclass(frozen=True, slots=True)
class Identity:
    """Boots and refusals by which one host may turn out to be two machines."""

    boots: dict[HostId, tuple[str, ...]] = field(default_factory=dict)  # boot ids heard, the newest last
    returned: dict[HostId, int] = field(default_factory=dict)  # how often an earlier boot was heard after a later one
    seen_at: dict[HostId, Ms] = field(default_factory=dict)  # last sign of a conflict of identity


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Since when witnesses contradict each other about the master."""

    stopped_since: Ms | None = None  # since when the master's agent says that its toolstack is held and stopped
    conflict: tuple[Ms, str] | None = None  # since when witnesses contradict each other, and how


@dataclass(frozen=True, slots=True)
class Announcements:
    """The times of a planned absence and of a change of master."""

    planned_since: Ms | None = None  # when this run heard the master's goodbye
    transition_since: Ms | None = None
    settled_since: Ms | None = None  # since when a pool in transition is healthy


@dataclass(frozen=True, slots=True)
class LinkFlaps:
    """How steadily each agent is heard, and how often its host boots."""

    links: dict[HostId, Link] = field(default_factory=dict)  # how each agent was heard in the step before
    flaps: dict[HostId, tuple[Ms, ...]] = field(default_factory=dict)  # when a lost link came back within ten minutes
    booted: dict[HostId, tuple[tuple[str, Ms], ...]] = field(default_factory=dict)  # new boots, and when each was heard


@dataclass(frozen=True, slots=True)
class JournalGap:
    """What agents know that this collector's journal does not, and the quiet time that follows from it."""

    raised: frozenset[HostId] = frozenset()  # hosts whose claim has raised this collector's epoch in this run
    restored: bool = False  # this run found its journal older than what the agents know
    quiet_until: Ms = 0  # this pool's own quiet time, beside the collector's


@dataclass(frozen=True, slots=True)
class AssumptionWatch:
    """When this run saw the pool Healthy first, when it was in trouble last, and when each host's entry was written."""

    first_healthy: Ms | None = None
    trouble_at: Ms | None = None
    changed: dict[HostId, Ms] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatabaseAge:
    """What this run has seen of the master's database and of the time until which it may have changed."""

    answered_until: tuple[HostId, Ms] = ("", 0)  # a master that is not heard: when its xapi last answered anybody
    # A master's generations, each with when it was last seen.
    generations: tuple[HostId, tuple[tuple[int, Ms], ...]] = ("", ())


@dataclass(frozen=True, slots=True)
class Backoff:
    """For how long nothing new is begun."""

    grace_until: Ms = 0  # boot grace: until then a master that does not read OFF is let win
    cooldown_until: Ms | None = None
    aborted_at: Ms | None = None  # when this run last ended a failover without a promotion
    aborts: int = 0  # how many in a row; the pool's long health or a promotion ends the row


# ------------------------------------------------------------------------------------------------ a failover


@dataclass(frozen=True, slots=True)
class Phases:
    """When the open failover reached what, for its durations, and since when its step lasts."""

    marks: dict[str, Ms] = field(default_factory=dict)
    step_since: Ms = 0


@dataclass(frozen=True, slots=True)
class ClaimRound:
    """The present round of claims, and who has answered in it."""

    answers: dict[HostId, ClaimOutcome] = field(default_factory=dict)
    since: Ms | None = None
    number: int = 0  # its serial; answers to an earlier one do not count
    asked_again: dict[HostId, Ms] = field(default_factory=dict)  # since when a claim is owed for a changed database


@dataclass(frozen=True, slots=True)
class LastLook:
    """The present round of looks at the old master, and who leaves them unanswered."""

    round: Look | None = None
    misses: int = 0  # last looks that the candidate left unanswered, in a row
    mute: frozenset[HostId] = frozenset()  # hosts that left three last looks unanswered on their present stream


@dataclass(frozen=True, slots=True)
class PowerOffRun:
    """The power-off that is being prepared, under way, or was the last one."""

    aimed: tuple[str, Ms] = ("", 0)  # the device that is to switch off next; no reading is begun on it for a moment
    unwitnessed_since: Ms | None = None  # since when a shot waits for a member's testimony
    begun_at: Ms = 0  # when the power-off under way was ordered in this run
    recalled: str = ""  # the run id of the power-off that was recalled last
    ended_at: Ms = 0  # when the last power-off run ended; readings from before it say nothing about it


@dataclass(frozen=True, slots=True)
class PromotionWitnesses:
    """Agents that ask a promoted host for its role."""

    asked: dict[HostId, tuple[str, str]] = field(default_factory=dict)  # their last two questions
    since: Ms | None = None  # since when it has been asked


# ------------------------------------------------------------------------------------------------ afterwards


@dataclass(frozen=True, slots=True)
class ToldPlace:
    """Where a VM could start by the master's word: asked then, told then."""

    place: VmPlace
    asked: Ms
    told: Ms


@dataclass(frozen=True, slots=True)
class VmPlaces:
    """Where the VMs that were lost with a dead host can start."""

    places: dict[str, ToldPlace] = field(default_factory=dict)
    locating: tuple[str, ...] = ()  # the orders that ask for it


@dataclass(frozen=True, slots=True)
class PolicyStarts:
    """Lost VMs that start by policy, as this run has seen them."""

    declared: dict[HostId, Ms] = field(default_factory=dict)  # since when a dead host is seen to be declared dead
    reading: frozenset[HostId] = frozenset()  # dead hosts whose power alone a start waits for
    ended: dict[str, Ms] = field(default_factory=dict)  # when a start by policy was seen to be over, by VM
    held: tuple[tuple[str, Reason], ...] = ()  # what stands against a VM that its owner wishes to be started


@dataclass(frozen=True, slots=True)
class PowerSwitches:
    """When hosts were switched on and off at an operator's word or after a fence."""

    switched_at: dict[str, Ms] = field(default_factory=dict)  # when this run began each power switch, by its run
    wake_again: dict[HostId, Ms] = field(default_factory=dict)  # a host that is to be woken: not before this


# ------------------------------------------------------------------------------------------------ before a failover


@dataclass(frozen=True, slots=True)
class BootGates:
    """Boot gates that ask whether their xapi may start, and what they were told."""

    asked: dict[HostId, tuple[str, Role]] = field(default_factory=dict)  # boot gates that wait for an answer
    words: dict[HostId, tuple[str, str, int, str]] = field(default_factory=dict)  # boot, decision, term, ground
    waiting: dict[HostId, WaitingGate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnheardHosts:
    """What agents are told by the xapi of hosts whose own agents are silent."""

    role_asks: dict[HostId, str] = field(default_factory=dict)  # the last order by which an agent asks silent hosts
    told: dict[HostId, dict[HostId, Told]] = field(default_factory=dict)  # silent host -> who asked -> what it said
    dark: dict[HostId, tuple[Ms, Ms]] = field(default_factory=dict)  # since when it only was silent, and when last


@dataclass(frozen=True, slots=True)
class MemberRecovery:
    """The search for members that follow no master, and the last order to point them at theirs."""

    asked_at: Ms = -1_000_000  # when members without an agent were asked last whom they follow
    order: tuple[str, Ms] | None = None  # the last pool.recover_slaves, since its order or else its answer


@dataclass(frozen=True, slots=True)
class MemberRepairs:
    """Members that are not what they should be, and their repairs."""

    troubles: dict[HostId, Ms] = field(default_factory=dict)  # since when a heard member is not what it should be
    mended: dict[HostId, Ms] = field(default_factory=dict)  # since when a repaired member is fine
    repairing: tuple[HostId, Ms] | None = None  # the last repair and when it was ordered


@dataclass(frozen=True, slots=True)
class InPlaceProgress:
    """The restart of a master in place, as this run has followed it."""

    step: tuple[str, Ms] = ("", 0)  # the step that is awaited, and since when in this run
    seen_since: Ms | None = None  # what was seen of its host until then counts no more; None: its stop was not seen
    passed: frozenset[HostId] = frozenset()  # whose copy could not be carried, or is not what it was
    yes_at: Ms | None = None  # when this run heard the yes to the VMs that its start may kill


@dataclass(frozen=True, slots=True)
class DatabaseSync:
    """When the database was last pushed to the members."""

    pushed_at: Ms | None = None  # when this run last had the database pushed
    skipped: str = ""  # why the push that is due is not made; empty: none is due, or it is made


@dataclass(frozen=True, slots=True)
class DrillProgress:
    """The open drill, as this run of the collector has followed it."""

    since: Ms | None = None  # when its phase began; None: before this run, or nothing runs
    begun: Ms | None = None  # when it was begun; None: before this run
    waiting: Ms | None = None  # since when it waits for a word, as seen by this run; None: it does not
