"""Each operand of the gate's conditions alone: what it lets pass, and what it stands against. Pure."""

import pytest
from tests.agent.test_boot_gate import ACTING, DEAD, ME, NOBODY, OTHER, OURS, THIRD, decide
from tests.agent.test_gate import (
    FENCE,
    HELD,
    NOW,
    ORDER,
    PIECE,
    PLACE,
    RELEASE,
    REPOINT,
    RESTART,
    STATE,
    STONE,
    STONED,
    XAPI,
    an,
    but,
    reason,
)
from tests.agent.test_serving import about

from poolwarden_agent.core import boot_gate, gate_state, host_now, order_gate, order_kinds, orders, placed_database

ANEW = host_now.Process(501, 9500)
MARKED = gate_state.Tombstone(6, "host-2", "10.0.0.2")


def begun(order, process=XAPI, **state):
    """This very order was started and has no result."""
    return STATE._replace(started={order.kind: gate_state.Started(order.order_id, process)}, **state)


def done(state, order, now):
    """Is its effect found to be there already?"""
    found = order_gate.decide(state, order, now)
    return isinstance(found, order_gate.Obey) and found.already


def test_a_repoint_is_done_where_another_process_follows_that_address():
    there = NOW._replace(process=ANEW, pool_conf_address="10.0.0.2")
    assert done(begun(REPOINT), REPOINT, there)
    assert not done(begun(REPOINT), REPOINT, there._replace(process=XAPI))
    assert not done(begun(REPOINT), REPOINT, there._replace(pool_conf=host_now.MASTER))
    assert not done(begun(REPOINT), REPOINT, there._replace(pool_conf_address="10.0.0.1"))
    assert not done(begun(STONE), STONE, there), "a tombstone writes the same, and is set again"


def test_a_restart_is_done_where_another_process_runs_and_nothing_else_is():
    assert done(begun(RESTART), RESTART, NOW._replace(process=ANEW))
    assert not done(begun(RESTART), RESTART, NOW)
    assert not done(begun(RESTART), RESTART, NOW._replace(process=host_now.NO_PROCESS))
    assert not done(begun(FENCE), FENCE, NOW._replace(process=ANEW))


def test_a_release_is_done_where_nothing_holds_it_and_xapi_runs():
    assert done(begun(RELEASE), RELEASE, NOW)
    held = begun(RELEASE)._replace(hold=HELD.hold)
    assert not done(held, RELEASE, NOW)
    assert not done(begun(FENCE), FENCE, NOW)


def test_a_database_is_in_place_where_its_last_piece_was_begun_and_that_generation_is_there():
    there = NOW._replace(restore=50)
    placed = {"placed": gate_state.Placed(7, 50, False)}
    assert done(begun(PLACE, **placed), PLACE, there)
    assert not done(begun(PLACE, **placed), PLACE, NOW._replace(restore=49))
    for piece in (PIECE._replace(remove=True), PIECE._replace(size=50)):
        order = but(PLACE, piece=piece)
        assert not done(begun(order, **placed), order, there)
    assert not done(begun(FENCE, **placed), FENCE, there)


def test_only_a_promotion_that_is_not_known_to_be_done_is_judged_anew():
    for kind, outcome in (
        ("repoint", orders.UNKNOWN),
        ("repoint", orders.FAILED),
        ("promote", orders.DONE),
    ):
        order = {"repoint": REPOINT, "promote": ORDER}[kind]
        result = gate_state.Result(order.order_id, kind, outcome, "", "")
        state = STATE._replace(results={kind: result}, unsure_ms=8000)
        assert order_gate.decide(state, order, NOW) == order_gate.Replay(result)
        again = state._replace(results={kind: result._replace(outcome=orders.UNKNOWN)})
        assert isinstance(order_gate.decide(again, order, NOW), order_gate.Obey) == (kind == "promote")


def test_a_superseded_member_may_be_restarted_and_a_superseded_master_may_not():
    assert reason(RESTART, STONED) == "Obey"
    for role in (host_now.MASTER, host_now.BROKEN, host_now.UNREADABLE):
        assert reason(but(RESTART, as_master_ok=True), STONED, NOW._replace(pool_conf=role)) == "tombstoned"


def test_a_release_that_was_cut_off_is_finished_and_one_of_nothing_is_refused():
    stopped = NOW._replace(process=host_now.NO_PROCESS, pool_conf_address="10.0.0.2")
    assert reason(RELEASE, STATE, stopped) == "Obey"
    assert reason(RELEASE, STATE, stopped._replace(process=XAPI)) == "precondition"
    assert reason(RELEASE, STATE, stopped._replace(pool_conf=host_now.MASTER)) == "precondition"
    assert reason(RELEASE, STATE, stopped._replace(pool_conf_address="10.0.0.1")) == "precondition"
    as_master = but(RELEASE, release_as=orders.AS_MASTER)._replace(term=8)
    master = NOW._replace(pool_conf=host_now.MASTER)
    assert reason(as_master, HELD, master) == "Obey"
    assert reason(as_master, HELD._replace(hold=None), master) == "precondition"
    assert reason(as_master, HELD._replace(hold=None), master._replace(process=host_now.NO_PROCESS)) == "Obey"
    for role in ("", host_now.MEMBER, host_now.BROKEN):
        assert reason(as_master, HELD, NOW._replace(pool_conf=role)) == "precondition"


