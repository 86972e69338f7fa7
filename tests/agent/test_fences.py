"""Fence agents that this host runs for others: what is refused, how a run ends, and that none is ever run twice."""

import os
import signal
import threading
import time

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.config import ConfigError, load
from poolwarden_agent.core import fence_order, gate_state, order_kinds, probe_rules
from poolwarden_agent.dom0.fencing import agent_run
from poolwarden_agent.dom0.fencing.agent_run import FenceAgents
from poolwarden_agent.host.fence_runs import MOST_RUNS
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process.workers import Workers

from .fake_port import FakePort, Killed, obey, order
from .tree import HOST, OTHER

SECRET = "s3cr3t-value"
LEAVES = "sleep 30 & echo $! > %s; cat > /dev/null; exit 0"


def agent_file(path, body, name="fence_test"):
    script = path / name
    script.write_text("#!/bin/sh\n%s\n" % body)
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def host(tmp_path):
    """A host that may run fence_test, which keeps what it was given and says that the power is off."""
    port = FakePort()
    port.able = order_kinds.KNOWN
    port.runs = tmp_path / "runs"
    body = "cat >> %s; echo ran >> %s; env | sort > %s; echo Status: OFF; exit 2"
    made = agent_file(tmp_path, body % (port.runs, port.runs, tmp_path / "environment"))
    port.fences = FenceAgents([made], "")
    return port


def proxied(port, order_id="r1", fields=None, **changes):
    body = {"agent": "fence_test", "action": "status", "limit_ms": 5000, "host_uuid": OTHER, "secrets": ["passwd"]}
    body["parameters"] = {"ip": "10.9.0.9", "passwd": SECRET}
    body.update(changes)
    return order(port, order_id, fields=fields or {}, fence_proxy=pb.FenceProxy(**body))


def named(result):
    return pb.OrderResult.Outcome.Name(result.outcome), result.reason


def runs(port):
    return port.runs.read_text().count("ran") if port.runs.exists() else 0


def test_it_runs_with_its_parameters_on_stdin_alone_and_tells_how_it_ended(host, tmp_path):
    result = obey(HostSide(host), proxied(host))
    assert named(result) == ("DONE", "") and result.fence_run.code == 2
    assert result.fence_run.text == "Status: OFF" and result.fence_run.output == "Status: OFF\n"
    assert host.runs.read_text() == "ip=10.9.0.9\npasswd=%s\naction=status\nran\n" % SECRET
    environment = (tmp_path / "environment").read_text()
    assert "PCMK_service" not in environment and "PATH=/usr/local/sbin" in environment and "HOME=" not in environment


def test_a_host_whose_xapi_answers_is_not_switched_off(host):
    side, where = HostSide(host), {"action": "off", "target_address": "10.9.0.1"}
    host.peers["10.9.0.1"] = probe_rules.ProbeResult(probe_rules.ANSWERED, "certificate", "answered")
    assert named(obey(side, proxied(host, "r1", **where))) == ("REFUSED", "precondition")
    assert named(obey(side, proxied(host, "r1", **where))) == ("REFUSED", "precondition"), "nor when it comes again"
    assert runs(host) == 0 and host.probed_ports == [443]
    del host.peers["10.9.0.1"]
    assert named(obey(side, proxied(host, "r2", **where)))[0] == "DONE" and runs(host) == 1
    assert named(obey(side, proxied(host, "r3", action="off")))[0] == "DONE", "an older collector names no address"


def test_a_higher_term_that_comes_while_it_probes_keeps_it_from_running(host):
    side, silent = HostSide(host), probe_rules.ProbeResult(probe_rules.NO_ANSWER, "", "silent")

    def probed(address, limit_ms, port=443):
        side.executor._keeper.change(lambda state: state._replace(term=state.term + 1))
        return silent

    host.alive_peer = probed
    result = obey(side, proxied(host, action="off", target_address="10.9.0.1"))
    assert named(result) == ("REFUSED", "stale-term") and runs(host) == 0


