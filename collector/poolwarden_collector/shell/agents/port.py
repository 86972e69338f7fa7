"""The agents' port as gRPC is told of it: its bounds and limits of time, and whose certificate it shows.

Rules
-----
* Keepalive 2 s / 1 s finds a cut link in about 1.6 s. Agents ping as often, and are not punished for it. Where every
  pool reports less often than that, the collector's own pings are for links on which a report is overdue.
* Certificates are read at every handshake: a renewed file is used from the next stream on, without a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from poolwarden_collector.shell.agents.budgets import LONGEST, MOST_HOSTS

if TYPE_CHECKING:
    from pathlib import Path

    from poolwarden_collector.shell.config.config import Config, Tls

MESSAGE_LIMIT = max(LONGEST.values()) + 64 * 1024  # gRPC's own, above those that are told by name
SEND_LIMIT = 8 * 1024 * 1024
KEEPALIVE, KEEPALIVE_MS = "grpc.keepalive_time_ms", 2_000
OVERDUE_MS = 1_000

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", SEND_LIMIT),
    (KEEPALIVE, KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
    # No ping with each report to learn how much the link takes: reports are small, and what is bigger is let in anyway.
    ("grpc.http2.bdp_probe", 0),
    # A connection that says nothing: without TLS and HTTP/2's first frame, without a stream, with many of them.
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_metadata_size", 8 * 1024),
    # gRPC hands calls over one by one, each within some turns of the loop. Those of a herd that wait for it keep their
    # places (gRPC's own: 30 s, 1,000 calls): each that is cut comes again by a new handshake, and no herd gets smaller.
    ("grpc.server_max_unrequested_time_in_server", 600),
    ("grpc.server.max_pending_requests", MOST_HOSTS),
    ("grpc.server.max_pending_requests_hard_limit", MOST_HOSTS),
)

_log = logging.getLogger(__name__)


def options(config: Config) -> tuple[tuple[str, int], ...]:
    """gRPC's settings of the agents' port, for as long as it is open."""
    policies = [config.policy, *(config.policy_of(pool) for pool in config.pools)]
    shortest = min(policy.report_interval for policy in policies)
    if shortest <= KEEPALIVE_MS:
        return OPTIONS
    # Each report begins the time anew: with this no ping goes out on a link on which they come as they shall.
    return tuple((name, shortest + OVERDUE_MS if name == KEEPALIVE else value) for name, value in OPTIONS)


def credentials(tls: Tls) -> grpc.ServerCredentials:
    """Mutual TLS from files that may be renewed while the collector runs."""
    first = _configuration(tls)
    return grpc.dynamic_ssl_server_credentials(first, _renewal(tls), require_client_authentication=True)


def _renewal(tls: Tls) -> Callable[[], Any]:
    seen = _stamps(tls)

    def fetch() -> Any:
        nonlocal seen
        try:
            stamps = _stamps(tls)
            if stamps == seen:
                return None
            fresh = _configuration(tls)
        except OSError as error:
            _log.warning("certificates cannot be read again (%s): the ones in use stay", error)
            return None
        seen = stamps
        _log.info("certificates were renewed")
        return fresh

    return fetch


def _stamps(tls: Tls) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in (tls.ca, tls.cert, tls.key))


def _configuration(tls: Tls) -> Any:
    pair = (_read(tls.key), _read(tls.cert))
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=_read(tls.ca))


def _read(path: Path) -> bytes:
    return path.read_bytes()
