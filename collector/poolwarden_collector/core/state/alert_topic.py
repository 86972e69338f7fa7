"""What an alert is about, as a value; and the one place where its stored key is made and read back.

A key is ``POOL/TEXT``, and stands in the journals of every version: an alert that an older one has opened is known by
it. ``AlertTopic.text`` makes the text of a topic, ``parse`` reads it, and nothing else takes a key apart.

Rules
-----
* ``parse(topic.text) == topic`` for every topic that a module raises.
* A text of no known shape is a topic of ``Matter.OTHER``: it stays open until whoever knows it ends it.
* ``about`` is the topic without the number of its failover, incident or question: the same standstill of the next
  failover is about the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.values import PoolId


class Shape(Enum):
    """How the text of a topic is made of its fields."""

    POOL = "WORD"
    HOST = "WORD-HOST or WORD-HOST/DETAIL"
    OF_HOST = "WORD/HOST"
    DEVICE = "WORD-DEVICE-DETAIL"
    ORDER = "WORD-DETAIL"
    NUMBERED = "WORD-NUMBER/DETAIL"
    FAILOVER = "NUMBER/DETAILWORD"
    QUESTION = "DETAIL/WORD-NUMBER"
    OTHER = "DETAIL"


class Matter(Enum):
    """What kind of thing is told: the word in its key, and the shape of that key."""

    # of the whole pool
    STALE_EPOCH = ("stale-epoch", Shape.POOL)
    RESTORED = ("restored", Shape.POOL)
    JOURNAL_SHORT = ("journal-short", Shape.POOL)
    UNSTEADY = ("unsteady", Shape.POOL)
    OTHER_DATABASE = ("other-database", Shape.POOL)
    DRILL = ("drill", Shape.POOL)
    # of a host
    REPAIR = ("repair", Shape.HOST)
    REPOINT = ("repoint", Shape.HOST)
    RELEASE = ("release", Shape.HOST)
    DEAD = ("dead", Shape.HOST)
    LOST = ("lost", Shape.HOST)
    NOT_STARTED = ("not-started", Shape.HOST)
    LANDED = ("landed", Shape.HOST)
    OVERDUE = ("overdue", Shape.HOST)
    OWED = ("owed", Shape.HOST)
    GC = ("gc", Shape.HOST)
    HOLD = ("hold", Shape.HOST)
    GATE = ("gate", Shape.HOST)
    GATE_DARK = ("gate-dark", Shape.OF_HOST)
    DISK = ("disk", Shape.HOST)
    MEMORY = ("memory", Shape.HOST)
    AROUND = ("around", Shape.HOST)
    XAPI_TROUBLE = ("xapi-trouble", Shape.HOST)
    REGISTRATION = ("registration", Shape.HOST)
    REFUSED = ("refused", Shape.HOST)
    OWN_RULES = ("own-rules", Shape.HOST)
    REBOOT_LOOP = ("reboot-loop", Shape.HOST)
    FLAPPING = ("flapping", Shape.HOST)
    ASSUMPTION = ("assumption", Shape.HOST)
    DISABLED = ("disabled", Shape.HOST)
    NEXT_START = ("next-start", Shape.HOST)
    ASLEEP = ("asleep", Shape.HOST)
    STRANGER = ("stranger", Shape.HOST)
    HOST_DOWN = ("host-down", Shape.HOST)
    HOST_BACK = ("host-back", Shape.HOST)
    OLD_MASTER_RUNS = ("old-master-runs", Shape.HOST)
    # of a fence device, which stands in the place of the host
    FENCE = ("fence", Shape.DEVICE)
    # of an order to change the master, by its id
    DESIGNATE = ("designate", Shape.ORDER)
    # of storage that does not answer, by its server and path
    STORAGE = ("storage", Shape.ORDER)
    # of an incident, a failover or a question
    INCIDENT = ("incident", Shape.NUMBERED)
    REFUSAL = ("incident/refused", Shape.NUMBERED)
    BLOCKER = ("", Shape.FAILOVER)
    DONE = ("done", Shape.FAILOVER)
    GAVE_UP_THE_ROLE = ("gave-up-the-role", Shape.FAILOVER)
    QUESTION = ("question", Shape.QUESTION)
    OTHER = ("", Shape.OTHER)

    def __init__(self, word: str, shape: Shape) -> None:
        self.word = word
        self.shape = shape


QUARANTINED = "quarantined"
# What a fence device can be told to be, in the order of its urgency (device_health.py).
DEVICE_STATES = (
    QUARANTINED,
    "agent-missing",
    "wrong-password",
    "unreachable",
    "hung",
    "failed",
    "stale",
    "monitor",
    "unbound",
    "slow",
)


@dataclass(frozen=True, slots=True)
class AlertTopic:
    """What an alert is about. ``number``: of its incident, failover or question; ``detail``: a reason, VM, mount ..."""

    matter: Matter
    host: str = ""
    detail: str = ""
    number: str = ""

    @property
    def text(self) -> str:
        """The topic's key, without its pool."""
        word, shape, detail = self.matter.word, self.matter.shape, self.detail
        if shape is Shape.HOST:
            return f"{word}-{self.host}/{detail}" if detail else f"{word}-{self.host}"
        if shape is Shape.OF_HOST:
            return f"{word}/{self.host}"
        if shape is Shape.ORDER:
            return f"{word}-{detail}"
        if shape is Shape.DEVICE:
            return f"{word}-{self.host}-{detail}" if detail else f"{word}-{self.host}"
        if shape is Shape.NUMBERED:
            first, _, rest = word.partition("/")
            return "/".join(part for part in (f"{first}-{self.number}" if self.number else first, rest, detail) if part)
        if shape is Shape.FAILOVER:
            return "/".join(part for part in (self.number, detail, word) if part)
        if shape is Shape.QUESTION:
            return f"{detail}/{word}-{self.number}" if self.number else f"{detail}/{word}"
        return detail if shape is Shape.OTHER else word

    def key(self, pool: PoolId) -> str:
        """The key under which the journal has it."""
        return f"{pool}/{self.text}"

    @property
    def about(self) -> str:
        """The text of the topic whatever the number of its failover, incident or question."""
        if self.matter is Matter.QUESTION:
            return replace(self, detail=parse(self.detail).about, number="").text
        return self.text if self.matter in (Matter.DONE, Matter.GAVE_UP_THE_ROLE) else replace(self, number="").text

    def detail_by(self, mark: str) -> tuple[str, str]:
        """The two parts of a detail that its module has put together with this mark."""
        first, _, second = self.detail.partition(mark)
        return first, second

    @property
    def verdict(self) -> str:
        """The word of the verdict that an incident's alert tells; what follows it says how that is meant."""
        return self.detail.partition(" ")[0]

    @property
    def incident(self) -> str:
        """The number of the incident that it belongs to; empty: to none."""
        where = parse(self.detail) if self.matter is Matter.QUESTION else self
        return where.number if where.matter in (Matter.INCIDENT, Matter.REFUSAL) else ""

    @property
    def failover(self) -> str:
        """The failover whose standstill or question it is about; empty: of none."""
        where = parse(self.detail) if self.matter is Matter.QUESTION else self
        return where.number if where.matter is Matter.BLOCKER else ""

    @property
    def blocker(self) -> Blocker | None:
        """For what a failover stands still, where it is about that; None for a code that this version does not know."""
        code = self.detail.partition("-")[0]
        return Blocker(code) if self.matter is Matter.BLOCKER and code in list(Blocker) else None

    def concerns(self, host: str) -> bool:
        """Is this host any part of it?"""
        return host in self.text


