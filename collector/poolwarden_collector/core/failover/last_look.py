"""The last look: fresh probes under a new nonce, and everything that must not be so when the promotion is sent.

Silence in the look proves nothing; an answer in it is a veto. That is why it may be waited for, and never relied on.

Hosts whose agent is silent
---------------------------
Such a host may have been made master by hand, or by another collector that hears it. Every one of them is asked for its
role, by two agents where there are two, over TCP 443 and 80 (the agent's dom0/xapi/roles.py). Four answers are four
things:

* It acts as master, or follows another one that is there: a veto. No certificate is checked, because it only stops.
* It follows the old master or the candidate: it is nobody's rival.
* It is alive and tells no role, because its ports are filtered or its xapi starts: *nothing is promoted*, for however
  long that lasts, until it tells its role, or its agent is heard, or it is excused (fenced_hosts.py): its power is
  proven off, or an operator has confirmed that it is. A network card that the BMC shares with the host answers pings of
  a machine that is off (S11): that is told apart by its power, not by the ping. One that shows another certificate than
  it had is named so: it may be somebody else's machine at that address.
* Nothing comes from it: it is waited for once, by name, for as long as a promoted xapi takes to start.

A host that nobody could ask within the last seconds is none of these, and is asked again.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.decision.permission import ha_armed, paused, set_to_be_master
from poolwarden_collector.core.decision.standstill import block
from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.fenced_hosts import excused, next_step
from poolwarden_collector.core.evidence.proof import Proof, paired_since
from poolwarden_collector.core.evidence.signs import configured_masters, own_alive, serving, witness
from poolwarden_collector.core.evidence.verdict import Witness
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.order_results import RoleAnswer, RoleClaim
from poolwarden_collector.core.model.orders import ProbeNow, Target
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.proof_kinds import LookAfter
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.live import Look
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ORDER_VALID_MS: Ms = 15_000
SHOT_EVIDENCE_MS: Ms = 5_000
SHOT_VALID_MS: Ms = 3_000  # a power-off is begun within this time of the evidence that it stands on, or not at all
SHOT_LEAD_MS: Ms = 500  # what must be left of it when it is ordered
LOOKS = 3
MOST_ASKED = 2  # hosts about whom one agent is asked at a time while a gate waits
ALL_ASKED = 64  # role questions to one agent in one look: it asks them all at the same time
ASKED_FRESH_MS: Ms = 20_000
FOR_LONG_MS: Ms = 30_000
PLAIN_PORT = 80


def looked(d: Transaction, failover: Failover, proof: Proof) -> bool:
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
    return not (_unasked(d, failover, look) or _untold(d, failover, look) or _awaited(d, failover, look))


def _again(d: Transaction, failover: Failover, look: Look) -> None:
    """Another round of questions, if this one has had its time."""
    if d.now - look.at > d.policy.look_wait:
        begin_look(d, failover)


def silent_others(d: Snapshot, failover: Failover) -> tuple[HostId, ...]:
    """Hosts on record whose agent is silent, without the old master and the candidate."""
    pair = (failover.old_master, failover.candidate)
    return tuple(host for host in sorted(d.record.hosts) if host not in pair and d.heard(host) is None)


def _unasked(d: Transaction, failover: Failover, look: Look) -> bool:
    """Is there a silent host about which nobody has had a word lately, not even that nothing came?"""
    hosts = [h for h in silent_others(d, failover) if d.now - look.asked.get(h, -ASKED_FRESH_MS) >= ASKED_FRESH_MS]
    waits = [host for host in hosts if not excused(d, host)]
    if not waits:
        return False
    if d.now - look.at > d.policy.look_wait:
        name = d.name(waits[0])
        why = f"{name} is silent, and no agent that is heard could ask its xapi for its role"
        long = d.now - d.live.step_since > FOR_LONG_MS
        step = f"It is tried again by itself. If {name} is off: poolwarden confirm-fenced {name}"
        subjects = (waits[0], "long" if long else "")
        block(d, failover, Blocker.UNASKED_MEMBER, subjects, why, step, alert=long)
        begin_look(d, failover)
    return True


def untold(d: Snapshot, failover: Failover, look: Look) -> tuple[RoleAnswer, ...]:
    """Silent hosts that are alive, tell no role, and are not excused: one answer of each."""
    silent = silent_others(d, failover)
    found: dict[HostId, RoleAnswer] = {}
    for (host, _), answer in sorted(look.untold.items(), key=lambda item: item[0]):
        if host in silent and host not in look.told and not excused(d, host):
            found.setdefault(host, answer)
    return tuple(found.values())


def _untold(d: Transaction, failover: Failover, look: Look) -> bool:
    """Does a host that is alive and tells no role hold the promotion up? It is named, with what ends that."""
    # safety: filtered is not silent; whoever is there and cannot be asked may be the master, for however long.
    found = untold(d, failover, look)
    if not found:
        return False
    why, step = untold_said(d, found)
    hosts = tuple(answer.host for answer in found)
    since = look.untold_since if look.untold_since is not None else d.now
    if d.now - since < FOR_LONG_MS:
        # A xapi that restarts tells nothing for some seconds, and is an alert only if it stays so.
        why = f"{why}; its xapi may be restarting"
        block(d, failover, Blocker.ROLE_UNTOLD, (*hosts, "young"), why, step, alert=False)
    else:
        block(d, failover, Blocker.ROLE_UNTOLD, hosts, why, step)
    _again(d, failover, look)
    return True


def untold_said(d: Snapshot, found: tuple[RoleAnswer, ...]) -> tuple[str, str]:
    """The blocker in one sentence, and what ends it."""
    names = " and ".join(d.name(answer.host) for answer in found)
    one = len(found) == 1
    changed = [d.name(answer.host) for answer in found if _changed(d, answer)]
    why = f"{names}, whose agent{'' if one else 's'} {'is' if one else 'are'} silent, {'is' if one else 'are'} alive"
    why += f" and tell{'s' if one else ''} no role: {'it' if one else 'each'} may be master"
    if changed:
        why += f" ({' and '.join(changed)} shows another certificate than before: it may be another machine)"
    came = "; ".join(f"{d.name(answer.host)}: {answer.text or 'no answer'}" for answer in found)
    first = d.name(found[0].host)
    step = (
        f"What came: {came}. Start the agent or xapi there, or switch it off, then: poolwarden confirm-fenced {first}"
    )
    return why, step


def _changed(d: Snapshot, answer: RoleAnswer) -> bool:
    """Does it show another certificate than its xapi did when its agent was last heard?"""
    known = d.live.certificates.get(answer.host, "")
    return bool(known and answer.certificate) and answer.certificate != known


def _awaited(d: Transaction, failover: Failover, look: Look) -> bool:
    """Is a host without an agent still given its time to say that it has become master? Once, and by name.

    A xapi that was told to become master is silent for its fuse of 10 s and its start (xapi: ocaml/xapi/xapi_pool.ml).
    """
    waits = [h for h, since in look.mute.items() if d.now - since < d.policy.promote_budget and _might_be_up(d, h)]
    if not waits:
        return False
    names = " and ".join(d.name(host) for host in waits)
    why = f"agent and xapi of {names} are silent: if it was just made master by others, it is restarting now"
    step = f"waits {d.policy.promote_budget / 1000:.0f} s for it. {next_step(d, waits)}"
    block(d, failover, Blocker.SILENT_MEMBER, waits, why, step, alert=False)
    _again(d, failover, look)
    return True


def _might_be_up(d: Snapshot, host: HostId) -> bool:
    return d.heard(host) is None and view(d, host).power is not Power.OFF and not excused(d, host)


def _needed_after(d: Snapshot, failover: Failover, proof: Proof) -> Ms:
    after = proof.kind.look_must_follow
    if after is LookAfter.READINGS:
        return paired_since(d, failover.old_master)
    return (d.live.human_at or 0) if after is LookAfter.WORD else d.live.step_since


def _missed(d: Transaction, failover: Failover) -> None:
    """The candidate left a look unanswered; three in a row, and it is no candidate on this stream."""
    misses = d.live.look_misses + 1
    if misses < LOOKS:
        d.change(look_misses=misses)
    else:
        d.change(look_misses=0, mute=d.live.mute | {failover.candidate})


def begin_look(d: Transaction, failover: Failover) -> None:
    """Ask every heard member for a new probe under a new nonce."""
    nonce, before = d.fresh_id("look"), d.live.look or Look("", d.now)
    # An asker that has gone silent says nothing any more; whoever is heard is asked again in this round.
    untold = {key: answer for key, answer in before.untold.items() if d.heard(key[1]) is not None}
    since = before.untold_since if untold else None
    d.change(look=Look(nonce, d.now, mute=before.mute, untold=untold, untold_since=since, asked=before.asked))
    asked = _lookers(d, failover)
    strangers = _strangers(d, failover, asked, before)
    for host in asked:
        probe = ProbeNow(_targets(d, failover), nonce, strangers.get(host, ()))
        d.send(f"{nonce}/{host}", host, probe, ORDER_VALID_MS)


def _lookers(d: Snapshot, failover: Failover) -> list[HostId]:
    """Every heard member whose agent can be asked for a look."""
    heard = {host: d.heard(host) for host in d.record.hosts if host != failover.old_master}
    return [host for host, agent in heard.items() if agent is not None and "probe_now" in agent.hello.capabilities]


def _strangers(d: Snapshot, failover: Failover, heard: list[HostId], before: Look) -> dict[HostId, tuple[Target, ...]]:
    """Who asks which silent host's xapi for its role: each is asked by two, those without a fresh word first.

    The candidate asks only where nobody else can, or where nobody else has brought an answer in the round before: its
    answer is the one that is waited for.
    """
    askers = [host for host in heard if host != failover.candidate] or heard
    if not askers:
        return {}
    silent = sorted(silent_others(d, failover), key=lambda host: (before.asked.get(host, -1), host))
    given: dict[HostId, tuple[Target, ...]] = {}
    for n, host in enumerate(silent):
        target = Target(host, d.record.address_of(host), PLAIN_PORT)
        by = {askers[n % len(askers)], askers[(n + 1) % len(askers)]}
        if before.nonce and before.asked.get(host, -1) < before.at and failover.candidate in heard:
            by.add(failover.candidate)
        for asker in by:
            if len(given.get(asker, ())) < ALL_ASKED:
                given[asker] = (*given.get(asker, ()), target)
    return given


def roles_told(d: Snapshot, asker: HostId, look: Look, answers: tuple[RoleAnswer, ...]) -> Look:
    """The look with one asker's role answers in it."""
    mute, untold, asked, told = dict(look.mute), dict(look.untold), dict(look.asked), look.told
    for answer in answers:
        asked[answer.host] = d.now
        untold.pop((answer.host, asker), None)
        if answer.said is RoleClaim.SILENT:
            mute.setdefault(answer.host, d.now)
            continue
        mute.pop(answer.host, None)
        if answer.said is RoleClaim.UNTOLD:
            untold[answer.host, asker] = answer
        else:
            told = (*told, answer.host)
    since = look.untold_since if look.untold_since is not None or not untold else d.now
    seen = look.elsewhere or elsewhere(d, asker, answers)
    return replace(look, mute=mute, untold=untold, untold_since=since, asked=asked, told=told, elsewhere=seen)


