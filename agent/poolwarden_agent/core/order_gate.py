"""The order gate: which orders this host obeys, as a pure function.

Rules
-----
* An order is obeyed only if pool, host and boot are this one's, its epoch and its term are not lower than the highest
  ever stored, it has not expired on this host's own clock, and its preconditions hold at this instant; and if the rules
  of its kind (kind_rules.py) allow it.
* Epoch and term are no further above the stored ones than can be (signed.py).
* Durable order of writes for an act: (1) epoch, term and the *started* mark, (2) the act, (3) its result, (4) the
  answer.
* A redelivered order that has a result gets that result again. One that was started and has no result (the agent ended
  between 2 and 3) is judged by facts: if its effect is there it is done, otherwise it is done now. Thus it acts once.
* A refused or expired order leaves nothing behind: its id is not used up. Nor is that of one that never began,
  because no xapi could be asked (a refused connection is not an unknown answer).
* A promotion has one id for good. Where its stored result is not "done", the same order *sent anew after that result*
  (it echoes a later instant) is judged by facts: if pool.conf says master it is done, otherwise it is done again. A
  late copy of the first one echoes an earlier instant, and gets the stored result.
* A promotion that is done releases the tombstone that its higher term has overruled.
* A toolstack fence's hold is durable before xapi is stopped.
* A run of a fence agent is no act on this host: nothing of it is stored here but epoch and term (fence_runs.py
  remembers it while it could be delivered again).

The state is small and bounded: one started mark and one result per mutating kind.
"""

from typing import Any, List, NamedTuple, Optional

from poolwarden_agent.core.addresses import same
from poolwarden_agent.core.gate_state import GateState, Hold, Placed, Result, Started
from poolwarden_agent.core.host_now import MASTER, MEMBER, NO_PROCESS, HostNow
from poolwarden_agent.core.kind_rules import Refuse as Refuse
from poolwarden_agent.core.kind_rules import ha_off
from poolwarden_agent.core.order_kinds import BY_NAME, KNOWN, MUTATING, REPLAYED
from poolwarden_agent.core.orders import (
    DONE,
    FAILED,
    LONGEST_ID,
    LONGEST_VALID_MS,
    UNKNOWN,
    Order,
    PlaceDatabase,
    Promote,
    Repoint,
    RestartXapi,
    ToolstackFence,
    ToolstackRelease,
)
from poolwarden_agent.core.placed_database import keeps, under_hold
from poolwarden_agent.core.signed import implausible

Obey = NamedTuple("Obey", [("already", bool), ("text", str)])
Replay = NamedTuple("Replay", [("result", Result)])


def decide(state: GateState, order: Order, now: HostNow) -> Any:
    """Obey, Replay or Refuse this order at this instant; pure and total."""
    refusal = _address(order, now) or _numbers(state, order)
    if refusal is not None:
        return refusal
    kept = state.results.get(order.kind)
    of_this = kept is not None and kept.order_id == order.order_id and order.kind in REPLAYED
    if kept is not None and of_this and not _sent_anew(state, order, kept):
        return Replay(kept)
    refusal = _expiry(order, now.mono_ms)
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


def too_late(state: GateState, order: Order, mono_ms: int) -> Optional[Refuse]:
    """Is this order overtaken, or has it expired, since it was let pass? ``mono_ms``: this host's clock."""
    return overtaken(state, order) or _expiry(order, mono_ms)


def _numbers(state: GateState, order: Order) -> Optional[Refuse]:
    # safety: a lower epoch is a collector that was replaced, a lower term a succession that is over.
    if order.epoch < state.epoch:
        return Refuse("stale-epoch", "epoch %d is lower than %d" % (order.epoch, state.epoch))
    if order.term < state.term:
        return Refuse("stale-term", "term %d is lower than %d" % (order.term, state.term))
    # safety: a number that is stored once is refused below for ever; one leap is as far as an unsigned word goes.
    why = implausible(state.epoch, state.term, order.epoch, order.term, order.signed)
    return Refuse("implausible", why) if why else None


