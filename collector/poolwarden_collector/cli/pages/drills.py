"""`poolwarden drill`: what its steps would do, how far one is, and what a drill came to."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.pages.journal import clock
from poolwarden_collector.cli.words import DRILL_STEPS, span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

OUTCOMES: dict[str, tuple[str, Tone]] = {
    "passed": ("PASSED", "good"),
    "partly": ("PASSED, NOT ALL OF IT TRIED", "warn"),
    "failed": ("FAILED", "bad"),
    "abandoned": ("ABANDONED", "warn"),
}
JUDGED: dict[str, tuple[str, Tone]] = {
    "passed": ("passed", "good"),
    "failed": ("failed", "bad"),
    "skipped": ("not tried", "warn"),
}


def plan_page(drill: "api.DrillStatus", pool: str) -> Page:
    """Each step with what it does, also to VMs, and what stands against it now."""
    page: Page = [Line(f"a drill would walk {len(drill.steps)} steps", "strong", label=f"{pool}  ")]
    for step in drill.steps:
        page += announcement(step)
    begin = f"poolwarden drill {pool} --steps {','.join(step.part for step in drill.steps)}"
    return [*page, Line(), Line("nothing was done; to begin it:", "dim"), Line(begin, indent=2)]


def announcement(step: "api.DrillStep") -> Page:
    """What a step does, before anybody says yes to it."""
    page: Page = [Line(f"{step.part} of {step.host_name}", "strong", indent=2, label=f"{step.number}  ")]
    page.append(Line(step.does, indent=5))
    if step.why:
        page.append(Line(step.why, "warn", indent=5, label="not now: "))
        page += [Line(step.next_step, indent=5, label="do: ")] if step.next_step else []
    return page


def progress(step: "api.DrillStep") -> str:
    """What is awaited now, in one line."""
    return f"step {step.number}, {step.part} of {step.host_name}: {step.now}"


def result_page(data: Mapping[str, Any], pool: str, at: str = "") -> Page:
    """The table of steps, what each took and came to, and what was never tried. ``data``: of its last entry."""
    word, tone = OUTCOMES.get(str(data.get("outcome")), (str(data.get("outcome")), ""))
    steps = list(data.get("steps", ()))
    when = f"  {clock(at)[:16]}" if at else ""
    page: Page = [Line(word, tone, label=f"{pool}  drill of {data.get('by', '?')}{when}: ")]
    page.append(Table(("STEP", "HOST", "TOOK", "JUDGED"), [_row(step) for step in steps], indent=2))
    for step in steps:
        name = f"{step['part']} of {step['name']}"
        if step["phases"]:
            page.append(Line(_phases(step["phases"]), "dim", indent=2, label=f"{name}: "))
        if step["why"]:
            said: Tone = "bad" if step["state"] == "failed" else "warn"
            page.append(Line(step["why"], said, indent=2, label=f"{name}: "))
    parts = {step["part"] for step in steps}
    untried = [f"{step['part']} of {step['name']}" for step in steps if step["state"] == "skipped"]
    untried += [part for part in DRILL_STEPS if part not in parts]
    page.append(Line(", ".join(untried) or "nothing", indent=2, label="never tried: "))
    return page


def _row(step: Mapping[str, Any]) -> tuple[Piece | str, ...]:
    word, tone = JUDGED.get(step["state"], (step["state"], ""))
    known = [phase["took_ms"] for phase in step["phases"] if phase["took_ms"] is not None]
    whole = bool(known) and len(known) == len(step["phases"])
    took = span(sum(known)) if whole else "not known" if step["phases"] else ""
    return (step["part"], step["name"], took, Piece(word, tone))


def _phases(phases: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{p['phase']} {span(p['took_ms']) if p['took_ms'] is not None else 'not known'}" for p in phases)


def drills_page(entries: Iterable["api.HistoryEntry"]) -> Page:
    """Drills that are over, the oldest first."""
    page: Page = []
    for entry in entries:
        if entry.kind != "drill-ended":
            continue  # of a collector that does not know how to choose them
        page += [Line()] if page else []
        page += result_page(json.loads(entry.data), entry.pool_name or entry.pool_uuid, entry.at)
    return page or [Line("no drill is on record; poolwarden drill POOL --plan says what one would do")]
