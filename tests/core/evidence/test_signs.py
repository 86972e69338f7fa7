"""From when on a host counts as silent."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from poolwarden_collector.core.evidence.signs import silence_of
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.pool_record import HostRecord

NOW, CAME = 90_000, 60_000


def _agent(host: str, connected_at: int, last_heard: int) -> AgentState:
    hello = Hello(host, "p", "b", host, "192.0.2.1", "0.1.0", frozenset())
    return AgentState(hello, 1, True, last_heard, reported=True, connected_at=connected_at)


def _pool(*agents: AgentState, boot: str = "") -> Any:
    """A collector that began at 0; h9 has no agent, and has once been heard where ``boot`` says so."""
    live = SimpleNamespace(agents={each.hello.host: each for each in agents})
    record = SimpleNamespace(hosts={"h9": replace(HostRecord("h9"), boot_id=boot)})
    site = SimpleNamespace(started_at=0)
    return SimpleNamespace(live=live, record=record, site=site, asof=NOW, agent=live.agents.get)


def test_a_host_that_speaks_is_silent_since_its_last_message() -> None:
    assert silence_of(_pool(_agent("h1", CAME, 85_000)), "h1") == 5_000


def test_a_host_that_was_never_heard_is_silent_since_its_pool_came() -> None:
    """Of a pool that comes to a collector which has long been running the hosts come one after the other."""
    first, second = _agent("h1", CAME, 89_000), _agent("h2", CAME + 9_000, 89_000)
    assert silence_of(_pool(second, first), "h9") == NOW - CAME
    assert silence_of(_pool(), "h9") == NOW, "nobody of the pool came in this run"
    assert silence_of(_pool(_agent("h1", -500, 89_000)), "h9") == NOW, "not since before the collector was there"


def test_a_host_that_was_heard_once_is_silent_since_the_collectors_start() -> None:
    assert silence_of(_pool(_agent("h1", CAME, 89_000), boot="boot-9"), "h9") == NOW
    assert silence_of(_pool(_agent("h1", CAME, 89_000)), "h8") == NOW, "nor one that nobody lists"
