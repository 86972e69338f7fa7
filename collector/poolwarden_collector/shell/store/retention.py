"""How long the journal keeps its entries, and what is never removed from it.

Rules
-----
* Whatever a record is folded from stays: ``KEPT`` says of each kind why, and a kind that is not in it stops the tests.
  So folding the entries that are left gives the same record, with and without snapshots (snapshots.py).
* ``Keeping.HISTORY`` is removed after ``keep_history``, but for entries of a failover and those of these kinds that do
  change a record (``changes_nothing``). A kind that was HISTORY in any release is never folded later: older journals
  have lost some of them. A new meaning takes a new kind.
* What a decision was made from (its stored input) is removed after ``keep_decisions``; the decision itself stays. It is
  compressed from the first day (core/state/decision_input.py).
* The last entries stay, however old a wrong clock makes them, and ``MOST_AN_HOUR`` go in an hour: so a clock that is
  wrong for a while empties nothing. An entry from the future is passed over.
* Rows are chosen beside the connection that writes; it removes a few at a time, and holds nobody up for long.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlite_utils import Database

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.shell.store.entry_checksum import checksum, sound

LAST_KEPT = 1_000  # entries, of all pools together
MOST_AN_HOUR = 10_000
_LOOKED_AT = 2_000  # rows of one look
_AT_ONCE = 10  # rows of one transaction: it holds the writer for as long as another pool's commit


class Keeping(Enum):
    """Why an entry of a kind stays, or for how long."""

    RECORD = "a pool's record is folded from it"
    ACT = "somebody ordered, refused, proved or did it: it explains what followed, and owed work may rest on it"
    HISTORY = "it informs, and decides nothing"


_HISTORY = (
    Kind.VERDICT,
    Kind.AGENT_SILENT,
    Kind.AGENT_BACK,
    Kind.STRANGER,
    Kind.HOST_REFUSED,
    Kind.ALERT_DELIVERED,
    Kind.HOOK_RAN,
    Kind.FOLDED,
)
_ACTS = (
    Kind.POOL_SEEN,
    Kind.POWER_READING,
    Kind.CONTRARY,
    Kind.CLAIM_SENT,
    Kind.FENCE_RECALLED,
    Kind.RESTART_RESULT,
    Kind.TOMBSTONE_INTENT,
    Kind.OPERATOR_REFUSED,
    Kind.REMOVE_INTENT,
    Kind.RELEASE_INTENT,
    Kind.GC_INTENT,
    Kind.RELEASED,
    Kind.RECOVER_INTENT,
    Kind.RECOVER_RESULT,
    Kind.ENABLE_INTENT,
    Kind.GATE_ANSWER,
    Kind.COLLECTOR_STARTED,
    Kind.CONFIGURED,
    Kind.ALERT_SILENCED,
    Kind.ALERT_UNSILENCED,
    Kind.ALERT_ACKNOWLEDGED,
    Kind.ALERTS_TESTED,
    Kind.SECOND_AWAITED,
    Kind.SECOND_OVER,
    Kind.HOOK_ASKED,
    Kind.ENROLMENT,
)
# Of these the records are folded (core/state).
_RECORD = (
    Kind.HOST_SEEN,
    Kind.HOST_BOOTED,
    Kind.POOL_NAMED,
    Kind.POOL_LISTED,
    Kind.MASTER_OBSERVED,
    Kind.MASTER_NAMED,
    Kind.TERM_OBSERVED,
    Kind.STANDING,
    Kind.DEVICE_BOUND,
    Kind.DEVICE_UNBOUND,
    Kind.DEVICE_ATTESTED,
    Kind.DEVICE_QUARANTINED,
    Kind.DEVICE_CLEARED,
    Kind.ASKED,
    Kind.WITHDRAWN,
    Kind.DECIDED,
    Kind.CLAIMED,
    Kind.CANDIDATE,
    Kind.FENCE_INTENT,
    Kind.FENCE_RESULT,
    Kind.FENCED,
    Kind.PROOF,
    Kind.PROMOTE_INTENT,
    Kind.PROMOTE_ANSWER,
    Kind.DEMOTED,
    Kind.PROMOTED,
    Kind.REPOINT_INTENT,
    Kind.RESTART_INTENT,
    Kind.IN_PLACE_INTENT,
    Kind.IN_PLACE_ACCEPTED,
    Kind.IN_PLACE_REMOVED,
    Kind.IN_PLACE_START,
    Kind.IN_PLACE_ENDED,
    Kind.REPAIRED,
    Kind.MEMBERS_BEFORE,
    Kind.MEMBER_BACK,
    Kind.OWED,
    Kind.OWED_DONE,
    Kind.BLOCKED,
    Kind.UNBLOCKED,
    Kind.CLOSED,
    Kind.ABORTED,
    Kind.SUPERSEDED,
    Kind.COOLDOWN_OVER,
    Kind.PAUSED,
    Kind.RESUMED,
    Kind.HUMAN_CONFIRMED,
    Kind.HOST_CONFIRMED_OFF,
    Kind.HOST_CONFIRMED_OVER,
    Kind.HA_SEEN,
    Kind.UPGRADE_SEEN,
    Kind.ASSUMPTIONS,
    Kind.GOODBYE,
    Kind.TRANSITION,
    Kind.IDENTITY,
    Kind.RESTORED,
    Kind.JOURNAL_SHORT,
    Kind.JOURNAL_SHORT_OVER,
    Kind.RECORD_MOVED,
    Kind.OPINION_SETTLED,
    Kind.APPROVED,
    Kind.DENIED,
    Kind.EXPIRED,
    Kind.ACKNOWLEDGED,
    Kind.TOOLSTACK_INTENT,
    Kind.HANDOVER_INTENT,
    Kind.HANDOVER_RESULT,
    Kind.SYNC_INTENT,
    Kind.SYNC_RESULT,
    Kind.DESIGNATE_INTENT,
    Kind.DESIGNATE_RESULT,
    Kind.DEAD_INTENT,
    Kind.DECLARED_DEAD,
    Kind.LOST_VMS,
    Kind.START_INTENT,
    Kind.START_RESULT,
    Kind.SWITCH_INTENT,
    Kind.SWITCH_RESULT,
    Kind.DRILL_BEGUN,
    Kind.DRILL_PHASE,
    Kind.DRILL_RESULT,
    Kind.DRILL_ABANDONED,
    Kind.DRILL_ENDED,
    Kind.HOST_LEFT,
    Kind.STALE_EPOCH,
    Kind.ALERT,
    Kind.ALERT_RESOLVED,
)
_HISTORY_WORDS = frozenset(kind.value for kind in _HISTORY)

KEPT: dict[Kind, Keeping] = {
    **dict.fromkeys(_RECORD, Keeping.RECORD),
    **dict.fromkeys(_ACTS, Keeping.ACT),
    **dict.fromkeys(_HISTORY, Keeping.HISTORY),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """What is to go: entries, and inputs of decisions; ``to``: how far the entries were looked at for each."""

    entries: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    to: tuple[tuple[str, int], ...] = ()
    moved: bool = False  # was anything looked at that had not been before?


def changes_nothing(kind: str, failover: str, data: str) -> bool:
    """May this entry go once it is old? Nothing of a failover may, and nothing that any record is folded from."""
    if kind not in _HISTORY_WORDS or failover:
        return False
    if kind != Kind.VERDICT.value:
        return True
    try:
        said = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return False
    # The end of an incident forgets its restarts, a pool that is well again what was denied in it.
    return isinstance(said, dict) and not said.get("over") and said.get("verdict") != "Healthy"


def look(db: sqlite3.Connection, history_before: str, inputs_before: str, now: str, most: int) -> Cut:
    """What is older than it is kept, in the order of the entries; instants as ``clock.wall_text`` writes them."""
    last = int(db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]) - LAST_KEPT
    before = [_looked_to(db, what) for what in ("entries", "inputs")]
    entries, entries_to = _old(db, "entries", history_before, now, last, changes_nothing, most)
    inputs, inputs_to = _old(db, "inputs", inputs_before, now, last, _has_input, most)
    to = ((_mark("entries"), entries_to), (_mark("inputs"), inputs_to))
    return Cut(tuple(entries), tuple(inputs), to, moved=[entries_to, inputs_to] != before)


def parts(cut: Cut) -> list[Cut]:
    """The same in pieces for one transaction each; how far it was looked stands in the last one."""
    entries = [Cut(entries=cut.entries[at : at + _AT_ONCE]) for at in range(0, len(cut.entries), _AT_ONCE)]
    inputs = [Cut(inputs=cut.inputs[at : at + _AT_ONCE]) for at in range(0, len(cut.inputs), _AT_ONCE)]
    return [*entries, *inputs, *([Cut(to=cut.to)] if cut.moved else [])]


def remove(db: Database, cut: Cut) -> None:
    """Remove it. In a transaction of the caller's."""
    for seq in cut.entries:
        db.execute("DELETE FROM entries WHERE seq = ?", [seq])
    for seq in cut.inputs:
        _remove_input(db, seq)
    for mark, to in cut.to:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [mark, str(to)])


