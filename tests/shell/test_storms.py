"""Many alerts at once, alerts that nobody could be told of, and reminders: what a channel is told, by a set clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts import outbox as module
from poolwarden_collector.shell.alerts.outbox import retry_after_ms
from poolwarden_collector.shell.config.alert_channels import Channel, Reach, Webhook
from poolwarden_collector.shell.config.alert_routes import Routes
from poolwarden_collector.shell.doctor.channels import all_channels
from poolwarden_collector.shell.store import parcels, reminders, storms
from poolwarden_collector.shell.store.journal import FILE, Journal, Parcel
from poolwarden_collector.shell.store.silences import Asked

from .rig import POOL
from .test_schemas import memory as memory

OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WALL = 1_767_225_600_000  # 2026-01-01
MANY = storms.LIMIT + 2


class World:
    """One channel ``webhook:a``, its journal and the clocks, all in the test's hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.boot, self.jump = 1_000_000, "boot-1", 0
        self.takes = True
        self.told: list[Parcel] = []
        monkeypatch.setattr(clock, "awake_or_not_ms", lambda: self.now)
        monkeypatch.setattr(clock, "boot", lambda: self.boot)
        monkeypatch.setattr(clock, "wall_ms", lambda: WALL + self.now + self.jump)
        monkeypatch.setattr(clock, "wall_text", lambda: clock.text_of(clock.wall_ms()))
        self.folder = folder
        self.reach = Reach()
        self.open()

    def open(self) -> None:
        channels = (Channel(Webhook("a", "http://x"), self.reach),)
        names = tuple(each.name for each in channels)
        self.journal = Journal(self.folder, "c", names, "", Routes(channels, lambda _: "", lambda _: ""))

    def restart(self, **reach: Any) -> None:
        self.journal.close()
        self.reach = Reach(**reach) if reach else self.reach
        self.open()

    def raise_(self, *names: str, pool: str = POOL, severity: str = "warning", **data: str) -> None:
        alerts = [AlertRaised(f"{pool}/{name}", severity, f"p: {name}", f"Died: {name}", data) for name in names]
        self.journal.commit(pool, [], alerts, "p")

    def end(self, *names: str, pool: str = POOL) -> None:
        self.journal.commit(pool, [], [AlertResolved(f"{pool}/{name}", f"{name} is back") for name in names], "p")

    def look(self) -> list[str]:
        """What the outbox does once it is awake, until there is nothing to do now; the titles that were told by it."""
        count = len(self.told)
        self.journal.tidy({}, clock.wall_ms())
        while found := self.journal.due(("webhook:a",), clock.wall_ms()):
            [parcel] = found
            if self.takes:
                self.told.append(parcel)
                self.journal.delivered(parcel, module._entry(parcel))
            else:
                wait = retry_after_ms(parcel.attempts)
                self.journal.undelivered(parcel, "no answer", clock.wall_ms() + wait)
            self.journal.tidy({}, clock.wall_ms())
        return [str(parcel.payload["title"]) for parcel in self.told[count:]]

    def wait(self, ms: int, step: int = 1000) -> list[str]:
        """Let time go by, looking every ``step``."""
        found = []
        for _ in range(0, ms, step):
            self.now += step
            found += self.look()
        return found

    def rows(self, where: str = "1") -> int:
        with self.journal._reading() as db:
            return int(next(db.query(f"SELECT count(*) AS n FROM outbox WHERE {where}"))["n"])

    @property
    def last(self) -> dict[str, Any]:
        return self.told[-1].payload


@pytest.fixture
def world(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(memory, monkeypatch)
    yield world
    world.journal.close()


def names(count: int, first: int = 0) -> list[str]:
    return [f"host-{number}" for number in range(first, first + count)]


# ------------------------------------------------------------------------------------------ storms


def test_very_many_are_folded_bit_by_bit_into_one_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storms, "AT_ONCE", 4)
    world.raise_(*names(storms.LIMIT + 5))
    world.now += storms.SETTLE_MS
    seen = []
    while world.journal.tidy({}, clock.wall_ms()):
        seen.append(world.rows("status = 'folded'"))
    assert seen == [4, 8, 12] and world.rows("status = 'folded'") == storms.LIMIT + 5
    assert world.look() == [f"p: {storms.LIMIT + 5} alerts began within 1 s"]


