"""What the collector thinks of a pool and why, and what it would do: the answer to ``explain`` and ``failover
--dry-run``.

Nothing here changes anything: it asks the same functions that decide, on a draft that is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision import questions
from poolwarden_collector.core.decision.candidate_ranking import Ranked, rank
from poolwarden_collector.core.decision.database_age import CopyAge, ages
from poolwarden_collector.core.decision.permission import boot_grace, may_begin, standing_refusal
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.assessment import describe
from poolwarden_collector.core.evidence.evidence_lines import EvidenceLine, lines
from poolwarden_collector.core.evidence.proof import Proof, verify_power
from poolwarden_collector.core.evidence.signs import member_state, signs, suspected
from poolwarden_collector.core.evidence.verdict import OF_MEMBER, Permit, Verdict, judge
from poolwarden_collector.core.failover import steps
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.recovery import master_restart, restart_in_place
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


def explain(pool: Pool, now: Ms, site: Site) -> Explanation:
    """Explain this pool at this instant."""
    d = Snapshot(pool, now, site)
    verdict = judge(signs(d))
    master = suspected(d)
    claimed = tuple(d.live.claims) if d.failover is not None and d.live.claims else None
    ranked = rank(d, master, claimed)
    best = next((r for r in ranked if not r.limitation), None)
    return Explanation(
        verdict.word,
        verdict.meaning,
        describe(d, verdict),
        lines(d),
        _permitted(verdict),
        _refused(d, verdict, master, ranked),
        not_ready(d),
        _plan(d, master, best),
        best.name if best is not None else "",
        tuple(r.text for r in ranked),
        _next_step(d, verdict, master),
        ages(d),
    )


def _permitted(verdict: Verdict) -> tuple[str, ...]:
    return () if verdict.permits is Permit.NOTHING else (verdict.permits.value,)


def _refused(d: Snapshot, verdict: Verdict, master: HostId, ranked: tuple[Ranked, ...]) -> tuple[str, ...]:
    found: list[str] = []
    failover = d.failover
    if failover is not None and failover.blocked:
        found.append(f"failover {failover.id}: {failover.blocked}: {failover.blocker}")
    if failover is not None and (held := steps.hold_reason(d, failover, verdict)):
        found.append(f"failover {failover.id} stands still: {held}")
    if (under_way := d.record.in_place) is not None:
        at = restart_in_place.stands_at(d, under_way)
        found.append(f"failover: the xapi of {d.name(under_way.host)} is being restarted in place: {at}")
    elif failover is None and (why := may_begin(d, verdict)):
        found.append(f"failover: {why}")
    if verdict is Verdict.VANISHED and failover is None and (grace := boot_grace(d)):
        found.append(f"failover: {grace}, unless the power reads OFF")
    if master and verdict is Verdict.VANISHED and d.record.master == master:
        boot = d.record.hosts[master].boot_id if master in d.record.hosts else ""
        proof = verify_power(d, master, boot)
        if not isinstance(proof, Proof):
            found.append(f"promotion: no proof yet: {proof.why}")
    if verdict.permits is Permit.RESTART:
        found.extend(f"restart: {why}" for why in _restart(d, master))
    if ranked and all(r.limitation for r in ranked):
        found.append("promotion: nobody is eligible")
    return tuple(found)


def _restart(d: Snapshot, master: HostId) -> list[str]:
    placements = next(
        (
            s.result.placements
            for s in reversed(list(d.live.sent.values()))
            if s.host == master and s.result and s.result.placements
        ),
        None,
    )
    why = standing_refusal(d) or master_restart.restart_refusal(d, master, placements)
    instead = (
        "; with that copy it may be restarted in place" if why is not None and why.code is Cause.NEWER_COPY else ""
    )
    return [f"{why.text}{instead}"] if why is not None else []


def plan_of(d: Snapshot) -> tuple[str, ...]:
    """What a failover would do in this pool now, step by step."""
    master = suspected(d)
    best = next((r for r in rank(d, master, None) if not r.limitation), None)
    return _plan(d, master, best)


def _plan(d: Snapshot, master: HostId, best: Ranked | None) -> tuple[str, ...]:
    """What a failover of this master would do, step by step, with what is known now."""
    if not master:
        return ("nothing: no verified master is known",)
    name = d.name(master)
    power = view(d, master)
    others = [h for h in sorted(d.record.hosts, key=d.name) if h != master and (best is None or h != best.host)]
    heard = [d.name(h) for h in others if d.heard(h) is not None]
    silent = [d.name(h) for h in others if d.heard(h) is None]
    steps = [f"read the power of {name} (now: {power.why})"]
    steps.append(f"decide at term {d.record.term + 1}; ask every heard agent to store it and look at {name} once more")
    if best is None:
        return (*steps, "stop: BLOCKED_NO_CANDIDATE, nobody is eligible")
    steps.append(
        f"choose {best.name} (database generation {best.generation}); stop and ask if its database would kill a VM"
    )
    steps.append(_proof_step(d, master, power.power))
    steps.append(f"promote {best.name} and verify it by pool.conf, a new xapi process, TCP and its own login")
    if heard:
        steps.append(f"repoint {', '.join(heard)} to it and wait until each is live and enabled")
    if silent:
        steps.append(f"owe it to {', '.join(silent)}, not heard now, until their agents are heard again")
    steps.append(f"keep a tombstone for {name} until it is back as a member; alert with the new master's address")
    return tuple(steps)


def _proof_step(d: Snapshot, master: HostId, power: Power) -> str:
    name = d.name(master)
    devices = d.devices(master)
    if not devices:
        return f"stop: BLOCKED_NEEDS_HUMAN, {name} has no usable fence device: poolwarden confirm-fenced {name}"
    gap = d.policy.reading_gap / 1000
    if power is Power.ON and not d.policy.auto_fence_running:
        return f"prove: two OFF readings {gap:.0f} s apart; while it reads ON, ask: nobody is shot by default"
    return (
        f"prove: two OFF readings of {', '.join(x.name for x in devices)} at least {gap:.0f} s apart, then a last look"
    )


def _next_step(d: Snapshot, verdict: Verdict, master: HostId) -> str:
    name = d.name(master) if master else ""
    failover, question = d.failover, d.record.question
    if question is not None:
        return questions.answers(question.id, question.needs)
    if failover is not None and failover.blocked:
        if failover.blocked in (Blocker.NEEDS_HUMAN, Blocker.POWER_ON):
            return f"make sure that {name} is off, then: poolwarden confirm-fenced {name}"
        return failover.blocker
    if d.record.paused is not None:
        return f"poolwarden resume {d.record.name or d.record.pool}"
    if verdict is Verdict.VANISHED and failover is None:
        return f"make sure that {name} is off, then: poolwarden confirm-fenced {name}"
    return verdict.entails.next_step.format(master=name, member=_troubled(d, verdict))


def _troubled(d: Snapshot, verdict: Verdict) -> str:
    """The member that a verdict is about, by name, so that its next step can be typed."""
    master = suspected(d)
    hosts = [host for host in sorted(d.record.hosts, key=d.name) if host != master]
    found = [host for host in hosts if OF_MEMBER[member_state(d, host, master)] is verdict]
    return d.name(found[0] if found else master)
