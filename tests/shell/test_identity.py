"""What a certificate says about whose it is: exactly one Poolwarden URI of a host, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from poolwarden_collector.shell.enrolment.identity import identity_of

from .rig import HOSTS, POOL

URI = x509.UniformResourceIdentifier
KEY = ec.generate_private_key(ec.SECP256R1())
OF_POOL, OF_HOST = URI(f"poolwarden://pool/{POOL}/host/{HOSTS[0]}"), URI(f"poolwarden://host/{HOSTS[0]}")


def certificate(names: list[x509.GeneralName]) -> bytes:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(0xAB12).not_valid_before(datetime.now(UTC))
    builder = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "names",
    [
        [],
        [URI("poolwarden://collector/x")],
        [URI("poolwarden://operator/anna")],
        [URI(f"poolwarden://host/{host}") for host in HOSTS[:2]],
        [OF_POOL, OF_HOST],
        [OF_HOST, URI("poolwarden://operator/anna")],
        [x509.DNSName(f"poolwarden://host/{HOSTS[0]}")],
        [URI("poolwarden://host/")],
        [URI("poolwarden://host/nobody")],
        [URI(f"poolwarden://host/{HOSTS[0].upper()}")],
        [URI(f"poolwarden://host/{HOSTS[0]}/")],
        [URI(f"poolwarden://pool//host/{HOSTS[0]}")],
        [URI(f"poolwarden://pool/{POOL}/host/{HOSTS[0]}/x")],
        [URI(f"poolwarden://host/{POOL}/pool/{HOSTS[0]}")],
        [URI(f"https://pool/{POOL}/host/{HOSTS[0]}")],
    ],
    ids=repr,
)
def test_anything_but_one_host_names_nobody(names: list[x509.GeneralName]) -> None:
    assert identity_of({"x509_pem_cert": [certificate(names)]}) is None


def test_a_host_with_and_without_its_pool() -> None:
    with_pool, without = (identity_of({"x509_pem_cert": [certificate([uri])]}) for uri in (OF_POOL, OF_HOST))
    assert with_pool is not None and without is not None
    assert (with_pool.host, with_pool.pool, with_pool.serial) == (HOSTS[0], POOL, "ab12")
    assert (without.host, without.pool, without.key) == (HOSTS[0], "", with_pool.key)


@pytest.mark.parametrize("context", [{}, {"x509_pem_cert": [b""]}, {"x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"]}])
def test_no_certificate_names_nobody(context: dict[str, list[bytes]]) -> None:
    assert identity_of(context) is None
