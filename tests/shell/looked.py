"""Pools to look at, made by the engine itself, as one look of the metrics, and what was written out of it as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.core.pool import Guarded

from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.shell.config.config import Config, load
from poolwarden_collector.shell.metrics.exposition import write_out
from poolwarden_collector.shell.metrics.ledger import Counts
from poolwarden_collector.shell.metrics.look import Look
from poolwarden_collector.shell.store.journal import Journal

from .rig import write_config

Series = dict[frozenset[tuple[str, str]], float]


def configured(folder: Path) -> Config:
    """A configuration whose journal is there."""
    config = load(write_config(folder))
    if not config.state_dir.exists():
        journal = Journal(config.state_dir, config.name, ("log",))
        journal.begin_epoch()
        journal.close()
    return config


def look_at(config: Config, *pools: Guarded | tuple[Pool, Site], **changes: Any) -> Look:
    """One look at these pools."""
    pairs = tuple((each.pool, each.site) if isinstance(each, Guarded) else each for each in pools)
    now = max((each.now for each in pools if isinstance(each, Guarded)), default=1_000)
    plain = Look(config, now, now, 1_700_000_000_000, 0, pairs, False, False, frozenset(), 0, 0, False, 0,
                 counts=Counts())  # fmt: skip
    return replace(plain, **changes)


def parsed(text: bytes) -> dict[str, Series]:
    """Each name's series by their labels. A series that stands there twice is a mistake."""
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series, f"{sample.name}{sample.labels} twice"
            series[labels] = sample.value
    return found


class Written:
    """What was written out of a look."""

    def __init__(self, look: Look) -> None:
        self.text, self.content_type = write_out(look, "")
        self.names = parsed(self.text)

    def values(self, name: str, **labels: str) -> list[float]:
        """Of every series of ``poolwarden_NAME`` that has these labels."""
        wanted = set(labels.items())
        return [value for found, value in self.names.get(f"poolwarden_{name}", {}).items() if wanted <= found]

    def value(self, name: str, **labels: str) -> float:
        """Of the only one."""
        (value,) = self.values(name, **labels)
        return value

    def state(self, name: str, **labels: str) -> str:
        """Of a state set: the one state that is."""
        full = f"poolwarden_{name}"
        wanted, found = set(labels.items()), self.names[full]
        (state,) = [dict(series)[full] for series, value in found.items() if wanted <= series and value == 1]
        return state

    def of_label(self, name: str, label: str) -> Sequence[str]:
        """What stands in this label of every series."""
        return sorted({dict(series)[label] for series in self.names.get(f"poolwarden_{name}", {})})
