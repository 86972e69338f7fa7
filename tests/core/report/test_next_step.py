"""What a person is told to do: no command rests on a reading that is older than what it is about."""

from __future__ import annotations

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.report.next_step import see_it_off
from poolwarden_collector.core.state.snapshot import Snapshot


def advised(g: Guarded) -> str:
    return " ".join(see_it_off(Snapshot(g.pool, g.now, g.site), uuid(1)))


@pytest.mark.slow
def test_nobody_is_sent_to_switch_off_what_read_on_before_it_fell_silent() -> None:
    g = Guarded()
    g.run(60_000)
    g.report(g.host(1))
    g.cut_power(1)
    assert advised(g) == "nothing yet: the power of host-1 is being read anew"
    g.host(1).power = Power.ON
    g.run(20_000)
    assert advised(g).startswith("Switch host-1 off at its BMC or PDU")


def test_what_reads_off_or_not_at_all_is_seen_and_confirmed() -> None:
    g = Guarded()
    g.cut_power(1)
    g.host(1).power = Power.UNKNOWN
    g.run(20_000)
    assert advised(g).endswith("poolwarden confirm-fenced host-1")
