"""Real BMC programs in front of the lab's boards: OpenIPMI's ``ipmi_sim`` and sushy-tools' Redfish emulator.

Each front speaks its real protocol to the real fence agents of Debian's ``fence-agents``; the power itself stays with
the lab's `Bmc` behind it, so switching really switches, and a board's faults (slow, stuck, lying, mute) show through
the real protocol as a real BMC would show them.

Theory: ``ipmi_sim`` can switch only by a chassis program (OpenIPMI: lanserv/bmc_chassis.c) and knows cipher suite 3
only; without ``cipher=3`` each call of ipmitool wastes 10 s. ``fence_redfish`` speaks HTTPS only and takes a BMC's
first system unless ``systems_uri`` names one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from poolwarden_lab.processes.bmc import chassis

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[3]
_PATH = f"{_ROOT / '.venv-redfish/bin'}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PORTS = {"ipmi": 623, "redfish": 443}  # the protocols' own
_PROGRAMS = {
    "ipmi": (("ipmi_sim", "apt-get install openipmi"), ("fence_ipmilan", "apt-get install fence-agents ipmitool")),
    "redfish": (
        ("sushy-emulator", "packaging/develop/venv-redfish"),
        ("fence_redfish", "apt-get install fence-agents"),
    ),
}


@dataclass(frozen=True, slots=True)
class Front:
    """One BMC program: where it listens, what it is called by the machine, and the board behind it."""

    name: str
    address: str
    port: int
    board: tuple[str, int]
    system_uuid: str  # lower case, with hyphens: what the BMC says of the machine


def program(name: str) -> Path | None:
    """Where a program of these is installed; ``None`` where it is not."""
    found = shutil.which(name, path=_PATH)
    return Path(found) if found else None


def lacking(kind: str) -> str:
    """What is missing for this kind, with the way to install it, in one line; empty: nothing."""
    for name, remedy in _PROGRAMS[kind]:
        if program(name) is None:
            return f"--bmc {kind} needs {name}, which is not installed: {remedy}"
    return ""


def agent(kind: str) -> Path:
    """The real fence agent. Raises FileNotFoundError where it is not installed."""
    name = _PROGRAMS[kind][1][0]
    found = program(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def parameters(kind: str, front: Front) -> dict[str, str]:
    """What an operator would write into the device block, without the password."""
    both = {"ip": front.address, "ipport": str(front.port), "username": chassis.USER}
    if kind == "ipmi":
        return {**both, "lanplus": "1", "cipher": "3", "power_wait": "0"}
    return {**both, "ssl_insecure": "1", "systems_uri": f"/redfish/v1/Systems/{front.system_uuid}"}


def command(kind: str, front: Front, home: Path) -> list[str]:
    """Write the program's files below ``home``; the command that runs it in the foreground.

    Raises OSError, or subprocess.CalledProcessError if openssl fails.
    """
    home.mkdir(parents=True, exist_ok=True)
    return _ipmi(front, home) if kind == "ipmi" else _redfish(front, home)


def _ipmi(front: Front, home: Path) -> list[str]:
    auths = "\n".join(f"    allowed_auths_{level} none md2 md5 straight" for level in ("user", "operator", "admin"))
    switch, state = home / "chassis.sh", home / "state"
    state.mkdir(exist_ok=True)
    words = [sys.executable, "-I", "-S", str(_HERE / "chassis.py"), front.board[0], str(front.board[1])]
    switch.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + ' "$@"\n')
    switch.chmod(0o755)
    lan = f"""name "{front.name}"
set_working_mc 0x20
  startlan 1
    addr {front.address} {front.port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
{auths}
    guid {uuid.UUID(front.system_uuid).hex}
  endlan
  chassis_control "{switch}"
  user 2 true "{chassis.USER}" "{chassis.PASSWORD}" admin 10 none md2 md5 straight
"""
    (home / "lan.conf").write_text(lan)
    emu = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n"
    (home / "emu.cmd").write_text(emu)
    return [str(program("ipmi_sim")), "-c", str(home / "lan.conf"), "-f", str(home / "emu.cmd"), "-s", str(state), "-n"]


def _redfish(front: Front, home: Path) -> list[str]:
    emulator = program("sushy-emulator")
    if emulator is None:
        raise FileNotFoundError("sushy-emulator is not installed")
    python, cert, key = emulator.parent / "python", home / "cert.pem", home / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-subj", "/CN=bmc", "-days", "30", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(make, check=True, capture_output=True)
    hashing = "import bcrypt, sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())"
    hashed = subprocess.run(
        [str(python), "-c", hashing, chassis.PASSWORD], check=True, capture_output=True, text=True
    ).stdout.strip()
    (home / "htpasswd").write_text(f"{chassis.USER}:{hashed}\n")
    system = {"uuid": front.system_uuid, "name": front.name, "power_state": "On", "external_notifier": False}
    system["nics"] = [{"mac": "00:5c:52:31:3a:01", "ip": front.address}]
    settings = {
        "SUSHY_EMULATOR_LISTEN_IP": front.address,
        "SUSHY_EMULATOR_LISTEN_PORT": front.port,
        "SUSHY_EMULATOR_SSL_CERT": str(cert),
        "SUSHY_EMULATOR_SSL_KEY": str(key),
        "SUSHY_EMULATOR_AUTH_FILE": str(home / "htpasswd"),
        "SUSHY_EMULATOR_STATE_DIR": str(home),
        "SUSHY_EMULATOR_FEATURE_SET": "minimum",
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    lines += [
        "SUSHY_EMULATOR_FAKE_DRIVER = True",
        f"SUSHY_EMULATOR_FAKE_SYSTEMS = {[system]!r}",
        f"LAB_BOARD = {front.board!r}",
    ]
    (home / "emulator.conf").write_text("\n".join(lines) + "\n")
    return [str(python), str(_HERE / "redfish_front.py"), "--config", str(home / "emulator.conf")]
