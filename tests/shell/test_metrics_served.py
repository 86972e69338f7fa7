"""The page as it is served: TLS, password, clients that say nothing, and a collector that goes on whatever they do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.config.metrics import Metrics, MetricsTls
from poolwarden_collector.shell.doctor.running import all_checks
from poolwarden_collector.shell.metrics import exporter, http
from poolwarden_collector.shell.metrics.http import HttpServer, Unavailable
from poolwarden_collector.shell.store.journal import Journal

from .looked import parsed
from .rig import HOSTS, POOL, Rig, hosts_of, running, until, write_config

pytestmark = pytest.mark.asyncio
BODY = b"poolwarden_up 1\n" * 50


async def page(accept: str) -> tuple[bytes, str]:
    return BODY, "text/plain"


@contextlib.asynccontextmanager
async def serving(settings: Metrics | None = None, what: http.Page = page) -> AsyncIterator[HttpServer]:
    server = HttpServer(settings or Metrics(port=0), what)
    server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(port: int, said: bytes, tls: ssl.SSLContext | None = None, within: float = 30.0) -> tuple[str, bytes]:
    """The head and the body that come back; both empty: the connection was ended."""
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        try:
            writer.write(said)
            found = await reader.read()
        except ConnectionError:
            found = b""
        finally:
            writer.close()
    head, _, body = found.partition(b"\r\n\r\n")
    return head.decode(), body


def get(path: str = "/metrics", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def basic(user: str, password: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def test_the_page_and_what_is_no_page() -> None:
    async with serving() as server:
        head, body = await ask(server.port, get())
        assert head.startswith("HTTP/1.1 200 OK") and f"Content-Length: {len(BODY)}" in head and body == BODY
        head, body = await ask(server.port, get("/metrics?x=1", "Accept-Encoding: br, gzip"))
        assert "Content-Encoding: gzip" in head and gzip.decompress(body) == BODY
        head, body = await ask(server.port, get().replace(b"GET", b"HEAD"))
        assert "200 OK" in head and body == b""
        for said, status in (
            (get("/"), "404"),
            (get().replace(b"GET", b"POST"), "405"),
            (b"hello\r\n\r\n", "400"),
            (b"\x16\x03\x01\x00\r\n\r\n", "400"),
            (get("/metrics", "X: " + "y" * 9_000), "431"),
        ):
            head, _ = await ask(server.port, said)
            assert head.startswith(f"HTTP/1.1 {status} "), said[:20]


async def test_an_address_of_ipv6_is_served() -> None:
    server = HttpServer(Metrics(host="::1", port=0), page)
    server.start()
    reader, writer = await asyncio.open_connection("::1", server.port)
    writer.write(get())
    assert (await reader.read()).endswith(BODY)
    writer.close()
    await server.stop()


async def test_a_password_is_asked_for() -> None:
    async with serving(Metrics(port=0, user="prometheus", password="s:ecret ä")) as server:
        assert (await ask(server.port, get("/metrics", basic("prometheus", "s:ecret ä"))))[1] == BODY
        for header in ("", basic("prometheus", "wrong"), basic("other", "s:ecret ä"), "Authorization: Basic ???",
                       "Authorization: Bearer x", "Authorization: Basic " + "A" * 4_000):  # fmt: skip
            head, body = await ask(server.port, get("/metrics", *([header] if header else [])))
            assert head.startswith("HTTP/1.1 401 ") and "WWW-Authenticate: Basic" in head and BODY not in body
        head, _ = await ask(server.port, get("/other"))
        assert " 401 " in head  # who has no password learns nothing of what there is


async def test_what_cannot_be_had_is_unavailable() -> None:
    async def none(accept: str) -> tuple[bytes, str]:
        raise Unavailable("the collector did not answer within 8 s")

    async def broken(accept: str) -> tuple[bytes, str]:
        raise ValueError("a fault")

    async with serving(what=none) as server:
        head, body = await ask(server.port, get())
        assert head.startswith("HTTP/1.1 503 ") and b"did not answer" in body
    async with serving(what=broken) as server:
        head, body = await ask(server.port, get())
        assert head.startswith("HTTP/1.1 500 ") and body == b"a fault; see the collector's log\n"


async def test_clients_that_say_nothing_keep_nobody_out() -> None:
    """Three times as many as there are places, each with a byte and then silence."""
    async with serving() as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3 * http.MOST)]
        try:
            for _, writer in idle:
                writer.write(b"G")
            for _ in range(5):
                assert (await ask(server.port, get()))[1] == BODY
            assert len(server._clients) <= http.MOST
        finally:
            for _, writer in idle:
                writer.close()


async def test_one_that_is_slow_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "QUESTION_S", 0.1)
    async with serving() as server:
        assert await ask(server.port, b"GET /metrics HTTP/1.1\r\nX: ") == ("", b"")
        await until(lambda: not server._clients)


@pytest.mark.slow
async def test_one_that_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def long(accept: str) -> tuple[bytes, str]:
        return b"x" * 50_000_000, "text/plain"

    monkeypatch.setattr(http, "LIMIT_S", 0.3)
    async with serving(what=long) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(get())
            await until(lambda: server._clients)
            await until(lambda: not server._clients)


async def test_when_all_have_asked_the_next_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST", 2)
    going = asyncio.Event()

    async def waits(accept: str) -> tuple[bytes, str]:
        await going.wait()
        return BODY, "text/plain"

    async with serving(what=waits) as server:
        first = [asyncio.ensure_future(ask(server.port, get())) for _ in range(2)]
        await until(lambda: [client.asked for client in server._clients] == [True, True])
        assert await ask(server.port, get()) == ("", b"")
        going.set()
        assert [body for _, body in await asyncio.gather(*first)] == [BODY, BODY]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    certificates.create_ca(folder / "ca")
    for name in ("one", "two"):
        certificates.issue_collector(folder / "ca", name, ("127.0.0.1",), folder / name)
    certificates.issue_operator(folder / "ca", "prometheus", folder / "reader")
    return folder


def client_side(ca: Path, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca / "one/ca.pem"))
    if certificate:
        context.load_cert_chain(ca / "reader/cert.pem", ca / "reader/key.pem")
    return context


async def test_over_tls_and_with_a_certificate_that_was_renewed(ca: Path, tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((ca / "one" / name).read_bytes())
    settings = Metrics(port=0, tls=MetricsTls(tmp_path / "cert.pem", tmp_path / "key.pem"))

    async def serial(port: int) -> Any:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side(ca))
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return found

    async with serving(settings) as server:
        assert (await ask(server.port, get(), client_side(ca)))[1] == BODY
        assert await ask(server.port, get()) == ("", b"")  # no TLS
        before = await serial(server.port)
        (tmp_path / "key.pem").write_bytes((ca / "two/key.pem").read_bytes())
        assert await serial(server.port) == before  # half-way: they are no pair
        (tmp_path / "cert.pem").write_bytes((ca / "two/cert.pem").read_bytes())
        assert await serial(server.port) != before


async def test_a_certificate_of_the_reader_may_be_asked_for(ca: Path) -> None:
    tls = MetricsTls(ca / "one/cert.pem", ca / "one/key.pem", ca / "one/ca.pem")
    async with serving(Metrics(port=0, tls=tls)) as server:
        assert (await ask(server.port, get(), client_side(ca, certificate=True)))[1] == BODY
        assert await ask(server.port, get(), client_side(ca)) == ("", b"")


async def test_handshakes_that_are_not_finished_keep_nobody_out(ca: Path) -> None:
    settings = Metrics(port=0, tls=MetricsTls(ca / "one/cert.pem", ca / "one/key.pem"))
    async with serving(settings) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2 * http.MOST)]
        assert (await ask(server.port, get(), client_side(ca)))[1] == BODY
        for _, writer in idle:
            writer.close()


# ------------------------------------------------------------------------------------------------ a whole collector


async def scraped(rig: Rig) -> dict[str, Any]:
    assert rig.parts.metrics is not None
    await until(rig.parts.metrics.listening.is_set)
    head, body = await ask(rig.parts.metrics.port, get())
    assert head.startswith("HTTP/1.1 200 "), head
    return parsed(body)


METRICS = '[metrics]\nlisten = "127.0.0.1:0"\n'


async def test_a_running_collector_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, METRICS) as rig:
        await rig.agent(HOSTS[0])
        pools = rig.parts.service.roster.pools
        await until(lambda: POOL in pools)
        rig.parts.inbox.post(POOL, OperatorSaid("r", "anna", "pause", "", (("reason", "test"),)))
        await until(lambda: pools[POOL].record.paused is not None)
        found = await scraped(rig)
        assert list(found["poolwarden_pool_paused"].values()) == [1]
        assert "metrics' port" in {check.name for check in await all_checks(rig.parts.service.roster, ())}
        (labels,) = found["poolwarden_pool_hosts"]
        assert dict(labels)["pool_uuid"] == POOL
        assert sum(found["poolwarden_journal_commit_duration_seconds_count"].values()) >= 1
        assert list(found["process_resident_memory_bytes"].values())[0] > 10**6
        assert list(found["poolwarden_collector_loop_lag_seconds"].values())[0] < 30


async def test_counters_survive_a_restart(tmp_path: Path) -> None:
    config = load(write_config(tmp_path, METRICS))
    for _ in range(2):
        journal = Journal(config.state_dir, config.name, ("log",))
        journal.begin_epoch()
        journal.commit("", [Entry(Kind.ALERT_DELIVERED, "delivered", {"sink": "log"})])
        journal.close()
    async with running(tmp_path, METRICS) as rig:
        await until(lambda: rig.parts.metrics is not None and rig.parts.metrics._watch.ledger.ready)
        found = await scraped(rig)
        channels = found["poolwarden_alert_deliveries_total"]
        assert channels[frozenset({("channel", "log")})] == 2


async def test_readers_at_the_same_time_cost_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = exporter.write_out
    monkeypatch.setattr(exporter, "write_out", lambda look, accept: made.append(accept) or real(look, accept))
    async with running(tmp_path, METRICS) as rig:
        await scraped(rig)
        port, made[:] = rig.parts.metrics.port if rig.parts.metrics else 0, []
        monkeypatch.setattr(exporter, "FRESH_S", 60.0)
        answers = await asyncio.gather(*(ask(port, get()) for _ in range(10)))
        assert len({body for _, body in answers}) == 1 and len(made) <= 1
        answers = await asyncio.gather(*(ask(port, get("/metrics", f"Accept: x/{n}")) for n in range(20)))
        assert len(made) <= exporter.MOST_FORMS and any(" 503 " in head for head, _ in answers)


async def test_a_collector_whose_loop_hangs_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "LOOK_S", 0.2)
    async with running(tmp_path, METRICS) as rig:
        assert rig.parts.metrics is not None
        await until(rig.parts.metrics.listening.is_set)
        asked = ["curl", "-s", "-m", "20", "-w", "%{http_code}", f"http://127.0.0.1:{rig.parts.metrics.port}/metrics"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # blocks this very loop
        assert said == "the collector did not answer within 0 s\n503"
        assert await scraped(rig)


async def test_an_address_that_is_taken_stops_no_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "AGAIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = contextlib.AsyncExitStack()
        rig = await stack.enter_async_context(running(tmp_path, f'[metrics]\nlisten = "127.0.0.1:{port}"\n'))
        roster = rig.parts.service.roster
        await until(lambda: any("metrics cannot be served there" in text for text in roster.warnings()))
        await rig.agent(HOSTS[0])
        await until(lambda: hosts_of(roster, POOL))
    async with stack:
        assert await scraped(rig)


@pytest.mark.slow
async def test_where_metrics_are_off_nothing_of_them_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, poolwarden_collector.shell.main, poolwarden_collector.cli.main\n"
        "of = ('prometheus_client', 'poolwarden_collector.shell.metrics')\n"
        "print([name for name in sys.modules if name.startswith(of)])"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert said.stdout.strip() == "[]"
    async with running(tmp_path) as rig:
        assert rig.parts.metrics is None


# ------------------------------------------------------------------------------------------------ its configuration


async def test_its_settings(tmp_path: Path, ca: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password=hush\n")
    secret.chmod(0o600)
    table = f"""[metrics]
