"""May a host be installed anew now: its role, VMs, disks, adapters, interfaces, licence; what to save first.

Rules
-----
* As everywhere in advice (advise.py): known things decide, what is not known is said with how to see it.
* A new installation keeps the machine: WWNs of an HBA stay, the initiator's name and local disks do not. A new
  mainboard keeps less; what is to be noted for it is said as well.
* A PIF is stale where no NIC of the host has its MAC. It can be said where the MAC of each NIC is known.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence import storage_stalls
from poolwarden_collector.core.model.host_facts import StorageRepository
from poolwarden_collector.core.model.installation import Adapters, HostRecords, LocalRepository, Transport
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.report.advise import (
    BAD,
    FIRST,
    GOOD,
    NO_DISKS,
    OPEN,
    Advice,
    Line,
    advice,
    copy_is_current,
    local_repository,
    names_of,
)
from poolwarden_collector.core.report.running_vms import down
from poolwarden_collector.core.state.snapshot import Snapshot

# What a repository's type means for a host that is installed anew (sm: drivers/*SR.py).
_HBA = ("lvmohba", "hba", "rawhba", "lvmofcoe")
_ISCSI = ("lvmoiscsi", "iscsi")
_FILES = ("nfs", "smb", "cephfs", "glusterfs", "moosefs")
_NO_LICENCE = ("xcp-ng", "free")  # host.edition


def advise_rebuild(pool: Snapshot, host: HostId) -> Advice:
    """May this host be installed anew now?"""
    name = pool.name(host)
    lines = [
        _role(pool, host),
        _runs(pool, host),
        *_repositories(pool, host),
        _adapters(pool, host),
        *_beside(pool, host),
        _licence(pool, host),
        _boot_device(pool, host),
        _interfaces(pool, host),
        _first(pool, host),
    ]
    return advice(f"{name} may be rebuilt", lines)


def _seen(pool: Snapshot, host: HostId) -> Adapters | None:
    agent = pool.agent(host)
    return agent.facts.installation.adapters if agent is not None else None


def _records(pool: Snapshot, host: HostId) -> HostRecords | None:
    agent = pool.agent(host)
    return agent.facts.installation.records if agent is not None else None


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
        known, dead = pool.record.hosts.get(host), pool.record.after.dead.get(host)
        # It may have come back since, and be silent with other VMs.
        if known is not None and dead is not None and dead.declared and dead.boot_id == known.boot_id:
            return Line("VMs", GOOD, f"{name} is declared dead, and none of its VMs is down")
        said = f"{name} is silent; {count} VM{'s' if count != 1 else ''} ran there when it was last heard"
        step = f"look at {name} itself: xl list; if it is off: poolwarden declare-dead {name}"
        return Line("VMs", BAD if count else OPEN, said, step)
    if count:
        step = f"xe host-disable and xe host-evacuate uuid={host} move them away"
        return Line("VMs", BAD, f"{count} VM{'s run' if count > 1 else ' runs'} on {name}", step)
    return Line("VMs", GOOD, f"no VM runs on {name}")


def _repositories(pool: Snapshot, host: HostId) -> list[Line]:
    known, records = storage_stalls.repositories(pool), _records(pool, host)
    own = [each for each in known if any(link.host == host for link in each.links) and each.type not in NO_DISKS]
    told = {each.uuid for each in known}
    # What its own host's records have beside the master's word, where that is older or was never told.
    more = [each for each in (records.repositories if records else None) or () if each.uuid and each.uuid not in told]
    found = [_repository(pool, host, each) for each in own]
    found += [_local(pool, host, each.uuid, each.name, each.type) for each in more if each.type not in NO_DISKS]
    if not known:
        see = f"xe pbd-list host-uuid={host} params=sr-name-label,currently-attached"
        found.append(Line("storage", OPEN, "the pool's storage repositories are not reported", see))
    return found


def _repository(pool: Snapshot, host: HostId, each: StorageRepository) -> Line:
    name = pool.name(host)
    if not each.shared:
        return _local(pool, host, each.uuid, each.name, each.type)
    topic, said = "shared storage", f"{each.name} ({each.type})"
    if each.type in _HBA:
        return _by_hba(pool, host, said)
    if each.type in _ISCSI:
        return _by_iscsi(pool, host, said)
    if each.type in _FILES:
        return Line(topic, GOOD, f"{said} is plugged again when {name} joins; its exports name addresses")
    kind = each.type or "that was not told"
    see = f"xe vdi-list sr-uuid={each.uuid} params=name-label,virtual-size"
    said = f"{each.name} is of type {kind}: what a new installation needs for it is not known"
    return Line(topic, OPEN, said, f"ask its vendor; {see}")


def _local(pool: Snapshot, host: HostId, uuid: str, label: str, kind: str) -> Line:
    topic, said = "local storage", f"the local repository {label} ({kind})"
    see = f"xe vdi-list sr-uuid={uuid} params=name-label,virtual-size"
    known = local_repository(pool, host, uuid)
    if known is None or known.disks:
        step = f"{see}; move or export them: xe vdi-pool-migrate, xe vm-export"
        return Line(topic, BAD, f"{said} is wiped, with {_disks(known)} on it", step)
    if copy_is_current(pool, host):
        said = f"{said} is wiped, and holds no virtual disk by {pool.name(host)}'s copy of the pool's database"
        return Line(topic, GOOD, said, f"once more right before: {see}")
    old = f"the copy of the pool's database that {pool.name(host)} told of last is older than the master's"
    return Line(topic, OPEN, f"{said} is wiped: {old}, and names no virtual disk on it", see)


def _disks(known: LocalRepository | None) -> str:
    if known is None:
        return "every virtual disk"
    many = f"{known.disks} virtual disk{'s' if known.disks > 1 else ''} of {known.bytes / 1024**3:.1f} GiB"
    running = f"running {', '.join(known.running[:8])}" if known.running else ""
    others = f"not running {', '.join(known.others[:8])}" if known.others else ""
    if known.vms > 8:
        return f"{many} of {known.vms} VMs, {names_of(known.running + known.others, known.vms)},"
    used = f" ({'; '.join(each for each in (running, others) if each)})" if known.vms else " (of no VM)"
    return many + used


def _by_hba(pool: Snapshot, host: HostId, said: str) -> Line:
    topic, name, seen = "shared storage", pool.name(host), _seen(pool, host)
    see = f"see that zoning and LUN masking know the WWNs: on {name}: systool -c fc_host -v"
    if seen is None:
        return Line(topic, OPEN, f"{said} is reached by HBA: a new HBA has other WWNs", see)
    if not seen.fc_ports:
        said = f"{said} is reached by HBA, and {name} shows no port of Fibre Channel: SAS, or a driver of its own"
        return Line(topic, OPEN, said, f"on {name}: lspci; ls -l /sys/class/scsi_host")
    wwns = ", ".join(wwpn for wwpn, _ in seen.fc_ports[:8])
    said = f"{said} is reached by HBA: note its WWNs {wwns}; they stay with the HBA, a new one has others"
    return Line(topic, FIRST, said, see)


def _by_iscsi(pool: Snapshot, host: HostId, said: str) -> Line:
    topic, name, seen = "shared storage", pool.name(host), _seen(pool, host)
    see = f"note it: xe host-param-get uuid={host} param-name=iscsi_iqn; set it again, or let the target know"
    said = f"{said} is reached by Open-iSCSI: a new installation has another initiator IQN"
    if seen is None or seen.initiator is Tri.UNKNOWN:
        return Line(topic, OPEN, said, see)
    if seen.initiator is Tri.NO:
        return Line(topic, OPEN, f"{said}; {name} has no initiator's name now", see)
    targets = len(seen.iscsi_targets)
    sessions = f"{targets} target{'s' if targets != 1 else ''} in session" if targets else "no session now"
    return Line(topic, FIRST, f"{said} ({sessions})", see)


def _adapters(pool: Snapshot, host: HostId) -> Line:
    name, seen = pool.name(host), _seen(pool, host)
    if seen is None:
        see = f"on {name}: ls /sys/class/fc_host /sys/class/iscsi_session"
        return Line("adapters", OPEN, f"HBAs and iSCSI sessions of {name} are not reported", see)
    ports = ", ".join(f"{wwpn} ({state or 'state not told'})" for wwpn, state in seen.fc_ports[:8])
    targets = ", ".join(seen.iscsi_targets[:8])
    said = f"Fibre Channel: {ports or 'no port'}; iSCSI: {targets or 'no session'}"
    if not seen.fc_ports and not seen.iscsi_targets:
        return Line("adapters", GOOD, said)
    step = "the installer lists their LUNs as disks: mask or unplug while it runs what it must not be given"
    return Line("adapters", FIRST, said, step)


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
    agent, records = pool.agent(host), _records(pool, host)
    product = agent.facts.product if agent is not None else ""
    edition = records.edition if records is not None else ""
    see = f"xe host-param-get uuid={host} param-name=edition; apply it again afterwards"
    other = _other_editions(pool, host, edition)
    if edition and other:
        said = f"{pool.name(host)} has the edition {edition}, and others have another: {other}"
        return Line("licence", FIRST, said, f"{see}; all hosts of a pool need the same")
    if product.startswith("XCP-ng") or edition in _NO_LICENCE:
        return Line("licence", GOOD, f"{product or f'the edition {edition}'} needs no licence")
    if edition:
        return Line("licence", FIRST, f"{product or pool.name(host)} has the edition {edition}, licensed anew", see)
    said = "edition and licence are not reported" + (f" ({product})" if product else "")
    return Line("licence", OPEN, said, see)


def _other_editions(pool: Snapshot, host: HostId, edition: str) -> str:
    """Other hosts whose own edition differs; empty: none is known to."""
    told = {each: records.edition for each in pool.record.hosts if (records := _records(pool, each)) is not None}
    differ = [each for each, of in told.items() if each != host and of and of != edition]
    return ", ".join(f"{pool.name(each)} {told[each]}" for each in sorted(differ, key=pool.name))


def _boot_device(pool: Snapshot, host: HostId) -> Line:
    name, agent, adapters = pool.name(host), pool.agent(host), _seen(pool, host)
    disks = adapters.root_disks if adapters is not None else ()
    maps = agent.facts.around.maps if agent is not None else ()
    seen = f"{name} has multipath devices ({', '.join(each.name for each in maps[:4])}); " if maps else ""
    look = f"on {name}: findmnt -no SOURCE / and lsblk; multipath -ll"
    shown = ", ".join(f"{disk} ({transport.value})" for disk, transport in disks[:8])
    if any(transport not in (Transport.LOCAL, Transport.UNKNOWN) for _, transport in disks):
        said = f"{seen}{name} boots from SAN: {shown}; the installer must be given that LUN and no other"
        return Line("boot device", FIRST, said, f"note which it is, mask all others meanwhile; {look}")
    if disks and all(transport is Transport.LOCAL for _, transport in disks):
        return Line("boot device", GOOD, f"{name} boots from {shown}, and not from SAN")
    known = f"by what {shown} is reached is not known" if disks else f"whether {name} boots from SAN is not reported"
    said = f"{seen}{known}: the installer must not be given a LUN of the SAN as a blank disk"
    return Line("boot device", OPEN, said, look)


def _interfaces(pool: Snapshot, host: HostId) -> Line:
    seen, records = _seen(pool, host), _records(pool, host)
    see = f"note: xe pif-list host-uuid={host} params=device,MAC,IP,VLAN; afterwards xe pif-scan and xe pif-forget"
    later = "after a new mainboard PIFs of the old ones stay as stale records"
    if seen is None or not seen.nics:
        agent = pool.agent(host)
        nics = (
            ", ".join(f"{nic.name}{f' in {nic.bond}' if nic.bond else ''}" for nic in agent.facts.around.nics)
            if agent
            else ""
        )
        said = f"its interfaces as last reported: {nics or 'none'}; their MACs are not known. A" + later[1:]
        return Line("interfaces", OPEN, said, see)
    macs = {mac for _, mac in seen.nics}
    shown = ", ".join(f"{name} {mac or '(MAC not known)'}" for name, mac in seen.nics[:16])
    gone = [pif for pif in records.pifs if pif.mac not in macs] if records is not None else []
    if records is None or not records.pifs:
        return Line("interfaces", OPEN, f"its NICs: {shown}; its PIFs are not known; {later}", see)
    if not gone:
        return Line("interfaces", GOOD, f"each physical PIF is of a NIC that is there: {shown}; {later}", see)
    old = ", ".join(f"{pif.device} ({pif.mac or 'no MAC'})" for pif in gone[:8])
    if "" in macs:
        said = f"its NICs: {shown}; whether these PIFs are of one of them is not known: {old}"
        return Line("interfaces", OPEN, said, see)
    said = f"stale PIFs, of NICs that are not there, unless they were given to a VM: {old}; there are: {shown}"
    forget = " ".join(f"xe pif-forget uuid={pif.uuid};" for pif in gone[:8] if pif.uuid)
    return Line("interfaces", FIRST, said, f"xe pif-scan host-uuid={host}; {forget} {see}")


def _first(pool: Snapshot, host: HostId) -> Line:
    name, agent = pool.name(host), pool.agent(host)
    software = f"{agent.facts.product}, xapi {agent.facts.xapi_version}" if agent is not None else "its release"
    away = f"xe host-forget uuid={host}" if pool.heard(host) is None else f"xe pool-eject host-uuid={host}"
    said = f"save first: what is under local storage, the addresses above, BMC settings, own files in /etc of {name}"
    then = (
        f"then {away}; install {software}, join, enrol its agent anew (docs/enrolment.md), poolwarden fence test {name}"
    )
    return Line("steps", GOOD, said, then)
