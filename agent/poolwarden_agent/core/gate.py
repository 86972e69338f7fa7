"""The order gate: which orders this host obeys, as a pure function.

Rules
-----
* An order is obeyed only if pool, host and boot are this one's, its epoch and its term are not lower than the highest
  ever stored, it has not expired on this host's own clock, and its preconditions hold at this instant.
* Durable order of writes for an act: (1) epoch, term and the *started* mark, (2) the act, (3) its result, (4) the
  answer.
* A redelivered order that has a result gets that result again. One that was started and has no result (we died between
  2 and 3) is judged by facts: if its effect is there it is done, otherwise it is done now. Thus it acts once.
* A refused or expired order leaves nothing behind: its id is not used up.
* What cannot be read is not "no": an unreadable HA flag refuses every act that xapi's HA would punish.
* No host is told to follow itself, and only an IP literal ever gets into pool.conf.
* A promotion that is done releases the tombstone that its higher term has overruled.

The state is small and bounded: one started mark and one result per mutating kind.
"""

import ipaddress
import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

MASTER = "master"
MEMBER = "member"
BROKEN = "broken"
UNREADABLE = ""

MUTATING = ("claim", "promote", "repoint", "restart_xapi", "set_tombstone")
LOOKING = ("probe_now", "collect_evidence")
# A claim is looked at anew each time it arrives: a stored last look would be an old one.
REPLAYED = ("promote", "repoint", "restart_xapi", "set_tombstone")
KNOWN = MUTATING + LOOKING
NEEDS_HA_OFF = ("promote", "repoint", "restart_xapi")
LONGEST_VALID_MS = 300000
LONGEST_ID = 200  # ids are stored; the slots are small

Process = NamedTuple("Process", [("pid", int), ("start_ticks", int)])
NO_PROCESS = Process(0, 0)

Tombstone = NamedTuple("Tombstone", [("term", int), ("successor", str), ("address", str)])

Started = NamedTuple("Started", [("order_id", str), ("process", Process)])

Result = NamedTuple("Result", [("order_id", str), ("kind", str), ("outcome", str), ("reason", str), ("text", str)])
DONE, REFUSED, FAILED, UNKNOWN = "done", "refused", "failed", "unknown"

GateState = NamedTuple(
    "GateState",
    [
        ("epoch", int),
        ("term", int),
        ("tombstone", Optional[Tombstone]),
        ("pool", str),
        ("started", Dict[str, Started]),
        ("results", Dict[str, Result]),
    ],
)
EMPTY = GateState(0, 0, None, "", {}, {})

Order = NamedTuple(
    "Order",
    [
        ("order_id", str),
        ("kind", str),
        ("epoch", int),
        ("term", int),
        ("pool", str),
        ("host", str),
        ("boot_id", str),
        ("echo_mono_ms", int),
        ("valid_for_ms", int),
        ("pool_conf_in", Tuple[str, ...]),
        ("pool_conf_address", str),
        ("ha_off", bool),
        ("process", Process),
        ("min_root_free_bytes", int),
        ("not_tombstoned", bool),
        ("address", str),
        ("successor", str),
        ("clear", bool),
        ("as_master_ok", bool),
    ],
)

HostNow = NamedTuple(
    "HostNow",
    [
        ("mono_ms", int),
        ("host", str),
        ("pool", str),
        ("boot_id", str),
        ("pool_conf", str),
        ("pool_conf_address", str),
        ("ha_armed", Optional[bool]),
        ("process", Process),
        ("root_free_bytes", Optional[int]),
        ("address", str),
    ],
)

Obey = NamedTuple("Obey", [("already", bool), ("text", str)])
Replay = NamedTuple("Replay", [("result", Result)])
Refuse = NamedTuple("Refuse", [("reason", str), ("text", str)])


def decide(state: GateState, order: Order, now: HostNow) -> Any:
    """Obey, Replay or Refuse this order at this instant; pure and total."""
    refusal = _address(order, now) or _numbers(state, order)
    if refusal is not None:
        return refusal
    kept = state.results.get(order.kind)
    if kept is not None and kept.order_id == order.order_id and order.kind in REPLAYED:
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
    if order.kind not in KNOWN:
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
    return ""


