"""``fence_lab``: a fence agent in front of the lab's BMCs, a single file that needs the standard library only.

It keeps the contract of ClusterLabs' fence agents (doc/FenceAgentAPI.md): ``name=value`` lines on stdin, the last value
wins, unknown names are ignored with a warning; exit 0 is success, 2 is ``status`` = reachable and off, 1 is everything
else with the reason on stderr. ``off`` reads the power back before it says success. With the argument ``identity`` it
prints which machine the BMC says it switches.
"""

from __future__ import annotations

import socket
import sys
import time
from xml.sax.saxutils import quoteattr

PARAMETERS = {
    "ip": ("string", True, "", "Address of the BMC"),
    "ipport": ("integer", False, "623", "TCP port of the BMC"),
    "username": ("string", True, "", "Login name"),
    "password": ("string", True, "", "Password"),
    "login_timeout": ("second", False, "5", "Wait this long for each answer of the BMC"),
    "power_timeout": ("second", False, "20", "Wait this long for the power to change"),
}
ACTIONS = ("on", "off", "reboot", "status", "monitor", "metadata", "validate-all", "list")
OK, FAILED, IS_OFF = 0, 1, 2


class Failed(Exception):
    """The action failed; the text goes to stderr."""


def read_parameters(text: str) -> dict[str, str]:
    given = {name: default for name, (_, _, default, _) in PARAMETERS.items() if default}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name.startswith("#"):
            continue
        if name not in PARAMETERS and name not in ("action", "nodename"):
            print(f"WARNING: Parse error: unknown option '{name}'", file=sys.stderr)
        given[name] = value.strip()
    return given


def metadata() -> str:
    lines = ['<?xml version="1.0" ?>', '<resource-agent name="fence_lab" shortdesc="Fence agent for the lab\'s BMCs" >']
    lines += [
        "<longdesc>Powers simulated hosts of poolwarden lab.</longdesc>",
        "<vendor-url></vendor-url>",
        "<parameters>",
    ]
    for name, (kind, required, default, text) in PARAMETERS.items():
        default_ = f" default={quoteattr(default)}" if default else ""
        lines.append(f'\t<parameter name="{name}" unique="0" required="{int(required)}">')
        lines.append(f'\t\t<getopt mixed="--{name.replace("_", "-")}=[{name}]" />')
        lines.append(f'\t\t<content type="{kind}"{default_} />')
        lines.append(f'\t\t<shortdesc lang="en">{text}</shortdesc>\n\t</parameter>')
    lines += ["</parameters>", "<actions>"]
    lines += [
        f'\t<action name="{name}"{" automatic=" + chr(34) + "0" + chr(34) if name == "on" else ""} />'
        for name in ACTIONS
    ]
    return "\n".join([*lines, "</actions>", "</resource-agent>"])


def validate(given: dict[str, str]) -> None:
    for name, (kind, required, _, _) in PARAMETERS.items():
        if required and not given.get(name):
            raise Failed(f"Failed: You have to set {name}")
        if kind in ("integer", "second") and not given[name].isdigit():
            raise Failed(f"Failed: {name} must be a number, not {given[name]!r}")


def ask(given: dict[str, str], verb: str) -> str:
    """One question to the BMC over a connection of its own."""
    try:
        limit = float(given["login_timeout"])
        with socket.create_connection((given["ip"], int(given["ipport"])), timeout=limit) as link:
            lines = link.makefile("rw", encoding="ascii", newline="\n")
            lines.write(f"login {given['username']} {given['password']}\n{verb}\n")
            lines.flush()
            if lines.readline().strip() != "ok":
                raise Failed("Failed: Unable to obtain correct plug status or plug is not available: login denied")
            return lines.readline().strip()
    except TimeoutError:
        raise Failed("Connection timed out") from None
    except OSError as error:
        raise Failed(f"Failed: Unable to connect: {error.strerror or error}") from None


def power(given: dict[str, str]) -> str:
    answer = ask(given, "power status")
    if answer not in ("on", "off"):
        raise Failed(f"Failed: Unable to obtain correct plug status: {answer!r}")
    return answer


def set_power(given: dict[str, str], wanted: str) -> None:
    if power(given) == wanted:
        print(f"Success: Already {wanted.upper()}")
        return
    ask(given, f"power {wanted}")
    for _ in range(int(given["power_timeout"])):
        if power(given) == wanted:
            print(f"Success: Powered {wanted.upper()}")
            return
        time.sleep(1)
    raise Failed(f"Failed: Timed out waiting to power {wanted.upper()}")


def act(action: str, given: dict[str, str]) -> int:
    if action == "metadata":
        print(metadata())
        return OK
    if action not in ACTIONS:
        raise Failed(f"Failed: Unrecognised action '{action}'")
    validate(given)
    if action in ("on", "off"):
        set_power(given, action)
    elif action == "reboot":  # the default of every fence agent that is told no action
        set_power(given, "off")
        set_power(given, "on")
    elif action == "list":
        print("N/A,")
    elif action in ("status", "monitor"):
        state = power(given)
        print(f"Status: {state.upper()}")
        return IS_OFF if action == "status" and state == "off" else OK
    return OK


def main() -> int:
    given = read_parameters(sys.stdin.read())
    try:
        if sys.argv[1:] == ["identity"]:
            print(f"uuid={ask(given, 'identity')}")
            return OK
        return act(given.get("action", "reboot"), given)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
