"""Several opinions of one past: another collector, a restored or lost journal; epochs and terms decide."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import POOL, QUIET, Guarded, Host, address, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import PowerOff, RaiseEpoch, SendOrder, StandDown
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.hello import Hello
from poolwarden_collector.core.model.host_facts import Tombstone
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.core.state.pool_record import PoolRecord, fold

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


class Remembering(Guarded):
    """Agents whose Hello tells what they have stored, as the real ones do."""

    def connect(self, host: Host, **changes: object) -> None:
        ends = [order for order in host.orders if order.kind_name in ("promote", "repoint")]
        told = {
            "highest_term": max((order.term for order in host.orders), default=0),
            "highest_epoch": 1 if host.orders else 0,
            "last_results": tuple(
                OrderOutcome(order.order_id, order.kind_name, End.DONE, replayed=True, term=order.term)
                for order in ends
            ),
            "tombstone": host.tombstone,
        }
        super().connect(host, **{**told, **changes})

    def restore(self, entries: int) -> None:
        """The collector starts from a journal that ends after ``entries`` entries."""
        self.now += 5_000
        self.journal[:] = self.journal[:entries]
        self.site = Site(2, self.now, self.now + QUIET)
        self.pool = Pool(fold(PoolRecord(POOL), self.journal), self.policy, self.pool.devices)
        for host in self.hosts:
            if host.agent:
                self.connect(host)

    def until(self, kind: Kind, ms: int = 60_000) -> int:
        """Run until this kind is journaled; how many entries there are before it."""
        for _ in range(ms // 250):
            if self.has(kind):
                return next(n for n, entry in enumerate(self.journal) if entry.kind is kind)
            self.run(250)
        raise AssertionError(f"no {kind.value}")


def orders_since(g: Guarded, mark: int) -> list[str]:
    return [e.order.kind_name for e in g.effects[mark:] if isinstance(e, SendOrder)]


# ------------------------------------------------------------------------------------------------ another collector


def test_a_higher_epoch_after_the_quiet_time_makes_this_collector_stand_down() -> None:
    """S57."""
    g = Guarded()
    g.connect(g.host(3), highest_epoch=9)
    assert [type(e) for e in g.effects if isinstance(e, StandDown)] == [StandDown]
    assert f"{POOL}/stale-epoch" in g.pool.record.open_alerts
    mark = len(g.effects)
    g.cut_power()
    g.run(120_000)
    assert orders_since(g, mark) == [] and not g.has(Kind.DECIDED)


def test_a_refusal_for_its_epoch_tells_the_same() -> None:
    g = Guarded()
    refusal = OrderOutcome("x", "repoint", End.REFUSED, "stale-epoch", epoch=9)
    g.feed(ev.OrderAnswered(uuid(2), g.host(2).stream, refusal))
    assert any(isinstance(e, StandDown) for e in g.effects) and g.has(Kind.STALE_EPOCH)


def test_every_pool_of_a_collector_that_stood_down_is_left_alone() -> None:
    """The pool that has heard nothing of it learns it from its site."""
    g = Guarded()
    g.site = replace(g.site, deposed="host-9 obeys another collector")
    mark = len(g.effects)
    g.cut_power()
    g.run(120_000)
    assert g.verdict == "MasterVanished" and not g.has(Kind.DECIDED)
    assert orders_since(g, mark) == [] and not [e for e in g.effects if isinstance(e, PowerOff)]
    reply = g.say("confirm-fenced", 1, how="cord pulled", typed_name="host-1")
    assert reply is not None and not reply.accepted and "stood down" in reply.text
    assert any("stood down" in why for why in status(g.pool, g.now, g.site).not_ready)


def test_a_failover_under_way_stands_still_when_another_collector_takes_over() -> None:
    g = Remembering()
    g.on_order = lambda host, order: None if order.kind_name == "promote" else g.default(host, order)
    g.cut_power()
    g.until(Kind.PROMOTE_INTENT)
    sent = len(g.promoted())
    g.site = replace(g.site, deposed="host-3 obeys another collector")
    g.run(120_000)
    assert len(g.promoted()) == sent


def test_a_renewed_quiet_time_is_no_start() -> None:
    g = Guarded()
    g.site = replace(g.site, quiet_until=g.now + 60_000)
    g.connect(g.host(3), highest_epoch=9)
    assert any(isinstance(e, StandDown) for e in g.effects) and not any(isinstance(e, RaiseEpoch) for e in g.effects)


# ------------------------------------------------------------------------------------------------ restored journals


def test_a_higher_term_is_a_restored_journal_quiet_for_long_and_above_it() -> None:
    g = Guarded()
    g.connect(g.host(3), highest_term=9)
    assert g.pool.record.term == 10 and g.has(Kind.RESTORED)
    assert g.pool.live.journal_gap.quiet_until - g.now == g.policy.quiet_time_restored
    g.connect(g.host(2), highest_term=9)
    assert g.has(Kind.OPINION_SETTLED)
    g.cut_power()
    g.run(g.policy.quiet_time_restored - 5_000)
    assert not g.has(Kind.DECIDED) and f"{POOL}/restored" in g.pool.record.open_alerts
    g.run(30_000)
    assert g.promoted() == [uuid(2)] and g.entry(Kind.PROMOTE_INTENT).term == 11


def test_one_hosts_word_on_the_past_has_everything_asked_until_a_person_has_taken_note() -> None:
    g = Guarded()
    g.connect(g.host(3), highest_term=9)
    g.cut_power()
    g.run(g.policy.quiet_time_restored + 60_000)
    assert not g.has(Kind.DECIDED) and g.pool.record.doubted == uuid(3)
    assert g.pool.record.question is not None and f"{POOL}/restored" in g.pool.record.open_alerts
    reply = g.say("acknowledge")
    assert reply is not None and reply.accepted and not g.pool.record.doubted
    g.run(60_000)
    assert g.promoted() == [uuid(2)]


def test_what_one_host_says_again_and_again_raises_nothing_and_keeps_nobody_quiet() -> None:
    g = Guarded()
    g.connect(g.host(3), highest_term=9)
    quiet = g.pool.live.journal_gap.quiet_until
    for n in range(1, 6):
        g.run(4_000)
        g.connect(g.host(3), highest_term=9 + 100 * n)
    assert g.kinds().count("journal-restored") == 1 and g.pool.record.term == 10
    assert g.pool.live.journal_gap.quiet_until == quiet


def test_numbers_that_this_collector_has_given_out_itself_are_no_second_opinion() -> None:
    g = Guarded()
    g.connect(g.host(3), highest_term=9)
    g.connect(g.host(2), highest_term=10, highest_epoch=g.site.epoch)
    assert g.pool.record.doubted == uuid(3)
    g.restart_collector()
    assert g.pool.record.doubted == uuid(3)


def test_a_host_raises_the_epoch_once_and_is_obeyed_by_another_collector_then() -> None:
    g = Guarded()
    g.restart_collector()
    g.connect(g.host(3), highest_epoch=40)
    g.connect(g.host(3), highest_epoch=80)
    assert [e.above for e in g.effects if isinstance(e, RaiseEpoch)] == [40]
    assert any(isinstance(e, StandDown) for e in g.effects)


def test_who_stood_down_at_one_hosts_word_takes_charge_again_at_a_persons() -> None:
    g = Guarded()
    g.connect(g.host(3), highest_epoch=g.site.epoch + 1)
    alert = next(e for e in g.journal if e.kind is Kind.ALERT and e.data["key"].endswith("/stale-epoch"))
    assert "poolwarden acknowledge" in alert.data["body"]
    reply = g.say("acknowledge")
    assert reply is not None and reply.accepted
    above = [e.above for e in g.effects if isinstance(e, RaiseEpoch)]
    assert (
        above == [g.pool.record.stale_epoch]
        and g.pool.live.journal_gap.quiet_until == g.now + g.policy.quiet_time_restored
    )
    g.site = replace(g.site, epoch=above[0] + 1)
    g.cut_power()
    g.run(g.policy.quiet_time_restored + 60_000)
    assert g.promoted() == [uuid(2)]


def test_the_same_is_told_once() -> None:
    g = Guarded()
    for _ in range(3):
        g.connect(g.host(3), highest_term=9)
        g.connect(g.host(2), highest_term=9)
        g.run(4_000)
    assert g.kinds().count("journal-restored") == 1
    g.run(g.policy.quiet_time_restored + 5_000)
    assert f"{POOL}/restored" not in g.pool.record.open_alerts


def test_a_higher_epoch_in_the_quiet_time_is_exceeded_and_makes_it_quiet_for_long() -> None:
    g = Guarded()
    g.restart_collector()
    g.connect(g.host(3), highest_epoch=40)
    assert [e.above for e in g.effects if isinstance(e, RaiseEpoch)] == [40]
    assert g.has(Kind.RESTORED) and not any(isinstance(e, StandDown) for e in g.effects)
    assert g.pool.live.journal_gap.quiet_until == g.now + g.policy.quiet_time_restored


def test_what_another_pools_host_has_raised_the_epoch_above_is_this_pools_lost_past_too() -> None:
    g = Guarded()
    g.restart_collector()
    first = g.site.epoch
    g.site = replace(g.site, epoch=41, raised=(first, 41))
    g.connect(g.host(3), highest_epoch=40)
    assert g.kinds().count("journal-restored") == 1 and g.pool.record.doubted == uuid(3)
    assert g.pool.live.journal_gap.quiet_until == g.now + g.policy.quiet_time_restored
    g.connect(g.host(2), highest_epoch=40)
    assert not g.pool.record.doubted and g.kinds().count("journal-restored") == 1
    quiet = g.pool.live.journal_gap.quiet_until
    g.run(4_000)
    g.connect(g.host(1), highest_epoch=40)
    assert g.pool.live.journal_gap.quiet_until == quiet, "one word of it is enough"
    assert not any(isinstance(e, RaiseEpoch | StandDown) for e in g.effects)


@pytest.mark.parametrize("obeyed", [1, 2, 41, 55])
def test_an_epoch_of_this_run_or_from_before_it_is_no_lost_past(obeyed: int) -> None:
    g = Guarded()
    g.restart_collector()
    g.site = replace(g.site, epoch=55, raised=(g.site.epoch, 41, 55))
    g.connect(g.host(3), highest_epoch=obeyed)
    assert not g.has(Kind.RESTORED)


def test_a_journal_from_before_a_promotion_finds_the_new_master_and_owes_the_old_one_its_tombstone() -> None:
    """h2 was promoted, the backup says that h1 is master. h1 is off and comes back later, untold."""
    g = Remembering()
    backup = len(g.journal)
    g.cut_power()
    g.until(Kind.CLOSED, 120_000)
    g.restore(backup)
    assert g.has(Kind.RESTORED) and g.pool.record.term > 2
    g.run(6_000)
    assert g.pool.record.master == uuid(2)
    assert [(item.host, item.what) for item in g.pool.record.owed] == [(uuid(1), "tombstone")]
    g.run(g.policy.quiet_time_restored)
    old = g.host(1)
    old.agent, old.answers, old.power, old.boot, old.serves = True, True, Power.ON, "boot-1-2", False
    g.connect(old)
    g.run(60_000)
    assert "set_tombstone" in [order.kind_name for order in old.orders]
    assert old.pool_conf is Role.MEMBER and old.master_address == address(2)
    assert g.promoted() == [uuid(2)]


def test_a_failover_left_open_by_a_backup_is_never_resumed() -> None:
    """The backup was taken when the failover was decided; in the world it has long been done, at the same term."""
    g = Remembering()
    g.cut_power()
    decided = g.until(Kind.CLAIMED)
    g.until(Kind.CLOSED, 120_000)
    g.restore(decided)
    failover = g.pool.record.failover
    assert failover is not None and failover.open and g.has(Kind.RESTORED)
    g.run(g.policy.quiet_time_restored + 30_000)
    failover = g.pool.record.failover
    assert failover is not None and failover.step in (Step.ABORTED, Step.SUPERSEDED)
    assert g.promoted() == [uuid(2)] and g.pool.record.master == uuid(2)


def test_a_lost_journal_learns_the_pool_anew() -> None:
    g = Remembering()
    g.cut_power()
    g.until(Kind.CLOSED, 120_000)
    g.restore(0)
    g.run(g.policy.quiet_time_restored + 10_000)
    assert g.pool.record.master == uuid(2) and g.has(Kind.RESTORED)
    assert g.pool.record.term > max(order.term for host in g.hosts for order in host.orders if host.n == 2)


def test_a_tombstone_that_nothing_accounts_for_is_owed_again_and_cleared() -> None:
    g = Guarded()
    host = g.host(3)
    host.tombstone = Tombstone(1, uuid(1))
    g.run(30_000)
    assert host.tombstone is None and not g.pool.record.owed


def test_results_of_failovers_that_the_journal_knows_are_no_gap() -> None:
    g = Remembering()
    g.cut_power()
    g.until(Kind.CLOSED, 120_000)
    for host in g.hosts[1:]:
        g.connect(host)
    g.restart_collector()
    g.run(10_000)
    assert not g.has(Kind.RESTORED)


def test_an_operators_change_owes_no_tombstone_to_anybody() -> None:
    """S79: who promoted h2 by hand has decided what the old master is; nothing is picked between two that serve."""
    g = Guarded()
    g.cut_power()
    host = g.host(2)
    host.pool_conf = host.running = Role.MASTER
    host.serves = True
    g.site = replace(g.site, quiet_until=g.now + 60_000)
    g.run(30_000)
    assert g.pool.record.master == uuid(2) and g.pool.record.owed == ()


def test_a_hello_says_what_the_record_compares() -> None:
    assert {"highest_epoch", "highest_term", "tombstone", "hold", "last_results"} <= set(Hello.__dataclass_fields__)


# ------------------------------------------------------------------------------------------------ entries that are lost


def short(g: Guarded) -> None:
    """This pool's journal has lost entries, as a start writes it."""
    g.journal.append(Entry(Kind.JOURNAL_SHORT, "", {}))
    g.pool = replace(g.pool, record=fold(g.pool.record, g.journal[-1:]))


def test_a_pool_of_which_entries_are_missing_is_told_with_the_command_that_ends_it() -> None:
    g = Guarded()
    short(g)
    key = f"{POOL}/journal-short"
    g.run(1_000)
    assert key in g.pool.record.open_alerts
    [body] = [e.data["body"] for e in g.journal if e.kind is Kind.ALERT and e.data["key"] == key]
    assert f"poolwarden acknowledge {g.pool.record.display_name}" in body
    assert g.say("acknowledge").accepted and g.has(Kind.JOURNAL_SHORT_OVER)
    g.run(1_000)
    assert not g.pool.record.short and key not in g.pool.record.open_alerts


def test_what_a_host_says_of_the_past_ends_it_before_anybody_is_told() -> None:
    g = Remembering()
    short(g)
    g.site = Site(1, g.now, g.now + QUIET)
    for host in g.hosts:
        g.connect(host, highest_epoch=9)
    g.run(1_000)
    assert not g.pool.record.short and f"{POOL}/journal-short" not in g.pool.record.open_alerts
