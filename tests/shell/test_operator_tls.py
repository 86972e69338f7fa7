"""The operator's interface over a network: real TLS on loopback, the real command line, the journal's word for who."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.operators.tls import NoOperator, certified_operator

from .rig import HOSTS, ME, POOL, PlayedAgent, Rig, hosts_of, running, until, write_config
from .test_main import COMMAND, ENVIRONMENT, free_port, run

SERVED = 'operator_listen = "127.0.0.1:0"'
REQUESTS = {
    "Status": pb.StatusRequest(),
    "Explain": pb.ExplainRequest(pool=POOL),
    "Command": pb.CommandRequest(actor="anna", pause=pb.Pause(pool=POOL)),
    "History": pb.HistoryRequest(),
    "Follow": pb.HistoryRequest(),
    "Alerts": pb.AlertsRequest(),
    "Decision": pb.DecisionRequest(id="1"),
    "Late": pb.LateRequest(host=HOSTS[0]),
    "ListCapsules": pb.ListCapsulesRequest(),
    "ReadCapsule": pb.ReadCapsuleRequest(host_uuid=HOSTS[0], id="0" * 32),
    "FindFence": pb.FindFenceRequest(host=HOSTS[0], address="127.0.0.1"),
    "Readiness": pb.ReadinessRequest(),
    "Plan": pb.PlanRequest(pool=POOL),
    "Advise": pb.AdviseRequest(pool=POOL),
    "Doctor": pb.DoctorRequest(),
    "Audit": pb.AuditRequest(),
    "Collectors": pb.CollectorsRequest(),
    "Where": pb.WhereRequest(command=pb.CommandRequest(pause=pb.Pause(pool=POOL))),
    "Outcome": pb.OutcomeRequest(id="cccccccc-0000-4000-8000-000000000001"),
    "TestAlerts": pb.TestAlertsRequest(actor="mallory"),
    "Reload": pb.ReloadRequest(actor="anna"),
    "TryFence": pb.TryFenceRequest(host=HOSTS[0], agent="fence_none"),
}


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    error: str


async def poolwarden(address: str, *arguments: object, tls: Path | None = None) -> Ended:
    """Run the operator's command line against ``address``; with a login name that no certificate has."""
    line = [sys.executable, "-m", "poolwarden_collector.cli", "--collector", address]
    line += ["--tls", str(tls)] if tls else []
    process = await asyncio.create_subprocess_exec(
        *line,
        *(str(a) for a in arguments),
        env={**ENVIRONMENT, "SUDO_USER": "mallory"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), error.decode())


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Rig]:
    """A collector with one host of one pool, that operators reach on a port of loopback too."""
    async with running(folder, collector=SERVED) as rig:
        agent = await rig.agent(HOSTS[0])
        await agent.send(report=link.Report(full=True, management_address="192.0.2.1"))
        await until(lambda: hosts_of(rig.parts.service.roster, POOL))
        yield rig


def address(rig: Rig) -> str:
    return f"127.0.0.1:{rig.parts.operators.port}"


def operator(rig: Rig, name: str = "carol") -> Path:
    """The folder with this operator's certificate."""
    return certificates.issue_operator(rig.folder / "ca", name, rig.folder / f"operator-{name}").cert.parent


