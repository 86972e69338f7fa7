"""The client for xapi's Unix socket, against servers that hang, dribble, lie, break and forget sessions."""

import os
import threading
import time

import pytest

from poolwarden_agent.dom0.xapi import exchange
from poolwarden_agent.dom0.xapi.client import Xapi
from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiTimeout, XapiUnreachable
from poolwarden_agent.dom0.xapi.exchange import decode_answer

from .fake_xapi import EMERGENCY, LOCAL_LOGIN, LOGIN, FakeXapi, answers, enveloped, fault, http, says
from .tree import until


@pytest.fixture
def server(short):
    running = FakeXapi(str(short / "xapi"))
    running.logs_in()
    running.asks_session(EMERGENCY, False)
    yield running
    running.close()


@pytest.fixture
def client(server, short):
    return Xapi(str(short / "xapi"))


def timed(limit_s, call, error):
    """The call raises this error within its limit and little more."""
    started = time.monotonic()
    with pytest.raises(error) as raised:
        call()
    assert time.monotonic() - started < limit_s + 8
    return raised.value


def test_a_value_and_a_fault(server, client):
    server.behaviours["a.b"] = answers({"x": [1, True, "\u20ac"]})
    assert client.local("a.b", ("p", 1), 2) == {"x": [1, True, "\u20ac"]}
    assert server.calls[-1] == ("a.b", [server.sessions[0], "p", 1])
    error = timed(2, lambda: client.local("no.such", (), 2), XapiFault)
    assert (error.code, error.params) == ("MESSAGE_METHOD_UNKNOWN", ["no.such"])


def test_one_session_for_many_calls_and_it_is_given_back(server, client):
    for _ in range(5):
        assert client.local(EMERGENCY, (), 2) is False
    assert server.methods() == [LOCAL_LOGIN] + [EMERGENCY] * 5
    assert server.calls[0] == (LOCAL_LOGIN, ["root", ""])
    server.behaviours["session.local_logout"] = answers("")
    client.logout()
    assert server.calls[-1] == ("session.local_logout", [server.sessions[0]])
    client.logout()
    assert server.methods().count("session.local_logout") == 1


def test_a_lost_session_is_renewed_once(server, client):
    client.local(EMERGENCY, (), 2)
    del server.sessions[:]
    assert client.local(EMERGENCY, (), 2) is False
    assert server.methods() == [LOCAL_LOGIN, EMERGENCY, EMERGENCY, LOCAL_LOGIN, EMERGENCY]


def test_a_session_that_never_holds_is_an_error_and_no_loop(server, client):
    server.behaviours[EMERGENCY] = fault("SESSION_INVALID", "x")
    timed(2, lambda: client.local(EMERGENCY, (), 2), XapiError)
    assert len(server.calls) == 7, "three logins after the first one"


def test_the_ordinary_session_names_its_originator(server, client):
    server.logs_in(LOGIN)
    server.asks_session("pool.get_all", ["OpaqueRef:p"])
    assert client.full("pool.get_all", (), 2) == ["OpaqueRef:p"]
    del server.sessions[:]
    assert client.full("pool.get_all", (), 2) == ["OpaqueRef:p"]
    assert server.calls[0] == (LOGIN, ["root", "", "1.0", "poolwarden"])
    server.behaviours["pool.get_all"] = fault("SESSION_INVALID", "x")
    timed(2, lambda: client.full("pool.get_all", (), 2), XapiError)
    server.behaviours["pool.get_all"] = fault("HOST_IS_SLAVE", "10.0.0.1")
    assert timed(2, lambda: client.full("pool.get_all", (), 2), XapiFault).code == "HOST_IS_SLAVE"


def test_an_act_is_never_sent_twice_when_its_answer_is_lost(server, client):
    server.behaviours["pool.emergency_transition_to_master"] = says(b"")
    timed(2, lambda: client.local("pool.emergency_transition_to_master", (), 2), XapiUnreachable)
    assert server.methods().count("pool.emergency_transition_to_master") == 1


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.2, 0.5])
def test_a_hang_ends_at_the_limit(server, client, limit):
    server.behaviours["a.b"] = server.hangs
    timed(limit, lambda: client.local("a.b", (), limit), XapiTimeout)
    client.forget()
    server.behaviours[LOCAL_LOGIN] = server.hangs
    timed(limit, lambda: client.local(EMERGENCY, (), limit), XapiTimeout)


