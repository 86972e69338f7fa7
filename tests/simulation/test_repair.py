"""Stories in which the master's machine is fine and its xapi is not: it is restarted, and nobody is promoted."""

from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.virtual.world.pool import Simulation

UNTIL_FLUSHED_MS = 700_000  # a master's own file follows its memory by up to five minutes


def restarts(sim: Simulation, name: str, since: int) -> int:
    return len(sim.pool.events("xapi-start", name, since))


def test_a_hung_xapi_is_restarted_and_nobody_is_promoted() -> None:
    sim = Simulation(3).begin()
    sim.run(UNTIL_FLUSHED_MS)
    hung_at = sim.now
    sim.hang_xapi(1)
    sim.run_until(lambda: sim.has(Kind.RESTART_RESULT), 300_000)
    sim.run_until(sim.settled, 120_000)
    assert "MasterXapiHung" in sim.verdicts()
    assert restarts(sim, "h1", hung_at) == 1
    assert sim.promote_calls() == []
    assert sim.masters() == ["h1"]
    assert sim.vms_killed() == []


def test_a_hung_xapi_with_an_older_file_than_its_members_is_restarted_in_place() -> None:
    """Right after its start its file lags behind its members' copies: a plain restart would roll the pool back.

    It is held, stops, and starts with the newest database that is there then; nobody succeeds it, and its VMs run on.
    """
    sim = Simulation(3).begin()
    sim.hang_xapi(1)
    sim.run_until(lambda: sim.has(Kind.IN_PLACE_ENDED), 300_000)
    sim.run_until(sim.settled, 120_000)
    assert restarts(sim, "h1", 20_000) == 1 and not sim.has(Kind.RESTART_INTENT)
    assert sim.masters() == ["h1"] and sim.promote_calls() == [] and not sim.has(Kind.DECIDED)
    assert sim.vms_killed() == []


def test_a_crashed_xapi_is_systemds_business() -> None:
    sim = Simulation(3).begin()
    sim.crash_xapi(1)
    sim.run_until(sim.settled, 120_000)
    assert sim.promote_calls() == [] and not sim.has(Kind.DECIDED)
    assert not sim.has(Kind.RESTART_INTENT)


def test_a_crashed_xapi_raises_no_false_alarm() -> None:
    """Right after its start the members' last probes are still unanswered: that is no split of the pool. Three such
    starts within ten minutes are a loop, and told.
    """
    sim = Simulation(3).begin()
    for _ in range(2):
        sim.crash_xapi(1)
        sim.run_until(sim.settled, 120_000)
        sim.run(700)
    assert "PoolSplit" not in sim.verdicts()
    assert not sim.has(Kind.ALERT)


def test_an_operator_restarts_a_members_xapi() -> None:
    sim = Simulation(3).begin()
    before = sim.now
    reply = sim.say("restart-xapi", 2)
    assert reply is not None and reply.accepted
    sim.run_until(lambda: restarts(sim, "h2", before) == 1 and sim.settled(), 120_000)
    assert sim.masters() == ["h1"]
