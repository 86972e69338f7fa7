"""The lab's certificates: an authority of its own, one certificate for the collector and one for each host's agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_collector.shell.config import certificates

if TYPE_CHECKING:
    from pathlib import Path

    from poolwarden_collector.shell.agents.order_key import OrderKey

COLLECTOR_DIRECTORY = "collector"
ORDER_KEY = "order-key"


def issue(
    directory: Path, host_uuids: list[str], collector_address: str, order_key: OrderKey | None = None
) -> dict[str, dict[str, bytes]]:
    """Make the authority in ``directory``; for each host the files of its etc/poolwarden/tls. Raises ca.CaError.

    ``order_key``: the collector's, whose public half each host pins; None: no host pins one.
    """
    authority = directory / "authority"
    certificates.create_ca(authority)
    certificates.issue_collector(authority, "lab", (collector_address, "127.0.0.1"), directory / COLLECTOR_DIRECTORY)
    issued: dict[str, dict[str, bytes]] = {}
    for uuid in host_uuids:
        bundle = certificates.issue_host(authority, uuid, directory / uuid)
        issued[uuid] = {path.name: path.read_bytes() for path in (bundle.ca, bundle.cert, bundle.key)}
        if order_key is not None:
            issued[uuid][ORDER_KEY] = order_key.public.hex().encode()
    return issued
