"""Assumptions that failed on a host: from when they count, and what is then not done by itself there.

Theory
------
Everything that Poolwarden does on a host rests on what it believes of xapi, systemd and dom0 (the table is
poolwarden/assumptions.py). Each agent looks whether that is so on its own host and reports what it found. What failed
on a host restricts acts on that host: they are asked about, with the reason. It restricts nothing on any other one.

Rules
-----
* What failed counts from a pass in which the pool is Healthy, has been so for ``SETTLED_MS``, and nothing is under way:
  never in the middle of a failover or of a restart in place. What was learned there counts once the pool is Healthy.
* A *static* one, which an agent can look at any time, counts only if it was looked at in a Healthy pool: what this run
  knows to have been seen in one that was not waits for the next look. What was seen before this run is taken as told,
  and a pool that is merely Suspect, as it is while an agent starts anew and looks, is in no trouble yet.
* It is journaled, and outlives the collector. It ends with a later *holds* of that host, at any time, or when the host
  runs another release; a report that does not name it changes nothing.
* What failed under another release and is told on counts no more until it is seen under the new one.
* At most one change per host and minute: a host that says now this and now that fills no journal.
* The gate, a tombstone, a hold and its end, and a guard act whatever is found, and so does what brings a pool back
  after a promotion was intended; ``NOT_BY_ITSELF`` has everything that is restricted. An operator's own command
  overrules it, and its answer names what failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from poolwarden import assumptions as table
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import AssumptionSeen, Finding, HostFacts
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.assumption_record import FailedAssumption
from poolwarden_collector.core.state.live_slices import AssumptionWatch
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

SETTLED_MS: Ms = 10_000
CHANGE_MS: Ms = 60_000

# What is asked about instead of done, on the host on which something failed that this rests on (docs/safety.md).
NOT_BY_ITSELF: dict[str, str] = {
    table.PROMOTION: "it is not promoted: it ranks after members on which nothing failed, and is asked about",
    table.REPOINT: "it is not pointed at a master: after a failover it is owed that, and asked about",
    table.RESTART: "its xapi is not restarted",
    table.TOOLSTACK_FENCE: "its toolstack is not held, for a successor or for a restart in place",
    table.HANDOVER: "its database is not taken to another host, and none is placed on it",
    table.FORECAST: "it is not promoted or pointed at a master, and its xapi is not restarted",
    table.POWER: "it is not switched off or on, and nobody is promoted, or told that it is dead, because it reads OFF",
    table.SWITCHOVER: "nothing: the role is handed over at an operator's word alone, and the answer names it",
    table.FOLLOWUPS: "as master it is not told that another host is dead",
}


def note(tx: Transaction, verdict: Verdict) -> None:
    """Take over what heard hosts have shown, where it counts now; end what is over."""
    if verdict is Verdict.HEALTHY and tx.live.assumptions.first_healthy is None:
        tx.change(AssumptionWatch, first_healthy=tx.now)
    elif verdict not in (Verdict.HEALTHY, Verdict.SUSPECT):
        tx.change(AssumptionWatch, trouble_at=tx.now)
    for host in sorted(tx.record.hosts, key=tx.name):
        agent = tx.heard(host)
        if agent is None or (agent.facts.assumptions is None and host not in tx.record.assumptions):
            continue
        before = tx.record.assumptions.get(host, ())
        after = _ended(before, agent.facts)
        if _counts(tx, verdict):
            after = _with_failed(tx, after, agent.facts)
        if after != before:
            _change(tx, host, before, after)


def _change(
    tx: Transaction, host: HostId, before: tuple[FailedAssumption, ...], after: tuple[FailedAssumption, ...]
) -> None:
    last = tx.live.assumptions.changed.get(host)
    if last is not None and tx.now - last < CHANGE_MS:
        return
    tx.change(AssumptionWatch, changed={**tx.live.assumptions.changed, host: tx.now})
    news = [each for each in after if each not in before and not each.outdated]
    still = {each.id for each in after if not each.outdated}
    over = [each.id for each in before if not each.outdated and each.id not in still]
    words = [f"{each.id} fails ({each.evidence or 'no evidence was told'})" for each in news]
    words += [f"{id} holds again, or is to be seen anew under another release" for id in over]
    text = f"what is assumed of {tx.name(host)}: {'; '.join(words) or 'nothing else than before'}"
    tx.note(Kind.ASSUMPTIONS, text, host=host, failed=[each.as_data() for each in after])


def _counts(pool: Snapshot, verdict: Verdict) -> bool:
    """May what failed be taken over in this pass?"""
    # safety: what is learned in the middle of a failover must not stop it half-way; afterwards it counts.
    if pool.failover is not None or pool.record.in_place is not None or pool.record.transition is not None:
        return False
    since = pool.live.verdict.since
    return verdict is Verdict.HEALTHY and pool.live.verdict.word == verdict.word and pool.now - since >= SETTLED_MS


def _ended(before: tuple[FailedAssumption, ...], facts: HostFacts) -> tuple[FailedAssumption, ...]:
    """Without what holds now; what was seen under another release is kept as outdated, to be known again."""
    told = facts.assumptions.results if facts.assumptions is not None else ()
    holds = {each.id for each in told if each.finding is Finding.HOLDS}
    now = software(facts)
    return tuple(
        replace(each, outdated=each.outdated or bool(now and each.software and now != each.software))
        for each in before
        if each.id not in holds
    )


def _with_failed(pool: Snapshot, known: tuple[FailedAssumption, ...], facts: HostFacts) -> tuple[FailedAssumption, ...]:
    found = {each.id: each for each in known}
    for seen in facts.assumptions.results if facts.assumptions is not None else ():
        assumption = table.BY_ID.get(seen.id)
        if seen.finding is not Finding.FAILS or assumption is None or not _seen_in_time(pool, seen, assumption.how):
            continue
        had = found.get(seen.id)
        again = had is not None and had.outdated and had.release == seen.release
        if not again and (had is None or had.outdated or had.rests != assumption.rests):
            failed = FailedAssumption(seen.id, assumption.rests, seen.evidence, seen.release, software(facts))
            found[seen.id] = failed
    return tuple(found.values())


def _seen_in_time(pool: Snapshot, seen: AssumptionSeen, how: str) -> bool:
    """Was a static one looked at in a Healthy pool, as far as this run knows?"""
    first, trouble_at = pool.live.assumptions.first_healthy, pool.live.assumptions.trouble_at
    if how != table.STATIC or seen.seen_at is None or first is None or trouble_at is None:
        return True
    return not first <= seen.seen_at <= trouble_at


def software(facts: HostFacts) -> str:
    """The release of a host's software, as it reports itself; empty: not known."""
    return f"{facts.product}, xapi {facts.xapi_version}" if facts.product and facts.xapi_version else ""


