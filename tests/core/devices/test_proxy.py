"""Devices that members run: who is asked, whose word makes a proof, what is said where nobody can be asked."""

from __future__ import annotations

from dataclasses import replace

from tests.core.pool import CAPABLE, Guarded, uuid

from poolwarden_collector.core.devices.device_runner import runner
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Effect, PowerOff, ReadPower, Through, Unable
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading, Trouble
from poolwarden_collector.core.state.transaction import Transaction

AGENT = "fence_ipmilan"


class Proxied(Guarded):
    """Members run every host's BMC: those that are ``able`` to; who ``cannot`` never reaches it."""

    def __init__(self, hosts: int = 3, able: tuple[int, ...] = (1, 2, 3), **policy: object) -> None:
        self.able, self.cannot, self.mute = able, set[int](), set[int]()
        self.lands = True
        super().__init__(hosts, devices=False, policy=Policy(quiet_time=3_000, **policy))  # type: ignore[arg-type]
        devices = {h.uuid: (FenceDevice(f"bmc-{h.n}", h.uuid, agent=AGENT, via_members=True),) for h in self.hosts}
        self.pool = replace(self.pool, devices=devices)
        self.allow(*able)
        self.run(70_000)

    def allow(self, *able: int) -> None:
        for host in self.hosts:
            agents = frozenset({AGENT}) if host.n in able else frozenset()
            if host.agent:
                self.connect(host, fence_agents=agents, capabilities=CAPABLE)
                self.report(host)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPower):
            reading = self._read(effect)
            if reading is not None:
                self.feed(ev.PowerRead(effect.host, effect.run_id, reading))
        elif isinstance(effect, PowerOff):
            if self.lands and isinstance(effect.by, Through):
                self.by_uuid(effect.host).power = Power.OFF
                self.now += 250 if (self.now + 250) % 2_000 else 500
                self.feed(ev.FenceEnded(effect.host, effect.run_id, True, True, "Success: Powered OFF", self.now))
        else:
            super()._perform(effect)

    def _read(self, effect: ReadPower) -> PowerReading | None:
        if isinstance(effect.by, Unable):
            trouble = Trouble.FAILED if effect.by.allowed else Trouble.AGENT
            return PowerReading(Power.UNKNOWN, effect.device, self.now, self.now, effect.by.why, trouble=trouble)
        assert isinstance(effect.by, Through) and effect.by.host != effect.host, "nobody is asked about itself"
        reading = replace(self.by_uuid(effect.host).read(effect, self.now), through=effect.by.host)
        number = self.by_uuid(effect.by.host).n
        if number in self.mute:
            return None
        if number in self.cannot:
            return replace(reading, power=Power.UNKNOWN, text="Connection timed out", trouble=Trouble.UNREACHABLE)
        return reading

    def readers(self, device: str) -> list[int]:
        """Who was asked to read it, in order."""
        read = [each for each in self.effects if isinstance(each, ReadPower) and each.device == device]
        return [self.by_uuid(each.by.host).n for each in read if isinstance(each.by, Through)]


def proofs(g: Guarded) -> list[set[str]]:
    """Of each proof: whose readings it is made of."""
    found = [entry.data["facts"]["readings"][0] for entry in g.journal if entry.kind is Kind.PROOF]
    return [{each["first"]["through"], each["second"]["through"]} for each in found]


def test_by_day_members_read_each_others_devices_and_bind_them() -> None:
    g = Proxied()
    assert set(g.pool.record.devices.bonds) == {"bmc-1", "bmc-2", "bmc-3"}
    assert {*g.readers("bmc-1")} <= {2, 3} and {*g.readers("bmc-2")} <= {1, 3}
    asked = next(each for each in g.effects if isinstance(each, ReadPower) and isinstance(each.by, Through))
    assert isinstance(asked.by, Through)
    assert (asked.by.boot_id, asked.by.term) == (g.by_uuid(asked.by.host).boot, g.pool.record.term)


def test_the_two_off_readings_are_of_two_members() -> None:
    g = Proxied()
    g.cut_power()
    g.run(40_000)
    assert proofs(g) == [{uuid(2), uuid(3)}]
    told = [entry.text for entry in g.journal if entry.kind is Kind.POWER_READING]
    assert any("reads OFF by bmc-1, run by host-" in text for text in told)
    assert g.host(2).serves or g.host(3).serves


def test_a_member_that_cannot_read_it_is_not_waited_for() -> None:
    g = Proxied()
    g.cannot = {3}
    g.cut_power()
    g.run(60_000)
    assert proofs(g) == [{uuid(2)}]


def test_one_member_alone_is_believed_like_a_bmc() -> None:
    g = Proxied(hosts=2, able=(1, 2))
    g.cut_power()
    g.run(60_000)
    assert proofs(g) == [{uuid(2)}] and g.host(2).serves


