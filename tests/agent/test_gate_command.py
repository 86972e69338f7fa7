"""`poolwarden-agent gate wait`: whatever becomes of the agent, xapi starts when it may, and only then."""

import os
import threading

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.commands import gate as gatecommand
from poolwarden_agent.commands.gate import AGENT_WITHIN_MS, Waiting
from poolwarden_agent.core import gate_state, host_now, orders
from poolwarden_agent.core.boot_gate import Told
from poolwarden_agent.dom0.dom0 import Dom0
from poolwarden_agent.dom0.system import boot_findings, systemd
from poolwarden_agent.dom0.system.slots import Slots
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import gate_file
from poolwarden_agent.process.gate_file import Word
from poolwarden_agent.process.gate_watch import GateWatch

from . import tree as trees
from .test_dom0 import dom0
from .tree import OTHER, until


class Clock(object):
    def __init__(self):
        self.ms = 1000000

    def __call__(self):
        return self.ms / 1000.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def master(tree):
    """A configured master with the drop-in, right after its boot."""
    tree.put("etc/xensource/pool.conf", "master")
    tree.put("etc/poolwarden/agent.conf", "[agent]\ncollector = 127.0.0.1:1\n")
    tree.put(boot_findings.DROP_IN, "[Service]\n")
    tree.put("sys/class/net/lo/carrier", "1\n")
    return tree


def boot_id(tree):
    return tree.text("proc/sys/kernel/random/boot_id").strip()


def why_not(tree, clock):
    return Waiting(tree.path(""), boot_id(tree), clock).why_not()


def store(tree, **changes):
    slots = Slots(tree.path("var/lib/poolwarden"))
    slots.prepare()
    slots.load()
    slots.save(gate_state.encode(gate_state.EMPTY._replace(**changes)))


def agent_says(tree, clock, allows, reason="because"):
    gate_file.say(tree.path(""), boot_id(tree), Word("open" if allows else "shut", reason, allows, clock.ms))


def test_the_agents_word_decides_a_masters_first_start(master, clock):
    assert why_not(master, clock) == "the agent has not said anything about this boot yet"
    agent_says(master, clock, False, "h2 succeeded it")
    assert why_not(master, clock) == "h2 succeeded it"
    agent_says(master, clock, True)
    assert why_not(master, clock) == ""


def test_a_word_of_another_boot_or_an_old_one_is_none(master, clock):
    agent_says(master, clock, True)
    clock.ms += gate_file.FRESH_MS + 1
    assert "has not said anything" in why_not(master, clock)
    agent_says(master, clock, True)
    master.put("proc/sys/kernel/random/boot_id", "another\n")
    assert "has not said anything" in why_not(master, clock)


def test_members_start_freely_and_later_starts_of_a_boot_are_not_gated(master, clock):
    master.put("etc/xensource/pool.conf", "slave:10.0.0.2")
    assert why_not(master, clock) == ""
    master.put("etc/xensource/pool.conf", "master")
    boot_findings.mark_started(master.path(""), boot_id(master))
    assert why_not(master, clock) == ""


@pytest.mark.parametrize("conf", ["master", "slave:10.0.0.2"])
def test_a_hold_holds_whatever_else_is_said(master, clock, conf):
    store(master, hold=gate_state.Hold(7, "b1", 0, "s"))
    master.put("etc/xensource/pool.conf", conf)
    boot_findings.mark_started(master.path(""), boot_id(master))
    agent_says(master, clock, True)
    assert "held since term 7" in why_not(master, clock)
    store(master, hold=None)
    assert why_not(master, clock) == ""


def test_a_superseded_master_never_starts_as_one(master, clock):
    store(master, tombstone=gate_state.Tombstone(4, OTHER, "10.0.0.2"))
    boot_findings.mark_started(master.path(""), boot_id(master))
    agent_says(master, clock, True)
    gate_file.request(master.path(""), gate_file.OPENED, boot_id(master), "root")
    assert why_not(master, clock) == "this host was superseded by 10.0.0.2 at term 4"
    master.put("etc/xensource/pool.conf", "slave:10.0.0.2")
    assert why_not(master, clock) == "", "as his member it may"