@pytest.mark.slow
def test_a_dribble_does_not_stretch_the_limit(server, client):
    def dribbles(connection, _params):
        for byte in enveloped({"Status": "Success", "Value": "x" * 1000}):
            connection.sendall(bytes([byte]))
            if server.release.wait(0.02):
                return

    server.behaviours["a.b"] = dribbles
    timed(0.4, lambda: client.local("a.b", (), 0.4), XapiTimeout)


def test_a_socket_that_does_not_accept_is_a_timeout(short):
    import socket

    path = str(short / "full")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    client, held = Xapi(path), []
    try:
        for _ in range(3):  # fill its queue
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].setblocking(False)
            try:
                held[-1].connect(path)
            except BlockingIOError:
                break
        timed(0.5, lambda: client.local("a.b", (), 0.5), XapiTimeout)
    finally:
        for one in held + [listener]:
            one.close()


@pytest.mark.parametrize("make", [None, "file", "dead"])
def test_no_xapi_is_unreachable(short, make):
    import socket

    path = str(short / "none")
    if make == "file":
        (short / "none").write_text("")
    if make == "dead":
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.close()
    timed(1, lambda: Xapi(path).local("a.b", (), 1), XapiUnreachable)


BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "%s">]><methodResponse/>' % ("a" * 50)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\0" * 100000,
        http("<html>no</html>"),
        http("", "500 Internal Error"),
        http("<html>error</html>", "500 Internal Error"),
        http("x" * 10, "403 Forbidden"),
        http(b"\xff\xfe\xfd"),
        http(BOMB),
        http("<methodResponse><params></params></methodResponse>"),
        http("<methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>"),
        http("<methodResponse><fault><value><string>f</string></value></fault></methodResponse>"),
        enveloped({"Status": "Success", "Value": "x"})[:-20],
        http("short", head="Content-Length: 5000\r\n"),
        http("abc", head="Transfer-Encoding: chunked\r\n"),
    ],
    ids=range(16),
)
def test_what_is_no_answer_is_an_error_and_nothing_worse(server, client, data):
    server.behaviours["a.b"] = says(data)
    error = timed(2, lambda: client.local("a.b", (), 2), XapiError)
    assert not isinstance(error, (XapiFault, XapiTimeout)) and str(error)
    assert client.local(EMERGENCY, (), 2) is False, "and the next call goes well"


@pytest.mark.parametrize("envelope", [{}, {"Status": "Failure"}, {"Status": "Failure", "ErrorDescription": []}])
def test_a_failure_without_a_description_is_no_answer_of_a_xapi(server, client, envelope):
    server.behaviours["a.b"] = says(enveloped(envelope))
    error = timed(2, lambda: client.local("a.b", (), 2), XapiError)
    assert not isinstance(error, XapiFault) and error.asked, "whether it began anything is not known"


def test_a_login_that_fails_began_nothing(server, client):
    server.behaviours[LOCAL_LOGIN] = says(http("x", "500 Internal Error"))
    assert not timed(2, lambda: client.local("a.b", (), 2), XapiError).asked
    server.logs_in()
    client.local(EMERGENCY, (), 2)
    del server.sessions[:]
    server.behaviours[LOCAL_LOGIN] = server.hangs
    assert not timed(0.3, lambda: client.local(EMERGENCY, (), 0.3), XapiTimeout).asked, "nor one that must be renewed"


def test_orders_share_the_ordinary_session_and_renew_it_once(server, client):
    server.logs_in(LOGIN)
    server.asks_session("host.enable", "")
    assert client.order("host.enable", (), 2) == "" and client.order("host.enable", (), 2) == ""
    assert server.methods() == [LOGIN, "host.enable", "host.enable"]
    del server.sessions[:]
    assert client.order("host.enable", (), 2) == ""
    assert server.methods()[3:] == ["host.enable", LOGIN, "host.enable"]
    server.behaviours["host.enable"] = fault("SESSION_INVALID", "x")
    timed(2, lambda: client.order("host.enable", (), 2), XapiError)
    assert server.methods().count("host.enable") == 6
    server.behaviours["host.enable"] = fault("HOST_DISABLED", "h")
    assert timed(2, lambda: client.order("host.enable", (), 2), XapiFault).code == "HOST_DISABLED"


