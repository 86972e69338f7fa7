"""What a member does by itself: its one link to the master's database, its hello, its heartbeat, its database copy.

The link is the heart of the matter (xapi: ocaml/database/master_connection.ml). All database access of a member goes
through one persistent connection under one global lock. A connection that is reset is noticed at once; one that just
falls silent only when an operation has been blocked for 120 s (130 s with the watchdog's tick). Then it is opened again
and again, 2, 4, 8 .. 256 s apart, for ever: the operation that found it dead, and everybody queued behind the lock,
waits that long, and *runs then* if the old master comes back. Somebody calling ``pool.is_slave`` ends the pause early.
There are two times of little patience: while a member's dbsync runs (10 s, and the operation fails), and after this
host has been designated as the new master (none, and the process restarts at once).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.xapi import storage
from poolwarden_lab.xapi.actions import RESTART_CODE, HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.database import generation_on_disk, place, read_local
from poolwarden_lab.xapi.tasks import Signal, Sleep, Task, Until, ask

if TYPE_CHECKING:
    from poolwarden_lab.xapi.model import XapiModel


class DbLink:
    """The one connection to the master's database."""

    def __init__(self, model: XapiModel) -> None:
        self._model = model
        self._busy = False
        self._freed = Signal()
        self._hurry = Signal()
        self._connection = 0  # number of the present connection
        self._dropped = Signal()
        self.connected = False
        self.patience_ms: int | None = None  # of one operation; None: for ever (Master_connection.connection_timeout)
        self.restarts = (
            False  # and what then: this process does, or the operation fails (restart_on_connection_timeout)
        )

    def begin(self) -> None:
        self._model.engine.spawn("db-traffic", self._traffic())

    def hurry(self) -> None:
        """End the pause before the next attempt (xapi_pool.ml:2720-2722)."""
        self._model.engine.fire(self._hurry)

    def call(self, method: str, *params: object) -> Task[object]:
        """One operation on the master's database. Raises XapiFault as the master does, and PeerLost out of patience."""
        while self._busy:
            yield Until(self._freed)
        self._busy = True
        began = self._model.engine.now
        try:
            while True:
                if not self.connected:
                    self._lose_patience(began)
                    yield from self._open(began)
                try:
                    return (yield from self._operate(method, *params))
                except (PeerLost, HttpFailure) as error:
                    self._lose(error)
        finally:
            self._busy = False
            self._model.engine.fire(self._freed)

    def _lose_patience(self, began: int) -> None:
        """Raises PeerLost for an operation that has gone on too long (master_connection.ml, reconnect)."""
        if self.patience_ms is None or self._model.engine.now - began < self.patience_ms:
            return
        if self.restarts:
            self._model.engine.event("old-master-gone", master=self._model.role.master)
            self._model.exit(RESTART_CODE, flush=False)
        raise PeerLost("given-up")

    def _operate(self, method: str, *params: object) -> Task[object]:
        """One operation on the open connection. A master that has become unreachable is only silence to it."""
        end = self._model.engine.now + self._model.times.link_reset_ms
        while True:
            try:
                return (yield from self._ask(method, *params))
            except PeerLost as error:
                left = end - self._model.engine.now
                if error.why != "unreachable" or left <= 0 or not self.connected:
                    raise
            yield Until(self._dropped, min(left, self._model.times.link_backoff_min_ms))

    def _ask(self, method: str, *params: object) -> Task[object]:
        model = self._model
        return ask(model.role.master, method, model.secret, *params, limit_ms=model.times.link_reset_ms)

    def _open(self, began: int) -> Task[None]:
        times = self._model.times
        pause = times.link_backoff_min_ms
        while True:
            try:
                yield from self._ask("db.open", self._model.host_uuid)
                break
            except (PeerLost, HttpFailure, XapiFault):
                self._lose_patience(began)
                self._model.engine.event("db-link-retry", pause_ms=pause)
                yield Until(self._hurry, pause)
                pause = min(2 * pause, times.link_backoff_max_ms)
        self.connected = True
        self._connection += 1
        self._model.engine.event("db-link", state="ok")
        self._model.engine.spawn("db-link", self._watch(self._connection))
        if self._model.startup_complete:
            self._model.engine.spawn("refresh", self._refresh())

    def _refresh(self) -> Task[None]:
        """The link is back: the master may have restarted, and that disables everybody (xapi.ml on_master_restart)."""
        yield from self.enable()
        yield from beat(self._model)

    def enable(self) -> Task[None]:
        """Enable this host unless it was disabled on purpose (local.db host_auto_enable)."""
        if read_local(self._model.disk).get("host_auto_enable") != "false":
            yield from self.call("db.enable", self._model.host_uuid)

    def _lose(self, error: Exception) -> None:
        if self.connected:
            self.connected = False
            self._model.engine.event("db-link", state="lost", why=error.args[0])
            self._model.engine.fire(self._dropped)

    def _watch(self, connection: int) -> Task[None]:
        """Hold a call open that the master never answers: it ends only with its connection, or never."""
        try:
            yield from ask(self._model.role.master, "db.hold", self._model.secret)
        except (PeerLost, HttpFailure, XapiFault) as error:
            if connection == self._connection:
                self._lose(error)

    def _traffic(self) -> Task[None]:
        """A member writes a little to the database all the time; that is how it notices a silent death."""
        while True:
            yield Sleep(self._model.times.heartbeat_ms)
            try:
                yield from self.call("db.read")
            except PeerLost as lost:
                self._model.engine.event("db-traffic-failed", why=lost.why)


