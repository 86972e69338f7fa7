"""Attacks on liveness (I13): a pool without a master that stands still must say why, and leave a person a way out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, Host, address, uuid
from tests.core.test_adversarial_proof import lose, until

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import PowerOff
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.pool_record import Owed, OwedWork, apply

pytestmark = pytest.mark.slow  # minutes of a pool's life in each


def alerts(g: Guarded) -> list[Entry]:
    return [e for e in g.journal if e.kind is Kind.ALERT]


def blocked(g: Guarded) -> str:
    failover = g.pool.record.failover
    return failover.standstill.blocker if failover is not None else ""


def refuse(g: Guarded, kind: str, n: int, reason: str = "storage") -> None:
    def answer(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == kind and host.n == n:
            return OrderOutcome(order.order_id, kind, End.REFUSED, reason, f"refused: {reason}", term=order.term)
        return g.default(host, order)

    g.on_order = answer


def test_a_claim_that_was_lost_is_asked_again() -> None:
    """Two hosts. The one claim was dropped on its way (the shell drops orders whose commit was slow and relies on the
    engine to ask again). The stream stays up."""
    g = Guarded(hosts=2)
    lost = []

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "claim" and not lost:
            lost.append(order)
            return None
        return g.default(host, order)

    g.on_order = answer
    g.cut_power()
    g.run(90_000)
    assert g.promoted() == [uuid(2)]


def test_claims_that_are_refused_by_everybody_are_a_named_blocker() -> None:
    """The only member cannot store the term (its slots cannot be read). The failover must not stand in silence."""
    g = Guarded(hosts=2)
    refuse(g, "claim", 2)
    g.cut_power()
    g.run(90_000)
    assert g.promoted() == []
    assert blocked(g), "DECIDED for 90 s without a word"
    assert any("storage" in e.data["body"] for e in alerts(g))


def test_a_candidate_that_never_answers_the_last_look_is_a_named_blocker_or_replaced() -> None:
    """host-2 answers its claim and no probe_now. host-3 would do as well."""
    g = Guarded()

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        return None if order.kind_name == "probe_now" and host.n == 2 else g.default(host, order)

    g.on_order = answer
    g.cut_power()
    g.run(120_000)
    assert g.promoted() == [uuid(3)] or blocked(g)


def test_a_new_master_that_dies_before_its_members_are_back_is_not_waited_for_in_silence() -> None:
    """PROMOTED, then the new master loses power as well, before host-3 is back. Either host-3 succeeds it, or a person
    is told what stands against it and can confirm."""
    g = Guarded()
    lose(g, "repoint")
    g.cut_power()
    until(g, Kind.PROMOTED)
    g.cut_power(2)
    g.run(300_000)
    assert g.verdict == "MasterVanished"
    if uuid(3) not in g.promoted():
        assert g.has(Kind.ASKED) or blocked(g), "no blocker named for 5 minutes"
        said = g.say("confirm-fenced", 2, typed_name="host-2", how="cord pulled")
        assert said is not None and said.accepted, said


def test_the_alert_names_the_blocker_of_now_not_the_first_one() -> None:
    """Cool-down when the new master dies; an hour later it is over, and only then too few members are heard. The alert
    still says "cool-down, 59 min left"."""
    g = Guarded(hosts=3, policy=Policy(quiet_time=QUIET, min_survivors=2, cooldown=60_000))
    g.cut_power()
    until(g, Kind.CLOSED)
    g.run(8_000)
    g.cut_power(2)
    until(g, Kind.ASKED)
    g.run(90_000)
    assert g.promoted() == [uuid(2)]
    asked = [e.text for e in g.journal if e.kind is Kind.ASKED]
    assert any("members are heard" in text for text in asked), asked


def test_a_vanished_master_of_a_paused_pool_says_that_the_pause_stands_against_it() -> None:
    """Paused for rack work, forgotten. The master dies for good."""
    g = Guarded()
    g.say("pause", reason="rack work")
    g.cut_power()
    g.run(60_000)
    assert any("paused" in e.data["body"] for e in alerts(g))


def test_silence_without_any_standing_is_not_suspected_for_ever() -> None:
    """No fence device answers and no member has standing: Suspect permits nothing, tells nobody, and refuses the one
    person who could help."""
    g = Guarded()
    g.journal = [e for e in g.journal if e.kind is not Kind.STANDING]
    g.pool = replace(g.pool, record=replace(g.pool.record, standing={}))
    g.host(1).power = Power.UNKNOWN
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    g.run(600_000)
    assert g.promoted() == []
    assert alerts(g), f"{g.verdict} for ten minutes, and nobody was told"
    said = g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    assert said is not None and said.accepted, said


def test_a_pool_that_never_showed_a_master_is_alerted() -> None:
    """The collector is installed while the master is dead already: Learning, for ever, without a word."""

    class Orphans(Guarded):
        def connect(self, host: Host, **changes: object) -> None:
            if host.n == 1:
                host.agent, host.answers, host.power = False, False, Power.OFF
                return
            super().connect(host, **changes)

    g = Orphans()
    g.run(900_000)
    assert alerts(g), g.verdict


def test_a_refused_promotion_alerts_once_and_not_every_five_seconds() -> None:
    """The candidate refuses for good. One alert, one blocker."""
    g = Guarded()
    refuse(g, "promote", 2, "tombstoned")
    g.cut_power()
    until(g, Kind.PROMOTE_INTENT)
    g.run(60_000)
    assert blocked(g) == "BLOCKED_PROMOTE_REFUSED"
    assert len([e for e in alerts(g) if "PROMOTE_REFUSED" in e.data["key"]]) == 1


def test_the_alert_of_an_earlier_blocker_does_not_stay_open() -> None:
    """POWER_ON, then NEEDS_HUMAN, then done: both alerts must be over."""
    g = Guarded()
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    until(g, Kind.BLOCKED)
    g.host(1).power = Power.ON
    g.run(40_000)
    assert blocked(g) == "BLOCKED_POWER_ON"
    g.host(1).power = Power.OFF
    until(g, Kind.CLOSED)
    g.run(4_000)
    assert [key for key in g.pool.record.open_alerts if "BLOCKED" in key] == []


def test_a_failed_promotion_ends_when_the_old_master_serves_again() -> None:
    """The candidate's xapi refused the call outright (FAILED, still a member). The old master is powered on and serves.
    The failover must end: while it is open no later death of the master can be healed."""
    g = Guarded()

    def answer(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "promote":
            return OrderOutcome(order.order_id, "promote", End.FAILED, "xapi-error", "no", term=order.term)
        return g.default(host, order)

    g.on_order = answer
    g.cut_power()
    until(g, Kind.PROMOTE_ANSWER)
    old = g.host(1)
    old.agent, old.answers, old.boot, old.power = True, True, "boot-1-2", Power.ON
    g.connect(old)
    g.run(300_000)
    failover = g.pool.record.failover
    assert failover is not None and failover.step is Step.SUPERSEDED


def test_a_restart_is_not_refused_for_the_quiet_time_and_then_silent_about_the_real_reason() -> None:
    """The collector starts while the master's xapi hangs and / is full: the alert must name the disk, not the quiet
    time."""
    g = Guarded()
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since = g.now
    host.free = 0
    g.run(100_000)
    g.now += 40_000
    g.restart_collector()
    g.run(60_000)
    asked = [e.text for e in g.journal if e.kind is Kind.ASKED]
    assert any("no room" in text for text in asked), asked
    assert not any("quiet" in e.data["body"] for e in alerts(g))


def test_a_question_is_asked_once_and_not_at_every_step() -> None:
    """A hung master whose restart is not safe: one question in the journal, not two synchronous commits per tick."""
    g = Guarded()
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since = g.now
    host.free = 0
    g.run(180_000)
    asked, decided = ([e for e in g.journal if e.kind is kind] for kind in (Kind.ASKED, Kind.DECIDED))
    assert 0 < len(asked) <= len(decided) <= 3, "once for each failover that was given up in between"
    assert not g.has(Kind.WITHDRAWN)


def test_nothing_is_repointed_to_a_master_that_has_vanished() -> None:
    """host-3 is owed its repointing to host-2; it returns when host-2 is dead as well. Its xapi must not be restarted
    towards a dead address: it is the last candidate."""
    g = Guarded(hosts=4)
    g.host(3).agent = False
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    g.run(10_000)
    g.cut_power()
    g.run(20_000)
    g.say("approve")  # its xapi answers: another collector might hear it
    until(g, Kind.CLOSED)
    assert [item.host for item in g.pool.record.owed if item.what is OwedWork.REPOINT] == [uuid(3)]
    g.cut_power(2)
    g.run(20_000)
    assert g.verdict == "MasterVanished"
    third = g.host(3)
    third.agent = True
    g.connect(third)
    g.run(20_000)
    assert "repoint" not in [o.kind_name for o in third.orders]


def test_a_master_that_its_successor_follows_is_not_tombstoned() -> None:
    """host-1 was superseded by host-2 and came back by hand: the operator designated it master again while its agent
    was down. host-2 itself says that it is a member of host-1: adopt host-1, do not point it at its own member."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.CLOSED)
    g.run(30_000)
    old, second, third = g.host(1), g.host(2), g.host(3)
    old.answers, old.power, old.boot = True, Power.ON, "boot-1-2"
    for host in (second, third):
        host.pool_conf = host.running = Role.MEMBER
        host.serves, host.master_address = False, address(1)
    g.run(10_000)
    old.agent = True
    g.connect(old)
    g.run(60_000)
    assert [o.kind_name for o in old.orders] == []
    assert g.pool.record.master == uuid(1)


