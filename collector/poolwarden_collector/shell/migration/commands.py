"""``poolwarden-collector store`` and ``generation``: moves to and from etcd, copies of it, a raised generation."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from poolwarden_collector.shell.cluster.commit_text import TooBig, Unreadable
from poolwarden_collector.shell.cluster.enrolment_rows import UnreadableRow
from poolwarden_collector.shell.cluster.etcd import CREDENTIALS, Denied, Etcd, EtcdError, carry_out
from poolwarden_collector.shell.cluster.etcd_client import EtcdClient
from poolwarden_collector.shell.cluster.ownership import NotRaised, raise_generation, refused_generation
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.store import StoreSettings
from poolwarden_collector.shell.migration import prefix_copy
from poolwarden_collector.shell.migration.place import AGAIN, Place, Refused, look
from poolwarden_collector.shell.migration.to_etcd import Moved, Source, Todo
from poolwarden_collector.shell.migration.to_etcd import to_etcd as move_to_etcd
from poolwarden_collector.shell.migration.to_sqlite import Back
from poolwarden_collector.shell.migration.to_sqlite import to_sqlite as move_to_sqlite
from poolwarden_collector.shell.store.journal import Journal, JournalError

_DEFAULT = Path("/etc/poolwarden/collector.toml")
_CONFIG = click.option(
    "--config", "file", default=_DEFAULT, show_default=True, type=click.Path(path_type=Path), help="The collector's."
)
_DRY = click.option("--dry-run", "dry", is_flag=True, help="Say what would be done, and change nothing.")
_SHOWN = 20  # pools by name
EXIT_OTHER, EXIT_CONFIG, EXIT_JOURNAL = 1, 2, 4


class _Group(click.Group):
    """What goes wrong is one line and what to do, with the exit status of its kind."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            _fail(str(error), "", EXIT_CONFIG)
        except Refused as error:
            _fail(str(error), error.step)
        except JournalError as error:
            _fail(str(error), "", EXIT_JOURNAL)
        except Denied as error:
            _fail(f"etcd does not let this collector do it: {error}", CREDENTIALS)
        except EtcdError as error:
            _fail(f"etcd: {error}", f"see that it answers (etcdctl endpoint health), then {AGAIN}")
        except (Unreadable, UnreadableRow, TooBig, OSError) as error:
            _fail(str(error), "")


@click.group(cls=_Group, short_help="Where pools are recorded: one collector's file, or etcd.")
def store() -> None:
    """Move the pools between one collector's file and the etcd of several, with every collector stopped.

    Each command may be run again after whatever has cut it off; --dry-run changes nothing (docs/collectors.md).
    """


@store.command()
@_CONFIG
def show(file: Path) -> None:
    """What etcd has below this prefix: its generation, its pools, who lives there, how far a move has come."""
    config, settings = _settings(file)
    place = _ask(settings, lambda etcd: carry_out(etcd, look(settings.names)))
    for line in _of_place(place, settings):
        click.echo(line)
    click.echo(f"this collector: {config.name}, state directory {config.state_dir}")


@store.command("to-etcd")
@_CONFIG
@_DRY
@click.option("--pinned", is_flag=True, help="Every host has pinned the order keys of all collectors.")
def to_etcd(file: Path, dry: bool, pinned: bool) -> None:
    """Move this collector's pools from its journal into etcd; the journal becomes an archive.

    [store] names the etcd; its prefix has to be empty. Records, open alerts and power-offs without an end are read back
    and compared field by field; then the generation is set, and collectors own the pools as soon as they are started.
    """
    config, settings = _settings(file)
    with _journal(config) as journal:
        source = Source(journal, config.name, config.epoch_above, pinned)
        done = _ask(settings, lambda etcd: move_to_etcd(etcd, settings.names, source, dry))
    _tell_moved(done, settings, dry, pinned)


@store.command("to-sqlite")
@_CONFIG
@_DRY
@click.option("--older", is_flag=True, help="Also what is older in etcd than this archive knows: etcd was restored.")
def to_sqlite(file: Path, dry: bool, older: bool) -> None:
    """Move all pools from etcd into this collector's journal; afterwards it is the only one.

    To be run with [store] as it is; that table is taken out before the collector is started again.
    """
    config, settings = _settings(file)
    with _journal(config) as journal:
        done = _ask(settings, lambda etcd: move_to_sqlite(etcd, settings.names, journal, config.name, dry, older))
    _tell_back(done, config, dry)