def test_few_alerts_are_told_one_by_one(world: World) -> None:
    world.raise_(*names(storms.LIMIT))
    assert world.look() == [f"p: {name}" for name in names(storms.LIMIT)]


def test_many_that_begin_at_once_are_one_message_with_the_worst_first_and_one_end(world: World) -> None:
    world.raise_(*names(MANY))
    world.raise_("grave", pool=OTHER, severity="critical")
    assert world.look() == [], "gathered first"
    world.now += 4_000
    world.raise_("late", pool=OTHER)
    assert world.wait(storms.SETTLE_MS) == [f"c: {MANY + 2} alerts of 2 pools began within 4 s"]
    payload = world.last
    assert (payload["key"], payload["state"], payload["severity"]) == ("storm/webhook:a", "firing", "critical")
    lines = payload["body"].splitlines()
    assert [line[:5] for line in lines[:4]] == ["Died:", "Did: ", "You: ", "Open:"] and lines[4] == ""
    assert lines[5] == "[CRITICAL] p: grave" and lines[6] == "[WARNING] p: host-0" and lines[-1] == "[WARNING] p: late"
    assert (payload["pool"], payload["data"]["count"]) == ({"uuid": "", "name": ""}, MANY + 2)
    world.end(*names(MANY))
    world.end("late", pool=OTHER)
    assert world.wait(10 * MINUTE) == [], "one is open still"
    world.end("grave", pool=OTHER)
    assert world.look() == [f"c: {MANY + 2} alerts of 2 pools began within 4 s"]
    assert world.last["state"] == "resolved" and "grave is back" in world.last["body"]
    assert world.told[-1].delivery_key == "storm/webhook:a/1/resolved" and world.wait(HOUR, MINUTE) == []


def test_a_quick_channel_is_told_the_first_ones_and_the_rest_as_one_message_a_minute(world: World) -> None:
    told = []
    for number in range(100):
        world.raise_(f"host-{number}")
        told += world.wait(100, 100)
    assert told == [f"p: {name}" for name in names(storms.LIMIT)]
    assert world.wait(storms.SETTLE_MS) == ["p: 90 alerts began within 9 s"]
    world.raise_(*names(MANY, 100))
    assert world.wait(40_000) == []
    assert world.wait(MINUTE) == [f"p: {MANY} alerts began within 1 s"]
    world.raise_("calm")
    assert world.look() == ["p: calm"]


def test_two_masters_and_what_waits_for_a_person_are_never_folded(world: World) -> None:
    world.raise_(*names(MANY))
    world.raise_("masters", severity="critical", message="two-masters")
    world.raise_("asks", severity="critical", message="blocked-unapproved")
    assert world.look() == ["p: masters", "p: asks"]
    assert world.wait(storms.SETTLE_MS) == [f"p: {MANY} alerts began within 1 s"]


def test_a_channel_that_wants_each_alert_gets_each(world: World) -> None:
    world.restart(fold=False)
    world.raise_(*names(MANY))
    assert len(world.look()) == MANY


def test_a_storm_that_is_not_taken_takes_in_more_and_says_what_is_over_by_now(world: World) -> None:
    world.takes = False
    world.raise_(*names(MANY))
    world.wait(storms.SETTLE_MS + 1_000)
    world.raise_(*names(3, 50))
    world.end("host-0")
    world.wait(3 * MINUTE)
    assert world.rows("status = 'pending'") == 1
    world.takes = True
    assert world.wait(5 * MINUTE) == [f"p: {MANY + 3} alerts began within 11 s, 1 of them is over"]
    assert "host-0 (over" in world.last["body"] and world.last["body"].rstrip().endswith("host-0 is back)")


