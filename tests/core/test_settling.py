"""When alerts are told and are over: settling times, gaps, the minute, restarts of the collector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state import alert_book
from poolwarden_collector.core.state.live import Pool, PoolLive, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, topic_of
from poolwarden_collector.core.state.transaction import Draft

BLOCKED = "1-1.2/BLOCKED_LAST_LOOK"
LASTS = alert_book.settling("BLOCKED_LAST_LOOK")


class Told:
    """A pool whose alerts are raised by hand: what was said, as + and - with the key."""

    def __init__(self) -> None:
        self.pool = Pool(PoolRecord("pool", name="lab"), Policy())
        self.started = 0
        self.said: list[str] = []
        self.texts: list[str] = []

    def at(self, now: int, act: Callable[[Draft], None] = lambda d: None) -> list[str]:
        d = Draft(self.pool, now, Site(1, self.started, self.started))
        act(d)
        alert_book.settle(d)
        self.pool = d.pool
        news = [f"{'+' if isinstance(a, AlertRaised) else '-'}{a.key.removeprefix('pool/')}" for a in d.alerts]
        self.said += news
        self.texts += [e.text for e in d.entries]
        return news

    def restart(self, now: int) -> None:
        self.started = now
        self.pool = replace(self.pool, live=PoolLive())
        self.at(now, alert_book.wake)


def up(key: str, title: str = "it stands still") -> Callable[[Draft], None]:
    return lambda d: d.raise_alert(key, "critical", title, "why")


def down(key: str, final: bool = False) -> Callable[[Draft], None]:
    return lambda d: d.resolve_alert(f"pool/{key}", "it goes on", final)


def test_what_lasts_is_told_once_it_has() -> None:
    t = Told()
    assert t.at(1_000, up(BLOCKED)) == [] and t.at(LASTS) == []
    assert t.at(1_000 + LASTS) == [f"+{BLOCKED}"] and t.at(200_000, up(BLOCKED)) == []


def test_what_ends_before_was_never_told() -> None:
    t = Told()
    t.at(0, up(BLOCKED))
    t.at(LASTS - 1, down(BLOCKED))
    t.at(10 * LASTS)
    assert t.said == [] and not t.pool.live.unsettled


def test_what_cannot_pass_is_told_at_once() -> None:
    for key in ("1-1.2/done", "incident-3/TwoMasters", "lost-host/boot", "1-1.2/BLOCKED_POWER_ON/question-4"):
        assert Told().at(0, up(key)) == [f"+{key}"]


def test_an_alert_that_comes_and_goes_is_told_once() -> None:
    t = Told()
    for second in range(300):
        t.at(second * 1_000, (up if second % 2 else down)(BLOCKED))
    assert t.said == [f"+{BLOCKED}"]


def test_it_is_over_once_it_has_been_gone_for_as_long_and_says_what_is_over() -> None:
    t = Told()
    t.at(0, up(BLOCKED))
    t.at(LASTS)
    assert t.at(100_000, down(BLOCKED)) == [] and t.at(100_000 + LASTS - 1, down(BLOCKED)) == []
    assert t.at(100_000 + LASTS, down(BLOCKED)) == [f"-{BLOCKED}"]
    assert t.texts[-1] == "alert over: it stands still: it goes on"


def test_what_is_closed_for_good_is_over_at_once_but_never_right_after_it_was_told() -> None:
    t = Told()
    t.at(0, up(BLOCKED))
    t.at(LASTS)
    assert t.at(LASTS + 1, down(BLOCKED, True)) == [] and t.at(2 * LASTS) == [f"-{BLOCKED}"]
    late = Told()
    late.at(0, up(BLOCKED))
    late.at(LASTS)
    assert late.at(90_000, down(BLOCKED, True)) == [f"-{BLOCKED}"]


def test_the_same_standstill_of_the_next_failover_is_told_a_minute_later() -> None:
    t, other = Told(), "1-1.7/BLOCKED_LAST_LOOK"
    t.at(0, up(BLOCKED))
    t.at(LASTS)
    t.at(LASTS + 1, down(BLOCKED, True))
    t.at(LASTS + 2, up(other))
    t.at(2 * LASTS + 2)
    assert t.at(LASTS + alert_book.MINUTE_MS - 1) == [] and t.said == [f"+{BLOCKED}", f"-{BLOCKED}"]
    assert t.at(LASTS + alert_book.MINUTE_MS) == [f"+{other}"]


def test_the_minute_outlives_the_collector() -> None:
    t = Told()
    t.at(0, up("designate-2"))
    t.at(1_000, down("designate-2"))
    t.restart(5_000)
    assert t.at(6_000, up("designate-2")) == [] and t.at(5_000 + alert_book.MINUTE_MS - 1) == []
    assert t.at(5_000 + alert_book.MINUTE_MS) == ["+designate-2"]


def test_numbers_are_no_part_of_a_topic_and_hosts_are() -> None:
    assert topic_of("1-1.2/BLOCKED_X-abc") == topic_of("9-4.7/BLOCKED_X-abc") != topic_of("9-4.7/BLOCKED_X-def")
    assert topic_of("incident-3/refused/paused") == topic_of("incident-4/refused/paused")
    assert topic_of("incident-3/repair-h2/question-5") == topic_of("incident-3/repair-h2/question-6")
    assert topic_of("incident-3/repair-h2/question-5") != topic_of("incident-3/repair-h3/question-5")
    assert topic_of("1-1.2/done") != topic_of("1-1.3/done")
