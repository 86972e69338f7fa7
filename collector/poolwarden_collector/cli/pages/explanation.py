"""`poolwarden explain`: why the verdict is what it is, and what is permitted."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Piece, Table, Tone
from poolwarden_collector.cli.pages.pools import seconded_lines, verdict_tone
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

VALUE_TONES: dict[str, Tone] = {"stale": "warn", "unknown": "dim"}


def explain_page(reply: "api.ExplainReply") -> Page:
    """Verdict, evidence, what is permitted, what is not and why, the operator's next step."""
    page = _headline(reply)
    if reply.sentence:
        page.append(Line(reply.sentence, indent=2))
    if reply.evidence:
        rows = [
            (line.subject, Piece(line.value, VALUE_TONES.get(line.value, "")), _age(line), line.witness, line.text)
            for line in reply.evidence
        ]
        page += [Line(), Table(("EVIDENCE", "SAYS", "AGE", "WITNESS", "DETAIL"), rows, 2)]
    page += _listed("permitted", reply.permitted or ["nothing beyond observing"], "good" if reply.permitted else "")
    page += _listed("not permitted, and why", reply.refused, "warn")
    page += _listed("not ready to lose its master", reply.not_ready, "warn")
    page += _listed("what a promotion would lose now", [f"{copy.name}: {copy.text}" for copy in reply.copies])
    if reply.seconded:
        page += [Line(), *seconded_lines(reply.seconded)]
    return page + _next_step(reply)


def _headline(reply: "api.ExplainReply") -> Page:
    text = f"{reply.verdict}: {reply.meaning}" if reply.meaning else reply.verdict
    return [Line(text, verdict_tone(reply.verdict), label=f"{reply.pool_name or reply.pool_uuid}  ")]


def _age(line: "api.EvidenceLine") -> str:
    return span(line.age_ms) if line.age_known else "?"


def _listed(title: str, texts: Iterable[str], tone: Tone = "") -> Page:
    texts = list(texts)
    if not texts:
        return []
    return [Line(), Line(f"{title}:"), *(Line(text, tone, indent=2, label="- ") for text in texts)]


def _next_step(reply: "api.ExplainReply") -> Page:
    return [Line(), Line(reply.next_step, "strong", label="next step: ")] if reply.next_step else []
