"""``host why HOST``: its agent looks now why its xapi is not up, and the reply says what it found.

Rules
-----
* It is a look: nothing is changed, journaled or decided by it, whatever the mode; and an armed HA or a hold stand not
  against it.
* The order asks for the placements of the database file as well, as every order of its kind does: whoever needs those
  (database_contents.py) takes them from any answer of it.
"""

from __future__ import annotations

from poolwarden.xapi_causes import UNKNOWN
from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.evidence.xapi_troubles import help_of
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_id import parse
from poolwarden_collector.core.model.orders import CollectEvidence
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.live import Sent
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

FRESH_MS: Ms = 10_000
WAIT_MS: Ms = 8_000
_WHAT = "why"


def command_why(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """What its agent finds, in lines; empty: it is being asked."""
    host, name = said.host, tx.name(said.host)
    refusal = _refusal(tx, host)
    if refusal is not None:
        return refusal
    asked = _asked(tx, host)
    if asked is None:
        tx.send(tx.fresh_id(_WHAT), host, CollectEvidence(want_xapi_trouble=True), FRESH_MS)
    if asked is None or asked.result is None:
        waiting_commands.wait(tx, said, WAIT_MS)
        return ""
    if not asked.result.looked:
        step = f"on {name}: poolwarden-agent why"
        return Refused(
            "too-old", f"the agent of {name} cannot look: {asked.result.text or 'it is of an older version'}", step
        )
    trouble, agent = asked.result.trouble, tx.heard(host)
    up = agent is not None and agent.facts.xapi.liveness is Liveness.ANSWERS
    if up and (trouble is None or trouble.cause == UNKNOWN):
        return f"{name}: its xapi answers, and its log names nothing that kept it from starting"
    if trouble is None:
        return f"{name}: its log names nothing that keeps its xapi from starting"
    told = [f"{name}: {trouble.cause}: {trouble.sentence}", f"helps: {help_of(tx, host, trouble)}", *trouble.lines]
    return "\n".join(told)


def _refusal(pool: Snapshot, host: HostId) -> Refused | None:
    name = pool.name(host)
    if host not in pool.record.hosts:
        return Refused("unknown-host", f"{name} is no host of this pool", "poolwarden status POOL")
    if (held := deposed(pool)) is not None:
        return Refused("held", held.text, "poolwarden explain POOL")
    if pool.heard(host) is None:
        return Refused("agent-silent", f"the agent of {name} is not heard", f"on {name}: poolwarden-agent why")
    return None


def _asked(pool: Snapshot, host: HostId) -> Sent | None:
    """The newest order of this kind that still counts."""
    mine = [
        sent
        for sent in pool.live.sent.values()
        if sent.host == host
        and parse(sent.order_id).made_for(_WHAT, pool.site.epoch)
        and pool.now - sent.at <= FRESH_MS
    ]
    return mine[-1] if mine else None


def too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """Its agent did not answer in time."""
    name = pool.name(said.host)
    return Refused("no-evidence", f"the agent of {name} did not tell in time", f"on {name}: poolwarden-agent why")
