"""The agents' gateway in virtual time: streams to sessions, with the production rules (gateway.py, sessions.py).

The first message is Hello. A newer stream of the same host replaces the older one. A host that is on record in another
pool is refused, and that pool hears of it. What a message means is the production ``StreamState``'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.agents.elsewhere import CAPABILITY, Elsewhere
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.messages.bounds import Implausible, admit
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_lab.virtual.world.streams import Stream

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.collector import SimCollector

APART = ("order", "challenge", "gate_answer")  # what may be told twice, or overtake


@dataclass(eq=False)
class Session:
    """One accepted stream; ``host`` is empty before its Hello."""

    stream: Stream
    state: StreamState
    host: HostId = ""
    pool: PoolId = ""
    sent_on: bool = False  # its pool is another collector's: nothing is heard on it any more
    closing: str | None = None  # production's word for a stream that is being closed: here it is at once


class SimSessions:
    """Every stream of one collector process."""

    def __init__(self, shell: SimCollector) -> None:
        self._shell = shell
        self._sessions: list[Session] = []
        self._of: dict[HostId, Session] = {}

    def accept(self, stream: Stream) -> Callable[[bytes], None]:
        """A new connection; what to do with each of its messages."""
        session = Session(stream, StreamState(stream.number))
        self._sessions.append(session)

        def receive(raw: bytes) -> None:
            sent_at = stream.up.sent_at if stream.up is not None else 0
            self._shell.enter(lambda: self._on_message(session, raw, sent_at))

        return receive

    def _on_message(self, session: Session, raw: bytes, sent_at: int) -> None:
        if session not in self._sessions or session.sent_on:
            return
        message = pb.AgentMessage.FromString(raw)
        if not session.host and not self._admit(session, message):
            session.stream.end()
            return
        self._shell.world.heard(self._shell, session.host, sent_at)
        try:
            events = session.state.on_message(message, self._shell.now)
        except Implausible as refusal:
            self._shell.take(session.pool, ev.HostRefused(session.host, str(refusal)))
            session.stream.end()
            return
        for event in events:
            self._shell.take(session.pool, event)
        for reply in session.state.take_replies():
            self._down(session, reply)

    def _admit(self, session: Session, message: pb.AgentMessage) -> bool:
        """Hear the Hello and answer Welcome; False: it is refused."""
        if message.WhichOneof("body") != "hello":
            return False
        roster, hello = self._shell.roster, message.hello
        on_record = roster.pool_of(hello.host_uuid)
        pool = hello.pool_uuid or on_record
        if not pool:
            return False
        if on_record and on_record != pool:
            roster.warn(f"host {hello.host_name} is of pool {on_record} and now says that it is of {pool}")
            self._shell.take(on_record, ev.HostElsewhere(hello.host_uuid, hello.host_name, pool))
            return False
        try:
            admit(message, lambda: roster.limits(pool))
        except Implausible as refusal:
            if on_record:
                self._shell.take(on_record, ev.HostRefused(hello.host_uuid, str(refusal)))
            return False
        elsewhere = self._shell.owner_of(pool)
        if elsewhere is not None:
            session.state.introduce(message)
            session.pool = pool
            return self._send_on(session, elsewhere)
        policy = roster.config.policy_of(pool)
        session.host, session.pool = hello.host_uuid, pool
        session.state = StreamState(
            session.stream.number, pool, policy.probe_timeout, lambda: roster.limits(pool), roster.one_of_several
        )
        older, self._of[session.host] = self._of.get(session.host), session
        self._down(session, orders.welcome(roster.charge(pool).epoch, policy, roster.config.name))
        if older is not None:
            older.stream.end()
        return True

    def _send_on(self, session: Session, owner: Elsewhere) -> bool:
        """False: it cannot follow, and is refused."""
        session.sent_on = True
        self._down(session, owner.message())
        return CAPABILITY in session.state.capabilities

    def send_on(self, pool: PoolId, owner: Elsewhere) -> None:
        """Another collector has this pool from now on."""
        for session in [each for each in self._sessions if each.pool == pool]:
            self.send_one_on(session, owner)

    def send_one_on(self, session: Session, owner: Elsewhere) -> None:
        """One agent is sent to another collector."""
        if not self._send_on(session, owner):
            session.stream.end()

    def of(self, host: HostId) -> Session | None:
        return self._of.get(host)

    def of_pool(self, pool: PoolId) -> list[Session]:
        """Those of this pool's hosts."""
        return [session for session in self._of.values() if session.pool == pool]

    def __len__(self) -> int:
        """Hosts that are heard."""
        return len(self._of)

    def ended(self, stream: Stream) -> None:
        session = next((each for each in self._sessions if each.stream is stream), None)
        if session is None:
            return
        self._sessions.remove(session)
        if self._of.get(session.host) is session:
            del self._of[session.host]
        if session.host and not session.sent_on:
            self._shell.take(session.pool, session.state.ended())

    def end_all(self) -> None:
        """The process died: every stream is reset."""
        sessions, self._sessions = self._sessions, []
        self._of.clear()
        for session in sessions:
            session.stream.end()

    def send(self, host: HostId, message: pb.CollectorMessage) -> None:
        session = self._of.get(host)
        if session is not None:
            self._down(session, message)

    def send_order(self, pool: PoolId, order: out.Order) -> bool:
        """False: that host has no stream."""
        session = self._of.get(order.host)
        if session is not None:
            self._down(session, session.state.order_to_pb(order, self._shell.roster.charge(pool).epoch, pool))
        return session is not None

    def answer_gate(self, host: HostId, answer: effects.AnswerGate) -> None:
        session = self._of.get(host)
        if session is not None:
            epoch = self._shell.roster.charge(session.pool).epoch
            self._down(session, session.state.gate_to_pb(answer, epoch))

    def _down(self, session: Session, message: pb.CollectorMessage) -> None:
        if session.stream.open and session.stream.down is not None:
            apart = message.WhichOneof("body") in APART
            session.stream.down.send(message.SerializeToString(), apart=apart)