def test_an_answer_is_bounded(server, client, monkeypatch):
    monkeypatch.setattr(exchange, "BIGGEST_ANSWER", 100000)
    server.behaviours["a.b"] = says(http("x" * 200000))
    with pytest.raises(XapiError, match="more than 100000 bytes"):
        client.local("a.b", (), 2)


def test_a_large_answer_is_read_in_linear_time(server, client):
    server.behaviours["a.b"] = answers("x" * (4 * 1024 * 1024))
    started = time.process_time()
    assert len(client.local("a.b", (), 20)) == 4 * 1024 * 1024
    assert time.process_time() - started < 3


def test_without_a_length_it_reads_until_the_end(server, client):
    body = enveloped({"Status": "Success", "Value": "x"}).partition(b"\r\n\r\n")[2]
    server.behaviours["a.b"] = says(http(body, head=""))
    assert client.local("a.b", (), 2) == "x"


@pytest.mark.slow
def test_an_unanswered_look_is_waited_for_and_not_asked_again(server, client):
    """A hung xapi keeps one server thread for each call: looking must not use them up."""
    client.local(EMERGENCY, (), 2, look=True)
    server.behaviours[EMERGENCY] = server.hangs
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        timed(0.05, lambda: client.local(EMERGENCY, (), 0.05, look=True), XapiTimeout)
    assert server.methods().count(EMERGENCY) == 2
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # ours and the server's end of one connection


def test_the_late_answer_of_a_look_is_used(server, client):
    client.local(EMERGENCY, (), 2, look=True)

    def late(connection, params):
        server.release.wait(10)
        answers(True)(connection, params)

    server.behaviours[EMERGENCY] = late
    timed(0.1, lambda: client.local(EMERGENCY, (), 0.1, look=True), XapiTimeout)
    server.release.set()
    assert client.local(EMERGENCY, (), 2, look=True) is True
    assert server.methods().count(EMERGENCY) == 2


def test_patience_with_an_unanswered_look_ends(server, short):
    now = [1000.0]
    client = Xapi(str(short / "xapi"), lambda: now[0])
    client.local(EMERGENCY, (), 2, look=True)
    server.behaviours[EMERGENCY] = server.hangs
    timed(0.1, lambda: client.local(EMERGENCY, (), 0.1, look=True), XapiTimeout)
    server.asks_session(EMERGENCY, True)
    timed(0.1, lambda: client.local(EMERGENCY, (), 0.1, look=True), XapiTimeout)
    now[0] += 60
    assert client.local(EMERGENCY, (), 2, look=True) is True


def test_another_look_comes_after_the_unanswered_one(server, client):
    client.local(EMERGENCY, (), 2, look=True)

    def late(connection, params):
        server.release.wait(10)
        answers(True)(connection, params)

    server.behaviours[EMERGENCY] = late
    timed(0.1, lambda: client.local(EMERGENCY, (), 0.1, look=True), XapiTimeout)
    server.asks_session("host.local_assert_healthy", "")
    timed(0.1, lambda: client.local("host.local_assert_healthy", (), 0.1, look=True), XapiTimeout)
    assert "host.local_assert_healthy" not in server.methods(), "never two looks in flight"
    server.release.set()
    assert client.local("host.local_assert_healthy", (), 2, look=True) == ""


def test_an_order_does_not_wait_for_a_hanging_look(server, client):
    client.local(EMERGENCY, (), 2, look=True)
    server.behaviours[EMERGENCY] = server.hangs
    timed(0.1, lambda: client.local(EMERGENCY, (), 0.1, look=True), XapiTimeout)
    server.asks_session("pool.emergency_transition_to_master", "")
    assert client.local("pool.emergency_transition_to_master", (), 2) == ""


