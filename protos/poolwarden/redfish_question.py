"""Ask a Redfish service which machine it switches: a program of its own, so that a hanging BMC can be cut off.

Reads one JSON object from stdin (``address``, ``port``, ``user``, ``password``, ``verify``, ``base``, ``system``) and
prints ``uuid=...``, ``serial=...`` and ``system=...`` (its path) lines of that one ComputerSystem (DMTF DSP0266; schema
ComputerSystem: UUID, SerialNumber). Without ``system`` it answers only where the service has exactly one. Exit status
3: name or password refused, 4: not reached, 1: anything else, a certificate that is not trusted among it; the reason is
on stderr.

Standard library only; no redirect is followed, because it would carry the password elsewhere.

The agent and the collector both run it: it lies in the one package that both ship, and is written for Python 3.6.
"""

import base64
import http.client
import json
import ssl
import sys
from typing import Any, Dict
from urllib.parse import urlsplit

PASSWORD, UNREACHABLE, OTHER = 3, 4, 1
_TIMEOUT_S = 20.0  # of one wait on the socket; the caller's own limit is the hard one
_MOST_BYTES = 1024 * 1024
_MOST_LETTERS = 500


class Refused(Exception):
    """No answer that can be used; ``code`` is the exit status."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def _get(given: Dict[str, Any], path: str) -> Dict[str, Any]:
    context = ssl.create_default_context()
    if not given["verify"]:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    token = base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode()
    headers = {"Accept": "application/json", "OData-Version": "4.0", "Authorization": f"Basic {token}"}
    link = http.client.HTTPSConnection(given["address"], int(given["port"]), timeout=_TIMEOUT_S, context=context)
    try:
        link.request("GET", path, headers=headers)
        answer = link.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException, ssl.CertificateError) as error:
        untrusted = _untrusted(error)
        if untrusted:
            raise Refused(OTHER, f"its certificate is not trusted: {untrusted}") from error
        raise Refused(UNREACHABLE, f"{given['address']} port {given['port']}: {error}") from error
    finally:
        link.close()
    if answer.status in (401, 403):
        raise Refused(PASSWORD, f"user or password refused (HTTP {answer.status})")
    if answer.status != 200:
        raise Refused(OTHER, f"{path} is answered by HTTP {answer.status}")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise Refused(OTHER, f"{path} is no Redfish resource")
    return found


def _untrusted(error: Exception) -> str:
    """Why its certificate is not trusted; empty: this error says something else.

    Python 3.6 tells it by the reason of an SSLError, or by a CertificateError where the name is another one.
    """
    if isinstance(error, ssl.CertificateError) or getattr(error, "reason", "") == "CERTIFICATE_VERIFY_FAILED":
        return str(getattr(error, "verify_message", "") or error)
    return ""


def _system(given: Dict[str, Any]) -> str:
    """The path of the one system. Raises Refused where it is not one."""
    if given["system"]:
        return str(given["system"])
    systems = _get(given, given["base"]).get("Systems", {}).get("@odata.id", "")
    members = _get(given, systems).get("Members", []) if systems else []
    if len(members) != 1:
        raise Refused(OTHER, f"the BMC has {len(members)} machines and no systems_uri names one")
    return urlsplit(str(members[0]["@odata.id"])).path


def main() -> int:
    given = json.load(sys.stdin)
    try:
        path = _system(given)
        system = _get(given, path)
    except Refused as refused:
        print(_plain(str(refused)), file=sys.stderr)
        return refused.code
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        print(f"it does not answer as a Redfish service: {_plain(str(error))}", file=sys.stderr)
        return OTHER
    for name, key in (("uuid", "UUID"), ("serial", "SerialNumber")):
        value = system.get(key)
        if isinstance(value, str) and value.strip():
            print(f"{name}={_plain(value)}")
    print(f"system={_plain(path)}")
    return 0


def _plain(text: str) -> str:
    """What a BMC has said as part of a line, in the plain letters that every locale prints, and not endless."""
    letters = text[:_MOST_LETTERS].encode("ascii", "replace").decode("ascii")
    return " ".join("".join(one if one.isprintable() or one.isspace() else "?" for one in letters).split())


if __name__ == "__main__":
    sys.exit(main())
