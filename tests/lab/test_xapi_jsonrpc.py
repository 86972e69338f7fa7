"""JSON-RPC and XML-RPC on the wire: shapes that clients' parsers rely on.

Source: xapi ocaml/xapi/api_server.ml, doc/content/xen-api/wire-protocol.md.
"""

import json
import re
import xmlrpc.client

import pytest
from xapi_pool import running_pool

from poolwarden_lab.xapi import jsonrpc, wire
from poolwarden_lab.xapi.actions import Answer, Fault, Number, PeerResult, Timestamp

VALUE = {"b": True, "i": 5, "n": Number(5), "s": 'a<&>"\r\n\t\x00ä', "l": ["x", []], "d": {}, "r": 0.5}


def request(**changes: object) -> bytes:
    whole = {"jsonrpc": "2.0", "method": "pool.get_all", "params": ["s"], "id": "x", **changes}
    return json.dumps({key: item for key, item in whole.items() if item is not ...}).encode()


def answered(result: Answer | Fault, **changes: object) -> object:
    return json.loads(jsonrpc.write_response(jsonrpc.read_request(request(**changes)), result))


def test_answers_of_both_versions() -> None:
    assert answered(Answer(["r"])) == {"jsonrpc": "2.0", "result": ["r"], "id": "x"}
    assert answered(Answer(["r"]), jsonrpc=..., id=7) == {"result": ["r"], "error": None, "id": 7}


def test_errors_of_both_versions() -> None:
    fault = Fault("SESSION_INVALID", ("s",))
    refusal = {"code": 1, "message": "SESSION_INVALID", "data": ["s"]}
    assert answered(fault) == {"jsonrpc": "2.0", "error": refusal, "id": "x"}
    assert answered(fault, jsonrpc=...) == {"result": None, "error": ["SESSION_INVALID", "s"], "id": "x"}


@pytest.mark.parametrize("version", ["2.0", ...])
def test_the_emergency_gates_refusal_is_malformed(version: object) -> None:
    """api_server.ml jsoncallback: by the exception, so a bare array, always 2.0, and the id is not echoed."""
    fault = Fault("HOST_STILL_BOOTING", (), by_gate=True)
    assert answered(fault, jsonrpc=version) == {"jsonrpc": "2.0", "error": ["HOST_STILL_BOOTING"], "id": 0}


def test_only_the_gate_refuses_so() -> None:
    pool = running_pool()
    pool.hosts["h2"].disk.write("etc/xensource/pool.conf", b"broken")
    pool.restart_xapi("h2")
    pool.run_until(pool.now + 30_000)
    replies: list[PeerResult] = [
        pool.call_now("h2", "tcp", method, params)
        for method, params in (("pool.get_all", ("x",)), ("session.slave_local_login", ("wrong",)))
    ]
    assert [isinstance(reply, Fault) and reply.by_gate for reply in replies] == [True, False]


def test_values_in_json() -> None:
    said = answered(Answer({**VALUE, "t": Timestamp("20260101T00:00:00Z")}))
    assert isinstance(said, dict)
    assert said["result"] == {**VALUE, "i": "5", "n": 5, "t": "20260101T00:00:00Z"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        request(params=...),
        request(id=...),
        request(id=None),
        request(id=True),
        request(id=1.5),
        request(method=5),
        request(params="s"),
        request(jsonrpc="3.0"),
    ],
)
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(wire.BadCall):
        jsonrpc.read_request(body)


def test_parameters_by_name_are_one_parameter() -> None:
    assert jsonrpc.read_request(request(params={"a": 1})).params == ({"a": 1},)


def test_xml_has_no_white_space_between_tags_and_is_read_by_the_stock_parser() -> None:
    """The parser of npm's xen-api throws on a newline between tags."""
    given = {**VALUE, "t": Timestamp("20260101T00:00:00Z"), "e": ""}
    for body in (wire.write_result(Answer(given)), wire.write_call("a.b", (given, "x")), wire.write_result(Fault("F"))):
        assert not re.search(rb">\s+<", body)
    ((envelope,), _) = xmlrpc.client.loads(wire.write_result(Answer(given)).decode())
    read = envelope["Value"]
    assert str(read.pop("t")) == "20260101T00:00:00Z"
    assert read == {**VALUE, "i": "5", "e": "", "s": 'a<&>"\r\n\t?ä'}
    assert wire.read_call(wire.write_call("a.b", ("x", True))) == ("a.b", ("x", True))


def test_list_methods_alone_comes_without_an_envelope() -> None:
    ((bare,), _) = xmlrpc.client.loads(wire.write_result(Answer(["a", "b"]), bare=True).decode())
    assert bare == ["a", "b"]
    ((wrapped,), _) = xmlrpc.client.loads(wire.write_result(Fault("F", ("x",)), bare=True).decode())
    assert wrapped == {"Status": "Failure", "ErrorDescription": ["F", "x"]}
