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

from poolwarden_collector.core.decision import fencing_stakes, questions
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.permission import behind, deposed, needs_approval
from poolwarden_collector.core.decision.standstill import block, unblock
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.devices.power_view import tries, view
from poolwarden_collector.core.evidence import fenced_hosts
from poolwarden_collector.core.evidence.evidence_lines import lines
from poolwarden_collector.core.evidence.proof import NoProof, find_proof
from poolwarden_collector.core.evidence.signs import restless, suspected, unsuperseded_masters
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import candidate_check, ending, member_return, unheard_check
from poolwarden_collector.core.failover.claims import claims_ready
from poolwarden_collector.core.failover.ending import abort, superseded
from poolwarden_collector.core.failover.last_look import begin_look, last_look, looked
from poolwarden_collector.core.failover.power_off import advance_power_off, failed_attempts, pending
from poolwarden_collector.core.failover.promotion import intend, promoting
from poolwarden_collector.core.failover.toolstack_fence import fence, handover_due
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Path, Step
from poolwarden_collector.core.state.pool_record import HostRecord
from poolwarden_collector.core.state.question_record import Ask, Needs
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
IN_VAIN_GAP_MS: Ms = 5_000  # a hold that nobody has found unproven for so long was waiting for something else
HELD_REPORTED_MS: Ms = 10_000  # until a held agent has reported that nothing runs any more
# A server's firmware, kernel and xapi take about two minutes; one that was only restarted says so within this.
SUCCESSOR_TIME_MS: Ms = 150_000


def decide(d: Transaction, why: str, path: Path = Path.POWER) -> None:
    """Open a failover: the next term, the old master, its boot, the whole evidence.

    On the *roles* path there is no old master: every host is a candidate, the former one too.
    """
    # safety: a hold that is not this failover's, and what may lie under it, is owed its end before anything is decided.
    ending.give_up(d, "a failover is decided")
    master = suspected(d) if path is not Path.ROLES else ""
    known = d.record.hosts.get(master) or HostRecord(master, "nobody")
    term = d.record.term + 1
    number = d.record.failovers + 1
    # The term makes the id unique over a lost journal: agents keep the results of long ago, and terms never fall there.
    identity = f"{d.record.pool[:8]}-{number}.{term}"
    data = {
        "old_master": master,
        "old_master_name": known.name,
        "old_boot": known.boot_id,
        "old_machine": known.system_uuid,
        "path": path.value,
        "epoch": d.site.epoch,
        "restless": restless(d, master),
        "why": why,
        "evidence": [
            {"subject": e.subject, "value": e.value, "age_ms": e.age_ms, "witness": e.witness, "text": e.text}
            for e in lines(d)
        ],
        "candidates": [r.text for r in rank(d, master, None)],
    }
    whom = f"{known.name} is to be succeeded" if master else "the pool has no master"
    text = f"failover {identity} decided at term {term}: {whom} ({why})"
    silent = {phase: at for phase, at in d.live.marks.items() if phase == "silent"}
    d.change(claims={}, claims_since=None, look=None, marks=silent, step_since=d.now)
    d.write(Entry(Kind.DECIDED, text, data, identity, term))
    d.mark("decided")


def advance(d: Transaction, verdict: Verdict) -> None:
    """Do what is due in the open failover, as far as it goes in this pass."""
    for _ in range(len(Step)):
        failover = d.failover
        if failover is None or hold_reason(d, failover, verdict):
            if failover is not None:
                _say_pause(d, failover)
            return
        if failover.step in REVERSIBLE and (_must_end(d, failover, verdict) or not _approved(d, failover)):
            return
        if failover.step in REVERSIBLE and not unheard_check.may_go_on(d, d.failover or failover):
            return
        STEPS[failover.step](d, failover)
        after = d.record.failover
        if after is None or after.step is failover.step:
            return
        d.change(step_since=d.now)


def _say_pause(d: Transaction, failover: Failover) -> None:
    """A failover that a person has stopped says so, once."""
    if d.record.paused is not None and not failover.blocked:
        why = f"the pool is paused: {d.record.paused}"
        step = f"poolwarden resume {d.record.name or d.record.pool}: then it is judged anew and goes on."
        block(d, failover, Blocker.PAUSED, (), why, step)


