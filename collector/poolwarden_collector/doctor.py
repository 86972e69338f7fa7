"""`poolwarden doctor`: is the collector itself able to do its work when it is needed?

The running collector looks at itself and answers over its operator interface. Where none runs on this machine, its
files are looked at here, as far as whoever asks may read them. Exit status 1 if anything is at fault.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from poolwarden_collector.cli.errors import AnswerIsNo, Unreachable
from poolwarden_collector.cli.layout import Line, Page, Tone, show
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options
from poolwarden_collector.shell.doctor import machine
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check
from poolwarden_collector.shell.doctor.etcd_checks import etcd_checks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolwarden.v1 import operator_pb2 as api

DEFAULT_CONFIG = Path("/etc/poolwarden/collector.toml")
TONES: dict[str, Tone] = {OK: "good", WARNING: "warn", FAULT: "bad", UNCHECKED: "dim"}
LEVEL_WIDTH = len(UNCHECKED)


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Read where no collector answers.",
)
@common_options
@click.pass_obj
def doctor(settings: Settings, file: Path) -> None:
    """The collector's own condition: clock, disk, journal, ports, certificates, fence programs, where it runs.

    Each line is ok, warning, fault or unchecked, with what to do. Exit status 1 if anything is at fault.
    """
    reply = _reply(settings, file)
    if settings.json:
        from poolwarden_collector.cli.as_json import as_object, print_json

        print_json(as_object(reply))
    else:
        show(_page(reply), settings)
    faults = sum(check.level == FAULT for check in reply.checks)
    if faults:
        raise AnswerIsNo(f"{faults} {'is' if faults == 1 else 'are'} at fault", "what to do stands below each")


def _reply(settings: Settings, file: Path) -> api.DoctorReply:
    """What the collector says; where none runs here what its files say."""
    from poolwarden.v1 import operator_pb2 as api

    try:
        with connect(settings) as collector:
            found = collector.doctor()
    except Unreachable as error:
        if not settings.address.startswith("unix:"):
            raise
        found = api.DoctorReply()
        for check in (Check("collector", FAULT, error.sentence, error.next_step), *_without(file)):
            found.checks.add(name=check.name, level=check.level, text=check.text, next_step=check.next_step)
    for each in found.asked:
        if not each.answered:  # of several collectors
            step = "poolwarden collectors; on its machine: poolwarden doctor"
            found.checks.add(name="collector", level=FAULT, text=each.why_not, next_step=step, collector=each.collector)
    return found


def _without(file: Path) -> Iterable[Check]:
    """What this machine's files say while no collector runs."""
    stated, config = machine.configuration(file)
    yield stated
    if config is not None:
        yield from machine.of_machine(config)
        yield from asyncio.run(etcd_checks(config.store, config.name, {}))
    text = "hosts' clocks and certificates, ports: only a running collector can tell"
    yield Check("the rest", UNCHECKED, text)


def _page(reply: api.DoctorReply) -> Page:
    page: Page = []
    for check in reply.checks:
        label = f"{check.level:<{LEVEL_WIDTH}}  "
        whose = f"{check.collector}: " if reply.asked else ""
        page.append(Line(f"{whose}{check.name}: {check.text}", TONES.get(check.level, ""), label=label))
        if check.next_step:
            page.append(Line(check.next_step, indent=LEVEL_WIDTH + 2, label="do: "))
    return page
