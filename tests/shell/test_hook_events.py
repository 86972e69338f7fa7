"""Which steps are occasions for hooks: by hand-made entries, and in whole stories; each is held to the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.project.tree import ROOT

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import PoolRecord, apply, fold
from poolwarden_collector.shell.loop import hook_events
from poolwarden_collector.shell.loop.hook_events import LONGEST_TEXT, occasions
from poolwarden_lab.story import play
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_file

SCHEMA = json.loads((ROOT / "docs/hook.schema.json").read_text())
CHECKER = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
POOL, OLD, NEW = "pool-uuid", "host-uuid-1", "host-uuid-2"


def seen(host: str, name: str, address: str) -> Entry:
    return Entry(Kind.HOST_SEEN, f"{name} is there", {"host": host, "name": name, "address": address})


def observed(host: str, before: str, term: int, **data: Any) -> Entry:
    return Entry(Kind.MASTER_OBSERVED, f"{host} serves as master", {"host": host, "before": before, **data}, "", term)


HOSTS = (seen(OLD, "host-1", "192.0.2.1"), seen(NEW, "host-2", "192.0.2.2"))
RECORD = fold(PoolRecord(POOL), (*HOSTS, observed(OLD, "", 1)))
ONE = {"uuid": OLD, "name": "host-1", "address": "192.0.2.1"}
TWO = {"uuid": NEW, "name": "host-2", "address": "192.0.2.2"}


def as_read(event: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a hook reads of it, as the journal and the runner complete it."""
    whole = {"version": 1, "event": event, "id": 1, "attempt": 1, "at": "2026-01-31T20:00:00.000Z", "collector": "c"}
    return {**whole, "pool": {"uuid": POOL, "name": "lab"}, **facts}


def test_the_first_master_a_change_by_hand_and_a_held_one() -> None:
    start = fold(PoolRecord(POOL), HOSTS)
    [first] = occasions(start, [observed(OLD, "", 1)])
    assert (first.event, first.facts["master"], first.facts["old_master"]) == ("master-changed", ONE, None)
    [by_hand] = occasions(RECORD, [observed(NEW, OLD, 2)])
    assert (by_hand.facts["master"], by_hand.facts["old_master"], by_hand.facts["term"]) == (TWO, ONE, 2)
    assert occasions(start, [observed(OLD, "", 1, held=True)]) == ()
    assert occasions(RECORD, [Entry(Kind.MASTER_NAMED, "named", {"host": NEW, "before": OLD}, "", 2)]) == ()
    CHECKER.validate(as_read(by_hand.event, by_hand.facts))


def test_another_address_of_the_master_is_told_and_of_nobody_else() -> None:
    [moved] = occasions(RECORD, [seen(OLD, "host-1", "192.0.2.9")])
    assert moved.event == "master-changed"
    assert moved.facts["master"] == {**ONE, "address": "192.0.2.9"} and moved.facts["old_master"] == ONE
    for same in (seen(OLD, "renamed", "192.0.2.1"), seen(OLD, "host-1", ""), seen(NEW, "host-2", "192.0.2.9")):
        assert occasions(RECORD, [same]) == ()


def test_a_master_that_is_being_succeeded_is_told_by_its_promotion_alone() -> None:
    decided = Entry(Kind.DECIDED, "decided", {"old_master": OLD, "old_boot": "b"}, "f-1", 2)
    during = apply(RECORD, decided)
    assert occasions(during, [seen(OLD, "host-1", "192.0.2.9")]) == ()
    promoted = (
        Entry(Kind.CANDIDATE, "x", {"host": NEW}, "f-1", 2),
        Entry(Kind.PROOF, "x", {"kind": "human", "old_master": OLD, "boot_id": "b", "facts": {}}, "f-1", 2),
        Entry(Kind.PROMOTED, "host-2 is the master now", {"host": NEW}, "f-1", 2),
        Entry(Kind.CLOSED, "closed", {"durations_ms": {"proof": 3}}, "f-1", 2),
    )
    first, last = occasions(during, promoted)
    assert [(each.event, each.facts["master"], each.facts["old_master"]) for each in (first, last)] == [
        ("promoted", TWO, ONE),
        ("closed", TWO, ONE),
    ]
    assert first.facts["failover"] == {"id": "f-1", "term": 2, "proof": "human", "durations_ms": {}}
    assert last.facts["failover"]["durations_ms"] == {"proof": 3}
    CHECKER.validate(as_read(first.event, first.facts))


