"""[page] of the configuration: off without it, and refused in one line that names the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.shell.rig import write_config

from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.config.config_changes import unchangeable

TABLE = {"listen": '"127.0.0.1:7446"', "cert": '"tls/cert.pem"', "key": '"tls/key.pem"'}


def written(folder: Path, more: str = "", **changed: str) -> Path:
    lines = [f"{key} = {value}" for key, value in {**TABLE, **changed}.items() if value]
    return write_config(folder, "\n".join(["[page]", *lines, more]))


def test_without_the_table_there_is_no_page(tmp_path: Path) -> None:
    assert load(write_config(tmp_path)).page is None


def test_it_is_read_and_a_change_of_it_needs_a_restart(tmp_path: Path) -> None:
    before = load(written(tmp_path, session='"8h"', client_ca='"tls/ca.pem"'))
    page = before.page
    assert page is not None and (page.address, page.session_ms) == ("127.0.0.1:7446", 8 * 3_600_000)
    assert page.client_ca == tmp_path / "tls/ca.pem"
    assert load(written(tmp_path, listen='"[::1]:7446"')).page != page
    assert unchangeable(before, load(written(tmp_path))) == ("[page]",)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"listen": ""}, "listen"),
        ({"listen": '"example.com:7446"'}, "IP address"),
        ({"listen": '"127.0.0.1:99999"'}, "ADDRESS:PORT"),
        ({"cert": ""}, "cert"),
        ({"key": '"nowhere.pem"'}, "cannot be read"),
        ({"cert": '"collector.toml"'}, "no PEM"),
        ({"session": '"1m"'}, "5m to 744h"),
        ({"session": '"745h"'}, "5m to 744h"),
        ({"password": '"x"'}, "password"),
        ({"more": '[metrics]\nlisten = "127.0.0.1:7446"'}, "metrics are served"),
    ],
)
def test_what_will_not_do_is_named(tmp_path: Path, changed: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        load(written(tmp_path, **changed))
    assert "\n" not in str(refused.value)
