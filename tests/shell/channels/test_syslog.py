"""Syslog: read back by a strict reader of RFC 5424, and by rsyslogd over UDP, TCP and a local socket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolwarden_collector.shell.alerts.channels.syslog import SyslogSink, message
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.alert_kinds import Syslog

from .peers import (
    EVIL,
    HOST,
    KEY,
    POOL,
    WITHIN_S,
    Authority,
    authority,
    drip,
    free_port,
    parcel,
    silent,
    tcp_peer,
    wait,
)

DAEMON = 3
# RFC 5424, 6: HEADER SP STRUCTURED-DATA SP BOM MSG-UTF8, each field with its longest length.
_SD = r"\[(?P<id>[!-<>-\\^-~]{1,32})(?P<data>( [!-<>-~]{1,32}=\"([^\"\\\]]|\\[\"\\\]])*\")*)\]"
HEADER = (
    r"<(?P<pri>\d{1,3})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    r"(?P<pid>[!-~]{1,128}) (?P<id>[!-~]{1,32}) (?P<sd>\[.*?(?<!\\)\]) \ufeff(?P<text>.*)"
)


def parsed(told: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The header with the text, and the structured data, unescaped."""
    found = re.fullmatch(HEADER, told.decode(), re.DOTALL)
    assert found, told
    structured = re.fullmatch(_SD, found["sd"])
    assert structured and structured["id"] == "poolwarden@32473", found["sd"]
    pairs = re.findall(r' ([^=]+)="((?:[^"\\\]]|\\["\\\]])*)"', structured["data"])
    return found.groupdict(), {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in pairs}


def test_a_message_says_it_all() -> None:
    head, data = parsed(message(parcel(), DAEMON))
    assert (head["pri"], head["app"], head["id"]) == (str(DAEMON * 8 + 2), "poolwarden", "host-down")
    assert head["host"] == re.sub(r"[^!-~]", "_", socket.gethostname())
    assert head["text"] == ("[critical] lab: lab-h1 is down | Died: lab-h1 | Did: nothing | You: look | Open: 3 VMs")
    assert data == {
        "key": KEY,
        "occurrence": "1",
        "state": "firing",
        "severity": "critical",
        "pool": "lab",
        "pool_uuid": POOL,
        "host": HOST,
        "collector": "watch-1",
        "raised_at": "2026-01-31T20:00:00.000Z",
        "runbook": "https://wiki.example.com/poolwarden/runbook.md#host-down",
    }
    head, data = parsed(message(parcel("resolved"), 16))
    assert (head["pri"], head["text"]) == (str(16 * 8 + 5), "[resolved] lab: lab-h1 is down | it is back")
    assert (data["state"], data["resolved_at"]) == ("resolved", "2026-01-31T20:10:00.000Z")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80), st.text(st.sampled_from('a"\\]\r\n= '), max_size=40))
def test_whatever_a_name_is_the_message_stays_one(title: str, name: str) -> None:
    told = message(parcel(title=title, collector=name, pool={"uuid": "u", "name": name}, runbook=name), DAEMON)
    head, data = parsed(told)
    assert "\n" not in told.decode() and "\r" not in told.decode() and "\x00" not in told.decode()
    assert head["pri"] == "26" and data["pool_uuid"] == "u"
    clean = " ".join(name.split())
    assert data.get("collector", "") == clean == data.get("pool", "")


def test_a_long_alert_is_cut_to_what_receivers_take() -> None:
    head, data = parsed(message(parcel(title="ä" * 5000, key=f"{POOL}/x" + "y" * 500), DAEMON))
    assert head["text"].endswith("ä...") and data["key"].endswith("y...")
    assert len(message(parcel(title="ä" * 5000), DAEMON)) <= 2048


# ------------------------------------------------------------------------------------------------ peers of our own


def syslog(transport: str, port: int, ca: Path | None = None) -> Syslog:
    return Syslog("x", transport, "127.0.0.1", port, DAEMON, ca)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


def frames(told: bytes) -> list[bytes]:
    """By octet counting (RFC 6587, 3.4.1)."""
    found = []
    while told:
        size, _, rest = told.partition(b" ")
        found.append(rest[: int(size)])
        told = rest[int(size) :]
    return found


@pytest.mark.parametrize("answers", [True, False], ids=["says goodbye", "closes"])
def test_over_tls_one_counted_message(tls: Authority, answers: bool) -> None:
    got: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        with tls.context().wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as secured:
            told = b""
            while more := secured.recv(4096):
                told += more
            got.append(told)
            if answers:
                secured.unwrap()

    with tcp_peer(talk) as port:
        SyslogSink(syslog("tls", port, tls.ca)).deliver(parcel(title=EVIL))
        wait(lambda: got)
    [frame] = frames(got[0])
    assert parsed(frame)[1]["key"] == KEY


def test_a_certificate_that_is_not_trusted_gets_nothing(tls: Authority, tmp_path: Path) -> None:
    got: list[Any] = []

    def talk(sock: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), tls.context().wrap_socket(sock, server_side=True) as secured:
            got.append(secured.recv(10))

    other = authority(tmp_path / "other")
    with tcp_peer(talk) as port:
        for ca in (None, other.ca):
            with pytest.raises(SinkError, match="certificate is not accepted"):
                SyslogSink(syslog("tls", port, ca)).deliver(parcel())
    assert got == []


def _reads_nothing(sock: socket.socket) -> None:
    threading.Event().wait(2)


