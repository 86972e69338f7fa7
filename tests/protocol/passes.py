"""What a collector's passes have in common: its journal, an exchange with one host, and what counts as a proof."""

from __future__ import annotations

from collections.abc import Iterator

from .explorer import Step
from .world import (
    NAMES,
    SHUT,
    Collector,
    Failover,
    Journal,
    Live,
    Rule,
    Setting,
)
from .world import World as W

DECIDED, CHOSEN, INTENDED = 1, 2, 3


def who(number: int) -> str:
    return ("C", "C'")[number]


def changed(w: W, number: int, c: Collector, label: str) -> Step:
    return Step(f"{who(number)} {label}", with_collector(w, number, c))


def with_collector(w: W, number: int, c: Collector) -> W:
    return w._replace(collectors=(*w.collectors[:number], c, *w.collectors[number + 1 :]))


def noted(c: Collector, s: Setting, journal: Journal, live: Live | None = None) -> Collector:
    """Journal a record: durable at once, or, where that rule is gone, possibly lost with the next crash."""
    before = () if s.keeps(Rule.DURABLE) else c.journal
    return c._replace(journal=journal, before=before, live=c.live if live is None else live)


def ended(c: Collector, s: Setting, term: int, **changes: int) -> Collector:
    """The failover is over without a promotion: a new term, whatever is known is forgotten."""
    term += 1 if s.keeps(Rule.NEW_TERM) else 0
    return noted(c, s, c.journal._replace(term=term, failover=(), **changes), Live())


def exchange(w: W, s: Setting, number: int, c: Collector, index: int, term: int) -> Step | None:
    """Would this host's gate take an order of this collector and term now? If not: what the collector learns of it."""
    host, name = w.hosts[index], NAMES[index]
    if host.epoch > c.epoch and s.keeps(Rule.EPOCH_CHECK):
        return changed(
            w, number, c._replace(phase="stale", live=Live()), f"hears of a higher epoch from {name}: read-only"
        )
    if host.term > term and s.keeps(Rule.TERM_CHECK):
        journal = c.journal._replace(term=max(c.journal.term, host.term))
        failover = journal.failover
        heard = noted(c, s, journal)
        if failover and failover.step < INTENDED:
            heard = ended(heard, s, journal.term)
        return changed(w, number, heard, f"hears of term {host.term} from {name}") if heard != c else Step("", w)
    return None


def unless_same(refused: Step, w: W) -> Iterator[Step]:
    if refused.after != w:
        yield refused


def proved(w: W, s: Setting, c: Collector, f: Failover, live: Live) -> bool:
    """A proof that is fresh, and the look that was made after it."""
    return proof(w, s, f, live) and (live.look or not s.keeps(Rule.LAST_LOOK))


def proof(w: W, s: Setting, f: Failover, live: Live) -> bool:
    """Two OFF readings; or, once the promotion is intended, the old master in another boot behind a shut gate."""
    power = live.target == f.old and live.off >= (2 if s.keeps(Rule.SECOND_READING) else 1)
    old = w.hosts[f.old]
    return power or (f.step == INTENDED and old.run == SHUT and old.term >= f.term)
