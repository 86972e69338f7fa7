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
* A database that its own xapi could not load, that is not sound, or that cannot be read, is not handed over: the
  candidate's copy is what there is, and its age is asked about as ever.
* The agent's word that it has stopped is no proof. Somebody else must find the port closed (proof.py).
* A hold that is not verified within systemd's own patience with a xapi that hangs (``STOP_LIMIT_MS``) and
  ``policy.toolstack_budget``, or that has proven nothing within that budget while nobody is asked, is undone, at a new
  term.
* Whatever was held or placed is owed its undoing, over restarts and days.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import questions
from poolwarden_collector.core.decision.database_contents import placements_of
from poolwarden_collector.core.decision.database_soundness import unsound_reason
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
from poolwarden_collector.core.state import phases
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.order_delivery import STOP_LIMIT_MS
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
LOOK_AGAIN_MS: Ms = 3_000
HANDOVER_MARGIN_MS: Ms = 10_000  # the transfer ends itself before its end stops being awaited


def fence(tx: Transaction, failover: Failover) -> bool:
    """Hold the old master's toolstack and take its database. True once both are over and somebody may prove it."""
    if not failover.hold.order:
        _begin(tx, failover)
        return False
    if not _held(tx, failover):
        _await_hold(tx, failover)
        return False
    if _contradicted(tx, failover):
        return False
    return _handed_over(tx, failover)


def _begin(tx: Transaction, failover: Failover) -> None:
    """The last checks before anything is stopped, then the intent and the order."""
    host, name = failover.old_master, tx.name(failover.old_master)
    agent = tx.heard(host)
    if agent is None:
        return
    if "toolstack_fence" not in agent.hello.capabilities:
        why = f"the agent {agent.hello.agent_version} of {name} cannot hold a toolstack"
        block(
            tx,
            failover,
            Blocker.CANNOT_HOLD,
            (host,),
            why,
        )
        return
    own = placements_of(tx, host)
    if own is None:
        return
    if own.readable:
        kills = kills_on(tx, host, own)
        if isinstance(kills, Reason) or kills:
            what = str(kills) if isinstance(kills, Reason) else ", ".join(f"{kill.name} ({kill.why})" for kill in kills)
            subjects = (kills.key,) if isinstance(kills, Reason) else tuple(sorted(kill.vm for kill in kills))
            why = f"if the hold had to be undone, {name}'s own database would kill: {what}"
            block(tx, failover, Blocker.NO_WAY_BACK, (host, *subjects), why)
            return
    if not witnessed_now(tx, failover):
        return
    unblock(tx)
    order_id = f"{failover.orders}/toolstack/{host}"
    text = f"holding the toolstack of {name} at term {failover.term}: xapi is stopped and stays stopped, its VMs run on"
    tx.note(Kind.TOOLSTACK_INTENT, text, host=host, order=order_id)
    tx.mark("fence-intent")
    _order(tx, tx.failover or failover)


def _order(tx: Transaction, failover: Failover) -> None:
    # safety: the verdict was recomputed in this pass, on a look at most 5 s old; the agent's hold is durable first.
    fence_order = ToolstackFence(failover.candidate)
    tx.send(
        failover.hold.order, failover.old_master, fence_order, ORDER_VALID_MS, Preconditions(ha_off=True), failover.term
    )


def _held(pool: Snapshot, failover: Failover) -> bool:
    agent = pool.heard(failover.old_master)
    hold = agent.facts.hold if agent is not None else None
    return hold is not None and hold.term == failover.term and hold.stopped and hold.ports_closed


def _await_hold(tx: Transaction, failover: Failover) -> None:
    """Not stopped yet: order again where it was not answered, give up when the budget is over."""
    name, sent = tx.name(failover.old_master), tx.sent(failover.hold.order)
    result = sent.result if sent is not None else None
    began = tx.live.phases.marks.get("fence-intent", tx.live.phases.step_since)
    limit = max(tx.policy.toolstack_budget, STOP_LIMIT_MS)
    if tx.now - began >= limit:
        said = (result.text or result.reason) if result is not None else "no answer"
        abort(tx, f"the toolstack of {name} was not seen stopped within {limit / 1000:.0f} s ({said})")
        return
    agent = tx.agent(failover.old_master)
    if agent is None or not agent.connected:
        return
    again = result is not None and result.outcome is not Outcome.DONE
    since = tx.now - ((sent.answered_at if again else sent.at) or sent.at) if sent is not None else None
    wait = RESEND_AFTER_MS if again else ORDER_VALID_MS + RESEND_AFTER_MS
    due = sent is None or since is None or sent.stream != agent.stream or since >= wait
    if due and tx.heard(failover.old_master) is not None:
        _order(tx, failover)


