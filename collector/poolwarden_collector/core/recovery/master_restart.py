"""Restarting the xapi of a master: the gentlest remedy, and not a harmless one.

A master's xapi comes back with its own file, which may lag by minutes, and terminates every running domain that this
file does not place there (xapi: ocaml/xapi/xapi_xenops.ml). So it is restarted only where that file is the newest and
would kill nobody, and where / has room; at most ``policy.xapi_restarts`` times; never with HA armed, where a restart
can make the host fence itself. An operator may accept named VMs to be killed, or tasks (an export, a migration) to be
cut off; nothing else of this can be accepted. Where a member's newer copy is all that stands against it, it is
restarted in place with that copy (restart_in_place.py), and only where that cannot be done another member is promoted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwarden.assumptions import FORECAST, HANDOVER, RESTART, TOOLSTACK_FENCE
from poolwarden_collector.core.decision import database_age, questions
from poolwarden_collector.core.decision.database_contents import (
    killing,
    placements_of,
    soundness_awaited,
    unreadable,
)
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.kill_forecast import Kill, kills_on
from poolwarden_collector.core.decision.permission import firm_refusal, hold_refusal
from poolwarden_collector.core.decision.restart_files import Plan, plan_of
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.signs import loops_on, restless, suspected
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.followups.hold_release import own_file_refusal
from poolwarden_collector.core.model.asks import Ask, Tell
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import DatabaseFacts, GateState, Liveness
from poolwarden_collector.core.model.order_results import Outcome, PlacementView
from poolwarden_collector.core.model.orders import Preconditions, RestartXapi
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Role, Tri
from poolwarden_collector.core.recovery import other_file, restart_in_place
from poolwarden_collector.core.recovery.master_vanished import begin
from poolwarden_collector.core.state import phases
from poolwarden_collector.core.state.failover_record import Path
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.core.state.restart_record import COPY, OWN
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a master's xapi must not be restarted, and whether a toolstack fence and a successor help instead."""

    why: Reason
    fence_helps: bool = False
    kills: tuple[Kill, ...] = ()
    busy: tuple[str, ...] = ()
    plan: Plan | None = None  # a restart in place with this copy instead
    failed: tuple[str, ...] = ()  # assumptions on which it rests and that failed: "HOST/ID"

    @property
    def acceptable(self) -> bool:
        """Can an operator's word overrule it?"""
        return bool(self.kills or self.busy or self.plan or self.failed)


def restart_refusal(pool: Snapshot, host: HostId, placements: PlacementView | None) -> Reason | None:
    """Why the xapi of this *master* must not be restarted now; None if that is safe."""
    obstacle = _obstacle(pool, host, placements)
    return obstacle.why if obstacle is not None else None


def _obstacle(pool: Snapshot, host: HostId, placements: PlacementView | None) -> Obstacle | None:
    agent = pool.heard(host)
    if agent is None:
        return Obstacle(Reason(Cause.NOT_HEARD, "its agent is not heard"))
    if agent.facts.database.ha_armed is not Tri.NO:
        armed = "xapi's HA is armed or its flag cannot be read: a restart can make the host fence itself"
        return Obstacle(Reason(Cause.HA, armed))
    if agent.facts.hold is not None:
        # Not owed its release (that was asked before): nothing but a successor, or a person, ends it.
        held = f"its toolstack is held since term {agent.facts.hold.term}"
        return Obstacle(Reason(Cause.HELD, held), fence_helps=True)
    gate = agent.facts.boot_gate
    if gate is not None and gate.state in (GateState.ASKING, GateState.SHUT):
        # The agent tells for what its gate waits in words alone: whom a person has to confirm stands only there.
        shut = f"its boot gate has not opened: {gate.reason}"
        return Obstacle(Reason(Cause.GATE, shut, (gate.state.value, gate.reason)))
    root = next((disk for disk in agent.facts.disks if disk.mount == "/"), None)
    if root is None or root.free_bytes < pool.policy.min_root_free_bytes:
        full = "its / has no room: its database on disk may be old"
        return Obstacle(Reason(Cause.NO_ROOM, full), fence_helps=True)
    # safety: a member's newer copy means that this host's file would roll the pool back and kill what runs since.
    for other, state in pool.live.agents.items():
        if other != host and state.facts.database.generation > agent.facts.database.generation:
            newer = f"{pool.name(other)} has a newer database ({state.facts.database.generation})"
            return Obstacle(Reason(Cause.NEWER_COPY, newer, (other,)), fence_helps=True)
    if placements is None:
        return Obstacle(Reason(Cause.WAITING, "its database file has not been read yet"))
    if not placements.readable:
        return Obstacle(unreadable("its database file", placements, host), fence_helps=True)
    if soundness_awaited(pool, host):
        return Obstacle(Reason(Cause.WAITING, "whether xapi can load its database file is being told"))
    if (unsound := unsound_reason(pool, host)) is not None:
        return Obstacle(unsound.within(f"its database file would keep its xapi down: {unsound}"), fence_helps=True)
    kills = kills_on(pool, host, placements)
    if isinstance(kills, Reason):
        return Obstacle(kills)
    if kills:
        names = ", ".join(kill.name for kill in kills)
        why = killing(kills, f"its database file would kill {len(kills)} running VMs: {names}")
        return Obstacle(why, kills=kills, busy=_busy(agent))
    busy = _busy(agent)
    if not busy:
        unsure = assumptions.refusal(pool, host, RESTART, FORECAST)
        return Obstacle(unsure, failed=unsure.subjects) if unsure is not None else None
    cut = f"a restart would cut off what was last seen running: {', '.join(busy)}"
    return Obstacle(Reason(Cause.BUSY, cut, tuple(sorted(busy))), busy=busy)