def test_another_xapi_process_begins_anew(server, client):
    client.local(EMERGENCY, (), 2, look=True)
    server.behaviours[EMERGENCY] = server.hangs
    timed(0.1, lambda: client.local(EMERGENCY, (), 0.1, look=True), XapiTimeout)
    client.forget()
    server.asks_session(EMERGENCY, False)
    assert client.local(EMERGENCY, (), 2, look=True) is False
    assert server.methods().count(LOCAL_LOGIN) == 2


@pytest.mark.slow
def test_a_second_caller_waits_for_the_first_within_its_own_limit(server, client):
    server.behaviours["a.b"] = server.hangs
    first = threading.Thread(target=lambda: pytest.raises(XapiTimeout, client.local, "a.b", (), 1.0))
    first.start()
    until(lambda: "a.b" in server.methods())
    error = timed(0.3, lambda: client.local("c.d", (), 0.3), XapiTimeout)
    assert "in flight" in str(error) and "c.d" not in server.methods()
    first.join()


def test_two_threads_share_one_session(server, client):
    threads = [threading.Thread(target=client.local, args=(EMERGENCY, (), 5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.methods().count(LOCAL_LOGIN) == 1 and server.methods().count(EMERGENCY) == 8


@pytest.mark.slow
def test_descriptors_and_threads_stay_flat_over_many_hung_calls(server, client):
    server.behaviours["a.b"] = server.hangs
    server.behaviours[EMERGENCY] = server.hangs

    def ours():
        """Descriptors and threads without those of the server's hung side."""
        return len(os.listdir("/proc/self/fd")) - len(server.open), threading.active_count() - len(server.open)

    descriptors, threads = ours()
    for _ in range(60):
        timed(0.02, lambda: client.local("a.b", (), 0.02), XapiTimeout)
        timed(0.02, lambda: client.local(EMERGENCY, (), 0.02, look=True), XapiTimeout)
    until(lambda: ours()[0] <= descriptors + 1 and ours()[1] <= threads)


def test_nobody_logs_out_of_a_hung_xapi_for_long(server, client):
    client.local(EMERGENCY, (), 2)
    server.behaviours["session.local_logout"] = server.hangs
    started = time.monotonic()
    client.logout(0.2)
    assert time.monotonic() - started < 8


# ------------------------------------------------------------------------------------------ an answer's bytes

MEMBER = "<member><name>%s</name>%s</member>"
ENVELOPE = "<struct>" + MEMBER % ("Status", "<value>Success</value>") + MEMBER % ("Value", "%s") + "</struct>"
OF_WORD = ENVELOPE % "<value>poolwarden</value>"


def answer(body, head="HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"):
    text = "<methodResponse><params><param><value>%s</value></param></params></methodResponse>" % body
    return ((head % len(text) if "%d" in head else head) + "\r\n" + text).encode()


def test_the_same_bytes_are_the_same_answer_and_what_can_be_changed_is_made_anew():
    assert decode_answer(answer(OF_WORD)) == decode_answer(answer(OF_WORD)) == "poolwarden"
    listed = answer(ENVELOPE % "<value><array><data><value>a</value></data></array></value>")
    decode_answer(listed).append("changed")
    assert decode_answer(listed) == ["a"]
    fault = answer(OF_WORD.replace("Success", "Failure"))
    for _ in range(2):
        with pytest.raises(XapiFault):
            decode_answer(fault)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length:%d\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n",
        "HTTP/1.1 200\r\nContent-Length: %d\r\n",
    ],
)
def test_answers_as_xapi_writes_them(head):
    assert decode_answer(answer(OF_WORD, head)) == "poolwarden"


def test_a_chunked_answer_is_read_the_long_way():
    body = answer(OF_WORD).partition(b"\r\n\r\n")[2]
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert decode_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked) == "poolwarden"


@pytest.mark.parametrize(
    "data",
    [
        answer(OF_WORD)[:-1],
        answer(OF_WORD).replace(b"200 OK", b"500 no"),
        answer(OF_WORD).replace(b"HTTP/1.1", b"HTTX/1.1"),
        answer(OF_WORD).replace(b"200", b"20"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<!DOCTYPE x>",
    ],
)
def test_what_is_no_whole_answer_is_none(data):
    with pytest.raises(XapiError):
        decode_answer(data)
