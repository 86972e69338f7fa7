"""What was refused, cut and folded since the start, in numbers: for metrics alone."""

from __future__ import annotations

from collections import Counter


class Tally:
    """Only grows; to be changed in the event loop, or by the one thread that a count belongs to."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()  # by the word of the budget
        self.cut = 0  # texts and lists of agents that were longer than their bounds
        self.mute = 0  # connections that were closed because they said nothing
        self.entries = 0  # of the journal, that were folded
        self.telemetry = 0  # lines of telemetry that were left out

    def copy(self) -> Tally:
        """As it is now."""
        copied = Tally()
        vars(copied).update(vars(self), refused=self.refused.copy())
        return copied

    def over_budget(self, word: str) -> None:
        """Something of an agent was refused by this budget."""
        self.refused[word] += 1
