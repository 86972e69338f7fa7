"""One UUID on two machines, one host in two pools; and links that merely come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import AlertRaised
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Machine
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome
from poolwarden_collector.core.model.takeover import Takeover

OTHER = "bbbbbbbb-0000-4000-8000-000000000000"


def alternate(g: Guarded, times: int, clone: str = "dmi-clone", n: int = 3) -> None:
    """The host and its clone push each other off the stream, every two seconds."""
    host, own = g.host(n), g.host(n).boot
    for _ in range(times):
        g.connect(host, boot_id="boot-clone", machine=Machine(clone))
        g.run(2_000)
        g.connect(host, boot_id=own)
        g.run(2_000)


def test_two_machines_under_one_uuid_freeze_the_pool() -> None:
    g = Guarded()
    alternate(g, 1)
    assert g.verdict == "IdentityConflict" and "dmi-clone" in g.pool.live.verdict.sentence
    sent = len(g.effects)
    g.cut_power()
    g.run(120_000)
    assert g.verdict == "IdentityConflict" and not g.has(Kind.DECIDED)
    assert not [e for e in g.effects[sent:] if type(e).__name__ == "SendOrder"]
    assert any("IdentityConflict" in key for key in g.pool.record.open_alerts)


@pytest.mark.slow
def test_the_freeze_is_durable_and_ends_ten_minutes_after_the_last_sign() -> None:
    g = Guarded()
    alternate(g, 1)
    g.restart_collector()
    g.run(500_000)
    assert g.verdict == "IdentityConflict"
    g.run(g.policy.boot_grace - 500_000 + 5_000)
    assert g.verdict == "Healthy"
    g.cut_power()
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_clone_is_found_by_a_collector_that_was_restarted_between_its_hellos() -> None:
    g = Guarded()
    host = g.host(3)
    g.connect(host, boot_id="boot-clone", machine=Machine("dmi-clone"))
    g.restart_collector()
    g.connect(host, boot_id="boot-clone", machine=Machine("dmi-clone"))
    g.run(2_000)
    assert g.verdict == "IdentityConflict"


def test_machines_without_an_identity_must_alternate_twice() -> None:
    """One Hello of the boot before may have been under way for long."""
    g = Guarded()
    alternate(g, 1, clone="")
    assert g.verdict == "Healthy"
    alternate(g, 1, clone="")
    assert g.verdict == "IdentityConflict"


def test_reboots_are_no_conflict() -> None:
    g = Guarded()
    for n in range(6):
        g.connect(g.host(3), boot_id=f"boot-{n}")
        g.run(4_000)
    assert g.pool.record.identity == {} and g.verdict == "Healthy"


def test_a_host_that_claims_another_pool_and_is_still_seen_here_freezes_it() -> None:
    g = Guarded()
    g.feed(ev.HostElsewhere(uuid(3), "host-3", OTHER))
    g.run(1_000)
    assert g.verdict == "IdentityConflict" and OTHER in g.pool.live.verdict.sentence


def test_a_host_that_was_moved_is_refused_and_told_once() -> None:
    """S56: nobody sees it here any more."""
    g = Guarded()
    host = g.host(3)
    host.agent = host.answers = False
    g.feed(ev.AgentGone(host.uuid, host.stream))
    g.hosts.remove(host)  # nor does the master list it
    g.run(10_000)
    for _ in range(20):
        g.feed(ev.HostElsewhere(uuid(3), "host-3", OTHER))
        g.run(1_000)
    assert [e.data["frozen"] for e in g.journal if e.kind is Kind.IDENTITY] == [False]
    assert g.verdict != "IdentityConflict"
    assert sum("registration-" in key for key in g.pool.record.open_alerts) == 1
    g.run(g.policy.boot_grace + 2_000)
    assert not any("registration-" in key for key in g.pool.record.open_alerts)


def test_a_stranger_that_claims_another_pool_is_nobodys_matter() -> None:
    g = Guarded()
    before = len(g.journal)
    g.feed(ev.HostElsewhere(uuid(9), "host-9", OTHER))
    assert len(g.journal) == before


# ------------------------------------------------------------------------------------------------ flapping


def flap(g: Guarded, n: int, times: int, goodbye: str = "") -> None:
    host = g.host(n)
    for _ in range(times):
        host.agent = False
        g.feed(ev.AgentGone(host.uuid, host.stream, goodbye))
        g.run(8_000)
        host.agent = True
        g.connect(host)
        g.run(8_000)


def flapping(g: Guarded) -> list[str]:
    return [e.data["title"] for e in g.journal if e.kind is Kind.ALERT and "flapping" in e.data["key"]]


@pytest.mark.slow
def test_a_link_that_flaps_is_one_alert_and_nothing_else() -> None:
    """S25."""
    g = Guarded()
    flap(g, 1, 30)
    assert flapping(g) == ["lab: the link of host-1 has flapped 5 times in 10 min"]
    assert not g.has(Kind.DECIDED) and not g.has(Kind.FENCE_INTENT)
    others = [e for e in g.journal if e.kind is Kind.ALERT and "flapping" not in e.data["key"]]
    assert len(others) <= 5  # until the flapping itself is told, not one for each flap
    g.run(660_000)
    assert not g.pool.record.open_alerts


@pytest.mark.slow
def test_a_few_cuts_reboots_and_goodbyes_are_no_flapping() -> None:
    g = Guarded()
    flap(g, 2, 4)
    flap(g, 3, 20, goodbye="agent_upgrade")
    for n in range(20):
        g.connect(g.host(1), boot_id=f"b{n}")
        g.run(2_000)
    assert flapping(g) == []


def scout(g: Guarded, n: int, away: int, back: bool = True) -> list[str]:
    """This collector, which may act nowhere, sends that agent to look elsewhere; the verdicts meanwhile."""
    host, seen = g.host(n), []
    g.site = replace(g.site, cut_off=True, scouts=frozenset({host.uuid}))
    host.agent = False
    for _ in range(away // 500):
        g.run(500)
        seen.append(g.verdict)
    if back:
        host.agent = True
        g.connect(host)
        seen.append(g.verdict)
    g.site = replace(g.site, scouts=frozenset())
    g.run(2_000)
    return [*seen, g.verdict]


def test_a_scout_that_comes_back_was_not_silent_and_did_not_flap() -> None:
    g = Guarded()
    for _ in range(6):
        for n in (1, 3):
            assert set(scout(g, n, 9_000)) == {"Healthy"}
    g.site = replace(g.site, cut_off=False)
    g.run(2_000)
    assert flapping(g) == [] and not g.pool.live.link_flaps.flaps


def test_a_scout_that_does_not_come_back_is_silent_since_it_was_heard_last() -> None:
    g = Guarded()
    last = g.pool.live.agents[uuid(1)].last_heard
    assert scout(g, 1, 9_000, back=False)[-2:] == ["Healthy", "AgentLost"]
    assert last <= g.pool.live.agents[uuid(1)].last_heard <= last + 2_000


def test_a_scout_that_has_booted_meanwhile_is_heard_from_its_first_report_on() -> None:
    g = Guarded()
    host = g.host(3)
    g.site = replace(g.site, cut_off=True, scouts=frozenset({host.uuid}))
    g.connect(host, boot_id="another")
    assert not g.pool.live.agents[host.uuid].reported


def test_a_new_stream_of_one_that_was_not_sent_away_is_heard_from_its_first_report_on() -> None:
    g = Guarded()
    g.site = replace(g.site, cut_off=True, scouts=frozenset({uuid(1)}))
    g.connect(g.host(3))
    assert not g.pool.live.agents[uuid(3)].reported


# ---------------------------------------------------------------------------------------------- its own rules


def answered(g: Guarded, reason: str, text: str = "addresses = known: it is of no host of this pool") -> None:
    result = OrderOutcome("o-1", "repoint", Outcome.REFUSED, reason, text)
    g.feed(ev.OrderAnswered(uuid(3), g.pool.live.agents[uuid(3)].stream, result))


@pytest.mark.parametrize("reason", ["local-policy", "too-many", "unsigned", "bad-signature"])
def test_an_order_that_its_hosts_own_rules_refuse_is_told_once(reason: str) -> None:
    g = refused(reason)
    told = [e for e in g.journal if e.kind is Kind.HOST_REFUSED]
    assert len(told) == 1 and "refused repoint by its own rules: addresses = known" in told[0].text
    assert any("own-rules" in key for key in g.pool.record.open_alerts)


@pytest.mark.slow
def test_what_its_hosts_own_rules_refused_is_over_by_itself() -> None:
    g = refused("local-policy")
    g.run(g.policy.boot_grace + 5_000)
    assert not any("own-rules" in key for key in g.pool.record.open_alerts)


def refused(reason: str) -> Guarded:
    """Five times in ten seconds."""
    g = Guarded()
    g.run(2_000)
    for _ in range(5):
        answered(g, reason)
        g.run(2_000)
    return g


def test_what_the_gate_refuses_is_no_rule_of_the_hosts_own() -> None:
    g = Guarded()
    g.run(2_000)
    answered(g, "expired")
    assert not g.has(Kind.HOST_REFUSED)


def test_a_number_that_cannot_be_names_what_helps_where_one_collector_or_several_are() -> None:
    """Of several a restored etcd has lower epochs than its hosts: nothing of one collector's own would raise them."""
    said = {}
    for several in (False, True):
        g = Guarded()
        if several:
            g.site = replace(g.site, takeover=Takeover(g.now - 60_000, g.now, g.now))
        done = g.feed(ev.HostRefused(uuid(2), "hello.highest_epoch is 9, which cannot be: at most 8 is taken"))
        [said[several]] = [each.body for each in done.alerts if isinstance(each, AlertRaised)]
    assert "set epoch_above" in said[False] and "generation raise" not in said[False]
    assert "poolwarden-collector generation raise" in said[True] and "set epoch_above" not in said[True]
