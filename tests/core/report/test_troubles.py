"""Why a xapi does not start, and storage that does not answer: told once, with the command that helps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.host_facts import (
    Liveness,
    StorageFacts,
    StorageLink,
    StorageRepository,
    StorageStall,
    XapiTrouble,
)
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, parse

DATABASE = XapiTrouble(
    "database", "its database cannot be loaded", "poolwarden explain POOL; on HOST: look", ("a line",)
)
DISK = XapiTrouble("disk-full", "no space is left on its disk", "poolwarden-agent disk")
UNKNOWN = XapiTrouble("unknown", "why is not known", "tail")
VMS = "10.0.0.9:/vms"
REPOSITORY = StorageRepository("sr", "NFS vms", "nfs", True, True, (StorageLink("h", True, VMS),))


class Troubled(Guarded):
    """A pool whose hosts' troubles and storage are set by hand; remembers alerts."""

    def __init__(self) -> None:
        self.trouble: dict[int, XapiTrouble | None] = {}
        self.down: set[int] = set()
        self.storage: dict[int, StorageFacts] = {}
        self.said: list[str] = []
        self.told: list[AlertRaised] = []
        super().__init__()

    def facts(self, host: Host):  # type: ignore[no-untyped-def]
        facts = super().facts(host)
        if host.n in self.down:
            facts = replace(facts, xapi=replace(facts.xapi, liveness=Liveness.DOWN, liveness_since=self.now - 60_000))
        return replace(facts, trouble=self.trouble.get(host.n), storage=self.storage.get(host.n, StorageFacts()))

    def feed(self, event):  # type: ignore[no-untyped-def]
        outcome = super().feed(event)
        for alert in outcome.alerts:
            topic = parse(alert.key.partition("/")[2])
            if topic.matter in (Matter.XAPI_TROUBLE, Matter.STORAGE):
                self.said.append(("+" if isinstance(alert, AlertRaised) else "-") + topic.detail)
                assert isinstance(alert, AlertRaised | AlertResolved)
            if isinstance(alert, AlertRaised):
                self.told.append(alert)
        return outcome

    def live(self, ms: int = 40_000) -> list[str]:
        """What was said meanwhile."""
        self.said.clear()
        self.run(ms)
        return list(self.said)


def hangs(pool: Troubled, *hosts: int, what: str = VMS) -> None:
    stall = StorageStall(what, pool.now, True, "10.0.0.9", "sr")
    for host in hosts:
        pool.storage[host] = StorageFacts((), (stall,), ("SM: an error",))


def test_a_cause_is_told_once_with_the_command_that_helps() -> None:
    pool = Troubled()
    pool.down, pool.trouble = {2}, {2: DATABASE}
    assert pool.live() == ["+database"]
    told = next(each for each in pool.told if "xapi-trouble" in each.key)
    assert "its database cannot be loaded" in told.title and "POOL" not in told.body and "HOST" not in told.body
    assert "a line" in told.body
    assert pool.live(120_000) == []
    pool.trouble = {2: DISK}
    assert sorted(pool.live(90_000)) == ["+disk-full", "-database"]
    pool.down, pool.trouble = set(), {2: DISK}
    assert pool.live(90_000) == ["-disk-full"]


ORPHANED = XapiTrouble("master-unreachable", "it gets no answer from its master", "poolwarden explain POOL")


@pytest.mark.parametrize("trouble", [UNKNOWN, ORPHANED, None])
def test_what_is_not_known_or_told_by_a_verdict_is_no_alert(trouble: XapiTrouble | None) -> None:
    pool = Troubled()
    pool.down, pool.trouble = {2}, {2: trouble}
    assert pool.live(60_000) == []


def test_a_xapi_that_answers_has_no_trouble_whatever_its_agent_says() -> None:
    pool = Troubled()
    pool.trouble = {2: DATABASE}
    assert pool.live(60_000) == []


def test_a_silent_hosts_alert_stays() -> None:
    pool = Troubled()
    pool.down, pool.trouble = {2}, {2: DATABASE}
    assert pool.live() == ["+database"]
    pool.host(2).agent = False
    assert pool.live(120_000) == []


def test_storage_has_one_alert_whoever_sees_it() -> None:
    pool = Troubled()
    hangs(pool, 1, 2, 3)
    assert pool.live(60_000) == ["+" + VMS]
    told = next(each for each in pool.told if "storage-" in each.key)
    assert VMS in told.title and "would hang on another master, too" in told.body and "SM: an error" in told.body
    pool.storage = {3: pool.storage[3]}
    assert pool.live(60_000) == []  # one still sees it
    pool.storage = {}
    assert pool.live(60_000) == ["-" + VMS]


def test_storage_that_a_silent_host_saw_last_is_not_over() -> None:
    pool = Troubled()
    hangs(pool, 3)
    assert pool.live(60_000) == ["+" + VMS]
    told = next(each for each in pool.told if "storage-" in each.key)
    assert "another master, too" not in told.body
    pool.host(3).agent = False
    assert pool.live(120_000) == []


def test_a_process_that_waits_is_no_alert() -> None:
    pool = Troubled()
    pool.storage[2] = StorageFacts((), (StorageStall("process tapdisk (pid 7) waits for its disk", pool.now),))
    assert pool.live(60_000) == []


def test_a_stall_is_named_by_its_repository_where_the_master_has_told_it() -> None:
    pool = Troubled()
    pool.storage[1] = StorageFacts((REPOSITORY,))
    hangs(pool, 2)
    pool.run(30_000)
    pool.run(30_000)
    told = [each for each in pool.told if "storage-" in each.key]
    assert told and "NFS vms" in told[0].title


def test_topics_keep_what_they_are_about() -> None:
    for topic in (AlertTopic(Matter.STORAGE, detail=VMS), AlertTopic(Matter.STORAGE, detail="//10.0.0.8/iso images"),
                  AlertTopic(Matter.STORAGE, detail="10.0.0.9:/vms/question"),
                  AlertTopic(Matter.STORAGE, detail="10.0.0.9:/vms/question-7"),
                  AlertTopic(Matter.DISK, "host", "/mnt/question-7"), AlertTopic(Matter.DISK, "host", "/question"),
                  AlertTopic(Matter.XAPI_TROUBLE, "host", "disk-full")):  # fmt: skip
        assert parse(topic.text) == topic


def test_nothing_known_says_nothing() -> None:
    pool = Troubled()
    assert pool.live(60_000) == []


def made_up(pool: Troubled, host: int, count: int) -> None:
    """A host names servers that nobody has."""
    stalls = [StorageStall(f"{pool.now}.{n}:/x", 0, True, "s", "sr") for n in range(count)]
    pool.storage[host] = StorageFacts((), tuple(stalls))


@pytest.mark.slow
def test_a_host_that_makes_storage_up_fills_no_journal() -> None:
    pool = Troubled()
    said = []
    for _ in range(20):
        made_up(pool, 2, 64)
        said += pool.live(30_000)
    assert 0 < len([each for each in said if each[0] == "+"]) <= 40


@pytest.mark.slow
def test_much_storage_is_told_in_turn() -> None:
    pool = Troubled()
    made_up(pool, 2, 64)
    assert len(pool.live(400_000)) == 8


def test_a_silent_host_keeps_what_it_saw_and_nothing_else() -> None:
    pool = Troubled()
    hangs(pool, 2)
    hangs(pool, 3, what="10.0.0.8:/iso")
    assert sorted(pool.live(60_000)) == ["+10.0.0.8:/iso", "+" + VMS]
    pool.host(3).agent = False
    del pool.storage[2]
    assert pool.live(120_000) == ["-" + VMS]
