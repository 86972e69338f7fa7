"""What is done after a promotion, or after one that was given up: each ground alone. As in ``test_each_step.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.known import (
    Change,
    Moment,
    after,
    both,
    facts,
    hello,
    live,
    moment_when,
    of_failover,
    of_role,
    record,
    same,
    seen,
    silent,
)
from tests.core.pool import Guarded, address, uuid

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import member_return
from poolwarden_collector.core.followups import hold_release
from poolwarden_collector.core.followups.owed_work import owed_id
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import PoolHost, ToolstackHold
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, PlacementView
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.state.alert_topic import parse
from poolwarden_collector.core.state.failover_record import Failover, MemberReturn, Step
from poolwarden_collector.core.state.live import Pool, Sent
from poolwarden_collector.core.state.live_slices import Phases
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
from poolwarden_collector.core.state.transaction import Transaction

TERM = 5


@pytest.fixture(scope="module")
def g() -> Guarded:
    """A healthy pool of which the master is owed its release."""
    pool = Guarded()
    pool.run(30_000)
    read = OrderOutcome("file", "collect_evidence", Outcome.DONE, placements=PlacementView(True, 50, "state.db"))
    pool.pool = live(sent={"file": Sent("file", "collect_evidence", uuid(1), 1, pool.now, read, pool.now)})(pool.pool)
    return pool


RELEASE = Owed(uuid(1), OwedWork.RELEASE, uuid(1), TERM)
HELD = facts(1, lambda f: replace(f, hold=ToolstackHold(TERM - 1, True, True, 0)))


def draft(g: Guarded, *changes: Change) -> Transaction:
    return after(g, both(record(owed=(RELEASE,), term=TERM), *changes))


def orders(tx: Transaction) -> list[str]:
    return [e.order.kind_name for e in tx.effects if isinstance(e, SendOrder)]


# ------------------------------------------------------------------------------------------------ released


def beyond(g: Guarded, *changes: Change) -> tuple[bool, list[str]]:
    d = draft(g, *changes)
    agent = d.agent(uuid(1))
    assert agent is not None
    return hold_release._beyond_reach(d, RELEASE, agent), orders(d)


def told_the_term(g: Guarded, ago: int = 5_000, n: int = 1, term: int = TERM) -> Change:
    result = OrderOutcome("any", "claim", Outcome.DONE, term=term)
    return live(sent={"any": Sent("any", "claim", uuid(n), 1, g.now - ago - 100, result, g.now - ago)})


def test_a_host_is_released_once_it_knows_the_term_and_was_looked_at_since(g: Guarded) -> None:
    knows = hello(1, highest_term=TERM)
    assert beyond(g, knows) == (True, [])
    assert beyond(g, knows, seen(1, None)) == (False, [])
    for less in (hello(1, highest_term=TERM - 1), both(knows, hello(1, hold=ToolstackHold(TERM - 1)))):
        assert beyond(g, less) == (False, ["claim"])  # it is told
    at = g.now - 5_000
    assert beyond(g, told_the_term(g), seen(1, at + 1)) == (True, [])
    assert beyond(g, told_the_term(g), seen(1, at)) == (False, [])
    for other in (told_the_term(g, n=2), told_the_term(g, term=TERM - 1)):
        assert beyond(g, other, seen(1, at + 1)) == (False, ["claim"])
    unanswered = live(sent={"any": Sent("any", "claim", uuid(1), 1, at)})
    assert beyond(g, unanswered) == (False, ["claim"])


def owed_release(g: Guarded, *changes: Change) -> tuple[list[Kind], list[str]]:
    d = draft(g, *changes)
    hold_release.owed_releases(d)
    return [entry.kind for entry in d.entries], orders(d)


def a_failover(step: Step, old: int = 1) -> Change:
    return record(failover=Failover("f-9", uuid(old), f"boot-{old}-1", TERM, step, uuid(2)))


NO_VM = live()


def test_a_held_master_on_record_is_released_as_master_where_nobody_else_serves(g: Guarded) -> None:
    stopped = both(HELD, of_role(1, serves_as_master=False))
    assert "toolstack_release" in owed_release(g, stopped)[1]
    assert owed_release(g, stopped, silent(1)) == ([], [])
    assert not owed_release(g, stopped, of_role(2, serves_as_master=True))[1]
    for step in (Step.DECIDED, Step.PROMOTING):
        assert owed_release(g, stopped, a_failover(step)) == ([], []), step  # it decides itself
    assert "toolstack_release" in owed_release(g, stopped, a_failover(Step.DECIDED, old=3))[1]
    assert "toolstack_release" in owed_release(g, stopped, a_failover(Step.PROMOTED))[1]
    assert "toolstack_release" in owed_release(g, stopped, record(master=""))[1]  # by an operator's word
    by_nobody = record(owed=(replace(RELEASE, successor=uuid(2)),), master="")
    assert not owed_release(g, stopped, by_nobody)[1]
    assert not owed_release(g, stopped, record(master=uuid(2)))[1]  # who does not serve


def test_one_that_somebody_succeeded_is_released_as_a_member_of_who_serves(g: Guarded) -> None:
    stopped = both(HELD, of_role(1, serves_as_master=False), record(master=uuid(2)))
    serves = of_role(2, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    assert "toolstack_release" in owed_release(g, stopped, serves)[1]
    runs = facts(1, lambda f: replace(f, domains=("vm-9",), observed=replace(f.observed, host=g.now)))
    assert "toolstack_release" not in owed_release(g, stopped, serves, runs)[1]  # a person is asked about its VM


def test_one_that_is_held_no_more_is_released_only_beyond_reach(g: Guarded) -> None:
    assert Kind.RELEASED in owed_release(g, hello(1, highest_term=TERM))[0]
    assert Kind.RELEASED not in owed_release(g)[0]


def test_its_own_file_may_not_kill_what_runs_there(g: Guarded) -> None:
    stopped = both(HELD, of_role(1, serves_as_master=False))
    assert hold_release.own_file_refusal(draft(g, stopped), uuid(1)) is None
    runs = facts(1, lambda f: replace(f, domains=("vm-9",), observed=replace(f.observed, host=g.now)))
    assert hold_release.own_file_refusal(draft(g, stopped, runs), uuid(1)) is not None
    assert not owed_release(g, stopped, runs)[1].count("toolstack_release")


# ------------------------------------------------------------------------------------------------ what keeps it held


def obstacle(g: Guarded, *changes: Change, verdict: Verdict = Verdict.HEALTHY) -> str:
    d = draft(g, HELD, *changes)
    agent = d.agent(uuid(1))
    assert agent is not None
    why = hold_release._obstacle(d, RELEASE, agent, verdict)
    return why.code.name if why is not None else ""


def attempts(g: Guarded, *results: tuple[Outcome, str]) -> Change:
    """The agent was told to release so often, and that is what it said."""

    def change(pool: Pool) -> Pool:
        base = owed_id(RELEASE, "release", pool.live.agents[uuid(1)])
        found = {}
        for n, (outcome, reason) in enumerate(results, 1):
            order = f"{base}.{n}"
            result = OrderOutcome(order, "toolstack_release", outcome, reason)
            found[order] = Sent(order, "toolstack_release", uuid(1), 1, g.now - 9_000 + n, result, g.now - 8_000)
        return live(sent={**pool.live.sent, **found})(pool)

    return change


def test_each_thing_that_keeps_a_host_held_is_told_as_what_it_is(g: Guarded) -> None:
    assert obstacle(g) == ""
    assert obstacle(g, verdict=Verdict.HA_MANAGED) == Cause.HA.name
    assert obstacle(g, verdict=Verdict.IDENTITY_CONFLICT) == Cause.IDENTITY.name
    assert obstacle(g, record(paused="racks")) == Cause.PAUSED.name
    assert obstacle(g, record(paused="racks"), a_failover(Step.DECIDED)) == ""
    runs = facts(1, lambda f: replace(f, domains=("vm-9",), observed=replace(f.observed, host=g.now)))
    assert obstacle(g, runs)
    elsewhere = record(owed=(RELEASE,), master=uuid(2))
    assert obstacle(g, runs, elsewhere)  # released by word as master, it starts with its own file


def test_what_its_agent_says_is_told_once_another_attempt_will_not_help(g: Guarded) -> None:
    failed, refused = (Outcome.FAILED, "xapi"), (Outcome.REFUSED, "held")
    assert obstacle(g, attempts(g, failed)) == "" and obstacle(g, attempts(g, failed, failed)) == Cause.ANSWER.name
    assert obstacle(g, attempts(g, refused)) == Cause.ANSWER.name
    assert obstacle(g, attempts(g, (Outcome.DONE, ""), (Outcome.DONE, ""))) == ""
    for reason in ("expired", "busy"):
        assert obstacle(g, attempts(g, (Outcome.REFUSED, reason))) == Cause.WAITING.name
    unanswered = both(attempts(g, failed, failed), newest_unanswered)
    assert obstacle(g, unanswered) == Cause.WAITING.name


def newest_unanswered(pool: Pool) -> Pool:
    last = max(pool.live.sent.values(), key=lambda sent: sent.at)
    return live(sent={**pool.live.sent, last.order_id: replace(last, result=None)})(pool)


def test_its_own_file_that_may_kill_or_cannot_be_asked_is_told_as_what_it_is(g: Guarded) -> None:
    def refusal(*changes: Change) -> tuple[str, str]:
        why = hold_release.own_file_refusal(draft(g, HELD, *changes), uuid(1))
        return (why.code.name, why.text) if why is not None else ("", "")

    assert refusal() == ("", "")
    runs = facts(1, lambda f: replace(f, domains=("vm-9",)))
    code, text = refusal(runs)
    assert code == Cause.KILLS.name and text.startswith("its xapi would start with its own database, and kill vm-9")
    code, text = refusal(facts(1, lambda f: replace(f, domains=None)))
    assert code == Cause.DOMAINS.name and text.startswith("its xapi would start with its own database, and the running")
    assert obstacle(g, live(sent={})) == Cause.WAITING.name  # its file has not been read


def held_alerts(g: Guarded, *changes: Change, key: str = "", **of_site: Any) -> tuple[list[str], bool]:
    """What is said of held hosts: the keys that settle, and whether this open alert is over or about to be."""
    full = f"{g.pool.record.pool}/{key}"
    pool = both(record(owed=(RELEASE,), term=TERM, open_alerts=(full,)), *changes)(g.pool)
    tx = Transaction(pool, g.now, replace(g.site, **of_site))
    hold_release.say_held(tx, Verdict.HEALTHY)
    return [key.partition("/")[2] for key in tx.live.alerts.unsettled], parse(
        full.partition("/")[2]
    ) not in tx.open_topics


def test_a_host_that_is_held_is_named_and_no_other_owed_work_is_told_as_that(g: Guarded) -> None:
    key, waits = f"release-{uuid(1)}/another-reason", record(paused="racks")
    told, over = held_alerts(g, HELD, waits, key=key)
    assert told and over  # told by the key of its reason: another one is over
    assert held_alerts(g, HELD, waits, key=key, quiet_until=g.now + 1) == ([], False)
    assert held_alerts(g, HELD, waits, silent(1), key=key) == ([], False)
    another = record(owed=(replace(RELEASE, what=OwedWork.TOMBSTONE),))
    assert held_alerts(g, HELD, waits, another, key=key) == ([], True)
    assert held_alerts(g, HELD, key=key) == ([], True)  # its release is under way
    assert held_alerts(g, HELD, live(sent={}), key=key) == ([], False)  # nothing is known just now
    assert held_alerts(g, waits, key=key) == ([], False)  # it is held no more, which is to be verified


# ------------------------------------------------------------------------------------------------ placed databases


def removal(g: Guarded, *changes: Change) -> tuple[list[Kind], list[str]]:
    d = after(g, both(record(owed=(Owed(uuid(2), OwedWork.REMOVE_DATABASE, "", TERM),), term=TERM), *changes))
    hold_release.owed_releases(d)
    return [entry.kind for entry in d.entries], orders(d)


def removed(g: Guarded, result: Outcome | None, base: str = "") -> Change:
    def change(pool: Pool) -> Pool:
        item = Owed(uuid(2), OwedWork.REMOVE_DATABASE, "", TERM)
        order = (base or owed_id(item, "remove", pool.live.agents[uuid(2)])) + ".1"
        outcome = OrderOutcome(order, "place_database", result) if result is not None else None
        return live(sent={order: Sent(order, "place_database", uuid(2), 1, g.now, outcome, g.now)})(pool)

    return change


def test_a_placed_database_is_removed_until_that_is_done_or_it_was_used(g: Guarded) -> None:
    assert removal(g)[1] == ["place_database"]
    assert removal(g, removed(g, Outcome.DONE)) == ([Kind.OWED_DONE], [])
    assert removal(g, of_role(2, pool_conf=Role.MASTER)) == ([Kind.OWED_DONE], [])
    for undone in (removed(g, Outcome.FAILED), removed(g, None)):
        assert Kind.OWED_DONE not in removal(g, undone)[0]
    assert removal(g, removed(g, Outcome.DONE, "owed/5/remove/another"))[1] == ["place_database"]
    its_own = record(failover=Failover("f-9", uuid(1), "boot-1-1", TERM, Step.CANDIDATE, uuid(2)))
    assert removal(g, its_own) == ([], [])  # what is there now may be for this very promotion


# ------------------------------------------------------------------------------------------------ members


def promoted(claimed: tuple[str, ...] = (uuid(2), uuid(3)), **of_members: Any) -> Failover:
    members = MemberReturn(**{"repointing": {uuid(3): "o"}, "before": {}, **of_members})
    return Failover("f-9", uuid(1), "boot-1-1", TERM, Step.PROMOTED, uuid(2), claimed, members=members)


def item_of(n: int, **changes: Any) -> PoolHost:
    return replace(PoolHost(uuid(n), f"host-{n}", address(n), True, True), **changes)


WAS = {uuid(3): {"enabled": True, "unplugged": []}}


def missing(
    g: Guarded, item: PoolHost, age: int, before: dict[str, Any] | None = WAS, **of_candidate: Any
) -> str | None:
    change = both(live(Phases, step_since=g.now - age), hello(2, **of_candidate) if of_candidate else same)
    return member_return._missing(after(g, change), promoted(before=before), item)


def test_what_a_member_lacks_is_waited_for_and_then_named(g: Guarded) -> None:
    disabled, long = item_of(3, enabled=False), member_return.ENABLE_PATIENCE_MS
    assert missing(g, item_of(3), 0) == ""
    assert missing(g, disabled, long - 1) is None
    assert missing(g, disabled, long) is None  # it is enabled, once
    unable = {"capabilities": frozenset[str]()}
    assert "disabled" in (missing(g, disabled, long, **unable) or "")
    assert "as it was before" in (missing(g, disabled, 0, {uuid(3): {"enabled": False, "unplugged": []}}) or "")
    assert "not known" in (missing(g, disabled, long, {}) or "")
    assert missing(g, disabled, long - 1, {}) is None and "not known" in (missing(g, disabled, long, None) or "")


def test_storage_that_is_not_plugged_is_waited_for_and_then_named_if_it_was_before(g: Guarded) -> None:
    without, long = item_of(3, unplugged_srs=("nfs",)), member_return.STORAGE_PATIENCE_MS
    assert missing(g, without, long - 1) is None and "nfs" in (missing(g, without, long) or "")
    assert missing(g, without, 0, {uuid(3): {"enabled": True, "unplugged": ["nfs"]}}) == ""
    assert missing(g, item_of(3), 0, {}) == ""


def repoint(g: Guarded, *changes: Change, failover: Failover | None = None) -> list[str]:
    """To whom host 3's repointing, or its restart, is sent."""
    found = failover or promoted()
    d = after(
        g, both(record(failover=found, term=TERM, master=uuid(2)), live(Phases, step_since=g.now - 1_000), *changes)
    )
    agent = d.agent(uuid(3))
    assert agent is not None
    member_return._repoint(d, found, uuid(3), agent)
    return [e.order.kind_name for e in d.effects if isinstance(e, SendOrder)]


