"""A silenced alert reaches nobody while that lasts, and whoever was not told is told then; never longer than asked."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.catalogue import failovers, hosts, verdicts
from poolwarden_collector.core.catalogue.two_masters import MESSAGES, about_two_masters
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import apply
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts import outbox as module
from poolwarden_collector.shell.queue import lookout
from poolwarden_collector.shell.store.journal import Journal, Parcel
from poolwarden_collector.shell.store.silences import LONGEST_MS, Asked

from .rig import ME, POOL, until
from .test_operator_api import operated, refused
from .test_outbox import delivering

KEY = f"{POOL}/disk-host-1//"
HOUR = 3_600_000
RAISED = AlertRaised(KEY, "warning", "gold: / is full", "body", {"message": "disk"})
GRAVER = AlertRaised(KEY, "critical", "gold: / is full", "body", {"message": "disk-critical"})
OVER = AlertResolved(KEY, "over")
MASTERS = AlertRaised(f"{POOL}/incident-1/TwoMasters", "critical", "gold: two masters", "b", {"message": "two-masters"})


class Clock:
    """The clock of silences and the boot it counts in, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.boot = 1_000_000, "boot-1"
        monkeypatch.setattr(clock, "awake_or_not_ms", lambda: self.now)
        monkeypatch.setattr(clock, "boot", lambda: self.boot)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    journal = Journal(tmp_path, "c", ("log", "ops"))
    yield journal
    journal.close()


def the_alert(journal: Journal) -> dict[str, Any]:
    return journal.alerts()[0]


def silence(journal: Journal, for_ms: int = HOUR) -> None:
    [row] = journal.silence(the_alert(journal), Asked("anna", "disk ordered", for_ms), "2026-01-01T00:00:00.000Z")
    assert (row.kind, row.actor, row.pool) == ("alert-silenced", "anna", POOL) and "disk ordered" in row.text


def told(journal: Journal) -> dict[str, list[str]]:
    """What each sink is told next, as though everybody took everything at once."""
    found: dict[str, list[str]] = {"log": [], "ops": []}
    while parcels := journal.parcels():
        for parcel in parcels:
            found[parcel.sink].append(parcel.state)
            journal.delivered(parcel, module._entry(parcel))
    return found


def states(journal: Journal) -> list[tuple[str, str]]:
    return [(each["state"], each["status"]) for each in the_alert(journal)["deliveries"] if each["sink"] == "log"]


