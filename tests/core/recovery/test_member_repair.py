"""One member in trouble while its master serves: what is done, what is only told, and what is never done."""

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, Host, address, running, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts, Liveness
from poolwarden_collector.core.model.order_results import OrderOutcome, PlacementView
from poolwarden_collector.core.model.orders import Order, Repoint
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.values import ProcessId, Role
from poolwarden_collector.core.state.pool_record import OwedWork

pytestmark = pytest.mark.slow  # minutes of a pool's life in each

ACTS = ("repoint", "restart_xapi")


def acts(g: Guarded, n: int) -> list[str]:
    return [order.kind_name for order in g.host(n).orders if order.kind_name in ACTS]


def told(g: Guarded, n: int) -> list[str]:
    """The bodies of the alerts and questions about this member's repair, in order."""
    asked = [e.data["number"] for e in g.journal if e.kind is Kind.ASKED and e.data["host"] == uuid(n)]
    keys = (f"/repair-{uuid(n)}/", *(f"/question-{number}" for number in asked))
    alerts = [e.data for e in g.journal if e.kind is Kind.ALERT]
    return [data["body"] for data in alerts if any(key in data["key"] for key in keys)]


def wrong_master(g: Guarded, n: int) -> None:
    g.host(n).master_address = "10.0.9.9"


def restarting(g: Guarded, heals: bool = True) -> None:
    """Let restarts of xapi take effect at the hosts."""

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "restart_xapi":
            host.process = ProcessId(host.process.pid + 1000, host.process.start_ticks + 1000)
            if heals:
                host.emergency, host.liveness, host.socket = "", Liveness.ANSWERS, Liveness.ANSWERS
        return g.default(host, order)

    g.on_order = answer


def test_a_member_that_names_another_master_is_repointed_after_a_while() -> None:
    g = Guarded()
    g.run(30_000)
    wrong_master(g, 3)
    g.run(80_000)
    assert acts(g, 3) == []
    g.run(20_000)
    assert acts(g, 3) == ["repoint"]
    kind = next(o.kind for o in g.host(3).orders if o.kind_name == "repoint")
    assert kind == Repoint(address(1), uuid(1))
    g.run(10_000)
    assert g.entry(Kind.REPAIRED).data["host"] == uuid(3)
    assert g.verdict == "Healthy" and acts(g, 2) == []


def test_what_was_tried_is_forgotten_after_ten_fine_minutes() -> None:
    g = Guarded()
    g.run(30_000)
    wrong_master(g, 3)
    g.run(110_000)
    assert g.pool.record.after.repairs == {uuid(3): ("repoint",)}
    g.run(600_000)
    assert g.pool.record.after.repairs == {}


def test_its_own_slave_is_repointed() -> None:
    g = Guarded()
    g.run(30_000)
    g.host(3).master_address, g.host(3).emergency = address(3), "HOST_ITS_OWN_SLAVE"
    g.run(100_000)
    assert acts(g, 3) == ["repoint"]


def test_a_member_in_emergency_that_reaches_its_master_is_restarted() -> None:
    g = Guarded()
    restarting(g)
    g.run(30_000)
    g.host(2).emergency = "HOST_STILL_BOOTING"
    g.run(100_000)
    assert acts(g, 2) == ["restart_xapi"]
    g.run(10_000)
    assert g.has(Kind.REPAIRED) and g.verdict == "Healthy"


def test_a_restart_that_does_not_help_is_tried_twice_and_then_told() -> None:
    g = Guarded()
    restarting(g, heals=False)
    g.run(30_000)
    g.host(2).emergency = "HOST_STILL_BOOTING"
    g.run(600_000)
    assert acts(g, 2) == ["restart_xapi", "restart_xapi"]
    assert "tried without lasting help: restart, restart" in told(g, 2)[-1]


@pytest.mark.parametrize(
    "code", ["HOST_UNKNOWN_TO_MASTER", "SESSION_AUTHENTICATION_FAILED", "HOST_XAPI_VERSION_HIGHER_THAN_COORDINATOR"]
)
def test_what_no_restart_heals_is_only_told(code: str) -> None:
    g = Guarded()
    g.run(30_000)
    g.host(2).emergency = code
    g.run(200_000)
    assert acts(g, 2) == []
    assert [code in text for text in told(g, 2)] == [True]
    g.host(2).emergency = ""
    g.run(25_000)
    assert not [key for key in g.pool.record.open_alerts if "/repair-" in key]


def test_a_member_that_does_not_reach_its_master_is_left_running() -> None:
    """Its network is at fault, and a xapi that restarts without its master blocks in its start."""
    g = Guarded()
    g.run(30_000)
    cut_off(g, 3)
    g.run(200_000)
    assert acts(g, 3) == []
    assert "does not reach the master" in told(g, 3)[-1]


def cut_off(g: Guarded, n: int) -> None:
    """From now on this host's probes find nothing."""
    honest = g.probe

    def probe(host: Host, target: Host):  # type: ignore[no-untyped-def]
        if host is not g.host(n):
            return honest(host, target)
        before, target.answers = target.answers, False
        try:
            return honest(host, target)
        finally:
            target.answers = before

    g.probe = probe  # type: ignore[method-assign]
    g.host(n).emergency = "HOST_STILL_BOOTING"


