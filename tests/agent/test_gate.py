"""The order gate: each reason to refuse, each boundary, and what a redelivered order meets. Pure, so exhaustive."""

import itertools
import json
import typing

import pytest

from poolwarden_agent.core import gate_state, host_now, kind_rules, order_gate, order_kinds, orders
from poolwarden_agent.core.piece import Piece

HOST, POOL, BOOT = "host-1", "pool-1", "boot-1"
STATE = gate_state.EMPTY._replace(epoch=3, term=7, pool=POOL)
XAPI = host_now.Process(500, 9000)
NOW = host_now.HostNow(
    10000, HOST, POOL, BOOT, host_now.MEMBER, "10.0.0.1", False, XAPI, 10**9, "10.0.0.5", able=order_kinds.KNOWN
)
PIECE = Piece(50, 100, 0, 100, "a" * 64, False)
BLANK = {int: 0, str: "", bool: False, bytes: b"", Piece: PIECE}
BODIES = {name: body for body, name in orders.NAMES.items()}


def an(kind, **said):
    """An order of this kind; its body says this and nothing else."""
    hints = typing.get_type_hints(BODIES[kind])
    assert set(said) <= set(hints)
    body = BODIES[kind](**{name: said.get(name, BLANK.get(hint, ())) for name, hint in hints.items()})
    return orders.Order(
        order_id="o1",
        epoch=3,
        term=7,
        pool=POOL,
        host=HOST,
        boot_id=BOOT,
        echo_mono_ms=9000,
        valid_for_ms=5000,
        pool_conf_in=(),
        pool_conf_address="",
        ha_off=False,
        process=host_now.NO_PROCESS,
        min_root_free_bytes=0,
        not_tombstoned=False,
        body=body,
    )


def but(order, **changes):
    """This order with another body."""
    return order._replace(body=order.body._replace(**changes))


ORDER = an("promote")
REPOINT = an("repoint", address="10.0.0.2")
RESTART = an("restart_xapi")
STONE = an("set_tombstone", address="10.0.0.2", successor="host-2")
HELD = STATE._replace(hold=gate_state.Hold(7, BOOT, 9000, "host-2"))
FENCE = an("toolstack_fence", successor="host-2")
RELEASE = an("toolstack_release", release_as=orders.AS_MEMBER, address="10.0.0.2")
PLACE = an("place_database", piece=PIECE)
STONED = STATE._replace(tombstone=gate_state.Tombstone(7, "host-2", "10.0.0.2"))
BY_KIND = {
    "promote": ORDER,
    "repoint": REPOINT,
    "restart_xapi": RESTART,
    "set_tombstone": STONE,
    "toolstack_fence": FENCE,
    "toolstack_release": RELEASE,
    "place_database": PLACE,
}
FENCE_PROXY = an("fence_proxy", host="host-2")
STATE_OF = {"toolstack_release": HELD}  # what makes an order of this kind a sound one
# What only a serving master obeys is in test_serving.py.
HERE = [kind for kind in order_kinds.KNOWN if kind not in order_kinds.SERVING + ("locate_vms", "show_message")]
ALL = [dict(BY_KIND, fence_proxy=FENCE_PROXY).get(kind) or an(kind) for kind in HERE]
OBEY = order_gate.Obey(False, "")


def state_of(order):
    return STATE_OF.get(order.kind, STATE)


def reason(order, state=None, now=NOW):
    decision = order_gate.decide(state or state_of(order), order, now)
    assert not isinstance(decision, kind_rules.Refuse) or decision.text
    return decision.reason if isinstance(decision, kind_rules.Refuse) else type(decision).__name__


@pytest.mark.parametrize("order", ALL, ids=HERE)
def test_a_sound_order_of_each_kind_is_obeyed(order):
    assert order_gate.decide(state_of(order), order, NOW) == OBEY


