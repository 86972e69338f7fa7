"""The list that is gone through before the master's role is handed to a healthy member: what holds, what does not.

Rules
-----
* Each line is asked of the module that guards the switchover, or reads what the agents report; the switchover asks
  everything again when it begins, and once more right before its order (recovery/switchover.py).
* What no agent reports is said as not known, with how to see it.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import database_age
from poolwarden_collector.core.decision.candidate_ranking import limitation
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.permission import command_refusal
from poolwarden_collector.core.evidence.mastership import verified
from poolwarden_collector.core.evidence.membership import follows, master_view
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import Verdict, judge
from poolwarden_collector.core.model.host_facts import DiskLevel
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.recovery import switchover
from poolwarden_collector.core.report.advise import BAD, GOOD, OPEN, Advice, Line, advice
from poolwarden_collector.core.state.snapshot import Snapshot

UNREACHABLE = "xapi restarts on every host: XenCenter, Xen Orchestra and xe reach nobody for 20-30 s; VMs run on"
CERTIFICATE_DAYS = 30


def advise_role(pool: Snapshot, host: HostId) -> Advice:
    """May the master's role be handed to this host now?"""
    verdict = judge(signs(pool))
    lines = [
        _pool(pool, verdict),
        _target(pool, host),
        _ha(pool),
        _upgrade(pool),
        _versions(pool),
        _members(pool),
        _tasks(pool),
        _storage(pool, host),
        _disk(pool, host),
        _database(pool, host),
        _certificates(pool, host),
        _redo_log(pool),
        Line("VMs", GOOD, UNREACHABLE),
    ]
    if all(line.answer != BAD for line in lines) and (no := switchover.refusal(pool, host, verdict)) is not None:
        lines.append(Line("switchover", BAD, no.why, no.next_step))
    return advice(f"{pool.name(host)} may take the role", lines)


def _pool(pool: Snapshot, verdict: Verdict) -> Line:
    standing = command_refusal(pool)
    if standing is not None:
        return Line("pool", BAD, standing.text, "poolwarden explain POOL")
    if pool.failover is not None:
        return Line("pool", BAD, f"failover {pool.failover.id} is open", "poolwarden explain POOL")
    if verdict is not Verdict.HEALTHY:
        return Line("pool", BAD, f"the pool is {verdict.word}: {verdict.meaning}", "poolwarden explain POOL")
    return Line("pool", GOOD, "the pool is Healthy, and nothing else is under way")


def _target(pool: Snapshot, host: HostId) -> Line:
    name, master = pool.name(host), verified(pool)
    if host == master:
        return Line("role", BAD, f"{name} is the master already")
    if not master:
        return Line("role", BAD, "there is not exactly one verified master", "poolwarden explain POOL")
    why = limitation(pool, host, master, pool.heard(host))
    if why is not None:
        return Line("role", BAD, f"{name}: {why}", f"poolwarden host show {name}")
    return Line("role", GOOD, f"{name} could be promoted")


def _ha(pool: Snapshot) -> Line:
    heard = {h: a for h in pool.record.hosts if (a := pool.heard(h)) is not None}
    armed = sorted(pool.name(h) for h, a in heard.items() if a.facts.database.ha_armed is Tri.YES)
    unread = sorted(pool.name(h) for h, a in heard.items() if a.facts.database.ha_armed is Tri.UNKNOWN)
    if armed or pool.record.ha_armed:
        return Line("HA", BAD, f"xapi's HA is armed on {', '.join(armed) or 'a host'}", "xe pool-ha-disable")
    if unread:
        said = f"whether HA is armed on {', '.join(unread)} cannot be read"
        return Line("HA", OPEN, said, "xe pool-list params=ha-enabled")
    return Line("HA", GOOD, "xapi's HA is off on every host that is heard")


def _upgrade(pool: Snapshot) -> Line:
    view = master_view(pool, verified(pool))
    if view is None or view.rolling_upgrade is Tri.UNKNOWN:
        said = "whether a rolling upgrade is under way cannot be read"
        return Line("upgrade", OPEN, said, "xe pool-list params=other-config")
    if view.rolling_upgrade is Tri.YES:
        return Line("upgrade", BAD, "a rolling upgrade is under way", "finish it; the master is upgraded first")
    return Line("upgrade", GOOD, "no rolling upgrade is under way")


def _versions(pool: Snapshot) -> Line:
    found: dict[str, list[str]] = {}
    for host in sorted(pool.record.hosts, key=pool.name):
        agent = pool.agent(host)
        found.setdefault(agent.facts.xapi_version if agent is not None else "", []).append(pool.name(host))
    if "" in found:
        said = f"the xapi of {', '.join(found[''])} is not told"
        return Line("versions", OPEN, said, "xe host-list params=software-version")
    if len(found) > 1:
        each = "; ".join(f"{version} on {', '.join(names)}" for version, names in found.items())
        return Line("versions", BAD, f"the hosts run different xapis: {each}", "update them to one version first")
    return Line("versions", GOOD, f"every host runs xapi {next(iter(found), '')}")