def restart_without(model: XapiModel, link: DbLink) -> Task[None]:
    """Restart this process as soon as its master's database cannot be reached any more.

    Source: xapi_pool_transition.ml, phase 2.2 of a designation.
    """
    link.patience_ms, link.restarts = 0, True
    while True:
        yield from link.call("db.read")
        yield Sleep(model.times.old_master_ms)


def with_session(model: XapiModel, address: str, method: str, *params: object) -> Task[object]:
    """Log in to a peer with the pool secret, call, log out. No limit beyond TCP's. Raises like `ask`."""
    session = yield from ask(address, "session.slave_local_login", model.secret)
    try:
        return (yield from ask(address, method, session, *params))
    finally:
        model.engine.spawn("logout", _log_out(address, session))


def _log_out(address: str, session: object) -> Task[None]:
    try:
        yield from ask(address, "session.local_logout", session)
    except (XapiFault, PeerLost, HttpFailure):
        return


def join(model: XapiModel) -> Task[None]:
    """Say hello until the master accepts us; meanwhile the emergency flag is true and its reason says how it stands.

    A passing error is retried after 5 s, a permanent one (unknown host, wrong pool secret) after 60 s
    (xapi: ocaml/xapi/xapi.ml:396-412,1205-1228).
    """
    times = model.times
    while True:
        model.set_emergency(XapiFault("HOST_STILL_BOOTING"))
        permanent = False
        try:
            word = str((yield from with_session(model, model.role.master, "pool.hello", *_who(model))))
            if word == "ok":
                model.set_emergency(None)
                return
            permanent = word == "unknown_host"
            error = (
                XapiFault("HOST_UNKNOWN_TO_MASTER", model.host_uuid)
                if permanent
                else XapiFault("HOST_MASTER_CANNOT_TALK_BACK", model.config.address)
            )
        except XapiFault as fault:
            permanent = fault.code == "SESSION_AUTHENTICATION_FAILED"
            error = fault
        except (PeerLost, HttpFailure) as lost:
            error = XapiFault("INTERNAL_ERROR", f"no answer from {model.role.master}: {lost}")
        if model.role.master == model.config.address:
            error = XapiFault("HOST_ITS_OWN_SLAVE")
        model.set_emergency(error)
        yield Sleep(times.hello_permanent_retry_ms if permanent else times.hello_retry_ms)


def _who(model: XapiModel) -> tuple[str, str]:
    return model.host_uuid, model.config.address


def heartbeat(model: XapiModel) -> Task[None]:
    while True:
        yield from beat(model)
        yield Sleep(model.times.heartbeat_ms)


def beat(model: XapiModel) -> Task[None]:
    """One host.tickle_heartbeat; only a refused pool secret restarts xapi (db_gc.ml:327-369)."""
    try:
        yield from with_session(model, model.role.master, "host.tickle_heartbeat", model.host_uuid)
    except XapiFault as fault:
        if fault.code == "SESSION_AUTHENTICATION_FAILED":
            model.exit(RESTART_CODE, flush=False)
    except (PeerLost, HttpFailure) as lost:
        model.engine.event("heartbeat-failed", why=lost.args[0])


def lost_storage(model: XapiModel) -> list[str]:
    """uuids of the SRs that this host cannot plug now."""
    try:
        return model.disk.read(storage.LOST_STORAGE).decode("ascii", "replace").split()
    except OSError:
        return []


def fetch_copy(model: XapiModel) -> Task[None]:
    """Fetch a whole copy of the master's database unless ours has the same generation (pool_db_backup.ml).

    A full disk leaves the old copy. Raises like `ask`, and OSError.
    """
    mine = generation_on_disk(model.disk)
    found = yield from ask(model.role.master, "db.fetch", model.secret, str(mine))
    if not isinstance(found, dict) or not found:
        return
    generation = int(found["generation"])
    place(model.disk, str(found["content"]).encode(), generation)
    model.engine.event("copy", generation=generation)
