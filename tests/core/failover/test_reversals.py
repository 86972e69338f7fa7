"""After the promote intent: a candidate that dies, a promotion that undoes itself, a xapi that does not come up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.known import after, record
from tests.core.pool import Guarded, Host, address, played_once, uuid

from poolwarden_collector.core.decision.permission import may_begin_again
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import BootGate, GateState, Liveness, Tombstone
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import ProcessId, Role
from poolwarden_collector.core.state.failover_record import Failover, Fencing, Step
from poolwarden_collector.core.state.pool_record import OwedWork

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


def intended(answer: bool = False) -> Guarded:
    """A pool that has lost its master's power, up to the promote intent; the candidate does not answer the order."""
    g = Guarded(policy=Policy(quiet_time=3_000, promote_budget=20_000))

    def deaf(host: Host, order: Order) -> OrderOutcome | None:
        return None if order.kind_name == "promote" and host.n == 2 and not answer else g.default(host, order)

    g.on_order = deaf
    g.cut_power()
    while not g.has(Kind.PROMOTE_INTENT):
        assert g.now < 600_000, [entry.text for entry in g.journal][-8:]
        g.run(250)
    return g


def test_a_candidate_that_is_proven_off_is_replaced_at_a_new_term() -> None:
    """S80 without a return: nobody else may be promoted until the candidate is itself proven off."""
    g = intended()
    g.host(2).agent = g.host(2).answers = False
    g.run(60_000)
    assert set(g.promoted()) == {uuid(2)} and not g.has(Kind.ABORTED)  # its power still reads ON
    g.host(2).power = Power.OFF
    g.run(60_000)
    assert "itself off" in g.entry(Kind.ABORTED).data["why"]
    assert any(item.host == uuid(2) and item.what is OwedWork.TOMBSTONE for item in g.pool.record.owed)
    assert g.promoted()[-1] == uuid(3) and g.pool.record.master == uuid(3)


def test_rebooted_into_a_shut_gate_stands_in_for_power() -> None:
    g = intended()
    g.run(1_000)
    old = g.host(1)
    old.boot, old.agent, old.power = "boot-1-2", True, Power.ON
    old.liveness, old.socket, old.process, old.serves = Liveness.DOWN, Liveness.DOWN, ProcessId(0, 0), False
    old.gate = BootGate(GateState.ASKING, "no word yet", g.now, 0)
    g.connect(old)
    g.run(20_000)
    sent = len(g.promoted())
    g.run(30_000)
    assert len(g.promoted()) == sent  # not sent again while the gate is not shut at this term
    failover = g.pool.record.failover
    assert failover is not None and "gate is not shut" in failover.standstill.why
    old.gate = BootGate(GateState.SHUT, "a successor was intended", g.now, failover.term)
    g.on_order = None
    g.run(40_000)
    assert g.pool.record.master == uuid(2)


def test_another_machine_with_its_name_is_no_proof() -> None:
    g = intended()
    old = g.host(1)
    old.boot, old.agent, old.power, old.machine = "boot-1-2", True, Power.ON, "dmi-other"
    old.liveness, old.socket, old.process, old.serves = Liveness.DOWN, Liveness.DOWN, ProcessId(0, 0), False
    old.gate = BootGate(GateState.SHUT, "a successor was intended", g.now, g.pool.record.term)
    g.connect(old)
    sent = len(g.promoted())
    g.run(60_000)
    assert len(g.promoted()) == sent and g.pool.record.master == uuid(1)


def test_a_new_master_that_demotes_itself_proves_the_proof_false() -> None:
    """S60: xapi found the old master alive at its start. The device is quarantined, the same candidate kept."""
    g = intended(answer=True)
    new = g.host(2)
    assert g.has(Kind.PROMOTE_ANSWER) or g.run(250) is None
    new.pool_conf = new.running = Role.MEMBER
    new.master_address, new.serves = address(1), False
    g.report(new)
    assert g.has(Kind.DEMOTED)
    assert g.pool.record.devices.quarantined.keys() == {"bmc-1"}
    failover = g.pool.record.failover
    assert failover is not None and (failover.candidate, failover.promotion.attempt) == (uuid(2), 2)
    g.run(120_000)
    assert g.promoted() == [uuid(2)]  # nothing is sent again on the device's word
    assert failover is not None and g.pool.record.failover is not None and g.pool.record.failover.standstill.blocker
    g.say("confirm-fenced", 1, typed_name="host-1", how="power cord pulled")
    g.run(60_000)
    orders = [order.order_id for order in new.orders if order.kind_name == "promote"]
    assert len(set(orders)) == 2 and orders[-1].endswith(".2") and g.pool.record.master == uuid(2)


