"""The last look, and what is waited for in it: each ground alone. As in ``test_each_condition.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.failover.test_reversals import intended
from tests.core.known import Change, after, both, facts, failover_of, hello, live, look, of_role, record, same, silent
from tests.core.pool import Guarded, address, uuid

from poolwarden_collector.core.evidence.proof import Proof, find_proof, paired_since
from poolwarden_collector.core.failover import last_look as looks
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.host_facts import Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import RoleAnswer, RoleClaim
from poolwarden_collector.core.model.power import FenceDevice
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.reasons import Cause
from poolwarden_collector.core.model.values import Ms, Role
from poolwarden_collector.core.state.failover_record import HeldMaster
from poolwarden_collector.core.state.live import Pool
from poolwarden_collector.core.state.live_slices import (
    CollectorProbe,
    CollectorProbes,
    FencedHosts,
    LastLook,
    Look,
    Phases,
)
from poolwarden_collector.core.state.pool_record import Confirmed


@pytest.fixture(scope="module")
def due() -> Guarded:
    """A promotion that is to be sent: the proof by power stands, the look after it was answered by both members."""
    g = intended()
    g.run(1_000)
    return g


def proof_of(g: Guarded, kind: ProofKind = ProofKind.POWER) -> Proof:
    found = find_proof(after(g, same), failover_of(g))
    assert isinstance(found, Proof)
    found.kind = kind
    return found


# ------------------------------------------------------------------------------------------------ what is against it


def against(g: Guarded, change: Change, kind: ProofKind = ProofKind.POWER) -> str:
    """Why it is not sent; empty: nothing stands against it."""
    proof = proof_of(g, kind)
    refusal = looks.last_look(after(g, change), failover_of(g), proof)
    return "" if refusal is None else refusal.code.name


def back(boot: str = "boot-1-1") -> Change:
    """The old master's agent is heard."""

    def changed(pool: Pool) -> Pool:
        agent = pool.live.agents[uuid(1)]
        late = max(a.last_heard for a in pool.live.agents.values())
        agents = {**pool.live.agents, uuid(1): replace(agent, connected=True, last_heard=late)}
        quiet = of_role(1, pool_conf=Role.MEMBER, running=Role.MEMBER, serves_as_master=False)
        return both(live(agents=agents), hello(1, boot_id=boot), quiet)(pool)

    return changed


def test_nothing_stands_against_it(due: Guarded) -> None:
    assert against(due, same) == ""


def test_one_that_serves_or_is_set_to_stands_against_it(due: Guarded) -> None:
    assert against(due, of_role(3, serves_as_master=True)) == Cause.SERVES.name
    assert against(due, of_role(2, serves_as_master=True)) == ""  # the candidate itself
    for other in ({"pool_conf": Role.MASTER}, {"running": Role.MASTER}):
        assert against(due, of_role(3, **other)) not in ("", Cause.SERVES.name)
        assert against(due, of_role(2, **other)) == ""


def test_the_old_master_in_another_boot_stands_against_it_unless_that_is_the_proof(due: Guarded) -> None:
    for agent in (hello(1, boot_id="boot-1-2"), back("boot-1-2")):
        assert against(due, agent) == Cause.BOOTED.name
        assert against(due, agent, ProofKind.REBOOTED) == ""
    forgotten = {host: agent for host, agent in due.pool.live.agents.items() if host != uuid(1)}
    assert against(due, live(agents=forgotten)) == ""  # as after a restart of the collector


def test_the_old_masters_agent_stands_against_it_unless_it_is_what_proves_it_held(due: Guarded) -> None:
    for kind in (ProofKind.POWER, ProofKind.HUMAN, ProofKind.ROLES):
        assert against(due, back(), kind) == Cause.ALIVE.name
    for kind in (ProofKind.TOOLSTACK, ProofKind.REBOOTED):
        assert against(due, back(), kind) == ""
    set_still = both(back(), of_role(1, pool_conf=Role.MASTER))
    assert against(due, set_still, ProofKind.TOOLSTACK) == ""  # a held master's pool.conf still says so


def test_an_answer_in_the_look_stands_against_it_and_no_look_does_not(due: Guarded) -> None:
    assert against(due, look(alive="host-3 was answered")) == Cause.ALIVE.name
    assert against(due, look(elsewhere="host-3 acts as master")) == Cause.ALIVE.name
    assert against(due, live(LastLook, round=None)) == ""


def test_a_probe_that_is_answered_stands_against_it(due: Guarded) -> None:
    answer = Probe(uuid(1), address(1), ProbeOutcome.ANSWERED, due.now, due.now)
    assert against(due, facts(3, lambda f: replace(f, probes=(answer,)))) == Cause.ALIVE.name
    own = live(CollectorProbes, newest=CollectorProbe(uuid(1), ProbeOutcome.ANSWERED, due.now, due.now))
    assert against(due, own) == Cause.ALIVE.name


def test_a_pause_and_an_armed_ha_stand_against_it(due: Guarded) -> None:
    assert against(due, record(paused="work on the racks")) == Cause.PAUSED.name
    assert against(due, record(ha_armed=frozenset({uuid(3)}))) == Cause.HA.name


# ------------------------------------------------------------------------------------------------ what is waited for


def looked(g: Guarded, change: Change, later: Ms = 0, kind: ProofKind = ProofKind.HUMAN) -> tuple[bool, bool]:
    """Is the look taken, and is another one begun?"""
    proof = proof_of(g, kind)
    d = after(g, change, later)
    taken = looks.looked(d, failover_of(g), proof)
    asked = any(isinstance(e, SendOrder) and e.order.kind_name == "probe_now" for e in d.effects)
    return taken, asked


TAKEN, WAITS, BEGUN = (True, False), (False, False), (False, True)


def now(**changes: Any) -> Change:
    """The look with this in it, begun this instant and answered by both members."""

    def change(pool: Pool) -> Pool:
        late = max(a.last_heard for a in pool.live.agents.values())
        given = {"answered": (uuid(2), uuid(3)), "at": late, **changes}
        return live(LastLook, round=replace(pool.live.look.round or Look("n", late), **given))(pool)

    return change


def test_a_look_is_taken_once_everybody_has_answered_it(due: Guarded) -> None:
    wait = due.policy.look_wait
    at = due.now
    assert looked(due, now(at=at)) == TAKEN
    assert looked(due, now(at=at, answered=(uuid(2),))) == WAITS  # a member still may
    assert looked(due, now(at=at - wait, answered=(uuid(2),))) == WAITS
    assert looked(due, now(at=at - wait - 1, answered=(uuid(2),))) == TAKEN
    assert looked(due, now(at=at, answered=(uuid(3),))) == WAITS  # the candidate must
    assert looked(due, now(at=at - wait - 1, answered=(uuid(3),))) == BEGUN
    assert looked(due, live(LastLook, round=None)) == BEGUN


def test_what_is_said_against_it_is_not_waited_for_and_is_asked_anew_in_the_end(due: Guarded) -> None:
    wait, at = due.policy.look_wait, due.now
    for word in ({"alive": "host-2 was answered"}, {"elsewhere": "host-3 acts as master"}):
        assert looked(due, now(at=at, answered=(uuid(2),), **word)) == TAKEN
        assert looked(due, now(at=at - wait - 1, **word)) == BEGUN


def test_a_look_is_young_and_from_after_the_proof(due: Guarded) -> None:
    fresh = due.policy.reading_fresh
    since = paired_since(after(due, same), uuid(1))
    assert looked(due, both(live(Phases, step_since=0), now(at=since)), kind=ProofKind.POWER) == TAKEN
    assert looked(due, both(live(Phases, step_since=0), now(at=since - 1)), kind=ProofKind.POWER) == BEGUN
    word = live(FencedHosts, word_used=due.now - 60_000)
    assert looked(due, both(word, now(at=due.now - fresh)), kind=ProofKind.HUMAN) == TAKEN
    assert looked(due, both(word, now(at=due.now - fresh - 1)), kind=ProofKind.HUMAN) == BEGUN
    said = live(FencedHosts, word_used=due.now)
    assert looked(due, both(said, now(at=due.now - 1)), kind=ProofKind.HUMAN) == BEGUN
    step = live(Phases, step_since=due.now)
    assert looked(due, both(step, now(at=due.now - 1)), kind=ProofKind.TOOLSTACK) == BEGUN
    assert looked(due, both(step, now(at=due.now)), kind=ProofKind.TOOLSTACK) == TAKEN


