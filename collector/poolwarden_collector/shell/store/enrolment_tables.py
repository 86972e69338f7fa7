"""Tokens, keys of hosts, their certificates and those that nobody may use: the rows of enrolment in the journal's file.

Rules
-----
* A value here is a row: the fields are the columns, the first is its key. Times are wall time, ms.
* Of a token only its SHA-256 is there; of a key only what is public.
* Functions of an open database, each called within one of the journal's transactions or readings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from sqlite_utils import Database

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.values import PoolId

WAITING, ACCEPTED, CERTIFIED = "waiting", "accepted", "certified"
REFUSED, REPLACED, DENIED = "refused", "replaced", "denied"


@dataclass(frozen=True, slots=True)
class Token:
    """The right to enrol ``uses`` hosts of a pool, or (``host``) one of them alone, until ``expires_ms``."""

    id: str
    hash: str
    pool: str
    host: str
    uses: int
    used: int
    created_ms: int
    expires_ms: int
    actor: str
    revoked_ms: int = 0


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key that a host has asked with: what became of it, and which machine asked (JSON).

    ``key``: SHA-256 of its SubjectPublicKeyInfo, hex. ``seen_ms``: when a stream first came with it; 0: none has.
    """

    key: str
    pool: str
    host: str
    host_name: str
    machine: str
    csr: str
    token: str
    state: str
    since_ms: int
    actor: str
    text: str
    seen_ms: int = 0


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate of a key; ``expires_ms``: its promised end. ``pem``: with its chain; empty: a later one was made.

    ``serial``: hex, lower case. ``authority``: the fingerprints of the roots that the host was told to trust with it.
    """

    serial: str
    key: str
    pool: str
    host: str
    issued_ms: int
    expires_ms: int
    authority: str
    pem: str


@dataclass(frozen=True, slots=True)
class Denied:
    """A certificate that no stream may have any more, whoever made it."""

    serial: str
    host: str
    at_ms: int
    actor: str
    reason: str


Of = Token | HostKey | Certified | Denied


@dataclass(frozen=True, slots=True)
class Change:
    """What one act of enrolment changes; ``pool``: where its entries stand, empty: they are the collector's own."""

    put: tuple[Of, ...] = ()
    drop: tuple[Of, ...] = ()
    entries: tuple[Entry, ...] = ()
    alerts: tuple[AlertRaised | AlertResolved, ...] = ()
    pool: PoolId = ""
    pool_name: str = ""
    occurrence: int = 0  # of the alert that is raised; 0: it is counted


_TABLES: dict[type[Of], str] = {Token: "tokens", HostKey: "host_keys", Certified: "certificates", Denied: "denied"}


def put(db: Database, rows: Iterable[Of]) -> None:
    """Add these, or replace those with the same keys."""
    for row in rows:
        key = fields(row)[0].name
        db[_TABLES[type(row)]].insert(asdict(row), pk=key, replace=True)  # type: ignore[union-attr]


def drop(db: Database, rows: Iterable[Of]) -> None:
    """Remove those with these keys."""
    for row in rows:
        db[_TABLES[type(row)]].delete(getattr(row, fields(row)[0].name))  # type: ignore[union-attr]


def everything(db: Database) -> list[Of]:
    """Every row, the oldest first."""
    return [kind(**row) for kind, table in _TABLES.items() for row in db.query(f"SELECT * FROM {table} ORDER BY rowid")]  # noqa: S608
