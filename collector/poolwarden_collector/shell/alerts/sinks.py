"""Where alerts go: a log file (or standard error) and webhooks. A sink delivers one parcel or raises SinkError.

Rules
-----
* A webhook has taken an alert only if it answered 2xx itself: redirects are not followed (a POST would silently
  become a GET), proxies of the environment are not used.
* ``Idempotency-Key`` and the fields ``key`` and ``occurrence`` are the same for every attempt, so that a receiver can
  tell a repetition from a new alert; delivery is at least once.
* A webhook's address may hold a token and is never part of an error.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Protocol

from poolwarden_collector.shell.config.config import Alerts, Webhook
from poolwarden_collector.shell.store.journal import Parcel

WEBHOOK_LIMIT_S = 5.0
LOG_SINK = "log"
MADE_BY_THE_UNIT = Path("/var/log/poolwarden")  # its LogsDirectory


class SinkError(Exception):
    """The parcel was not taken; one line that says why."""


class Sink(Protocol):
    """Takes one parcel; called in a thread."""

    name: str

    def deliver(self, parcel: Parcel) -> None: ...


class LogSink:
    """One line of JSON per alert, in a file or on standard error."""

    name = LOG_SINK

    def __init__(self, path: str) -> None:
        self._path = path

    def deliver(self, parcel: Parcel) -> None:
        line = f"ALERT {json.dumps(parcel.payload, ensure_ascii=False)}\n"
        try:
            if self._path == "-":
                sys.stderr.write(line)
                sys.stderr.flush()
                return
            with open(self._path, "a", encoding="utf-8") as file:  # noqa: PTH123  (appends to what may be a pipe)
                file.write(line)
                file.flush()
                if file.seekable():
                    os.fsync(file.fileno())
        except (OSError, ValueError) as error:
            raise SinkError(f"{self._path}: {error}") from error


def alert_log_trouble(path: str) -> str:
    """Why no alert can be written to this file, by whoever asks; empty if it can be.

    Only check-config asks: a collector whose alert log is out of reach still guards its pools, by its other channels.
    """
    if path in ("", "-") or Path(path).parent == MADE_BY_THE_UNIT:
        return ""
    file = Path(path)
    if file.is_dir():
        return f"{path} is a directory; expected a file"
    if not file.parent.is_dir():
        return f"{path}: there is no directory {file.parent}; make it, writable for the collector's user"
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return f"{path} cannot be written by {getpass.getuser()}; run check-config as the collector's user"
    return ""


class WebhookSink:
    """HTTP POST of the alert as JSON; 5 s for each step of the exchange."""

    def __init__(self, webhook: Webhook) -> None:
        self.name = sink_name(webhook)
        self._url = webhook.url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())

    def deliver(self, parcel: Parcel) -> None:
        body = json.dumps(parcel.payload, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": parcel.delivery_key,
            "User-Agent": "poolwarden-collector",
        }
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=WEBHOOK_LIMIT_S) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            error.close()
            raise SinkError(f"the receiver answered {error.code}") from None
        except urllib.error.URLError as error:
            raise SinkError(f"no answer: {error.reason}") from None
        except (OSError, ValueError, EOFError) as error:
            raise SinkError(f"no answer: {error}") from None
        if not 200 <= status < 300:
            raise SinkError(f"the receiver answered {status}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def sink_name(webhook: Webhook) -> str:
    """The name under which a webhook stands in the journal."""
    return f"webhook:{webhook.name}"


def sink_names(alerts: Alerts) -> tuple[str, ...]:
    """Every configured sink."""
    return (*((LOG_SINK,) if alerts.log else ()), *(sink_name(webhook) for webhook in alerts.webhooks))


def make_sinks(alerts: Alerts) -> tuple[Sink, ...]:
    return (*((LogSink(alerts.log),) if alerts.log else ()), *(WebhookSink(webhook) for webhook in alerts.webhooks))
