"""What an event or an operator's yes is taken for, where several facts decide it: each alone. As in
``test_each_step.py``.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
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
    look,
    of_failover,
    of_role,
    record,
    silent,
)
from tests.core.pool import POOL, Guarded, address, uuid

from poolwarden_collector.core import engine, intake
from poolwarden_collector.core import intake as absorbing
from poolwarden_collector.core.decision import database_age, unheard_members
from poolwarden_collector.core.decision.kill_forecast import Kill
from poolwarden_collector.core.decision.questions import ground_of
from poolwarden_collector.core.devices import device_binding
from poolwarden_collector.core.evidence import journal_gap, verdict
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import CollectorWitness, Verdict, Witness
from poolwarden_collector.core.failover import power_off
from poolwarden_collector.core.followups import lost_vms, power_switch, vm_places
from poolwarden_collector.core.followups import owed_work as owed
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import PowerOff, PowerOn, RaiseEpoch, ReadPower, SendOrder
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import PoolHost, Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, PlacementView, RoleClaim
from poolwarden_collector.core.model.power import DeviceIdentity, Power, PowerReading
from poolwarden_collector.core.model.reasons import Cause, Reason, key_of
from poolwarden_collector.core.model.values import Role
from poolwarden_collector.core.operator import answers as approval
from poolwarden_collector.core.operator import restart_xapi
from poolwarden_collector.core.recovery import (
    adopt_master,
    master_restart,
    master_vanished,
    member_repair,
    recover_members,
    restart_in_place,
    switchover,
)
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Promotion, Standstill, Step
from poolwarden_collector.core.state.followup_record import Designation, LostVm, Switch
from poolwarden_collector.core.state.live import Pool, PowerState
from poolwarden_collector.core.state.live_slices import MemberRepairs, Told, UnheardHosts
from poolwarden_collector.core.state.pool_record import Owed, OwedWork
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


def taken(g: Guarded, event: ev.Event, *changes: Change) -> Transaction:
    d = after(g, both(*changes))
    intake.take_in(d, event)
    return d


def kinds(tx: Transaction) -> list[Kind]:
    return [entry.kind for entry in tx.entries]


# ------------------------------------------------------------------------------------------------ events


def test_whoever_only_says_himself_that_he_is_of_the_pool_has_no_voice_in_it(h: Guarded) -> None:
    def connected(n: int) -> tuple[bool, bool]:
        said = replace(h.pool.live.agents[uuid(3)].hello, host=uuid(n), boot_id=f"boot-{n}-1")
        d = taken(h, ev.AgentConnected(99, said))
        known = d.live.agents.get(uuid(n))
        return known is not None and known.stream == 99, uuid(n) in d.live.strangers

    assert connected(3) == (True, False) and connected(4) == (False, True)


def test_of_this_pool_speaks_its_own_master_alone(h: Guarded) -> None:
    def believed(n: int, pool: str = POOL, **of_record: Any) -> bool:
        """Host n serves, lists a host 4, and says which pool that is."""
        truth = h.pool.live.agents[uuid(1)].facts
        assert truth.pool_view is not None
        fourth = PoolHost(uuid(4), "host-4", address(4), True, True)
        view = replace(truth.pool_view, pool=pool, master=uuid(n), hosts=(*truth.pool_view.hosts, fourth))
        role = replace(truth.role, serves_as_master=True)
        said = replace(h.pool.live.agents[uuid(n)].facts, pool_view=view, role=role)
        d = taken(h, ev.AgentReported(uuid(n), h.pool.live.agents[uuid(n)].stream, said), record(**of_record))
        return uuid(4) in d.record.hosts

    assert believed(1) and believed(1, "") and not believed(1, "another pool")
    assert not believed(2) and believed(2, master="")


def off(g: Guarded, *names: str) -> Change:
    """These devices have read OFF some seconds ago."""
    read = {name: PowerState(readings=(PowerReading(Power.OFF, name, g.now - 9_000, g.now - 8_900),)) for name in names}
    return live(power={**g.pool.live.power, **read})


def test_life_voids_the_readings_of_that_hosts_devices_alone(g: Guarded) -> None:
    d = after(g, off(g, "bmc-1", "bmc-3"))
    absorbing._life(d, uuid(1), "", "it answered")
    assert not d.live.power["bmc-1"].readings and d.live.power["bmc-3"].readings


def test_a_refused_message_shows_that_its_sender_lives(g: Guarded) -> None:
    refused = ev.HostRefused(uuid(1), "it claims a term of 2^63")
    d = taken(g, refused, off(g, "bmc-1"))
    assert Kind.CONTRARY in kinds(d) and not d.live.power["bmc-1"].readings
    unread = live(power={**g.pool.live.power, "bmc-1": PowerState()})
    assert Kind.CONTRARY not in kinds(taken(g, refused, unread))


def test_a_probe_that_is_answered_makes_the_device_a_liar_only_in_the_boot_that_it_read_off(g: Guarded) -> None:
    least = absorbing.LEAST_BOOT_MS

    def judged(ago: int, *changes: Change) -> Transaction:
        began = g.now - ago
        read = PowerState(readings=(PowerReading(Power.OFF, "bmc-1", began, began + 100),))
        d = after(g, both(live(power={**g.pool.live.power, "bmc-1": read}), *changes))
        probe = Probe(uuid(1), address(1), ProbeOutcome.ANSWERED, g.now, g.now)
        absorbing._probe_life(d, probe, "host-3's probe")
        return d

    def liar(ago: int) -> bool:
        d = judged(ago)
        assert Kind.CONTRARY in kinds(d) and not d.live.power["bmc-1"].readings
        return Kind.DEVICE_QUARANTINED in kinds(d)

    assert liar(least - 1) and not liar(least)
    gone = {host: known for host, known in g.pool.record.hosts.items() if host != uuid(1)}
    assert kinds(judged(least - 1, record(hosts=gone))) == []  # the device of a host that is not of this pool


def test_an_answer_in_the_look_is_one_of_the_old_masters_own_xapi(g: Guarded) -> None:
    assert g.pool.live.look.round is not None
    nonce = "look-now"

    def alive(outcome: ProbeOutcome, n: int = 1, certificate: str = "") -> bool:
        probe = Probe(uuid(n), address(n), outcome, g.now, g.now, certificate=certificate)
        result = OrderOutcome("any", "probe_now", Outcome.DONE, probes=(probe,), nonce=nonce)
        young = both(look(nonce=nonce, answered=(), alive=""), record(standing={uuid(3): "aa"}))
        d = taken(g, ev.OrderAnswered(uuid(3), g.pool.live.agents[uuid(3)].stream, result), young)
        assert d.live.look.round is not None and uuid(3) in d.live.look.round.answered
        return bool(d.live.look.round.alive)

    assert alive(ProbeOutcome.ANSWERED) and alive(ProbeOutcome.ANSWERED, certificate="aa")
    assert not alive(ProbeOutcome.NO_ANSWER) and not alive(ProbeOutcome.REFUSED)
    assert not alive(ProbeOutcome.ANSWERED, 2)  # another host's
    assert not alive(ProbeOutcome.ANSWERED, certificate="bb")  # somebody else's at its address


def test_a_reading_binds_only_the_boot_that_is_heard_and_on_record(h: Guarded) -> None:
    agent = h.pool.live.agents[uuid(1)]

    def bound(began: int, *changes: Change) -> bool:
        reading = replace(h.host(1).read(ReadPower(uuid(1), "bmc-1", "run-1", identify=True), began), ended_at=h.now)
        state = replace(h.pool.live.power["bmc-1"], running="run-1")
        none = record(devices=replace(h.pool.record.devices, bonds={}))
        running = live(power={**h.pool.live.power, "bmc-1": state})
        return Kind.DEVICE_BOUND in kinds(taken(h, ev.PowerRead(uuid(1), "run-1", reading), none, running, *changes))

    assert bound(agent.connected_at) and not bound(agent.connected_at - 1)
    assert not bound(h.now, hello(1, boot_id="boot-1-2"))


# ------------------------------------------------------------------------------------------------ a yes, at its instant


def question(kind: Ask, host: str, vm: str, others: tuple[str, ...]) -> Question:
    ground = ground_of(kind, host, Needs(1), (vm,), others=others)
    return Question("q-1", 1, kind, host, "what", (), Needs(1), ground, vms=(vm,))


def yes_to(asked: Question, denied: str = "") -> Change:
    """It is asked; ``denied``: the ground of another question, that somebody has said no to."""
    no = {denied: "denied by bob"} if denied else {}
    return lambda pool: record(asked=replace(pool.record.asked, open=asked, denied=no))(pool)


def kill(vm: str, n: int) -> Kill:
    return Kill(vm, vm, uuid(n), "the database does not know it")


def test_a_yes_to_a_repair_is_to_the_vms_that_its_question_named(h: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question(Ask.REPAIR, uuid(3), "vm-7", ("repoint",))
    monkeypatch.setattr(
        member_repair, "diagnose", lambda *_: member_repair.Remedy("repoint", Reason(Cause.ROLE, "it follows nobody"))
    )

    def repaired(*vms: str, denied: str = "") -> tuple[bool, str]:
        monkeypatch.setattr(member_repair, "at_stake", lambda *_: tuple(kill(vm, 3) for vm in vms))
        d = after(h, both(yes_to(asked, denied), live(MemberRepairs, troubles={uuid(3): 1})))
        found = member_repair.approve(d, asked, next(v for v in Verdict if v.entails.permits_repair), 1, "alice")
        ordered = any(isinstance(effect, SendOrder) for effect in d.effects)
        return ordered, "" if isinstance(found, str) else found.code if found is not None else "later"

    assert repaired("vm-7") == (True, "") and repaired() == (True, "")
    assert repaired("vm-8") == (False, "asked-anew") and repaired("vm-7", "vm-8") == (False, "asked-anew")
    no = question(Ask.REPAIR, uuid(3), "vm-8", ("repoint",)).ground
    assert repaired("vm-8", denied=no) == (False, "asked-anew")


def test_a_yes_to_a_restart_is_to_the_vms_that_its_question_named(h: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question(Ask.RESTART, uuid(1), "vm-7", ())
    monkeypatch.setattr(master_restart, "placements_of", lambda *_: PlacementView(True, 50, "state.db"))

    def restarted(*vms: str, denied: str = "") -> tuple[bool, str]:
        kills = tuple(kill(vm, 1) for vm in vms)
        obstacle = master_restart.Obstacle(Reason(Cause.KILLS, "it would kill"), kills=kills) if kills else None
        monkeypatch.setattr(master_restart, "_obstacle", lambda *_: obstacle)
        d = after(h, yes_to(asked, denied))
        found = master_restart.approve(d, asked, Verdict.XAPI_HUNG, 1, "alice")
        ordered = any(isinstance(effect, SendOrder) for effect in d.effects)
        return ordered, "" if isinstance(found, str) else found.code if found is not None else "later"

    assert restarted("vm-7") == (True, "") and restarted() == (True, "")
    assert restarted("vm-8") == (False, "asked-anew") and restarted("vm-7", "vm-8") == (False, "asked-anew")
    assert restarted("vm-8", denied=question(Ask.RESTART, uuid(1), "vm-8", ()).ground) == (False, "asked-anew")


def test_a_yes_to_a_failover_is_to_the_vms_that_its_question_named(g: Guarded) -> None:
    failover = failover_of(g)
    asked = replace(question(Ask.KILL, uuid(2), "vm-7", ()), failover=failover.id)
    topic = key_of(Blocker.KILL_FORECAST.value, (asked.ground, ""))
    waits = both(
        of_failover(step=Step.CANDIDATE),
        of_failover(Promotion, order=""),
        of_failover(Standstill, blocker=Blocker.KILL_FORECAST, topic=topic),
    )

    def said(vm: str) -> str:
        runs = facts(3, lambda f: replace(f, domains=(vm,)))
        d = after(g, both(waits, yes_to(asked), runs))
        yes = ev.OperatorSaid("r", "alice", "approve", "", (("accept_kill", "1"),))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(approval.machine, "hold_reason", lambda *_: "")
            patch.setattr(approval.machine, "ungrounded", lambda *_: "")
            patch.setattr(database_age, "too_old", lambda *_: None)
            found = approval._approve_open(d, yes, Verdict.VANISHED, asked, Needs(1))
        return "yes" if isinstance(found, str) else found.code

    assert said("vm-7") == "yes" and said("vm-8") == "asked-anew"


def test_a_collector_takes_charge_again_at_a_word_with_a_higher_epoch_and_after_a_quiet_time(h: Guarded) -> None:
    def raised(epoch: int) -> list[int]:
        d = after(h, record(stale_epoch=epoch))
        journal_gap.acknowledge(d, "alice")
        found = [effect.above for effect in d.effects if isinstance(effect, RaiseEpoch)]
        assert bool(found) == (d.live.journal_gap.quiet_until == d.now + d.policy.quiet_time_restored)
        return found

    assert raised(h.site.epoch + 4) == [h.site.epoch + 4] and raised(h.site.epoch) == []


# ------------------------------------------------------------------------------------------------ power by hand, VMs


def test_an_off_by_hand_ends_between_two_devices_if_its_host_lives_and_nobody_has_forced_it(h: Guarded) -> None:
    def switched(on: bool = False, forced: bool = False, *changes: Change) -> str:
        between = Switch(on, "alice", "bmc-1", "", ("pdu-1",), forced)
        of_record = record(after=replace(h.pool.record.after, switches={uuid(1): between}))
        d = after(h, both(of_record, *changes))
        power_switch.advance(d)
        acts = [type(effect) for effect in d.effects]
        return "on" if PowerOn in acts else "off" if PowerOff in acts else "ends" if d.entries else ""

    def long_gone(pool: Pool) -> Pool:
        agent = replace(pool.live.agents[uuid(1)], connected=False, last_heard=0)
        return live(agents={**pool.live.agents, uuid(1): agent})(pool)

    assert switched() == "ends" and switched(False, False, long_gone) == "off"
    assert switched(forced=True) == "off" and switched(on=True) == "on"


def test_a_host_is_woken_by_all_devices_of_its_first_level(h: Guarded) -> None:
    read = PowerState(readings=(PowerReading(Power.OFF, "bmc-1", h.now - 100, h.now - 50),))
    owed = record(owed=(Owed(uuid(1), OwedWork.WAKE, uuid(2), 1),))
    d = after(h, both(silent(1), owed, live(power={**h.pool.live.power, "bmc-1": read})))
    power_switch._wake(d, uuid(1))
    assert [effect.device for effect in d.effects if isinstance(effect, PowerOn)] == ["bmc-1"]


def test_a_lost_vm_is_started_once_it_is_queued(h: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_startable", "_gone_for_certain"):
        monkeypatch.setattr(lost_vms, name, lambda *_: True)
    monkeypatch.setattr(lost_vms, "_left", lambda *_: False)
    monkeypatch.setattr(vm_places, "located", lambda *_: True)
    monkeypatch.setattr(vm_places, "possible", lambda *_: [uuid(2)])
    for state, started in (("queued", True), ("starting", False)):
        vm = LostVm("vm-7", "db", uuid(3), state)
        of_record = record(after=replace(h.pool.record.after, lost={"vm-7": vm}))
        d = after(h, of_record)
        assert lost_vms._start(d, vm, Verdict.HEALTHY) is started
        assert [e.order.kind_name for e in d.effects if isinstance(e, SendOrder)] == ["start_vm"] * started


# ------------------------------------------------------------------------------------------------ the verdict


def test_silence_is_a_loss_only_by_a_members_testimony_or_two_off_readings(h: Guarded) -> None:
    def said(witness: Witness, off_twice: bool, own: CollectorWitness = CollectorWitness.UNANSWERED) -> Verdict:
        found = replace(signs(after(h, silent(1))), witness=witness, off_twice=off_twice, own=own)
        return verdict._silent(found)

    lost_for = {(witness, twice) for witness in Witness for twice in (False, True)}
    for witness, twice in lost_for:
        vanished = said(witness, twice) is Verdict.VANISHED
        assert vanished == (witness is not Witness.ANSWERED and (witness is Witness.UNANSWERED or twice)), witness


# ------------------------------------------------------------------------------------------------ moves, switchovers


def test_a_move_that_no_table_has_stops_the_step(g: Guarded) -> None:
    d = after(g, of_failover(step=Step.DECIDED))
    with pytest.raises(AssertionError, match="does not lead"):
        d.note(Kind.PROMOTED, "h2 is the master", host=uuid(2), name="host-2", address=address(2), seen="")
    assert not d.entries and d.record.failover is not None and d.record.failover.step is Step.DECIDED


def test_the_role_is_handed_over_only_where_the_restarts_are_known_to_kill_nothing(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Designation(host=uuid(2), before=uuid(1), by="alice", order="")
    long = h.now - h.policy.transition_hold

    def handed(stake: switchover.Stake | None, *, against: str = "", since: int = h.now) -> str:
        monkeypatch.setattr(switchover, "_stake", lambda d: stake)
        monkeypatch.setattr(switchover, "_standing", lambda d, host: against)
        of_record = record(after=replace(h.pool.record.after, designation=plan))
        d = after(h, both(of_record, live(designating=since)))
        switchover._order(d, plan)
        if any(isinstance(e, SendOrder) and e.order.kind_name == "designate_master" for e in d.effects):
            return "handed"
        return "ended" if Kind.DESIGNATE_RESULT in kinds(d) else ""

    nothing, kills = switchover.Stake("", ""), switchover.Stake("VM db would be killed", "shut it down")
    assert handed(nothing) == "handed" and handed(kills) == "ended"
    assert handed(None) == "" and handed(None, since=long) == "ended"
    assert handed(nothing, against="the pool is paused") == "ended"


def test_what_was_just_written_may_have_changed_the_verdict_for_what_comes_after_it(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict_after(writes: bool) -> Verdict:
        told: list[Verdict] = []

        def adopts(tx: Transaction, verdict: Verdict) -> None:
            if writes:
                tx.note(Kind.POOL_NAMED, "this pool's name is lab", name="lab")

        with monkeypatch.context() as patch:
            patch.setattr(adopt_master, "adopt", adopts)
            patch.setattr(master_vanished, "succeed", lambda d, verdict: told.append(verdict))
            patch.setattr(engine, "judge", lambda signs: Verdict.TWO_MASTERS)
            engine._act(after(h, both()), Verdict.HEALTHY)
        return told[0]

    assert verdict_after(False) is Verdict.HEALTHY and verdict_after(True) is Verdict.TWO_MASTERS


def test_a_members_xapi_is_restarted_at_a_word_only_where_that_kills_nothing(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restarted(kills: Any, *changes: Change) -> str:
        monkeypatch.setattr(restart_xapi, "at_stake", lambda d, host: kills)
        d = after(h, both(*changes))
        found = restart_xapi.command_restart(d, ev.OperatorSaid("r", "alice", "restart-xapi", uuid(3)), Verdict.HEALTHY)
        ordered = any(isinstance(effect, SendOrder) for effect in d.effects)
        assert isinstance(found, str) or not ordered
        return found.code if not isinstance(found, str) else "ordered" if ordered else "later"

    assert restarted(()) == "ordered" and restarted((kill("vm-7", 3),)) == "unsafe" and restarted(None) == "later"
    assert restarted(Reason(Cause.DOMAINS, "its VMs are not known")) == "unsafe"
    nobody_serves = live(agents={uuid(3): h.pool.live.agents[uuid(3)]})
    assert restarted((kill("vm-7", 3),), nobody_serves) == "ordered"  # there is no master whose database could place it


# ------------------------------------------------------------------------------------------------ bonds, owed work


def test_a_device_that_gives_itself_away_is_bound_no_more(h: Guarded) -> None:
    machine = h.pool.live.agents[uuid(2)].hello.machine

    def unbound(said: DeviceIdentity | None) -> bool:
        d = after(h, both())
        reading = PowerReading(Power.ON, "bmc-1", h.now, h.now, identity=said)
        device_binding.hold_to_its_word(d, uuid(1), reading)
        return Kind.DEVICE_UNBOUND in kinds(d) and "bmc-1" not in d.record.devices.bonds

    own = h.pool.live.agents[uuid(1)].hello.machine
    assert unbound(DeviceIdentity(serials=(machine.system_serial,)))
    assert not unbound(DeviceIdentity(serials=(own.system_serial,))) and not unbound(None)


def test_a_host_that_may_be_promoted_is_given_nothing_that_it_is_owed(g: Guarded) -> None:
    """Host 3's pool.conf says master, and it is owed a tombstone."""

    def given(**of_this: Any) -> bool:
        item = record(owed=(Owed(uuid(3), OwedWork.TOMBSTONE, uuid(1), 1),))
        d = after(g, both(of_role(3, pool_conf=Role.MASTER), item, of_failover(**of_this)))
        owed.owed_work(d)
        return any(isinstance(effect, SendOrder) for effect in d.effects)

    assert given(step=Step.PROMOTING)  # somebody else is promoted
    assert not given(step=Step.CANDIDATE) and not given(step=Step.PROMOTING, candidate=uuid(3))


