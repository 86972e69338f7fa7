"""The table [page]: where people look at the pools in a browser (docs/page.md). Absent: nowhere.

Rules
-----
* It has an address of its own and always speaks TLS: a password and a session's cookie cross it.
* With ``client_ca`` an operator's certificate signs in as well; what it may see stands in ``[[operators]]``.
* Users of the page are made by ``poolwarden-collector web-user``: their passwords are in no configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.config.toml_table import Table

_HOUR: Ms = 3_600_000
SHORTEST, LONGEST, USUAL = _HOUR // 12, 31 * 24 * _HOUR, 12 * _HOUR


@dataclass(frozen=True, slots=True)
class PageSettings:
    """``host`` and ``port`` to listen on (port 0: any); ``session_ms``: how long who has signed in stays so."""

    host: str
    port: int
    cert: Path
    key: Path
    client_ca: Path | None = None  # None: no certificate signs in
    session_ms: Ms = USUAL

    @property
    def address(self) -> str:
        """As it is written in the configuration."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_page(table: Table) -> PageSettings:
    """The settings of a table that is there. Raises ConfigError."""
    host, port = _listen(table)
    cert, key = _file(table, "cert"), _file(table, "key")
    client_ca = _file(table, "client_ca") if table.has("client_ca") else None
    table.text("client_ca", "")  # known
    session = table.duration("session", USUAL)
    if not SHORTEST <= session <= LONGEST:
        raise table.wrong("session", "is too short or too long", "5m to 744h")
    table.done()
    return PageSettings(host, port, cert, key, client_ca, session)


def _listen(table: Table) -> tuple[str, int]:
    text = table.text("listen", None, 'ADDRESS:PORT, e.g. "0.0.0.0:7446"')
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
        good = port.isascii() and port.isdigit() and int(port) < 65536
    except ValueError:
        good = False
    if not good:
        raise table.wrong("listen", f"is {text!r}", 'ADDRESS:PORT with an IP address, e.g. "0.0.0.0:7446"')
    return host, int(port)


def _file(table: Table, key: str) -> Path:
    path = table.path(key)
    try:
        with path.open("rb") as stream:
            head = stream.read(11)
    except OSError as error:
        raise table.wrong(key, f"{path} cannot be read ({error.strerror})", "a PEM file") from error
    if head != b"-----BEGIN ":
        raise table.wrong(key, f"{path} is no PEM", "a file that begins with -----BEGIN")
    return path
