"""Another configuration for a collector that runs: at SIGHUP, and at ``poolwarden-collector reload``.

Rules
-----
* The file is read and checked whole beside the engine, as at a start; whatever is wrong in it refuses all of it, in one
  line, and the configuration before goes on to hold. That is also what ``status`` shows until a file is taken.
* Stricter than a start is one thing: the agent of a fence device that is new or changed has to be there and to say what
  it is. A start goes on without it, because otherwise nothing would be guarded; here the configuration before does.
* What a running collector cannot change is refused by name.
* Variables that ``secret_env`` names are read from the unit's environment file anew where this process may read it:
  systemd gives them to a process at its start alone.
* One at a time. It holds between two events (loop/engine_loop.py); what runs here follows before the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.alerts.channels import Make, channel_trouble, kept_or_made
from poolwarden_collector.shell.alerts.diskless import Diskless
from poolwarden_collector.shell.alerts.heartbeat import Heartbeat
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import Sink
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.config_changes import changes, unchangeable
from poolwarden_collector.shell.config.secrets import ENVIRONMENT_FILE, read_environment
from poolwarden_collector.shell.fencing.agent_metadata import check_devices
from poolwarden_collector.shell.fencing.fencer import Fencer, same_device
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.loop.ready import Reconfiguration
from poolwarden_collector.shell.loop.service import Service

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of it. ``refused``: why nothing was changed, empty: it was taken; ``wrong``: the file is to blame."""

    file: Path
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str = ""
    next_step: str = ""
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Followers:
    """What runs by the configuration, beside the engine and its pools."""

    fencer: Fencer
    prober: Prober
    sessions: Sessions
    outbox: Outbox
    diskless: Diskless
    heartbeat: Heartbeat


class Reloader:
    """Reads the configuration's file again and has the service take it.

    ``sinks``: what delivers to its channels; ``make`` makes one.
    """

    def __init__(
        self,
        service: Service,
        followers: Followers,
        sinks: tuple[Sink, ...],
        make: Make,
        environment: Callable[[], tuple[Mapping[str, str], str]] | None = None,
    ) -> None:
        """``environment``: the variables that the file may name, and what is to be told about them."""
        self._service = service
        self._followers = followers
        self._sinks = sinks
        self._make = make
        self._environment = environment or environment_now
        self._one = asyncio.Lock()

    async def reload(self, actor: str) -> Reloaded:
        """Take the file as it is now, or say why not; never raises for anything that a file can cause."""
        async with self._one:
            done = await self._reload(actor)
        roster = self._service.roster
        for text in done.warnings:
            _log.warning("%s", text)
        if done.refused:
            _log.error("the configuration was not reloaded (%s): %s", actor, done.refused)
            roster.reload_refused = f"{done.refused}. {done.next_step}" if done.next_step else done.refused
        else:
            roster.reload_refused = ""
            _log.info("configuration reloaded (%s): %s", actor, "; ".join(done.changes) or "nothing has changed")
        return done

    async def _reload(self, actor: str) -> Reloaded:
        before = self._service.roster.config
        try:
            after, warnings = await self._read(before)
        except ConfigError as error:
            return _refused(before.file, str(error))
        if fixed := unchangeable(before, after):
            what = ", ".join(fixed)
            text = f"{before.file}: {what} cannot be changed in a running collector"
            step = "Set it back, or restart the collector: systemctl restart poolwarden-collector"
            return Reloaded(before.file, refused=text, next_step=step, wrong=True)
        named, sinks = changes(before, after), kept_or_made(after.alerts, before.alerts, self._sinks, self._make)
        change = Reconfiguration(after, after.devices(), actor, named)
        if refusal := await self._service.reconfigure(change, lambda: self._follow(after, sinks)):
            return Reloaded(before.file, refused=f"{before.file}: {refusal.why}", next_step=refusal.next_step)
        return Reloaded(before.file, named, (*after.cautions(), *warnings))

    async def _read(self, before: Config) -> tuple[Config, tuple[str, ...]]:
        """The file as it is now, checked. Raises ConfigError."""
        environment, told = await asyncio.to_thread(self._environment)
        after = await asyncio.to_thread(load, before.file, environment)
        in_use = {device.name: device for device in before.fence}
        kept = {device.name for device in after.fence if same_device(device, in_use.get(device.name))}
        warnings = await check_devices(after, known=kept)
        if after.alerts != before.alerts and (trouble := await asyncio.to_thread(channel_trouble, after.alerts)):
            raise ConfigError(f"{before.file}: {trouble}")
        return after, (told, *warnings) if told else warnings

    def _follow(self, config: Config, sinks: tuple[Sink, ...]) -> None:
        """The configuration is this one now; called before the next event."""
        parts, self._sinks = self._followers, sinks
        parts.fencer.replace_devices(config.fence)
        parts.prober.replace_anchors(config.anchors)
        parts.sessions.probe_timeouts(lambda pool: config.policy_of(pool).probe_timeout)
        parts.outbox.replace_sinks(sinks)
        parts.diskless.replace_sinks(sinks)
        parts.heartbeat.replace(config.alerts.heartbeat_url, config.alerts.heartbeat_every / 1000)


def environment_now(file: Path = ENVIRONMENT_FILE) -> tuple[Mapping[str, str], str]:
    """This process's variables, with those of the unit's file as it is now, and what to tell if it is unreadable."""
    try:
        return {**os.environ, **read_environment(file)}, ""
    except ConfigError as error:
        return os.environ, f"{error}; variables are those of the collector's start"


def _refused(file: Path, why: str) -> Reloaded:
    step = f"Correct it, see: poolwarden-collector check-config {file}"
    return Reloaded(file, refused=why, next_step=step, wrong=True)
