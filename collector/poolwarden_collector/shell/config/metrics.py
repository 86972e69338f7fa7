"""The table [metrics]: where Prometheus reads the collector's figures. Absent: nowhere.

Rules
-----
* It has an address of its own, by default on this machine only.
* A user goes with a password and a password with a user. The password is a secret: it stands in a file of mode 0600 or
  in the collector's environment, never in the configuration, and is never shown by ``repr``.
* With ``cert`` and ``key`` it speaks TLS; with ``client_ca`` it takes those alone who have a certificate of that
  authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from poolwarden_collector.shell.config.secrets import read_secrets
from poolwarden_collector.shell.config.toml_table import Table

DEFAULT_LISTEN = "127.0.0.1:9750"
PASSWORD = "password"


@dataclass(frozen=True, slots=True)
class MetricsTls:
    """Certificate and key; ``client_ca``: the authority of those who may read, None: no certificate is asked for."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """``host`` and ``port`` to listen on (port 0: any); ``user`` "": nobody is asked for a password."""

    host: str = "127.0.0.1"
    port: int = 9750
    tls: MetricsTls | None = None
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """As it is written in the configuration."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def cautions(self) -> tuple[str, ...]:
        """What is allowed and unwise."""
        if ip_address(self.host).is_loopback:
            return ()
        if self.user and self.tls is None:
            return (f"[metrics] {self.address}: the password crosses the network in the clear: set cert and key",)
        if not self.user and (self.tls is None or self.tls.client_ca is None):
            what = "names of pools and hosts, versions and verdicts"
            return (f"[metrics] {self.address}: whoever reaches it reads {what}: set user and password, or client_ca",)
        return ()


def read_metrics(table: Table, environment: Mapping[str, str]) -> Metrics:
    """The settings of a table that is there. Raises ConfigError."""
    host, port = _listen(table)
    user, password = _login(table, environment)
    metrics = Metrics(host, port, _tls(table), user, password)
    table.done()
    return metrics


def _listen(table: Table) -> tuple[str, int]:
    text = table.text("listen", DEFAULT_LISTEN)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
        good = port.isascii() and port.isdigit() and int(port) < 65536
    except ValueError:
        good = False
    if not good:
        raise table.wrong("listen", f"is {text!r}", 'ADDRESS:PORT with an IP address, e.g. "127.0.0.1:9750"')
    return host, int(port)


def _login(table: Table, environment: Mapping[str, str]) -> tuple[str, str]:
    if table.has(PASSWORD):
        where = f"it in a file of mode 0600, as a line {PASSWORD}=..., which `secret_file` of this block names"
        raise table.wrong(PASSWORD, "a secret does not belong into this file", where)
    user, secrets = table.text("user", ""), read_secrets(table, environment)
    for name in secrets.keys() - {PASSWORD}:
        raise table.wrong("secret_file", f"{name!r} is no secret that is known here", f"a line {PASSWORD}=...")
    if ":" in user or not user.isprintable():
        raise table.wrong("user", "has a colon or a character that cannot be printed", "a plain name (RFC 7617)")
    if user and not secrets.get(PASSWORD):
        raise table.wrong("user", "has no password", f"`secret_file` naming a file with a line {PASSWORD}=...")
    if secrets and not user:
        raise table.wrong("user", "is missing beside a password", "the name that goes with it")
    return user, secrets.get(PASSWORD, "")


def _tls(table: Table) -> MetricsTls | None:
    given = {key: _file(table, key) for key in ("cert", "key", "client_ca")}
    cert, key, client_ca = given["cert"], given["key"], given["client_ca"]
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise table.wrong("cert" if cert is None else "key", "is missing", "cert and key together, as PEM files")
    return MetricsTls(cert, key, client_ca)


def _file(table: Table, key: str) -> Path | None:
    if not table.has(key):
        table.text(key, "")  # known, not given
        return None
    path = table.path(key)
    try:
        with path.open("rb") as stream:
            head = stream.read(11)
    except OSError as error:
        raise table.wrong(key, f"{path} cannot be read ({error.strerror})", "a PEM file") from error
    if head != b"-----BEGIN ":
        raise table.wrong(key, f"{path} is no PEM", "a file that begins with -----BEGIN")
    return path
