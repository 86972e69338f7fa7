"""A restart in place with the newest copy: held, copied, forecast, started; given up when its ground is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.core.pool import CAPABLE, Guarded, Host, running, uuid

from poolwarden_collector.core.decision import restart_files
from poolwarden_collector.core.failover import steps as machine
from poolwarden_collector.core.model.effects import HandOver
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import AgentGone, DatabaseTransferred
from poolwarden_collector.core.model.host_facts import Liveness, ToolstackHold
from poolwarden_collector.core.model.order_results import OrderOutcome, PlacementView
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.orders import Order, PlaceDatabase, ToolstackRelease
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.recovery import restart_in_place
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.transaction import Transaction

pytestmark = pytest.mark.slow  # minutes of a pool's life in each

WEB = running("vm-web", uuid(1), "web")


class Hung(Guarded):
    """The master's xapi hangs, with generation 50 on its disk; host 2 has a copy of 55, host 3 one of 53."""

    def __init__(self, hosts: int = 3, able: bool = True, **policy: object) -> None:
        wanted: dict[str, Any] = {"quiet_time": 3_000, "collector_probe": False, **policy}
        super().__init__(hosts, policy=Policy(**wanted))
        self.flushes = 0  # the generation that its stop writes; 0: it is killed
        self.own = (50, PlacementView(True, 50, "state.db", (WEB,)))
        self.transfers = True
        self.damaged = PlacementView(True, 0, "restore_db.db", (WEB,))  # what lies there differs from what was read
        self.damages, self.stops = False, True
        for host in self.hosts:
            can = CAPABLE | {restart_files.CAPABILITY} if able else CAPABLE
            self.connect(host, capabilities=can)
            host.placements = PlacementView(True, host.generation, "state.db", (WEB,))
        self.run(12_000)
        for n, generation in ((2, 55), (3, 53)):
            if n <= hosts:
                self.host(n).generation = generation
                self.host(n).placements = PlacementView(True, generation, "state.db", (WEB,))
        host = self.host(1)
        host.liveness = host.socket = Liveness.SILENT
        host.unwell_since, host.answers, host.serves = self.now, False, False
        host.domains = ("vm-web",)
        self.on_order = self.obeys

    def obeys(self, host: Host, order: Order) -> OrderOutcome | None:
        kind = order.kind
        if order.kind_name == "toolstack_fence" and not self.stops:
            host.hold = ToolstackHold(order.term, False, False, self.now)
            return OrderOutcome(order.order_id, order.kind_name, End.FAILED, "xapi-error", "xapi runs")
        if order.kind_name == "toolstack_fence" and self.flushes:
            self.own = (self.flushes, replace(self.own[1], generation=self.flushes))
            host.generation, host.placements = self.own
        own = isinstance(kind, PlaceDatabase) or (isinstance(kind, ToolstackRelease) and not kind.restore)
        if own and host.n == 1:
            host.generation, host.placements = self.own
        return self.default(host, order)

    def hand_over(self, effect: HandOver) -> DatabaseTransferred:
        if not self.transfers:
            end = (effect.transfer_id, effect.source, effect.target, False, 0, 0, "", "no answer")
            return DatabaseTransferred(*end)
        done = super().hand_over(effect)
        if self.damages:
            self.by_uuid(effect.target).placements = replace(self.damaged, generation=done.generation)
        return done

    def until(self, kind: Kind, text: str = "", limit: int = 400_000) -> Entry:
        end = self.now + limit
        while not any(e.kind is kind and text in e.text for e in self.journal):
            assert self.now < end, f"no {kind.value} {text}: {[e.text for e in self.journal][-8:]}"
            self.run(250)
        return next(e for e in self.journal if e.kind is kind and text in e.text)

    def released(self) -> list[ToolstackRelease]:
        return [o.kind for o in self.host(1).orders if isinstance(o.kind, ToolstackRelease)]

    def kinds(self) -> list[str]:
        wanted = ("in-place", "handover", "remove", "release", "restart", "decided", "promote")
        return [e.kind.value for e in self.journal if e.kind.value.startswith(wanted)]

    def owes(self) -> set[OwedWork]:
        return {item.what for item in self.pool.record.owed if item.host == uuid(1)}


def kills(generation: int) -> PlacementView:
    """A file that places the master's VM elsewhere."""
    return PlacementView(True, generation, "state.db", (running("vm-web", uuid(3), "web"),))


