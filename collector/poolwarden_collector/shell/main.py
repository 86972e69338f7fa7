"""``poolwarden-collector``: runs the collector, checks its configuration, makes certificates.

Exit status: 0 stopped cleanly, 1 anything else, 2 configuration or usage, 4 journal. Every error is one line on
standard error that says what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.agents.gateway import Gateway
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.alerts.diskless import Diskless
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.alerts.sinks import alert_log_trouble, make_sinks, sink_names
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.fence_blocks import ENVIRONMENT_FILE, read_environment
from poolwarden_collector.shell.fencing.agent_metadata import check_devices
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.loop.performer import Performer, Replies, order_sender
from poolwarden_collector.shell.loop.prober import Prober
from poolwarden_collector.shell.loop.service import Service
from poolwarden_collector.shell.operators.api import OperatorApi
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.store.backup import FILES, BackupError, back_up, stamp
from poolwarden_collector.shell.store.journal import Journal, JournalError
from poolwarden_collector.shell.store.journal import release as version
from poolwarden_collector.shell.store.telemetry import Telemetry

EXIT_OTHER, EXIT_CONFIG, EXIT_JOURNAL = 1, 2, 4
DEFAULT_CONFIG = Path("/etc/poolwarden/collector.toml")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole collector, put together and not begun."""

    service: Service
    inbox: Inbox
    journal: Journal
    gateway: Gateway
    fencer: Fencer
    prober: Prober
    outbox: Outbox
    diskless: Diskless
    telemetry: Telemetry
    operators: OperatorApi


def assemble(config: Config, journal: Journal) -> Parts:
    """Put a collector together around an open journal whose epoch has begun; to be called in the event loop."""
    roster, inbox, sessions, replies = (
        Roster(config, journal.epoch, clock.mono_ms),
        Inbox(clock.mono_ms),
        Sessions(),
        Replies(),
    )
    fencer = Fencer(config.fence, inbox.post, clock.mono_ms, order_sender(roster, sessions))
    prober = Prober(config.policy_of, inbox.post, clock.mono_ms, config.anchors)
    performer = Performer(roster, sessions, fencer, prober, replies, inbox)
    telemetry = Telemetry(config.state_dir)
    service = Service(roster, inbox, journal, performer, telemetry, prober.anchors)
    sinks = make_sinks(config.alerts)
    outbox, diskless = Outbox(journal, sinks, service.write, service.publish), Diskless(sinks, config.name)
    service.on_stall(diskless.stalled, diskless.over)
    service.on_alert(outbox.nudge)
    service.on_absence(fencer.cut_off)
    service.on_stand_down(fencer.cut_off)
    return Parts(
        service,
        inbox,
        journal,
        Gateway(roster, inbox, sessions, telemetry),
        fencer,
        prober,
        outbox,
        diskless,
        telemetry,
        OperatorApi(service, journal, inbox, replies, version(), telemetry),
    )


async def serve(config: Config, stopping: asyncio.Event) -> None:
    """Run a collector until ``stopping`` is set. Raises ConfigError, JournalError or OSError if it cannot begin."""
    for warning in await check_devices(config, lenient=True):
        _log.warning("%s", warning)
    journal = Journal(config.state_dir, config.name, sink_names(config.alerts))
    try:
        journal.begin_epoch(config.epoch_above)
        journal.abandon_other_sinks()
        await _run(config, assemble(config, journal), stopping)
    finally:
        journal.close()


