"""Storing what a decision was made from, and making it again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwarden_collector.core.engine import StepResult, step
from poolwarden_collector.core.evidence.assessment import assess, describe
from poolwarden_collector.core.evidence.evidence_lines import EvidenceLine, lines
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.report.explain import plan_of
from poolwarden_collector.core.state.decision_input import unpack
from poolwarden_collector.core.state.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision made again: the verdict with its evidence, the plan, and every entry of the step."""

    verdict: str
    sentence: str
    evidence: tuple[EvidenceLine, ...]
    plan: tuple[str, ...]
    entries: tuple[str, ...]
    differs: tuple[str, ...]  # entries that were recorded and are not made again, or the other way round


def replay(stored: str, recorded: tuple[str, ...]) -> Replayed:
    """Make the decision again from its stored input. Raises inputs.BadInput.

    ``recorded``: the sentences of the entries of that step as the journal has them.
    """
    pool, event, now, site = unpack(stored)
    outcome = step(pool, event, now, site)
    after = Transaction(replace(outcome.pool), now, site)
    verdict = assess(after)
    made = _sentences(outcome)
    before, now_made = {_compared(text) for text in recorded}, {_compared(text) for text in made}
    differs = [f"recorded, not made again: {text}" for text in recorded if _compared(text) not in now_made]
    differs += [f"made again, not recorded: {text}" for text in made if _compared(text) not in before]
    return Replayed(verdict.word, describe(after, verdict), lines(after), plan_of(after), made, tuple(differs))


def _compared(text: str) -> str:
    """What has to be the same: of an alert only that there was one, for its wording is the catalogue's of the day."""
    kind, _, _ = text.partition(": ")
    return kind if kind in (Kind.ALERT.value, Kind.ALERT_RESOLVED.value) else text


def _sentences(outcome: StepResult) -> tuple[str, ...]:
    return tuple(f"{entry.kind.value}: {entry.text}" for entry in outcome.entries)
