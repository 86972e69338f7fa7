"""What is asked of etcd, as plain values, and what its answers and its errors prove.

Rules
-----
* Every read is linearizable: a member that has lost the others answers nothing, never something old. There is no way
  here to ask for less.
* An answer is proof. An error is one of these: nothing was done (``Unavailable``), it may or may not have been
  done, now or later (``InDoubt``), the credentials do not reach so far (``Denied``), or no etcd will ever take it
  (``Unfit``; ``LeaseGone``). Of a code that is not known here the second is believed.
* A compare that failed is no error: ``TxnDone.succeeded`` is false and nothing was written.
* What takes several requests is an ``Exchange``: a generator that yields them and is sent the answers, without a
  socket, a clock or a task, so that it runs on etcd (``carry_out``) and in the simulated world alike.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

MOST_BYTES = 1024 * 1024  # of one request; etcd's own limit is 1.5 MiB (--max-request-bytes)
MOST_OPS = 100  # of one branch; etcd's own limit is 128 (--max-txn-ops)
# What helps where etcd answers Denied: nothing of its members is broken then.
CREDENTIALS = (
    "etcd answers: look at user, password and prefix in [store], and at the user's role (docs/collectors.md, Users); "
    "a collector reads them at its start: systemctl restart poolwarden-collector"
)


class EtcdError(Exception):
    """Something other than an answer; the text is one line."""


class Unavailable(EtcdError):
    """No member could be asked, or one refused to begin: nothing was done, and nothing will be."""


class InDoubt(EtcdError):
    """It was sent and not answered: it may have been done, and may still be done later. Neither yes nor no."""


class Denied(EtcdError):
    """etcd knows this collector not, or lets it not do this; nothing was done."""


class LeaseGone(EtcdError):
    """The request puts a key under a lease that is no more; nothing was done."""


class Unfit(EtcdError):
    """No etcd would take this request, however often; nothing was done."""


# ------------------------------------------------------------------------------------------------ requests


@dataclass(frozen=True, slots=True)
class Created:
    """Compares: was the key created at this revision and not deleted since? 0: there is no such key."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Present:
    """Compares: is there such a key?"""

    key: str


@dataclass(frozen=True, slots=True)
class Holds:
    """Compares: does the key hold exactly this? A key that is not there holds nothing."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Compares: was the key written last at this revision? 0: there is no such key."""

    key: str
    revision: int


Compare = Created | Present | Holds | Unchanged


@dataclass(frozen=True, slots=True)
class Put:
    """Write; with a ``lease`` the key goes when that does."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, or all from ``key`` up to and without ``end``; answered with what was deleted."""

    key: str
    end: str = ""


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key, or all from ``key`` up to and without ``end``, in their order; at ``revision`` (0: the newest)."""

    key: str
    end: str = ""
    limit: int = 0
    revision: int = 0


Op = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class Txn:
    """All of ``success`` where every compare holds, all of ``failure`` where one does not."""

    compare: tuple[Compare, ...]
    success: tuple[Op, ...]
    failure: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A new lease of so many seconds."""

    ttl_s: int


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Renew a lease."""

    lease: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """End a lease, and with it its keys."""

    lease: int


Request = Txn | Get | Grant | KeepAlive | Revoke


# ------------------------------------------------------------------------------------------------ answers


@dataclass(frozen=True, slots=True)
class Kept:
    """A key as it stands; ``created`` and ``modified`` are revisions."""

    key: str
    value: bytes
    created: int
    modified: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a Get found; ``more``: its limit has left some out. ``term``: of whoever led etcd when it was answered."""

    kept: tuple[Kept, ...]
    revision: int
    more: bool = False
    term: int = 0

    @property
    def one(self) -> Kept | None:
        """The key that was asked for."""
        return self.kept[0] if self.kept else None


@dataclass(frozen=True, slots=True)
class TxnDone:
    """Which branch was taken, at which revision, and what each of its operations found."""

    succeeded: bool
    revision: int
    found: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease, and for how many seconds: etcd may give more than was asked for, and never counts fewer."""

    lease: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Alive:
    """How many seconds a lease has after this renewal; 0: there is no such lease. ``term``: as who answered knew it."""

    ttl_s: int
    term: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """The lease is no more."""


@dataclass(frozen=True, slots=True)
class Health:
    """One member, as it says itself. ``leader`` is 0 where it knows of none; ``bytes`` is its database on disk."""

    endpoint: str
    member: int
    leader: int
    version: str
    bytes: int
    troubles: tuple[str, ...] = ()
    in_use: int = 0  # of these bytes; 0: it does not say


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """A member of etcd, as the others have it; ``name`` is empty where it has never started."""

    name: str
    clients: tuple[str, ...]  # URLs


class Etcd(Protocol):
    """Somebody who asks etcd: etcd_client.py does, and the simulated world's model."""

    async def ask(self, request: Request) -> Any:
        """TxnDone, Found, Granted, Alive or Gone, as the request has it. Raises EtcdError."""

    async def health(self) -> list[Health | EtcdError]:
        """Each endpoint by itself, in their order."""


Result = TypeVar("Result")
Exchange = Generator[Request, Any, Result]


async def carry_out(etcd: Etcd, exchange: Exchange[Result]) -> Result:
    """Ask what the exchange asks, one after the other; what it does not handle is raised."""
    move: Any = exchange.__next__
    given: tuple[Any, ...] = ()
    while True:
        try:
            request = move(*given)
        except StopIteration as end:
            result: Result = end.value
            return result
        try:
            move, given = exchange.send, (await etcd.ask(request),)
        except EtcdError as error:
            move, given = exchange.throw, (error,)


def behind(key: str) -> str:
    """The first key behind all that begin with this one: the end of their range."""
    return key[:-1] + chr(ord(key[-1]) + 1)


def unfit(txn: Txn) -> str:
    """Why no etcd would take this transaction; empty if one would. Sizes are those of keys and values alone."""
    ops = max(len(txn.compare), len(txn.success), len(txn.failure))
    size = sum(_size(op) for op in (*txn.success, *txn.failure))
    if not txn.success:
        return "etcd answers a transaction without an operation from any member's own copy"
    if ops > MOST_OPS or size > MOST_BYTES:
        return f"{ops} operations with {size} bytes; {MOST_OPS} with {MOST_BYTES} bytes are the limit"
    for branch in (txn.success, txn.failure):
        written = [op.key for op in branch if isinstance(op, Put)]
        gone = [op for op in branch if isinstance(op, Delete)]
        if len(set(written)) < len(written) or any(_in(key, op) for op in gone for key in written):
            return "one key is written twice"
    return ""


def _size(op: Op) -> int:
    return len(op.key.encode()) + (len(op.value) if isinstance(op, Put) else 0)


def _in(key: str, gone: Delete) -> bool:
    return gone.key <= key < gone.end if gone.end else key == gone.key
