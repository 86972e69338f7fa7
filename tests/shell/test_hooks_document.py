"""docs/hooks.md: its blocks load, its example is one, its hook runs, its server serves, its commands work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.project.tree import ROOT

from poolwarden_collector.shell.config.config import load
from poolwarden_collector.shell.hooks import dns_name, queue_order, trust
from poolwarden_collector.shell.hooks.hooks import TOLD_AT

from .knot import SECRET, Knot, free_port, serving
from .rig import write_config
from .test_hook_events import CHECKER, SCHEMA
from .test_main import ENVIRONMENT

TEXT = (ROOT / "docs/hooks.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), re.MULTILINE)


def block(language: str, number: int = 0) -> str:
    return [text for kind, text in BLOCKS if kind == language][number]


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    """A server by the document's own words: its key, its rights, its zone."""
    told = block("yaml").replace("THE-SECRET", SECRET)
    zone = "$ORIGIN example.com.\n$TTL 300\n@ SOA ns hostmaster 1 3600 900 604800 60\n@ NS ns\nns A 127.0.0.1\n"
    with serving(tmp_path / "knot", "example.com", told, zone) as knot:
        yield knot


def test_the_collectors_block_loads(tmp_path: Path) -> None:
    settings = load(write_config(tmp_path, block("toml"))).hooks
    assert (str(settings.directory), settings.limit_ms) == ("/etc/poolwarden/hooks.d", 30_000)
    shipped = (ROOT / "packaging/collector/collector.toml").read_text()
    commented = re.search(r"^#\[hooks\]\n(#\w.*\n)+", shipped, re.MULTILINE)
    assert commented is not None
    assert load(write_config(tmp_path, re.sub("^#", "", commented[0], flags=re.MULTILINE))).hooks == settings


def test_the_example_is_one_and_every_event_is_described() -> None:
    CHECKER.validate(json.loads(block("json")))
    told = re.findall(r"^\| `([a-z-]+)` \| .*\|.*\|$", TEXT, re.MULTILINE)
    assert told[:5] == SCHEMA["properties"]["event"]["enum"]
    described = set(re.findall(r"`(\w+)`", TEXT))
    assert set(SCHEMA["properties"]) - described - {"version", "collector", "pool", "text"} == set()


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"{queue_order.ATTEMPTS} times (about a day)" in TEXT
    assert queue_order.ATTEMPTS_BEHIND == 5 and "tried five times in all" in TEXT
    assert TOLD_AT == 3 and "fails three times" in TEXT
    assert queue_order.LAST_RETRY_MS == 300_000 and "every 5 minutes" in TEXT


@pytest.mark.slow
def test_the_hook_in_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "50-tell"
    path.write_text(block("sh"))
    path.chmod(0o755)
    for event, said in (("promoted", "told 192.0.2.13\n"), ("two-masters", "")):
        given = json.dumps({**json.loads(block("json")), "event": event})
        done = subprocess.run([path], input=given, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.slow
@pytest.mark.needs("root", "knotd", "openssl")
def test_its_commands_from_the_first_to_the_last(tmp_path: Path, knot: Knot, monkeypatch: pytest.MonkeyPatch) -> None:
    etc, programs = tmp_path / "etc", tmp_path / "bin"
    for folder in (etc, programs):
        folder.mkdir()
    (tmp_path / "50-tell").write_text(block("sh"))
    (tmp_path / "event.json").write_text(block("json"))
    file = tmp_path / "hook-dns.toml"
    told = tomllib.loads(block("toml", 1))["key"]["secret"]
    server = block("toml", 1).replace('"192.0.2.53"', '"127.0.0.1"').replace("port = 53", f"port = {knot.port}")
    file.write_text(server.replace(told, SECRET))
    ours = {
        "poolwarden": "echo 192.0.2.12",  # poolwarden master lab; what else is typed is typed in tests/cli
        "poolwarden-collector": f"exec {sys.executable} -m poolwarden_collector.shell.main \"$@\"",
        "poolwarden-hook-dns": f'exec {sys.executable} -m poolwarden_collector.shell.hooks.dns_name '
        f'--config {etc}/hook-dns.toml "$@"',
        "sudo": 'while [ "$1" = -u ]; do shift 2; done; exec "$@"',
        "systemctl": "exit 0",
    }  # fmt: skip
    for name, script in ours.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    config = write_config(tmp_path, block("toml").replace("/etc/poolwarden", str(etc)))
    environment = {**ENVIRONMENT, "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"}
    said = {}
    for line in COMMANDS:
        real = line.replace("/etc/poolwarden/collector.toml", str(config)).replace("/etc/poolwarden", str(etc))
        real = real.replace("/opt/poolwarden-collector/bin", str(programs)).replace("-o poolwarden -g poolwarden", "")
        done = subprocess.run(
            ["sh", "-c", real], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        said[line] = done.stdout
    assert len(said) == 14
    assert said["sudo -u poolwarden poolwarden-hook-dns check"].endswith("knows the key poolwarden\n")
    assert knot.addresses("lab-master.example.com") == {"192.0.2.12": 60}
    by_hand = next(line for line in COMMANDS if "event.json" in line)
    assert said[by_hand] == "told 192.0.2.13\n"
    assert {hook.name: hook.refusal for hook in trust.look(etc / "hooks.d").hooks} == {"50-tell": "", "50-dns": ""}
    assert (etc / "hook-dns.toml").stat().st_mode & 0o777 == 0o600


def test_the_dns_block_loads_and_its_free_port_is_one(tmp_path: Path) -> None:
    file = tmp_path / "hook-dns.toml"
    file.write_text(block("toml", 1))
    file.chmod(0o600)
    assert dns_name.load(file).names == {"lab": "lab-master.example.com"}
    assert free_port() > 0
