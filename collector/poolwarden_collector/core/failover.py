"""The failover: one journaled succession, advanced from what is durable and what is heard.

Theory
------
The durable part (``record.Failover``) says how far the succession is; everything else is heard again. ``advance`` looks
at both and does the next thing that is due, whether it is the first time or after a restart at any point: there is no
other recovery. The table ``STEPS`` below names the function of each step; an unknown step is a KeyError, not a guess.

    DECIDED -> CLAIMED -> CANDIDATE -> PROVED -> PROMOTING -> PROMOTED -> CLOSED
       \\__________________________________/          \\-> SUPERSEDED
                        \\-> ABORTED (a new term, no cool-down)

Invariants
----------
* Up to PROVED everything can be undone, and each pass first asks whether it must be (``_must_end``).
* PROMOTING names one candidate for good. The order is sent only with a proof verified in this very pass, again before
  every re-send; it carries one id, so that however often it arrives the host promotes once.
* Nobody is promoted because time has passed: time only ends waits in a block that names its reason.
"""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.core import members
from poolwarden_collector.core.candidate import forecast, rank
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.evidence import lines, serving, silence_of, suspected
from poolwarden_collector.core.facts import HostId, Liveness, Ms, Outcome, Power, Role, Tri
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.live import Look, Sent
from poolwarden_collector.core.orders import Claim, PowerOff, Preconditions, ProbeNow, Promote, Target
from poolwarden_collector.core.power import is_bound, tries, view
from poolwarden_collector.core.proof import Proof, Refusal, paired_since, reverify_power, verify_human, verify_power
from poolwarden_collector.core.record import REVERSIBLE, Failover, Step
from poolwarden_collector.core.verdict import Verdict

ORDER_VALID_MS: Ms = 15_000
RESEND_AFTER_MS: Ms = 5_000
LIVE_REPORT_MS: Ms = 15_000
SHOT_EVIDENCE_MS: Ms = 5_000


def may_begin(d: Draft, verdict: Verdict) -> str:
    """Why no failover may begin now; empty if one may."""
    if verdict is not Verdict.VANISHED:
        return f"the verdict is {verdict.word}"
    return standing_refusal(d) or _survivors(d)


def standing_refusal(d: Draft) -> str:
    """Why nothing new may be begun in this pool, whatever its verdict; empty if nothing stands against it."""
    p = d.policy
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if d.record.stale_epoch > d.site.epoch:
        return f"its hosts obey a collector with a higher epoch ({d.record.stale_epoch})"
    if d.quiet:
        return f"start-up quiet time, {(d.site.quiet_until - d.now) / 1000:.0f} s left"
    if d.site.blind:
        return f"the collector is blind: {d.site.blind}"
    if d.live.cooldown_until is not None and d.now < d.live.cooldown_until:
        return f"cool-down after the last failover, {(d.live.cooldown_until - d.now) / 60_000:.0f} min left"
    if p.mode != "auto":
        return f"the pool's mode is {p.mode}"
    return ""


def patience(d: Draft, host: HostId) -> Ms:
    """How long a machine that reads ON is left alone, ms: the busier, the longer."""
    agent = d.agent(host)
    domains = agent.facts.domains if agent is not None else None
    extra = min(len(domains or ()) * d.policy.patience_per_vm, d.policy.patience_vm_limit)
    return d.policy.patience + extra


