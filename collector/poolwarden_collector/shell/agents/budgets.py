"""What one host may cost in a second, judged on bytes, before anything is parsed. docs/limits.md shows the table.

Rules
-----
* Each is a token bucket: so many a second for ever, and ``burst`` at once after a pause. The accounts are the host's,
  whose certificate it is, at one address: a new stream brings no new budget, a renewed certificate none either, and a
  copied certificate elsewhere spends none of its owner's. A host has so many of them for ``ADDRESSES`` addresses; all
  others from which it comes share one more, so that nobody multiplies his budgets by taking addresses.
* What no budget covers ends the stream with RESOURCE_EXHAUSTED and a sentence that names the budget. The host's account
  goes on filling, so it is heard again about once a second with all that it has to say: a flood never makes its own
  host silent, and its pool is told why (``HostRefused``, which counts as a sign of life).
* Reports are folded: of those that come within 250 ms (``FOLD_MS``) the engine gets the newest, which says all that the
  ones before it did. So no host makes more than four steps a second by reporting.
* What a report changes in the record (which hosts the pool has, its name, this host's address, HA and an upgrade as its
  database has them, a generation far from the one before) is written for ever, and has a budget of its own.
* Pieces of a database, which this collector has asked for, have an account of their own: a transfer is not held up.

Why these numbers (a healthy agent of a pool of 64, the fastest policy that may be configured)
----------------------------------------------------------------------------------------------
* Hellos: one stream at its start, one more after each loss, at least 0.24 s apart (agent: link/client.py).
* Messages: a report each 0.5 s, and of what was kept while it was cut off 50 each time (agent: core/spool.py, at most
  4,096): 102 a second for 40 s.
* Answers: one for each order and challenge. The most come of a transfer of a database, 256 pieces of 1 MiB.
* Bytes: a report that holds 4,096 changed domains is 156 kB; twice a second that is 312 kB. At once: a full report, and
  the 3 MiB at most of what a database places (agent: messages/reports.py).
* Changes: a host is added, renamed or gets another address by a person's hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.shell.agents.messages.wire import Envelope

KIB, MIB = 1 << 10, 1 << 20
ADDRESSES = 2  # of a host, with accounts of their own: its owner's, and a thief's
UNUSED_MS: Ms = 300_000  # after which an address gives its account up: it would be full again
# Whose accounts are kept; the one that was used least recently goes first. 3 kB each: 50 MB (of a pool of 8, 3.11).
MOST_HOSTS = 16_384
# The longest message of each kind, bytes. A report: 156 kB of domains and 320 kB of hosts with unplugged SRs.
LONGEST = {
    "hello": 64 * KIB,
    "report": 1 * MIB,
    "order_result": 4 * MIB,
    "late": 16 * KIB,
    "renewal_request": 64 * KIB,
    "capsule_offer": 32 * KIB,
    "capsule_piece": 68 * KIB,
}
LONGEST_OTHER = 16 * KIB  # of every other kind, a later version's as well
_ANSWERS = ("order_result", "challenge_answer", "gate_question", "renewal_request")


@dataclass(frozen=True, slots=True)
class Budget:
    """``word``: in metrics; ``says``: how much of what a host may spend, for people."""

    word: str
    says: str
    per_s: float
    burst: int


HELLOS = Budget("hellos", "1 stream a second, 10 at once", 1, 10)
MESSAGES = Budget("messages", "100 messages a second, 600 at once", 100, 600)
ANSWERS = Budget("answers", "40 answers a second, 300 at once", 40, 300)
BYTES = Budget("bytes", "512 KiB a second, 8 MiB at once", 512 * KIB, 8 * MIB)
PIECES = Budget("pieces", "16 MiB of a database a second, 64 MiB at once", 16 * MIB, 64 * MIB)
CHANGES = Budget(
    "changes", "1 change of the pool's hosts, its name, an address or its database in 10 s, 20 at once", 0.1, 20
)
BUDGETS = (HELLOS, MESSAGES, ANSWERS, BYTES, PIECES, CHANGES)
_FILLING = tuple((budget.word, budget.per_s, float(budget.burst)) for budget in BUDGETS)
FOLD_MS: Ms = 250
LEAP = 25_000  # of a generation that is no change yet: a pool writes some ten times a second (policy.py)
_OTHERS = "others"
LENGTH = "length"  # the word of a message that is longer than its kind may be
WORDS = (*(budget.word for budget in BUDGETS), LENGTH)


class OverBudget(Exception):
    """It is more than this host may send now: one sentence, and the word of the budget."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


