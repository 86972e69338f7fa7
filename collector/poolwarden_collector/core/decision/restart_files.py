"""Which file a master may be restarted with in place: its own, or a member's newer copy; and what each would kill.

Rules
-----
* A copy counts if its host is heard, follows this very master, is on its list, and was attached since it was succeeded.
* It is believed as far as the policy's bound on generations goes; beyond that it is one host's word.
* The newest one that can be read is the one; a file that cannot be read is no way on, and its own none is no way back.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision import database_age, questions
from poolwarden_collector.core.decision.candidate_ranking import superseded
from poolwarden_collector.core.decision.database_contents import placements_of, unreadable
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.kill_forecast import Kill, kills_on
from poolwarden_collector.core.decision.permission import needs_approval
from poolwarden_collector.core.evidence import unlisted_hosts
from poolwarden_collector.core.evidence.signs import configured_masters, serving
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.orders import Approval
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Role
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.restart_record import COPY, OWN, InPlace
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

CAPABILITY = "restart_in_place"


@dataclass(frozen=True, slots=True)
class Start:
    """A file that this xapi could start with: its own (no source) or a member's copy; and what that would kill."""

    source: HostId
    generation: int
    kills: tuple[Kill, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restart in place would begin with: the copy, and the VMs at stake in it or on the way back."""

    source: HostId
    generation: int
    kills: tuple[Kill, ...]


def plan_of(tx: Transaction, host: HostId, own: PlacementView) -> Plan | Reason | None:
    """With which copy this master's xapi can be restarted in place, or why not; None: a copy is being read."""
    agent = tx.heard(host)
    if (why := _limitation(tx, host, own)) is not None or agent is None:
        return why or Reason(Cause.NOT_HEARD, "its agent is not heard", (host,))
    read = readable(tx, host, agent.facts.database.generation, frozenset())
    if not isinstance(read, tuple):
        return read
    source, loads = read
    kills: dict[str, Kill] = {}
    for view in (own, loads):
        found = kills_on(tx, host, view)
        if isinstance(found, Reason):
            return found if found.code is not Cause.OLD_FACTS else None
        kills.update({kill.vm: kill for kill in found})
    return Plan(source, loads.generation, tuple(kills[vm] for vm in sorted(kills)))


def _limitation(pool: Snapshot, host: HostId, own: PlacementView) -> Reason | None:
    """What of the pool and of the host itself stands against it; None: nothing."""
    agent = pool.heard(host)
    if agent is None or not {CAPABILITY, "toolstack_fence", "place_database"} <= agent.hello.capabilities:
        version = agent.hello.agent_version if agent is not None else ""
        return Reason(Cause.INCAPABLE, f"its agent {version} cannot do that", (host,))
    if agent.facts.role.pool_conf is not Role.MASTER:
        return Reason(Cause.ROLE, f"the pool.conf of {pool.name(host)} does not say master", (host,))
    if others := other_masters(pool, host):
        return Reason(Cause.SET_AS_MASTER, f"{pool.name(others[0])} serves as master, or is set to", others)
    word = needs_approval(pool)
    if word is not None and word.code in (Cause.DOUBT, Cause.NO_LIST):
        return word
    # safety: whoever gives it up starts on this file again; one that nobody can read is no way back.
    if not own.readable:
        return unreadable("its own database file", own, host)
    return unsound_reason(pool, host)


def other_masters(pool: Snapshot, host: HostId) -> tuple[HostId, ...]:
    """Other heard hosts that serve as master or are set to."""
    return tuple(other for other in sorted({*serving(pool), *configured_masters(pool)}) if other != host)


def newer_copies(pool: Snapshot, host: HostId, generation: int) -> tuple[HostId, ...]:
    """Heard members of this master whose copy is newer than ``generation`` and may be believed, the newest first."""
    found: list[tuple[int, str, HostId]] = []
    for other in pool.record.hosts:
        agent = pool.heard(other) if other != host else None
        if agent is None or "read_database" not in agent.hello.capabilities:
            continue
        role, has = agent.facts.role, agent.facts.database.generation
        follows = role.pool_conf is Role.MEMBER and role.master_address == pool.record.address_of(host)
        # safety: a copy of another line, of a host that nobody has listed, or far ahead of what was seen is one host's
        # word; those are asked about on the way to a failover.
        own_line = (
            not superseded(pool, other)
            and not unlisted_hosts.unlisted(pool, other)
            and not database_age.ahead(pool, other)
            and unsound_reason(pool, other) is None
        )
        if has > generation and follows and own_line:
            found.append((-has, pool.name(other), other))
    return tuple(other for _, _, other in sorted(found))


def readable(
    tx: Transaction, host: HostId, generation: int, passed: frozenset[HostId]
) -> tuple[HostId, PlacementView] | Reason | None:
    """The newest copy above ``generation`` that can be read; None: it is being asked for."""
    why = Reason(Cause.NO_COPY, "no member that is heard and follows it has such a copy", (host,))
    for other in newer_copies(tx, host, generation):
        if other in passed:
            continue
        loads = placements_of(tx, other)
        if loads is None:
            return None
        # safety: a database from before this host joined has another list; its xapi would enter itself anew.
        listed = not loads.hosts or host in loads.hosts
        if loads.readable and listed and loads.generation > generation:
            return other, loads
        why = unreadable(f"the copy of {tx.name(other)}", loads, other)
    return why


def starts(tx: Transaction, now: InPlace, agent: AgentState) -> tuple[Start, ...] | None:
    """The newest copy that is newer than every file there, and its own file; None: something is being read."""
    found: list[Start] = []
    if now.other == COPY:
        return _accepted_copy(tx, now)
    read: tuple[HostId, PlacementView] | Reason | None = None
    if now.other != OWN:
        read = readable(tx, now.host, agent.facts.database.generation, tx.live.in_place.passed)
        if read is None:
            return None
    own = placements_of(tx, now.host)
    if own is None:
        return None
    views = [read] if isinstance(read, tuple) else []
    for source, view in (*views, *([("", own)] if own.readable else [])):
        kills = kills_on(tx, now.host, view)
        if isinstance(kills, Reason):
            return None
        found.append(Start(source, view.generation, kills))
    return tuple(found)


def _accepted_copy(tx: Transaction, now: InPlace) -> tuple[Start, ...] | None:
    """The one copy that was said yes to, if it still is that; nothing if not; None: it is being read."""
    if now.copy_of in tx.live.in_place.passed:
        return ()
    loads = placements_of(tx, now.copy_of)
    if loads is None:
        return None if tx.heard(now.copy_of) is not None else ()
    # safety: the yes was to this host's copy of this generation; another one is another question.
    if not loads.readable or loads.generation != now.copy_generation:
        return ()
    kills = kills_on(tx, now.host, loads)
    return None if isinstance(kills, Reason) else (Start(now.copy_of, loads.generation, kills),)


def covered(pool: Snapshot, now: InPlace, kills: tuple[Kill, ...]) -> bool:
    """May xapi be started although these VMs are killed: is there none, or was each said yes to?"""
    # safety: by uuid; a yes to one VM is none to another, and one from before a restart or a long pause to none.
    return not kills or (accepted(now, kills) and questions.counts_still(pool, pool.live.in_place.yes_at))


def word_of(pool: Snapshot, now: InPlace) -> Approval | None:
    """The operator's word that still counts for this restart; None: nobody was asked."""
    at = pool.live.in_place.yes_at
    still = now.accepted_by and at is not None and questions.counts_still(pool, at)
    return Approval(now.accepted_by, "", at) if still and at is not None else None


def accepted(now: InPlace, kills: tuple[Kill, ...]) -> bool:
    """Was the loss of each of these VMs said yes to, however long ago?"""
    return {kill.vm for kill in kills} <= set(now.accepted)