def test_a_database_is_placed_by_pieces_and_not_on_a_master():
    assert reason(PLACE, now=NOW._replace(pool_conf=host_now.UNREADABLE)) == "precondition"
    assert reason(PLACE, now=NOW._replace(pool_conf=host_now.MASTER)) == "precondition"
    removal = but(PLACE, piece=PIECE._replace(remove=True))
    master = NOW._replace(pool_conf=host_now.MASTER)
    assert reason(removal) == "Obey" and reason(removal, now=master) == "precondition"
    assert reason(removal, now=master._replace(settled=True)) == "Obey"


SERVES = NOW._replace(pool_conf=host_now.MASTER, settled=True)


@pytest.mark.parametrize("kind", order_kinds.SERVING + ("locate_vms",))
def test_what_a_serving_master_alone_can_do_is_refused_elsewhere(kind):
    order = about(kind)
    assert reason(order, now=SERVES) == "Obey"
    assert reason(order, HELD, SERVES) == "held" and reason(order, STONED, SERVES) == "tombstoned"
    assert reason(order, now=SERVES._replace(settled=False)) == "precondition"
    assert reason(order, now=SERVES._replace(pool_conf=host_now.MEMBER)) == "precondition"


def test_what_an_order_to_a_serving_master_must_name():
    for kind in ("designate_master", "declare_host_dead", "enable_host", "start_vm"):
        order = about(kind)
        for named, expected in (("", "precondition"), ("x" * 201, "precondition"), ("x" * 200, "Obey")):
            assert reason(but(order, host=named), now=SERVES) == expected
        itself = reason(but(order, host=NOW.host), now=SERVES)
        assert itself == ("precondition" if kind in ("designate_master", "declare_host_dead") else "Obey")
    for vm, expected in (("", "precondition"), ("x" * 201, "precondition"), ("x" * 200, "Obey")):
        assert reason(but(about("start_vm"), vm=vm), now=SERVES) == expected
    assert reason(an("sync_database"), now=SERVES) == "Obey", "it names nothing"


def test_a_host_that_does_not_know_its_own_address_is_still_not_told_to_follow_itself():
    unknown = NOW._replace(address="")
    assert reason(REPOINT, now=unknown) == "Obey"
    assert reason(but(STONE, address=""), now=unknown) == "Obey"
    assert reason(but(STONE, successor=NOW.host), now=unknown) == "precondition"


def test_free_space_is_asked_for_by_orders_that_need_it():
    for free in (None, 0, 5):
        assert reason(ORDER, now=NOW._replace(root_free_bytes=free)) == "Obey"
        assert reason(ORDER._replace(min_root_free_bytes=6), now=NOW._replace(root_free_bytes=free)) == "precondition"


# ------------------------------------------------------------------------------------------------ what is made durable


def test_a_hold_keeps_its_beginning_in_this_boot_and_begins_anew_in_another():
    def since(state):
        return order_gate.starting(state, FENCE._replace(term=8), NOW).hold.since_ms

    assert since(HELD) == 9000 and since(STATE) == NOW.mono_ms
    assert since(HELD._replace(hold=HELD.hold._replace(boot_id="boot-0"))) == NOW.mono_ms


def test_a_placed_database_is_marked_by_its_own_orders_alone():
    placed = STATE._replace(placed=gate_state.Placed(7, 50, False))
    assert order_gate.starting(STATE, PLACE, NOW).placed == gate_state.Placed(7, 50, False)
    assert order_gate.starting(STATE, FENCE, NOW).placed is None
    assert (
        order_gate.starting(placed, but(PLACE, piece=PIECE._replace(remove=True, generation=9)), NOW).placed
        == placed.placed
    )
    assert order_gate.starting(placed, ORDER, NOW).placed.promoted
    assert not order_gate.starting(placed, REPOINT, NOW).placed.promoted
    assert not order_gate.starting(placed, ORDER._replace(term=8), NOW).placed.promoted
    assert order_gate.starting(STATE, ORDER, NOW).placed is None


def test_garbage_collection_is_held_by_a_promotion_that_says_so():
    assert order_gate.starting(STATE, but(ORDER, hold_gc=True), NOW).gc == 7
    assert order_gate.starting(STATE, ORDER, NOW).gc == 0 and order_gate.starting(STATE, REPOINT, NOW).gc == 0


PLACED, USED = (
    STATE._replace(placed=gate_state.Placed(6, 50, False)),
    STATE._replace(placed=gate_state.Placed(6, 50, True)),
)
AS_MASTER = but(RELEASE, release_as=orders.AS_MASTER)
MASTER = NOW._replace(pool_conf=host_now.MASTER)


