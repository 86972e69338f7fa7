"""Services that apprise knows: what each of them gets, by receivers in their place; nothing leaks, nothing hangs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from poolwarden_collector.shell.alerts.channels import apprise_process, channel_trouble
from poolwarden_collector.shell.alerts.channels.apprise import AppriseSink, order, why_unknown
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_channels import Alerts, Channel
from poolwarden_collector.shell.config.alert_kinds import Apprise, LogFile

from .peers import EVIL, HttpPeer, authority, drip, http_peer, parcel, silent, tcp_peer

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr'")

TOKEN = "t0ps3cret"


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with http_peer() as peer:
        yield peer


def told(peer: HttpPeer, url: str, *parcels: Any) -> list[Any]:
    """Deliver here, in this process; the requests that came."""
    for each in parcels:
        assert apprise_process.send(order(Apprise("a", url), each)) == "taken"
    return peer.got


@pytest.mark.slow
def test_by_its_own_process(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_peer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        sink = AppriseSink(Apprise("a", peer.url.replace("http", "json") + f"/{TOKEN}?overflow=upstream"))
        sink.deliver(parcel(title=EVIL))
        sink.deliver(parcel("resolved"))
    assert proxy.got == []
    begin, end = peer.got
    assert begin.path == end.path == f"/{TOKEN}"
    assert (begin.json["type"], end.json["type"]) == ("failure", "success")
    assert begin.json["title"] == '[critical] lab: h1"] Bcc: x@evil.example <13>1 - - - - - - [31m \\ü is down'
    assert begin.json["message"].splitlines()[:4] == ["Died: lab-h1", "Did:  nothing", "You:  look", "Open: 3 VMs"]
    assert begin.json["message"].endswith("https://wiki.example.com/poolwarden/runbook.md#host-down")
    assert (end.json["title"], end.json["message"].splitlines()[0]) == ("[resolved] lab: lab-h1 is down", "it is back")


@pytest.mark.slow
@pytest.mark.parametrize("status", [302, 503])
def test_a_refusal_or_a_redirect_is_no_delivery(peer: HttpPeer, status: int) -> None:
    peer.answers = [status]
    url = peer.url.replace("http://", f"json://anna:{TOKEN}@") + f"/{TOKEN}?redirect=yes"
    with pytest.raises(SinkError, match=f"json: it answered {status}") as error:
        AppriseSink(Apprise("a", url)).deliver(parcel())
    assert len(peer.got) == 1 and TOKEN not in str(error.value)


@pytest.mark.slow
def test_a_service_that_hangs_ends_as_an_error() -> None:
    for talk, expected in ((silent, "no answer within 2 s"), (drip(b"HTTP/1.1 200 OK\r\nX: "), "no answer within 2 s")):
        with tcp_peer(talk) as port, pytest.raises(SinkError, match=expected) as error:
            AppriseSink(Apprise("a", f"json://127.0.0.1:{port}/{TOKEN}"), 2.0).deliver(parcel())
        assert TOKEN not in str(error.value)


@pytest.mark.slow
def test_nobody_there_and_nothing_shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with tcp_peer(silent) as port:
        pass
    apprise = Apprise("a", f"json://127.0.0.1:{port}/{TOKEN}")
    with caplog.at_level(logging.DEBUG), pytest.raises(SinkError, match="json: no answer, or it refused") as error:
        AppriseSink(apprise).deliver(parcel())
    shown = str(error.value) + repr(error.value) + repr(apprise) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in shown


@pytest.mark.slow
def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    tls = authority(tmp_path)
    with http_peer(tls) as peer:
        url = peer.url.replace("https", "jsons")
        AppriseSink(Apprise("a", url, tls.ca)).deliver(parcel())
        with pytest.raises(SinkError, match="no answer"):
            AppriseSink(Apprise("a", url)).deliver(parcel())
    assert len(peer.got) == 1


@pytest.mark.slow
def test_an_address_that_apprise_does_not_know() -> None:
    assert why_unknown(Apprise("a", "json://127.0.0.1/x")) == ""
    why = why_unknown(Apprise("a", f"slack://{TOKEN}"))
    assert "apprise can make nothing of its address" in why and TOKEN not in why
    alerts = Alerts((Channel(LogFile("-")), Channel(Apprise("odd", "nonsense://x/y"))))
    assert channel_trouble(alerts).startswith("[alerts.apprise] odd: apprise can make nothing of its address")
    assert channel_trouble(Alerts((Channel(LogFile("/nowhere/at/all/x")),))).startswith("[alerts] log: /nowhere/at/all")
    with pytest.raises(SinkError, match="nonsense: apprise can make nothing"):
        AppriseSink(Apprise("a", "nonsense://x/y")).deliver(parcel())


# ------------------------------------------------------------------------------------------------ what each one gets

STORY = (parcel(), parcel("firing", sending="reminder-1"), parcel("resolved"), parcel(occurrence=2))


@pytest.mark.slow
def test_pagerduty_has_one_incident_that_ends(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins import pagerduty

    monkeypatch.setattr(pagerduty, "PAGERDUTY_API_LOOKUP", {"us": peer.url, "eu": f"{peer.url}/eu"})
    got = [each.json for each in told(peer, "pagerduty://A1BRTD4JD@TIiajkdnlazkcOXrIdevi7FQ/?region=eu", *STORY)]
    assert [each["event_action"] for each in got] == ["trigger", "trigger", "resolve", "trigger"]
    first, again, end, second = (each["dedup_key"] for each in got)
    assert first == again == end != second
    assert got[0]["payload"]["severity"] == "critical"
    assert got[0]["payload"]["summary"].splitlines()[0] == "[critical] lab: lab-h1 is down"
    assert {each.path for each in peer.got} == {"/eu"}


@pytest.mark.slow
def test_pagerduty_takes_a_long_text(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins import pagerduty

    monkeypatch.setattr(pagerduty, "PAGERDUTY_API_LOOKUP", {"us": peer.url})
    [got] = told(peer, "pagerduty://A1BRTD4JD@TIiajkdnlazkcOXrIdevi7FQ", parcel(body="x" * 100_000))
    assert len(got.json["payload"]["summary"]) <= 1024


@pytest.mark.parametrize(("severity", "priority"), [("critical", "P1"), ("warning", "P3"), ("info", "P5")])
def test_opsgenie_has_one_alert_that_is_closed(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch, severity: str, priority: str
) -> None:
    from apprise.plugins import opsgenie

    monkeypatch.setattr(opsgenie, "OPSGENIE_API_LOOKUP", {"us": peer.url, "eu": f"{peer.url}/v2/alerts"})
    monkeypatch.setattr(peer, "usual", 202)
    url = "opsgenie://a2b3c4d5-e6f7/?region=eu"
    peer.answers = []
    begin, end = (apprise_process.send(order(Apprise("a", url), parcel(state, severity=severity))) for state in STATES)
    opened, closed = peer.got
    assert end == "taken"
    assert (opened.path, opened.json["priority"], opened.json["message"]) == (
        "/v2/alerts",
        priority,
        f"[{severity}] lab: lab-h1 is down",
    )
    assert opened.headers["Authorization"] == closed.headers["Authorization"] == "GenieKey a2b3c4d5-e6f7"
    assert closed.path == f"/v2/alerts/{opened.json['alias']}/close?identifierType=alias"
    assert closed.json["note"].startswith("[resolved] lab: lab-h1 is down\nit is back")
    peer.answers = [422]
    assert apprise_process.send(order(Apprise("a", url), parcel("resolved"))) == "it has not closed the alert"


STATES = ("firing", "resolved")


def test_slack(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", peer.url)
    peer.says = b"ok"
    [got] = told(peer, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", parcel())
    assert got.path == "/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert "[critical] lab: lab-h1 is down" in got.body.decode() and "Died: lab-h1" in got.body.decode()


def test_telegram(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.telegram import NotifyTelegram

    monkeypatch.setattr(NotifyTelegram, "notify_url", f"{peer.url}/bot")
    got = told(peer, "tgram://123456789:abcdefg_hijklmnop/12315544/", parcel(title="lab: <b>h1</b> is down"))[-1]
    assert "sendMessage" in got.path and "abcdefg_hijklmnop" in got.path
    said = got.json
    assert str(said["chat_id"]) == "12315544" and "Died: lab-h1" in said["text"]
    assert said["parse_mode"] == "HTML" and "&lt;b&gt;h1&lt;/b&gt; is down" in said["text"]


def test_ntfy(peer: HttpPeer) -> None:
    url = peer.url.replace("http://", "ntfy://anna:secret@") + "/poolwarden"
    begin, end = told(peer, url, parcel(), parcel("resolved"))
    assert (begin.headers["X-Priority"], end.headers.get("X-Priority", "default")) == ("max", "default")
    assert begin.json["topic"] == "poolwarden" and begin.json["title"] == "[critical] lab: lab-h1 is down"
    assert begin.json["message"].startswith("Died: lab-h1")


def test_pushover(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.pushover import NotifyPushover

    monkeypatch.setattr(NotifyPushover, "notify_url", peer.url)
    url = f"pover://{'u' * 30}@{'t' * 30}/"
    got = told(peer, url, parcel(body="x" * 5000), parcel("resolved"), parcel(severity="info"))
    said = [{name: values[0] for name, values in parse_qs(each.body.decode()).items()} or each.json for each in got]
    assert [str(each["priority"]) for each in said] == ["1", "0", "-2"]
    assert said[0]["title"] == "[critical] lab: lab-h1 is down" and len(said[0]["message"]) <= 1024


@pytest.mark.slow
def test_teams(tmp_path: Path) -> None:
    tls = authority(tmp_path)
    with http_peer(tls) as peer:
        peer.usual = 202
        url = peer.url.replace("https://", "workflows://") + "/643b6ba1/S1gnature"
        AppriseSink(Apprise("a", url, tls.ca)).deliver(parcel(body="x" * 5000))
    [got] = peer.got
    assert "/643b6ba1/" in got.path and "sig=S1gnature" in got.path
    assert "[critical] lab: lab-h1 is down" in got.body.decode() and len(got.body) < 5000


def test_what_the_address_says_itself_is_kept() -> None:
    kept = apprise_process.address(
        order(Apprise("a", "opsgenie://k/?alias=mine&priority=p2&:info=note&overflow=split"), parcel())
    )
    assert kept.count("alias=") == kept.count("priority=") == kept.count("info=") == kept.count("overflow=") == 1


@pytest.mark.slow
def test_the_library_is_not_loaded_where_nothing_is_sent() -> None:
    import subprocess
    import sys

    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import poolwarden_collector.shell.main;"
        "print([name for name in ('apprise', 'requests') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sys.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
