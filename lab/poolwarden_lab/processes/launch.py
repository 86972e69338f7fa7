"""Start a program inside a network namespace, tied to the life of the lab.

Run as a file, never imported: ``python -I -S launch.py PARENT NETNS PROGRAM ARGUMENTS...``. It costs one short Python
start and then *is* the program (same pid), so that signals, /proc and exit codes are the program's own.

* NETNS is a file of a network namespace, or ``-`` for the caller's own.
* The program gets SIGKILL when the process PARENT dies, however that dies (prctl(2), PR_SET_PDEATHSIG); a parent that
  is gone already means that nothing is started. ``-`` for PARENT starts without that tie.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000


def main(arguments: list[str]) -> None:
    parent, netns, program = arguments[0], arguments[1], arguments[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if netns != "-":
        handle = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(handle, CLONE_NEWNET) != 0:
            sys.exit(f"launch: cannot enter {netns}: {os.strerror(ctypes.get_errno())}")
    if parent != "-":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("launch: the lab is gone")
    try:
        os.execvp(program[0], program)
    except OSError as error:
        print(f"launch: {program[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