def _members(pool: Snapshot) -> Line:
    master = verified(pool)
    view = master_view(pool, master)
    if view is None:
        return Line("members", OPEN, "the master has not told its view of the pool", "xe host-list params=enabled")
    absent = [item.name for item in view.hosts if not (item.live and item.enabled)]
    stray = [pool.name(h) for h in pool.record.hosts if h != master and follows(pool, h, master)]
    if absent or stray:
        names = ", ".join(dict.fromkeys((*absent, *stray)))
        return Line("members", BAD, f"{names}: not live, not enabled, or not attached", "poolwarden hosts POOL")
    return Line("members", GOOD, f"all {len(view.hosts)} hosts are live, enabled and attached, with the pool's secret")


def _tasks(pool: Snapshot) -> Line:
    view = master_view(pool, verified(pool))
    if view is None:
        return Line("tasks", OPEN, "what xapi is at is not told", "xe task-list")
    if view.busy_tasks:
        said = f"its restart would cancel: {', '.join(view.busy_tasks[:5])}"
        return Line("tasks", BAD, said, "wait for them: xe task-list")
    return Line("tasks", GOOD, "no task runs that a restart of xapi would cancel")


def _storage(pool: Snapshot, host: HostId) -> Line:
    view, name = master_view(pool, verified(pool)), pool.name(host)
    item = next((each for each in view.hosts if each.host == host), None) if view is not None else None
    if item is None:
        return Line("storage", OPEN, f"what is plugged on {name} is not told", "xe pbd-list params=currently-attached")
    if item.unplugged_srs:
        said = f"{', '.join(item.unplugged_srs)} is not plugged on {name}, which will act as storage master"
        return Line("storage", BAD, said, f"xe pbd-list host-uuid={host}; xe pbd-plug uuid=...")
    return Line("storage", GOOD, f"all storage is plugged on {name}")


def _disk(pool: Snapshot, host: HostId) -> Line:
    agent, name = pool.heard(host), pool.name(host)
    if agent is None or not agent.facts.disks:
        return Line("disk", OPEN, f"the disks of {name} are not told", f"on {name}: df -h / /var/log")
    full = [each for each in agent.facts.disks if each.level not in (DiskLevel.OK, DiskLevel.UNKNOWN)]
    if full:
        named = ", ".join(f"{each.mount} is {each.used_percent:.0f} % full" for each in full)
        return Line("disk", BAD, f"{name}: {named}", "poolwarden disks POOL")
    used = ", ".join(f"{each.mount} {each.used_percent:.0f} %" for each in agent.facts.disks[:3])
    return Line("disk", GOOD, f"{name} has room: {used}")


def _database(pool: Snapshot, host: HostId) -> Line:
    name, copy = pool.name(host), database_age.age(pool, host)
    if (why := unsound_reason(pool, host)) is not None:
        return Line("database", BAD, f"{name}: {why}", "xe pool-sync-database on the master gives it a new copy")
    if copy.age_ms is None:
        return Line("database", OPEN, f"the age of the copy of {name} is not known ({copy.text})", "it is pushed first")
    return Line("database", GOOD, f"the copy of {name}: {copy.text}; it is pushed once more first")


def _certificates(pool: Snapshot, host: HostId) -> Line:
    agent, name = pool.heard(host), pool.name(host)
    known = agent.facts.around.certificates if agent is not None else ()
    ended = [each.name for each in known if each.days_left is not None and each.days_left < 0]
    ending = [each for each in known if each.days_left is not None and 0 <= each.days_left < CERTIFICATE_DAYS]
    if not known:
        return Line("certificates", OPEN, f"the certificates of {name} are not told", "xe certificate-list")
    if ended:
        renew = "renew it first: docs/operating.md says how"
        return Line("certificates", BAD, f"{name}: {', '.join(ended)} is over", renew)
    soon = ", ".join(f"{each.name} in {each.days_left} days" for each in ending)
    return Line("certificates", GOOD, f"no certificate of {name} is over" + (f"; ends soon: {soon}" if soon else ""))


def _redo_log(pool: Snapshot) -> Line:
    agent = pool.agent(pool.record.master) if pool.record.master else None
    records = agent.facts.installation.records if agent is not None else None
    if records is not None and records.redo_log is not Tri.UNKNOWN:
        on = records.redo_log is Tri.YES
        said = "the pool's redo log is on: its new master takes it over" if on else "the pool has no redo log"
        return Line("redo log", GOOD, said)
    said = "whether the pool has a redo log is not reported; its new master takes it over"
    return Line("redo log", OPEN, said, "xe pool-list params=redo-log-enabled,redo-log-vdi")
