"""The promotion: intent, order, and verification by facts. From the intent on only one host can become master.

Rules
-----
* The order is sent only in a pass that has just verified the proof and taken the last look. For a later send everything
  is made anew: claims, candidate, copies, forecast, proof and look; in between the old master may have been powered on
  and have served. What does not hold any more keeps the order back; where the order never began and can never be
  obeyed, the failover ends at a new term and everything is decided, and asked, anew. Where it may have begun, an
  operator is asked about what is lost now; his yes covers that, as before the intent.
* A member that is alive and not heard may be another collector's by now: it is asked about before every later send, as
  before the intent (unheard_members.py).
* One order id: however often it arrives, the host promotes once.
* An order that never began (nobody was there to be asked) is sent again. One whose answer is unknown, or a failure, is
  resolved by asking: while the candidate is seen as the member that it was, it is sent again under the same id, which
  its agent then judges by facts; each time everything is verified as for the first one.
* xapi's OK is not success: pool.conf, a new process, an answer on TCP and a login that finds itself master are, and
  beside that word of the candidate's own agent another host's, where one is heard (promotion_witness.py).
* A candidate that is a member again has met another master only where it follows that very one and carries no
  tombstone: a tombstone, or somebody's hand, makes a member too, and nobody's fence device is to blame for that.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.failovers import GAVE_UP_THE_ROLE
from poolwarden_collector.core.decision import backoff
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.permission import behind
from poolwarden_collector.core.decision.standstill import block, unblock
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.devices.power_view import block_of
from poolwarden_collector.core.evidence import assessment, fenced_hosts, left_behind, mastership
from poolwarden_collector.core.evidence.operator_confirmation import spoken
from poolwarden_collector.core.evidence.proof import NoProof, Proof, find_proof, verify_power
from poolwarden_collector.core.evidence.signs import unsuperseded_masters
from poolwarden_collector.core.failover import candidate_check, member_return, promotion_witness, unheard_check
from poolwarden_collector.core.failover import last_look as looks
from poolwarden_collector.core.failover.claims import renewed, vetoes
from poolwarden_collector.core.failover.ending import abort, owe_removals, superseded
from poolwarden_collector.core.failover.final_alert import loads
from poolwarden_collector.core.failover.last_look import last_look, looked
from poolwarden_collector.core.failover.unserving_candidate import (
    await_new_master,
    its_database,
    of_a_silent_candidate,
    sent_at,
    took_it_in_vain,
)
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import NEVER_BEGUN, Outcome
from poolwarden_collector.core.model.orders import Claim, Preconditions, Promote, Target
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state import phases
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover, Path
from poolwarden_collector.core.state.live import AgentState, PoolLive, Sent
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
NOT_ASKED = "not-asked"  # the agent's reason for an order that found no xapi to be asked
# For what the order is not sent again; the sending ends it.
_OF_THE_SEND = (
    Blocker.PROOF_NOT_RENEWED,
    Blocker.UNHEARD_MEMBER,
    Blocker.LAST_LOOK,
    Blocker.KILL_FORECAST,
    Blocker.STALE_DATABASE,
    Blocker.GENERATION,
    Blocker.UNSOUND_DATABASE,
    Blocker.ROLE_UNTOLD,
    Blocker.UNASKED_MEMBER,
    Blocker.SILENT_MEMBER,
)


def intend(tx: Transaction, failover: Failover, proof: Proof) -> None:
    agent = tx.heard(failover.candidate)
    if agent is None or proof.host != failover.old_master:
        return
    again = f".{failover.promotion.attempt}" if failover.promotion.attempt > 1 else ""
    order_id = f"{failover.orders}/promote/{failover.candidate}{again}"
    process = agent.facts.xapi.process
    tx.note(
        Kind.PROMOTE_INTENT,
        f"promoting {tx.name(failover.candidate)} at term {failover.term}: from here only this host",
        host=failover.candidate,
        order=order_id,
        pid=process.pid,
        start_ticks=process.start_ticks,
        **loads(tx, failover),
    )
    tx.mark("promote-intent")
    _send_promote(tx, tx.failover or failover)


def _send_promote(tx: Transaction, failover: Failover) -> None:
    # safety: callers have verified the proof and taken the last look in this very pass; the gate refuses a lower term,
    # another boot, an armed HA and a tombstone, and answers a repeated id with its stored result.
    address = tx.record.address_of(failover.old_master)
    preconditions = Preconditions(
        pool_conf_master_address=address,
        pool_conf_in=(Role.MEMBER,),
        ha_off=True,
        min_root_free_bytes=tx.policy.min_root_free_bytes,
    )
    # safety: the VMs of a held old master run on, of this failover or an earlier one; until it is attached nobody may
    # coalesce their disks.
    earlier = left_behind.writers(tx, (failover.candidate, failover.old_master))
    kind = Promote(hold_gc=bool(failover.hold.order) or bool(earlier))
    tx.send(failover.promotion.order, failover.candidate, kind, ORDER_VALID_MS, preconditions, failover.term)


def promoting(tx: Transaction, failover: Failover) -> None:
    """After the intent: learn the answer, verify by facts, send again only on a proof renewed now."""
    _learn_answer(tx, failover)
    failover = tx.failover or failover
    if _serves(tx, failover):
        if seen := promotion_witness.stands(tx, failover):
            _promoted(tx, failover, seen)
        return
    promotion_witness.forget(tx)
    if _candidate_is_dead(tx, failover):
        return
    if tx.record.term > failover.term:
        why = (
            f"the pool's term is {tx.record.term} now, this failover's {failover.term}: its order is not sent any more"
        )
        block(tx, failover, Blocker.TERM_PASSED, (), why)
        return
    others = [host for host in unsuperseded_masters(tx) if host != failover.candidate]
    if others and _never_took_effect(tx, failover):
        superseded(tx, others[0])
        return
    if others and _member_still(tx, failover):
        _undo_on_paper(tx, failover, others[0])
        return
    if _undid_itself(tx, failover):
        return
    if failover.promotion.result not in (Outcome.DONE.value, Outcome.FAILED.value, Outcome.UNKNOWN.value):
        _resend(tx, failover)
        return
    if _nothing_has_come_of_it(tx, failover):
        _resend(tx, failover)
        failover = tx.failover or failover
        if failover.standstill.blocker in _OF_THE_SEND:
            return  # why it is not sent again goes before what is still waited for
    if took_it_in_vain(tx, failover):
        _ends_in_vain(tx, failover)
        return
    await_new_master(tx, failover)


def _ends_in_vain(tx: Transaction, failover: Failover) -> None:
    """It is the master on record, and comes to no service: end, so that it is judged as any other."""
    host = failover.candidate
    which = f"its xapi does not come to serve: {its_database(tx, failover)}"
    text = f"{tx.name(host)} ({tx.record.address_of(host)}) has taken the role, and {which}"
    _takes_over(tx, failover, text, "its own agent alone")
    assessment.unserved_already(tx, host)
    member_return.ends_without_success(tx, tx.failover or failover)


def _nothing_has_come_of_it(pool: Snapshot, failover: Failover) -> bool:
    """The answer is unknown, or a failure: is the candidate seen since then as the member that it was?

    An unknown call may still be at work in the process that was asked: that one is given its time.
    """
    agent = pool.heard(failover.candidate)
    if (
        failover.promotion.result == Outcome.DONE.value
        or agent is None
        or failover.standstill.blocker is Blocker.PROMOTE_REFUSED
    ):
        return False
    answered = _answered_at(pool, failover)
    f = agent.facts
    if _seen_at(agent) < answered:
        return False
    if f.role.pool_conf is Role.MASTER and f.tombstone is not None:
        return True  # it did take the role, and its tombstone holds it back: sent again it is found done, and released
    member = f.role.pool_conf is Role.MEMBER and f.role.running is not Role.MASTER and bool(f.xapi.process)
    replaced = f.xapi.process != failover.promotion.process
    wait = RESEND_AFTER_MS if replaced else ORDER_VALID_MS + RESEND_AFTER_MS
    return member and f.xapi.socket_liveness is Liveness.ANSWERS and pool.now - answered >= wait


def _answered_at(pool: Snapshot, failover: Failover) -> Ms:
    """When this run heard the newest answer to the order; the beginning of the step where that was in another run."""
    sent = pool.sent(failover.promotion.order) if failover.promotion.order else None
    return sent.answered_at if sent is not None and sent.answered_at is not None else pool.live.phases.step_since


def _seen_at(agent: AgentState) -> Ms:
    """When the older of its facts on role and process was seen."""
    observed = agent.facts.observed
    return min(at if at is not None else agent.last_heard for at in (observed.host, observed.xapi))


def _never_took_effect(pool: Snapshot, failover: Failover) -> bool:
    """No answer at all, or a failure that left the candidate the member that it was."""
    if not failover.promotion.result:
        return True
    agent = pool.heard(failover.candidate)
    failed = failover.promotion.result == Outcome.FAILED.value
    return failed and agent is not None and agent.facts.role.pool_conf is Role.MEMBER


def _member_still(pool: Snapshot, failover: Failover) -> bool:
    """Accepted long ago, and yet the candidate's process is the member that it was: only its pool.conf says master."""
    agent = pool.heard(failover.candidate)
    if agent is None or pool.now - sent_at(pool, failover) < pool.policy.promote_budget:
        return False
    return agent.facts.xapi.process == failover.promotion.process and agent.facts.role.running is not Role.MASTER