def test_whoever_is_silenced_leaves_a_storm_that_is_not_taken(world: World) -> None:
    world.takes = False
    world.raise_(*names(MANY))
    world.wait(storms.SETTLE_MS)
    silenced = {alert["key"].rpartition("/")[2]: alert for alert in world.journal.alerts()}
    world.journal.silence(silenced["host-3"], Asked("anna", "", DAY), "")
    world.takes = True
    assert world.wait(MINUTE) == [f"p: {MANY - 1} alerts began within 1 s"] and "host-3" not in world.last["body"]
    world.journal.unsilence(silenced["host-3"], Asked("anna"))
    assert world.look() == ["p: host-3"]
    world.end(*names(MANY))
    assert sorted(world.look()) == [f"p: {MANY - 1} alerts began within 1 s", "p: host-3"]
    world.takes = False
    world.raise_(*names(MANY, 50))
    world.wait(storms.SETTLE_MS)
    for alert in world.journal.alerts(open_only=True):
        world.journal.silence(alert, Asked("anna", "", DAY), "")
    world.takes = True
    assert world.wait(6 * MINUTE) == [] and world.rows("status = 'pending'") == 0


def test_a_storm_whose_channel_went_and_came_back_has_no_end_without_a_beginning(world: World) -> None:
    world.takes = False
    world.raise_(*names(MANY))
    world.wait(storms.SETTLE_MS)
    world.journal.sinks = ()
    world.journal.take_up_channels()
    world.journal.sinks, world.takes = ("webhook:a",), True
    world.end(*names(MANY))
    assert world.wait(10 * MINUTE, MINUTE) == []


def test_a_storm_survives_a_restart_and_another_boot(world: World) -> None:
    world.raise_(*names(MANY))
    world.look()
    world.restart()
    world.boot, world.now = "boot-2", 5_000
    assert world.look() == [f"p: {MANY} alerts began within 1 s"], "who knows how long it has waited"
    world.restart()
    world.end(*names(MANY))
    assert world.look() == [f"p: {MANY} alerts began within 1 s"] and world.last["state"] == "resolved"


def test_what_is_told_just_now_is_not_folded_and_the_order_of_a_topic_stays(world: World) -> None:
    world.takes = False
    world.raise_("early")
    world.look()
    world.takes = True
    [early] = world.journal.due(("webhook:a",), clock.wall_ms() + HOUR)
    world.raise_(*names(MANY))
    world.now += storms.SETTLE_MS
    world.journal.tidy({"webhook:a": early.key}, clock.wall_ms())
    world.journal.delivered(early, module._entry(early))
    assert world.look() == [f"p: {MANY} alerts began within 1 s"]
    # Its end has not been told, so its next beginning waits for that and stays alone.
    world.takes = False
    world.end("early")
    world.look()
    world.takes = True
    world.raise_("early")
    world.raise_(*names(MANY, 100))
    world.now += storms.SETTLE_MS + MINUTE
    assert world.look() == [f"p: {MANY} alerts began within 1 s", "p: early", "p: early"]
    assert [parcel.state for parcel in world.told[-2:]] == ["resolved", "firing"]


# ------------------------------------------------------------------------------------------ was, and is over


def test_what_began_and_ended_untold_is_one_message(world: World) -> None:
    world.takes = False
    world.raise_("disk")
    world.look()
    world.end("disk")
    world.wait(4 * MINUTE)
    assert world.rows("status = 'pending'") == 2, "a channel that is back soon hears both"
    world.wait(2 * MINUTE)
    assert world.rows("status = 'pending'") == 1
    world.takes = True
    assert world.wait(5 * MINUTE) == ["was, and is over: p: disk"]
    assert (world.last["state"], "disk is back" in world.last["body"]) == ("resolved", True)
    world.raise_("disk")
    assert world.look() == ["p: disk"]


def test_a_channel_that_wants_no_ends_is_told_that_it_was(world: World) -> None:
    world.restart(resolved=False)
    world.raise_("told")
    world.look()
    world.end("told")
    assert world.look() == []
    world.takes = False
    world.raise_("untold")
    world.look()
    world.end("untold")
    world.wait(6 * MINUTE)
    world.takes = True
    assert world.wait(5 * MINUTE) == ["was, and is over: p: untold"]


def test_one_that_came_several_times_is_one_message(world: World) -> None:
    world.takes = False
    for _ in range(4):
        world.raise_("disk")
        world.wait(MINUTE)
        world.end("disk")
        world.wait(6 * MINUTE)
    assert world.rows("status = 'pending'") == 1
    world.takes = True
    assert world.wait(6 * MINUTE) == ["was 4 times, and is over: p: disk"]
    assert world.last["body"].count("disk is back") == 1


