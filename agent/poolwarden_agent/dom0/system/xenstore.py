"""Running domains without a fork: xenstored's own socket protocol (xen: xen/include/public/io/xs_wire.h).

A domain's UUID is its VM's UUID: ``/local/domain/N/vm`` reads ``/vm/UUID``. Domain 0 is dom0 itself and left out.

Every domain is asked about at each look, for a migration gives a domain its name at its end; but several questions go
out at a time, because a hundred waits each two seconds would cost more than all else that the agent does. xenstored
answers a connection's questions in their order.

Silence about guests is no word that there are none: domain 0 is in each list that is whole, and of an answer that is an
error ENOENT alone says that something is not there (xen: tools/xenstored, xs_wire.h xsd_errors).

No library is used: Xen's own binding to it is built for dom0's Python alone, and waits without a limit.
"""

import functools
import os
import socket
import struct
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

_HEAD = struct.Struct("=IIII")
DIRECTORY, READ, ERROR = 1, 2, 16
BIGGEST = 4096 * 16
AT_ONCE = 32
GATHER_S = 0.001  # in which most answers to many questions have come: one wake-up instead of one for each


# The questions that were asked last, their answers byte by byte, and the UUIDs in them.
_KNOWN: Dict[bytes, Tuple[bytes, List[str]]] = {}
MOST_KNOWN = 64


class Look(NamedTuple):
    """The running domains' UUIDs, sorted; None where xenstored does not tell them, and why.

    ``contrary``: that it does not is certain (nobody listens, or what came is no answer), and no matter of time;
    ``answered``: something came that no start of this host explains.
    """

    domains: Optional[List[str]]
    trouble: str = ""
    contrary: bool = False
    answered: bool = False


class Refused(Exception):
    """xenstored answers with an error; the text is its word."""


def running(path: str, limit_s: float = 1.0) -> Optional[List[str]]:
    """UUIDs of the running domains, sorted; None if xenstored does not tell within ``limit_s`` seconds."""
    return look(path, limit_s).domains


def look(path: str, limit_s: float = 1.0) -> Look:
    """The same, with the reason where they are not told."""
    talk = _Talk(time.monotonic() + limit_s)
    try:
        talk.connect(path)
        numbers = talk.ask(DIRECTORY, "/local/domain")
        if "0" not in (numbers or "").split("\0"):
            # safety: one that was started anew knows no guest, and they all run on. At the boot xen-init-dom0 adds it.
            return Look(None, "its list of domains has no domain 0", True)
        found: List[str] = []
        for request, count in _questions(numbers or ""):
            found += talk.names(request, count)
        return Look(sorted(found))
    except FileNotFoundError:
        return Look(None, "it has no socket", os.path.isdir(os.path.dirname(path)))
    except ConnectionRefusedError:
        return Look(None, "nobody listens on its socket", True)
    except Refused as word:
        return Look(None, "it answers %s" % word, True, True)
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
    except (OSError, ValueError, struct.error, Refused):
        return None
    finally:
        talk.close()


def _question(kind: int, path: str) -> bytes:
    payload = path.encode("ascii") + b"\0"
    return _HEAD.pack(kind, 0, 0, len(payload)) + payload


@functools.lru_cache(maxsize=2)
def _questions(numbers: str) -> Tuple[Tuple[bytes, int], ...]:
    """For these domains the questions after their names, as many as go out at once, and how many those are."""
    guests = [number for number in numbers.split("\0") if number and number != "0"]
    parts = [guests[at : at + AT_ONCE] for at in range(0, len(guests), AT_ONCE)]
    return tuple(
        (b"".join(_question(READ, "/local/domain/%s/vm" % number) for number in part), len(part)) for part in parts
    )


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

    def ask(self, kind: int, path: str) -> Optional[str]:
        """The answer; None where xenstored says that there is none."""
        self._send(_question(kind, path))
        answer = self._answer(kind)
        self._done()
        return answer

    def names(self, request: bytes, count: int) -> List[str]:
        """The UUIDs of so many domains; those that have just gone, or have no name yet, are left out.

        The answers come each time; the same bytes as the last time are not taken apart again.
        """
        self._send(request)
        if count > 1:
            time.sleep(GATHER_S)
        known, names = _KNOWN.get(request, (b"", []))
        while len(self._data) < len(known) and known.startswith(self._data):
            if self._data:
                time.sleep(GATHER_S)
            self._more()
        if not known or self._data != known:
            values = [self._answer(READ) for _ in range(count)]
            names = [value[len("/vm/") :].strip("\0") for value in values if value and value.startswith("/vm/")]
            if len(_KNOWN) >= MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN[request] = bytes(self._data[: self._at]), names
        self._done()
        return names

    def _send(self, request: bytes) -> None:
        self._wait()
        self._connection.sendall(request)

    def _done(self) -> None:
        """Whatever came has been read."""
        self._data.clear()
        self._at = 0

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
        text = self._data[begin : self._at].decode("utf-8", "replace")
        if answered != ERROR:
            return text
        if text.strip("\0") != "ENOENT":
            raise Refused(text.strip("\0")[:40] or "an error")
        return None

    def _have(self, count: int) -> None:
        """Read until so many bytes are here."""
        while len(self._data) < count:
            self._more()

    def _more(self) -> None:
        self._wait()
        chunk = self._connection.recv(65536)
        if not chunk:
            raise OSError("xenstored closed the connection")
        self._data += chunk

    def _wait(self) -> None:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
