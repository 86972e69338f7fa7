"""The engine's one function: what happened to a pool, in; what to remember and what to do, out.

``step`` is pure. The shell commits ``entries`` and ``alerts`` in one transaction, and only then performs ``effects``;
if the commit fails, it drops the whole outcome and the pool is as it was.

A step always does the same five things: take the event in (intake), see who is master (mastership), judge
(verdict), do what that permits (operator, recovery, failover, followups), and say what changed (report).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from poolwarden_collector.core import intake, upkeep
from poolwarden_collector.core.decision import backoff, database_age, questions, standstill
from poolwarden_collector.core.devices import device_health
from poolwarden_collector.core.evidence import assumptions, mastership, unlisted_hosts
from poolwarden_collector.core.evidence.assessment import assess, describe, note_service
from poolwarden_collector.core.evidence.evidence_lines import lines
from poolwarden_collector.core.evidence.signs import signs, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Verdict, judge
from poolwarden_collector.core.failover import power_off, steps
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved, Effect
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import AgentReported, Event, OperatorSaid, Tick
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.operator import commands, pauses
from poolwarden_collector.core.recovery import (
    adopt_master,
    adopted_holds,
    boot_gate,
    master_restart,
    master_vanished,
    power_watch,
    restart_in_place,
)
from poolwarden_collector.core.report import (
    assumption_alerts,
    disk_alerts,
    host_environment,
    latent_faults,
    memory_alerts,
    trouble_alerts,
)
from poolwarden_collector.core.report.incident_alerts import alert_unsteady, alert_verdict
from poolwarden_collector.core.state import alert_book, phases, sent_orders
from poolwarden_collector.core.state.decision_input import pack
from poolwarden_collector.core.state.live import Pool, PoolLive, Site
from poolwarden_collector.core.state.live_slices import ToldVerdict
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

RESTARTS_FORGOTTEN_MS: Ms = 600_000


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step gives back."""

    pool: Pool
    entries: tuple[Entry, ...] = ()
    alerts: tuple[AlertRaised | AlertResolved, ...] = ()
    effects: tuple[Effect, ...] = ()


def step(pool: Pool, event: Event, now: Ms, site: Site) -> StepResult:
    """One event at one instant (ms on the collector's monotonic clock)."""
    tx = Transaction(pool, now, site)
    _wake(tx)
    intake.take_in(tx, event)
    mastership.observe(tx)
    mastership.listed(tx)
    unlisted_hosts.watch_unlisted(tx)
    unlisted_hosts.watch_database(tx)
    adopted_holds.adopt(tx)
    note_service(tx)
    database_age.note_generation(tx)
    verdict = assess(tx)
    told = _told_of(tx, event)
    disk_alerts.watch_disks(tx, told)
    memory_alerts.watch_memory(tx, told)
    host_environment.watch_environment(tx, told)
    trouble_alerts.watch_troubles(tx, told)
    if told:
        trouble_alerts.watch_storage(tx)
    if tx.record.master in told:
        latent_faults.watch_disabled(tx)
    if told:
        latent_faults.watch_next_start(tx)
    _say_silence(tx)
    _say_verdict(tx, verdict)
    if told:
        assumptions.note(tx, verdict)
    assumption_alerts.watch(tx)
    if isinstance(event, OperatorSaid):
        commands.command(tx, event, verdict)
    commands.pending_commands(tx, verdict)
    if isinstance(event, OperatorSaid):
        verdict = judge(signs(tx))  # the command may have ended what held the pool
    _act(tx, verdict)
    boot_gate.answer(tx)
    mastership.settings(tx)
    alert_book.tell_settled(tx)
    sent_orders.keep_newest(tx)
    return StepResult(tx.pool, _with_input(tx, pool, event), tuple(tx.alerts), tuple(tx.effects))


def only_taken_in(pool: Pool, event: Event, now: Ms, site: Site) -> StepResult:
    """What a step does before it judges anything, for a pool at rest, whose step would find nothing else (rest.py)."""
    tx = Transaction(pool, now, site)
    intake.take_in(tx, event)
    database_age.note_generation(tx)
    return StepResult(tx.pool, tuple(tx.entries), tuple(tx.alerts), tuple(tx.effects))


def _told_of(pool: Snapshot, event: Event) -> Collection[HostId]:
    """Whose facts may be other ones: the host that reports; at a tick any, for what was heard may count or not."""
    if isinstance(event, AgentReported):
        return (event.host,) if event.host in pool.live.agents else ()
    return tuple(pool.live.agents) if isinstance(event, Tick) else ()


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


