"""XML-RPC as xapi speaks it, on bytes alone.

A call is an XML-RPC methodCall; its answer is a methodResponse whose one value is the envelope ``{Status: "Success",
Value}`` or ``{Status: "Failure", ErrorDescription: [code, params...]}``. XML-RPC's own <fault> is never used. Integers
travel as strings, so that a value here is a string, a boolean, a list, a map or a `Timestamp`.
"""

from __future__ import annotations

import xmlrpc.client
from typing import Any
from xml.parsers.expat import ExpatError

from poolwarden_lab.xapi.actions import Answer, Fault, Timestamp

MAX_BODY = 300 * 1024
"""Longest request body, bytes (xapi: ocaml/database/db_globs.ml:52)."""


class BadCall(ValueError):
    """The bytes are no XML-RPC call or answer."""


def read_call(body: bytes) -> tuple[str, tuple[object, ...]]:
    """Method and parameters of a request body. Raises BadCall."""
    try:
        params, method = xmlrpc.client.loads(body.decode("utf-8"), use_builtin_types=False)
    except (ExpatError, ValueError, xmlrpc.client.Error, LookupError, TypeError) as error:
        raise BadCall(str(error)) from error
    if method is None:
        raise BadCall("no methodCall")
    return method, tuple(params)


def write_call(method: str, params: tuple[object, ...]) -> bytes:
    return xmlrpc.client.dumps(tuple(_out(param) for param in params), method).encode()


def write_result(result: Answer | Fault) -> bytes:
    if isinstance(result, Answer):
        envelope: dict[str, Any] = {"Status": "Success", "Value": _out(result.value)}
    else:
        envelope = {"Status": "Failure", "ErrorDescription": [result.code, *result.params]}
    return xmlrpc.client.dumps((envelope,), methodresponse=True).encode()


def read_result(body: bytes) -> Answer | Fault:
    """The envelope of a response body. Raises BadCall."""
    try:
        envelope: Any = xmlrpc.client.loads(body.decode("utf-8"))[0][0]
        if envelope["Status"] == "Success":
            return Answer(envelope["Value"])
        code, *params = envelope["ErrorDescription"]
    except (ExpatError, ValueError, KeyError, IndexError, TypeError, xmlrpc.client.Error) as error:
        raise BadCall(str(error)) from error
    return Fault(str(code), tuple(str(param) for param in params))


def _out(value: object) -> Any:
    if isinstance(value, Timestamp):
        return xmlrpc.client.DateTime(str(value))
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _out(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_out(item) for item in value]
    return value
