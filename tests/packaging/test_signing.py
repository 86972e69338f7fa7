"""The agent's package signed with GPG, in a key ring of the test's own, and verified as an administrator does."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.packaging.conftest import ROOT
from tests.packaging.test_agent_installed import stand_in

pytestmark = [pytest.mark.needs("rpmbuild", "gpg")]
SIGN = ROOT / "packaging/agent/sign.py"


class Ring:
    """A key ring in a directory with a short name: gpg-agent's sockets are there."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "GNUPGHOME": str(folder)}

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = list(map(str, words))
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def key(self, name: str, kind: str) -> str:
        """A new key without a passphrase."""
        made = self.run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", name, kind, "sign", "never")
        assert made.returncode == 0, made.stderr
        return name

    def sign(self, key: str, package: Path) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, SIGN, key, package)


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    folder = Path(tempfile.mkdtemp(prefix="pwg"))
    made = Ring(folder)
    yield made
    made.run("gpgconf", "--kill", "all")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(tmp_path_factory.mktemp("unsigned"))  # what is in a package makes no difference to its signature


def checked(ring: Ring, package: Path, database: Path) -> tuple[int, str]:
    """``rpm -K`` with what was imported into that database."""
    done = ring.run("rpm", "--dbpath", database, "-Kv", package)
    return done.returncode, done.stdout


def test_a_signed_package_verifies_with_the_published_key_alone(ring: Ring, unsigned: Path, tmp_path: Path) -> None:
    key, package = ring.key("builder@example.com", "rsa3072"), Path(shutil.copy(unsigned, tmp_path))
    done = ring.sign(key, package)
    assert done.returncode == 0 and done.stdout.strip() == str(package), done.stderr
    status, said = checked(ring, package, tmp_path / "stranger")
    assert status != 0 and "NOKEY" in said, "it is not signed, or anybody's key will do"
    public = tmp_path / "RPM-GPG-KEY-poolwarden"
    public.write_text(ring.run("gpg", "--armor", "--export", key).stdout)
    assert ring.run("rpm", "--dbpath", tmp_path / "db", "--import", public).returncode == 0
    status, said = checked(ring, package, tmp_path / "db")
    assert status == 0 and "RSA/SHA256 Signature" in said and "NOKEY" not in said
    whole = package.read_bytes()
    package.write_bytes(whole[:-100] + b"x" + whole[-99:])
    status, said = checked(ring, package, tmp_path / "db")
    assert status != 0 and "BAD" in said


def test_a_key_that_dom0_cannot_verify_is_refused(ring: Ring, unsigned: Path, tmp_path: Path) -> None:
    key, package = ring.key("modern@example.com", "ed25519"), Path(shutil.copy(unsigned, tmp_path))
    done = ring.sign(key, package)
    assert done.returncode == 1 and "is not RSA; dom0's rpm 4.11 would not verify it" in done.stderr
    assert package.read_bytes() == unsigned.read_bytes()


def test_a_key_that_is_not_there_is_one_line(ring: Ring, unsigned: Path) -> None:
    done = ring.sign("nobody@example.com", unsigned)
    assert done.returncode == 1 and "gpg has no secret key nobody@example.com" in done.stderr
    assert done.stderr.count("\n") == 1