def test_a_candidate_that_misses_three_looks_in_a_row_is_none_any_more(due: Guarded) -> None:
    late = now(at=due.now - due.policy.look_wait - 1, answered=())
    d = after(due, late)
    for n in range(3):
        assert uuid(2) not in d.live.look.mute, n
        d = after(due, both(late, live(LastLook, misses=n)))
        looks.looked(d, failover_of(due), proof_of(due, ProofKind.HUMAN))
    assert uuid(2) in d.live.look.mute


# ------------------------------------------------------------------------------------------------ silent members


def unheard(**of_look: Any) -> Change:
    """Host 3's agent is silent, its power is not known; the candidate has answered."""

    def change(pool: Pool) -> Pool:
        devices = {host: them for host, them in pool.devices.items() if host != uuid(3)}
        pool = replace(silent(3)(pool), devices=devices)
        late = max(a.last_heard for a in pool.live.agents.values())
        return now(**{"answered": (uuid(2),), "asked": {uuid(3): late}, **of_look})(pool)

    return change


def power_off(pool: Pool) -> Pool:
    """Host 3's power is proven off."""
    state, bond = pool.live.power["bmc-1"], pool.record.devices.bonds["bmc-1"]
    read = replace(state, readings=tuple(replace(r, device="bmc-3") for r in state.readings))
    bonds = {**pool.record.devices.bonds, "bmc-3": replace(bond, host=uuid(3), boot_id="boot-3-1")}
    pool = replace(pool, devices={**pool.devices, uuid(3): (FenceDevice("bmc-3", uuid(3)),)})
    lived = replace(pool.live.agents[uuid(3)], last_heard=0)
    pool = live(agents={**pool.live.agents, uuid(3): lived}, power={**pool.live.power, "bmc-3": read})(pool)
    pool = facts(2, lambda f: replace(f, probes=()))(pool)
    return record(devices=replace(pool.record.devices, bonds=bonds))(pool)


def test_a_silent_member_that_told_its_role_holds_nobody_up(due: Guarded) -> None:
    assert looked(due, unheard()) == TAKEN


def test_one_about_whom_nobody_has_had_a_word_lately_is_asked_first(due: Guarded) -> None:
    fresh = looks.ASKED_FRESH_MS
    assert looked(due, unheard(asked={})) == WAITS
    assert looked(due, unheard(asked={uuid(3): due.now - fresh})) == WAITS
    assert looked(due, unheard(asked={uuid(3): due.now - fresh + 1})) == TAKEN
    over = due.now - due.policy.look_wait - 1
    assert looked(due, unheard(asked={}, at=over)) == BEGUN
    assert looked(due, both(unheard(asked={}), power_off)) == TAKEN  # excused


def untold(n: int = 3) -> dict[tuple[str, str], RoleAnswer]:
    return {(uuid(n), uuid(2)): RoleAnswer(uuid(n), RoleClaim.UNTOLD, text="answers ping")}


def test_one_that_is_alive_and_tells_no_role_holds_it_up(due: Guarded) -> None:
    assert looked(due, unheard(untold=untold())) == WAITS
    assert looked(due, unheard(untold=untold(), told=(uuid(3),))) == TAKEN  # somebody has been told since
    assert looked(due, both(unheard(untold=untold()), power_off)) == TAKEN
    assert looked(due, now(untold=untold())) == TAKEN  # its agent is heard
    assert looked(due, unheard(untold=untold(1))) == TAKEN  # the old master's harmlessness is proven otherwise


def test_a_mute_one_is_given_the_time_of_a_promotion(due: Guarded) -> None:
    budget = due.policy.promote_budget
    assert looked(due, unheard(mute={uuid(3): due.now})) == WAITS
    assert looked(due, unheard(mute={uuid(3): due.now - budget + 1})) == WAITS
    assert looked(due, unheard(mute={uuid(3): due.now - budget})) == TAKEN
    assert looked(due, both(unheard(mute={uuid(3): due.now}), power_off)) == TAKEN
    assert looked(due, now(mute={uuid(3): due.now})) == TAKEN  # its agent is heard
    mute = both(unheard(mute={uuid(3): due.now}), facts(2, lambda f: replace(f, probes=())))
    word = Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled")
    assert looked(due, both(mute, record(confirmed={uuid(3): word}))) == TAKEN

    def read_once(pool: Pool) -> Pool:
        pool = power_off(mute(pool))
        state = pool.live.power["bmc-3"]
        return live(power={**pool.live.power, "bmc-3": replace(state, readings=state.readings[-1:])})(pool)

    assert looked(due, read_once) == TAKEN  # off it is not starting as master just now


