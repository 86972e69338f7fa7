"""Is there a xapi? Against real loopback sockets, with and without TLS, within one hard limit."""

import hashlib
import os
import socket
import ssl
import threading
import time

import pytest

from poolwarden_agent.core.probe_rules import ANSWERED, NO_ANSWER, NOT_XAPI, REFUSED, UNREACHABLE
from poolwarden_agent.dom0.xapi import probes

from . import tree as trees
from .fake_xapi import ALIVE, LOGIN, FakeXapi, answers, enveloped, fault, http, says


def ask(server, limit=2.0, tls=False):
    started = time.monotonic()
    result = probes.is_alive("127.0.0.1", server.port if hasattr(server, "port") else server, limit, tls)
    assert time.monotonic() - started < limit + 8
    return result


@pytest.fixture
def server():
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


def test_an_echo_is_an_answer(server):
    assert ask(server)[:3] == (ANSWERED, "", "answered")
    assert server.calls == [(ALIVE, ["poolwarden"])]


def test_a_fault_is_an_answer_too(server):
    server.behaviours[ALIVE] = fault("HOST_STILL_BOOTING")
    result = ask(server)
    assert result.outcome == ANSWERED and "HOST_STILL_BOOTING" in result.text


@pytest.mark.parametrize(
    "behaviour",
    [
        says(b"SSH-2.0-OpenSSH_7.4\r\n"),
        says(http("<html>welcome</html>")),
        says(http("", "500 Internal Error")),
        says(http("", "302 Found", "Location: https://elsewhere/\r\nContent-Length: %d\r\n")),
        answers("something else"),
        answers(["poolwarden"]),
        says(enveloped("poolwardenx")),
        says(http("x" * 200000)),
    ],
    ids=range(8),
)
def test_what_answers_otherwise_is_no_xapi(server, behaviour):
    server.behaviours[ALIVE] = behaviour
    result = ask(server)
    assert result.outcome == NOT_XAPI and 0 < len(result.text) <= 200


def test_refused_is_not_silent():
    assert ask(closed_port()).outcome == REFUSED


def test_an_accepted_connection_is_no_answer(server):
    server.behaviours[ALIVE] = server.hangs
    assert ask(server, 0.3).outcome == NO_ANSWER
    server.behaviours[ALIVE] = says(b"")
    assert ask(server).outcome == NO_ANSWER


@pytest.mark.slow
def test_a_dribble_is_no_answer(server):
    def dribbles(connection, _params):
        for byte in enveloped({"Status": "Success", "Value": "poolwarden"}):
            connection.sendall(bytes([byte]))
            if server.release.wait(0.02):
                return

    server.behaviours[ALIVE] = dribbles
    assert ask(server, 0.4).outcome == NO_ANSWER


@pytest.mark.parametrize(
    "address", ["master.example", "10.0.0", "", "x" * 300, "\u00e9\u20ac.example", "10.0.0.1\r\nX: y"]
)
def test_names_are_never_looked_up(address):
    started = time.monotonic()
    result = probes.is_alive(address, 443, 1.0, True)
    assert result.outcome == UNREACHABLE and "no IP literal" in result.text
    assert probes.member_of(address, 80, 1.0) == ""
    assert time.monotonic() - started < 8


def test_no_route_is_unreachable(monkeypatch):
    import errno

    def nowhere(*_arguments):
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(probes, "_connect", nowhere)
    assert probes.is_alive("10.0.0.1", 443, 1.0, True)[:3] == (UNREACHABLE, "", "connect: No route to host")


def test_an_unanswered_connect_is_no_answer(monkeypatch):
    def silent(*_arguments):
        raise socket.timeout("timed out")

    monkeypatch.setattr(probes, "_connect", silent)
    result = probes.is_alive("10.0.0.1", 443, 1.5, True)
    assert result.outcome == NO_ANSWER and "1500 ms" in result.text


@pytest.mark.slow
@pytest.mark.needs("openssl")
def test_over_tls_the_certificate_travels_with_the_answer(secure, certificates):
    result = ask(secure, tls=True)
    der = ssl.PEM_cert_to_DER_cert((certificates / "xapi.pem").read_text())
    assert result[:3] == (ANSWERED, hashlib.sha256(der).hexdigest(), "answered")
    secure.behaviours[ALIVE] = secure.hangs
    silent = ask(secure, 0.4, tls=True)
    assert silent.outcome == NO_ANSWER and silent.certificate == result.certificate


@pytest.mark.needs("openssl")
def test_a_proxy_in_front_of_a_dead_xapi_is_no_answer(secure):
    """stunnel completes the handshake, finds nobody on port 80 and closes."""
    secure.behaviours[ALIVE] = says(b"")
    assert ask(secure, tls=True).outcome == NO_ANSWER


def test_a_handshake_that_never_comes_is_no_answer():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        assert ask(listener.getsockname()[1], 0.3, tls=True).outcome == NO_ANSWER


def test_plain_text_where_tls_is_expected_is_no_xapi(server):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)

        def greet():
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        result = ask(listener.getsockname()[1], 1.0, tls=True)
        thread.join()
    assert result.outcome == NOT_XAPI and "TLS" in result.text


@pytest.mark.slow
@pytest.mark.needs("openssl")
def test_descriptors_do_not_leak(server, secure):
    server.behaviours[ALIVE] = server.hangs
    closed = closed_port()

    ask(secure, tls=True)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        ask(closed, 0.05)
        ask(server, 0.05, tls=True)  # the server does not understand a handshake
        ask(secure, 0.5, tls=True)
    trees.until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)


def test_a_member_names_its_master(server):
    server.behaviours[LOGIN] = fault("HOST_IS_SLAVE", "10.0.0.1")
    assert probes.member_of("127.0.0.1", server.port, 1.0) == "10.0.0.1"
    assert server.calls == [(LOGIN, ["x", "x", "1.0", "poolwarden"])]


@pytest.mark.parametrize(
    "behaviour",
    [fault("HOST_STILL_BOOTING"), fault("HOST_IS_SLAVE"), answers("OpaqueRef:x"), says(b"x"), says(b"")],
    ids=range(5),
)
def test_what_names_no_master(server, behaviour):
    server.behaviours[LOGIN] = behaviour
    assert probes.member_of("127.0.0.1", server.port, 1.0) == ""


def test_nobody_is_asked_for_long(server):
    server.behaviours[LOGIN] = server.hangs
    started = time.monotonic()
    assert probes.member_of("127.0.0.1", server.port, 0.3) == ""
    assert probes.member_of("127.0.0.1", closed_port(), 0.3) == ""
    assert time.monotonic() - started < 8
