"""`poolwarden replay`: a stored decision made again, here, without a collector's help.

The input comes from a running collector or straight from a journal's file; the engine is run on it in this process, and
what comes out is compared with what was recorded. Nothing is written, and nothing is done.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
import zlib
from pathlib import Path
from typing import Any

import click

from poolwarden_collector.cli.errors import AnswerIsNo, BadInput
from poolwarden_collector.cli.layout import Line, Page, show
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options
from poolwarden_collector.core.replay import Replayed
from poolwarden_collector.core.replay import replay as again
from poolwarden_collector.core.state.decision_input import BadInput as Unreadable
from poolwarden_collector.shell.store.journal_rows import DECISION


@click.command()
@click.argument("decision")
@click.option(
    "--journal",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read it from this journal.db instead of asking the collector.",
)
@click.option(
    "--archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read it from this archive of `poolwarden export`.",
)
@click.option("--from", "whose", default="", metavar="COLLECTOR", help="Of several: in whose journal it stands.")
@common_options
@click.pass_obj
def replay(settings: Settings, decision: str, path: Path | None, archive: Path | None, whose: str) -> None:
    """Make DECISION again from its stored input: the same verdict, the same plan.

    DECISION is the number that history shows, or a failover's id (its last decision).
    """
    if path is not None and archive is not None:
        raise BadInput("--journal and --archive exclude each other", "give one of them")
    if archive is not None:
        stored = _from_archive(archive, decision)
    else:
        stored = _from_file(path, decision) if path is not None else _from_collector(settings, decision, whose)
    try:
        made = again(stored["input"], tuple(stored["step"]))
    except Unreadable as error:
        raise BadInput(
            f"decision {decision} cannot be made again: {error}", "use the version that stored it"
        ) from error
    if settings.json:
        click.echo(json.dumps(_as_object(stored, made), indent=2))
    else:
        show(_page(decision, stored, made), settings)
    if made.differs:
        raise AnswerIsNo(f"decision {decision} is not made again as it was recorded", "was it stored by this version?")


def _from_collector(settings: Settings, decision: str, whose: str) -> dict[str, Any]:
    with connect(settings) as collector:
        reply = collector.decision(decision, whose)
    stored: dict[str, Any] = json.loads(zlib.decompress(reply.input))
    return stored


def _from_file(path: Path, decision: str) -> dict[str, Any]:
    """The stored decision from a journal's file, which is opened for reading only."""
    wanted = {"seq": int(decision) if decision.isdigit() else -1, "failover": decision}
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as db:
            db.row_factory = sqlite3.Row
            row = db.execute(DECISION, wanted).fetchone()
    except sqlite3.Error as error:
        raise BadInput(f"{path} cannot be read as a journal: {error}", "it is called journal.db") from error
    if row is None:
        raise BadInput(f"{path} has no decision {decision!r} with a stored input", "history shows their numbers")
    return {"kind": row["kind"], "at": row["at"], "text": row["text"], **json.loads(row["data"])}


def _from_archive(path: Path, decision: str) -> dict[str, Any]:
    from poolwarden_collector.export.archive import decision_in

    try:
        found = decision_in(path, decision)
    except (OSError, tarfile.TarError, EOFError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{path} cannot be read as an archive: {error}", "poolwarden export makes one") from error
    if found is None:
        raise BadInput(f"{path} has no decision {decision!r}", "timeline.txt in it shows their numbers")
    return found


def _page(decision: str, stored: dict[str, Any], made: Replayed) -> Page:
    page = [Line(f"{stored['at']}  {stored['kind']}: {stored['text']}", "strong", label=f"decision {decision}: ")]
    page += [Line(), Line(f"{made.verdict}: {made.sentence}", label="verdict: ")]
    page += [Line(f"{e.subject}: {e.value}, {e.text} (seen by {e.witness})", indent=2) for e in made.evidence]
    page += [Line(), Line("what was recorded in this step, made again:", "dim")]
    page += [Line(text, indent=2) for text in made.entries]
    page += [Line(), Line("the plan from here:", "dim")]
    page += [Line(text, indent=2, label=f"{number}. ") for number, text in enumerate(made.plan, 1)]
    if made.differs:
        return [*page, Line(), *(Line(text, "bad") for text in made.differs)]
    return [*page, Line(), Line("made again from the stored input: the same, to the last word", "good")]


def _as_object(stored: dict[str, Any], made: Replayed) -> dict[str, Any]:
    return {
        "kind": stored["kind"],
        "at": stored["at"],
        "text": stored["text"],
        "verdict": made.verdict,
        "sentence": made.sentence,
        "evidence": [
            {"subject": e.subject, "value": e.value, "age_ms": e.age_ms, "witness": e.witness, "text": e.text}
            for e in made.evidence
        ],
        "entries": list(made.entries),
        "plan": list(made.plan),
        "differs": list(made.differs),
    }