def test_a_member_is_repointed_or_restarted_by_what_it_follows(g: Guarded) -> None:
    follows = of_role(3, master_address=address(2))
    long = live(Phases, step_since=g.now - g.policy.member_restart_after)
    assert repoint(g) == ["repoint"]
    assert repoint(g, follows, long) == ["restart_xapi"] and repoint(g, follows) == []
    for other in (of_role(3, pool_conf=Role.BROKEN), of_role(3, running=Role.MASTER)):
        assert repoint(g, follows, other, long) == ["repoint"]
    assert repoint(g, long) == ["repoint"]
    assert repoint(g, follows, long, failover=promoted(repointing={})) == ["repoint"]


def test_so_many_members_are_repointed_at_a_time_and_no_more(g: Guarded) -> None:
    def busy(*numbers: int, back: tuple[int, ...] = ()) -> Failover:
        return promoted(repointing={uuid(n): "o" for n in numbers}, back=tuple(uuid(n) for n in back))

    many = range(10, 10 + g.policy.repoint_parallel)
    assert repoint(g, failover=busy(*many)) == []
    assert repoint(g, failover=busy(*many[1:])) == ["repoint"]
    assert repoint(g, failover=busy(*many, back=(10,))) == ["repoint"]
    assert repoint(g, failover=busy(*many, 3)) == ["repoint"]  # begun already
    there = of_role(2, master_address=address(2))
    assert repoint(g, there, failover=busy(2, *many[1:])) == [], (
        "its xapi restarts now: it is under way until it is back"
    )


