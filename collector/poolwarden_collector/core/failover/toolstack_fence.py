"""The toolstack path: the old master's dom0 lives and its xapi does not help. Hold it, take its database, let it go.

Theory
------
The old master's own agent writes a durable hold, stops xapi and everything that acts as storage master, and keeps them
stopped; its VMs run on. Its database is then complete on its disk (a clean stop flushes it first, xapi:
ocaml/xapi/xapi.ml), usually newer than any copy, and is handed to the candidate, which loads it once at its next start
as master (restore_db.db). So nothing is lost and nobody is killed.

Rules
-----
* Before the hold, the master's own file is read: giving up means that its xapi starts again with that very file.
* A database that its own xapi could not load, or that cannot be read, is not handed over: the candidate's copy is
  what there is, and its age is asked about as ever.
* The agent's word that it has stopped is no proof. Somebody else must find the port closed (proof.py).
* A hold that is not verified within ``policy.toolstack_budget``, or that has proven nothing by then while nobody is
  asked, is undone, at a new term.
* Whatever was held or placed is owed its undoing, over restarts and days.
"""

from __future__ import annotations

from poolwarden_collector.core.decision.database_contents import placements_of
from poolwarden_collector.core.decision.kill_forecast import kills_on
from poolwarden_collector.core.decision.standstill import block, unblock
from poolwarden_collector.core.evidence.signs import answered, fresh_probe
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.failover.last_look import begin_look, witnessed_now
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import Preconditions, ToolstackFence
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
LOOK_AGAIN_MS: Ms = 3_000
HANDOVER_MARGIN_MS: Ms = 10_000  # the transfer ends itself before its end stops being awaited


def fence(d: Transaction, failover: Failover) -> bool:
    """Hold the old master's toolstack and take its database. True once both are over and somebody may prove it."""
    if not failover.hold_order:
        _begin(d, failover)
        return False
    if not _held(d, failover):
        _await_hold(d, failover)
        return False
    if _contradicted(d, failover):
        return False
    return _handed_over(d, failover)


def _begin(d: Transaction, failover: Failover) -> None:
    """The last checks before anything is stopped, then the intent and the order."""
    host, name = failover.old_master, d.name(failover.old_master)
    agent = d.heard(host)
    if agent is None:
        return
    if "toolstack_fence" not in agent.hello.capabilities:
        why = f"the agent {agent.hello.agent_version} of {name} cannot hold a toolstack"
        block(
            d,
            failover,
            Blocker.CANNOT_HOLD,
            (host,),
            why,
        )
        return
    own = placements_of(d, host)
    if own is None:
        return
    if own.readable:
        kills = kills_on(d, host, own)
        if isinstance(kills, Reason) or kills:
            what = str(kills) if isinstance(kills, Reason) else ", ".join(f"{kill.name} ({kill.why})" for kill in kills)
            subjects = (kills.key,) if isinstance(kills, Reason) else tuple(sorted(kill.vm for kill in kills))
            why = f"if the hold had to be undone, {name}'s own database would kill: {what}"
            block(d, failover, Blocker.NO_WAY_BACK, (host, *subjects), why)
            return
    if not witnessed_now(d, failover):
        return
    unblock(d)
    order_id = f"{failover.orders}/toolstack/{host}"
    text = f"holding the toolstack of {name} at term {failover.term}: xapi is stopped and stays stopped, its VMs run on"
    d.note(Kind.TOOLSTACK_INTENT, text, host=host, order=order_id)
    d.mark("fence-intent")
    _order(d, d.failover or failover)


def _order(d: Transaction, failover: Failover) -> None:
    # safety: the verdict was recomputed in this pass, on a look at most 5 s old; the agent's hold is durable first.
    fence_order = ToolstackFence(failover.candidate)
    d.send(
        failover.hold_order, failover.old_master, fence_order, ORDER_VALID_MS, Preconditions(ha_off=True), failover.term
    )


def _held(d: Snapshot, failover: Failover) -> bool:
    agent = d.heard(failover.old_master)
    hold = agent.facts.hold if agent is not None else None
    return hold is not None and hold.term == failover.term and hold.stopped and hold.ports_closed


def _await_hold(d: Transaction, failover: Failover) -> None:
    """Not stopped yet: order again where it was not answered, give up when the budget is over."""
    name, sent = d.name(failover.old_master), d.sent(failover.hold_order)
    result = sent.result if sent is not None else None
    began = d.live.marks.get("fence-intent", d.live.step_since)
    if d.now - began >= d.policy.toolstack_budget:
        said = (result.text or result.reason) if result is not None else "no answer"
        abort(
            d, f"the toolstack of {name} was not seen stopped within {d.policy.toolstack_budget / 1000:.0f} s ({said})"
        )
        return
    agent = d.agent(failover.old_master)
    if agent is None or not agent.connected:
        return
    again = result is not None and result.outcome is not Outcome.DONE
    since = d.now - ((sent.answered_at if again else sent.at) or sent.at) if sent is not None else None
    wait = RESEND_AFTER_MS if again else ORDER_VALID_MS + RESEND_AFTER_MS
    due = sent is None or since is None or sent.stream != agent.stream or since >= wait
    if due and d.heard(failover.old_master) is not None:
        _order(d, failover)


