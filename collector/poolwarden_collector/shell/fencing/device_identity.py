"""What a fence device itself says of the machine that it switches, asked in the way of its kind.

* ``fence_redfish``: the ComputerSystem's UUID and SerialNumber (poolwarden/redfish_question.py).
* ``fence_ipmilan`` and its other names: ``ipmitool mc guid`` (IPMI 2.0, 22.14: System GUID) and, by day, the serials of
  ``ipmitool fru print 0``. The password goes by ipmitool's environment, never on its command line.
* Any other device: the program that its block names as ``identity``. It gets the agent's parameters on stdin and prints
  ``uuid=...`` and ``serial=...`` lines.
* Everything else tells nothing; an operator has to attest it.

Its limit is short: a BMC that does not say who it is may still switch, and what it said before stands.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from poolwarden import redfish_question
from poolwarden_collector.core.model.power import DeviceIdentity, Trouble
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.agent_run import AgentRun, run_program
from poolwarden_collector.shell.fencing.member_runs import Ended
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.redaction import secrets_of

LIMIT_S = 5.0
REDFISH = ("fence_redfish",)
IPMI = ("fence_ipmilan", "fence_ipmilanplus", "fence_ilo3", "fence_ilo4", "fence_ilo5", "fence_imm", "fence_idrac")
_LANPLUS = ("fence_ipmilanplus", "fence_ilo3", "fence_ilo4", "fence_ilo5")  # where it is the agent's own default
_GUID = re.compile(r"^\s*(?:System |Device )?GUID\s*:\s*([0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12})", re.M)
_SERIAL = re.compile(r"^\s*(?:Product|Board|Chassis) Serial\s*:\s*(\S.*?)\s*$", re.M)
_REFUSED = re.compile(r"^.*(?:RAKP|unauthorized|password|privilege|session challenge|invalid user).*$", re.I | re.M)
_MOST_SERIALS = 4
_MOST_CHARACTERS = 64
_TRUE = ("1", "yes", "on", "true")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said, and what stood in the way."""

    said: DeviceIdentity
    trouble: Trouble = Trouble.NONE
    found: dict[str, str] = field(default_factory=dict)  # parameters that were found out


async def ask(device: Fence, limit_s: float, thorough: bool) -> Asked:
    """Ask the device which machine it switches; never raises. ``thorough``: read its inventory (FRU), too."""
    kind, secrets = device.agent.name.split(".")[0], secrets_of(device.parameters)
    if device.identity is not None:
        return _lines(await run_program([str(device.identity)], _given(device.parameters), limit_s, secrets=secrets))
    if kind in REDFISH:
        return _lines(await _redfish(device.parameters, limit_s))
    if kind in IPMI:
        return await _ipmi(kind, device.parameters, limit_s, thorough)
    return Asked(DeviceIdentity(text=f"{kind} cannot be asked"))


def can_be_asked(agent: str) -> bool:
    """Is there a way to ask a device of this fence agent which machine it switches, without a program of its block?"""
    return agent in REDFISH + IPMI


def asked_of_member(ended: Ended) -> Asked:
    """What a member was told by the device; why not, where it was not."""
    if ended.run.code == 0 or ended.trouble is Trouble.NONE:
        return _lines(ended.run)
    return Asked(DeviceIdentity(text=ended.run.text), ended.trouble)


def _given(parameters: Mapping[str, str]) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in parameters.items()).encode()


def _value(parameters: Mapping[str, str], *names: str, default: str = "") -> str:
    """A parameter by its present or its older name, with either kind of hyphen (fence-agents: lib/fencing.py)."""
    plain = {name.replace("-", "_"): value for name, value in parameters.items()}
    return next((plain[name] for name in names if plain.get(name)), default)


def _is_on(parameters: Mapping[str, str], name: str, default: bool = False) -> bool:
    given = _value(parameters, name)
    return given.lower() in _TRUE if given else default


# ------------------------------------------------------------------------------------------------ Redfish


