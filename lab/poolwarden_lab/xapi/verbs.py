"""What the messages do, class by class; `calls` has let them in already.

A verb takes the model and the call and returns its value, or a task when it has to wait for time or peers. It raises
XapiFault with XenAPI's codes. The ``lab.*`` messages exist in no xapi: they are how tests move things about. Here are
session.* and pool.*; the rest is in `designation`, `host_verbs`, `evacuation`, `vm_verbs`, `busy` and `messages`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import (
    busy,
    designation,
    evacuation,
    events,
    host_verbs,
    mastering,
    membership,
    messages,
    records,
    vm_verbs,
)
from poolwarden_lab.xapi.actions import HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.pool_conf import MASTER, member_of
from poolwarden_lab.xapi.tasks import Sleep, Task

if TYPE_CHECKING:
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.model import XapiModel

Verb = Callable[["XapiModel", "Call"], object]


# ------------------------------------------------------------------------------------ session


def login_with_password(model: XapiModel, call: Call) -> Task[object]:
    """params: user, password, [version, originator]. Source: xapi_session.ml:791-1003."""
    originator = call.text(3) if len(call.params) > 3 else ""
    if model.link is not None:
        if call.door != "unix":
            raise XapiFault("HOST_IS_SLAVE", model.role.master)
        return (yield from model.link.call("db.open_session", originator))
    yield from _check_password(model, call)
    mastering.database_of(model)
    return model.sessions.open(originator)


def slave_local_login_with_password(model: XapiModel, call: Call) -> Task[object]:
    yield from _check_password(model, call)
    return model.sessions.open_local()


def _check_password(model: XapiModel, call: Call) -> Task[None]:
    """The Unix socket is root by itself; over TCP a wrong password costs PAM's delay."""
    if call.door == "unix":
        return
    user, password = call.text(0), call.text(1)
    if (user, password) != ("root", model.config.root_password):
        yield Sleep(model.times.bad_login_ms)
        raise XapiFault("SESSION_AUTHENTICATION_FAILED", user, "Authentication failure")


def slave_local_login(model: XapiModel, call: Call) -> object:
    """With the pool secret: root-equivalent on every host of the pool (xapi_session.ml:783-788)."""
    if call.text(0) != model.secret:
        raise XapiFault("SESSION_AUTHENTICATION_FAILED", "pool", "secret")
    return model.sessions.open_local()


def logout(model: XapiModel, call: Call) -> object:
    model.sessions.close(call.text(0))
    return ""


def get_this_host(model: XapiModel, _call: Call) -> object:
    return mastering.database_of(model).find("host", model.host_uuid) or NULL_REF


def list_methods(_model: XapiModel, _call: Call) -> object:
    return sorted([*WITHOUT_SESSION, *WITH_SESSION, *records.method_names()])


# ------------------------------------------------------------------------------------ pool


def emergency_transition_to_master(model: XapiModel, _call: Call) -> object:
    """No precondition but HA (xapi_pool.ml:2203-2206): not emergency, not silence, not a quorum."""
    model.engine.event("promote-call")
    model.become(MASTER)
    model.engine.event("promoted")
    return ""


def emergency_reset_master(model: XapiModel, call: Call) -> object:
    """params: session, address. Nothing happens if the role *in memory* is that already (xapi_pool_transition.ml)."""
    address = call.text(1)
    if model.ha_armed():
        raise XapiFault("HA_IS_ENABLED")
    if model.role == member_of(address):
        model.engine.event("repoint-nothing-to-do", master=address)
        return ""
    model.become(member_of(address))
    model.engine.event("repointed", master=address)
    return ""


def is_slave(model: XapiModel, _call: Call) -> Task[bool]:
    """Touches the database first: on an orphan it blocks (xapi_pool.ml:2710-2727)."""
    if model.role.is_master:
        return False
    if model.link is None:
        raise model.emergency or XapiFault("HOST_STILL_BOOTING")
    model.link.hurry()
    yield from model.link.call("db.read")
    return True


def hello(model: XapiModel, call: Call) -> object:
    return mastering.hello(model, call.text(1), call.text(2))


def request_backup(model: XapiModel, _call: Call) -> Task[object]:
    if model.link is not None:
        yield from membership.fetch_copy(model)
    return ""


def recover_slaves(model: XapiModel, _call: Call) -> Task[object]:
    """Serially, every other host on record, whatever its state; failures are swallowed (xapi_pool.ml:2214-2238)."""
    database = mastering.database_of(model)
    me = database.address_of(database.master_ref())
    reached = []
    for ref in mastering.other_hosts(model):
        try:
            yield from membership.with_session(model, database.address_of(ref), "pool.emergency_reset_master", me)
            reached.append(ref)
        except (PeerLost, HttpFailure, XapiFault) as error:
            model.engine.event("recover-failed", host=database.get("host", ref, "uuid"), why=error.args[0])
    return reached


def sync_database(model: XapiModel, _call: Call) -> Task[object]:
    """A copy to every host; one that is offline fails the call (xapi_pool.ml:2582-2615)."""
    database = mastering.database_of(model)
    for ref in mastering.other_hosts(model):
        if not database.is_live(ref):
            raise XapiFault("HOST_OFFLINE", ref)
        try:
            yield from mastering.send_copy(model, ref)
        except (PeerLost, HttpFailure) as error:
            raise XapiFault("HOST_OFFLINE", ref) from error
    database.flush(model.disk)
    return ""


# ------------------------------------------------------------------------------------ lab


def lab_touch(model: XapiModel, _call: Call) -> object:
    """One more generation of the pool database; answers the new one."""
    database = mastering.database_of(model)
    database.touch()
    return str(database.generation)


WITHOUT_SESSION: dict[str, Verb] = {
    "session.login_with_password": login_with_password,
    "session.slave_local_login_with_password": slave_local_login_with_password,
    "session.slave_local_login": slave_local_login,
    "system.listMethods": list_methods,
    **dict.fromkeys(mastering.REMOTE, mastering.remote),
}
WITH_SESSION: dict[str, Verb] = {
    "session.logout": logout,
    "session.local_logout": logout,
    "session.get_this_host": get_this_host,
    "pool.emergency_transition_to_master": emergency_transition_to_master,
    "pool.emergency_reset_master": emergency_reset_master,
    "pool.is_slave": is_slave,
    "pool.hello": hello,
    "pool.request_backup": request_backup,
    "pool.recover_slaves": recover_slaves,
    "pool.sync_database": sync_database,
    "lab.touch": lab_touch,
    **designation.WITH_SESSION,
    **host_verbs.WITH_SESSION,
    **evacuation.WITH_SESSION,
    **vm_verbs.WITH_SESSION,
    **busy.WITH_SESSION,
    **messages.WITH_SESSION,
    **events.WITH_SESSION,
}