@store.command()
@click.argument("copy", type=click.Path(path_type=Path))
@_CONFIG
@_DRY
@click.option("--replace", is_flag=True, help="Delete what stands below the prefix first.")
@click.option("--yes", is_flag=True, help="Do it.")
def restore(copy: Path, file: Path, dry: bool, replace: bool, yes: bool) -> None:
    """Put the file COPY of a backup (etcd.copy) back into etcd, and raise the generation.

    Only where etcd has lost what it had: what has happened in the pools since is learnt from their hosts again.
    """
    config, settings = _settings(file)
    there = prefix_copy.read(copy)
    names, dry = settings.names, dry or not yes
    put_back = lambda etcd: prefix_copy.put_back(etcd, names, there, config.name, dry, replace)  # noqa: E731
    done = _ask(settings, put_back)
    would = "would be" if dry else "were"
    replaced = f", in the place of {_pools(done.replaces)} that stand there" if done.replaces else ""
    click.echo(f"{done.keys} keys as of revision {done.revision} {would} put below {names.prefix}/{replaced}")
    click.echo(f"the generation {'would be' if dry else 'is'} {done.generation}; each pool is quiet at first")
    _needs_yes(yes, dry)


@click.group(cls=_Group, short_help="How often the collectors' etcd was restored.")
def generation() -> None:
    """The number that every ownership rests on; it is raised by a person alone, after etcd was restored."""


@generation.command("raise")
@_CONFIG
@click.option("--to", "number", type=click.IntRange(1), help="At least this one, as an alert names it  [default: next]")
@click.option("--yes", is_flag=True, help="Do it.")
def raise_it(file: Path, number: int | None, yes: bool) -> None:
    """Raise the generation: after etcd was restored from a snapshot or built anew, or to set up an empty one.

    A restored etcd hands out its old revisions again, and agents refuse owners with old epochs until this is done. Who
    owns a pool loses it at once and claims it anew; each pool is quiet for a while.
    """
    _, settings = _settings(file)
    place = _ask(settings, lambda etcd: carry_out(etcd, look(settings.names)))
    if place.mark is not None:
        raise Refused(
            f"its pools are with collector {place.mark.collector}, or on their way: {place.mark.way.value}",
            "poolwarden-collector store show; what ends a move is the same command again",
        )
    wanted = number or place.generation + 1
    if not_raised := refused_generation(place.generation, wanted):
        raise Refused(not_raised.why, "poolwarden-collector store show")
    for line in _of_raising(place, wanted):
        click.echo(line)
    if not yes:
        _needs_yes(yes, dry=True)
    done = _ask(settings, lambda etcd: carry_out(etcd, raise_generation(settings.names, wanted)))
    if isinstance(done, NotRaised):
        raise Refused(done.why, "poolwarden-collector store show")
    click.echo(f"the generation is {done.generation}")


def copy_etcd(settings: StoreSettings, folder: Path) -> Path:
    """What several collectors have in etcd, for a backup's folder. Raises Refused."""
    path = folder / prefix_copy.FILE
    try:
        prefix_copy.write(_ask(settings, lambda etcd: carry_out(etcd, prefix_copy.take(settings.names))), path)
    except (EtcdError, OSError) as error:
        step = "the files above are whole; take another backup once etcd answers"
        raise Refused(f"what etcd has was not copied: {error}", step) from error
    return path


# ------------------------------------------------------------------------------------------------ what is said


def _of_place(place: Place, settings: StoreSettings) -> Iterator[str]:
    yield f"etcd at {', '.join(settings.etcd.endpoints)}, prefix {settings.names.prefix}, revision {place.revision}"
    yield f"generation: {place.generation or 'none, nobody can own a pool'}"
    yield f"pools: {len(place.pools)}, {len(place.owners)} of them have an owner"
    yield f"members: {', '.join(place.members) or 'none'}"
    if place.mark is not None:
        yield f"moved: {place.mark.way.value}, by collector {place.mark.collector}"


