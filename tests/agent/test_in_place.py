"""A database for the restart of a held master: placed only under the hold, loaded only by the release that names it."""

import contextlib

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate_state, host_now, order_gate, orders, placed_database
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import Act

from .fake_port import KINDS, FakePort, Killed, obey, order
from .test_gate import FENCE, HELD, NOW, PIECE, PLACE, RELEASE, STATE, but, reason
from .test_placing import SUM
from .test_toolstack import outcome

STOPPED = NOW._replace(pool_conf=host_now.MASTER, pool_conf_address="", process=host_now.NO_PROCESS)
ON_HELD = but(PLACE, piece=PIECE._replace(held_master=True))
LIES = HELD._replace(placed=gate_state.Placed(7, 50, False))
REMOVE = {"place_database": pb.PlaceDatabase(remove=True)}
AS_MASTER = but(RELEASE, release_as=orders.AS_MASTER, address="")._replace(term=8)
THERE = STOPPED._replace(restore=50)


def piece(held=True):
    body = pb.PlaceDatabase(generation=50, total_bytes=6, chunk=b"abcdef", sha256=SUM, held_master=held)
    return {"place_database": body}


def start(generation=50):
    as_ = pb.ToolstackRelease.AS_MASTER
    return {"toolstack_release": pb.ToolstackRelease(release_as=as_, restore_generation=generation)}


def held():
    """A master that is held at term 1, its xapi gone."""
    port = FakePort()
    port.conf = (host_now.MASTER, "")
    assert outcome(obey(HostSide(port), order(port, "hold", **KINDS["stop"])))[0] in ("DONE", "FAILED")
    port.xapi, port.settled, port.ports_open = host_now.NO_PROCESS, False, False
    port.acts, port.points = [], []
    return port


def placed():
    port = held()
    assert outcome(obey(HostSide(port), order(port, "p", **piece()))) == ("DONE", "")
    assert port.restore == 50
    port.acts, port.points = [], []
    return port


@pytest.mark.parametrize(
    "state, now, expected",
    [
        (HELD, STOPPED, "Obey"),
        (STATE, STOPPED, "precondition"),  # nothing holds it
        (HELD, STOPPED._replace(process=host_now.Process(5, 5)), "precondition"),
        (HELD._replace(hold=gate_state.Hold(6, NOW.boot_id, 9000, "")), STOPPED, "precondition"),
        (HELD._replace(hold=gate_state.Hold(7, "another boot", 9000, "")), STOPPED, "precondition"),
        (HELD, STOPPED._replace(pool_conf=host_now.MEMBER), "precondition"),
        (HELD, STOPPED._replace(pool_conf=host_now.UNREADABLE), "precondition"),
        (HELD, STOPPED._replace(ha_armed=True), "ha-armed"),
        (HELD, STOPPED._replace(ha_armed=None), "ha-armed"),
        (HELD._replace(tombstone=gate_state.Tombstone(6, "x", "")), STOPPED, "tombstoned"),
        (HELD, STOPPED._replace(restore=12), "precondition"),  # somebody else's
    ],
)
def test_a_master_is_given_a_database_only_while_it_is_held_stopped_at_that_term(state, now, expected):
    assert reason(ON_HELD, state, now) == expected


@pytest.mark.parametrize(
    "state, now, restore, expected",
    [
        (LIES, THERE, 50, "Obey"),
        (LIES, THERE, 0, "Obey"),  # with its own file: what lies there is removed
        (LIES, THERE, 51, "precondition"),
        (LIES, STOPPED, 50, "precondition"),  # it is gone
        (LIES, STOPPED._replace(restore=49), 50, "precondition"),
        (HELD, THERE, 50, "precondition"),  # somebody else's
        (
            LIES._replace(placed=gate_state.Placed(6, 50, False)),
            THERE,
            50,
            "precondition",
        ),  # not placed under this hold
        (
            LIES._replace(hold=None, placed=gate_state.Placed(7, 50, True)),
            STOPPED,
            50,
            "Obey",
        ),  # cut off before the start
    ],
)
def test_xapi_starts_with_it_only_by_a_release_that_names_it(state, now, restore, expected):
    assert reason(but(AS_MASTER, restore=restore), state, now) == expected


def test_the_release_that_names_it_keeps_it_and_another_one_removes_it():
    port = placed()
    assert outcome(obey(HostSide(port), order(port, "s", fields={"term": 2}, **start()))) == ("DONE", "")
    assert port.restore == 50 and "remove" not in port.acts
    assert HostSide(port).executor.tidy() == "" and port.restore == 50, "until xapi has loaded it"
    port = placed()
    assert outcome(obey(HostSide(port), order(port, "s", fields={"term": 2}, **start(0)))) == ("DONE", "")
    assert port.restore is None and port.acts[0] == "remove"
    port = placed()
    member = pb.ToolstackRelease(release_as=pb.ToolstackRelease.AS_MEMBER, master_address="10.0.0.2")
    result = obey(HostSide(port), order(port, "s", fields={"term": 2}, toolstack_release=member))
    assert outcome(result) == ("DONE", "") and port.restore is None


