"""The alerts of a story as they really came out, with their four lines, and the document that shows them.

A file below ``alerts`` is a story; below ``--- alerts`` stand its alerts. ``python -m tests.screens.stage`` writes them
anew. Details are shown of the last alert of a failover alone: elsewhere they are evidence, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved

from .stage import Screens

ALERTS = Path(__file__).parent / "alerts"
SHOWN = Path(__file__).parents[2] / "docs/alerts-shown.md"
MARK = "\n--- alerts\n"
WIDTH = 80
WITH_DETAILS = ("failover-done",)


def at(ms: int) -> str:
    """`T+8 s`, `T+3 min`, `T+2 h`."""
    seconds = ms / 1000
    if seconds < 120:
        return f"T+{seconds:.0f} s"
    return f"T+{seconds / 60:.0f} min" if seconds < 7200 else f"T+{seconds / 3600:.1f} h"


def folded(text: str) -> Iterator[str]:
    """A line of an alert at 80 columns, its continuation below its text."""
    indent = 6 if ": " in text else 0
    line = ""
    for word in re.findall(r"\S+\s*", text):
        if line.strip() and len(line) + len(word.rstrip()) > WIDTH:
            yield line.rstrip()
            line = " " * indent
        line += word
    yield line.rstrip()


def told(name: str, story: str) -> str:
    """Every alert of the story, and the end of each."""
    screens, found = Screens(name, story), list[str]()
    stage = screens.stage
    began = stage.book.zero + next(note.ms for note in stage.book.notes if note.source == ">")
    for commit in screens.shell.ledger.commits:
        when = at(commit.ms - began)
        for alert in commit.alerts:
            if isinstance(alert, AlertRaised):
                lines, _, details = alert.body.partition("\n\n")
                found += [f"{when}", *folded(f"[{alert.severity}] {alert.title}")]
                found += [part for line in lines.splitlines() for part in folded(line)]
                if alert.data.get("message") in WITH_DETAILS:
                    found += ["", *(part for line in details.splitlines() for part in folded(line))]
                found.append("")
            elif isinstance(alert, AlertResolved):
                found += [when, *folded(f"over: {alert.text}"), ""]
    return "\n".join(found).rstrip("\n") + "\n"


def render(path: Path) -> str:
    """The whole file anew."""
    story = path.read_text().split(MARK)[0].rstrip("\n") + "\n"
    return f"{story}{MARK}{told(path.stem, story)}"


def in_document(text: str) -> str:
    """The document with the alerts of each story that it names."""

    def page(found: re.Match[str]) -> str:
        shown = (ALERTS / f"{found[1]}.txt").read_text().split(MARK)[1]
        return f"<!-- alerts: {found[1]} -->\n```text\n{shown}```"

    return re.sub(r"<!-- alerts: (\S+) -->\n```text\n.*?```", page, text, flags=re.DOTALL)