def test_two_masters_and_its_end_and_no_other_alert() -> None:
    key = f"{POOL}/incident-1/TwoMasters"
    alert = {"key": key, "severity": "critical", "title": "t\x1b[31m", "body": "\u2028" * 9000, "facts": {}}
    raised = Entry(Kind.ALERT, "alert (critical): t", {**alert, "facts": {"message": "two-masters"}})
    over = Entry(Kind.ALERT_RESOLVED, "alert over: lab is Healthy", {"key": key})
    first, last = occasions(RECORD, [raised, over])
    assert (first.event, last.event) == ("two-masters", "resolved")
    assert first.facts["master"] == ONE and last.facts["alert"]["title"] == "t\x1b[31m"
    assert (last.facts["alert"]["severity"], last.facts["alert"]["state"]) == ("critical", "resolved")
    for each in (first, last):
        given = json.dumps(as_read(each.event, each.facts))
        CHECKER.validate(json.loads(given))
        assert len(given) < 64 * 1024, "a pipe that nobody reads yet takes it whole"
    assert len(first.facts["alert"]["text"]) == LONGEST_TEXT
    other = f"{POOL}/incident-1/MasterXapiHung"
    hung = Entry(Kind.ALERT, "x", {**alert, "key": other, "facts": {"message": "master-xapi-hung"}})
    assert occasions(RECORD, [hung, Entry(Kind.ALERT_RESOLVED, "x", {"key": other})]) == ()


def test_steps_without_any_are_not_folded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_events, "apply", None)
    assert occasions(RECORD, [Entry(Kind.PAUSED, "x", {"reason": "work"})]) == ()


class Listener:
    """Looks on while a story is played, and keeps what hooks would be run for in each step."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.records: dict[str, PoolRecord] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.read = 0

    def look(self) -> None:
        commits = [each for station in self.stage.world.stations.values() for each in station.ledger.commits]
        for commit in commits[self.read :]:
            if commit.pool:
                before = self.records.get(commit.pool, PoolRecord(commit.pool))
                self.told += [(each.event, each.facts) for each in occasions(before, commit.entries)]
                self.records[commit.pool] = fold(before, commit.entries)
        self.read = len(commits)


@pytest.mark.parametrize(
    ("story", "events"),
    [
        ("s01", ["master-changed", "promoted", "closed"]),
        ("s02", ["master-changed", "promoted", "closed"]),
        ("second-master-by-pool-conf", ["master-changed", "two-masters", "resolved"]),
        ("s47", ["master-changed", "master-changed"]),
    ],
)
@pytest.mark.slow
def test_what_whole_stories_tell(story: str, events: list[str]) -> None:
    listeners: list[Listener] = []

    def beside(stage: Stage) -> Listener:
        listeners.append(Listener(stage))
        return listeners[0]

    played = play.play(read_file(Path(ROOT / f"tests/scenarios/{story}.txt")), beside)
    assert played.code == play.AS_EXPECTED
    listeners[0].look()
    assert [event for event, _ in listeners[0].told] == events
    for event, facts in listeners[0].told:
        CHECKER.validate(as_read(event, facts))
        assert facts["master"]["address"] and facts["text"]
    if "promoted" in events:
        [failover] = [facts["failover"] for event, facts in listeners[0].told if event == "promoted"]
        assert failover["id"] and failover["proof"] in ("power", "toolstack") and failover["term"] > 1
