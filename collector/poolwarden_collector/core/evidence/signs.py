"""Evidence: facts with an age and a witness, and the signs that the verdict reads from them.

Rules
-----
* A fact is fresh only while the agent that states it is heard; an agent's last words are not evidence about now.
* A witness of the master's xapi counts only if it has reached that xapi since its present master took the role
  (*standing*, durable): a host that never had a route there would otherwise testify with every silence. Standing is
  gained by an answer while that master's agent is heard, and remembers the certificate that was seen: an answer with
  another one is somebody else's (private networks overlap) and tells nothing, neither life nor death. A certificate
  that was really renewed is learned the same way, by the next answer while the agent is heard.
* The collector's own probe has standing per run, and only for a certificate that a member has seen as well.
* Silence is counted from when the last message arrived to when the newest that has been taken in arrived: a collector
  that is late with reading is late, and nobody is silent for that. Facts grow old by the clock all the same.
* Life is believed from any witness. Death is believed from none of them: only the power reading or a person says that.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence import announcements
from poolwarden_collector.core.evidence.proof import Proof, verify_power, why_off
from poolwarden_collector.core.evidence.verdict import Agent, CollectorWitness, Member, Signs, Witness, Xapi
from poolwarden_collector.core.model.host_facts import Liveness, Probe, ProbeOutcome
from poolwarden_collector.core.model.values import HostId, Ms, Role, Tri
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot

FACTS_FRESH_MS: Ms = 20_000
RESTLESS_STARTS = 3  # one start too many, and one that a person has made
LOOP_STARTS = 3  # in ten minutes, which nobody has asked for; its agent counts them
LOOP_OVER_MS: Ms = 180_000  # a process that has lived so long has ended the loop


def suspected(pool: Snapshot) -> HostId:
    """The master whose state is judged: the open failover's old master until a successor is verified."""
    failover = pool.failover
    if failover is not None and pool.record.master == failover.old_master:
        return failover.old_master
    return pool.record.master


def silence_of(pool: Snapshot, host: HostId) -> Ms:
    """How long this host's agent has said nothing, ms; counted from the collector's start if it has not spoken since.

    Of a host that has never spoken it is counted from when the first agent of its pool came: a pool that is new to a
    collector which has long been running is not silent because others of it come a moment later.
    """
    agent = pool.agent(host)
    if agent is not None:
        return max(pool.asof - agent.last_heard, 0)
    known, since = pool.record.hosts.get(host), pool.site.started_at
    if known is not None and not known.boot_id:
        came = (each.connected_at for each in pool.live.agents.values() if each.connected_at)
        since = max(since, min(came, default=since))
    return max(pool.asof - since, 0)


def serving(pool: Snapshot) -> tuple[HostId, ...]:
    """Hosts that now say, by their own login, that they serve as this pool's master."""
    hosts = []
    for host in sorted(pool.live.agents):
        agent = pool.heard(host)
        if agent is not None and agent.facts.role.serves_as_master:
            hosts.append(host)
    return tuple(hosts)


def configured_masters(pool: Snapshot) -> tuple[HostId, ...]:
    """Heard hosts that are set to be master, whether they serve yet or not: by pool.conf, or by the running process.

    A xapi that was told to become master restarts for minutes before it serves (xapi: ocaml/xapi/xapi_fuse.ml).
    """
    hosts = []
    for host in sorted(pool.live.agents):
        agent = pool.heard(host)
        if agent is not None and Role.MASTER in (agent.facts.role.pool_conf, agent.facts.role.running):
            hosts.append(host)
    return tuple(hosts)


def unsuperseded_masters(pool: Snapshot) -> tuple[HostId, ...]:
    """Serving masters without those already superseded, whose tombstone is on its way (owed).

    One that serves while its successor is off, by its power or an operator's word, counts: somebody has made it master
    again, and its tombstone is over with that. While the successor is merely silent it does not: it may serve.
    """
    owed = {item.host for item in pool.record.owed if item.what is OwedWork.TOMBSTONE}
    acting = serving(pool)
    # safety: its power or a person's word alone ends a succession; a successor that is not heard may be serving.
    gone = bool(owed & set(acting)) and not pool.quiet and successor_off(pool)
    return tuple(host for host in acting if host not in owed or gone)


