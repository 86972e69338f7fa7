"""Mail through a real SMTP server: verified, logged in, one thread for each alert, and nothing in it from outside."""

from __future__ import annotations

import asyncio
import contextlib
import email.policy
import logging
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from poolwarden_collector.shell.alerts.channels.mail import MailSink, message
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Mail

from .peers import EVIL, Authority, authority, drip, parcel, silent, tcp_peer

# Servers of every kind are played here, those that ask for a login without TLS as well.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")

USER, PASSWORD = "watch@example.com", "m4il-s3cret"


class Server:
    """What an SMTP server has taken; ``refuses``: a recipient -> its answer; ``answer``: to each message."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.logins: list[bytes] = []
        self.secured: list[bool] = []
        self.refuses: dict[str, str] = {}
        self.answer = "250 OK"
        self.port = 0

    async def handle_RCPT(self, _: Any, __: Any, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            parser: BytesParser[EmailMessage] = BytesParser(policy=email.policy.default)  # type: ignore[assignment]
            assert isinstance(envelope.content, bytes)
            self.taken.append(parser.parsebytes(envelope.content))
            self.to.append(envelope.rcpt_tos)
            self.secured.append(session.ssl is not None)
        return self.answer

    def login(self, *given: Any) -> AuthResult:
        login = given[-1]
        assert isinstance(login, LoginPassword)
        self.logins.append(login.login)
        good = (login.login, login.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)


@contextlib.contextmanager
def server(tls: Authority | None = None, security: str = "none", login: bool = False) -> Iterator[Server]:
    peer = Server()

    def connection() -> SMTP:
        return SMTP(
            peer,
            hostname="peer.example",
            authenticator=peer.login,
            auth_required=login,
            auth_require_tls=security == "starttls",
            require_starttls=security == "starttls",
            tls_context=tls.context() if tls and security == "starttls" else None,
            loop=loop,
        )

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # connections that a test breaks off
    context = tls.context() if tls and security == "tls" else None
    listening = loop.run_until_complete(loop.create_server(connection, "127.0.0.1", 0, ssl=context))
    peer.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


def mail(port: int, security: str = "none", ca: Path | None = None, **more: Any) -> Mail:
    to = more.pop("to", ("duty@example.com", "team@example.com"))
    return Mail("duty", "127.0.0.1", port, security, "poolwarden@example.com", to, ca=ca, **more)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_over_tls_with_a_login(tls: Authority, security: str) -> None:
    with server(tls, security, login=True) as peer:
        MailSink(mail(peer.port, security, tls.ca, user=USER, password=PASSWORD)).deliver(parcel())
    [taken] = peer.taken
    assert peer.to == [["duty@example.com", "team@example.com"]]
    assert (peer.logins, peer.secured) == ([USER.encode()], [security == "starttls"])  # tls: of the server's socket
    assert taken["Subject"] == "[critical] lab: lab-h1 is down"
    assert taken["Auto-Submitted"] == "auto-generated"
    assert (taken["From"], taken["To"]) == ("poolwarden@example.com", "duty@example.com, team@example.com")
    assert taken["Date"] and taken.get_content_type() == "text/plain"
    said = taken.get_content().splitlines()
    assert said[:4] == ["Died: lab-h1", "Did:  nothing", "You:  look", "Open: 3 VMs"]
    assert "Runbook:   https://wiki.example.com/poolwarden/runbook.md#host-down" in said


def test_beginning_reminder_and_end_are_one_thread() -> None:
    with server() as peer:
        sink = MailSink(mail(peer.port))
        reminder = parcel(sending="reminder-1")
        for each in (parcel(), parcel(), reminder, parcel("resolved"), parcel(occurrence=2)):
            sink.deliver(each)
    begin, again, reminded, end, next_time = peer.taken
    assert again["Message-ID"] == begin["Message-ID"]  # a repetition is the same message
    assert len({each["Message-ID"] for each in peer.taken}) == 4
    assert begin["References"] is None and next_time["References"] is None
    for each in (reminded, end):
        assert each["References"] == each["In-Reply-To"] == begin["Message-ID"]
    assert end["Subject"] == "[resolved] lab: lab-h1 is down"
    assert end.get_content().startswith("it is back\r\n")


def test_nothing_of_a_title_becomes_a_header() -> None:
    with server() as peer:
        told = parcel(title=EVIL, collector=EVIL, runbook=EVIL, body=f"Died: {EVIL}", pool={"uuid": EVIL, "name": EVIL})
        MailSink(mail(peer.port)).deliver(told)
    [taken] = peer.taken
    plain = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type"}
    assert set(taken.keys()) - {"X-Peer", "X-MailFrom", "X-RcptTo"} == plain | {
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert (
        " ".join(taken["Subject"].split())
        == '[critical] lab: h1"] Bcc: x@evil.example <13>1 - - - - - - [31m \\ü is down'
    )
    assert taken["Bcc"] is None and peer.to == [["duty@example.com", "team@example.com"]]
    assert all(each == "\n" or each.isprintable() for each in taken.get_content().replace("\r\n", "\n"))


@pytest.mark.parametrize("word", ["=?utf-8?q?x=0D=0ABcc:_x@evil.example=0D=0A=0D=0At?=", "=?utf-8?b?DQpCY2M6IHg=?="])
def test_an_encoded_word_in_a_title_begins_no_header(word: str) -> None:
    made = BytesParser(policy=email.policy.SMTP).parsebytes(bytes(message(mail(25), parcel(title=f"{word} is down"))))
    assert made["Bcc"] is None and made["Subject"].endswith("is down")
    assert made["Auto-Submitted"] == "auto-generated"


def test_a_long_title_and_long_lines_arrive_whole() -> None:
    title, body = "ä" * 400, "x" * 5000 + "\n.\nafter the dot"
    with server() as peer:
        MailSink(mail(peer.port)).deliver(parcel(title=title, body=body))
    [taken] = peer.taken
    assert taken["Subject"] == f"[critical] {title}"
    assert taken.get_content().replace("\r\n", "\n").startswith(body + "\n")


def test_a_certificate_that_is_not_trusted_gets_nothing(tls: Authority, tmp_path: Path) -> None:
    other = authority(tmp_path / "other", "127.0.0.2")
    for security in ("starttls", "tls"):
        for certificate, ca in ((tls, other.ca), (tls, None), (other, other.ca)):
            with server(certificate, security, login=True) as peer:
                sink = MailSink(mail(peer.port, security, ca, user=USER, password=PASSWORD))
                with pytest.raises(SinkError, match="certificate is not accepted"):
                    sink.deliver(parcel())
            assert (peer.logins, peer.taken) == ([], [])


def test_a_server_without_starttls_gets_nothing(tls: Authority) -> None:
    with server(login=True) as peer, pytest.raises(SinkError, match="STARTTLS extension not supported"):
        MailSink(mail(peer.port, "starttls", tls.ca, user=USER, password=PASSWORD)).deliver(parcel())
    assert (peer.logins, peer.taken) == ([], [])


def test_a_wrong_password_is_said_and_not_shown(tls: Authority) -> None:
    with server(tls, "tls", login=True) as peer:
        settings = mail(peer.port, "tls", tls.ca, user=USER, password="wr0ng-s3cret")
        with pytest.raises(SinkError, match="535") as error:
            MailSink(settings).deliver(parcel())
    assert "wr0ng-s3cret" not in str(error.value) + repr(settings) and peer.taken == []


def test_an_answer_that_quotes_the_login_is_not_passed_on() -> None:
    def talk(sock: Any) -> None:
        sock.sendall(f"554 no {PASSWORD}\r\nof {USER}\r\n".encode())
        silent(sock)

    with tcp_peer(talk) as port:
        sink = MailSink(mail(port, user=USER, password=PASSWORD))
        with pytest.raises(SinkError, match=r"554 no \*\*\*") as error:
            sink.deliver(parcel())
    assert "\n" not in str(error.value)


def test_refusals(caplog: pytest.LogCaptureFixture) -> None:
    with server() as peer:
        sink = MailSink(mail(peer.port))
        peer.refuses = {"duty@example.com": "550 no such user"}
        with caplog.at_level(logging.WARNING):
            sink.deliver(parcel())
        assert peer.to == [["team@example.com"]]
        assert "duty@example.com" in caplog.text
        peer.refuses["team@example.com"] = "452 mailbox is full"
        with pytest.raises(SinkError, match="all recipients refused, 550 no such user"):
            sink.deliver(parcel())
        peer.refuses, peer.answer = {}, "451 greylisted\r\n"
        with pytest.raises(SinkError, match="451 greylisted"):
            sink.deliver(parcel())
    assert len(peer.taken) == 1


GREETING = b"220 peer\r\n"


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (silent, "timed out"),
        (drip(b"220-"), "not done within 0.6 s"),
        (drip(GREETING + b"250-"), "not done within 0.6 s"),
        (lambda sock: sock.sendall(b"421 too busy\r\n"), "421 too busy"),
        (lambda sock: None, "Connection unexpectedly closed"),
    ],
    ids=["silent", "a greeting without an end", "an answer without an end", "busy", "closes"],
)
@pytest.mark.parametrize("security", ["none", "starttls"])
@pytest.mark.slow
def test_a_server_that_hangs_ends_as_an_error(talk: Callable[..., None], expected: str, security: str) -> None:
    with tcp_peer(talk) as port, pytest.raises(SinkError, match=expected):
        MailSink(mail(port, security), 0.4, 0.6).deliver(parcel())


@pytest.mark.slow
def test_a_tls_server_that_hangs_ends_as_an_error(tls: Authority) -> None:
    def talk(sock: Any) -> None:
        with tls.context().wrap_socket(sock, server_side=True) as secured:
            drip(b"220-")(secured)

    for each, expected in ((silent, "timed out"), (talk, r"not done within 0\.6 s")):
        with tcp_peer(each) as port, pytest.raises(SinkError, match=expected):
            MailSink(mail(port, "tls", tls.ca), 0.4, 0.6).deliver(parcel())


def test_nobody_there() -> None:
    with tcp_peer(silent) as port:
        pass
    with pytest.raises(SinkError, match="refused"):
        MailSink(mail(port)).deliver(parcel())