def _remove_input(db: Database, seq: int) -> None:
    row = next(db.query("SELECT * FROM entries WHERE seq = ?", [seq]), None)
    if row is None or not sound(row):
        return  # a new checksum would make what is damaged look right
    db.execute("UPDATE entries SET data = json_remove(data, '$.input', '$.step') WHERE seq = ?", [seq])
    if row["checked"] is not None:
        row = next(db.query("SELECT * FROM entries WHERE seq = ?", [seq]))
        db.execute("UPDATE entries SET checked = ? WHERE seq = ?", [checksum(row), seq])


def _old(
    db: sqlite3.Connection, what: str, before: str, now: str, last: int, goes: Any, most: int
) -> tuple[list[int], int]:
    """The numbers of the entries that go, and up to which one nothing is left to be looked at."""
    at = _looked_to(db, what)
    query = "SELECT seq, at, kind, failover, data FROM entries WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    # A snapshot counts only while the entry stands up to which it goes.
    ends = {seq for (seq,) in db.execute("SELECT seq FROM snapshots")}
    found: list[int] = []
    for seq, written, kind, failover, data in db.execute(query, [at, last, _LOOKED_AT]):
        if before <= written <= now or len(found) >= most:
            break  # those after it are younger
        if written < before and seq not in ends and goes(kind, failover, data):
            found.append(seq)
        at = seq
    return found, at


def _looked_to(db: sqlite3.Connection, what: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", [_mark(what)]).fetchone()
    return int(row[0]) if row is not None and str(row[0]).isdigit() else 0


def _mark(what: str) -> str:
    return f"kept-{what}"


def _has_input(kind: str, failover: str, data: str) -> bool:
    return '"input":' in data
