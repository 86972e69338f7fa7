"""Another file for a master whose xapi does not come up on the one that it has: its own under a placed copy, or a
member's older copy.

Rules
-----
* Only of a master that has started again and again without coming to serve: whatever it loads is no way on.
* What was placed there for an earlier restart in place goes first: its own file lies below it, and is tried next.
* A member's copy, whatever its number, only at an operator's word: what was changed since it was made is lost, and the
  yes is to that very copy, by host and generation. Before that, a successor with a copy of its own is tried as ever
  (master_restart.py): this is the way where nobody may succeed.
* The copy is of this pool's own line: its host is heard, attached since it was last superseded, on the host's list, and
  follows this master or the one that it took over from. One that is not sound, or is the very file that failed, is no
  way on either.
* Where / has no room no file is: xapi writes its database at each start, whichever it has loaded, and ends where it
  cannot (xapi: ocaml/xapi/xapi.ml, populate_db). With room again its own file has its next start first.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import database_age
from poolwarden_collector.core.decision.candidate_ranking import superseded
from poolwarden_collector.core.decision.database_contents import placements_of, unreadable
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.kill_forecast import kills_on
from poolwarden_collector.core.decision.restart_files import CAPABILITY, Plan, other_masters
from poolwarden_collector.core.evidence import unlisted_hosts
from poolwarden_collector.core.evidence.membership import led_before
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Ms, Role, Tri
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

PLACED = "var/lib/xcp/restore_db.db"
NEXT_START_MS: Ms = 120_000  # until it has been tried again: systemd starts it at once, and it takes 60 s at most
FULL = "its / has no room, and xapi writes its database there at each start"


def lies_on_its_own(pool: Snapshot, host: HostId) -> bool:
    """Would its xapi load a file that was placed over its own, and has it not come up on that?"""
    agent = pool.heard(host)
    needed = {CAPABILITY, "toolstack_fence", "place_database", "start_with_own_file"}
    able = agent is not None and needed <= agent.hello.capabilities
    return able and agent is not None and agent.facts.database.loaded_from == PLACED and not other_masters(pool, host)


def no_room(pool: Snapshot, host: HostId) -> bool:
    """Is / of this heard host known to have less room than xapi may need?"""
    agent = pool.heard(host)
    root = next((disk for disk in agent.facts.disks if disk.mount == "/"), None) if agent is not None else None
    return root is not None and root.free_bytes < pool.policy.min_root_free_bytes


def plan_of(tx: Transaction, host: HostId) -> Plan | Reason | None:
    """With which member's copy this master could be started, and what that would kill; None: one is being read."""
    agent = tx.heard(host)
    if agent is None or not {CAPABILITY, "toolstack_fence", "place_database"} <= agent.hello.capabilities:
        return Reason(Cause.INCAPABLE, "its agent cannot be given another copy", (host,))
    if no_room(tx, host):
        tx.change(PoolLive, roomless_at=tx.now)
        return Reason(Cause.NO_ROOM, f"{FULL}, whichever file it is", (host,))
    roomless = tx.live.roomless_at
    if roomless is not None and tx.now - roomless < NEXT_START_MS:
        return Reason(Cause.NO_ROOM, "its / has had room for a moment only: its next start is waited for", (host,))
    if agent.facts.role.pool_conf is not Role.MASTER:
        return Reason(Cause.ROLE, f"the pool.conf of {tx.name(host)} does not say master", (host,))
    if others := other_masters(tx, host):
        return Reason(Cause.SET_AS_MASTER, f"{tx.name(others[0])} serves as master, or is set to", others)
    why = Reason(Cause.NO_COPY, "no member that is heard has another copy of the database", (host,))
    for other in copies(tx, host):
        loads = placements_of(tx, other)
        if loads is None:
            return None
        if not loads.readable or (loads.hosts and host not in loads.hosts):
            why = unreadable(f"the copy of {tx.name(other)}", loads, other)
            continue
        kills = kills_on(tx, host, loads)
        if isinstance(kills, Reason):
            return kills
        return Plan(other, loads.generation, kills)
    return why


def copies(pool: Snapshot, host: HostId) -> tuple[HostId, ...]:
    """The members whose copies could be tried, the newest first."""
    agent = pool.heard(host)
    failed = agent.facts.database.generation if agent is not None else 0
    addresses = {pool.record.address_of(host), *(pool.record.address_of(each) for each in led_before(pool, host))}
    found, damaged = [], unsound_reason(pool, host) is not None
    for other in pool.record.hosts:
        seen = pool.heard(other) if other != host else None
        if seen is None or "read_database" not in seen.hello.capabilities:
            continue
        has, role = seen.facts.database.generation, seen.facts.role
        follows = role.pool_conf is Role.MEMBER and role.master_address in addresses
        own_line = not (
            superseded(pool, other) or unlisted_hosts.unlisted(pool, other) or database_age.ahead(pool, other)
        )
        # safety: the file that failed is no better for lying elsewhere, nor is one that its agent knows to be broken.
        same = has == failed and not (damaged and seen.facts.database.sound is Tri.YES)
        if has and not same and follows and own_line and unsound_reason(pool, other) is None:
            found.append((-has, pool.name(other), other))
    return tuple(other for _, _, other in sorted(found))