def _undo_on_paper(tx: Transaction, failover: Failover, host: HostId) -> None:
    """Another host serves: the candidate's next start must not be a second master's."""
    name = tx.name(failover.candidate)
    text = f"{name} is owed a tombstone: its pool.conf says master, and {tx.name(host)} serves"
    # safety: owed before the failover ends, so that nothing forgets what waits in that pool.conf.
    tx.note(Kind.OWED, text, host=failover.candidate, what=OwedWork.TOMBSTONE.value, successor=host)
    superseded(tx, host)


def _candidate_is_dead(tx: Transaction, failover: Failover) -> bool:
    """The candidate's own power is proven off, or a person says so of it: it can act no more, and only then may another
    host take its place.

    The failover ends at a new term. The candidate is owed a tombstone, because its pool.conf may say master; then the
    gated old master may open, or another failover finds another successor.
    """
    host = failover.candidate
    known = tx.record.hosts.get(host)
    if tx.heard(host) is not None or known is None or tx.quiet:
        return False
    proof = verify_power(tx, host, known.boot_id)
    if isinstance(proof, Proof):
        how = f"{', '.join(str(item['device']) for item in proof.facts['readings'])} read OFF twice"
    elif (word := spoken(tx, host)) is not None:
        # safety: a word of this run, about this very boot, and no sign of life since.
        how = f"{word.by} confirmed it: {word.how}"
    else:
        return False
    gone = f"{tx.name(host)}, which alone could be promoted, is itself off"
    successor = tx.record.master
    text = f"{tx.name(host)} is owed a tombstone: it may have become master before it went off"
    tx.note(Kind.OWED, text, host=host, what=OwedWork.TOMBSTONE.value, successor=successor)
    abort(tx, f"{gone} ({how})")
    return True


