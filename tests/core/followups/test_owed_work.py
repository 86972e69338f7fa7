"""What is owed survives days and restarts, is paid when the host comes back, and ends with the host's membership."""

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host, address, played_once, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts, Liveness, Tombstone
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.report.status import status

DAY = 24 * 3_600_000


@played_once
def without_host_3() -> Guarded:
    """Host 3 is away when the master dies; host 2 succeeds it."""
    g = Guarded()
    g.host(3).agent = False
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    g.cut_power()
    g.run(20_000)
    g.say("approve")  # its xapi answers: another collector might hear it
    g.run(60_000)
    assert g.pool.record.master == uuid(2)
    return g


def owed(g: Guarded) -> set[tuple[str, str]]:
    return {(item.host, item.what) for item in g.pool.record.owed}


def return_of_host_3(g: Guarded) -> None:
    g.host(3).agent = True
    g.connect(g.host(3))
    g.run(10_000)


def test_a_member_that_was_away_is_repointed_when_it_comes_back_days_later() -> None:
    g = without_host_3()
    assert (uuid(3), "repoint") in owed(g)
    g.now += 3 * DAY
    g.run(2_000)
    return_of_host_3(g)
    assert g.host(3).master_address == address(2)
    assert (uuid(3), "repoint") not in owed(g)


def test_it_is_paid_in_the_cool_down_and_after_a_restart_of_the_collector() -> None:
    g = without_host_3()
    g.restart_collector()
    g.run(10_000)
    assert g.pool.live.backoff.cooldown_until is not None
    return_of_host_3(g)
    assert g.host(3).master_address == address(2) and (uuid(3), "repoint") not in owed(g)


def test_the_old_master_is_marked_and_brought_back_in_the_cool_down() -> None:
    g = without_host_3()
    host = g.host(1)
    host.boot, host.agent, host.serves, host.answers = "boot-1-2", True, False, True
    g.connect(host)
    g.run(20_000)
    assert host.pool_conf is Role.MEMBER and host.master_address == address(2)
    assert host.tombstone is None and not any(item.host == uuid(1) for item in g.pool.record.owed)


def test_status_tells_what_is_owed_and_what_it_waits_for() -> None:
    g = without_host_3()
    lines = status(g.pool, g.now, g.site).owed
    assert "host-3: has to be pointed at host-2" in lines
    assert any(line.startswith("host-1: xapi has to be told that it is dead") for line in lines)


def test_what_is_owed_to_a_host_that_left_the_pool_is_dropped() -> None:
    g = without_host_3()

    def facts(host: Host) -> HostFacts:
        told = Guarded.facts(g, host)
        view = told.pool_view
        left = tuple(item for item in view.hosts if item.host != uuid(3)) if view is not None else ()
        return replace(told, pool_view=replace(view, hosts=left)) if view is not None else told

    g.facts = facts  # type: ignore[method-assign]
    g.run(120_000)
    assert g.has(Kind.HOST_LEFT)
    assert not any(item.host == uuid(3) for item in g.pool.record.owed)


@pytest.mark.slow
def test_only_what_is_still_missing_is_done_again_after_a_restart_in_the_middle() -> None:
    """Six members, the collector dies while it repoints them: those that follow already get nothing more."""
    g = Guarded(8)
    g.cut_power()
    while not any(order.kind_name == "repoint" for host in g.hosts for order in host.orders):
        g.run(250)
    before = {host.n: len([o for o in host.orders if o.kind_name == "repoint"]) for host in g.hosts}
    done = [n for n, count in before.items() if count]
    g.restart_collector()
    g.run(90_000)
    after = {host.n: len([o for o in host.orders if o.kind_name == "repoint"]) for host in g.hosts}
    assert all(after[n] == before[n] for n in done)
    assert all(after[n] == 1 for n in range(3, 9))


