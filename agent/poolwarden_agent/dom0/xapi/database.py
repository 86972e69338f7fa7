"""xapi's database file, read by iteration and within bounds.

Format (xapi: ocaml/database/db_xml.ml): ``<database><manifest>...</manifest><table name="VM"><row ref="OpaqueRef:..."
uuid="..." .../></table>...``; everything in attributes, ``__`` joins namespaced names, and in values ``%.`` is a space,
``%t`` a tab, ``%n`` a newline, ``%r`` a carriage return, ``%%`` a percent sign. Beside a file FILE there is
FILE.generation, a decimal number; a missing one counts as 0.

Bounds: at most 256 MiB are read, at most 16 MiB of text are kept, no single row may have more than 16 MiB. Declarations
(``<!``: a DTD, entities) are refused before the parser sees them, because no xapi writes one.
Which file a xapi loads: the highest generation among ha_metadata.db, gen_metadata.db and state.db, at a tie the first
of them in this order; a restore_db.db stands in for state.db (xapi: ocaml/database/db_cache_impl.ml and
db_connections.ml).

Every VM that the file knows has a placement, not only the running ones: a running domain that the file does not know is
terminated, one that it holds as halted, or places on a host that has no row in it, is adopted where it runs (xapi:
ocaml/xapi/xapi_xenops.ml). Such a VM has the placement "" (nowhere).
"""

import os
import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from poolwarden_agent.core.host_records import HostRecords, HostRows
from poolwarden_agent.core.soundness import Soundness
from poolwarden_agent.dom0.system import files, plain_files

DIRECTORY = "var/lib/xcp"
BIGGEST = 256 * 1024 * 1024
BIGGEST_ROW = 16 * 1024 * 1024
KEPT = 16 * 1024 * 1024
CHUNK = 262144
NULL = "OpaqueRef:NULL"
_ESCAPES = {"%.": " ", "%t": "\t", "%n": "\n", "%r": "\r", "%%": "%", "%_": "  "}
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
_ESCAPE = re.compile("%[.tnr%_]")

Placement = NamedTuple("Placement", [("vm", str), ("host", str), ("name", str)])


class View(NamedTuple):
    """What is wanted of a database file; ``hosts``: the UUID of every host in it.

    ``sound``: could xapi load it, as far as one pass shows (core/soundness.py)? None: it was not read to its end.
    ``records``: what it has of the host that was asked for (core/host_records.py); None: not known.
    """

    readable: bool
    generation: int
    source: str
    placements: Tuple[Placement, ...]
    pool: str
    rolling_upgrade: bool
    text: str
    hosts: Tuple[str, ...] = ()
    sound: Optional[bool] = None
    unsound: str = ""
    records: Optional[HostRecords] = None


class StateDbError(Exception):
    """The file cannot be parsed within its bounds."""


class Malformed(StateDbError):
    """The file was read to its end, and is none that xapi could load."""


def unescape(value: str) -> str:
    """A value as xapi means it."""
    return _ESCAPE.sub(lambda match: _ESCAPES[match.group(0)], value)


def generation_of(root: str, path: str) -> int:
    """The number in FILE.generation; 0 if it is missing or not a number."""
    text = files.read(root, path + ".generation", 64) or ""
    return int(text) if _NUMBER.match(text) else 0


def loads(root: str) -> Tuple[str, int]:
    """Path and generation of the file that this host's xapi would load as master; ("", 0) if there is none."""
    first = "restore_db.db" if _there(root, "restore_db.db") else "state.db"
    # The comparison is strict, in this order: at equal generations the earlier one is loaded.
    candidates = [name for name in ("ha_metadata.db", "gen_metadata.db", first) if _there(root, name)]
    ranked = [
        (generation_of(root, os.path.join(DIRECTORY, name)), -index, name) for index, name in enumerate(candidates)
    ]
    if not ranked:
        return "", 0
    generation, _, name = max(ranked)
    return os.path.join(DIRECTORY, name), generation


def own_generation(root: str) -> int:
    """The highest generation of the files that xapi has written itself: one that was placed here is none of them."""
    names = [name for name in ("ha_metadata.db", "gen_metadata.db", "state.db") if _there(root, name)]
    return max([0] + [generation_of(root, os.path.join(DIRECTORY, name)) for name in names])


def pool_of(path: str) -> str:
    """The pool's UUID in this file. :raises StateDbError: it cannot be parsed, or names none; OSError."""
    tables = _read(path).tables
    pool = tables["pool"][0].get("uuid", "") if tables["pool"] else ""
    if not pool:
        raise StateDbError("%s names no pool" % os.path.basename(path))
    return pool


def _there(root: str, name: str) -> bool:
    return os.path.isfile(files.below(root, os.path.join(DIRECTORY, name)))


def view(root: str, host: str = "") -> View:
    """Where the file that would be loaded places each VM; unreadable with the reason where it cannot be said.

    ``host``: whose own records are wanted beside; empty: nobody's.
    """
    source, generation = loads(root)
    if not source:
        return View(False, 0, "", (), "", False, "there is no database file")
    try:
        found = _read(os.path.join(root, source), host)
    except Malformed as error:
        return View(False, generation, source, (), "", False, str(error), (), False, str(error))
    except (StateDbError, OSError) as error:
        return View(False, generation, source, (), "", False, str(error))
    tables, faults = found.tables, found.soundness.faults()
    pool = tables["pool"][0] if tables["pool"] else {}
    upgrade = "rolling_upgrade_in_progress" in pool.get("other_config", "")
    listed = tuple(row.get("uuid", "") for row in tables["host"])
    placed, unsound = _placements(tables), "; ".join(faults)
    records = found.own.records() if found.own is not None else None
    return View(
        True, generation, source, placed, pool.get("uuid", ""), upgrade, "", listed, not faults, unsound, records
    )


