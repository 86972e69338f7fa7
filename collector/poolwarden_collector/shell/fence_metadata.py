"""Holds each configured fence device against what its agent says of itself (``metadata``, doc/FenceAgentAPI.md).

Agents ignore parameters that they do not know, so a misspelt ``ipadress`` would fence nothing and nobody would be told.
This is separate from reading the configuration because it runs programs.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from poolwarden_collector.shell.agent_run import AgentRun, run_agent
from poolwarden_collector.shell.config import Config, ConfigError, Fence
from poolwarden_collector.shell.fencer import secrets_of

METADATA_LIMIT_S = 20.0
_NEEDED = ("off", "status")
_ALWAYS = ("nodename", "action", "option")  # every agent takes these, whatever it says


@dataclass(frozen=True, slots=True)
class Described:
    """What an agent can do and which parameters it takes, names with ``_``."""

    actions: frozenset[str]
    parameters: frozenset[str]
    required: frozenset[str]
    replaces: dict[str, str]  # newer name -> the older one that it makes unnecessary


async def check_devices(config: Config) -> None:
    """Ask every device's agent about itself. Raises ConfigError for the first device that does not fit."""
    for device in config.fence:
        if device.via_members and not device.agent.is_file():
            continue  # whoever runs it refuses what it does not know
        _executable(config, device)
        run = await run_agent(device.agent, {}, "metadata", METADATA_LIMIT_S)
        if run.code != 0:
            raise _wrong(config, device, f"{device.agent} gives no metadata: {run.text}", "a fence agent")
        _fits(config, device, described(run.output))
        await _validate(config, device, described(run.output))


def _executable(config: Config, device: Fence) -> None:
    if not device.agent.is_file():
        raise _wrong(config, device, f"agent {device.agent} does not exist", "an installed fence agent")
    if not os.access(device.agent, os.X_OK):
        raise _wrong(config, device, f"agent {device.agent} is not executable", "an installed fence agent")


def described(metadata: str) -> Described | None:
    """The agent's own description; ``None`` if it is none."""
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError:
        return None
    if root.tag != "resource-agent":
        return None
    parameters = {_name(p): p for p in root.iter("parameter")}
    required = {
        name
        for name, p in parameters.items()
        if p.get("required") == "1" and not any(c.get("default") for c in p.iter("content"))
    }
    replaces = {name: old.replace("-", "_") for name, p in parameters.items() if (old := p.get("obsoletes"))}
    actions = {a.get("name", "") for a in root.iter("action")}
    return Described(frozenset(actions), frozenset(parameters), frozenset(required) - set(_ALWAYS), replaces)


def _name(parameter: ElementTree.Element) -> str:
    return parameter.get("name", "").replace("-", "_")


def _fits(config: Config, device: Fence, agent: Described | None) -> None:
    if agent is None:
        raise _wrong(config, device, f"{device.agent} answers metadata with something else", "a fence agent")
    for action in _NEEDED:
        if action not in agent.actions:
            raise _wrong(
                config, device, f"{device.agent.name} has no action {action!r}", "an agent with off and status"
            )
    given = {name.replace("-", "_") for name in device.parameters}
    for name in sorted(given):
        if name not in agent.parameters and name not in _ALWAYS:
            known = ", ".join(sorted(agent.parameters))
            raise _wrong(config, device, f"{device.agent.name} knows no parameter {name!r}", f"one of {known}")
    newer = {old for new, old in agent.replaces.items() if new in given}  # fence_redfish requires login and username
    for name in sorted(agent.required - given - newer):
        if agent.replaces.get(name) not in given:
            raise _wrong(config, device, f"{device.agent.name} needs the parameter {name!r}", "it in parameters")


async def _validate(config: Config, device: Fence, agent: Described | None) -> None:
    if agent is None or "validate-all" not in agent.actions:
        return
    run: AgentRun = await run_agent(device.agent, device.parameters, "validate-all", METADATA_LIMIT_S)
    if run.code != 0:
        text = run.text
        for secret in secrets_of(device):
            text = text.replace(secret, "***")
        raise _wrong(config, device, f"{device.agent.name} refuses these parameters: {text}", "what it accepts")


def _wrong(config: Config, device: Fence, problem: str, expected: str) -> ConfigError:
    return ConfigError(f"{config.file}: [{device.place}] device {device.name}: {problem}; expected {expected}")
