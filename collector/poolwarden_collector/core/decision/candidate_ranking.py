"""Whom to promote: every member with its rank or the reason why not, and what the promotion would kill.

Rules
-----
* The highest database generation wins: a staler database kills VMs that started or moved after it (xapi:
  ocaml/xapi/xapi_xenops.ml, at every start of a xapi). Policy order and the name only break ties.
* A tombstone of a lower term than the failover's rules nobody out: the agent's own gate lets a promotion of a higher
  term pass, and the promotion releases it. Otherwise a successor that dies before the old master is attached to it
  would leave nobody to be promoted, for ever. But the copy of a superseded host that was not attached since is of
  another line than its successor's: its generations compare with nobody's, it ranks last, and the successor, which has
  what is newer, is given the time of a boot to come back.
* Who says that it is at another address than the last serving master had it at is none: its members would be pointed
  there.
* A copy on which no xapi comes up ranks behind every sound one, whatever its number (database_soundness.py).
* A host on which something failed that its promotion rests on (evidence/assumptions.py) ranks after all others that may
  be promoted, whatever its generation; where it is the best all the same, a person is asked.
* Disabled hosts rank lower, they are not excluded: in a two-host pool such a host is the only one.
* The forecast compares what runs on each survivor with the file that the candidate's xapi would load. Whatever cannot
  be compared counts as unknown, and unknown is asked about, not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from poolwarden.assumptions import FORECAST, HANDOVER, PROMOTION
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.evidence import assumptions, unlisted_hosts
from poolwarden_collector.core.evidence.membership import moved
from poolwarden_collector.core.evidence.signs import FACTS_FRESH_MS
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import HostId, Role, Tri
from poolwarden_collector.core.state.failover_record import Path
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot

# What a candidate's agent must be able to do: its claim and its answer to the last look are waited for.
NEEDED = ("promote", "claim", "probe_now")


@dataclass(frozen=True, slots=True)
class Ranked:
    """One host as a candidate: ``limitation`` is None if it may be promoted."""

    host: HostId
    name: str
    generation: int
    limitation: Reason | None
    enabled: Tri = Tri.UNKNOWN
    unplugged: tuple[str, ...] = ()  # SRs that the last serving master did not see attached there
    superseded: bool = False  # it was succeeded, and not attached to its successor since
    unsound: Reason | None = None  # what is wrong with its copy, where something is known to be
    failed: Reason | None = None  # what failed there of what its promotion rests on: it is not chosen by itself

    @property
    def text(self) -> str:
        if self.limitation:
            return f"{self.name}: not eligible: {self.limitation}"
        disabled = ", disabled: ranked lower" if self.enabled is Tri.NO else ""
        srs = f", {', '.join(self.unplugged)} not plugged: ranked lower" if self.unplugged else ""
        old = ", superseded and not attached since: ranked last" if self.superseded else ""
        unsound = f", not sound ({self.unsound}): ranked behind every sound one" if self.unsound is not None else ""
        unsure = f", asked about: {self.failed}" if self.failed is not None else ""
        return f"{self.name}: eligible, database generation {self.generation}{disabled}{srs}{old}{unsound}{unsure}"


def rank(pool: Snapshot, old_master: HostId, claimed: tuple[HostId, ...] | None) -> tuple[Ranked, ...]:
    """All hosts but the old master, the best candidate first; ``claimed`` None: nobody has been asked yet (dry run)."""
    hosts = [host for host in pool.record.hosts if host != old_master]
    ranked = [_rank_one(pool, host, old_master, claimed) for host in hosts]
    return tuple(sorted(ranked, key=lambda r: (*_last(r), *_newest(pool, r))))


def _last(r: Ranked) -> tuple[bool, bool, bool, bool]:
    """What ranks a host behind others whatever its generation, the weightiest first."""
    # safety: a promotion cannot be taken back; on a file that xapi cannot load the candidate never comes to serve.
    return bool(r.limitation), r.superseded, r.unsound is not None, r.failed is not None


def failed(pool: Snapshot, host: HostId) -> Reason | None:
    """What failed on this host of what its promotion rests on; None: nothing that is known."""
    failover = pool.failover
    placed = (HANDOVER,) if failover is not None and failover.path is Path.TOOLSTACK else ()
    return assumptions.refusal(pool, host, PROMOTION, FORECAST, *placed)


def superseded(pool: Snapshot, host: HostId) -> bool:
    """Was this host succeeded as master, and not attached to its successor since?"""
    agent = pool.agent(host)
    marked = agent is not None and agent.facts.tombstone is not None
    return marked or any(item.host == host and item.what is OwedWork.TOMBSTONE for item in pool.record.owed)


def _newest(pool: Snapshot, r: Ranked) -> tuple[int, int, bool, bool, str]:
    return (-r.generation, *_order(pool, r))


def _order(pool: Snapshot, r: Ranked) -> tuple[int, bool, bool, str]:
    """Among equally new databases: the policy's order, then enabled, then plugged, then the name."""
    named = [place for place, wanted in enumerate(pool.policy.prefer) if wanted in (r.host, r.name)]
    return min(named, default=len(pool.policy.prefer)), r.enabled is Tri.NO, bool(r.unplugged), r.name


def _rank_one(pool: Snapshot, host: HostId, old_master: HostId, claimed: tuple[HostId, ...] | None) -> Ranked:
    agent = pool.heard(host)
    generation = agent.facts.database.generation if agent is not None else 0
    why = limitation(pool, host, old_master, agent)
    if not why and claimed is not None and host not in claimed:
        why = Reason(Cause.NO_CLAIM, "it has not answered the claim")
    marks = (enabled(pool, host), _unplugged(pool, host), superseded(pool, host))
    return Ranked(host, pool.name(host), generation, why, *marks, unsound_reason(pool, host), failed(pool, host))


