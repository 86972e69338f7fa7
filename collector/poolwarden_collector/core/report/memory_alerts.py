"""dom0's memory that runs out: an alert before the kernel ends a process, with what helps, and its end.

Rules
-----
* The agent judges, with hysteresis, on its own samples; here a level only becomes an alert. One is open per host:
  another level, higher or lower, ends the one before and raises its own.
* Only what a heard agent says counts: a silent host's alert stays as it is, for nobody knows better.
* What helps depends on who uses the memory: a daemon of the toolstack is restarted and VMs run on; what serves a VM
  moves with it; xenstored cannot be restarted at all. More memory takes a reboot (XenServer's guide, "Configure control
  domain memory").
"""

from __future__ import annotations

from collections.abc import Collection

from poolwarden_collector.core.catalogue.hosts import MEMORY, MEMORY_CRITICAL
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import DiskLevel, HostFacts, MemoryUser
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.transaction import Transaction

CROSSED = (DiskLevel.WARNING, DiskLevel.CRITICAL, DiskLevel.FULL)
_XAPI = "xapi"
_TOOLSTACK = frozenset(
    {"xenopsd-xc", "xcp-networkd", "xcp-rrdd", "squeezed", "message-switch", "forkexecd", "perfmon", "v6d", "xapi-nbd"}
)
_XENSTORE = frozenset({"xenstored", "oxenstored"})
_OF_VMS = ("qemu", "tapdisk", "vgpu", "demu", "varstored", "swtpm")


def watch_memory(tx: Transaction, hosts: Collection[HostId]) -> None:
    """Alerts on dom0's memory of these hosts; and the end of those of hosts that have left the pool."""
    crossed = {host: level for host in hosts if (level := _level(tx, host)) is not None}
    for topic in [topic for topic in tx.open_topics if topic.matter is Matter.MEMORY]:
        host, gone = topic.host, topic.host not in tx.record.hosts
        other = host not in crossed or crossed[host].value != topic.detail
        if gone or (host in hosts and other and tx.heard(host) is not None):
            now = left(tx.live.agents[host].facts) if host in tx.live.agents else "it is not seen any more"
            tx.resolve_alert(topic, f"dom0 of {tx.name(host)}: {now}")
    for host, level in crossed.items():
        topic = AlertTopic(Matter.MEMORY, host, level.value)
        if topic not in tx.open_topics:
            _raise(tx, topic, host)


def _level(tx: Transaction, host: HostId) -> DiskLevel | None:
    """The crossed level of a heard host of this pool."""
    level = tx.live.agents[host].facts.memory_level
    if level not in CROSSED:
        return None  # nearly always: this is asked at every step
    return level if tx.heard(host) is not None and host in tx.record.hosts else None


def _raise(tx: Transaction, topic: AlertTopic, host: HostId) -> None:
    facts, name = tx.live.agents[host].facts, tx.name(host)
    message = MEMORY if topic.detail == DiskLevel.WARNING.value else MEMORY_CRITICAL
    users = used_by(facts)
    more = (
        f"more memory, from the next reboot of {name} on: /opt/xensource/libexec/xen-cmdline --set-xen "
        f"dom0_mem={2 * mib(facts.memory_total)}M,max:{2 * mib(facts.memory_total)}M"
    )
    words = {
        "name": name,
        "state": left(facts),
        "uses": f"; most is used by {users}" if users else "",
        "help": help_for(name, facts.memory_users[0] if facts.memory_users else None),
    }
    body = "\n".join(filter(None, (left(facts), f"most is used by {users}" if users else "", more)))
    tx.raise_alert(topic, message, body, words, host=host, level=topic.detail)


def mib(count: int) -> int:
    """Bytes in MiB."""
    return count >> 20


def left(facts: HostFacts) -> str:
    """What is left of dom0's memory, and until when it lasts, in words."""
    swap = f", {mib(facts.around.swap_free)} MiB of swap" if facts.around.swap_total else ", no swap"
    lasts = f", empty in about {span(facts.memory_empty_in_ms)}" if facts.memory_empty_in_ms else ""
    return f"{mib(facts.memory_available)} of {mib(facts.memory_total)} MiB are available{swap}{lasts}"


def used_by(facts: HostFacts) -> str:
    """Who uses most of it; empty where nobody has looked."""
    return ", ".join(f"{user.name} ({mib(user.bytes)} MiB, pid {user.pid})" for user in facts.memory_users[:3])


def help_for(name: str, biggest: MemoryUser | None) -> str:
    """What a person does, by the process that uses most."""
    if biggest is None:
        return f"on {name}: ps aux --sort=-rss shows who uses it"
    if biggest.name == _XAPI:
        return f"poolwarden restart-xapi {name}; its VMs run on"
    if biggest.name in _TOOLSTACK:
        return f"on {name}: xe-toolstack-restart; its VMs run on"
    if biggest.name in _XENSTORE:
        return f"xenstored cannot be restarted: move the VMs of {name} away (xe host-evacuate), then reboot it"
    if biggest.name.startswith(_OF_VMS):
        return f"it serves VMs: move some of them to another host (xe vm-migrate), or give dom0 of {name} more memory"
    return f"on {name}: systemctl status {biggest.pid} names its service; stop or restart that"
