"""Performs what the engine asks for, after it is durable. Each effect is begun here and never waited for."""

from __future__ import annotations

import asyncio
from typing import Protocol

from poolwarden_collector.core import orders as core
from poolwarden_collector.core.facts import PoolId
from poolwarden_collector.shell import wire_orders
from poolwarden_collector.shell.fencer import Fencer
from poolwarden_collector.shell.prober import Prober
from poolwarden_collector.shell.roster import Roster
from poolwarden_collector.shell.sessions import Sessions


class Effects(Protocol):
    """How effects are performed; ``RaiseEpoch`` never comes here, it is the service's own."""

    def perform(self, pool: PoolId, effect: core.Effect) -> None: ...


class Replies:
    """Operators' commands that wait for the engine's answer."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[core.Reply]] = {}

    def expect(self, request_id: str) -> asyncio.Future[core.Reply]:
        future: asyncio.Future[core.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        return future

    def forget(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)

    def answer(self, reply: core.Reply) -> None:
        """Nobody may be waiting any more (or the command was replayed): then the journal alone tells."""
        future = self._waiting.pop(reply.request_id, None)
        if future is not None and not future.done():
            future.set_result(reply)


class Performer:
    """The real thing: agents' streams, fence devices, probes, operators."""

    def __init__(self, roster: Roster, sessions: Sessions, fencer: Fencer, prober: Prober, replies: Replies) -> None:
        self._roster = roster
        self._sessions = sessions
        self._fencer = fencer
        self._prober = prober
        self._replies = replies

    def perform(self, pool: PoolId, effect: core.Effect) -> None:
        """Begin one effect. An order for a host without a stream is dropped: the engine asks again."""
        match effect:
            case core.SendOrder(order):
                if (session := self._sessions.of(order.host)) is not None:
                    # safety: the epoch is the durable one of this run; the gate at the host refuses lower ones.
                    session.send(session.state.order_to_pb(order, self._roster.epoch, pool))
            case core.SendChallenge(host, nonce):
                if (session := self._sessions.of(host)) is not None:
                    session.send(wire_orders.challenge(nonce))
            case core.SendSettings(host, targets):
                if (session := self._sessions.of(host)) is not None:
                    policy = self._roster.config.policy_of(pool)
                    session.send(wire_orders.settings_message(policy, targets))
            case core.ReadPower():
                self._fencer.read_power(pool, effect)
            case core.PowerOff():
                self._fencer.power_off(pool, effect)
            case core.ProbeFromCollector(_, target):
                self._prober.aim(pool, target)
            case core.AnswerGate(host):
                if (session := self._sessions.of(host)) is not None:
                    session.send(session.state.gate_to_pb(effect, self._roster.epoch))
            case core.Reply():
                self._replies.answer(effect)
            case _:
                raise TypeError(f"{type(effect).__name__} is no effect that is performed here")
