"""Who may act in a pool: a key under its owner's lease, and the epoch that follows from where etcd made it.

Rules
-----
* A pool has one owner: its key is made only where there is none, by a member whose own key stands, in one transaction.
  The revision at which it was made (R) grows strictly, so every ownership has an epoch above those before it
  (core/model/epoch.py), and whatever is written for a pool compares R.
* The generation is part of every compare: when a person raises it, whoever owned anything owns it no more.
* A key under this process's own lease is this process's, also where the answer to its claim was lost.
* Given up in order (handover.py), a pool's key goes in the transaction that writes ``handed``: the next owner then
  knows that nothing of the last one is under way. A key that went with its lease leaves none. etcd takes no deletion
  and writing of one key in one transaction, so whoever takes a pool over claims it himself.
* The generation only rises. It is a person's word, after etcd was restored or built anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.cluster.etcd import (
    Compare,
    Created,
    Delete,
    Exchange,
    Found,
    Get,
    Holds,
    InDoubt,
    Kept,
    Put,
    Txn,
    TxnDone,
)
from poolwarden_collector.shell.cluster.membership import Standing
from poolwarden_collector.shell.cluster.names import Names


@dataclass(frozen=True, slots=True)
class Ownership:
    """The right to decide for a pool, for as long as its compares hold. ``revision`` is R."""

    pool: PoolId
    collector: str
    revision: int
    generation: int
    lot: int
    owner_key: str
    generation_key: str
    # R of the one before, where that gave the pool up in order; 0: it went with its lease, or there was none
    handed_by: int = 0

    @property
    def epoch(self) -> int:
        """What its orders carry."""
        return epoch.of_ownership(self.generation, self.revision, self.lot)

    @property
    def compare(self) -> tuple[Compare, ...]:
        """What every write for this pool compares."""
        # safety: with these an owner that has been deposed, asleep or not, writes nothing more.
        return (Created(self.owner_key, self.revision), Holds(self.generation_key, generation_text(self.generation)))


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else owns the pool."""

    by: str
    revision: int


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """The pool was not to be had; the text says why."""

    why: str


def claim(names: Names, standing: Standing, pool: PoolId, lot: int) -> Exchange[Ownership | Held | NotClaimed]:
    """Own the pool, if nobody does. ``lot`` is random (LOT_BITS). Raises EtcdError: ask again."""
    generation = yield from generation_of(names)
    if not generation:
        return NotClaimed("no generation is set; the collectors' etcd has not been set up")
    owner = names.owner(pool)
    said = {"collector": standing.collector, "generation": generation, "lot": lot}
    asked = Txn(
        (
            Created(owner, 0),
            Holds(names.generation, generation_text(generation)),
            # safety: the lease of a member that is gone makes nobody an owner.
            Created(names.member(standing.collector), standing.revision),
        ),
        (Put(owner, json.dumps(said).encode(), standing.lease), Delete(names.handed(pool))),
        (Get(owner), Get(names.generation)),
    )
    try:
        done: TxnDone = yield asked
    except InDoubt:
        found: Found = yield Get(owner)
        if found.one is None:
            raise
        return _as_found(names, standing, pool, found.one)
    if done.succeeded:
        handed = done.found[1].one
        return _claimed(names, pool, said, done.revision, revision_in(handed) if handed is not None else 0)
    kept = done.found[0].one
    if kept is not None:
        return _as_found(names, standing, pool, kept)
    now = generation_in(done.found[1].one)
    other = f"the generation is {now} now" if now != generation else "its own place among the collectors is gone"
    return NotClaimed(other)


def leave_it(owned: Ownership) -> Exchange[None]:
    """End an ownership without a promise: what is under way of it stays unknown to whoever comes next, who waits.

    The generation is not compared: when it has been raised the key is in everybody's way. Raises EtcdError: once more.
    """
    yield Txn((Created(owned.owner_key, owned.revision),), (Delete(owned.owner_key),), (Get(owned.owner_key),))


def owner_of(names: Names, pool: PoolId) -> Exchange[Held | None]:
    """Who owns a pool, if anybody does."""
    found: Found = yield Get(names.owner(pool))
    return held(found.one) if found.one is not None else None