def hold_reason(d: Snapshot, failover: Failover, verdict: Verdict) -> str:
    """Why the open failover must stand still, undecided either way; empty if it may go on."""
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if d.policy.mode == "observe" and failover.step in REVERSIBLE and failover.human is None:
        return "the pool's mode is observe"
    if verdict is Verdict.HA_MANAGED and failover.step not in REVERSIBLE:
        return "xapi's HA is armed"
    if why := deposed(d):
        return why.text
    if failover.step in REVERSIBLE:
        if d.quiet:
            return "start-up quiet time"
        if late := behind(d):
            return late.text
        waiting = verdict is Verdict.UNWITNESSED and failover.human is None
        if waiting or verdict.entails.undecided:
            return f"the verdict is {verdict.word}: not enough is heard to go on or to give up"
    return ""


def _grounded(d: Snapshot, failover: Failover, verdict: Verdict) -> bool:
    """Does the verdict still carry the decision?"""
    if verdict is Verdict.UNWITNESSED and failover.human is not None:
        return True
    if verdict is Verdict.POOL_SPLIT and failover.path is Path.TOOLSTACK:
        return d.policy.relocate_split
    return failover.path in verdict.entails.carries


def ungrounded(d: Snapshot, failover: Failover, verdict: Verdict) -> str:
    """Why the verdict does not carry the decision any more; empty if it does."""
    return "" if _grounded(d, failover, verdict) else f"the pool is {verdict.word} now: {verdict.meaning}"


def _must_end(d: Transaction, failover: Failover, verdict: Verdict) -> bool:
    """Give up, with the reason, where the ground of the decision is gone. True if it ended."""
    others = [host for host in unsuperseded_masters(d) if host != failover.old_master]
    agent = d.agent(failover.old_master)
    if others:
        superseded(d, others[0])
    elif d.record.term > failover.term:
        abort(d, f"the pool's term is {d.record.term} now, this failover's is {failover.term}")
    elif gone := ungrounded(d, failover, verdict):
        abort(d, gone)
    elif agent is not None and agent.hello.boot_id != failover.old_boot:
        abort(d, f"{d.name(failover.old_master)} has booted anew")
    else:
        return False
    return True


def _approved(d: Transaction, failover: Failover) -> bool:
    """Mode ask: somebody's word, given in this run and not too long ago; else it is asked (again)."""
    if questions.approved(d, failover):
        if failover.blocked is Blocker.UNAPPROVED:
            unblock(d)
        return True
    if d.policy.mode == "observe":
        # No yes carries it in this mode; the word that decided it is from before this run, and is asked for again.
        name = d.name(failover.old_master)
        why = f"the pool's mode is observe, and the word about {name} is from before this collector's start"
        step = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}"
        block(d, failover, Blocker.NEEDS_HUMAN, (failover.old_master, "observe"), why, step)
        return False
    what = f"failover {failover.id} goes on only with an operator's word: the pool's mode is {d.policy.mode}"
    kind = Ask.TOOLSTACK if failover.path is Path.TOOLSTACK else Ask.FAILOVER
    others = (word.key,) if (word := needs_approval(d)) is not None else ()
    at = (f"it stands at step {failover.step.value}",)
    questions.ask(d, kind, failover.old_master, what, at, path=failover.path.value, others=others)
    return False


# ------------------------------------------------------------------------------------------------ claim


def _claim(d: Transaction, failover: Failover) -> None:
    if not claims_ready(d, failover):
        return
    hosts = sorted(d.live.claims, key=d.name)
    names = ", ".join(d.name(host) for host in hosts)
    text = f"claimed at term {failover.term} by {names}; nobody's look at the old master was answered"
    d.note(Kind.CLAIMED, text, hosts=hosts)
    d.mark("claimed")


# ------------------------------------------------------------------------------------------------ candidate


def unblock_claims(d: Transaction) -> None:
    """Claims are in: a blocker that named their absence is over."""
    if d.failover is not None and d.failover.blocked is Blocker.NO_CLAIM:
        unblock(d)


