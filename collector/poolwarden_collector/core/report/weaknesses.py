"""What would not keep a failover from healing the pool, and is weaker than it should be: the warnings of readiness.

Rules
-----
* Each is something that a person can mend by day, with how.
* What is not known is not told as wrong; that no change of master was ever tried is.
"""

from __future__ import annotations

import ipaddress

from poolwarden.xapi_causes import CAUSES
from poolwarden_collector.core.devices.device_health import STALE_MS
from poolwarden_collector.core.evidence import storage_stalls
from poolwarden_collector.core.evidence.assumptions import NOT_BY_ITSELF, keys
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.followups import policy_starts
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import DiskLevel
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.report import assumptions_shown
from poolwarden_collector.core.report.host_environment import lines
from poolwarden_collector.core.report.journal_view import JournalView
from poolwarden_collector.core.report.memory_alerts import CROSSED, help_for, left
from poolwarden_collector.core.report.readiness import (
    CRITICAL,
    WARNING,
    Unready,
    blocking,
    device_complaint,
    last_read,
)
from poolwarden_collector.core.state.assumption_record import FailedAssumption
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.taken_over import ACKNOWLEDGED_WITHIN_MS

DRILL_MS: Ms = 90 * 86_400_000
# Tools that fence or promote by themselves: two such beside each other work against each other.
OTHER_TOOLS = {"ha-lizard.service": "HA-Lizard", "iscsi-ha.service": "iSCSI-HA"}
# xapi's guidances that ask for a reboot (ocaml/idl/datamodel_types.ml: update_guidances).
_FAILED = ("", "_on_livepatch_failure", "_on_kernel_livepatch_failure", "_on_xen_livepatch_failure")
REBOOTS = frozenset(f"reboot_host{failed}" for failed in _FAILED)
_MATTER = ("certificate (agent)", "certificate (collector's authority)", "clock")  # lines of the host's surroundings
RENEW = "renew it: docs/operating.md says how"
_SURROUNDING_FIX = {
    "clock": "check chronyd or ntpd there",
    "certificate (xapi)": f"there: {CAUSES['certificate'].help}",
    "certificate (pool)": f"there: {CAUSES['certificate'].help}",
    "certificate (pool's bundle)": f"there: {CAUSES['pool-bundle'].help}",
}
_NARROW = {4: 24, 6: 64}  # networks are rarely smaller; the mask itself is not known


def readiness(pool: Snapshot, past: JournalView) -> tuple[Unready, ...]:
    """Every reason, the worst first."""
    hosts = sorted(pool.record.hosts, key=pool.name)
    heard = {host: agent for host in hosts if (agent := pool.heard(host)) is not None}
    found = [
        *_inside(past),
        *blocking(pool),
        *_other_tools(pool, heard),
        *_devices(pool, hosts),
        *_gates(pool, heard),
        *_disks(pool, heard),
        *_memory(pool, heard),
        *_versions(pool, heard),
        *_disobeying(pool, heard),
        *_staying(pool, heard, past),
        *_updates(pool),
        *_storage(pool),
        *_surroundings(pool, heard),
        *_networks(pool, heard),
        *_https_only(pool),
        *_failing(pool),
        *_drills(pool, past),
        *_never_seen(pool),
        *_starts_by_policy(pool, heard),
        *(Unready("collector-certificate", WARNING, why, step) for why, step in past.certificates),
        *(Unready("etcd", WARNING, why, step) for why, step in past.etcd),
    ]
    return tuple(sorted(found, key=lambda reason: reason.severity != CRITICAL))


def _inside(past: JournalView) -> list[Unready]:
    if not past.inside:
        return []
    return [Unready("collector-inside", CRITICAL, past.inside, "move the collector to a machine outside the pool")]