listen = "[::1]:9751"
cert = "{ca}/one/cert.pem"
key = "{ca}/one/key.pem"
client_ca = "{ca}/one/ca.pem"
user = "prometheus"
secret_file = "secret"
"""
    metrics = load(write_config(tmp_path, table)).metrics
    assert metrics is not None and metrics.tls is not None
    assert (metrics.host, metrics.port, metrics.user, metrics.password) == ("::1", 9751, "prometheus", "hush")
    assert metrics.tls.client_ca == ca / "one/ca.pem" and metrics.address == "[::1]:9751"
    assert "hush" not in repr(metrics)
    assert load(write_config(tmp_path)).metrics is None
    assert load(write_config(tmp_path, "[metrics]\n")).metrics == Metrics()
    from_environment = '[metrics]\nuser = "p"\nsecret_env = { password = "PW" }\n'
    assert load(write_config(tmp_path, from_environment), {"PW": "hush"}).metrics == Metrics(user="p", password="hush")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('listen = "metrics.example:9750"', "[metrics] listen: is 'metrics.example:9750'; expected ADDRESS:PORT"),
        ('listen = "127.0.0.1:99999"', "[metrics] listen"),
        ('password = "hush"', "[metrics] password: a secret does not belong into this file"),
        ('user = "p"', "[metrics] user: has no password"),
        ('user = "a:b"', "[metrics] user: has a colon"),
        ('secret_env = { password = "PW" }', "[metrics] user: is missing beside a password"),
        ('user = "p"\nsecret_env = { passwort = "PW" }', "'passwort' is no secret that is known here"),
        ('cert = "tls/cert.pem"', "[metrics] key: is missing"),
        ('client_ca = "tls/ca.pem"', "[metrics] cert: is missing"),
        ('cert = "none.pem"\nkey = "tls/key.pem"', "[metrics] cert: "),
        ('cert = "collector.toml"\nkey = "tls/key.pem"', "is no PEM"),
        ("port = 1", "[metrics] port: is no setting"),
        ('listen = "127.0.0.1:7444"', "[metrics] listen: is '127.0.0.1:7444', where operators are served"),
    ],
)
async def test_mistakes_in_it_are_refused(table: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        listen = 'operator_listen = "127.0.0.1:7444"'
        load(write_config(tmp_path, f"[metrics]\n{table}\n", collector=listen), {"PW": "hush"})
    assert said in str(caught.value) and "hush" not in str(caught.value) and "\n" not in str(caught.value)


async def test_what_is_unwise_is_said(tmp_path: Path, ca: Path) -> None:
    def cautions(table: str) -> str:
        config = load(write_config(tmp_path, f'[metrics]\nlisten = "0.0.0.0:9750"\n{table}'), {"PW": "x"})
        return json.dumps(config.cautions())

    login = 'user = "p"\nsecret_env = { password = "PW" }\n'
    tls = f'cert = "{ca}/one/cert.pem"\nkey = "{ca}/one/key.pem"\n'
    assert "whoever reaches it reads" in cautions("") and "whoever reaches it reads" in cautions(tls)
    assert "in the clear" in cautions(login)
    assert cautions(login + tls) == cautions(tls + f'client_ca = "{ca}/one/ca.pem"\n') == "[]"
    assert load(write_config(tmp_path, "[metrics]\n")).cautions() == ()
