"""Debian's fence agents against real BMC programs, through our fencer: OpenIPMI's ipmi_sim, sushy-tools' Redfish.

The board behind them is the lab's, so a fault is a fault of the machine and reaches us through the real protocol.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster.clusters import ModelCluster
from cluster.contract import names
from shell.rig import write_config
from shell.test_launcher import STOPS, stopped

from poolwarden_collector.core.model.power import Power
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.cluster.etcd import carry_out
from poolwarden_collector.shell.cluster.membership import Joined, Membership
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.fencing import agent_run
from poolwarden_collector.shell.fencing.agent_metadata import check_devices
from poolwarden_collector.shell.fencing.leave import Leave
from poolwarden_lab.processes.bmc import board, chassis
from poolwarden_lab.processes.bmc.board import BmcFault

from .rig import HOST, POOL, Ears, Peer, free_port, running
from .rig import until as awaited

IPMI = pytest.param("ipmi", marks=pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool"))
REDFISH = pytest.param("redfish", marks=pytest.mark.needs("sushy-emulator", "fence_redfish", "openssl"))
both = pytest.mark.parametrize("kind", [IPMI, REDFISH])
pytestmark = pytest.mark.asyncio


@both
async def test_off_status_and_what_they_prove(tmp_path: Path, kind: str) -> None:
    async with running(kind, tmp_path) as peer:
        ears = Ears(peer.device())
        assert (await ears.status()).reading.power is Power.ON
        ended = await ears.off()
        assert (ended.claim, ended.certain, peer.machine.powered) == (True, True, False), ended.text
        assert (await ears.status()).reading.power is Power.OFF
        again = await ears.off()
        assert again.claim and "Already OFF" in again.text
        assert (await ears.on()).claim and peer.machine.powered
        assert (await ears.status()).reading.power is Power.ON


@both
async def test_its_device_block_is_accepted_and_a_misspelt_one_is_not(tmp_path: Path, kind: str) -> None:
    async with running(kind, tmp_path / "peer") as peer:
        device = peer.device()
        secret = tmp_path / "secret"
        secret.touch(0o600)
        secret.write_text(f"password={chassis.PASSWORD}\n")
        given = {name: value for name, value in device.parameters.items() if name != "password"}
        lines = "".join(f'{name} = "{value}"\n' for name, value in given.items())
        block = f'[[fence]]\nhost = "{HOST}"\nname = "bmc"\nagent = "{device.agent}"\nsecret_file = "{secret}"\n'
        block += f"[fence.parameters]\n{lines}"
        await check_devices(load(write_config(tmp_path, block)))
        with pytest.raises(ConfigError, match="usernaem"):
            await check_devices(load(write_config(tmp_path, block.replace("username", "usernaem"))))


@both
async def test_a_wrong_password_reads_unknown_and_switches_nothing(tmp_path: Path, kind: str) -> None:
    async with running(kind, tmp_path) as peer:
        ears = Ears(peer.device(password="wr0ng-w0rd", power_timeout="2"))
        reading = (await ears.status()).reading
        assert reading.power is Power.UNKNOWN and reading.text
        ended = await ears.off()
        assert (ended.claim, ended.certain, peer.machine.powered) == (False, True, True)
        assert "wr0ng-w0rd" not in reading.text + ended.text


@both
async def test_an_unreachable_bmc_reads_unknown(tmp_path: Path, kind: str) -> None:
    async with running(kind, tmp_path) as peer:
        ears = Ears(peer.device(ipport=str(free_port(kind)), power_timeout="2"))
        assert (await ears.status()).reading.power is Power.UNKNOWN
        ended = await ears.off()
        assert (ended.claim, peer.machine.powered) == (False, True)


@both
async def test_hanging_firmware_is_cut_off_at_the_limit_and_uncertain(tmp_path: Path, kind: str) -> None:
    """fence_redfish has no timeout of its own: it would wait for ever."""
    async with running(kind, tmp_path) as peer:
        peer.freeze()
        ears, began = Ears(peer.device(limit_ms=1_000)), time.monotonic()
        reading, ended = (await ears.status()).reading, await ears.off()
        assert reading.power is Power.UNKNOWN and "no result within 1 s" in reading.text
        assert (ended.claim, ended.certain) == (False, False)
        assert time.monotonic() - began < 40


@both
async def test_a_bmc_that_accepts_and_ignores_makes_no_claim(tmp_path: Path, kind: str) -> None:
    async with running(kind, tmp_path) as peer:
        peer.board.faults.add(BmcFault.STUCK)
        ears = Ears(peer.device(power_timeout="2"))
        ended = await ears.off()
        assert (ended.claim, ended.certain) == (False, True) and "power OFF" in ended.text
        assert (await ears.status()).reading.power is Power.ON and peer.machine.powered


@both
async def test_a_lying_bmc_is_believed_by_its_agent(tmp_path: Path, kind: str) -> None:
    """Nothing on this level can tell: that is what binding, nonces and fresh probes are for."""
    async with running(kind, tmp_path) as peer:
        peer.board.faults.add(BmcFault.LIES_OFF)
        ears = Ears(peer.device())
        assert (await ears.off()).claim and (await ears.status()).reading.power is Power.OFF
        assert peer.machine.powered


@both
async def test_slow_firmware_is_slow_and_right(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "SLOW_S", 0.5)
    async with running(kind, tmp_path) as peer:
        peer.board.faults.add(BmcFault.SLOW)
        ears = Ears(peer.device())
        reading = (await ears.status()).reading
        assert reading.power is Power.ON and reading.ended_at - reading.started_at >= 500
        assert (await ears.off()).claim and (await ears.status()).reading.power is Power.OFF


@both
async def test_an_off_that_was_cut_off_lands_later(tmp_path: Path, kind: str) -> None:
    """The BMC has the command; killing the agent does not take it back."""
    async with running(kind, tmp_path) as peer:
        peer.machine.hold()
        ended = await Ears(peer.device(limit_ms=4_000)).off()
        assert peer.machine.asked.is_set(), ended.text
        assert (ended.claim, ended.certain) == (False, False) and peer.machine.powered
        peer.machine.release()
        await awaited(lambda: not peer.machine.powered)
        assert (await Ears(peer.device()).status()).reading.power is Power.OFF


async def late_by_its_launcher(
    peer: Peer, ears: Ears, monkeypatch: pytest.MonkeyPatch, over: Callable[[], int]
) -> None:
    """Its launcher stops before it compares the clock, and goes on after that instant."""
    monkeypatch.setattr(agent_run, "LAUNCHER", (*STOPS, *agent_run.LAUNCHER))
    ending = asyncio.ensure_future(ears.off())
    await awaited(stopped)
    await awaited(lambda: clock.awake_or_not_ms() >= over())
    os.kill(stopped(), signal.SIGCONT)
    ended = await ending
    assert (ended.claim, ended.certain, ended.begun) == (False, True, False), ended.text
    assert peer.machine.powered and not peer.machine.asked.is_set()


@both
async def test_a_fence_agent_whose_launcher_slept_sends_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(kind, tmp_path) as peer:
        first: list[int] = []

        def until_then() -> int:
            first.append(clock.awake_or_not_ms() + 500)
            return first[0]

        ears = Ears(peer.device(), Leave(right_until=until_then, within_ms=60_000))
        await late_by_its_launcher(peer, ears, monkeypatch, lambda: first[0])
        monkeypatch.undo()
        first.clear()
        assert (await Ears(peer.device()).off()).claim and not peer.machine.powered


@pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool")
async def test_a_collector_that_has_lost_its_lease_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a process that was begun before, nor by another one."""
    cluster, shift = ModelCluster(), 0
    member = Membership(names(), "a", "192.0.2.1:1", lambda: clock.awake_or_not_ms() - shift, cluster.lease_s)
    async with running("ipmi", tmp_path) as peer:
        shift = cluster.lease_s * 1000 * 2 // 3 - 1_000  # joined so long ago that a second of its right is left
        assert isinstance(await carry_out(cluster.client("a"), member.join()), Joined)
        shift = 0
        right = member.right(clock.awake_or_not_ms())
        assert not right.why_not
        leave = Leave(lambda _: member.right(clock.awake_or_not_ms()).why_not, lambda: right.until, 60_000)
        ears = Ears(peer.device(), leave)
        await late_by_its_launcher(peer, ears, monkeypatch, lambda: right.until)
        monkeypatch.undo()
        ended = await ears.off()
        assert (ended.certain, ended.begun) == (True, False) and "its lease of 5 s was renewed last" in ended.text
        assert peer.machine.powered and not peer.machine.asked.is_set()


