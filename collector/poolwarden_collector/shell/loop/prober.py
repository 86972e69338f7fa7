"""The collector's own probes: the suspected master's xapi of each pool, and the site's network anchors.

Rules
-----
* A xapi has answered only if it echoed ``system.isAlive:poolwarden`` over TLS on TCP 443 (xapi: ocaml/libs/http-lib,
  gen_server.ml): an accepted connection is not an answer. Its certificate is self-signed and not verified here. Each
  question is a connection of its own, which resumes the TLS session of the one before (tls_sessions.py).
* A master whose pool is well and whose agent is heard is asked each third time only (``CALM``), which the core still
  takes for fresh (signs.py: three intervals and limits). From the moment that one of both ends it is asked each time.
* A refused or unreachable connection is said as such; nothing of it is proof of anything.
* An anchor answers if TCP connects or is *refused*: either way something beyond the collector's own cable spoke.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.events import CollectorProbed, Event
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.loop.tls_sessions import TlsSession, unverified

XAPI_TLS_PORT = 443
ANCHOR_EVERY_S = 2.0
CALM = 3
_ANSWER_LIMIT = 64 * 1024
_TOKEN = "poolwarden"
_BODY = (
    f"<?xml version='1.0'?><methodCall><methodName>system.isAlive:{_TOKEN}</methodName><params><param><value>"
    f"<string>{_TOKEN}</string></value></param></params></methodCall>"
).encode()
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, slots=True)
class Probed:
    """What one probe found, with a short reason."""

    outcome: ProbeOutcome
    text: str
    certificate: str = ""  # SHA-256 of what the peer presented, hex


class Prober:
    """Probes at most one target per pool, again and again, and each anchor every 2 s."""

    def __init__(
        self,
        policy_of: Callable[[PoolId], Policy],
        post: Callable[[PoolId, Event], object],
        now: Callable[[], Ms],
        anchors: tuple[tuple[str, int], ...] = (),
        port: int = XAPI_TLS_PORT,
        calm: Callable[[PoolId, HostId], bool] = lambda pool, host: False,
    ) -> None:
        """``calm``: is this pool well, and the agent of that host heard."""
        self._calm = calm
        self._policy_of = policy_of
        self._post = post
        self._now = now
        self._port = port
        self._anchors = anchors
        self._anchor_answers = [True for _ in anchors]  # until the first look says otherwise
        self._tasks: dict[PoolId, asyncio.Task[None]] = {}
        self.latencies: dict[PoolId, tuple[HostId, float]] = {}  # the last answer's, s; none: the last probe had none
        self._anchor_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._anchors:
            self._anchor_task = asyncio.ensure_future(self._watch_anchors())

    async def stop(self) -> None:
        tasks = [*self._tasks.values(), *([self._anchor_task] if self._anchor_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def replace_anchors(self, anchors: tuple[tuple[str, int], ...]) -> None:
        """From now on these are the site's anchors; each answers until its first look says otherwise."""
        if anchors == self._anchors:
            return
        if self._anchor_task is not None:
            self._anchor_task.cancel()
            self._anchor_task = None
        self._anchors, self._anchor_answers = anchors, [True for _ in anchors]
        self.start()

    def anchors(self) -> tuple[bool, ...]:
        """For each anchor whether its last look was answered."""
        return tuple(self._anchor_answers)

    def aim(self, pool: PoolId, target: Target) -> None:
        """From now on probe this xapi for this pool; a target without an address: none."""
        before = self._tasks.pop(pool, None)
        self.latencies.pop(pool, None)
        if before is not None:
            before.cancel()
        if target.address and self._policy_of(pool).collector_probe:
            self._tasks[pool] = asyncio.ensure_future(self._watch(pool, target))

    async def _watch(self, pool: PoolId, target: Target) -> None:
        session = TlsSession()
        while True:
            policy = self._policy_of(pool)
            began, loop = self._now(), asyncio.get_running_loop()
            asked = loop.time()
            found = await probe_xapi(target.address, self._port, policy.probe_timeout / 1000, session)
            if found.outcome is ProbeOutcome.ANSWERED:
                self.latencies[pool] = (target.host, loop.time() - asked)
            else:
                self.latencies.pop(pool, None)
            self._post(pool, CollectorProbed(target.host, found.outcome, self._now(), found.text, found.certificate))
            await asyncio.sleep(max(0, policy.probe_interval - (self._now() - began)) / 1000)
            for _ in range(CALM - 1):
                if found.outcome is not ProbeOutcome.ANSWERED or not self._calm(pool, target.host):
                    break
                await asyncio.sleep(self._policy_of(pool).probe_interval / 1000)

    async def _watch_anchors(self) -> None:
        while True:
            looks = (_connects(host, port, ANCHOR_EVERY_S) for host, port in self._anchors)
            self._anchor_answers = list(await asyncio.gather(*looks))
            await asyncio.sleep(ANCHOR_EVERY_S)


