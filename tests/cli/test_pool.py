"""What ``poolwarden pool`` asks, refuses and never says, with an ``ssh`` that answers as the hosts of a pool would.

The whole, over real sshds with the real package and collector, is tests/packaging/test_pool_by_ssh.py.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poolwarden.v1 import enrolment_pb2 as enrolment
from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.pools import member, packages, survey

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector

Call = Callable[..., Said]
pytestmark = pytest.mark.slow
RPM = b"the package's bytes"
NAME, NEXT = "poolwarden-agent-0.1.0-1.xs8.x86_64", "poolwarden-agent-0.2.0-1.xs8.x86_64"
ADDRESSES = [f"10.0.0.{number}" for number in (1, 2, 3)]
# Notes its words; answers the two scripts from files, and everything else by the status in one.
SSH = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$*" >> "$here/words"
[ -f "$here/deaf" ] && { cat "$here/deaf" >&2; exit 255; }
case " $* " in *" -O exit "*) exit 0 ;; esac
for command; do before=$at; at=$command; done
input=$(cat)
host=${before#*@}
case "$command:$input" in
  "sh -s"*"xe host-list"*) cat "$here/pool" ;;
  "sh -s"*) cat "$here/$host" ;;
  *" enrol "*) printf '%s' "$input" >> "$here/tokens"
    [ -f "$here/enrol-$host" ] && { cat "$here/enrol-$host" >&2; exit 4; }
    : > "$here/enrolled-$host" ;;
  "sh -c"*"rpm -U"*|"sh -c"*"rpm -e"*) [ -f "$here/rpm-$host" ] && { cat "$here/rpm-$host" >&2; exit 1; }
    : > "$here/changed-$host" ;;
esac
exit 0
"""


class World:
    """A pool of three hosts behind a fake ssh, and what the collector serves."""

    def __init__(self, folder: Path, fake: FakeCollector) -> None:
        self.folder, self.fake = folder, fake
        (folder / "ssh").write_text(SSH)
        (folder / "ssh").chmod(0o755)
        blocks = [f"uuid ( RO)          : {POOL}\n name-label ( RW): demo\n master ( RO): {HOSTS[0]}\n"]
        for number, (uuid, address) in enumerate(zip(HOSTS, ADDRESSES, strict=True), 1):
            blocks.append(f"uuid ( RO)     : {uuid}\n  name-label ( RW): host-{number}\n  address ( RO): {address}\n")
            self.host(number)
        (folder / "pool").write_text("\n\n".join(blocks) + f"\nown '{HOSTS[0]}'\n")
        self.served = [self.package(NAME)]
        for host in fake.status.pools[0].hosts:
            host.agent_connected = False

    def host(self, number: int, **changes: str) -> None:
        """What this host says of itself."""
        said = {
            "uuid": HOSTS[number - 1], "brand": "XCP-ng", "version": "8.3.0", "machine": "x86_64", "user": "0",
            "python": "3.6", "openssl": "/usr/bin/openssl", "room": "9000000", "reaches": "yes", "agent": "inactive",
        }  # fmt: skip
        text = "".join(f"{name}\t{value}\n" for name, value in {**said, **changes}.items())
        (self.folder / ADDRESSES[number - 1]).write_text(text)

    def package(self, name: str, abi: str = "3.6") -> dict[str, Any]:
        digest = hashlib.sha256(RPM).hexdigest()
        return {"name": f"{name}.rpm", "abi": abi, "version": name.split("-")[2], "sha256": digest, "size": len(RPM)}

    def of(self, kind: str) -> list[str]:
        """Addresses of the hosts that were changed so."""
        return [address for address in ADDRESSES if (self.folder / f"{kind}-{address}").exists()]

    def words(self) -> str:
        path = self.folder / "words"
        return path.read_text() if path.exists() else ""


