"""The pool database of a master in memory, and the files it comes from and goes to.

Rules (xapi: ocaml/database/db_cache_impl.ml, db_connections.ml, ocaml/xapi/xapi.ml:70-92):

* At start the file with the highest generation among state.db, ha_metadata.db and gen_metadata.db wins, at equal
  generations ha_metadata.db before gen_metadata.db before state.db. A restore_db.db stands in for state.db and is then
  deleted: one shot, for a master only. What was loaded is always flushed to state.db (xapi.ml populate_db). The real
  start ends where that fails; this one goes on where state.db holds the very same already, unless it is told otherwise
  (tests/README.md says why).
* Every write of a field raises the generation by one. The files follow at the next flush only, so that a master that is
  killed comes back with an older database than it had.
* Sessions and tasks do not persist: they are in no file, and a process starts without any. Fields that are the other
  end of a relation (resident_VMs, PBDs, VBDs, ...) are not kept here at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab import statedb
from poolwarden_lab.statedb import NULL_REF, Row, StateDb, Table
from poolwarden_lab.xapi.actions import XapiFault
from poolwarden_lab.xapi.changes import Changes
from poolwarden_lab.xapi.datamodel import OTHER_ENDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from poolwarden_lab.xapi.actions import Disk

STATE_DB = "var/lib/xcp/state.db"
RESTORE_DB = "var/lib/xcp/restore_db.db"
RIVALS = ("var/lib/xcp/ha_metadata.db", "var/lib/xcp/gen_metadata.db")
LOCAL_DB = "var/lib/xcp/local.db"


TABLES = ("pool", "host", "host_metrics", "VM", "VBD", "VDI", "SR", "PBD", "session", "task")
DEVICES = ("network", "PIF", "PIF_metrics", "VM_metrics", "VIF")
"""Tables of what the model itself never asks for, and clients do."""
VOLATILE = ("session", "task")
_REFERRED: dict[str, list[tuple[str, str]]] = {}  # table -> column, the table whose rows it names
for (_name, _), (_table, _column) in OTHER_ENDS.items():
    _REFERRED.setdefault(_table, []).append((_column, _name))
DANGLING = "VLAN_master_of"
"""A PIF's reference to its VLAN: where that row is missing, xapi's start ends in an exception."""


class Database:
    """Tables of rows by reference; column names as in state.db (``name__label``). Missing columns read as ''."""

    def __init__(self, state: StateDb, on_write: Callable[[], None]) -> None:
        self._state = state
        self._on_write = on_write
        self._flushed = state.generation
        self._dumped = (-1, b"")  # the content at a generation
        self.changes = Changes(state.generation)

    @property
    def generation(self) -> int:
        return self._state.generation

    @property
    def dirty(self) -> bool:
        return self._state.generation != self._flushed

    @property
    def tables(self) -> dict[str, Table]:
        """All of it, to add rows to; call `touch` then."""
        for name in TABLES:
            self._state.tables.setdefault(name, {})
        return self._state.tables

    def table(self, name: str) -> Table:
        """Its rows; to make or remove one there are `add` and `remove`."""
        return self._state.tables.get(name, {})

    def known(self, table: str, ref: str) -> str:
        """The reference, if there is such a row. Raises XapiFault HANDLE_INVALID."""
        if ref not in self.table(table):
            raise XapiFault("HANDLE_INVALID", table, ref)
        return ref

    def find(self, table: str, uuid: str) -> str | None:
        """The reference of the row with this uuid."""
        return next((ref for ref, row in self.table(table).items() if row.get("uuid") == uuid), None)

    def get(self, table: str, ref: str, column: str) -> str:
        return self.table(table).get(ref, {}).get(column, "")

    def set(self, table: str, ref: str, column: str, value: str) -> None:
        row = self.table(table)[ref]
        before = row.get(column)
        if before != value:
            row[column] = value
            self.mark(table, ref)
            self._mark_other_ends(table, {column: before or ""})
            self._mark_other_ends(table, {column: value})

    def add(self, table: str, ref: str, row: Row) -> None:
        self._state.tables.setdefault(table, {})[ref] = dict(row)
        self.changes.made((table, ref))
        self._mark_other_ends(table, row)
        self._changed(table)

    def remove(self, table: str, ref: str) -> None:
        """A row that is not there is fine."""
        row = self.table(table).pop(ref, None)
        if row is not None:
            self.changes.removed((table, ref))
            self._mark_other_ends(table, row)
            self._changed(table)

    def mark(self, table: str, ref: str) -> None:
        """The row was written to."""
        self.changes.written((table, ref))
        self._changed(table)

    def _mark_other_ends(self, table: str, row: Row) -> None:
        """What a row refers to changes with it, where it is the other end of that relation."""
        for column, other in _REFERRED.get(table, ()):
            if row.get(column, NULL_REF) in self.table(other):
                self.changes.written((other, row[column]))

    def _changed(self, table: str) -> None:
        if table in VOLATILE:
            self._on_write()
        else:
            self.touch()

    def touch(self) -> None:
        """One more generation."""
        self._state.generation += 1
        self._on_write()

    def content(self) -> bytes:
        """state.db's bytes; the tables that do not persist are there and empty."""
        if self._dumped[0] != self.generation:
            kept = {name: {} if name in VOLATILE else table for name, table in self._state.tables.items()}
            self._dumped = (self.generation, statedb.dump_state(StateDb(kept, self.generation)))
        return self._dumped[1]

    def flush(self, disk: Disk) -> None:
        """Write state.db, then its generation. Raises OSError; then it stays dirty."""
        place(disk, self.content(), self.generation)
        self._flushed = self.generation

    # ---------------------------------------------------------------------------- questions of the pool's own words

    def pool_ref(self) -> str:
        return next(iter(self.table("pool")), NULL_REF)

    def master_ref(self) -> str:
        return self.get("pool", self.pool_ref(), "master")

    def address_of(self, host_ref: str) -> str:
        return self.get("host", host_ref, "address")

    def set_live(self, host_ref: str, live: bool) -> None:
        metrics = self.get("host", host_ref, "metrics")
        if metrics in self.table("host_metrics"):
            self.set("host_metrics", metrics, "live", "true" if live else "false")

    def is_live(self, host_ref: str) -> bool:
        return self.get("host_metrics", self.get("host", host_ref, "metrics"), "live") == "true"

    def placements(self) -> dict[str, str]:
        """VM uuid -> uuid of the host that resident_on names, '' for nowhere. Control domains are left out."""
        hosts = self.table("host")
        return {
            row["uuid"]: hosts.get(row.get("resident_on", NULL_REF), {}).get("uuid", "")
            for row in self.table("VM").values()
            if row.get("is_control_domain") != "true" and row.get("is_a_template") != "true"
        }


