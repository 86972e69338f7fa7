"""Blockers: for what an open failover stands still. Its value is the word in journals, alerts and ``status``.

A blocker is one code with subjects (reasons.py): the same code about another host is told anew.
"""

from __future__ import annotations

from enum import StrEnum


class Blocker(StrEnum):
    """Every code for which a failover can stand still; the comment says what ends it."""

    PAUSED = "BLOCKED_PAUSED"  # resume
    UNAPPROVED = "BLOCKED_UNAPPROVED"  # approve or deny: the mode is ask
    NO_CLAIM = "BLOCKED_NO_CLAIM"  # a member that stores the term
    NO_CANDIDATE = "BLOCKED_NO_CANDIDATE"  # a member that may be promoted
    SUPERSEDED_COPY = "BLOCKED_SUPERSEDED_COPY"  # its time, the old master, confirm-fenced or approve
    KILL_FORECAST = "BLOCKED_KILL_FORECAST"  # approve --accept-kill, deny, or nothing at stake any more
    STALE_DATABASE = "BLOCKED_STALE_DATABASE"  # approve --accept-stale, or deny
    GENERATION = "BLOCKED_GENERATION"  # approve or deny, or the copy is another one
    UNSOUND_DATABASE = "BLOCKED_UNSOUND_DATABASE"  # approve or deny, or a member has a sound copy
    ASSUMPTION = "BLOCKED_ASSUMPTION"  # approve or deny, or what failed holds again
    POWER_ON = "BLOCKED_POWER_ON"  # approve --shoot, deny, or confirm-fenced
    NEEDS_HUMAN = "BLOCKED_NEEDS_HUMAN"  # confirm-fenced, or a device that can be read again
    NO_MEMBER = "BLOCKED_NO_MEMBER"  # a member that can run the device's agent
    NO_WITNESS = "BLOCKED_NO_WITNESS"  # a member that answers a fresh look
    SILENT_MEMBER = "BLOCKED_SILENT_MEMBER"  # its time, or the member's answer
    UNASKED_MEMBER = "BLOCKED_UNASKED_MEMBER"  # anybody's answer about the member, its power, or confirm-fenced of it
    ROLE_UNTOLD = "BLOCKED_ROLE_UNTOLD"  # the host's role, its agent, its power, or confirm-fenced of it
    UNHEARD_MEMBER = "BLOCKED_UNHEARD_MEMBER"  # approve or deny, or the member is heard, or falls silent altogether
    LAST_LOOK = "BLOCKED_LAST_LOOK"  # what the look has found is over
    NOT_EVERYBODY = "BLOCKED_NOT_EVERYBODY"  # every host on record is heard
    CANNOT_HOLD = "BLOCKED_CANNOT_HOLD"  # a newer agent, or confirm-fenced
    NO_WAY_BACK = "BLOCKED_NO_WAY_BACK"  # nothing at stake any more in the old master's own file
    EVIDENCE_CONFLICT = "BLOCKED_EVIDENCE_CONFLICT"  # approve --shoot, or the witnesses agree again
    TERM_PASSED = "BLOCKED_TERM_PASSED"  # the candidate serves, or is proven off
    PROMOTE_REFUSED = "BLOCKED_PROMOTE_REFUSED"  # the candidate's agent obeys
    NOT_ASKED = "BLOCKED_NOT_ASKED"  # the candidate's xapi is there to be asked
    PROOF_NOT_RENEWED = "BLOCKED_PROOF_NOT_RENEWED"  # a new proof
    NEW_MASTER_LOOPS = "BLOCKED_NEW_MASTER_LOOPS"  # its xapi stays, or has looped for so long that it is judged itself
    UNVERIFIED = "BLOCKED_UNVERIFIED"  # the candidate serves, or is proven off


_OLD_OFF = "make sure that {old} is off, then: poolwarden confirm-fenced {old}"
_LIVING_OFF = "switch {old} off, which ends its VMs, then: poolwarden confirm-fenced {old}"  # its agent is heard
_CANDIDATE_OFF = "switch {candidate} off, then: poolwarden confirm-fenced {candidate}"
# What a person can do, where the place that blocks says nothing better: {old} and {candidate} are hosts, {silent} tells
# what to do about the hosts that are not heard, by name.
NEXT_STEP: dict[Blocker, str] = {
    Blocker.NO_CLAIM: "Mend what keeps each of them from it: the failover goes on by itself. poolwarden explain {pool}",
    Blocker.KILL_FORECAST: "It goes on by itself when that is known. poolwarden explain {pool}",
    Blocker.NO_MEMBER: f"Start an agent that may run it, or {_OLD_OFF}",
    Blocker.NO_WITNESS: f"It goes on by itself when a member answers. Or {_OLD_OFF}",
    Blocker.LAST_LOOK: "It goes on by itself when that is over. {silent}poolwarden explain {pool}",
    Blocker.NOT_EVERYBODY: "It goes on by itself when everybody has said so. poolwarden explain {pool}",
    Blocker.CANNOT_HOLD: f"Update the agent there, or {_LIVING_OFF}",
    Blocker.NO_WAY_BACK: f"That ends by itself when nothing is at stake. Or {_LIVING_OFF}",
    Blocker.TERM_PASSED: f"It ends when {{candidate}} serves. Or {_CANDIDATE_OFF}",
    Blocker.PROMOTE_REFUSED: f"Mend that on {{candidate}}: it goes on by itself. Or {_CANDIDATE_OFF}",
    Blocker.PROOF_NOT_RENEWED: _OLD_OFF.capitalize(),
}
