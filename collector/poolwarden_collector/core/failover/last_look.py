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
from poolwarden_collector.core.state.failover_record import Failover, Path
from poolwarden_collector.core.state.live_slices import LastLook, Look
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


def looked(tx: Transaction, failover: Failover, proof: Proof) -> bool:
    """Has a round of fresh probes, begun after the proof was complete, been answered by the candidate?"""
    needed_after = _needed_after(tx, failover, proof)
    look = tx.live.look.round
    if look is None or look.at < needed_after or tx.now - look.at > tx.policy.reading_fresh:
        begin_look(tx, failover)
        return False
    over = tx.now - look.at > tx.policy.look_wait
    if failover.candidate not in look.answered:
        if over:
            _missed(tx, failover)
            begin_look(tx, failover)
        return False
    if (look.alive or look.elsewhere) and over:
        begin_look(tx, failover)
        return False
    asked = _lookers(tx, failover)
    if not (all(host in look.answered for host in asked) or over or look.alive or look.elsewhere):
        return False
    return not (_unasked(tx, failover, look) or _untold(tx, failover, look) or _awaited(tx, failover, look))


def _again(tx: Transaction, failover: Failover, look: Look) -> None:
    """Another round of questions, if this one has had its time."""
    if tx.now - look.at > tx.policy.look_wait:
        begin_look(tx, failover)


def silent_others(pool: Snapshot, failover: Failover) -> tuple[HostId, ...]:
    """Hosts on record whose agent is silent, without the old master and the candidate."""
    pair = (failover.old_master, failover.candidate)
    return tuple(host for host in sorted(pool.record.hosts) if host not in pair and pool.heard(host) is None)


def _unasked(tx: Transaction, failover: Failover, look: Look) -> bool:
    """Is there a silent host about which nobody has had a word lately, not even that nothing came?"""
    hosts = [h for h in silent_others(tx, failover) if tx.now - look.asked.get(h, -ASKED_FRESH_MS) >= ASKED_FRESH_MS]
    waits = [host for host in hosts if not excused(tx, host)]
    if not waits:
        return False
    if tx.now - look.at > tx.policy.look_wait:
        name = tx.name(waits[0])
        why = f"{name} is silent, and no agent that is heard could ask its xapi for its role"
        long = tx.now - tx.live.phases.step_since > FOR_LONG_MS
        step = f"It is tried again by itself. If {name} is off: poolwarden confirm-fenced {name}"
        subjects = (waits[0], "long" if long else "")
        block(tx, failover, Blocker.UNASKED_MEMBER, subjects, why, step, alert=long)
        begin_look(tx, failover)
    return True


def untold(pool: Snapshot, failover: Failover, look: Look) -> tuple[RoleAnswer, ...]:
    """Silent hosts that are alive, tell no role, and are not excused: one answer of each."""
    silent = silent_others(pool, failover)
    found: dict[HostId, RoleAnswer] = {}
    for (host, _), answer in sorted(look.untold.items(), key=lambda item: item[0]):
        if host in silent and host not in look.told and not excused(pool, host):
            found.setdefault(host, answer)
    return tuple(found.values())


def _untold(tx: Transaction, failover: Failover, look: Look) -> bool:
    """Does a host that is alive and tells no role hold the promotion up? It is named, with what ends that."""
    # safety: filtered is not silent; whoever is there and cannot be asked may be the master, for however long.
    found = untold(tx, failover, look)
    if not found:
        return False
    why, step = untold_said(tx, found)
    hosts = tuple(answer.host for answer in found)
    since = look.untold_since if look.untold_since is not None else tx.now
    if tx.now - since < FOR_LONG_MS:
        # A xapi that restarts tells nothing for some seconds, and is an alert only if it stays so.
        why = f"{why}; its xapi may be restarting"
        block(tx, failover, Blocker.ROLE_UNTOLD, (*hosts, "young"), why, step, alert=False)
    else:
        block(tx, failover, Blocker.ROLE_UNTOLD, hosts, why, step)
    _again(tx, failover, look)
    return True