def test_nothing_of_it_is_kept(host):
    side = HostSide(host)
    obey(side, proxied(host, fields={"term": 7, "epoch": 3}))
    state = gate_state.decode(host.saved)
    assert (state.term, state.epoch) == (7, 3), "later orders of an earlier term are refused"
    assert SECRET.encode() not in host.saved and not state.results and not state.started
    hello = side.conversation.link_up()[0].hello
    assert list(hello.fence_agents) == ["fence_test"] and "fence_proxy" in hello.capabilities
    assert not [item for item in hello.last_results if item.kind == "fence_proxy"]


def test_a_secret_that_the_agent_says_is_not_told(host, tmp_path):
    body = "cat; echo 'login as admin %s failed' >&2; exit 1" % SECRET
    host.fences = FenceAgents([agent_file(tmp_path, body)], "")
    result = obey(HostSide(host), proxied(host))
    assert SECRET not in str(result) and result.fence_run.text == "login as admin *** failed"


@pytest.mark.parametrize(
    "body",
    [
        "printf '%%*s%s\\n' 495 x >&2; exit 1",  # its last line is cut within the secret
        "printf '%%*s%s' 65530 x; exit 1",  # what is kept of its output ends within the secret
        "head -c 70000 /dev/zero | tr '\\0' x; printf '%s'; exit 1",
        "printf 'wrong: %s ' >&2; exit 1",
    ],
)
@pytest.mark.parametrize("secret", [SECRET, "w\u00f6rt\u2028mit  ", "lo" * 150])
def test_a_secret_is_hidden_before_anything_is_cut(host, tmp_path, body, secret):
    host.fences = FenceAgents([agent_file(tmp_path, body % secret)], "")
    result = obey(HostSide(host), proxied(host, parameters={"ip": "10.9.0.9", "passwd": secret}))
    said = result.fence_run
    for text in (said.text, said.errors, said.output):
        assert not any(text.rstrip().endswith(secret[:n].rstrip()) for n in range(2, len(secret) + 1)), text[-40:]
        assert secret[:4] not in text
    assert len(said.text) <= 500


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent": "fence_other"}, "agent.conf of this host allows"),
        ({"agent": "/bin/sh"}, "agent.conf of this host allows"),
        ({"action": "reboot"}, "no action that is run here"),
        ({"action": ""}, "no action that is run here"),
        ({"limit_ms": 0}, "outside 1000..600000"),
        ({"parameters": {"ipmitool_path": "/tmp/x"}}, "not taken from the collector"),
        ({"parameters": {"ssh_options": "-oProxyCommand=x"}}, "not taken from the collector"),
        ({"parameters": {"action": "reboot"}}, "not taken from the collector"),
        ({"parameters": {"missing_as_off": "1"}}, "not taken from the collector"),
        ({"parameters": {"method": "cycle"}}, "only onoff is verified"),
        ({"parameters": {"ip": "a\naction=reboot"}}, "has a line break"),
        ({"parameters": {"plug": "1" * 20000}}, "more than 16384 bytes"),
        ({"host_uuid": HOST}, "no other host"),
        ({"host_uuid": ""}, "no other host"),
    ],
)
def test_what_this_host_does_not_run(host, changes, said):
    result = obey(HostSide(host), proxied(host, **changes))
    assert named(result) == ("REFUSED", "precondition") and said in result.text
    assert runs(host) == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"term": 1}, "stale-term"), ({"boot_id": "boot-0"}, "wrong-boot"), ({"host_uuid": OTHER}, "wrong-host")],
)
def test_the_gate_judges_it_like_every_order(host, fields, reason):
    side = HostSide(host)
    obey(side, proxied(host, "first", fields={"term": 5}))
    assert named(obey(side, proxied(host, "second", fields=fields)))[1] == reason
    assert runs(host) == 1


def test_a_host_that_names_no_fence_agent_knows_no_such_order(host):
    host.able, host.fences = FakePort().able, None
    assert named(obey(HostSide(host), proxied(host))) == ("REFUSED", "unknown-order")


def test_delivered_twice_it_runs_once(host):
    side, message = HostSide(host), proxied(host, action="off")
    first, second = obey(side, message), obey(side, message)
    assert runs(host) == 1 and second.replayed and not first.replayed
    assert second.fence_run.code == first.fence_run.code == 2 and named(second) == named(first)


