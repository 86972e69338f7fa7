"""A healthy pool beside somebody with a host's certificate: real processes, real TLS, each on a core of its own.

Each test prints how old the pool's agents were at most, alone and beside the attack: they stay within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import operator_pb2 as op
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.store.journal import Journal, Row

from .rig import HOSTS, POOL, PlayedAgent, mono_ms
from .test_main import ENVIRONMENT, Collector

pytestmark = pytest.mark.long

OTHER = POOL[:-1] + "2"
EVIL = HOSTS[0][:-1] + "9"
SAMPLES, EVERY_S = 30, 0.1
STORED = 250_000  # entries that questions have to look at
ATTACKS = ("hellos", "messages", "hosts", "texts", "mute", "questions")


@dataclass(frozen=True)
class Figures:
    """Of some looks: the oldest agent's age in each, ms, and the pool's verdicts."""

    ages: tuple[int, ...]
    verdicts: frozenset[str]

    def __str__(self) -> str:
        return f"at most {max(self.ages)} ms, median {statistics.median(self.ages):.0f} ms"


def facts(number: int) -> dict[str, Any]:
    """What a host of a healthy pool says; the first is its master."""
    master, now = number == 0, mono_ms()
    kind = pb.RoleFacts.MASTER if master else pb.RoleFacts.MEMBER
    address = "" if master else "192.0.2.1"
    hosts = [
        pb.PoolHost(host_uuid=h, name=f"host-{h[-1]}", address=f"192.0.2.{h[-1]}", enabled=True, live=True)
        for h in HOSTS
    ]
    probes = [
        pb.Probe(
            host_uuid=h, address=f"192.0.2.{h[-1]}", outcome=pb.Probe.ANSWERED, probed_mono_ms=now, answered_mono_ms=now
        )
        for h in HOSTS
        if h != HOSTS[number]
    ]
    said: dict[str, Any] = {
        "freshness": pb.Freshness(host_mono_ms=now, xapi_mono_ms=now, probes_mono_ms=now, pool_view_mono_ms=now),
        "role": pb.RoleFacts(
            pool_conf=kind,
            master_address=address,
            running=kind,
            running_master_address=address,
            serves_as_master=master,
        ),
        "xapi": pb.XapiFacts(
            liveness=pb.XapiFacts.ANSWERS,
            liveness_since_mono_ms=1,
            socket_liveness=pb.XapiFacts.ANSWERS,
            socket_since_mono_ms=1,
            pid=100,
            start_ticks=100,
            emergency=pb.NO,
            startup_cookie=True,
        ),
        "database": pb.DatabaseFacts(generation=50, ha_armed=pb.NO, rolling_upgrade=pb.NO),
        "domains": pb.DomainList(readable=True),
        "probes": pb.ProbeList(probes=probes),
        "management_address": f"192.0.2.{HOSTS[number][-1]}",
    }
    if master:
        view = pb.PoolView(
            pool_uuid=POOL, pool_name="gold", master_uuid=HOSTS[0], hosts=hosts, ha_enabled=pb.NO, rolling_upgrade=pb.NO
        )
        said["pool_view"] = view
    return said


class Guarded:
    """A collector and a healthy pool of three hosts, whose agents report twice a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.collector = Collector(folder, '[policy]\nquiet_time = "3s"\nreport_interval = "500ms"\n')
        self.bundles = {h: certificates.issue_host(folder / "ca", h, folder / h) for h in (*HOSTS, EVIL)}
        self.alone: Figures | None = None
        self.streams = 0

    async def agent(self, number: int, pause: float = 0.5) -> None:
        """One healthy agent, which opens its stream again where that ends."""
        while True:
            agent = PlayedAgent(self.collector.port, self.bundles[HOSTS[number]], HOSTS[number])
            self.streams += 1
            try:
                await agent.attach()
                while True:
                    challenged = asyncio.ensure_future(self._answer(agent, HOSTS[number]))
                    await agent.send(report=pb.Report(full=True, **facts(number)))
                    while not challenged.done():
                        await asyncio.sleep(pause)
                        await agent.send(report=pb.Report(**facts(number)))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.sleep(0.3)
            finally:
                await agent.close()

    async def _answer(self, agent: PlayedAgent, host: str) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while (message := await agent.stream.read()) is not grpc.aio.EOF:
                if message.WhichOneof("body") == "challenge":
                    answer = pb.ChallengeAnswer(nonce=message.challenge.nonce, boot_id=f"boot-{host[-1]}")
                    await agent.send(challenge_answer=answer)

    async def look(self, *attack: str, pause: float = 0.5) -> Figures:
        """How its agents do, beside this attack."""
        async with grpc.aio.insecure_channel(f"unix:{self.folder / 'c.sock'}") as channel:
            stub: Any = rpc.OperatorStub(channel)
            tasks = [asyncio.ensure_future(self.agent(n, pause if n == 0 else 0.5)) for n in range(3)]
            try:
                await self._healthy(stub)
                with self._attacked(*attack):
                    return await self._figures(stub)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _healthy(self, stub: Any) -> None:
        async with asyncio.timeout(60):
            while True:
                pool = await self._pool(stub)
                if pool is not None and pool.verdict == "Healthy" and all(h.agent_age_ms < 2_000 for h in pool.hosts):
                    return
                await asyncio.sleep(0.1)

    async def _figures(self, stub: Any) -> Figures:
        looks = []
        await asyncio.sleep(0.5)  # it has begun
        for _ in range(SAMPLES):
            await asyncio.sleep(EVERY_S)
            pool = await self._pool(stub)
            looks.append((max(host.agent_age_ms for host in pool.hosts), pool.verdict))
        return Figures(tuple(age for age, _ in looks), frozenset(verdict for _, verdict in looks))

    async def _pool(self, stub: Any) -> Any:
        try:
            reply = await stub.Status(op.StatusRequest(), timeout=10, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            return None
        return next((pool for pool in reply.pools if pool.pool_uuid == POOL), None)

    @contextlib.contextmanager
    def _attacked(self, *attack: str) -> Iterator[None]:
        if not attack:
            yield
            return
        given = [str(self.collector.port), str(self.folder / "c.sock"), str(self.folder / EVIL), EVIL, OTHER]
        script = Path(__file__).with_name("attacker.py")
        line = [sys.executable, str(script), *attack, *given]
        process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, cores[-1:])
        os.sched_setaffinity(self.collector.process.pid, cores[:1])
        try:
            yield
            assert process.poll() is None, "the attacker ended by itself"
        finally:
            process.kill()
            process.wait()
            os.sched_setaffinity(self.collector.process.pid, cores)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("attacked")
    journal = Journal(folder / "state")
    journal.begin_epoch()
    journal.commit("", [Entry(Kind.CONFIGURED, "x" * 80, {})])  # of no pool: not read at the start
    with journal._transaction("a long past") as db:
        columns = ", ".join(Row.__slots__[1:])
        while next(db.query("SELECT count(*) AS n FROM entries"))["n"] < STORED:
            db.execute(f"INSERT INTO entries ({columns}) SELECT {columns} FROM entries")
    journal.close()
    pool = Guarded(folder)
    try:
        pool.alone = asyncio.run(pool.look())
        yield pool
    finally:
        pool.collector.end(signal.SIGTERM)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_healthy_pool_is_heard_beside(guarded: Guarded, attack: str, capsys: pytest.CaptureFixture[str]) -> None:
    files, began = [guarded.folder / "state" / name for name in ("journal.db", "journal.db-wal")], time.monotonic()
    before = sum(file.stat().st_size for file in files if file.exists())
    beside, alone = asyncio.run(guarded.look(attack)), guarded.alone
    assert alone is not None
    wrote = sum(file.stat().st_size for file in files if file.exists()) - before
    with capsys.disabled():
        print(f"\n  {attack}: {beside}; alone {alone}; journal +{wrote >> 10} KiB in {time.monotonic() - began:.0f} s")
    assert beside.verdicts == {"Healthy"}
    assert statistics.median(beside.ages) <= statistics.median(alone.ages) + 1_000
    assert max(beside.ages) <= max(alone.ages) + 3_000
    assert wrote < 16 << 20


def test_a_master_whose_own_agent_floods_is_not_taken_for_lost(
    guarded: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = asyncio.run(guarded.look(pause=0.001))
    with capsys.disabled():
        print(f"\n  a flood of its own master's agent: {beside}; alone {guarded.alone}; {sorted(beside.verdicts)}")
    # Its stream does end again and again: that is worth a suspicion, and no more.
    assert beside.verdicts <= {"Healthy", "Suspect"} and max(beside.ages) < 4_000
