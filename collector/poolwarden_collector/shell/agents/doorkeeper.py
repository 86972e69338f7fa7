"""Connections to a port of the collector that say nothing: bounded in number, so that they take nobody's place.

gRPC closes a connection without a handshake, or without a stream, after some seconds (port.py, OPTIONS). How many
there are meanwhile it does not bound for each address, so they are counted here once a second. Of those that are too
many the oldest are shut: 256 of an address (four pools of 64 hosts behind one that reconnect at once), 2,048 in all.

An agent whose call gRPC has not handed over yet has said something, and cannot be told from one that says nothing. So
while agents come in, or calls are known to wait (call_watch.py), and for some looks after, it is 16,384 of whatever
address: a herd of 10,000, behind one address too, is let in (measured: 21 kB for each connection without TLS, 61 kB
with it). Only who has a host's certificate makes a call, and gRPC's own limits of time hold meanwhile.

The sockets are gRPC's own; they are found among this process's open files (proc(5)) by the port that they are at, and
shut, not closed: gRPC sees the end of the connection and closes it itself. With thousands of agents a look is nearly
always a count of the open files: as long as few of them are left, none is too many. What
a file was found to be is kept for as long as it is the same socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from urllib.parse import unquote

MOST_OF_ADDRESS = 256
MOST = 2_048
MOST_OF_HERD = 16_384
HERD_LOOKS = 5  # so many looks after the last agent came in a herd is over; a late loop looks seldom, too
EVERY_S = 1.0
LOOK_AT_ALL = 30  # looks: each such one is at every open file, whatever their number
_FILES = "/proc/self/fd"
Peer = tuple[str, int]


def peer_of(text: str) -> Peer:
    """The other end as gRPC names it, ``ipv4:ADDRESS:PORT`` or ``ipv6:[ADDRESS]:PORT`` with percent signs."""
    address, _, port = unquote(text).partition(":")[2].rpartition(":")
    return _plain(address.strip("[]")), int(port) if port.isdigit() else 0


class Doorkeeper:
    """``speaking``: the other ends that have a stream now; ``shut``: is told how many were shut; ``calls``: how many
    agents have come in since the start; ``calls_wait``: are there some that gRPC has not handed over for long."""

    def __init__(
        self,
        speaking: Callable[[], set[Peer]],
        shut: Callable[[int], None],
        calls: Callable[[], int] = lambda: 0,
        calls_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        self._speaking = speaking
        self._shut = shut
        self._calls = calls
        self._calls_wait = calls_wait
        self._called = 0
        self._quiet_looks = HERD_LOOKS  # since an agent came in
        self._seen: dict[Peer, int] = {}  # in which look a connection was seen first
        self._looks = 0
        self._sockets = _Sockets()

    async def watch(self, port: int) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            if shut := await asyncio.to_thread(self.look, port, self._speaking()):
                self._shut(shut)

    def look(self, port: int, speaking: set[Peer]) -> int:
        """Shut those that are too many at this port; how many."""
        self._looks += 1
        files = _open_files()
        herd = self._herd()
        if herd and len(files) - len(speaking) <= MOST_OF_HERD:
            return 0
        # From half of it on their ages are known, by which they are chosen once they are too many.
        if len(files) - len(speaking) <= MOST_OF_ADDRESS // 2 and self._looks % LOOK_AT_ALL:
            return 0
        mute = {peer: file for peer, file in self._sockets.at(port, files).items() if peer not in speaking}
        self._seen = {peer: self._seen.get(peer, self._looks) for peer in mute}
        newest_first = sorted(mute, key=lambda peer: -self._seen[peer])
        too_many = newest_first[MOST_OF_HERD:] if herd else _too_many(newest_first)
        return sum(_shut(mute[peer], port, peer) for peer in too_many)

    def _herd(self) -> bool:
        """Do agents come in, by this look, or would they?"""
        called = self._calls()
        self._quiet_looks = 0 if called != self._called or self._calls_wait() else self._quiet_looks + 1
        self._called = called
        return self._quiet_looks < HERD_LOOKS


def shut(port: int, peer: Peer) -> None:
    """Shut the connection of this other end, if there is one: for a stream that nothing else ends."""
    file = _Sockets().at(port, _open_files()).get(peer)
    if file is not None:
        _shut(file, port, peer)


def _too_many(newest_first: list[Peer]) -> list[Peer]:
    of_address: Counter[str] = Counter()
    found = []
    for number, (address, port) in enumerate(newest_first):
        of_address[address] += 1
        if of_address[address] > MOST_OF_ADDRESS or number >= MOST:
            found.append((address, port))
    return found


def _open_files() -> list[str]:
    with os.scandir(_FILES) as files:
        return [file.name for file in files]


class _Sockets:
    """Which of this process's open files are connections, and whose. A socket is known by its inode."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int, Peer | None]] = {}  # file: its link, the port that it is at, its peer

    def at(self, port: int, files: Iterable[str]) -> dict[Peer, str]:
        """The connections to this port among these open files, each with its file."""
        known = {}
        for file in files:
            with contextlib.suppress(OSError):
                link = os.readlink(f"{_FILES}/{file}")  # noqa: PTH115  # of thousands: paths as objects cost as much
                before = self._known.get(file)
                known[file] = before if before is not None and before[0] == link else (link, *_ends(file, link))
        # One without a peer may have one at the next look.
        self._known = {file: each for file, each in known.items() if each[2] is not None}
        return {peer: file for file, (_, own, peer) in known.items() if own == port and peer is not None}


def _ends(file: str, link: str) -> tuple[int, Peer | None]:
    """The port that this open file is at, and its other end; None: it is no connection."""
    if not link.startswith("socket:"):
        return 0, None
    with contextlib.suppress(OSError, ValueError, IndexError, TypeError), _handle(file) as held:
        if held.family in (socket.AF_INET, socket.AF_INET6):
            address, number = held.getpeername()[:2]
            return int(held.getsockname()[1]), (_plain(address), number)
    return 0, None


def _shut(file: str, port: int, peer: Peer) -> bool:
    """Shut what this open file is, if it still is this connection: the number may be another one's by now."""
    with contextlib.suppress(OSError, ValueError, IndexError, TypeError), _handle(file) as held:
        address, number = held.getpeername()[:2]
        if held.getsockname()[1] == port and (_plain(address), number) == peer:
            held.shutdown(socket.SHUT_RDWR)
            return True
    return False


def _handle(file: str) -> socket.socket:
    """A handle of our own of an open file that is a socket; to be closed. Raises OSError, ValueError."""
    handle = os.dup(int(file))
    try:
        return socket.socket(fileno=handle)
    except OSError:
        os.close(handle)
        raise


def _plain(address: str) -> str:
    """As it is compared: an IPv4 address in an IPv6 socket is itself (RFC 4291, 2.5.5.2)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