def test_while_it_runs_the_same_order_again_is_unknown(host, tmp_path):
    gone = tmp_path / "go"
    body = "cat > /dev/null; echo ran >> %s; while ! [ -e %s ]; do sleep 0.02; done; exit 0" % (host.runs, gone)
    host.fences = FenceAgents([agent_file(tmp_path, body)], "")
    side, message, told = HostSide(host), proxied(host, action="off"), []
    thread = threading.Thread(target=lambda: told.append(obey(side, message)))
    thread.start()
    until(lambda: runs(host) == 1)
    again = obey(side, message)
    assert named(again) == ("UNKNOWN", "busy") and again.replayed
    gone.write_text("")
    thread.join(10)
    assert named(told[0]) == ("DONE", "") and runs(host) == 1


def test_an_off_that_died_with_its_agent_is_never_run_by_the_next_one(host):
    message = proxied(host, action="off")
    host.die_at = 2  # epoch and term are stored; the run begins
    with pytest.raises(Killed):
        obey(HostSide(host), message)
    host.die_at, host.now = None, host.now + 1000
    assert named(obey(HostSide(host), message)) == ("REFUSED", "expired")
    assert runs(host) == 0


@pytest.mark.slow
def test_cut_off_at_its_limit_it_is_unknown_and_nothing_of_it_is_left(host, tmp_path):
    child = tmp_path / "child"
    body = "trap '' TERM; sleep 60 & echo $! > %s; cat > /dev/null; echo working; wait; sleep 60" % child
    host.fences = FenceAgents([agent_file(tmp_path, body)], "")
    began = time.monotonic()
    result = obey(HostSide(host), proxied(host, action="off", limit_ms=1000))
    assert named(result) == ("UNKNOWN", "timeout") and time.monotonic() - began < 40
    assert "killed" in result.fence_run.text
    until(lambda: not alive(int(child.read_text())))


def test_a_child_that_it_left_behind_is_killed(host, tmp_path):
    child = tmp_path / "child"
    host.fences = FenceAgents([agent_file(tmp_path, LEAVES % child)], "")
    began = time.monotonic()
    assert named(obey(HostSide(host), proxied(host))) == ("DONE", "")
    assert time.monotonic() - began < 40, "its open pipes are not waited for"
    until(lambda: not alive(int(child.read_text())))


@pytest.mark.slow
def test_one_that_does_not_read_its_parameters_is_killed_before_it_can_reboot_anything(host, tmp_path):
    made = tmp_path / "made"
    body = "exec <&-; kill -STOP $$; sleep 0.2; touch %s" % made
    host.fences = FenceAgents([agent_file(tmp_path, body)], "")
    result = obey(HostSide(host), proxied(host, action="off", limit_ms=1000))
    assert named(result) == ("UNKNOWN", "timeout") and not made.exists()


def test_one_that_is_not_there_any_more_never_began(host, tmp_path):
    side, message = HostSide(host), proxied(host)
    missing = str(tmp_path / "fence_gone")
    host.fences = FenceAgents([missing], "")
    assert host.fence_agents() == ()
    run = host.fences.run("fence_gone", b"", 1000)
    assert not run.started and "cannot be started" in run.text
    assert named(obey(side, message))[0] == "REFUSED"


def test_only_a_few_run_at_once(host, tmp_path):
    go = tmp_path / "go"
    body = "cat > /dev/null; echo ran >> %s; while ! [ -e %s ]; do sleep 0.02; done" % (host.runs, go)
    host.fences = FenceAgents([agent_file(tmp_path, body)], "")
    side = HostSide(host)
    threads = [threading.Thread(target=obey, args=(side, proxied(host, "r%d" % n))) for n in range(MOST_RUNS)]
    for thread in threads:
        thread.start()
    until(lambda: runs(host) == MOST_RUNS)
    assert named(obey(side, proxied(host, "one-more"))) == ("REFUSED", "busy")
    go.write_text("")
    for thread in threads:
        thread.join(10)
    assert named(obey(side, proxied(host, "one-more"))) == ("DONE", "")