def _undid_itself(tx: Transaction, failover: Failover) -> bool:
    """Did the candidate start as master and find another one alive (xapi's check_no_other_masters)? A false proof.

    Whatever the proof rested on is worth nothing any more; the same failover goes on only with another one, and with
    another order id. Where a tombstone of this term has made it a member, only another term can make it master.
    """
    agent = tx.heard(failover.candidate)
    if failover.promotion.result != Outcome.DONE.value or agent is None or failover.proof is None:
        return False
    role, process = agent.facts.role, agent.facts.xapi.process
    # safety: only what was seen after its answer; before it every candidate is a member, often of another process.
    seen_since = _seen_at(agent) >= _answered_at(tx, failover)
    back = role.pool_conf is Role.MEMBER and process and process != failover.promotion.process and seen_since
    if not back or role.serves_as_master:
        return False
    name, old = tx.name(failover.candidate), tx.name(failover.old_master)
    stone = agent.facts.tombstone
    if stone is not None and stone.term >= failover.term:
        # safety: its order is answered and used up, and it runs as a member: it can act no more at this term.
        abort(tx, f"{name} was told to become master, and was made a member by a tombstone of term {stone.term}")
        return True
    seen = tx.agent(failover.old_master)
    again = seen is not None and seen.hello.boot_id != failover.old_boot
    met = role.master_address == tx.record.address_of(failover.old_master)
    if met:
        false = f"the proof that {old} was harmless ({failover.proof.kind.word}) was false"
        why = f"{name} became master and made itself a member again, because it met another master: "
        why += f"{old} has booted anew" if again else false
    else:
        why = f"{name} was told to become master and is a member of {role.master_address} again, which is not {old}"
    devices = [] if again or not met else [item["device"] for item in failover.proof.facts.get("readings", ())]
    tx.note(Kind.DEMOTED, why, host=failover.candidate, proof=failover.proof.kind.word)
    for device in devices:
        quarantine = f"it proved {old} off while {name} met it alive"
        facts = {"device": device, "why": quarantine, "block": block_of(tx, device, failover.old_master)}
        tx.note(Kind.DEVICE_QUARANTINED, f"fence device {device}: {quarantine}", **facts)
    forget(tx, failover.old_master)
    # safety: it was met alive, so that nobody's word about it counts any more, in this failover or another.
    fenced_hosts.alive(tx, failover.old_master, tx.now, f"{name} has met another master")
    fenced_hosts.drop_used_word(tx)
    looks.drop(tx)
    phases.step_begins(tx)
    topic = AlertTopic(Matter.GAVE_UP_THE_ROLE, number=failover.id)
    details = f"{name} gave the role up again in failover {failover.id}: {why}"
    tx.raise_alert(topic, GAVE_UP_THE_ROLE, details, {"name": name, "old": old, "why": why})
    return True


