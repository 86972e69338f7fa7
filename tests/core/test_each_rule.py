"""Rules of many modules, each on several facts at once: every one changed alone. As in ``test_each_step.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.failover.test_reversals import intended
from tests.core.known import (
    Change,
    after,
    both,
    facts,
    failover_of,
    hello,
    live,
    of_failover,
    of_role,
    record,
    seen,
    silent,
)
from tests.core.pool import Guarded, address, uuid

from poolwarden_collector.core.decision import candidate_ranking, database_age, kill_forecast, questions
from poolwarden_collector.core.decision.database_age import CopyAge
from poolwarden_collector.core.devices import device_binding, device_runner
from poolwarden_collector.core.evidence import (
    configured_master,
    journal_gap,
    operator_confirmation,
    signs,
    unlisted_hosts,
)
from poolwarden_collector.core.failover import candidate_check, claims, ending
from poolwarden_collector.core.followups import gc_release
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.effects import SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.host_facts import Tombstone, ToolstackHold
from poolwarden_collector.core.model.order_results import ClaimOutcome, OrderOutcome, Outcome, PlacementView
from poolwarden_collector.core.model.power import DeviceIdentity, FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.reasons import Cause, Reason
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.operator import answers
from poolwarden_collector.core.recovery import adopted_holds
from poolwarden_collector.core.state.failover_record import Failover, Promotion, Step
from poolwarden_collector.core.state.live import Pool, PowerState, Sent
from poolwarden_collector.core.state.live_slices import ClaimRound, DatabaseAge, FencedHosts, JournalGap, Questions
from poolwarden_collector.core.state.pool_record import Confirmed, Owed, OwedWork
from poolwarden_collector.core.state.question_record import Needs, Question
from poolwarden_collector.core.state.transaction import Transaction


@pytest.fixture(scope="module")
def g() -> Guarded:
    """A promotion that is intended; its order has no answer."""
    pool = intended()
    pool.run(30_000)
    return pool


@pytest.fixture(scope="module")
def h() -> Guarded:
    """A healthy pool of three."""
    pool = Guarded()
    pool.run(20_000)
    return pool


def orders(tx: Transaction) -> list[str]:
    return [e.order.kind_name for e in tx.effects if isinstance(e, SendOrder)]


def kinds(tx: Transaction) -> list[Kind]:
    return [entry.kind for entry in tx.entries]


# ------------------------------------------------------------------------------------------------ answers of people


def wrong(h: Guarded, wanted: str, replaced: bool = False) -> bool:
    """Is a yes that names this refused as one to another question?"""
    question = Question("f-1-q2", 2, Ask.KILL, uuid(2), "what", (), Needs(1), "ground")
    asked = record(asked=replace(h.pool.record.asked, replaced=replaced), name="lab")
    said = OperatorSaid("r", "alice", "approve", "", (("id", wanted),))
    return answers._wrong_id(after(h, asked), said, question) is not None


def test_an_answer_names_its_question_or_the_pool_while_no_other_was_asked(h: Guarded) -> None:
    for wanted in ("f-1-q2", "", h.pool.record.pool, "lab"):
        assert not wrong(h, wanted), wanted
    for wanted in ("f-1", "f-1-q1", "another"):
        assert wrong(h, wanted), wanted
    assert not wrong(h, "f-1-q2", replaced=True)
    for wanted in ("", h.pool.record.pool, "lab"):
        assert wrong(h, wanted, replaced=True), wanted


def approved(g: Guarded, *, ago: int = 0, **of_yes: Any) -> Transaction:
    return after(g, both(of_failover(approval=of_yes), live(Questions, approved_at=g.now - ago)))


def test_a_yes_covers_as_many_vms_as_it_names_and_those_alone(g: Guarded) -> None:
    def covers(at_stake: tuple[str, ...], **of_yes: Any) -> bool:
        d = approved(g, **of_yes)
        assert d.failover is not None
        return questions.covers(d, d.failover, at_stake)

    both_vms = {"accept_kill": 2, "vms": ["vm-1", "vm-2"]}
    assert covers(("vm-1", "vm-2"), **both_vms) and covers(("vm-2",), **both_vms) and covers(())
    assert not covers(("vm-3",), **both_vms) and not covers(("vm-1",), accept_kill=1)
    assert not covers(("vm-1", "vm-2"), accept_kill=1, vms=["vm-1", "vm-2"])


def test_a_word_for_an_age_covers_a_copy_of_that_age_and_no_word_covers_none() -> None:
    def copy(age: int | None) -> CopyAge:
        return CopyAge(uuid(2), "host-2", 50, 0, age, "")

    minute, hour = 60_000, 3_600_000
    assert database_age.accepted_by(copy(minute), minute) and not database_age.accepted_by(copy(minute + 1), minute)
    assert database_age.accepted_by(copy(None), hour) and not database_age.accepted_by(copy(None), hour - minute)
    assert not database_age.accepted_by(copy(0), 0)


# ------------------------------------------------------------------------------------------------ devices


def test_machines_that_both_tell_their_uuid_are_told_apart_by_it_alone() -> None:
    one, two = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"

    def common(first: str, second: str) -> bool:
        found = [DeviceIdentity((each,) if each else (), ("chassis-7",)) for each in (first, second)]
        return bool(device_binding.in_common(*found))

    assert common(one, one) and common("", "") and common(one, "") and common("", two)
    assert not common(one, two)


def test_a_yes_to_a_shot_needs_a_device_that_is_that_hosts(h: Guarded) -> None:
    machine = h.pool.live.agents[uuid(2)].hello.machine
    another = DeviceIdentity(serials=(machine.system_serial,))

    def refused(*names: str, bound: str = "") -> bool:
        bond = h.pool.record.devices.bonds["bmc-1"]
        devices = {uuid(1): (FenceDevice("bmc-1", uuid(1)), FenceDevice("pdu-1", uuid(1)))}
        power = {name: PowerState(said=another) for name in names}
        kept = {bound: bond} if bound else {}

        def change(pool: Pool) -> Pool:
            of_record = record(devices=replace(pool.record.devices, bonds=kept))
            return both(of_record, live(power=power))(replace(pool, devices=devices))

        return device_binding.unusable(after(h, change), uuid(1)) is not None

    assert refused("bmc-1") and refused("bmc-1", "pdu-1") and not refused()
    assert not refused("pdu-1", bound="bmc-1")


def member_device(pool: Pool) -> Pool:
    """The device's agent is run by members; every agent may."""
    for n in (1, 2, 3):
        pool = hello(n, fence_agents=frozenset({"fence_x"}))(pool)
    return replace(pool, devices={uuid(1): (FenceDevice("bmc-1", uuid(1), agent="fence_x", via_members=True),)})


