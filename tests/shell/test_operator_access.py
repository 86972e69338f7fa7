"""Roles and pools of operators, attacked from outside: real TLS, the real socket, another user of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import pwd
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import enrolment_pb2
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.decision.storm_brake import Blind
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell.config.operators import Role
from poolwarden_collector.shell.doctor.check import WARNING, Check
from poolwarden_collector.shell.operators import access, api, pool_views
from poolwarden_collector.shell.operators.front import Front

from .rig import HOSTS, ME, POOL, Rig, running, until, write_config
from .test_operator_tls import REQUESTS, SERVED, caller, operator

OTHER = POOL[:-1] + "2"
FAR = HOSTS[0][:-1] + "9"
ROLES = """
[pools.aaaaaaaa-0000-4000-8000-000000000001]
name = "customer-a"
[[operators]]
name = "ada"
role = "admin"
[[operators]]
name = "olga"
role = "operator"
[[operators]]
name = "vera"
role = "viewer"
[[operators]]
name = "carl"           # customer A's own
role = "admin"
pools = ["customer-a"]
[[operators]]
name = "carl"
role = "viewer"
pools = ["aaaaaaaa-0000-4000-8000-000000000001"]
[[operators]]
name = "both"
role = "operator"
pools = ["customer-a"]
[[operators]]
name = "both"
role = "viewer"
pools = ["aaaaaaaa-0000-4000-8000-000000000002"]
[[operators]]
group = "{group}"
role = "viewer"
"""
GROUP = next(name for name in ("games", "users", "nogroup") if any(name == each.gr_name for each in grp.getgrall()))
NOBODY = pwd.getpwnam("nobody")
# Every command of the contract, about the first pool and its hosts.
COMMANDS: dict[str, dict[str, Any]] = {
    "pause": {"pool": POOL},
    "resume": {"pool": POOL},
    "confirm_fenced": {"host": HOSTS[0], "typed_name": "host-1", "how": "off"},
    "restart_xapi": {"host": HOSTS[0]},
    "dry_run": {"pool": POOL},
    "approve": {"id": POOL, "shoot": True, "typed_name": "host-1"},
    "deny": {"id": POOL},
    "designate": {"host": HOSTS[0]},
    "declare_dead": {"host": HOSTS[0], "typed_name": "host-1"},
    "start_lost": {"pool": POOL},
    "acknowledge": {"pool": POOL},
    "failover_to": {"pool": POOL, "host": "host-1"},
    "fence": {"host": HOSTS[0], "action": "off", "typed_name": "host-1"},
    "release": {"host": HOSTS[0]},
    "host_enable": {"host": HOSTS[0]},
    "host_why": {"host": HOSTS[0]},
    "recover_members": {"pool": POOL},
    "drill": {"pool": POOL, "action": "begin"},
    "silence_alert": {"topic": "an-alert", "for_ms": 60_000},
    "unsilence_alert": {"topic": "an-alert"},
    "acknowledge_alert": {"topic": "an-alert"},
    "second": {"id": "3f7a21", "typed_name": "host-1"},
    "run_hook": {"hook": "10-note", "pool": POOL},
    "move": {"pool": POOL, "collector": "hall-b"},
    "drain": {"collector": "hall-b"},
}
ADMINS = {"move", "drain"}  # of COMMANDS: for admins alone
SECRET = "silver"  # in every name of the other pool


def command(verb: str, **fields: Any) -> pb.CommandRequest:
    """The command with the fields that it has of these, or with its usual ones."""
    request = pb.CommandRequest()
    part = getattr(request, verb)
    part.SetInParent()
    for name, value in {**COMMANDS[verb], **fields}.items():
        if name in part.DESCRIPTOR.fields_by_name:
            setattr(part, name, value)
    return request


@contextlib.asynccontextmanager
async def two_pools(folder: Path, extra: str = ROLES, collector: str = "") -> AsyncIterator[Rig]:
    """A collector of customer A's pool and of another one, each with a host, a decision, an alert and late words."""
    async with running(folder, extra.replace("{group}", GROUP), collector=f"{SERVED}\n{collector}") as rig:
        for host, pool, name in ((HOSTS[0], POOL, "host-1"), (FAR, OTHER, f"{SECRET}-host")):
            agent = await rig.agent(host, pool_uuid=pool, host_name=name)
            view = link.PoolView(pool_uuid=pool, pool_name="gold" if pool == POOL else SECRET, master_uuid=host)
            role = link.RoleFacts(pool_conf=link.RoleFacts.MASTER, serves_as_master=True)
            await agent.send(report=link.Report(full=True, management_address="192.0.2.1"))
            await agent.send(report=link.Report(pool_view=view, role=role))
        pools = rig.parts.service.roster.pools
        await until(lambda: len(pools) == 2 and all(pool.record.name for pool in pools.values()))
        for pool, name in ((POOL, "gold"), (OTHER, SECRET)):
            entry = Entry(
                Kind.HOOK_RAN, f"{name}: decided", {"input": "x", "step": 1}, failover=f"{pool[:8]}-1.1-{name}"
            )
            alert = AlertRaised(f"{pool}/an-alert-{name}", "warning", f"{name}: t", "b", {"message": name})
            rows = await rig.parts.service.write(rig.parts.journal.commit, pool, [entry], [alert], name)
            rig.parts.service.publish(rows)
        yield rig


