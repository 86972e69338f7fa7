"""Running domains without a fork: xenstored's own socket protocol (xen: xen/include/public/io/xs_wire.h).

A domain's UUID is its VM's UUID: ``/local/domain/N/vm`` reads ``/vm/UUID``. Domain 0 is dom0 itself and left out.

Every domain is asked about at each look, for a migration gives a domain its name at its end; but several questions go
out at a time, because a hundred waits each two seconds would cost more than all else that the agent does. xenstored
answers a connection's questions in their order.

No library is used: Xen's own binding to it is built for dom0's Python alone, and waits without a limit.
"""

import os
import socket
import struct
import time
from typing import List, NamedTuple, Optional

_HEAD = struct.Struct("=IIII")
DIRECTORY, READ, ERROR = 1, 2, 16
BIGGEST = 4096 * 16
AT_ONCE = 32
GATHER_S = 0.001  # in which most answers to many questions have come: one wake-up instead of one for each


class Look(NamedTuple):
    """The running domains' UUIDs, sorted; None where xenstored does not tell them, and why.

    ``contrary``: that it does not is certain (nobody listens, or what came is no answer), and no matter of time;
    ``answered``: something came.
    """

    domains: Optional[List[str]]
    trouble: str = ""
    contrary: bool = False
    answered: bool = False


def running(path: str, limit_s: float = 1.0) -> Optional[List[str]]:
    """UUIDs of the running domains, sorted; None if xenstored does not tell within ``limit_s`` seconds."""
    return look(path, limit_s).domains


def look(path: str, limit_s: float = 1.0) -> Look:
    """The same, with the reason where they are not told."""
    talk = _Talk(time.monotonic() + limit_s)
    try:
        talk.connect(path)
        numbers = talk.ask(DIRECTORY, ["/local/domain"])[0]
        if numbers is None:
            return Look([])
        guests = [number for number in numbers.split("\0") if number and number != "0"]
        found = []
        for at in range(0, len(guests), AT_ONCE):
            for value in talk.ask(READ, ["/local/domain/%s/vm" % number for number in guests[at : at + AT_ONCE]]):
                if value and value.startswith("/vm/"):
                    found.append(value[len("/vm/") :].strip("\0"))
        return Look(sorted(found))
    except FileNotFoundError:
        return Look(None, "it has no socket", os.path.isdir(os.path.dirname(path)))
    except ConnectionRefusedError:
        return Look(None, "nobody listens on its socket", True)
    except OSError:
        return Look(None, "it did not answer in time")
    except (ValueError, struct.error):
        return Look(None, "what it answers is not xenstored's protocol", True, True)
    finally:
        talk.close()


def in_order(path: str, limit_s: float = 1.0) -> Optional[bool]:
    """Are sixteen questions that go out at once answered in their order? None: not all are answered in time.

    Questions of two kinds take turns, each with a number that comes back in its answer, unless that is always 0.
    """
    talk = _Talk(time.monotonic() + limit_s)
    try:
        talk.connect(path)
        return talk.turns(16)
    except (OSError, ValueError, struct.error):
        return None
    finally:
        talk.close()


class _Talk(object):
    """One connection, until its deadline (time.monotonic)."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._data = bytearray()
        self._at = 0  # how many bytes of it have been read

    def connect(self, path: str) -> None:
        self._wait()
        self._connection.connect(path)

    def close(self) -> None:
        self._connection.close()

    def ask(self, kind: int, paths: List[str]) -> List[Optional[str]]:
        """An answer for each path; None where xenstored says that there is none (the domain has just gone)."""
        request = b""
        for path in paths:
            payload = path.encode("ascii") + b"\0"
            request += _HEAD.pack(kind, 0, 0, len(payload)) + payload
        self._wait()
        self._connection.sendall(request)
        if len(paths) > 1:
            time.sleep(GATHER_S)
        answers = [self._answer(kind) for _ in paths]
        del self._data[: self._at]
        self._at = 0
        return answers

    def turns(self, count: int) -> bool:
        """Do so many answers come in the order of their questions?"""
        asked = [(DIRECTORY, b"/local\0"), (READ, b"/local/domain/0/name\0")] * (count // 2)
        request = b""
        for number, (kind, payload) in enumerate(asked, 1):
            request += _HEAD.pack(kind, number, 0, len(payload)) + payload
        self._wait()
        self._connection.sendall(request)
        came = []
        for _ in asked:
            begin = self._at + _HEAD.size
            self._have(begin)
            kind, number, _, length = _HEAD.unpack_from(self._data, self._at)
            if length > BIGGEST:
                raise ValueError("an answer of %d bytes" % length)
            self._at = begin + length
            self._have(self._at)
            came.append((kind, number))
        kinds = all(kind in (ERROR, wanted[0]) for (kind, _), wanted in zip(came, asked))
        numbers = [number for _, number in came]
        return kinds and (numbers == list(range(1, count + 1)) or not any(numbers))

    def _answer(self, kind: int) -> Optional[str]:
        begin = self._at + _HEAD.size
        self._have(begin)
        answered, _, _, length = _HEAD.unpack_from(self._data, self._at)
        if length > BIGGEST or answered not in (kind, ERROR):
            raise ValueError("an answer of kind %d with %d bytes" % (answered, length))
        self._at = begin + length
        self._have(self._at)
        return None if answered == ERROR else self._data[begin : self._at].decode("utf-8", "replace")

    def _have(self, count: int) -> None:
        """Read until so many bytes are here."""
        while len(self._data) < count:
            self._wait()
            chunk = self._connection.recv(65536)
            if not chunk:
                raise OSError("xenstored closed the connection")
            self._data += chunk

    def _wait(self) -> None:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
