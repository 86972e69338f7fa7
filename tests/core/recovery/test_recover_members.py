"""A member without an agent is told by the new master, at a person's word, and only where nobody else is reached."""

from __future__ import annotations

import pytest
from tests.core.pool import Guarded, address, played_once, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.power import Power

pytestmark = pytest.mark.slow  # minutes of a pool in each


@played_once
def succeeded(*silent: int, hosts: int = 5, until_asked: bool = False) -> Guarded:
    """Host 1 was succeeded by host 2 while these members had no agent."""
    g = Guarded(hosts)
    g.run(4_000)
    for n in silent:
        lose_agent(g, n)
    g.run(20_000)
    g.cut_power()
    g.run(20_000)
    say(g, "approve")
    for _ in range(480):
        g.run(250)
        if until_asked and g.pool.record.question is not None and g.pool.record.question.kind is Ask.RECOVER:
            break
    assert g.promoted() == [uuid(2)]
    return g


def lose_agent(g: Guarded, n: int) -> None:
    g.host(n).agent = False
    g.feed(ev.AgentGone(uuid(n), g.host(n).stream))


def say(g: Guarded, verb: str, accepted: bool = True, **more: str) -> str:
    reply = g.say(verb, **more)
    assert reply is not None and reply.accepted is accepted, reply
    return reply.text


def told(g: Guarded) -> int:
    return sum(order.kind_name == "recover_members" for order in g.host(2).orders)


def test_a_person_is_asked_and_one_call_is_made() -> None:
    g = succeeded(5)
    question = g.pool.record.question
    assert question is not None and question.kind is Ask.RECOVER and question.hosts == (uuid(5),)
    assert not told(g)
    say(g, "approve", id=question.id)
    g.run(60_000)
    assert told(g) == 1 and g.entry(Kind.RECOVER_INTENT).data["hosts"] == [uuid(5)]


def test_a_yes_is_to_the_hosts_that_were_named() -> None:
    g = succeeded(4, 5, until_asked=True)
    question = g.pool.record.question
    assert question is not None and question.hosts == (uuid(4), uuid(5))
    g.host(4).master_address = address(2)
    g.run(5_000)
    assert g.pool.record.question == question, "a question stands for ten seconds at the least"
    assert "host-5: its agent" in say(g, "approve", accepted=False, id=question.id)
    assert not told(g)


def test_nobody_is_told_while_the_old_master_may_answer() -> None:
    g = succeeded(5)
    question = g.pool.record.question
    assert question is not None
    g.host(1).power = Power.ON
    g.run(30_000)
    assert "it would reach host-1" in say(g, "approve", accepted=False, id=question.id)
    assert not told(g)


def test_an_operators_own_word_is_to_the_hosts_that_are_named() -> None:
    g = succeeded(5, until_asked=True)
    assert "host-2 would tell host-5" in say(g, "recover-members", accepted=False)
    assert "host-2 would tell host-5" in say(g, "recover-members", accepted=False, told="host-4")
    # A name that is none of theirs says that somebody else was meant as well.
    both = g.feed(ev.OperatorSaid("r1", "alice", "recover-members", "", (("told", "host-5"), ("told", "host-9"))))
    assert [effect.accepted for effect in both.effects if isinstance(effect, Reply)] == [False]
    assert not told(g)
    say(g, "recover-members", told="host-5")
    g.run(5_000)
    assert told(g) == 1 and g.pool.record.question is None
    assert g.entry(Kind.RECOVER_INTENT).data["hosts"] == [uuid(5)]


def test_nobody_is_told_where_nobody_needs_telling() -> None:
    g = Guarded(3)
    g.run(4_000)
    assert "no member without an agent" in say(g, "recover-members", accepted=False)
