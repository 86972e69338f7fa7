"""Storage that does not answer: one fault that shows as ten, named once for the hosts that see it.

Theory: a server of storage that is away blocks whoever touches what it serves. xapi runs storage drivers for many calls
and waits for them; so do tapdisks, backups and shells. What people see is a xapi that is slow or hangs on several
hosts, attachments that fail, VMs that stand. The mounts that do not answer are the cause, their server is what to mend.

Rules
-----
* Nothing is decided by it. A xapi that hangs is judged as any other; where a mount hangs on every host that is heard it
  is said that another master would hang as well.
* A stall counts while its host is heard, and once it has lasted ``LASTED_MS``. Processes that wait for a disk are shown
  with the host; an alert names mounts alone, because a process may wait for anything.
* Hosts mount one repository each for itself: what they mount is the same where server and path are.
* A host's word counts for its ``MOST_OF_A_HOST`` oldest stalls: one that makes them up names no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import StorageRepository, StorageStall
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.snapshot import Snapshot

LASTED_MS: Ms = 10_000
MOST_OF_A_HOST = 8


@dataclass(frozen=True, slots=True)
class Stall:
    """One thing that does not answer, and who sees it."""

    what: str  # "10.0.0.9:/vms"
    server: str
    name: str  # of its repository; empty: not known
    hosts: tuple[HostId, ...]
    since: Ms
    errors: tuple[str, ...]


def stalls(pool: Snapshot) -> tuple[Stall, ...]:
    """What does not answer on the hosts that are heard, the one that most hosts see first."""
    seen: dict[str, list[tuple[Ms, HostId, StorageStall]]] = {}
    for host in sorted(pool.record.hosts, key=pool.name):
        agent = pool.live.agents.get(host)
        if agent is None or not agent.facts.storage.stalls or pool.heard(host) is None:
            continue  # nearly always: this is asked at every report
        lasting = {each.what: (each.since or 0, each) for each in agent.facts.storage.stalls if _lasts(pool, each)}
        for since, each in sorted(lasting.values(), key=lambda one: (one[0], one[1].what))[:MOST_OF_A_HOST]:
            seen.setdefault(each.what, []).append((since, host, each))
    if not seen:
        return ()
    names = _names(pool)
    found = [_stall(pool, names, what, each) for what, each in seen.items()]
    return tuple(sorted(found, key=lambda stall: (-len(stall.hosts), stall.what)))


def _lasts(pool: Snapshot, stall: StorageStall) -> bool:
    return stall.mounted and stall.since is not None and pool.now - stall.since >= LASTED_MS


def _stall(pool: Snapshot, names: Mapping[str, str], what: str, seen: list[tuple[Ms, HostId, StorageStall]]) -> Stall:
    hosts = tuple(host for _, host, _ in seen)
    keys = [*(each.repository for _, _, each in seen), what]
    name = next((names[key] for key in keys if key in names), "")
    errors = dict.fromkeys(line for host in hosts for line in pool.live.agents[host].facts.storage.errors)
    return Stall(what, seen[0][2].server, name, hosts, min(since for since, _, _ in seen), tuple(errors)[:5])


def _names(pool: Snapshot) -> Mapping[str, str]:
    """What each repository is called, by its UUID and by where it is."""
    known = repositories(pool)
    served = {link.where: each.name for each in reversed(known) for link in each.links if link.where}
    return served | {each.uuid: each.name for each in reversed(known) if each.uuid}


def repositories(pool: Snapshot) -> tuple[StorageRepository, ...]:
    """The pool's storage as it was last told: by its master, while it is heard or not."""
    agent = pool.agent(pool.record.master) if pool.record.master else None
    return agent.facts.storage.repositories if agent is not None else ()


def sentence(pool: Snapshot, stall: Stall) -> str:
    """A stall in one sentence without a full stop."""
    named = f" ({stall.name})" if stall.name else ""
    hosts = ", ".join(pool.name(host) for host in stall.hosts)
    return f"storage does not answer: {stall.what}{named}, seen on {hosts} for {span(max(0, pool.now - stall.since))}"


def cause_of(pool: Snapshot, host: HostId) -> str:
    """The storage that does not answer on this host, in words; empty: none."""
    found = next((stall for stall in stalls(pool) if host in stall.hosts), None)
    return sentence(pool, found) if found is not None else ""


def everywhere(pool: Snapshot, stall: Stall) -> bool:
    """Do all hosts see it that are heard, so that another master would wait for it as well?"""
    heard = {host for host in pool.record.hosts if pool.heard(host) is not None}
    return len(heard) > 1 and heard <= set(stall.hosts)


def no_cure(pool: Snapshot) -> str:
    """Why another master would not help, in a sentence; empty where nothing of that kind is known."""
    found = next((stall for stall in stalls(pool) if everywhere(pool, stall)), None)
    if found is None:
        return ""
    return f"{found.what} hangs on every host that is heard: a xapi that waits for it would hang on another master, too"


def unplugged(pool: Snapshot) -> tuple[tuple[HostId, str], ...]:
    """(Host, repository) that is not attached there, by the serving master's view."""
    view = master_view(pool, pool.record.master) if pool.record.master else None
    if view is None:
        return ()
    return tuple(
        (item.host, name) for item in view.hosts if item.host in pool.record.hosts for name in item.unplugged_srs
    )
