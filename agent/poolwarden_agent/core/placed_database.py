"""A database that was placed for the next start of xapi: what it was meant for, and when it must be removed.

Rules
-----
* A placed database is for one promotion at one term. Its mark is durable before its first byte; at any other term it is
  removed before xapi may start from it, because it would roll the pool back (xapi: restore_db.db, ocaml/xapi/xapi.ml).
* A master is given a database only while it is held stopped, at the very term of its hold (a restart in place with the
  newest copy). xapi starts with it only by the release that names its generation; whatever else ends the hold, an
  operator on this host among it, removes it first, and so does whatever makes this host a member: as a member it would
  keep the file until it is master again.
* The mark of a placed database ends with its file: what is put there later by other means is not taken for it.
"""

from typing import Optional

from poolwarden_agent.core.gate_state import GateState
from poolwarden_agent.core.host_now import MASTER, HostNow
from poolwarden_agent.core.orders import AS_MASTER, Order, Promote, Repoint, RestartXapi, SetTombstone, ToolstackRelease


def outlived(state: GateState, order: Order, now: HostNow) -> bool:
    """Must a placed database be removed before this act? It was meant for one promotion, at another term than this.

    A host that was promoted with it and whose xapi has not started since keeps it: it is the pool's newest.
    """
    body = order.body
    if state.placed is not None and isinstance(body, ToolstackRelease) and under_hold(state):
        return not keeps(state, body)
    if state.placed is None or state.placed.term == order.term:
        return False
    if isinstance(body, RestartXapi) or (isinstance(body, ToolstackRelease) and body.release_as == AS_MASTER):
        return not (state.placed.promoted and now.pool_conf == MASTER)
    return isinstance(body, (Promote, Repoint, ToolstackRelease)) or (isinstance(body, SetTombstone) and not body.clear)


def left_behind(state: GateState, pool_conf: str) -> bool:
    """Has this host become master by another way than the promotion that its placed database was for?

    An operator's designate, say: xapi starts anew some ten seconds later, and would load that file.
    """
    return state.placed is not None and not state.placed.promoted and pool_conf == MASTER and not under_hold(state)


def under_hold(state: GateState) -> bool:
    """Is a database placed here for the restart of a held master? It was placed at the term of the hold that stands."""
    return state.placed is not None and state.hold is not None and state.placed.term == state.hold.term


def loaded(state: GateState, restore: Optional[int]) -> bool:
    """Has xapi used up the database that was placed for it? From then on another file there is of other origin.

    ``restore``: the generation of what lies there, None where nothing does.
    """
    return state.placed is not None and state.placed.promoted and restore is None


def for_no_start(state: GateState) -> bool:
    """Is a database placed here with which no start was ordered, or only one under the hold that stands?"""
    return state.placed is not None and (under_hold(state) or not state.placed.promoted)


def keeps(state: GateState, release: ToolstackRelease) -> bool:
    """Is this the release that starts xapi with the very database that is placed under the hold?"""
    named = release.release_as == AS_MASTER and state.placed is not None and release.restore == state.placed.generation
    return named and under_hold(state)