@pytest.fixture(scope="module")
def comes_back() -> Moment:
    """Host 3 is found back at its new master, and the failover is closed."""

    def succeeded() -> None:
        pool = Guarded()
        pool.cut_power()
        pool.run(60_000)

    moment = moment_when(lambda o: any(e.kind is Kind.MEMBER_BACK for e in o.entries), succeeded)
    assert isinstance(moment.event, ev.AgentReported) and moment.event.host == uuid(3)
    said = moment.event.facts  # known before it, and found at the next tick
    return replace(moment, pool=facts(3, lambda f: said)(moment.pool), event=ev.Tick())


def written(moment: Moment, *changes: Change) -> list[Kind]:
    return [entry.kind for entry in moment.again(both(*changes)).entries]


def test_a_member_is_back_only_where_every_fact_says_so(comes_back: Moment) -> None:
    moment, pool = comes_back, comes_back.pool
    assert Kind.MEMBER_BACK in written(moment) and Kind.CLOSED in written(moment)
    assert Kind.MEMBER_BACK not in written(moment, of_failover(MemberReturn, repointing={}))  # nobody has repointed it
    assert Kind.MEMBER_BACK not in written(moment, of_role(3, master_address=address(1)))
    view = pool.live.agents[uuid(2)].facts.pool_view
    assert view is not None
    for hosts in (tuple(item for item in view.hosts if item.host != uuid(3)), tuple(map(dead, view.hosts))):
        listed = facts(2, lambda f, hosts=hosts: replace(f, pool_view=replace(view, hosts=hosts)))
        assert Kind.MEMBER_BACK not in written(moment, listed)
    assert Kind.CLOSED not in written(moment, of_role(2, serves_as_master=False))


