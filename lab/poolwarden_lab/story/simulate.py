"""Many stories by chance, and what came of them: the numbers, and each failure as small as it could be made."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.story import play
from poolwarden_lab.story.chance import Drawn, draw
from poolwarden_lab.story.chance_several import draw_several
from poolwarden_lab.story.shrink import Shrinker
from poolwarden_lab.story.text import read_text

COUNTED = (
    Kind.DECIDED,
    Kind.PROMOTED,
    Kind.CLOSED,
    Kind.BLOCKED,
    Kind.ABORTED,
    Kind.SUPERSEDED,
    Kind.ASKED,
    Kind.RESTART_RESULT,
    Kind.RELEASED,
    Kind.HANDOVER_INTENT,
    Kind.CONTRARY,
    Kind.FENCE_RESULT,
)


@dataclass(frozen=True)
class Run:
    """One seed's end. ``failure`` is empty if all was well; ``what`` is its kind, the same for the same bug."""

    seed: int
    failure: str = ""
    what: str = ""
    seconds: float = 0.0
    events: int = 0
    virtual_ms: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def one(schedule: Drawn) -> Run:
    """Play one drawn story."""
    began = time.perf_counter()
    played = play.play(read_text(f"seed-{schedule.seed}", schedule.text()))
    took = time.perf_counter() - began
    counts = Counter(kind.value for kind in COUNTED for _ in range(played.kinds[kind.value]))
    failure = "\n".join(played.problems)
    return Run(schedule.seed, failure, _what(played), took, played.events, played.virtual_ms, counts)


def _what(played: play.Played) -> str:
    """What kind of failure: an invariant's number, or the first words of what is not as expected."""
    if played.code == play.AS_EXPECTED:
        return ""
    if played.code == play.BROKEN:
        return played.problems[0].split("invariant ", 1)[1].split()[0]
    return "story: " + " ".join(played.problems[0].split(": ", 1)[-1].split()[:4])


def drawn(seed: int, hosts: int | None = None, several: bool = False) -> Drawn:
    """The schedule of a seed: of one collector, or of several ones (of which the seed says the hosts)."""
    return draw_several(seed) if several else draw(seed, hosts)


def many(seed: int, runs: int, hosts: int | None = None, several: bool = False) -> Iterator[Run]:
    """Seeds one after the other."""
    for number in range(seed, seed + runs):
        yield one(drawn(number, hosts, several))


def small(run: Run, hosts: int | None = None, several: bool = False) -> Drawn:
    """The failing story of this run, made small."""

    def still_fails(tried: Drawn) -> bool:
        return one(tried).what == run.what

    return Shrinker(still_fails).shrink(drawn(run.seed, hosts, several))


def keep(directory: Path, run: Run, schedule: Drawn, several: bool = False) -> Path:
    """Write a failing story down; the file's path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"seed-{'several-' if several else ''}{run.seed}.txt"
    first = run.failure.splitlines()[0].split(": ", 1)[-1]
    path.write_text(replace(schedule).text(f"Found by seed {run.seed}: {first}"))
    return path
