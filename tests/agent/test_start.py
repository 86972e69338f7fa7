"""Starting the agent: configuration, certificates, inventory; each mistake is one line, what to do, and status 2."""

import os
import subprocess
import sys

import pytest

from poolwarden_agent.config import ConfigError, load
from poolwarden_agent.process import log

from . import tree as trees
from .conftest import configure


def run(tree, *arguments):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(str(trees.HERE / part) for part in ("protos", "agent")))
    process = subprocess.Popen(
        [sys.executable, "-m", "poolwarden_agent", "--root", str(tree.root)] + list(arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = process.communicate(timeout=20)[0].decode()
    return process.returncode, said


def fails(tree, *words):
    code, said = run(tree)
    assert code == 2 and len(said.splitlines()) == 1 and said.startswith("poolwarden-agent: "), said
    for word in words:
        assert word in said, said


def test_no_configuration(tree):
    fails(tree, "agent.conf", "No such file", "collector = HOST:PORT")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["[agent]"]),
        ("collector = a:1\n", ["agent.conf"]),
        ("[agent]\n", ["collector is missing"]),
        ("[agent]\ncollector = somewhere\n", ["'somewhere'", "HOST:PORT"]),
        ("[agent]\ncollector = a:1, b\n", ["'b'", "HOST:PORT"]),
        ("[agent]\ncollector = ,\n", ["collector is missing"]),
        ("[agent]\ncollector = a:1, [::1]:1, a:1\n", ["twice"]),
        (
            "[agent]\ncollector = %s\n" % ", ".join("a:%d" % port for port in range(1, 18)),
            ["17 addresses", "at most 16"],
        ),
        ("[agent]\ncollector = a:99999\n", ["'99999'", "1..65535"]),
        ("[agent]\ncollector = a:1\ncolector = b:1\n", ["unknown key colector", "collector_name"]),
        ("[agent]\ncollector = a:1\ncollector = b:1\n", ["collector"]),
        ("[agent]\ncollector = a:1\nxapi_tls_port = x\n", ["xapi_tls_port"]),
        ("[agent]\ncollector = a:1\nxapi_http = :80\n", ["xapi_http"]),
        ("[agent]\ncollector = a:1\nmanagement_address = host.example\n", ["management_address", "IP address"]),
        ("[agent]\ncollector = a:1\nbmc_address = bmc\n", ["bmc_address", "IP address"]),
        (b"[agent]\ncollector = \xff\xfe\n", ["UTF-8"]),
        (b"\0\0\0", ["agent.conf"]),
    ],
)
def test_a_configuration_that_is_wrong(tree, text, words):
    tree.put("etc/poolwarden/agent.conf", text)
    path = tree.path("etc/poolwarden/agent.conf")
    with pytest.raises(ConfigError) as raised:
        load(path, str(tree.root))
    for word in words + [path]:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_configuration_that_is_right(tree):
    tree.put("c", "[agent]\ncollector = [2001:db8::1]:9000, other:1\nbmc_address = 10.0.0.1\n# \u20ac\n")
    config = load(tree.path("c"), "/r")
    assert config.collectors == (("2001:db8::1", 9000), ("other", 1)) and config.collector_name == "collector"
    assert (config.xapi_http, config.xapi_tls_port) == (("127.0.0.1", 80), 443)
    assert (config.ca, config.key) == ("/r/etc/poolwarden/tls/ca.pem", "/r/etc/poolwarden/tls/key.pem")
    assert config.bmc_address == "10.0.0.1" and config.management_address == ""


def test_no_certificate(tree):
    configure(tree, 1)
    fails(tree, "ca.pem", "certificate")


def test_an_unknown_user(tree):
    configure(tree, 1, "user = nobody-of-that-name\n")
    if os.geteuid() == 0:
        fails(tree, "nobody-of-that-name", "does not exist")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["etc/xensource-inventory", "proc/sys/kernel/random/boot_id"])
def test_what_is_no_dom0(tree, path):
    configure(tree, 1)
    for name in ("ca", "cert", "key"):
        tree.put("etc/poolwarden/tls/%s.pem" % name, "x")
    os.unlink(tree.path(path))
    fails(tree, "INSTALLATION_UUID", "dom0")


def test_the_version(tree):
    code, said = run(tree, "--version")
    assert code == 0 and said.startswith("poolwarden-agent ")


def test_the_host_side_never_imports_grpc():
    """Everything that it imports, in a process of its own."""
    script = (
        "import sys\n"
        "from poolwarden_agent import __main__\nfrom poolwarden_agent.host import host_side, observer\n"
        "from poolwarden_agent.messages import reports\nfrom poolwarden_agent.process import link_process, runner\n"
        "from poolwarden_agent.dom0 import dom0\n"
        "bad = [m for m in sys.modules if m.split('.')[0] == 'grpc' or m.endswith('_grpc') or 'link.client' in m]\n"
        "sys.exit(', '.join(bad) or 0)\n"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(str(trees.HERE / part) for part in ("protos", "agent")))
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said


def test_the_log_is_one_line_and_does_not_flood(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(log, "_seen", {})
    log.name("h1")
    for number in range(50):
        log.say("line\n%d" % number, "topic")
    log.say("another")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "poolwarden-agent[h1]: line 0" and len(lines) == log.PER_MINUTE + 1
    now[0] += 61
    log.say("line 50", "topic")
    lines = capsys.readouterr().err.splitlines()
    assert "44 more lines" in lines[0] and lines[1].endswith("line 50")
    for number in range(600):
        log.say("unique %d" % number)
    assert len(log._seen) <= 501
    log.name("-")


def test_a_log_that_cannot_be_written_is_no_reason_to_stop(monkeypatch):
    class Broken(object):
        def write(self, _text):
            raise OSError("no space left")

    monkeypatch.setattr(log.sys, "stderr", Broken())
    log.say("never mind", "broken")
