"""The collector's configuration: a TOML file, read into frozen values or refused with one line that names the mistake.

Rules
-----
* Unknown keys, wrong types and durations without a unit are refused. A policy that contradicts itself is refused with
  the inequality and its reason (core/policy.py).
* Secrets (fence parameters, webhook addresses) live in ``parameters`` and ``url``; neither is ever shown by ``repr``.
* Parsing runs no program. What needs one (asking fence agents for their metadata) is ``fence_metadata.check_devices``.
"""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from poolwarden_collector.core.facts import FenceDevice, HostId, PoolId
from poolwarden_collector.core.policy import Policy, PolicyError, cautions
from poolwarden_collector.shell.toml_table import ConfigError, Table, read_toml

__all__ = ["Alerts", "Config", "ConfigError", "Fence", "PoolSettings", "Tls", "Webhook", "load"]

DEFAULT_LISTEN = "0.0.0.0:8443"
DEFAULT_SOCKET = Path("/run/poolwarden/collector.sock")
DEFAULT_STATE = Path("/var/lib/poolwarden-collector")
_SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes, and grpc needs a few of them

# safety: these agents lie by design, fence virtual machines through the very pool that is down, or need a person.
BANNED_AGENTS = {
    "fence_dummy": "it reports success without doing anything",
    "fence_virt": "it fences virtual machines, not hosts",
    "fence_vbox": "it fences virtual machines, not hosts",
    "fence_kdump": "it proves a crash dump, not that the power is off",
    "fence_heuristics_ping": "it only pings",
    "fence_manual": "a person confirms by: poolwarden confirm-fenced HOST",
    "fence_xenapi": "it works through the very pool whose master is gone",
}
_SECRET_NAMES = ("pass", "secret", "token", "key", "community")
COLLECTOR, MEMBERS = "collector", "members"  # who runs a fence agent
_OURS = ("action", "option")  # written by Poolwarden alone


@dataclass(frozen=True, slots=True)
class Tls:
    """The collector's certificate and the authority of its agents and operators."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Fence:
    """One fence device of one host; ``limit_ms`` is the hard wall-clock limit of each run, 5 s to 10 min."""

    host: HostId
    agent: Path
    name: str
    level: int
    limit_ms: int
    parameters: dict[str, str] = field(default_factory=dict, repr=False)
    place: str = ""  # where it stands in the file, for messages
    identity: Path | None = None  # a program that says which machine it switches (device_identity.py)
    via_members: bool = False  # its agent is run by members of its host's pool (proxy.py), and need not be here

    @property
    def block(self) -> str:
        """A digest of what makes it this device: its agent and its parameters, without those that are secret."""
        plain = sorted((name, value) for name, value in self.parameters.items() if not is_secret(name))
        return hashlib.sha256(repr((str(self.agent), str(self.identity), plain)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of alerts as HTTP POST; the address often holds a token."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Alerts:
    """Where alerts go: ``log`` is a file, "-" for standard error, "" for nowhere."""

    log: str = "-"
    webhooks: tuple[Webhook, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What is special about one pool: another name that operators may use, and its policy."""

    name: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the collector is told."""

    file: Path
    name: str
    listen: str
    operator_socket: Path
    state_dir: Path
    tls: Tls
    anchors: tuple[tuple[str, int], ...] = ()
    policy: Policy = Policy()
    pools: dict[PoolId, PoolSettings] = field(default_factory=dict)
    fence: tuple[Fence, ...] = ()
    alerts: Alerts = Alerts()
    operator_listen: str = ""  # "": operators reach it on this machine only

    def policy_of(self, pool: PoolId) -> Policy:
        """The pool's own policy, or the general one."""
        special = self.pools.get(pool)
        return special.policy if special is not None else self.policy

    def cautions(self) -> tuple[str, ...]:
        """What is safe and unwise in its policies, each once."""
        policies = [self.policy, *(settings.policy for settings in self.pools.values())]
        return tuple(dict.fromkeys(text for policy in policies for text in cautions(policy)))

    def devices(self) -> dict[HostId, tuple[FenceDevice, ...]]:
        """The devices of each host, lowest level first, as the core knows them: without parameters."""
        found: dict[HostId, list[FenceDevice]] = {}
        for item in sorted(self.fence, key=lambda f: (f.host, f.level, f.name)):
            device = FenceDevice(
                item.name, item.host, item.level, item.limit_ms, item.block, item.agent.name, item.via_members
            )
            found.setdefault(item.host, []).append(device)
        return {host: tuple(devices) for host, devices in found.items()}


