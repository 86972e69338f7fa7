"""The configuration of a running collector, read again: the real process, its file, its signal and its command."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import agent_link_pb2_grpc as link_rpc
from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import Config, Tls, load
from poolwarden_collector.shell.config.config_changes import REPLACEABLE, changes, changes_of, unchangeable
from poolwarden_collector.shell.reload import environment_now
from poolwarden_collector.shell.store.journal import Journal

from .rig import HOSTS, POOL, write_config
from .test_main import Collector, collector, run, until

SECRET = "s3cret-of-the-bmc"
AGENT = """#!/usr/bin/env python3
import sys
said = dict(line.strip().partition("=")[::2] for line in sys.stdin)
if said.get("action") == "metadata":
    print('''<resource-agent name="fence_played"><parameters><parameter name="ip"><content type="string"/></parameter>
    <parameter name="password"><content type="string"/></parameter></parameters><actions><action name="on"/>
    <action name="off"/><action name="status"/><action name="reboot"/><action name="monitor"/></actions>
    </resource-agent>''')
"""


class Receiver:
    """A webhook that keeps what it gets."""

    def __init__(self) -> None:
        got: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.got = got
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


class Agent:
    """A played agent whose reports a test sends; ``told``: what it has been told."""

    def __init__(self, running: Collector, host: str = HOSTS[0]) -> None:
        bundle = certificates.issue_host(running.folder / "ca", host, running.folder / host)
        files = (bundle.ca, bundle.key, bundle.cert)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS)]
        self._channel = grpc.secure_channel(f"127.0.0.1:{running.port}", credentials, options)
        self._said: queue.SimpleQueue[link.AgentMessage | None] = queue.SimpleQueue()
        self._number = 0
        self.told: list[link.CollectorMessage] = []
        self._say(hello=link.Hello(host_uuid=host, pool_uuid=POOL, boot_id="b", host_name="host-1"))
        self.report()
        self._stream = link_rpc.AgentLinkStub(self._channel).Attach(iter(self._said.get, None), wait_for_ready=True)
        threading.Thread(target=self._hear, daemon=True).start()
        until(lambda: self.told and running.status().pools)

    def _hear(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            self.told.extend(self._stream)

    def _say(self, **body: Any) -> None:
        self._number += 1
        self._said.put(link.AgentMessage(sequence=self._number, mono_ms=self._number, **body))

    def report(self, full_disk: bool = False) -> None:
        """All is well, or an alert that is raised at once."""
        level = link.Disk.FULL if full_disk else link.Disk.OK
        disk = link.Disk(mount="/", total_bytes=1 << 34, free_bytes=0 if full_disk else 1 << 33, level=level)
        self._say(report=link.Report(full=True, disks=link.DiskList(disks=[disk])))

    def settings(self) -> link.Settings:
        """The newest that it was told."""
        found = [message.settings for message in self.told if message.HasField("settings")]
        return found[-1] if found else link.Settings()

    def close(self) -> None:
        self._said.put(None)
        self._channel.close()


@contextlib.contextmanager
def guarding(folder: Path, extra: str = "") -> Iterator[tuple[Collector, Agent]]:
    """A collector that guards a pool of one host."""
    with collector(folder, extra) as running, contextlib.closing(Agent(running)) as agent:
        yield running, agent


def reloads(running: Collector) -> list[str]:
    """What the history says of other configurations, each once."""
    entries = running.operator.History(pb.HistoryRequest()).entries
    return [entry.text for entry in entries if entry.kind == "configured" and not entry.pool_uuid]


def change(running: Collector, extra: str = "", top: str = "", **replaced: str) -> Path:
    """The file of a running collector is another one now."""
    file = write_config(running.folder, extra, top)
    text = file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{running.port}")
    for before, after in replaced.items():
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)
    return file


def reload(running: Collector) -> subprocess.CompletedProcess[str]:
    return run("reload", "--config", running.folder / "collector.toml")


def log(running: Collector) -> str:
    return (running.folder / "log").read_text()


def fence(folder: Path, **settings: str) -> str:
    """A block of a device whose password stands in a file."""
    agent, secret = folder / "fence_played", folder / "secret"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    secret.write_text(f"password={settings.pop('password', SECRET)}\n")
    secret.chmod(0o600)
    more = "".join(f"{name} = {value}\n" for name, value in settings.items())
    return (
        f'[[fence]]\nhost = "{HOSTS[0]}"\nname = "bmc"\nagent = "{agent}"\nsecret_file = "{secret}"\n{more}'
        '[fence.parameters]\nip = "192.0.2.7"\n'
    )


def written(running: Collector) -> str:
    """Every byte of the journal's files, and what a stopped collector said."""
    return "".join(file.read_bytes().decode("latin-1") for file in (running.folder / "state").iterdir()) + log(running)


