"""One HTTP POST: the address itself answers 2xx within the limit, or the reason is raised.

Rules
-----
* Redirects are not followed (a POST would silently become a GET), proxies of the environment are not used: http.client
  knows neither.
* Errors name no address and quote no header: both hold tokens.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from poolwarden_collector.shell.alerts.channels.limits import Limit
from poolwarden_collector.shell.alerts.sinks import SinkError

STEP_LIMIT_S = 5.0  # for each step of the exchange
LIMIT_S = 15.0  # for all of it
_PLAIN = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    ca: Path | None = None,
    step_limit_s: float = STEP_LIMIT_S,
    limit_s: float = LIMIT_S,
) -> None:
    """Send ``body`` as JSON. Raises SinkError unless 2xx was answered."""
    parts = urlsplit(url)
    limit = Limit(limit_s)
    try:
        status = _exchange(_connection(parts, ca, step_limit_s), parts, body, headers, limit)
    except ssl.SSLCertVerificationError as error:
        raise SinkError(f"its certificate is not accepted: {error.verify_message}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        if limit.reached:
            raise SinkError(f"no answer within {limit_s:g} s") from None
        raise SinkError(f"no answer: {_reason(error)}") from None
    if limit.reached:  # what was cut off within its headers passes for an answer
        raise SinkError(f"no answer within {limit_s:g} s")
    if not 200 <= status < 300:
        raise SinkError(f"the receiver answered {status}")


def header(text: str) -> str:
    """A text as the value of a header: what is not printable ASCII is percent-encoded (RFC 3986, 2.1)."""
    return quote(text, safe=_PLAIN)


def _connection(parts: SplitResult, ca: Path | None, limit_s: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=limit_s)
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    return http.client.HTTPSConnection(host, parts.port, timeout=limit_s, context=context)


def _exchange(
    connection: http.client.HTTPConnection, parts: SplitResult, body: bytes, headers: Mapping[str, str], limit: Limit
) -> int:
    try:
        connection.connect()
        sock = connection.sock  # the connection forgets it as soon as the answer begins
        with limit.over(lambda: sock):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, {**_sender(parts), **headers})
            return connection.getresponse().status
    finally:
        connection.close()


def _sender(parts: SplitResult) -> dict[str, str]:
    found = {"Content-Type": "application/json", "User-Agent": "poolwarden-collector", "Connection": "close"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        found["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return found


def _reason(error: Exception) -> str:
    """What is wrong, without what the peer or the configuration says: http.client quotes both."""
    if isinstance(error, OSError):
        return str(error) or type(error).__name__
    return "the peer does not speak HTTP" if isinstance(error, http.client.HTTPException) else type(error).__name__
