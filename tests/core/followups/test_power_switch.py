"""Power at an operator's word, and the waking of a master that was powered off."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.failover.test_reversals import intended
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.evidence.proof import NoProof, verify_power
from poolwarden_collector.core.followups import power_switch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Effect, PowerOff, PowerOn, ReadPower, Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.state.drill_record import Drill, DrillStep, Part, Phase, StepState
from poolwarden_collector.core.state.followup_record import Switch
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.transaction import Transaction


class Switched(Guarded):
    """Its devices do what they are told, after the answer that the test gives them."""

    def __init__(self, **policy: object) -> None:
        self.switched: list[tuple[str, str]] = []
        self.answers, self.certain, self.comes_on = True, True, True
        self.slow: set[str] = set()
        self.held: list[ReadPower] = []
        super().__init__(policy=Policy(quiet_time=3_000, **policy))  # type: ignore[arg-type]
        self.run(30_000)

    def release(self) -> None:
        """Slow devices answer what they were asked."""
        self.slow.clear()
        held, self.held = self.held, []
        for effect in held:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPower) and effect.device in self.slow:
            self.held.append(effect)
            return
        if not isinstance(effect, PowerOn | PowerOff):
            super()._perform(effect)
            return
        on = isinstance(effect, PowerOn)
        works = not on or self.comes_on
        self.switched.append(("on" if on else "off", effect.run_id))
        host = self.by_uuid(effect.host)
        if works:
            host.power = Power.ON if on else Power.OFF
            if not on:
                host.agent, host.answers = False, False
                self.feed(ev.AgentGone(host.uuid, host.stream))
        if self.answers:
            ended = ev.FenceEnded(effect.host, effect.run_id, works, self.certain, "said", self.now)
            self.feed(ended)

    def words(self) -> list[str]:
        return [word for word, _ in self.switched]


def test_off_of_a_living_host_needs_its_name_and_force() -> None:
    g = Switched()
    name = g.pool.record.name_of(uuid(2))
    for typed, code in (("h9", "name-differs"), (name, "needs-force")):
        reply = g.say("fence-off", 2, typed_name=typed)
        assert reply is not None and (reply.accepted, reply.code) == (False, code)
    assert not g.switched
    reply = g.say("fence-off", 2, typed_name=g.pool.record.name_of(uuid(2)), force="yes")
    assert reply is not None and reply.accepted and g.words() == ["off"]
    intent, result = g.entry(Kind.SWITCH_INTENT), g.entry(Kind.SWITCH_RESULT)
    assert intent.actor == "alice" and intent.data["run"] == g.switched[0][1] and result.data["claim"]
    assert not g.pool.record.after.switches


def test_a_run_that_was_cut_off_is_waited_out_and_nothing_is_switched_meanwhile() -> None:
    g = Switched()
    g.certain = False
    g.cut_power(2)
    g.run(30_000)
    assert g.say("fence-on", 2) is not None and g.words() == ["on"]
    g.run(20_000)
    reply = g.say("fence-on", 2)
    assert reply is not None and reply.code == "busy"
    g.run(120_000)
    assert not g.entry(Kind.SWITCH_RESULT).data["certain"] and not g.pool.record.after.switches


def test_a_restarted_collector_waits_for_the_run_of_the_one_before() -> None:
    g = Switched()
    g.answers = False
    g.cut_power(2)
    g.run(30_000)
    g.say("fence-on", 2)
    g.restart_collector()
    assert g.pool.record.after.switches
    g.run(10_000)
    assert g.pool.record.after.switches
    g.run(200_000)
    assert not g.pool.record.after.switches


def test_no_proof_while_the_power_is_being_switched() -> None:
    g = Switched()
    g.answers = False
    g.cut_power(1)
    g.say("fence-on", 1)
    boot = g.pool.record.hosts[uuid(1)].boot_id
    refusal = verify_power(Transaction(g.pool, g.now, g.site), uuid(1), boot)
    assert isinstance(refusal, NoProof) and refusal.code == "SWITCHING"
    g.run(30_000)
    assert not g.promoted()


def test_a_failover_decides_about_its_master_alone() -> None:
    g = Switched()
    g.cut_power(1)
    while not g.has(Kind.DECIDED):
        g.run(500)
    name = g.pool.record.name_of(uuid(1))
    for verb in ("fence-on", "fence-off"):
        reply = g.say(verb, 1, typed_name=name, force="yes")
        assert reply is not None and reply.code == "failover-open"
    assert not g.switched


def test_a_test_reads_the_device_anew() -> None:
    g = Switched()
    assert g.say("fence-test", 2) is None
    g.run(8_000)
    reply = next((effect for effect in g.effects if isinstance(effect, Reply)), None)
    assert reply is not None and reply.accepted and "reads ON" in reply.text and "bound" in reply.text


@pytest.mark.slow
@pytest.mark.parametrize("wake", [True, False])
def test_a_master_that_was_powered_off_is_woken_if_the_policy_says_so(wake: bool) -> None:
    g = Switched(auto_fence_running=True, declare_dead=False, wake_fenced=wake)
    hang(g)
    g.run(300_000)
    assert g.has(Kind.CLOSED)
    assert g.words() == (["off", "on"] if wake else ["off"])
    if wake:
        kinds = g.kinds()
        assert kinds.index("closed") < kinds.index("power-switch-intent")
        assert not any(item.what is OwedWork.WAKE for item in g.pool.record.owed)


@pytest.mark.slow
def test_a_master_that_lost_its_power_by_itself_is_left_alone() -> None:
    g = Switched(auto_fence_running=True, declare_dead=False, wake_fenced=True)
    g.cut_power(1)
    g.run(300_000)
    assert g.has(Kind.CLOSED) and not g.switched


def test_it_is_not_woken_before_xapi_knows_that_it_is_dead() -> None:
    g = Switched(auto_fence_running=True, wake_fenced=True)
    hang(g)
    g.run(300_000)
    assert g.has(Kind.CLOSED) and g.words() == ["off"]


@pytest.mark.slow
def test_waking_is_given_up_and_said() -> None:
    g = Switched(auto_fence_running=True, declare_dead=False, wake_fenced=True)
    hang(g)
    g.comes_on = False
    g.run(3_600_000)
    assert g.words() == ["off", "on", "on", "on"]
    assert any("asleep" in key for key in g.pool.record.open_alerts)
    host = g.host(1)
    host.boot, host.agent, host.power = "boot-1-2", True, Power.ON
    g.connect(host)
    g.run(4_000)
    assert not any("asleep" in key for key in g.pool.record.open_alerts)


def hang(g: Switched) -> None:
    """Host 1 is dead at its power button's end only."""
    host = g.host(1)
    host.agent, host.answers = False, False
    g.feed(ev.AgentGone(host.uuid, host.stream))