def _of_raising(place: Place, wanted: int) -> Iterator[str]:
    yield f"generation {place.generation or 'none'} becomes {wanted}"
    owned = sorted(set(place.owners.values()))
    for name in owned:
        count = sum(owner == name for owner in place.owners.values())
        yield f"deposed: {name}, of {_pools(count)}; it claims anew within seconds"
    if not owned:
        yield "deposed: nobody, no pool has an owner"
    if owned and place.generation:
        yield "each pool is quiet then, as after a restart; raise it only after etcd was restored or built anew"


def _pools(count: int) -> str:
    return "1 pool" if count == 1 else f"{count} pools"


def _tell_moved(done: Moved, settings: StoreSettings, dry: bool, pinned: bool) -> None:
    if done.todo is Todo.NOTHING:
        click.echo(f"etcd has {_pools(len(done.pools))} of this archive already, generation {done.generation}")
        return
    would = "would be" if dry else "were"
    if done.todo is Todo.OPEN:
        click.echo(f"in etcd already: {_pools(len(done.pools))}; the move {'would be' if dry else 'is'} ended")
    for pool in sorted(done.names, key=lambda each: done.names[each])[:_SHOWN]:
        click.echo(f"  {done.names[pool]} ({pool})")
    if done.todo is Todo.ALL:
        if len(done.pools) > _SHOWN:
            click.echo(f"  and {len(done.pools) - _SHOWN} more")
        counts = f"{done.alerts} open alerts, {done.shots} power-offs without a known end"
        click.echo(f"{_pools(len(done.pools))} with {counts} {would} moved to {settings.names.prefix}/ in etcd")
        if not dry:
            click.echo("each was read back and is the same in every field; the journal is an archive from now on")
    if done.unpinned and dry and not pinned:
        click.echo(f"no order key is known to be pinned by {len(done.unpinned)} hosts: {', '.join(done.unpinned[:5])}")
    click.echo(f"generation: {done.generation}")
    if not dry:
        click.echo("now start the collectors, each with its own [store]: systemctl start poolwarden-collector")


def _tell_back(done: Back, config: Config, dry: bool) -> None:
    if done.already:
        click.echo("this journal has the pools already; take [store] out of the configuration and start the collector")
        return
    for pool in sorted(done.names, key=lambda each: done.names[each])[:_SHOWN]:
        click.echo(f"  {done.names[pool]} ({pool})")
    if len(done.names) > _SHOWN:
        click.echo(f"  and {len(done.names) - _SHOWN} more")
    would = "would be" if dry else "were"
    click.echo(f"{_pools(len(done.names))} with {done.alerts} open alerts {would} moved to {config.state_dir}")
    if not dry:
        click.echo("each was read back and is the same in every field; in etcd nobody owns a pool any more")
        click.echo(
            f"now take [store] out of {config.file} and start the collector: systemctl start poolwarden-collector"
        )


def _needs_yes(yes: bool, dry: bool) -> None:
    if dry and not yes:
        _fail("nothing was changed", "with --yes it is done")


# ------------------------------------------------------------------------------------------------ around it


def _settings(file: Path) -> tuple[Config, StoreSettings]:
    config = load(file)
    if config.store is None:
        raise Refused(
            f"{file} has no table [store]: this collector is alone", "docs/collectors.md says what stands there"
        )
    return config, config.store


@contextmanager
def _journal(config: Config) -> Iterator[Journal]:
    """This collector's journal, which nobody else has open."""
    _as_its_owner(config.state_dir)
    alerts = config.alerts
    journal = Journal(config.state_dir, config.name, alerts.names, alerts.docs_base_url, config.routes())
    try:
        if journal.damage:
            raise Refused(journal.damage, "start the collector without [store] and see to it first: poolwarden doctor")
        yield journal
    finally:
        journal.close()


def _as_its_owner(folder: Path) -> None:
    """What root makes there the collector could not open any more."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"'#{owner}'"
        command = " ".join(["poolwarden-collector", *sys.argv[1:]])
        raise Refused(f"{folder} is the directory of user {name}", f"sudo -u {name} {command}")


def _ask(settings: StoreSettings, act: Callable[[Etcd], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        client = EtcdClient(settings.etcd)
        try:
            return await act(client)
        finally:
            await client.close()

    return asyncio.run(run())


def _fail(text: str, step: str, status: int = EXIT_OTHER) -> NoReturn:
    click.echo(f"poolwarden-collector: {' '.join(text.split())}", err=True)
    if step:
        click.echo(f"  {step}", err=True)
    sys.exit(status)
