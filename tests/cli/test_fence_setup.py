"""`poolwarden fence setup`: what it asks, what it proposes, where a secret goes and where it does not."""

import json
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import HOSTS, FakeCollector
from .test_act import at_a_terminal
from .test_json import held_against

Call = Callable[..., Said]
SECRET = "hunter2-is-it"
REDFISH = {"ssl_insecure": "1"}


@pytest.fixture
def setup(fake: FakeCollector, poolwarden: Call, tmp_path: Path) -> Call:
    """Sets up host-1, whose BMC speaks Redfish and IPMI; the password comes from a file."""
    machine = fake.status.pools[0].hosts[0].machine
    machine.CopyFrom(api.MachineStatus(system_uuid="U-1", serial="S-1", vendor="V", model="M", bmc_address="10.9.0.1"))
    fake.found.address = "10.9.0.1"
    fake.found.found.add(
        agent="fence_redfish", answers=True, installed=True, text="Redfish answers", parameters=REDFISH
    )
    fake.found.found.add(agent="fence_ipmilan", answers=True, installed=True, text="IPMI", parameters={"lanplus": "1"})
    fake.tried.good, fake.tried.path, fake.tried.tells = True, "/usr/sbin/fence_redfish", True
    fake.tried.steps.add(name="identity", good=True, text="it switches host-1: both say UUID U-1")
    fake.tried.parameters["systems_uri"] = "/redfish/v1/Systems/1"
    (tmp_path / "pw").write_text(SECRET + "\n")

    def call(*words: str) -> Said:
        return poolwarden("fence", "setup", "host-1", "--user", "w", "--password-file", str(tmp_path / "pw"), *words)

    return call


def tried(fake: FakeCollector) -> api.TryFenceRequest:
    (request,) = [each for each in fake.asked if isinstance(each, api.TryFenceRequest)]
    return request


def test_the_better_of_what_answers_is_tried_and_its_block_printed_without_the_secret(
    fake: FakeCollector, setup: Call
) -> None:
    said = setup()
    assert said.status == 0 and SECRET not in said.out + said.err
    request = tried(fake)
    assert (request.host, request.agent) == (HOSTS[0], "fence_redfish")
    assert dict(request.parameters) == {"ip": "10.9.0.1", "username": "w", "password": SECRET, "ssl_insecure": "1"}
    text = said.out[said.out.index("[[fence]]") : said.out.index("next step")]
    (block,) = tomllib.loads(text)["fence"]
    assert block["agent"] == "/usr/sbin/fence_redfish" and block["host"] == HOSTS[0]
    assert block["parameters"]["systems_uri"] == "/redfish/v1/Systems/1" and "password" not in block["parameters"]
    assert "Into /etc/poolwarden/redfish-host-1.secret (mode 0600, of the collector's user):" in said.out
    assert "then:      poolwarden fence test host-1" in said.out and max(map(len, said.out.splitlines())) <= 80


def test_it_is_written_where_it_was_said_and_only_then(setup: Call, tmp_path: Path) -> None:
    target = tmp_path / "collector.toml"
    target.write_text('[collector]\nname = "c"')
    assert setup("--write", str(target), "--level", "2").status == 0
    secret = tmp_path / "redfish-host-1-2.secret"
    assert secret.read_text() == f"password={SECRET}\n" and stat.S_IMODE(secret.stat().st_mode) == 0o600
    content = tomllib.loads(target.read_text())
    assert content["collector"] == {"name": "c"} and content["fence"][0]["level"] == 2
    assert content["fence"][0]["secret_file"] == str(secret) and SECRET not in target.read_text()
    again = setup("--write", str(target), "--level", "2")
    assert again.status == 2 and "is there already; nothing was written" in again.err
    assert len(tomllib.loads(target.read_text())["fence"]) == 1


def test_a_device_that_is_not_good_is_not_proposed(fake: FakeCollector, setup: Call, tmp_path: Path) -> None:
    fake.tried.good = False
    fake.tried.steps.add(name="status", text="it reads OFF while host-1's agent is heard", next_step="Check address.")
    target = tmp_path / "collector.toml"
    target.write_text("")
    said = setup("--write", str(target))
    assert said.status == 1 and "[[fence]]" not in said.out and target.read_text() == ""
    assert "status: it reads OFF while host-1's agent is heard" in said.out and "next step: Check address." in said.out
    assert "fence_redfish cannot fence host-1 as it is now" in said.err


def test_an_outlet_is_not_looked_for(fake: FakeCollector, setup: Call) -> None:
    said = setup("--agent", "fence_apc_snmp", "--address", "10.9.0.7", "--set", "plug=4", "--set", "snmp_version=3")
    assert said.status == 0 and not [each for each in fake.asked if isinstance(each, api.FindFenceRequest)]
    assert dict(tried(fake).parameters) == {
        "ip": "10.9.0.7", "username": "w", "snmp_priv_passwd": SECRET, "plug": "4", "snmp_version": "3"
    }  # fmt: skip


def test_it_asks_at_a_terminal_and_shows_no_password(
    fake: FakeCollector, setup: Call, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch, "warden\n")
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda prompt: SECRET)
    said = poolwarden("fence", "setup", "host-1", "--agent", "fence_ilo5")
    assert said.status == 0 and SECRET not in said.out + said.err
    assert dict(tried(fake).parameters) == {
        "ip": "10.9.0.1", "lanplus": "1", "username": "warden", "password": SECRET
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--set", "password=x"), 2, "a secret on a command line is read by everybody"),
        (("--set", "plug"), 2, "has no '='"),
        (("--password-file", "/nowhere"), 2, "/nowhere cannot be read"),
        (("--agent", "fence_apc", "--address", ""), 0, ""),
    ],
)
def test_mistakes_are_one_line(setup: Call, words: tuple[str, ...], code: int, expected: str) -> None:
    said = setup(*words)
    assert said.status == code and expected in said.err


def test_where_nothing_answers_the_next_step_is_said(fake: FakeCollector, setup: Call) -> None:
    for each in fake.found.found:
        each.answers = False
    said = setup()
    assert said.status == 1 and "nothing at 10.9.0.1 answers the collector that could fence host-1" in said.err


def test_scripts_get_one_object(setup: Call) -> None:
    said = setup("--json")
    found = json.loads(said.out)
    assert found["good"] is True and "[[fence]]" in found["block"] and SECRET not in said.out
    held_against("fence-setup", found)
