"""Which copies of the database are believed, handed over, removed: each ground alone. As in ``test_each_step.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.known import Change, after, both, facts, hello, live, of_role, record, silent
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.decision import database_age, database_contents, restart_files
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import toolstack_fence
from poolwarden_collector.core.followups import hold_release
from poolwarden_collector.core.followups.owed_work import owed_id
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import ToolstackHold
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, PlacementView
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.recovery import restart_in_place
from poolwarden_collector.core.state.failover_record import Failover, Step
from poolwarden_collector.core.state.live import Sent
from poolwarden_collector.core.state.live_slices import InPlaceProgress
from poolwarden_collector.core.state.pool_record import Owed, OwedWork


@pytest.fixture(scope="module")
def h() -> Guarded:
    """A healthy pool of three; the copy of host 2 is newer than its master's file."""
    pool = Guarded()
    pool.run(20_000)
    pool.pool = facts(2, lambda f: replace(f, database=replace(f.database, generation=60)))(pool.pool)
    return pool


def test_a_newer_copy_is_believed_of_a_listed_member_of_this_master_alone(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer(*changes: Change, than: int = 59) -> tuple[str, ...]:
        return restart_files.newer_copies(after(h, both(*changes)), uuid(1), than)

    assert newer() == (uuid(2),) and newer(than=60) == ()
    assert newer(silent(2)) == () and newer(hello(2, capabilities=frozenset())) == ()
    for other in ({"pool_conf": Role.BROKEN}, {"master_address": "10.0.0.9"}):
        assert newer(of_role(2, **other)) == ()
    assert newer(record(owed=(Owed(uuid(2), OwedWork.TOMBSTONE, uuid(1), 1),))) == ()  # of another line
    assert newer(record(listed=frozenset({uuid(1), uuid(3)}))) == ()
    monkeypatch.setattr(database_age, "ahead", lambda d, host: 1)
    assert newer() == ()


@pytest.mark.parametrize("reason", ["busy", "expired"])
def test_an_agent_that_did_not_look_at_its_file_has_said_nothing_of_it(h: Guarded, reason: str) -> None:
    """It is asked again when that answer is as old as one may be, as if it had not answered."""

    def asked(ago: int, why: str) -> tuple[PlacementView | None, int]:
        refused = OrderOutcome("file", "collect_evidence", Outcome.REFUSED, why)
        sent = {"file": Sent("file", "collect_evidence", uuid(2), 1, h.now - ago, refused, h.now - ago)}
        d = after(h, live(sent=sent))
        view = database_contents.placements_of(d, uuid(2))
        return view, len([e for e in d.effects if isinstance(e, SendOrder)])

    assert asked(1_000, reason) == (None, 0) and asked(10_001, reason) == (None, 1)
    view, sent = asked(1_000, "precondition")
    assert view is not None and not view.readable and sent == 0


# ------------------------------------------------------------------------------------------------ what was placed

REMOVAL = Owed(uuid(1), OwedWork.REMOVE_DATABASE, "", 5)
HELD = both(facts(1, lambda f: replace(f, hold=ToolstackHold(4, True, True, 0))), of_role(1, serves_as_master=False))


def littered(h: Guarded, *changes: Change) -> bool:
    d = after(h, both(record(owed=(REMOVAL,)), HELD, *changes))
    agent = d.agent(uuid(1))
    assert agent is not None
    return hold_release._littered(d, uuid(1), agent)


def test_a_database_may_lie_on_a_held_master_that_is_owed_its_removal(h: Guarded) -> None:
    assert littered(h)
    assert not littered(h, record(owed=())) and not littered(h, record(owed=(replace(REMOVAL, what="release"),)))
    assert not littered(h, record(owed=(replace(REMOVAL, host=uuid(2)),)))
    assert not littered(h, facts(1, lambda f: replace(f, hold=None)))
    assert not littered(h, of_role(1, pool_conf=Role.MEMBER))


def removal(h: Guarded, *changes: Change) -> tuple[bool, bool]:
    """Is it owed no more, and is it ordered?"""
    d = after(h, both(record(owed=(REMOVAL,), term=5), *changes))
    hold_release.owed_releases(d)
    ordered = any(isinstance(e, SendOrder) and e.order.kind_name == "place_database" for e in d.effects)
    return any(entry.kind is Kind.OWED_DONE for entry in d.entries), ordered


def test_what_was_placed_on_a_held_master_is_removed_and_on_one_that_has_started_is_used_up(h: Guarded) -> None:
    unable = hello(1, capabilities=h.pool.live.agents[uuid(1)].hello.capabilities - {restart_files.CAPABILITY})
    able = hello(1, capabilities=h.pool.live.agents[uuid(1)].hello.capabilities | {restart_files.CAPABILITY})
    assert removal(h, able, HELD) == (False, True)
    assert removal(h, able) == (True, False) and removal(h, unable, HELD) == (True, False)
    done = owed_id(REMOVAL, "remove", h.pool.live.agents[uuid(1)]) + ".1"
    result = OrderOutcome(done, "place_database", Outcome.DONE)
    assert removal(
        h, able, HELD, live(sent={done: Sent(done, "place_database", uuid(1), 1, h.now, result, h.now)})
    ) == (
        True,
        False,
    )


def released(h: Guarded, monkeypatch: pytest.MonkeyPatch, *changes: Change) -> tuple[bool, str]:
    """Is the held master on record released, and what stands against it?"""
    monkeypatch.setattr(hold_release, "own_file_refusal", lambda *_: None)
    item = Owed(uuid(1), OwedWork.RELEASE, uuid(1), 5)
    d = after(h, both(record(owed=(item,), term=5), HELD, *changes))
    agent = d.agent(uuid(1))
    assert agent is not None
    why = hold_release._obstacle(d, item, agent, Verdict.HEALTHY)
    hold_release.owed_releases(d)
    ordered = any(isinstance(e, SendOrder) and e.order.kind_name == "toolstack_release" for e in d.effects)
    return ordered, why.code.name if why is not None else ""


def test_nobody_is_started_as_master_beside_one_that_serves_or_will(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert released(h, monkeypatch) == (True, "")
    for other in ({"serves_as_master": True}, {"pool_conf": Role.MASTER}, {"running": Role.MASTER}):
        assert released(h, monkeypatch, of_role(2, **other)) == (False, Cause.SET_AS_MASTER.name), other
    both_owed = record(owed=(Owed(uuid(1), OwedWork.RELEASE, uuid(1), 5), REMOVAL))
    assert not released(h, monkeypatch, both_owed)[0]  # what lies there goes first
    decided = record(failover=Failover("f-9", uuid(1), "boot-1-1", 5, Step.DECIDED, uuid(2)))
    assert not released(h, monkeypatch, decided)[0]


# ------------------------------------------------------------------------------------------------ handed over


def test_a_file_that_is_of_no_use_is_not_handed_over(h: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = facts(1, lambda f: replace(f, database=replace(f.database, generation=70)))

    def handed(readable: bool = True, **of_this: Any) -> tuple[bool, str]:
        """Is that over, and what came of it?"""
        ends: list[str] = []
        monkeypatch.setattr(toolstack_fence, "_result", lambda d, f, placed, could, text: ends.append(text))
        monkeypatch.setattr(toolstack_fence, "_hand_over", lambda *_: ends.append("begun"))
        monkeypatch.setattr(toolstack_fence, "placements_of", lambda *_: PlacementView(readable, 70, "state.db"))
        failover = Failover("f-9", uuid(1), "boot-1-1", 5, Step.CANDIDATE, uuid(2), **of_this)
        d = after(h, both(newest, record(failover=failover, term=5)))
        return toolstack_fence._handed_over(d, failover), "; ".join(ends)

    assert handed() == (False, "begun")
    over, said = handed(readable=False)
    assert over and "cannot be used" in said
    over, said = handed(restless=True)
    assert over and "did not come up" in said


def test_the_newest_copy_is_read_and_lists_the_host_that_would_start_with_it(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_files, "newer_copies", lambda *_: (uuid(2), uuid(3)))

    def taken(passed: frozenset[str] = frozenset(), **of_host_2: Any) -> str:
        """Whose copy it is; empty: nobody's."""
        good = PlacementView(True, 60, "state.db", hosts=(uuid(1), uuid(2)))
        files = {uuid(2): replace(good, **of_host_2), uuid(3): replace(good, generation=59)}
        monkeypatch.setattr(restart_files, "placements_of", lambda d, host: files[host])
        found = restart_files.readable(after(h, both()), uuid(1), 58, passed)
        return found[0] if isinstance(found, tuple) else ""

    assert taken() == uuid(2) and taken(hosts=()) == uuid(2)  # an agent that does not tell its hosts
    for other in ({"hosts": (uuid(2),)}, {"readable": False}, {"generation": 58}):
        assert taken(**other) == uuid(3), other  # type: ignore[arg-type]
    assert taken(frozenset({uuid(2)})) == uuid(3) and taken(frozenset({uuid(2), uuid(3)})) == ""


def test_nobody_is_started_as_master_before_every_heard_member_has_told_its_role_since(h: Guarded) -> None:
    at = min(h.pool.live.agents[uuid(n)].facts.observed.host or 0 for n in (2, 3))

    def told(since: int | None, *changes: Change) -> bool:
        return restart_in_place._members_told(
            after(h, both(live(InPlaceProgress, seen_since=since), *changes)), uuid(1)
        )

    assert told(at - 1) and not told(at) and not told(None)  # as after a restart
    assert not told(at, silent(2)) and told(at, silent(2, 3))  # who is not heard is asked about otherwise
