"""``poolwarden-collector`` as a process: exit statuses, signals, a full disk, certificates from its own verbs."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from poolwarden.v1 import agent_link_pb2 as link
from poolwarden.v1 import agent_link_pb2_grpc as link_rpc
from poolwarden.v1 import operator_pb2 as pb
from poolwarden.v1 import operator_pb2_grpc as rpc
from poolwarden_collector.core.model.epoch import LOT_BITS
from poolwarden_collector.shell.alerts.channels.log import alert_log_trouble
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.store.journal import Journal

from .rig import HOSTS, POOL, write_config

COMMAND = [sys.executable, "-m", "poolwarden_collector.shell.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [*COMMAND, *(str(a) for a in arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Collector:
    """A collector process."""

    def __init__(self, folder: Path, extra: str = "", own: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        file = write_config(folder, extra, collector=own)
        file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{self.port}"))
        self.log = (folder / "log").open("a")
        self.process = subprocess.Popen([*COMMAND, "--config", str(file)], env=ENVIRONMENT, stderr=self.log)
        self.channel = grpc.insecure_channel(f"unix:{folder / 'c.sock'}")
        self.operator = rpc.OperatorStub(self.channel)

    def status(self, within: float = 10.0) -> pb.StatusReply:
        reply: pb.StatusReply = self.operator.Status(pb.StatusRequest(), wait_for_ready=True, timeout=within)
        return reply

    def agent(self, host: str) -> Iterator[link.CollectorMessage]:
        """One played agent's stream: what it is told; it says Hello and one full report."""
        bundle = certificates.issue_host(self.folder / "ca", host, self.folder / host)
        files = (bundle.ca, bundle.key, bundle.cert)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        options = [("grpc.ssl_target_name_override", certificates.COLLECTOR_DNS)]
        channel = grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, options)
        hello = link.Hello(
            host_uuid=host, pool_uuid=POOL, boot_id="b", host_name="host-1", management_address="192.0.2.1"
        )

        def said() -> Iterator[link.AgentMessage]:
            yield link.AgentMessage(sequence=1, mono_ms=1, hello=hello)
            yield link.AgentMessage(sequence=2, mono_ms=2, report=link.Report(full=True))
            time.sleep(60)

        stream: Iterator[link.CollectorMessage] = link_rpc.AgentLinkStub(channel).Attach(said(), wait_for_ready=True)
        return stream

    def command(self, **which: object) -> pb.CommandReply:
        reply: pb.CommandReply = self.operator.Command(pb.CommandRequest(actor="anna", **which), timeout=15)  # type: ignore[arg-type]
        return reply

    def end(self, number: int = signal.SIGTERM) -> int:
        self.channel.close()
        self.process.send_signal(number)
        status = self.process.wait(15)
        self.log.close()
        return status


@contextlib.contextmanager
def collector(folder: Path, extra: str = "", own: str = "") -> Iterator[Collector]:
    running = Collector(folder, extra, own)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)