def _with_input(tx: Transaction, before: Pool, event: Event) -> tuple[Entry, ...]:
    """The step's entries; the first that decides something carries everything that the step was made from."""
    for number, entry in enumerate(tx.entries):
        if entry.kind in DECISIONS:
            said = [f"{each.kind.value}: {each.text}" for each in tx.entries]
            data = {**entry.data, "input": pack(before, event, tx.now, tx.site), "step": said}
            return (*tx.entries[:number], replace(entry, data=data), *tx.entries[number + 1 :])
    return tuple(tx.entries)


def _act(tx: Transaction, verdict: Verdict) -> None:
    written = len(tx.entries)
    power_off.recall(tx)
    if len(tx.entries) > written:
        verdict = judge(signs(tx))
    device_health.watch_devices(tx)
    power_watch.watch_power(tx, verdict)
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
        written = len(tx.entries)
        work(tx, verdict)
        if len(tx.entries) > written:
            # safety: what was just written may have made another host master; the old verdict was not about that one.
            verdict = judge(signs(tx))
    power_off.recall(tx)  # whatever has ended a failover in this step
    master_restart.note_restart_success(tx)
    upkeep.advance_followups(tx, verdict)
    questions.expire(tx)
    standstill.standing(tx)


def _wake(tx: Transaction) -> None:
    """First step of a run, and clocks that a restart has lost: a cool-down starts anew, never shorter."""
    if tx.record.cooldown and tx.live.backoff.cooldown_until is None:
        backoff.cool_down(tx, tx.site.started_at)
    if tx.record.cooldown and tx.live.backoff.cooldown_until is not None and tx.now >= tx.live.backoff.cooldown_until:
        tx.note(Kind.COOLDOWN_OVER, "the cool-down is over")
        backoff.end_cooldown(tx, "the cool-down after the failover is over")
    pauses.end_when_over(tx)
    if tx.live.phases.step_since == 0:
        alert_book.resume(tx)
        phases.step_begins(tx)


def _say_silence(tx: Transaction) -> None:
    """Journal an agent's silence when it becomes suspicious, and its end."""
    silent = frozenset(h for h in tx.record.hosts if h in tx.live.agents and tx.heard(h) is None and _overdue(tx, h))
    for host in sorted(silent - tx.live.silent, key=tx.name):
        quiet = silence_of(tx, host)
        text = f"the agent of {tx.name(host)} has been silent for {quiet / 1000:.1f} s"
        tx.note(Kind.AGENT_SILENT, text, host=host, silent_ms=quiet)
    for host in sorted(tx.live.silent - silent, key=tx.name):
        tx.note(Kind.AGENT_BACK, f"the agent of {tx.name(host)} is heard again", host=host)
    if silent != tx.live.silent:
        tx.change(PoolLive, silent=silent)


def _overdue(pool: Snapshot, host: HostId) -> bool:
    return silence_of(pool, host) >= pool.policy.suspect_after


def _say_verdict(tx: Transaction, verdict: Verdict) -> None:
    sentence = describe(tx, verdict)
    if verdict.word == tx.live.verdict.word:
        tx.change(ToldVerdict, sentence=sentence)
        _forget_restarts(tx, verdict)
    else:
        evidence = [
            {"subject": e.subject, "value": e.value, "age_ms": e.age_ms, "witness": e.witness, "text": e.text}
            for e in lines(tx)
        ]
        text = f"{verdict.word}: {sentence}"
        tx.note(Kind.VERDICT, text, verdict=verdict.word, before=tx.live.verdict.word, evidence=evidence)
        if tx.live.verdict.word == Verdict.POOL_DARK.word and tx.now >= tx.quiet_until:
            # The site may have lost its power, and etcd with it: members often boot before their master does.
            backoff.begin_grace(tx)
        tx.change(ToldVerdict, word=verdict.word, since=tx.now, sentence=sentence)
        if verdict is Verdict.VANISHED:
            _mark_silence(tx)
    alert_verdict(tx, verdict, sentence)
    alert_unsteady(tx, verdict)


def _mark_silence(tx: Transaction) -> None:
    if tx.failover is None:
        phases.silent_since(tx, tx.now - silence_of(tx, suspected(tx)))


def _forget_restarts(tx: Transaction, verdict: Verdict) -> None:
    """Restarts count against the limit until the pool has been healthy for ten minutes, and so do aborts in a row."""
    long_healthy = verdict is Verdict.HEALTHY and tx.now - tx.live.verdict.since >= RESTARTS_FORGOTTEN_MS
    if long_healthy and tx.live.backoff.aborts:
        backoff.end_aborts(tx)
    if tx.record.restarts and long_healthy:
        tx.note(
            Kind.VERDICT, "healthy for ten minutes since the last restart of its xapi", verdict=verdict.word, over=True
        )
