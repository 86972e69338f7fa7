"""A real receiver of webhooks hears of one pool from two collectors, of which one takes the pool over."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from poolwarden_collector.core.model import effects as fx
from poolwarden_collector.shell.alerts.channels.log import LogSink
from poolwarden_collector.shell.alerts.channels.webhook import WebhookSink
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import Sink
from poolwarden_collector.shell.config.alert_channels import Webhook as WebhookSettings
from poolwarden_lab.processes.webhook import Webhook

from .rig import POOL, until
from .shared import One
from .test_told_between_owners import KEY, OVER, RAISED, goes, opened, owned

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def received() -> AsyncIterator[Webhook]:
    """A receiver of webhooks on loopback."""
    webhook = Webhook()
    await webhook.start(socket.create_server(("127.0.0.1", 0)))
    try:
        yield webhook
    finally:
        await webhook.stop()


@asynccontextmanager
async def delivering(one: One, sinks: tuple[Sink, ...]) -> AsyncIterator[Outbox]:
    outbox = Outbox(one.archive.journal, sinks, one.service.write, lambda _: None)
    outbox.start()
    try:
        yield outbox
    finally:
        await outbox.stop()


def untold(one: One, sink: str) -> list[int]:
    """How often each that waits for this channel was tried."""
    return [each.attempts for each in one.archive.journal.parcels() if each.sink == sink]


@pytest.mark.slow
@pytest.mark.parametrize("refused", [False, True])
async def test_a_receiver_of_two_collectors_takes_each_beginning_and_each_end_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """A takeover while one alert is open and another one has just ended, taken or refused; the log is broken."""
    other = f"{POOL}/network"
    ops, none = "webhook:ops", tmp_path / "none" / "alerts.log"
    async with AsyncExitStack() as stack:
        webhook = await stack.enter_async_context(received())
        a, b, says = await stack.enter_async_context(owned(tmp_path, monkeypatch, "log", ops))
        sockets = webhook._server.sockets if webhook._server is not None else ()
        url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/alerts"
        boxes = {
            each.collector.name: await stack.enter_async_context(
                delivering(each, (LogSink(str(none)), WebhookSink(WebhookSettings("ops", url))))
            )
            for each in (a, b)
        }

        def taken() -> list[str]:
            return [each.key.removeprefix(POOL) for each in webhook.deliveries if each.status == 200]

        async def hears(one: One, alert: fx.AlertRaised | fx.AlertResolved) -> None:
            await says(one, alert)
            boxes[one.collector.name].nudge()

        await hears(a, RAISED)
        await hears(a, replace(RAISED, key=other))
        numbers = opened(a)
        await until(lambda: len(taken()) == 2 and not untold(a, ops))
        await a.service.note_told()
        webhook.refuse = 1_000 if refused else 0
        await hears(a, replace(OVER, key=other))
        await until(lambda: any(untold(a, ops)) if refused else len(taken()) == 3 and not untold(a, ops))
        await a.service.note_told()
        await goes(a, b)
        await until(lambda: ops not in boxes["a"]._telling)  # nothing that it began is under way
        webhook.refuse = 0
        assert opened(b) == {KEY: numbers[KEY]}
        await hears(b, OVER)
        await until(lambda: len(taken()) >= 4 and not untold(b, ops))
        assert untold(b, "log") and not untold(a, ops)
    storage, network = f"/storage/{numbers[KEY]}", f"/network/{numbers[other]}"
    wanted = [f"{each}/{state}" for each in (network, storage) for state in ("firing", "resolved")]
    assert sorted(taken()) == sorted(wanted)
