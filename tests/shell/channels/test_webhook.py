"""A webhook gets what the schema says, signed as the document shows; nothing else is taken for a delivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.project.tree import ROOT

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.shell.alerts.channels import http_post
from poolwarden_collector.shell.alerts.channels.webhook import WebhookSink, signature
from poolwarden_collector.shell.alerts.diskless import Diskless
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.alerts.trial import sample
from poolwarden_collector.shell.config.alert_kinds import Webhook
from poolwarden_collector.shell.store.journal import Journal, Parcel

from .peers import POOL, Authority, HttpPeer, authority, drip, http_peer, parcel, silent, tcp_peer

SCHEMA = json.loads((ROOT / "docs/webhook.schema.json").read_text())
SECRET = "s3cret-of-the-signature"


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with http_peer() as peer:
        yield peer


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


def verifier() -> Any:
    """The function that docs/alerts.md shows."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/alerts.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_genuine"]


def test_the_example_of_the_document_accepts_what_is_sent_and_nothing_else(peer: HttpPeer) -> None:
    WebhookSink(Webhook("ops", peer.url, SECRET)).deliver(parcel())
    [request] = peer.got
    header = request.headers["Poolwarden-Signature"]
    is_genuine = verifier()
    assert is_genuine(SECRET, header, request.body)
    assert not is_genuine("another", header, request.body)
    assert not is_genuine(SECRET, header, request.body + b" ")
    at = int(header.partition(",")[0].removeprefix("t="))
    assert not is_genuine(SECRET, header.replace(f"t={at}", f"t={at + 1}"), request.body)
    assert abs(at - time.time()) < 60
    # What was recorded long ago is refused even though its signature is right.
    assert not is_genuine(SECRET, signature(SECRET, at - 3600, request.body), request.body)
    assert not is_genuine(SECRET, "", request.body)


def test_the_signature_is_hmac_sha256_over_time_and_body() -> None:
    expected = hmac.new(b"k", b"17.{}", hashlib.sha256).hexdigest()
    assert signature("k", 17, b"{}") == f"t=17,v1={expected}"


def test_without_a_secret_nothing_is_signed(peer: HttpPeer) -> None:
    WebhookSink(Webhook("ops", peer.url)).deliver(parcel())
    assert "Poolwarden-Signature" not in peer.got[0].headers
    assert peer.got[0].json == {"version": 1, **parcel().payload}


def test_what_the_journal_and_the_collector_itself_tell_is_what_the_schema_says(tmp_path: Path) -> None:
    told: list[Parcel] = []
    journal = Journal(tmp_path, "c", ("webhook:ops",), "https://wiki.example.com/poolwarden")
    data = {"pool": "lab", "message": "host-down"}
    journal.commit(POOL, [], [AlertRaised(f"{POOL}/a", "critical", "t", "b", data), AlertResolved(f"{POOL}/a", "over")])
    journal.commit(POOL, [], [AlertRaised(f"{POOL}/b", "info", "t", "b")])
    while parcels := journal.parcels():
        for each in parcels:
            told.append(each)
            with journal._transaction("a test") as db:
                db.execute("UPDATE outbox SET status = 'sent' WHERE id = ?", [each.id])
    journal.close()
    assert [each.state for each in told].count("resolved") == 1 and len(told) == 3
    diskless = Diskless((), "c")
    told.append(diskless._parcel("webhook:ops", _episode(), "firing", "text", 0))
    for state in ("firing", "resolved"):
        payload = sample("c", "info", state, 1_700_000_000_000, "2026-01-31T20:00:00.000Z", "anna")
        told.append(Parcel(0, payload["key"], 1, state, "webhook:ops", "", payload, 0, 0))
    with http_peer() as peer:
        for each in told:
            WebhookSink(Webhook("ops", peer.url)).deliver(each)
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    for request in peer.got:
        assert [error.message for error in validator.iter_errors(request.json)] == []
    assert "runbook" in peer.got[0].json


def _episode() -> Any:
    from poolwarden_collector.shell.alerts.diskless import Episode

    return Episode(1_700_000_000, "2026-01-31T20:00:00.000Z")


