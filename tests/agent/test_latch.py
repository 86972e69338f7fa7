"""What keeps xapi down when the gate's own program cannot run: one word on disk, read by a shell."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from poolwarden_agent.core import gate_state
from poolwarden_agent.dom0.system import boot_findings
from poolwarden_agent.dom0.system.latch import SIZE, Latch
from poolwarden_agent.dom0.xapi import toolstack

from .test_dom0 import dom0
from .tree import HOST, OTHER, POOL, until

WRAPPER = Path(__file__).resolve().parents[2] / "packaging/agent/poolwarden-gate"
HELD = gate_state.EMPTY._replace(epoch=2, term=7, hold=gate_state.Hold(7, "b", 0, OTHER))
STONED = gate_state.EMPTY._replace(epoch=2, term=7, tombstone=gate_state.Tombstone(7, OTHER, "10.0.0.2"))
BROKEN = "exit 1", "exit 2", "kill -9 $$", "exit 127"


def keep(tree, state):
    port = dom0(tree)
    port.load_state()
    port.save_state(gate_state.encode(state))


def begin(tree, script):
    """The wrapper, with a program that does this; it counts how often it was run."""
    agent = tree.put("agent", "#!/bin/sh\necho run >> %s\n%s\n" % (tree.path("runs"), script), 0o755)
    environment = dict(os.environ, POOLWARDEN_ROOT=str(tree.root), POOLWARDEN_AGENT=str(agent))
    environment["POOLWARDEN_AGAIN_S"] = "0.05"
    return subprocess.Popen(["sh", str(WRAPPER)], env=environment, stderr=subprocess.DEVNULL)


def end(run):
    run.send_signal(signal.SIGTERM)
    assert run.wait(10) == 143


@pytest.mark.parametrize("script", BROKEN + ("exit 0",))
@pytest.mark.parametrize("state, conf", [(None, "master"), (gate_state.EMPTY, "master"), (STONED, "slave:10.0.0.2")])
def test_a_broken_gate_blocks_no_healthy_host(tree, script, state, conf):
    if state is not None:
        keep(tree, state)
    tree.put("etc/xensource/pool.conf", conf)
    assert begin(tree, script).wait(10) == 0


@pytest.mark.slow
@pytest.mark.parametrize("script", BROKEN)
@pytest.mark.parametrize("state, conf", [(HELD, "master"), (HELD, "slave:10.0.0.2"), (STONED, "master"), (STONED, "")])
def test_a_broken_gate_lets_no_held_host_go_and_is_tried_again(tree, script, state, conf):
    keep(tree, state)
    tree.put("etc/xensource/pool.conf", conf)
    run = begin(tree, script)
    try:
        until(lambda: (tree.root / "runs").exists() and tree.text("runs").count("run") >= 3, what="it is tried again")
        assert run.poll() is None
    finally:
        end(run)


def test_a_gate_that_works_again_or_a_hold_that_ended_lets_xapi_start(tree):
    keep(tree, HELD)
    run = begin(tree, "test -e %s" % tree.path("well"))
    until(lambda: (tree.root / "runs").exists())
    tree.put("well", "")
    assert run.wait(10) == 0
    os.unlink(tree.path("well"))
    run = begin(tree, "exit 1")
    keep(tree, gate_state.EMPTY)
    assert run.wait(10) == 0


def test_a_stop_ends_the_program_that_waits(tree):
    run = begin(tree, "echo $$ > %s; exec sleep 60" % tree.path("pid"))
    until(lambda: (tree.root / "pid").exists() and tree.text("pid").strip())
    pid = int(tree.text("pid"))
    end(run)
    until(lambda: not os.path.exists("/proc/%d" % pid) or "Z" in Path("/proc/%d/stat" % pid).read_text().split()[2])


def test_the_latch_is_shut_before_the_slots_say_so_and_opens_after(tree, monkeypatch):
    port = dom0(tree)
    port.load_state()
    latch = Latch(tree.path("var/lib/poolwarden"))
    seen, save = [], port._slots.save
    monkeypatch.setattr(port._slots, "save", lambda data: (seen.append(latch.read()), save(data)))
    port.save_state(gate_state.encode(HELD))
    port.save_state(gate_state.encode(gate_state.EMPTY))
    assert seen == ["hold", "hold"] and latch.read() == "none"
    assert os.path.getsize(tree.path("var/lib/poolwarden/latch")) == SIZE


def test_an_agent_that_starts_sets_the_latch_right(tree):
    keep(tree, HELD)
    tree.put("var/lib/poolwarden/latch", "none           \n")
    dom0(tree).load_state()
    assert Latch(tree.path("var/lib/poolwarden")).read() == "hold"


def test_a_toolstack_whose_unix_socket_is_served_is_not_stopped(tree):
    place = tree.path("var/lib/xcp/xapi")
    server = socket.socket(socket.AF_UNIX)
    server.bind(place)
    server.listen(1)
    assert toolstack.socket_served(place)
    seen = dom0(tree).toolstack()
    assert not seen.stopped and "its Unix socket is served" in seen.text
    server.close()
    assert not toolstack.socket_served(place), "a file that nobody serves is none"


@pytest.mark.parametrize("uuid, address", [(HOST, ""), (HOST, "h2.example"), ("elsewhere", "10.0.0.2")])
def test_a_database_that_does_not_show_the_whole_pool_shows_no_smaller_one(tree, uuid, address):
    rows = '<row ref="a" uuid="%s" address="10.0.0.1"/><row ref="b" uuid="%s" address="%s"/>' % (uuid, OTHER, address)
    pool = '<table name="pool"><row ref="p" uuid="%s"/></table>' % POOL
    tree.put("var/lib/xcp/state.db", '<database><table name="host">%s</table>%s</database>' % (rows, pool))
    assert boot_findings.Peers(str(tree.root)).addresses(HOST)[1] is False
