"""What the collector thinks of a pool and why, and what it would do: the answer to ``explain`` and ``failover
--dry-run``.

Nothing here changes anything: it asks the same functions that decide, on a transaction that is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision.candidate_ranking import Ranked, rank
from poolwarden_collector.core.decision.database_age import CopyAge, ages
from poolwarden_collector.core.decision.permission import boot_grace, may_begin, standing_refusal
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence import storage_stalls, xapi_troubles
from poolwarden_collector.core.evidence.assessment import describe
from poolwarden_collector.core.evidence.evidence_lines import EvidenceLine, lines
from poolwarden_collector.core.evidence.proof import Proof, verify_power
from poolwarden_collector.core.evidence.signs import signs, suspected
from poolwarden_collector.core.evidence.verdict import Permit, Verdict, judge
from poolwarden_collector.core.failover import steps
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.recovery import master_restart, restart_in_place
from poolwarden_collector.core.report.next_step import next_step
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Explanation:
    """Verdict, evidence, what is permitted, what is refused and why, and what would be done."""

    verdict: str
    meaning: str
    sentence: str
    evidence: tuple[EvidenceLine, ...]
    permitted: tuple[str, ...]
    refused: tuple[str, ...]
    not_ready: tuple[str, ...]
    plan: tuple[str, ...]
    candidate: str
    limitations: tuple[str, ...]
    next_step: str
    copies: tuple[CopyAge, ...] = ()


def explain(state: Pool, now: Ms, site: Site) -> Explanation:
    """Explain this pool at this instant."""
    pool = Snapshot(state, now, site)
    verdict = judge(signs(pool))
    master = suspected(pool)
    claimed = tuple(pool.live.claims.answers) if pool.failover is not None and pool.live.claims.answers else None
    ranked = rank(pool, master, claimed)
    best = next((r for r in ranked if not r.limitation), None)
    return Explanation(
        verdict.word,
        verdict.meaning,
        describe(pool, verdict),
        (*lines(pool), *_causes(pool)),
        _permitted(verdict),
        _refused(pool, verdict, master, ranked),
        not_ready(pool),
        _plan(pool, master, best),
        best.name if best is not None else "",
        tuple(r.text for r in ranked),
        next_step(pool, verdict),
        ages(pool),
    )


def _causes(pool: Snapshot) -> tuple[EvidenceLine, ...]:
    """Why a xapi does not start and which storage does not answer, by the word of agents: nothing is decided by it."""
    troubles = [EvidenceLine("why", "yes", None, "its agent", text) for text in xapi_troubles.explained(pool)]
    stalled = [
        EvidenceLine("storage", "yes", None, ", ".join(map(pool.name, each.hosts)), storage_stalls.sentence(pool, each))
        for each in storage_stalls.stalls(pool)
    ]
    return (*troubles, *stalled)


def _permitted(verdict: Verdict) -> tuple[str, ...]:
    return () if verdict.permits is Permit.NOTHING else (verdict.permits.value,)


def _refused(pool: Snapshot, verdict: Verdict, master: HostId, ranked: tuple[Ranked, ...]) -> tuple[str, ...]:
    found: list[str] = []
    failover = pool.failover
    if failover is not None and failover.standstill.blocker:
        found.append(f"failover {failover.id} stands still: {failover.standstill.why}")
    if failover is not None and (held := steps.hold_reason(pool, failover, verdict)):
        found.append(f"failover {failover.id} stands still: {held}")
    if (under_way := pool.record.in_place) is not None:
        at = restart_in_place.stands_at(pool, under_way)
        found.append(f"failover: the xapi of {pool.name(under_way.host)} is being restarted in place: {at}")
    elif failover is None and (why := may_begin(pool, verdict)):
        found.append(f"failover: {why}")
    if no_cure := storage_stalls.no_cure(pool):
        found.append(f"a change of master would not help: {no_cure}")
    if verdict is Verdict.VANISHED and failover is None and (grace := boot_grace(pool)):
        found.append(f"failover: {grace}, unless the power reads OFF")
    if master and verdict is Verdict.VANISHED and pool.record.master == master:
        boot = pool.record.hosts[master].boot_id if master in pool.record.hosts else ""
        proof = verify_power(pool, master, boot)
        if not isinstance(proof, Proof):
            found.append(f"promotion: no proof yet: {proof.why}")
    if verdict.permits is Permit.RESTART:
        found.extend(f"restart: {why}" for why in _restart(pool, master))
    if ranked and all(r.limitation for r in ranked):
        found.append("promotion: nobody is eligible")
    return tuple(found)


def _restart(pool: Snapshot, master: HostId) -> list[str]:
    placements = next(
        (
            s.result.placements
            for s in reversed(list(pool.live.sent.values()))
            if s.host == master and s.result and s.result.placements
        ),
        None,
    )
    why = standing_refusal(pool) or master_restart.restart_refusal(pool, master, placements)
    instead = (
        "; with that copy it may be restarted in place" if why is not None and why.code is Cause.NEWER_COPY else ""
    )
    return [f"{why.text}{instead}"] if why is not None else []


def plan_of(pool: Snapshot) -> tuple[str, ...]:
    """What a failover would do in this pool now, step by step."""
    master = suspected(pool)
    best = next((r for r in rank(pool, master, None) if not r.limitation), None)
    return _plan(pool, master, best)


def _plan(pool: Snapshot, master: HostId, best: Ranked | None) -> tuple[str, ...]:
    """What a failover of this master would do, step by step, with what is known now."""
    if not master:
        return ("nothing: no verified master is known",)
    name = pool.name(master)
    power = view(pool, master)
    others = [h for h in sorted(pool.record.hosts, key=pool.name) if h != master and (best is None or h != best.host)]
    heard = [pool.name(h) for h in others if pool.heard(h) is not None]
    silent = [pool.name(h) for h in others if pool.heard(h) is None]
    steps = [f"read the power of {name} (now: {power.why})"]
    steps.append(
        f"decide at term {pool.record.term + 1}; ask every heard agent to store it and look at {name} once more"
    )
    if best is None:
        return (*steps, "stop: nobody is eligible")
    steps.append(
        f"choose {best.name} (database generation {best.generation}); stop and ask if its database would kill a VM"
    )
    steps.append(_proof_step(pool, master, power.power))
    steps.append(f"promote {best.name} and verify it by pool.conf, a new xapi process, TCP and its own login")
    if heard:
        steps.append(f"repoint {', '.join(heard)} to it and wait until each is live and enabled")
    if silent:
        steps.append(f"owe it to {', '.join(silent)}, not heard now, until their agents are heard again")
    steps.append(f"keep a tombstone for {name} until it is back as a member; alert with the new master's address")
    return tuple(steps)


def _proof_step(pool: Snapshot, master: HostId, power: Power) -> str:
    name = pool.name(master)
    devices = pool.devices(master)
    if not devices:
        return f"stop: {name} has no usable fence device: poolwarden confirm-fenced {name}"
    gap = pool.policy.reading_gap / 1000
    if power is Power.ON and not pool.policy.auto_fence_running:
        return f"prove: two OFF readings {gap:.0f} s apart; while it reads ON, ask: nobody is shot by default"
    return (
        f"prove: two OFF readings of {', '.join(x.name for x in devices)} at least {gap:.0f} s apart, then a last look"
    )