def _survivors(d: Draft) -> str:
    master = suspected(d)
    members_known = [host for host in d.record.hosts if host != master]
    heard = [host for host in members_known if d.heard(host)]
    needed = d.policy.min_survivors
    if len(d.record.hosts) > 3 and view(d, master).power is not Power.OFF:
        needed = max(needed, (len(members_known) + 1) // 2)
    if len(heard) < needed:
        return f"only {len(heard)} of {len(members_known)} members are heard, {needed} are needed"
    return ""


def decide(d: Draft, why: str) -> None:
    """Open a failover: the next term, the old master, its boot, the whole evidence."""
    master = suspected(d)
    known = d.record.hosts[master]
    term = d.record.term + 1
    number = d.record.failovers + 1
    identity = f"{d.record.pool[:8]}-{number}"
    data = {
        "old_master": master,
        "old_master_name": known.name,
        "old_boot": known.boot_id,
        "why": why,
        "evidence": [
            {"subject": e.subject, "value": e.value, "age_ms": e.age_ms, "witness": e.witness, "text": e.text}
            for e in lines(d)
        ],
        "candidates": [r.text for r in rank(d, master, None)],
    }
    text = f"failover {identity} decided at term {term}: {known.name} is to be succeeded ({why})"
    d.change(claims={}, claims_since=None, look=None, marks={}, step_since=d.now)
    d.write(Entry(Kind.DECIDED, text, data, identity, term))
    d.mark("decided")


def advance(d: Draft, verdict: Verdict) -> None:
    """Do what is due in the open failover, as far as it goes in this pass."""
    for _ in range(len(Step)):
        failover = d.failover
        if failover is None or hold(d, failover, verdict):
            return
        if failover.step in REVERSIBLE and _must_end(d, failover, verdict):
            return
        STEPS[failover.step](d, failover)
        after = d.record.failover
        if after is None or after.step is failover.step:
            return
        d.change(step_since=d.now)


def hold(d: Draft, failover: Failover, verdict: Verdict) -> str:
    """Why the open failover must stand still, undecided either way; empty if it may go on."""
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if verdict is Verdict.HA_MANAGED and failover.step not in REVERSIBLE:
        return "xapi's HA is armed"
    if d.record.stale_epoch > d.site.epoch:
        return "its hosts obey a collector with a higher epoch"
    if failover.step in REVERSIBLE:
        if d.quiet:
            return "start-up quiet time"
        if verdict in (Verdict.COLLECTOR_BLIND, Verdict.POOL_DARK, Verdict.SUSPECT, Verdict.LEARNING):
            return f"the verdict is {verdict.word}: not enough is heard to go on or to give up"
    return ""


def _must_end(d: Draft, failover: Failover, verdict: Verdict) -> bool:
    """Give up, with the reason, where the ground of the decision is gone. True if it ended."""
    others = [host for host in serving(d) if host != failover.old_master]
    if others:
        _superseded(d, others[0])
        return True
    if verdict is not Verdict.VANISHED:
        abort(d, f"{d.name(failover.old_master)} is {verdict.word} now: {verdict.meaning}")
        return True
    agent = d.agent(failover.old_master)
    if agent is not None and agent.hello.boot_id != failover.old_boot:
        abort(d, f"{d.name(failover.old_master)} has booted anew")
        return True
    return False


def abort(d: Draft, why: str) -> None:
    """End a failover before its promotion: a new term, no cool-down."""
    failover = d.record.failover
    assert failover is not None
    unblock(d)
    term = d.record.term + 1
    text = f"failover {failover.id} aborted: {why}; the term is {term} now"
    d.write(Entry(Kind.ABORTED, text, {"why": why, "new_term": term}, failover.id, term))
    d.change(claims={}, look=None)


def _superseded(d: Draft, host: HostId) -> None:
    failover = d.record.failover
    assert failover is not None
    unblock(d)
    why = f"{d.name(host)} serves as master already"
    d.write(
        Entry(Kind.SUPERSEDED, f"failover {failover.id} superseded: {why}", {"host": host}, failover.id, d.record.term)
    )
    d.raise_alert(f"{failover.id}/superseded", "warning", f"failover {failover.id} superseded", why)


def block(d: Draft, failover: Failover, code: str, why: str, next_step: str = "") -> None:
    """Stand still with a named blocker, and say so once."""
    code = f"BLOCKED_{code}"
    if failover.blocked == code and failover.blocker == why:
        return
    if failover.blocked != code:
        body = f"{why}. {next_step}".strip()
        title = f"failover {failover.id} of {d.name(failover.old_master)}: {code}"
        d.raise_alert(
            f"{failover.id}/{code}", "critical", title, body, old_master=d.name(failover.old_master), blocker=why
        )
    d.note(Kind.BLOCKED, f"{code}: {why}", code=code, why=why, next_step=next_step)


def unblock(d: Draft) -> None:
    """The blocker is gone."""
    failover = d.failover
    if failover is None or not failover.blocked:
        return
    key = f"{d.record.pool}/{failover.id}/{failover.blocked}"
    d.note(Kind.UNBLOCKED, f"{failover.blocked} is over")
    if key in d.record.open_alerts:
        d.resolve_alert(key, f"{failover.blocked} is over")


# ------------------------------------------------------------------------------------------------ claim


def _claim(d: Draft, failover: Failover) -> None:
    if not claims_ready(d, failover):
        return
    vetoes = [f"{d.name(host)}: {claim.veto}" for host, claim in sorted(d.live.claims.items()) if claim.veto]
    if vetoes:
        abort(d, f"vetoed by {'; '.join(vetoes)}")
        return
    hosts = sorted(d.live.claims, key=d.name)
    text = f"claimed at term {failover.term} by {', '.join(d.name(host) for host in hosts)}; nobody sees the old master"
    d.note(Kind.CLAIMED, text, hosts=hosts)
    d.mark("claimed")


def claims_ready(d: Draft, failover: Failover) -> bool:
    """Ask every heard agent to store the term and look once more; True when all, or all that answer, have done so."""
    asked = [host for host in d.record.hosts if host != failover.old_master and d.heard(host)]
    if d.live.claims_since is None:
        d.change(claims_since=d.now, claims={})
        names = ", ".join(sorted(d.name(host) for host in asked))
        d.note(
            Kind.CLAIM_SENT, f"asking {names or 'nobody'} to store term {failover.term} and look once more", hosts=asked
        )
    for host in asked:
        agent = d.agent(host)
        assert agent is not None
        order_id = f"{failover.id}/claim/{d.site.epoch}.{d.live.claims_since}.{agent.stream}/{host[:8]}"
        sent = d.sent(order_id)
        if sent is None:
            target = Target(failover.old_master, d.record.address_of(failover.old_master))
            d.send(order_id, host, Claim(target), ORDER_VALID_MS)
        elif sent.result is not None and sent.result.term > d.record.term:
            abort(d, f"{d.name(host)} has seen term {sent.result.term}")
            return False
    missing = [host for host in asked if host not in d.live.claims]
    since = d.live.claims_since
    waited = since is not None and d.now - since >= d.policy.claim_wait
    return bool(d.live.claims) and (not missing or waited)


# ------------------------------------------------------------------------------------------------ candidate


def _choose(d: Draft, failover: Failover) -> None:
    if not claims_ready(d, failover):
        return
    ranked = rank(d, failover.old_master, tuple(d.live.claims))
    eligible = [r for r in ranked if not r.limitation]
    if not eligible:
        why = "; ".join(r.text for r in ranked) or "the pool has no other host"
        block(d, failover, "NO_CANDIDATE", why, "Mend one of these; the failover goes on by itself.")
        return
    best = eligible[0]
    if not _forecast_allows(d, failover, best.host):
        return
    unblock(d)
    d.note(
        Kind.CANDIDATE,
        f"candidate: {best.name}, database generation {best.generation}, no running VM would be killed",
        host=best.host,
        generation=best.generation,
        ranking=[r.text for r in ranked],
    )
    d.mark("candidate")


def _forecast_allows(d: Draft, failover: Failover, candidate: HostId) -> bool:
    claim = d.live.claims.get(candidate)
    kills = forecast(d, candidate, failover.old_master, claim.placements if claim is not None else None)
    if isinstance(kills, str):
        block(d, failover, "KILL_FORECAST", f"what promoting {d.name(candidate)} would kill is not known: {kills}")
        return False
    if kills:
        names = ", ".join(f"{kill.name} on {d.name(kill.host)} ({kill.why})" for kill in kills)
        why = f"promoting {d.name(candidate)} would kill {len(kills)} running VM{'s'[: len(kills) > 1]}: {names}"
        block(
            d, failover, "KILL_FORECAST", why, "Nothing is promoted. Shut these VMs down or bring the old master back."
        )
        return False
    return True


def _candidate_stands(d: Draft, failover: Failover) -> bool:
    """Is the chosen candidate still fit? A lost one is replaced while nothing irreversible has happened."""
    if not claims_ready(d, failover):
        return False
    ranked = rank(d, failover.old_master, tuple(d.live.claims))
    own = next((r for r in ranked if r.host == failover.candidate), None)
    if own is not None and not own.limitation:
        return _forecast_allows(d, failover, failover.candidate)
    _choose(d, failover)
    return False


# ------------------------------------------------------------------------------------------------ fence and proof


def _prove(d: Draft, failover: Failover) -> None:
    """Steps CANDIDATE and PROVED: a proof made now, a fresh look after it, and in the same pass the intent."""
    if not _candidate_stands(d, failover):
        return
    failover = d.failover or failover
    proof = find_proof(d, failover)
    if isinstance(proof, Refusal):
        _without_proof(d, failover, proof)
        return
    if not _looked(d, failover, proof):
        return
    refusal = last_look(d, failover)
    if refusal:
        block(d, failover, "LAST_LOOK", refusal)
        return
    unblock(d)
    if failover.step is Step.CANDIDATE:
        text = f"proof ({proof.kind}): {_say_proof(d, proof)}"
        facts = dict(proof.facts)
        d.note(Kind.PROOF, text, kind=proof.kind, old_master=proof.host, boot_id=proof.boot_id, facts=facts)
        d.mark("proof")
    _intend(d, d.failover or failover, proof)


def find_proof(d: Draft, failover: Failover) -> Proof | Refusal:
    """The power proof, or else the human one."""
    proof = verify_power(d, failover.old_master, failover.old_boot)
    if isinstance(proof, Proof) or failover.human is None:
        return proof
    return verify_human(d, failover.old_master, failover.old_boot, failover.human)


def _without_proof(d: Draft, failover: Failover, refusal: Refusal) -> None:
    """No proof yet: wait for the next reading, shoot if policy says so, or ask a person."""
    power = view(d, failover.old_master)
    if refusal.code in ("ONE_READING", "STALE"):
        return
    if power.power is Power.ON and d.policy.auto_fence_running and _shoot(d, failover):
        return
    name = d.name(failover.old_master)
    say = f"Make sure that {name} is off, then: poolwarden confirm-fenced {name}"
    if refusal.code == "POWER_ON":
        block(d, failover, "POWER_ON", f"{power.why}; it may still run VMs and is not shot by policy", say)
    elif refusal.code in ("POWER_UNKNOWN", "UNBOUND") and not exhausted(d, failover.old_master):
        return
    else:
        block(d, failover, "NEEDS_HUMAN", f"no proof that {name} is dead: {refusal.why}", say)


def exhausted(d: Draft, host: HostId) -> bool:
    """Has every device been tried often enough to call its silence an answer of its own?"""
    devices = d.devices(host)
    return not devices or tries(d, host) >= d.policy.unknown_readings


def _shoot(d: Draft, failover: Failover) -> bool:
    """Power the old master off (policy auto_fence_running): intent first, once per device and attempt, at most two.

    True while a shot is under way or being prepared.
    """
    if failover.fence_pending is not None:
        return _still_pending(d, failover)
    old = failover.old_master
    if silence_of(d, old) < max(patience(d, old), LIVE_REPORT_MS):
        return True
    if any(reading.started_at < d.live.fenced_at for reading in view(d, old).readings):
        return True  # the last shot has not been read back yet
    for device in d.devices(old):
        attempts = sum(1 for name, _ in failover.fence_attempts if name == device.name)
        if attempts >= 2 or not is_bound(d, device.name, old):
            continue
        if not _witnessed_now(d, failover):
            return True
        run = d.fresh_id("off")
        text = f"powering {d.name(old)} off by {device.name}, attempt {attempts + 1}"
        d.note(Kind.FENCE_INTENT, text, device=device.name, attempt=attempts + 1, run=run)
        # safety: the verdict was recomputed in this pass on a look at most 5 s old; `off` only, never `reboot`.
        d.do(PowerOff(old, device.name, run))
        return True
    return False


def _still_pending(d: Draft, failover: Failover) -> bool:
    """An `off` without a result may land late: nothing is concluded before its hard limit and 10 s have passed."""
    assert failover.fence_pending is not None
    name, run = failover.fence_pending
    limit = max(
        (x.hard_limit_ms for x in d.pool.devices.get(failover.old_master, ()) if x.name == name), default=60_000
    )
    since = max(d.site.started_at, d.live.step_since) if f"/off/{d.site.epoch}." not in run else d.live.step_since
    if d.now - since >= limit + 10_000:
        text = f"the power-off by {name} has no result: its outcome is unknown, the power is read again"
        d.change(fenced_at=d.now)
        d.note(Kind.FENCE_RESULT, text, device=name, claim=False, certain=False)
    return True


def _witnessed_now(d: Draft, failover: Failover) -> bool:
    """Has a member answered a nonce of the last 5 s with a new probe, unanswered? (A stopped clock makes nothing
    young.)
    """
    look = d.live.look
    if look is None or d.now - look.at > SHOT_EVIDENCE_MS:
        _begin_look(d, failover)
        return False
    return bool(look.answered)


def _looked(d: Draft, failover: Failover, proof: Proof) -> bool:
    """A round of fresh probes under a new nonce, begun after the proof's last reading; the candidate must have
    answered.
    """
    power = proof.kind == "power"
    needed_after = paired_since(d, failover.old_master) if power else (d.live.human_at or 0)
    look = d.live.look
    if look is None or look.at < needed_after or d.now - look.at > d.policy.reading_fresh:
        _begin_look(d, failover)
        return False
    if failover.candidate not in look.answered:
        if d.now - look.at > d.policy.look_wait:
            _begin_look(d, failover)
        return False
    asked = [host for host in d.live.claims if d.heard(host)]
    return all(host in look.answered for host in asked) or d.now - look.at >= d.policy.look_wait


def _begin_look(d: Draft, failover: Failover) -> None:
    nonce = d.fresh_id("look")
    d.change(look=Look(nonce, d.now))
    target = Target(failover.old_master, d.record.address_of(failover.old_master))
    for host in d.live.claims:
        if d.heard(host):
            d.send(f"{nonce}/{host[:8]}", host, ProbeNow((target,), nonce), ORDER_VALID_MS)


def last_look(d: Draft, failover: Failover) -> str:
    """Why the promotion must not be sent at this instant; empty if nothing stands against it."""
    acting = [host for host in serving(d) if host != failover.candidate]
    if acting:
        return f"{d.name(acting[0])} acts as master"
    agent = d.agent(failover.old_master)
    if agent is not None and agent.hello.boot_id != failover.old_boot:
        return f"{d.name(failover.old_master)} has booted anew"
    if d.heard(failover.old_master) is not None:
        return f"the agent of {d.name(failover.old_master)} is heard"
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    armed = [host for host in d.live.agents if (a := d.heard(host)) and a.facts.database.ha_armed is Tri.YES]
    if armed:
        return f"xapi's HA is armed on {d.name(armed[0])}"
    return ""


def _say_proof(d: Draft, proof: Proof) -> str:
    name = d.name(proof.host)
    if proof.kind == "human":
        return f"{proof.facts['by']} confirmed that {name} is safe: {proof.facts['how']}"
    gaps = [item["second"]["ended_ms"] - item["first"]["ended_ms"] for item in proof.facts["readings"]]
    return f"power of {name} read OFF twice, {min(gaps) / 1000:.1f} s apart, and nothing has answered since"


# ------------------------------------------------------------------------------------------------ promote


def _intend(d: Draft, failover: Failover, proof: Proof) -> None:
    agent = d.heard(failover.candidate)
    if agent is None or proof.host != failover.old_master:
        return
    order_id = f"{failover.id}/promote/{failover.candidate[:8]}"
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
    preconditions = Preconditions(
        pool_conf_in=(Role.MEMBER, Role.MASTER), ha_off=True, min_root_free_bytes=d.policy.min_root_free_bytes
    )
    d.send(failover.promote_order, failover.candidate, Promote(), ORDER_VALID_MS, preconditions)


def _promoting(d: Draft, failover: Failover) -> None:
    """After the intent: learn the answer, verify by facts, send again only on a proof renewed now."""
    _learn_answer(d, failover)
    failover = d.failover or failover
    if _serves(d, failover):
        _promoted(d, failover)
        return
    others = [host for host in serving(d) if host != failover.candidate]
    if others and not failover.promote_result:
        _superseded(d, others[0])
        return
    if failover.promote_result in (Outcome.DONE.value, Outcome.FAILED.value, Outcome.UNKNOWN.value):
        _await_new_master(d, failover)
        return
    _resend(d, failover)


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
    refusal = _renewed(d, failover) or last_look(d, failover)
    if refusal:
        block(d, failover, "PROOF_NOT_RENEWED", f"the promotion is not sent again: {refusal}")
        return
    unblock(d)
    _send_promote(d, d.failover or failover)


def _due_again(d: Draft, sent: Sent) -> bool:
    refused = sent.result is not None and sent.result.outcome is Outcome.REFUSED
    since = sent.answered_at if refused and sent.answered_at is not None else sent.at
    return d.now - since >= (RESEND_AFTER_MS if refused else ORDER_VALID_MS + RESEND_AFTER_MS)


def _renewed(d: Draft, failover: Failover) -> str:
    proof = failover.proof
    assert proof is not None
    if proof.kind == "human":
        human = verify_human(d, failover.old_master, failover.old_boot, failover.human)
        return human.why if isinstance(human, Refusal) else ""
    power = reverify_power(d, failover.old_master)
    return power.why if power is not None else ""


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
    d.note(
        Kind.OWED,
        f"{d.name(old)} is owed its tombstone: it must not act as master when it returns",
        host=old,
        what="tombstone",
        successor=failover.candidate,
    )


STEPS: dict[Step, Callable[[Draft, Failover], None]] = {
    Step.DECIDED: _claim,
    Step.CLAIMED: _choose,
    Step.CANDIDATE: _prove,
    Step.PROVED: _prove,
    Step.PROMOTING: _promoting,
    Step.PROMOTED: members.bring_back,
}
