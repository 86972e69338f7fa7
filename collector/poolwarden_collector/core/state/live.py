"""A pool's live state: what this run of the collector has heard, lost with it, never needed to be safe.

Everything here can be forgotten at any instant: what was heard is heard again, what was asked is asked again. What
must not be forgotten is in ``pool_record.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, PowerReading
from poolwarden_collector.core.model.takeover import Takeover
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live_slices import (
    Alerts,
    Announcements,
    AssumptionWatch,
    Backoff,
    BootGates,
    ClaimRound,
    CollectorProbes,
    Contradictions,
    DatabaseAge,
    DatabaseSync,
    DrillProgress,
    FencedHosts,
    Identity,
    InPlaceProgress,
    JournalGap,
    LastLook,
    LinkFlaps,
    Mastership,
    MemberRecovery,
    MemberRepairs,
    Phases,
    PolicyStarts,
    PowerOffRun,
    PowerSwitches,
    PromotionWitnesses,
    Questions,
    Service,
    ToldVerdict,
    UnheardHosts,
    VmPlaces,
)
from poolwarden_collector.core.state.pool_record import PoolRecord


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
class ToldReading:
    """What the journal has of a device's readings last: what they said, how many in a row did, and when it was told."""

    said: tuple[str, ...] = ()
    times: int = 0
    at: Ms = 0


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
    urgency: Urgency = Urgency.SUSPICION  # of the run under way, as it was ordered last
    told: ToldReading = ToldReading()  # of readings that gave the power
    told_unread: ToldReading = ToldReading()  # of those that gave none

    @property
    def newest(self) -> PowerReading | None:
        return self.readings[-1] if self.readings else None


def _of(owner: str, default: Any) -> Any:
    """A field that this module of the core changes, and no other."""
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"owner": owner})
    return field(default=default, metadata={"owner": owner})


@dataclass(frozen=True, slots=True)
class PoolLive:
    """Everything volatile about one pool: slices and single fields, each changed by the module that it names alone."""

    agents: dict[HostId, AgentState] = _of("state/agent_streams", {})
    sent: dict[str, Sent] = _of("state/sent_orders", {})
    serial: int = _of("state/transaction", 0)
    alerts: Alerts = _of("state/alert_book", Alerts())
    phases: Phases = _of("state/phases", Phases())
    # Commands that wait for evidence, and until when.
    pending: tuple[tuple[OperatorSaid, Ms], ...] = _of("state/waiting_commands", ())

    power: dict[str, PowerState] = _of("devices/device_states", {})  # by device
    devices_due: Ms = _of("devices/device_health", 0)  # when the devices' health is judged next

    mastership: Mastership = _of("evidence/mastership", Mastership())
    service: Service = _of("evidence/assessment", Service())
    fenced: FencedHosts = _of("evidence/fenced_hosts", FencedHosts())
    identity: Identity = _of("evidence/identity_conflict", Identity())
    contradictions: Contradictions = _of("evidence/contradictions", Contradictions())
    announcements: Announcements = _of("evidence/announcements", Announcements())
    assumptions: AssumptionWatch = _of("evidence/assumptions", AssumptionWatch())
    link_flaps: LinkFlaps = _of("evidence/link_flaps", LinkFlaps())
    journal_gap: JournalGap = _of("evidence/journal_gap", JournalGap())
    strangers: dict[HostId, AgentState] = _of("evidence/unlisted_hosts", {})  # of this pool by their own word alone

    database_age: DatabaseAge = _of("decision/database_age", DatabaseAge())
    questions: Questions = _of("decision/questions", Questions())
    backoff: Backoff = _of("decision/backoff", Backoff())

    claims: ClaimRound = _of("failover/claim_round", ClaimRound())
    look: LastLook = _of("failover/last_look", LastLook())
    power_off: PowerOffRun = _of("failover/power_off", PowerOffRun())
    promotion_witnesses: PromotionWitnesses = _of("failover/promotion_witness", PromotionWitnesses())
    refusal_taken: Ms = _of("failover/promotion", -1)  # when the candidate's refusal that was told last was heard
    roomless_at: Ms | None = _of("recovery/other_file", None)  # when / of a master that does not stay up had no room
    # Since when a held master is found unproven, and when it was last.
    in_vain: tuple[Ms, Ms] = _of("failover/steps", (0, -1_000_000))
    against: dict[HostId, tuple[Ms, str]] = _of(
        "failover/unheard_check", {}
    )  # a silent host's word against a promotion
    repoint_begun: dict[HostId, tuple[str, Ms]] = _of(
        "failover/member_return", {}
    )  # of which failover, when it was told

    gc_since: dict[HostId, Ms] = _of("followups/gc_release", {})  # garbage collection held, as seen by this run
    owed_since: dict[tuple[HostId, str], Ms] = _of("followups/overdue_work", {})  # owed work, as seen by this run
    dead_again: dict[HostId, Ms] = _of("followups/declare_dead", {})  # could not be declared dead: not before this
    vm_places: VmPlaces = _of("followups/vm_places", VmPlaces())
    policy_starts: PolicyStarts = _of("followups/policy_starts", PolicyStarts())
    power_switches: PowerSwitches = _of("followups/power_switch", PowerSwitches())

    gates: BootGates = _of("recovery/boot_gate", BootGates())
    unheard: UnheardHosts = _of("recovery/unheard_at_boot", UnheardHosts())
    held_since: dict[HostId, Ms] = _of("recovery/adopted_holds", {})  # a hold that nothing owns, seen by this run
    in_place: InPlaceProgress = _of("recovery/restart_in_place", InPlaceProgress())
    member_recovery: MemberRecovery = _of("recovery/recover_members", MemberRecovery())
    member_repairs: MemberRepairs = _of("recovery/member_repair", MemberRepairs())
    database_sync: DatabaseSync = _of("recovery/database_sync", DatabaseSync())
    # When the switchover under way was begun, or ordered, or found after a restart.
    designating: Ms | None = _of("recovery/switchover", None)

    drill: DrillProgress = _of("operator/drill_walk", DrillProgress())

    lingering: dict[tuple[str, HostId], Ms] = _of("report/latent_faults", {})  # since when what goes on there

    own_probe: CollectorProbes = _of("intake", CollectorProbes())
    # Hosts on which the epoch of this ownership is durable; only one of several collectors is told.
    acknowledged: frozenset[HostId] = _of("intake", frozenset())
    certificates: dict[HostId, str] = _of("intake", {})  # what a host's xapi showed while its agent was heard
    contrary: tuple[Ms, str, HostId] | None = _of("intake", None)  # last sign of life against a reading, and whose
    left: tuple[frozenset[HostId], Ms] | None = _of("intake", None)  # missing from the master's view, and since when
    verdict: ToldVerdict = _of("engine", ToldVerdict())
    silent: frozenset[HostId] = _of("engine", frozenset())  # hosts whose agents' silence was journaled


