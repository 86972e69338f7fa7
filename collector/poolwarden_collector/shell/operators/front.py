"""The operators' socket: who connects is read from the kernel, then every byte is passed on to gRPC's own socket.

gRPC for Python tells nothing of the process at the other end of a Unix socket. So it serves on a socket that only this
process reaches, and this front is its only client: each connection that it makes there has a name of its own (an
abstract address), which gRPC gives as the call's peer, and which stands here for the user who connected.

Rules
-----
* safety: who connects is SO_PEERCRED and SO_PEERGROUPS, as they were when it connected (unix(7)). A connection to gRPC
  that does not have one of this front's names is nobody's, and has no rights.
* gRPC's own socket lies in a folder that is this user's alone, checked before it is used.
* Connections are bounded: in all, and of one user; root and the collector's own user are outside of the first bound, so
  that nobody keeps them out. What is beyond a bound is closed at once, and told once.
* A socket that was removed, or is not served any more, is noticed within ``LOOK_S`` seconds, made anew and told.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import pwd
import secrets
import socket
import stat
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

from poolwarden_collector.shell.operators.access import Caller

SOCKET_MODE = 0o660
MOST, MOST_OF_ONE = 256, 64  # connections
LOOK_S = 5.0
_KEPT_S = 10.0  # how long a user's name and groups are taken as they were found
_FOUND_WITHIN_S = 5.0  # names may come from a directory over the network
_GROUP_BYTES = 1024  # what Python's getsockopt takes at most: 256 groups
_SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)  # asm-generic/socket.h; Linux 4.13
_ABSTRACT = "poolwarden-operators-"
_READ = 1 << 18  # bytes that wait for a reader who is slower, before the writer is held up

_log = logging.getLogger(__name__)
_Peer = tuple[int, int, tuple[int, ...]]  # pid, uid, gids


class Front:
    """Serves ``path`` for ``inner``, where gRPC is served.

    ``warn`` tells operators what happened; ``group`` may connect (empty: the collector's own).
    """

    def __init__(self, path: Path, warn: Callable[[str, str], None], group: str = "") -> None:
        self._path = path
        self._warn = warn
        self._group = group
        self._folder = path.parent / f".{path.name}.d"
        self.inner = self._folder / "s"
        self._server: asyncio.Server | None = None
        self._place: tuple[int, int] = (0, 0)
        self._callers: dict[str, Caller] = {}
        self._counts: Counter[int] = Counter()
        self._known: dict[tuple[int, tuple[int, ...]], tuple[str, tuple[str, ...], float]] = {}
        self._open: set[_Side] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Make the way free and the folder for gRPC's socket. Raises OSError where somebody else serves, or owns it."""
        make_way(self._path)
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        found = self._folder.lstat()
        # safety: who may write here could put a socket of his own in gRPC's place, or reach gRPC without a name.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise OSError(f"{self._folder}: is no folder of this user alone (mode 0700); remove it")
        self.inner.unlink(missing_ok=True)

    async def start(self) -> None:
        """Take connections; gRPC is served on ``inner`` by now. Raises OSError."""
        await self._listen()
        self._looking = asyncio.ensure_future(self._look())

    async def stop(self) -> None:
        """Take no more, end those that there are, leave nothing behind."""
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()
        for task in list(self._joining):
            task.cancel()
        for side in list(self._open):
            side.abort()
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.inner.unlink(missing_ok=True)
            self._folder.rmdir()

    def caller(self, peer: str) -> Caller | None:
        """Who made this connection; ``peer`` as gRPC gives it. None: it is none of this front's."""
        return self._callers.get(peer.removeprefix("unix-abstract:"))

    @property
    def connections(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    # ------------------------------------------------------------------------------------------------ its socket

    async def _listen(self) -> None:
        served = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o777 & ~SOCKET_MODE)  # from its first instant nobody else may connect
        try:
            served.bind(str(self._path))
        except OSError as error:
            served.close()
            raise OSError(f"{self._path}: cannot be listened on ({error})") from error
        finally:
            os.umask(mask)
        try:
            self._admit_group()
            self._path.chmod(SOCKET_MODE)
            served.setblocking(False)
            found = self._path.stat()
            self._place = (found.st_dev, found.st_ino)
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Outer(self), sock=served)
        except BaseException:
            served.close()
            raise

    def _admit_group(self) -> None:
        """Raises OSError where the group is not there, or is none that this process may give files to."""
        if not self._group:
            return
        try:
            gid = grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise OSError(f"operator_group: this machine has no group {self._group!r}; groupadd makes it") from None
        try:
            os.chown(self._path, -1, gid)
        except PermissionError:
            step = f"SupplementaryGroups={self._group} in the unit (systemctl edit poolwarden-collector)"
            raise OSError(f"operator_group: the collector's user is not in group {self._group!r}: {step}") from None

    def _is_ours(self) -> bool:
        try:
            found = self._path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._place

    async def _look(self) -> None:
        """Is the socket still there and served? Else make it anew."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._is_ours() and self._server is not None and self._server.is_serving():
                continue
            try:
                if self._server is not None:
                    self._server.close()
                if self._is_ours():
                    self._path.unlink(missing_ok=True)
                make_way(self._path)
                await self._listen()
                text = f"the operators' socket {self._path} was gone and was made anew"
            except OSError as error:
                text = f"the operators' socket {self._path} is gone: {error}"
            _log.error("%s", text)
            self._warn(text, "the operators' socket")

    # ------------------------------------------------------------------------------------------------ connections

    def _connected(self, side: _Outer) -> None:
        """A connection was made: refuse it, or join it to one of gRPC's."""
        try:
            peer = _peer_of(side.transport.get_extra_info("socket"))
        except OSError as error:
            _log.error("a connection to the operators' socket has no credentials: %s", error)
            side.transport.abort()
            return
        if full := self._full(peer[1]):
            side.transport.abort()
            self._warn(f"connections to the operators' socket are closed: {full}", "connections of operators")
            return
        side.uid = peer[1]
        self._counts[peer[1]] += 1
        self._open.add(side)
        side.transport.pause_reading()
        task = asyncio.ensure_future(self._join(side, peer))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def _full(self, uid: int) -> str:
        if self._counts[uid] >= MOST_OF_ONE:
            return f"uid {uid} has {MOST_OF_ONE} open, which is the most for one user"
        ours = {0, os.geteuid()}
        if uid not in ours and sum(n for each, n in self._counts.items() if each not in ours) >= MOST:
            return f"{MOST} are open, which is the most for all users"
        return ""

    async def _join(self, side: _Outer, peer: _Peer) -> None:
        """Make the connection to gRPC under a name that stands for this peer, and let the bytes through."""
        name = _ABSTRACT + secrets.token_hex(16)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            user, groups = await self._named(peer[1], peer[2])
            end.bind(f"\0{name}")
            side.name = name
            source = f"socket, uid {peer[1]}, pid {peer[0]}"
            self._callers[name] = Caller(user, f"uid {peer[1]}", source, peer[1], groups)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(end, str(self.inner))
            await loop.create_unix_connection(lambda: _Inner(side), sock=end)
        except OSError as error:
            end.close()
            text = f"the operators' socket leads nowhere: {error}"
            _log.error("%s", text)
            self._warn(text, "the operators' socket leads")
            side.transport.abort()
        except BaseException:
            end.close()
            side.transport.abort()
            raise

    def _gone(self, side: _Outer) -> None:
        if side in self._open:
            self._open.discard(side)
            self._counts[side.uid] -= 1
            if not self._counts[side.uid]:
                del self._counts[side.uid]
        self._callers.pop(side.name, None)

    async def _named(self, uid: int, gids: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
        """The user's name, and those of the groups that he had when he connected."""
        loop = asyncio.get_running_loop()
        found = self._known.get((uid, gids))
        if found is None or loop.time() >= found[2]:
            try:
                named = await asyncio.wait_for(asyncio.to_thread(_names_of, uid, gids), _FOUND_WITHIN_S)
            except TimeoutError:
                return f"uid {uid}", ()
            if len(self._known) >= MOST:
                self._known.clear()
            found = self._known[(uid, gids)] = (*named, loop.time() + _KEPT_S)
        return found[0], found[1]


class _Side(asyncio.Protocol):
    """One end of a connection; what it hears goes to the other end, no faster than that one takes it."""

    transport: asyncio.Transport
    other: _Side | None = None
    early: bytes = b""  # what came before there was another end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(_READ)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    def abort(self) -> None:
        self.transport.abort()


class _Outer(_Side):
    """The end that a program of this machine has made."""

    uid = -1
    name = ""

    def __init__(self, front: Front) -> None:
        self._front = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._front._connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._front._gone(self)


class _Inner(_Side):
    """The end towards gRPC."""

    def __init__(self, outer: _Outer) -> None:
        self.other = outer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.other is not None
        if self.other.transport.is_closing():
            self.transport.abort()
            return
        if self.other.early:
            self.transport.write(self.other.early)
        self.other.other = self
        self.other.transport.resume_reading()


def _peer_of(connected: socket.socket) -> _Peer:
    """Process, user and groups at the other end, as they were when it connected. Raises OSError."""
    pid, uid, gid = struct.unpack("iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    gids: tuple[int, ...] = ()
    with contextlib.suppress(OSError):  # more groups than fit (ERANGE): then his first one alone counts
        found = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)
        gids = struct.unpack(f"{len(found) // 4}I", found)
    return pid, uid, tuple(sorted({gid, *gids}))


def _names_of(uid: int, gids: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    """What this machine calls them; a user without a name that the journal can carry is his number."""
    name, groups = f"uid {uid}", []
    with contextlib.suppress(KeyError, OSError):
        found = pwd.getpwuid(uid).pw_name
        if found.isprintable() and len(found) <= 64 and " " not in found:
            # In the journal "poolwarden" is the collector itself.
            name = f"user {found}" if found.lower() == "poolwarden" else found
    for gid in gids:
        with contextlib.suppress(KeyError, OSError):
            groups.append(grp.getgrgid(gid).gr_name)
    return name, tuple(groups)


def make_way(path: Path) -> None:
    """Make the socket's folder, and remove a socket that nobody serves any more. Raises OSError if somebody does."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not path.is_socket():
        if path.exists():
            raise OSError(f"{path}: is in the way and no socket")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise OSError(f"{path}: another collector serves on this socket")
