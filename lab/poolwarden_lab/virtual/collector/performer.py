"""Performs what the engine asks for in virtual time, as shell/loop/performer.py does in real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.events import Event
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.agents.database_transfer import PoolHandovers
from poolwarden_collector.shell.agents.messages import orders
from poolwarden_collector.shell.loop.effect_table import EffectTable

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.collector import SimCollector


class SimPerformer:
    """``own_target``: what the collector itself probes, by pool."""

    def __init__(self, shell: SimCollector) -> None:
        self._shell = shell
        self._handovers = PoolHandovers(shell.order, shell.post)
        self.own_target: dict[PoolId, Target] = {}
        fencer, sessions = shell.fencer, shell.sessions
        self.perform = EffectTable(
            send_order=lambda pool, effect: shell.order(pool, effect.order),
            hand_over=lambda pool, effect: self._handovers.begin(pool, effect, shell.now),
            answer_gate=lambda _, effect: sessions.answer_gate(effect.host, effect),
            send_challenge=lambda _, effect: sessions.send(effect.host, orders.challenge(effect.nonce)),
            send_settings=self._send_settings,
            read_power=fencer.read_power,
            power_off=fencer.power_off,
            power_on=fencer.power_on,
            hasten=lambda _, effect: fencer.hasten(effect),
            recall=lambda _, effect: fencer.recall(effect),
            probe=lambda pool, effect: self.own_target.update({pool: effect.target}),
            reply=lambda _, effect: shell.replies.update({effect.request_id: effect}),
        ).perform

    def _send_settings(self, pool: PoolId, effect: effects.SendSettings) -> None:
        policy = self._shell.roster.config.policy_of(pool)
        self._shell.sessions.send(effect.host, orders.settings_message(policy, effect.targets))

    def forget(self, pool: PoolId) -> None:
        """The pool is another collector's: nothing of it goes on here."""
        self.own_target.pop(pool, None)
        self._handovers.forget(pool)

    def heard(self, pool: PoolId, event: Event) -> None:
        """Take an event on to the runs of members and to the pool's handovers."""
        self._shell.fencer.heard(pool, event)
        self._handovers.heard(pool, event, self._shell.now)
