"""Many pools on one screen: how many stand how, the worst of them one line each, and how to see the others."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from poolwarden.typed_names import typed
from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.pages.journal import SEVERITY_TONES
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

ROWS = 10
VERDICTS_SHOWN = 6
LEVEL_TONES: dict[str, Tone] = {"critical": "bad", "warning": "warn", "info": "strong", "good": "good"}
NARROWER = "narrower: --name TEXT, --verdict WORD, --site NAME"


def overview_page(together: "api.Overview", rows: int) -> Page:
    """``rows``: at most so many lines (0: each); pools that are well have one only where every pool has."""
    shown = [line for line in together.lines if line.level != "good" or not rows][: rows or None]
    page = [*_sums(together), Line()]
    if shown:
        page += [lines_table(shown), Line()]
    return [*page, *_rest(together, len(shown)), *_hint(together), Line()]


def _sums(together: "api.Overview") -> Page:
    levels = {each.word: each.count for each in together.levels}
    worst = next(iter(levels), "good")
    count = f"{together.pools} pool{'s' if together.pools != 1 else ''}: "
    page: Page = [Line(_counts(together.levels), LEVEL_TONES.get(worst, ""), label=count)]
    if together.waiting:
        text = f"{together.waiting}; nothing goes on there before somebody answers or acts"
        page.append(Line(text, "bad", indent=2, label="waiting for a person: "))
    silent = together.hosts - together.hosts_heard
    heard = f"{together.hosts_heard} of {together.hosts} are heard"
    page.append(Line(heard, "warn" if silent else "", indent=2, label="hosts: "))
    verdicts = [f"{each.count} {each.word}" for each in together.verdicts]
    more = [f"{len(verdicts) - VERDICTS_SHOWN} other verdicts"] if len(verdicts) > VERDICTS_SHOWN else []
    page.append(Line(", ".join([*verdicts[:VERDICTS_SHOWN], *more]), indent=2, label="verdicts: "))
    if together.alerts:
        tone = SEVERITY_TONES.get(together.alerts[0].word, "")
        text = f"{_counts(together.alerts)} (poolwarden alerts)"
        page.append(Line(text, tone, indent=2, label="open alerts: "))
    return page


def _counts(counts: Iterable["api.Counted"]) -> str:
    """`3 critical, 41 warning, 1956 healthy`."""
    return ", ".join(f"{each.count} {'healthy' if each.word == 'good' else each.word}" for each in counts)


def lines_table(lines: Sequence["api.PoolLine"]) -> Table:
    """One line for each pool."""
    rows = [
        (line.name or line.pool_uuid, _headline(line), span(line.age_ms), f"{line.hosts_heard}/{line.hosts}",
         _alerts(line))
        for line in lines
    ]  # fmt: skip
    return Table(("POOL", "", "SINCE", "HOSTS", "ALERTS"), rows)


def _headline(line: "api.PoolLine") -> Piece:
    return Piece(line.headline, LEVEL_TONES.get(line.level, "bad"))


def _alerts(line: "api.PoolLine") -> Piece:
    """The gravest severity of its open alerts and how many there are of it."""
    if not line.alerts:
        return Piece("-")
    worst = line.alerts[0]
    return Piece(counted(worst.count, worst.word), SEVERITY_TONES.get(worst.word, ""))


def counted(count: int, severity: str) -> str:
    """`1 critical`, `2 warnings`."""
    return f"{count} {severity}{'s' if severity == 'warning' and count != 1 else ''}"


def _rest(together: "api.Overview", shown: int) -> Page:
    """Who has no line here, and what gives them one."""
    well = sum(each.count for each in together.levels if each.word == "good")
    unwell = together.pools - well - shown
    more = [f"{unwell} not well (--limit {min(shown + unwell, 10 * ROWS)})"] if unwell > 0 else []
    more += [f"{well} healthy (--limit 0)"] if well and shown < together.pools else []
    return [Line(", ".join(more), "warn" if unwell > 0 else "dim", label="without a line here: ")] if more else []


def _hint(together: "api.Overview") -> Page:
    first = together.lines[0] if together.lines else None
    one = f"poolwarden status {typed(first.name or first.pool_uuid, first.pool_uuid) if first else 'POOL'}"
    return [Line(f"{one} shows one pool; --all shows all; {NARROWER}", "dim")]
