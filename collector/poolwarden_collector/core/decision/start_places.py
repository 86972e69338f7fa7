"""Where VMs of a dead host can start, by what is heard of the other hosts.

Rule: which VM uses which storage and network no agent reports, so this names hosts that take VMs at all: heard, live
and enabled by the serving master's view. xapi has the last word on each (followups/lost_vms.py asks it before a start).
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.snapshot import Snapshot


def start_places(pool: Snapshot, master: HostId, dead: HostId) -> str:
    """The hosts on which VMs of ``dead`` can start, by name, with what they lack; a sentence where there is none."""
    view = master_view(pool, master)
    known = {item.host: item for item in view.hosts} if view is not None else {}
    found, disabled = [], []
    for host in sorted(pool.record.hosts, key=pool.name):
        item = known.get(host)
        if host == dead or pool.heard(host) is None or (item is not None and not item.live):
            continue
        if item is not None and not item.enabled:
            disabled.append(pool.name(host))
            continue
        lacks = f" (without {', '.join(item.unplugged_srs)})" if item is not None and item.unplugged_srs else ""
        found.append(f"{pool.name(host)}{lacks}")
    if found:
        return ", ".join(found)
    return f"{', '.join(disabled)}, once enabled" if disabled else "no host that is up now"
