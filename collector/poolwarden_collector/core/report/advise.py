"""Advice before something is done by hand: may a host be rebuilt, where could a pool's VMs run; yes or no, and why.

Rules
-----
* The answer is *no* where something known stands against it, else *yes*; each line says what was looked at.
* What no agent reports is said as not known, with how to see it; nothing is guessed, and *yes* says how much is open.
* Nothing here decides anything. What a silent host or its master said last is told as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.evidence import storage_stalls
from poolwarden_collector.core.evidence.membership import master_view
from poolwarden_collector.core.followups import policy_starts, vm_places
from poolwarden_collector.core.model.host_facts import StorageRepository
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.report.running_vms import down
from poolwarden_collector.core.state.snapshot import Snapshot

GOOD, BAD, OPEN = "good", "bad", "not known"
_RANK = {BAD: 0, OPEN: 1, GOOD: 2}
# What a repository's type means for a host that is installed anew (sm: drivers/*SR.py).
_HBA = ("lvmohba", "hba", "rawhba", "lvmofcoe")
_ISCSI = ("lvmoiscsi", "iscsi")
_FILES = ("nfs", "smb", "cephfs", "glusterfs", "moosefs")
_NO_DISKS = ("iso", "udev")  # an ISO library, removable devices


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at: ``answer`` good, bad or not known; ``step``: how to see or mend it."""

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
    rest = f"; {unknown} thing{'s' if unknown != 1 else ''} no agent reports: look at them first" if unknown else ""
    ordered = tuple(sorted(lines, key=lambda line: _RANK[line.answer]))
    if against:
        return Advice("no", f"no: {'; '.join(line.text for line in against)}", ordered)
    return Advice("yes", f"yes, {question}: nothing known stands against it{rest}", ordered)


# ------------------------------------------------------------------------------------------------ rebuilding a host


def advise_rebuild(pool: Snapshot, host: HostId) -> Advice:
    """May this host be installed anew now?"""
    name = pool.name(host)
    lines = [
        _role(pool, host),
        _runs(pool, host),
        *_repositories(pool, host),
        *_beside(pool, host),
        _licence(pool, host),
        _boot_device(pool, host),
        _interfaces(pool, host),
        _first(pool, host),
    ]
    return advice(f"{name} may be rebuilt", [line for line in lines if line is not None])


def _role(pool: Snapshot, host: HostId) -> Line:
    name = pool.name(host)
    if host == pool.record.master:
        step = "poolwarden designate HOST hands the role to another one first"
        return Line("role", BAD, f"{name} is the pool's master", step)
    owed = sorted({item.what.value for item in pool.record.owed if item.host == host})
    if owed and pool.heard(host) is not None:
        return Line(
            "role", BAD, f"{name} is still owed: {', '.join(owed)}", "poolwarden status POOL shows how far it is"
        )
    return Line("role", GOOD, f"{name} is not the master")


def _runs(pool: Snapshot, host: HostId) -> Line:
    name, agent = pool.name(host), pool.agent(host)
    lost = [vm.name for vm in down(pool) if vm.host == host]
    if lost:
        step = f"poolwarden start-lost {pool.record.display_name} --dry-run"
        return Line(
            "VMs", BAD, f"{len(lost)} VMs that were lost with {name} are still down: {', '.join(lost[:8])}", step
        )
    if agent is None or agent.facts.domains is None:
        return Line("VMs", OPEN, f"which VMs run on {name} is not known", f"on {name}: xl list")
    count = len(agent.facts.domains)
    if pool.heard(host) is None:
        dead = pool.record.after.dead.get(host)
        if dead is not None and dead.declared:
            return Line("VMs", GOOD, f"{name} is declared dead, and none of its VMs is down")
        said = f"{name} is silent; {count} VMs ran there when it was last heard"
        return Line("VMs", OPEN, said, f"look at {name} itself: xl list; if it is off: poolwarden declare-dead {name}")
    if count:
        step = f"xe host-disable and xe host-evacuate uuid={host} move them away"
        return Line("VMs", BAD, f"{count} VM{'s run' if count > 1 else ' runs'} on {name}", step)
    return Line("VMs", GOOD, f"no VM runs on {name}")


def _repositories(pool: Snapshot, host: HostId) -> list[Line]:
    known = storage_stalls.repositories(pool)
    if not known:
        see = f"xe pbd-list host-uuid={host} params=sr-name-label,currently-attached"
        return [Line("storage", OPEN, "the pool's storage repositories are not reported", see)]
    own = [each for each in known if any(link.host == host for link in each.links)]
    return [_repository(pool, host, each) for each in own if each.type not in _NO_DISKS]


