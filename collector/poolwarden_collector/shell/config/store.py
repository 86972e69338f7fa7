"""The table [store]: etcd, which several collectors share. Absent: this collector is alone, and has its own journal.

Rules
-----
* ``etcd`` lists the endpoints of one etcd: https, with the authority, the certificate and the key by which this
  collector and etcd know each other. Plain http reaches loopback alone.
* Every collector of one etcd has the same ``prefix`` and a name of its own ([collector] name, which has to be given).
* ``agents`` and ``operators`` are how agents, operators and the other collectors reach this one: what they are told by
  whoever they ask instead of it. So [collector] operator_listen is needed.
* etcd's user needs a password: a line ``password=...`` in ``secret_file``, or one of the other places for secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from poolwarden_collector.shell.cluster.etcd_access import Access, BadEndpoint
from poolwarden_collector.shell.cluster.names import DEFAULT_PREFIX, Names
from poolwarden_collector.shell.config.enrolment import is_dialled
from poolwarden_collector.shell.config.secrets import read_secrets
from poolwarden_collector.shell.config.toml_table import Table

MOST_ENDPOINTS = 9
LONGEST_PREFIX = 200
_ENDPOINTS = 'a list such as ["https://192.0.2.21:2379", "https://192.0.2.22:2379", "https://192.0.2.23:2379"]'


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the collectors' etcd is, and where this one is reached: HOST:PORT each."""

    etcd: Access = field(repr=False)
    names: Names
    agents: str
    operators: str


def read_store(table: Table, collector: Table, environment: Mapping[str, str]) -> StoreSettings | None:
    """None: this collector is alone. Raises ConfigError."""
    if not table.has("etcd"):
        if table.keys():
            raise table.wrong("etcd", "is missing", f"{_ENDPOINTS}, or no table [{table.name}]")
        return None
    endpoints = _endpoints(table)
    ca, cert, key = _files(table, endpoints)
    user, password = _user(table, environment)
    try:
        access = Access(endpoints, ca, cert, key, user, password)
    except BadEndpoint as error:
        raise table.wrong("etcd", f"cannot be used ({error})", _ENDPOINTS) from error
    _check_collector(collector)
    settings = StoreSettings(access, _names(table), _reached(table, "agents"), _reached(table, "operators"))
    table.done()
    return settings


def _endpoints(table: Table) -> tuple[str, ...]:
    found = table.texts("etcd")
    if not found or len(found) > MOST_ENDPOINTS or len(set(found)) != len(found):
        raise table.wrong("etcd", f"has {len(found)} endpoints", f"each once, 1 to {MOST_ENDPOINTS}: {_ENDPOINTS}")
    return found


def _files(table: Table, endpoints: tuple[str, ...]) -> tuple[Path | None, Path | None, Path | None]:
    keys = ("ca", "cert", "key")
    if not any(table.has(each) for each in keys) and all(each.startswith("http://") for each in endpoints):
        for each in keys:
            table.text(each, "")  # known, not given
        return None, None, None
    ca, cert, private = (table.pem(each) for each in keys)
    return ca, cert, private


def _user(table: Table, environment: Mapping[str, str]) -> tuple[str, str]:
    user = table.text("user", "")
    secrets = read_secrets(table, environment)
    password = secrets.pop("password", "")
    if secrets:
        raise table.wrong("secret_file", f"has {', '.join(sorted(secrets))} as well", "password=... alone")
    if bool(user) != bool(password):
        given, lacking = ("user", "password") if user else ("password", "user")
        expected = 'user = "..." and a file of mode 0600 with password=..., secret_file = "..."; or neither'
        raise table.wrong("user", f"has a {given} and no {lacking}", expected)
    return user, password


def _names(table: Table) -> Names:
    prefix = table.text("prefix", DEFAULT_PREFIX)
    try:
        if len(prefix) > LONGEST_PREFIX:
            raise ValueError(prefix)
        return Names(prefix)
    except ValueError:
        expected = (
            f"a word of at most {LONGEST_PREFIX} letters without a slash at its ends, the same at every collector"
        )
        raise table.wrong("prefix", f"is {prefix[:60]!r}", expected) from None


def _reached(table: Table, key: str) -> str:
    text = table.text(key, None, f"HOST:PORT, as {key} and the other collectors reach this one")
    if not is_dialled(text):
        expected = f'HOST:PORT as {key} reach this collector, e.g. "192.0.2.10:7443" or "[2001:db8::5]:7443"'
        raise table.wrong(key, f"is {text!r}", expected)
    return text


def _check_collector(collector: Table) -> None:
    if not collector.has("name"):
        raise collector.wrong("name", "is missing", "a name of its own for each of several collectors")
    if not collector.has("operator_listen"):
        expected = 'where operators and the other collectors reach it, e.g. "0.0.0.0:7444"'
        raise collector.wrong("operator_listen", "is missing, and [store] etcd is set", expected)