@pytest.mark.slow
def test_a_returned_master_whose_xapi_hangs_is_restarted_instead_of_repointed() -> None:
    """Repointing is a call to its own xapi: it would hang as well, for as long as anybody asks."""
    g = without_host_3()
    host = g.host(1)
    host.boot, host.agent, host.serves, host.power = "boot-1-2", True, False, Power.ON
    host.pool_conf, host.master_address, host.running = Role.MEMBER, address(2), Role.UNKNOWN
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since = g.now
    g.connect(host)
    g.run(100_000)
    assert host.tombstone is not None and not [order for order in host.orders if order.kind_name == "repoint"]
    g.run(600_000)
    restarts = [order for order in host.orders if order.kind_name == "restart_xapi"]
    assert len(restarts) == 2 and restarts[0].preconditions.pool_conf_in == (Role.MEMBER,)
    [alert] = [key for key in g.pool.record.open_alerts if "/owed-" in key]
    host.liveness = host.socket = Liveness.ANSWERS
    host.running, host.unwell_since = Role.MEMBER, None
    g.run(60_000)
    assert (uuid(1), "tombstone") not in owed(g) and alert not in g.pool.record.open_alerts


def returned_and_attached(g: Guarded) -> None:
    """Host 1 comes back by itself as a member of host 2."""
    old = g.host(1)
    old.boot, old.agent, old.answers, old.power = "boot-1-2", True, True, Power.ON
    old.pool_conf = old.running = Role.MEMBER
    old.master_address, old.serves = address(2), False
    g.connect(old)


def test_a_superseded_master_that_is_attached_is_found_so_during_a_pause() -> None:
    g = without_host_3()
    g.say("pause", reason="work")
    returned_and_attached(g)
    g.run(20_000)
    assert (uuid(1), "tombstone") not in owed(g) and not g.has(Kind.TOMBSTONE_INTENT)


def test_the_tombstone_of_a_verified_master_is_cleared_and_of_nobody_else() -> None:
    g = without_host_3()
    new = g.host(2)
    new.tombstone = Tombstone(1, uuid(1), address(1))
    g.run(10_000)
    assert new.tombstone is None
    assert g.entry(Kind.TOMBSTONE_INTENT).data["host"] == uuid(2) and g.kinds().count("tombstone-intent") == 1


@played_once
def made_master_again(successor_power: Power, word: bool = False) -> Guarded:
    """Host 1 was superseded by host 2, which is silent now; somebody makes host 1 the master with xe."""
    g = without_host_3()
    g.say("pause", reason="work")
    new = g.host(2)
    new.agent = new.answers = False
    new.power = successor_power
    old = g.host(1)
    old.boot, old.agent, old.answers, old.power = "boot-1-2", True, True, Power.ON
    old.tombstone = Tombstone(2, uuid(2), address(2))
    if word:
        g.run(20_000)
        reply = g.say("confirm-fenced", 2, typed_name="host-2", how="cord pulled")
        assert reply is not None and reply.accepted, reply
    g.connect(old)
    g.run(60_000)
    return g


def test_a_superseded_host_that_serves_while_its_successor_is_off_is_the_master_again() -> None:
    g = made_master_again(Power.OFF)
    assert g.pool.record.master == uuid(1) and (uuid(1), "tombstone") not in owed(g)
    assert (uuid(2), "tombstone") in owed(g)
    assert g.host(1).tombstone is not None  # nothing is ordered in a pause
    g.say("resume")
    g.run(10_000)
    assert g.host(1).tombstone is None


def test_a_superseded_host_that_serves_while_its_successor_is_silent_is_adopted_by_nobody() -> None:
    g = made_master_again(Power.UNKNOWN)
    assert g.pool.record.master == uuid(2) and (uuid(1), "tombstone") in owed(g)


def test_a_superseded_host_that_serves_while_its_successor_is_off_by_a_word_is_the_master_again() -> None:
    g = made_master_again(Power.UNKNOWN, word=True)
    assert g.pool.record.master == uuid(1) and (uuid(1), "tombstone") not in owed(g)
    assert (uuid(2), "tombstone") in owed(g)


def test_status_tells_for_how_long_at_least_something_is_owed() -> None:
    g = without_host_3()
    before = status(g.pool, g.now, g.site).owed
    g.run(120_000)
    after = status(g.pool, g.now, g.site).owed
    assert "host-3: has to be pointed at host-2" in before
    assert [line for line in after if line.startswith("host-3: has to be pointed at host-2, for ")] != []
