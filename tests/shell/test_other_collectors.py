"""[enrolment] other_collectors and other_order_keys: what hosts that enrol are told of further collectors."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from poolwarden_collector.shell.agents.order_key import load_or_make, make_next
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.enrolment import authority_files

from .enrolling import enrolling
from .rig import HOSTS, write_config

KEYS = ("ab" * 32, "cd" * 32)


@pytest.mark.asyncio
async def test_hosts_that_enrol_are_told_of_every_collector_and_every_key(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    coming = make_next(tmp_path / "state").public.hex()
    more = f'other_collectors = ["b.example:7443", "[2001:db8::5]:7443"]\nother_order_keys = ["{KEYS[0].upper()}"]'
    async with enrolling(tmp_path, more) as site:
        _, said = await site.ask(await site.token(), HOSTS[0], ec.generate_private_key(ec.SECP256R1()))
        mine = load_or_make(tmp_path / "state").public.hex()
        assert said["order_key"] == mine and said["order_keys"] == [mine, coming, KEYS[0]]
        assert said["collectors"] == [said["collector"], "b.example:7443", "[2001:db8::5]:7443"]
        assert site.rig.config.several


@pytest.mark.asyncio
async def test_one_collector_alone_names_itself(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site:
        _, said = await site.ask(await site.token(), HOSTS[0], ec.generate_private_key(ec.SECP256R1()))
        assert (said["collectors"], said["order_keys"]) == ([said["collector"]], [said["order_key"]])
        assert not site.rig.config.several


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("other_collectors", ["b.example"]),
        ("other_collectors", ["b.example:0"]),
        ("other_collectors", ["b.example:65536"]),
        ("other_collectors", ["2001:db8::5:7443"]),
        ("other_collectors", ["[nonsense]:7443"]),
        ("other_collectors", ["b.example:7443, c.example:7443"]),
        ("other_collectors", ["b.example:7443", "b.example:7443"]),
        ("other_collectors", [f"b{number}.example:7443" for number in range(16)]),
        ("other_order_keys", ["ab" * 31]),
        ("other_order_keys", ["zz" * 32]),
        ("other_order_keys", [KEYS[0], KEYS[0].upper()]),
        ("other_order_keys", [f"{number:064x}" for number in range(15)]),
    ],
)
def test_what_an_agent_would_not_take_is_refused(tmp_path: Path, key: str, values: list[str]) -> None:
    authority_files.init(tmp_path / "authority", "test", ("127.0.0.1",))
    write_config(tmp_path)
    (tmp_path / "tls/ca.pem").write_bytes((tmp_path / "authority/ca.pem").read_bytes())
    extra = f'[enrolment]\nlisten = "127.0.0.1:0"\nauthority = "authority"\n{key} = {values}'
    with pytest.raises(ConfigError, match=key):
        load(write_config(tmp_path, extra))
