"""All that gRPC has is taken in one turn of the loop, also after a turn that was long."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden_collector.shell.serving_loop import ServingLoop

CALLS = 1_000  # more events than gRPC's pair of sockets holds bytes


class Held(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """A server whose calls write a message and stay."""

    def service(self, _: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(self.attach)

    async def attach(self, _: object, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)


async def _turns_until_answered(path: Path) -> int:
    """How many turns of the loop it takes until each of many streams has its answer, all asked in one long turn."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Held(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        calls = [channel.stream_stream("/a/b")() for _ in range(CALLS)]
        await asyncio.gather(*(call.write(b"first") for call in calls))
        await asyncio.gather(*(call.read() for call in calls))
        asked = [asyncio.ensure_future(call.write(b"second")) for call in calls]
        answered = asyncio.gather(*(call.read() for call in calls))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251  # the long turn: answers come meanwhile
        turns = 0
        while not answered.done():
            await asyncio.sleep(0)
            time.sleep(0.001)  # noqa: ASYNC251  # others have something to do in each turn
            turns += 1
        await asyncio.gather(*asked)
        for call in calls:
            call.cancel()
    await server.stop(0)
    return turns


@pytest.mark.slow
def test_a_loop_that_was_late_gets_all_events_in_few_turns(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=ServingLoop) as runner:
        assert runner.run(_turns_until_answered(tmp_path / "s")) < CALLS / 4
