"""The failover: one journaled succession, advanced from what is durable and what is heard.

Theory
------
The durable part (``record.Failover``) says how far the succession is; everything else is heard again. ``advance`` looks
at both and does the next thing that is due, whether it is the first time or after a restart at any point: there is no
other recovery. The table ``STEPS`` below names the function of each step, ``transitions.TRANSITIONS`` every move
between steps; an unknown step is a KeyError, not a guess.

    DECIDED -> CLAIMED -> CANDIDATE -> FENCED -> PROVED -> PROMOTING -> PROMOTED -> CLOSED
       \\____________________________________________/          \\-> SUPERSEDED
                        \\-> ABORTED (a new term, no cool-down)

The old master is made harmless on one of three paths: it is switched off (*power*), its toolstack is held by its own
agent (*toolstack*), or every host of the pool says that there is none (*roles*).

Invariants
----------
* Up to PROVED everything can be undone, and each pass first asks whether it must be (``_must_end``).
* PROMOTING names one candidate for good. The order is sent only with a proof verified in this very pass, again before
  every re-send; it carries one id, so that however often it arrives the host promotes once.
* Nobody is promoted because time has passed: time only ends waits in a block that names its reason.
"""

from __future__ import annotations

from collections.abc import Callable

from poolwarden.assumptions import POWER
from poolwarden_collector.core.decision import fencing_stakes, questions, takeover
from poolwarden_collector.core.decision.candidate_ranking import Ranked, rank
from poolwarden_collector.core.decision.permission import behind, blind, deposed, needs_approval
from poolwarden_collector.core.decision.standstill import block, unblock
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.devices.power_view import tries, view
from poolwarden_collector.core.evidence import assumptions, fenced_hosts
from poolwarden_collector.core.evidence.evidence_lines import lines
from poolwarden_collector.core.evidence.proof import NoProof, find_proof
from poolwarden_collector.core.evidence.signs import loops_on, restless, suspected, unsuperseded_masters
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import candidate_check, claim_round, ending, member_return, unheard_check
from poolwarden_collector.core.failover import last_look as looks
from poolwarden_collector.core.failover.claims import claims_ready, moments
from poolwarden_collector.core.failover.ending import abort, superseded
from poolwarden_collector.core.failover.last_look import begin_look, last_look, looked
from poolwarden_collector.core.failover.power_off import advance_power_off, failed_attempts, pending
from poolwarden_collector.core.failover.promotion import intend, promoting
from poolwarden_collector.core.failover.toolstack_fence import fence, handover_due
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import phases
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Path, Step
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.pool_record import HostRecord
from poolwarden_collector.core.state.question_record import Needs
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
IN_VAIN_GAP_MS: Ms = 5_000  # a hold that nobody has found unproven for so long was waiting for something else
HELD_REPORTED_MS: Ms = 10_000  # until a held agent has reported that nothing runs any more
# A server's firmware, kernel and xapi take about two minutes; one that was only restarted says so within this.
SUCCESSOR_TIME_MS: Ms = 150_000


def decide(tx: Transaction, why: str, path: Path = Path.POWER) -> None:
    """Open a failover: the next term, the old master, its boot, the whole evidence.

    On the *roles* path there is no old master: every host is a candidate, the former one too.
    """
    # safety: a hold that is not this failover's, and what may lie under it, is owed its end before anything is decided.
    ending.give_up(tx, "a failover is decided")
    master = suspected(tx) if path is not Path.ROLES else ""
    known = tx.record.hosts.get(master) or HostRecord(master, "nobody")
    term = tx.record.term + 1
    number = tx.record.failovers + 1
    # The term makes the id unique over a lost journal: agents keep the results of long ago, and terms never fall there.
    identity = f"{tx.record.pool[:8]}-{number}.{term}"
    data = {
        "old_master": master,
        "old_master_name": known.name,
        "old_boot": known.boot_id,
        "old_machine": known.system_uuid,
        "path": path.value,
        "epoch": tx.site.epoch,
        "restless": restless(tx, master),
        "loops": loops_on(tx, master),
        "why": why,
        "evidence": [
            {"subject": e.subject, "value": e.value, "age_ms": e.age_ms, "witness": e.witness, "text": e.text}
            for e in lines(tx)
        ],
        "candidates": [r.text for r in rank(tx, master, None)],
    }
    whom = f"{known.name} is to be succeeded" if master else "the pool has no master"
    text = f"failover {identity} decided at term {term}: {whom} ({why})"
    claim_round.forget(tx)
    looks.drop(tx)
    phases.failover_begins(tx)
    tx.write(Entry(Kind.DECIDED, text, data, identity, term))
    tx.mark("decided")