def held(kept: Kept) -> Held:
    """What an owner's key says."""
    return Held(str(_said(kept).get("collector", "")), kept.created)


# ------------------------------------------------------------------------------------------------ the generation


@dataclass(frozen=True, slots=True)
class Raised:
    """The generation is this from now on; every collector claims its pools anew."""

    generation: int


@dataclass(frozen=True, slots=True)
class NotRaised:
    """The generation stays; the text says why."""

    why: str


def generation_of(names: Names) -> Exchange[int]:
    """The generation; 0: none is set, so nobody can own anything."""
    found: Found = yield Get(names.generation)
    return generation_in(found.one)


def refused_generation(before: int, wanted: int) -> NotRaised | None:
    """Why the generation cannot become ``wanted``; None: it can."""
    if wanted <= before:
        return NotRaised(f"the generation is {before} already; it only rises")
    if wanted > epoch.HIGHEST_GENERATION:
        return NotRaised(f"{wanted} is above the highest generation, {epoch.HIGHEST_GENERATION}")
    return None


def raise_generation(names: Names, to: int = 0) -> Exchange[Raised | NotRaised]:
    """By a person's command alone. ``to``: 0 for the next one, otherwise at least that (epoch.generation_above).

    Raises EtcdError: ask for the same ``to`` again.
    """
    found: Found = yield Get(names.generation)
    before = generation_in(found.one)
    moved: Found = yield Get(names.moved)
    if moved.one is not None:
        return NotRaised("its pools are with one collector's file, or on their way; poolwarden-collector store show")
    wanted = to or before + 1
    if refused := refused_generation(before, wanted):
        return refused
    unchanged: Compare = Created(names.generation, 0)
    if found.one is not None:
        unchanged = Holds(names.generation, found.one.value)
    # safety: pools that were moved to one collector's file have an owner there.
    compare = (unchanged, Created(names.moved, 0))
    done: TxnDone = yield Txn(compare, (Put(names.generation, generation_text(wanted)),))
    return Raised(wanted) if done.succeeded else NotRaised("somebody else has raised it meanwhile")


# ------------------------------------------------------------------------------------------------ what keys hold


def _as_found(names: Names, standing: Standing, pool: PoolId, kept: Kept) -> Ownership | Held | NotClaimed:
    if kept.lease != standing.lease:
        return held(kept)
    return _claimed(names, pool, _said(kept), kept.created, 0)


def _claimed(names: Names, pool: PoolId, said: dict[str, Any], revision: int, handed_by: int) -> Ownership | NotClaimed:
    try:
        return _owned(names, pool, said, revision, handed_by)
    except OverflowError as error:
        return NotClaimed(f"no agent could be told of it: {error}")
    except (KeyError, ValueError, TypeError):
        return NotClaimed("its own claim cannot be read back")


def _owned(names: Names, pool: PoolId, said: dict[str, Any], revision: int, handed_by: int) -> Ownership:
    """Raises OverflowError, KeyError, ValueError, TypeError."""
    collector, generation, lot = str(said["collector"]), int(said["generation"]), int(said["lot"])
    epoch.of_ownership(generation, revision, lot)
    return Ownership(pool, collector, revision, generation, lot, names.owner(pool), names.generation, handed_by)


def _said(kept: Kept) -> dict[str, Any]:
    try:
        said = json.loads(kept.value)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def revision_in(handed: Kept) -> int:
    """R of the ownership that gave the pool up."""
    revision = _said(handed).get("revision")
    return revision if isinstance(revision, int) else 0


def generation_in(kept: Kept | None) -> int:
    """The number that its key holds; 0: there is none."""
    text = kept.value.decode(errors="replace") if kept is not None else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0


def generation_text(generation: int) -> bytes:
    """What its key holds."""
    return str(generation).encode()


def handed_text(owned: Ownership, to: str) -> bytes:
    """What the last owner leaves."""
    return json.dumps({"revision": owned.revision, "by": owned.collector, "to": to}).encode()


def advice(collector: str) -> bytes:
    """Whom a pool should belong to."""
    return json.dumps({"collector": collector}).encode()