# ------------------------------------------------------------------------------------------------ what is restricted


def failed(pool: Snapshot, host: HostId, *capabilities: str) -> tuple[FailedAssumption, ...]:
    """What failed on this host of what these capabilities rest on; of all of them where none is named."""
    return tuple(
        each
        for each in pool.record.assumptions.get(host, ())
        if not each.outdated and (not capabilities or set(capabilities) & set(each.rests))
    )


def refusal(pool: Snapshot, host: HostId, *capabilities: str) -> Reason | None:
    """Why what rests on these is not done by itself on this host; None if nothing of it failed there."""
    found = failed(pool, host, *capabilities)
    if not found:
        return None
    what = "; ".join(f"{each.id} ({each.evidence})" if each.evidence else each.id for each in found)
    be = "fail" if len(found) > 1 else "fails"
    return Reason(Cause.ASSUMPTION, f"on {pool.name(host)} {what} {be}", keys(host, found))


def keys(host: HostId, found: Iterable[FailedAssumption]) -> tuple[str, ...]:
    """What a question and its yes name."""
    return tuple(sorted(f"{host}/{each.id}" for each in found))


def joined(reasons: Iterable[Reason | None]) -> Reason | None:
    """Several of them as one; None if there is none."""
    found = [reason for reason in reasons if reason is not None]
    if not found:
        return None
    subjects = tuple(sorted({subject for reason in found for subject in reason.subjects}))
    return Reason(Cause.ASSUMPTION, "; ".join(dict.fromkeys(reason.text for reason in found)), subjects)