# ------------------------------------------------------------------------------------------------ the running process


@pytest.mark.slow
def test_the_command_has_a_new_channel_and_a_new_policy_taken(tmp_path: Path, receiver: Receiver) -> None:
    with guarding(tmp_path) as (running, agent):
        change(
            running,
            f'[policy]\nmode = "observe"\nreport_interval = "1s"\n{fence(tmp_path)}'
            f'[[alerts.webhook]]\nname = "pager"\nurl = "{receiver.url}"\n',
        )
        done = reload(running)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            f"{tmp_path / 'collector.toml'}: reloaded",
            "  policy: mode auto -> observe",
            "  policy: report_interval 2 s -> 1 s",
            "  fence device bmc added",
            "  alert channel webhook:pager added",
        ]
        assert running.status().pools[0].mode == "observe"
        until(lambda: agent.settings().report_interval_ms == 1_000)
        until(lambda: [device.name for device in running.status().pools[0].hosts[0].fence_devices] == ["bmc"])
        agent.report(full_disk=True)
        until(lambda: receiver.got)
        assert receiver.got[0]["pool"]["uuid"] == POOL and receiver.got[0]["state"] == "firing"
        assert reload(running).stdout == f"{tmp_path / 'collector.toml'}: nothing in it has changed\n"
        assert running.end() == 0
    journal = Journal(tmp_path / "state")
    rows = [row for row in journal.history() if row.kind == "configured"]
    journal.close()
    assert [row.pool for row in rows] == ["", POOL]
    assert rows[1].text.endswith(
        "policy: mode auto -> observe; policy: report_interval 2 s -> 1 s; fence device bmc added"
    )
    assert SECRET not in written(running)


@pytest.mark.slow
def test_a_wrong_file_is_refused_whole_and_the_one_before_holds(tmp_path: Path) -> None:
    with guarding(tmp_path) as (running, _):
        wrong = change(running, '[policy]\nmode = "observe"\nsuspect_after = "1s"')
        done = reload(running)
        assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
        assert "suspect_after >= 2 x report_interval" in done.stderr and "nothing was changed" in done.stderr
        assert f"poolwarden-collector check-config {wrong}" in done.stderr
        status = running.status()
        assert status.pools[0].mode == "auto"
        assert any("the configuration's file is not in use" in text for text in status.warnings)
        change(running)
        assert reload(running).returncode == 0
        assert not any("not in use" in text for text in running.status().warnings)
        assert reloads(running) == []


@pytest.mark.slow
def test_a_signal_has_the_file_read_again_whenever_it_comes(tmp_path: Path) -> None:
    with guarding(tmp_path) as (running, _):
        for number in range(1, 6):
            change(running, f'[policy]\npatience = "{100 + number}s"')
            for _ in range(number):
                running.process.send_signal(signal.SIGHUP)
        until(lambda: reloads(running)[-1:] and reloads(running)[-1].endswith("-> 105 s"))
        change(running, "[policy]\npatience = 5")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: any("patience" in text for text in running.status().warnings))
        assert "the configuration was not reloaded (SIGHUP)" in log(running)
        assert running.end() == 0
    assert "Traceback" not in log(running)


