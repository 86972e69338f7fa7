"""The demo's stories: what is broken, what must then be seen, and what must never be seen.

A story is data; `demo` plays it and `judge` says whether exactly that happened. Each sign of ``must`` has to appear in
the journal after the one before it, but for those that may come at any time (``anytime``): power is read while the
silence is still being corroborated. A kind of ``never`` ends the story at once as failed, because a demo that promotes
somebody after a lie has shown the opposite of what it promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolwarden_lab.processes.operator_link import Entry


@dataclass(frozen=True, slots=True)
class Sign:
    """A journal entry to look for: its kind, and values of its data. ``reaction`` is done when it is seen."""

    kind: str
    what: str  # for people: what we wait for
    data: tuple[tuple[str, Any], ...] = ()
    reaction: str = ""  # "thaw" or "confirm-fenced"
    anytime: bool = False  # it may come before the signs that stand before it
    other: str = ""  # another kind that is as good

    def matches(self, entry: Entry) -> bool:
        return entry.kind in (self.kind, self.other) and all(entry.data.get(name) == value for name, value in self.data)


@dataclass(frozen=True, slots=True)
class Story:
    """One story. Times in seconds."""

    name: str
    title: str
    faults: tuple[str, ...]  # done to the master, in this order
    must: tuple[Sign, ...]
    never: tuple[str, ...]  # kinds
    outcome: str  # what exit status 0 says
    heals: bool = False  # a new master serves in the end, and every member follows it
    watch_s: float = 0.0  # after the last sign: how long nothing forbidden may appear
    alert: str = ""  # what the webhook must have received: "" nothing, "any" alert, "master": the new master's name


def _verdict(word: str, what: str) -> Sign:
    return Sign("verdict", what, (("verdict", word),))


_SUCCESSION = (
    Sign("promote-intent", "one candidate is bound to this failover"),
    Sign("promoted", "the new master is verified"),
    Sign("closed", "every member is back and the failover is closed"),
)
_NO_SUCCESSION = ("decided", "claim-sent", "fence-intent", "promote-intent", "promoted")
_GONE_WRONG = ("aborted", "superseded", "contrary-evidence", "device-quarantined", "asked", "fence-intent")

STORIES: dict[str, Story] = {
    story.name: story
    for story in (
        Story(
            "power",
            "the master loses power",
            ("power",),
            (
                _verdict("MasterVanished", "silence, corroborated by every member"),
                Sign("power-reading", "its BMC reads off", (("power", "off"),), anytime=True),
                Sign("power-reading", "its BMC reads off a second time", (("power", "off"),), anytime=True),
                Sign("proof", "the proof", (("kind", "power"),)),
                *_SUCCESSION,
            ),
            (*_GONE_WRONG, "blocked"),
            "the master's power was proven off, exactly one member was promoted, and every member follows it",
            heals=True,
            alert="master",
        ),
        Story(
            "bmc-unreachable",
            "the master and its BMC lose power together",
            ("bmc-unreachable", "power"),
            (
                _verdict("MasterVanished", "silence, corroborated by every member"),
                Sign(
                    "blocked",
                    "nothing proves it dead: a human is asked",
                    (("code", "BLOCKED_NEEDS_HUMAN"),),
                    "confirm-fenced",
                ),
                Sign("human-confirmed", "the operator's word is on record"),
                Sign("proof", "the proof", (("kind", "human"),)),
                *_SUCCESSION,
            ),
            _GONE_WRONG,
            "an unreachable BMC proved nothing; after an operator's word one member was promoted, and all follow it",
            heals=True,
            alert="master",
        ),
        Story(
            "partition-collector",
            "only the collector loses the master",
            ("partition-collector",),
            (_verdict("MasterUnreachableFromCollector", "members still reach it"), Sign("alert", "the alert")),
            _NO_SUCCESSION,
            "the collector held still and said so; nobody was promoted",
            watch_s=10,
            alert="any",
        ),
        Story(
            "bmc-lies",
            "the master hangs, its BMC says off, and then it comes back",
            ("freeze", "bmc-lies"),
            (
                Sign("power-reading", "its BMC reads off", (("power", "off"),), "thaw"),
                _verdict("FenceDisputed", "life is seen after an off reading"),
                Sign("alert", "the alert"),
            ),
            ("promote-intent", "promoted", "proof", "fence-intent"),
            "the device's word did not stand against a sign of life; nobody was promoted",
            watch_s=10,
            alert="any",
        ),
        Story(
            "reads-on",
            "the master's dom0 is dead, and its power stays on",
            ("reads-on",),
            (
                _verdict("MasterVanished", "silence, corroborated by every member"),
                Sign("power-reading", "its BMC reads on", (("power", "on"),), anytime=True),
                Sign("asked", "the operator is asked"),
            ),
            _NO_SUCCESSION,
            "a machine that reads on was not shot: the operator was asked, nobody was promoted",
            watch_s=8,
            alert="any",
        ),
        Story(
            "xapi-hang",
            "the master's xapi accepts and never answers",
            ("xapi-hang",),
            (
                _verdict("MasterXapiHung", "its agent lives, its xapi does not answer"),
                # In place where a member's copy is newer than the master's file, which it is for minutes.
                Sign("restart-intent", "xapi is restarted where it is", other="in-place-intent"),
                _verdict("Healthy", "the same master serves again"),
            ),
            _NO_SUCCESSION,
            "a restart of xapi repaired it; nobody was promoted",
            watch_s=3,
        ),
        Story(
            "xapi-wedge",
            "the master's xapi hangs and obeys no signal",
            ("xapi-wedge",),
            (
                _verdict("MasterXapiHung", "its agent lives, its xapi does not answer"),
                # With a member's copy where one is newer than the master's file, as it nearly always is.
                Sign("in-place-intent", "xapi is stopped where it is", other="restart-intent"),
                _verdict("Healthy", "the same master serves again"),
            ),
            _NO_SUCCESSION,
            "xapi was killed and runs again, with the newest copy of its database; nobody was promoted",
            watch_s=3,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a story has come: the signs that were seen, in the order of their appearance, or why it has failed."""

    seen: tuple[Sign, ...]
    missing: tuple[Sign, ...]
    broken: str = ""


