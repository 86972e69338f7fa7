"""The kinds of alert channels: the settings of each as one frozen type, read from its block or refused with one line.

Rules
-----
* Each type gives its journal name as ``channel``, KIND:NAME.
* What opens a door (passwords, tokens, keys of signatures, addresses that hold a token) comes by ``secret_file`` or
  ``secret_env`` and is shown by no ``repr``. An address may stand in the file as well; nothing else may.
* No password goes over a network in clear text: mail logs in over TLS only, Alertmanager over https only, but for
  this machine itself.
* No value holds a control character, so that nothing of the configuration can end a header or a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from poolwarden_collector.shell.config.secrets import read_secrets
from poolwarden_collector.shell.config.toml_table import Table

SECURITY = ("starttls", "tls", "none")
TRANSPORTS = ("udp", "tcp", "tls", "unix")
# RFC 5424, 6.2.1, table 1, as syslog(3) names them.
FACILITIES = {
    "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "authpriv": 10,
    **{f"local{n}": 16 + n for n in range(8)},
}  # fmt: skip
_MAIL_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SYSLOG_PORTS = {"udp": 514, "tcp": 601, "tls": 6514, "unix": 0}  # RFC 5426, 6587, 5425
_HTTP = "an http or https address"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file; "-": standard error."""

    path: str

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return "log"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of alerts as HTTP POST; ``secret`` signs them, ``ca`` is the authority of its certificate."""

    name: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    ca: Path | None = None

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"webhook:{self.name}"


@dataclass(frozen=True, slots=True)
class Mail:
    """Mail through one server; ``security`` is one of SECURITY, ``user`` is empty where nobody logs in."""

    name: str
    server: str
    port: int
    security: str
    sender: str
    to: tuple[str, ...]
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca: Path | None = None

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"mail:{self.name}"


@dataclass(frozen=True, slots=True)
class Apprise:
    """A service that the library apprise knows, by its address."""

    name: str
    url: str = field(repr=False)
    ca: Path | None = None

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"apprise:{self.name}"

    @property
    def scheme(self) -> str:
        """Which service, e.g. slack."""
        return self.url.partition("://")[0].lower()


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """Prometheus Alertmanager: all replicas of one cluster. Either user and password, or a token, or neither."""

    name: str
    urls: tuple[str, ...] = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca: Path | None = None

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"alertmanager:{self.name}"


@dataclass(frozen=True, slots=True)
class Syslog:
    """A syslog receiver; ``transport`` is one of TRANSPORTS, ``facility`` a number of FACILITIES."""

    name: str
    transport: str
    server: str  # of unix: the path of the socket
    port: int
    facility: int
    ca: Path | None = None

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"syslog:{self.name}"


@dataclass(frozen=True, slots=True)
class Journald:
    """systemd's journal on this machine."""

    name: str
    socket: Path

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"journald:{self.name}"


@dataclass(frozen=True, slots=True)
class PoolMessages:
    """Messages of the pools themselves, for XenCenter, Xen Orchestra and whoever else reads them."""

    name: str = "pool"

    @property
    def channel(self) -> str:
        """The name in the journal."""
        return f"xapi:{self.name}"


Kind = LogFile | Webhook | Mail | Apprise | Alertmanager | Syslog | Journald | PoolMessages


# ------------------------------------------------------------------------------------------------ reading


def _webhook(item: Table, environment: Mapping[str, str]) -> Webhook:
    secrets = _secrets(item, environment, "url", "secret")
    url = _address(item, "url", secrets.get("url", "") or item.text("url", None, _HTTP))
    return Webhook(
        _name(item, urlsplit(url).hostname or ""), url, secrets.get("secret", ""), _ca(item, url.startswith("https:"))
    )


def _mail(item: Table, environment: Mapping[str, str]) -> Mail:
    secrets = _secrets(item, environment, "user", "password")
    server = _line(item, "server", item.text("server", None, "the mail server's name"))
    security = _one_of(item, "security", "starttls", SECURITY)
    sender, to = _mailbox(item, "from", item.text("from", None, "an address")), item.texts("to")
    if not to:
        raise item.wrong("to", "is missing or empty", 'a list of addresses, e.g. ["duty@example.com"]')
    user, password = secrets.get("user", ""), secrets.get("password", "")
    if bool(user) != bool(password):
        raise item.wrong("secret_file", "gives one of user and password", "both, or neither")
    # safety: a password that crosses the network in clear text is everybody's.
    if user and security == "none" and not _is_here(server):
        raise item.wrong("security", "is none, and a password would be sent in clear text", '"starttls" or "tls"')
    return Mail(
        _name(item, server),
        server,
        item.integer("port", _MAIL_PORTS[security], 1, 65535),
        security,
        sender,
        tuple(_mailbox(item, "to", each) for each in to),
        user,
        password,
        _ca(item, security != "none"),
    )


def _apprise(item: Table, environment: Mapping[str, str]) -> Apprise:
    secrets = _secrets(item, environment, "url")
    url = _line(item, "url", secrets.get("url", "") or item.text("url", None, "an address of apprise"))
    scheme, mark, rest = url.partition("://")
    if not mark or not rest or not scheme.replace("+", "").isalnum():
        raise item.wrong("url", "is no address of apprise", "e.g. slack://TOKEN-A/TOKEN-B/TOKEN-C, by secret_file")
    return Apprise(_name(item, scheme.lower()), url, _ca(item, True))