def elsewhere(d: Snapshot, asker: HostId, answers: tuple[RoleAnswer, ...]) -> str:
    """What one asker's role answers say against a promotion; empty: nothing. Silence says nothing."""
    failover = d.failover
    if failover is None:
        return ""
    ours = (d.record.address_of(failover.old_master), d.record.address_of(failover.candidate))
    for answer in answers:
        if answer.host not in d.record.hosts or answer.host in (failover.old_master, failover.candidate):
            continue
        name = f"{d.name(answer.host)}, whose agent is silent,"
        if answer.said is RoleClaim.ACTS:
            return f"{name} acts as master: {d.name(asker)} has asked its xapi"
        # safety: only a master that answers counts; a dead name in an old pool.conf stands against nobody.
        if answer.said is RoleClaim.FOLLOWS and answer.followed_answers and answer.follows not in ours:
            return f"{name} follows a master at {answer.follows} that answers: {d.name(asker)} has asked them"
    return ""


def _targets(d: Snapshot, failover: Failover) -> tuple[Target, ...]:
    """The old master's xapi: over TLS, and at the plain port too where a toolstack fence has closed both (either may be
    filtered, then the other one tells). Nobody's without one.
    """
    if not failover.old_master:
        return ()
    ports = (0, PLAIN_PORT) if failover.hold_order else (0,)
    return tuple(Target(failover.old_master, d.record.address_of(failover.old_master), port) for port in ports)


