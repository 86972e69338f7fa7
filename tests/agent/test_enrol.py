"""``poolwarden-agent enrol`` against a real HTTPS server: what it writes, what it refuses, and what a kill leaves."""

import os
import stat

import pytest

from poolwarden_agent.commands import enrol
from poolwarden_agent.config import load, read_certificates
from poolwarden_agent.dom0.identity.tls_files import TlsFiles
from poolwarden_agent.dom0.system import order_key

from . import tree as trees
from .enrolment_server import ORDER_KEY, EnrolmentServer, fingerprint
from .test_tls_files import killed_at

pytestmark = [pytest.mark.needs("openssl"), pytest.mark.slow]
TOKEN = "token-0123456789"
CONF = (
    "# ours\n[agent]\n\n# Where it listens.\n#collector = x.example.com:7443\nuser = poolwarden\n"
    "#collector_name = collector\n"
)


@pytest.fixture
def server(certificates):
    """A collector's enrolment address."""
    running = EnrolmentServer(certificates)
    yield running
    running.stop()


@pytest.fixture
def call(tree, server, capsys):
    """Run the command on the tree; exit status and all that it said."""
    tree.put("etc/poolwarden/agent.conf", CONF, 0o640)
    whole = {"--collector": server.address, "--token": TOKEN, "--ca-fingerprint": fingerprint(server.directory)}

    def run(*extra, **changes):
        given = dict(whole, **{"--" + name.replace("_", "-"): value for name, value in changes.items()})
        words = [word for pair in given.items() for word in pair if pair[1] is not None]
        status = enrol.main(words + list(extra) + ["--root", str(tree.root)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def tls(tree):
    return TlsFiles(tree.path("etc/poolwarden/tls"))


def pair_is_good(tree):
    read_certificates(load(tree.path("etc/poolwarden/agent.conf"), str(tree.root)))
    return True


def test_a_host_is_enrolled_with_a_key_of_its_own(tree, server, call):
    status, said = call()
    assert status == 0 and "systemctl enable --now poolwarden-agent" in said
    (asked,) = server.asked
    assert "PRIVATE KEY" not in str(asked) and asked["csr"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert (asked["token"], asked["host_uuid"], asked["pool_uuid"]) == (TOKEN, trees.HOST, trees.POOL)
    assert asked["machine"]["system_uuid"] == "dmi-1" and asked["host_name"] == "h1"
    found = {name: stat.S_IMODE(os.stat(tls(tree).path(name)).st_mode) for name in os.listdir(tls(tree).directory)}
    assert found == dict.fromkeys(["ca.pem", "cert.pem", "key.pem", "order-key", "renewal"], 0o600)
    assert tree.text("etc/poolwarden/tls/order-key") == ORDER_KEY + "\n" and pair_is_good(tree)
    conf = tree.text("etc/poolwarden/agent.conf")
    added = "#collector = x.example.com:7443\ncollector = 127.0.0.1:7443\nuser = poolwarden\n"
    assert added in conf and conf.startswith("# ours\n[agent]\n") and conf.endswith("\ncollector_name = collector\n")
    assert stat.S_IMODE(os.stat(tree.path("etc/poolwarden/agent.conf")).st_mode) == 0o640


def test_a_second_run_asks_with_the_same_key_and_a_new_key_only_where_it_is_asked_for(tree, server, call):
    call()
    first = tls(tree).read("key.pem")
    assert call()[0] == 0 and tls(tree).read("key.pem") == first
    assert call("--new-key")[0] == 0 and tls(tree).read("key.pem") != first and pair_is_good(tree)


def test_a_second_key_waits_for_a_person_and_is_the_same_at_the_next_run(tree, server, call):
    server.refusals.append((202, {"waiting": "this host is known by another key", "key_sha256": "00"}))
    status, said = call()
    assert status == enrol.WAITS and "this host is known by another key" in said
    assert "poolwarden enrolment accept" in said and "run this again" in said
    assert sorted(os.listdir(tls(tree).directory)) == ["next-key.pem"], "nothing is in use before it is accepted"
    waiting = tls(tree).read("next-key.pem")
    assert call()[0] == 0 and tls(tree).read("key.pem") == waiting
    assert server.asked[0]["csr"] != "" and not os.path.exists(tls(tree).path("next-key.pem"))


REFUSED = {"error": "token-expired", "text": "that token ended at 12:00", "next_step": "make another one"}


def test_a_refusal_is_told_with_what_to_do(tree, server, call):
    server.refusals.append((403, REFUSED))
    status, said = call()
    assert status == enrol.REFUSED and "that token ended at 12:00\n  make another one" in said and TOKEN not in said
    assert not os.path.exists(tls(tree).path("cert.pem")) and "#collector = x" in tree.text("etc/poolwarden/agent.conf")


def test_what_a_server_says_cannot_write_on_the_terminal(tree, server, call):
    server.refusals.append((403, {"error": "x", "text": "a\x1b[2Jb\nc", "next_step": 7}))
    assert "a?[2Jb c" in call()[1]


def test_the_token_is_not_sent_where_the_authority_is_another_one(tree, server, call):
    status, said = call(ca_fingerprint="0" * 64)
    assert status == enrol.UNREACHED and "nothing was sent to it" in said and fingerprint(server.directory) in said
    assert server.asked == []


def test_a_fingerprint_is_taken_as_people_copy_it(tree, server, call):
    digits = fingerprint(server.directory).upper()
    pairs = ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    assert call(ca_fingerprint="SHA256:" + pairs)[0] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"collector": "nonsense"}, "no address: expected HOST:PORT"),
        ({"ca_fingerprint": "12"}, "no fingerprint"),
        ({"token": "a b"}, "no token"),
        ({"token": "@/nonexistent"}, "the token's file"),
        ({"collector": "127.0.0.1:1"}, "cannot be reached"),
        ({"token": None}, "enrol needs --collector"),
    ],
)
def test_a_mistake_is_one_line_and_the_next_step(tree, server, call, changes, said):
    status, out = call(**changes)
    assert status in (enrol.WRONG, enrol.UNREACHED) and said in out and out.count("\n") <= 2 and server.asked == []


