"""What agents send is read for a share of each turn of the loop, in order, and the rest of it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from poolwarden_collector.shell.agents.reading_turns import SHARE, TURN_S, ReadingTurns

pytestmark = pytest.mark.asyncio
MESSAGE_S = TURN_S / 4


class Readers:
    """Readers of messages that take ``MESSAGE_S`` each, by a clock of their own; what was read, in its order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.read: list[int] = []
        self.turns = ReadingTurns(lambda: self.now_s)

    def message(self, stream: int) -> Callable[[], None]:
        def read() -> None:
            self.now_s += MESSAGE_S
            self.read.append(stream)

        return read

    def spent(self) -> None:
        """Reading has had its time: what comes now waits for the next turn."""
        self.turns._credit_s = -1.0

    def begin(self, *streams: int) -> list[asyncio.Task[None]]:
        return [
            asyncio.ensure_future(self.turns.read(stream, 1_000 + stream, self.message(stream))) for stream in streams
        ]


async def test_few_messages_are_read_as_they_come() -> None:
    readers = Readers()
    for stream in range(50):
        await readers.turns.read(stream, 1, readers.message(stream))
        readers.now_s += MESSAGE_S / SHARE
    assert readers.read == [*range(50)] and not len(readers.turns)


async def test_many_at_once_take_a_share_of_each_turn_and_their_order_stays() -> None:
    readers = Readers()
    waiting = readers.begin(*range(40))
    await asyncio.sleep(0)
    at_once = len(readers.read)
    assert 0 < at_once <= TURN_S / (1 - SHARE) / MESSAGE_S + 1
    assert readers.turns.oldest() == 1_000 + at_once and len(readers.turns) == 40 - at_once
    turns = 0
    while len(readers.turns):
        before = len(readers.read)
        await asyncio.sleep(0)
        turns += 1
        assert len(readers.read) - before <= TURN_S / MESSAGE_S + 1, "others have their turn"
    assert turns >= (40 - at_once) // (TURN_S / MESSAGE_S + 1)
    await asyncio.gather(*waiting)
    assert readers.read == [*range(40)] and readers.turns.oldest() is None


async def test_what_reading_raises_is_its_readers_and_the_others_go_on() -> None:
    readers = Readers()
    readers.spent()

    def broken() -> None:
        raise ValueError("nonsense")

    first = asyncio.ensure_future(readers.turns.read(1, 1, broken))
    second = readers.begin(2)[0]
    await second
    with pytest.raises(ValueError, match="nonsense"):
        await first
    assert readers.read == [2]


async def test_the_last_words_of_a_stream_that_ends_are_read_once() -> None:
    readers = Readers()
    readers.spent()
    one, other = readers.begin(1, 2)
    await asyncio.sleep(0)
    other.cancel()
    readers.turns.last(2)
    assert readers.read == [2], "its reader is gone, what it had to say is not"
    await one
    await asyncio.gather(other, return_exceptions=True)
    assert readers.read == [2, 1] and not len(readers.turns)


async def test_a_reader_that_was_cancelled_leaves_nothing_behind() -> None:
    readers = Readers()
    readers.spent()
    one, other = readers.begin(1, 2)
    await asyncio.sleep(0)
    one.cancel()
    await other
    assert one.cancelled() and readers.read == [2] and readers.turns.oldest() is None