def test_held_copied_forecast_started_and_nobody_is_promoted() -> None:
    g = Hung()
    g.until(Kind.RESTART_RESULT)
    steps = ["in-place-intent", "handover-intent", "handover-result", "in-place-start", "release-intent"]
    assert g.kinds() == [*steps, "in-place-ended", "restart-result"]
    assert g.released() == [ToolstackRelease(True, restore=55)]
    hold, start = g.entry(Kind.IN_PLACE_INTENT), g.entry(Kind.IN_PLACE_START)
    assert start.term == hold.term + 1 == g.pool.record.term
    release = next(o for o in g.host(1).orders if isinstance(o.kind, ToolstackRelease))
    assert release.term == start.term  # above the hold's: only a later decision gives the role back
    [given] = [e for e in g.effects if isinstance(e, HandOver)]
    assert (given.source, given.target, given.above, given.held_master) == (uuid(2), uuid(1), 50, True)
    assert not g.pool.record.owed and g.pool.record.in_place is None and not g.promoted()
    assert g.pool.record.holds == 0  # a failover that follows is not barred by it


def test_a_clean_stop_flushes_newer_memory_and_its_own_file_is_started_with() -> None:
    g = Hung()
    g.flushes = 60
    g.until(Kind.RESTART_RESULT)
    assert "handover-intent" not in g.kinds() and g.released() == [ToolstackRelease(True)]


def test_an_equal_file_is_not_replaced() -> None:
    g = Hung()
    g.flushes = 55
    g.until(Kind.RESTART_RESULT)
    assert "handover-intent" not in g.kinds() and g.released() == [ToolstackRelease(True)]


def test_an_agent_that_cannot_do_it_has_the_failover_of_before() -> None:
    g = Hung(able=False)
    g.until(Kind.DECIDED)
    assert "in-place-intent" not in g.kinds() and "cannot do that" in g.entry(Kind.DECIDED).text


@pytest.mark.parametrize("whose", ["own", "copy"])
def test_a_vm_at_stake_is_asked_about_before_anything_is_stopped(whose: str) -> None:
    g = Hung()
    g.host(1 if whose == "own" else 2).placements = kills(50 if whose == "own" else 55)
    if whose == "own":
        g.own = (50, kills(50))
    asked = g.until(Kind.ASKED, "newer than its own file")
    assert asked.data["vms"] == ["vm-web"] and "in-place-intent" not in g.kinds()
    refused = g.say("approve", id=asked.data["id"])
    assert refused is not None and not refused.accepted and "--accept-kill 1" in refused.next_step
    said = g.say("approve", id=asked.data["id"], accept_kill="1")
    assert said is not None and said.accepted, said
    g.until(Kind.RESTART_RESULT)
    # What kills nobody goes first, whatever was accepted: the copy if it can, else the file.
    assert g.released() == [ToolstackRelease(True, restore=55)] and not g.promoted()


def stopped_and_asked() -> tuple[Hung, Entry]:
    """Once xapi has stopped both its file and every copy would kill the VM."""
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    g.own = (50, kills(50))
    g.host(1).placements = kills(50)
    for n, generation in ((2, 55), (3, 53)):
        g.host(n).placements = kills(generation)
    return g, g.until(Kind.ASKED, "is not started")


def test_every_file_would_kill_it_is_asked_and_started_at_a_word() -> None:
    g, asked = stopped_and_asked()
    g.run(300_000)
    assert not g.released() and g.pool.record.in_place is not None and asked.data["vms"] == ["vm-web"]
    short = g.say("approve", id=asked.data["id"])
    assert short is not None and not short.accepted and "--accept-kill 1" in short.next_step
    said = g.say("approve", id=asked.data["id"], accept_kill="1")
    assert said is not None and said.accepted
    g.until(Kind.IN_PLACE_ENDED)
    assert g.entry(Kind.IN_PLACE_ACCEPTED).data["vms"] == ["vm-web"]
    assert g.released() == [ToolstackRelease(True, restore=55)]


def test_a_no_gives_it_up_and_it_is_released_once_nothing_is_at_stake() -> None:
    g, asked = stopped_and_asked()
    said = g.say("deny", id=asked.data["id"])
    assert said is not None and said.accepted and "given up" in said.text
    assert g.pool.record.in_place is None and g.owes() == {OwedWork.RELEASE}
    g.run(60_000)
    assert not g.released() and any("is held and not released" in e.text for e in g.journal if e.kind is Kind.ALERT)
    g.host(1).domains = ()
    g.run(60_000)
    assert g.released() == [ToolstackRelease(True)] and not g.owes()


def test_what_lies_there_is_forecast_once_more_and_removed_if_it_kills() -> None:
    g = Hung()
    g.damages, g.damaged = True, kills(0)
    g.until(Kind.RESTART_RESULT)
    assert g.released() == [ToolstackRelease(True)]
    assert g.kinds().count("handover-intent") == 2  # the next copy was tried as well
    removed = [e for e in g.journal if e.kind is Kind.IN_PLACE_REMOVED]
    assert len(removed) == 2 and removed[-1] in g.journal[: g.journal.index(g.entry(Kind.IN_PLACE_START))]


