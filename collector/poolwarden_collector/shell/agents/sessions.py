"""The open streams: one per host, each with a bounded queue of messages to send.

A newer stream of the same host replaces the older one, once its host side has answered a nonce: until then what it
says is kept back, and the older one goes on as if nobody had come. So whoever merely connects with a copied certificate
mutes nobody. Where the older one ends meanwhile, the newer one takes its place at once.

A queue that is full ends its stream: an agent that does not read is as good as gone, and holding back an order for it
would only let it expire.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import grpc

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.events import AgentReported
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.agents import patience
from poolwarden_collector.shell.agents.budgets import Account
from poolwarden_collector.shell.agents.elsewhere import CAPABILITY, FOLLOWS_WITHIN_S, Elsewhere
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_collector.shell.enrolment.identity import Identity

QUEUE_LIMIT = 256
MOST_WAITING = 4  # streams of a host that have not answered yet
MOST_KEPT_BACK = 64  # messages of such a stream


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that is kept back, and when it arrived, on both of our clocks."""

    message: pb.AgentMessage
    recv_ms: Ms
    wall_ms: int


Seal = Callable[[pb.CollectorMessage], pb.CollectorMessage]


class Session:
    """One agent's stream. ``nonce``: it is asked for that before it replaces the stream that is there; "": none is."""

    def __init__(self, host: HostId, pool: PoolId, state: StreamState, seal: Seal = lambda message: message) -> None:
        """``seal`` makes of each message what goes out on the wire (signing.py)."""
        self._seal = seal
        self.host = host
        self.pool = pool
        self.state = state
        self.closing: str | None = None
        # Its pool is another collector's. safety: nothing is heard on it any more, also where the pool is owned here
        # again before it has ended.
        self.sent_on = False
        self.over = asyncio.Event()  # it is closed
        self.code: grpc.StatusCode = grpc.StatusCode.ABORTED  # that it ends with
        self.nonce = ""
        self.kept: list[Kept] = []
        self.account: Account | None = None  # None: a test's own
        self.reported_at: Ms | None = None  # when a report was handed on last
        self.folded: AgentReported | None = None  # the newest report, which is handed on soon
        self.identity: Identity | None = None  # by the certificate that it came with
        self.renewal: asyncio.Future[None] | None = None  # of that certificate, under way or done
        self._queue: deque[pb.CollectorMessage] = deque()
        self._wake = asyncio.Event()

    @property
    def serial(self) -> str:
        """Of the certificate that it came with; empty: not known."""
        return self.identity.serial if self.identity is not None else ""

    def send(self, message: pb.CollectorMessage) -> None:
        """Queue a message; never waits."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.close("the agent does not read what it is sent")
            return
        self._queue.append(self._seal(message))
        self._wake.set()

    def close(self, why: str, code: grpc.StatusCode = grpc.StatusCode.ABORTED) -> None:
        """End the stream; ``why`` is empty where the agent has ended it itself. The first reason stands."""
        if self.closing is None:
            self.closing, self.code = why, code
        self.over.set()
        self._wake.set()

    def is_answer(self, message: pb.AgentMessage, boot: str) -> bool:
        """Does its host side answer the nonce with this, of the boot that said Hello?"""
        said = message.challenge_answer
        return message.WhichOneof("body") == "challenge_answer" and (said.nonce, said.boot_id) == (self.nonce, boot)

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
        self._waiting: dict[HostId, list[Session]] = {}
        self._pools: Counter[PoolId] = Counter()  # how many of the open ones are of each
        self._streams = 0

    def next_number(self) -> int:
        """A stream number, higher than every one before in this run."""
        self._streams += 1
        return self._streams

    def wait(self, session: Session) -> bool:
        """Ask it for a nonce before it replaces the stream that is there; false: too many of this host wait already."""
        waiting = self._waiting.setdefault(session.host, [])
        if len(waiting) >= MOST_WAITING:
            return False
        session.nonce = secrets.token_hex(16)
        waiting.append(session)
        return True

    def add(self, session: Session) -> None:
        """From now on this is the host's stream."""
        self._wait_no_more(session)
        session.nonce = ""
        older = self._open.get(session.host)
        self._open[session.host] = session
        self._pools[session.pool] += 1
        if older is not None:
            self._left(older.pool)
            older.close("replaced by a newer stream of the same host")

    def remove(self, session: Session) -> Session | None:
        """It has ended; the newest stream that waits to take its place."""
        self._wait_no_more(session)
        if self._open.get(session.host) is not session:
            return None
        del self._open[session.host]
        self._left(session.pool)
        able = [each for each in self._waiting.get(session.host, ()) if each.closing is None and not each.sent_on]
        return able[-1] if able else None

    def has_pool(self, pool: PoolId) -> bool:
        """Has a host of this pool an open stream?"""
        return pool in self._pools

    def _left(self, pool: PoolId) -> None:
        self._pools[pool] -= 1
        if not self._pools[pool]:
            del self._pools[pool]

    def _wait_no_more(self, session: Session) -> None:
        waiting = self._waiting.get(session.host, [])
        if session in waiting:
            waiting.remove(session)
        if not waiting:
            self._waiting.pop(session.host, None)

    def probe_timeouts(self, of: Callable[[PoolId], Ms]) -> None:
        """Claims and looks that go out on the open streams from now on give a probe so long."""
        for session in self._all():
            session.state.probe_timeout_ms = of(session.pool)

    def of(self, host: HostId) -> Session | None:
        return self._open.get(host)

    def of_pool(self, pool: PoolId) -> list[Session]:
        """Those of this pool's hosts."""
        return [session for session in self._open.values() if session.pool == pool]

    def send_on(self, pool: PoolId, owner: Elsewhere) -> None:
        """Another collector has this pool from now on: its agents are sent there, and their streams end."""
        for session in [each for each in self._all() if each.pool == pool]:
            self.send_one_on(session, owner)

    def send_one_on(self, session: Session, owner: Elsewhere) -> None:
        """One agent is sent to another collector, and its stream ends."""
        session.sent_on, session.folded = True, None
        if CAPABILITY in session.state.capabilities:
            session.send(owner.message())
            patience.after(FOLLOWS_WITHIN_S, partial(session.close, f"pool {session.pool} is another collector's"))
        else:
            session.close(owner.refusal(), grpc.StatusCode.FAILED_PRECONDITION)

    def serials(self, host: HostId) -> set[str]:
        """The serial number of the certificate of this host's stream, if there is one."""
        session = self._open.get(host)
        return {session.serial} if session is not None and session.serial else set()

    def close_of(self, serial: Callable[[str], bool], why: str) -> None:
        """End the streams that came with such certificates."""
        for session in self._all():
            if serial(session.serial):
                session.close(why, grpc.StatusCode.PERMISSION_DENIED)

    def close_all(self, why: str) -> None:
        for session in self._all():
            session.close(why)

    def _all(self) -> list[Session]:
        return [*self._open.values(), *(each for waiting in self._waiting.values() for each in waiting)]

    def __len__(self) -> int:
        return len(self._open)
