"""Alerts as messages of the pool that they are about: XenCenter, Xen Orchestra and whoever else reads its messages.

Rules
-----
* A message is named POOLWARDEN_ and the alert's section in the runbook. Its priority is xapi's (xapi:
  ocaml/xapi-consts/api_messages.ml): 1 data loss imminent, 2 service loss imminent, 3 degraded, 4 recovered, 5 told.
* What an agent would refuse is put right here: strange characters, length.
* Its key is the same for each attempt, and another for what is told again: agents show a key once.
* What is about no pool has nowhere to go and counts as taken; a test (``test`` in the payload) goes to every pool.
* A pool is waited for so briefly that it holds up no other; what its master answers later is known at the next attempt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from poolwarden_collector.core.catalogue.two_masters import about_two_masters
from poolwarden_collector.core.model.orders import ShowMessage
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import PoolMessages
from poolwarden_collector.shell.store.journal import Parcel

LONGEST_BODY = 4000  # bytes of UTF-8; agents take 4096
LONGEST_NAME = 48
DATA_LOSS, SERVICE_LOSS, DEGRADED, RECOVERED, TOLD = 1, 2, 3, 4, 5
_PRIORITY = {"critical": SERVICE_LOSS, "warning": DEGRADED, "info": TOLD}
# Whatever an agent refuses (agent: core/pool_message.py), and line feeds apart.
_STRANGE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)

Show = Callable[[PoolId, ShowMessage], None]  # raises an exception whose text says why it is not shown


class PoolSink:
    """Sends each alert to the verified master of its pool; ``show`` waits for the answer of that host's agent."""

    def __init__(self, settings: PoolMessages, show: Show) -> None:
        self.name = settings.channel
        self._show = show

    def deliver(self, parcel: Parcel) -> None:
        """Raises SinkError: tried again later, for as long as the pool has no verified master."""
        if not parcel.pool and not parcel.payload.get("test"):
            return
        try:
            self._show(parcel.pool, message_of(parcel))
        except Exception as error:
            raise SinkError(str(error) or type(error).__name__) from error


def message_of(parcel: Parcel) -> ShowMessage:
    """The alert as a message."""
    payload = parcel.payload
    data, over = payload.get("data", {}), parcel.state == "resolved"
    section = re.sub("[^A-Z0-9]+", "_", str(data.get("message") or "alert").upper()).strip("_")[:LONGEST_NAME]
    priority = _PRIORITY.get(str(payload.get("severity", "")), DEGRADED)
    if about_two_masters(data):
        priority = DATA_LOSS
    which = (payload.get("collector", ""), parcel.delivery_key, payload.get("raised_at", ""), parcel.id)
    return ShowMessage(
        hashlib.sha256(repr(which).encode()).hexdigest()[:16],
        f"POOLWARDEN_{section or 'ALERT'}",
        RECOVERED if over else priority,
        _text(parcel, over),
        parcel.attempts > 0,
    )


def _text(parcel: Parcel, over: bool) -> str:
    """Title, the four lines, and where to read more."""
    title, body = str(parcel.payload.get("title", "")), str(parcel.payload.get("body", ""))
    link = str(parcel.payload.get("runbook", ""))
    parts = [f"Over: {title}" if over else title, body.partition("\n\n")[0]]
    parts += [f"More: {link}"] if link.startswith(("http://", "https://")) else []
    return _cut("\n\n".join(_clean(part) for part in parts if part)) or parcel.key[:LONGEST_NAME]


def _clean(text: str) -> str:
    return _STRANGE.sub(" ", text)


def _cut(text: str) -> str:
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= LONGEST_BODY else encoded[: LONGEST_BODY - 3].decode(errors="ignore") + "..."