def _in_place_instead(tx: Transaction, host: HostId, obstacle: Obstacle | None, own: PlacementView) -> Obstacle | None:
    """Where a newer copy is what stands against a restart: the restart in place with that copy, or why not that either;
    WAITING while a copy is being read.
    """
    agent = tx.heard(host)
    if obstacle is None or obstacle.why.code is not Cause.NEWER_COPY or agent is None:
        return obstacle
    planned = plan_of(tx, host, own)
    if planned is None:
        return Obstacle(Reason(Cause.WAITING, "a member's newer copy of the database is being read"))
    if isinstance(planned, Reason):
        both = f"{obstacle.why}, and it is not restarted in place with it: {planned}"
        return replace(obstacle, why=obstacle.why.within(both))
    busy, newer = _busy(agent), f"the copy of {tx.name(planned.source)} is newer than its own file"
    if planned.kills:
        names = ", ".join(f"{kill.name} ({kill.why})" for kill in planned.kills)
        text = f"{newer}, and its file or that copy would kill {len(planned.kills)} running VMs: {names}"
        return Obstacle(killing(planned.kills, text), kills=planned.kills, busy=busy, plan=planned)
    why = Reason(Cause.NEWER_COPY, f"{newer}, with which it would be restarted in place", (planned.source,))
    if busy:
        cut = f"{newer}, and a restart in place would cut off what was last seen running: {', '.join(busy)}"
        why = Reason(Cause.BUSY, cut, tuple(sorted(busy)))
    here = assumptions.refusal(tx, host, RESTART, FORECAST, TOOLSTACK_FENCE, HANDOVER)
    unsure = assumptions.joined((here, assumptions.refusal(tx, planned.source, HANDOVER)))
    if unsure is None:
        return Obstacle(why, busy=busy, plan=planned)
    return Obstacle(why.within(f"{why}; {unsure}"), busy=busy, plan=planned, failed=unsure.subjects)


def _busy(agent: AgentState) -> tuple[str, ...]:
    """Tasks that a restart would cut off, as the master saw them last; a process that is gone has none."""
    seen = agent.facts.pool_view
    return (
        seen.busy_tasks[:5] if seen is not None and seen.master == agent.hello.host and agent.facts.xapi.process else ()
    )


def _just_let_start(pool: Snapshot, host: HostId) -> bool:
    """Has its boot gate only just opened? Until then its xapi was held back, and now it has its time to start."""
    agent = pool.heard(host)
    gate = agent.facts.boot_gate if agent is not None else None
    if gate is None or gate.state is not GateState.OPEN or gate.since is None:
        return False
    return pool.now - gate.since < pool.policy.xapi_down_after


