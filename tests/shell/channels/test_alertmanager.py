"""Alertmanager: what it is told, by a receiver that keeps it; and what real ones make of it, restarts included."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.alerts.channels import alertmanager
from poolwarden_collector.shell.alerts.channels.alertmanager import AlertmanagerSink
from poolwarden_collector.shell.alerts.sinks import Refreshing, SinkError
from poolwarden_collector.shell.config.alert_kinds import Alertmanager

from .peers import EVIL, HOST, KEY, POOL, WITHIN_S, authority, free_port, http_peer, parcel, wait

BEGIN_MS = clock.ms_of("2026-01-31T20:00:00.000Z") or 0
LABELS = {
    "alertname": "PoolwardenHostDown",
    "severity": "critical",
    "pool": "lab",
    "pool_uuid": POOL,
    "host": HOST,
    "collector": "watch-1",
    "key": KEY,
}


def sink(*urls: str, **more: Any) -> AlertmanagerSink:
    return AlertmanagerSink(Alertmanager("am", urls, **more), "watch-1")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wall clock, which a test sets."""
    wall = [BEGIN_MS + 60_000]
    monkeypatch.setattr(clock, "wall_ms", lambda: wall[0])
    return wall


def test_an_alert_as_the_api_takes_it(now: list[int]) -> None:
    with http_peer() as peer:
        sink(peer.url).deliver(parcel())
        sink(peer.url).deliver(parcel("resolved"))
    assert [request.path for request in peer.got] == ["/api/v2/alerts"] * 2
    [begin], [end] = (request.json for request in peer.got)
    runbook = "https://wiki.example.com/poolwarden/runbook.md#host-down"
    assert begin == {
        "labels": LABELS,
        "annotations": {
            "summary": "lab: lab-h1 is down",
            "description": "Died: lab-h1\nDid:  nothing\nYou:  look\nOpen: 3 VMs\n\ndetails",
            "runbook_url": runbook,
        },
        "startsAt": "2026-01-31T20:00:00.000Z",
        "endsAt": "2026-01-31T20:16:00.000Z",
        "generatorURL": runbook,
    }
    assert (end["labels"], end["startsAt"]) == (begin["labels"], begin["startsAt"])
    assert end["endsAt"] == "2026-01-31T20:10:00.000Z"


@pytest.mark.parametrize(
    ("changed", "begin", "end"),
    [
        ({"resolved_at": "2026-01-31T19:00:00.000Z"}, 0, 0),  # the wall clock was set back meanwhile
        ({"raised_at": "2026-02-01T00:00:00.000Z"}, 60_000, 600_000),  # or forward and back
        ({"raised_at": "?", "resolved_at": "?"}, 60_000, 60_000),
    ],
    ids=str,
)
def test_it_never_ends_before_it_begins(now: list[int], changed: dict[str, str], begin: int, end: int) -> None:
    told = alertmanager.alert(parcel("resolved", **changed), now[0])
    assert (told["startsAt"], told["endsAt"]) == (clock.text_of(BEGIN_MS + begin), clock.text_of(BEGIN_MS + end))


@pytest.mark.parametrize(
    ("changed", "labels"),
    [
        ({"key": f"{POOL}/fence-bmc-1-hung", "data": {"message": "fence-hung"}}, {"device": "bmc-1"}),
        ({"key": f"{POOL}/f-1/done", "data": {"message": "done", "host": HOST}}, {"host": HOST}),
        ({"key": f"{POOL}/unsteady", "data": {"message": "unsteady"}}, {}),
    ],
    ids=["a device", "a host among the facts", "of the pool"],
)
def test_what_it_is_about(changed: dict[str, Any], labels: dict[str, str]) -> None:
    found = alertmanager.alert(parcel(**changed), 0)["labels"]
    assert {name: value for name, value in found.items() if name in ("host", "device")} == labels


@pytest.mark.parametrize(
    ("key", "data", "name"),
    [
        (KEY, {"message": "two-masters"}, "PoolwardenTwoMasters"),
        ("collector/journal", {}, "PoolwardenCollector"),
        ("storm/7", {}, "PoolwardenStorm"),
        (f"{POOL}/x", {"message": "A b\n"}, "PoolwardenAlert"),
        ("odd", {}, "PoolwardenAlert"),
    ],
)
def test_names(key: str, data: dict[str, str], name: str) -> None:
    assert alertmanager.alert(parcel(key=key, data=data), 0)["labels"]["alertname"] == name


