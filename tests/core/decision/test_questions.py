"""What is asked of an operator, what his yes covers, and what his no ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, played_once, running, uuid

from poolwarden_collector.core.decision.kill_forecast import kills_on
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.effects import PowerOff, Reply
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.transaction import Transaction


def said(g: Guarded, verb: str, **args: str) -> Reply:
    reply = g.say(verb, **args)
    assert reply is not None
    return reply


@played_once
def hung(policy: Policy | None = None) -> Guarded:
    """The master has vanished, its power reads ON, patience is over."""
    g = Guarded(policy=policy)
    g.host(1).domains = ("vm-1", "vm-2")
    g.run(4_000)
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(120_000)
    return g


@played_once
def at_stake(*vms: str) -> Guarded:
    """The master is off, and promoting anybody would kill these VMs, which run on host-3."""
    g = Guarded()
    put(g, *vms)
    g.run(4_000)
    g.cut_power()
    g.run(20_000)
    return g


def put(g: Guarded, *vms: str) -> None:
    """These VMs run on host-3, and every copy places them on host-2."""
    g.host(3).domains = vms
    file = PlacementView(True, 50, "state.db", tuple(running(vm, uuid(2), f"name-{vm}") for vm in vms))
    for n in (2, 3):
        g.host(n).placements = file


def shots(g: Guarded) -> list[PowerOff]:
    return [effect for effect in g.effects if isinstance(effect, PowerOff)]


def question(g: Guarded) -> Ask | None:
    return g.pool.record.question.kind if g.pool.record.question is not None else None


# ------------------------------------------------------------------------------------------------ the shot


def test_a_machine_that_reads_on_is_asked_about_with_what_is_at_stake() -> None:
    g = hung()
    asked = g.pool.record.question
    assert asked is not None and asked.kind is Ask.SHOOT and asked.needs.shoot
    stakes = " ".join(asked.stakes)
    assert "2 VMs were last seen running there" in stakes
    assert "host-2 would be promoted" in stakes and "as new as the master's" in stakes
    assert f"poolwarden approve {asked.id} --shoot" in g.entry(Kind.ASKED).text


def test_a_yes_without_the_shot_is_refused_with_the_command_that_would_do() -> None:
    g = hung()
    reply = said(g, "approve")
    assert not reply.accepted and reply.code == "more-at-stake" and reply.next_step.endswith("--shoot")
    assert not g.has(Kind.DECIDED)


@pytest.mark.parametrize("typed", ["", " ", "host-2", "HOST-1", uuid(2)])
def test_a_yes_to_a_shot_without_the_hosts_name_is_refused_with_the_command_that_would_do(typed: str) -> None:
    g = hung()
    reply = said(g, "approve", shoot="yes", typed_name=typed)
    assert (reply.accepted, reply.code) == (False, "name-not-typed") and "host-1 would be powered off" in reply.text
    assert "poolwarden approve" in reply.next_step and "--shoot" in reply.next_step
    assert reply.next_step.endswith("--name host-1") or typed
    g.run(30_000)
    assert not g.has(Kind.DECIDED) and shots(g) == []


def test_a_machines_uuid_is_as_good_as_its_name() -> None:
    assert said(hung(), "approve", shoot="yes", typed_name=uuid(1)).accepted


def test_an_approved_shot_is_fired_once_and_the_pool_heals() -> None:
    g = hung()
    assert said(g, "approve", shoot="yes", id="lab").accepted
    g.run(10_000)
    assert len(shots(g)) == 1
    g.host(1).power = Power.OFF
    g.feed(ev.FenceEnded(shots(g)[0].host, shots(g)[0].run_id, True, True, "Success: Powered OFF", g.now))
    g.run(30_000)
    assert g.promoted() == [uuid(2)]
    assert g.entry(Kind.APPROVED).actor == "alice" and g.entry(Kind.APPROVED).failover
    assert not [key for key in g.pool.record.open_alerts if "/question-" in key]


def test_an_approved_shot_meets_recovery_and_is_not_fired() -> None:
    """S19: the machine is back before the shot: given up at a new term, and the next time it is asked anew."""
    g = hung()
    g.auto_answer = False  # the claims are on their way
    assert said(g, "approve", shoot="yes").accepted
    g.host(1).agent = g.host(1).answers = True
    g.connect(g.host(1))
    g.auto_answer = True
    g.run(10_000)
    assert shots(g) == [] and g.has(Kind.ABORTED) and g.verdict == "Healthy"
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(140_000)
    assert shots(g) == [] and question(g) is Ask.SHOOT


def test_recovery_withdraws_the_question() -> None:
    g = hung()
    g.host(1).agent = g.host(1).answers = True
    g.connect(g.host(1))
    g.run(10_000)
    assert question(g) is None and g.has(Kind.WITHDRAWN) and g.verdict == "Healthy"
    assert said(g, "approve", shoot="yes").code == "nothing-asked"


@pytest.mark.slow
def test_a_denied_shot_is_not_asked_again_in_this_incident() -> None:
    g = hung()
    assert said(g, "deny", reason="the VMs matter more").accepted
    g.run(1_800_000)
    assert question(g) is None and not g.has(Kind.DECIDED) and shots(g) == []
    assert said(g, "approve", shoot="yes").code == "nothing-asked"
    g.host(1).agent = g.host(1).answers = True
    g.connect(g.host(1))
    g.run(10_000)
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(140_000)
    assert question(g) is Ask.SHOOT


def test_a_pause_withdraws_what_no_yes_could_change() -> None:
    g = hung()
    said(g, "pause", reason="rack work")
    g.run(1_000)
    assert question(g) is None
    said(g, "resume")
    g.run(1_000)
    assert question(g) is Ask.SHOOT


# ------------------------------------------------------------------------------------------------ kills


def test_a_kill_that_is_accepted_goes_on() -> None:
    g = at_stake("a")
    failover = g.pool.record.failover
    assert question(g) is Ask.KILL and failover is not None and failover.standstill.blocker == "BLOCKED_KILL_FORECAST"
    assert g.promoted() == []
    assert said(g, "approve", id=failover.id, accept_kill="1").accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]
    assert g.pool.record.failover is not None and g.pool.record.failover.step is Step.CLOSED


def test_three_are_at_stake_and_two_are_accepted() -> None:
    g = at_stake("a", "b", "c")
    reply = said(g, "approve", accept_kill="2")
    assert reply.code == "more-at-stake" and reply.next_step.endswith("--accept-kill 3")
    g.run(30_000)
    assert g.promoted() == []


@pytest.mark.parametrize("then", [("a", "b"), ("b",)])
def test_another_vm_at_stake_after_the_yes_is_asked_about_anew(then: tuple[str, ...]) -> None:
    """Accepted was one VM, by name: neither a second one nor another one is covered."""
    g = at_stake("a")
    g.host(1).power = Power.UNKNOWN  # the proof is held up
    g.run(20_000)
    assert said(g, "approve", accept_kill="1").accepted
    g.run(5_000)
    assert question(g) is None
    put(g, *then)
    for n in (2, 3):
        g.host(n).generation += 1
    g.run(5_000)
    g.host(1).power = Power.OFF
    g.run(30_000)
    assert g.promoted() == [] and question(g) is Ask.KILL
    asked = g.pool.record.question
    assert asked is not None and asked.vms == then


def test_a_forecast_that_clears_up_needs_no_answer() -> None:
    g = at_stake("a")
    g.host(3).domains = ()
    g.run(30_000)
    assert g.promoted() == [uuid(2)] and question(g) is None


def test_a_denied_kill_aborts_and_is_not_asked_again() -> None:
    g = at_stake("a")
    assert said(g, "deny").accepted
    first = g.pool.record.failover
    assert first is not None and first.step is Step.ABORTED
    asked = g.pool.record.asked.number
    g.run(120_000)
    assert g.promoted() == [] and question(g) is None and g.pool.record.asked.number == asked
    again = g.pool.record.failover
    assert again is not None and again.open and "denied by alice" in again.standstill.why


@pytest.mark.slow
def test_a_denied_kill_is_asked_again_when_another_vm_is_at_stake() -> None:
    g = at_stake("a")
    said(g, "deny")
    put(g, "a", "b")
    g.run(60_000)
    assert question(g) is Ask.KILL


def test_an_acknowledgement_lets_what_was_denied_be_asked_again() -> None:
    g = at_stake("a")
    said(g, "deny")
    g.run(60_000)
    assert said(g, "acknowledge").accepted
    g.run(1_000)
    assert question(g) is Ask.KILL


@pytest.mark.slow
def test_an_unanswered_question_expires_and_is_asked_anew() -> None:
    g = at_stake("a")
    first = g.pool.record.question
    assert first is not None
    g.run(g.policy.question_expiry)
    second = g.pool.record.question
    assert g.has(Kind.EXPIRED) and second is not None and second.number == first.number + 1
    open_now = [key for key in g.pool.record.open_alerts if "/question-" in key]
    assert len(open_now) == 1 and open_now[0].endswith(f"/question-{second.number}")


@pytest.mark.slow
def test_a_yes_expires_before_it_is_used() -> None:
    """Accepted, then the old master's power cannot be read any more: a quarter of an hour later it is asked again."""
    g = at_stake("a")
    g.host(1).power = Power.UNKNOWN
    g.run(10_000)
    assert said(g, "approve", accept_kill="1").accepted
    g.run(30_000)
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"
    g.run(g.policy.approval_valid)
    assert question(g) is Ask.KILL and g.promoted() == []