def test_a_yes_about_unheard_hosts_covers_the_vms_of_those_alone_whose_vms_were_all_named(
    g: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unheard_members.fencing_stakes, "vms", lambda d, host: (f"vm-{host[:8]}",))
    monkeypatch.setattr(unheard_members.fencing_stakes, "names_all", lambda d, host: host == uuid(2))
    d = after(g, record(asked=replace(g.pool.record.asked, open=None)))
    assert unheard_members.named_vms(d, (uuid(2), uuid(3))) == ("vm-00000002",)
    other = after(g, yes_to(question(Ask.RESTART, uuid(1), "vm-7", ())))  # of VMs that a question without hosts names
    assert unheard_members.named_vms(other, ()) == ()


# ---------------------------------------------------------------------------------------------- members without agents


def test_a_yes_to_having_members_told_is_to_the_hosts_that_its_question_named(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover_members, "_refusal", lambda *_: "")
    monkeypatch.setattr(recover_members, "_follows", lambda *_: "10.0.0.9")
    monkeypatch.setattr(recover_members, "_for_long", lambda *_: True)
    ground = ground_of(Ask.RECOVER, uuid(1), Needs(), (), others=(uuid(3),))
    asked = Question("q-1", 1, Ask.RECOVER, uuid(1), "what", (), Needs(), ground, hosts=(uuid(3),))

    def told(*numbers: int, denied: str = "") -> tuple[list[str], str]:
        items = record(owed=tuple(Owed(uuid(n), OwedWork.REPOINT, uuid(1), 1) for n in numbers))
        d = after(h, both(yes_to(asked, denied), silent(*numbers), items))
        found = recover_members.approve(d, asked)
        sent = [e.order.kind_name for e in d.effects if isinstance(e, SendOrder)]
        return sent, "" if isinstance(found, str) else found.code

    assert told(3) == (["recover_members"], "") and told(2, 3) == ([], "asked-anew")
    no = ground_of(Ask.RECOVER, uuid(1), Needs(), (), others=(uuid(2), uuid(3)))
    assert told(2, 3, denied=no) == ([], "asked-anew")


