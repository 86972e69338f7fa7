"""When each row was made, last written and removed: what ``event.from`` tells its callers.

Numbers are of one clock that rises with every change, tasks included. In xapi it is the database's generation, and rows
carry it as their ``__ctime`` and ``__mtime`` (ocaml/database/db_cache_types.ml). What was there when the process began
counts as made at 1, so that a caller without a token (0) is told of everything.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KEPT = 2_000
"""How many removals are remembered; who asks for older ones has lost them."""
Key = tuple[str, str]  # table, reference


@dataclass(frozen=True, slots=True)
class Gone:
    number: int
    made: int
    key: Key


class Changes:
    """Of one database, since its process began."""

    def __init__(self, clock: int) -> None:
        self.clock = max(1, clock)
        self.forgotten = 0  # the number of the last removal that is not remembered any more
        self._made: dict[Key, int] = {}
        self._written: dict[Key, int] = {}
        self._gone: deque[Gone] = deque()

    def made(self, key: Key) -> None:
        self._made[key] = self._written[key] = self._next()

    def written(self, key: Key) -> None:
        self._written[key] = self._next()

    def removed(self, key: Key) -> None:
        made = self._made.pop(key, 1)
        self._written.pop(key, None)
        self._gone.append(Gone(self._next(), made, key))
        if len(self._gone) > KEPT:
            self.forgotten = self._gone.popleft().number

    def made_at(self, key: Key) -> int:
        return self._made.get(key, 1)

    def written_at(self, key: Key) -> int:
        return self._written.get(key, 1)

    def written_since(self, number: int) -> list[Key]:
        """Rows written or made after this number, for a number from 1 on; in the order of writing."""
        found = [(at, key) for key, at in self._written.items() if at > number]
        return [key for _, key in sorted(found)]

    def removed_since(self, number: int) -> list[Gone]:
        """Rows that existed at this number and do not any more."""
        return [gone for gone in self._gone if gone.made <= number < gone.number]

    def _next(self) -> int:
        self.clock += 1
        return self.clock