def restart_master(tx: Transaction, verdict: Verdict) -> None:
    """MasterXapiHung / MasterXapiDown: restart it there, at most ``xapi_restarts`` times; then, or where that is not
    safe and a successor helps, hold its toolstack and promote another member.
    """
    if verdict not in (Verdict.XAPI_HUNG, Verdict.XAPI_DOWN) or tx.failover is not None or tx.quiet:
        return
    if tx.record.in_place is not None:
        return
    host = suspected(tx)
    refusal = firm_refusal(tx)
    if refusal:
        _tell(tx, host, verdict, refusal)
        return
    if _restart_running(tx) or _being_released(tx, host) or _just_let_start(tx, host):
        return
    obstacle: Obstacle | None = None
    if len(tx.record.restarts) >= tx.policy.xapi_restarts:
        in_vain = f"it was restarted {len(tx.record.restarts)} times without lasting help"
        obstacle = Obstacle(Reason(Cause.IN_VAIN, in_vain), fence_helps=True)
    elif restless(tx, host):
        # systemd has done that many times already; a database that xapi cannot load is the usual reason.
        minutes = tx.policy.xapi_starting_limit / 60_000
        if other_file.lies_on_its_own(tx, host) and tx.policy.mode == "auto":
            lies = tx.heard(host)
            own = Plan(host, lies.facts.database.generation if lies is not None else 0, ())
            restart_in_place.begin(tx, host, own, f"{verdict.word}: the copy that was placed keeps it down", other=OWN)
            return
        see = other_file.FULL if other_file.no_room(tx, host) else "see its database"
        again = f"it has started again and again for {minutes:.0f} min without coming to serve; {see}"
        obstacle = Obstacle(Reason(Cause.IN_VAIN, again), fence_helps=True)
    elif loops_on(tx, host):
        # Each process has come to serve, so its database loads: that goes to its successor as ever.
        minutes = tx.policy.xapi_starting_limit / 60_000
        loop = f"its xapi has ended and begun again and again for {minutes:.0f} min: another restart would be one more"
        obstacle = Obstacle(Reason(Cause.IN_VAIN, loop), fence_helps=True)
    else:
        placements = placements_of(tx, host)
        if placements is None:
            return
        obstacle = _in_place_instead(tx, host, _obstacle(tx, host, placements), placements)
    if obstacle is not None and obstacle.why.code is Cause.WAITING:
        return
    # safety: what kills VMs, cuts tasks off or rests on what has failed there is a person's to order.
    by_itself = obstacle is not None and not (obstacle.kills or obstacle.busy or obstacle.failed)
    planned = obstacle.plan if obstacle is not None and by_itself else None
    if planned is not None and tx.policy.mode == "auto":
        restart_in_place.begin(tx, host, planned, f"{verdict.word}: its file and the copy kill nobody, room on /")
    elif obstacle is None and tx.policy.mode == "auto":
        # A cool-down does not matter: a restart is no failover, it moves no role and promotes nobody.
        order_restart(tx, host, f"{verdict.word}: its file is the newest, forecast empty, room on /", remedy=True)
    elif obstacle is None or obstacle.acceptable:
        _ask(tx, host, verdict, obstacle)
    elif obstacle.fence_helps:
        _succeed(tx, host, verdict, obstacle.why)
    else:
        _tell(tx, host, verdict, obstacle.why)


def _succeed(tx: Transaction, host: HostId, verdict: Verdict, why: Reason) -> None:
    """A restart does not help: hold its toolstack and promote another, its VMs left running. Or say why not."""
    refusal = hold_refusal(tx, verdict)
    planned = other_file.plan_of(tx, host) if refusal and _does_not_stay(tx, host) else refusal
    if planned is None and refusal:
        return  # a copy is being read
    if refusal and isinstance(planned, Plan):
        _ask_other(tx, host, verdict, planned, refusal)
    elif refusal:
        both = f"{why}; and no other host is promoted: {refusal}"
        _tell(tx, host, verdict, Reason(refusal.code, both, (why.key, *refusal.subjects)))
    else:
        begin(tx, f"{verdict.word}, and {why}", Path.TOOLSTACK)


def _does_not_stay(pool: Snapshot, host: HostId) -> bool:
    """Does each of its xapis end, before it serves or soon after, for as long as one may take to start?"""
    return restless(pool, host) or loops_on(pool, host)