def test_nobody_is_taken_from_a_master_that_answers_and_is_no_host_of_the_pool(h: Guarded) -> None:
    def living(address: str, answers: bool) -> list[str]:
        said = {uuid(3): {uuid(2): Told(RoleClaim.FOLLOWS, h.now, 1, address, answers)}}
        return recover_members._living_strangers(after(h, live(UnheardHosts, told=said)), (uuid(3),))

    own = h.pool.record.address_of(uuid(1))
    assert living("10.0.0.9", True) == ["10.0.0.9"]
    assert living("10.0.0.9", False) == [] and living(own, True) == []


def test_whoever_else_the_call_would_reach_is_named(h: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    for accounted in ((), (uuid(2),), (uuid(2), uuid(3))):
        monkeypatch.setattr(recover_members, "_accounted", lambda d, host, master, known=accounted: host in known)
        left = recover_members._unaccounted(after(h, both()), ())
        assert left == tuple(host for host in (uuid(2), uuid(3)) if host not in accounted)


def test_what_lies_there_is_started_with_only_if_it_is_what_was_forecast(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    now: Any = SimpleNamespace(host=uuid(1), source=uuid(2), placed=50)
    file = PlacementView(True, 50, "restore_db")

    def done(loads: PlacementView | None, kills: Any = (), covers: bool = True) -> str:
        acts: list[str] = []
        monkeypatch.setattr(restart_in_place, "placements_of", lambda *_: loads)
        monkeypatch.setattr(restart_in_place, "kills_on", lambda *_: kills)
        monkeypatch.setattr(restart_in_place, "covered", lambda d, now, kills: len(kills) == 0 or covers)
        for name in ("_remove", "_decide", "_late"):
            monkeypatch.setattr(restart_in_place, name, lambda *_, what=name: acts.append(what))
        d = after(h, both())
        agent = d.agent(uuid(1))
        assert agent is not None
        restart_in_place._placed(d, now, agent)
        (act,) = acts
        assert (uuid(2) in d.live.in_place.passed) == (act == "_remove")
        return act

    vm = (kill("vm-7", 1),)
    assert done(file) == "_decide" and done(file, vm) == "_decide"
    assert done(file, vm, covers=False) == "_remove" and done(replace(file, generation=49)) == "_remove"
    assert done(replace(file, readable=False)) == "_remove"
    assert done(None) == "_late" == done(file, Reason(Cause.DOMAINS, "not known"))


def test_a_release_is_told_again_only_on_what_it_was_decided_on(h: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file ends it; a yes that counts no more is asked for again; what is not known is waited for."""
    file, vm = PlacementView(True, 50, "restore_db"), (kill("vm-7", 1),)

    def does(
        loads: PlacementView | None, kills: Any = (), covers: bool = True, said: bool = False, generation: int = 50
    ) -> str:
        now: Any = SimpleNamespace(host=uuid(1), start={"source": uuid(2), "generation": generation})
        acts: list[str] = []
        monkeypatch.setattr(restart_in_place, "placements_of", lambda *_: loads)
        monkeypatch.setattr(restart_in_place, "kills_on", lambda *_: kills)
        monkeypatch.setattr(restart_in_place, "covered", lambda d, now, kills: len(kills) == 0 or covers)
        monkeypatch.setattr(restart_in_place, "accepted", lambda now, kills: said)
        monkeypatch.setattr(restart_in_place, "_members_told", lambda *_: True)
        monkeypatch.setattr(restart_in_place, "_late", lambda *_: False)
        for name in ("_ask", "_release", "give_up"):
            monkeypatch.setattr(restart_in_place, name, lambda *_, what=name: acts.append(what))
        d = after(h, both())
        agent = d.agent(uuid(1))
        assert agent is not None
        restart_in_place._start(d, now, agent)
        return ", ".join(acts)

    assert does(file) == "_release" == does(file, vm)
    assert does(file, vm, covers=False) == "give_up" and does(file, vm, covers=False, said=True) == "_ask"
    other = replace(file, generation=49)
    assert does(other) == "give_up" == does(other, vm, covers=False, said=True)
    assert does(other, generation=0) == "_release"  # its own file may have been written since
    blind = replace(file, readable=False)
    assert does(None) == "" == does(blind) == does(blind, covers=False, said=True, generation=0)
    assert does(file, Reason(Cause.DOMAINS, "not known")) == ""


def test_a_host_that_is_back_ends_the_alert_of_its_own_power_off_alone(
    h: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*topics: AlertTopic) -> list[AlertTopic]:
        d, over = after(h, both()), []
        monkeypatch.setattr(type(d), "open_topics", topics)
        monkeypatch.setattr(d, "resolve_alert", lambda topic, text: over.append(topic))
        power_off.settle_landed(d)
        return over

    boot = h.pool.live.agents[uuid(2)].hello.boot_id
    back, still = (AlertTopic(Matter.LANDED, uuid(2), each) for each in ("an-earlier-boot", boot))
    left = AlertTopic(Matter.LANDED, "of-no-pool", boot)
    other = AlertTopic(Matter.INCIDENT, detail="MasterVanished", number="1")
    assert ended(back, still, left, other) == [back, left]