def _learn_answer(tx: Transaction, failover: Failover) -> None:
    if not failover.promotion.order:
        return
    sent, agent = tx.sent(failover.promotion.order), tx.agent(failover.candidate)
    result = sent.result if sent is not None else None
    if result is None and agent is not None:
        kept = [r for r in agent.hello.last_results if r.order_id == failover.promotion.order]
        result = kept[0] if kept else None
    if result is None or result.outcome.value == failover.promotion.result:
        return
    if result.outcome is Outcome.REFUSED:
        _refused(tx, failover, result.reason, result.text)
        return
    text = f"{tx.name(failover.candidate)} answered the promotion: {result.outcome.value}"
    if result.text:
        text += f" ({result.text})"
    tx.note(Kind.PROMOTE_ANSWER, text, outcome=result.outcome.value, reason=result.reason, host=failover.candidate)
    tx.mark("promote-answer")


def _refused(tx: Transaction, failover: Failover, reason: str, text: str) -> None:
    if reason in NEVER_BEGUN or tx.live.refusal_taken == _answered_at(tx, failover):
        return
    if failover.standstill.blocker in _OF_THE_SEND:
        return  # why it is not sent again goes before the last answer: two blockers that take turns are none
    if reason == NOT_ASKED:
        _not_asked(tx, failover, text)
        return
    # An answer is told once: what is found against the next sending stands until there is another answer.
    tx.change(PoolLive, refusal_taken=_answered_at(tx, failover))
    why = f"{tx.name(failover.candidate)} refused the promotion: {text or reason}"
    block(tx, failover, Blocker.PROMOTE_REFUSED, (failover.candidate, reason), why)


