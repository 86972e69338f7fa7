"""After a power proof: the dead host is declared dead, its VMs are listed, and started only at an operator's word."""

from dataclasses import replace

import pytest
from tests.core.pool import CAPABLE, QUIET, Guarded, Host, address, running, uuid

from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import PoolView, Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import OrderOutcome, Outcome, PlacementView, VmPlace
from poolwarden_collector.core.model.orders import DeclareHostDead, LocateVms, Order, StartVm
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import ProcessId, Role
from poolwarden_collector.core.state.pool_record import OwedWork, PoolRecord, fold

pytestmark = pytest.mark.slow  # minutes of a pool's life in each

ABLE = CAPABLE | {"declare_host_dead", "start_vm", "locate_vms"}
DB = PlacementView(True, 50, "state.db", (running("vm-1", uuid(1), "web"), running("vm-2", uuid(1), "db")))


class World:
    """What the new master's xapi answers, and what it was told."""

    def __init__(self, hosts: int = 3, vms: int = 2, devices: bool = True, policy: Policy | None = None) -> None:
        self.g = Guarded(hosts, devices=devices, policy=policy)
        self.dead_answer = Outcome.DONE
        self.start_answer: Outcome | None = Outcome.DONE
        self.refusal = ""
        self.started: list[tuple[str, str]] = []
        placed = tuple(running(f"vm-{n}", uuid(1), f"web{n}") for n in range(1, vms + 1))
        for host in self.g.hosts:
            self.g.connect(host, capabilities=ABLE)
            host.placements = PlacementView(True, 50, "state.db", placed)
        self.g.host(1).domains = tuple(item.vm for item in placed)
        self.g.on_order = self.answer
        self.probes(ProbeOutcome.UNREACHABLE)
        self.g.run(30_000)

    def probes(self, outcome: ProbeOutcome) -> None:
        """What a probe of a host that does not answer finds."""
        honest = Guarded.probe

        def probe(host: Host, target: Host) -> Probe:
            found = honest(self.g, host, target)
            return found if found.outcome is ProbeOutcome.ANSWERED else replace(found, outcome=outcome)

        self.g.probe = probe  # type: ignore[method-assign]

    def answer(self, host: Host, order: Order) -> OrderOutcome | None:
        done = OrderOutcome(order.order_id, order.kind_name, Outcome.DONE)
        kind = order.kind
        if isinstance(kind, DeclareHostDead):
            return replace(
                done, outcome=self.dead_answer, text="" if self.dead_answer is Outcome.DONE else "HOST_IS_LIVE"
            )
        if isinstance(kind, LocateVms):
            hosts = ((uuid(2), self.refusal), (uuid(3), self.refusal))
            return replace(done, vm_places=tuple(VmPlace(vm, vm, "Halted", hosts) for vm in kind.vms))
        if isinstance(kind, StartVm):
            self.started.append((kind.vm, kind.host))
            if self.start_answer is None:
                return None
            return replace(
                done, outcome=self.start_answer, text="" if self.start_answer is Outcome.DONE else "NO_MEMORY"
            )
        return self.g.default(host, order)

    def told(self, kind: str) -> list[Order]:
        return [order for host in self.g.hosts for order in host.orders if order.kind_name == kind]

    def states(self) -> dict[str, str]:
        return {vm.vm: vm.state for vm in self.g.pool.record.after.lost.values()}

    def die(self, ms: int = 60_000) -> None:
        self.g.cut_power()
        self.g.run(ms)


def test_a_host_proven_off_is_declared_dead_after_its_vms_are_on_record() -> None:
    w = World()
    w.die()
    assert [order.kind for order in w.told("declare_host_dead")] == [DeclareHostDead(uuid(1))]
    assert w.told("declare_host_dead")[0].host == uuid(2)
    kinds = w.g.kinds()
    assert kinds.index("lost-vms") < kinds.index("declare-dead-intent") < kinds.index("declared-dead")
    assert kinds.index("closed") < kinds.index("declare-dead-intent")
    assert w.states() == {"vm-1": "lost", "vm-2": "lost"}
    assert not [item for item in w.g.pool.record.owed if item.what is OwedWork.DECLARE_DEAD]
    lost = next(e for e in w.g.journal if e.kind is Kind.ALERT and "/lost-" in e.data["key"])
    assert "web1, web2" in lost.data["body"] and "start-lost lab" in lost.data["body"]
    assert w.started == []


def test_the_declaration_rests_on_two_fresh_readings() -> None:
    w = World()
    w.die()
    intent = w.g.entry(Kind.DEAD_INTENT)
    reading = intent.data["proof"]["readings"][0]
    closed = next(e for e in w.g.journal if e.kind is Kind.CLOSED)
    assert reading["second"]["ended_ms"] - reading["first"]["ended_ms"] >= 3_000
    assert w.g.journal.index(closed) < w.g.journal.index(intent)


