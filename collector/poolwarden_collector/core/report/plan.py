"""What would happen if a pool's master died this second: is there a proof, who takes over, what is lost, how long.

Rules
-----
* Everything is asked of the functions that would decide, and nothing is changed.
* What is only found out in the failover itself (a candidate's database is read then) is said to be so.
* How long it takes is told from this pool's own failovers; where there was none, by the figures that the design and its
  policy give, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from poolwarden_collector.core.decision.candidate_ranking import Ranked, rank
from poolwarden_collector.core.decision.database_age import age
from poolwarden_collector.core.decision.fencing_stakes import vm_names
from poolwarden_collector.core.decision.kill_forecast import forecast
from poolwarden_collector.core.decision.permission import may_begin
from poolwarden_collector.core.evidence.signs import signs, suspected
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.report.device_status import devices
from poolwarden_collector.core.report.journal_view import JournalView, took
from poolwarden_collector.core.report.progress import limits
from poolwarden_collector.core.report.readiness import Unready, blocking
from poolwarden_collector.core.report.situation import situation
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot

HEALS, ASKS, STANDS = "heals", "asks", "stands still"
# Reasons of readiness that do not keep a failover from its end, and those that a person's word overcomes.
_ASIDE = ("gate-would-wait", "not-pushed")
_ASKED = ("mode", "cool-down", "unheard-members", "old-copy", "no-device", "fence-device")
# A promotion: xapi's fuse of 10 s and its start; members: the same for each of them, three at a time.
PROMOTION_MS: Ms = 20_000
MEMBERS_MS: Ms = 30_000
_TEXTS = {
    "silence": "silence, and nobody gets an answer",
    "claim": "every member looks once more",
    "proof": "power read off twice",
    "promotion": "a member becomes master",
    "members": "the other members follow",
}


@dataclass(frozen=True, slots=True)
class PlanDevice:
    name: str
    state: str
    power: str
    read: bool
    age_ms: Ms
    trouble: str


@dataclass(frozen=True, slots=True)
class PlanHost:
    host_uuid: HostId
    name: str
    eligible: bool
    text: str


@dataclass(frozen=True, slots=True)
class PlanKill:
    vm_uuid: str
    name: str
    host_name: str
    why: str


@dataclass(frozen=True, slots=True)
class PlanVm:
    vm_uuid: str
    name: str
    can_start_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanPhase:
    name: str
    text: str
    expected_ms: Ms
    at_most_ms: Ms


@dataclass(frozen=True, slots=True)
class Plan:
    """The field names are the contract's (operator.proto, PlanReply)."""

    headline: str
    master_uuid: HostId = ""
    master_name: str = ""
    outcome: str = STANDS
    outcome_text: str = "no verified master is known"
    devices: tuple[PlanDevice, ...] = ()
    proof_text: str = ""
    candidate_uuid: HostId = ""
    candidate_name: str = ""
    hosts: tuple[PlanHost, ...] = ()
    data_loss_ms: Ms = 0
    data_loss_known: bool = False
    data_loss_text: str = ""
    kills: tuple[PlanKill, ...] = ()
    kills_known: bool = False
    kills_text: str = ""
    vms: tuple[PlanVm, ...] = ()
    vms_text: str = ""
    phases: tuple[PlanPhase, ...] = ()
    expected_ms: Ms = 0
    expected_from: str = ""
    refused: tuple[str, ...] = ()


def plan(state: Pool, now: Ms, site: Site, past: JournalView) -> Plan:
    """What would happen now."""
    pool = Snapshot(state, now, site)
    verdict, master = judge(signs(pool)), suspected(pool)
    headline = situation(pool, verdict).headline
    if not master:
        return Plan(headline)
    ranked = rank(pool, master, None)
    best = next((each for each in ranked if not each.limitation), None)
    reasons = tuple(reason for reason in blocking(pool) if reason.code not in _ASIDE)
    outcome, text = _outcome(pool, reasons, best)
    kills, kills_text = _kills(pool, master, best)
    loss_ms, loss = _data_loss(pool, best)
    phases, source = _phases(pool, past)
    lost = _vms(pool, master, ranked)
    begins = may_begin(pool, verdict) if verdict.entails.master_is_lost else None
    return Plan(
        headline=headline,
        master_uuid=master,
        master_name=pool.name(master),
        outcome=outcome,
        outcome_text=text,
        devices=_devices(pool, master),
        proof_text=_proof(pool, master, reasons),
        candidate_uuid=best.host if best is not None else "",
        candidate_name=best.name if best is not None else "",
        hosts=tuple(PlanHost(r.host, r.name, not r.limitation, r.text) for r in ranked),
        data_loss_ms=loss_ms or 0,
        data_loss_known=loss_ms is not None,
        data_loss_text=loss,
        kills=kills or (),
        kills_known=kills is not None,
        kills_text=kills_text,
        vms=lost,
        vms_text=_vms_text(pool, master, lost),
        phases=phases,
        expected_ms=sum(phase.expected_ms for phase in phases),
        expected_from=source,
        refused=(begins.text,) if begins is not None else (),
    )


