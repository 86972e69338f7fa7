"""Toolstack fence and release: the hold that outlives every crash, and what it forbids."""

import contextlib

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate_state, host_now, order_gate, orders
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import Act

from .fake_port import KINDS, FakePort, Killed, obey, order
from .test_gate import FENCE, HELD, NOW, ORDER, RELEASE, REPOINT, RESTART, STATE, but, reason
from .tree import OTHER

AS_MASTER = but(RELEASE, release_as=orders.AS_MASTER, address="")._replace(term=8)
MASTER_NOW = NOW._replace(pool_conf=host_now.MASTER, pool_conf_address="")
STOPPED = MASTER_NOW._replace(process=host_now.NO_PROCESS)
TO_MEMBER = {
    "toolstack_release": pb.ToolstackRelease(release_as=pb.ToolstackRelease.AS_MEMBER, master_address="10.0.0.2")
}
TO_MASTER = {"toolstack_release": pb.ToolstackRelease(release_as=pb.ToolstackRelease.AS_MASTER)}


def outcome(result):
    return pb.OrderResult.Outcome.Name(result.outcome), result.reason


def master():
    port = FakePort()
    port.conf = (host_now.MASTER, "")
    return port


def fenced(term=1):
    port = master()
    obey(HostSide(port), order(port, "fence", fields={"term": term}, **KINDS["stop"]))
    port.acts, port.points = [], []
    return port


# ---------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize("armed, expected", [(False, "Obey"), (True, "ha-armed"), (None, "ha-armed")])
def test_no_toolstack_is_fenced_with_ha_armed(armed, expected):
    assert reason(FENCE, now=MASTER_NOW._replace(ha_armed=armed)) == expected


@pytest.mark.parametrize("successor, expected", [(NOW.host, "precondition"), ("x" * 201, "precondition"), ("", "Obey")])
def test_a_fence_names_another_host_or_none(successor, expected):
    assert reason(but(FENCE, successor=successor), now=MASTER_NOW) == expected


@pytest.mark.parametrize("order_", [ORDER, REPOINT, but(RESTART, as_master_ok=True)], ids=lambda o: o.kind)
def test_while_it_is_held_nothing_else_starts_xapi(order_):
    assert reason(order_._replace(term=9), HELD) == "held"


def test_a_hold_of_a_higher_term_refuses_a_fence_of_a_lower_one():
    held = order_gate.starting(STATE, FENCE._replace(term=9), NOW)
    assert reason(FENCE._replace(term=8), held) == "stale-term"
    again = order_gate.starting(held, FENCE._replace(term=10), NOW._replace(mono_ms=20000))
    assert (again.hold.term, again.hold.since_ms) == (10, 10000), "one hold, since its first instant in this boot"
    later = order_gate.starting(held, FENCE._replace(term=10), NOW._replace(mono_ms=500, boot_id="boot-2"))
    assert later.hold == gate_state.Hold(10, "boot-2", 500, "host-2")


@pytest.mark.parametrize("term, expected", [(7, "held"), (8, "Obey")])
def test_it_is_released_as_master_only_at_a_new_term(term, expected):
    assert reason(AS_MASTER._replace(term=term), HELD, STOPPED) == expected


@pytest.mark.parametrize(
    "change, now, expected",
    [
        ({"release_as": ""}, STOPPED, "precondition"),
        ({"address": "10.0.0.5"}, STOPPED, "precondition"),  # itself
        ({"address": ""}, STOPPED, "precondition"),
        ({"address": "master.example"}, STOPPED, "precondition"),
        ({}, STOPPED, "Obey"),
        ({}, STOPPED._replace(ha_armed=None), "ha-armed"),
        ({"address": "2001:db8::2"}, STOPPED, "Obey"),
    ],
)
def test_a_release_as_member_names_another_host(change, now, expected):
    assert reason(but(RELEASE, **change), HELD, now) == expected


