"""Faults of several collectors and of their etcd, and what persons do with them."""

from __future__ import annotations

from poolwarden_lab.virtual.checks.ownership_rules import OwnershipRules
from poolwarden_lab.virtual.collector.process import Still
from poolwarden_lab.virtual.several.cluster import Cluster
from poolwarden_lab.virtual.several.shared_shell import SharedShell
from poolwarden_lab.virtual.several.world_etcd import WorldEtcd
from poolwarden_lab.virtual.world.ground import Ground, NoSuchThing

MEMBERS = 3


class SeveralFaults(Ground):
    """A world of one collector has none of this: NoSuchThing."""

    cluster: Cluster | None
    ownership: OwnershipRules | None

    @property
    def collectors(self) -> Cluster:
        """All of them."""
        if self.cluster is None:
            raise NoSuchThing("one collector alone has no etcd: write `collectors 3` before `start`")
        return self.cluster

    @property
    def etcd(self) -> WorldEtcd:
        return self.collectors.etcd

    def process(self, node: str) -> SharedShell:
        """One of several that runs. Raises NoSuchThing."""
        shell = self.stations[node].shell
        if not isinstance(shell, SharedShell) or not shell.alive:
            raise NoSuchThing(f"{node} does not run")
        return shell

    def stand_still(self, node: str, how: Still, ms: int | None = None) -> None:
        """Its process stands still from here on, for so long; None: until ``thaw_collector``."""
        shell = self.process(node)
        if how is Still.PAUSED and self.ownership is not None:
            self.ownership.let_go = True  # its right lasts by its own clock, and its lease does not
            self.ownership.no_clock.add(node)
        shell.freeze(how)
        self.watch(node)
        if ms is not None:
            self.later(ms, lambda: shell.thaw() if shell.alive and shell.frozen else None)

    # ------------------------------------------------------------------------------------------ etcd

    def etcd_down(self, down: bool = True, members: int = MEMBERS) -> None:
        """So many of its members are gone, or all are back."""
        for member in range(MEMBERS if not down else members):
            self.etcd.stop(member) if down else self.etcd.start(member)
        self.happened("etcd", f"{members} of {MEMBERS} members are gone" if down else "every member runs")

    def stuck_leader(self, node: str) -> None:
        """Its leader stands still, the others elect another one, it runs on; this collector reaches it alone."""
        stuck = self.etcd.stuck_leader()
        self.etcd.cut(node, *(set(range(MEMBERS)) - {stuck}))
        self.happened("etcd", f"member {stuck + 1} leads no more and does not know that; {node} reaches it alone")

    def let_lease_go(self, node: str) -> None:
        """Its lease is revoked before its time is over (etcd issue 15247)."""
        standing = self.process(node).membership.standing
        if standing is None:
            raise NoSuchThing(f"{node} has no lease")
        if self.ownership is not None:
            self.ownership.let_go = True
        self.etcd.let_go(standing.lease)

    def back_etcd_up(self) -> None:
        """A backup of etcd."""
        self.collectors.back_up()

    def restore_etcd(self) -> None:
        """etcd is rebuilt from the backup. Raises NoSuchThing."""
        if not self.collectors.restore():
            raise NoSuchThing("no backup of etcd was taken")
        if self.ownership is not None:
            self.ownership.restore()

    def etcd_is_well(self) -> None:
        """No fault of etcd is left."""
        self.etcd.join()
        self.etcd.disk_ms = 0
        self.etcd_down(False)
        for node in self.collectors.nodes:
            self.etcd.heal(node)

    # ------------------------------------------------------------------------------------------ persons

    def move_pool(self, pool: str, to: str) -> None:
        """A person's command: this collector is to have the pool."""
        self.collectors.move(self.of(pool).uuid, to)

    def drain(self, node: str, on: bool = True) -> None:
        """A person's command: this collector is to give its pools up and to take none."""
        self.process(node).membership.draining = on
