"""What XenAPI clients of other makers do before, during and after a failover; docs/clients.md is their table.

Real lab processes, real clients: PyPI's XenAPI, async-xenapi, npm's xen-api, Debian's fence_xenapi, and ansible's
community.general. The tests share one pool and run in the order in which they stand. `during` a failover nobody is
promoted yet: the pool is paused while its master lies dead.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_rig import LAB, Lab, lab_environment, left_behind

pytestmark = [pytest.mark.long, pytest.mark.needs("namespaces", "ip", "nft")]

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("clients")
H1, H2, H3 = "10.99.0.11", "10.99.0.12", "10.99.0.13"
NODE = ("node", str(PROGRAMS / "of_xen_orchestra.mjs"), str(ROOT / ".node-clients"))
SDK = (sys.executable, str(PROGRAMS / "of_the_sdk.py"))
ASYNC = (str(ROOT / ".venv-clients/bin/python"), str(PROGRAMS / "of_asyncio.py"))
WAIT_S = 60.0


class Client:
    """A client's program in the lab's network: it prints a JSON object a line, and reads lines."""

    def __init__(self, lab: Lab, command: tuple[str, ...]) -> None:
        environment = {**lab_environment(), "POOLWARDEN_LAB_DIR": str(lab.home)}
        words = [*LAB, "exec", "collector", "--", *command]
        self._process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, found: Callable[[dict[str, Any]], bool], after: int = 0) -> dict[str, Any]:
        """The first thing said that is so, from the one numbered `after` on."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(found, self.said[after:])), WAIT_S), (self.said, self.other)
            return next(each for each in self.said[after:] if found(each))

    def wait_event(self, name: str, after: int = 0) -> dict[str, Any]:
        return self.wait(lambda each: each.get("event") == name, after)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(WAIT_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                try:
                    self.said.append(json.loads(line))
                except ValueError:
                    self.other.append(line.rstrip())
                self._changed.notify_all()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    home = Path(f"/tmp/pc{os.getpid()}")
    lab = Lab(home)
    try:
        yield lab.up(3, "--time-factor", "20")
    finally:
        lab.down()
        left = left_behind(home)
        shutil.rmtree(home, ignore_errors=True)
        assert not left


@pytest.fixture(scope="module")
def clients(lab: Lab) -> Iterator[dict[str, Client]]:
    """The ones that live through the failover, by name."""
    found: dict[str, Client] = {}
    yield found
    for client in found.values():
        client.close()


def opened(lab: Lab, command: tuple[str, ...]) -> Client:
    """A client that has said its first word, and is ended."""
    client = Client(lab, command)
    try:
        client.wait(lambda _: True)
    finally:
        client.close()
    return client


def fence(lab: Lab, address: str, action: str, plug: str = "web") -> tuple[int, str]:
    """Exit status and output of fence_xenapi, which acts on VMs."""
    words = ["fence_xenapi", "--session-url", f"http://{address}", "-l", "root", "-p", "xenroot", "-o", action]
    done = lab.lab("exec", "collector", "--", *words, *(["-n", plug] if plug else []), check=False)
    return done.returncode, done.stdout + done.stderr


def ansible(lab: Lab, address: str, module: str, **given: str) -> dict[str, Any]:
    """What a module of community.general says."""
    arguments = {"hostname": address, "username": "root", "password": "xenroot", "validate_certs": "false", **given}
    words = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", f"community.general.xenserver_{module}"]
    words += ["-e", f"ansible_python_interpreter={sys.executable}"]
    words += ["-a", " ".join(f"{name}={value}" for name, value in arguments.items())]
    home = lab.home.with_name(lab.home.name + "a")
    home.mkdir(exist_ok=True)
    settings = [f"HOME={home}", f"ANSIBLE_LOCAL_TEMP={home}", f"ANSIBLE_REMOTE_TMP={home}", "ANSIBLE_NOCOLOR=1"]
    try:
        # ansible runs on the system's own Python, which none of our packages may be mixed into.
        words = ["env", "-u", "PYTHONPATH", "LC_ALL=C.UTF-8", *settings, *words]
        done = lab.lab("exec", "collector", "--", *words, check=False)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found = re.search(r"=> (\{.*\})\s*$", done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    return dict[str, Any](json.loads(found[1]))


def master_of(lab: Lab) -> str:
    return str(lab.wait(lambda: lab.pool().master_address, "a verified master", 60))


# ------------------------------------------------------------------------------------ before


def test_before_the_sdk_reads_at_the_master_and_does_not_follow_a_member(lab: Lab, clients: dict[str, Client]) -> None:
    clients["sdk"] = Client(lab, (*SDK, f"http://{H1}"))
    clients["sdk"].wait_event("in")
    clients["sdk"].tell()
    assert clients["sdk"].wait_event("read")["vms"]
    assert opened(lab, (*SDK, f"https://{H2}")).said == [{"event": "refused", "details": ["HOST_IS_SLAVE", H1]}]


@pytest.mark.needs("python3.12", "async-xenapi")
def test_before_async_xenapi_reads_at_the_master_and_does_not_follow(lab: Lab, clients: dict[str, Client]) -> None:
    clients["async"] = Client(lab, (*ASYNC, f"https://{H1}"))
    clients["async"].wait_event("in")
    clients["async"].tell()
    assert clients["async"].wait_event("read")["hosts"] == 3
    (refused,) = opened(lab, (*ASYNC, f"https://{H2}")).said
    assert refused["event"] == "refused" and "HOST_IS_SLAVE" in refused["why"] and H1 in refused["why"]


@pytest.mark.needs("xen-api")
def test_before_xen_api_follows_a_member_to_the_master_and_runs_tasks(lab: Lab, clients: dict[str, Client]) -> None:
    node = clients["node"] = Client(lab, (*NODE, f"http://root:xenroot@{H2}"))
    assert node.wait_event("session")["at"] == H1
    vms = node.wait_event("fetched")["vms"]
    running = next(name for name, power in vms.items() if power == "Running")
    node.tell(f"reboot {running}")
    assert node.wait(lambda each: each.get("answer") == "reboot").get("error") is None
    assert fence(lab, H1, "off", running) == (0, "Success: Powered OFF\n")
    node.wait(lambda each: each == {"event": "vm", "name": running, "power": "Halted"})
    assert fence(lab, H1, "on", running) == (0, "Success: Powered ON\n")
    node.wait(lambda each: each == {"event": "vm", "name": running, "power": "Running"})


@pytest.mark.needs("fence_xenapi")
def test_before_fence_xenapi_acts_at_the_master_alone(lab: Lab) -> None:
    code, said = fence(lab, H1, "list", "")
    name = said.splitlines()[0].split(",")[1]
    assert code == 0 and fence(lab, H1, "status", name) == (0, "Status: ON\n")
    code, said = fence(lab, H2, "status", name)
    assert code == 1 and f"['HOST_IS_SLAVE', '{H1}']" in said


@pytest.mark.needs("ansible")
def test_before_ansible_reads_and_changes_at_the_master_alone(lab: Lab) -> None:
    name = fence(lab, H1, "list", "")[1].splitlines()[0].split(",")[1]
    found = ansible(lab, H1, "guest_info", name=name)["instance"]
    assert (found["name"], found["state"]) == (name, "poweredon")
    assert found["disks"] and found["networks"] and found["hardware"]["memory_mb"]
    changed = ansible(lab, H1, "guest_powerstate", name=name, state="restarted")
    assert changed["changed"] and changed["instance"]["state"] == "poweredon"
    assert f"['HOST_IS_SLAVE', '{H1}']" in ansible(lab, H2, "guest_info", name=name)["msg"]


# ------------------------------------------------------------------------------------ during


def test_during_who_was_connected_hangs_and_members_name_the_dead_master(lab: Lab, clients: dict[str, Client]) -> None:
    """Paused, so that nobody is promoted while we look."""
    assert lab.cli("pause", "lab", "--reason", "test").returncode == 0
    lab.lab("fault", "h1", "power")
    marks = {name: len(client.said) for name, client in clients.items()}
    for name in {"sdk", "async"} & clients.keys():
        clients[name].tell()
    assert opened(lab, (*SDK, f"http://{H2}")).said == [{"event": "refused", "details": ["HOST_IS_SLAVE", H1]}]
    code, said = fence(lab, H2, "status")
    assert code == 1 and f"['HOST_IS_SLAVE', '{H1}']" in said
    assert f"['HOST_IS_SLAVE', '{H1}']" in ansible(lab, H2, "guest_info", name="web")["msg"]
    if "node" in clients:
        clients["node"].wait_event("error", marks["node"])
    # The SDK has no limit of its own and waits for as long as TCP does; aiohttp's are 30 s to connect and 5 min in all.
    for name in {"sdk", "async"} & clients.keys():
        assert clients[name].said[marks[name] :] == []


# ------------------------------------------------------------------------------------ after


def test_after_a_new_login_at_the_new_master_is_all_that_is_needed(lab: Lab, clients: dict[str, Client]) -> None:
    assert lab.cli("resume", "lab").returncode == 0
    lab.wait_kind("closed", 120)
    master = master_of(lab)
    assert master in (H2, H3)
    assert opened(lab, (*SDK, f"http://{master}")).said[0]["event"] == "in"
    code, said = fence(lab, master, "list", "")
    assert code == 0
    name = said.splitlines()[0].split(",")[1]
    assert ansible(lab, master, "guest_info", name=name)["instance"]["name"] == name
    member = H3 if master == H2 else H2
    assert f"['HOST_IS_SLAVE', '{master}']" in fence(lab, member, "status", name)[1]


def test_after_the_sdk_logs_in_again_by_itself_where_its_name_leads_to_the_new_master(
    lab: Lab, clients: dict[str, Client]
) -> None:
    """Its session died with the old master. What a moved name does is played by another address and the old session."""
    old = clients["sdk"].wait_event("in")["session"]
    moved = Client(lab, (*SDK, f"http://{master_of(lab)}", old))
    try:
        moved.tell()
        assert moved.wait_event("read")["vms"]
    finally:
        moved.close()


@pytest.mark.needs("python3.12", "async-xenapi")
def test_after_async_xenapi_has_to_be_made_anew(lab: Lab) -> None:
    (first, *_) = opened(lab, (*ASYNC, f"https://{master_of(lab)}")).said
    assert first["event"] == "in"


def test_when_the_old_master_is_back_as_a_member_who_follows_follows(lab: Lab, clients: dict[str, Client]) -> None:
    master = master_of(lab)
    marks = {name: len(client.said) for name, client in clients.items()}
    lab.lab("heal", "h1")
    lab.wait(lambda: lab.view(H1)[0].get("master") == master, "h1 is a member", 90)
    if "node" in clients:
        clients["node"].wait(lambda each: each == {"event": "session", "at": master}, marks["node"])
        clients["node"].tell("enabled")
        assert "error" not in clients["node"].wait(lambda each: each.get("answer") == "enabled")
    # The others have failed by now, by their own limit or by a reset of the old connection, and stay where they are.
    for name in {"sdk", "async"} & clients.keys():
        clients[name].wait_event("failed")
        mark = len(clients[name].said)
        clients[name].tell()
        assert clients[name].wait_event("failed", mark)
    assert f"['HOST_IS_SLAVE', '{master}']" in fence(lab, H1, "status")[1]