def test_nobody_reads_his_own_power_or_what_he_may_not_run(h: Guarded) -> None:
    def able(*changes: Change) -> list[str]:
        return device_runner._able(d := after(h, both(member_device, *changes)), d.pool.devices[uuid(1)][0])

    assert able() == [uuid(2), uuid(3)]
    assert able(silent(2)) == [uuid(3)] and able(live(agents={})) == []
    assert able(hello(3, fence_agents=frozenset({"fence_y"}))) == [uuid(2)]


def test_two_readings_are_of_two_members_where_another_one_can_be_asked(h: Guarded) -> None:
    def independent(first: int, second: int, *changes: Change) -> bool:
        one, other = (PowerReading(Power.OFF, "bmc-1", 0, 1, through=uuid(n)) for n in (first, second))
        d = after(h, both(member_device, *changes))
        return device_runner.independent(d, d.pool.devices[uuid(1)][0], one, other)

    failed = live(power={"bmc-1": PowerState(missed=((uuid(3), h.now),))})
    assert independent(2, 3) and not independent(2, 2)
    assert independent(2, 2, silent(3)) and independent(2, 2, failed)
    assert not independent(2, 2, live(power={"bmc-1": PowerState(missed=((uuid(2), h.now),))}))


# ------------------------------------------------------------------------------------------------ words about hosts


def read_on(n: int) -> Change:
    def change(pool: Pool) -> Pool:
        at = max(agent.last_heard for agent in pool.live.agents.values())
        reading = PowerReading(Power.ON, f"bmc-{n}", at, at)
        return live(power={**pool.live.power, f"bmc-{n}": PowerState(readings=(reading,))})(pool)

    return change