def dead(item: PoolHost) -> PoolHost:
    return replace(item, live=False)


def test_a_member_is_owed_its_repointing_where_it_is_away_or_late(comes_back: Moment) -> None:
    moment, gone = comes_back, member_return.NOT_CONNECTED_MS
    away = both(silent(3), of_failover(MemberReturn, repointing={}))
    assert Kind.OWED in written(moment, away, live(Phases, step_since=moment.now - gone))
    assert Kind.OWED not in written(moment, away, live(Phases, step_since=moment.now - gone + 1))
    assert Kind.OWED not in written(moment, silent(3), live(Phases, step_since=moment.now - gone))  # it is on its way
    elsewhere, budget = of_role(3, master_address=address(1)), moment.pool.policy.member_budget
    assert Kind.OWED in written(
        moment, elsewhere, both(live(Phases, step_since=moment.now - budget), live(sent={}, repoint_begun={}))
    )
    assert Kind.OWED not in written(
        moment, elsewhere, both(live(Phases, step_since=moment.now - budget + 1), live(sent={}, repoint_begun={}))
    )
    assert Kind.OWED not in written(
        moment, elsewhere, live(Phases, step_since=moment.now - budget)
    )  # its turn came later
    # Sent again under its own id: the first time counts.
    told = {uuid(3): (f"{moment.pool.record.failover.orders}", moment.now - budget)}
    assert Kind.OWED in written(
        moment, elsewhere, both(live(Phases, step_since=moment.now - 2 * budget), live(repoint_begun=told))
    )


