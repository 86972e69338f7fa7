"""Are the channels of alerts heard: does each of them take what it is told, and is there one for every alert?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from poolwarden_collector.core.model.durations import in_words
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.doctor.check import FAULT, OK, UNCHECKED, WARNING, Check
from poolwarden_collector.shell.store.parcels import ChannelState

LATE_MS, DEAD_MS = 600_000, 86_400_000
QUIET_MS = 30 * 86_400_000  # for as long as deliveries are kept


def all_channels(config: Config, pools: Mapping[PoolId, str], states: Iterable[ChannelState]) -> Iterator[Check]:
    """``pools``: every pool that is known, with its name."""
    for state in states:
        yield _channel(state)
    for text in config.routes().unheard(pools):
        yield Check("alerts", WARNING, text, f"[alerts] of {config.file}; docs/alerts.md")


def _channel(state: ChannelState) -> Check:
    name, last = f"channel {state.name}", clock.ms_of(state.taken_at) if state.taken_at else None
    since = "" if last is None else f"; it last took something {_ago(last)}"
    if state.waits_ms is None or state.waits_ms >= LATE_MS:
        level = FAULT if (state.waits_ms or 0) >= DEAD_MS else WARNING
        error = f": {state.error}" if state.error else ""
        what = "1 message waits" if state.waiting == 1 else f"{state.waiting} messages wait"
        how_long = "over this machine's restart" if state.waits_ms is None else f"for {_rounded(state.waits_ms)}"
        text = f"{what} for it, {how_long}{error}{since}"
        return Check(name, level, text, f"poolwarden test-alerts --channel {state.name}")
    if last is None or clock.wall_ms() - last > QUIET_MS:
        text = f"it has taken nothing for {QUIET_MS // 86_400_000} days, because there was nothing to tell"
        return Check(name, UNCHECKED, text, f"poolwarden test-alerts --channel {state.name}")
    return Check(name, OK, f"it takes what it is told{since}")


def _ago(wall_ms: int) -> str:
    return f"{_rounded(max(0, clock.wall_ms() - wall_ms))} ago"


def _rounded(ms: int) -> str:
    """Whole minutes; from a day on whole hours."""
    unit = 3_600_000 if ms >= 86_400_000 else 60_000
    return in_words(ms // unit * unit) if ms >= unit else "less than a minute"