def advance(tx: Transaction, verdict: Verdict) -> None:
    """Do what is due in the open failover, as far as it goes in this pass."""
    for _ in range(len(Step)):
        failover = tx.failover
        if failover is None or hold_reason(tx, failover, verdict):
            if failover is not None:
                _say_pause(tx, failover)
            return
        if failover.step in REVERSIBLE and (_must_end(tx, failover, verdict) or not _approved(tx, failover)):
            return
        if failover.step in REVERSIBLE and not unheard_check.may_go_on(tx, tx.failover or failover):
            return
        STEPS[failover.step](tx, failover)
        after = tx.record.failover
        if after is None or after.step is failover.step:
            return
        phases.step_begins(tx)


def _say_pause(tx: Transaction, failover: Failover) -> None:
    """A failover that a person has stopped says so, once."""
    if tx.record.paused is not None and not failover.standstill.blocker:
        why = f"the pool is paused: {tx.record.paused}"
        step = f"poolwarden resume {tx.record.display_name}: then it is judged anew and goes on."
        block(tx, failover, Blocker.PAUSED, (), why, step)


def hold_reason(pool: Snapshot, failover: Failover, verdict: Verdict) -> str:
    """Why the open failover must stand still, undecided either way; empty if it may go on."""
    if pool.record.paused is not None:
        return f"the pool is paused: {pool.record.paused}"
    if pool.policy.mode == "observe" and failover.step in REVERSIBLE and failover.human is None:
        return "the pool's mode is observe"
    if verdict is Verdict.HA_MANAGED and failover.step not in REVERSIBLE:
        return "xapi's HA is armed"
    if why := deposed(pool):
        return why.text
    if failover.step in REVERSIBLE:
        if pool.quiet:
            return takeover.quiet(pool)
        if pool.site.young and (braked := blind(pool)):
            return braked.text
        if late := behind(pool):
            return late.text
        waiting = verdict is Verdict.UNWITNESSED and failover.human is None
        if waiting or verdict.entails.undecided:
            return f"the verdict is {verdict.word}: not enough is heard to go on or to give up"
    return ""


def _grounded(pool: Snapshot, failover: Failover, verdict: Verdict) -> bool:
    """Does the verdict still carry the decision?"""
    if verdict is Verdict.UNWITNESSED and failover.human is not None:
        return True
    if verdict is Verdict.POOL_SPLIT and failover.path is Path.TOOLSTACK:
        return pool.policy.relocate_split
    return failover.path in verdict.entails.carries


def ungrounded(pool: Snapshot, failover: Failover, verdict: Verdict) -> str:
    """Why the verdict does not carry the decision any more; empty if it does."""
    return "" if _grounded(pool, failover, verdict) else f"the pool is {verdict.word} now: {verdict.meaning}"


def _must_end(tx: Transaction, failover: Failover, verdict: Verdict) -> bool:
    """Give up, with the reason, where the ground of the decision is gone. True if it ended."""
    others = [host for host in unsuperseded_masters(tx) if host != failover.old_master]
    agent = tx.agent(failover.old_master)
    if others:
        superseded(tx, others[0])
    elif tx.record.term > failover.term:
        abort(tx, f"the pool's term is {tx.record.term} now, this failover's is {failover.term}")
    elif gone := ungrounded(tx, failover, verdict):
        abort(tx, gone)
    elif agent is not None and agent.hello.boot_id != failover.old_boot:
        abort(tx, f"{tx.name(failover.old_master)} has booted anew")
    else:
        return False
    return True


