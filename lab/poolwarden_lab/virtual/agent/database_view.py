"""What the modelled agent reads from a modelled host's database: by the agent's own rules, without its parser."""

from __future__ import annotations

from poolwarden_agent.core.soundness import Soundness
from poolwarden_agent.dom0.xapi import database as statedb
from poolwarden_lab.statedb import NULL_REF, StateDb


def placements(state: StateDb) -> tuple[statedb.Placement, ...]:
    hosts = state.tables.get("host", {})
    flags = ("is_control_domain", "is_a_template", "is_a_snapshot")
    found = []
    for row in state.tables.get("VM", {}).values():
        if not any(row.get(flag) == "true" for flag in flags):
            host = hosts.get(row.get("resident_on", NULL_REF), {}).get("uuid", "")
            found.append(statedb.Placement(row["uuid"], host, row.get("name__label", "")))
    return tuple(found)


def faults(state: StateDb) -> tuple[str, ...]:
    """By the agent's own rules; the manifest is always whole here."""
    seen = Soundness()
    seen.pair("generation_count", str(state.generation))
    for table, rows in state.tables.items():
        for ref, row in rows.items():
            seen.row(table, {"ref": ref, **row})
    return seen.faults()