def test_what_is_silenced_is_raised_and_listed_and_told_when_the_silence_ends(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    silence(journal)
    assert journal.parcels() == [] and journal.pending() == 0 and states(journal) == [("firing", "held")]
    assert (the_alert(journal)["silence"]["left_ms"], the_alert(journal)["resolved_at"]) == (HOUR, "")
    time.now += HOUR - 1
    assert journal.end_silences() == [] and journal.parcels() == []
    time.now += 1
    assert the_alert(journal)["silence"] is None, "over from this instant on, whoever ends it"
    [row] = journal.end_silences()
    assert (row.kind, row.actor) == ("alert-unsilenced", "poolwarden") and "its time is over" in row.text
    assert told(journal) == {"log": ["firing"], "ops": ["firing"]} and journal.end_silences() == []
    journal.commit(POOL, [], [OVER], "gold")
    assert told(journal) == {"log": ["resolved"], "ops": ["resolved"]}


def test_an_alert_that_ends_within_its_silence_is_told_to_nobody(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    silence(journal)
    journal.commit(POOL, [], [OVER], "gold")
    assert states(journal) == [("firing", "withheld"), ("resolved", "withheld")]
    time.now += HOUR
    assert len(journal.end_silences()) == 1 and told(journal) == {"log": [], "ops": []}


def test_who_was_told_before_is_told_the_end_within_the_silence(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    [first] = [parcel for parcel in journal.parcels() if parcel.sink == "log"]
    journal.delivered(first, module._entry(first))
    silence(journal)
    journal.commit(POOL, [], [OVER], "gold")
    assert told(journal) == {"log": ["resolved"], "ops": []}


def test_a_delivery_that_was_under_way_is_followed_by_its_end(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    under_way = journal.parcels()
    silence(journal)
    journal.commit(POOL, [], [OVER], "gold")
    for parcel in under_way:
        if parcel.sink == "log":
            journal.delivered(parcel, module._entry(parcel))
        else:
            journal.undelivered(parcel, "503", 0)
    assert told(journal) == {"log": ["resolved"], "ops": []}


def test_it_holds_for_the_next_time_and_not_for_a_graver_one(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    told(journal)
    silence(journal)
    journal.commit(POOL, [], [OVER, RAISED], "gold")
    assert told(journal) == {"log": ["resolved"], "ops": ["resolved"]} and states(journal) == [("firing", "held")]
    journal.commit(POOL, [], [OVER, GRAVER], "gold")
    assert told(journal) == {"log": ["firing"], "ops": ["firing"]} and the_alert(journal)["silence"] is None


def test_two_masters_are_told_whatever_is_silenced(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [MASTERS], "gold")
    told(journal)
    silence(journal)
    journal.commit(POOL, [], [AlertResolved(MASTERS.key, "over"), MASTERS], "gold")
    assert told(journal) == {"log": ["resolved", "firing"], "ops": ["resolved", "firing"]}
    assert the_alert(journal)["silence"] is None


@pytest.mark.parametrize("boot", ["boot-1", "boot-2", ""])
def test_a_silence_outlasts_the_collector_and_never_its_machines_boot(tmp_path: Path, time: Clock, boot: str) -> None:
    journal = Journal(tmp_path, "c", ("log", "ops"))
    journal.begin_epoch()
    journal.commit(POOL, [], [RAISED], "gold")
    time.boot = boot if not boot else "boot-1"
    silence(journal)
    journal.close()
    time.boot = boot
    if boot == "boot-2":
        time.now = 5  # stamps of another boot say nothing
    journal = Journal(tmp_path, "c", ("log", "ops"))
    journal.begin_epoch()
    rows = journal.end_silences()
    if boot == "boot-1":
        assert rows == [] and journal.parcels() == [] and the_alert(journal)["silence"]["actor"] == "anna"
    else:
        assert len(rows) == 1 and "has restarted" in rows[0].text and told(journal)["log"] == ["firing"]
    journal.close()


def test_a_held_parcel_of_a_sink_that_is_gone_is_given_up(journal: Journal, time: Clock) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    silence(journal)
    journal.sinks = ("ops",)
    journal.take_up_channels()
    time.now += HOUR
    journal.end_silences()
    assert told(journal) == {"log": [], "ops": ["firing"]}


def test_an_acknowledgement_is_of_one_occurrence_and_changes_no_delivery(journal: Journal) -> None:
    journal.commit(POOL, [], [RAISED], "gold")
    [row] = journal.take(the_alert(journal), Asked("anna", "on my way"))
    assert (row.kind, row.actor) == ("alert-acknowledged", "anna") and "on my way" in row.text
    assert the_alert(journal)["taken"]["actor"] == "anna" and list(journal.marked()) == [KEY]
    journal.take(the_alert(journal), Asked("ben"))
    assert the_alert(journal)["taken"]["actor"] == "ben"
    assert told(journal) == {"log": ["firing"], "ops": ["firing"]}
    journal.commit(POOL, [], [OVER, RAISED], "gold")
    assert the_alert(journal)["taken"] is None and journal.marked() == {}


def test_which_alerts_are_about_two_masters() -> None:
    known = {each.id for each in (*verdicts.ALL, *failovers.ALL, *hosts.ALL)}
    assert known >= MESSAGES
    assert about_two_masters({"verdict": "TwoMasters"}) and about_two_masters({"message": "fence-disputed"})
    assert not about_two_masters({}) and not about_two_masters({"message": "disk", "verdict": "Healthy"})


@pytest.mark.asyncio
async def test_the_outbox_ends_it_and_delivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY_S", 0.02)
    got: list[str] = []
    reached = threading.Event()

    class Sink:
        name = "ops"

        def deliver(self, parcel: Parcel) -> None:
            got.append(parcel.delivery_key)
            reached.set()

    async with delivering(tmp_path, (Sink(),)) as (journal, rows):
        journal.commit(POOL, [], [RAISED], "gold")
        await until(lambda: rows)
        silence(journal)
        journal.commit(POOL, [], [OVER, RAISED], "gold")
        await until(lambda: len(rows) == 2)
        assert got == [f"{KEY}/1/firing", f"{KEY}/1/resolved"]
        time.now += HOUR
        await until(lambda: len(rows) == 4)
        assert got[2:] == [f"{KEY}/2/firing"]
        assert [row.kind for row in rows[2:]] == ["alert-unsilenced", "alert-delivered"]


def silence_it(topic: str, for_ms: int = HOUR, actor: str = "anna") -> pb.CommandRequest:
    return pb.CommandRequest(actor=actor, silence_alert=pb.SilenceAlert(topic=topic, for_ms=for_ms, reason="ordered"))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_an_operator_silences_and_acknowledges_over_the_socket(tmp_path: Path) -> None:
    async with operated(tmp_path) as (rig, stub):
        journal, write = rig.parts.journal, rig.parts.service.write
        none = await refused(stub.Command(silence_it("disk")))
        assert none.code() is grpc.StatusCode.NOT_FOUND
        other = AlertRaised(f"{POOL}/disk-host-2//", "warning", "gold: t", "b", {"message": "disk"})
        await write(journal.commit, POOL, [], [RAISED, other, MASTERS], "gold")
        many = await refused(stub.Command(silence_it("disk")))
        assert many.code() is grpc.StatusCode.FAILED_PRECONDITION and KEY in many.details()
        unknown = await refused(stub.Command(silence_it("dsk-host-1")))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND and KEY in unknown.details()
        for wrong in (0, LONGEST_MS + 1):
            assert (await stub.Command(silence_it("disk-host-1", wrong))).code == "bad-duration"
        not_yet = pb.CommandRequest(actor="ben", unsilence_alert=pb.UnsilenceAlert(topic="disk"))
        assert (await stub.Command(not_yet)).code == "not-silenced"
        never = await stub.Command(silence_it("two-masters"))
        assert (never.accepted, never.code) == (False, "two-masters") and "never silenced" in never.text
        taken = pb.AcknowledgeAlert(topic="TwoMasters", reason="r")
        never = await stub.Command(pb.CommandRequest(actor="anna", acknowledge_alert=taken))
        assert (never.accepted, never.code) == (False, "two-masters")

        done = await stub.Command(silence_it("disk-host-1"))
        assert done.accepted and done.text.startswith("silenced for 1 h, until about ")
        taken = pb.AcknowledgeAlert(topic=KEY, reason="on my way")
        assert (await stub.Command(pb.CommandRequest(actor="ben", acknowledge_alert=taken))).accepted
        alerts = {alert.key: alert for alert in (await stub.Alerts(pb.AlertsRequest(open_only=True))).alerts}
        mine = alerts[KEY]
        assert (mine.message, mine.silence.by, mine.silence.reason) == ("disk", ME, "ordered")
        assert HOUR - 60_000 < mine.silence.left_ms <= HOUR
        assert (mine.taken.by, mine.taken.reason) == (ME, "on my way")
        assert not alerts[MASTERS.key].HasField("silence") and not alerts[MASTERS.key].HasField("taken")
        with journal._reading() as db:
            db.execute("PRAGMA query_only = 1")
        lost = await stub.Command(not_yet)
        assert (lost.accepted, lost.code) == (False, "journal") and "nothing was changed" in lost.text
        with journal._reading() as db:
            db.execute("PRAGMA query_only = 0")
        assert (await stub.Command(not_yet)).accepted, "the only one that is silenced and has this in its key"
        kinds = [(entry.kind, entry.actor) for entry in (await stub.History(pb.HistoryRequest(pool="gold"))).entries]
        for each in (("alert-silenced", ME), ("alert-acknowledged", ME), ("alert-unsilenced", ME)):
            assert each in kinds


@pytest.mark.asyncio
async def test_status_shows_it_and_the_engine_never_hears_of_it(tmp_path: Path) -> None:
    key, entry = f"{POOL}/other", Entry(Kind.ALERT, "alert", {"key": f"{POOL}/other", "severity": "info", "title": "t"})
    async with operated(tmp_path) as (rig, stub):
        journal, pools = rig.parts.journal, rig.parts.service.roster.pools
        await rig.parts.service.write(journal.commit, POOL, [entry], [AlertRaised(key, "info", "t", "b")], "gold")
        pools[POOL] = replace(pools[POOL], record=apply(pools[POOL].record, entry))
        assert (await stub.Command(silence_it(key))).accepted
        shown = next(a for a in (await stub.Status(pb.StatusRequest(pool="gold"))).pools[0].alerts if a.key == key)
        assert (shown.title, shown.silence.by) == ("t", ME) and not shown.HasField("taken")
        assert key in pools[POOL].record.open_alerts and key in journal.record(POOL).open_alerts