def test_a_word_stands_for_a_silent_host_in_that_boot_unless_its_power_contradicts_it(h: Guarded) -> None:
    def stands(*changes: Change, **of_word: Any) -> bool:
        word = replace(Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled"), **of_word)
        unread = live(power={})
        d = after(h, both(silent(3), unread, record(confirmed={uuid(3): word}), *changes))
        return operator_confirmation.confirmed(d, uuid(3)) is not None

    assert stands() and not stands(boot_id="boot-3-2") and not stands(live(agents=h.pool.live.agents))
    assert not stands(read_on(3)) and stands(read_on(3), despite_power_on=True)


def test_a_word_is_a_proof_only_in_the_run_that_heard_it_and_while_it_is_young(h: Guarded) -> None:
    word, fresh = Confirmed(uuid(3), "boot-3-1", "alice", "cord pulled"), h.policy.human_proof_fresh

    def spoken(at: dict[str, int]) -> bool:
        d = after(h, both(silent(3), live(power={}), live(FencedHosts, words_at=at), record(confirmed={uuid(3): word})))
        return operator_confirmation.spoken(d, uuid(3)) is not None

    assert spoken({uuid(3): h.now - fresh})
    assert not spoken({uuid(3): h.now - fresh - 1}) and not spoken({}) and not spoken({uuid(2): h.now})


# ------------------------------------------------------------------------------------------------ copies, forecasts


def test_a_master_that_answered_unheard_for_long_served_until_then(h: Guarded) -> None:
    late = h.policy.vanished_after

    def until(host: int, at: int) -> int:
        d = after(h, live(DatabaseAge, answered_until=(uuid(host), at)))
        return database_age._served_until(d, uuid(1), 1_000)

    assert until(1, 1_000 + late + 1) == 1_000 + late + 1
    assert until(1, 1_000 + late) == 1_000 and until(2, 1_000 + late + 1) == 1_000


FILE = PlacementView(True, 50, "state.db")


def test_what_a_heard_host_runs_is_told_within_seconds(h: Guarded) -> None:
    fresh = h.policy.reading_fresh

    def old(*changes: Change) -> bool:
        found = kill_forecast.kills_on(after(h, both(*changes)), uuid(3), FILE)
        return isinstance(found, Reason) and found.code is Cause.OLD_FACTS

    assert old(seen(3, h.now - fresh - 1)) and not old(seen(3, h.now - fresh))
    assert not old(seen(3, None))  # an agent that tells no time
    assert not old(seen(3, h.now - fresh - 1), silent(3))  # its last word is all that there is


def test_a_tombstone_rules_a_candidate_out_unless_the_term_overrules_it(h: Guarded) -> None:
    def ruled_out(stone: Tombstone | None, *changes: Change) -> bool:
        d = after(h, both(facts(2, lambda f: replace(f, tombstone=stone)), *changes))
        why = candidate_ranking.limitation(d, uuid(2), uuid(1), d.agent(uuid(2)))
        return why is not None and why.code is Cause.TOMBSTONE

    next_term = h.pool.record.term + 1
    assert not ruled_out(None)
    assert ruled_out(Tombstone(next_term)) and not ruled_out(Tombstone(next_term - 1))


def claim(n: int, placements: PlacementView | None) -> Change:
    def change(pool: Pool) -> Pool:
        return live(ClaimRound, answers={**pool.live.claims.answers, uuid(n): ClaimOutcome(None, placements)})(pool)

    return change


def test_a_copy_that_cannot_be_read_at_the_claim_rules_its_host_out(g: Guarded) -> None:
    def ruled_out(view: PlacementView | None) -> bool:
        d = after(g, both(live(ClaimRound, answers={}), claim(2, view)))
        assert d.failover is not None
        why = candidate_ranking.limitation(d, uuid(2), d.failover.old_master, d.agent(uuid(2)))
        return why is not None and why.code is Cause.NO_COPY

    assert ruled_out(replace(FILE, readable=False))
    assert not ruled_out(FILE) and not ruled_out(None)


def test_without_a_list_a_candidate_is_in_every_copy_that_tells_its_hosts(h: Guarded) -> None:
    both_hosts = (uuid(1), uuid(2))

    def out(*changes: Change, listed: frozenset[str] = frozenset()) -> bool:
        d = after(h, both(record(listed=listed), live(ClaimRound, answers={}), *changes))
        return bool(unlisted_hosts.in_no_copy(d, uuid(3)))

    assert out(claim(2, replace(FILE, hosts=both_hosts)))
    assert not out(claim(2, replace(FILE, hosts=(*both_hosts, uuid(3)))))
    assert not out(claim(2, None)) and not out(claim(2, FILE)) and not out()
    assert not out(claim(2, replace(FILE, hosts=both_hosts)), listed=frozenset({uuid(1)}))


def lost(g: Guarded, age: int | None, *changes: Change, claimed: int = 0) -> str:
    """What of the copy stands against going on, and was not accepted; age: of the candidate's copy."""
    old = CopyAge(uuid(2), "host-2", 50, 0, age, "old") if age != 0 else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_age, "too_old", lambda d, host: old)
        patch.setattr(database_age, "ahead", lambda d, host: claimed)
        d = after(g, both(*changes))
        assert d.failover is not None
        why = candidate_check.unaccepted(d, d.failover, uuid(2))
        asked = candidate_check._ask_loss(d, d.failover, uuid(2), ())
    assert asked == (why is not None)
    return "" if why is None else why.code.name


