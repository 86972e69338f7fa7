"""`poolwarden doctor`: what a running collector says of itself, and what can be told where none runs."""

from collections.abc import Callable
from pathlib import Path

import grpc
from tests.shell.rig import write_config

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.shell.config import certificates

from .conftest import Said
from .fake_collector import FakeCollector, socket_of

Call = Callable[..., Said]


def test_each_line_says_what_to_do_and_a_fault_is_exit_status_1(fake: FakeCollector, poolwarden: Call) -> None:
    fake.condition.checks.add(name="clock", level="ok", text="it is synchronised")
    fake.condition.checks.add(name="disk", level="warning", text="500 MiB are free", next_step="make room")
    fake.condition.checks.add(name="where it runs", level="unchecked", text="only root can tell")
    said = poolwarden("doctor")
    assert said == (
        0,
        "ok         clock: it is synchronised\n"
        "warning    disk: 500 MiB are free\n"
        "           do: make room\n"
        "unchecked  where it runs: only root can tell\n",
        "",
    )
    fake.condition.checks.add(name="journal", level="fault", text="it is damaged", next_step="restore it")
    said = poolwarden("doctor")
    assert said.status == 1 and said.err == "poolwarden: 1 is at fault\n  what to do stands below each\n"
    assert poolwarden("doctor", "--json").json["checks"][3] == {
        "name": "journal",
        "level": "fault",
        "text": "it is damaged",
        "next_step": "restore it",
        "collector": "",
    }


def test_where_none_runs_its_files_are_looked_at(poolwarden: Call, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    file = write_config(tmp_path)
    said = poolwarden("doctor", "--collector", socket_of(tmp_path), "--config", str(file), "--json")
    levels = {each["name"]: each["level"] for each in said.json["checks"]}
    assert said.status == 1
    assert (levels["collector"], levels["configuration"], levels["certificate"]) == ("fault", "ok", "ok")
    assert levels["journal"] == levels["the rest"] == "unchecked"


def test_a_configuration_that_is_not_there(poolwarden: Call, tmp_path: Path) -> None:
    said = poolwarden("doctor", "--collector", socket_of(tmp_path), "--config", str(tmp_path / "none.toml"))
    assert said.status == 1 and "none.toml" in said.out.replace("\n           ", "") and "the rest" in said.out


def test_far_away_nothing_can_be_told(poolwarden: Call, tmp_path: Path) -> None:
    certificates.create_ca(tmp_path / "ca")
    certificates.issue_operator(tmp_path / "ca", "anna", tmp_path / "anna")
    said = poolwarden("doctor", "--collector", "127.0.0.1:1", "--tls", str(tmp_path / "anna"))
    assert (said.status, said.out) == (3, "")


def test_an_older_collector_does_not_know_it(fake: FakeCollector, poolwarden: Call) -> None:
    fake.failure = (grpc.StatusCode.UNIMPLEMENTED, "")
    assert poolwarden("doctor").status == 4
    assert isinstance(fake.asked[0], api.DoctorRequest)
