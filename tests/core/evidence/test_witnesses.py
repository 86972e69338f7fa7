"""Who may testify about the master's xapi, by which certificate, and what a contradiction among witnesses does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, Host, address, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts, Liveness, Probe, ProbeOutcome, ToolstackHold
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.report.status import status


class Certified(Guarded):
    """Hosts present certificates: ``presented`` at host 1, and ``seen_by`` what another host meets at its address."""

    presented = "cert-1"
    seen_by: dict[int, str] = {}

    def probe(self, host: Host, target: Host) -> Probe:
        found = super().probe(host, target)
        if target.n != 1:
            return found
        impostor = self.seen_by.get(host.n)
        if impostor is not None:
            host.unanswered_since.pop(target.uuid, None)
            return Probe(target.uuid, found.address, ProbeOutcome.ANSWERED, self.now, self.now, None, impostor)
        return replace(found, certificate=self.presented)


def certified(**policy: object) -> Certified:
    return Certified(policy=Policy(quiet_time=QUIET, **policy))  # type: ignore[arg-type]


def test_standing_remembers_the_certificate() -> None:
    g = certified()
    assert g.pool.record.standing == {uuid(2): "cert-1", uuid(3): "cert-1"}


def counted(g: Certified) -> set[tuple[str, str]]:
    return {(h.host_uuid, p.target_uuid) for h in status(g.pool, g.now, g.site).hosts for p in h.probes if p.counts}


def test_the_status_says_whose_silence_would_count() -> None:
    """Nobody's, until a probe of the master has been answered since it took the role; and only about that master."""
    g = certified()
    assert counted(g) == {(uuid(2), uuid(1)), (uuid(3), uuid(1))}
    g.pool = replace(g.pool, record=replace(g.pool.record, standing={}))
    assert counted(g) == set()


def test_somebody_elses_xapi_at_the_masters_address_is_neither_life_nor_death() -> None:
    """Host 3's network has another host at that address: the other witness decides."""
    g = certified()
    g.cut_power()
    g.seen_by = {3: "cert-of-a-stranger"}
    g.run(30_000)
    assert not g.has(Kind.CONTRARY) and not g.pool.record.devices.quarantined
    assert g.has(Kind.DECIDED) and g.promoted() == [uuid(2)]


def test_if_all_see_a_stranger_nobody_testifies() -> None:
    g = certified()
    g.cut_power()
    g.host(1).power = Power.ON
    g.seen_by = {2: "x", 3: "x"}
    g.run(60_000)
    assert g.verdict == "Suspect" and not g.has(Kind.DECIDED)
    g.run(60_000)
    assert g.verdict == "MasterUnwitnessed"


def test_a_stranger_does_not_testify_while_the_master_lives_either() -> None:
    g = certified()
    g.run(4_000)
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(20_000)
    assert g.verdict == "AgentLost"  # the real xapi is answered


def test_a_renewed_certificate_is_learned_while_the_masters_agent_is_heard() -> None:
    g = certified()
    g.presented = "cert-1-renewed"
    g.run(6_000)
    assert g.verdict == "Healthy"
    assert set(g.pool.record.standing.values()) == {"cert-1-renewed"}
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(20_000)
    assert g.verdict == "AgentLost"


def test_standing_is_not_gained_while_the_masters_agent_is_silent() -> None:
    g = certified()
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(6_000)
    g.presented = "cert-of-the-next-owner-of-this-address"
    g.run(20_000)
    assert set(g.pool.record.standing.values()) == {"cert-1"} and g.verdict != "AgentLost"


def own(g: Guarded, outcome: ProbeOutcome, certificate: str = "cert-1") -> None:
    g.feed(ev.CollectorProbed(uuid(1), outcome, g.now, "", certificate))


def silent_master(g: Guarded) -> None:
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(12_000)


def test_the_collectors_own_probe_testifies_only_with_standing() -> None:
    g = certified()
    silent_master(g)
    own(g, ProbeOutcome.NO_ANSWER)
    assert g.verdict == "AgentLost"
    again = certified()
    own(again, ProbeOutcome.ANSWERED)
    silent_master(again)
    own(again, ProbeOutcome.NO_ANSWER)
    assert again.verdict == "MasterUnreachableFromCollector"


