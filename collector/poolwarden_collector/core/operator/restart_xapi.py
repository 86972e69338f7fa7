"""``restart-xapi HOST``: its xapi is started anew where that is safe: HA off, and no running VM terminated by it."""

from __future__ import annotations

from poolwarden.assumptions import FORECAST, RESTART
from poolwarden_collector.core.decision.database_contents import SPARE_THEM, at_stake, placements_of
from poolwarden_collector.core.evidence import assumptions
from poolwarden_collector.core.evidence.signs import serving
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.recovery.master_restart import order_restart, restart_refusal
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction


def command_restart(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """Have it restarted, or say why not; empty: what it would terminate is being read."""
    host, name = said.host, tx.name(said.host)
    agent = tx.heard(host)
    if agent is None:
        return Refused("agent-silent", f"the agent of {name} is not heard: nothing can be ordered there")
    if agent.facts.database.ha_armed is not Tri.NO or verdict is Verdict.HA_MANAGED:
        return Refused(
            "ha-armed", f"xapi's HA is armed on {name} (or its flag cannot be read): a restart can make it fence itself"
        )
    if agent.facts.role.pool_conf is Role.MASTER:
        placements = placements_of(tx, host)
        if placements is None:
            waiting_commands.wait(tx, said, 8_000)
            return ""
        refusal = restart_refusal(tx, host, placements)
        if refusal is not None and refusal.code is Cause.WAITING:
            waiting_commands.wait(tx, said, 8_000)
            return ""
        if refusal is not None and refusal.code is not Cause.ASSUMPTION:  # what failed is overruled by his word
            return Refused(
                "unsafe", f"restarting the xapi of master {name} is not safe: {refusal}", "poolwarden explain POOL"
            )
    elif serving(tx) == (tx.record.master,):
        # safety: a member's new xapi terminates what its master's database does not place there; the word named no VM.
        kills = at_stake(tx, host)
        if kills is None:
            waiting_commands.wait(tx, said, 8_000)
            return ""
        if kills:
            if isinstance(kills, Reason):
                return Refused(
                    "unsafe", f"restarting the xapi of {name} is not safe: {kills}", "poolwarden explain POOL"
                )
            lost = ", ".join(f"{kill.name} ({kill.why})" for kill in kills)
            return Refused("unsafe", f"restarting the xapi of {name} would kill running VMs there: {lost}", SPARE_THEM)
    unsure = assumptions.refusal(tx, host, RESTART, FORECAST)
    despite = f"; overruled: {unsure}" if unsure is not None else ""
    order_restart(tx, host, f"ordered by {said.actor}{despite}", remedy=False, actor=said.actor)
    return f"the xapi of {name} is being restarted{despite}; poolwarden host show {name} tells when it answers"


def too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """What a restart would do was not told in time."""
    why = f"{pool.name(said.host)} did not tell in time what a restart would do to its VMs"
    return Refused("no-evidence", why, "Try again; look at poolwarden explain POOL.")
