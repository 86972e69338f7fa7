"""What waits in the collector is no silence; evidence that is read late is late evidence."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import Guarded

from poolwarden_collector.core.decision.permission import BEHIND_MS
from poolwarden_collector.core.model import effects
from poolwarden_collector.core.model import events as ev


def test_nothing_is_begun_on_what_is_read_late() -> None:
    g = Guarded()
    g.site = replace(g.site, behind_ms=BEHIND_MS + 1)
    mark = len(g.effects)
    g.cut_power()
    g.run(120_000)
    begun = [e for e in g.effects[mark:] if isinstance(e, effects.SendOrder | effects.PowerOff)]
    assert begun == [] and "decided" not in g.kinds()
    g.site = replace(g.site, behind_ms=0)
    g.run(60_000)
    assert g.promoted()


def test_a_reports_age_counts_from_its_arrival() -> None:
    g = Guarded()
    host, arrived = g.host(2), g.now + 3_000
    host.agent = False
    g.run(9_000)
    g.feed(ev.AgentReported(host.uuid, host.stream, g.facts(host), arrived))
    assert g.pool.live.agents[host.uuid].last_heard == arrived
    assert g.pool.live.silent == {host.uuid}
