"""What the caller chose for one run of the benchmarks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    """``pythons``: agent interpreters by version. ``refused``: why there are no namespaces; "": there are."""

    rounds: int = 30
    seconds: float = 60.0
    refused: str = ""
    agents: tuple[int, ...] = ()  # of the benchmark "scale"; none: as many as it says
    pools: int = 0  # that lose their masters in it; 0: as many as it says
    pythons: dict[str, str] = field(default_factory=dict)


def progress(text: str) -> None:
    """While it runs, on stderr; figures go to stdout."""
    print(f"  {text}", file=sys.stderr, flush=True)
