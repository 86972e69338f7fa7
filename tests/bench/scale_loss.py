"""A thousand pools lose their masters within a minute: when is each decided, and how late is the engine meanwhile?

Pools of three played agents, which answer orders as real ones do (scale_hosts.py). Of each master there is a fence
device with an agent of the benchmark's own, which reads a file: it is ON while the file is there. A lost master's file
goes with it, so its power is OFF when it is read; a share of the devices take ``SLOW_S`` for each answer. The storm
brake is lifted by policy, as a person does who knows that they are really lost.

* own evidence: from the later of the second OFF reading's end and the last answer to an order that this pool's hosts
  gave before it was decided, until the journal has its promote-intent.
* inbox: ``behind_ms`` of the operators' API, asked ten times a second meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from figures import Figure, reproduce
from scale_hosts import host_uuid
from scale_stage import Agents, Collector, Fence, Site
from settings import Settings, progress

from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc

NAME = "scale"
POOLS, HOSTS, WITHIN_S = 1_000, 3, 60
SLOW_S, SLOW_PERCENT = 20, 2
DECIDED_BUDGET_S, INBOX_BUDGET_MS = 10.0, 250.0
BOUND_LIMIT_S, DECIDED_LIMIT_S = 400.0, 240.0
POLICY: dict[str, object] = {"storm_pools": 1_000_000, "storm_percent": 100, "quiet_time": "15s"}
_AGENT = """#!/bin/sh
while read -r line; do
    case $line in
        ip=*) file=${line#ip=} ;;
        action=*) action=${line#action=} ;;
    esac
done
case $action in
    metadata) cat "${0%/*}/metadata.xml" ;;
    status) [ -e "$file" ] && exit 0; [ -e "$file.slow" ] && sleep SLOW; exit 2 ;;
    *) exit 0 ;;
esac
""".replace("SLOW", str(SLOW_S))
_IDENTITY = """#!/bin/sh
while read -r line; do
    case $line in ip=*) echo "uuid=${line##*/}" ;; esac