async def _run(config: Config, parts: Parts, stopping: asyncio.Event) -> None:
    await parts.service.begin()
    loop = asyncio.ensure_future(parts.service.run())
    try:
        await parts.operators.start(config.operator_socket)
        if config.operator_listen:
            await parts.operators.start_network(config.operator_listen, config.tls)
            _log.info("operators' certificates on %s", config.operator_listen)
        await parts.gateway.start(config.listen, config.tls)
        parts.prober.start()
        parts.outbox.start()
        parts.telemetry.start()
        _log.info("collector %s, epoch %d, agents on %s", config.name, parts.service.roster.epoch, config.listen)
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({stopped, loop}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
    finally:
        await stop(parts)
        await loop  # what was heard until now is still committed; also tells why it ended by itself
    _log.info("stopped")


async def stop(parts: Parts) -> None:
    """Stop hearing, then doing, then telling.

    What was heard before is still taken. That streams and runs end now is this collector's own doing and nothing that a
    pool should be judged by, so it comes after the inbox's end.
    """
    parts.inbox.end()
    await parts.gateway.stop()
    await parts.fencer.stop()
    await parts.prober.stop()
    await parts.operators.stop()
    await parts.outbox.stop()
    await parts.diskless.stop()
    await asyncio.to_thread(parts.telemetry.stop)


# ------------------------------------------------------------------------------------------------ the command line


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.version_option(version())
@click.pass_context
def main(context: click.Context, file: Path) -> None:
    """Run the collector in the foreground until SIGTERM or SIGINT."""
    if context.invoked_subcommand is None:
        sys.exit(run(file))


def run(file: Path) -> int:
    """Run with this configuration; the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = load(file)
        asyncio.run(_until_signalled(config))
    except ConfigError as error:
        return _say(str(error), EXIT_CONFIG)
    except JournalError as error:
        return _say(str(error), EXIT_JOURNAL)
    except OSError as error:
        return _say(str(error), EXIT_OTHER)
    return 0


async def _until_signalled(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, stop)


@main.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--environment-file",
    default=ENVIRONMENT_FILE,
    show_default=True,
    type=click.Path(path_type=Path),
    help="What the collector's unit reads, if it is there: the variables that secret_env names.",
)
def check_config(file: Path, environment_file: Path) -> None:
    """Read FILE, ask its fence agents about themselves, change nothing."""
    try:
        config = load(file, {**os.environ, **read_environment(environment_file)})
        warnings = asyncio.run(check_devices(config))
    except ConfigError as error:
        sys.exit(_say(str(error), EXIT_CONFIG))
    if trouble := alert_log_trouble(config.alerts.log):
        sys.exit(_say(f"{file}: [alerts] log: {trouble}", EXIT_CONFIG))
    for warning in (*config.cautions(), *warnings):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{file}: good; {len(config.fence)} fence devices, {len(config.alerts.webhooks)} webhooks")


@main.command("backup")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--config", "file", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path))
def take_backup(directory: Path, file: Path) -> None:
    """Copy journal and telemetry into a new folder of DIRECTORY, while the collector runs or not."""
    try:
        copied = back_up(load(file).state_dir, directory / stamp())
    except ConfigError as error:
        sys.exit(_say(str(error), EXIT_CONFIG))
    except BackupError as error:
        sys.exit(_say(f"{error}; nothing else was changed", EXIT_OTHER))
    for path in copied:
        click.echo(path)
    for name in sorted(set(FILES) - {path.name for path in copied}):
        click.echo(
            f"{name}: there is none yet; the collector begins it with the first facts, it decides nothing", err=True
        )


@main.command("init-ca")
@click.argument("directory", type=click.Path(path_type=Path))
def init_ca(directory: Path) -> None:
    """Make a certificate authority in DIRECTORY."""
    with _ca_errors():
        certificates.create_ca(directory)
    click.echo(f"{directory}: made; keep {certificates.CA_KEY} where no agent's host can read it")


@main.command("issue-host")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("uuid")
@click.option("--out", type=click.Path(path_type=Path), help="Where to put the files  [default: DIRECTORY/UUID]")
def issue_host(directory: Path, uuid: str, out: Path | None) -> None:
    """Make the certificate of one host's agent (UUID: INSTALLATION_UUID of its xensource-inventory)."""
    with _ca_errors():
        bundle = certificates.issue_host(directory, uuid, out or directory / uuid)
    click.echo(f"copy {bundle.ca}, {bundle.cert} and {bundle.key} to /etc/poolwarden/tls/ on that host")


@main.command("issue-operator")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to put the files  [default: DIRECTORY/operator-NAME]"
)
def issue_operator(directory: Path, name: str, out: Path | None) -> None:
    """Make the certificate of the operator NAME, as the journal will say it, for [collector] operator_listen."""
    with _ca_errors():
        bundle = certificates.issue_operator(directory, name, out or directory / f"operator-{name}")
    click.echo(
        f"copy {bundle.ca}, {bundle.cert} and {bundle.key} to /etc/poolwarden/operator/ where {name} works, "
        "or anywhere for: poolwarden --collector HOST:PORT --tls DIR"
    )


@main.command("issue-collector")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.argument("addresses", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="Where to put the files  [default: DIRECTORY/NAME]")
def issue_collector(directory: Path, name: str, addresses: tuple[str, ...], out: Path | None) -> None:
    """Make the certificate of the collector NAME, valid for these IP ADDRESSES too.

    Agents and poolwarden check the authority and the name "collector"; other TLS clients check an address.
    """
    with _ca_errors():
        bundle = certificates.issue_collector(directory, name, addresses, out or directory / name)
    if not addresses:
        click.echo("no address was given: good for agents and poolwarden, which check none; others may not", err=True)
    click.echo(f'[tls]\nca = "{bundle.ca}"\ncert = "{bundle.cert}"\nkey = "{bundle.key}"')


@contextlib.contextmanager
def _ca_errors() -> Iterator[None]:
    try:
        yield
    except certificates.CaError as error:
        sys.exit(_say(str(error), EXIT_OTHER))


def _say(text: str, status: int) -> int:
    click.echo(f"poolwarden-collector: {' '.join(text.split())}", err=True)
    return status


if __name__ == "__main__":
    main()