def _alertmanager(item: Table, environment: Mapping[str, str]) -> Alertmanager:
    secrets = _secrets(item, environment, "user", "password", "token")
    urls = tuple(_address(item, "urls", each).rstrip("/") for each in item.texts("urls"))
    if not urls:
        raise item.wrong("urls", "is missing or empty", 'a list of all replicas, e.g. ["https://am1.example:9093"]')
    user, password, token = (secrets.get(key, "") for key in ("user", "password", "token"))
    if bool(user) != bool(password) or (user and token):
        raise item.wrong("secret_file", "gives no whole login", "user and password, or token, or none")
    parts = [urlsplit(url) for url in urls]
    if any(each.username is not None for each in parts):
        raise item.wrong("urls", "holds a login", "it by secret_file, as lines user=... and password=...")
    if (user or token) and not all(each.scheme == "https" or _is_here(each.hostname or "") for each in parts):
        raise item.wrong("urls", "is http, and a password or token would be sent in clear text", "https addresses")
    name = _name(item, parts[0].hostname or "")
    return Alertmanager(name, urls, user, password, token, _ca(item, any(each.scheme == "https" for each in parts)))


def _syslog(item: Table, environment: Mapping[str, str]) -> Syslog:
    transport = _one_of(item, "transport", "udp", TRANSPORTS)
    if transport == "unix":
        server, port = str(item.path("path", Path("/dev/log"))), 0
    else:
        server = _line(item, "server", item.text("server", None, "the receiver's name or IP address"))
        port = item.integer("port", _SYSLOG_PORTS[transport], 1, 65535)
    facility = _one_of(item, "facility", "daemon", tuple(FACILITIES))
    ca = _ca(item, transport == "tls")
    return Syslog(
        _name(item, "local" if transport == "unix" else server), transport, server, port, FACILITIES[facility], ca
    )


def _journald(item: Table, environment: Mapping[str, str]) -> Journald:
    return Journald(_name(item, "local"), item.path("socket", Path("/run/systemd/journal/socket")))


def _xapi(item: Table, environment: Mapping[str, str]) -> PoolMessages:
    return PoolMessages(_name(item, "pool"))


# One block [[alerts.KIND]] of each; the caller asks for what every kind has, and then for done().
READERS: dict[str, Callable[[Table, Mapping[str, str]], Kind]] = {
    "webhook": _webhook,
    "mail": _mail,
    "apprise": _apprise,
    "alertmanager": _alertmanager,
    "syslog": _syslog,
    "journald": _journald,
    "xapi": _xapi,
}


# ------------------------------------------------------------------------------------------------ parts of blocks


def _secrets(item: Table, environment: Mapping[str, str], *names: str) -> dict[str, str]:
    found = read_secrets(item, environment)
    for name in names:
        if name != "url" and item.has(name):
            where = f"it in a file of mode 0600, as a line {name}=..., which `secret_file` of this block names"
            raise item.wrong(name, "does not belong into this file", where)
        if name == "url" and item.has("url") and "url" in found:
            raise item.wrong("url", "is given by secret_file or secret_env as well", "one of them")
    for name, value in found.items():
        if name not in names:
            raise item.wrong("secret_file", f"gives {name!r}, which is not used here", f"only {', '.join(names)}")
        _line(item, f"secret_file: {name}", value)
    if "url" in found and not item.has("url"):
        item.text("url", "")  # known, not given
    return found


def _line(item: Table, key: str, value: str) -> str:
    """One line, not empty, without control characters; the value is not shown, it may be a secret."""
    if not value or not value.isprintable():
        raise item.wrong(key, "is empty or has a control character", "text of one line")
    return value


def _name(item: Table, default: str) -> str:
    return _line(item, "name", item.text("name", default))


def _address(item: Table, key: str, url: str) -> str:
    """An http or https address, as it goes into a request: printable ASCII without blanks (RFC 3986)."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise item.wrong(key, "is no http or https address", "e.g. https://alerts.example/hook")
    if not all("!" <= character <= "~" for character in url):
        raise item.wrong(key, "has a blank or a character beyond ASCII", "an address with such characters as %20")
    return url


def _mailbox(item: Table, key: str, address: str) -> str:
    """A bare address; RFC 5321, 4.1.2 without quoted local parts."""
    local, at, domain = address.rpartition("@")
    odd = set(' \t"<>(),:;[]\\')
    if not (local and at and domain) or not address.isprintable() or not address.isascii() or odd & set(address):
        raise item.wrong(key, f"{address!r} is no mail address", "e.g. duty@example.com")
    return address


def _one_of(item: Table, key: str, default: str, known: tuple[str, ...]) -> str:
    value = item.text(key, default)
    if value not in known:
        raise item.wrong(key, f"is {value!r}", " or ".join(f'"{each}"' for each in known))
    return value


def _ca(item: Table, has_tls: bool) -> Path | None:
    if not item.has("ca"):
        item.text("ca", "")  # known, not given
        return None
    if not has_tls:
        raise item.wrong("ca", "is of no use without TLS", "no such line, or TLS")
    path = item.path("ca")
    try:
        head = path.read_bytes()
    except OSError as error:
        raise item.wrong("ca", f"{path} cannot be read ({error.strerror})", "a PEM file") from error
    if b"-----BEGIN CERTIFICATE-----" not in head:
        raise item.wrong("ca", f"{path} holds no certificate", "a PEM file of certificates")
    return path


def _is_here(server: str) -> bool:
    """Is this machine itself meant?"""
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return server == "localhost"
