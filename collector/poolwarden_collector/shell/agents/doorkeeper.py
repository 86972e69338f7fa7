"""Connections to a port of the collector that say nothing: bounded in number, so that they take nobody's place.

gRPC closes a connection without a handshake, or without a stream, after some seconds (gateway.py, OPTIONS). How many
there are meanwhile it does not bound for each address, so they are counted here once a second. Of those that are too
many the oldest are shut: 256 of an address (four pools of 64 hosts behind one that reconnect at once), 2,048 in all.

The sockets are gRPC's own; they are found among this process's open files (proc(5)) by the port that they are at, and
shut, not closed: gRPC sees the end of the connection and closes it itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

MOST_OF_ADDRESS = 256
MOST = 2_048
EVERY_S = 1.0
_FILES = Path("/proc/self/fd")
Peer = tuple[str, int]


def peer_of(text: str) -> Peer:
    """The other end as gRPC names it, ``ipv4:ADDRESS:PORT`` or ``ipv6:[ADDRESS]:PORT`` with percent signs."""
    address, _, port = unquote(text).partition(":")[2].rpartition(":")
    return _plain(address.strip("[]")), int(port) if port.isdigit() else 0


class Doorkeeper:
    """``speaking``: the other ends that have a stream now; ``shut``: is told how many were shut."""

    def __init__(self, speaking: Callable[[], set[Peer]], shut: Callable[[int], None]) -> None:
        self._speaking = speaking
        self._shut = shut
        self._seen: dict[Peer, int] = {}  # in which look a connection was seen first
        self._looks = 0

    async def watch(self, port: int) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            if shut := await asyncio.to_thread(self.look, port, self._speaking()):
                self._shut(shut)

    def look(self, port: int, speaking: set[Peer]) -> int:
        """Shut those that are too many at this port; how many."""
        self._looks += 1
        mute = {peer: held for peer, held in _connections(port).items() if peer not in speaking}
        try:
            self._seen = {peer: self._seen.get(peer, self._looks) for peer in mute}
            too_many = _too_many(sorted(mute, key=lambda peer: -self._seen[peer]))
            for peer in too_many:
                with contextlib.suppress(OSError):
                    mute[peer].shutdown(socket.SHUT_RDWR)
            return len(too_many)
        finally:
            for held in mute.values():
                held.close()


def shut(port: int, peer: Peer) -> None:
    """Shut the connection of this other end, if there is one: for a stream that nothing else ends."""
    held = _connections(port)
    try:
        if peer in held:
            with contextlib.suppress(OSError):
                held[peer].shutdown(socket.SHUT_RDWR)
    finally:
        for each in held.values():
            each.close()


def _too_many(newest_first: list[Peer]) -> list[Peer]:
    of_address: Counter[str] = Counter()
    found = []
    for number, (address, port) in enumerate(newest_first):
        of_address[address] += 1
        if of_address[address] > MOST_OF_ADDRESS or number >= MOST:
            found.append((address, port))
    return found


def _connections(port: int) -> dict[Peer, socket.socket]:
    """The connections to this port, each with a handle of our own."""
    found = {}
    for file in _FILES.iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError, TypeError), contextlib.ExitStack() as stack:
            held = _handle(file)
            if held is None:
                continue
            stack.callback(held.close)
            if held.getsockname()[1] == port:
                address, number = held.getpeername()[:2]
                found[_plain(address), number] = held
                stack.pop_all()
    return found


def _handle(file: Path) -> socket.socket | None:
    """A handle of our own of an open file that is a socket of the Internet's families. Raises OSError, ValueError."""
    if not str(file.readlink()).startswith("socket:"):
        return None
    handle = os.dup(int(file.name))
    try:
        held = socket.socket(fileno=handle)
    except OSError:
        os.close(handle)
        raise
    if held.family in (socket.AF_INET, socket.AF_INET6):
        return held
    held.close()
    return None


def _plain(address: str) -> str:
    """As it is compared: an IPv4 address in an IPv6 socket is itself (RFC 4291, 2.5.5.2)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
