"""The commands that answer what is asked: approve, deny, acknowledge; and the second person's word."""

import sys
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options, reason_option

if TYPE_CHECKING:
    from poolwarden_collector.cli.collector import Collector


@click.command(short_help="Say yes to what is asked.")
@click.argument("failover")
@click.option("--accept-kill", metavar="N", type=click.IntRange(0, 100_000), default=0, help="At most N running VMs.")
@click.option("--accept-stale", metavar="AGE", default="", help="A database of this age, e.g. 4h.")
@click.option("--shoot", is_flag=True, help="Power the old master off although its power reads ON.")
@click.option("--name", "typed_name", metavar="NAME", help="With --shoot: its name, instead of being asked to type it.")
@reason_option
@common_options
@click.pass_obj
def approve(
    settings: Settings, failover: str, accept_kill: int, accept_stale: str, shoot: bool, typed_name: str | None
) -> None:
    """Say yes to what is asked of FAILOVER, as far as the given numbers reach.

    `poolwarden status` shows the question, what is at stake, and this command with its numbers. Everything is checked
    again when it is given, and at every step after it. --shoot ends whatever runs on the host, so its name is typed.
    """
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.times import duration_ms

    stale = duration_ms(accept_stale) if accept_stale else 0
    yes = operator_pb2.Approve(id=failover, accept_kill=accept_kill, accept_stale_ms=stale, shoot=shoot)
    with connect(settings) as collector:
        if shoot:
            yes.typed_name = _name_as_typed(collector, failover, typed_name)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), approve=yes), settings)
    say(reply, settings)


def _name_as_typed(collector: "Collector", failover: str, typed: str | None) -> str:
    """Whoever has a host powered off types its name. Raises BadInput; the collector looks at it as well."""
    for pool in collector.waiting():
        if failover not in (pool.question.id, pool.name, pool.pool_uuid) or not pool.question.host_uuid:
            continue
        shot = pool.failover.old_master_uuid or pool.question.host_uuid  # a question may be about the candidate
        name = next((host.name for host in pool.hosts if host.host_uuid == shot), "")
        if typed is None:
            if not sys.stdin.isatty():
                raise BadInput("approve --shoot has to ask, and nobody is at a terminal", "for scripts: --name NAME")
            click.echo(f"{pool.question.text}. Its VMs end with it.", err=True)
            typed = str(click.prompt("Type the host's name", err=True))
        if typed.strip() not in (name, shot):
            raise BadInput(f"{typed.strip()!r} is not the host's name; nothing was approved", f"it is called {name!r}")
        return typed.strip()
    return (typed or "").strip()


@click.command(short_help="Say no to what is asked.")
@click.argument("failover")
@click.option("--reason", default="", help="Kept in the journal.")
@common_options
@click.pass_obj
def deny(settings: Settings, failover: str, reason: str) -> None:
    """Say no to what is asked of FAILOVER. It is not asked again for the same reason."""
    from poolwarden.v1 import operator_pb2

    request = operator_pb2.CommandRequest(actor=actor(), deny=operator_pb2.Deny(id=failover, reason=reason))
    with connect(settings) as collector:
        reply = ask(collector, request, settings)
    say(reply, settings)


@click.command(short_help="End POOL's cool-down.")
@click.argument("pool", required=False)
@reason_option
@common_options
@click.pass_obj
def acknowledge(settings: Settings, pool: str | None) -> None:
    """End the cool-down after a failover of POOL: the next loss of its master is acted upon again."""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.names import pool_or_only

    with connect(settings) as collector:
        command = operator_pb2.Acknowledge(pool=pool_or_only(collector, pool, "acknowledge POOL"))
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), acknowledge=command), settings)
    say(reply, settings)


@click.command(short_help="Be the second person for what waits for one.")
@click.argument("wanted", metavar="ID")
@click.option("--name", "typed_name", metavar="NAME", help="The host's name, instead of being asked to type it.")
@click.option("--withdraw", is_flag=True, help="Instead: it is not to be done.")
@reason_option
@common_options
@click.pass_obj
def second(settings: Settings, wanted: str, typed_name: str | None, withdraw: bool) -> None:
    """Say, as another person, that what somebody has asked for is to be done.

    `poolwarden status` shows ID and what it is. It is ordered in both names, and everything is checked again.
    """
    from poolwarden.v1 import operator_pb2

    with connect(settings) as collector:
        if not withdraw and typed_name is None:
            if not sys.stdin.isatty():
                raise BadInput("second has to ask, and nobody is at a terminal", "for scripts: --name NAME")
            waits = [each for pool in collector.waiting() for each in pool.seconded if each.id == wanted]
            for each in waits:
                click.echo(f"{each.what}, asked for by {each.by}.", err=True)
            typed_name = str(click.prompt("Type the host's name", err=True))
        command = operator_pb2.Second(id=wanted, typed_name=(typed_name or "").strip(), withdraw=withdraw)
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), second=command), settings)
    say(reply, settings)
