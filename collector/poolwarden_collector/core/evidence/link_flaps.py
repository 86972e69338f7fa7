"""Links that come and go: counted and told to a person, never a reason to do anything.

A flap is a host that is heard again in the same boot after it was lost without a goodbye: its stream broke, or was
silent for longer than ``suspect_after``. Many of them in ten minutes are one alert, not one for each.

A host that says Hello in one new boot after the other is in a reboot loop, and is called so: each boot by itself looks
like a host that is coming back. Boots that alternate are two machines, and a matter of identity_conflict.py.
"""

from __future__ import annotations

from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import Link
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

WINDOW_MS: Ms = 600_000
FLAPS = 5
LOOP_MS: Ms = 1_800_000
BOOTS = 3


def watch_links(d: Transaction) -> None:
    """Compare who is heard with the step before; raise or resolve the alert of each link."""
    for host, agent in d.live.agents.items():
        before = d.live.links.get(host)
        heard, boot = d.heard(host) is not None, agent.hello.boot_id
        if before is not None and before.boot != boot:
            _booted(d, host, boot)
            before = None  # a reboot is no flap
        if before is None and not heard:
            continue
        excused = bool(agent.goodbye) or (before is not None and before.excused)
        link = Link(boot, agent.stream, heard, excused and not heard)
        if link == before:
            continue
        lost = before is not None and (not before.heard or before.stream != agent.stream)
        if before is not None and heard and lost and before.boot == boot and not before.excused:
            _flap(d, host)
        d.change(links={**d.live.links, host: link})
    _say(d)
    _say_loops(d)


def _booted(d: Transaction, host: HostId, boot: str) -> None:
    kept = tuple((known, at) for known, at in d.live.booted.get(host, ()) if known != boot and d.now - at < LOOP_MS)
    d.change(booted={**d.live.booted, host: (*kept, (boot, d.now))})


def _say_loops(d: Transaction) -> None:
    pool = d.record.name or d.record.pool
    for host, boots in d.live.booted.items():
        times = sum(1 for _, at in boots if d.now - at < LOOP_MS)
        if times < BOOTS or host in d.record.identity or host not in d.record.hosts:
            continue
        name = d.name(host)
        body = (
            f"{name} has booted {times} times in {LOOP_MS // 60_000} min, and Poolwarden reboots no host. Each boot "
            "looks like a host that comes back, so whatever waits for it waits again. Look at its console and its "
            "crash dumps (/var/crash there); keep it switched off if it does not come up."
        )
        d.raise_alert(
            AlertTopic(Matter.REBOOT_LOOP, host), "critical", f"{pool}: {name} is in a reboot loop", body, host=host
        )
    for topic in d.open_topics:
        host = topic.host
        seen = [at for _, at in d.live.booted.get(host, ()) if d.now - at < LOOP_MS]
        if topic.matter is Matter.REBOOT_LOOP and not seen and d.now - d.site.started_at >= LOOP_MS:
            d.resolve_alert(topic, f"{d.name(host)} has not booted anew for {LOOP_MS // 60_000} min")


def is_flapping(d: Snapshot, host: HostId) -> bool:
    """Has this host's link an open alert?"""
    return AlertTopic(Matter.FLAPPING, host) in d.open_topics


def _flap(d: Transaction, host: HostId) -> None:
    kept = tuple(at for at in d.live.flaps.get(host, ()) if d.now - at < WINDOW_MS)
    d.change(flaps={**d.live.flaps, host: (*kept, d.now)})


def _recent(d: Snapshot, host: HostId) -> int:
    return sum(1 for at in d.live.flaps.get(host, ()) if d.now - at < WINDOW_MS)


def _say(d: Transaction) -> None:
    for host in d.live.flaps:
        count = _recent(d, host)
        if count >= FLAPS and not is_flapping(d, host):
            pool, name = d.record.name or d.record.pool, d.name(host)
            text = f"the link of {name} has flapped {count} times in {WINDOW_MS // 60_000} min"
            body = f"{text}. Nothing is done because of it; look at its management network and switch port."
            d.raise_alert(AlertTopic(Matter.FLAPPING, host), "warning", f"{pool}: {text}", body, host=host, flaps=count)
    for topic in d.open_topics:
        host = topic.host
        if topic.matter is Matter.FLAPPING and not _recent(d, host) and d.now - d.site.started_at >= WINDOW_MS:
            d.resolve_alert(topic, f"the link of {d.name(host)} has been steady for 10 min")
