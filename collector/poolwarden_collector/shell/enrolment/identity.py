"""Whose certificate a stream has, and what may be certified: the two sides of a host's key.

Rules
-----
* A host's certificate carries exactly one Poolwarden URI: ``poolwarden://pool/P/host/H``, or ``poolwarden://host/H`` of
  those who make certificates by hand. One with another beside it is nobody's, whatever that other one says.
* safety: URIs alone are read (RFC 5280, 4.2.1.6); a DNS name or a subject with the same text names nobody.
* Of a request (PKCS #10, RFC 2986) only the key is taken, P-256 and nothing else, and only if the request is signed by
  it. Names and extensions in it are ignored.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.config.certificates import URI_SCHEME, host_uri

CSR_LIMIT = 8 * 1024  # characters; one of P-256 has some 500


class BadRequest(Exception):
    """What was sent cannot be certified; one sentence."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a stream speaks for by its certificate. ``pool``: empty where the certificate names none.

    ``serial`` and ``key``: as in the ledger.
    """

    host: HostId
    pool: PoolId
    serial: str
    key: str
    public: ec.EllipticCurvePublicKey

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Did this key sign it (ECDSA with SHA-256, DER)?"""
        try:
            self.public.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def pool_host_uri(pool: PoolId, host: HostId) -> str:
    """The identity of a host in its pool."""
    return f"{URI_SCHEME}pool/{pool}/host/{host}"


def identity_of(auth_context: dict[str, Any]) -> Identity | None:
    """Whom the peer's certificate names; None: nobody, or more than one."""
    pem = next(iter(auth_context.get("x509_pem_cert", ())), b"")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        public = certificate.public_key()
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm):
        return None
    ours = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(URI_SCHEME)]
    if len(ours) != 1 or not isinstance(public, ec.EllipticCurvePublicKey):
        return None
    pool, host = _named(ours[0])
    return Identity(host, pool, serial_of(certificate), key_of(public), public) if host else None


def serial_of(certificate: x509.Certificate) -> str:
    """Its serial number, as the ledger has it."""
    return f"{certificate.serial_number:x}"


def key_of(public: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, hex."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public.public_bytes(*form)).hexdigest()


def read_request(pem: str) -> ec.EllipticCurvePublicKey:
    """The key that a request asks to certify. Raises BadRequest."""
    if len(pem) > CSR_LIMIT:
        raise BadRequest(f"the request has {len(pem)} characters, at most {CSR_LIMIT} are read")
    try:
        asked = x509.load_pem_x509_csr(pem.encode())
        public = asked.public_key()
        own = asked.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, UnicodeError):
        raise BadRequest("this is no certificate request (PKCS #10 in PEM)") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise BadRequest("its key is not one of P-256, and no other is certified")
    if not own:
        raise BadRequest("it is not signed by the key that it asks for")
    return public


def is_uuid(text: str) -> bool:
    """Is it a UUID in its usual form?"""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _named(uri: str) -> tuple[PoolId, HostId]:
    """Pool and host that a URI names; both empty if it is not a host's."""
    words = uri.removeprefix(URI_SCHEME).split("/")
    if len(words) == 4 and is_uuid(words[1]) and is_uuid(words[3]) and uri == pool_host_uri(words[1], words[3]):
        return words[1], words[3]
    if len(words) == 2 and is_uuid(words[1]) and uri == host_uri(words[1]):
        return "", words[1]
    return "", ""