def untold_said(pool: Snapshot, found: tuple[RoleAnswer, ...]) -> tuple[str, str]:
    """The blocker in one sentence, and what ends it."""
    names = " and ".join(pool.name(answer.host) for answer in found)
    one = len(found) == 1
    changed = [pool.name(answer.host) for answer in found if _changed(pool, answer)]
    why = f"{names}, whose agent{'' if one else 's'} {'is' if one else 'are'} silent, {'is' if one else 'are'} alive"
    why += f" and tell{'s' if one else ''} no role: {'it' if one else 'each'} may be master"
    if changed:
        why += f" ({' and '.join(changed)} shows another certificate than before: it may be another machine)"
    came = "; ".join(f"{pool.name(answer.host)}: {answer.text or 'no answer'}" for answer in found)
    first = pool.name(found[0].host)
    step = (
        f"What came: {came}. Start the agent or xapi there, or switch it off, then: poolwarden confirm-fenced {first}"
    )
    return why, step


def _changed(pool: Snapshot, answer: RoleAnswer) -> bool:
    """Does it show another certificate than its xapi did when its agent was last heard?"""
    known = pool.live.certificates.get(answer.host, "")
    return bool(known and answer.certificate) and answer.certificate != known


def _awaited(tx: Transaction, failover: Failover, look: Look) -> bool:
    """Is a host without an agent still given its time to say that it has become master? Once, and by name.

    A xapi that was told to become master is silent for its fuse of 10 s and its start (xapi: ocaml/xapi/xapi_pool.ml).
    """
    waits = [h for h, since in look.mute.items() if tx.now - since < tx.policy.promote_budget and _might_be_up(tx, h)]
    if not waits:
        return False
    names = " and ".join(tx.name(host) for host in waits)
    why = f"agent and xapi of {names} are silent: if it was just made master by others, it is restarting now"
    step = f"waits {tx.policy.promote_budget / 1000:.0f} s for it. {next_step(tx, waits)}"
    block(tx, failover, Blocker.SILENT_MEMBER, waits, why, step, alert=False)
    _again(tx, failover, look)
    return True


def _might_be_up(pool: Snapshot, host: HostId) -> bool:
    return pool.heard(host) is None and view(pool, host).power is not Power.OFF and not excused(pool, host)


def _needed_after(pool: Snapshot, failover: Failover, proof: Proof) -> Ms:
    after = proof.kind.look_must_follow
    if after is LookAfter.READINGS:
        return paired_since(pool, failover.old_master)
    return (pool.live.fenced.word_used or 0) if after is LookAfter.WORD else pool.live.phases.step_since


def _missed(tx: Transaction, failover: Failover) -> None:
    """The candidate left a look unanswered; three in a row, and it is no candidate on this stream."""
    misses = tx.live.look.misses + 1
    if misses < LOOKS:
        tx.change(LastLook, misses=misses)
    else:
        tx.change(LastLook, misses=0, mute=tx.live.look.mute | {failover.candidate})


def asked_anew(tx: Transaction, host: HostId) -> None:
    """This host has opened another stream: what it left unanswered on the last one is not held against it."""
    tx.change(LastLook, mute=tx.live.look.mute - {host})


def forget_misses(tx: Transaction) -> None:
    """The row of looks that the candidate left unanswered is over."""
    tx.change(LastLook, misses=0)


def drop(tx: Transaction) -> None:
    """What the last look has shown so far proves nothing any more: the next one begins anew."""
    tx.change(LastLook, round=None)


def failover_over(tx: Transaction) -> None:
    """No failover is under way: nothing of its looks is kept."""
    tx.change(LastLook, round=None, mute=frozenset(), misses=0)


def note_answer(tx: Transaction, asker: HostId, look: Look, answers: tuple[RoleAnswer, ...], misses: int) -> None:
    """One asker has answered the present look; ``look``: with what its probes found."""
    tx.change(LastLook, round=roles_told(tx, asker, look, answers), misses=misses)