@pytest.mark.parametrize(
    ("talk", "expected"),
    [(_reads_nothing, "timed out"), (drip(b""), "not done within 0.6 s")],
    ids=["never closes", "talks for ever"],
)
@pytest.mark.slow
def test_a_receiver_that_hangs_has_not_taken_it(talk: Any, expected: str) -> None:
    with tcp_peer(talk) as port, pytest.raises(SinkError, match=expected):
        SyslogSink(syslog("tcp", port), 0.4, 0.6).deliver(parcel())


@pytest.mark.slow
def test_a_tls_receiver_that_hangs_has_not_taken_it(tls: Authority) -> None:
    def talk(sock: socket.socket) -> None:
        with tls.context().wrap_socket(sock, server_side=True) as secured:
            drip(b"")(secured)

    for each in (silent, talk):
        with tcp_peer(each) as port, pytest.raises(SinkError):
            SyslogSink(syslog("tls", port, tls.ca), 0.4, 0.6).deliver(parcel())


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="refused"):
        SyslogSink(syslog("tcp", free_port())).deliver(parcel())
    with pytest.raises(SinkError, match="No such file"):
        SyslogSink(Syslog("x", "unix", str(tmp_path / "nowhere"), 0, DAEMON)).deliver(parcel())


# ------------------------------------------------------------------------------------------------ rsyslogd


@dataclass
class Daemon:
    udp: int
    tcp: int
    unix: Path
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="8k")
module(load="imudp") module(load="imtcp") module(load="imuxsock" SysSock.Use="off")
module(load="mmpstrucdata")
template(name="seen" type="string" string="%msg:::json%\\n")
template(name="all" type="list") {{
  constant(value="{{") property(name="pri" outname="pri" format="jsonf") constant(value=",")
  property(name="app-name" outname="app" format="jsonf") constant(value=",")
  property(name="msgid" outname="id" format="jsonf") constant(value=",")
  property(name="protocol-version" outname="version" format="jsonf") constant(value=",")
  property(name="structured-data" outname="sd" format="jsonf") constant(value=",")
  constant(value="\\"data\\":") property(name="$!rfc5424-sd") constant(value=",")
  property(name="msg" outname="text" format="jsonf") constant(value="}}\\n")
}}
ruleset(name="poolwarden") {{
  action(type="mmpstrucdata")
  action(type="omfile" file="{log}" template="all")
}}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="poolwarden")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="poolwarden")
input(type="imuxsock" Socket="{unix}" UseSpecialParser="off" ParseHostname="on" ruleset="poolwarden")
"""


@pytest.fixture(scope="module")
def rsyslogd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("rsyslog")
    daemon = Daemon(free_port(socket.SOCK_DGRAM), free_port(), folder / "log.sock", folder / "log")
    file = folder / "rsyslog.conf"
    file.write_text(
        CONFIGURATION.format(folder=folder, log=daemon.log, udp=daemon.udp, tcp=daemon.tcp, unix=daemon.unix)
    )
    program = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/bin") or ""
    with (folder / "out").open("wb") as out:
        running = subprocess.Popen([program, "-n", "-f", file, "-i", folder / "pid"], stdout=out, stderr=out)
    try:
        wait(lambda: _listens(daemon.tcp) or running.poll() is not None)
        assert running.poll() is None, (folder / "out").read_text()
        yield daemon
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(WITHIN_S)


def _stands_still(pid: int) -> bool:
    """Have all its threads been stopped (proc(5), stat)?"""
    return all(
        stat.read_text().rpartition(") ")[2].startswith("T") for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    )


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.slow
@pytest.mark.needs("rsyslogd")
@pytest.mark.parametrize("transport", ["udp", "tcp", "unix"])
def test_a_real_daemon_reads_what_was_meant(rsyslogd: Daemon, transport: str) -> None:
    server = str(rsyslogd.unix) if transport == "unix" else "127.0.0.1"
    port = {"udp": rsyslogd.udp, "tcp": rsyslogd.tcp}.get(transport, 0)
    sink = SyslogSink(Syslog("x", transport, server, port, DAEMON))
    before = len(rsyslogd.lines())
    sink.deliver(parcel(collector=transport))
    sink.deliver(parcel("resolved", title=EVIL, collector=transport, pool={"uuid": POOL, "name": EVIL}))
    wait(lambda: len(rsyslogd.lines()) >= before + 2)
    begin, end = rsyslogd.lines()[before:]
    assert (begin["pri"], begin["app"], begin["id"], begin["version"]) == ("26", "poolwarden", "host-down", "1")
    assert begin["text"].removeprefix("\ufeff").startswith("[critical] lab: lab-h1 is down | Died: lab-h1")
    assert begin["data"]["poolwarden@32473"]["key"] == KEY
    assert begin["data"]["poolwarden@32473"]["collector"] == transport
    assert (end["pri"], end["data"]["poolwarden@32473"]["state"]) == ("29", "resolved")
    assert end["data"]["poolwarden@32473"]["pool_uuid"] == POOL
    assert "Bcc: x@evil.example <13>1 - - -" in end["text"]


@pytest.mark.slow
@pytest.mark.needs("rsyslogd")
def test_a_frozen_daemon_has_not_taken_it(rsyslogd: Daemon) -> None:
    pid = int((rsyslogd.log.parent / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        wait(lambda: _stands_still(pid))
        with pytest.raises(SinkError, match="timed out"):
            SyslogSink(syslog("tcp", rsyslogd.tcp), 0.3, 1.0).deliver(parcel())
    finally:
        os.kill(pid, signal.SIGCONT)
