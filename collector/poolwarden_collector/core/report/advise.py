"""Advice before something is done by hand, yes or no, and why; here: where could a pool's VMs run.

Rules
-----
* The answer is *no* where something known stands against it, else *yes*; each line says what was looked at.
* What no agent reports is said as not known, with how to see it; nothing is guessed, and *yes* says how much is open.
* What is known and has to be done or noted before is *first*: it stands in nobody's way, and *yes* counts it.
* What is on a local repository is told by its own host, out of its copy of the pool's database. A member's is as old as
  the master's last push: that it names no disk or VM counts where it is no older than the master's.
* Nothing here decides anything. What a silent host or its master said last is told as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.evidence import storage_stalls
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.followups import policy_starts, vm_places
from poolwarden_collector.core.model.host_facts import StorageRepository
from poolwarden_collector.core.model.installation import LocalRepository
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.report.running_vms import down
from poolwarden_collector.core.state.snapshot import Snapshot

GOOD, BAD, FIRST, OPEN = "good", "bad", "first", "not known"
_RANK = {BAD: 0, FIRST: 1, OPEN: 2, GOOD: 3}
NO_DISKS = ("iso", "udev")  # types of repositories (sm: drivers/*SR.py): an ISO library, removable devices


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at: ``answer`` good, bad, first or not known; ``step``: how to see or mend it."""

    topic: str
    answer: str
    text: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """``answer``: yes or no, with its sentence; the lines that stand against it first."""

    answer: str
    sentence: str
    lines: tuple[Line, ...]


def advice(question: str, lines: list[Line]) -> Advice:
    against = [line for line in lines if line.answer == BAD]
    unknown = sum(1 for line in lines if line.answer == OPEN)
    them = (
        f"{unknown} things no agent reports: look at them" if unknown != 1 else "1 thing no agent reports: look at it"
    )
    rest = f"; {them} first" if unknown else ""
    ordered = tuple(sorted(lines, key=lambda line: _RANK[line.answer]))
    if against:
        return Advice("no", f"no: {'; '.join(line.text for line in against)}", ordered)
    before = sum(1 for line in lines if line.answer == FIRST)
    once = f" once {before} thing{'s are' if before != 1 else ' is'} done or noted" if before else ""
    return Advice("yes", f"yes, {question}{once}: nothing known stands against it{rest}", ordered)


def names_of(shown: tuple[str, ...], count: int) -> str:
    """Names, and how many more there are."""
    return ", ".join(shown[:8]) + (f" and {count - 8} more" if count > 8 else "")


def local_repository(pool: Snapshot, host: HostId, uuid: str) -> LocalRepository | None:
    """What its host tells of a repository of its own; ``None``: it is not known."""
    agent = pool.agent(host)
    records = agent.facts.installation.records if agent is not None else None
    return next((each for each in (records.repositories if records else None) or () if each.uuid == uuid), None)


def copy_is_current(pool: Snapshot, host: HostId) -> bool:
    """Is the host heard, and its copy of the database no older than that of a master that is heard?"""
    agent, master = pool.heard(host), pool.heard(pool.record.master) if pool.record.master else None
    if agent is None or master is None:
        return False
    return agent.facts.database.generation >= master.facts.database.generation > 0


# ------------------------------------------------------------------------------------------------ a pool's VMs


def advise_vms(pool: Snapshot) -> Advice:
    """Would the VMs of this pool have a place after the loss of any one host, as far as it is reported?"""
    lines = [*_lost(pool), *_by_policy(pool), *_places(pool), *_takers(pool), _memory()]
    return advice("every VM has a place without any one host", lines)


def _lost(pool: Snapshot) -> list[Line]:
    found = []
    for vm in down(pool):
        where = ", ".join(pool.name(host) for host in vm_places.possible(pool, vm.vm))
        why = vm.why or policy_starts.held_back(pool, vm.vm) or vm_places.why_not(pool, vm.vm)
        can = f"can start on {where}" if where else (why or "where it can start is not known yet")
        step = f"poolwarden start-lost {pool.record.display_name} --dry-run"
        found.append(Line("down", BAD, f"{vm.name} is down since {pool.name(vm.host)} died; {can}", step))
    return found