def test_a_host_switched_on_meanwhile_is_not_declared_dead() -> None:
    w = World()
    w.probes(ProbeOutcome.NO_ANSWER)  # so it has to wait until xapi has it dead
    w.die()
    assert w.told("declare_host_dead") == []
    w.g.host(1).power = Power.ON
    w.probes(ProbeOutcome.UNREACHABLE)
    w.g.run(60_000)
    assert w.told("declare_host_dead") == []
    assert any("/dead-" in key for key in w.g.pool.record.open_alerts)
    w.g.host(1).power = Power.OFF
    w.g.run(700_000)
    assert len(w.told("declare_host_dead")) == 1
    assert not any("/dead-" in key for key in w.g.pool.record.open_alerts)


@pytest.mark.parametrize(("vms", "outcome", "at_once"), [
    (2, ProbeOutcome.UNREACHABLE, True),
    (30, ProbeOutcome.UNREACHABLE, False),
    (0, ProbeOutcome.NO_ANSWER, False),
])  # fmt: skip
def test_it_waits_for_xapi_where_trying_to_reach_the_host_would_take_long(
    vms: int, outcome: ProbeOutcome, at_once: bool
) -> None:
    w = World(vms=vms)
    w.probes(outcome)
    w.die()
    assert bool(w.told("declare_host_dead")) is at_once
    see(w, live=False)
    w.g.run(20_000)
    assert len(w.told("declare_host_dead")) == 1


def see(w: World, live: bool) -> None:
    """From now on the master's view has host-1 live or not."""
    honest = w.g.facts

    def facts(host: Host):  # type: ignore[no-untyped-def]
        told = honest(host)
        if not isinstance(told.pool_view, PoolView):
            return told
        hosts = tuple(replace(h, live=live) if h.host == uuid(1) else h for h in told.pool_view.hosts)
        return replace(told, pool_view=replace(told.pool_view, hosts=hosts))

    w.g.facts = facts  # type: ignore[method-assign]


def test_a_human_proof_alone_declares_nobody_dead() -> None:
    w = World(devices=False)
    w.g.cut_power()
    w.g.run(30_000)
    w.g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    w.g.run(60_000)
    assert w.g.pool.record.master == uuid(2)
    w.g.run(60_000)
    assert w.told("declare_host_dead") == [] and w.states() == {}
    reply = w.g.say("declare-dead", 1, typed_name="host-1")
    assert reply is not None and not reply.accepted and reply.code == "no-proof"


def test_policy_can_leave_it_to_the_operator() -> None:
    w = World(policy=Policy(quiet_time=QUIET, declare_dead=False))
    w.die(120_000)
    assert w.told("declare_host_dead") == []
    assert w.g.say("declare-dead", 1, typed_name="host-1") is None  # two readings are taken first
    w.g.run(10_000)
    assert len(w.told("declare_host_dead")) == 1
    assert w.g.entry(Kind.DEAD_INTENT).actor == "alice"
    assert w.states() == {"vm-1": "lost", "vm-2": "lost"}


def test_declare_dead_is_refused_while_the_host_has_power_or_answers() -> None:
    w = World(policy=Policy(quiet_time=QUIET, declare_dead=False))
    reply = w.g.say("declare-dead", 3, typed_name="host-3")
    assert reply is not None and reply.code == "agent-alive"
    w.die(120_000)
    reply = w.g.say("declare-dead", 1, typed_name="host-2")
    assert reply is not None and reply.code == "name-differs"
    w.g.host(1).power = Power.ON
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(10_000)
    assert w.told("declare_host_dead") == []
    refused = w.g.entry(Kind.OPERATOR_REFUSED)
    assert refused.data["code"] == "power-on"


def test_xapis_refusal_is_said_and_tried_again_after_new_readings() -> None:
    w = World()
    w.dead_answer = Outcome.FAILED
    w.die(120_000)
    assert len(w.told("declare_host_dead")) == 1
    assert any("/dead-" in key for key in w.g.pool.record.open_alerts)
    w.dead_answer = Outcome.DONE
    w.g.run(620_000)
    assert len(w.told("declare_host_dead")) == 2
    assert w.g.entry(Kind.DECLARED_DEAD).data["declared"] is True


def test_an_old_master_that_is_back_is_not_declared_dead() -> None:
    w = World(vms=30)
    w.die()
    back(w)
    w.g.run(30_000)
    see(w, live=False)
    w.g.run(60_000)
    assert w.told("declare_host_dead") == []
    assert not [item for item in w.g.pool.record.owed if item.what is OwedWork.DECLARE_DEAD]