def test_a_repair_that_would_kill_a_vm_is_not_done() -> None:
    g = Guarded()
    g.run(30_000)
    wrong_master(g, 3)
    g.host(3).domains = ("vm-1",)
    g.host(1).placements = PlacementView(True, 50, "state.db", (running("vm-1", uuid(2), "web"),))
    g.run(200_000)
    assert acts(g, 3) == []
    assert "web" in told(g, 3)[-1] and "host-2" in told(g, 3)[-1]


def test_a_dead_xapi_is_started_before_its_member_is_repointed() -> None:
    g = Guarded()
    restarting(g)
    g.run(30_000)
    wrong_master(g, 3)
    g.host(3).liveness = g.host(3).socket = Liveness.DOWN
    g.host(3).unwell_since = g.now
    g.run(400_000)
    assert acts(g, 3) == ["restart_xapi", "repoint"]
    assert g.verdict == "Healthy"


def test_a_members_dead_xapi_is_restarted() -> None:
    g = Guarded()
    restarting(g)
    g.run(30_000)
    g.host(3).liveness = g.host(3).socket = Liveness.DOWN
    g.host(3).answers = False
    g.host(3).unwell_since = g.now
    g.run(170_000)
    assert acts(g, 3) == ["restart_xapi"]


def test_one_member_at_a_time() -> None:
    g = Guarded(4)
    restarting(g, heals=False)
    g.run(30_000)
    g.host(2).emergency = g.host(3).emergency = "HOST_STILL_BOOTING"
    g.run(100_000)
    assert (acts(g, 2), acts(g, 3)) == (["restart_xapi"], [])


def test_a_broken_pool_conf_is_asked_about_with_the_command_that_mends_it() -> None:
    g = Guarded()
    g.run(30_000)
    g.host(3).pool_conf = Role.BROKEN
    g.run(200_000)
    assert acts(g, 3) == []
    assert "xe pool-emergency-reset-master master-address=10.0.0.1" in told(g, 3)[-1]


def test_a_broken_pool_without_a_master_is_told_what_to_do() -> None:
    g = Guarded()
    g.run(30_000)
    g.host(1).serves, g.host(1).pool_conf = False, Role.BROKEN
    g.run(60_000)
    assert "xe pool-emergency-transition-to-master" in told(g, 1)[-1]


@pytest.mark.parametrize("mode", ["observe", "ask"])
def test_nothing_is_repaired_unless_the_mode_is_auto(mode: str) -> None:
    g = Guarded(policy=Policy(mode=mode, quiet_time=QUIET))
    g.run(30_000)
    wrong_master(g, 3)
    g.run(200_000)
    assert acts(g, 3) == []


def test_nothing_is_repaired_in_a_paused_pool() -> None:
    g = Guarded()
    g.run(30_000)
    g.say("pause", reason="work")
    wrong_master(g, 3)
    g.run(200_000)
    assert acts(g, 3) == []


def test_the_cool_down_does_not_hold_a_repair() -> None:
    g = Guarded()
    g.cut_power()
    g.run(60_000)
    assert g.pool.live.backoff.cooldown_until is not None
    wrong_master(g, 3)
    g.run(120_000)
    assert acts(g, 3)[-1] == "repoint" and g.host(3).master_address == address(2)
    assert g.has(Kind.REPAIRED)


def test_an_old_master_whose_xapi_hangs_as_a_member_is_no_healthy_pool() -> None:
    """It is still owed the end of its tombstone; once it runs as a member its xapi is looked after like any other's."""
    g = Guarded()
    restarting(g)
    g.cut_power()
    g.run(60_000)
    old = g.host(1)
    old.boot, old.agent, old.serves = "boot-1-2", True, False
    old.pool_conf = old.running = Role.MEMBER
    old.master_address = address(2)
    old.liveness = old.socket = Liveness.SILENT
    old.unwell_since = g.now
    g.connect(old)
    g.run(140_000)
    assert any(item.host == uuid(1) and item.what is OwedWork.TOMBSTONE for item in g.pool.record.owed)
    assert g.verdict == "MemberXapiDown"
    g.run(120_000)
    assert acts(g, 1) == ["restart_xapi"]
    assert g.verdict == "Healthy" and not g.pool.record.owed


@pytest.mark.parametrize("hosts, lost", [(3, 3), (5, 4)])
def test_a_member_that_follows_another_member_is_orphaned_and_repointed(hosts: int, lost: int) -> None:
    """By pool.conf and xapi it is a member of a host that is one itself: it answers, and is attached to nobody."""
    g = Guarded(hosts=hosts)
    g.run(30_000)
    g.host(lost).master_address = address(2)
    g.run(30_000)
    assert g.verdict == "MemberOrphaned" and acts(g, lost) == []
    g.run(90_000)
    assert acts(g, lost) == ["repoint"] and g.host(lost).master_address == address(1)
    g.run(20_000)
    assert g.verdict == "Healthy" and all(acts(g, n) == [] for n in range(2, hosts + 1) if n != lost)


def test_a_pool_conf_that_has_just_been_rewritten_is_no_orphan_yet() -> None:
    """Its running xapi follows the master still: somebody changes its master now."""
    g = Guarded()
    g.run(30_000)
    host = g.host(3)

    def half(each: Host) -> HostFacts:
        told = Guarded.facts(g, each)
        return replace(told, role=replace(told.role, master_address=address(2))) if each is host else told

    g.facts = half  # type: ignore[method-assign]
    g.run(20_000)
    assert g.verdict == "Healthy"
