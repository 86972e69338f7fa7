"""etcd in virtual time: leases, revisions, transactions, and what etcd does when its members fail.

What is modelled, and from where it is known
--------------------------------------------
* One consistent store: every request is carried out at one instant, in one order; keys have create and mod revisions,
  and a read-only request changes none.
* A lease ends its whole time after its last renewal, and never while there is no leader; a new leader gives every
  lease its whole time again (server/lease/lessor.go, Promote). A member that was the leader and is stuck answers
  renewals of which the others never hear, and may have a lease revoked too early (etcd issue 15247):
  ``stuck_leader``, ``let_go``.
* A change of the leader takes 2 s, in which nothing is carried out (2.1 s measured with an election timeout of 1 s).
* A request that nobody carries out within the client's deadline is in doubt. It may have been carried out (``lose``),
  be carried out later (``linger``), or never.
* Restored to an older state (``snapshot``, ``restore``) it counts on from that state's revision: it hands out revisions
  again that it had given before.
* Disks are as slow as ``disk_ms`` says; a client may be cut from members, members from each other.

It has no clock and no task of its own: whoever makes it gives ``now`` and ``after``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.shell.cluster import etcd
from poolwarden_collector.shell.cluster.etcd import (
    Compare,
    Delete,
    Denied,
    EtcdError,
    Found,
    Get,
    InDoubt,
    Kept,
    LeaseGone,
    Op,
    Put,
    Request,
    Txn,
    TxnDone,
    Unavailable,
    Unfit,
    unfit,
)

LEADER_CHANGE_MS: Ms = 2_000
_RETRY_MS: Ms = 50  # how often a request that nobody can carry out yet is looked at
Reply = Callable[[Any], None]  # is given the answer, or an EtcdError


@dataclass
class _Lease:
    ttl_ms: Ms
    ends: Ms


@dataclass(frozen=True)
class Snapshot:
    """All that a backup of etcd holds."""

    revision: int
    kept: dict[str, Kept]
    leases: dict[int, int]  # the time of each, in s


@dataclass
class _Fault:
    """What becomes of the next requests of a client."""

    lose: int = 0  # carried out, not answered
    drop: int = 0  # neither
    linger: deque[Ms] = field(default_factory=deque)  # not answered, and carried out so much later


class EtcdModel:
    """One cluster of ``members``; the first of them leads."""

    def __init__(self, now: Callable[[], Ms], after: Callable[[Ms, Callable[[], None]], Any], members: int = 3) -> None:
        self.revision = 1
        self.latency_ms: Ms = 1
        self.disk_ms: Ms = 0
        self.deadline_ms: Ms = 3_000
        self._now, self._after = now, after
        self._kept: dict[str, Kept] = {}
        self._past: list[tuple[int, str, Kept | None]] = []
        self._leases: dict[int, _Lease] = {}
        self._next_lease = 7_000
        self._up = dict.fromkeys(range(members), True)
        self._apart: set[int] = set()  # members that are cut from the others
        self._stuck: int | None = None
        self._stuck_term = 0
        self.term = 1
        self._leader = 0
        self._led_from: Ms = 0  # there is a leader from then on
        self._cut: set[tuple[str, int]] = set()
        self._denied: set[str] = set()
        self._faults: dict[str, _Fault] = {}

    # -------------------------------------------------------------------------------------------- faults

    def stop(self, member: int) -> None:
        """The member's process or machine is gone, or stands still."""
        self._lead(lambda: self._up.__setitem__(member, False))

    def start(self, member: int) -> None:
        """It is back."""
        self._lead(lambda: self._up.__setitem__(member, True))

    def isolate(self, *members: int) -> None:
        """These are cut from the other members (not from clients)."""
        self._lead(lambda: self._apart.update(members))

    def join(self) -> None:
        """All members reach each other, and nobody takes himself for the leader who is none."""
        self._stuck = None
        self._lead(self._apart.clear)

    def stuck_leader(self) -> int:
        """The leader stands still, the others elect another one, it runs on and knows nothing of that; its number."""
        stuck, self._stuck_term = self._leader, self.term
        self.isolate(stuck)
        self._stuck = stuck
        return stuck

    def change_leader(self) -> None:
        """Another member leads, in 2 s."""
        self._expire()
        self._elect()

    def let_go(self, lease: int) -> None:
        """A lease is revoked before its time is over."""
        self._end(lease)

    def cut(self, client: str, *members: int) -> None:
        """The client reaches these members no more; none named: none of them."""
        self._cut.update((client, each) for each in members or self._up)

    def heal(self, client: str) -> None:
        """The client reaches every member."""
        self._cut = {each for each in self._cut if each[0] != client}

    def deny(self, client: str) -> None:
        """The client's credentials are not good any more."""
        self._denied.add(client)

    def lose(self, client: str, count: int = 1) -> None:
        """The next transactions of a client are carried out and not answered."""
        self._fault(client).lose += count

    def drop(self, client: str, count: int = 1) -> None:
        """The next transactions of a client are sent, and neither carried out nor answered."""
        self._fault(client).drop += count

    def linger(self, client: str, later_ms: Ms) -> None:
        """The next transaction of a client is not answered, and carried out so much later."""
        self._fault(client).linger.append(later_ms)

    def snapshot(self) -> Snapshot:
        """A backup."""
        self._expire()
        leases = {number: lease.ttl_ms // 1000 for number, lease in self._leases.items()}
        return Snapshot(self.revision, dict(self._kept), leases)

    def restore(self, to: Snapshot) -> None:
        """The cluster is rebuilt from a backup; its leases have their whole time again."""
        now = self._now()
        self.revision, self._kept = to.revision, dict(to.kept)
        self._leases = {number: _Lease(ttl * 1000, now + ttl * 1000) for number, ttl in to.leases.items()}
        self._past = [each for each in self._past if each[0] <= to.revision]

    # -------------------------------------------------------------------------------------------- clients

    def client(self, name: str) -> Client:
        """A collector's way to it."""
        return Client(self, name)

    def submit(self, client: str, request: Request, reply: Reply) -> None:
        """Ask; ``reply`` is given the answer or an EtcdError, later."""
        if client in self._denied:
            return self._later(self.latency_ms, reply, Denied("authentication failed"))
        if isinstance(request, Txn) and (why := unfit(request)):
            return self._later(0, reply, Unfit(why))
        reached = [each for each in self._up if self._reaches(client, each)]
        # A client asks one endpoint after the other: of those that it reaches one that has the others is found.
        member = next((each for each in reached if self._serves(each)), next(iter(reached), None))
        if member is None:
            return self._later(self.deadline_ms, reply, Unavailable("no endpoint of etcd takes a connection"))
        fault, until = self._fault(client), self._now() + self.deadline_ms
        doubt = InDoubt("DEADLINE_EXCEEDED: context deadline exceeded")
        if isinstance(request, Txn) and (fault.lose or fault.drop or fault.linger):
            return self._meet(fault, request, reply, doubt)
        if isinstance(request, etcd.KeepAlive) and member == self._stuck:
            lease = self._leases.get(request.lease)
            ttl = lease.ttl_ms // 1000 if lease is not None else 10
            return self._later(self.latency_ms, reply, etcd.Alive(ttl, self._stuck_term))
        self._carry(member, request, reply, until, doubt)
        return None

    def _meet(self, fault: _Fault, request: Request, reply: Reply, doubt: EtcdError) -> None:
        if fault.lose:
            fault.lose -= 1
            self._after(self.latency_ms, lambda: self._do(request))
        elif fault.drop:
            fault.drop -= 1
        else:
            self._after(fault.linger.popleft(), lambda: self._do(request))
        self._later(self.deadline_ms, reply, doubt)

    def _carry(self, member: int, request: Request, reply: Reply, until: Ms, doubt: EtcdError) -> None:
        """As soon as there is a leader whom the member reaches, with a majority; in doubt where none is in time."""
        now = self._now()
        if now >= until:
            reply(doubt)
            return
        if not self._serves(member) or now < self._led_from:
            self._after(_RETRY_MS, lambda: self._carry(member, request, reply, until, doubt))
            return
        takes = self.latency_ms + (self.disk_ms if isinstance(request, Txn | etcd.Grant) else 0)

        def arrive() -> None:
            answer = self._do(request)
            # What the disk held up for too long was carried out, and nobody waits for the answer.
            reply(answer if self._now() < until else doubt)

        if now + takes >= until:
            self._later(until - now, reply, doubt)
            self._after(takes, lambda: self._do(request))
        else:
            self._after(takes, arrive)

    def _serves(self, member: int) -> bool:
        """Is this member one of a majority that reach each other?"""
        group = [each for each, up in self._up.items() if up and (each in self._apart) == (member in self._apart)]
        return self._up[member] and len(group) * 2 > len(self._up)

    def _reaches(self, client: str, member: int) -> bool:
        return self._up[member] and (client, member) not in self._cut

    def _later(self, ms: Ms, reply: Reply, answer: Any) -> None:
        self._after(ms, lambda: reply(answer))

    def _fault(self, client: str) -> _Fault:
        return self._faults.setdefault(client, _Fault())

    def health(self, client: str) -> list[etcd.Health | EtcdError]:
        """Each member, as it says itself."""
        leader = self._leader + 1 if self._now() >= self._led_from and self._serves(self._leader) else 0
        size = sum(len(kept.key) + len(kept.value) for kept in self._kept.values())
        return [
            etcd.Health(f"member-{each}", each + 1, leader if self._serves(each) else 0, "model", size)
            if self._reaches(client, each)
            else Unavailable(f"member-{each}: no connection")
            for each in self._up
        ]

    # -------------------------------------------------------------------------------------------- leaders and leases

    def _lead(self, change: Callable[[], Any]) -> None:
        self._expire()
        had = self._serves(self._leader)
        change()
        if not self._serves(self._leader) or not had:
            self._elect()

    def _elect(self) -> None:
        now = self._now()
        able = [each for each in self._up if self._serves(each)]
        others = [each for each in able if each != self._leader] or able
        if others:
            self._leader = others[0]
        self._led_from, self.term = now + LEADER_CHANGE_MS, self.term + 1
        for lease in self._leases.values():
            lease.ends = self._led_from + lease.ttl_ms

    def _expire(self) -> None:
        now = self._now()
        if now < self._led_from or not self._serves(self._leader):
            return
        for number in [number for number, lease in self._leases.items() if lease.ends <= now]:
            self._end(number)

    def _end(self, number: int) -> None:
        if self._leases.pop(number, None) is None:
            return
        gone = [key for key, kept in self._kept.items() if kept.lease == number]
        if gone:
            self.revision += 1
            for key in gone:
                self._remove(key)

    # -------------------------------------------------------------------------------------------- the store

    def _do(self, request: Request) -> Any:
        """Carry it out now; the answer or an EtcdError."""
        self._expire()
        match request:
            case Txn():
                return self._txn(request)
            case Get():
                return self._get(request)
            case etcd.Grant():
                self._next_lease += 1
                self._leases[self._next_lease] = _Lease(request.ttl_s * 1000, self._now() + request.ttl_s * 1000)
                return etcd.Granted(self._next_lease, request.ttl_s)
            case etcd.KeepAlive():
                lease = self._leases.get(request.lease)
                if lease is None:
                    return etcd.Alive(0, self.term)
                lease.ends = self._now() + lease.ttl_ms
                return etcd.Alive(lease.ttl_ms // 1000, self.term)
        self._end(request.lease)
        return etcd.Gone()

    def _txn(self, txn: Txn) -> TxnDone | EtcdError:
        succeeded = all(self._holds(each) for each in txn.compare)
        ops = txn.success if succeeded else txn.failure
        if any(isinstance(op, Put) and op.lease and op.lease not in self._leases for op in ops):
            return LeaseGone("etcdserver: requested lease not found")
        if any(isinstance(op, Put) or (isinstance(op, Delete) and self._range(op.key, op.end)) for op in ops):
            self.revision += 1
        found = tuple(self._op(op) for op in ops)
        return TxnDone(succeeded, self.revision, found)

    def _op(self, op: Op) -> Found:
        if isinstance(op, Get):
            return self._get(op)
        if isinstance(op, Delete):
            gone = self._range(op.key, op.end)
            for kept in gone:
                self._remove(kept.key)
            return Found(tuple(gone), self.revision)
        before = self._kept.get(op.key)
        created = before.created if before is not None else self.revision
        self._put(op.key, Kept(op.key, op.value, created, self.revision, op.lease))
        return Found((), self.revision)

    def _get(self, get: Get) -> Found:
        kept = self._range(get.key, get.end, self._as_of(get.revision) if get.revision else self._kept)
        more = 0 < get.limit < len(kept)
        return Found(tuple(kept[: get.limit or None]), self.revision, more, self.term)

    def _range(self, key: str, end: str, kept: dict[str, Kept] | None = None) -> list[Kept]:
        kept = self._kept if kept is None else kept
        if not end:
            return [kept[key]] if key in kept else []
        return [kept[each] for each in sorted(kept) if key <= each < end]

    def _as_of(self, revision: int) -> dict[str, Kept]:
        kept: dict[str, Kept] = {}
        for at, key, value in self._past:
            if at > revision:
                break
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
        return kept

    def _put(self, key: str, kept: Kept) -> None:
        self._kept[key] = kept
        self._past.append((self.revision, key, kept))

    def _remove(self, key: str) -> None:
        del self._kept[key]
        self._past.append((self.revision, key, None))

    def _holds(self, compare: Compare) -> bool:
        kept = self._kept.get(compare.key)
        match compare:
            case etcd.Created():
                return (kept.created if kept is not None else 0) == compare.revision
            case etcd.Unchanged():
                return (kept.modified if kept is not None else 0) == compare.revision
            case etcd.Holds():
                return kept is not None and kept.value == compare.value
        return kept is not None


class Client:
    """One collector's way to the model, with the interface of etcd_client.py, for tests that run on an event loop."""

    def __init__(self, model: EtcdModel, name: str) -> None:
        self.model, self.name = model, name

    async def ask(self, request: Request) -> Any:
        """The answer. Raises EtcdError."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(answer: Any) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.model.submit(self.name, request, reply)
        answer = await answered
        if isinstance(answer, EtcdError):
            raise answer
        return answer

    async def health(self) -> list[etcd.Health | EtcdError]:
        """Each member by itself."""
        return self.model.health(self.name)