def begin_look(tx: Transaction, failover: Failover) -> None:
    """Ask every heard member for a new probe under a new nonce."""
    nonce, before = tx.fresh_id("look"), tx.live.look.round or Look("", tx.now)
    # An asker that has gone silent says nothing any more; whoever is heard is asked again in this round.
    untold = {key: answer for key, answer in before.untold.items() if tx.heard(key[1]) is not None}
    since = before.untold_since if untold else None
    tx.change(
        LastLook, round=Look(nonce, tx.now, mute=before.mute, untold=untold, untold_since=since, asked=before.asked)
    )
    asked = _lookers(tx, failover)
    strangers = _strangers(tx, failover, asked, before)
    for host in asked:
        probe = ProbeNow(_targets(tx, failover), nonce, strangers.get(host, ()))
        tx.send(f"{nonce}/{host}", host, probe, ORDER_VALID_MS)


def _lookers(pool: Snapshot, failover: Failover) -> list[HostId]:
    """Every heard member whose agent can be asked for a look."""
    heard = {host: pool.heard(host) for host in pool.record.hosts if host != failover.old_master}
    return [host for host, agent in heard.items() if agent is not None and "probe_now" in agent.hello.capabilities]


def _strangers(
    pool: Snapshot, failover: Failover, heard: list[HostId], before: Look
) -> dict[HostId, tuple[Target, ...]]:
    """Who asks which silent host's xapi for its role: each is asked by two, those without a fresh word first.

    The candidate asks only where nobody else can, or where nobody else has brought an answer in the round before: its
    answer is the one that is waited for.
    """
    askers = [host for host in heard if host != failover.candidate] or heard
    if not askers:
        return {}
    silent = sorted(silent_others(pool, failover), key=lambda host: (before.asked.get(host, -1), host))
    given: dict[HostId, tuple[Target, ...]] = {}
    for n, host in enumerate(silent):
        target = Target(host, pool.record.address_of(host), PLAIN_PORT)
        by = {askers[n % len(askers)], askers[(n + 1) % len(askers)]}
        if before.nonce and before.asked.get(host, -1) < before.at and failover.candidate in heard:
            by.add(failover.candidate)
        for asker in by:
            if len(given.get(asker, ())) < ALL_ASKED:
                given[asker] = (*given.get(asker, ()), target)
    return given


def roles_told(pool: Snapshot, asker: HostId, look: Look, answers: tuple[RoleAnswer, ...]) -> Look:
    """The look with one asker's role answers in it."""
    mute, untold, asked, told = dict(look.mute), dict(look.untold), dict(look.asked), look.told
    for answer in answers:
        asked[answer.host] = pool.now
        untold.pop((answer.host, asker), None)
        if answer.said is RoleClaim.SILENT:
            mute.setdefault(answer.host, pool.now)
            continue
        mute.pop(answer.host, None)
        if answer.said is RoleClaim.UNTOLD:
            untold[answer.host, asker] = answer
        else:
            told = (*told, answer.host)
    since = look.untold_since if look.untold_since is not None or not untold else pool.now
    seen = look.elsewhere or elsewhere(pool, asker, answers)
    return replace(look, mute=mute, untold=untold, untold_since=since, asked=asked, told=told, elsewhere=seen)


def elsewhere(pool: Snapshot, asker: HostId, answers: tuple[RoleAnswer, ...]) -> str:
    """What one asker's role answers say against a promotion; empty: nothing. Silence says nothing."""
    failover = pool.failover
    if failover is None:
        return ""
    ours = (pool.record.address_of(failover.old_master), pool.record.address_of(failover.candidate))
    for answer in answers:
        if answer.host not in pool.record.hosts or answer.host in (failover.old_master, failover.candidate):
            continue
        name = f"{pool.name(answer.host)}, whose agent is silent,"
        if answer.said is RoleClaim.ACTS:
            return f"{name} acts as master: {pool.name(asker)} has asked its xapi"
        # safety: only a master that answers counts; a dead name in an old pool.conf stands against nobody.
        if answer.said is RoleClaim.FOLLOWS and answer.followed_answers and answer.follows not in ours:
            return f"{name} follows a master at {answer.follows} that answers: {pool.name(asker)} has asked them"
    return ""