def test_a_superseded_master_is_not_released_as_one():
    stoned = HELD._replace(tombstone=gate_state.Tombstone(7, "host-2", "10.0.0.2"))
    assert reason(AS_MASTER, stoned, STOPPED) == "tombstoned"
    assert reason(RELEASE, stoned, STOPPED) == "Obey"
    assert reason(AS_MASTER, HELD, STOPPED._replace(pool_conf=host_now.MEMBER)) == "precondition"
    assert reason(AS_MASTER, HELD, STOPPED._replace(pool_conf=host_now.UNREADABLE)) == "precondition"


def test_without_a_hold_only_a_release_that_was_cut_off_goes_on():
    there = STOPPED._replace(pool_conf=host_now.MEMBER, pool_conf_address="10.0.0.2")
    assert reason(RELEASE, STATE, there) == "Obey", "pool.conf is written, the hold is lifted, xapi is not started"
    assert reason(RELEASE, STATE, there._replace(process=NOW.process)) == "precondition"
    assert reason(RELEASE, STATE, STOPPED) == "precondition"
    assert reason(AS_MASTER, STATE, STOPPED) == "Obey"
    assert reason(AS_MASTER, STATE, MASTER_NOW) == "precondition"


# ---------------------------------------------------------------------------------------------- the fence


def test_the_hold_is_durable_before_xapi_is_stopped():
    port = master()
    port.die_at = 2  # before the stop
    with pytest.raises(Killed):
        obey(HostSide(port), order(port, fields={"term": 3}, **KINDS["stop"]))
    assert port.acts == []
    assert gate_state.decode(port.saved).hold == gate_state.Hold(3, "boot-1", 100000, OTHER)


def test_a_fence_is_done_when_it_is_seen():
    port = master()
    result = obey(HostSide(port), order(port, fields={"term": 3}, **KINDS["stop"]))
    assert outcome(result) == ("DONE", "") and port.acts == ["stop"]
    assert (result.hold.term, result.hold.stopped, result.hold.ports_closed) == (3, True, True)
    assert result.hold.since_mono_ms == 100000


@pytest.mark.parametrize(
    "works, said, expected",
    [
        (False, Act(orders.DONE, "told to stop"), ("FAILED", "xapi-error")),
        (False, Act(orders.UNKNOWN, "not within 100 s"), ("UNKNOWN", "timeout")),
        (True, Act(orders.UNKNOWN, "not within 100 s"), ("UNKNOWN", "timeout")),
        (False, Act(orders.FAILED, "no systemctl"), ("FAILED", "xapi-error")),
    ],
)
def test_a_fence_that_is_not_seen_is_not_done_and_the_hold_stays(works, said, expected):
    port = master()
    port.act_works, port.act_result = works, said
    side = HostSide(port)
    result = obey(side, order(port, **KINDS["stop"]))
    assert outcome(result) == expected and said.text in result.text
    assert result.hold.term == 1 and result.hold.stopped is works
    assert gate_state.decode(port.saved).hold is not None


def test_an_open_port_is_not_a_fence():
    port = master()
    side = HostSide(port)
    port.toolstack = lambda: port_open
    port_open = FakePort.toolstack(port)._replace(stopped=True, ports_closed=False, text="port 443 is not closed")
    result = obey(side, order(port, **KINDS["stop"]))
    assert result.outcome == pb.OrderResult.FAILED and "port 443" in result.text and not result.hold.ports_closed


def test_what_changed_while_the_hold_was_written_withdraws_it(monkeypatch):
    port = master()
    real = port.save_state
    monkeypatch.setattr(port, "save_state", lambda payload: (real(payload), setattr(port, "armed", True)))
    assert outcome(obey(HostSide(port), order(port, **KINDS["stop"]))) == ("REFUSED", "ha-armed")
    assert port.acts == [] and gate_state.decode(port.saved).hold is None


