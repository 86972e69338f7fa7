"""What outlasts a single event and is brought up to date before the pool is judged.

Contradictions, links that flap, frozen identities, a journal's restoration and changes of master each have a module of
their own; here is their order, and what they say about a pool in one sentence.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence import announcements, contradictions, identity_conflict, journal_gap, link_flaps
from poolwarden_collector.core.evidence.signs import signs, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import AnnouncedHold, Verdict, judge, without_hold
from poolwarden_collector.core.state.live import Starts
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def assess(d: Transaction) -> Verdict:
    """The verdict of this instant, after everything that lasts has been followed."""
    contradictions.watch_contradictions(d)
    link_flaps.watch_links(d)
    identity_conflict.expire(d)
    journal_gap.expire(d)
    seen = signs(d)
    if d.record.transition is not None or d.live.transition_since is not None:
        announcements.observe_announcement(d, seen)
        seen = signs(d)
    return judge(seen)


def detail(d: Snapshot, verdict: Verdict) -> str:
    """What this pool's announcement or conflict is, where the verdict is of that kind; empty otherwise."""
    if verdict is Verdict.IDENTITY_CONFLICT:
        return identity_conflict.conflict_sentence(d)
    if verdict is Verdict.EVIDENCE_CONFLICT:
        return d.live.conflict[1] if d.live.conflict is not None else ""
    if announcements.announced_hold(d) is AnnouncedHold.NONE or verdict not in (
        Verdict.UPGRADING,
        Verdict.TRANSITION,
        Verdict.PLANNED_DOWN,
    ):
        return ""
    return f"{announcements.announcement_sentence(d)}; without that: {without_hold(signs(d)).word}"


def describe(d: Snapshot, verdict: Verdict) -> str:
    """The verdict in one sentence, with this pool's names in it."""
    host = suspected(d)
    if more := detail(d, verdict):
        return f"{verdict.meaning} ({more})"
    if not host:
        return verdict.meaning
    quiet = silence_of(d, host)
    silent = "" if d.heard(host) else f", its agent is silent for {quiet / 1000:.0f} s"
    return f"{verdict.meaning} (master {d.name(host)}{silent})"


def note_service(d: Transaction) -> None:
    """Remember since when the master on record has not been seen serving while its agent is heard, and how often its
    xapi has started since.
    """
    agent = d.heard(suspected(d))
    unserved = agent is not None and not agent.facts.role.serves_as_master
    if not unserved and d.live.unserved_since is not None:
        d.change(unserved_since=None, unserved_starts=Starts())
    elif unserved and d.live.unserved_since is None:
        d.change(unserved_since=d.now)
    if agent is None:
        return
    process, live = agent.facts.xapi.process, d.live
    if unserved and live.unserved_starts.other(process):
        d.change(unserved_starts=live.unserved_starts.plus(process))
    if live.unsteady_since is not None and live.unsteady_starts.other(process):
        d.change(unsteady_starts=live.unsteady_starts.plus(process))