def test_a_restart_between_the_yes_and_the_promotion_asks_again() -> None:
    g = at_stake("a")
    g.host(1).power = Power.UNKNOWN
    g.run(10_000)
    said(g, "approve", accept_kill="1")
    g.run(5_000)
    g.restart_collector()
    g.host(1).power = Power.OFF
    g.run(60_000)
    failover = g.pool.record.failover
    assert failover is not None and failover.approval is not None and failover.open
    assert question(g) is Ask.KILL and g.promoted() == []
    assert said(g, "approve", accept_kill="1").accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_question_outlives_the_collector_under_the_same_id() -> None:
    g = hung()
    before = g.pool.record.question
    assert before is not None
    g.restart_collector()
    assert said(g, "approve", shoot="yes", id=before.id).code == "held"  # quiet time
    g.run(QUIET + 120_000)
    assert g.pool.record.question is not None
    assert said(g, "approve", shoot="yes", id=g.pool.record.question.id).accepted


def test_an_answer_to_another_question_is_refused() -> None:
    g = at_stake("a")
    assert said(g, "approve", id="aaaaaaaa-9.9", accept_kill="1").code == "wrong-question"
    assert said(g, "deny", id="aaaaaaaa-9.9").code == "wrong-question"
    assert said(g, "approve", accept_kill="-1").code == "bad-number"


