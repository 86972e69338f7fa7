"""The model against the code: the production gate judges every order that the model ever delivers as the model does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

from poolwarden_agent.core import gate_state, host_now, order_gate, order_kinds, orders
from poolwarden_collector.core.state.failover_record import Step as Stage
from poolwarden_collector.core.state.failover_transitions import TRANSITIONS

from .configurations import THREE_HAND, TWO_SECOND_AGAIN
from .explorer import Step, explore
from .hosts import _promote, _refused
from .model import steps
from .world import DOWN, MASTER, Host, Left, Message, Setting, World

ADDRESS = "10.0.0.{}".format
AGENT_DIES = Setting("", 2, 1, Left(offs=2, agent_crashes=1))


def _blank(kind: type, /, **known: Any) -> Any:
    """A NamedTuple with these fields, and nothing in the others."""
    empty = {int: 0, str: "", bool: False, host_now.Process: host_now.NO_PROCESS}
    fields = {
        name: known.get(name, kind._field_defaults.get(name, empty.get(hint, ())))
        for name, hint in get_type_hints(kind).items()
    }
    return kind(**fields)


def _by_the_gate(host: Host, m: Message) -> str:
    ids = str(m.order)
    order = _blank(
        orders.Order,
        **{"order_id": ids, "epoch": m.epoch, "term": m.term, "pool": "p", "host": "h"},
        **{"boot_id": str(m.boot), "echo_mono_ms": 1000, "valid_for_ms": 15000, "pool_conf_in": ("member",)},
        **{"pool_conf_address": ADDRESS(m.old), "ha_off": True, "body": orders.Promote(hold_gc=False)},
    )
    conf, address = (host_now.MASTER, "") if host.conf == MASTER else (host_now.MEMBER, ADDRESS(host.conf))
    process = host_now.NO_PROCESS if host.run == DOWN else host_now.Process(7, 7)
    now = _blank(
        host_now.HostNow,
        **{"mono_ms": 2000, "host": "h", "pool": "p", "boot_id": str(host.boot), "pool_conf": conf, "ha_armed": False},
        **{"pool_conf_address": address, "process": process, "root_free_bytes": 1 << 30, "address": "10.0.0.99"},
        able=order_kinds.KNOWN,
    )
    stone = gate_state.Tombstone(host.tombstone, "", "") if host.tombstone else None
    started = {"promote": gate_state.Started(str(host.mark), host_now.Process(7, 7))} if host.mark else {}
    results = {"promote": gate_state.Result(str(host.result), "promote", orders.DONE, "", "")} if host.result else {}
    decided = order_gate.decide(gate_state.GateState(host.epoch, host.term, stone, "p", started, results), order, now)
    if isinstance(decided, order_gate.Obey):
        return "done already" if decided.already else "act"
    return "replay" if isinstance(decided, order_gate.Replay) else "refuse"


def _by_the_model(w: World, s: Setting, host: Host, m: Message) -> str:
    taken = [] if _refused(host, m, s) else list(_promote(w, s, m, host))
    if not taken:
        return "replay" if host.result == m.order and not _refused(host, m, s) else "refuse"
    return "act" if taken[0].after[0][m.host].act == 1 else "done already"


def test_the_gate_decides_as_the_model_does() -> None:
    seen: dict[tuple[Host, Message], str] = {}

    def watched(w: World, s: Setting) -> Iterator[Step]:
        for m in w.messages:
            host = w.hosts[m.host]
            if m.kind == "promote" and host.up and not host.act and (host, m) not in seen:
                seen[host, m] = _by_the_model(w, s, host, m)
        yield from steps(w, s)

    for setting in (AGENT_DIES, TWO_SECOND_AGAIN, THREE_HAND):
        explore(setting.start(), lambda w, s=setting: watched(w, s))
    assert set(seen.values()) == {"act", "done already", "replay", "refuse"}
    assert {key: _by_the_gate(*key) for key in seen} == seen


def test_the_models_moves_are_in_the_table() -> None:
    """Decided, chosen, intended, and how each may end."""
    moves = {(t.source, t.target) for t in TRANSITIONS}
    way = (Stage.DECIDED, Stage.CLAIMED, Stage.CANDIDATE, Stage.FENCED, Stage.PROVED, Stage.PROMOTING, Stage.PROMOTED)
    assert set(zip(way, way[1:], strict=False)) <= moves
    given_up = {(step, Stage.ABORTED) for step in way[:6]}  # from the intent on only when the candidate is proven off
    assert given_up | {(Stage.PROMOTING, Stage.SUPERSEDED)} <= moves
    # Nothing leads from the intent back to a choice, and nothing out of an end.
    assert not {t for t in moves if t[0] is Stage.PROMOTING and t[1] in way[:5]}
    assert not {t for t in moves if t[0] in (Stage.ABORTED, Stage.SUPERSEDED, Stage.CLOSED)}
