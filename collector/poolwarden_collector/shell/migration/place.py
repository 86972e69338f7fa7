"""What stands below the prefix in etcd before a move: who lives there, and how far an earlier move has come.

Rules
-----
* Without a generation nobody owns anything (cluster/ownership.py). So a move to etcd sets it last, a move away takes it
  first: at no instant can both a single collector and those on etcd act.
* ``moved`` says whose move it is. Its text has a word drawn for each run, and every write of a run compares it: what a
  run before has sent and etcd carries out late changes nothing.
* A member's key lives as long as its process, and 10 s longer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.etcd import (
    Compare,
    Created,
    Etcd,
    Exchange,
    Found,
    Get,
    Holds,
    Kept,
    Txn,
    TxnDone,
    behind,
)
from poolwarden_collector.shell.cluster.membership import members as members_of
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import generation_in, held

AGAIN = "run the command again: it goes on where it was cut off"


class Refused(Exception):
    """Nothing was changed by this step; the sentence says why, and ``step`` what to do."""

    def __init__(self, sentence: str, step: str) -> None:
        super().__init__(sentence)
        self.step = step


class Way(Enum):
    """Where an installation goes."""

    TO_ETCD = "to-etcd"
    TO_SQLITE = "to-sqlite"
    RESTORE = "restore"  # from a copy of etcd (prefix_copy.py)


@dataclass(frozen=True, slots=True)
class Mark:
    """A move that has begun; one away stays as the sign of where the pools are. ``generation``: before it, 0: none."""

    way: Way
    journal: str  # its id
    collector: str
    run: str
    generation: int = 0

    def text(self) -> bytes:
        """What its key holds."""
        return json.dumps({**asdict(self), "way": self.way.value}).encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Everything of it."""

    revision: int
    generation: int
    generation_kept: Kept | None
    mark: Mark | None
    mark_kept: Kept | None
    members: tuple[str, ...]
    owners: dict[PoolId, str]
    pools: frozenset[PoolId]
    names: Names = Names()

    @property
    def unchanged(self) -> tuple[Compare, ...]:
        """Holds where neither the generation nor a mark was written since."""
        compares: list[Compare] = []
        for key, kept in self._of:
            compares.append(Holds(key, kept.value) if kept is not None else Created(key, 0))
        return tuple(compares)

    @property
    def _of(self) -> tuple[tuple[str, Kept | None], ...]:
        return (self.names.generation, self.generation_kept), (self.names.moved, self.mark_kept)


def look(names: Names) -> Exchange[Place]:
    """What is there now. Raises EtcdError; Refused for a mark that cannot be read."""
    members: Found = yield Get(names.members, behind(names.members))
    owners: Found = yield Get(names.owners, behind(names.owners))
    generation: Found = yield Get(names.generation)
    moved: Found = yield Get(names.moved)
    pools = yield from commits.known_pools(names)
    return Place(
        revision=moved.revision,
        generation=generation_in(generation.one),
        generation_kept=generation.one,
        mark=_mark_of(moved.one) if moved.one is not None else None,
        mark_kept=moved.one,
        members=tuple(sorted(members_of(names, members))),
        owners={names.parts(kept.key)[1]: held(kept).by for kept in owners.kept},
        pools=pools,
        names=names,
    )


def nobody_lives(place: Place) -> None:
    """Raises Refused while a collector is a member, or owns a pool."""
    if place.members:
        raise Refused(
            f"collectors are members in etcd: {', '.join(place.members)}",
            "stop them (systemctl stop poolwarden-collector on each); one that was killed is a member for 10 s more",
        )
    if place.owners:
        whose = sorted(set(place.owners.values()))
        raise Refused(f"pools have an owner in etcd: {', '.join(whose)}", "wait 10 s for its lease to end, then again")


def no_restore(place: Place) -> None:
    """Raises Refused where a copy is half put back."""
    if place.mark is not None and place.mark.way is Way.RESTORE:
        raise Refused("a copy of etcd is half put back", "run it again: poolwarden-collector store restore FILE --yes")


async def sure(etcd: Etcd, txn: Txn) -> None:
    """Have it done. Raises Refused where a compare failed; EtcdError."""
    done: TxnDone = await etcd.ask(txn)
    if not done.succeeded:
        raise Refused("somebody else has changed the installation in etcd meanwhile", AGAIN)


def _mark_of(kept: Kept) -> Mark:
    try:
        said = json.loads(kept.value)
        texts = (str(said["journal"]), str(said["collector"]), str(said["run"]))
        return Mark(Way(said["way"]), *texts, generation=int(said["generation"]))
    except (KeyError, ValueError, TypeError) as error:
        raise Refused(
            f"{kept.key} in etcd (revision {kept.modified}) cannot be read: {error}",
            "install the newest release that any collector here has run, or restore the last copy of etcd",
        ) from error
