"""Stopping what can act as storage master on a host, with every VM left running; and starting it again.

Theory: xapi alone decides what is written to shared storage as master. When it has stopped, three things outlive it:
the stunnel that listens on 443 for it (stunnel@xapi.service), the garbage collectors of storage (SMGC@<SR>.service, sm:
cleanup.py), and storage back ends in the middle of a call (/opt/xensource/sm/*). xenopsd, qemu and tapdisk stay: they
are the VMs. A stopped unit says little; what counts is that no such process is seen and that the ports refuse
(Toolstack). A storage back end is waited for and never killed: it may be in the middle of writing metadata.

What keeps xapi stopped over a reboot is not here: ExecStartPre of xapi.service asks the durable hold (gate_state.py).
"""

import os
import socket
import time
from typing import Callable, List

from poolwarden_agent.dom0.system import procfs, systemd
from poolwarden_agent.host_port import Act

# xapi first: it would start the others anew. A pattern asks for the loaded units that match it (systemctl(1)).
STOPPED = (["stop", "xapi.service"], ["stop", "stunnel@xapi.service"], ["stop", "SMGC@*.service"])
STORAGE = "/opt/xensource/sm/"
GC_TEMPLATE = "SMGC@.service"
GC_PROGRAM = "cleanup.py"
STORAGE_PLACES = (STORAGE, "/usr/libexec/sm/")
SOCKET_LOOK_S = 1.0
WORKERS_S = 60.0
LOOK_S = 0.2


def workers(root: str) -> List[str]:
    """Processes of storage back ends and garbage collectors, as ``pid name``."""
    commands = procfs.commands(root)
    if commands is None:
        return ["?"]  # what cannot be looked at is not "none"
    found = []
    for pid, command in commands.items():
        names = [word for word in command[:3] if word.startswith(STORAGE_PLACES)]
        if names:
            found.append("%d %s" % (pid, os.path.basename(names[0])))
    return sorted(found)


def socket_served(path: str) -> bool:
    """Is a connection accepted on this Unix socket? Where that cannot be found out: yes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.settimeout(SOCKET_LOOK_S)
            link.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def stop(systemctl: str, lock: str, root: str, limit_s: float) -> Act:
    """Stop them in order and wait for storage back ends to end, within ``limit_s`` seconds in all."""
    deadline = time.monotonic() + limit_s

    def work(held: int) -> Act:
        said = systemd.ask(systemctl, STOPPED[0], held, deadline)
        if isinstance(said, Act):
            return said
        if said[0]:
            return Act("failed", "systemctl stop xapi.service ended with %d: %s" % said)
        for words in STOPPED[1:]:
            # Where there is no such unit it says so; whether anything is left is looked at.
            systemd.ask(systemctl, words, held, deadline)
        left = _wait(lambda: workers(root), min(deadline, time.monotonic() + WORKERS_S))
        if left:
            return Act("failed", "xapi is stopped, but storage is still being worked on: %s" % ", ".join(left[:3]))
        return Act("done", "the toolstack was stopped")

    return systemd.locked(lock, deadline, work)


def _wait(left: Callable[[], List[str]], deadline: float) -> List[str]:
    while True:
        found = left()
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(LOOK_S)


def start(systemctl: str, lock: str, running: Callable[[], bool], limit_s: float) -> Act:
    """Start xapi and its stunnel and wait for its process. The hold must be lifted durably: its start asks for it."""
    deadline = time.monotonic() + limit_s

    def work(held: int) -> Act:
        # Not waited for by systemctl: its start asks the agent's gate first, which must not wait for itself.
        said = systemd.ask(systemctl, ["start", "--no-block", "xapi.service"], held, deadline)
        if isinstance(said, Act):
            return said
        if said[0]:
            return Act("failed", "systemctl start xapi.service ended with %d: %s" % said)
        # xapi starts it again itself on its way up, but not while a master does not answer.
        systemd.ask(systemctl, ["start", "--no-block", "stunnel@xapi.service"], held, deadline)
        end = min(deadline, time.monotonic() + systemd.NEW_PROCESS_S)
        while not running():
            if time.monotonic() >= end:
                return Act("unknown", "systemctl start xapi.service has ended, but no xapi process is there")
            time.sleep(0.05)
        return Act("done", "the toolstack runs again")

    return systemd.locked(lock, deadline, work)


def hold_gc(systemctl: str, lock: str, root: str, limit_s: float) -> Act:
    """No garbage collector of storage begins on this host until the next boot, and none runs any more.

    A masked template starts no instance (systemctl(1), --runtime: below /run). sm starts its collector that way
    (SMGC@.service). One that runs is stopped as its unit stops it; sm's collector can be ended at any point.
    """
    deadline = time.monotonic() + limit_s

    def work(held: int) -> Act:
        said = systemd.ask(systemctl, ["mask", "--runtime", GC_TEMPLATE], held, deadline)
        if isinstance(said, Act):
            return said
        if said[0]:
            return Act("failed", "systemctl mask %s ended with %d: %s" % ((GC_TEMPLATE,) + said))
        systemd.ask(systemctl, STOPPED[2], held, deadline)
        left = _wait(lambda: [each for each in workers(root) if each.endswith(" " + GC_PROGRAM)], deadline)
        if left:
            return Act("failed", "storage's garbage collection does not end: %s" % ", ".join(left[:3]))
        return Act("done", "no garbage collection of storage runs or begins here")

    return systemd.locked(lock, deadline, work)


def release_gc(systemctl: str, lock: str, limit_s: float) -> Act:
    """It may begin again; sm starts it with its next scan of an SR."""
    deadline = time.monotonic() + limit_s

    def work(held: int) -> Act:
        said = systemd.ask(systemctl, ["unmask", "--runtime", GC_TEMPLATE], held, deadline)
        if isinstance(said, Act):
            return said
        if said[0]:
            return Act("failed", "systemctl unmask %s ended with %d: %s" % ((GC_TEMPLATE,) + said))
        return Act("done", "garbage collection of storage may begin again")

    return systemd.locked(lock, deadline, work)
