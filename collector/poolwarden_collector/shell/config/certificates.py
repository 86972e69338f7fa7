"""A small certificate authority: how agents and a collector come to know each other before enrolment exists.

Rules
-----
* One authority per installation, P-256 keys, every key file 0600 and written whole before it has its name.
* A host's certificate carries the URI SAN ``poolwarden://host/<uuid>`` and nothing that could pass for a server's name:
  the agent behind it speaks for that host alone.
* An operator's carries the URI SAN ``poolwarden://operator/<name>`` and is good for the operator's interface alone; the
  name is what the journal says. It is never "poolwarden", which in the journal is the collector itself.
* The collector's carries the DNS SAN ``collector`` (the TLS name that agents expect wherever it is reached), the URI
  SAN ``poolwarden://collector/<name>`` and its addresses.
"""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_CERT, CA_KEY = "ca.pem", "ca-key.pem"
INTERMEDIATE, INTERMEDIATE_KEY = "intermediate.pem", "intermediate-key.pem"  # of an authority that hosts enrol with
CERT, KEY = "cert.pem", "key.pem"
COLLECTOR_DNS = "collector"
URI_SCHEME = "poolwarden://"
OPERATOR_NAME_HINT = "a letter or digit, then up to 63 letters, digits, '.', '_', '-' and '@'; not 'poolwarden'"

_OPERATOR_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_CA_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=825)
_SKEW = timedelta(hours=1)  # a dom0 whose clock is a little behind must not refuse a certificate made just now


class CaError(Exception):
    """An authority that is absent, would be overwritten or cannot be written; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The three files that one party needs."""

    ca: Path
    cert: Path
    key: Path


def host_uri(host_uuid: str) -> str:
    """The identity of a host's agent."""
    return f"{URI_SCHEME}host/{host_uuid}"


def collector_uri(name: str) -> str:
    """The identity of a collector."""
    return f"{URI_SCHEME}collector/{name}"


def operator_uri(name: str) -> str:
    """The identity of an operator."""
    return f"{URI_SCHEME}operator/{name}"


def is_operator_name(name: str) -> bool:
    """Whether the journal can carry this name: one plain word, and not the collector's own."""
    return _OPERATOR_NAME.fullmatch(name) is not None and name.lower() != "poolwarden"


def create_ca(directory: Path) -> None:
    """Make a new authority in ``directory``. Raises CaError if one is there: replacing it locks every agent out."""
    if (directory / CA_KEY).exists():
        raise CaError(f"{directory / CA_KEY}: there is an authority already; use another directory")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Poolwarden CA")])
    now = datetime.now(UTC)
    builder = _builder(name, name, key.public_key(), now - _SKEW, now + _CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=True), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    make_directory(directory)
    write_key(directory / CA_KEY, key)
    write_whole(directory / CA_CERT, certificate.public_bytes(serialization.Encoding.PEM))


def issue_host(ca: Path, host_uuid: str, out: Path) -> Bundle:
    """A certificate for the agent of one host, with its key and the authority's certificate, into ``out``."""
    try:
        canonical = str(uuid.UUID(host_uuid))
    except ValueError:
        raise CaError(f"{host_uuid!r} is no UUID; INSTALLATION_UUID of /etc/xensource-inventory is") from None
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(host_uri(canonical))]
    return _issue(ca, f"host {canonical}", names, [ExtendedKeyUsageOID.CLIENT_AUTH], out)


def issue_operator(ca: Path, name: str, out: Path) -> Bundle:
    """A certificate for one person or program at the operator's interface. Raises CaError if the name will not do."""
    if not is_operator_name(name):
        raise CaError(f"{name!r} is no operator's name; expected {OPERATOR_NAME_HINT}")
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(operator_uri(name))]
    return _issue(ca, f"operator {name}", names, [ExtendedKeyUsageOID.CLIENT_AUTH], out)


def issue_collector(ca: Path, name: str, addresses: tuple[str, ...], out: Path) -> Bundle:
    """The collector's certificate; ``addresses`` are IP literals under which agents or operators may reach it."""
    names: list[x509.GeneralName] = [
        x509.DNSName(COLLECTOR_DNS),
        x509.UniformResourceIdentifier(collector_uri(name)),
        *(x509.IPAddress(_address(text)) for text in addresses),
    ]
    # One of several asks the others in operators' names (operators/on_behalf.py): there it is a client.
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issue(ca, f"collector {name}", names, usages, out)


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise CaError(f"{text!r} is no IP address") from None


def _issue(
    ca: Path, subject: str, names: list[x509.GeneralName], usages: list[x509.ObjectIdentifier], out: Path
) -> Bundle:
    signer, signing_key, roots = _load(ca)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    # As far back as its authority: a host whose clock is behind takes a certificate that was renewed just now.
    begin, end = signer.not_valid_before_utc, min(datetime.now(UTC) + _LEAF_LIFE, signer.not_valid_after_utc)
    builder = _builder(name, signer.subject, key.public_key(), begin, end)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    certificate = builder.sign(signing_key, hashes.SHA256())
    make_directory(out)
    bundle = Bundle(out / CA_CERT, out / CERT, out / KEY)
    write_key(bundle.key, key)
    chain = [certificate] if signer.subject == signer.issuer else [certificate, signer]
    write_whole(bundle.cert, b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    write_whole(bundle.ca, roots)
    return bundle


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(end)


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key may be used for: signatures, and of an authority certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, bytes]:
    """Who signs there, the intermediate if there is one, and every root there (PEM)."""
    has_intermediate = (directory / INTERMEDIATE_KEY).exists()
    cert, key = (INTERMEDIATE, INTERMEDIATE_KEY) if has_intermediate else (CA_CERT, CA_KEY)
    try:
        certificate, private = load_signer(directory / cert, directory / key)
        return certificate, private, (directory / CA_CERT).read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise CaError(
            f"{directory}: no usable authority ({error}); make one: poolwarden-collector init-ca DIR"
        ) from error


def load_signer(certificate: Path, key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and its key. Raises OSError, ValueError or TypeError where they cannot be used or do not fit."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key} is no elliptic-curve key")
    if private.public_key() != found.public_key():
        raise ValueError(f"{key} is not the key of {certificate}")
    return found, private


def make_directory(directory: Path) -> None:
    """Readable by its owner alone, if it is made here. Raises CaError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CaError(f"{directory}: {error.strerror}") from error


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """As ``write_whole``."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_whole(path, key.private_bytes(encoding, form, serialization.NoEncryption()))


def write_whole(path: Path, data: bytes) -> None:
    """Whole or not at all, readable by its owner alone."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CaError(f"{path}: {error.strerror}") from error
