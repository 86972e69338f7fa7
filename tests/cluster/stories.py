"""What a taker reads from etcd, against what the owner knew, at every commit of a story.

``python -m tests.cluster.stories [STORY ...]``, from the repository's root, plays all stories (or these) and prints
what is folded otherwise without the entries that stay with the one who saw them; about ten minutes for all of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from poolwarden_collector.core.model.entries import Entry
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.state.pool_record import PoolRecord, apply
from poolwarden_collector.shell.cluster.consensus import shared
from poolwarden_lab.story import play
from poolwarden_lab.story.text import read_file
from poolwarden_lab.virtual.collector.ledger import Commit, Ledger

SCENARIOS = Path(__file__).parents[1] / "scenarios"
_FIELDS = tuple(each.name for each in fields(PoolRecord))


@dataclass
class Compared:
    """One ledger's pools, folded twice."""

    whole: dict[PoolId, PoolRecord] = field(default_factory=dict)
    taken: dict[PoolId, PoolRecord] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)  # field -> the first entry after which it did
    shared: Counter[bool] = field(default_factory=Counter)

    def take(self, pool: PoolId, entries: tuple[Entry, ...]) -> None:
        """A commit more."""
        whole = self.whole.get(pool, PoolRecord(pool))
        taken = self.taken.get(pool, PoolRecord(pool))
        for entry in entries:
            whole = apply(whole, entry)
            goes = shared(entry)
            self.shared[goes] += 1
            taken = apply(taken, entry) if goes else taken
            self._compare(whole, taken, entry)
        self.whole[pool], self.taken[pool] = whole, taken

    def _compare(self, whole: PoolRecord, taken: PoolRecord, entry: Entry) -> None:
        for name in _FIELDS:
            one, other = getattr(whole, name), getattr(taken, name)
            if one is not other and one != other and name not in self.differs:
                self.differs[name] = f"{entry.kind.value}: {entry.text}"


def compared(path: Path) -> Compared:
    """Play a story; what all its collectors wrote, each from its ledger's beginning."""
    found = Compared()
    of: dict[int, tuple[Ledger, Compared]] = {}
    commit = Ledger.commit

    def noted(self: Ledger, wanted: Commit) -> None:
        commit(self, wanted)
        known = of.get(id(self))
        if known is None:
            known = of[id(self)] = (self, Compared())
            before = self.commits[:-1]  # a ledger that was copied
        else:
            before = []
        for each in (*before, wanted):
            known[1].take(each.pool, each.entries)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "commit", noted)
        play.play(read_file(path))
    for _, one in of.values():
        found.differs |= one.differs
        found.shared += one.shared
    return found


def main() -> int:
    wanted = [SCENARIOS / f"{name}.txt" for name in sys.argv[1:]] or sorted(SCENARIOS.glob("*.txt"))
    wrong, counted = 0, Counter[bool]()
    for path in wanted:
        found = compared(path)
        counted += found.shared
        for name, after in found.differs.items():
            wrong += 1
            print(f"{path.stem}: {name} differs after {after}", flush=True)
    total = sum(counted.values())
    print(f"{len(wanted)} stories, {total} entries, {counted[True]} of them shared, {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
