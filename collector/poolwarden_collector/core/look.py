"""The last look: fresh probes under a new nonce, and everything that must not be so when the promotion is sent.

Silence in the look proves nothing; an answer in it is a veto. That is why it may be waited for, and never relied on.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.evidence import own_alive, serving, set_as_master, witness
from poolwarden_collector.core.facts import Ms
from poolwarden_collector.core.live import Look
from poolwarden_collector.core.orders import ProbeNow, Target
from poolwarden_collector.core.proof import Proof, paired_since
from poolwarden_collector.core.record import Failover
from poolwarden_collector.core.verdict import Witness

ORDER_VALID_MS: Ms = 15_000
SHOT_EVIDENCE_MS: Ms = 5_000
LOOKS = 3
PLAIN_PORT = 80


def looked(d: Draft, failover: Failover, proof: Proof) -> bool:
    """Has a round of fresh probes, begun after the proof was complete, been answered by the candidate?"""
    needed_after = _needed_after(d, failover, proof)
    look = d.live.look
    if look is None or look.at < needed_after or d.now - look.at > d.policy.reading_fresh:
        begin_look(d, failover)
        return False
    over = d.now - look.at > d.policy.look_wait
    if failover.candidate not in look.answered:
        if over:
            _missed(d, failover)
            begin_look(d, failover)
        return False
    if look.alive and over:
        begin_look(d, failover)
        return False
    asked = [host for host in d.record.hosts if host != failover.old_master and d.heard(host)]
    return all(host in look.answered for host in asked) or over or bool(look.alive)


def _needed_after(d: Draft, failover: Failover, proof: Proof) -> Ms:
    if proof.kind == "power":
        return paired_since(d, failover.old_master)
    return (d.live.human_at or 0) if proof.kind == "human" else d.live.step_since


def _missed(d: Draft, failover: Failover) -> None:
    """The candidate left a look unanswered; three in a row, and it is no candidate on this stream."""
    misses = d.live.look_misses + 1
    if misses < LOOKS:
        d.change(look_misses=misses)
    else:
        d.change(look_misses=0, mute=d.live.mute | {failover.candidate})


def begin_look(d: Draft, failover: Failover) -> None:
    """Ask every heard member for a new probe under a new nonce."""
    nonce = d.fresh_id("look")
    d.change(look=Look(nonce, d.now))
    for host in d.record.hosts:
        if host != failover.old_master and d.heard(host):
            d.send(f"{nonce}/{host}", host, ProbeNow(_targets(d, failover), nonce), ORDER_VALID_MS)


def _targets(d: Draft, failover: Failover) -> tuple[Target, ...]:
    """The old master's xapi: over TLS, or the plain port that a toolstack fence has closed. Nobody's without one."""
    if not failover.old_master:
        return ()
    port = PLAIN_PORT if failover.hold_order else 0
    return (Target(failover.old_master, d.record.address_of(failover.old_master), port),)


def last_look(d: Draft, failover: Failover, proof: Proof) -> str:
    """Why the promotion must not be sent at this instant; empty if nothing stands against it."""
    acting = [host for host in serving(d) if host != failover.candidate]
    if acting:
        return f"{d.name(acting[0])} acts as master"
    # safety: one that has just been told to become master does not serve yet, and will.
    others = [host for host in set_as_master(d) if host not in (failover.candidate, failover.old_master)]
    if others:
        return f"{d.name(others[0])} is set to be master by its pool.conf or its process"
    agent = d.agent(failover.old_master)
    if proof.kind != "rebooted" and agent is not None and agent.hello.boot_id != failover.old_boot:
        return f"{d.name(failover.old_master)} has booted anew"
    # A held or gated old master speaks, and says in the proof itself that it does not act.
    if proof.kind not in ("toolstack", "rebooted") and d.heard(failover.old_master) is not None:
        return f"the agent of {d.name(failover.old_master)} is heard"
    if d.live.look is not None and d.live.look.alive:
        return d.live.look.alive
    if witness(d, failover.old_master) is Witness.ANSWERED:
        return f"a member reaches the xapi of {d.name(failover.old_master)}"
    if own_alive(d, failover.old_master):
        return f"the collector reaches the xapi of {d.name(failover.old_master)}"
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if d.record.ha_armed:
        return f"xapi's HA is armed, as seen on {', '.join(sorted(d.name(h) for h in d.record.ha_armed))}"
    return ""


def witnessed_now(d: Draft, failover: Failover) -> bool:
    """Has a member answered a nonce of the last 5 s with a new probe, unanswered? (A stopped clock makes nothing
    young.)
    """
    look = d.live.look
    if look is None or d.now - look.at > SHOT_EVIDENCE_MS:
        begin_look(d, failover)
        return False
    return bool(look.answered) and not look.alive
