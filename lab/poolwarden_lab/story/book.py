"""The log of a story: seconds since its start, a source word, a sentence. What an operator would have seen, and why.

Rules
-----
* Always in, whatever is asked for: what the story does (``>``), journal entries, alerts, operators' commands and their
  answers, power, roles taken, promotions ordered, VMs terminated.
* Left out unless asked for (``log with WORD``): kinds that every run is full of (``QUIET``), xapi's other events, a
  power reading that says for the third time what its device has said before, and starts of a xapi that end in the same
  error for the third time and more.
* Names are the story's: ``lab-h1`` of the database is ``h1``.
* Two runs of one story have the same log: nothing in it comes from a wall clock or from chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved, Reply
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_lab.virtual.collector.ledger import Commit
from poolwarden_lab.xapi.virtual import LogEntry

BODIES = "bodies"
_EPOCH = re.compile(r"\b\d{9,}-[0-9a-f]{5}\b")  # of several collectors' ownerships (epoch.py: name)
QUIET = {
    Kind.STANDING.value,
    Kind.POOL_LISTED.value,
    Kind.TERM_OBSERVED.value,
    "xapi",
    "readings",
    BODIES,
}
NEVER_LEFT_OUT = {
    kind.value
    for kind in (
        Kind.DECIDED,
        Kind.PROOF,
        Kind.PROMOTE_INTENT,
        Kind.PROMOTED,
        Kind.FENCE_INTENT,
        Kind.SWITCH_INTENT,
        Kind.SWITCH_RESULT,
        Kind.BLOCKED,
        Kind.ASKED,
        Kind.ABORTED,
        Kind.SUPERSEDED,
        Kind.CLOSED,
        Kind.OPERATOR_REFUSED,
        Kind.HUMAN_CONFIRMED,
    )
} | {">", "alert", "alert over", "operator", "answer", "power", "role", "promote", "killed", "breach"}

SOURCES = {kind.value for kind in Kind} | QUIET | NEVER_LEFT_OUT | {"host", "root", "xe", "status", "not as expected"}


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the log. ``ms`` counts from the story's start."""

    ms: int
    source: str
    text: str
    pool: str = ""

    def __str__(self) -> str:
        where = f"{self.pool}: " if self.pool else ""
        return f"{self.ms / 1000:8.1f} {self.source:<18} {where}{self.text}"


@dataclass
class Names:
    """What the database calls hosts and pools, and what the story calls them."""

    several_pools: bool = False
    labels: dict[str, str] = field(default_factory=dict)  # label or uuid -> the story's name
    addresses: dict[str, str] = field(default_factory=dict)
    _pattern: re.Pattern[str] | None = None

    def learn(self, label: str, name: str) -> None:
        self.labels[label] = name
        self._pattern = None

    def at(self, address: str) -> str:
        """The host with this address."""
        return self.addresses.get(address, address)

    def of(self, text: str) -> str:
        """The text with the story's names."""
        if self._pattern is None:
            longest = sorted(map(re.escape, self.labels), key=len, reverse=True)
            self._pattern = re.compile(r"(?<![\w.-])(" + "|".join(longest) + r")(?![\w-]|\.\d)")
        return self._pattern.sub(lambda match: self.labels[match.group(1)], text) if self.labels else text


