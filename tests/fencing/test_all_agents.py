"""Every fence agent that Debian installs, held against our reader of descriptions; the docs against them."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import pytest
from tests.shell.rig import write_config

from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.config.fence_blocks import _NAME, why_banned
from poolwarden_collector.shell.fencing.agent_metadata import Described, check_devices, described
from poolwarden_collector.shell.fencing.agent_run import run_agent
from poolwarden_collector.shell.redaction import is_secret

SBIN = Path("/usr/sbin")
DOCS = Path(__file__).resolve().parents[2] / "docs/fencing.md"
KINDS = {"string", "boolean", "integer", "second", "select"}
pytestmark = [pytest.mark.asyncio, pytest.mark.needs("fence_ipmilan")]
_found: dict[str, Described | None] = {}


async def all_agents() -> dict[str, Described | None]:
    """What each says of itself, asked once."""
    if not _found:
        turns = asyncio.Semaphore(4)

        async def one(path: Path) -> None:
            async with turns:
                run = await run_agent(path, {}, "metadata", 30)
                _found[path.name] = described(run.output) if run.code == 0 else None

        await asyncio.gather(*(one(path) for path in sorted(SBIN.glob("fence_*")) if not why_banned(path.name)))
    return _found


async def test_all_of_them_are_understood() -> None:
    found = await all_agents()
    assert len(found) > 70 and not [name for name, agent in found.items() if agent is None]
    for name, agent in found.items():
        assert agent is not None and agent.name == name
        assert {each.kind for each in agent.parameters.values()} <= KINDS
        for parameter in agent.parameters.values():
            assert _NAME.fullmatch(parameter.name.lower()) and parameter.says, (name, parameter)
            assert parameter.kind != "select" or parameter.choices, (name, parameter)
            assert not parameter.deprecated or agent.newer(parameter.name), (name, parameter)


async def test_their_own_defaults_are_values_of_their_kind() -> None:
    for name, agent in (await all_agents()).items():
        assert agent is not None
        for parameter in agent.parameters.values():
            assert not parameter.default or not parameter.refusal(parameter.default), (name, parameter)


async def test_what_cuts_off_storage_is_told_from_what_switches_power() -> None:
    fabric = {"fence_brocade", "fence_cisco_mds", "fence_ifmib", "fence_mpath", "fence_sanbox2", "fence_scsi"}
    found = await all_agents()
    assert {name for name, agent in found.items() if agent and "reboot" not in agent.actions} >= fabric
    for name in ("fence_ipmilan", "fence_redfish", "fence_ilo4", "fence_ilo5", "fence_idrac", "fence_apc_snmp"):
        agent = found[name]
        assert agent is not None and {"off", "on", "status", "monitor", "reboot", "validate-all"} <= agent.actions


# ------------------------------------------------------------------------------------------ docs/fencing.md


def blocks() -> list[str]:
    """Each ``[[fence]]`` block of the docs' device blocks."""
    text = DOCS.read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", text[text.index("## Device blocks") :], re.S)
    return ["[[fence]]" + part for part in toml.split("[[fence]]")[1:]]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: tomllib.loads(block)["fence"][0]["name"])
async def test_each_block_of_the_docs_is_one_that_the_real_agent_accepts(tmp_path: Path, block: str) -> None:
    (given,) = tomllib.loads(block)["fence"]
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("snmp_priv_passwd=x\npassword=x\n" if "snmp" in given["agent"] else "password=x\n")
    block = block.replace(given["secret_file"], str(secret)).replace(
        given["host"], "5c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a10"
    )
    assert not [name for name in given["parameters"] if is_secret(name)]
    assert await check_devices(load(write_config(tmp_path, block))) == (), "no name in it is outdated"
    with pytest.raises(ConfigError, match="ip_address"):
        await check_devices(load(write_config(tmp_path, block.replace("\nip =", "\nip_address ="))))


async def test_the_docs_have_a_block_for_what_is_in_the_racks() -> None:
    names = {tomllib.loads(block)["fence"][0]["agent"].rpartition("/")[2] for block in blocks()}
    assert names >= {
        "fence_idrac",
        "fence_ilo4",
        "fence_redfish",
        "fence_ipmilan",
        "fence_apc_snmp",
        "fence_eaton_snmp",
    }
