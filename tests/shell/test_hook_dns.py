"""The hook that keeps a DNS name at the master's address, against a real Knot DNS; and through a real collector."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest
from click.testing import CliRunner

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.shell.config.toml_table import ConfigError
from poolwarden_collector.shell.hooks import dns_name
from poolwarden_collector.shell.store.journal import Journal

from .knot import NAME, OTHER_SECRET, SECRET, UNPERMITTED, Knot, serving
from .rig import POOL, write_config
from .test_hook_events import as_read
from .test_hooks import CLOSED, PROMOTED, program, queue
from .test_main import ENVIRONMENT, collector, until

COMMAND = [sys.executable, "-m", "poolwarden_collector.shell.hooks.dns_name"]
FACTS: dict[str, Any] = {"term": 2, "old_master": None, "failover": None, "alert": None, "text": "x"}


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with serving(tmp_path_factory.mktemp("dns") / "knot") as knot:
        yield knot


def run(file: Path, *words: str, given: str = "", own_process: bool = False) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--config", str(file), *words]
    if own_process:
        done = subprocess.run(command, input=given, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    else:
        said = CliRunner().invoke(dns_name.main, command[len(COMMAND) :], input=given)
        done = subprocess.CompletedProcess(command, said.exit_code, said.stdout, said.stderr)
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    assert "Traceback" not in done.stderr and SECRET not in done.stdout + done.stderr
    assert len((done.stderr or done.stdout).splitlines()) == 1
    return done


def told(event: str, address: str | None, pool: str = "lab", **more: Any) -> str:
    master = None if address is None else {"uuid": "h", "name": "lab-h2", "address": address}
    whole = as_read(event, {**FACTS, "master": master})
    return json.dumps({**whole, "pool": {"uuid": POOL, "name": pool}, **more})


@pytest.mark.needs("knotd")
@pytest.mark.slow
def test_the_name_follows_the_master_and_nothing_else_of_it_is_touched(knot: Knot) -> None:
    file = knot.settings()
    done = run(file, given=told("promoted", "192.0.2.12"), own_process=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{NAME} is at 192.0.2.12 now, was at none\n"
    assert knot.addresses() == {"192.0.2.12": 60}
    done = run(file, given=told("closed", "192.0.2.12"))
    assert done.returncode == 0 and "already" in done.stdout, "a second time changes nothing"
    done = run(file, given=told("master-changed", "2001:DB8::0:2"))
    assert done.stdout == f"{NAME} is at 2001:db8::2 now, was at 192.0.2.12\n"
    assert knot.addresses() == {"2001:db8::2": 60}, "the address of the other family is gone"
    for event in ("two-masters", "resolved"):
        done = run(file, given=told(event, "192.0.2.99"))
        assert (done.returncode, done.stdout) == (0, f"nothing to do for {event}\n")
    done = run(file, given=told("promoted", "192.0.2.99", "another"))
    assert (done.returncode, done.stdout) == (0, "nothing to do: pool another has no name here\n")
    assert knot.addresses() == {"2001:db8::2": 60}
    done = run(knot.settings(**{POOL: NAME}), given=told("promoted", "192.0.2.13", "renamed"))
    assert done.returncode == 0 and knot.addresses() == {"192.0.2.13": 60}, "a pool is known by its UUID, too"
    text = dns.query.udp(dns.message.make_query(NAME, "TXT"), "127.0.0.1", timeout=5, port=knot.port)
    assert "kept" in str(text.answer)


@pytest.mark.needs("knotd")
def test_by_hand_and_a_check(knot: Knot) -> None:
    file = knot.settings()
    done = run(file, "check")
    assert done.returncode == 0 and done.stdout.startswith(f"{file}: good; 127.0.0.1 serves example.test")
    done = run(file, "update", "lab", "192.0.2.21")
    assert done.returncode == 0 and knot.addresses() == {"192.0.2.21": 60}
    done = run(file, "update", "gold", "192.0.2.21")
    assert done.returncode == 1 and "has no name for pool gold" in done.stderr


@pytest.mark.needs("knotd")
@pytest.mark.parametrize(
    ("key", "secret", "name", "why"),
    [
        ("nobody", SECRET, NAME, "does not accept the key nobody"),
        ("poolwarden", OTHER_SECRET, NAME, "has another secret for the key poolwarden"),
        ("reader", OTHER_SECRET, NAME, "does not accept the key reader for the update"),
        ("poolwarden", SECRET, UNPERMITTED, f"does not accept the key poolwarden for the update of {UNPERMITTED}"),
        ("poolwarden", SECRET, "alias.example.test", "has taken the update, and answers no address for alias"),
    ],
)
@pytest.mark.slow
def test_what_the_server_does_not_do_is_an_error(knot: Knot, key: str, secret: str, name: str, why: str) -> None:
    before = knot.addresses(name)
    done = run(knot.settings(key, secret, lab=name), given=told("promoted", "192.0.2.66"))
    assert done.returncode == 1 and done.stderr.startswith("poolwarden-hook-dns: 127.0.0.1 port")
    assert why in done.stderr, done.stderr
    assert knot.addresses(name) == before


@pytest.mark.needs("knotd")
def test_a_zone_that_the_server_does_not_have(knot: Knot) -> None:
    file = knot.settings("poolwarden", SECRET, lab="x.elsewhere.test")
    file.write_text(file.read_text().replace('zone = "example.test"', 'zone = "elsewhere.test"'))
    for words, given in ((("check",), ""), ((), told("promoted", "192.0.2.1"))):
        done = run(file, *words, given=given)
        assert done.returncode == 1 and "127.0.0.1 port" in done.stderr


def silent_or_lying(folder: Path, answer: bytes | None) -> tuple[Path, socket.socket]:
    """The file for a server that says nothing, or this, to everything."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            given = connection.recv(4096)
            if answer is not None:
                # The question's own id and question, with the bits of an authority's good answer, and no signature.
                body = given[2:4] + answer + b"\0\1\0\0\0\0\0\0" + given[14 : given.index(b"\0\0\1\0\1") + 5]
                connection.sendall(len(body).to_bytes(2, "big") + body)

    threading.Thread(target=serve, daemon=True).start()
    made = Knot(folder, int(listener.getsockname()[1])).settings()
    return made, listener


