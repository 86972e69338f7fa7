"""Several collectors: how long a pool is without its owner, or without its next master, and what commits cost.

Three real collectors on a real etcd of three members, in the lab's world. One round: the pool's owner is killed in
silence (its machine's cable is pulled, then SIGKILL), until another one owns the pool, hears every agent, and finds it
healthy. In every second round the master loses power at the same instant, until its successor is ordered. Then both
come back.

Commits: the same steps, each of one entry, one after the other: as a pool's journal in etcd takes them, by mutual TLS
from this process to the three members, and as a collector's SQLite does, in the same minute on the same disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import tempfile
import time
from pathlib import Path

from figures import Figure, Stopped, reproduce
from settings import Settings, progress

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster import ownership
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.commits import Durable, PoolJournal
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.etcd_access import Access
from poolwarden_collector.shell.cluster.etcd_client import EtcdClient
from poolwarden_collector.shell.cluster.membership import Membership
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.store.journal import Journal
from poolwarden_lab.processes.collectors import EtcdMembers, collector_places, lacking
from poolwarden_lab.processes.lab import World, WorldSettings
from poolwarden_lab.processes.network import Loopback
from poolwarden_lab.processes.operator_link import Entry as Said
from poolwarden_lab.processes.operator_link import OperatorLink, unready, wait_healthy
from poolwarden_lab.processes.places import make_places

NAME = "several"
HOSTS, COLLECTORS = 3, 3
COMMITS = 500
LIMIT_S = 240.0
POOL = "aaaaaaaa-0000-4000-8000-000000000001"


def main(settings: Settings) -> list[Figure]:
    """All figures."""
    if not settings.refused:  # in a network namespace of its own, whose loopback is down
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return asyncio.run(run(settings))


async def run(settings: Settings) -> list[Figure]:
    """All figures; without etcd none."""
    if why := lacking():
        raise Stopped(FileNotFoundError(why), [])
    figures = await _commits(settings)
    samples: dict[str, list[float]] = {"owned": [], "heard": [], "ordered": []}
    try:
        async with _world(settings) as (world, links):
            for number in range(settings.rounds):
                await _round(world, links, samples, with_master=number % 2 == 1)
                said = ", ".join(f"{name} {each[-1]:.1f} s" for name, each in samples.items() if each)
                progress(f"round {number + 1} of {settings.rounds}: {said}")
    except (TimeoutError, OSError, StopIteration) as failure:
        raise Stopped(failure, [*figures, *_takeovers(samples, settings)]) from failure
    return [*figures, *_takeovers(samples, settings)]


def _takeovers(samples: dict[str, list[float]], settings: Settings) -> list[Figure]:
    what = {
        "owned": "kill -9 of a pool's collector to the pool owned by another one",
        "heard": "kill -9 of a pool's collector to every agent heard by another one",
        "ordered": "power loss of master and kill -9 of its collector to the promote order of another one",
    }
    notes = (reproduce(NAME, settings.rounds), "leases of 10 s; the lab's quiet time of 3 s")
    return [Figure(NAME, what[name], "s", tuple(each), None, notes) for name, each in samples.items() if each]


# ------------------------------------------------------------------------------------------------ takeovers


@contextlib.asynccontextmanager
async def _world(settings: Settings):
    world = World(
        WorldSettings(
            hosts=HOSTS, vms_per_host=1, refused=settings.refused, collectors=COLLECTORS, policy={"cooldown": 1_000}
        )
    )
    links: dict[str, OperatorLink] = {}
    try:
        await world.start()
        links = {node: OperatorLink(to) for node, to in zip(world.collectors, world.operator_targets, strict=True)}
        yield world, links
    finally:
        for link in links.values():
            await link.close()
        await world.stop()


async def _round(
    world: World, links: dict[str, OperatorLink], samples: dict[str, list[float]], with_master: bool
) -> None:
    first = next(iter(links.values()))
    pool = await wait_healthy(first, HOSTS, LIMIT_S, world.hopeless)
    async with asyncio.timeout(LIMIT_S):
        while pool.HasField("failover") or pool.owed or pool.cooldown_ms:
            await asyncio.sleep(0.2)
            pool = await first.pool() or pool
    owner = next(each.asked.collector for each in (await first.collectors()).collectors if each.pools)
    other = links[next(node for node in links if node != owner)]
    at = time.monotonic()
    if with_master:
        await world.fault(pool.master_uuid, "power")
    await world.fault(owner, "power")
    taken = await _entry(other, "collector-started", at)
    await _heard(other, HOSTS - with_master)
    samples["owned"].append(taken.mono_ms / 1000 - at)
    samples["heard"].append(time.monotonic() - at)
    if with_master:
        samples["ordered"].append((await _entry(other, "promote-intent", at)).mono_ms / 1000 - at)
        await _entry(other, "closed", at)
    await world.heal(owner)
    if with_master:
        await world.heal(pool.master_uuid)


async def _entry(link: OperatorLink, kind: str, after: float) -> Said:
    """The first entry of this kind after an instant, in whichever collector's journal."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = [each for each in await link.history() if each.kind == kind and each.mono_ms >= after * 1000]
            if found:
                return min(found, key=lambda each: each.mono_ms)
            await asyncio.sleep(0.1)