def is_calm(roster: Roster, sessions: Sessions, pool: PoolId, host: HostId) -> bool:
    """Is this pool well, and does its master's agent have its stream?"""
    known = roster.pools.get(pool)
    return known is not None and known.live.verdict.word == Verdict.HEALTHY.word and sessions.of(host) is not None


async def probe_xapi(address: str, port: int, limit_s: float, session: TlsSession | None = None) -> Probed:
    """Ask a xapi whether it is alive; never raises, never takes longer than ``limit_s``.

    ``session``: what was kept of the questions to it before; None: of none.
    """
    session = session or TlsSession()
    found = await _asked(address, port, limit_s, session)
    if found.outcome is not ProbeOutcome.ANSWERED:
        session.forget()
    return found


async def _asked(address: str, port: int, limit_s: float, session: TlsSession) -> Probed:
    try:
        async with asyncio.timeout(limit_s):
            answer, certificate = await _ask(address, port, session)
    except TimeoutError:
        return Probed(ProbeOutcome.NO_ANSWER, f"no answer within {limit_s * 1000:.0f} ms")
    except ConnectionRefusedError:
        return Probed(ProbeOutcome.REFUSED, "connection refused")
    except ssl.SSLError as error:
        return Probed(ProbeOutcome.NOT_XAPI, f"no TLS: {error.reason or error}")
    except (OSError, EOFError) as error:
        number = error.errno if isinstance(error, OSError) else None
        outcome = ProbeOutcome.UNREACHABLE if number in _UNREACHABLE else ProbeOutcome.NO_ANSWER
        return Probed(outcome, str(error) or type(error).__name__)
    if b"200" in answer.split(b"\r\n", 1)[0] and _TOKEN.encode() in answer.partition(b"\r\n\r\n")[2]:
        return Probed(ProbeOutcome.ANSWERED, "", certificate)
    return Probed(ProbeOutcome.NOT_XAPI, "it answered something else")


async def _ask(address: str, port: int, session: TlsSession) -> tuple[bytes, str]:
    session.resume(time.monotonic())
    reader, writer = await asyncio.open_connection(address, port, ssl=_context(), limit=_ANSWER_LIMIT)
    try:
        head = f"POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: text/xml\r\nContent-Length: {len(_BODY)}\r\n\r\n"
        writer.write(head.encode() + _BODY)
        await writer.drain()
        connection = writer.get_extra_info("ssl_object")
        presented = connection.getpeercert(binary_form=True)
        answer = await _answer(reader)
        session.keep(connection, time.monotonic())  # what TLS 1.3 resumes by comes after the handshake
        return answer, hashlib.sha256(presented or b"").hexdigest()
    finally:
        # An orderly TLS farewell would wait for the peer; this one may be the very host that has stopped answering.
        with contextlib.suppress(RuntimeError):
            writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read until the answer is complete, the peer closes, or enough is enough."""
    said = b""
    while len(said) < _ANSWER_LIMIT and not _complete(said):
        chunk = await reader.read(_ANSWER_LIMIT)
        if not chunk:
            break
        said += chunk
    return said


def _complete(said: bytes) -> bool:
    """Has all of the announced body come? Without an announcement the end of the response's own element decides."""
    head, _, body = said.partition(b"\r\n\r\n")
    announced = re.search(rb"(?im)^content-length:\s*(\d{1,9})\s*$", head) if body else None
    return b"</methodResponse>" in said or (announced is not None and len(body) >= int(announced[1]))


@functools.cache
def _context() -> ssl.SSLContext:
    return unverified()


async def _connects(host: str, port: int, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
