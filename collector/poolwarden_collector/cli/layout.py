"""Lines and tables within a width; the same layout plain and coloured, so that what is tested is what is seen.

Rules:
 * A page is made of Lines and Tables. Layout turns it into physical lines of toned pieces, none wider than the width:
   nothing is cut off, long text wraps; a line's continuation is indented below its text.
 * Names come from hosts and operators: whatever is not printable is shown as `?`, so that no name can move the cursor.
 * A width is counted in a terminal's cells: a letter of Chinese takes two, a combining accent none.
 * Colour only repeats what the words say. It is used on a terminal without --plain and without NO_COLOR.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from poolwarden_collector.cli.settings import Settings

Tone = Literal["", "good", "warn", "bad", "dim", "strong"]
PLAIN_WIDTH = 80
WIDEST = 120
GAP = 2
NARROWEST_COLUMN = 6
STYLES: dict[Tone, str] = {"": "", "good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "strong": "bold"}


class Piece(NamedTuple):
    """Some text in one tone."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Line:
    """A paragraph: a label that is not repeated, then text whose continuation is indented below its beginning."""

    text: str = ""
    tone: Tone = ""
    indent: int = 0
    label: str = ""
    right: str = ""  # at the right edge of its first line, where there is room; else behind the text


@dataclass(frozen=True)
class Table:
    """Columns as wide as needed; the widest ones give way and wrap where the width does not suffice."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Piece | str]]
    indent: int = 0


Block = Line | Table
Page = list[Block]
Physical = list[Piece]


def printable(text: str) -> str:
    """The text with everything that a terminal could obey replaced by `?`; line ends become spaces."""
    flat = " ".join(text.split("\n"))
    return flat if flat.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in flat)


def cells(text: str) -> int:
    """How many cells of a terminal it takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def lay_out(page: Iterable[Block], width: int = PLAIN_WIDTH) -> list[Physical]:
    """Physical lines, none wider than `width` columns (at least 40)."""
    lines: list[Physical] = []
    for block in page:
        lines += _table(block, width) if isinstance(block, Table) else _line(block, width)
    return lines


def _line(line: Line, width: int) -> list[Physical]:
    label = printable(line.label)
    start = " " * line.indent + label
    begin = cells(start)
    pieces = _wrapped(printable(line.text), width - begin) if line.text else [""]
    lead = [start, *[" " * begin] * (len(pieces) - 1)]
    lines = [[Piece(before), Piece(text, line.tone)] for before, text in zip(lead, pieces, strict=True)]
    return _with_right(lines, printable(line.right), width) if line.right else lines


def _with_right(lines: list[Physical], right: str, width: int) -> list[Physical]:
    """Its right part at the edge of the first line that has room for it, else on a line of its own."""
    for line in lines:
        room = min(width, PLAIN_WIDTH) - sum(cells(piece.text) for piece in line) - cells(right)
        if room >= GAP:
            line += [Piece(" " * room), Piece(right, "dim")]
            return lines
    return [*lines, [Piece(" " * (min(width, PLAIN_WIDTH) - cells(right))), Piece(right, "dim")]]


def _wrapped(text: str, width: int) -> list[str]:
    width = max(width, NARROWEST_COLUMN)
    if text.isascii() or all(cells(letter) == 1 for letter in text):
        return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    lines = [""]
    for word in text.split():
        for part in _broken(word, width):
            longer = f"{lines[-1]} {part}" if lines[-1] else part
            lines[-1:] = [longer] if cells(longer) <= width else [lines[-1], part]
    return lines


def _broken(word: str, width: int) -> list[str]:
    """A word in parts of at most this width."""
    parts = [""]
    for letter in word:
        if cells(parts[-1] + letter) > width:
            parts.append("")
        parts[-1] += letter
    return parts


def _table(table: Table, width: int) -> list[Physical]:
    cells = [[_as_piece(cell) for cell in row] for row in table.rows]
    header = [Piece(text, "dim") for text in table.headers]
    widths = _column_widths([header, *cells], width - table.indent)
    return [physical for row in [header, *cells] for physical in _row(row, widths, table.indent)]


def _as_piece(cell: Piece | str) -> Piece:
    piece = Piece(cell) if isinstance(cell, str) else cell
    return Piece(printable(piece.text), piece.tone)


def _column_widths(rows: list[list[Piece]], width: int) -> list[int]:
    """Natural widths, the widest column shrunk step by step until the table fits or nothing can give."""
    widths = [max(cells(row[column].text) for row in rows) for column in range(len(rows[0]))]
    room = width - GAP * (len(widths) - 1)
    while sum(widths) > room and max(widths) > NARROWEST_COLUMN:
        widths[widths.index(max(widths))] -= 1
    return widths


def _row(row: list[Piece], widths: list[int], indent: int) -> list[Physical]:
    wrapped = [_wrapped(piece.text, width) for piece, width in zip(row, widths, strict=True)]
    lines: list[Physical] = []
    for number in range(max(len(parts) for parts in wrapped)):
        physical = [Piece(" " * indent)]
        for parts, piece, width in zip(wrapped, row, widths, strict=True):
            text = parts[number] if number < len(parts) else ""
            physical += [Piece(text, piece.tone), Piece(" " * (width - cells(text) + GAP))]
        lines.append(physical)
    return lines


def as_text(page: Iterable[Block], width: int = PLAIN_WIDTH) -> str:
    """The page as plain text, without blanks at line ends."""
    return "\n".join("".join(piece.text for piece in line).rstrip() for line in lay_out(page, width))


def show(page: Page, settings: Settings) -> None:
    """Print the page: in colour and as wide as the terminal allows, or plainly."""
    if coloured(settings):
        _show_coloured(page)
    else:
        print(as_text(page), flush=True)


def at_terminal(settings: Settings) -> bool:
    """Can a page be shown in place, and keys be read?"""
    return not settings.plain and sys.stdout.isatty() and sys.stdin.isatty()


def coloured(settings: Settings) -> bool:
    """Is this for a person at a terminal, with colours and its width?"""
    return not settings.plain and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _show_coloured(page: Page) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lay_out(page, max(40, min(console.width, WIDEST))):
        console.print(Text.assemble(*((piece.text, STYLES[piece.tone]) for piece in line)), soft_wrap=True)