def test_what_is_owed_already_is_not_pursued_here(comes_back: Moment) -> None:
    def owes(n: int, what: OwedWork) -> Change:
        return lambda pool: record(owed=(*pool.record.owed, Owed(uuid(n), what, uuid(2), 1)))(pool)

    assert Kind.MEMBER_BACK not in written(comes_back, owes(3, OwedWork.REPOINT))
    for other in (owes(2, OwedWork.REPOINT), owes(3, OwedWork.WAKE)):
        assert Kind.MEMBER_BACK in written(comes_back, other)


# ------------------------------------------------------------------------------------------------ enabled, restarted


def enabling(g: Guarded, *changes: Change) -> tuple[bool, list[str]]:
    d = after(g, both(record(failover=promoted(), term=TERM), *changes))
    return member_return._enabling(d, promoted(), uuid(3)), orders(d)


def enable_sent(g: Guarded, ago: int, outcome: Outcome | None, stream: int = 0) -> Change:
    order = f"f-9/enable/{uuid(3)}"
    result = OrderOutcome(order, "enable_host", outcome) if outcome is not None else None
    stream = stream or g.pool.live.agents[uuid(2)].stream
    at = g.now - ago
    return live(sent={order: Sent(order, "enable_host", uuid(2), stream, at, result, at if result else None)})