def yes(**of_yes: Any) -> Change:
    return lambda pool: live(Questions, approved_at=max(a.last_heard for a in pool.live.agents.values()))(
        of_failover(approval=of_yes)(pool)
    )


def test_an_old_copy_or_one_far_ahead_is_asked_about_until_that_very_one_is_accepted(g: Guarded) -> None:
    assert lost(g, 0) == ""
    assert lost(g, 600_000) == Cause.OLD_COPY.name == lost(g, None)
    assert lost(g, 600_000, yes(accept_stale_ms=600_000)) == ""
    assert lost(g, 600_001, yes(accept_stale_ms=600_000)) == Cause.OLD_COPY.name
    assert lost(g, 0, claimed=9_000_000) == Cause.FAR_COPY.name
    generation = g.pool.live.agents[uuid(2)].facts.database.generation
    assert lost(g, 0, yes(generations={uuid(2): generation}), claimed=9_000_000) == ""
    assert lost(g, 0, yes(generations={uuid(2): generation - 1}), claimed=9_000_000) == Cause.FAR_COPY.name
    assert lost(g, 0, yes(generations={uuid(3): generation}), claimed=9_000_000) == Cause.FAR_COPY.name


def test_vms_at_stake_are_asked_about_until_those_very_ones_are_accepted(g: Guarded) -> None:
    runs = facts(3, lambda f: replace(f, domains=("vm-7",)))

    def asks(*changes: Change) -> bool:
        d = after(g, both(runs, *changes))
        assert d.failover is not None
        kills = candidate_check.expected(d, d.failover, uuid(2))
        assert not isinstance(kills, Reason)
        return candidate_check._ask_loss(d, d.failover, uuid(2), kills)

    assert asks() and not asks(yes(accept_kill=1, vms=["vm-7"])) and asks(yes(accept_kill=1, vms=["vm-8"]))
    assert not asks(facts(3, lambda f: replace(f, domains=())))


# ------------------------------------------------------------------------------------------------ claims


def test_a_round_of_claims_is_made_anew_once_it_is_old(g: Guarded) -> None:
    def anew(age: int | None) -> bool:
        since = g.now - age if age is not None else None
        d = after(g, live(ClaimRound, since=since))
        number = d.live.claims.number
        claims.renewed(d, failover_of(g))
        return d.live.claims.number != number

    fresh = g.policy.reading_fresh
    assert anew(fresh + 1) and not anew(fresh) and anew(None)


def test_a_claim_of_a_file_that_has_changed_since_is_asked_for_again_and_no_other(g: Guarded) -> None:
    newer = facts(3, lambda f: replace(f, database=replace(f.database, generation=51)))
    d = after(g, both(live(ClaimRound, since=g.now), live(sent={}), newer))
    before = set(d.live.claims.answers)
    claims._claim_one(d, failover_of(g), uuid(3))
    assert set(d.live.claims.answers) == before - {uuid(3)} and d.live.claims.asked_again == {uuid(3): g.now}


def test_who_is_asked_again_is_waited_for_and_who_never_answered_is_not(g: Guarded) -> None:
    wait = g.policy.claim_wait

    def ready(*changes: Change) -> bool:
        only = {uuid(2): g.pool.live.claims.answers[uuid(2)]}
        d = after(g, both(live(ClaimRound, answers=only, since=g.now - wait), *changes))
        return claims.claims_ready(d, failover_of(g))

    assert ready()
    assert not ready(live(ClaimRound, asked_again={uuid(3): g.now - wait + 1})) and ready(
        live(ClaimRound, asked_again={uuid(3): g.now - wait})
    )
    assert ready(live(ClaimRound, asked_again={uuid(1): g.now}))  # who is not missing


# ------------------------------------------------------------------------------------------------ ends


