"""Manual pages: one for each command, with each of its options; and they are what man itself can set."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from poolwarden_collector.cli.main import poolwarden
from poolwarden_collector.shell.main import main

SOURCE = Path(__file__).resolve().parents[2] / "packaging/collector/man_pages.py"


def made() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("man_pages", SOURCE)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages(poolwarden, "1.2.3", 1_700_000_000)
    return pages | dict(module.pages(main, "1.2.3", 1_700_000_000, "poolwarden-collector"))


def commands(group: click.Group, path: str) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {path: group}
    for name, command in group.commands.items():
        if name == "lab":
            continue
        real = command.make_context(name, [], click.Context(group), resilient_parsing=True).command
        below = real if isinstance(real, click.Group) else command  # one that lists has commands beside its listing
        found |= commands(below, f"{path}-{name}") if isinstance(below, click.Group) else {}
        found[f"{path}-{name}"] = real
    return found


def test_each_command_has_one_with_all_its_options() -> None:
    pages, known = made(), commands(poolwarden, "poolwarden") | commands(main, "poolwarden-collector")
    assert set(pages) == {f"{name}.1" for name in known}
    for name, command in known.items():
        page = pages[f"{name}.1"].replace("\\-", "-")
        options = [option for each in command.params if isinstance(each, click.Option) for option in each.opts]
        assert [option for option in options if option not in page] == [], name
        assert ".SH NAME\n" in page and "2023-11-14" in page and "poolwarden 1.2.3" in page


def test_the_same_commit_gives_the_same_pages() -> None:
    assert made() == made()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_they_can_be_set() -> None:
    for name, page in made().items():
        done = subprocess.run(
            ["groff", "-man", "-Tascii", "-ww"], input=page, capture_output=True, text=True, check=True
        )
        assert done.stderr == "", name