def test_while_it_is_held_it_is_not_left_behind_and_may_be_removed():
    port = placed()
    side = HostSide(port)
    assert side.executor.tidy() == "" and port.restore == 50
    assert outcome(obey(side, order(port, "r", **REMOVE))) == ("DONE", "")
    assert port.restore is None and side.executor.state.placed is None
    assert outcome(obey(side, order(port, "r2", **REMOVE))) == ("DONE", ""), "nothing lies there, and nothing starts"


def test_an_operator_on_the_host_starts_it_with_its_own_file():
    port = placed()
    side = HostSide(port)
    assert side.executor.release_hold().outcome == orders.DONE
    assert port.restore is None and side.executor.state.hold is None and side.executor.state.placed is None
    assert port.acts[0] == "remove"


def test_what_cannot_be_removed_is_not_started():
    port = placed()
    side = HostSide(port)
    port.act_result, port.act_works = Act(orders.FAILED, "read-only"), False
    assert side.executor.release_hold().outcome == orders.FAILED and side.executor.state.hold is not None
    result = obey(side, order(port, "s", fields={"term": 2}, **start(0)))
    assert (
        result.outcome == pb.OrderResult.FAILED
        and side.executor.state.hold is not None
        and port.acts == ["remove", "remove"]
    )


def test_a_later_hold_makes_it_left_behind():
    port = placed()
    side = HostSide(port)
    obey(side, order(port, "hold-2", fields={"term": 2}, **KINDS["stop"]))
    assert side.executor.state.hold.term == 2 and not placed_database.under_hold(side.executor.state)
    assert "left behind" in side.executor.tidy() and port.restore is None


def test_the_start_may_be_cut_off_anywhere_and_comes_again():
    for die_at in range(12):
        port = placed()
        message = order(port, "s", fields={"term": 2}, **start())
        port.die_at = die_at
        with contextlib.suppress(Killed):
            obey(HostSide(port), message)
        port.die_at = None
        side = HostSide(port)
        side.executor.tidy()
        assert port.restore == 50, die_at
        assert outcome(obey(side, message)) == ("DONE", ""), die_at
        assert port.restore == 50 and side.executor.state.hold is None and port.xapi != host_now.NO_PROCESS, die_at


def test_a_start_that_was_cut_off_and_given_up_removes_it():
    """Begun, and the collector has given it up meanwhile: its release at a newer term is with the host's own file."""
    for die_at in range(4):
        port = placed()
        port.die_at = die_at
        with contextlib.suppress(Killed):
            obey(HostSide(port), order(port, "s", fields={"term": 2}, **start()))
        port.die_at = None
        side = HostSide(port)
        if side.executor.state.hold is None:
            continue
        assert outcome(obey(side, order(port, "own", fields={"term": 3}, **start(0)))) == ("DONE", ""), die_at
        assert port.restore is None, die_at


NAMED = but(AS_MASTER, restore=50)


@pytest.mark.parametrize(
    "state, release, kept",
    [
        (LIES, NAMED, True),
        (LIES, AS_MASTER, False),
        (LIES, but(NAMED, restore=51), False),
        (LIES, but(NAMED, release_as=orders.AS_MEMBER), False),
        (LIES._replace(hold=None), NAMED, False),
        (LIES._replace(placed=gate_state.Placed(6, 50, False)), NAMED, False),
        (HELD, NAMED, False),
    ],
)
def test_only_the_release_that_names_it_keeps_and_marks_what_is_placed_under_the_hold(state, release, kept):
    assert placed_database.keeps(state, release.body) is kept
    marked = order_gate.starting(state, release, THERE).placed
    assert (marked is not None and marked.promoted) is kept


def test_a_fence_of_a_later_term_ends_the_mark_of_what_an_earlier_hold_had_placed():
    fence = FENCE._replace(term=7)
    marked = LIES._replace(placed=gate_state.Placed(7, 50, True))
    assert order_gate.starting(marked, fence, STOPPED).placed.promoted
    assert not order_gate.starting(marked, fence._replace(term=8), STOPPED).placed.promoted


@pytest.mark.parametrize("placed, expected", [(None, "Obey"), (7, "Obey"), (5, "precondition")])
def test_what_another_promotion_has_placed_is_not_removed_under_a_hold(placed, expected):
    """It may be what that promotion's xapi has still to start with: the pool's newest database."""
    state = HELD._replace(placed=gate_state.Placed(placed, 50, True) if placed else None)
    remove = but(PLACE, piece=PIECE._replace(remove=True))
    assert reason(remove, state, STOPPED._replace(settled=False)) == expected