class Book:
    """Takes notes; what is left out is not even remembered."""

    def __init__(self, names: Names, wanted: set[str], unwanted: set[str], vm_name: Callable[[str, str], str]) -> None:
        self.names = names
        self.zero = 0
        self.notes: list[Note] = []
        self._left_out = (QUIET - wanted) | (unwanted - NEVER_LEFT_OUT)
        self._readings: dict[str, tuple[str, int]] = {}
        self._in_vain: dict[str, tuple[str, int]] = {}  # by host: why its xapi's last starts have failed, how often
        self._vm_name = vm_name
        self._epochs: dict[str, int] = {}  # of ownerships: the how manyth it was

    def lines(self) -> list[str]:
        return [str(note) for note in self.notes]

    def note(self, now: int, source: str, text: str, pool: str = "") -> None:
        """Take one note."""
        if source not in self._left_out:
            shown = pool if self.names.several_pools else ""
            self.notes.append(Note(now - self.zero, source, self.names.of(_EPOCH.sub(self._ordinal, text)), shown))

    def _ordinal(self, found: re.Match[str]) -> str:
        """An ownership's epoch hangs on how often etcd was written: the log counts them."""
        return f"#{self._epochs.setdefault(found.group(), len(self._epochs) + 1)}"

    def commit(self, commit: Commit, pool: str, node: str = "") -> None:
        """A transaction of a collector's journal; ``node``: which one, where there are several."""
        said = f"{node}: " if node else ""
        for entry in commit.entries:
            if entry.kind not in (Kind.ALERT, Kind.ALERT_RESOLVED) and not self._stale_reading(entry):
                by = "" if entry.actor == "poolwarden" or entry.actor in entry.text else f" ({entry.actor})"
                self.note(commit.ms, entry.kind.value, said + entry.text + by, pool)
        for alert in commit.alerts:
            if isinstance(alert, AlertRaised):
                self.note(commit.ms, "alert", f"{said}{alert.severity}: {alert.title}", pool)
                for line in alert.body.splitlines():
                    self.note(commit.ms, BODIES, said + line, pool)
            elif isinstance(alert, AlertResolved):
                self.note(commit.ms, "alert over", said + alert.text, pool)

    def _stale_reading(self, entry: Entry) -> bool:
        """Has this device said the same twice already?"""
        if entry.kind is not Kind.POWER_READING or "readings" not in self._left_out:
            return False
        device = str(entry.data.get("device", ""))
        last, times = self._readings.get(device, ("", 0))
        times = times + 1 if last == entry.text else 1
        self._readings[device] = (entry.text, times)
        return times > 2

    def reply(self, now: int, reply: Reply, node: str = "") -> None:
        """A collector's answer to an operator."""
        said = f"{node}: " if node else ""
        word = "yes" if reply.accepted else f"no ({reply.code})"
        step = f" Next: {reply.next_step}" if reply.next_step else ""
        self.note(now, "answer", f"{said}{word}: {reply.text}{step}")

    def event(self, entry: LogEntry, pool: str, host: str) -> None:
        """Something that a xapi or its machine did."""
        if self._in_vain_again(entry):
            return
        facts = dict(entry.event.facts)
        tell = _TOLD.get(entry.event.name)
        told = tell(self, host, facts, entry.host) if tell is not None else None
        if told is not None:
            self.note(entry.ms, *told, pool)
        else:
            words = " ".join([entry.event.name, *(f"{name}={value}" for name, value in facts.items())])
            self.note(entry.ms, "xapi", f"{host}: {words}", pool)

    def _in_vain_again(self, entry: LogEntry) -> bool:
        """Is this one more start of a xapi that has ended in the same error twice already?"""
        name, host = entry.event.name, entry.host
        if name in ("db-refused", "start-failed"):
            why, times = self._in_vain.get(host, ("", 0))
            said = str(dict(entry.event.facts).get("error", ""))
            self._in_vain[host] = (said, times + 1 if said == why else 1)
            return self._in_vain[host][1] > 2
        if name == "role":
            return self._in_vain.get(host, ("", 0))[1] >= 2
        if name in _TOLD:
            self._in_vain.pop(host, None)
        return False

    def vm_name(self, host: str, uuid: str) -> str:
        return self._vm_name(host, uuid)

    def since(self, at: int) -> Iterator[Note]:
        return iter(self.notes[at:])


def _role(book: Book, host: str, facts: dict[str, str], _name: str) -> tuple[str, str]:
    word, _, master = facts["role"].partition(":")
    if word == "master":
        return "role", f"{host}: xapi starts as master"
    return "role", f"{host}: xapi starts as member of {book.names.at(master)}" if master else f"{host}: role {word}"


def _killed(book: Book, host: str, facts: dict[str, str], name: str) -> tuple[str, str]:
    why = facts["why"].replace("resident-on-", "its database places it on ")
    why = why.replace("unknown-to-database", "its database does not know it")
    return "killed", f"{host}: xapi terminates VM {book.vm_name(name, facts['vm'])}: {book.names.of(why)}"


_Tell = Callable[[Book, str, dict[str, str], str], tuple[str, str] | None]


def _say(source: str, sentence: str) -> _Tell:
    return lambda book, host, facts, name: (source, sentence.format(host=host, **facts))


_TOLD: dict[str, _Tell] = {
    "power-off": _say("power", "{host} has no power"),
    "power-on": _say("power", "{host} has power and boots"),
    "stop-hangs": _say("role", "{host}: xapi does not end"),
    "held": _say("role", "{host}: systemd starts no xapi: it is held"),
    "released": _say("role", "{host}: it is held no more"),
    "role": _role,
    "pool-master": lambda book, host, facts, name: ("role", f"{host}: xapi serves as master"),
    "promote-call": _say("promote", "{host}: xapi is told to become master"),
    "repointed": lambda book, host, facts, name: (
        "role",
        f"{host}: xapi is told to follow {book.names.at(facts['master'])}",
    ),
    "other-master": lambda book, host, facts, name: (
        "role",
        f"{host}: xapi found that {book.names.of(facts['host'])} is another master",
    ),
    "killed": _killed,
    "start-failed": _say("role", "{host}: xapi cannot start: {error}"),
    "db-refused": _say("role", "{host}: xapi refuses its database: {error}"),
}