def test_one_device_has_one_lane_and_another_device_another(host):
    side = HostSide(host)

    def lane(**changes):
        message = proxied(host, **changes)
        return side.executor.lane(side.conversation.receive(pb.CollectorMessage(order=message))[1])

    assert lane() == lane(order_id="r2", action="off") != lane(parameters={"ip": "10.9.0.8"})
    assert SECRET not in lane()


def test_lanes_do_not_wait_for_each_other():
    ended, release = [], threading.Event()

    def carry_out(work):
        if work == "slow":
            release.wait(10)
        ended.append(work)

    workers = Workers(carry_out)
    workers.give("a", "slow")
    workers.give("b", "quick")
    until(lambda: ended == ["quick"])
    release.set()
    until(lambda: ended == ["quick", "slow"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("fence_ipmilan", "expected absolute paths"),
        ("/usr/sbin/fence_dummy", "reports success without doing anything"),
        ("/usr/sbin/fence_xenapi", "works through the very pool"),
        ("/usr/sbin/fence_apc, /opt/fence_apc", "two of one name"),
    ],
)
def test_agent_conf_names_them_by_path(tmp_path, value, said):
    file = tmp_path / "agent.conf"
    file.write_text("[agent]\ncollector = 10.0.0.1:8443\nfence_agents = %s\n" % value)
    with pytest.raises(ConfigError) as error:
        load(str(file), str(tmp_path))
    assert said in str(error.value)


def test_agent_conf_may_name_several_or_none(tmp_path):
    file = tmp_path / "agent.conf"
    file.write_text("[agent]\ncollector = 10.0.0.1:8443\nfence_agents = /usr/sbin/fence_apc,/usr/sbin/fence_ipmilan\n")
    assert load(str(file), str(tmp_path)).fence_agents == ("/usr/sbin/fence_apc", "/usr/sbin/fence_ipmilan")
    file.write_text("[agent]\ncollector = 10.0.0.1:8443\n")
    assert load(str(file), str(tmp_path)).fence_agents == ()


def test_no_parameter_that_is_let_through_names_a_program_or_a_file():
    doubtful = ("path", "file", "options", "cmd", "command", "sudo", "debug", "verbose", "identity")
    assert not [name for name in fence_order.PARAMETERS if any(word in name for word in doubtful)]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def until(holds, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_its_answer_says_the_numbers_that_hold_when_it_ends(host, tmp_path):
    """A run takes its time; a claim that comes meanwhile must not be followed by an answer with the older term."""
    side = HostSide(host)
    go = tmp_path / "go"
    body = "cat > /dev/null; while [ ! -e %s ]; do sleep 0.02; done; exit 2" % go
    host.fences = FenceAgents([agent_file(tmp_path, body, "fence_slow")], "")
    answers = []
    run = threading.Thread(target=lambda: answers.append(obey(side, proxied(host, agent="fence_slow"))))
    run.start()
    until(lambda: side.executor._fences._running)
    claim = order(host, "c1", fields={"term": 9, "epoch": 3}, claim=pb.Claim())
    assert obey(side, claim).term == 9
    go.write_text("")
    run.join(10)
    assert (answers[0].epoch, answers[0].term) == (3, 9)


@pytest.mark.parametrize("size, reads", [(1000, True), (10**6, False)])
def test_an_agent_that_does_not_take_all_of_its_parameters_is_killed_before_its_input_ends(tmp_path, size, reads):
    """The action is the last line; one that reads none reboots by default."""
    did = tmp_path / "did"
    process = agent_run._start(["/bin/sh", "-c", "cat > /dev/null; echo rebooted > %s" % did], {"PATH": "/bin"}, None)
    # As one that has not come to read yet: nothing is taken out of the pipe.
    os.kill(process.pid, signal.SIGSTOP)
    assert agent_run._feed(process, b"x" * size) is reads
    os.kill(process.pid, signal.SIGCONT)
    code = process.wait()
    process.stdout.close()
    process.stderr.close()
    assert (code == 0 and did.exists()) if reads else (code == -signal.SIGKILL and not did.exists())
