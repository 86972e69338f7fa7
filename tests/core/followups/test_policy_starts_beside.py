"""Starts of lost VMs beside each other, beside a person's word, and after their list was over."""

from dataclasses import replace

import pytest
from tests.core.followups.test_lost_vms import told_to_another
from tests.core.followups.test_policy_starts import Wishing
from tests.core.pool import POOL, Host, uuid

from poolwarden_collector.core.followups import vm_places
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, StartWish
from poolwarden_collector.core.model.orders import LocateVms, Order, StartVm
from poolwarden_collector.core.recovery import switchover
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.live_slices import VmPlaces
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


def test_one_start_at_a_time_as_the_masters_agent_has_it() -> None:
    """The second order would wait there for the first start, and be late when that ends."""
    w = Wishing(vms=3)
    w.start_answer = None
    w.dies()
    w.g.run(60_000)
    assert len(w.started) == 1 and sorted(w.states().values()) == ["queued", "queued", "starting"]
    w.start_answer = Outcome.DONE
    w.g.run(300_000)
    assert sorted(vm for vm, _ in w.started) == ["vm-1", "vm-2", "vm-3"]


def no_room_for(w: Wishing, vm: str, after: int = 1) -> None:
    """Once so many have started, no host has room for this VM."""
    honest = w.answer

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        found = honest(host, order)
        if found is None or not isinstance(order.kind, LocateVms) or len(w.started) < after:
            return found
        full = ((uuid(2), "HOST_NOT_ENOUGH_FREE_MEMORY"), (uuid(3), "HOST_NOT_ENOUGH_FREE_MEMORY"))
        return replace(
            found, vm_places=tuple(replace(each, hosts=full) if each.vm == vm else each for each in found.vm_places)
        )

    w.g.on_order = answer


def test_one_that_something_of_its_own_stands_against_holds_no_other() -> None:
    w = Wishing(vms=3)
    no_room_for(w, "vm-2")
    w.wishes = {
        "vm-1": StartWish(True, order=0, delay=10_000),
        "vm-2": StartWish(True, order=1),
        "vm-3": StartWish(True, order=2),
    }
    w.dies()
    w.g.run(60_000)
    assert [vm for vm, _ in w.started] == ["vm-1", "vm-3"]
    assert w.states() == {"vm-1": "started", "vm-2": "queued", "vm-3": "started"} and "web2" in w.alerts()


def test_a_persons_word_starts_what_the_policy_has_queued_and_holds() -> None:
    """The alert names this command."""
    w = Wishing()
    w.wishes = {"vm-1": StartWish(True, order=0, delay=60_000), "vm-2": StartWish(True, order=1)}
    w.dies()
    w.until(lambda: len(w.started) == 1, 60_000)
    w.g.host(3).agent = False
    w.g.run(70_000)
    assert len(w.started) == 1 and "web2" in w.alerts()
    reply = w.g.say("start-lost")
    assert reply is not None and reply.accepted and "starting 1 of" in reply.text
    w.g.run(30_000)
    assert [vm for vm, _ in w.started] == ["vm-1", "vm-2"]
    last = w.told("start_vm")[-1].kind
    assert isinstance(last, StartVm) and not last.only_if_wished


@pytest.mark.parametrize("by_policy", [True, False])
def test_a_vm_that_runs_in_another_pool_is_not_started(by_policy: bool) -> None:
    """Somebody has brought it there, by a copy of its disks or by the disks themselves."""
    w = Wishing()
    if not by_policy:
        w.wishes = {"vm-1": StartWish(False), "vm-2": StartWish(False)}
    w.g.site = replace(w.g.site, elsewhere=frozenset({"vm-1"}))
    w.dies()
    w.g.run(60_000)
    if not by_policy:
        w.g.say("start-lost")
        w.g.run(60_000)
    assert [vm for vm, _ in w.started] == ["vm-2"]
    assert w.states()["vm-1"] == "failed" and "another pool" in w.g.pool.record.after.lost["vm-1"].why
    assert not by_policy or "another pool" in w.alerts()


def test_what_a_master_of_before_tells_is_no_answer_of_this_one() -> None:
    w = Wishing()
    w.dies()
    order = w.told("locate_vms")[-1]
    sent = w.g.pool.live.sent[order.order_id]
    tx = Transaction(w.g.pool, w.g.now, w.g.site)
    tx.change(PoolLive, sent={order.order_id: replace(sent, host=uuid(3))})
    tx.change(VmPlaces, places={}, locating=(order.order_id,))
    vm_places.learn(tx)
    assert not tx.live.vm_places.places and not tx.live.vm_places.locating


def test_nothing_starts_while_the_role_is_handed_on_and_the_role_waits_for_a_start() -> None:
    """Every xapi restarts in a switchover, and what it is starting ends with it."""
    w = Wishing()
    w.wishes = {"vm-1": StartWish(False), "vm-2": StartWish(False)}
    w.dies()
    w.g.run(60_000)
    planned = {"host": uuid(3), "before": uuid(2), "by": "anna", "order": "order-1"}
    w.g.journal.append(Entry(Kind.DESIGNATE_INTENT, "anna hands the role on", planned))
    record, live = fold(PoolRecord(POOL), w.g.journal), replace(w.g.pool.live, designating=w.g.now)
    w.g.pool = replace(w.g.pool, record=record, live=live)
    w.g.say("start-lost")
    w.g.run(20_000)
    assert w.started == [] and set(w.states().values()) == {"queued"}
    w.start_answer = None
    w.until(lambda: bool(w.started), w.g.pool.policy.transition_hold + 60_000)
    assert w.g.has(Kind.DESIGNATE_RESULT)
    assert "web1" in switchover._standing(Snapshot(w.g.pool, w.g.now, w.g.site), uuid(3))


@pytest.mark.parametrize("ended", ["forgotten", "all run", "started at a word"])
def test_a_list_that_is_over_is_no_policys_matter_where_an_older_copy_brings_it_back(ended: str) -> None:
    """Its owner may have shut a VM down since it ran again, and whoever forgot the list has seen to them himself."""
    w = Wishing()
    if ended != "all run":
        w.wishes = {"vm-1": StartWish(False), "vm-2": StartWish(False)}
    if ended == "started at a word":
        no_room_for(w, "vm-2", after=0)
    w.dies()
    w.g.run(30_000)
    if ended == "forgotten":
        w.g.say("start-lost", forget="yes")
    elif ended == "started at a word":
        w.g.say("start-lost")
    w.g.run(60_000)
    w.wishes = {}
    w.g.on_order = w.answer
    before = len(w.started)
    told_to_another(w)
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(120_000)
    again = {vm: item.state for vm, item in w.g.pool.record.after.lost.items()}
    if ended == "started at a word":
        assert [vm for vm, _ in w.started].count("vm-1") == 1 and again["vm-1"] == "failed"
    else:
        assert len(w.started) == before and again == {"vm-1": "lost", "vm-2": "lost"}
    w.g.say("start-lost")
    w.g.run(60_000)
    assert w.started[-1][0] in ("vm-1", "vm-2") and len(w.started) > before, "at a word it starts"
