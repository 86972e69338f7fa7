"""Lab worlds for measuring: the shipped agents and collector, real time, real sockets, a real journal.

What differs from production is what `poolwarden_lab.processes.lab_policy` shortens, and the cool-down of a pool, which
is over at once so that rounds can follow each other. Neither lies between a loss of power and the promote order.
Everything below runs in the namespaces that `__main__` has entered; where they are refused power loss is not silence,
and every figure of a world says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_lab.demo.feed import Feed
from poolwarden_lab.processes.lab import World, WorldSettings
from poolwarden_lab.processes.operator_link import OperatorLink, wait_healthy

HEALTHY_LIMIT_S = 180.0
COOLDOWN_MS = 1_000


@dataclass(frozen=True, slots=True)
class Stage:
    """A healthy world, the operator's link to its collector, and its journal as it is written."""

    world: World
    link: OperatorLink
    feed: Feed

    async def healthy(self) -> pb.PoolStatus:
        """The pool once everything is as at the start: all heard, devices bound, nothing open, owed or cooling down.

        Raises TimeoutError with what stands against it.
        """
        hosts = len(self.world.machines)
        pool = await wait_healthy(self.link, hosts, HEALTHY_LIMIT_S, self.world.hopeless)
        try:
            async with asyncio.timeout(HEALTHY_LIMIT_S):
                while pool.HasField("failover") or pool.owed or pool.cooldown_ms or pool.verdict != "Healthy":
                    await asyncio.sleep(0.1)
                    pool = await self.link.pool() or pool
        except TimeoutError:
            raise TimeoutError(f"still open: {pool.failover.blocker} {list(pool.owed)} {pool.sentence}") from None
        return await wait_healthy(self.link, hosts, HEALTHY_LIMIT_S, self.world.hopeless)

    def notes(self) -> tuple[str, ...]:
        """How this differs from production."""
        limits = [f"without namespaces: {text}" for text in self.world.network.limitations()]
        return (self.world.headline, *limits)


@contextlib.asynccontextmanager
async def stage(
    hosts: int, refused: str, python: str = sys.executable, factor: float = 10.0, vms: int = 1
) -> AsyncIterator[Stage]:
    """A world that is healthy; taken down at the end, whatever happened."""
    policy: dict[str, int | bool | str] = {"cooldown": COOLDOWN_MS}
    world = World(
        WorldSettings(
            hosts=hosts, time_factor=factor, agent_python=python, policy=policy, vms_per_host=vms, refused=refused
        )
    )
    link = OperatorLink(world.operator_target)
    feed = Feed(link)
    try:
        await world.start()
        feed.start()
        made = Stage(world, link, feed)
        await made.healthy()
        yield made
    finally:
        await feed.stop()
        await link.close()
        await world.stop()
