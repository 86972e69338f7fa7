"""The rows of enrolment in etcd: tokens, keys of hosts, certificates, denials, and whose orders hosts shall obey.

They belong to no pool.

Rules
-----
* ``changes`` says which rows the last changes have touched. Every write compares that nothing has been changed since it
  was read, so there is one writer at a time, whoever is asked. Who was overtaken reads what has changed, and decides
  again.
* An error of a write is neither yes nor no: the same write is sent again, and each has an id that ``changes`` keeps for
  a while. Once somebody else's change is there and it is not, it can never come.
* A reader takes in the rows that were touched since his last look, all as of one revision; where ``changes`` does not
  reach back to that look (another etcd, an older one that was restored), he reads everything.
* A write of more than etcd takes at once is several, in the order of its rows: what denies comes first, and whoever is
  overtaken between two of them decides again on what is there.
* An etcd that has never had any rows (a new one, or one that was built anew) is given those that a collector has:
  ``seed``. ``changes`` is written last, so that what was given in part is given again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from poolwarden_collector.shell.cluster.etcd import (
    Compare,
    Delete,
    EtcdError,
    Exchange,
    Found,
    Get,
    Holds,
    InDoubt,
    Kept,
    Op,
    Put,
    Txn,
    TxnDone,
    Unchanged,
    behind,
)
from poolwarden_collector.shell.cluster.names import Names
from poolwarden_collector.shell.store.enrolment_tables import Certified, Denied, HostKey, Of, Token


@dataclass(frozen=True, slots=True)
class Collector:
    """A collector whose orders hosts shall obey. ``order_keys``: public keys in hex, with spaces between them: the one
    that it signs with, and its next one where there is one. ``agents``: HOST:PORT at which agents reach it.
    """

    name: str
    order_keys: str
    agents: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of them that are keys."""
        return tuple(filter(_KEY.fullmatch, self.order_keys.split()))


InEtcd = Of | Collector
_KINDS: dict[str, type[InEtcd]] = {
    "token": Token,
    "key": HostKey,
    "certificate": Certified,
    "denied": Denied,
    "collector": Collector,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}
_KEY = re.compile("[0-9a-f]{64}")  # Ed25519, 32 bytes
_REMEMBERED = 64  # changes
_KEYS_REMEMBERED = 512  # keys in all of them; with more of them the oldest changes are forgotten
_PAGE = 128  # rows of one read: a row has up to some 10 kB
_ONE_BY_ONE = 16  # rows that are read by themselves; more are read with all
_WRITES, _BYTES = 64, 512 * 1024  # of one transaction


class UnreadableRow(Exception):
    """A row cannot be understood by this release; the text names its key."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The last changes: each one's id and the keys that it touched. ``revision``: as of which; 0: there are none."""

    revision: int = 0
    last: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def since(self, before: Changes) -> tuple[str, ...] | None:
        """The keys that were touched since then, each once; None: it does not reach back so far."""
        if not before.last:
            return None
        ids = [change for change, _ in self.last]
        if before.last[-1][0] not in ids:
            return None
        newer = self.last[ids.index(before.last[-1][0]) + 1 :]
        return tuple(dict.fromkeys(key for _, keys in newer for key in keys))

    def has(self, change: str) -> bool:
        """Is this change one of them?"""
        return any(each == change for each, _ in self.last)

    @property
    def text(self) -> bytes:
        """As it stands in etcd."""
        return json.dumps(self.last).encode()

    def and_then(self, change: str, keys: Iterable[str]) -> bytes:
        """What is written with the next change."""
        kept = [*self.last, (change, tuple(keys))][-_REMEMBERED:]
        while len(kept) > 1 and sum(len(each) for _, each in kept) > _KEYS_REMEMBERED:
            del kept[0]
        return json.dumps(kept).encode()


