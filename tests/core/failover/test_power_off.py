"""Power-offs one at a time: which device comes next, what is no attempt, and when a shot waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.core.pool import Guarded, Host, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Effect, PowerOff, ReadPower
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading

Off = Callable[["Fed", PowerOff], ev.FenceEnded | None]


class Fed(Guarded):
    """Host 1 has a BMC and two outlets; each device reads and does what the test says."""

    def __init__(self, off: Off) -> None:
        self.powers: dict[str, Power] = {}
        self.reads: dict[str, bool] = {}  # False: its readings do not end
        self.off = off
        policy = Policy(quiet_time=3_000, auto_fence_running=True)
        super().__init__(policy=policy)
        feeds = (FenceDevice("bmc-1", uuid(1)), FenceDevice("pdu-a", uuid(1), 2), FenceDevice("pdu-b", uuid(1), 2))
        self.pool = replace(self.pool, devices={**self.pool.devices, uuid(1): feeds})
        self.run(30_000)  # each is read once, ON, and bound by that
        assert set(self.pool.record.devices.bonds) >= {"bmc-1", "pdu-a", "pdu-b"}

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPower) and not self.reads.get(effect.device, True):
            return
        if isinstance(effect, ReadPower) and effect.device in self.powers:
            reading = self.by_uuid(effect.host).read(effect, self.now, self.powers[effect.device])
            self.feed(ev.PowerRead(effect.host, effect.run_id, reading))
            return
        if isinstance(effect, PowerOff):
            self.now += 250 if (self.now + 250) % 2_000 else 500  # it takes a moment; no report is skipped
            ended = self.off(self, effect)
            if ended is not None:
                self.feed(ended)
            return
        super()._perform(effect)

    def vanish(self, **powers: Power) -> None:
        self.powers = {"bmc-1": Power.ON, "pdu-a": Power.ON, "pdu-b": Power.ON}
        self.powers |= {name.replace("_", "-"): power for name, power in powers.items()}
        self.cut_power()

    @property
    def shots(self) -> list[str]:
        return [effect.device for effect in self.effects if isinstance(effect, PowerOff)]


def works(g: Fed, shot: PowerOff) -> ev.FenceEnded:
    g.powers[shot.device] = Power.OFF
    if shot.device != "bmc-1" and Power.ON not in (g.powers["pdu-a"], g.powers["pdu-b"]):
        g.powers["bmc-1"] = Power.UNKNOWN
    return ev.FenceEnded(shot.host, shot.run_id, True, True, "Success: Powered OFF", g.now)


def in_vain(g: Fed, shot: PowerOff) -> ev.FenceEnded:
    return ev.FenceEnded(shot.host, shot.run_id, True, True, "Success: Powered OFF", g.now)


def busy(g: Fed, shot: PowerOff) -> ev.FenceEnded:
    return ev.FenceEnded(shot.host, shot.run_id, False, True, "not begun: busy for 6.0 s", g.now, begun=False)


def until(g: Guarded, kind: Kind, limit: int = 300_000) -> None:
    end = g.now + limit
    while not g.has(kind):
        assert g.now < end, f"no {kind.value}: {[e.text for e in g.journal][-8:]}"
        g.run(250)


def test_each_feed_is_switched_off_once_when_that_is_enough() -> None:
    g = Fed(works)
    g.vanish(bmc_1=Power.UNKNOWN)
    until(g, Kind.PROMOTED)
    assert g.shots == ["pdu-a", "pdu-b"]


def test_every_feed_of_a_level_is_tried_before_any_is_tried_again() -> None:
    g = Fed(in_vain)
    g.vanish(bmc_1=Power.UNKNOWN)
    until(g, Kind.BLOCKED)
    assert g.shots[:4] == ["pdu-a", "pdu-b", "pdu-a", "pdu-b"]


def test_the_lowest_level_that_can_tell_comes_first() -> None:
    g = Fed(in_vain)
    g.vanish()
    until(g, Kind.BLOCKED)
    assert g.shots == ["bmc-1", "bmc-1", "pdu-a", "pdu-b", "pdu-a", "pdu-b"]
    assert g.entry(Kind.BLOCKED).data["why"].endswith("6 power-offs did not switch it off")


def test_a_power_off_that_never_began_is_no_attempt_and_the_blocker_says_what_happened() -> None:
    g = Fed(busy)
    g.pool = replace(g.pool, devices={**g.pool.devices, uuid(1): g.pool.devices[uuid(1)][:1]})
    g.vanish()
    until(g, Kind.BLOCKED)
    failover = g.pool.record.failover
    assert failover is not None and failover.fencing.attempts == () and len(failover.fencing.unbegun) == 3
    why = g.entry(Kind.BLOCKED).data["why"]
    assert "3 could not be begun" in why and "busy for 6.0 s" in why and "did not switch it off" not in why
    assert all(e.data["attempt"] == 1 for e in g.journal if e.kind is Kind.FENCE_INTENT)


def test_a_device_that_was_busy_once_has_both_its_attempts() -> None:
    began: list[str] = []

    def once_busy(g: Fed, shot: PowerOff) -> ev.FenceEnded:
        began.append(shot.device)
        return busy(g, shot) if len(began) == 1 else in_vain(g, shot)

    g = Fed(once_busy)
    g.pool = replace(g.pool, devices={**g.pool.devices, uuid(1): g.pool.devices[uuid(1)][:1]})
    g.vanish()
    until(g, Kind.BLOCKED)
    assert len(began) == 3
    assert "2 power-offs did not switch it off; 1 could not be begun" in g.entry(Kind.BLOCKED).data["why"]


def test_a_power_off_waits_for_the_reading_before_it_and_no_other_gets_between() -> None:
    """A slow BMC: status takes half a minute. An off behind it comes too late, and is never begun."""
    g = Fed(works)
    g.vanish()
    g.run(50_000)
    g.reads["bmc-1"] = False
    g.run(80_000)
    assert g.shots == []
    reading = g.pool.live.power["bmc-1"]
    assert reading.running
    g.feed(ev.PowerRead(uuid(1), reading.running, PowerReading(Power.ON, "bmc-1", reading.started_at, g.now, "slow")))
    g.run(3_000)
    assert g.shots == ["bmc-1"]


def test_a_missing_witness_is_a_blocker_only_while_it_is_missing() -> None:
    g = Fed(works)
    g.vanish()
    mute = True

    def silent(host: Host, order: Order) -> OrderOutcome | None:
        return None if mute and order.kind_name == "probe_now" else g.default(host, order)

    g.on_order = silent
    until(g, Kind.BLOCKED)
    assert g.entry(Kind.BLOCKED).data["code"] == "BLOCKED_NO_WITNESS"
    mute = False
    until(g, Kind.FENCE_INTENT)
    kinds = g.kinds()
    assert kinds.index("unblocked") < kinds.index("fence-intent")
    assert not [key for key in g.pool.record.open_alerts if "NO_WITNESS" in key]
