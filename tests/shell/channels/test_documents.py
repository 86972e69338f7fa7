"""Each configuration that docs/alert-channels.md and collector.toml show is read, and each address understood."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.project.tree import ROOT

from poolwarden_collector.shell.alerts.channels import apprise_process, make_sinks
from poolwarden_collector.shell.config.alert_kinds import READERS, Apprise
from poolwarden_collector.shell.config.config import Config, load

from ..rig import write_config

PAGE = (ROOT / "docs/alert-channels.md").read_text()
SECTIONS: dict[str, str] = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SHOWN = [head for head, text in SECTIONS.items() if "```toml" in text]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def read(folder: Path, blocks: list[str], secrets: list[str]) -> Config:
    """With /etc/poolwarden as this folder."""
    file = write_config(folder, "\n".join(blocks).replace("/etc/poolwarden/", f"{folder}/"))
    (folder / "ca.pem").write_bytes((folder / "tls/ca.pem").read_bytes())
    for secret in secrets:
        head, _, lines = secret.partition("\n")
        named = re.fullmatch(r"# /etc/poolwarden/([a-z]+\.secret), mode 0600", head)
        assert named, head
        (folder / named[1]).write_text(lines)
        (folder / named[1]).chmod(0o600)
    return load(file, {})


@pytest.mark.filterwarnings("ignore:'imghdr'")
@pytest.mark.parametrize("head", SHOWN)
def test_a_section_is_a_whole_configuration(tmp_path: Path, head: str) -> None:
    blocks, secrets = fenced(SECTIONS[head], "toml"), fenced(SECTIONS[head], "ini")
    config = read(tmp_path, blocks, secrets)
    [channel] = config.alerts.channels[1:]
    assert ("secret_file" in blocks[0]) == bool(secrets)
    if isinstance(channel.settings, Apprise):
        assert apprise_process.send({"url": channel.settings.url, "check": True}) == "taken"


def test_all_sections_together_are_one_configuration(tmp_path: Path) -> None:
    config = read(tmp_path, fenced(PAGE, "toml"), fenced(PAGE, "ini"))
    assert len(make_sinks(config.alerts, "c", lambda pool, message: None)) == len(SHOWN) + 1
    assert {name.partition(":")[0] for name in config.alerts.names} == {"log", *READERS}


def test_what_the_shipped_file_shows_is_read(tmp_path: Path) -> None:
    shipped = (ROOT / "packaging/collector/collector.toml").read_text()
    alerts = shipped[shipped.index("#[[alerts.webhook]]") :]
    blocks = re.findall(r"^#(\[\[alerts\..*|\w+ = .*)$", alerts, re.MULTILINE)
    names = {match[1] for block in blocks if (match := re.search(r"([a-z]+)\.secret", block))}
    values = {"mail": "user=a\npassword=b", "slack": "url=slack://T/B/X"}
    secrets = [f"# /etc/poolwarden/{name}.secret, mode 0600\n{values[name]}\n" for name in names]
    config = read(tmp_path, blocks, secrets)
    assert {name.partition(":")[0] for name in config.alerts.names} == {"log", *READERS}


@pytest.mark.needs("amtool")
def test_the_configuration_for_alertmanager_is_one(tmp_path: Path) -> None:
    [shown] = fenced(PAGE, "yaml")
    (tmp_path / "am.yml").write_text(shown)
    done = subprocess.run(["amtool", "check-config", tmp_path / "am.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