COLLECTOR = """
import asyncio, json, sys, time
from pathlib import Path
from poolwarden_collector.core.model.effects import PowerOff
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.fencer import Fencer
async def main():
    device = Fence("h", Path(sys.argv[1]), "bmc", 1, 20_000, json.loads(sys.stdin.read()))
    fencer = Fencer((device,), lambda pool, event: print(event, flush=True), lambda: time.monotonic_ns() // 1_000_000)
    fencer.power_off("p", PowerOff("h", "bmc", "run"))
    await asyncio.sleep(60)
asyncio.run(main())
"""


@both
async def test_a_collector_killed_in_mid_off_finds_by_reading_what_became_of_it(tmp_path: Path, kind: str) -> None:
    """What it began goes on without it; only a reading tells."""
    async with running(kind, tmp_path) as peer:
        peer.machine.hold()
        device = peer.device()
        collector = await asyncio.create_subprocess_exec(
            sys.executable, "-c", COLLECTOR, str(device.agent), stdin=-1, stdout=-1, env=_environment()
        )
        assert collector.stdin is not None and collector.stdout is not None
        collector.stdin.write(json.dumps(device.parameters).encode())
        collector.stdin.close()
        await asyncio.wait_for(peer.machine.asked.wait(), 20)
        os.kill(collector.pid, signal.SIGKILL)
        assert await collector.wait() == -signal.SIGKILL and await collector.stdout.read() == b""
        assert peer.machine.powered
        peer.machine.release()
        await awaited(lambda: not peer.machine.powered)
        assert (await Ears(device).status()).reading.power is Power.OFF


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


@pytest.mark.needs("sushy-emulator", "fence_redfish", "openssl")
async def test_a_chassis_without_this_system_is_no_power_reading(tmp_path: Path) -> None:
    async with running("redfish", tmp_path) as peer:
        other = "/redfish/v1/Systems/00000000-0000-0000-0000-00000000dead"
        ears = Ears(peer.device(systems_uri=other))
        assert (await ears.status()).reading.power is Power.UNKNOWN
        assert not (await ears.off()).claim and peer.machine.powered


@both
async def test_the_password_is_on_no_command_line_of_ours(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "SLOW_S", 0.7)
    async with running(kind, tmp_path) as peer:
        peer.board.faults.add(BmcFault.SLOW)
        ears = Ears(peer.device())
        reading = asyncio.ensure_future(ears.status())
        seen: list[str] = []
        while not reading.done():
            seen += [line for line in _command_lines() if "fence_" in line]
            await asyncio.sleep(0.05)
        assert seen and not any(chassis.PASSWORD in line for line in seen)
        assert (await reading).reading.power is Power.ON and POOL


def _command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines
