"""Reasons: what stands against something, as a value that code can compare.

Rules
-----
* Two reasons are the same if their code and their subjects are: hosts, VMs, devices, tasks (by uuid or name) and the
  numbers that matter. ``host-2`` and ``host-3`` are never one reason; "12 min left" and "11 min left" are.
* The sentence is for people. Nothing is decided by it, no alert is told apart by it, and it may change freely.
* What has no reason against it gives ``None``, so that a reason can be asked like any other value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Cause(Enum):
    """The code of a reason. The value is the word for it in keys of alerts and in the journal."""

    # what stands against beginning anything (permission.py, steps.py)
    VERDICT = "verdict"
    WAS_MEMBER = "was-member"
    PAUSED = "paused"
    STOOD_DOWN = "stood-down"
    HIGHER_EPOCH = "higher-epoch"
    QUIET_TIME = "quiet-time"
    TAKEN_OVER = "taken-over"
    NO_RIGHT = "no-right"
    BLIND = "blind"
    YOUNG_SITE = "young-site"
    OBSERVE = "observe"
    MODE_ASK = "mode-ask"
    DOUBT = "doubt"
    NO_LIST = "no-list"
    BEHIND = "behind"
    COOLDOWN = "cool-down"
    JUST_ENDED = "just-ended"
    LANDING = "landing"
    BOOT_GRACE = "boot-grace"
    SURVIVORS = "survivors"
    SERVES = "serves"
    SET_AS_MASTER = "set-as-master"
    NOT_HEARD = "not-heard"
    INCAPABLE = "incapable"
    ROLE = "role"
    HA = "ha"
    HELD_BEFORE = "held-before"
    NO_PROBER = "no-prober"
    # what a database says of running VMs (candidate_ranking.py, database_contents.py, master_restart.py)
    WAITING = "waiting"
    UNREADABLE = "unreadable"
    UNSOUND = "unsound"
    DOMAINS = "domains"
    KILLS = "kills"
    NEWER_COPY = "newer-copy"
    FAR_COPY = "far-copy"
    OLD_COPY = "old-copy"
    BUSY = "busy"
    HELD = "held"
    GATE = "gate"
    NO_ROOM = "no-room"
    IN_VAIN = "in-vain"
    # why a host is no candidate (candidate_ranking.py)
    POLICY = "policy"
    UNLISTED = "unlisted"
    NOT_IN_COPIES = "not-in-copies"
    OLD_FACTS = "old-facts"
    TOMBSTONE = "tombstone"
    FOLLOWS_ANOTHER = "follows-another"
    NO_LOOK = "no-look"
    NO_COPY = "no-copy"
    UPGRADE = "upgrade"
    XAPI = "xapi"
    VERSION = "version"
    NO_CLAIM = "no-claim"
    # what a last look finds (last_look.py)
    BOOTED = "booted"
    ALIVE = "alive"
    # why a lost VM is not started by policy (policy_starts.py)
    ANNOUNCED = "announced"
    QUESTION = "question"
    DRILL = "drill"
    WISH = "wish"
    NOT_SEEN = "not-seen"
    NOWHERE = "nowhere"
    # the rest
    IDENTITY = "identity"
    ANSWER = "answer"
    HOPELESS = "hopeless"
    LOOPS = "loops"
    BROKEN = "broken"
    ADDRESS = "address"
    UNREACHED = "unreached"
    NO_PROOF = "no-proof"
    ASSUMPTION = "assumption"


def key_of(code: str, subjects: Iterable[object] = ()) -> str:
    """A short stable name of a code and its subjects, for the keys of alerts; the order of the subjects counts."""
    parts = [str(subject) for subject in subjects]
    if not parts:
        return code
    return f"{code}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not done: equal to another one if code and subjects are, whatever the sentences say."""

    code: Cause
    text: str = field(compare=False)
    subjects: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def key(self) -> str:
        """What it is called in the key of an alert."""
        return key_of(self.code.value, self.subjects)

    def within(self, text: str) -> Reason:
        """The same reason, told in another sentence."""
        return Reason(self.code, text, self.subjects)
