"""What has been announced: a rolling upgrade, a change of master by order, the master's own goodbye.

Rules
-----
* Only the *master's* goodbye for a shutdown or a reboot of its host counts. An agent that stops or is upgraded has said
  nothing about its host, and a stream that ends without a word is no goodbye at all.
* What was announced is durable; how long it has lasted is not. A restarted collector counts every window anew, so that
  it is never shorter than the policy says and nobody's wall clock is asked.
* A reboot has its window (``planned_window``), after which the pool is judged as any other. A shutdown holds until the
  host is heard again, unless the policy says that it may be succeeded (``planned_shutdown_failover``), or the host's
  power reads ON after that window, by a device that tells which machine it switches: a shutdown that hangs leaves a
  pool without a master. One that was only slow, and reads OFF before a failover has begun, holds again.
* A change of master that nobody here ordered is an operator's: he may be in the midst of it. It holds for
  ``transition_hold``, or until the pool has been healthy under the new master for a minute.
* A rolling upgrade is believed from any database that says so, and taken back by a serving master alone: a member's
  copy is up to five minutes old (xapi: ocaml/xapi/pool_db_backup.ml).
"""

from __future__ import annotations

from poolwarden_collector.core.devices import power_view
from poolwarden_collector.core.evidence.verdict import AnnouncedHold, Signs, Verdict, without_hold
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import AgentGone
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.state.live_slices import Announcements
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

SHUTDOWN, REBOOT = "host_shutdown", "host_reboot"
SETTLED_MS: Ms = 60_000
VIEW_FRESH_MS: Ms = 30_000


def announced_hold(pool: Snapshot) -> AnnouncedHold:
    """What holds this pool now, the most lasting first."""
    if pool.record.upgrading:
        return AnnouncedHold.UPGRADING
    if (
        pool.record.transition is not None
        and _age(pool, pool.live.announcements.transition_since) < pool.policy.transition_hold
    ):
        return AnnouncedHold.TRANSITION
    return AnnouncedHold.PLANNED if _planned_holds(pool) else AnnouncedHold.NONE


def _began(pool: Snapshot, since: Ms | None) -> Ms:
    """When this run of the collector began to count something durable."""
    return since if since is not None else pool.site.started_at


def _age(pool: Snapshot, since: Ms | None) -> Ms:
    """How long it has lasted, so counted."""
    return pool.now - _began(pool, since)


def _planned_holds(pool: Snapshot) -> bool:
    planned = pool.record.planned
    if planned is None:
        return False
    if planned.reason == REBOOT:
        return _age(pool, pool.live.announcements.planned_since) < pool.policy.planned_window
    return not pool.policy.planned_shutdown_failover and not _hangs(pool, planned.host)


def announcement_sentence(pool: Snapshot) -> str:
    """What was announced, in one sentence with what ends it; empty if nothing holds."""
    held, record = announced_hold(pool), pool.record
    if held is AnnouncedHold.UPGRADING:
        return "pool.other_config says rolling_upgrade_in_progress; the serving master takes that back"
    if held is AnnouncedHold.TRANSITION and record.transition is not None:
        left = pool.policy.transition_hold - _age(pool, pool.live.announcements.transition_since)
        before = pool.name(record.transition.before) if record.transition.before else "nobody"
        return f"{pool.name(record.transition.host)} takes over from {before}; at most {left / 1000:.0f} s left"
    if held is AnnouncedHold.PLANNED and record.planned is not None:
        name = pool.name(record.planned.host)
        if record.planned.reason == SHUTDOWN:
            return f"{name} was shut down by order; until it is heard again"
        left = pool.policy.planned_window - _age(pool, pool.live.announcements.planned_since)
        return f"{name} is rebooting by order; judged as any other in {left / 1000:.0f} s"
    return ""


# ------------------------------------------------------------------------------------------------ goodbyes


def goodbye(tx: Transaction, event: AgentGone) -> None:
    """The master's own goodbye for its host is durable: a restarted collector must not take it for a death."""
    host = event.host
    agent = tx.agent(host)
    if event.goodbye not in (SHUTDOWN, REBOOT) or host != tx.record.master or (agent is not None and agent.goodbye):
        return
    boot = agent.hello.boot_id if agent is not None else ""
    word = "a shutdown" if event.goodbye == SHUTDOWN else "a reboot"
    text = f"master {tx.name(host)} said goodbye for {word} of its host"
    tx.note(Kind.GOODBYE, text, host=host, reason=event.goodbye, boot_id=boot)
    tx.change(Announcements, planned_since=tx.now)


def shutdown_overdue(pool: Snapshot) -> HostId:
    """The host whose ordered shutdown should be over, while its power was not read since; empty: there is none."""
    planned = pool.record.planned
    if planned is None or planned.reason != SHUTDOWN or pool.heard(planned.host) is not None:
        return ""
    over = _began(pool, pool.live.announcements.planned_since) + pool.policy.planned_window
    read = power_view.view(pool, planned.host)
    return planned.host if pool.now >= over and read.newest_at < over else ""


