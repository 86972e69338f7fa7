"""The host side's hold on its link side: a child process that owns gRPC, at the other end of a socket pair.

Rules
-----
* The child is a fresh interpreter (fork and exec at once), so that nothing of the privileged process is in it, and no
  grpc in this one. It ends by itself when this process is gone: its end of the pipe is closed then.
* Nothing here blocks: what the child does not take is kept, within bounds. A child that has ended, breaks the frames or
  has not read for 20 s is killed, and another one started after a pause that grows while they end soon after their
  start.
* The child reads its certificate before it gives its privileges away, so that the key stays root's alone. Files that
  were replaced are taken up within seconds by a new child; no restart of the agent is needed. Where this agent has
  renewed them itself (`renewed`) that waits for the end of the stream that runs: no renewal ends one.
"""

import os
import socket
import subprocess
import time
from typing import List, Optional, Sequence, Tuple

from poolwarden_agent.process import log
from poolwarden_agent.process.pipe import LONGEST, Frames, PipeError, frame

STUCK_S = 20.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
GROWN_UP_S = 20.0
MOST_KEPT = 2 * LONGEST
LOOK_AT_FILES_S = 2.0


Stamp = Tuple[int, int, int]


def _stamp(path: str) -> Stamp:
    """Inode, size in bytes and time of the last change, ns; zeros where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


class LinkLost(Exception):
    """The child has ended or was given up; the text says why."""


class LinkProcess(object):
    """The child, from start to end and to the next one."""

    def __init__(self, command: List[str], files: Sequence[str] = ()) -> None:
        """``files``: what a child reads once, at its start."""
        self._command = command
        self._files = files
        self._read: Tuple[Stamp, ...] = ()  # the files as this child has read them
        self._looked: Tuple[Stamp, ...] = ()  # and as they were at the last look
        self._look_at_s = 0.0
        self._renewed = False  # the files are replaced by this very agent, since this child has read them
        self.streaming = False  # as the child says
        self._process: Optional[subprocess.Popen] = None
        self._socket: Optional[socket.socket] = None
        self._frames = Frames()
        self._outgoing = bytearray()
        self._moved_s = 0.0  # when the child last took something, or had nothing to take
        self._started_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._start_at_s = 0.0

    @property
    def socket(self) -> Optional[socket.socket]:
        """The pipe to wait for, None while no child runs."""
        return self._socket

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def wants_to_write(self) -> bool:
        return bool(self._outgoing)

    def ensure(self) -> None:
        """Start a child if none runs and its time has come. :raises LinkLost: the one that ran has read other files."""
        now = time.monotonic()
        if self._socket is not None and self._renewed and not self.streaming:
            raise self._lost("began with a certificate that was renewed since")
        if self._socket is not None and now >= self._look_at_s:
            self._look_at_s = now + LOOK_AT_FILES_S
            self._compare()
        if self._socket is not None or now < self._start_at_s:
            return
        self._read = self._looked = self._stamps()
        self._renewed = self.streaming = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    self._command + ["--link-fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                self._start_at_s = now + LONGEST_PAUSE_S
                log.say("the link side cannot be started: %s" % error, "link side")
                return
        ours.setblocking(False)
        self._socket, self._frames, self._outgoing = ours, Frames(), bytearray()
        self._started_s = self._moved_s = now

    def renewed(self) -> None:
        """This agent is about to replace the files itself, for the next stream. Called from any thread."""
        self._renewed = True

    def _compare(self) -> None:
        """Two looks in a row that agree: three files are not replaced in one instant."""
        if self._renewed:
            return
        before, self._looked = self._looked, self._stamps()
        whole = all(any(stamp) for stamp in self._looked)  # a stream that runs needs no file
        if whole and self._looked != self._read and self._looked == before:
            raise self._lost("has read certificate files that were replaced since")

    def _stamps(self) -> Tuple[Stamp, ...]:
        return tuple(_stamp(path) for path in self._files)

    def read(self) -> List[Tuple[bytes, bytes]]:
        """Frames that have come. :raises LinkLost: and the child is gone."""
        try:
            data = self._socket.recv(65536) if self._socket is not None else b""
            if not data:
                raise self._lost("has ended")
            return self._frames.feed(data)
        except BlockingIOError:
            return []
        except PipeError as error:
            raise self._lost("sent %s" % error) from error
        except OSError as error:
            raise self._lost("broke: %s" % error) from error

    def send(self, verb: bytes, payload: bytes = b"") -> None:
        """Hand a frame over, now or as soon as the child takes it. :raises LinkLost: and the child is gone."""
        if self._socket is None:
            return
        try:
            self._outgoing += frame(verb, payload)
        except PipeError as error:
            log.say("a message was not sent: %s" % error, "pipe")
            return
        self.flush()

    def flush(self) -> None:
        """Write what the child takes without waiting. :raises LinkLost: and the child is gone."""
        if self._socket is None:
            return
        now = time.monotonic()
        try:
            while self._outgoing:
                count = self._socket.send(self._outgoing)
                del self._outgoing[:count]
                self._moved_s = now
        except BlockingIOError:
            if now - self._moved_s > STUCK_S or len(self._outgoing) > MOST_KEPT:
                raise self._lost("does not read") from None
        except OSError as error:
            raise self._lost("broke: %s" % error) from error
        else:
            self._moved_s = now

    def _lost(self, why: str) -> LinkLost:
        now = time.monotonic()
        self._end(0.0)
        grown = now - self._started_s >= GROWN_UP_S
        self._pause_s = FIRST_PAUSE_S if grown else min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._start_at_s = now + self._pause_s
        return LinkLost("the link side %s; another one is started" % why)

    def stop(self, limit_s: float) -> None:
        """Let it say what it was given, for ``limit_s`` seconds, and end it."""
        if self._socket is not None:
            try:
                self._socket.settimeout(limit_s)
                self._socket.sendall(self._outgoing)
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self._end(limit_s)

    def _end(self, limit_s: float) -> None:
        process, pipe = self._process, self._socket
        self._process = self._socket = None
        self._outgoing = bytearray()  # what was for this child is for nobody
        if process is not None:
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if pipe is not None:
            pipe.close()


def adopt(descriptor: int) -> socket.socket:
    """In the child: its end of the pipe."""
    os.set_inheritable(descriptor, False)
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
