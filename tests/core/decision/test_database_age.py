"""How old a copy is: up to when its master could last have changed anything, and of which line it is."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, Host, uuid

from poolwarden_collector.core.decision import database_age
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Tombstone
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.state.transaction import Transaction

SHORT = Policy(quiet_time=3_000, oldest_database=60_000)


def age(g: Guarded, n: int) -> database_age.CopyAge:
    return database_age.age(Transaction(g.pool, g.now, g.site), uuid(n))


def test_a_master_that_dies_at_once_leaves_new_copies() -> None:
    g = Guarded(policy=SHORT)
    g.cut_power()
    g.run(5_000)
    text = age(g, 2).text
    assert age(g, 2).age_ms == 0 and "as new as the master's file on disk, written" in text and "memory alone" in text


def test_what_a_master_changed_while_its_agent_was_silent_is_not_known() -> None:
    g = Guarded(policy=SHORT)
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(120_000)  # its xapi answers its members all the time
    found = age(g, 2)
    assert found.age_ms is not None and found.age_ms >= 110_000 and "served on" in found.text
    g.host(1).answers, g.host(1).power = False, Power.OFF
    g.run(20_000)
    question = g.pool.record.question
    assert not g.promoted() and question is not None and question.kind.value == "stale"


def test_a_copy_beyond_the_last_known_generation_was_made_since() -> None:
    g = Guarded(policy=SHORT)
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(120_000)
    agent = g.pool.live.agents[uuid(2)]
    news = replace(agent.facts.database, generation=51, changed_at=g.now - 5_000)
    agents = {**g.pool.live.agents, uuid(2): replace(agent, facts=replace(agent.facts, database=news))}
    g.pool = replace(g.pool, live=replace(g.pool.live, agents=agents))
    assert (age(g, 2).age_ms or 0) <= 6_000 < 110_000 <= (age(g, 3).age_ms or 0)


def test_the_copy_of_a_host_that_was_succeeded_misses_everything_since() -> None:
    g = Guarded()
    g.cut_power()
    g.run(60_000)
    assert g.pool.record.master == uuid(2)
    g.run(600_000)
    old = g.host(1)
    old.boot, old.agent, old.answers, old.power, old.serves = "boot-1-2", True, True, Power.ON, False
    old.tombstone, old.generation = Tombstone(g.pool.record.term, uuid(2)), 99  # of its own line: beyond everybody's
    g.connect(old)
    g.report(old)
    found = age(g, 1)
    assert found.age_ms is not None and found.age_ms >= 590_000 and "succeeded by host-2" in found.text


def test_a_later_send_asks_about_what_the_old_master_changed_since() -> None:
    """The order may have begun: nothing is ended, an operator is asked, and his yes covers it."""
    g = Guarded(policy=SHORT)

    def deaf(host: Host, order: Order) -> OrderOutcome | None:
        return None if order.kind_name == "promote" else g.default(host, order)

    g.on_order = deaf
    g.cut_power()
    while not g.has(Kind.PROMOTE_INTENT):
        g.run(250)
    g.host(1).answers, g.host(1).power = True, Power.ON  # somebody has switched it on; its agent does not run
    g.run(120_000)
    assert len(g.promoted()) == 1
    g.host(1).answers, g.host(1).power = False, Power.OFF
    g.run(60_000)
    question = g.pool.record.question
    assert question is not None and question.kind.value == "stale" and len(g.promoted()) == 1
    g.on_order = None
    reply = g.say("approve", id=question.id, accept_stale=str(question.needs.stale_ms))
    assert reply is not None and reply.accepted, reply
    # Its device was contradicted by what was seen alive: a person says what it reads.
    assert g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    g.run(60_000)
    assert g.pool.record.master == uuid(2)
