"""Devices that members run, as the collector of a simulation has them run: production's orders, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.model.power import DeviceIdentity, PowerReading, Trouble
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.fencing.device_identity import asked_of_member
from poolwarden_collector.shell.fencing.fencer import power_of, trouble_of
from poolwarden_collector.shell.fencing.member_runs import Ended, Proxies, not_run
from poolwarden_lab.virtual.agent.member_fences import FENCE_AGENT

if TYPE_CHECKING:
    from poolwarden_lab.virtual.collector.collector import SimCollector


class ByMembers:
    """What the members of every pool run for one collector process."""

    def __init__(self, shell: SimCollector) -> None:
        self._shell = shell
        self._proxies: dict[PoolId, Proxies] = {}

    def heard(self, pool: PoolId, event: ev.Event) -> None:
        if pool in self._proxies:
            self._proxies[pool].heard(event, self._shell.now)

    def run(self, pool: PoolId, effect: effects.Effect, action: str, done: Callable[[Ended], None]) -> None:
        """Have the member run it; ``done`` comes as an event of its own."""
        assert isinstance(effect, effects.ReadPower | effects.PowerOff | effects.PowerOn)

        def later(ended: Ended) -> None:
            self._shell.later(0, lambda: done(ended))

        if isinstance(effect.by, effects.Unable):
            later(not_run(effect.by))
            return
        assert effect.by is not None
        limit = next(
            each.hard_limit_ms for each in self._shell.settings.devices[effect.host] if each.name == effect.device
        )
        until, address = (effect.valid_until, effect.address) if isinstance(effect, effects.PowerOff) else (0, "")
        plug = (("plug", effect.device),)
        wanted = out.FenceProxy(FENCE_AGENT, action, plug, limit, effect.host, target_address=address)
        shell = self._shell
        proxies = self._proxies.setdefault(pool, Proxies(lambda order: shell.order(pool, order)))
        proxies.begin(f"{effect.run_id}/{action}", effect.by, wanted, shell.now, later, until)

    def read(self, pool: PoolId, effect: effects.ReadPower) -> None:
        """Identity, ``monitor`` and ``status``, one after the other; answered by PowerRead (fencer.py)."""
        began, steps = self._shell.now, []
        if effect.identify:
            steps.append("inventory" if effect.monitor else "identity")
        steps += ["monitor", "status"] if effect.monitor else ["status"]
        said: list[DeviceIdentity] = []
        monitor: list[str] = []

        def next_step() -> None:
            self.run(pool, effect, steps[0], done)

        def done(ended: Ended) -> None:
            step = steps.pop(0)
            if step in ("identity", "inventory"):
                said.append(asked_of_member(ended).said)
            elif step == "monitor" and ended.run.started:
                monitor.append("" if ended.run.code == 0 else ended.run.text)
            if steps and not (step == "monitor" and ended.run.code is None):
                next_step()
                return
            trouble = ended.trouble if ended.trouble is not Trouble.NONE else trouble_of(ended.run, None)
            through = effect.by.host if isinstance(effect.by, effects.Through) else ""
            reading = PowerReading(
                power_of(ended.run),
                effect.device,
                began,
                self._shell.now,
                ended.run.text,
                said[0] if said else None,
                trouble,
                monitor[0] if monitor else None,
                through=through,
            )
            self._shell.take(pool, ev.PowerRead(effect.host, effect.run_id, reading))

        next_step()
