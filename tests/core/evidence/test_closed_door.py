"""A master that answers on its own host and refuses everybody: what it is, and what mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host, uuid

from poolwarden_collector.core.evidence.closed_door import STUNNEL, closed_door
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import Verdict, judge
from poolwarden_collector.core.model.host_facts import (
    HostEnvironment,
    HostFacts,
    Liveness,
    Probe,
    ProbeOutcome,
    ToolstackHold,
)
from poolwarden_collector.core.report.next_step import steps
from poolwarden_collector.core.state.snapshot import Snapshot

SERVICES = (("xapi.service", "active"), (STUNNEL, "active"))
DISABLED = HostEnvironment(services=SERVICES)
UP = HostEnvironment(services=SERVICES, management_interface="xenbr0")
NO_STUNNEL = replace(UP, services=((STUNNEL, "inactive"),))


class Refusing(Guarded):
    """The probes of each member end as it is said."""

    def __init__(self) -> None:
        self.outcomes = {2: ProbeOutcome.ANSWERED, 3: ProbeOutcome.ANSWERED}
        self.around = UP
        self.hold: ToolstackHold | None = None
        super().__init__()

    def facts(self, host: Host) -> HostFacts:
        found = super().facts(host)
        if host.n == 1:
            return replace(found, around=self.around, hold=self.hold)
        outcome = self.outcomes[host.n]
        if outcome is ProbeOutcome.ANSWERED:
            return found
        known = found.probe_of(uuid(1))
        answered = known.answered_at if known is not None else None
        address = known.address if known is not None else "10.0.0.1"
        probe = Probe(uuid(1), address, outcome, self.now, answered, self.now - 9_000)
        return replace(found, probes=(probe,))


def refusing(**outcomes: ProbeOutcome) -> Refusing:
    pool = Refusing()
    pool.run(10_000)
    pool.outcomes = {2: ProbeOutcome.REFUSED, 3: ProbeOutcome.REFUSED} | {int(n[1:]): o for n, o in outcomes.items()}
    return pool


def seen(pool: Refusing) -> Snapshot:
    pool.run(12_000)
    return Snapshot(pool.pool, pool.now, pool.site)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("around", "why", "fix"),
    [
        (DISABLED, "management interface is disabled", "xe host-management-reconfigure"),
        (UP, "port 443 is closed", "xsconsole"),
        (NO_STUNNEL, "stunnel", "systemctl restart stunnel@xapi"),
        (HostEnvironment(), "port 443 is closed", "xe host-management-reconfigure"),
    ],
)
def test_it_is_told_what_refuses_and_what_mends_it(around: HostEnvironment, why: str, fix: str) -> None:
    pool = refusing()
    pool.around = around
    state = seen(pool)
    door = closed_door(state, uuid(1))
    assert door is not None and why in door.why and fix in door.fix
    assert judge(signs(state)) is Verdict.POOL_SPLIT and fix in " ".join(steps(state, Verdict.POOL_SPLIT))
    pool.run(300_000)
    assert pool.promoted() == [] and pool.pool.record.failover is None


@pytest.mark.parametrize("other", [ProbeOutcome.NO_ANSWER, ProbeOutcome.UNREACHABLE, ProbeOutcome.ANSWERED])
def test_filtered_is_not_refused_and_one_answer_is_enough(other: ProbeOutcome) -> None:
    assert closed_door(seen(refusing(h3=other)), uuid(1)) is None


def test_a_host_that_is_held_or_does_not_answer_itself_has_no_such_door() -> None:
    held = refusing()
    held.hold = ToolstackHold(2, True, True)
    assert closed_door(seen(held), uuid(1)) is None
    down = refusing()
    down.host(1).liveness = Liveness.DOWN
    assert closed_door(seen(down), uuid(1)) is None
    silent = refusing()
    silent.host(1).agent = False
    assert closed_door(seen(silent), uuid(1)) is None
    assert closed_door(seen(refusing()), "") is None