def successor_off(pool: Snapshot) -> bool:
    """Is the master on record, whom others were to follow, off now: by its power, or by an operator's word that no sign
    of life has ended (fenced_hosts.py)?
    """
    master = pool.record.master
    return bool(master) and master in pool.record.hosts and pool.heard(master) is None and bool(why_off(pool, master))


def signs(pool: Snapshot) -> Signs:
    """What the evidence shows now."""
    master = suspected(pool)
    return Signs(
        identity=bool(pool.record.identity),
        ha=_ha(pool),
        several_serve=len(unsuperseded_masters(pool)) > 1,
        conflict=pool.live.contradictions.conflict is not None
        and pool.now - pool.live.contradictions.conflict[0] >= pool.policy.suspect_after,
        disputed=_disputed(pool, master),
        hold=announcements.announced_hold(pool),
        blind=bool(pool.site.blind) and not pool.site.young,
        anyone_heard=any(pool.heard(host) for host in pool.live.agents),
        master_known=bool(master),
        agent=_agent(pool, master),
        xapi=_master_xapi(pool, master),
        witness=_witness_now(pool, master),
        own=own_probe(pool, master),
        off_twice=read_off_twice(pool, master),
        member=_member(pool, master),
    )


def _ha(pool: Snapshot) -> Tri:
    if pool.record.ha_armed:
        return Tri.YES
    states = [agent.facts.database.ha_armed for host in pool.live.agents if (agent := pool.heard(host)) is not None]
    return Tri.NO if states and all(state is Tri.NO for state in states) else Tri.UNKNOWN


def _disputed(pool: Snapshot, master: HostId) -> bool:
    """Life was seen after an OFF reading, and the dispute is young."""
    if pool.live.contrary is None or pool.live.contrary[2] != master:
        return False
    return pool.now - pool.live.contrary[0] < pool.policy.vanished_after * 4


def _broken(pool: Snapshot, host: HostId) -> bool:
    """Does this host say that its pool.conf is broken, and does it not serve either?"""
    agent = pool.heard(host)
    if agent is None:
        return False
    return agent.facts.role.pool_conf is Role.BROKEN and not agent.facts.role.serves_as_master


def _agent(pool: Snapshot, master: HostId) -> Agent:
    if master and pool.heard(master):
        return Agent.HEARD
    silent = silence_of(pool, master)
    if silent >= pool.policy.patience:
        return Agent.MUTE
    return Agent.SILENT if silent >= pool.policy.vanished_after else Agent.LATE


def _xapi(pool: Snapshot, host: HostId) -> Xapi:
    """A host's xapi as its own agent sees it, judged by how long it has been so."""
    agent = pool.heard(host)
    if agent is None:
        return Xapi.UNKNOWN
    x, p = agent.facts.xapi, pool.policy
    at = agent.facts.observed.xapi
    if at is not None and _told_too_long_ago(pool, x.liveness, at):
        return Xapi.UNKNOWN  # the agent reports, but whoever looks at xapi there has stopped looking
    if x.liveness is Liveness.ANSWERS and x.slow_ms and x.socket_liveness in (Liveness.ANSWERS, Liveness.SILENT):
        return Xapi.SLOW
    if x.liveness is Liveness.ANSWERS:
        return Xapi.ANSWERS if x.socket_liveness is not Liveness.SILENT else Xapi.UNWELL
    if x.liveness is Liveness.UNKNOWN or x.liveness_since is None:
        return Xapi.UNKNOWN
    age = pool.now - x.liveness_since
    if agent.facts.hold is not None:
        return Xapi.DOWN  # held by a toolstack fence: it is not on its way back
    if x.liveness is Liveness.DOWN:
        return Xapi.DOWN if age >= p.xapi_down_after else Xapi.UNWELL
    if x.liveness is Liveness.STARTING:
        return Xapi.HUNG if age >= p.xapi_starting_limit else Xapi.UNWELL
    both = x.socket_liveness is Liveness.SILENT and x.socket_since is not None
    hung = both and min(age, pool.now - (x.socket_since or pool.now)) >= p.xapi_hung_after
    return Xapi.HUNG if hung else Xapi.UNWELL