def _choose(d: Transaction, failover: Failover) -> None:
    if not claims_ready(d, failover):
        return
    unblock_claims(d)
    ranked = rank(d, failover.old_master, tuple(d.live.claims))
    eligible = [r for r in ranked if not r.limitation]
    if not eligible:
        why = "; ".join(r.text for r in ranked) or "the pool has no other host"
        subjects = sorted(f"{r.host}/{r.limitation.key}" for r in ranked if r.limitation is not None)
        block(d, failover, Blocker.NO_CANDIDATE, subjects, why, "Mend one of these; the failover goes on by itself.")
        return
    best = eligible[0]
    if best.superseded and _successor_may_return(d, failover):
        old = d.name(failover.old_master)
        why = f"{best.name} was superseded by {old} and not attached since: what is newer is on {old}"
        step = f"waits {SUCCESSOR_TIME_MS / 1000:.0f} s for {old} to come back"
        block(d, failover, Blocker.SUPERSEDED_COPY, (best.host,), why, step, alert=False)
        return
    if not candidate_check.allows(d, failover, best.host):
        return
    unblock(d)
    due = failover.path is Path.TOOLSTACK and handover_due(d, failover, best.host)
    accepted = questions.accepted_kills(d, failover)
    kills = f"at most {accepted} running VMs are killed, as accepted" if accepted else "no running VM would be killed"
    kills = "what would be killed is told after the handover" if due else kills
    d.note(
        Kind.CANDIDATE,
        f"candidate: {best.name}, database generation {best.generation}, {kills}",
        host=best.host,
        generation=best.generation,
        ranking=[r.text for r in ranked],
    )
    d.mark("candidate")


def _successor_may_return(d: Snapshot, failover: Failover) -> bool:
    """Is the old master still given the time of a boot? Not where a person has said that it is off, or approved."""
    spoken = failover.human is not None or failover.approval is not None
    return not spoken and d.now - d.live.marks.get("decided", d.live.step_since) < SUCCESSOR_TIME_MS


def _candidate_stands(d: Transaction, failover: Failover) -> bool:
    """Is the chosen candidate still fit? A lost one is replaced while nothing irreversible has happened."""
    if not claims_ready(d, failover):
        return False
    unblock_claims(d)
    ranked = rank(d, failover.old_master, tuple(d.live.claims))
    own = next((r for r in ranked if r.host == failover.candidate), None)
    if own is not None and not own.limitation:
        return candidate_check.allows(d, failover, failover.candidate)
    again = d.live.asked_again.get(failover.candidate)
    unanswered = failover.candidate not in d.live.claims and d.heard(failover.candidate) is not None
    if unanswered and again is not None and d.now - again < 3 * d.policy.claim_wait:
        return False  # its database has just changed (a handover's has), and it has been asked about the new one
    _choose(d, failover)
    return False


# ------------------------------------------------------------------------------------------------ fence and proof


def _fence(d: Transaction, failover: Failover) -> None:
    """Step CANDIDATE: stop the old master, or find it off; nothing here makes a proof yet."""
    if pending(d, failover) or not _candidate_stands(d, failover):
        return
    failover = d.failover or failover
    if failover.path is Path.TOOLSTACK and d.heard(failover.old_master) is not None:
        if not fence(d, failover):
            return
        text = f"the toolstack of {d.name(failover.old_master)} is held; its VMs run on"
    elif failover.path is Path.ROLES:
        text = "there is no master to be fenced"
    else:
        proof = find_proof(d, failover)
        if isinstance(proof, NoProof) and proof.code not in ("ONE_READING", "STALE"):
            _without_proof(d, failover, proof)
            return
        text = view(d, failover.old_master).why if failover.human is None else "an operator says that it is safe"
    unblock(d)
    d.note(Kind.FENCED, f"fenced: {text}", path=failover.path.value)
    d.mark("fenced")


def _prove(d: Transaction, failover: Failover) -> None:
    """Steps FENCED and PROVED: a proof made now, a fresh look after it, and in the same pass the intent."""
    if pending(d, failover) or not _candidate_stands(d, failover):
        return
    failover = d.failover or failover
    proof = find_proof(d, failover)
    if isinstance(proof, NoProof):
        if not _held_in_vain(d, failover):
            _without_proof(d, failover, proof)
        return
    if not looked(d, failover, proof):
        return
    refusal = last_look(d, failover, proof)
    if refusal:
        if not _held_in_vain(d, failover):
            block(d, failover, Blocker.LAST_LOOK, (refusal.key,), refusal.text)
        return
    unblock(d)
    if failover.step is Step.FENCED:
        text = f"proof ({proof.kind.word}): {proof.kind.sentence(d.name(proof.host), proof.facts)}"
        facts = dict(proof.facts)
        d.note(Kind.PROOF, text, kind=proof.kind.word, old_master=proof.host, boot_id=proof.boot_id, facts=facts)
        d.mark("proof")
    intend(d, d.failover or failover, proof)


