"""Several collectors in one process, each whole, with real TLS between their operators' addresses and a played etcd."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.shell.cluster.assignment import Overview
from poolwarden_collector.shell.cluster.etcd import EtcdError, Health, Unavailable
from poolwarden_collector.shell.cluster.membership import Member, Right
from poolwarden_collector.shell.cluster.ownership import Held
from poolwarden_collector.shell.config import certificates

from .rig import HOSTS, POOL, Rig, running, until

POOLS = tuple(POOL[:-1] + each for each in "123")
NAMES = ("gold", "silver", "copper")
OPERATORS = 'operator_listen = "127.0.0.1:0"'


@dataclass
class PlayedEtcd:
    """What stands in etcd. ``owners``: of pools that are not simply whose roster has them."""

    rigs: dict[str, Rig] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # collectors whose lease is over
    elsewhere: dict[str, str] = field(default_factory=dict)  # an address that is told instead of its own
    owners: dict[str, str] = field(default_factory=dict)
    advised: dict[str, str] = field(default_factory=dict)
    away: bool = False

    def overview(self) -> Overview:
        names = [name for name in self.rigs if name not in self.gone]
        members = {name: self._member(name, at) for at, name in enumerate(names)}
        of_rosters = {pool: name for name in names for pool in self.rigs[name].parts.service.roster.pools}
        owners = {pool: Held(by, 5) for pool, by in {**of_rosters, **self.owners}.items() if by}
        return Overview(members, owners, {**{pool: held.by for pool, held in owners.items()}, **self.advised})

    def _member(self, name: str, at: int) -> Member:
        operators = self.elsewhere.get(name) or f"127.0.0.1:{self.rigs[name].parts.operators.port}"
        return Member(name, f"192.0.2.{at + 10}:7443", 1, name in self.draining, at + 1, at + 100, operators)

    draining: set[str] = field(default_factory=set)


class PlayedNeighbours:
    """What one of them knows."""

    def __init__(self, me: str, etcd: PlayedEtcd) -> None:
        self.me = me
        self.etcd = etcd
        self.given: list[tuple[str, str]] = []
        self.stays: dict[str, str] = {}
        self.seen: Overview | None = None  # an older look, where it is to have one

    def overview(self) -> Overview:
        return self.seen or self.etcd.overview()

    def looked_age_ms(self) -> int:
        return 300

    def told_age_ms(self, collector: str) -> int:
        return 4_200

    async def look(self) -> Overview:
        if self.etcd.away:
            raise Unavailable("etcd: no endpoint answers")
        self.seen = None
        return self.etcd.overview()

    def assigner(self) -> str:
        return "hall-a"

    def right(self) -> Right:
        return Right(0, "its lease of 10 s was renewed last 8.1 s ago" if self.etcd.away else "")

    def right_left_ms(self) -> int:
        return 0 if self.etcd.away else 6_100

    def agents(self) -> int:
        return 1

    def why_stays(self, pool: str) -> str:
        return self.stays.get(pool, "")

    async def give(self, pool: str, to: str) -> str:
        self.given.append((pool, to))
        self.etcd.owners[pool] = to
        return ""

    def drain(self, leaving: bool) -> None:
        (self.etcd.draining.add if leaving else self.etcd.draining.discard)(self.me)

    async def health(self) -> list[Health | EtcdError]:
        if self.etcd.away:
            return [Unavailable("http://192.0.2.21:2379: no answer")]
        return [Health("http://192.0.2.21:2379", 1, 1, "3.4.23", 2_097_152)]


@dataclass
class Hall:
    """One of them with what its operators use."""

    rig: Rig
    neighbours: PlayedNeighbours
    stub: Any  # over its socket

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.rig.parts.operators.port}"


@contextlib.asynccontextmanager
async def halls(folder: Path, count: int = 2, *extra: str) -> AsyncIterator[tuple[PlayedEtcd, list[Hall]]]:
    """hall-a owns gold, hall-b silver, hall-c copper; each pool has the host "host-1".

    ``extra``: of each one's configuration.
    """
    etcd = PlayedEtcd()
    authority = folder / "ca"
    certificates.create_ca(authority)
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for at in range(count):
            name = f"hall-{'abc'[at]}"
            home = folder / name
            home.mkdir()
            (home / "ca").symlink_to(authority)
            certificates.issue_collector(authority, name, ("127.0.0.1",), home / "tls")
            rig = await stack.enter_async_context(
                running(home, (*extra, *[""] * count)[at], collector=OPERATORS, name=name)
            )
            etcd.rigs[name] = rig
            neighbours = PlayedNeighbours(name, etcd)
            rig.parts.operators.join(neighbours)
            await _has_pool(rig, at)
            channel = grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}")
            await stack.enter_async_context(channel)
            found.append(Hall(rig, neighbours, rpc.OperatorStub(channel)))
        yield etcd, found


async def _has_pool(rig: Rig, at: int) -> None:
    pool, host = POOLS[at], HOSTS[at]
    agent = await rig.agent(host, pool_uuid=pool, host_name="host-1")
    view = link.PoolView(pool_uuid=pool, pool_name=NAMES[at], master_uuid=host)
    role = link.RoleFacts(pool_conf=link.RoleFacts.MASTER, serves_as_master=True)
    await agent.send(report=link.Report(full=True, management_address="192.0.2.1"))
    await agent.send(report=link.Report(pool_view=view, role=role))
    pools = rig.parts.service.roster.pools
    await until(lambda: pool in pools and pools[pool].record.name and pools[pool].record.master)
