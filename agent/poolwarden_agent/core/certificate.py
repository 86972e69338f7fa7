"""The expiry of an X.509 certificate, by as much DER as that needs (RFC 5280, 4.1). Pure, and bounded by its input.

Why not a library: dom0's Python 3.6 has none that reads a certificate which is not trusted, and the agent needs one
field of it.
"""

import base64
import binascii
import calendar
import re
from typing import Tuple

_PEM = re.compile("-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----([A-Za-z0-9+/=\\s]+)-----END", re.ASCII)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def expires(pem: str) -> int:
    """When the first certificate in the text ends, seconds since 1970. :raises ValueError: it is no certificate."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("it holds no certificate")
    try:
        der = base64.b64decode("".join(found.group(1).split()), validate=True)
    except binascii.Error as error:
        raise ValueError("it holds no certificate: %s" % error) from error
    certificate = _inside(der, 0, _SEQUENCE)
    start, end = _inside(der, certificate[0], _SEQUENCE)  # tbsCertificate
    tag, body, after = _element(der, start)
    at = after if tag == _VERSION else start
    for _ in range(3):  # serial number, signature, issuer
        at = _element(der, at)[2]
    validity = _inside(der, at, _SEQUENCE)
    after_not_before = _element(der, validity[0])[2]
    tag, body, stop = _element(der, after_not_before)
    if stop > end:
        raise ValueError("it is cut off")
    return _time(tag, der[body:stop])


def _element(data: bytes, at: int) -> Tuple[int, int, int]:
    """Tag, begin of the content, end. :raises ValueError: it is not all there."""
    if at < 0 or at + 2 > len(data):
        raise ValueError("it is cut off")
    tag, length, body = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or body + count > len(data):
            raise ValueError("a length that no certificate has")
        length, body = int.from_bytes(data[body : body + count], "big"), body + count
    if body + length > len(data):
        raise ValueError("it is cut off")
    return tag, body, body + length


def _inside(data: bytes, at: int, wanted: int) -> Tuple[int, int]:
    tag, body, end = _element(data, at)
    if tag != wanted:
        raise ValueError("it is not built as a certificate is")
    return body, end


def _time(tag: int, text: bytes) -> int:
    """YYMMDDhhmmssZ before 2050, YYYYMMDDhhmmssZ after it."""
    digits = text[:-1].decode("ascii", "replace")
    if (
        text[-1:] != b"Z"
        or not digits.isdigit()
        or (tag, len(digits)) not in ((_UTC_TIME, 12), (_GENERALIZED_TIME, 14))
    ):
        raise ValueError("an end that is no time")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    parts = [int(digits[:4])] + [int(digits[number : number + 2]) for number in range(4, 14, 2)]
    if not 1 <= parts[1] <= 12 or not 1 <= parts[2] <= 31:
        raise ValueError("an end that is no time")
    return calendar.timegm((parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], 0, 0, 0))