def test_a_dead_and_a_silent_server_are_errors_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        file = Knot(tmp_path, int(nobody.getsockname()[1])).settings()
        done = run(file, given=told("promoted", "192.0.2.12"))
    assert done.returncode == 1 and done.stderr.endswith("Connection refused\n")
    assert dns_name.ALL_S + dns_name.EXCHANGE_S < 30, "the limit of a hook, if nothing else is configured"
    monkeypatch.setattr(dns_name, "EXCHANGE_S", 0.3)
    file, listener = silent_or_lying(tmp_path, None)
    with listener:
        began = time.monotonic()
        with pytest.raises(dns_name.NotDone, match="does not answer the question for lab-master"):
            dns_name.point(dns_name.load(file), NAME, "192.0.2.12")
        assert time.monotonic() - began < 5
        monkeypatch.setattr(dns_name, "ALL_S", -1.0)
        with pytest.raises(dns_name.NotDone, match="too slow"):
            dns_name.point(dns_name.load(file), NAME, "192.0.2.12")


def test_an_answer_without_a_signature_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, listener = silent_or_lying(tmp_path, b"\x84\x00")
    with listener, pytest.raises(dns_name.NotDone, match="has no signed answer for the question"):
        dns_name.point(dns_name.load(file), NAME, "192.0.2.12")
    unsigned = dns.message.make_response(dns.message.make_query(NAME, "A"))
    monkeypatch.setattr(dns.query, "tcp", lambda *_, **__: unsigned)  # as older dnspythons let it through
    with pytest.raises(dns_name.NotDone, match="without a signature: NOERROR"):
        dns_name.point(dns_name.load(file), NAME, "192.0.2.12")


@pytest.mark.parametrize(
    "given",
    ["", "[]", "{}", "null", '{"version": 1, "event": "promoted"}', '{"version": 1, "event": "promoted", "pool": 5}'],
)
def test_what_is_no_event_is_one_line(tmp_path: Path, given: str) -> None:
    done = run(Knot(tmp_path, 1).settings(), given=given)
    assert done.returncode == 1 and "stdin holds no event of Poolwarden's" in done.stderr


