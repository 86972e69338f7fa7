"""What a host's Hello says of whose orders it obeys: which collectors are not among them, and what it cannot use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.shell.agents.order_key import key_id

MOST_SHOWN = 4  # keys in a sentence


def pinned(hello: pb.Hello) -> list[str]:
    """The ids of the order keys that this host has pinned; an agent of an earlier version pins one alone."""
    return [each[:16] for each in (hello.order_key_ids or (hello.order_key_id,)) if each]


def warnings(hello: pb.Hello, mine: str, others: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Each warning and its topic; ``mine``: the id of the key that this collector signs with, empty: none.

    ``others``: of several collectors the public key (hex) that each of the others signs with, by its name; None: it is
    alone. The epochs of several are further above a counted one than is taken of an unsigned word.
    """
    host, keys = f"host {hello.host_uuid} ({hello.host_name})", pinned(hello)
    if keys and mine not in keys:
        shown = f"order key{'s' * (len(keys) > 1)} {', '.join(keys[:MOST_SHOWN])}"
        text = (
            f"{host} has pinned the {shown}, this collector signs with {mine or 'none'}: it refuses every order. "
            "Restore this collector's order-key.pem, pin its key there (poolwarden-agent trust-key), or enrol it anew"
        )
        yield text, f"host {hello.host_uuid}: order key"
    if others is not None and not keys:
        text = (
            f"{host} has pinned no order key: it refuses every order of several collectors. Pin there those of all of "
            "them (poolwarden-agent trust-key --add), or enrol it"
        )
        yield text, f"host {hello.host_uuid}: order key"
    for name, key in (others or {}).items() if keys else ():
        if key_id(bytes.fromhex(key)) not in keys:
            text = (
                f"{host} has not pinned the order key of collector {name}: it refuses every order of it once that has "
                f"its pool. On that host: poolwarden-agent trust-key --add {key}"
            )
            yield text, f"host {hello.host_uuid}: order key of {name}"
    if hello.local_trouble:
        # One topic of each host, whatever it is called: its words must not push out what else there is to warn of.
        yield f"{host}: {hello.local_trouble[:300]}", f"host {hello.host_uuid}: local files"
