"""What a new owner waits for, by what the last one may still have under way."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import poolwarden_collector as collector
from poolwarden_collector.core.devices.device_runner import VALID_MS
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.takeover import LeftBehind, Takeover
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.commit_text import PoolTail
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.cluster.takeover import LONGEST_ORDER_MS, left_behind

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, Collector, generation, names

OWNED = Ownership(POOL, "b", 20, 1, 7, "owner", "generation")
DEVICES = {
    "bmc-1": FenceDevice("bmc-1", "h1", hard_limit_ms=20_000),
    "pdu-2": FenceDevice("pdu-2", "h1", hard_limit_ms=40_000),
    "far-3": FenceDevice("far-3", "h1", hard_limit_ms=90_000, via_members=True),
}
INTENT = Entry(Kind.FENCE_INTENT, "t", {"device": "bmc-1", "attempt": 1, "run": "r1"}, "f1")
RESULT = Entry(Kind.FENCE_RESULT, "t", {"device": "bmc-1", "outcome": "done"}, "f1")
TAIL = PoolTail(PoolRecord(POOL))


def made(tail: PoolTail = TAIL, owned: Ownership = OWNED) -> LeftBehind:
    return left_behind(owned, tail, DEVICES)


def test_orders_are_over_after_the_lease_and_the_longest_order() -> None:
    assert made() == LeftBehind(orders_ms=10_000 + 15_000, power_ms=0)
    assert made().since(500) == Takeover(500, 25_500, 500)


def test_the_longest_order_is_the_longest() -> None:
    """Also of any that comes later. signing.py has none: what it wraps is no order, or says its own."""
    told = [
        (path.name, int(said.replace("_", "")))
        for path in Path(collector.__file__).parent.rglob("*.py")
        for said in re.findall(r"^\w*VALID_MS(?:: Ms)? = \(?\s*([\d_]+)", path.read_text(), re.M)
        if path.name != "signing.py"
    ]
    assert len(told) >= 15 and max(ms for _, ms in told) == LONGEST_ORDER_MS, told


def test_given_up_in_order_nothing_is_left() -> None:
    assert made(replace(TAIL, shots=frozenset({("bmc-1", "r1")})), replace(OWNED, handed_by=11)) == LeftBehind()


@pytest.mark.parametrize(("device", "lasts"), [("bmc-1", 32_000), ("pdu-2", 52_000)])
def test_a_power_off_without_a_result_is_waited_out(device: str, lasts: int) -> None:
    assert made(replace(TAIL, shots=frozenset({(device, "r1")}))).power_ms == lasts


def test_one_that_a_member_runs_waits_for_its_order_as_well() -> None:
    assert made(replace(TAIL, shots=frozenset({("far-3", "r1")}))).power_ms == 2_000 + 90_000 + 10_000 + VALID_MS


def test_a_device_that_is_not_configured_here_may_take_as_long_as_any() -> None:
    gone = made(replace(TAIL, shots=frozenset({("gone-4", "r1"), ("bmc-1", "r2")})))
    assert gone.power_ms == 2_000 + 90_000 + 10_000 + VALID_MS
    assert left_behind(OWNED, replace(TAIL, shots=frozenset({("gone-4", "r1")})), {}).power_ms == 72_000


def test_an_operators_switch_counts_as_well() -> None:
    data = {"host": "h1", "device": "bmc-1", "run": "r", "by": "eve", "on": False, "left": []}
    record = fold(PoolRecord(POOL), (Entry(Kind.SWITCH_INTENT, "t", data),))
    assert record.after.switches
    assert made(replace(TAIL, record=record)).power_ms == 32_000


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
    assert tail.shots == {("bmc-1", "r1")} and made(tail).power_ms
    mine.waited_out(tail.shots)
    await carry_out(a.to, mine.fold(tail.record))
    await a.commit(mine, INTENT)
    await a.commit(mine, RESULT)
    tail = await carry_out(a.to, commits.read(at, POOL))
    assert isinstance(tail, PoolTail) and tail.shots == frozenset()
