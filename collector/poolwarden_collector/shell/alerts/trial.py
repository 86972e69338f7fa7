"""A sample through the channels as they are: does each of them take an alert's beginning and its end?

Rules
-----
* It goes through the same sink, in the same thread, as every alert, and past the journal's outbox: it is tried once.
* It says at every place that it is a test; its severity is the least one that the channel is told, so that a pager
  that is there for critical alerts is really tried, and nobody is woken who would not be.
* Each trial has a topic of its own, so that no receiver takes it for a repetition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_channels import Reach
from poolwarden_collector.shell.store.journal import Parcel

LIMIT_S = 60.0  # of one channel's both messages; every kind has shorter limits of its own
_LINES = (
    "Died: nothing; this is a test of the alert channels.",
    "Did:  sent this message, asked for by {by}.",
    "You:  nothing; whoever was to get it and did not: look at collector.toml.",
    "Open: nothing; the end of this alert follows at once.",
)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it: was all of it taken; one sentence; how long it took, ms."""

    channel: str
    taken: bool
    text: str
    took_ms: int


async def try_all(
    outbox: Outbox, names: Sequence[str], reach: Callable[[str], Reach], collector: str, by: str
) -> list[Tried]:
    """One sample through each of these channels, all at the same time."""
    return list(await asyncio.gather(*(_try(outbox, name, reach(name), collector, by) for name in names)))


async def _try(outbox: Outbox, name: str, reach: Reach, collector: str, by: str) -> Tried:
    loop = asyncio.get_running_loop()
    began, taken = loop.time(), 0
    states = ("firing", "resolved") if reach.resolved else ("firing",)
    occurrence, raised_at = clock.wall_ms(), clock.wall_text()
    try:
        async with asyncio.timeout(LIMIT_S):
            for state in states:
                payload = sample(collector, reach.severity, state, occurrence, raised_at, by)
                await outbox.send(Parcel(0, payload["key"], occurrence, state, name, "", payload, 0, 0))
                taken += 1
        text = "begin and end were taken" if reach.resolved else "taken; it is told no ends"
    except TimeoutError:
        text = f"no answer within {LIMIT_S:.0f} s, or it is busy with another message"
    except SinkError as error:
        text = str(error)
    if taken == 1 and reach.resolved:
        text = f"the beginning was taken, the end was not: {text}"
    return Tried(name, taken == len(states), text, round((loop.time() - began) * 1000))


def sample(collector: str, severity: str, state: str, occurrence: int, raised_at: str, by: str) -> dict[str, Any]:
    """What a channel is told in a trial."""
    over = state == "resolved"
    return {
        "key": f"test/{collector}",
        "occurrence": occurrence,
        "state": state,
        "severity": severity,
        "title": f"TEST: {collector}: this is a test, nothing is wrong",
        "body": "TEST: the test is over" if over else "\n".join(_LINES).format(by=by),
        "pool": {"uuid": "", "name": ""},
        "collector": collector,
        "raised_at": raised_at,
        "resolved_at": clock.wall_text() if over else "",
        "data": {},
        "test": True,
    }