@pytest.mark.parametrize("order", ALL, ids=HERE)
@pytest.mark.parametrize(
    "change, expected",
    [
        ({"order_id": ""}, "unknown-order"),
        ({"order_id": "x" * 201}, "unknown-order"),
        ({"host": "host-2"}, "wrong-host"),
        ({"host": ""}, "wrong-host"),
        ({"pool": "pool-2"}, "wrong-pool"),
        ({"pool": ""}, "wrong-pool"),
        ({"boot_id": "boot-0"}, "wrong-boot"),
        ({"boot_id": ""}, "wrong-boot"),
        ({"epoch": 2}, "stale-epoch"),
        ({"term": 6}, "stale-term"),
        ({"epoch": 4, "term": 6}, "stale-term"),
        ({"valid_for_ms": 0}, "expired"),
        ({"valid_for_ms": 300001}, "expired"),
        ({"echo_mono_ms": 10001}, "expired"),
        ({"echo_mono_ms": 4999}, "expired"),
        ({"pool_conf_in": (host_now.MASTER,)}, "precondition"),
        ({"pool_conf_in": (host_now.MASTER, host_now.BROKEN)}, "precondition"),
        ({"pool_conf_address": "10.0.0.9"}, "precondition"),
        ({"process": host_now.Process(500, 9001)}, "precondition"),
        ({"process": host_now.Process(501, 9000)}, "precondition"),
        ({"min_root_free_bytes": 10**9 + 1}, "precondition"),
    ],
)
def test_every_kind_is_refused_for_what_is_common_to_all(order, change, expected):
    assert reason(order._replace(**change)) == expected


@pytest.mark.parametrize("order", ALL, ids=HERE)
@pytest.mark.parametrize(
    "change",
    [
        {"order_id": "x" * 200},
        {"epoch": 4},
        {"term": 8},
        {"echo_mono_ms": 10000, "valid_for_ms": 1},
        {"echo_mono_ms": 5000},  # the last millisecond
        {"echo_mono_ms": 0, "valid_for_ms": 300000},
        {"pool_conf_in": (host_now.MASTER, host_now.MEMBER)},
        {"pool_conf_address": "10.0.0.1"},
        {"process": XAPI},
        {"min_root_free_bytes": 10**9},
        {"ha_off": True},
        {"not_tombstoned": True},
    ],
)
def test_every_kind_is_obeyed_up_to_the_boundary(order, change):
    assert order_gate.decide(state_of(order), order._replace(**change), NOW) == OBEY


def test_expiry_counts_on_this_hosts_clock_to_the_millisecond():
    for at, expected in ((13999, "Obey"), (14000, "Obey"), (14001, "expired")):
        assert reason(ORDER, now=NOW._replace(mono_ms=at)) == expected
    assert "1 ms too late" in order_gate.decide(STATE, ORDER, NOW._replace(mono_ms=14001)).text


def test_an_unknown_order_is_refused():
    assert reason(ORDER._replace(body=None)) == "unknown-order"


@pytest.mark.parametrize("order", ALL, ids=HERE)
def test_a_host_that_cannot_do_it_refuses_it(order):
    able = tuple(kind for kind in order_kinds.KNOWN if kind != order.kind)
    assert reason(order, now=NOW._replace(able=able)) == "unknown-order"


@pytest.mark.parametrize("named", ["", HOST, "x" * 201])
def test_a_fence_agent_is_run_for_another_host_alone(named):
    assert reason(but(FENCE_PROXY, host=named)) == "precondition"


def test_a_host_that_does_not_know_its_pool_obeys_nobody():
    for pool in ("", POOL):
        assert reason(ORDER._replace(pool=pool), now=NOW._replace(pool="")) == "wrong-pool"


@pytest.mark.parametrize("kind, armed", list(itertools.product(HERE, (True, None))))
def test_armed_or_unreadable_ha_refuses_what_ha_would_punish(kind, armed):
    order = next(o for o in ALL if o.kind == kind)
    now = NOW._replace(ha_armed=armed)
    needs = kind in order_kinds.NEEDS_HA_OFF or kind == "toolstack_release"  # as a member: it writes pool.conf
    assert reason(order, now=now) == ("ha-armed" if needs else "Obey")
    assert reason(order._replace(ha_off=True), now=now) == "ha-armed"


@pytest.mark.parametrize("term, expected", [(7, "tombstoned"), (8, "Obey")])
def test_a_superseded_host_is_promoted_only_at_a_higher_term(term, expected):
    assert reason(ORDER._replace(term=term), STONED) == expected


def test_a_tombstone_bars_only_what_asks_for_none():
    assert reason(REPOINT, STONED) == "Obey"
    assert reason(REPOINT._replace(not_tombstoned=True), STONED) == "tombstoned"
    assert reason(ORDER._replace(term=8, not_tombstoned=True), STONED) == "tombstoned"


