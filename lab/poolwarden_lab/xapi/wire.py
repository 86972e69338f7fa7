"""XML-RPC as xapi speaks it, on bytes alone.

A call is an XML-RPC methodCall; its answer is a methodResponse whose one value is the envelope ``{Status: "Success",
Value}`` or ``{Status: "Failure", ErrorDescription: [code, params...]}``, without white space between the tags (the
parser of npm's xen-api throws on it). ``system.listMethods`` alone answers without the envelope (xapi:
ocaml/xapi/api_server.ml). XML-RPC's own <fault> is never used. Integers travel as strings, so that a value here is a
string, a boolean, a list, a map, a float, a `Number` or a `Timestamp`.
"""

from __future__ import annotations

import xmlrpc.client
from typing import Any
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

from poolwarden_lab.xapi.actions import Answer, Fault
from poolwarden_lab.xapi.xml_value import write_value

MAX_BODY = 300 * 1024
"""Longest request body, bytes (xapi: ocaml/database/db_globs.ml:52)."""


class BadCall(ValueError):
    """The bytes are no call or answer."""


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
    given = "".join(f"<param>{write_value(param)}</param>" for param in params)
    name = f"<methodName>{escape(method)}</methodName>"
    return f'<?xml version="1.0"?><methodCall>{name}<params>{given}</params></methodCall>'.encode()


def write_result(result: Answer | Fault, *, bare: bool = False) -> bytes:
    """`bare`: without the envelope, for a success."""
    envelope: object
    if isinstance(result, Answer):
        envelope = result.value if bare else {"Status": "Success", "Value": result.value}
    else:
        envelope = {"Status": "Failure", "ErrorDescription": [result.code, *result.params]}
    value = write_value(envelope)
    return f'<?xml version="1.0"?><methodResponse><params><param>{value}</param></params></methodResponse>'.encode()


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
