"""Shell completion: what Tab offers, by the protocol that click's scripts speak, and nothing but silence on trouble."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from poolwarden_collector.cli.main import poolwarden as group
from poolwarden_collector.cli.main import run

from .conftest import Said
from .fake_collector import FakeCollector, socket_of
from .test_errors import environment


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """What is offered for the last word."""

    def offer(*words: str) -> list[str]:
        monkeypatch.setenv("_POOLWARDEN_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["poolwarden", *words]).replace("\n", " "))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        try:
            run([])
        except SystemExit as ended:
            assert not ended.code
        out, err = capsys.readouterr()
        assert err == ""
        return [line.partition(",")[2] for line in out.splitlines() if line]

    return offer


def test_commands_and_options(fake: FakeCollector, offered: Callable[..., list[str]]) -> None:
    assert offered("res") == ["restart-xapi", "resume"]
    assert offered("fence", "t") == ["test"]
    assert "--dry-run" in offered("failover", "--d")
    assert offered("query", "--cs") == ["--csv"]
    assert fake.asked == []


def test_pools_and_hosts(fake: FakeCollector, offered: Callable[..., list[str]]) -> None:
    assert offered("pause", "de") == ["demo"]
    assert offered("designate", "host-") == ["host-1", "host-2", "host-3"]
    assert offered("host", "show", "host-2") == ["host-2"]
    assert offered("check", "pool", "de") == ["demo"]
    assert offered("check", "host", "host-3") == ["host-3"]
    assert offered("host", "show", "demo/host-3") == ["demo/host-3"]
    assert offered("failover", "demo", "--to", "host-1") == ["host-1"]
    other = fake.status.pools.add(name="other", pool_uuid="o")
    other.hosts.add(name="host-1", host_uuid="h")
    assert offered("designate", "") == ["demo/host-1", "host-2", "host-3", "other/host-1"]


def test_channels_of_alerts(fake: FakeCollector, offered: Callable[..., list[str]]) -> None:
    fake.status.channels.extend(["log", "webhook:duty", "webhook:chat"])
    assert offered("test-alerts", "--channel", "webhook:d") == ["webhook:duty"]
    fake.failure = (grpc.StatusCode.INTERNAL, "broken")
    assert offered("test-alerts", "--channel", "") == []


def test_alerts_offers_its_commands_beside_the_pools(fake: FakeCollector, offered: Callable[..., list[str]]) -> None:
    assert offered("alerts", "") == ["ack", "demo", "silence", "unsilence"]
    assert offered("alerts", "silence", "disk", "--f") == ["--for"]


def test_what_is_offered_without_a_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: Callable[..., list[str]]
) -> None:
    monkeypatch.setenv("POOLWARDEN_COLLECTOR", socket_of(tmp_path))
    assert offered("pause", "de") == []
    assert offered("pau") == ["pause"]
    assert offered("nonsense", "x") == []
    monkeypatch.setenv("POOLWARDEN_COLLECTOR", "127.0.0.1:1")
    assert offered("explain", "") == []


def test_every_pool_and_host_of_every_command_is_completed() -> None:
    lacking = [
        f"{name} {parameter.name}"
        for name, command in group.commands.items()
        for parameter in command.params
        if parameter.name in ("pool", "host", "host_name") and type(parameter.type).__name__ == "StringParamType"
    ]
    assert lacking == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "#compdef poolwarden"), ("fish", "complete ")]
)
def test_scripts(poolwarden: Callable[..., Said], shell: str, word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "poolwarden_collector.cli", "completion", shell],
        env=environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert word in done.stdout and "_POOLWARDEN_COMPLETE" in done.stdout
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=done.stdout, text=True, check=True, env=dict(os.environ))
    assert poolwarden("completion", "tcsh").status == 2
