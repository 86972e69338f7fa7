"""What has been announced: a rolling upgrade, a change of master by order, the master's own goodbye.

Rules
-----
* Only the *master's* goodbye for a shutdown or a reboot of its host counts. An agent that stops or is upgraded has said
  nothing about its host, and a stream that ends without a word is no goodbye at all.
* What was announced is durable; how long it has lasted is not. A restarted collector counts every window anew, so that
  it is never shorter than the policy says and nobody's wall clock is asked.
* A reboot has its window (``planned_window``), after which the pool is judged as any other. A shutdown holds until the
  host is heard again, unless the policy says that it may be succeeded (``planned_shutdown_failover``).
* A change of master that nobody here ordered is an operator's: he may be in the midst of it. It holds for
  ``transition_hold``, or until the pool has been healthy under the new master for a minute.
* A rolling upgrade is believed from any database that says so, and taken back by a serving master alone: a member's
  copy is up to five minutes old (xapi: ocaml/xapi/pool_db_backup.ml).
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.verdict import AnnouncedHold, Signs, Verdict, without_hold
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import AgentGone
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

SHUTDOWN, REBOOT = "host_shutdown", "host_reboot"
SETTLED_MS: Ms = 60_000
VIEW_FRESH_MS: Ms = 30_000


def announced_hold(d: Snapshot) -> AnnouncedHold:
    """What holds this pool now, the most lasting first."""
    if d.record.upgrading:
        return AnnouncedHold.UPGRADING
    if d.record.transition is not None and _age(d, d.live.transition_since) < d.policy.transition_hold:
        return AnnouncedHold.TRANSITION
    return AnnouncedHold.PLANNED if _planned_holds(d) else AnnouncedHold.NONE


def _age(d: Snapshot, since: Ms | None) -> Ms:
    """How long something durable has lasted in this run of the collector."""
    return d.now - (since if since is not None else d.site.started_at)


def _planned_holds(d: Snapshot) -> bool:
    planned = d.record.planned
    if planned is None:
        return False
    if planned.reason == REBOOT:
        return _age(d, d.live.planned_since) < d.policy.planned_window
    return not d.policy.planned_shutdown_failover


def announcement_sentence(d: Snapshot) -> str:
    """What was announced, in one sentence with what ends it; empty if nothing holds."""
    held, record = announced_hold(d), d.record
    if held is AnnouncedHold.UPGRADING:
        return "pool.other_config says rolling_upgrade_in_progress; the serving master takes that back"
    if held is AnnouncedHold.TRANSITION and record.transition is not None:
        left = d.policy.transition_hold - _age(d, d.live.transition_since)
        before = d.name(record.transition.before) if record.transition.before else "nobody"
        return f"{d.name(record.transition.host)} takes over from {before}; at most {left / 1000:.0f} s left"
    if held is AnnouncedHold.PLANNED and record.planned is not None:
        name = d.name(record.planned.host)
        if record.planned.reason == SHUTDOWN:
            return f"{name} was shut down by order; until it is heard again"
        left = d.policy.planned_window - _age(d, d.live.planned_since)
        return f"{name} is rebooting by order; judged as any other in {left / 1000:.0f} s"
    return ""


# ------------------------------------------------------------------------------------------------ goodbyes


def goodbye(d: Transaction, event: AgentGone) -> None:
    """The master's own goodbye for its host is durable: a restarted collector must not take it for a death."""
    host = event.host
    agent = d.agent(host)
    if event.goodbye not in (SHUTDOWN, REBOOT) or host != d.record.master or (agent is not None and agent.goodbye):
        return
    boot = agent.hello.boot_id if agent is not None else ""
    word = "a shutdown" if event.goodbye == SHUTDOWN else "a reboot"
    text = f"master {d.name(host)} said goodbye for {word} of its host"
    d.note(Kind.GOODBYE, text, host=host, reason=event.goodbye, boot_id=boot)
    d.change(planned_since=d.now)


def welcome_back(d: Transaction, host: HostId) -> None:
    """The host that said goodbye has opened a stream: the announced outage is over."""
    if d.record.planned is not None and d.record.planned.host == host:
        end_planned(d, f"{d.name(host)} is heard again after its goodbye")


def end_planned(d: Transaction, text: str, actor: str = "poolwarden") -> None:
    """The announced outage counts no more, for the reason in ``text``."""
    if d.record.planned is not None:
        d.note(Kind.GOODBYE, text, actor, host=d.record.planned.host, over=True)
        d.change(planned_since=None)


# ------------------------------------------------------------------------------------------------ changes of master


def changed(d: Transaction, host: HostId, before: HostId) -> None:
    """A master was adopted that Poolwarden did not promote: an operator's change, unless it is the one we ordered."""
    under_way = d.record.transition
    if not before or (under_way is not None and under_way.host == host):
        return
    text = (
        f"{d.name(host)} took over from {d.name(before)} without Poolwarden's order: hold, an operator may be at work"
    )
    d.note(Kind.TRANSITION, text, host=host, before=before)
    d.change(transition_since=d.now, settled_since=None)


def observe_announcement(d: Transaction, s: Signs) -> None:
    """End a change of master that has settled or has had its time."""
    if d.record.transition is None:
        if d.live.transition_since is not None:
            d.change(transition_since=None, settled_since=None)
        return
    if d.live.transition_since is None:
        # Ours was journaled in this very run; one that was folded from an earlier run counts from this run's start.
        d.change(transition_since=d.now)
    healthy = without_hold(s) is Verdict.HEALTHY and not d.quiet and d.record.master == d.record.transition.host
    if not healthy or d.live.settled_since is None:
        d.change(settled_since=d.now if healthy else None)
    settled = d.live.settled_since is not None and d.now - d.live.settled_since >= SETTLED_MS
    if settled or _age(d, d.live.transition_since) >= d.policy.transition_hold:
        why = "healthy for a minute" if settled else "its time is over"
        text = f"the change of master to {d.name(d.record.transition.host)} holds no longer: {why}"
        d.note(Kind.TRANSITION, text, host=d.record.transition.host, over=True)


# ------------------------------------------------------------------------------------------------ upgrades


def note_upgrade(d: Transaction, host: HostId) -> None:
    """Take this host's newest report for or against a rolling upgrade."""
    said = _upgrade_said(d, host)
    if said is Tri.UNKNOWN or d.record.upgrading == (said is Tri.YES):
        return
    word = "is under way" if said is Tri.YES else "is over"
    text = f"a rolling upgrade of this pool {word}, says {d.name(host)}"
    d.note(Kind.UPGRADE_SEEN, text, host=host, under_way=said is Tri.YES)


def _upgrade_said(d: Snapshot, host: HostId) -> Tri:
    agent = d.heard(host)
    if agent is None:
        return Tri.UNKNOWN
    f, at = agent.facts, agent.facts.observed.pool_view
    if f.role.serves_as_master:
        fresh = f.pool_view is not None and at is not None and d.now - at <= VIEW_FRESH_MS
        return f.pool_view.rolling_upgrade if fresh and f.pool_view is not None else Tri.UNKNOWN
    # A member's copy may be old: the master's own word, even its last one, is nearer to the truth.
    master = d.agent(d.record.master)
    seen = master.facts.pool_view if master is not None and master.facts.role.serves_as_master else None
    denied = seen is not None and seen.rolling_upgrade is Tri.NO
    return Tri.YES if f.database.rolling_upgrade is Tri.YES and not denied else Tri.UNKNOWN
