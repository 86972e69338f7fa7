"""Another file for a master that does not stay up: none helps where / has no room."""

from __future__ import annotations

from tests.core.known import after, same
from tests.core.pool import CAPABLE, QUIET, Guarded, uuid

from poolwarden_collector.core.decision.restart_files import CAPABILITY, Plan
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.recovery import other_file
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.transaction import Transaction


def planned(tx: Transaction) -> Plan | Reason | None:
    return other_file.plan_of(tx, uuid(1))


def pool(free: int) -> Guarded:
    g = Guarded(policy=Policy(quiet_time=QUIET))
    g.host(1).free, g.host(1).generation = free, 60
    g.connect(g.host(1), capabilities=CAPABLE | {CAPABILITY})
    g.run(4_000)
    return g


def test_where_there_is_no_room_no_copy_is_offered_and_the_next_start_with_room_is_waited_for() -> None:
    """xapi writes its database at each start, whichever it has loaded (xapi: ocaml/xapi/xapi.ml, populate_db)."""
    g = pool(0)
    tx = after(g, same)
    full = planned(tx)
    assert isinstance(full, Reason) and full.code is Cause.NO_ROOM and "has no room" in full.text
    assert tx.live.roomless_at == tx.now

    roomy = pool(10 * 2**30)
    for since, waits in ((1_000, True), (other_file.NEXT_START_MS - 1, True), (other_file.NEXT_START_MS, False)):
        tx = after(roomy, same)
        tx.change(PoolLive, roomless_at=tx.now - since)
        found = planned(tx)
        assert (isinstance(found, Reason) and found.code is Cause.NO_ROOM) is waits, since


def test_with_room_a_members_copy_is_read() -> None:
    tx = after(pool(10 * 2**30), same)
    assert planned(tx) is None, "it has been asked for"
