"""Holds each configured fence device against what its agent says of itself (``metadata``, doc/FenceAgentAPI.md).

Theory
------
Agents ignore parameters that they do not know, and take a boolean that they do not understand for *no*: a misspelt
``ipadress``, or ``lanplus = "ja"``, would fence nothing, and nobody would be told before the night in which it counts.
So every parameter is held against its description: its name, its type, and what is required; a name that is outdated
is taken with a warning. What no metadata can say (a host name, a key) is left to the agent's own ``validate-all``.

An agent without ``reboot`` cuts a host off its storage or its network (fence-agents: ``fabric_fencing``): its OFF is
not about power, and is refused, as are agents without ``off`` or ``status``.

This is separate from reading the configuration because it runs programs: each agent once, at most four at a time.
"""

from __future__ import annotations

import asyncio
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.shell.config.config import Config, ConfigError
from poolwarden_collector.shell.config.fence_blocks import Fence, why_banned
from poolwarden_collector.shell.fencing.agent_run import AgentRun, run_agent

METADATA_LIMIT_S = 20.0
_AT_ONCE = 4
_NEEDED = ("off", "status")
_ALWAYS = ("nodename", "action", "option")  # every agent takes these, whatever it says
_TRUE, _FALSE = ("1", "yes", "on", "true"), ("0", "no", "off", "false")  # lib/fencing.py; anything else is taken for no
_INTEGER, _SECONDS = re.compile(r"-?\d+"), re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as its agent describes it; names with ``_``."""

    name: str
    kind: str  # string, boolean, integer, second, select
    says: str  # its short description
    choices: tuple[str, ...]
    default: str
    required: bool  # and without a default
    deprecated: bool
    replaces: str  # the older name that this one makes unnecessary

    def refusal(self, value: str) -> str:
        """What this value should have been; empty: it is one of this parameter."""
        if self.kind == "integer" and not _INTEGER.fullmatch(value):
            return "a whole number"
        if self.kind == "second" and not _SECONDS.fullmatch(value):
            return "a number of seconds, without a unit"
        if self.kind == "boolean" and value.lower() not in _TRUE + _FALSE:
            return '"1" or "0"'
        if self.kind == "select" and self.choices and value.lower() not in [each.lower() for each in self.choices]:
            return f"one of {', '.join(self.choices)}"
        return ""


@dataclass(frozen=True, slots=True)
class Described:
    """What an agent can do and which parameters it takes."""

    name: str
    actions: frozenset[str]
    parameters: dict[str, Parameter]

    def newer(self, name: str) -> str:
        """The name that replaces this one; empty: none."""
        return next((each.name for each in self.parameters.values() if each.replaces == name), "")


async def check_devices(config: Config, *, lenient: bool = False, known: Collection[str] = ()) -> tuple[str, ...]:
    """Ask every device's agent about itself; what is outdated, one line each.

    ``lenient``: an agent that is not there, or says nothing of itself, is told like that too. A collector that starts
    guards all its pools without it, and the device's own alert follows; a mistake in a block is refused always.
    ``known``: devices, by name, for which it is lenient in any case, because they are in use as they are.

    Raises ConfigError for the first device that does not fit.
    """
    warnings: list[str] = []
    here: list[Fence] = []
    for device in config.fence:
        if device.via_members and not device.agent.is_file():
            continue  # whoever runs it refuses what it does not know
        wrong = _not_executable(config, device)
        if wrong is None:
            here.append(device)
        else:
            _tell(wrong, warnings, lenient=lenient or device.name in known)
    agents = dict.fromkeys(device.agent for device in here)
    turns = asyncio.Semaphore(_AT_ONCE)
    runs = dict(zip(agents, await _all(_asked(agent, turns) for agent in agents), strict=True))
    fitting: list[Fence] = []
    for device in here:
        run = runs[device.agent]
        if run.code != 0:
            silent = _wrong(config, device, f"{device.agent} gives no metadata: {run.text}", "a fence agent")
            _tell(silent, warnings, lenient=lenient or device.name in known)
            continue
        agent = described(run.output)
        warnings += _fits(config, device, agent)
        if agent is not None and "validate-all" in agent.actions:
            fitting.append(device)
    for device, run in zip(fitting, await _all(_validated(each, turns) for each in fitting), strict=True):
        _valid(config, device, run)
    return tuple(warnings)


async def _all(runs: Iterable[Coroutine[None, None, AgentRun]]) -> list[AgentRun]:
    return list(await asyncio.gather(*runs))


async def _asked(agent: Path, turns: asyncio.Semaphore) -> AgentRun:
    async with turns:
        return await run_agent(agent, {}, "metadata", METADATA_LIMIT_S)


async def _validated(device: Fence, turns: asyncio.Semaphore) -> AgentRun:
    async with turns:
        return await run_agent(device.agent, device.parameters, "validate-all", METADATA_LIMIT_S)


def _not_executable(config: Config, device: Fence) -> ConfigError | None:
    if not device.agent.is_file():
        return _wrong(config, device, f"agent {device.agent} does not exist", "an installed fence agent")
    if not os.access(device.agent, os.X_OK):
        return _wrong(config, device, f"agent {device.agent} is not executable", "an installed fence agent")
    return None


def _tell(wrong: ConfigError, warnings: list[str], *, lenient: bool) -> None:
    if not lenient:
        raise wrong
    warnings.append(str(wrong))


# ------------------------------------------------------------------------------------------ what an agent says


def described(metadata: str) -> Described | None:
    """The agent's own description; ``None`` if it is none."""
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError:
        return None
    if root.tag != "resource-agent":
        return None
    parameters = [_parameter(each) for each in root.iter("parameter")]
    actions = frozenset(a.get("name", "") for a in root.iter("action"))
    return Described(root.get("name", ""), actions, {each.name: each for each in parameters})


