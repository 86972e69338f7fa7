"""Which channels an alert reaches, and of what no channel would tell a person.

Rules
-----
* An alert reaches each channel whose ``Reach`` has its severity and its pool. What is about the collector itself, of no
  pool, reaches the channels of every pool; where none of them takes it, every channel that has its severity.
* safety: what says that two hosts may be master at once reaches every channel, whatever its keys.
* It is decided once, as the alert is committed; its end goes where its beginning went.
* A log is read by nobody at the instant at which it matters: it counts for no person.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.catalogue.two_masters import about_two_masters
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.report.open_alerts import RANK, SEVERITIES
from poolwarden_collector.shell.config.alert_channels import Channel, Reach

LOGS = ("log", "syslog", "journald", "xapi")  # kinds of channels: the part of their names before the colon


@dataclass(frozen=True, slots=True)
class Routes:
    """``site``: where a pool stands; ``called``: another name that the configuration gives a pool, or ""."""

    channels: tuple[Channel, ...]
    site: Callable[[PoolId], str]
    called: Callable[[PoolId], str]

    def to(self, alert: Mapping[str, Any], pool_name: str) -> tuple[str, ...]:
        """The channels that this row of the table of alerts reaches."""
        if about_two_masters(json.loads(alert["data"])):
            return tuple(channel.name for channel in self.channels)
        grave = [channel for channel in self.channels if _grave_enough(channel.reach, alert["severity"])]
        if alert["pool"]:
            found = [channel for channel in grave if self._has(channel.reach, alert["pool"], pool_name)]
        else:
            found = [channel for channel in grave if channel.reach.everywhere]
            found = found if any(map(tells_a_person, found)) else grave
        return tuple(channel.name for channel in found)

    def reach(self, sink: str) -> Reach:
        """The keys of the channel of this name; of one that is not configured any more the usual ones."""
        return next((channel.reach for channel in self.channels if channel.name == sink), Reach())

    def _has(self, reach: Reach, pool: PoolId, name: str) -> bool:
        if reach.everywhere:
            return True
        names = {pool, name, self.called(pool)} - {""}
        return bool(names.intersection(reach.pools)) or self.site(pool) in reach.sites

    def unheard(self, pools: Mapping[PoolId, str]) -> Iterator[str]:
        """What no channel would tell a person of, one sentence each. ``pools``: those known, each with its name."""
        people = [channel for channel in self.channels if tells_a_person(channel)]
        if not people:
            what = "only a log" if self.channels else "nothing"
            yield f"no person is told of any alert: {what} is configured in [alerts]; add a channel, e.g. a mail"
            return
        deaf = [each for each in SEVERITIES if not any(_grave_enough(channel.reach, each) for channel in people)]
        if deaf:
            yield f"no person is told of {_and(deaf)} alerts: each channel's severity is above"
        if not any(channel.reach.everywhere for channel in people):
            yield (
                "a pool that is not named yet is told to nobody: each channel has pools or sites; "
                "leave one channel without both"
            )
        for pool, name in pools.items():
            deaf_here = [each for each in SEVERITIES if each not in deaf and not self._heard(people, pool, name, each)]
            if deaf_here:
                yield f"pool {name or pool}: no person is told of its {_and(deaf_here)} alerts"
        yield from self._useless(pools)

    def _heard(self, people: list[Channel], pool: PoolId, name: str, severity: str) -> bool:
        return any(_grave_enough(each.reach, severity) and self._has(each.reach, pool, name) for each in people)

    def _useless(self, pools: Mapping[PoolId, str]) -> Iterator[str]:
        """Channels that name sites of no pool."""
        there = {self.site(pool) for pool in pools}
        for channel in self.channels:
            reach = channel.reach
            none = [site for site in reach.sites if site not in there]
            if none:
                yield f"channel {channel.name}: no pool has the site {_and(none)} ([pools.UUID.policy] site)"


def tells_a_person(channel: Channel) -> bool:
    """Does it go to somebody, and not only into a file?"""
    return channel.name.partition(":")[0] not in LOGS


def _grave_enough(reach: Reach, severity: str) -> bool:
    return RANK.get(severity, 0) <= RANK[reach.severity]  # the gravest is 0


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