def test_the_candidate_of_a_superseded_failover_hears_the_higher_term(g: Guarded) -> None:
    def told(*changes: Change) -> list[str]:
        d = after(g, both(*changes))
        ending.superseded(d, uuid(3))
        assert Kind.SUPERSEDED in kinds(d)
        return orders(d)

    assert told() == ["claim"]
    assert told(silent(2)) == [] and told(of_failover(Promotion, order="")) == []


def test_a_successor_that_is_off_ends_a_succession_and_a_silent_one_does_not(h: Guarded) -> None:
    """Host 3 serves and is owed its tombstone; host 2 is on record."""
    serves = of_role(3, pool_conf=Role.MASTER, running=Role.MASTER, serves_as_master=True)
    past = both(serves, silent(1, 2), record(master=uuid(2), owed=(Owed(uuid(3), OwedWork.TOMBSTONE, uuid(2), 1),)))
    word = both(record(confirmed={uuid(2): Confirmed(uuid(2), "boot-2-1", "alice", "cord pulled")}), live(power={}))

    def counts(*changes: Change, quiet: bool = False) -> bool:
        tx = Transaction(both(past, *changes)(h.pool), h.now, replace(h.site, quiet_until=h.now + quiet))
        return uuid(3) in signs.unsuperseded_masters(tx)

    assert not counts() and counts(word)
    assert not counts(word, quiet=True)
    tx = after(h, both(past, word, lambda p: live(agents={**p.live.agents, uuid(1): h.pool.live.agents[uuid(1)]})(p)))
    assert set(signs.unsuperseded_masters(tx)) == {uuid(1), uuid(3)}


# ------------------------------------------------------------------------------------------------ collecting


def test_whom_garbage_collection_waits_for(h: Guarded) -> None:
    """Host 1 is master; whoever was left behind may write to disks that it must not coalesce."""

    def waits(*changes: Change, host: int = 1) -> tuple[str, ...]:
        return gc_release.waits_for(after(h, both(*changes)), uuid(host))

    held = facts(1, lambda f: replace(f, gc_term=5))
    owed = record(owed=(Owed(uuid(2), OwedWork.TOMBSTONE, uuid(1), 1),))
    assert waits() == () and waits(owed) == (uuid(2),) and waits(owed, host=3) == ()
    assert waits(record(owed=(Owed(uuid(1), OwedWork.RELEASE, uuid(1), 1),))) == ()
    assert waits(record(master="")) == (uuid(2), uuid(3))
    assert waits(held) == ()  # everybody follows
    away = of_role(3, master_address="10.0.0.9")
    assert waits(held, away) == (uuid(3),) and waits(away) == ()
    assert waits(held, away, silent(1)) == () and waits(held, away, live(agents={})) == ()

    def ended(term: int) -> Change:
        return record(failover=Failover("f-1", uuid(3), "boot-3-1", term, Step.CLOSED, uuid(1)))

    assert waits(held, away, ended(5)) == () and waits(held, away, ended(4)) == (uuid(3),)


# ------------------------------------------------------------------------------------------------ holds


def held_master(h: Guarded, *changes: Change) -> Transaction:
    """A pool without a master on record; host 1 is held, the others follow it."""
    stopped = both(
        facts(1, lambda f: replace(f, hold=ToolstackHold(1, True, True, 0))),
        of_role(1, serves_as_master=False),
        record(master="", failover=None),
    )
    read = OrderOutcome(
        "file", "collect_evidence", Outcome.DONE, placements=replace(FILE, hosts=tuple(map(uuid, (1, 2, 3))))
    )
    file = live(sent={"file": Sent("file", "collect_evidence", uuid(1), 1, h.now, read, h.now)})
    return after(h, both(stopped, file, *changes))


def file_of(h: Guarded, **changes: Any) -> Change:
    view = replace(FILE, hosts=tuple(map(uuid, (1, 2, 3))))
    read = OrderOutcome("file", "collect_evidence", Outcome.DONE, placements=replace(view, **changes))
    return live(sent={"file": Sent("file", "collect_evidence", uuid(1), 1, h.now, read, h.now)})


