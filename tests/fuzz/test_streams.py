"""Both services under nearly right messages: each is taken or refused with its own error, and who is well is not hurt.

The agents' direction: messages that a real agent has sent, changed a little, and messages made at random from the
contract; at the stream's state alone, and over TLS at a running collector beside an agent that is well. The operators'
direction: every method of the service with requests made at random. What a collector sends to an agent is played by
tests/agent/test_pipe_fuzz.py, on Python 3.6 as well.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import grpc
import pytest
from agent.mutator import changed, played, rounds, seeds
from agent.test_pipe_fuzz import drawn_message
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from shell.rig import HOSTS, POOL, Rig, hosts_of, running, until

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.v1 import operator_pb2 as operator
from poolwarden_collector.core.model.events import Event
from poolwarden_collector.shell.agents.messages.bounds import Implausible
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_collector.shell.config import certificates

ATTACH = "/poolwarden.v1.AgentLink/Attach"
FINE = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}
FINE |= {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED}
FINE |= {grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


def heard(state: StreamState, message: pb.AgentMessage, now: int) -> None:
    events: list[Event] = state.on_message(message, now, 1_700_000_000_000)
    assert all(repr(event) for event in events)
    assert len(state.take_replies()) <= 3


def test_what_an_agent_has_sent_changed_a_little() -> None:
    def play(data: bytes) -> None:
        message = pb.AgentMessage.FromString(data)
        state = StreamState(1, POOL)
        for seed in seeds("agent_messages"):
            heard(state, pb.AgentMessage.FromString(seed), 1000)
        heard(state, message, 2000)

    accepted, errors = played("agent_messages", play, 300, (DecodeError, Implausible))
    assert accepted > 10 and errors, (accepted, errors)


def test_messages_made_at_random_on_one_stream() -> None:
    refused = 0
    for number in rounds(150):
        drawn, state = random.Random(number), StreamState(1, POOL)
        for at in range(3):
            message = drawn_message(drawn, pb.AgentMessage())
            try:
                heard(state, message, 1000 * at)
            except Implausible as error:
                assert str(error)
                refused += 1
    assert refused


# ------------------------------------------------------------------------------------------ over TLS


async def sent_raw(rig: Rig, host: str, messages: list[bytes]) -> grpc.StatusCode:
    """How a stream ends on which these bytes come, from a host with a certificate of its own."""
    bundle = rig.bundle(host)
    own = grpc.ssl_channel_credentials(bundle.ca.read_bytes(), bundle.key.read_bytes(), bundle.cert.read_bytes())
    options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{rig.parts.gateway.port}", own, options) as channel:
        call = channel.stream_stream(ATTACH)()
        try:
            async with asyncio.timeout(20):
                for message in messages:
                    await call.write(message)
                await call.done_writing()
                while await call.read() is not grpc.aio.EOF:
                    pass
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        return await call.code()  # type: ignore[no-any-return]


@pytest.mark.asyncio
async def test_an_agent_that_is_well_stays_so_beside_hosts_that_send_anything(tmp_path: Path) -> None:
    known = [data for data in seeds("agent_messages") if pb.AgentMessage.FromString(data).WhichOneof("body") != "hello"]
    ends: set[grpc.StatusCode] = set()
    async with running(tmp_path) as rig:
        well = await rig.agent(HOSTS[0])
        role = pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER, serves_as_master=True)
        hosts = [pb.PoolHost(host_uuid=host, address=f"192.0.2.{host[-1]}") for host in HOSTS]
        view = pb.PoolView(pool_uuid=POOL, pool_name="gold", master_uuid=HOSTS[0], hosts=hosts)
        await well.send(report=pb.Report(full=True, management_address="192.0.2.1", role=role, pool_view=view))
        for number in rounds(10):
            drawn = random.Random(number)
            hello = pb.Hello(
                host_uuid=HOSTS[1], pool_uuid=POOL, boot_id="boot-2", host_name="host-2", agent_version="0"
            )
            first = pb.AgentMessage(sequence=1, mono_ms=1, hello=hello).SerializeToString()
            if drawn.random() < 0.3:
                first = changed(drawn, first, known)
            more = [changed(drawn, drawn.choice(known), known) for _ in range(3)]
            more += [drawn_message(drawn, pb.AgentMessage()).SerializeToString() for _ in range(2)]
            ends.add(await sent_raw(rig, HOSTS[1], [first, *more]))
        stamp = await well.send(report=pb.Report(full=True, management_address="192.0.2.77", role=role))
        pools = rig.parts.service.roster.pools
        await until(lambda: pools[POOL].record.hosts[HOSTS[0]].address == "192.0.2.77")
        assert stamp and not rig.loop.done()
    assert grpc.StatusCode.INVALID_ARGUMENT in ends and grpc.StatusCode.UNKNOWN not in ends, ends


@pytest.mark.asyncio
async def test_every_method_of_the_operators_with_requests_made_at_random(tmp_path: Path) -> None:
    service = operator.DESCRIPTOR.services_by_name["Operator"]
    async with running(tmp_path) as rig:
        agent = await rig.agent(HOSTS[0])
        await agent.send(report=pb.Report(full=True, management_address="192.0.2.1"))
        await until(lambda: hosts_of(rig.parts.service.roster, POOL))
        async with grpc.aio.insecure_channel(f"unix:{rig.config.operator_socket}") as channel:
            for number in rounds(6):
                for method in service.methods:
                    drawn = random.Random(f"{method.name} {number}")
                    request = drawn_message(drawn, GetMessageClass(method.input_type)())
                    await _called(channel, method, request, number)
            status = operator.StatusReply.FromString(
                await channel.unary_unary("/poolwarden.v1.Operator/Status")(b"", timeout=10)
            )
        assert [pool.pool_uuid for pool in status.pools] == [POOL] and not rig.loop.done()


async def _called(channel: Any, method: Any, request: Any, number: int) -> None:
    path, data = f"/poolwarden.v1.Operator/{method.name}", request.SerializeToString()
    try:
        if method.server_streaming:
            async for _ in channel.unary_stream(path)(data, timeout=0.2):
                pass
        else:
            await channel.unary_unary(path)(data, timeout=10)
    except grpc.aio.AioRpcError as error:
        said = error.details() or ""
        assert error.code() in FINE and said.isprintable() and len(said) < 8000, (number, method.name, request, error)
