"""The agents' gateway: one mutual-TLS gRPC stream per agent, turned into events; orders go back on it.

Rules
-----
* A certificate's one URI is the only identity (shell/enrolment/identity.py). A Hello that says otherwise is refused
  with PERMISSION_DENIED and an operator's warning: an agent speaks for its own host alone, and in the pool that its
  certificate names. One that names no pool is of the pool in which its host is on record, else of the one that it says.
* Which certificates are taken says enrolment (shell/enrolment/enrolment.py), which also renews them on this stream.
* The first message is Hello, within 5 s, and there is no second one. A host that has spoken in another pool is refused;
  that another pool's master lists it is nobody's word about it.
* A message whose numbers cannot be (bounds.py) is refused with INVALID_ARGUMENT and that reason, and so ends its
  stream. The pool in which the host is on record hears of it; a host on record nowhere is a warning, no more.
* What a host may cost is judged on bytes, before anything is parsed (budgets.py, messages/wire.py). What is over a
  budget is refused with RESOURCE_EXHAUSTED and a reason that names it, counted (tally.py), and told to the host's pool
  as a sign of life, at most once a second. A stream too many is answered late: asking faster gains nothing.
* Of a pool that another collector has no agent is welcomed (elsewhere.py).
* What is longer than its bound is cut or not known (bounds.py): counted, and a warning.
* A newer stream of a host replaces the older one once it has answered a nonce, within 5 s (sessions.py).
* A stream that is to end is not heard from that instant on, whether or not its other end takes anything in.
* A connection without a handshake is closed after 5 s, one without a stream after 10 s; how many there are is bounded
  (doorkeeper.py).
* A stream that ends is reported as gone *without* a goodbye, however it ended (grpc.aio's loop just ends on a lost
  connection); only a Goodbye message is one.
* What is read has a share of each turn of the loop (reading_turns.py), and where that is not enough no further agent is
  let in (entrance.py): who is in is guarded, who waits is not silent, and neither keeps an operator waiting.
* Of a limit of time only what this process had time to read in counts (patience.py); a call that gRPC has not handed
  over yet waits ten minutes. Who is cut because the collector is late would make it later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.events import AgentReported, Event, HostElsewhere, HostRefused
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents import call_watch, patience
from poolwarden_collector.shell.agents.budgets import FOLD_MS, Account, Accounts, OverBudget
from poolwarden_collector.shell.agents.call_watch import CallWatch
from poolwarden_collector.shell.agents.doorkeeper import Doorkeeper, Peer, peer_of, shut
from poolwarden_collector.shell.agents.elsewhere import CAPABILITY, NOBODYS, Elsewhere, OwnerOf, ours, send_on
from poolwarden_collector.shell.agents.entrance import Entrance, GivenUp
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.messages.bounds import LONGEST_NAME, Implausible, admit
from poolwarden_collector.shell.agents.messages.wire import NoMessage, envelope
from poolwarden_collector.shell.agents.port import credentials, options
from poolwarden_collector.shell.agents.reading_turns import ReadingTurns
from poolwarden_collector.shell.agents.sessions import MOST_KEPT_BACK, MOST_WAITING, Kept, Session, Sessions
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_collector.shell.agents.trust import warnings
from poolwarden_collector.shell.enrolment.enrolment import Enrolment, NotEnrolled
from poolwarden_collector.shell.enrolment.identity import Identity, identity_of, is_uuid
from poolwarden_collector.shell.plain_text import cut, printable
from poolwarden_collector.shell.store.journal import JournalError

if TYPE_CHECKING:
    from poolwarden_collector.shell.agents.capsules import CapsuleIntake
    from poolwarden_collector.shell.agents.roster import Roster
    from poolwarden_collector.shell.agents.signing import Signer
    from poolwarden_collector.shell.config.config import Tls
    from poolwarden_collector.shell.queue.inbox import Inbox
    from poolwarden_collector.shell.store.telemetry import Telemetry

ATTACH = "/poolwarden.v1.AgentLink/Attach"
HELLO_WITHIN_S = 5.0
ANSWER_WITHIN_S = 5.0  # to the nonce that is asked before a stream replaces another
LAST_WORDS_S = 1.0  # a stream that ends takes in what waits for it within that time, or its connection is shut
LATE_S = 1.0  # how long a refusal for too many streams is kept back
LATE_A_SECOND = 8  # of one account: the more of them are kept back, the longer each is
MOST_LATE = 4_096  # such refusals at a time; what is more is refused at once
TELL_EVERY_MS = 1_000  # a pool is told of its host's refusals so often at most
STOPPING = "the collector stops"
MANY_UNREAD = 32  # messages that wait: so many do so because of the load, fewer because this process had no turn
MANY_UNTAKEN = 128  # events that wait for the engine
LATE_MS = 1_000  # calls that have waited for longer are late
FULL_MS = 400  # what has waited for longer is more than is carried: no further agent is let in
OWN_SOCKET = "calls"  # in the state's folder, for calls of the collector's own (call_watch.py)
TRANSIT_MS = 30_000  # a message that was read longer ago tells nothing of how late reading is now
RENEW_AGAIN_S = 900  # after a certificate could not be renewed
_STOP_GRACE_S = 1.0

_log = logging.getLogger(__name__)


class Refused(Exception):
    """This stream may not go on: a gRPC status and one sentence."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Gateway(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Serves ``AgentLink`` on ``listen``; events go to ``inbox``."""

    def __init__(
        self,
        roster: Roster,
        inbox: Inbox,
        sessions: Sessions,
        enrolment: Enrolment,
        telemetry: Telemetry | None = None,
        signer: Signer | None = None,
        capsules: CapsuleIntake | None = None,
        owner_of: OwnerOf = ours,
    ) -> None:
        """Without a ``signer`` nothing is signed: every agent that has pinned a key refuses to be told anything."""
        self._owner_of: OwnerOf = lambda pool: owner_of(pool) or (None if roster.owns(pool) else NOBODYS)
        self._signer, self._several = signer, roster.one_of_several
        self._key_id = signer.key_id if signer is not None else ""
        self._telemetry = telemetry
        self._capsules = capsules
        self._enrolment = enrolment
        self._roster = roster
        self._inbox = inbox
        self._sessions = sessions
        self._accounts = Accounts(roster.now)
        self._told: dict[HostId, Ms] = {}  # when a pool was told last that its host was refused
        self._late = 0
        self._calls = 0  # of agents whose certificate names a host, since the start
        self._transits: dict[int, tuple[Ms, Ms, PoolId]] = {}  # of each stream's newest message: arrival and transit
        self._folding: dict[int, Session] = {}  # streams of which a report waits to be handed on, by their numbers
        self._speaking: Counter[Peer] = Counter()
        self._reading = ReadingTurns()
        self._entrance = Entrance(roster.now, self._is_late, lambda pool: sessions.has_pool(pool))
        self._watch = CallWatch(roster.now)
        self._doorkeeper: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, listen: str, tls: Tls) -> None:
        """Begin to accept agents. Raises OSError where the address cannot be used or the certificate does not fit."""
        server = grpc.aio.server(options=options(self._roster.config))
        server.add_generic_rpc_handlers((self,))
        try:
            self.port = server.add_secure_port(listen, credentials(tls))
        except RuntimeError as error:
            raise OSError(f"{listen}: cannot be listened on ({error})") from error
        own = self._roster.config.state_dir / OWN_SOCKET
        call_watch.listen(server, own)
        await server.start()
        self._server = server
        self._watch.start(own)
        self._roster.at_entrance = self._entrance.waiting
        keeper = Doorkeeper(lambda: set(self._speaking), self._shut_mute, lambda: self._calls, self._calls_wait)
        self._doorkeeper = asyncio.ensure_future(keeper.watch(self.port))

    async def stop(self) -> None:
        """Stop accepting, end every stream."""
        self._entrance.close()
        await self._watch.stop()
        self._sessions.close_all(STOPPING)
        if self._doorkeeper is not None:
            self._doorkeeper.cancel()
        if self._server is not None:
            await self._server.stop(_STOP_GRACE_S)

    def service(self, handler_call_details: Any) -> Any:
        """Attach, with messages as bytes; every other method is refused as a stream too many is."""
        if handler_call_details.method == call_watch.METHOD:
            return grpc.unary_unary_rpc_method_handler(self._own_call)
        known = handler_call_details.method == ATTACH
        return grpc.stream_stream_rpc_method_handler(
            self.attach if known else self._unknown, None, pb.CollectorMessage.SerializeToString
        )

    async def _own_call(self, said: object, context: Any) -> bytes:
        if not context.peer().startswith("unix:"):
            await self._unknown(said, context)
        return b""

    async def _unknown(self, _: object, context: Any) -> None:
        account = self._accounts.of("", context.peer())
        await self._refuse_late(context, account, grpc.StatusCode.UNIMPLEMENTED, "there is no such method here")

    async def attach(self, _: object, context: Any) -> None:
        """One agent's stream from Hello to its end."""
        who = identity_of(context.auth_context())
        proven = who.host if who is not None else ""
        self._calls += bool(proven)
        account = self._accounts.of(proven, context.peer())
        try:
            account.stream(self._roster.now())
        except OverBudget as refusal:
            self._over_budget(proven, refusal)
            await self._refuse_late(context, account, grpc.StatusCode.RESOURCE_EXHAUSTED, f"refused: {refusal}")
            return
        peer = peer_of(context.peer())
        try:
            if who is not None:
                await self._let_in(who, peer)
            session = await self._admit(context, who, account)
        except Refused as refusal:
            await context.abort(refusal.code, refusal.text)
            return
        finally:
            self._entrance.heard(proven)
        reader = asyncio.ensure_future(self._read(session, context, account))
        writer = asyncio.ensure_future(self._write(session, context))
        self._speaking[peer] += 1
        try:
            await session.over.wait()
            # safety: who takes nothing in is not waited for, and not heard any more; the last words are a kindness.
            reader.cancel()
            await asyncio.wait((writer,), timeout=LAST_WORDS_S)
        finally:
            reader.cancel()
            stuck = not writer.done()
            writer.cancel()
            self._speaks_no_more(peer)
            if session.closing is None:
                self._reading.last(session.state.stream)
            self._ended(session)
        if session.closing and session.closing != STOPPING:
            _log.info("stream %d of host %s ends: %s", session.state.stream, session.host, session.closing)
        if stuck:
            await asyncio.to_thread(shut, self.port, peer)
            await asyncio.sleep(HELLO_WITHIN_S)  # gRPC cancels this call when it sees the connection's end
        elif session.closing:
            await context.abort(session.code, session.closing)

    async def _let_in(self, who: Identity, peer: Peer) -> None:
        """Wait for this host's turn to come in."""
        self._speaking[peer] += 1
        try:
            await self._entrance.enter(who.host, who.pool or self._roster.pool_of(who.host))
        except GivenUp:
            raise Refused(grpc.StatusCode.ABORTED, "a newer stream of this host waits to be let in") from None
        finally:
            self._speaks_no_more(peer)

    def _speaks_no_more(self, peer: Peer) -> None:
        self._speaking[peer] -= 1
        if not self._speaking[peer]:
            del self._speaking[peer]

    async def _write(self, session: Session, context: Any) -> None:
        try:
            while (message := await session.next()) is not None:
                await context.write(message)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.info("stream %d of host %s broke: %s", session.state.stream, session.host, error)
            session.close("")

    async def _refuse_late(self, context: Any, account: Account, code: grpc.StatusCode, text: str) -> None:
        if self._late < MOST_LATE:
            self._late, account.late = self._late + 1, account.late + 1
            try:
                await asyncio.sleep(LATE_S * max(1.0, account.late / LATE_A_SECOND))
            finally:
                self._late, account.late = self._late - 1, account.late - 1
        await context.abort(code, text)

    async def _admit(self, context: Any, who: Identity | None, account: Account) -> Session:
        """Hear the Hello, hold it against the certificate and the record, answer Welcome."""
        proven = who.host if who is not None else ""
        message = await self._first(context, proven, account)
        claimed = message.hello.host_uuid
        if who is None or proven != claimed:
            said = printable(cut(claimed, 64))
            text = f"{context.peer()} has the certificate of host {proven or 'nobody'} and says that it is host {said}"
            self._alarm(text, f"the certificate of host {proven} speaks for another")
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"{text}: an agent speaks for its own host alone")
        # Before anything is concluded from what it says.
        if refusal := self._enrolment.refusal(who, message.hello.pool_uuid):
            self._alarm(refusal, f"certificate of {who.host}")
            self._enrolment.refused(who, printable(cut(message.hello.host_name, LONGEST_NAME)))
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, refusal)
        self._hold_to_bounds(message, who)
        pool = self._pool(message.hello, who)
        policy = self._roster.config.policy_of(pool)
        limits = partial(self._roster.limits, pool)
        state = StreamState(self._sessions.next_number(), pool, policy.probe_timeout, limits, self._several)
        state.introduce(message)
        for text, about in warnings(hello := message.hello, self._key_id, self._enrolment.other_order_keys()):
            self._roster.warn(text, about)
        if (owner := self._owner_of(pool)) is not None:
            await self._send_on(context, state, owner, account)
        session = Session(proven, pool, state, partial(self._seal, state))
        session.identity, session.account = who, account
        session.send(orders.welcome(self._roster.charge(pool).epoch, policy, self._roster.config.name))
        session.kept.append(Kept(message, self._roster.now(), clock.wall_ms()))
        # The events of this stream come after its predecessor's, and its orders only after its Welcome.
        if self._sessions.of(proven) is None:
            self._enter_or_end(session)
        else:
            self._ask(session)
        _log.info("stream %d: host %s (%s), agent %s", state.stream, proven, hello.host_name, hello.agent_version)
        return session

    async def _send_on(self, context: Any, state: StreamState, owner: Elsewhere, account: Account) -> NoReturn:
        """It belongs to another collector (elsewhere.py)."""
        if CAPABILITY not in state.capabilities:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, owner.refusal())
        message = self._seal(state, owner.message())
        try:
            await send_on(context, message, lambda: self._next(context, account))
        except (OverBudget, NoMessage):
            _log.info("host %s does not end its stream, and says what is not taken", state.host)
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION, "this collector does not have that pool, and has said who has"
        )

    def _ask(self, session: Session) -> None:
        """There is a stream of this host: it goes on until this one has answered."""
        if not self._sessions.wait(session):
            text = f"refused: {MOST_WAITING} streams of this host wait already to replace the one that it has"
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        session.send(orders.challenge(session.nonce))
        text = f"it has not answered a nonce within {ANSWER_WITHIN_S:.0f} s, and this host has another stream"
        patience.after(ANSWER_WITHIN_S, lambda: session.close(text) if session.nonce else None)

    def _enter(self, session: Session) -> None:
        """From now on this is its host's stream; what was kept back is taken."""
        if (spoke_in := self._roster.spoke_in(session.host)) not in ("", session.pool):
            # safety: it was welcomed before its host had spoken anywhere, and has spoken in another pool meanwhile.
            session.close(f"its host has spoken in pool {spoke_in} meanwhile", grpc.StatusCode.FAILED_PRECONDITION)
            return
        self._sessions.add(session)
        if session.identity is not None and session.kept:
            self._enrolment.seen(session.identity, session.kept[0].message.hello.host_name)
        kept, session.kept = session.kept, []
        for each in kept:
            self._take(session, each.message, each.recv_ms, each.wall_ms)

    def _ended(self, session: Session) -> None:
        waiting = bool(session.nonce)
        if self._capsules is not None:
            self._capsules.gone(session)
        self._transits.pop(session.state.stream, None)
        follows = self._sessions.remove(session)
        if not waiting and not session.sent_on:
            self._hand_on_folded(session)
            self._inbox.post(session.pool, session.state.ended())
        if follows is not None:
            self._enter_or_end(follows)

    def _seal(self, state: StreamState, message: pb.CollectorMessage) -> pb.CollectorMessage:
        charge = self._roster.charge(state.pool)
        return message if self._signer is None else self._signer.seal(message, state, charge.epoch)

    def _enter_or_end(self, session: Session) -> None:
        try:
            self._enter(session)
        except OverBudget as refusal:
            self._over_budget(session.host, refusal)
            session.close(f"refused: {refusal}", grpc.StatusCode.RESOURCE_EXHAUSTED)
        except Implausible as refusal:
            self._implausible(session, refusal)

    def _hold_to_bounds(self, message: pb.AgentMessage, who: Identity) -> None:
        host, claimed = message.hello.host_uuid, message.hello.pool_uuid or who.pool
        on_record = self._roster.pool_of(host)
        try:
            if not message.hello.boot_id:  # whether a host has spoken is known by that of its boot
                raise Implausible("hello.boot_id is empty, which cannot be")
            self._tell_cut(host, admit(message, partial(self._roster.limits, on_record or claimed)))
        except Implausible as refusal:
            name = cut(printable(message.hello.host_name), LONGEST_NAME)
            self._alarm(f"host {host} ({name}): {refusal}", f"host {host} tells what cannot be")
            if on_record:
                self._inbox.post(on_record, HostRefused(host, str(refusal)))
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"refused: {refusal}") from refusal

    async def _first(self, context: Any, proven: HostId, account: Account) -> pb.AgentMessage:
        try:
            message = await patience.within(HELLO_WITHIN_S, self._next(context, account))
        except TimeoutError:
            raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {HELLO_WITHIN_S:.0f} s") from None
        except OverBudget as refusal:
            self._over_budget(proven, refusal)
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"refused: {refusal}") from refusal
        except NoMessage as refusal:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"refused: {refusal}") from refusal
        if message is None or message.WhichOneof("body") != "hello":
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Hello")
        return message

    async def _next(self, context: Any, account: Account) -> pb.AgentMessage | None:
        """The next message; None at the end. Raises OverBudget, NoMessage."""
        raw = await context.read()
        return None if raw is grpc.aio.EOF else self._parsed(raw, account)

    def _parsed(self, raw: bytes, account: Account) -> pb.AgentMessage:
        """Raises OverBudget, NoMessage."""
        account.message(envelope(raw), self._roster.now())
        try:
            return pb.AgentMessage.FromString(raw)
        except DecodeError as error:
            raise NoMessage("bytes that are no message of the contract") from error

    def _pool(self, hello: pb.Hello, who: Identity) -> PoolId:
        """The pool that this host belongs to: as it says itself and its certificate has it, else as it is on record."""
        spoke_in = self._roster.spoke_in(hello.host_uuid)
        pool = hello.pool_uuid or who.pool or self._roster.pool_of(hello.host_uuid)
        if not pool:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the pool's UUID is not known: has xapi ever run there?")
        if not is_uuid(pool):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{pool[:64]!r} is no UUID of a pool")
        who_says = f"host {hello.host_uuid} ({hello.host_name})"
        if spoke_in and spoke_in != pool:
            self._inbox.post(spoke_in, HostElsewhere(hello.host_uuid, hello.host_name, pool))
        if who.pool not in ("", pool):
            text = f"{who_says} has a certificate of pool {who.pool} and says that it is of {pool}"
            self._alarm(text, f"host {hello.host_uuid} is of two pools")
            step = "if it was moved, it enrols anew with a token of that pool"
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"{text}: {step}")
        if spoke_in and spoke_in != pool:
            text = f"{who_says} is of pool {spoke_in} and now says that it is of {pool}"
            self._alarm(text, f"host {hello.host_uuid} is of two pools")
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{text}: one of them is wrong")
        return pool

    async def _read(self, session: Session, context: Any, account: Account) -> None:
        try:
            while (raw := await context.read()) is not grpc.aio.EOF and session.closing is None:
                recv, wall = self._roster.now(), clock.wall_ms()
                hear = partial(self._hear, session, account, raw, recv, wall)
                await self._reading.read(session.state.stream, recv, hear)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.info("stream %d of host %s broke: %s", session.state.stream, session.host, error)
        session.close("")

    def _hear(self, session: Session, account: Account, raw: bytes, recv: Ms, wall: Ms) -> None:
        """Take a message that has arrived then, or end its stream because of it."""
        try:
            message = self._parsed(raw, account)
            if message.WhichOneof("body") == "hello":
                session.close("a second Hello on the same stream")
            elif session.sent_on:
                return
            elif not session.nonce:
                self._take(session, message, recv, wall)
            else:
                self._keep_back(session, Kept(message, recv, wall))
        except OverBudget as refusal:
            self._over_budget(session.host, refusal)
            session.close(f"refused: {refusal}", grpc.StatusCode.RESOURCE_EXHAUSTED)
        except (Implausible, NoMessage) as refusal:
            self._implausible(session, refusal)

    def _keep_back(self, session: Session, kept: Kept) -> None:
        message = kept.message
        session.kept.append(kept)
        if session.is_answer(message, session.kept[0].message.hello.boot_id):
            self._enter(session)
        elif len(session.kept) > MOST_KEPT_BACK:
            session.close("it has not answered a nonce, and this host has another stream")

    def _take(self, session: Session, message: pb.AgentMessage, recv_ms: Ms, wall_ms: int) -> None:
        if session.account is not None and message.WhichOneof("body") == "report":
            session.account.report(message.report, recv_ms)
        for event in session.state.on_message(message, recv_ms, wall_ms):
            self._hand_on(session, event, recv_ms)
        if message.WhichOneof("body") == "renewal_request" and (session.renewal is None or session.renewal.done()):
            session.renewal = asyncio.ensure_future(self._renew(session, message.renewal_request))
        if self._telemetry is not None and message.WhichOneof("body") == "late":
            # safety: history goes to the telemetry store alone; nothing of it ever becomes an event of the core.
            self._telemetry.late(session.pool, session.host, message.late)
        if self._capsules is not None:
            # safety: likewise.
            self._capsules.heard(session, message)
        self._transits[session.state.stream] = recv_ms, session.state.transit, session.pool
        self._tell_cut(session.host, session.state.take_cut())
        for reply in session.state.take_replies():
            session.send(reply)

    def _hand_on(self, session: Session, event: Event, now: Ms) -> None:
        """To the engine: a report soon after another one waits, until it or whatever comes after it is handed on."""
        if not isinstance(event, AgentReported):
            self._hand_on_folded(session)
        elif session.folded is not None:
            session.folded = event
            return
        elif session.reported_at is not None and now - session.reported_at < FOLD_MS:
            session.folded = event
            self._folding[session.state.stream] = session
            wait = session.reported_at + FOLD_MS - now
            asyncio.get_running_loop().call_later(wait / 1000, self._hand_on_folded, session)
            return
        else:
            session.reported_at = now
        if not self._inbox.post(session.pool, event):
            session.close("it sends more than is taken: too much of it waits already")

    def _hand_on_folded(self, session: Session) -> None:
        event, session.folded = session.folded, None
        self._folding.pop(session.state.stream, None)
        if event is not None:
            session.reported_at = self._roster.now()
            self._inbox.post(session.pool, event)

    def lag(self) -> tuple[Ms, dict[PoolId, Ms]]:
        """How long what is read now has been under way: in all (longer only of a twentieth of the streams, and of one
        of few), and in each pool.

        What waits in gRPC or in the kernel is not seen here; that it waited is told by its stamp. One host's stamps
        concern its own pool: it may be slow by itself, or lie. 0: nothing was read.
        """
        since = self._roster.now() - TRANSIT_MS
        newest = [each for each in self._transits.values() if each[0] >= since]
        pools: dict[PoolId, Ms] = {}
        for _, transit, pool in newest:
            pools[pool] = min(max(transit, pools.get(pool, 0)), TRANSIT_MS)
        found = sorted(transit for _, transit, _ in newest)
        return (found[max(0, min(len(found) - 2, len(found) * 19 // 20))] if found else 0), pools

    def unread(self) -> tuple[Ms, dict[PoolId, Ms]]:
        """For how long the first message waits that is not read; and of each pool, for how long a host of it has not
        been read whose next message waits, or waits to be let in, or a call that may be one's. 0: none does.
        """
        now, oldest = self._roster.now(), self._reading.oldest()
        pools = {pool: now - since for pool, since in self._entrance.pools().items()}
        for stream in self._reading.streams():
            recv, _, pool = self._transits.get(stream, (now, 0, ""))
            pools[pool] = max(now - recv, pools.get(pool, 0))
        pools.pop("", None)
        if (calls := self._watch.lag()) > LATE_MS:
            # Whose call waits is not known: it may be any host that has no stream now.
            for uuid, known in self._roster.pools.items():
                if any(self._sessions.of(host) is None for host in known.record.hosts):
                    pools[uuid] = max(calls, pools.get(uuid, 0))
        return now - oldest if oldest is not None else 0, pools

    def _is_late(self) -> bool:
        oldest = self._reading.oldest() if len(self._reading) > MANY_UNREAD else None
        untaken = self._inbox.waited() if len(self._inbox) > MANY_UNTAKEN else 0
        return untaken > FULL_MS or (oldest is not None and self._roster.now() - oldest > FULL_MS)

    def _calls_wait(self) -> bool:
        return self._watch.lag() > LATE_MS

    def hand_on_due(self) -> None:
        """Hand on each report whose wait is over: a timer comes late where this process is, and its host is heard."""
        now = self._roster.now()
        for session in [*self._folding.values()]:
            if session.reported_at is None or now - session.reported_at >= FOLD_MS:
                self._hand_on_folded(session)

    # ------------------------------------------------------------------------------------------------ what is refused

    def _implausible(self, session: Session, refusal: Exception) -> None:
        self._alarm(f"host {session.host}: {refusal}", f"host {session.host} tells what cannot be")
        self._inbox.post(session.pool, HostRefused(session.host, str(refusal)))
        session.close(f"refused: {refusal}", grpc.StatusCode.INVALID_ARGUMENT)

    def _over_budget(self, host: HostId, refusal: OverBudget) -> None:
        """Counted each time; its pool and people are told at most once a second, so that they are not flooded."""
        self._roster.tally.over_budget(refusal.word)
        now = self._roster.now()
        if host in self._told and now - self._told[host] < TELL_EVERY_MS:
            return
        self._told = {each: at for each, at in self._told.items() if now - at < TELL_EVERY_MS} | {host: now}
        self._roster.warn(f"refused: host {host or 'of no certificate'}: {refusal}", f"host {host} is over a budget")
        if on_record := self._roster.pool_of(host):
            self._inbox.post(on_record, HostRefused(host, str(refusal), over_budget=True))

    def _shut_mute(self, count: int) -> None:
        self._roster.tally.mute += count
        text = f"{count} connections to the agents' port were shut: so many came, and said nothing"
        self._roster.warn(text, "connections that say nothing")

    def _tell_cut(self, host: HostId, told: tuple[str, ...]) -> None:
        for text in told:
            self._roster.tally.cut += 1
            # One topic of each host: its words must not push out what else there is to warn of.
            self._roster.warn(f"host {host}: {text}; what is more is not known", f"host {host} says what is too long")

    async def _renew(self, session: Session, asked: pb.RenewalRequest) -> None:
        """Answer a request for another certificate; nothing of it ends the stream."""
        if session.identity is None:
            return
        try:
            granted = await self._enrolment.renew(session.identity, asked.csr_pem, asked.signature)
            reply = pb.Renewal(
                certificate_pem=granted.certificate, ca_pem=granted.roots, renew_after_s=granted.renew_after_s
            )
        except (NotEnrolled, JournalError) as error:
            text = error.text if isinstance(error, NotEnrolled) else "the collector's journal cannot be written now"
            _log.warning("host %s: its certificate is not renewed: %s", session.host, error)
            reply = pb.Renewal(refusal=text, renew_after_s=RENEW_AGAIN_S)
        session.send(pb.CollectorMessage(renewal=reply))

    def _alarm(self, text: str, about: str = "") -> None:
        _log.warning("refused: %s", text)
        self._roster.warn(f"refused: {text}", about)
