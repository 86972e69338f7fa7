"""The toolstack fence and the boot gate with real agents, and xapi.service asking them as its drop-in says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_rig import Lab

from poolwarden_lab.processes.host import DROP_IN, WRAPPER

pytestmark = pytest.mark.needs("namespaces", "ip", "nft")
ROOT = Path(__file__).resolve().parents[2]
# As newer hosts are by default: their firewall drops TCP 80 from other hosts, and 443 alone tells anything.
either = pytest.mark.parametrize("ports", [(), ("--https-only",)], ids=["both-ports", "https-only"])


def conf(lab: Lab, host: str) -> str:
    return lab.lab("exec", host, "--", "cat", "etc/xensource/pool.conf").stdout.strip()


def gate(lab: Lab, host: str) -> str:
    return lab.lab("exec", host, "--", "opt/poolwarden/bin/poolwarden-agent", "gate", "status", check=False).stdout


def succeeded(lab: Lab) -> str:
    """Wait for another master than h1; his address."""

    def found() -> str:
        pool = lab.pool()
        return pool.master_address if pool.verdict == "Healthy" and pool.master_address != "10.99.0.11" else ""

    address: str = lab.wait(found, "another master", 90)
    return address


def test_the_labs_units_are_the_packages(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(2)
    for there, packaged in ((DROP_IN, "xapi.service.d/50-poolwarden.conf"), (WRAPPER, "poolwarden-gate")):
        assert lab.lab("exec", "h1", "--", "cat", there).stdout == (ROOT / "packaging/agent" / packaged).read_text()
    lab.lab("fault", "h1", "power")
    lab.lab("fault", "h1", "power-on")
    found = lab.lab("exec", "h1", "--", "cat", "var/run/poolwarden/found").stdout
    assert '"role": "master"' in found, "poolwarden-boot.service notes what the boot found"


@pytest.mark.long
def test_a_fenced_master_that_is_powered_on_asks_and_follows_its_successor(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab().up(3, "--time-factor", "20")
    lab.lab("fault", "h1", "power")
    address = succeeded(lab)
    lab.lab("heal", "h1")
    lab.wait(lambda: any("stays shut" in entry.text for entry in lab.history()), "the gate's answer")
    lab.wait(lambda: not lab.pool().owed, "nothing is owed")
    assert conf(lab, "h1") == f"slave:{address}"
    assert "xapi:       may start" in gate(lab, "h1")
    kinds = [entry.kind for entry in lab.history()]
    assert kinds.count("promote-intent") == 1 and "two-masters" not in kinds


@pytest.mark.long
@either
def test_without_its_collector_it_hears_from_the_members_who_acts_as_master(
    new_lab: Callable[[], Lab], ports: tuple[str, ...]
) -> None:
    lab = new_lab().up(2, "--time-factor", "20", *ports)
    lab.lab("fault", "h1", "power")
    address = succeeded(lab)
    lab.lab("fault", "collector", "freeze")
    lab.lab("heal", "h1")
    lab.wait(lambda: "it acts as master" in gate(lab, "h1"), "the gate's word", 40)
    assert conf(lab, "h1") == "master" and "xapi:       waits" in gate(lab, "h1")
    lab.lab("fault", "collector", "thaw")
    lab.wait(lambda: conf(lab, "h1") == f"slave:{address}", "it follows its successor", 60)


@pytest.mark.long
@either
def test_a_hung_master_is_held_and_released_as_a_member_with_its_vms(
    new_lab: Callable[[], Lab], ports: tuple[str, ...]
) -> None:
    lab = new_lab().up(3, "--time-factor", "20", *ports)
    before = lab.lab("status").stdout
    assert "lab-h1" in before
    # Without room on / its file may be old, and nothing can be placed there: no restart, another is promoted.
    lab.lab("fault", "h1", "disk-full")
    lab.lab("fault", "h1", "xapi-hang")
    address = succeeded(lab)
    lab.wait(lambda: not lab.pool().owed, "nothing is owed")
    kinds = [entry.kind for entry in lab.history()]
    assert "toolstack-intent" in kinds and "fence-intent" not in kinds
    proof = next(entry for entry in lab.history() if entry.kind == "proof")
    assert "its closed port refused" in proof.text
    assert conf(lab, "h1") == f"slave:{address}" and "held:       no" in gate(lab, "h1")
    host = next(host for host in lab.pool().hosts if host.name == "lab-h1")
    assert host.running_vms == 2, "every VM of the held host runs on"