def test_it_refreshes_what_stands_and_repeats_an_end_for_a_while(now: list[int]) -> None:
    with http_peer() as peer:
        told = sink(peer.url)
        assert isinstance(told, Refreshing) and told.refresh_every_s * 4_000 < alertmanager.DEADMAN_MS
        assert alertmanager.DEADMAN_MS < alertmanager.KEPT_MS
        told.refresh([parcel()], alive=True)
        standing, deadman = peer.got.pop().json
        assert (standing["labels"], standing["endsAt"]) == (LABELS, clock.text_of(now[0] + alertmanager.KEPT_MS))
        assert deadman["labels"] == {"alertname": "PoolwardenDeadman", "severity": "none", "collector": "watch-1"}
        assert deadman["endsAt"] == clock.text_of(now[0] + alertmanager.DEADMAN_MS)
        told.deliver(parcel("resolved"))
        now[0] += alertmanager.KEPT_MS - 1
        told.refresh([], alive=False)
        assert peer.got.pop().json == peer.got.pop().json
        now[0] += 1
        told.refresh([], alive=False)
        assert peer.got == []


def test_an_end_is_not_repeated_over_the_next_occurrence(now: list[int]) -> None:
    with http_peer() as peer:
        told = sink(peer.url)
        told.deliver(parcel("resolved"))
        again = parcel(occurrence=2, raised_at="2026-01-31T20:01:00.000Z")
        told.deliver(again)
        told.refresh([again], alive=False)
        assert [each["startsAt"] for each in peer.got[-1].json] == ["2026-01-31T20:01:00.000Z"]


def test_many_go_in_several_requests(now: list[int]) -> None:
    many = [parcel(key=f"{POOL}/host-down-{n}") for n in range(1100)]
    with http_peer() as peer:
        sink(peer.url).refresh(many, alive=True)
    assert [len(request.json) for request in peer.got] == [500, 500, 101]


def test_every_replica_is_told_and_one_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    with http_peer() as one, http_peer() as two:
        one.usual = 503
        sink(one.url, f"http://127.0.0.1:{free_port()}", two.url).deliver(parcel())
        assert (len(one.got), len(two.got)) == (1, 1)
        assert "replica 1: the receiver answered 503" in caplog.text and "replica 2: no answer" in caplog.text
        two.usual = 400
        with pytest.raises(SinkError, match="replica 1: .* 503; replica 2: .* 400"):
            sink(one.url, two.url).deliver(parcel())


def test_a_login_over_https(tmp_path: Path) -> None:
    tls = authority(tmp_path)
    with http_peer(tls) as peer:
        sink(peer.url, user="u", password="p\u00e4ss", ca=tls.ca).deliver(parcel())
        sink(peer.url, token="t0ken", ca=tls.ca).deliver(parcel())
        with pytest.raises(SinkError, match="certificate is not accepted"):
            sink(peer.url, token="t0ken").deliver(parcel())
    basic, bearer = (request.headers["Authorization"] for request in peer.got)
    assert base64.b64decode(basic.removeprefix("Basic ")).decode() == "u:p\u00e4ss" and bearer == "Bearer t0ken"
    assert "p\u00e4ss" not in repr(Alertmanager("a", ("http://x",), "u", "p\u00e4ss", "t0ken"))
    assert "t0ken" not in repr(Alertmanager("a", ("http://x",), "u", "p\u00e4ss", "t0ken"))


# ------------------------------------------------------------------------------------------------ real ones

CONFIGURATION = """
global: {{resolve_timeout: 2s}}
route: {{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: hook, webhook_configs: [{{url: "{hook}", send_resolved: true}}]}}]
"""


