"""What this host runs for others by order of the collector: which fence agents, which actions, which parameters.

Theory
------
A fence agent is a program that does what its parameters say, and some of those name programs, files and options of
other programs (``ipmitool_path``, ``ssh_options``, ``identity_file``, ``debug_file``). To be allowed to set them is to
be allowed to run anything. The collector may switch power through this host; it may not run a program of its choice on
it. Therefore:

* Only agents that this host's own configuration names, by a name without folder; never one that reports success without
  switching.
* Only the actions that Poolwarden has a use for; there is no ``reboot``. ``action`` is written last and once, because
  the last one wins and an agent without one reboots (ClusterLabs: doc/FenceAgentAPI.md).
* Only parameters that are addresses, names, secrets, numbers and switches: a list of what is let through, not of what
  is kept out.
* Nothing with a line break in it: it would be another parameter.
* Nothing that an agent would split: most agents put address, port and user unquoted into the command line of ssh or
  ipmitool (ClusterLabs: lib/fencing.py, _login_ssh_with_password; agents/ipmilan, create_command), so that a blank
  begins another option, and one of ssh's (ProxyCommand) is a program. Passwords are quoted or typed: they are free.
"""

import re
from typing import Dict, List, Sequence

ACTIONS = ("off", "on", "status", "monitor", "metadata", "validate-all", "list")
IDENTITY, INVENTORY = "identity", "inventory"  # no action of the agent's: the device is asked which machine it switches
LONGEST_LIMIT_MS = 600000
HIDDEN = "***"
MOST_BYTES = 16384  # of all parameters: less than a pipe takes at once

# The same as the collector refuses: they report success without switching, fence virtual machines, or need a person.
BANNED = {
    "fence_dummy": "it reports success without doing anything",
    "fence_virt": "it fences virtual machines, not hosts",
    "fence_xvm": "it fences virtual machines, not hosts",
    "fence_vbox": "it fences virtual machines, not hosts",
    "fence_kdump": "it proves a crash dump, not that the power is off",
    "fence_heuristics_ping": "it only pings",
    "fence_manual": "a person confirms it",
    "fence_ack_manual": "a person confirms it",
    "fence_xenapi": "it works through the very pool whose master is gone",
}

# Of fence-agents 4.12 (lib/fencing.py, and what the agents for BMCs and PDUs add).
# fmt: off
PARAMETERS = frozenset((
    "ip", "ipaddr", "ipport", "inet4_only", "inet6_only", "port", "plug", "module_name", "switch",
    "separator", "username", "login", "password", "passwd", "secure", "ssl", "ssl_secure", "ssl_insecure",
    "tls1.0", "notls", "gnutls_legacy", "lanplus", "auth", "cipher", "privlvl", "hexadecimal_kg", "target",
    "method", "timeout", "redfish_uri", "systems_uri", "community", "snmp_version", "snmp_auth_prot",
    "snmp_sec_level", "snmp_priv_prot", "snmp_priv_passwd", "delay", "power_wait", "power_timeout",
    "shell_timeout", "login_timeout", "retry_on", "stonith_status_sleep", "nodename", "api_version", "ribcl",
    "hmc_version", "managed", "partition",
))
# fmt: on
_FREE = ("password", "passwd", "snmp_priv_passwd", "community", "separator")  # quoted by the agents, or typed
_NAMES = ("port", "plug", "module_name", "nodename", "managed", "partition")  # an outlet's may be of several words
_USERS = ("username", "login")  # of a domain, too
_WORD = "[A-Za-z0-9_./:\\[][A-Za-z0-9_.:@%%/+=,\\[\\]%s-]*\\Z"
_PLAIN, _NAME, _USER = re.compile(_WORD % ""), re.compile(_WORD % " "), re.compile(_WORD % "\\\\")
_HEXADECIMAL = re.compile("[0-9a-fA-F]*\\Z")


def banned(name: str) -> str:
    """Why a fence agent of this name is never run; empty: it may be."""
    return BANNED.get(name.split(".")[0], "")


def refusal(name: str, action: str, parameters: Dict[str, str], limit_ms: int, allowed: Sequence[str]) -> str:
    """Why this run is refused, in one sentence; empty: it is not. ``allowed``: the names that this host may run."""
    if name not in allowed:
        return "%.60r is no fence agent that agent.conf of this host allows" % name
    if action not in ACTIONS + (IDENTITY, INVENTORY):
        return "%.40r is no action that is run here" % action
    if not 1000 <= limit_ms <= LONGEST_LIMIT_MS:
        return "its limit of %d ms is outside 1000..%d" % (limit_ms, LONGEST_LIMIT_MS)
    for key in sorted(parameters):
        # safety: an unknown one may name a program or a file; those are chosen on this host alone.
        if key.replace("-", "_") not in PARAMETERS:
            return "the parameter %.60r is not taken from the collector" % key
        if key == "method" and parameters[key] != "onoff":
            return "method is %.20r: only onoff is verified" % parameters[key]
        if any(letter in parameters[key] for letter in "\n\r\0"):
            return "the parameter %.60r has a line break" % key
        # safety: a blank or a leading hyphen becomes another option of ssh or ipmitool, and that may be a program.
        if not _is_one_word(key.replace("-", "_"), parameters[key]):
            return "the parameter %.60r is no plain address, name or number" % key
    if sum(len(key.encode()) + len(value.encode()) + 2 for key, value in parameters.items()) > MOST_BYTES:
        return "its parameters are more than %d bytes" % MOST_BYTES
    return ""


def _is_one_word(name: str, value: str) -> bool:
    """Does this value stay what it is on whatever command line an agent puts it?"""
    if not value or name in _FREE:
        return True
    if name == "hexadecimal_kg":
        return _HEXADECIMAL.match(value) is not None
    allowed = _NAME if name in _NAMES else _USER if name in _USERS else _PLAIN
    return allowed.match(value) is not None


def stdin_of(parameters: Dict[str, str], action: str) -> bytes:
    """What the fence agent reads: the action last, and once."""
    lines = ["%s=%s" % item for item in sorted(parameters.items())]
    # safety: the last action wins, and an agent that reads none reboots.
    return "\n".join(lines + ["action=%s" % action, ""]).encode("utf-8")


def secret_values(parameters: Dict[str, str], names: Sequence[str]) -> List[str]:
    """The values that must not be shown, longest first."""
    return sorted((parameters[name] for name in names if parameters.get(name)), key=len, reverse=True)


def cleaned(text: str, values: Sequence[str], cut: bool = False) -> str:
    """What an agent said without these values; ``cut``: its end may be missing, and a value may be cut with it.

    To be cleaned before it is cut, split or stripped: afterwards half a value would not be found.
    """
    for value in values:
        text = text.replace(value, HIDDEN)
    if not cut:
        return text
    whole = text.rstrip("\ufffd")  # a character that was cut in its middle
    begun = max([_begun(whole, value) for value in values] or [0])
    return whole[: len(whole) - begun] + HIDDEN if begun else text


def _begun(text: str, value: str) -> int:
    """How many characters of the value's beginning end the text."""
    longest = min(len(value) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(value[:n])), 0)
