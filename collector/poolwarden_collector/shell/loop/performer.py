"""Performs what the engine asks for, after it is durable. Each effect is begun here and never waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import orders as core
from poolwarden_collector.core.model.events import DatabaseTransferred, Event, OrderAnswered
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.agents.database_transfer import Handovers
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.queue.inbox import Inbox


class Effects(Protocol):
    """How effects are performed; ``RaiseEpoch`` never comes here, it is the service's own."""

    def perform(self, pool: PoolId, effect: effects.Effect) -> None: ...

    def heard(self, pool: PoolId, event: Event) -> None:
        """An event that was stepped: an answer may belong to a database handover, time ends one."""


class Replies:
    """Operators' commands that wait for the engine's answer."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[effects.Reply]] = {}

    def expect(self, request_id: str) -> asyncio.Future[effects.Reply]:
        future: asyncio.Future[effects.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        return future

    def forget(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)

    def answer(self, reply: effects.Reply) -> None:
        """Nobody may be waiting any more (or the command was replayed): then the journal alone tells."""
        future = self._waiting.pop(reply.request_id, None)
        if future is not None and not future.done():
            future.set_result(reply)


def order_sender(roster: Roster, sessions: Sessions) -> Callable[[PoolId, core.Order], bool]:
    """How an order goes to its host; false: it has no stream, or this collector has stood down in that pool."""

    def send(pool: PoolId, order: core.Order) -> bool:
        session = sessions.of(order.host)
        if pool in roster.stood_down or session is None:
            return False
        # safety: the epoch is the durable one of this run; the gate at the host refuses lower ones.
        session.send(session.state.order_to_pb(order, roster.epoch, pool))
        return True

    return send


class Performer:
    """The real thing: agents' streams, fence devices, probes, operators."""

    def __init__(
        self, roster: Roster, sessions: Sessions, fencer: Fencer, prober: Prober, replies: Replies, inbox: Inbox
    ) -> None:
        self._roster = roster
        self._sessions = sessions
        self._fencer = fencer
        self._prober = prober
        self._replies = replies
        self._inbox = inbox
        self._send = order_sender(roster, sessions)
        self._handovers: dict[PoolId, Handovers] = {}

    def heard(self, pool: PoolId, event: Event) -> None:
        """Take an event on to the pool's handovers."""
        self._fencer.heard(pool, event)
        handovers = self._handovers.get(pool)
        if handovers is None:
            return
        if isinstance(event, OrderAnswered):
            handovers.answered(event.host, event.result, self._roster.now())
        handovers.tick(self._roster.now())

    def _handovers_of(self, pool: PoolId) -> Handovers:
        if pool not in self._handovers:

            def tell(event: DatabaseTransferred) -> None:
                self._inbox.post(pool, event)

            self._handovers[pool] = Handovers(lambda order: self._order(pool, order), tell)
        return self._handovers[pool]

    def _order(self, pool: PoolId, order: core.Order) -> None:
        self._send(pool, order)

    def perform(self, pool: PoolId, effect: effects.Effect) -> None:
        """Begin one effect. An order for a host without a stream is dropped: the engine asks again."""
        match effect:
            case effects.SendOrder(order):
                self._order(pool, order)
            case effects.HandOver():
                self._handovers_of(pool).begin(effect, self._roster.now())
            case effects.SendChallenge(host, nonce):
                if (session := self._sessions.of(host)) is not None:
                    session.send(orders.challenge(nonce))
            case effects.SendSettings(host, targets):
                if (session := self._sessions.of(host)) is not None:
                    policy = self._roster.config.policy_of(pool)
                    session.send(orders.settings_message(policy, targets))
            case effects.ReadPower():
                self._fencer.read_power(pool, effect)
            case effects.PowerOff():
                self._fencer.power_off(pool, effect)
            case effects.Recall():
                self._fencer.recall(effect)
            case effects.PowerOn():
                self._fencer.power_on(pool, effect)
            case effects.ProbeFromCollector(_, target):
                self._prober.aim(pool, target)
            case effects.AnswerGate(host):
                if (session := self._sessions.of(host)) is not None:
                    session.send(session.state.gate_to_pb(effect, self._roster.epoch))
            case effects.Reply():
                self._replies.answer(effect)
            case _:
                raise TypeError(f"{type(effect).__name__} is no effect that is performed here")