def _other_tools(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    return [
        Unready(
            "other-tool",
            CRITICAL,
            f"{tool} is installed on {pool.name(host)}: it would fence and promote beside Poolwarden",
            f"on {pool.name(host)}: remove it and what starts it (init script, cron), or let Poolwarden only observe",
        )
        for host, agent in heard.items()
        for tool in sorted({OTHER_TOOLS[name] for name, _ in agent.facts.around.services if name in OTHER_TOOLS})
    ]


def _devices(pool: Snapshot, hosts: list[HostId]) -> list[Unready]:
    """Those of the members, each of which may be the next master, and readings that are old."""
    found, master = [], suspected(pool)
    for host in hosts:
        devices, name = pool.all_devices(host), pool.name(host)
        if not devices and host != master:
            why = f"{name} has no fence device: once it is master, a person would have to confirm its death"
            found.append(Unready("no-device", WARNING, why, f"poolwarden fence setup {name}"))
        for device in devices:
            why, fix = device_complaint(pool, host, device)
            read = last_read(pool, device).good_at
            if why and host != master:
                found.append(Unready("fence-device", WARNING, f"{name}: {why}", fix))
            elif not why and (read is None or pool.now - read > STALE_MS):
                since = "in this run of the collector" if read is None else f"for {span(pool.now - read)}"
                test = f"poolwarden fence test {name}"
                found.append(Unready("untested", WARNING, f"{device.name} has not been read {since}", test))
    return found


def _gates(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """An agent whose host has a boot gate tells how that stands, whatever it has decided."""
    without = ", ".join(pool.name(host) for host, agent in heard.items() if agent.facts.boot_gate is None)
    if not without:
        return []
    why = f"no boot gate on {without}: once succeeded, xapi there would start as a second master when it returns"
    fix = "install the present agent's package there; systemctl cat xapi shows the gate"
    return [Unready("no-gate", WARNING, why, fix)]


def _disks(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    return [
        Unready(
            "disk",
            WARNING,
            f"{disk.mount} of {pool.name(host)} is {max(disk.used_percent, disk.inodes_used_percent):.0f} % full",
            f"poolwarden disks {pool.record.display_name}",
        )
        for host, agent in heard.items()
        for disk in agent.facts.disks
        if disk.level in (DiskLevel.WARNING, DiskLevel.CRITICAL, DiskLevel.FULL)
    ]


def _memory(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """A dom0 of which the kernel ends a process soon: no host to be made master, and none to be it."""
    found = []
    for host, agent in heard.items():
        facts, name = agent.facts, pool.name(host)
        if facts.memory_level in CROSSED:
            biggest = facts.memory_users[0] if facts.memory_users else None
            found.append(Unready("memory", WARNING, f"dom0 of {name}: {left(facts)}", help_for(name, biggest)))
    return found


def _storage(pool: Snapshot) -> list[Unready]:
    """Storage that does not answer, and attachments that are missing: the next master's VMs need them."""
    hangs = [
        Unready(
            "storage-stalled",
            CRITICAL,
            storage_stalls.sentence(pool, each),
            f"look at {each.what} and the network to it; poolwarden explain {pool.record.display_name}",
        )
        for each in storage_stalls.stalls(pool)
    ]
    shared = {each.name for each in storage_stalls.repositories(pool) if each.shared}
    missing: dict[str, list[str]] = {}
    for host, name in storage_stalls.unplugged(pool):
        if name in shared:
            missing.setdefault(name, []).append(pool.name(host))
    return hangs + [
        Unready(
            "storage-unplugged",
            WARNING,
            f"{name} is not attached on {', '.join(sorted(hosts))}: VMs with disks there cannot start on it",
            f"on the master: xe pbd-list sr-name-label={name} currently-attached=false; xe pbd-plug uuid=UUID",
        )
        for name, hosts in sorted(missing.items())
    ]


def _versions(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """Members of several versions: an upgrade that stopped half-way."""
    found = []
    xapis = {host: agent.facts.xapi_version for host, agent in heard.items()}
    agents = {host: agent.hello.agent_version for host, agent in heard.items()}
    what = (("xapi", xapis, "finish the upgrade, the master first"), ("agents", agents, "update the older agents"))
    for word, versions, fix in what:
        known = sorted({version for version in versions.values() if version})
        if len(known) > 1:
            by = "; ".join(f"{v} on {', '.join(pool.name(h) for h in versions if versions[h] == v)}" for v in known)
            found.append(Unready("versions", WARNING, f"{word} of several versions: {by}", fix))
    return found


def _disobeying(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """Hosts that are heard and refuse the orders of one of several collectors, whose epoch they have not taken."""
    taken = pool.site.takeover
    if taken is None or pool.now < taken.claimed_at + ACKNOWLEDGED_WITHIN_MS:
        return []
    able = [host for host, agent in heard.items() if "elsewhere" in agent.hello.capabilities]
    names = [pool.name(host) for host in able if host not in pool.live.acknowledged]
    if not names:
        return []
    who = f"{', '.join(names)} {'has' if len(names) == 1 else 'have'}"
    why = f"{who} not acknowledged this collector: its orders are refused there, and so is its part in any failover"
    step = (
        "pin the order keys of all collectors there: poolwarden-agent trust-key --list; its log says if it is not that"
    )
    return [Unready("not-acknowledged", CRITICAL, why, step)]


def _staying(pool: Snapshot, heard: dict[HostId, AgentState], past: JournalView) -> list[Unready]:
    """Agents that know one collector alone, where there are several."""
    if not past.several:
        return []
    found, says = [], {host: agent.hello.capabilities for host, agent in heard.items()}
    if names := [pool.name(host) for host, able in says.items() if "elsewhere" not in able]:
        why = f"the agents on {', '.join(names)} are too old to go to another collector"
        why += ": without this one nobody hears them"
        found.append(Unready("one-collector", WARNING, why, "install the present agent's package there"))
    if names := [pool.name(host) for host, able in says.items() if "one_collector" in able]:
        why = f"agent.conf of {', '.join(names)} lists one collector: when that one is lost, nobody hears them"
        step = "name all of them there (collector = A, B, C), then: systemctl restart poolwarden-agent"
        found.append(Unready("one-address", WARNING, why, step))
    return found


def _updates(pool: Snapshot) -> list[Unready]:
    """Hosts on which updates are installed that are not in effect: their next xapi is another one than that of now."""
    view, found = master_view(pool, suspected(pool)), []
    for item in view.hosts if view is not None else ():
        name = pool.name(item.host)
        if REBOOTS.intersection(item.guidances):
            why = f"{name} was updated and not rebooted: as a new master its new xapi would run on the old system"
            found.append(Unready("pending-reboot", WARNING, why, f"evacuate and reboot {name}; a pool's master first"))
        elif "restart_toolstack" in item.guidances:
            why = f"xapi on {name} was updated and not restarted: another version would start as a new master"
            found.append(Unready("pending-restart", WARNING, why, f"on {name}: xe-toolstack-restart"))
    return found


def _https_only(pool: Snapshot) -> list[Unready]:
    """Members open TCP 443 once they reach their master, and TCP 80 to nobody: a booting host can ask none of them."""
    view = master_view(pool, suspected(pool))
    closed = [pool.name(item.host) for item in view.hosts if item.https_only is Tri.YES] if view is not None else []
    if not closed:
        return []
    said = "after a power cut of all hosts none may start as master before this collector answers"
    fix = "see that the collector starts by itself after a power cut; or, on the master: poolwarden-agent gate open"
    return [Unready("https-only", WARNING, f"https_only on {', '.join(sorted(closed))}: {said}", fix)]


def _surroundings(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """Clocks that are off, certificates that end, and those of xapi that cannot be used: it meets them as it starts."""
    found = []
    for host, agent in heard.items():
        spoilt = {f"certificate ({c.name})" for c in agent.facts.around.certificates if c.days_left is None and c.text}
        for line in lines(agent.facts, pool.now):
            if line.level and (line.name in _MATTER or line.name in spoilt):
                code = "clock" if line.name == "clock" else "certificate"
                sentence = f"{pool.name(host)}: {line.name} {line.text}"
                found.append(Unready(code, WARNING, sentence, _SURROUNDING_FIX.get(line.name, RENEW)))
    return found


def _networks(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """Hosts whose BMC lies in the network of their management: one switch takes both, and nothing can be proven."""
    same = [
        pool.name(host)
        for host, agent in heard.items()
        if _one_network(agent.hello.machine.bmc_address, pool.record.address_of(host))
    ]
    if not same:
        return []
    why = f"BMC and management share a network on {', '.join(same)}: if that fails, nobody can prove a master off"
    return [Unready("one-network", WARNING, why, "put the BMCs into a network of their own, on other switches")]


def _one_network(one: str, other: str) -> bool:
    try:
        first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    except ValueError:
        return False
    bits = _NARROW[first.version]
    return second.version == first.version and second in ipaddress.ip_network(f"{first}/{bits}", strict=False)


def _failing(pool: Snapshot) -> list[Unready]:
    """What failed on a host of what is assumed of it, where a failover of this master is not asked about for it."""
    asked = assumptions_shown.asked_for(pool)
    critical = asked.subjects if asked is not None else ()
    return [
        Unready(
            "assumption",
            WARNING,
            f"on {pool.name(host)} {failed.id} fails ({failed.evidence or 'no evidence was told'}): {_means(failed)}",
            f"poolwarden host show {pool.name(host)}",
        )
        for host, failed in assumptions_shown.failing(pool)
        if not set(keys(host, (failed,))) & set(critical)
    ]


def _means(failed: FailedAssumption) -> str:
    """What is not done by itself on a host where this failed."""
    return "; ".join(NOT_BY_ITSELF[each] for each in failed.rests if each in NOT_BY_ITSELF) or "nothing rests on it"


def _never_seen(pool: Snapshot) -> list[Unready]:
    """What no host has shown yet: what Poolwarden does rests on what was read somewhere."""
    unseen = assumptions_shown.never_seen(pool)
    if not unseen:
        return []
    count = len({id for _capability, ids in unseen for id in ids})
    listed = "; ".join(f"{capability}: {', '.join(ids)}" for capability, ids in unseen)
    why = f"{count} of what is assumed of real hosts no host of this pool has shown yet: {listed}"
    drill = f"poolwarden drill {pool.record.display_name}"
    fix = f"a drill shows a part of it: {drill}; docs/verify-on-real-hosts.md tells each"
    return [Unready("never-seen", WARNING, why, fix)]


def _starts_by_policy(pool: Snapshot, heard: dict[HostId, AgentState]) -> list[Unready]:
    """The policy start_lost: agents that cannot tell owners' wishes, and that it will act for the first time."""
    if not policy_starts.wanted(pool):
        return []
    old = [pool.name(host) for host, a in heard.items() if policy_starts.CAPABILITY not in a.hello.capabilities]
    if old:
        why = (
            f"the agents of {', '.join(old)} do not tell which VMs their owners wish to be started (policy start_lost)"
        )
        return [Unready("start-lost", WARNING, why, "upgrade these agents: docs/backup-and-upgrade.md")]
    if pool.record.after.started_by_policy:
        return []
    why = "VMs with the tag poolwarden:start will start by themselves once their host is proven off and declared dead "
    why += "(policy start_lost = tagged); none has been started so in this pool yet"
    return [Unready("start-lost", WARNING, why, 'nothing, if that is meant; else start_lost = "never" in its policy')]


def _drills(pool: Snapshot, past: JournalView) -> list[Unready]:
    """What was tried here is the only proof that it works here; a change of master that came by itself tried a part."""
    name = pool.record.display_name
    if len(pool.record.hosts) < 2:
        return []
    newest = next((drill for drill in past.drills if drill.tried), None)
    if newest is not None and newest.ago_ms <= DRILL_MS:
        if not newest.failed:
            return []
        why = f"the last drill, {span(newest.ago_ms)} ago, has failed: {'; '.join(newest.failed)}"
        return [Unready("drill-failed", WARNING, why, f"mend it, then: poolwarden drill {name}")]
    change = min((change.ago_ms for change in past.changes), default=None)
    when = "no drill is on record" if newest is None else f"the last was {newest.ago_ms // 86_400_000} days ago"
    if newest is None and change is not None:
        when += f" (the last change of master was {span(change)} ago)"
    why = f"not drilled within a quarter: {when}"
    return [Unready("drill", WARNING, why, f"in a quiet hour: poolwarden drill {name}")]
