"""The collector's word on boot gates: may a host that has booted start its xapi as master?

Rules
-----
* A superseded host, and the old master of a failover that has passed its promote intent: shut. Its successor is named
  only once it is verified: a candidate that turns out dead must leave the old master eligible.
* The candidate of such a failover, rebooted on its way: open exactly when its promotion might be ordered again now, by
  a proof renewed and a last look; else wait. What it is owed of an older change of master says nothing then.
* The master on record: open, unless somebody else is set to be master, a heard member follows somebody else, or a host
  on record is not heard and may be master for all that is known (unheard_at_boot.py). "Open" is journaled before it is
  said, and ends an open failover that can still be undone.
* In quiet time, and while a power-off of that host may still land: wait. These answers are owed even in a paused pool.
* An agent whose gate does not open asks again every two seconds, whatever it was told: no answer outlives its ground.
  A wait for hosts that are not heard has their power read meanwhile, and is alerted once it has lasted.
"""

from __future__ import annotations

from typing import NamedTuple

from poolwarden_collector.core.catalogue.hosts import GATE_DARK, GATE_WAITS
from poolwarden_collector.core.decision import takeover
from poolwarden_collector.core.evidence.fenced_hosts import excused
from poolwarden_collector.core.evidence.proof import NoProof, find_proof
from poolwarden_collector.core.evidence.signs import configured_masters, serving
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.failover.last_look import last_look, looked
from poolwarden_collector.core.model.effects import AnswerGate
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.recovery import unheard_at_boot
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Path, Step
from poolwarden_collector.core.state.live_slices import BootGates, WaitingGate
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

OPEN, SHUT, WAIT = "open", "shut", "wait"
GONE_MS: Ms = 30_000  # a gate that has not asked for so long is open, or its host is gone
ALERT_AFTER_MS: Ms = 30_000  # two OFF readings and every role answer have come by then


class Answer(NamedTuple):
    """A word on one gate. ``ground`` tells one reason from another; ``waits``: hosts whose silence is the reason.

    ``dark``: hosts that were let be dark.
    """

    decision: str
    reason: str
    successor: HostId = ""
    ground: str = ""
    waits: tuple[HostId, ...] = ()
    dark: tuple[HostId, ...] = ()
    spoken: bool = False  # by what those hosts said, not by their silence


def note_asked(tx: Transaction, host: HostId, boot: str, pool_conf: Role) -> None:
    """This host's gate has asked, in this boot and role; it is answered at the end of the step."""
    tx.change(BootGates, asked={**tx.live.gates.asked, host: (boot, pool_conf)})


def answer(tx: Transaction) -> None:
    """Answer every gate that has asked in this step."""
    _tidy(tx)
    asked = tx.live.gates.asked
    if not asked:
        return
    tx.change(BootGates, asked={})
    if tx.record.stale_epoch > tx.site.epoch:
        return  # another collector is obeyed there: it answers
    for host, (boot, pool_conf) in sorted(asked.items()):
        _note_waiting(tx, host, boot)
        if tx.site.cut_off:
            continue  # no answer would be sent; that it asks is known, and what was told of it stays
        word = _decide(tx, host, pool_conf)
        if word.decision == OPEN and tx.failover is not None and tx.failover.step in REVERSIBLE:
            abort(tx, f"{tx.name(host)} has booted and is let be master: {word.reason}")
        _say(tx, host, boot, word)
        _follow_up(tx, host, word)


def waited_for(pool: Snapshot) -> frozenset[HostId]:
    """The silent hosts for which some gate waits now."""
    return frozenset(host for gate in pool.live.gates.waiting.values() for host in gate.waits)


def _say(tx: Transaction, host: HostId, boot: str, word: Answer) -> None:
    term, known = tx.record.term, tx.live.gates.words.get(host)
    decision, successor = word.decision, word.successor
    if known != (boot, decision, term, word.ground):
        does = {OPEN: "may start as master", SHUT: "stays shut", WAIT: "waits"}[decision]
        text = f"boot gate of {tx.name(host)}: {does}: {word.reason}"
        tx.note(Kind.GATE_ANSWER, text, host=host, boot_id=boot, decision=decision, successor=successor)
        tx.change(BootGates, words={**tx.live.gates.words, host: (boot, decision, term, word.ground)})
    address = tx.record.address_of(successor) if successor else ""
    # safety: said only after it is durable; the agent raises its term to this one before its gate moves.
    tx.do(AnswerGate(host, boot, decision, word.reason, term, successor, address))


