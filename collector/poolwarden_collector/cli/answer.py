"""The commands that answer what the engine asks: approve, deny, acknowledge."""

import re

import click

from poolwarden_collector.cli.act import actor, ask, say
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

_UNITS = {"s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """``90s``, ``30m`` or ``30min``, ``4h``, ``1d`` in milliseconds. Raises BadInput."""
    found = re.fullmatch(r"(\d{1,6})\s*(s|min|m|h|d)", text.strip())
    if found is None:
        raise BadInput(f"{text!r} is no duration", "for example 30m, 4h or 1d")
    return int(found[1]) * _UNITS[found[2]]


@click.command(short_help="Say yes to what is asked.")
@click.argument("failover")
@click.option("--accept-kill", metavar="N", type=click.IntRange(0, 100_000), default=0, help="At most N running VMs.")
@click.option("--accept-stale", metavar="AGE", default="", help="A database of this age, e.g. 4h.")
@click.option("--shoot", is_flag=True, help="Power the old master off although its power reads ON.")
@common_options
@click.pass_obj
def approve(settings: Settings, failover: str, accept_kill: int, accept_stale: str, shoot: bool) -> None:
    """Say yes to what is asked of FAILOVER, as far as the given numbers reach.

    `poolwarden status` shows the question, what is at stake, and this command with its numbers. Everything is checked
    again when it is given, and at every step after it.
    """
    from poolwarden.v1 import operator_pb2

    stale = duration_ms(accept_stale) if accept_stale else 0
    yes = operator_pb2.Approve(id=failover, accept_kill=accept_kill, accept_stale_ms=stale, shoot=shoot)
    with connect(settings) as collector:
        reply = ask(collector, operator_pb2.CommandRequest(actor=actor(), approve=yes), settings)
    say(reply, settings)


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
@click.argument("pool")
@common_options
@click.pass_obj
def acknowledge(settings: Settings, pool: str) -> None:
    """End the cool-down after a failover of POOL: the next loss of its master is acted upon again."""
    from poolwarden.v1 import operator_pb2

    request = operator_pb2.CommandRequest(actor=actor(), acknowledge=operator_pb2.Acknowledge(pool=pool))
    with connect(settings) as collector:
        reply = ask(collector, request, settings)
    say(reply, settings)
