"""The host side without threads and sockets: what it says, what it observes, and each order through every crash."""

import contextlib

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate, judge
from poolwarden_agent.dom0.port import Act, Emergency
from poolwarden_agent.dom0.slots import SlotError
from poolwarden_agent.hostside import DEFAULTS, LONGEST_TEXT, HostSide
from poolwarden_agent.observe import OWN_MASTER

from .fake_port import FakePort, Killed, serving_view
from .tree import HOST, OTHER, POOL

ANSWERED = judge.ProbeResult(judge.ANSWERED, "cert", "answered")
SILENT = judge.ProbeResult(judge.NO_ANSWER, "", "silent")


@pytest.fixture
def port():
    return FakePort()


@pytest.fixture
def side(port):
    return HostSide(port, "3.6.8")


def order(port, order_id="o1", **kind):
    """An order that the gate lets pass."""
    fields = {"epoch": 1, "term": 1, "pool_uuid": POOL, "host_uuid": HOST, "boot_id": "boot-1", "valid_for_ms": 5000}
    fields.update(kind.pop("fields", {}))
    return pb.Order(order_id=order_id, echo_mono_ms=port.now, **dict(fields, **kind))


def obey(side, message):
    answers, work = side.receive(pb.CollectorMessage(order=message))
    assert answers == []
    return side.carry_out(work)


def outcome(result):
    return pb.OrderResult.Outcome.Name(result.outcome), result.reason


