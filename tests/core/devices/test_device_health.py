"""Fence devices by day: what is wrong with one is told before the night in which it is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import ReadPower
from poolwarden_collector.core.model.power import Power, Trouble
from poolwarden_collector.core.report.readiness import not_ready
from poolwarden_collector.core.state.transaction import Transaction

HOUR = 3_600_000


class Watched(Guarded):
    """A pool whose master's device can go wrong in the ways of its readings."""

    trouble, text, status_ms, monitor, deaf = Trouble.NONE, "", 100, "", False

    def _perform(self, effect: object) -> None:
        if not isinstance(effect, ReadPower) or effect.device != "bmc-1":
            super()._perform(effect)  # type: ignore[arg-type]
        elif not self.deaf:
            self.feed(ev.PowerRead(effect.host, effect.run_id, self._reading(self.host(1), effect)))

    def _reading(self, host: Host, effect: ReadPower):  # type: ignore[no-untyped-def]
        reading = replace(host.read(effect, self.now), status_ms=self.status_ms)
        reading = replace(reading, monitor=self.monitor if effect.monitor else None)
        if self.trouble is Trouble.NONE:
            return reading
        return replace(reading, power=Power.UNKNOWN, text=self.text, trouble=self.trouble, identity=None)

    def told(self) -> list[str]:
        return sorted(key.split("/")[-1] for key in self.pool.record.open_alerts if "/fence-" in key)

    def ready(self) -> str:
        return "; ".join(not_ready(Transaction(self.pool, self.now, self.site)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (Trouble.PASSWORD, "refuses the user or the password"),
        (Trouble.UNREACHABLE, "cannot be reached"),
        (Trouble.HUNG, "does not answer"),
        (Trouble.AGENT, "has no fence agent"),
        (Trouble.FAILED, "gives no reading"),
    ],
)
def test_what_is_wrong_is_told_by_day_and_taken_back_when_it_is_mended(trouble: Trouble, words: str) -> None:
    g = Watched()
    g.run(60_000)
    assert g.told() == []
    g.trouble, g.text = trouble, "as the agent said it"
    g.run(660_000)
    assert g.told() == [f"fence-bmc-1-{trouble.value}"]
    entry = next(e for e in g.journal if e.data.get("key", "").endswith(trouble.value))
    assert words in entry.data["body"] and "as the agent said it" in entry.data["body"]
    assert "poolwarden fence test host-1" in entry.data["body"]
    assert "gives no reading: as the agent said it" in g.ready()
    g.trouble = Trouble.NONE
    g.run(120_000)
    assert g.told() == [] and "bmc-1" not in g.ready()


@pytest.mark.slow
def test_one_failure_is_chance_and_is_looked_at_again_soon() -> None:
    g = Watched()
    g.run(590_000)
    g.trouble = Trouble.UNREACHABLE
    while g.pool.live.power["bmc-1"].fails == 0:
        g.run(250)
    g.trouble = Trouble.NONE
    g.run(20_000)
    assert g.pool.live.power["bmc-1"].fails == 0
    assert not any("fence-bmc-1" in e.data.get("key", "") for e in g.journal)


@pytest.mark.slow
def test_slow_firmware_is_told() -> None:
    g = Watched()
    g.status_ms = 9_000
    g.run(1_300_000)
    assert g.told() == ["fence-bmc-1-slow"] and "answers slowly: 9 s" in g.ready()


@pytest.mark.slow
def test_a_failing_monitor_is_told_though_the_power_can_be_read() -> None:
    g = Watched()
    g.monitor = "Unable to get the list of plugs"
    g.run(620_000)
    assert g.told() == ["fence-bmc-1-monitor"]


@pytest.mark.slow
def test_a_device_that_is_never_answered_for_is_stale() -> None:
    """The fencer itself may be stuck: no reading, no failure."""
    g = Watched()
    g.deaf = True
    g.run(HOUR // 2 + 40_000)
    assert g.told() == ["fence-bmc-1-stale"] and "no reading for 30 min" in g.ready()


def test_a_vanished_hosts_device_is_its_failovers_matter() -> None:
    g = Watched()
    g.cut_power()
    g.trouble, g.text = Trouble.UNREACHABLE, "Connection timed out"
    g.run(120_000)
    assert g.told() == []


@pytest.mark.slow
def test_off_beside_a_living_agent_is_told_at_once() -> None:
    g = Watched()
    g.run(590_000)
    g.host(1).power = Power.OFF
    while g.pool.live.power["bmc-1"].newest.power is not Power.OFF:  # type: ignore[union-attr]
        g.run(250)
    g.run(2_500)  # its next report, and the answer to a challenge
    assert g.told() == ["fence-bmc-1-quarantined"]