class Account:
    """What is left of each budget of one host."""

    def __init__(self, now: Ms) -> None:
        self._left = {budget.word: float(budget.burst) for budget in BUDGETS}
        self._at = now
        self.late = 0  # streams of it whose refusal is kept back
        self._told: dict[str, object] = {}  # what is on record by this host's word

    def stream(self, now: Ms) -> None:
        """A stream is opened. Raises OverBudget."""
        self._fill(now)
        self._spend(HELLOS, 1)

    def message(self, message: Envelope, now: Ms) -> None:
        """A message has arrived. Raises OverBudget."""
        longest = LONGEST.get(message.body, LONGEST_OTHER)
        if message.size > longest:
            what = (message.body or "message of a later version").replace("_", " ")
            raise OverBudget(LENGTH, f"a {what} of {message.size} bytes: at most {longest} are taken")
        self._fill(now)
        self._spend(MESSAGES, 1)
        if message.body in _ANSWERS:
            self._spend(ANSWERS, 1)
        self._spend(PIECES, message.piece)
        self._spend(BYTES, message.size - message.piece)

    def report(self, report: pb.Report, now: Ms) -> None:
        """A report says this of what is on record. Raises OverBudget."""
        said: dict[str, object] = {}
        if report.management_address:
            said["address"] = report.management_address
        if report.HasField("pool_view"):
            view = report.pool_view
            said["view"] = view.pool_name, view.master_uuid, tuple(sorted((h.host_uuid, h.address) for h in view.hosts))
        if report.HasField("database"):
            database = report.database
            said["database"] = database.ha_armed, database.rolling_upgrade
            said["generation"] = self._step(database.generation)
        changed = [what for what, value in said.items() if self._told.get(what, value) != value]
        if not changed:
            self._told |= said
            return
        self._fill(now)
        self._spend(CHANGES, len(changed))
        self._told |= said

    def _step(self, generation: int) -> object:
        """The generation that counts as said: the one that counted last, unless this one is far from it."""
        told = self._told.get("generation")
        return told if isinstance(told, int) and abs(generation - told) < LEAP else generation

    @property
    def used_at(self) -> Ms:
        """When it was used last."""
        return self._at

    def _fill(self, now: Ms) -> None:
        passed, self._at = max(0, now - self._at), max(self._at, now)
        if not passed:
            return
        left = self._left
        for word, per_s, burst in _FILLING:
            left[word] = min(burst, left[word] + per_s * passed / 1000)

    def _spend(self, budget: Budget, amount: int) -> None:
        if self._left[budget.word] < amount:
            raise OverBudget(budget.word, f"over its budget of {budget.says}")
        self._left[budget.word] -= amount


class Accounts:
    """The accounts of all hosts; bounded. ``now``: the collector's clock, ms."""

    def __init__(self, now: Callable[[], Ms]) -> None:
        self._now = now
        self._of: OrderedDict[HostId, dict[str, Account]] = OrderedDict()

    def of(self, host: HostId, peer: str = "") -> Account:
        """The account of this host (certificates that name none share one) at this peer, ``FAMILY:ADDRESS:PORT``."""
        now, address = self._now(), peer.rpartition(":")[0]
        known = self._of.pop(host, {})
        self._of[host] = known
        if len(self._of) > MOST_HOSTS:
            self._of.popitem(last=False)
        if address not in known:
            for each in [each for each, account in known.items() if now - account.used_at >= UNUSED_MS]:
                del known[each]
            if len(known.keys() - {_OTHERS}) >= ADDRESSES:
                address = _OTHERS
        return known.setdefault(address, Account(now))