async def ended(call: Any) -> grpc.aio.AioRpcError | Any:
    """The reply of a call, or how it was refused."""
    try:
        return await (call.read() if hasattr(call, "read") else call)
    except grpc.aio.AioRpcError as error:
        assert "\n" not in str(error.details())
        return error


def every_row() -> set[str]:
    """A row for each method of each service on these servers, and for each command."""
    found = set()
    for module in (pb, enrolment_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            found |= {f"{service.full_name}/{name}" for name in service.methods_by_name}
    found.remove(f"{access.OPERATOR}/Command")
    verbs = pb.CommandRequest.DESCRIPTOR.oneofs_by_name["command"].fields
    return found | {f"{access.OPERATOR}/Command:{field.name}" for field in verbs}


def test_every_method_and_command_has_a_rule() -> None:
    assert set(access.RULES) == every_row()
    reading = {key for key, rule in access.RULES.items() if not rule.changes}
    assert {key for key in reading if access.RULES[key].role is not Role.VIEWER} == {
        f"{access.OPERATOR}/Audit",
        f"{access.ENROLMENTS}/Authority",
        f"{access.ENROLMENTS}/ListTokens",
        f"{access.ENROLMENTS}/ListKeys",
    }
    assert not [key for key, rule in access.RULES.items() if rule.changes and rule.role is Role.VIEWER]
    assert set(COMMANDS) == {key.partition(":")[2] for key in access.RULES if ":" in key}


@pytest.mark.asyncio
async def test_what_has_no_rule_is_refused_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as rig:
        monkeypatch.delitem(access.RULES, f"{access.OPERATOR}/Status")
        monkeypatch.delitem(access.RULES, f"{access.OPERATOR}/Command:pause")
        async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
            stub = rpc.OperatorStub(channel)
            for call in (stub.Status(pb.StatusRequest()), stub.Command(command("pause"))):
                error = await ended(call)
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED and "no rule" in error.details()
        assert {row["method"] for row in rig.parts.journal.calls(None, "", "", 0)} == {"Status", "pause"}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_viewer_may_look_and_nothing_else(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "vera")) as stub:
        before = [row.seq for row in rig.parts.journal.history()]
        verbs = [verb for verb in COMMANDS if verb != "dry_run"]
        for verb in verbs:
            error = await ended(stub.Command(command(verb)))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED, verb
            assert "vera is viewer" in error.details()
            assert f"needs the role {'admin' if verb in ADMINS else 'operator'}" in error.details()
        others = ("FindFence", "TryFence", "TestAlerts", "Reload")
        for method in (*others, "Audit"):
            error = await ended(getattr(stub, method)(REQUESTS[method]))
            needed = "operator" if method == "TestAlerts" else "admin"
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED and f"needs the role {needed}" in error.details()
        for method in ("Status", "Explain", "Readiness", "Plan", "History", "Alerts", "Doctor", "Late"):
            await getattr(stub, method)(REQUESTS[method], timeout=10)
        assert (await stub.Command(command("dry_run"))).accepted
        said = [row for row in rig.parts.journal.history() if row.seq not in before]
        assert not [row for row in said if row.actor != "poolwarden"], "nothing reached the engine"
        recorded = rig.parts.journal.calls(None, "", "", 0)
        assert len(recorded) == len(verbs) + len(others), "each refused call is recorded"
        assert {(row["actor"], row["role"]) for row in recorded} == {("vera", "viewer")}
        assert all(row["result"].startswith("refused: vera is viewer") for row in recorded)
        assert "approve --shoot" in {row["method"] for row in recorded}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_an_operator_acts_and_is_no_admin(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "olga")) as stub:
        for verb in COMMANDS:
            reply = await ended(stub.Command(command(verb)))
            denied = isinstance(reply, grpc.aio.AioRpcError) and reply.code() is grpc.StatusCode.PERMISSION_DENIED
            assert denied is (verb in ADMINS), verb  # the engine may refuse; it was asked
        for method in ("Reload", "FindFence", "TryFence", "Audit"):
            error = await ended(getattr(stub, method)(REQUESTS[method]))
            assert "olga is operator" in error.details() and "needs the role admin" in error.details()