def test_a_copy_that_does_not_arrive_is_removed_and_its_own_file_is_started_with() -> None:
    g = Hung()
    g.transfers = False
    g.until(Kind.RESTART_RESULT)
    assert g.released() == [ToolstackRelease(True)]
    removals = [o.kind for o in g.host(1).orders if isinstance(o.kind, PlaceDatabase)]
    assert removals and all(kind == PlaceDatabase(remove=True) for kind in removals)


def test_a_member_that_falls_silent_meanwhile_has_no_copy() -> None:
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    g.host(2).agent = False
    g.feed(AgentGone(uuid(2), g.host(2).stream))
    g.until(Kind.IN_PLACE_ENDED)
    assert g.released() == [ToolstackRelease(True, restore=53)]


def serves(g: Hung) -> None:
    host = g.host(2)
    host.pool_conf = host.running = Role.MASTER
    host.serves, host.master_address = True, ""


def is_set(g: Hung) -> None:
    g.host(2).pool_conf, g.host(2).master_address = Role.MASTER, ""


def boots(g: Hung) -> None:
    g.host(1).boot = "boot-1-2"
    g.connect(g.host(1), capabilities=CAPABLE | {restart_files.CAPABILITY})


def loses_power(g: Hung) -> None:
    g.cut_power(1)


def arms_ha(g: Hung) -> None:
    for host in g.hosts:
        host.ha = Tri.YES


def observes(g: Hung) -> None:
    g.pool = replace(g.pool, policy=replace(g.pool.policy, mode="observe"))


def older_agent(g: Hung) -> None:
    g.connect(g.host(1))


GONE = [serves, is_set, boots, loses_power, arms_ha, observes, older_agent]


@pytest.mark.parametrize("gone", GONE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("when", [Kind.IN_PLACE_INTENT, Kind.HANDOVER_INTENT])
def test_it_is_given_up_when_its_ground_is_gone(when: Kind, gone: Callable[[Hung], None]) -> None:
    g = Hung()
    if when is Kind.HANDOVER_INTENT:
        g.hand_over = lambda effect: DatabaseTransferred("none", "", "", False, 0, 0, "", "")  # type: ignore[method-assign]
    g.until(when)
    term = g.pool.record.term
    gone(g)
    ended = g.until(Kind.IN_PLACE_ENDED, "given up", 60_000)
    assert ended.term > term and not [k for k in g.released() if k.restore]
    owed = {e.data["what"] for e in g.journal if e.kind is Kind.OWED}
    assert "release" in owed and ("remove-database" in owed) is (when is Kind.HANDOVER_INTENT)


def test_a_stop_that_takes_no_effect_is_given_up_beyond_systemds_own_limit() -> None:
    g = Hung()
    g.stops = False
    began = g.until(Kind.IN_PLACE_INTENT)
    at = g.now
    ended = g.until(Kind.IN_PLACE_ENDED, "was not seen stopped")
    assert (
        restart_in_place.STOP_LIMIT_MS <= g.now - at <= restart_in_place.STOP_LIMIT_MS + 5_000
        and ended.term > began.term
    )
    assert g.owes() == {OwedWork.RELEASE}


def test_what_may_lie_there_is_removed_before_the_release_is_forecast() -> None:
    g = Hung()
    g.hand_over = lambda effect: DatabaseTransferred("none", "", "", False, 0, 0, "", "")  # type: ignore[method-assign]
    g.until(Kind.HANDOVER_INTENT)
    g.run(2_000)
    g.say("release", host=1)
    g.until(Kind.RELEASED)
    order = [type(o.kind).__name__ for o in g.host(1).orders if isinstance(o.kind, PlaceDatabase | ToolstackRelease)]
    assert order.index("PlaceDatabase") < order.index("ToolstackRelease") and g.released() == [ToolstackRelease(True)]
    g.run(10_000)
    assert not g.owes()


def test_a_pause_lets_it_stand_still_and_says_so() -> None:
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    g.say("pause", reason="work")
    g.run(60_000)
    assert not g.released() and g.pool.record.in_place is not None
    alerts = [e.data["body"] for e in g.journal if e.kind is Kind.ALERT and "stands still" in e.text]
    assert alerts and "poolwarden resume" in alerts[-1]
    g.say("resume")
    g.until(Kind.RESTART_RESULT)
    assert g.released()[0].as_master


def test_mode_ask_begins_it_at_a_word_and_observe_never() -> None:
    g = Hung(mode="ask")
    asked = g.until(Kind.ASKED, "restarted in place")
    g.run(30_000)
    assert "in-place-intent" not in g.kinds()
    said = g.say("approve", id=asked.data["id"])
    assert said is not None and said.accepted
    g.until(Kind.RESTART_RESULT)
    assert g.released() == [ToolstackRelease(True, restore=55)]
    watched = Hung(mode="observe")
    watched.run(300_000)
    assert "in-place-intent" not in watched.kinds() and not watched.released()


def test_after_as_many_as_a_restart_may_be_another_member_is_promoted() -> None:
    g = Hung(xapi_restarts=1, xapi_restart_budget=20_000)
    g.until(Kind.IN_PLACE_ENDED)
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since, host.answers, host.serves = g.now, False, False
    assert "without lasting help" in g.until(Kind.DECIDED).text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: setattr(g.host(2), "generation", 10_000_000),  # far ahead: one host's word
        lambda g: setattr(g.host(2), "pool_conf", Role.BROKEN),
        lambda g: setattr(g.host(2), "master_address", "10.9.9.9"),
        lambda g: setattr(g.host(2), "generation", 50),
        lambda g: g.connect(g.host(2), capabilities=CAPABLE - {"read_database"}),
    ],
)
def test_which_copies_are_believed(spoil: Callable[[Hung], None]) -> None:
    g = Hung()
    spoil(g)
    g.run(2_000)
    found = restart_files.newer_copies(Transaction(g.pool, g.now, g.site), uuid(1), 50)
    assert found == (uuid(3),)


