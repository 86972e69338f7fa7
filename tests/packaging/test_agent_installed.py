"""Each package installed in a scratch dom0 on its Python, with its scriptlets: streaming, upgraded, erased."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packaging.conftest import EVERY_ABI, package_for, python_of

pytestmark = [pytest.mark.needs("rpmbuild", "namespaces", "root")]
# What a CentOS 7 based dom0 provides of what the package asks for (CentOS 7: glibc 2.17, libstdc++ 4.8.5, rpm 4.11). A
# newer one provides all of it and more.
STAND_IN = """
Name: dom0-stand-in
Version: 8.3
Release: 1
Summary: What dom0 provides
License: MIT
BuildArch: noarch
Provides: python(abi) = {abi}, systemd, /bin/sh, /usr/bin/python3, /usr/bin/python{abi}
Provides: /usr/bin/getent, /usr/sbin/useradd, /usr/sbin/groupadd
Provides: rtld(GNU_HASH), ld-linux-x86-64.so.2()(64bit), ld-linux-x86-64.so.2(GLIBC_2.3)(64bit)
Provides: libgcc_s.so.1()(64bit), libgcc_s.so.1(GCC_3.0)(64bit), libgcc_s.so.1(GCC_3.3)(64bit)
{symbols}
%description
x
%files
"""
GLIBC = ["2.2.5", "2.3", "2.3.2", "2.3.4", "2.4", "2.5", *(f"2.{n}" for n in range(6, 18))]
GLIBCXX = ["3.4", *(f"3.4.{n}" for n in range(1, 20))]
CXXABI = ["1.3", *(f"1.3.{n}" for n in range(1, 8))]


def stand_in(folder: Path, abi: str = "3.6") -> Path:
    lines = []
    for library in ("libc.so.6", "libm.so.6", "libpthread.so.0", "librt.so.1", "libdl.so.2"):
        lines += [f"{library}()(64bit)", *(f"{library}(GLIBC_{version})(64bit)" for version in GLIBC)]
    lines += ["libstdc++.so.6()(64bit)", *(f"libstdc++.so.6(GLIBCXX_{version})(64bit)" for version in GLIBCXX)]
    lines += [f"libstdc++.so.6(CXXABI_{version})(64bit)" for version in CXXABI]
    spec = folder / "stand-in.spec"
    spec.write_text(STAND_IN.format(abi=abi, symbols="\n".join(f"Provides: {line}" for line in lines)))
    words = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {folder}/top", "--define", f"_rpmdir {folder}"]
    subprocess.run([*words, "--define", "_build_name_fmt stand-in.rpm", spec], check=True, capture_output=True)
    return folder / "stand-in.rpm"


@pytest.fixture(scope="module", params=EVERY_ABI)
def abi(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def life(abi: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("dom0")
    here = Path(__file__).resolve().parent
    packages = [package_for(abi, tmp_path_factory)]
    packages += [request.getfixturevalue("next_package")] if abi == "3.6" else []
    inside = [sys.executable, here / "life.py", folder, stand_in(folder, abi), *packages]
    words = ["unshare", "-mn", "--propagation", "private", sys.executable, here / "scratch.py", folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*words, python_of(abi), *inside]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# The scriptlets of an upgrade are the same in each package: one is upgraded.
upgraded = pytest.mark.parametrize("abi", EVERY_ABI[:1], indirect=True, scope="module")


def test_it_is_refused_where_dom0_is_not(life: dict[str, Any], abi: str) -> None:
    assert life["without"]["status"] != 0 and f"python(abi) = {abi}" in life["without"]["said"]


def test_it_installs_with_its_scriptlets(life: dict[str, Any]) -> None:
    assert life["install"]["status"] == 0 and "poolwarden-agent enrol --collector HOST:PORT" in life["install"]["said"]
    assert life["verify"] == {"status": 0, "said": ""}
    assert life["asked_at_install"] == ["daemon-reload", "enable poolwarden-agent.service"], "never started unasked"
    assert life["user"]["said"].split(":")[0] == "poolwarden" and life["user"]["said"].strip().endswith("/sbin/nologin")


def test_room_for_durable_state_is_taken_at_installation(life: dict[str, Any]) -> None:
    assert sorted(life["slots"]) == ["evidence", "latch", "state.0", "state.1"]
    assert [life["slots"][name][1] for name in ("state.0", "state.1")] == [65536, 65536]


def test_the_package_alone_says_what_holds_on_this_host(life: dict[str, Any], abi: str) -> None:
    """As docs/first-trial.md has it typed first: before any configuration, and for somebody outside."""
    assert life["trial"]["status"] in (0, 1), life["trial"]["said"]
    assert "Traceback" not in life["trial"]["said"]
    assert re.search(r"\d+ fail, \d+ hold, \d+ not seen", life["report"])
    assert abi in life["report"], "the host's Python is among what is looked at"
    assert not re.search(r"scratch-h1|[0-9a-f]{8}-[0-9a-f]{4}-", life["report"])


def test_an_agent_without_a_collector_says_what_to_do(life: dict[str, Any]) -> None:
    assert life["unconfigured"]["status"] == 2
    assert "/etc/poolwarden/agent.conf: collector is missing" in life["unconfigured"]["said"]


def test_it_streams_to_a_collector_on_that_python(life: dict[str, Any], abi: str) -> None:
    host = life["streaming"]["host"]
    assert isinstance(host, dict), f"{host}\n{life['streaming']['log']}"
    assert {process["python"] for process in life["streaming"]["processes"]} == {f"python{abi}"}


def test_grpc_never_lives_in_the_process_that_is_root(life: dict[str, Any]) -> None:
    host_side, link_side = life["streaming"]["processes"]
    assert (host_side["uid"], host_side["grpc"]) == (0, False)
    assert link_side["uid"] != 0 and link_side["grpc"] and link_side["groups"] == []


def test_it_runs_within_its_units_limits(life: dict[str, Any]) -> None:
    """It has streamed so: with these capabilities and system calls alone, and without a core in any case."""
    host_side, link_side = life["streaming"]["processes"]
    assert [process["seccomp"] for process in (host_side, link_side)] == [2, 2]
    assert host_side["capabilities"] == sum(1 << number for number in (1, 2, 5, 6, 7, 13)), "what the unit names"
    assert link_side["capabilities"] == 0
    assert host_side["core"] == link_side["core"] == [1, 1]


def test_the_packages_own_psutil_reads_the_host_and_lives_in_no_other_process(life: dict[str, Any]) -> None:
    assert [process["psutil"] for process in life["streaming"]["processes"]] == [True, False]


def test_only_the_root_process_verifies_and_only_with_the_package_s_libsodium(life: dict[str, Any]) -> None:
    root, link = life["streaming"]["processes"]
    assert root["uid"] == 0 and root["libsodium"], "a key is pinned"
    assert link["uid"] != 0 and not link["libsodium"]
    said = life["streaming"]["log"].lower().replace("connection refused", "")  # before the collector listened
    assert "refused" not in said, "the collector's welcome was signed with it"


@upgraded
def test_fence_agents_are_denied_at_first_and_stay_in_use_over_the_upgrade_that_brings_the_policy(
    life: dict[str, Any],
) -> None:
    text, mode = life["policy"]
    assert "\nfence_proxy = no\n" in text and mode == 0o600
    assert life["policy_after"] == text.replace("\nfence_proxy = no\n", "\nfence_proxy = yes\n")


@upgraded
def test_an_upgrade_keeps_configuration_and_state(life: dict[str, Any]) -> None:
    assert life["upgrade"]["status"] == 0 and life["conf_kept"] and life["same_slots"]
    assert "try-restart poolwarden-agent.service" in life["asked_at_upgrade"]
    assert not [line for line in life["asked_at_upgrade"] if line.startswith(("stop", "disable", "enable"))]


def test_the_package_of_a_held_host_is_not_erased(life: dict[str, Any]) -> None:
    """Without the drop-in its xapi would start as a second master."""
    assert life["erase_held"]["status"] != 0 and "First: poolwarden-agent gate status" in life["erase_held"]["said"]
    assert life["asked_at_erase_held"] == []


def test_an_erased_package_leaves_only_what_an_operator_or_a_successor_needs(life: dict[str, Any], abi: str) -> None:
    assert life["erase"]["status"] == 0
    assert life["asked_at_erase"][:2] == ["disable poolwarden-agent.service", "stop poolwarden-agent.service"]
    kept = {name for name in life["left"] if not name.startswith("etc/poolwarden/tls/")}
    # State stays: a host that was superseded must not forget it by a reinstallation.
    state = {f"var/lib/poolwarden/{name}" for name in ("latch", "state.0", "state.1")}
    edited = {f"etc/poolwarden/{name}.conf.rpmsave" for name in ("agent", "policy") if abi == "3.6" or name == "agent"}
    assert kept == {*edited, *state}, "the ballast is gone"
