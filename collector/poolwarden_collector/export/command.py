"""The command `poolwarden export`."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from poolwarden_collector.cli.as_json import print_json
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.layout import Line, show
from poolwarden_collector.cli.main import version
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings, common_options
from poolwarden_collector.cli.times import between, rfc3339
from poolwarden_collector.export.archive import pack, write_files
from poolwarden_collector.export.gathering import Asked, contents, gather


@click.command()
@click.argument("failover", required=False, default="")
@click.option("--since", metavar="TIME", default="", help="Instead of FAILOVER: from then on, as in history.")
@click.option("--until", metavar="TIME", default="", help="Up to then; now where it is not given.")
@click.option("--pool", metavar="POOL", default="", help="Of this pool only.")
@click.option("--redact", is_flag=True, help="Replace names, addresses and UUIDs, the same in every file.")
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path), help="A .tar.gz; made anew.")
@common_options
@click.pass_obj
def export(settings: Settings, failover: str, since: str, until: str, pool: str, redact: bool, out: Path) -> None:
    """All that is known of FAILOVER, or of the time since TIME, in one archive.

    Timeline, evidence, decisions with their inputs, alerts with their deliveries, and what hosts kept of their logs.
    """
    if bool(failover) == bool(since):
        raise BadInput("give a failover's id or --since TIME", "poolwarden history POOL shows the ids of failovers")
    if failover and until:
        raise BadInput("--until goes with --since", f"poolwarden export {failover} --out {out}")
    if out.exists():
        raise BadInput(f"{out} is there already", "give another --out")
    begin, end = between(since, until)
    end = end or (rfc3339(datetime.now(UTC)) if since else "")
    with connect(settings) as collector:
        found = gather(collector, Asked(failover, _uuid(collector, pool), begin, end))
        versions = {"collector": found.status.version, "export": version()}
        try:
            with tempfile.TemporaryDirectory(prefix=".poolwarden-export-", dir=out.parent) as folder:
                title = write_files(Path(folder), found, lambda kept: contents(collector, kept), versions, redact)
                pack(Path(folder), out, "poolwarden-export")
        except OSError as error:
            raise BadInput(f"{out} cannot be written: {error.strerror or error}", "give another --out") from error
    with out.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    counts = {"entries": len(found.entries), "decisions": len(found.decisions), "alerts": len(found.alerts)}
    _tell(settings, out, digest, title, {**counts, "capsules": len(found.capsules)}, found.remarks)


def _uuid(collector: Any, pool: str) -> str:
    """The pool's UUID: requests for alerts and entries then mean the same one. Raises BadInput."""
    if not pool:
        return ""
    from poolwarden_collector.cli.names import the_pool

    return str(the_pool(collector.status(pool), pool).pool_uuid)


def _tell(settings: Settings, out: Path, digest: str, title: str, counts: dict[str, int], remarks: list[str]) -> None:
    if settings.json:
        print_json({"file": str(out), "sha256": digest, "bytes": out.stat().st_size, **counts, "remarks": remarks})
        return
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    page = [Line(title, "strong"), Line(told), Line(digest, label="sha256: ")]
    show([*page, *(Line(remark, "warn", label="note: ") for remark in remarks), Line(str(out), "good")], settings)
