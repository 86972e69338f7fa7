"""How a failover stands still or ends without a promotion: blocked by name, aborted at a new term, superseded.

Rules
-----
* A blocker is a code and its subjects (blockers.py). It is journaled when one of them changes and alerted once; its
  sentence may change meanwhile and makes nothing new. The alert of an earlier one is resolved.
* Whoever ends a failover raises the term, so that an order that is still under way meets a higher one at the gate.
"""

from __future__ import annotations

from collections.abc import Iterable

from poolwarden_collector.core.blockers import NEXT_STEP, Blocker
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.facts import HostId, Ms
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.orders import Claim, Target
from poolwarden_collector.core.power import forget
from poolwarden_collector.core.reasons import key_of
from poolwarden_collector.core.record import Failover

CLAIM_VALID_MS: Ms = 15_000


def abort(d: Draft, why: str) -> None:
    """End a failover before its promotion: a new term, no cool-down."""
    failover = d.record.failover
    assert failover is not None
    term = d.record.term + 1
    text = f"failover {failover.id} aborted: {why}; the term is {term} now"
    d.write(Entry(Kind.ABORTED, text, {"why": why, "new_term": term}, failover.id, term))
    _over(d, failover, f"failover {failover.id} was aborted")


def superseded(d: Draft, host: HostId) -> None:
    """End a failover because somebody else serves as master: a new term, told to the candidate at once."""
    failover = d.record.failover
    assert failover is not None
    term = d.record.term + 1
    why = f"{d.name(host)} serves as master already"
    data = {"host": host, "new_term": term}
    d.write(Entry(Kind.SUPERSEDED, f"failover {failover.id} superseded: {why}", data, failover.id, term))
    _over(d, failover, f"failover {failover.id} was superseded")
    if failover.promote_order:
        # safety: a promote order may still be in a buffer; behind it comes a term that its late copies cannot pass.
        target = Target(failover.old_master, d.record.address_of(failover.old_master))
        d.send(d.fresh_id("supersede"), failover.candidate, Claim(target, want_placements=False), CLAIM_VALID_MS)
    title = f"{d.record.name or d.record.pool}: failover {failover.id} superseded"
    d.raise_alert(f"{failover.id}/superseded/done", "warning", title, why)


def _over(d: Draft, failover: Failover, text: str) -> None:
    _owe_undoing(d, failover)
    forget(d, failover.old_master)
    resolve_blocks(d, failover, text, final=True)
    d.change(claims={}, look=None, mute=frozenset(), look_misses=0, aborted_at=d.now, aborts=d.live.aborts + 1)


def _owe_undoing(d: Draft, failover: Failover) -> None:
    """What was held is owed its release, what was placed its removal; paid at once where that can be (release.py)."""
    if failover.hold_order:
        name = d.name(failover.old_master)
        text = f"{name} is owed the release of its toolstack"
        d.note(Kind.OWED, text, host=failover.old_master, what="release", successor="")
    owe_removals(d, failover, "")


def owe_removals(d: Draft, failover: Failover, used_by: HostId) -> None:
    """Every placed database but the one that a promotion has used is owed its removal."""
    for target in failover.placed_on:
        if target != used_by:
            text = f"{d.name(target)} is owed the removal of the database that was placed there"
            d.note(Kind.OWED, text, host=target, what="remove-database", successor="")


def resolve_blocks(d: Draft, failover: Failover, text: str, final: bool = False) -> None:
    """Every alert of this failover's blockers is over."""
    for key in d.open_alerts:
        if key.startswith(f"{d.record.pool}/{failover.id}/BLOCKED_"):
            d.resolve_alert(key, text, final)


def block(
    d: Draft,
    failover: Failover,
    blocker: Blocker,
    subjects: Iterable[object],
    why: str,
    next_step: str = "",
    alert: bool = True,
) -> None:
    """Stand still for this, and say so once per code and subjects; without an alert where a question has its own."""
    topic = key_of(blocker.value, subjects)
    next_step = next_step or _next_step(d, failover, blocker)
    if failover.blocked == blocker and failover.topic == topic:
        return
    resolve_blocks(d, failover, f"the reason has changed: {why}")
    text = f"{blocker.value}: {why}"
    d.note(Kind.BLOCKED, text, code=blocker.value, topic=topic, why=why, next_step=next_step, told=alert)


def standing(d: Draft) -> None:
    """At the end of a pass: the alert of what the open failover stands still for; of no other one."""
    failover = d.failover
    blocks = failover is not None and failover.blocked is not None and failover.blocker_told
    own = f"{failover.id}/{failover.topic}" if failover is not None and blocks else ""
    for key in d.open_alerts:
        name = key.removeprefix(f"{d.record.pool}/")
        if "/BLOCKED_" in name and "/question-" not in name and name != own:
            d.resolve_alert(key, "the failover does not stand still for that any more", final=failover is None)
    if failover is not None and failover.blocked is not None and blocks:
        d.raise_alert(
            own,
            "critical",
            stands_still(d, failover, failover.blocked),
            f"{failover.blocker}. {failover.next_step}".strip(),
            old_master=d.name(failover.old_master) or "no master",
            blocker=failover.blocker,
        )


def _next_step(d: Draft, failover: Failover, blocker: Blocker) -> str:
    """What a person can do about this kind of blocker."""
    pool, old = d.record.name or d.record.pool, d.name(failover.old_master)
    names = {"pool": pool, "old": old, "candidate": d.name(failover.candidate), "silent": _silent(d, failover)}
    return NEXT_STEP.get(blocker, "").format(**names)


def _silent(d: Draft, failover: Failover) -> str:
    """What to do about the hosts that are not heard, by name; empty: all are."""
    silent = [h for h in sorted(d.record.hosts, key=d.name) if h != failover.old_master and d.heard(h) is None]
    if not silent:
        return ""
    names = " and ".join(d.name(host) for host in silent)
    commands = "; ".join(f"poolwarden confirm-fenced {d.name(host)}" for host in silent)
    be = "is" if len(silent) == 1 else "are"
    return f"{names} {be} not heard: start the agent there, or switch it off, then: {commands}. "


def stands_still(d: Draft, failover: Failover, blocker: Blocker) -> str:
    """The title of a blocker's alert."""
    old = d.name(failover.old_master) or "no master"
    return f"{d.record.name or d.record.pool}: failover {failover.id} of {old} stands still: {blocker.value}"


def unblock(d: Draft) -> None:
    """The blocker is gone."""
    failover = d.failover
    if failover is None or not failover.blocked:
        return
    d.note(Kind.UNBLOCKED, f"{failover.blocked} is over")
    resolve_blocks(d, failover, f"{failover.blocked} is over")
