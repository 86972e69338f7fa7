"""Very many pools in a collector's operator interface: states of the engine's own, under UUIDs and names of theirs."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.core.pool import POOL, Guarded, uuid

from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.main import assemble, stop
from poolwarden_collector.shell.parts import Parts
from poolwarden_collector.shell.store.journal import Journal

from .rig import write_config

NOW = 73_000  # ms, after a minute and a bit
Name = Callable[[int], str]


def called(number: int) -> str:
    return f"pool-{number:04d}"


def uuid_of(number: int) -> str:
    """Of the pool of this number."""
    return f"{number:08d}{POOL[8:]}"


def host_of(number: int, host: int) -> str:
    """UUID of a host of that pool, from 1 on."""
    return f"{number:06d}{host:02d}{uuid(host)[8:]}"


def kinds(hosts: int) -> list[Guarded]:
    """Twenty pools, of which three are not well: a lost master that waits for a person, a silent member, a pause."""
    healthy = Guarded(hosts=hosts)
    lost, silent, paused = Guarded(hosts=hosts, devices=False), Guarded(hosts=hosts), Guarded(hosts=hosts)
    lost.cut_power()
    silent.cut_power(hosts)
    paused.say("pause", reason="works")
    for pool in (lost, silent, paused, healthy):
        pool.run(60_000)
    return [lost, silent, paused, *[healthy] * 17]


def pools(count: int, hosts: int, name: Name = called) -> Iterator[Pool]:
    """So many of them, as of ``NOW``."""
    made = kinds(hosts)
    assert {pool.now for pool in made} == {NOW}
    kept = [pickle.dumps(pool.pool) for pool in made]
    for number in range(count):
        packed = kept[number % len(kept)]
        packed = packed.replace(POOL.encode(), uuid_of(number).encode())
        for host in range(1, hosts + 1):
            packed = packed.replace(uuid(host).encode(), host_of(number, host).encode())
        pool: Pool = pickle.loads(packed)  # noqa: S301 - it was packed here
        yield replace(pool, record=replace(pool.record, name=name(number)))


@contextlib.asynccontextmanager
async def served(folder: Path, made: Iterable[Pool], extra: str = "") -> AsyncIterator[Parts]:
    """A collector whose engine takes nothing and whose clock stands at ``NOW``, and its operators, with these pools."""
    config = load(write_config(folder, extra))
    journal = Journal(config.state_dir, config.name, config.alerts.names, "", config.routes())
    journal.begin_epoch()
    parts = assemble(config, journal)
    roster = parts.service.roster
    roster.now, roster.started_at = lambda: NOW, 0
    roster.be_quiet_again(-NOW)
    roster.pools.update((pool.record.pool, pool) for pool in made)
    await parts.operators.start(config.operator_socket)
    try:
        yield parts
    finally:
        await stop(parts)
        journal.close()
