"""One collector as a member: its lease, and until when that gives it the right to act.

Rules
-----
* The right ends at two thirds of the lease's time, counted from the *sending* of the last renewal that was answered,
  on this machine's CLOCK_BOOTTIME, which goes on while it sleeps. Nobody's clock is compared with another's: etcd
  counts the lease's time from when it had that renewal, which is later than the sending.
* A renewal counts only with a linearizable read after it, answered in the same term of etcd's leader, that finds this
  member's key as it was made. A member of etcd that led the others, was stuck and runs on, answers renewals that they
  never hear of. Of a renewal and a read in one term both were that term's only leader's: the read was confirmed by a
  majority that had elected nobody since.
* The right is necessary for an act and never enough: such a member may also have a lease revoked before its time is
  over (both: etcd issue 15247, which etcd 3.4.23 of Debian 12 has). So every act has its entry in etcd first, under a
  compare of the owner's key (commits.py), and who takes a pool over waits from his own claim on.
* Whatever was thought lost in doubt costs the right when its time is over, and never earlier; a right that has ended
  comes back with the next renewal that counts, because then the lease has never been away.
* A lease that is no more is lost for good: everything owned under it is somebody else's. One joins anew.
* What the others are told of it (its load, that it is to leave) goes out with the next renewal.
* A name is one process: who finds his own name taken waits until its lease is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.cluster.etcd import (
    Alive,
    Created,
    Etcd,
    EtcdError,
    Exchange,
    Found,
    Get,
    Grant,
    Granted,
    KeepAlive,
    Kept,
    LeaseGone,
    Put,
    Revoke,
    Txn,
    TxnDone,
    carry_out,
)
from poolwarden_collector.shell.cluster.names import Names

TTL_S = 10
SHORTEST_TTL_S = 5  # a change of etcd's leader costs 2.1 s, in which no lease can be renewed
RENEWALS = 5  # in a lease's time


@dataclass(frozen=True, slots=True)
class Right:
    """May this collector act? ``why_not`` is empty where it may; ``until`` is on CLOCK_BOOTTIME, 0 without a lease."""

    until: Ms
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an ownership hangs on: this process's lease, and the revision at which its member's key was made."""

    collector: str
    lease: int
    revision: int


@dataclass(frozen=True, slots=True)
class Joined:
    """It is a member."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class NameTaken:
    """Another process is that member, or the one before was a few seconds ago: its lease has to end first."""

    revision: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The lease is no more, and with it whatever was owned under it."""

    why: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """This renewal does not count; the next one may."""

    why: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """The right to act holds until then, on CLOCK_BOOTTIME."""

    until: Ms


Told = Joined | NameTaken | LeaseLost | Unanswered | Renewed


