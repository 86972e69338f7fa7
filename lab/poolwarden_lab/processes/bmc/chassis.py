"""A board's power switch for real BMC programs: speaks the lab BMC's line protocol for OpenIPMI's ``ipmi_sim``.

``ipmi_sim`` runs this for each look and each switch (OpenIPMI: lanserv/bmc_chassis.c), as ``chassis.py ADDRESS PORT
get power`` or ``... set power 0|1``; it prints ``power:0|1``. A single file that needs the standard library only, and
that the Redfish front imports, too. Exit status 1 where the lab's BMC does not answer: the BMC then answers an error.
"""

from __future__ import annotations

import socket
import sys

USER, PASSWORD = "fencer", "s3cret"
TIMEOUT_S = 60.0  # a mute board hangs the program in front of it, as a real one does


def ask(address: str, port: int, verb: str) -> str:
    """The lab BMC's answer to ``power VERB``. Raises OSError if it gives none."""
    with socket.create_connection((address, port), TIMEOUT_S) as link, link.makefile("rw", encoding="ascii") as lines:
        answer = ""
        for line in (f"login {USER} {PASSWORD}", f"power {verb}"):
            lines.write(f"{line}\n")
            lines.flush()
            answer = lines.readline().strip()
            if not answer or answer.split()[0] in ("denied", "error"):
                raise OSError(answer or "the board hung up")
        return answer


def main() -> int:
    address, port, *wanted = sys.argv[1:]
    if wanted[:2] == ["get", "power"]:
        print("power:" + ("1" if ask(address, int(port), "status") == "on" else "0"))
    elif wanted[:2] == ["set", "power"]:
        ask(address, int(port), "on" if wanted[2] == "1" else "off")
    elif wanted[:2] == ["get", "boot"]:
        print("boot:default")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
