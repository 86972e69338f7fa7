"""What was announced: a goodbye, a change of master, a rolling upgrade. Each holds, shows what is beneath, and ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, Host, address, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role, Tri


def leave(g: Guarded, reason: str, n: int = 1, power: Power = Power.OFF) -> None:
    """The host says goodbye and is gone."""
    host = g.host(n)
    host.agent, host.answers, host.power = False, False, power
    g.feed(ev.AgentGone(host.uuid, host.stream, reason))


SHORT = Policy(quiet_time=QUIET, boot_grace=30_000, planned_window=120_000)


def sentence(g: Guarded) -> str:
    return g.pool.live.verdict.sentence


def open_alerts(g: Guarded) -> str:
    return " ".join(g.pool.record.open_alerts)


def test_a_reboot_by_order_has_its_window_and_then_is_a_master_that_vanished() -> None:
    """S64."""
    g = Guarded(policy=SHORT)
    leave(g, "host_reboot")
    g.run(60_000)
    assert g.verdict == "PlannedDown" and "without that: MasterVanished" in sentence(g)
    g.run(g.policy.planned_window - 60_000 - 5_000)
    assert g.verdict == "PlannedDown" and not g.has(Kind.DECIDED)
    g.run(20_000)
    assert g.promoted() == [uuid(2)]


def test_the_window_of_a_reboot_is_counted_anew_by_a_restarted_collector() -> None:
    g = Guarded(policy=SHORT)
    leave(g, "host_reboot")
    g.run(100_000)
    g.restart_collector()
    g.run(100_000)
    assert g.verdict == "PlannedDown" and not g.has(Kind.DECIDED)
    g.run(40_000)
    assert g.promoted() == [uuid(2)]


def test_a_host_that_comes_back_ends_its_own_outage() -> None:
    g = Guarded()
    leave(g, "host_reboot")
    g.run(60_000)
    host = g.host(1)
    host.agent, host.answers, host.boot, host.power = True, True, "boot-1-2", Power.ON
    g.connect(host)
    g.run(4_000)
    assert g.pool.record.planned is None and g.verdict == "Healthy"
    g.cut_power()
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


@pytest.mark.slow
def test_a_shutdown_by_order_holds_for_days() -> None:
    """S63."""
    g = Guarded()
    leave(g, "host_shutdown")
    g.run(400_000)
    assert g.verdict == "PlannedDown" and "shut down by order" in sentence(g)
    assert not g.has(Kind.DECIDED) and "PlannedDown" in open_alerts(g)
    g.restart_collector()
    g.run(200_000)
    assert g.verdict == "PlannedDown" and not g.has(Kind.DECIDED)


def test_policy_may_have_a_master_that_was_shut_down_succeeded() -> None:
    g = Guarded(policy=Policy(quiet_time=QUIET, planned_shutdown_failover=True))
    leave(g, "host_shutdown")
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_person_may_end_the_wait_for_a_master_that_was_shut_down() -> None:
    g = Guarded(devices=False)
    leave(g, "host_shutdown")
    g.run(60_000)
    reply = g.say("confirm-fenced", 1, how="it is in the truck", typed_name="host-1")
    assert reply is not None and reply.accepted, reply
    g.run(20_000)
    assert g.promoted() == [uuid(2)] and g.pool.record.planned is None


def test_an_agent_that_stops_has_said_nothing_about_its_host() -> None:
    for reason in ("agent_stop", "agent_upgrade", ""):
        g = Guarded()
        host = g.host(1)
        host.agent = False
        g.feed(ev.AgentGone(host.uuid, host.stream, reason))
        g.run(30_000)
        assert g.verdict == "AgentLost" and not g.has(Kind.GOODBYE) and not g.has(Kind.DECIDED)
        g.host(1).answers, g.host(1).power = False, Power.OFF
        g.run(30_000)
        assert g.promoted() == [uuid(2)]


def test_a_members_goodbye_is_no_outage_of_the_pool() -> None:
    g = Guarded()
    leave(g, "host_reboot", 2)
    g.run(30_000)
    assert g.pool.record.planned is None and g.verdict == "MemberVanished"


# ------------------------------------------------------------------------------------------------ changes of master


def hand_over(g: Guarded, to: int, before: int = 1) -> None:
    """An operator's designate: everybody follows the new master."""
    for host in g.hosts:
        mine = host.n == to
        host.pool_conf = host.running = Role.MASTER if mine else Role.MEMBER
        host.master_address, host.serves = ("" if mine else address(to)), mine


