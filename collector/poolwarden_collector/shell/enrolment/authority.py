"""The half of the authority that is online: an intermediate certificate that signs those of hosts.

Rules
-----
* The files are read again whenever they have changed, so a renewed intermediate is used without a restart. What cannot
  be read, or has expired, signs nothing (``CannotSign`` says why); nothing else depends on it.
* A host's certificate has one name, the URI that the caller gives (RFC 5280, 4.2.1.6), may authenticate a client and
  nothing else, and is of no authority.
* Theory of the times: ``LIFE`` is what is promised, shown and renewed by. TLS on either side would refuse a host by the
  wall clock alone, so the certificate itself reaches ``GRACE`` further, and as far back as the intermediate: neither a
  collector that is away nor a clock that is wrong silences anybody. For the same reason the intermediate signs nothing
  in its last ``LIFE`` + ``GRACE``: it outlives whatever it has signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.config.certificates import (
    CA_KEY,
    INTERMEDIATE,
    INTERMEDIATE_KEY,
    key_usage,
    load_signer,
)
from poolwarden_collector.shell.config.enrolment import ROOTS
from poolwarden_collector.shell.enrolment.identity import pool_host_uri, serial_of

LIFE, GRACE = timedelta(hours=72), timedelta(days=30)
RENEW_AFTER_S = 24 * 3600  # a third of LIFE: two days of trying before the promise ends


class CannotSign(Exception):
    """The authority signs nothing now; one sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate that was made: PEM with its chain, and times in wall ms. ``expires_ms``: its promised end."""

    serial: str
    pem: str
    issued_ms: int
    expires_ms: int


_Signer = tuple[x509.Certificate, EllipticCurvePrivateKey]


class Authority:
    """Signs with what lies in ``directory``; ``trusted``: [tls] ca. Its methods read files: call them in a thread."""

    def __init__(self, directory: Path, trusted: Path) -> None:
        self._directory = directory
        self.root_key = directory / CA_KEY  # it needs none, and is better away
        self._trusted = trusted
        self._read: tuple[tuple[int, ...], _Signer] | None = None

    def sign(self, key: EllipticCurvePublicKey, pool: PoolId, host: HostId, since_ms: int = 0) -> Signed:
        """A host's certificate. Raises CannotSign.

        ``since_ms``: when the last one was made; a clock that was set back makes none that ends earlier for it.
        """
        (issuer, private), now = self._signer(), datetime.now(UTC)
        begins = max(now, datetime.fromtimestamp(since_ms / 1000, UTC))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"host {host}"[:64])])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(issuer.not_valid_before_utc)
            .not_valid_after(min(begins + LIFE + GRACE, issuer.not_valid_after_utc))
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(pool_host_uri(pool, host))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .sign(private, hashes.SHA256())
        )
        chain = _pem(made) + _pem(issuer)
        return Signed(serial_of(made), chain, _ms(begins), _ms(begins + LIFE))

    def trouble(self) -> str:
        """Why it can sign nothing now; empty if it can."""
        try:
            self._signer()
        except CannotSign as error:
            return str(error)
        return ""

    def roots(self) -> str:
        """Every root that hosts shall trust, PEM, each once: this authority's, then others that [tls] ca has.

        Raises CannotSign.
        """
        try:
            found = [*_certificates(self._directory / ROOTS), *_certificates(self._trusted)]
        except (OSError, ValueError) as error:
            raise CannotSign(f"the roots cannot be read: {error}") from error
        return "".join(dict.fromkeys(map(_pem, found)))

    def root(self) -> str:
        """The root in use, PEM. Raises CannotSign."""
        try:
            return _pem(_certificates(self._directory / ROOTS)[0])
        except (OSError, ValueError) as error:
            raise CannotSign(f"the root cannot be read: {error}") from error

    def signs_until(self) -> datetime:
        """When the intermediate signs for the last time. Raises CannotSign."""
        return self._signer()[0].not_valid_after_utc - LIFE - GRACE

    def _signer(self) -> _Signer:
        files = (self._directory / INTERMEDIATE, self._directory / INTERMEDIATE_KEY)
        try:
            stamps = tuple(path.stat().st_mtime_ns for path in files)
            if self._read is None or self._read[0] != stamps:
                self._read = None
                self._read = (stamps, load_signer(*files))
        except (OSError, ValueError, TypeError) as error:
            raise CannotSign(f"its intermediate certificate cannot be used: {_plain(error)}") from error
        until = self._read[1][0].not_valid_after_utc - LIFE - GRACE
        if datetime.now(UTC) > until:
            raise CannotSign(f"its intermediate certificate has signed until {until:%Y-%m-%d} and signs no more")
        return self._read[1]


def fingerprint(pem: str | bytes) -> str:
    """SHA-256 of the DER of the first certificate in it, hex."""
    data = pem.encode() if isinstance(pem, str) else pem
    der = x509.load_pem_x509_certificate(data).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def fingerprints(pem: str) -> tuple[str, ...]:
    """Of every certificate in it, in its order."""
    return tuple(fingerprint(_pem(each)) for each in x509.load_pem_x509_certificates(pem.encode()))


def _certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _plain(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
