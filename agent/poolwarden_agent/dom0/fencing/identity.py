"""Which machine a fence device switches, asked from this host in the way of the fence agent's kind.

* ``fence_redfish``: a program of its own (poolwarden/redfish_question.py), so that a hanging BMC can be cut off.
* ``fence_ipmilan`` and its other names: ``ipmitool mc guid`` (IPMI 2.0, 22.14: System GUID), thoroughly also the
  serials of ``ipmitool fru print 0``. The password goes by ipmitool's environment, never on its command line.

The answer is like a run's: exit status 0 and ``uuid=``, ``serial=``, ``system=`` lines; 3: name or password
refused, 4: not reached, 1: anything else.
"""

import json
import os
import re
import sys
from typing import Any, Callable, Dict

import poolwarden
from poolwarden_agent.host_port import FenceRun

REDFISH = ("fence_redfish",)
# Named by its path and not imported: this process has no need of ssl and http.client.
REDFISH_QUESTION = os.path.join(os.path.dirname(os.path.abspath(poolwarden.__file__)), "redfish_question.py")
IPMI = ("fence_ipmilan", "fence_ipmilanplus", "fence_ilo3", "fence_ilo4", "fence_ilo5", "fence_imm", "fence_idrac")
_LANPLUS = ("fence_ipmilanplus", "fence_ilo3", "fence_ilo4", "fence_ilo5")  # where it is the fence agent's own default
IPMITOOLS = ("/usr/bin/ipmitool", "/usr/sbin/ipmitool", "/usr/local/bin/ipmitool")
PASSWORD, UNREACHABLE, OTHER = 3, 4, 1
_GUID = re.compile(r"^\s*(?:System |Device )?GUID\s*:\s*([0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12})", re.M)
_SERIAL = re.compile(r"^\s*(?:Product|Board|Chassis) Serial\s*:\s*(\S.*?)\s*$", re.M)
_REFUSED = re.compile(r"^.*(?:RAKP|unauthorized|password|privilege|session challenge|invalid user).*$", re.I | re.M)
_OPTIONS = (
    ("-U", ("username", "login")),
    ("-C", ("cipher",)),
    ("-L", ("privlvl",)),
    ("-A", ("auth",)),
    ("-t", ("target",)),
)
_TRUE = ("1", "yes", "on", "true")
Run = Callable[..., FenceRun]


def ask(run: Run, name: str, parameters: Dict[str, str], limit_ms: int, thorough: bool) -> FenceRun:
    """Ask; ``run`` runs a program with this on its stdin, within a limit and with more environment."""
    kind = name.split(".")[0]
    plain = {key.replace("-", "_"): value for key, value in parameters.items()}
    if kind in REDFISH:
        return _redfish(run, plain, limit_ms)
    if kind in IPMI:
        return _ipmi(run, kind, plain, limit_ms, thorough)
    return FenceRun(True, OTHER, "", "", "%s cannot be asked which machine it switches" % kind)


def _value(plain: Dict[str, str], *names: str) -> str:
    return next((plain[name] for name in names if plain.get(name)), "")


def _is_on(plain: Dict[str, str], name: str, default: bool = False) -> bool:
    return plain[name].lower() in _TRUE if plain.get(name) else default


def _redfish(run: Run, plain: Dict[str, str], limit_ms: int) -> FenceRun:
    question = {
        "address": _value(plain, "ip", "ipaddr"),
        "port": _value(plain, "ipport") or "443",
        "user": _value(plain, "username", "login"),
        "password": _value(plain, "password", "passwd"),
        "verify": not _is_on(plain, "ssl_insecure"),
        "base": _value(plain, "redfish_uri") or "/redfish/v1",
        "system": _value(plain, "systems_uri"),
    }  # type: Dict[str, Any]
    return run([sys.executable, "-I", "-S", REDFISH_QUESTION], json.dumps(question).encode("utf-8"), limit_ms)


def _ipmi(run: Run, kind: str, plain: Dict[str, str], limit_ms: int, thorough: bool) -> FenceRun:
    if plain.get("hexadecimal_kg"):
        return FenceRun(True, OTHER, "", "", "not asked with a Kg key: ipmitool takes it on its command line alone")
    tool = next((path for path in IPMITOOLS if os.access(path, os.X_OK)), "")
    if not tool:
        return FenceRun(False, None, "", "", "ipmitool is not installed here")
    command, secret = _ipmitool(tool, kind, plain)
    # Only a verbose ipmitool tells a refused password (RAKP, IPMI 2.0, 13.20) from a BMC that is not there.
    guid = run([command[0], "-v"] + command[1:] + ["mc", "guid"], b"", limit_ms, secret)
    if guid.code != 0:
        return _failed(guid)
    found = ["uuid=%s" % each.lower() for each in _GUID.findall(guid.output)]
    if thorough:
        # A board without an inventory fails here, and has told its GUID all the same.
        fru = run(command + ["fru", "print", "0"], b"", limit_ms, secret)
        found += ["serial=%s" % each[:64] for each in _SERIAL.findall(fru.output)]
    return FenceRun(True, 0, "".join(line + "\n" for line in dict.fromkeys(found)), "", "")


def _failed(run: FenceRun) -> FenceRun:
    refused = _REFUSED.search(run.errors)
    if run.code is None:
        return run
    code, text = (PASSWORD, refused.group(0).strip()) if refused else (UNREACHABLE, run.text)
    return FenceRun(True, code, "", "", text)


def _ipmitool(tool: str, kind: str, plain: Dict[str, str]) -> Any:
    """The command that fence_ipmilan itself would begin with, and the password for its environment (``-E``)."""
    plus = _is_on(plain, "lanplus", kind in _LANPLUS)
    command = [tool, "-I", "lanplus" if plus else "lan", "-E"]  # type: List[str]
    command += ["-H", _value(plain, "ip", "ipaddr"), "-p", _value(plain, "ipport") or "623"]
    for option, names in _OPTIONS:
        if _value(plain, *names):
            command += [option, _value(plain, *names)]
    return command, {"IPMI_PASSWORD": _value(plain, "password", "passwd")}
