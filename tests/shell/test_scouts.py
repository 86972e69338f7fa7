"""Who is cut off from etcd has one agent at a time look whether others have its pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden_collector.core import engine
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state.question_record import Asked
from poolwarden_collector.shell.agents.elsewhere import CAPABILITY
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.agents.sessions import Session, Sessions
from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.loop.scouts import BACK_WITHIN_MS, EVERY_MS, Scouts
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.pool_views import PoolViews

from .rig import HOSTS, POOL, write_config
from .shared import two

pytestmark = pytest.mark.asyncio
OTHERS = ("192.0.2.2:7443", "192.0.2.3:7443")


class Streams:
    """Agents that come and go, and what each was told last."""

    def __init__(self, others: tuple[str, ...] = OTHERS) -> None:
        self.sessions = Sessions()
        self.scouts = Scouts(self.sessions, lambda: others)
        self.now = 1_000_000

    def come(self, *hosts: str, follows: bool = True) -> None:
        for host in hosts:
            known = frozenset({CAPABILITY}) if follows else frozenset()
            state: Any = SimpleNamespace(stream=self.sessions.next_number(), capabilities=known)
            self.sessions.add(Session(host, POOL, state))

    def go(self, host: str) -> None:
        session = self.sessions.of(host)
        assert session is not None
        self.sessions.remove(session)

    def sent(self) -> list[str]:
        return [each.host for each in self.sessions.of_pool(POOL) if each.sent_on]

    def told(self, host: str) -> str:
        session = self.sessions.of(host)
        assert session is not None
        return str(session._queue[-1].elsewhere.address)

    def after(self, ms: int) -> tuple[str, ...]:
        self.now += ms
        return self.scouts.look([POOL], self.now)


async def test_one_agent_goes_to_another_collector_and_the_next_one_when_that_is_back() -> None:
    streams = Streams()
    streams.come(*HOSTS)
    assert streams.after(0) == () and streams.sent() == [HOSTS[0]] and streams.told(HOSTS[0]) in OTHERS
    assert streams.after(1_000) == () and streams.sent() == [HOSTS[0]]
    streams.go(HOSTS[0])
    streams.after(1_000)
    streams.come(HOSTS[0])
    assert streams.after(BACK_WITHIN_MS) == () and not streams.sent(), "nobody else has the pool"
    assert streams.after(EVERY_MS) == () and streams.sent() == [HOSTS[1]]


async def test_who_is_away_is_told_until_it_is_back_or_its_time_is_over() -> None:
    streams = Streams()
    streams.come(*HOSTS)
    assert streams.scouts.away() == {}
    streams.after(0)
    assert streams.scouts.away() == {POOL: HOSTS[0]}
    streams.go(HOSTS[0])
    streams.come(HOSTS[0])
    streams.after(1_000)
    assert streams.scouts.away() == {}
    streams.after(EVERY_MS)
    assert streams.scouts.away() == {POOL: HOSTS[1]}
    streams.go(HOSTS[1])
    streams.after(BACK_WITHIN_MS)
    assert streams.scouts.away() == {}


@pytest.mark.parametrize("several", [False, True])
async def test_a_scout_counts_only_while_this_collector_of_several_may_act_nowhere(
    tmp_path: Path, several: bool
) -> None:
    roster = Roster(load(write_config(tmp_path)), 1, lambda: 1_000_000, one_of_several=several)
    roster.scouts = {POOL: HOSTS[0]}
    assert not roster.site(POOL).scouts and not roster.site(POOL).cut_off
    roster.right = lambda: "its lease is over"
    assert roster.site(POOL).scouts == ({HOSTS[0]} if several else set()) and roster.site(POOL).cut_off is several
    roster.give_back(POOL)
    assert not roster.scouts


async def test_who_does_not_come_back_has_found_the_owner_and_all_go_there() -> None:
    streams = Streams()
    streams.come(*HOSTS)
    streams.after(0)
    streams.go(HOSTS[0])
    assert streams.after(BACK_WITHIN_MS - 1) == () and not streams.sent()
    assert streams.after(1) == (POOL,) and streams.sent() == [HOSTS[1], HOSTS[2]]


async def test_a_stream_that_has_not_ended_yet_is_no_agent_that_came_back() -> None:
    streams = Streams()
    streams.come(*HOSTS)
    streams.after(0)
    assert streams.after(BACK_WITHIN_MS) == (POOL,)


async def test_an_answer_of_etcd_ends_it() -> None:
    streams = Streams()
    streams.come(*HOSTS)
    streams.after(0)
    streams.go(HOSTS[0])
    streams.scouts.rest()
    assert streams.after(BACK_WITHIN_MS) == () and streams.sent() == [HOSTS[1]], (
        "from the beginning, if it is cut again"
    )


async def test_agents_that_cannot_follow_stay() -> None:
    streams = Streams()
    streams.come(HOSTS[0], HOSTS[1], follows=False)
    assert streams.after(0) == () and not streams.sent()
    streams.come(HOSTS[2])
    assert streams.after(1_000) == () and streams.sent() == [HOSTS[2]]
    assert len(streams.sessions) == 3


async def test_where_no_other_is_known_the_agent_tries_those_of_its_own_list() -> None:
    streams = Streams(others=())
    streams.come(*HOSTS)
    streams.after(0)
    assert streams.told(HOSTS[0]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("changes", [False, True])
async def test_health_again_does_not_wait_for_etcd_where_it_changes_no_record(
    changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While etcd is away each agent looks for another owner in its turn, and comes back."""
    async with two(tmp_path, monkeypatch) as (a, _, cluster):
        await a.owns()
        known = a.roster.pools[POOL]
        denied = Asked(denied={"g": "not now"}) if changes else Asked()
        a.roster.pools[POOL] = replace(known, record=replace(known.record, asked=denied))
        cluster.model.cut("a")
        healthy = Entry(Kind.VERDICT, "Healthy again", {"verdict": "Healthy", "before": "Suspect"})
        step = lambda pool, event, now, site: engine.StepResult(pool, (healthy,), (), ())  # noqa: E731
        monkeypatch.setattr("poolwarden_collector.shell.loop.engine_loop.step", step)
        await a.take(ev.Tick())
        assert (a.archived()[-1] == "Healthy again") is not changes
        assert bool(a.roster.stalls) is changes
        for scoped in (False, True):
            monkeypatch.setattr(access, "current", lambda scoped=scoped: SimpleNamespace(scoped=scoped))
            shown = access.NOT_RECORDED if scoped else a.roster.stalls.get(POOL, "")
            assert PoolViews(a.roster).site(POOL).stalled == (shown if changes else "")
