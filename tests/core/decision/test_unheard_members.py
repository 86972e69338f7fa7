"""Members that are alive and not heard: another collector may hear them, so an operator is asked before anything."""

from __future__ import annotations

import pytest
from tests.core.pool import Guarded, Host, played_once, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.transaction import Transaction

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


def away(g: Guarded, *numbers: int) -> None:
    """These agents are gone; their xapi serves on."""
    for n in numbers:
        g.host(n).agent = False
        g.feed(ev.AgentGone(g.host(n).uuid, g.host(n).stream))


@played_once
def vanished(*numbers: int, hosts: int = 5) -> Guarded:
    g = Guarded(hosts=hosts)
    g.run(4_000)
    away(g, *numbers)
    g.run(20_000)
    g.cut_power()
    g.run(20_000)
    return g


def test_nothing_is_decided_and_the_question_names_each_such_host() -> None:
    g = vanished(4, 5)
    g.run(300_000)
    assert not g.promoted() and not g.has(Kind.DECIDED)
    question = g.pool.record.question
    assert question is not None and question.kind.value == "unheard" and question.hosts == (uuid(4), uuid(5))
    assert "host-4 and host-5" in question.what


def test_a_yes_covers_exactly_these_hosts() -> None:
    g = vanished(5)
    g.auto_answer = False
    reply = g.say("approve")
    assert reply is not None and reply.accepted
    away(g, 4)
    g.auto_answer = True
    g.run(60_000)
    question = g.pool.record.question
    assert not g.promoted() and question is not None and question.hosts == (uuid(4), uuid(5))
    assert g.pool.record.failover is not None and g.pool.record.failover.standstill.blocker == "BLOCKED_UNHEARD_MEMBER"
    reply = g.say("approve", id=question.id)
    assert reply is not None and reply.accepted
    g.run(40_000)
    assert len(g.promoted()) == 1


def test_the_question_ends_when_they_are_heard_and_the_failover_goes_on_by_itself() -> None:
    g = vanished(5)
    assert not g.promoted()
    g.host(5).agent = True
    g.connect(g.host(5))
    g.run(30_000)
    assert len(g.promoted()) == 1 and g.pool.record.question is None


def test_a_member_that_answers_nobody_is_not_asked_about() -> None:
    g = Guarded(hosts=5)
    g.run(4_000)
    g.cut_power(5)
    g.run(20_000)
    g.cut_power()
    g.run(30_000)
    assert len(g.promoted()) == 1


def test_no_promotes_nobody() -> None:
    g = vanished(5)
    g.say("deny")
    g.run(300_000)
    assert not g.promoted() and not g.has(Kind.DECIDED)


def test_who_confirms_the_masters_death_is_asked_about_them_all_the_same() -> None:
    g = vanished(5)
    reply = g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    assert reply is not None and reply.accepted, reply
    assert "one thing more is asked" in reply.text
    g.run(40_000)
    question = g.pool.record.question
    assert not g.promoted() and question is not None
    said = g.say("approve", id=question.id)
    assert said is not None and said.accepted, said
    g.run(40_000)
    assert len(g.promoted()) == 1


def test_readiness_says_it_beforehand() -> None:
    g = Guarded()
    g.run(4_000)
    away(g, 3)
    g.run(20_000)
    assert any("a failover would be asked for" in why for why in not_ready(Transaction(g.pool, g.now, g.site)))


def sent_into_the_void(answers: OrderOutcome | None = None) -> Guarded:
    """Up to the promote intent; the order is never answered, and then a member's agent falls silent, its xapi not."""
    g = Guarded(hosts=4)

    def deaf(host: Host, order: Order) -> OrderOutcome | None:
        return answers if order.kind_name == "promote" else g.default(host, order)

    g.on_order = deaf
    g.run(4_000)
    g.cut_power()
    while not g.has(Kind.PROMOTE_INTENT):
        g.run(250)
    away(g, 4)
    return g


def test_a_later_send_asks_about_members_that_are_alive_and_not_heard() -> None:
    g = sent_into_the_void()
    g.run(120_000)
    assert len(g.promoted()) == 1  # the first send; none since
    question = g.pool.record.question
    assert question is not None and question.kind.value == "unheard" and question.hosts == (uuid(4),)
    reply = g.say("approve", id=question.id)
    assert reply is not None and reply.accepted
    g.on_order = None
    g.run(60_000)
    assert g.pool.record.master == uuid(2)


def test_a_later_send_goes_on_by_itself_when_they_are_heard() -> None:
    g = sent_into_the_void()
    g.run(60_000)
    assert g.pool.record.question is not None and len(g.promoted()) == 1
    g.on_order = None
    g.host(4).agent = True
    g.connect(g.host(4))
    g.run(60_000)
    assert g.pool.record.master == uuid(2) and g.pool.record.question is None


def test_a_no_after_the_intent_ends_what_never_began_and_nothing_else() -> None:
    g = sent_into_the_void()
    g.run(60_000)
    reply = g.say("deny")
    assert reply is not None and "may have begun" in reply.text and not g.has(Kind.ABORTED)
    g.run(60_000)
    assert len(g.promoted()) == 1
    # Its agent says Hello anew and knows nothing of the order: it never began.
    g.connect(g.host(2))
    g.run(30_000)
    assert g.say("acknowledge") is not None
    g.run(30_000)
    reply = g.say("deny")
    assert reply is not None and "never begun" in reply.text and g.has(Kind.ABORTED)


def test_what_is_found_in_the_last_look_is_said_once() -> None:
    """A host that is set to be master stands against the promotion for minutes, and is one blocker."""
    g = Guarded(devices=False, hosts=4)
    g.cut_power()
    g.run(30_000)
    g.host(4).pool_conf = Role.MASTER
    g.host(4).running = Role.MASTER
    g.report(g.host(4))
    assert g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    g.run(20_000)
    assert 1 <= sum(e.kind is Kind.BLOCKED and e.data["code"] == "BLOCKED_LAST_LOOK" for e in g.journal) <= 2