done
"""
_METADATA = """<?xml version="1.0" ?><resource-agent name="fence_scale" shortdesc="Reads a file">
<parameters><parameter name="ip" unique="0" required="1"><getopt mixed="--ip=[ip]" /><content type="string" />
<shortdesc lang="en">Its file</shortdesc></parameter></parameters><actions>
<action name="on" automatic="0" /><action name="off" /><action name="reboot" /><action name="status" />
<action name="monitor" /><action name="metadata" /></actions></resource-agent>
"""


@dataclass(frozen=True, slots=True)
class Decided:
    """One pool: instants on CLOCK_MONOTONIC, ms."""

    lost: float
    evidence: float
    intent: float
    slow: bool


async def losses(settings: Settings, pools: int = POOLS, within_s: float = WITHIN_S) -> list[Figure]:
    pools = settings.pools or pools
    site = Site()
    collector = agents = None
    try:
        devices = list(_devices(site, pools))
        site.configure(POLICY, devices, _program(site.home))
        collector = Collector(site)
        await collector.listening()
        agents = Agents(site, pools * HOSTS, "--pool-size", str(HOSTS), "--connect-per-s", "40")
        agents.on_gone = lambda said: (site.home / "power" / said["host"]).unlink(missing_ok=True)
        await agents.until(lambda said: bool(said["heard"] == pools * HOSTS), 400, "all are heard")
        await _bound(site, pools)
        progress(f"{pools} pools are healthy, their devices bound; now their masters go")
        used, began = collector.cpu_s(), time.monotonic()
        agents.say(f"lose {within_s}")
        behind = await _until_decided(site, pools)
        share = 100 * (collector.cpu_s() - used) / (time.monotonic() - began)
        return _figures(_decided(site, agents), pools, behind, share, settings)
    finally:
        if agents is not None:
            await agents.end()
        if collector is not None:
            collector.stop()
        site.remove()


def _program(home: Path) -> Path:
    agent = home / "fence_scale"
    for path, text in ((agent, _AGENT), (home / "fence_scale_identity", _IDENTITY)):
        path.write_text(text)
        path.chmod(0o755)
    (home / "metadata.xml").write_text(_METADATA)
    return agent


def _devices(site: Site, pools: int) -> Iterator[Fence]:
    power = site.home / "power"
    power.mkdir()
    for pool in range(1, pools + 1):
        master = host_uuid(pool, 1)
        (power / master).touch()
        if _slow(pool):
            (power / f"{master}.slow").touch()
        yield Fence(master, f"bmc-{pool}", power / master)


def _slow(pool: int) -> bool:
    return pool % (100 // SLOW_PERCENT) == 0


async def _bound(site: Site, pools: int) -> None:
    """Raises TimeoutError."""
    deadline, ready = time.monotonic() + BOUND_LIMIT_S, -1
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(f"file:{site.state}/journal.db?mode=ro", uri=True)) as db:
            (ready,) = db.execute("SELECT count(DISTINCT pool) FROM entries WHERE kind = 'device-bound'").fetchone()
        if ready == pools:
            return
        await asyncio.sleep(1.0)
    raise TimeoutError(f"{ready} of {pools} devices are bound after {BOUND_LIMIT_S:.0f} s")


async def _until_decided(site: Site, pools: int) -> list[float]:
    """How far the engine is behind, ms, again and again until all are decided."""
    behind: list[float] = []
    deadline, looked, done = time.monotonic() + DECIDED_LIMIT_S, 0.0, 0
    async with grpc.aio.insecure_channel(site.target) as channel:
        while done < pools and time.monotonic() < deadline:
            with contextlib.suppress(grpc.aio.AioRpcError):
                reply = await rpc.OperatorStub(channel).Status(pb.StatusRequest(pool="pool-1"), timeout=5)
                behind.append(float(reply.behind_ms))
            if time.monotonic() - looked > 2:
                looked, done = time.monotonic(), await asyncio.to_thread(_count, site)
                progress(f"{done} of {pools} are decided, {behind[-1] if behind else 0:.0f} ms behind")
            await asyncio.sleep(0.1)
    return behind


def _count(site: Site) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{site.state}/journal.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(DISTINCT pool) FROM entries WHERE kind = 'promote-intent'").fetchone()[0])


def _decided(site: Site, agents: Agents) -> list[Decided]:
    found = []
    with contextlib.closing(sqlite3.connect(f"file:{site.state}/journal.db?mode=ro", uri=True)) as db:
        readings: dict[str, list[float]] = {}
        for pool, data in db.execute("SELECT pool, data FROM entries WHERE kind = 'power-reading' ORDER BY seq"):
            read = json.loads(data)
            if read["power"] == "off":
                readings.setdefault(pool, []).append(read["ended_ms"])
        for pool, intent in db.execute(
            "SELECT pool, min(mono_ms) FROM entries WHERE kind = 'promote-intent' GROUP BY pool"
        ):
            gone = agents.gone[pool]
            off = [ended for ended in readings.get(pool, []) if ended <= intent]
            answered = [at for at in agents.answers.get(pool, []) if at <= intent + 1]
            evidence = max([*off[1:2], *answered[-1:]], default=float(intent))
            found.append(Decided(gone["at_ms"], evidence, intent, _slow(int(pool[:8]))))
    return found


def _figures(found: list[Decided], pools: int, behind: list[float], share: float, settings: Settings) -> list[Figure]:
    again = reproduce(NAME, settings.rounds)
    lost = f"{pools} pools lose their masters within {WITHIN_S} s"
    of = f"{len(found)} of {pools} were decided; the collector used {share:.0f} % of a core meanwhile"
    slow = f"{SLOW_PERCENT} % of the devices take {SLOW_S} s for each answer"
    middle = sorted(behind)[int(len(behind) * 0.99)] if behind else float("nan")
    quick = tuple((each.intent - each.lost) / 1000 for each in found if not each.slow)
    late = tuple((each.intent - each.lost) / 1000 for each in found if each.slow)
    own = tuple(max(0.0, each.intent - each.evidence) / 1000 for each in found)
    figures = (
        [Figure(NAME, f"{lost}: own evidence to promote-intent", "s", own, DECIDED_BUDGET_S, (of, again))]
        if own
        else []
    )
    figures.append(Figure(NAME, "... how far the engine is behind, 99th percentile", "ms", (middle,), INBOX_BUDGET_MS))
    if quick:
        figures.append(Figure(NAME, "... loss to promote-intent, quick devices", "s", quick, None, (slow,)))
    if late:
        figures.append(Figure(NAME, "... loss to promote-intent, slow devices", "s", late, None, (slow,)))
    return figures
