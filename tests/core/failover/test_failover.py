"""The failover, in the small: one pool, effects answered by hand or at once."""

from dataclasses import replace

import pytest
from tests.core.pool import QUIET, Guarded, Host, uuid

from poolwarden_collector.core.evidence.proof import NoProof, Proof, verify_power
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.effects import PowerOff
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import ClaimOutcome, OrderOutcome, Placement, PlacementView
from poolwarden_collector.core.model.order_results import Outcome as End
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import ProcessId, Role, Tri
from poolwarden_collector.core.state.device_record import Devices
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.transaction import Transaction


def test_a_healthy_pool_is_left_alone() -> None:
    g = Guarded()
    g.run(30_000)
    assert g.verdict == "Healthy"
    assert not g.has(Kind.ALERT)
    assert not [o for h in g.hosts for o in h.orders]


def test_power_loss_heals() -> None:
    g = Guarded()
    cut = g.now
    g.cut_power()
    g.run(30_000)
    assert g.promoted() == [uuid(2)]
    closed = g.pool.record.failover
    assert closed is not None and closed.step is Step.CLOSED
    assert g.verdict == "Healthy" or g.verdict == "MemberVanished"
    order = ["decided", "claimed", "candidate", "proof", "promote-intent", "promoted", "repoint-intent", "member-back"]
    kinds = g.kinds()
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    intent = next(e for e in g.journal if e.kind is Kind.PROMOTE_INTENT)
    assert intent.term == 2
    assert g.pool.record.owed[0].host == uuid(1)
    done = next(e for e in g.journal if e.kind is Kind.ALERT and e.data["key"].endswith("/done"))
    assert "10.0.0.2" in done.data["title"]
    assert g.now - cut <= 30_000


def test_the_newest_database_is_promoted() -> None:
    g = Guarded()
    g.host(3).generation = 51
    g.run(2_000)
    g.cut_power()
    g.run(30_000)
    assert g.promoted() == [uuid(3)]


def test_one_off_reading_is_no_proof() -> None:
    g = Guarded()
    g.cut_power()
    while not g.has(Kind.DECIDED):
        g.run(250)
    assert not g.has(Kind.PROMOTE_INTENT)
    first = g.now
    while not g.has(Kind.PROMOTE_INTENT):
        g.run(250)
    assert g.now - first >= 2_500


def test_life_after_an_off_reading_disputes_the_device() -> None:
    g = Guarded()
    g.cut_power()
    while not g.has(Kind.DECIDED):
        g.run(250)
    old = g.host(1)
    old.agent, old.answers = True, True
    g.connect(old)
    g.run(10_000)
    assert g.has(Kind.DEVICE_QUARANTINED)
    assert g.has(Kind.ABORTED)
    assert "FenceDisputed" in [e.data.get("verdict") for e in g.journal if e.kind is Kind.VERDICT]
    assert g.promoted() == []


def test_power_on_asks_and_shoots_nobody() -> None:
    g = Guarded()
    g.cut_power()
    g.host(1).power = Power.ON
    g.run(150_000)
    assert g.promoted() == []
    assert g.has(Kind.ASKED)
    assert not [e for e in g.effects if isinstance(e, PowerOff)]