KINDS = {
    "promote": {"promote": pb.Promote()},
    "repoint": {"repoint": pb.Repoint(master_address="10.0.0.2")},
    "restart": {"restart_xapi": pb.RestartXapi()},
    "tombstone": {"set_tombstone": pb.SetTombstone(successor_uuid=OTHER, successor_address="10.0.0.2")},
    "claim": {"claim": pb.Claim(old_master=pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1"))},
}


# ---------------------------------------------------------------------------------------------- crashes


def redelivered(kind, die_at, conf=(gate.MEMBER, "10.0.0.1")):
    """An order whose host side dies at a step, and comes again to the next one; (ports, results)."""
    port = FakePort()
    port.conf = conf
    port.die_at = die_at
    message = order(port, fields={"term": 3}, **KINDS[kind])
    results = []
    with contextlib.suppress(Killed):
        results.append(obey(HostSide(port), message))
    port.die_at = None
    results.append(obey(HostSide(port), message))
    results.append(obey(HostSide(port), message))
    return port, results


def steps(kind, conf=(gate.MEMBER, "10.0.0.1")):
    port = FakePort()
    port.conf = conf
    obey(HostSide(port), order(port, **KINDS[kind]))
    return port.points


@pytest.mark.parametrize("kind", ["promote", "restart", "claim"])
def test_killed_at_any_step_a_redelivered_order_acts_once_and_says_the_same(kind):
    reached = steps(kind)
    assert reached[:2] == ["before save", "after save"] and len(reached) >= 4
    for die_at in range(len(reached)):
        port, results = redelivered(kind, die_at)
        assert port.acts == ([kind] if kind != "claim" else []), reached[die_at]
        assert {outcome(r) for r in results} == {("DONE", "")}, (reached[die_at], results)
        assert {(r.order_id, r.epoch, r.term) for r in results} == {("o1", 1, 3)}
        assert results[-1].replayed is (kind != "claim")
        assert gate.decode(port.saved).term == 3


def test_a_repoint_killed_at_any_step_ends_in_the_same_role():
    """pool.conf alone does not show it; to ask xapi for the same again is harmless (its fuse is lit once)."""
    reached = steps("repoint")
    for die_at in range(len(reached)):
        port, results = redelivered("repoint", die_at)
        assert port.conf == (gate.MEMBER, "10.0.0.2") and set(port.acts) == {"repoint"}
        assert {outcome(r) for r in results} == {("DONE", "")}
        assert results[-1].replayed


def test_a_tombstone_killed_at_any_step_is_stored_and_written():
    master = (gate.MASTER, "")
    reached = steps("tombstone", master)
    assert "after conf" in reached
    for die_at in range(len(reached)):
        port, results = redelivered("tombstone", die_at, master)
        assert gate.decode(port.saved).tombstone == gate.Tombstone(3, OTHER, "10.0.0.2")
        assert port.conf == (gate.MEMBER, "10.0.0.2")
        assert {outcome(r) for r in results} == {("DONE", "")}


def test_the_mark_is_durable_before_the_act_and_the_result_before_the_answer(port):
    obey(HostSide(port), order(port, **KINDS["promote"]))
    assert port.points == [
        "before save", "after save", "before promote", "after promote", "before save", "after save"
    ]  # fmt: skip


def test_a_restart_that_took_effect_elsewhere_is_not_repeated(port):
    """We died after the mark; before the order came again xapi was restarted by whomever: once is enough."""
    port.die_at = 2
    message = order(port, **KINDS["restart"])
    with pytest.raises(Killed):
        obey(HostSide(port), message)
    port.die_at = None
    port.new_process()
    assert outcome(obey(HostSide(port), message)) == ("DONE", "")
    assert port.acts == []


# ---------------------------------------------------------------------------------------------- storage


def test_no_room_for_the_mark_means_no_act(port, side):
    port.no_room = True
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("REFUSED", "storage")
    assert port.acts == [] and side.state == gate.EMPTY
    port.no_room = False
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("DONE", ""), "the id was not used up"


def test_an_act_whose_result_cannot_be_stored_is_neither_refused_nor_done(port, side, monkeypatch):
    saves = []

    def second_fails(payload):
        saves.append(payload)
        if len(saves) > 1:
            raise SlotError("disk gone")
        port.saved = payload

    monkeypatch.setattr(port, "save_state", second_fails)
    result = obey(side, order(port, **KINDS["restart"]))
    assert outcome(result) == ("UNKNOWN", "storage") and "disk gone" in result.text
    monkeypatch.undo()
    assert outcome(obey(side, order(port, **KINDS["restart"]))) == ("DONE", "")
    assert port.acts == ["restart"]


def test_a_tombstone_that_cannot_be_stored_does_not_touch_pool_conf(port, side, monkeypatch):
    port.conf = (gate.MASTER, "")
    real, saves = port.save_state, []

    def second_fails(payload):
        saves.append(payload)
        if len(saves) == 2:
            raise SlotError("disk gone")
        real(payload)

    monkeypatch.setattr(port, "save_state", second_fails)
    assert outcome(obey(side, order(port, **KINDS["tombstone"]))) == ("REFUSED", "storage")
    assert port.conf == (gate.MASTER, "")


@pytest.mark.parametrize("spoilt", [b"rubbish", b"{}"])
def test_unreadable_state_refuses_every_order_until_it_is_readable(port, spoilt):
    port.saved = spoilt
    side = HostSide(port)
    for kind in KINDS.values():
        assert outcome(obey(side, order(port, **kind))) == ("REFUSED", "storage")
    assert port.acts == [] and port.saved == spoilt
    assert side.link_up()[0].hello.pool_uuid == POOL, "reports go on"
    port.saved = gate.encode(gate.EMPTY._replace(term=9, epoch=1))
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("REFUSED", "stale-term")


def test_slots_that_cannot_be_read_are_said(port, monkeypatch):
    def fails():
        raise SlotError("neither slot")

    monkeypatch.setattr(port, "load_state", fails)
    side = HostSide(port)
    assert side.storage == "neither slot"
    result = obey(side, order(port, **KINDS["promote"]))
    assert outcome(result) == ("REFUSED", "storage") and "neither slot" in result.text
    side.remember()
    assert port.saved == b""


# ---------------------------------------------------------------------------------------------- acts


@pytest.mark.parametrize(
    "works, said, expected",
    [
        (True, gate.DONE, ("DONE", "")),
        (False, gate.DONE, ("FAILED", "xapi-error")),
        (True, gate.UNKNOWN, ("UNKNOWN", "timeout")),
        (True, gate.FAILED, ("UNKNOWN", "timeout")),
        (False, gate.UNKNOWN, ("UNKNOWN", "timeout")),
        (False, gate.FAILED, ("FAILED", "xapi-error")),
    ],
)
@pytest.mark.parametrize("kind", ["promote", "repoint"])
def test_a_role_is_taken_only_if_xapi_and_pool_conf_say_so(port, side, works, said, expected, kind):
    port.act_works, port.act_result = works, Act(said, "words")
    result = obey(side, order(port, **KINDS[kind]))
    assert outcome(result) == expected and "words" in result.text
    assert outcome(obey(side, order(port, **KINDS[kind]))) == expected and port.acts == [kind], "and it is replayed"


def test_a_role_that_the_running_xapi_has_is_not_taken_again(port, side):
    assert outcome(obey(side, order(port, repoint=pb.Repoint(master_address="10.0.0.1")))) == ("DONE", "")
    port.conf = (gate.MASTER, "")
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("DONE", "")
    assert port.acts == []
    port.settled = False
    obey(side, order(port, "o2", **KINDS["promote"]))
    port.settled, port.xapi = True, gate.NO_PROCESS
    obey(side, order(port, "o3", **KINDS["promote"]))
    assert port.acts == ["promote", "promote"], "pool.conf says it, but no running xapi has it"


def test_what_changed_while_the_mark_was_written_is_seen_before_the_act(port, side, monkeypatch):
    """A stalled disk: HA was armed, or the order expired, between the first look and the act."""
    real = port.save_state

    def slow(payload):
        real(payload)
        port.now += 6000

    monkeypatch.setattr(port, "save_state", slow)
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("REFUSED", "expired")
    monkeypatch.setattr(port, "save_state", lambda payload: (real(payload), setattr(port, "armed", True)))
    assert outcome(obey(side, order(port, "o2", fields={"term": 2}, **KINDS["promote"]))) == ("REFUSED", "ha-armed")
    assert port.acts == []


def test_a_long_text_of_xapi_is_cut(port, side):
    port.act_works, port.act_result = False, Act(gate.FAILED, "x" * 100000)
    assert len(obey(side, order(port, **KINDS["promote"])).text) == LONGEST_TEXT


def test_a_tombstone_on_a_member_leaves_pool_conf_alone(port, side):
    assert outcome(obey(side, order(port, **KINDS["tombstone"]))) == ("DONE", "")
    assert port.conf == (gate.MEMBER, "10.0.0.1")
    clear = order(port, "o2", set_tombstone=pb.SetTombstone(clear=True))
    assert outcome(obey(side, clear)) == ("DONE", "") and side.state.tombstone is None


def test_a_tombstone_without_a_successor_does_not_touch_pool_conf(port, side):
    port.conf = (gate.MASTER, "")
    assert outcome(obey(side, order(port, set_tombstone=pb.SetTombstone()))) == ("DONE", "")
    assert port.conf == (gate.MASTER, "") and side.report(True).report.tombstone.term == 1


def test_a_pool_conf_that_cannot_be_written_is_said_and_the_tombstone_stands(port, side):
    port.conf, port.conf_error = (gate.MASTER, ""), "no space left"
    result = obey(side, order(port, **KINDS["tombstone"]))
    assert result.outcome == pb.OrderResult.FAILED and "no space left" in result.text
    assert gate.decode(port.saved).tombstone is not None


def test_a_superseded_host_is_promoted_at_a_higher_term_and_its_tombstone_goes(port, side):
    obey(side, order(port, **KINDS["tombstone"]))
    assert outcome(obey(side, order(port, "o2", **KINDS["promote"]))) == ("REFUSED", "tombstoned")
    assert outcome(obey(side, order(port, "o3", fields={"term": 2}, **KINDS["promote"]))) == ("DONE", "")
    assert side.state.tombstone is None and gate.decode(port.saved).tombstone is None


# ---------------------------------------------------------------------------------------------- looking


@pytest.mark.parametrize(
    "probe, serves, veto",
    [(SILENT, False, False), (ANSWERED, False, True), (SILENT, True, True)],
)
def test_a_claim_looks_at_the_old_master_and_may_veto(port, side, probe, serves, veto):
    port.peers["10.0.0.1"] = probe
    if serves:
        port.conf, port.view = (gate.MASTER, ""), serving_view()
        side.observer.look_at_xapi(True, 5000)
    message = order(port, claim=pb.Claim(old_master=pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1")))
    result = obey(side, message)
    assert outcome(result) == ("DONE", "") and result.claim.veto is veto and bool(result.claim.veto_text) is veto
    assert result.claim.last_look.probed_mono_ms == port.now and not result.claim.HasField("placements")
    assert gate.decode(port.saved).term == 1


def test_a_claim_without_an_old_master_only_stores_the_term(port, side):
    result = obey(side, order(port, claim=pb.Claim(want_placements=True)))
    assert outcome(result) == ("DONE", "") and not result.claim.veto and not result.claim.HasField("last_look")
    assert [(p.vm_uuid, p.host_uuid) for p in result.claim.placements.placements] == [("vm-1", HOST)]


def test_a_redelivered_claim_looks_again(port, side):
    message = order(port, claim=pb.Claim(old_master=pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1")))
    assert not obey(side, message).claim.veto
    port.peers["10.0.0.1"] = ANSWERED
    port.now += 100
    assert obey(side, message).claim.veto


def test_probe_now_answers_with_its_nonce(port, side):
    port.peers["10.0.0.2"] = ANSWERED
    targets = [pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.2"), pb.ProbeTarget(host_uuid="x", address="10.0.0.3")]
    result = obey(side, order(port, probe_now=pb.ProbeNow(targets=targets, nonce="n1")))
    assert result.nonce == "n1"
    assert [p.outcome for p in result.probes.probes] == [pb.Probe.ANSWERED, pb.Probe.NO_ANSWER]
    assert not side.report(True).report.probes.probes, "what is looked at once is not watched from then on"


def test_evidence_is_collected_as_wanted(port, side):
    wanted = obey(side, order(port, collect_evidence=pb.CollectEvidence(want_placements=True)))
    assert wanted.placements.readable and wanted.placements.generation == 42
    assert not obey(side, order(port, collect_evidence=pb.CollectEvidence())).HasField("placements")


def test_an_order_of_a_later_collector_is_refused(port, side):
    assert outcome(obey(side, order(port))) == ("REFUSED", "unknown-order")
    assert outcome(obey(side, order(port, start_vm=pb.StartVm()))) == ("REFUSED", "unknown-order")


@pytest.mark.parametrize("role", [pb.RoleFacts.KIND_UNSPECIFIED, 99])
def test_a_role_that_is_not_known_is_not_met_by_an_unreadable_pool_conf(port, side, role):
    port.conf = (gate.UNREADABLE, "")
    message = order(port, **KINDS["promote"])
    message.preconditions.pool_conf_in.append(role)
    assert outcome(obey(side, message)) == ("REFUSED", "precondition")


# ---------------------------------------------------------------------------------------------- saying


def test_hello_says_what_is_durable(port, side):
    obey(side, order(port, fields={"epoch": 4, "term": 7}, **KINDS["tombstone"]))
    hello = HostSide(port, "3.6.8").link_up()[0].hello
    assert (hello.highest_epoch, hello.highest_term, hello.tombstone.term) == (4, 7, 7)
    assert [r.order_id for r in hello.last_results] == ["o1"]
    assert hello.protocol_version == 1 and hello.python_version == "3.6.8"
    assert "promote" in hello.capabilities and hello.management_address == "10.0.0.5"


def test_a_stream_begins_with_hello_and_a_full_report(port, side):
    hello, full = side.link_up()
    assert (hello.sequence, full.sequence) == (1, 2) and full.report.full
    assert full.report.HasField("tombstone") and full.report.tombstone.term == 0
    side.report()
    assert [m.sequence for m in side.link_up()] == [1, 2], "each stream counts from 1"


def test_later_reports_hold_what_changed(port, side):
    side.link_up()
    quiet = side.report().report
    assert [f.name for f, _ in quiet.ListFields()] == ["freshness"]
    port.free, port.address = 5, "10.0.0.6"
    changed = side.report().report
    assert [f.name for f, _ in changed.ListFields()] == ["freshness", "disks", "management_address"]
    assert side.receive(pb.CollectorMessage(full_report_request=pb.FullReportRequest()))[0][0].report.full


def test_growing_older_is_no_news(port, side):
    side.observer.look_at_xapi(True, 5000)
    side.link_up()
    port.now += 2000
    side.observer.look_at_xapi(True, 5000)
    report = side.report().report
    assert not report.HasField("xapi") and report.freshness.xapi_mono_ms == port.now
    assert side.report(True).report.xapi.process_age_ms == port.now - 90000


def test_a_lost_address_is_reported(port, side):
    side.link_up()
    port.address = ""
    assert side.report().report.management_address == ""
    port.address = "10.0.0.7"
    assert side.report().report.management_address == "10.0.0.7"


def test_a_challenge_is_answered_at_once(port, side):
    answers, work = side.receive(pb.CollectorMessage(challenge=pb.Challenge(nonce="n")))
    assert work is None and answers[0].challenge_answer == pb.ChallengeAnswer(nonce="n", boot_id="boot-1")


def test_an_empty_message_is_ignored(side):
    assert side.receive(pb.CollectorMessage()) == ([], None)


@pytest.mark.parametrize(
    "given, expected",
    [
        (pb.Settings(), DEFAULTS._replace(view_wanted=False)),
        (
            pb.Settings(report_interval_ms=1, probe_interval_ms=1, probe_timeout_ms=1, pool_view_interval_ms=1),
            (500, 500, 200, False, 2000),
        ),
        (
            pb.Settings(
                report_interval_ms=2**31, probe_interval_ms=2**31, probe_timeout_ms=2**31, pool_view_interval_ms=2**31
            ),
            (60000, 60000, 10000, False, 600000),
        ),
    ],
)
def test_settings_keep_within_their_ranges(side, given, expected):
    side.receive(pb.CollectorMessage(settings=given))
    assert tuple(side.settings) == tuple(expected)


# ---------------------------------------------------------------------------------------------- the pool


def test_the_pool_is_remembered_for_a_day_without_a_database(port, side):
    side.remember()
    again = FakePort()
    again.saved, again.pool = port.saved, ""
    assert HostSide(again).link_up()[0].hello.pool_uuid == POOL
    points = list(port.points)
    side.remember()
    assert port.points == points, "nothing is written when nothing changed"


def test_a_host_that_moves_to_another_pool_is_noticed(port, side):
    side.link_up()
    port.pool, port.source = "pool-2", ("var/lib/xcp/state.db", 7)
    side.report()
    assert side.pool() == POOL, "the file is not parsed each time it changes"
    port.new_process()
    side.report()
    assert side.pool() == "pool-2" != side.pool_said


def test_a_database_is_parsed_seldom(port, side):
    side.link_up()
    for number in range(200):
        port.now += 2000
        port.source = (port.source[0], 43 + number)
        side.report()
    assert port.parses == 2
    assert side.report(True).report.database.changed_mono_ms == port.now


def test_an_unknown_pool_is_looked_for_again(port, side):
    port.pool = ""
    assert side.link_up()[0].hello.pool_uuid == ""
    port.now += 30000
    side.report()
    port.pool = POOL
    side.report()
    assert side.pool() == ""
    port.now += 30000
    side.report()
    assert side.pool() == POOL


# ---------------------------------------------------------------------------------------------- observing xapi


def look(side, times=1):
    for _ in range(times):
        side.port.now += 2000
        side.observer.look_at_xapi(True, 5000)
    return side.report(True).report


@pytest.mark.parametrize(
    "tcp, process, cookie, expected",
    [
        (judge.ANSWERED, True, True, "ANSWERS"),
        (judge.ANSWERED, False, False, "ANSWERS"),
        (judge.REFUSED, True, True, "DOWN"),
        (judge.REFUSED, False, True, "DOWN"),
        (judge.NO_ANSWER, False, True, "DOWN"),
        (judge.REFUSED, True, False, "STARTING"),
        (judge.NO_ANSWER, True, False, "STARTING"),
        (judge.NO_ANSWER, True, True, "SILENT"),
        (judge.NOT_XAPI, True, True, "SILENT"),
    ],
)
def test_liveness(port, side, tcp, process, cookie, expected):
    port.tcp, port.startup_cookie = tcp, cookie
    port.xapi = gate.Process(500, 9900) if process else gate.NO_PROCESS
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.liveness) == expected


def test_a_start_that_takes_more_than_ten_minutes_is_none(port, side):
    port.tcp, port.startup_cookie, port.xapi = judge.NO_ANSWER, False, gate.Process(500, 100)
    port.now = 600000
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.liveness) == "SILENT"


def test_a_liveness_holds_since_it_began(port, side):
    first = look(side).xapi
    assert look(side, 3).xapi.liveness_since_mono_ms == first.liveness_since_mono_ms
    port.tcp = judge.REFUSED
    changed = look(side).xapi
    assert changed.liveness_since_mono_ms == port.now
    assert changed.socket_since_mono_ms == first.socket_since_mono_ms


@pytest.mark.parametrize(
    "emergency, liveness, flag, code",
    [
        (Emergency(judge.ANSWERED, False, ""), "ANSWERS", pb.NO, ""),
        (Emergency(judge.ANSWERED, True, "HOST_UNKNOWN_TO_MASTER"), "ANSWERS", pb.YES, "HOST_UNKNOWN_TO_MASTER"),
        (Emergency(judge.ANSWERED, None, "X"), "ANSWERS", pb.TRISTATE_UNSPECIFIED, ""),
        (Emergency(judge.NO_ANSWER, None, ""), "SILENT", pb.TRISTATE_UNSPECIFIED, ""),
        (Emergency(judge.REFUSED, None, ""), "DOWN", pb.TRISTATE_UNSPECIFIED, ""),
    ],
)
def test_the_emergency_flag_is_yes_no_or_not_known(port, side, emergency, liveness, flag, code):
    port.flag = emergency
    seen = look(side).xapi
    assert pb.XapiFacts.Liveness.Name(seen.socket_liveness) == liveness
    assert (seen.emergency, seen.emergency_code, bool(seen.emergency_text)) == (flag, code, bool(code))


def test_a_hung_socket_without_a_process_is_down(port, side):
    port.flag, port.xapi = Emergency(judge.NO_ANSWER, None, ""), gate.NO_PROCESS
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.socket_liveness) == "DOWN"


def test_nobody_ever_logs_in_on_a_member(port, side):
    port.view = serving_view()
    look(side, 50)
    port.settled = False
    look(side, 10)
    port.conf, port.settled = (gate.MASTER, ""), False
    look(side, 10)
    port.settled, port.tcp = True, judge.NO_ANSWER
    look(side, 10)
    port.tcp, port.xapi = judge.ANSWERED, gate.NO_PROCESS
    look(side, 10)
    port.conf, port.xapi = (gate.BROKEN, ""), gate.Process(500, 9000)
    look(side, 10)
    assert port.views == 0


def test_a_serving_master_reports_its_pool(port, side):
    port.conf, port.view = (gate.MASTER, ""), serving_view()
    seen = look(side)
    since = port.now
    assert seen.role.serves_as_master and seen.role.running == pb.RoleFacts.MASTER
    assert seen.role.serves_since_mono_ms == since and seen.pool_view.master_uuid == HOST
    assert look(side, 3).role.serves_since_mono_ms == since
    assert port.views == 2, "at its interval"
    port.new_process()
    restarted = look(side)
    assert restarted.role.serves_since_mono_ms == port.now, "another process has not served before"
    assert port.asked_member == 0, "a dummy login on a master would run PAM"


def test_a_master_that_sees_another_master_does_not_serve(port, side):
    port.conf, port.view = (gate.MASTER, ""), serving_view(OTHER)
    seen = look(side)
    assert not seen.role.serves_as_master and seen.role.serves_since_mono_ms == 0


def test_a_view_that_fails_is_kept_for_a_while_and_not_for_ever(port, side):
    port.conf, port.view = (gate.MASTER, ""), serving_view()
    look(side)
    port.view = None
    assert look(side).role.serves_as_master
    assert not look(side, 20).role.serves_as_master
    port.view = serving_view()
    assert look(side).role.serves_as_master
    port.tcp = judge.NO_ANSWER
    assert not look(side).role.serves_as_master


def test_a_view_is_not_fetched_when_nobody_wants_it(port, side):
    port.conf, port.view = (gate.MASTER, ""), serving_view()
    for _ in range(20):
        port.now += 2000
        side.observer.look_at_xapi(False, 5000)
    assert port.views == 1 and side.observer.seen.serves


def test_a_member_is_asked_seldom_for_its_master(port, side):
    assert look(side).role.running_master_address == "10.0.0.1"
    look(side, 4)
    assert port.asked_member == 1
    look(side)
    assert port.asked_member == 2
    port.new_process()
    look(side)
    assert port.asked_member == 3


def test_a_member_that_does_not_name_its_master_is_not_asked_more_often(port, side):
    port.names_master = ""
    seen = look(side)
    assert (seen.role.running, seen.role.running_master_address) == (pb.RoleFacts.KIND_UNSPECIFIED, "")
    look(side, 4)
    assert port.asked_member == 1


def test_an_unsettled_role_is_not_known(port, side):
    port.settled = False
    assert look(side).role.running == pb.RoleFacts.KIND_UNSPECIFIED
    port.settled, port.tcp = True, judge.NO_ANSWER
    assert look(side).role.running == pb.RoleFacts.KIND_UNSPECIFIED
    assert port.asked_member == 0


def test_a_process_keeps_its_role_whatever_pool_conf_says_by_now(port, side):
    """The role is read at its start: a demoted master serves on until it is replaced."""
    port.conf, port.view = (gate.MASTER, ""), serving_view()
    look(side)
    port.conf, port.settled = (gate.MEMBER, "10.0.0.2"), False
    seen = look(side, 3).role
    assert (seen.pool_conf, seen.running, seen.serves_as_master) == (pb.RoleFacts.MEMBER, pb.RoleFacts.MASTER, True)
    port.xapi = gate.Process(501, 9900)
    seen = look(side).role
    assert (seen.running, seen.serves_as_master) == (pb.RoleFacts.KIND_UNSPECIFIED, False)
    views = port.views
    port.settled = True
    look(side, 5)
    assert port.views == views and port.asked_member == 1


def test_a_silent_members_role_holds_while_its_process_does(port, side):
    look(side)
    port.tcp = judge.NO_ANSWER
    assert look(side).role.running_master_address == "10.0.0.1"
    port.new_process()
    assert look(side).role.running == pb.RoleFacts.KIND_UNSPECIFIED


# ---------------------------------------------------------------------------------------------- probes, orphans


def settle(side, **targets):
    made = [pb.ProbeTarget(host_uuid=host, address=address) for host, address in targets.items()]
    side.receive(pb.CollectorMessage(welcome=pb.Welcome(epoch=1, settings=pb.Settings(probe_targets=made))))


def probe(side, times=1, step=1000):
    for _ in range(times):
        side.port.now += step
        for host, address in side.to_probe().items():
            side.observer.look_at_peer(host, address, 1000)
    return side.report(True).report


def test_a_probes_history(port, side):
    settle(side, m="10.0.0.1")
    port.peers["10.0.0.1"] = ANSWERED
    seen = probe(side).probes.probes[0]
    assert (seen.host_uuid, seen.outcome, seen.unanswered_since_mono_ms) == ("m", pb.Probe.ANSWERED, 0)
    answered = port.now
    port.peers["10.0.0.1"] = SILENT
    seen = probe(side, 3).probes.probes[0]
    assert (seen.answered_mono_ms, seen.unanswered_since_mono_ms) == (answered, answered + 1000)
    assert (seen.probed_mono_ms, seen.certificate_sha256, seen.text) == (port.now, "cert", "silent")


def test_a_targets_history_ends_with_its_address_and_with_its_place_in_the_list(port, side):
    settle(side, m="10.0.0.1")
    port.peers["10.0.0.1"] = ANSWERED
    probe(side)
    settle(side, m="10.0.0.9")
    assert probe(side).probes.probes[0].answered_mono_ms == 0
    settle(side)
    port.conf = (gate.MASTER, "")
    assert not probe(side).probes.probes
    side.observer.look_at_peer("m", "10.0.0.9", 1000)
    assert not side.report(True).report.probes.probes, "a probe that was under way does not bring it back"


def orphaned(report):
    return report.xapi.orphaned


def test_orphaned_after_three_seconds_and_two_probes(port, side):
    settle(side, m="10.0.0.1")
    port.peers["10.0.0.1"] = ANSWERED
    probe(side, 5)
    port.peers["10.0.0.1"] = SILENT
    assert not orphaned(probe(side))
    since = port.now
    port.now += 5000
    assert not orphaned(side.report(True).report), "one probe is not enough, however old"
    seen = probe(side, 1, 1)
    assert orphaned(seen) and seen.xapi.orphaned_since_mono_ms == since
    port.peers["10.0.0.1"] = ANSWERED
    assert not orphaned(probe(side))
    port.peers["10.0.0.1"] = SILENT
    assert not orphaned(probe(side, 3))
    assert orphaned(probe(side))


def test_a_master_that_was_never_reached_orphans_after_ten_seconds(port, side):
    settle(side, m="10.0.0.1")
    side.link_up()
    assert not orphaned(probe(side, 10))
    assert orphaned(probe(side))


def test_a_new_master_is_given_its_time(port, side):
    settle(side, m="10.0.0.1", n="10.0.0.2")
    side.link_up()
    probe(side, 60)
    port.conf = (gate.MEMBER, "10.0.0.3")
    settle(side, m="10.0.0.1", n="10.0.0.2", o="10.0.0.3")
    assert not orphaned(probe(side, 9))
    assert orphaned(probe(side, 3))


def test_a_host_that_has_just_become_a_member_is_given_its_time(port, side):
    port.conf = (gate.MASTER, "")
    settle(side, m="10.0.0.1")
    side.link_up()
    assert not orphaned(probe(side, 60))
    port.conf = (gate.MEMBER, "10.0.0.1")
    side.report()
    assert not orphaned(probe(side, 9))
    assert orphaned(probe(side, 3))


def test_the_own_master_is_probed_though_no_collector_asks(port, side):
    side.link_up()
    assert side.to_probe() == {OWN_MASTER: "10.0.0.1"}
    port.peers["10.0.0.1"] = ANSWERED
    assert not probe(side, 3).probes.probes, "the collector gets what it asked for"
    port.peers["10.0.0.1"] = SILENT
    assert orphaned(probe(side, 5))
    settle(side, m="10.0.0.1")
    assert side.to_probe() == {"m": "10.0.0.1"}
    assert orphaned(probe(side)), "its history goes over to the target"
    assert probe(side).probes.probes[0].answered_mono_ms > 0


@pytest.mark.parametrize("conf", [(gate.MASTER, ""), (gate.MEMBER, "master.example"), (gate.BROKEN, "")])
def test_there_is_not_always_a_master_to_probe(port, side, conf):
    side.link_up()
    port.conf = conf
    side.report()
    assert side.to_probe() == {}
    assert not orphaned(side.report(True).report)


# ---------------------------------------------------------------------------------------------- domains, background


def test_an_unreadable_xenstore_is_not_an_empty_one(port, side):
    port.domain_list = None
    assert not side.report(True).report.domains.readable
    port.domain_list = []
    report = side.report().report
    assert report.domains.readable and not report.domains.vm_uuids


def test_in_the_background_nothing_is_read_for_a_report(port):
    side = HostSide(port, "3.6.8", background=True)
    side.link_up()
    seen_at = port.now
    port.now += 9000
    port.conf = (gate.MASTER, "")

    def forbidden(*_arguments):
        raise AssertionError("a report must not wait for this")

    for name in ("role", "domains", "disks", "memory", "database", "generation", "ha_armed", "management_address"):
        setattr(port, name, forbidden)
    stale = side.report(True).report
    assert stale.role.pool_conf == pb.RoleFacts.MEMBER and stale.freshness.host_mono_ms == seen_at
    assert side.receive(pb.CollectorMessage(challenge=pb.Challenge(nonce="n")))[0]
