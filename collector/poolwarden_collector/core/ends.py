"""How a failover stands still or ends without a promotion: blocked by name, aborted at a new term, superseded."""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.facts import HostId
from poolwarden_collector.core.journal import Entry, Kind
from poolwarden_collector.core.record import Failover


def abort(d: Draft, why: str) -> None:
    """End a failover before its promotion: a new term, no cool-down."""
    failover = d.record.failover
    assert failover is not None
    unblock(d)
    term = d.record.term + 1
    text = f"failover {failover.id} aborted: {why}; the term is {term} now"
    d.write(Entry(Kind.ABORTED, text, {"why": why, "new_term": term}, failover.id, term))
    d.change(claims={}, look=None)


def superseded(d: Draft, host: HostId) -> None:
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
        pool = d.record.name or d.record.pool
        title = f"{pool}: failover {failover.id} of {d.name(failover.old_master)} stands still: {code}"
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