def of_the_other(verb: str, name: str) -> pb.CommandRequest:
    """This command about the other pool, by ``name`` in every place where a name is."""
    host = {SECRET: f"{SECRET}-host", OTHER: FAR}.get(name, name)
    return command(verb, pool=name, host=host, id=name, topic=name)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_customer_sees_his_pool_and_nothing_of_another(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "carl")) as stub:
        rig.parts.service.roster.warn(f"an effect failed in pool {SECRET}")
        mine = {
            "Status": pb.StatusRequest(),
            "Readiness": pb.ReadinessRequest(),
            "History": pb.HistoryRequest(),
            "Alerts": pb.AlertsRequest(),
            "Explain": pb.ExplainRequest(pool="gold"),
            "Plan": pb.PlanRequest(pool="customer-a"),
            "Advise": pb.AdviseRequest(host="host-1"),
            "Late": pb.LateRequest(host="host-1"),
            "Audit": pb.AuditRequest(),
        }
        async with caller(rig, operator(rig, "ada")) as admin:  # what there is to be found
            await admin.Command(command("pause", pool=OTHER))
            whole = [str(await getattr(admin, method)(request)) for method, request in mine.items()]
            assert sum(SECRET in text or OTHER in text for text in whole) >= 5
        for method, request in mine.items():
            text = str(await getattr(stub, method)(request))
            assert SECRET not in text and OTHER not in text and FAR not in text, method
        status = await stub.Status(pb.StatusRequest())
        assert [pool.pool_uuid for pool in status.pools] == [POOL]
        assert not status.channels and not status.warnings
        assert status.outbox_pending == rig.parts.journal.pending(frozenset({POOL})) < rig.parts.journal.pending()
        assert not [d for alert in (await stub.Alerts(pb.AlertsRequest())).alerts for d in alert.deliveries]
        assert {row.pool_uuid for row in (await stub.History(pb.HistoryRequest())).entries} == {POOL}


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("young", [False, True])
async def test_why_his_site_is_braked_counts_no_other_pool(tmp_path: Path, young: bool) -> None:
    why = "17 of 20 pools there have changed their collector a moment ago" if young else "40 of 60 agents in 17 pools"
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "carl")) as stub:
        rig.parts.service._judge_sites = lambda: None  # type: ignore[method-assign]
        rig.parts.service.roster.sites = {"": Blind(why, 0, silent=not young, young=young)}
        status = await stub.Status(pb.StatusRequest())
        refused = str(await stub.Readiness(pb.ReadinessRequest())) + str(
            await stub.Explain(pb.ExplainRequest(pool="gold"))
        )
        assert status.blind == ("" if young else pool_views.BLIND)
        assert "17 " not in refused and ("changed their collector" in refused) == young


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_a_customer_asks_about_another_pool_is_answered_as_if_it_were_not_there(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "carl")) as stub:
        for name in (SECRET, OTHER):  # by name, by UUID, by a host's
            lists = (
                lambda name: stub.Status(pb.StatusRequest(pool=name)),
                lambda name: stub.Readiness(pb.ReadinessRequest(pool=name)),
                lambda name: stub.Explain(pb.ExplainRequest(pool=name)),
                lambda name: stub.Plan(pb.PlanRequest(pool=name)),
                lambda name: stub.History(pb.HistoryRequest(pool=name)),
                lambda name: stub.Follow(pb.HistoryRequest(pool=name)),
                lambda name: stub.Alerts(pb.AlertsRequest(pool=name)),
                lambda name: stub.Audit(pb.AuditRequest(pool=name)),
                lambda name: stub.Late(pb.LateRequest(host={SECRET: f"{SECRET}-host", OTHER: FAR}.get(name, name))),
                *(
                    lambda name, verb=verb: stub.Command(of_the_other(verb, name))
                    for verb in COMMANDS
                    if verb != "drain"
                ),
            )
            for call in lists:
                theirs, nobodys = await ended(call(name)), await ended(call("nowhere"))
                if not isinstance(theirs, grpc.aio.AioRpcError):  # an engine's or a mark's "no" without a name in it
                    assert str(theirs) == str(nobodys)
                    continue
                assert theirs.code() is nobodys.code() is grpc.StatusCode.NOT_FOUND
                said = str(theirs.details())
                for typed in (f"{SECRET}-host", name, FAR):
                    said = said.replace(repr(typed), "'nowhere'")
                assert said == nobodys.details()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_customer_finds_nothing_by_numbers_nor_in_what_is_the_collectors_own(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "carl")) as stub:
        theirs = [row for row in rig.parts.journal.history(OTHER) if row.kind == "hook-ran"]
        own = [row for row in rig.parts.journal.history(POOL) if row.kind == "hook-ran"]
        assert (await stub.Decision(pb.DecisionRequest(id=str(own[0].seq)))).pool_uuid == POOL
        for wanted in (str(theirs[0].seq), theirs[0].failover):
            error = await ended(stub.Decision(pb.DecisionRequest(id=wanted)))
            nobodys = await ended(stub.Decision(pb.DecisionRequest(id="999999")))
            assert error.details().replace(wanted, "999999") == nobodys.details()
        assert not (await stub.History(pb.HistoryRequest(failover=theirs[0].failover))).entries
        # What is the collector's own, or all pools', is refused, whichever role he has in his pool.
        for method in ("Doctor", "TestAlerts", "Reload", "FindFence", "TryFence"):
            error = await ended(getattr(stub, method)(REQUESTS[method]))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED and "in all pools" in error.details()
            assert SECRET not in error.details()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_follower_is_told_of_his_pools_until_his_rights_end(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "carl")) as stub:
        following = stub.Follow(pb.HistoryRequest(), timeout=60)
        local = f"unix:{rig.config.operator_socket}"
        async with grpc.aio.insecure_channel(local) as channel:
            admin = rpc.OperatorStub(channel)
            await admin.Command(command("pause", pool=OTHER))
            await admin.Command(command("pause"))
            seen = [await following.read()]
            while seen[-1].kind != "paused":
                seen.append(await following.read())
            assert {entry.pool_uuid for entry in seen} == {POOL}
            file = write_config(tmp_path, ROLES.replace("{group}", GROUP).replace("carl", "dora"), collector=SERVED)
            reply = await admin.Reload(pb.ReloadRequest(file=str(file), reason="carl has left"))
            assert reply.accepted, reply.text
            assert {"operator name carl: no rights", "operator name dora: admin and viewer"} <= set(reply.changes)
            await admin.Command(command("resume"))
        error = None
        while error is None:
            found = await ended(following)
            error = found if isinstance(found, grpc.aio.AioRpcError) else None
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED and "no rights any more" in error.details()
        error = await ended(stub.Status(pb.StatusRequest()))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED and "carl has no entry" in error.details()
        assert any("carl has no entry" in text for text in rig.parts.service.roster.warnings())
        reloads = [row for row in rig.parts.journal.calls(None, "", "", 0) if row["method"] == "Reload"]
        assert [(row["actor"], row["role"], row["reason"]) for row in reloads] == [(ME, "admin", "carl has left")]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_role_in_one_pool_is_none_in_another(tmp_path: Path) -> None:
    async with two_pools(tmp_path) as rig, caller(rig, operator(rig, "both")) as stub:
        assert {pool.name for pool in (await stub.Status(pb.StatusRequest())).pools} == {"gold", SECRET}
        assert (await stub.Command(command("pause"))).accepted
        error = await ended(stub.Command(command("pause", pool=SECRET)))
        assert error.details() == "both is viewer here, and pause needs the role operator"
        alert = await ended(stub.Command(command("silence_alert", topic=f"an-alert-{SECRET}")))
        assert alert.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await stub.Command(command("silence_alert", topic="an-alert-gold"))).accepted
        refused = [row for row in rig.parts.journal.calls(None, "", "", 0) if row["result"].startswith("refused")]
        assert [(row["pool"], row["method"]) for row in refused] == [(OTHER, "pause"), (OTHER, "silence-alert")]


