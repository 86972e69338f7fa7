"""`poolwarden history` and `poolwarden alerts`: what happened, and who was told."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Tone

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

SEVERITY_TONES: dict[str, Tone] = {"critical": "bad", "warning": "warn"}
KIND_WIDTH = 16
# Its time is when the pool came to the collector that tells it.
COPIED = "(recorded before that, by the collector that owned the pool)"
# What Poolwarden notes for itself: who counts as a witness, numbers and names it has seen, what a channel has taken.
BOOKKEEPING = frozenset(
    {
        "alert-delivered",
        "opinion-settled",
        "pool-listed",
        "pool-named",
        "standing",
        "sync-intent",
        "term-observed",
    }
)
_LABELLED = re.compile(r"((?:Died|Did|You|Open): +)(.+)")
_REPLAY = re.compile(r'"replay": (\d+)')


def clock(at: str) -> str:
    """`2026-01-31 12:03:04.512` of an RFC 3339 time; whatever else was sent as it is."""
    date, separator, rest = at.partition("T")
    return f"{date} {rest[:12].rstrip('Z')}" if separator else at


def history_page(entries: Iterable["api.HistoryEntry"], *, with_pool: bool, everything: bool) -> Page:
    """Entries in order, the date once for each day; bookkeeping is folded into one last line unless ``everything``."""
    page: Page = []
    day, folded = "", 0
    for entry in entries:
        if not everything and entry.kind in BOOKKEEPING:
            folded += 1
            continue
        date = clock(entry.at)[:10]
        if date != day:
            page.append(Line(date, "dim"))
            day = date
        page.append(entry_line(entry, with_pool=with_pool))
    if folded:
        count = f"{folded} line{'s' if folded != 1 else ''} of bookkeeping not shown"
        page.append(Line(f"{count}; --all shows everything", "dim"))
    return page


def entry_line(entry: "api.HistoryEntry", *, with_pool: bool) -> Line:
    """`12:03:04.512  decided  text`, the pool's name and another actor than Poolwarden before the text."""
    label = f"{clock(entry.at)[11:]:<12}  {entry.kind:<{KIND_WIDTH}}  "
    actor = f"{entry.actor}: " if entry.actor not in ("", "poolwarden") else ""
    pool = f"{entry.pool_name}: " if with_pool and entry.pool_name else ""
    stored = _REPLAY.search(entry.data)
    of_one = f" --from {entry.collector}" if entry.collector else ""
    again = f" [poolwarden replay {stored[1]}{of_one}]" if stored else ""
    earlier = f" {COPIED}" if entry.copied else ""
    return Line(f"{pool}{actor}{entry.text}{again}{earlier}", label=label)


def late_page(entries: Iterable["api.LateEntry"]) -> Page:
    """Lines in order; where some before one were lost, that is said."""
    page: Page = []
    for entry in entries:
        if entry.dropped:
            page.append(Line(f"{entry.dropped} before this did not fit and are lost", "warn"))
        page.append(Line(entry.text, label=f"{clock(entry.at) or 'not known when':<23}  {entry.kind:<6}  "))
    return page


def capsules_page(capsules: Iterable["api.KeptCapsule"], *, with_pool: bool) -> Page:
    """Each capsule: when it was begun, where, why, and how big it is."""
    page: Page = []
    for kept in capsules:
        where = kept.host_name or kept.host_uuid
        where = f"{kept.pool_name}/{where}" if with_pool and kept.pool_name else where
        size = f"{max(1, kept.size_bytes // 1024)} KiB"
        page.append(Line(f"{kept.text} ({kept.trigger}, {size})", label=f"{clock(kept.at)[:19]}  {where}  "))
    return page


def alerts_page(alerts: Iterable["api.Alert"], *, open_only: bool) -> Page:
    """Each alert with its deliveries."""
    page: Page = []
    for alert in alerts:
        state = f"resolved {clock(alert.resolved_at)}" if alert.resolved_at else "open"
        page.append(Line(alert.title, SEVERITY_TONES.get(alert.severity, "strong"), label=f"{alert.severity}  "))
        page.append(Line(f"{alert.pool_name or alert.pool_uuid}; raised {clock(alert.raised_at)}; {state}", indent=2))
        page += body_lines(alert)
        page += alert_marks(alert, indent=2)
        page += [delivery(each) for each in alert.deliveries]
        page += [Line(alert.key, "dim", indent=2, label="key: "), Line()]
    return page[:-1] or [Line("no open alerts" if open_only else "no alerts")]


def body_lines(alert: "api.Alert") -> Page:
    """What it says."""
    return [_line_of(text) for text in alert.body.splitlines() if text.strip()]


def _line_of(text: str) -> Line:
    """A line of an alert; one with a label (`Died: `, `proof: `) goes on below its text."""
    found = _LABELLED.fullmatch(text)
    return Line(found[2], indent=2, label=found[1]) if found else Line(text, indent=2)


def alert_marks(alert: "api.Alert | api.OpenAlert", *, indent: int) -> Page:
    """Until when it is silenced and by whom, and who sees to it; nothing where neither is so."""
    page: Page = []
    if alert.HasField("silence"):
        why = f": {alert.silence.reason}" if alert.silence.reason else ""
        until = f"until about {clock(alert.silence.until)[:16]} UTC by {alert.silence.by}{why}"
        page.append(Line(until, "warn", indent=indent, label="silenced: "))
    if alert.HasField("taken"):
        why = f": {alert.taken.reason}" if alert.taken.reason else ""
        who = f"by {alert.taken.by} at {clock(alert.taken.at)[:16]} UTC{why}"
        page.append(Line(who, "good", indent=indent, label="acknowledged: "))
    return page


_NOT_TOLD = {
    "held": "not told, it is silenced",
    "withheld": "not told: it was over before its silence was",
    "folded": "told in one message with others that began at that time",
    "merged": "not told: it was over before the channel took anything; told as that",
    "unwanted": "not told: this channel is told no ends",
    "dropped": "not told: it was over, or somebody saw to it, before the channel took it",
}


def delivery(delivery: "api.Delivery") -> Line:
    times = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
    if delivery.state == "sent":
        return Line(f"sent {clock(delivery.sent_at)}, {times}", "good", indent=2, label=f"{delivery.sink}: ")
    if delivery.state in _NOT_TOLD:
        return Line(_NOT_TOLD[delivery.state], "dim", indent=2, label=f"{delivery.sink}: ")
    error = f": {delivery.last_error}" if delivery.last_error else ""
    tone: Tone = "bad" if delivery.state == "failed" else "warn"
    return Line(f"{delivery.state}, {times}{error}", tone, indent=2, label=f"{delivery.sink}: ")