@dataclass
class Replica:
    folder: Path
    port: int
    cluster: int
    peer: int
    running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = shutil.which("prometheus-alertmanager")
        options = [
            f"--config.file={self.folder.parent / 'am.yml'}",
            f"--storage.path={self.folder}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--cluster.listen-address=127.0.0.1:{self.cluster}",
            "--cluster.settle-timeout=1ms",
            "--cluster.pushpull-interval=1s",
            f"--cluster.peer=127.0.0.1:{self.peer}",
        ]
        with (self.folder.parent / f"{self.port}.log").open("ab") as log:
            self.running = subprocess.Popen([str(program), *options], stdout=log, stderr=log)
        wait(lambda: self.answers("/-/ready"))

    def answers(self, path: str) -> Any:
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return answer.read() or b"-"
        return None

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Those that stand, by name."""
        return {each["labels"]["alertname"]: each for each in json.loads(self.answers("/api/v2/alerts") or "[]")}

    def stop(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait(WITHIN_S)
            self.running = None


@contextlib.contextmanager
def cluster(folder: Path, hook: str) -> Iterator[tuple[Replica, Replica]]:
    (folder / "am.yml").write_text(CONFIGURATION.format(hook=hook))
    ports = [free_port() for _ in range(4)]
    one = Replica(folder / "1", ports[0], ports[1], ports[3])
    two = Replica(folder / "2", ports[2], ports[3], ports[1])
    try:
        one.start()
        two.start()
        yield one, two
    finally:
        one.stop()
        two.stop()


@pytest.mark.slow
@pytest.mark.needs("prometheus-alertmanager")
def test_real_replicas_keep_an_alert_open_over_a_restart_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_peer() as hook, cluster(tmp_path, hook.url) as (one, two):
        # Shorter than in earnest, and longer than the resolve_timeout of those replicas.
        monkeypatch.setattr(alertmanager, "KEPT_MS", 6_000)
        monkeypatch.setattr(alertmanager, "DEADMAN_MS", 3_000)
        told = sink(one.url, two.url)
        raised = clock.wall_text()
        begin = parcel(raised_at=raised, title=EVIL)
        told.deliver(begin)
        standing = [replica.alerts()["PoolwardenHostDown"] for replica in (one, two)]
        assert standing[0]["fingerprint"] == standing[1]["fingerprint"]
        assert standing[0]["labels"] == LABELS
        assert standing[0]["annotations"]["summary"] == " ".join(standing[0]["annotations"]["summary"].split())
        assert standing[0]["generatorURL"].endswith("runbook.md#host-down")
        # A replica forgets everything with its process, and learns it again.
        two.stop()
        two.start()
        assert two.alerts() == {}
        told.refresh([begin], alive=True)
        assert set(two.alerts()) == {"PoolwardenHostDown", "PoolwardenDeadman"}
        # It outlasts what it would have been kept for without being told again.
        first = one.alerts()["PoolwardenHostDown"]["endsAt"]
        wait(lambda: clock.wall_ms() > (clock.ms_of(first) or 0) - 2_000)
        told.refresh([begin], alive=False)
        wait(lambda: clock.wall_ms() > (clock.ms_of(first) or 0))
        # Of the dead man nothing was said meanwhile, and that is what is heard.
        assert set(one.alerts()) == set(two.alerts()) == {"PoolwardenHostDown"}
        told.deliver(parcel("resolved", raised_at=raised, resolved_at=clock.wall_text()))
        assert one.alerts() == two.alerts() == {}
        wait(lambda: _heard(hook.got, "PoolwardenHostDown") == ["firing", "resolved"])
        assert _heard(hook.got, "PoolwardenDeadman")[0] == "firing"


def _heard(requests: Any, name: str) -> list[str]:
    """What the receiver behind the cluster was told of an alert."""
    each = [alert for request in requests for alert in request.json["alerts"]]
    return [alert["status"] for alert in each if alert["labels"]["alertname"] == name]


@pytest.mark.slow
@pytest.mark.needs("prometheus-alertmanager")
def test_a_replica_that_missed_an_end_learns_it(tmp_path: Path) -> None:
    with http_peer() as hook, cluster(tmp_path, hook.url) as (one, two):
        raised = clock.wall_text()
        told = sink(one.url, two.url)
        told.deliver(parcel(raised_at=raised))
        both = told._settings
        told._settings = replace(both, urls=(one.url, f"http://127.0.0.1:{free_port()}"))
        told.deliver(parcel("resolved", raised_at=raised, resolved_at=clock.wall_text()))
        assert one.alerts() == {} and set(two.alerts()) == {"PoolwardenHostDown"}
        told._settings = both
        told.refresh([], alive=False)
        wait(lambda: two.alerts() == {})