@pytest.mark.parametrize(
    "order, now, state, removed",
    [
        (ORDER, NOW, PLACED, True),
        (ORDER._replace(term=6), NOW, PLACED, False),
        (ORDER, NOW, STATE, False),
        (REPOINT, NOW, PLACED, True),
        (RELEASE, NOW, PLACED, True),
        (RELEASE, MASTER, USED, True),
        (STONE, NOW, PLACED, True),
        (but(STONE, clear=True), NOW, PLACED, False),
        (FENCE, NOW, PLACED, False),
        (RESTART, NOW, PLACED, True),
        (RESTART, MASTER, USED, False),
        (RESTART, NOW, USED, True),
        (RESTART, MASTER, PLACED, True),
        (AS_MASTER, MASTER, USED, False),
        (AS_MASTER, NOW, USED, True),
        (AS_MASTER, MASTER, PLACED, True),
        (FENCE, MASTER, PLACED, False),
        (FENCE, MASTER, USED, False),
    ],
)
def test_when_a_placed_database_is_removed_before_an_act(order, now, state, removed):
    assert placed_database.outlived(state, order, now) is removed


def test_a_database_that_is_left_behind_is_one_that_no_promotion_used_on_a_master():
    assert placed_database.left_behind(PLACED, host_now.MASTER)
    assert not placed_database.left_behind(USED, host_now.MASTER) and not placed_database.left_behind(
        PLACED, host_now.MEMBER
    )
    assert not placed_database.left_behind(STATE, host_now.MASTER)


def test_a_promotion_that_never_began_gives_its_own_database_back_and_no_other():
    used = STATE._replace(placed=gate_state.Placed(7, 50, True))
    assert not order_gate.never_began(used, ORDER).placed.promoted
    assert order_gate.never_began(used, REPOINT).placed.promoted
    assert order_gate.never_began(used, ORDER._replace(term=8)).placed.promoted
    assert order_gate.never_began(STATE, ORDER) == STATE


# ------------------------------------------------------------------------------------------------ the boot gate


def test_who_acts_as_master_and_who_does_not():
    acts = boot_gate.Member(THIRD, boot_gate.FOLLOWS, "10.0.0.9", True, True)
    assert decide(members=(acts,)).state == boot_gate.SHUT
    mine = acts._replace(master=ME)
    assert decide(members=(mine, mine)).state == boot_gate.OPEN, "it follows this very host"
    word = boot_gate.Word("open", "nobody else", 5)
    assert decide(word=word, members=(acts,)).state == boot_gate.SHUT
    for other in (acts._replace(said=boot_gate.SILENT), acts._replace(said=boot_gate.UNTOLD), mine):
        assert decide(word=word, members=(other,)).state == boot_gate.OPEN
    assert decide(word=word, members=(acts._replace(master_acts=False),)).state == boot_gate.OPEN


def test_what_a_silent_member_once_followed_counts_for_nothing():
    old = boot_gate.Member(OTHER, boot_gate.SILENT, ME, False)
    found = decide(members=(old,), waited_ms=0)
    assert found.state == boot_gate.SHUT and "nobody answers" in found.reason
    found = decide(
        members=(OURS, old._replace(address=THIRD, master="10.0.0.9", master_answers=True)), waited_ms=300000
    )
    assert found.state == boot_gate.OPEN, "it only is silent"


def test_each_reason_to_stay_shut_is_told_as_what_it_is():
    found = decide(members=(OURS, NOBODY._replace(address=THIRD)), waited_ms=299999)
    assert found.state == boot_gate.SHUT and "has not answered yet" in found.reason
    for cut in ({"link_up": False}, {"gateway": False}):
        found = decide(members=(DEAD,), waited_ms=10**7, **cut)
        assert found.state == boot_gate.SHUT and "which does not answer" in found.reason
    mixed = decide(members=(OURS, boot_gate.Member(THIRD, boot_gate.FOLLOWS, OTHER, True)))
    assert mixed.state == boot_gate.SHUT and "and %s follows this host" % OTHER in mixed.reason
    found = decide(members=(OURS._replace(master_answers=True),))
    assert found.state == boot_gate.OPEN, "that this host answers is no other master"


def test_a_boot_of_which_nothing_is_known_is_not_the_one_in_which_it_was_promoted():
    assert decide(promoted_in="", boot_id="").state != boot_gate.UNGATED


def test_a_member_and_a_host_with_a_broken_pool_conf_are_told_apart():
    assert "booted as a member" in decide(pool_conf=host_now.MEMBER).reason
    assert "does not make it master" in decide(pool_conf=host_now.BROKEN).reason


def test_a_tombstone_names_whoever_is_known_to_have_superseded_it():
    def said(stone):
        return decide(gate_state.EMPTY._replace(tombstone=stone)).reason

    assert said(MARKED).endswith("by 10.0.0.2") and said(MARKED._replace(address="")).endswith("by host-2")
    assert said(gate_state.Tombstone(6, "", "")).endswith("by another host")


def test_an_acting_one_is_told_before_all_else():
    assert "acts as master" in decide(members=(OURS, ACTING), link_up=False).reason
