"""While no collector may act that is told, with the hosts that fall silent meanwhile; on a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden_collector.core.decision.storm_brake import Blind
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.pool_record import fold
from poolwarden_collector.shell.agents.sessions import Session, Sessions
from poolwarden_collector.shell.loop.right_alerts import HEARD_WITHIN_MS, MOST_TOLD, NOBODY_ACTS, RightAlerts
from poolwarden_collector.shell.loop.shared_service import NO_WORK_MS

from .rig import HOSTS, POOL
from .shared import OTHER, One, two

pytestmark = pytest.mark.asyncio
H1, H2, H3 = HOSTS
NO_LEASE = "its lease of 10 s was renewed last 7.0 s ago"
CUT_OFF = "collector/a/cut-off"


def silent(host: str) -> str:
    return f"silent-and-nobody-acts/{POOL}/{host}"


class Watched:
    """A collector's pool and its agents' streams, and what etcd says of it."""

    def __init__(self, one: One) -> None:
        self.one, self.sessions, self.time = one, Sessions(), 1_000_000
        self.lost_at: int | None = None
        self.etcd: Any = SimpleNamespace(
            membership=SimpleNamespace(collector="a"),
            owned={POOL},
            gone=set(),
            trouble="",
            newest=SimpleNamespace(seen=SimpleNamespace(owners={POOL: "a"})),
            now=lambda: self.time,
            without_right=lambda: self.time - self.lost_at if self.lost_at is not None else 0,
            asked_in_vain=set,
            on_second=lambda _: None,
        )
        one.roster.right = lambda: NO_LEASE if self.lost_at is not None else ""
        one.roster.without_right = self.etcd.without_right
        self.alerts = self.started()

    def started(self) -> RightAlerts:
        return RightAlerts(self.etcd, self.one.service, self.one.archive.journal, self.sessions)

    def hosts(self, *hosts: str, master: str = H1) -> None:
        seen = [
            Entry(Kind.HOST_SEEN, "seen", {"host": host, "name": f"host-{host[:2]}", "address": "192.0.2.1"})
            for host in hosts
        ]
        pool = self.one.roster.pools[POOL]
        self.one.roster.pools[POOL] = replace(pool, record=replace(fold(pool.record, seen), master=master))

    def come(self, *hosts: str) -> None:
        for host in hosts:
            state: Any = SimpleNamespace(stream=self.sessions.next_number(), capabilities=frozenset())
            self.sessions.add(Session(host, POOL, state))

    def go(self, *hosts: str) -> None:
        for host in hosts:
            session = self.sessions.of(host)
            assert session is not None
            self.sessions.remove(session)

    def lose_right(self) -> None:
        self.lost_at = self.time

    async def after(self, seconds: int) -> set[str]:
        """The keys of the open alerts so long afterwards."""
        for _ in range(seconds):
            self.time += 1_000
            self.one.time += 1_000
            self.alerts.look()
            assert self.alerts._working is not None
            await self.alerts._working
        return {each["key"] for each in self.one.archive.journal.alerts(open_only=True)}

    def told(self, key: str) -> dict[str, Any]:
        [found] = [each for each in self.one.archive.journal.alerts(open_only=True) if each["key"] == key]
        return found

    def times(self, key: str) -> int:
        """How often it was raised."""
        return len([each for each in self.one.archive.journal.alerts() if each["key"] == key])


@asynccontextmanager
async def watched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, ...] = HOSTS
) -> AsyncIterator[Watched]:
    async with two(folder, monkeypatch) as (a, _, _etcd):
        await a.owns()
        made = Watched(a)
        made.hosts(*hosts)
        made.come(*hosts)
        assert await made.after(1) == set()
        yield made


async def test_that_nobody_acts_is_told_after_30_s_and_over_when_it_may_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        it.etcd.trouble = "no member of etcd answers"
        assert await it.after(30) == set()
        assert await it.after(1) == {NOBODY_ACTS}
        told = it.told(NOBODY_ACTS)
        assert told["severity"] == "critical" and "1 pool" in told["title"]
        for text in ("30 s ago", "no member of etcd answers", "poolwarden doctor", "poolwarden collectors", POOL):
            assert text in told["body"], text
        assert await it.after(100) == {NOBODY_ACTS} and it.times(NOBODY_ACTS) == 1
        it.lost_at = None
        assert await it.after(1) == set()


async def test_a_short_loss_is_nothing_and_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        for _ in range(3):
            it.lose_right()
            assert await it.after(25) == set()
            it.lost_at = None
            assert await it.after(1) == set()


async def test_who_alone_is_cut_off_warns_with_his_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        await it.after(20)
        it.etcd.gone.add(POOL)
        it.go(*HOSTS)
        assert await it.after(30) == set()
        assert await it.after(1) == {CUT_OFF}
        told = it.told(CUT_OFF)
        assert told["severity"] == "warning" and told["title"].startswith("collector a: ")
        assert "found another collector" in told["body"]
        it.come(H2)
        await it.after(1)
        assert it.etcd.gone == set(), "an agent that came back was welcomed nowhere"
        assert await it.after(29) == {CUT_OFF}
        assert NOBODY_ACTS in await it.after(1) and CUT_OFF not in await it.after(1)
        it.lost_at = None
        assert await it.after(1) == set()


async def test_without_a_pool_it_warns_unless_agents_ask_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.etcd.owned = set()
        it.lose_right()
        assert await it.after(31) == {CUT_OFF}
        it.etcd.asked_in_vain = lambda: {OTHER}
        assert await it.after(31) == {NOBODY_ACTS}
        assert OTHER in it.told(NOBODY_ACTS)["body"]


async def test_who_is_blind_tells_no_host_and_that_it_is_cut_off_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        site = it.one.config.policy_of(POOL).site
        it.lose_right()
        await it.after(15)
        it.one.roster.sites = {site: Blind("no anchor answers", 0, silent=True)}
        it.go(*HOSTS)
        assert await it.after(90) == {CUT_OFF}
        assert "hears no host either" in it.told(CUT_OFF)["body"]


async def test_who_hears_no_host_since_then_may_be_cut_off_himself_unless_an_anchor_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.go(*HOSTS)
        it.lose_right()
        assert await it.after(60) == {CUT_OFF}
        it.one.service._anchors = lambda: (False, True)
        assert await it.after(31) == {NOBODY_ACTS, *map(silent, HOSTS)}


async def test_hosts_that_all_fall_silent_later_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        await it.after(15)
        it.go(*HOSTS)
        assert await it.after(90) == {NOBODY_ACTS, *map(silent, HOSTS)}
        it.come(*HOSTS)
        it.lost_at = None
        assert await it.after(1) == set()
        it.go(*HOSTS)
        it.lose_right()
        assert await it.after(60) == {CUT_OFF}, "what was seen in an earlier loss tells nothing of this one"


async def test_a_pool_of_which_nothing_can_be_recorded_is_left_alone_with_the_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.one.roster.stalls[POOL] = "etcd: database space exceeded"
        assert await it.after(31) == {NOBODY_ACTS}
        assert "database space exceeded" in it.told(NOBODY_ACTS)["body"]
        it.go(H1)
        assert await it.after(31) == {NOBODY_ACTS, silent(H1)}
        it.one.roster.stalls.clear()
        assert await it.after(1) == set()


async def test_a_master_that_falls_silent_meanwhile_is_told_once_with_what_may_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        await it.after(600)
        it.go(H1)
        assert await it.after(29) == {NOBODY_ACTS}
        assert await it.after(1) == {NOBODY_ACTS, silent(H1)}
        told = it.told(silent(H1))
        assert (
            told["severity"] == "critical"
            and "master host-" in told["title"]
            and "no collector is known to act" in told["title"]
        )
        for text in (
            "30 s ago",
            NO_LEASE,
            "systemctl stop poolwarden-collector",
            "xe pool-emergency-transition-to-master",
        ):
            assert text in told["body"], text
        await it.after(100)
        assert it.times(silent(H1)) == 1
        it.come(H1)
        assert await it.after(1) == {NOBODY_ACTS}


async def test_a_member_is_told_too_and_over_when_its_pool_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        await it.after(31)
        it.go(H3)
        assert await it.after(30) == {NOBODY_ACTS, silent(H3)}
        body = it.told(silent(H3))["body"]
        assert f"xe host-declare-dead uuid={H3}" in body and "emergency" not in body
        it.etcd.gone.add(POOL)
        it.go(H1, H2)
        assert await it.after(1) == {NOBODY_ACTS}


async def test_a_scout_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        for _ in range(10):
            session = it.sessions.of(H1)
            assert session is not None
            session.sent_on = True
            await it.after(5)
            it.go(H1)
            await it.after(7)
            it.come(H1)
            assert silent(H1) not in await it.after(20)


async def test_who_was_silent_long_before_is_his_owners_and_who_was_not_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.go(H3)
        await it.after(HEARD_WITHIN_MS // 1_000)
        it.go(H2)
        await it.after(20)
        it.lose_right()
        assert await it.after(32) == {NOBODY_ACTS, silent(H2)}


async def test_a_master_that_was_never_heard_since_the_pool_was_taken_over_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (a, _, _etcd):
        await a.owns()
        it = Watched(a)
        it.hosts(*HOSTS)
        it.come(H2, H3)
        await it.after(10)
        it.lose_right()
        assert await it.after(31) == {NOBODY_ACTS, silent(H1)}
        assert "41 s ago" in it.told(silent(H1))["body"] or "40 s ago" in it.told(silent(H1))["body"]


async def test_of_a_large_pool_so_many_hosts_are_told_and_the_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tuple(f"{number:08d}-0000-4000-8000-000000000000" for number in range(40))
    async with watched(tmp_path, monkeypatch, many) as it:
        it.hosts(*many, master=many[-1])
        it.lose_right()
        await it.after(15)
        it.go(*many)
        told = await it.after(60)
        assert len(told) == 1 + MOST_TOLD + 1 and silent(many[-1]) in told
        assert "40 hosts of" in it.told(silent(many[-1]))["body"]
        await it.after(10)
        assert {each["key"] for each in it.one.archive.journal.alerts(open_only=True)} == told


async def test_what_was_open_at_a_start_is_over_when_it_may_act_and_somebody_owns_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.lose_right()
        it.go(H1)
        open_before = await it.after(60)
        it.etcd.owned, it.etcd.newest, it.alerts = set(), None, it.started()
        assert silent(H1) in await it.after(20)
        it.lost_at = None
        assert await it.after(1) == {silent(H1)}, "nobody owns the pool yet"
        it.etcd.newest = SimpleNamespace(seen=SimpleNamespace(owners={POOL: "b"}))
        assert await it.after(1) == set() and len(open_before) == 2


async def test_what_the_journal_does_not_take_is_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        it.alerts = RightAlerts(it.etcd, it.one.service, it.one.archive, it.sessions)  # type: ignore[arg-type]
        it.lose_right()
        it.one.archive.full = True
        assert await it.after(60) == set()
        it.one.archive.full = False
        assert await it.after(1) == {NOBODY_ACTS}


async def test_the_heartbeat_ends_when_it_may_not_act_for_two_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as it:
        monkeypatch.setattr("poolwarden_collector.shell.loop.service.Service.alive", lambda _: True)
        assert it.one.service.alive()
        it.lose_right()
        it.time += NO_WORK_MS - 1
        assert it.one.service.alive()
        it.time += 1
        assert not it.one.service.alive()
        it.lost_at = None
        assert it.one.service.alive()
