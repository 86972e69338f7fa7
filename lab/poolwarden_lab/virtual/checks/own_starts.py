"""Starts of lost VMs by policy, held against what is really so (I20).

The world knows what no collector can: which host has power, who was heard when, what a VM's owner did last. A start by
policy is looked at twice: when it is ordered, and when the VM is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, Protocol

from poolwarden_agent.core.start_wish import KEY, TAG
from poolwarden_collector.core.followups import policy_starts
from poolwarden_collector.core.model import orders as out
from poolwarden_collector.core.state.pool_record import PoolRecord
from poolwarden_lab.statedb import parse_map, parse_set
from poolwarden_lab.virtual.checks.journal_rules import Opinion
from poolwarden_lab.virtual.collector.collector import SimCollector
from poolwarden_lab.virtual.world.tapped import TappedPool
from poolwarden_lab.xapi.actions import Event

PROOF_MS = 12_000  # what a start rests on is at most 10 s old, and looked at once a second here
TOLD_MS = 15_000  # an owner's deed that the host's own agent has had the time to tell


class StartedIn(Protocol):
    """The pool whose VMs are started."""

    uuid: str
    pool: TappedPool
    outcasts: set[str]

    @property
    def now(self) -> int: ...
    def name_of(self, uuid: str) -> str: ...


class OwnStarts:
    """One pool's."""

    def __init__(self, world: StartedIn, heard_at: Mapping[str, int], fail: Callable[[str, str], NoReturn]) -> None:
        self._world = world
        self._heard_at = heard_at
        self._fail = fail
        self._powered: dict[str, int] = {}  # since when a host is seen to have power, ms
        self._halted: dict[str, int] = {}  # when a VM's owner, or its guest, has halted it
        self._untagged: dict[str, int] = {}  # when an owner has taken his wish back

    def look(self) -> None:
        """Once a second: who has power?"""
        for name, host in self._world.pool.hosts.items():
            if not host.power:
                self._powered.pop(name, None)
            elif name not in self._powered:
                self._powered[name] = self._world.now

    def halted(self, vm: str) -> None:
        """Its owner, or the guest itself, has shut this VM down."""
        self._halted[vm] = self._world.now

    def begun(self, vm: str) -> None:
        """A person has started it."""
        self._halted.pop(vm, None)

    def untagged(self, vm: str) -> None:
        """Its owner does not wish it any more."""
        self._untagged[vm] = self._world.now

    def ordered(self, shell: SimCollector, order: out.Order, record: PoolRecord) -> None:
        """An order is about to be sent."""
        kind, now = order.kind, self._world.now
        if not isinstance(kind, out.StartVm):
            return
        lost = record.after.lost.get(kind.vm)
        if lost is None or lost.state != "starting":
            self._fail("I20", f"{kind.vm} is to be started, and no journal has that intent")
        if not kind.only_if_wished:
            if lost.by_policy:
                self._fail("I20", f"{lost.name} is to be started by policy, whatever its owner wishes")
            return
        if shell.pools[self._world.uuid].policy.start_lost != "tagged":
            self._fail("I20", f"{lost.name} is to be started by a policy that the pool does not have")
        if record.paused is not None:
            self._fail("I20", f"{lost.name} is to be started in a paused pool")
        for name, host in self._world.pool.hosts.items():
            if host.uuid == lost.host:
                if host.power and not self._was_off(name, record.after.dead[host.uuid].boot_id):
                    self._fail("I20", f"{lost.name} is to be started, and {name}, where it was lost, lives")
            elif host.power and name not in self._world.outcasts and now - self._heard_at.get(name, 0) > PROOF_MS:
                self._fail("I20", f"{lost.name} is to be started, and nobody has heard {name} for {PROOF_MS} ms")

    def _was_off(self, name: str, boot: str) -> bool:
        """Has a host that has power been without since that boot, and has nobody heard it for long since it has?

        What a device that is stuck at OFF hides is a host that runs none of its VMs.
        """
        since = self._powered.get(name, self._world.now)
        known = self._heard_at.get(name, 0) > since and self._world.now - since > PROOF_MS
        now = self._world.pool.hosts[name].disk.read("proc/sys/kernel/random/boot_id").decode().strip()
        return now != boot and not known

    def happened(self, master: str, event: Event, opinions: Iterable[Opinion]) -> None:
        """Something of a VM in xapi's model."""
        vm = str(event.facts.get("vm", ""))
        if event.name == "vm-stopped":
            self.halted(vm)
        if event.name != "vm-started":
            return
        for lost in (item for each in opinions if (item := each.record.after.lost.get(vm)) is not None):
            if lost.state == "starting" and lost.by_policy:
                self._against_its_owner(master, vm, self._world.name_of(lost.host))
        self.begun(vm)

    def _against_its_owner(self, master: str, vm: str, host: str) -> None:
        now, model = self._world.now, self._world.pool.hosts[master].model
        at = self._halted.get(vm)
        if at is not None and self._heard_at.get(host, 0) >= at + TOLD_MS:
            self._fail("I20", f"{vm} is started by policy, which its owner had shut down {now - at} ms ago")
        rows = model.database.table("VM").values() if model is not None and model.database is not None else ()
        row = next((each for each in rows if each.get("uuid") == vm), {})
        tagged = "true" if TAG in parse_set(row.get("tags") or "()") else ""
        said = parse_map(row.get("other_config") or "()").get(KEY, tagged)
        if said != "true" and now - self._untagged.get(vm, 0) > policy_starts.VALID_MS + PROOF_MS:
            self._fail("I20", f"{vm} is started by policy, and its owner does not wish it")