def _outcome(pool: Snapshot, reasons: tuple[Unready, ...], best: Ranked | None) -> tuple[str, str]:
    """How it would end, and the reason that decides that."""
    firm = [reason for reason in reasons if reason.code not in _ASKED]
    if pool.policy.mode == "observe":
        firm = [reason for reason in reasons if reason.code == "mode"] + firm
    if firm:
        return STANDS, f"nothing would be done: {firm[0].sentence}"
    if reasons:
        return ASKS, f"it would wait for you: {reasons[0].sentence}"
    name = best.name if best is not None else "a member"
    return HEALS, f"{name} would become master by itself"


def _devices(pool: Snapshot, master: HostId) -> tuple[PlanDevice, ...]:
    return tuple(PlanDevice(d.name, d.state, d.power, d.read, d.age_ms, d.text) for d in devices(pool, master))


def _proof(pool: Snapshot, master: HostId, reasons: tuple[Unready, ...]) -> str:
    why = [reason.sentence for reason in reasons if reason.code in ("no-device", "fence-device")]
    if why:
        return f"no: {why[0]}"
    names = ", ".join(device.name for device in pool.devices(master))
    gap = pool.policy.reading_gap / 1000
    return f"yes, once {names} read{'s' if len(pool.devices(master)) == 1 else ''} off twice, {gap:.0f} s apart"


def _data_loss(pool: Snapshot, best: Ranked | None) -> tuple[Ms | None, str]:
    if best is None:
        return None, "nobody could take over"
    copy = age(pool, best.host)
    return copy.age_ms, f"the copy of {best.name} is {copy.text}"


# ------------------------------------------------------------------------------------------------ VMs


def _kills(pool: Snapshot, master: HostId, best: Ranked | None) -> tuple[tuple[PlanKill, ...] | None, str]:
    """Running VMs that the candidate's database would terminate, as far as that has been read in this run."""
    if best is None:
        return None, "nobody could take over"
    loads = _read_last(pool, best.host)
    found = forecast(pool, best.host, master, loads) if loads is not None else None
    if found is None or isinstance(found, Reason):
        return None, f"the database of {best.name} is read first; it asks you where a running VM would be killed"
    kills = tuple(PlanKill(kill.vm, kill.name, pool.name(kill.host), kill.why) for kill in found)
    none = f"none, by what {best.name} said of its database last; it is read again first"
    return kills, none if not kills else f"{len(kills)}: it would ask you first"


def _read_last(pool: Snapshot, host: HostId) -> PlacementView | None:
    found = None
    for sent in pool.live.sent.values():
        if sent.host == host and sent.result is not None:
            claim = sent.result.claim
            found = sent.result.placements or (claim.placements if claim is not None else None) or found
    return found


def _vms(pool: Snapshot, master: HostId, ranked: tuple[Ranked, ...]) -> tuple[PlanVm, ...]:
    agent, names = pool.agent(master), vm_names(pool)
    where = tuple(r.name for r in ranked if pool.heard(r.host) and r.enabled is not Tri.NO and not r.unplugged)
    domains = agent.facts.domains if agent is not None else None
    found = (PlanVm(vm, names.get(vm, vm), where) for vm in domains or ())
    return tuple(sorted(found, key=lambda vm: vm.name))


def _vms_text(pool: Snapshot, master: HostId, lost: tuple[PlanVm, ...]) -> str:
    agent, name = pool.agent(master), pool.name(master)
    if agent is None or agent.facts.domains is None:
        return f"how many VMs run on {name} is not known"
    if not lost:
        return f"no VM runs on {name}"
    where = ", ".join(lost[0].can_start_on) or "no other host"
    count = f"{len(lost)} VM{'s' if len(lost) > 1 else ''}"
    start = f"poolwarden start-lost {pool.record.display_name}"
    return f"{count} would be down; then, at your word ({start}), to be started on {where} where xapi finds room for it"


# ------------------------------------------------------------------------------------------------ how long


def _phases(pool: Snapshot, past: JournalView) -> tuple[tuple[PlanPhase, ...], str]:
    """Each step with what it is expected to take, and where that is from."""
    most, failovers = limits(pool), [change for change in past.changes if not change.planned]
    by_design = {
        "silence": pool.policy.vanished_after,
        "claim": pool.policy.probe_timeout,
        "proof": pool.policy.reading_gap,
        "promotion": PROMOTION_MS,
        "members": MEMBERS_MS if len(pool.record.hosts) > 2 else 0,
    }
    phases = []
    for name, text in _TEXTS.items():
        known = [ms for change in failovers if (ms := took(change, name)) is not None]
        expected = round(median(known)) if known else by_design[name]
        phases.append(PlanPhase(name, text, expected, most[name]))
    count = len(failovers)
    if not count:
        return tuple(phases), "by design: this pool has had no failover that its journal knows of"
    return tuple(phases), f"from the last {f'{count} failovers' if count > 1 else 'failover'} of this pool"
