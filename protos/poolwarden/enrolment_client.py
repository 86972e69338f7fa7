"""The asking side of enrolment: HTTPS to the collector's enrolment address, by the standard library alone.

Rules
-----
* Nothing is believed before the authority is: its certificate is fetched without any check, and taken only if the
  SHA-256 of its DER is the fingerprint that the caller was given. Every later connection is verified with that one
  certificate, and has to bear the name ``collector``.
* No proxy is used and no redirect followed: a token goes to the address that was given, and nowhere else.
* Answers are bounded. What a server says is cut before it is shown.

The agent (``poolwarden-agent enrol``) and the operator's commands (``poolwarden pool``) both use it: it lies in the one
package that both ship, and is written for Python 3.6.
"""

import hashlib
import http.client
import json
import re
import socket
import ssl
from typing import Any, Dict, Optional, Tuple

NAME = "collector"
LIMIT_S = 15.0  # of one wait on the socket
MOST_BYTES = 256 * 1024
MOST_SAID = 400
_FINGERPRINT = re.compile("[0-9a-f]{64}\\Z")
_PEM = re.compile("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----")


class EnrolmentError(Exception):
    """It did not come about; a sentence and what to do. ``word`` is the server's own name for it, empty for ours."""

    def __init__(self, text: str, next_step: str = "", word: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.next_step = next_step
        self.word = word


def fingerprint(text: str) -> str:
    """64 hex digits in lower case, from how people copy them. :raises EnrolmentError: it is something else."""
    found = text.strip().lower().replace(":", "").replace(" ", "")
    found = found[len("sha256") :] if found.startswith("sha256") else found
    if not _FINGERPRINT.match(found):
        raise EnrolmentError(
            "%r is no fingerprint of the authority: expected 64 hex digits" % text[:80],
            "it is printed with each token: poolwarden token create",
        )
    return found


def endpoint(text: str) -> Tuple[str, int]:
    """HOST:PORT. :raises EnrolmentError: it is something else."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise EnrolmentError("%r is no address: expected HOST:PORT" % text[:80], "e.g. 192.0.2.5:7444")
    return host.strip("[]"), int(port)


class _Connection(http.client.HTTPSConnection):
    """As the library's, but verified for the collector's name whatever address was dialled."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, limit_s: float) -> None:
        super().__init__(host, port, timeout=limit_s, context=context)
        self._ours = context
        self._limit_s = limit_s

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self._limit_s)
        try:
            self.sock = self._ours.wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise


class Door:
    """The enrolment address of one collector, of which the authority has been compared.

    :raises EnrolmentError: nobody answers there, or its authority is another one.
    """

    def __init__(self, address: str, wanted: str, limit_s: float = LIMIT_S) -> None:
        self.address = address
        self._at = endpoint(address)
        self._limit_s = limit_s
        self.fingerprint = fingerprint(wanted)
        self._context = _unverified()
        self.authority = self._compared()  # PEM
        self._context = _verified(self.authority)

    def _compared(self) -> str:
        status, said = self.ask("GET", "/v1/ca")
        found = _PEM.search(said.decode("ascii", "replace"))
        if status != 200 or found is None:
            raise EnrolmentError(
                "%s answers, but with no authority's certificate (HTTP %d)" % (self.address, status),
                "is it the collector's enrolment address ([enrolment] listen), and not that of its agents?",
            )
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.group(0))).hexdigest()
        if digest != self.fingerprint:
            raise EnrolmentError(
                "the authority at %s has the fingerprint %s, not the one given; nothing was sent to it"
                % (self.address, digest),
                "compare with what poolwarden token create prints; if they differ, somebody is in between",
            )
        return found.group(0) + "\n"

    def ask(self, method: str, path: str, body: Optional[Dict[str, Any]] = None, most: int = MOST_BYTES) -> Any:
        """Status and the answer's bytes, at most ``most``. :raises EnrolmentError: there is no answer."""
        connection = _Connection(self._at[0], self._at[1], self._context, self._limit_s)
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, {"Content-Type": "application/json"} if sent else {})
            answer = connection.getresponse()
            said = answer.read(most + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unanswered(self.address, error) from None
        finally:
            connection.close()
        if len(said) > most:
            raise EnrolmentError("%s answers with more than %d bytes" % (self.address, most))
        return answer.status, said

    def json(self, method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Tuple[int, Any]:
        """Status (200 or 202) and the answer. :raises EnrolmentError: it refuses, or the answer is none."""
        status, said = self.ask(method, path, body)
        try:
            answer = json.loads(said.decode("utf-8"))
        except ValueError:
            answer = None
        if status in (200, 202) and isinstance(answer, (dict, list)):
            return status, answer
        refusal = answer if isinstance(answer, dict) else {}
        text = plain(refusal.get("text")) or "%s answers HTTP %d without a reason" % (self.address, status)
        raise EnrolmentError(text, plain(refusal.get("next_step")), plain(refusal.get("error")))


def plain(value: Any) -> str:
    """What a server says, as one line that can do nothing to a terminal; empty if it is no text."""
    text = " ".join(value.split())[:MOST_SAID] if isinstance(value, str) else ""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _verified(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    context.load_verify_locations(cadata=pem)
    return context


def _unanswered(address: str, error: Exception) -> EnrolmentError:
    words = str(error)
    if isinstance(error, ssl.CertificateError) or "CERTIFICATE_VERIFY_FAILED" in words:
        return EnrolmentError(
            "the certificate of %s is not of that authority, not for the name %s, or not valid today (%s)"
            % (address, NAME, plain(words)),
            "compare the clocks of this machine and of the collector",
        )
    if isinstance(error, ssl.SSLError):
        return EnrolmentError(
            "no TLS with %s: %s" % (address, plain(words)), "is it the collector's enrolment address?"
        )
    why = plain(getattr(error, "strerror", "") or words) or type(error).__name__
    return EnrolmentError(
        "%s cannot be reached: %s" % (address, why),
        "is the collector up, [enrolment] listen set, and the port open from here?",
    )
