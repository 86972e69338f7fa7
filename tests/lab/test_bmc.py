"""The fence agent's contract, run as the collector runs it, against the lab's BMCs and their faults."""

import asyncio
import socket
import sys
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import poolwarden_lab
from poolwarden_lab.processes.bmc.board import Bmc, BmcFault

AGENT = str(Path(poolwarden_lab.__file__).with_name("processes") / "fence_lab.py")
Fence = Callable[..., Awaitable[tuple[int, str, str]]]


class FakeMachine:
    powered = True

    async def power_off(self) -> None:
        self.powered = False

    async def power_on(self) -> None:
        self.powered = True


def play(story: Callable[[FakeMachine, Bmc, Fence], Awaitable[None]]) -> None:
    """Run a story against one BMC on a free port; every agent run gets what the collector would give it."""

    async def run() -> None:
        machine = FakeMachine()
        bmc = Bmc(machine, "fencer", "s3cret")
        listener = socket.create_server(("127.0.0.1", 0))
        await bmc.start(listener)
        given = {"ip": "127.0.0.1", "ipport": listener.getsockname()[1], "username": "fencer", "password": "s3cret"}

        async def fence(action: str, **more: object) -> tuple[int, str, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", AGENT, stdin=-1, stdout=-1, stderr=-1
            )
            lines = {**given, "login_timeout": 1, **more, "action": action}
            text = "".join(f"{name}={value}\n" for name, value in lines.items()).encode()
            out, err = await process.communicate(text)
            return process.returncode or 0, out.decode().strip(), err.decode().strip()

        try:
            await story(machine, bmc, fence)
        finally:
            await bmc.stop()

    asyncio.run(run())


def test_power_is_read_and_switched():
    async def story(machine, bmc, fence):
        assert await fence("status") == (0, "Status: ON", "")
        assert await fence("off") == (0, "Success: Powered OFF", "")
        assert machine.powered is False
        assert await fence("status") == (2, "Status: OFF", "")
        assert await fence("monitor") == (0, "Status: OFF", "")  # only `status` says 2
        assert await fence("off") == (0, "Success: Already OFF", "")
        assert await fence("on") == (0, "Success: Powered ON", "")
        assert machine.powered is True

    play(story)


def test_a_lying_bmc_is_believed_by_the_agent_and_only_by_it():
    async def story(machine, bmc, fence):
        bmc.faults.add(BmcFault.LIES_OFF)
        assert (await fence("status"))[0] == 2
        assert machine.powered is True
        bmc.faults = {BmcFault.LIES_ON}
        machine.powered = False
        assert (await fence("status"))[0] == 0

    play(story)


def test_a_stuck_bmc_acknowledges_and_the_agent_does_not_take_its_word():
    async def story(machine, bmc, fence):
        bmc.faults.add(BmcFault.STUCK)
        code, _, text = await fence("off", power_timeout=1)
        assert (code, text) == (1, "Failed: Timed out waiting to power OFF")
        assert ("power off", "ok") in bmc.log

    play(story)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"password": "wrong"}, "login denied"),
        ({"ipport": 1}, "Unable to connect"),
        ({"ip": ""}, "You have to set ip"),
        ({"ipport": "x"}, "ipport must be a number"),
    ],
)
def test_every_failure_is_1_with_its_reason(more, why):
    async def story(machine, bmc, fence):
        code, _, text = await fence("status", **more)
        assert code == 1
        assert why in text

    play(story)


def test_a_mute_bmc_times_out():
    async def story(machine, bmc, fence):
        bmc.faults.add(BmcFault.MUTE)
        assert await fence("status") == (1, "", "Connection timed out")

    play(story)


def test_an_unknown_action_fails_and_an_unknown_name_is_ignored():
    async def story(machine, bmc, fence):
        assert (await fence("frobnicate"))[0] == 1
        code, _, text = await fence("status", colour="red")
        assert code == 0
        assert "unknown option 'colour'" in text

    play(story)


def test_metadata_names_every_parameter_and_action():
    async def story(machine, bmc, fence):
        code, text, _ = await fence("metadata")
        root = ET.fromstring(text)
        assert code == 0
        assert {p.get("name") for p in root.iter("parameter")} >= {"ip", "ipport", "username", "password"}
        assert {a.get("name") for a in root.iter("action")} >= {"on", "off", "status", "monitor", "metadata"}

    play(story)