def test_another_certificate_is_named_and_an_unknown_one_is_not(due: Guarded) -> None:
    def said(known: str, shown: str) -> str:
        answer = RoleAnswer(uuid(3), RoleClaim.UNTOLD, certificate=shown)
        d = after(due, live(certificates={uuid(3): known} if known else {}))
        return looks.untold_said(d, (answer,))[0]

    assert "another certificate" in said("aa", "bb")
    for known, shown in (("aa", "aa"), ("", "bb"), ("aa", "")):
        assert "another certificate" not in said(known, shown)


# ------------------------------------------------------------------------------------------------ what is asked


def test_who_asks_whom(due: Guarded) -> None:
    def orders(change: Change) -> dict[str, tuple[int, list[str]]]:
        d = after(due, change)
        looks.begin_look(d, failover_of(due))
        sent = [e.order for e in d.effects if isinstance(e, SendOrder)]
        return {o.host: (len(o.kind.targets), [t.host for t in o.kind.ask_role]) for o in sent}  # type: ignore[union-attr]

    assert orders(back()) == {uuid(2): (1, []), uuid(3): (1, [])}  # the old master itself is not asked
    assert orders(hello(3, capabilities=frozenset())) == {uuid(2): (1, [])}
    asked = {uuid(3): due.now - 5_000}
    assert orders(unheard(asked=asked, at=due.now - 9_000)) == {uuid(2): (1, [uuid(3)])}  # nobody else can


def test_the_candidate_is_spared_the_question_where_others_can_ask(due: Guarded) -> None:
    """Its answer is the one that is waited for; a question of somebody's role takes seconds."""
    d = after(due, lambda pool: record(hosts={**pool.record.hosts, uuid(4): pool.record.hosts[uuid(3)]})(pool))
    failover, before = failover_of(due), Look("", due.now)
    ask = looks._strangers
    assert set(ask(d, failover, [uuid(2), uuid(3)], before)) == {uuid(3)}
    assert set(ask(d, failover, [uuid(2)], before)) == {uuid(2)}
    unanswered = Look("n", due.now, asked={uuid(4): due.now - 1})
    assert set(ask(d, failover, [uuid(2), uuid(3)], unanswered)) == {uuid(2), uuid(3)}
    assert set(ask(d, failover, [uuid(2), uuid(3)], replace(unanswered, asked={uuid(4): due.now}))) == {uuid(3)}
    assert ask(d, failover, [], before) == {}


def test_what_is_probed_is_the_old_master_over_both_ports_where_it_was_held_and_nobody_without_one(
    due: Guarded,
) -> None:
    def ports(**changes: Any) -> list[tuple[str, int]]:
        failover = replace(failover_of(due), **changes)
        return [(target.host, target.port) for target in looks._targets(after(due, same), failover)]

    assert ports() == [(uuid(1), 0)]
    assert ports(hold=HeldMaster(order="f-1/1/hold")) == [(uuid(1), 0), (uuid(1), looks.PLAIN_PORT)]
    assert ports(old_master="") == ports(old_master="", hold=HeldMaster(order="f-1/1/hold")) == []


def told(due: Guarded, *answers: RoleAnswer, before: Look | None = None) -> Look:
    d = after(due, silent(3))
    return looks.roles_told(d, uuid(2), before or Look("n", due.now - 500), answers)


def test_each_answer_to_the_question_of_ones_role_is_kept_for_what_it_is(due: Guarded) -> None:
    nothing, there = RoleAnswer(uuid(3), RoleClaim.SILENT), RoleAnswer(uuid(3), RoleClaim.UNTOLD)
    follows = RoleAnswer(uuid(3), RoleClaim.FOLLOWS, address(1))
    mute = told(due, nothing)
    assert mute.mute == {uuid(3): due.now} and not mute.told and not mute.untold and mute.untold_since is None
    is_there = told(due, there)
    assert is_there.untold_since == due.now and list(is_there.untold) == [(uuid(3), uuid(2))] and not is_there.told
    since = told(due, there, before=replace(is_there, untold_since=due.now - 7_000))
    assert since.untold_since == due.now - 7_000
    after_that = told(due, follows, before=is_there)
    assert after_that.told == (uuid(3),) and not after_that.untold and not after_that.elsewhere
    assert told(due, nothing, before=replace(mute, mute={uuid(3): 5})).mute == {uuid(3): 5}
    assert not told(due, follows, before=mute).mute