def load(file: Path) -> Config:
    """Read and check the file. Raises ConfigError with one line."""
    top = read_toml(file)
    collector = top.table("collector")
    general, overrides = _policy(top.table("policy"), {})
    listen = _endpoint(collector, "listen", collector.text("listen", DEFAULT_LISTEN))
    config = Config(
        file=file,
        name=_name(collector),
        listen=listen,
        operator_socket=_socket(collector),
        state_dir=collector.path("state_dir", DEFAULT_STATE),
        tls=_tls(top.table("tls")),
        anchors=tuple(_split(_endpoint(top, "anchors", text)) for text in top.texts("anchors")),
        policy=general,
        pools=_pools(top.table("pools"), overrides),
        fence=_fences(top.tables("fence")),
        alerts=_alerts(top.table("alerts")),
        operator_listen=_operator_listen(collector, listen),
    )
    collector.done()
    top.done()
    return config


def _name(table: Table) -> str:
    name = table.text("name", "collector")
    if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise table.wrong("name", f"is {name!r}", "letters, digits, '-', '_' and '.'")
    return name


def _endpoint(table: Table, key: str, text: str) -> str:
    host, port = _split_text(text)
    try:
        ip_address(host)
        good = port.isdigit() and 0 <= int(port) < 65536
    except ValueError:
        good = False
    if not good:
        raise table.wrong(key, f"is {text!r}", 'ADDRESS:PORT with an IP address, e.g. "192.0.2.1:8443" or "[::]:8443"')
    return text


def _operator_listen(table: Table, agents: str) -> str:
    given, text = table.has("operator_listen"), table.text("operator_listen", "")
    if not given:
        return ""
    _endpoint(table, "operator_listen", text)
    if text == agents and _split(text)[1] != 0:
        raise table.wrong("operator_listen", f"is {text!r}, where agents are served", "another port")
    return text


def _split_text(text: str) -> tuple[str, str]:
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def _split(text: str) -> tuple[str, int]:
    host, port = _split_text(text)
    return host, int(port)


def _socket(table: Table) -> Path:
    path = table.path("operator_socket", DEFAULT_SOCKET)
    if len(str(path).encode()) > _SOCKET_PATH_LIMIT:
        raise table.wrong("operator_socket", f"is {len(str(path))} bytes long", f"at most {_SOCKET_PATH_LIMIT} bytes")
    return path


def _tls(table: Table) -> Tls:
    found = {}
    for key in ("ca", "cert", "key"):
        path = table.path(key)
        try:
            with path.open("rb") as stream:
                head = stream.read(11)
        except OSError as error:
            raise table.wrong(key, f"{path} cannot be read ({error.strerror})", "a PEM file") from error
        if head != b"-----BEGIN ":
            raise table.wrong(key, f"{path} is no PEM", "a file that begins with -----BEGIN")
        found[key] = path
    table.done()
    return Tls(**found)


def _policy(table: Table, inherited: dict[str, Any]) -> tuple[Policy, dict[str, Any]]:
    """A policy from its overrides over inherited ones, and all overrides together."""
    given = dict(inherited)
    for item in fields(Policy):
        if not table.has(item.name):
            table.duration(item.name, 0)  # known, not given
        elif item.type == "Ms":
            given[item.name] = table.duration(item.name)
        elif item.type == "bool":
            given[item.name] = table.flag(item.name)
        elif item.name.endswith("_bytes"):
            given[item.name] = table.size(item.name)
        elif item.type == "int":
            given[item.name] = table.integer(item.name)
        elif item.type == "tuple[str, ...]":
            given[item.name] = _hosts(table, item.name)
        else:
            given[item.name] = table.text(item.name)
    table.done()
    try:
        return Policy(**given), given
    except PolicyError as error:
        raise ConfigError(f"{table.file}: [{table.name}]: {error}") from error


def _hosts(table: Table, key: str) -> tuple[str, ...]:
    """Hosts by name or UUID, each once."""
    names = table.texts(key)
    if not all(names) or len(set(names)) != len(names):
        raise table.wrong(key, "names a host twice, or has an empty name", 'a list such as ["host-2", "host-3"]')
    return names


def _pools(table: Table, overrides: dict[str, Any]) -> dict[PoolId, PoolSettings]:
    found = {}
    for key in table.keys():  # noqa: SIM118  (a Table is no mapping)
        sub = table.table(key)
        policy, _ = _policy(sub.table("policy"), overrides)
        found[_uuid(table, key, key)] = PoolSettings(sub.text("name", ""), policy)
        sub.done()
    return found


