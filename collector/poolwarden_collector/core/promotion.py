"""The promotion: intent, order, and verification by facts. From the intent on only one host can become master.

Rules
-----
* The order is sent only in a pass that has just verified the proof and taken the last look; for a re-send both are done
  again, because in between somebody may have powered the old master on.
* One order id: however often it arrives, the host promotes once.
* xapi's OK is not success: pool.conf, a new process, an answer on TCP and a login that finds itself master are.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import block, superseded, unblock
from poolwarden_collector.core.evidence import unowed_masters
from poolwarden_collector.core.facts import Liveness, Ms, Outcome, Role
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.live import Sent
from poolwarden_collector.core.look import last_look, looked
from poolwarden_collector.core.orders import Preconditions, Promote
from poolwarden_collector.core.power import forget
from poolwarden_collector.core.proof import Proof, Refusal, verify_human, verify_power
from poolwarden_collector.core.record import Failover

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000


def intend(d: Draft, failover: Failover, proof: Proof) -> None:
    agent = d.heard(failover.candidate)
    if agent is None or proof.host != failover.old_master:
        return
    order_id = f"{failover.id}/promote/{failover.candidate}"
    process = agent.facts.xapi.process
    d.note(
        Kind.PROMOTE_INTENT,
        f"promoting {d.name(failover.candidate)} at term {failover.term}: from here only this host",
        host=failover.candidate,
        order=order_id,
        pid=process.pid,
        start_ticks=process.start_ticks,
    )
    d.mark("promote-intent")
    _send_promote(d, d.failover or failover)


def _send_promote(d: Draft, failover: Failover) -> None:
    # safety: callers have verified the proof and taken the last look in this very pass; the gate refuses a lower term,
    # another boot, an armed HA and a tombstone, and answers a repeated id with its stored result.
    address = d.record.address_of(failover.old_master)
    preconditions = Preconditions(
        pool_conf_master_address=address,
        pool_conf_in=(Role.MEMBER,),
        ha_off=True,
        min_root_free_bytes=d.policy.min_root_free_bytes,
    )
    d.send(failover.promote_order, failover.candidate, Promote(), ORDER_VALID_MS, preconditions, failover.term)


def promoting(d: Draft, failover: Failover) -> None:
    """After the intent: learn the answer, verify by facts, send again only on a proof renewed now."""
    _learn_answer(d, failover)
    failover = d.failover or failover
    if _serves(d, failover):
        _promoted(d, failover)
        return
    if d.record.term > failover.term:
        why = f"the pool's term is {d.record.term} now, this failover's {failover.term}: its order is not sent any more"
        block(d, failover, "TERM_PASSED", why)
        return
    others = [host for host in unowed_masters(d) if host != failover.candidate]
    if others and _never_took_effect(d, failover):
        superseded(d, others[0])
        return
    if failover.promote_result in (Outcome.DONE.value, Outcome.FAILED.value, Outcome.UNKNOWN.value):
        _await_new_master(d, failover)
        return
    _resend(d, failover)


def _never_took_effect(d: Draft, failover: Failover) -> bool:
    """No answer at all, or a failure that left the candidate the member that it was."""
    if not failover.promote_result:
        return True
    agent = d.heard(failover.candidate)
    failed = failover.promote_result == Outcome.FAILED.value
    return failed and agent is not None and agent.facts.role.pool_conf is Role.MEMBER


def _learn_answer(d: Draft, failover: Failover) -> None:
    sent, agent = d.sent(failover.promote_order), d.agent(failover.candidate)
    result = sent.result if sent is not None else None
    if result is None and agent is not None:
        kept = [r for r in agent.hello.last_results if r.order_id == failover.promote_order]
        result = kept[0] if kept else None
    if result is None or result.outcome.value == failover.promote_result:
        return
    if result.outcome is Outcome.REFUSED:
        _refused(d, failover, result.reason, result.text)
        return
    text = f"{d.name(failover.candidate)} answered the promotion: {result.outcome.value}"
    if result.text:
        text += f" ({result.text})"
    d.note(Kind.PROMOTE_ANSWER, text, outcome=result.outcome.value, reason=result.reason, host=failover.candidate)
    d.mark("promote-answer")


def _refused(d: Draft, failover: Failover, reason: str, text: str) -> None:
    if reason in ("expired", "busy"):
        return
    block(d, failover, "PROMOTE_REFUSED", f"{d.name(failover.candidate)} refused the promotion: {text or reason}")


def _resend(d: Draft, failover: Failover) -> None:
    """The order has no answer yet. It may go out (again) only with the proof re-verified and the last look repeated."""
    agent, sent = d.heard(failover.candidate), d.sent(failover.promote_order)
    if agent is None:
        if d.now - d.live.step_since >= d.policy.promote_budget:
            block(d, failover, "UNVERIFIED", f"{d.name(failover.candidate)} was to be promoted and is not heard")
        return
    if sent is not None and sent.stream == agent.stream and not _due_again(d, sent):
        return
    if d.quiet:
        return
    # safety: between the intent and this send the old master may have been powered on again: prove anew, look anew.
    proof = _prove_anew(d, failover)
    if isinstance(proof, Refusal):
        if proof.code not in ("ONE_READING", "STALE"):
            block(d, failover, "PROOF_NOT_RENEWED", f"the promotion is not sent again: {proof.why}")
        return
    if not looked(d, failover, proof):
        return
    refusal = last_look(d, failover)
    if refusal:
        block(d, failover, "PROOF_NOT_RENEWED", f"the promotion is not sent again: {refusal}")
        return
    if failover.blocked != "BLOCKED_PROMOTE_REFUSED":
        unblock(d)
    _send_promote(d, d.failover or failover)


def _due_again(d: Draft, sent: Sent) -> bool:
    refused = sent.result is not None and sent.result.outcome is Outcome.REFUSED
    since = sent.answered_at if refused and sent.answered_at is not None else sent.at
    return d.now - since >= (RESEND_AFTER_MS if refused else ORDER_VALID_MS + RESEND_AFTER_MS)


def _prove_anew(d: Draft, failover: Failover) -> Proof | Refusal:
    """The recorded proof's kind, made again from evidence of this run; what was recorded is never taken on trust."""
    proof = failover.proof
    if proof is not None and proof.kind == "human":
        return verify_human(d, failover.old_master, failover.old_boot, failover.human)
    return verify_power(d, failover.old_master, failover.old_boot)


