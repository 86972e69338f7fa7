"""How a story is shown: one line per event for logs, or a live timeline in a terminal (rich, imported only then).

Nothing here makes up a word: lines come from the journal, from a live status call or from what the lab itself did.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poolwarden_lab.processes.operator_link import Entry

_LOUD = {"promote-intent", "promoted", "proof", "closed", "member-back", "restart-result"}
_BAD = {"alert", "blocked", "asked", "agent-silent", "contrary-evidence", "device-quarantined"}


class Screen(Protocol):
    """Where a story is told."""

    def title(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def entry(self, since_fault_ms: int, entry: Entry) -> None: ...
    def waiting(self, text: str) -> None: ...
    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...
    def bars(self, title: str, rows: Sequence[tuple[str, int]]) -> None: ...
    def verdict(self, good: bool, text: str) -> None: ...
    def close(self) -> None: ...


def stamp(since_fault_ms: int) -> str:
    """``T+ 8.2s``: seconds since the fault."""
    return f"T{'-' if since_fault_ms < 0 else '+'}{abs(since_fault_ms) / 1000:5.1f}s"


class PlainScreen:
    """One line per event, no colours, no cursor."""

    def title(self, text: str) -> None:
        print(f"== {text}", flush=True)

    def say(self, text: str) -> None:
        for line in text.splitlines():
            print(f"   {line}", flush=True)

    def entry(self, since_fault_ms: int, entry: Entry) -> None:
        print(f"{stamp(since_fault_ms)}  {entry.kind:<18} {entry.text}", flush=True)

    def waiting(self, text: str) -> None:
        """A log has no place for what is being waited for."""

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        for row in [header, *rows]:
            print(
                "   " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(),
                flush=True,
            )

    def bars(self, title: str, rows: Sequence[tuple[str, int]]) -> None:
        self.title(title)
        self.table(("phase", "took"), [(text, f"{ms / 1000:6.2f} s") for text, ms in rows])

    def verdict(self, good: bool, text: str) -> None:
        print(f"{'OK' if good else 'FAILED'}: {text}", flush=True)

    def close(self) -> None:
        sys.stdout.flush()


class RichScreen:
    """A timeline with a live line below it that says what is being waited for."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._status: Any = None

    def title(self, text: str) -> None:
        from rich.rule import Rule

        self._console.print(Rule(f"[bold]{_plain(text)}[/]", align="left"))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, style="dim")

    def entry(self, since_fault_ms: int, entry: Entry) -> None:
        from rich.table import Table

        colour = "bold green" if entry.kind in _LOUD else "bold red" if entry.kind in _BAD else "cyan"
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_column(width=8, style="dim")
        line.add_column(width=18, style=colour)
        line.add_column()
        line.add_row(stamp(since_fault_ms), entry.kind, _plain(entry.text))
        self._console.print(line)

    def waiting(self, text: str) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(_plain(text))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.table import Table

        table = Table(*header, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(_plain(cell) for cell in row))
        self._console.print(table)

    def bars(self, title: str, rows: Sequence[tuple[str, int]]) -> None:
        self.title(title)
        longest = max((ms for _, ms in rows), default=1)
        bars = [(text, f"{ms / 1000:6.2f} s", "█" * max(1, round(30 * ms / longest))) for text, ms in rows]
        self.table(("phase", "took", ""), bars)

    def verdict(self, good: bool, text: str) -> None:
        self.close()
        self._console.print(f"[bold {'green' if good else 'red'}]{'OK' if good else 'FAILED'}:[/] {_plain(text)}")

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def make_screen(plain: bool) -> Screen:
    """The terminal's if there is one and nobody asked for plain lines."""
    return PlainScreen() if plain or not sys.stdout.isatty() else RichScreen()
