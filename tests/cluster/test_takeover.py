"""What a new owner waits for, by what the last one may still have under way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwarden_collector.core.failover import last_look
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.state import order_delivery
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.cluster.takeover import LONGEST_ORDER_MS, Takeover, takeover

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, Collector, generation, names

OWNED = Ownership(POOL, "b", 20, 1, 7, "owner", "generation")
LIMITS = {"bmc-1": 20_000, "pdu-2": 40_000}
AT = 100_000
INTENT = Entry(Kind.FENCE_INTENT, "t", {"device": "bmc-1", "attempt": 1, "run": "r1"}, "f1")
RESULT = Entry(Kind.FENCE_RESULT, "t", {"device": "bmc-1", "outcome": "done"}, "f1")
TAIL = PoolTail(PoolRecord(POOL))


def made(tail: PoolTail = TAIL, owned: Ownership = OWNED) -> Takeover:
    return takeover(owned, tail, AT, LIMITS)


HOSTS = ("h1", "h2", "h3")


def test_orders_are_over_after_the_lease_and_the_longest_order() -> None:
    wait, heard = made(), {"h1", "h2"}
    assert wait.orders_over == AT + 10_000 + 15_000
    assert wait.why_no_failover(AT + 24_999, HOSTS, heard, heard), "h3 has not been told, and nobody hears it"
    assert not wait.why_no_failover(AT + 25_000, HOSTS, heard, heard)
    assert not wait.why_no_power(AT)


def test_once_every_agent_has_acknowledged_nothing_is_waited_for() -> None:
    assert not made().why_no_failover(AT + 1, HOSTS, HOSTS, HOSTS)
    assert not made().why_no_failover(AT + 1, HOSTS, (), HOSTS), "whoever falls silent later has been told"
    assert made().why_no_failover(AT + 1, HOSTS, HOSTS, HOSTS[:2])


def test_the_longest_order_is_the_longest() -> None:
    assert max(order_delivery.ORDER_VALID_MS, last_look.ORDER_VALID_MS, last_look.SHOT_VALID_MS) == LONGEST_ORDER_MS


def test_who_is_heard_has_to_acknowledge_for_a_while() -> None:
    handed = made(owned=replace(OWNED, handed_by=11))
    assert not handed.why_no_failover(AT, HOSTS, {"h1"}, {"h1"})
    assert "1 agents" in handed.why_no_failover(AT + 14_999, HOSTS, {"h1", "h2"}, {"h1"})
    assert not handed.why_no_failover(AT + 15_000, HOSTS, {"h1", "h2"}, {"h1"})


@pytest.mark.parametrize(("device", "until"), [("bmc-1", 32_000), ("pdu-2", 52_000), ("gone-3", 52_000)])
def test_a_power_off_without_a_result_is_waited_out(device: str, until: int) -> None:
    wait = made(replace(TAIL, shots=frozenset({(device, "r1")})))
    assert wait.power_over == AT + until
    assert "may still land" in wait.why_no_power(AT + until - 1)
    assert wait.why_no_failover(AT + until - 1, HOSTS, HOSTS, HOSTS)
    assert not wait.why_no_power(AT + until)


def test_an_operators_switch_counts_as_well() -> None:
    data = {"host": "h1", "device": "bmc-1", "run": "r", "by": "eve", "on": False, "left": []}
    record = fold(PoolRecord(POOL), (Entry(Kind.SWITCH_INTENT, "t", data),))
    assert record.after.switches
    assert made(replace(TAIL, record=record)).power_over == AT + 32_000


@in_virtual_time
async def test_a_power_off_of_a_failover_that_was_ended_is_known_after_folds(cluster: ModelCluster) -> None:
    at = names()
    await generation(cluster, at)
    a = await Collector(cluster, "a", at).joined()
    mine = await a.owns()
    await a.commit(mine, INTENT)
    aborted = Entry(Kind.ABORTED, "t", {"why": "an operator", "new_term": 2}, "f1")
    before = await carry_out(a.to, commits.read(at, POOL))
    assert isinstance(before, PoolTail) and before.shots == {("bmc-1", "r1")}
    await a.commit(mine, aborted)
    await carry_out(a.to, mine.fold(fold(PoolRecord(POOL), (aborted,))))
    tail = await carry_out(a.to, commits.read(at, POOL))
    assert isinstance(tail, PoolTail) and tail.record.failover is None
    assert tail.shots == {("bmc-1", "r1")} and made(tail).power_over > AT
    mine.waited_out(tail.shots)
    await carry_out(a.to, mine.fold(tail.record))
    await a.commit(mine, INTENT)
    await a.commit(mine, RESULT)
    tail = await carry_out(a.to, commits.read(at, POOL))
    assert isinstance(tail, PoolTail) and tail.shots == frozenset()
