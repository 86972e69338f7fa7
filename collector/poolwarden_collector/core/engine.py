"""The engine's one function: what happened to a pool, in; what to remember and what to do, out.

``step`` is pure. The shell commits ``entries`` and ``alerts`` in one transaction, and only then performs ``effects``;
if the commit fails, it drops the whole outcome and the pool is as it was.

A step always does the same five things: take the event in (absorb), see who is master (master), judge (verdict), do
what that permits (failover, members, remedies, operator), and say what changed (journal, alerts).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from poolwarden_collector.core import intake, upkeep
from poolwarden_collector.core.decision import database_age, questions, standstill
from poolwarden_collector.core.devices import device_health
from poolwarden_collector.core.evidence import mastership, unlisted_hosts
from poolwarden_collector.core.evidence.assessment import assess, describe, note_service
from poolwarden_collector.core.evidence.evidence_lines import lines
from poolwarden_collector.core.evidence.signs import signs, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Verdict, judge
from poolwarden_collector.core.failover import power_off, steps
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved, Effect
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import AgentReported, Event, OperatorSaid, Tick
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.operator import commands
from poolwarden_collector.core.recovery import (
    adopt_master,
    adopted_holds,
    boot_gate,
    master_restart,
    master_vanished,
    power_watch,
    restart_in_place,
)
from poolwarden_collector.core.report import disk_alerts, host_environment, latent_faults
from poolwarden_collector.core.report.incident_alerts import alert_unsteady, alert_verdict
from poolwarden_collector.core.state import alert_book
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.decision_input import pack
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

RESTARTS_FORGOTTEN_MS: Ms = 600_000
ORDERS_KEPT = 512


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step gives back."""

    pool: Pool
    entries: tuple[Entry, ...] = ()
    alerts: tuple[AlertRaised | AlertResolved, ...] = ()
    effects: tuple[Effect, ...] = ()


def step(pool: Pool, event: Event, now: Ms, site: Site) -> StepResult:
    """One event at one instant (ms on the collector's monotonic clock)."""
    d = Transaction(pool, now, site)
    _wake(d)
    intake.take_in(d, event)
    mastership.observe(d)
    mastership.listed(d)
    unlisted_hosts.watch_unlisted(d)
    unlisted_hosts.watch_database(d)
    adopted_holds.adopt(d)
    note_service(d)
    database_age.note_generation(d)
    verdict = assess(d)
    told = _told_of(d, event)
    disk_alerts.watch_disks(d, told)
    host_environment.watch_environment(d, told)
    if d.record.master in told:
        latent_faults.watch_disabled(d)
    if told:
        latent_faults.watch_next_start(d)
    _say_silence(d)
    _say_verdict(d, verdict)
    if isinstance(event, OperatorSaid):
        commands.command(d, event, verdict)
    commands.pending_commands(d, verdict)
    if isinstance(event, OperatorSaid):
        verdict = judge(signs(d))  # his word may have ended what held the pool
    _act(d, verdict)
    boot_gate.answer(d)
    mastership.settings(d)
    alert_book.tell_settled(d)
    _forget(d)
    return StepResult(d.pool, _with_input(d, pool, event), tuple(d.alerts), tuple(d.effects))


def _told_of(d: Snapshot, event: Event) -> Collection[HostId]:
    """Whose facts may be other ones: the host that reports; at a tick any, for what was heard may count or not."""
    if isinstance(event, AgentReported):
        return (event.host,) if event.host in d.live.agents else ()
    return tuple(d.live.agents) if isinstance(event, Tick) else ()


# What may have to be explained years later, to the last fact that it was made from.
DECISIONS = (
    Kind.DECIDED,
    Kind.CANDIDATE,
    Kind.FENCE_INTENT,
    Kind.TOOLSTACK_INTENT,
    Kind.PROMOTE_INTENT,
    Kind.ABORTED,
    Kind.SUPERSEDED,
    Kind.RESTART_INTENT,
    Kind.IN_PLACE_INTENT,
    Kind.IN_PLACE_START,
    Kind.GATE_ANSWER,
    Kind.DEAD_INTENT,
)


def _with_input(d: Transaction, before: Pool, event: Event) -> tuple[Entry, ...]:
    """The step's entries; the first that decides something carries everything that the step was made from."""
    for number, entry in enumerate(d.entries):
        if entry.kind in DECISIONS:
            said = [f"{each.kind.value}: {each.text}" for each in d.entries]
            data = {**entry.data, "input": pack(before, event, d.now, d.site), "step": said}
            return (*d.entries[:number], replace(entry, data=data), *d.entries[number + 1 :])
    return tuple(d.entries)


