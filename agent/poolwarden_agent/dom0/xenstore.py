"""Running domains without a fork: xenstored's own socket protocol (xen: xen/include/public/io/xs_wire.h).

A domain's UUID is its VM's UUID: ``/local/domain/N/vm`` reads ``/vm/UUID``. Domain 0 is dom0 itself and left out.
"""

import socket
import struct
import time
from typing import List, Optional

_HEAD = struct.Struct("=IIII")
DIRECTORY, READ, ERROR = 1, 2, 16
BIGGEST = 4096 * 16


def running(path: str, limit_s: float = 1.0) -> Optional[List[str]]:
    """UUIDs of the running domains, sorted; None if xenstored does not tell within ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(limit_s)
        connection.connect(path)
        numbers = _ask(connection, DIRECTORY, "/local/domain", deadline)
        if numbers is None:
            return []
        found = []
        for number in numbers.split("\0"):
            if number and number != "0":
                value = _ask(connection, READ, "/local/domain/%s/vm" % number, deadline)
                if value and value.startswith("/vm/"):
                    found.append(value[len("/vm/") :].strip("\0"))
        return sorted(found)
    except (OSError, ValueError, struct.error):
        return None
    finally:
        connection.close()


def _ask(connection: socket.socket, kind: int, path: str, deadline: float) -> Optional[str]:
    """One request; None if xenstored answers with an error (the domain has just gone)."""
    payload = path.encode("ascii") + b"\0"
    connection.settimeout(max(0.001, deadline - time.monotonic()))
    connection.sendall(_HEAD.pack(kind, 0, 0, len(payload)) + payload)
    answered, _, _, length = _HEAD.unpack(_exactly(connection, _HEAD.size, deadline))
    if length > BIGGEST:
        raise ValueError("an answer of %d bytes" % length)
    body = _exactly(connection, length, deadline)
    return None if answered == ERROR else body.decode("utf-8", "replace")


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise OSError("xenstored closed the connection")
        data += chunk
    return data
