"""Disks that fill up: an alert when a host's agent finds a level crossed, its end when that is over.

Rules
-----
* The agent judges, with hysteresis, on its own samples; here a level only becomes an alert. One is open per file
  system: another level, higher or lower, ends the one before and raises its own.
* Only what a heard agent says counts: a silent host's alert stays as it is, for nobody knows better.
* A ``/`` that is mounted read-only is as bad as a full one: xapi cannot write its database there.
* Alerts are kept by the journal, so a collector that restarts neither raises one again nor forgets one.
"""

from __future__ import annotations

from collections.abc import Collection

from poolwarden_collector.core.catalogue.hosts import DISK, DISK_CRITICAL
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import Disk, DiskLevel, Filling
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

_CROSSED = (DiskLevel.WARNING, DiskLevel.CRITICAL, DiskLevel.FULL)
_MEANS = {
    "/": "xapi keeps its database there: when it is full, changes are lost at the next restart of xapi",
    "/var/log": "logs stop, and whatever insists on writing one may hang or fail",
}


def watch_disks(tx: Transaction, hosts: Collection[HostId]) -> None:
    """Alerts on the disks of these hosts, as they are now; and the end of those of hosts that have left the pool."""
    wanted = {topic: (host, disk, word) for host in hosts for topic, disk, word in _crossed(tx, host)}
    for topic in [topic for topic in tx.open_topics if topic.matter is Matter.DISK]:
        host = topic.host
        looked_at = host in hosts or host not in tx.record.hosts
        if looked_at and topic not in wanted and (tx.heard(host) is not None or host not in tx.record.hosts):
            tx.resolve_alert(topic, _over(tx, topic))
    for topic, (host, disk, word) in wanted.items():
        _raise(tx, topic, host, disk, word)


def _crossed(pool: Snapshot, host: HostId) -> list[tuple[AlertTopic, Disk, str]]:
    if not any(disk.read_only or disk.level in _CROSSED for disk in pool.live.agents[host].facts.disks):
        return []  # nearly always: this is asked at every step
    agent = pool.heard(host)
    if agent is None or host not in pool.record.hosts:
        return []
    found = []
    for disk in agent.facts.disks:
        word = "read-only" if disk.read_only and disk.mount == "/" else disk.level.value
        if word == "read-only" or disk.level in _CROSSED:
            found.append((AlertTopic(Matter.DISK, host, f"{word}:{disk.mount}"), disk, word))
    return found


def _over(pool: Snapshot, topic: AlertTopic) -> str:
    host, (word, mount) = topic.host, topic.detail_by(":")
    agent = pool.heard(host)
    disk = next((disk for disk in agent.facts.disks if disk.mount == mount), None) if agent is not None else None
    if disk is None:
        return f"{mount} of {pool.name(host)} is not seen any more"
    used = max(disk.used_percent, disk.inodes_used_percent)
    return f"{mount} of {pool.name(host)} is no longer {word}: {used:.0f} % used"


def _raise(tx: Transaction, topic: AlertTopic, host: HostId, disk: Disk, word: str) -> None:
    if topic in tx.open_topics:
        return
    pool, name = tx.record.display_name, tx.name(host)
    message = DISK if word == DiskLevel.WARNING.value else DISK_CRITICAL
    agent = tx.heard(host)
    filling = agent.facts.filling if agent is not None else None
    body = "\n".join(
        [*disk_sentences(disk), *_MEANS.get(disk.mount, "").splitlines(), *_fills(filling), f"poolwarden disks {pool}"]
    )
    fills = _fills(filling)
    words = {
        "mount": disk.mount,
        "name": name,
        "state": "mounted read-only" if word == "read-only" else _state(disk),
        "fills": f"; {fills[0]}" if fills else "",
        "means": _MEANS.get(disk.mount, "what is stored there cannot grow"),
    }
    tx.raise_alert(topic, message, body, words, host=host, mount=disk.mount, level=word)


def _state(disk: Disk) -> str:
    if disk.inodes_used_percent > disk.used_percent:
        return f"{disk.inodes_used_percent:.0f} % full (inodes)"
    return f"{disk.used_percent:.0f} % full"


def disk_sentences(disk: Disk) -> list[str]:
    """A file system's state in sentences."""
    found = [
        f"{disk.mount}: {disk.used_percent:.0f} % of space and {disk.inodes_used_percent:.0f} % of inodes used, "
        f"{disk.free_bytes >> 20} MiB free"
    ]
    if disk.read_only:
        found.append(f"{disk.mount} is mounted read-only; dmesg on the host says why")
    if disk.full_in_ms:
        grows = f", growing by {disk.growth_per_hour >> 20} MiB an hour" if disk.growth_per_hour >> 20 else ""
        found.append(f"full in about {span(disk.full_in_ms)}{grows}")
    return found


def _fills(filling: Filling | None) -> list[str]:
    if filling is None:
        return []
    biggest = [f"/{f.path}: {f.bytes >> 20} MiB ({f.what})" for f in filling.fillers[:3] if f.bytes >> 20]
    return ["biggest places: " + "; ".join(biggest)] if biggest else []
