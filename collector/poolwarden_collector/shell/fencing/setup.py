"""Behind ``poolwarden fence setup``: what answers at a BMC's address, and whether a proposed device is this host's.

Rules
-----
* Nothing is switched and nothing is kept: ``metadata``, ``validate-all``, ``monitor``, ``status`` and the question
  which machine it is, once each. Secrets come with the request, go to the agent's stdin, and are cleaned from all
  that is said.
* A request names a fence agent by its file name only; it has to be in one of the folders where packages put them. Its
  parameters are from a list of addresses, names, secrets, numbers and switches, because others name programs and
  files (``ipmitool_path``, ``ssh_options``): an operator may switch power, not run programs on the collector. Nor may
  a value be taken apart: agents put address and user unquoted into the command line of ssh or ipmitool.
* A device is good if it reads ON while the host's agent is heard, and says of its machine what dom0 says, or cannot be
  asked. OFF while the host lives is another machine's device.

Found without a password: a Redfish service by its root (DMTF DSP0266, 6.3: it needs no authentication), an IPMI BMC
by an RMCP presence ping (ASF 2.0, 3.2.4.2).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.model.power import DeviceIdentity, Power, Trouble
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.config.fence_blocks import Fence, why_banned
from poolwarden_collector.shell.fencing.agent_metadata import METADATA_LIMIT_S, described, misfit
from poolwarden_collector.shell.fencing.agent_run import run_agent
from poolwarden_collector.shell.fencing.device_identity import ask, can_be_asked
from poolwarden_collector.shell.fencing.fencer import power_of, trouble_of
from poolwarden_collector.shell.redaction import hidden, is_secret, secrets_of

FOLDERS = (Path("/usr/sbin"), Path("/usr/local/sbin"), Path("/sbin"))
SHORTEST_MS, LONGEST_MS = 5_000, 60_000
_LOOK_S = 4.0
_ANSWER_BYTES = 65_536
# RMCP version 6, sequence 255 (no acknowledgement), class ASF; ASF's enterprise number, Presence Ping, tag 1.
_PING, _PONG = bytes.fromhex("0600ff06000011be80010000"), 0x40
_PASSWORD = "Check user and password at the BMC itself; many lock the account after some tries."
# No blank, no quote, no leading hyphen (lib/fencing.py, agents/ipmilan); secrets are quoted by the agents, or typed.
_WORD = re.compile(r"[A-Za-z0-9_./:\[][A-Za-z0-9_.:@%/+=,\\\[\]-]*")
_UNREACHED = "Check the address, the network between collector and BMC, and that the service is switched on there."
# fmt: off
PARAMETERS = frozenset((
    "ip", "ipport", "inet4_only", "inet6_only", "plug", "username", "password", "ssl", "ssl_secure", "ssl_insecure",
    "lanplus", "auth", "cipher", "privlvl", "target", "redfish_uri", "systems_uri", "community", "snmp_version",
    "snmp_auth_prot", "snmp_sec_level", "snmp_priv_prot", "snmp_priv_passwd", "power_timeout", "power_wait",
    "shell_timeout", "login_timeout", "switch", "tls1.0", "ribcl",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Found:
    """What was looked for at an address; ``parameters``: what its block needs beside address and user."""

    agent: str
    answers: bool
    text: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Trial:
    """How a proposed device fared, step by step; ``good`` once every step was."""

    steps: list[tuple[str, bool, str, str]] = field(default_factory=list)
    path: str = ""
    tells: bool = False
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return bool(self.steps) and all(good for _, good, _, _ in self.steps)

    def step(self, name: str, good: bool, text: str, next_step: str = "") -> bool:
        self.steps.append((name, good, text, "" if good else next_step))
        return good


def installed(agent: str, folders: tuple[Path, ...] = FOLDERS) -> Path | None:
    """Where this fence agent is on the collector's machine; ``None`` if it is not."""
    return next((folder / agent for folder in folders if (folder / agent).is_file()), None)


# ------------------------------------------------------------------------------------------ looking


async def look(address: str) -> tuple[Found, ...]:
    """What answers at this address, the better one first; at most some five seconds."""
    return tuple(await asyncio.gather(_redfish(address), _ipmi(address)))


