"""One simulated host: the order in which it dies, how it comes back, and its systemctl."""

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from poolwarden_agent.core.findings import FAILS, HOLDS
from poolwarden_agent.dom0.assumptions import scene, static
from poolwarden_lab.processes.host import HostSettings, SimulatedHost
from poolwarden_lab.processes.network import Loopback
from poolwarden_lab.processes.places import base_environment, code_path
from poolwarden_lab.xapi.trees import VmSpec, make_pool_disks


class RecordedNetwork(Loopback):
    """Loopback that remembers what was done to links."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(1, "test")
        self.log = log

    def set_link(self, node: str, up: bool) -> None:
        self.log.append(f"link {'up' if up else 'down'}")


def a_host(tmp_path: Path, log: list[str], gated: bool = False) -> SimulatedHost:
    """Its xapi and agent are programs that only sleep: this is about the machine, not about them."""
    tree = make_pool_disks(1, "lab", [VmSpec("vm-1")], addresses=["127.0.1.1"])[0]
    settings = HostSettings(
        tmp_path / "h1", tmp_path, 100.0, "127.0.2.1:8443", "127.0.3.1", environment=dict(os.environ), gated=gated
    )
    host = SimulatedHost(1, tree, RecordedNetwork(log), settings)
    for program in (host.xapi, host.agent):
        program._command = [sys.executable, "-c", "import time; time.sleep(60)"]
        program._environment = base_environment(code_path("poolwarden_lab"))
    host.build({"ca.pem": b"c"})
    return host


def test_power_goes_cable_first_then_everything_dies_and_memory_is_gone(tmp_path):
    async def story():
        log: list[str] = []
        host = a_host(tmp_path, log)
        await host.power_on()
        pids = [host.xapi.pid, host.agent.pid]
        assert host.running_vms
        kill = host.xapi.kill

        async def recorded() -> None:
            log.append("kill")
            await kill()

        host.xapi.kill = recorded
        log.clear()
        await host.power_off()
        assert log == ["link down", "kill"]
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert host.running_vms == {}
        assert (host.powered, host.alive) == (False, False)

    asyncio.run(story())


def test_a_boot_has_a_new_boot_id_and_no_remains_of_the_last(tmp_path):
    async def story():
        host = a_host(tmp_path, [])
        boot_id = host.root / "proc/sys/kernel/random/boot_id"
        await host.power_on()
        first, pid = boot_id.read_text(), host.xapi.pid
        assert (host.root / f"proc/{pid}").is_symlink()
        (host.root / "var/run/xapi_init_complete.cookie").touch()
        await host.power_off()
        assert boot_id.read_text() == first
        await host.power_on()
        assert boot_id.read_text() != first
        assert not (host.root / f"proc/{pid}").is_symlink()
        assert not (host.root / "var/run/xapi_init_complete.cookie").exists()
        await host.power_off()

    asyncio.run(story())


def test_a_dead_dom0_keeps_its_power_and_can_boot_again(tmp_path):
    async def story():
        host = a_host(tmp_path, [])
        await host.power_on()
        await host.lose_dom0()
        assert (host.powered, host.alive, host.xapi.pid) == (True, False, 0)
        await host.power_on()
        assert host.alive
        await host.power_off()

    asyncio.run(story())


def test_systemctl_is_an_executable_that_obeys_this_hosts_supervisor(tmp_path):
    async def story():
        host = a_host(tmp_path, [])
        await host.power_on()

        async def systemctl(*words: str) -> tuple[int, str]:
            command = [str(host.root / "usr/bin/systemctl"), *words]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
            return done.returncode, (done.stdout + done.stderr).strip()

        first = host.xapi.pid
        assert await systemctl("is-active", "xapi.service") == (0, "active")
        assert await systemctl("restart", "xapi.service") == (0, "")
        assert host.xapi.pid not in (0, first)
        assert await systemctl("stop", "xapi.service") == (0, "")
        assert await systemctl("is-active", "xapi.service") == (3, "inactive")
        assert await systemctl("restart", "sshd.service") == (5, "Unit sshd.service not found.")
        await host.power_off()
        code, text = await systemctl("restart", "xapi.service")
        assert code == 1
        assert "Failed to connect to bus" in text
        assert host.xapi.pid == 0

    asyncio.run(story())


@pytest.mark.parametrize("gated", [False, True])
def test_its_dom0_is_as_the_agent_believes_one_to_be(tmp_path, gated):
    """Nothing fails there: a story of the lab is told by what happens in it."""

    async def story():
        host = a_host(tmp_path, [], gated)
        await host.power_on()
        root, port = str(host.root), host._settings.tls_port
        fresh = partial(scene.Scene, root, ("127.0.1.1", 80), port, scene.this_machine(), lambda: None, lambda: False)
        found, release = await asyncio.to_thread(static.look, fresh, lambda span: None)
        await host.power_off()
        assert {name: seen for name, seen in found.items() if seen.finding == FAILS} == {}
        wanted = {name for name in found if name.startswith(("xapi-unit", "database", "xenstored", "pool-conf"))}
        wanted |= {"gate-drop-in", "gate-no-start-limit"} if gated else set()
        assert {name for name in wanted if found[name].finding != HOLDS} == set()
        assert release == "XCP-ng 8.3.0, xapi 26.1.3"

    asyncio.run(story())