def test_a_stranger_in_the_collectors_own_network_neither_gives_standing_nor_life() -> None:
    g = certified()
    own(g, ProbeOutcome.ANSWERED, "cert-of-a-stranger")
    assert g.pool.live.own_probe.standing is None
    g.cut_power()
    g.run(2_000)
    for _ in range(8):
        own(g, ProbeOutcome.ANSWERED, "cert-of-a-stranger")
        g.run(2_000)
    assert g.promoted() == [uuid(2)] and not g.has(Kind.CONTRARY)


# ------------------------------------------------------------------------------------------------ contradictions


class Held(Guarded):
    """Host 1 says that its toolstack is held and stopped."""

    hold: ToolstackHold | None = None

    def facts(self, host: Host) -> HostFacts:
        found = super().facts(host)
        return replace(found, hold=self.hold) if host.n == 1 else found


def test_a_stopped_toolstack_that_answers_is_a_contradiction() -> None:
    """S09: the agent acknowledges, the xapi still answers a member's probe."""
    g = Held()
    g.hold = ToolstackHold(5, stopped=True, ports_closed=True)
    g.run(16_000)
    assert g.verdict == "EvidenceConflict" and "held and stopped" in g.pool.live.verdict.sentence
    assert not g.has(Kind.RESTART_INTENT) and not g.has(Kind.DECIDED)
    g.host(1).answers = False
    g.run(16_000)
    assert g.verdict != "EvidenceConflict"


def test_a_xapi_that_is_down_and_answers_is_not_restarted() -> None:
    g = Guarded()
    host = g.host(1)
    host.liveness, host.socket, host.unwell_since, host.serves = Liveness.DOWN, Liveness.DOWN, g.now, False
    g.run(g.policy.xapi_down_after + 20_000)
    assert g.verdict == "EvidenceConflict" and not g.has(Kind.RESTART_INTENT)


@pytest.mark.parametrize("gap", [1_000, 2_000])
def test_an_answer_from_just_before_it_went_down_contradicts_nobody(gap: int) -> None:
    g = Guarded()
    host = g.host(1)
    g.run(gap)
    host.liveness, host.socket, host.unwell_since, host.answers, host.serves = (
        *(Liveness.DOWN, Liveness.DOWN, g.now),
        *(False, False),
    )
    g.run(30_000)
    assert not any(e.kind is Kind.VERDICT and e.data["verdict"] == "EvidenceConflict" for e in g.journal)


class Slow(Guarded):
    """Members whose newest probe stays what it was: they look rarely."""

    frozen: dict[tuple[int, int], Probe] | None = None

    def probe(self, host: Host, target: Host) -> Probe:
        if self.frozen is not None and (host.n, target.n) in self.frozen:
            return self.frozen[host.n, target.n]
        return super().probe(host, target)


def test_an_old_answer_contradicts_nobody_however_long_it_stays_the_newest() -> None:
    g = Slow()
    g.frozen = {(n, 1): g.probe(g.host(n), g.host(1)) for n in (2, 3)}
    host = g.host(1)
    host.liveness, host.socket, host.unwell_since = Liveness.DOWN, Liveness.DOWN, g.now - 1_000
    host.answers = host.serves = False
    g.run(9_000)
    assert not any(e.kind is Kind.VERDICT and e.data["verdict"] == "EvidenceConflict" for e in g.journal)


@pytest.mark.slow
def test_one_hosts_word_makes_no_master_where_another_is_attached_to_the_one_that_is_not_heard() -> None:
    g = Guarded(3)
    old, claims, third = g.hosts
    old.agent = False  # its xapi serves on
    g.feed(ev.AgentGone(old.uuid, old.stream))
    claims.pool_conf = claims.running = Role.MASTER
    claims.serves, claims.master_address = True, ""
    g.run(900_000)
    assert g.pool.record.master == old.uuid and g.verdict == "EvidenceConflict"
    assert not third.orders or all(order.kind_name == "probe_now" for order in third.orders)
    third.master_address = address(2)  # now it follows the other one
    g.run(8_000)
    assert g.pool.record.master == claims.uuid


def test_one_hosts_word_stands_where_nobody_reaches_the_one_before() -> None:
    g = Guarded(3)
    old, claims, _ = g.hosts
    g.cut_power(1)
    claims.pool_conf = claims.running = Role.MASTER
    claims.serves, claims.master_address = True, ""
    g.run(12_000)
    assert g.pool.record.master == claims.uuid != old.uuid
