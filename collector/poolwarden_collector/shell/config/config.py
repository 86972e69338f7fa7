"""The collector's configuration: a TOML file, read into frozen values or refused with one line that names the mistake.

Rules
-----
* Unknown keys, wrong types and durations without a unit are refused. A policy that contradicts itself is refused with
  the inequality and its reason (core/model/policy.py).
* Secrets (fence parameters, webhook addresses, a password) live in fields that ``repr`` never shows.
* Parsing runs no program. What needs one (asking fence agents for their metadata) is ``fence_metadata.check_devices``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from poolwarden_collector.core.model.policy import Policy, PolicyError, cautions
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.config.alert_channels import Alerts, read_alerts
from poolwarden_collector.shell.config.alert_routes import Routes
from poolwarden_collector.shell.config.enrolment import EnrolmentSettings, read_enrolment
from poolwarden_collector.shell.config.fence_blocks import Fence, read_fences
from poolwarden_collector.shell.config.hooks import HookSettings, read_hooks
from poolwarden_collector.shell.config.journal import JournalSettings, read_journal
from poolwarden_collector.shell.config.metrics import Metrics, read_metrics
from poolwarden_collector.shell.config.operators import Operators, read_operators
from poolwarden_collector.shell.config.page import PageSettings, read_page
from poolwarden_collector.shell.config.store import StoreSettings, read_store
from poolwarden_collector.shell.config.toml_table import ConfigError, Table, read_toml

__all__ = ["Config", "ConfigError", "Fence", "PoolSettings", "Tls", "load"]

DEFAULT_LISTEN = "0.0.0.0:8443"
DEFAULT_SOCKET = Path("/run/poolwarden/collector.sock")
DEFAULT_STATE = Path("/var/lib/poolwarden-collector")
_SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes, and grpc needs a few of them


@dataclass(frozen=True, slots=True)
class Tls:
    """The collector's certificate and the authority of its agents and operators."""

    ca: Path
    cert: Path
    key: Path