# ------------------------------------------------------------------------------------------------ the socket


BECOME = """
import os, socket, sys
folder, uid, gid, groups, count, end = sys.argv[1:]
os.chdir(folder)  # the way to it is root's alone in these tests
os.setgroups([int(group) for group in groups.split()])
os.setgid(int(gid))
os.setuid(int(uid))
made = [socket.socket(socket.AF_UNIX) for _ in range(int(count))]
try:
    for each in made:
        each.connect("c.sock")
except OSError as error:
    sys.exit(error.errno)
socket.send_fds(socket.socket(fileno=int(end)), [b"x"], [each.fileno() for each in made])
"""


async def connected_as(folder: Path, user: Any, groups: list[int], count: int = 1) -> list[socket.socket] | int:
    """Connections to ``c.sock`` in this folder by another user, or the number of the error that he gets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = (folder, user.pw_uid, user.pw_gid, " ".join(map(str, groups)), count, theirs.fileno())
        line = (sys.executable, "-I", "-S", "-c", BECOME, *(str(word) for word in words))
        child = await asyncio.create_subprocess_exec(*line, pass_fds=[theirs.fileno()])
        if number := await asyncio.wait_for(child.wait(), 30):
            return number
        _, descriptors, _, _ = socket.recv_fds(ours, 1, count)
    made = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in made:
        each.setblocking(False)
    return made


@contextlib.asynccontextmanager
async def by_way_of(connection: socket.socket, path: Path) -> AsyncIterator[Any]:
    """The interface over a connection that somebody else has made."""
    ends: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_unix_connection(sock=connection)
        ends.extend([writer, theirs[1]])
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(pump(reader, theirs[1]), pump(theirs[0], writer))

    server = await asyncio.start_unix_server(join, path)
    async with grpc.aio.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield rpc.OperatorStub(channel)
    for end in ends:
        end.close()
    server.close()


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
async def test_the_group_may_connect_and_each_is_known_by_his_user(tmp_path: Path) -> None:
    gid = grp.getgrnam(GROUP).gr_gid
    tmp_path.chmod(0o755)
    async with two_pools(tmp_path, collector=f'operator_group = "{GROUP}"') as rig:
        assert rig.config.operator_socket.stat().st_gid == gid
        assert await connected_as(tmp_path, NOBODY, []) == errno.EACCES, "without the group"
        made = await connected_as(tmp_path, NOBODY, [gid])
        assert isinstance(made, list)
        async with by_way_of(made[0], tmp_path / "way") as stub:
            assert len((await stub.Status(pb.StatusRequest())).pools) == 2  # the group's role is viewer
            forged = command("pause")
            forged.actor = "root"
            error = await ended(stub.Command(forged))
            assert error.details() == "nobody is viewer here, and pause needs the role operator"
        [called] = rig.parts.journal.calls(None, "", "", 0)
        assert (called["actor"], called["role"]) == ("nobody", "viewer")
        assert called["source"].startswith(f"socket, uid {NOBODY.pw_uid}, pid ")
        assert called["source"].endswith("; says it is 'root'")
        # Straight to gRPC's own socket there is no way but for the collector's user, and he is nobody there.
        front = rig.parts.operators.front
        assert front is not None and front.inner.parent.stat().st_mode & 0o777 == 0o700
        async with grpc.aio.insecure_channel(f"unix:{front.inner}") as channel:
            error = await ended(rpc.OperatorStub(channel).Status(pb.StatusRequest()))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED and "nobody is known" in error.details()


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
async def test_a_flood_of_connections_keeps_nobody_else_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.operators.front.MOST_OF_ONE", 8)
    gid = grp.getgrnam(GROUP).gr_gid
    tmp_path.chmod(0o755)
    async with two_pools(tmp_path, collector=f'operator_group = "{GROUP}"') as rig:
        front = rig.parts.operators.front
        assert front is not None
        flood = await connected_as(tmp_path, NOBODY, [gid], 20)
        assert isinstance(flood, list)
        await until(lambda: any("which is the most for one user" in w for w in rig.parts.service.roster.warnings()))
        assert front.connections == 8
        async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
            assert (await rpc.OperatorStub(channel).Status(pb.StatusRequest(), timeout=10)).pools
        for made in flood:
            made.close()
        await until(lambda: front.connections == 0)
        assert not front._callers and not front._open


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_socket_that_is_gone_is_noticed_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.operators.front.LOOK_S", 0.05)
    async with running(tmp_path) as rig:
        path, front = rig.config.operator_socket, rig.parts.operators.front
        assert front is not None and front._server is not None
        for end in (path.unlink, front._server.close):
            end()
            await until(lambda: front._is_ours() and front._server is not None and front._server.is_serving())
            async with grpc.aio.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                await rpc.OperatorStub(channel).Status(pb.StatusRequest(), timeout=10)
        assert any("was made anew" in text for text in rig.parts.service.roster.warnings())
    assert not path.exists() and not front.inner.parent.exists()


@pytest.mark.parametrize("wrong", ["others may write", "a link", "a file", "another's"])
def test_a_folder_that_is_not_this_users_alone_is_refused(tmp_path: Path, wrong: str) -> None:
    folder = tmp_path / ".c.sock.d"
    if wrong == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to("elsewhere")
    elif wrong == "a file":
        folder.touch(0o600)
    else:
        folder.mkdir()
        folder.chmod(0o777 if wrong == "others may write" else 0o700)
    if wrong == "another's":
        if os.geteuid() != 0:
            pytest.skip("to give a folder away takes root")
        os.chown(folder, NOBODY.pw_uid, -1)
    with pytest.raises(OSError, match="no folder of this user alone"):
        Front(tmp_path / "c.sock", lambda *_: None).prepare()


ENTRIES = (
    access.Entry("name", "anna", Role.ADMIN),
    access.Entry("user", "anna", Role.VIEWER),
    access.Entry("group", "ops", Role.OPERATOR),
)


@pytest.mark.parametrize(
    ("caller_", "roles"),
    [
        (access.Caller("anna", "certificate anna", ""), {Role.ADMIN}),
        (access.Caller("anna", "uid 1", "", 1), {Role.VIEWER}),
        (access.Caller("ops", "certificate ops", ""), set()),  # a certificate is in no group
        (access.Caller("ops", "uid 2", "", 2), set()),
        (access.Caller("ben", "uid 2", "", 2, ("ops", "anna")), {Role.OPERATOR}),
        (access.Caller("root", "uid 0", "", 0), {Role.ADMIN}),
        (access.Caller("root", "certificate root", ""), set()),
    ],
)
def test_a_certificate_a_user_and_a_group_are_three_things(caller_: access.Caller, roles: set[Role]) -> None:
    assert {role for role, _ in access.rights_of(caller_, ENTRIES).grants} == roles
    assert access.rights_of(caller_, ()) == access.EVERYTHING


def test_outside_of_a_call_there_are_no_rights() -> None:
    with pytest.raises(access.Denied, match="nobody is known"):
        access.current()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_hooks_and_certificates_of_the_collector_are_not_a_customers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir(mode=0o755)
    (folder / f"10-{SECRET}").write_text("#!/bin/sh\n")
    (folder / f"10-{SECRET}").chmod(0o755)
    (folder / "20-bad").write_text("#!/bin/sh\n")
    (folder / "20-bad").chmod(0o777)
    ending = [Check("certificate", WARNING, "/etc/poolwarden/cert.pem is valid for 3 days", "renew it")]
    monkeypatch.setattr(api, "own_certificates", lambda *_: asyncio.sleep(0, ending))
    async with (
        two_pools(tmp_path, f'{ROLES}\n[hooks]\ndirectory = "{folder}"') as rig,
        contextlib.AsyncExitStack() as s,
    ):
        ours, theirs = [await s.enter_async_context(caller(rig, operator(rig, name))) for name in ("ada", "carl")]
        for hook in ("10-nothing", "20-bad"):
            for stub in (ours, theirs):
                said = str(await ended(stub.Command(command("run_hook", hook=hook))))
                assert (str(folder) in said or SECRET in said or "write" in said) is (stub is ours), said
        for stub in (ours, theirs):
            assert ("cert.pem" in str(await stub.Readiness(pb.ReadinessRequest()))) is (stub is ours)
