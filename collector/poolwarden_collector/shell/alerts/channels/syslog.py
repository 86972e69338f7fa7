"""Alerts as syslog messages of RFC 5424, over UDP (RFC 5426), TCP (RFC 6587), TLS (RFC 5425) or a local socket.

Rules
-----
* The facts stand as structured data, ``[poolwarden@32473 key="..." ...]``; in its values ``"``, ``\\`` and ``]`` are
  escaped (RFC 5424, 6.3.3), and no control character is left anywhere. 32473 is the number that RFC 5612 keeps for
  whoever has none of their own.
* Over TCP and TLS each message is preceded by its length (octet counting, RFC 6587, 3.4.1): what it holds can never
  begin another message.
* Syslog answers nothing. Over TCP and TLS a message is taken when the receiver has closed the connection after reading
  to its end, so one that hangs has not taken it; over UDP and a local socket it is taken when it was sent.
"""

from __future__ import annotations

import os
import re
import socket
import ssl

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.channels.journald import priority
from poolwarden_collector.shell.alerts.channels.limits import Limit
from poolwarden_collector.shell.alerts.channels.wording import (
    body,
    cut,
    heading,
    line,
    message_id,
    place,
    severity,
)
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Syslog
from poolwarden_collector.shell.store.journal import Parcel

STEP_LIMIT_S = 5.0
LIMIT_S = 15.0
MESSAGE_LIMIT = 2048  # bytes: what every receiver should take (RFC 5424, 6.1)
VALUE_LIMIT = 256
SD_ID = "poolwarden@32473"


class SyslogSink:
    """One message per parcel."""

    def __init__(self, syslog: Syslog, step_limit_s: float = STEP_LIMIT_S, limit_s: float = LIMIT_S) -> None:
        self.name = syslog.channel
        self._syslog = syslog
        self._step_limit_s = step_limit_s
        self._limit_s = limit_s

    def deliver(self, parcel: Parcel) -> None:
        told = message(parcel, self._syslog.facility)
        limit = Limit(self._limit_s)
        try:
            if self._syslog.transport == "unix":
                self._send_here(told)
            elif self._syslog.transport == "udp":
                self._send_datagram(told)
            else:
                self._send_stream(b"%d %s" % (len(told), told), limit)
        except ssl.SSLCertVerificationError as error:
            raise SinkError(f"the receiver's certificate is not accepted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            why = f"not done within {self._limit_s:g} s" if limit.reached else str(error)
            raise SinkError(f"the syslog receiver has not taken it: {why}") from None

    def _send_here(self, told: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(self._step_limit_s)
            sock.connect(self._syslog.server)
            sock.sendall(told)

    def _send_datagram(self, told: bytes) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            self._syslog.server, self._syslog.port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(self._step_limit_s)
            sock.connect(address)
            sock.sendall(told)

    def _send_stream(self, told: bytes, limit: Limit) -> None:
        where = (self._syslog.server, self._syslog.port)
        with socket.create_connection(where, timeout=self._step_limit_s) as plain:
            if self._syslog.transport == "tcp":
                _send_to_the_end(plain, told, limit)
                return
            context = ssl.create_default_context(cafile=str(self._syslog.ca) if self._syslog.ca else None)
            with context.wrap_socket(plain, server_hostname=self._syslog.server) as sock:
                _send_to_the_end(sock, told, limit)


def _send_to_the_end(sock: socket.socket, told: bytes, limit: Limit) -> None:
    """Send, say that this is all, and wait until the receiver has read to there and closes."""
    with limit.over(lambda: sock):
        sock.sendall(told)
        if isinstance(sock, ssl.SSLSocket):
            _close_tls(sock)
        else:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                continue
    if limit.reached:
        raise TimeoutError("not done in time")


def _close_tls(sock: ssl.SSLSocket) -> None:
    """Each side says goodbye (RFC 5425, 4.4); a receiver that closes instead has read to the end, too."""
    try:
        sock.unwrap()
    except ssl.SSLEOFError:
        return
    except OSError as error:
        if error.errno != 0:  # 0: the connection's end, as older versions of the library say it
            raise


def message(parcel: Parcel, facility: int) -> bytes:
    """The whole message: header, structured data, and a text of one line (RFC 5424, 6)."""
    payload = parcel.payload
    facts = {
        "key": parcel.key,
        "occurrence": parcel.occurrence,
        "state": payload.get("state", parcel.state),
        "severity": severity(parcel),
        **place(parcel),
        "collector": payload.get("collector", ""),
        "raised_at": payload.get("raised_at", ""),
        "resolved_at": payload.get("resolved_at", ""),
        "runbook": payload.get("runbook", ""),
    }
    told = "".join(f' {name}="{_escaped(value)}"' for name, value in facts.items() if value)
    head = (
        f"<{facility * 8 + priority(parcel)}>1 {clock.wall_text()} {_word(socket.gethostname(), 255)} poolwarden"
        f" {os.getpid()} {_word(message_id(parcel), 32)} [{SD_ID}{told}] "
    )
    said = line(" | ".join(each for each in (heading(parcel), *body(parcel).split("\n\n")[0].split("\n")) if each))
    # The byte order mark says that what follows is UTF-8 (RFC 5424, 6.4).
    start = head.encode() + b"\xef\xbb\xbf"
    return start + cut(said, max(480, MESSAGE_LIMIT - len(start))).encode()


def _escaped(value: object) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", cut(line(value), VALUE_LIMIT))


def _word(text: str, limit: int) -> str:
    """Printable ASCII without blanks, at most so long; a hyphen where nothing is left (RFC 5424, 6)."""
    return re.sub(r"[^!-~]", "_", text)[:limit] or "-"