# The attribute of each slice, by its class.
SLICES: dict[type, str] = {type(item.default): item.name for item in fields(PoolLive) if is_dataclass(item.default)}


@dataclass(frozen=True, slots=True)
class Site:
    """What one pool must know of the rest: the collector's own condition."""

    epoch: int
    started_at: Ms
    quiet_until: Ms
    blind: str = ""  # why the collector considers itself blind; empty: it does not
    behind_ms: Ms = 0  # how long ago what is taken in now has arrived: nothing younger has been heard yet
    deposed: str = ""  # why this collector may do nothing in this pool until a person says so; empty: it may
    clock: str = ""  # names the clock of `now`: the same after a restart of the collector, another after its machine's
    # Open alerts that the engine has not raised (of hooks), for what is shown: key, severity, title.
    beside: tuple[tuple[str, str, str], ...] = ()
    # Where this run has raised its epoch above what a host had obeyed: every epoch of it, the first one first.
    raised: tuple[int, ...] = ()
    # What the owner before may have left under way; None: this collector is the only one.
    takeover: Takeover | None = None
    stalled: str = ""  # why nothing of this pool can be recorded, for what is shown: no step is taken then
    cut_off: bool = False  # one of several that may act nowhere: what it misses meanwhile is not the agents' doing
    # Hosts whose agents this collector itself has sent to look at another one, while it may act nowhere, and which have
    # time to come back: that their streams are away says nothing of them.
    scouts: frozenset[HostId] = frozenset()
    # VMs that are about to be started here, and of which a host of another pool that is guarded here has a domain. No
    # name: whoever sees this pool may not see that one.
    elsewhere: frozenset[str] = frozenset()
    young: bool = False  # what ``blind`` says is that too many of the site's pools have a new collector


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: durable record, live state, policy and devices."""

    record: PoolRecord
    policy: Policy
    devices: dict[HostId, tuple[FenceDevice, ...]] = field(default_factory=dict)
    live: PoolLive = PoolLive()