def test_the_newest_copy_that_can_be_read_is_taken() -> None:
    g = Hung()
    g.host(2).placements = PlacementView(False, 55, "state.db", text="broken XML")
    g.until(Kind.IN_PLACE_ENDED)
    assert g.released() == [ToolstackRelease(True, restore=53)]


def test_a_release_on_the_host_itself_ends_it() -> None:
    g = Hung()
    g.stops = True
    g.until(Kind.IN_PLACE_INTENT)
    g.run(500)
    host = g.host(1)
    host.hold, host.liveness, host.socket = None, Liveness.ANSWERS, Liveness.ANSWERS
    host.serves = host.answers = True
    g.until(Kind.IN_PLACE_ENDED)
    g.run(30_000)
    assert g.pool.record.in_place is None and not g.owes() and not g.promoted()


def test_a_failover_that_is_decided_ends_it_first() -> None:
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    tx = Transaction(g.pool, g.now, g.site)
    machine.decide(tx, "somebody says so")
    assert tx.record.in_place is None and tx.failover is not None
    assert [e.kind for e in tx.entries][:2] == [Kind.IN_PLACE_ENDED, Kind.OWED]
    assert {item.what for item in tx.record.owed if item.host == uuid(1)} == {OwedWork.RELEASE}
    assert tx.failover.term > tx.entries[0].term


def test_an_operators_release_gives_it_up() -> None:
    g, _ = stopped_and_asked()
    said = g.say("release", host=1)
    assert said is not None and said.accepted and "given up" in said.text
    assert g.pool.record.in_place is None and g.owes() == {OwedWork.RELEASE}


def test_status_says_how_far_it_is() -> None:
    g, _ = stopped_and_asked()
    held = [line.text for host in status(g.pool, g.now, g.site).hosts for line in host.facts if "held" in line.text]
    assert held == [
        "held since term 2 for its restart in place: xapi is stopped, and an operator is asked whether it may start"
    ]


def test_nobody_is_started_as_master_beside_one_that_is_set_to_be() -> None:
    g = Hung()
    g.until(Kind.IN_PLACE_INTENT)
    is_set(g)
    g.until(Kind.IN_PLACE_ENDED, "given up")
    g.run(60_000)
    assert not g.released() and any("is held and not released" in e.text for e in g.journal if e.kind is Kind.ALERT)


def test_a_collector_that_is_started_anew_goes_on_where_it_stood() -> None:
    for when in (Kind.IN_PLACE_INTENT, Kind.HANDOVER_INTENT, Kind.HANDOVER_RESULT, Kind.IN_PLACE_START):
        g = Hung()
        g.until(when)
        g.pool = replace(g.pool, live=replace(g.pool.live, sent={}))
        g.restart_collector()
        for host in g.hosts:
            g.connect(host, capabilities=CAPABLE | {restart_files.CAPABILITY})
        g.until(Kind.IN_PLACE_ENDED)
        assert g.released() and g.released()[-1] == ToolstackRelease(True, restore=55), when
        assert not g.owes() and not g.promoted()


def test_nobody_is_started_on_what_the_members_told_before() -> None:
    """A member is made master in the instant in which the copy is placed: it tells that with its next report."""
    g = Hung()
    g.until(Kind.HANDOVER_RESULT)
    is_set(g)
    g.until(Kind.IN_PLACE_ENDED, "given up", 10_000)
    assert not g.released() and not any(e.kind is Kind.IN_PLACE_START for e in g.journal)
