"""What failed on a host of what is believed of it: from when it counts, when it ends, and what waits for a yes then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.core.failover.test_toolstack import hang, hung, until
from tests.core.followups.test_lost_vms import World
from tests.core.known import Change, after, facts, of_role, same
from tests.core.pool import CAPABLE, POOL, QUIET, Guarded, address, played_once, uuid

from poolwarden import assumptions as table
from poolwarden_collector.core.decision import restart_files
from poolwarden_collector.core.decision.repoint_check import rests_on_failed
from poolwarden_collector.core.evidence.assumptions import NOT_BY_ITSELF, SETTLED_MS, failed
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Finding, Liveness, Tombstone
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.assumption_record import FailedAssumption
from poolwarden_collector.core.state.pool_record import OwedWork, PoolRecord, fold
from poolwarden_collector.core.state.snapshot import Snapshot

MINUTE = 60_000
STATIC = "static-promotion"


def of(capability: str) -> str:
    """An assumption of this test's table, passive, on which this capability alone rests."""
    return f"of-{capability.replace(' ', '-')}"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One assumption for each capability, so that nothing here depends on the table's rows."""
    rows = [table.Assumption(of(each), "", "", (each,), table.PASSIVE) for each in table.CAPABILITIES]
    rows.append(table.Assumption(STATIC, "", "", (table.PROMOTION,), table.STATIC))
    monkeypatch.setattr(table, "BY_ID", {row.id: row for row in rows})
    yield


@played_once
def failing(number: int, *capabilities: str, **changes: object) -> Guarded:
    """A Healthy pool on one of whose hosts something failed that these rest on, and it counts."""
    g = Guarded(policy=Policy(quiet_time=QUIET, **changes))  # type: ignore[arg-type]
    for capability in capabilities:
        g.host(number).shows_assumption(of(capability), Finding.FAILS)
    g.run(SETTLED_MS + 4_000)
    return g


def counts(g: Guarded, number: int) -> list[str]:
    return [each.id for each in failed(Snapshot(g.pool, g.now, g.site), uuid(number))]


def lost(g: Guarded, ms: int = 60_000) -> Guarded:
    g.cut_power()
    g.run(ms)
    return g


def asked(g: Guarded, kind: Ask) -> bool:
    return g.pool.record.question is not None and g.pool.record.question.kind is kind


def yes(g: Guarded, **more: str) -> None:
    question = g.pool.record.question
    assert question is not None
    reply = g.say("approve", id=question.id, **more)
    assert reply is not None and reply.accepted, reply


def alerts(g: Guarded) -> list[str]:
    return [topic.text for topic in Snapshot(g.pool, g.now, g.site).open_topics if topic.matter is Matter.ASSUMPTION]


# ------------------------------------------------------------------------------------------------ what counts


def test_what_failed_in_a_healthy_pool_counts_once_it_stays_and_is_told_once() -> None:
    g = failing(2, table.PROMOTION)
    assert counts(g, 2) == [of(table.PROMOTION)] and not counts(g, 3)
    assert alerts(g) == [f"assumption-{uuid(2)}/promotion"]
    g.run(5 * MINUTE)
    assert g.kinds().count("assumptions") == 1
    assert sum(entry.kind is Kind.ALERT for entry in g.journal) == 1
    body = g.entry(Kind.ALERT).data["body"]
    assert NOT_BY_ITSELF[table.PROMOTION].split(":")[0] in body and "seen" in body


def test_it_survives_the_collector_and_a_report_that_does_not_name_it() -> None:
    g = failing(2, table.PROMOTION)
    g.host(2).shown = {}
    g.restart_collector()
    assert counts(g, 2) == [of(table.PROMOTION)]
    g.host(2).shown = None  # an older agent again
    g.run(2 * MINUTE)
    assert counts(g, 2) == [of(table.PROMOTION)] and alerts(g)


def test_a_later_holds_ends_it_and_its_alert() -> None:
    g = failing(2, table.PROMOTION, table.REPOINT)
    g.host(2).shows_assumption(of(table.PROMOTION), Finding.HOLDS)
    g.run(2 * MINUTE)
    assert counts(g, 2) == [of(table.REPOINT)]
    assert alerts(g) == [f"assumption-{uuid(2)}/repoint"]