def _expiry(order: Order, mono_ms: int) -> Optional[Refuse]:
    if not 1 <= order.valid_for_ms <= LONGEST_VALID_MS:
        return Refuse("expired", "its validity of %d ms is outside 1..%d" % (order.valid_for_ms, LONGEST_VALID_MS))
    if order.echo_mono_ms > mono_ms:
        return Refuse("expired", "it echoes an instant that this clock has not reached")
    late = mono_ms - order.echo_mono_ms - order.valid_for_ms
    if late > 0:
        return Refuse("expired", "it is %d ms too late on this host's own clock" % late)
    return None


def _sent_anew(state: GateState, order: Order, kept: Result) -> bool:
    """Is this promotion, that was tried and is not known to be done, ordered again in knowledge of that?"""
    # safety: what is sent anew was proven and looked at anew; a copy of the first order knows nothing of its result.
    again = bool(state.unsure_ms) and order.echo_mono_ms > state.unsure_ms
    return isinstance(order.body, Promote) and kept.outcome in (UNKNOWN, FAILED) and again


def _already(state: GateState, order: Order, now: HostNow) -> str:
    """Was this very order started before the agent ended, and is its effect there? Then it must not be repeated."""
    mark = state.started.get(order.kind)
    if mark is None or mark.order_id != order.order_id:
        return ""
    if isinstance(order.body, Promote) and now.pool_conf == MASTER:
        return "pool.conf says master already"
    # pool.conf alone does not show it: a tombstone writes it too, and the old process would serve on.
    replaced = now.process != mark.process
    if (
        isinstance(order.body, Repoint)
        and replaced
        and now.pool_conf == MEMBER
        and same(now.pool_conf_address, order.body.address)
    ):
        return "pool.conf names %s already" % order.body.address
    if isinstance(order.body, RestartXapi) and now.process != NO_PROCESS and now.process != mark.process:
        return "xapi has been restarted already"
    if isinstance(order.body, ToolstackRelease) and state.hold is None and now.process != NO_PROCESS:
        return "the hold is lifted and xapi runs already"
    if isinstance(order.body, PlaceDatabase) and not order.body.piece.remove and order.body.piece.last:
        return "the database is in place already" if now.restore == order.body.piece.generation else ""
    return ""


def _kind_rules(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    kind = BY_NAME[order.kind]
    refusal = ha_off(now) if kind.needs_ha_off else None
    return refusal or kind.rule(state, order, now)


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
    if isinstance(order.body, ToolstackFence) and under_hold(state) and state.placed is not None:
        again = state.hold is not None and state.hold.term == order.term
        # safety: what was placed under an earlier hold is for no start any more (left_behind, outlived).
        state = state if again else state._replace(placed=state.placed._replace(promoted=False))
    if isinstance(order.body, ToolstackRelease) and keeps(state, order.body) and state.placed is not None:
        # safety: durable before the hold is lifted, so that it is not taken for left behind while xapi starts.
        state = state._replace(placed=state.placed._replace(promoted=True))
    if isinstance(order.body, ToolstackFence):
        # safety: the hold is durable before xapi is stopped, so that no restart of anything forgets it.
        kept = state.hold is not None and state.hold.boot_id == now.boot_id
        since = state.hold.since_ms if state.hold is not None and kept else now.mono_ms
        state = state._replace(hold=Hold(order.term, now.boot_id, since, order.body.successor))
    if isinstance(order.body, PlaceDatabase) and not order.body.piece.remove:
        # safety: what is marked before its first byte is never left behind unknown.
        state = state._replace(placed=Placed(order.term, order.body.piece.generation, False))
    if isinstance(order.body, Promote) and state.placed is not None and state.placed.term == order.term:
        state = state._replace(placed=state.placed._replace(promoted=True))
    if isinstance(order.body, Promote) and order.body.hold_gc:
        # safety: durable before the promotion: a new master that forgot it would tidy disks that others still use.
        state = state._replace(gc=order.term)
    return state


def withdrawn(state: GateState, before: GateState) -> GateState:
    """The state after an order that was refused between its mark and its act: what it was to cause has not begun."""
    return state._replace(hold=before.hold, placed=before.placed, gc=before.gc)


def never_began(state: GateState, order: Order) -> GateState:
    """The state after an order whose act found no xapi; what holds garbage collection stays for its next copy."""
    if isinstance(order.body, Promote) and state.placed is not None and state.placed.term == order.term:
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


def results_kept(state: GateState) -> List[Result]:
    """The last result per mutating kind, in a fixed order."""
    return [state.results[kind] for kind in MUTATING if kind in state.results]
