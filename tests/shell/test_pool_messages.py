"""Alerts into the pools themselves: who is asked over the real stream, what is said, that no pool waits for another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.pool_message import wrong
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.shell.agents import pool_messages
from poolwarden_collector.shell.alerts import outbox as module
from poolwarden_collector.shell.alerts.channels.into_pool import PoolSink, message_of
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import PoolMessages
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.store.journal import Parcel

from .rig import HOSTS, POOL, PlayedAgent, Rig, hosts_of, running, until, write_config

OTHER_POOL = "aaaaaaaa-0000-4000-8000-000000000002"
CHANNEL = '[alerts]\nlog = ""\n[[alerts.xapi]]\n'
ABLE = ["show_message"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_MS", 20)
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)


def raised(pool: str = POOL, name: str = "host-down", **changed: Any) -> AlertRaised:
    said = {"severity": "warning", "title": "lab: host-2 is down", "body": "Died: host-2.\nDid:  nothing.\n\nlong"}
    said |= changed
    return AlertRaised(f"{pool}/{name}", said["severity"], said["title"], said["body"], {"message": name})


async def master(rig: Rig, host: str = HOSTS[0], pool: str = POOL, able: list[str] = ABLE) -> PlayedAgent:
    """An agent whose host serves as its pool's master, once the engine has adopted it."""
    agent = await rig.agent(host, pool_uuid=pool, capabilities=able)
    await serve(agent)
    await until(lambda: rig.parts.service.roster.pools[pool].record.master == host)
    return agent


async def serve(agent: PlayedAgent) -> None:
    role = pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER, running=pb.RoleFacts.MASTER, serves_as_master=True)
    await agent.send(report=pb.Report(full=True, role=role))


def tell(rig: Rig, alert: AlertRaised | AlertResolved, pool: str = POOL) -> None:
    rig.parts.journal.commit(pool, [], [alert], "lab")
    rig.parts.outbox.nudge()


def delivery(rig: Rig, key: str) -> dict[str, Any]:
    """The newest delivery of this alert."""
    found = [each for each in rig.parts.journal.alerts() if each["key"] == key]
    return dict(found[0]["deliveries"][-1]) if found else {}


async def answer(agent: PlayedAgent, order: pb.Order, outcome: Any = pb.OrderResult.DONE, **said: Any) -> None:
    result = pb.OrderResult(order_id=order.order_id, kind="show_message", outcome=outcome, **said)
    await agent.send(order_result=result)


# ------------------------------------------------------------------------------------------------ over the stream


@pytest.mark.asyncio
async def test_the_verified_master_is_asked_and_its_word_is_the_delivery(tmp_path: Path) -> None:
    async with running(tmp_path, CHANNEL) as rig:
        member = await rig.agent(HOSTS[1], capabilities=ABLE)
        agent = await master(rig)
        tell(rig, raised())
        order = await agent.expect("order")
        shown = order.show_message
        assert (order.pool_uuid, order.host_uuid, order.boot_id) == (POOL, HOSTS[0], "boot-1")
        assert (order.epoch, order.term) == (rig.parts.service.roster.epoch, 1)
        assert (shown.name, shown.priority, shown.repeated) == ("POOLWARDEN_HOST_DOWN", 3, False)
        assert shown.body == "lab: host-2 is down\n\nDied: host-2.\nDid:  nothing."
        await answer(agent, order)
        await until(lambda: delivery(rig, raised().key).get("status") == "sent")
        tell(rig, AlertResolved(raised().key, "host-2 is back"))
        over = (await agent.expect("order")).show_message
        assert (over.name, over.priority) == ("POOLWARDEN_HOST_DOWN", 4) and over.key != shown.key
        assert over.body == "Over: lab: host-2 is down\n\nhost-2 is back"
        with pytest.raises(TimeoutError):
            await member.expect("order", within=0.2)


@pytest.mark.asyncio
async def test_without_a_verified_master_it_waits_and_is_told_after_the_failover(tmp_path: Path) -> None:
    async with running(tmp_path, CHANNEL) as rig:
        await rig.agent(HOSTS[1], capabilities=ABLE)
        await until(lambda: hosts_of(rig.parts.service.roster, POOL))
        tell(rig, raised())
        await until(lambda: delivery(rig, raised().key).get("attempts", 0) >= 2)
        assert "no verified master is heard" in delivery(rig, raised().key)["last_error"]
        agent = await master(rig)
        order = await agent.expect("order")
        assert order.show_message.repeated, "nobody knows what an earlier attempt has done"
        await answer(agent, order)
        await until(lambda: delivery(rig, raised().key)["status"] == "sent")