@pytest.mark.slow
def test_a_week_without_network_is_bounded_and_told_as_a_few_messages(world: World) -> None:
    world.restart(remind_every=HOUR)
    world.raise_("before")
    world.look()
    world.takes = False
    most = 0
    for hour in range(0, 7 * 24, 2):
        world.raise_(*(f"flap-{n}" for n in range(6)), f"one-{hour}")
        world.wait(40 * MINUTE, 20 * MINUTE)
        world.end(*(f"flap-{n}" for n in range(6)), f"one-{hour}")
        world.wait(80 * MINUTE, 20 * MINUTE)
        most = max(most, world.rows("status = 'pending'"))
        if hour % 24 == 0:
            world.restart()
    world.raise_("now")
    world.raise_("masters", severity="critical", message="two-masters")
    world.end("before")
    assert most <= storms.LIMIT + 2
    world.takes = True
    told = world.wait(HOUR, MINUTE)
    assert len(told) <= storms.LIMIT + 3
    assert {"p: before", "p: masters"} <= set(told) and not any("reminder 1" in title for title in told)
    assert sum("alerts began within" in title for title in told) == 1, told
    keys = [parcel.key for parcel in world.told]
    assert keys.count(f"{POOL}/before") == 2, "told, and its end; of a reminder nothing is left"
    assert world.wait(30 * DAY, 6 * HOUR), "reminders of what is open"
    world.end("now", "masters")
    world.wait(32 * DAY, 6 * HOUR)
    assert world.rows() == 0
    with world.journal._reading() as db:
        keys = {row["key"] for row in db.query("SELECT key FROM alerts")}
        assert next(db.query("SELECT count(*) AS n FROM alerts"))["n"] == len(keys), "of each key the newest stays"
        assert next(db.query("SELECT count(*) AS n FROM told"))["n"] == 0
    world.raise_("flap-0")
    assert world.journal.alerts(open_only=True)[0]["occurrence"] == 85
    assert (world.folder / FILE).stat().st_size < 20_000_000


# ------------------------------------------------------------------------------------------ reminders


def test_what_stays_open_is_reminded_of_until_it_is_over(world: World) -> None:
    world.restart(remind_every=HOUR)
    world.raise_("disk")
    assert world.look() == ["p: disk"]
    assert world.wait(HOUR - MINUTE, MINUTE) == []
    assert world.wait(2 * HOUR, MINUTE) == ["reminder 1, open for 1 h: p: disk", "reminder 2, open for 2 h: p: disk"]
    assert (world.last["state"], world.last["reminder"]["number"]) == ("firing", 2)
    assert [each.delivery_key.rpartition("/")[2] for each in world.told] == ["firing", "reminder-1", "reminder-2"]
    world.end("disk")
    assert world.look() == ["p: disk"] and world.wait(5 * HOUR, MINUTE) == []


def test_whoever_sees_to_it_or_silences_it_is_not_reminded(world: World) -> None:
    world.restart(remind_every=HOUR)
    world.raise_("acknowledged", "silenced", "open")
    world.look()
    by_name = {alert["key"].rpartition("/")[2]: alert for alert in world.journal.alerts()}
    world.journal.take(by_name["acknowledged"], Asked("anna"))
    world.journal.silence(by_name["silenced"], Asked("anna", "", 90 * MINUTE), "")
    world.takes = False
    assert world.wait(61 * MINUTE, MINUTE) == [] and world.rows("state = 'reminder' AND status = 'pending'") == 1
    world.journal.take(by_name["open"], Asked("bert"))
    assert world.rows("state = 'reminder' AND status = 'pending'") == 0, "the one that was not taken yet is dropped"
    world.takes = True
    assert world.wait(40 * MINUTE, MINUTE) == []
    world.journal.end_silences()
    assert world.wait(30 * MINUTE, MINUTE) == ["reminder 1, open for 2 h: p: silenced"]


def test_a_reminder_that_is_not_taken_does_not_pile_up(world: World) -> None:
    world.restart(remind_every=HOUR)
    world.raise_("disk")
    world.look()
    world.takes = False
    world.wait(5 * HOUR, MINUTE)
    assert world.rows("state = 'reminder'") == 1
    world.takes = True
    assert world.wait(6 * MINUTE, MINUTE) == ["reminder 1, open for 5 h: p: disk"]


