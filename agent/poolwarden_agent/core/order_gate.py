"""The order gate: which orders this host obeys, as a pure function.

Rules
-----
* An order is obeyed only if pool, host and boot are this one's, its epoch and its term are not lower than the highest
  ever stored, it has not expired on this host's own clock, and its preconditions hold at this instant.
* Durable order of writes for an act: (1) epoch, term and the *started* mark, (2) the act, (3) its result, (4) the
  answer.
* A redelivered order that has a result gets that result again. One that was started and has no result (we died between
  2 and 3) is judged by facts: if its effect is there it is done, otherwise it is done now. Thus it acts once.
* A refused or expired order leaves nothing behind: its id is not used up. So is one that never began: nobody was there
  whom it could have asked (a refused connection is not an unknown answer).
* A promotion has one id for good. Where its stored result is not "done", the same order *sent anew after that result*
  (it echoes a later instant) is judged by facts: if pool.conf says master it is done, otherwise it is done again. A
  late copy of the first one echoes an earlier instant, and gets the stored result.
* What cannot be read is not "no": an unreadable HA flag refuses every act that xapi's HA would punish.
* No host is told to follow itself, and only an IP literal ever gets into pool.conf.
* A promotion that is done releases the tombstone that its higher term has overruled.
* A toolstack fence's hold is durable before xapi is stopped. While it stands, nothing starts xapi but its release: as
  master at a higher term than the hold's, as a member only of another host.
* What only the serving master can do is asked of nobody else: pool.conf says master and the running xapi started after
  that; on an orphaned member the same call would hang for ever.
* A fence agent is run for another host only, never for this one. Such a run is no act on this host: nothing of it is
  stored here but epoch and term (fence_runs.py remembers it while it could be delivered again).
* A placed database is for one promotion at one term. Its mark is durable before its first byte; at any other term it is
  removed before xapi may start from it, because it would roll the pool back (xapi: restore_db.db, ocaml/xapi/xapi.ml).
* A master is given a database only while it is held stopped, at the very term of its hold (a restart in place with the
  newest copy). xapi starts with it only by the release that names its generation; whatever else ends the hold, an
  operator on this host among it, removes it first, and so does whatever makes this host a member: as a member it would
  keep the file until it is master again.
* The mark of a placed database ends with its file: what somebody else puts there later is not taken for it.

The state is small and bounded: one started mark and one result per mutating kind.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from poolwarden_agent.core import gate_state
from poolwarden_agent.core.addresses import is_address as is_address
from poolwarden_agent.core.addresses import same as same
from poolwarden_agent.core.piece import Piece as Piece
from poolwarden_agent.core.piece import piece_wrong

MASTER = "master"
MEMBER = "member"
BROKEN = "broken"
UNREADABLE = ""

# What only the serving master can do, through its own xapi.
SERVING = ("sync_database", "designate_master", "declare_host_dead", "enable_host", "recover_members", "start_vm")
# A claim is looked at anew each time it arrives: a stored last look would be an old one.
REPLAYED = (
    "promote", "repoint", "restart_xapi", "set_tombstone", "toolstack_fence", "toolstack_release", "place_database",
    "release_gc",
) + SERVING  # fmt: skip
MUTATING = ("claim",) + REPLAYED
LOOKING = ("probe_now", "collect_evidence", "read_database", "locate_vms")
FENCE_PROXY = "fence_proxy"
KNOWN = MUTATING + LOOKING + (FENCE_PROXY,)
IN_PLACE = "restart_in_place"  # a capability beside the kinds: the orders of a restart in place with a placed database
NEEDS_HA_OFF = (
    "promote", "repoint", "restart_xapi", "toolstack_fence", "designate_master", "declare_host_dead", "recover_members"
)  # fmt: skip
LONGEST_VALID_MS = 300000
LONGEST_ID = 200  # ids are stored; the slots are small
SPARE_BYTES = 64 * 1024 * 1024  # what must stay free on / beside a placed database: xapi flushes it once more
AS_MEMBER, AS_MASTER = "member", "master"

Process = NamedTuple("Process", [("pid", int), ("start_ticks", int)])
NO_PROCESS = Process(0, 0)

Tombstone = NamedTuple("Tombstone", [("term", int), ("successor", str), ("address", str)])

Started = NamedTuple("Started", [("order_id", str), ("process", Process)])

Result = NamedTuple("Result", [("order_id", str), ("kind", str), ("outcome", str), ("reason", str), ("text", str)])
DONE, REFUSED, FAILED, UNKNOWN = "done", "refused", "failed", "unknown"

# The hold of a toolstack fence: since when on the clock of which boot.
Hold = NamedTuple("Hold", [("term", int), ("boot_id", str), ("since_ms", int), ("successor", str)])
# A database placed at this term, for a promotion or (under_hold) for the restart of a held master; ``promoted``: that
# promotion, or the release that starts xapi with it, was begun.
Placed = NamedTuple("Placed", [("term", int), ("generation", int), ("promoted", bool)])


class GateState(NamedTuple):
    """What is durable."""

    epoch: int
    term: int
    tombstone: Optional[Tombstone]
    pool: str
    started: Dict[str, Started]
    results: Dict[str, Result]
    hold: Optional[Hold] = None
    placed: Optional[Placed] = None
    gc: int = 0  # the term of the promotion for which storage's garbage collection is held here; 0: it is not
    more: str = ""  # what a newer agent has stored beside it (gate_state.py)
    unsure_ms: int = 0  # when, on this boot's clock, a promotion ended without being done; 0: none has


EMPTY = GateState(0, 0, None, "", {}, {})


class Order(NamedTuple):
    """An order's head and what of its body the rules look at."""

    order_id: str
    kind: str
    epoch: int
    term: int
    pool: str
    host: str
    boot_id: str
    echo_mono_ms: int
    valid_for_ms: int
    pool_conf_in: Tuple[str, ...]
    pool_conf_address: str
    ha_off: bool
    process: Process
    min_root_free_bytes: int
    not_tombstoned: bool
    address: str
    successor: str
    clear: bool
    as_master_ok: bool
    release_as: str = ""
    piece: Optional[Piece] = None
    named: str = ""  # the host that it is about
    vm: str = ""
    hold_gc: bool = False
    restore: int = 0  # a release as master: the generation of the placed database with which xapi starts; 0: its own