@pytest.mark.asyncio
async def test_an_older_agent_is_named_and_asked_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, CHANNEL) as rig:
        agent = await master(rig, able=["promote"])
        tell(rig, raised())
        await until(lambda: delivery(rig, raised().key).get("last_error"))
        assert "host-1" in (said := delivery(rig, raised().key)["last_error"]) and "update it" in said
        with pytest.raises(TimeoutError):
            await agent.expect("order", within=0.2)


@pytest.mark.asyncio
async def test_each_attempt_is_an_order_of_its_own_with_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_RETRY_MS", 40)
    async with running(tmp_path, CHANNEL) as rig:
        agent = await master(rig)
        tell(rig, raised())
        orders = [await agent.expect("order")]
        for outcome, text in ((pb.OrderResult.REFUSED, "20 messages"), (pb.OrderResult.UNKNOWN, "in time")):
            await answer(agent, orders[-1], outcome, text=text)
            orders.append(await agent.expect("order"))
            assert text in delivery(rig, raised().key)["last_error"]
        await answer(agent, orders[0])  # late: nobody waits for it any more
        await answer(agent, orders[-1])
        await until(lambda: delivery(rig, raised().key)["status"] == "sent")
        assert len({order.order_id for order in orders}) == 3
        assert len({order.show_message.key for order in orders}) == 1
        assert [order.show_message.repeated for order in orders] == [False, True, True]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_pool_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    """It is waited for 3 s at each attempt, with growing pauses between; the other pool's messages go out meanwhile."""
    async with running(tmp_path, CHANNEL) as rig:
        hung = await master(rig, HOSTS[1], OTHER_POOL)
        agent = await master(rig)
        tell(rig, raised(OTHER_POOL), OTHER_POOL)
        await hung.expect("order")
        for name in ("host-down", "disk-full", "host-disabled"):
            tell(rig, raised(name=name))
            await answer(agent, await agent.expect("order", within=20.0))
            await until(lambda name=name: delivery(rig, raised(name=name).key).get("status") == "sent", within=20.0)
        assert delivery(rig, raised(OTHER_POOL).key)["status"] == "pending"
        # A machine that is busy for longer has lost sight of that master when it tries again.
        why = delivery(rig, raised(OTHER_POOL).key)["last_error"]
        assert "did not answer within 3 s" in why or "no verified master is heard" in why


@pytest.mark.asyncio
async def test_a_stream_that_ends_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_messages.PoolMessages.__init__, "__defaults__", (25.0,))
    async with running(tmp_path, CHANNEL) as rig:
        agent = await master(rig)
        tell(rig, raised())
        await agent.expect("order")
        await agent.close()
        await until(lambda: "was lost" in delivery(rig, raised().key).get("last_error", ""), within=20.0)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_only_the_host_that_was_asked_answers_and_time_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_messages.PoolMessages.__init__, "__defaults__", (0.5,))
    async with running(tmp_path, CHANNEL) as rig:
        stranger = await rig.agent(HOSTS[1], capabilities=ABLE)
        agent = await master(rig)
        tell(rig, raised())
        await answer(stranger, await agent.expect("order"))
        await until(lambda: "did not answer within" in delivery(rig, raised().key).get("last_error", ""))


@pytest.mark.asyncio
async def test_where_this_collector_has_stood_down_nothing_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path, CHANNEL) as rig:
        agent = await master(rig)
        rig.parts.service.roster.stood_down[POOL] = "another is obeyed"
        tell(rig, raised())
        await until(lambda: "stood down" in delivery(rig, raised().key).get("last_error", ""))
        rig.parts.service.roster.told_behind = True
        del rig.parts.service.roster.stood_down[POOL]
        await until(lambda: "behind" in delivery(rig, raised().key).get("last_error", ""))
        with pytest.raises(TimeoutError):
            await agent.expect("order", within=0.2)


@pytest.mark.asyncio
async def test_a_trial_goes_to_every_pool_and_names_those_that_do_not_show_it(tmp_path: Path) -> None:
    async with running(tmp_path, CHANNEL) as rig:
        sink = PoolSink(PoolMessages(), rig.parts.messages.show)
        trial = parcel(pool="", test=True)
        with pytest.raises(SinkError, match="no pool is known yet"):
            await asyncio.to_thread(sink.deliver, trial)
        agents = [await master(rig), await master(rig, HOSTS[1], OTHER_POOL, ["promote"])]
        tried = asyncio.create_task(asyncio.to_thread(sink.deliver, trial))
        order = await agents[0].expect("order")
        assert order.show_message.name == "POOLWARDEN_ALERT"
        await answer(agents[0], order)
        with pytest.raises(SinkError, match=f"^{OTHER_POOL}: .*update it$"):
            await tried