def test_power_on_is_shot_by_policy_after_patience() -> None:
    g = Guarded(policy=Policy(quiet_time=QUIET, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.ON
    cut = g.now
    while not g.has(Kind.FENCE_INTENT):
        g.run(250)
        assert g.now - cut < 200_000
    assert g.now - cut >= 100_000 - 2_000  # silence counts from the last report
    shot = next(e for e in g.effects if isinstance(e, PowerOff))
    g.host(1).power = Power.OFF
    g.feed(ev.FenceEnded(shot.host, shot.run_id, True, True, "Success: Powered OFF", g.now))
    g.run(20_000)
    assert g.promoted() == [uuid(2)]
    assert len([e for e in g.effects if isinstance(e, PowerOff)]) == 1


def test_an_unreadable_power_blocks_until_a_person_confirms() -> None:
    g = Guarded()
    g.cut_power()
    g.host(1).power = Power.UNKNOWN
    g.run(40_000)
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_NEEDS_HUMAN"
    assert g.promoted() == []
    refused = g.say("confirm-fenced", 1, typed_name="host-2", how="cord pulled")
    assert refused is not None and refused.code == "name-differs"
    said = g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    assert said is not None and said.accepted
    g.run(30_000)
    assert g.promoted() == [uuid(2)]
    assert g.entry(Kind.PROOF).data["kind"] == "human"
    assert g.pool.record.failover is not None and g.pool.record.failover.id == failover.id


def test_confirmation_is_refused_while_the_agent_answers() -> None:
    g = Guarded()
    said = g.say("confirm-fenced", 1, typed_name="host-1", how="cord pulled")
    assert said is not None and said.code == "agent-alive"


def test_an_unbound_device_proves_nothing() -> None:
    g = Guarded(hosts=3)
    g.pool = replace(g.pool, record=replace(g.pool.record, devices=Devices()))
    g.journal = [e for e in g.journal if e.kind is not Kind.DEVICE_BOUND]
    g.cut_power()
    g.run(40_000)
    assert g.promoted() == []
    assert g.pool.record.failover is not None
    assert "not bound" in g.pool.record.failover.standstill.why


@pytest.mark.slow
def test_a_device_that_reads_off_while_its_host_lives_is_quarantined() -> None:
    g = Guarded()
    g.host(2).power = Power.OFF
    g.run(700_000)
    assert "bmc-2" in g.pool.record.devices.quarantined
    assert g.verdict == "Healthy"


def test_a_veto_aborts_with_a_new_term() -> None:
    g = Guarded()

    def veto(host: Host, order: Order) -> OrderOutcome | None:
        result = g.default(host, order)
        if order.kind_name == "claim" and host.n == 3 and result is not None:
            return replace(result, claim=ClaimOutcome(None, None, "the old master answers me"))
        return result

    g.on_order = veto
    g.cut_power()
    g.run(12_000)
    aborted = next(e for e in g.journal if e.kind is Kind.ABORTED)
    assert "vetoed by host-3" in aborted.text
    assert aborted.data["new_term"] == 3
    assert g.promoted() == []


def test_a_kill_forecast_blocks_and_names_the_vm() -> None:
    g = Guarded()
    g.host(3).domains = ("vm-1",)
    view = PlacementView(True, 50, "state.db", (Placement("vm-1", uuid(2), "web"),))
    g.host(2).placements = g.host(3).placements = view
    g.run(2_000)
    g.cut_power()
    g.run(40_000)
    assert g.promoted() == []
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_KILL_FORECAST"
    assert "web on host-3" in failover.standstill.why


def test_a_full_disk_excludes_a_candidate_and_says_so() -> None:
    g = Guarded()
    g.host(2).free = 0
    g.run(2_000)
    g.cut_power()
    g.run(30_000)
    assert g.promoted() == [uuid(3)]
    assert any("host-2: not eligible" in line for line in g.entry(Kind.CANDIDATE).data["ranking"])


def test_a_promotion_that_is_not_verified_blocks_and_is_never_given_to_another() -> None:
    g = Guarded()

    def ok_but_nothing(host: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "promote":
            host.pool_conf = Role.MASTER
            return OrderOutcome(order.order_id, "promote", End.DONE, term=order.term)
        return g.default(host, order)

    g.on_order = ok_but_nothing
    g.cut_power()
    g.run(240_000)
    failover = g.pool.record.failover
    assert failover is not None and failover.standstill.blocker == "BLOCKED_UNVERIFIED"
    assert "has not restarted" in failover.standstill.why
    assert set(g.promoted()) == {uuid(2)}


def test_pause_holds_an_open_failover_before_its_promotion() -> None:
    g = Guarded()
    g.cut_power()
    while not g.has(Kind.DECIDED):
        g.run(250)
    assert g.say("pause", reason="rack work") is not None
    g.run(60_000)
    assert g.promoted() == []
    g.say("resume")
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_armed_ha_means_hands_off() -> None:
    g = Guarded()
    g.host(2).ha = Tri.YES
    g.run(2_000)
    g.cut_power()
    g.run(60_000)
    assert g.verdict == "HaManaged"
    assert g.promoted() == []


def test_only_the_collector_loses_the_master() -> None:
    g = Guarded()
    g.host(1).agent = False
    g.feed(ev.AgentGone(uuid(1), g.host(1).stream))
    g.run(60_000)
    assert g.verdict == "AgentLost"
    assert g.promoted() == [] and not g.has(Kind.DECIDED)


def test_a_member_without_standing_cannot_witness_but_two_off_readings_need_none() -> None:
    g = Guarded()
    g.journal = [e for e in g.journal if e.kind is not Kind.STANDING]
    g.pool = replace(g.pool, record=replace(g.pool.record, standing={}))
    g.cut_power()
    g.run(4_000)
    assert g.verdict == "Suspect"
    g.run(30_000)
    assert g.promoted() == [uuid(2)]


def test_a_hung_master_is_restarted_and_nobody_promoted() -> None:
    g = Guarded()
    host = g.host(1)
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since = g.now

    def restart(h: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "restart_xapi":
            h.liveness = h.socket = Liveness.ANSWERS
            h.unwell_since = None
            h.process = ProcessId(h.process.pid + 1, h.process.start_ticks + 1)
        return g.default(h, order)

    g.on_order = restart
    g.run(150_000)
    assert [o.kind_name for o in host.orders].count("restart_xapi") == 1
    assert g.has(Kind.RESTART_RESULT)
    assert g.verdict == "Healthy"
    assert g.promoted() == []


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["newer member", "kill", "disk"])
def test_an_unsafe_restart_is_not_done_and_says_why(trouble: str) -> None:
    g = Guarded()
    host = g.host(1)
    if trouble == "newer member":
        g.host(2).generation = 99
    elif trouble == "kill":
        host.domains = ("vm-9",)
    else:
        host.free = 0
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since = g.now
    g.run(150_000)
    assert "restart_xapi" not in [o.kind_name for o in host.orders]
    asked = g.entry(Kind.ASKED).text
    assert {"newer member": "newer database", "kill": "would kill", "disk": "no room"}[trouble] in asked


def test_an_agent_that_does_not_read_its_database_is_named_as_the_reason() -> None:
    g = Guarded()
    host = g.host(1)

    def refuse(h: Host, order: Order) -> OrderOutcome | None:
        if order.kind_name == "collect_evidence":
            return OrderOutcome(order.order_id, order.kind_name, End.REFUSED, "storage", "its disk cannot be read")
        return g.default(h, order)

    g.on_order = refuse
    host.liveness = host.socket = Liveness.SILENT
    host.unwell_since = g.now
    g.run(150_000)
    assert "restart_xapi" not in [o.kind_name for o in host.orders]
    assert "its disk cannot be read" in g.entry(Kind.ASKED).text


def test_the_old_master_returns_and_is_made_a_member() -> None:
    g = Guarded()
    g.cut_power()
    g.run(30_000)
    old = g.host(1)
    old.boot, old.agent, old.answers, old.power = "boot-1-2", True, True, Power.ON
    g.connect(old)
    g.run(20_000)
    assert [o.kind_name for o in old.orders] == ["set_tombstone", "repoint", "set_tombstone"]
    assert old.master_address == "10.0.0.2"
    assert old.tombstone is None
    assert g.pool.record.owed == ()
    assert g.verdict == "Healthy"
    assert g.pool.record.master == uuid(2)


@pytest.mark.slow
def test_after_every_restart_of_the_collector_it_goes_on_with_the_same_failover() -> None:
    plain = Guarded()
    plain.cut_power()
    plain.run(30_000)
    points = len(plain.journal)
    assert points > 10
    start = len(Guarded().journal)
    for cut_at in range(start + 1, points):
        g = Guarded()
        g.cut_power()
        for _ in range(400):
            if len(g.journal) >= cut_at:
                break
            g.run(250)
        g.restart_collector()
        g.run(60_000)
        assert set(g.promoted()) == {uuid(2)}, cut_at
        assert g.pool.record.failover is not None and g.pool.record.failover.step is Step.CLOSED, cut_at
        assert g.pool.record.failovers == 1, cut_at


@pytest.mark.slow
def test_after_a_dark_pool_a_master_that_does_not_read_off_gets_boot_grace() -> None:
    g = Guarded()
    for host in g.hosts:
        host.agent = host.answers = False
        g.feed(ev.AgentGone(host.uuid, host.stream))
    g.host(1).power = Power.UNKNOWN
    g.run(30_000)
    assert g.verdict == "PoolDark"
    for host in g.hosts[1:]:
        host.agent = host.answers = True
        g.connect(host)
    g.run(300_000)
    assert g.verdict == "MasterVanished"
    assert not g.has(Kind.DECIDED)
    assert "boot grace" in g.entry(Kind.ASKED).text
    g.run(400_000)
    assert g.has(Kind.DECIDED), "the grace of ten minutes is over"
    assert g.promoted() == []


def test_a_member_that_was_silent_at_the_forecast_is_asked_about_before_it_is_repointed() -> None:
    g = Guarded()
    g.host(3).domains = ("vm-7",)
    g.run(2_000)
    g.host(3).agent = g.host(3).answers = False
    g.host(3).power = Power.OFF  # off at the forecast: its VMs are gone as far as anybody can tell
    g.feed(ev.AgentGone(uuid(3), g.host(3).stream))
    g.run(15_000)
    g.cut_power()
    g.run(60_000)
    assert g.promoted() == [uuid(2)]
    late = g.host(3)
    late.agent = late.answers = True
    g.connect(late)
    g.run(30_000)
    assert "repoint" not in [o.kind_name for o in late.orders]
    assert any("would kill 1 running VMs" in str(e.data.get("body")) for e in g.journal if e.kind is Kind.ALERT)
    g.host(2).placements = PlacementView(True, 50, "state.db", (Placement("vm-7", uuid(3), "web"),))
    g.run(60_000)
    assert "repoint" in [o.kind_name for o in late.orders]


def test_the_final_alert_does_not_call_a_lost_host_the_new_master() -> None:
    g = Guarded()
    g.on_order = lambda host, order: None if order.kind_name == "repoint" else g.default(host, order)
    g.cut_power()
    while not g.has(Kind.PROMOTED):
        g.run(250)
    new = g.host(2)
    new.agent, new.answers, new.serves, new.power = False, False, False, Power.OFF
    g.feed(ev.AgentGone(uuid(2), new.stream))
    g.run(60_000)
    done = next(e for e in g.journal if e.kind is Kind.ALERT and e.data["key"].endswith("/done"))
    assert "is lost again" in done.data["title"]
    assert done.data["severity"] == "critical"


@pytest.mark.parametrize(("apart", "proven"), [(2_900, False), (2_999, False), (3_000, True)])
def test_two_off_readings_are_three_seconds_apart_and_not_a_millisecond_less(apart: int, proven: bool) -> None:
    """From the end of the first to the start of the second: in between nothing of one answer can be in the other."""
    g = Guarded()
    boot = g.pool.record.hosts[uuid(1)].boot_id
    g.cut_power()
    while not g.has(Kind.DECIDED):
        g.run(250)
    state = g.pool.live.power["bmc-1"]
    first = state.newest
    assert first is not None and first.power is Power.OFF
    second = replace(first, started_at=first.ended_at + apart, ended_at=first.ended_at + apart + 100)
    live = replace(g.pool.live, power={**g.pool.live.power, "bmc-1": replace(state, readings=(first, second))})
    found = verify_power(Transaction(replace(g.pool, live=live), second.ended_at, g.site), uuid(1), boot)
    assert isinstance(found, Proof) is proven
    if not proven:
        assert isinstance(found, NoProof) and found.code == "ONE_READING"
