"""Limits of time of which only what this process had time to read in counts."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest

from poolwarden_collector.shell.agents import patience, port
from poolwarden_collector.shell.agents.budgets import MOST_HOSTS
from poolwarden_collector.shell.config.config import load

from .rig import write_config

pytestmark = pytest.mark.asyncio
LIMIT_S = 0.1


async def test_what_has_arrived_while_the_loop_was_held_up_is_read_before_anybody_is_late() -> None:
    mine, other = socket.socketpair()
    with mine, other:
        reader, writer = await asyncio.open_connection(sock=mine)
        waiting = asyncio.ensure_future(patience.within(LIMIT_S, _two_turns(reader)))
        await asyncio.sleep(0)
        other.sendall(b"hello")
        time.sleep(3 * LIMIT_S)  # noqa: ASYNC251  # the loop is held up for longer than the limit
        assert await waiting == b"hello"
        writer.close()


async def _two_turns(reader: asyncio.StreamReader) -> bytes:
    """As a message comes out of gRPC: not in the turn in which it has arrived."""
    said = await reader.readexactly(5)
    for _ in range(3):
        await asyncio.sleep(0)
    return said


async def test_who_says_nothing_is_late_and_what_is_raised_is_raised() -> None:
    silent = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        await patience.within(0.01, silent)
    assert silent.cancelled()
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(OSError(os.EX_IOERR))
    with pytest.raises(OSError):
        await patience.within(LIMIT_S, failed)


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    silent = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(patience.within(60.0, silent))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    await asyncio.sleep(0)
    assert waiting.cancelled() and silent.cancelled()


@pytest.mark.slow
async def test_a_loop_that_was_held_up_has_turns_before_what_comes_after_a_limit() -> None:
    turns: list[str] = []
    over = asyncio.Event()
    patience.after(LIMIT_S, over.set)
    time.sleep(3 * LIMIT_S)  # noqa: ASYNC251
    asyncio.get_running_loop().call_later(LIMIT_S / 2, turns.append, "what was late itself")
    await over.wait()
    assert turns


async def test_a_herd_that_waits_to_be_taken_keeps_its_places(tmp_path: object) -> None:
    options = dict(port.options(load(write_config(tmp_path, ""))))  # type: ignore[arg-type]
    assert options["grpc.server_max_unrequested_time_in_server"] >= 600
    most = options["grpc.server.max_pending_requests"]
    assert most == options["grpc.server.max_pending_requests_hard_limit"] == MOST_HOSTS >= 10_000
