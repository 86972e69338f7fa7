"""Alerts in systemd's journal, each fact a field of its own, by the native protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).

Rules
-----
* One datagram per alert: ``NAME=value`` and a line feed; where the value holds one, ``NAME``, a line feed, its length
  as 64 bits little endian, the value, and a line feed.
* What is too long for a datagram is cut: the whole is told by ``poolwarden alerts``.
* The journal answers nothing: taken is what its socket took.
"""

from __future__ import annotations

import socket

from poolwarden_collector.shell.alerts.channels.wording import (
    body,
    cut,
    heading,
    is_over,
    line,
    message_id,
    place,
    severity,
)
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Journald
from poolwarden_collector.shell.store.journal import Parcel

LIMIT_S = 5.0
BODY_LIMIT = 32 * 1024  # bytes; a datagram holds at least 200 KiB (net.core.wmem_default)
FIELD_LIMIT = 2048
# sd-daemon(3): LOG_CRIT, LOG_WARNING, LOG_INFO; an end is LOG_NOTICE
PRIORITIES = {"critical": 2, "warning": 4, "info": 6}
OVER = 5


class JournaldSink:
    """One entry per parcel."""

    def __init__(self, journald: Journald, limit_s: float = LIMIT_S) -> None:
        self.name = journald.channel
        self._socket = str(journald.socket)
        self._limit_s = limit_s

    def deliver(self, parcel: Parcel) -> None:
        entry = b"".join(_field(name, value) for name, value in fields(parcel).items() if value)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(self._limit_s)
                sock.connect(self._socket)
                sock.sendall(entry)
        except OSError as error:
            raise SinkError(f"the journal at {self._socket} has not taken it: {error}") from None


def priority(parcel: Parcel) -> int:
    """As syslog numbers it."""
    return OVER if is_over(parcel) else PRIORITIES[severity(parcel)]


def fields(parcel: Parcel) -> dict[str, str]:
    """The entry's fields; what is empty is left out."""
    payload = parcel.payload
    where = place(parcel)
    facts = {
        "key": parcel.key,
        "occurrence": str(parcel.occurrence),
        "state": payload.get("state", parcel.state),
        "severity": severity(parcel),
        "message": message_id(parcel),
        **where,
        "collector": payload.get("collector", ""),
        "raised_at": payload.get("raised_at", ""),
        "resolved_at": payload.get("resolved_at", ""),
    }
    return {
        "MESSAGE": heading(parcel),
        "PRIORITY": str(priority(parcel)),
        "SYSLOG_IDENTIFIER": "poolwarden",
        "DOCUMENTATION": cut(line(payload.get("runbook", "")), FIELD_LIMIT),
        **{f"POOLWARDEN_{name.upper()}": cut(line(value), FIELD_LIMIT) for name, value in facts.items()},
        "POOLWARDEN_BODY": cut(body(parcel), BODY_LIMIT),
    }


def _field(name: str, value: str) -> bytes:
    encoded = value.encode()
    if b"\n" not in encoded:
        return b"%s=%s\n" % (name.encode(), encoded)
    return b"%s\n%s%s\n" % (name.encode(), len(encoded).to_bytes(8, "little"), encoded)
