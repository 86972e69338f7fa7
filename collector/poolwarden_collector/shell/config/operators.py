"""Who may do what at the operator's interface: ``[[operators]]``, ``operator_group`` and ``second_person``.

Rules
-----
* An entry gives one role, in all pools or in those that it names, to the name of a certificate, to a user of this
  machine or to a group of it. Several entries of one name add up.
* safety: a pool is named by its UUID, or by the name that ``[pools.UUID]`` of this very file gives it. The name that a
  pool has in xapi is its master's to change, so whoever rules that host could call his pool another's.
* root and the collector's own user have every right and no entry: whoever is one of them can write the file.
* As long as there is no entry at all everybody has every right who has an operator's certificate or may write to the
  socket, as it was before there were roles; it is said at the start, by check-config and by doctor. From the first
  entry on nobody has any right without one.
* The file is read again at a reload, and each call goes by the configuration as it is then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.config.certificates import OPERATOR_NAME_HINT, is_operator_name
from poolwarden_collector.shell.config.toml_table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What may be put behind a second person, as it is typed: a word that ends a machine, or stands for its end.
SECONDABLE = ("confirm-fenced", "approve --shoot", "fence off")
OPEN = (
    "there is no [[operators]]: {} has every right in every pool; give each a role and pools (docs/operators.md), "
    "beginning with your own, for from the first entry on nobody has any right without one"
)


class Role(IntEnum):
    """What somebody may do; each may what those before it may."""

    VIEWER = 1  # look
    OPERATOR = 2  # what changes a pool
    ADMIN = 3  # what concerns the collector itself, and the record of calls

    @property
    def word(self) -> str:
        return self.name.lower()


WORDS = {role.word: role for role in Role}


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``[[operators]]``: whose (``kind`` is name, user or group), which role, in which pools (None: in all)."""

    kind: str
    who: str
    role: Role
    pools: frozenset[PoolId] | None = None


@dataclass(frozen=True, slots=True)
class Operators:
    """All that the file says of operators; ``second_person``: what needs two, as it is typed."""

    entries: tuple[Entry, ...] = ()
    second_person: frozenset[str] = frozenset()

    def remarks(self, listen: str) -> tuple[str, ...]:
        """What should be known of it at a start; ``listen``: where certificates are served, empty: nowhere."""
        if self.entries:
            return ()
        return (OPEN.format("every operator's certificate"),) if listen else ()


def read_operators(tables: Iterable[Table], collector: Table, names: Mapping[PoolId, str]) -> Operators:
    """``names``: what ``[pools.UUID] name`` calls each pool. Raises ConfigError."""
    second = collector.texts("second_person")
    for text in second:
        if text not in SECONDABLE:
            raise collector.wrong("second_person", f"names {text!r}", f"some of {', '.join(SECONDABLE)}")
    return Operators(tuple(_entry(table, names) for table in tables), frozenset(second))


def _entry(table: Table, names: Mapping[PoolId, str]) -> Entry:
    given = [kind for kind in ("name", "user", "group") if table.has(kind)]
    if len(given) != 1:
        problem = f"{len(given)} of name, user and group are given" if given else "is missing"
        raise table.wrong("name", problem, "one of: name (of a certificate), user, group (of this machine)")
    kind = given[0]
    who = table.text(kind)
    for other in ("name", "user", "group"):
        table.text(other, "")  # known
    if kind == "name" and not is_operator_name(who):
        raise table.wrong("name", f"is {who!r}", OPERATOR_NAME_HINT)
    if not who or (kind == "user" and who == "root"):
        raise table.wrong(kind, f"is {who!r}", "a name of this machine; root has every right, and needs no entry")
    word = table.text("role", None, f"one of {', '.join(WORDS)}")
    if word not in WORDS:
        raise table.wrong("role", f"is {word!r}", f"one of {', '.join(WORDS)}")
    pools = frozenset(_pool(table, text, names) for text in table.texts("pools")) if table.has("pools") else None
    if pools is not None and not pools:
        raise table.wrong("pools", "names none", "one pool or more; without this line it is all of them")
    table.done()
    return Entry(kind, who, WORDS[word], pools)


def _pool(table: Table, text: str, names: Mapping[PoolId, str]) -> PoolId:
    named = [uuid for uuid, name in names.items() if text and text == name]
    if len(named) == 1:
        return named[0]
    if named:
        raise table.wrong("pools", f"{text!r} is the name of {len(named)} pools here", "their UUIDs")
    # safety: only what no master can change stands for a pool here; a name that this file does not give is no UUID.
    return table.uuid("pools", text)
