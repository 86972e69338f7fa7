"""Another configuration, as engine_loop.py takes it over: what each pool gets of it, and what forbids it."""

from __future__ import annotations

from collections.abc import Mapping

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.core.reconfigure import changed_devices, reconfigured, switching
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.config.config_changes import changes_of, in_short
from poolwarden_collector.shell.loop.ready import Commit, NotReconfigured, Reconfiguration

Devices = dict[HostId, tuple[FenceDevice, ...]]


def unrecorded(why: str) -> NotReconfigured:
    """It cannot be recorded."""
    text = f"nothing can be recorded, so nothing is changed: {why}"
    return NotReconfigured(text, "Make room on the journal's disk, then reload again.")


def pool_with(roster: Roster, uuid: PoolId, change: Reconfiguration, now: Ms) -> tuple[Pool, tuple[Entry, ...]]:
    """The pool with what this changes for it, and what its journal has of that."""
    pool, policy = roster.pools[uuid], change.config.policy_of(uuid)
    changes = changes_of(uuid, pool.record.hosts, roster.config, change.config)
    text = f"the configuration was reloaded: {in_short(changes)}" if changes else ""
    data = {"changes": list(changes)}
    site = roster.site(uuid)
    done = reconfigured(pool, policy, change.devices, now, site, text=text, actor=change.actor, data=data)
    return done.pool, done.entries


def own_entry(collector: str, change: Reconfiguration) -> Commit:
    """What the journal has of it for the collector itself."""
    text = f"the configuration was reloaded: {in_short(change.changes)}"
    entry = Entry(Kind.CONFIGURED, text, {"changes": list(change.changes)}, actor=change.actor)
    return Commit("", (entry,), (), collector)


def still_switching(pools: Mapping[PoolId, Pool], before: Devices, devices: Devices) -> NotReconfigured | None:
    """Why these devices cannot take the place of the present ones now."""
    changed = changed_devices(before, devices)
    for pool in pools.values():
        for device, host in switching(pool).items():
            if device in changed:
                name = pool.record.name_of(host)
                why = f"fence device {device} is changed in it, and may be switching {name} at this moment"
                step = "Reload again when the power switch has ended: poolwarden history shows its result."
                return NotReconfigured(why, step)
    return None