def place(disk: Disk, content: bytes, generation: int) -> None:
    """Write state.db, then its generation: a torn write shows too low a number, never too high."""
    disk.write(STATE_DB, content)
    disk.write(STATE_DB + ".generation", f"{generation}".encode())


def generation_on_disk(disk: Disk, path: str = STATE_DB) -> int:
    try:
        return statedb.parse_generation(disk.read(path + ".generation"))
    except OSError:
        return 0


def choose(disk: Disk) -> str | None:
    """The file that a starting master loads; None if there is none."""
    first = RESTORE_DB if disk.exists(RESTORE_DB) else STATE_DB
    # At equal generations the earlier one is loaded: the comparison is strict (xapi: ocaml/database/db_cache_impl.ml).
    found = [path for path in (*RIVALS, first) if disk.exists(path)]
    return max(found, key=lambda path: generation_on_disk(disk, path), default=None)


def load(disk: Disk, on_write: Callable[[], None], *, must_flush: bool) -> tuple[Database, str]:
    """Load the chosen file as a starting master does and flush it; the database and the path it came from.

    Raises BadDatabase or OSError: xapi's start fails then, and systemd tries again and again.
    """
    path = choose(disk)
    if path is None:
        raise statedb.BadDatabase("no database file")
    state = statedb.parse_state(disk.read(path))
    _check(state)
    state.generation = max(state.generation, generation_on_disk(disk, path))
    for name in VOLATILE:
        state.tables[name] = {}
    database = Database(state, on_write)
    try:
        database.flush(disk)
    except OSError:
        if must_flush or path != STATE_DB or generation_on_disk(disk) != database.generation:
            raise
    if disk.exists(RESTORE_DB):
        disk.remove(RESTORE_DB)
        disk.remove(RESTORE_DB + ".generation")
    return database, path


def _check(state: StateDb) -> None:
    vlans = state.tables.get("VLAN", {})
    for row in state.tables.get("PIF", {}).values():
        if row.get(DANGLING, NULL_REF) not in (*vlans, NULL_REF):
            raise statedb.BadDatabase(f"missing row: VLAN {row[DANGLING]}")


def read_local(disk: Disk) -> dict[str, str]:
    """local.db; missing or broken reads as empty, as in xapi."""
    try:
        return statedb.parse_local(disk.read(LOCAL_DB))
    except (OSError, statedb.BadDatabase):
        return {}


def write_local(disk: Disk, **changes: str) -> None:
    """Change keys of local.db. Raises OSError."""
    disk.write(LOCAL_DB, statedb.dump_local({**read_local(disk), **changes}))