def back(w: World, attached: bool = True) -> None:
    host = w.g.host(1)
    host.boot, host.power, host.agent, host.domains = "boot-1-2", Power.ON, True, ()
    host.serves, host.process, host.answers = False, ProcessId(7, 7), True
    if attached:
        host.pool_conf = host.running = Role.MEMBER
        host.master_address = address(2)
    w.g.connect(host, capabilities=ABLE)
    w.g.report(host)


# ------------------------------------------------------------------------------------------------ starting


def test_a_dry_run_lists_and_starts_nothing() -> None:
    w = World()
    w.die()
    reply = w.g.say("start-lost", dry_run="yes")
    assert reply is not None and reply.accepted and "2 of 2" in reply.text
    w.g.run(30_000)
    assert w.started == []


def test_lost_vms_are_started_at_a_word_spread_over_the_hosts() -> None:
    w = World(vms=4)
    w.die()
    reply = w.g.say("start-lost")
    assert reply is not None and reply.accepted
    w.g.run(30_000)
    assert sorted(vm for vm, _ in w.started) == ["vm-1", "vm-2", "vm-3", "vm-4"]
    assert sorted(host for _, host in w.started) == [uuid(2), uuid(2), uuid(3), uuid(3)]
    assert w.states() == {}, "the list is over when every VM runs"
    assert not any("/lost-" in key for key in w.g.pool.record.open_alerts)


@pytest.mark.parametrize("answer", [None, Outcome.UNKNOWN])
def test_one_at_a_time_and_each_once(answer: Outcome | None) -> None:
    """One that was answered is over at the agent, whatever the answer says."""
    w = World(vms=4)
    w.start_answer = answer
    w.die()
    w.g.say("start-lost")
    w.g.run(60_000)
    assert len(w.started) == len(set(w.started)) == (1 if answer is None else 4)
    w.g.say("start-lost")
    w.g.run(10_000)
    assert len(w.started) == len(set(w.started)) == (1 if answer is None else 4)


def test_a_vm_that_runs_already_is_not_started() -> None:
    w = World()
    w.die()
    w.g.host(3).domains = ("vm-1",)
    w.g.run(4_000)
    w.g.say("start-lost")
    w.g.run(30_000)
    assert [vm for vm, _ in w.started] == ["vm-2"]


def test_nothing_is_started_of_a_host_that_is_not_declared_dead() -> None:
    w = World()
    w.dead_answer = Outcome.FAILED
    w.die()
    reply = w.g.say("start-lost")
    assert reply is not None and not reply.accepted and reply.code == "not-declared"
    assert w.started == []


def test_the_hosts_power_is_read_anew_before_a_start() -> None:
    w = World()
    w.die()
    w.g.host(1).power = Power.ON
    w.g.say("start-lost")
    w.g.run(60_000)
    assert w.started == [] and w.states() == {"vm-1": "failed", "vm-2": "failed"}
    assert "not proven off any more" in w.g.entry(Kind.START_RESULT).text


def test_with_the_old_host_back_as_a_member_its_vms_can_be_started() -> None:
    w = World()
    w.die()
    back(w)
    w.g.run(20_000)
    w.g.say("start-lost")
    w.g.run(20_000)
    assert len(w.started) == 2


def test_an_old_host_that_is_back_as_something_else_holds_the_starts() -> None:
    w = World()
    w.die()
    back(w, attached=False)
    w.g.auto_answer = True
    w.g.host(1).master_address = ""
    w.g.say("start-lost")
    w.g.run(2_000)
    assert w.started == []


def test_every_refusal_to_start_has_a_next_step() -> None:
    w = World()
    w.die()
    w.g.say("pause", reason="maintenance")
    paused = w.g.say("start-lost")
    w.g.say("resume")
    w.g.auto_answer = False
    w.g.host(3).agent = w.g.host(2).agent = False
    w.g.run(12_000)
    unheard = w.g.say("start-lost")
    for reply, step in ((paused, "poolwarden resume"), (unheard, "poolwarden explain")):
        assert reply is not None and not reply.accepted and step in reply.next_step, reply
    assert w.started == []


def test_a_vm_that_can_start_nowhere_is_refused_with_xapis_reason() -> None:
    w = World()
    w.refusal = "VM_REQUIRES_SR local-1"
    w.die()
    reply = w.g.say("start-lost")
    assert reply is not None and not reply.accepted and "VM_REQUIRES_SR local-1" in reply.text
    assert w.started == []


