"""Keys, requests and signatures by dom0's own ``openssl`` program: Python 3.6's library has none of them.

A run is a child of some milliseconds, at an enrolment and about once a day, and never otherwise. The subcommands and
options are those of OpenSSL 1.0.2 (XenServer 7, XCP-ng 8.2) and of every later one. A key is handed over by a pipe or
by its file's name, never on a command line.
"""

import hashlib
import os
import re
import subprocess
from typing import List

LIMIT_S = 20.0
_CONFIG = b"[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN=poolwarden host\n"
_URI = re.compile("URI:(poolwarden://[A-Za-z0-9/._-]{1,200})")
# RANDFILE: 1.0.2 writes one, and the unit's ProtectHome leaves it no other place.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "RANDFILE": "/dev/null", "HOME": "/"}


class OpensslError(Exception):
    """openssl did not do it; the text says what and why."""


def new_key() -> bytes:
    """A new P-256 key, PEM."""
    return _run("make a key", ["ecparam", "-name", "prime256v1", "-genkey", "-noout"])


def request(key_path: str) -> bytes:
    """A PKCS #10 request for the key in this file, PEM. Its name says nothing: the collector ignores it."""
    words = ["req", "-new", "-sha256", "-key", key_path, "-config", "/dev/stdin"]
    return _run("make a certificate request", words, _CONFIG)


def signature(key_path: str, data: bytes) -> bytes:
    """ECDSA with SHA-256 over the data, DER."""
    return _run("sign with this host's key", ["dgst", "-sha256", "-sign", key_path], data)


def key_digest(key_path: str) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), lower-case hex."""
    words = ["pkey", "-in", key_path, "-pubout", "-outform", "DER"]
    return hashlib.sha256(_run("read this host's key", words)).hexdigest()


class Shown(object):
    """What a person wants to know of a certificate."""

    def __init__(self, serial: str, uris: List[str]) -> None:
        self.serial = serial  # lower-case hex
        self.uris = uris


def show(certificate_path: str) -> Shown:
    said = _run("read a certificate", ["x509", "-in", certificate_path, "-noout", "-serial", "-text"])
    text = said.decode("utf-8", "replace")
    found = re.search("^serial=([0-9A-Fa-f]+)", text, re.MULTILINE)
    return Shown(found.group(1).lower() if found else "", _URI.findall(text))


def _run(what: str, words: List[str], given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            ["openssl"] + words,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(_ENVIRONMENT),
            timeout=LIMIT_S,
            cwd="/",
        )
    except FileNotFoundError:
        raise OpensslError("cannot %s: the program openssl is not here" % what) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OpensslError("cannot %s: %s" % (what, error)) from None
    if done.returncode or not done.stdout:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OpensslError("cannot %s: openssl: %s" % (what, (lines or ["no reason given"])[-1][:200]))
    return done.stdout


def there() -> bool:
    """Is the program here?"""
    return any(os.access(os.path.join(path, "openssl"), os.X_OK) for path in _ENVIRONMENT["PATH"].split(":"))
