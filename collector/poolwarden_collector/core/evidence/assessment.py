"""What outlasts a single event and is brought up to date before the pool is judged.

Contradictions, links that flap, frozen identities, a journal's restoration and changes of master each have a module of
their own; here is their order, and what they say about a pool in one sentence.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence import announcements, contradictions, identity_conflict, journal_gap, link_flaps
from poolwarden_collector.core.evidence.signs import signs, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Hold, Verdict, beneath, judge
from poolwarden_collector.core.state.transaction import Draft


def judged(d: Draft) -> Verdict:
    """The verdict of this instant, after everything that lasts has been followed."""
    contradictions.watch(d)
    link_flaps.watch(d)
    identity_conflict.calm(d)
    journal_gap.settle(d)
    seen = signs(d)
    if d.record.transition is not None or d.live.transition_since is not None:
        announcements.follow(d, seen)
        seen = signs(d)
    return judge(seen)


def detail(d: Draft, verdict: Verdict) -> str:
    """What this pool's announcement or conflict is, where the verdict is of that kind; empty otherwise."""
    if verdict is Verdict.IDENTITY_CONFLICT:
        return identity_conflict.says(d)
    if verdict is Verdict.EVIDENCE_CONFLICT:
        return d.live.conflict[1] if d.live.conflict is not None else ""
    if announcements.hold(d) is Hold.NONE or verdict not in (
        Verdict.UPGRADING,
        Verdict.TRANSITION,
        Verdict.PLANNED_DOWN,
    ):
        return ""
    return f"{announcements.says(d)}; without that: {beneath(signs(d)).word}"


def describe(d: Draft, verdict: Verdict) -> str:
    """The verdict in one sentence, with this pool's names in it."""
    host = suspected(d)
    if more := detail(d, verdict):
        return f"{verdict.meaning} ({more})"
    if not host:
        return verdict.meaning
    quiet = silence_of(d, host)
    silent = "" if d.heard(host) else f", its agent is silent for {quiet / 1000:.0f} s"
    return f"{verdict.meaning} (master {d.name(host)}{silent})"
