"""One pool of real processes through a whole incident: paused and orphaned, a failover under kills, and home again.

The tests of this file share one world and run in the order in which they stand; each leaves the pool as the next one
expects it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_rig import LAB, Lab, lab_environment, left_behind

pytestmark = pytest.mark.needs("namespaces", "ip", "nft")

H1, H2, H3 = "10.99.0.11", "10.99.0.12", "10.99.0.13"
LOGIN = """
import sys, xmlrpc.client
server = xmlrpc.client.ServerProxy("http://%s")
print(server.session.login_with_password("root", "xenroot", "1.0", "test")["Value"])
"""
USE = """
import json, xmlrpc.client
server = xmlrpc.client.ServerProxy("http://%s")
print(json.dumps(server.pool.get_all("%s")))
"""
UNIX_LOGIN = """
import os, time, XenAPI
path = os.environ["ROOT"] + "/var/lib/xcp/xapi"
session = XenAPI.Session("http://" + path.replace("/", "_"), transport=XenAPI.UDSTransport())
session.xenapi.login_with_password("root", "", "1.0", "test")
print("answered", flush=True)
"""


@pytest.fixture(scope="module")
def lab():
    home = Path(f"/tmp/pp{os.getpid()}")
    lab = Lab(home)
    try:
        yield lab.up(3, "--time-factor", "20")
    finally:
        lab.down()
        left = left_behind(home)
        shutil.rmtree(home, ignore_errors=True)
        assert not left


def run_python(lab: Lab, host: str, code: str) -> str:
    return lab.lab("exec", host, "--", sys.executable, "-c", code).stdout.strip()


@pytest.fixture(scope="module")
def old_session(lab):
    return run_python(lab, "collector", LOGIN % H1)


def test_up_says_what_to_try_and_leaves_the_shell_free(lab):
    again = lab.lab("up", "--dir", str(lab.home), check=False)
    assert again.returncode == 1
    assert f"in use by a lab: poolwarden lab down --dir {lab.home}" in again.stderr


def test_a_command_runs_in_the_hosts_network_and_tree(lab):
    assert lab.lab("exec", "h2", "--", "cat", "etc/xensource/pool.conf").stdout == f"slave:{H1}"
    assert H2 in lab.lab("exec", "lab-h2", "--", "ip", "-4", "addr", "show", "dev", "xenbr0").stdout
    assert lab.lab("exec", "h1", "--", "sh", "-c", "exit 5", check=False).returncode == 5
    assert (
        lab.lab("exec", "h1", "--", "sh", "-c", "$ROOT/usr/bin/systemctl is-active xapi.service").stdout == "active\n"
    )
    assert "there are: lab-h1, lab-h2, lab-h3" in lab.lab("exec", "h7", "--", "true", check=False).stderr


def test_the_pool_can_be_read_and_faults_are_listed(lab):
    status = lab.lab("status").stdout
    assert status.count("alive") == 3
    assert "lab policy: " in status
    wrong = lab.lab("fault", "h1", "earthquake", check=False)
    assert wrong.returncode == 1
    assert "there are: power, power-on" in wrong.stderr


def test_a_stock_client_before(lab, old_session):
    views = lab.view(H1, H2, H3)
    assert [view["answer"] for view in views] == ["master", "HOST_IS_SLAVE", "HOST_IS_SLAVE"]
    assert {view["master"] for view in views} == {H1}
    assert json.loads(run_python(lab, "collector", USE % (H1, old_session)))["Status"] == "Success"


def test_an_agent_that_is_killed_comes_back_and_nothing_else_happens(lab):
    before = lab.ask(op="status")["status"]["hosts"][1]
    lab.lab("fault", "h2", "agent-kill")
    lab.wait(
        lambda: lab.ask(op="status")["status"]["hosts"][1]["agent"]["starts"] > before["agent"]["starts"], "restart"
    )
    lab.wait(
        lambda: lab.pool().verdict == "Healthy" and all(h.agent_connected for h in lab.pool().hosts), "Healthy", 30
    )
    assert lab.ask(op="status")["status"]["hosts"][1]["xapi"] == before["xapi"]
    assert not [entry for entry in lab.history() if entry.kind == "decided"]


def test_the_pool_would_survive_losing_its_master(lab):
    lab.wait(lambda: lab.cli("readiness", "lab").returncode == 0, "a pool that is ready", 30)
    assert "HEALS BY ITSELF" in lab.cli("plan", "lab").stdout
    # Its agent has just started again, and is attached once it has reached the master itself.
    lab.wait(lambda: "enabled already" in lab.cli("host", "enable", "lab-h2").stderr, "refused: it is enabled", 30)


def test_a_full_disk_is_seen_in_status_and_heals(lab):
    def used() -> float:
        host = next(h for h in lab.pool().hosts if h.name == "lab-h2")
        return next(disk.used_percent for disk in host.disks if disk.mount == "/")

    assert used() < 50
    lab.lab("fault", "h2", "disk-full")
    lab.wait(lambda: used() > 99, "a full disk", 15)
    assert next(h for h in lab.pool().hosts if h.name == "lab-h2").agent_connected
    lab.wait(lambda: "/ of lab-h2 is 100 % full" in lab.cli("alerts").stdout, "the alert", 15)
    lab.wait(lambda: "filler" in lab.cli("disks", "lab").stdout, "what fills it", 15)
    assert lab.cli("disks", "--check").returncode == 1
    assert lab.cli("status").stdout.startswith("lab  / of lab-h2 is 100 % full")
    assert lab.cli("status", "--check=critical").returncode == 1
    lab.lab("heal", "h2")
    lab.wait(lambda: used() < 50, "room again", 15)
    lab.wait(lambda: "lab-h2" not in lab.cli("alerts").stdout, "the alert's end", 15)


def test_an_orphans_login_hangs_while_our_agent_goes_on(lab):
    """Paused, so that nobody brings the orphan back while we look at it."""
    assert run_python(lab, "h2", UNIX_LOGIN) == "answered"
    assert lab.cli("pause", "lab", "--reason", "test").returncode == 0
    lab.lab("fault", "h1", "power")
    words = ["exec", "h2", "--", sys.executable, "-c", UNIX_LOGIN]
    environment = {**lab_environment(), "POOLWARDEN_LAB_DIR": str(lab.home)}
    orphan = subprocess.Popen([*LAB, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun = time.monotonic()
    lab.wait(lambda: next(h for h in lab.pool().hosts if h.name == "lab-h2").orphaned, "orphaned", 20)
    while time.monotonic() < begun + 8:
        host = next(h for h in lab.pool().hosts if h.name == "lab-h2")
        assert host.agent_connected
        assert host.agent_age_ms < 5_000
        assert host.emergency == "no"  # xapi's own flag stays false on an orphan
        time.sleep(1)
    assert orphan.poll() is None, orphan.communicate()
    orphan.kill()
    orphan.communicate()
    assert not [entry for entry in lab.history() if entry.kind == "decided"]


def test_a_failover_under_kills_of_the_candidates_agent_and_of_the_collector(lab):
    starts = {h["name"]: h["xapi"]["starts"] for h in lab.ask(op="status")["status"]["hosts"]}
    assert lab.cli("resume", "lab").returncode == 0
    killed_agent = killed_collector = False
    for entry in lab.follow():
        if entry.kind == "promote-intent" and not killed_agent:
            killed_agent = True
            lab.ask(op="fault", host=json.loads(entry.data)["host"], kind="agent-kill")
        if entry.kind == "promoted" and not killed_collector:
            killed_collector = True
            lab.ask(op="webhook", refuse=10_000)
            lab.ask(op="fault", host="collector", kind="kill")
        if entry.kind == "closed":
            break
    history = lab.history()
    assert len([e for e in history if e.kind == "promote-intent"]) == 1
    assert len({e.failover for e in history if e.failover}) == 1
    new = next(h for h in lab.ask(op="status")["status"]["hosts"] if h["pool_conf"] == "master" and h["alive"])
    assert new["xapi"]["starts"] == starts[new["name"]] + 1, "a redelivered promotion must not restart xapi twice"


def test_the_webhook_refuses_twice_across_a_kill_and_then_gets_the_alert_with_one_key(lab):
    def of_the_succession(status: int) -> list[dict]:
        found = [item for item in deliveries(lab) if item["payload"]["data"].get("new_master")]
        return [item for item in found if item["status"] == status]

    lab.wait(lambda: len(of_the_succession(503)) >= 2, "two refusals", 30)
    lab.ask(op="fault", host="collector", kind="kill")
    lab.ask(op="webhook", refuse=0)
    lab.wait(lambda: of_the_succession(200), "the alert", 60)
    sent = of_the_succession(503) + of_the_succession(200)
    assert len({(item["key"], item["payload"]["key"]) for item in sent}) == 1
    alert = of_the_succession(200)[0]["payload"]
    assert alert["data"]["old_master"] == "lab-h1"
    assert alert["data"]["address"] == master_of(lab)
    assert alert["data"]["proof"] == "power"


def master_of(lab: Lab) -> str:
    """The verified master's address; a collector that has just started does not know one for a moment."""
    return lab.wait(lambda: lab.pool().master_address, "a verified master", 20)


