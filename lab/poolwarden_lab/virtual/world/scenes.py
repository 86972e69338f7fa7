"""Stories that can be cut anywhere: what is done to the pool, and what must be so in the end.

A story reacts to what it sees, it does not follow a clock: after a killed collector everything comes later. Each ends
with one master, everybody with power attached to it, the failover closed, and its alert raised once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_lab.virtual.world.bmc import BmcMode
from poolwarden_lab.virtual.world.pool import QUIET_MS, Simulation
from poolwarden_lab.xapi.database import RESTORE_DB
from poolwarden_lab.xapi.trees import VmSpec

LIMIT_MS = 900_000
AFTERWARDS_MS = 20_000
OPERATOR_LOOKS_MS = 5_000

PROMOTION_ORDER = [
    "h2 promote-call",
    "h2 pool.conf",
    "h2 fuse",
    "h2 promoted",
    "h2 exit",
    "h2 xapi-start",
    "h2 role",
    "h2 db-loaded",
    "h2 pool-master",
    "h3 pool.conf",
    "h3 fuse",
    "h3 repointed",
    "h3 exit",
    "h3 xapi-start",
    "h3 role",
    "h3 init-complete",
]
"""What a promotion of h2 and the repointing of h3 must show in this order, in virtual time and on sockets."""


@dataclass(frozen=True)
class Story:
    """``build`` gives the pool before the harm, ``play`` does it and runs to the end; only ``play`` is cut."""

    name: str
    build: Callable[[], Simulation]
    play: Callable[[Simulation], None]


def promotion_events(sim: Simulation) -> list[str]:
    """The first occurrences, since the promotion, of what PROMOTION_ORDER names, in the order of this run."""
    since = min((entry.ms for entry in sim.pool.events("promote-call")), default=0)
    seen = [f"{entry.host} {entry.event.name}" for entry in sim.pool.events(since_ms=since)]
    return [name for name in dict.fromkeys(seen) if name in PROMOTION_ORDER]


def _pool(policy: Policy | None = None) -> Simulation:
    vms = [VmSpec("web", 1), VmSpec("mail", 2), VmSpec("db", 0)]
    return Simulation(3, policy=policy, vms=vms).begin()


def _finish(sim: Simulation) -> None:
    sim.run_until(lambda: sim.has(Kind.PROMOTE_INTENT), LIMIT_MS)
    master = sim.name_of(sim.ledger.of(Kind.PROMOTE_INTENT)[-1].data["host"])
    sim.run_until(lambda: sim.healed(master) and sim.shell is not None and sim.shell.alive, LIMIT_MS)
    sim.run(AFTERWARDS_MS)
    _expect(sim.healed(master), "it does not stay healed", sim)
    _expect(sim.promote_calls() == [master], f"promote calls: {sim.promote_calls()}", sim)
    _expect(len(sim.ledger.of(Kind.DECIDED)) == 1, "more than one failover was decided", sim)
    done = [
        o.alert.key for o in sim.ledger.outbox if isinstance(o.alert, AlertRaised) and o.alert.key.endswith("/done")
    ]
    _expect(len(done) == 1, f"the final alert was raised {len(done)} times", sim)
    _expect(sim.vms_killed() == [], f"xapi terminated {sim.vms_killed()}", sim)


def _expect(holds: bool, why: str, sim: Simulation) -> None:
    if not holds:
        raise AssertionError(f"{why}\n{sim.story()}")


def _power(sim: Simulation) -> None:
    sim.power_off(1)
    _finish(sim)


def _human(sim: Simulation) -> None:
    """Power and BMC are gone; an operator looks every few seconds and confirms whenever a person is asked for."""
    sim.set_bmc(1, BmcMode.UNREACHABLE)
    sim.power_off(1)
    _operator(sim)
    _finish(sim)


def _operator(sim: Simulation) -> None:
    def look() -> None:
        failover = sim.record.failover
        if failover is not None and failover.open:
            if sim.shell is not None and sim.shell.alive and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN":
                sim.confirm_fenced(1)
            if sim.shell is not None and sim.shell.alive and failover.standstill.blocker == "BLOCKED_PROOF_NOT_RENEWED":
                sim.confirm_fenced(1)
        sim.at(sim.now + OPERATOR_LOOKS_MS, look)

    sim.at(sim.now + OPERATOR_LOOKS_MS, look)


def _shot(sim: Simulation) -> None:
    """dom0 stands still with its power on; the policy lets it be shot after patience."""
    sim.freeze(1)
    _finish(sim)


def _taken_over(until: Kind) -> Simulation:
    """A pool whose master has lost its power, up to this step of the failover."""
    sim = _pool()
    sim.pool.boot_ms = 5_000
    sim.power_off(1)
    sim.run_until(lambda: sim.has(until), LIMIT_MS)
    return sim


def _return(sim: Simulation) -> None:
    """The old master comes back while the failover is being finished, and must become a member."""
    sim.power_on(1)
    sim.run_until(lambda: sim.record.failover is not None and not sim.record.failover.open, LIMIT_MS)
    sim.run_until(lambda: not sim.record.owed, LIMIT_MS)
    _finish(sim)


def _serves_unseen() -> Simulation:
    """The old master came back where nobody sees it, and serves as master again."""
    sim = _taken_over(Kind.CLOSED)
    sim.isolate(1)
    sim.ungated.add("h1")  # an agent without a boot gate: with one it would never serve there
    sim.power_on(1)
    sim.run_until(lambda: "h1" in sim.masters() and sim.initialised(), LIMIT_MS)
    return sim


def _late_return(sim: Simulation) -> None:
    """The collector reaches its agent first, the pool later."""
    sim.heal("h1", "collector")
    sim.run_until(lambda: "h1" not in sim.masters(), LIMIT_MS)
    sim.run(AFTERWARDS_MS)
    _expect("h1" not in sim.masters(), "the superseded master serves again", sim)
    sim.rejoin(1)
    sim.run_until(lambda: not sim.record.owed, LIMIT_MS)
    _finish(sim)


def _restarted_in_place(sim: Simulation) -> None:
    """The master's xapi hangs for good beside a newer copy of its database: it serves again, and nobody is promoted."""
    sim.wedge_xapi(1)
    sim.run_until(lambda: sim.has(Kind.IN_PLACE_ENDED), LIMIT_MS)

    def well() -> bool:
        serves = sim.masters() == ["h1"] and sim.lab.follow("h1") and sim.initialised()
        return serves and sim.shell is not None and sim.shell.alive and sim.verdict == "Healthy"

    sim.run_until(lambda: well() and sim.record.in_place is None and not sim.record.owed, LIMIT_MS)
    sim.run(AFTERWARDS_MS)
    _expect(well(), "it does not stay well", sim)
    _expect(not sim.promote_calls() and not sim.ledger.of(Kind.DECIDED), "somebody was to be promoted", sim)
    _expect(not sim.pool.hosts["h1"].disk.exists(RESTORE_DB), "a placed database was left behind", sim)
    _expect(sim.vms_killed() == [], f"xapi terminated {sim.vms_killed()}", sim)


SHOOTS = Policy(quiet_time=QUIET_MS, auto_fence_running=True, patience=20_000)
STORIES = {
    story.name: story
    for story in (
        Story("power", _pool, _power),
        Story("human", _pool, _human),
        Story("shot", lambda: _pool(SHOOTS), _shot),
        Story("return", lambda: _taken_over(Kind.PROMOTED), _return),
        Story("late-return", _serves_unseen, _late_return),
        Story("in-place", _pool, _restarted_in_place),
    )
}
