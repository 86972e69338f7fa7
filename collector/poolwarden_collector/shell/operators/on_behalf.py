"""A collector that asks another one in an operator's name: what it says of him, and what is believed of it.

Rules
-----
* safety: the certificate of a collector that is a member *now* is needed, with a single Poolwarden URI
  (``poolwarden://collector/<name>``), and a statement in whose name it asks. By itself such a certificate may do
  nothing.
* Who he is and what he may there stands in the statement; what he may here is looked up here (access.py), and both
  hold: a role or a pool that either does not give is not given.
* He stays one person: a certificate is the same one at all collectors, a user of another machine is not the user of
  this one who has the same number.
* Whoever asks so is asked no other collector in turn: two that do not agree who owns a pool send nobody round.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.operators import WORDS
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.access import Call, Caller, Rights
from poolwarden_collector.shell.operators.admission import Stranger

KEY = "poolwarden-for-bin"  # of a call's metadata: bytes
LONGEST = 24 * 1024  # bytes as they are sent; about 1,300 pools
MOST_POOLS = 2_000  # of one grant
_UNPACKED = 256 * 1024
_TEXT = 256
_GRANTS, _GROUPS = 64, 256

Knows = Callable[[str], bool]


class TooMuch(Exception):
    """What an operator may is too long to be told; the text is one sentence."""


def statement(call: Call) -> tuple[tuple[str, bytes], ...]:
    """The metadata that says in whose name, and with which rights, another collector is asked. Raises TooMuch."""
    caller = call.caller
    said = {
        "name": caller.name,
        "person": caller.person,
        "source": caller.source,
        "kind": _kind(caller),
        "groups": caller.groups[:_GROUPS],
        "grants": [[role.word, None if pools is None else sorted(pools)] for role, pools in call.rights.grants],
    }
    told = zlib.compress(json.dumps(said).encode(), 9)
    if len(told) > LONGEST:
        raise TooMuch(f"the rights of {caller.name} name too many pools to be told to another collector")
    return ((KEY, told),)


def _kind(caller: Caller) -> str:
    if access.is_the_machines(caller):
        return access.MACHINE
    if caller.uid is not None:
        return access.USER
    return access.CERTIFICATE if caller.person == f"certificate {caller.name}" else access.PAGE


def caller(context: Any, name: str, knows: Knows) -> Caller:
    """In whose name the collector ``name`` calls. Raises Stranger."""
    if not knows(name):
        raise Stranger(f"the certificate is of the collector {name[:100]!r}, which is none of those on this etcd now")
    told = [value for key, value in context.invocation_metadata() or () if key == KEY]
    if len(told) != 1:
        raise Stranger(f"collector {name} says not in whose name it asks; its certificate gives no rights by itself")
    try:
        return _read(told[0], name, str(context.peer()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error):
        raise Stranger(f"in whose name collector {name} asks cannot be read; are both of one release?") from None


def _read(told: bytes, by: str, peer: str) -> Caller:
    """Raises ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error."""
    said = json.loads(zlib.decompressobj().decompress(told, _UNPACKED))
    name, person, kind = (_text(said[key]) for key in ("name", "person", "kind"))
    if kind not in access.KINDS or not name or not person or (kind == access.CERTIFICATE and not _is_one(name, person)):
        raise ValueError(kind)
    # safety: a certificate is one person everywhere, and so is whoever runs a collector's machine: with root on two of
    # them he is not two. A user's number is one machine's.
    whose = {access.CERTIFICATE: person, access.MACHINE: "uid 0"}.get(kind, f"{person} of {by}")
    source = f"{_text(said['source'])}, by way of collector {by} ({peer})"
    groups = tuple(_text(group) for group in said["groups"][:_GROUPS])
    return Caller(name, whose, source, None, groups, by, _grants(said["grants"]), kind)


def _is_one(name: str, person: str) -> bool:
    return certificates.is_operator_name(name) and person == f"certificate {name}"


def _grants(said: list[list[Any]]) -> Rights:
    grants = []
    for role, pools in said[:_GRANTS]:
        among: frozenset[PoolId] | None = None
        if pools is not None:
            among = frozenset(_text(pool) for pool in pools[:MOST_POOLS])
        grants.append((WORDS[role], among))
    return Rights(tuple(grants))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT or not value.isprintable():
        raise ValueError(str(value)[:40])
    return value
