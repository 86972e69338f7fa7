"""A pool's live state: what this run of the collector has heard, lost with it, never needed to be safe.

Everything here can be forgotten at any instant: what was heard is heard again, what was asked is asked again. What
must not be forgotten is in ``pool_record.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts, ProbeOutcome
from poolwarden_collector.core.model.order_results import ClaimOutcome, OrderOutcome, RoleAnswer, RoleClaim, VmPlace
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, PowerReading
from poolwarden_collector.core.model.values import HostId, Ms, ProcessId, Role
from poolwarden_collector.core.state.pool_record import PoolRecord


@dataclass(frozen=True, slots=True)
class Starts:
    """Starts of one xapi that were seen: the last process, and how many there have been."""

    last: ProcessId = ProcessId(0, 0)
    count: int = 0

    def other(self, process: ProcessId) -> bool:
        """Is this another process than the last one? None at all is none."""
        return process not in (self.last, ProcessId(0, 0))

    def plus(self, process: ProcessId) -> Starts:
        return Starts(process, self.count + 1)


@dataclass(frozen=True, slots=True)
class AgentState:
    """One agent's stream and newest facts."""

    hello: Hello
    stream: int
    connected: bool
    last_heard: Ms
    facts: HostFacts = HostFacts()
    reported: bool = False
    goodbye: str = ""
    connected_at: Ms = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """An order that was sent, and its answer if there is one."""

    order_id: str
    kind: str
    host: HostId
    stream: int
    at: Ms
    result: OrderOutcome | None = None
    answered_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class PowerState:
    """Readings of a host's devices in this run, newest last, and the run under way."""

    readings: tuple[PowerReading, ...] = ()
    running: str = ""  # run id; empty: none
    started_at: Ms = 0
    device: str = ""
    said: DeviceIdentity = DeviceIdentity()  # what it last said of its machine, in a run that asked it
    identified_at: Ms | None = None  # when it last told that
    unbound: str = ""  # why its last ON reading beside a living agent did not bind it
    fails: int = 0  # readings in a row that gave no power
    slow: int = 0  # readings in a row that took too long
    good_at: Ms | None = None  # the end of the last reading that gave the power
    monitor: str = ""  # why its last `monitor` failed
    by: HostId = ""  # the member that runs the run under way, or ran the last one; empty: the collector
    missed: tuple[tuple[HostId, Ms], ...] = ()  # members that could not read it, and when

    @property
    def newest(self) -> PowerReading | None:
        return self.readings[-1] if self.readings else None


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
    """How an agent was heard in one step; ``excused``: it said goodbye before it fell silent."""

    boot: str
    stream: int
    heard: bool
    excused: bool