def test_another_hosts_holds_ends_nothing() -> None:
    g = failing(2, table.PROMOTION)
    g.host(3).shows_assumption(of(table.PROMOTION), Finding.HOLDS)
    g.run(2 * MINUTE)
    assert counts(g, 2) == [of(table.PROMOTION)]


def test_a_new_release_ends_it_until_it_is_seen_under_that_one() -> None:
    g = failing(2, table.PROMOTION)
    g.host(2).xapi_version = "26.2.0"
    g.run(2 * MINUTE)
    assert counts(g, 2) == [] and not alerts(g)
    g.run(5 * MINUTE)  # its agent tells on what it saw before
    assert counts(g, 2) == []
    g.host(2).release = "XCP-ng 8.3, xapi 26.2.0"
    g.run(2 * MINUTE)
    assert counts(g, 2) == [of(table.PROMOTION)]


def test_a_host_that_says_now_this_and_now_that_writes_once_a_minute() -> None:
    g = failing(2, table.PROMOTION)
    for number in range(120):
        g.host(2).shows_assumption(of(table.PROMOTION), (Finding.HOLDS, Finding.FAILS)[number % 2])
        g.run(2_000)
    assert g.kinds().count("assumptions") <= 6


def test_what_the_table_lacks_is_nothing() -> None:
    g = Guarded()
    g.host(2).shows_assumption("of-another-version", Finding.FAILS)
    g.run(MINUTE)
    assert counts(g, 2) == [] and "assumptions" not in g.kinds()


def test_what_is_learned_in_a_failover_stops_it_not_and_counts_afterwards() -> None:
    g = Guarded()
    g.cut_power()
    g.run(2_000)
    for host in g.hosts[1:]:
        host.shows_assumption(of(table.PROMOTION), Finding.FAILS)
        host.shows_assumption(of(table.REPOINT), Finding.FAILS)
    g.run(40_000)
    kinds = g.kinds()
    assert g.promoted() == [uuid(2)] and kinds.index("closed") < kinds.index("assumptions")
    assert counts(g, 3) == [of(table.PROMOTION), of(table.REPOINT)]


def test_nothing_is_taken_over_while_the_pool_is_not_healthy() -> None:
    g = hung()
    g.host(2).shows_assumption(of(table.PROMOTION), Finding.FAILS)
    g.run(20_000)
    assert g.verdict != "Healthy" and counts(g, 2) == []


def test_a_static_one_that_was_looked_at_in_trouble_waits_for_the_next_look() -> None:
    g = Guarded(policy=Policy(quiet_time=QUIET, mode="observe"))
    well = g.host(1).liveness, g.host(1).serves, g.host(1).answers
    hang(g)
    g.run(MINUTE)
    g.host(2).shows_assumption(STATIC, Finding.FAILS, at=g.now)
    g.run(MINUTE)
    assert g.verdict == "MasterXapiHung"
    g.host(1).liveness, g.host(1).serves, g.host(1).answers = well
    g.host(1).socket, g.host(1).unwell_since = well[0], None
    g.run(2 * MINUTE)
    assert g.verdict == "Healthy" and counts(g, 2) == []
    g.host(2).shows_assumption(STATIC, Finding.FAILS, at=g.now)
    g.run(MINUTE)
    assert counts(g, 2) == [STATIC]


def test_a_static_one_that_was_looked_at_while_its_agent_started_anew_counts() -> None:
    g = Guarded()
    g.host(2).agent = False
    g.run(6_000)
    assert g.verdict == "Suspect"
    g.host(2).shows_assumption(STATIC, Finding.FAILS, at=g.now)
    g.host(2).agent = True
    g.connect(g.host(2))
    g.run(MINUTE)
    assert counts(g, 2) == [STATIC]


def test_a_static_one_from_before_this_run_is_taken_as_told() -> None:
    g = Guarded()
    g.host(2).shows_assumption(STATIC, Finding.FAILS, at=0)
    g.run(MINUTE)
    assert counts(g, 2) == [STATIC]