# ------------------------------------------------------------------------------------------------ mode and cool-down

ASKS = Policy(mode="ask", quiet_time=QUIET)


def test_mode_ask_fails_over_only_with_a_word() -> None:
    g = Guarded(policy=ASKS)
    g.cut_power()
    g.run(60_000)
    assert question(g) is Ask.FAILOVER and not g.has(Kind.DECIDED)
    assert said(g, "approve").accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]
    assert g.entry(Kind.APPROVED).data["overruled"] == "the pool's mode is ask"


def test_mode_ask_asks_again_after_a_restart_in_the_middle() -> None:
    g = Guarded(policy=ASKS)
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    g.run(20_000)
    assert said(g, "approve").accepted
    g.run(10_000)
    g.restart_collector()
    g.host(1).power = Power.OFF
    g.run(60_000)
    assert g.promoted() == [] and question(g) is Ask.FAILOVER
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_UNAPPROVED"
    assert said(g, "approve").accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_mode_ask_shoots_nobody_by_policy() -> None:
    g = hung(Policy(mode="ask", auto_fence_running=True, quiet_time=QUIET))
    assert question(g) is Ask.SHOOT and shots(g) == []
    assert said(g, "approve").code == "more-at-stake"


def test_mode_ask_restarts_a_masters_xapi_with_a_word() -> None:
    g = Guarded(policy=ASKS)
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.answers = False
    host.unwell_since = g.now
    g.run(160_000)
    assert question(g) is Ask.RESTART and not [o for o in host.orders if o.kind_name == "restart_xapi"]
    assert said(g, "approve").accepted
    g.run(1_000)
    assert [o for o in host.orders if o.kind_name == "restart_xapi"]


