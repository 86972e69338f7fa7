"""JSON-RPC as xapi speaks it by POST to ``/jsonrpc``, on bytes alone.

A request without ``jsonrpc`` is one of version 1.0. Answers echo the request's id; a failure is ``error: [code,
params...]`` in 1.0 and ``error: {code: 1, message: CODE, data: [params]}`` in 2.0. Two peculiarities (xapi:
ocaml/xapi/api_server.ml, jsoncallback):

* What the emergency gate refuses comes by another way: 2.0 whatever was asked for, ``error`` a bare array, the id 0.
* Integers are strings of digits, as in XML-RPC, but for the few that are numbers there as well.

A request that is none is no error of JSON-RPC but HTTP 500.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from poolwarden_lab.xapi.actions import Answer, Fault, Number
from poolwarden_lab.xapi.wire import BadCall


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    params: tuple[object, ...]
    id: str | int
    version: str  # "1.0" or "2.0"


def read_request(body: bytes) -> Request:
    """Raises BadCall. xapi takes no notification: an id there must be."""
    try:
        request = json.loads(body.decode("utf-8"))
        method, params, number = request["method"], request["params"], request["id"]
        version = request.get("jsonrpc", "1.0")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadCall(f"no JSON-RPC request: {error!r}") from error
    if isinstance(params, dict):
        params = [params]
    right = isinstance(method, str) and isinstance(params, list) and version in ("1.0", "2.0")
    if not right or isinstance(number, bool) or not isinstance(number, (str, int)):
        raise BadCall("no JSON-RPC request of version 1.0 or 2.0")
    return Request(method, tuple(params), number, version)


def write_response(request: Request, result: Answer | Fault) -> bytes:
    if isinstance(result, Fault) and result.by_gate:
        return _dump({"jsonrpc": "2.0", "error": [result.code, *result.params], "id": 0})
    value = _out(result.value) if isinstance(result, Answer) else None
    error = [result.code, *result.params] if isinstance(result, Fault) else None
    if request.version == "1.0":
        return _dump({"result": value, "error": error, "id": request.id})
    if error is None:
        return _dump({"jsonrpc": "2.0", "result": value, "id": request.id})
    refusal = {"code": 1, "message": error[0], "data": error[1:]}
    return _dump({"jsonrpc": "2.0", "error": refusal, "id": request.id})


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _out(value: object) -> Any:
    if isinstance(value, (bool, Number, float)):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _out(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_out(item) for item in value]
    return value if value is None else str(value)
