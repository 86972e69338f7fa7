"""Makes, renews and replaces the files of an authority; ``poolwarden-collector enrolment`` is its command line.

    ca.pem                              every root that hosts shall trust, the one in use first
    ca-key.pem                          the key of that root: for these commands alone, so it may be kept elsewhere
    intermediate.pem, intermediate-key.pem
    collector/cert.pem, key.pem         the collector's own certificate, for [tls]
    new-ca.pem, new-ca-key.pem          a root that is to come: every host hears of it with its next certificate

Rules
-----
* Every key is P-256, 0600, and written whole before it has its name.
* A root is replaced in three steps, with both trusted on either side in between: ``begin_rotation``, then, once every
  host has a certificate from after that, ``switch_root``, and ``drop_old_roots`` when all have one of the new root.
* What is made is valid from a month ago: a host or a collector whose clock is behind takes it all the same.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from poolwarden_collector.shell.config import certificates
from poolwarden_collector.shell.config.certificates import CA_CERT, CA_KEY, INTERMEDIATE, INTERMEDIATE_KEY, CaError
from poolwarden_collector.shell.enrolment.authority import GRACE, LIFE

COLLECTOR = "collector"
NEW_CERT, NEW_KEY = "new-ca.pem", "new-ca-key.pem"
_OLD_KEY = "old-ca-key.pem"
_ROOT_LIFE = timedelta(days=3650)
_SIGNS_FOR = timedelta(days=730)
_BACK = GRACE + timedelta(hours=1)

_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def init(directory: Path, name: str, addresses: tuple[str, ...]) -> None:
    """A new authority, and the certificate of the collector ``name``. Raises CaError if one is there."""
    if (directory / CA_CERT).exists() or (directory / CA_KEY).exists():
        raise CaError(f"{directory}: there is an authority already; use another directory")
    certificates.make_directory(directory)
    root = _new_root()
    certificates.write_key(directory / CA_KEY, root[1])
    _write(directory / CA_CERT, [root[0]])
    _renew_intermediate(directory, root)
    certificates.issue_collector(directory, name, addresses, directory / COLLECTOR)


def renew(directory: Path, root_key: Path | None = None) -> bool:
    """A new intermediate, where the root's key is at hand, and a new collector's certificate. Was the key at hand?

    Raises CaError.
    """
    key = root_key or directory / CA_KEY
    if at_hand := key.exists():
        _renew_intermediate(directory, _pair(directory / CA_CERT, key))
    elif root_key is not None:
        raise CaError(f"{root_key}: there is no such file")
    _renew_collector(directory)
    return at_hand


def begin_rotation(directory: Path) -> None:
    """Make the next root and have it trusted beside the present one. Raises CaError."""
    if (directory / NEW_CERT).exists():
        raise CaError(f"{directory / NEW_CERT}: the next root has been made already")
    roots, root = _roots(directory), _new_root()
    certificates.write_key(directory / NEW_KEY, root[1])
    _write(directory / CA_CERT, [*roots, root[0]])
    _write(directory / NEW_CERT, [root[0]])


def switch_root(directory: Path, now: bool = False) -> None:
    """Sign with the next root from now on; the former one stays trusted. ``now``: however new it is. Raises CaError."""
    if not (directory / NEW_CERT).exists():
        raise CaError(f"{directory}: no next root has been made; poolwarden-collector enrolment new-root {directory}")
    root = _pair(directory / NEW_CERT, directory / NEW_KEY)
    known_since = root[0].not_valid_before_utc + _BACK
    if not now and datetime.now(UTC) < known_since + LIFE:
        raise CaError(
            f"{directory / NEW_CERT} is of {known_since:%Y-%m-%d %H:%M} UTC: hosts hear of it with their next "
            f"certificates, within {LIFE.total_seconds() / 3600:.0f} h; wait, or --now"
        )
    _renew_intermediate(directory, root)
    _write(directory / CA_CERT, [root[0], *(each for each in _roots(directory) if each != root[0])])
    _renew_collector(directory)
    with contextlib.suppress(FileNotFoundError):  # the former root's key may be kept elsewhere
        (directory / CA_KEY).replace(directory / _OLD_KEY)
    (directory / NEW_KEY).replace(directory / CA_KEY)
    (directory / NEW_CERT).unlink()


def drop_old_roots(directory: Path) -> int:
    """Trust the root in use alone; how many are dropped. Raises CaError."""
    if (directory / NEW_CERT).exists():
        raise CaError(f"{directory}: the next root is not in use yet; poolwarden-collector enrolment use-new-root DIR")
    roots = _roots(directory)
    _write(directory / CA_CERT, roots[:1])
    (directory / _OLD_KEY).unlink(missing_ok=True)
    return len(roots) - 1


def _new_root() -> _Pair:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = _name("root", now)
    builder = _authority(name, name, key, 1, now - _BACK, now + _ROOT_LIFE)
    return builder.sign(key, hashes.SHA256()), key


def _renew_intermediate(directory: Path, root: _Pair) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    end = min(now + _SIGNS_FOR + LIFE + GRACE, root[0].not_valid_after_utc)
    name = _name("intermediate", now)
    builder = _authority(name, root[0].subject, key, 0, root[0].not_valid_before_utc, end)
    made = builder.sign(root[1], hashes.SHA256())
    certificates.write_key(directory / INTERMEDIATE_KEY, key)
    _write(directory / INTERMEDIATE, [made])


def _name(what: str, now: datetime) -> x509.Name:
    """A name that no other authority has: of two with one name, TLS would hold a certificate against the wrong one."""
    own = f"Poolwarden {what} of {now:%Y-%m-%d}, {secrets.token_hex(8)}"
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, own)])


def _authority(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, depth: int, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
    return builder.add_extension(certificates.key_usage(signs_certificates=True), critical=True)


def _renew_collector(directory: Path) -> None:
    """Another certificate with the names of the one that is there."""
    file = directory / COLLECTOR / certificates.CERT
    try:
        former = x509.load_pem_x509_certificate(file.read_bytes())
        names = former.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uri = next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)))
    except (OSError, ValueError, x509.ExtensionNotFound, StopIteration) as error:
        raise CaError(f"{file}: is no collector's certificate ({error}); issue-collector makes one") from error
    name = uri.removeprefix(certificates.collector_uri(""))
    addresses = tuple(str(each) for each in names.get_values_for_type(x509.IPAddress))
    certificates.issue_collector(directory, name, addresses, directory / COLLECTOR)


def _pair(certificate: Path, key: Path) -> _Pair:
    try:
        return certificates.load_signer(certificate, key)
    except (OSError, ValueError, TypeError) as error:
        raise CaError(f"{certificate.parent}: {error}") from error


def _roots(directory: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates((directory / CA_CERT).read_bytes())
    except (OSError, ValueError) as error:
        raise CaError(f"{directory}: no usable authority ({error})") from error


def _write(path: Path, found: Sequence[x509.Certificate]) -> None:
    data = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in found)
    certificates.write_whole(path, data)
