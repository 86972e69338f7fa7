"""What a host says of its role, over both ports, against real sockets; and whether it is there at all."""

import os
import socket
import threading
import time

import pytest

from poolwarden_agent.core.boot_gate import ACTS, FOLLOWS, SILENT, UNTOLD, Told
from poolwarden_agent.core.probe_rules import ANSWERED, NO_ANSWER, NOT_XAPI, REFUSED, UNREACHABLE, ProbeResult
from poolwarden_agent.dom0.system import ping
from poolwarden_agent.dom0.system.ping import Ping
from poolwarden_agent.dom0.xapi import probes, roles

from . import tree as trees
from .fake_xapi import ALIVE, LOGIN, FakeXapi, answers, fault, http, says

SLAVE = fault("HOST_IS_SLAVE", "10.0.0.1")


@pytest.fixture
def plain():
    running = FakeXapi()
    yield running
    running.close()


@pytest.fixture
def secure(certificates):
    trees.certificate(certificates, "xapi", "DNS:anything")
    running = FakeXapi(tls=(str(certificates / "xapi.pem"), str(certificates / "xapi.key")))
    yield running
    running.close()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def filtered():
    """A port whose connects are neither taken nor refused: the queue of its listener is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(listener.getsockname())
        waiting.append(link)
    yield listener.getsockname()[1]
    for link in [*waiting, listener]:
        link.close()


def told(tls, clear, limit=0.4):
    ports = [each.port if hasattr(each, "port") else each for each in (tls, clear)]
    began = time.monotonic()
    found = roles.told("127.0.0.1", roles.Ports(*ports), limit)
    assert time.monotonic() - began < 2 * limit + 0.6
    return found


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("login, said", [(SLAVE, (FOLLOWS, "10.0.0.1")), (answers("OpaqueRef:x"), (ACTS, ""))])
def test_a_role_is_told_over_tls_where_the_plain_port_is_filtered(secure, filtered, login, said):
    secure.behaviours[LOGIN] = login
    found = told(secure, filtered)
    assert found[:2] == said and len(found.certificate) == 64 and "port" in found.text
    assert secure.methods() == [ALIVE, LOGIN], "asked once, so that a master runs PAM once"


@pytest.mark.needs("openssl")
def test_the_plain_port_is_not_asked_where_the_other_one_answers(secure, plain):
    secure.behaviours[LOGIN] = SLAVE
    assert told(secure, plain, 2.0).said == FOLLOWS and not plain.calls


def test_the_plain_port_is_the_other_way(plain, filtered):
    plain.behaviours[LOGIN] = SLAVE
    assert told(closed_port(), plain)[:3] == (FOLLOWS, "10.0.0.1", "")
    assert told(filtered, plain)[:3] == (FOLLOWS, "10.0.0.1", "")


@pytest.mark.slow
@pytest.mark.parametrize("login", [fault("SESSION_AUTHENTICATION_FAILED"), "hangs"], ids=["refuses", "hangs"])
def test_whoever_is_alive_and_names_no_master_acts(plain, login):
    plain.behaviours[LOGIN] = plain.hangs if login == "hangs" else login  # a master runs PAM before it answers
    assert told(closed_port(), plain)[:2] == (ACTS, "")


def test_emergency_mode_serves_nobody_and_names_nobody(plain):
    plain.behaviours[ALIVE] = fault("HOST_STILL_BOOTING")
    found = told(closed_port(), plain)
    assert found.said == SILENT and "HOST_STILL_BOOTING" in found.text and plain.methods() == [ALIVE]


@pytest.mark.slow
@pytest.mark.parametrize(
    "behaviour", ["hangs", says(b""), says(http("<html>a proxy</html>"))], ids=["hangs", "closes", "is no xapi"]
)
def test_whoever_takes_a_connection_and_tells_nothing_is_alive(plain, filtered, behaviour):
    plain.behaviours[ALIVE] = plain.hangs if behaviour == "hangs" else behaviour
    found = told(filtered, plain)
    assert found.said == UNTOLD and "port %d: " % plain.port in found.text


@pytest.mark.slow
@pytest.mark.needs("openssl")
def test_a_tls_handshake_before_a_dead_xapi_is_life_and_its_certificate_is_told(secure, filtered):
    secure.behaviours[ALIVE] = says(b"")
    found = told(secure, filtered)
    assert found.said == UNTOLD and len(found.certificate) == 64


@pytest.mark.slow
def test_nothing_at_all_is_silence(filtered):
    found = told(filtered, filtered)
    assert found.said == SILENT and "no answer" in found.text
    assert told(closed_port(), closed_port()).said == SILENT, "the asker's own kernel refuses at a loopback address"


REFUSES = ProbeResult(REFUSED, "", "connect: refused")
DARK = ProbeResult(NO_ANSWER, "", "connect: no answer within 400 ms", accepted=False)
NO_ROUTE = ProbeResult(UNREACHABLE, "", "connect: No route to host", accepted=False)
HUNG = ProbeResult(NO_ANSWER, "00ff", "accepted the connection and did not answer")
OTHER = ProbeResult(NOT_XAPI, "", "it answered, but not what a xapi answers")
EMERGENCY = ProbeResult(ANSWERED, "00ff", "answered: HOST_BROKEN")


@pytest.mark.parametrize(
    "tls, clear, echo, said",
    [
        (DARK, DARK, False, SILENT),
        (NO_ROUTE, NO_ROUTE, False, SILENT),
        (DARK, DARK, True, UNTOLD),
        (NO_ROUTE, DARK, True, UNTOLD),
        (REFUSES, DARK, False, UNTOLD),
        (DARK, REFUSES, False, UNTOLD),
        (HUNG, DARK, False, UNTOLD),
        (DARK, HUNG, False, UNTOLD),
        (OTHER, DARK, False, UNTOLD),
        (EMERGENCY, DARK, True, SILENT),
        (REFUSES, EMERGENCY, True, SILENT),
    ],
    ids=range(11),
)
def test_what_counts_as_alive(monkeypatch, tls, clear, echo, said):
    monkeypatch.setattr(probes, "is_alive", lambda address, port, limit, secure: tls if secure else clear)
    monkeypatch.setattr(ping, "ask", lambda address, limit: Ping(echo, "answers ping" if echo else "no answer"))
    found = roles.told("10.0.0.9", roles.Ports(443, 80), 0.2)
    assert found.said == said and found.certificate == tls.certificate
    assert "port 443: %s; port 80: %s" % (tls.text, clear.text) in found.text


def test_many_are_asked_at_the_same_time_and_each_once():
    asked, together, most, lock = [], [0], [0], threading.Lock()

    def ask(address):
        with lock:
            asked.append(address)
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.05)
        with lock:
            together[0] -= 1
        return Told(FOLLOWS, address)

    addresses = ["10.0.0.%d" % n for n in range(40)]
    found = roles.of_all([*addresses, *addresses], ask)
    assert sorted(asked) == sorted(addresses) and most[0] <= roles.TOGETHER and most[0] > 4
    assert all(found[address].master == address for address in addresses)
    assert roles.of_all([], ask) == {}


# ---------------------------------------------------------------------------------------------- ping


def test_loopback_and_names_are_not_pinged():
    for address in ("127.0.0.1", "127.1.2.3", "::1", "master.example", ""):
        assert ping.ask(address, 1.0) == Ping(False, "not pinged")


@pytest.mark.parametrize("version", [4, 6])
def test_an_echo_reply_counts_only_with_its_own_token(version):
    token = b"0123456789abcdef"
    reply = {4: b"\0", 6: b"\x81"}[version] + b"\0\0\0" + b"\1\2\0\1" + token
    head = (b"\x45" + bytes(19)) if version == 4 else b""
    assert ping.answers(version, True, head + reply, token)
    assert ping.answers(version, False, reply, token)
    for wrong in (b"", head, head + reply[:-1], head + b"\x08" + reply[1:], head + reply[:-1] + b"!"):
        assert not ping.answers(version, True, wrong, token)


def test_an_echo_request_is_whole():
    request = ping.echo_request(4, b"0123456789abcdef")
    assert request[0] == 8 and len(request) == 24 and ping._checksum(request) == 0
    assert ping.echo_request(6, b"0123456789abcdef")[0] == 128


def _own_address():
    """An address of this machine that is not a loopback one; its kernel answers itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            link.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return link.getsockname()[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="a raw ICMP socket wants root")
def test_a_kernel_answers():
    address = _own_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    assert ping.ask(address, 1.0) == Ping(True, "answers ping")
    began = time.monotonic()
    assert not ping.ask("192.0.2.77", 0.3).answered and time.monotonic() - began < 1.0