def test_a_member_is_enabled_once_by_the_new_master_and_that_has_its_time(g: Guarded) -> None:
    assert enabling(g) == (True, ["enable_host"])
    assert enabling(g, silent(2)) == (False, [])
    assert enabling(g, live(agents={})) == (False, [])
    assert enabling(g, hello(2, capabilities=frozenset())) == (False, [])
    assert enabling(g, enable_sent(g, 1_000, None)) == (True, [])
    assert enabling(g, enable_sent(g, 1_000, None, stream=99)) == (True, ["enable_host"])
    assert enabling(g, enable_sent(g, 25_000, None)) == (True, ["enable_host"])
    for outcome in (Outcome.DONE, Outcome.FAILED, Outcome.REFUSED):
        assert enabling(g, enable_sent(g, 25_000, outcome)) == (True, []), outcome
        assert enabling(g, enable_sent(g, 30_000, outcome)) == (False, []), outcome


def test_a_member_that_does_not_come_back_is_restarted_once_after_its_time(g: Guarded) -> None:
    late = g.policy.member_restart_after

    def restarted(*changes: Change, since: int = late, once: bool = False) -> list[str]:
        failover = promoted(restarted=(uuid(3),) if once else ())
        d = after(g, both(record(failover=failover, term=TERM), live(Phases, step_since=g.now - since), *changes))
        member_return._restart_rung(d, failover, uuid(3))
        assert bool(d.entries) == (bool(d.effects) and not once)
        return orders(d)

    assert restarted() == ["restart_xapi"] and restarted(once=True) == ["restart_xapi"]
    assert restarted(since=late - 1) == [] and restarted(silent(3)) == []