def test_what_keeps_xapi_down_is_removed_by_its_number_under_a_hold_of_a_later_term():
    """Whoever names it has seen xapi's starts on it fail; another number, or the same term, names nothing."""
    state = HELD._replace(placed=gate_state.Placed(5, 50, True))
    now = STOPPED._replace(settled=False)
    named = but(PLACE, piece=PIECE._replace(remove=True, held_master=True, generation=50))
    assert reason(named, state, now) == "Obey"
    assert reason(but(named, piece=named.body.piece._replace(generation=49)), state, now) == "precondition"
    assert reason(but(named, piece=named.body.piece._replace(held_master=False)), state, now) == "precondition"
    later = state._replace(placed=gate_state.Placed(HELD.hold.term + 1, 50, True))
    assert reason(named, later, now) == "precondition"


def test_a_piece_that_was_let_pass_is_not_placed_once_an_operator_has_released_the_host():
    """Its xapi starts at that moment: it would load the file, or keep it for a later start that it rolls back."""
    port = held()
    side = HostSide(port)
    decide = side.executor._decide

    def then_released(order):
        decided = decide(order)
        assert side.executor.release_hold().outcome == order_gate.DONE
        return decided

    side.executor._decide = then_released
    result = obey(side, order(port, "p", **piece()))
    assert outcome(result)[0] == "FAILED" and "removed meanwhile" in result.text
    assert port.restore is None and side.executor.state.placed is None


def test_an_operator_on_the_host_starts_it_with_its_own_file_also_under_a_later_hold():
    """The file of an earlier hold is left behind and removed at the next look; he may be faster."""
    port = placed()
    side = HostSide(port)
    obey(side, order(port, "hold-2", fields={"term": 2}, **KINDS["stop"]))
    assert side.executor.release_hold().outcome == order_gate.DONE
    assert (
        port.restore is None
        and side.executor.state.placed is None
        and port.acts.index("remove") < port.acts.index("start")
    )


def cut_off_before_its_start():
    """It was released with the copy, and lost its power before xapi could load it."""
    port = placed()
    port.act_works = False
    obey(HostSide(port), order(port, "s", fields={"term": 2}, **start()))
    port.act_works, port.acts = True, []
    side = HostSide(port)
    assert side.executor.state.hold is None and side.executor.state.placed.promoted and port.restore == 50
    return port, side


def test_whoever_makes_it_a_member_on_the_host_removes_what_it_was_to_start_with():
    port, side = cut_off_before_its_start()
    assert side.executor.follow("10.0.0.2").outcome == order_gate.DONE
    assert port.restore is None and port.acts[0] == "remove" and port.conf == (order_gate.MEMBER, "10.0.0.2")
    port, side = cut_off_before_its_start()
    port.act_result, port.act_works = Act(order_gate.FAILED, "read-only"), False
    assert side.executor.follow("10.0.0.2").outcome == order_gate.FAILED and port.conf == (order_gate.MASTER, "")


def test_the_mark_ends_with_the_file_that_xapi_has_loaded():
    port, side = cut_off_before_its_start()
    assert side.executor.tidy() == "" and side.executor.state.placed is not None, "it is still to be loaded"
    port.restore = None
    assert side.executor.tidy() == "" and side.executor.state.placed is None and port.acts == []
    port.restore = 70  # an operator's xe pool-restore-database
    obey(side, order(port, "hold-2", fields={"term": 3}, **KINDS["stop"]))
    port.xapi, port.settled = order_gate.NO_PROCESS, False
    result = obey(side, order(port, "p2", fields={"term": 3}, **piece()))
    assert outcome(result) == ("REFUSED", "precondition") and "somebody else" in result.text
    assert side.executor.release_hold().outcome == order_gate.DONE and port.restore == 70


UNDER, BEFORE, LET_START = (
    gate_state.Placed(7, 50, False),
    gate_state.Placed(6, 50, True),
    gate_state.Placed(7, 50, True),
)


@pytest.mark.parametrize(
    "hold, placed, restore, loaded, for_no_start",
    [
        (None, None, None, False, False),
        (None, UNDER, None, False, True),  # its mark is durable before its first byte
        (None, BEFORE, None, True, False),
        (None, BEFORE, 50, False, False),
        (HELD.hold, BEFORE, 50, False, False),  # a start was ordered with it, before this hold
        (HELD.hold, LET_START, 50, False, True),
    ],
)
def test_when_a_mark_ends_with_its_file_and_which_file_no_start_was_ordered_with(
    hold, placed, restore, loaded, for_no_start
):
    state = HELD._replace(hold=hold, placed=placed)
    assert placed_database.loaded(state, restore) is loaded
    assert placed_database.for_no_start(state) is for_no_start