def judge(story: Story, entries: Iterable[Entry]) -> Progress:
    """The story so far, of entries since the fault."""
    seen: list[Sign] = []
    missing = list(story.must)
    for entry in entries:
        if entry.kind in story.never:
            broken = f"this must not happen in this story: {entry.kind}: {entry.text}"
            return Progress(tuple(seen), tuple(missing), broken)
        due = next((number for number, sign in enumerate(missing) if not sign.anytime), len(missing))
        for number, sign in enumerate(missing):
            if (sign.anytime or number == due) and sign.matches(entry):
                seen.append(missing.pop(number))
                break
    return Progress(tuple(seen), tuple(missing))


_MILESTONES = {
    "verdict": "until the verdict",
    "power-reading": "until the first power reading",
    "asked": "until a person was asked",
    "blocked": "until a person was asked",
    "human-confirmed": "until that person had confirmed",
    "proof": "until the proof",
    "promote-intent": "until the promotion was ordered",
    "promoted": "until the new master was verified",
    "closed": "until every member was back",
    "restart-intent": "until the restart was ordered",
    "in-place-intent": "until the restart in place was begun",
    "in-place-start": "until the file to start with was decided",
    "restart-result": "until it answered again",
}


def phases(story: Story, entries: list[Entry], fault_ms: int) -> list[tuple[str, int]]:
    """How long each phase took, ms, from milestone to milestone by the journal's monotonic stamps."""
    verdicts = {dict(sign.data)["verdict"] for sign in story.must if sign.kind == "verdict"} - {"Healthy"}
    first: dict[str, int] = {}
    for entry in entries:
        if entry.kind in _MILESTONES and (entry.kind != "verdict" or entry.data.get("verdict") in verdicts):
            first.setdefault(entry.kind, entry.mono_ms)
    found, before = [], fault_ms
    for kind, at in sorted(first.items(), key=lambda item: item[1]):
        found.append((_MILESTONES[kind], at - before))
        before = at
    return found