def _kind_rules(state: GateState, order: Order, now: HostNow) -> Optional[Refuse]:
    if order.kind in NEEDS_HA_OFF and now.ha_armed is not False:
        said = "armed" if now.ha_armed else "not readable"
        return Refuse("ha-armed", "xapi's HA flag (local.db ha.armed) is %s: hands off" % said)
    if order.kind == "promote" and state.tombstone is not None and order.term <= state.tombstone.term:
        return Refuse("tombstoned", "this host was superseded at term %d" % state.tombstone.term)
    if order.kind == "restart_xapi" and state.tombstone is not None and now.pool_conf != MEMBER:
        return Refuse(
            "tombstoned",
            "this host was superseded at term %d: its xapi must not start as master" % state.tombstone.term,
        )
    if order.kind == "restart_xapi" and now.pool_conf in (MASTER, UNREADABLE) and not order.as_master_ok:
        said = "this host is master" if now.pool_conf == MASTER else "pool.conf is not readable"
        return Refuse("precondition", "%s and the order is not meant for a master" % said)
    return _successor(order, now) if order.kind in ("repoint", "set_tombstone") and not order.clear else None


def _successor(order: Order, now: HostNow) -> Optional[Refuse]:
    """Is the host to follow named well enough to be written into pool.conf?"""
    if order.kind == "repoint" and not order.address:
        return Refuse("precondition", "the order names no master address")
    if order.address and not is_address(order.address):
        return Refuse("precondition", "%r is no IP literal" % order.address[:80])
    if len(order.successor) > LONGEST_ID:
        return Refuse("precondition", "the successor's UUID has %d characters" % len(order.successor))
    # safety: a host that follows itself never comes back (xapi: HOST_ITS_OWN_SLAVE).
    if order.successor == now.host or (now.address and same(order.address, now.address)):
        return Refuse("precondition", "the order names this host itself as the one to follow")
    return None


def is_address(text: str) -> bool:
    """Is this an IP literal?"""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def same(one: str, other: str) -> bool:
    """Are these the same address, however IPv6 is spelled?"""
    if is_address(one) and is_address(other):
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    return one == other


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
    return state


def ended(state: GateState, result: Result) -> GateState:
    """The state to make durable before answering."""
    if result.kind not in MUTATING:
        return state
    if result.kind == "promote" and result.outcome == DONE:
        state = state._replace(tombstone=None)
    return state._replace(results=dict(state.results, **{result.kind: result}))


def with_tombstone(state: GateState, tombstone: Optional[Tombstone]) -> GateState:
    """The state with this tombstone; None clears it."""
    return state._replace(tombstone=tombstone)


def encode(state: GateState) -> bytes:
    """The state as bytes for a slot: canonical JSON."""
    value = {
        "epoch": state.epoch,
        "term": state.term,
        "tombstone": list(state.tombstone) if state.tombstone is not None else None,
        "pool": state.pool,
        "started": {kind: [m.order_id, m.process.pid, m.process.start_ticks] for kind, m in state.started.items()},
        "results": {kind: list(r) for kind, r in state.results.items()},
    }
    return json.dumps(value, sort_keys=True).encode("utf-8")


def decode(data: bytes) -> GateState:
    """The state from a slot's bytes.

    :raises ValueError: the bytes are not an encoded state.
    """
    try:
        value = json.loads(data.decode("utf-8"))
        tombstone = Tombstone(*value["tombstone"]) if value["tombstone"] is not None else None
        started = {k: Started(v[0], Process(v[1], v[2])) for k, v in value["started"].items()}
        results = {k: Result(*v) for k, v in value["results"].items()}
        return GateState(int(value["epoch"]), int(value["term"]), tombstone, value["pool"], started, results)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("not a gate state: %s" % error) from error


def results_kept(state: GateState) -> List[Result]:
    """The last result per mutating kind, in a fixed order."""
    return [state.results[kind] for kind in MUTATING if kind in state.results]
