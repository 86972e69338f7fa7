"""The open failover step by step: what is done and how long it took, what is done now and how long it may take, what
comes next.

Theory: the steps of ``failover/steps.py`` as a person counts them; a candidate is chosen in no time, so that belongs to
its promotion. How long each took is known from this run's marks; a collector that was restarted in between has fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.decision.permission import patience
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Path, Step
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One step. ``state``: done, now, next; ``took_ms``: so far where it is done now; ``at_most_ms`` 0: no limit."""

    name: str  # a stable word: silence, claim, proof, promotion, members
    state: str
    text: str
    took_ms: Ms = 0
    took_known: bool = False
    at_most_ms: Ms = 0


@dataclass(frozen=True, slots=True)
class _Phase:
    name: str
    begin: str
    end: str
    over: Callable[[Failover], bool]
    text: Callable[[Snapshot, Failover], str]
    at_most: Callable[[Snapshot], Ms]


def steps_of(pool: Snapshot, failover: Failover) -> tuple[StepStatus, ...]:
    """Every step of this failover, in order."""
    found, now_seen = [], False
    for phase in _PHASES:
        state = "done" if phase.over(failover) else "next" if now_seen else "now"
        now_seen = now_seen or state == "now"
        found.append(_step(pool, failover, phase, state))
    return tuple(found)


def silent_since(pool: Snapshot) -> Ms | None:
    """When what led to the open failover began, as far as this run knows."""
    marks = pool.live.phases.marks
    return min((marks[name] for name in ("silent", "decided") if name in marks), default=None)


def limits(pool: Snapshot) -> dict[str, Ms]:
    """How long each step may take by this pool's policy, by its name."""
    return {phase.name: phase.at_most(pool) for phase in _PHASES}


def _step(pool: Snapshot, failover: Failover, phase: _Phase, state: str) -> StepStatus:
    marks = pool.live.phases.marks
    begin, end = marks.get(phase.begin), marks.get(phase.end)
    until = end if state == "done" else pool.now
    limit = 0 if failover.standstill.blocker else phase.at_most(pool)
    known = state != "next" and begin is not None and until is not None
    took = until - begin if begin is not None and until is not None and known else 0
    return StepStatus(phase.name, state, phase.text(pool, failover), took, known, limit)


def _names(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    return ", ".join(sorted(pool.name(host) for host in hosts))


def _silence(pool: Snapshot, failover: Failover) -> str:
    old = pool.name(failover.old_master)
    if failover.path is Path.POWER:
        return f"{old} was silent, and nobody got an answer from its xapi"
    return f"the xapi of {old} did not answer" if failover.path is Path.TOOLSTACK else "no host served as master"


def _claim(pool: Snapshot, failover: Failover) -> str:
    if failover.step is Step.DECIDED:
        return "every host that is heard looks for the old master once more"
    return f"{_names(pool, failover.claimed)} looked once more: nobody answered"


def _proof(pool: Snapshot, failover: Failover) -> str:
    old = pool.name(failover.old_master)
    if failover.proof is not None:
        return f"proven: {failover.proof.kind.sentence(old, failover.proof.facts)}"
    if failover.standstill.blocker:
        return f"waits for proof that {old} is off"
    ways = {
        Path.POWER: f"proof that {old} is off: its power is read twice",
        Path.TOOLSTACK: f"xapi on {old} is stopped and held, its VMs run on",
        Path.ROLES: "every host is asked for its role",
    }
    return ways[failover.path]


def _promotion(pool: Snapshot, failover: Failover) -> str:
    name = pool.name(failover.candidate) if failover.candidate else "the host with the newest database"
    return f"{name} is master" if failover.step is Step.PROMOTED else f"{name} becomes master"


def _members(pool: Snapshot, failover: Failover) -> str:
    others = [host for host in pool.record.hosts if host not in (failover.old_master, failover.candidate)]
    waits = tuple(host for host in others if host not in failover.members.back)
    if not others:
        return "no other host has to follow"
    if not waits or not failover.candidate:
        return "bring the other hosts back" if waits else "every other host is back"
    back = f"; {_names(pool, failover.members.back)} back" if failover.members.back else ""
    return f"bring {_names(pool, waits)} back{back}"


def _reached(*steps: Step) -> Callable[[Failover], bool]:
    return lambda failover: failover.step in steps


_PHASES = (
    _Phase("silence", "silent", "decided", lambda failover: True, _silence, lambda pool: 0),
    _Phase(
        "claim",
        "decided",
        "claimed",
        lambda failover: failover.step is not Step.DECIDED,
        _claim,
        lambda pool: pool.policy.claim_wait,
    ),
    _Phase(
        "proof",
        "claimed",
        "proof",
        lambda failover: failover.step not in REVERSIBLE or failover.step is Step.PROVED,
        _proof,
        lambda pool: patience(pool, pool.record.master),
    ),
    _Phase(
        "promotion",
        "proof",
        "promoted",
        _reached(Step.PROMOTED),
        _promotion,
        lambda pool: pool.policy.promote_budget,
    ),
    _Phase("members", "promoted", "closed", lambda failover: False, _members, lambda pool: pool.policy.member_budget),
)