def hosts(root: str) -> Optional[Tuple[Tuple[str, str], ...]]:
    """(UUID, address) of every host in the file that would be loaded; None where it cannot be said."""
    source, _ = loads(root)
    if not source:
        return None
    try:
        tables = _read(os.path.join(root, source)).tables
    except (StateDbError, OSError):
        return None
    return tuple((row.get("uuid", ""), unescape(row.get("address", ""))) for row in tables["host"])


def _placements(tables: Dict[str, List[Dict[str, str]]]) -> Tuple[Placement, ...]:
    hosts = {row.get("ref", row.get("_ref", "")): row.get("uuid", "") for row in tables["host"]}
    found = []
    for row in tables["VM"]:
        ignored = [row.get(flag) == "true" for flag in ("is_control_domain", "is_a_template", "is_a_snapshot")]
        if not any(ignored):
            # safety: nowhere unless another row of this very file is that host; xapi kills by resident_on alone.
            host = hosts.get(row.get("resident_on", NULL), "")
            found.append(Placement(row.get("uuid", ""), host, unescape(row.get("name__label", ""))))
    return tuple(found)


_WANTED: Dict[str, Tuple[str, ...]] = {
    "pool": ("uuid", "other_config"),
    "host": ("ref", "_ref", "uuid", "address"),
    "VM": (
        "uuid", "power_state", "resident_on", "is_control_domain", "is_a_template", "is_a_snapshot", "name__label"
    ),
}  # fmt: skip


class _Target(object):
    """Collects the wanted attributes of the wanted tables; keeps nothing else in memory."""

    def __init__(self, host: str) -> None:
        self.tables: Dict[str, List[Dict[str, str]]] = {name: [] for name in _WANTED}
        self.soundness = Soundness()
        self.own = HostRows(host, unescape) if host else None
        self.closed = False
        self.rows = 0  # of all tables: does the parser get on?
        self._table = ""
        self._kept = 0

    def start(self, tag: str, attributes: Dict[str, str]) -> None:
        self.rows += 1
        if tag == "table":
            self._table = attributes.get("name", "")
        elif tag == "pair":
            self.soundness.pair(attributes.get("key", ""), attributes.get("value", ""))
        elif tag == "row":
            self.soundness.row(self._table, attributes)
            if self.own is not None:
                self.own.row(self._table, attributes)
            self._keep(attributes)

    def _keep(self, attributes: Dict[str, str]) -> None:
        if self._table in _WANTED:
            row = {name: attributes[name] for name in _WANTED[self._table] if name in attributes}
            self._kept += sum(len(value) for value in row.values()) + 200
            if self._kept > KEPT:
                raise StateDbError("it has more rows than any pool")
            self.tables[self._table].append(row)

    def end(self, tag: str) -> None:
        if tag == "table":
            self._table = ""
        self.closed = self.closed or tag == "database"

    def close(self) -> None:
        pass


def _read(path: str, host: str = "") -> _Target:
    """Everything that is wanted of the file. :raises StateDbError: beyond its bounds, or Malformed; OSError."""
    if os.path.getsize(path) > BIGGEST:
        raise StateDbError("%s is larger than %d MiB" % (os.path.basename(path), BIGGEST // (1024 * 1024)))
    target = _Target(host)
    parser = ElementTree.XMLParser(target=target, encoding="utf-8")
    name = os.path.basename(path)
    with os.fdopen(plain_files.to_read(path), "rb") as file:
        try:
            _feed(parser, target, file)
            parser.close()
        except (ElementTree.ParseError, UnicodeDecodeError) as error:  # the latter: a name that is no UTF-8, on 3.6
            _to_the_end(file)
            raise Malformed("%s is not well-formed: %s" % (name, error)) from error
    if not target.closed:
        raise Malformed("%s is not a xapi database" % name)
    return target


def _to_the_end(file: Any) -> None:
    """What a disk cannot read is not known to be wrong: nothing is called malformed before all of it was read."""
    for _ in iter(lambda: file.read(CHUNK), b""):
        pass


def _feed(parser: Any, target: _Target, file: Any) -> None:
    last, rows, since = b"", 0, 0
    for chunk in iter(lambda: file.read(CHUNK), b""):
        if b"<!" in last + chunk:
            raise StateDbError("it has a declaration (<!): no xapi writes one")
        if b"\0" in chunk:  # UTF-16 would hide a declaration
            _to_the_end(file)
            raise Malformed("it has NUL bytes: no xapi writes them")
        last = chunk[-1:]
        parser.feed(chunk)
        rows, since = target.rows, 0 if target.rows != rows else since + len(chunk)
        if since > BIGGEST_ROW:
            raise StateDbError("it has a row of more than %d MiB" % (BIGGEST_ROW // (1024 * 1024)))