def until(condition: object, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_cleanly(tmp_path: Path, number: int) -> None:
    with collector(tmp_path) as running:
        stream = running.agent(HOSTS[0])
        assert next(stream).welcome.epoch >> LOT_BITS == 1
        until(lambda: [pool.verdict for pool in running.status().pools] == ["Learning"])
        assert running.end(number) == 0
    journal = Journal(tmp_path / "state")
    rows = journal.history(POOL)
    assert [row.kind for row in rows][:2] == ["pool-seen", "host-seen"]
    verdicts = [row.text for row in rows if row.kind == "verdict"]
    # That the stream ended was the collector's own doing: no pool went dark by it.
    assert verdicts[-1].startswith("Learning")
    journal.close()
    text = (tmp_path / "log").read_text()
    assert "stopped" in text and "Traceback" not in text


@pytest.mark.slow
def test_kill_9_loses_nothing_and_raises_the_epoch(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        next(running.agent(HOSTS[0]))
        until(lambda: running.status().pools)
        assert running.command(pause=pb.Pause(pool=POOL, reason="work")).accepted
        running.end(signal.SIGKILL)
    with collector(tmp_path) as again:
        reply = again.status()
        assert reply.epoch >> LOT_BITS == 2 and reply.pools[0].paused and reply.pools[0].pause_reason == "work"
        assert again.end() == 0


@pytest.mark.slow
def test_a_second_collector_on_the_journal_is_refused(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        running.status()
        second = run("--config", tmp_path / "collector.toml")
        assert second.returncode == 4 and re.fullmatch(r"poolwarden-collector: .*another collector.*\n", last(second))
        assert running.status().epoch >> LOT_BITS == 1


def last(done: subprocess.CompletedProcess[str]) -> str:
    """What it said for people: its last line on standard error."""
    return done.stderr.splitlines(keepends=True)[-1]


@pytest.mark.slow
def test_an_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = write_config(tmp_path)
        file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
        done = run("--config", file)
    assert done.returncode == 1 and re.fullmatch(
        r"poolwarden-collector: 127.0.0.1:\d+: cannot be listened on.*\n", last(done)
    )


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["--config", pytest.param("check-config", marks=pytest.mark.slow)])
def test_a_wrong_configuration_is_one_line_and_exit_2(tmp_path: Path, verb: str) -> None:
    file = write_config(tmp_path, "[policy]\npatience = 5")
    done = run(verb, file)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(rf"poolwarden-collector: {re.escape(str(file))}: \[policy\] patience: .*\n", done.stderr)
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_a_fence_agent_that_does_not_fit_stops_the_start(tmp_path: Path) -> None:
    wrong = (("/nowhere/fence_x", "does not exist"), ("/bin/true", "answers metadata with something else"))
    for verb, (agent, why) in (("check-config", wrong[0]), ("check-config", wrong[1]), ("--config", wrong[1])):
        done = run(verb, write_config(tmp_path, f'[[fence]]\nhost = "{HOSTS[0]}"\nagent = "{agent}"'))
        assert done.returncode == 2 and why in last(done) and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_missing_fence_agent_is_told_and_the_pools_are_guarded_all_the_same(tmp_path: Path) -> None:
    with collector(tmp_path, f'[[fence]]\nhost = "{HOSTS[0]}"\nagent = "/nowhere/fence_x"') as running:
        next(running.agent(HOSTS[0]))
        until(lambda: running.status().pools)
        assert "agent /nowhere/fence_x does not exist" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_good_configuration_is_said(tmp_path: Path) -> None:
    done = run("check-config", write_config(tmp_path))
    assert done.returncode == 0 and done.stdout.endswith("good; 0 fence devices, 1 alert channel\n")


@pytest.mark.slow
def test_usage_errors_are_exit_2(tmp_path: Path) -> None:
    assert run("check-config").returncode == 2 and run("fly").returncode == 2
    assert run("--config", tmp_path / "nowhere.toml").returncode == 2


@pytest.mark.slow
def test_a_full_disk_stops_all_doing_and_nothing_else(tmp_path: Path) -> None:
    """A limit on file sizes set on the running process: every write beyond it fails, as on a full disk."""
    with collector(tmp_path) as running:
        next(running.agent(HOSTS[0]))
        until(lambda: running.status().pools)
        everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        reply = running.command(pause=pb.Pause(pool=POOL))
        assert not reply.accepted and reply.code == "journal" and reply.next_step
        status = running.status()
        assert not status.pools[0].paused and any("nothing is decided or done" in w for w in status.warnings)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, everything)
        until(lambda: not running.status().warnings)
        assert running.command(pause=pb.Pause(pool=POOL)).accepted
        assert running.end() == 0
    assert "NOTHING IS DECIDED OR DONE" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_full_disk_at_the_start_is_exit_4(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    (tmp_path / "state").write_text("in the way")
    done = run("--config", file)
    assert done.returncode == 4 and "state directory" in last(done) and "Traceback" not in done.stderr


@pytest.mark.slow
def test_certificates_by_its_own_verbs_are_accepted(tmp_path: Path) -> None:
    authority = tmp_path / "authority"
    assert run("init-ca", authority).returncode == 0
    made = run("issue-collector", authority, "test", "127.0.0.1", "--out", tmp_path / "tls")
    assert made.returncode == 0 and f'cert = "{tmp_path}/tls/cert.pem"' in made.stdout
    assert run("issue-host", authority, HOSTS[0], "--out", tmp_path / "h").returncode == 0
    keys = [authority / "ca-key.pem", tmp_path / "tls/key.pem", tmp_path / "h/key.pem"]
    assert [file.stat().st_mode & 0o777 for file in keys] == [0o600] * 3
    authority.rename(tmp_path / "ca")
    with collector(tmp_path) as running:
        assert next(running.agent(HOSTS[0])).welcome.collector_name == "test"
        assert running.end() == 0


@pytest.mark.slow
def test_the_authority_is_never_replaced_and_nonsense_is_refused(tmp_path: Path) -> None:
    assert run("init-ca", tmp_path).returncode == 0
    before = (tmp_path / "ca-key.pem").read_bytes()
    for arguments in (
        ("init-ca", tmp_path),
        ("issue-host", tmp_path, "host-1"),
        ("issue-host", tmp_path / "nowhere", HOSTS[0]),
        ("issue-collector", tmp_path, "c", "collector.example"),
    ):
        done = run(*arguments)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert (tmp_path / "ca-key.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("/nowhere/at/all/alerts.log", "there is no directory /nowhere/at/all"),
        ("/etc", "/etc is a directory; expected a file"),
        ("/var/log/poolwarden/alerts.log", ""),  # the unit makes that directory at its start
        ("-", ""),
    ],
)
def test_an_alert_log_that_nobody_could_write_is_found_by_check_config(log: str, said: str) -> None:
    trouble = alert_log_trouble(log)
    assert said in trouble if said else not trouble
