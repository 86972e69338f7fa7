"""Whose doing it is that a xapi terminated a VM (I17).

A xapi kills the domains on its host that its pool's database does not place there: right after its own start as master,
or when its host attaches to a master. That is Poolwarden's doing where it made one of the two processes start that had
to agree: the host's own xapi was started by one of our orders, or the serving master came to its role by our promotion
within the last half hour (afterwards its database is its own again). A xapi that crashed by itself and came back with a
database five minutes old kills without us.
"""

from __future__ import annotations

from typing import Protocol

from poolwarden_lab.virtual.world.tapped import TappedPool
from poolwarden_lab.xapi.hypervisor import Kill

OURS_MS = 1_800_000
STARTING = ("promote", "repoint", "restart_xapi", "toolstack_release", "designate_master", "recover_members")


class KilledIn(Protocol):
    """The pool whose VMs are looked after."""

    pool: TappedPool

    @property
    def now(self) -> int: ...
    def masters(self) -> list[str]: ...


class Kills:
    """Who started which xapi, and which kills follow from that."""

    def __init__(self, world: KilledIn) -> None:
        self.world = world
        self._ordered: set[str] = set()  # hosts where an order of ours was carried out that makes xapi start
        self._by_us: dict[str, bool] = {}  # the present process of each host: did we have it started?
        self._promoted: dict[str, int] = {}  # hosts that we promoted, and when
        self._excused: dict[str, int] = {}  # kills on each host that were judged already
        self._ours: list[Kill] = []
        self._moved: dict[
            str, int
        ] = {}  # VMs, by uuid, whose domain a person moved without telling any master, and when

    def carries_out(self, name: str, kind: str, refused: bool = False) -> None:
        """The agent of this host begins an order (or has refused it)."""
        if kind in STARTING:
            self._ordered.discard(name) if refused else self._ordered.add(name)

    def started(self, name: str) -> None:
        """A new xapi runs there."""
        self._by_us[name] = name in self._ordered
        self._ordered.discard(name)

    def moved(self, uuid: str) -> None:
        """A domain was moved by hand, and no master was asked."""
        self._moved[uuid] = self.world.now

    def promoted(self, name: str, by_us: bool) -> None:
        """A xapi was told to become master."""
        if by_us:
            self._promoted[name] = self.world.now
        else:
            self._promoted.pop(name, None)

    def _to_blame(self, name: str) -> bool:
        masters = self.world.masters()
        newly = any(self.world.now - self._promoted.get(master, -OURS_MS) < OURS_MS for master in [name, *masters])
        return newly or self._by_us.get(name, False)

    def _foreseeable(self, kill: Kill) -> bool:
        """Did it run there when the serving master was promoted? Whoever moves a domain behind its back kills it."""
        begun = max((self._promoted.get(master, -OURS_MS) for master in self.world.masters()), default=-OURS_MS)
        return self._moved.get(kill.uuid, begun) <= begun or begun == -OURS_MS

    def _counts(self, kill: Kill, expected: set[str]) -> bool:
        return kill.why != "migrated-away" and kill.name not in expected and self._foreseeable(kill)

    def ours(self, name: str, expected: set[str]) -> list[Kill]:
        """All kills so far that are Poolwarden's doing, those on this host judged now."""
        kills = self.world.pool.hosts[name].domains.kills
        fresh, self._excused[name] = kills[self._excused.get(name, 0) :], len(kills)
        if self._to_blame(name):
            self._ours += [kill for kill in fresh if self._counts(kill, expected)]
        return self._ours
