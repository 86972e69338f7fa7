"""What is durable beside the failovers: repairs, database pushes, planned switchovers, the dead and what ran on them.

Invariant: ``follow`` is total and pure, as ``record.apply`` is, of which it is a part; entries of other kinds change
nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import HostId


@dataclass(frozen=True, slots=True)
class Designation:
    """A planned switchover that was asked for and has no result yet; ``order`` is empty until it was ordered."""

    host: HostId
    before: HostId
    by: str
    order: str = ""


@dataclass(frozen=True, slots=True)
class DeadHost:
    """A host proven off in this boot, of which xapi is (to be) told; ``order`` is under way at ``master``.

    ``own``: a failover's own power proof had it owed, and its list is not over; a person may have asked for it to be
    done sooner (``by``).
    """

    host: HostId
    boot_id: str
    by: str
    listed: bool = False  # the VMs that ran there are on record
    order: str = ""
    master: HostId = ""
    declared: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class LostVm:
    """A VM that ran on a dead host; ``state``: lost, queued, starting, started, running, failed.

    ``seen``: its host's own agent had it among its domains when it was last heard; None: that is not known any more.
    ``by_policy``: it was queued by the policy start_lost, not at a person's word. ``boot_id``: of its host, in which it
    was lost; empty: listed by an earlier version.
    """

    vm: str
    name: str
    host: HostId
    state: str = "lost"
    on: HostId = ""
    order: str = ""
    why: str = ""
    seen: bool | None = None
    by_policy: bool = False
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """A host's power being switched; ``run`` is empty between two devices, ``left`` are those still to come."""

    on: bool
    by: str
    device: str
    run: str
    left: tuple[str, ...] = ()
    forced: bool = False  # an `off` that its operator wants although the host lives

    @property
    def word(self) -> str:
        return "on" if self.on else "off"


@dataclass(frozen=True, slots=True)
class Aftermath:
    """One pool's share of it."""

    repairs: dict[HostId, tuple[str, ...]] = field(default_factory=dict)  # what was tried on each: repoint, restart
    repaired: frozenset[HostId] = frozenset()  # of these, who is attached again
    sync_order: str = ""  # a database push without a result
    sync_failure: str = ""  # why the last one failed; empty: it did not
    designation: Designation | None = None
    dead: dict[HostId, DeadHost] = field(default_factory=dict)
    lost: dict[str, LostVm] = field(default_factory=dict)
    switches: dict[HostId, Switch] = field(default_factory=dict)  # without a certain result yet
    woken: dict[HostId, tuple[str, int]] = field(default_factory=dict)  # boot to which it was owed, tries
    started_by_policy: int = 0  # how many lost VMs the policy start_lost has had started, ever


def fold_followups(after: Aftermath, entry: Entry) -> Aftermath:
    """What is owed, after one entry."""
    change = _CHANGES.get(entry.kind)
    return change(after, entry) if change is not None else after


def _tried(what: str) -> Callable[[Aftermath, Entry], Aftermath]:
    def change(after: Aftermath, entry: Entry) -> Aftermath:
        if not entry.data.get("repair"):
            return after
        host = entry.data["host"]
        tried = (*after.repairs.get(host, ()), what)
        return replace(after, repairs={**after.repairs, host: tried}, repaired=after.repaired - {host})

    return change


