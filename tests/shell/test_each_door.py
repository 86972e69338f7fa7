"""What the collector's shell lets through to a device, to history and to the core: each condition alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.effects import PowerOff
from poolwarden_collector.core.model.orders import Order, Preconditions, RestartXapi
from poolwarden_collector.shell.agents.gateway import Gateway
from poolwarden_collector.shell.agents.stream import StreamState
from poolwarden_collector.shell.fencing import setup
from poolwarden_collector.shell.fencing.fencer import OFF_WITHIN_MS, too_late
from poolwarden_collector.shell.fencing.setup import Trial
from poolwarden_collector.shell.operators.admission import Admission

from .rig import HOSTS, POOL


def test_a_power_off_is_late_after_its_evidence_or_after_a_few_seconds() -> None:
    def late(until: int, asked: int, now: int) -> bool:
        return bool(too_late(PowerOff(HOSTS[0], "bmc-1", "run-1", valid_until=until), asked, now))

    assert not late(10_000, 9_000, 10_000) and late(10_000, 9_000, 10_001)
    assert not late(0, 9_000, 9_000 + OFF_WITHIN_MS) and late(0, 9_000, 9_001 + OFF_WITHIN_MS)


@pytest.mark.parametrize(
    "name, value, good",
    [
        ("ip", "10.0.0.9", True),
        ("ip", "", True),
        ("ip", "-oProxyCommand=x", False),
        ("username", "a b", False),
        ("password", "a b'c", True),  # a secret goes nowhere but to stdin
        ("password-script", "/bin/x", False),
        ("ipmitool_path", "/bin/x", False),
        ("ip", "10.0.0.9\naction=reboot", False),
    ],
)
def test_what_is_tried_for_anybody_names_no_program_and_adds_no_option(name: str, value: str, good: bool) -> None:
    trial = Trial()
    assert setup._parameters(trial, {name: value}) is good
    assert good == (not trial.steps)


class Recorded:
    """Stands in for whatever a gateway hands something to; keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.pool, self.host, self.state, self.account = POOL, HOSTS[0], self, None
        self.stream, self.transit = 0, 0

    def late(self, *given: Any) -> None:
        self.given.append(given)

    def on_message(self, message: pb.AgentMessage, now: int, wall: int) -> list[Any]:
        return []

    def take_replies(self) -> list[Any]:
        return []

    def take_cut(self) -> tuple[str, ...]:
        return ()


def test_what_an_agent_kept_while_nobody_listened_goes_to_the_telemetry_store_and_nowhere_else() -> None:
    def stored(message: pb.AgentMessage, telemetry: Recorded | None) -> None:
        gateway: Any = Gateway.__new__(Gateway)
        gateway._telemetry, gateway._transits, gateway._capsules = telemetry, {}, None
        gateway._take(Recorded(), message, 0, 0)

    store, history = Recorded(), pb.Late()
    stored(pb.AgentMessage(late=history), store)
    assert store.given == [(POOL, HOSTS[0], history)]
    stored(pb.AgentMessage(goodbye=pb.Goodbye()), store)
    assert len(store.given) == 1
    stored(pb.AgentMessage(late=history), None)  # a collector that keeps none


@pytest.mark.parametrize(
    "valid_until, heard, left",
    [(0, True, 15_000), (53_000, True, 2_000), (90_000, True, 15_000), (50_000, True, 0), (53_000, False, 0)],
)
def test_what_is_left_of_an_order_is_counted_from_the_stamp_that_it_echoes(
    valid_until: int, heard: bool, left: int
) -> None:
    state = StreamState(5, POOL)
    if heard:
        hello = pb.Hello(host_uuid=HOSTS[0], boot_id="b")
        state.on_message(pb.AgentMessage(sequence=1, mono_ms=1_000, hello=hello), 51_000)
    order = Order("o", HOSTS[0], "b", 3, RestartXapi(), 15_000, Preconditions(), valid_until=valid_until)
    assert state.order_to_pb(order, 1, POOL).order.valid_for_ms == left


def test_no_method_that_takes_a_stream_is_let_past_the_check_of_who_asks() -> None:
    class Handler:
        def __init__(self, streams: bool) -> None:
            self.request_streaming, self.response_streaming = streams, False
            self.unary_unary = self.request_deserializer = self.response_serializer = lambda *_: None

    def admitted(handler: Handler | None) -> bool:
        async def continuation(call: Any) -> Handler | None:
            return handler

        admission: Any = Admission.__new__(Admission)
        return asyncio.run(admission.intercept_service(continuation, SimpleNamespace(method="/x/Y"))) is not None

    assert admitted(Handler(False)) and not admitted(Handler(True)) and not admitted(None)
