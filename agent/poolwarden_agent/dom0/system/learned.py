"""What is kept of things that happened, and where dom0 tells how they went: our own file, systemd's lines, connections.

The file is written beside its target, synced and renamed: a torn write leaves the old one, a full disk too. systemd
tells the end of a unit's process in syslog (facility daemon, /var/log/daemon.log in dom0: rsyslog.d/xenserver.conf),
"xapi.service: main process exited, code=exited, status=123/n/a". Connections: Linux, proc_net_tcp.txt.
"""

import os
import re
import socket
import struct
from typing import Iterator, Optional, Tuple

from poolwarden_agent.core.findings import MOST_BYTES
from poolwarden_agent.dom0.system import files, plain_files

NAME = "assumptions"
LOG = "var/log/daemon.log"
MOST_LOG = 262144
MOST_TABLE = 4 * 1024 * 1024
_EXIT = re.compile(
    r"(?<![\w@.-])xapi[.]service: [Mm]ain process exited, code=(exited|killed|dumped), status=([0-9]{1,3}(?:/[A-Z]+)?)"
)
_ESTABLISHED = "01"


def load(directory: str) -> bytes:
    """What was saved last; empty: nothing was. :raises OSError: it cannot be read."""
    try:
        descriptor = plain_files.to_read(os.path.join(directory, NAME))
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MOST_BYTES + 1)


def save(directory: str, data: bytes) -> None:
    """Keep it in place of what was kept. :raises OSError: it cannot be; the old one stands."""
    path = os.path.join(directory, NAME)
    try:
        with plain_files.new(path + ".new") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + ".new", path)
    except OSError:
        try:
            os.unlink(path + ".new")
        except OSError:
            pass
        raise


def log_end(root: str) -> Tuple[int, int]:
    """The log's inode and size now."""
    try:
        about = os.stat(os.path.join(root, LOG))
    except OSError:
        return 0, 0
    return about.st_ino, about.st_size


def exit_since(root: str, log: Tuple[int, int]) -> Tuple[str, str]:
    """How xapi's process ended last, by what was logged since then; empty: nothing was, or the log is another one."""
    inode, size = log_end(root)
    if not inode or inode != log[0] or size <= log[1]:
        return "", ""
    try:
        with os.fdopen(plain_files.to_read(os.path.join(root, LOG)), "rb") as file:
            file.seek(max(log[1], size - MOST_LOG))
            text = file.read(MOST_LOG).decode("utf-8", "replace")
    except OSError:
        return "", ""
    found = _EXIT.findall(text)
    if not found:
        return "", ""
    code, status = found[-1]
    return code, status.split("/")[0] if code == "exited" else status


def linked_to(root: str, address: str, port: int) -> Optional[bool]:
    """Is a TCP connection to there established? None: the kernel's table cannot be read, or the address is none."""
    try:
        wanted = {"%s:%04X" % (each, port) for each in _kernel_forms(address)}
    except (OSError, ValueError):
        return None
    table = files.read(root, "proc/net/tcp6" if ":" in address else "proc/net/tcp", MOST_TABLE)
    if table is None:
        return None
    rows = [line.split() for line in table.splitlines()[1:]]
    return any(len(row) > 3 and row[2] in wanted and row[3] == _ESTABLISHED for row in rows)


def _kernel_forms(address: str) -> Iterator[str]:
    """An address as the kernel prints it: 32-bit words in its own byte order, hexadecimal."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address.split("%")[0])
    words = struct.unpack("=%dI" % (len(packed) // 4), packed)
    yield "".join("%08X" % word for word in words)
