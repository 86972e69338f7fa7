"""The files that an operator would write: the collector's configuration and the fence agent's wrapper."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poolwarden_collector.shell.agents.order_key import OrderKey, load_or_make
from poolwarden_lab.processes.bmc import chassis

if TYPE_CHECKING:
    from pathlib import Path

BMC_USER, BMC_PASSWORD = chassis.USER, chassis.PASSWORD  # the lab's BMCs have one and the same
_COUNTS = {
    "unknown_readings",
    "xapi_restarts",
    "min_survivors",
    "repoint_parallel",
    "min_root_free_bytes",
    "generation_leap",
}
_PERCENT = {"disk_warning_percent", "disk_critical_percent"}


@dataclass(frozen=True, slots=True)
class FenceEntry:
    """A host and its BMC."""

    host: str
    name: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """The etcd of several collectors, with one's credentials, and where that one is reached (HOST:PORT)."""

    endpoints: list[str]
    ca: Path
    cert: Path
    key: Path
    agents: str
    operators: str


def lab_parameters(address: str, port: int) -> dict[str, str]:
    """What ``fence_lab`` is told of one of the lab's own BMCs."""
    return {"ip": address, "ipport": str(port), "username": BMC_USER, "login_timeout": "2"}


def write_fence_agent(home: Path, program: Path) -> Path:
    """An executable ``fence_lab`` that runs on this very interpreter; beside it the program that asks for identity."""
    target = home / "fence_lab"
    for path, argument in ((target, '"$@"'), (identity_program(target), "identity")):
        path.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{program}' {argument}\n")
        path.chmod(0o755)
    return target


def identity_program(fence_agent: Path) -> Path:
    """What asks the lab's own BMCs which machine they switch."""
    return fence_agent.with_name("fence_lab_identity")


def order_key(home: Path) -> OrderKey:
    """The key with which the collector of this directory will sign: made before it starts, so that hosts can pin it."""
    return load_or_make(_state(home))


def _state(home: Path) -> Path:
    state = home / "state"
    state.mkdir(exist_ok=True, mode=0o700)
    return state


def collector_config(
    *,
    home: Path,
    tls: Path,
    listen: str,
    socket: Path,
    anchors: list[str],
    policy: dict[str, int | bool | str],
    fences: list[FenceEntry],
    fence_agent: Path,
    webhook: str,
    via_members: bool = False,
    page: str = "",
    name: str = "lab",
    store: StoreEntry | None = None,
) -> str:
    """The collector's TOML; the BMCs' password goes into a file that only its owner can read.

    ``page``: where it is; ``store``: it is one of several.
    """
    secret = home / "bmc.secret"
    secret.touch(mode=0o600)
    secret.write_text(f"password={BMC_PASSWORD}\n")
    state, logs = _state(home), home / "logs"
    logs.mkdir(exist_ok=True)  # of several collectors each has its own home
    lines = [f"anchors = {_toml(anchors)}", "", "[collector]", f"name = {_toml(name)}", f"listen = {_toml(listen)}"]
    lines += [f"operator_socket = {_toml(str(socket))}", f"state_dir = {_toml(str(state))}"]
    if store is not None:
        lines += [f"operator_listen = {_toml(store.operators)}"]
    lines += ["", "[tls]"]
    lines += [f"{key} = {_toml(str(tls / name))}" for key, name in _TLS_FILES.items()]
    lines += ["", "[policy]", *(f"{key} = {_setting(key, value)}" for key, value in policy.items())]
    for fence in fences:
        lines += [
            "",
            "[[fence]]",
            f"host = {_toml(fence.host)}",
            f"name = {_toml(fence.name)}",
            f"agent = {_toml(str(fence_agent))}",
            'limit = "30s"',
        ]
        if via_members:
            lines.append('via = "members"')
        if identity_program(fence_agent).exists():
            lines.append(f"identity = {_toml(str(identity_program(fence_agent)))}")
        lines += [f"secret_file = {_toml(str(secret))}", "[fence.parameters]"]
        lines += [f"{key} = {_toml(value)}" for key, value in fence.parameters.items()]
    lines += ["", "[alerts]", f"log = {_toml(str(logs / 'alerts.log'))}"]
    lines += ["[[alerts.webhook]]", 'name = "lab"', f"url = {_toml(webhook)}", "fold = false"]
    lines += ["[[alerts.xapi]]"]
    if store is not None:
        lines += ["[store]", f"etcd = {_toml(store.endpoints)}"]
        lines += [f"{key} = {_toml(str(getattr(store, key)))}" for key in ("ca", "cert", "key")]
        lines += [f"{key} = {_toml(getattr(store, key))}" for key in ("agents", "operators")]
    if page:
        pair = [f"{key} = {_toml(str(tls / _TLS_FILES[key]))}" for key in ("cert", "key")]
        lines += ["[page]", f"listen = {_toml(page)}", *pair]
    return "\n".join(lines) + "\n"


_TLS_FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}


def _setting(key: str, value: int | bool | str) -> str:
    """Durations as people write them; counts and switches as they are."""
    if isinstance(value, (bool, str)) or key in _COUNTS | _PERCENT:
        return _toml(value)
    return f'"{value}ms"' if value % 1000 else f'"{value // 1000}s"'


def _toml(value: object) -> str:
    """A TOML basic string, boolean, integer or array of strings is what JSON writes."""
    return json.dumps(value)
