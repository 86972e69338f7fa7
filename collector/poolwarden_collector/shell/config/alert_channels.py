"""The table [alerts]: the channels that are told of alerts, and which alerts each of them gets.

Rules
-----
* A channel is what it is (its settings, one type per kind: alert_kinds.py) and what reaches it (``Reach``), the same
  for every kind; ``alert_routes`` decides by it. The log has no table of its own: it gets everything.
* Its name in the journal is KIND:NAME; the log has no name of its own. A name stands once for each kind.
* Addresses often hold a token: they are never shown by ``repr`` and stand in no error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from poolwarden_collector.core.report.open_alerts import SEVERITIES
from poolwarden_collector.shell.config.alert_kinds import READERS, Kind, LogFile, Webhook
from poolwarden_collector.shell.config.toml_table import Table

__all__ = ["EVERY_LINE", "Alerts", "Channel", "LogFile", "Reach", "Settings", "Webhook", "read_alerts", "read_reach"]


@dataclass(frozen=True, slots=True)
class Reach:
    """Which alerts a channel gets, and how often.

    ``severity``: those at least this grave. ``pools`` (names or UUIDs) and ``sites``: those of these pools and of the
    pools at these sites; both empty: of every pool. ``remind_every``: ms, 0 for never. ``resolved``: whether it is told
    the ends. ``fold``: whether many that begin together become one message.
    """

    severity: str = "info"
    pools: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    remind_every: int = 0
    resolved: bool = True
    fold: bool = True

    @property
    def everywhere(self) -> bool:
        """Is it told of every pool?"""
        return not self.pools and not self.sites


EVERY_LINE = Reach(fold=False)
IN_POOL = "xapi"
GROUPED_THERE = ("alertmanager", "syslog", "journald", IN_POOL)  # they want each alert, and group by themselves
SHORTEST_REMINDER_MS = 60_000
SHORTEST_BEAT_MS, LONGEST_BEAT_MS = 10_000, 86_400_000


Settings = Kind


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel."""

    settings: Settings
    reach: Reach = Reach()

    @property
    def name(self) -> str:
        """Its name in the journal and for people."""
        return self.settings.channel


@dataclass(frozen=True, slots=True)
class Alerts:
    """Where alerts go.

    ``docs_base_url``: where the folder docs is served from, for the link of each alert to its runbook section; "": a
    path below docs. ``heartbeat_url``: what is asked for every ``heartbeat_every`` ms while the collector does its
    work; "": nothing.
    """

    channels: tuple[Channel, ...] = (Channel(LogFile("-"), EVERY_LINE),)
    docs_base_url: str = ""
    heartbeat_url: str = field(default="", repr=False)
    heartbeat_every: int = 60_000

    @property
    def names(self) -> tuple[str, ...]:
        """Every channel's name."""
        return tuple(channel.name for channel in self.channels)

    @property
    def log(self) -> str:
        """The path of the log; "": there is none."""
        return next((item.settings.path for item in self.channels if isinstance(item.settings, LogFile)), "")


def read_alerts(table: Table, environment: Mapping[str, str] = os.environ) -> Alerts:
    """``environment`` holds what ``secret_env`` names. Raises ConfigError."""
    log = table.text("log", "-")
    if log not in ("", "-"):
        log = str(table.file.parent.absolute() / log)
    channels = [Channel(LogFile(log), EVERY_LINE)] if log else []
    for kind, read in READERS.items():
        for item in table.tables(kind):
            channels.append(Channel(read(item, environment), read_reach(item)))
            item.done()
    names = [item.name for item in channels]
    for name in names:
        if names.count(name) > 1:
            kind, _, own = name.partition(":")
            raise table.wrong(kind, f"{own!r} is the name of another {kind}", f"a name of its own for each {kind}")
    docs = _address(table, "docs_base_url", table.text("docs_base_url", ""), "https://wiki.example/poolwarden/")
    beat = _address(table, "heartbeat_url", table.text("heartbeat_url", ""), "https://hc-ping.com/UUID")
    every = table.duration("heartbeat_every", 60_000)
    if not SHORTEST_BEAT_MS <= every <= LONGEST_BEAT_MS:
        raise table.wrong("heartbeat_every", "is too often or too seldom", "from 10s to 24h")
    table.done()
    return Alerts(tuple(channels), docs, beat, every)


def read_reach(item: Table) -> Reach:
    """The keys that every channel's table may have. Raises ConfigError."""
    severity = item.text("severity", "info", "a severity")
    if severity not in SEVERITIES:
        raise item.wrong("severity", f"is {severity!r}", f"one of {', '.join(SEVERITIES)}")
    every = item.duration("remind_every", 0)
    if 0 < every < SHORTEST_REMINDER_MS:
        raise item.wrong("remind_every", "is less than a minute", 'at least "1m", or "0s" for no reminders')
    kind = item.name.rpartition(".")[2].split()[0]
    fold = item.flag("fold", kind not in GROUPED_THERE)
    if fold and kind == IN_POOL:
        # A message of many alerts is of several pools: it could be shown in none of them.
        raise item.wrong("fold", "is true", "no fold: each pool is shown its own alerts, one by one")
    return Reach(
        severity,
        _names(item, "pools", 'a list such as ["north", "south"]; without the key: every pool'),
        _names(item, "sites", 'a list such as ["hall-1"]; without the key: every site'),
        every,
        item.flag("resolved", True),
        fold,
    )


def _names(item: Table, key: str, expected: str) -> tuple[str, ...]:
    names = item.texts(key)
    if item.has(key) and (not names or not all(names) or len(set(names)) != len(names)):
        raise item.wrong(key, "is empty, or names something twice or without a name", expected)
    return names


def _address(table: Table, key: str, url: str, example: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise table.wrong(key, "is no http or https address", f"e.g. {example}")
    return url
