"""The authority's files and what they sign, as ``poolwarden-collector enrolment`` makes, renews and replaces them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from poolwarden_collector.shell.config.config import Tls
from poolwarden_collector.shell.doctor import enrolment as doctor
from poolwarden_collector.shell.doctor import machine
from poolwarden_collector.shell.doctor.check import FAULT, OK
from poolwarden_collector.shell.enrolment import authority_files
from poolwarden_collector.shell.enrolment.authority import GRACE, LIFE, Authority, CannotSign, fingerprint
from poolwarden_collector.shell.main import main

from .rig import HOSTS, POOL

Call = Callable[..., Result]
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """``poolwarden-collector enrolment COMMAND DIR ...``"""

    def run(command: str, *more: object, group: str = "enrolment") -> Result:
        return CliRunner().invoke(main, [group, command, str(tmp_path / "ca"), *map(str, more)])

    assert run("init", "127.0.0.1", "--name", "watch").exit_code == 0
    return run


def tls(folder: Path) -> Tls:
    own = folder / "ca/collector"
    return Tls(folder / "ca/ca.pem", own / "cert.pem", own / "key.pem")


def authority(folder: Path) -> Authority:
    return Authority(folder / "ca", folder / "ca/ca.pem")


def is_whole(folder: Path) -> bool:
    return {check.level for check in machine.certificates(tls(folder))} == {OK}


def test_what_is_made_fits_and_is_told(call: Call, tmp_path: Path) -> None:
    assert is_whole(tmp_path)
    own = x509.load_pem_x509_certificate(tls(tmp_path).cert.read_bytes())
    assert datetime.now(UTC) - own.not_valid_before_utc > GRACE  # for a host whose clock is behind
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ca").rglob("*.pem")} == {0o600}
    print_of_root = fingerprint((tmp_path / "ca/ca.pem").read_bytes())
    assert call("fingerprint").output == f"fingerprint: {print_of_root}\n"
    again = call("init", "127.0.0.1")
    assert again.exit_code == 1 and again.output.startswith("poolwarden-collector: ") and again.output.count("\n") == 1
    nowhere = CliRunner().invoke(main, ["enrolment", "renew", str(tmp_path / "nowhere")])
    assert nowhere.exit_code == 1 and "Traceback" not in nowhere.output


def test_a_hosts_certificate_has_one_name_and_outlives_its_promise(call: Call, tmp_path: Path) -> None:
    made = authority(tmp_path).sign(KEY, POOL, HOSTS[0])
    leaf, above = x509.load_pem_x509_certificates(made.pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"poolwarden://pool/{POOL}/host/{HOSTS[0]}")]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    promised = datetime.fromtimestamp(made.expires_ms / 1000, UTC)
    assert abs(leaf.not_valid_after_utc - promised - GRACE) < timedelta(seconds=2)
    assert datetime.now(UTC) - leaf.not_valid_before_utc > GRACE
    leaf.verify_directly_issued_by(above)
    # A clock that was set back by a year makes no certificate that ends a year earlier.
    ahead = datetime.now(UTC) + timedelta(days=365)
    later = authority(tmp_path).sign(KEY, POOL, HOSTS[0], since_ms=round(ahead.timestamp() * 1000))
    assert later.expires_ms - made.expires_ms > 364 * 86_400_000


def test_the_root_may_be_away(call: Call, tmp_path: Path) -> None:
    """Without its key the collector's certificate alone is renewed, and operators' are made all the same."""
    drawer = tmp_path / "drawer.pem"
    shutil.move(tmp_path / "ca/ca-key.pem", drawer)
    before = [(tmp_path / "ca" / name).read_bytes() for name in ("intermediate.pem", "collector/cert.pem")]
    assert "is not: the root's key is not here" in call("renew").output
    after = [(tmp_path / "ca" / name).read_bytes() for name in ("intermediate.pem", "collector/cert.pem")]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert call("renew", "--root-key", drawer).exit_code == 0 and is_whole(tmp_path)
    assert (tmp_path / "ca/intermediate.pem").read_bytes() != before[0]
    assert CliRunner().invoke(main, ["issue-operator", str(tmp_path / "ca"), "anna"]).exit_code == 0
    chain = x509.load_pem_x509_certificates((tmp_path / "ca/operator-anna/cert.pem").read_bytes())
    assert machine._is_of(chain, x509.load_pem_x509_certificates((tmp_path / "ca/ca.pem").read_bytes()))
    wrong = call("renew", "--root-key", tmp_path / "ca/intermediate-key.pem")
    assert wrong.exit_code == 1 and "is not the key of" in wrong.output


@pytest.mark.slow
def test_another_root_in_three_steps(call: Call, tmp_path: Path) -> None:
    first = call("fingerprint").output
    assert call("use-new-root").exit_code == 1
    assert call("new-root").exit_code == 0 and call("fingerprint").output == first and is_whole(tmp_path)
    assert call("new-root").exit_code == 1 and call("drop-old-root").exit_code == 1
    assert "wait" in call("use-new-root").output
    host = authority(tmp_path).sign(KEY, POOL, HOSTS[0])
    assert call("use-new-root", "--now").exit_code == 0 and call("fingerprint").output != first and is_whole(tmp_path)
    roots = x509.load_pem_x509_certificates((tmp_path / "ca/ca.pem").read_bytes())
    assert len(roots) == 2 and machine._is_of(x509.load_pem_x509_certificates(host.pem.encode()), roots)
    assert call("drop-old-root").output == "1 former root dropped\n" and is_whole(tmp_path)
    assert not machine._is_of(x509.load_pem_x509_certificates(host.pem.encode()), roots[:1])
    assert {path.name for path in (tmp_path / "ca").iterdir()} == {
        "ca.pem", "ca-key.pem", "intermediate.pem", "intermediate-key.pem", "collector",
    }  # fmt: skip


@pytest.mark.parametrize("why", ["gone", "of another", "no PEM", "ended"])
def test_what_cannot_sign_says_why(call: Call, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signs, file = authority(tmp_path), tmp_path / "ca/intermediate-key.pem"
    assert signs.trouble() == "" and doctor.intermediate(signs).level == OK
    if why == "gone":
        file.unlink()
    elif why == "ended":  # it signs nothing that would outlive it
        monkeypatch.setattr(authority_files, "_SIGNS_FOR", timedelta(hours=-1))
        assert call("renew").exit_code == 0
        found = x509.load_pem_x509_certificate((tmp_path / "ca/intermediate.pem").read_bytes())
        assert found.not_valid_after_utc - datetime.now(UTC) > LIFE + GRACE - timedelta(hours=2)
    else:
        file.write_bytes((tmp_path / "ca/ca-key.pem").read_bytes() if why == "of another" else b"-----BEGIN")
    with pytest.raises(CannotSign):
        signs.sign(KEY, POOL, HOSTS[0])
    assert signs.trouble() and "\n" not in signs.trouble()
    assert doctor.intermediate(signs).level == FAULT