@contextlib.asynccontextmanager
async def caller(rig: Rig, tls: Path | None, authority: Path | None = None) -> AsyncIterator[Any]:
    """The interface as seen with the certificate in ``tls``, or with none."""
    pair = ((tls / "key.pem").read_bytes(), (tls / "cert.pem").read_bytes()) if tls else (None, None)
    root = (authority or rig.folder / "tls/ca.pem").read_bytes()
    options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS), ("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(root, *pair)
    async with grpc.aio.secure_channel(address(rig), credentials, options) as channel:
        yield rpc.OperatorStub(channel)


async def refusal(stub: Any, method: str) -> grpc.aio.AioRpcError:
    """How this method was refused; it must be."""
    call = getattr(stub, method)(REQUESTS[method], timeout=5)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await (call.read() if method in ("Follow", "ReadCapsule") else call)
    return error.value


def actors(rig: Rig) -> list[str]:
    """Who, by the journal, gave or was refused a command."""
    return [row.actor for row in rig.parts.journal.history() if row.actor != "poolwarden"]


def everything() -> set[str]:
    """The contract's methods, so that a new one cannot be forgotten here."""
    return set(pb.DESCRIPTOR.services_by_name["Operator"].methods_by_name)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_an_operator_sees_and_acts_in_the_certificates_name(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        carol = operator(rig)
        seen = await poolwarden(address(rig), "status", "--json", tls=carol)
        assert seen.status == 0, seen.error
        assert [pool["pool_uuid"] for pool in json.loads(seen.out)["pools"]] == [POOL]
        done = await poolwarden(address(rig), "pause", POOL, "--reason", "new disks", tls=carol)
        assert done.status == 0, done.error
        assert rig.parts.service.roster.pools[POOL].record.paused
        assert actors(rig) == ["carol"]  # the request said mallory
        listed = await poolwarden(address(rig), "history", POOL, "--json", tls=carol)
        assert "mallory" not in listed.out and "paused by carol: new disks" in listed.out


@pytest.mark.asyncio
async def test_a_command_needs_no_actor_besides_the_certificate(tmp_path: Path) -> None:
    async with served(tmp_path) as rig, caller(rig, operator(rig, "d.eve@site-2")) as stub:
        assert (await stub.Command(pb.CommandRequest(pause=pb.Pause(pool=POOL)))).accepted
        assert actors(rig) == ["d.eve@site-2"]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_hosts_certificate_is_refused_by_the_command_line(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        host = rig.bundle(HOSTS[1]).cert.parent
        for arguments in (["status", "--json"], ["pause", POOL], ["history", "--follow"]):
            done = await poolwarden(address(rig), *arguments, tls=host)
            assert done.status == 4 and done.out == ""
            assert "does not accept you" in done.error and f"poolwarden://host/{HOSTS[1]}" in done.error
        assert not rig.parts.service.roster.pools[POOL].record.paused and not actors(rig)
        [warning] = [w for w in rig.parts.service.roster.warnings() if "operators' address" in w]
        assert HOSTS[1] in warning  # told once, however often it tries


@pytest.mark.asyncio
async def test_a_hosts_certificate_is_refused_by_every_method(tmp_path: Path) -> None:
    assert set(REQUESTS) == everything()
    async with served(tmp_path) as rig, caller(rig, rig.bundle(HOSTS[1]).cert.parent) as stub:
        before = set(rig.parts.service._followers)
        for method in REQUESTS:
            error = await refusal(stub, method)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED, method
            assert HOSTS[1] in str(error.details()) and "\n" not in str(error.details())
        assert not rig.parts.service.roster.pools[POOL].record.paused and rig.parts.service._followers == before


@pytest.mark.asyncio
async def test_every_method_answers_an_operator(tmp_path: Path) -> None:
    async with served(tmp_path) as rig, caller(rig, operator(rig)) as stub:
        for method in sorted(everything() - {"Follow", "Decision", "ReadCapsule"}):
            await getattr(stub, method)(REQUESTS[method], timeout=5)
        assert [row.actor for row in rig.parts.journal.newest("", ("alerts-tested",), 9)] == ["carol"]
        with pytest.raises(grpc.aio.AioRpcError, match="no decision '1'"):  # none has been made here
            await stub.Decision(REQUESTS["Decision"], timeout=5)
        with pytest.raises(grpc.aio.AioRpcError, match="there is no capsule"):
            await stub.ReadCapsule(REQUESTS["ReadCapsule"], timeout=5).read()
        before = set(rig.parts.service._followers)
        following = stub.Follow(pb.HistoryRequest(), timeout=20)
        kinds = []
        while "paused" not in kinds:
            kinds.append((await following.read()).kind)
        await stub.Command(pb.CommandRequest(resume=pb.Resume(pool=POOL)))
        while "resumed" not in kinds:
            kinds.append((await following.read()).kind)
        assert rig.parts.service._followers > before
        following.cancel()
        await until(lambda: rig.parts.service._followers == before)  # the stream's end reaches the one who tells it
        with pytest.raises(grpc.aio.AioRpcError) as error:  # a mistake is still told as one
            await stub.Explain(pb.ExplainRequest(pool="silver"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.slow
@pytest.mark.asyncio
async def test_without_a_certificate_or_with_a_foreign_one_there_is_no_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        certificates.create_ca(tmp_path / "other")
        foreign = certificates.issue_operator(tmp_path / "other", "carol", tmp_path / "foreign").cert.parent
        for tls in (None, foreign):
            async with caller(rig, tls) as stub:
                for method in REQUESTS:
                    assert (await refusal(stub, method)).code() is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(address(rig)) as channel:
            assert (await refusal(rpc.OperatorStub(channel), "Status")).code() is grpc.StatusCode.UNAVAILABLE
        (foreign / "ca.pem").write_bytes((tmp_path / "tls/ca.pem").read_bytes())
        assert (await poolwarden(address(rig), "status", "--json", tls=foreign)).status == 3
        bare = tmp_path / "bare"
        bare.mkdir()
        done = await poolwarden(address(rig), "status", "--json", tls=bare)
        assert done.status == 2 and "cannot read" in done.error
        assert not actors(rig)


@pytest.mark.asyncio
async def test_an_operators_certificate_is_no_agents(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        files = operator(rig)
        bundle = certificates.Bundle(files / "ca.pem", files / "cert.pem", files / "key.pem")
        agent = PlayedAgent(rig.parts.gateway.port, bundle, HOSTS[1])
        rig.agents.append(agent)
        assert (await agent.refused()).code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.slow
@pytest.mark.asyncio
async def test_on_the_socket_the_journal_says_who_connected(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        local = f"unix:{rig.config.operator_socket}"
        seen = await poolwarden(local, "status", "--json")
        assert seen.status == 0 and json.loads(seen.out)["collector_name"] == "test"
        assert (await poolwarden(local, "pause", POOL)).status == 0
        assert actors(rig) == [ME]  # the request said mallory
        [called] = rig.parts.journal.calls(None, "", "", 0)
        assert (called["actor"], called["method"]) == (ME, "pause")
        assert f"uid {os.getuid()}, pid " in called["source"] and called["source"].endswith("says it is 'mallory'")


@pytest.mark.slow
@pytest.mark.asyncio
async def test_renewed_certificates_are_used_without_a_restart(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        old = operator(rig)
        assert (await poolwarden(address(rig), "status", "--json", tls=old)).status == 0
        for name in ("ca", "tls"):
            (tmp_path / name).rename(tmp_path / f"old-{name}")
        certificates.create_ca(tmp_path / "ca")
        certificates.issue_collector(tmp_path / "ca", "test", ("127.0.0.1",), tmp_path / "tls")
        fresh = operator(rig, "dora")
        assert (await poolwarden(address(rig), "status", "--json", tls=fresh)).status == 0
        async with caller(rig, old) as stub:  # it trusts the new collector, but the collector no longer trusts it
            assert (await refusal(stub, "Status")).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("names", ["dns", "two operators", "host and operator", "mail", "collector's own name"])
async def test_only_exactly_one_operators_uri_is_an_identity(tmp_path: Path, names: str) -> None:
    eve, uri = certificates.operator_uri("eve"), x509.UniformResourceIdentifier
    listed: dict[str, list[x509.GeneralName]] = {
        "dns": [x509.DNSName(eve)],
        "two operators": [uri(eve), uri(certificates.operator_uri("carol"))],
        "host and operator": [uri(eve), uri(certificates.host_uri(HOSTS[1]))],
        "mail": [x509.RFC822Name(f"URI:{eve}")],
        "collector's own name": [uri(certificates.operator_uri("poolwarden"))],
    }
    async with served(tmp_path) as rig:
        bundle = certificates._issue(
            tmp_path / "ca", "x", listed[names], [ExtendedKeyUsageOID.CLIENT_AUTH], tmp_path / "x"
        )
        async with caller(rig, bundle.cert.parent) as stub:
            assert (await refusal(stub, "Command")).code() is grpc.StatusCode.PERMISSION_DENIED
        assert not actors(rig)


@pytest.mark.parametrize("uri", ["", "operator/", "operator/a b", "operator/a\nb", "operator/../x", "collector/x"])
def test_a_name_that_the_journal_cannot_carry_is_nobody(uri: str) -> None:
    assert certified_operator({"peer_uri": [b"poolwarden://operator/carol", b"https://example"]}) == "carol"
    with pytest.raises(NoOperator):
        certified_operator({"peer_uri": [f"poolwarden://{uri}".encode()]})
    with pytest.raises(NoOperator):
        certified_operator({"x509_subject_alternative_name": [b"poolwarden://operator/carol"]})


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_collectors_own_program_serves_the_certificates_that_it_makes(tmp_path: Path) -> None:
    port = free_port()
    file = write_config(tmp_path, collector=f'operator_listen = "127.0.0.1:{port}"')
    made = run("issue-operator", tmp_path / "ca", "carol", "--role", "operator", "--pool", POOL)
    assert made.returncode == 0 and str(tmp_path / "ca/operator-carol/key.pem") in made.stdout
    block = made.stdout[made.stdout.index("[[operators]]") :]
    (tmp_path / "other").mkdir()
    [entry] = load(write_config(tmp_path / "other", block)).operators.entries
    assert (entry.who, entry.role.word, entry.pools) == ("carol", "operator", {POOL})
    carol = tmp_path / "ca/operator-carol"
    assert (carol / "key.pem").stat().st_mode & 0o777 == 0o600
    with (tmp_path / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(*COMMAND, "--config", str(file), env=ENVIRONMENT, stderr=log)
    try:
        await until(lambda: "operators' certificates on" in (tmp_path / "log").read_text(), 15)
        seen = await poolwarden(f"127.0.0.1:{port}", "status", "--json", tls=carol)
        assert seen.status == 0 and json.loads(seen.out)["collector_name"] == "test"
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0


@pytest.mark.slow
def test_names_that_nobody_may_have_are_refused_in_one_line(tmp_path: Path) -> None:
    certificates.create_ca(tmp_path)
    for name in ("", "poolwarden", "Poolwarden", "../carol", "a b", "ärzte", "x" * 65):
        done = run("issue-operator", tmp_path, name)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "no operator's name" in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca-key.pem", "ca.pem"]


@pytest.mark.slow
def test_an_operators_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--config", write_config(tmp_path, collector=f'operator_listen = "127.0.0.1:{port}"'))
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and said.startswith(f"poolwarden-collector: 127.0.0.1:{port}: cannot be listened on")
