"""The open alerts of a pool, the gravest first, and how many there are of each severity."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from poolwarden_collector.core.state.snapshot import Snapshot

SEVERITIES = ("critical", "warning", "info")  # the gravest first
RANK = {severity: number for number, severity in enumerate(SEVERITIES)}


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that was told and is not over."""

    key: str
    severity: str
    title: str


def open_alerts(pool: Snapshot) -> tuple[OpenAlert, ...]:
    """Every open alert, by severity, the oldest first of each."""
    record = pool.record
    found = [
        OpenAlert(key, record.severities.get(key) or "warning", record.titles.get(key) or key)
        for key in record.open_alerts
    ]
    found += [OpenAlert(*each) for each in pool.site.beside]
    return tuple(sorted(found, key=lambda alert: RANK[alert.severity]))


def severities(pool: Snapshot) -> dict[str, int]:
    """How many are open of each severity that there are any of, the gravest first."""
    record = pool.record
    found = Counter(record.severities.get(key) or "warning" for key in record.open_alerts)
    found.update(severity for _, severity, _ in pool.site.beside)
    return {severity: found[severity] for severity in SEVERITIES if found[severity]}


def counted(alerts: tuple[OpenAlert, ...]) -> str:
    """``1 critical, 2 warning``; empty: there are none."""
    counts = {severity: sum(alert.severity == severity for alert in alerts) for severity in SEVERITIES}
    return ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)
