"""The end of a conversation that hangs: a peer that answers one byte at a time never runs into a socket's timeout.

Rule: whatever the peer does, the socket is shut down after the limit, and the thread that waits for it goes on. The
resolution of a name has its own limits, those of the system's resolver.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class Limit:
    """``seconds`` for a whole conversation; ``reached``: it was ended by this."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.reached = False

    @contextlib.contextmanager
    def over(self, current: Callable[[], socket.socket | None]) -> Iterator[None]:
        """Within this the socket that ``current`` returns is shut down when the time is over."""
        timer = threading.Timer(self.seconds, self._end, (current,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self, current: Callable[[], socket.socket | None]) -> None:
        self.reached = True
        if (sock := current()) is not None:
            with contextlib.suppress(OSError):
                # The plain method: that of a TLS socket forgets its state under the thread that reads from it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
