"""The link side's relay: what belongs to another stream is dropped, what the collector does not take is bounded."""

import asyncio
import socket

import pytest

from poolwarden_agent.core.collector_turns import Turns
from poolwarden_agent.link import client
from poolwarden_agent.process.pipe import PipeError, numbered

AT = ("127.0.0.1", 1)


@pytest.fixture
def relay():
    """A relay whose third stream is up."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    ours, theirs = socket.socketpair()
    made = client.Relay(theirs, None, None, "", Turns([AT]))
    made._stream = 3
    made._outgoing = asyncio.Queue()
    yield made
    ours.close()
    theirs.close()
    loop.close()
    asyncio.set_event_loop(None)


def waiting(relay):
    return [relay._outgoing.get_nowait() for _ in range(relay._outgoing.qsize())]


def test_only_this_streams_messages_go_out(relay):
    for stream, message in ((2, b"late report"), (3, b"hello"), (4, b"odd"), (3, b"report")):
        relay._take(numbered(stream, message))
    assert waiting(relay) == [b"hello", b"report"]
    relay._outgoing = None
    relay._take(numbered(3, b"nobody there"))


def test_a_message_without_a_stream_ends_the_link_side(relay):
    with pytest.raises(PipeError):
        relay._take(b"x")


def test_a_collector_that_does_not_read_gets_a_new_stream_and_no_heap(relay):
    for _ in range(client.MOST_WAITING + 50):
        relay._take(numbered(3, b"report"))
    assert relay._renew.is_set() and len(waiting(relay)) == client.MOST_WAITING


@pytest.mark.parametrize(
    "library, plain",
    [
        ("UNKNOWN: Ssl handshake failed", "not of the authority in ca.pem"),
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: OPENSSL_internal", "not of the authority"),
        ("UNAVAILABLE: Socket closed", "cert.pem is of another authority"),
        ("UNKNOWN: Peer name elsewhere is not in peer certificate", "collector_name in agent.conf"),
    ],
)
def test_a_failed_handshake_is_said_in_words_that_help(library, plain):
    said = client.plainly("failed to connect to all addresses; last error: " + library)
    assert plain in said and library in said
    assert client.plainly("Connection refused") == "Connection refused"


def test_without_certificates_it_says_why_and_goes_on(relay):
    relay._trouble = "/etc/poolwarden/tls/ca.pem: Permission denied"
    said = asyncio.get_event_loop().run_until_complete(relay._one_stream(AT, None))
    assert said.why == "certificate files: /etc/poolwarden/tls/ca.pem: Permission denied"


def test_a_certificate_file_that_is_gone_or_empty_is_named(short):
    from poolwarden_agent.config import ConfigError, load, read_certificates

    (short / "agent.conf").write_text("[agent]\ncollector = 127.0.0.1:1\n")
    config = load(str(short / "agent.conf"), str(short))
    with pytest.raises(ConfigError, match="ca.pem: No such file"):
        read_certificates(config)
    (short / "etc/poolwarden/tls").mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (short / "etc/poolwarden/tls" / name).write_bytes(b"" if name == "key.pem" else b"x")
    with pytest.raises(ConfigError, match="key.pem: it is empty"):
        read_certificates(config)
