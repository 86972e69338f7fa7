"""The stock XenAPI client's way to xapi's Unix socket: a transport with hard limits and one look in flight.

Rules
-----
* The limit holds for the whole call, a new login included, and the size of an answer is bounded (exchange.py). The
  stock transport has neither, and sends a request again by itself when the connection breaks: an order never is.
* A server thread that hangs does not end when its client goes away, and the Unix socket has 1024 of them (xapi:
  ocaml/xapi/xapi_globs.ml). So a *look* that is not answered in time is not asked again on a new connection: the next
  look waits on for the same answer (look_pacing.py). Orders never share or repeat a connection.
* Equal bytes are the same look: session, method and parameters are all in them.
"""

import re
import socket
import time
import xmlrpc.client
from typing import Any, Callable, NamedTuple, Optional, Tuple

from poolwarden_agent.dom0.xapi import exchange
from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFull, XapiRefused, XapiTimeout
from poolwarden_agent.dom0.xapi.exchange import Pending, remaining
from poolwarden_agent.dom0.xapi.look_pacing import Patience

CONNECT_S = 2.0
_METHOD = re.compile(rb"<methodName>([^<]*)")


class Asked(NamedTuple):
    """A look that has not been answered yet."""

    body: bytes
    pending: Pending


class Transport(xmlrpc.client.Transport):
    """The socket at this path, for one thread at a time. ``deadline`` (time.monotonic) is set before each call."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        super(Transport, self).__init__()
        self._path = path
        self._patience = Patience(clock)
        self._asked: Optional[Asked] = None
        self._remembered = exchange.Remembered()
        self.deadline = 0.0
        self.look = False  # what is asked now changes nothing: wait for an unanswered one instead of repeating it
        self.late_ms = 0  # how long an answer took that the last look had from an earlier one's question; 0: none

    @property
    def waited_ms(self) -> int:
        """For how long the last look was, or has been, under way."""
        return int(self._patience.waited_s * 1000)

    def forget(self) -> None:
        """It is another xapi now: nothing is under way any more."""
        if self._asked is not None:
            self._asked.pending.close()
        self._asked = None
        self._patience.fresh()

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Tuple[Any, ...]:
        """One call, for xmlrpc.client. :raises XapiError: see there."""
        if not self.look:
            return self._answer(Asked(request_body, self._sent(request_body)), False)
        asked, self._asked = self._asked, None
        if asked is not None:
            if self._patience.over():
                asked.pending.close()
            elif asked.body == request_body:
                return self._answer(asked, True)
            else:
                self._drain(asked)
        asked = Asked(request_body, self._sent(request_body))
        named = _METHOD.search(request_body)
        self._patience.begin(named.group(1).decode("ascii", "replace") if named else "")
        return self._answer(asked, False)

    def _drain(self, asked: Asked) -> None:
        """Another look is under way: this one comes after its answer, if one comes. :raises XapiTimeout: none did."""
        try:
            self._answer(asked, True)
        except XapiTimeout:
            raise
        except XapiError:
            pass

    def _answer(self, asked: Asked, late: bool) -> Tuple[Any, ...]:
        keep = False
        try:
            data = asked.pending.wait(self.deadline)
            if late:
                self.late_ms = max(1, self.waited_ms)
            if not self.look:
                return exchange.values(data)
            self._patience.answered()
            return self._remembered.values(data)
        except XapiTimeout:
            keep = self.look
            raise
        finally:
            if keep:
                self._asked = asked
            else:
                asked.pending.close()

    def _sent(self, body: bytes) -> Pending:
        pending = Pending(self._connected(), exchange.BIGGEST_ANSWER)
        try:
            pending.send(exchange.framed(body), self.deadline)
        except XapiError:
            pending.close()
            raise
        return pending

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(CONNECT_S, remaining(self.deadline)))
            connection.connect(self._path)
        except (socket.timeout, BlockingIOError) as error:
            connection.close()
            raise XapiFull("the socket does not accept") from error
        except OSError as error:
            connection.close()
            raise XapiRefused(str(error)) from error
        except XapiError as error:
            connection.close()
            error.asked = False
            raise
        return connection