def _by_policy(pool: Snapshot) -> list[Line]:
    if not policy_starts.wanted(pool):
        said = 'policy start_lost is "never": lost VMs start at a word alone'
        return [Line("start_lost", GOOD, said, "docs/operating.md tells what the policy would start")]
    see = "xe vm-list tags:contains=poolwarden:start params=name-label,order,start-delay"
    return [Line("start_lost", OPEN, "which VMs their owners wish to be started is read after a loss alone", see)]


def _places(pool: Snapshot) -> list[Line]:
    known = storage_stalls.repositories(pool)
    if not known:
        return [Line("storage", OPEN, "the pool's storage repositories are not reported", "xe sr-list; xe pbd-list")]
    found = []
    for each in known:
        if each.type in NO_DISKS:
            continue
        see = f"xe vdi-list sr-uuid={each.uuid} params=name-label; xe vbd-list vdi-uuid=... names the VM"
        lacking = [pool.name(h) for h in pool.record.hosts if not any(x.host == h and x.attached for x in each.links)]
        if not each.shared:
            found.append(_local(pool, each, see))
        elif lacking:
            said = f"{each.name} ({each.type}) is not plugged on {', '.join(lacking)}: its VMs cannot start there"
            found.append(Line("shared storage", BAD, said, f"xe pbd-list sr-uuid={each.uuid}; xe pbd-plug uuid=..."))
        else:
            found.append(Line("shared storage", GOOD, f"{each.name} ({each.type}) is plugged on every host"))
    return found


def _local(pool: Snapshot, each: StorageRepository, see: str) -> Line:
    where = ", ".join(pool.name(link.host) for link in each.links)
    said = f"{each.name} ({each.type}) is local to {where or 'one host'}"
    known = local_repository(pool, each.links[0].host, each.uuid) if len(each.links) == 1 else None
    if known is None:
        return Line("local storage", OPEN, f"{said}: VMs with a disk on it start nowhere else", see)
    if known.vms:
        names = names_of(known.running + known.others, known.vms)
        many = f"{known.vms} VMs have" if known.vms > 1 else "1 VM has"
        step = f"move the disks to shared storage: xe vdi-pool-migrate, xe vm-migrate; {see}"
        return Line("local storage", BAD, f"{said}, and {many} a disk on it: {names}; no other host can start it", step)
    if copy_is_current(pool, each.links[0].host):
        return Line("local storage", GOOD, f"{said}, and no VM has a disk on it", see)
    old = "by a copy of the database that is older than the master's"
    return Line("local storage", OPEN, f"{said}; {old} no VM has a disk on it", see)


def _takers(pool: Snapshot) -> list[Line]:
    view = master_view(pool, pool.record.master) if pool.record.master else None
    if view is None:
        return [Line("hosts", OPEN, "which hosts take VMs is not told", "xe host-list params=name-label,enabled")]
    off = [item for item in view.hosts if not (item.live and item.enabled)]
    if off:
        names = ", ".join(item.name for item in off)
        return [Line("hosts", BAD, f"{names} takes no VM now: off or disabled", "poolwarden host enable HOST")]
    armed = [pool.name(h) for h in pool.record.hosts if (a := pool.heard(h)) and a.facts.database.ha_armed is Tri.YES]
    more = "; xapi's own HA restarts what it protects" if armed else ""
    return [Line("hosts", GOOD, f"all {len(view.hosts)} hosts are live and enabled{more}")]


def _memory() -> Line:
    said = "whether the others have the memory for the VMs of one is not reported"
    return Line(
        "memory",
        OPEN,
        said,
        "xe host-list params=name-label,memory-free; xe vm-list params=name-label,memory-static-max",
    )