def _told_too_long_ago(pool: Snapshot, liveness: Liveness, at: Ms) -> bool:
    """An answer that is the newest of what is read so far stands while the collector is behind; a no does not."""
    return (pool.asof if liveness is Liveness.ANSWERS else pool.now) - at > FACTS_FRESH_MS


def _master_xapi(pool: Snapshot, master: HostId) -> Xapi:
    """The master's xapi must not only answer: its own login must find it to be the pool's master.

    Of a slow one that is not asked: what has not been answered yet is no denial. One that starts again and again, and
    has not come to serve in the time of the slowest start, is down: each new process is young for itself alone.
    """
    seen, agent, since = _xapi(pool, master), pool.heard(master), pool.live.service.unserved_since
    if restless(pool, master) or loops_on(pool, master):
        return Xapi.DOWN
    if seen in (Xapi.ANSWERS, Xapi.SLOW) and looping(pool, master):
        return Xapi.UNWELL  # it serves for a moment, as the processes before it did
    if agent is None or seen is not Xapi.ANSWERS or agent.facts.role.serves_as_master:
        return seen
    long = since is not None and pool.now - since >= pool.policy.xapi_down_after
    return Xapi.NOT_SERVING if long else Xapi.UNWELL


def restless(pool: Snapshot, master: HostId) -> bool:
    """Does its xapi start again and again, and has it not come to serve in the time of the slowest start?

    A start that was ordered is no start too many: the count begins anew with it (assessment.py).
    """
    agent, since = pool.heard(master), pool.live.service.unserved_since
    if agent is None or master != suspected(pool) or since is None:
        return False
    failover = pool.failover
    known = failover is not None and failover.old_master == master and failover.restless
    again = (
        pool.live.service.unserved_starts.count >= RESTLESS_STARTS
        and pool.now - since >= pool.policy.xapi_starting_limit
    )
    return (known or again) and _xapi(pool, master) is Xapi.UNWELL


def looping(pool: Snapshot, host: HostId) -> bool:
    """Does its xapi end and begin again and again, unasked, whatever each process answers meanwhile?"""
    agent = pool.heard(host)
    if agent is None or agent.facts.hold is not None:
        return False
    x = agent.facts.xapi
    again = x.unasked_starts >= LOOP_STARTS and x.ended_at is not None
    return again and pool.now - (x.ended_at or 0) < LOOP_OVER_MS


def loops_on(pool: Snapshot, master: HostId) -> bool:
    """Has the master's xapi been looping for the time of the slowest start? A loop is no service.

    Not while the present process answers for as long as one that is down is waited for: it may be the last one.
    """
    kept, agent, failover = pool.live.service.looping, pool.heard(master), pool.failover
    hold = agent.facts.hold if agent is not None else None
    decided = failover is not None and failover.loops and failover.old_master == master
    if decided and failover is not None and hold is not None and hold.term == failover.term:
        return True  # held by the failover that was decided on it: what is told of its xapi may be from before the stop
    if agent is None or kept is None or kept[0] != master or not looping(pool, master):
        return False
    x = agent.facts.xapi
    lives = x.liveness is Liveness.ANSWERS and x.liveness_since is not None
    if lives and pool.now - (x.liveness_since or 0) >= pool.policy.xapi_down_after:
        return False
    return pool.now - kept[1] >= pool.policy.xapi_starting_limit


def fresh_probe(pool: Snapshot, witness_host: HostId, target: HostId) -> Probe | None:
    """A heard host's newest probe of ``target``, if it is at most three probe rounds old."""
    agent = pool.heard(witness_host)
    probe = agent.facts.probe_of(target) if agent is not None else None
    limit = 3 * (pool.policy.probe_interval + pool.policy.probe_timeout)
    return probe if probe is not None and pool.now - probe.probed_at <= limit else None


def answered(probe: Probe) -> bool:
    """Only an echo of system.isAlive is an answer (xapi: ocaml/xapi/xapi_http, gen_server.ml)."""
    return probe.outcome is ProbeOutcome.ANSWERED