def _repository(pool: Snapshot, host: HostId, each: StorageRepository) -> Line:
    name = pool.name(host)
    see = f"xe vdi-list sr-uuid={each.uuid} params=name-label,virtual-size"
    if not each.shared:
        said = f"the local repository {each.name} ({each.type}) is wiped, with every virtual disk on it"
        return Line("local storage", BAD, said, f"{see}; move or export them: xe vdi-pool-migrate, xe vm-export")
    topic = "shared storage"
    if each.type in _HBA:
        said = f"{each.name} ({each.type}) is reached by HBA: a new HBA has other WWNs"
        return Line(
            topic, OPEN, said, f"see that zoning and LUN masking know the WWNs: on {name}: systool -c fc_host -v"
        )
    if each.type in _ISCSI:
        said = f"{each.name} ({each.type}) is reached by Open-iSCSI: a new installation has another initiator IQN"
        see = f"note it: xe host-param-get uuid={host} param-name=iscsi_iqn; set it again, or let the target know"
        return Line(topic, OPEN, said, see)
    if each.type in _FILES:
        return Line(
            topic, GOOD, f"{each.name} ({each.type}) is plugged again when {name} joins; its exports name addresses"
        )
    said = (
        f"{each.name} is of type {each.type or 'that was not told'}: what a new installation needs for it is not known"
    )
    return Line(topic, OPEN, said, "ask its vendor; " + see)


def _beside(pool: Snapshot, host: HostId) -> list[Line]:
    others = [each for each in pool.record.hosts if each != host]
    heard = [each for each in others if pool.heard(each) is not None]
    if others and len(heard) < len(others):
        silent = ", ".join(pool.name(each) for each in others if each not in heard)
        return [Line("others", BAD, f"{silent} is not heard: one host less is left", "have its agent heard first")]
    if len(others) == 1:
        said = "only one host is left meanwhile: nobody could take over from it"
        return [Line("others", OPEN, said, f"poolwarden plan {pool.record.display_name}, and do it in a quiet hour")]
    return [Line("others", GOOD, f"the other {len(others)} hosts are heard")] if others else []


def _licence(pool: Snapshot, host: HostId) -> Line:
    agent = pool.agent(host)
    product = agent.facts.product if agent is not None else ""
    if product.startswith("XCP-ng"):
        return Line("licence", GOOD, f"{product} needs no licence")
    said = "edition and licence are not reported" + (f" ({product})" if product else "")
    return Line("licence", OPEN, said, f"xe host-param-get uuid={host} param-name=edition; apply it again afterwards")


def _boot_device(pool: Snapshot, host: HostId) -> Line:
    name = pool.name(host)
    agent = pool.agent(host)
    maps = agent.facts.around.maps if agent is not None else ()
    seen = f"{name} has multipath devices ({', '.join(each.name for each in maps[:4])}); " if maps else ""
    said = (
        f"{seen}whether {name} boots from SAN is not reported: the installer must not be given that LUN as a blank disk"
    )
    return Line("boot device", OPEN, said, f"on {name}: findmnt -no SOURCE / and lsblk; multipath -ll")


def _interfaces(pool: Snapshot, host: HostId) -> Line:
    agent = pool.agent(host)
    around = agent.facts.around if agent is not None else None
    nics = ", ".join(f"{nic.name}{f' in {nic.bond}' if nic.bond else ''}" for nic in around.nics) if around else ""
    said = f"its interfaces as last reported: {nics or 'not known'}; their MACs are not. "
    said += "After a new mainboard PIFs of the old ones stay as stale records"
    see = f"note: xe pif-list host-uuid={host} params=device,MAC,IP,VLAN; afterwards xe pif-scan and xe pif-forget"
    return Line("interfaces", OPEN, said, see)


def _first(pool: Snapshot, host: HostId) -> Line:
    name, agent = pool.name(host), pool.agent(host)
    software = f"{agent.facts.product}, xapi {agent.facts.xapi_version}" if agent is not None else "its release"
    away = f"xe host-forget uuid={host}" if pool.heard(host) is None else f"xe pool-eject host-uuid={host}"
    said = f"save first: what is under local storage, the addresses above, BMC settings, own files in /etc of {name}"
    then = (
        f"then {away}; install {software}, join, enrol its agent anew (docs/enrolment.md), poolwarden fence test {name}"
    )
    return Line("steps", GOOD, said, then)


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
        if each.type in _NO_DISKS:
            continue
        see = f"xe vdi-list sr-uuid={each.uuid} params=name-label; xe vbd-list vdi-uuid=... names the VM"
        lacking = [pool.name(h) for h in pool.record.hosts if not any(x.host == h and x.attached for x in each.links)]
        if not each.shared:
            where = ", ".join(pool.name(link.host) for link in each.links)
            said = (
                f"{each.name} ({each.type}) is local to {where or 'one host'}: VMs with a disk on it start nowhere else"
            )
            found.append(Line("local storage", OPEN, said, see))
        elif lacking:
            said = f"{each.name} ({each.type}) is not plugged on {', '.join(lacking)}: its VMs cannot start there"
            found.append(Line("shared storage", BAD, said, f"xe pbd-list sr-uuid={each.uuid}; xe pbd-plug uuid=..."))
        else:
            found.append(Line("shared storage", GOOD, f"{each.name} ({each.type}) is plugged on every host"))
    return found


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