@pytest.mark.asyncio
async def test_a_stop_does_not_wait_for_an_answer(tmp_path: Path) -> None:
    async with running(tmp_path, CHANNEL) as rig:
        agent = await master(rig)
        tell(rig, raised())
        await agent.expect("order")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 15


# ------------------------------------------------------------------------------------------------ what is said


def parcel(state: str = "firing", pool: str = POOL, attempts: int = 0, number: int = 7, **payload: Any) -> Parcel:
    said = {
        "title": "t",
        "body": "b",
        "severity": "warning",
        "raised_at": "now",
        "collector": "c",
        "data": {},
    } | payload
    return Parcel(number, f"{pool}/x", 1, state, "xapi:pool", pool, said, attempts, 0)


@pytest.mark.parametrize(
    ("given", "priority"),
    [
        (parcel(severity="critical", data={"message": "two-masters"}), 1),
        (parcel(severity="critical", data={"message": "blocked-no-proof"}), 2),
        (parcel(severity="warning"), 3),
        (parcel(severity="what"), 3),
        (parcel("resolved", severity="critical"), 4),
        (parcel(severity="info"), 5),
    ],
)
def test_priorities_are_xapis(given: Parcel, priority: int) -> None:
    assert message_of(given).priority == priority


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"title": "", "body": ""},
        {"title": "a\x1b[2Jb\tc\r\n\u202ed\ufeff", "body": "x\x00\x9b"},
        {"title": "\ud800", "body": "ä" * 10_000},
        {"title": "x" * 100_000, "data": {"message": "x" * 300}},
        {"data": {"message": "..//\n"}, "runbook": "https://wiki.example/runbook.md#x"},
        {"data": {"message": 7}, "runbook": "javascript:alert(1)"},
    ],
)
@pytest.mark.parametrize("state", ["firing", "resolved"])
def test_whatever_an_alert_holds_an_agent_takes_its_message(payload: dict[str, Any], state: str) -> None:
    made = message_of(parcel(state, **payload))
    assert wrong(made.name, made.key, made.priority, made.body) == ""
    assert "javascript" not in made.body


def test_a_key_is_one_messages_own() -> None:
    """The same in each attempt; another where it is told again, ends, begins anew, or comes from a lost journal."""
    first = message_of(parcel())
    assert message_of(parcel(attempts=9)).key == first.key and message_of(parcel(attempts=9)).repeated
    others = [parcel("resolved"), parcel(number=8), parcel(raised_at="later"), parcel(collector="d")]
    assert len({message_of(each).key for each in others} | {first.key}) == 5


def test_what_is_about_no_pool_is_sent_nowhere() -> None:
    def never(pool: str, message: object) -> None:
        raise AssertionError

    PoolSink(PoolMessages(), never).deliver(parcel(pool=""))
    with pytest.raises(SinkError):
        PoolSink(PoolMessages(), never).deliver(parcel())


def test_the_documents_block_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs/alert-channels.md").read_text().partition("## In XenCenter and Xen Orchestra")[2]
    block = text.partition("```toml\n")[2].partition("```")[0]
    assert load(write_config(tmp_path, block)).alerts.names == ("log", "xapi:pool")
    example = (ROOT / "packaging/collector/collector.toml").read_text()
    assert "\n#[[alerts.xapi]]" in example


def test_the_channel_is_configured_by_its_block(tmp_path: Path) -> None:
    assert load(write_config(tmp_path, CHANNEL)).alerts.names == ("xapi:pool",)
    assert load(write_config(tmp_path, CHANNEL + 'name = "xo"\n')).alerts.names == ("xapi:xo",)
    assert load(write_config(tmp_path)).alerts.names == ("log",), "off by default"
    with pytest.raises(ConfigError, match=r"alerts\.xapi 1\] url"):
        load(write_config(tmp_path, CHANNEL + 'url = "https://h1"\n'))
    with pytest.raises(ConfigError, match="name of another xapi"):
        load(write_config(tmp_path, CHANNEL + "[[alerts.xapi]]\n"))
