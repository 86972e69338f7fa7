"""Time limits towards agents that count only the time in which this process could have read what they sent.

A limit is a number of waits that follow each other, and each is one turn of the loop at least. However long the loop
or the whole process was held up, that is one wait, and what has arrived meanwhile is read before the next one: who is
cut because the collector is late connects anew, and a TLS handshake more makes it later still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

WAITS = 10
_Result = TypeVar("_Result")


async def within(limit_s: float, what: Awaitable[_Result]) -> _Result:
    """What it results in. Raises TimeoutError, and what it raises; it is cancelled when this one is."""
    task = asyncio.ensure_future(what)
    try:
        for _ in range(WAITS):
            done, _ = await asyncio.wait((task,), timeout=limit_s / WAITS)
            if done:
                return task.result()
        task.cancel()
        await asyncio.wait((task,))
        raise TimeoutError
    finally:
        task.cancel()


def after(limit_s: float, call: Callable[[], object], waits: int = WAITS) -> None:
    """Call it when the limit has passed."""
    if waits:
        asyncio.get_running_loop().call_later(limit_s / WAITS, after, limit_s, call, waits - 1)
    else:
        call()