def _uuid(table: Table, key: str, text: str) -> str:
    try:
        canonical = str(uuid.UUID(text))
    except ValueError:
        canonical = ""
    if canonical != text:
        raise table.wrong(
            key, f"{text!r} is no UUID in its usual form", "a UUID such as 5c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a10"
        )
    return text


def _fences(tables: tuple[Table, ...]) -> tuple[Fence, ...]:
    found: list[Fence] = []
    for table in tables:
        device = _fence(table)
        if any(other.name == device.name for other in found):
            raise table.wrong(
                "name", f"{device.name!r} is the name of another device", "a name of its own for each device"
            )
        found.append(device)
    return tuple(found)


def _fence(table: Table) -> Fence:
    host = _uuid(table, "host", table.text("host"))
    level = table.integer("level", 1, 1, 9)
    via_members = _via(table)
    agent = _agent(table, via_members)
    limit = table.duration("limit", 40_000)
    if not 5_000 <= limit <= 600_000:
        raise table.wrong("limit", f"is {limit / 1000:g} s", "5s to 10m")
    name, parameters = table.text("name", f"{host}-{level}"), _parameters(table)
    identity = table.path("identity") if table.has("identity") else None
    if identity is None:
        table.text("identity", "")  # known, not given
    elif via_members:
        raise table.wrong("identity", "a program of the collector's", 'none where `via` is "members": fence bind')
    elif not os.access(identity, os.X_OK):
        raise table.wrong("identity", f"{identity} is not executable", "a program that prints uuid= and serial= lines")
    table.done()
    return Fence(host, agent, name, level, limit, parameters, table.name, identity, via_members)


def _via(table: Table) -> bool:
    """Is the agent run by members of the pool?"""
    via = table.text("via", COLLECTOR)
    if via not in (COLLECTOR, MEMBERS):
        raise table.wrong("via", f"is {via!r}", f'"{COLLECTOR}" or "{MEMBERS}"')
    return via == MEMBERS


def is_secret(name: str) -> bool:
    """Is this parameter's value one that nobody may see?"""
    return any(part in name.lower() for part in _SECRET_NAMES)


def _agent(table: Table, via_members: bool) -> Path:
    text = table.text("agent", None, "the absolute path of a fence agent")
    path = Path(text)
    # Where members run it, each has its own path for it, in its own configuration.
    if not path.is_absolute() and not (via_members and path.name == text and text):
        raise table.wrong("agent", f"is {text!r}", "an absolute path, e.g. /usr/sbin/fence_ipmilan")
    base = path.name.split(".")[0]
    if base in BANNED_AGENTS:
        raise table.wrong(
            "agent", f"{base} is not allowed: {BANNED_AGENTS[base]}", "an agent that switches and reads power"
        )
    return path


def _parameters(table: Table) -> dict[str, str]:
    inline = table.table("parameters")
    given: dict[str, str] = {}
    for key in inline.keys():  # noqa: SIM118  (a Table is no mapping)
        given[key] = inline.text(key)
    if table.has("secret_file"):
        given |= _secrets(table, table.path("secret_file"))
    else:
        table.text("secret_file", "")
    for key, value in given.items():
        name = key.replace("-", "_")
        if name in _OURS or (name == "method" and value != "onoff"):
            raise inline.wrong(
                key, "is not yours to set", "no action, option or method=cycle: Poolwarden writes the action"
            )
        if not name.isidentifier() or "\n" in value or "\r" in value:
            raise inline.wrong(key, "cannot be told to a fence agent", "a plain name and a value of one line")
    return given


def _secrets(table: Table, path: Path) -> dict[str, str]:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise table.wrong("secret_file", f"{path} cannot be read ({error})", "a file of name=value lines") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise table.wrong("secret_file", f"{path} has mode {stat.S_IMODE(mode):04o}", f"mode 0600: chmod 600 {path}")
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise table.wrong("secret_file", f"line {number} of {path} has no '='", "name=value")
        found[name.strip()] = value.strip()
    return found


def _alerts(table: Table) -> Alerts:
    webhooks: list[Webhook] = []
    for item in table.tables("webhook"):
        url = item.text("url", None, "an http or https address")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise item.wrong("url", "is no http or https address", "e.g. https://alerts.example/hook")
        name = item.text("name", parts.hostname)
        if any(other.name == name for other in webhooks):
            raise item.wrong("name", f"{name!r} is the name of another webhook", "a name of its own for each webhook")
        webhooks.append(Webhook(name, url))
        item.done()
    log = table.text("log", "-")
    table.done()
    if log not in ("", "-"):
        log = str(table.file.parent.absolute() / log)
    return Alerts(log, tuple(webhooks))