def test_what_an_entry_says_is_all_of_a_host_and_a_host_that_left_has_none() -> None:
    g = failing(2, table.PROMOTION)
    entry = g.entry(Kind.ASSUMPTIONS)
    record = fold(fold(PoolRecord(POOL), g.journal), [entry, entry])
    assert record.assumptions == g.pool.record.assumptions
    gone = replace(entry, kind=Kind.HOST_LEFT, data={"host": uuid(2)})
    assert fold(record, [gone]).assumptions == {}


# ------------------------------------------------------------------------------------------------ promotion


@pytest.mark.parametrize("capability", [table.PROMOTION, table.FORECAST])
def test_a_candidate_is_passed_over_and_blocks_no_other_one(capability: str) -> None:
    assert lost(failing(2, capability)).promoted() == [uuid(3)]


def test_a_candidate_with_a_newer_copy_is_passed_over_too() -> None:
    g = failing(2, table.PROMOTION)
    g.host(2).generation = 53
    assert lost(g).promoted() == [uuid(3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "capability",
    [each for each in table.CAPABILITIES if each not in (table.PROMOTION, table.FORECAST, table.REPOINT)],
)
def test_no_other_capability_of_a_candidate_keeps_it_from_being_promoted(capability: str) -> None:
    assert lost(failing(2, capability)).promoted() == [uuid(2)]


@played_once
def both(*capabilities: str, **policy: object) -> Guarded:
    g = failing(2, *capabilities, **policy)
    for capability in capabilities:
        g.host(3).shows_assumption(of(capability), Finding.FAILS)
    g.run(MINUTE)
    return g


def test_the_only_candidates_are_asked_about_and_a_yes_promotes() -> None:
    g = lost(both(table.PROMOTION))
    question = g.pool.record.question
    assert not g.promoted() and question is not None and question.kind is Ask.ASSUMPTION
    assert question.failed == (f"{uuid(2)}/{of(table.PROMOTION)}",) and of(table.PROMOTION) in question.what
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_ASSUMPTION"
    yes(g)
    g.run(30_000)
    assert g.promoted() == [uuid(2)] and g.has(Kind.CLOSED)


def test_a_yes_to_one_that_failed_is_none_to_another() -> None:
    g = lost(both(table.PROMOTION))
    g.on_order = lambda host, order: None if order.kind_name == "probe_now" else g.default(host, order)
    yes(g)  # to host 2, which falls silent before it is promoted
    g.host(2).agent = g.host(2).answers = False
    g.on_order = None
    g.run(2 * MINUTE)
    question = g.pool.record.question
    assert not g.promoted() and question is not None
    if question.kind is Ask.UNHEARD:
        yes(g)
        g.run(MINUTE)
    question = g.pool.record.question
    assert question is not None and question.failed == (f"{uuid(3)}/{of(table.PROMOTION)}",), question


def test_a_yes_from_before_a_restart_is_asked_for_again() -> None:
    g = lost(both(table.PROMOTION))
    g.on_order = lambda host, order: None if order.kind_name == "probe_now" else g.default(host, order)
    yes(g)
    g.restart_collector()
    g.on_order = None
    g.run(60_000)
    assert not g.promoted() and asked(g, Ask.ASSUMPTION)


def test_a_no_ends_the_failover() -> None:
    g = lost(both(table.PROMOTION))
    question = g.pool.record.question
    assert question is not None
    reply = g.say("deny", id=question.id, reason="no")
    assert reply is not None and reply.accepted and g.has(Kind.ABORTED)


def test_what_holds_again_meanwhile_needs_no_yes() -> None:
    g = lost(both(table.PROMOTION))
    g.host(3).shows_assumption(of(table.PROMOTION), Finding.HOLDS)
    g.run(2 * MINUTE)
    assert g.promoted() == [uuid(3)]


# ------------------------------------------------------------------------------------------------ proofs


def test_a_master_that_reads_off_is_asked_about_where_its_power_rests_on_what_failed() -> None:
    g = lost(failing(1, table.POWER))
    question = g.pool.record.question
    assert not g.promoted() and question is not None and question.kind is Ask.ASSUMPTION
    assert question.failed == (f"{uuid(1)}/{of(table.POWER)}",)
    yes(g)
    g.run(40_000)
    assert g.promoted() == [uuid(2)]


def test_a_persons_word_that_it_is_off_needs_no_second_one() -> None:
    g = lost(failing(1, table.POWER))
    reply = g.say("confirm-fenced", 1, how="unplugged", typed_name="host-1")
    assert reply is not None and reply.accepted, reply
    g.run(40_000)
    assert g.promoted() == [uuid(2)]


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "shot"), [(table.POWER, False), (table.PROBES, True)])
def test_no_host_is_shot_by_itself_whose_device_is_in_doubt(capability: str, shot: bool) -> None:
    g = failing(1, capability, auto_fence_running=True)
    g.host(1).agent = g.host(1).answers = False  # its power reads ON
    g.run(6 * MINUTE)
    assert g.has(Kind.FENCE_INTENT) == shot
    assert asked(g, Ask.SHOOT) != shot