def _approved(tx: Transaction, failover: Failover) -> bool:
    """Mode ask: somebody's word, given in this run and not too long ago; else it is asked (again)."""
    if questions.approved(tx, failover):
        if failover.standstill.blocker is Blocker.UNAPPROVED:
            unblock(tx)
        return True
    if tx.policy.mode == "observe":
        # No yes carries it in this mode; the word that decided it is from before this run, and is asked for again.
        name = tx.name(failover.old_master)
        why = f"the pool's mode is observe, and the word about {name} is from before this collector's start"
        step = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}"
        block(tx, failover, Blocker.NEEDS_HUMAN, (failover.old_master, "observe"), why, step)
        return False
    what = f"failover {failover.id} goes on only with an operator's word: the pool's mode is {tx.policy.mode}"
    kind = Ask.TOOLSTACK if failover.path is Path.TOOLSTACK else Ask.FAILOVER
    others = (word.key,) if (word := needs_approval(tx)) is not None else ()
    at = (f"it stands at step {failover.step.value}",)
    questions.ask(tx, kind, failover.old_master, what, at, path=failover.path.value, others=others)
    return False


# ------------------------------------------------------------------------------------------------ claim


def _claim(tx: Transaction, failover: Failover) -> None:
    if not claims_ready(tx, failover):
        return
    hosts = sorted(tx.live.claims.answers, key=tx.name)
    names = ", ".join(tx.name(host) for host in hosts)
    seen = "answered, but for a moment between two of its processes" if moments(tx) else "answered"
    text = f"claimed at term {failover.term} by {names}; nobody's look at the old master was {seen}"
    tx.note(Kind.CLAIMED, text, hosts=hosts)
    tx.mark("claimed")


# ------------------------------------------------------------------------------------------------ candidate


def unblock_claims(tx: Transaction) -> None:
    """Claims are in: a blocker that named their absence is over."""
    if tx.failover is not None and tx.failover.standstill.blocker is Blocker.NO_CLAIM:
        unblock(tx)


def _choose(tx: Transaction, failover: Failover) -> None:
    if not claims_ready(tx, failover):
        return
    unblock_claims(tx)
    ranked = rank(tx, failover.old_master, tuple(tx.live.claims.answers))
    eligible = [r for r in ranked if not r.limitation]
    if not eligible:
        why = "; ".join(r.text for r in ranked) or "the pool has no other host"
        subjects = sorted(f"{r.host}/{r.limitation.key}" for r in ranked if r.limitation is not None)
        block(tx, failover, Blocker.NO_CANDIDATE, subjects, why, "Mend one of these; the failover goes on by itself.")
        return
    best = eligible[0]
    if best.superseded and _successor_may_return(tx, failover):
        old = tx.name(failover.old_master)
        why = f"{best.name} was superseded by {old} and not attached since: what is newer is on {old}"
        step = f"waits {SUCCESSOR_TIME_MS / 1000:.0f} s for {old} to come back"
        block(tx, failover, Blocker.SUPERSEDED_COPY, (best.host,), why, step, alert=False)
        return
    if not candidate_check.allows(tx, failover, best.host):
        return
    unblock(tx)
    due = failover.path is Path.TOOLSTACK and handover_due(tx, failover, best.host)
    accepted = questions.accepted_kills(tx, failover)
    kills = f"at most {accepted} running VMs are killed, as accepted" if accepted else "no running VM would be killed"
    kills = "what would be killed is told after the handover" if due else kills
    tx.note(
        Kind.CANDIDATE,
        f"candidate: {best.name}, database generation {best.generation}, {kills}",
        host=best.host,
        generation=best.generation,
        ranking=[r.text for r in ranked],
    )
    tx.mark("candidate")


def _successor_may_return(pool: Snapshot, failover: Failover) -> bool:
    """Is the old master still given the time of a boot? Not where a person has said that it is off, or approved."""
    spoken = failover.human is not None or failover.approval is not None
    return (
        not spoken and pool.now - pool.live.phases.marks.get("decided", pool.live.phases.step_since) < SUCCESSOR_TIME_MS
    )


