"""Judgements from observations: how xapi behaves on a socket, whether this member is orphaned.

Sources: xapi's start-up (ocaml/xapi/xapi.ml): a running member whose master is lost keeps its emergency flag false and
retries for ever, so the flag alone says nothing; the judgement here asks whether its master answers.
"""

from typing import NamedTuple, Optional

ANSWERS, DOWN, STARTING, SILENT, UNKNOWN = "answers", "down", "starting", "silent", "unknown"
ANSWERED, REFUSED, NO_ANSWER, UNREACHABLE, NOT_XAPI = "answered", "refused", "no answer", "unreachable", "not xapi"
STARTING_LIMIT_MS = 600000
ORPHAN_MS = 3000
LATE_FOR_MS = 60000  # so long a late answer says that a xapi is slow and not silent
NEVER_REACHED_MS = 10000
LEAST_LIMIT_MS, MOST_LIMIT_MS = 200, 10000  # of one probe, whatever a collector wants
MOST_TARGETS = 128  # that one collector may name; a pool has at most 64 hosts


class ProbeResult(NamedTuple):
    """What a probe found; ``accepted`` False: not even a connection was taken.

    ``late_ms``: how long the answer took, where it came after the look that had asked for it had ended; 0: it did not.
    """

    outcome: str
    certificate: str
    text: str
    accepted: bool = True
    late_ms: int = 0


class Late(NamedTuple):
    """The last answer that came later than a look waits for it; ``took_ms`` 0: answers come in time."""

    at_ms: int
    took_ms: int


IN_TIME = Late(0, 0)


Watch = NamedTuple(
    "Watch",
    [
        ("target", str),
        ("address", str),
        ("outcome", str),
        ("probed_ms", int),
        ("answered_ms", int),
        ("unanswered_since_ms", int),
        ("certificate", str),
        ("text", str),
    ],
)


def limit_ms(wanted: int, default: int) -> int:
    """How long one probe may take: what a collector wants, within bounds; 0: the default."""
    return min(max(wanted, LEAST_LIMIT_MS), MOST_LIMIT_MS) if wanted else default


def watched(before: Optional[Watch], target: str, address: str, result: ProbeResult, ended_ms: int) -> Watch:
    """The standing of one probed target after one more probe; a changed address starts anew."""
    if before is not None and before.address != address:
        before = None
    if result.outcome == ANSWERED:
        return Watch(target, address, ANSWERED, ended_ms, ended_ms, 0, result.certificate, result.text)
    since = before.unanswered_since_ms if before is not None and before.unanswered_since_ms else ended_ms
    answered = before.answered_ms if before is not None else 0
    certificate = result.certificate or (before.certificate if before is not None else "")
    return Watch(target, address, result.outcome, ended_ms, answered, since, certificate, result.text)


def liveness(outcome: str, process_age_ms: Optional[int], startup_cookie: bool) -> str:
    """xapi by its behaviour on one socket; ``process_age_ms`` None: no process."""
    if outcome == ANSWERED:
        return ANSWERS
    if process_age_ms is None:
        return DOWN
    if not startup_cookie and process_age_ms < STARTING_LIMIT_MS:
        return STARTING
    if outcome == REFUSED:
        return DOWN
    return SILENT


def lateness(before: Late, outcome: str, late_ms: int, now_ms: int) -> Late:
    """What is known of late answers after one more look: slowness lasts until an answer comes in time.

    Silence is not slowness: only an answer that did come shows it, and for no longer than a minute.
    """
    if outcome == ANSWERED:
        return Late(now_ms, late_ms) if late_ms else IN_TIME
    stands = outcome == NO_ANSWER and before.took_ms and now_ms - before.at_ms < LATE_FOR_MS
    return before if stands else IN_TIME


def orphaned(watch: Optional[Watch], member_since_ms: int, now_ms: int) -> bool:
    """Does this member's master leave it without an answer? Two probes and 3 s, or 10 s if it never reached it.

    A host that has just become a member, or was just given another master, has not been without an answer for long.
    """
    if watch is None or watch.outcome == ANSWERED or watch.probed_ms <= watch.unanswered_since_ms:
        return False
    alone_ms = now_ms - max(member_since_ms, watch.unanswered_since_ms)
    return alone_ms >= (ORPHAN_MS if watch.answered_ms else NEVER_REACHED_MS)
