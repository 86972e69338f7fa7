"""Performs what the engine asks for, after it is durable. Each effect is begun here and never waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import orders as core
from poolwarden_collector.core.model.events import Event
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.agents.database_transfer import PoolHandovers
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.agents.pool_messages import PoolMessages
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.agents.sessions import Session, Sessions
from poolwarden_collector.shell.cluster.takeover import INTENT_FRESH_MS
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.fencing.leave import Leave
from poolwarden_collector.shell.loop.effect_table import EffectTable
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.queue.inbox import Inbox

_NOWHERE = core.Target("", "")  # nothing is probed


class Effects(Protocol):
    """How effects are performed; ``StandDown`` and ``RaiseEpoch`` never come here, they are the loop's own."""

    def perform(self, pool: PoolId, effect: effects.Effect) -> None: ...

    def heard(self, pool: PoolId, event: Event) -> None:
        """An event that was stepped: an answer may belong to a database handover, time ends one."""

    def forget(self, pool: PoolId, why: str) -> None:
        """The pool is another collector's: nothing of it goes on here."""


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
        session = _session(sessions, pool, order.host)
        if roster.why_no_act(pool) or session is None:
            return False
        # safety: the epoch is a durable one, of this run or this ownership; the gate at the host refuses lower ones.
        session.send(session.state.order_to_pb(order, roster.charge(pool).epoch, pool))
        return True

    return send


def power_leave(roster: Roster) -> Leave:
    """What allows a power switch to be begun: one of several has less time, and its right as it stands then."""
    within = INTENT_FRESH_MS if roster.one_of_several else 0
    return Leave(roster.why_no_act, lambda: roster.right_until(), within)


def _session(sessions: Sessions, pool: PoolId, host: HostId) -> Session | None:
    """The host's stream, where it is of this pool: no pool's engine reaches another pool's host."""
    session = sessions.of(host)
    return session if session is not None and session.pool == pool else None


class Performer:
    """The real thing: agents' streams, fence devices, probes, operators."""

    def __init__(
        self,
        roster: Roster,
        sessions: Sessions,
        fencer: Fencer,
        prober: Prober,
        replies: Replies,
        inbox: Inbox,
        messages: PoolMessages,
    ) -> None:
        self._roster = roster
        self._sessions = sessions
        self._fencer = fencer
        self._messages = messages
        self._prober = prober
        self._send = order_sender(roster, sessions)
        self._handovers = PoolHandovers(self._send, inbox.post)
        self.perform = EffectTable(
            send_order=lambda pool, effect: self._send(pool, effect.order),
            hand_over=lambda pool, effect: self._handovers.begin(pool, effect, roster.now()),
            answer_gate=self._answer_gate,
            send_challenge=self._send_challenge,
            send_settings=self._send_settings,
            read_power=fencer.read_power,
            hasten=lambda _, effect: fencer.hasten(effect),
            power_off=fencer.power_off,
            power_on=fencer.power_on,
            recall=lambda _, effect: fencer.recall(effect),
            probe=lambda pool, effect: prober.aim(pool, effect.target),
            reply=lambda _, effect: replies.answer(effect),
        ).perform

    def heard(self, pool: PoolId, event: Event) -> None:
        """Take an event on to the runs of members, to the pool's handovers and to the messages into pools."""
        self._messages.heard(event)
        self._fencer.heard(pool, event)
        self._handovers.heard(pool, event, self._roster.now())

    def forget(self, pool: PoolId, why: str) -> None:
        """Nothing of this pool goes on, and its agents are sent on."""
        self._fencer.forget(pool)
        self._prober.aim(pool, _NOWHERE)
        self._handovers.forget(pool)
        owner = self._roster.elsewhere(pool)
        self._sessions.send_on(pool, replace(owner, reason=owner.reason if owner.address else why))

    def _send_challenge(self, pool: PoolId, effect: effects.SendChallenge) -> None:
        if (session := _session(self._sessions, pool, effect.host)) is not None:
            session.send(orders.challenge(effect.nonce))

    def _send_settings(self, pool: PoolId, effect: effects.SendSettings) -> None:
        if (session := _session(self._sessions, pool, effect.host)) is not None:
            session.send(orders.settings_message(self._roster.config.policy_of(pool), effect.targets))

    def _answer_gate(self, pool: PoolId, effect: effects.AnswerGate) -> None:
        if (session := _session(self._sessions, pool, effect.host)) is not None:
            session.send(session.state.gate_to_pb(effect, self._roster.charge(pool).epoch))