def test_a_held_host_is_adopted_only_where_everybody_of_its_own_database_follows_it(h: Guarded) -> None:
    def adopted(*changes: Change) -> bool:
        d = held_master(h, *changes)
        adopted_holds.adopt(d)
        return Kind.MASTER_OBSERVED in kinds(d)

    assert adopted()
    assert not adopted(silent(3)) and not adopted(of_role(3, master_address="10.0.0.9"))
    word = both(record(confirmed={uuid(3): Confirmed(uuid(3), "boot-3-1", "alice", "off")}), live(power={}))
    unprobed = both(*(facts(n, lambda f: replace(f, probes=())) for n in (1, 2)))
    assert adopted(silent(3), unprobed, word)
    assert not adopted(file_of(h, readable=False))
    assert not adopted(file_of(h, hosts=(uuid(1), uuid(2)))) and not adopted(file_of(h, hosts=()))
    assert not adopted(file_of(h, hosts=tuple(map(uuid, (1, 2, 3, 4)))))
    alone = record(hosts={uuid(1): h.pool.record.hosts[uuid(1)]})
    assert not adopted(alone, file_of(h, hosts=(uuid(1),)))  # nobody else says that it is the master


def test_a_held_host_is_released_as_master_at_a_word_only_beside_hosts_that_are_heard_or_off(h: Guarded) -> None:
    def refusal(*changes: Change) -> str:
        d = held_master(h, *changes)
        said = OperatorSaid("r", "alice", "release", uuid(1), (("as_master", "yes"), ("typed_name", "host-1")))
        found = adopted_holds._as_master(d, said)
        return "" if isinstance(found, str) else found.code

    assert refusal() == "" and refusal(silent(3)) == "host-unheard"
    word = both(record(confirmed={uuid(3): Confirmed(uuid(3), "boot-3-1", "alice", "off")}), live(power={}))
    unprobed = both(*(facts(n, lambda f: replace(f, probes=())) for n in (1, 2)))
    assert refusal(silent(3), unprobed, word) == ""


# ------------------------------------------------------------------------------------------------ a named master


def test_a_silent_host_that_all_follow_is_the_master_unless_the_one_on_record_may_be_it_still(h: Guarded) -> None:
    """Hosts 1 and 2 follow host 3, which is silent; host 1 or nobody is on record."""
    follow = both(
        silent(3),
        *(
            of_role(
                n,
                pool_conf=Role.MEMBER,
                running=Role.MEMBER,
                serves_as_master=False,
                master_address=address(3),
                running_master_address=address(3),
            )
            for n in (1, 2)
        ),
        *(facts(n, lambda f: replace(f, probes=())) for n in (1, 2)),
        lambda pool: live(agents={**pool.live.agents, uuid(3): replace(pool.live.agents[uuid(3)], last_heard=0)})(pool),
    )

    def found(*changes: Change) -> str:
        return configured_master.named(after(h, both(follow, *changes)))

    assert found() == uuid(3)  # host 1, on record, says itself whom it follows
    assert found(record(master="")) == uuid(3) and found(record(master=uuid(3))) == uuid(3)
    assert found(silent(1)) == ""
    word = both(record(confirmed={uuid(1): Confirmed(uuid(1), "boot-1-1", "alice", "off")}), live(power={}))
    assert found(silent(1), word) == uuid(3)
    assert found(silent(1), record(master="")) == uuid(3) and found(silent(1), record(master=uuid(3))) == uuid(3)
    assert found(record(owed=(Owed(uuid(3), OwedWork.TOMBSTONE, uuid(1), 1),))) == ""


# ------------------------------------------------------------------------------------------------ a restored journal


def test_a_result_tells_of_a_lost_past_only_within_the_bounds_of_a_term(h: Guarded) -> None:
    term = h.pool.record.term

    def unknown(of: int, *changes: Change, what: str = "promote") -> int:
        result = OrderOutcome(f"aaaaaaaa-1.{of}/1/{what}/{uuid(2)}", what, Outcome.DONE)
        return journal_gap._unknown(after(h, both(record(restored=(0, 0), failover=None), *changes)), result)

    assert unknown(term + 1) == term + 1 and unknown(term + 1, what="claim") == 0
    assert unknown(term + journal_gap.ID_LEAP) and not unknown(term + journal_gap.ID_LEAP + 1)
    assert not unknown(term + 1, record(restored=(0, term + 1))) and unknown(term + 2, record(restored=(0, term + 1)))


def test_what_one_host_alone_says_again_prolongs_nothing(h: Guarded) -> None:
    def again(doubted: int, known: bool) -> bool:
        opinion = live(JournalGap, restored=known, quiet_until=0)
        d = after(h, both(opinion, record(doubted=uuid(doubted) if doubted else "")))
        journal_gap._restored(d, uuid(2), "it has stored a higher term", d.record.term + 5)
        return d.live.journal_gap.quiet_until > 0

    assert not again(2, True)
    assert again(2, False) and again(3, True) and again(0, True)