def last_look(d: Snapshot, failover: Failover, proof: Proof) -> Reason | None:
    """Why the promotion must not be sent at this instant; None if nothing stands against it."""
    acting = [host for host in serving(d) if host != failover.candidate]
    if acting:
        return Reason(Cause.SERVES, f"{d.name(acting[0])} acts as master", (acting[0],))
    # safety: one that has just been told to become master does not serve yet, and will.
    others = [host for host in configured_masters(d) if host not in (failover.candidate, failover.old_master)]
    if others:
        return set_to_be_master(d, others[0])
    old = failover.old_master
    agent = d.agent(old)
    if not proof.kind.other_boot_is_expected and agent is not None and agent.hello.boot_id != failover.old_boot:
        return Reason(Cause.BOOTED, f"{d.name(old)} has booted anew", (old,))
    # A held or gated old master speaks, and says in the proof itself that it does not act.
    if not proof.kind.old_master_may_speak and d.heard(old) is not None:
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


def witnessed_now(d: Transaction, failover: Failover) -> bool:
    """Has a member answered a nonce of the last 5 s with a new probe, unanswered? (A stopped clock makes nothing
    young.)
    """
    look = d.live.look
    if look is None or d.now - look.at > SHOT_EVIDENCE_MS:
        begin_look(d, failover)
        return False
    return bool(look.answered) and not look.alive and not look.elsewhere and not untold(d, failover, look)


def why_unwitnessed(d: Snapshot, failover: Failover) -> str:
    """What the last round of questions says against doing anything to the old master; empty: nobody answered it."""
    look = d.live.look
    if look is None:
        return ""
    found = untold(d, failover, look)
    return look.alive or look.elsewhere or (untold_said(d, found)[0] if found else "")


def shot_valid_until(d: Snapshot) -> Ms:
    """Until when a power-off may begin that stands on the present look; 0: its answers are too old, or there are none.

    Counted from the end of the probe on which it stands, on the clock of whoever made it.
    """
    look = d.live.look
    until = look.seen_at + SHOT_VALID_MS if look is not None and look.seen_at else 0
    return until if until - d.now >= SHOT_LEAD_MS else 0