class HostNow(NamedTuple):
    """This host at one instant."""

    mono_ms: int
    host: str
    pool: str
    boot_id: str
    pool_conf: str
    pool_conf_address: str
    ha_armed: Optional[bool]
    process: Process
    root_free_bytes: Optional[int]
    address: str
    settled: bool = False  # the running xapi has the role that pool.conf says
    able: Tuple[str, ...] = ()  # the kinds that this host can carry out: none that nobody has named
    restore: Optional[int] = None  # generation of the restore_db.db that is there; None: there is none


Obey = NamedTuple("Obey", [("already", bool), ("text", str)])
Replay = NamedTuple("Replay", [("result", Result)])
Refuse = NamedTuple("Refuse", [("reason", str), ("text", str)])


def decide(state: GateState, order: Order, now: HostNow) -> Any:
    """Obey, Replay or Refuse this order at this instant; pure and total."""
    refusal = _address(order, now) or _numbers(state, order)
    if refusal is not None:
        return refusal
    kept = state.results.get(order.kind)
    of_this = kept is not None and kept.order_id == order.order_id and order.kind in REPLAYED
    if kept is not None and of_this and not _sent_anew(state, order, kept):
        return Replay(kept)
    refusal = _expiry(order, now)
    if refusal is not None:
        return refusal
    done = _already(state, order, now)
    if done:
        return Obey(True, done)
    refusal = _kind_rules(state, order, now) or _preconditions(state, order, now)
    if refusal is not None:
        return refusal
    return Obey(False, "")


