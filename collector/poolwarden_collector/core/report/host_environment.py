"""What surrounds xapi on a host, in lines for people, and the few of them that are worth an alert.

Rules
-----
* Nothing decides by any of this; it says what a person should look at before a failover shows it.
* A line has a level. Alerts are raised for what goes wrong slowly and hurts suddenly, a certificate that ends,
  one that cannot be read, and a clock that is off, once each, and end once; the rest stands in ``host show``.
* A clock is told again only after it was within two thirds of the limit: it may vary around it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from poolwarden_collector.core.catalogue.hosts import ENVIRONMENT, ENVIRONMENT_CRITICAL
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import Certificate, DiskLevel, HostEnvironment, HostFacts
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.report.memory_alerts import CROSSED, left, used_by
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

SOON_DAYS, VERY_SOON_DAYS = 30, 7
CLOCK_LIMIT_MS: Ms = 30_000
CLOCK_CALM_MS: Ms = 20_000
LOW_MEMORY = 0.05
MEMORY_LINE = "dom0's memory"
# Without these VMs, networks or other hosts are not served; the rest may be off on purpose.
NEEDED = frozenset(
    {"xenopsd-xc.service", "xcp-networkd.service", "message-switch.service", "forkexecd.service", "xenstored.service",
     "stunnel@xapi.service"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One matter: its name, a sentence, and "" (fine), "warning" or "critical"."""

    name: str
    text: str
    level: str = ""


def lines(facts: HostFacts, now: Ms) -> tuple[Line, ...]:
    """Everything that is known; what is not known has no line."""
    around = facts.around
    found = [
        _services(facts),
        _network(around),
        _multipath(around),
        _clock(around),
        _memory(facts),
        _written(around, now),
    ]
    found += [_certificate(c) for c in around.certificates]
    versions = [("Xen", around.xen), ("kernel", around.kernel), ("build", around.build)]
    if any(value for _, value in versions):
        found.append(Line("versions", ", ".join(f"{name} {value}" for name, value in versions if value)))
    return tuple(line for line in found if line is not None)


def _services(facts: HostFacts) -> Line | None:
    services = facts.around.services
    if not services:
        return None
    off = [name.removesuffix(".service") for name, state in services if state == "inactive"]
    lacking = [name for name, state in services if state == "inactive" and name in NEEDED]
    if not off:
        return Line("services", f"all {len(services)} run")
    level = "warning" if lacking and facts.hold is None else ""
    return Line("services", f"{len(services) - len(off)} of {len(services)} run; not: {', '.join(off)}", level)


def _network(around: HostEnvironment) -> Line | None:
    if not around.management_interface and not around.nics:
        return None
    nics = [f"{n.name} {_link(n.link)}{f' {n.speed_mbit} Mbit/s' if n.speed_mbit else ''}" for n in around.nics]
    own = f"management on {around.management_interface or 'nothing'} ({_link(around.management_link)})"
    half = [b for b in {n.bond for n in around.nics if n.bond} if _half_down(around, b)]
    text = "; ".join([own, *nics, *(f"{bond} has lost a link" for bond in sorted(half))])
    return Line("network", text, "warning" if half or around.management_link is Tri.NO else "")


def _half_down(around: HostEnvironment, bond: str) -> bool:
    return any(n.link is Tri.NO for n in around.nics if n.bond == bond)


def _link(value: Tri) -> str:
    return {Tri.YES: "up", Tri.NO: "no link", Tri.UNKNOWN: "link not known"}[value]


def _multipath(around: HostEnvironment) -> Line | None:
    if not around.maps:
        return None
    lacking = [f"{m.name} {m.up} of {max(m.most, m.paths)}" for m in around.maps if m.up < max(m.most, m.paths)]
    if not lacking:
        return Line("multipath", f"{len(around.maps)} devices, all paths up")
    dead = any(m.up == 0 for m in around.maps)
    return Line("multipath", f"paths up: {', '.join(lacking)}", "critical" if dead else "warning")


def _clock(around: HostEnvironment) -> Line | None:
    if around.clock_offset_ms is None:
        return None
    off = around.clock_offset_ms
    if abs(off) < 1_000:
        return Line("clock", "agrees with the collector's")
    text = f"{abs(off) / 1000:.1f} s {'ahead of' if off > 0 else 'behind'} the collector's"
    return Line("clock", text, "warning" if abs(off) >= CLOCK_LIMIT_MS else "")