# ------------------------------------------------------------------------------------------------ the decision


def _decide(tx: Transaction, host: HostId, pool_conf: Role) -> Answer:
    """The decision, its reason, and the successor where one is verified."""
    if tx.quiet:
        why = f"this collector has only just {takeover.just(tx)} and is still hearing the pool"
        return Answer(WAIT, why, waits=unheard_at_boot.missing(tx, host))
    failover = tx.record.failover
    if failover is not None and failover.fencing.pending is not None and failover.old_master == host:
        return Answer(WAIT, "a power-off of this host may still be under way")
    if failover is not None and failover.open and failover.step not in REVERSIBLE:
        # Where nobody was master, whoever was silent then may have been it.
        if host == failover.old_master or (failover.path is Path.ROLES and host != failover.candidate):
            new = _verified(tx, failover.candidate) if failover.step is Step.PROMOTED else ""
            return Answer(SHUT, f"{tx.name(failover.candidate)} is to succeed it at term {failover.term}", new)
        if host == failover.candidate and failover.step is Step.PROMOTING:
            return _candidate(tx)
    if (
        any(item.host == host and item.what is OwedWork.TOMBSTONE for item in tx.record.owed)
        and host != tx.record.master
    ):
        return Answer(SHUT, f"{tx.name(tx.record.master)} succeeded it", _verified(tx, tx.record.master))
    acting = [other for other in serving(tx) if other != host]
    if acting:
        return Answer(SHUT, f"{tx.name(acting[0])} serves as master", acting[0])
    return _nobody_heard(tx, host) or _nobody_unheard(tx, host)


def _verified(pool: Snapshot, host: HostId) -> HostId:
    """The successor, if it has been seen serving: its address may be written down."""
    return host if host in serving(pool) or pool.record.master == host else ""


def _candidate(tx: Transaction) -> Answer:
    """It was being promoted when it rebooted: whatever would allow the order again allows its start."""
    failover = tx.failover
    assert failover is not None
    proof = find_proof(tx, failover)
    if isinstance(proof, NoProof):
        return Answer(WAIT, f"its promotion is not proven at this moment: {proof.why}")
    if not looked(tx, failover, proof):
        return Answer(WAIT, "its promotion is being looked at once more")
    refusal = last_look(tx, failover, proof)
    if refusal:
        return Answer(WAIT, f"its promotion is not let go on: {refusal}")
    return Answer(OPEN, f"it is the one to succeed at term {failover.term}, and the proof stands")


def _nobody_heard(pool: Snapshot, host: HostId) -> Answer | None:
    """Nobody serves and no failover speaks against it: is anybody who is heard on the way to be master?"""
    poised = [other for other in configured_masters(pool) if other != host]
    if poised:
        why = f"{pool.name(poised[0])} is set to be master by its pool.conf or its process"
        return Answer(WAIT, why, ground=f"poised/{poised[0]}")
    address = pool.record.address_of(host)
    for other in sorted(pool.record.hosts, key=pool.name):
        agent = pool.heard(other)
        if agent is None or other == host or agent.facts.role.pool_conf is not Role.MEMBER:
            continue
        if address and agent.facts.role.master_address != address:
            return Answer(
                WAIT, f"{pool.name(other)} follows {agent.facts.role.master_address}", ground=f"follows/{other}"
            )
    before = pool.record.master
    if before not in ("", host) and pool.heard(before) is None and not excused(pool, before):
        # safety: stricter than for any other silent host; being dark, however long, is not enough for the last master.
        why = f"{pool.name(before)} was the master when the pool was last heard, and is not proven off"
        return Answer(WAIT, why, ground=f"unheard/{before}/was-master", waits=(before,))
    return None


def _nobody_unheard(pool: Snapshot, host: HostId) -> Answer:
    """Nobody who is heard stands against it: may anybody who is not?"""
    gate = pool.live.gates.waiting[host]
    found = unheard_at_boot.judge(pool, host, gate.since)
    if not found.may_open:
        # safety: a silent host may have been made master by hand, by another collector, or in a past that is lost here.
        return Answer(
            SHUT if found.acts else WAIT, found.why, ground=found.ground, waits=found.waits, spoken=found.spoken
        )
    reason = "nobody else serves or is set to serve"
    if found.dark:
        dark = unheard_at_boot.named(pool, found.dark)
        reason += f"; {dark} stayed dark to everybody for ten minutes, and others follow it"
    return Answer(OPEN, reason, dark=found.dark)