def test_another_version_and_a_master_without_an_address(tmp_path: Path) -> None:
    file = Knot(tmp_path, 1).settings()
    done = run(file, given=told("promoted", "192.0.2.1", version=2))
    assert done.returncode == 1 and "has version 2, this hook knows 1" in done.stderr
    for address in ("", None):
        done = run(file, given=told("promoted", address))
        assert done.returncode == 1 and f"{NAME} stays as it is: '' is no IP address" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('server = "127.0.0.1"', 'server = "ns.example.test"', "server: is 'ns.example.test'; expected the IP address"),
        ("port = 5", "port = 70000\nx = 5", "port: is 70000"),
        ("hmac-sha256", "hmac-md5", "algorithm: is 'hmac-md5'; expected one of hmac-sha256"),
        (SECRET, "no base64!", "secret: is no base64"),
        ("[names]", "[names]\nother = 'x.example.com'", "'x.example.com' is not in the zone example.test"),
        ("[names]", "[names]\nother = 'x..example.test'", "is no DNS name"),
        (f'"lab" = "{NAME}"', "", "names: has no pool"),
        ('ttl = "60s"', "ttl = 60", "ttl: is the number 60"),
        ('ttl = "60s"', 'ttl = "0s"', "ttl: is 0 s"),
        ('ttl = "60s"', 'tll = "60s"', "tll: is no setting"),
        ("[key]", "[kee]", "name: is missing"),
    ],
)
def test_mistakes_in_its_file(tmp_path: Path, before: str, after: str, why: str) -> None:
    file = Knot(tmp_path, 5).settings()
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(ConfigError) as error:
        dns_name.load(file)
    assert why in str(error.value) and "\n" not in str(error.value) and SECRET not in str(error.value)


def test_a_file_that_others_can_read_is_refused_and_the_secret_is_never_shown(tmp_path: Path) -> None:
    file = Knot(tmp_path, 1).settings()
    assert "secret" not in repr(dns_name.load(file)) and "nobody else" not in repr(dns_name.load(file))
    file.chmod(0o640)
    done = run(file, "check")
    assert done.returncode == 2 and f"has mode 0640; expected mode 0600: chmod 600 {file}" in done.stderr
    done = run(tmp_path / "none", "check", own_process=True)
    assert done.returncode == 2 and "cannot be read" in done.stderr


@pytest.mark.slow
@pytest.mark.needs("root", "knotd")
def test_through_a_collector_while_the_server_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "hooks.d"
    folder.mkdir(mode=0o755)
    with serving(tmp_path / "knot") as knot:
        environment = " ".join(f"{name}={ENVIRONMENT[name]}" for name in ("PYTHONPATH",) if name in ENVIRONMENT)
        program(folder, "50-dns", f"{environment} exec {' '.join(COMMAND)} --config {knot.settings()}")
        knot.stop()
        write_config(tmp_path)
        journal = Journal(tmp_path / "state", "test")
        journal.begin_epoch()
        queue(journal, PROMOTED, CLOSED)
        os.close(journal._lock_file)
        with collector(tmp_path, f'[hooks]\ndirectory = "{folder}"') as running:
            until(lambda: any("Connection refused" in text for text in texts(running)), 60)
            until(lambda: any("hook 50-dns fails" in alert for alert in alerts(running)), 60)
            knot.start()
            until(lambda: knot.addresses() == {"192.0.2.2": 60}, 60)
            until(lambda: alerts(running) == [], 60)
            assert running.end() == 0


def texts(running: Any) -> list[str]:
    entries = running.operator.History(pb.HistoryRequest(limit=1000), wait_for_ready=True, timeout=10).entries
    return [entry.text for entry in entries]


def alerts(running: Any) -> list[str]:
    found = running.operator.Alerts(pb.AlertsRequest(open_only=True), wait_for_ready=True, timeout=10).alerts
    return [alert.title for alert in found]
