"""`poolwarden-collector web-user`: how users of the page are made, and what is kept of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.shell.rig import write_config

from poolwarden_collector.shell.main import main
from poolwarden_collector.shell.page import users

from .conftest import IN_EARNEST
from .rig import PAGE, PASSWORD

POOL = "5c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a10"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return write_config(tmp_path, f'[pools.{POOL}]\nname = "berlin"\n{PAGE}')


def run(config: Path, *words: str, typed: str = f"{PASSWORD}\n") -> Result:
    return CliRunner().invoke(main, ["web-user", *words, "--config", str(config)], input=typed)


def test_a_user_is_made_listed_and_removed(config: Path) -> None:
    assert run(config, "add", "anna").output == "anna: viewer in all pools\n"
    assert run(config, "add", "carl", "--role", "operator", "--pools", f"berlin, {POOL}").exit_code == 0
    assert run(config, "list").output == f"anna: viewer in all pools\ncarl: operator in {POOL}\n"
    assert run(config, "remove", "anna").exit_code == 0
    assert "anna" not in run(config, "list").output
    assert run(config, "remove", "anna").exit_code == 1


def test_what_will_not_do_is_refused_in_one_line_and_nothing_is_changed(config: Path) -> None:
    run(config, "add", "anna")
    for words, typed in (
        (("add", "anna"), PASSWORD),
        (("add", "b b"), PASSWORD),
        (("add", "poolwarden"), PASSWORD),
        (("add", "carl"), "short"),
        (("add", "carl"), ""),
        (("add", "carl", "--pools", "nowhere"), PASSWORD),
        (("add", "carl", "--pools", ""), PASSWORD),
    ):
        result = run(config, *words, typed=f"{typed}\n")
        assert result.exit_code == 1 and result.output.startswith("poolwarden-collector: "), words
        assert result.output.count("\n") == 1
    assert run(config, "list").output == "anna: viewer in all pools\n"
    assert run(config, "add", "carl", "--role", "root").exit_code == 2


def test_no_password_is_kept_or_comes_by_the_command_line(config: Path) -> None:
    run(config, "add", "anna")
    file = config.parent / "state" / users.FILE
    assert PASSWORD not in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    assert "password" not in {parameter.name for parameter in main.commands["web-user"].commands["add"].params}  # type: ignore[attr-defined]
    told = json.loads(file.read_text())["users"]["anna"]
    run(config, "add", "carl")
    assert json.loads(file.read_text())["users"]["carl"]["scrypt"] != told["scrypt"]  # the same password, another salt


def test_a_file_that_lost_a_line_gives_nobody_more(config: Path) -> None:
    run(config, "add", "carl", "--pools", POOL)
    file = config.parent / "state" / users.FILE
    told = json.loads(file.read_text())
    del told["users"]["carl"]["pools"]
    file.write_text(json.dumps(told))
    assert users.UserFile(file.parent).find("carl") is None


def test_a_hash_costs_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    assert IN_EARNEST >= 1 << 15
    monkeypatch.setattr(users, "_N", IN_EARNEST)
    began = time.process_time()
    users.hashed(PASSWORD, b"x" * 16)
    assert time.process_time() > began  # what it costs is said in docs/page.md and measured by nobody here


def test_a_name_that_nobody_has_is_hashed_as_well(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config, "add", "anna")
    counted: list[str] = []
    real = users.hashed
    monkeypatch.setattr(users, "hashed", lambda password, salt: counted.append(password) or real(password, salt))
    file = users.UserFile(config.parent / "state")
    assert file.right("nobody", PASSWORD) is None and file.right("anna", "wrong") is None
    assert file.right("anna", PASSWORD) is not None and len(counted) == 3
