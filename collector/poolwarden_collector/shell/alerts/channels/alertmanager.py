"""Alerts to Prometheus Alertmanager, by its own API (v2, POST /api/v2/alerts), and the alert of a dead man.

Rules
-----
* Every replica is told everything: they agree among themselves on who notifies, and not on what is there. It is taken
  when one has taken it; what another has missed comes with the next refresh.
* What stands is told again every REFRESH_S and each time said to hold for KEPT_MS: Alertmanager keeps nothing over a
  restart, and what it is not told again would look resolved. KEPT_MS outlasts a restart of this machine.
* An end is repeated for KEPT_MS as well, for the replica that missed it.
* An alert is its labels. They are the same at its beginning, in each refresh and at its end; what may change in between
  (title, text) stands in the annotations.
* PoolwardenDeadman is told while the collector is alive, and holds for DEADMAN_MS: a receiver that misses it wakes
  somebody (docs/alerts.md).
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from typing import Any

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.channels.http_post import post
from poolwarden_collector.shell.alerts.channels.wording import (
    body,
    cut,
    is_over,
    line,
    message_id,
    place,
    severity,
    title,
)
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Alertmanager
from poolwarden_collector.shell.store.journal import Parcel

REFRESH_S = 30.0
DEADMAN_MS = 180_000
KEPT_MS = 900_000
DEADMAN = "PoolwardenDeadman"
_BODY_LIMIT = 8192
_AT_ONCE = 500  # alerts in one request

_log = logging.getLogger(__name__)

Told = dict[str, Any]  # an alert as the API takes it (postableAlert)


class AlertmanagerSink:
    """Tells all replicas of one Alertmanager."""

    refresh_every_s = REFRESH_S

    def __init__(self, settings: Alertmanager, collector: str) -> None:
        self.name = settings.channel
        self._settings = settings
        self._collector = line(collector)  # of the dead man's alert, which no parcel tells
        self._ended: dict[str, tuple[int, Told]] = {}  # labels -> until when it is repeated (wall ms), and what

    def deliver(self, parcel: Parcel) -> None:
        now = clock.wall_ms()
        told = alert(parcel, now)
        self._tell([told])
        if is_over(parcel):
            self._ended[_identity(told)] = (now + KEPT_MS, told)

    def refresh(self, open_alerts: Sequence[Parcel], alive: bool) -> None:
        """All that is open, what has ended a while ago, and while the collector is alive the dead man's alert."""
        now = clock.wall_ms()
        told = [alert(parcel, now) for parcel in open_alerts]
        standing = {_identity(each) for each in told}
        # A wall clock that was set back must not make an end be repeated for longer.
        self._ended = {
            key: (until, each)
            for key, (until, each) in self._ended.items()
            if now < until <= now + KEPT_MS and key not in standing
        }
        told += [each for _, each in self._ended.values()]
        if alive:
            told.append(self._deadman(now))
        for first in range(0, len(told), _AT_ONCE):
            self._tell(told[first : first + _AT_ONCE])

    def _deadman(self, now: int) -> Told:
        labels = {"alertname": DEADMAN, "severity": "none", "collector": self._collector}
        return {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {
                "summary": "the Poolwarden collector is alive; this alert stands as long as it is",
                "description": "It has to stand always. Where it is missing, no pool is guarded and no alert is told.",
            },
            "startsAt": clock.text_of(now),
            "endsAt": clock.text_of(now + DEADMAN_MS),
        }

    def _tell(self, alerts: list[Told]) -> None:
        """Raises SinkError if no replica has taken them."""
        sent, failed = json.dumps(alerts, ensure_ascii=False).encode(), []
        for number, url in enumerate(self._settings.urls, 1):
            try:
                post(f"{url}/api/v2/alerts", sent, self._login(), self._settings.ca)
            except SinkError as error:
                failed.append(f"replica {number}: {error}")
        if len(failed) == len(self._settings.urls):
            raise SinkError("; ".join(failed))
        for why in failed:
            _log.warning("%s: %s; another replica has taken it", self.name, why)

    def _login(self) -> dict[str, str]:
        if self._settings.token:
            return {"Authorization": f"Bearer {self._settings.token}"}
        if not self._settings.user:
            return {}
        login = f"{self._settings.user}:{self._settings.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}


def alert(parcel: Parcel, now: int) -> Told:
    """The parcel as Alertmanager takes it; ``now`` is wall time, ms."""
    payload = parcel.payload
    labels = {
        "alertname": alert_name(message_id(parcel)),
        "severity": severity(parcel),
        **place(parcel),
        "collector": line(payload.get("collector", "")),
        "key": line(parcel.key),
    }
    runbook = line(payload.get("runbook", ""))
    link = runbook if runbook.startswith(("http://", "https://")) else ""
    notes = {"summary": title(parcel), "description": cut(body(parcel), _BODY_LIMIT), "runbook_url": link}
    # It is refused, for ever, if it ends before it starts; the wall clock may have been set meanwhile.
    begun = clock.ms_of(str(payload.get("raised_at", "")))
    begun = now if begun is None else min(begun, now)
    over = clock.ms_of(str(payload.get("resolved_at", ""))) if is_over(parcel) else now + KEPT_MS
    told: Told = {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {name: value for name, value in notes.items() if value},
        "startsAt": clock.text_of(begun),
        "endsAt": clock.text_of(max(begun, now if over is None else over)),
    }
    return told | ({"generatorURL": link} if link else {})


def alert_name(message: str) -> str:
    """Of the message's id, as Prometheus' alerts are named: host-down is PoolwardenHostDown."""
    return "Poolwarden" + "".join(word.capitalize() for word in message.split("-"))


def _identity(told: Told) -> str:
    return json.dumps(told["labels"], sort_keys=True)
