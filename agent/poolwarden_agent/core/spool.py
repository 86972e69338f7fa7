"""What is kept while no stream is up, to be told afterwards: bounded in bytes, in order, the least useful lost.

Rules
-----
* There are samples (how full, how many domains: one more or less does not matter) and events (the link, xapi, the role,
  a disk's level changed). Where the bound is reached the oldest sample goes first; events go only when no sample is
  left, the oldest first. What was lost is counted and told with what comes after it.
* It is told in order, a batch at a time. A batch counts as told only when the next one is asked for on the same stream;
  a stream that ends brings its batch back, so an item may be told twice and is told the same then.
* It is kept in memory alone: while a disk is full, or the agent ends, there is nothing to be written.
"""

import collections
from typing import Deque, List, NamedTuple

MOST_BYTES = 256 * 1024
OVERHEAD = 64  # bytes that an item costs beside its payload
BATCH = 50
LONGEST_TEXT = 200
EVENT, SAMPLE = "event", "sample"


class Item(NamedTuple):
    """``dropped``: how many before it were lost; ``payload``: a serialized sample, or an event's text."""

    at_ms: int
    what: str
    kind: str
    payload: bytes
    dropped: int = 0

    @property
    def cost(self) -> int:
        """Bytes against the bound."""
        return OVERHEAD + len(self.kind) + len(self.payload)


class Spool(object):
    """One thread at a time."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._items: Deque[Item] = collections.deque()
        self._told: List[Item] = []
        self._bytes = 0
        self._dropped = 0

    @property
    def size_bytes(self) -> int:
        """What is kept now, by its cost."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._items) + len(self._told)

    def event(self, at_ms: int, kind: str, text: str) -> None:
        """Something happened."""
        self._add(Item(at_ms, EVENT, kind, text[:LONGEST_TEXT].encode("utf-8", "replace")))

    def sample(self, at_ms: int, payload: bytes) -> None:
        """This is how it was."""
        self._add(Item(at_ms, SAMPLE, "", payload))

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._bytes += item.cost
        while self._bytes > self._most and self._items:
            self._lose()

    def _lose(self) -> None:
        """The oldest sample; where there is none, the oldest event. What follows it tells of the loss."""
        at = next((number for number, item in enumerate(self._items) if item.what == SAMPLE), 0)
        lost = self._items[at]
        del self._items[at]
        self._bytes -= lost.cost
        if at < len(self._items):
            after = self._items[at]
            self._items[at] = after._replace(dropped=after.dropped + lost.dropped + 1)
        else:
            self._dropped += lost.dropped + 1

    def batch(self) -> List[Item]:
        """The next items to tell; the batch before is told for good."""
        self._bytes -= sum(item.cost for item in self._told)
        self._told = []
        while self._items and len(self._told) < BATCH:
            item = self._items.popleft()
            self._told.append(item._replace(dropped=item.dropped + self._dropped))
            self._dropped = 0
        return list(self._told)

    def again(self) -> None:
        """The stream has ended: what was told last on it may not have arrived."""
        self._items.extendleft(reversed(self._told))
        self._told = []
        while self._bytes > self._most and self._items:
            self._lose()
