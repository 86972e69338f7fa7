"""Samples through the channels of alerts, at an operator's word; who asked and what came of it is journaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.nearest import did_you_mean
from poolwarden_collector.shell.alerts.trial import Tried, try_all
from poolwarden_collector.shell.operators.names import Unknown
from poolwarden_collector.shell.store.journal import Journal

if TYPE_CHECKING:
    from poolwarden_collector.shell.alerts.outbox import Outbox
    from poolwarden_collector.shell.loop.service import Service


async def try_channels(
    service: Service, journal: Journal, outbox: Outbox, channel: str, actor: str
) -> pb.TestAlertsReply:
    """Raises Unknown for what is no channel, JournalError where it cannot be recorded that it was done."""
    names = _named(channel, outbox.sinks)
    config = service.roster.config
    found = await try_all(outbox, names, config.routes().reach, config.name, actor)
    service.publish(await service.write(journal.commit, "", [_entry(found, actor)]))
    return pb.TestAlertsReply(
        channels=[
            pb.TestedChannel(channel=each.channel, taken=each.taken, text=each.text, took_ms=each.took_ms)
            for each in found
        ]
    )


def _named(channel: str, there: tuple[str, ...]) -> tuple[str, ...]:
    """The channel of this name, or of this part of its name behind the kind; all where none is named."""
    if not channel:
        if there:
            return there
        raise Unknown("there is no channel of alerts: [alerts] of collector.toml has none")
    for found in (
        tuple(name for name in there if name == channel),
        tuple(name for name in there if name.partition(":")[2] == channel),
    ):
        if len(found) == 1:
            return found
    known = f"; there is: {', '.join(there)}" if there else ""
    raise Unknown(f"no channel of alerts is called {channel!r}{did_you_mean(channel, list(there))}{known}")


def _entry(found: list[Tried], actor: str) -> Entry:
    said = "; ".join(f"{each.channel}: {'taken' if each.taken else f'NOT taken: {each.text}'}" for each in found)
    data = {"channels": {each.channel: each.taken for each in found}}
    return Entry(Kind.ALERTS_TESTED, f"channels of alerts tried by {actor}: {said}", data, actor=actor)
