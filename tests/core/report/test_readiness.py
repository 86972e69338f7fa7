"""Reasons why a pool would not survive losing its master: each with severity and fix, the worst first."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded, played_once

from poolwarden.assumptions import BY_ID
from poolwarden_collector.core.model.host_facts import AssumptionSeen, AssumptionsSeen, Certificate, Finding
from poolwarden_collector.core.model.takeover import Takeover
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.report.assumptions_shown import of_host
from poolwarden_collector.core.report.journal_view import JournalView, PastChange, PastDrill, took
from poolwarden_collector.core.report.plan import plan
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.report.weaknesses import DRILL_MS, readiness
from poolwarden_collector.core.state.assumption_record import FailedAssumption
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.snapshot import Snapshot

DRILLED = JournalView((PastChange(DRILL_MS, planned=True),), drills=(PastDrill(DRILL_MS, tried=True),))


@played_once
def a_pool() -> Guarded:
    g = Guarded()
    g.run(4_000)
    return g


def changed(g: Guarded, number: int, **facts: object) -> None:
    """Other facts of one host, as if its agent had told them."""
    host = g.host(number).uuid
    agent: AgentState = g.pool.live.agents[host]
    agents = {**g.pool.live.agents, host: replace(agent, facts=replace(agent.facts, **facts))}  # type: ignore[arg-type]
    g.pool = replace(g.pool, live=replace(g.pool.live, agents=agents))


def codes(g: Guarded, past: JournalView = DRILLED) -> dict[str, str]:
    found = readiness(Snapshot(g.pool, g.now, g.site), past)
    assert all(reason.fix and reason.sentence for reason in found)
    assert [reason.severity for reason in found] == sorted(reason.severity for reason in found)  # critical first
    return {reason.code: reason.severity for reason in found}


def test_what_is_known_of_the_hosts_is_told_once_each() -> None:
    g = a_pool()
    before = set(codes(g))
    around = g.pool.live.agents[g.host(2).uuid].facts.around
    ends = (Certificate("agent", 5),)
    services = (("ha-lizard.service", "active"),)
    changed(g, 2, around=replace(around, services=services, certificates=ends, clock_offset_ms=40_000))
    changed(g, 3, xapi_version="99.1")
    found = codes(g)
    assert {"other-tool", "certificate", "clock", "versions"} <= set(found) - before
    assert found["other-tool"] == "critical" and found["clock"] == "warning"


def test_a_certificate_of_xapis_that_cannot_be_used_is_met_when_it_starts() -> None:
    g = a_pool()
    for spoilt, fix in (("xapi", "gencert"), ("pool's bundle", "update-ca-bundle.sh")):
        around = g.pool.live.agents[g.host(2).uuid].facts.around
        gone = (Certificate("agent", 400), Certificate(spoilt, None, "/etc/x.pem: it holds no certificate"))
        changed(g, 2, around=replace(around, certificates=gone))
        [found] = [each for each in readiness(Snapshot(g.pool, g.now, g.site), DRILLED) if each.code == "certificate"]
        assert found.severity == "warning" and "/etc/x.pem: it holds no certificate" in found.sentence
        assert fix in found.fix
        # xapi makes its own anew before they end.
        changed(g, 2, around=replace(around, certificates=(Certificate(spoilt, 5),)))
        assert "certificate" not in codes(g)


def test_an_agent_that_cannot_go_to_another_collector_matters_where_there_is_one() -> None:
    g = a_pool()
    several = replace(DRILLED, several=True)
    with_it = frozenset(("elsewhere", *g.pool.live.agents[g.host(2).uuid].hello.capabilities))
    for number, able in ((1, with_it), (2, with_it - {"elsewhere"}), (3, with_it)):
        host = g.host(number).uuid
        agent: AgentState = g.pool.live.agents[host]
        said = replace(agent, hello=replace(agent.hello, capabilities=able))
        g.pool = replace(g.pool, live=replace(g.pool.live, agents={**g.pool.live.agents, host: said}))
    assert "one-collector" not in codes(g)
    assert codes(g, several)["one-collector"] == "warning"
    [found] = [each for each in readiness(Snapshot(g.pool, g.now, g.site), several) if each.code == "one-collector"]
    assert found.sentence.startswith("the agents on host-2 are too old")
    assert "one-address" not in codes(g, several)
    agent = g.pool.live.agents[host]
    said = replace(agent, hello=replace(agent.hello, capabilities=with_it | {"one_collector"}))
    g.pool = replace(g.pool, live=replace(g.pool.live, agents={**g.pool.live.agents, host: said}))
    assert "one-address" not in codes(g)
    [found] = [each for each in readiness(Snapshot(g.pool, g.now, g.site), several) if each.code == "one-address"]
    assert found.severity == "warning" and found.sentence.startswith("agent.conf of host-3 lists one collector")


def test_a_host_that_is_heard_and_does_not_obey_its_owner_is_told() -> None:
    """Without a pinned order key an agent takes no epoch of an ownership: it looks well, and refuses every order."""
    g = a_pool()
    agents = {
        host: replace(agent, hello=replace(agent.hello, capabilities=agent.hello.capabilities | {"elsewhere"}))
        for host, agent in g.pool.live.agents.items()
    }
    obeys = frozenset({g.host(1).uuid, g.host(3).uuid})
    g.pool = replace(g.pool, live=replace(g.pool.live, agents=agents, acknowledged=obeys))
    assert "not-acknowledged" not in codes(g), "one collector alone is told nothing of that"
    for age, told in ((14_999, False), (15_000, True)):
        at = g.now - age
        taken = Snapshot(g.pool, g.now, replace(g.site, takeover=Takeover(at, at + 25_000, at)))
        found = [each for each in readiness(taken, DRILLED) if each.code == "not-acknowledged"]
        assert [each.severity for each in found] == ["critical"] * told
        assert all(each.sentence.startswith("host-2 has not acknowledged") for each in found)
    old = replace(agents[g.host(2).uuid], hello=replace(agents[g.host(2).uuid].hello, capabilities=frozenset()))
    g.pool = replace(g.pool, live=replace(g.pool.live, agents={**agents, g.host(2).uuid: old}))
    taken = Snapshot(g.pool, g.now, taken.site)
    assert not [each for each in readiness(taken, DRILLED) if each.code == "not-acknowledged"], "it cannot say so"


def viewed(g: Guarded, number: int, **changes: object) -> dict[str, str]:
    """The reasons after the serving master has told this of a host."""
    seen = g.pool.live.agents[g.host(1).uuid].facts.pool_view
    assert seen is not None
    hosts = [replace(h, **changes) if h.host == g.host(number).uuid else h for h in seen.hosts]  # type: ignore[arg-type]
    changed(g, 1, pool_view=replace(seen, hosts=tuple(hosts)))
    return codes(g)


def test_updates_that_are_not_in_effect_are_told_with_what_they_need() -> None:
    asked = {"pending-reboot", "pending-restart"}
    assert not asked & set(codes(a_pool()))
    assert asked & set(viewed(a_pool(), 2, guidances=("restart_toolstack",))) == {"pending-restart"}
    assert asked & set(viewed(a_pool(), 2, guidances=("reboot_host", "restart_toolstack"))) == {"pending-reboot"}
    livepatch = ("reboot_host_on_livepatch_failure",)
    assert viewed(a_pool(), 1, guidances=livepatch)["pending-reboot"] == "warning"
    assert not asked & set(viewed(a_pool(), 2, guidances=("restart_vm", "restart_device_model")))


def test_hosts_that_close_their_plain_port_are_named() -> None:
    assert "https-only" not in codes(a_pool())
    assert "https-only" not in viewed(a_pool(), 2, https_only=Tri.NO)
    assert viewed(a_pool(), 2, https_only=Tri.YES)["https-only"] == "warning"


def test_a_drill_counts_for_a_quarter() -> None:
    g = a_pool()
    assert "drill" not in codes(g)
    assert codes(g, JournalView())["drill"] == "warning"
    assert "drill" in codes(g, JournalView(drills=(PastDrill(DRILL_MS + 1, tried=True),)))
    assert "drill" not in codes(g, JournalView(drills=(PastDrill(DRILL_MS, tried=True),)))
    # One of which nothing was tried, and a change of master that came by itself, are none.
    assert "drill" in codes(g, JournalView(drills=(PastDrill(0, tried=False),)))
    assert "drill" in codes(g, JournalView((PastChange(0, planned=False),)))
    failed = codes(g, JournalView(drills=(PastDrill(0, tried=True, failed=("fence of h2: it reads ON",)),)))
    assert failed["drill-failed"] == "warning" and "drill" not in failed


def test_certificates_of_the_collector_itself_are_weaknesses() -> None:
    ends = (("the intermediate certificate is valid for 20 days", "renew it"),)
    assert codes(a_pool(), replace(DRILLED, certificates=ends))["collector-certificate"] == "warning"
    assert codes(a_pool(), replace(DRILLED, etcd=ends))["etcd"] == "warning"


def test_a_collector_inside_of_the_pool_comes_first() -> None:
    assert next(iter(codes(a_pool(), replace(DRILLED, inside="it runs as a VM on host-1")))) == "collector-inside"


def test_without_the_right_to_act_nothing_heals_by_itself() -> None:
    """One of several collectors that etcd does not let act: whatever else is well, nobody is known to do anything."""
    g = a_pool()
    assert plan(g.pool, g.now, g.site, DRILLED).outcome == "heals" and "no-right" not in codes(g)
    g.site = replace(g.site, cut_off=True)
    assert codes(g)["no-right"] == "critical"
    told = plan(g.pool, g.now, g.site, DRILLED)
    assert told.outcome == "stands still" and "act nowhere until etcd" in told.outcome_text


def test_where_nothing_can_be_recorded_nothing_heals_by_itself() -> None:
    g = a_pool()
    g.site = replace(g.site, stalled="database space exceeded")
    assert codes(g)["not-recorded"] == "critical"
    told = plan(g.pool, g.now, g.site, DRILLED)
    assert told.outcome == "stands still" and "database space exceeded" in told.outcome_text


def test_a_pool_without_a_master_says_so_alone() -> None:
    g = Guarded()
    g.pool = replace(g.pool, record=replace(g.pool.record, master=""))
    assert codes(g)["no-master"] == "critical"
    assert plan(g.pool, g.now, g.site, DRILLED).outcome == "stands still"


def test_the_plan_is_timed_by_the_pools_own_failovers() -> None:
    g = a_pool()
    durations = {
        "silent to decided": 8_000, "decided to claimed": 1_000, "claimed to candidate": 0,
        "candidate to proof": 3_000, "proof to promote-intent": 100, "promote-intent to promoted": 50_000,
    }  # fmt: skip
    own = PastChange(5, planned=False, durations=durations)
    assert took(own, "proof") == 3_100 and took(own, "members") is None
    value = plan(g.pool, g.now, g.site, JournalView((own,)))
    assert {phase.name: phase.expected_ms for phase in value.phases}["promotion"] == 50_000
    assert value.expected_from == "from the last failover of this pool"
    assert "by design" in plan(g.pool, g.now, g.site, DRILLED).expected_from


def shown(*findings: tuple[str, Finding]) -> AssumptionsSeen:
    return AssumptionsSeen(tuple(AssumptionSeen(id, finding, "seen") for id, finding in findings))


def failed(g: Guarded, number: int, *ids: str) -> None:
    """What failed on this host, as the record has it."""
    items = tuple(FailedAssumption(id, BY_ID[id].rests, "seen") for id in ids)
    g.pool = replace(g.pool, record=replace(g.pool.record, assumptions={g.host(number).uuid: items}))


def test_agents_that_tell_nothing_of_assumptions_make_no_pool_weaker() -> None:
    assert not {"assumption", "never-seen"} & set(codes(a_pool()))


def test_what_no_host_has_shown_is_told_once_by_capability() -> None:
    g = a_pool()
    changed(g, 2, assumptions=shown(("promote-exit-123", Finding.HOLDS)))
    [line] = [r for r in readiness(Snapshot(g.pool, g.now, g.site), DRILLED) if r.code == "never-seen"]
    counted, _, listed = line.sentence.partition(
        " of what is assumed of real hosts no host of this pool has shown yet: "
    )
    said = dict(part.split(": ") for part in listed.split("; "))
    assert not {"observation", "footprint"} & set(said)
    assert "promote-pool-conf" in said["promotion"] and "promote-exit-123" not in said["promotion"]
    assert int(counted) == len({id for ids in said.values() for id in ids.split(", ")})
    assert line.severity == "warning" and "poolwarden drill lab" in line.fix


def test_an_assumption_that_fails_is_critical_where_losing_the_master_would_not_heal_for_it() -> None:
    g = a_pool()
    failed(g, 2, "promote-exit-123")
    assert codes(g)["assumption"] == "warning"  # host 3 would be promoted
    failed(g, 1, "promote-exit-123", "restart-helps")
    assert codes(g)["assumption"] == "warning"
    failed(g, 1, "fence-off-is-off")
    assert codes(g)["assumption"] == "critical"
    alone = Guarded(hosts=2)
    failed(alone, 2, "promote-exit-123", "repoint-pool-conf")
    found = [r for r in readiness(Snapshot(alone.pool, alone.now, alone.site), DRILLED) if r.code == "assumption"]
    assert [reason.severity for reason in found] == ["critical", "warning"]
    assert "promote-exit-123" in found[0].sentence and found[0].sentence in not_ready(
        Snapshot(alone.pool, alone.now, alone.site)
    )
    assert "repoint-pool-conf" in found[1].sentence and found[1].fix == "poolwarden host show host-2"


def test_a_host_is_shown_with_every_assumption_those_that_fail_first() -> None:
    g = a_pool()
    assert of_host(Snapshot(g.pool, g.now, g.site), g.host(2).uuid) == ()
    changed(g, 2, assumptions=shown(("promote-exit-123", Finding.HOLDS), ("restart-helps", Finding.FAILS)))
    failed(g, 2, "hold-stops")
    rows = of_host(Snapshot(g.pool, g.now, g.site), g.host(2).uuid)
    assert len(rows) == len(BY_ID)
    fails = {row.id: row.counts for row in rows if row.finding == "fails"}
    assert fails == {"restart-helps": False, "hold-stops": True} and {row.id for row in rows[:2]} == set(fails)
    assert next(row.finding for row in rows if row.id == "promote-exit-123") == "holds"
    # of a host whose agent tells nothing any more, what failed stands
    changed(g, 2, assumptions=None)
    assert next(iter(of_host(Snapshot(g.pool, g.now, g.site), g.host(2).uuid))).id == "hold-stops"
