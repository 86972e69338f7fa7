"""A silent host that counts as off: by its power, or by a person's word, which any later sign of life ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, address, played_once, uuid

from poolwarden_collector.core.evidence.fenced_hosts import excused
from poolwarden_collector.core.evidence.operator_confirmation import spoken
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.order_results import OrderOutcome, RoleAnswer, RoleClaim
from poolwarden_collector.core.model.order_results import Outcome as OrderEnd
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.state.live import PoolLive, Site
from poolwarden_collector.core.state.transaction import Transaction


@played_once
def dark(n: int = 3, power: Power = Power.UNKNOWN, **pool: bool) -> Guarded:
    """A healthy pool in which one member is silent altogether, and what its device says."""
    g = Guarded(**pool)
    g.cut_power(n)
    g.host(n).power = power
    g.run(30_000)
    return g


def draft(g: Guarded) -> Transaction:
    return Transaction(g.pool, g.now, g.site)


def confirm(g: Guarded, n: int = 3, **more: str) -> Reply:
    reply = g.say("confirm-fenced", n, typed_name=f"host-{n}", how="cord pulled", **more)
    assert reply is not None
    return reply


def restart(g: Guarded) -> None:
    """The collector is started again: its record is what its journal folds to."""
    epoch = g.site.epoch + 1
    g.site = Site(epoch, g.now, g.now + QUIET)
    g.pool = replace(g.pool, live=PoolLive())
    for host in g.hosts:
        if host.agent:
            g.connect(host)


def over(g: Guarded) -> bool:
    return uuid(3) not in g.pool.record.confirmed


def test_the_word_about_a_silent_member_stands_and_decides_nothing_else() -> None:
    g = dark()
    assert not excused(draft(g), uuid(3))
    assert confirm(g).accepted and "alice" in excused(draft(g), uuid(3))
    assert g.pool.record.failover is None and not excused(draft(g), uuid(2))
    g.run(60_000)
    assert excused(draft(g), uuid(3)) and not g.promoted()


def test_it_survives_the_collector_where_it_only_excuses_and_is_no_proof_any_more() -> None:
    g = dark(devices=False)
    confirm(g)
    assert spoken(draft(g), uuid(3)) is not None
    restart(g)
    g.run(20_000)
    assert excused(draft(g), uuid(3)) and spoken(draft(g), uuid(3)) is None


@pytest.mark.slow
def test_as_a_proof_it_has_its_time() -> None:
    g = dark(devices=False)
    confirm(g)
    g.run(g.policy.human_proof_fresh + 1_000)
    assert excused(draft(g), uuid(3)) and spoken(draft(g), uuid(3)) is None


@pytest.mark.parametrize("sign", ["stream", "report", "challenge", "probe", "role", "acts"])
@pytest.mark.parametrize("restarted", [False, True])
def test_any_later_sign_of_life_ends_it(sign: str, restarted: bool) -> None:
    g = dark(devices=False)
    confirm(g)
    if restarted:
        restart(g)
        g.run(5_000)
    assert not over(g)
    host = g.host(3)
    if sign == "stream":
        g.connect(host)
    elif sign == "report":
        g.connect(host)
        g.report(host)
    elif sign == "challenge":
        g.feed(ev.ChallengeAnswered(host.uuid, "n@1", host.boot))
        if restarted:
            return  # an agent that this run has never heard has no stream to answer on
    elif sign == "probe":
        host.answers = True
        g.run(4_000)
    else:
        said = RoleClaim.FOLLOWS if sign == "role" else RoleClaim.ACTS
        answer = OrderOutcome("o", "probe_now", OrderEnd.DONE, roles=(RoleAnswer(host.uuid, said, address(1)),))
        g.feed(ev.OrderAnswered(uuid(2), g.host(2).stream, answer))
    assert over(g) and g.entry(Kind.HOST_CONFIRMED_OVER).data["host"] == uuid(3)
    assert not excused(draft(g), uuid(3))


@pytest.mark.parametrize("said", [RoleClaim.SILENT, RoleClaim.UNTOLD])
def test_neither_a_silence_ends_it_nor_that_the_host_is_there_and_tells_nothing(said: RoleClaim) -> None:
    """A network card that the BMC shares goes on answering pings; the word is about just that host, and is accepted."""
    g = dark(devices=False)
    answer = OrderOutcome("o", "probe_now", OrderEnd.DONE, roles=(RoleAnswer(uuid(3), said),))
    g.feed(ev.OrderAnswered(uuid(2), g.host(2).stream, answer))
    assert confirm(g).accepted
    g.feed(ev.OrderAnswered(uuid(2), g.host(2).stream, answer))
    assert not over(g) and excused(draft(g), uuid(3))


def test_it_is_refused_while_the_host_gives_any_sign_of_life() -> None:
    g = Guarded()
    assert confirm(g).code == "agent-alive"
    host = g.host(3)
    host.agent = False
    g.feed(ev.AgentGone(host.uuid, host.stream))
    g.run(20_000)
    assert confirm(g).code == "xapi-alive"
    host.answers = False
    g.run(4_000)
    answer = OrderOutcome(
        "o", "probe_now", OrderEnd.DONE, roles=(RoleAnswer(host.uuid, RoleClaim.FOLLOWS, address(1)),)
    )
    g.feed(ev.OrderAnswered(uuid(2), g.host(2).stream, answer))
    assert confirm(g).code == "xapi-alive" and over(g)


def test_a_power_that_reads_on_ends_it_unless_the_operator_knows() -> None:
    g = dark(power=Power.ON)
    assert confirm(g).accepted  # nobody has read it since the host fell silent
    g.run(5_000)
    assert over(g) and "reads ON" in g.entry(Kind.HOST_CONFIRMED_OVER).text
    assert confirm(g).code == "power-on" and over(g)
    assert confirm(g, despite_power_on="yes").accepted
    g.run(60_000)
    assert excused(draft(g), uuid(3))


def test_a_power_that_reads_on_later_makes_it_worthless() -> None:
    g = dark(power=Power.UNKNOWN)
    confirm(g)
    g.run(5_000)
    assert excused(draft(g), uuid(3))
    g.host(3).power = Power.ON
    g.run(60_000)
    assert not excused(draft(g), uuid(3))


def test_a_reading_from_before_the_silence_does_not_contradict_it() -> None:
    g = dark(power=Power.UNKNOWN)
    readings = g.pool.live.power["bmc-3"].readings
    assert readings and readings[-1].power is Power.ON
    assert confirm(g).accepted and not g.pool.record.confirmed[uuid(3)].despite_power_on


def test_a_power_that_can_be_read_is_enough_by_itself() -> None:
    g = dark(power=Power.OFF)
    confirm(g)
    g.run(10_000)
    assert excused(draft(g), uuid(3)) == "the power of host-3 reads OFF"


def test_words_about_other_hosts_and_half_words_are_refused() -> None:
    g = dark()
    said = g.say("confirm-fenced", 3, typed_name="host-2", how="cord pulled")
    assert said is not None and said.code == "name-differs"
    said = g.say("confirm-fenced", 3, typed_name="host-3", how=" ")
    assert said is not None and said.code == "no-reason"
    said = g.say("confirm-fenced", 9, typed_name=uuid(9), how="cord pulled")
    assert said is not None and said.code == "unknown-host"
