"""A member whose agent is silent may have become master in another way: its xapi is asked before one is promoted."""

from __future__ import annotations

from tests.core.pool import Guarded, address, uuid

from poolwarden_collector.core import events as ev
from poolwarden_collector.core.facts import Power, Role
from poolwarden_collector.core.journal import Kind


def without_agent(n: int = 3) -> Guarded:
    """A healthy pool in which one member's agent is gone and its xapi serves on."""
    g = Guarded()
    g.run(4_000)
    host = g.host(n)
    host.agent = False
    g.feed(ev.AgentGone(host.uuid, host.stream))
    g.run(20_000)
    return g


def blockers(g: Guarded) -> list[str]:
    return [entry.data["code"] for entry in g.journal if entry.kind is Kind.BLOCKED]


def test_a_member_that_says_whom_it_follows_holds_nobody_up() -> None:
    g = without_agent()
    g.cut_power()
    g.run(20_000)
    assert g.promoted() == [uuid(2)] and not blockers(g)


def test_one_that_acts_as_master_is_a_veto_though_its_agent_is_silent() -> None:
    g = without_agent()
    g.cut_power()
    g.host(3).pool_conf = g.host(3).running = Role.MASTER
    g.host(3).serves = True
    g.run(400_000)
    assert not g.promoted() and blockers(g) == ["BLOCKED_LAST_LOOK"]
    assert "host-3, whose agent is silent, acts as master" in g.entry(Kind.BLOCKED).text


def test_one_that_follows_another_master_that_answers_is_a_veto() -> None:
    g = without_agent()
    g.cut_power()
    g.host(3).master_address = address(2)  # the candidate's own address is no veto ...
    g.run(20_000)
    assert g.promoted() == [uuid(2)]
    g = Guarded(hosts=4)
    g.run(4_000)
    for n in (3, 4):
        g.host(n).agent = False
        g.feed(ev.AgentGone(g.host(n).uuid, g.host(n).stream))
    g.run(20_000)
    g.cut_power()
    g.host(3).master_address = address(4)  # ... another's is
    g.host(4).serves = False
    g.run(60_000)
    assert not g.promoted() and f"follows a master at {address(4)} that answers" in g.entry(Kind.BLOCKED).text


def test_one_whose_xapi_is_silent_too_is_given_the_time_of_a_restart() -> None:
    g = without_agent()
    g.host(3).answers = False
    g.cut_power()
    g.run(60_000)
    assert not g.promoted() and blockers(g) == ["BLOCKED_SILENT_MEMBER"]
    assert not g.entry(Kind.BLOCKED).data["why"].startswith("BLOCKED") and "host-3" in g.entry(Kind.BLOCKED).text
    g.run(100_000)
    assert g.promoted() == [uuid(2)], "a dead dom0 must not hold the pool for ever"


def test_it_is_not_waited_for_once_it_says_that_it_is_a_member() -> None:
    g = without_agent()
    g.host(3).answers = False
    g.cut_power()
    g.run(40_000)
    assert not g.promoted()
    g.host(3).answers = True
    g.run(12_000)
    assert g.promoted() == [uuid(2)]


def test_one_that_reads_off_is_not_waited_for() -> None:
    g = without_agent()
    g.host(3).answers = False
    g.host(3).power = Power.OFF
    g.cut_power()
    g.run(20_000)
    assert g.promoted() == [uuid(2)]