def test_an_operator_opens_it_for_this_boot(master, clock):
    gate_file.request(master.path(""), gate_file.OPENED, "another boot", "root")
    assert why_not(master, clock)
    gate_file.request(master.path(""), gate_file.OPENED, boot_id(master), "root")
    assert why_not(master, clock) == ""


def test_a_host_that_is_not_configured_is_not_gated(master, clock):
    master.put("etc/poolwarden/agent.conf", "[agent]\n")
    assert why_not(master, clock) == ""


def test_without_an_agent_the_rules_without_a_collector_hold(master, clock, monkeypatch):
    said = {"10.0.0.2": ("follows", "10.0.0.1")}
    monkeypatch.setattr(Dom0, "ask_role", lambda self, a, limit: Told(*said.get(a, ("silent", ""))))
    monkeypatch.setattr("poolwarden_agent.dom0.dom0.Dom0.management_address", lambda self: "10.0.0.1")
    monkeypatch.setattr("poolwarden_agent.dom0.system.neighbours.gateway", lambda root, interface: True)
    row = '<table name="host"><row ref="h1" uuid="%s" address="10.0.0.1"/><row ref="h2" uuid="%s" address="10.0.0.2"/>'
    master.put("var/lib/xcp/state.db", "<database>%s</table></database>" % (row % (trees.HOST, trees.OTHER)))
    waiting = Waiting(master.path(""), boot_id(master), clock)
    assert "has not said anything" in waiting.why_not()
    clock.ms += AGENT_WITHIN_MS
    assert waiting.why_not() == "", "its only member follows it"
    said["10.0.0.2"] = ("acts", "")
    other = Waiting(master.path(""), boot_id(master), clock)
    clock.ms += AGENT_WITHIN_MS
    assert "acts as master" in other.why_not()


def test_a_fault_of_the_program_keeps_no_healthy_master_down(master, monkeypatch):
    monkeypatch.setattr(gatecommand.Waiting, "why_not", lambda self: 1 / 0)
    assert gatecommand.main(["wait", "--root", master.path("")]) == 0
    assert boot_findings.started(master.path(""), boot_id(master))


def test_and_lets_no_held_one_start(master, monkeypatch):
    store(master, hold=gate_state.Hold(7, "b1", 0, "s"))
    monkeypatch.setattr(gatecommand.Waiting, "why_not", lambda self: 1 / 0)
    slept = threading.Event()

    def sleep(seconds):
        slept.set()
        raise SystemExit

    monkeypatch.setattr(gatecommand.time, "sleep", sleep)
    with pytest.raises(SystemExit):
        gatecommand.main(["wait", "--root", master.path("")])
    assert slept.is_set() and not boot_findings.started(master.path(""), boot_id(master))


def test_what_cannot_be_read_holds_a_master_and_no_member(master, clock):
    for number in (0, 1):
        master.put("var/lib/poolwarden/state.%d" % number, b"rubbish")
    assert gatecommand._must_wait(master.path(""))
    master.put("etc/xensource/pool.conf", "slave:10.0.0.2")
    assert not gatecommand._must_wait(master.path("")) and why_not(master, clock) == ""


def test_status_says_what_it_waits_for(master, capsys):
    assert gatecommand.main(["status", "--root", master.path("")]) == 1
    said = capsys.readouterr().out
    assert "pool.conf:  master" in said and "xapi:       waits: the agent has not said anything" in said


def test_open_wants_the_hosts_name_and_no_tombstone(master, capsys):
    root = master.path("")
    assert gatecommand.main(["open", "--root", root, "--name", "h2"]) == 1
    assert gate_file.requested(root, gate_file.OPENED, boot_id(master)) == ""
    assert gatecommand.main(["open", "--root", root, "--name", "h1"]) == 0
    assert gate_file.requested(root, gate_file.OPENED, boot_id(master))
    store(master, tombstone=gate_state.Tombstone(4, OTHER, "10.0.0.2"))
    assert gatecommand.main(["open", "--root", root, "--name", "h1"]) == 1
    assert "superseded by 10.0.0.2" in capsys.readouterr().out