def test_jumps_of_the_wall_clock_remind_nobody_and_a_restart_goes_on_counting(world: World) -> None:
    world.restart(remind_every=HOUR)
    world.raise_("disk")
    world.look()
    for jump in (400 * DAY, -400 * DAY, 0):
        world.jump = jump
        assert world.look() == []
        world.restart()
        assert world.wait(10 * MINUTE, MINUTE) == []
    world.now += 30 * MINUTE
    assert world.look() == ["reminder 1, open for 1 h: p: disk"]
    world.restart()
    world.now += 100 * HOUR  # the machine slept, or the collector was stopped
    assert world.look() == ["reminder 2, open for 4 d 5 h: p: disk"] and world.look() == []
    world.boot, world.now = "boot-2", 77
    world.restart()
    assert world.wait(59 * MINUTE, MINUTE) == [], "in another boot a period begins anew"
    assert len(world.wait(2 * MINUTE, MINUTE)) == 1


def test_reminders_of_many_are_spread_and_a_storm_has_one(world: World) -> None:
    world.restart(remind_every=HOUR, fold=False)
    world.raise_(*names(25))
    assert len(world.look()) == 25
    assert world.wait(HOUR - MINUTE, MINUTE) == []
    told = [len(world.wait(MINUTE)) for _ in range(4)]
    assert sum(told) == 25 and max(told) <= reminders.LIMIT
    world.end(*names(25))
    world.look()
    world.restart(remind_every=HOUR)
    world.raise_(*names(MANY, 100))
    world.wait(storms.SETTLE_MS)
    world.end("host-100")
    assert world.wait(HOUR, MINUTE) == [f"p: reminder 1: {MANY - 1} of {MANY} alerts are still open, begun together"]
    world.end(*names(MANY, 100))
    world.look()
    assert world.last["state"] == "resolved" and world.wait(3 * HOUR, MINUTE) == []


def test_the_figures_stand_in_order() -> None:
    assert storms.SETTLE_MS < storms.WINDOW_MS <= parcels.MERGE_AFTER_MS == parcels.LATEST_RETRY_MS < parcels.KEPT_MS
    assert module.LAST_RETRY_MS == parcels.LATEST_RETRY_MS


# ------------------------------------------------------------------------------------------ what doctor says of it


def test_doctor_tells_of_a_channel_that_takes_nothing(world: World) -> None:
    config: Any = SimpleNamespace(file="collector.toml", routes=lambda: world.journal.routes)

    def said() -> list[tuple[str, str]]:
        found = list(all_channels(config, {POOL: "gold"}, world.journal.channels()))
        assert [check.name for check in found] == ["channel webhook:a"]
        return [(check.level, check.text) for check in found]

    assert said() == [("unchecked", "it has taken nothing for 30 days, because there was nothing to tell")]
    world.raise_("disk")
    world.look()
    world.now += 2 * HOUR
    assert said() == [("ok", "it takes what it is told; it last took something 2 h ago")]
    world.takes = False
    world.raise_("more")
    world.wait(5 * MINUTE, MINUTE)
    assert said()[0][0] == "ok", "it has had little time"
    world.wait(10 * MINUTE, MINUTE)
    since = "it last took something 2 h 15 min ago"
    assert said() == [("warning", f"1 message waits for it, for 15 min: no answer; {since}")]
    world.boot = "boot-2"
    assert said() == [("warning", f"1 message waits for it, over this machine's restart: no answer; {since}")]
    world.boot = "boot-1"
    world.wait(2 * DAY, 6 * HOUR)
    assert said()[0][0] == "fault"
    trial = Entry(Kind.ALERTS_TESTED, "tried", {"channels": {"webhook:a": True, "webhook:b": False}})
    world.journal.commit("", [trial])
    assert "it last took something less than a minute ago" in said()[0][1]
    world.reach = Reach(severity="critical")
    world.restart()
    checks = list(all_channels(config, {POOL: "gold"}, world.journal.channels()))
    assert checks[-1].level == "warning" and "no person is told of warning and info alerts" in checks[-1].text