def _ask_other(
    tx: Transaction, host: HostId, verdict: Verdict, planned: Plan, refusal: Reason | None, at_once: bool = False
) -> None:
    """Nobody may succeed it, and it does not come up on its database: a member's older copy, at a person's word."""
    name, source, agent = tx.name(host), tx.name(planned.source), tx.heard(host)
    database = agent.facts.database if agent is not None else DatabaseFacts()
    what = (
        f"{name} is {verdict.word}: its xapi does not stay up on its database, /{database.loaded_from} (generation "
        f"{database.generation}); it could be started with the copy of {source} (generation {planned.generation})"
    )
    lost = [f"VM {kill.name} on {name} would be killed: {kill.why}" for kill in planned.kills]
    lost += ["no running VM there would be killed"] if not planned.kills else []
    lost.append(f"the copy of {source}: {database_age.age(tx, planned.source).text}")
    lost += [f"no other host is promoted: {refusal}"] if refusal is not None else []
    vms, needs = tuple(kill.vm for kill in planned.kills), Needs(kill=len(planned.kills))
    questions.ask(
        tx,
        Ask.OTHER_COPY,
        host,
        what,
        tuple(lost),
        needs,
        vms,
        others=(planned.source,),
        at_once=at_once,
        generation=planned.generation,
    )


def _approve_other(
    tx: Transaction, host: HostId, question: Question, verdict: Verdict, kill: int, actor: str
) -> str | Refused | None:
    """The yes to a member's older copy: it is held against what is at stake at this instant."""
    stays = Reason(Cause.VERDICT, "its xapi stays up again")
    planned = other_file.plan_of(tx, host) if _does_not_stay(tx, host) else stays
    if planned is None:
        return None
    if isinstance(planned, Reason):
        return Refused("unsafe", f"{tx.name(host)} is not started with another copy: {planned}")
    # safety: the yes is to this copy, by host and generation, and to the VMs that its question named.
    _ask_other(tx, host, verdict, planned, hold_refusal(tx, verdict), at_once=True)
    if (anew := questions.asked_no_more(tx, question)) is not None:
        return anew
    if len(planned.kills) > kill:
        step = questions.approve_command(question.id, Needs(kill=len(planned.kills)))
        return Refused("more-at-stake", f"{len(planned.kills)} running VMs would be killed; accepted: {kill}", step)
    vms = tuple(each.vm for each in planned.kills)
    restart_in_place.begin(tx, host, planned, f"approved by {actor}, {len(vms)} VMs accepted", vms, actor, COPY)
    return f"the xapi of {tx.name(host)} is being restarted in place; poolwarden explain POOL tells how far it is"


def _tell(tx: Transaction, host: HostId, verdict: Verdict, why: Reason) -> None:
    text = f"{tx.name(host)} is {verdict.word} and its xapi is not restarted: {why}"
    pool = tx.record.display_name
    heading = f"{tx.name(host)} is {verdict.word}, and its xapi is not restarted"
    questions.report_refusal(tx, Tell.XAPI, why, f"{text}. poolwarden explain {pool} shows more.", heading, "")


def _ask(tx: Transaction, host: HostId, verdict: Verdict, obstacle: Obstacle | None, at_once: bool = False) -> None:
    """A restart that only a person may order: of a pool in mode ask, or one that costs VMs or tasks."""
    why = obstacle.why.text if obstacle is not None else "its file is the newest and would kill nobody"
    held = "; the pool's mode is ask" if tx.policy.mode == "ask" else ""
    kills = obstacle.kills if obstacle is not None else ()
    busy = obstacle.busy if obstacle is not None else ()
    lost = [f"VM {kill.name} on {tx.name(kill.host)} would be killed: {kill.why}" for kill in kills]
    lost += [f"{task} would be cut off" for task in busy]
    vms = tuple(kill.vm for kill in kills)
    what = f"{tx.name(host)} is {verdict.word} and its xapi is not restarted: {why}{held}"
    path = restart_in_place.PATH if obstacle is not None and obstacle.plan is not None else ""
    needs, failed = Needs(kill=len(kills)), obstacle.failed if obstacle is not None else ()
    questions.ask(
        tx, Ask.RESTART, host, what, tuple(lost), needs, vms, path, others=busy, at_once=at_once, failed=failed
    )


