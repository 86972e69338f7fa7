"""How a call is let in: emergency gate, routing, sessions, dispatch.

In this order, as in xapi (ocaml/xapi/api_server.ml:15-67, session_check.ml):

1. In emergency mode only the calls of a fixed list pass; every other one raises the reason, on every transport.
2. On a member, a call on the Unix socket that is not on the list is forwarded to the master. With a dead master it ends
   after minutes as HTTP 500, not as a fault. A call over TCP is never forwarded.
3. ``system.isAlive:<anything>`` echoes its parameter: over TCP without session or database, so that it tells that this
   xapi lives; over a member's Unix socket it was forwarded in step 2, so that it tells about the master.
4. Logins differ by transport. On a member: over TCP HOST_IS_SLAVE at once, before any credential is looked at; over the
   Unix socket it makes a row in the master's database, and hangs for as long as the master is dead.
5. Everything else needs a session: a local one of this process, or an ordinary one in the master's database. A member
   that is asked over TCP with an ordinary session looks it up there (and hangs without it), then says HOST_IS_SLAVE.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from poolwarden_lab.xapi import busy, mastering, records, verbs
from poolwarden_lab.xapi.actions import Door, EmergencyRefusal, HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.tasks import Sleep, Task, ask

if TYPE_CHECKING:
    from poolwarden_lab.xapi.model import XapiModel

EMERGENCY_CALLS = frozenset(
    {
        "pool.emergency_reset_master",
        "pool.emergency_transition_to_master",
        "pool.is_slave",
        "session.slave_local_login",
        "session.slave_local_login_with_password",
        "session.local_logout",
        "host.propose_new_master",
        "host.commit_new_master",
        "host.abort_new_master",
        "host.local_assert_healthy",
        "host.signal_networking_change",
        "host.local_management_reconfigure",
        "host.ha_xapi_healthcheck",
        "host.emergency_ha_disable",
        "host.management_disable",
        "host.get_system_status_capabilities",
        "host.is_in_emergency_mode",
        "host.shutdown_agent",
        "host.emergency_reset_server_certificate",
        "host.emergency_disable_tls_verification",
        "host.emergency_reenable_tls_verification",
        "host.emergency_clear_mandatory_guidance",
        "host.update_firewalld_service_status",
    }
)
"""xapi: ocaml/idl/datamodel.ml:10812-10838."""
NOT_FORWARDED = EMERGENCY_CALLS | {"session.login_with_password", "session.slave_login"}
"""xapi: ocaml/idl/datamodel.ml:10840-10843."""
ASYNC = "Async."
_SYNC_CLASSES = ("session", "event", "task", "message", "lab")


@dataclass(frozen=True, slots=True)
class Call:
    conn: int
    door: Door
    method: str
    params: tuple[object, ...]

    def text(self, index: int) -> str:
        """A string parameter, counted from 0 with the session as 0. Raises XapiFault if it is not there."""
        if index >= len(self.params):
            raise XapiFault("MESSAGE_PARAMETER_COUNT_MISMATCH", self.method, str(index + 1), str(len(self.params)))
        return str(self.params[index])


def serve(model: XapiModel, call: Call) -> Task[object]:
    """Answer one call; returns its value or raises XapiFault or HttpFailure."""
    if model.slow_ms:
        yield Sleep(model.slow_ms)
    if model.emergency is not None and call.method not in EMERGENCY_CALLS:
        raise EmergencyRefusal(model.emergency.code, *model.emergency.params)
    if call.door == "unix" and model.role.is_member and call.method not in NOT_FORWARDED:
        return (yield from _forward(model, call))
    if call.method.startswith("system.isAlive:"):
        return call.text(0)
    if call.method in verbs.WITHOUT_SESSION:
        return (yield from _run(verbs.WITHOUT_SESSION[call.method](model, call)))
    yield from _check_session(model, call)
    if call.method.startswith(ASYNC):
        return _in_background(model, call)
    if call.method in verbs.WITH_SESSION:
        return (yield from _run(verbs.WITH_SESSION[call.method](model, call)))
    return (yield from _getter(model, call))


def _in_background(model: XapiModel, call: Call) -> str:
    """The task of an Async call. Raises XapiFault MESSAGE_METHOD_UNKNOWN for what is sync only."""
    name = call.method.removeprefix(ASYNC)
    if name not in verbs.WITH_SESSION or name in EMERGENCY_CALLS or name.partition(".")[0] in _SYNC_CLASSES:
        raise XapiFault("MESSAGE_METHOD_UNKNOWN", call.method)
    inner = replace(call, method=name)

    def work() -> Task[object]:
        return (yield from _run(verbs.WITH_SESSION[name](model, inner)))

    return busy.in_background(model, call.method, work)


def _run(result: object) -> Task[object]:
    """A verb returns its value, or a task if it has to wait."""
    if isinstance(result, Generator):
        task: Generator[Any, Any, object] = result
        return (yield from task)
    return result


def _forward(model: XapiModel, call: Call) -> Task[object]:
    """Pass a call on to the master (api_server_common.ml:148-165, xmlrpc_client.ml:207-253).

    Fixed here: up to 10 attempts within 300 s, then HTTP 500; in the field it is 130..400 s.
    """
    end = model.engine.now + model.times.forward_fail_ms
    while (left := end - model.engine.now) > 0:
        try:
            return (yield from ask(model.role.master, call.method, *call.params, limit_ms=left))
        except PeerLost:
            yield Sleep(max(1, min(end - model.engine.now, model.times.forward_fail_ms // 10)))
        except HttpFailure:
            break
    raise HttpFailure(500)


def _check_session(model: XapiModel, call: Call) -> Task[None]:
    session = call.text(0)
    if model.sessions.is_local(session):
        return
    if model.link is not None:
        master_address = yield from model.link.call("db.check_session", session)
        raise XapiFault("HOST_IS_SLAVE", str(master_address))
    if not model.sessions.is_open(session):
        raise XapiFault("SESSION_INVALID", session)


def _getter(model: XapiModel, call: Call) -> Task[object]:
    """Read the database: this master's own, or the master's through a member's link."""
    if model.link is not None:
        return (yield from model.link.call("db.get", call.method, list(call.params[1:])))
    if model.database is None and not model.role.is_master:
        raise XapiFault("HOST_STILL_BOOTING")
    if model.database is None:
        if call.method not in records.method_names():
            raise XapiFault("MESSAGE_METHOD_UNKNOWN", call.method)
        raise mastering.no_tables(call.method.partition(".")[0])
    return records.call(model.database, call.method, call.params[1:])
