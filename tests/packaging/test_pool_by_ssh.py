"""One command a pool, over real sshds, with the real package and the real collector: added, upgraded, removed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packaging.conftest import ROOT
from tests.packaging.test_agent_installed import stand_in

pytestmark = [
    pytest.mark.needs("rpmbuild", "namespaces", "root", "python3.6", "sshd", "ssh", "openssl"),
    pytest.mark.long,
]
MASTER, MEMBER = 0, 1


@pytest.fixture(scope="module")
def life(package: Path, next_package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pool")
    finder = subprocess.run([ROOT / "packaging/develop/find-python", "3.6"], capture_output=True, text=True, check=True)
    inside = [sys.executable, Path(__file__).with_name("pool_life.py"), folder, finder.stdout.strip()]
    words = ["unshare", "-mn", "--propagation", "private", *inside, stand_in(folder), package, next_package]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_changed_before_somebody_has_said_yes(life: dict[str, Any]) -> None:
    asked = life["nobody asked"]
    assert asked["status"] == 2 and "nobody is at a terminal" in asked["err"] and "--yes" in asked["err"]
    plan = " ".join(asked["out"].split())
    assert "to be guarded by this collector" in plan and "policy of this pool at the collector: observe" in plan
    rows = [line.split()[0] for line in asked["out"].splitlines() if "install agent 0.1.0-1.xs8" in line]
    assert rows == ["h2", "h1"], "the master comes last"
    assert all(not host["files"] and "not installed" in host["package"] for host in life["untouched"])


def test_another_mode_than_the_collectors_is_refused_with_what_to_write(life: dict[str, Any]) -> None:
    said = life["other mode"]
    assert said["status"] == 1 and f"[pools.{life['pool']}.policy]" in said["err"] and 'mode = "auto"' in said["err"]


def test_the_first_failure_stops_it_and_names_what_to_do(life: dict[str, Any]) -> None:
    """The master's rpm lacks what the package needs: the member before it is done, the master untouched."""
    first = life["first"]
    assert first["status"] == 1 and "h1: " in first["err"] and "is not installed" in first["err"]
    assert "python(abi) = 3.6" in first["err"] and "what is done is skipped" in first["err"]
    assert "h2: enrolled and started; heard after" in first["out"]
    master, member = life["after first"]
    assert member["running"] and not master["files"] and master["left"] == []


def test_a_second_run_does_the_rest_alone(life: dict[str, Any]) -> None:
    second = life["second"]
    assert second["status"] == 0, second["err"]
    assert "h1: enrolled and started" in second["out"] and "h2: enrolled" not in second["out"]
    assert life["after second"][MEMBER]["pid"] == life["after first"][MEMBER]["pid"], "its agent was restarted"
    assert "nothing: it reports" in second["out"] and "NOT READY" in second["out"]
    assert life["third"]["status"] == 0 and life["third"]["out"].count("nothing: it reports") == 2


def test_each_host_has_a_key_of_its_own_and_a_certificate_of_its_pool(life: dict[str, Any]) -> None:
    for host, uuid in zip(life["after second"], life["uuids"], strict=True):
        assert host["uris"] == [f"poolwarden://pool/{life['pool']}/host/{uuid}"]
        assert host["files"] == dict.fromkeys(["ca.pem", "cert.pem", "key.pem", "order-key", "renewal"], "600")
        assert host["left"] == [], "a package was left behind"
    assert life["keys"] == 2


def test_an_upgrade_goes_member_by_member_and_the_master_last(life: dict[str, Any]) -> None:
    upgrade = life["upgrade"]
    assert upgrade["status"] == 0, upgrade["err"]
    done = [line.split(":")[0] for line in upgrade["out"].splitlines() if "; heard after" in line]
    assert done == ["lab-h2", "lab-h1"]
    for before, after in zip(life["after second"], life["after upgrade"], strict=True):
        assert after["package"] == "poolwarden-agent-0.1.0-2.xs8.x86_64" and after["running"]
        assert after["pid"] != before["pid"] and after["files"] == before["files"]
    assert life["again"]["status"] == 0 and life["again"]["out"].count("nothing: it has") == 2


def test_removing_leaves_no_agent_no_key_and_a_paused_pool(life: dict[str, Any]) -> None:
    assert life["remove"]["status"] == 0, life["remove"]["err"]
    for host in life["after remove"]:
        assert "not installed" in host["package"] and host["files"] == {} and not host["running"]
        assert {"latch", "state.0", "state.1"} <= set(host["state"]), "a host must not forget that it was superseded"
    (pool,) = json.loads(life["status"]["out"])["pools"]
    assert pool["paused"] and "given back" in pool["pause_reason"]
    assert "denied" in life["history"]
