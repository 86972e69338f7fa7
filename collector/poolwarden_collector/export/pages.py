"""The parts of an archive that people read: timeline and evidence as text and as one HTML file, and the README.

Whatever came from a host or an operator is made printable before it is put anywhere, and escaped in HTML; the HTML
holds no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from poolwarden_collector.cli.pages.journal import COPIED
from poolwarden_collector.core.report.timeline import Moment, Timeline, since
from poolwarden_collector.shell.plain_text import printable

_STYLE = """body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em}
body{color:#111;background:#fff}
table{border-collapse:collapse;width:100%;margin:1em 0}td,th{border-bottom:1px solid #ccc;padding:.25em .6em;
text-align:left;vertical-align:top;overflow-wrap:anywhere}td.k{white-space:nowrap}
td.t{white-space:nowrap;font-family:monospace}
tr.verdict td{background:#fff7d6}tr.decided td,tr.proof td,tr.promoted td,tr.closed td{background:#e6f4ea}
tr.blocked td,tr.aborted td,tr.asked td{background:#fde8e6}h2{margin-top:2em}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}td,th{border-color:#444}
tr.verdict td{background:#3a3410}tr.decided td,tr.proof td,tr.promoted td,tr.closed td{background:#12331c}
tr.blocked td,tr.aborted td,tr.asked td{background:#431713}}"""
_MARKED = frozenset({"verdict", "decided", "proof", "promoted", "closed", "blocked", "aborted", "asked"})


@dataclass(frozen=True, slots=True)
class Fact:
    """One piece of evidence. ``age_ms`` None: not known."""

    subject: str
    value: str
    age_ms: int | None
    witness: str
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """What was known at one moment: of a verdict as it was journaled, of a decision as it is made again."""

    seq: int
    at: str
    title: str
    facts: tuple[Fact, ...]


def timeline_text(told: Timeline) -> Iterator[str]:
    """A line for each moment, the date once for each day."""
    day = ""
    for moment in told.moments:
        if moment.day != day:
            day = moment.day
            yield printable(day)
        again = f" [poolwarden replay {moment.replay} --archive THIS]" if moment.replay is not None else ""
        kind = f"{printable(moment.kind):<18}"
        yield f"{printable(moment.time):<12}  {since(moment):>10}  {kind}  {_said(moment)}{again}"
    if told.folded:
        yield f"{told.folded} lines of bookkeeping are in entries.json alone"


def _said(moment: Moment) -> str:
    earlier = f" {COPIED}" if moment.copied else ""
    return printable(f"{moment.actor}: {moment.text}" if moment.actor else moment.text) + earlier


def evidence_text(looks: Iterable[Look]) -> Iterator[str]:
    """Each look as a matrix: what was asked about, who had seen what of it, and how old that was."""
    for look in looks:
        yield f"{printable(look.at)}  #{look.seq}  {printable(look.title)}"
        for subject, facts in _matrix(look):
            yield f"  {printable(subject)}"
            for fact in facts:
                said = f"{fact.witness or '-'}: {fact.value}, {_age(fact)}; {fact.text}"
                yield f"    {printable(said)}"
        yield ""


def _matrix(look: Look) -> list[tuple[str, list[Fact]]]:
    rows: dict[str, list[Fact]] = {}
    for fact in look.facts:
        rows.setdefault(fact.subject, []).append(fact)
    return list(rows.items())


def _age(fact: Fact) -> str:
    return "age not known" if fact.age_ms is None else f"{fact.age_ms / 1000:.1f} s old"


def timeline_html(title: str, told: Timeline, looks: Sequence[Look]) -> Iterator[str]:
    """The timeline and the evidence below it, one file that needs nothing else."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
    yield f"<title>{_shown(title)}</title><style>{_STYLE}</style></head><body><h1>{_shown(title)}</h1>"
    yield "<table><thead><tr><th>when (UTC)</th><th>since the first</th><th>what</th><th></th></tr></thead><tbody>"
    with_evidence = {look.seq for look in looks}
    for moment in told.moments:
        kind = moment.kind if moment.kind in _MARKED else ""
        link = f' <a href="#e{moment.seq}">evidence</a>' if moment.seq in with_evidence else ""
        yield (
            f'<tr class="{kind}" id="m{moment.seq}"><td class="t">{_shown(moment.day)} {_shown(moment.time)}</td>'
            f'<td class="t">{since(moment)}</td><td class="k">{_shown(moment.kind)}</td>'
            f"<td>{escape(_said(moment))}{link}</td></tr>"
        )
    yield "</tbody></table>"
    if looks:
        yield "<h2>Evidence</h2>"
    for look in looks:
        yield f'<h3 id="e{look.seq}"><a href="#m{look.seq}">{_shown(look.at)}</a> {_shown(look.title)}</h3>'
        yield "<table><thead><tr><th>about</th><th>seen by</th><th>value</th><th>age</th><th></th></tr></thead><tbody>"
        for subject, facts in _matrix(look):
            for number, fact in enumerate(facts):
                head = f'<th rowspan="{len(facts)}">{_shown(subject)}</th>' if number == 0 else ""
                cells = (fact.witness, fact.value, _age(fact), fact.text)
                yield f"<tr>{head}{''.join(f'<td>{_shown(cell)}</td>' for cell in cells)}</tr>"
        yield "</tbody></table>"
    yield "</body></html>"


def _shown(text: str) -> str:
    return escape(printable(text))


def readme(title: str, redacted: bool, remarks: Sequence[str]) -> Iterator[str]:
    """What is where, and how to use it."""
    yield f"Poolwarden: {printable(title)}"
    yield ""
    yield "timeline.txt, timeline.html   what happened, in order; the HTML with the evidence of each verdict"
    yield "evidence.txt, evidence.json   what was known at each verdict and decision: who had seen what, and when"
    yield "entries.json                  the journal's entries of this time, with all their facts"
    yield "decisions/                    each decision with its whole input; it is made again by:"
    yield "                              poolwarden replay NUMBER --archive THIS-FILE"
    yield "alerts.json                   alerts of this time, and how far each came at each channel"
    yield "capsules/                     what hosts kept of their logs, processes and facts at their first suspicion"
    yield "late/                         what hosts told afterwards of times when no collector listened"
    yield "manifest.json                 every file with its size and SHA-256, versions, what was asked for"
    if redacted:
        yield ""
        yield "Redacted: UUIDs, addresses and each name that the records hold as one are replaced, the same everywhere."
        yield "Free text of a log may still say what no record names: look before you give it away."
    for remark in remarks:
        yield f"Note: {printable(remark)}"
