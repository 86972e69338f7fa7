"""A single collector's pools into etcd, with that collector stopped; run again after whatever has cut it off.

Rules
-----
* In this order: a mark in etcd, each pool's record with its open alerts and the power-offs without an end, all of it
  read back and compared field by field, then the journal becomes an archive, then the generation is set. Before the
  archive the collector may start on its file again, and etcd has nothing that counts; after it nobody can start on the
  file, and running this again ends the move.
* Each pool's journal in etcd goes on behind every number of the file's, so that no occurrence of an alert comes twice.
* The generation is above every epoch that this collector or an agent has had.
* What decides nothing stays in the archive: history, decisions' inputs, deliveries, hooks' runs, calls of operators.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import Enum, auto
from typing import Any

from poolwarden_collector.core.model import epoch
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commit_text import OpenAlert, PoolTail, record_text, take_shots
from poolwarden_collector.shell.cluster.commits import Deposed
from poolwarden_collector.shell.cluster.etcd import (
    Created,
    Delete,
    Etcd,
    Holds,
    Op,
    Put,
    Txn,
    behind,
    carry_out,
    unfit,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.cluster.ownership import advice, generation_text
from poolwarden_collector.shell.cluster.telling import MOST, Ended, Happened, Said, Telling, Told, about, told_text
from poolwarden_collector.shell.migration.enrolled import into_etcd
from poolwarden_collector.shell.migration.place import (
    AGAIN,
    Mark,
    Place,
    Refused,
    Way,
    look,
    no_restore,
    nobody_lives,
    sure,
)
from poolwarden_collector.shell.store.enrolment_tables import CERTIFIED, HostKey
from poolwarden_collector.shell.store.handed import Open
from poolwarden_collector.shell.store.journal import Journal
from poolwarden_collector.shell.store.move_calls import Leaving


class Todo(Enum):
    """What is left of the move."""

    ALL = auto()
    OPEN = auto()  # etcd has the pools and the file is an archive; the generation is missing
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Moved:
    """What the move has done, or would do. ``generation``: that etcd has then."""

    todo: Todo
    pools: tuple[PoolId, ...]
    names: dict[PoolId, str]
    alerts: int
    shots: int  # power-offs without a known end
    generation: int
    number: int
    unpinned: tuple[str, ...] = ()  # hosts of which enrolment does not know that they have pinned an order key


@dataclass(frozen=True, slots=True)
class Source:
    """The single collector's side: its journal, its name, and epochs that agents may have obeyed beside it.

    ``pinned``: a person's word that every host has pinned the order keys of all collectors.
    """

    journal: Journal
    collector: str
    epoch_above: int = 0
    pinned: bool = False


async def to_etcd(etcd: Etcd, names: Names, source: Source, dry: bool = False) -> Moved:
    """Move, or say what would be moved. Raises Refused, EtcdError, JournalError, Unreadable, TooBig."""
    journal = source.journal
    place = await carry_out(etcd, look(names))
    nobody_lives(place)
    no_restore(place)
    todo = _todo(place, journal)
    if todo is Todo.NOTHING:
        return _already(place, journal)
    if todo is Todo.OPEN:
        done = _already(place, journal, todo, _generation(place, source, ()))
        if not dry:
            await _open(etcd, place, place.mark, done.generation)
        return done
    leaving = _leaving(journal)
    number = journal.last_number()
    generation = _generation(place, source, leaving)
    texts = {each.record.pool: _text(each, number) for each in leaving}
    for each in leaving:
        _fits(names, each, texts[each.record.pool])
    done = _moved(Todo.ALL, leaving, generation, number, _unpinned(journal, leaving))
    if done.unpinned and not source.pinned and not dry:
        some = ", ".join(done.unpinned[:3]) + (f" and {len(done.unpinned) - 3} more" if len(done.unpinned) > 3 else "")
        raise Refused(
            f"no order key is known to be pinned by {some}: a host that has counted epochs obeys the first one of "
            "several collectors only if it is signed",
            "enrol them, or on each: poolwarden-agent trust-key --add KEY of every collector; then with --pinned",
        )
    if not dry:
        await _move(etcd, place, source, leaving, texts, done)
    return done


async def _move(
    etcd: Etcd, place: Place, source: Source, leaving: list[Leaving], texts: dict[PoolId, bytes], done: Moved
) -> None:
    names, journal = place.names, source.journal
    before = max(place.generation, place.mark.generation if place.mark is not None else 0)
    mark = Mark(Way.TO_ETCD, journal.journal_id(), source.collector, secrets.token_hex(8), before)
    gone: tuple[Op, ...] = (Delete(names.generation),) if place.generation_kept is not None else ()
    await sure(etcd, Txn(place.unchanged, (Put(names.moved, mark.text()), *gone)))
    ours = (Holds(names.moved, mark.text()),)
    for pool in place.pools | set(texts):
        keys = (names.of_pool(pool), names.handed(pool), names.assigned(pool), names.told(pool))
        gone = (Delete(keys[0], behind(keys[0])), *(Delete(key) for key in keys[1:]))
        await sure(etcd, Txn(ours, gone))
    for each in leaving:
        pool, told = each.record.pool, _told(each, done.number)
        await sure(etcd, Txn(ours, _writes(names, pool, texts[pool], told)))
    await into_etcd(etcd, names, mark, journal.enrolment(), own=place.mark is not None)
    for each in leaving:
        tail = await carry_out(etcd, commits.read(names, each.record.pool))
        compare_pool(each, tail, done.number)
    journal.leave(texts, done.number)
    await _open(etcd, place, mark, done.generation)


async def _open(etcd: Etcd, place: Place, mark: Mark | None, generation: int) -> None:
    """From now on pools can be owned."""
    if mark is None:
        raise AssertionError("a move that is ended has its mark")
    names = place.names
    # safety: the file is an archive before anybody can own a pool in etcd.
    compare = (Holds(names.moved, mark.text()), Created(names.generation, 0))
    await sure(etcd, Txn(compare, (Put(names.generation, generation_text(generation)), Delete(names.moved))))


# ------------------------------------------------------------------------------------------------ what is left


def _todo(place: Place, journal: Journal) -> Todo:
    archive, mark = bool(journal.in_etcd()), place.mark
    if mark is not None and mark.journal != journal.journal_id():
        if mark.way is Way.TO_SQLITE:
            raise Refused(
                f"the pools of this etcd were moved to the journal of collector {mark.collector}",
                "move them to etcd from there, or use another prefix of [store]",
            )
        raise Refused(
            f"the move of collector {mark.collector} to this etcd has begun and not ended",
            "run this command there again, or use another prefix of [store]",
        )
    if mark is not None and mark.way is Way.TO_SQLITE and not archive and not journal.pools():
        # safety: what stands in etcd is all that there is of these pools, and a move from an empty file deletes it.
        raise Refused(
            "the move from this etcd to this state directory has begun and not ended, so no pool is here yet",
            "end it first, then move them to etcd again: poolwarden-collector store to-sqlite",
        )
    if archive:
        if mark is not None:
            return Todo.OPEN
        if place.generation:
            return Todo.NOTHING
        raise Refused(
            "this state directory is an archive of pools in etcd, and this etcd has none of them",
            "look at [store]: endpoints and prefix; where etcd was made anew restore its last copy: "
            "poolwarden-collector store restore FILE",
        )
    if place.pools and mark is None:
        raise Refused(
            f"etcd has {len(place.pools)} pools below this prefix, which did not come from this journal",
            "use another prefix of [store], or a state directory of its own for this collector",
        )
    return Todo.ALL


def _already(place: Place, journal: Journal, todo: Todo = Todo.NOTHING, generation: int = 0) -> Moved:
    here = journal.in_etcd()
    if lacking := sorted(set(here) - place.pools):
        raise Refused(
            f"etcd has nothing of pool {lacking[0]}, of which this archive knows entries up to {here[lacking[0]]}",
            "restore the last copy of etcd: poolwarden-collector store restore FILE",
        )
    pools = tuple(sorted(here))
    return Moved(todo, pools, {}, 0, 0, generation or place.generation, max(here.values()))


def _leaving(journal: Journal) -> list[Leaving]:
    if short := sorted(journal.short()):
        raise Refused(
            f"entries of pool {short[0]} are missing in this journal",
            f"start the collector and wait until its hosts are heard, or: poolwarden acknowledge {short[0]}",
        )
    return [journal.leaving(pool) for pool in journal.pools()]


def _generation(place: Place, source: Source, leaving: Any) -> int:
    """Above every epoch that was obeyed, and every generation that was."""
    seen = [source.journal.epoch, source.epoch_above]
    for each in leaving:
        seen += [each.record.stale_epoch, *each.record.restored_epochs]
    before = max(place.generation, place.mark.generation if place.mark is not None else 0)
    return max(epoch.generation_above(max(seen)), before + 1 if before else 1)


def _unpinned(journal: Journal, leaving: list[Leaving]) -> tuple[str, ...]:
    """Hosts that have not enrolled, by names; whoever enrols pins the order key."""
    enrolled = {each.host for each in journal.enrolment() if isinstance(each, HostKey) and each.state == CERTIFIED}
    return tuple(
        f"{each.record.display_name}/{each.record.name_of(host)}"
        for each in leaving
        for host in each.record.hosts
        if host not in enrolled
    )


def _moved(todo: Todo, leaving: list[Leaving], generation: int, number: int, unpinned: tuple[str, ...] = ()) -> Moved:
    called = {each.record.pool: each.record.display_name for each in leaving}
    alerts, shots = sum(len(each.handed.opened) for each in leaving), sum(len(_shots(each)) for each in leaving)
    return Moved(todo, tuple(called), called, alerts, shots, generation, number, unpinned)


# ------------------------------------------------------------------------------------------------ one pool


def _shots(each: Leaving) -> frozenset[tuple[str, str]]:
    return take_shots(frozenset(), each.fences)


def _text(each: Leaving, number: int) -> bytes:
    return record_text(each.record, number, _alerts(each).values(), _shots(each), _telling(each, number))


def _alerts(each: Leaving) -> dict[str, OpenAlert]:
    return {alert.key: _alert(alert) for alert in each.handed.opened}


def _alert(alert: Open) -> OpenAlert:
    return OpenAlert(**{item.name: getattr(alert, item.name) for item in fields(OpenAlert)})


def _telling(each: Leaving, number: int) -> Telling:
    """What the next owner is still to tell."""
    handed = each.handed
    ended = [Ended(_alert(over.alert), over.text, over.at, number) for over in handed.over]
    happened = [Happened(one.id, one.at, one.event, one.facts) for one in handed.occurred]
    said = {about(mark.kind, mark.data): Said(**asdict(mark)) for mark in handed.marks}
    return Telling(tuple(ended)[-MOST:], tuple(happened)[-MOST:], dict(list(said.items())[-MOST:]))


def _told(each: Leaving, number: int) -> Told:
    """Up to where all is told; a channel for which anything waits is told all again, under the same keys."""
    left = each.told
    return Told().later(number, left.free, left.channels, hooks=left.hooks)


def _writes(names: Names, pool: PoolId, text: bytes, told: Told) -> tuple[Op, ...]:
    record = Put(names.record(pool), text)
    return record, Put(names.assigned(pool), advice("")), Put(names.told(pool), told_text(told))


def _fits(names: Names, each: Leaving, text: bytes) -> None:
    if why := unfit(Txn((), _writes(names, each.record.pool, text, Told()))):
        raise Refused(f"the record of pool {each.record.display_name} is too large for etcd: {why}", "report this")


def compare_pool(each: Leaving, tail: PoolTail | Deposed, number: int) -> None:
    """Raises Refused where what etcd has is not in every field what left."""
    pool, step = each.record.display_name, f"the collector's file is as it was: start it without [store]; {AGAIN}"
    if not isinstance(tail, PoolTail):
        raise Refused(f"pool {pool} cannot be read back from etcd: {tail.why}", step)
    for item in fields(each.record):
        if getattr(each.record, item.name) != getattr(tail.record, item.name):
            raise Refused(f"pool {pool}: {item.name} is not the same in etcd", step)
    wanted = _telling(each, number).without(tail.telling.told)
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("its open alerts", lambda: _alerts(each) == tail.alerts),
        ("what is still to be told", lambda: wanted == tail.telling),
        ("its power-offs without an end", lambda: _shots(each) == tail.shots),
        ("its last number", lambda: tail.last == number and not tail.entries),
    )
    for what, same in checks:
        if not same():
            raise Refused(f"pool {pool}: {what} are not the same in etcd", step)
