"""When it is looked at why xapi does not start, what is read then, and how it is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.xapi_causes import NO_TROUBLE, Trouble
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.dom0.system import log_tail
from poolwarden_agent.dom0.system.surroundings import Reader
from poolwarden_agent.dom0.xapi import trouble_look
from poolwarden_agent.host import trouble_watch
from poolwarden_agent.host.trouble_watch import TroubleWatch

from .fake_port import obey, order

FOUND = Trouble("database", "its database cannot be loaded", "look", ("a line",))
ONE, TWO = Process(7, 100), Process(8, 200)


class Port(object):
    def __init__(self):
        self.asked = []
        self.found = FOUND

    def mono_ms(self):
        return 1

    def xapi_trouble(self, ended_pid, running):
        self.asked.append((ended_pid, running))
        return self.found


@pytest.fixture
def host():
    return Port()


@pytest.fixture
def watch(host):
    return TroubleWatch(host)


def looks(watch, process, word, begin_s, end_s, held=False):
    for now in range(begin_s, end_s, 2):
        watch.look(process, word, held, now * 1000)


def test_a_xapi_that_is_well_is_never_looked_at(watch, host):
    looks(watch, ONE, "answers", 0, 100000)
    assert not host.asked and watch.known.trouble == NO_TROUBLE


def test_each_end_is_looked_at_once_and_what_was_found_holds_until_it_is_well(watch, host):
    looks(watch, ONE, "answers", 0, 10)
    looks(watch, NO_PROCESS, "down", 10, 30)
    assert host.asked == [(7, False)] and watch.known.trouble == FOUND and watch.known.ended_ms == 10000
    looks(watch, TWO, "starting", 30, 60)
    looks(watch, TWO, "answers", 60, 116)
    assert len(host.asked) == 1 and watch.known.trouble == FOUND
    looks(watch, TWO, "answers", 116, 130)
    assert watch.known == trouble_watch.NOTHING_KNOWN


def test_a_crash_loop_is_looked_at_each_half_minute_at_most(watch, host):
    for number in range(300):
        watch.look(Process(1000 + number, number), "starting", False, number * 2000)
    assert 15 <= len(host.asked) <= 20
    assert all(not running for _, running in host.asked)


def test_a_start_that_takes_long_is_looked_at_twice(watch, host):
    looks(watch, ONE, "starting", 0, 110)
    assert not host.asked
    looks(watch, ONE, "starting", 110, 20000)
    assert host.asked == [(0, True)] * 2


@pytest.mark.parametrize("word", ["down", "emergency"])
def test_a_xapi_that_is_there_and_not_up_is_looked_at(watch, host, word):
    looks(watch, ONE, "answers", 0, 10)
    looks(watch, ONE, word, 10, 200)
    assert host.asked == [(0, True)]


def test_an_agent_that_finds_no_xapi_looks_once_it_has_lasted(watch, host):
    looks(watch, NO_PROCESS, "down", 0, 28)
    assert not host.asked
    looks(watch, NO_PROCESS, "down", 28, 100)
    assert host.asked == [(0, False)]


def test_a_held_xapi_has_no_trouble_of_its_own(watch, host):
    looks(watch, ONE, "answers", 0, 10)
    looks(watch, NO_PROCESS, "down", 10, 1000, held=True)
    assert not host.asked and watch.known == trouble_watch.NOTHING_KNOWN


def test_a_xapi_that_waits_for_its_boot_gate_has_none_either(watch, host):
    watch.waits = lambda: True
    looks(watch, NO_PROCESS, "down", 0, 1000)
    assert not host.asked
    watch.waits = lambda: False
    looks(watch, NO_PROCESS, "down", 1000, 1100)
    assert host.asked == [(0, False)]


def test_what_was_told_to_end_is_no_trouble(watch, host):
    host.found = NO_TROUBLE
    looks(watch, ONE, "answers", 0, 10)
    looks(watch, NO_PROCESS, "down", 10, 30)
    assert host.asked and watch.known == trouble_watch.NOTHING_KNOWN


# ------------------------------------------------------------------------------------------ told


def test_a_report_brings_it_and_takes_it_back(side):
    side.conversation.link_up()
    side.observer.trouble.known = trouble_watch.Known(FOUND, 5000, 4000)
    told = side.conversation.report().report.xapi_trouble
    assert (told.cause, told.sentence, told.help, list(told.lines)) == FOUND[:3] + (["a line"],)
    assert (told.looked_mono_ms, told.ended_mono_ms) == (5000, 4000)
    assert not side.conversation.report().report.HasField("xapi_trouble")
    side.observer.trouble.known = trouble_watch.NOTHING_KNOWN
    over = side.conversation.report().report
    assert over.HasField("xapi_trouble") and over.xapi_trouble.cause == ""


def test_an_order_looks_now(side):
    port = side.port
    port.xapi_trouble = lambda ended_pid, running: FOUND
    result = obey(side, order(port, collect_evidence=pb.CollectEvidence(want_xapi_trouble=True)))
    assert result.outcome == pb.OrderResult.DONE and result.xapi_trouble.cause == "database"
    assert not obey(side, order(port, "o2", collect_evidence=pb.CollectEvidence())).HasField("xapi_trouble")


# ------------------------------------------------------------------------------------------ read


START = "Apr 30 20:26:41 h1 xapi: [debug||0 |server_init D:ab|xapi] (Re)starting xapi, pid: 7\n"
STEP = "Apr 30 20:26:41 h1 xapi: [debug||0 |server_init D:ab|startup] task [starting up database engine]\n"
FATAL = "Apr 30 20:26:42 h1 xapi: [error||0 ||backtrace] Xapi.watchdog failed with exception "
EMPTY = FATAL + 'Xmlm.Error(1:1, "expected root element")\n'


def look(tree, pid=0, running=False):
    return trouble_look.look(str(tree.root), Reader(str(tree.root), {}), pid, running)


def test_a_member_without_its_pools_certificates(tree):
    text = "Apr 30 20:26:40 h1 xapi: [debug||0 |server_init D:1|xapi] (Re)starting xapi, pid: 7\n"
    text += "Apr 30 20:26:41 h1 xapi: [error||0 |server_init D:1|master_connection] Connection to master died. "
    text += "I will continue to retry indefinitely (supressing future logging of this message).\n"
    tree.put("var/log/xensource.log", text)
    tree.put("etc/stunnel/certs-pool/h1.pem", "")
    assert look(tree, 7, True).cause == "master-unreachable"
    tree.put("var/xapi/verify-certificates", "")
    assert look(tree, 7, True).cause == "pool-bundle"
    tree.put("etc/stunnel/xapi-pool-ca-bundle.pem", "")
    assert look(tree, 7, True).cause == "pool-bundle"
    tree.put("etc/stunnel/xapi-pool-ca-bundle.pem", "-----BEGIN CERTIFICATE-----")
    assert look(tree, 7, True).cause == "master-unreachable"


def test_the_end_of_a_log_that_is_long(tree):
    noise = "Apr 30 20:26:41 h1 xapi: [debug||0 ||x] noise %s\n" % ("n" * 100)
    tree.put("var/log/xensource.log", noise * 20000 + START + STEP + EMPTY)
    assert look(tree).cause == "database"
    lines = log_tail.tail(str(tree.root), log_tail.XENSOURCE, log_tail.LONG)
    assert sum(map(len, lines)) <= log_tail.LONG and lines[0] == noise.strip()
    tree.put("var/log/xensource.log", START + STEP + EMPTY + noise * 20000)
    assert look(tree).cause == "unknown"


def test_a_log_that_was_rotated_just_now_is_read_with_the_one_before(tree):
    tree.put("var/log/xensource.log.1", START + STEP + EMPTY)
    tree.put("var/log/xensource.log", START.replace("pid: 7", "pid: 8"))
    assert look(tree, 7).cause == look(tree).cause == "database"
    tree.put("var/log/xensource.log", "")
    assert look(tree, 7).cause == "database"


def test_a_log_that_is_none_holds_nobody_up(tree):
    path = tree.root / "var/log/xensource.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(str(path))
    os.mkfifo(str(tree.root / "var/log/xensource.log.1"))
    os.symlink("/dev/zero", str(tree.root / "var/log/kern.log"))
    os.symlink("daemon.log", str(tree.root / "var/log/daemon.log"))
    assert look(tree).cause in ("unknown", "start-limit")
    path.unlink()
    path.mkdir()
    assert look(tree).cause == "unknown"


def test_bytes_that_are_no_text(tree):
    (tree.root / "var/log").mkdir(parents=True, exist_ok=True)
    (tree.root / "var/log/xensource.log").write_bytes(
        bytes(range(256)) * 4000 + b"\n" + (START + STEP + EMPTY).encode()
    )
    assert look(tree).cause == "database"


def test_what_the_host_shows_is_read(tree):
    tree.put("etc/xensource/xapi_block_startup", "")
    assert look(tree).cause == "unknown"
    tree.put("etc/xensource/boot_time_info_updated", "")
    assert look(tree).cause == "start-blocked"


def test_a_stale_pid_file(tree):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        proc = Path("/proc/%d" % sleeper.pid)
        for name in ("stat", "comm", "cmdline"):
            tree.put("proc/%d/%s" % (sleeper.pid, name), (proc / name).read_text())
        tree.put("var/run/xapi.pid", "%d\n" % sleeper.pid)
        assert look(tree, running=True).cause == "unknown"
        tree.put("var/lock/subsys/xapi", "")
        found = look(tree, running=True)
        assert found.cause == "stale-pid" and str(sleeper.pid) in found.sentence
        tree.put("proc/%d/comm" % sleeper.pid, "xapi\n")
        assert look(tree, running=True).cause == "unknown"
    finally:
        sleeper.communicate(b"\n")


def test_an_empty_certificate_is_named(tree):
    tree.put("etc/xensource/xapi-ssl.pem", "")
    found = look(tree)
    assert found.cause == "certificate" and "/etc/xensource/xapi-ssl.pem is empty" in found.sentence


def test_the_command_in_dom0(tree, capsys):
    from poolwarden_agent.commands import why

    tree.put("var/log/xensource.log", START + STEP + EMPTY)
    assert why.main(["--root", str(tree.root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("helps: "))
    text = " ".join(" ".join(lines).split())
    assert "its database cannot be loaded" in text and "cause: database" in text and "helps: cp -a" in text
    assert 'Xmlm.Error(1:1, "expected root element")' in text


def test_the_command_beside_a_xapi_that_has_started(tree, capsys):
    from poolwarden_agent.commands import why

    tree.put("var/log/xensource.log", START)
    tree.put("var/run/xapi.pid", "7\n")
    tree.put("proc/7/stat", "7 (xapi) S 0" + " 1" * 48)
    tree.put("usr/lib/systemd/system/squeezed.service", "")
    tree.put("sys/fs/cgroup/systemd/system.slice/cgroup.procs", "")
    assert why.main(["--root", str(tree.root)]) == 1
    assert "xapi is there and not up: squeezed does not run" in capsys.readouterr().out
    tree.put("var/run/xapi_init_complete.cookie", "")
    assert why.main(["--root", str(tree.root)]) == 1
    assert "xapi has started: squeezed does not run" in capsys.readouterr().out
