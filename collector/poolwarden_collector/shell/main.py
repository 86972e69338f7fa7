"""``poolwarden-collector``: runs the collector, checks its configuration, makes certificates.

Exit status: 0 stopped cleanly, 1 anything else, 2 configuration or usage, 4 journal. Every error is one line on
standard error that says what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from poolwarden_collector.shell import clock, core_dumps, garbage, log_lines
from poolwarden_collector.shell.agents.capsules import CapsuleIntake
from poolwarden_collector.shell.agents.elsewhere import ours
from poolwarden_collector.shell.agents.gateway import Gateway
from poolwarden_collector.shell.agents.order_key import FILE as ORDER_KEY_FILE
from poolwarden_collector.shell.agents.order_key import OrderKey, OrderKeyError, load_or_make, make_next, next_key
from poolwarden_collector.shell.agents.pool_messages import PoolMessages
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.agents.signing import Signer
from poolwarden_collector.shell.alerts.channels import channel_trouble, make_sink
from poolwarden_collector.shell.alerts.diskless import KEY as DISKLESS
from poolwarden_collector.shell.alerts.diskless import Diskless
from poolwarden_collector.shell.alerts.heartbeat import Heartbeat
from poolwarden_collector.shell.alerts.outbox import Outbox
from poolwarden_collector.shell.cluster.enrolment_rows import Collector
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import Config, ConfigError, load
from poolwarden_collector.shell.config.operators import WORDS as ROLES
from poolwarden_collector.shell.config.secrets import ENVIRONMENT_FILE, read_environment
from poolwarden_collector.shell.enrolment.assembly import Enrolments, enrolments
from poolwarden_collector.shell.enrolment.commands import enrolment
from poolwarden_collector.shell.enrolment.registry import Surroundings
from poolwarden_collector.shell.enrolment.shared_rows import SharedRows
from poolwarden_collector.shell.fencing.agent_metadata import check_devices
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.hooks.condition import of_hooks
from poolwarden_collector.shell.hooks.hooks import Hooks
from poolwarden_collector.shell.loop.journal_upkeep import JournalUpkeep
from poolwarden_collector.shell.loop.performer import Performer, Replies, order_sender, power_leave
from poolwarden_collector.shell.loop.prober import Prober, is_calm
from poolwarden_collector.shell.loop.service import Service
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.migration.commands import copy_etcd, generation, store
from poolwarden_collector.shell.migration.place import Refused
from poolwarden_collector.shell.operators.api import OperatorApi
from poolwarden_collector.shell.operators.enrolments import EnrolmentsApi
from poolwarden_collector.shell.page.commands import web_user
from poolwarden_collector.shell.parts import Parts
from poolwarden_collector.shell.queue.inbox import Inbox
from poolwarden_collector.shell.reload import Followers, Reloader
from poolwarden_collector.shell.serving_loop import ServingLoop
from poolwarden_collector.shell.several import Several, one_of
from poolwarden_collector.shell.store.backup import FILES, BackupError, back_up, stamp
from poolwarden_collector.shell.store.capsules import Capsules
from poolwarden_collector.shell.store.journal import Journal, JournalError
from poolwarden_collector.shell.store.journal import release as version
from poolwarden_collector.shell.store.telemetry import Telemetry

if TYPE_CHECKING:
    from poolwarden_collector.shell.metrics.exporter import Exporter
    from poolwarden_collector.shell.page.server import PageServer

EXIT_OTHER, EXIT_CONFIG, EXIT_JOURNAL = 1, 2, 4
OPEN_FILES = 16_384
DEFAULT_CONFIG = Path("/etc/poolwarden/collector.toml")

_log = logging.getLogger(__name__)


def assemble(config: Config, journal: Journal, one_of_several: bool = False) -> Parts:
    """Put a collector together around an open journal whose epoch has begun; to be called in the event loop.

    ``one_of_several``: it guards those pools alone that it adopts, as one does whose configuration names an etcd.
    Raises OrderKeyError where its order key cannot be used.
    """
    journal.one_of_several = one_of_several = one_of_several or config.store is not None
    roster, inbox, sessions, replies = (
        Roster(config, journal.epoch, clock.mono_ms, clock.boot(), one_of_several),
        Inbox(clock.mono_ms),
        Sessions(),
        Replies(),
    )
    fencer = _fencer(config, roster, inbox, sessions)
    prober = _prober(config, roster, inbox, sessions)
    messages = PoolMessages(roster, order_sender(roster, sessions))
    performer = Performer(roster, sessions, fencer, prober, replies, inbox, messages)
    telemetry = Telemetry(config.state_dir, roster.tally)
    journal.tally = roster.tally
    if journal.damage:
        _log.critical("%s", journal.damage)
        roster.damage = journal.damage
        journal.tell_damage(config.name)
    several = None
    if config.store is None:
        service = Service(roster, inbox, journal, performer, telemetry, prober.anchors)
    else:
        driver = partial(SharedService, roster, inbox, journal, performer, telemetry=telemetry, anchors=prober.anchors)
        several = one_of(config.name, config.store, driver, sessions)
        several.tells(journal)
        service = several.service
    make = partial(make_sink, collector=config.name, show=messages.show)
    sinks = tuple(make(channel) for channel in config.alerts.channels)
    outbox = Outbox(journal, sinks, service.write, service.publish, service.alive)
    diskless = Diskless(sinks, config.name, key=journal.own_key(DISKLESS))
    heartbeat = Heartbeat(config.alerts.heartbeat_url, config.alerts.heartbeat_every / 1000, service.alive)
    reloader = Reloader(service, Followers(fencer, prober, sessions, outbox, diskless, heartbeat), sinks, make)
    service.on_stall(diskless.stalled, diskless.over)
    service.on_alert(outbox.nudge)
    hooks = _hooks(journal, service, outbox)
    service.on_occasion(hooks.nudge)
    service.on_absence(fencer.cut_off)
    service.on_stand_down(fencer.cut_off)
    order_key = load_or_make(config.state_dir)
    enrolled = _enrolments(config, journal, service, sessions, order_key, several)
    capsules = CapsuleIntake(Capsules(config.state_dir), sessions, clock.mono_ms, roster.warn)
    service.follow(capsules.follow)
    operators = OperatorApi(
        service, journal, inbox, replies, version(), outbox, telemetry, reloader.reload,
        EnrolmentsApi(enrolled, roster), capsules.store,
    )  # fmt: skip
    owner_of = several.joined(operators) if several is not None else ours
    gateway = Gateway(roster, inbox, sessions, enrolled.enrolment, telemetry, Signer(order_key), capsules, owner_of)
    service.on_read(gateway.hand_on_due, gateway.lag, gateway.unread)
    return Parts(
        service, inbox, journal, gateway, fencer, prober, outbox, diskless, heartbeat, hooks, telemetry,
        JournalUpkeep(journal, service.write, lambda: roster.config.journal), operators, messages, enrolled, reloader,
        capsules, _metrics(config, service, prober, inbox, journal, several),
        _page(config, roster, operators, telemetry), several,
    )  # fmt: skip


def _prober(config: Config, roster: Roster, inbox: Inbox, sessions: Sessions) -> Prober:
    policy_of = lambda pool: roster.config.policy_of(pool)  # noqa: E731
    return Prober(policy_of, inbox.post, clock.mono_ms, config.anchors, calm=partial(is_calm, roster, sessions))


def _hooks(journal: Journal, service: Service, outbox: Outbox) -> Hooks:
    settings = lambda: service.roster.config.hooks  # noqa: E731
    hooks = Hooks(journal, settings, service.write, service.publish, outbox.nudge, service.record)
    service.on_pools(hooks.pools_have_changed)
    return hooks


def _fencer(config: Config, roster: Roster, inbox: Inbox, sessions: Sessions) -> Fencer:
    send = order_sender(roster, sessions)
    site = lambda pool: roster.config.policy_of(pool).site  # noqa: E731
    fencer = Fencer(config.fence, inbox.post, clock.mono_ms, send, site, leave=power_leave(roster))
    roster.fence_waits = lambda: fencer.turns.waiting(clock.mono_ms())
    return fencer


def _enrolments(
    config: Config,
    journal: Journal,
    service: Service,
    sessions: Sessions,
    order_key: OrderKey,
    several: Several | None,
) -> Enrolments:
    roster = service.roster
    around = Surroundings(
        service.write,
        service.publish,
        service.alerted,
        roster.warn,
        roster.pool_of,
        roster.on_record,
        roster.spoke_in,
        roster.pool_label,
        roster.machine,
        sessions.serials,
        sessions.close_of,
        several.ownerships.tells if several is not None else lambda _pool: True,
    )
    coming = next_key(config.state_dir)
    keys = order_key.public, *((coming.public,) if coming else ())
    rows = None
    if several is not None and config.store is not None:
        me = Collector(config.name, " ".join(each.hex() for each in keys), config.store.agents)
        rows = SharedRows(several.etcd, config.store.names, journal, service.write, me)
    return enrolments(config, journal, around, keys, rows)


def _metrics(
    config: Config, service: Service, prober: Prober, inbox: Inbox, journal: Journal, several: Several | None
) -> Exporter | None:
    """The exporter; what it stands on is imported where metrics are on."""
    if config.metrics is None:
        return None
    from poolwarden_collector.shell.metrics.exporter import Exporter
    from poolwarden_collector.shell.metrics.look import Among, Watch

    watch = Watch(service.roster, prober, inbox)
    service.on_commit(watch.committed)
    service.follow(watch.ledger.follow)
    if several is not None:
        several.etcd.on_answer(watch.etcd_asked)
        watch.one_of_several(lambda: Among(*several.among()))
    return Exporter(config.metrics, watch, journal, service.roster.warn)


def _page(config: Config, roster: Roster, operators: OperatorApi, telemetry: Telemetry) -> PageServer | None:
    """The page's server; what it stands on is imported where it is on."""
    if config.page is None:
        return None
    from poolwarden_collector.shell.page.server import PageServer

    entries = lambda: roster.config.operators.entries  # noqa: E731
    return PageServer(config.page, config.state_dir, operators, telemetry, entries, config.name, roster.warn)