def test_how_the_hosts_stood_before_is_the_old_masters_word_and_nobody_elses(g: Guarded) -> None:
    def before(*changes: Change) -> tuple[dict[str, Any], str]:
        d = after(g, both(record(failover=promoted(), term=TERM), *changes))
        member_return._note_before(d, promoted())
        (entry,) = d.entries
        return entry.data["hosts"], entry.text

    def listed(**of_host_3: Any) -> Change:
        def change(pool: Pool) -> Pool:
            seen_by = pool.live.agents[uuid(1)].facts.pool_view
            assert seen_by is not None
            hosts = tuple(replace(item, **of_host_3) if item.host == uuid(3) else item for item in seen_by.hosts)
            return facts(1, lambda f: replace(f, pool_view=replace(seen_by, hosts=hosts)))(pool)

        return change

    stood, said = before()
    assert set(stood) == {uuid(1), uuid(2), uuid(3)} and "every host enabled" in said
    assert before(listed(enabled=False))[1].endswith(": host-3 disabled")
    assert before(listed(unplugged_srs=("nfs",)))[1].endswith(": host-3 without nfs")
    assert before(listed(enabled=False))[0][uuid(3)] == {"enabled": False, "unplugged": []}
    as_member = facts(1, lambda f: replace(f, pool_view=replace(f.pool_view, master=uuid(2))))  # type: ignore[type-var]
    for unknown in (as_member, live(agents={}), facts(1, lambda f: replace(f, pool_view=None))):
        assert before(unknown) == ({}, "how the hosts stood before is not known")


