"""What outlasts a single event and is brought up to date before the pool is judged.

Contradictions, links that flap, frozen identities, a journal's restoration and changes of master each have a module of
their own; here is their order, and what they say about a pool in one sentence.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence import announcements, contradictions, identity_conflict, journal_gap, link_flaps
from poolwarden_collector.core.evidence.signs import looping, signs, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import AnnouncedHold, Verdict, judge, without_hold
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.orders import KIND_NAMES, Promote, Repoint, RestartXapi, ToolstackRelease
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live_slices import Service, Starts
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

STARTING = frozenset(KIND_NAMES[kind] for kind in (Promote, Repoint, RestartXapi, ToolstackRelease))


def assess(tx: Transaction) -> Verdict:
    """The verdict of this instant, after everything that lasts has been followed."""
    contradictions.watch_contradictions(tx)
    link_flaps.watch_links(tx)
    identity_conflict.expire(tx)
    journal_gap.expire(tx)
    seen = signs(tx)
    if tx.record.transition is not None or tx.live.announcements.transition_since is not None:
        announcements.observe_announcement(tx, seen)
        seen = signs(tx)
    return judge(seen)


def detail(pool: Snapshot, verdict: Verdict) -> str:
    """What this pool's announcement or conflict is, where the verdict is of that kind; empty otherwise."""
    if verdict is Verdict.IDENTITY_CONFLICT:
        return identity_conflict.conflict_sentence(pool)
    if verdict is Verdict.EVIDENCE_CONFLICT:
        return pool.live.contradictions.conflict[1] if pool.live.contradictions.conflict is not None else ""
    if announcements.announced_hold(pool) is AnnouncedHold.NONE or verdict not in (
        Verdict.UPGRADING,
        Verdict.TRANSITION,
        Verdict.PLANNED_DOWN,
    ):
        return ""
    return f"{announcements.announcement_sentence(pool)}; without that: {without_hold(signs(pool)).word}"


def describe(pool: Snapshot, verdict: Verdict) -> str:
    """The verdict in one sentence, with this pool's names in it."""
    host = suspected(pool)
    if more := detail(pool, verdict):
        return f"{verdict.meaning} ({more})"
    if not host:
        return verdict.meaning
    # Asked of a silent one alone: a report is a moment younger than what silence is judged as of, which ends a rest.
    silent = "" if pool.heard(host) else f", its agent is silent for {silence_of(pool, host) / 1000:.0f} s"
    return f"{verdict.meaning} (master {pool.name(host)}{silent})"


def note_service(tx: Transaction) -> None:
    """Remember since when the master on record has not been seen serving while its agent is heard, and how often its
    xapi has started since.
    """
    agent = tx.heard(suspected(tx))
    _note_loop(tx, suspected(tx))
    unserved = agent is not None and not agent.facts.role.serves_as_master
    if not unserved and tx.live.service.unserved_since is not None:
        tx.change(Service, unserved_since=None, unserved_starts=Starts())
    elif unserved and tx.live.service.unserved_since is None:
        tx.change(Service, unserved_since=tx.now)
    if agent is None:
        return
    process, live = agent.facts.xapi.process, tx.live
    starts = live.service.unserved_starts
    if unserved and starts.other(process):
        ours = starts.count > 0 and _ordered(tx, agent.hello.host, starts.seen_at)
        anew = Starts(process, 1, tx.now) if ours else starts.plus(process, tx.now)
        tx.change(Service, unserved_starts=anew)
    if live.service.unsteady_since is not None and live.service.unsteady_starts.other(process):
        tx.change(Service, unsteady_starts=live.service.unsteady_starts.plus(process, tx.now))


def _ordered(tx: Transaction, host: HostId, last_seen: Ms) -> bool:
    """Is the process that is seen first now the one that an order of ours has started? ``last_seen``: when the one
    before it was seen first.

    The stop that goes before it takes up to 180 s of a xapi that hangs (systemd.service(5): TimeoutStopSec, twice).
    Neither that time nor that start tells anything of the database on which it starts.
    """
    return any(
        sent.host == host
        and sent.kind in STARTING
        and sent.at >= last_seen
        and (sent.result is None or sent.result.outcome is not Outcome.REFUSED)
        for sent in tx.live.sent.values()
    )


def _note_loop(tx: Transaction, master: HostId) -> None:
    """Since when its xapi ends and begins again; a silent agent tells nothing of that, and ends nothing."""
    kept = tx.live.service.looping
    if looping(tx, master):
        if kept is None or kept[0] != master:
            tx.change(Service, looping=(master, tx.now))
    elif kept is not None and (kept[0] != master or tx.heard(master) is not None):
        tx.change(Service, looping=None)


def unserved_already(tx: Transaction, host: HostId) -> None:
    """This host is the master on record from now on, and was seen to come to no service for the time of a start."""
    agent = tx.heard(host)
    if agent is not None:
        starts = Starts(agent.facts.xapi.process, agent.facts.xapi.unasked_starts, tx.now)
        since = tx.now - tx.policy.xapi_starting_limit
        tx.change(Service, unserved_since=since, unserved_starts=starts, looping=(host, since))


def unsteady(tx: Transaction) -> None:
    """From now on it counts how long the pool is not steady, and how often its xapi starts meanwhile."""
    tx.change(Service, unsteady_since=tx.now)


def steady(tx: Transaction) -> None:
    """It is steady again, or told by another alert."""
    tx.change(Service, unsteady_since=None, unsteady_starts=Starts())
