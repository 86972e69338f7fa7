"""The words that every message may use: the pool, its master, and which VMs run on or were lost from sight."""

from __future__ import annotations

from poolwarden import typed_names
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.snapshot import Snapshot

NAMED = 3
MOST_NAMES = 6


def common(pool: Snapshot) -> dict[str, str]:
    """Words of the pool as a whole."""
    master = pool.record.master
    return {
        "pool": pool.record.display_name,
        "master": pool.name(master) if master else "the master",
        "address": pool.record.address_of(master) or "address not known",
        "running": running(pool),
    }


def to_quote(pool: Pool) -> dict[str, str]:
    """Names of this pool that are quoted in a command (typed_names.py); nearly always none."""
    record = pool.record
    hosts = [(host.name, host.host) for host in record.hosts.values()]
    devices = [(device.name, "") for devices in pool.devices.values() for device in devices]
    vms_ = [(vm.name, vm.vm) for vm in record.after.lost.values()]
    return typed_names.to_quote([(record.display_name, record.pool), *hosts, *devices, *vms_])


def running(pool: Snapshot) -> str:
    """How many VMs run on the hosts that are heard."""
    counts = {
        host: len(agent.facts.domains or ())
        for host in sorted(pool.record.hosts, key=pool.name)
        if (agent := pool.heard(host)) is not None
    }
    if not counts:
        return "no host is heard"
    where = [pool.name(host) for host, count in counts.items() if count]
    on = ", ".join(where) if len(where) <= NAMED else f"{len(where)} hosts"
    return f"{vms(sum(counts.values()))} on {on}" if where else "no VM runs on the hosts that are heard"


def there(pool: Snapshot, host: HostId) -> str:
    """What is known of the VMs of a host that is not heard, or runs there."""
    agent, name = pool.agent(host), pool.name(host)
    if agent is None or agent.facts.domains is None:
        return f"VMs of {name} are not known"
    count = len(agent.facts.domains)
    if pool.heard(host) is not None:
        return f"{vms(count)} on {name}"
    if not count:
        return f"no VM ran on {name}"
    return f"whether {count} VM{'s run' if count != 1 else ' runs'} on {name} is not known"


def vms(count: int) -> str:
    """A number of running VMs, in words."""
    return f"{count} VM{'s run' if count != 1 else ' runs'}"


def lost(names: list[str]) -> str:
    """VMs that are down, by name as far as a line carries them."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{len(names)} VM{'s' if len(names) != 1 else ''} down: {', '.join(names[:MOST_NAMES])}{more}"
