"""The collector's word on boot gates: may a host that has booted start its xapi as master?

Rules
-----
* A superseded host, and the old master of a failover that has passed its promote intent: shut. Its successor is named
  only once he is verified: a candidate that turns out dead must leave the old master eligible.
* The candidate of such a failover, rebooted on its way: open exactly when its promotion might be ordered again now, by
  a proof renewed and a last look; else wait. What it is owed of an older change of master says nothing then.
* The master on record: open, unless somebody else is set to be master or a heard member follows somebody else. "Open"
  is journaled before it is said, and ends an open failover that can still be undone.
* In quiet time, and while a power-off of that host may still land: wait. These answers are owed even in a paused pool.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import abort
from poolwarden_collector.core.evidence import serving, set_as_master
from poolwarden_collector.core.facts import HostId, Role
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.look import last_look, looked
from poolwarden_collector.core.orders import AnswerGate
from poolwarden_collector.core.proof import Refusal, find_proof
from poolwarden_collector.core.record import REVERSIBLE, Step

OPEN, SHUT, WAIT = "open", "shut", "wait"


def answer(d: Draft) -> None:
    """Answer every gate that has asked in this step."""
    asked = d.live.asked_gates
    if not asked:
        return
    d.change(asked_gates={})
    if d.record.stale_epoch > d.site.epoch:
        return  # another collector is obeyed there: it answers
    for host, (boot, pool_conf) in sorted(asked.items()):
        decision, reason, successor = _decide(d, host, pool_conf)
        if decision == OPEN and d.failover is not None and d.failover.step in REVERSIBLE:
            abort(d, f"{d.name(host)} has booted and is let be master: {reason}")
        _say(d, host, boot, decision, reason, successor)


def _say(d: Draft, host: HostId, boot: str, decision: str, reason: str, successor: HostId) -> None:
    term, known = d.record.term, d.live.gate_words.get(host)
    if known != (boot, decision, term):
        word = {OPEN: "may start as master", SHUT: "stays shut", WAIT: "waits"}[decision]
        text = f"boot gate of {d.name(host)}: {word}: {reason}"
        d.note(Kind.GATE_ANSWER, text, host=host, boot_id=boot, decision=decision, successor=successor)
        d.change(gate_words={**d.live.gate_words, host: (boot, decision, term)})
    address = d.record.address_of(successor) if successor else ""
    # safety: said only after it is durable; the agent raises its term to this one before its gate moves.
    d.do(AnswerGate(host, boot, decision, reason, term, successor, address))


def _decide(d: Draft, host: HostId, pool_conf: Role) -> tuple[str, str, HostId]:
    """The decision, its reason, and the successor where one is verified."""
    if d.quiet:
        return WAIT, "this collector has only just started and is still hearing the pool", ""
    failover = d.record.failover
    if failover is not None and failover.fence_pending is not None and failover.old_master == host:
        return WAIT, "a power-off of this host may still be under way", ""
    if failover is not None and failover.open and failover.step not in REVERSIBLE:
        if host == failover.old_master:
            new = _verified(d, failover.candidate) if failover.step is Step.PROMOTED else ""
            return SHUT, f"{d.name(failover.candidate)} is to succeed it at term {failover.term}", new
        if host == failover.candidate and failover.step is Step.PROMOTING:
            return _candidate(d)
    if any(item.host == host and item.what == "tombstone" for item in d.record.owed) and host != d.record.master:
        return SHUT, f"{d.name(d.record.master)} succeeded it", _verified(d, d.record.master)
    acting = [other for other in serving(d) if other != host]
    if acting:
        return SHUT, f"{d.name(acting[0])} serves as master", acting[0]
    return _nobody_else(d, host)


def _verified(d: Draft, host: HostId) -> HostId:
    """The successor, if he has been seen serving: his address may be written down."""
    return host if host in serving(d) or d.record.master == host else ""


def _candidate(d: Draft) -> tuple[str, str, HostId]:
    """It was being promoted when it rebooted: whatever would allow the order again allows its start."""
    failover = d.failover
    assert failover is not None
    proof = find_proof(d, failover)
    if isinstance(proof, Refusal):
        return WAIT, f"its promotion is not proven at this moment: {proof.why}", ""
    if not looked(d, failover, proof):
        return WAIT, "its promotion is being looked at once more", ""
    refusal = last_look(d, failover, proof)
    if refusal:
        return WAIT, f"its promotion is not let go on: {refusal}", ""
    return OPEN, f"it is the one to succeed at term {failover.term}, and the proof stands", ""


def _nobody_else(d: Draft, host: HostId) -> tuple[str, str, HostId]:
    """Nobody serves and no failover speaks against it: is anybody else on the way to be master?"""
    poised = [other for other in set_as_master(d) if other != host]
    if poised:
        return WAIT, f"{d.name(poised[0])} is set to be master by its pool.conf or its process", ""
    address = d.record.address_of(host)
    for other in sorted(d.record.hosts, key=d.name):
        agent = d.heard(other)
        if agent is None or other == host or agent.facts.role.pool_conf is not Role.MEMBER:
            continue
        if address and agent.facts.role.master_address != address:
            return WAIT, f"{d.name(other)} follows {agent.facts.role.master_address}", ""
    if d.record.master not in ("", host):
        return WAIT, f"{d.name(d.record.master)} was the master when the pool was last heard", ""
    return OPEN, "nobody else serves or is set to serve", ""
