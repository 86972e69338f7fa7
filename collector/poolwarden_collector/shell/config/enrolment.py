"""The table [enrolment]: where hosts come for their certificates, and the authority that gives them.

Rules
-----
* Without ``listen`` no host can enrol; certificates are then made by hand (``issue-host``).
* ``authority`` is a directory that ``poolwarden-collector enrolment init`` has made. The root of it must be among those
  that [tls] ca has: else every host that enrols would be refused.
* ``address`` is how hosts reach this machine; it may be left out where ``listen`` names an address itself.
* ``other_collectors`` and ``other_order_keys`` are of whoever may take this collector's place, or shares its work:
  hosts that enrol dial those addresses as well, and obey those keys as they obey this collector's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from poolwarden_collector.shell.config.toml_table import Table

MOST_OTHERS = 15  # collectors besides this one; of keys one less, because this one's next is named as well
_KEY = re.compile("[0-9a-f]{64}")
_DIALLED = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}):(?P<port>[0-9]{1,5})")
ROOTS = "ca.pem"  # in the authority's directory: every root that hosts shall trust, the one in use first


@dataclass(frozen=True, slots=True)
class EnrolmentSettings:
    """Where hosts enrol, by which authority; ``packages``: the agent's packages that are served, None: none are.

    ``other_collectors``: HOST:PORT for agents; ``other_order_keys``: public keys, 64 hex digits each.
    """

    listen: str
    authority: Path
    address: str  # of this machine, without a port
    packages: Path | None = None
    other_collectors: tuple[str, ...] = ()
    other_order_keys: tuple[str, ...] = ()

    @property
    def enrol_at(self) -> str:
        """HOST:PORT for a person who enrols a host."""
        return _joined(self.address, self.listen)

    def agents_at(self, listen: str) -> str:
        """HOST:PORT of the agents' gateway, which listens there."""
        return _joined(self.address, listen)


def read_enrolment(table: Table, endpoint: Callable[[Table, str, str], str], roots: Path) -> EnrolmentSettings | None:
    """Raises ConfigError. ``roots``: [tls] ca."""
    if not table.has("listen"):
        if table.keys():
            raise table.wrong("listen", "is missing", 'where hosts enrol, e.g. "0.0.0.0:7445"')
        return None
    listen = endpoint(table, "listen", table.text("listen"))
    authority = table.path("authority")
    _check_root(table, authority / ROOTS, roots)
    packages = table.path("packages") if table.has("packages") else None
    if packages is not None and not packages.is_dir():
        raise table.wrong("packages", f"{packages} is no directory", "the directory of the agent's packages")
    others, keys = _other_collectors(table), _other_order_keys(table)
    settings = EnrolmentSettings(listen, authority, _address(table, listen), packages, others, keys)
    table.done()
    return settings


def _address(table: Table, listen: str) -> str:
    own = listen.rpartition(":")[0].strip("[]")
    given = table.text("address", "" if ip_address(own).is_unspecified else own)
    expected = 'a name or an address without a port, as hosts reach this machine, e.g. "192.0.2.10"'
    if not given:
        raise table.wrong("address", "is missing", expected)
    if any(letter.isspace() or letter in "/@'\"" for letter in given) or (":" in given and not _is_address(given)):
        raise table.wrong("address", f"is {given!r}", expected)
    return given


def _other_collectors(table: Table) -> tuple[str, ...]:
    found = table.texts("other_collectors")
    for each in found:
        if not is_dialled(each):
            expected = 'HOST:PORT for agents, e.g. "collector-b.example.com:7443" or "[2001:db8::5]:7443"'
            raise table.wrong("other_collectors", f"has {each!r}", expected)
    if len(found) > MOST_OTHERS or len(set(found)) != len(found):
        raise table.wrong("other_collectors", f"has {len(found)} addresses", f"each once, at most {MOST_OTHERS}")
    return found


def _other_order_keys(table: Table) -> tuple[str, ...]:
    found = tuple(each.lower() for each in table.texts("other_order_keys"))
    for each in found:
        if not _KEY.fullmatch(each):
            expected = "64 hex digits, as poolwarden-collector order-key prints"
            raise table.wrong("other_order_keys", f"has {each!r}", expected)
    if len(found) > MOST_OTHERS - 1 or len(set(found)) != len(found):
        raise table.wrong("other_order_keys", f"has {len(found)} keys", f"each once, at most {MOST_OTHERS - 1}")
    return found


def is_dialled(text: str) -> bool:
    """Is it what an agent takes (agent: core/collector_turns.py)?"""
    match = _DIALLED.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        return False
    return match["six"] is None or _is_address(match["six"])


def _check_root(table: Table, own: Path, trusted: Path) -> None:
    made = "a directory of: poolwarden-collector enrolment init DIR"
    try:
        root, known = x509.load_pem_x509_certificates(own.read_bytes())[0], trusted.read_bytes()
    except (OSError, ValueError) as error:
        raise table.wrong("authority", f"{own} cannot be used ({error})", made) from error
    try:
        found = root in x509.load_pem_x509_certificates(known)
    except ValueError:
        found = False
    if not found:
        raise table.wrong("authority", f"its root is not in {trusted}", f'in [tls]: ca = "{own}", or both in one file')


def _joined(host: str, listen: str) -> str:
    return f"[{host}]:{_port(listen)}" if ":" in host else f"{host}:{_port(listen)}"


def _port(listen: str) -> str:
    return listen.rpartition(":")[2]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
