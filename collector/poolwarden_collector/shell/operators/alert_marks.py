"""Silences and acknowledgements of alerts, as operators ask for them.

Rules
-----
* They concern what people are told, so the engine has no part in them: they are written by the journal's one writer
  (store/silences.py), and the answer comes after they are durable.
* An alert is named by its key, by its message's id, or by any part of its key, where one open alert only has it.
* safety: what is about two masters is refused, for it must reach everybody until it is over.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.catalogue.two_masters import about_two_masters
from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.nearest import did_you_mean
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.names import Ambiguous, Unknown
from poolwarden_collector.shell.store import silences
from poolwarden_collector.shell.store.damage_calls import KEY as DAMAGED
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row
from poolwarden_collector.shell.store.silences import LONGEST_MS, Asked

if TYPE_CHECKING:
    from poolwarden_collector.shell.loop.service import Service

VERBS = ("silence_alert", "unsilence_alert", "acknowledge_alert")
_LISTED = 10

Alert = dict[str, Any]


def reason_of(request: pb.CommandRequest) -> str:
    """The reason that stands in such a command."""
    return str(getattr(request, str(request.WhichOneof("command"))).reason)


class AlertMarks:
    """Answers these commands; ``service`` publishes what is written."""

    def __init__(self, service: Service, journal: Journal) -> None:
        self._service = service
        self._journal = journal

    async def command(self, request: pb.CommandRequest, asked: Asked) -> pb.CommandReply:
        """Raises Unknown or Ambiguous for what names no open alert."""
        try:
            return await self._answer(request, asked)
        except JournalError as error:
            why = access.not_recorded(error)
            text = f"nothing was changed: the journal cannot be written: {why}"
            return _refused("journal", text, "poolwarden doctor tells more; try again once it can be written")

    async def _answer(self, request: pb.CommandRequest, asked: Asked) -> pb.CommandReply:
        verb = request.WhichOneof("command")
        seen = access.current().rights.seen()
        found: list[Alert] = await asyncio.to_thread(self._journal.alerts, "", True, 100_000, seen)
        if verb == "silence_alert":
            return await self._silence(
                _granted(request.silence_alert.topic, found), request.silence_alert.for_ms, asked
            )
        if verb == "unsilence_alert":
            return await self._unsilence(request.unsilence_alert.topic, found, asked)
        return await self._take(_granted(request.acknowledge_alert.topic, found), asked)

    async def _silence(self, alert: Alert, for_ms: int, asked: Asked) -> pb.CommandReply:
        if about_two_masters(json.loads(alert["data"])):
            return _never("silenced", alert)
        if not 0 < for_ms <= LONGEST_MS:
            text = f"a silence has an end: more than nothing and at most {in_words(LONGEST_MS)}"
            return _refused("bad-duration", text, "for example --for 2h")
        until = clock.text_of(clock.wall_ms() + for_ms)
        asked = Asked(asked.by, asked.reason, for_ms)
        entry = silences.silenced(alert, asked, until)
        self._publish(
            await self._service.record(alert["pool"], (entry,), (), self._journal.silence, alert, asked, until)
        )
        about = f"{until[:10]} {until[11:16]} UTC"
        text = (
            f"silenced for {in_words(for_ms)}, until about {about}: {alert['title']}; it stays open, and who has not "
            "been told of it by then is told then"
        )
        return pb.CommandReply(accepted=True, text=text)

    async def _unsilence(self, topic: str, alerts: list[Alert], asked: Asked) -> pb.CommandReply:
        silenced = [alert for alert in alerts if alert["silence"] is not None]
        if not silenced:
            return _refused("not-silenced", "no open alert is silenced")
        alert = _granted(topic, silenced, "silenced")
        entry = silences.unsilenced(
            alert, f"silence ended by {asked.by}: {alert['title']}{asked.why}", asked.by, asked.reason
        )
        self._publish(await self._service.record(alert["pool"], (entry,), (), self._journal.unsilence, alert, asked))
        return pb.CommandReply(accepted=True, text=f"not silenced any more: {alert['title']}")

    async def _take(self, alert: Alert, asked: Asked) -> pb.CommandReply:
        if about_two_masters(json.loads(alert["data"])):
            return _never("acknowledged", alert)
        if alert["key"] == self._journal.own_key(DAMAGED):
            name = self._service.roster.config.name
            self._publish(await self._service.write(self._journal.note_damage, alert, asked, name))
            self._service.alerted()
            self._service.roster.damage = ""
            return pb.CommandReply(accepted=True, text=f"acknowledged by {asked.by}, and over: {alert['title']}")
        entry = silences.taken(alert, asked)
        self._publish(await self._service.record(alert["pool"], (entry,), (), self._journal.take, alert, asked))
        return pb.CommandReply(accepted=True, text=f"acknowledged by {asked.by}: {alert['title']}")

    def _publish(self, rows: list[Row]) -> None:
        self._service.publish(rows)


def _granted(topic: str, alerts: list[Alert], kind: str = "open") -> Alert:
    """``named``, if the caller may do with it what he asks for. Raises Denied."""
    alert = named(topic, alerts, kind)
    access.current().require(alert["pool"])
    return alert


def named(topic: str, alerts: list[Alert], kind: str = "open") -> Alert:
    """The one of these alerts that the text names. Raises Unknown or Ambiguous."""
    topic = topic.strip()
    ways = (
        [alert for alert in alerts if alert["key"] == topic],
        [alert for alert in alerts if topic and json.loads(alert["data"]).get("message") == topic],
        [alert for alert in alerts if topic and topic.lower() in alert["key"].lower()],
    )
    found = next((way for way in ways if way), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise Ambiguous(f"{topic!r} names {len(found)} {kind} alerts; use one of these keys: {_keys(found)}")
    if not alerts:
        raise Unknown(f"no alert is {kind}")
    near = did_you_mean(topic, [_short(alert, alerts) for alert in alerts])
    raise Unknown(f"no {kind} alert is {topic!r}{near}; there is: {_keys(alerts)}")


def _short(alert: Alert, alerts: list[Alert]) -> str:
    """The shortest name that only this one of them has: its message's id, else its key."""
    ids = [str(json.loads(each["data"]).get("message", "")) for each in alerts]
    own = str(json.loads(alert["data"]).get("message", ""))
    return own if own and ids.count(own) == 1 else str(alert["key"])


def _keys(alerts: list[Alert]) -> str:
    shown = ", ".join(_short(alert, alerts) for alert in alerts[:_LISTED])
    more = len(alerts) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _never(what: str, alert: Alert) -> pb.CommandReply:
    text = f"an alert about two masters is never {what}: it is told until it is over: {alert['title']}"
    return _refused("two-masters", text, "poolwarden status shows what to do")


def _refused(code: str, text: str, next_step: str = "poolwarden alerts") -> pb.CommandReply:
    return pb.CommandReply(accepted=False, code=code, text=text, next_step=next_step)