def _candidate_stands(tx: Transaction, failover: Failover) -> bool:
    """Is the chosen candidate still fit? A lost one is replaced while nothing irreversible has happened."""
    if not claims_ready(tx, failover):
        return False
    unblock_claims(tx)
    ranked = rank(tx, failover.old_master, tuple(tx.live.claims.answers))
    own = next((r for r in ranked if r.host == failover.candidate), None)
    if own is not None and not own.limitation and not _another_is_sound(failover, own, ranked):
        return candidate_check.allows(tx, failover, failover.candidate)
    again = tx.live.claims.asked_again.get(failover.candidate)
    unanswered = failover.candidate not in tx.live.claims.answers and tx.heard(failover.candidate) is not None
    if unanswered and again is not None and tx.now - again < 3 * tx.policy.claim_wait:
        return False  # its database has just changed (a handover's has), and it has been asked about the new one
    _choose(tx, failover)
    return False


def _another_is_sound(failover: Failover, own: Ranked, ranked: tuple[Ranked, ...]) -> bool:
    """Has the candidate's copy turned out not to be sound, while another one is? Not after a handover."""
    given = failover.hold.handed_over or {}
    handed = given.get("target") == own.host and given.get("placed")
    return own.unsound is not None and not handed and not ranked[0].limitation and ranked[0].unsound is None


# ------------------------------------------------------------------------------------------------ fence and proof


def _fence(tx: Transaction, failover: Failover) -> None:
    """Step CANDIDATE: stop the old master, or find it off; nothing here makes a proof yet."""
    if pending(tx, failover) or not _candidate_stands(tx, failover):
        return
    failover = tx.failover or failover
    if failover.path is Path.TOOLSTACK and tx.heard(failover.old_master) is not None:
        if not fence(tx, failover):
            return
        text = f"the toolstack of {tx.name(failover.old_master)} is held; its VMs run on"
    elif failover.path is Path.ROLES:
        text = "there is no master to be fenced"
    else:
        proof = find_proof(tx, failover)
        if isinstance(proof, NoProof) and proof.code not in ("ONE_READING", "STALE"):
            _without_proof(tx, failover, proof)
            return
        text = view(tx, failover.old_master).why if failover.human is None else "an operator says that it is safe"
    unblock(tx)
    tx.note(Kind.FENCED, f"fenced: {text}", path=failover.path.value)
    tx.mark("fenced")


def _prove(tx: Transaction, failover: Failover) -> None:
    """Steps FENCED and PROVED: a proof made now, a fresh look after it, and in the same pass the intent."""
    if pending(tx, failover) or not _candidate_stands(tx, failover):
        return
    failover = tx.failover or failover
    proof = find_proof(tx, failover)
    if isinstance(proof, NoProof):
        if not _held_in_vain(tx, failover):
            _without_proof(tx, failover, proof)
        return
    if not candidate_check.proof_allows(tx, failover, proof) or not looked(tx, failover, proof):
        return
    refusal = last_look(tx, failover, proof)
    if refusal:
        if not _held_in_vain(tx, failover):
            block(tx, failover, Blocker.LAST_LOOK, (refusal.key,), refusal.text)
        return
    unblock(tx)
    if failover.step is Step.FENCED:
        text = f"proof ({proof.kind.word}): {proof.kind.sentence(tx.name(proof.host), proof.facts)}"
        facts = dict(proof.facts)
        tx.note(Kind.PROOF, text, kind=proof.kind.word, old_master=proof.host, boot_id=proof.boot_id, facts=facts)
        tx.mark("proof")
    intend(tx, tx.failover or failover, proof)


def _held_in_vain(tx: Transaction, failover: Failover) -> bool:
    """A master whose toolstack is held and whose agent is heard gets its xapi back where the hold comes to nothing.

    Else the pool would stand without a master for as long as nobody sees its port closed, and nobody can give his word
    that a host is off whose agent is heard. Only the time counts in which nothing but the proof is missing: while a
    person is asked, or has paused the pool, it is his to go on.
    """
    old, asked = failover.old_master, tx.record.question
    if failover.path is not Path.TOOLSTACK or tx.heard(old) is None:
        return False
    if asked is not None and asked.failover == failover.id:
        return False
    since, last = tx.live.in_vain
    since = since if tx.now - last <= IN_VAIN_GAP_MS else tx.now
    tx.change(PoolLive, in_vain=(since, tx.now))
    if tx.now - since < tx.policy.toolstack_budget:
        return False
    why = failover.standstill.why or "nothing proves that it can do no harm"
    abort(tx, f"the toolstack of {tx.name(old)} was held for {(tx.now - since) / 1000:.0f} s in vain: {why}")
    return True


