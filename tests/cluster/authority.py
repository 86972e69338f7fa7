"""An authority for tests: certificates that are good at both ends, as etcd's own connections to itself need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def make(folder: Path) -> tuple[Path, Path, Path]:
    """An authority with one certificate for 127.0.0.1: the files of both, and the certificate's key."""
    folder.mkdir(parents=True, exist_ok=True)
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a test")])
    authority = _builder(issuer, issuer, root.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = _builder(subject, issuer, leaf.public_key())
    certificate = certificate.add_extension(both, critical=False).add_extension(here, critical=False)
    files = (folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    files[0].write_bytes(authority.sign(root, hashes.SHA256()).public_bytes(pem))
    files[1].write_bytes(certificate.sign(root, hashes.SHA256()).public_bytes(pem))
    plain = serialization.NoEncryption()
    files[2].write_bytes(leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
