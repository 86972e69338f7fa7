"""xapi's database files: ``state.db``, its generation file, and ``local.db``.

state.db is XML without a DTD: a manifest of ``<pair key value>``, then one ``<table name>`` per class with one
``<row>`` per object, everything in attributes (xapi: ocaml/database/db_xml.ml, xml_spaces.ml). Three rules make it
peculiar:

* Namespaced fields join with a double underscore: ``name__label``, ``memory__total``.
* Attribute values are escaped on top of XML: space ``%.``, tab ``%t``, newline ``%n``, carriage return ``%r``, percent
  ``%%``; files of old releases also hold ``%_`` for two spaces (xapi: ocaml/idl/escaping.ml).
* Sets are ``('a' 'b')`` and maps ``(('k' 'v') ('k2' 'v2'))``; a quote or backslash inside is escaped by a backslash.

The generation beside it is a decimal number; a missing or unreadable one counts as 0. The file with the highest
generation wins at xapi's start. local.db is one flat table of keys (xapi: ocaml/xapi/hashtbl_xml.ml).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, str]
Table = dict[str, Row]

NULL_REF = "OpaqueRef:NULL"
SCHEMA_MAJOR = "5"
SCHEMA_MINOR = "794"

_ESCAPES = {" ": "%.", "\t": "%t", "\n": "%n", "\r": "%r", "%": "%%"}
_UNESCAPES = {".": " ", "t": "\t", "n": "\n", "r": "\r", "%": "%", "_": "  "}
_ESCAPE_RE = re.compile(r"[ \t\n\r%]")
_UNESCAPE_RE = re.compile(r"%(.)", re.DOTALL)
_ATOM_RE = re.compile(r"\(|\)|'((?:[^'\\]|\\.)*)'|\s+", re.DOTALL)


class BadDatabase(ValueError):
    """The bytes are no state.db or local.db."""


@dataclass
class StateDb:
    """The content of one state.db. Rows are keyed by reference and hold unescaped column texts."""

    tables: dict[str, Table] = field(default_factory=dict)
    generation: int = 0


def escape(text: str) -> str:
    """Escape one column value as state.db holds it, before XML's own quoting."""
    return _ESCAPE_RE.sub(lambda found: _ESCAPES[found.group()], text)


def unescape(text: str) -> str:
    """Undo `escape`; an unknown ``%x`` is left as it is."""
    if "%" not in text:
        return text
    return _UNESCAPE_RE.sub(lambda found: _UNESCAPES.get(found.group(1), found.group()), text)


def dump_set(items: Sequence[str]) -> str:
    """``('a' 'b')``."""
    return "(" + " ".join(_quote(item) for item in items) + ")"


def dump_map(items: Mapping[str, str]) -> str:
    """``(('k' 'v') ('k2' 'v2'))``."""
    return "(" + " ".join(f"({_quote(key)} {_quote(value)})" for key, value in items.items()) + ")"


def parse_set(text: str) -> list[str]:
    """Read a set column. Raises BadDatabase if it is none."""
    members = _parse_sexpr(text)
    if not all(isinstance(member, str) for member in members):
        raise BadDatabase(f"not a set: {text!r}")
    return [str(member) for member in members]


def parse_map(text: str) -> dict[str, str]:
    """Read a map column. Raises BadDatabase if it is none."""
    found = {}
    for pair in _parse_sexpr(text):
        if isinstance(pair, str) or len(pair) != 2:
            raise BadDatabase(f"not a map: {text!r}")
        found[pair[0]] = pair[1]
    return found


def dump_state(state: StateDb) -> bytes:
    """The bytes of a state.db. Tables and rows keep their order."""
    lines = ["<database><manifest>"]
    for key, value in (
        ("schema_major_vsn", SCHEMA_MAJOR),
        ("schema_minor_vsn", SCHEMA_MINOR),
        ("generation_count", str(state.generation)),
    ):
        lines.append(f'<pair key="{key}" value="{value}"/>')
    lines.append("</manifest>")
    for name, table in state.tables.items():
        lines.append(f"<table name={quoteattr(name)}>")
        lines.extend(_dump_row(ref, row, state.generation) for ref, row in table.items())
        lines.append("</table>")
    lines.append("</database>")
    return "".join(lines).encode()


def parse_state(content: bytes) -> StateDb:
    """Read a state.db. Raises BadDatabase for anything that is none."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BadDatabase(f"state.db: {error}") from error
    if root.tag != "database":
        raise BadDatabase(f"state.db: root element is <{root.tag}>")
    state = StateDb()
    for pair in root.iterfind("manifest/pair"):
        if pair.get("key") == "generation_count":
            state.generation = parse_generation((pair.get("value") or "").encode())
    for table in root.iterfind("table"):
        rows = state.tables.setdefault(table.get("name") or "", {})
        for row in table.iterfind("row"):
            rows[row.get("ref") or ""] = {
                key: unescape(value) for key, value in row.attrib.items() if key != "ref" and not key.startswith("__")
            }
    return state


def parse_generation(content: bytes | None) -> int:
    """A generation file's number; missing or unreadable reads as 0 (xapi: ocaml/database/db_connections.ml)."""
    try:
        return max(0, int((content or b"").decode("ascii").strip()))
    except ValueError:
        return 0


def dump_local(rows: Mapping[str, str]) -> bytes:
    """The bytes of a local.db."""
    body = "".join(f"<row key={quoteattr(key)} value={quoteattr(value)}/>" for key, value in rows.items())
    return f"<config>{body}</config>".encode()


def parse_local(content: bytes) -> dict[str, str]:
    """Read a local.db. Raises BadDatabase for anything that is none."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BadDatabase(f"local.db: {error}") from error
    return {row.get("key") or "": row.get("value") or "" for row in root.iterfind("row")}


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _dump_row(ref: str, row: Row, generation: int) -> str:
    columns = "".join([_dump_column(key, value) for key, value in row.items() if key != "_ref"])
    reference = quoteattr(ref)
    return f'<row ref={reference} __ctime="1" __mtime="{generation}" _ref={reference}{columns}/>'


@lru_cache(maxsize=1 << 16)
def _dump_column(key: str, value: str) -> str:
    """One attribute. The same few thousand come again with every generation of a pool's database."""
    return f" {key}={quoteattr(escape(value))}"


def _parse_sexpr(text: str) -> list[str | list[str]]:
    """The list that a text of at most two levels of brackets stands for."""
    stack: list[list[str | list[str]]] = [[]]
    position = 0
    while position < len(text):
        found = _ATOM_RE.match(text, position)
        if found is None:
            raise BadDatabase(f"not a set or map: {text!r}")
        position = found.end()
        if found.group() == "(":
            stack.append([])
        elif found.group() == ")":
            if len(stack) < 2:
                raise BadDatabase(f"unbalanced: {text!r}")
            closed = stack.pop()
            stack[-1].append(closed)  # type: ignore[arg-type]
        elif found.group(1) is not None:
            stack[-1].append(re.sub(r"\\(.)", r"\1", found.group(1), flags=re.DOTALL))
    if len(stack) != 1 or len(stack[0]) != 1 or isinstance(stack[0][0], str):
        raise BadDatabase(f"not a set or map: {text!r}")
    return list(stack[0][0])