async def _redfish(parameters: Mapping[str, str], limit_s: float) -> AgentRun:
    question = {
        "address": _value(parameters, "ip", "ipaddr"),
        "port": _value(parameters, "ipport", default="443"),
        "user": _value(parameters, "username", "login"),
        "password": _value(parameters, "password", "passwd"),
        "verify": not _is_on(parameters, "ssl_insecure"),
        "base": _value(parameters, "redfish_uri", default="/redfish/v1"),
        "system": _value(parameters, "systems_uri"),
    }
    command = [sys.executable, "-I", str(Path(redfish_question.__file__))]
    return await run_program(command, json.dumps(question).encode(), limit_s, secrets=secrets_of(parameters))


def _lines(run: AgentRun) -> Asked:
    """What a program printed as ``name=value`` lines."""
    if run.code != 0:
        codes = {redfish_question.PASSWORD: Trouble.PASSWORD, redfish_question.UNREACHABLE: Trouble.UNREACHABLE}
        trouble = Trouble.HUNG if run.cut_off else codes.get(run.code or 0, Trouble.FAILED)
        return Asked(DeviceIdentity(text=run.text), trouble)
    found: dict[str, list[str]] = {"uuid": [], "serial": [], "system": []}
    for line in run.output.splitlines():
        name, _, value = line.partition("=")
        if name in found and value.strip():
            found[name].append(printable(value.strip()[:_MOST_CHARACTERS]))
    text = "" if found["uuid"] or found["serial"] else "it says neither UUID nor serial"
    uuids = tuple(each.lower() for each in found["uuid"][:_MOST_SERIALS])
    system = {"systems_uri": found["system"][0]} if found["system"] else {}
    return Asked(DeviceIdentity(uuids, tuple(found["serial"][:_MOST_SERIALS]), text), found=system)


# ------------------------------------------------------------------------------------------------ IPMI


async def _ipmi(kind: str, parameters: Mapping[str, str], limit_s: float, thorough: bool) -> Asked:
    if _value(parameters, "hexadecimal_kg"):
        why = "not asked with a Kg key: ipmitool takes it on its command line alone"
        return Asked(DeviceIdentity(text=why))
    command, secret = _ipmitool(kind, parameters)
    hide = secrets_of(parameters)
    # Only a talkative ipmitool tells a refused password (RAKP, IPMI 2.0, 13.20) from a BMC that is not there.
    run = await run_program([command[0], "-v", *command[1:], "mc", "guid"], b"", limit_s, secret, hide)
    if run.code != 0:
        refused = _REFUSED.search(run.errors)
        trouble = Trouble.PASSWORD if refused else Trouble.AGENT if not run.started else Trouble.UNREACHABLE
        return Asked(DeviceIdentity(text=printable(refused.group(0).strip()[:500]) if refused else run.text), trouble)
    uuids = tuple(dict.fromkeys(each.lower() for each in _GUID.findall(run.output)))
    serials: tuple[str, ...] = ()
    if thorough:
        # A board without an inventory fails here, and has told its GUID all the same.
        fru = await run_program([*command, "fru", "print", "0"], b"", limit_s, secret, hide)
        serials = tuple(dict.fromkeys(printable(each[:_MOST_CHARACTERS]) for each in _SERIAL.findall(fru.output)))
    text = "" if uuids or serials else "it says neither GUID nor serial"
    return Asked(DeviceIdentity(uuids[:_MOST_SERIALS], serials[:_MOST_SERIALS], text))


def _ipmitool(kind: str, parameters: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command that fence_ipmilan itself would begin with, and the password for its environment (``-E``)."""
    plus = _is_on(parameters, "lanplus", kind in _LANPLUS)
    command = [_value(parameters, "ipmitool_path", default="ipmitool"), "-I", "lanplus" if plus else "lan", "-E"]
    command += ["-H", _value(parameters, "ip", "ipaddr"), "-p", _value(parameters, "ipport", default="623")]
    options = {
        "-U": ("username", "login"),
        "-C": ("cipher",),
        "-L": ("privlvl",),
        "-A": ("auth",),
        "-t": ("target",),
        "-N": ("ipmitool_timeout",),
    }
    for option, names in options.items():
        if given := _value(parameters, *names):
            command += [option, given]
    return command, {"IPMI_PASSWORD": _value(parameters, "password", "passwd")}