@pytest.mark.slow
def test_what_cannot_change_in_a_running_process_is_refused_by_name(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        running.status()
        write_config(tmp_path, "", collector="term_above = 7\nepoch_above = 9")
        done = reload(running)
        assert (
            done.returncode == 2
            and "[collector] listen, [collector] epoch_above, [collector] term_above" in done.stderr
        )
        assert "systemctl restart poolwarden-collector" in done.stderr


@pytest.mark.slow
def test_a_new_device_has_to_fit_and_one_in_use_need_not_be_there(tmp_path: Path) -> None:
    missing = f'[[fence]]\nhost = "{HOSTS[0]}"\nagent = "/nowhere/fence_x"\n'
    with collector(tmp_path, missing) as running:
        running.status()
        change(running, missing + '[policy]\nmode = "ask"')
        taken = reload(running)
        assert taken.returncode == 0 and "agent /nowhere/fence_x does not exist" in taken.stderr
        change(running, missing + missing.replace("fence_x", "fence_y").replace("[[fence]]", '[[fence]]\nname = "y"'))
        refused = reload(running)
        assert refused.returncode == 2 and "agent /nowhere/fence_y does not exist" in refused.stderr


@pytest.mark.slow
def test_what_is_removed_is_told_no_more(tmp_path: Path, receiver: Receiver) -> None:
    unheard = f'[[alerts.webhook]]\nname = "pager"\nurl = "http://127.0.0.1:1/{SECRET}"\n'
    with guarding(tmp_path, unheard) as (running, agent):
        agent.report(full_disk=True)
        until(lambda: running.status().outbox_pending)
        change(running, f'[[alerts.webhook]]\nname = "other"\nurl = "{receiver.url}"\n')
        assert reload(running).stdout.splitlines()[1:] == [
            "  alert channel webhook:pager removed",
            "  alert channel webhook:other added",
        ]
        until(lambda: receiver.got)
        assert receiver.got[0]["state"] == "firing", "a new channel is told what is open"


@pytest.mark.slow
def test_the_command_says_who_is_not_there_and_which_file_is_meant(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    assert run("reload", "--config", tmp_path / "nowhere.toml").returncode == 2
    nobody = run("reload", "--config", file)
    assert nobody.returncode == 1 and "no collector answers" in nobody.stderr
    with collector(tmp_path) as running:
        running.status()
        other = tmp_path / "other.toml"
        other.write_text(file.read_text())
        meant = run("reload", "--config", other)
        assert meant.returncode == 1 and f"runs with {file}" in meant.stderr


@pytest.mark.slow
def test_a_collector_that_is_killed_in_a_reload_starts_with_the_file(tmp_path: Path) -> None:
    """Whatever was recorded of it: the file is what counts at a start."""
    with guarding(tmp_path) as (running, _):
        change(running, '[policy]\nmode = "ask"')
        running.process.send_signal(signal.SIGHUP)
        running.end(signal.SIGKILL)
    with collector(tmp_path, '[policy]\nmode = "ask"') as again:
        assert again.status().pools[0].mode == "ask"


# ------------------------------------------------------------------------------------------------ what differs


def two(tmp_path: Path, before: str, after: str) -> tuple[Config, Config]:
    found = []
    for text in (before, after):
        found.append(load(write_config(tmp_path, text)))
    return found[0], found[1]


def test_a_change_is_named_and_no_secret_is(tmp_path: Path) -> None:
    one = load(write_config(tmp_path, fence(tmp_path)))
    other = load(write_config(tmp_path, fence(tmp_path, password="another", limit='"9s"', level="2")))
    assert changes(one, other) == ("fence device bmc: level, limit, password",)
    assert changes(other, one) == changes(one, other) and changes(one, one) == ()
    assert changes_of(POOL, [HOSTS[0]], one, other) == changes(one, other)
    assert changes_of(POOL, [HOSTS[1]], one, other) == ()


def test_a_webhook_with_another_address_is_named_without_it(tmp_path: Path) -> None:
    hook = '[[alerts.webhook]]\nname = "pager"\nurl = "{}"\n'
    pair = two(tmp_path, hook.format("http://a/1"), hook.format("http://a/2"))
    assert changes(*pair) == ("alert channel webhook:pager: url",)
    log_ = two(tmp_path, '[alerts]\nlog = "a"', '[alerts]\nlog = "b"\ndocs_base_url = "https://d"')
    assert changes(*log_) == ("alert channel log: path", "alerts: docs_base_url")


def test_a_pools_own_settings_are_named_with_the_pool(tmp_path: Path) -> None:
    pool = f'[pools."{POOL}"]\nname = "east"\n[pools."{POOL}".policy]\nmode = "ask"\n'
    pair = two(tmp_path, "", f'[policy]\npatience = "200s"\n{pool}')
    assert changes(*pair) == ("policy: patience 100 s -> 200 s", "pool east: name", "pool east: mode auto -> ask")
    assert changes_of(POOL, [], *pair) == ("policy: mode auto -> ask", "policy: patience 100 s -> 200 s")
    assert changes(pair[1], pair[0])[1:] == (f"pool {POOL}: name", f"pool {POOL}: mode ask -> auto")


def test_a_setting_of_the_configuration_is_replaceable_or_named_as_not(tmp_path: Path) -> None:
    """Also one that nobody has thought of here: it needs a restart until somebody has."""
    one = load(write_config(tmp_path))
    for item in dataclasses.fields(Config):
        value = getattr(one, item.name)
        other: Any = {int: 7, str: "x", Path: Path("/x")}.get(type(value), object())
        if item.name == "tls":
            other = Tls(Path("/x"), one.tls.cert, one.tls.key)
        changed = dataclasses.replace(one, **{item.name: other})
        named = unchangeable(one, changed)
        assert bool(named) != (item.name in REPLACEABLE | {"file"}), item.name
        assert all(name.startswith("[") for name in named), "as it is written in the file"


def test_variables_are_read_from_the_units_file_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "of the start")
    file = tmp_path / "collector.env"
    assert environment_now(file)[0]["BMC_PASSWORD"] == "of the start"
    file.write_text("BMC_PASSWORD=of now\n")
    file.chmod(0o600)
    assert environment_now(file) == ({**environment_now(tmp_path / "none")[0], "BMC_PASSWORD": "of now"}, "")
    file.chmod(0o644)
    found, told = environment_now(file)
    assert found["BMC_PASSWORD"] == "of the start" and "those of the collector's start" in told
