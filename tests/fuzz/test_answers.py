"""What BMCs, receivers of alerts, xapis and fence agents answer, nearly right: understood, or an error of its own."""

from __future__ import annotations

import http.client
import io
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from agent.mutator import played

from poolwarden import redfish_question
from poolwarden_agent.dom0.xapi import exchange
from poolwarden_agent.dom0.xapi.errors import XapiError
from poolwarden_collector.shell.alerts.channels import http_post
from poolwarden_collector.shell.alerts.sinks import SinkError
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.agent_metadata import described, misfit

PASSWORD = "hunter2"
QUESTION = {"address": "192.0.2.1", "port": "443", "user": "u", "password": PASSWORD, "verify": False, "system": ""}


class Answering(http.client.HTTPConnection):
    """A connection on which these bytes come."""

    data = b""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__("192.0.2.1")

    def connect(self) -> None:
        self.sock = self  # type: ignore[assignment]

    def sendall(self, _: object) -> None:
        pass

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self.data)

    def close(self) -> None:
        pass

    def shutdown(self, _: int) -> None:
        pass


def test_a_redfish_service_says_a_machine_or_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(redfish_question.ssl, "create_default_context", lambda: context)  # which reads all of its CAs
    monkeypatch.setattr(redfish_question.http.client, "HTTPSConnection", Answering)

    def play(data: bytes) -> None:
        Answering.data = data
        said, why = io.BytesIO(), io.StringIO()
        out = io.TextIOWrapper(said, "ascii", write_through=True)  # as with LC_ALL=C
        with monkeypatch.context() as within:
            within.setattr(sys, "stdin", io.StringIO(json.dumps({**QUESTION, "base": "/redfish/v1"})))
            within.setattr(sys, "stdout", out)
            within.setattr(sys, "stderr", why)
            code = redfish_question.main()
            sys.stdout.flush()
        assert code in (0, 1, 3, 4) and PASSWORD not in why.getvalue() and len(said.getvalue()) < 3 * 1024 * 1024
        names = [line.partition(b"=")[0] for line in said.getvalue().splitlines()]
        assert set(names) <= {b"uuid", b"serial", b"system"} and len(names) <= 3, said.getvalue()[:300]

    played("answers", play, 300, ())


def test_a_receiver_of_alerts_has_taken_one_or_an_error_says_nothing_of_what_it_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_post.http.client, "HTTPConnection", Answering)

    def play(data: bytes) -> None:
        Answering.data = data
        try:
            http_post.post("http://192.0.2.1/hook", b"{}", {})
        except SinkError as error:
            assert str(error).isprintable() and len(str(error)) < 200, str(error)
            raise

    _, errors = played("answers", play, 300, SinkError, refusing=True)
    assert len(errors) > 1, errors


def test_a_xapis_answer_is_a_value_or_an_error() -> None:
    def play(data: bytes) -> None:
        exchange.decode_answer(data)

    _, errors = played("xml_rpc", play, 300, XapiError, refusing=True)
    assert len(errors) > 5, errors


def test_a_fence_agents_description_is_one_or_none() -> None:
    device: dict[str, Any] = {
        "host": "h",
        "agent": Path("/usr/sbin/fence_t"),
        "name": "t",
        "level": 1,
        "limit_ms": 5000,
    }
    fence = Fence(**device, parameters={"ip": "192.0.2.1", "lanplus": "1", "password": PASSWORD})

    def play(data: bytes) -> None:
        said = misfit(fence, described(data.decode("utf-8", "replace")))
        assert PASSWORD not in said

    accepted, _ = played("metadata", play, 60, ())
    assert accepted
