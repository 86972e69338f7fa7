"""Every act waits for several facts at once: each of them changed alone, and the act that is not begun then.

A pool is brought, by events, to the step in which the act is done. That step is made once more with one fact changed
before it; in each test the act is done where nothing is changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.known import (
    Change,
    Moment,
    both,
    did,
    facts,
    hello,
    live,
    moment_of,
    of_failover,
    of_role,
    record,
    sends,
)
from tests.core.pool import Guarded, Host, uuid
from tests.core.test_gate_unheard import Booting
from tests.core.test_second_thoughts import intended
from tests.core.test_toolstack import hung, until

from poolwarden_collector.core import events as ev
from poolwarden_collector.core.engine import Outcome
from poolwarden_collector.core.facts import Ms, OrderOutcome, Role
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.orders import AnswerGate, Effect, Order, ReadPower, SendOrder
from poolwarden_collector.core.record import REVERSIBLE, Failover, Owed, Step


def kinds(outcome: Outcome) -> list[Kind]:
    return [entry.kind for entry in outcome.entries]


# ------------------------------------------------------------------------------------------------ promotion


@pytest.fixture(scope="module")
def sent_again() -> Moment:
    """A promotion that had no answer is due again; everything is made anew."""
    return moment_of(sends("promote"), lambda: intended().run(60_000), nth=2)


def test_a_promotion_is_not_sent_again_once_the_pools_term_is_a_higher_one(sent_again: Moment) -> None:
    """Another collector, or a person's command, has ended this succession; this one's order is of a lower term."""
    term = sent_again.pool.record.term
    assert did(sent_again.again(), sends("promote"))
    overtaken = sent_again.again(record(term=term + 1))
    assert not overtaken.effects
    assert overtaken.pool.record.failover is not None
    assert overtaken.pool.record.failover.blocked == "BLOCKED_TERM_PASSED"


# ------------------------------------------------------------------------------------------------ gates


def opens(effect: Effect) -> bool:
    return isinstance(effect, AnswerGate) and effect.decision == "open"


@pytest.fixture(scope="module")
def asked() -> Moment:
    """The master has rebooted, everybody is heard and follows it: its gate is opened."""

    def reboots() -> None:
        g = Booting()
        g.reboot()
        g.gate(2_000)

    return moment_of(opens, reboots)


def answered(outcome: Outcome) -> str:
    (word,) = [e for e in outcome.effects if isinstance(e, AnswerGate)]
    return f"{word.decision}: {word.reason}"


def a_failover(moment: Moment, **more: Any) -> Change:
    return record(failover=Failover("f-1", uuid(1), "boot-1-1", moment.pool.record.term, **more))


def test_no_gate_opens_while_a_power_off_of_that_host_may_still_land(asked: Moment) -> None:
    def pending(old: int, step: Step = Step.ABORTED) -> Change:
        run = (f"bmc-{old}", "aaaaaaaa/off/1.7")
        return both(a_failover(asked, step=step, fence_pending=run), of_failover(old_master=uuid(old)))

    assert answered(asked.again()).startswith("open")
    for step in (Step.ABORTED, Step.DECIDED, Step.CANDIDATE):
        word = answered(asked.again(pending(1, step)))
        assert word == "wait: a power-off of this host may still be under way"
    assert answered(asked.again(pending(2))).startswith("open")  # of another host


def test_a_gate_that_opens_ends_a_failover_that_can_still_be_undone(asked: Moment) -> None:
    """It was decided while that host was away; now it may start as master, and nobody may succeed it any more."""
    for step in REVERSIBLE:
        outcome = asked.again(a_failover(asked, step=step))
        assert answered(outcome).startswith("open") and Kind.ABORTED in kinds(outcome), step
        failover = outcome.pool.record.failover
        assert failover is not None and failover.step is Step.ABORTED
        assert outcome.pool.record.term > asked.pool.record.term  # whatever was sent for it is refused from now on


# ------------------------------------------------------------------------------------------------ releases


@pytest.fixture(scope="module")
def released_as_master() -> Moment:
    """A toolstack was held for a promotion that was given up: it starts as master again."""

    def undone() -> None:
        g = hung()

        def lies(host: Host, order: Order) -> OrderOutcome | None:
            answer = g.default(host, order)
            if order.kind_name == "toolstack_fence":
                g.host(1).answers, g.host(1).closed = True, False
            return answer

        g.on_order = lies
        until(g, Kind.ABORTED)
        g.run(30_000)

    return moment_of(sends("toolstack_release"), undone)


def test_a_held_host_is_not_released_as_a_second_master(released_as_master: Moment) -> None:
    released = sends("toolstack_release")
    assert did(released_as_master.again(), released)
    serves = of_role(2, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    assert not did(released_as_master.again(serves), released)
    assert not did(released_as_master.again(both(serves, owed_a_tombstone(2))), released)  # superseded, serves still


def owed_a_tombstone(n: int) -> Change:
    return lambda pool: record(owed=(*pool.record.owed, Owed(uuid(n), "tombstone", uuid(1), 1)))(pool)


# ------------------------------------------------------------------------------------------------ members


def repoints(n: int) -> Any:
    return lambda e: isinstance(e, SendOrder) and e.order.kind_name == "repoint" and e.order.host == uuid(n)


@pytest.fixture(scope="module")
def repointed() -> Moment:
    """Host 3 has claimed, and is repointed to the new master."""

    def succeeded() -> None:
        g = Guarded()
        g.cut_power()
        g.run(60_000)

    return moment_of(repoints(3), succeeded)


def test_a_member_that_was_in_no_forecast_is_not_repointed_unasked(repointed: Moment) -> None:
    """Its answer to the claim said what its xapi's restart costs; without that it is asked first."""
    assert did(repointed.again(), repoints(3))
    runs = facts(3, lambda f: replace(f, domains=("vm-7",), observed=replace(f.observed, host=repointed.now)))
    assert did(repointed.again(runs), repoints(3))  # it has claimed: its VMs were in the forecast that was accepted
    unclaimed = repointed.again(both(runs, of_failover(claimed=(uuid(2),))))
    assert not did(unclaimed, repoints(3))
    assert did(repointed.again(of_failover(claimed=(uuid(2),))), repoints(3))  # nothing runs there


# ------------------------------------------------------------------------------------------------ bonds


def test_a_reading_from_before_its_host_was_connected_binds_nothing() -> None:
    """It may have read the machine of another time, which had this address."""
    g = Guarded()
    g.run(60_000)
    host, agent = g.host(1), g.pool.live.agents[uuid(1)]

    def read(began: Ms, boot: str = host.boot) -> Outcome:
        run = ReadPower(uuid(1), "bmc-1", "run-1", identify=True)
        reading = replace(host.read(run, began), ended_at=g.now)
        state = replace(g.pool.live.power["bmc-1"], running="run-1")
        unbound = both(
            record(devices=replace(g.pool.record.devices, bonds={})),
            live(power={**g.pool.live.power, "bmc-1": state}),
            hello(1, boot_id=boot),
        )
        return Moment(g.pool, ev.PowerRead(uuid(1), "run-1", reading), g.now, g.site).again(unbound)

    assert Kind.DEVICE_BOUND in kinds(read(agent.connected_at))
    assert Kind.DEVICE_BOUND not in kinds(read(agent.connected_at - 1))
    assert Kind.DEVICE_BOUND not in kinds(read(g.now, "boot-1-2"))  # of a boot that is not on record yet
