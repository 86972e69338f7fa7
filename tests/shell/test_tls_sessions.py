"""Questions to a xapi resume the TLS session of the one before; whoever cannot resume it shows who he is anew."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poolwarden_collector.core.model.events import CollectorProbed, Event
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.loop import prober, tls_sessions
from poolwarden_collector.shell.loop.prober import Probed, Prober, probe_xapi
from poolwarden_collector.shell.loop.tls_sessions import TlsSession

from .rig import HOSTS, POOL, mono_ms, until
from .test_prober import ECHO, http

pytestmark = pytest.mark.asyncio


class Xapi:
    """A stunnel with a xapi behind it. ``resumed``: of each connection whether it resumed a session."""

    def __init__(self) -> None:
        self.resumed: list[bool] = []
        self.answer = http(ECHO)
        self.port = 0


@contextlib.asynccontextmanager
async def running(folder: Path, version: str = "TLSv1_2", port: int = 0) -> AsyncIterator[Xapi]:
    """With a key of its own. ``version``: the newest that it speaks; xapi's stunnel: TLS 1.2 over secp384r1."""
    certificates.create_ca(folder / "ca")
    bundle = certificates.issue_collector(folder / "ca", "x", (), folder / "x")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle.cert, bundle.key)
    context.maximum_version = ssl.TLSVersion[version]
    context.set_ecdh_curve("secp384r1")
    xapi = Xapi()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        xapi.resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await reader.readuntil(b"</methodCall>")
        writer.write(xapi.answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    xapi.port = server.sockets[0].getsockname()[1]
    try:
        yield xapi
    finally:
        server.close()
        await server.wait_closed()


async def _ask(xapi: Xapi, session: TlsSession) -> Probed:
    found = await probe_xapi("127.0.0.1", xapi.port, 5.0, session)
    assert found.certificate or found.outcome is not ProbeOutcome.ANSWERED
    return found


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_the_next_question_resumes_and_shows_the_same_certificate(tmp_path: Path, version: str) -> None:
    session = TlsSession()
    async with running(tmp_path, version) as xapi:
        found = [await _ask(xapi, session) for _ in range(4)]
    assert xapi.resumed == [False, True, True, True]
    assert {each.outcome for each in found} == {ProbeOutcome.ANSWERED} and len(
        {each.certificate for each in found}
    ) == 1


async def test_questions_without_a_session_and_those_to_another_xapi_resume_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as one, running(tmp_path / "b") as other:
        await _ask(one, TlsSession())
        await asyncio.gather(_ask(one, TlsSession()), _ask(other, TlsSession()))
        assert one.resumed == [False, False] and other.resumed == [False]


async def test_whoever_else_is_there_shows_his_own_certificate(tmp_path: Path) -> None:
    session = TlsSession()
    async with running(tmp_path / "a") as one:
        mine = await _ask(one, session)
    async with running(tmp_path / "b", port=one.port) as other:
        his = await _ask(other, session)
        assert other.resumed == [False] and his.outcome is ProbeOutcome.ANSWERED
    assert his.certificate != mine.certificate


async def test_after_a_question_that_was_not_answered_a_full_handshake_is_made(tmp_path: Path) -> None:
    session = TlsSession()
    async with running(tmp_path) as xapi:
        await _ask(xapi, session)
        xapi.answer = http("hello")
        assert (await _ask(xapi, session)).outcome is ProbeOutcome.NOT_XAPI
        xapi.answer = http(ECHO)
        await _ask(xapi, session)
        await _ask(xapi, session)
        assert xapi.resumed == [False, True, False, True]


async def test_a_session_is_resumed_for_five_minutes_from_its_full_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(prober.time, "monotonic", lambda: now[0])
    session = TlsSession()
    async with running(tmp_path) as xapi:
        for _ in range(5):
            await _ask(xapi, session)
            now[0] += tls_sessions.FULL_EVERY_S / 2 - 1
        assert xapi.resumed == [False, True, True, False, True]


@pytest.mark.slow
async def test_the_collectors_own_questions_resume(tmp_path: Path) -> None:
    heard: list[Event] = []
    async with running(tmp_path) as xapi:
        own = Prober(
            lambda _: Policy(probe_interval=500, probe_timeout=400),
            lambda _, event: heard.append(event),
            mono_ms,
            (),
            xapi.port,
        )
        own.aim(POOL, Target(HOSTS[0], "127.0.0.1"))
        try:
            await until(lambda: len(heard) >= 3)
        finally:
            await own.stop()
        assert xapi.resumed[:3] == [False, True, True]
    outcomes = {each.outcome for each in heard if isinstance(each, CollectorProbed)}
    assert outcomes == {ProbeOutcome.ANSWERED}
