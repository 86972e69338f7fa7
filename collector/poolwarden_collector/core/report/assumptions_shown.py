"""What is assumed of hosts, for people: what failed, what no host has shown yet, and what that means for a failover.

Rules
-----
* *critical* is what failed where losing the master now would not heal by itself because of it: on the best candidate
  (candidate_ranking.py has it last, so then on all of them), and of the master's power. The rest is a *warning*.
* What nobody has shown is told once per capability, and only of a pool of which an agent tells what it has seen: hosts
  with older agents are no weaker than they were. What is only shown, and the agent's own footprint, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden.assumptions import BY_ID, CAPABILITIES, FOOTPRINT, OBSERVATION, POWER, TABLE
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.evidence.assumptions import failed, keys, refusal
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.model.host_facts import AssumptionSeen
from poolwarden_collector.core.model.reasons import Reason
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.assumption_record import FailedAssumption
from poolwarden_collector.core.state.snapshot import Snapshot

_ONLY_SHOWN = (OBSERVATION, FOOTPRINT)
_ORDER = {"fails": 0, "not seen": 1, "holds": 2}


@dataclass(frozen=True, slots=True)
class AssumptionStatus:
    """One row of the table for one host; ``finding``: holds, fails, or not seen."""

    id: str
    finding: str
    evidence: str
    release: str
    sentence: str
    rests: tuple[str, ...]
    how: str
    counts: bool  # it fails, and acts that rest on it are asked about


def of_host(pool: Snapshot, host: HostId) -> tuple[AssumptionStatus, ...]:
    """Every row, those that fail first; none where its agent tells nothing of them and nothing failed before."""
    agent = pool.agent(host)
    told = agent.facts.assumptions if agent is not None else None
    counting = {each.id: each for each in failed(pool, host)}
    if told is None and not counting:
        return ()
    seen = {each.id: each for each in told.results} if told is not None else {}
    rows = [_row(id, seen.get(id), counting.get(id)) for id in [*BY_ID, *(id for id in counting if id not in BY_ID)]]
    return tuple(sorted(rows, key=lambda row: _ORDER[row.finding]))


def _row(id: str, seen: AssumptionSeen | None, counts: FailedAssumption | None) -> AssumptionStatus:
    row = BY_ID.get(id)
    sentence, how = (row.sentence, row.how) if row is not None else ("", "")
    if counts is not None:
        rests = counts.rests
        return AssumptionStatus(id, "fails", counts.evidence, counts.release, sentence, rests, how, counts=True)
    rests = row.rests if row is not None else ()
    if seen is None:
        return AssumptionStatus(id, "not seen", "", "", sentence, rests, how, counts=False)
    return AssumptionStatus(id, seen.finding.value, seen.evidence, seen.release, sentence, rests, how, counts=False)


def asked_for(pool: Snapshot) -> Reason | None:
    """Why a failover of the present master would be asked about; None: nothing failed that it rests on."""
    master = suspected(pool)
    best = next((r for r in rank(pool, master, None) if not r.limitation), None)
    return refusal(pool, master, POWER) or (best.failed if best is not None else None)


def is_of(pool: Snapshot, host: HostId, reason: Reason) -> bool:
    """Is anything of it what failed on this host?"""
    return bool(set(keys(host, failed(pool, host))) & set(reason.subjects))


def failing(pool: Snapshot) -> tuple[tuple[HostId, FailedAssumption], ...]:
    """What failed where, host by host."""
    return tuple((host, each) for host in sorted(pool.record.hosts, key=pool.name) for each in failed(pool, host))


def never_seen(pool: Snapshot) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """By capability, what no host of the pool has shown; empty where no agent tells any of it."""
    told = [
        agent.facts.assumptions
        for host in pool.record.hosts
        if (agent := pool.heard(host)) is not None and agent.facts.assumptions is not None
    ]
    if not told:
        return ()
    shown = {each.id for seen in told for each in seen.results}
    shown |= {each.id for _, each in failing(pool)}
    unseen = {
        capability: tuple(row.id for row in TABLE if row.rests[0] == capability and row.id not in shown)
        for capability in CAPABILITIES
        if capability not in _ONLY_SHOWN
    }
    return tuple((capability, ids) for capability, ids in unseen.items() if ids)
