"""A promoted host is not believed by its own word alone where another host can ask it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, Host, address, uuid

from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import HostFacts
from poolwarden_collector.core.model.order_results import OrderOutcome, RoleAnswer, RoleClaim
from poolwarden_collector.core.model.orders import Order

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


class Asked(Guarded):
    """Whoever asks the promoted host for its role is told ``said``; None: the agent brings no word."""

    def __init__(self, hosts: int = 3) -> None:
        self.said: dict[int, RoleClaim | None] = {}
        self.elsewhere = ""  # where host 2 says that it is; empty: where it is
        super().__init__(hosts)
        self.on_order = self.answer

    def facts(self, host: Host) -> HostFacts:
        told = super().facts(host)
        return replace(told, address=self.elsewhere) if host.n == 2 and self.elsewhere else told

    def answer(self, host: Host, order: Order) -> OrderOutcome | None:
        done = self.default(host, order)
        if done is None or order.kind_name != "probe_now" or host.n not in self.said:
            return done
        said = self.said[host.n]
        if said is None:
            return replace(done, roles=())
        follows = address(1) if said is RoleClaim.FOLLOWS else ""
        roles = [RoleAnswer(a.host, said, follows) if a.host == uuid(2) else a for a in done.roles]
        return replace(done, roles=tuple(roles))

    @property
    def blocked(self) -> list[str]:
        return [entry.text for entry in self.journal if entry.kind is Kind.BLOCKED]


def test_another_host_is_told_so_before_it_is_called_promoted() -> None:
    g = Asked()
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(2)] and "host-3 has asked its xapi" in g.entry(Kind.PROMOTED).data["seen"]
    asked = [o for o in g.host(3).orders if o.kind_name == "probe_now" and "witness" in o.order_id]
    assert asked, "asked for its role"


@pytest.mark.parametrize("said", [RoleClaim.SILENT, RoleClaim.UNTOLD, RoleClaim.FOLLOWS])
def test_a_contradiction_holds_and_is_told_until_it_is_over(said: RoleClaim) -> None:
    g = Asked()
    g.said = {3: said}
    g.cut_power()
    g.run(300_000)
    assert g.promoted() == [uuid(2)] and not g.has(Kind.PROMOTED) and not g.has(Kind.REPOINT_INTENT)
    assert len(g.blocked) == 1 and g.blocked[0].startswith("BLOCKED_UNVERIFIED: host-2 says that it serves")
    assert any("/BLOCKED_UNVERIFIED" in key for key in g.pool.record.open_alerts)
    g.said = {}
    g.run(30_000)
    assert g.has(Kind.PROMOTED) and g.has(Kind.REPOINT_INTENT)
    assert not any("/BLOCKED_UNVERIFIED" in key for key in g.pool.record.open_alerts)


def test_no_other_pools_master_is_a_promoted_hosts_witness() -> None:
    """The candidate says, once it is told to become master, that it is where another pool's master answers."""
    g = Asked()
    g.cut_power()
    while not g.has(Kind.PROMOTE_INTENT):
        g.run(250)
    g.elsewhere = "10.9.9.9"
    g.run(120_000)
    assert not g.has(Kind.PROMOTED) and not g.has(Kind.REPOINT_INTENT)
    assert "it says that it is at 10.9.9.9, and host-1 had it at 10.0.0.2" in g.blocked[-1]
    g.elsewhere = ""
    g.run(30_000)
    assert g.has(Kind.PROMOTED)


def test_a_host_that_says_it_is_elsewhere_is_no_candidate() -> None:
    g = Asked()
    g.elsewhere = "10.9.9.9"
    g.run(4_000)
    g.host(2).generation = 60
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(3)]


def test_an_address_is_the_same_however_it_is_spelt() -> None:
    from poolwarden_collector.core.evidence.membership import _address

    assert _address("2001:db8::1") == _address("2001:DB8:0::1") != _address("2001:db8::2") != _address("h2")


def test_one_that_sees_it_is_enough() -> None:
    g = Asked(4)
    g.said = {3: RoleClaim.SILENT}
    g.cut_power()
    g.run(60_000)
    assert "host-4 has asked its xapi" in g.entry(Kind.PROMOTED).data["seen"]


@pytest.mark.parametrize("why", ["nobody", "no word", "old agent"])
def test_where_there_is_no_witness_its_own_word_stands(why: str) -> None:
    g = Asked(2 if why == "nobody" else 3)
    if why == "no word":
        g.said = {3: None}
    elif why == "old agent":
        g.connect(g.host(3), capabilities=frozenset({"claim", "repoint"}))
    g.cut_power()
    g.run(120_000)
    assert g.has(Kind.PROMOTED) and g.entry(Kind.PROMOTED).data["seen"].startswith("nobody else")


def test_a_witness_that_falls_silent_blocks_nothing() -> None:
    g = Asked()
    g.said = {3: RoleClaim.SILENT}
    g.cut_power()
    g.run(120_000)
    assert not g.has(Kind.PROMOTED)
    g.host(3).agent = False
    g.run(60_000)
    assert g.has(Kind.PROMOTED)


def test_a_collector_that_starts_anew_asks_anew() -> None:
    g = Asked()
    g.said = {3: RoleClaim.FOLLOWS}
    g.cut_power()
    g.run(60_000)
    g.restart_collector()
    g.run(60_000)
    assert not g.has(Kind.PROMOTED)
    g.said = {}
    g.run(30_000)
    assert g.has(Kind.PROMOTED)