def _memory(facts: HostFacts) -> Line | None:
    if not facts.memory_total:
        return None
    share, around = facts.memory_available / facts.memory_total, facts.around
    if share >= LOW_MEMORY and not around.swap_total:
        return None
    if facts.memory_level in CROSSED:
        users = used_by(facts)
        text = f"{left(facts)}{f'; most is used by {users}' if users else ''}"
        return Line(MEMORY_LINE, text, "warning" if facts.memory_level is DiskLevel.WARNING else "critical")
    swap = f", swap {(around.swap_total - around.swap_free) >> 20} of {around.swap_total >> 20} MiB used"
    text = (
        f"{facts.memory_available >> 20} of {facts.memory_total >> 20} MiB available{swap if around.swap_total else ''}"
    )
    low = share < LOW_MEMORY and facts.memory_level is DiskLevel.UNKNOWN  # an older agent does not judge it
    return Line(MEMORY_LINE, text, "warning" if low else "")


def _written(around: HostEnvironment, now: Ms) -> Line | None:
    if around.database_written_at is None:
        return None
    return Line("database file", f"written {span(max(0, now - around.database_written_at))} ago")


def _certificate(c: Certificate) -> Line:
    name = f"certificate ({c.name})"
    if c.days_left is None:
        return Line(name, c.text or "its end is not known", "warning" if c.text else "")
    if c.days_left < 0:
        return Line(name, f"ended {-c.days_left} days ago", "critical" if _ours(c) else "warning")
    level = "" if c.days_left > SOON_DAYS else "critical" if c.days_left <= VERY_SOON_DAYS and _ours(c) else "warning"
    return Line(name, f"ends in {c.days_left} days", level)


def _ours(c: Certificate) -> bool:
    """Without these the agent cannot reach its collector; xapi renews its own."""
    return c.name in ("agent", "collector's authority")


# ------------------------------------------------------------------------------------------------ alerts


def watch_environment(tx: Transaction, hosts: Collection[HostId]) -> None:
    """Alerts on certificates and clocks of these hosts; and the end of those of hosts that have left the pool."""
    opened = {topic for topic in tx.open_topics if topic.matter is Matter.AROUND}
    wanted = {topic: (host, line) for host in hosts for topic, line in _worth_telling(tx, host, opened)}
    for topic in sorted(opened - set(wanted), key=lambda topic: topic.text):
        host = topic.host
        left = host not in tx.record.hosts
        if left or (host in hosts and tx.heard(host) is not None):
            tx.resolve_alert(topic, f"{tx.name(host)}: {topic.detail_by('/')[1]} is fine again")
    for topic, (host, line) in wanted.items():
        if topic not in opened:
            name, what = tx.name(host), f"{line.name} {line.text}"
            help_ = _HELP.get(line.name.split(" ")[0], "")
            message = ENVIRONMENT if line.level == "warning" else ENVIRONMENT_CRITICAL
            words = {"name": name, "what": what, "help": help_ or f"poolwarden host show {name}"}
            tx.raise_alert(topic, message, f"{name}: {what}\n{help_}", words, host=host, level=line.level)


_HELP = {
    "certificate": "poolwarden host show HOST names every certificate; docs/operating.md says how one is renewed",
    "clock": "logs and alerts cannot be compared, and certificates may be refused: check chronyd or ntpd there",
}


def _worth_telling(pool: Snapshot, host: HostId, opened: set[AlertTopic]) -> list[tuple[AlertTopic, Line]]:
    around = pool.live.agents[host].facts.around
    off = abs(around.clock_offset_ms or 0)
    if off < CLOCK_CALM_MS and not any(
        c.text if c.days_left is None else c.days_left <= SOON_DAYS for c in around.certificates
    ):
        return []  # nearly always: this is asked at every step
    if pool.heard(host) is None or host not in pool.record.hosts:
        return []
    found = [
        (AlertTopic(Matter.AROUND, host, f"{line.level}/{c.name}"), line)
        for c in around.certificates
        if (line := _certificate(c)).level
    ]
    clock, topic = _clock(around), AlertTopic(Matter.AROUND, host, "warning/clock")
    if clock is not None and (off >= CLOCK_LIMIT_MS or (topic in opened and off >= CLOCK_CALM_MS)):
        found.append((topic, Line(clock.name, clock.text, "warning")))
    return [item for item in found if "not known" not in item[1].text]