def test_the_token_comes_from_a_file_or_standard_input(tree, server, call, monkeypatch):
    tree.put("token", TOKEN + "\n", 0o600)
    assert call(token="@" + tree.path("token"))[0] == 0
    with open(tree.path("token")) as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        assert call(token="-")[0] == 0
    assert [asked["token"] for asked in server.asked] == [TOKEN, TOKEN]


@pytest.mark.parametrize(
    "changes",
    [
        {"collector": "x:1\nuser = root"},
        {"collector": ""},
        {"collector_name": "a\nb"},
        {"order_key": "zz"},
        {"order_keys": ["zz"]},
        {"order_keys": "ab" * 32},
        {"order_keys": [ORDER_KEY, 7]},
        {"order_keys": ["%064x" % number for number in range(16)]},
        {"collectors": ["x:1\nuser = root"]},
        {"collectors": "x:1"},
        {"collectors": ["x:1", ""]},
        {"collectors": ["x:%d" % (number + 1) for number in range(16)]},
        {"certificate": "x"},
        {"ca": ""},
    ],
)
def test_an_answer_that_is_none_changes_nothing(tree, server, call, changes):
    server.changes = changes
    assert call()[0] == enrol.REFUSED and not os.path.exists(tls(tree).path("cert.pem"))
    assert tree.text("etc/poolwarden/agent.conf") == CONF


def test_a_certificate_of_another_key_is_not_installed(tree, server, call, certificates):
    server.changes = {"certificate": (certificates / "host.pem").read_text()}
    status, said = call()
    assert status == enrol.WRONG and "not one of this host's key" in said
    assert sorted(os.listdir(tls(tree).directory)) == ["next-key.pem"]


def test_files_of_ones_own_are_left_alone(tree, server, call):
    tree.put("etc/poolwarden/agent.conf", "[agent]\ncertificate = /pki/host.pem\n")
    status, said = call()
    assert status == enrol.WRONG and "certificate = ..." in said and server.asked == []


@pytest.mark.parametrize("step", [1, 3, 8, 9, 11, 12])
def test_a_kill_leaves_what_a_second_run_mends(tree, server, call, monkeypatch, step):
    assert killed_at(monkeypatch, step, call) == step
    assert call()[0] == 0 and pair_is_good(tree)
    assert [name for name in os.listdir(tls(tree).directory) if name.endswith((".new", ".part"))] == []


def test_the_collectors_and_the_keys_of_all_of_them_are_taken(tree, server, call, capsys):
    others = ["cd" * 32, "ef" * 32]
    server.changes = {"collectors": ["b.example:1", server.agents, "[fd00::1]:1"], "order_keys": [ORDER_KEY] + others}
    assert call()[0] == 0
    assert "\ncollector = 127.0.0.1:7443, b.example:1, [fd00::1]:1\n" in tree.text("etc/poolwarden/agent.conf")
    keys = order_key.OrderKeys(tree.path(""))
    assert [each.public.hex() for each in keys.look().keys] == [ORDER_KEY] + others
    assert enrol.main(["--status", "--root", str(tree.root)]) == 0
    said = capsys.readouterr().out
    assert "signed by key %s, or key %s, or key %s" % (ORDER_KEY, *others) in said
    assert "127.0.0.1:7443, b.example:1, [fd00::1]:1, named collector" in said and "now:" in said
    server.changes = {}
    assert call()[0] == 0
    assert [each.public.hex() for each in keys.look().keys] == [ORDER_KEY], "whoever is not named is not obeyed"
    assert "\ncollector = 127.0.0.1:7443\n" in tree.text("etc/poolwarden/agent.conf")


def test_start_enables_and_restarts_it(tree, server, call):
    tree.systemctl("exit 0")
    assert call("--start")[0] == 0
    assert tree.calls() == ["enable poolwarden-agent.service", "restart poolwarden-agent.service"]
    tree.systemctl("echo Unit is masked; exit 1")
    status, said = call("--start")
    assert status == enrol.WRONG and "Unit is masked" in said


def test_status_shows_certificate_pinned_key_and_collector(tree, server, call, capsys):
    assert enrol.main(["--status", "--root", str(tree.root)]) == 1
    assert "not enrolled" in capsys.readouterr().out
    call()
    assert enrol.main(["--status", "--root", str(tree.root)]) == 0
    said = capsys.readouterr().out
    assert "poolwarden://pool/%s/host/%s" % (trees.POOL, trees.HOST) in said and "after 24 h" in said
    assert "signed by key " + ORDER_KEY in said and "127.0.0.1:7443" in said and "serial " in said
