"""Journal entries: the only way in which a pool's durable state changes.

Rules
-----
* ``record.apply`` folds entries into a ``PoolRecord``; the engine changes its durable state only by making an entry and
  folding it, so a restart that folds the same entries stands where the engine stood.
* ``data`` holds only JSON values (str, int, float, bool, None, lists and dicts of these).
* ``text`` is one sentence for people; nothing is ever parsed from it.
* A new kind, or a new key in a kind's ``data``, needs no migration: tables are migrated (shell/store/journal_file.py),
  entries never. What was written stays as it is for ever, so: a fold reads a key that came later with the default that
  its absence means (``d.get``); a kind is never given another meaning, never renamed and never taken away; one that
  changes what is durable has a row in a ``_CHANGES`` table. An older Poolwarden refuses a journal with a kind that it
  does not know, and names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Kind(Enum):
    """Every kind of entry. The value is the word in ``history``."""

    POOL_SEEN = "pool-seen"
    HOST_SEEN = "host-seen"
    STRANGER = "stranger"
    HOST_BOOTED = "host-booted"
    POOL_NAMED = "pool-named"
    POOL_LISTED = "pool-listed"
    MASTER_OBSERVED = "master-observed"
    MASTER_NAMED = "master-named"
    TERM_OBSERVED = "term-observed"
    STANDING = "standing"
    DEVICE_BOUND = "device-bound"
    DEVICE_UNBOUND = "device-unbound"
    DEVICE_ATTESTED = "device-attested"
    DEVICE_QUARANTINED = "device-quarantined"
    DEVICE_CLEARED = "device-cleared"
    VERDICT = "verdict"
    AGENT_SILENT = "agent-silent"
    AGENT_BACK = "agent-back"
    POWER_READING = "power-reading"
    CONTRARY = "contrary-evidence"
    ASKED = "asked"
    WITHDRAWN = "question-withdrawn"
    DECIDED = "decided"
    CLAIM_SENT = "claim-sent"
    CLAIMED = "claimed"
    CANDIDATE = "candidate"
    FENCE_INTENT = "fence-intent"
    FENCE_RESULT = "fence-result"
    FENCE_RECALLED = "fence-recalled"
    FENCED = "fenced"
    PROOF = "proof"
    PROMOTE_INTENT = "promote-intent"
    PROMOTE_ANSWER = "promote-answer"
    DEMOTED = "demoted"
    PROMOTED = "promoted"
    REPOINT_INTENT = "repoint-intent"
    RESTART_INTENT = "restart-intent"
    RESTART_RESULT = "restart-result"
    IN_PLACE_INTENT = "in-place-intent"
    IN_PLACE_ACCEPTED = "in-place-accepted"
    IN_PLACE_REMOVED = "in-place-removed"
    IN_PLACE_START = "in-place-start"
    IN_PLACE_ENDED = "in-place-ended"
    REPAIRED = "repaired"
    MEMBERS_BEFORE = "members-before"
    MEMBER_BACK = "member-back"
    OWED = "owed"
    OWED_DONE = "owed-done"
    TOMBSTONE_INTENT = "tombstone-intent"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    CLOSED = "closed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    COOLDOWN_OVER = "cooldown-over"
    PAUSED = "paused"
    RESUMED = "resumed"
    HUMAN_CONFIRMED = "human-confirmed"
    HOST_CONFIRMED_OFF = "host-confirmed-off"
    HOST_CONFIRMED_OVER = "host-confirmed-over"
    OPERATOR_REFUSED = "operator-refused"
    HA_SEEN = "ha-seen"
    UPGRADE_SEEN = "upgrade-seen"
    ASSUMPTIONS = "assumptions"
    GOODBYE = "goodbye"
    TRANSITION = "transition"
    IDENTITY = "identity-conflict"
    HOST_REFUSED = "host-refused"
    RESTORED = "journal-restored"
    JOURNAL_SHORT = "journal-short"
    JOURNAL_SHORT_OVER = "journal-short-over"
    OPINION_SETTLED = "opinion-settled"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    ACKNOWLEDGED = "acknowledged"
    TOOLSTACK_INTENT = "toolstack-intent"
    HANDOVER_INTENT = "handover-intent"
    HANDOVER_RESULT = "handover-result"
    REMOVE_INTENT = "remove-intent"
    RELEASE_INTENT = "release-intent"
    GC_INTENT = "gc-intent"
    RELEASED = "released"
    SYNC_INTENT = "sync-intent"
    SYNC_RESULT = "sync-result"
    DESIGNATE_INTENT = "designate-intent"
    DESIGNATE_RESULT = "designate-result"
    RECOVER_INTENT = "recover-intent"
    RECOVER_RESULT = "recover-result"
    DEAD_INTENT = "declare-dead-intent"
    DECLARED_DEAD = "declared-dead"
    LOST_VMS = "lost-vms"
    START_INTENT = "start-intent"
    START_RESULT = "start-result"
    SWITCH_INTENT = "power-switch-intent"
    SWITCH_RESULT = "power-switch-result"
    ENABLE_INTENT = "enable-intent"
    DRILL_BEGUN = "drill-begun"
    DRILL_PHASE = "drill-phase"
    DRILL_RESULT = "drill-result"
    DRILL_ABANDONED = "drill-abandoned"
    DRILL_ENDED = "drill-ended"
    GATE_ANSWER = "gate-answer"
    HOST_LEFT = "host-left"
    STALE_EPOCH = "stale-epoch"
    COLLECTOR_STARTED = "collector-started"
    CONFIGURED = "configured"
    ALERT = "alert"
    ALERT_RESOLVED = "alert-resolved"
    ALERT_DELIVERED = "alert-delivered"
    ALERT_SILENCED = "alert-silenced"
    ALERT_UNSILENCED = "alert-unsilenced"
    ALERT_ACKNOWLEDGED = "alert-acknowledged"
    ALERTS_TESTED = "alerts-tested"
    HOOK_RAN = "hook-ran"
    SECOND_AWAITED = "second-awaited"
    SECOND_OVER = "second-over"
    HOOK_ASKED = "hook-asked"
    ENROLMENT = "enrolment"
    FOLDED = "folded"
    RECORD_MOVED = "record-moved"


# What only informs: nothing durable follows from it, and no decision is made again from it. Where a pool writes too
# much these are counted instead of written (shell/store/journal_quota.py); everything else is always written.
NOTES = frozenset({Kind.VERDICT, Kind.AGENT_SILENT, Kind.AGENT_BACK, Kind.STRANGER, Kind.HOST_REFUSED})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened or is about to be done."""

    kind: Kind
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    failover: str = ""
    term: int = 0
    actor: str = "poolwarden"

    @property
    def informs(self) -> bool:
        """May it be left out where too much is written? Nothing of a failover may."""
        return self.kind in NOTES and not self.failover and not self.data.get("over")
