"""When alerts are told and are over: settling times, gaps, the minute, restarts of the collector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from poolwarden_collector.core.catalogue.failovers import BLOCKERS
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.state import alert_book
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, parse
from poolwarden_collector.core.state.live import Pool, PoolLive, Site
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_collector.core.state.transaction import Transaction

BLOCKED = "1-1.2/BLOCKED_LAST_LOOK"
LASTS = alert_book.settling(parse("BLOCKED_LAST_LOOK"))


class Told:
    """A pool whose alerts are raised by hand: what was said, as + and - with the key."""

    def __init__(self) -> None:
        self.pool = Pool(PoolRecord("pool", name="lab"), Policy())
        self.started = 0
        self.said: list[str] = []
        self.texts: list[str] = []

    def at(self, now: int, act: Callable[[Transaction], None] = lambda d: None) -> list[str]:
        tx = Transaction(self.pool, now, Site(1, self.started, self.started))
        act(tx)
        alert_book.tell_settled(tx)
        self.pool = tx.pool
        news = [f"{'+' if isinstance(a, AlertRaised) else '-'}{a.key.removeprefix('pool/')}" for a in tx.alerts]
        self.said += news
        self.texts += [e.text for e in tx.entries]
        return news

    def restart(self, now: int) -> None:
        self.started = now
        self.pool = replace(self.pool, live=PoolLive())
        self.at(now, alert_book.resume)


def up(key: str, title: str = "it stands still") -> Callable[[Transaction], None]:
    told = replace(BLOCKERS[Blocker.LAST_LOOK], title=title)
    words = {"old": "h1", "why": "why", "step": "look", "there": "", "candidate": "h2"}
    return lambda d: d.raise_alert(parse(key), told, "why", words)


def down(key: str, final: bool = False) -> Callable[[Transaction], None]:
    return lambda d: d.resolve_alert(parse(key), "it goes on", final)


def test_what_lasts_is_told_once_it_has() -> None:
    t = Told()
    assert t.at(1_000, up(BLOCKED)) == [] and t.at(LASTS) == []
    assert t.at(1_000 + LASTS) == [f"+{BLOCKED}"] and t.at(200_000, up(BLOCKED)) == []


def test_what_ends_before_was_never_told() -> None:
    t = Told()
    t.at(0, up(BLOCKED))
    t.at(LASTS - 1, down(BLOCKED))
    t.at(10 * LASTS)
    assert t.said == [] and not t.pool.live.alerts.unsettled


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
    assert t.texts[-1] == "alert over: lab: it stands still: it goes on"


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
    assert (
        parse("1-1.2/BLOCKED_X-abc").about == parse("9-4.7/BLOCKED_X-abc").about != parse("9-4.7/BLOCKED_X-def").about
    )
    assert parse("incident-3/refused/paused").about == parse("incident-4/refused/paused").about
    assert parse("incident-3/repair-h2/question-5").about == parse("incident-3/repair-h2/question-6").about
    assert parse("incident-3/repair-h2/question-5").about != parse("incident-3/repair-h3/question-5").about
    assert parse("1-1.2/done").about != parse("1-1.3/done").about


TOPICS = {
    "unsteady": AlertTopic(Matter.UNSTEADY),
    "owed-h3": AlertTopic(Matter.OWED, "h3"),
    "repair-h3/not-heard-1f": AlertTopic(Matter.REPAIR, "h3", "not-heard-1f"),
    "disk-h3/full:/var/log": AlertTopic(Matter.DISK, "h3", "full:/var/log"),
    "gate-h3/unheard/h2/was-master": AlertTopic(Matter.GATE, "h3", "unheard/h2/was-master"),
    "gate-dark/h3": AlertTopic(Matter.GATE_DARK, "h3"),
    "reboot-loop-h3": AlertTopic(Matter.REBOOT_LOOP, "h3"),
    "fence-bmc-host-3-agent-missing": AlertTopic(Matter.FENCE, "bmc-host-3", "agent-missing"),
    "designate-pool/designate/1.7": AlertTopic(Matter.DESIGNATE, detail="pool/designate/1.7"),
    "incident-4/Upgrading over MasterVanished": AlertTopic(
        Matter.INCIDENT, detail="Upgrading over MasterVanished", number="4"
    ),
    "incident-4/refused/paused": AlertTopic(Matter.REFUSAL, detail="paused", number="4"),
    "1-1.2/BLOCKED_NO_CLAIM-1f": AlertTopic(Matter.BLOCKER, detail="BLOCKED_NO_CLAIM-1f", number="1-1.2"),
    "1-1.2/done": AlertTopic(Matter.DONE, number="1-1.2"),
    "1-1.2/superseded/done": AlertTopic(Matter.DONE, detail="superseded", number="1-1.2"),
    "1-1.2/gave-up-the-role": AlertTopic(Matter.GAVE_UP_THE_ROLE, number="1-1.2"),
    "incident-4/repair-h3/1f/question-5": AlertTopic(Matter.QUESTION, detail="incident-4/repair-h3/1f", number="5"),
    "1-1.2/BLOCKED_POWER_ON/x/question-5": AlertTopic(Matter.QUESTION, detail="1-1.2/BLOCKED_POWER_ON/x", number="5"),
    "something of another version": AlertTopic(Matter.OTHER, detail="something of another version"),
}


@pytest.mark.parametrize("text", TOPICS)
def test_a_key_is_made_of_its_topic_and_read_back(text: str) -> None:
    topic = TOPICS[text]
    assert topic.text == text and parse(text) == topic
    assert parse(topic.about).about == topic.about


def test_a_question_belongs_to_the_incident_or_the_failover_under_which_it_is_asked() -> None:
    asked = parse("incident-4/repair-h3-1f/question-5"), parse("1-1.2/BLOCKED_POWER_ON/x/question-6")
    assert [topic.incident for topic in asked] == ["4", ""] and [topic.failover for topic in asked] == ["", "1-1.2"]
    assert all(alert_book.settling(topic) == 0 for topic in asked)


def test_a_new_reason_takes_the_place_of_the_old_one_and_of_nothing_else() -> None:
    t = Told()
    for key in ("lost-h2/boot-1", "lost-h3/boot-1"):
        assert t.at(0, up(key)) == [f"+{key}"]
    now = AlertTopic(Matter.LOST, "h2", "boot-2")
    assert t.at(1_000, lambda d: d.resolve_alerts(Matter.LOST, "h2", "another boot", but=now)) == ["-lost-h2/boot-1"]
