"""The operator's side of enrolment, over his interface: tokens, second keys, denials; and where no host can enrol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from poolwarden.v1 import enrolment_pb2 as api
from poolwarden.v1 import enrolment_pb2_grpc as rpc
from poolwarden.v1 import operator_pb2 as operator
from poolwarden.v1 import operator_pb2_grpc as operator_rpc
from poolwarden_collector.cli.collector import sentence_of
from poolwarden_collector.shell.config.certificates import Bundle
from poolwarden_collector.shell.enrolment.authority import fingerprint

from .enrolling import WEAK, Enrolled, enrolling
from .rig import HOSTS, ME, POOL, PlayedAgent, running, until

pytestmark = pytest.mark.asyncio


@pytest.mark.slow
async def test_operators_decide_over_their_interface(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site, grpc.aio.insecure_channel(f"unix:{tmp_path / 'c.sock'}") as channel:
        said, told = rpc.EnrolmentsStub(channel), operator_rpc.OperatorStub(channel)
        by = {"actor": "anna", "reason": "new rack"}

        async def wrong(call: Any) -> tuple[grpc.StatusCode, str]:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            return error.value.code(), str(error.value.details())

        made = await said.CreateToken(api.CreateTokenRequest(pool=POOL, uses=2, **by))
        assert made.ca_fingerprint == fingerprint((tmp_path / "authority/ca.pem").read_bytes())
        assert made.address == "127.0.0.1:0" and made.token not in (tmp_path / "state/journal.db").read_text("latin-1")
        key = ec.generate_private_key(ec.SECP256R1())
        status, reply = await site.ask(made.token, HOSTS[0], key)
        assert status == 200
        host = Enrolled(site, HOSTS[0], key, reply["certificate"], reply["ca"])
        stream = await host.come()
        await until(lambda: site.rig.parts.service.roster.spoke_in(HOSTS[0]))
        (token,) = (await said.ListTokens(api.ListTokensRequest(pool=POOL))).tokens
        assert (token.id, token.used, token.uses, token.state, token.actor) == (made.id, 1, 2, "usable", ME)
        assert (await site.ask(made.token, HOSTS[0], WEAK))[0] == 202
        waits, good = (await said.ListKeys(api.ListKeysRequest())).keys
        assert (waits.state, good.state, good.serial, good.machine) == (
            "waiting", "certified", host.serial, "Dell R640, serial S-4711, aaaa-1",
        )  # fmt: skip
        refused = await said.DecideKey(api.DecideKeyRequest(key_sha256="12345678", accept=True, **by))
        assert not refused.accepted and refused.next_step
        assert not (await said.DecideKey(api.DecideKeyRequest(key_sha256=waits.key_sha256[:7], **by))).accepted
        assert (await said.DecideKey(api.DecideKeyRequest(key_sha256=waits.key_sha256[:8], **by))).accepted
        checks = (await told.Doctor(operator.DoctorRequest())).checks
        assert {c.level for c in checks if c.name in ("enrolment", "enrolled hosts", "certificate")} == {"ok"}
        assert (await said.DenyCertificate(api.DenyCertificateRequest(serial="host-1", **by))).accepted
        assert (await stream.ended()).code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await said.RevokeToken(api.RevokeTokenRequest(id=made.id, **by))).accepted
        assert not (await said.RevokeToken(api.RevokeTokenRequest(id="none", **by))).accepted
        assert (await wrong(said.CreateToken(api.CreateTokenRequest(pool="gold", **by))))[
            0
        ] is grpc.StatusCode.NOT_FOUND
        long = api.CreateTokenRequest(pool=POOL, ttl_s=90_000, **by)
        assert "lasts" in (await wrong(said.CreateToken(long)))[1]
        rows = [row for row in site.rig.parts.journal.history() if row.kind == "enrolment"]
        acts = [json.loads(row.data)["act"] for row in rows if row.actor == ME]
        assert acts == ["token", "enrolled", "refused", "denied", "token-revoked"]
        assert all("new rack" in row.text for row in rows if row.actor == ME and "enrolled in" not in row.text)


@pytest.mark.slow
async def test_without_an_authority_nobody_enrols_and_denials_hold(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, grpc.aio.insecure_channel(f"unix:{tmp_path / 'c.sock'}") as channel:
        said = rpc.EnrolmentsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="no host can enrol") as error:
            await said.CreateToken(api.CreateTokenRequest(pool=POOL, actor="anna"))
        refused = sentence_of("here", error.value.code().name, str(error.value.details()), 1.0)
        assert "poolwarden-collector enrolment init DIR" in refused.next_step
        assert [row["method"] for row in rig.parts.journal.calls(None, "", "", 0)] == ["token create"]
        stream = await rig.agent(HOSTS[0])
        leaf = x509.load_pem_x509_certificate((tmp_path / HOSTS[0] / "cert.pem").read_bytes())
        serial = f"serial={leaf.serial_number:X}"  # as openssl x509 -serial says it
        assert (await said.DenyCertificate(api.DenyCertificateRequest(serial=serial, actor="anna"))).accepted
        assert (await stream.ended()).code() is grpc.StatusCode.PERMISSION_DENIED
        own = tmp_path / HOSTS[0]
        same = PlayedAgent(rig.parts.gateway.port, Bundle(own / "ca.pem", own / "cert.pem", own / "key.pem"), HOSTS[0])
        rig.agents.append(same)
        assert f"denied by {ME}" in str((await same.refused()).details())
        await rig.agent(HOSTS[0])  # another certificate of that host