# ------------------------------------------------------------------------------------------------ while it waits


def _note_waiting(tx: Transaction, host: HostId, boot: str) -> None:
    known = tx.live.gates.waiting.get(host)
    since = known.since if known is not None and known.boot == boot else tx.now
    waits = known.waits if known is not None else ()
    tx.change(BootGates, waiting={**tx.live.gates.waiting, host: WaitingGate(boot, since, tx.now, waits)})


def _follow_up(tx: Transaction, host: HostId, word: Answer) -> None:
    """Remember for whom it waits, have them asked, and tell people once it has lasted."""
    gate = tx.live.gates.waiting[host]
    tx.change(
        BootGates, waiting={**tx.live.gates.waiting, host: WaitingGate(gate.boot, gate.since, gate.at, word.waits)}
    )
    if word.waits or word.dark:
        unheard_at_boot.ask(tx, host)
    if word.decision == OPEN:
        _opened(tx, host, word)
    elif word.ground and tx.now - max(gate.since, tx.quiet_until) >= ALERT_AFTER_MS:
        _alert(tx, host, word)


def _alert(tx: Transaction, host: HostId, word: Answer) -> None:
    name = tx.name(host)
    topic = AlertTopic(Matter.GATE, host, word.ground)
    tx.resolve_alerts(Matter.GATE, host, "the reason has changed", but=topic)
    told = [
        f"{name} has booted, and its xapi is held back: {word.reason}.",
        *unheard_at_boot.unheard_lines(tx, word.waits),
    ]
    steps = [f"poolwarden confirm-fenced {tx.name(other)}" for other in word.waits if other not in _alive(tx, word)]
    told += [f"If you know that such a host is off: {'; '.join(steps)}."] if steps else []
    told.append(f"If you know that no other host is master, on {name}: poolwarden-agent gate open.")
    by_hand = f"if no other host is master, on {name}: poolwarden-agent gate open"
    off = f"if you know that such a host is off: {'; '.join(steps)}"
    words = {"name": name, "why": word.reason, "step": off if steps else by_hand}
    tx.raise_alert(topic, GATE_WAITS, "\n".join(told), words, host=name)


def _alive(pool: Snapshot, word: Answer) -> tuple[HostId, ...]:
    """Hosts that said something themselves: nobody confirms that these are off."""
    return word.waits if word.spoken else ()


def _opened(tx: Transaction, host: HostId, word: Answer) -> None:
    tx.resolve_alerts(Matter.GATE, host, f"the boot gate of {tx.name(host)} is open")
    for other in word.dark:
        name = tx.name(other)
        body = (
            f"{name} has not answered anybody for ten minutes, by its agent, its xapi or a ping, and its power is not "
            f"proven off. If it was made master meanwhile, there are two: keep {name} off the network until it follows "
            f"{tx.name(host)}."
        )
        words = {"name": name, "host": tx.name(host)}
        tx.raise_alert(AlertTopic(Matter.GATE_DARK, other), GATE_DARK, body, words, host=tx.name(host))


def _tidy(tx: Transaction) -> None:
    """Gates that do not ask any more, and the alerts of what is over."""
    gone = [host for host, gate in tx.live.gates.waiting.items() if tx.now - gate.at >= GONE_MS]
    if gone:
        tx.change(BootGates, waiting={host: gate for host, gate in tx.live.gates.waiting.items() if host not in gone})
    for topic in tx.open_topics:
        host = topic.host
        if topic.matter is Matter.GATE_DARK and (why := _no_longer_dark(tx, host)):
            tx.resolve_alert(topic, why)
        elif topic.matter is Matter.GATE:
            waiting = host in tx.live.gates.waiting or tx.now < tx.quiet_until + GONE_MS
            if not waiting:
                tx.resolve_alert(topic, f"{tx.name(host)} does not ask at its boot gate any more")


def _no_longer_dark(pool: Snapshot, host: HostId) -> str:
    if host not in pool.record.hosts:
        return f"{pool.name(host)} is no longer a host of this pool"
    return f"{pool.name(host)} is heard again" if pool.heard(host) is not None else excused(pool, host)
