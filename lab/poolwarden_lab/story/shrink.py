"""Making a failing story small: leave out what is not needed, then make its times round and short.

Delta debugging over the commands: halves, quarters, ... single ones are left out as long as the story still fails in
the same way (the same invariant, or the same expectation). Then every time in it is tried at simpler values. The result
fails as the first one did, and leaving out any one command makes it pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from poolwarden_lab.story.chance import Drawn
from poolwarden_lab.story.text import duration, say_duration

StillFails = Callable[[Drawn], bool]
_TIME = re.compile(r"(?<![\w.])\d[\d.]*(?:ms|s|m)(?![\w.])")
MOST_TRIES = 400


class Shrinker:
    """Counts its tries; ``still_fails`` plays a story."""

    def __init__(self, still_fails: StillFails, most_tries: int = MOST_TRIES) -> None:
        self._still_fails = still_fails
        self.tries = 0
        self._most = most_tries

    def fails(self, drawn: Drawn) -> bool:
        if self.tries >= self._most:
            return False
        self.tries += 1
        return self._still_fails(drawn)

    def shrink(self, drawn: Drawn) -> Drawn:
        """The smallest story found that still fails."""
        before = None
        while before != drawn and self.tries < self._most:
            before = drawn
            drawn = self._fewer(drawn)
            drawn = self._plainer(drawn)
            drawn = self._rounder(drawn)
        return drawn

    def _fewer(self, drawn: Drawn) -> Drawn:
        """Without the commands that are not needed."""
        size = max(1, len(drawn.body) // 2)
        while size:
            at = 0
            while at < len(drawn.body):
                tried = replace(drawn, body=drawn.body[:at] + drawn.body[at + size :])
                if self.fails(tried):
                    drawn = tried
                else:
                    at += size
            size //= 2
        return drawn

    def _plainer(self, drawn: Drawn) -> Drawn:
        """Without the settings that are not needed, and with fewer hosts."""
        for line in drawn.head:
            if not line.startswith(("pool ", "collectors ")):
                tried = replace(drawn, head=tuple(each for each in drawn.head if each != line))
                drawn = tried if self.fails(tried) else drawn
        _, most, *name = drawn.head[0].split()
        for hosts in range(2, int(most)):
            tried = replace(drawn, head=(" ".join(["pool", str(hosts), *name]), *drawn.head[1:]))
            if self.fails(tried):
                return tried
        return drawn

    def _rounder(self, drawn: Drawn) -> Drawn:
        for number in range(len(drawn.body)):
            for match in list(_TIME.finditer(drawn.body[number]))[::-1]:
                drawn = self._round(drawn, number, match.start(), match.group())
        return drawn

    def _round(self, drawn: Drawn, number: int, at: int, time: str) -> Drawn:
        ms, line = duration(time), drawn.body[number]
        for simpler in (0, 1_000, 5_000, 10_000, 30_000, 60_000, round(ms, -4), round(ms, -3)):
            if simpler >= ms or not line[at:].startswith(time):
                continue
            text = line[:at] + say_duration(simpler) + line[at + len(time) :]
            tried = replace(drawn, body=(*drawn.body[:number], text, *drawn.body[number + 1 :]))
            if self.fails(tried):
                return tried
        return drawn