def _unplugged(pool: Snapshot, host: HostId) -> tuple[str, ...]:
    """What the last serving master did not see attached on this host."""
    views = [agent.facts.pool_view for agent in pool.live.agents.values() if agent.facts.pool_view is not None]
    return next((item.unplugged_srs for seen in views for item in seen.hosts if item.host == host), ())


def enabled(pool: Snapshot, host: HostId) -> Tri:
    """Whether the pool's database last had this host enabled, as the last serving master said."""
    views = [agent.facts.pool_view for agent in pool.live.agents.values() if agent.facts.pool_view is not None]
    for seen in views:
        for item in seen.hosts:
            if item.host == host:
                return Tri.YES if item.enabled else Tri.NO
    return Tri.UNKNOWN


def limitation(pool: Snapshot, host: HostId, old_master: HostId, agent: AgentState | None) -> Reason | None:
    """Why this host cannot be promoted now; None if it can."""
    if {host, pool.name(host)} & set(pool.policy.never_promote):
        return Reason(Cause.POLICY, "the policy never promotes it")
    if why := unlisted_hosts.unlisted(pool, host):
        return Reason(Cause.UNLISTED, why)
    if why := unlisted_hosts.in_no_copy(pool, host):
        return Reason(Cause.NOT_IN_COPIES, why)
    if why := moved(pool, host, old_master):
        return Reason(Cause.ADDRESS, why)
    if agent is None:
        return Reason(Cause.NOT_HEARD, "its agent is not heard")
    f = agent.facts
    seen = [at for at in (f.observed.host, f.observed.xapi) if at is not None]
    if seen and pool.now - min(seen) > FACTS_FRESH_MS:
        return Reason(Cause.OLD_FACTS, f"its facts are {(pool.now - min(seen)) / 1000:.0f} s old")
    if missing := [kind for kind in NEEDED if kind not in agent.hello.capabilities]:
        return Reason(Cause.INCAPABLE, f"its agent {agent.hello.agent_version} cannot {missing[0]}", (missing[0],))
    if f.database.ha_armed is not Tri.NO:
        armed = f.database.ha_armed is Tri.YES
        return Reason(Cause.HA, "xapi's HA is armed on it" if armed else "its HA flag cannot be read")
    # safety: as the agent's gate has it; a tombstone of this very term was set by whoever succeeds this failover.
    if f.tombstone is not None and f.tombstone.term >= _term(pool):
        why = f"it carries a tombstone of term {f.tombstone.term}, which this failover's term does not overrule"
        return Reason(Cause.TOMBSTONE, why)
    if f.role.pool_conf is not Role.MEMBER:
        why = f"its pool.conf says {f.role.pool_conf.value}, not member"
        return Reason(Cause.ROLE, why, (f.role.pool_conf.value,))
    old = pool.record.address_of(old_master)
    if old and f.role.master_address != old:
        why = f"its pool.conf names another master, {f.role.master_address}"
        return Reason(Cause.FOLLOWS_ANOTHER, why, (f.role.master_address,))
    if host in pool.live.look.mute:
        return Reason(Cause.NO_LOOK, "it does not answer the last look")
    if f.database.generation == 0:
        return Reason(Cause.NO_COPY, "it has no readable copy of the database")
    claim = pool.live.claims.answers.get(host) if pool.failover is not None else None
    # The generation stands in a file of its own: it says nothing of a copy that is cut short or another pool's.
    if claim is not None and claim.placements is not None and not claim.placements.readable:
        return Reason(Cause.NO_COPY, f"its copy of the database cannot be used: {claim.placements.text}")
    if f.database.rolling_upgrade is Tri.YES:
        return Reason(Cause.UPGRADE, "a rolling upgrade is in progress")
    return _resources(pool, agent) or _version(pool, agent, old_master)


def _term(pool: Snapshot) -> int:
    """The term of the open failover, or that of the one that might be decided next."""
    return pool.failover.term if pool.failover is not None else pool.record.term + 1


def _resources(pool: Snapshot, agent: AgentState) -> Reason | None:
    root = next((disk for disk in agent.facts.disks if disk.mount == "/"), None)
    if root is None:
        return Reason(Cause.NO_ROOM, "its free disk space is not known")
    if root.free_bytes < pool.policy.min_root_free_bytes:
        return Reason(Cause.NO_ROOM, f"its / is {root.used_percent:.0f} % full")
    x = agent.facts.xapi
    if x.socket_liveness is not Liveness.ANSWERS:
        why = f"its xapi does not answer on the local socket ({x.socket_liveness.value})"
        return Reason(Cause.XAPI, why, (x.socket_liveness.value,))
    return None


def _version(pool: Snapshot, agent: AgentState, old_master: HostId) -> Reason | None:
    """A member refuses a coordinator older than itself (xapi: ocaml/xapi/xapi.ml, version check after Pool.hello)."""
    version, agents = agent.facts.xapi_version, pool.live.agents
    own = _dotted(version)
    for host in pool.record.hosts:
        other = agents.get(host)
        if not own or other is None or other.facts.xapi_version == version or host in (agent.hello.host, old_master):
            continue
        if _dotted(other.facts.xapi_version) > own:
            why = f"its xapi {version} is older than {pool.name(host)}'s {other.facts.xapi_version}"
            return Reason(Cause.VERSION, why, (host,))
    return None


@lru_cache(maxsize=256)
def _dotted(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit() and len(part) < 10)