def _act(d: Transaction, verdict: Verdict) -> None:
    written = len(d.entries)
    power_off.recall(d)
    if len(d.entries) > written:
        verdict = judge(signs(d))
    device_health.watch_devices(d)
    power_watch.watch_power(d, verdict)
    works = (
        restart_in_place.advance,
        adopt_master.adopt,
        master_vanished.succeed,
        master_vanished.without_master,
        master_vanished.relocate,
        steps.advance,
        master_restart.restart_master,
    )
    for work in works:
        written = len(d.entries)
        work(d, verdict)
        if len(d.entries) > written:
            # safety: what was just written may have made another host master; the old verdict was not about him.
            verdict = judge(signs(d))
    power_off.recall(d)  # whatever has ended a failover in this step
    master_restart.note_restart_success(d)
    upkeep.advance_followups(d, verdict)
    questions.expire(d)
    standstill.standing(d)


def _wake(d: Transaction) -> None:
    """First step of a run, and clocks that a restart has lost: a cool-down starts anew, never shorter."""
    if d.record.cooldown and d.live.cooldown_until is None:
        d.change(cooldown_until=d.site.started_at + d.policy.cooldown)
    if d.record.cooldown and d.live.cooldown_until is not None and d.now >= d.live.cooldown_until:
        d.note(Kind.COOLDOWN_OVER, "the cool-down is over")
        for topic in [topic for topic in d.open_topics if topic.matter is Matter.DONE]:
            d.resolve_alert(topic, "the cool-down after the failover is over")
        d.change(cooldown_until=None)
    if d.live.step_since == 0:
        alert_book.resume(d)
        d.change(step_since=d.now)


def _say_silence(d: Transaction) -> None:
    """Journal an agent's silence when it becomes suspicious, and its end."""
    silent = frozenset(h for h in d.record.hosts if h in d.live.agents and d.heard(h) is None and _overdue(d, h))
    for host in sorted(silent - d.live.silent, key=d.name):
        quiet = silence_of(d, host)
        text = f"the agent of {d.name(host)} has been silent for {quiet / 1000:.1f} s"
        d.note(Kind.AGENT_SILENT, text, host=host, silent_ms=quiet)
    for host in sorted(d.live.silent - silent, key=d.name):
        d.note(Kind.AGENT_BACK, f"the agent of {d.name(host)} is heard again", host=host)
    if silent != d.live.silent:
        d.change(silent=silent)


def _overdue(d: Snapshot, host: HostId) -> bool:
    return silence_of(d, host) >= d.policy.suspect_after


def _say_verdict(d: Transaction, verdict: Verdict) -> None:
    sentence = describe(d, verdict)
    if verdict.word == d.live.verdict:
        d.change(verdict_sentence=sentence)
        _forget_restarts(d, verdict)
    else:
        evidence = [
            {"subject": e.subject, "value": e.value, "age_ms": e.age_ms, "witness": e.witness, "text": e.text}
            for e in lines(d)
        ]
        text = f"{verdict.word}: {sentence}"
        d.note(Kind.VERDICT, text, verdict=verdict.word, before=d.live.verdict, evidence=evidence)
        if d.live.verdict == Verdict.POOL_DARK.word and not d.quiet:
            # The site may have lost its power: members often boot before their master does.
            d.change(grace_until=d.now + d.policy.boot_grace)
        d.change(verdict=verdict.word, verdict_since=d.now, verdict_sentence=sentence)
        if verdict is Verdict.VANISHED:
            _mark_silence(d)
    alert_verdict(d, verdict, sentence)
    alert_unsteady(d, verdict)


def _mark_silence(d: Transaction) -> None:
    if d.failover is None:
        since = d.now - silence_of(d, suspected(d))
        d.change(marks={"silent": since})


def _forget_restarts(d: Transaction, verdict: Verdict) -> None:
    """Restarts count against the limit until the pool has been healthy for ten minutes, and so do aborts in a row."""
    long_healthy = verdict is Verdict.HEALTHY and d.now - d.live.verdict_since >= RESTARTS_FORGOTTEN_MS
    if long_healthy and d.live.aborts:
        d.change(aborts=0)
    if d.record.restarts and long_healthy:
        d.note(
            Kind.VERDICT, "healthy for ten minutes since the last restart of its xapi", verdict=verdict.word, over=True
        )


def _forget(d: Transaction) -> None:
    if len(d.live.sent) > ORDERS_KEPT:
        newest = sorted(d.live.sent.values(), key=lambda s: s.at)[-ORDERS_KEPT // 2 :]
        d.change(sent={s.order_id: s for s in newest})