def _serves(d: Draft, failover: Failover) -> bool:
    """Verified: pool.conf, then a new process, then an answer on TCP, then a login that finds itself master."""
    agent = d.heard(failover.candidate)
    if agent is None:
        return False
    f = agent.facts
    return (
        f.role.pool_conf is Role.MASTER
        and bool(f.xapi.process)
        and f.xapi.process != failover.candidate_process
        and f.xapi.liveness is Liveness.ANSWERS
        and f.role.serves_as_master
    )


def _await_new_master(d: Draft, failover: Failover) -> None:
    if d.now - d.live.step_since < d.policy.promote_budget:
        return
    agent = d.heard(failover.candidate)
    name = d.name(failover.candidate)
    if agent is None:
        why = f"{name} was promoted and is not heard"
    elif agent.facts.role.pool_conf is not Role.MASTER:
        why = f"{name} answered the promotion with {failover.promote_result}, but its pool.conf does not say master"
    elif agent.facts.xapi.process == failover.candidate_process:
        why = f"{name} accepted the promotion, but its xapi has not restarted"
    else:
        why = f"{name}'s new xapi does not serve as master yet (TCP {agent.facts.xapi.liveness.value})"
    step = f"Nobody else is promoted. Look at {name}'s xapi; poolwarden restart-xapi {name}"
    block(d, failover, "UNVERIFIED", why, step)


def _promoted(d: Draft, failover: Failover) -> None:
    unblock(d)
    name, address = d.name(failover.candidate), d.record.address_of(failover.candidate)
    d.mark("promoted")
    text = f"{name} ({address}) is the master now: pool.conf, a new xapi process, TCP and its own login agree"
    d.note(Kind.PROMOTED, text, host=failover.candidate, name=name, address=address)
    old = failover.old_master
    forget(d, old)
    d.change(master_since=d.now)
    d.note(
        Kind.OWED,
        f"{d.name(old)} is owed its tombstone: it must not act as master when it returns",
        host=old,
        what="tombstone",
        successor=failover.candidate,
    )
