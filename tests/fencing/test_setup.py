"""What `poolwarden fence setup` asks of the collector, at real BMC programs: what answers, and whose machine it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.shell.fencing import setup
from poolwarden_lab.processes.bmc import chassis

from .rig import SYSTEM, Peer, running

OTHER = "b7654321-98ba-4edc-8321-fedcba987654"
KINDS = [
    pytest.param("ipmi", marks=pytest.mark.needs("ipmi_sim", "fence_ipmilan", "ipmitool")),
    pytest.param("redfish", marks=pytest.mark.needs("sushy-emulator", "fence_redfish", "openssl")),
]
pytestmark = pytest.mark.asyncio


async def attempt(peer: Peer, agent: str = "", uuids: dict[int, str] | None = None, **changes: str) -> setup.Trial:
    """Try this peer's block for host 1 of a pool whose dom0s say these UUIDs."""
    g = Guarded(uuids=uuids or {1: SYSTEM})
    g.run(5_000)
    device = peer.device(power_timeout="2")
    given = {name: value for name, value in {**device.parameters, **changes}.items() if value}
    return await setup.attempt(g.pool, uuid(1), device.agent.name, given, 5_000)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_device_is_good_step_by_step(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path / "bmc") as peer:
        trial = await attempt(peer, systems_uri="")
        assert trial.good and trial.tells and peer.machine.powered, trial.steps
        assert [name for name, *_ in trial.steps] == ["agent", "parameters", "identity", "monitor", "status"]
        assert trial.steps[2][2].startswith("it switches host-1: both say UUID ")
        if kind == "redfish":
            assert trial.parameters == {"systems_uri": f"/redfish/v1/Systems/{SYSTEM}"}
        found = await (setup._redfish if kind == "redfish" else setup._ipmi)("127.0.0.1", peer.front.port)
        assert found.answers, found.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "step", "said"),
    [
        ("password", "identity", "Check user and password"),
        ("port", "identity", "Check the address, the network"),
        ("another", "identity", "this BMC is host-2's"),
        ("stranger", "identity", "this BMC is of a machine with UUID"),
        ("parameter", "parameters", "'ipmitool_path' is not tried for anybody"),
        ("type", "parameters", "expected a number of seconds"),
        ("off", "status", "it reads OFF while host-1's agent is heard"),
    ],
)
async def test_a_bad_one_ends_at_the_step_that_says_why(
    kind: str, fault: str, step: str, said: str, tmp_path: Path
) -> None:
    changes = {
        "password": {"password": "wrong-w0rd"},
        "port": {"ipport": "1"},
        "parameter": {"ipmitool_path": "/bin/sh"},
        "type": {"login_timeout": "5s"},
    }
    uuids = {"another": {1: OTHER, 2: SYSTEM}, "stranger": {1: OTHER}}
    async with running(kind, tmp_path / "bmc") as peer:
        if fault == "off":
            peer.machine.powered = False
        trial = await attempt(peer, uuids=uuids.get(fault), **changes.get(fault, {}))
        assert peer.machine.powered is (fault != "off")
    name, good, text, next_step = trial.steps[-1]
    assert not trial.good and (name, good) == (step, False)
    assert said in f"{text} {next_step}" and next_step
    assert chassis.PASSWORD not in str(trial.steps) and "wrong-w0rd" not in str(trial.steps)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("../../bin/sh", "is no file name of a fence agent"),
        ("reboot", "is no file name of a fence agent"),
        ("fence_dummy", "is not allowed: it reports success"),
        ("fence_nowhere", "is not on the collector's machine"),
    ],
)
async def test_nothing_but_a_fence_agent_is_ever_run(agent: str, said: str) -> None:
    g = Guarded()
    g.run(5_000)
    trial = await setup.attempt(g.pool, uuid(1), agent, {}, 5_000)
    assert not trial.good and said in trial.steps[-1][2]


async def test_where_nothing_answers_that_is_said_in_time() -> None:
    begun = asyncio.get_running_loop().time()
    redfish, ipmi = await setup._redfish("127.0.0.1", 1), await setup._ipmi("127.0.0.1", 1)
    assert (redfish.answers, ipmi.answers) == (False, False)
    assert "127.0.0.1" in redfish.text and asyncio.get_running_loop().time() - begun < 10


async def test_what_answers_and_is_no_redfish_is_none() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    async with server:
        found = await setup._redfish("127.0.0.1", server.sockets[0].getsockname()[1])
    assert not found.answers and found.text.startswith("no Redfish at 127.0.0.1")


@pytest.mark.needs("fence_ilo4_ssh")
@pytest.mark.parametrize(
    "value", ["u@h -o 'ProxyCommand=touch {mark}' x", "-oProxyCommand=touch${{IFS}}{mark}", "$(id)"]
)
@pytest.mark.parametrize("name", ["username", "ip", "plug"])
async def test_no_value_becomes_an_option_of_what_the_agent_calls(name: str, value: str, tmp_path: Path) -> None:
    g = Guarded()
    g.run(5_000)
    given = {"ip": "127.0.0.1", "username": "u", "password": "a b 'c'", name: value.format(mark=tmp_path / "mark")}
    trial = await setup.attempt(g.pool, uuid(1), "fence_ilo4_ssh", given, 5_000)
    assert trial.steps[-1][:3] == ("parameters", False, f"'{name}' is no plain address, name or number")
    assert not (tmp_path / "mark").exists()
