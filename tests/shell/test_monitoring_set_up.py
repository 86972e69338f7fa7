"""Every configuration and command line of docs/monitoring.md, read by the program that it is for or run as it stands.

Icinga 2, sudo and Zabbix need not be installed: what they would run is taken out of their configuration and run, with
a program in the place of ``sudo`` that runs what it is given.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.fake_collector import FakeCollector, serve, socket_of
from tests.project.tree import ROOT

from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import load

from .rig import write_config

TEXT = (ROOT / "docs/monitoring.md").read_text()
MONITORING = ROOT / "packaging/monitoring"
COMMAND = "/usr/local/bin/poolwarden"
SAID = re.compile(r"POOLWARDEN OK - .+ \| '.+\n")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------ the collector's


def test_the_collector_takes_its_tables(tmp_path: Path) -> None:
    certificates.create_ca(tmp_path / "ca")
    certificates.issue_collector(tmp_path / "ca", "test", (), tmp_path / "tls")
    (tmp_path / "metrics.secret").write_text("password=hush\n")
    (tmp_path / "metrics.secret").chmod(0o600)
    local, network = (block.replace("/etc/poolwarden", str(tmp_path)) for block in blocks("toml"))
    assert load(write_config(tmp_path, local)).cautions() == ()
    for table in (network, network.replace("#client_ca", "client_ca")):
        metrics = load(write_config(tmp_path, table)).metrics
        assert metrics is not None and (metrics.user, metrics.password) == ("prometheus", "hush")
        assert metrics.tls is not None and (metrics.tls.client_ca is not None) == (table != network)
        assert load(write_config(tmp_path, table)).cautions() == ()
    (inline,) = re.findall(r"`(secret_env = .*?)`", TEXT)
    table = f'[metrics]\nuser = "prometheus"\n{inline}\n'
    assert load(write_config(tmp_path, table), {"METRICS_PASSWORD": "x"}).metrics is not None


# ------------------------------------------------------------------------------------------------ Prometheus'


@pytest.mark.needs("promtool")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "poolwarden.rules.yml").write_bytes((MONITORING / "poolwarden.rules.yml").read_bytes())
    for name in ("poolwarden-ca.pem", "poolwarden.password"):
        (tmp_path / name).write_text("x")
    certificates.create_ca(tmp_path / "ca")
    (tmp_path / "poolwarden-ca.pem").write_bytes((tmp_path / "ca/ca.pem").read_bytes())
    configurations = blocks("yaml")
    assert len(configurations) == 3
    for text in configurations:
        (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus", str(tmp_path)))
        assert "SUCCESS" in run("promtool", "check", "config", tmp_path / "prometheus.yml")


@pytest.mark.needs("promtool")
def test_promtools_lines_are_taken(tmp_path: Path) -> None:
    (tmp_path / "poolwarden.rules.yml").write_bytes((MONITORING / "poolwarden.rules.yml").read_bytes())
    (tmp_path / "prometheus.yml").write_text(blocks("yaml")[0])
    lines = re.findall(r"^    (promtool .*)$", TEXT, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words = line.replace("/etc/prometheus", str(tmp_path)).split()
        assert "SUCCESS" in run(*words[:-1], tmp_path / words[-1])


@pytest.mark.slow
@pytest.mark.needs("promtool")
def test_the_rules_are_rules_and_do_what_they_are_for() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", MONITORING / "poolwarden.rules.yml")
    assert "SUCCESS" in run("promtool", "test", "rules", MONITORING / "poolwarden.rules.test.yml")
    alerts = set(re.findall(r"- alert: (\w+)", (MONITORING / "poolwarden.rules.yml").read_text()))
    tested = set(re.findall(r"- alertname: (\w+)", (MONITORING / "poolwarden.rules.test.yml").read_text()))
    assert alerts == tested
    named = set(re.findall(r"`(Poolwarden[A-Z]\w+)`", TEXT))
    assert (
        named <= alerts and {"PoolwardenCollectorDown", "PoolwardenScrapeDeadman", "PoolwardenDeliveriesStuck"} <= named
    )


@pytest.mark.needs("amtool")
def test_alertmanager_takes_the_route_of_the_dead_mans_switch(tmp_path: Path) -> None:
    (text,) = blocks("alertmanager")
    (tmp_path / "alertmanager.yml").write_text(text)
    assert "SUCCESS" in run("amtool", "check-config", tmp_path / "alertmanager.yml")
    route = ("amtool", "config", "routes", "test", f"--config.file={tmp_path / 'alertmanager.yml'}")
    assert run(*route, "alertname=PoolwardenScrapeDeadman").strip() == "deadman"
    assert run(*route, "alertname=PoolWithoutMaster").strip() == "people"


# ------------------------------------------------------------------------------------------------ what runs plugins


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A collector with the pool lab, and programs ``sudo`` and ``poolwarden``; the folder of these."""
    fake = FakeCollector()
    pool = fake.status.pools[0]
    pool.name = "lab"
    for host in pool.hosts:
        host.name = host.name.replace("host-", "lab-h")
    server, _ = serve(fake, socket_of(tmp_path))
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "sudo": '[ "$1" = -n ] && shift\nexec "$@"\n',
        "poolwarden": f'exec {shlex.quote(sys.executable)} -m poolwarden_collector.cli "$@"\n',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    monkeypatch.setenv("POOLWARDEN_COLLECTOR", socket_of(tmp_path))
    yield folder
    server.stop(None).wait(5)


