"""The collector's own probes against real sockets: only an echo over TLS is an answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.events import CollectorProbed, Event
from poolwarden_collector.core.model.host_facts import ProbeOutcome
from poolwarden_collector.core.model.orders import Target
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.loop.prober import CALM, Prober, is_calm, probe_xapi

from .rig import HOSTS, POOL, mono_ms, until

pytestmark = pytest.mark.asyncio

ECHO = "<methodResponse><params><param><value>poolwarden</value></param></params></methodResponse>"


def http(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@contextlib.asynccontextmanager
async def serving(folder: Path, answer: bytes | None, tls: bool = True) -> AsyncIterator[int]:
    """A server that answers each request so; ``None``: it accepts and never answers."""
    if not (folder / "ca").exists():
        certificates.create_ca(folder / "ca")
    bundle = certificates.issue_collector(folder / "ca", "x", (), folder / "x")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle.cert, bundle.key)
    seen: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.0")
        if answer is not None:
            writer.write(answer)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context if tls else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in seen:
            writer.transport.abort()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (http(ECHO), ProbeOutcome.ANSWERED),
        (http(ECHO, "500 Internal Server Error"), ProbeOutcome.NOT_XAPI),
        (http("hello"), ProbeOutcome.NOT_XAPI),
        (b"SSH-2.0-x\r\n" + b"\r\n" * 2 + b"</methodResponse>", ProbeOutcome.NOT_XAPI),
        (None, ProbeOutcome.NO_ANSWER),
    ],
)
async def test_only_an_echo_is_an_answer(tmp_path: Path, answer: bytes | None, outcome: ProbeOutcome) -> None:
    async with serving(tmp_path, answer) as port:
        began = time.monotonic()
        assert (await probe_xapi("127.0.0.1", port, 0.5)).outcome is outcome
        assert time.monotonic() - began < 8


@pytest.mark.slow
async def test_what_speaks_no_tls_is_no_xapi(tmp_path: Path) -> None:
    async with serving(tmp_path, http(ECHO), tls=False) as port:
        assert (await probe_xapi("127.0.0.1", port, 0.5)).outcome in (ProbeOutcome.NOT_XAPI, ProbeOutcome.NO_ANSWER)


async def test_a_refusal_is_said_as_such(tmp_path: Path) -> None:
    async with serving(tmp_path, None) as port:
        pass
    assert (await probe_xapi("127.0.0.1", port, 0.5)).outcome is ProbeOutcome.REFUSED


async def test_an_impossible_address_raises_nothing() -> None:
    assert (await probe_xapi("999.1.1.1", 443, 2.0)).outcome is not ProbeOutcome.ANSWERED
    assert (await probe_xapi("2001:db8::1", 443, 0.2)).outcome in (ProbeOutcome.UNREACHABLE, ProbeOutcome.NO_ANSWER)


QUICK = Policy(probe_interval=60, probe_timeout=50)


def prober(port: int, policy: Policy = QUICK) -> tuple[Prober, list[CollectorProbed]]:
    heard: list[CollectorProbed] = []

    def post(pool: str, event: Event) -> None:
        assert isinstance(event, CollectorProbed) and pool == POOL
        heard.append(event)

    return Prober(lambda pool: policy, post, mono_ms, port=port), heard


@pytest.mark.slow
async def test_the_target_is_probed_again_and_again_until_it_changes(tmp_path: Path) -> None:
    async with serving(tmp_path, http(ECHO)) as port:
        own, heard = prober(port, Policy(probe_interval=120, probe_timeout=110))
        own.aim(POOL, Target(HOSTS[0], "127.0.0.1"))
        # On a busy machine one or the other probe is not answered in time.
        await until(lambda: sum(e.outcome is ProbeOutcome.ANSWERED for e in heard) >= 3)
        assert {e.host for e in heard} == {HOSTS[0]}
        answered = [e for e in heard if e.outcome is ProbeOutcome.ANSWERED]
        assert {len(e.certificate) for e in answered} == {64}  # whose xapi it was, by what it presented
        own.aim(POOL, Target(HOSTS[1], "127.0.0.1"))
        heard.clear()
        await until(lambda: len(heard) >= 2)
        assert {e.host for e in heard} == {HOSTS[1]}
        own.aim(POOL, Target("", ""))
        assert own._tasks == {}
        await own.stop()


async def test_a_calm_master_is_asked_each_third_time_until_it_is_calm_no_more(tmp_path: Path) -> None:
    asked: list[str] = []
    calm = True

    def is_calm(pool: str, host: str) -> bool:
        asked.append(host)
        return calm

    async with serving(tmp_path, http(ECHO)) as port:
        heard: list[CollectorProbed] = []
        policy = Policy(probe_interval=20, probe_timeout=19)
        own = Prober(lambda pool: policy, lambda pool, event: heard.append(event), mono_ms, port=port, calm=is_calm)  # type: ignore[arg-type,func-returns-value]
        own.aim(POOL, Target(HOSTS[0], "127.0.0.1"))
        await until(lambda: sum(e.outcome is ProbeOutcome.ANSWERED for e in heard) >= 4)
        answered = sum(e.outcome is ProbeOutcome.ANSWERED for e in heard)
        assert (CALM - 1) * (answered - 1) <= len(asked) <= (CALM - 1) * answered, "each interval it may end"
        calm = False
        begun = len(heard)
        await until(lambda: len(heard) >= begun + 3)
        asked.clear()
        begun = len(heard)
        await until(lambda: len(heard) >= begun + 3)
        assert len(asked) <= len(heard) - begun + 1, "each time"
        await own.stop()


async def test_an_answer_that_fails_is_asked_for_again_at_once_however_calm_its_pool_is(tmp_path: Path) -> None:
    heard: list[CollectorProbed] = []
    asked: list[str] = []
    policy = Policy(probe_interval=20, probe_timeout=19)
    async with serving(tmp_path, None) as port:
        own = Prober(
            lambda pool: policy,
            lambda pool, event: heard.append(event),  # type: ignore[arg-type,func-returns-value]
            mono_ms,
            port=port,
            calm=lambda pool, host: not asked.append(host),  # type: ignore[func-returns-value]
        )
        own.aim(POOL, Target(HOSTS[0], "127.0.0.1"))
        await until(lambda: len(heard) >= 4)
        assert not asked
        await own.stop()


async def test_calm_is_a_pool_that_is_well_and_whose_masters_agent_has_its_stream() -> None:
    roster, sessions = SimpleNamespace(pools={}), SimpleNamespace(of={HOSTS[0]: "a stream"}.get)
    calm = partial(is_calm, roster, sessions)  # type: ignore[arg-type]
    assert not calm(POOL, HOSTS[0])
    for verdict in Verdict:
        roster.pools[POOL] = SimpleNamespace(live=SimpleNamespace(verdict=SimpleNamespace(word=verdict.word)))
        assert calm(POOL, HOSTS[0]) is (verdict is Verdict.HEALTHY)
        assert not calm(POOL, HOSTS[1]), "its agent is gone"


async def test_a_pool_that_is_not_to_be_probed_is_not() -> None:
    own, _ = prober(9, Policy(collector_probe=False))
    own.aim(POOL, Target(HOSTS[0], "127.0.0.1"))
    assert own._tasks == {}


async def test_an_anchor_answers_by_accepting_or_refusing(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poolwarden_collector.shell.loop.prober.ANCHOR_EVERY_S", 0.1)
    async with serving(tmp_path, None) as port:
        anchors = (("127.0.0.1", port), ("127.0.0.1", unused_tcp_port_factory()), ("2001:db8::1", 53))
        own = Prober(lambda pool: QUICK, lambda pool, event: None, mono_ms, anchors)
        assert own.anchors() == (True, True, True)  # nothing is held against the network before the first look
        own.start()
        await until(lambda: own.anchors() == (True, True, False))
        await own.stop()
