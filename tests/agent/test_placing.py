"""Placed databases: for one promotion at one term, and removed before they could roll a pool back."""

import contextlib
import hashlib

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate_state, host_now, kind_rules, orders
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import Act

from .fake_port import KINDS, FakePort, Killed, obey, order
from .test_gate import NOW, PIECE, PLACE, STATE, but, reason

SUM = hashlib.sha256(b"abcdef").hexdigest()
REMOVE = {"place_database": pb.PlaceDatabase(remove=True)}
MARKED = STATE._replace(placed=gate_state.Placed(7, 50, False))


def outcome(result):
    return pb.OrderResult.Outcome.Name(result.outcome), result.reason


def piece(offset=0, chunk=b"abcdef", generation=50):
    body = pb.PlaceDatabase(generation=generation, total_bytes=6, offset=offset, chunk=chunk, sha256=SUM)
    return {"place_database": body}


def placed(term=1):
    port = FakePort()
    assert outcome(obey(HostSide(port), order(port, "p", fields={"term": term}, **piece()))) == ("DONE", "")
    assert port.restore == 50
    port.acts, port.points = [], []
    return port


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, "Obey"),
        ({"generation": 0}, "precondition"),
        ({"generation": 1 << 62}, "precondition"),
        ({"total_bytes": 0, "size": 0}, "precondition"),
        ({"size": 0}, "precondition"),
        ({"size": 101}, "precondition"),
        ({"total_bytes": 256 << 20, "size": 1 << 20}, "Obey"),
        ({"total_bytes": (256 << 20) + 1, "size": 1 << 20}, "precondition"),
        ({"total_bytes": 256 << 20, "size": (1 << 20) + 1}, "precondition"),
        ({"sha256": "A" * 64}, "precondition"),
        ({"sha256": "a" * 63}, "precondition"),
        ({"offset": 50, "size": 50}, "precondition"),  # its first piece has not come
    ],
)
def test_only_a_sound_piece_is_placed(change, expected):
    assert reason(but(PLACE, piece=PIECE._replace(**change))) == expected


def test_a_later_piece_belongs_to_the_first_ones_term_and_generation():
    later = but(PLACE, piece=PIECE._replace(offset=50, size=50))
    assert reason(later, MARKED) == "Obey"
    assert reason(later._replace(term=8), MARKED) == "precondition"
    assert reason(but(later, piece=later.body.piece._replace(generation=51)), MARKED) == "precondition"
    assert reason(later, MARKED._replace(placed=gate_state.Placed(7, 50, True))) == "precondition"


@pytest.mark.parametrize("role", [host_now.MASTER, host_now.UNREADABLE])
def test_nothing_is_placed_on_a_master(role):
    assert reason(PLACE, now=NOW._replace(pool_conf=role)) == "precondition"


@pytest.mark.parametrize("free, expected", [(None, "precondition"), (100, "precondition"), (10**9, "Obey")])
def test_there_must_be_room_for_it_and_for_what_xapi_flushes(free, expected):
    assert reason(PLACE, now=NOW._replace(root_free_bytes=free)) == expected
    least = 100 + kind_rules.SPARE_BYTES
    assert reason(PLACE, now=NOW._replace(root_free_bytes=least)) == "Obey"
    assert reason(PLACE, now=NOW._replace(root_free_bytes=least - 1)) == "precondition"


def test_somebody_elses_file_is_neither_replaced_nor_removed():
    assert reason(PLACE, now=NOW._replace(restore=12)) == "precondition"
    assert reason(PLACE, MARKED, NOW._replace(restore=12)) == "Obey", "its own, of an earlier attempt"
    port = FakePort()
    port.restore = 12
    assert outcome(obey(HostSide(port), order(port, **REMOVE))) == ("DONE", "")
    assert port.restore == 12 and port.acts == []


@pytest.mark.parametrize(
    "role, settled, expected",
    [
        (host_now.MEMBER, True, "Obey"),
        (host_now.MASTER, True, "Obey"),
        (host_now.MASTER, False, "precondition"),
        ("", True, "precondition"),
    ],
)
def test_what_a_promotion_is_about_to_load_is_not_removed(role, settled, expected):
    remove = but(PLACE, piece=Piece(0, 0, 0, 0, "", True))
    assert reason(remove, MARKED, NOW._replace(pool_conf=role, settled=settled)) == expected


def test_the_mark_is_durable_before_the_first_byte():
    port = FakePort()
    port.die_at = 2
    with pytest.raises(Killed):
        obey(HostSide(port), order(port, fields={"term": 3}, **piece(chunk=b"abc")))
    assert port.acts == [] and gate_state.decode(port.saved).placed == gate_state.Placed(3, 50, False)


def test_pieces_make_the_whole_and_each_may_be_cut_off():
    messages = [piece(0, b"abc"), piece(3, b"def")]
    for number in (0, 1):
        for die_at in range(6):
            port = FakePort()
            for index, body in enumerate(messages):
                message = order(port, "p%d" % index, **body)
                port.die_at = len(port.points) + die_at if index == number else None
                with contextlib.suppress(Killed):
                    obey(HostSide(port), message)
                port.die_at = None
                result = obey(HostSide(port), message)
                assert outcome(result) == ("DONE", ""), (number, die_at, result)
            assert port.restore == 50 and gate_state.decode(port.saved).placed == gate_state.Placed(1, 50, False)