def here(line: str, folder: Path) -> str:
    """The line with the programs of this test."""
    return line.replace("/usr/bin/sudo", "sudo").replace(COMMAND, str(folder / "poolwarden"))


@pytest.mark.slow
def test_icingas_commands_run(shell: Path) -> None:
    (text,) = blocks("icinga2")
    variables = {"poolwarden_pool": "lab", "poolwarden_host": "lab-h1", "poolwarden_readiness": "critical"}
    variables |= {"poolwarden_warning": "80", "poolwarden_critical": "90"}
    objects = r'object CheckCommand "([\w-]+)" \{\n  command = \[ (.*?) \]\n(.*?)^\}'
    found = re.findall(objects, text, re.DOTALL | re.MULTILINE)
    assert [name for name, _, _ in found] == ["poolwarden-pool", "poolwarden-host", "poolwarden-collector"]
    for _, command, rest in found:
        words = [*re.findall(r'"([^"]*)"', command)]
        for option, value in re.findall(r'^    "(--\w+)" = "([^"]*)"$', rest, re.MULTILINE):
            words += [option, value]
        filled = [re.sub(r"\$(\w+)\$", lambda name: variables[name[1]], word) for word in words]
        assert SAID.fullmatch(run(*(here(word, shell) for word in filled)))
    services = set(re.findall(r'check_command = "([\w-]+)"', text))
    assert services <= {name for name, _, _ in found}


@pytest.mark.slow
def test_nagios_commands_run(shell: Path) -> None:
    (text,) = blocks("nagios")
    for line in re.findall(r"^command\[\w+\]=(.*)$", text, re.MULTILINE):
        assert SAID.fullmatch(run("sh", "-c", here(line, shell)))


@pytest.mark.slow
def test_zabbix_parameters_run_and_its_paths_are_there(shell: Path) -> None:
    """As its agent does: ``$1`` is replaced by the item's parameter, the rest is the shell's."""
    (text,) = blocks("zabbix")
    said = {}
    for key, line in re.findall(r"^UserParameter=([\w.]+)(?:\[\*\])?,(.*)$", text, re.MULTILINE):
        value = {"poolwarden.pool": "lab", "poolwarden.host": "lab-h1"}.get(key, "")
        said[key] = json.loads(run("sh", "-c", here(line.replace("$1", value), shell)))
    assert set(said) == {"poolwarden.pool", "poolwarden.host", "poolwarden.collector"}
    for path in re.findall(r"`\$\.([\w.]+)`", TEXT):
        found = said["poolwarden.pool"]
        for name in path.split("."):
            found = found[name]
        assert found is not None


def test_sudoers_lines_are_the_commands_that_are_run() -> None:
    (text,) = blocks("sudoers")
    allowed = set()
    for line in text.splitlines():
        found = re.fullmatch(rf"(nagios|zabbix) ALL=\(root\) NOPASSWD: ({COMMAND} check [a-z0-9 -]+)", line)
        assert found is not None, line
        allowed.add(found[2])
    nagios = re.findall(r"^command\[\w+\]=/usr/bin/sudo -n (.*)$", blocks("nagios")[0], re.MULTILINE)
    zabbix = re.findall(r"^UserParameter=.*?,sudo -n (.*)$", blocks("zabbix")[0], re.MULTILINE)
    asked = [line.replace('pool "$1"', "pool lab").replace('host "$1"', "host lab-h1") for line in [*nagios, *zabbix]]
    assert set(asked) <= allowed