@pytest.mark.parametrize(
    "wrong",
    [{"version": 2}, {"state": "gone"}, {"severity": "fatal"}, {"occurrence": "1"}, {"title": 5}, {"pool": {}}],
    ids=str,
)
def test_the_schema_refuses_what_is_something_else(wrong: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid({"version": 1, **parcel().payload, **wrong})
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid({"version": 1, **parcel().payload, "more": 1})


def test_the_example_of_the_document_is_what_the_schema_says() -> None:
    text = (ROOT / "docs/alerts.md").read_text()
    (example,) = (json.loads(each) for each in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if '"state"' in each)
    jsonschema.Draft202012Validator(SCHEMA).validate(example)
    assert set(example) == {"version", *parcel().payload}
    rows = re.findall(r"^\| (`[^|]*) \|", text.split("## What a webhook gets")[1], re.MULTILINE)
    assert set(SCHEMA["properties"]) <= set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_a_key_beyond_ascii_is_a_header_nevertheless(peer: HttpPeer) -> None:
    WebhookSink(Webhook("ops", peer.url)).deliver(parcel(key=f"{POOL}/disk-h1//mnt/ä b\r\nX: y"))
    assert peer.got[0].headers["Idempotency-Key"] == f"{POOL}/disk-h1//mnt/%C3%A4 b%0D%0AX: y/1/firing"
    assert "X" not in peer.got[0].headers


def test_a_name_and_password_in_the_address_are_sent_as_a_login(peer: HttpPeer) -> None:
    WebhookSink(Webhook("ops", peer.url.replace("http://", "http://anna:p%40ss@"))).deliver(parcel())
    assert peer.got[0].headers["Authorization"] == "Basic YW5uYTpwQHNz"


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 500])
def test_only_2xx_of_the_address_itself_is_a_delivery(peer: HttpPeer, status: int) -> None:
    peer.answers = [status]
    with pytest.raises(SinkError, match=f"the receiver answered {status}"):
        WebhookSink(Webhook("ops", f"{peer.url}/t0ps3cret")).deliver(parcel())
    assert len(peer.got) == 1


def test_no_proxy_of_the_environment_gets_the_token(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_peer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        WebhookSink(Webhook("ops", peer.url)).deliver(parcel())
    assert (len(peer.got), proxy.got) == (1, [])


def test_a_certificate_is_verified_by_the_authority_that_is_given(tls: Authority, tmp_path: Path) -> None:
    other = authority(tmp_path / "other")
    elsewhere = authority(tmp_path / "elsewhere", "127.0.0.2")
    with http_peer(tls) as peer:
        WebhookSink(Webhook("ops", peer.url, "", tls.ca)).deliver(parcel())
        for ca in (None, other.ca):
            with pytest.raises(SinkError, match="certificate is not accepted"):
                WebhookSink(Webhook("ops", f"{peer.url}/t0ps3cret", "", ca)).deliver(parcel())
    assert len(peer.got) == 1
    with http_peer(elsewhere) as peer, pytest.raises(SinkError, match="certificate is not accepted: .*127.0.0.1"):
        WebhookSink(Webhook("ops", peer.url, "", elsewhere.ca)).deliver(parcel())


HEAD = b"HTTP/1.1 200 OK\r\nX: "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (silent, "no answer: timed out"),
        (drip(HEAD), "no answer within 0.5 s"),
        (drip(b""), "no answer within 0.5 s"),
        (lambda sock: sock.sendall(b"SSH-2.0-x\r\n"), "no answer: "),
        (lambda sock: None, "no answer: "),
    ],
    ids=["silent", "a header without an end", "a line without an end", "another protocol", "closes"],
)
def test_a_peer_that_hangs_ends_as_an_error(talk: Any, expected: str) -> None:
    with tcp_peer(talk) as port, pytest.raises(SinkError, match=expected) as error:
        http_post.post(f"http://127.0.0.1:{port}/t0ps3cret", b"{}", {"X": SECRET}, None, 0.3, 0.5)
    assert "t0ps3cret" not in str(error.value) and SECRET not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
def test_a_tls_peer_that_hangs_ends_as_an_error(tls: Authority) -> None:
    def talk(sock: Any) -> None:
        with tls.context().wrap_socket(sock, server_side=True) as secured:
            drip(HEAD)(secured)

    with tcp_peer(talk) as port, pytest.raises(SinkError, match=r"no answer within 0\.5 s"):
        http_post.post(f"https://127.0.0.1:{port}/", b"{}", {}, tls.ca, 0.3, 0.5)


def test_nothing_secret_is_shown() -> None:
    webhook = Webhook("ops", "https://x.example/t0ps3cret", SECRET)
    assert "t0ps3cret" not in repr(webhook) and SECRET not in repr(webhook)