def test_remove_deletes_it_and_may_come_twice():
    port = placed()
    side = HostSide(port)
    for number in (1, 2):
        assert outcome(obey(side, order(port, "r%d" % number, **REMOVE))) == ("DONE", "")
    assert port.restore is None and port.acts == ["remove"] and side.executor.state.placed is None


def test_a_remove_that_fails_is_remembered():
    port = placed()
    port.act_result, port.act_works = Act(orders.FAILED, "read-only"), False
    result = obey(HostSide(port), order(port, "r", **REMOVE))
    assert outcome(result) == ("FAILED", "storage") and gate_state.decode(port.saved).placed is not None


def test_the_promotion_at_its_own_term_loads_it():
    port = placed(term=3)
    assert outcome(obey(HostSide(port), order(port, "o2", fields={"term": 3}, **KINDS["promote"]))) == ("DONE", "")
    assert port.restore == 50 and port.acts == ["promote"]
    restart = {"restart_xapi": pb.RestartXapi(as_master_ok=True)}
    obey(HostSide(port), order(port, "o3", fields={"term": 4}, **restart))
    assert port.restore == 50, "promoted with it: until xapi has started as master it is the pool's newest"


@pytest.mark.parametrize(
    "kind, conf",
    [
        ("promote", (host_now.MEMBER, "10.0.0.1")),
        ("repoint", (host_now.MEMBER, "10.0.0.1")),
        ("restart", (host_now.MEMBER, "10.0.0.1")),
        ("tombstone", (host_now.MEMBER, "10.0.0.1")),
    ],
)
def test_at_another_term_it_is_removed_before_the_act(kind, conf):
    port = placed(term=3)
    port.conf = conf
    assert outcome(obey(HostSide(port), order(port, "o2", fields={"term": 4}, **KINDS[kind]))) == ("DONE", "")
    assert port.restore is None and port.acts[0] == "remove"
    assert gate_state.decode(port.saved).placed is None


def test_a_host_that_became_master_without_it_does_not_load_it_at_a_restart():
    """An operator designated it after the failover had been given up."""
    port = placed(term=3)
    port.conf = (host_now.MASTER, "")
    restart = {"restart_xapi": pb.RestartXapi(as_master_ok=True)}
    assert outcome(obey(HostSide(port), order(port, "o2", fields={"term": 4}, **restart))) == ("DONE", "")
    assert port.acts == ["remove", "restart"] and port.restore is None


def test_if_it_cannot_be_removed_nothing_is_started():
    port = placed(term=3)
    port.act_result, port.act_works = Act(orders.FAILED, "read-only"), False
    result = obey(HostSide(port), order(port, "o2", fields={"term": 4}, **KINDS["promote"]))
    assert result.outcome == pb.OrderResult.FAILED and "read-only" in result.text and port.acts == ["remove"]


def test_a_host_designated_master_meanwhile_does_not_load_it_at_its_restart():
    """xapi wrote pool.conf and starts anew ten seconds later; the agent sees it first."""
    port = placed(term=3)
    side = HostSide(port)
    assert side.executor.tidy() == "" and port.restore == 50, "still a member: the promotion may come"
    port.conf = (host_now.MASTER, "")
    assert "left behind" in side.executor.tidy() and port.restore is None
    assert side.executor.state.placed is None and side.executor.tidy() == "" and port.acts == ["remove"]


def test_what_cannot_be_removed_is_tried_again():
    port = placed(term=3)
    port.conf = (host_now.MASTER, "")
    side = HostSide(port)
    port.act_result, port.act_works = Act(orders.FAILED, "read-only"), False
    assert "read-only" in side.executor.tidy() and side.executor.state.placed is not None
    port.act_result, port.act_works = Act(orders.DONE, "gone"), True
    assert "gone" in side.executor.tidy() and port.restore is None


def test_a_promotion_that_was_begun_keeps_its_database():
    for die_at in range(6):
        port = placed(term=3)
        port.die_at = die_at
        with contextlib.suppress(Killed):
            obey(HostSide(port), order(port, "o2", fields={"term": 3}, **KINDS["promote"]))
        port.die_at = None
        HostSide(port).executor.tidy()
        assert port.restore == 50, die_at


def test_a_database_is_read_in_pieces():
    port = FakePort()
    side = HostSide(port)
    read = [
        obey(side, order(port, "r%d" % offset, read_database=pb.ReadDatabase(max_bytes=1000, offset=offset)))
        for offset in (0, 1000, 2000, 2500)
    ]
    assert b"".join(answer.database.chunk for answer in read) == port.content
    assert {(a.database.path, a.database.generation, a.database.total_bytes) for a in read} == {
        ("var/lib/xcp/state.db", 42, 2500)
    }
    assert read[-1].database.chunk == b"" and read[-1].outcome == pb.OrderResult.DONE
    strange = obey(side, order(port, "x", read_database=pb.ReadDatabase(path="etc/shadow")))
    assert outcome(strange) == ("REFUSED", "precondition") and not strange.database.chunk
