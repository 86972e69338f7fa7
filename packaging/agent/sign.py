"""Signs the agent's packages with the builder's GPG key: `make rpm-sign KEY=KEYID` or `sign.py KEYID FILE...`.

Rules
-----
* The key is the builder's own, made once and kept off every collector: docs/enrolment.md says how. It is never in the
  repository, and nothing here makes one.
* It has to be RSA: dom0's rpm 4.11 verifies no other (rpm: lib/digest_nss.c of that version has RSA and DSA).
* The signature covers the header, which holds the payload's digest; it changes no file of the package. A package that
  has one is signed anew.
* Each is checked by `rpm -K` against the very key before it counts as signed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

RSA = "1"  # RFC 4880, 9.1


def fail(text: str) -> NoReturn:
    print(f"poolwarden: {text}", file=sys.stderr)
    sys.exit(1)


def main() -> None:
    """Sign the given packages."""
    parser = argparse.ArgumentParser(description="Signs the agent's packages.")
    parser.add_argument("key", help="id or fingerprint of the builder's key, in GNUPGHOME or ~/.gnupg")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    given = parser.parse_args()
    for path in given.files:
        sign(path, given.key)
        print(path)


def sign(path: Path, key: str) -> None:
    """Sign one package in its place, and verify it."""
    for program in ("gpg", "rpmsign"):
        if shutil.which(program) is None:
            fail(f"{program} is not here; install it (Debian: apt-get install rpm gnupg)")
    check_key(key)
    gpg = shutil.which("gpg")
    words = ["rpmsign", "--addsign"]
    for name, value in {"_gpg_name": key, "_gpg_digest_algo": "sha256", "__gpg": gpg}.items():
        words += ["--define", f"{name} {value}"]
    done = subprocess.run([*words, path], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"{path.name} is not signed: {_last(done)}")
    verify(path, key)


def check_key(key: str) -> None:
    """Is it there, and one that dom0 can verify?"""
    done = subprocess.run(
        ["gpg", "--batch", "--with-colons", "--list-secret-keys", key], capture_output=True, text=True, check=False
    )
    fields = [line.split(":") for line in done.stdout.splitlines() if line.startswith("sec:")]
    if done.returncode or not fields:
        fail(f"gpg has no secret key {key} (GNUPGHOME is {os.environ.get('GNUPGHOME') or '~/.gnupg'})")
    if fields[0][3] != RSA:
        fail(f"key {key} is not RSA; dom0's rpm 4.11 would not verify it: docs/enrolment.md says how one is made")


def verify(path: Path, key: str) -> None:
    """By rpm, with a database that knows this key alone."""
    public = subprocess.run(["gpg", "--batch", "--armor", "--export", key], capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder, "key.asc")
        exported.write_bytes(public)
        rpm = ["rpm", "--dbpath", f"{folder}/db"]
        subprocess.run([*rpm, "--import", exported], capture_output=True, check=True)
        done = subprocess.run([*rpm, "-Kv", path], capture_output=True, text=True, check=False)
        if done.returncode or "Signature, key ID" not in done.stdout:
            fail(f"{path.name} does not verify: {_last(done)}")


def _last(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"exit status {done.returncode}"


if __name__ == "__main__":
    main()
