"""The rules of each kind of order, asked after those that are common to all (order_gate.py).

Rules
-----
* What cannot be read is not "no": an unreadable HA flag refuses every act that xapi's HA would punish.
* No host is told to follow itself, and only an IP literal ever gets into pool.conf.
* While a toolstack fence's hold stands, nothing starts xapi but its release: as master at a higher term than the
  hold's, as a member only of another host.
* What only the serving master can do is asked of no other host: pool.conf says master and the running xapi started
  after that; on an orphaned member the same call would hang for ever.
* A fence agent is run for another host only, never for this one.
"""

from typing import NamedTuple, Optional

from poolwarden_agent.core.addresses import is_address, same
from poolwarden_agent.core.gate_state import GateState, Placed, Tombstone
from poolwarden_agent.core.host_now import MASTER, MEMBER, NO_PROCESS, UNREADABLE, HostNow
from poolwarden_agent.core.orders import (
    AS_MASTER,
    AS_MEMBER,
    LONGEST_ID,
    DeclareHostDead,
    DesignateMaster,
    EnableHost,
    Order,
    StartVm,
)
from poolwarden_agent.core.piece import Piece, piece_wrong
from poolwarden_agent.core.placed_database import keeps, under_hold
from poolwarden_agent.core.pool_message import wrong

SPARE_BYTES = 64 * 1024 * 1024  # what must stay free on / beside a placed database: xapi flushes it once more
Refuse = NamedTuple("Refuse", [("reason", str), ("text", str)])


_ITSELF = Refuse("precondition", "the order names this host itself as the one to follow")


def ha_off(now: HostNow) -> Optional[Refuse]:
    if now.ha_armed is False:
        return None
    said = "armed" if now.ha_armed else "not readable"
    return Refuse("ha-armed", "xapi's HA flag (local.db ha.armed) is %s: hands off" % said)


def _not_held(state: GateState) -> Optional[Refuse]:
    if state.hold is None:
        return None
    return Refuse("held", "its toolstack is held stopped since term %d: only a release starts it" % state.hold.term)


def none(_state: GateState, _order: Order, _now: HostNow) -> Optional[Refuse]:
    """The kind has no rule of its own."""
    return None


