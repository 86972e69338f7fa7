"""A hook of a real collector through a real failover, and a collector that is killed between promotion and hook."""

import json
from pathlib import Path

import jsonschema
import pytest
from lab_rig import Lab
from test_collector_kills import kill

pytestmark = pytest.mark.needs("namespaces", "ip", "root")

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs/hook.schema.json").read_text())


def heard(file: Path) -> list[dict]:
    """What the hook has read, one object a line; a line that is being written does not count."""
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def with_hooks(lab: Lab, folder: Path) -> None:
    """The lab's collector started anew with this directory."""
    file = lab.home / "collector.toml"
    file.write_text(f'{file.read_text()}\n[hooks]\ndirectory = "{folder}"\n')
    kill(lab)
    lab.wait(lambda: lab.pool().master_address, "a verified master")


def test_a_hook_is_told_of_a_failover_over_a_kill_between_promotion_and_hook(new_lab, tmp_path):
    folder, file = tmp_path / "hooks.d", tmp_path / "heard"
    folder.mkdir(mode=0o755)
    hook = folder / "50-tell"
    hook.write_text(f'#!/bin/sh\ntold="$(cat)"\n[ -e {tmp_path}/ready ] || exit 1\necho "$told" >>{file}\n')
    hook.chmod(0o755)
    lab = new_lab().up(3, "--time-factor", "20")
    with_hooks(lab, folder)
    lab.lab("fault", "h1", "power")
    lab.wait_kind("promoted")
    kill(lab)
    (tmp_path / "ready").touch()
    lab.wait_kind("closed")
    lab.wait(lambda: [each["event"] for each in heard(file)] == ["promoted", "closed"], f"both told: {file}")
    for each in heard(file):
        jsonschema.validate(each, SCHEMA)
        assert each["master"]["address"] == lab.pool().master_address
        assert each["old_master"]["name"] == "lab-h1" and each["failover"]["proof"] == "power"
    assert len([entry for entry in lab.history() if entry.kind == "hook-ran" and " ran for " in entry.text]) == 2