def _not_asked(tx: Transaction, failover: Failover, text: str) -> None:
    """Its xapi was not there: nothing began, and the order goes out again; after its time that is a blocker."""
    if tx.now - tx.live.phases.step_since >= tx.policy.promote_budget:
        tx.change(PoolLive, refusal_taken=_answered_at(tx, failover))
        _cannot_be_asked(tx, failover, text)


def _cannot_be_asked(tx: Transaction, failover: Failover, text: str) -> None:
    name = tx.name(failover.candidate)
    step = f"Look at {name}'s xapi; poolwarden restart-xapi {name}. The order is sent again by itself"
    why = f"{name} is to be promoted, and its xapi cannot be asked: {text}"
    block(tx, failover, Blocker.NOT_ASKED, (failover.candidate,), why, step)


def _resend(tx: Transaction, failover: Failover) -> None:
    """The order has no answer yet, or the last one undid itself. It may go out (again) only with the proof re-verified
    and the last look repeated.
    """
    agent, sent = tx.heard(failover.candidate), tx.sent(failover.promotion.order) if failover.promotion.order else None
    if agent is None:
        if tx.now - tx.live.phases.step_since >= tx.policy.promote_budget:
            why = f"{tx.name(failover.candidate)} was to be promoted and is not heard"
            step = of_a_silent_candidate(tx, failover)
            block(tx, failover, Blocker.UNVERIFIED, (failover.candidate, "not heard"), why, step)
        return
    if sent is not None and sent.stream == agent.stream and not _due_again(tx, sent):
        return
    if tx.quiet or behind(tx):
        return
    # safety: between the intent and this send the old master may have been powered on again, and have served: the
    # claims, the copies and the forecast are made anew as well as the proof and the look.
    if not renewed(tx, failover):
        return
    # safety: whoever is alive and not heard may have been promoted by somebody else since the intent.
    if not unheard_check.may_send(tx, failover):
        return
    if (gone := _outlived(tx, failover)) is not None:
        _not_again(tx, failover, gone)
        return
    proof = find_proof(tx, failover)
    if isinstance(proof, NoProof):
        if proof.code not in ("ONE_READING", "STALE"):
            why = f"the promotion is not sent again: {proof.why}"
            block(tx, failover, Blocker.PROOF_NOT_RENEWED, (failover.old_master, proof.code, *proof.subjects), why)
        return
    if not looked(tx, failover, proof):
        return
    refusal = last_look(tx, failover, proof)
    if refusal:
        block(tx, failover, Blocker.PROOF_NOT_RENEWED, (refusal.key,), f"the promotion is not sent again: {refusal}")
        return
    # What only the candidate's answer or its service ends stands over the sending.
    answered = (Blocker.UNVERIFIED,) if failover.promotion.result else ()
    if failover.standstill.blocker not in (Blocker.PROMOTE_REFUSED, Blocker.NOT_ASKED, *answered):
        unblock(tx)
    if failover.promotion.order:
        _note_process(tx, failover, agent)
        _send_promote(tx, tx.failover or failover)
    else:
        _once_more(tx, failover, proof)