def test_a_fence_killed_at_any_step_ends_fenced():
    reached = fenced_points()
    for die_at in range(len(reached)):
        port = master()
        port.die_at = die_at
        message = order(port, fields={"term": 3}, **KINDS["stop"])
        with contextlib.suppress(Killed):
            obey(HostSide(port), message)
        port.die_at = None
        result = obey(HostSide(port), message)
        assert outcome(result) == ("DONE", ""), reached[die_at]
        assert (result.hold.term, result.hold.stopped, result.hold.ports_closed) == (3, True, True)
        again = obey(HostSide(port), message)
        assert again.replayed and again.hold.stopped


def fenced_points():
    port = master()
    obey(HostSide(port), order(port, **KINDS["stop"]))
    return port.points


def test_the_hold_is_told_as_it_is_seen_now():
    port = fenced(term=3)
    port.now += 1000
    side = HostSide(port)
    hello, report = [message.WhichOneof("body") and message for message in side.conversation.link_up()]
    assert hello.hello.hold.term == 3 and hello.hello.hold.stopped and hello.hello.hold.ports_closed
    assert report.report.hold.term == 3 and report.report.hold.stopped
    port.new_process()
    port.ports_open = True
    told = side.conversation.report().report.hold
    assert told.term == 3 and not told.stopped and not told.ports_closed and "xapi runs" in told.text


def test_a_host_that_is_not_held_says_so_once():
    port = master()
    side = HostSide(port)
    hello, report = side.conversation.link_up()
    assert not hello.hello.HasField("hold")
    assert report.report.HasField("hold") and report.report.hold.term == 0
    assert not side.conversation.report().report.HasField("hold")


def test_where_the_slots_cannot_be_read_it_does_not_say_that_it_is_not_held():
    port = fenced()
    port.saved = b"rubbish"
    hello, report = HostSide(port).conversation.link_up()
    assert not hello.hello.HasField("hold") and not report.report.HasField("hold")


def test_a_hold_of_an_earlier_boot_has_no_instant_of_this_one():
    port = fenced()
    port.saved = port.saved.replace(b"boot-1", b"boot-0")
    assert HostSide(port).conversation.link_up()[0].hello.hold.since_mono_ms == 0


# ---------------------------------------------------------------------------------------------- the release


def test_a_release_as_member_writes_pool_conf_then_lifts_the_hold_then_starts_xapi():
    port = fenced()
    side = HostSide(port)
    assert outcome(obey(side, order(port, "o2", **TO_MEMBER))) == ("DONE", "")
    assert port.conf == (host_now.MEMBER, "10.0.0.2") and port.acts == ["start"] and side.executor.state.hold is None
    assert port.points == [
        "before save", "after save", "before conf", "after conf", "before save", "after save", "before start",
        "after start", "before save", "after save",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind, term, conf", [(TO_MEMBER, 1, (host_now.MEMBER, "10.0.0.2")), (TO_MASTER, 2, (host_now.MASTER, ""))]
)
def test_a_release_killed_at_any_step_ends_released(kind, term, conf):
    whole = fenced()
    obey(HostSide(whole), order(whole, "o2", fields={"term": term}, **kind))
    for die_at in range(len(whole.points)):
        port = fenced()
        port.die_at = die_at
        message = order(port, "o2", fields={"term": term}, **kind)
        with contextlib.suppress(Killed):
            obey(HostSide(port), message)
        port.die_at = None
        if gate_state.decode(port.saved).hold is None:
            assert port.conf == conf, "never unheld before pool.conf says the role"
        assert outcome(obey(HostSide(port), message)) == ("DONE", ""), whole.points[die_at]
        assert port.conf == conf and port.acts == ["start"] and port.xapi != host_now.NO_PROCESS
        assert gate_state.decode(port.saved).hold is None


def test_a_pool_conf_that_cannot_be_written_keeps_it_held():
    port = fenced()
    port.conf_error = "no space left"
    result = obey(HostSide(port), order(port, "o2", **TO_MEMBER))
    assert result.outcome == pb.OrderResult.FAILED and "still held" in result.text
    assert port.acts == [] and gate_state.decode(port.saved).hold is not None