def test_what_of_it_stands_against_a_promotion(due: Guarded) -> None:
    def said(what: RoleClaim, follows: str = "", answers: bool = True, n: int = 3, stranger: bool = False) -> str:
        host = "99999999-0000-4000-8000-000000000000" if stranger else uuid(n)
        return looks.elsewhere(after(due, same), uuid(2), (RoleAnswer(host, what, follows, answers),))

    assert "acts as master" in said(RoleClaim.ACTS)
    assert "follows a master" in said(RoleClaim.FOLLOWS, "10.0.0.9")
    assert not said(RoleClaim.FOLLOWS, "10.0.0.9", answers=False)  # a dead name in an old pool.conf
    assert not said(RoleClaim.FOLLOWS, address(1)) and not said(RoleClaim.FOLLOWS, address(2))
    assert not said(RoleClaim.SILENT, "10.0.0.9") and not said(RoleClaim.UNTOLD, "10.0.0.9")
    for n in (1, 2):
        assert not said(RoleClaim.ACTS, n=n)  # those two are judged elsewhere
    assert not said(RoleClaim.ACTS, stranger=True)
    lost = looks.elsewhere(after(due, record(failover=None)), uuid(2), (RoleAnswer(uuid(3), RoleClaim.ACTS),))
    assert not lost


def test_what_was_said_against_it_is_not_forgotten_in_that_round(due: Guarded) -> None:
    acts = told(due, RoleAnswer(uuid(3), RoleClaim.ACTS))
    assert "acts as master" in acts.elsewhere
    assert told(due, RoleAnswer(uuid(3), RoleClaim.FOLLOWS, address(1)), before=acts).elsewhere == acts.elsewhere


def test_an_asker_that_has_gone_silent_says_nothing_any_more(due: Guarded) -> None:
    for change, left in ((silent(3), 1), (both(silent(3), silent(2)), 0)):
        d = after(due, both(unheard(untold=untold(), untold_since=5), change))
        looks.begin_look(d, failover_of(due))
        assert d.live.look.round is not None and len(d.live.look.round.untold) == left
        assert d.live.look.round.untold_since == (5 if left else None)


# ------------------------------------------------------------------------------------------------ before a shot


def witnessed(g: Guarded, change: Change) -> bool:
    return looks.witnessed_now(after(g, change), failover_of(g))


def test_a_shot_stands_on_a_young_look_that_somebody_has_answered_and_nobody_was_answered_in(due: Guarded) -> None:
    limit = looks.SHOT_EVIDENCE_MS
    assert witnessed(due, now()) and witnessed(due, now(at=due.now - limit))
    assert not witnessed(due, now(at=due.now - limit - 1)) and not witnessed(due, live(LastLook, round=None))
    for other in ({"answered": ()}, {"alive": "it answers"}, {"elsewhere": "host-3 acts as master"}):
        assert not witnessed(due, now(**other))
    assert not witnessed(due, unheard(untold=untold()))
    assert not looks.why_unwitnessed(after(due, live(LastLook, round=None)), failover_of(due))
    assert not looks.why_unwitnessed(after(due, now()), failover_of(due))
    for other in ({"alive": "it answers"}, {"elsewhere": "host-3 acts as master"}):
        assert looks.why_unwitnessed(after(due, now(**other)), failover_of(due)) in other.values()
    assert "host-3" in looks.why_unwitnessed(after(due, unheard(untold=untold())), failover_of(due))


def test_a_power_off_may_begin_for_three_seconds_from_the_probe_that_it_stands_on(due: Guarded) -> None:
    def until(at: Ms) -> Ms:
        return looks.shot_valid_until(after(due, now(seen_at=at)))

    valid, lead = looks.SHOT_VALID_MS, looks.SHOT_LEAD_MS
    assert until(due.now) == due.now + valid
    assert until(due.now - valid + lead) == due.now + lead
    assert until(due.now - valid + lead - 1) == 0
    assert until(0) == 0 and looks.shot_valid_until(after(due, live(LastLook, round=None))) == 0