def _hangs(pool: Snapshot, host: HostId) -> bool:
    """Does the host that is to be off read ON past its window, or is a failover open that began with that?"""
    over = _began(pool, pool.live.announcements.planned_since) + pool.policy.planned_window
    if pool.now < over or pool.heard(host) is not None:
        return False
    return pool.failover is not None or _reads_on(pool, host, over)


def _reads_on(pool: Snapshot, host: HostId, since: Ms) -> bool:
    """Does a device that tells which machine it switches read ON, since then? An outlet is on without a machine."""
    for device in power_view.deciding(pool, host):
        bond, readings = pool.record.devices.bonds.get(device.name), power_view.counting(pool, device.name)
        told = bond is not None and bool(bond.said) and power_view.is_bound(pool, device.name, host)
        if told and readings and readings[-1].power is Power.ON and readings[-1].ended_at >= since:
            return True
    return False


def welcome_back(tx: Transaction, host: HostId) -> None:
    """The host that said goodbye has opened a stream: the announced outage is over."""
    if tx.record.planned is not None and tx.record.planned.host == host:
        end_planned(tx, f"{tx.name(host)} is heard again after its goodbye")


def end_planned(tx: Transaction, text: str, actor: str = "poolwarden") -> None:
    """The announced outage counts no more, for the reason in ``text``."""
    if tx.record.planned is not None:
        tx.note(Kind.GOODBYE, text, actor, host=tx.record.planned.host, over=True)
        tx.change(Announcements, planned_since=None)


# ------------------------------------------------------------------------------------------------ changes of master


def changed(tx: Transaction, host: HostId, before: HostId) -> None:
    """A master was adopted that Poolwarden did not promote: an operator's change, unless it is the one we ordered."""
    under_way = tx.record.transition
    if not before or (under_way is not None and under_way.host == host):
        return
    text = (
        f"{tx.name(host)} took over from {tx.name(before)} without Poolwarden's order: hold, an operator may be at work"
    )
    tx.note(Kind.TRANSITION, text, host=host, before=before)
    tx.change(Announcements, transition_since=tx.now, settled_since=None)


def observe_announcement(tx: Transaction, s: Signs) -> None:
    """End a change of master that has settled or has had its time."""
    if tx.record.transition is None:
        if tx.live.announcements.transition_since is not None:
            tx.change(Announcements, transition_since=None, settled_since=None)
        return
    if tx.live.announcements.transition_since is None:
        # Ours was journaled in this very run; one that was folded from an earlier run counts from this run's start.
        tx.change(Announcements, transition_since=tx.now)
    healthy = without_hold(s) is Verdict.HEALTHY and not tx.quiet and tx.record.master == tx.record.transition.host
    if not healthy or tx.live.announcements.settled_since is None:
        tx.change(Announcements, settled_since=tx.now if healthy else None)
    settled = (
        tx.live.announcements.settled_since is not None and tx.now - tx.live.announcements.settled_since >= SETTLED_MS
    )
    if settled or _age(tx, tx.live.announcements.transition_since) >= tx.policy.transition_hold:
        why = "healthy for a minute" if settled else "its time is over"
        text = f"the change of master to {tx.name(tx.record.transition.host)} holds no longer: {why}"
        tx.note(Kind.TRANSITION, text, host=tx.record.transition.host, over=True)


# ------------------------------------------------------------------------------------------------ upgrades


def note_upgrade(tx: Transaction, host: HostId) -> None:
    """Take this host's newest report for or against a rolling upgrade."""
    said = _upgrade_said(tx, host)
    if said is Tri.UNKNOWN or tx.record.upgrading == (said is Tri.YES):
        return
    word = "is under way" if said is Tri.YES else "is over"
    text = f"a rolling upgrade of this pool {word}, says {tx.name(host)}"
    tx.note(Kind.UPGRADE_SEEN, text, host=host, under_way=said is Tri.YES)


def _upgrade_said(pool: Snapshot, host: HostId) -> Tri:
    agent = pool.heard(host)
    if agent is None:
        return Tri.UNKNOWN
    f, at = agent.facts, agent.facts.observed.pool_view
    if f.role.serves_as_master:
        fresh = f.pool_view is not None and at is not None and pool.now - at <= VIEW_FRESH_MS
        return f.pool_view.rolling_upgrade if fresh and f.pool_view is not None else Tri.UNKNOWN
    # A member's copy may be old: the master's own word, even its last one, is nearer to the truth.
    master = pool.agent(pool.record.master)
    seen = master.facts.pool_view if master is not None and master.facts.role.serves_as_master else None
    denied = seen is not None and seen.rolling_upgrade is Tri.NO
    return Tri.YES if f.database.rolling_upgrade is Tri.YES and not denied else Tri.UNKNOWN