class Membership:
    """A collector's place among the others. ``clock`` reads CLOCK_BOOTTIME (ms). One exchange at a time."""

    def __init__(
        self,
        names: Names,
        collector: str,
        address: str,
        clock: Callable[[], Ms],
        ttl_s: int = TTL_S,
        operators: str = "",
    ) -> None:
        """``address``: where agents reach it; ``operators``: where they and the other collectors do."""
        if ttl_s < SHORTEST_TTL_S:
            raise ValueError(
                f"a lease of {ttl_s} s would end in a change of etcd's leader; {SHORTEST_TTL_S} s at least"
            )
        self.collector, self.address, self.operators = collector, address, operators
        self.draining = False  # it takes no pool any more
        self.load = 0  # agents whose streams end here
        self.standing: Standing | None = None
        self.ttl_s = ttl_s
        self._names, self._clock = names, clock
        self._ms: Ms = 0  # the lease's time, as etcd counts it
        self._sent: Ms = 0
        self._left = "it has not joined the other collectors"

    def right(self, now: Ms) -> Right:
        """May it act at this instant of CLOCK_BOOTTIME?"""
        if self.standing is None:
            return Right(0, self._left)
        until = self._sent + self._ms * 2 // 3
        # safety: counted from the sending, and no renewal from the future counts.
        if self._sent <= now < until:
            return Right(until)
        ago = (now - self._sent) / 1000
        return Right(until, f"its lease of {self._ms / 1000:g} s was renewed last {ago:.1f} s ago")

    def over_since(self, now: Ms) -> Ms:
        """For how long its lease's whole time has been over, as far as it knows; 0: it is not, or there is none."""
        return max(0, now - self._sent - self._ms) if self.standing is not None else 0

    # -------------------------------------------------------------------------------------------- exchanges

    def join(self) -> Exchange[Joined | NameTaken]:
        """A lease, and this member's key under it. Raises EtcdError: ask again."""
        sent = self._clock()
        granted: Granted = yield Grant(self.ttl_s)
        key = self._names.member(self.collector)
        made = Txn((Created(key, 0),), (Put(key, self._said(), granted.lease),), (Get(key),))
        try:
            done: TxnDone = yield made
            kept = None if done.succeeded else done.found[0].one
            revision = done.revision
        except LeaseGone:
            raise
        except EtcdError:
            # It may have been done: then the key stands under this lease, which nobody else has.
            found: Found = yield Get(key)
            if found.one is None or found.one.lease != granted.lease:
                raise
            kept, revision = None, found.one.created
        if kept is not None:
            yield Revoke(granted.lease)
            return NameTaken(kept.created)
        self._sent, self._ms = sent, min(granted.ttl_s, self.ttl_s) * 1000
        self.standing = Standing(self.collector, granted.lease, revision)
        return Joined(self.standing)

    def renew(self) -> Exchange[Renewed | LeaseLost | Unanswered]:
        """Ask for the lease's whole time again, and whether it is still this one."""
        standing = self.standing
        if standing is None:
            return LeaseLost(self._left)
        sent = self._clock()
        try:
            alive: Alive = yield KeepAlive(standing.lease)
            found: Found = yield Get(self._names.member(self.collector))
        except EtcdError as error:
            return Unanswered(str(error))
        if alive.ttl_s <= 0:
            return self._lost("etcd has let its lease go")
        if found.one is None or found.one.created != standing.revision or found.one.lease != standing.lease:
            return self._lost("its place among the collectors is gone")
        # safety: who answered the renewal may have led nobody any more; then etcd has not renewed anything.
        if not alive.term or alive.term != found.term:
            return Unanswered("etcd had another leader when it was asked whether that had renewed the lease")
        self._sent = max(self._sent, sent)
        self._ms = min(self._ms, alive.ttl_s * 1000)
        if found.one.value != self._said():
            # Also where an older word of its own has arrived late.
            with contextlib.suppress(EtcdError):
                yield from self._tell(standing)
        return Renewed(self.right(sent).until)

    def _tell(self, standing: Standing) -> Exchange[None]:
        """What the others read of this member: its address and load, and whether it takes pools."""
        key = self._names.member(self.collector)
        yield Txn((Created(key, standing.revision),), (Put(key, self._said(), standing.lease),))

    def leave(self) -> Exchange[None]:
        """Give the lease up, and with it what is still owned. After its pools were released in order (ownership.py)."""
        standing, self.standing = self.standing, None
        self._left = "it has left the other collectors"
        if standing is not None:
            yield Revoke(standing.lease)

    def _lost(self, why: str) -> LeaseLost:
        self.standing, self._left = None, why
        return LeaseLost(why)

    def _said(self) -> bytes:
        said = {"address": self.address, "operators": self.operators, "load": self.load, "draining": self.draining}
        return json.dumps(said).encode()


@dataclass(frozen=True, slots=True)
class Member:
    """Another collector, as it says itself. ``revision`` tells two processes of one name apart.

    ``address``: where agents reach it; ``operators``: where they and the other collectors do, empty if it says none.
    """

    collector: str
    address: str
    load: int
    draining: bool
    revision: int
    lease: int
    operators: str = ""


def members(names: Names, found: Found) -> dict[str, Member]:
    """Who is there, from a read of all members' keys; one that cannot be read is there and takes no pool."""
    there = {}
    for kept in found.kept:
        parts = names.parts(kept.key)
        if len(parts) == 2:
            there[parts[1]] = _member(parts[1], kept)
    return there


def _member(collector: str, kept: Kept) -> Member:
    try:
        said = json.loads(kept.value)
        address, load, draining = str(said["address"]), int(said["load"]), bool(said["draining"])
        operators = str(said.get("operators", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        address, load, draining, operators = "", 0, True, ""
    return Member(collector, address, load, draining, kept.created, kept.lease, operators)


async def stay(etcd: Etcd, membership: Membership, tell: Callable[[Told], None]) -> None:
    """Join and renew for ever, five times in a lease's time; ``tell`` hears each outcome, in its order."""
    while True:
        try:
            told: Told = await carry_out(etcd, membership.renew() if membership.standing else membership.join())
        except EtcdError as error:
            told = Unanswered(str(error))
        tell(told)
        await asyncio.sleep(membership.ttl_s / RENEWALS)
