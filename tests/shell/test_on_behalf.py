"""A collector that asks another one in an operator's name, and whoever has stolen its certificate."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from poolwarden.v1 import enrolment_pb2
from poolwarden.v1 import enrolment_pb2_grpc as enrolment_rpc
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.shell.cluster.membership import Member
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import Tls
from poolwarden_collector.shell.config.operators import Entry, Role
from poolwarden_collector.shell.operators import access, on_behalf
from poolwarden_collector.shell.operators.access import EVERYTHING, Call, Caller, Rights
from poolwarden_collector.shell.operators.admission import Stranger
from poolwarden_collector.shell.operators.neighbours import Links, NotAnswered

from .rig import HOSTS
from .several import POOLS, Hall, halls
from .test_several import pause, paused

ROLES = f"""
[[operators]]
name = "ada"
role = "admin"
[[operators]]
name = "vera"
role = "viewer"
[[operators]]
name = "carl"
role = "operator"
pools = ["{POOLS[1]}"]
"""


@contextlib.asynccontextmanager
async def called(hall: Hall, folder: Path) -> AsyncIterator[Any]:
    """The operators' address of this collector, with the certificate in ``folder``."""
    pair = ((folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes())
    root = (hall.rig.folder / "tls/ca.pem").read_bytes()
    options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(hall.address, grpc.ssl_channel_credentials(root, *pair), options) as channel:
        yield channel


def operator(hall: Hall, name: str) -> Path:
    folder = hall.rig.folder / f"operator-{name}"
    return certificates.issue_operator(hall.rig.folder / "ca", name, folder).cert.parent


async def ended(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return error


def said(**changed: Any) -> tuple[tuple[str, bytes], ...]:
    """What a collector says of ada, who is an admin."""
    told = {
        "name": "ada", "person": "certificate ada", "source": "x", "kind": "certificate", "groups": [],
        "grants": [["admin", None]], **changed,
    }  # fmt: skip
    return ((on_behalf.KEY, zlib.compress(json.dumps(told).encode())),)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_roles_and_pools_hold_at_the_owner(tmp_path: Path) -> None:
    async with halls(tmp_path, 2, ROLES, ROLES) as (_, [a, b]):
        async with called(a, operator(a, "vera")) as channel:
            vera = rpc.OperatorStub(channel)
            assert {pool.name for pool in (await vera.Status(pb.StatusRequest())).pools} == {"gold", "silver"}
            refused = await ended(vera.Command(pause("silver")))
            assert refused.code() is grpc.StatusCode.PERMISSION_DENIED and not paused(b, POOLS[1])
        async with called(a, operator(a, "carl")) as channel:
            carl = rpc.OperatorStub(channel)
            reply = await carl.Status(pb.StatusRequest())
            assert [pool.name for pool in reply.pools] == ["silver"]
            assert [(each.collector, each.pools) for each in reply.asked] == [("hall-a", 0), ("hall-b", 1)]
            theirs, nobodys = await ended(carl.Command(pause("gold"))), await ended(carl.Command(pause("nowhere")))
            assert theirs.code() is nobodys.code() is grpc.StatusCode.NOT_FOUND
            assert theirs.details().replace("gold", "nowhere") == nobodys.details() and "gold" not in nobodys.details()
            assert {entry.pool_uuid for entry in (await carl.History(pb.HistoryRequest())).entries} == {POOLS[1]}
            seen = await carl.Collectors(pb.CollectorsRequest())
            assert not seen.etcd and [len(each.pools) for each in seen.collectors] == [0, 1]
            assert (await carl.Command(pause("silver"))).accepted and paused(b, POOLS[1])
        async with called(a, operator(a, "stranger")) as channel:
            refused = await ended(rpc.OperatorStub(channel).Status(pb.StatusRequest()))
            assert "no entry in [[operators]]" in refused.details()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_only_one_of_two_configurations_gives_is_not_given(tmp_path: Path) -> None:
    fewer = ROLES.replace('role = "admin"', 'role = "viewer"')
    async with halls(tmp_path, 2, ROLES, fewer) as (_, [a, b]):
        async with called(a, operator(a, "ada")) as channel:
            refused = await ended(rpc.OperatorStub(channel).Command(pause("silver")))
            assert refused.details() == "ada is viewer here, and pause needs the role operator"
            assert (await rpc.OperatorStub(channel).Explain(pb.ExplainRequest(pool="silver"))).pool_name == "silver"
        async with called(b, operator(b, "ada")) as channel:
            assert (await ended(rpc.OperatorStub(channel).Command(pause("gold")))).code() is not None
        assert not paused(a, POOLS[0]) and not paused(b, POOLS[1])


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_collectors_certificate_alone_gives_nothing(tmp_path: Path) -> None:
    async with halls(tmp_path, 2, ROLES, ROLES) as (etcd, [a, b]):
        stolen = b.rig.folder / "tls"
        async with called(a, stolen) as channel:
            stub, enrolments = rpc.OperatorStub(channel), enrolment_rpc.EnrolmentsStub(channel)
            refused = await ended(stub.Status(pb.StatusRequest()))
            assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
            assert refused.details().endswith("its certificate gives no rights by itself")
            # In the name of whom the configuration gives nothing.
            refused = await ended(stub.Status(pb.StatusRequest(), metadata=said(name="eve", person="certificate eve")))
            assert "eve has no entry" in refused.details()
            # What is not done by way of another collector, whoever is named.
            token = enrolment_pb2.CreateTokenRequest(pool=POOLS[0], uses=1, ttl_s=60)
            for call in (
                stub.Reload(pb.ReloadRequest(), metadata=said()),
                stub.TestAlerts(pb.TestAlertsRequest(), metadata=said()),
                stub.FindFence(pb.FindFenceRequest(host=HOSTS[0]), metadata=said()),
                stub.TryFence(pb.TryFenceRequest(host=HOSTS[0]), metadata=said()),
                enrolments.CreateToken(token, metadata=said()),
                enrolments.ListKeys(enrolment_pb2.ListKeysRequest(), metadata=said()),
            ):
                refused = await ended(call)
                assert "is not asked for by way of another collector" in refused.details()
            # What is left to who names an admin, and is recorded (docs/security.md).
            reply = await stub.Command(pause(POOLS[0]), metadata=said())
            assert reply.accepted and paused(a, POOLS[0])
            [told] = (await a.stub.Audit(pb.AuditRequest(pool=POOLS[0]))).entries
            assert told.actor == "ada" and "by way of collector hall-b" in told.source
            # He is asked for himself alone: nothing goes on to a third one.
            assert {pool.name for pool in (await stub.Status(pb.StatusRequest(), metadata=said())).pools} == {"gold"}
            for garbage in (
                b"", b"\xff", zlib.compress(b"[]"), zlib.compress(b'{"name": 1}'), zlib.compress(b"[" * 100_000),
                said(kind="root")[0][1], said(person="uid 0")[0][1], said(grants=[["owner", None]])[0][1],
                said(name="ada\n")[0][1], said(grants=7)[0][1],
            ):  # fmt: skip
                refused = await ended(stub.Status(pb.StatusRequest(), metadata=((on_behalf.KEY, garbage),)))
                assert "cannot be read" in refused.details(), garbage
            etcd.gone.add("hall-b")
            refused = await ended(stub.Status(pb.StatusRequest(), metadata=said()))
            assert "which is none of those on this etcd now" in refused.details()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_nobody_but_a_collector_speaks_for_another(tmp_path: Path) -> None:
    async with halls(tmp_path, 2, ROLES, ROLES) as (_, [a, b]):
        async with called(a, operator(a, "vera")) as channel:
            refused = await ended(rpc.OperatorStub(channel).Command(pause("gold"), metadata=said()))
            assert "vera is viewer" in refused.details()
        async with called(a, b.rig.bundle(HOSTS[1]).cert.parent) as channel:
            refused = await ended(rpc.OperatorStub(channel).Status(pb.StatusRequest(), metadata=said()))
            assert "not of an operator" in refused.details() and not paused(a, POOLS[0])


def spoken_for(caller: Caller, rights: Rights = EVERYTHING, by: str = "hall-a") -> Caller:
    """As another collector hears of him."""
    call = Call(caller, rights, access.RULES[f"{access.OPERATOR}/Status"], "Status")

    class Context:
        def invocation_metadata(self) -> Any:
            return on_behalf.statement(call)

        def peer(self) -> str:
            return "ipv4:192.0.2.10:999"

    return on_behalf.caller(Context(), by, lambda name: name == by)


def test_a_person_stays_one_person() -> None:
    ada = spoken_for(Caller("ada", "certificate ada", "x"))
    assert (ada.name, ada.person) == ("ada", "certificate ada")
    assert spoken_for(Caller("anna", "uid 1000", "x", 1000)).person == "uid 1000 of hall-a"
    # With root on two machines nobody is two.
    assert spoken_for(Caller("root", "uid 0", "x", 0)).person == "uid 0"
    with pytest.raises(Stranger):
        on_behalf.caller(None, "hall-z", lambda _: False)


def test_what_he_may_is_what_both_give() -> None:
    viewer, all_of_it = Entry("name", "ada", Role.VIEWER), Entry("name", "ada", Role.ADMIN)
    some = Entry("name", "ada", Role.ADMIN, frozenset(POOLS[:2]))
    ada = Caller("ada", "certificate ada", "x")
    here = Rights(((Role.OPERATOR, frozenset(POOLS[1:])),))
    assert access.rights_of(spoken_for(ada, here), (all_of_it,)) == here
    assert access.rights_of(spoken_for(ada), (viewer,)).where(Role.OPERATOR) == frozenset()
    both = access.rights_of(spoken_for(ada, here), (some,))
    assert both.role_in(POOLS[1]) is Role.OPERATOR and both.seen() == {POOLS[1]}
    # A user of that machine is not the holder of a certificate, and the other way round.
    assert not access.rights_of(spoken_for(Caller("ada", "uid 7", "x", 7)), (all_of_it,)).grants
    group = Entry("group", "wardens", Role.OPERATOR)
    anna = Caller("anna", "uid 7", "x", 7, ("wardens",))
    assert access.rights_of(spoken_for(anna), (group,)).where(Role.OPERATOR) is None
    assert access.rights_of(spoken_for(Caller("root", "uid 0", "x", 0)), (viewer,)) == EVERYTHING
    page = spoken_for(Caller("ada", "page user ada", "page"))
    assert access.rights_of(page, (all_of_it,)).where(Role.OPERATOR) == frozenset()
    assert access.rights_of(page, (all_of_it,)).seen() is None


def test_rights_that_are_too_long_to_tell_are_said_to_be() -> None:
    many = frozenset(f"{n:08x}-{n * 7919 % 65536:04x}-4000-8000-{n * 104729:012x}" for n in range(20_000))
    with pytest.raises(on_behalf.TooMuch, match="name too many pools"):
        spoken_for(Caller("ada", "certificate ada", "x"), Rights(((Role.VIEWER, many),)))


def test_only_what_looks_and_the_commands_of_pools_goes_by_way_of_another_collector() -> None:
    assert {key for key in access.RULES if key not in access.COLLECTOR} == {
        *(f"{access.OPERATOR}/{name}" for name in ("FindFence", "TryFence", "TestAlerts", "Reload")),
        *(key for key in access.RULES if key.startswith(access.ENROLMENTS)),
    }


@pytest.mark.asyncio
async def test_a_certificate_that_was_issued_before_collectors_asked_each_other_is_said_to_be(tmp_path: Path) -> None:
    names = [x509.DNSName("collector"), x509.UniformResourceIdentifier(certificates.collector_uri("hall-a"))]
    certificates.create_ca(tmp_path / "ca")
    made = certificates._issue(tmp_path / "ca", "old", list(names), [ExtendedKeyUsageOID.SERVER_AUTH], tmp_path / "old")
    links = Links(lambda: Tls(made.ca, made.cert, made.key))
    member = Member("hall-b", "", 0, False, 1, 1, "127.0.0.1:1")
    with pytest.raises(NotAnswered, match="is a certificate for servers alone: issue it anew"):
        await links.ask(member, "Status", pb.StatusRequest(), (), 1.0)
    await links.close()