def test_one_lying_member_proves_nothing_while_another_tells_the_truth() -> None:
    g = Proxied()
    g.host(1).agent, g.host(1).answers = False, False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    truth = g._read

    def lies(effect: ReadPower) -> PowerReading | None:
        reading = truth(effect)
        if reading is not None and reading.through == uuid(2) and reading.device == "bmc-1":
            return replace(reading, power=Power.OFF)
        return reading

    g._read = lies  # type: ignore[method-assign]
    g.run(120_000)
    assert {2, 3} <= {*g.readers("bmc-1")[-6:]}
    assert proofs(g) == [] and not g.host(2).serves and not g.host(3).serves


def test_the_only_capable_member_is_the_master() -> None:
    g = Proxied(able=(1,))
    assert "bmc-1" not in g.pool.record.devices.bonds and "bmc-2" in g.pool.record.devices.bonds
    alerts = [entry.data for entry in g.journal if entry.kind is Kind.ALERT]
    body = next(each["body"] for each in alerts if "bmc-1" in each["title"])
    assert "no member of lab can run fence_ipmilan: allow it in agent.conf (fence_agents) of host-2, host-3" in body
    g.cut_power()
    g.run(120_000)
    assert proofs(g) == [] and not g.host(2).serves and not g.host(3).serves
    blocked = [entry.text for entry in g.journal if entry.kind in (Kind.BLOCKED, Kind.ASKED)]
    assert blocked and any("no member of lab can run fence_ipmilan" in text for text in blocked), blocked


def test_members_that_could_and_are_silent_are_no_fault_of_the_configuration() -> None:
    g = Proxied(able=(2,))
    g.host(2).agent = False
    g.feed(ev.AgentGone(uuid(2), g.host(2).stream))
    g.run(6_000)
    by = runner(Transaction(g.pool, g.now, g.site), g.pool.devices[uuid(1)][0])
    assert isinstance(by, Unable) and by.allowed
    assert by.why == "no member of lab can run fence_ipmilan now: host-2 could and is not heard"


def test_an_off_names_who_runs_it_and_is_bound_to_xapis_ha() -> None:
    g = Proxied(auto_fence_running=True)
    g.host(1).agent, g.host(1).answers = False, False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(200_000)
    shot = next(each for each in g.effects if isinstance(each, PowerOff))
    assert isinstance(shot.by, Through) and shot.by.ha_off and shot.by.host in (uuid(2), uuid(3))
    intent = g.entry(Kind.FENCE_INTENT)
    assert f"powering host-1 off by bmc-1, run by {shot.by.name}, attempt 1" in intent.text
    assert intent.data["through"] == shot.by.host
    assert g.host(2).serves or g.host(3).serves


def test_an_off_that_was_lost_with_its_member_is_waited_out_and_read_by_another() -> None:
    g = Proxied(auto_fence_running=True)
    g.lands = False
    g.host(1).agent, g.host(1).answers = False, False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    while not any(isinstance(each, PowerOff) for each in g.effects):
        g.run(250)
    shot, since = next(each for each in g.effects if isinstance(each, PowerOff)), g.now
    assert isinstance(shot.by, Through)
    lost = g.by_uuid(shot.by.host)
    lost.agent = False
    g.feed(ev.AgentGone(lost.uuid, lost.stream))
    g.feed(ev.FenceEnded(shot.host, shot.run_id, False, False, f"{shot.by.name} was lost while it ran it", g.now))
    g.host(1).power = Power.OFF
    g.run(54_000)
    assert not [each for each in g.journal if each.kind in (Kind.PROOF, Kind.FENCE_RESULT)], "it may still land"
    g.run(30_000)
    result = next(each for each in g.journal if each.kind is Kind.FENCE_RESULT)
    assert not result.data["certain"] and g.now - since >= 56_000
    g.say("approve")  # the lost member's xapi answers: another collector might hear it
    g.run(20_000)
    assert proofs(g) == [{uuid(2) if lost.n == 3 else uuid(3)}]


def test_a_slow_member_does_not_make_an_old_reading_young() -> None:
    g = Proxied(hosts=2, able=(1, 2))
    g.mute = {2}
    g.cut_power()
    g.run(14_000)
    state = g.pool.live.power["bmc-1"]
    late = PowerReading(Power.OFF, "bmc-1", state.started_at, g.now, through=uuid(2))
    assert state.running and late.true_at == state.started_at
    g.feed(ev.PowerRead(uuid(1), state.running, late))
    g.mute = set()
    g.run(1_000)
    assert proofs(g) == []


def test_an_operator_is_told_who_would_have_to_be_allowed() -> None:
    g = Proxied(able=(2,))
    reply = g.say("fence-off", 2, typed_name="host-2", force="yes")
    assert (
        reply is not None and reply.code == "no-member" and "agent.conf (fence_agents) of host-1, host-3" in reply.text
    )
    reply = g.say("fence-off", 3, typed_name="host-3", force="yes")
    assert reply is not None and reply.accepted
    assert "powering host-3 off by bmc-3, run by host-2, asked by alice" in g.entry(Kind.SWITCH_INTENT).text