def approve(tx: Transaction, question: Question, verdict: Verdict, kill: int, actor: str) -> str | Refused | None:
    """Restart the master's xapi at an operator's word, as far as it reaches; None: its file is being read first."""
    host, firm = question.host, firm_refusal(tx)
    refusal = firm.text if firm is not None else ""
    if verdict not in (Verdict.XAPI_HUNG, Verdict.XAPI_DOWN):
        refusal = refusal or f"the pool is {verdict.word} now"
    if not refusal and tx.record.in_place is not None:
        return restart_in_place.approve(tx, tx.record.in_place, question, kill, actor)
    if refusal or _restart_running(tx):
        return Refused("held", refusal or f"the xapi of {tx.name(host)} is being restarted already")
    if question.kind is Ask.OTHER_COPY:
        return _approve_other(tx, host, question, verdict, kill, actor)
    placements = placements_of(tx, host)
    if placements is None:
        return None
    obstacle = _in_place_instead(tx, host, _obstacle(tx, host, placements), placements)
    if obstacle is not None and obstacle.why.code is Cause.WAITING:
        return None
    if obstacle is not None and not obstacle.acceptable:
        return Refused("unsafe", f"restarting the xapi of {tx.name(host)} is not safe: {obstacle.why}")
    kills = obstacle.kills if obstacle is not None else ()
    if obstacle is not None:
        # safety: asked as it stands now; the yes is to the VMs and tasks that its question named, and to no others.
        _ask(tx, host, verdict, obstacle, at_once=True)
        if (anew := questions.asked_no_more(tx, question)) is not None:
            return anew
    if len(kills) > kill:
        step = questions.approve_command(question.id, Needs(kill=len(kills)))
        return Refused("more-at-stake", f"{obstacle.why if obstacle else ''}; accepted: {kill}", step)
    if obstacle is not None and obstacle.plan is not None:
        vms = tuple(each.vm for each in kills)
        restart_in_place.begin(tx, host, obstacle.plan, f"approved by {actor}, {len(kills)} VMs accepted", vms, actor)
        return f"the xapi of {tx.name(host)} is being restarted in place; poolwarden explain POOL tells how far it is"
    order_restart(tx, host, f"approved by {actor}, {len(kills)} VMs accepted", remedy=True, actor=actor)
    return f"the xapi of {tx.name(host)} is being restarted; poolwarden host show {tx.name(host)} tells when it answers"


def order_restart(tx: Transaction, host: HostId, why: str, remedy: bool, actor: str = "poolwarden") -> str:
    """Journal and send a restart of this host's xapi; the order's id."""
    agent = tx.heard(host)
    assert agent is not None
    process = agent.facts.xapi.process
    order_id = tx.fresh_id("restart")
    phases.forget(tx, "restarted")
    data = {"host": host, "order": order_id, "remedy": remedy, "pid": process.pid, "start_ticks": process.start_ticks}
    tx.note(Kind.RESTART_INTENT, f"restarting the xapi of {tx.name(host)} ({why})", actor, **data)
    master = agent.facts.role.pool_conf is Role.MASTER
    tx.send(order_id, host, RestartXapi(as_master_ok=master), 15_000, Preconditions(ha_off=True, process=process))
    return order_id


def _restart_running(pool: Snapshot) -> bool:
    """Is a restart of this incident under way? It is given its budget before another is thought of."""
    if not pool.record.restarts:
        return False
    sent = pool.sent(pool.record.restarts[-1][1])
    if sent is None:
        return False
    ended = sent.result is not None and sent.result.outcome in (Outcome.REFUSED, Outcome.FAILED)
    return not ended and pool.now - sent.at < pool.policy.xapi_restart_budget


def _being_released(tx: Transaction, host: HostId) -> bool:
    """What we hold ourselves is started by its release, which says why it is not (hold_release.py)."""
    if any((item.host, item.what) == (host, OwedWork.RELEASE) for item in tx.record.owed):
        # One that has no file to start with is never released as master: only a successor ends its hold.
        why = own_file_refusal(tx, host)
        return why is None or why.code is not Cause.UNREADABLE
    told = [sent.at for sent in tx.live.sent.values() if sent.host == host and sent.kind == "toolstack_release"]
    return bool(told) and tx.now - max(told) < tx.policy.xapi_restart_budget


def note_restart_success(tx: Transaction) -> None:
    """A restarted master whose new process answers: say so, once."""
    if not tx.record.restarts or tx.live.phases.marks.get("restarted") is not None or tx.record.in_place is not None:
        return
    host, order_id = tx.record.restarts[-1]
    agent, sent = tx.heard(host), tx.sent(order_id)
    if agent is None or sent is None or sent.result is None or agent.facts.xapi.liveness is not Liveness.ANSWERS:
        return
    if tx.live.mastership.since > sent.at:
        return  # the master has changed since: it is no success of that restart
    if agent.facts.role.serves_as_master and sent.result.outcome is Outcome.DONE:
        tx.mark("restarted")
        took = f"{(tx.now - sent.at) / 1000:.1f} s"
        text = f"the xapi of {tx.name(host)} answers again {took} after its restart was ordered; nobody was promoted"
        tx.note(Kind.RESTART_RESULT, text, host=host, order=order_id)