def test_a_superseded_master_that_serves_again_does_not_supersede_the_next_failover() -> None:
    """host-2 (the new master) dies, host-1 (owed its tombstone) boots and serves with its old database: not a master to
    bow to, and not a reason to decide and end failovers four times a second."""
    g = Guarded(policy=Policy(quiet_time=QUIET, cooldown=20_000))
    g.cut_power()
    until(g, Kind.CLOSED)
    g.run(30_000)
    g.host(2).agent, g.host(2).answers, g.host(2).power = False, False, Power.OFF
    g.feed(ev.AgentGone(uuid(2), g.host(2).stream))
    lose(g, "set_tombstone")
    old = g.host(1)
    old.agent, old.answers, old.boot, old.power = True, True, "boot-1-2", Power.ON
    g.connect(old)
    g.run(20_000)
    assert len([e for e in g.journal if e.kind is Kind.SUPERSEDED]) <= 1


def test_owed_work_of_an_older_failover_leaves_the_open_one_alone() -> None:
    """A repoint owed from failover 1 is journaled while failover 2 is open: it must not count as failover 2's."""
    g = Guarded()
    g.cut_power()
    until(g, Kind.DECIDED)
    record = g.pool.record
    record = replace(record, owed=(Owed(uuid(3), OwedWork.REPOINT, uuid(2), 1),))
    entry = Entry(Kind.REPOINT_INTENT, "owed", {"host": uuid(3), "order": "owed/1/repoint/x.1"}, "", 1)
    after = apply(record, entry).failover
    assert after is not None and after.members.repointing == {}


