"""xapi on its Unix socket: the stock XenAPI client's sessions, marshalling and failures, through a transport of ours.

The stock client has no time limit at all, and on a member whose master is gone an ordinary login hangs for ever and
keeps a thread of the server (xapi: ocaml/xapi/xapi_session.ml). The limits are the transport's (transport.py).
"""

import threading
import time
import xmlrpc.client
from typing import Any, Callable

import XenAPI

from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiTimeout
from poolwarden_agent.dom0.xapi.exchange import remaining
from poolwarden_agent.dom0.xapi.transport import Transport

LOCAL_LOGIN = ("slave_local_login_with_password", ("root", ""))
FULL_LOGIN = ("login_with_password", ("root", "", "1.0", "poolwarden"))
_NOBODY = 401  # XenAPI.Session's fault code for a session that is refused and that it did not log in itself


class Session(XenAPI.Session):  # type: ignore[misc]
    """A stock session: it logs in again by itself where xapi does not know it any more, at most three times."""

    def _login(self, method: str, params: Any) -> None:
        try:
            super(Session, self)._login(method, params)
        except XapiError as error:
            error.asked = False  # without a session the call that it is for was never asked
            raise

    def ask(self, method: str, params: Any) -> Any:
        """One call in this session.

        :raises XapiFault, XapiTimeout, XapiUnreachable, XapiError: see there.
        """
        return _said(lambda: self.xenapi_request(method, tuple(params)))


def _said(call: Callable[[], Any]) -> Any:
    """What comes of it, in this package's errors."""
    try:
        return call()
    except XenAPI.Failure as failure:
        raise XapiFault(str(failure.details[0]), failure.details[1:]) from failure
    except (xmlrpc.client.Error, TypeError, LookupError) as error:  # the last two: it is not the envelope of a xapi
        raise XapiError("not an answer of a xapi: %s" % error) from error


class Xapi(object):
    """xapi on one Unix socket. Calls are serialised: a second caller waits, within its own limit, for the first."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._local_way, self._full_way = Transport(path, clock), Transport(path, clock)
        self._local, self._full = _session(self._local_way), _session(self._full_way)

    @property
    def late_ms(self) -> int:
        """How long an answer took that the last local look had from an earlier one's question; 0: none."""
        return self._local_way.late_ms

    @property
    def waited_ms(self) -> int:
        """For how long the last local look was, or has been, under way."""
        return self._local_way.waited_ms

    def _take(self, limit_s: float) -> float:
        deadline = time.monotonic() + limit_s
        if not self._lock.acquire(timeout=limit_s):
            error = XapiTimeout("another call is still in flight")
            error.asked = False
            raise error
        return deadline

    def local(self, method: str, params: Any, limit_s: float, look: bool = False) -> Any:
        """A call within ``limit_s`` seconds, with the one local session: no database and no master is needed for it.

        Local sessions never expire and end with xapi (xapi: ocaml/xapi/xapi_local_session.ml): one is kept and reused.
        ``look``: it changes nothing, so an unanswered one is waited for and not repeated.
        """
        deadline, way = self._take(limit_s), self._local_way
        try:
            way.deadline, way.look = deadline, look
            way.late_ms = 0 if look else way.late_ms
            if self._local.handle is None:
                _log_in(self._local, LOCAL_LOGIN)
            return self._local.ask(method, params)
        finally:
            self._lock.release()

    def full(self, method: str, params: Any, limit_s: float) -> Any:
        """A look with the one ordinary session. Only ever on a serving master: on an orphaned member it hangs."""
        deadline, way = self._take(limit_s), self._full_way
        try:
            way.deadline, way.look = deadline, True
            if self._full.handle is None:
                _log_in(self._full, FULL_LOGIN)
            return self._full.ask(method, params)
        finally:
            self._lock.release()

    def order(self, method: str, params: Any, limit_s: float) -> Any:
        """An order to the serving master, with the ordinary session but on a connection of its own.

        It may take minutes, and looks must go on meanwhile. Only ever on a serving master, as ``full``.
        """
        deadline = time.monotonic() + limit_s
        for _ in range(2):
            way = Transport(self._path)
            way.deadline = deadline
            session = _session(way)
            session._session = handle = self._full_handle(deadline)
            try:
                return session.ask(method, params)
            except XapiError as error:
                if getattr(error.__cause__, "faultCode", None) != _NOBODY:
                    raise
            self._lose(handle)
        raise XapiError("the session is refused again and again")

    def _full_handle(self, deadline: float) -> str:
        self._take(remaining(deadline))
        try:
            if self._full.handle is None:
                self._full_way.deadline, self._full_way.look = deadline, False
                _log_in(self._full, FULL_LOGIN)
            return str(self._full.handle)
        finally:
            self._lock.release()

    def _lose(self, handle: str) -> None:
        with self._lock:
            if self._full.handle == handle:
                self._full = _session(self._full_way)

    def forget(self) -> None:
        """xapi is another process now: its sessions and its answers are gone."""
        with self._lock:
            for way in (self._local_way, self._full_way):
                way.forget()
            self._local, self._full = _session(self._local_way), _session(self._full_way)

    def logout(self, limit_s: float = 1.0) -> None:
        """Give both sessions back, as far as xapi answers within ``limit_s`` seconds each."""
        for session, way in ((self._local, self._local_way), (self._full, self._full_way)):
            if session.handle is None:
                continue
            try:
                deadline = self._take(limit_s)
            except XapiError:
                continue
            try:
                way.deadline, way.look = deadline, False
                session.ask("session.logout", ())
            except XapiError:
                pass
            finally:
                self._lock.release()


def _session(way: Transport) -> Session:
    return Session("http://localhost", transport=way)


def _log_in(session: Session, login: Any) -> None:
    method, params = login
    _said(lambda: getattr(session, method)(*params))