def _held_in_vain(d: Transaction, failover: Failover) -> bool:
    """A master whose toolstack is held and whose agent is heard gets its xapi back where the hold comes to nothing.

    Else the pool would stand without a master for as long as nobody sees its port closed, and nobody can give his word
    that a host is off whose agent is heard. Only the time counts in which nothing but the proof is missing: while a
    person is asked, or has paused the pool, it is his to go on.
    """
    old, asked = failover.old_master, d.record.question
    if failover.path is not Path.TOOLSTACK or d.heard(old) is None:
        return False
    if asked is not None and asked.failover == failover.id:
        return False
    since, last = d.live.in_vain
    since = since if d.now - last <= IN_VAIN_GAP_MS else d.now
    d.change(in_vain=(since, d.now))
    if d.now - since < d.policy.toolstack_budget:
        return False
    why = failover.blocker or "nothing proves that it can do no harm"
    abort(d, f"the toolstack of {d.name(old)} was held for {(d.now - since) / 1000:.0f} s in vain: {why}")
    return True


def _without_proof(d: Transaction, failover: Failover, refusal: NoProof) -> None:
    """No proof yet: wait for the next reading, shoot if policy says so, or ask a person."""
    if refusal.code in ("ONE_READING", "STALE"):
        return
    if refusal.code in ("NO_PROBE", "NO_PROBER") and _look_again(d, failover):
        return
    if failover.path is Path.ROLES:
        subjects = (refusal.code, *refusal.subjects)
        silent = [host for host in d.record.hosts if not d.heard(host) and not fenced_hosts.excused(d, host)]
        step = fenced_hosts.next_step(d, silent) if silent else ""
        why = f"it is not certain that nobody is master: {refusal.why}"
        block(d, failover, Blocker.NOT_EVERYBODY, subjects, why, step)
        return
    power = view(d, failover.old_master)
    if power.power is Power.ON and questions.may_shoot(d, failover) and advance_power_off(d, failover):
        if failover.blocked is Blocker.NEEDS_HUMAN:
            unblock(d)  # it could not be read before; now it can, and is given its patience
        return
    name = d.name(failover.old_master)
    say = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}"
    if refusal.code == "POWER_ON" and failed_attempts(failover):
        tried = (failover.old_master, len(failover.fence_attempts), len(failover.fence_unbegun))
        block(d, failover, Blocker.POWER_ON, tried, f"{power.why}: {failed_attempts(failover)}", say)
    elif refusal.code == "POWER_ON" and (foreign := device_binding.unusable(d, failover.old_master)):
        why = f"{power.why}, and {foreign}"
        block(d, failover, Blocker.POWER_ON, (failover.old_master, foreign.key), why, f"{say} --despite-power-on")
    elif refusal.code == "POWER_ON":
        old = failover.old_master
        at_stake, vms = fencing_stakes.of_shot(d, old), fencing_stakes.vms(d, old)
        questions.ask(d, Ask.SHOOT, old, fencing_stakes.shot(d, old), at_stake, Needs(shoot=True), others=vms)
    elif _may_come(d, failover, refusal):
        return
    else:
        if failover.path is Path.TOOLSTACK and d.heard(failover.old_master) is not None:
            # Nobody can give his word that a host is off whose agent is heard.
            say = f"After {d.policy.toolstack_budget / 1000:.0f} s of it the hold is undone, and nobody is promoted"
        subjects = (failover.old_master, refusal.code, *refusal.subjects)
        block(d, failover, Blocker.NEEDS_HUMAN, subjects, f"no proof that {name} is dead: {refusal.why}", say)


def _may_come(d: Snapshot, failover: Failover, refusal: NoProof) -> bool:
    """May what is missing still come by itself: another reading, or a report of what was just stopped?"""
    if refusal.code == "NOT_STOPPED":
        return d.now - d.live.step_since < HELD_REPORTED_MS
    return refusal.code in ("POWER_UNKNOWN", "UNBOUND") and not exhausted(d, failover.old_master)


def _look_again(d: Transaction, failover: Failover) -> bool:
    """A probe of the closed port is due: make it, and give it its time before its absence is a blocker."""
    look = d.live.look
    if look is None or d.now - look.at > d.policy.look_wait:
        begin_look(d, failover)
    return d.now - d.live.step_since < 4 * d.policy.look_wait


def exhausted(d: Snapshot, host: HostId) -> bool:
    """Has every device been tried often enough to call its silence an answer of its own?"""
    devices = d.devices(host)
    return not devices or tries(d, host) >= d.policy.unknown_readings


STEPS: dict[Step, Callable[[Transaction, Failover], None]] = {
    Step.DECIDED: _claim,
    Step.CLAIMED: _choose,
    Step.CANDIDATE: _fence,
    Step.FENCED: _prove,
    Step.PROVED: _prove,
    Step.PROMOTING: promoting,
    Step.PROMOTED: member_return.advance_members,
}
