"""``systemctl`` of a simulated host, a single file: asks the supervisor. The first argument is the host's root."""

from __future__ import annotations

import socket
import sys

NO_SUPERVISOR = 1


def main(arguments: list[str]) -> int:
    root, words = arguments[0], [word for word in arguments[1:] if not word.startswith("-")]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(f"{root}/var/run/supervisor.sock")
            link.sendall((" ".join(words) + "\n").encode())
            answer = link.makefile(encoding="utf-8").readline()
    except OSError as error:
        print(f"Failed to connect to bus: {error.strerror}", file=sys.stderr)
        return NO_SUPERVISOR
    code, _, text = answer.strip().partition(" ")
    if text:
        # Properties come in one line, as every answer does.
        said = text.replace("\t", "\n") if "show" in words else text
        print(said, file=sys.stdout if {"is-active", "show"} & set(words) else sys.stderr)
    return int(code or NO_SUPERVISOR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
