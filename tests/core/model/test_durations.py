"""Durations in sentences: one unit, and never none of it."""

from __future__ import annotations

import pytest

from poolwarden_collector.core.model.durations import span

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 s"),
        (999, "0 s"),
        (29_999, "29 s"),
        (2 * MINUTE - 1, "119 s"),
        (2 * MINUTE, "2 min"),
        (149_999, "2 min"),
        (150_000, "3 min"),
        (2 * HOUR - 1, "120 min"),
        (2 * HOUR, "2 h"),
        (2 * DAY - 1, "48 h"),
        (2 * DAY, "2 d"),
    ],
)
def test_a_duration_is_said_in_the_largest_unit_that_it_has_twice(ms: int, said: str) -> None:
    assert span(ms) == said
