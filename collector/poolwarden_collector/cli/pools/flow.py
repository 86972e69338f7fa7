"""What the commands on a whole pool share: the plan that is shown, the question, and what is told on the way."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.layout import Block, Line, Table, show
from poolwarden_collector.cli.pools.survey import Host, Member
from poolwarden_collector.cli.settings import Settings
from poolwarden_collector.cli.words import size

if TYPE_CHECKING:
    from poolwarden_collector.cli.collector import Collector


def show_plan(
    settings: Settings, heading: str, rows: Sequence[tuple[Member, Host | None, str]], after: Sequence[str]
) -> None:
    """Each host with what is done on it; nothing of it has been done."""
    if settings.json:
        return
    table = [
        (
            member.name,
            member.address,
            host.release if host else "not reached",
            size(host.room_kb * 1024) if host else "?",
            what,
        )
        for member, host, what in rows
    ]
    page: list[Block] = [
        Line(heading, "strong"),
        Table(("HOST", "ADDRESS", "RELEASE", "ROOM", "WHAT IS DONE"), table, 2),
    ]
    show([*page, *(Line(text, indent=2) for text in after)], settings)


def confirm(command: str, yes: bool) -> None:
    """Go on only if a person says so. Raises BadInput where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{command} has to ask, and nobody is at a terminal", "for scripts: --yes")
    if not click.confirm("Go on?", err=True):
        raise click.exceptions.Exit(1)


def tell(settings: Settings, text: str) -> None:
    """A line about what has just been done."""
    from poolwarden_collector.cli.layout import printable

    click.echo(printable(text), err=settings.json)


def show_end(settings: Settings, collector: "Collector", pool: str) -> None:
    """Status and readiness of the pool, as the collector has them now."""
    reply = collector.status(pool)
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
        return
    from poolwarden_collector.cli.pages.pools import status_page
    from poolwarden_collector.cli.pages.readiness import readiness_page

    show([Line(), *status_page(reply), Line(), *readiness_page(collector.readiness(pool))], settings)
