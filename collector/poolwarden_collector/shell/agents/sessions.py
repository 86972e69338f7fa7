"""The open streams: one per host, each with a bounded queue of messages to send.

A newer stream of the same host replaces the older one. A queue that is full ends its stream: an agent that does not
read is as good as gone, and holding back an order for it would only let it expire.
"""

from __future__ import annotations

import asyncio
from collections import deque

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.agents.stream import StreamState

QUEUE_LIMIT = 256


class Session:
    """One agent's stream."""

    def __init__(self, host: HostId, pool: PoolId, state: StreamState) -> None:
        self.host = host
        self.pool = pool
        self.state = state
        self.closing: str | None = None
        self.implausible = False  # it ends because of what its host claims
        self._queue: deque[pb.CollectorMessage] = deque()
        self._wake = asyncio.Event()

    def send(self, message: pb.CollectorMessage) -> None:
        """Queue a message; never waits."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.close("the agent does not read what it is sent")
            return
        self._queue.append(message)
        self._wake.set()

    def close(self, why: str) -> None:
        """End the stream; ``why`` is empty where the agent has ended it itself. The first reason stands."""
        if self.closing is None:
            self.closing = why
        self._wake.set()

    async def next(self) -> pb.CollectorMessage | None:
        """The next message to send; ``None`` once the stream is to end."""
        while self.closing is None:
            if self._queue:
                return self._queue.popleft()
            self._wake.clear()
            await self._wake.wait()
        return None


class Sessions:
    """Every open stream, by host."""

    def __init__(self) -> None:
        self._open: dict[HostId, Session] = {}
        self._streams = 0

    def next_number(self) -> int:
        """A stream number, higher than every one before in this run."""
        self._streams += 1
        return self._streams

    def add(self, session: Session) -> None:
        """From now on this is the host's stream."""
        older = self._open.get(session.host)
        self._open[session.host] = session
        if older is not None:
            older.close("replaced by a newer stream of the same host")

    def remove(self, session: Session) -> None:
        if self._open.get(session.host) is session:
            del self._open[session.host]

    def of(self, host: HostId) -> Session | None:
        return self._open.get(host)

    def close_all(self, why: str) -> None:
        for session in list(self._open.values()):
            session.close(why)

    def __len__(self) -> int:
        return len(self._open)
