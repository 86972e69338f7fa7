"""Restarting a master's xapi in place, with the newest copy of its database: nobody is promoted, and less is lost.

Theory
------
A member's copy is taken from the master's memory, and the master's own file is written up to five minutes later (xapi:
ocaml/xapi/pool_db_backup.ml, ocaml/database/db_cache_impl.ml). So for minutes after each copy a member has a newer
database than the master's file, and that is no ground for another master: the copy is carried to the host that is
master anyway, as restore_db.db, from which its xapi starts once. It is the handover of a failover the other way round:
the same hold, the same pieces and checksum, the same forecast of running VMs, and no change of roles.

Order, each step journaled with its evidence before it is done
--------------------------------------------------------------
1. Before anything is stopped: every rule of a restart (master_restart.py), and the forecasts of both the host's own
   file (the way back) and the newest copy are empty; else an operator is asked, by the VMs at stake.
2. Hold: a new term, the durable hold, then xapi is stopped. A xapi that still obeys flushes its memory to its file
   first. One that hangs does not: systemd kills it, and its memory is lost (``STOP_LIMIT_MS``).
3. Only what is seen after that counts. If the newest readable copy of a member that follows this host is *then* still
   newer than every file there, within the policy's bound on generations, and its forecast is empty, it is placed there.
   Otherwise the host starts with its own file, if that forecast is empty; otherwise an operator is asked.
4. The forecast is made once more on the file that lies there. It must be empty, or cover only what was said yes to. And
   every heard member has told its role since: somebody may have made one of them master meanwhile.
5. Start: a term above the hold's, and a release that names the generation to start with. Any other release removes what
   was placed first; the agent sees to that, whoever gives it (agent: core/placed_database.py).

Rules
-----
* Taken before a handover failover: where a newer copy is all that stands against a restart. A failover follows where
  the agent cannot do this, no such copy can be read, or it was tried as often as a restart may be.
* It counts as a restart of this incident, and as no hold: what follows it is not barred by it.
* It is given up when its ground is gone: another host serves or is set to be master, the agent of the host falls silent
  for as long as a master's may, the host has booted anew, another term, HA, mode observe, or a step beyond its time. A
  new term is taken then, and the host is owed the removal of what may lie there and, after that, its release.
* Nothing of it is done in a failover, and a failover that is decided ends it first.
* A yes to VMs that are killed counts as any other does (questions.py): in this run, and for its time. Then it is asked
  again, also where the start is decided already.
* Every release is sent on what is true then, the first one and any later one.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.decision import database_age, questions
from poolwarden_collector.core.decision.database_contents import forget_placements, placements_of
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.kill_forecast import Kill, kills_on
from poolwarden_collector.core.decision.permission import behind, deposed, paused
from poolwarden_collector.core.decision.restart_files import (
    CAPABILITY,
    Plan,
    Start,
    accepted,
    covered,
    other_masters,
    starts,
    word_of,
)
from poolwarden_collector.core.evidence.verdict import Permit, Verdict
from poolwarden_collector.core.failover.ending import give_up
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.asks import Ask, Tell
from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import PlaceDatabase, Preconditions, ToolstackFence, ToolstackRelease
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import phases
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.live_slices import InPlaceProgress
from poolwarden_collector.core.state.order_delivery import (
    ORDER_VALID_MS,
    RESEND_AFTER_MS,
    STOP_LIMIT_MS,
    answer_of,
    pursue,
)
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.core.state.restart_record import COPY, OWN, InPlace
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

PATH = "in-place"  # in a question: a yes to a restart with its own file is none to this
STEP_LIMIT_MS: Ms = 120_000
UNANSWERED_MS: Ms = 30_000
HANDOVER_MARGIN_MS: Ms = 10_000  # the transfer ends itself before its end stops being awaited
_IDLE = (Verdict.POOL_DARK, Verdict.COLLECTOR_BLIND)


# ------------------------------------------------------------------------------------------------ beginning


def begin(
    tx: Transaction, host: HostId, planned: Plan, why: str, vms: tuple[str, ...] = (), actor: str = "", other: str = ""
) -> None:
    """Take a term, journal the intent, and order the hold. ``other``: for another file than the newest (COPY, OWN)."""
    agent = tx.heard(host)
    assert agent is not None
    term, name = tx.record.term + 1, tx.name(host)
    own = agent.facts.database.generation
    order = f"in-place/{tx.site.epoch}/{term}/hold/{host}"
    text = (
        f"restarting the xapi of {name} in place with the newest copy ({why}): {tx.name(planned.source)} has "
        f"generation {planned.generation}, its own file {own}; at term {term} its toolstack is held and xapi is "
        "stopped, its VMs run on, and nobody is promoted"
    )
    if other:
        text = (
            f"restarting the xapi of {name} in place with {_other_words(tx, planned, other)} ({why}): it does not "
            f"come up on generation {own}; at term {term} its toolstack is held and xapi is stopped, its VMs run on, "
            "and nobody is promoted"
        )
    data: dict[str, Any] = {
        "host": host,
        "boot": agent.hello.boot_id,
        "epoch": tx.site.epoch,
        "order": order,
        "accepted": list(vms),
        "own": own,
        "source": planned.source,
        "generation": planned.generation,
        "other": other,
    }
    tx.write(Entry(Kind.IN_PLACE_INTENT, text, data, "", term, actor or "poolwarden"))
    phases.forget(tx, "restarted")
    tx.change(InPlaceProgress, step=("", tx.now), seen_since=None, passed=frozenset())
    tx.change(InPlaceProgress, yes_at=tx.now if vms else None)
    if tx.record.in_place is not None:
        _order_hold(tx, tx.record.in_place, agent)


def _other_words(pool: Snapshot, planned: Plan, other: str) -> str:
    if other == OWN:
        return "its own file, without the copy that was placed over it"
    return f"the copy of {pool.name(planned.source)} (generation {planned.generation})"


def _order_hold(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    # safety: the verdict was recomputed in this pass; the process that it is about, and no later one, is stopped.
    before = Preconditions(ha_off=True, process=agent.facts.xapi.process)
    tx.send(now.order, now.host, ToolstackFence(), ORDER_VALID_MS, before, now.term)


# ------------------------------------------------------------------------------------------------ going on


def advance(tx: Transaction, verdict: Verdict) -> None:
    """Do what is due in the restart under way, or give it up."""
    now = tx.record.in_place
    if now is not None and (tx.record.paused is not None or verdict in _IDLE):
        _awaits(tx, "")  # nothing can be done in it, and that is not its time
    if now is None or tx.quiet or deposed(tx) or behind(tx) or tx.site.blind:
        return
    agent = tx.heard(now.host)
    lifted = agent is not None and now.start is not None and agent.facts.hold is None
    if agent is not None and lifted and _started(tx, now, agent):
        return
    if tx.record.paused is not None:
        _stands_still(tx, now, paused(tx))
        return
    if why := _ground_lost(tx, now, verdict):
        give_up(tx, why)
        return
    if agent is None or verdict.entails.undecided:
        return
    if lifted:
        # Its agent was cut off between lifting the hold and the start: it is told again, by the same id.
        if _seen_since(tx, agent):
            _start(tx, now, agent)
    elif not _stopped(tx, now, agent):
        _await_stop(tx, now, agent)
    elif _seen_since(tx, agent):
        _go_on(tx, now, agent)


def _go_on(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    """xapi is stopped, and what is known of the host is from after that."""
    mine = order_ids.parse(now.transfer).made_by(tx.site.epoch)
    if now.start is not None:
        _start(tx, now, agent)
    elif now.arrived:
        _placed(tx, now, agent)
    elif now.littered and now.arrived is None and mine:
        _late(tx, "copy", tx.policy.toolstack_budget, f"the copy of {tx.name(now.source)} did not arrive")
    elif now.littered:
        _remove(tx, now, agent)
    else:
        _choose(tx, now, agent)


def _ground_lost(pool: Snapshot, now: InPlace, verdict: Verdict) -> str:
    """Why this is given up; empty: it stands."""
    host, agent, name = now.host, pool.agent(now.host), pool.name(now.host)
    if others := other_masters(pool, host):
        return f"{pool.name(others[0])} serves as master, or is set to"
    if pool.record.master != host:
        return f"{pool.name(pool.record.master) or 'nobody'} is the master on record now"
    if pool.record.term > now.last_term:
        return f"the pool's term is {pool.record.term} now, this restart's is {now.last_term}"
    if agent is not None and agent.hello.boot_id != now.boot:
        return f"{name} has booted anew"
    if pool.policy.mode == "observe":
        return "the pool's mode is observe"
    if verdict.permits is not Permit.RESTART and not verdict.entails.undecided:
        return f"the pool is {verdict.word} now: {verdict.meaning}"
    if pool.heard(host) is not None and agent is not None and CAPABILITY not in agent.hello.capabilities:
        return f"the agent {agent.hello.agent_version} of {name} cannot go on with it"
    return ""


def stands_at(pool: Snapshot, now: InPlace) -> str:
    """How far it is, in words."""
    copy = f"the copy of {pool.name(now.source)}"
    if now.start is not None:
        return f"it is told to start with {copy if now.start['generation'] else 'its own file'}"
    if now.arrived:
        return f"{copy} is in place, and what it would kill is looked at"
    if now.transfer and now.arrived is None:
        return f"{copy} is carried there"
    agent = pool.heard(now.host)
    stopped = agent is not None and _stopped(pool, now, agent)
    if stopped and _asking(pool):
        return "xapi is stopped, and an operator is asked whether it may start"
    return "xapi is stopped, and which file it starts with is being decided" if stopped else "xapi is being stopped"


def _stands_still(tx: Transaction, now: InPlace, refusal: Reason) -> None:
    name, pool, agent = tx.name(now.host), tx.record.display_name, tx.heard(now.host)
    held = agent is not None and _stopped(tx, now, agent)
    heading = f"the restart of {name} in place stands still{', its xapi stopped' if held else ''}"
    step = f"poolwarden resume {pool}"
    at = stands_at(tx, now)
    text = f"the restart of {name} in place stands still ({at}): {refusal}. {step}"
    # How far it is makes it another alert: an order that was on its way is obeyed in a pause, too.
    why = Reason(refusal.code, refusal.text, (*refusal.subjects, at))
    questions.report_refusal(tx, Tell.XAPI, why, text, heading, step)


def _awaits(tx: Transaction, step: str) -> None:
    """This is what is waited for from now on."""
    if tx.live.in_place.step[0] != step:
        tx.change(InPlaceProgress, step=(step, tx.now))


def _late(tx: Transaction, step: str, limit: Ms, why: str) -> bool:
    """Is this step beyond its time, counted in this run? Then it is given up."""
    kept, since = tx.live.in_place.step
    if kept != step:
        _awaits(tx, step)
        return False
    if tx.now - since < limit:
        return False
    give_up(tx, f"{why} within {limit / 1000:.0f} s")
    return True


# ------------------------------------------------------------------------------------------------ stopped


def _stopped(pool: Snapshot, now: InPlace, agent: AgentState) -> bool:
    hold = agent.facts.hold
    return hold is not None and hold.term == now.term and hold.stopped


def _await_stop(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    """Not stopped yet: order again where it was not answered; give up when its time is over."""
    name, sent = tx.name(now.host), tx.sent(now.order)
    result = sent.result if sent is not None else None
    said = (result.text or result.reason) if result is not None else "no answer"
    hold = agent.facts.hold
    # What a stop needs counts from when it began: the order may have come late, after its agent was away.
    step = "stop" if hold is not None and hold.term == now.term else "hold"
    if _late(tx, step, STOP_LIMIT_MS, f"the toolstack of {name} was not seen stopped ({said})"):
        return
    answer, seen = answer_of(tx, now.host, now.order), agent.facts.observed.host
    done = answer is not None and answer.outcome is Outcome.DONE
    known = sent is not None and sent.answered_at is not None and seen is not None and seen > sent.answered_at
    if agent.facts.hold is None and done and (known or sent is None):
        give_up(tx, f"the hold of {name} was ended on that host")
        return
    again = result is not None and result.outcome is not Outcome.DONE
    since = tx.now - ((sent.answered_at if again else sent.at) or sent.at) if sent is not None else None
    wait = RESEND_AFTER_MS if again else ORDER_VALID_MS + RESEND_AFTER_MS
    if sent is None or since is None or sent.stream != agent.stream or since >= wait:
        _order_hold(tx, now, agent)


def _seen_since(tx: Transaction, agent: AgentState) -> bool:
    """Was this host looked at since its xapi stopped, and since anything was removed there?

    A clean stop may have written its file in the very look that found it stopped.
    """
    seen = agent.facts.observed.host
    if tx.live.in_place.seen_since is None:
        _look_anew(tx, agent.hello.host, seen if seen is not None else tx.now)
        return False
    return seen is not None and seen > tx.live.in_place.seen_since


def _members_told(pool: Snapshot, host: HostId) -> bool:
    """Has every heard member told its role since then? Somebody may have made one of them master meanwhile."""
    since, heard = pool.live.in_place.seen_since, [pool.heard(other) for other in pool.record.hosts if other != host]
    seen = [agent.facts.observed.host or agent.last_heard for agent in heard if agent is not None]
    # safety: nobody is started as master on what was true before its xapi stopped, or the copy was placed.
    return since is not None and all(at > since for at in seen)


def _look_anew(tx: Transaction, host: HostId, since: Ms) -> None:
    """What was known of the files there counts no more."""
    tx.change(InPlaceProgress, seen_since=since)
    forget_placements(tx, host)


# ------------------------------------------------------------------------------------------------ which file


def _choose(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    """The newest copy if it is still newer and kills nobody; else its own file if that kills nobody; else ask."""
    found = starts(tx, now, agent)
    if found is None:
        if _asking(tx):
            _awaits(tx, "an answer")
        else:
            _late(tx, "forecast", STEP_LIMIT_MS, f"what a start of {tx.name(now.host)} would kill was not known")
        return
    if not found:
        give_up(tx, f"neither the database of {tx.name(now.host)} nor a newer copy can be read")
        return
    for start in found:
        if covered(tx, now, start.kills):
            if start.source:
                _carry(tx, now, agent, start)
            else:
                _decide(tx, now, agent, start, "forecast")
            return
    _awaits(tx, "an answer")
    _ask(tx, now, found)
    if tx.record.question is None and tx.record.asked.denied:
        # Held for an answer that was given: nobody would be asked, nor told.
        give_up(tx, "; ".join(tx.record.asked.denied.values()))


def _asking(pool: Snapshot) -> bool:
    question = pool.record.question
    return question is not None and question.kind is Ask.RESTART


def _carry(tx: Transaction, now: InPlace, agent: AgentState, start: Start) -> None:
    """Carry the copy there: the transfer verifies size and checksum, and that it is newer."""
    source, member = start.source, tx.heard(start.source)
    if member is None:
        return
    have = agent.facts.database.generation
    above = 0 if now.other == COPY else have  # an operator has said yes to one that is older
    transfer = tx.fresh_id(f"in-place/{now.term}")
    text = (
        f"carrying the copy of {tx.name(source)} (generation {start.generation}) to {tx.name(now.host)}, which is "
        f"stopped and has {have} on disk: {_said(tx, start.kills)}"
    )
    tx.note(Kind.HANDOVER_INTENT, text, transfer=transfer, source=source, target=now.host, above=above, in_place=True)
    tx.change(InPlaceProgress, step=("copy", tx.now))
    boots, limit = (member.hello.boot_id, agent.hello.boot_id), tx.policy.toolstack_budget - HANDOVER_MARGIN_MS
    size = tx.policy.handover_max_bytes
    tx.do(HandOver(transfer, source, now.host, *boots, now.term, above, size, limit, True, word_of(tx, now)))


def transferred(tx: Transaction, transfer: str, placed: bool, generation: int, size: int, text: str) -> bool:
    """A transfer ended (event DatabaseTransferred). Was it this restart's?"""
    now = tx.record.in_place
    if now is None or now.transfer != transfer or now.arrived is not None:
        return False
    name = tx.name(now.host)
    said = f"generation {generation}, {size} bytes, checksum verified, placed on {name}" if placed else text
    word = "handed over" if placed else "no database is handed over"
    data = {"target": now.host, "placed": placed, "generation": generation, "transfer": transfer}
    tx.note(Kind.HANDOVER_RESULT, f"{word}: {said}", **data)
    if not placed:
        tx.change(InPlaceProgress, passed=tx.live.in_place.passed | {now.source})
    _look_anew(tx, now.host, tx.now)
    return True