def _contradicted(tx: Transaction, failover: Failover) -> bool:
    """Does anybody still get an answer from the xapi that its agent calls stopped? Then that word is worth nothing."""
    host, name = failover.old_master, tx.name(failover.old_master)
    look = tx.live.look.round
    if look is None or tx.now - look.at >= LOOK_AGAIN_MS:
        begin_look(tx, failover)
    alive = look.alive if look is not None and look.at >= tx.live.phases.marks.get("fence-intent", 0) else ""
    for other in sorted(tx.record.hosts, key=tx.name):
        probe = fresh_probe(tx, other, host)
        held_at = tx.live.phases.marks.get("held")
        if probe is not None and answered(probe) and held_at is not None and probe.probed_at > held_at:
            alive = alive or f"{tx.name(other)}'s probe is answered by the xapi of {name}"
    tx.mark("held")
    if alive:
        why = f"{name}'s agent says that its xapi is stopped, but {alive}"
        step = f"Nothing is promoted. Look at {name}; poolwarden approve {failover.id} --shoot powers it off."
        block(tx, failover, Blocker.EVIDENCE_CONFLICT, (host,), why, step)
        began = tx.live.phases.marks.get("fence-intent", tx.live.phases.step_since)
        if tx.now - began >= tx.policy.toolstack_budget:
            abort(tx, why)
        return True
    if failover.standstill.blocker is Blocker.EVIDENCE_CONFLICT:
        unblock(tx)
    return False


# ------------------------------------------------------------------------------------------------ handover


def handover_due(pool: Snapshot, failover: Failover, candidate: HostId) -> bool:
    """Is this candidate still to be given the held master's database, so that its own copy will not be loaded?"""
    old, new = pool.heard(failover.old_master), pool.heard(candidate)
    if old is None or new is None or failover.restless or _over(failover, candidate):
        return False
    if unsound_reason(pool, failover.old_master) is not None:
        return False
    return "place_database" in new.hello.capabilities and "read_database" in old.hello.capabilities


def _over(failover: Failover, candidate: HostId) -> bool:
    return failover.hold.handed_over is not None and failover.hold.handed_over.get("target") == candidate


def _handed_over(tx: Transaction, failover: Failover) -> bool:
    """The candidate has whatever the old master could give; True when that is over, with or without a database."""
    if _over(failover, failover.candidate):
        return True
    mine = order_ids.parse(failover.hold.transfer).made_by(tx.site.epoch)
    if failover.hold.transfer and mine and failover.hold.handed_over is None:
        began = tx.live.phases.marks.get("handover", tx.now)
        if tx.now - began < tx.policy.toolstack_budget:
            return False
        _result(tx, failover, False, 0, f"nothing arrived within {tx.policy.toolstack_budget / 1000:.0f} s")
        return True
    old, new = tx.heard(failover.old_master), tx.heard(failover.candidate)
    if old is None or new is None:
        return False
    have, could = new.facts.database.generation, old.facts.database.generation
    if failover.restless:
        # safety: the file on which its own xapi could not start would keep the candidate's down as well.
        _result(
            tx, failover, False, could, f"the xapi of {tx.name(failover.old_master)} did not come up on its database"
        )
        return True
    if could <= have:
        text = (
            f"{tx.name(failover.candidate)} has as new a database ({have}) as {tx.name(failover.old_master)} ({could})"
        )
        _result(tx, failover, False, could, text)
        return True
    if "place_database" not in new.hello.capabilities or "read_database" not in old.hello.capabilities:
        _result(tx, failover, False, could, "an agent cannot hand a database over")
        return True
    own = placements_of(tx, failover.old_master)
    if own is None:
        return False
    if not own.readable:
        # safety: a file that is cut short, empty or another pool's is no newer copy of anything, whatever its number.
        _result(
            tx, failover, False, could, f"the database of {tx.name(failover.old_master)} cannot be used: {own.text}"
        )
        return True
    if (unsound := unsound_reason(tx, failover.old_master)) is not None:
        # safety: no xapi comes up on it, the candidate's no more than its own.
        _result(tx, failover, False, could, f"the database of {tx.name(failover.old_master)} is not sound: {unsound}")
        return True
    _hand_over(tx, failover, could, have)
    return False


def _hand_over(tx: Transaction, failover: Failover, could: int, have: int) -> None:
    transfer = tx.fresh_id(f"handover/{failover.term}")
    source, target = failover.old_master, failover.candidate
    text = f"handing the database of {tx.name(source)} (generation {could}) to {tx.name(target)} (has {have})"
    tx.note(Kind.HANDOVER_INTENT, text, transfer=transfer, source=source, target=target, above=have)
    phases.mark_anew(tx, "handover")
    boots = (_boot(tx, source), _boot(tx, target))
    limit = tx.policy.toolstack_budget - HANDOVER_MARGIN_MS
    size, word = tx.policy.handover_max_bytes, questions.word_of(tx, failover)
    tx.do(HandOver(transfer, source, target, *boots, failover.term, have, size, limit, approval=word))


def _boot(pool: Snapshot, host: HostId) -> str:
    agent = pool.agent(host)
    return agent.hello.boot_id if agent is not None else ""


def _result(tx: Transaction, failover: Failover, placed: bool, generation: int, text: str) -> None:
    data = {
        "target": failover.candidate,
        "placed": placed,
        "generation": generation,
        "transfer": failover.hold.transfer,
    }
    word = "handed over" if placed else "no database is handed over"
    tx.note(Kind.HANDOVER_RESULT, f"{word}: {text}", **data)


def transferred(
    tx: Transaction, transfer: str, target: HostId, placed: bool, generation: int, size: int, text: str
) -> None:
    """A handover ended (event DatabaseTransferred); one that is not the open failover's says nothing."""
    failover = tx.failover
    if failover is None or failover.hold.transfer != transfer or failover.hold.handed_over is not None:
        return
    if placed:
        text = f"generation {generation}, {size} bytes, checksum verified, placed on {tx.name(target)}"
    _result(tx, failover, placed, generation, text)