@pytest.mark.parametrize(
    "role, as_master_ok, expected",
    [
        (host_now.MASTER, False, "precondition"),
        (host_now.MASTER, True, "Obey"),
        (host_now.MEMBER, False, "Obey"),
        (host_now.BROKEN, False, "Obey"),
        (host_now.UNREADABLE, False, "precondition"),
        (host_now.UNREADABLE, True, "Obey"),
    ],
)
def test_a_masters_xapi_is_restarted_only_where_that_is_meant(role, as_master_ok, expected):
    order = but(RESTART, as_master_ok=as_master_ok)
    assert reason(order, now=NOW._replace(pool_conf=role)) == expected


@pytest.mark.parametrize("order", [REPOINT, STONE], ids=["repoint", "set_tombstone"])
@pytest.mark.parametrize(
    "change, expected",
    [
        ({"address": "10.0.0.5"}, "precondition"),  # itself
        ({"address": "master.example"}, "precondition"),
        ({"address": "10.0.0.2\nmaster"}, "precondition"),
        ({"address": "10.0.0"}, "precondition"),
        ({"address": "2001:db8::2"}, "Obey"),
    ],
)
def test_only_another_hosts_address_is_followed(order, change, expected):
    assert reason(but(order, **change)) == expected


@pytest.mark.parametrize("successor", [HOST, "x" * 201])
def test_a_tombstone_names_another_host(successor):
    assert reason(but(STONE, successor=successor)) == "precondition"


def test_a_repoint_needs_an_address_and_a_tombstone_does_not():
    assert reason(but(REPOINT, address="")) == "precondition"
    assert reason(but(STONE, address="", successor="")) == "Obey"
    assert reason(but(STONE, address="nonsense", clear=True)) == "Obey"
    assert reason(but(REPOINT, address="10.0.0.5"), now=NOW._replace(address="")) == "Obey"


def test_ipv6_is_the_same_however_it_is_spelled():
    now = NOW._replace(pool_conf_address="2001:DB8::0:1", address="2001:db8:0::5")
    assert reason(REPOINT._replace(pool_conf_address="2001:db8::1"), now=now) == "Obey"
    assert reason(but(REPOINT, address="2001:db8::5"), now=now) == "precondition"


@pytest.mark.parametrize("free", [None, 0])
def test_unknown_free_space_is_not_enough(free):
    order = ORDER._replace(min_root_free_bytes=1)
    assert reason(order, now=NOW._replace(root_free_bytes=free)) == "precondition"
    assert reason(ORDER, now=NOW._replace(root_free_bytes=free)) == "Obey"


def test_an_unreadable_pool_conf_meets_no_wish():
    now = NOW._replace(pool_conf=host_now.UNREADABLE, pool_conf_address="")
    assert reason(ORDER._replace(pool_conf_in=(host_now.MEMBER,)), now=now) == "precondition"
    assert reason(ORDER._replace(pool_conf_address="10.0.0.1"), now=now) == "precondition"


# ---------------------------------------------------------------------------------------------- redelivery


def finished(order, outcome=orders.DONE):
    started = order_gate.starting(STATE, order, NOW)
    return order_gate.ended(started, gate_state.Result(order.order_id, order.kind, outcome, "", "said"))


@pytest.mark.parametrize("kind", BY_KIND)
@pytest.mark.parametrize("outcome", [orders.DONE, orders.FAILED, orders.UNKNOWN])
def test_a_finished_order_is_replayed_even_when_it_has_expired(kind, outcome):
    order = BY_KIND[kind]
    state = finished(order, outcome)
    late = NOW._replace(mono_ms=10**9, ha_armed=True)
    assert order_gate.decide(state, order, late) == order_gate.Replay(
        gate_state.Result("o1", kind, outcome, "", "said")
    )


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_replay_still_needs_pool_host_boot_epoch_and_term(kind):
    order = BY_KIND[kind]
    state = finished(order)._replace(epoch=4, term=8)
    assert reason(order, state) == "stale-epoch"
    assert reason(order._replace(epoch=4), state) == "stale-term"
    assert reason(order._replace(epoch=4, term=8, boot_id="boot-2"), state) == "wrong-boot"


def test_another_id_or_kind_is_no_replay():
    assert reason(ORDER._replace(order_id="o2"), finished(ORDER)) == "Obey"
    assert reason(REPOINT, finished(ORDER)) == "Obey"