def _parameter(element: ElementTree.Element) -> Parameter:
    contents = list(element.iter("content"))
    content = contents[0] if contents else ElementTree.Element("content")
    name = _plain(element.get("name", ""))
    return Parameter(
        name,
        content.get("type", "string"),
        " ".join((element.findtext("shortdesc") or "").split()),
        tuple(option.get("value", "") for option in content.iter("option")),
        content.get("default", ""),
        element.get("required") == "1" and not content.get("default") and name not in _ALWAYS,
        element.get("deprecated") == "1",
        _plain(element.get("obsoletes", "")),
    )


def _plain(name: str) -> str:
    return name.replace("-", "_")


# ------------------------------------------------------------------------------------------ what a block says


def _fits(config: Config, device: Fence, agent: Described | None) -> list[str]:
    """What is outdated in it. Raises ConfigError if it does not fit."""
    if wrong := misfit(device, agent):
        raise ConfigError(f"{config.file}: [{device.place}] device {device.name}: {wrong}")
    assert agent is not None
    given = sorted(_plain(name) for name in device.parameters)
    return [_outdated(config, device, agent, name) for name in given if _is_outdated(agent, name)]


def misfit(device: Fence, agent: Described | None) -> str:
    """Why this device cannot be what its agent says of itself, and what was expected; empty: it fits."""
    name = device.agent.name
    if agent is None:
        return f"{device.agent} answers metadata with something else; expected a fence agent"
    if why := why_banned(agent.name):
        return f"{device.agent} is {agent.name}, not allowed: {why}; expected another agent"
    for action in _NEEDED:
        if action not in agent.actions:
            return f"{name} has no action {action!r}; expected an agent with off and status"
    if "reboot" not in agent.actions:
        # safety: what such an agent calls off is a closed port or a lost registration; the host runs on.
        cuts = f"{name} has no reboot: it cuts off storage or network, and says nothing of the power"
        return f"{cuts}; expected an agent that switches power"
    given = {_plain(name): value for name, value in device.parameters.items()}
    unfit = (_unfit(name, agent, key, given[key]) for key in sorted(given))
    return next((why for why in unfit if why), "") or _incomplete(name, agent, given)


def _unfit(agent_name: str, agent: Described, name: str, value: str) -> str:
    if name in _ALWAYS:
        return ""
    if name not in agent.parameters:
        known = ", ".join(sorted(each.name for each in agent.parameters.values() if not each.deprecated))
        return f"{agent_name} knows no parameter {name!r}; expected one of {known}"
    parameter = agent.parameters[name]
    # The value is not shown: it may be a secret in the wrong place.
    expected = parameter.refusal(value)
    return f"{name} ({parameter.says}) has a value of another kind; expected {expected}" if expected else ""


def _incomplete(agent_name: str, agent: Described, given: dict[str, str]) -> str:
    for parameter in sorted(agent.parameters.values(), key=lambda each: (each.deprecated, each.name)):
        name = parameter.name
        names = {name, parameter.replaces, agent.newer(name)}  # fence_redfish requires login and username
        if parameter.required and not names & given.keys():
            return f"{agent_name} needs the parameter {name!r} ({parameter.says}); expected it in parameters"
    return ""


def _is_outdated(agent: Described, name: str) -> bool:
    return name in agent.parameters and agent.parameters[name].deprecated


def _outdated(config: Config, device: Fence, agent: Described, name: str) -> str:
    newer = agent.newer(name)
    instead = f"; it is called {newer!r} now" if newer else ""
    return f"{config.file}: [{device.place}] device {device.name}: {name!r} is outdated{instead}"


def _valid(config: Config, device: Fence, run: AgentRun) -> None:
    if run.code != 0:
        raise _wrong(config, device, f"{device.agent.name} refuses these parameters: {run.text}", "what it accepts")


def _wrong(config: Config, device: Fence, problem: str, expected: str) -> ConfigError:
    return ConfigError(f"{config.file}: [{device.place}] device {device.name}: {problem}; expected {expected}")