_QUESTION = re.compile(r"(?P<detail>.*)/question(-(?P<number>\d+))?")
_NEVER_ASKED = (Shape.HOST, Shape.OF_HOST, Shape.ORDER)  # a question is about an incident or a failover
_INCIDENT = re.compile(r"incident(-(?P<number>\d+))?/(?P<refused>refused/)?(?P<detail>.*)")
_BLOCKER = re.compile(r"((?P<number>[^/]*)/)?(?P<detail>BLOCKED_.*)")
_FAILOVER = re.compile(r"(?P<number>[^/]*)/((?P<detail>.+)/)?(?P<word>done|gave-up-the-role)")
_FENCE = re.compile(rf"fence-(?P<host>.*)-(?P<detail>{'|'.join(DEVICE_STATES)})")
_ORDERS = {matter.word: matter for matter in (Matter.DESIGNATE, Matter.STORAGE)}
_ORDER = re.compile(rf"(?P<word>{'|'.join(_ORDERS)})-(?P<detail>.*)", re.DOTALL)
_GATE_DARK = re.compile(r"gate-dark/(?P<host>.*)")
_OF_POOL = {matter.word: matter for matter in Matter if matter.shape is Shape.POOL}
_OF_HOST = {matter.word: matter for matter in Matter if matter.shape is Shape.HOST}
_HOST = re.compile(rf"(?P<word>{'|'.join(_OF_HOST)})-(?P<host>[^/]*)(/(?P<detail>.*))?")
_FAILOVERS = {matter.word: matter for matter in (Matter.DONE, Matter.GAVE_UP_THE_ROLE)}


@lru_cache(maxsize=4096)
def parse(text: str) -> AlertTopic:
    """The topic whose text this is, with its number or without."""
    if text in _OF_POOL:
        return AlertTopic(_OF_POOL[text])
    # A mount or a server's path may end with that word, too.
    if (found := _QUESTION.fullmatch(text)) and parse(found["detail"]).matter.shape not in _NEVER_ASKED:
        return AlertTopic(Matter.QUESTION, "", found["detail"], found["number"] or "")
    if found := _INCIDENT.fullmatch(text):
        matter = Matter.REFUSAL if found["refused"] else Matter.INCIDENT
        return AlertTopic(matter, "", found["detail"], found["number"] or "")
    if found := _FENCE.fullmatch(text):
        return AlertTopic(Matter.FENCE, found["host"], found["detail"])
    if found := _ORDER.fullmatch(text):
        return AlertTopic(_ORDERS[found["word"]], "", found["detail"])
    if found := _GATE_DARK.fullmatch(text):
        return AlertTopic(Matter.GATE_DARK, found["host"])
    if found := _HOST.fullmatch(text):
        return AlertTopic(_OF_HOST[found["word"]], found["host"], found["detail"] or "")
    if found := _BLOCKER.fullmatch(text):
        return AlertTopic(Matter.BLOCKER, "", found["detail"], found["number"] or "")
    if found := _FAILOVER.fullmatch(text):
        return AlertTopic(_FAILOVERS[found["word"]], "", found["detail"] or "", found["number"])
    return AlertTopic(Matter.OTHER, "", text)


def of_key(pool: PoolId, key: str) -> AlertTopic:
    """The topic of a key in this pool's journal."""
    return parse(key.removeprefix(f"{pool}/"))