def replies(g: Switched) -> list[Reply]:
    return [effect for effect in g.effects if isinstance(effect, Reply)]


def test_a_test_waits_for_a_slow_device_as_long_as_its_limit_and_then_says_so() -> None:
    """A BMC may take its whole limit of 40 s: an operator is told what it read, not that it took too long."""
    g = Switched()
    g.run(20_000)
    g.slow.add("bmc-2")
    assert g.say("fence-test", 2) is None
    g.run(35_000)
    assert not replies(g)
    g.release()
    assert [each.accepted for each in replies(g)] == [True] and "bmc-2 reads ON" in replies(g)[0].text
    g.slow.add("bmc-2")
    g.run(20_000)
    assert g.say("fence-test", 2) is None
    g.run(50_000)
    late = replies(g)[1]
    assert (late.accepted, late.code) == (False, "no-reading") and "was not read in 44 s" in late.text


def test_two_who_ask_for_the_same_reading_share_it() -> None:
    g = Switched()
    g.run(20_000)
    before = len(g.effects)
    g.slow.add("bmc-2")
    assert g.say("fence-test", 2) is None and g.say("fence-test", 2) is None
    g.run(1_000)
    assert len(g.held) == 1
    g.release()
    told = [each for each in g.effects[before:] if isinstance(each, Reply)]
    assert len(told) == 2 and told[0].text == told[1].text


@pytest.mark.parametrize(
    ("heard", "domains", "goes_on"),
    [(True, (), True), (True, ("vm",), False), (True, None, False), (False, (), False), (False, ("vm",), False)],
)
def test_a_drill_switches_the_next_device_only_where_its_agent_tells_that_nothing_runs(
    heard: bool, domains: tuple[str, ...] | None, goes_on: bool
) -> None:
    g, host = Switched(), uuid(3)
    live = g.pool.live.agents[host]
    told = replace(live, facts=replace(live.facts, domains=domains))
    if not heard:
        told = replace(told, connected=False, last_heard=g.now - 60_000)
    switch = Switch(on=False, by="alice", device="pdu-a", run="", left=("bmc-3",), forced=True)
    drill = Drill("d", "alice", (DrillStep(Part.FENCE, host, StepState.RUNNING, Phase.OFF),))
    after = replace(g.pool.record.after, switches={host: switch})
    record = replace(g.pool.record, after=after, drill=drill)
    pool = replace(g.pool, record=record, live=replace(g.pool.live, agents={**g.pool.live.agents, host: told}))
    tx = Transaction(pool, g.now, g.site)
    power_switch.advance(tx)
    assert (host in tx.record.after.switches) is goes_on
    assert any(isinstance(effect, PowerOff) for effect in tx.effects) is goes_on


def test_a_drill_switches_nothing_on_while_a_failover_is_open() -> None:
    """What was proven off stays off until the failover is over: the host is owed its power, and waits."""
    open_, over = intended(), Switched()
    for g, on in ((open_, False), (over, True)):
        host = g.pool.record.master or uuid(1)
        assert (g.pool.record.failover is not None and g.pool.record.failover.open) is not on
        agents = {**g.pool.live.agents, host: replace(g.pool.live.agents[host], connected=False, last_heard=0)}
        tx = Transaction(replace(g.pool, live=replace(g.pool.live, agents=agents)), g.now, g.site)
        power_switch.drill_on(tx, host, "alice", "boot")
        assert any(isinstance(effect, PowerOn) for effect in tx.effects) is on
        assert any(item.host == host and item.what is OwedWork.WAKE for item in tx.record.owed)
