"""The boot gate end to end: an old master that comes back never serves beside its successor, nor waits in vain."""

from __future__ import annotations

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_lab.virtual.world.pool import Simulation
from poolwarden_lab.xapi.pool_conf import POOL_CONF


def taken_over(until: Kind = Kind.CLOSED, **options: bool) -> Simulation:
    sim = Simulation(3, **options).begin()  # type: ignore[arg-type]
    sim.pool.boot_ms = 5_000
    sim.power_off(1)
    sim.run_until(lambda: sim.has(until), 300_000)
    return sim


def ever_served(sim: Simulation, name: str, since: int) -> bool:
    return any(entry.event.name == "pool-master" for entry in sim.pool.events(host=name, since_ms=since))


def test_the_old_master_comes_back_as_a_member_before_its_xapi_starts() -> None:
    """S38."""
    sim = taken_over()
    since = sim.now
    sim.power_on(1)
    sim.run_until(lambda: not sim.record.owed and sim.verdict == "Healthy", 300_000)
    assert not ever_served(sim, "h1", since)
    starts = [entry.ms for entry in sim.pool.events("xapi-start", "h1", since)]
    assert len(starts) == 1  # not once as master, and then again
    assert sim.pool.pool_conf("h1") == f"slave:{sim.host(2).address}" and sim.masters() == ["h2"]


def test_it_returns_while_the_promotion_is_on_its_way() -> None:
    """S40: shut, not yet told whom to follow; then named."""
    sim = taken_over(Kind.PROMOTE_INTENT)
    since = sim.now
    sim.pool.boot_ms = 1_000
    sim.power_on(1)
    sim.run_until(lambda: sim.has(Kind.GATE_ANSWER), 60_000)
    assert sim.ledger.of(Kind.GATE_ANSWER)[0].data["decision"] == "shut"
    sim.run_until(lambda: sim.has(Kind.CLOSED) and not sim.record.owed and sim.verdict == "Healthy", 400_000)
    assert not ever_served(sim, "h1", since) and sim.masters() == ["h2"]


def test_isolated_it_stays_shut_for_ever() -> None:
    """S39."""
    sim = taken_over()
    since = sim.now
    sim.isolate(1)
    sim.power_on(1)
    sim.run(3_600_000)
    assert not sim.pool.events("xapi-start", "h1", since) and sim.masters() == ["h2"]
    sim.rejoin(1)
    sim.run_until(lambda: not sim.record.owed and sim.verdict == "Healthy", 300_000)
    assert not ever_served(sim, "h1", since)


def test_without_a_collector_an_acting_master_keeps_it_shut() -> None:
    """S78."""
    sim = taken_over()
    since = sim.now
    sim.kill_collector()
    sim.power_on(1)
    sim.run(1_800_000)
    assert not sim.pool.events("xapi-start", "h1", since)
    sim.start_collector()
    sim.run_until(lambda: not sim.record.owed and sim.verdict == "Healthy", 300_000)
    assert not ever_served(sim, "h1", since) and sim.masters() == ["h2"]


def test_without_a_collector_the_members_of_a_site_that_comes_back_open_it() -> None:
    """S72, with one member there: it says whom it follows."""
    sim = Simulation(2).begin()
    sim.pool.boot_ms = 5_000
    sim.kill_collector()
    for i in (1, 2):
        sim.power_off(i)
    since = sim.now
    sim.power_on(1)
    sim.power_on(2)
    sim.run_until(lambda: sim.masters() == ["h1"], 120_000)
    assert sim.now - since < 120_000


def test_without_a_collector_and_without_a_member_it_opens_after_five_minutes_on_a_live_network() -> None:
    """S72, with the member off."""
    sim = Simulation(2).begin()
    sim.pool.boot_ms = 5_000
    sim.kill_collector()
    for i in (1, 2):
        sim.power_off(i)
    since = sim.now
    sim.power_on(1)
    sim.run_until(lambda: sim.masters() == ["h1"], 600_000)
    assert 300_000 <= sim.now - since <= 400_000


def test_an_ordinary_reboot_of_the_master_opens_at_once() -> None:
    sim = Simulation(3).begin()
    sim.pool.boot_ms = 5_000
    sim.power_off(1)
    sim.run(2_000)
    sim.power_on(1)
    sim.run_until(lambda: sim.masters() == ["h1"] and sim.verdict == "Healthy", 300_000)
    assert [entry.data["decision"] for entry in sim.ledger.of(Kind.GATE_ANSWER)][-1] == "open"
    assert not sim.promote_calls()


def test_a_candidate_that_dies_after_the_intent_lets_the_gated_old_master_open_at_a_new_term() -> None:
    """S80."""
    sim = taken_over(Kind.PROMOTE_INTENT)
    sim.power_off(2)
    sim.pool.boot_ms = 1_000
    sim.power_on(1)
    sim.run_until(lambda: sim.has(Kind.ABORTED), 600_000)
    sim.run_until(lambda: sim.masters() == ["h1"], 300_000)
    decisions = [entry.data["decision"] for entry in sim.ledger.of(Kind.GATE_ANSWER)]
    assert decisions[0] == "shut" and decisions[-1] == "open"
    terms = [entry.term for entry in sim.ledger.of(Kind.GATE_ANSWER)]
    assert terms[-1] > terms[0]
    assert any(item.host == sim.uuid(2) and item.what is OwedWork.TOMBSTONE for item in sim.record.owed)


def test_a_candidate_that_reboots_on_its_way_goes_on_and_nobody_waits_for_anybody() -> None:
    sim = taken_over(Kind.PROMOTE_ANSWER)
    sim.power_off(2)
    sim.pool.boot_ms = 1_000
    sim.power_on(2)
    assert sim.pool.hosts["h2"].disk.read(POOL_CONF).decode().strip() == "master"
    sim.run_until(lambda: sim.masters() == ["h2"], 600_000)
    sim.run_until(lambda: sim.record.failover is not None and not sim.record.failover.open, 900_000)
    assert sim.promote_calls() == ["h2"]
