"""Events that wait because nothing can be made durable: kept in order, coalesced so that they stay few.

Ticks are dropped (time will have passed anyway), of several reports on one stream only the newest is kept, everything
else is kept as it came: there is little of it, because while nothing can be written nothing is asked of anybody.
"""

from __future__ import annotations

from poolwarden_collector.core.model.events import AgentReported, CollectorProbed, Tick
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.queue.happening import Happening


class Backlog:
    """Happenings in the order of their arrival."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Happening] = {}
        self._count = 0

    def keep(self, happening: Happening) -> None:
        if isinstance(happening.event, Tick):
            return
        key = self._key(happening)
        # A newer report takes the older one's end of the line, after everything that came before it.
        self._kept.pop(key, None)
        self._kept[key] = happening

    def take_all(self) -> list[Happening]:
        kept = list(self._kept.values())
        self._kept = {}
        return kept

    def take(self, pool: PoolId) -> list[Happening]:
        """This pool's alone; the others' wait on."""
        taken = [each for each in self._kept.values() if each.pool == pool]
        self._kept = {key: each for key, each in self._kept.items() if each.pool != pool}
        return taken

    def pools(self) -> tuple[PoolId, ...]:
        """Of which pools something waits, in the order of arrival."""
        return tuple(dict.fromkeys(happening.pool for happening in self._kept.values()))

    def __len__(self) -> int:
        return len(self._kept)

    def _key(self, happening: Happening) -> tuple[object, ...]:
        event = happening.event
        if isinstance(event, AgentReported):
            return (happening.pool, "report", event.host, event.stream)
        if isinstance(event, CollectorProbed):
            return (happening.pool, "probe", event.host)
        self._count += 1
        return (self._count,)