# ------------------------------------------------------------------------------------------------ members


@pytest.mark.slow
def test_a_member_that_is_not_pointed_by_itself_is_owed_it_and_asked_about() -> None:
    g = lost(failing(3, table.REPOINT))
    assert g.promoted() == [uuid(2)] and g.has(Kind.CLOSED)
    assert [(item.host, item.what) for item in g.pool.record.owed if item.host == uuid(3)] == [
        (uuid(3), OwedWork.REPOINT)
    ]
    assert "repoint" not in [order.kind_name for order in g.host(3).orders]
    g.run(5 * MINUTE)
    question = g.pool.record.question
    assert question is not None and (question.kind, question.host) == (Ask.REPAIR, uuid(3)), question
    assert "repoint" not in [order.kind_name for order in g.host(3).orders]
    yes(g)
    g.run(MINUTE)
    assert g.host(3).master_address == address(2)
    assert not [item for item in g.pool.record.owed if item.host == uuid(3)]


def test_a_second_master_is_made_a_member_whatever_failed_there() -> None:
    g = failing(3, table.REPOINT)

    def asked_first(change: Change) -> bool:
        pool = after(g, change)
        agent = pool.heard(uuid(3))
        assert agent is not None
        return rests_on_failed(pool, agent) is not None

    assert asked_first(same)
    for role in ({"pool_conf": Role.MASTER}, {"running": Role.MASTER}):
        assert not asked_first(of_role(3, **role))
    assert not asked_first(facts(3, lambda f: replace(f, tombstone=Tombstone(2))))


@pytest.mark.slow
def test_a_member_in_trouble_is_asked_about_and_no_other_member_waits() -> None:
    g = failing(2, table.RESTART)
    for number in (2, 3):
        g.host(number).liveness = g.host(number).socket = Liveness.DOWN
        g.host(number).unwell_since = g.now
    g.run(12 * MINUTE)
    restarts = {host.n: [o.kind_name for o in host.orders].count("restart_xapi") for host in g.hosts}
    assert restarts[2] == 0 and restarts[3] > 0, restarts
    assert asked(g, Ask.REPAIR)


# ------------------------------------------------------------------------------------------------ a master that hangs


@played_once
def hung_with(number: int, *capabilities: str, **policy: object) -> Guarded:
    """The master's xapi hangs after something has failed on this host."""
    g = failing(number, *capabilities, collector_probe=False, **policy)
    for host in g.hosts:
        g.connect(host, capabilities=CAPABLE | {restart_files.CAPABILITY})
    g.run(4_000)
    hang(g)
    return g