async def _redfish(address: str, port: int = 443) -> Found:
    try:
        root = await asyncio.wait_for(_root(address, port), _LOOK_S)
    except TimeoutError:
        return Found("fence_redfish", False, f"no Redfish: {address} port {port} does not answer")
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        number = error.errno if isinstance(error, OSError) else None
        why = os.strerror(number) if number and number > 0 else str(error) or type(error).__name__
        return Found("fence_redfish", False, f"no Redfish at {address} port {port}: {why}")
    words = [str(root[key]) for key in ("Vendor", "Product", "RedfishVersion") if isinstance(root.get(key), str)]
    # Its certificate is verified only where somebody has given the BMC one that can be.
    return Found("fence_redfish", True, " ".join(["Redfish answers:", *words]), {"ssl_insecure": "1"})


async def _root(address: str, port: int) -> dict[str, Any]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(address, port, ssl=context)
    try:
        host = f"[{address}]" if ":" in address else address
        request = f"GET /redfish/v1/ HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        body = await reader.read(_ANSWER_BYTES)
    finally:
        writer.close()
    words = head.split(None, 2)
    if len(words) < 2 or words[1] != "200":
        raise ValueError(f"/redfish/v1/ is answered by HTTP {words[1] if len(words) > 1 else '?'}")
    # A chunked body has its length in the lines around it.
    found = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    if not isinstance(found, dict) or "RedfishVersion" not in found:
        raise ValueError("what answers there is no Redfish service")
    return found