def foreign(pool: Snapshot, witness_host: HostId, probe: Probe) -> bool:
    """Was this probe of the master answered with another certificate than the one that gave standing?"""
    if probe.target != pool.record.master or not answered(probe) or not probe.certificate:
        return False
    own = pool.record.standing.get(witness_host)
    known = {own} if own else known_certificates(pool)
    return bool(known) and probe.certificate not in known


def known_certificates(pool: Snapshot) -> set[str]:
    """What members have seen the present master's xapi present while its agent was heard."""
    return {certificate for certificate in pool.record.standing.values() if certificate}


def answered_by(pool: Snapshot, witness_host: HostId, probe: Probe) -> bool:
    """An answer of the probed xapi itself, not of somebody else at its address."""
    return answered(probe) and not foreign(pool, witness_host, probe)


def twice_unanswered(probe: Probe) -> bool:
    """Two probes in a row: one lost packet is no testimony."""
    since = probe.unanswered_since
    return not answered(probe) and since is not None and since < probe.probed_at


def witness(pool: Snapshot, master: HostId) -> Witness:
    """What the members' probes of the master's xapi say together."""
    probes = {
        host: probe
        for host in pool.live.agents
        if host != master and (probe := fresh_probe(pool, host, master)) is not None and not foreign(pool, host, probe)
    }
    if not probes:
        return Witness.NONE
    if any(answered(probe) for probe in probes.values()):
        return Witness.ANSWERED
    if not all(twice_unanswered(probe) for probe in probes.values()):
        return Witness.NONE
    return Witness.UNANSWERED if any(host in pool.record.standing for host in probes) else Witness.UNCOUNTED


def _witness_now(pool: Snapshot, master: HostId) -> Witness:
    """The same, without testimony from before a xapi that has only just begun to answer its own agent again."""
    seen = witness(pool, master)
    return Witness.NONE if seen is Witness.UNANSWERED and _only_just_back(pool, master) else seen


def _only_just_back(pool: Snapshot, master: HostId) -> bool:
    """Does the master's xapi answer its own agent, but for less time than its members need to notice?"""
    agent = pool.heard(master)
    if agent is None or agent.facts.xapi.liveness is not Liveness.ANSWERS:
        return False
    since = agent.facts.xapi.liveness_since
    return since is None or pool.now - since < pool.policy.vanished_after


def own_probe(pool: Snapshot, master: HostId) -> CollectorWitness:
    probe = pool.live.own_probe.newest
    limit = 3 * (pool.policy.probe_interval + pool.policy.probe_timeout)
    if not pool.policy.collector_probe or probe is None or probe.host != master or pool.now - probe.at > limit:
        return CollectorWitness.OFF
    if probe.outcome is ProbeOutcome.ANSWERED:
        return CollectorWitness.ANSWERED if own_alive(pool, master) else CollectorWitness.OFF
    # A collector without a route to TCP 443 would otherwise testify with every silence: it too needs standing.
    standing = pool.live.own_probe.standing is not None and pool.live.own_probe.standing[0] == master
    return CollectorWitness.UNANSWERED if standing else CollectorWitness.OFF


def own_alive(pool: Snapshot, host: HostId) -> bool:
    """Did the collector's newest probe of this host get an answer of that very xapi?"""
    probe = pool.live.own_probe.newest
    if probe is None or probe.host != host or probe.outcome is not ProbeOutcome.ANSWERED:
        return False
    return own_certificate_fits(pool, host, probe.certificate)


def own_certificate_fits(pool: Snapshot, host: HostId, certificate: str) -> bool:
    """Is this what members have seen that master present? Where nothing is known, nothing contradicts it."""
    known = known_certificates(pool) if host == pool.record.master else set()
    return not known or not certificate or certificate in known


def read_off_twice(pool: Snapshot, host: HostId) -> bool:
    """Do this host's devices read OFF as a proof would need it?"""
    known = pool.record.hosts.get(host)
    return known is not None and isinstance(verify_power(pool, host, known.boot_id), Proof)


_BADNESS = (
    Member.FINE,
    Member.LATE,
    Member.XAPI_DOWN,
    Member.ORPHANED,
    Member.EMERGENCY,
    Member.LOST,
    Member.VANISHED,
    Member.BROKEN,
)


