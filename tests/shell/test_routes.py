"""Which channels an alert reaches, and what check-config says about those that nobody would hear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.shell.config.alert_channels import (
    EVERY_LINE,
    Channel,
    LogFile,
    Reach,
    Webhook,
    read_reach,
)
from poolwarden_collector.shell.config.alert_routes import Routes
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.config.toml_table import Table
from poolwarden_collector.shell.main import main
from poolwarden_collector.shell.store.journal import Journal

from .rig import write_config

NORTH, SOUTH = ("aaaaaaaa-0000-4000-8000-00000000000a", "aaaaaaaa-0000-4000-8000-00000000000b")
SITES = {NORTH: "hall-1", SOUTH: "hall-2"}
CALLED = {SOUTH: "south-alias"}
LOG = Channel(LogFile("-"), EVERY_LINE)


def channel(name: str, **reach: Any) -> Channel:
    return Channel(Webhook(name, "https://x.example/"), Reach(**reach))


def routes(*channels: Channel) -> Routes:
    return Routes(channels, lambda pool: SITES.get(pool, ""), lambda pool: CALLED.get(pool, ""))


def alert(pool: str, severity: str, **data: str) -> dict[str, Any]:
    return {"pool": pool, "severity": severity, "data": json.dumps(data)}


ALL = routes(
    LOG,
    channel("pager", severity="critical"),
    channel("north", pools=("north",)),
    channel("alias", pools=("south-alias",)),
    channel("uuid", pools=(SOUTH,), severity="warning"),
    channel("hall", sites=("hall-1",)),
    channel("both", pools=("south",), sites=("hall-1",)),
)


@pytest.mark.parametrize(
    ("pool", "name", "severity", "reached"),
    [
        (NORTH, "north", "info", "log north hall both"),
        (NORTH, "north", "critical", "log pager north hall both"),
        (SOUTH, "south", "warning", "log alias uuid both"),
        (SOUTH, "south", "info", "log alias both"),
        ("aaaaaaaa-0000-4000-8000-00000000000c", "east", "critical", "log pager"),
        ("", "collector", "critical", "log pager"),
        # No channel of every pool would tell a person: then whoever has the severity hears it.
        ("", "collector", "info", "log north alias hall both"),
    ],
)
def test_severity_pool_and_site_decide(pool: str, name: str, severity: str, reached: str) -> None:
    found = ALL.to(alert(pool, severity), name)
    assert " ".join(each.removeprefix("webhook:") for each in found) == reached


def test_two_masters_reach_everybody() -> None:
    for data in ({"message": "two-masters"}, {"verdict": "TwoMasters"}):
        assert len(ALL.to(alert(SOUTH, "info", **data), "south")) == len(ALL.channels)


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ((), ["no person is told of any alert: nothing is configured"]),
        ((LOG,), ["no person is told of any alert: only a log"]),
        ((LOG, channel("a")), []),
        ((channel("a", severity="critical"),), ["no person is told of warning and info alerts"]),
        (
            (channel("a", pools=("north",)),),
            ["a pool that is not named yet", "pool south: no person is told of its critical, warning and info alerts"],
        ),
        (
            (channel("a", severity="critical"), channel("b", sites=("hall-2",))),
            ["pool north: no person is told of its warning and info alerts"],
        ),
        ((channel("a"), channel("b", sites=("hall-9",))), ["channel webhook:b: no pool has the site hall-9"]),
    ],
)
def test_what_nobody_would_hear_is_said(channels: tuple[Channel, ...], said: list[str]) -> None:
    found = list(routes(*channels).unheard({NORTH: "north", SOUTH: "south"}))
    assert len(found) == len(said) and all(text.startswith(begin) for text, begin in zip(found, said, strict=True)), (
        found
    )


GOOD = f"""
[pools.{NORTH}]
name = "north"
[pools.{NORTH}.policy]
site = "hall-1"
[alerts]
heartbeat_url = "https://hc.example/t0ps3cret"
heartbeat_every = "2m"
[[alerts.webhook]]
name = "duty"
url = "https://x.example/t0ps3cret"
severity = "warning"
pools = ["north"]
sites = ["hall-1"]
remind_every = "4h"
resolved = false
fold = false
"""


def test_the_keys_of_a_channel_are_read(tmp_path: Path) -> None:
    config = load(write_config(tmp_path, GOOD))
    duty = config.alerts.channels[1]
    assert duty.reach == Reach("warning", ("north",), ("hall-1",), 4 * 3_600_000, False, False)
    assert config.routes().to(alert(NORTH, "info"), "north") == ("log",)
    assert config.routes().to(alert(NORTH, "warning"), "other") == ("log", "webhook:duty"), "by site and other name"
    assert config.routes().reach("webhook:gone") == Reach()
    assert (config.alerts.heartbeat_url[-9:], config.alerts.heartbeat_every) == ("t0ps3cret", 120_000)
    assert "t0ps3cret" not in repr(config)


@pytest.mark.parametrize(
    ("name", "folds"), [("alerts.alertmanager 1", False), ("alerts.syslog 2", False), ("alerts.mail 1", True)]
)
def test_whoever_groups_alerts_gets_each_of_them_unless_told_otherwise(name: str, folds: bool) -> None:
    assert read_reach(Table(Path("c.toml"), name, {})).fold is folds
    assert read_reach(Table(Path("c.toml"), name, {"fold": not folds})).fold is not folds


def test_many_alerts_as_one_cannot_be_shown_in_a_pool() -> None:
    assert not read_reach(Table(Path("c.toml"), "alerts.xapi 1", {})).fold
    with pytest.raises(
        ConfigError, match=r"\[alerts.xapi 1\] fold: is true; expected no fold: each pool is shown its own"
    ):
        read_reach(Table(Path("c.toml"), "alerts.xapi 1", {"fold": True}))


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        ('severity = "warning"', 'severity = "urgent"', "severity: is 'urgent'; expected one of critical, warning"),
        ('pools = ["north"]', "pools = []", "pools: is empty"),
        ('sites = ["hall-1"]', 'sites = ["a", "a"]', "sites: is empty, or names something twice"),
        ('remind_every = "4h"', 'remind_every = "5s"', "remind_every: is less than a minute"),
        ('remind_every = "4h"', 'remind_evry = "5h"', "'remind_every', perhaps"),
        ('heartbeat_every = "2m"', 'heartbeat_every = "1s"', "heartbeat_every: is too often"),
        ("https://hc.example/", "hc.example/", "heartbeat_url: is no http or https address"),
    ],
)
def test_mistakes_in_them_are_refused(tmp_path: Path, line: str, wrong: str, said: str) -> None:
    assert line in GOOD
    with pytest.raises(ConfigError) as error:
        load(write_config(tmp_path, GOOD.replace(line, wrong)))
    assert said in str(error.value) and "t0ps3cret" not in str(error.value)


def test_check_config_says_it_and_the_file_is_good_all_the_same(tmp_path: Path) -> None:
    lone = '[alerts]\nlog = "-"\n'
    one = f'[alerts]\n[[alerts.webhook]]\nurl = "https://x.example/"\npools = ["{NORTH}"]\n'
    for extra, said in ((lone, "no person is told of any alert: only a log"), (one, "a pool that is not named yet")):
        found = CliRunner().invoke(main, ["check-config", str(write_config(tmp_path, extra))])
        assert found.exit_code == 0 and f"warning: {said}" in found.output and "good; " in found.output
    found = CliRunner().invoke(main, ["check-config", str(write_config(tmp_path, one.partition("pools")[0]))])
    assert "warning" not in found.output


def test_the_journal_posts_to_whom_it_reaches_and_the_end_to_whom_the_beginning_went(tmp_path: Path) -> None:
    found = routes(LOG, channel("a", severity="critical"), channel("b", resolved=False))
    journal = Journal(tmp_path, "c", tuple(each.name for each in found.channels), "", found)
    journal.commit(NORTH, [], [AlertRaised("k", "warning", "t", "b")], "north")
    journal.routes = routes(LOG, channel("a"), channel("b", resolved=False))
    journal.commit(NORTH, [], [AlertResolved("k", "over"), AlertRaised("k2", "info", "t", "b")], "north")
    [second, first] = journal.alerts()
    told = [
        " ".join(f"{each['sink']}:{each['state']}:{each['status']}" for each in alert["deliveries"])
        for alert in (first, second)
    ]
    assert told == [
        "log:firing:pending webhook:b:firing:pending log:resolved:pending webhook:b:resolved:unwanted",
        "log:firing:pending webhook:a:firing:pending webhook:b:firing:pending",
    ]
    journal.close()
