"""What is told of the collector's own journal where it was damaged."""

from __future__ import annotations

from poolwarden_collector.core.catalogue.message import Message

JOURNAL_SHORT = Message(
    "journal-short",
    "warning",
    "entries of this pool are missing in the collector's journal",
    "the collector's memory of this pool, when its journal was damaged",
    "guards every pool; but after each start of the collector nothing is begun in any of them for minutes",
    "have one of its hosts heard; where that is not to be expected: poolwarden acknowledge {pool}",
    "a pause or a refusal of this pool may be forgotten; {running}",
    "What the journal has lost is asked of the pool's hosts, and none of them has been heard since.",
    "when a host of the pool has said what it knows, or it is acknowledged",
)
JOURNAL_DAMAGED = Message(
    "journal-damaged",
    "critical",
    "the collector's journal was damaged",
    "{why}",
    "goes on with what is readable; what every host knows beyond it is asked of the hosts",
    "look at the disk; pause anew what was paused; then: poolwarden alerts ack journal-damaged",
    "a pause, a refusal or a denied certificate may be forgotten; lost masters are replaced after the quiet time",
    "Entries or other rows of the collector's journal may be lost; the full line says which.",
    "when it is acknowledged",
)
ALL = (JOURNAL_SHORT, JOURNAL_DAMAGED)