def test_release_is_the_running_agents(master, capsys):
    root = master.path("")
    assert gatecommand.main(["release", "--root", root, "--name", "h1"]) == 1
    assert "not held" in capsys.readouterr().out
    store(master, hold=gate_state.Hold(7, "b1", 0, "s"))
    assert gatecommand.main(["release", "--root", root, "--name", "h1"]) == 1
    assert "systemctl start poolwarden-agent" in capsys.readouterr().out


@pytest.mark.parametrize(
    "marks", [{"hold": gate_state.Hold(7, "b1", 0, "s")}, {"tombstone": gate_state.Tombstone(7, OTHER, "")}], ids=sorted
)
def test_a_person_makes_a_held_or_superseded_host_a_member(master, capsys, marks):
    root = master.path("")
    words = ["release", "--root", root, "--as-member", "10.0.0.2"]
    store(master, **marks)
    assert gatecommand.main(words) == 1 and "systemctl start poolwarden-agent" in capsys.readouterr().out
    (master.root / "proc").mkdir(exist_ok=True)
    master.systemctl("[ $1 = start ] && echo %d > $ROOT/var/run/xapi.pid; exit 0" % os.getpid())
    master.xapi_runs(os.getpid())
    os.unlink(master.path("var/run/xapi.pid"))
    side = HostSide(dom0(master))
    watch = GateWatch(side, root)
    watch.turn(False)
    assert gatecommand.main(words[:-1] + ["h2"]) == 1 and "no IP address" in capsys.readouterr().out
    assert gatecommand.main(words) == 0
    watch.turn(False)
    until(lambda: "start --no-block xapi.service" in master.calls())
    assert master.text("etc/xensource/pool.conf") == "slave:10.0.0.2" and side.executor.state.hold is None
    until(lambda: side.port.process() != host_now.NO_PROCESS)
    assert not (master.root / gate_file.FOLLOW).exists()


@pytest.mark.parametrize("address", ["h2", "127.0.0.1"])
def test_no_host_is_made_a_member_of_itself_or_of_a_name(master, address):
    store(master, hold=gate_state.Hold(7, "b1", 0, "s"))
    side = HostSide(dom0(master))
    assert side.executor.follow(address).outcome == orders.FAILED
    assert side.executor.state.hold is not None and master.text("etc/xensource/pool.conf") == "master"


@pytest.mark.slow
@pytest.mark.parametrize("conf, term", [("master", 8), ("slave:10.0.0.2", 7)])
def test_a_hold_ends_as_master_at_a_higher_term_alone(master, conf, term, monkeypatch):
    """What rested on the hold at its own term, a proof or an order, is void; a member starts at the same term."""
    monkeypatch.setattr(systemd, "NEW_PROCESS_S", 0.2)
    store(master, hold=gate_state.Hold(7, "b1", 0, "s"), term=7)
    master.put("etc/xensource/pool.conf", conf)
    master.systemctl("exit 0")
    side = HostSide(dom0(master))
    side.executor.release_hold()
    assert side.executor.state.hold is None and side.executor.state.term == term
    assert HostSide(dom0(master)).executor.state.term == term, "durably"


def test_a_role_handed_back_in_the_same_boot_is_left_alone(master):
    """S74: it booted superseded, started as member, and was made master again: no old word makes it a member anew."""
    side = HostSide(dom0(master))
    now, boot = side.port.mono_ms(), side.boot
    successor = {"successor_uuid": OTHER, "successor_address": "10.0.0.2"}
    answer = {"boot_id": boot_id(master), "decision": pb.GateAnswer.SHUT, "term": 2, "epoch": 1, "reason": "succeeded"}
    boot.heard(pb.GateAnswer(echo_mono_ms=now, valid_for_ms=15000, **dict(answer, **successor)))
    boot.settle(True)
    assert master.text("etc/xensource/pool.conf") == "slave:10.0.0.2" and boot.allows()
    boot_findings.mark_started(master.path(""), boot_id(master))
    master.put("etc/xensource/pool.conf", "master")  # pool.designate_new_master
    for _ in range(3):
        if boot.watching:
            boot.settle(True)
    assert master.text("etc/xensource/pool.conf") == "master" and boot.allows() and not boot.watching
