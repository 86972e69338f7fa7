"""The commands that ask the collector for an act. The collector decides; a refusal is an answer, with exit status 1.

Who gives a command the collector knows by itself; a request carries the login name beside that, as a claim. The command
line checks only what saves a round trip or a mistake at the keyboard; no check here replaces one in the collector.
"""

import getpass
import os
import sys
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector


def actor() -> str:
    """The login name of the person at the keyboard, who is behind sudo if that was used."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def ask(
    collector: "Collector", request: "api.CommandRequest", settings: Settings, more_s: float = 0.0
) -> "api.CommandReply":
    """Send a command; print what was done, or raise the refusal. ``more_s``: what it may take beyond the usual."""
    from poolwarden_collector.cli.collector import COMMAND_LIMIT_S

    request.reason = settings.reason
    reply = collector.command(request, COMMAND_LIMIT_S + more_s)
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
    if not reply.accepted:
        said = reply.text or f"refused ({reply.code or 'no reason given'})"
        raise AnswerIsNo(said, reply.next_step, reply.code)
    return reply


def say(reply: "api.CommandReply", settings: Settings) -> None:
    if settings.json:
        return
    from poolwarden_collector.cli.layout import Line, show

    page = [Line(line) for line in (reply.text or "done").splitlines()]
    show([*page, Line(reply.next_step, label="next step: ")] if reply.next_step else [*page], settings)


@click.command("confirm-fenced", short_help="Give your word that HOST is off or cut off.")
@click.argument("host_name", metavar="HOST")
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@click.option("--how", metavar="TEXT", help="How it was made safe, instead of being asked.")
@click.option("--despite-power-on", is_flag=True, help="Even though its power reads on: it is cut from all storage.")
@reason_option
@common_options
@click.pass_obj
def confirm_fenced(
    settings: Settings, host_name: str, typed_name: str | None, how: str | None, despite_power_on: bool
) -> None:
    """Give your word that HOST is off, or cut from its storage for good. It is recorded with your name.

    HOST is any silent host, master or member: what waits for it waits no more, until it gives a sign of life. Of a
    master that vanished this is the proof that lets another host become master. If HOST in fact lives, both write to
    the same disks.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        pool, host = find_host(collector, host_name)
        typed_name, how = _word(pool, host, typed_name, how)
        # safety: the person's own words go to the collector as typed; it compares, checks power and agent, and records.
        confirmed = operator_pb2.ConfirmFenced(
            host=host.host_uuid, typed_name=typed_name, how=how, despite_power_on=despite_power_on
        )
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), confirm_fenced=confirmed), settings)
    say(reply, settings)


def _word(pool: "api.PoolStatus", host: "api.HostStatus", typed: str | None, how: str | None) -> tuple[str, str]:
    """The name and the reason, asked for where they were not given. Raises BadInput if either will not do."""
    if typed is None or how is None:
        if not sys.stdin.isatty():
            raise BadInput(
                "confirm-fenced has to ask, and nobody is at a terminal", "for scripts: --name NAME --how TEXT"
            )
        _show_what_is_known(pool, host)
        typed = typed or click.prompt("Type the host's name", err=True)
        how = how or click.prompt("How was it made safe", err=True)
    if typed.strip() != host.name:
        raise BadInput(
            f"{typed.strip()!r} is not the host's name; nothing was confirmed", f"it is called {host.name!r}"
        )
    if not how.strip():
        raise BadInput(
            "how it was made safe must be said; nothing was confirmed", 'e.g. --how "both power cords pulled"'
        )
    return typed.strip(), how.strip()


def _show_what_is_known(pool: "api.PoolStatus", host: "api.HostStatus") -> None:
    from poolwarden_collector.cli.layout import Line, as_text
    from poolwarden_collector.cli.words import span

    heard = f"last heard {span(host.agent_age_ms)} ago" if host.ever_heard else "never heard"
    running = f"{host.running_vms} VMs ran there" if host.running_vms_known else "its VMs are not known"
    page = [
        Line(f"{host.name} of pool {pool.name}: agent {heard}, power reads {host.power}, {running}."),
        Line("Another host becomes master on your word. If this one in fact lives, both write to the same disks."),
    ]
    click.echo(as_text(page), err=True)


@click.command("restart-xapi")
@click.argument("host_name", metavar="HOST")
@reason_option
@common_options
@click.pass_obj
def restart_xapi(settings: Settings, host_name: str) -> None:
    """Restart xapi on HOST, if that is safe there. Running VMs are not touched."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        command = operator_pb2.RestartXapiCommand(host=host.host_uuid)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), restart_xapi=command), settings)
    say(reply, settings)


@click.command(short_help="No automatic action on POOL.")
@click.argument("pool", required=False)
@click.option("--reason", default="", help="Shown by status until the pool is resumed.")
@click.option("--for", "lasting", metavar="DURATION", default="", help="Resume by itself after e.g. 2h or 30m.")
@common_options
@click.pass_obj
def pause(settings: Settings, pool: str | None, reason: str, lasting: str) -> None:
    """No automatic action on POOL until it is resumed; observation goes on.

    With --for it is resumed by itself, never early. Given again it makes a pause longer, never shorter.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only
    from poolwarden_collector.cli.times import duration_ms

    for_ms = duration_ms(lasting) if lasting else 0
    if lasting and not for_ms:
        raise BadInput("a pause of no time is none", "for example --for 2h")
    with connect(settings) as collector:
        command = operator_pb2.Pause(pool=pool_or_only(collector, pool, "pause POOL"), reason=reason, for_ms=for_ms)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), pause=command), settings)
    say(reply, settings)


@click.command()
@click.argument("pool", required=False)
@reason_option
@common_options
@click.pass_obj
def resume(settings: Settings, pool: str | None) -> None:
    """Allow automatic action on POOL again."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        command = operator_pb2.Resume(pool=pool_or_only(collector, pool, "resume POOL"))
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), resume=command), settings)
    say(reply, settings)


@click.command(short_help="End a hold of HOST that nothing else ends.")
@click.argument("host_name", metavar="HOST")
@click.option("--as-master", is_flag=True, help="Its xapi starts as master: no other host may be.")
@click.option("--gc", is_flag=True, help="Instead: let storage's garbage collection go on there.")
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@reason_option
@common_options
@click.pass_obj
def release(settings: Settings, host_name: str, as_master: bool, gc: bool, typed_name: str | None) -> None:
    """End a hold of HOST that no failover and no owed work of the collector ends.

    Without an option its xapi starts as a member of the master that serves. The collector refuses while a failover
    decides about HOST, and --as-master while another host may be the master.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import find_host

    if as_master and gc:
        raise BadInput("--as-master and --gc are two commands", "give one of them")
    with connect(settings) as collector:
        _, host = find_host(collector, host_name)
        if (as_master or gc) and typed_name is None:
            if not sys.stdin.isatty():
                raise BadInput("release has to ask, and nobody is at a terminal", "for scripts: --name NAME")
            typed_name = click.prompt("Type the host's name", err=True)
        command = operator_pb2.Release(
            host=host.host_uuid, as_master=as_master, gc=gc, typed_name=(typed_name or "").strip()
        )
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), release=command), settings)
    say(reply, settings)