def _address(order: Order, now: HostNow) -> Optional[Refuse]:
    if order.kind not in KNOWN or order.kind not in now.able:
        return Refuse("unknown-order", "this agent does not know the order %r" % order.kind)
    if not 1 <= len(order.order_id) <= LONGEST_ID:
        return Refuse("unknown-order", "its id has %d characters, not 1..%d" % (len(order.order_id), LONGEST_ID))
    if order.host != now.host:
        return Refuse("wrong-host", "the order is for host %s" % order.host)
    if not now.pool or order.pool != now.pool:
        return Refuse(
            "wrong-pool", "the order is for pool %s, this host is in %s" % (order.pool, now.pool or "none known")
        )
    if order.boot_id != now.boot_id:
        return Refuse("wrong-boot", "the order is for another boot of this host")
    return None


def overtaken(state: GateState, order: Order) -> Optional[Refuse]:
    """Has a higher epoch or term come since this order was let pass? For acts that begin later than that."""
    return _numbers(state, order)


def _numbers(state: GateState, order: Order) -> Optional[Refuse]:
    # safety: a lower epoch is a collector that was replaced, a lower term a succession that is over.
    if order.epoch < state.epoch:
        return Refuse("stale-epoch", "epoch %d is lower than %d" % (order.epoch, state.epoch))
    if order.term < state.term:
        return Refuse("stale-term", "term %d is lower than %d" % (order.term, state.term))
    return None


def _expiry(order: Order, now: HostNow) -> Optional[Refuse]:
    if not 1 <= order.valid_for_ms <= LONGEST_VALID_MS:
        return Refuse("expired", "its validity of %d ms is outside 1..%d" % (order.valid_for_ms, LONGEST_VALID_MS))
    if order.echo_mono_ms > now.mono_ms:
        return Refuse("expired", "it echoes an instant that this clock has not reached")
    late = now.mono_ms - order.echo_mono_ms - order.valid_for_ms
    if late > 0:
        return Refuse("expired", "it is %d ms too late on this host's own clock" % late)
    return None


def _sent_anew(state: GateState, order: Order, kept: Result) -> bool:
    """Is this promotion, that was tried and is not known to be done, ordered again by one who has heard of that?"""
    # safety: whoever sends it anew has proven and looked anew; a copy of the first order knows nothing of its result.
    again = bool(state.unsure_ms) and order.echo_mono_ms > state.unsure_ms
    return order.kind == "promote" and kept.outcome in (UNKNOWN, FAILED) and again


def _already(state: GateState, order: Order, now: HostNow) -> str:
    """Was this very order started before we died, and is its effect there? Then it must not be repeated."""
    mark = state.started.get(order.kind)
    if mark is None or mark.order_id != order.order_id:
        return ""
    if order.kind == "promote" and now.pool_conf == MASTER:
        return "pool.conf says master already"
    # pool.conf alone does not show it: a tombstone writes it too, and the old process would serve on.
    replaced = now.process != mark.process
    if order.kind == "repoint" and replaced and now.pool_conf == MEMBER and same(now.pool_conf_address, order.address):
        return "pool.conf names %s already" % order.address
    if order.kind == "restart_xapi" and now.process != NO_PROCESS and now.process != mark.process:
        return "xapi has been restarted already"
    if order.kind == "toolstack_release" and state.hold is None and now.process != NO_PROCESS:
        return "the hold is lifted and xapi runs already"
    piece = order.piece
    if order.kind == "place_database" and piece is not None and not piece.remove and piece.last:
        return "the database is in place already" if now.restore == piece.generation else ""
    return ""