def promote(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if state.tombstone is not None and order.term <= state.tombstone.term:
        return Refuse("tombstoned", "this host was superseded at term %d" % state.tombstone.term)
    return _not_held(state)


def repoint(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    return _not_held(state) or _followed(order.body.address, now)


def restart(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if now.pool_conf != MEMBER and state.tombstone is not None:
        return _superseded(state.tombstone)
    if now.pool_conf in (MASTER, UNREADABLE) and not order.body.as_master_ok:
        said = "this host is master" if now.pool_conf == MASTER else "pool.conf is not readable"
        return Refuse("precondition", "%s and the order is not meant for a master" % said)
    return _not_held(state)


def _superseded(tombstone: Tombstone) -> Refuse:
    said = "this host was superseded at term %d: its xapi must not start as master" % tombstone.term
    return Refuse("tombstoned", said)


def fence(_state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if len(order.body.successor) > LONGEST_ID or order.body.successor == now.host:
        return Refuse("precondition", "the order names no other host as the one to succeed")
    return None


def release(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if order.body.release_as == AS_MASTER:
        return _release_as_master(state, order, now)
    if order.body.release_as != AS_MEMBER:
        return Refuse("precondition", "the order does not say as what to release")
    refusal = ha_off(now) or _followed(order.body.address, now)
    if refusal is not None:
        return refusal
    there = now.pool_conf == MEMBER and same(now.pool_conf_address, order.body.address)
    # Without a hold there is something left to do only where a release was cut off before xapi was started.
    if state.hold is None and (now.process != NO_PROCESS or not there):
        return Refuse("precondition", "its toolstack is not held")
    return None


def _release_as_master(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    # safety: a hold may be part of a proof for a promotion; only a later decision (a new term) gives the role back.
    if state.hold is not None and order.term <= state.hold.term:
        return Refuse("held", "held at term %d: it is released as master only at a higher one" % state.hold.term)
    if now.pool_conf != MASTER:
        return Refuse("precondition", "pool.conf says %s, not master" % (now.pool_conf or "nothing readable"))
    if state.tombstone is not None:
        return _superseded(state.tombstone)
    if state.hold is None and now.process != NO_PROCESS:
        return Refuse("precondition", "its toolstack is not held")
    # Without a hold this very release was cut off before xapi was started: what was placed is its own.
    if (
        order.body.restore
        and state.hold is not None
        and not (keeps(state, order.body) and now.restore == order.body.restore)
    ):
        return Refuse("precondition", "no database of generation %d is placed under the hold" % order.body.restore)
    return None


def place(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    piece = order.body.piece
    if now.pool_conf == UNREADABLE:
        return Refuse("precondition", "pool.conf is not readable")
    if piece.remove:
        # safety: between a promotion and xapi's start as master this file is the pool's newest database.
        # By its number, under a hold of a later term: whoever names it has seen xapi's starts on it fail.
        placed, hold = state.placed, state.hold
        named = placed is not None and piece.held_master and piece.generation == placed.generation
        over = named and placed is not None and hold is not None and hold.term > placed.term
        held = state.hold is not None and (state.placed is None or under_hold(state) or over)
        if now.pool_conf == MASTER and not now.settled and not held:
            return Refuse("precondition", "pool.conf says master and xapi has not started as such yet")
        return None
    if piece.held_master:
        refused = _not_held_for(state, order, now)
        if refused is not None:
            return refused
    elif now.pool_conf == MASTER:
        return Refuse("precondition", "this host is master: its own database is the pool's")
    refusal = piece_wrong(piece) or (_first_piece(state, piece, now) if piece.offset == 0 else "")
    if not refusal and piece.offset and state.placed != Placed(order.term, piece.generation, False):
        refusal = "its first piece has not come at this term"
    return Refuse("precondition", refusal) if refusal else None


def _not_held_for(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """Is this a master that is held stopped at this very term? Only such a one is given a database for its restart."""
    if state.tombstone is not None:
        return _superseded(state.tombstone)
    if now.pool_conf != MASTER:
        return Refuse("precondition", "pool.conf says %s, not master" % now.pool_conf)
    # safety: the file counts from the next start of xapi on; while it runs, or may be started, nothing is placed.
    held = state.hold is not None and state.hold.term == order.term and state.hold.boot_id == now.boot_id
    if not held or now.process != NO_PROCESS:
        return Refuse("precondition", "its toolstack is not held stopped at this term")
    return ha_off(now)


def _first_piece(state: GateState, piece: Piece, now: HostNow) -> str:
    needed = piece.total_bytes + SPARE_BYTES
    if now.restore is not None and state.placed is None:
        return "there is a restore_db.db that somebody else has put there"
    if (now.root_free_bytes or 0) < needed:
        free = now.root_free_bytes if now.root_free_bytes is not None else "unknown"
        return "/ has %s bytes free, %d are needed" % (free, needed)
    return ""


def serving(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """Does this host serve as master, and does the order name what it is about?"""
    refusal = _not_held(state)
    if refusal is None and state.tombstone is not None:
        refusal = _superseded(state.tombstone)
    if refusal is None and (now.pool_conf != MASTER or not now.settled):
        refusal = Refuse("precondition", "this host does not serve as master")
    return refusal or _named(order, now)


def show(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """Does this host serve as master, and is it a message that may be shown?"""
    refusal, said = serving(state, order, now), order.body
    if refusal is None:
        why = wrong(said.name, said.key, said.priority, said.body)
        refusal = Refuse("precondition", why) if why else None
    return refusal


def for_another(_state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """A fence agent runs for another host: one that switches itself off never tells how it ended."""
    if not 1 <= len(order.body.host) <= LONGEST_ID or order.body.host == now.host:
        return Refuse("precondition", "the order names no other host whose power it is about")
    return None


def _named(order: Order, now: HostNow) -> Optional[Refuse]:
    wants_host = isinstance(order.body, (DesignateMaster, DeclareHostDead, EnableHost, StartVm))
    if wants_host and not 1 <= len(order.body.host) <= LONGEST_ID:
        return Refuse("precondition", "the order names no host")
    if isinstance(order.body, (DesignateMaster, DeclareHostDead)) and order.body.host == now.host:
        return Refuse("precondition", "the order names this host itself")
    if isinstance(order.body, StartVm) and not 1 <= len(order.body.vm) <= LONGEST_ID:
        return Refuse("precondition", "the order names no VM")
    return None


def tombstone(_state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """Is the successor named well enough to be stored and, if its address is known, written into pool.conf?"""
    if order.body.clear:
        return None
    if len(order.body.successor) > LONGEST_ID:
        return Refuse("precondition", "the successor's UUID has %d characters" % len(order.body.successor))
    # safety: a host that follows itself never comes back (xapi: HOST_ITS_OWN_SLAVE).
    if order.body.successor == now.host:
        return _ITSELF
    return _followed(order.body.address, now) if order.body.address else None


def _followed(address: str, now: HostNow) -> Optional[Refuse]:
    """Is the host to follow named well enough to be written into pool.conf?"""
    if not address:
        return Refuse("precondition", "the order names no master address")
    if not is_address(address):
        return Refuse("precondition", "%r is no IP literal" % address[:80])
    # safety: a host that follows itself never comes back (xapi: HOST_ITS_OWN_SLAVE).
    if now.address and same(address, now.address):
        return _ITSELF
    return None