def _outlived(pool: Snapshot, failover: Failover) -> Reason | None:
    """What the promotion stood on at its intent and does not any more; None: all of it still holds."""
    host, old = failover.candidate, failover.old_master
    if said := vetoes(pool):
        return Reason(Cause.ALIVE, f"the old master was seen alive by {said}", (old,))
    ranked = rank(pool, old, tuple(pool.live.claims.answers))
    own = next((r for r in ranked if r.host == host), None)
    if own is None:
        return Reason(Cause.UNLISTED, f"{pool.name(host)} is no host of this pool any more", (host,))
    if own.limitation is not None:
        return own.limitation.within(f"{own.name}: {own.limitation}")
    # Only hosts that would be chosen before it: one that was passed over has had its newer copy all the time.
    newer = [r for r in ranked[: ranked.index(own)] if r.generation > own.generation]
    if newer and failover.hold.handed_over is None:
        why = f"{newer[0].name} has a newer copy of the database now ({newer[0].generation})"
        return Reason(Cause.NEWER_COPY, why, (newer[0].host,))
    known = pool.record.hosts.get(old)
    if known is not None and known.boot_id != failover.old_boot and pool.heard(old) is None:
        return Reason(Cause.BOOTED, f"{pool.name(old)} was seen in another boot since the intent", (old,))
    return candidate_check.unaccepted(pool, failover, host)


_MAY_CHANGE = (Cause.KILLS, Cause.OLD_COPY, Cause.NEWER_COPY, Cause.FAR_COPY, Cause.UNSOUND, Cause.BOOTED)
_ASKABLE = (Cause.KILLS, Cause.OLD_COPY, Cause.FAR_COPY, Cause.UNSOUND)


def _not_again(tx: Transaction, failover: Failover, gone: Reason) -> None:
    """What it stood on is so no more: end where nothing has begun, ask where a yes can cover it, else wait."""
    if _never_began(tx, failover) and gone.code in _MAY_CHANGE:
        give_up(tx, failover, f"its promotion was never begun, and what it stood on is so no more: {gone}")
        return
    if gone.code in _ASKABLE and not candidate_check.allows(tx, failover, failover.candidate):
        return
    if gone.code is Cause.XAPI:
        _cannot_be_asked(tx, failover, gone.text)
        return
    name, step = tx.name(failover.candidate), ""
    if gone.code is not Cause.ALIVE:
        step = "It goes on by itself when that is over. "
        step += f"Or switch {name} off: {fenced_hosts.next_step(tx, (failover.candidate,))}"
    block(tx, failover, Blocker.PROOF_NOT_RENEWED, (gone.key,), f"the promotion is not sent again: {gone}", step)


def denied(tx: Transaction, failover: Failover, why: str) -> bool:
    """An operator's no after the intent: True if it ends the failover, because the order never began."""
    if not _never_began(tx, failover):
        return False
    give_up(tx, failover, f"its promotion was never begun, and {why}")
    return True


def _never_began(pool: Snapshot, failover: Failover) -> bool:
    """Is the candidate the member that it was, and can no copy of the order be obeyed any more?

    Its agent has said Hello since and knows of no such order, or has refused it; an order that was on its way has
    expired on the agent's own clock (ORDER_VALID_MS, counted from before it was sent).
    """
    agent = pool.heard(failover.candidate)
    if agent is None or failover.promotion.result or agent.facts.role.pool_conf is not Role.MEMBER:
        return False
    if agent.facts.role.serves_as_master or agent.facts.role.running is Role.MASTER:
        return False
    sent = pool.sent(failover.promotion.order)
    if sent is None:
        return pool.now - pool.site.started_at >= ORDER_VALID_MS + RESEND_AFTER_MS
    if sent.result is not None:
        return sent.result.outcome is Outcome.REFUSED
    return sent.stream != agent.stream and pool.now - sent.at >= ORDER_VALID_MS + RESEND_AFTER_MS


def give_up(tx: Transaction, failover: Failover, why: str) -> None:
    """The order never began, and can never be obeyed: end at a new term, and let everything be decided anew."""
    abort(tx, why)
    # safety: a copy of the order that is still in a buffer somewhere meets a higher term behind it.
    target = Target(failover.old_master, tx.record.address_of(failover.old_master))
    tx.send(tx.fresh_id("outlived"), failover.candidate, Claim(target, want_placements=False), ORDER_VALID_MS)


