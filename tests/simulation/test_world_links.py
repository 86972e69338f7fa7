"""Links that are cut, slow, lossy, half open: what agents, probes and streams make of them."""

from __future__ import annotations

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.world.pool import Simulation


def begun(hosts: int = 3) -> Simulation:
    return Simulation(hosts).begin()


def test_delayed_messages_arrive_one_by_one_and_late() -> None:
    sim = begun()
    sim.delay("h2", "collector", 3_000, both=False)
    heard, ages = sim.invariants.heard_at, []
    sim.run(6_000)
    before = heard["h2"]
    for _ in range(8):
        sim.run(500)
        ages.append(sim.now - heard["h2"])
    assert heard["h2"] > before, "they do arrive"
    assert min(ages) >= 3_000, "and nothing overtakes the delay"


def test_a_pool_lives_with_doubled_and_shuffled_orders_through_a_failover() -> None:
    sim = begun()
    for host in sim.names:
        sim.duplicate(host, "collector")
        sim.reorder(host, "collector", 1_500)
    sim.power_off(1)
    sim.run_until(lambda: sim.healed(sim.name_of(sim.record.master)) and sim.record.master != sim.uuid(1), 400_000)
    assert len(sim.promote_calls()) == 1
    sim.finish()


def test_what_is_told_twice_is_carried_out_once() -> None:
    sim = begun()
    for host in sim.names:
        sim.duplicate(host, "collector")
    sim.power_off(1)
    sim.run_until(lambda: sim.healed("h2"), 200_000)
    told = [result for result in sim.agent(2).results if "/promote/" in result.order_id]
    assert len(told) >= 2 and any(result.replayed for result in told)
    assert sim.promote_calls() == ["h2"]


def test_loss_takes_probes_now_and_then_and_no_failover_comes_of_it() -> None:
    sim = begun()
    for host in ("h2", "h3"):
        sim.loss(host, "h1", 40)
    sim.run(200_000)
    assert sim.verdict in ("Healthy", "Suspect")
    assert not sim.has(Kind.DECIDED)
    states = {probe.outcome.value for agent in sim.core.live.agents.values() for probe in agent.facts.probes}
    assert states <= {"answered", "no answer"}


def test_a_half_open_stream_is_silence_without_an_end() -> None:
    sim = begun()
    sim.half_open("h1")
    sim.run(20_000)
    assert sim.agents["h1"].stream is not None and sim.agents["h1"].stream.open
    assert sim.verdict == "AgentLost"
    sim.half_open("h1", on=False)
    sim.run_until(sim.settled, 60_000)


def test_a_partition_cuts_between_groups_only() -> None:
    sim = begun()
    sim.partition(["h1"], ["h2", "h3", "collector"])
    assert not sim.network.both_ways("h1", "h2") and sim.network.both_ways("h2", "h3")
    sim.run(20_000)
    assert sim.verdict == "MasterVanished"
    sim.heal_partition(["h1"], ["h2", "h3", "collector"])
    sim.run_until(sim.settled, 200_000)


def test_flapping_ends_with_a_whole_link() -> None:
    sim = begun()
    sim.flap("h1", "collector", 4_000, 4_000, 60_000)
    sim.run(70_000)
    assert not sim.network.cut_links
    sim.run_until(sim.settled, 120_000)
    assert not sim.has(Kind.DECIDED)


def test_the_uplink_takes_everything_and_the_anchors() -> None:
    sim = begun()
    sim.cut_uplink()
    sim.run(20_000)
    assert sim.verdict == "CollectorBlind"
    assert not sim.reaches(sim.shell, "bmc-h1") if sim.shell else False
    sim.heal_uplink()
    sim.run_until(sim.settled, 200_000)


def test_slow_links_make_probes_fail_at_their_limit() -> None:
    sim = begun()
    sim.delay("h2", "h1", 1_000)
    sim.run(20_000)
    probe = sim.core.live.agents[sim.uuid(2)].facts.probe_of(sim.uuid(1))
    assert probe is not None and probe.outcome.value == "no answer"
    sim.heal_all()
    sim.run_until(sim.settled, 120_000)


def test_bmc_and_management_networks_are_cut_apart() -> None:
    sim = begun()
    sim.cut_both("collector", "bmc-h1")
    sim.power_off(1)
    sim.run(60_000)
    assert sim.promote_calls() == [] and sim.has(Kind.BLOCKED)
    sim.heal("collector", "bmc-h1")
    sim.run_until(lambda: sim.healed("h2"), 200_000)