class _Ear(asyncio.DatagramProtocol):
    """Whether a pong came; false: the port is closed, by the word of the machine itself."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.heard.done() and len(data) > 8 and data[3] & 0x0F == 6 and data[8] == _PONG:
            self.heard.set_result(True)

    def error_received(self, exc: Exception) -> None:
        if not self.heard.done():
            self.heard.set_result(False)


async def _ipmi(address: str, port: int = 623) -> Found:
    try:
        made = await asyncio.get_running_loop().create_datagram_endpoint(_Ear, remote_addr=(address, port))
    except OSError as error:
        return Found("fence_ipmilan", False, f"no IPMI at {address}: {error.strerror}")
    transport, ear = made
    try:
        for _ in range(2):  # a datagram may be lost
            transport.sendto(_PING)
            await asyncio.wait({ear.heard}, timeout=_LOOK_S / 2)
            if ear.heard.done():
                break
    finally:
        transport.close()
    if ear.heard.done() and ear.heard.result():
        return Found("fence_ipmilan", True, f"IPMI over LAN answers at UDP port {port}", {"lanplus": "1"})
    return Found("fence_ipmilan", False, f"no IPMI: UDP port {port} of {address} does not answer a presence ping")


# ------------------------------------------------------------------------------------------ trying


async def attempt(pool: Pool, host: HostId, agent: str, parameters: Mapping[str, str], limit_ms: int) -> Trial:
    """Hold a proposed device against its agent, its BMC and the host; ends at the first step that is not good."""
    trial = Trial()
    path = _agent(trial, agent)
    if path is None or not _parameters(trial, parameters):
        return trial
    device = Fence(host, path, "proposed", 1, min(max(limit_ms, SHORTEST_MS), LONGEST_MS), dict(parameters))
    limit = device.limit_ms / 1000
    metadata = await run_agent(path, {}, "metadata", METADATA_LIMIT_S)
    known = described(metadata.output) if metadata.code == 0 else None
    wrong = misfit(device, known)
    if not trial.step("parameters", not wrong, wrong or "they are what the agent takes", f"{path} -o metadata"):
        return trial
    if known is not None and "validate-all" in known.actions:
        run = await run_agent(path, device.parameters, "validate-all", limit)
        if run.code != 0:
            trial.step("parameters", False, f"{agent} refuses them: {_clean(run.text, device)}", "Correct them.")
            return trial
    if await _identity(trial, pool, device, limit) and await _monitor(trial, device, limit):
        await _status(trial, pool, device, limit)
    return trial


def _agent(trial: Trial, agent: str) -> Path | None:
    name = Path(agent).name
    if name != agent or not name.startswith("fence_"):
        trial.step("agent", False, f"{agent!r} is no file name of a fence agent", "e.g. --agent fence_redfish")
        return None
    if why := why_banned(name):
        trial.step("agent", False, f"{name} is not allowed: {why}", "Take one that switches and reads power.")
        return None
    path = installed(name)
    if path is None:
        step = "Install it there (Debian: apt-get install fence-agents ipmitool), then again."
        trial.step("agent", False, f"{name} is not on the collector's machine", step)
        return None
    trial.path = str(path)
    trial.step("agent", True, str(path))
    return path


def _parameters(trial: Trial, parameters: Mapping[str, str]) -> bool:
    for name, value in parameters.items():
        # safety: what is not in the list may name a program or a file of the collector's machine.
        if name.replace("-", "_") not in PARAMETERS:
            step = "Set it in collector.toml by hand, if it is meant; check-config checks it."
            return trial.step("parameters", False, f"{name!r} is not tried for anybody", step)
        if any(letter in value for letter in "\r\n\0"):
            return trial.step("parameters", False, f"{name!r} has a line break", "One line.")
        # safety: a blank would begin another option of ssh or ipmitool, and that may be a program.
        if value and not is_secret(name) and not _WORD.fullmatch(value):
            step = "Without blanks and quotes; where they are meant: in collector.toml by hand."
            return trial.step("parameters", False, f"{name!r} is no plain address, name or number", step)
    return True


async def _identity(trial: Trial, pool: Pool, device: Fence, limit: float) -> bool:
    """Which machine it says it switches, against what dom0 and the other hosts say of theirs."""
    name = pool.record.name_of(device.host)
    if not can_be_asked(device.agent.name.split(".")[0]):
        step = f"It cannot say which machine it switches: bind it by `poolwarden fence bind {name}` when you know."
        return trial.step("identity", True, step)
    asked = await ask(device, limit, thorough=True)
    trial.parameters |= asked.found
    said = asked.said
    if asked.trouble is not Trouble.NONE or not said:
        step = _PASSWORD if asked.trouble is Trouble.PASSWORD else _UNREACHED
        told = _clean(said.text, device) or "it does not say which machine it switches"
        return trial.step("identity", asked.trouble is Trouble.NONE, told, step)
    trial.tells = True
    machines = {host: device_binding.of_machine(agent.hello.machine) for host, agent in pool.live.agents.items()}
    own = machines.get(device.host, DeviceIdentity())
    if same := device_binding.in_common(said, own):
        return trial.step("identity", True, f"it switches {name}: both say {same}")
    other = next((host for host, machine in machines.items() if device_binding.in_common(said, machine)), "")
    is_of = f"{pool.record.name_of(other)}'s" if other else f"of a machine with {device_binding.show(said)}"
    text = f"this BMC is {is_of}; {name}'s dom0 says {device_binding.show(own)}"
    return trial.step("identity", False, text, "Check the address.")


async def _monitor(trial: Trial, device: Fence, limit: float) -> bool:
    run = await run_agent(device.agent, device.parameters, "monitor", limit)
    text = "it can be reached and logged into" if run.code == 0 else _clean(run.text, device)
    return trial.step("monitor", run.code == 0, text, _UNREACHED)


async def _status(trial: Trial, pool: Pool, device: Fence, limit: float) -> bool:
    run = await run_agent(device.agent, device.parameters, "status", limit)
    power, name = power_of(run), pool.record.name_of(device.host)
    agent = pool.live.agents.get(device.host)
    lives = agent is not None and agent.connected
    if power is Power.UNKNOWN:
        step = _PASSWORD if trouble_of(run, None) is Trouble.PASSWORD else _UNREACHED
        return trial.step("status", False, f"no reading: {_clean(run.text, device)}", step)
    if power is Power.OFF and lives:
        text = f"it reads OFF while {name}'s agent is heard: it switches another machine"
        return trial.step("status", False, text, "Check address and outlet.")
    told = "" if lives else f"; {name}'s agent is not heard, so that proves nothing"
    return trial.step("status", lives, f"it reads {power.value.upper()}{told}", f"Again when {name} is up.")


def _clean(text: str, device: Fence) -> str:
    return hidden(text, secrets_of(device.parameters))