class Door:
    """The enrolment address, without TLS."""

    def __init__(self, world: World) -> None:
        self.address, self.world, self.bytes = "192.0.2.5:7445", world, RPM

    def json(self, method: str, path: str) -> tuple[int, Any]:
        assert (method, path) == ("GET", "/v1/agents")
        return 200, self.world.served

    def ask(self, method: str, path: str, most: int) -> tuple[int, bytes]:
        assert path.startswith("/v1/agents/poolwarden-agent-") and most >= len(RPM)
        return 200, self.bytes


@pytest.fixture
def world(fake: FakeCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    folder = tmp_path / "bin"
    folder.mkdir()
    made = World(folder, fake)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(member, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(member, "HEARD_WITHIN_S", 0.3)
    monkeypatch.setattr(packages, "door", lambda address, fingerprint: Door(made))
    return made


@pytest.fixture
def heard(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The collector hears each host once it has enrolled, or has its new package."""
    real = member.hosts_of

    def hosts_of(collector: Any, pool: str) -> dict[str, api.HostStatus]:
        found = real(collector, pool)
        for number, uuid in enumerate(HOSTS, 1):
            if (world.folder / f"enrolled-10.0.0.{number}").exists():
                found[uuid].agent_connected = True
        return found

    monkeypatch.setattr(member, "hosts_of", hosts_of)
    return world


def test_each_host_has_a_token_of_its_own_which_stands_in_no_list_of_processes(heard: World, poolwarden: Call) -> None:
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes", "--", "-i", "KEY")
    assert said.status == 0, said.err
    asked = [each for each in heard.fake.asked if isinstance(each, enrolment.CreateTokenRequest)]
    assert [(each.host_uuid, each.uses, each.pool) for each in asked] == [(h, 1, POOL) for h in (*HOSTS[1:], HOSTS[0])]
    assert heard.fake.token.token not in heard.words() + said.out + said.err
    assert (heard.folder / "tokens").read_text() == heard.fake.token.token * 3
    assert "-i KEY" in heard.words() and "BatchMode=yes" in heard.words() and "--token -" in heard.words()
    assert f"--ca-fingerprint {'ab' * 32}" in heard.words() and heard.of("changed") == ADDRESSES


def test_a_second_key_ends_the_run_with_what_to_do(heard: World, poolwarden: Call) -> None:
    (heard.folder / "enrol-10.0.0.2").write_text("this host is known by another key")
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert said.status == 1 and "host-2 waits for you: this host is known by another key" in said.err
    assert "then run the same command again" in said.err and heard.of("changed") == ["10.0.0.2"]


def test_a_host_that_does_not_report_ends_the_run(world: World, poolwarden: Call) -> None:
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert said.status == 4 and "host-2 does not report within" in said.err and world.of("enrolled") == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"uuid": POOL}, "10.0.0.3 is another host"),
        ({"user": "1000"}, "the login is not root's"),
        ({"brand": "Debian"}, "Debian 8.3.0 is not one of XCP-ng"),
        ({"machine": "aarch64"}, "its machine is aarch64"),
        ({"python": ""}, "it has no python3"),
        ({"openssl": ""}, "it has no openssl"),
        ({"room": "5000"}, "/ has 4 MiB free, 100 are wanted"),
        ({"reaches": ""}, "192.0.2.5:7445 cannot be reached from there"),
        ({"python": "3.13"}, "the collector serves no agent for Python 3.13"),
        ({"python": "3.12", "version": "9.0.0"}, 'make rpm ARGS="--abi 3.12"'),
    ],
)
def test_a_host_that_is_not_fit_is_named_before_anything_is_changed(
    heard: World, poolwarden: Call, changes: dict[str, str], why: str
) -> None:
    heard.host(3, **changes)
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert said.status == 1 and why in said.err and heard.of("changed") == [] and heard.of("enrolled") == []


def test_in_a_pool_that_is_being_upgraded_each_host_gets_the_package_of_its_own_python(
    heard: World, poolwarden: Call
) -> None:
    newer = ["poolwarden-agent-0.1.0-1.el10.x86_64", "poolwarden-agent-0.3.0-1.xs9.x86_64"]
    heard.served += [heard.package(newer[0], "3.12"), heard.package(newer[1], "3.11")]
    heard.host(1, python="3.12", version="9.0.0", firewall="active")
    heard.host(3, python="3.11", brand="XenServer", version="9.0.0", firewall="active")
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert said.status == 0, said.err
    rows = {line.split()[0]: line for line in said.out.splitlines() if "install agent" in line}
    assert "0.1.0-1.el10" in rows["host-1"] and "0.1.0-1.xs8" in rows["host-2"] and "0.3.0-1.xs9" in rows["host-3"]
    assert "firewalld (host-3, host-1) is left as it is" in " ".join(said.out.split())


def test_an_upgrade_stays_with_each_hosts_python(heard: World, poolwarden: Call) -> None:
    with_agents(heard)
    heard.host(3, python="3.12", package="poolwarden-agent-0.2.0-1.el10.x86_64", agent="active", enrolled="yes")
    heard.served = [heard.package(NAME), heard.package("poolwarden-agent-0.2.0-1.el10.x86_64", "3.12")]
    said = poolwarden("pool", "upgrade", "demo", "--yes")
    assert said.status == 0, said.err
    assert said.out.count("nothing: it has 0.1.0-1.xs8") == 2 and "nothing: it has 0.2.0-1.el10" in said.out


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ssh: connect to host 10.0.0.1 port 22: Connection refused", True),
        ("ssh: connect to host 10.0.0.1 port 22: Connection timed out", True),
        ("root@10.0.0.1: Permission denied (publickey).", False),
    ],
)
def test_where_nobody_listens_it_is_said_that_a_newer_xapi_stops_its_sshd(
    world: World, poolwarden: Call, said: str, hint: bool
) -> None:
    (world.folder / "deaf").write_text(said)
    found = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert found.status == 3 and "ssh does not get in" in found.err and "try it by hand" in found.err
    assert ("xe pool-enable-ssh" in found.err) is hint


def test_a_package_that_did_not_come_whole_is_not_installed(
    heard: World, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(heard)
    door.bytes = RPM[:-1] + b"X"
    monkeypatch.setattr(packages, "door", lambda *_: door)
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert said.status == 4 and "did not come whole" in said.err and heard.of("changed") == []


@pytest.mark.parametrize("target", ["-oProxyCommand=x", "root@-x", "a b", "root@h;reboot", ""])
def test_what_ssh_would_take_for_an_option_is_no_host(world: World, poolwarden: Call, target: str) -> None:
    said = poolwarden("pool", "add", "--yes", "--", target)
    assert said.status == 2 and "is no host to log in to" in said.err and world.words() == ""


def test_what_xe_says_never_becomes_a_command(world: World, poolwarden: Call) -> None:
    text = (world.folder / "pool").read_text()
    (world.folder / "pool").write_text(text.replace("10.0.0.2", "$(reboot)"))
    said = poolwarden("pool", "add", "root@10.0.0.1", "--yes")
    assert said.status == 4 and "without an address" in said.err and "reboot" not in world.words()


def with_agents(world: World, installed: str = NAME) -> None:
    for number in (1, 2, 3):
        world.host(number, package=installed, agent="active", enrolled="yes")
        world.fake.status.pools[0].hosts[number - 1].agent_connected = True


def test_who_reports_is_left_alone_and_nobody_is_asked(world: World, poolwarden: Call) -> None:
    with_agents(world)
    said = poolwarden("pool", "add", "root@10.0.0.1")
    assert said.status == 0 and said.out.count("nothing: it reports") == 3 and world.of("changed") == []


def test_an_upgrade_takes_the_newest_and_waits_for_each(world: World, poolwarden: Call) -> None:
    with_agents(world)
    world.served = [world.package(NEXT), world.package(NAME), world.package(NEXT.replace("0.2.0", "0.10.0"))]
    said = poolwarden("pool", "upgrade", "demo", "--yes")
    assert said.status == 4 and "agent 0.1.0-1.xs8 to 0.10.0-1.xs8" in " ".join(said.out.split())
    assert "host-2 does not report" in said.err and world.of("changed") == ["10.0.0.2"], (
        "it is in the old version still"
    )


def test_no_agent_is_restarted_in_a_pool_that_is_not_well(world: World, poolwarden: Call) -> None:
    with_agents(world)
    world.served = [world.package(NEXT)]
    pool = world.fake.status.pools[0]
    pool.verdict = "MemberOrphaned"
    said = poolwarden("pool", "upgrade", "demo", "--yes")
    assert said.status == 1 and "demo is MemberOrphaned" in said.err and world.words() == ""
    pool.failover.SetInParent()
    said = poolwarden("pool", "upgrade", "demo", "--yes", "--despite-verdict")
    assert said.status == 1 and "a failover of demo is open" in said.err and world.words() == ""
    said = poolwarden("pool", "remove", "demo", "--yes")
    assert said.status == 1 and "a failover of demo is open" in said.err and world.words() == ""


@pytest.mark.parametrize("command", ["upgrade", "remove"])
def test_a_held_host_keeps_its_agent(world: World, poolwarden: Call, command: str) -> None:
    with_agents(world)
    world.served = [world.package(NEXT)]
    world.host(3, package=NAME, agent="active", latch="tombstone master")
    said = poolwarden("pool", command, "demo", "--yes")
    assert said.status == 1 and "host-3" in said.err and "nothing was changed" in said.err and world.of("changed") == []


def test_a_removed_pool_is_paused_first_and_its_certificates_denied(world: World, poolwarden: Call) -> None:
    with_agents(world)
    said = poolwarden("--json", "pool", "remove", "demo", "--yes", "--reason", "sold")
    assert said.status == 0 and json.loads(said.out)["pools"][0]["name"] == "demo"
    acts = [each for each in world.fake.asked if not isinstance(each, api.StatusRequest)]
    assert acts[0].pause.pool == POOL and "sold" in acts[0].pause.reason
    assert [each.serial for each in acts[1:]] == [*HOSTS[1:], HOSTS[0]] and world.of("changed") == ADDRESSES


@pytest.mark.parametrize("command", ["upgrade", "remove"])
def test_a_host_that_the_master_merely_lists_is_left_alone(world: World, poolwarden: Call, command: str) -> None:
    with_agents(world, NEXT)
    world.served = [world.package(NEXT)]
    world.fake.status.pools[0].hosts[2].boot_id = ""  # it may be another customer's
    said = poolwarden("pool", command, "demo", "--yes")
    assert said.status == 0 and "no agent of theirs was ever heard in this pool: host-3" in " ".join(said.out.split())
    assert "10.0.0.3" not in world.words() and "10.0.0.3" not in world.of("changed")
    assert HOSTS[2] not in [getattr(each, "serial", "") for each in world.fake.asked]


@pytest.mark.parametrize("command", [("add", "root@10.0.0.1"), ("upgrade", "demo"), ("remove", "demo")])
def test_a_host_that_is_of_another_pool_by_its_own_xapi_is_not_touched(
    world: World, poolwarden: Call, command: tuple[str, str]
) -> None:
    with_agents(world)
    world.host(3, package=NAME, agent="active", pool=POOL.replace("0", "9"))
    said = poolwarden("pool", *command, "--yes")
    assert said.status == 1 and "as its own xapi says" in said.err and "nothing was changed" in said.err
    assert world.of("changed") == [] and world.of("enrolled") == []


def test_a_package_that_may_not_be_erased_ends_it(world: World, poolwarden: Call) -> None:
    with_agents(world)
    (world.folder / "rpm-10.0.0.2").write_text("Poolwarden: not erased.\n")
    said = poolwarden("pool", "remove", "demo", "--yes")
    assert said.status == 1 and "host-2: the agent is not erased: Poolwarden: not erased" in said.err


def test_xe_is_read_block_by_block() -> None:
    text = "uuid ( RO)          : 1\n   name-label ( RW): a: b\n\n\nuuid ( RO) : 2\n  name-label (RW): \n"
    assert survey.blocks(text) == [{"uuid": "1", "name-label": "a: b"}, {"uuid": "2", "name-label": ""}]
