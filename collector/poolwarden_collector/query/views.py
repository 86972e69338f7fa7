"""The views that a query sees: names and columns that stay, over tables that may change. docs/commands.md lists them.

Each view has a sentence, and is a temporary one of the asking connection: nothing of it is in the files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A view; ``of`` names the file that it needs."""

    name: str
    of: str  # "journal" or "telemetry"
    says: str
    columns: tuple[str, ...]
    select: str


VIEWS = (
    View(
        "pools",
        "journal",
        "each pool that was ever guarded, with its newest name",
        ("uuid", "name"),
        """SELECT p.pool, coalesce((SELECT json_extract(n.data, '$.name') FROM journal.entries n
           WHERE n.pool = p.pool AND n.kind = 'pool-named' ORDER BY n.seq DESC LIMIT 1), '')
           FROM (SELECT DISTINCT pool FROM journal.entries WHERE pool != '') p""",
    ),
    View(
        "hosts",
        "journal",
        "each host that was ever on record, with its newest name and address",
        ("uuid", "pool", "name", "address", "seen_at"),
        """SELECT host, pool, name, address, at FROM (
           SELECT json_extract(data, '$.host') host, pool, json_extract(data, '$.name') name,
           json_extract(data, '$.address') address, at,
           row_number() OVER (PARTITION BY json_extract(data, '$.host') ORDER BY seq DESC) newest
           FROM journal.entries WHERE kind IN ('host-seen', 'host-booted')) WHERE newest = 1""",
    ),
    View(
        "entries",
        "journal",
        "the journal as history shows it; data is a JSON object",
        ("seq", "at", "pool", "failover", "kind", "actor", "text", "term", "epoch", "data"),
        """SELECT e.seq, e.at, e.pool, e.failover, e.kind, e.actor, e.text, e.term, e.epoch,
           CASE WHEN e.data LIKE '%"input":%' THEN json_remove(e.data, '$.input', '$.step') ELSE e.data END
           FROM journal.entries e""",
    ),
    View(
        "failovers",
        "journal",
        "each failover: when it was decided, when and how it ended (empty: it is open), and its entries",
        ("id", "pool", "decided_at", "ended_at", "outcome", "seconds", "entries"),
        """SELECT f.failover, f.pool, min(f.at), coalesce(max(CASE WHEN f.kind IN ('closed', 'aborted', 'superseded')
           THEN f.at END), ''), coalesce(max(CASE WHEN f.kind IN ('closed', 'aborted', 'superseded')
           THEN f.kind END), ''), round((julianday(max(CASE WHEN f.kind IN ('closed', 'aborted', 'superseded')
           THEN f.at END)) - julianday(min(f.at))) * 86400, 1), count(*)
           FROM journal.entries f WHERE f.failover != '' GROUP BY f.failover, f.pool""",
    ),
    View(
        "commands",
        "journal",
        "what people ordered or were refused, and who it was",
        ("seq", "at", "pool", "actor", "kind", "text"),
        """SELECT c.seq, c.at, c.pool, c.actor, c.kind, c.text FROM journal.entries c
           WHERE c.actor NOT IN ('', 'poolwarden')""",
    ),
    View(
        "alerts",
        "journal",
        "each alert, open where resolved_at is empty",
        ("key", "occurrence", "pool", "severity", "title", "body", "raised_at", "resolved_at"),
        """SELECT a.key, a.occurrence, a.pool, a.severity, a.title, a.body, a.raised_at, a.resolved_at
           FROM journal.alerts a""",
    ),
    View(
        "deliveries",
        "journal",
        "how far each alert came at each channel; state is firing, reminder or resolved",
        ("key", "occurrence", "state", "sink", "status", "attempts", "last_error", "sent_at"),
        """SELECT o.key, o.occurrence, o.state, o.sink, o.status, o.attempts, o.last_error, o.sent_at
           FROM journal.outbox o""",
    ),
    View(
        "facts",
        "telemetry",
        "the newest facts of each host, a JSON object",
        ("host", "pool", "at", "facts"),
        "SELECT l.host, l.pool, strftime('%Y-%m-%dT%H:%M:%fZ', l.at_ms / 1000.0, 'unixepoch'), l.facts "
        "FROM telemetry.latest l",
    ),
    View(
        "samples",
        "telemetry",
        "a host every five minutes, for 30 days; bytes",
        ("host", "at", "generation", "xapi", "root_free", "memory_available", "vms"),
        "SELECT s.host, strftime('%Y-%m-%dT%H:%M:%fZ', s.at_ms / 1000.0, 'unixepoch'), s.generation, s.xapi, "
        "s.root_free, s.memory_available, s.vms FROM telemetry.history s",
    ),
    View(
        "late",
        "telemetry",
        "what hosts told afterwards of times when no collector listened",
        ("host", "pool", "at", "heard_at", "kind", "text", "dropped"),
        "SELECT t.host, t.pool, strftime('%Y-%m-%dT%H:%M:%fZ', t.at_ms / 1000.0, 'unixepoch'), "
        "strftime('%Y-%m-%dT%H:%M:%fZ', t.heard_ms / 1000.0, 'unixepoch'), t.kind, t.text, t.dropped "
        "FROM telemetry.late t",
    ),
)