def _targets(pool: Snapshot, failover: Failover) -> tuple[Target, ...]:
    """The old master's xapi: over TLS, and at the plain port too where a toolstack fence has closed both (either may be
    filtered, then the other one tells). Nobody's without one.
    """
    if not failover.old_master:
        return ()
    ports = (0, PLAIN_PORT) if failover.hold.order else (0,)
    return tuple(Target(failover.old_master, pool.record.address_of(failover.old_master), port) for port in ports)


def last_look(pool: Snapshot, failover: Failover, proof: Proof) -> Reason | None:
    """Why the promotion must not be sent at this instant; None if nothing stands against it."""
    acting = [host for host in serving(pool) if host != failover.candidate]
    if acting:
        return Reason(Cause.SERVES, f"{pool.name(acting[0])} acts as master", (acting[0],))
    # safety: one that has just been told to become master does not serve yet, and will.
    others = [host for host in configured_masters(pool) if host not in (failover.candidate, failover.old_master)]
    if others:
        return set_to_be_master(pool, others[0])
    old = failover.old_master
    agent = pool.agent(old)
    if not proof.kind.other_boot_is_expected and agent is not None and agent.hello.boot_id != failover.old_boot:
        return Reason(Cause.BOOTED, f"{pool.name(old)} has booted anew", (old,))
    # A held or gated old master speaks, and says in the proof itself that it does not act.
    if not proof.kind.old_master_may_speak and pool.heard(old) is not None:
        return Reason(Cause.ALIVE, f"the agent of {pool.name(old)} is heard", (old, "agent"))
    if pool.live.look.round is not None and (said := pool.live.look.round.alive or pool.live.look.round.elsewhere):
        return Reason(Cause.ALIVE, said, (old, "look"))
    if witness(pool, old) is Witness.ANSWERED:
        return Reason(Cause.ALIVE, f"a member reaches the xapi of {pool.name(old)}", (old, "xapi"))
    if own_alive(pool, old):
        return Reason(Cause.ALIVE, f"the collector reaches the xapi of {pool.name(old)}", (old, "xapi"))
    if pool.record.paused is not None:
        return paused(pool)
    return ha_armed(pool) if pool.record.ha_armed else None


def witnessed_now(tx: Transaction, failover: Failover) -> bool:
    """Has a member answered a nonce of the last 5 s with a new probe, unanswered? (A stopped clock makes nothing
    young.)
    """
    look = tx.live.look.round
    if look is None or tx.now - look.at > SHOT_EVIDENCE_MS:
        begin_look(tx, failover)
        return False
    # What a look at a master that loops may meet is a moment of service; its own agent says that it loops.
    moment = failover.loops and failover.path is Path.TOOLSTACK and not failover.hold.order
    alive = bool(look.alive) and not moment
    return bool(look.answered) and not alive and not look.elsewhere and not untold(tx, failover, look)


def why_unwitnessed(pool: Snapshot, failover: Failover) -> str:
    """What the last round of questions says against doing anything to the old master; empty: nobody answered it."""
    look = pool.live.look.round
    if look is None:
        return ""
    found = untold(pool, failover, look)
    return look.alive or look.elsewhere or (untold_said(pool, found)[0] if found else "")


def shot_valid_until(pool: Snapshot) -> Ms:
    """Until when a power-off may begin that stands on the present look; 0: its answers are too old, or there are none.

    Counted from the end of the probe on which it stands, on the clock of whoever made it.
    """
    look = pool.live.look.round
    until = look.seen_at + SHOT_VALID_MS if look is not None and look.seen_at else 0
    return until if until - pool.now >= SHOT_LEAD_MS else 0
