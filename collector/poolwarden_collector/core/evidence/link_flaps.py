"""Links that come and go: counted and told to a person, never a reason to do anything.

A flap is a host that is heard again in the same boot after it was lost without a goodbye: its stream broke, or was
silent for longer than ``suspect_after``. Many of them in ten minutes are one alert, not one for each. While this
collector is cut off from etcd none is counted: it sends agents away itself then, and its pools may stand still.

A host that says Hello in one new boot after the other is in a reboot loop, and is called so: each boot by itself looks
like a host that is coming back. Boots that alternate are two machines, and a matter of identity_conflict.py.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import FLAPPING, REBOOT_LOOP
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live_slices import Link, LinkFlaps
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

WINDOW_MS: Ms = 600_000
FLAPS = 5
LOOP_MS: Ms = 1_800_000
BOOTS = 3


def watch_links(tx: Transaction) -> None:
    """Compare who is heard with the step before; raise or resolve the alert of each link."""
    for host, agent in tx.live.agents.items():
        before = tx.live.link_flaps.links.get(host)
        heard, boot = tx.heard(host) is not None, agent.hello.boot_id
        if before is not None and before.boot != boot:
            _booted(tx, host, boot)
            before = None  # a reboot is no flap
        if before is None and not heard:
            continue
        excused = bool(agent.goodbye) or (before is not None and before.excused)
        link = Link(boot, agent.stream, heard, tx.site.cut_off or (excused and not heard))
        if link == before:
            continue
        lost = before is not None and (not before.heard or before.stream != agent.stream)
        if before is not None and heard and lost and before.boot == boot and not (before.excused or tx.site.cut_off):
            _flap(tx, host)
        tx.change(LinkFlaps, links={**tx.live.link_flaps.links, host: link})
    _say(tx)
    _say_loops(tx)


def _booted(tx: Transaction, host: HostId, boot: str) -> None:
    kept = tuple(
        (known, at) for known, at in tx.live.link_flaps.booted.get(host, ()) if known != boot and tx.now - at < LOOP_MS
    )
    tx.change(LinkFlaps, booted={**tx.live.link_flaps.booted, host: (*kept, (boot, tx.now))})


def _say_loops(tx: Transaction) -> None:
    for host, boots in tx.live.link_flaps.booted.items():
        times = sum(1 for _, at in boots if tx.now - at < LOOP_MS)
        if times < BOOTS or host in tx.record.identity or host not in tx.record.hosts:
            continue
        name = tx.name(host)
        body = (
            f"{name} has booted {times} times in {LOOP_MS // 60_000} min, and Poolwarden reboots no host. Each boot "
            "looks like a host that comes back, so whatever waits for it waits again. Look at its console and its "
            "crash dumps (/var/crash there); keep it switched off if it does not come up."
        )
        words = {"name": name, "times": str(times), "minutes": str(LOOP_MS // 60_000)}
        tx.raise_alert(AlertTopic(Matter.REBOOT_LOOP, host), REBOOT_LOOP, body, words, host=host)
    for topic in tx.open_topics:
        host = topic.host
        seen = [at for _, at in tx.live.link_flaps.booted.get(host, ()) if tx.now - at < LOOP_MS]
        if topic.matter is Matter.REBOOT_LOOP and not seen and tx.now - tx.site.started_at >= LOOP_MS:
            tx.resolve_alert(topic, f"{tx.name(host)} has not booted anew for {LOOP_MS // 60_000} min")


def is_flapping(pool: Snapshot, host: HostId) -> bool:
    """Has this host's link an open alert?"""
    return AlertTopic(Matter.FLAPPING, host) in pool.open_topics


def _flap(tx: Transaction, host: HostId) -> None:
    kept = tuple(at for at in tx.live.link_flaps.flaps.get(host, ()) if tx.now - at < WINDOW_MS)
    tx.change(LinkFlaps, flaps={**tx.live.link_flaps.flaps, host: (*kept, tx.now)})


def _recent(pool: Snapshot, host: HostId) -> int:
    return sum(1 for at in pool.live.link_flaps.flaps.get(host, ()) if pool.now - at < WINDOW_MS)


def _say(tx: Transaction) -> None:
    for host in tx.live.link_flaps.flaps:
        count = _recent(tx, host)
        if count >= FLAPS and not is_flapping(tx, host):
            name = tx.name(host)
            text = f"the link of {name} has flapped {count} times in {WINDOW_MS // 60_000} min"
            body = f"{text}. Nothing is done because of it; look at its management network and switch port."
            words = {"name": name, "times": str(count), "minutes": str(WINDOW_MS // 60_000)}
            tx.raise_alert(AlertTopic(Matter.FLAPPING, host), FLAPPING, body, words, host=host, flaps=count)
    for topic in tx.open_topics:
        host = topic.host
        if topic.matter is Matter.FLAPPING and not _recent(tx, host) and tx.now - tx.site.started_at >= WINDOW_MS:
            tx.resolve_alert(topic, f"the link of {tx.name(host)} has been steady for 10 min")