async def _heard(link: OperatorLink, hosts: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            pool = await link.pool()
            heard = sum(host.agent_connected for host in pool.hosts) if pool is not None else 0
            if pool is not None and heard >= hosts and (hosts < HOSTS or not unready(pool, hosts)):
                return
            await asyncio.sleep(0.05)


# ------------------------------------------------------------------------------------------------ commits


async def _commits(settings: Settings) -> list[Figure]:
    places, network = make_places(None), Loopback(1, "commits", COLLECTORS)
    all_places = collector_places(places, network, COLLECTORS)
    etcd = EtcdMembers(places, network, all_places)
    files = etcd.file_of(all_places[0].name)
    client = EtcdClient(Access(tuple(etcd.endpoints), files.ca, files.cert, files.key))
    try:
        await etcd.start()
        in_etcd = await _in_etcd(client)
        in_sqlite = _in_sqlite()
    finally:
        await client.close()
        await etcd.stop()
        places.clean(keep_home=False)
    note = (reproduce(NAME, settings.rounds), f"{COMMITS} one after the other, in the same minute on the same disk")
    return [
        Figure(NAME, "a pool's step in etcd, three members, with fsync", "ms", tuple(in_etcd), None, note),
        Figure(NAME, "the same step in one collector's SQLite", "ms", tuple(in_sqlite), None, note),
    ]


async def _in_etcd(client: EtcdClient) -> list[float]:
    names, member = Names("bench"), Membership(Names("bench"), "bench", "127.0.0.1:1", clock.awake_or_not_ms)
    async with asyncio.timeout(60):
        while not await _answers(client, names):
            await asyncio.sleep(0.2)
    await carry_out(client, member.join())
    assert member.standing is not None
    owned = await carry_out(client, ownership.claim(names, member.standing, POOL, 1))
    assert isinstance(owned, ownership.Ownership)
    journal, took = PoolJournal(names, owned, PoolTail(PoolRecord(POOL))), []
    for number in range(COMMITS):
        if number % 100 == 0:
            await carry_out(client, member.renew())
        began = time.perf_counter()
        journal.prepare((_entry_of(number),), (), secrets.token_hex(16), clock.wall_text())
        assert isinstance(await carry_out(client, journal.attempt()), Durable)
        took.append((time.perf_counter() - began) * 1000)
    return took


async def _answers(client: EtcdClient, names: Names) -> bool:
    try:
        await carry_out(client, ownership.raise_generation(names, 1))
    except Exception:
        return False
    return True


def _in_sqlite() -> list[float]:
    took = []
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), "bench")
        journal.begin_epoch()
        for number in range(COMMITS):
            began = time.perf_counter()
            journal.commit(POOL, (_entry_of(number),))
            took.append((time.perf_counter() - began) * 1000)
        journal.close()
    return took


def _entry_of(number: int) -> Entry:
    return Entry(Kind.HOST_SEEN, f"host {number} was seen", {"host": f"h{number}", "name": "h", "address": "192.0.2.1"})
