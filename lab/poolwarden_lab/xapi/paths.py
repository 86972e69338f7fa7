"""Who answers which path: xapi's HTTP handlers, as far as the model has them.

The handler with the longest prefix of the path answers, and ``/`` is a prefix of every path: a POST to a path that
nobody knows is a call of XML-RPC (xapi: ocaml/libs/http-lib/http_svr.ml, handle_one; the table: ocaml/idl/datamodel.ml,
http_actions).
"""

from __future__ import annotations

from typing import Literal

Handler = Literal["xml", "json"]

_POST: dict[str, Handler | int] = {
    "/": "xml",
    "/RPC2": "xml",
    "/json": "xml",  # XML-RPC as well, whatever its name (api_server.ml, callback)
    "/jsonrpc": "json",
    "/cli": 501,  # of the model: xe's own protocol is not spoken
    "/remote_db_access": 403,  # without the pool secret
    "/services": 403,
}


def handler(method: str, path: str) -> Handler | int:
    """The protocol of a request, or the HTTP status that refuses it."""
    if method == "GET":
        return 404
    if method != "POST":
        return 501
    plain = path.split("?")[0]
    return _POST[max((prefix for prefix in _POST if plain.startswith(prefix)), key=len, default="/")]
