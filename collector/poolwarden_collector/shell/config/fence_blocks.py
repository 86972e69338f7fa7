"""The ``[[fence]]`` blocks: one fence device each, read into a frozen value or refused with one line.

Rules
-----
* Secrets come from a file of mode 0600 (``secret_file``, ``name=value`` lines) or from the collector's environment
  (``secret_env``, parameter = name of a variable), never from the configuration itself, which is copied about.
* ``action`` is Poolwarden's own, and so is ``method``. ``help`` and ``version`` make every fence agent end with 0,
  which means ON for ``status`` and success for ``off`` (fence-agents: lib/fencing.py, check_input, show_docs).
* Debugging parameters write commands, and with some agents passwords, into syslog or a file; a ``*_script`` runs a
  program for a password. Both are refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.shell.config.secrets import read_secrets
from poolwarden_collector.shell.config.toml_table import Table
from poolwarden_collector.shell.redaction import is_secret

# safety: these agents lie by design, fence virtual machines through the very pool that is down, or need a person.
BANNED_AGENTS = {
    "fence_dummy": "it reports success without doing anything",
    "fence_virt": "it fences virtual machines, not hosts",
    "fence_xvm": "it fences virtual machines, not hosts",
    "fence_vbox": "it fences virtual machines, not hosts",
    "fence_kdump": "it proves a crash dump, not that the power is off",
    "fence_heuristics_ping": "it only pings",
    "fence_manual": "a person confirms by: poolwarden confirm-fenced HOST",
    "fence_ack_manual": "a person confirms by: poolwarden confirm-fenced HOST",
    "fence_xenapi": "it works through the very pool whose master is gone",
}
COLLECTOR, MEMBERS = "collector", "members"  # who runs a fence agent
_OURS = ("action", "option")
# safety: with these a fence agent ends with 0 and has done nothing: ON for status, success for off.
_NEVER = ("help", "version")
_TALKATIVE = ("verbose", "verbose_level", "debug", "debug_file")
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.]*")  # fence_ilo has one with a dot: tls1.0


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
    via_members: bool = False  # its agent is run by members of its host's pool (member_runs.py), and need not be here

    @property
    def block(self) -> str:
        """A digest of what makes it this device: its agent and its parameters, without those that are secret."""
        plain = sorted((name, value) for name, value in self.parameters.items() if not is_secret(name))
        return hashlib.sha256(repr((str(self.agent), str(self.identity), plain)).encode()).hexdigest()[:16]

    @property
    def device(self) -> FenceDevice:
        """The device as the core knows it: without parameters."""
        name = self.agent.name
        return FenceDevice(self.name, self.host, self.level, self.limit_ms, self.block, name, self.via_members)


def why_banned(name: str) -> str:
    """Why a fence agent of this name may not be used; empty: it may."""
    return BANNED_AGENTS.get(name.split(".")[0], "")


def read_fences(tables: tuple[Table, ...], environment: Mapping[str, str]) -> tuple[Fence, ...]:
    """Every block, in the file's order. Raises ConfigError for the first mistake."""
    found: list[Fence] = []
    for table in tables:
        device = _fence(table, environment)
        if any(other.name == device.name for other in found):
            raise table.wrong(
                "name", f"{device.name!r} is the name of another device", "a name of its own for each device"
            )
        found.append(device)
    return tuple(found)


def _fence(table: Table, environment: Mapping[str, str]) -> Fence:
    host = table.uuid("host", table.text("host"))
    level = table.integer("level", 1, 1, 9)
    via_members = _via(table)
    agent = _agent(table, via_members)
    limit = table.duration("limit", 40_000)
    if not 5_000 <= limit <= 600_000:
        raise table.wrong("limit", f"is {limit / 1000:g} s", "5s to 10m")
    name, parameters = table.text("name", f"{host}-{level}"), _parameters(table, environment)
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


def _agent(table: Table, via_members: bool) -> Path:
    text = table.text("agent", None, "the absolute path of a fence agent")
    path = Path(text)
    # Where members run it, each has its own path for it, in its own configuration.
    if not path.is_absolute() and not (via_members and path.name == text and text):
        raise table.wrong("agent", f"is {text!r}", "an absolute path, e.g. /usr/sbin/fence_ipmilan")
    # A link under another name is the same program.
    for name in (path.name, path.resolve().name) if path.is_absolute() else (path.name,):
        if why := why_banned(name):
            raise table.wrong("agent", f"{name} is not allowed: {why}", "an agent that switches and reads power")
    return path


# ------------------------------------------------------------------------------------------ parameters


def _parameters(table: Table, environment: Mapping[str, str]) -> dict[str, str]:
    inline = table.table("parameters")
    given: dict[str, str] = {}
    for key in inline.keys():  # noqa: SIM118  (a Table is no mapping)
        given[key] = inline.text(key)
        if is_secret(key):
            where = f"it in a file of mode 0600, as a line {key}=..., which `secret_file` of this block names"
            raise inline.wrong(key, "a secret does not belong into this file", where)
    given |= read_secrets(table, environment)
    for key, value in given.items():
        _may_be_told(inline, key, value)
    return given


def _may_be_told(inline: Table, key: str, value: str) -> None:
    name = key.replace("-", "_").lower()
    if name in _OURS or (name == "method" and value != "onoff"):
        raise inline.wrong(
            key, "is not yours to set", "no action, option or method=cycle: Poolwarden writes the action"
        )
    if name in _NEVER:
        raise inline.wrong(key, "makes a fence agent end with success and do nothing", "no such line")
    if name in _TALKATIVE:
        raise inline.wrong(key, "writes what the agent does, with passwords, to syslog or a file", "no such line")
    if name.endswith("_script"):
        raise inline.wrong(key, "would have the agent run a program", "the secret itself, in `secret_file`")
    if not _NAME.fullmatch(name) or "\n" in value or "\r" in value:
        raise inline.wrong(key, "cannot be told to a fence agent", "a plain name and a value of one line")