def test_a_new_xapi_that_does_not_come_up_is_restarted_once_and_nobody_else_promoted() -> None:
    """S59."""
    g = Guarded(policy=Policy(quiet_time=3_000, promote_budget=20_000))

    def dies(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        if order.kind_name in ("promote", "restart_xapi"):
            host.serves, host.process, host.liveness, host.socket = False, ProcessId(0, 0), Liveness.DOWN, Liveness.DOWN
        return answer

    g.on_order = dies
    g.cut_power()
    g.run(120_000)
    restarts = [order for order in g.host(2).orders if order.kind_name == "restart_xapi"]
    assert len({order.order_id for order in restarts}) == 1 and g.promoted() == [uuid(2)]
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_UNVERIFIED"


def test_a_xapi_that_never_restarts_is_not_restarted_by_force() -> None:
    """S71: the call was accepted, the old process lives on as the member that it was."""
    g = Guarded(policy=Policy(quiet_time=3_000, promote_budget=20_000))

    def stays(host: Host, order: Order) -> OrderOutcome | None:
        process = host.process
        answer = g.default(host, order)
        if order.kind_name == "promote":
            host.serves, host.running, host.process = False, Role.MEMBER, process
        return answer

    g.on_order = stays
    g.cut_power()
    g.run(120_000)
    assert not [order for order in g.host(2).orders if order.kind_name == "restart_xapi"]
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_UNVERIFIED" and g.promoted() == [uuid(2)]


@played_once
def nobody_serves() -> Guarded:
    """Every host of the pool is a member of another: the master made itself one (both had started at once)."""
    g = Guarded()
    one = g.host(1)
    one.pool_conf = one.running = Role.MEMBER
    one.master_address, one.serves = address(2), False
    one.unwell_since = g.now
    return g


def test_where_nobody_is_master_the_newest_database_is_promoted() -> None:
    g = nobody_serves()
    g.host(1).generation = 70
    g.run(120_000)
    proof = g.entry(Kind.PROOF)
    assert proof.data["kind"] == "roles" and len(proof.data["facts"]["followed"]) == 3
    assert g.promoted() == [uuid(1)]  # its own database is the newest
    assert g.pool.record.owed == () and g.verdict == "Healthy"


@pytest.mark.slow
def test_nobody_is_promoted_while_one_host_is_silent_or_a_stranger_is_followed() -> None:
    g = nobody_serves()
    g.host(3).agent = False
    g.run(200_000)
    assert g.verdict == "NoMaster" and not g.has(Kind.DECIDED)
    assert any("host-3 is not heard" in e.text for e in g.journal if e.kind is Kind.ASKED)
    g = nobody_serves()
    g.host(3).master_address = "10.0.0.99"
    g.run(200_000)
    assert not g.promoted()
    failover = g.pool.record.failover
    assert failover is not None and "10.0.0.99, which is no host" in failover.standstill.why


def test_a_host_that_turns_out_master_ends_it() -> None:
    g = nobody_serves()
    g.host(3).master_address = "10.0.0.99"
    g.run(100_000)
    g.host(2).pool_conf = g.host(2).running = Role.MASTER
    g.host(2).serves = True
    g.run(10_000)
    assert not g.promoted() and g.pool.record.master == uuid(2)
    assert replace(g.pool.record).failover is not None and not g.pool.record.failover.open  # type: ignore[union-attr]


def test_one_that_was_just_told_to_become_master_stops_every_other_promotion() -> None:
    """It serves only after its xapi has restarted; meanwhile its pool.conf says it all."""
    g = Guarded()
    g.host(3).pool_conf = Role.MASTER  # by another collector's order, or by hand
    g.run(2_000)
    g.cut_power()
    g.run(60_000)
    assert not g.has(Kind.DECIDED)
    assert any("host-3 is set to be master" in e.text for e in g.journal if e.kind is Kind.ASKED)
    g.host(3).running, g.host(3).serves = Role.MASTER, True
    g.run(10_000)
    assert not g.promoted() and g.pool.record.master == uuid(3)


def test_and_also_when_it_is_told_so_during_the_failover() -> None:
    g = Guarded()
    g.cut_power()
    while not g.has(Kind.CANDIDATE):
        g.run(250)
    g.host(3).pool_conf = Role.MASTER
    g.report(g.host(3))
    g.run(60_000)
    failover = g.pool.record.failover
    assert failover is not None and not g.promoted() and "host-3 is set to be master" in failover.standstill.why


def made_a_member_again(g: Guarded, follows: int, stone: Tombstone | None = None) -> None:
    """The candidate has answered the order and runs anew, as a member of that host."""
    while not g.has(Kind.PROMOTE_ANSWER):
        g.run(250)
    new = g.host(2)
    new.pool_conf = new.running = Role.MEMBER
    new.master_address, new.serves, new.tombstone = address(follows), False, stone
    new.process = ProcessId(new.process.pid + 100, 1)
    g.report(new)


def test_a_candidate_that_was_made_a_member_of_another_host_blames_no_device() -> None:
    g = intended(answer=True)
    made_a_member_again(g, follows=3)
    assert g.has(Kind.DEMOTED) and "which is not host-1" in g.entry(Kind.DEMOTED).text
    assert not g.has(Kind.DEVICE_QUARANTINED)


def test_a_candidate_that_a_tombstone_has_made_a_member_ends_the_failover_and_blames_no_device() -> None:
    g = intended(answer=True)
    term = g.pool.record.term
    made_a_member_again(g, follows=1, stone=Tombstone(term, uuid(1), address(1)))
    assert not g.has(Kind.DEMOTED) and not g.has(Kind.DEVICE_QUARANTINED)
    assert "by a tombstone" in g.entry(Kind.ABORTED).data["why"]
    g.on_order = None
    g.run(60_000)
    assert g.pool.record.master == uuid(3) and g.pool.record.term > term  # a superseded copy ranks last


def test_nobody_is_promoted_beside_a_host_that_is_set_to_be_master_and_no_term_is_spent_on_it() -> None:
    """Its logins fail, say: it does not serve, and would veto each claim."""
    g = Guarded(policy=Policy(quiet_time=3_000))
    g.host(1).serves = False
    g.run(300_000)
    assert g.verdict == "NoMaster" and not g.has(Kind.DECIDED)
    assert any("set to be master" in entry.text for entry in g.journal if entry.kind is Kind.ASKED)


def test_a_ground_that_comes_back_is_given_ever_longer_to_settle() -> None:
    """An old master that everybody's claim finds alive, whose agent stays silent and whose power is not readable."""
    g = Guarded(policy=Policy(quiet_time=3_000))

    def alive(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        if order.kind_name != "claim" or answer is None or answer.claim is None:
            return answer
        return replace(answer, claim=replace(answer.claim, veto="it is alive"))

    g.on_order = alive
    g.host(1).agent = g.host(1).answers = False
    g.host(1).power = Power.UNKNOWN
    g.run(900_000)
    assert 4 <= g.kinds().count("aborted") <= 7


def test_a_power_off_of_another_host_that_may_still_land_is_waited_for() -> None:
    """The next failover would forget it, and the gate of that host would open while its off may still land."""
    g = Guarded()
    g.run(4_000)
    last = Failover("f", uuid(3), "boot-3-1", 1, step=Step.ABORTED, fencing=Fencing(pending=("bmc-3", "run")))
    found = may_begin_again(after(g, record(failover=last)))
    assert found is not None and found.code is Cause.LANDING and "host-3" in found.text
    for other in (replace(last, fencing=Fencing()), replace(last, old_master=uuid(1))):
        assert may_begin_again(after(g, record(failover=other))) is None
