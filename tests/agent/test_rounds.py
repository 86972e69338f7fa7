"""One wake-up for everything that is looked at: rounds of looks, and the report right after them."""

import threading

import pytest

from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import runner as module
from poolwarden_agent.process.pipe import UP, numbered
from poolwarden_agent.process.rounds import Look, Rounds
from poolwarden_agent.process.runner import LEAD_MS, LOOKS_MS, Runner

from .test_runner import FakeLink
from .tree import until


def test_each_look_lets_the_next_one_begin():
    seen = []
    looks = [Look(name, lambda name=name: seen.append(name), lambda: 3600.0) for name in ("xapi", "host", "gate")]
    rounds = Rounds(looks, lambda: seen.append("ended"))
    looks[0].once()
    assert seen == ["xapi"] and looks[1]._called.is_set() and not looks[2]._called.is_set()
    looks[1].once()
    looks[2].once()
    assert seen == ["xapi", "host", "gate", "ended"]
    rounds.begin()
    assert looks[0]._called.is_set()


def test_a_look_that_hangs_holds_up_no_other_one():
    hangs, seen = threading.Event(), []
    interval_s = lambda: 3600.0 if hangs.is_set() else 0.05  # noqa: E731 - nothing goes on after the test
    looks = [Look("xapi", hangs.wait, interval_s), Look("host", lambda: seen.append("host"), interval_s)]
    rounds = Rounds(looks, lambda: seen.append("ended"))
    rounds.start()
    try:
        until(lambda: seen.count("host") >= 4 and seen.count("ended") >= 4)
    finally:
        hangs.set()


def test_a_look_that_fails_is_said_and_made_again(capsys):
    asked = []

    def fails():
        asked.append(1)
        raise OSError("no such file")

    look = Look("the host", fails, lambda: 0.02 if len(asked) < 4 else 3600.0)
    called = []
    look.then = lambda: called.append(1)
    thread = threading.Thread(target=look.run)
    thread.daemon = True
    thread.start()
    until(lambda: len(asked) >= 3 and len(called) >= 3)
    assert "looking at the host failed: OSError: no such file" in capsys.readouterr().err


class Probers(object):
    """Takes note of what is started; nothing ends by itself."""

    def __init__(self):
        self.busy = False
        self.early = []

    def start_due(self, targets, now, interval, early=0):
        self.early.append(early)
        return now + interval


@pytest.fixture
def rig(port, monkeypatch):
    """A runner after its first report, whose looks and probes are begun and ended by the test alone."""
    monkeypatch.setattr(module, "LONGEST_SLEEP_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_IDLE_S", 0.001)
    made = Runner(HostSide(port, "3.6.8", background=True), FakeLink())
    made._look_at_host()
    made._probers = Probers()
    made.begun = []
    made._rounds.begin = lambda: made.begun.append(port.now)
    made._frame(UP, numbered(1))
    made._link.sent.clear()
    return made


def test_the_loop_wakes_for_a_round_and_for_its_report_and_for_nothing_else(rig, port):
    due = rig._next_report
    assert rig._next_due(port.now) == due - LEAD_MS
    port.now = due - LEAD_MS
    rig._turn()
    assert rig.begun == [port.now] and rig._link.sent == []
    assert rig._next_due(port.now) == due
    port.now += 20
    rig._looks_ended()
    rig._turn()
    assert len(rig._link.messages()) == 1, "the report leaves when the looks have ended"
    assert rig._next_report == due + 2000, "and the next one is due an interval after this one was"
    assert rig._next_due(port.now) == due + 2000 - LEAD_MS


def test_between_the_start_of_probes_and_the_wait_nothing_is_asked(rig, port, monkeypatch):
    """A question to the kernel lets the probes have the interpreter, and the loop waits until it can wait."""
    after, asked = [], []
    gate = type(rig._side.boot)
    monkeypatch.setattr(gate, "watching", property(lambda _self: asked.append(len(after)) or False))
    monkeypatch.setattr(rig._probers, "start_due", lambda *_: after.append(1) or port.now + 2000)
    port.now = rig._next_report - LEAD_MS
    rig._turn()
    assert after == [1] and asked == [0]


def test_looks_wait_for_the_probes_but_not_for_long(rig, port):
    due = rig._next_report
    rig._probers.busy = True
    port.now = due - LEAD_MS
    rig._turn()
    assert rig.begun == [] and rig._next_due(port.now) == due - LOOKS_MS
    port.now = due - LOOKS_MS
    rig._turn()
    assert rig.begun == [port.now]
    rig._looks_ended()
    rig._turn()
    assert rig._link.sent == [], "a probe is under way"
    port.now = due
    rig._turn()
    assert len(rig._link.messages()) == 1, "but the report is not late for it"


def test_the_last_probe_begins_the_looks(rig, port):
    rig._probers.busy = True
    port.now = rig._next_report - LEAD_MS
    rig._turn()
    rig._probers.busy = False
    rig._probed()
    assert rig.begun == [port.now]
    rig._probed()
    assert len(rig.begun) == 1


def test_looks_that_end_late_belong_to_no_round(rig, port):
    rig._probers.busy = True
    port.now = rig._next_report - LEAD_MS
    rig._turn()
    rig._looks_ended()
    rig._probers.busy = False
    rig._turn()
    assert rig._link.sent == [] and len(rig.begun) == 1


def test_news_is_told_at_once_and_moves_the_next_report(rig, port):
    port.now += 700
    rig._news = True
    rig._turn()
    assert len(rig._link.messages()) == 1 and rig._next_report == port.now + 2000


@pytest.mark.parametrize("probes, early", [(2000, 2000), (1000, 1000), (5000, LEAD_MS)])
def test_probes_go_with_the_round_where_they_are_as_often(rig, port, probes, early):
    conversation = rig._conversation
    conversation.settings = conversation.settings._replace(probe_interval_ms=probes)
    rig._next_due(port.now)
    port.now = rig._next_report - LEAD_MS
    rig._next_due(port.now)
    rig._next_due(port.now)
    assert rig._probers.early[-3:] == [0, early, 0]


def test_a_round_is_made_also_where_nobody_listens(port, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SLEEP_S", 0.001)
    runner = Runner(HostSide(port, "3.6.8", background=True), FakeLink())
    runner._look_at_host()
    runner._probers = Probers()
    begun = []
    runner._rounds.begin = lambda: begun.append(port.now)
    runner._turn()
    for _ in range(3):
        port.now = runner._next_report - LEAD_MS
        runner._turn()
        port.now = runner._next_report
        runner._turn()
    assert len(begun) == 3