def _kind_rules(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if order.kind in NEEDS_HA_OFF:
        refusal = _ha_off(now)
        if refusal is not None:
            return refusal
    rule = _RULES.get(order.kind)
    return rule(state, order, now) if rule is not None else None


def _ha_off(now: HostNow) -> Optional[Refuse]:
    if now.ha_armed is False:
        return None
    said = "armed" if now.ha_armed else "not readable"
    return Refuse("ha-armed", "xapi's HA flag (local.db ha.armed) is %s: hands off" % said)


def _not_held(state: GateState) -> Optional[Refuse]:
    if state.hold is None:
        return None
    return Refuse("held", "its toolstack is held stopped since term %d: only a release starts it" % state.hold.term)


def _promote(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if state.tombstone is not None and order.term <= state.tombstone.term:
        return Refuse("tombstoned", "this host was superseded at term %d" % state.tombstone.term)
    return _not_held(state)


def _repoint(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    return _not_held(state) or _successor(state, order, now)


def _restart(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if now.pool_conf != MEMBER and state.tombstone is not None:
        return _superseded(state.tombstone)
    if now.pool_conf in (MASTER, UNREADABLE) and not order.as_master_ok:
        said = "this host is master" if now.pool_conf == MASTER else "pool.conf is not readable"
        return Refuse("precondition", "%s and the order is not meant for a master" % said)
    return _not_held(state)


def _superseded(tombstone: Tombstone) -> Refuse:
    said = "this host was superseded at term %d: its xapi must not start as master" % tombstone.term
    return Refuse("tombstoned", said)


def _fence(_state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if len(order.successor) > LONGEST_ID or order.successor == now.host:
        return Refuse("precondition", "the order names no other host as the one to succeed")
    return None


def _release(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if order.release_as == AS_MASTER:
        return _release_as_master(state, order, now)
    if order.release_as != AS_MEMBER:
        return Refuse("precondition", "the order does not say as what to release")
    refusal = _ha_off(now) or _successor(state, order, now)
    if refusal is not None:
        return refusal
    there = now.pool_conf == MEMBER and same(now.pool_conf_address, order.address)
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
    if order.restore and state.hold is not None and not (keeps(state, order) and now.restore == order.restore):
        return Refuse("precondition", "no database of generation %d is placed under the hold" % order.restore)
    return None


def _place(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    piece = order.piece
    if piece is None or now.pool_conf == UNREADABLE:
        return Refuse("precondition", "pool.conf is not readable" if piece else "the order has no piece")
    if piece.remove:
        # safety: between a promotion and xapi's start as master this file is the pool's newest database.
        held = state.hold is not None and (state.placed is None or under_hold(state))
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
    return _ha_off(now)


def _first_piece(state: GateState, piece: Piece, now: HostNow) -> str:
    needed = piece.total_bytes + SPARE_BYTES
    if now.restore is not None and state.placed is None:
        return "there is a restore_db.db that somebody else has put there"
    if (now.root_free_bytes or 0) < needed:
        free = now.root_free_bytes if now.root_free_bytes is not None else "unknown"
        return "/ has %s bytes free, %d are needed" % (free, needed)
    return ""


def _serving(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """Does this host serve as master, and does the order name what it is about?"""
    refusal = _not_held(state)
    if refusal is None and state.tombstone is not None:
        refusal = _superseded(state.tombstone)
    if refusal is None and (now.pool_conf != MASTER or not now.settled):
        refusal = Refuse("precondition", "this host does not serve as master")
    return refusal or _named(order, now)


def _for_another(_state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """A fence agent runs for another host: whoever switches itself off never tells how it ended."""
    if not 1 <= len(order.named) <= LONGEST_ID or order.named == now.host:
        return Refuse("precondition", "the order names no other host whose power it is about")
    return None


def _named(order: Order, now: HostNow) -> Optional[Refuse]:
    wants_host = order.kind in ("designate_master", "declare_host_dead", "enable_host", "start_vm")
    if wants_host and not 1 <= len(order.named) <= LONGEST_ID:
        return Refuse("precondition", "the order names no host")
    if order.kind in ("designate_master", "declare_host_dead") and order.named == now.host:
        return Refuse("precondition", "the order names this host itself")
    if order.kind == "start_vm" and not 1 <= len(order.vm) <= LONGEST_ID:
        return Refuse("precondition", "the order names no VM")
    return None


def _successor(_state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    """Is the host to follow named well enough to be written into pool.conf?"""
    if order.clear:
        return None
    if order.kind != "set_tombstone" and not order.address:
        return Refuse("precondition", "the order names no master address")
    if order.address and not is_address(order.address):
        return Refuse("precondition", "%r is no IP literal" % order.address[:80])
    if len(order.successor) > LONGEST_ID:
        return Refuse("precondition", "the successor's UUID has %d characters" % len(order.successor))
    # safety: a host that follows itself never comes back (xapi: HOST_ITS_OWN_SLAVE).
    if order.successor == now.host or (now.address and same(order.address, now.address)):
        return Refuse("precondition", "the order names this host itself as the one to follow")
    return None


_RULES = {
    "promote": _promote,
    "repoint": _repoint,
    "restart_xapi": _restart,
    "set_tombstone": _successor,
    "toolstack_fence": _fence,
    "toolstack_release": _release,
    "place_database": _place,
    "locate_vms": _serving,
    FENCE_PROXY: _for_another,
}
_RULES.update(dict.fromkeys(SERVING, _serving))


def _preconditions(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if order.pool_conf_in and now.pool_conf not in order.pool_conf_in:
        return Refuse("precondition", "pool.conf says %s" % (now.pool_conf or "nothing readable"))
    if order.pool_conf_address and not same(order.pool_conf_address, now.pool_conf_address):
        return Refuse("precondition", "pool.conf names %s" % (now.pool_conf_address or "no master"))
    if order.ha_off and now.ha_armed is not False:
        return Refuse("ha-armed", "xapi's HA is armed or its flag is not readable")
    if order.process != NO_PROCESS and order.process != now.process:
        return Refuse("precondition", "xapi is another process now (pid %d)" % now.process.pid)
    if order.min_root_free_bytes and (now.root_free_bytes or 0) < order.min_root_free_bytes:
        return Refuse(
            "precondition",
            "/ has %s bytes free" % (now.root_free_bytes if now.root_free_bytes is not None else "unknown"),
        )
    if order.not_tombstoned and state.tombstone is not None:
        return Refuse("tombstoned", "this host was superseded at term %d" % state.tombstone.term)
    return None


def starting(state: GateState, order: Order, now: HostNow) -> GateState:
    """The state to make durable before acting: numbers never fall, and the mark says what xapi was."""
    state = state._replace(epoch=max(state.epoch, order.epoch), term=max(state.term, order.term), pool=now.pool)
    if order.kind in MUTATING:
        state = state._replace(started=dict(state.started, **{order.kind: Started(order.order_id, now.process)}))
    if order.kind == "toolstack_fence" and under_hold(state) and state.placed is not None:
        again = state.hold is not None and state.hold.term == order.term
        # safety: what was placed under an earlier hold is for no start any more (left_behind, outlived).
        state = state if again else state._replace(placed=state.placed._replace(promoted=False))
    if order.kind == "toolstack_release" and keeps(state, order) and state.placed is not None:
        # safety: durable before the hold is lifted, so that it is not taken for left behind while xapi starts.
        state = state._replace(placed=state.placed._replace(promoted=True))
    if order.kind == "toolstack_fence":
        # safety: the hold is durable before xapi is stopped, so that no restart of anything forgets it.
        kept = state.hold is not None and state.hold.boot_id == now.boot_id
        since = state.hold.since_ms if state.hold is not None and kept else now.mono_ms
        state = state._replace(hold=Hold(order.term, now.boot_id, since, order.successor))
    if order.kind == "place_database" and order.piece is not None and not order.piece.remove:
        # safety: what is marked before its first byte is never left behind unknown.
        state = state._replace(placed=Placed(order.term, order.piece.generation, False))
    if order.kind == "promote" and state.placed is not None and state.placed.term == order.term:
        state = state._replace(placed=state.placed._replace(promoted=True))
    if order.kind == "promote" and order.hold_gc:
        # safety: durable before the promotion: a new master that forgot it would tidy disks that others still use.
        state = state._replace(gc=order.term)
    return state


def outlived(state: GateState, order: Order, now: HostNow) -> bool:
    """Must a placed database be removed before this act? It was meant for one promotion, at another term than this.

    A host that was promoted with it and whose xapi has not started since keeps it: it is the pool's newest.
    """
    if state.placed is not None and order.kind == "toolstack_release" and under_hold(state):
        return not keeps(state, order)
    if state.placed is None or state.placed.term == order.term:
        return False
    if order.kind == "restart_xapi" or (order.kind == "toolstack_release" and order.release_as == AS_MASTER):
        return not (state.placed.promoted and now.pool_conf == MASTER)
    return order.kind in ("promote", "repoint", "toolstack_release") or (
        order.kind == "set_tombstone" and not order.clear
    )


def left_behind(state: GateState, pool_conf: str) -> bool:
    """Has this host become master by another way than the promotion that its placed database was for?

    An operator's designate, say: xapi starts anew some ten seconds later, and would load that file.
    """
    return state.placed is not None and not state.placed.promoted and pool_conf == MASTER and not under_hold(state)


def under_hold(state: GateState) -> bool:
    """Is a database placed here for the restart of a held master? It was placed at the term of the hold that stands."""
    return state.placed is not None and state.hold is not None and state.placed.term == state.hold.term


def keeps(state: GateState, order: Order) -> bool:
    """Is this the release that starts xapi with the very database that is placed under the hold?"""
    named = order.release_as == AS_MASTER and state.placed is not None and order.restore == state.placed.generation
    return named and under_hold(state)


def withdrawn(state: GateState, before: GateState) -> GateState:
    """The state after an order that was refused between its mark and its act: what it was to cause has not begun."""
    return state._replace(hold=before.hold, placed=before.placed, gc=before.gc)


def never_began(state: GateState, order: Order) -> GateState:
    """The state after an order whose act found nobody to ask; what holds garbage collection stays for its next copy."""
    if order.kind == "promote" and state.placed is not None and state.placed.term == order.term:
        return state._replace(placed=state.placed._replace(promoted=False))
    return state


def ended(state: GateState, result: Result, now_ms: int = 0) -> GateState:
    """The state to make durable before answering; ``now_ms``: this boot's clock."""
    if result.kind not in MUTATING:
        return state
    if result.kind == "promote":
        state = state._replace(unsure_ms=0 if result.outcome == DONE else now_ms)
    if result.kind == "promote" and result.outcome == DONE:
        state = state._replace(tombstone=None)
    if result.kind == "release_gc" and result.outcome == DONE:
        state = state._replace(gc=0)
    return state._replace(results=dict(state.results, **{result.kind: result}))


def with_tombstone(state: GateState, tombstone: Optional[Tombstone]) -> GateState:
    """The state with this tombstone; None clears it."""
    return state._replace(tombstone=tombstone)


def with_hold(state: GateState, hold: Optional[Hold]) -> GateState:
    """The state with this hold; None lifts it."""
    return state._replace(hold=hold)


def with_placed(state: GateState, placed: Optional[Placed]) -> GateState:
    """The state with this placed database; None: there is none."""
    return state._replace(placed=placed)


def encode(state: GateState) -> bytes:
    """The state as bytes for a slot (gate_state.py)."""
    value = {
        "epoch": state.epoch,
        "term": state.term,
        "tombstone": _listed(state.tombstone),
        "pool": state.pool,
        "started": {kind: [m.order_id, m.process.pid, m.process.start_ticks] for kind, m in state.started.items()},
        "results": {kind: list(r) for kind, r in state.results.items()},
        "hold": _listed(state.hold),
        "placed": _listed(state.placed),
        "gc": state.gc,
        "unsure_ms": state.unsure_ms,
    }
    return gate_state.write(value, state.more)


def _listed(item: Optional[Tuple[Any, ...]]) -> Optional[List[Any]]:
    return list(item) if item is not None else None


def decode(data: bytes) -> GateState:
    """The state from a slot's bytes.

    :raises ValueError: the bytes are not an encoded state; ``stored.Newer``: not one for this agent.
    """
    value, more = gate_state.read(data)
    return GateState(
        value["epoch"],
        value["term"],
        Tombstone(*value["tombstone"]) if value["tombstone"] is not None else None,
        value["pool"],
        {kind: Started(m[0], Process(m[1], m[2])) for kind, m in value["started"].items()},
        {kind: Result(*r) for kind, r in value["results"].items()},
        Hold(*value["hold"]) if value["hold"] is not None else None,
        Placed(*value["placed"]) if value["placed"] is not None else None,
        value["gc"],
        more,
        value["unsure_ms"],
    )


def results_kept(state: GateState) -> List[Result]:
    """The last result per mutating kind, in a fixed order."""
    return [state.results[kind] for kind in MUTATING if kind in state.results]
