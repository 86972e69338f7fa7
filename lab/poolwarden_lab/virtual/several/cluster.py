"""All collectors of a world and their etcd: who owns what by etcd's own word, and what stands in the pools' journals.

The *shared ledger* is what etcd holds of all pools, as it grew: a step counts from the instant at which etcd has it,
whoever knows that. Invariants and stories look at it; the collectors' own ledgers are archives.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from poolwarden_collector.core.model.epoch import of_ownership
from poolwarden_collector.core.model.values import Ms, PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.shell.cluster.commit_text import PoolTail, with_commits
from poolwarden_collector.shell.cluster.etcd import Kept, Put, Txn
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import advice
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger
from poolwarden_lab.virtual.collector.station import Station
from poolwarden_lab.virtual.collector.surroundings import Counters, Settings, Surroundings
from poolwarden_lab.virtual.several.archive import Told
from poolwarden_lab.virtual.several.shared_shell import AGENTS_PORT, SharedShell, address_of
from poolwarden_lab.virtual.several.world_etcd import WorldEtcd
from poolwarden_lab.virtual.world.etcd_model import Snapshot
from poolwarden_lab.virtual.world.network import Network

_SHELL = "poolwarden_collector.shell"
OPERATOR = "operator"  # whose requests no fault of a collector concerns
JOURNAL = "etcd"  # the name of the shared ledger among the collectors' own


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a pool, by etcd's word."""

    node: str
    epoch: int
    since: Ms


class AroundThem(Protocol):
    """The world around the collectors."""

    network: Network
    settings: Settings
    counters: Counters
    stations: dict[str, Station]

    @property
    def now(self) -> int: ...
    def surroundings(self) -> Surroundings: ...


class LoggedErrors(logging.Handler):
    """Errors that production logs and lives with are faults of it here."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(self.format(record))

    def take(self) -> str:
        """The first of them; empty: there is none."""
        found, self.found = self.found, []
        return found[0] if found else ""


_ERRORS = LoggedErrors()
logging.getLogger(_SHELL).addHandler(_ERRORS)


class Cluster:
    """See the module's words. ``on_owner``, ``on_shared`` and ``on_handed`` are the invariants'."""

    def __init__(self, world: AroundThem, count: int) -> None:
        self.world = world
        self.names = Names()
        self.etcd = WorldEtcd(world.network)
        self.etcd.on_put, self.etcd.on_gone = self._put, self._gone
        self.nodes = [f"c{number}" for number in range(1, count + 1)]
        self.ledger = Ledger()
        self.owners: dict[PoolId, Owner] = {}
        self.told: Told = {}
        self.on_owner: Callable[[PoolId, Owner], None] = lambda _pool, _owner: None
        self.on_shared: Callable[[Commit], None] = lambda _commit: None
        self.on_handed: Callable[[PoolId], None] = lambda _pool: None
        self._backup: tuple[Snapshot, int, dict[PoolId, PoolTail]] | None = None
        self._tails: dict[PoolId, PoolTail] = {}
        self.errors = _ERRORS
        self.errors.take()
        self.set_up()

    def set_up(self) -> None:
        """As a person does it before the first start: a generation."""
        self.ask(Put(self.names.generation, b"1"))

    def ask(self, *writes: Put) -> None:
        """Write as somebody at etcd's own tool does."""
        self.etcd.submit(OPERATOR, Txn((), writes), lambda _: None)

    def raise_generation(self) -> int:
        """By a person's command; which one it is then."""
        kept = self.etcd.value(self.names.generation)
        raised = (int(kept.value) if kept is not None else 0) + 1
        self.ask(Put(self.names.generation, str(raised).encode()))
        return raised

    def move(self, pool: PoolId, to: str) -> None:
        """By a person's command: the pool is to belong to this collector."""
        self.ask(Put(self.names.assigned(pool), advice(to)))

    def back_up(self) -> None:
        """A backup of etcd."""
        self._backup = self.etcd.snapshot(), len(self.ledger.commits), dict(self._tails)

    def restore(self) -> bool:
        """etcd is rebuilt from it; false: there is none."""
        if self._backup is None:
            return False
        snapshot, commits, tails = self._backup
        self.etcd.restore(snapshot)
        del self.ledger.commits[commits:]
        self._tails = dict(tails)
        self.owners.clear()
        for kept in snapshot.kept.values():
            parts = self.names.parts(kept.key)
            if parts[:1] == ("owners",):
                self.owners[parts[1]] = self._read_owner(kept)
        return True

    # ------------------------------------------------------------------------------------------ collectors

    def shell(self, station: Station) -> SharedShell:
        """A new process on that collector's machine."""
        world, node = self.world, station.node
        client = self.etcd.client(node)
        return SharedShell(
            world.surroundings(),
            station.ledger,
            replace(world.settings, name=node),
            world.counters,
            station.saboteur,
            node,
            client,
            self.names,
            self.told,
        )

    def close(self) -> None:
        """The world is over: no coroutine waits for anything any more."""
        for station in self.world.stations.values():
            if isinstance(station.shell, SharedShell):
                station.shell.loop.close_all()

    def addresses(self) -> tuple[str, ...]:
        """Where agents find them, as agent.conf lists them."""
        return tuple(address_of(node) for node in self.nodes)

    def node_at(self, host: str, port: int) -> str:
        """The collector that is reached there; empty: none."""
        return host if port == AGENTS_PORT and host in self.nodes else ""

    def shells(self) -> Iterator[SharedShell]:
        """Every process that runs or stands still."""
        for station in self.world.stations.values():
            if isinstance(station.shell, SharedShell) and station.shell.alive:
                yield station.shell

    def guardian(self, pool: PoolId) -> SharedShell | None:
        """Who guards this pool: its owner by etcd's word, where that one knows it."""
        owner = self.owners.get(pool)
        return next((each for each in self.shells() if owner and each.node == owner.node and pool in each.pools), None)

    # ------------------------------------------------------------------------------------------ what etcd is told

    def _put(self, kept: Kept) -> None:
        parts = self.names.parts(kept.key)
        if parts[:1] == ("owners",):
            self._owned(parts[1], kept)
        elif parts[:1] == ("pools",) and parts[2] == "journal":
            self._committed(parts[1], kept)
        elif parts[:1] == ("handed",):
            self.on_handed(parts[1])

    def _gone(self, key: str) -> None:
        parts = self.names.parts(key)
        if parts[:1] == ("owners",):
            self.owners.pop(parts[1], None)

    def _owned(self, pool: PoolId, kept: Kept) -> None:
        self.owners[pool] = owner = self._read_owner(kept)
        self.on_owner(pool, owner)

    def _read_owner(self, kept: Kept) -> Owner:
        said: dict[str, Any] = json.loads(kept.value)
        epoch = of_ownership(int(said["generation"]), kept.created, int(said["lot"]))
        return Owner(str(said["collector"]), epoch, self.world.now)

    def _committed(self, pool: PoolId, kept: Kept) -> None:
        known = self._tails.get(pool, PoolTail(PoolRecord(pool)))
        number = int(self.names.parts(kept.key)[3])
        # After a restore of etcd numbers come again.
        known = replace(known, last=number - 1, entries=(), numbers=(), alerts={})
        self._tails[pool] = tail = with_commits(self.names, known, [kept])
        commit = Commit(self.world.now, self.owners[pool].epoch, pool, tail.entries)
        self.ledger.commit(commit)
        self.on_shared(commit)
