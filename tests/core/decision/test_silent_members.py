"""A member whose agent is silent may have become master in another way: its xapi is asked before one is promoted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, address, played_once, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome, RoleAnswer, RoleClaim
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


@played_once
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


def approved(g: Guarded) -> None:
    """Its xapi answers and its agent is not heard: an operator is asked first (unheard_members.py), and says yes."""
    g.run(20_000)
    assert not g.promoted() and g.has(Kind.ASKED)
    reply = g.say("approve")
    assert reply is not None and reply.accepted, reply
    g.run(20_000)


def test_a_member_that_says_whom_it_follows_holds_nobody_up() -> None:
    g = without_agent()
    g.cut_power()
    approved(g)
    assert g.promoted() == [uuid(2)] and not blockers(g)


def test_one_that_acts_as_master_is_a_veto_though_its_agent_is_silent() -> None:
    g = without_agent()
    g.cut_power()
    g.host(3).pool_conf = g.host(3).running = Role.MASTER
    g.host(3).serves = True
    approved(g)
    g.run(400_000)
    assert not g.promoted() and blockers(g) == ["BLOCKED_LAST_LOOK"]
    assert "host-3, whose agent is silent, acts as master" in g.entry(Kind.BLOCKED).text


def test_one_that_follows_another_master_that_answers_is_a_veto() -> None:
    g = without_agent()
    g.cut_power()
    g.host(3).master_address = address(2)  # the candidate's own address is no veto ...
    approved(g)
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
    approved(g)
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
    approved(g)
    assert g.promoted() == [uuid(2)]


def test_one_that_reads_off_is_not_waited_for() -> None:
    g = without_agent()
    g.host(3).answers = False
    g.host(3).power = Power.OFF
    g.cut_power()
    g.run(20_000)
    assert g.promoted() == [uuid(2)]


# ---------------------------------------------------------------------------------------------- alive, role unknown


@played_once
def untold(n: int = 3, hosts: int = 3) -> Guarded:
    """The master is dead; one member has no agent, and its ports are filtered."""
    g = Guarded(hosts=hosts)
    g.run(4_000)
    host = g.host(n)
    host.agent, host.answers, host.untold = False, False, True
    g.feed(ev.AgentGone(host.uuid, host.stream))
    g.run(20_000)
    g.cut_power()
    return g


def test_one_that_is_alive_and_tells_no_role_stops_the_promotion_for_ever() -> None:
    g = untold()
    g.run(1_200_000)
    assert not g.promoted() and set(blockers(g)) == {"BLOCKED_ROLE_UNTOLD"}
    blocked = [entry for entry in g.journal if entry.kind is Kind.BLOCKED][-1]
    assert "host-3" in blocked.data["why"] and "answers ping" in blocked.data["next_step"]
    assert "poolwarden confirm-fenced host-3" in blocked.data["next_step"]
    alerts = [e for e in g.journal if e.kind is Kind.ALERT and "does not tell its role" in e.data["title"]]
    assert len(alerts) == 1, "told once, and only when it has lasted"


@pytest.mark.parametrize("ends", ["tells", "off", "heard", "silent"])
def test_what_ends_that(ends: str) -> None:
    g = untold()
    g.run(60_000)
    host = g.host(3)
    assert not g.promoted()
    if ends == "tells":
        host.untold, host.answers = False, True
    elif ends == "off":
        host.power = Power.OFF  # it may go on answering pings: its BMC shares the network card
    elif ends == "heard":
        host.agent = True
        g.connect(host)
    else:
        host.untold = False
    g.run(30_000)
    assert g.promoted() == ([] if ends in ("silent", "tells") else [uuid(2)])
    if ends == "tells":
        approved(g)  # its role is known now, and its agent still is not heard
    g.run(120_000)
    assert g.promoted() == [uuid(2)], "a dark one is given the time of a restart"


def test_an_operators_word_ends_it_though_it_goes_on_answering_pings() -> None:
    g = untold()
    g.run(60_000)
    g.host(3).power = Power.UNKNOWN
    g.run(60_000)
    assert not g.promoted()
    reply = g.say("confirm-fenced", 3, how="pulled both cables", typed_name="host-3")
    assert reply is not None and reply.accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


@pytest.mark.parametrize("shown, named", [("00ff", False), ("11ff", True), ("", False)])
def test_a_changed_certificate_is_named(shown: str, named: bool) -> None:
    g = untold()
    g.pool = replace(g.pool, live=replace(g.pool.live, certificates={uuid(3): "00ff"}))
    g.host(3).shows = shown
    g.run(60_000)
    assert ("shows another certificate than before" in g.entry(Kind.BLOCKED).text) is named


def test_a_role_that_is_told_to_one_asker_outweighs_that_another_one_was_told_none() -> None:
    g = untold(4, hosts=4)

    def answer(host: object, order: Order) -> OrderOutcome | None:
        result = g.default(host, order)  # type: ignore[arg-type]
        if result is None or not result.roles or host is g.host(2):
            return result
        return replace(result, roles=(RoleAnswer(uuid(4), RoleClaim.FOLLOWS, address(1)),))

    g.on_order = answer
    g.run(20_000)
    approved(g)
    g.run(20_000)
    assert g.promoted() == [uuid(2)]


def test_every_silent_host_is_asked_however_many_there_are() -> None:
    g = Guarded(hosts=8)
    g.run(4_000)
    for n in range(4, 9):
        g.host(n).agent = False
        g.feed(ev.AgentGone(g.host(n).uuid, g.host(n).stream))
    g.run(20_000)
    g.cut_power()
    g.host(8).pool_conf = g.host(8).running = Role.MASTER
    g.host(8).serves = True
    g.run(20_000)
    approved(g)
    g.run(60_000)
    assert not g.promoted() and "host-8, whose agent is silent, acts as master" in g.entry(Kind.BLOCKED).text


def test_one_that_nobody_could_ask_is_not_taken_for_a_silent_one() -> None:
    g = without_agent()
    g.cut_power()
    g.on_order = lambda host, order: (
        replace(result, roles=())
        if (result := g.default(host, order)) is not None and order.kind_name == "probe_now"
        else result
    )
    g.run(20_000)
    approved(g)
    g.run(300_000)
    assert not g.promoted() and set(blockers(g)) == {"BLOCKED_UNASKED_MEMBER"}
    assert "poolwarden confirm-fenced host-3" in g.entry(Kind.BLOCKED).data["next_step"]
    g.on_order = None
    g.run(20_000)
    assert g.promoted() == [uuid(2)]