def test_a_host_that_was_ejected_from_the_pool_is_not_missed_for_ever() -> None:
    """pool-eject of host-3: the master's own database does not know it any more."""
    g = Guarded()
    gone = g.host(3)
    gone.agent = gone.answers = False
    g.feed(ev.AgentGone(uuid(3), gone.stream))
    g.hosts = g.hosts[:2]
    g.run(120_000)
    assert g.verdict == "Healthy"


def test_a_machine_that_was_shot_twice_in_vain_is_not_said_to_be_spared_by_policy() -> None:
    """auto_fence_running is on, two power-offs "succeeded", it reads ON. The alert must say that, not "not shot by
    policy"."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.ON
    answered: set[str] = set()
    for _ in range(800):
        for shot in [e for e in g.effects if isinstance(e, PowerOff) and e.run_id not in answered]:
            answered.add(shot.run_id)
            g.feed(ev.FenceEnded(shot.host, shot.run_id, True, True, "Success: Powered OFF", g.now))
        g.run(250)
    assert len(answered) == 2
    failover = g.pool.record.failover
    assert failover is not None and "not shot by policy" not in failover.standstill.why


def test_the_result_of_a_power_off_is_recorded_though_its_failover_was_aborted() -> None:
    """I12: the master woke while the off was under way: aborted. The run's result comes a second later: it was an
    automatic action, and its result belongs in the journal (the host may be gone in a moment)."""
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.ON
    until(g, Kind.FENCE_INTENT)
    shot = next(e for e in g.effects if isinstance(e, PowerOff))
    g.host(1).agent = g.host(1).answers = True
    g.connect(g.host(1))
    g.run(4_000)
    assert g.has(Kind.ABORTED)
    g.feed(ev.FenceEnded(shot.host, shot.run_id, True, True, "Success: Powered OFF", g.now))
    assert g.has(Kind.FENCE_RESULT)


def test_facts_that_an_agent_has_not_renewed_for_minutes_are_not_fresh() -> None:
    """The master's agent reports on, but its observer thread has hung (dom0's disk stalls): every report repeats
    "answers, serves as master" from ten minutes ago. That is not Healthy."""
    g = Guarded()
    frozen_at = g.now
    plain = g.facts

    def facts(host: Host):  # type: ignore[no-untyped-def]
        seen = plain(host)
        if host.n != 1:
            return seen
        return replace(seen, observed=replace(seen.observed, xapi=frozen_at, probes=frozen_at, pool_view=frozen_at))

    g.facts = facts  # type: ignore[method-assign]
    g.run(600_000)
    assert g.verdict != "Healthy"


def test_standing_is_not_given_for_an_answer_from_before_the_master_took_the_role() -> None:
    """host-3's cached probe of host-2 is from long before host-2 was promoted; it never reached it since."""
    g = Guarded()
    stale = g.now
    g.cut_power()
    until(g, Kind.PROMOTED)
    third = g.host(3)
    facts = g.facts(third)
    probes = tuple(replace(p, probed_at=stale, answered_at=stale) if p.target == uuid(2) else p for p in facts.probes)
    g.pool = replace(g.pool, record=replace(g.pool.record, standing={}))
    g.journal = [e for e in g.journal if e.kind is not Kind.STANDING]
    g.now += 100
    g.feed(ev.AgentReported(uuid(3), third.stream, replace(facts, probes=probes)))
    assert uuid(3) not in g.pool.record.standing