def test_mode_observe_asks_nothing() -> None:
    g = Guarded(policy=Policy(mode="observe", quiet_time=QUIET))
    g.cut_power()
    g.run(60_000)
    assert question(g) is None and not g.has(Kind.DECIDED)
    assert "mode is observe" in g.entry(Kind.ASKED).text
    assert said(g, "approve").code == "nothing-asked"


@played_once
def cooled() -> Guarded:
    """A pool whose new master is lost during the cool-down (S58)."""
    g = Guarded()
    g.cut_power()
    g.run(60_000)
    assert g.pool.record.cooldown
    g.cut_power(2)
    g.run(60_000)
    return g


def test_the_cool_down_holds_and_asks() -> None:
    g = cooled()
    assert question(g) is Ask.FAILOVER and g.promoted() == [uuid(2)]
    assert said(g, "approve").accepted
    g.run(60_000)
    assert g.promoted() == [uuid(2), uuid(3)]
    assert "cool-down" in g.entry(Kind.APPROVED).data["overruled"]


def test_an_acknowledgement_ends_the_cool_down() -> None:
    g = cooled()
    assert said(g, "acknowledge").accepted
    g.run(60_000)
    assert g.promoted() == [uuid(2), uuid(3)]
    assert Guarded().say("acknowledge").code == "no-cooldown"  # type: ignore[union-attr]


def test_what_no_yes_overrules() -> None:
    g = at_stake("a")
    said(g, "pause", reason="stop")
    assert said(g, "approve", accept_kill="1").code == "held"
    said(g, "resume")
    g.site = replace(g.site, blind="no anchor answers")
    assert said(g, "approve", accept_kill="1").code == "held"


# ------------------------------------------------------------------------------------------------ sameness


def test_another_host_is_another_reason_and_another_number_of_seconds_is_not() -> None:
    one = Reason(Cause.NOT_HEARD, "host-2 is not heard for 3 s", ("host-2",))
    assert one == Reason(Cause.NOT_HEARD, "host-2 is not heard for 4 s", ("host-2",))
    other = Reason(Cause.NOT_HEARD, "host-3 is not heard for 3 s", ("host-3",))
    assert one != other and one.key != other.key


def test_a_yes_to_the_old_question_is_refused_with_the_command_for_the_new_one() -> None:
    g = at_stake("a")
    first = g.pool.record.question
    assert first is not None
    put(g, "b")
    for n in (2, 3):
        g.host(n).generation += 1
    g.run(30_000)
    second = g.pool.record.question
    assert second is not None and second.id != first.id and second.vms == ("b",)
    for wanted in (first.id, ""):
        reply = said(g, "approve", id=wanted, accept_kill="1")
        assert reply.code == "wrong-question" and f"approve {second.id} --accept-kill 1" in reply.next_step
    g.run(10_000)
    assert g.promoted() == []
    assert said(g, "approve", id=second.id, accept_kill="1").accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_number_without_a_question_that_named_vms_covers_none() -> None:
    """Two VMs accepted beforehand, with the shot: which ones nobody has said, so they are asked about by name."""
    g = hung()
    put(g, "a")
    g.run(5_000)
    assert said(g, "approve", shoot="yes", accept_kill="2").accepted
    g.run(30_000)
    assert g.promoted() == [] and question(g) is Ask.KILL


def test_two_grounds_that_alternate_make_no_storm() -> None:
    g = at_stake("a")
    before = g.pool.record.asked.number
    for round_ in range(60):
        put(g, "ab"[round_ % 2])
        for n in (2, 3):
            g.host(n).generation += 1
        g.run(500)
    assert g.pool.record.asked.number - before <= 4


def test_running_vms_that_were_told_long_ago_are_not_known() -> None:
    g = Guarded()
    put(g, "a")
    g.run(4_000)
    agent, file = g.pool.live.agents[uuid(3)], g.host(3).placements
    old = replace(agent.facts.observed, host=g.now - g.policy.reading_fresh - 1)
    agents = {**g.pool.live.agents, uuid(3): replace(agent, facts=replace(agent.facts, observed=old))}
    tx = Transaction(replace(g.pool, live=replace(g.pool.live, agents=agents)), g.now, g.site)
    found = kills_on(tx, uuid(3), file)
    assert isinstance(found, Reason) and found.code is Cause.OLD_FACTS