def test_a_release_whose_xapi_does_not_start_is_said():
    port = fenced()
    port.act_result, port.act_works = Act(orders.UNKNOWN, "no xapi process is there"), False
    result = obey(HostSide(port), order(port, "o2", fields={"term": 2}, **TO_MASTER))
    assert outcome(result) == ("UNKNOWN", "timeout") and gate_state.decode(port.saved).hold is None


def test_a_process_behind_closed_ports_is_not_a_fence():
    port = master()
    running = FakePort.toolstack(port)._replace(stopped=False, ports_closed=True, text="xapi runs")
    port.toolstack = lambda: running
    result = obey(HostSide(port), order(port, **KINDS["stop"]))
    assert result.outcome == pb.OrderResult.FAILED and "xapi runs" in result.text


# ------------------------------------------------------------------------------------------ garbage collection


def test_a_promotion_that_must_hold_garbage_collection_does_so_first():
    port = FakePort()
    side = HostSide(port)
    assert outcome(obey(side, order(port, promote=pb.Promote(hold_gc=True), fields={"term": 5}))) == ("DONE", "")
    assert port.acts[:2] == ["hold gc", "promote"] and side.executor.state.gc == 5
    assert HostSide(port).executor.state.gc == 5, "durable"
    assert (
        side.conversation.report(True).report.hold.gc_term == 5 and side.conversation.report(True).report.hold.term == 0
    )


def test_nobody_is_promoted_where_it_cannot_be_held():
    port = FakePort()
    port.gc_result = Act(orders.FAILED, "it does not end")
    side = HostSide(port)
    assert outcome(obey(side, order(port, promote=pb.Promote(hold_gc=True))))[0] == "FAILED"
    assert "promote" not in port.acts


def test_a_plain_promotion_holds_none_and_a_release_ends_it():
    port = FakePort()
    side = HostSide(port)
    obey(side, order(port, promote=pb.Promote()))
    assert side.executor.state.gc == 0 and "hold gc" not in port.acts
    obey(side, order(port, "o2", promote=pb.Promote(hold_gc=True)))
    assert side.executor.state.gc
    assert outcome(obey(side, order(port, "o3", release_gc=pb.ReleaseGc())))[0] == "DONE"
    assert side.executor.state.gc == 0 and port.acts[-1] == "release gc"


def test_after_a_reboot_it_is_held_again():
    port = FakePort()
    obey(HostSide(port), order(port, promote=pb.Promote(hold_gc=True)))
    port.acts = []
    side = HostSide(port)
    side.executor.tidy()
    side.executor.tidy()
    assert port.acts == ["hold gc"]


def at_a_word(conf, held, act):
    """The term before and after an operator's word on this host, whether it is held still, and what was done."""
    port = FakePort()
    port.conf = conf
    side = HostSide(port)
    hold = gate_state.Hold(7, "boot-1", 0, "s") if held else None
    side.executor._keeper.change(lambda state: gate_state.with_hold(state._replace(term=9), hold))
    act = act(side)
    return side.executor.state.term, side.executor.state.hold is not None, act.outcome


def test_a_word_on_the_host_ends_a_hold_of_a_master_at_a_new_term():
    def release(side):
        return side.executor.release_hold()

    assert at_a_word((host_now.MASTER, ""), True, release) == (10, False, orders.DONE)
    assert at_a_word((host_now.MASTER, ""), False, release) == (9, False, orders.DONE)
    assert at_a_word((host_now.MEMBER, "10.0.0.1"), True, release) == (9, False, orders.DONE)


@pytest.mark.parametrize("address, follows", [("10.0.0.9", True), ("10.0.0.5", False), ("h2", False), ("", False)])
def test_a_host_follows_the_address_of_another_host_alone(address, follows):
    term, held, outcome = at_a_word((host_now.MASTER, ""), True, lambda side: side.executor.follow(address))
    assert (term, held, outcome) == ((9, False, orders.DONE) if follows else (9, True, orders.FAILED))
