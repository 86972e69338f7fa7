"""A command that waits for evidence is answered in the end, whichever it is: refused, with what to type."""

from __future__ import annotations

import pytest
from tests.core.known import after, live
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.operator import commands


@pytest.mark.parametrize("verb", sorted(commands._VERBS))
def test_it_is_refused_with_what_to_type(verb: str) -> None:
    g = Guarded()
    g.run(4_000)
    d = after(g, live(pending=((ev.OperatorSaid("r9", "alice", verb, uuid(2), ()), g.now - 1),)))
    commands.pending_commands(d, Verdict.HEALTHY)
    (reply,) = [effect for effect in d.effects if isinstance(effect, Reply)]
    assert not reply.accepted and reply.text and reply.next_step
    assert "POOL" not in reply.next_step.split()


def test_a_switchover_whose_stake_cannot_be_read_is_refused_in_the_end() -> None:
    g = Guarded()
    for host in g.hosts:
        host.placements, host.domains = None, ("vm-1",)
    g.run(30_000)
    assert g.say("designate", 2) is None, "it waits for what the restarts would kill"
    g.run(20_000)
    (refused,) = [entry for entry in g.journal if entry.kind is Kind.OPERATOR_REFUSED]
    assert refused.data["code"] in ("no-evidence", "unsafe") and not g.pool.live.pending
    assert g.pool.record.after.designation is None
