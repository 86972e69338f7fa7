"""Links that come and go: counted and told to a person, never a reason to do anything.

A flap is a host that is heard again in the same boot after it was lost without a goodbye: its stream broke, or was
silent for longer than ``suspect_after``. Many of them in ten minutes are one alert, not one for each.
"""

from __future__ import annotations

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.facts import HostId, Ms
from poolwarden_collector.core.live import Link

WINDOW_MS: Ms = 600_000
FLAPS = 5


def watch(d: Draft) -> None:
    """Compare who is heard with the step before; raise or resolve the alert of each link."""
    for host, agent in d.live.agents.items():
        before = d.live.links.get(host)
        heard, boot = d.heard(host) is not None, agent.hello.boot_id
        if before is not None and before.boot != boot:
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


def is_flapping(d: Draft, host: HostId) -> bool:
    """Has this host's link an open alert?"""
    return f"{d.record.pool}/{_key(host)}" in d.record.open_alerts


def _flap(d: Draft, host: HostId) -> None:
    kept = tuple(at for at in d.live.flaps.get(host, ()) if d.now - at < WINDOW_MS)
    d.change(flaps={**d.live.flaps, host: (*kept, d.now)})


def _key(host: HostId) -> str:
    return f"flapping-{host}"


def _recent(d: Draft, host: HostId) -> int:
    return sum(1 for at in d.live.flaps.get(host, ()) if d.now - at < WINDOW_MS)


def _say(d: Draft) -> None:
    for host in d.live.flaps:
        count = _recent(d, host)
        if count >= FLAPS and not is_flapping(d, host):
            pool, name = d.record.name or d.record.pool, d.name(host)
            text = f"the link of {name} has flapped {count} times in {WINDOW_MS // 60_000} min"
            body = f"{text}. Nothing is done because of it; look at its management network and switch port."
            d.raise_alert(_key(host), "warning", f"{pool}: {text}", body, host=host, flaps=count)
    prefix = f"{d.record.pool}/{_key('')}"
    for key in d.record.open_alerts:
        host = key.removeprefix(prefix)
        if key.startswith(prefix) and not _recent(d, host) and d.now - d.site.started_at >= WINDOW_MS:
            d.resolve_alert(key, f"the link of {d.name(host)} has been steady for 10 min")
