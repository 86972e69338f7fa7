"""What the host side observes: xapi's liveness and role, who may be asked what, probes and orphans."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, probe_rules
from poolwarden_agent.host.observer import OWN_MASTER
from poolwarden_agent.host_port import Emergency

from .fake_port import ANSWERED, SILENT, serving_view
from .tree import HOST, OTHER


def look(side, times=1):
    for _ in range(times):
        side.port.now += 2000
        side.observer.look_at_xapi(True, 5000)
    return side.conversation.report(True).report


@pytest.mark.parametrize(
    "tcp, process, cookie, expected",
    [
        (probe_rules.ANSWERED, True, True, "ANSWERS"),
        (probe_rules.ANSWERED, False, False, "ANSWERS"),
        (probe_rules.REFUSED, True, True, "DOWN"),
        (probe_rules.REFUSED, False, True, "DOWN"),
        (probe_rules.NO_ANSWER, False, True, "DOWN"),
        (probe_rules.REFUSED, True, False, "STARTING"),
        (probe_rules.NO_ANSWER, True, False, "STARTING"),
        (probe_rules.NO_ANSWER, True, True, "SILENT"),
        (probe_rules.NOT_XAPI, True, True, "SILENT"),
    ],
)
def test_liveness(port, side, tcp, process, cookie, expected):
    port.tcp, port.cookie = tcp, cookie
    port.xapi = host_now.Process(500, 9900) if process else host_now.NO_PROCESS
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.liveness) == expected


def test_a_start_that_takes_more_than_ten_minutes_is_none(port, side):
    port.tcp, port.cookie, port.xapi = probe_rules.NO_ANSWER, False, host_now.Process(500, 100)
    port.now = 600000
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.liveness) == "SILENT"


def test_a_liveness_holds_since_it_began(port, side):
    first = look(side).xapi
    assert look(side, 3).xapi.liveness_since_mono_ms == first.liveness_since_mono_ms
    port.tcp = probe_rules.REFUSED
    changed = look(side).xapi
    assert changed.liveness_since_mono_ms == port.now
    assert changed.socket_since_mono_ms == first.socket_since_mono_ms


@pytest.mark.parametrize(
    "emergency, liveness, flag, code",
    [
        (Emergency(probe_rules.ANSWERED, False, ""), "ANSWERS", pb.NO, ""),
        (Emergency(probe_rules.ANSWERED, True, "HOST_UNKNOWN_TO_MASTER"), "ANSWERS", pb.YES, "HOST_UNKNOWN_TO_MASTER"),
        (Emergency(probe_rules.ANSWERED, None, "X"), "ANSWERS", pb.TRISTATE_UNSPECIFIED, ""),
        (Emergency(probe_rules.NO_ANSWER, None, ""), "SILENT", pb.TRISTATE_UNSPECIFIED, ""),
        (Emergency(probe_rules.REFUSED, None, ""), "DOWN", pb.TRISTATE_UNSPECIFIED, ""),
    ],
)
def test_the_emergency_flag_is_yes_no_or_not_known(port, side, emergency, liveness, flag, code):
    port.flag = emergency
    seen = look(side).xapi
    assert pb.XapiFacts.Liveness.Name(seen.socket_liveness) == liveness
    assert (seen.emergency, seen.emergency_code, bool(seen.emergency_text)) == (flag, code, bool(code))


def test_a_hung_socket_without_a_process_is_down(port, side):
    port.flag, port.xapi = Emergency(probe_rules.NO_ANSWER, None, ""), host_now.NO_PROCESS
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.socket_liveness) == "DOWN"


def test_nobody_ever_logs_in_on_a_member(port, side):
    port.view = serving_view()
    look(side, 50)
    port.settled = False
    look(side, 10)
    port.conf, port.settled = (host_now.MASTER, ""), False
    look(side, 10)
    port.settled, port.tcp = True, probe_rules.NO_ANSWER
    look(side, 10)
    port.tcp, port.xapi = probe_rules.ANSWERED, host_now.NO_PROCESS
    look(side, 10)
    port.conf, port.xapi = (host_now.BROKEN, ""), host_now.Process(500, 9000)
    look(side, 10)
    assert port.views == 0


def test_a_serving_master_reports_its_pool(port, side):
    port.conf, port.view = (host_now.MASTER, ""), serving_view()
    seen = look(side)
    assert seen.role.serves_as_master and seen.role.running == pb.RoleFacts.MASTER
    assert seen.pool_view.master_uuid == HOST
    assert look(side, 3).role.serves_as_master
    assert port.views == 2, "at its interval"
    assert port.asked_member == 0, "a dummy login on a master would run PAM"


def test_a_master_that_sees_another_master_does_not_serve(port, side):
    port.conf, port.view = (host_now.MASTER, ""), serving_view(OTHER)
    seen = look(side)
    assert not seen.role.serves_as_master


def test_a_view_that_fails_is_kept_for_a_while_and_not_for_ever(port, side):
    port.conf, port.view = (host_now.MASTER, ""), serving_view()
    look(side)
    port.view = None
    assert look(side).role.serves_as_master
    assert not look(side, 20).role.serves_as_master
    port.view = serving_view()
    assert look(side).role.serves_as_master
    port.tcp = probe_rules.NO_ANSWER
    assert not look(side).role.serves_as_master


def test_a_view_is_not_fetched_when_nobody_wants_it(port, side):
    port.conf, port.view = (host_now.MASTER, ""), serving_view()
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
    port.settled, port.tcp = True, probe_rules.NO_ANSWER
    assert look(side).role.running == pb.RoleFacts.KIND_UNSPECIFIED
    assert port.asked_member == 0


def test_a_process_keeps_its_role_whatever_pool_conf_says_by_now(port, side):
    """The role is read at its start: a demoted master serves on until it is replaced."""
    port.conf, port.view = (host_now.MASTER, ""), serving_view()
    look(side)
    port.conf, port.settled = (host_now.MEMBER, "10.0.0.2"), False
    seen = look(side, 3).role
    assert (seen.pool_conf, seen.running, seen.serves_as_master) == (pb.RoleFacts.MEMBER, pb.RoleFacts.MASTER, True)
    port.xapi = host_now.Process(501, 9900)
    seen = look(side).role
    assert (seen.running, seen.serves_as_master) == (pb.RoleFacts.KIND_UNSPECIFIED, False)
    views = port.views
    port.settled = True
    look(side, 5)
    assert port.views == views and port.asked_member == 1


def test_a_silent_members_role_holds_while_its_process_does(port, side):
    look(side)
    port.tcp = probe_rules.NO_ANSWER
    assert look(side).role.running_master_address == "10.0.0.1"
    port.new_process()
    assert look(side).role.running == pb.RoleFacts.KIND_UNSPECIFIED


# ---------------------------------------------------------------------------------------------- probes, orphans


def settle(side, **targets):
    made = [pb.ProbeTarget(host_uuid=host, address=address) for host, address in targets.items()]
    side.conversation.receive(
        pb.CollectorMessage(welcome=pb.Welcome(epoch=1, settings=pb.Settings(probe_targets=made)))
    )


def probe(side, times=1, step=1000):
    for _ in range(times):
        side.port.now += step
        for host, address in side.observer.to_probe().items():
            side.observer.look_at_peer(host, address, 1000)
    return side.conversation.report(True).report


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
    assert probe(side).probes.probes[0].host_uuid == "m", "a Welcome without targets is no word about them"
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings()))
    port.conf = (host_now.MASTER, "")
    assert not probe(side).probes.probes
    side.observer.look_at_peer("m", "10.0.0.9", 1000)
    assert not side.conversation.report(True).report.probes.probes, "a probe that was under way does not bring it back"


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
    assert not orphaned(side.conversation.report(True).report), "one probe is not enough, however old"
    seen = probe(side, 1, 1)
    assert orphaned(seen) and seen.xapi.orphaned_since_mono_ms == since
    port.peers["10.0.0.1"] = ANSWERED
    assert not orphaned(probe(side))
    port.peers["10.0.0.1"] = SILENT
    assert not orphaned(probe(side, 3))
    assert orphaned(probe(side))


def test_a_master_that_was_never_reached_orphans_after_ten_seconds(port, side):
    settle(side, m="10.0.0.1")
    side.conversation.link_up()
    assert not orphaned(probe(side, 10))
    assert orphaned(probe(side))


def test_a_new_master_is_given_its_time(port, side):
    settle(side, m="10.0.0.1", n="10.0.0.2")
    side.conversation.link_up()
    probe(side, 60)
    port.conf = (host_now.MEMBER, "10.0.0.3")
    settle(side, m="10.0.0.1", n="10.0.0.2", o="10.0.0.3")
    assert not orphaned(probe(side, 9))
    assert orphaned(probe(side, 3))


def test_a_host_that_has_just_become_a_member_is_given_its_time(port, side):
    port.conf = (host_now.MASTER, "")
    settle(side, m="10.0.0.1")
    side.conversation.link_up()
    assert not orphaned(probe(side, 60))
    port.conf = (host_now.MEMBER, "10.0.0.1")
    side.conversation.report()
    assert not orphaned(probe(side, 9))
    assert orphaned(probe(side, 3))


def test_the_own_master_is_probed_though_no_collector_asks(port, side):
    side.conversation.link_up()
    assert side.observer.to_probe() == {OWN_MASTER: "10.0.0.1"}
    port.peers["10.0.0.1"] = ANSWERED
    assert not probe(side, 3).probes.probes, "the collector gets what it asked for"
    port.peers["10.0.0.1"] = SILENT
    assert orphaned(probe(side, 5))
    settle(side, m="10.0.0.1")
    assert side.observer.to_probe() == {"m": "10.0.0.1"}
    assert orphaned(probe(side)), "its history goes over to the target"
    assert probe(side).probes.probes[0].answered_mono_ms > 0


@pytest.mark.parametrize("conf", [(host_now.MASTER, ""), (host_now.MEMBER, "master.example"), (host_now.BROKEN, "")])
def test_there_is_not_always_a_master_to_probe(port, side, conf):
    side.conversation.link_up()
    port.conf = conf
    side.conversation.report()
    assert side.observer.to_probe() == {}
    assert not orphaned(side.conversation.report(True).report)


# ---------------------------------------------------------------------------------------------- slow, not silent


def test_an_answer_that_comes_late_is_an_answer_and_makes_it_slow(port, side):
    port.tcp = probe_rules.NO_ANSWER
    assert pb.XapiFacts.Liveness.Name(look(side).xapi.liveness) == "SILENT" and look(side).xapi.slow_ms == 0
    port.tcp, port.late_ms = probe_rules.ANSWERED, 8000
    assert look(side).xapi.slow_ms == 8000
    port.tcp, port.late_ms = probe_rules.NO_ANSWER, 0
    seen = look(side, 20).xapi
    assert pb.XapiFacts.Liveness.Name(seen.liveness) == "ANSWERS" and seen.slow_ms == 8000
    seen = look(side, 15).xapi  # for longer than a minute nothing has come
    assert pb.XapiFacts.Liveness.Name(seen.liveness) == "SILENT" and seen.slow_ms == 0
    port.tcp = probe_rules.ANSWERED
    assert look(side).xapi.slow_ms == 0


def test_a_master_whose_login_is_slow_goes_on_serving(port, side):
    port.conf, port.settled, port.view = (host_now.MASTER, ""), True, serving_view()
    assert look(side).role.serves_as_master
    port.view, port.late_ms = None, 8000
    assert look(side, 30).role.serves_as_master
    port.late_ms = 0
    assert not look(side, 30).role.serves_as_master