def test_a_failed_start_says_why_and_can_be_asked_for_again() -> None:
    w = World(vms=1)
    w.start_answer = Outcome.FAILED
    w.die()
    w.g.say("start-lost")
    w.g.run(20_000)
    assert w.states() == {"vm-1": "failed"} and "NO_MEMORY" in w.g.entry(Kind.START_RESULT).text
    w.start_answer = Outcome.DONE
    w.g.say("start-lost")
    w.g.run(20_000)
    assert w.states() == {}


def test_the_queue_survives_the_collector() -> None:
    w = World(vms=4)
    w.start_answer = None
    w.die()
    w.g.say("start-lost")
    w.g.run(10_000)
    first = [vm for vm, _ in w.started]
    w.g.host(2).domains = (*first,)
    w.start_answer = Outcome.DONE
    for host in w.g.hosts:
        host.agent = host.n != 1
    restart(w)
    w.g.run(60_000)
    assert sorted(vm for vm, _ in w.started) == ["vm-1", "vm-2", "vm-3", "vm-4"], "each once"
    assert w.states() == {}


def restart(w: World) -> None:
    w.g.restart_collector()
    for host in w.g.hosts:
        if host.agent:
            w.g.connect(host, capabilities=ABLE)


def test_the_list_can_be_forgotten() -> None:
    w = World()
    w.die()
    reply = w.g.say("start-lost", forget="yes")
    assert reply is not None and reply.accepted and w.states() == {} and w.started == []
    again = w.g.say("start-lost")
    assert again is not None and again.code == "nothing-lost"


def test_a_late_reading_is_waited_for_and_then_refused() -> None:
    w = World(policy=Policy(quiet_time=QUIET, declare_dead=False))
    w.die(120_000)
    w.g.host(1).power = Power.UNKNOWN
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(12_000)
    assert w.g.entry(Kind.OPERATOR_REFUSED).data["code"] == "no-proof"
    assert w.told("declare_host_dead") == []


def test_a_members_death_can_be_declared_too() -> None:
    w = World()
    w.g.host(2).placements = w.g.host(1).placements = PlacementView(
        True, 50, "state.db", (running("vm-9", uuid(3), "files"),)
    )
    w.g.host(1).domains = ()
    w.g.cut_power(3)
    w.g.run(30_000)
    w.g.say("declare-dead", 3, typed_name="host-3")
    w.g.run(20_000)
    assert [order.kind for order in w.told("declare_host_dead")] == [DeclareHostDead(uuid(3))]
    assert w.states() == {"vm-9": "lost"}


def test_an_answer_of_life_in_between_ends_it() -> None:
    """The host's own agent is heard in the same boot: whatever its power reads, nobody declares it dead."""
    w = World(vms=30)
    w.die()
    w.g.host(1).agent = True
    w.g.feed(ev.AgentConnected(99, w.g.pool.live.agents[uuid(1)].hello))
    w.g.host(1).stream = 99
    w.g.report(w.g.host(1))
    see(w, live=False)
    w.g.run(30_000)
    assert w.told("declare_host_dead") == []


# ------------------------------------------------------------------------------------------------ listed anew


def lost_alerts(w: World) -> list[str]:
    w.g.run(60_000)
    return [key for key in w.g.pool.record.open_alerts if "/lost-" in key]


def no_placements(w: World, readable: bool = True) -> None:
    for host in w.g.hosts:
        host.placements = PlacementView(readable, 60, "state.db", ())


def told_to_another(w: World) -> None:
    """As if a master before this one had been told that the host is dead."""
    journal = w.g.journal
    at = journal.index(w.g.entry(Kind.DEAD_INTENT))
    journal[at] = replace(journal[at], data={**journal[at].data, "master": uuid(3)})
    w.g.pool = replace(w.g.pool, record=fold(PoolRecord(w.g.pool.record.pool), journal))


@pytest.mark.parametrize("readable", [True, False])
def test_what_is_down_stays_on_the_list_when_another_master_is_told(readable: bool) -> None:
    """Its database is from after the first declaration, which has halted the VMs."""
    w = World()
    w.die()
    no_placements(w, readable)
    told_to_another(w)
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(60_000)
    assert len([e for e in w.g.journal if e.kind is Kind.LOST_VMS]) == 2
    assert w.states() == {"vm-1": "lost", "vm-2": "lost"} and len(lost_alerts(w)) == 1


@pytest.mark.parametrize("readable", [True, False])
def test_a_host_that_is_lost_again_without_vms_leaves_no_alert_that_no_command_ends(readable: bool) -> None:
    w = World()
    w.die()
    back(w)
    w.g.run(20_000)
    no_placements(w, readable)
    w.g.cut_power()
    w.g.run(30_000)
    w.g.say("declare-dead", 1, typed_name="host-1")
    w.g.run(60_000)
    assert not w.states() and not lost_alerts(w)