@dataclass(frozen=True, slots=True)
class PoolLive:
    """Everything volatile about one pool."""

    agents: dict[HostId, AgentState] = field(default_factory=dict)
    strangers: dict[HostId, AgentState] = field(default_factory=dict)  # of this pool by their own word alone
    sent: dict[str, Sent] = field(default_factory=dict)
    claims: dict[HostId, ClaimOutcome] = field(default_factory=dict)
    master_since: Ms = 0  # when this run saw the present master take its role; 0: before this run
    aborted_at: Ms | None = None  # when this run last ended a failover without a promotion
    aborts: int = 0  # how many in a row; the pool's long health or a promotion ends the row
    claims_since: Ms | None = None
    claim_round: int = 0  # the serial of the present round; answers to an earlier one do not count
    look_misses: int = 0  # last looks that the candidate left unanswered, in a row
    mute: frozenset[HostId] = frozenset()  # hosts that left three last looks unanswered on their present stream
    asked_again: dict[HostId, Ms] = field(default_factory=dict)  # since when a claim is owed for a changed database
    asked_gates: dict[HostId, tuple[str, Role]] = field(default_factory=dict)  # boot gates that wait for an answer
    # Boot, decision, term and ground of the last word on each gate.
    gate_words: dict[HostId, tuple[str, str, int, str]] = field(default_factory=dict)
    gates: dict[HostId, WaitingGate] = field(default_factory=dict)
    members_asked: Ms = -1_000_000  # when members without an agent were asked last whom they follow
    recovering: tuple[str, Ms] | None = None  # the last pool.recover_slaves, since its order or else its answer
    role_asks: dict[HostId, str] = field(default_factory=dict)  # the last order by which an agent asks silent hosts
    told: dict[HostId, dict[HostId, Told]] = field(default_factory=dict)  # silent host -> who asked -> what it said
    # agents that ask a promoted host for its role: their last two questions, and since when it has been asked
    witnesses: dict[HostId, tuple[str, str]] = field(default_factory=dict)
    witnesses_since: Ms | None = None
    against: dict[HostId, tuple[Ms, str]] = field(default_factory=dict)  # a silent host's word against a promotion
    dark: dict[HostId, tuple[Ms, Ms]] = field(default_factory=dict)  # since when it only was silent, and when last
    aimed: tuple[str, Ms] = ("", 0)  # the device that is to switch off next; no reading is begun on it for a moment
    unwitnessed_since: Ms | None = None  # since when a shot waits for a member's testimony
    fence_since: Ms = 0  # when the power-off under way was ordered in this run
    held_since: dict[HostId, Ms] = field(default_factory=dict)  # a hold that nothing owns, seen by this run
    gc_since: dict[HostId, Ms] = field(default_factory=dict)  # garbage collection held, as seen by this run
    owed_since: dict[tuple[HostId, str], Ms] = field(default_factory=dict)  # owed work, as seen by this run
    repoint_begun: dict[HostId, tuple[str, Ms]] = field(default_factory=dict)  # of which failover, when it was told
    lingering: dict[tuple[str, HostId], Ms] = field(
        default_factory=dict
    )  # since when what goes on there (latent_faults.py)
    unsteady_since: Ms | None = None  # since when the pool has not been Healthy for a minute; None: it is steady
    refusal_taken: Ms = -1  # when the candidate's refusal that was told last was heard
    recalled: str = ""  # the run id of the power-off that was recalled last
    left: tuple[frozenset[HostId], Ms] | None = None  # hosts missing from the master's view, and since when
    power: dict[HostId, PowerState] = field(default_factory=dict)
    grace_until: Ms = 0  # boot grace: until then a master that does not read OFF is let win
    contrary: tuple[Ms, str, HostId] | None = None  # last sign of life that contradicted a reading, and whose
    devices_due: Ms = 0  # when the devices' health is judged next
    answered_until: tuple[HostId, Ms] = ("", 0)  # a master that is not heard: when its xapi last answered anybody
    own_probe: CollectorProbe | None = None
    certificates: dict[HostId, str] = field(default_factory=dict)  # what a host's xapi showed while its agent was heard
    own_standing: tuple[HostId, str] | None = None  # whose xapi the collector itself has reached, and its certificate
    boots: dict[HostId, tuple[str, ...]] = field(default_factory=dict)  # boot ids heard, the newest last
    returned: dict[HostId, int] = field(default_factory=dict)  # how often an earlier boot was heard after a later one
    identity_at: dict[HostId, Ms] = field(default_factory=dict)  # last sign of a conflict of identity
    stopped_since: Ms | None = None  # since when the master's agent says that its toolstack is held and stopped
    conflict: tuple[Ms, str] | None = None  # since when witnesses contradict each other, and how
    planned_since: Ms | None = None  # when this run heard the master's goodbye
    transition_since: Ms | None = None
    settled_since: Ms | None = None  # since when a pool in transition is healthy
    links: dict[HostId, Link] = field(default_factory=dict)  # how each agent was heard in the step before
    flaps: dict[HostId, tuple[Ms, ...]] = field(default_factory=dict)  # when a lost link came back within ten minutes
    booted: dict[HostId, tuple[tuple[str, Ms], ...]] = field(default_factory=dict)  # new boots, and when each was heard
    raised: frozenset[HostId] = frozenset()  # hosts whose claim has raised this collector's epoch in this run
    restored: bool = False  # this run found its journal older than what the agents know
    quiet_until: Ms = 0  # this pool's own quiet time, beside the collector's
    unserved_since: Ms | None = None  # since when the heard master on record has not been seen serving
    unserved_starts: Starts = field(default_factory=Starts)  # of its xapi since then
    unsteady_starts: Starts = field(default_factory=Starts)  # since it was steady last
    look: Look | None = None
    step_since: Ms = 0
    verdict: str = ""
    verdict_since: Ms = 0
    verdict_sentence: str = ""
    silent: frozenset[HostId] = frozenset()
    asked: str = ""  # the reason for which nothing is begun, as it was told last
    told_seen: Ms = 0  # when that reason was last found to stand
    asked_at: Ms | None = None  # when this run put the open question, or found it after a restart
    asked_seen: Ms = 0  # when its ground was last found to stand
    approved_at: Ms | None = None  # when this run heard the open failover's approval
    generations: tuple[HostId, tuple[tuple[int, Ms], ...]] = ("", ())  # a master's, each with when it was last seen
    cooldown_until: Ms | None = None
    human_at: Ms | None = None
    words_at: dict[HostId, Ms] = field(default_factory=dict)  # when this run heard the word that a host is off
    awaited: dict[HostId, Ms] = field(default_factory=dict)  # hosts whose silence blocks something, and since when last
    voices: dict[HostId, tuple[Ms, str]] = field(default_factory=dict)  # when a silent host's xapi last told its role
    fenced_at: Ms = 0  # when the last power-off run ended; readings from before it say nothing about it
    serial: int = 0
    settings: dict[HostId, tuple[int, str]] = field(default_factory=dict)  # stream and fingerprint of what was sent
    troubles: dict[HostId, Ms] = field(default_factory=dict)  # since when a heard member is not what it should be
    mended: dict[HostId, Ms] = field(default_factory=dict)  # since when a repaired member is fine
    repairing: tuple[HostId, Ms] | None = None  # the last repair and when it was ordered
    sync_at: Ms | None = None  # when this run last had the database pushed
    sync_skipped: str = ""  # why the push that is due is not made; empty: none is due, or it is made
    designating: Ms | None = None  # when the switchover under way was begun, or ordered, or found after a restart
    dead_again: dict[HostId, Ms] = field(
        default_factory=dict
    )  # a host that could not be declared dead: not before this
    switched_at: dict[str, Ms] = field(default_factory=dict)  # when this run began each power switch, by its run
    wake_again: dict[HostId, Ms] = field(default_factory=dict)  # a host that is to be woken: not before this
    places: dict[str, tuple[VmPlace, Ms]] = field(
        default_factory=dict
    )  # where a lost VM could start, and when that was
    locating: tuple[str, ...] = ()  # the orders that ask for it
    pending: tuple[tuple[OperatorSaid, Ms], ...] = ()  # commands that wait for evidence, and until when
    in_place_at: tuple[str, Ms] = ("", 0)  # the step of a restart in place that is awaited, and since when in this run
    in_place_look: Ms | None = None  # what was seen of its host until then counts no more; None: its stop was not seen
    in_place_passed: frozenset[HostId] = frozenset()  # whose copy could not be carried, or is not what it was
    in_place_yes: Ms | None = None  # when this run heard the yes to the VMs that its start may kill
    in_vain: tuple[Ms, Ms] = (0, -1_000_000)  # since when a held master is found unproven, and when it was last
    marks: dict[str, Ms] = field(default_factory=dict)  # phases of the open failover, for durations
    unsettled: dict[str, Unsettled] = field(default_factory=dict)  # by topic: alerts whose state has not lasted yet
    closing: dict[str, tuple[Ms, str]] = field(default_factory=dict)  # open alerts that are over then, and why
    alerted: dict[str, Ms] = field(default_factory=dict)  # when each topic was told last, within the last minute


@dataclass(frozen=True, slots=True)
class Site:
    """What one pool must know of the rest: the collector's own condition."""

    epoch: int
    started_at: Ms
    quiet_until: Ms
    blind: str = ""  # why the collector considers itself blind; empty: it does not
    behind_ms: Ms = 0  # how long ago what is taken in now has arrived: nothing younger has been heard yet
    deposed: str = ""  # why this collector may do nothing in this pool until a person says so; empty: it may


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: durable record, live state, policy and devices."""

    record: PoolRecord
    policy: Policy
    devices: dict[HostId, tuple[FenceDevice, ...]] = field(default_factory=dict)
    live: PoolLive = PoolLive()
