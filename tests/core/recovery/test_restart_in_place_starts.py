"""The start at the end of a restart in place: on which yes, on which file, and what is looked at again before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.pool import CAPABLE, Host
from tests.core.recovery.test_restart_in_place import WEB, Hung, boots, is_set, kills, stopped_and_asked

from poolwarden_collector.core.decision import restart_files
from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import DatabaseTransferred
from poolwarden_collector.core.model.order_results import OrderOutcome, PlacementView
from poolwarden_collector.core.model.orders import Order, ToolstackRelease
from poolwarden_collector.core.recovery import restart_in_place
from poolwarden_collector.core.state.transaction import Transaction


def everything_kills(g: Hung) -> None:
    """Its file and every copy place the VM elsewhere."""
    g.own = (50, kills(50))
    for n, generation in ((1, 50), (2, 55), (3, 53)):
        g.host(n).placements = kills(generation)


def starts_anew(g: Hung) -> None:
    g.restart_collector()
    for host in g.hosts:
        g.connect(host, capabilities=CAPABLE | {restart_files.CAPABILITY})


def pauses_for_long(g: Hung) -> None:
    g.say("pause", reason="work")
    g.run(g.policy.approval_valid + 10_000, tick=2_000)
    g.say("resume")


@pytest.mark.slow
@pytest.mark.parametrize("when", [Kind.IN_PLACE_INTENT, Kind.IN_PLACE_START])
@pytest.mark.parametrize(
    "passes", [starts_anew, pytest.param(pauses_for_long, marks=pytest.mark.slow)], ids=lambda f: f.__name__
)
def test_a_yes_from_before_a_restart_or_a_long_pause_is_asked_for_again(
    passes: Callable[[Hung], None], when: Kind
) -> None:
    g = Hung()
    everything_kills(g)
    asked = g.until(Kind.ASKED, "newer than its own file")
    said = g.say("approve", id=asked.data["id"], accept_kill="1")
    assert said is not None and said.accepted
    if when is Kind.IN_PLACE_START:
        late(g)
    g.until(when)
    sent = len(g.released())
    passes(g)
    again = g.until(Kind.ASKED, "is not started")
    g.run(150_000)
    assert len(g.released()) == sent and g.pool.record.in_place is not None
    g.on_order = g.obeys
    said = g.say("approve", id=again.data["id"], accept_kill="1")
    assert said is not None and said.accepted, said
    g.until(Kind.RESTART_RESULT)
    assert len(g.released()) > sent and not g.owes()


def late(g: Hung) -> None:
    """Its release never arrives there."""

    def obeys(host: Host, order: Order) -> OrderOutcome | None:
        return None if isinstance(order.kind, ToolstackRelease) else g.obeys(host, order)

    g.on_order = obeys


def test_a_yes_to_one_vm_starts_nothing_that_kills_another() -> None:
    g = Hung()
    everything_kills(g)
    asked = g.until(Kind.ASKED, "newer than its own file")
    said = g.say("approve", id=asked.data["id"], accept_kill="1")
    assert said is not None and said.accepted
    g.until(Kind.IN_PLACE_INTENT)
    g.host(1).domains = ("vm-another",)
    assert g.until(Kind.ASKED, "is not started").data["vms"] == ["vm-another"]
    g.run(60_000)
    assert not g.released()


@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    [
        pytest.param(Kind.IN_PLACE_INTENT, marks=pytest.mark.slow),
        Kind.HANDOVER_RESULT,
        pytest.param(Kind.IN_PLACE_START, marks=pytest.mark.slow),
    ],
)
def test_the_time_of_a_pause_is_none_of_its_steps(when: Kind) -> None:
    g = Hung()
    if when is Kind.IN_PLACE_START:
        late(g)
    g.until(when)
    g.run(1_000)
    pauses_for_long(g)
    g.on_order = g.obeys
    g.until(Kind.RESTART_RESULT)
    assert not [e for e in g.journal if e.kind is Kind.IN_PLACE_ENDED and "given up" in e.text]


def test_a_copy_that_is_far_ahead_by_the_time_it_is_read_is_not_started_with() -> None:
    g = Hung()
    given = g.hand_over

    def another(effect: HandOver) -> DatabaseTransferred:
        for host in (g.by_uuid(effect.source), g.host(1)):
            host.generation, host.placements = 50_000_000, PlacementView(True, 50_000_000, "restore_db.db", (WEB,))
        return given(effect)

    g.hand_over = another  # type: ignore[method-assign]
    g.until(Kind.RESTART_RESULT)
    assert g.released() == [ToolstackRelease(True)] and g.has(Kind.IN_PLACE_REMOVED)


@pytest.mark.slow
def test_a_member_that_tells_nothing_new_of_its_role_holds_it_no_longer_than_any_step_may() -> None:
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    told, truth = g.facts(g.host(3)).observed, g.facts
    g.facts = lambda host: replace(truth(host), observed=told) if host.n == 3 else truth(host)  # type: ignore[method-assign]
    ended = g.until(Kind.IN_PLACE_ENDED, "given up", restart_in_place.STEP_LIMIT_MS + 60_000)
    assert "has told its role since" in ended.text
    g.until(Kind.RELEASED)
    assert g.released()[-1] == ToolstackRelease(True)


def cut_off(g: Hung) -> None:
    """Its agent lifts the hold, and ends before it starts xapi and answers."""

    def obeys(host: Host, order: Order) -> OrderOutcome | None:
        if isinstance(order.kind, ToolstackRelease):
            host.hold = None
            return None
        return g.obeys(host, order)

    g.on_order = obeys


def another_vm(g: Hung) -> None:
    g.host(1).domains = ("vm-web", "vm-another")


def test_a_start_that_was_cut_off_is_told_again() -> None:
    g = Hung()
    cut_off(g)
    g.until(Kind.IN_PLACE_START)
    g.run(3_000)
    g.on_order = g.obeys
    g.until(Kind.RESTART_RESULT)
    assert g.released() == [ToolstackRelease(True, restore=55)] * 2 and not g.owes()


@pytest.mark.slow
@pytest.mark.parametrize("gone", [is_set, another_vm, boots], ids=lambda f: f.__name__)
def test_what_a_start_stands_on_is_looked_at_again_before_it_is_told_again(gone: Callable[[Hung], None]) -> None:
    g = Hung()
    cut_off(g)
    g.until(Kind.IN_PLACE_START)
    g.run(3_000)
    gone(g)
    sent = len(g.released())
    g.until(Kind.IN_PLACE_ENDED, "given up", 60_000)
    assert len(g.released()) == sent


def test_a_pause_does_not_say_that_it_stands_still_once_it_is_over() -> None:
    g = Hung()
    g.until(Kind.IN_PLACE_START)
    g.say("pause", reason="work")
    g.run(30_000)
    assert g.has(Kind.IN_PLACE_ENDED) and not any("stands still" in e.text for e in g.journal if e.kind is Kind.ALERT)


def test_nothing_is_asked_about_where_nothing_is_at_stake_any_more() -> None:
    g, asked = stopped_and_asked()
    g.host(1).domains = ()
    g.report(g.host(1))
    g.say("approve", id=asked.data["id"], accept_kill="1")
    g.until(Kind.RESTART_RESULT)
    assert not any("kill 0 running" in e.text for e in g.journal)


def test_an_answer_that_was_given_is_not_waited_for() -> None:
    """The same VM is at stake as in an earlier restart of this incident, where somebody has said no."""
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    everything_kills(g)
    asked = g.until(Kind.ASKED, "is not started")
    no = {"question": asked.data["id"], "kind": "restart", "ground": asked.data["ground"], "why": "denied by alice"}
    tx = Transaction(g.pool, g.now, g.site)
    tx.note(Kind.DENIED, "denied by alice", "alice", **no)
    g.pool = tx.pool
    g.journal.extend(tx.entries)
    ended = g.until(Kind.IN_PLACE_ENDED, limit=60_000)
    assert "denied by alice" in ended.text and not g.released()
    g.run(60_000)
    assert any("is held and not released" in e.text for e in g.journal if e.kind is Kind.ALERT)


@pytest.mark.slow
def test_where_no_file_can_be_read_after_the_stop_another_member_is_promoted() -> None:
    g = Hung()
    g.flushes, g.own = 60, (60, PlacementView(False, 60, "state.db", text="broken XML"))
    g.until(Kind.IN_PLACE_ENDED, "can be read")
    g.until(Kind.DECIDED)
    assert not g.released()


def test_a_placed_file_is_removed_where_its_xapi_could_not_write_it() -> None:
    g = Hung()
    g.until(Kind.HANDOVER_RESULT)
    g.host(1).free = 0
    g.until(Kind.IN_PLACE_REMOVED)
    g.until(Kind.IN_PLACE_ENDED, limit=600_000)
    assert not [k for k in g.released() if k.restore]
