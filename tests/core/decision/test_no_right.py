"""One of several collectors that may act nowhere: nothing is decided, told or answered that could not be recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwarden_collector.core.decision.permission import command_refusal, may_begin
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover.steps import hold_reason
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import AnswerGate
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.report.explain import explain
from poolwarden_collector.core.report.situation import in_short, situation
from poolwarden_collector.core.state import alert_book
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction
from poolwarden_collector.shell.cluster.consensus import shared

from ..pool import Guarded, uuid


class Alone(Guarded):
    """Healthy, and then etcd goes away."""

    def cut_off(self, is_so: bool = True) -> None:
        self.site = replace(self.site, cut_off=is_so)
        self.written = len(self.journal)

    def dies(self, n: int = 1) -> None:
        self.host(n).answers = self.host(n).agent = False
        self.host(n).power = Power.OFF

    @property
    def to_etcd(self) -> list[Kind]:
        """What has been written since that only etcd can make durable."""
        return [entry.kind for entry in self.journal[self.written :] if shared(entry)]

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(self.pool, self.now, self.site)


@pytest.fixture
def g() -> Alone:
    return Alone()


def raised(g: Guarded) -> list[str]:
    return [entry.data["title"] for entry in g.journal if entry.kind is Kind.ALERT]


def test_a_master_that_dies_meanwhile_is_judged_and_nothing_is_written_of_it(g: Alone) -> None:
    g.cut_off()
    g.dies()
    g.run(120_000)
    assert g.verdict == Verdict.VANISHED.word and not g.to_etcd and not raised(g)
    refused = may_begin(g.snapshot, Verdict.VANISHED)
    assert refused is not None and refused.code is Cause.NO_RIGHT
    assert command_refusal(g.snapshot) == refused
    told = explain(g.pool, g.now, g.site)
    assert any("may act nowhere" in text for text in told.refused)
    seen = situation(g.snapshot, Verdict.VANISHED)
    assert "NOTHING IS DONE" in seen.headline and seen.todo[-1] == "poolwarden collectors"
    assert "listens" not in in_short(g.snapshot, Verdict.SUSPECT).headline


def test_it_is_decided_and_told_as_soon_as_the_right_is_back(g: Alone) -> None:
    g.cut_off()
    g.dies()
    g.run(120_000)
    g.cut_off(False)
    g.run(1_000)
    assert g.has(Kind.DECIDED) and any("master" in title and "lost" in title for title in raised(g))


def test_a_question_does_not_expire_before_that_can_be_recorded() -> None:
    g = Alone(policy=Policy(mode="ask", question_expiry=120_000, approval_valid=60_000))
    g.run(70_000)
    g.dies()
    g.run(60_000)
    assert g.pool.record.question is not None
    g.cut_off()
    g.run(120_000)
    assert g.pool.record.question is not None and not g.to_etcd
    g.cut_off(False)
    g.run(1_000)
    assert Kind.EXPIRED in g.to_etcd


def test_whoever_was_sent_away_has_time_to_come_back_first(g: Alone) -> None:
    g.cut_off()
    g.dies()
    g.run(120_000)
    g.cut_off(False)
    g.site = replace(g.site, quiet_until=g.now + 12_000)
    g.run(11_000)
    assert not g.has(Kind.DECIDED)
    g.run(2_000)
    assert g.has(Kind.DECIDED)


def test_an_open_failover_stands_still_and_goes_on(g: Alone) -> None:
    g.dies()
    for _ in range(200):
        g.run(100)
        if g.has(Kind.DECIDED):
            break
    failover = g.pool.record.failover
    assert failover is not None and failover.step in REVERSIBLE
    g.cut_off()
    assert "may act nowhere" in hold_reason(g.snapshot, failover, Verdict.VANISHED)
    g.run(60_000)
    assert not {Kind.PROOF, Kind.PROMOTE_INTENT, Kind.ABORTED} & {*g.to_etcd}
    g.cut_off(False)
    g.run(10_000)
    assert g.has(Kind.PROMOTE_INTENT)


def test_what_is_over_meanwhile_is_told_when_the_right_is_back(g: Alone) -> None:
    g.dies(3)
    g.run(120_000)
    opened = set(g.pool.record.open_alerts)
    assert opened
    g.cut_off()
    g.host(3).agent = g.host(3).answers = True
    g.host(3).power = Power.ON
    g.connect(g.host(3))
    g.run(120_000)
    assert g.verdict == Verdict.HEALTHY.word and set(g.pool.record.open_alerts) == opened
    assert Kind.ALERT_RESOLVED not in g.to_etcd
    g.cut_off(False)
    g.run(61_000)
    assert not set(g.pool.record.open_alerts) & opened


def test_a_boot_gate_is_not_answered_and_goes_by_its_own_rules(g: Alone) -> None:
    g.cut_off()
    g.feed(ev.GateAsked(uuid(1), g.host(1).stream, g.host(1).boot, Role.MASTER))
    assert Kind.GATE_ANSWER not in g.to_etcd and not [each for each in g.effects if isinstance(each, AnswerGate)]


def test_that_a_gate_waits_is_still_known_when_the_right_is_back(g: Alone) -> None:
    """Else its xapi would be told to be down, and what was told of its gate to be over, before it asks again."""
    g.cut_off()
    began = g.now
    for _ in range(60):
        g.feed(ev.GateAsked(uuid(1), g.host(1).stream, g.host(1).boot, Role.MASTER))
        g.run(2_000)
    waiting = g.pool.live.gates.waiting[uuid(1)]
    assert waiting.since == began and g.now - waiting.at <= 2_000 and Kind.GATE_ANSWER not in g.to_etcd


def test_a_site_that_loses_its_power_with_etcd_lets_its_master_boot_first(g: Alone) -> None:
    g.cut_off()
    for host in g.hosts:
        host.agent = host.answers = False
    g.run(60_000)
    assert g.verdict == Verdict.POOL_DARK.word
    for n in (2, 3):
        g.host(n).agent = True
        g.connect(g.host(n))
    g.run(5_000)
    assert g.pool.live.backoff.grace_until > g.now


def test_what_has_begun_meanwhile_is_told_when_the_right_is_back(g: Alone) -> None:
    topic = AlertTopic(Matter.HOST_DOWN, uuid(3))
    g.cut_off()
    tx = Transaction(g.pool, g.now, g.site)
    alert_book.stands(tx, topic, "warning", "host-3 is down", "", {})
    later = g.now + alert_book.settling(topic)
    for cut_off in (True, False):
        tx = Transaction(tx.pool, later, replace(g.site, cut_off=cut_off))
        alert_book.tell_settled(tx)
        assert [alert.key for alert in tx.alerts] == ([] if cut_off else [topic.key(g.pool.record.pool)])
