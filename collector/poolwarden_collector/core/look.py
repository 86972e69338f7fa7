"""The last look: fresh probes under a new nonce, and everything that must not be so when the promotion is sent.

Silence in the look proves nothing; an answer in it is a veto. That is why it may be waited for, and never relied on.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.blockers import Blocker
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import block
from poolwarden_collector.core.evidence import own_alive, serving, set_as_master, witness
from poolwarden_collector.core.facts import HostId, Ms, Power, RoleAnswer, Said
from poolwarden_collector.core.live import Look
from poolwarden_collector.core.orders import ProbeNow, Target
from poolwarden_collector.core.permission import ha_armed, paused, set_to_be_master
from poolwarden_collector.core.power import view
from poolwarden_collector.core.proof import Proof, paired_since
from poolwarden_collector.core.reasons import Cause, Reason
from poolwarden_collector.core.record import Failover
from poolwarden_collector.core.verdict import Witness

ORDER_VALID_MS: Ms = 15_000
SHOT_EVIDENCE_MS: Ms = 5_000
LOOKS = 3
MOST_ASKED = 2  # role questions to one agent in one look: a silent xapi costs each of them half a second
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
    if (look.alive or look.elsewhere) and over:
        begin_look(d, failover)
        return False
    asked = _lookers(d, failover)
    if not (all(host in look.answered for host in asked) or over or look.alive or look.elsewhere):
        return False
    return not _awaited(d, failover, look)


def _awaited(d: Draft, failover: Failover, look: Look) -> bool:
    """Is a host without an agent still given its time to say that it has become master? Once, and by name.

    A xapi that was told to become master is silent for its fuse of 10 s and its start (xapi: ocaml/xapi/xapi_pool.ml).
    """
    waits = [h for h, since in look.mute.items() if d.now - since < d.policy.promote_budget and _might_be_up(d, h)]
    if not waits:
        return False
    names = " and ".join(d.name(host) for host in waits)
    why = f"agent and xapi of {names} are silent: if it was just made master by others, it is restarting now"
    block(
        d,
        failover,
        Blocker.SILENT_MEMBER,
        waits,
        why,
        f"waits {d.policy.promote_budget / 1000:.0f} s for it",
        alert=False,
    )
    if d.now - look.at > d.policy.look_wait:
        begin_look(d, failover)
    return True


def _might_be_up(d: Draft, host: HostId) -> bool:
    return d.heard(host) is None and view(d, host).power is not Power.OFF


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
    d.change(look=Look(nonce, d.now, mute=d.live.look.mute if d.live.look is not None else {}))
    asked = _lookers(d, failover)
    strangers = _strangers(d, failover, asked)
    for host in asked:
        probe = ProbeNow(_targets(d, failover), nonce, strangers.get(host, ()))
        d.send(f"{nonce}/{host}", host, probe, ORDER_VALID_MS)


def _lookers(d: Draft, failover: Failover) -> list[HostId]:
    """Every heard member whose agent can be asked for a look."""
    heard = {host: d.heard(host) for host in d.record.hosts if host != failover.old_master}
    return [host for host, agent in heard.items() if agent is not None and "probe_now" in agent.hello.capabilities]


def _strangers(d: Draft, failover: Failover, heard: list[HostId]) -> dict[HostId, tuple[Target, ...]]:
    """Who asks which silent host's xapi for its role: each is asked by two, and nobody asks more than two.

    A host whose agent is silent may have been made master by hand, or by another collector that hears it. The
    candidate asks only where nobody else can: its answer is the one that is waited for.
    """
    askers = [host for host in heard if host != failover.candidate] or heard
    silent = [host for host in sorted(d.record.hosts) if host != failover.old_master and host not in heard]
    given: dict[HostId, tuple[Target, ...]] = {}
    for n, host in enumerate(silent):
        target = Target(host, d.record.address_of(host), PLAIN_PORT)
        for asker in {askers[n % len(askers)], askers[(n + 1) % len(askers)]} if askers else ():
            if len(given.get(asker, ())) < MOST_ASKED:
                given[asker] = (*given.get(asker, ()), target)
    return given


def roles_told(d: Draft, asker: HostId, look: Look, answers: tuple[RoleAnswer, ...]) -> Look:
    """The look with one asker's role answers in it."""
    mute = dict(look.mute)
    for answer in answers:
        if answer.said is Said.SILENT:
            mute.setdefault(answer.host, d.now)
        else:
            mute.pop(answer.host, None)
    return replace(look, mute=mute, elsewhere=look.elsewhere or elsewhere(d, asker, answers))