def _without_proof(tx: Transaction, failover: Failover, refusal: NoProof) -> None:
    """No proof yet: wait for the next reading, shoot if policy says so, or ask a person."""
    if refusal.code in ("ONE_READING", "STALE"):
        return
    if refusal.code in ("NO_PROBE", "NO_PROBER") and _look_again(tx, failover):
        return
    if failover.path is Path.ROLES:
        subjects = (refusal.code, *refusal.subjects)
        silent = [host for host in tx.record.hosts if not tx.heard(host) and not fenced_hosts.excused(tx, host)]
        step = fenced_hosts.next_step(tx, silent) if silent else ""
        why = f"it is not certain that nobody is master: {refusal.why}"
        block(tx, failover, Blocker.NOT_EVERYBODY, subjects, why, step)
        return
    power = view(tx, failover.old_master)
    if power.power is Power.ON and questions.may_shoot(tx, failover) and advance_power_off(tx, failover):
        if failover.standstill.blocker is Blocker.NEEDS_HUMAN:
            unblock(tx)  # it could not be read before; now it can, and is given its patience
        return
    name = tx.name(failover.old_master)
    say = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}"
    if refusal.code == "POWER_ON" and failed_attempts(failover):
        tried = (failover.old_master, len(failover.fencing.attempts), len(failover.fencing.unbegun))
        block(tx, failover, Blocker.POWER_ON, tried, f"{power.why}: {failed_attempts(failover)}", say)
    elif refusal.code == "POWER_ON" and (foreign := device_binding.unusable(tx, failover.old_master)):
        why = f"{power.why}, and {foreign}"
        block(tx, failover, Blocker.POWER_ON, (failover.old_master, foreign.key), why, f"{say} --despite-power-on")
    elif refusal.code == "POWER_ON":
        old = failover.old_master
        at_stake, vms = fencing_stakes.of_shot(tx, old), fencing_stakes.vms(tx, old)
        unsure = assumptions.refusal(tx, old, POWER)
        failed = unsure.subjects if unsure is not None else ()
        at_stake = (unsure.text, *at_stake) if unsure is not None else at_stake
        what = fencing_stakes.shot(tx, old)
        questions.ask(tx, Ask.SHOOT, old, what, at_stake, Needs(shoot=True), others=vms, failed=failed)
    elif _may_come(tx, failover, refusal):
        return
    else:
        if failover.path is Path.TOOLSTACK and tx.heard(failover.old_master) is not None:
            # Nobody can give his word that a host is off whose agent is heard.
            say = f"After {tx.policy.toolstack_budget / 1000:.0f} s of it the hold is undone, and nobody is promoted"
        subjects = (failover.old_master, refusal.code, *refusal.subjects)
        block(tx, failover, Blocker.NEEDS_HUMAN, subjects, f"no proof that {name} is dead: {refusal.why}", say)


def _may_come(pool: Snapshot, failover: Failover, refusal: NoProof) -> bool:
    """May what is missing still come by itself: another reading, or a report of what was just stopped?"""
    if refusal.code == "NOT_STOPPED":
        return pool.now - pool.live.phases.step_since < HELD_REPORTED_MS
    return refusal.code in ("POWER_UNKNOWN", "UNBOUND") and not exhausted(pool, failover.old_master)


def _look_again(tx: Transaction, failover: Failover) -> bool:
    """A probe of the closed port is due: make it, and give it its time before its absence is a blocker."""
    look = tx.live.look.round
    if look is None or tx.now - look.at > tx.policy.look_wait:
        begin_look(tx, failover)
    return tx.now - tx.live.phases.step_since < 4 * tx.policy.look_wait


def exhausted(pool: Snapshot, host: HostId) -> bool:
    """Has every device been tried often enough to call its silence an answer of its own?"""
    devices = pool.devices(host)
    return not devices or tries(pool, host) >= pool.policy.unknown_readings


STEPS: dict[Step, Callable[[Transaction, Failover], None]] = {
    Step.DECIDED: _claim,
    Step.CLAIMED: _choose,
    Step.CANDIDATE: _fence,
    Step.FENCED: _prove,
    Step.PROVED: _prove,
    Step.PROMOTING: promoting,
    Step.PROMOTED: member_return.advance_members,
}
