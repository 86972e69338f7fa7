"""The model's vocabulary: its state, the rules that can be taken away, and the bounds of a configuration.

What is modelled
----------------
* A host: what its agent keeps durably (epoch, term, tombstone, started mark, result), pool.conf, its boot, and what
  runs. xapi reads pool.conf only when it starts. An agent dies at any point between its durable writes.
* A collector: its journal (term, master, open failover, owed tombstones) and what it knows only while it runs (claims,
  power readings, the look, an effect that is due). It dies at any point; then the journal alone is left.
* The network: promote orders and gate answers stay where they are once sent, so each is delivered never, once or many
  times, late, and in any order. A claim, a look, a repoint and a tombstone is one exchange that may fail before or
  after its effect: a late copy of them can only raise numbers or be refused.
* Time is one inequality: between the moment a machine is switched on and its first decision of that boot, every OFF
  reading of it grows too old to be used, and every order that was sent on one expires (10 s + 15 s + 20 s for the act,
  against the minutes of a boot). ``hosts.booted`` applies it.
* Verdicts are left out: a collector may decide at any moment, as if silence could befall anybody. What holds here holds
  for every way of coming to a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

MASTER = 9  # in pool.conf, and as what runs; a lower number is the host that is followed
OFF, BOOTING, ASKING, SHUT, DOWN = -1, -2, -3, -4, -5
RUNS = {OFF: "off", BOOTING: "booting", ASKING: "gate asks", SHUT: "gate shut", DOWN: "xapi down", MASTER: "master"}
NAMES = ("M", "S1", "S2")
NEWER = 10  # the epoch from which on a collector is the second one's


class Host(NamedTuple):
    """One host; ``act`` is 1 once the started mark is durable, 2 once the act is done and its result is not."""

    epoch: int = 0
    term: int = 0
    tombstone: int = 0
    mark: int = 0
    result: int = 0
    conf: int = MASTER
    boot: int = 0
    run: int = MASTER
    act: int = 0
    acted: int = 0  # the order that it last acted on: seen by the properties only
    told: int = 0  # the highest term that it has acknowledged: kept only where a removed rule makes it differ

    @property
    def up(self) -> bool:
        """Does its agent run?"""
        return self.run not in (OFF, BOOTING)


class Message(NamedTuple):
    """A promote order or a gate's opening, on its way for as long as it is valid."""

    kind: str
    order: int
    host: int
    boot: int
    epoch: int
    term: int
    old: int  # whose harmlessness it rests on
    looked: bool


class Failover(NamedTuple):
    """The open failover. Steps: 1 decided, 2 candidate chosen, 3 promotion intended."""

    term: int
    old: int
    step: int = 1
    candidate: int = -1
    learned: bool = False
    minted: int = 0  # by which collector

    @property
    def order(self) -> int:
        """The promote order's id: whose, term, candidate."""
        return self.minted * 1000 + self.term * 10 + self.candidate


class Journal(NamedTuple):
    """What a collector keeps durably; ``failover`` is an empty tuple if none is open, ``owed`` a set of bits."""

    term: int = 0
    master: int = 0
    failover: Failover | tuple[()] = ()
    owed: int = 0


class Live(NamedTuple):
    """What a running collector knows."""

    claims: int = 0
    target: int = -1
    off: int = 0  # OFF readings of ``target`` in a row
    look: bool = False
    due: bool = False  # the intent is durable, its order is not sent yet


class Collector(NamedTuple):
    """One collector: ``up``, ``down``, ``stale`` (read-only: it has met a higher epoch) or ``absent`` so far."""

    phase: str
    epoch: int
    journal: Journal = Journal()
    live: Live = Live()
    before: Journal | tuple[()] = ()  # the journal without its last record: kept only where that can be lost


class Left(NamedTuple):
    """How often the environment may still do each of its deeds."""

    offs: int = 0
    crashes: int = 0
    agent_crashes: int = 0
    by_hand: int = 0
    misreadings: int = 0
    full_disks: int = 0
    promoted_by_hand: int = -1


class World(NamedTuple):
    """The whole state."""

    hosts: tuple[Host, ...]
    messages: frozenset[Message]
    collectors: tuple[Collector, ...]
    left: Left


class Rule(Enum):
    """What keeps the protocol safe; each can be taken away."""

    INTENT_FIRST = "the promote intent is durable before the order is sent"
    DURABLE = "what was journaled survives a crash"
    ASK_FIRST = "the candidate is asked for the order's result before it is sent again"
    SAME_ID = "an order is sent again under the same id"
    REVERIFY = "the proof and the last look are made again before an order is sent again"
    SECOND_READING = "two OFF readings, not one"
    LAST_LOOK = "a last look before the order is sent"
    ROLE_VETO = "a member whose pool.conf says master already stops the failover"
    CLAIM_STORES = "a claim stores its term durably before it is answered"
    NEW_TERM = "ending a failover raises the term"
    NEVER_BEGAN = "after the intent a failover whose ground is gone is given up only if its order can never be obeyed"
    ONE_CANDIDATE = "from the intent on only this candidate"
    TERM_CHECK = "a host refuses a term lower than its own"
    EPOCH_CHECK = "a host refuses an epoch lower than its own"
    OWN_IDS = "no two collectors give two orders one id"
    UNIQUE_EPOCHS = "no two collectors have one epoch"
    BOOT_CHECK = "a host refuses what was meant for another boot"
    EXPIRY = "orders expire on the agent's own clock"
    REPLAY = "an order that has a result is answered with it"
    STARTED_MARK = "an order that was started and has no result is judged by facts"
    PRECONDITION = "promotion demands a pool.conf that names the old master"
    BOOT_GATE = "a host that boots as master asks before its xapi starts"
    GATE_INTENT = "an old master whose promotion away is intended finds its gate shut"
    TOMBSTONE_GATE = "a tombstoned host's gate stays shut, collector or none"


class Exempt(Enum):
    """What no rule here can prevent: counted, never followed."""

    GATE_ALONE = (
        "a gate opens on the word of members, or of nobody, while no collector answers it and a promoted host does not "
        "answer either: the two are cut from each other, or that host is off or its xapi is starting"
    )
    SPLIT_COLLECTORS = (
        "two collectors run, and the candidate of one has never heard the other: each sees another part of the pool"
    )
    BY_HAND = (
        "somebody promotes a member by hand while an order is under way, or unseen by the collector, and the "
        "candidate has neither been repointed nor told of a newer term"
    )
    LYING_DEVICE = "the power is read OFF twice while it is on, and nobody who is asked reaches the host"


@dataclass(frozen=True)
class Setting:
    """One configuration: how many hosts and collectors, what may befall them, which rules are gone."""

    name: str
    hosts: int = 2
    failovers: int = 1
    left: Left = field(default_factory=Left)
    second: bool = False
    without: frozenset[Rule] = frozenset()
    exempt: frozenset[Exempt] = frozenset(Exempt)

    def keeps(self, rule: Rule) -> bool:
        return rule not in self.without

    def start(self) -> World:
        """A pool whose master is host 0, watched by one collector; a second one may come at any moment."""
        master = Host()
        members = (Host(conf=0, run=0),) * (self.hosts - 1)
        collectors = (Collector("up", 1),)
        if self.second:
            epoch = NEWER if self.keeps(Rule.UNIQUE_EPOCHS) else 1
            collectors += (Collector("absent", epoch),)
        return World((master, *members), frozenset(), collectors, self.left)