def _contradicted(d: Transaction, failover: Failover) -> bool:
    """Does anybody still get an answer from the xapi that its agent calls stopped? Then that word is worth nothing."""
    host, name = failover.old_master, d.name(failover.old_master)
    look = d.live.look
    if look is None or d.now - look.at >= LOOK_AGAIN_MS:
        begin_look(d, failover)
    alive = look.alive if look is not None and look.at >= d.live.marks.get("fence-intent", 0) else ""
    for other in sorted(d.record.hosts, key=d.name):
        probe = fresh_probe(d, other, host)
        held_at = d.live.marks.get("held")
        if probe is not None and answered(probe) and held_at is not None and probe.probed_at > held_at:
            alive = alive or f"{d.name(other)}'s probe is answered by the xapi of {name}"
    d.mark("held")
    if alive:
        why = f"{name}'s agent says that its xapi is stopped, but {alive}"
        step = f"Nothing is promoted. Look at {name}; poolwarden approve {failover.id} --shoot powers it off."
        block(d, failover, Blocker.EVIDENCE_CONFLICT, (host,), why, step)
        began = d.live.marks.get("fence-intent", d.live.step_since)
        if d.now - began >= d.policy.toolstack_budget:
            abort(d, why)
        return True
    if failover.blocked is Blocker.EVIDENCE_CONFLICT:
        unblock(d)
    return False


# ------------------------------------------------------------------------------------------------ handover


def handover_due(d: Snapshot, failover: Failover, candidate: HostId) -> bool:
    """Is this candidate still to be given the held master's database, so that its own copy will not be loaded?"""
    old, new = d.heard(failover.old_master), d.heard(candidate)
    if old is None or new is None or failover.restless or _over(failover, candidate):
        return False
    return "place_database" in new.hello.capabilities and "read_database" in old.hello.capabilities


def _over(failover: Failover, candidate: HostId) -> bool:
    return failover.handed_over is not None and failover.handed_over.get("target") == candidate


def _handed_over(d: Transaction, failover: Failover) -> bool:
    """The candidate has whatever the old master could give; True when that is over, with or without a database."""
    if _over(failover, failover.candidate):
        return True
    mine = order_ids.parse(failover.transfer).made_by(d.site.epoch)
    if failover.transfer and mine and failover.handed_over is None:
        began = d.live.marks.get("handover", d.now)
        if d.now - began < d.policy.toolstack_budget:
            return False
        _result(d, failover, False, 0, f"nothing arrived within {d.policy.toolstack_budget / 1000:.0f} s")
        return True
    old, new = d.heard(failover.old_master), d.heard(failover.candidate)
    if old is None or new is None:
        return False
    have, could = new.facts.database.generation, old.facts.database.generation
    if failover.restless:
        # safety: the file on which its own xapi could not start would keep the candidate's down as well.
        _result(d, failover, False, could, f"the xapi of {d.name(failover.old_master)} did not come up on its database")
        return True
    if could <= have:
        text = f"{d.name(failover.candidate)} has as new a database ({have}) as {d.name(failover.old_master)} ({could})"
        _result(d, failover, False, could, text)
        return True
    if "place_database" not in new.hello.capabilities or "read_database" not in old.hello.capabilities:
        _result(d, failover, False, could, "an agent cannot hand a database over")
        return True
    own = placements_of(d, failover.old_master)
    if own is None:
        return False
    if not own.readable:
        # safety: a file that is cut short, empty or another pool's is no newer copy of anything, whatever its number.
        _result(d, failover, False, could, f"the database of {d.name(failover.old_master)} cannot be used: {own.text}")
        return True
    _hand_over(d, failover, could, have)
    return False


def _hand_over(d: Transaction, failover: Failover, could: int, have: int) -> None:
    transfer = d.fresh_id(f"handover/{failover.term}")
    source, target = failover.old_master, failover.candidate
    text = f"handing the database of {d.name(source)} (generation {could}) to {d.name(target)} (has {have})"
    d.note(Kind.HANDOVER_INTENT, text, transfer=transfer, source=source, target=target, above=have)
    d.change(marks={**d.live.marks, "handover": d.now})
    boots = (_boot(d, source), _boot(d, target))
    limit = d.policy.toolstack_budget - HANDOVER_MARGIN_MS
    d.do(HandOver(transfer, source, target, *boots, failover.term, have, d.policy.handover_max_bytes, limit))


def _boot(d: Snapshot, host: HostId) -> str:
    agent = d.agent(host)
    return agent.hello.boot_id if agent is not None else ""


def _result(d: Transaction, failover: Failover, placed: bool, generation: int, text: str) -> None:
    data = {"target": failover.candidate, "placed": placed, "generation": generation, "transfer": failover.transfer}
    word = "handed over" if placed else "no database is handed over"
    d.note(Kind.HANDOVER_RESULT, f"{word}: {text}", **data)


def transferred(
    d: Transaction, transfer: str, target: HostId, placed: bool, generation: int, size: int, text: str
) -> None:
    """A handover ended (event DatabaseTransferred); one that is not the open failover's says nothing."""
    failover = d.failover
    if failover is None or failover.transfer != transfer or failover.handed_over is not None:
        return
    if placed:
        text = f"generation {generation}, {size} bytes, checksum verified, placed on {d.name(target)}"
    _result(d, failover, placed, generation, text)
