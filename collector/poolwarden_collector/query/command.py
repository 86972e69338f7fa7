"""The command `poolwarden query`."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import click

from poolwarden_collector.cli.as_json import print_json
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.layout import Line, Page, Table, show
from poolwarden_collector.cli.settings import Settings, common_options
from poolwarden_collector.cli.times import duration_ms
from poolwarden_collector.query.reading import Answer, ask
from poolwarden_collector.query.views import VIEWS
from poolwarden_collector.shell.config.config import DEFAULT_STATE
from poolwarden_collector.shell.config.toml_table import ConfigError, read_toml

DEFAULT_CONFIG = Path("/etc/poolwarden/collector.toml")


@click.command()
@click.argument("sql", required=False)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Rows at most.")
@click.option("--timeout", metavar="DURATION", default="10s", show_default=True, help="It is ended after that.")
@click.option("--config", "file", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--state", type=click.Path(path_type=Path), help="Where journal.db is, e.g. in a backup.")
@common_options
@click.pass_obj
def query(
    settings: Settings, sql: str | None, as_csv: bool, limit: int, timeout: str, file: Path, state: Path | None
) -> None:
    """Ask the collector's records by SQL, on its machine. Reads only; without SQL it lists the views.

    The files are read directly: a heavy query holds up nothing that the collector does.
    """
    if sql is None:
        _list_views(settings)
        return
    if as_csv and settings.json:
        raise BadInput("--csv and --json exclude each other", "give one of them")
    answer = ask(state or _state_of(file), sql, limit, duration_ms(timeout) / 1000)
    if settings.json:
        print_json(_as_object(answer))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows([[_text(value) for value in row] for row in answer.rows])
    else:
        rows = [[_text(value) for value in row] for row in answer.rows]
        show([Table(answer.columns, rows)] if rows else [Line("no rows")], settings)
    if answer.more:
        click.echo(f"there are more than {limit} rows: --limit N shows more", err=True)


def _state_of(file: Path) -> Path:
    """The state directory that the configuration names; nothing else of it is read. Raises BadInput."""
    try:
        return read_toml(file).table("collector").path("state_dir", DEFAULT_STATE)
    except ConfigError as error:
        raise BadInput(str(error), "it runs on the collector's machine; --config FILE, or --state DIR") from None


def _list_views(settings: Settings) -> None:
    if settings.json:
        print_json({"views": [{"name": v.name, "columns": list(v.columns), "says": v.says} for v in VIEWS]})
        return
    page: Page = []
    for view in VIEWS:
        page += [Line(view.says, label=f"{view.name}: "), Line(", ".join(view.columns), "dim", indent=2)]
    example = "poolwarden query \"SELECT at, text FROM entries WHERE kind = 'paused'\""
    show([*page, Line(), Line(example, label="for example: ")], settings)


def _as_object(answer: Answer) -> dict[str, object]:
    rows = [[value.hex() if isinstance(value, bytes) else value for value in row] for row in answer.rows]
    return {"columns": list(answer.columns), "rows": rows, "more": answer.more}


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else value if isinstance(value, str) else json.dumps(value)