_MEMBER_XAPI = {
    Xapi.ANSWERS: Member.FINE,
    Xapi.SLOW: Member.FINE,
    Xapi.UNWELL: Member.LATE,
    Xapi.UNKNOWN: Member.LATE,
    Xapi.DOWN: Member.XAPI_DOWN,
    Xapi.HUNG: Member.XAPI_DOWN,
    Xapi.NOT_SERVING: Member.FINE,
}


def member_state(pool: Snapshot, host: HostId, master: HostId) -> Member:
    """One member's state; a host that was never heard by this run is late until the quiet time is over."""
    agent = pool.heard(host)
    if agent is not None:
        if _broken(pool, host):
            return Member.BROKEN
        if agent.facts.xapi.emergency is Tri.YES:
            return Member.EMERGENCY
        if agent.facts.xapi.orphaned and agent.facts.role.pool_conf is Role.MEMBER:
            return Member.LATE if _only_just_back(pool, master) else Member.ORPHANED
        if follows_another(pool, host, master):
            fresh = pool.now - pool.live.mastership.since < pool.policy.vanished_after
            return Member.LATE if fresh else Member.ORPHANED
        return Member.XAPI_DOWN if _member_loops(pool, host, agent) else _MEMBER_XAPI[_xapi(pool, host)]
    if silence_of(pool, host) < pool.policy.vanished_after or (pool.quiet and host not in pool.live.agents):
        return Member.LATE
    probes = [probe for other in pool.live.agents if (probe := fresh_probe(pool, other, host)) is not None]
    return Member.LOST if any(answered(probe) for probe in probes) else Member.VANISHED


def _member_loops(pool: Snapshot, host: HostId, agent: AgentState) -> bool:
    """Does its xapi end and begin again and again, and has the present one not answered for long yet?"""
    x = agent.facts.xapi
    lives = x.liveness is Liveness.ANSWERS and x.liveness_since is not None
    return looping(pool, host) and not (lives and pool.now - (x.liveness_since or 0) >= pool.policy.xapi_down_after)


def follows_another(pool: Snapshot, host: HostId, master: HostId) -> HostId:
    """The host of this pool that this heard member's pool.conf and xapi follow, where that is not ``master``; empty if
    none.

    Its xapi answers and no emergency is told, for what it reaches there answers as well; it is attached to nobody. A
    pool.conf that has just been rewritten, before the restart that follows, is a change of master under way.
    """
    agent = pool.heard(host)
    if agent is None or not master or agent.facts.role.pool_conf is not Role.MEMBER:
        return ""
    role = agent.facts.role
    named = role.master_address if role.running is Role.MEMBER and role.running_master_address else ""
    if named != role.running_master_address:
        return ""
    others = (other for other in sorted(pool.record.hosts) if other not in (host, master))
    found = next((other for other in others if named and pool.record.address_of(other) == named), "")
    return "" if named == pool.record.address_of(master) else found


def settled(pool: Snapshot, agent: AgentState, master: HostId) -> bool:
    """Do pool.conf and the running process agree that this host is a member of ``master``?"""
    role, address = agent.facts.role, pool.record.address_of(master)
    conf = role.pool_conf is Role.MEMBER and role.master_address == address
    return conf and role.running is Role.MEMBER and role.running_master_address == address


def _settled_and_down(pool: Snapshot, host: HostId, master: HostId) -> bool:
    agent = pool.heard(host)
    return agent is not None and settled(pool, agent, master) and member_state(pool, host, master) is Member.XAPI_DOWN


def _member(pool: Snapshot, master: HostId) -> Member:
    """A superseded master is awaited, not missed: it is on the owed list, not among the members in trouble.

    Once it runs as a member its xapi can fail as any other's: that is told.
    """
    awaited = {item.host for item in pool.record.owed if item.what is OwedWork.TOMBSTONE}
    failover = pool.failover
    if failover is not None and failover.step is Step.PROMOTED:
        awaited |= {host for host in pool.record.hosts if host not in failover.members.back}
        if awaited - {master, failover.old_master}:
            return Member.ORPHANED  # the new master serves, and its members are still on their way
    awaited = {host for host in awaited if not _settled_and_down(pool, host, master)}
    states = [member_state(pool, host, master) for host in pool.record.hosts if host != master and host not in awaited]
    return max(states, key=_BADNESS.index, default=Member.FINE)
