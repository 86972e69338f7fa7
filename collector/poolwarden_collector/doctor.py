"""`poolwarden doctor`: is the collector itself able to do its work when it is needed?

The running collector looks at itself and answers over its operator interface. Where none runs on this machine, its
files are looked at here, as far as whoever asks may read them. Exit status 1 if anything is at fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poolwarden_collector.cli.errors import AnswerIsNo, Unreachable
from poolwarden_collector.cli.layout import Line, Page, Tone, show
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options
from poolwarden_collector.shell.doctor import machine
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    checks = _checks(settings, file)
    if settings.json:
        from poolwarden_collector.cli.as_json import print_json

        print_json({"checks": [_as_object(check) for check in checks]})
    else:
        show(_page(checks), settings)
    faults = sum(check.level == FAULT for check in checks)
    if faults:
        raise AnswerIsNo(f"{faults} {'is' if faults == 1 else 'are'} at fault", "what to do stands below each")


def _checks(settings: Settings, file: Path) -> list[Check]:
    try:
        with connect(settings) as collector:
            found = collector.doctor()
    except Unreachable as error:
        if not settings.address.startswith("unix:"):
            raise
        return [Check("collector", FAULT, error.sentence, error.next_step), *_without(file)]
    return [Check(each.name, each.level, each.text, each.next_step) for each in found.checks]


def _without(file: Path) -> Iterable[Check]:
    """What this machine's files say while no collector runs."""
    stated, config = machine.configuration(file)
    yield stated
    if config is not None:
        yield from machine.of_machine(config)
    text = "hosts' clocks and certificates, ports: only a running collector can tell"
    yield Check("the rest", UNCHECKED, text)


def _page(checks: list[Check]) -> Page:
    page: Page = []
    for check in checks:
        label = f"{check.level:<{LEVEL_WIDTH}}  "
        page.append(Line(f"{check.name}: {check.text}", TONES.get(check.level, ""), label=label))
        if check.next_step:
            page.append(Line(check.next_step, indent=LEVEL_WIDTH + 2, label="do: "))
    return page


def _as_object(check: Check) -> dict[str, Any]:
    return {"name": check.name, "level": check.level, "text": check.text, "next_step": check.next_step}