def elsewhere(d: Draft, asker: HostId, answers: tuple[RoleAnswer, ...]) -> str:
    """What one asker's role answers say against a promotion; empty: nothing. Silence says nothing."""
    failover = d.failover
    if failover is None:
        return ""
    ours = (d.record.address_of(failover.old_master), d.record.address_of(failover.candidate))
    for answer in answers:
        if answer.host not in d.record.hosts or answer.host in (failover.old_master, failover.candidate):
            continue
        name = f"{d.name(answer.host)}, whose agent is silent,"
        if answer.said is Said.ACTS:
            return f"{name} acts as master: {d.name(asker)} has asked its xapi"
        # safety: only a master that answers counts; a dead name in an old pool.conf stands against nobody.
        if answer.said is Said.FOLLOWS and answer.followed_answers and answer.follows not in ours:
            return f"{name} follows a master at {answer.follows} that answers: {d.name(asker)} has asked them"
    return ""


def _targets(d: Draft, failover: Failover) -> tuple[Target, ...]:
    """The old master's xapi: over TLS, or the plain port that a toolstack fence has closed. Nobody's without one."""
    if not failover.old_master:
        return ()
    port = PLAIN_PORT if failover.hold_order else 0
    return (Target(failover.old_master, d.record.address_of(failover.old_master), port),)


def last_look(d: Draft, failover: Failover, proof: Proof) -> Reason | None:
    """Why the promotion must not be sent at this instant; None if nothing stands against it."""
    acting = [host for host in serving(d) if host != failover.candidate]
    if acting:
        return Reason(Cause.SERVES, f"{d.name(acting[0])} acts as master", (acting[0],))
    # safety: one that has just been told to become master does not serve yet, and will.
    others = [host for host in set_as_master(d) if host not in (failover.candidate, failover.old_master)]
    if others:
        return set_to_be_master(d, others[0])
    old = failover.old_master
    agent = d.agent(old)
    if proof.kind != "rebooted" and agent is not None and agent.hello.boot_id != failover.old_boot:
        return Reason(Cause.BOOTED, f"{d.name(old)} has booted anew", (old,))
    # A held or gated old master speaks, and says in the proof itself that it does not act.
    if proof.kind not in ("toolstack", "rebooted") and d.heard(old) is not None:
        return Reason(Cause.ALIVE, f"the agent of {d.name(old)} is heard", (old, "agent"))
    if d.live.look is not None and (said := d.live.look.alive or d.live.look.elsewhere):
        return Reason(Cause.ALIVE, said, (old, "look"))
    if witness(d, old) is Witness.ANSWERED:
        return Reason(Cause.ALIVE, f"a member reaches the xapi of {d.name(old)}", (old, "xapi"))
    if own_alive(d, old):
        return Reason(Cause.ALIVE, f"the collector reaches the xapi of {d.name(old)}", (old, "xapi"))
    if d.record.paused is not None:
        return paused(d)
    return ha_armed(d) if d.record.ha_armed else None


def witnessed_now(d: Draft, failover: Failover) -> bool:
    """Has a member answered a nonce of the last 5 s with a new probe, unanswered? (A stopped clock makes nothing
    young.)
    """
    look = d.live.look
    if look is None or d.now - look.at > SHOT_EVIDENCE_MS:
        begin_look(d, failover)
        return False
    return bool(look.answered) and not look.alive and not look.elsewhere
