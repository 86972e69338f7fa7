"""Whose certificate is at the other end of an operator's connection over a network.

Rule: the only identity is the certificate's single Poolwarden URI, ``poolwarden://operator/<name>``. Every other
certificate of the same authority is refused: a dom0 that somebody broke into holds its agent's key, and must not be
able to give the word that lets another host become master. One of several collectors may ask in an operator's name
(on_behalf.py).
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.operators import on_behalf
from poolwarden_collector.shell.operators.access import Caller
from poolwarden_collector.shell.operators.admission import Stranger
from poolwarden_collector.shell.operators.on_behalf import Knows

# On the socket and on an address: no request is longer than 64 KiB (a name is 256 bytes, a reason 2,000 characters),
# and one connection has so many calls at a time, those whose answers nobody reads among them.
BOUNDS = (
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.max_concurrent_streams", 32),
    ("grpc.max_metadata_size", 8 * 1024),
)
# A follower whose machine is gone without a word is noticed in 30 s, and its queue of entries is freed.
OPTIONS = (
    *(each for each in BOUNDS if each[0] != "grpc.max_metadata_size"),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", 32 * 1024),  # another collector says in whose name it asks (on_behalf.py)
    # A connection that does not come to an end of its handshake is nobody's; how many there are: doorkeeper.py.
    ("grpc.server_handshake_timeout_ms", 5_000),
)


class NoOperator(Stranger):
    """The peer's certificate is no operator's; the text is one sentence that says whose it is."""


def certified_operator(auth_context: dict[str, Any]) -> str:
    """The operator named by the peer's certificate. Raises NoOperator if it names none, or anything besides."""
    ours = _ours(auth_context)
    name = ours[0].removeprefix(certificates.operator_uri("")) if len(ours) == 1 else ""
    if not name or ours[0] != certificates.operator_uri(name) or not certificates.is_operator_name(name):
        whose = " and ".join(repr(uri[:100]) for uri in ours[:3]) or "nobody that Poolwarden knows"
        raise NoOperator(f"the certificate is of {whose}, not of an operator (poolwarden-collector issue-operator)")
    return name


def certified_collector(auth_context: dict[str, Any]) -> str:
    """The collector named by the peer's certificate; empty if it names none, or anything besides."""
    ours = _ours(auth_context)
    name = ours[0].removeprefix(certificates.collector_uri("")) if len(ours) == 1 else ""
    return name if name and ours[0] == certificates.collector_uri(name) else ""


def _ours(auth_context: dict[str, Any]) -> list[str]:
    # safety: URIs alone; the list of all alternative names would take a DNS name with the same text for an identity.
    uris = sorted(uri.decode("utf-8", "replace") for uri in auth_context.get("peer_uri", ()))
    return [uri for uri in uris if uri.startswith(certificates.URI_SCHEME)]


def caller(context: Any, knows: Knows | None = None) -> Caller:
    """Who calls over the network; ``knows``: of one of several collectors, which names the others have now.

    Raises Stranger.
    """
    told = context.auth_context()
    if knows is not None and (by := certified_collector(told)):
        return on_behalf.caller(context, by, knows)
    name = certified_operator(told)
    return Caller(name, f"certificate {name}", f"{context.peer()}, certificate {name}")
