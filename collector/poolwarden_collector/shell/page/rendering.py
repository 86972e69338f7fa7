"""Templates: everything that is shown is text until it is escaped here, and made part by part.

Rules
-----
* safety: autoescape is on for every template, and nothing is marked as safe but what this module and charts.py make of
  escaped parts. What is not printable in a text (control characters, overrides of the reading direction) is shown as
  ``?``, as on a terminal.
* A page is made in slices, with the engine's turns in between (operators/turns.py): rendering two thousand rows holds
  the loop for no longer than one row.
* Lines and tables of the command line's pages (cli/pages) become paragraphs and tables here: the page says what the
  command line says, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poolwarden_collector.cli.layout import Line, Table, printable
from poolwarden_collector.cli.pages.journal import COPIED, clock
from poolwarden_collector.cli.words import size, span
from poolwarden_collector.shell.operators.turns import Turns
from poolwarden_collector.shell.page import charts

HERE = Path(__file__).parent
LEVEL_WORDS = {"critical": "critical", "warning": "warning", "info": "notice", "good": "healthy"}
TONES = {"good": "good", "warn": "warning", "bad": "critical", "dim": "dim", "strong": "strong", "": ""}
_COMMANDS = ("poolwarden ", "xe ", "systemctl ")
_ANSWERS = ("yes: ", "no: ")  # before the command that gives it


def _shown(value: object) -> object:
    """What a template prints of a value."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def since(ms: int) -> Markup:
    """An age that goes on: the page's script counts it further."""
    return Markup('<span class="since" data-ms="{}">{}</span>').format(ms, span(ms))


def ago(ms: int) -> Markup:
    """The age of a reading, as it was when the page was made."""
    return Markup('<span class="ago">{}</span>').format(span(ms))


def typed(text: str) -> tuple[str, str]:
    """What is said before a command, and the command alone: that is what is copied from a page and typed."""
    said = next((word for word in _ANSWERS if text.startswith(word)), "")
    rest = text[len(said) :].strip()
    return (said.strip(), rest) if rest.startswith(_COMMANDS) else (text, "")


def environment() -> Environment:
    """Of every page."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(since=since, ago=ago, charts=charts, tones=TONES, level_words=LEVEL_WORDS, copied_words=COPIED)
    # safety: of a sheet alone (live.py), which was made here and is escaped already.
    made.filters.update(span=span, size=size, clock=clock, typed=typed, fragment=Markup)
    made.tests.update(line=lambda block: isinstance(block, Line), table=lambda block: isinstance(block, Table))
    return made


class Rendering:
    """Makes texts of templates."""

    def __init__(self) -> None:
        self._templates = environment()
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiled before anybody asks: that takes longer than a slice

    async def text(self, template: str, values: Mapping[str, Any], turns: Turns) -> str:
        """The whole of it."""
        return await _joined(self._templates.get_template(template).generate(values), turns)

    def short(self, template: str, **values: Any) -> str:
        """One that is small whatever it is given."""
        return self._templates.get_template(template).render(values)


async def _joined(parts: Iterable[str], turns: Turns) -> str:
    found = []
    for part in parts:
        found.append(part)
        await turns.rest()
    return "".join(found)