async def serve(config: Config, stopping: asyncio.Event, reloading: asyncio.Event | None = None) -> None:
    """Run a collector until ``stopping`` is set; read the configuration again whenever ``reloading`` is.

    Raises ConfigError, JournalError, OrderKeyError or OSError if it cannot begin.
    """
    for warning in await check_devices(config, lenient=True):
        _log.warning("%s", warning)
    alerts = config.alerts
    journal = Journal(config.state_dir, config.name, alerts.names, alerts.docs_base_url, config.routes())
    try:
        if config.store is not None and (why := journal.why_no_archive()):
            raise JournalError(why)
        journal.begin_epoch(config.epoch_above)
        journal.take_up_channels()
        await _run(config, assemble(config, journal), stopping, reloading or asyncio.Event())
    finally:
        journal.close()


async def _run(config: Config, parts: Parts, stopping: asyncio.Event, reloading: asyncio.Event) -> None:
    await parts.service.begin()
    await parts.enrolments.begin()
    for remark in config.operators.remarks(config.operator_listen):
        _log.warning("%s", remark)
    loop = asyncio.ensure_future(parts.service.run())
    try:
        await parts.operators.start(config.operator_socket)
        if config.operator_listen:
            await parts.operators.start_network(config.operator_listen, config.tls)
            _log.info("operators' certificates on %s", config.operator_listen)
        await parts.gateway.start(config.listen, config.tls)
        parts.enrolments.serve()
        parts.prober.start()
        parts.outbox.start()
        parts.heartbeat.start()
        parts.hooks.start()
        parts.telemetry.start()
        parts.upkeep.start()
        parts.capsules.start()
        if parts.metrics is not None:
            parts.metrics.start()
        if parts.page is not None:
            parts.page.start()
        if parts.several is not None:
            parts.several.start()
        _log.info("collector %s, epoch %d, agents on %s", config.name, parts.service.roster.epoch, config.listen)
        stopped, reloads = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(_reload(parts, reloading))
        await asyncio.wait({stopped, loop}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        reloads.cancel()
    finally:
        await stop(parts)
        await loop  # what was heard until now is still committed; also tells why it ended by itself
        if parts.several is not None:
            await parts.several.etcd.close()
    _log.info("stopped")


async def _reload(parts: Parts, asked: asyncio.Event) -> None:
    """Read the configuration again whenever that is asked; signals that come meanwhile are one."""
    while True:
        await asked.wait()
        asked.clear()
        try:
            await parts.reloader.reload("SIGHUP")
        except Exception:
            _log.exception("the configuration was not reloaded")


async def stop(parts: Parts) -> None:
    """Stop hearing, then doing, then telling.

    What was heard before is still taken. That streams and runs end now is this collector's own doing and nothing that a
    pool should be judged by, so it comes after the inbox's end. One of several hands its pools over before that.
    """
    if parts.several is not None:
        await parts.several.ownerships.leave()
        await parts.several.sites.stop()
    parts.inbox.end()
    if parts.metrics is not None:
        await parts.metrics.stop()
    if parts.page is not None:
        await parts.page.stop()
    await parts.gateway.stop()
    await parts.enrolments.stop()
    await parts.fencer.stop()
    await parts.prober.stop()
    await parts.operators.stop()
    await parts.heartbeat.stop()
    await parts.hooks.stop()
    await parts.outbox.stop()
    await parts.diskless.stop()
    await parts.upkeep.stop()
    await parts.capsules.stop()
    await asyncio.to_thread(parts.telemetry.stop)


# ------------------------------------------------------------------------------------------------ the command line


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.version_option(version())
@click.pass_context
def main(context: click.Context, file: Path) -> None:
    """Run the collector in the foreground until SIGTERM or SIGINT; SIGHUP has it read its configuration again."""
    if context.invoked_subcommand is None:
        sys.exit(run(file))


def run(file: Path) -> int:
    """Run with this configuration; the exit status."""
    core_dumps.forbid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is heard below the file has not been read
    log_lines.to_stderr()
    _many_files()
    try:
        config = load(file)
        with asyncio.Runner(loop_factory=ServingLoop) as runner:
            runner.run(_until_signalled(config))
    except ConfigError as error:
        return _say(str(error), EXIT_CONFIG)
    except JournalError as error:
        return _say(str(error), EXIT_JOURNAL)
    except (OSError, OrderKeyError) as error:
        return _say(str(error), EXIT_OTHER)
    return 0


def _many_files() -> None:
    """Room for each agent's connection beside those that say nothing, as far as the unit lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _until_signalled(config: Config) -> None:
    garbage.seldom()
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    await serve(config, stop, reload)


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
    if trouble := channel_trouble(config.alerts):
        sys.exit(_say(f"{file}: {trouble}", EXIT_CONFIG))
    unheard = config.routes().unheard({pool: settings.name for pool, settings in config.pools.items()})
    hooks = of_hooks(config.hooks.directory) if config.hooks.directory is not None else None
    of_them = (*hooks.bad, *hooks.left_out) if hooks is not None else ()
    open_to_all = config.operators.remarks(config.operator_listen)
    for warning in (*config.cautions(), *open_to_all, *warnings, *unheard, *of_them):
        click.echo(f"warning: {warning}", err=True)
    counted = [_count(config.fence, "fence device"), _count(config.alerts.channels, "alert channel")]
    counted += [_count(hooks.good, "hook")] if hooks is not None else []
    click.echo(f"{file}: good; {', '.join(counted)}")


@main.command("reload")
@click.option("--config", "file", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path))
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record of calls.")
def reload_config(file: Path, reason: str) -> None:
    """Have the running collector read its configuration again; it takes all of it, or refuses and says why.

    Exit status: 0 taken, 1 not now, 2 something in the file is wrong or needs a restart; then nothing was changed.
    """
    from poolwarden_collector.shell.operators import local_calls

    try:
        reply = local_calls.reload(file, reason)
    except ConfigError as error:
        sys.exit(_say(f"{error}; nothing was changed", EXIT_CONFIG))
    except local_calls.NoAnswer as error:
        sys.exit(_say(str(error), EXIT_OTHER))
    if not reply.accepted:
        text = f"{reply.text}; nothing was changed. {reply.next_step}"
        sys.exit(_say(text, EXIT_CONFIG if reply.file_is_wrong else EXIT_OTHER))
    local_calls.tell(reply)


@main.command("drain")
@click.option("--config", "file", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path))
@click.option("--end", is_flag=True, help="Let it take pools again.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record of calls.")
def drain(file: Path, end: bool, reason: str) -> None:
    """Of several collectors: have this machine's give its pools to the others, a few a second, and take none.

    It lasts until --end or until it is restarted. Of another machine's collector: poolwarden drain COLLECTOR.
    """
    from poolwarden_collector.shell.operators import local_calls

    try:
        reply = local_calls.drain(file, end, reason)
    except ConfigError as error:
        sys.exit(_say(f"{error}; nothing was changed", EXIT_CONFIG))
    except local_calls.NoAnswer as error:
        sys.exit(_say(str(error), EXIT_OTHER))
    if not reply.accepted:
        sys.exit(_say(f"{reply.text}; nothing was changed. {reply.next_step}", EXIT_OTHER))
    click.echo(reply.text)
    if reply.next_step:
        click.echo(reply.next_step)


@main.command("backup")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--config", "file", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path))
def take_backup(directory: Path, file: Path) -> None:
    """Copy journal, telemetry and order key into a new folder of DIRECTORY, while the collector runs or not.

    Of one of several: also what they have in etcd, as of one revision.
    """
    try:
        config, folder = load(file), directory / stamp()
        copied = back_up(config.state_dir, folder)
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
    if config.store is not None:
        try:
            click.echo(copy_etcd(config.store, folder))
        except Refused as error:
            sys.exit(_say(f"{error}; {error.step}", EXIT_OTHER))


@main.command("order-key")
@click.option("--config", "file", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path))
@click.option("--next", "coming", is_flag=True, help="Of the key that shall take its place; made where there is none.")
def order_key(file: Path, coming: bool) -> None:
    """Print the public half of this collector's order key: on a host, poolwarden-agent trust-key takes it."""
    try:
        state = load(file).state_dir
        if coming:
            click.echo(make_next(state).public.hex())
            return
        if not (state / ORDER_KEY_FILE).exists():
            sys.exit(
                _say(f"{state / ORDER_KEY_FILE}: there is none yet; the collector makes it at its start", EXIT_OTHER)
            )
        click.echo(load_or_make(state).public.hex())
    except ConfigError as error:
        sys.exit(_say(str(error), EXIT_CONFIG))
    except (OrderKeyError, OSError) as error:
        sys.exit(_say(str(error), EXIT_OTHER))


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
@click.option("--role", type=click.Choice(list(ROLES)), default="viewer", show_default=True)
@click.option("--pool", "pools", metavar="UUID", multiple=True, help="Only in these pools; each by its UUID or name.")
def issue_operator(directory: Path, name: str, out: Path | None, role: str, pools: tuple[str, ...]) -> None:
    """Make the certificate of the operator NAME, as the journal will say it, for [collector] operator_listen.

    What it allows is not in it, so that it can be taken away: the entry for collector.toml is printed.
    """
    with _ca_errors():
        bundle = certificates.issue_operator(directory, name, out or directory / f"operator-{name}")
    click.echo(
        f"copy {bundle.ca}, {bundle.cert} and {bundle.key} to /etc/poolwarden/operator/ where {name} works, "
        "or anywhere for: poolwarden --collector HOST:PORT --tls DIR"
    )
    click.echo("what it allows stands in collector.toml (then: poolwarden-collector reload):", err=True)
    click.echo(f'[[operators]]\nname = "{name}"\nrole = "{role}"')
    if pools:
        click.echo(f"pools = {json.dumps(pools)}")


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


main.add_command(enrolment)
main.add_command(web_user)
main.add_command(store)
main.add_command(generation)


@contextlib.contextmanager
def _ca_errors() -> Iterator[None]:
    try:
        yield
    except certificates.CaError as error:
        sys.exit(_say(str(error), EXIT_OTHER))


def _say(text: str, status: int) -> int:
    click.echo(f"poolwarden-collector: {' '.join(text.split())}", err=True)
    return status


def _count(items: Sized, what: str) -> str:
    return f"{len(items)} {what}" if len(items) == 1 else f"{len(items)} {what}s"


if __name__ == "__main__":
    main()
