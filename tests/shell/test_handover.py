"""A database on its way from one host to another: every piece once, nothing placed that is not whole, always an end."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.events import DatabaseTransferred
from poolwarden_collector.core.model.order_results import DatabasePiece, OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import Order, PlaceDatabase, ReadDatabase
from poolwarden_collector.shell.agents import database_transfer
from poolwarden_collector.shell.agents.database_transfer import Handovers

GIVEN = HandOver("t1", "m", "s", "boot-m", "boot-s", 7, 40, 1_000, 60_000)
CONTENT = b"0123456789"


class Rig:
    """Two agents by hand: ``sent`` holds the orders, ``told`` the end."""

    def __init__(self, content: bytes = CONTENT, generation: int = 41) -> None:
        self.sent: list[Order] = []
        self.told: list[DatabaseTransferred] = []
        self.content, self.generation = content, generation
        self.placed = b""
        self.handovers = Handovers(self.sent.append, self.told.append)
        self.handovers.begin(GIVEN, 0)

    def answer(self, order: Order, at: int = 0) -> OrderOutcome:
        match order.kind:
            case ReadDatabase(offset, size, _):
                digest = hashlib.sha256(self.content).hexdigest()
                chunk = self.content[offset : offset + size]
                piece = DatabasePiece("state.db", self.generation, len(self.content), offset, chunk, digest)
                return OrderOutcome(order.order_id, "read_database", Outcome.DONE, database=piece)
            case PlaceDatabase(_, _, offset, chunk, _, _):
                assert offset <= len(self.placed)
                self.placed = self.placed[:offset] + chunk
                return OrderOutcome(order.order_id, "place_database", Outcome.DONE)
        raise AssertionError(order)

    def play(self) -> DatabaseTransferred:
        for _ in range(100):
            if self.told:
                return self.told[0]
            order = self.sent[-1]
            self.handovers.answered(order.host, self.answer(order), 0)
        raise AssertionError("no end")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_transfer, "PIECE_BYTES", 4)


def test_every_piece_goes_over_and_the_end_is_told_once() -> None:
    rig = Rig()
    end = rig.play()
    assert (end.placed, end.generation, end.size, rig.placed) == (True, 41, 10, CONTENT)
    hosts = [(order.host, order.boot_id, order.term) for order in rig.sent]
    assert hosts == [("m", "boot-m", 7), ("s", "boot-s", 7)] * 3
    rig.handovers.tick(10**9)
    assert len(rig.told) == 1


def test_what_is_not_newer_or_too_big_is_not_placed() -> None:
    older = Rig(generation=40)
    assert not older.play().placed and "not newer" in older.told[0].text and older.placed == b""
    big = Rig(content=b"x" * 2_000)
    assert not big.play().placed and "more than" in big.told[0].text and big.placed == b""


def test_a_file_that_changes_on_the_way_ends_it() -> None:
    rig = Rig()
    rig.handovers.answered("m", rig.answer(rig.sent[-1]), 0)
    rig.handovers.answered("s", rig.answer(rig.sent[-1]), 0)
    rig.generation = 42
    assert not rig.play().placed and "changed" in rig.told[0].text


def test_a_lost_answer_is_asked_for_again_under_the_same_id_and_not_for_ever() -> None:
    rig = Rig()
    rig.handovers.tick(5_000)
    assert [order.order_id for order in rig.sent] == ["t1/read/0", "t1/read/0"]
    rig.handovers.tick(10_000)
    rig.handovers.tick(15_000)
    assert not rig.told[0].placed and "no answer" in rig.told[0].text
    rig.handovers.answered("m", rig.answer(rig.sent[-1]), 16_000)
    assert rig.placed == b"" and len(rig.sent) == 3


def test_its_time_is_bounded_and_a_refusal_ends_it() -> None:
    slow = Rig()
    slow.handovers.tick(60_000)
    assert not slow.told[0].placed and "longer than 60 s" in slow.told[0].text
    refused = Rig()
    no = OrderOutcome("t1/read/0", "read_database", Outcome.REFUSED, "stale-term", "term 7 is lower than 8")
    refused.handovers.answered("m", no, 0)
    assert "term 7 is lower" in refused.told[0].text
    other = Rig()
    other.handovers.answered("s", replace(no, order_id="t1/read/0"), 0)
    assert other.told == []  # an answer of another host than the one that was asked says nothing
