"""pool.designate_new_master: the planned change of master, in two phases.

Source: xapi, ocaml/xapi/xapi_pool.ml:2618-2640, xapi_pool_transition.ml:96-224. The master checks and
passes the call to the chosen host, which does the rest itself:

1. Every host gets the present database (pool.sync_database): any that is offline ends it here, HOST_OFFLINE.
2. Phase 1, propose: every other host agrees, and keeps to that for ten minutes; any that does not answer or has agreed
   to another ends it. Those who had agreed are told to forget it.
3. Phase 2, commit: the chosen host's pool.conf becomes ``broken``, and then *every* other host is told to follow it,
   also after one has failed: each rewrites its pool.conf and lights its fuse. There is no way back. If any has failed,
   the chosen host restarts at once, broken, while members and the old master follow it.
4. If none has failed, its pool.conf becomes ``master``. It lights no fuse: it reads from the old master's database
   every 3 s and restarts as soon as it cannot, so that it does not come up beside the old master and yield to it. Until
   then it is the member that it was; an old master that never restarts keeps it waiting.

No quorum is asked for: one host that is away is enough to make it impossible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_lab.xapi import mastering, membership
from poolwarden_lab.xapi.actions import RESTART_CODE, HttpFailure, PeerLost, XapiFault
from poolwarden_lab.xapi.busy import with_task
from poolwarden_lab.xapi.pool_conf import MASTER, Role, member_of
from poolwarden_lab.xapi.tasks import Task

if TYPE_CHECKING:
    from poolwarden_lab.xapi.calls import Call
    from poolwarden_lab.xapi.model import XapiModel


def designate_new_master(model: XapiModel, call: Call) -> Task[object]:
    """params: session, host. Raises XapiFault; see the module's words."""
    chosen = call.text(1)
    if model.ha_armed():
        raise XapiFault("HA_IS_ENABLED")
    if model.link is not None:
        yield from _take_over(model, chosen)
        return ""
    database = mastering.database_of(model)
    if chosen == database.master_ref():
        return ""
    database.known("host", chosen)
    if database.get("pool", database.pool_ref(), "ha_enabled") == "true":
        raise XapiFault("HA_IS_ENABLED")
    if model.designating:
        raise XapiFault("DESIGNATE_NEW_MASTER_IN_PROGRESS")
    model.designating = True
    try:
        yield from with_task(model, call.method, _let(model, chosen, call.method))
    finally:
        model.designating = False
    return ""


def _let(model: XapiModel, chosen: str, method: str) -> Task[object]:
    address = mastering.database_of(model).address_of(chosen)
    try:
        return (yield from membership.with_session(model, address, method, chosen))
    except (PeerLost, HttpFailure) as error:
        raise XapiFault("HOST_OFFLINE", chosen) from error


def _take_over(model: XapiModel, chosen: str) -> Task[None]:
    """The chosen host's part."""
    assert model.link is not None
    hosts = yield from model.link.call("db.get", "host.get_all_records", [])
    assert isinstance(hosts, dict)
    if chosen not in hosts or hosts[chosen]["uuid"] != model.host_uuid:
        raise XapiFault("HOST_IS_SLAVE", model.role.master)
    try:
        yield from membership.with_session(model, model.role.master, "pool.sync_database")
    except (PeerLost, HttpFailure) as error:
        raise XapiFault("HOST_OFFLINE", "") from error
    peers = {ref: str(row["address"]) for ref, row in hosts.items() if ref != chosen}
    yield from _propose(model, peers)
    yield from _commit(model, peers)


def _propose(model: XapiModel, peers: dict[str, str]) -> Task[None]:
    me = model.config.address
    agreed: list[str] = []
    for ref, address in peers.items():
        try:
            yield from membership.with_session(model, address, "host.propose_new_master", me)
        except (PeerLost, HttpFailure, XapiFault) as error:
            model.engine.event("designation-aborted", why=error.args[0])
            for other in agreed:
                model.engine.spawn("abort", membership.with_session(model, other, "host.abort_new_master", me))
            if isinstance(error, XapiFault):
                raise
            raise XapiFault("HOST_OFFLINE", ref) from error
        agreed.append(address)


def _commit(model: XapiModel, peers: dict[str, str]) -> Task[None]:
    """Source: xapi_pool_transition.ml:152-190."""
    model.set_role(Role("broken"))
    failed = False
    for address in peers.values():
        try:
            yield from membership.with_session(model, address, "host.commit_new_master", model.config.address)
        except (PeerLost, HttpFailure, XapiFault) as error:
            failed = True
            model.engine.event("commit-failed", address=address, why=error.args[0])
    if failed:
        model.engine.event("designation-broken")
        model.exit(RESTART_CODE, flush=False)
        return
    assert model.link is not None
    model.set_role(MASTER)
    model.engine.event("designated")
    model.engine.spawn("old-master", membership.restart_without(model, model.link))


# ------------------------------------------------------------------------------------ a host's part


def propose_new_master(model: XapiModel, call: Call) -> object:
    """Sticky for ten minutes (xapi_ha.ml:1491-1524)."""
    address = call.text(1)
    if model.ha_armed():
        raise XapiFault("HA_IS_ENABLED")
    agreed, until = model.proposal
    if agreed not in ("", address) and model.engine.now < until:
        raise XapiFault("HA_ABORT_NEW_MASTER", f"Already agreed to commit host address {agreed}")
    model.proposal = (address, model.engine.now + model.times.proposal_ms)
    return ""


def commit_new_master(model: XapiModel, call: Call) -> object:
    address = call.text(1)
    if model.proposal[0] != address:
        raise XapiFault("HA_ABORT_NEW_MASTER", f"Never agreed to commit host address {address}")
    if model.refuses_commit:
        raise XapiFault("INTERNAL_ERROR", "the commit failed")
    model.become(MASTER if address == model.config.address else member_of(address))
    return ""


def abort_new_master(model: XapiModel, call: Call) -> object:
    address = call.text(1)
    if model.proposal[0] != address:
        raise XapiFault("HA_ABORT_NEW_MASTER", f"Never agreed to commit host address {address}")
    model.proposal = ("", 0)
    return ""


WITH_SESSION = {
    "pool.designate_new_master": designate_new_master,
    "host.propose_new_master": propose_new_master,
    "host.commit_new_master": commit_new_master,
    "host.abort_new_master": abort_new_master,
}