def test_an_operators_change_of_master_is_adopted_at_a_new_term_and_held() -> None:
    """S46."""
    g = Guarded()
    term = g.pool.record.term
    hand_over(g, 2)
    g.run(4_000)
    assert (g.pool.record.master, g.pool.record.term) == (uuid(2), term + 1)
    assert g.verdict == "OperatorTransition" and "host-2 takes over from host-1" in sentence(g)
    g.run(70_000)
    assert g.verdict == "Healthy" and g.pool.record.transition is None
    g.cut_power(2)
    g.run(30_000)
    assert g.entry(Kind.DECIDED).data["old_master"] == uuid(2)


@pytest.mark.slow
def test_a_new_master_that_dies_in_the_midst_of_it_waits_for_its_time() -> None:
    g = Guarded()
    hand_over(g, 2)
    g.run(4_000)
    g.cut_power(2)
    g.run(60_000)
    assert g.verdict == "OperatorTransition" and "without that: MasterVanished" in sentence(g)
    assert not g.has(Kind.DECIDED) and "OperatorTransition over MasterVanished" in open_alerts(g)
    g.run(g.policy.transition_hold)
    assert g.entry(Kind.DECIDED).data["old_master"] == uuid(2)


def test_the_first_master_ever_seen_is_no_change() -> None:
    g = Guarded()
    assert not g.has(Kind.TRANSITION) and g.verdict == "Healthy"


# ------------------------------------------------------------------------------------------------ upgrades


class Upgrading(Guarded):
    """A pool whose database says what ``flag`` says; members' copies say ``copies``."""

    flag = Tri.NO
    copies = Tri.NO

    def facts(self, host: Host) -> HostFacts:
        found = super().facts(host)
        if found.pool_view is not None:
            found = replace(found, pool_view=replace(found.pool_view, rolling_upgrade=self.flag))
        return replace(found, database=replace(found.database, rolling_upgrade=self.copies))


def test_a_rolling_upgrade_holds_until_a_serving_master_takes_it_back() -> None:
    g = Upgrading()
    g.flag = Tri.YES
    g.run(4_000)
    assert g.verdict == "Upgrading"
    g.cut_power()
    g.run(200_000)
    assert g.verdict == "Upgrading" and not g.has(Kind.DECIDED)
    assert "Upgrading over MasterVanished" in open_alerts(g)
    g.restart_collector()
    g.run(60_000)
    assert g.verdict == "Upgrading"
    host = g.host(1)
    host.agent, host.answers, host.power, host.boot = True, True, Power.ON, "boot-1-2"
    g.flag = Tri.NO
    g.connect(host)
    g.run(6_000)
    assert g.verdict == "Healthy"


def test_a_members_old_copy_does_not_overrule_the_masters_word() -> None:
    g = Upgrading()
    g.copies = Tri.YES
    g.run(10_000)
    assert g.verdict == "Healthy"
    g.cut_power()
    g.run(30_000)
    assert g.has(Kind.DECIDED)


def test_members_copies_are_believed_where_no_master_was_ever_heard_in_this_run() -> None:
    g = Upgrading()
    g.cut_power()
    g.copies = Tri.YES
    g.restart_collector(after=0)
    g.run(30_000)
    assert g.verdict == "Upgrading" and not g.has(Kind.DECIDED)