def closed(g: Guarded, failover: Failover, *changes: Change) -> tuple[list[str], str]:
    """Who is owed its repointing at the end, and what the last alert says."""
    sees = of_role(2, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    d = after(g, both(record(failover=failover, term=TERM, master=uuid(2)), sees, *changes))
    member_return._close(d, failover, [uuid(3)])
    alerts = [alert.body for alert in d.alerts if hasattr(alert, "body")]
    alerts += [alert.body for alert in d.live.alerts.unsettled.values()]
    entry = next(entry for entry in d.entries if entry.kind is Kind.CLOSED)
    return entry.data["owed"], alerts[-1]


def as_seen(**of_host_2: Any) -> Change:
    """The new master's own view of the pool, with itself in it like this."""

    def change(pool: Pool) -> Pool:
        view = pool.live.agents[uuid(1)].facts.pool_view
        assert view is not None
        hosts = tuple(replace(item, **of_host_2) if item.host == uuid(2) else item for item in view.hosts)
        mine = replace(view, master=uuid(2), hosts=hosts)
        at = pool.live.agents[uuid(1)].facts.observed.pool_view
        return facts(2, lambda f: replace(f, pool_view=mine, observed=replace(f.observed, pool_view=at)))(pool)

    return change


def test_the_end_names_who_is_still_owed_and_what_the_new_master_itself_lacks(g: Guarded) -> None:
    assert (
        closed(g, promoted())[0] == ["host-3"]
        and "members not back yet, brought back by themselves: host-3\n" in closed(g, promoted())[1]
    )
    owed, said = closed(g, promoted(back=(uuid(3),)), as_seen())
    assert owed == [] and "\nhost-2: " not in said and "not back yet" not in said
    without = as_seen(unplugged_srs=("nfs",))
    for before in (None, {}, {uuid(2): {"enabled": True, "unplugged": []}}):
        assert "host-2: storage not plugged there: nfs" in closed(g, promoted(before=before), without)[1]
    had_not = promoted(before={uuid(2): {"enabled": True, "unplugged": ["nfs"]}})
    assert "storage" not in closed(g, had_not, without)[1]
    assert "once it has given up on host-1" in closed(g, promoted(), as_seen(enabled=False))[1]
    assert "given up" not in closed(g, promoted(), as_seen(enabled=False, live=False))[1]
    assert "given up" not in closed(g, promoted(), as_seen())[1]


def test_a_member_whose_agent_has_not_reported_yet_is_told_nothing(g: Guarded) -> None:
    def told(*changes: Change) -> list[str]:
        failover = promoted(claimed=(uuid(3),), repointing={})
        d = after(
            g, both(record(failover=failover, term=TERM, master=uuid(2)), live(Phases, step_since=g.now), *changes)
        )
        member_return._one_member(d, failover, uuid(3))
        return orders(d)

    def agent(**changes: Any) -> Change:
        return lambda p: live(agents={**p.live.agents, uuid(3): replace(p.live.agents[uuid(3)], **changes)})(p)

    assert told() == ["repoint"]
    assert told(agent(reported=False)) == [] and told(silent(3)) == []
    assert told(live(agents={})) == []


def under_way(g: Guarded, ago: int) -> tuple[Failover, Change]:
    """As many members as may be were told so long ago, and are not back."""
    failover = promoted(repointing={uuid(n): "o" for n in range(10, 10 + g.policy.repoint_parallel)})
    orders_sent = [f"{failover.orders}/repoint/{host}.1" for host in failover.members.repointing]
    sent = {order: Sent(order, "repoint", uuid(10), 1, g.now - ago) for order in orders_sent}
    return failover, both(
        record(failover=failover, term=TERM, master=uuid(2)),
        live(sent=sent),
        live(Phases, step_since=g.now - 1_000_000),
    )


def test_a_member_waits_for_its_turn_while_as_many_as_may_be_are_under_way(g: Guarded) -> None:
    late = g.policy.member_restart_after

    def turn(ago: int, *changes: Change, host: int = 3) -> bool:
        failover, told = under_way(g, ago)
        return member_return._its_turn(after(g, both(told, *changes)), failover, uuid(host))

    assert not turn(late - 1) and turn(late)
    assert turn(0, record(owed=(Owed(uuid(10), OwedWork.REPOINT, uuid(2), 1),)))
    assert not turn(0, record(owed=(Owed(uuid(10), OwedWork.WAKE, uuid(2), 1),)))
    assert turn(0, host=10)  # told already


def test_a_member_that_waits_for_its_turn_or_is_there_is_not_late(g: Guarded) -> None:
    def owed(failover: Failover, *changes: Change) -> bool:
        d = after(g, both(record(failover=failover, term=TERM, master=uuid(2)), *changes))
        member_return._one_member(d, failover, uuid(3))
        return any(entry.kind is Kind.OWED for entry in d.entries)

    failover, told = under_way(g, 0)
    assert not owed(failover, told) and owed(failover, told, live(sent={}))
    fresh, since = promoted(repointing={}), live(Phases, step_since=g.now - member_return.NOT_CONNECTED_MS)
    assert not owed(fresh, since) and owed(fresh, since, silent(3)) and owed(fresh, since, live(agents={}))


def test_it_is_closed_only_while_the_new_master_serves(comes_back: Moment) -> None:
    everybody = of_failover(MemberReturn, back=(uuid(3),))
    assert Kind.CLOSED in written(comes_back, everybody)
    assert Kind.CLOSED not in written(comes_back, everybody, of_role(2, serves_as_master=False))
