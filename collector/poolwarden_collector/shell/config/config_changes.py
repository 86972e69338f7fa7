"""What differs between two configurations, by name: what a running collector takes over, and what it cannot.

Rules
-----
* Names only, and values of policies, which are no secrets: no parameter of a fence device, no address of a channel.
* What is not known to be replaceable in a running collector is not: a setting that is added needs a restart until it is
  named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from poolwarden_collector.core.model.policy import changes as policy_changes
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.config.alert_channels import Alerts, Channel
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.config.operators import Operators

REPLACEABLE = frozenset({"anchors", "policy", "pools", "fence", "alerts", "hooks", "journal", "operators"})
_NO_SETTING = frozenset({"file"})
_IN_COLLECTOR = {
    "name",
    "listen",
    "operator_listen",
    "operator_socket",
    "operator_group",
    "state_dir",
    "epoch_above",
    "term_above",
}
_PLACE = "place"  # of a block in the file: for messages alone
_SAID = 6  # changes in one line


def unchangeable(before: Config, after: Config) -> tuple[str, ...]:
    """The settings that differ and that no running collector can change, as they are written in the file."""
    found = []
    for item in fields(Config):
        if item.name in REPLACEABLE | _NO_SETTING:
            continue
        was, is_now = getattr(before, item.name), getattr(after, item.name)
        if item.name == "tls":
            found += [f"[tls] {name}" for name in _differing(was, is_now)]
        elif was != is_now:
            found.append(f"[collector] {item.name}" if item.name in _IN_COLLECTOR else f"[{item.name}]")
    return tuple(found)


def changes(before: Config, after: Config) -> tuple[str, ...]:
    """Every change that a running collector takes over, each in a few words."""
    general = policy_changes(before.policy, after.policy)
    found = ["anchors"] if before.anchors != after.anchors else []
    found += [f"policy: {text}" for text in general]
    for pool in sorted(before.pools.keys() | after.pools.keys()):
        found += [f"pool {_pool(pool, after)}: {text}" for text in _of_pool(pool, before, after, general)]
    found += [text for _, text in _devices(before, after)]
    found += _alerts(before.alerts, after.alerts)
    found += [f"hooks: {name}" for name in _differing(before.hooks, after.hooks)]
    found += [f"journal: {name}" for name in _differing(before.journal, after.journal)]
    found += _operators(before.operators, after.operators)
    return tuple(found)


def changes_of(pool: PoolId, hosts: Iterable[HostId], before: Config, after: Config) -> tuple[str, ...]:
    """Every change that concerns this pool, which has these hosts."""
    mine = frozenset(hosts)
    found = [f"policy: {text}" for text in policy_changes(before.policy_of(pool), after.policy_of(pool))]
    return (*found, *(text for host, text in _devices(before, after) if host in mine))


def _of_pool(pool: PoolId, before: Config, after: Config, general: list[str]) -> Iterator[str]:
    """What changes for a pool with settings of its own, beside what changes for all."""
    special = [each.pools[pool].name if pool in each.pools else "" for each in (before, after)]
    if special[0] != special[1]:
        yield "name"
    own = policy_changes(before.policy_of(pool), after.policy_of(pool))
    yield from (text for text in own if text not in general)


def _pool(pool: PoolId, config: Config) -> str:
    special = config.pools.get(pool)
    return special.name if special is not None and special.name else pool


def _devices(before: Config, after: Config) -> Iterator[tuple[HostId, str]]:
    """Each change of a device, with a host that it concerns."""
    was, is_now = ({device.name: device for device in each.fence} for each in (before, after))
    for name in dict.fromkeys((*was, *is_now)):
        old, new = was.get(name), is_now.get(name)
        if new is None and old is not None:
            yield old.host, f"fence device {name} removed"
        elif old is None and new is not None:
            yield new.host, f"fence device {name} added"
        elif old is not None and new is not None and (parts := _parts(old, new)):
            text = f"fence device {name}: {', '.join(parts)}"
            yield from ((host, text) for host in dict.fromkeys((old.host, new.host)))


def _parts(old: Fence, new: Fence) -> list[str]:
    """The settings of a block that differ, by name; of parameters their names, of secrets, too, and never a value."""
    named = {"limit_ms": "limit", "via_members": "via"}
    parts = [named.get(name, name) for name in _differing(old, new) if name not in ("parameters", _PLACE)]
    keys = sorted(old.parameters.keys() | new.parameters.keys())
    return parts + [key for key in keys if old.parameters.get(key) != new.parameters.get(key)]


def _operators(before: Operators, after: Operators) -> Iterator[str]:
    """Whose rights change, each name once."""
    of_one = [(each.kind, each.who) for each in (*before.entries, *after.entries)]
    for kind, who in dict.fromkeys(of_one):
        was, is_now = ([e for e in each.entries if (e.kind, e.who) == (kind, who)] for each in (before, after))
        if was != is_now:
            role = " and ".join(sorted({e.role.word for e in is_now})) or "no rights"
            yield f"operator {kind} {who}: {role}"
    if before.second_person != after.second_person:
        yield f"second_person: {', '.join(sorted(after.second_person)) or 'nothing'}"


def _alerts(before: Alerts, after: Alerts) -> Iterator[str]:
    was, is_now = ({channel.name: channel for channel in each.channels} for each in (before, after))
    for name in dict.fromkeys((*was, *is_now)):
        old, new = was.get(name), is_now.get(name)
        if new is None:
            yield f"alert channel {name} removed"
        elif old is None:
            yield f"alert channel {name} added"
        elif parts := _channel_parts(old, new):
            yield f"alert channel {name}: {', '.join(parts)}"
    yield from (f"alerts: {name}" for name in _differing(before, after) if name != "channels")


def _channel_parts(old: Channel, new: Channel) -> list[str]:
    if type(old.settings) is not type(new.settings):
        return ["its kind"]
    parts = [name for name in _differing(old, new) if name not in ("settings", "reach")]
    return [*parts, *_differing(old.settings, new.settings), *_differing(old.reach, new.reach)]


def _differing(before: Any, after: Any) -> list[str]:
    """The fields of two values of one type that differ, by name."""
    return [item.name for item in fields(before) if getattr(before, item.name) != getattr(after, item.name)]


def in_short(changes: tuple[str, ...]) -> str:
    """For a line of the history; the entry's data has all of them."""
    more = len(changes) - _SAID
    return "; ".join(changes) if more <= 0 else f"{'; '.join(changes[:_SAID])}; and {more} more"
