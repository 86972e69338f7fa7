"""What goes wrong gets one line, a next step and its exit status; the collector's silence is never an answer."""

import datetime
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from poolwarden_collector.cli import commands
from poolwarden_collector.cli import main as entry
from poolwarden_collector.cli.collector import sentence_of

from .conftest import Said
from .fake_collector import FakeCollector, serve, socket_of

Call = Callable[..., Said]
CLI = (sys.executable, "-m", "poolwarden_collector.cli")


def environment(**changes: str) -> dict[str, str]:
    """This process's, with the import path of the tests."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **changes}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (grpc.StatusCode.NOT_FOUND, 2, "the collector's own sentence"),
        (grpc.StatusCode.INVALID_ARGUMENT, 2, "the collector's own sentence"),
        (grpc.StatusCode.FAILED_PRECONDITION, 2, "the collector's own sentence"),
        (grpc.StatusCode.UNAVAILABLE, 3, "no collector answers at unix:"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 3, "did not answer within 1"),
        (grpc.StatusCode.UNIMPLEMENTED, 4, "does not know this command"),
        (grpc.StatusCode.PERMISSION_DENIED, 4, "does not accept you"),
        (grpc.StatusCode.UNKNOWN, 4, "failed: the collector's own sentence"),
        (grpc.StatusCode.INTERNAL, 4, "failed: the collector's own sentence"),
    ],
)
@pytest.mark.parametrize("arguments", [("status",), ("explain", "demo"), ("history", "--follow"), ("pause", "demo")])
def test_grpc_status(
    fake: FakeCollector, poolwarden: Call, arguments: tuple[str, ...], code: grpc.StatusCode, status: int, words: str
) -> None:
    fake.failure = (code, "the collector's own\n sentence")
    said = poolwarden(*arguments)
    assert (said.status, said.out) == (status, "")
    first, *rest = said.err.splitlines()
    assert first.startswith("poolwarden: ")
    assert words in first
    assert len(rest) <= 1


def test_no_socket(poolwarden: Call, tmp_path: Path) -> None:
    said = poolwarden("--collector", socket_of(tmp_path), "status")
    assert (said.status, said.out) == (3, "")
    assert "there is no such socket" in said.err
    assert "systemctl status poolwarden-collector" in said.err


def test_a_socket_that_nobody_serves(poolwarden: Call, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "c.sock"))
    said = poolwarden("master", "demo", "--collector", socket_of(tmp_path))
    assert (said.status, said.out) == (3, "")
    assert said.err.startswith("poolwarden: no collector answers at unix:")


def test_a_collector_that_accepts_and_never_answers(
    poolwarden: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poolwarden_collector.cli.collector.CALL_LIMIT_S", 0.3)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "c.sock"))
        hung.listen()
        said = poolwarden("status", "--collector", socket_of(tmp_path))
    assert (said.status, said.out) == (3, "")
    assert "did not answer within 0.3 s" in said.err


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("nonsense", "'nonsense' is no collector's address"),
        ("host:99999", "is no collector's address"),
        (":8443", "is no collector's address"),
        ("unix:", "unix: needs a path"),
        ("unix:/" + "x" * 120, "is too long for a Unix socket"),
        ("unix:/dev/null", "/dev/null is not a socket"),
        ("collector.example:8443", "cannot read"),
    ],
)
def test_bad_addresses(poolwarden: Call, tmp_path: Path, address: str, complaint: str) -> None:
    said = poolwarden("--collector", address, "--tls", str(tmp_path), "status")
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("statsu",), ("there is no command 'statsu'", "did you mean status?")),
        (("restat-xapi", "h1"), ("there is no command 'restat-xapi'", "did you mean restart-xapi?")),
        (("hist",), ("there is no command 'hist'", "did you mean history")),
        (("switchover",), ("there is no command 'switchover'", "did you mean designate?")),
        (("unpause", "demo"), ("there is no command 'unpause'", "did you mean resume?")),
        (("show", "host-1"), ("there is no command 'show'", "did you mean host show")),
        (("host", "shwo"), ("there is no command 'shwo'", "did you mean host show?")),
        (("fence", "tset"), ("there is no command 'tset'", "did you mean fence test?")),
        (("fence", "xyzzy"), ("there is no command 'xyzzy'", "poolwarden fence --help")),
        (("failover", "demo", "--dry-rum"), ("No such option '--dry-rum'", "did you mean --dry-run?")),
        (("--jsno", "status"), ("No such option '--jsno'", "did you mean --json?")),
        (("zzz",), ("there is no command 'zzz'", "poolwarden --help")),
        (("approve",), ("Missing argument 'FAILOVER'", "poolwarden approve --help")),
        (("status", "--zzz"), ("No such option", "poolwarden status --help")),
        (("history", "--limit", "many"), ("'many' is not a valid integer", "poolwarden history --help")),
        (("history", "--limit", "0"), ("0 is not in the range", "poolwarden history --help")),
    ],
)
def test_usage(poolwarden: Call, arguments: tuple[str, ...], words: tuple[str, str]) -> None:
    said = poolwarden(*arguments)
    assert (said.status, said.out) == (2, "")
    assert all(word in line for word, line in zip(words, said.err.splitlines(), strict=True)), said.err


@pytest.mark.parametrize(
    ("typed", "first", "second"),
    [
        ("hots-2", "no host is called 'hots-2', did you mean host-2?", "known hosts: host-1, host-2, host-3"),
        ("HOST-3", "no host is called 'HOST-3', did you mean host-3?", "known hosts: host-1, host-2, host-3"),
        ("printer", "no host is called 'printer'", "known hosts: host-1, host-2, host-3"),
    ],
)
def test_a_mistyped_host_is_told_the_nearest(
    fake: FakeCollector, poolwarden: Call, typed: str, first: str, second: str
) -> None:
    said = poolwarden("restart-xapi", typed)
    assert said.status == 2 and said.out == ""
    assert said.err.startswith(f"poolwarden: {first}") and said.err.splitlines()[1] == f"  {second}"


def test_every_word_of_other_tools_leads_to_a_command() -> None:
    assert set(commands.ELSEWHERE_CALLED.values()) <= set(entry.poolwarden.commands)
    assert not set(commands.ELSEWHERE_CALLED) & set(entry.poolwarden.commands)


@pytest.mark.parametrize("arguments", [(), ("host",)])
def test_nothing_asked_for_shows_the_help(poolwarden: Call, arguments: tuple[str, ...]) -> None:
    said = poolwarden(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("Usage: poolwarden")


def test_a_fault_of_our_own_is_one_line(poolwarden: Call, fake: FakeCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwarden_collector.cli.pages.pools.span", None)
    said = poolwarden("status")
    assert said.status == 4
    assert said.err.startswith("poolwarden: internal error: TypeError")


def test_help_states_the_exit_statuses(poolwarden: Call) -> None:
    said = poolwarden("--help")
    assert said.status == 0
    for line in (
        "0  done",
        "1  the answer is no",
        "2  wrong usage",
        "3  the collector cannot be reached",
        "4  the coll",
    ):
        assert line in said.out


@pytest.mark.parametrize("command", sorted(set(entry.poolwarden.commands) - {"lab"}))
def test_every_command_has_help(poolwarden: Call, command: str) -> None:
    said = poolwarden(command, "--help")
    assert (said.status, said.err) == (0, "")
    assert "--json" in said.out


def test_the_lab_where_it_is_not_installed(poolwarden: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LAB", ("poolwarden_no_lab.cli", "lab"))
    said = poolwarden("lab", "demo")
    assert said == (2, "", "poolwarden: the lab is not installed here\n  it comes with the source tree: make demo\n")


def test_the_labs_group_takes_over(poolwarden: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fakelab.py").write_text(
        "import click\n@click.group()\ndef lab(): pass\n"
        "@lab.command()\n@click.option('--hosts', type=int)\n@click.pass_context\n"
        "def demo(ctx, hosts):\n    print(hosts)\n    ctx.exit(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(commands, "LAB", ("fakelab", "lab"))
    assert poolwarden("lab", "demo", "--hosts", "5") == (1, "5\n", "")
    assert "demo" in poolwarden("lab", "--help").out


def test_help_loads_nothing_heavy() -> None:
    """That is what makes it quick; how quick is measured by a benchmark."""
    heavy = "import sys, poolwarden_collector.cli.main as m; m.run(['--help']); print([n for n in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", heavy], env=environment(), check=True, capture_output=True, text=True
    )
    assert not [name for name in ("grpc", "rich", "google.protobuf", "poolwarden_lab") if f"'{name}'" in loaded.stdout]


def test_a_closed_pipe_is_no_error(fake: FakeCollector) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*CLI, "status"], env=environment(), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def printed_on_a_terminal(*arguments: str, **changes: str) -> str:
    """What the command writes when standard output is a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    changes = {"COLUMNS": "80", "TERM": "xterm-256color", **changes}
    with subprocess.Popen([*CLI, *arguments], env=environment(**changes), stdout=theirs) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # the terminal's other end was closed
            pass
    os.close(ours)
    assert process.returncode == 0
    return b"".join(parts).decode()


