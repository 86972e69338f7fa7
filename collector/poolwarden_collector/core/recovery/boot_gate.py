"""The collector's word on boot gates: may a host that has booted start its xapi as master?

Rules
-----
* A superseded host, and the old master of a failover that has passed its promote intent: shut. Its successor is named
  only once he is verified: a candidate that turns out dead must leave the old master eligible.
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
from poolwarden_collector.core.state.live import WaitingGate
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


def answer(d: Transaction) -> None:
    """Answer every gate that has asked in this step."""
    _tidy(d)
    asked = d.live.asked_gates
    if not asked:
        return
    d.change(asked_gates={})
    if d.record.stale_epoch > d.site.epoch:
        return  # another collector is obeyed there: it answers
    for host, (boot, pool_conf) in sorted(asked.items()):
        _note_waiting(d, host, boot)
        word = _decide(d, host, pool_conf)
        if word.decision == OPEN and d.failover is not None and d.failover.step in REVERSIBLE:
            abort(d, f"{d.name(host)} has booted and is let be master: {word.reason}")
        _say(d, host, boot, word)
        _follow_up(d, host, word)


def waited_for(d: Snapshot) -> frozenset[HostId]:
    """The silent hosts for which some gate waits now."""
    return frozenset(host for gate in d.live.gates.values() for host in gate.waits)


def _say(d: Transaction, host: HostId, boot: str, word: Answer) -> None:
    term, known = d.record.term, d.live.gate_words.get(host)
    decision, successor = word.decision, word.successor
    if known != (boot, decision, term, word.ground):
        does = {OPEN: "may start as master", SHUT: "stays shut", WAIT: "waits"}[decision]
        text = f"boot gate of {d.name(host)}: {does}: {word.reason}"
        d.note(Kind.GATE_ANSWER, text, host=host, boot_id=boot, decision=decision, successor=successor)
        d.change(gate_words={**d.live.gate_words, host: (boot, decision, term, word.ground)})
    address = d.record.address_of(successor) if successor else ""
    # safety: said only after it is durable; the agent raises its term to this one before its gate moves.
    d.do(AnswerGate(host, boot, decision, word.reason, term, successor, address))


# ------------------------------------------------------------------------------------------------ the decision


def _decide(d: Transaction, host: HostId, pool_conf: Role) -> Answer:
    """The decision, its reason, and the successor where one is verified."""
    if d.quiet:
        why = "this collector has only just started and is still hearing the pool"
        return Answer(WAIT, why, waits=unheard_at_boot.missing(d, host))
    failover = d.record.failover
    if failover is not None and failover.fence_pending is not None and failover.old_master == host:
        return Answer(WAIT, "a power-off of this host may still be under way")
    if failover is not None and failover.open and failover.step not in REVERSIBLE:
        # Where nobody was master, whoever was silent then may have been it.
        if host == failover.old_master or (failover.path is Path.ROLES and host != failover.candidate):
            new = _verified(d, failover.candidate) if failover.step is Step.PROMOTED else ""
            return Answer(SHUT, f"{d.name(failover.candidate)} is to succeed it at term {failover.term}", new)
        if host == failover.candidate and failover.step is Step.PROMOTING:
            return _candidate(d)
    if any(item.host == host and item.what is OwedWork.TOMBSTONE for item in d.record.owed) and host != d.record.master:
        return Answer(SHUT, f"{d.name(d.record.master)} succeeded it", _verified(d, d.record.master))
    acting = [other for other in serving(d) if other != host]
    if acting:
        return Answer(SHUT, f"{d.name(acting[0])} serves as master", acting[0])
    return _nobody_heard(d, host) or _nobody_unheard(d, host)


def _verified(d: Snapshot, host: HostId) -> HostId:
    """The successor, if he has been seen serving: his address may be written down."""
    return host if host in serving(d) or d.record.master == host else ""


def _candidate(d: Transaction) -> Answer:
    """It was being promoted when it rebooted: whatever would allow the order again allows its start."""
    failover = d.failover
    assert failover is not None
    proof = find_proof(d, failover)
    if isinstance(proof, NoProof):
        return Answer(WAIT, f"its promotion is not proven at this moment: {proof.why}")
    if not looked(d, failover, proof):
        return Answer(WAIT, "its promotion is being looked at once more")
    refusal = last_look(d, failover, proof)
    if refusal:
        return Answer(WAIT, f"its promotion is not let go on: {refusal}")
    return Answer(OPEN, f"it is the one to succeed at term {failover.term}, and the proof stands")


def _nobody_heard(d: Snapshot, host: HostId) -> Answer | None:
    """Nobody serves and no failover speaks against it: is anybody who is heard on the way to be master?"""
    poised = [other for other in configured_masters(d) if other != host]
    if poised:
        why = f"{d.name(poised[0])} is set to be master by its pool.conf or its process"
        return Answer(WAIT, why, ground=f"poised/{poised[0]}")
    address = d.record.address_of(host)
    for other in sorted(d.record.hosts, key=d.name):
        agent = d.heard(other)
        if agent is None or other == host or agent.facts.role.pool_conf is not Role.MEMBER:
            continue
        if address and agent.facts.role.master_address != address:
            return Answer(WAIT, f"{d.name(other)} follows {agent.facts.role.master_address}", ground=f"follows/{other}")
    before = d.record.master
    if before not in ("", host) and d.heard(before) is None and not excused(d, before):
        # safety: stricter than for any other silent host; being dark, however long, is not enough for the last master.
        why = f"{d.name(before)} was the master when the pool was last heard, and is not proven off"
        return Answer(WAIT, why, ground=f"unheard/{before}/was-master", waits=(before,))
    return None


def _nobody_unheard(d: Snapshot, host: HostId) -> Answer:
    """Nobody who is heard stands against it: may anybody who is not?"""
    gate = d.live.gates[host]
    found = unheard_at_boot.judge(d, host, gate.since)
    if not found.may_open:
        # safety: a silent host may have been made master by hand, by another collector, or in a past that is lost here.
        return Answer(
            SHUT if found.acts else WAIT, found.why, ground=found.ground, waits=found.waits, spoken=found.spoken
        )
    reason = "nobody else serves or is set to serve"
    if found.dark:
        reason += (
            f"; {unheard_at_boot.named(d, found.dark)} stayed dark to everybody for ten minutes, and others follow it"
        )
    return Answer(OPEN, reason, dark=found.dark)


# ------------------------------------------------------------------------------------------------ while it waits


def _note_waiting(d: Transaction, host: HostId, boot: str) -> None:
    known = d.live.gates.get(host)
    since = known.since if known is not None and known.boot == boot else d.now
    waits = known.waits if known is not None else ()
    d.change(gates={**d.live.gates, host: WaitingGate(boot, since, d.now, waits)})


def _follow_up(d: Transaction, host: HostId, word: Answer) -> None:
    """Remember for whom it waits, have them asked, and tell people once it has lasted."""
    gate = d.live.gates[host]
    d.change(gates={**d.live.gates, host: WaitingGate(gate.boot, gate.since, gate.at, word.waits)})
    if word.waits or word.dark:
        unheard_at_boot.ask(d, host)
    if word.decision == OPEN:
        _opened(d, host, word)
    elif word.ground and d.now - max(gate.since, d.quiet_until) >= ALERT_AFTER_MS:
        _alert(d, host, word)


def _alert(d: Transaction, host: HostId, word: Answer) -> None:
    name, pool = d.name(host), d.record.name or d.record.pool
    topic = AlertTopic(Matter.GATE, host, word.ground)
    d.resolve_alerts(Matter.GATE, host, "the reason has changed", but=topic)
    told = [
        f"{name} has booted, and its xapi is held back: {word.reason}.",
        *unheard_at_boot.unheard_lines(d, word.waits),
    ]
    steps = [f"poolwarden confirm-fenced {d.name(other)}" for other in word.waits if other not in _alive(d, word)]
    told += [f"If you know that such a host is off: {'; '.join(steps)}."] if steps else []
    told.append(f"If you know that no other host is master, on {name}: poolwarden-agent gate open.")
    title = f"{pool}: {name} has booted and waits at its boot gate"
    d.raise_alert(topic, "critical", title, "\n".join(told), host=name)


def _alive(d: Snapshot, word: Answer) -> tuple[HostId, ...]:
    """Hosts that said something themselves: nobody confirms that these are off."""
    return word.waits if word.spoken else ()


def _opened(d: Transaction, host: HostId, word: Answer) -> None:
    d.resolve_alerts(Matter.GATE, host, f"the boot gate of {d.name(host)} is open")
    pool = d.record.name or d.record.pool
    for other in word.dark:
        name = d.name(other)
        title = f"{pool}: {d.name(host)} was let start as master while {name} stays dark"
        body = (
            f"{name} has not answered anybody for ten minutes, by its agent, its xapi or a ping, and its power is not "
            f"proven off. If it was made master meanwhile, there are two: keep {name} off the network until it follows "
            f"{d.name(host)}."
        )
        d.raise_alert(AlertTopic(Matter.GATE_DARK, other), "critical", title, body, host=d.name(host))


def _tidy(d: Transaction) -> None:
    """Gates that do not ask any more, and the alerts of what is over."""
    gone = [host for host, gate in d.live.gates.items() if d.now - gate.at >= GONE_MS]
    if gone:
        d.change(gates={host: gate for host, gate in d.live.gates.items() if host not in gone})
    for topic in d.open_topics:
        host = topic.host
        if topic.matter is Matter.GATE_DARK and (why := _no_longer_dark(d, host)):
            d.resolve_alert(topic, why)
        elif topic.matter is Matter.GATE:
            waiting = host in d.live.gates or d.now < d.quiet_until + GONE_MS
            if not waiting:
                d.resolve_alert(topic, f"{d.name(host)} does not ask at its boot gate any more")


def _no_longer_dark(d: Snapshot, host: HostId) -> str:
    if host not in d.record.hosts:
        return f"{d.name(host)} is no longer a host of this pool"
    return f"{d.name(host)} is heard again" if d.heard(host) is not None else excused(d, host)