def _note_process(tx: Transaction, failover: Failover, agent: AgentState) -> None:
    """A member's xapi that was started since the intent is the one that takes the role."""
    role, process = agent.facts.role, agent.facts.xapi.process
    member = role.pool_conf is Role.MEMBER and role.running is not Role.MASTER
    if not member or not process or process == failover.promotion.process:
        return
    anew = "its xapi was started anew as a member since"
    text = f"promoting {tx.name(failover.candidate)} at term {failover.term}: {anew}"
    facts = {"host": failover.candidate, "order": failover.promotion.order}
    tx.note(Kind.PROMOTE_INTENT, text, **facts, pid=process.pid, start_ticks=process.start_ticks)


def _once_more(tx: Transaction, failover: Failover, proof: Proof) -> None:
    """A promotion that undid itself: a proof of its own, then another order."""
    text = f"proof ({proof.kind.word}) for attempt {failover.promotion.attempt}"
    facts = dict(proof.facts)
    tx.note(Kind.PROOF, text, kind=proof.kind.word, old_master=proof.host, boot_id=proof.boot_id, facts=facts)
    intend(tx, tx.failover or failover, proof)


def _due_again(pool: Snapshot, sent: Sent) -> bool:
    answered = sent.result is not None  # the caller has seen that nothing has come of it
    since = sent.answered_at if answered and sent.answered_at is not None else sent.at
    return pool.now - since >= (RESEND_AFTER_MS if answered else ORDER_VALID_MS + RESEND_AFTER_MS)


def _serves(pool: Snapshot, failover: Failover) -> bool:
    """Verified: pool.conf, then a new process, then an answer on TCP, then a login that finds itself master."""
    agent = pool.heard(failover.candidate)
    if agent is None:
        return False
    f = agent.facts
    return (
        f.role.pool_conf is Role.MASTER
        and bool(f.xapi.process)
        and f.xapi.process != failover.promotion.process
        and f.xapi.liveness is Liveness.ANSWERS
        and f.role.serves_as_master
    )


def _promoted(tx: Transaction, failover: Failover, seen: str) -> None:
    unblock(tx)
    name, address = tx.name(failover.candidate), tx.record.address_of(failover.candidate)
    tx.mark("promoted")
    text = f"{name} ({address}) is the master now: pool.conf, a new xapi process, TCP and its own login agree"
    _takes_over(tx, failover, text, seen)


def _takes_over(tx: Transaction, failover: Failover, text: str, seen: str) -> None:
    """The candidate is the master on record, and the old one is owed what keeps it from acting as one."""
    name, address = tx.name(failover.candidate), tx.record.address_of(failover.candidate)
    tx.note(Kind.PROMOTED, text, host=failover.candidate, name=name, address=address, seen=seen)
    promotion_witness.forget(tx)
    old = failover.old_master
    forget(tx, old)
    mastership.begins(tx)
    backoff.end_aborts(tx)
    owe_removals(tx, failover, failover.candidate)
    if failover.path is Path.ROLES:
        _mark_the_silent(tx, failover)
    if not old or old == failover.candidate:
        return
    mark = f"{tx.name(old)} is owed its tombstone: it must not act as master when it returns"
    tx.note(Kind.OWED, mark, host=old, what=OwedWork.TOMBSTONE.value, successor=failover.candidate)
    if failover.hold.order:
        release = f"{tx.name(old)} is owed its release as a member: its toolstack is held"
        tx.note(Kind.OWED, release, host=old, what=OwedWork.RELEASE.value, successor=failover.candidate)


def _mark_the_silent(tx: Transaction, failover: Failover) -> None:
    """Who was off when nobody was master may have been it: nothing but a tombstone tells it when it comes back."""
    for host in sorted(tx.record.hosts, key=tx.name):
        if tx.heard(host) is None and host != failover.candidate:
            text = f"{tx.name(host)} is owed a tombstone: it was silent, and may have been the master"
            tx.note(Kind.OWED, text, host=host, what=OwedWork.TOMBSTONE.value, successor=failover.candidate)
