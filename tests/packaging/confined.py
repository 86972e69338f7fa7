"""What systemd makes of a unit's limits, made here without systemd: for a test that runs the agent as its unit would.

Of the agent's unit: bounding set of capabilities, no new privileges, mask, core limit, the system calls with their
error number, the families of addresses (the kernel's own means: capabilities(7), prctl(2), seccomp(2)). Not its file
systems (ProtectSystem, ProtectHome, PrivateTmp) and not its devices: those are mounts and control groups of PID 1.
"""

import ctypes
import errno
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

# By number: linux/capability.h.
# fmt: off
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
)
# fmt: on
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _LAST = 24, 38, 40
_ALLOW, _ERRNO, _EQUAL = 0x7FFF0000, 0x00050000, 4  # seccomp.h


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def settings(*files: Path) -> dict[str, list[str]]:
    """The words of each setting of a unit and its drop-ins; a setting that is given again adds to them."""
    found: dict[str, list[str]] = {}
    for line in (line for file in files for line in file.read_text().splitlines()):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).extend(value.split())
    return found


def confinement(*files: Path) -> Callable[[], None]:
    """What a child of root's calls before it becomes the program of this unit with its drop-ins."""
    libc, seccomp = ctypes.CDLL("libc.so.6", use_errno=True), ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    given = settings(*files)
    kept = {_CAPABILITIES.index(name.removeprefix("CAP_")) for name in given["CapabilityBoundingSet"]}
    refused = _ERRNO | getattr(errno, given["SystemCallErrorNumber"][0])
    rules = ctypes.c_void_p(seccomp.seccomp_init(refused))
    for name in given["SystemCallFilter"]:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        assert number >= 0, f"{name} is no system call of this machine"
        if name != "socket":
            assert seccomp.seccomp_rule_add(rules, _ALLOW, number, 0) == 0, name
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in given["RestrictAddressFamilies"]:
        only = _Compare(0, _EQUAL, int(getattr(socket, family)), 0)
        assert seccomp.seccomp_rule_add_array(rules, _ALLOW, number, 1, ctypes.byref(only)) == 0

    def confine() -> None:
        os.umask(int(given["UMask"][0], 8))
        core = int(given["LimitCORE"][0])
        resource.setrlimit(resource.RLIMIT_CORE, (core, core))
        for capability in set(range(_LAST + 1)) - kept:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or seccomp.seccomp_load(rules):
            raise OSError(ctypes.get_errno(), "the unit's limits cannot be set")

    return confine
