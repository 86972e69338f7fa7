"""What a database has of one host that its new installation loses or needs, from one pass over its rows. Pure.

Rules
-----
* A local repository is one that is not shared and has a PBD of this host. Each of its VDIs counts, snapshots and what
  xapi keeps for itself among them. A VM uses it by a VBD, or by the memory that it was suspended with (VM.suspend_VDI);
  templates and snapshots of VMs are no VMs.
* Where there are more rows than ``MOST_ROWS`` nothing is said of repositories: part of them is never told as all.
* The copy of a member is as old as the master's last push; whoever shows it says so.
"""

import re
from typing import Callable, Dict, List, NamedTuple, Optional, Set, Tuple

MOST_ROWS = 20000  # of the tables with few rows; and VDIs that may be local, VBDs and VMs together
MOST_NAMES = 8
MOST_PIFS = 64
MOST_REPOSITORIES = 32
LONGEST_NAME = 60  # characters: all names together stay far below what a report may have
_BYTES = re.compile(r"[0-9]{1,17}\Z")
_NULL = ("", "OpaqueRef:NULL")
# What is kept of the tables with few rows. The others' rows are put together as they come.
_FEW = {
    "PBD": ("host", "SR"),
    "SR": ("uuid", "name__label", "type"),
    "PIF": ("uuid", "host", "device", "MAC", "physical"),
    "host": ("uuid", "edition"),
    "pool": ("redo_log_enabled",),
}

Pif = NamedTuple("Pif", [("uuid", str), ("device", str), ("mac", str)])


class LocalRepository(NamedTuple):
    """``disks`` VDIs of ``bytes`` in all; names of the first 8 VMs that run, and of 8 others; ``vms``: how many."""

    uuid: str
    name: str
    type: str
    disks: int
    bytes: int
    running: Tuple[str, ...]
    others: Tuple[str, ...]
    vms: int


class HostRecords(NamedTuple):
    """``repositories`` None: not known; ``edition`` empty, ``redo_log`` None: not known."""

    pifs: Tuple[Pif, ...]
    repositories: Optional[Tuple[LocalRepository, ...]]
    edition: str
    redo_log: Optional[bool]


class HostRows(object):
    """Takes the rows of one file as they come; ``records`` once all of them have come.

    ``meant``: a value of the file as xapi means it.
    """

    def __init__(self, host: str, meant: Callable[[str], str]) -> None:
        self._host, self._meant = host, meant
        self._rows: Dict[str, Dict[str, Dict[str, str]]] = {name: {} for name in _FEW}
        self._shared: Set[str] = set()
        self._disks: Dict[str, Tuple[str, int]] = {}  # VDI -> its SR, bytes
        self._uses: List[Tuple[str, str]] = []  # VM, VDI
        self._vms: Dict[str, Tuple[str, bool]] = {}  # VM -> its name, does it run
        self._few = self._many = 0

    def row(self, table: str, attributes: Dict[str, str]) -> None:
        """One row of any table."""
        ref = attributes.get("ref", attributes.get("_ref", ""))
        if table in _FEW:
            self._keep(table, ref, attributes)
        elif self._many > MOST_ROWS:
            return
        elif table == "VDI":
            self._disk(ref, attributes)
        elif table == "VBD":
            self._use(attributes.get("VM", ""), attributes.get("VDI", ""))
        elif table == "VM":
            self._vm(ref, attributes)

    def _keep(self, table: str, ref: str, row: Dict[str, str]) -> None:
        self._few += 1
        if self._few <= MOST_ROWS:
            self._rows[table][ref] = {name: row[name] for name in _FEW[table] if name in row}
            if table == "SR" and row.get("shared") == "true":
                self._shared.add(ref)

    def _disk(self, ref: str, row: Dict[str, str]) -> None:
        repository, size = row.get("SR", ""), row.get("virtual_size", "")
        if repository not in self._shared:  # the file has its tables by their names: SR comes before VDI
            self._many += 1
            self._disks[ref] = repository, int(size) if _BYTES.match(size) else 0

    def _use(self, vm: str, disk: str) -> None:
        if disk not in _NULL and vm not in _NULL:
            self._many += 1
            self._uses.append((vm, disk))

    def _vm(self, ref: str, row: Dict[str, str]) -> None:
        if any(row.get(flag) == "true" for flag in ("is_control_domain", "is_a_template", "is_a_snapshot")):
            return
        self._many += 1
        self._vms[ref] = row.get("name__label", ""), row.get("power_state") in ("Running", "Paused")
        self._use(ref, row.get("suspend_VDI", ""))

    def records(self) -> Optional[HostRecords]:
        """What the file has of this host; None: it has no row of it."""
        own = {ref for ref, row in self._rows["host"].items() if row.get("uuid") == self._host and self._host}
        if len(own) != 1:
            return None
        ref = own.pop()
        pool = next(iter(self._rows["pool"].values()), {})  # type: Dict[str, str]
        redo_log = {"true": True, "false": False}.get(pool.get("redo_log_enabled", ""))
        whole = max(self._few, self._many) <= MOST_ROWS
        edition = self._meant(self._rows["host"][ref].get("edition", ""))[:40]
        return HostRecords(self._pifs(ref), self._repositories(ref) if whole else None, edition, redo_log)

    def _pifs(self, host: str) -> Tuple[Pif, ...]:
        found = [
            Pif(row.get("uuid", ""), self._meant(row.get("device", ""))[:40], row.get("MAC", "").lower()[:40])
            for row in self._rows["PIF"].values()
            if row.get("host") == host and row.get("physical") == "true"
        ]
        return tuple(sorted(found, key=lambda pif: (pif.device, pif.uuid))[:MOST_PIFS])

    def _repositories(self, host: str) -> Tuple[LocalRepository, ...]:
        plugged = {row.get("SR", "") for row in self._rows["PBD"].values() if row.get("host") == host}
        local = {ref: row for ref, row in self._rows["SR"].items() if ref in plugged and ref not in self._shared}
        found = [self._repository(ref, row) for ref, row in local.items()]
        return tuple(sorted(found, key=lambda each: (not each.disks, each.name, each.uuid))[:MOST_REPOSITORIES])

    def _repository(self, ref: str, row: Dict[str, str]) -> LocalRepository:
        disks = {disk: size for disk, (repository, size) in self._disks.items() if repository == ref}
        vms = {vm for vm, disk in self._uses if disk in disks and vm in self._vms}
        names = sorted((self._meant(self._vms[vm][0])[:LONGEST_NAME], self._vms[vm][1]) for vm in vms)
        running = [name for name, runs in names if runs]
        others = [name for name, runs in names if not runs]
        return LocalRepository(
            row.get("uuid", ""),
            self._meant(row.get("name__label", ""))[:LONGEST_NAME],
            row.get("type", "")[:LONGEST_NAME],
            len(disks),
            sum(disks.values()),
            tuple(running[:MOST_NAMES]),
            tuple(others[:MOST_NAMES]),
            len(vms),
        )
