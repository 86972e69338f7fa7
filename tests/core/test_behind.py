"""What waits in the collector is no silence; evidence that is read late is late evidence."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded

from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.evidence.signs import FACTS_FRESH_MS, Xapi, _xapi
from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.report.explain import explain
from poolwarden_collector.core.state.snapshot import Snapshot


def test_nothing_is_begun_on_what_is_read_late() -> None:
    g = Guarded()
    g.site = replace(g.site, behind_ms=BEHIND_MS + 1)
    mark = len(g.effects)
    g.cut_power()
    g.run(120_000)
    begun = [e for e in g.effects[mark:] if isinstance(e, effects.SendOrder | effects.PowerOff)]
    assert begun == [] and "decided" not in g.kinds()
    g.site = replace(g.site, behind_ms=0)
    g.run(60_000)
    assert g.promoted()


def test_a_reports_age_counts_from_its_arrival() -> None:
    g = Guarded()
    host, arrived = g.host(2), g.now + 3_000
    host.agent = False
    g.run(9_000)
    g.feed(ev.AgentReported(host.uuid, host.stream, g.facts(host), arrived))
    assert g.pool.live.agents[host.uuid].last_heard == arrived
    assert g.pool.live.silent == {host.uuid}


def test_a_host_whose_hello_has_just_come_was_not_silent_while_its_pool_was_read_late() -> None:
    """While it waited to be let in its pool was judged as of then; its first report is read a moment later."""
    g = Guarded()
    host = g.host(2)
    host.agent = False
    g.run(2_000)
    g.site = replace(g.site, behind_ms=7_000)
    g.run(7_000)
    for other in (g.host(1), g.host(3)):
        g.feed(ev.AgentReported(other.uuid, other.stream, g.facts(other), g.now))
    host.stream += 1
    g.feed(ev.AgentConnected(host.stream, g.pool.live.agents[host.uuid].hello, g.now))
    g.site = replace(g.site, behind_ms=0)
    g.feed(ev.Tick())
    assert "agent-silent" not in g.kinds() and not g.pool.live.silent


def test_an_answer_that_is_the_newest_of_what_is_read_stands_and_a_no_does_not() -> None:
    g = Guarded()
    master = g.pool.record.master

    def judged(liveness: Liveness, behind_ms: int) -> Xapi:
        agent = g.pool.live.agents[master]
        seen = replace(agent.facts.observed, xapi=g.now - FACTS_FRESH_MS - 1)
        xapi = replace(agent.facts.xapi, liveness=liveness, liveness_since=0)
        told = replace(agent, facts=replace(agent.facts, observed=seen, xapi=xapi), last_heard=g.now)
        live = replace(g.pool.live, agents={**g.pool.live.agents, master: told})
        return _xapi(Snapshot(replace(g.pool, live=live), g.now, replace(g.site, behind_ms=behind_ms)), master)

    assert judged(Liveness.ANSWERS, 0) is Xapi.UNKNOWN
    assert judged(Liveness.ANSWERS, FACTS_FRESH_MS) is Xapi.ANSWERS
    assert judged(Liveness.DOWN, FACTS_FRESH_MS) is Xapi.UNKNOWN


def test_a_question_stays_asked_while_the_collector_is_behind_for_moments() -> None:
    """Neither withdrawn nor asked anew under another id, and no pool has an alert that comes and goes with that."""
    g = Guarded(policy=Policy(mode="ask"))
    g.cut_power()
    while g.pool.record.question is None:
        g.run(500)
    asked, said = g.pool.record.question.id, len(g.journal)
    for _ in range(6):
        g.site = replace(g.site, behind_ms=BEHIND_MS + 100)
        g.run(4_000)
        g.site = replace(g.site, behind_ms=0)
        for n in (3, 2):  # what waited is read
            g.report(g.host(n))
        g.run(4_000)
    assert g.pool.record.question is not None and g.pool.record.question.id == asked
    told = [entry for entry in g.journal[said:] if entry.kind in (Kind.ASKED, Kind.WITHDRAWN, Kind.ALERT)]
    assert told == []
    g.site = replace(g.site, behind_ms=BEHIND_MS + 100)
    assert any("behind what it hears" in text for text in explain(g.pool, g.now, g.site).refused)
