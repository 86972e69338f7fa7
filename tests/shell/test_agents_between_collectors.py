"""The real agent between two real collectors of one authority, each with an order key of its own."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from tests.agent import tree as trees
from tests.agent.conftest import configure

from poolwarden_agent.core import gate_state
from poolwarden_agent.core.collector_turns import first_of
from poolwarden_agent.dom0.system import order_key
from poolwarden_agent.dom0.system.slots import Slots
from poolwarden_collector.shell.agents.elsewhere import Elsewhere
from poolwarden_collector.shell.agents.order_key import load_or_make

from .rig import Rig, running, until, write_config

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


def heard(rig: Rig) -> bool:
    """Has this collector the host's stream, and the host its epoch on disk?"""
    sessions = rig.parts.gateway._sessions
    epoch = rig.parts.service.roster.epoch
    session = sessions.of(trees.HOST)
    return session is not None and session.state.acknowledged == epoch


def address(rig: Rig) -> str:
    return f"127.0.0.1:{rig.parts.gateway.port}"


def stored(tree: trees.Tree) -> int:
    return gate_state.decode(Slots(tree.path("var/lib/poolwarden")).load()).epoch


async def test_it_goes_to_its_pools_collector_and_moves_with_the_pool(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    write_config(folders[0])
    for name in ("ca", "tls"):
        shutil.copytree(folders[0] / name, folders[1] / name)
    tree = trees.Tree(tmp_path / "h1")
    async with running(folders[0]) as one, running(folders[1]) as two:
        bundle = one.bundle(trees.HOST)
        for name, path in (("ca", bundle.ca), ("cert", bundle.cert), ("key", bundle.key)):
            tree.put(f"etc/poolwarden/tls/{name}.pem", path.read_bytes(), 0o600)
        keys = [load_or_make(rig.config.state_dir).public for rig in (one, two)]
        order_key.pin(str(tree.root), keys)
        # The owner's epoch is the lower one of the two: a welcome of the other one would depose it here.
        low, high = sorted((one, two), key=lambda rig: rig.parts.service.roster.epoch)
        high.parts.gateway._owner_of = lambda _: Elsewhere(address(low), "low", "it has this pool")
        listed = [address(high), address(low)]
        configure(tree, ", ".join(listed if first_of(trees.HOST, 2) == 0 else listed[::-1]))
        agent = trees.Agent(tree).start()
        try:
            await until(lambda: heard(low))
            assert await asyncio.to_thread(stored, tree) == low.parts.service.roster.epoch
            assert trees.POOL not in high.parts.service.roster.pools and "it has this pool" in agent.said()
            high.parts.gateway._owner_of = lambda _: None
            low.parts.gateway._owner_of = lambda _: Elsewhere(address(high), "high", "it was given away")
            low.parts.gateway._sessions.send_on(trees.POOL, Elsewhere(address(high), "high", "it was given away"))
            await until(lambda: heard(high))
            assert await asyncio.to_thread(stored, tree) == high.parts.service.roster.epoch
            assert low.parts.gateway._sessions.of(trees.HOST) is None
            assert not any("order key" in each for rig in (one, two) for each in rig.parts.service.roster.warnings())
        finally:
            await asyncio.to_thread(agent.stop)