@pytest.mark.parametrize("kind", ["claim", "probe_now", "collect_evidence"])
def test_what_looks_looks_anew(kind):
    order = an(kind)
    assert reason(order, finished(order)) == "Obey"


@pytest.mark.parametrize(
    "order, now",
    [
        (ORDER, NOW._replace(pool_conf=host_now.MASTER, pool_conf_address="")),
        (REPOINT, NOW._replace(pool_conf_address="10.0.0.2", process=host_now.Process(501, 9500))),
        (RESTART, NOW._replace(process=host_now.Process(501, 9500))),
    ],
    ids=["promote", "repoint", "restart_xapi"],
)
def test_an_order_begun_without_result_is_judged_by_facts(order, now):
    begun = order_gate.starting(STATE, order, NOW)
    seen = order_gate.decide(begun, order, now)
    assert isinstance(seen, order_gate.Obey) and seen.already and seen.text
    assert order_gate.decide(begun, order, NOW) == OBEY, "its effect is not there: it is done now"
    assert order_gate.decide(begun, order._replace(order_id="o2"), now) == OBEY, (
        "another order is not done by this one's"
    )
    assert order_gate.decide(STATE, order, now) == OBEY, "never begun: whoever did it, it was not this order"
    assert reason(order, begun, now._replace(mono_ms=10**9)) == "expired"


def test_pool_conf_alone_does_not_show_a_repoint():
    """A tombstone writes it too: only another process runs the new role."""
    begun = order_gate.starting(STATE, REPOINT, NOW)
    assert order_gate.decide(begun, REPOINT, NOW._replace(pool_conf_address="10.0.0.2")) == OBEY


def test_facts_count_before_rules_that_the_effect_itself_would_break():
    """pool.conf says master *because* this promotion ran: its own precondition `member` must not refuse it now."""
    order = ORDER._replace(pool_conf_in=(host_now.MEMBER,))
    begun = order_gate.starting(STATE, order, NOW)
    assert order_gate.decide(begun, order, NOW._replace(pool_conf=host_now.MASTER)).already


def test_no_process_is_no_proof_of_a_restart():
    begun = order_gate.starting(STATE, RESTART, NOW)
    assert order_gate.decide(begun, RESTART, NOW._replace(process=host_now.NO_PROCESS)) == OBEY
    never = order_gate.starting(STATE, RESTART, NOW._replace(process=host_now.NO_PROCESS))
    assert order_gate.decide(never, RESTART, NOW).already


# ---------------------------------------------------------------------------------------------- state


def test_numbers_never_fall_and_rise_with_the_order():
    state = order_gate.starting(STATE, ORDER._replace(epoch=5, term=9), NOW)
    assert (state.epoch, state.term) == (5, 9)
    state = order_gate.starting(state, ORDER._replace(epoch=1, term=1), NOW)
    assert (state.epoch, state.term) == (5, 9)


def test_only_what_changes_the_host_leaves_a_mark():
    assert order_gate.starting(STATE, an("probe_now"), NOW) == STATE
    assert order_gate.ended(STATE, gate_state.Result("o1", "probe_now", orders.DONE, "", "")) == STATE
    assert order_gate.starting(STATE, RESTART, NOW).started == {"restart_xapi": gate_state.Started("o1", XAPI)}


@pytest.mark.parametrize("outcome, left", [(orders.DONE, False), (orders.UNKNOWN, True), (orders.FAILED, True)])
def test_a_promotion_that_is_done_releases_the_tombstone(outcome, left):
    state = order_gate.ended(STONED, gate_state.Result("o1", "promote", outcome, "", ""))
    assert (state.tombstone is not None) is left
    kept = order_gate.ended(STONED, gate_state.Result("o1", "repoint", outcome, "", ""))
    assert kept.tombstone is not None


def test_the_state_survives_its_encoding():
    full = gate_state.with_tombstone(finished(REPOINT), gate_state.Tombstone(7, "host-2", "10.0.0.2"))
    for state in (gate_state.EMPTY, STATE, STONED, full):
        assert gate_state.decode(gate_state.encode(state)) == state
    assert gate_state.with_tombstone(full, None).tombstone is None
    held = gate_state.with_placed(gate_state.with_hold(full, HELD.hold), gate_state.Placed(7, 50, True))
    assert gate_state.decode(gate_state.encode(held)) == held
    assert gate_state.with_placed(gate_state.with_hold(held, None), None) == full


