"""Restarting the xapi of a master: the gentlest remedy, and not a harmless one.

A master's xapi comes back with its own file, which may lag by minutes, and terminates every running domain that this
file does not place there (xapi: ocaml/xapi/xapi_xenops.ml). So it is restarted only where that file is the newest and
would kill nobody, and where / has room; at most ``policy.xapi_restarts`` times; never with HA armed, where a restart
can make the host fence itself.
"""

from __future__ import annotations

from poolwarden_collector.core.candidate import kills_on
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.evidence import suspected
from poolwarden_collector.core.facts import HostId, Liveness, Outcome, PlacementView, Role, Tri
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.orders import Preconditions, RestartXapi
from poolwarden_collector.core.permission import standing_refusal
from poolwarden_collector.core.placements import placements_of
from poolwarden_collector.core.remedies import question
from poolwarden_collector.core.verdict import Verdict


def restart_refusal(d: Draft, host: HostId, placements: PlacementView | None) -> str:
    """Why the xapi of this *master* must not be restarted now; empty if that is safe."""
    agent = d.heard(host)
    if agent is None:
        return "its agent is not heard"
    if agent.facts.database.ha_armed is not Tri.NO:
        return "xapi's HA is armed or its flag cannot be read: a restart can make the host fence itself"
    root = next((disk for disk in agent.facts.disks if disk.mount == "/"), None)
    if root is None or root.free_bytes < d.policy.min_root_free_bytes:
        return "its / has no room: its database on disk may be old"
    # safety: a member's newer copy means that this host's file would roll the pool back and kill what runs since.
    for other, state in d.live.agents.items():
        if other != host and state.facts.database.generation > agent.facts.database.generation:
            return f"{d.name(other)} has a newer database ({state.facts.database.generation})"
    if placements is None:
        return "its database file has not been read yet"
    if not placements.readable:
        return f"its database file cannot be read: {placements.text}"
    kills = kills_on(d, host, placements)
    if isinstance(kills, str):
        return kills
    if kills:
        return f"its database file would kill {len(kills)} running VMs: {', '.join(kill.name for kill in kills)}"
    return ""


def restart_master(d: Draft, verdict: Verdict) -> None:
    """MasterXapiHung / MasterXapiDown: restart it there, at most ``xapi_restarts`` times, if that is safe."""
    if verdict not in (Verdict.XAPI_HUNG, Verdict.XAPI_DOWN) or d.failover is not None or d.quiet:
        return
    host = suspected(d)
    refusal = standing_refusal(d)
    if refusal.startswith("cool-down"):
        refusal = ""  # a restart is no failover: it moves no role and promotes nobody
    if not refusal and len(d.record.restarts) >= d.policy.xapi_restarts:
        refusal = f"it was restarted {len(d.record.restarts)} times without lasting help"
    if not refusal:
        if _restart_running(d):
            return
        placements = placements_of(d, host)
        if placements is None:
            return
        refusal = restart_refusal(d, host, placements)
    if refusal:
        _ask_restart(d, host, verdict, refusal)
    else:
        order_restart(d, host, f"{verdict.word}: its file is the newest, forecast empty, room on /", remedy=True)


def _ask_restart(d: Draft, host: HostId, verdict: Verdict, why: str) -> None:
    text = f"{d.name(host)} is {verdict.word} and its xapi is not restarted: {why}"
    title = f"{d.record.name or d.record.pool}: {d.name(host)} is {verdict.word}, and its xapi is not restarted"
    question(d, "restart", why, f"{text}. poolwarden explain shows more.", title)


def order_restart(d: Draft, host: HostId, why: str, remedy: bool, actor: str = "poolwarden") -> str:
    """Journal and send a restart of this host's xapi; the order's id."""
    agent = d.heard(host)
    assert agent is not None
    process = agent.facts.xapi.process
    order_id = d.fresh_id("restart")
    d.change(marks={phase: at for phase, at in d.live.marks.items() if phase != "restarted"})
    data = {"host": host, "order": order_id, "remedy": remedy, "pid": process.pid, "start_ticks": process.start_ticks}
    d.note(Kind.RESTART_INTENT, f"restarting the xapi of {d.name(host)} ({why})", actor, **data)
    master = agent.facts.role.pool_conf is Role.MASTER
    d.send(order_id, host, RestartXapi(as_master_ok=master), 15_000, Preconditions(ha_off=True, process=process))
    return order_id


def _restart_running(d: Draft) -> bool:
    """Is a restart of this incident under way? It is given its budget before another is thought of."""
    if not d.record.restarts:
        return False
    sent = d.sent(d.record.restarts[-1][1])
    if sent is None:
        return False
    ended = sent.result is not None and sent.result.outcome in (Outcome.REFUSED, Outcome.FAILED)
    return not ended and d.now - sent.at < d.policy.xapi_restart_budget


def note_restart_success(d: Draft) -> None:
    """A restarted master whose new process answers: say so, once."""
    if not d.record.restarts or d.live.marks.get("restarted") is not None:
        return
    host, order_id = d.record.restarts[-1]
    agent, sent = d.heard(host), d.sent(order_id)
    if agent is None or sent is None or sent.result is None or agent.facts.xapi.liveness is not Liveness.ANSWERS:
        return
    if agent.facts.role.serves_as_master and sent.result.outcome is Outcome.DONE:
        d.change(marks={**d.live.marks, "restarted": d.now})
        took = f"{(d.now - sent.at) / 1000:.1f} s"
        text = f"the xapi of {d.name(host)} answers again {took} after its restart was ordered; nobody was promoted"
        d.note(Kind.RESTART_RESULT, text, host=host, order=order_id)
