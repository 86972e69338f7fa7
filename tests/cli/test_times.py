"""Times and durations as operators type them."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.errors import BadInput
from poolwarden_collector.cli.times import duration_ms, instant, rfc3339

from .conftest import Said
from .fake_collector import FakeCollector

NOW = datetime(2026, 3, 1, 10, 30, 15, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("now", "2026-03-01T10:30:15.250Z"),
        ("2h", "2026-03-01T08:30:15.250Z"),
        ("30m", "2026-03-01T10:00:15.250Z"),
        ("1h30m", "2026-03-01T09:00:15.250Z"),
        ("90 s ago", "2026-03-01T10:28:45.250Z"),
        ("1w", "2026-02-22T10:30:15.250Z"),
        ("08:00", "2026-03-01T08:00:00.000Z"),
        ("today", "2026-03-01T00:00:00.000Z"),
        ("yesterday", "2026-02-28T00:00:00.000Z"),
        ("yesterday 20:00", "2026-02-28T20:00:00.000Z"),
        ("Yesterday 20:00:30", "2026-02-28T20:00:30.000Z"),
        ("20:00+01:00", "2026-03-01T19:00:00.000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31 20:00", "2026-01-31T20:00:00.000Z"),
        ("2026-01-31T20:00:01.5Z", "2026-01-31T20:00:01.500Z"),
        ("2026-01-31T20:00:00-05:00", "2026-02-01T01:00:00.000Z"),
    ],
)
def test_what_a_time_means(typed: str, meant: str) -> None:
    assert rfc3339(instant("--since", typed, NOW)) == meant


@pytest.mark.parametrize(
    "typed", ["", "soon", "2 fortnights", "25:00", "yesterday 20", "2026-13-01", "-2h", "tomorrow", "999999w", "+01:00"]
)
def test_what_is_no_time(typed: str) -> None:
    with pytest.raises(BadInput) as error:
        instant("--since", typed, NOW)
    assert str(error.value) == f"--since: {typed!r} is no time"
    assert "yesterday 20:00" in error.value.next_step and "UTC" in error.value.next_step


@pytest.mark.parametrize(
    ("typed", "ms"), [("90s", 90_000), ("2h", 7_200_000), ("1h30m", 5_400_000), ("1d", 86_400_000)]
)
def test_durations(typed: str, ms: int) -> None:
    assert duration_ms(typed) == ms


@pytest.mark.parametrize("typed", ["", "2", "h", "2 hours", "1.5h", "-1h", "2h,30m"])
def test_no_durations(typed: str) -> None:
    with pytest.raises(BadInput):
        duration_ms(typed)


def test_history_asks_for_what_lies_between(fake: FakeCollector, poolwarden: Callable[..., Said]) -> None:
    assert poolwarden("history", "--since", "2026-01-31", "--until", "2026-01-31T20:00+01:00").status == 0
    (request,) = [request for request in fake.asked if isinstance(request, api.HistoryRequest)]
    assert (request.since, request.until) == ("2026-01-31T00:00:00.000Z", "2026-01-31T19:00:00.000Z")


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("--since", "nine"), "--since: 'nine' is no time"),
        (("--until", "nine"), "--until: 'nine' is no time"),
        (("--since", "1h", "--until", "2h"), "--since '1h' is after --until '2h'"),
        (("--follow", "--until", "1h"), "--follow has no end"),
    ],
)
def test_history_refuses(
    fake: FakeCollector, poolwarden: Callable[..., Said], arguments: tuple[str, ...], first: str
) -> None:
    said = poolwarden("history", *arguments)
    assert (said.status, said.out, fake.asked) == (2, "", [])
    assert said.err.startswith(f"poolwarden: {first}\n  ")
