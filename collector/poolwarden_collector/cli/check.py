"""The command `poolwarden check`: pools, hosts and the collector for Nagios, Icinga, Zabbix and others (plugin.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from poolwarden_collector.cli.commands import Commands
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.plugin import WORDS, Limits, Range, RangeType, report
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options

DEFAULT_TIMEOUT = "10s"
_ALERTS = 500  # the newest ones are looked at for deliveries that wait
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _thresholds(what: str, warning: str | None = None, critical: str | None = None) -> Callable[[_Function], _Function]:
    def add(function: _Function) -> _Function:
        for short, name, default in (("-c", "critical", critical), ("-w", "warning", warning)):
            option = click.option(
                short,
                f"--{name}",
                type=RangeType(),
                metavar="RANGE",
                default=default,
                show_default=default is not None,
                help=f"{name.upper()} outside of it: {what}.",
            )
            function = option(function)
        return function

    return add


def _timeout(function: _Function) -> _Function:
    text = "UNKNOWN if the collector has not answered by then."
    option = click.option("--timeout", metavar="DURATION", default=DEFAULT_TIMEOUT, show_default=True, help=text)
    return option(function)


def _seconds(timeout: str) -> float:
    from poolwarden_collector.cli.times import duration_ms

    return duration_ms(timeout) / 1000


@click.group(cls=Commands)
@common_options
def check() -> None:
    """For monitoring: one line, performance data, and exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

    A RANGE is of the Monitoring Plugins: 10 is 0 to 10, 5: is 5 and more, ~:10 is up to 10, @5:10 is not 5 to 10.
    """


@check.command("pool")
@click.argument("pool", required=False)
@click.option(
    "--readiness",
    "ready",
    type=click.Choice(["ok", "warning", "critical"]),
    default="warning",
    show_default=True,
    help="What a pool counts as that would not survive losing its master now.",
)
@_thresholds("hosts that are not heard", warning="0")
@_timeout
@common_options
@click.pass_obj
def check_pool(
    settings: Settings, pool: str | None, ready: str, warning: Range | None, critical: Range | None, timeout: str
) -> int:
    """Is POOL well? Its situation, its open alerts, and would it survive losing its master."""
    from poolwarden_collector.cli.judging import of_pool
    from poolwarden_collector.cli.names import pool_or_only, the_pool

    within = _seconds(timeout)
    if pool == "":
        raise BadInput("the name of the pool is empty", "names: poolwarden status")
    with connect(settings) as collector:
        name = pool_or_only(collector, pool, "check pool POOL")
        reply = collector.status(name, within)
        found = the_pool(reply, name)
        reasons = [each for one in collector.readiness(found.pool_uuid).pools for each in one.reasons]
    counts_as = WORDS.index(ready.upper())
    return report(of_pool(reply, found, reasons, counts_as, Limits(warning, critical)), settings.json)


@check.command("host")
@click.argument("host_name", metavar="HOST")
@_thresholds("percent of space or inodes that are used on a file system  [default: its agent's levels]")
@_timeout
@common_options
@click.pass_obj
def check_host(settings: Settings, host_name: str, warning: Range | None, critical: Range | None, timeout: str) -> int:
    """Is HOST well? Its xapi, file systems, fence devices, and what surrounds xapi. A silent host is UNKNOWN."""
    from poolwarden_collector.cli.judging import of_host
    from poolwarden_collector.cli.names import hosted, the_host

    pool_name, _, name = host_name.rpartition("/")
    if not name:
        raise BadInput("the name of the host is empty", "names: poolwarden hosts")
    with connect(settings) as collector:
        within = _seconds(timeout)
        reply = collector.status(pool_name, within) if pool_name else hosted(collector, name, within)
    _, found = the_host(reply, name)
    used = Limits(warning, critical) if warning is not None or critical is not None else None
    return report(of_host(reply, found, used), settings.json)


@check.command("collector")
@_thresholds("seconds that it is behind what it hears", warning="2", critical="10")
@_timeout
@common_options
@click.pass_obj
def check_collector(settings: Settings, warning: Range | None, critical: Range | None, timeout: str) -> int:
    """Does the collector itself run, decide, and deliver its alerts?"""
    from poolwarden.v1 import operator_pb2
    from poolwarden_collector.cli.judging import of_collector

    with connect(settings) as collector:
        reply = collector.overview(limit_s=_seconds(timeout))
        asked = operator_pb2.AlertsRequest(limit=_ALERTS)
        waiting = list(collector.alerts(asked).alerts) if reply.outbox_pending else []
    return report(of_collector(reply, waiting, Limits(warning, critical)), settings.json)