def test_the_state_of_an_earlier_version_has_neither_hold_nor_placed_database():
    value = json.loads(gate_state.encode(finished(REPOINT)).decode())
    del value["hold"], value["placed"]
    assert gate_state.decode(json.dumps(value).encode()) == finished(REPOINT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"epoch": 1}',
        gate_state.encode(STATE)[:-1],
        gate_state.encode(STATE).replace(b'"epoch": 3', b'"epoch": "x"'),
        gate_state.encode(finished(ORDER)).replace(b'"said"', b"1, 2"),
    ],
)
def test_bytes_that_are_no_state_are_an_error_and_never_empty(data):
    with pytest.raises(ValueError):
        gate_state.decode(data)


def test_results_are_kept_one_per_kind_in_fixed_order():
    state = STATE
    for number, kind in enumerate(("set_tombstone", "promote", "promote", "claim")):
        state = order_gate.ended(state, gate_state.Result("o%d" % number, kind, orders.DONE, "", ""))
    assert [(r.kind, r.order_id) for r in order_gate.results_kept(state)] == [
        ("claim", "o3"),
        ("promote", "o2"),
        ("set_tombstone", "o0"),
    ]


def test_the_largest_state_fits_a_slot():
    """Ids, addresses and texts are bounded, so a save never fails for its size."""
    from poolwarden_agent.dom0.system.slots import CAPACITY
    from poolwarden_agent.host.executor import LONGEST_TEXT

    widest = "\u20ac" * 200
    stone, hold = (
        gate_state.Tombstone(2**64 - 1, widest, "x" * 60),
        gate_state.Hold(2**64 - 1, widest, 2**64 - 1, widest),
    )
    placed = gate_state.Placed(2**64 - 1, 2**64 - 1, True)
    state = STATE._replace(epoch=2**64 - 1, term=2**64 - 1, tombstone=stone, hold=hold, placed=placed, pool=widest)
    for kind in order_kinds.MUTATING:
        state = order_gate.starting(state, an(kind)._replace(order_id="\u20ac" * 200), NOW)
        state = order_gate.ended(
            state, gate_state.Result("\u20ac" * 200, kind, orders.DONE, "xapi-error", "\u20ac" * LONGEST_TEXT)
        )
    state = state._replace(tombstone=stone, hold=hold, placed=placed)
    assert len(gate_state.encode(state)) < CAPACITY


# ---------------------------------------------------------------------------------------------- sent anew


@pytest.mark.parametrize("outcome", [orders.UNKNOWN, orders.FAILED])
def test_a_promotion_that_is_not_known_to_be_done_is_judged_anew_only_for_who_has_heard_of_it(outcome):
    state = order_gate.ended(
        order_gate.starting(STATE, ORDER, NOW), gate_state.Result("o1", "promote", outcome, "", ""), 9500
    )
    assert isinstance(
        order_gate.decide(state, ORDER, NOW), order_gate.Replay
    )  # a late copy: it echoes an instant before
    anew = ORDER._replace(echo_mono_ms=9800)
    assert order_gate.decide(state, anew, NOW) == OBEY
    assert order_gate.decide(state, anew, NOW._replace(pool_conf=host_now.MASTER)).already
    assert gate_state.decode(gate_state.encode(state)) == state


def test_a_promotion_that_is_done_is_never_done_again():
    state = order_gate.ended(
        order_gate.starting(STATE, ORDER, NOW), gate_state.Result("o1", "promote", orders.DONE, "", ""), 9500
    )
    assert isinstance(order_gate.decide(state, ORDER._replace(echo_mono_ms=9800), NOW), order_gate.Replay)


def test_another_order_whose_answer_is_unknown_is_not_done_again_under_its_id():
    state = order_gate.ended(
        order_gate.starting(STATE, REPOINT, NOW), gate_state.Result("o1", "repoint", orders.UNKNOWN, "", ""), 9500
    )
    assert isinstance(order_gate.decide(state, REPOINT._replace(echo_mono_ms=9800), NOW), order_gate.Replay)


def test_a_promotion_that_never_began_leaves_no_database_marked_as_used():
    placed = STATE._replace(placed=gate_state.Placed(7, 70, False))
    begun = order_gate.starting(placed, ORDER, NOW)
    assert begun.placed.promoted and order_gate.never_began(begun, ORDER).placed == placed.placed
