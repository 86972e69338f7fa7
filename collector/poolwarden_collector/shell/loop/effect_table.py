"""Who performs which effect: one table, which the service and the simulated world both fill.

``StandDown`` and ``RaiseEpoch`` are not in it: the loop does them itself (engine_loop.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model.values import PoolId


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectTable:
    """One performer per effect; each begins it for a pool and waits for nothing."""

    send_order: Callable[[PoolId, effects.SendOrder], object]
    hand_over: Callable[[PoolId, effects.HandOver], object]
    answer_gate: Callable[[PoolId, effects.AnswerGate], object]
    send_challenge: Callable[[PoolId, effects.SendChallenge], object]
    send_settings: Callable[[PoolId, effects.SendSettings], object]
    read_power: Callable[[PoolId, effects.ReadPower], object]
    hasten: Callable[[PoolId, effects.Hasten], object]
    power_off: Callable[[PoolId, effects.PowerOff], object]
    power_on: Callable[[PoolId, effects.PowerOn], object]
    recall: Callable[[PoolId, effects.Recall], object]
    probe: Callable[[PoolId, effects.ProbeFromCollector], object]
    reply: Callable[[PoolId, effects.Reply], object]

    def perform(self, pool: PoolId, effect: effects.Effect) -> None:
        """Begin one effect. An order for a host without a stream is dropped: the engine asks again."""
        match effect:
            case effects.SendOrder():
                self.send_order(pool, effect)
            case effects.HandOver():
                self.hand_over(pool, effect)
            case effects.AnswerGate():
                self.answer_gate(pool, effect)
            case effects.SendChallenge():
                self.send_challenge(pool, effect)
            case effects.SendSettings():
                self.send_settings(pool, effect)
            case effects.ReadPower():
                self.read_power(pool, effect)
            case effects.Hasten():
                self.hasten(pool, effect)
            case effects.PowerOff():
                self.power_off(pool, effect)
            case effects.PowerOn():
                self.power_on(pool, effect)
            case effects.Recall():
                self.recall(pool, effect)
            case effects.ProbeFromCollector():
                self.probe(pool, effect)
            case effects.Reply():
                self.reply(pool, effect)
            case _:
                raise TypeError(f"{type(effect).__name__} is no effect that is performed here")
