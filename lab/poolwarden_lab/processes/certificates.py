"""The lab's certificates: an authority of its own, one certificate for each collector and one for each host's agent.

The etcd of several collectors has another authority: no host's certificate opens it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwarden_collector.shell.config import certificates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from poolwarden_collector.shell.agents.order_key import OrderKey

COLLECTOR_DIRECTORY = "collector"
ORDER_KEY, ORDER_KEYS = "order-key", "order-keys"
LAB = "lab"  # the collector's name, where there is one


def issue(
    directory: Path,
    host_uuids: list[str],
    collector_addresses: Mapping[str, str],
    order_keys: tuple[OrderKey, ...] = (),
) -> dict[str, dict[str, bytes]]:
    """Make the authority in ``directory``; for each host the files of its etc/poolwarden/tls. Raises ca.CaError.

    ``collector_addresses``: by their names. ``order_keys``: whose public halves each host pins; none: no host pins one.
    """
    authority = directory / "authority"
    certificates.create_ca(authority)
    for name, address in collector_addresses.items():
        certificates.issue_collector(authority, name, (address, "127.0.0.1"), of_collector(directory, name))
    issued: dict[str, dict[str, bytes]] = {}
    for uuid in host_uuids:
        bundle = certificates.issue_host(authority, uuid, directory / uuid)
        issued[uuid] = {path.name: path.read_bytes() for path in (bundle.ca, bundle.cert, bundle.key)}
        if order_keys:
            issued[uuid][ORDER_KEY] = order_keys[0].public.hex().encode()
            issued[uuid][ORDER_KEYS] = "\n".join(key.public.hex() for key in order_keys).encode()
    return issued


def of_collector(directory: Path, name: str) -> Path:
    """Where the certificate of this collector is."""
    return directory / (COLLECTOR_DIRECTORY if name == LAB else name)


def issue_etcd(directory: Path, addresses: Mapping[str, str], collectors: list[str]) -> dict[str, certificates.Bundle]:
    """Make etcd's authority; for each member and each collector its certificate.

    Members look at the address from which another one speaks to them: on one loopback that is 127.0.0.1 of each.
    """
    certificates.create_ca(directory / "authority")
    at = {**addresses, **dict.fromkeys(collectors, "127.0.0.1")}
    return {
        name: certificates.issue_collector(
            directory / "authority", name, tuple({address, "127.0.0.1"}), directory / name
        )
        for name, address in at.items()
    }