def deliveries(lab: Lab) -> list[dict]:
    return lab.ask(op="webhook")["deliveries"]


def test_a_stock_client_after(lab, old_session):
    master = master_of(lab)
    assert master in (H2, H3)
    views = {view["address"]: view for view in lab.view(H2, H3)}
    member = next(address for address in (H2, H3) if address != master)
    assert views[master]["answer"] == "master"
    assert views[master]["master"] == master
    assert views[member] == {"address": member, "answer": "HOST_IS_SLAVE", "master": master}
    answer = json.loads(run_python(lab, "collector", USE % (master, old_session)))
    assert answer["Status"] == "Failure"
    assert answer["ErrorDescription"][0] == "SESSION_INVALID"
    assert lab.cli("master", "lab").stdout.strip() == master


def test_what_happened_is_shown_in_the_pool_itself_each_message_once(lab):
    """What no master could be told while there was none; two kills of the collector have repeated some of it."""
    master = master_of(lab)

    def shown() -> list[dict]:
        return lab.view(master)[0].get("messages", [])

    wanted = {"POOLWARDEN_MASTER_LOST", "POOLWARDEN_FAILOVER_DONE"}
    messages = lab.wait(lambda: wanted <= {each["name"] for each in shown()} and shown(), "both messages", 60)
    last_lines = [each["body"].splitlines()[-1] for each in messages]
    assert len(set(last_lines)) == len(last_lines) and all(line.startswith("Poolwarden ") for line in last_lines)
    done = next(each for each in messages if each["name"] == "POOLWARDEN_FAILOVER_DONE")
    assert (done["priority"], done["cls"]) == ("3", "Pool") and master in done["body"].splitlines()[0]
    lost = next(each for each in messages if each["name"] == "POOLWARDEN_MASTER_LOST")
    assert lost["priority"] == "2" and "Died: lab-h1" in lost["body"]


def test_the_old_master_comes_home_as_a_member(lab):
    master = master_of(lab)
    lab.lab("heal", "h1")
    lab.wait(
        lambda: lab.view(H1)[0] == {"address": H1, "answer": "HOST_IS_SLAVE", "master": master}, "h1 is a member", 60
    )
    lab.wait(lambda: lab.pool().verdict == "Healthy" and not lab.pool().owed, "Healthy and nothing owed", 90)
    assert master_of(lab) == master
    assert len([entry for entry in lab.history() if entry.kind == "promoted"]) == 1
