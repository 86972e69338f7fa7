"""Fence agents that members run for the collector: one end for each run, certain only by that member's own word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import PowerOff, ReadPower, Through, Unable
from poolwarden_collector.core.model.events import AgentGone, Event, FenceEnded, OrderAnswered, PowerRead, Tick
from poolwarden_collector.core.model.order_results import FenceRun, OrderOutcome, Outcome
from poolwarden_collector.core.model.orders import FenceProxy, Order
from poolwarden_collector.core.model.power import Power, Trouble
from poolwarden_collector.shell.config.config import ConfigError, Fence, load
from poolwarden_collector.shell.fencing.agent_metadata import check_devices
from poolwarden_collector.shell.fencing.fencer import Fencer

from .rig import HOSTS, POOL, mono_ms, until, write_config

pytestmark = pytest.mark.asyncio

SECRET = "s3cr3t"
BY = Through(HOSTS[1], "h2", "boot-2", 7, ha_off=True)


class Member:
    """A fencer with one device of host 1, and what reaches its member."""

    def __init__(self, connected: bool = True) -> None:
        parameters = {"ip": "10.9.0.1", "passwd": SECRET}
        device = Fence(HOSTS[0], Path("fence_ipmilan"), "dev", 1, 3_000, parameters, via_members=True)
        self.events: list[Any] = []
        self.orders: list[Order] = []
        self.connected = connected
        self.now = mono_ms()
        self.fencer = Fencer((device,), self.take, lambda: self.now, self.send)

    def take(self, pool: str, event: Event) -> None:
        assert pool == POOL
        self.events.append(event)

    def send(self, pool: str, order: Order) -> bool:
        assert pool == POOL
        self.orders.append(order)
        return self.connected

    async def ordered(self, count: int = 1) -> FenceProxy:
        await until(lambda: len(self.orders) >= count, 5)
        kind = self.orders[count - 1].kind
        assert isinstance(kind, FenceProxy)
        return kind

    def answer(self, outcome: Outcome, host: str = HOSTS[1], reason: str = "", **said: Any) -> None:
        run = FenceRun(said.get("code", 0), "", "", said.get("text", "")) if "code" in said else None
        text = said.get("text", "")
        result = OrderOutcome(self.orders[-1].order_id, "fence_proxy", outcome, reason, text, fence_run=run)
        self.fencer.heard(POOL, OrderAnswered(host, 1, result))

    async def event(self) -> Any:
        await until(lambda: self.events, 5)
        return self.events.pop()

    async def reading(self, **effect: Any) -> PowerRead:
        self.fencer.read_power(POOL, ReadPower(HOSTS[0], "dev", "run-1", by=BY, **effect))
        await self.ordered()
        return PowerRead(HOSTS[0], "run-1", None)  # type: ignore[arg-type]

    async def off(self) -> None:
        self.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "run-2", BY))
        await self.ordered()


async def test_the_order_carries_everything_and_shows_no_secret() -> None:
    member = Member()
    await member.off()
    order, kind = member.orders[0], await member.ordered()
    assert (order.host, order.boot_id, order.term, order.order_id) == (HOSTS[1], "boot-2", 7, "run-2/off")
    assert order.preconditions.ha_off and 0 < order.valid_for_ms <= 6_000
    assert (kind.agent, kind.action, kind.limit_ms, kind.host) == ("fence_ipmilan", "off", 3_000, HOSTS[0])
    assert dict(kind.parameters)["passwd"] == SECRET and kind.secrets == ("passwd",)
    assert SECRET not in repr(order)
    member.answer(Outcome.DONE, code=0, text="Success: Powered OFF")
    ended = await member.event()
    assert isinstance(ended, FenceEnded) and ended.claim and ended.certain and ended.begun


@pytest.mark.parametrize("kept", range(1, len(SECRET) + 1))
async def test_a_member_of_an_older_version_cuts_a_secret_and_its_beginning_is_hidden(kept: int) -> None:
    member = Member()
    await member.reading()
    member.answer(Outcome.DONE, code=1, text=("x" * (500 - kept) + SECRET)[:500])
    text = (await member.event()).reading.text
    assert text == "x" * (500 - kept) + "***"


@pytest.mark.parametrize(("code", "power"), [(0, Power.ON), (2, Power.OFF), (1, Power.UNKNOWN)])
async def test_a_reading_is_the_members_and_as_old_as_the_order(code: int, power: Power) -> None:
    member = Member()
    began = member.now
    await member.reading()
    member.now += 1_500
    member.answer(Outcome.DONE, code=code, text=f"said {SECRET}")
    reading = (await member.event()).reading
    assert (reading.power, reading.through, reading.text) == (power, HOSTS[1], "said ***")
    assert (reading.started_at, reading.ended_at, reading.true_at) == (began, began + 1_500, began)


async def test_by_day_monitor_and_status_are_two_orders() -> None:
    member = Member()
    await member.reading(monitor=True)
    assert (await member.ordered()).action == "monitor"
    member.answer(Outcome.DONE, code=1, text="no such user")
    assert (await member.ordered(2)).action == "status"
    member.answer(Outcome.DONE, code=0, text="Status: ON")
    reading = (await member.event()).reading
    assert (reading.power, reading.monitor) == (Power.ON, "no such user")


@pytest.mark.parametrize(
    ("reason", "trouble"), [("precondition", Trouble.AGENT), ("busy", Trouble.FAILED), ("expired", Trouble.FAILED)]
)
async def test_a_refusal_is_certain(reason: str, trouble: Trouble) -> None:
    member = Member()
    await member.reading()
    member.answer(Outcome.REFUSED, reason=reason, text="for a reason")
    reading = (await member.event()).reading
    assert (reading.power, reading.trouble) == (Power.UNKNOWN, trouble)
    assert reading.text == "h2 does not run it: for a reason"
    member.orders.clear()
    await member.off()
    member.answer(Outcome.REFUSED, reason=reason, text="for a reason")
    ended = await member.event()
    assert not ended.claim and ended.certain and not ended.begun


async def test_a_member_that_is_lost_leaves_an_off_uncertain() -> None:
    member = Member()
    await member.off()
    member.fencer.heard(POOL, AgentGone(HOSTS[2], 1, ""))
    assert not member.events, "it was not that one"
    member.fencer.heard(POOL, AgentGone(HOSTS[1], 1, ""))
    ended = await member.event()
    assert not ended.claim and not ended.certain and ended.begun and "h2 was lost while it ran it" in ended.text


async def test_an_answer_of_somebody_else_is_none() -> None:
    member = Member()
    await member.off()
    member.answer(Outcome.DONE, host=HOSTS[2], code=0)
    member.answer(Outcome.UNKNOWN, code=0, text="no result within 3 s, killed")
    ended = await member.event()
    assert not ended.claim and not ended.certain


async def test_a_member_that_never_answers_ends_with_its_time() -> None:
    member = Member()
    await member.off()
    member.now += 6_000 + 3_000 + 10_000 - 1
    member.fencer.heard(POOL, Tick())
    assert not member.events
    member.now += 1
    member.fencer.heard(POOL, Tick())
    ended = await member.event()
    assert not ended.certain and ended.text == "h2 did not say how it ended"


async def test_a_member_without_a_stream_has_run_nothing() -> None:
    member = Member(connected=False)
    await member.off()
    ended = await member.event()
    assert ended.certain and not ended.begun and "not connected" in ended.text


async def test_where_nobody_can_run_it_the_reading_says_so() -> None:
    member = Member()
    by = Unable("no member of lab can run fence_ipmilan", allowed=False)
    member.fencer.read_power(POOL, ReadPower(HOSTS[0], "dev", "run-1", by=by))
    reading = (await member.event()).reading
    assert (reading.trouble, reading.text, reading.through) == (Trouble.AGENT, by.why, "")
    assert not member.orders


async def test_a_signal_is_no_exit_status() -> None:
    member = Member()
    await member.off()
    member.answer(Outcome.DONE, code=-9)
    ended = await member.event()
    assert not ended.claim and not ended.certain


FENCE = """
[[fence]]
host = "bbbbbbbb-0000-4000-8000-000000000001"
agent = {agent}
via = {via}
[fence.parameters]
ip = "10.9.0.1"
"""


async def test_a_device_that_members_run_needs_no_agent_here(tmp_path: Path) -> None:
    config = load(write_config(tmp_path, FENCE.format(agent='"fence_ipmilan"', via='"members"')))
    await check_devices(config)
    device = config.devices()[HOSTS[0]][0]
    assert device.via_members and device.agent == "fence_ipmilan"


@pytest.mark.parametrize(
    ("agent", "via", "said"),
    [
        ('"fence_ipmilan"', '"collector"', "expected an absolute path"),
        ('"sbin/fence_ipmilan"', '"members"', "expected an absolute path"),
        ('"fence_dummy"', '"members"', "is not allowed"),
        ('"fence_ipmilan"', '"somebody"', 'expected "collector" or "members"'),
        ('"fence_ipmilan"', '"members"\nidentity = "/bin/sh"', "a program of the collector's"),
    ],
)
async def test_what_a_block_cannot_say(tmp_path: Path, agent: str, via: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(write_config(tmp_path, FENCE.format(agent=agent, via=via)))
    assert said in str(error.value)
