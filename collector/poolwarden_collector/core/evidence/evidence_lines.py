"""The evidence in lines for people: each fact with its age and who has seen it."""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.devices.power_view import view
from poolwarden_collector.core.evidence.signs import (
    answered,
    foreign,
    fresh_probe,
    own_alive,
    own_probe,
    silence_of,
    suspected,
)
from poolwarden_collector.core.evidence.verdict import CollectorWitness
from poolwarden_collector.core.model.host_facts import Liveness, Probe, ProbeOutcome
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class EvidenceLine:
    """One piece of evidence as a person reads it; ``value`` is yes, no, stale or unknown."""

    subject: str
    value: str
    age_ms: Ms | None
    witness: str
    text: str


def lines(pool: Snapshot) -> tuple[EvidenceLine, ...]:
    """The evidence as a person reads it, the most important first."""
    master = suspected(pool)
    found: list[EvidenceLine] = []
    if master:
        found.append(_agent_line(pool, master))
        found.extend(_xapi_line(pool, master))
        found.extend(
            _probe_line(pool, host, probe)
            for host in sorted(pool.live.agents, key=pool.name)
            if host != master and (probe := _any_probe(pool, host, master)) is not None
        )
        found.extend(_own_line(pool, master))
        found.append(_power_line(pool, master))
    for host in sorted(pool.record.hosts, key=pool.name):
        if host != master:
            found.append(_agent_line(pool, host))
            found.extend(_trouble_line(pool, host, master))
    return tuple(found)


def _any_probe(pool: Snapshot, host: HostId, master: HostId) -> Probe | None:
    agent = pool.agent(host)
    return agent.facts.probe_of(master) if agent is not None else None


def _agent_line(pool: Snapshot, host: HostId) -> EvidenceLine:
    agent, name = pool.agent(host), pool.name(host)
    if agent is None:
        return EvidenceLine(f"{name} agent", "unknown", None, "collector", "not heard since this collector's start")
    age = silence_of(pool, host)
    if pool.heard(host):
        return EvidenceLine(f"{name} agent", "yes", age, "collector", f"last message {age / 1000:.1f} s ago")
    value = "no" if age >= pool.policy.vanished_after else "stale"
    said = f", said goodbye: {agent.goodbye}" if agent.goodbye else ""
    return EvidenceLine(f"{name} agent", value, age, "collector", f"silent for {age / 1000:.1f} s{said}")


def _xapi_line(pool: Snapshot, master: HostId) -> list[EvidenceLine]:
    agent, name = pool.agent(master), pool.name(master)
    if agent is None or not agent.reported:
        return []
    x = agent.facts.xapi
    age = pool.now - (agent.facts.observed.xapi or agent.last_heard)
    value = "stale" if not pool.heard(master) else ("yes" if x.liveness is Liveness.ANSWERS else "no")
    said = f"TCP {x.liveness.value}, local socket {x.socket_liveness.value}"
    return [EvidenceLine(f"{name} xapi", value, age, f"{name} agent", said)]


def _probe_line(pool: Snapshot, host: HostId, probe: Probe) -> EvidenceLine:
    age = pool.now - probe.probed_at
    fresh = fresh_probe(pool, host, probe.target) is not None
    value = "stale" if not fresh else ("yes" if answered(probe) else "no")
    standing = "" if host in pool.record.standing else "; does not count: never reached it under this master"
    if foreign(pool, host, probe):
        value, standing = "unknown", "; does not count: another certificate than this master's, somebody else's xapi"
    since = f" for {(pool.now - probe.unanswered_since) / 1000:.0f} s" if probe.unanswered_since is not None else ""
    text = f"{probe.outcome.value}{since}{standing}"
    return EvidenceLine(f"{pool.name(probe.target)} xapi", value, age, f"{pool.name(host)} probe", text)


def _own_line(pool: Snapshot, master: HostId) -> list[EvidenceLine]:
    probe = pool.live.own_probe.newest
    if probe is None or probe.host != master or not pool.policy.collector_probe:
        return []
    value, text = ("yes" if probe.outcome is ProbeOutcome.ANSWERED else "no"), probe.outcome.value
    if value == "yes" and not own_alive(pool, master):
        value, text = "unknown", f"{text}; does not count: another certificate than the members see"
    elif value == "no" and own_probe(pool, master) is CollectorWitness.OFF:
        text += "; does not count: it has not reached that xapi in this run"
    return [EvidenceLine(f"{pool.name(master)} xapi", value, pool.now - probe.at, "collector probe", text)]


def _power_line(pool: Snapshot, master: HostId) -> EvidenceLine:
    seen = view(pool, master)
    value = {Power.ON: "yes", Power.OFF: "no", Power.UNKNOWN: "unknown"}[seen.power]
    age = pool.now - seen.newest_at if seen.readings else None
    return EvidenceLine(f"{pool.name(master)} power on", value, age, "fence device", seen.why)


def _trouble_line(pool: Snapshot, host: HostId, master: HostId) -> list[EvidenceLine]:
    agent = pool.heard(host)
    if agent is None:
        return []
    x = agent.facts.xapi
    name = pool.name(host)
    if x.emergency is Tri.YES:
        return [
            EvidenceLine(
                f"{name} attached",
                "no",
                None,
                f"{name} agent",
                f"emergency mode: {x.emergency_text or x.emergency_code}",
            )
        ]
    if x.orphaned:
        since = (pool.now - x.orphaned_since) if x.orphaned_since is not None else None
        return [
            EvidenceLine(f"{name} attached", "no", since, f"{name} agent", "orphaned: its master does not answer it")
        ]
    return []