@pytest.mark.slow
def test_colour_on_a_terminal_only_where_wanted(fake: FakeCollector) -> None:
    assert "\x1b[32mhealthy: host-1 is master\x1b[0m" in printed_on_a_terminal("status")
    assert "\x1b" not in printed_on_a_terminal("status", "--plain")
    assert "\x1b" not in printed_on_a_terminal("status", NO_COLOR="1")


def certificate(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None) -> tuple[
    x509.Certificate, ec.EllipticCurvePrivateKey
]:  # fmt: skip
    """A certificate for this DNS name, self-signed or issued."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    return built.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(made: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> tuple[bytes, bytes]:
    """Certificate and key."""
    form = serialization.PrivateFormat.PKCS8
    key = made[1].private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return made[0].public_bytes(serialization.Encoding.PEM), key


@pytest.mark.parametrize(("name", "status"), [("collector", 0), ("somebody-else", 3)])
def test_remote_only_over_mutual_tls_with_the_collectors_name(
    poolwarden: Call, tmp_path: Path, name: str, status: int
) -> None:
    authority = certificate("authority")
    root = pem(authority)[0]
    chain, key = pem(certificate(name, authority))
    for file, content in zip(("cert.pem", "key.pem"), pem(certificate("operator", authority)), strict=True):
        (tmp_path / file).write_bytes(content)
    (tmp_path / "ca.pem").write_bytes(root)
    credentials = grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)
    server, port = serve(FakeCollector(), "127.0.0.1:0", credentials)
    try:
        said = poolwarden("status", "--collector", f"127.0.0.1:{port}", "--tls", str(tmp_path))
    finally:
        server.stop(None).wait(5)
    assert said.status == status


@pytest.mark.parametrize(
    ("details", "step"),
    [
        ("no open alert is 'x'; there is: host-down", "open alerts and their keys: poolwarden alerts"),
        ("no channel of alerts is called 'x'; there is: log", "channels and how they are: poolwarden doctor"),
        ("there is no pool 'x'; there is: lab", "names: poolwarden status"),
    ],
)
def test_a_name_that_is_not_known_is_answered_with_who_lists_such_names(details: str, step: str) -> None:
    assert sentence_of("here", "NOT_FOUND", details, 1.0).next_step == step


def test_what_stands_after_an_empty_line_is_the_collectors_own_next_step() -> None:
    error = sentence_of("here", "INVALID_ARGUMENT", "a token lasts 60 s to 24 h\n\nfor example --ttl 2h", 1.0)
    assert (str(error), error.next_step) == ("a token lasts 60 s to 24 h", "for example --ttl 2h")


def test_at_a_socket_of_this_machine_nobody_is_sent_for_certificates() -> None:
    error = sentence_of("unix:/run/x.sock", "UNAVAILABLE", "Socket closed", 1.0)
    assert "certificate" not in f"{error} {error.next_step}" and "is it running" in error.next_step