@dataclass(frozen=True, slots=True)
class Difference:
    """What others have changed. ``whole``: ``put`` is all there is, and nothing else is left."""

    changes: Changes
    put: dict[str, InEtcd] = field(default_factory=dict)  # by their keys in etcd
    gone: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """The change is there."""

    changes: Changes


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Somebody else has changed something first: nothing of this was written, and nothing of it will be."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """It may be there, or come yet: it is sent again."""

    why: str


class Write:
    """One change on its way, of at most what etcd takes at once (``parts``)."""

    def __init__(self, names: Names, before: Changes, change: str, writes: tuple[Op, ...]) -> None:
        self._names, self._change = names, change
        self._keys = tuple(op.key for op in writes)
        self._before, self._sent = before, False
        changes = Put(names.enrolment_changes, before.and_then(change, self._keys))
        # safety: a decision rests on the rows as they were read; with this it is written on those alone. A restored
        # etcd gives revisions again, so the value is compared as well.
        compare: tuple[Compare, ...] = (Unchanged(names.enrolment_changes, before.revision),)
        compare += (Holds(names.enrolment_changes, before.text),) if before.revision else ()
        self._txn = Txn(compare, (changes, *writes), (Get(names.enrolment_changes),))

    def attempt(self) -> Exchange[Written | Overtaken | Doubtful]:
        """Send it; where that is ``Doubtful`` again. Raises EtcdError: nothing was done, and nothing will be."""
        try:
            done: TxnDone = yield self._txn
        except InDoubt as doubt:
            self._sent = True
            return Doubtful(str(doubt))
        except EtcdError as error:
            if self._sent:
                return Doubtful(str(error))
            raise
        if done.succeeded:
            kept = json.loads(self._before.and_then(self._change, self._keys))
            return Written(Changes(done.revision, _last(kept)))
        there = changes_in(done.found[0].one)
        return Written(there) if there.has(self._change) else Overtaken()


def parts(names: Names, put: Iterable[InEtcd], drop: Iterable[InEtcd]) -> list[tuple[Op, ...]]:
    """What is written, in as few transactions as etcd takes."""
    ops: list[Op] = [Put(key_of_row(names, row), _text(row)) for row in put]
    written = {op.key for op in ops}
    ops += [Delete(key) for row in drop if (key := key_of_row(names, row)) not in written]
    found: list[list[Op]] = [[]]
    size = 0
    for op in ops:
        size += len(op.value) if isinstance(op, Put) else 0
        if len(found[-1]) >= _WRITES or (size > _BYTES and found[-1]):
            found.append([])
            size = len(op.value) if isinstance(op, Put) else 0
        found[-1].append(op)
    return [tuple(part) for part in found if part]


def seed(names: Names, rows: Iterable[InEtcd], change: str) -> Exchange[Written | Overtaken]:
    """Give these to an etcd that has had none. Raises EtcdError: ask again."""
    never = (Unchanged(names.enrolment_changes, 0),)
    first = Put(names.enrolment_changes, Changes().and_then(change, ()))
    for part in (*parts(names, rows, ()), (first,)):
        done: TxnDone = yield Txn(never, part, (Get(names.enrolment_changes),))
        if not done.succeeded:
            there = changes_in(done.found[0].one)
            return Written(there) if there.has(change) else Overtaken()
    return Written(Changes(done.revision, ((change, ()),)))


def read(names: Names, before: Changes) -> Exchange[Difference | None]:
    """What has been changed since; None: nothing. Raises EtcdError, UnreadableRow."""
    found: Found = yield Get(names.enrolment_changes)
    changes = changes_in(found.one)
    if changes == before:
        return None
    touched = changes.since(before)
    if touched is None or len(touched) > _ONE_BY_ONE:
        return (yield from _everything(names, changes, found.revision))
    put, gone = {}, []
    for key in touched:
        one: Found = yield Get(key, revision=found.revision)
        if one.one is None:
            gone.append(key)
        else:
            put[key] = row_of(names, one.one)
    return Difference(changes, put, tuple(gone))


def _everything(names: Names, changes: Changes, revision: int) -> Exchange[Difference]:
    put: dict[str, InEtcd] = {}
    key, end = names.enrolment_rows, behind(names.enrolment_rows)
    while True:
        page: Found = yield Get(key, end, _PAGE, revision)
        put |= {kept.key: row_of(names, kept) for kept in page.kept}
        if not page.more:
            return Difference(changes, put, whole=True)
        key = page.kept[-1].key + "\0"


def changes_in(kept: Kept | None) -> Changes:
    """What the key of changes says. Raises UnreadableRow."""
    if kept is None:
        return Changes()
    try:
        return Changes(kept.modified, _last(json.loads(kept.value)))
    except (ValueError, TypeError) as error:
        raise UnreadableRow(f"{kept.key} in etcd cannot be read: {error}") from error


def _last(said: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((str(change), tuple(str(key) for key in keys)) for change, keys in said)


def key_of_row(names: Names, row: InEtcd) -> str:
    """Where a row stands."""
    return names.enrolment_row(_WORDS[type(row)], str(getattr(row, fields(row)[0].name)))


def _text(row: InEtcd) -> bytes:
    return json.dumps(asdict(row)).encode()


def row_of(names: Names, kept: Kept) -> InEtcd:
    """A row. Fields that a later release has added are left out; raises UnreadableRow for what cannot be understood."""
    where = names.parts(kept.key)
    kind = _KINDS.get(where[2]) if len(where) == 4 else None
    if kind is None:
        raise UnreadableRow(f"{kept.key} in etcd is of no kind that is known: install the newest release that runs")
    try:
        said = json.loads(kept.value)
        row = kind(**{each.name: said[each.name] for each in fields(kind) if each.name in said})
    except (ValueError, TypeError) as error:
        raise UnreadableRow(f"{kept.key} in etcd cannot be read: {error}") from error
    if not _well_typed(row) or key_of_row(names, row) != kept.key:
        raise UnreadableRow(f"{kept.key} in etcd holds another row, or one of other types")
    return row


def _well_typed(row: InEtcd) -> bool:
    kinds: Mapping[str, type] = {"str": str, "int": int}
    return all(type(getattr(row, each.name)) is kinds[str(each.type)] for each in fields(row))