_HIGHEST_CLAIM = (1 << 63) - (1 << 41)  # TOML's integers are signed; a leap further still fits the contract


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
    hooks: HookSettings = HookSettings()
    journal: JournalSettings = JournalSettings()
    operator_listen: str = ""  # "": operators reach it on this machine only
    epoch_above: int = 0  # agents are known to have obeyed epochs up to this one: a lost journal begins above it
    term_above: int = 0  # the same for every pool's term
    metrics: Metrics | None = None  # None: nobody reads any
    enrolment: EnrolmentSettings | None = None  # None: no host can enrol
    operators: Operators = Operators()  # their roles, and what needs two of them
    page: PageSettings | None = None  # None: nobody looks at it in a browser
    store: StoreSettings | None = None  # the etcd that several collectors share; None: this one is alone
    operator_group: str = ""  # who may write to the socket; "": the collector's own group

    @property
    def several(self) -> bool:
        """Is there another collector to which hosts may go?"""
        return self.store is not None or (self.enrolment is not None and bool(self.enrolment.other_collectors))

    def policy_of(self, pool: PoolId) -> Policy:
        """The pool's own policy, or the general one."""
        special = self.pools.get(pool)
        return special.policy if special is not None else self.policy

    def routes(self) -> Routes:
        """Which alert goes where."""
        called = {pool: settings.name for pool, settings in self.pools.items()}
        return Routes(self.alerts.channels, lambda pool: self.policy_of(pool).site, lambda pool: called.get(pool, ""))

    def cautions(self) -> tuple[str, ...]:
        """What is safe and unwise in it, each once."""
        policies = [self.policy, *(settings.policy for settings in self.pools.values())]
        of_metrics = self.metrics.cautions() if self.metrics is not None else ()
        return tuple(dict.fromkeys([text for policy in policies for text in cautions(policy)] + [*of_metrics]))

    def devices(self) -> dict[HostId, tuple[FenceDevice, ...]]:
        """The devices of each host, lowest level first, as the core knows them: without parameters."""
        found: dict[HostId, list[FenceDevice]] = {}
        for item in sorted(self.fence, key=lambda f: (f.host, f.level, f.name)):
            found.setdefault(item.host, []).append(item.device)
        return {host: tuple(devices) for host, devices in found.items()}


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the file; ``environment`` holds what ``secret_env`` names. Raises ConfigError with one line."""
    top = read_toml(file)
    collector = top.table("collector")
    general, overrides = _policy(top.table("policy"), {})
    listen = _endpoint(collector, "listen", collector.text("listen", DEFAULT_LISTEN))
    tls = _tls(top.table("tls"))
    pools = _pools(top.table("pools"), overrides)
    config = Config(
        file=file,
        name=_name(collector),
        listen=listen,
        operator_socket=_socket(collector),
        state_dir=collector.path("state_dir", DEFAULT_STATE),
        tls=tls,
        anchors=tuple(_split(_endpoint(top, "anchors", text)) for text in top.texts("anchors")),
        policy=general,
        pools=pools,
        fence=read_fences(top.tables("fence"), environment),
        alerts=read_alerts(top.table("alerts"), environment),
        hooks=read_hooks(top.table("hooks")),
        journal=read_journal(top.table("journal")),
        operator_listen=_operator_listen(collector, listen),
        epoch_above=collector.integer("epoch_above", 0, high=_HIGHEST_CLAIM),
        term_above=collector.integer("term_above", 0, high=_HIGHEST_CLAIM),
        metrics=_metrics(top, environment, collector),
        enrolment=_enrolment(top.table("enrolment"), tls, collector),
        operators=read_operators(
            top.tables("operators"), collector, {uuid: each.name for uuid, each in pools.items() if each.name}
        ),
        page=_page(top, collector),
        store=read_store(top.table("store"), collector, environment),
        operator_group=collector.text("operator_group", ""),
    )
    collector.done()
    top.done()
    return config


def name_and_socket(file: Path) -> tuple[str, Path]:
    """Who the collector of this file is, and where it serves operators; nothing else is checked. Raises ConfigError."""
    collector = read_toml(file).table("collector")
    return _name(collector), _socket(collector)


def _metrics(top: Table, environment: Mapping[str, str], collector: Table) -> Metrics | None:
    given, table = top.has("metrics"), top.table("metrics")
    if not given:
        return None
    metrics = read_metrics(table, environment)
    for key, who in (("listen", "agents"), ("operator_listen", "operators")):
        if metrics.port and collector.has(key) and collector.text(key) == metrics.address:
            raise table.wrong("listen", f"is {metrics.address!r}, where {who} are served", "another port")
    return metrics


def _page(top: Table, collector: Table) -> PageSettings | None:
    given, table = top.has("page"), top.table("page")
    if not given:
        return None
    page, others = read_page(table), {"agents": (collector, "listen"), "operators": (collector, "operator_listen")}
    others |= {"metrics": (top.table("metrics"), "listen"), "hosts that enrol": (top.table("enrolment"), "listen")}
    for who, (where, key) in others.items():
        if page.port and where.has(key) and where.text(key) == page.address:
            raise table.wrong("listen", f"is {page.address!r}, where {who} are served", "another port")
    return page


def _enrolment(table: Table, tls: Tls, collector: Table) -> EnrolmentSettings | None:
    found = read_enrolment(table, _endpoint, tls.ca)
    for key, who in (("listen", "agents"), ("operator_listen", "operators")):
        taken = collector.text(key, "")
        if found is not None and taken == found.listen and _split(taken)[1]:
            raise table.wrong("listen", f"is {taken!r}, where {who} are served", "another port")
    return found


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
    found = {key: table.pem(key) for key in ("ca", "cert", "key")}
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
        found[table.uuid(key, key)] = PoolSettings(sub.text("name", ""), policy)
        sub.done()
    return found