@pytest.mark.slow
@pytest.mark.parametrize("capability", [table.TOOLSTACK_FENCE, table.HANDOVER])
def test_a_toolstack_is_held_at_a_yes_where_that_rests_on_what_failed(capability: str) -> None:
    g = hung_with(1, capability, xapi_restarts=0)
    g.run(3 * MINUTE)
    question = g.pool.record.question
    assert question is not None and question.kind is Ask.TOOLSTACK and not g.has(Kind.DECIDED)
    assert question.failed == (f"{uuid(1)}/{of(capability)}",)
    yes(g)
    until(g, Kind.CLOSED)
    assert g.promoted() == [uuid(2)]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [table.RESTART, table.FORECAST])
def test_a_masters_xapi_is_restarted_at_a_yes_where_that_rests_on_what_failed(capability: str) -> None:
    g = hung_with(1, capability)
    g.host(1).domains = ()
    g.run(3 * MINUTE)
    assert asked(g, Ask.RESTART) and not g.has(Kind.RESTART_INTENT)
    yes(g)
    g.run(4_000)
    assert g.has(Kind.RESTART_INTENT)


def test_an_operators_own_command_overrules_it_and_says_so() -> None:
    g = hung_with(1, table.RESTART)
    g.host(1).domains = ()
    g.run(3 * MINUTE)
    reply = g.say("restart-xapi", 1)
    g.run(8_000)
    assert g.has(Kind.RESTART_INTENT), reply
    assert of(table.RESTART) in g.entry(Kind.RESTART_INTENT).text


@pytest.mark.slow
@pytest.mark.parametrize("number, capability", [(1, table.TOOLSTACK_FENCE), (1, table.HANDOVER), (2, table.HANDOVER)])
def test_a_restart_in_place_is_asked_about_where_it_rests_on_what_failed(number: int, capability: str) -> None:
    g = hung_with(number, capability)
    g.host(1).domains = ()
    g.host(2).generation = 61
    g.host(2).placements = PlacementView(True, 61, "state.db")
    g.run(3 * MINUTE)
    assert asked(g, Ask.RESTART) and not g.has(Kind.IN_PLACE_INTENT)
    yes(g)
    g.run(4_000)
    assert g.has(Kind.IN_PLACE_INTENT)


@pytest.mark.slow
def test_a_hold_that_stands_is_released_whatever_fails_there() -> None:
    g = hung()
    until(g, Kind.CLOSED)
    doubts = tuple(FailedAssumption(of(each), (each,), "seen") for each in table.CAPABILITIES)
    g.pool = replace(g.pool, record=replace(g.pool.record, assumptions={uuid(1): doubts}))
    g.journal.append(Entry(Kind.ASSUMPTIONS, "", {"host": uuid(1), "failed": [each.as_data() for each in doubts]}))
    g.folded = fold(PoolRecord(POOL), g.journal)
    g.run(60_000)
    assert (g.host(1).hold, g.host(1).pool_conf) == (None, Role.MEMBER)


# ------------------------------------------------------------------------------------------------ afterwards


@pytest.mark.slow
def test_nobody_is_declared_dead_by_a_master_on_which_that_failed() -> None:
    for capability, told in ((table.FORECAST, 1), (table.FOLLOWUPS, 0)):
        w = World()
        w.g.host(3).shows_assumption(of(table.PROMOTION), Finding.FAILS)
        w.g.host(2).shows_assumption(of(table.FOLLOWUPS), Finding.FAILS if told == 0 else Finding.HOLDS)
        w.g.host(1).shows_assumption(of(capability), Finding.FAILS)
        w.g.run(20_000)
        w.die()
        assert w.g.promoted() == [uuid(2)] and len(w.told("declare_host_dead")) == told


def test_nobody_is_declared_dead_because_a_device_in_doubt_reads_off_but_at_a_word() -> None:
    w = World()
    w.g.host(1).shows_assumption(of(table.POWER), Finding.FAILS)
    w.g.run(20_000)
    w.die()
    yes(w.g)
    w.g.run(60_000)
    assert w.g.promoted() == [uuid(2)] and not w.told("declare_host_dead")
    reply = w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(30_000)
    assert len(w.told("declare_host_dead")) == 1, reply


def test_the_table_of_what_is_restricted_is_the_one_of_both_programs() -> None:
    assert set(NOT_BY_ITSELF) == set(table.RESTRICTED)
