"""Takes over evidence capsules from agents: piece by piece at the collector's own pace, history for people alone.

Rules
-----
* safety: nothing of a capsule, nor that there is one, becomes an event of the core. It goes into files, and out of them
  into an operator's hands.
* The collector asks, one piece at a time, of ``AT_ONCE`` hosts at a time and of each no faster than ``PER_S``: what was
  not asked for is not taken. So a transfer costs a report's budget nothing (budgets.py), and memory one piece each.
* A host has ``A_DAY`` bytes in a day, whatever comes of them; a piece within ``PIECE_WITHIN_S`` and whole, or its
  transfer ends and is tried again after ``AGAIN_MS`` at the earliest. Agents repeat their offers, so nothing is lost.
* A host that is slow has its turn for ``TURN_MS``; then those that wait have theirs, and it goes on behind them.
* Where a transfer breaks it goes on later where it was; what does not have the digest that was offered is thrown away.
* An agent is asked to keep a capsule (``KeepEvidence``) where a pool's verdict leaves Healthy or a failover is decided,
  at most every ten minutes in a pool. It has rules of its own about when it does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.sessions import Session, Sessions
from poolwarden_collector.shell.plain_text import cut
from poolwarden_collector.shell.store.capsules import BIGGEST, DIGEST, ID, Capsules, NoRoom, Offered
from poolwarden_collector.shell.store.journal import Row

PIECE = 65_536
AT_ONCE = 4
PER_S = 262_144  # bytes, of one host
PIECE_WITHIN_S = 20.0
TURN_MS: Ms = 60_000  # of a host while others wait; at PER_S a capsule takes a fifth of it
PAUSE_MS: Ms = 2_000  # of a host between its offers
AGAIN_MS: Ms = 600_000  # after a transfer that has failed
A_DAY = 64 << 20
MOST_WAITING = 1_024  # hosts whose offers are remembered
MOST_NOTED = 16_384  # hosts whose room for today is remembered
ASK_EVERY_MS: Ms = 600_000
TIDY_EVERY_S = 3_600.0
LONGEST_WORD, LONGEST_SENTENCE = 40, 300
HEALTHY = "Healthy"
_DAY_MS = 24 * 3_600_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    """A piece that is being waited for."""

    id: str
    offset: int
    size: int
    came: asyncio.Future[bytes]


class _Failed(Exception):
    """This transfer has ended; one sentence."""


class _TurnOver(Exception):
    """Others wait; it goes on later where it is."""


class CapsuleIntake:
    """All transfers of one collector.

    ``now``: its monotonic clock; ``warn``: tells people, a sentence and its topic.
    """

    def __init__(
        self, store: Capsules, sessions: Sessions, now: Callable[[], Ms], warn: Callable[[str, str], None]
    ) -> None:
        self.store = store
        self._sessions = sessions
        self._now = now
        self._warn = warn
        self._waiting: OrderedDict[HostId, tuple[Session, list[Offered]]] = OrderedDict()
        self._running: dict[HostId, asyncio.Task[None]] = {}
        self._asked: dict[HostId, tuple[Session, _Asked]] = {}
        self._room: OrderedDict[HostId, tuple[float, Ms]] = (
            OrderedDict()
        )  # bytes that are left today, and when that was
        self._again: dict[HostId, Ms] = {}
        self._told: dict[PoolId, Ms] = {}
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after what is kept."""
        self._keeper = asyncio.ensure_future(self._tidy())

    async def stop(self) -> None:
        """End every transfer; each goes on where it was another time."""
        tasks = [*self._running.values(), *([self._keeper] if self._keeper is not None else [])]
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tidy(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.store.tidy)
            except (OSError, sqlite3.Error) as error:
                _log.warning("evidence capsules are not tidied up: %s", error)
            await asyncio.sleep(TIDY_EVERY_S)

    # ------------------------------------------------------------------------------------------------ what is heard

    def heard(self, session: Session, message: pb.AgentMessage) -> None:
        """A message of this host's present stream; whatever is none of ours is left alone."""
        if message.HasField("capsule_offer"):
            self._offered(session, message.capsule_offer.capsules)
        elif message.HasField("capsule_piece"):
            self._piece(session, message.capsule_piece)

    def gone(self, session: Session) -> None:
        """This stream has ended."""
        if self._waiting.get(session.host, (None,))[0] is session:
            del self._waiting[session.host]
        asked = self._asked.get(session.host)
        if asked is not None and asked[0] is session and not asked[1].came.done():
            asked[1].came.set_exception(_Failed("its stream has ended"))

    def _offered(self, session: Session, told: Iterable[pb.CapsuleInfo]) -> None:
        offers = [offer for offer in map(_plausible, told) if offer is not None]
        if not offers:
            return
        if session.host not in self._waiting and len(self._waiting) >= MOST_WAITING:
            return  # it offers them again
        self._waiting[session.host] = session, offers
        self._next()

    def _piece(self, session: Session, piece: pb.CapsulePiece) -> None:
        whose, asked = self._asked.get(session.host, (None, None))
        if whose is not session or asked is None or asked.came.done():
            return  # safety: nobody has asked for it
        if (piece.id, piece.offset) != (asked.id, asked.offset):
            return
        if len(piece.chunk) != asked.size:
            why = f"the agent has none: {piece.text}" if not piece.chunk else "a piece of another size"
            asked.came.set_exception(_Failed(why))
        else:
            asked.came.set_result(piece.chunk)

    # ------------------------------------------------------------------------------------------------ transfers

    def _next(self) -> None:
        """Begin what may begin."""
        for host in [*self._waiting]:
            if len(self._running) >= AT_ONCE:
                return
            if host in self._running or self._now() < self._again.get(host, 0):
                continue
            session, offers = self._waiting.pop(host)
            self._running[host] = asyncio.ensure_future(self._of_host(session, offers))

    async def _of_host(self, session: Session, offers: list[Offered]) -> None:
        host, wait_ms, left = session.host, PAUSE_MS, list(offers)
        over_ms = self._now() + TURN_MS
        try:
            while left:
                await self._transfer(session, left[0], over_ms)
                del left[0]
        except _TurnOver:
            if session.closing is None:
                self._waiting.setdefault(host, (session, left))
        except NoRoom as why:
            self._warn(f"evidence capsules are not taken now: {why}", "capsules: no room")
            wait_ms = AGAIN_MS
        except _Failed as why:
            _log.info("host %s: a capsule is not taken now: %s", host, why)
            if session.closing is None:  # after a broken stream it goes on at once
                wait_ms = AGAIN_MS
        except (OSError, sqlite3.Error) as error:
            _log.warning("host %s: a capsule cannot be kept: %s", host, error)
            wait_ms = AGAIN_MS
        finally:
            self._asked.pop(host, None)
            del self._running[host]
            self._later(host, wait_ms)
            self._next()

    def _later(self, host: HostId, wait_ms: Ms) -> None:
        """Who has had its turn waits, so that offers alone keep nobody busy."""
        now = self._now()
        self._again = {each: at for each, at in self._again.items() if at > now} | {host: now + wait_ms}
        asyncio.get_running_loop().call_later(wait_ms / 1000, self._next)

    async def _transfer(self, session: Session, offered: Offered, over_ms: Ms) -> None:
        at = await asyncio.to_thread(self.store.begin, session.pool, session.host, offered)
        while at is not None and at < offered.size:
            size = min(PIECE, offered.size - at)
            self._spend(session.host, size)
            chunk = await self._ask(session, offered.id, at, size)
            await asyncio.to_thread(self.store.append, session.host, offered, at, chunk)
            at += size
            await asyncio.sleep(size / PER_S)
            if at < offered.size and self._now() >= over_ms and any(each != session.host for each in self._waiting):
                raise _TurnOver
        if at is not None and not await asyncio.to_thread(self.store.finish, session.pool, session.host, offered):
            text = f"host {session.host}: a capsule that it has handed over does not have the digest that it said"
            self._warn(text, f"host {session.host}: capsules")
            raise _Failed("its digest does not fit")
        session.send(pb.CollectorMessage(capsule_taken=pb.CapsuleTaken(id=offered.id, sha256=offered.sha256)))

    async def _ask(self, session: Session, capsule: str, offset: int, size: int) -> bytes:
        if session.closing is not None:
            raise _Failed("its stream has ended")
        asked = _Asked(capsule, offset, size, asyncio.get_running_loop().create_future())
        self._asked[session.host] = session, asked
        request = pb.CapsuleRequest(id=capsule, offset=offset, limit=size)
        session.send(pb.CollectorMessage(capsule_request=request))
        try:
            return await asyncio.wait_for(asked.came, PIECE_WITHIN_S)
        except TimeoutError:
            raise _Failed(f"no piece within {PIECE_WITHIN_S:.0f} s") from None

    def _spend(self, host: HostId, size: int) -> None:
        now = self._now()
        left, before = self._room.pop(host, (float(A_DAY), now))
        left = min(float(A_DAY), left + A_DAY * max(0, now - before) / _DAY_MS)
        self._room[host] = (left - size if left >= size else left, now)
        if len(self._room) > MOST_NOTED:
            self._room.popitem(last=False)
        if left < size:
            raise _Failed(f"it has handed over {A_DAY >> 20} MiB within a day, and no more is taken")

    # ------------------------------------------------------------------------------------------------ asking to keep

    def follow(self, rows: list[Row]) -> None:
        """What the journal has taken: where something is suspected, the pool's hosts are asked to keep a capsule."""
        for row in rows:
            if row.kind == Kind.DECIDED.value or (row.kind == Kind.VERDICT.value and _left_healthy(row)):
                self._ask_to_keep(row.pool, row.text)

    def _ask_to_keep(self, pool: PoolId, text: str) -> None:
        now = self._now()
        if now - self._told.get(pool, now - ASK_EVERY_MS) < ASK_EVERY_MS:
            return
        self._told = {each: at for each, at in self._told.items() if now - at < ASK_EVERY_MS} | {pool: now}
        for session in self._sessions.of_pool(pool):
            session.send(pb.CollectorMessage(keep_evidence=pb.KeepEvidence(text=cut(text, LONGEST_SENTENCE))))


def _left_healthy(row: Row) -> bool:
    """Not what a collector says while it begins to look: then every pool is unwell, and no host has seen anything."""
    told = json.loads(row.data)
    return told.get("before") == HEALTHY and told.get("verdict") not in (HEALTHY, None)


def _plausible(told: pb.CapsuleInfo) -> Offered | None:
    """The offer; None: no capsule is like that."""
    if not (ID.fullmatch(told.id) and DIGEST.fullmatch(told.sha256) and 0 < told.total_bytes <= BIGGEST):
        return None
    wall = clock.wall_ms()
    # By our own clock where the host can say how long ago that was; else as its own clock had it, never later than now.
    at = max(0, wall - told.age_ms) if told.age_ms else min(told.wall_ms or wall, wall)
    texts = cut(told.trigger, LONGEST_WORD), cut(told.text, LONGEST_SENTENCE)
    return Offered(told.id, told.total_bytes, told.sha256, at, *texts)