def _placed(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    """It lies there: forecast once more, on that very file; then start with it, or remove it."""
    loads = placements_of(tx, now.host)
    kills = kills_on(tx, now.host, loads) if loads is not None and loads.readable else None
    if loads is None or isinstance(kills, Reason):
        _late(
            tx,
            "placed",
            STEP_LIMIT_MS,
            f"what the file that was placed on {tx.name(now.host)} would kill was not known",
        )
    elif (
        kills is None
        or loads.generation != now.placed
        or not _has_room(tx, agent)
        or unsound_reason(tx, now.host) is not None
        or database_age.leap(tx, now.placed)
        or not covered(tx, now, kills)
    ):
        # safety: what lies there is not what was forecast, or was another file by the time it was read; it is never
        # started with.
        tx.change(InPlaceProgress, passed=tx.live.in_place.passed | {now.source})
        _remove(tx, now, agent)
    else:
        _decide(tx, now, agent, Start(now.source, now.placed, kills), "placed")


def _has_room(pool: Snapshot, agent: AgentState) -> bool:
    """Can its xapi write what it loads? It starts with a placed file only if it can."""
    root = next((disk for disk in agent.facts.disks if disk.mount == "/"), None)
    return root is not None and root.free_bytes >= pool.policy.min_root_free_bytes


def _remove(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    """Remove what may lie there, whole or half: its own file is read and started with only after that."""
    name, base = tx.name(now.host), f"{now.base}/remove/{now.transfer}"
    sent = [s for order, s in tx.live.sent.items() if order_ids.is_attempt(order, base) and s.result is not None]
    done = [s for s in sent if s.result is not None and s.result.outcome is Outcome.DONE]
    if done:
        tx.note(Kind.IN_PLACE_REMOVED, f"no database of another host lies on {name} any more", host=now.host)
        _look_anew(tx, now.host, max(s.answered_at or tx.now for s in done))
        return
    if _late(tx, "remove", STEP_LIMIT_MS, f"what was placed on {name} was not removed"):
        return
    text = f"removing what was placed on {name}: it is not started with"
    # safety: by its number where it is of an earlier term: what a promotion has still to start with has another one.
    named = PlaceDatabase(now.copy_generation, remove=True, held_master=True) if now.other == OWN else None
    pursue(tx, base, agent, named or PlaceDatabase(remove=True), Kind.REMOVE_INTENT, text)


# ------------------------------------------------------------------------------------------------ asked


def _ask(tx: Transaction, now: InPlace, found: tuple[Start, ...], at_once: bool = False) -> Start:
    """Every file would kill a running VM: the start that kills the fewest, at an operator's word."""
    start, name = min(found, key=lambda each: len(each.kills)), tx.name(now.host)
    which = f"the copy of {tx.name(start.source)}" if start.source else "its own file"
    count = len(start.kills)
    what = (
        f"{name} is held, its xapi stopped, and is not started: {which} (generation {start.generation}) would kill "
        f"{count} running VM{'s'[: count > 1]}"
    )
    lost = tuple(f"VM {kill.name} on {name} would be killed: {kill.why}" for kill in start.kills)
    vms = tuple(kill.vm for kill in start.kills)
    needs = Needs(kill=count)
    questions.ask(tx, Ask.RESTART, now.host, what, lost, needs, vms, PATH, ("held",), at_once)
    return start


def approve(tx: Transaction, now: InPlace, question: Question, kill: int, actor: str) -> str | Refused | None:
    """A yes to what a start of the held host would kill; None: its files are being read."""
    agent = tx.heard(now.host)
    if agent is None or not _stopped(tx, now, agent):
        return Refused("held", f"the xapi of {tx.name(now.host)} is being stopped; nothing of that is asked yet")
    found = starts(tx, now, agent)
    if found is None:
        return None
    if now.start is not None:
        found = tuple(each for each in found if not each.source)  # decided: it starts with what lies there
    if not found:
        return Refused("unsafe", "neither its database nor a newer copy can be read")
    if any(covered(tx, now, each.kills) for each in found):
        return Refused("nothing-at-stake", "no running VM is at stake any more: it goes on by itself")
    start = _ask(tx, now, found, at_once=True)
    if (anew := questions.asked_no_more(tx, question)) is not None:
        return anew
    if len(start.kills) > kill:
        step = questions.approve_command(question.id, Needs(kill=len(start.kills)))
        return Refused("more-at-stake", f"{len(start.kills)} running VMs would be killed; accepted: {kill}", step)
    names = ", ".join(each.name for each in start.kills)
    text = f"{actor} accepts that the start of {tx.name(now.host)} kills {names}"
    tx.note(Kind.IN_PLACE_ACCEPTED, text, actor, host=now.host, vms=[each.vm for each in start.kills])
    # What was passed for the sake of these VMs is looked at again.
    tx.change(InPlaceProgress, passed=frozenset(), yes_at=tx.now)
    return f"{tx.name(now.host)} is started; poolwarden host show {tx.name(now.host)} tells when its xapi answers"


# ------------------------------------------------------------------------------------------------ started


def _said(pool: Snapshot, kills: tuple[Kill, ...]) -> str:
    if not kills:
        return "its forecast is empty, no running VM would be killed"
    return f"accepted to be killed: {', '.join(kill.name for kill in kills)}"


def _decide(tx: Transaction, now: InPlace, agent: AgentState, start: Start, step: str) -> None:
    """Journal with which file it starts, at a term above the hold's; then the release. ``step``: what it ends."""
    if not _members_told(tx, now.host):
        # Whoever is heard and tells nothing new of its role holds this host no longer than any other step may.
        _late(tx, step, STEP_LIMIT_MS, "not every member that is heard has told its role since")
        return
    term, name = tx.record.term + 1, tx.name(now.host)
    # A lower term than the hold's gives no role back, and nothing of the hold's own term is obeyed from here on.
    if start.source:
        which = f"the copy of {tx.name(start.source)} (generation {start.generation})"
    else:
        which = f"its own file (generation {start.generation}): {_left_out(tx, now.host, agent)}"
    text = f"starting the xapi of {name} with {which}; {_said(tx, start.kills)}; the term is {term}"
    data = {
        "host": now.host,
        "generation": start.generation if start.source else 0,
        "own": agent.facts.database.generation,
        "source": start.source,
        "kills": [kill.vm for kill in start.kills],
    }
    tx.write(Entry(Kind.IN_PLACE_START, text, data, "", term))
    if tx.record.in_place is not None:
        _start(tx, tx.record.in_place, agent)


def _left_out(pool: Snapshot, host: HostId, agent: AgentState) -> str:
    """What a start with its own file leaves out: whoever reads it is to know what is lost."""
    own, others = (
        agent.facts.database.generation,
        [(s.facts.database.generation, h) for h, s in pool.live.agents.items()],
    )
    generation, newest = max(((g, h) for g, h in others if h != host and h in pool.record.hosts), default=(0, ""))
    if generation <= own:
        return "no member's copy is newer"
    return (
        f"the copy of {pool.name(newest)} (generation {generation}) could not be used, and what only that has is lost"
    )


def _start_base(now: InPlace) -> str:
    return f"{now.base}/start/{now.host}/{now.boot}"


def _start(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    """Send the release, and again while the hold stands; what it stands on is made anew before each."""
    assert now.start is not None
    name, loads, generation = tx.name(now.host), placements_of(tx, now.host), int(now.start["generation"])
    kills = kills_on(tx, now.host, loads) if loads is not None and loads.readable else None
    same = loads is not None and (not generation or loads.generation == generation)
    if isinstance(kills, tuple) and same and not covered(tx, now, kills) and accepted(now, kills):
        # safety: the yes that this start was decided on counts no more; it is asked again (questions.py).
        _awaits(tx, "an answer")
        _ask(tx, now, (Start(now.start["source"], generation or loads.generation if loads else 0, kills),))
        return
    if _late(tx, "start", STEP_LIMIT_MS, f"the hold of {name} was not seen lifted ({_answered(tx, now)})"):
        return
    if loads is None or kills is None or isinstance(kills, Reason) or not _members_told(tx, now.host):
        return
    if not covered(tx, now, kills) or not same:
        give_up(tx, f"what {name} would start with is not what it was to start with")
        return
    _release(tx, now, agent)


def _answered(pool: Snapshot, now: InPlace) -> str:
    """What its agent has said last of the release."""
    sent = [s for order, s in pool.live.sent.items() if order_ids.is_attempt(order, _start_base(now))]
    result = max(sent, key=lambda s: s.at).result if sent else None
    return (result.text or result.reason) if result is not None else "no answer" if sent else "not told to"


def _release(tx: Transaction, now: InPlace, agent: AgentState) -> None:
    assert now.start is not None
    name, generation = tx.name(now.host), int(now.start["generation"])
    kind = ToolstackRelease(as_master=True, restore=generation)
    whose = f"the copy of {tx.name(now.start['source'])}, generation {generation}" if generation else "its own file"
    text = f"releasing the toolstack of {name} as master, to start with {whose}"
    pursue(tx, _start_base(now), agent, kind, Kind.RELEASE_INTENT, text)


def _started(tx: Transaction, now: InPlace, agent: AgentState) -> bool:
    """The hold is lifted after the decision: by our release, or by somebody on that host. False: nothing was started.

    Nothing is ordered by that: a pause does not hold it.
    """
    assert now.start is not None
    base, name = _start_base(now), tx.name(now.host)
    sent = [s for order, s in tx.live.sent.items() if order_ids.is_attempt(order, base)]
    kept = [r for r in agent.hello.last_results if order_ids.is_attempt(r.order_id, base)]
    results = [*(s.result for s in sent if s.result is not None), *kept]
    ours = any(r.outcome is not Outcome.REFUSED for r in results)
    if not results and not agent.facts.xapi.process:
        return False
    if not results and sent and tx.now - max(s.at for s in sent) < UNANSWERED_MS:
        return True
    generation = int(now.start["generation"])
    which = f"the copy of {tx.name(now.start['source'])} (generation {generation})" if generation else "its own file"
    how = f"it was told to start with {which}" if ours else "that was done on the host itself"
    text = f"the toolstack of {name} is held no more: {how}; nobody was promoted"
    order = max(sent, key=lambda s: s.at).order_id if sent and ours else ""
    tx.note(Kind.IN_PLACE_ENDED, text, host=now.host, outcome="released", order=order, generation=generation)
    return True