def _repaired(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    if not entry.data.get("over"):
        return replace(after, repaired=after.repaired | {host})
    return _forget_host(after, entry)


def _forget_host(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    kept = {name: tried for name, tried in after.repairs.items() if name != host}
    return replace(after, repairs=kept, repaired=after.repaired - {host})


def _host_left(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    dead = {name: item for name, item in after.dead.items() if name != host}
    return _forget_host(replace(after, dead=dead), entry)


def _sync_result(after: Aftermath, entry: Entry) -> Aftermath:
    done = entry.data["outcome"] == "done"
    return replace(after, sync_order="", sync_failure="" if done else entry.data["why"])


def _designating(after: Aftermath, entry: Entry) -> Aftermath:
    data = entry.data
    return replace(after, designation=Designation(data["host"], data["before"], data["by"], data.get("order", "")))


def _owed(after: Aftermath, entry: Entry) -> Aftermath:
    data = entry.data
    if data["what"] == "wake":
        return replace(after, woken={**after.woken, data["host"]: (data["boot_id"], 0)})
    if data["what"] != "declare-dead":
        return after
    host, boot, before = data["host"], data["boot_id"], after.dead.get(data["host"])
    own = data["by"] == "poolwarden" or (before is not None and before.own and before.boot_id == boot)
    return replace(after, dead={**after.dead, host: DeadHost(host, boot, data["by"], own=own)})


def _of_dead(**changes: Any) -> Callable[[Aftermath, Entry], Aftermath]:
    def change(after: Aftermath, entry: Entry) -> Aftermath:
        host = entry.data["host"]
        if host not in after.dead:
            return after
        values = {name: (value(entry) if callable(value) else value) for name, value in changes.items()}
        return replace(after, dead={**after.dead, host: replace(after.dead[host], **values)})

    return change


def _lost_vms(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    kept = {vm: item for vm, item in after.lost.items() if item.host != host}
    boot = after.dead[host].boot_id if host in after.dead else ""
    found = {
        item["vm"]: LostVm(item["vm"], item["name"], host, seen=item.get("seen"), boot_id=boot)
        for item in entry.data["vms"]
    }
    # What was tried by policy, or has run since, stays so when its host is listed again: nobody but a person has it
    # tried anew. In another boot it is lost anew.
    before = (after.lost.get(vm) for vm in found)
    tried = {
        item.vm: _listed_again(item)
        for item in before
        if item and item.host == host and _tried_or_ran(item) and item.boot_id in ("", boot)
    }
    # A list that a person has forgotten, or of which everything has run since, is no policy's matter any more.
    own = {"own": False} if entry.data.get("over") else {}
    return _of_dead(listed=True, **own)(replace(after, lost={**kept, **found, **tried}), entry)


def _tried_or_ran(item: LostVm) -> bool:
    return item.state in ("started", "running") or (item.by_policy and item.state != "lost")


def _listed_again(item: LostVm) -> LostVm:
    """A list names no VM that runs: one that was started before has been lost since, wherever that was."""
    if item.state not in ("started", "running"):
        return item
    return replace(item, state="failed", why="it was started before, and runs nowhere any more", on="", order="")


def _of_vm(after: Aftermath, entry: Entry) -> Aftermath:
    data = entry.data
    item = after.lost.get(data["vm"])
    if item is None:
        return after
    changed = replace(
        item,
        state=data["state"],
        on=data.get("on", item.on),
        order=data.get("order", ""),
        why=data.get("why", ""),
        by_policy=data.get("policy", False) if data["state"] == "queued" else item.by_policy,
    )
    own = item.by_policy and item.state == "starting" and changed.state == "started"
    return replace(after, lost={**after.lost, item.vm: changed}, started_by_policy=after.started_by_policy + own)


def _switching(after: Aftermath, entry: Entry) -> Aftermath:
    data = entry.data
    host, switch = (
        data["host"],
        Switch(data["on"], data["by"], data["device"], data["run"], tuple(data["left"]), data.get("forced", False)),
    )
    woken = after.woken
    if data["on"] and data["by"] == "poolwarden" and host in woken:
        woken = {**woken, host: (woken[host][0], woken[host][1] + 1)}
    return replace(after, switches={**after.switches, host: switch}, woken=woken)


def _switched(after: Aftermath, entry: Entry) -> Aftermath:
    host = entry.data["host"]
    switch = after.switches.get(host)
    others = {name: item for name, item in after.switches.items() if name != host}
    if switch is not None and switch.left and not entry.data.get("over"):
        return replace(after, switches={**others, host: replace(switch, run="")})
    return replace(after, switches=others)


_CHANGES: dict[Kind, Callable[[Aftermath, Entry], Aftermath]] = {
    Kind.REPOINT_INTENT: _tried("repoint"),
    Kind.RESTART_INTENT: _tried("restart"),
    Kind.REPAIRED: _repaired,
    Kind.HOST_LEFT: _host_left,
    Kind.SYNC_INTENT: lambda a, e: replace(a, sync_order=e.data["order"]),
    Kind.SYNC_RESULT: _sync_result,
    Kind.DESIGNATE_INTENT: _designating,
    Kind.OWED: _owed,
    Kind.LOST_VMS: _lost_vms,
    Kind.DEAD_INTENT: _of_dead(order=lambda e: e.data["order"], master=lambda e: e.data["master"]),
    Kind.DECLARED_DEAD: _of_dead(order="", declared=lambda e: e.data["declared"]),
    Kind.START_INTENT: _of_vm,
    Kind.START_RESULT: _of_vm,
    Kind.SWITCH_INTENT: _switching,
    Kind.SWITCH_RESULT: _switched,
    Kind.DESIGNATE_RESULT: lambda a, _: replace(a, designation=None),
}
